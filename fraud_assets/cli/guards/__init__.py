"""Commands about what decides beside the model."""
