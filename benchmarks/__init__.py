"""The published figures and the side-by-side races, each one command; `reporting.py` is what they share."""
