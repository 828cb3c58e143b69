"""Scores transactions with the promoted model."""
