"""Statements about transactions: those that came with them, and all by the month in which they became known."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.table import Table, column, described
from fraud_assets.core.lineage.tables.transactions import transaction_columns


def _label_columns(contract: Contract) -> dict[str, str]:
    """What the columns of label statements mean."""
    of_transaction = transaction_columns(contract)
    entities = {
        name: f"{of_transaction[name]} Empty where the transaction has not been seen." for name in contract.entities
    }
    return {
        **entities,
        "transaction_id": "The transaction that the statement is about.",
        "event_timestamp": "When that transaction happened, in UTC; empty where it has not been seen.",
        "is_fraud": "Whether it was fraud; empty where an earlier statement is withdrawn.",
        "label_timestamp": "When this became known, in UTC.",
        "label_source": "Who reported it: chargeback, analyst or customer_report.",
    }


def delivered_labels(contract: Contract) -> Table:
    """Statements that came with a month's transactions, in the month of the transactions they are about."""
    schema = contract.labels_schema()
    position = schema.get_field_index("event_timestamp")
    # They name transactions of the same delivery, so the time is always known.
    schema = schema.set(position, schema.field(position).with_nullable(False))
    said = _label_columns(contract) | {"event_timestamp": "When that transaction happened, in UTC."}
    return Table.of(
        "delivered_labels",
        "labels",
        described(schema, said),
        "event_timestamp",
        order=("event_timestamp", "transaction_id", "label_timestamp", "label_source", "is_fraud"),
        by_range_only=True,
        personal=tuple(contract.entities),
    )


def fraud_labels(contract: Contract) -> Table:
    """Every statement about a transaction, in the month in which it became known; `origin` says where it came from."""
    origin = column(
        "origin",
        pa.string(),
        "Where the statement came from: `delivery`, with the transaction; or the file and row of a label feed or of "
        "`fraud labels add`.",
        nullable=False,
    )
    return Table.of(
        "fraud_labels",
        "labels",
        [*described(contract.labels_schema(), _label_columns(contract)), origin],
        "label_timestamp",
        order=("label_timestamp", "transaction_id", "label_source", "origin", "is_fraud"),
        # Online lookups: an entity's last reports, and the earlier statements about the same transactions.
        indexes=(("transaction_id",), *((entity, "label_timestamp") for entity in contract.entities)),
        by_range_only=True,
        personal=tuple(contract.entities),
    )
