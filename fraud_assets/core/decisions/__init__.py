"""What follows from evidence: promotion, retraining, alerts, and why not. Workflows carry it out."""
