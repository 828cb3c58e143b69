"""What was known about a transaction, and when. Performance against labels is measured elsewhere."""
