"""Kept scores read back, for assets; the service does not import this."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.json as pj

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import Contract

COLUMNS = (
    "transaction_id", "event_timestamp", "scored_at", "model_version", "raw_score", "probability", "threshold",
    "decision", "pass_through_probability", "passed_through", "answered", "decided_by",
)  # fmt: skip
LONGEST_LINE = 16 * 2**20


class StoredScores:
    """The table `scored_transactions`, by event time."""

    def __init__(self, database: Database, contract: Contract) -> None:
        """Takes the database, and the contract whose transactions were scored."""
        self._database, self._contract = database, contract

    def counts(self) -> dict[str, int]:
        """How many scores of each month there are, or were before they were deleted."""
        rows = self._database.rows("scored_months", "SELECT month, n_rows FROM scored_months ORDER BY month")
        return {month: n_rows for month, n_rows in rows}  # noqa: C416 - a row is no pair for the type checker

    def read(self, start: datetime, end: datetime) -> pa.Table:
        """The scores of transactions that happened in a span, in the order of time, id and version.

        Args:
            start: the first event time.
            end: the end of event times, not part of it.

        Returns:
            `COLUMNS`, with the id in the contract's type, and the contract's entities, amount and attributes.
        """
        rows = self._query(start, end, [*COLUMNS, "transaction::text AS transaction"])
        schema = self._contract.transactions_schema()
        fields = [schema.field(name) for name in self._contract.columns]
        columns = _columns(rows["transaction"], fields)
        rows = rows.drop_columns(["transaction"])
        for field in fields:
            rows = rows.append_column(field.with_nullable(True), columns[field.name])
        return self._with_ids(rows)

    def features(self, start: datetime, end: datetime, fields: Sequence[pa.Field]) -> pa.Table:
        """Features as they were when transactions were scored; missing where a model did not have them.

        Args:
            start: as in `read`.
            end: as in `read`.
            fields: of the features.

        Returns:
            `transaction_id`, `model_version` and the features.
        """
        rows = self._query(start, end, ["transaction_id", "model_version", "features::text AS features"])
        columns = _columns(rows["features"], fields)
        rows = rows.drop_columns(["features"])
        for field in fields:
            rows = rows.append_column(field.with_nullable(True), columns[field.name])
        return self._with_ids(rows)

    def names(self, start: datetime, end: datetime) -> dict[int, list[str]]:
        """The names of the features of each version that scored in a span, from one of its rows."""
        with self._database.session() as connection:
            found = connection.execute(
                "SELECT DISTINCT ON (model_version) model_version, ARRAY(SELECT json_object_keys(features)) "
                "FROM scored_transactions WHERE event_timestamp >= %s AND event_timestamp < %s "
                "ORDER BY model_version",
                [start, end],
            ).fetchall()
        return {version: list(names) for version, names in found}

    def _query(self, start: datetime, end: datetime, columns: Sequence[str]) -> pa.Table:
        return self._database.query(
            f"SELECT {', '.join(columns)} FROM scored_transactions "
            "WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz "
            "ORDER BY event_timestamp, transaction_id, model_version",
            [start.isoformat(), end.isoformat()],
        )

    def _with_ids(self, rows: pa.Table) -> pa.Table:
        ids = rows["transaction_id"].cast(self._contract.transaction_id_type)
        return rows.set_column(0, "transaction_id", ids)


def _columns(texts: pa.ChunkedArray, fields: Sequence[pa.Field]) -> dict[str, pa.ChunkedArray]:
    """Fields of JSON objects, by name; missing where an object has none of this name."""
    # What JSON has no form for is text in it.
    plain = [pa.field(field.name, pa.string() if pa.types.is_date(field.type) else field.type) for field in fields]
    schema = pa.schema(plain)
    if not len(texts) or not fields:
        return {field.name: pa.chunked_array([pa.nulls(len(texts), field.type)]) for field in fields}
    content = io.BytesIO("\n".join(texts.to_pylist()).encode())
    found = pj.read_json(
        content,
        pj.ReadOptions(block_size=LONGEST_LINE),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )
    return {field.name: found[field.name].cast(field.type) for field in fields}
