"""Scores that are kept: from the service through a spool on disk into `scored_transactions`, and read back from there.

The service imports all but `stored.py`, which is for assets. What a score's line says belongs to
`core/models/kept_scores.py`.
"""
