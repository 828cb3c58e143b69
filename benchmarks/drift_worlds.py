"""Worlds for the drift benchmark: months in which nothing changed, and the same months with one change put in.

A world is what the platform would have of it, month by month, in memory. A change touches some months and shares the
others with the world that it happens to. Who finds what belongs to `drift.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.handbook import load_cards
from fraud_assets.core import simulator
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.findings import Cause, DriftKind
from fraud_assets.core.features.arrays import TIMESTAMP
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.monitoring.verdict import Blame
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.simulator import NEW_SEGMENT, NEW_TERMINAL_RATIO, SimulatorConfig, simulate_month
from fraud_assets.core.units import MICROSECONDS_PER_DAY

FIRST = "2025-01"
# Amounts are compared with those of 90 days before, 30 days back, less 14 days of maturity: full after 134 days.
FILLED = shift_month(FIRST, 5)
FEATURED = shift_month(FILLED, -1)  # what is new in a month is told by the 31 days before
TRAINED = shift_month(FILLED, 2)  # three months, the longest reference there is
TESTED = shift_month(TRAINED, 1)
TESTS = 10
CHANGED = shift_month(TESTED, 3)  # six months before it are as many as a report looks at
LOOKED_BACK = 5  # months: the 134 days

CUSTOMERS = 5000  # with as many as the Handbook a month has 290,000 rows
TERMINALS_PER_CUSTOMER = 2
# Worlds with shocks are thinned from more rows, so that a day can be busier than usual, too: by a third, which is 2.9
# of the larger of the two standard deviations.
KEPT = 0.75
# The shocks of drift.md's S1: standard deviations of logarithms.
DAY_VOLUME, MONTH_VOLUME, DAY_AMOUNT, MONTH_AMOUNT = 0.10, 0.03, 0.02, 0.005

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Tables = Mapping[tuple[str, str], pa.Table]

ROWS, LABELS, FEATURES, RAW = "rows", "fraud_labels", "transaction_features", "raw_transactions"


# --- Worlds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A simulated world.

    Attributes:
        seed: of everything in it.
        customers: it has twice as many terminals.
        shocks: how strong the shocks are that all customers share, as a multiple of 10 % of volume a day and 3 % a
            month, 2 % of amounts a day and 0.5 % a month (standard deviations); 0 for none.
        tests: how many months are reported on.
    """

    seed: int
    customers: int = CUSTOMERS
    shocks: float = 0.0
    tests: int = TESTS

    @property
    def tested(self) -> tuple[str, ...]:
        """The months that are reported on."""
        return tuple(months_between(TESTED, shift_month(TESTED, self.tests - 1)))


@dataclass(frozen=True)
class World:
    """Months of transactions, with what became of them.

    Attributes:
        contract: of its source.
        first: its first month.
        tables: by name and month. `rows` are transactions as they happened, with `is_fraud` and `label_timestamp`,
            whenever known; `fraud_labels` the statements that became known in the month; `transaction_features`.
    """

    contract: Contract
    first: str
    tables: Tables

    @property
    def first_event(self) -> datetime:
        """The first transaction."""
        moment: datetime = self.tables[ROWS, self.first]["event_timestamp"][0].as_py()
        return moment

    @property
    def rows(self) -> MonthRows:
        """What the platform has, for its reports; none where a month is from before there is anything."""
        found: dict[Needed, pa.Table] = {}
        begin = min(self.first, self.contract.first_month)
        for table in (RAW, LABELS, FEATURES):
            given = {
                month: rows for (name, month), rows in self.tables.items() if name == (ROWS if table == RAW else table)
            }
            names = tuple(
                self.contract.transactions_schema().names if table == RAW else next(iter(given.values())).column_names
            )
            empty = next(iter(given.values())).slice(0, 0)
            for month in months_between(begin, max(given)):
                found[Needed(table, names, month, month)] = given.get(month, empty).select(list(names))
        return MonthRows(found, self.contract)

    def read(self, table: str, columns: Sequence[str] | None, first: str, last: str, /) -> pa.Table:
        """Months of a table of the platform, or of the `rows` behind it."""
        if table == RAW:
            table, columns = ROWS, self.contract.transactions_schema().names if columns is None else columns
        months = (self.tables.get((table, month)) for month in months_between(first, last))
        found = [month for month in months if month is not None]
        if not found:
            found = [next(rows for (name, _), rows in self.tables.items() if name == table).slice(0, 0)]
        return pa.concat_tables([rows if columns is None else rows.select(list(columns)) for rows in found])


def simulated_world(plan: Plan, contract: Contract) -> World:
    """A world in which nothing changes, from `FIRST` to its last tested month; with features from `FEATURED` on."""
    config = SimulatorConfig(
        seed=plan.seed,
        customers=round(plan.customers / (KEPT if plan.shocks else 1)),
        terminals=plan.customers * TERMINALS_PER_CUSTOMER,
    )
    months = months_between(FIRST, plan.tested[-1])
    rows = {month: simulate_month(month, config) for month in months}
    if plan.shocks:
        rows = {month: with_shocks(some, month, plan) for month, some in rows.items()}
    return _world(contract, pa.concat_tables(rows.values()), FEATURED, plan.tested[-1])


def handbook_world(data: Path, contract: Contract) -> World:
    """The months of the Handbook, with features of all."""
    cards = load_cards(data, contract)
    fraud = pa.array(cards.fraud == 1)
    known = pc.add(cards.transactions["event_timestamp"].cast(TIMESTAMP), _days(contract.maturity_days))
    rows = cards.transactions.append_column("is_fraud", fraud)
    rows = rows.append_column("label_timestamp", pc.if_else(fraud, known, None))
    return _world(contract, rows, contract.first_month, contract.month_of(rows["event_timestamp"][-1].as_py()))


def with_shocks(rows: pa.Table, month: str, plan: Plan) -> pa.Table:
    """Thins the rows of each day, and scales their amounts, by factors that all customers share."""
    draws = _generator(plan.seed, 1, int(month.replace("-", "")))
    by_month, by_day = draws.normal(size=2), draws.normal(size=(31, 2))
    day = pc.day(rows["event_timestamp"]).to_numpy() - 1
    volume = np.exp(plan.shocks * (MONTH_VOLUME * by_month[0] + DAY_VOLUME * by_day[:, 0]))
    amounts = np.exp(plan.shocks * (MONTH_AMOUNT * by_month[1] + DAY_AMOUNT * by_day[:, 1]))
    rows = _with(rows, "amount", np.round(rows["amount"].to_numpy() * amounts[day], 2))
    return rows.filter(pa.array(draws.random(len(rows)) < KEPT * volume[day]))


def _world(contract: Contract, rows: pa.Table, filled: str, last: str) -> World:
    first = contract.month_of(rows["event_timestamp"][0].as_py())
    tables = {(ROWS, month): between(rows, contract, month) for month in months_between(first, last)}
    world = World(contract, first, tables)
    tables |= _statements(world, first, first, last)
    tables |= _features(world, first, filled, last)
    return world


def _statements(world: World, known_from: str, first: str, last: str) -> dict[tuple[str, str], pa.Table]:
    """The statements that become known from a month on, of transactions from another on."""
    rows = world.read(ROWS, None, first, last)
    frauds = rows.filter(rows["is_fraud"])
    frauds = frauds.append_column("label_source", pa.array(["chargeback"] * len(frauds), pa.string()))
    schema = world.contract.labels_schema()
    statements = frauds.select(schema.names).cast(schema).sort_by("label_timestamp")
    return {
        (LABELS, month): between(statements, world.contract, month, "label_timestamp")
        for month in months_between(known_from, last)
    }


def _features(world: World, history: str, first: str, last: str) -> dict[tuple[str, str], pa.Table]:
    """The features of months, made of what happened from the month `history` on."""
    contract = world.contract
    made = compute_features(
        world.read(RAW, None, history, last),
        world.read(LABELS, None, history, last),
        contract,
        start=contract.month_start(first),
        end=contract.month_end(last),
    )
    return {(FEATURES, month): between(made, contract, month) for month in months_between(first, last)}


def between(rows: pa.Table, contract: Contract, month: str, column: str = "event_timestamp") -> pa.Table:
    """The rows of a month."""
    moment = rows[column]
    start, end = (
        pa.scalar(instant, moment.type) for instant in (contract.month_start(month), contract.month_end(month))
    )
    return rows.filter(pc.and_(pc.greater_equal(moment, start), pc.less(moment, end))).combine_chunks()


# --- Changes ------------------------------------------------------------------------------------------------

# Takes the rows of some months, and which of them have the change; gives what would have come instead.
Edit = Callable[[pa.Table, Bools, np.random.Generator], pa.Table]


@dataclass(frozen=True)
class Change:
    """One thing that can happen to a world, and what a report shall say of it.

    Attributes:
        name: as snake_case.
        edit: does it.
        blame: what the report shall blame.
        named: kinds and causes of findings, any of which names it.
        months: 2 where it is judged when its labels have matured, in the month after; it lasts until then.
        of_labels: whether labels of earlier transactions change, too.
        peers: whether tools that look at the columns alone are asked about it.
    """

    name: str
    edit: Edit
    blame: Blame
    named: frozenset[tuple[DriftKind, Cause]]
    months: int = 1
    of_labels: bool = False
    peers: bool = True

    @property
    def judged(self) -> str:
        """The month whose report shall find it."""
        return shift_month(CHANGED, self.months - 1)


def changed_world(world: World, change: Change, seed: int) -> World:
    """A world with a change from `CHANGED` on, until the month in which it is judged."""
    first = shift_month(CHANGED, -LOOKED_BACK)
    rows = world.read(ROWS, None, first, change.judged)
    start = pa.scalar(world.contract.month_start(CHANGED), rows["event_timestamp"].type)
    since = rows["label_timestamp" if change.of_labels else "event_timestamp"]
    touched = pc.fill_null(pc.greater_equal(since, start), False).to_numpy()
    number = next(place for place, one in enumerate(CHANGES) if one.name == change.name)
    edited = change.edit(rows, touched, _generator(seed, 2, number)).sort_by(
        [("event_timestamp", "ascending"), ("transaction_id", "ascending")]
    )
    months = months_between(first if change.of_labels else CHANGED, change.judged)
    tables = {**world.tables, **{(ROWS, month): between(edited, world.contract, month) for month in months}}
    changed = World(world.contract, world.first, tables)
    tables |= _statements(changed, CHANGED, first, change.judged)
    tables |= _features(changed, first, CHANGED, change.judged)
    return changed


def scale_amounts(rows: pa.Table, touched: Bools, _draws: np.random.Generator) -> pa.Table:
    """All amounts times 1.05."""
    return _with(rows, "amount", _scaled(rows, touched, 1.05))


def scale_amounts_of_few(rows: pa.Table, touched: Bools, draws: np.random.Generator) -> pa.Table:
    """Amounts times 1.3 for 5 % of customers."""
    customer = rows["customer_id"].to_numpy()
    few = draws.choice(ids := np.unique(customer), round(0.05 * len(ids)), replace=False)
    return _with(rows, "amount", _scaled(rows, touched & np.isin(customer, few), 1.3))


def lose_amounts(rows: pa.Table, touched: Bools, draws: np.random.Generator) -> pa.Table:
    """10 % of amounts are missing."""
    lost = touched & (draws.random(len(rows)) < 0.10)
    return _with(rows, "amount", pa.array(rows["amount"].to_numpy(), mask=lost, from_pandas=True))


def open_segment(rows: pa.Table, touched: Bools, draws: np.random.Generator) -> pa.Table:
    """3 % of transactions go to new terminals, of a segment that was not there, as busy as the others."""
    terminal, share = rows["terminal_id"].to_numpy(), 0.03
    moved = touched & (draws.random(len(rows)) < share)
    number = max(1, round(share * len(np.unique(terminal))))
    first = int(terminal.max()) + 1 + round(NEW_TERMINAL_RATIO * len(np.unique(terminal)))
    rows = _with(rows, "terminal_id", np.where(moved, first + draws.integers(number, size=len(rows)), terminal))
    segment = pc.if_else(pa.array(moved), NEW_SEGMENT, rows["merchant_segment"])
    return _with(rows, "merchant_segment", segment)


def shift_clock(rows: pa.Table, touched: Bools, _draws: np.random.Generator) -> pa.Table:
    """All times are an hour late, as a feed in local time is; what so falls out of the month is not delivered."""
    moment = rows["event_timestamp"]
    late = pc.if_else(pa.array(touched), pc.add(moment, pa.scalar(timedelta(hours=1), pa.duration("us"))), moment)
    return _with(rows, "event_timestamp", late)


def heat_terminals(rows: pa.Table, touched: Bools, draws: np.random.Generator) -> pa.Table:
    """2 % of terminals become hot spots: a third of their genuine transactions is fraud, at the amounts they have."""
    terminal = rows["terminal_id"].to_numpy()
    hot = draws.choice(ids := np.unique(terminal), round(0.02 * len(ids)), replace=False)
    struck = touched & np.isin(terminal, hot) & (draws.random(len(rows)) < simulator.HOT_SPOT_SHARE)
    return _with_frauds(rows, struck, draws)


def delay_labels(rows: pa.Table, touched: Bools, _draws: np.random.Generator) -> pa.Table:
    """What would have become known from the month's beginning on becomes known two weeks later."""
    known = rows["label_timestamp"]
    later = pc.add(known, _days(14))
    return _with(rows, "label_timestamp", pc.if_else(pa.array(touched), later, known))


def double_fraud(rows: pa.Table, touched: Bools, draws: np.random.Generator) -> pa.Table:
    """As many terminals and customers again are compromised as before, and used as the simulator has it.

    As if it had been so for long: in the first days some have been compromised for weeks.
    """
    day = rows["event_timestamp"].cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY
    begin = int(day[touched].min())
    terminal, customer = rows["terminal_id"].to_numpy(), rows["customer_id"].to_numpy()

    def compromised(ids: Integers, ratio: tuple[int, int], days: int) -> Bools:
        population = np.unique(ids)
        hit = np.zeros(len(ids), np.bool_)
        for start in range(begin - days + 1, int(day.max()) + 1):
            number = draws.poisson(len(population) * ratio[0] / ratio[1])
            who = draws.choice(population, number, replace=False)
            hit |= np.isin(ids, who) & (day >= start) & (day < start + days)
        return hit & touched

    by_terminal = compromised(terminal, simulator.COMPROMISED_TERMINAL_RATIO, simulator.TERMINAL_COMPROMISE_DAYS)
    by_customer = compromised(customer, simulator.COMPROMISED_CUSTOMER_RATIO, simulator.CUSTOMER_COMPROMISE_DAYS)
    fraud = rows["is_fraud"].to_numpy(zero_copy_only=False)
    by_customer &= (draws.random(len(rows)) < simulator.COMPROMISED_SHARE) & ~fraud
    rows = _with(rows, "amount", _scaled(rows, by_customer, simulator.COMPROMISED_FACTOR))
    return _with_frauds(rows, by_terminal | by_customer, draws)


CHANGES: tuple[Change, ...] = (
    Change(
        "amounts_scaled", scale_amounts, "world",
        frozenset({("covariate", "scaled")}),
    ),
    Change(
        "amounts_of_few_customers", scale_amounts_of_few, "world",
        frozenset({("covariate", "few_entities")}),
    ),
    Change(
        "amounts_missing", lose_amounts, "data",
        frozenset({("missing", "missing_values")}),
    ),
    Change(
        "new_segment", open_segment, "world",
        frozenset({("category", "new_category")}),
    ),
    Change(
        "clock_shifted", shift_clock, "data",
        frozenset({("covariate", "shifted_clock")}),
    ),
    Change(
        "hot_spots", heat_terminals, "world",
        frozenset({("concept", "fraud_pattern")}),
        months=2,
    ),
    Change(
        "labels_late", delay_labels, "labels",
        frozenset({("label", "label_delay")}),
        of_labels=True, peers=False,
    ),
    Change(
        "fraud_doubled", double_fraud, "world",
        frozenset({("label", "fraud_rate")}),
        months=2,
    ),
)  # fmt: skip


def _scaled(rows: pa.Table, where: Bools, factor: float) -> Floats:
    amount: Floats = rows["amount"].to_numpy()
    scaled: Floats = np.where(where, np.round(amount * factor, 2), amount)
    return scaled


def _with_frauds(rows: pa.Table, struck: Bools, draws: np.random.Generator) -> pa.Table:
    """Makes genuine transactions fraud, reported after the simulator's delays."""
    fraud = rows["is_fraud"].to_numpy(zero_copy_only=False)
    config = SimulatorConfig()
    days = draws.lognormal(math.log(config.label_delay_median_days), config.label_delay_sigma, len(rows))
    delay = (np.minimum(days, config.label_delay_cap_days) * MICROSECONDS_PER_DAY).astype(np.int64)
    moment = rows["event_timestamp"].cast(pa.int64()).to_numpy()
    known = pa.array(moment + delay).cast(rows["label_timestamp"].type)
    new = struck & ~fraud
    rows = _with(rows, "label_timestamp", pc.if_else(pa.array(new), known, rows["label_timestamp"]))
    return _with(rows, "is_fraud", fraud | new)


def _with(rows: pa.Table, name: str, values: Any) -> pa.Table:
    column = rows.schema.field(name)
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return rows.set_column(rows.column_names.index(name), column, array.cast(column.type))


def _generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(1000 + purpose, number))))


def _days(number: float) -> pa.Scalar:
    return pa.scalar(timedelta(days=number), pa.duration("us"))
