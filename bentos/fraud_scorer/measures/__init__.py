"""What the service tells Prometheus of how it answers: time by stage, missing features, which model, its scores.

What counts one thing beside the code that does it (decisions, kept scores, history) stays there.
"""
