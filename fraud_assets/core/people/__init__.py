"""Persons in the tables: how one who was erased is recognised and renamed, and which months are too old to keep."""
