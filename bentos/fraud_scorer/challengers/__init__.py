"""Challengers beside the model that answers: who is one, whom one answers, and what all of them say of the traffic.

Shadow scores are made in processes of their own, from what was kept of the answers: nothing that a challenger does can
keep an answer waiting. What is kept belongs to `keeping.py`, the champion to `following.py` beside this folder.
"""
