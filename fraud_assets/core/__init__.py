"""The fraud science: pure functions and frozen dataclasses; no clock, no connection, no unseeded generator."""
