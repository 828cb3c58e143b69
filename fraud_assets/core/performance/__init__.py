"""Whether the champion still does what its validation promised, and what is expected where labels are missing."""
