"""`fraud_labels`: what became known about transactions during a month."""

from collections.abc import Iterator

import dagster as dg
import numpy as np
import pyarrow as pa

from fraud_assets.adapters.sources import statements_known_in
from fraud_assets.core import plots
from fraud_assets.defs.partitions import MONTHS, RANGE_IN_ONE_RUN, describe, picture
from fraud_assets.defs.resources import Platform


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    deps=["raw_transactions"],
    check_specs=[
        dg.AssetCheckSpec(
            "has_all_deliveries",
            asset="fraud_labels",
            description="Every earlier delivery whose labels can become known in this month could be read.",
        )
    ],
    **describe("fraud_labels", "transactions", {"postgres"}),
)
def fraud_labels(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one statement ("transaction 17 was fraud"), in the month in which it became known.

    For training, features and evaluation, which ask what was known at a moment (`labels_as_of`). A transaction
    without a statement is genuine once it has matured; that is derived, not stored.
    """
    found = statements_known_in(platform.source, platform.contract, list(context.partition_keys))
    rows = found.statements
    delay = (
        rows["label_timestamp"].cast(pa.int64()).to_numpy() - rows["event_timestamp"].cast(pa.int64()).to_numpy()
    ) / 8.64e10
    yield dg.Output(
        rows,
        metadata={
            "fraud_rate": float(np.mean(rows["is_fraud"].to_numpy())) if rows.num_rows else 0.0,
            "median_delay_days": float(np.median(delay)) if rows.num_rows else None,
            "plot": picture(plots.histogram(delay, "Days from transaction to report", "days")),
        },
    )
    yield dg.AssetCheckResult(
        passed=not found.refused,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"refused_deliveries": found.refused},
    )
