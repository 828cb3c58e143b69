"""Commands that keep a platform going: its database, backups, months, API keys. What they do belongs to `workflows`."""
