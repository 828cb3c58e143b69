"""What becomes of a registered model: promotion, and what follows from it. Training belongs to `core/models`."""
