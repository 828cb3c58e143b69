"""Commands that keep a platform going: backups. What they do belongs to `workflows`."""
