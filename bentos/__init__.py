"""The services that `bentoml serve` runs; they know `fraud_assets.core`, of the database history and kept scores."""
