"""From a file that nobody has described to a contract, and on to a live model."""
