"""`challenger_comparison`: the challengers beside the champion, on the live traffic that both scored."""

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.lineage.staleness import maturity_inputs
from fraud_assets.defs.partitions import CONTRACT, MONTH_BY_MONTH, MONTHS, describe, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.rollout.comparison import compared_month


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["scored_transactions", "fraud_labels"],
    **describe("challenger_comparison", "monitoring", {"postgres"}),
)
@retried
def challenger_comparison(context: dg.AssetExecutionContext, platform: Platform) -> dg.Output[pa.Table]:
    """One row is one challenger: how it compares with the champion on live traffic that both scored and that matured.

    For data scientists and the promotion decision. The scores are those that were given at the time, by the answer or
    in the shadow, with labels as known at the month's end. Without challengers the month is empty.
    """
    month, settings = single_month(context), platform.settings
    found = compared_month(
        platform.store,
        platform.ledger,
        month,
        platform.champion_before(month),
        settings.costs,
        settings.review_capacity,
    )
    inputs = platform.made_of(*found.inputs, maturity_inputs(CONTRACT))
    return dg.Output(found.rows, metadata={"inputs": inputs, "outcome": found.outcome})
