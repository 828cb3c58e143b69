"""The tables the assets materialise into: columns, month column and indexes, as data.

How a table is written or read belongs to `adapters/postgres/months.py`; what its rows mean is said in the asset.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import feature_types
from fraud_assets.core.intake.quarantine import QUARANTINED
from fraud_assets.core.models.decision_rule import PROMISED

TIMESTAMP = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """A monthly-partitioned table.

    Attributes:
        name: the asset and the table.
        schema: its columns; `month_column` is among them.
        month_column: a timestamp or date column; a row belongs to the month its value lies in.
        order: columns that fix the order of rows, and with it the digest of a month.
        key: columns that name a row of a month, never missing and never shared by two; by them a row is found again
            in another version of the month. Empty where rows have no name.
        indexes: column lists that lookups need; built for the months that are looked up (`MonthStore.index_months`).
        volatile: columns that say when a row was written, and so are no part of the digest.
        by_range_only: whether there are many rows a month, so that reading all months must be asked for by name.
    """

    name: str
    schema: pa.Schema
    month_column: str
    order: tuple[str, ...]
    key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    volatile: tuple[str, ...] = ()
    by_range_only: bool = False

    def in_order(self, rows: pa.Table) -> bool:
        """Whether the rows are in the table's order; missing values come last."""
        before, after = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
        follows: pa.ChunkedArray = pa.chunked_array([pa.repeat(True, after.num_rows)])
        for column in reversed(self.order):
            one, other = before[column], after[column]
            less, equal = pc.less(one, other), pc.equal(one, other)
            if one.null_count or other.null_count:
                less = pc.fill_null(less, pc.and_(pc.is_valid(one), pc.is_null(other)))
                equal = pc.fill_null(equal, pc.and_(pc.is_null(one), pc.is_null(other)))
            follows = pc.or_(less, pc.and_(equal, follows))
        return bool(pc.all(follows, min_count=0).as_py())


def raw_transactions(contract: Contract) -> Table:
    """Transactions as the contract's source delivered them."""
    schema = contract.transactions_schema().append(pa.field("ingested_at", TIMESTAMP, nullable=False))
    return Table(
        "raw_transactions",
        schema,
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        # Online lookups of an entity's last days.
        indexes=tuple((entity, "event_timestamp") for entity in contract.entities),
        volatile=("ingested_at",),
        by_range_only=True,
    )


def quarantined_transactions(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """Rows that broke the contract, with the reasons and their original values."""
    schema = QUARANTINED.insert(0, pa.field("month", pa.date32(), nullable=False))
    return Table(
        "quarantined_transactions", schema, "month", order=("month", "source", "row_number"), by_range_only=True
    )


def delivered_labels(contract: Contract) -> Table:
    """Statements that came with a month's transactions, in the month of the transactions they are about."""
    schema = contract.labels_schema()
    position = schema.get_field_index("event_timestamp")
    return Table(
        "delivered_labels",
        # They name transactions of the same delivery, so the time is always known.
        schema.set(position, schema.field(position).with_nullable(False)),
        "event_timestamp",
        order=("event_timestamp", "transaction_id", "label_timestamp", "label_source", "is_fraud"),
        by_range_only=True,
    )


def fraud_labels(contract: Contract) -> Table:
    """Every statement about a transaction, in the month in which it became known; `origin` says where it came from."""
    return Table(
        "fraud_labels",
        contract.labels_schema().append(pa.field("origin", pa.string(), nullable=False)),
        "label_timestamp",
        order=("label_timestamp", "transaction_id", "label_source", "origin", "is_fraud"),
        # Online lookups: an entity's last reports, and the earlier statements about the same transactions.
        indexes=(("transaction_id",), *((entity, "label_timestamp") for entity in contract.entities)),
        by_range_only=True,
    )


def transaction_features(contract: Contract) -> Table:
    """Features of each transaction, from what was known when it happened."""
    fields = [
        pa.field("transaction_id", contract.transaction_id_type, nullable=False),
        pa.field("event_timestamp", TIMESTAMP, nullable=False),
        *(pa.field(entity, contract.transactions_schema().field(entity).type) for entity in contract.entities),
        *(pa.field(name, kind) for name, kind in feature_types(contract).items()),
    ]
    return Table(
        "transaction_features",
        pa.schema(fields),
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        by_range_only=True,
    )


def drift_report(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per finding (`drift/findings.py`), and one row, kind `verdict`, for the month."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("feature", pa.string(), nullable=False),
            pa.field("segment", pa.string()),
            pa.field("method", pa.string(), nullable=False),
            pa.field("drift_status", pa.string(), nullable=False),
            pa.field("cause", pa.string()),
            pa.field("blame", pa.string()),
            pa.field("since", pa.date32()),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("n_reference", pa.int64()),
            pa.field("n_current", pa.int64()),
            *(
                pa.field(name, pa.float64())
                for name in (
                    "psi", "jensen_shannon", "total_variation", "statistic", "p_value", "p_adjusted",
                    "missing_reference", "missing_current", "median_reference", "median_current",
                    "value_reference", "value_current", "value_low", "value_high",
                )
            ),
            pa.field("champion_version", pa.int64()),
            pa.field("reference_from", pa.string()),
            pa.field("reference_to", pa.string()),
            # What the page draws, as JSON, in the verdict's row; none in months from before it was kept.
            pa.field("pictures", pa.string()),
        ]
    )  # fmt: skip
    return Table("drift_report", schema, "month", order=("month", "kind", "feature", "segment"))


def trained_model(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the model trained with what was known at the month's end."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("as_of", TIMESTAMP, nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("model_name", pa.string()),
            pa.field("model_version", pa.int64()),
            pa.field("mlflow_run_id", pa.string()),
            pa.field("family", pa.string()),
            pa.field("training_from", TIMESTAMP),
            pa.field("training_to", TIMESTAMP),
            pa.field("n", pa.int64()),
            pa.field("n_fraud", pa.int64()),
            pa.field("validation_average_precision", pa.float64()),
            pa.field("threshold", pa.float64()),
            pa.field("model_digest", pa.string()),
            pa.field("inputs_digest", pa.string()),
            pa.field("rule", pa.string()),
            *_intervals(*(f"promised_{name}" for name in PROMISED)),
        ]
    )
    return Table("trained_model", schema, "month", order=("month",))


EVALUATION_INTERVALS = (
    "average_precision", "roc_auc", "precision_at_100", "card_precision_at_100", "recall_at_fpr_1pct",
    "alerts_per_day", "precision_at_threshold", "recall_at_threshold", "value_detection_rate", "expected_cost",
    "cost_without_review", "brier", "expected_over_observed",
)  # fmt: skip


def _intervals(*names: str) -> list[pa.Field]:
    return [pa.field(f"{name}{end}", pa.float64()) for name in names for end in ("", "_low", "_high")]


def evaluation(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month and role: champion, challenger and reference on the same window, or `none` and why."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("role", pa.string(), nullable=False),
            pa.field("model_version", pa.int64()),
            pa.field("family", pa.string()),
            pa.field("trained_month", pa.string()),
            pa.field("as_of", TIMESTAMP, nullable=False),
            pa.field("window_from", TIMESTAMP),
            pa.field("window_to", TIMESTAMP),
            pa.field("n", pa.int64()),
            pa.field("n_fraud", pa.int64()),
            pa.field("prevalence", pa.float64()),
            pa.field("threshold", pa.float64()),
            pa.field("cards_per_day", pa.float64()),
            *_intervals(*EVALUATION_INTERVALS, "ap_difference"),
            # Why no model could be judged, in the one row of such a month; or why the window is not enough yet.
            pa.field("reason", pa.string()),
        ]
    )
    return Table("evaluation", schema, "month", order=("month", "role"))


def evaluation_segments(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, role and part of the window: a merchant segment, a band of amounts, new customers."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("role", pa.string(), nullable=False),
            pa.field("model_version", pa.int64(), nullable=False),
            pa.field("segment", pa.string(), nullable=False),
            pa.field("value", pa.string(), nullable=False),
            pa.field("value_range", pa.string()),
            pa.field("n", pa.int64(), nullable=False),
            pa.field("n_fraud", pa.int64(), nullable=False),
            pa.field("prevalence", pa.float64(), nullable=False),
            *_intervals("average_precision"),
            pa.field("reason", pa.string()),
            pa.field("n_flagged", pa.int64(), nullable=False),
            *(
                pa.field(name, pa.float64())
                for name in ("precision_at_threshold", "recall_at_threshold", "expected_over_observed")
            ),
        ]
    )
    order = ("month", "role", "segment", "value")
    return Table("evaluation_segments", schema, "month", order=order, key=order)


def champion(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the promotion decision at the month's end, and what was live after it."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("validation_status", pa.string(), nullable=False),
            pa.field("promoted", pa.bool_(), nullable=False),
            pa.field("reasons", pa.string(), nullable=False),
            pa.field("challenger_version", pa.int64()),
            pa.field("champion_version", pa.int64()),
        ]
    )
    return Table("champion", schema, "month", order=("month",))


def fraud_bento(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the package of the model that was live at the month's end."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("model_version", pa.int64()),
            pa.field("bento_tag", pa.string()),
            pa.field("model_digest", pa.string()),
        ]
    )
    return Table("fraud_bento", schema, "month", order=("month",))


def backtest(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per policy and month, and one, kind `total`, per policy; see `backtest/judge.py`."""
    schema = pa.schema(
        [
            pa.field("month", pa.date32(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("policy", pa.string(), nullable=False),
            pa.field("trained_month", pa.string()),
            pa.field("drift_status", pa.string()),
            pa.field("blame", pa.string()),
            *(
                pa.field(name, pa.int64(), nullable=False)
                for name in ("retrainings", "drift_alarms", "watch_alarms")
            ),
            pa.field("reason", pa.string(), nullable=False),
            pa.field("n", pa.int64()),
            pa.field("n_fraud", pa.int64()),
            pa.field("alerts_per_day", pa.float64()),
            *_intervals(
                "average_precision", "value_detection_rate", "expected_cost", "ap_difference", "cost_saved"
            ),
        ]
    )  # fmt: skip
    order = ("month", "kind", "policy")
    return Table("backtest", schema, "month", order=order, key=order)


TABLES = {
    build.__name__: build
    for build in (
        raw_transactions, quarantined_transactions, delivered_labels, fraud_labels, transaction_features,
        drift_report, trained_model, evaluation_segments, evaluation, champion, fraud_bento,
        backtest,
    )
}  # fmt: skip

# Answers to a question, of all months at once: nothing is built on them, and a later month makes them no worse.
ON_REQUEST = frozenset({"backtest"})
