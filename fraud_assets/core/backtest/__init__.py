"""What retraining policies would have brought over past months."""
