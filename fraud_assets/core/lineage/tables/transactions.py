"""Transactions as they came, rows that broke the contract, and features."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import personal_columns
from fraud_assets.core.features.declarations import feature_descriptions, feature_types
from fraud_assets.core.intake.quarantine import QUARANTINED
from fraud_assets.core.lineage.tables.table import (
    AS_JSON,
    TIMESTAMP,
    Table,
    column,
    described,
    first_of_month,
)


def transaction_columns(contract: Contract) -> dict[str, str]:
    """What the columns of transactions mean, from the contract."""
    own = contract.transaction_id
    said = {
        "transaction_id": (
            f"Names the transaction; `{own.column}` of the source."
            if own
            else "Names the transaction: the source has no id, so it is the file and the row in it."
        ),
        "event_timestamp": f"When the transaction happened, in UTC; from "
        f"{' and '.join(f'`{name}`' for name in contract.event_timestamp.columns)} of the source.",
    }
    return said | {name: column.in_words(_part(contract, name)) for name, column in contract.columns.items()}


def _part(contract: Contract, name: str) -> str:
    """What a column of the contract is to the platform."""
    if name in contract.entities:
        what = name.removesuffix("_id").replace("_", " ")
        return f"Names the {what}"
    return "Amount of the transaction" if name == "amount" else "Attribute of the transaction"


def raw_transactions(contract: Contract) -> Table:
    """Transactions as the contract's source delivered them."""
    ingested = column("ingested_at", TIMESTAMP, "When the platform took the row in, in UTC.", nullable=False)
    return Table.of(
        "raw_transactions",
        "raw",
        [*described(contract.transactions_schema(), transaction_columns(contract)), ingested],
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        # Online lookups of an entity's last days.
        indexes=tuple((entity, "event_timestamp") for entity in contract.entities),
        volatile=("ingested_at",),
        by_range_only=True,
        personal=personal_columns(contract),
    )


QUARANTINE_COLUMNS = {
    "source": "The file, or other source, that delivered the row.",
    "row_number": "Its number among the source's rows, from 1.",
    "reasons": f"Why it is here, {AS_JSON}.",
    "original": "The row as it was delivered, as JSON; with whatever personal data it had.",
    "row_digest": "SHA-256 that names the row; people use its first 12 digits.",
    "status": "quarantined, or dropped where a person has decided so.",
}


def quarantined_transactions(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """Rows that broke the contract, with the reasons and their original values."""
    return Table.of(
        "quarantined_transactions",
        "raw",
        [first_of_month("that it was delivered for"), *described(QUARANTINED, QUARANTINE_COLUMNS)],
        "month",
        order=("month", "source", "row_number"),
        by_range_only=True,
        personal=("original",),
    )


def transaction_features(contract: Contract) -> Table:
    """Features of each transaction, from what was known when it happened."""
    said = transaction_columns(contract) | feature_descriptions(contract)
    fields = [
        pa.field("transaction_id", contract.transaction_id_type, nullable=False),
        pa.field("event_timestamp", TIMESTAMP, nullable=False),
        *(pa.field(entity, contract.transactions_schema().field(entity).type) for entity in contract.entities),
        *(pa.field(name, kind) for name, kind in feature_types(contract).items()),
    ]
    return Table.of(
        "transaction_features",
        "features",
        described(fields, said),
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        by_range_only=True,
        personal=personal_columns(contract),
    )
