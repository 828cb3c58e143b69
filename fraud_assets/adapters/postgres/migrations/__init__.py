"""The migrations of the platform's own tables, for alembic: a file a revision, forward only.

What the tables are now is declared in `schema.py`, which runs these. A revision that has been released is never
changed: it imports nothing of the platform, so that it does tomorrow what it did when it was written.
"""
