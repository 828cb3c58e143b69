"""Training, calibration and scoring. Whether a model goes live belongs to `decisions`."""
