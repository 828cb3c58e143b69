"""Transactions that were scored and that no month holds yet: where the workers and replicas of a service meet.

One table, `recent_transactions`, made by the first service that may make it. A row stays until a month holds the same
transaction. What they count for is for `bentos/fraud_scorer/store.py`.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from fraud_assets.adapters.online.history import (
    POSTGRES_TYPES,
    TIMESTAMP,
    History,
    HistoryError,
    quoted,
    span_arrays,
    spans_sql,
)
from fraud_assets.adapters.people.key import ERASED, KEY_VARIABLE, erased_by
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import personal_columns
from fraud_assets.core.people.pseudonyms import ErasureError

# A month is delivered within a few weeks after its end; what is in none of them by then never happened.
KEPT_DAYS = 75
_TYPES = POSTGRES_TYPES | {TIMESTAMP: "timestamptz"}


class RecentTransactions:
    """Reads and writes the table.

    Raises:
        HistoryError: by each method, when the database cannot be reached, does not answer in time, or refuses.
    """

    def __init__(self, history: History, contract: Contract) -> None:
        """Asks nothing yet.

        Args:
            history: whose connection is used.
            contract: says which columns there are.
        """
        self._history = history
        self._schema = contract.transactions_schema()
        self._entities, self._personal = tuple(contract.entities), personal_columns(contract)
        key = os.environ.get(KEY_VARIABLE)
        self._erasure_key = Path(key) if key else None
        # So that nobody is told of what it wrote itself.
        self._writer = secrets.token_hex(8)
        self._seen = 0

    def prepare(self) -> None:
        """Makes the table, or the columns that it lacks."""
        columns = {field.name: f"{quoted(field.name)} {_TYPES[field.type]}" for field in self._schema}
        indexes = [
            f"CREATE INDEX IF NOT EXISTS {quoted(f'recent_transactions_of_{place}')} ON recent_transactions "
            f"({quoted(name)}, event_timestamp);"
            for place, name in enumerate(self._entities)
        ]
        added = [
            f"ALTER TABLE recent_transactions ADD COLUMN IF NOT EXISTS {column};" for column in columns.values()
        ]  # fmt: skip
        # One after the other: to make a table twice at the same time is an error in spite of IF NOT EXISTS.
        self._history.fetch(
            f"""
            DO $fraud$ BEGIN
                PERFORM pg_advisory_xact_lock(hashtext('fraud_assets.recent_transactions'));
                CREATE TABLE IF NOT EXISTS recent_transactions (
                    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE, writer text NOT NULL,
                    written_at timestamptz NOT NULL DEFAULT now(), {columns["transaction_id"]} PRIMARY KEY);
                {" ".join(added)}
                {" ".join(indexes)}
                DELETE FROM recent_transactions WHERE written_at < now() - interval '{KEPT_DAYS} days';
            END $fraud$
            """,
            None,
            math.inf,
        )
        (last,) = self._history.fetch(
            "SELECT coalesce(max(number), 0) AS last FROM recent_transactions", None, math.inf
        )["last"].to_pylist()  # fmt: skip
        self._seen = last

    def write(self, rows: pa.Table) -> None:
        """Stores transactions, those that are there already excepted.

        Args:
            rows: columns of `Contract.transactions_schema`.
        """
        rows = self._renamed(rows)
        names = ", ".join(quoted(name) for name in self._schema.names)
        arrays = [
            pa.ListArray.from_arrays([0, rows.num_rows], rows[name].combine_chunks()) for name in rows.schema.names
        ]
        kinds = ", ".join(
            f"${place}::{_TYPES[rows.schema.field(name).type]}[]" for place, name in enumerate(rows.schema.names, 2)
        )
        # Writers take turns until they have committed, so that numbers become visible in their order.
        self._history.fetch(
            f"""
            WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext('fraud_assets.recent_transactions')))
            INSERT INTO recent_transactions (writer, {names})
            SELECT $1, given.* FROM turn, unnest({kinds}) AS given ON CONFLICT (transaction_id) DO NOTHING
            """,
            pa.record_batch([pa.array([self._writer]), *arrays], names=["writer", *rows.schema.names]),
            math.inf,
        )

    def _renamed(self, rows: pa.Table) -> pa.Table:
        """Rows with pseudonyms for persons who were erased.

        Raises:
            HistoryError: when there are some, and the key to recognise them is not there.
        """
        there = self._history.fetch("SELECT to_regclass('public.erased_entities') IS NOT NULL AS there", None, math.inf)
        if not there["there"][0].as_py():
            return rows
        try:
            erased = erased_by(self._history.fetch(ERASED, None, math.inf).to_pylist(), self._erasure_key)
        except ErasureError as error:
            raise HistoryError(str(error)) from error
        return erased.renamed(rows, self._entities, self._personal) if erased else rows

    def newer(self) -> pa.Table:
        """What others have stored since this was last asked."""
        rows = self._history.fetch(
            f"SELECT number, {self._columns()} FROM recent_transactions r WHERE number > $1 AND writer <> $2",
            pa.record_batch([pa.array([self._seen]), pa.array([self._writer])], names=["seen", "writer"]),
            math.inf,
        )
        if rows.num_rows:
            self._seen = max(rows["number"].to_pylist())
        return self._conform(rows)

    def of(self, wanted: Mapping[str, pa.Table], until: float = math.inf) -> pa.Table:
        """Transactions of some values of entities; one may come once for each.

        Args:
            wanted: by entity, `id`, `since` and `until`.
            until: as in `History.before`.
        """
        parts, arrays = [], list[pa.Array]()
        for entity, spans in wanted.items():
            parts.append(
                f"""
                (SELECT {self._columns()} FROM {spans_sql(_TYPES[self._schema.field(entity).type], len(arrays) + 1)}
                JOIN recent_transactions r
                  ON r.{quoted(entity)} = w.id AND r.event_timestamp BETWEEN w.since AND w.until)
                """
            )
            arrays += span_arrays(spans)
        names = [str(place) for place in range(len(arrays))]
        rows = self._history.fetch(" UNION ALL ".join(parts), pa.record_batch(arrays, names=names), until)
        return self._conform(rows)

    def held(self, months: Collection[str], known: Collection[Any]) -> list[Any]:
        """Which of some transactions are in months of raw_transactions.

        Args:
            months: names of their tables, quoted where they need it.
            known: ids.
        """
        kind = self._schema.field("transaction_id").type
        ids = pa.ListArray.from_arrays([0, len(known)], pa.array(list(known), kind))
        found = []
        for month in months:
            rows = self._history.fetch(
                f"SELECT transaction_id FROM {month} WHERE transaction_id = ANY($1::{_TYPES[kind]}[])",
                pa.record_batch([ids], names=["ids"]),
                math.inf,
            )
            found += rows["transaction_id"].to_pylist()
        return found

    def forget(self, months: Collection[str]) -> None:
        """Deletes what is in some months of raw_transactions now."""
        for month in months:
            self._history.fetch(
                f"DELETE FROM recent_transactions r USING {month} t WHERE t.transaction_id = r.transaction_id",
                None,
                math.inf,
            )

    def _columns(self) -> str:
        return ", ".join(f"r.{quoted(name)}" for name in self._schema.names)

    def _conform(self, rows: pa.Table) -> pa.Table:
        return rows.select(self._schema.names).cast(self._schema)
