"""`scored_transactions`: what the service answered. The service writes it; no run does."""

import dagster as dg

from fraud_assets.defs.partitions import MONTHS, describe

scored_transactions = dg.AssetSpec(
    "scored_transactions",
    partitions_def=MONTHS,
    description="One row is one transaction with what a model version said of it, as the service answered it. "
    "`model_performance` and `serving_skew` are made of it.",
    **describe("scored_transactions", "serving", {"postgres", "bentoml"}),
)
