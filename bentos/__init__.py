"""The services that `bentoml serve` runs; they know `fraud_assets.core`, and of the database the history alone."""
