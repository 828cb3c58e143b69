"""Prometheus' text format, and the endpoint of the platform. What is said belongs to `core/monitoring/metrics.py`."""
