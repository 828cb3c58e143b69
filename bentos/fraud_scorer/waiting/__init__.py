"""How requests wait: for their place in a round of the event loop, and for their turn to compute for long.

What is refused for another reason than load belongs to `limits.py` and `keys.py`.
"""
