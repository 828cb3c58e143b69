"""What models see of a transaction, from what was known before it. How a model encodes it belongs to `models`."""
