"""Statistics of rows that are not independent, with their sources. What they mean for fraud is said elsewhere."""
