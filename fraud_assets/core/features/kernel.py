"""Features worked out in this process: months, ranges of months and single transactions by the same compiled loops.

An entity's rows lie side by side in order of time, and each window is two positions among them. What the features are
is in `declarations.py`, the loops are in `sliding.py`; the same in SQL, for engines, is in `ibis_expression.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.contracts.contract import Column as ContractColumn
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features import sliding
from fraud_assets.core.features.arithmetic import evaluate, write
from fraud_assets.core.features.arrays import (
    NEVER,
    TIMESTAMP,
    Floats,
    Integers,
    ascending,
    by_time_and_id,
    code_array,
    local_clock,
    microseconds,
    moments,
    number_array,
    one_chunk,
    places_among,
)
from fraud_assets.core.features.declarations import (
    CHANGE,
    GENUINE,
    JUDGED_DAYS,
    MEASURES,
    MOMENT,
    MONDAY_EPOCH_SHIFT,
    NIGHT,
    NIGHT_HOURS,
    OVER_MAX,
    TODAY,
    WEEKEND,
    Declared,
    declared_features,
    feature_names,
    feature_types,
    history_days,
    in_hours,
    says_genuine,
    shown_attributes,
    spending_entity,
)
from fraud_assets.core.features.expressions import (
    Aggregate,
    Column,
    Constant,
    Events,
    columns,
)
from fraud_assets.core.features.program import Part, Program
from fraud_assets.core.units import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR

# Rows that are worked on together: what is made on the way takes some hundred bytes for each of them.
BLOCK_ROWS = 200_000

Bools = npt.NDArray[np.bool_]


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

    Raises:
        FeatureError: for a feature of a column that the contract does not have.
    """
    plan = plan_of(contract)
    rows = Rows.of(transactions, contract, microseconds(start), microseconds(end))
    # What became known after all rows changes none.
    reports = Reports.of(statements, rows, plan, rows.moment.max(initial=np.iinfo(np.int64).min))
    # Every value is written below: where there is no entity, here, and elsewhere by the blocks.
    made = np.empty((len(plan.numbers), len(rows.asked)), np.float32)
    place = np.full(len(rows.moment), -1, np.int64)
    place[rows.asked] = np.arange(len(rows.asked))
    over_max = None
    for entities, program, features in plan.of_entities:
        history = Entity.of(entities, rows, reports)
        if history.n_rows < len(rows.moment):
            made[np.ix_(features, place[(history.codes < 0) & (place >= 0)])] = np.nan
        spends = entities == (plan.spender,)
        if spends:
            over_max = np.full(len(rows.moment), np.nan)
        changes = reports.changes_of(history, None if spends else over_max)
        work = Work(plan, rows, history, changes, reports.genuine, place, over_max if spends else None)
        _each_block(partial(work.block, program, features, made), history.blocks())
    return _table(rows, plan, made)


# What a contract asks


@dataclass(frozen=True)
class Plan:
    """What is made for a contract, worked out once."""

    contract: Contract
    maturity: int
    of_entities: tuple[tuple[tuple[str, ...], Program, Integers], ...]  # with the places of the results among numbers
    spender: str | None
    measures: Program
    says_genuine: bool
    types: dict[str, pa.DataType]
    shown: dict[str, ContractColumn]  # attributes that are features themselves
    numbers: tuple[str, ...]  # those of the types that are numbers


# By identity: to compare contracts takes longer than to compute one transaction.
_plans: dict[int, Plan] = {}
MOST_PLANS = 16


def plan_of(contract: Contract) -> Plan:
    """The plan of a contract, made once."""
    known = _plans.get(id(contract))
    if known is not None and known.contract is contract:
        return known
    spender = spending_entity(contract)
    measures = {name: in_hours(value, contract.window_days) for name, value in MEASURES.items()}
    groups: dict[tuple[str, ...], list[Declared]] = {}
    for one in declared_features(contract):
        groups.setdefault(one.entities, []).append(one)
    # The spender's measures are what the others' frauds are judged by.
    order = sorted(groups, key=lambda entities: entities != (spender,))
    numbers = feature_names(contract)
    programs = []
    for entities in order:
        program = Program.of({each.name: each.value for each in groups[entities]})
        programs.append((entities, program, np.array([numbers.index(name) for name in program.names], np.int64)))
    plan = Plan(
        contract, round(contract.maturity_days * MICROSECONDS_PER_DAY), tuple(programs), spender,
        Program.of(measures), says_genuine(contract), feature_types(contract), shown_attributes(contract), numbers,
    )  # fmt: skip
    if len(_plans) >= MOST_PLANS:
        _plans.clear()
    _plans[id(contract)] = plan
    return plan


# What is given


@dataclass(frozen=True)
class Rows:
    """The transactions that count, in any order, and which of them are asked for.

    Attributes:
        table: as given, those from `history_days` before the first one asked for to the last.
        moment: microseconds since 1970.
        local: the same as the contract's own clock shows it.
        by_time: positions in order of time.
        asked: positions whose features are asked for, in the order of the result.
    """

    table: pa.Table
    moment: Integers
    local: Integers
    by_time: Integers
    asked: Integers

    @classmethod
    def whole(cls, transactions: pa.Table, contract: Contract) -> Rows:
        """All of a table, and none of it asked for."""
        moment = moments(transactions, "event_timestamp")
        by_time = np.arange(len(moment)) if ascending(moment) else np.argsort(moment, kind="stable")
        return cls(transactions, moment, local_clock(moment, contract.timezone), by_time, by_time[:0])

    @classmethod
    def of(cls, transactions: pa.Table, contract: Contract, first: int, last: int) -> Rows:
        """What counts for the rows from the first moment to before the last, which are asked for."""
        moment = moments(transactions, "event_timestamp")
        begin = first - round(history_days(contract) * MICROSECONDS_PER_DAY)
        kept = (moment >= begin) & (moment < last)
        if not kept.all():
            transactions, moment = transactions.filter(pa.array(kept)), moment[kept]
        by_time = np.arange(len(moment)) if ascending(moment) else np.argsort(moment, kind="stable")
        asked = by_time[moment[by_time] >= first]
        times = moment[asked]
        if len(times) and (times[1:] == times[:-1]).any():
            asked = by_time_and_id(transactions, asked)
        return cls(transactions, moment, local_clock(moment, contract.timezone), by_time, asked)

    @cached_property
    def today(self) -> Floats:
        """Days of the contract's own clock since 1970."""
        return (self.local // MICROSECONDS_PER_DAY).astype(np.float64)

    def values(self, name: str, rows: Integers) -> Floats:
        """A column of some rows as numbers; NaN where there is none."""
        if name == MOMENT:
            return self.moment[rows].astype(np.float64)
        if name == TODAY:
            return self.today[rows]
        if name == WEEKEND:
            return ((self.today[rows] + MONDAY_EPOCH_SHIFT) % 7 >= 5).astype(np.float64)
        if name == NIGHT:
            return (self.local[rows] % MICROSECONDS_PER_DAY < NIGHT_HOURS * MICROSECONDS_PER_HOUR).astype(np.float64)
        return self.given(name)[rows]

    def given(self, name: str) -> Floats:
        """A delivered column as numbers."""
        if name not in self._given:
            self._given[name] = number_array(self.table[name])
        return self._given[name]

    @cached_property
    def _given(self) -> dict[str, Floats]:
        return {}


@dataclass(frozen=True)
class Reports:
    """Label statements that count: of transactions that had happened, made before the end.

    Attributes:
        table: as given.
        known: when each became known, in microseconds since 1970.
        day: of its transaction, by the contract's clock, since 1970.
        row: the position of its transaction among the rows, -1 where that is not among them.
        change: by how much it changes the number of known frauds: 1, -1 or 0.
        moment: of the rows, in microseconds since 1970.
        genuine: which rows were genuine as far as was known when they matured.
    """

    table: pa.Table
    known: Integers
    day: Floats
    row: Integers
    change: Integers
    moment: Integers
    genuine: Bools

    @classmethod
    def of(cls, statements: pa.Table, rows: Rows, plan: Plan, last: int = NEVER) -> Reports:
        """The statements of a table that were known by `last`."""
        known, event = moments(statements, "label_timestamp"), moments(statements, "event_timestamp")
        # Where the event is not known yet, the statement waits.
        kept = (known <= last) & (known >= event) & (event != NEVER)
        if not kept.all():
            statements, known, event = statements.filter(pa.array(kept)), known[kept], event[kept]
        said = one_chunk(statements["is_fraud"])
        filled = said.fill_null(False) if said.null_count else said
        fraud = np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)
        encoded = one_chunk(statements["transaction_id"]).dictionary_encode()
        numbers = encoded.indices.to_numpy().astype(np.int64)
        row = places_among(encoded.dictionary, rows.table["transaction_id"])[numbers]
        order = np.lexsort((fraud, known, numbers))
        ordered = fraud[order].astype(np.int64)
        first = np.ones(len(order), np.bool_)
        first[1:] = numbers[order][1:] != numbers[order][:-1]
        before = np.zeros(len(order), np.int64)
        before[1:] = ordered[:-1]
        change = np.empty(len(order), np.int64)
        change[order] = ordered - np.where(first, 0, before)
        day = (local_clock(event, plan.contract.timezone) // MICROSECONDS_PER_DAY).astype(np.float64)
        genuine = _genuine(rows.moment, plan, known, fraud, row, said)
        return cls(statements, known, day, row, change, rows.moment, genuine)

    def changes_of(self, entity: Entity, over_max: Floats | None) -> Changes:
        """What changed the number of an entity's known frauds, entity by entity in order of time.

        Where its amount says that a fraud came with the one who spent (a stolen card), it says nothing about the others
        in it (the shop), and does not count for them.
        """
        used = (self.change != 0) & (entity.of_reports >= 0)
        if over_max is not None and len(self.moment):
            row = np.maximum(self.row, 0)
            unusual = (self.row >= 0) & (over_max[row] > 1)
            happened = self.moment[row]
            late = happened + JUDGED_DAYS * MICROSECONDS_PER_DAY
            used &= ~(unusual & (self.known >= happened) & (self.known <= late))
        places = np.flatnonzero(used)
        places = places[np.lexsort((self.known[places], entity.of_reports[places]))]
        offsets = sliding.group_offsets(np.ascontiguousarray(entity.of_reports[places]), entity.n)
        return Changes(offsets, self.known[places], self.change[places].astype(np.float64), self.day[places])


def _genuine(moment: Integers, plan: Plan, known: Integers, fraud: Bools, row: Integers, said: pa.Array) -> Bools:
    """Which rows were genuine as far as was known when they matured."""
    genuine = np.full(len(moment), not plan.says_genuine)
    about = np.flatnonzero(row >= 0)
    timely = about[known[about] <= moment[row[about]] + plan.maturity]
    verdict = fraud[timely].astype(np.int64)
    if plan.says_genuine:
        withdrawn = said.is_null().to_numpy(zero_copy_only=False)[timely]
        verdict = np.where(withdrawn, 0, verdict + 1)
    # Of one transaction, the last; fraud wins where statements became known at the same instant.
    order = np.lexsort((verdict, known[timely], row[timely]))
    of = row[timely][order]
    last = np.ones(len(of), np.bool_)
    last[:-1] = of[1:] != of[:-1]
    genuine[of[last]] = verdict[order][last] == (1 if plan.says_genuine else 0)
    return genuine


@dataclass(frozen=True)
class Changes:
    """What changed numbers of known frauds, entity by entity in order of time."""

    offsets: Integers
    known: Integers
    change: Floats
    day: Floats


@dataclass(frozen=True)
class Entity:
    """Whose past it is: each row's number of it, and the rows in order of that and of time.

    Attributes:
        codes: of each row, from 0; -1 where an entity is not named.
        of_reports: likewise of each report.
        n: how many there are.
        offsets: where each begins in `order`, shape (n + 1,).
        order: positions of rows.
    """

    codes: Integers
    of_reports: Integers
    n: int
    offsets: Integers
    order: Integers

    @classmethod
    def of(cls, names: tuple[str, ...], rows: Rows, reports: Reports) -> Entity:
        """Those that rows and reports have in these columns."""
        n_rows = len(rows.moment)
        columns = [pa.chunked_array([*rows.table[name].chunks, *reports.table[name].chunks]) for name in names]
        codes = code_array(columns[0])
        for column in columns[1:]:
            found = code_array(column)
            joined = np.where((codes >= 0) & (found >= 0), codes * (found.max(initial=-1) + 2) + found, -1)
            known = joined >= 0
            codes = np.full(len(joined), -1, np.int64)
            codes[known] = np.unique(joined[known], return_inverse=True)[1]
        n = int(codes.max(initial=-1)) + 1
        mine = np.ascontiguousarray(codes[:n_rows])
        offsets = sliding.group_offsets(mine, n)
        return cls(mine, codes[n_rows:], n, offsets, sliding.grouped(mine, rows.by_time, offsets))

    @property
    def n_rows(self) -> int:
        """How many rows name one."""
        return len(self.order)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Spans of entities that have some rows together, none of them cut."""
        first = 0
        while first < self.n:
            last = int(np.searchsorted(self.offsets, self.offsets[first] + BLOCK_ROWS, side="right")) - 1
            last = min(max(last, first + 1), self.n)
            yield first, last
            first = last


def _each_block(work: Any, blocks: Iterator[tuple[int, int]]) -> None:
    spans = list(blocks)
    if len(spans) < 2:
        for span in spans:
            work(span)
        return
    # The loops are compiled, and do without the interpreter's lock. What a block gives depends on no other.
    with ThreadPoolExecutor(min(len(spans), _cores())) as pool:
        for _ in pool.map(work, spans):
            pass


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# What is made


@dataclass(frozen=True)
class Work:
    """The features of some entities, block after block, each with rows of its own."""

    plan: Plan
    rows: Rows
    entity: Entity
    changes: Changes
    genuine: Bools
    place: Integers
    over_max: Floats | None  # is filled where these are those who spend

    def block(self, program: Program, features: Integers, made: npt.NDArray[np.float32], span: tuple[int, int]) -> None:
        """Writes the features of the entities from the first to the last, which is not among them."""
        events = self.events(span)
        place = self.place[events.rows]
        asked = np.flatnonzero(place >= 0)
        if len(asked):
            write(Question(self, events, asked).answers(program), features, place[asked], made)

    def events(self, span: tuple[int, int]) -> EventRows:
        """The rows of the entities from the first to the last, measured where these are those who spend."""
        first, last = span
        offsets = self.entity.offsets
        rows = self.entity.order[offsets[first] : offsets[last]]
        events = EventRows(self, rows, offsets[first : last + 1] - offsets[first], first)
        if self.over_max is not None:
            measures = self.plan.measures
            events.known.update(zip(measures.names, Question(self, events, None).answers(measures), strict=True))
            self.over_max[rows] = events.known[OVER_MAX]
        return events


@dataclass(frozen=True)
class EventRows:
    """The rows of a block in order, with what is known of them."""

    work: Work
    rows: Integers
    offsets: Integers
    first: int
    known: dict[str, Floats] = field(default_factory=dict)

    @cached_property
    def times(self) -> Integers:
        """When they happened, in microseconds since 1970."""
        return self.work.rows.moment[self.rows]

    @cached_property
    def groups(self) -> Integers:
        """Whose they are, from 0."""
        return self.work.entity.codes[self.rows] - self.first

    def values(self, name: str) -> Floats:
        """A column of theirs as numbers."""
        if name not in self.known:
            if name == GENUINE:
                self.known[name] = self.work.genuine[self.rows].astype(np.float64)
            else:
                self.known[name] = self.work.rows.values(name, self.rows)
        return self.known[name]

    def codes(self, name: str) -> tuple[Integers, int]:
        """The values of a column as numbers from 0, and how many there are."""
        codes = code_array(self.work.rows.table[name].take(pa.array(self.rows)))
        return codes, int(codes.max(initial=-1)) + 1

    def taken_up(self, of: Events, part: Part) -> Floats:
        """What aggregates take of the events, shape (results, events)."""
        changes = self.work.changes
        given = np.empty((len(part.given), len(self.rows) if of == "transactions" else len(changes.known)))
        for place, one in enumerate(part.given):
            if isinstance(one, Constant):
                given[place] = one.value
            elif isinstance(one, Column) and of == "transactions":
                given[place] = self.values(one.name)
            elif isinstance(one, Column):
                given[place] = changes.change if one.name == CHANGE else changes.day
        return evaluate(given, part.operations, part.results)


class Question:
    """What is asked about some of a block's rows, or about all of them, each about the time before its own."""

    def __init__(self, work: Work, events: EventRows, asked: Integers | None) -> None:
        self._work, self._events, self._asked = work, events, asked
        self._times = events.times if asked is None else events.times[asked]
        self._groups = events.groups if asked is None else events.groups[asked]
        self._windows: dict[tuple[int, int, bool], tuple[Integers, Integers]] = {}
        self._moments: dict[tuple[Any, ...], tuple[Floats, Floats, Floats]] = {}

    def answers(self, program: Program) -> Floats:
        """The values of a program's results, shape (results, rows asked about)."""
        taken_up = {of: self._events.taken_up(of, part) for of, part in program.events.items()}
        given = np.empty((len(program.asked.given), len(self._times)))
        for place, one in enumerate(program.asked.given):
            match one:
                case Aggregate():
                    value = program.values[place]
                    given[place] = self._aggregate(one, None if value < 0 else taken_up[one.events][value], value)
                case Column():
                    values = self._events.values(one.name)
                    given[place] = values if self._asked is None else values[self._asked]
                case Constant():
                    given[place] = one.value
        return evaluate(given, program.asked.operations, program.asked.results)

    def _aggregate(self, one: Aggregate, values: Floats | None, place: int) -> Floats:
        of_labels = one.events == "label changes"
        low, high = self._window(one.hours or 0, self._work.plan.maturity if one.matured else 0, of_labels)
        if values is None:
            (name,) = columns(one.value)
            codes, n = self._events.codes(name)
            return sliding.window_distinct(codes, n, low, high)
        if one.function == "count":
            return sliding.window_count(values, low, high)
        if one.function in ("min", "max"):
            return sliding.window_extreme(values, low, high, 1.0 if one.function == "max" else -1.0)
        if one.function == "sum":
            return sliding.window_sum(values, low, high)
        key = (place, one.hours, one.events, one.matured)
        if key not in self._moments:
            self._moments[key] = sliding.window_moments(values, low, high)
        return self._moments[key][1 if one.function == "mean" else 2]

    def _window(self, hours: int, lag: int, of_labels: bool) -> tuple[Integers, Integers]:
        key = (hours, lag, of_labels)
        if key not in self._windows:
            times, offsets, groups = self._events.times, self._events.offsets, self._groups
            if of_labels:
                # Positions among all changes: an entity has few of them.
                times, offsets = self._work.changes.known, self._work.changes.offsets
                groups = groups + self._events.first
            self._windows[key] = sliding.bounds(times, offsets, groups, self._times, hours * MICROSECONDS_PER_HOUR, lag)
        return self._windows[key]


# The result


def write_own(table: pa.Table, local: Integers, plan: Plan, made: npt.NDArray[np.float32]) -> None:
    """Writes what transactions say of themselves.

    Args:
        table: the transactions.
        local: when they happened, as the contract's clock shows it.
        plan: of their contract.
        made: is written into, shape (`plan.numbers`, transactions).
    """
    numbers = dict(zip(plan.numbers, made, strict=True))
    numbers["hour"][:] = (local % MICROSECONDS_PER_DAY) / MICROSECONDS_PER_HOUR
    numbers["is_weekend"][:] = (local // MICROSECONDS_PER_DAY + MONDAY_EPOCH_SHIFT) % 7 >= 5
    with np.errstate(over="ignore"):
        if plan.contract.amount:
            numbers["amount"][:] = number_array(table["amount"])
        for name, column in plan.shown.items():
            if column.type == "date":
                numbers[name][:] = local // MICROSECONDS_PER_DAY - number_array(table[name])
            elif column.type != "string":
                numbers[name][:] = number_array(table[name])


def _table(rows: Rows, plan: Plan, made: npt.NDArray[np.float32]) -> pa.Table:
    """Adds what a transaction says of itself, and puts all into the order of the result."""
    contract, asked = plan.contract, rows.asked
    table = _taken(rows.table, asked)
    write_own(table, rows.local[asked], plan, made)
    numbers = dict(zip(plan.numbers, made, strict=True))
    columns: dict[str, Any] = {name: table[name] for name in ("transaction_id", *contract.entities)}
    columns["event_timestamp"] = table["event_timestamp"]
    if columns["event_timestamp"].type != TIMESTAMP:
        columns["event_timestamp"] = columns["event_timestamp"].cast(TIMESTAMP)
    columns |= {name: table[name].cast(pa.string()) for name, column in plan.shown.items() if column.type == "string"}
    if len(asked) > BLOCK_ROWS:
        columns |= _each(_floats, numbers)
    else:
        at_once = _floats(made.reshape(-1))
        columns |= {name: at_once.slice(place * len(asked), len(asked)) for place, name in enumerate(numbers)}
    names = ["transaction_id", "event_timestamp", *contract.entities, *plan.types]
    return pa.table([columns[name] for name in names], names)


def _taken(table: pa.Table, asked: Integers) -> pa.Table:
    """Some rows in their order; where they lie together already, without a copy."""
    together = len(asked) == 0 or (asked[-1] - asked[0] == len(asked) - 1 and ascending(asked))
    return table.slice(asked[0] if len(asked) else 0, len(asked)) if together else table.take(pa.array(asked))


def _each(work: Callable[[Any], Any], given: Mapping[str, Any]) -> dict[str, Any]:
    with ThreadPoolExecutor(_cores()) as pool:
        return dict(zip(given, pool.map(work, given.values()), strict=True))


def _floats(values: npt.NDArray[np.float32]) -> pa.Array:
    """The array on the same memory, null where it is NaN."""
    known = np.packbits(~np.isnan(values), bitorder="little")
    return pa.Array.from_buffers(pa.float32(), len(values), [pa.py_buffer(known), pa.py_buffer(values)])
