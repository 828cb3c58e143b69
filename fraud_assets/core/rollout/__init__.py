"""Rollout: a version beside the champion, before it takes its place: shadow, share, comparison and replay.

Which model is promoted belongs to `decisions/promotion.py`, how two models compare to `evaluation/pair.py`.
"""
