"""What Dagster sees: one thin file per asset, named after the asset."""
