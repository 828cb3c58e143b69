"""Backing up, checking, restoring: whole use cases. How a dump or a folder is written belongs to `adapters/backups`."""
