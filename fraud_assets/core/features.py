"""Features of transactions, each from what was known strictly before the transaction happened.

The one definition of every feature, as Ibis expressions: training, batch scoring and the service all call
`compute_features`. Where history comes from, and where features go, belongs to the callers.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from fraud_assets.core.contract import Contract

TIMESTAMP = pa.timestamp("us", tz="UTC")
DAY = 86_400_000_000
WINDOWS = (1, 7, 30)
HISTORY_DAYS = max(WINDOWS)
# A terminal with one transaction and one fraud is no proof: shares are drawn towards zero by so many transactions.
SMOOTHING = 10
# Columns of ours beside those of the contract, whose attributes may have any name.
MOMENT, ROW, TARGET = "@moment", "@row", "@target"
ROWS, REPORTS = "feature_rows", "feature_reports"
MONDAY_EPOCH_SHIFT = 3  # 1970-01-01 was a Thursday


def feature_names(contract: Contract) -> tuple[str, ...]:
    """The features that a contract's columns allow, in the order in which models take them."""
    names = ["hour", "is_weekend"]
    if contract.amount:
        names.append("amount")
    for entity in contract.entities:
        names += [_name(entity, feature) for feature in _entity_features(contract)]
    names += [name for name, column in contract.attributes.items() if column.feature]
    return tuple(names)


def _name(entity: str, feature: str) -> str:
    return f"{entity.removesuffix('_id')}_{feature}"


def _entity_features(contract: Contract) -> list[str]:
    names = [f"count_{days}d" for days in WINDOWS]
    if contract.amount:
        names += [f"amount_mean_{days}d" for days in WINDOWS]
        names += [
            f"amount_ratio_{HISTORY_DAYS}d",
            f"amount_z_{HISTORY_DAYS}d",
            f"amount_over_max_{HISTORY_DAYS}d",
        ]
    names.append("days_since_last")
    names += [f"known_frauds_{days}d" for days in WINDOWS[1:]]
    return [*names, f"known_fraud_share_{HISTORY_DAYS}d", "days_since_known_fraud"]


def compute_features(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    """Features of the transactions with `start <= event_timestamp < end`.

    Everything about an entity (a customer, a terminal) is taken from transactions with an earlier
    `event_timestamp` and label statements with an earlier `label_timestamp`, at most `HISTORY_DAYS` before.

    Args:
        transactions: canonical columns (`Contract.transactions_schema`), history included.
        statements: rows of `Contract.labels_schema`, of any time.
        contract: says which entities, amount and attributes there are.
        start: the first instant to compute features for, with a time zone.
        end: the first instant after.

    Returns:
        `transaction_id`, `event_timestamp`, the entities, then `feature_names(contract)` as float32 (null where
        there is nothing to say), ordered by `event_timestamp` and `transaction_id`.
    """
    rows, reports = _inputs(transactions, statements, contract, _microseconds(start), _microseconds(end))
    with _database().cursor() as connection:
        connection.register(ROWS, rows)
        connection.register(REPORTS, reports)
        arrow = connection.sql(_duckdb_query(contract.model_dump_json())).to_arrow_table()
    return arrow.set_column(1, "event_timestamp", arrow["event_timestamp"].cast(TIMESTAMP))


def feature_expression(contract: Contract) -> ibis.Table:
    """All features of a contract as one Ibis expression, the same for every call.

    It reads two tables without data, `ROWS` and `REPORTS`, which `compute_features` fills. No constant in it
    depends on a call: which rows are asked for is a column, so that its SQL is made once.
    """
    rows = ibis.table(ibis.Schema.from_pyarrow(_rows_schema(contract)), name=ROWS)
    reports = ibis.table(ibis.Schema.from_pyarrow(_reports_schema(contract)), name=REPORTS)
    changes = _fraud_changes(reports)
    result = rows.filter(_[TARGET])
    day_number = _[MOMENT] // DAY
    result = result.mutate(
        hour=(_[MOMENT] % DAY) / (DAY / 24),
        is_weekend=((day_number + MONDAY_EPOCH_SHIFT) % 7 >= 5).cast("int8"),
    )
    for entity in contract.entities:
        result = result.left_join(_history(rows, changes, entity, contract), ROW)
        result = result.drop(f"{ROW}_right")
    return result.select(
        "transaction_id",
        "event_timestamp",
        *contract.entities,
        *(result[name].cast("float32").name(name) for name in feature_names(contract)),
    ).order_by("event_timestamp", "transaction_id")


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    """An empty database in memory; making one takes as long as the features of a few rows."""
    return duckdb.connect()


# Making the SQL takes a fifth of a second, running it on the few rows of a request a tenth of that.
@lru_cache(maxsize=8)
def _duckdb_query(contract_json: str) -> str:
    return str(ibis.to_sql(feature_expression(Contract.model_validate_json(contract_json)), dialect="duckdb"))


def _rows_schema(contract: Contract) -> pa.Schema:
    own = [pa.field(MOMENT, pa.int64()), pa.field(ROW, pa.int64()), pa.field(TARGET, pa.bool_())]
    return _nullable(contract.transactions_schema(), own)


def _reports_schema(contract: Contract) -> pa.Schema:
    return _nullable(contract.labels_schema(), [pa.field("t", pa.int64())])


def _nullable(schema: pa.Schema, further: list[pa.Field]) -> pa.Schema:
    """Ibis takes a column that may be null and one that may not for different types."""
    return pa.schema([*(pa.field(field.name, field.type) for field in schema), *further])


def _inputs(
    transactions: pa.Table, statements: pa.Table, contract: Contract, start: int, end: int
) -> tuple[pa.Table, pa.Table]:
    """The two tables of the expression: rows from the longest window before `start`, and statements before `end`."""
    moment = transactions["event_timestamp"].cast(TIMESTAMP).cast(pa.int64())
    rows = transactions.select(contract.transactions_schema().names)
    for name, values in (
        (MOMENT, moment),
        (ROW, pa.array(np.arange(rows.num_rows))),
        (TARGET, pc.greater_equal(moment, start)),
    ):
        rows = rows.append_column(name, values)
    rows = rows.filter(pc.and_(pc.greater_equal(moment, start - HISTORY_DAYS * DAY), pc.less(moment, end)))
    known = statements["label_timestamp"].cast(TIMESTAMP).cast(pa.int64())
    reports = statements.select(contract.labels_schema().names).append_column("t", known).filter(pc.less(known, end))
    return rows.cast(_rows_schema(contract)), reports.cast(_reports_schema(contract))


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, TIMESTAMP).value)


def _fraud_changes(reports: ibis.Table) -> ibis.Table:
    """Statements as changes of the number of known frauds: +1 when one becomes known, -1 when it is withdrawn.

    As in `labels_as_of`, what is withdrawn (null) is no fraud, and nothing can be known before it happened.
    """
    reports = reports.filter(reports.label_timestamp >= reports.event_timestamp)
    reports = reports.mutate(is_fraud=reports.is_fraud.fill_null(False))
    window = ibis.window(group_by="transaction_id", order_by=["t", "is_fraud"])
    fraud = reports.is_fraud.cast("int64")
    changes = reports.mutate(change=fraud - fraud.lag().over(window).fill_null(0))
    return changes.filter(_.change != 0)


def _history(table: ibis.Table, changes: ibis.Table, entity: str, contract: Contract) -> ibis.Table:
    """One row per transaction that is asked for: the entity's features, from a single stream of its events."""
    number = ibis.literal(None, type="int64")
    amount = table.amount if contract.amount else ibis.literal(None, type="float64")
    events = table.select(
        row=table[ROW], t=table[MOMENT], entity=table[entity], amount=amount, seen=table[MOMENT],
        target=table[TARGET], change=ibis.literal(0, type="int64"), reported=number,
    ).union(
        changes.select(
            row=number, t=changes.t, entity=changes[entity], amount=ibis.literal(None, type="float64"), seen=number,
            target=ibis.literal(False), change=changes.change,
            reported=ibis.ifelse(changes.change > 0, changes.t, number),
        )
    )  # fmt: skip
    events = events.filter(_.entity.notnull())
    columns: dict[str, ibis.Value] = {}
    for days in WINDOWS:
        # Integer microseconds: "1 preceding" is strictly before, and ties do not see each other.
        window = ibis.range_window(preceding=(days * DAY, 1), group_by="entity", order_by="t")
        columns[f"count_{days}d"] = _.seen.count().over(window)
        if contract.amount:
            columns[f"amount_mean_{days}d"] = _.amount.mean().over(window)
        if days > WINDOWS[0]:
            # A report may have left the window before its withdrawal came into it.
            columns[f"known_frauds_{days}d"] = ibis.greatest(_.change.sum().over(window).fill_null(0), 0)
        if days == HISTORY_DAYS:
            columns["last"] = _.seen.max().over(window)
            columns["last_report"] = _.reported.max().over(window)
            if contract.amount:
                columns["spread"] = _.amount.std(how="pop").over(window)
                columns["largest"] = _.amount.max().over(window)
    events = events.mutate(**columns).filter(_.target)
    derived: dict[str, ibis.Value] = {
        "days_since_last": (_.t - _.last) / DAY,
        "days_since_known_fraud": (_.t - _.last_report) / DAY,
        f"known_fraud_share_{HISTORY_DAYS}d": _[f"known_frauds_{HISTORY_DAYS}d"]
        / (_[f"count_{HISTORY_DAYS}d"] + SMOOTHING),
    }
    if contract.amount:
        mean = _[f"amount_mean_{HISTORY_DAYS}d"]
        # One unit of currency keeps a history of nothing but zeros from dividing by zero, and so do sizes where
        # refunds make amounts negative.
        derived[f"amount_ratio_{HISTORY_DAYS}d"] = _.amount / (mean.abs() + 1)
        derived[f"amount_z_{HISTORY_DAYS}d"] = (_.amount - mean) / (_.spread + 1)
        derived[f"amount_over_max_{HISTORY_DAYS}d"] = _.amount / (_.largest.abs() + 1)
    events = events.mutate(**derived)
    return events.select(
        **{ROW: events.row}, **{_name(entity, feature): events[feature] for feature in _entity_features(contract)}
    )
