"""Where it is kept who was erased, and the places outside of the tables of months that name persons."""
