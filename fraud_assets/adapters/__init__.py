"""The outside world and nothing else: databases, files, sources, the registry, packaging, engines."""
