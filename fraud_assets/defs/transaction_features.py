"""`transaction_features`: what models see of each transaction."""

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.postgres.months import MonthsOnce
from fraud_assets.adapters.retries import retried
from fraud_assets.core.features.declarations import features_digest, history_days, model_columns
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.staleness import Inputs, absent, features_inputs, in_words, maturity_inputs
from fraud_assets.core.lineage.tables.transactions import raw_transactions
from fraud_assets.core.months import shift_month
from fraud_assets.core.windows import months_back
from fraud_assets.defs.partitions import AFTER_ITS_INPUTS, CONTRACT, MONTHS, RANGE_IN_ONE_RUN, describe, picture
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots

RAW_COLUMNS = [name for name in raw_transactions(CONTRACT).schema.names if name != "ingested_at"]


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    automation_condition=AFTER_ITS_INPUTS,
    deps=["raw_transactions", "fraud_labels"],
    check_specs=[
        dg.AssetCheckSpec(
            "has_all_history",
            asset="transaction_features",
            description="Every earlier month that the features need was stored.",
        )
    ],
    **describe("transaction_features", "features", {"postgres", "python"}),
)
@retried
def transaction_features(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one transaction with its features, computed from what was known before it happened.

    For training, evaluation, drift and scoring. Features made from labels count a fraud from the time it became known.
    """
    # Month by month, in a range as well: sums over a longer history round differently in the last digit.
    transactions = MonthsOnce(platform.store, "raw_transactions", RAW_COLUMNS)
    statements = MonthsOnce(platform.store, "fraud_labels")
    months = [_month(platform, transactions, statements, month) for month in sorted(context.partition_keys)]
    features = pa.concat_tables([month.features for month in months])
    names = model_columns(platform.contract)
    missing = {name: features[name].null_count / max(features.num_rows, 1) for name in names}
    holes = {month.month: found for month in months if (found := month.holes)}
    yield dg.Output(
        features,
        metadata={
            "plot": picture(plots.bars(missing, "Share of missing values, by feature")),
            "features": len(names),
            "fraud_rate": sum(month.n_fraud for month in months) / max(sum(month.n for month in months), 1),
            "inputs": {month.month: month.inputs for month in months},
        },
    )
    yield dg.AssetCheckResult(
        passed=not holes,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{month} was built without {', '.join(found)}" for month, found in holes.items())
        or None,
        metadata={"missing": holes},
    )


@dataclass(frozen=True)
class _Month:
    month: str
    features: pa.Table
    inputs: Inputs
    n: int  # transactions; of which something is known, where blank labels are unknown
    n_fraud: int  # as known at its end; rises as labels arrive

    @property
    def holes(self) -> list[str]:
        """The earlier months that were looked for and were not there, by table."""
        tables = ("raw_transactions", "fraud_labels")
        return [f"{name} {in_words(found)}" for name in tables if (found := absent(self.inputs, name))]


def _month(platform: Platform, transactions_of: MonthsOnce, statements_of: MonthsOnce, month: str) -> _Month:
    store, contract = platform.store, platform.contract
    store.require("raw_transactions", month)
    history = months_back(history_days(contract))
    transactions, rows_read = transactions_of.read(shift_month(month, -history), month)
    # Further back: whether a statement is a first report, a repetition or a withdrawal shows in earlier ones.
    first = shift_month(month, -history - contract.label.lookback_months)
    statements, statements_read = statements_of.read(first, month)
    start, end = contract.month_start(month), contract.month_end(month)
    features = platform.compute_features(transactions, statements, contract, start=start, end=end)
    labels = labels_as_of(features, statements, end, maturity_days=contract.maturity_days, blank=contract.label.blank)
    n_fraud = pc.sum(labels["is_fraud"]).as_py() or 0
    n = pc.count(labels["is_fraud"]).as_py() if contract.label.blank == "unknown" else labels.num_rows
    made = features_inputs(features_digest(contract))
    inputs = platform.made_of(rows_read, statements_read, made, maturity_inputs(contract))
    return _Month(month, features, inputs, n, n_fraud)
