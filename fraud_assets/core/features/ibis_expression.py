"""The features of a contract as one Ibis expression: SQL for DuckDB, Spark and Postgres.

For data that outgrow one machine (Spark), and as the reference that `kernel.py` is held to. Engines other than DuckDB
in process belong to `adapters/engines.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis import _

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.arrays import TIMESTAMP, microseconds
from fraud_assets.core.features.declarations import (
    CHANGE,
    EVENT_DAY,
    GENUINE,
    JUDGED_DAYS,
    LOCAL,
    MEASURES,
    MOMENT,
    MONDAY_EPOCH_SHIFT,
    NIGHT,
    NIGHT_HOURS,
    OVER_MAX,
    TODAY,
    WEEKEND,
    Declared,
    date_columns,
    declared_features,
    feature_names,
    history_days,
    in_hours,
    says_genuine,
    shown_attributes,
    spending_entity,
    text_features,
)
from fraud_assets.core.features.expressions import (
    Aggregate,
    Column,
    Constant,
    Expression,
    Operation,
    aggregates,
    columns,
)
from fraud_assets.core.units import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR

# Beside the columns of `declarations.py`: which row it is, and whether its features are asked for; of a statement,
# when it became known, when its transaction happened, and whether it withdraws what was said before.
ROW, TARGET = "@row", "@target"
KNOWN, EVENT, WITHDRAWS = "@known", "@event", "@withdraws"
OF_REPORTS = "@of reports"  # whether an event of an entity is a change of its known frauds
ROWS, REPORTS = "feature_rows", "feature_reports"


def compute_with_duckdb(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    """What `kernel.compute_features` takes and returns, by DuckDB in this process."""
    rows, reports = feature_inputs(transactions, statements, contract, start=start, end=end)
    # What does not fit into memory goes to disk, by default into the folder in which the command runs.
    with TemporaryDirectory() as folder, duckdb.connect(config={"temp_directory": folder}) as connection:
        # It would be drawn to stdout where DuckDB takes the process for an interactive one, as `python -c` is.
        connection.execute("SET enable_progress_bar = false")
        connection.register(ROWS, rows)
        connection.register(REPORTS, reports)
        arrow = connection.sql(duckdb_query(contract.model_dump_json())).to_arrow_table()
    return arrow.set_column(1, "event_timestamp", arrow["event_timestamp"].cast(TIMESTAMP))


# Making the SQL takes a good part of a second.
@lru_cache(maxsize=8)
def duckdb_query(contract_json: str) -> str:
    """The SQL of a contract's features."""
    return str(ibis.to_sql(feature_expression(Contract.model_validate_json(contract_json)), dialect="duckdb"))


def feature_expression(contract: Contract) -> ibis.Table:
    """All features of a contract as one Ibis expression, the same for every call and every engine.

    It reads two tables without data, `ROWS` and `REPORTS`, which `feature_inputs` makes. No constant in it depends
    on a call: which rows are asked for is a column, so that its SQL is made once.

    Raises:
        FeatureError: for a feature of a column that the contract does not have.
    """
    rows = ibis.table(ibis.Schema.from_pyarrow(_rows_schema(contract)), name=ROWS)
    reports = ibis.table(ibis.Schema.from_pyarrow(_reports_schema(contract)), name=REPORTS)
    rows = rows.mutate(
        **{
            WEEKEND: _number(_remainder(_[TODAY] + MONDAY_EPOCH_SHIFT, 7) >= 5),
            NIGHT: _number(_remainder(_[LOCAL], MICROSECONDS_PER_DAY) < NIGHT_HOURS * MICROSECONDS_PER_HOUR),
        }
    )
    maturity = round(contract.maturity_days * MICROSECONDS_PER_DAY)
    declared = declared_features(contract)
    result = rows.filter(_[TARGET])
    values: dict[str, ibis.Value] = {}
    if declared:
        spender = spending_entity(contract)
        seen = _settle(rows, reports, contract, maturity)
        if spender:
            seen = _compare_amounts(seen, spender, maturity, contract)
        of_entities: dict[tuple[str, ...], list[Declared]] = {}
        for one in declared:
            of_entities.setdefault(one.entities, []).append(one)
        for entities, features in of_entities.items():
            history = _history(seen, reports, entities, spender, features, maturity)
            result = result.left_join(history, ROW).drop(f"{ROW}_right")
    result = result.mutate(
        hour=_remainder(_[LOCAL], MICROSECONDS_PER_DAY) / MICROSECONDS_PER_HOUR,
        is_weekend=_[WEEKEND],
        **_attributes(result, contract),
    )
    of = {one.name: one for one in declared}
    for name in feature_names(contract):
        value = result[name]
        # Rows without a customer are nobody's history, not each other's.
        if name in of:
            named = [result[entity].notnull() for entity in of[name].entities]
            value = ibis.ifelse(ibis.and_(*named), value, ibis.null("float64"))
        values[name] = value.cast("float32")
    values |= {name: result[name] for name in text_features(contract)}
    return result.select("transaction_id", "event_timestamp", *contract.entities, **values).order_by(
        "event_timestamp", "transaction_id"
    )


def _value(expression: Expression, table: ibis.Table, found: dict[Aggregate, str]) -> ibis.Value:
    """An expression over a table in which the aggregates have been found, by name of their column."""

    def value(one: Expression) -> Any:
        match one:
            case Operation():
                return OPERATORS[one.operator](*(value(operand) for operand in one.operands))
            case Aggregate():
                return table[found[one]]
            case Column():
                column = table[one.name]
                return _number(column) if column.type().is_boolean() else column
            case Constant():
                return ibis.literal(one.value)

    return value(expression)


def _null_safe(pick: Any) -> Any:
    """With the larger or smaller of two values only where both are there: `greatest` of engines skips nulls."""
    return lambda a, b: ibis.ifelse(a.notnull() & b.notnull(), pick(a, b), ibis.null("float64"))


OPERATORS: dict[str, Any] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a.cast("float64") / b.cast("float64").nullif(0),
    "at_least": _null_safe(ibis.greatest),
    "at_most": _null_safe(ibis.least),
    "abs": lambda a: a.abs(),
    "round": lambda a: a.round().cast("int64"),
    "or_else": lambda a, b: a.fill_null(b),
    "where": lambda a, b: ibis.ifelse(b.fill_null(0) > 0, a, ibis.null(a.type())),
}


def _number(condition: Any) -> Any:
    """1 or 0, and null where it is neither true nor false; Postgres casts a boolean to no integer but its own."""
    return ibis.ifelse(condition.isnull(), ibis.null("int64"), ibis.ifelse(condition, 1, 0))


def _remainder(value: Any, of: int) -> Any:
    """From zero on also where the value is negative, before 1970; SQL's own has the sign of the value."""
    return (value % of + of) % of


def _attributes(rows: ibis.Table, contract: Contract) -> dict[str, ibis.Value]:
    """Those attributes as numbers that are not numbers as they are."""
    made: dict[str, Callable[[str], ibis.Value]] = {
        "boolean": lambda name: _number(rows[name]),
        "date": lambda name: rows[TODAY] - rows[name],
    }
    return {name: made[column.type](name) for name, column in shown_attributes(contract).items() if column.type in made}


def _settle(rows: ibis.Table, reports: ibis.Table, contract: Contract, maturity: int) -> ibis.Table:
    """What windows need of transactions, with whether they were genuine as far as was known when they matured."""
    stated = reports.join(rows.select("transaction_id", MOMENT), "transaction_id")
    timely = stated.filter(_[KNOWN] <= _[MOMENT] + maturity)
    # Fraud wins where statements became known at the same instant.
    verdict, levels = _number(timely.is_fraud), 2
    if says_genuine(contract):
        verdict, levels = ibis.ifelse(timely[WITHDRAWS], 0, verdict + 1), 4
    last = timely.group_by("transaction_id").agg(last=(timely[KNOWN] * levels + verdict).max())
    amount = ["amount"] if contract.amount else []
    # Nothing else: every window sorts all the columns that it carries.
    further = dict.fromkeys(name for extra in contract.features if (name := extra.of) in contract.attributes)
    narrow = rows.select(
        "transaction_id", *contract.entities, *amount, *further, MOMENT, TODAY, WEEKEND, NIGHT, ROW, TARGET
    )
    joined = narrow.left_join(last, "transaction_id").drop("transaction_id_right")
    if says_genuine(contract):
        return joined.mutate(**{GENUINE: _number((joined["last"].fill_null(0) % levels) == 1)}).drop("last")
    return joined.mutate(**{GENUINE: _number((joined["last"].fill_null(0) % levels) == 0)}).drop("last")


def _compare_amounts(seen: ibis.Table, spender: str, maturity: int, contract: Contract) -> ibis.Table:
    """Adds the measures: how each amount compares with the genuine ones of the spender's matured past."""
    measures = {name: in_hours(value, contract.window_days) for name, value in MEASURES.items()}
    found: dict[Aggregate, str] = {}
    for one in (one for value in measures.values() for one in aggregates(value)):
        found.setdefault(one, f"@usual {len(found)}")
    taken = {name: _taken(one, seen, (spender,), maturity) for one, name in found.items()}
    seen = seen.mutate(**taken)
    made = {name: _value(value, seen, found) for name, value in measures.items()}
    return seen.mutate(**made).drop(*found.values())


def _taken(one: Aggregate, events: ibis.Table, entities: tuple[str, ...], maturity: int) -> ibis.Value:
    """An aggregate over the entities' events of its hours, up to a maturity ago where it is about matured ones.

    Integer microseconds: "1 preceding" is strictly before, and ties do not see each other. What is left out is null and
    not filtered, which Spark does not have in windows.
    """
    late = maturity if one.matured else 0
    preceding = ((one.hours or 0) * MICROSECONDS_PER_HOUR + late, late + 1)
    frame = ibis.range_window(preceding=preceding, group_by=list(entities), order_by=MOMENT)
    value = _value(one.value, events, {})
    if OF_REPORTS in events.columns:
        value = ibis.ifelse(events[OF_REPORTS] == (one.events == "label changes"), value, ibis.null(value.type()))
    made = {
        "count": lambda: value.count(), "sum": lambda: value.sum(), "mean": lambda: value.mean(),
        "std": lambda: value.std(how="pop"), "min": lambda: value.min(), "max": lambda: value.max(),
        "distinct": lambda: value.collect(),  # is counted after: not every engine counts different values in windows
    }[one.function]()  # fmt: skip
    made = made.over(frame)
    return made.fill_null(0) if one.function == "count" else made


def _history(
    seen: ibis.Table,
    reports: ibis.Table,
    entities: tuple[str, ...],
    spender: str | None,
    features: list[Declared],
    maturity: int,
) -> ibis.Table:
    """One row per transaction that is asked for: the entities' features, from a single stream of their events."""
    found: dict[Aggregate, str] = {}
    wanted: set[str] = set()
    for feature in features:
        wanted |= set(columns(feature.value))
        for one in aggregates(feature.value):
            found.setdefault(one, f"@aggregate {len(found)}")
    wanted |= {MOMENT, TODAY}
    number = ibis.null("int64")
    known = [seen[entity].notnull() for entity in entities]
    of_rows = [name for name in seen.columns if name in wanted - {CHANGE, EVENT_DAY, *entities}]
    happened = seen.filter(ibis.and_(*known)).select(
        *entities, *of_rows, ROW, TARGET,
        **{OF_REPORTS: ibis.literal(False), CHANGE: number, EVENT_DAY: number},
    )  # fmt: skip
    stream = happened
    if any(one.events == "label changes" for one in found):
        changes = _fraud_changes(seen, reports, entities[0], spender)
        became_known = changes.select(
            *entities,
            **{name: changes[KNOWN] if name == MOMENT else ibis.null(happened[name].type()) for name in of_rows},
            **{ROW: number, TARGET: ibis.literal(False), OF_REPORTS: ibis.literal(True)},
            **{CHANGE: changes[CHANGE], EVENT_DAY: changes[EVENT_DAY]},
        )
        stream = happened.union(became_known)
    taken = {name: _taken(one, stream, entities, maturity) for one, name in found.items()}
    stream = stream.mutate(**taken)
    lists = [name for one, name in found.items() if one.function == "distinct"]
    stream = stream.mutate(**{name: ibis.coalesce(stream[name].unique().length(), 0) for name in lists})
    made = {feature.name: _value(feature.value, stream, found) for feature in features}
    return stream.mutate(**made).filter(_[TARGET]).select(ROW, *made)


def _fraud_changes(seen: ibis.Table, reports: ibis.Table, entity: str, spender: str | None) -> ibis.Table:
    """Statements as changes of an entity's number of known frauds: 1 when one becomes known, -1 when it is withdrawn.

    Where its amount says that a fraud came with the one who spent (a stolen card), it says nothing about the others
    in it (the shop), and does not count for them.
    """
    by_id = ibis.window(group_by="transaction_id", order_by=[KNOWN, "is_fraud"])
    fraud = _number(reports.is_fraud)
    changes = reports.mutate(**{CHANGE: fraud - fraud.lag().over(by_id).fill_null(0)})
    changes = changes.filter((_[CHANGE] != 0) & _[entity].notnull())
    if spender is None or entity == spender:
        return changes
    # Nothing is usual for a transaction that names nobody who spent.
    unusual = seen.filter((_[OVER_MAX] > 1) & _[spender].notnull()).select(
        unusual_id=_.transaction_id, happened=_[MOMENT]
    )
    changes = changes.left_join(unusual, changes.transaction_id == unusual.unusual_id)
    explained = _[KNOWN].between(_.happened, _.happened + JUDGED_DAYS * MICROSECONDS_PER_DAY)
    return changes.filter(~explained.fill_null(False))


def _rows_schema(contract: Contract) -> pa.Schema:
    own = [pa.field(name, pa.int64()) for name in (MOMENT, LOCAL, TODAY, ROW)]
    flags = [pa.field(TARGET, pa.bool_())]
    # Dates as days since 1970: engines differ in how they count days between dates.
    dates = date_columns(contract)
    given = [field.with_type(pa.int64()) if field.name in dates else field for field in contract.transactions_schema()]
    return _nullable(pa.schema(given), [*own, *flags])


def _reports_schema(contract: Contract) -> pa.Schema:
    own = [pa.field(name, pa.int64()) for name in (KNOWN, EVENT, EVENT_DAY)]
    if says_genuine(contract):
        own.append(pa.field(WITHDRAWS, pa.bool_()))
    return _nullable(contract.labels_schema(), own)


def _nullable(schema: pa.Schema, further: list[pa.Field]) -> pa.Schema:
    """Ibis takes a column that may be null and one that may not for different types."""
    return pa.schema([*(pa.field(field.name, field.type) for field in schema), *further])


def feature_inputs(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> tuple[pa.Table, pa.Table]:
    """The two tables that `feature_expression` reads.

    Takes what `compute_features` takes.

    Returns:
        Transactions from `history_days` before `start` on, and statements from before `end`, neither about a
        transaction that had not happened when they were made.
    """
    first, last = microseconds(start), microseconds(end)
    moment, local = _clocks(transactions, contract)
    rows = transactions.select(contract.transactions_schema().names)
    for name in date_columns(contract):
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.int32()))
    for name, values in (
        (MOMENT, moment),
        (LOCAL, local),
        (TODAY, _days(local)),
        (ROW, pa.array(np.arange(rows.num_rows))),
        (TARGET, pc.greater_equal(moment, first)),
    ):
        rows = rows.append_column(name, values)
    begin = first - round(history_days(contract) * MICROSECONDS_PER_DAY)
    rows = rows.filter(pc.and_(pc.greater_equal(moment, begin), pc.less(moment, last)))
    known = statements["label_timestamp"].cast(TIMESTAMP).cast(pa.int64())
    event, local = _clocks(statements, contract)
    reports = statements.select(contract.labels_schema().names)
    withdraws = pc.is_null(reports["is_fraud"])
    withdrawn_is_none = pc.fill_null(reports["is_fraud"], False)
    reports = reports.set_column(reports.column_names.index("is_fraud"), "is_fraud", withdrawn_is_none)
    for name, values in ((KNOWN, known), (EVENT, event), (EVENT_DAY, _days(local))):
        reports = reports.append_column(name, values)
    if says_genuine(contract):
        reports = reports.append_column(WITHDRAWS, withdraws)
    # Where the event is not known yet, the second comparison is null, and the statement waits.
    reports = reports.filter(pc.and_(pc.less(known, last), pc.greater_equal(known, event)))
    return rows.cast(_rows_schema(contract)), reports.cast(_reports_schema(contract))


def _clocks(table: pa.Table, contract: Contract) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Microseconds since 1970 of each event, and the same as the contract's own clocks show it."""
    moment = table["event_timestamp"].cast(TIMESTAMP)
    local = pc.local_timestamp(moment.cast(pa.timestamp("us", contract.timezone)))
    return moment.cast(pa.int64()), local.cast(pa.int64())


def _days(local: pa.ChunkedArray) -> pa.ChunkedArray:
    return local.cast(pa.timestamp("us")).cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
