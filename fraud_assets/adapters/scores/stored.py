"""Kept scores read back, for assets; the service does not import this."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import Contract

COLUMNS = (
    "transaction_id", "event_timestamp", "scored_at", "model_version", "raw_score", "probability", "threshold",
    "decision", "pass_through_probability", "passed_through", "answered", "decided_by",
)  # fmt: skip
LONGEST_LINE = 16 * 2**20
# One object of both, as text: what PostgreSQL reads as numbers it writes in another form.
FEATURES = (
    "CASE WHEN more_features IS NULL THEN features::text WHEN features::text = '{}' THEN more_features::text "
    "ELSE left(features::text, -1) || ',' || substr(more_features::text, 2) END AS features"
)
# What two versions said of the same transactions, each by its answer or in the shadow.
PAIRS = """
SELECT DISTINCT ON (s.event_timestamp, s.transaction_id) s.transaction_id, s.event_timestamp,
    s.model_version AS answered_version, s.transaction::text AS transaction, x.outcome,
    CASE WHEN s.model_version = $3 THEN s.probability ELSE coalesce(x.probability, t.probability) END AS own,
    CASE WHEN s.model_version = $3 THEN coalesce(x.probability, t.probability) ELSE s.probability END AS other
FROM scored_transactions s
LEFT JOIN shadow_scores x ON x.transaction_id = s.transaction_id AND x.model_version = $3 + $4 - s.model_version
LEFT JOIN scored_transactions t ON t.transaction_id = s.transaction_id AND t.model_version = $3 + $4 - s.model_version
WHERE s.model_version IN ($3, $4)
AND s.event_timestamp >= $1::timestamptz AND s.event_timestamp < $2::timestamptz
ORDER BY s.event_timestamp, s.transaction_id, s.number
"""
CHALLENGERS = """
SELECT model_version, min(event_timestamp), (array_agg(threshold ORDER BY number DESC))[1]
FROM shadow_scores WHERE role = 'challenger' AND event_timestamp >= %s AND event_timestamp < %s
GROUP BY model_version ORDER BY model_version
"""


@dataclass(frozen=True)
class LiveSpan:
    """A version that scored in the shadow.

    Attributes:
        version: which.
        first: the first event time.
        threshold: its own.
    """

    version: int
    first: datetime
    threshold: float


class StoredScores:
    """The table `scored_transactions`, by event time."""

    def __init__(self, database: Database, contract: Contract) -> None:
        """Takes the database, and the contract whose transactions were scored."""
        self._database, self.contract = database, contract

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
        return self._with_columns(rows, list(self.contract.columns))

    def features(self, start: datetime, end: datetime, fields: Sequence[pa.Field]) -> pa.Table:
        """Features as they were when transactions were scored; missing where a model did not have them.

        Args:
            start: as in `read`.
            end: as in `read`.
            fields: of the features.

        Returns:
            `transaction_id`, `model_version` and the features.
        """
        rows = self._query(start, end, ["transaction_id", "model_version", FEATURES])
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

    def drawn(self, start: datetime, end: datetime) -> pa.Table:
        """The transactions of a span that would be held and could be let through, as they were answered first.

        What was scored after the end of a transaction's month is left out: a model of that month's end cannot know what
        was decided later, for example when old transactions are sent to a service of today.

        Returns:
            `transaction_id`, `event_timestamp`, `passed_through`, `pass_through_probability`.
        """
        rows = self._database.query(
            "SELECT DISTINCT ON (transaction_id) transaction_id, event_timestamp, passed_through, "
            "pass_through_probability FROM scored_transactions WHERE pass_through_probability > 0 "
            "AND event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz AND scored_at < "
            "(date_trunc('month', event_timestamp AT TIME ZONE $3) + interval '1 month') AT TIME ZONE $3 "
            "ORDER BY transaction_id, scored_at, number",
            [start.isoformat(), end.isoformat(), self.contract.timezone],
        )
        return self._with_ids(rows)

    def n_drawn(self, month: str) -> int:
        """How many these are in a month."""
        ((n,),) = self._rows(
            "SELECT count(DISTINCT transaction_id) FROM scored_transactions WHERE pass_through_probability > 0 "
            "AND event_timestamp >= %s AND event_timestamp < %s AND scored_at < %s",
            [self.contract.month_start(month), self.contract.month_end(month), self.contract.month_end(month)],
        )
        return int(n)

    def thresholds(self, start: datetime, end: datetime) -> dict[int, float]:
        """The threshold of each version that answered in a span."""
        rows = self._rows(
            "SELECT model_version, (array_agg(threshold ORDER BY number DESC))[1] FROM scored_transactions "
            "WHERE event_timestamp >= %s AND event_timestamp < %s GROUP BY model_version ORDER BY model_version",
            [start, end],
        )
        return {int(version): float(threshold) for version, threshold in rows}

    def lacking(self, start: datetime, end: datetime, names: Sequence[str]) -> dict[tuple[int, str], int]:
        """How many scores of each version were kept without a feature; of those features that some lack."""
        known = self.names(start, end)
        asked = sorted({name for own in known.values() for name in names if name not in own})
        if not asked:
            return {}
        rows = self._rows(
            "SELECT model_version, name, count(*) FROM scored_transactions, unnest(%s::text[]) AS name "
            "WHERE event_timestamp >= %s AND event_timestamp < %s "
            "AND features -> name IS NULL AND more_features -> name IS NULL GROUP BY 1, 2 ORDER BY 1, 2",
            [asked, start, end],
        )
        return {(int(version), str(name)): int(n) for version, name, n in rows}

    def shadow_counts(self) -> dict[str, int]:
        """How many scores of versions that did not answer there are, or were, of each month."""
        rows = self._database.rows("shadow_months", "SELECT month, n_rows FROM shadow_months ORDER BY month")
        return {month: n_rows for month, n_rows in rows}  # noqa: C416 - a row is no pair for the type checker

    def challengers(self, start: datetime, end: datetime) -> list[LiveSpan]:
        """The versions that scored in the shadow of another one in a span."""
        return [LiveSpan(int(one), first, float(limit)) for one, first, limit in self._rows(CHALLENGERS, [start, end])]

    def pairs(self, start: datetime, end: datetime, champion: int, challenger: int) -> pa.Table:
        """What two versions said of the transactions of a span that one of them answered, in the order of time.

        Returns:
            `transaction_id`, `event_timestamp`, `answered_version`, `own` and `other` (the probabilities of champion
            and challenger, missing where it gave none), `outcome` of the one that did not answer, and the contract's
            entities and amount.
        """
        rows = self._database.query(PAIRS, [start.isoformat(), end.isoformat(), champion, challenger])
        names = [*self.contract.entities, *(["amount"] if self.contract.amount else [])]
        return self._with_columns(rows, names)

    def _rows(self, statement: str, given: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._database.session() as connection:
            return connection.execute(statement.encode(), given).fetchall()

    def _with_columns(self, rows: pa.Table, names: Sequence[str]) -> pa.Table:
        """Rows with columns of the contract in place of `transaction`."""
        schema = self.contract.transactions_schema()
        fields = [schema.field(name) for name in names]
        columns = _columns(rows["transaction"], fields)
        rows = rows.drop_columns(["transaction"])
        for field in fields:
            rows = rows.append_column(field.with_nullable(True), columns[field.name])
        return self._with_ids(rows)

    def _query(self, start: datetime, end: datetime, columns: Sequence[str]) -> pa.Table:
        return self._database.query(
            f"SELECT {', '.join(columns)} FROM scored_transactions "
            "WHERE event_timestamp >= $1::timestamptz AND event_timestamp < $2::timestamptz "
            "ORDER BY event_timestamp, transaction_id, model_version",
            [start.isoformat(), end.isoformat()],
        )

    def _with_ids(self, rows: pa.Table) -> pa.Table:
        ids = rows["transaction_id"].cast(self.contract.transaction_id_type)
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
