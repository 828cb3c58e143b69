"""Features of transactions, each from what was known strictly before the transaction happened.

The one definition of every feature, as Ibis expressions: training, batch scoring and the service all call
`compute_features`. Where history comes from, and where features go, belongs to the callers.
"""

from __future__ import annotations

from datetime import datetime

import ibis
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
MOMENT, ROW = "@moment", "@row"
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
    rows = transactions.append_column(MOMENT, transactions["event_timestamp"].cast(TIMESTAMP).cast(pa.int64()))
    rows = rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))
    reports = statements.append_column("t", statements["label_timestamp"].cast(TIMESTAMP).cast(pa.int64()))
    low = _microseconds(start) - HISTORY_DAYS * DAY
    rows = rows.filter(pc.and_(pc.greater_equal(rows[MOMENT], low), pc.less(rows[MOMENT], _microseconds(end))))
    reports = reports.filter(pc.less(reports["t"], _microseconds(end)))

    rows, reports = _nullable(rows), _nullable(reports)
    backend = ibis.duckdb.connect()
    try:
        table = ibis.memtable(rows)
        changes = _fraud_changes(ibis.memtable(reports))
        result = table.filter(_[MOMENT] >= _microseconds(start))
        day_number = _[MOMENT] // DAY
        result = result.mutate(
            hour=(_[MOMENT] % DAY) / (DAY / 24),
            is_weekend=((day_number + MONDAY_EPOCH_SHIFT) % 7 >= 5).cast("int8"),
        )
        for entity in contract.entities:
            result = result.left_join(_history(table, changes, entity, contract, _microseconds(start)), ROW)
            result = result.drop(f"{ROW}_right")
        names = feature_names(contract)
        result = result.select(
            "transaction_id",
            "event_timestamp",
            *contract.entities,
            *(result[name].cast("float32").name(name) for name in names),
        ).order_by("event_timestamp", "transaction_id")
        arrow = backend.to_pyarrow(result)
    finally:
        backend.disconnect()
    return arrow.set_column(1, "event_timestamp", arrow["event_timestamp"].cast(TIMESTAMP))


def _nullable(rows: pa.Table) -> pa.Table:
    """Ibis takes a column that may be null and one that may not for different types."""
    return rows.cast(pa.schema([pa.field(field.name, field.type) for field in rows.schema]))


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, TIMESTAMP).value)


def _fraud_changes(reports: ibis.Table) -> ibis.Table:
    """Statements as changes of the number of known frauds: +1 when one becomes known, -1 when it is withdrawn."""
    window = ibis.window(group_by="transaction_id", order_by=["t", "is_fraud"])
    fraud = reports.is_fraud.cast("int64")
    changes = reports.mutate(change=fraud - fraud.lag().over(window).fill_null(0))
    return changes.filter(_.change != 0)


def _history(table: ibis.Table, changes: ibis.Table, entity: str, contract: Contract, start: int) -> ibis.Table:
    """One row per transaction since `start`: the entity's features, from a single stream of its events."""
    number = ibis.literal(None, type="int64")
    amount = table.amount if contract.amount else ibis.literal(None, type="float64")
    events = table.select(
        row=table[ROW], t=table[MOMENT], entity=table[entity], amount=amount, seen=table[MOMENT],
        change=ibis.literal(0, type="int64"), reported=number,
    ).union(
        changes.select(
            row=number, t=changes.t, entity=changes[entity], amount=ibis.literal(None, type="float64"), seen=number,
            change=changes.change, reported=ibis.ifelse(changes.change > 0, changes.t, number),
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
    events = events.mutate(**columns).filter(_.row.notnull() & (_.t >= start))
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
