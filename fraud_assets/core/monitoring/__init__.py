"""A month's drift report: which windows are compared, all findings together, and the verdict."""
