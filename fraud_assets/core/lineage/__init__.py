"""The tables, what each month of them was made of, and which months are stale."""
