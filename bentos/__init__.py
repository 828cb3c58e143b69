"""The services that `bentoml serve` runs; they know `fraud_assets.core` and nothing of orchestration."""
