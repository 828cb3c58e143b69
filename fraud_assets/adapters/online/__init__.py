"""What the service knows of the past, over ADBC alone: a bento has no more of the platform's way to its database."""
