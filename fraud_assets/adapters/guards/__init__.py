"""Lists of entities in the database: what people say of them, and what services read.

In the words and with the packages that a bento has; what a list means belongs to `core/guards`.
"""
