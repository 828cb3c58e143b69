"""The fraud-model platform: a Dagster code location, the `fraud` command and the science beneath them."""
