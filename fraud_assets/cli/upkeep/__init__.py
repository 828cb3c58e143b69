"""Commands that keep a platform going: the monthly run, backups. What they do belongs to `workflows`."""
