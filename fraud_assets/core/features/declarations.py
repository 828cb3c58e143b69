"""Features of transactions, each from what was known strictly before the transaction happened.

The one definition of every feature, as Ibis expressions: training, batch scoring and the service all call
`compute_features`. A feature of an entity is a line of `ENTITY_FEATURES`; its name, its windows and its place in
every table follow from that line, for every entity that a contract declares. Where history comes from and where
features go belongs to the callers; engines other than DuckDB in process belong to `adapters/engines.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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

from fraud_assets.core.contracts.contract import Column, Contract
from fraud_assets.core.contracts.feature_names import CLOCK, feature_name
from fraud_assets.core.digests import digest_text
from fraud_assets.core.units import MICROSECONDS_PER_DAY

VERSION = 2  # of the features: raise it with every change of what one of them means
TIMESTAMP = pa.timestamp("us", tz="UTC")
WINDOW_DAYS = 90  # the longest window
RAMP_DAYS = 30  # a stolen card is used for some weeks; see `feature_days`
RECENT_DAYS = 30  # the longest one over how amounts compared with what was usual, which looks back by itself
# A fraud that is reported later than this after its transaction counts, but its amount is taken for usual: to know
# more would mean to read still further back.
JUDGED_DAYS = 30
# A terminal with one transaction and one fraud is no proof: shares are drawn by so many transactions to a usual
# share. That is a constant and not the data's own, which a service that reads a few entities could not know.
SMOOTHING, USUAL_SHARE = 10, 0.01
ODD = 2  # standard deviations above an entity's mean, from where an amount begins to count as odd
PREPARED_ROWS = 50_000
# Columns of ours beside those of the contract, whose attributes may have any name.
MOMENT, LOCAL, TODAY, ROW, RECENT, TARGET = "@moment", "@local", "@today", "@row", "@recent", "@target"
GENUINE, KNOWN, EVENT, EVENT_DAY = "@genuine", "@known", "@event", "@event day"
WITHDRAWS = "@withdraws"
ROWS, REPORTS = "feature_rows", "feature_reports"
MONDAY_EPOCH_SHIFT = 3  # 1970-01-01 was a Thursday

# How an amount compares with what is usual; oddness in millionths, so that its sums are the same in any order.
MILLION = 1_000_000
MEASURES = RATIO, ODDNESS, OVER_MAX = "@ratio", "@oddness", "@over max"


@dataclass(frozen=True)
class Aggregate:
    """What is taken over a window of the stream of an entity's events: its transactions, and what became known.

    Attributes:
        value: from the columns of the stream, which are null where an event is of the other kind. Of a transaction:
            `seen`, its moment; `genuine`, its day if it matured without a known fraud; and `MEASURES`. Of what became
            known: `change`, of the number of known frauds, and `fraud`, the day of a fraud's transaction.
        matured: whether the window ends `maturity_days` ago, where every row is either a known fraud or genuine.
        of_labels: whether it is about what became known, which begins `maturity_days` after the first transactions.
        longest: the days of the longest window that history is read for.
    """

    value: Callable[[ibis.Table], ibis.Value]
    matured: bool = False
    of_labels: bool = False
    longest: int = WINDOW_DAYS


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate(lambda stream: stream.seen.count()),
    "last": Aggregate(lambda stream: stream.seen.max()),
    "excess": Aggregate(lambda stream: _above(stream[ODDNESS], ODD * MILLION).sum(), longest=RECENT_DAYS),
    "over_max": Aggregate(lambda stream: stream[OVER_MAX].max(), longest=RECENT_DAYS),
    "last_genuine": Aggregate(lambda stream: stream.genuine.max(), matured=True),
    "frauds": Aggregate(lambda stream: stream.change.sum(), of_labels=True),
    "first_fraud": Aggregate(lambda stream: stream.fraud.min(), of_labels=True),
    "last_fraud": Aggregate(lambda stream: stream.fraud.max(), of_labels=True),
}


def _above(value: ibis.Value, limit: int) -> ibis.Value:
    """By how much it is above; null stays null, which `greatest` would make a zero."""
    return ibis.ifelse(value.notnull(), ibis.greatest(value - limit, 0), ibis.null("int64"))


class FeatureError(ValueError):
    """A feature that cannot be made; the message names it and the remedy."""


class Windows:
    """One entity's aggregates, to make features from: `windows("count", 7)`. Remembers which were asked for."""

    def __init__(self, entity: str) -> None:
        self._entity = entity
        self.asked: dict[tuple[str, int], None] = {}

    def __call__(self, aggregate: str, days: int = WINDOW_DAYS) -> ibis.Deferred:
        """An aggregate over the last days; of the same length, but earlier, where it is about matured rows.

        Raises:
            FeatureError: for an aggregate that is none, and for more days than are read.
        """
        if aggregate not in AGGREGATES:
            raise FeatureError(f"there is no aggregate {aggregate!r}; there are {', '.join(AGGREGATES)}")
        if days > (longest := AGGREGATES[aggregate].longest):
            raise FeatureError(f"{aggregate!r} over {days} days: history is read for {longest}; take as many or fewer")
        self.asked[aggregate, days] = None
        return _[_column(self._entity, aggregate, days)]

    def measure(self, name: str) -> ibis.Deferred:
        """How the transaction's own amount compares with what is usual."""
        return _[_column(self._entity, name, 0)]

    def frauds(self, days: int) -> ibis.Deferred:
        """Frauds that became known in the last days, less those withdrawn in them; never negative."""
        return ibis.greatest(self("frauds", days).fill_null(0), 0)

    def share(self, days: int) -> ibis.Deferred:
        """Frauds that became known in the last days, of the transactions in them."""
        return (self.frauds(days) + SMOOTHING * USUAL_SHARE) / (
            ibis.greatest(self("count", days).fill_null(0), self.frauds(days)) + SMOOTHING
        )

    def days_since(self, aggregate: str) -> ibis.Deferred:
        """Days of the calendar since the day that an aggregate gives."""
        return _[TODAY] - self(aggregate)

    def days_since_fraud(self, aggregate: str) -> ibis.Deferred:
        """Days of the calendar since a fraud; nothing, where all of them were withdrawn."""
        return ibis.ifelse(self.frauds(WINDOW_DAYS) > 0, self.days_since(aggregate), ibis.null("int64"))


@dataclass(frozen=True)
class Feature:
    """One feature of an entity.

    Attributes:
        name: follows the entity's.
        value: how it is made.
        description: what it means, for people, with `{entity}` for whose it is; unit, range, when it is empty.
        of_amount: whether it compares amounts with the usual ones of the entity that spends.
    """

    name: str
    value: Callable[[Windows], ibis.Deferred]
    description: str
    of_amount: bool = False


def _each(
    name: str,
    days: Iterable[int],
    value: Callable[[Windows, int], ibis.Deferred],
    description: str,
    *,
    of_amount: bool = False,
) -> list[Feature]:
    made = []
    for span in days:
        said = description.replace("{span}", "day" if span == 1 else f"{span} days")
        made.append(Feature(f"{name}_{span}d", lambda w, d=span: value(w, d), said, of_amount))  # type: ignore[misc]
    return made


USUAL = "the {entity}'s usual amounts (of genuine transactions of 90 days, which have matured)"


ENTITY_FEATURES: tuple[Feature, ...] = (
    *_each(
        "count",
        (1, 7, 30),
        lambda w, days: w("count", days).fill_null(0),
        "Transactions of the {entity} in the {span} before; 0 and up.",
    ),
    Feature(
        "days_since_last",
        lambda w: (_[MOMENT] - w("last")) / MICROSECONDS_PER_DAY,
        "Days since the {entity}'s transaction before; 0 to 90, empty where there is none.",
    ),
    Feature(
        "amount_ratio",
        lambda w: w.measure(RATIO),
        f"Amount over 1 plus the mean of {USUAL}; empty without them.",
        of_amount=True,
    ),
    Feature(
        "amount_z",
        lambda w: w.measure(ODDNESS) / MILLION,
        f"Standard deviations of the amount above the mean of {USUAL}; negative below, empty without them.",
        of_amount=True,
    ),
    Feature(
        "amount_over_max",
        lambda w: w.measure(OVER_MAX),
        f"Amount over 1 plus the largest of {USUAL}; empty without them.",
        of_amount=True,
    ),
    *_each(
        "amount_excess",
        (7, RECENT_DAYS),
        lambda w, days: w("excess", days) / MILLION,
        f"How unusual the {{entity}}'s amounts of the {{span}} before were: the sum of amount_z above {ODD}.",
        of_amount=True,
    ),
    *_each(
        "amount_over_max",
        (7, RECENT_DAYS),
        lambda w, days: w("over_max", days),
        "The largest amount_over_max of the {entity}'s transactions in the {span} before.",
        of_amount=True,
    ),
    *_each(
        "known_fraud_share",
        (7, 30, 90),
        lambda w, days: w.share(days),
        "Frauds of the {entity} that became known in the {span} before, as a share of its transactions in them; 0 "
        f"to 1, and near {USUAL_SHARE:g} where there are few.",
    ),
    Feature(
        "days_since_first_known_fraud",
        lambda w: w.days_since_fraud("first_fraud"),
        "Calendar days since the first of the {entity}'s frauds that became known in the 90 days before; empty without "
        "one.",
    ),
    Feature(
        "days_since_last_known_fraud",
        lambda w: w.days_since_fraud("last_fraud"),
        "Calendar days since the last of the {entity}'s frauds that became known in the 90 days before; empty without "
        "one.",
    ),
    Feature(
        "days_since_known_genuine",
        lambda w: w.days_since("last_genuine"),
        "Calendar days since the {entity}'s last transaction that is known to be genuine; empty without one.",
    ),
)


def feature_names(contract: Contract) -> tuple[str, ...]:
    """The features that are numbers, of what a contract's columns allow, in the order in which models take them.

    An attribute that is a boolean is 1 or 0; a date, the days from it to the transaction's own day, which are negative
    where it lies ahead.
    """
    names = [*CLOCK]
    if contract.amount:
        names.append("amount")
    for entity in contract.entities:
        names += [feature_name(entity, feature.name) for feature in _entity_features(contract, entity)]
    names += [name for name, column in _shown(contract).items() if column.type != "string"]
    return tuple(names)


def text_features(contract: Contract) -> tuple[str, ...]:
    """The attributes that models see as text: each row's value as it was delivered, null where there is none.

    What a model makes of them it learns from its own training rows (`models/encoding.py`).
    """
    return tuple(name for name, column in _shown(contract).items() if column.type == "string")


def forced_texts(contract: Contract) -> tuple[str, ...]:
    """The texts that models are given even if nothing can be learned from them, because the contract says so."""
    return tuple(name for name in text_features(contract) if contract.attributes[name].feature)


def model_columns(contract: Contract) -> tuple[str, ...]:
    """All that models are given: numbers, then text."""
    return feature_names(contract) + text_features(contract)


def feature_types(contract: Contract) -> dict[str, pa.DataType]:
    """`model_columns`, with their types."""
    return dict.fromkeys(feature_names(contract), pa.float32()) | dict.fromkeys(text_features(contract), pa.string())


def feature_descriptions(contract: Contract) -> dict[str, str]:
    """What each of `model_columns` means, in their order: its unit, its range, and when it is empty."""
    said = {
        "hour": f"Hour of the day in {contract.timezone}, with fractions; 0 to 24.",
        "is_weekend": f"1 on Saturdays and Sundays in {contract.timezone}, else 0.",
    }
    if contract.amount:
        said["amount"] = contract.amount.in_words("Amount of the transaction")
    for entity in contract.entities:
        who = entity.removesuffix("_id").replace("_", " ")
        for feature in _entity_features(contract, entity):
            said[feature_name(entity, feature.name)] = feature.description.replace("{entity}", who)
    kinds = {
        "boolean": "{} As a number: 1 for true, 0 for false.",
        "date": "{} As the days from it to the transaction's day, negative where it lies ahead.",
    }
    for name, column in _shown(contract).items():
        said[name] = kinds.get(column.type, "{}").format(column.in_words("Attribute of the transaction"))
    return {name: said[name] for name in model_columns(contract)}


def features_digest(contract: Contract) -> str:
    """What decides which features come out beside a contract's own words: when it changes, stored ones are stale."""
    return digest_text(str(VERSION), *(f"{name} {kind}" for name, kind in feature_types(contract).items()))


def _shown(contract: Contract) -> dict[str, Column]:
    return {name: column for name, column in contract.attributes.items() if column.feature is not False}


def feature_days(contract: Contract) -> dict[str, float]:
    """Days of history that each feature of `model_columns` needs before it is stable.

    Features that look at labels need `RAMP_DAYS` more than their windows. Cards that were stolen before the platform's
    first transaction are not known as stolen, so its first weeks have fewer known frauds than later ones.
    """
    days = dict.fromkeys(model_columns(contract), 0.0)
    usual = WINDOW_DAYS + contract.maturity_days
    for entity in contract.entities:
        for feature in _entity_features(contract, entity):
            windows = Windows(entity)
            feature.value(windows)
            spans = [
                span + contract.maturity_days * (AGGREGATES[name].matured or AGGREGATES[name].of_labels)
                for name, span in windows.asked
            ]
            ramp = RAMP_DAYS * any(AGGREGATES[name].of_labels for name, _ in windows.asked)
            days[feature_name(entity, feature.name)] = max(spans, default=0) + usual * feature.of_amount + ramp
    return days


def spending_entity(contract: Contract) -> str | None:
    """The entity whose amounts can be unusual: the first that is declared, where there are amounts.

    The amounts at a terminal are its customers': on the Handbook's folds, features of them brought nothing.
    """
    return next(iter(contract.entities), None) if contract.amount else None


def history_days(contract: Contract, entity: str | None = None) -> float:
    """How many days before a transaction its features look back.

    Args:
        contract: a longer maturity makes for a longer history.
        entity: at the transactions of this entity; without one, at anything: a fraud at a terminal, as long ago as
            the longest window, is judged by what was usual for its customer before it.
    """
    matured = WINDOW_DAYS + contract.maturity_days
    spender = spending_entity(contract)
    if spender is None:
        return matured
    if entity is None:
        return WINDOW_DAYS + JUDGED_DAYS + matured
    return matured + RECENT_DAYS if entity == spender else matured


def _column(entity: str, aggregate: str, days: int) -> str:
    return f"@{entity} {aggregate} {days}"


def _entity_features(contract: Contract, entity: str) -> list[Feature]:
    return [feature for feature in ENTITY_FEATURES if entity == spending_entity(contract) or not feature.of_amount]


def compute_features(
    transactions: pa.Table, statements: pa.Table, contract: Contract, *, start: datetime, end: datetime
) -> pa.Table:
    """Features of the transactions with `start <= event_timestamp < end`.

    Everything about an entity (a customer, a terminal) is taken from transactions with an earlier
    `event_timestamp` and label statements with an earlier `label_timestamp`, at most `history_days` before. A
    transaction counts as genuine from `event_timestamp + maturity_days` on, if no fraud was known by then; where
    blank labels are unknown, only if it had been stated to be genuine.

    Args:
        transactions: canonical columns (`Contract.transactions_schema`), history included: of the entities
            themselves, and of the spending entity in their transactions that were reported as fraud.
        statements: rows of `Contract.labels_schema`, of any time; one whose `is_fraud` is null withdraws.
        contract: says which entities, amount and attributes there are.
        start: the first instant to compute features for, with a time zone.
        end: the first instant after.

    Returns:
        `transaction_id`, `event_timestamp`, the entities, then `feature_types(contract)`, null where there is nothing
        to say, ordered by `event_timestamp` and `transaction_id`.
    """
    rows, reports = feature_inputs(transactions, statements, contract, start=start, end=end)
    key = contract.model_dump_json()
    if rows.num_rows + reports.num_rows <= PREPARED_ROWS:
        arrow = _prepared(key, threading.get_ident()).run(rows, reports)
    else:
        # What does not fit into memory goes to disk, by default into the folder in which the command runs.
        with TemporaryDirectory() as folder, duckdb.connect(config={"temp_directory": folder}) as connection:
            # It would be drawn to stdout where DuckDB takes the process for an interactive one, as `python -c` is.
            connection.execute("SET enable_progress_bar = false")
            connection.register(ROWS, rows)
            connection.register(REPORTS, reports)
            arrow = connection.sql(_duckdb_query(key)).to_arrow_table()
    return arrow.set_column(1, "event_timestamp", arrow["event_timestamp"].cast(TIMESTAMP))


def feature_expression(contract: Contract) -> ibis.Table:
    """All features of a contract as one Ibis expression, the same for every call and every engine.

    It reads two tables without data, `ROWS` and `REPORTS`, which `feature_inputs` makes. No constant in it depends
    on a call: which rows are asked for is a column, so that its SQL is made once.
    """
    rows = ibis.table(ibis.Schema.from_pyarrow(_rows_schema(contract)), name=ROWS)
    reports = ibis.table(ibis.Schema.from_pyarrow(_reports_schema(contract)), name=REPORTS)
    maturity = round(contract.maturity_days * MICROSECONDS_PER_DAY)
    asked = {entity: Windows(entity) for entity in contract.entities}
    values = {
        feature_name(entity, feature.name): feature.value(windows)
        for entity, windows in asked.items()
        for feature in _entity_features(contract, entity)
    }
    result = rows.filter(_[TARGET])
    if contract.entities:
        spender = spending_entity(contract)
        seen = _settle(rows, reports, contract, maturity)
        if spender:
            seen = _compare_amounts(seen, spender, maturity)
        for entity, windows in asked.items():
            history = _history(seen, reports, entity, spender, windows, maturity)
            result = result.left_join(history, ROW).drop(f"{ROW}_right")
    result = result.mutate(
        hour=(_[LOCAL] % MICROSECONDS_PER_DAY) / (MICROSECONDS_PER_DAY / 24),
        is_weekend=_number((_[TODAY] + MONDAY_EPOCH_SHIFT) % 7 >= 5),
        **{name: _bound(result, name, value, contract) for name, value in values.items()},
        **_attributes(result, contract),
    )
    columns = {name: result[name].cast("float32") for name in feature_names(contract)}
    for entity in contract.entities:
        # Rows without a customer are nobody's history, not each other's.
        for feature in _entity_features(contract, entity):
            name = feature_name(entity, feature.name)
            columns[name] = ibis.ifelse(result[entity].notnull(), columns[name], ibis.null("float32"))
    columns |= {name: result[name] for name in text_features(contract)}
    return result.select("transaction_id", "event_timestamp", *contract.entities, **columns).order_by(
        "event_timestamp", "transaction_id"
    )


def _bound(rows: ibis.Table, name: str, value: ibis.Deferred, contract: Contract) -> ibis.Value:
    try:
        (bound,) = rows.bind(value)
    except AttributeError as error:
        raise FeatureError(
            f"feature {name} refers to a column that contract {contract.name} does not have ({error}); declare the "
            "column, or say of_amount where it is about amounts"
        ) from error
    return bound


def _number(condition: Any) -> Any:
    """1 or 0, and null where it is neither true nor false; Postgres casts a boolean to no integer but its own."""
    return ibis.ifelse(condition.isnull(), ibis.null("int64"), ibis.ifelse(condition, 1, 0))


def _attributes(rows: ibis.Table, contract: Contract) -> dict[str, ibis.Value]:
    """Those attributes as numbers that are not numbers as they are."""
    made: dict[str, Callable[[str], ibis.Value]] = {
        "boolean": lambda name: _number(rows[name]),
        "date": lambda name: rows[TODAY] - rows[name],
    }
    return {name: made[column.type](name) for name, column in _shown(contract).items() if column.type in made}


def _settle(rows: ibis.Table, reports: ibis.Table, contract: Contract, maturity: int) -> ibis.Table:
    """What windows need of transactions, with whether they were genuine as far as was known when they matured."""
    stated = reports.join(rows.select("transaction_id", MOMENT), "transaction_id")
    timely = stated.filter(_[KNOWN] <= _[MOMENT] + maturity)
    # Fraud wins where statements became known at the same instant.
    verdict, levels = _number(timely.is_fraud), 2
    if _says_genuine(contract):
        verdict, levels = ibis.ifelse(timely[WITHDRAWS], 0, verdict + 1), 4
    last = timely.group_by("transaction_id").agg(last=(timely[KNOWN] * levels + verdict).max())
    amount = ["amount"] if contract.amount else []
    # Nothing else: every window sorts all the columns that it carries.
    narrow = rows.select("transaction_id", *contract.entities, *amount, MOMENT, TODAY, ROW, RECENT, TARGET)
    joined = narrow.left_join(last, "transaction_id").drop("transaction_id_right")
    if _says_genuine(contract):
        return joined.mutate(**{GENUINE: (joined["last"].fill_null(0) % levels) == 1}).drop("last")
    return joined.mutate(**{GENUINE: (joined["last"].fill_null(0) % levels) == 0}).drop("last")


def _says_genuine(contract: Contract) -> bool:
    """Whether a transaction is genuine only where somebody said so, and not because nobody said otherwise."""
    return contract.label.blank == "unknown"


def _compare_amounts(seen: ibis.Table, spender: str, maturity: int) -> ibis.Table:
    """Adds how each amount compares with the genuine ones of the spender's matured past.

    One unit of currency keeps a history of nothing but zeros from dividing by zero, and so do sizes where refunds
    make amounts negative.
    """
    frame = _frame(spender, MOMENT, WINDOW_DAYS, maturity)
    # Of genuine transactions only, so that a thief's amounts do not become usual for a stolen card. As a value and
    # not as a filter, which Spark does not have in windows.
    amount = ibis.ifelse(seen[GENUINE], seen.amount, ibis.null("float64"))
    seen = seen.mutate(
        mean=amount.mean().over(frame), spread=amount.std(how="pop").over(frame), largest=amount.max().over(frame)
    )
    compared = {
        RATIO: _.amount / (_.mean.abs() + 1),
        ODDNESS: (((_.amount - _.mean) / (_.spread + 1)).clip(-MILLION, MILLION) * MILLION).round().cast("int64"),
        OVER_MAX: _.amount / (_.largest.abs() + 1),
    }
    return seen.mutate(**compared).drop("mean", "spread", "largest")


def _frame(entity: str, moment: str, days: int, late: int) -> Any:
    """An entity's rows of so many days, up to `late` microseconds ago.

    Integer microseconds: "1 preceding" is strictly before, and ties do not see each other.
    """
    return ibis.range_window(preceding=(days * MICROSECONDS_PER_DAY + late, late + 1), group_by=entity, order_by=moment)


def _history(
    seen: ibis.Table, reports: ibis.Table, entity: str, spender: str | None, windows: Windows, maturity: int
) -> ibis.Table:
    """One row per transaction that is asked for: the entity's aggregates, from a single stream of its events."""
    number = ibis.null("int64")
    measures = {name: seen[name] for name in MEASURES if entity == spender}
    happened = seen.filter(seen[RECENT] & seen[entity].notnull()).select(
        entity, MOMENT, ROW, TARGET, change=number, fraud=number, seen=_[MOMENT],
        genuine=ibis.ifelse(_[GENUINE], _[TODAY], number), **measures,
    )  # fmt: skip
    changes = _fraud_changes(seen, reports, entity, spender)
    became_known = changes.select(
        entity, **{MOMENT: _[KNOWN], ROW: number, TARGET: ibis.literal(False)},
        change=_.change, fraud=ibis.ifelse(_.change > 0, _[EVENT_DAY], number), seen=number, genuine=number,
        **{name: ibis.null(value.type()) for name, value in measures.items()},
    )  # fmt: skip
    stream = happened.union(became_known)
    columns = {}
    for name, days in windows.asked:
        aggregate = AGGREGATES[name]
        frame = _frame(entity, MOMENT, days, maturity if aggregate.matured else 0)
        columns[_column(entity, name, days)] = aggregate.value(stream).over(frame)
    if spender == entity:
        columns |= {_column(entity, name, 0): stream[name] for name in MEASURES}
    return stream.mutate(**columns).filter(_[TARGET]).select(ROW, *columns)


def _fraud_changes(seen: ibis.Table, reports: ibis.Table, entity: str, spender: str | None) -> ibis.Table:
    """Statements as changes of an entity's number of known frauds: 1 when one becomes known, -1 when it is withdrawn.

    Where its amount says that a fraud came with the one who spent (a stolen card), it says nothing about the others
    in it (the shop), and does not count for them.
    """
    by_id = ibis.window(group_by="transaction_id", order_by=[KNOWN, "is_fraud"])
    fraud = _number(reports.is_fraud)
    changes = reports.mutate(change=fraud - fraud.lag().over(by_id).fill_null(0))
    changes = changes.filter((_.change != 0) & _[entity].notnull())
    if spender is None or entity == spender:
        return changes
    # Nothing is usual for a transaction that names nobody who spent.
    unusual = seen.filter((_[OVER_MAX] > 1) & _[spender].notnull()).select(
        unusual_id=_.transaction_id, happened=_[MOMENT]
    )
    changes = changes.left_join(unusual, changes.transaction_id == unusual.unusual_id)
    explained = _[KNOWN].between(_.happened, _.happened + JUDGED_DAYS * MICROSECONDS_PER_DAY)
    return changes.filter(~explained.fill_null(False))


class _Prepared:
    """The query of a contract, planned once: for a few rows, planning takes twenty times as long as running."""

    def __init__(self, contract_json: str) -> None:
        contract = Contract.model_validate_json(contract_json)
        self._connection = duckdb.connect()
        # On a few rows, threads that wait for work cost more than they do.
        self._connection.execute("SET threads = 1")
        for name, schema in ((ROWS, _rows_schema(contract)), (REPORTS, _reports_schema(contract))):
            self._connection.register("given", schema.empty_table())
            self._connection.execute(f"CREATE TABLE {name} AS FROM given")
        self._connection.execute(f"PREPARE features AS {_duckdb_query(contract_json)}")

    def run(self, rows: pa.Table, reports: pa.Table) -> pa.Table:
        connection = self._connection
        for name, given in ((ROWS, rows), (REPORTS, reports)):
            connection.register("given", given)
            connection.execute(f"DELETE FROM {name}")
            connection.execute(f"INSERT INTO {name} FROM given")
        connection.unregister("given")
        return connection.sql("EXECUTE features").to_arrow_table()


@lru_cache(maxsize=16)
def _prepared(contract_json: str, _thread: int) -> _Prepared:
    """One for each thread that asks: a connection takes one call at a time."""
    return _Prepared(contract_json)


# Making the SQL takes a good part of a second.
@lru_cache(maxsize=8)
def _duckdb_query(contract_json: str) -> str:
    return str(ibis.to_sql(feature_expression(Contract.model_validate_json(contract_json)), dialect="duckdb"))


def _rows_schema(contract: Contract) -> pa.Schema:
    own = [pa.field(name, pa.int64()) for name in (MOMENT, LOCAL, TODAY, ROW)]
    flags = [pa.field(name, pa.bool_()) for name in (RECENT, TARGET)]
    # Dates as days since 1970: engines differ in how they count days between dates.
    dates = date_columns(contract)
    given = [field.with_type(pa.int64()) if field.name in dates else field for field in contract.transactions_schema()]
    return _nullable(pa.schema(given), [*own, *flags])


def date_columns(contract: Contract) -> tuple[str, ...]:
    """The attributes that are dates; as features, they are the days from it to the transaction."""
    return tuple(name for name, column in contract.attributes.items() if column.type == "date")


def _reports_schema(contract: Contract) -> pa.Schema:
    own = [pa.field(name, pa.int64()) for name in (KNOWN, EVENT, EVENT_DAY)]
    if _says_genuine(contract):
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
    first, last = _microseconds(start), _microseconds(end)
    moment, local = _clocks(transactions, contract)
    recent = first - round((WINDOW_DAYS + contract.maturity_days) * MICROSECONDS_PER_DAY)
    rows = transactions.select(contract.transactions_schema().names)
    for name in date_columns(contract):
        rows = rows.set_column(rows.column_names.index(name), name, rows[name].cast(pa.int32()))
    for name, values in (
        (MOMENT, moment),
        (LOCAL, local),
        (TODAY, _days(local)),
        (ROW, pa.array(np.arange(rows.num_rows))),
        (RECENT, pc.greater_equal(moment, recent)),
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
    if _says_genuine(contract):
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


def _microseconds(moment: datetime) -> int:
    return int(pa.scalar(moment, TIMESTAMP).value)
