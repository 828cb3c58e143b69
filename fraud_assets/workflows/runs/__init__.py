"""Months that are run: by a command, stopped by a person, or broken off. What a month is made of belongs to `defs`."""
