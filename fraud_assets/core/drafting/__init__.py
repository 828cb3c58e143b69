"""A first contract for a file that nobody has described: what is counted, and what it is taken for."""
