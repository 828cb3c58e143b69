"""One file a revision, named after its number; the order is in each file's `down_revision`."""
