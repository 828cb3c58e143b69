"""Whole use cases, called by assets and commands alike: they return values, and show nothing to people."""
