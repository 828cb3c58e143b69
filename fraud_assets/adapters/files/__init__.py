"""Files of rows, read as a contract says. What values mean belongs to `core/intake`."""
