"""History: what the database knows of the customers and terminals of a batch, and the batch's features with it.

Reads `raw_transactions` and `fraud_labels`, nothing else, and writes nothing. How features are computed belongs to
`fraud_assets.core.features.declarations`.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import adbc_driver_manager
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.online.connecting import connect
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import history_days, spending_entity

logger = logging.getLogger("bentoml.fraud_scorer")

DATABASE_VARIABLE = "FRAUD_DATABASE_URL"
# A caller waits: better an honest 503 than a request that hangs.
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 10
# What an answer may take beyond that before the connection is given up: a server that stands still keeps no limit.
ANSWER_SECONDS = 1.0
STATEMENT_TIMED_OUT = "57014"  # PostgreSQL's query_canceled
UNREACHABLE = f"the database of {DATABASE_VARIABLE} cannot be reached or did not answer in time"

TIMESTAMP = pa.timestamp("us", tz="UTC")
# Later than anything that is stored: the year 2200, in microseconds since 1970.
FAR = 7_258_118_400_000_000
POSTGRES_TYPES = {
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
}


class HistoryError(ConnectionError):
    """History cannot be read; the message is fit for a caller and holds no part of the database's URL."""


class HistoryAwayError(HistoryError):
    """The database is not there now, or did not answer in time; it may in a moment."""


class _Connection:
    """A connection that a thread of its own uses, so that whoever asks can stop waiting and leave it behind.

    libpq waits for ever for a server that stands still, and ADBC does not let its socket be closed.
    """

    def __init__(self, url: str, name: str, statement_seconds: float) -> None:
        self._url, self._name, self._statement_seconds = url, name, statement_seconds
        self._asked: queue.SimpleQueue[tuple[str, pa.RecordBatch | None] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[pa.Table | Exception] = queue.SimpleQueue()
        # A daemon, because a process must be able to end while the database hangs.
        self._thread = threading.Thread(target=self._serve, name="history", daemon=True)
        self._thread.start()

    def fetch(self, sql: str, parameters: pa.RecordBatch | None, seconds: float) -> pa.Table:
        """The rows of a statement.

        Raises:
            TimeoutError: when there is no answer in this time; the connection is of no use then.
            adbc_driver_manager.Error: as the database says.
        """
        self._asked.put((sql, parameters))
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no answer within {seconds:.1f} s") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self, *, wait: bool = True) -> None:
        """Closes it, at the latest when the database has answered."""
        self._asked.put(None)
        if wait:
            self._thread.join(CONNECT_SECONDS)

    def _serve(self) -> None:
        connection: Any = None
        while (statement := self._asked.get()) is not None:
            try:
                if connection is None:
                    connection = connect(self._url, self._name, CONNECT_SECONDS, self._statement_seconds)
                with connection.cursor() as cursor:
                    cursor.execute(*statement)
                    self._answers.put(cursor.fetch_arrow_table())
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                self._answers.put(error)
        if connection is not None:
            connection.close()


# By entity, of its values `id`, `since` and `until`; and the moment after which nobody waits.
More = Callable[[Mapping[str, pa.Table], float], pa.Table]


class History:
    """The transactions and label statements before a batch, by customer and by terminal.

    Holds one connection, made at first use and again after it broke; calls take turns.
    """

    def __init__(
        self,
        url: str,
        contract: Contract,
        *,
        name: str = "fraud history",
        more: More | None = None,
        statement_seconds: int | None = None,
    ) -> None:
        """Takes a `postgresql://` URL; connects to nothing yet.

        Args:
            url: the database.
            contract: says which columns and entities there are.
            name: by which the database's administrator knows the connection.
            more: gives transactions that are in no month yet, of an entity in some spans; a month's come before these.
            statement_seconds: that a statement may take; `STATEMENT_SECONDS` when absent.

        Raises:
            ValueError: for a URL of another kind.
        """
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError(f"{DATABASE_VARIABLE} must begin with postgresql://")
        self._url = url
        self._contract = contract
        self._name = name
        self._more = more
        self._statement_seconds = statement_seconds
        self._connection: _Connection | None = None
        self._lock = threading.Lock()

    def before(self, batch: pa.Table, until: float = math.inf) -> tuple[pa.Table, pa.Table]:
        """What features of a batch can depend on.

        Args:
            batch: transactions, columns as in `Contract.transactions_schema`.
            until: the moment, by `time.monotonic`, after which nobody waits for it any more.

        Returns:
            The stored transactions of the batch's entities, from as far back as features look before an entity's
            first transaction in the batch to its last, without those that are themselves in the batch; the
            statements about the entities' transactions that became known in that time, each with the earlier
            statements about the same transaction, without which a withdrawal could not be told from a first
            report; and the same of those who spent in the reported frauds, up to each of these.

        Raises:
            HistoryError: when the database cannot be reached or lacks the tables.
        """
        transactions, known = self.around(batch, until)
        seen = pc.is_in(transactions["transaction_id"], batch["transaction_id"].combine_chunks())
        return transactions.filter(pc.invert(seen)), known

    def around(self, batch: pa.Table, until: float = math.inf) -> tuple[pa.Table, pa.Table]:
        """As `before`, with those that are themselves in the batch, as far as they are stored."""
        days = {entity: history_days(self._contract, entity) for entity in self._contract.entities}
        wanted = {entity: _wanted(batch, entity, timedelta(days=before)) for entity, before in days.items()}
        return self._with_spenders(wanted, until)

    def since(self, wanted: Mapping[str, Mapping[Any, int]], until: float = math.inf) -> tuple[pa.Table, pa.Table]:
        """What features of some entities' transactions can depend on, whenever these happen.

        Args:
            wanted: by entity, of each value the moment from which on it is needed, in microseconds since 1970.
            until: as in `before`.

        Returns:
            As `before`, but from these moments on, to the last that is stored.

        Raises:
            HistoryError: as `before`.
        """
        schema, spans = self._contract.transactions_schema(), {}
        for entity, moments in wanted.items():
            spans[entity] = pa.table(
                {
                    "id": pa.array(list(moments), schema.field(entity).type),
                    "since": pa.array(list(moments.values()), pa.int64()).cast(TIMESTAMP),
                    "until": pa.repeat(FAR, len(moments)).cast(TIMESTAMP),
                }
            )
        return self._with_spenders(spans, until)

    def check(self, until: float = math.inf) -> None:
        """Returns when everything that `before` asks can be answered: each statement, about nothing.

        Args:
            until: as in `before`.

        Raises:
            HistoryError: otherwise.
        """
        wanted = {}
        for entity in self._contract.entities:
            kind = self._contract.transactions_schema().field(entity).type
            nothing = pa.schema([(entity, kind), ("event_timestamp", TIMESTAMP)]).empty_table()
            wanted[entity] = _wanted(nothing, entity, timedelta())
        for sql_of in (self._transactions_sql, self._statements_sql):
            self.fetch(_united(wanted, sql_of), _arrays(wanted), until)

    def close(self) -> None:
        """Closes the connection, if there is one."""
        with self._lock:
            self._disconnect()

    def _with_spenders(self, wanted: Mapping[str, pa.Table], until: float) -> tuple[pa.Table, pa.Table]:
        """What is stored in some spans, each row once, and what is needed of those who spent in the frauds among it."""
        stored, statements = self._in(wanted, until)
        if (spender := spending_entity(self._contract)) and statements.num_rows:
            frauds = statements.filter(pc.field("is_fraud"))
            days = timedelta(days=self._contract.window_days + self._contract.maturity_days)
            rows, known = self._in({spender: _wanted(frauds, spender, days)}, until)
            stored, statements = pa.concat_tables([stored, rows]), pa.concat_tables([statements, known])
        keys = ["transaction_id", "label_timestamp", "is_fraud", "label_source"]
        return _distinct(stored, ["transaction_id"]), _distinct(statements, keys)

    def _in(self, wanted: Mapping[str, pa.Table], until: float) -> tuple[pa.Table, pa.Table]:
        """Transactions in some spans of entities, as `_wanted` gives them, and the statements of that time."""
        schemas = self._contract.transactions_schema(), self._contract.labels_schema()
        wanted = {entity: spans for entity, spans in wanted.items() if spans.num_rows}
        if not wanted:
            return schemas[0].empty_table(), schemas[1].empty_table()
        # All entities at once: going to the database and back takes longer than what it looks up.
        parameters = _arrays(wanted)
        rows = self._read(_united(wanted, self._transactions_sql), parameters, until, schemas[0])
        if self._more is not None:
            rows = pa.concat_tables([rows, self._more(wanted, until)])
        return rows, self._read(_united(wanted, self._statements_sql), parameters, until, schemas[1])

    def _transactions_sql(self, entity: str, first: int) -> str:
        """Of one entity, whose parameters begin with this number."""
        columns = ", ".join(f"t.{quoted(name)}" for name in self._contract.transactions_schema().names)
        return f"""
            SELECT {columns} FROM {self._spans(entity, first)}
            JOIN raw_transactions t
              ON t.{quoted(entity)} = w.id AND t.event_timestamp BETWEEN w.since AND w.until
            WHERE t.event_timestamp BETWEEN ${first + 3} AND ${first + 4}
        """

    def _statements_sql(self, entity: str, first: int) -> str:
        columns = ", ".join(f"s.{quoted(name)}" for name in self._contract.labels_schema().names)
        return f"""
            WITH reported AS (
                SELECT l.transaction_id, max(w.until) AS until FROM {self._spans(entity, first)}
                JOIN fraud_labels l
                  ON l.{quoted(entity)} = w.id AND l.label_timestamp BETWEEN w.since AND w.until
                WHERE l.label_timestamp BETWEEN ${first + 3} AND ${first + 4}
                GROUP BY l.transaction_id
            )
            SELECT {columns} FROM reported
            JOIN fraud_labels s
              ON s.transaction_id = reported.transaction_id AND s.label_timestamp <= reported.until
        """

    def _spans(self, entity: str, first: int) -> str:
        return spans_sql(POSTGRES_TYPES[self._contract.transactions_schema().field(entity).type], first)

    def _read(self, sql: str, parameters: pa.RecordBatch, until: float, schema: pa.Schema) -> pa.Table:
        table = self.fetch(sql, parameters, until)
        return table.select(schema.names).cast(schema)

    def fetch(self, sql: str, parameters: pa.RecordBatch | None, until: float) -> pa.Table:
        """The rows of a statement; of one without rows, none.

        Args:
            sql: with the places of parameters as PostgreSQL writes them.
            parameters: a row of them.
            until: as in `before`.

        Raises:
            HistoryError: when the database cannot be reached, does not answer in time, or refuses.
        """
        most = CONNECT_SECONDS + self._limit + ANSWER_SECONDS
        until = min(until, time.monotonic() + most)
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise self._late()
        try:
            # A connection that was good before may have been cut since: then a new one is tried, once.
            for last in (self._connection is None, True):
                if (left := until - time.monotonic()) <= 0:
                    raise self._late()
                try:
                    if self._connection is None:
                        self._connection = _Connection(self._url, self._name, self._limit)
                    return self._connection.fetch(sql, parameters, left)
                except TimeoutError:
                    self._disconnect(wait=False)
                    raise self._late() from None
                except adbc_driver_manager.Error as error:
                    self._disconnect()
                    cut = isinstance(error, adbc_driver_manager.OperationalError)
                    if last or not cut or error.sqlstate == STATEMENT_TIMED_OUT:
                        raise self._unreachable(error) from None
        finally:
            self._lock.release()
        raise AssertionError("unreachable")

    @property
    def _limit(self) -> int:
        """Seconds that a statement may take."""
        return STATEMENT_SECONDS if self._statement_seconds is None else self._statement_seconds

    def _disconnect(self, *, wait: bool = True) -> None:
        if self._connection is not None:
            self._connection.close(wait=wait)
            self._connection = None

    def _late(self) -> HistoryError:
        logger.error("history cannot be read: the database did not answer in time")
        return HistoryAwayError(UNREACHABLE)

    def _unreachable(self, error: adbc_driver_manager.Error) -> HistoryError:
        # libpq repeats a URL it cannot read, password included.
        logger.error("history cannot be read: %s", str(error).replace(self._url, DATABASE_VARIABLE).strip())
        if isinstance(error, adbc_driver_manager.ProgrammingError):
            return HistoryError(
                f"the database of {DATABASE_VARIABLE} holds no history for this model: raw_transactions or "
                "fraud_labels, or one of their columns, cannot be read"
            )
        return HistoryAwayError(UNREACHABLE)


def features_with_history(
    batch: pa.Table, contract: Contract, history: History | None, until: float = math.inf
) -> pa.Table:
    """Features of transactions that are not stored, from themselves and what is stored before them.

    The one way for the service and for files that are scored.

    Args:
        batch: one or more transactions, columns as in `Contract.transactions_schema`.
        contract: of the model that scores them.
        history: where stored rows are; None where the contract has no entities and nothing is looked up.
        until: as in `History.before`.

    Returns:
        As `compute_features`, in the batch's order.

    Raises:
        HistoryError: when history cannot be read.
        ValueError: when there is none, and the contract has entities.
    """
    stored, statements = contract.transactions_schema().empty_table(), contract.labels_schema().empty_table()
    if contract.entities:
        if history is None:
            raise ValueError(f"features of {', '.join(contract.entities)} need history: name a database")
        stored, statements = history.before(batch, until)
    return features_from(batch, stored, statements, contract)


def features_from(batch: pa.Table, stored: pa.Table, statements: pa.Table, contract: Contract) -> pa.Table:
    """Features of transactions in their order, as `compute_features`, from what `History.before` gives."""
    # Where it is used: it loads numba, for a second that whoever only looks a table up shall not wait.
    from fraud_assets.core.features.kernel import compute_features

    transactions = pa.concat_tables([stored, batch])
    moments = pc.min_max(batch["event_timestamp"]).as_py()
    end = moments["max"] + timedelta(microseconds=1)
    features = compute_features(transactions, statements, contract, start=moments["min"], end=end)
    return features.take(pc.index_in(batch["transaction_id"], features["transaction_id"].combine_chunks()))


def _wanted(rows: pa.Table, entity: str, before: timedelta) -> pa.Table:
    """One row per entity that occurs: its id, and the first and last instant to read."""
    rows = rows.select([entity, "event_timestamp"])
    rows = rows.filter(pc.and_(pc.is_valid(rows[entity]), pc.is_valid(rows["event_timestamp"])))
    spans = rows.group_by(entity).aggregate([("event_timestamp", "min"), ("event_timestamp", "max")])
    return pa.table(
        {
            "id": spans[entity],
            "since": pc.subtract(spans["event_timestamp_min"], pa.scalar(before)).cast(TIMESTAMP),
            "until": spans["event_timestamp_max"].cast(TIMESTAMP),
        }
    )


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def spans_sql(kind: str, first: int) -> str:
    """Spans of an entity of a type as a table `w`, from parameters that begin with a number."""
    return (
        f"unnest(${first}::{kind}[], ${first + 1}::timestamptz[], ${first + 2}::timestamptz[]) AS w(id, since, until)"
    )


def _united(wanted: Mapping[str, pa.Table], sql_of: Callable[[str, int], str]) -> str:
    """One statement for several entities; a row may come once for each."""
    return " UNION ALL ".join(f"({sql_of(entity, 1 + 5 * place)})" for place, entity in enumerate(wanted))


def _arrays(wanted: Mapping[str, pa.Table]) -> pa.RecordBatch:
    """Parameters: of each entity three arrays, and the span over all of it, by which months are skipped."""
    values: list[pa.Array] = []
    for spans in wanted.values():
        values += span_arrays(spans)
        values += [pa.array([pc.min(spans["since"])], TIMESTAMP), pa.array([pc.max(spans["until"])], TIMESTAMP)]
    return pa.record_batch(values, names=[str(place) for place in range(len(values))])


def span_arrays(spans: pa.Table) -> list[pa.Array]:
    """The columns of spans, each as one array in one row."""
    return [pa.ListArray.from_arrays([0, spans.num_rows], spans[name].combine_chunks()) for name in spans.column_names]


def _distinct(table: pa.Table, keys: list[str]) -> pa.Table:
    """The first row of each key: a row can be found by its customer and again by its terminal."""
    position = pa.array(range(table.num_rows), pa.int64())
    firsts = table.select(keys).append_column("position", position).group_by(keys).aggregate([("position", "min")])
    return table.take(firsts["position_min"].sort())
