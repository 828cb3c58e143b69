"""People's rows: erasing one person everywhere, and months that are too old to keep."""
