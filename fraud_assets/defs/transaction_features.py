"""`transaction_features`: what models see of each transaction."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core import plots
from fraud_assets.core.features import HISTORY_DAYS, compute_features, feature_names
from fraud_assets.core.months import month_end, month_start
from fraud_assets.core.tables import raw_transactions
from fraud_assets.core.windows import months_back
from fraud_assets.defs.partitions import CONTRACT, MONTHS, RANGE_IN_ONE_RUN, describe, months_before, picture
from fraud_assets.defs.resources import Platform

HISTORY = months_before(months_back(HISTORY_DAYS))


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    ins={
        "raw_transactions": dg.AssetIn(
            partition_mapping=HISTORY,
            metadata={"columns": [name for name in raw_transactions(CONTRACT).schema.names if name != "ingested_at"]},
        ),
        # Further back: whether a statement is a first report, a repetition or a withdrawal shows in earlier ones.
        "fraud_labels": dg.AssetIn(
            partition_mapping=months_before(months_back(HISTORY_DAYS) + CONTRACT.label.lookback_months)
        ),
    },
    **describe("transaction_features", "features", {"postgres", "duckdb"}),
)
def transaction_features(
    context: dg.AssetExecutionContext, platform: Platform, raw_transactions: pa.Table, fraud_labels: pa.Table
) -> dg.Output[pa.Table]:
    """One row is one transaction with its features, each from what was known strictly before it happened.

    For training, evaluation, drift and scoring; label features count frauds from when they became known.
    """
    # Month by month, in a range as well: sums over a longer history round differently in the last digit.
    features = pa.concat_tables(
        [
            compute_features(
                raw_transactions,
                fraud_labels,
                platform.contract,
                start=month_start(month),
                end=month_end(month),
            )
            for month in context.partition_keys
        ]
    )
    names = feature_names(platform.contract)
    missing = {name: features[name].null_count / max(features.num_rows, 1) for name in names}
    return dg.Output(
        features,
        metadata={
            "features": len(names),
            "fraud_rate": _known_fraud_rate(features, fraud_labels),
            "plot": picture(plots.bars(missing, "Share of rows without a value, by feature")),
        },
    )


def _known_fraud_rate(features: pa.Table, statements: pa.Table) -> float:
    """The share of these transactions that is known as fraud by the month's end; rises as labels arrive."""
    frauds = statements.filter(statements["is_fraud"])["transaction_id"].combine_chunks()
    return float(pc.mean(pc.is_in(features["transaction_id"], frauds)).as_py() or 0.0)
