"""`transaction_features`: what models see of each transaction."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core import plots
from fraud_assets.core.features import HISTORY_DAYS, compute_features, feature_names
from fraud_assets.core.months import month_end, month_start, shift_month
from fraud_assets.core.tables import raw_transactions
from fraud_assets.core.windows import months_back
from fraud_assets.defs.partitions import CONTRACT, MONTHS, RANGE_IN_ONE_RUN, describe, picture
from fraud_assets.defs.resources import Platform

RAW_COLUMNS = [name for name in raw_transactions(CONTRACT).schema.names if name != "ingested_at"]


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    deps=["raw_transactions", "fraud_labels"],
    **describe("transaction_features", "features", {"postgres", "duckdb"}),
)
def transaction_features(context: dg.AssetExecutionContext, platform: Platform) -> dg.Output[pa.Table]:
    """One row is one transaction with its features, each from what was known strictly before it happened.

    For training, evaluation, drift and scoring; label features count frauds from when they became known.
    """
    # Month by month, in a range as well: sums over a longer history round differently in the last digit.
    features = pa.concat_tables([_month(platform, month) for month in context.partition_keys])
    statements = platform.store.read("fraud_labels", last_month=max(context.partition_keys))
    names = feature_names(platform.contract)
    missing = {name: features[name].null_count / max(features.num_rows, 1) for name in names}
    return dg.Output(
        features,
        metadata={
            "features": len(names),
            "fraud_rate": _known_fraud_rate(features, statements),
            "plot": picture(plots.bars(missing, "Share of rows without a value, by feature")),
        },
    )


def _month(platform: Platform, month: str) -> pa.Table:
    store, contract = platform.store, platform.contract
    store.require("raw_transactions", month)
    history = months_back(HISTORY_DAYS)
    transactions = store.read(
        "raw_transactions", RAW_COLUMNS, first_month=shift_month(month, -history), last_month=month
    )
    # Further back: whether a statement is a first report, a repetition or a withdrawal shows in earlier ones.
    first = shift_month(month, -history - contract.label.lookback_months)
    statements = store.read("fraud_labels", first_month=first, last_month=month)
    return compute_features(transactions, statements, contract, start=month_start(month), end=month_end(month))


def _known_fraud_rate(features: pa.Table, statements: pa.Table) -> float:
    """The share of these transactions that is known as fraud by the month's end; rises as labels arrive."""
    frauds = statements.filter(statements["is_fraud"])["transaction_id"].combine_chunks()
    return float(pc.mean(pc.is_in(features["transaction_id"], frauds)).as_py() or 0.0)
