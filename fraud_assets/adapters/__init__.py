"""The outside world, one file each: database, sources, registry, packaging."""
