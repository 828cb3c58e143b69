"""`serving_skew`: did the service see the features that the batch has made since?"""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.performance.serving_skew import skew_in_words
from fraud_assets.defs.partitions import MONTH_BY_MONTH, MONTHS, describe, picture, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.scores import skewed_month


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["scored_transactions", "transaction_features"],
    check_specs=[
        dg.AssetCheckSpec(
            "serving_equals_batch",
            asset="serving_skew",
            description="Features were the same when transactions were scored as the batch has made them since.",
        )
    ],
    **describe("serving_skew", "monitoring", {"postgres"}),
)
@retried
def serving_skew(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one feature of one model version: how often it was another when transactions were scored.

    For whoever runs the service: what differs, the model was never trained on. Transactions that happened in the month
    are compared with `transaction_features` of the same ids. Without scores the month is empty.
    """
    month = single_month(context)
    found = skewed_month(platform.store, month)
    rows = found.rows.to_pylist()
    shown = {f"{row['feature']} v{row['model_version']}": row["skewed_share"] or 0.0 for row in rows}
    plot = {"plot": picture(plots.bars(shown, "Share of transactions that differ, by feature"))} if shown else {}
    inputs = platform.made_of(*found.inputs)
    yield dg.Output(found.rows, metadata={"inputs": inputs, "outcome": found.outcome, **plot})
    said = skew_in_words(rows)
    yield dg.AssetCheckResult(
        passed=said is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=said or (None if rows else found.outcome),
        metadata={"features": len(rows)},
    )
