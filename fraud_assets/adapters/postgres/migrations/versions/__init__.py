"""One file a revision, named after its number, older ones in a folder; each names in `down_revision` the one before."""
