"""Backups on disk and in PostgreSQL: files with digests, dumps, the swap. What belongs together is for workflows."""
