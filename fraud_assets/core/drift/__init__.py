"""Whether what comes in has moved, column by column and all together. What follows from it belongs to `monitoring`."""
