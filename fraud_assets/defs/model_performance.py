"""`model_performance`: what the scores that the service gave came to, as labels become known."""

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.lineage.staleness import maturity_inputs
from fraud_assets.defs.partitions import CONTRACT, MONTH_BY_MONTH, MONTHS, describe, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.scores import realised_month


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["scored_transactions", "fraud_labels"],
    **describe("model_performance", "monitoring", {"postgres"}),
)
@retried
def model_performance(context: dg.AssetExecutionContext, platform: Platform) -> dg.Output[pa.Table]:
    """One row is one model version on a part of what it scored live: all, a day, a segment.

    For data scientists who ask how a model does where it decides. The transactions are those that matured in the
    month, with labels as known at its end; what is not known is left out. Without scores the month is empty.
    """
    found = realised_month(platform.store, single_month(context), platform.settings.costs)
    inputs = platform.made_of(*found.inputs, maturity_inputs(CONTRACT))
    return dg.Output(found.rows, metadata={"inputs": inputs, "outcome": found.outcome, **found.figures})
