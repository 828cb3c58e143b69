"""The transaction simulator: months of card transactions with frauds, label delays and drift on request.

The world is the one published in the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot and Bontempi
2022, chapter 3, "Transaction data simulator"): customers and terminals on a plane, a customer's habits, three
fraud scenarios. What is added to it is what a monthly platform needs: any month on its own, labels that
arrive late, and changes of the world that are known because they were switched on. Describing such a world
and drawing its months belongs here; writing them anywhere does not.

Where this departs from the published program, and why:

* Every draw has its own stream, made of the seed, what is drawn and the day. A month therefore comes out the
  same alone, in a range or in any order, and a drift that is switched on leaves all other draws as they were.
  The rows are not the published rows; their distribution is.
* Compromises that began before a month are redrawn, so the first month already has as much fraud as any
  other. The published data begin without fraud and take 28 days to fill up.
* Of a compromised customer's transactions each is fraud with probability one third. The program picks exactly
  a third of all transactions of the day's three customers in 14 days, which no single month could know. An
  amount is multiplied by 5 once, even where two compromises of a customer overlap.
* A customer with no terminal within the radius uses the nearest one. In the published program such a customer
  buys nothing, and a small world could come out empty.

NumPy may change what a generator draws from one feature release to the next (NEP 19), and with it the rows,
not their distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.months import check_month, month_end, month_start
from fraud_assets.core.units import SECONDS_PER_DAY

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.int64(), nullable=False),
        pa.field("event_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("customer_id", pa.int64(), nullable=False),
        pa.field("terminal_id", pa.int64(), nullable=False),
        pa.field("amount", pa.float64()),
        pa.field("merchant_segment", pa.string(), nullable=False),
        pa.field("is_fraud", pa.bool_(), nullable=False),
        pa.field("label_timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("fraud_scenario", pa.int64(), nullable=False),
    ]
)

# Segments and their shares of the terminals: not published, since the published world has none. They carry no
# information about fraud there, which is what makes a new one a change of the input alone.
SEGMENTS: Mapping[str, float] = {
    "grocery": 0.30,
    "restaurant": 0.20,
    "fuel": 0.15,
    "retail": 0.15,
    "online": 0.12,
    "travel": 0.08,
}
NEW_SEGMENT = "digital_goods"

SIDE = 100.0
MEAN_AMOUNT_RANGE = (5.0, 100.0)
MEAN_TRANSACTIONS_PER_DAY_RANGE = (0.0, 4.0)
TIME_OF_DAY = (43_200.0, 20_000.0)
FRAUD_AMOUNT = 220.0
TERMINAL_COMPROMISE_DAYS = 28
CUSTOMER_COMPROMISE_DAYS = 14
COMPROMISED_SHARE = 1 / 3
COMPROMISED_FACTOR = 5.0
TAKEN_OVER = 3
# Two terminals of 10,000 and three customers of 5,000 a day.
COMPROMISED_TERMINAL_RATIO = (2, 10_000)
COMPROMISED_CUSTOMER_RATIO = (3, 5_000)
# A tenth as many new terminals as old ones: at the default share of a tenth of the transactions they are as
# busy as the old.
NEW_TERMINAL_RATIO = 0.1
HOT_SPOT_SHARE = 1 / 3

# 8 digits number the transactions of a month, and 1,000,000 customers make 62 million. More terminals than
# this would take gigabytes before the first transaction.
ORDINALS = 10**8
MOST_CUSTOMERS = 1_000_000
MOST_TERMINALS = 10_000_000
# Four bytes for each pair of a customer and a terminal within reach: 400 MB.
MOST_PAIRS = 10**8
EPOCH = 719_163  # date(1970, 1, 1).toordinal()


class DriftKind(NamedTuple):
    """A kind's strength when nobody says how strong it shall be, and the strength that does nothing."""

    default: float
    neutral: float


DRIFT_KINDS: Mapping[str, DriftKind] = {
    "amount_inflation": DriftKind(default=1.5, neutral=1.0),
    "new_merchant_segment": DriftKind(default=0.1, neutral=0.0),
    "new_fraud_pattern": DriftKind(default=0.02, neutral=0.0),
    "missing_values": DriftKind(default=0.1, neutral=0.0),
}


@dataclass(frozen=True)
class DriftSwitch:
    """One change of the world, from a month on.

    A later switch of the same kind replaces an earlier one; its neutral strength (1 for amount_inflation, 0
    for the others) ends the drift.

    Attributes:
        kind: one of DRIFT_KINDS.
            amount_inflation: every amount is multiplied by the strength. What is fraud does not change:
                scenario 1 looks at the amount before inflation, as fraudsters' habits, not a constant in
                currency, are what it stands for.
            new_merchant_segment: the strength's share of the transactions moves to terminals that did not
                exist before, in a segment that did not exist before. They are compromised as often as others,
                from the month of their opening on.
            new_fraud_pattern: the strength's share of the terminals become hot spots for good, where one
                transaction in three is fraud at an amount like any other (fraud_scenario 4).
            missing_values: the strength's share of the amounts is null.
        since: the first month it is in force, YYYY-MM.
        strength: factor or share; the kind's default where None is given.

    Raises:
        ValueError: for an unknown kind, a malformed month or a strength out of range.
    """

    kind: str
    since: str
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in DRIFT_KINDS:
            raise ValueError(f"there is no drift {self.kind!r}; the kinds are {', '.join(DRIFT_KINDS)}")
        check_month(self.since)
        if self.strength is None:
            object.__setattr__(self, "strength", DRIFT_KINDS[self.kind].default)
        strength = self.strength
        if self.kind == "amount_inflation":
            if not (isinstance(strength, (int, float)) and 0 < strength < math.inf):
                raise ValueError(f"{self.kind} needs a factor above 0, for example 1.5, not {strength!r}")
        elif not (isinstance(strength, (int, float)) and 0 <= strength <= 1):
            raise ValueError(f"{self.kind} needs a share between 0 and 1, for example 0.1, not {strength!r}")


def parse_drifts(text: str) -> tuple[DriftSwitch, ...]:
    """Reads drift switches from "kind@month" or "kind@month:strength", separated by commas.

    Args:
        text: the switches; an empty text means none.

    Raises:
        ValueError: naming the part that is wrong, and the kinds that exist.

    >>> parse_drifts("amount_inflation@2025-04:1.8, missing_values@2025-05")
    ... # doctest: +NORMALIZE_WHITESPACE
    (DriftSwitch(kind='amount_inflation', since='2025-04', strength=1.8),
     DriftSwitch(kind='missing_values', since='2025-05', strength=0.1))
    """
    if not text.strip():
        return ()
    switches = []
    for part in text.split(","):
        kind, at, rest = part.strip().partition("@")
        since, colon, strength = rest.partition(":")
        try:
            if not at:
                raise ValueError("the month is missing")
            switches.append(DriftSwitch(kind.strip(), since.strip(), _number(strength) if colon else None))
        except ValueError as error:
            raise ValueError(
                f"drift {part.strip()!r} cannot be read: {error}. Write kind@YYYY-MM or "
                f"kind@YYYY-MM:strength, separated by commas; the kinds are {', '.join(DRIFT_KINDS)}"
            ) from error
    return tuple(switches)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"the strength {text.strip()!r} is not a number") from error


@dataclass(frozen=True)
class SimulatorConfig:
    """A world: who is in it, how it is attacked, how late labels come, and what changes when.

    Attributes:
        customers: how many, 1 to 1,000,000; a customer makes 2 transactions a day on average.
        terminals: how many, 1 to 10,000,000.
        seed: 0 to 2^63 - 1; a world is the same for the same configuration.
        radius: how far a customer goes, on a plane of 100 by 100. With many terminals it should shrink, to
            keep the number within reach (78 at the published size).
        compromised_terminals_per_day: expected number that become compromised each day; None for the
            published ratio, 2 of 10,000. Of a number that is not whole, the fraction is the probability of
            one more.
        compromised_customers_per_day: likewise; None for the published ratio, 3 of 5,000.
        drifts: the changes.
        label_delay_median_days: median of the lognormal time from a fraud to its report. 5 days, and a sigma
            of 0.5, put 98% of the reports within the 14 days after which a transaction counts as genuine; the
            others arrive later, as chargebacks do.
        label_delay_sigma: standard deviation of the logarithm of that time.
        label_delay_cap_days: no report takes longer.

    Raises:
        ValueError: for a value out of range, two drifts of a kind from the same month, or a radius that puts
            too many terminals within reach to be kept in memory.
    """

    customers: int = 5000
    terminals: int = 10_000
    seed: int = 0
    radius: float = 5.0
    compromised_terminals_per_day: float | None = None
    compromised_customers_per_day: float | None = None
    drifts: tuple[DriftSwitch, ...] = ()
    label_delay_median_days: float = 5.0
    label_delay_sigma: float = 0.5
    label_delay_cap_days: float = 60.0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("customers", 1, MOST_CUSTOMERS),
            ("terminals", 1, MOST_TERMINALS),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} is {value!r}; it has to be a whole number from {least} to {most}")
        for name in ("radius", "label_delay_median_days", "label_delay_cap_days"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it has to be a number above 0")
        if not 0 <= self.label_delay_sigma < math.inf:
            raise ValueError(f"label_delay_sigma is {self.label_delay_sigma!r}; it has to be 0 or more")
        if self.label_delay_cap_days < self.label_delay_median_days:
            raise ValueError(
                f"label_delay_cap_days is {self.label_delay_cap_days!r}, below the median of "
                f"{self.label_delay_median_days!r}; every second report would arrive exactly at the cap"
            )
        for name, most in (("terminals", self.terminals), ("customers", self.customers)):
            rate = getattr(self, f"compromised_{name}_per_day")
            if rate is not None and not 0 <= rate <= most:
                raise ValueError(f"compromised_{name}_per_day is {rate!r}; it has to be between 0 and {most} ({name})")
        if len({(switch.kind, switch.since) for switch in self.drifts}) < len(self.drifts):
            raise ValueError("two drifts of the same kind begin in the same month; keep one of them")
        share = min(math.pi * self.radius**2 / SIDE**2, 1.0)
        if self.customers * self.terminals * share > MOST_PAIRS:
            fitting = SIDE * math.sqrt(MOST_PAIRS / (self.customers * self.terminals * math.pi))
            fitting = math.floor(100 * fitting) / 100
            raise ValueError(
                f"with a radius of {self.radius!r} each of {self.customers} customers reaches about "
                f"{self.terminals * share:.0f} terminals, too many to keep; a radius up to {fitting} fits"
            )

    def strength(self, kind: str, month: str) -> float:
        """The strength of a kind of drift in a month; its neutral strength when none is in force."""
        in_force = [switch for switch in self.drifts if switch.kind == kind and switch.since <= month]
        latest = max(in_force, key=lambda switch: switch.since, default=None)
        if latest is None or latest.strength is None:
            return DRIFT_KINDS[kind].neutral
        return latest.strength


class _Draw(IntEnum):
    """What a stream is for. The numbers are part of every world: a new purpose takes a new one."""

    CUSTOMERS = 0
    TERMINALS = 1
    SEGMENTS = 2
    COUNTS = 3
    TIMES = 4
    AMOUNTS = 5
    TERMINAL_CHOICES = 6
    COMPROMISED_TERMINALS = 7
    COMPROMISED_CUSTOMERS = 8
    COMPROMISED_TRANSACTIONS = 9
    LABEL_DELAYS = 10
    MOVED_TRANSACTIONS = 11
    COMPROMISED_NEW_TERMINALS = 12
    HOT_SPOTS = 13
    HOT_TRANSACTIONS = 14
    MISSING_AMOUNTS = 15


def _stream(seed: int, draw: _Draw, day: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=(int(draw), day))))


class _World(NamedTuple):
    """Everything that does not change from day to day.

    Customer c reaches terminals `reachable[first[c] : first[c] + reach[c]]`; `segment` has the new terminals
    after the old.
    """

    mean_amount: Floats
    transactions_per_day: Floats
    reachable: npt.NDArray[np.int32]
    first: Integers
    reach: Integers
    segment: npt.NDArray[np.int8]


# Two worlds, because a comparison has two; each may hold 400 MB of pairs.
@lru_cache(maxsize=2)
def _world(seed: int, customers: int, terminals: int, radius: float) -> _World:
    habits = _stream(seed, _Draw.CUSTOMERS).random((customers, 4))
    homes = SIDE * habits[:, :2]
    places = SIDE * _stream(seed, _Draw.TERMINALS).random((terminals, 2))
    reachable, reach = _terminals_within(homes, places, radius)
    segment = np.full(terminals + _new_terminals(terminals), len(SEGMENTS), dtype=np.int8)
    segment[:terminals] = _stream(seed, _Draw.SEGMENTS).choice(len(SEGMENTS), size=terminals, p=list(SEGMENTS.values()))
    return _World(
        mean_amount=_between(MEAN_AMOUNT_RANGE, habits[:, 2]),
        transactions_per_day=_between(MEAN_TRANSACTIONS_PER_DAY_RANGE, habits[:, 3]),
        reachable=reachable,
        first=np.cumsum(reach) - reach,
        reach=reach,
        segment=segment,
    )


def _between(limits: tuple[float, float], unit: Floats) -> Floats:
    return limits[0] + (limits[1] - limits[0]) * unit


def _new_terminals(terminals: int) -> int:
    return max(1, round(NEW_TERMINAL_RATIO * terminals))


def _terminals_within(homes: Floats, places: Floats, radius: float) -> tuple[npt.NDArray[np.int32], Integers]:
    """The terminals each customer reaches, one customer after the other, and how many they are."""
    # Here, because it takes half a second that commands which simulate nothing should not wait.
    from scipy.spatial import cKDTree

    tree = cKDTree(places)
    count = tree.query_ball_point(homes, radius, return_length=True).astype(np.int64)
    nearest = tree.query(homes)[1].astype(np.int32)
    reachable = np.empty(np.maximum(count, 1).sum(), dtype=np.int32)
    end = 0
    # The tree answers in Python lists, ten times the size of the array they go into: not all at once.
    for start in range(0, len(homes), 1000):
        found = tree.query_ball_point(homes[start : start + 1000], radius, return_sorted=True)
        for customer, terminals in enumerate(found, start):
            chosen = terminals or nearest[customer : customer + 1]
            reachable[end : end + len(chosen)] = chosen
            end += len(chosen)
    return reachable, np.maximum(count, 1)


def _compromised(seed: int, draw: _Draw, day: int, population: int, per_day: float) -> Integers:
    """Who becomes compromised on a day: no one twice, and depending on the day alone."""
    stream = _stream(seed, draw, day)
    number = int(per_day) + int(stream.random() < per_day % 1)
    return stream.choice(population, size=number, replace=False, shuffle=False)


class _Attack(NamedTuple):
    """Who becomes compromised on which day, for all days that matter to a month; and its hot spots."""

    terminals: Mapping[int, Integers]
    customers: Mapping[int, Integers]
    hot_spots: npt.NDArray[np.bool_]


def _attack(config: SimulatorConfig, month: str, days: range) -> _Attack:
    seed = config.seed
    old, new = config.terminals, _new_terminals(config.terminals)
    ratio, base = COMPROMISED_TERMINAL_RATIO
    terminal_rate = config.compromised_terminals_per_day
    if terminal_rate is None:
        terminal_rate = config.terminals * ratio / base
    ratio, base = COMPROMISED_CUSTOMER_RATIO
    customer_rate = config.compromised_customers_per_day
    if customer_rate is None:
        customer_rate = config.customers * ratio / base
    openings = [switch.since for switch in config.drifts if switch.kind == "new_merchant_segment"]
    opening = month_start(min(openings)).toordinal() if openings else days.stop

    terminals = {}
    for day in range(days.start - TERMINAL_COMPROMISE_DAYS + 1, days.stop):
        terminals[day] = _compromised(seed, _Draw.COMPROMISED_TERMINALS, day, old, terminal_rate)
        if day >= opening:
            drawn = _compromised(seed, _Draw.COMPROMISED_NEW_TERMINALS, day, new, terminal_rate * new / old)
            terminals[day] = np.concatenate([terminals[day], old + drawn])
    customers = {
        day: _compromised(seed, _Draw.COMPROMISED_CUSTOMERS, day, config.customers, customer_rate)
        for day in range(days.start - CUSTOMER_COMPROMISE_DAYS + 1, days.stop)
    }
    hot_spots = np.zeros(old + new, dtype=np.bool_)
    if share := config.strength("new_fraud_pattern", month):
        # The beginning of one permutation, so that a stronger drift has the weaker one's hot spots too.
        hot_spots[_stream(seed, _Draw.HOT_SPOTS).permutation(old)[: max(1, round(share * old))]] = True
    return _Attack(terminals, customers, hot_spots)


def _times_compromised(began: Mapping[int, Integers], day: int, days: int, population: int) -> Integers:
    """How many compromises of the last `days` days, this one included, each member is under."""
    active = np.concatenate([began[start] for start in range(day - days + 1, day + 1)])
    return np.bincount(active, minlength=population)


def _simulate_day(
    config: SimulatorConfig, world: _World, attack: _Attack, month: str, day: int, first_id: int
) -> pa.RecordBatch:
    """One day's transactions, by time, with ids from `first_id` on."""

    def stream(draw: _Draw) -> np.random.Generator:
        return _stream(config.seed, draw, day)

    customer = np.repeat(np.arange(config.customers), stream(_Draw.COUNTS).poisson(world.transactions_per_day))
    # As published, whole seconds, and a transaction whose time falls outside the day does not happen.
    second = stream(_Draw.TIMES).normal(*TIME_OF_DAY, size=len(customer)).astype(np.int64)
    order = np.argsort(second, kind="stable")
    order = order[(second[order] > 0) & (second[order] < SECONDS_PER_DAY)]
    customer, second = customer[order], second[order]
    rows = len(order)

    amounts = stream(_Draw.AMOUNTS)
    mean = world.mean_amount[customer]
    amount: Floats = amounts.normal(mean, mean / 2)
    amount = np.where(amount < 0, 2 * mean * amounts.random(rows), amount).round(2)

    choice = (stream(_Draw.TERMINAL_CHOICES).random(rows) * world.reach[customer]).astype(np.int64)
    terminal = world.reachable[world.first[customer] + choice].astype(np.int64)
    if share := config.strength("new_merchant_segment", month):
        moves = stream(_Draw.MOVED_TRANSACTIONS)
        moved = moves.random(rows) < share
        opened = moves.integers(_new_terminals(config.terminals), size=rows)
        terminal = np.where(moved, config.terminals + opened, terminal)

    scenario = _scenarios(attack, day, stream, customer, terminal, amount)
    amount[scenario == TAKEN_OVER] *= COMPROMISED_FACTOR
    amount *= config.strength("amount_inflation", month)
    amount = amount.round(2)
    missing = np.zeros(rows, dtype=np.bool_)
    if share := config.strength("missing_values", month):
        missing = stream(_Draw.MISSING_AMOUNTS).random(rows) < share

    # Every transaction gets a delay, so that one more fraud does not change the delays of the others.
    delay = stream(_Draw.LABEL_DELAYS).lognormal(
        math.log(config.label_delay_median_days), config.label_delay_sigma, size=rows
    )
    delay = np.minimum(delay, config.label_delay_cap_days) * SECONDS_PER_DAY * 1e6
    event = ((day - EPOCH) * SECONDS_PER_DAY + second) * 1_000_000
    fraud = scenario > 0
    columns: list[Any] = [
        pa.array(np.arange(first_id, first_id + rows)),
        pa.array(event).cast(SCHEMA.field("event_timestamp").type),
        pa.array(customer),
        pa.array(terminal),
        pa.array(amount, mask=missing),
        pa.DictionaryArray.from_arrays(world.segment[terminal], [*SEGMENTS, NEW_SEGMENT]).cast(pa.string()),
        pa.array(fraud),
        pa.array(event + delay.astype(np.int64), mask=~fraud).cast(SCHEMA.field("label_timestamp").type),
        pa.array(scenario),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _scenarios(
    attack: _Attack,
    day: int,
    stream: Callable[[_Draw], np.random.Generator],
    customer: Integers,
    terminal: Integers,
    amount: Floats,
) -> Integers:
    """Which kind of fraud each transaction is; 0 for a genuine one."""
    scenario = np.where(amount > FRAUD_AMOUNT, 1, 0)
    compromises = _times_compromised(attack.terminals, day, TERMINAL_COMPROMISE_DAYS, len(attack.hot_spots))
    scenario[compromises[terminal] > 0] = 2
    compromises = _times_compromised(attack.customers, day, CUSTOMER_COMPROMISE_DAYS, int(customer.max(initial=-1)) + 1)
    probability = 1 - (1 - COMPROMISED_SHARE) ** compromises[customer]
    scenario[stream(_Draw.COMPROMISED_TRANSACTIONS).random(len(amount)) < probability] = TAKEN_OVER
    if attack.hot_spots.any():
        struck = stream(_Draw.HOT_TRANSACTIONS).random(len(amount)) < HOT_SPOT_SHARE
        scenario[attack.hot_spots[terminal] & struck & (scenario == 0)] = 4
    return scenario


def simulate_month(month: str, config: SimulatorConfig) -> pa.Table:
    """The transactions of a month, by time.

    Per customer and day a Poisson number of transactions; times of day Normal(43,200 s, 20,000 s), those
    outside the day dropped; amounts Normal(mean, mean/2), negative ones drawn again from U(0, 2 mean), two
    decimals; the terminal uniformly among those within reach. Frauds, a later scenario prevailing over an
    earlier one: 1, an amount above 220; 2, a transaction at a terminal compromised for 28 days; 3, a third of
    the transactions of a customer compromised for 14 days, at 5 times the amount (Fraud Detection Handbook,
    chapter 3, "Transaction data simulator"); 4, the drift new_fraud_pattern, where nothing else made it
    fraud.

    Args:
        month: YYYY-MM, from 1970-01 on.
        config: the world.

    Returns:
        One row a transaction, with the columns of SCHEMA: `transaction_id` is YYYYMM * 10^8 and a number that
        counts from 0 by time; `event_timestamp` has whole seconds; `customer_id` and `terminal_id` count from
        0; `amount` is 0 or more, null only under the drift missing_values; `label_timestamp` is when a fraud
        was reported, null for genuine transactions; `fraud_scenario` is the answer key, 0 for genuine and 1
        to 4 as above, and no input for a model.

    Raises:
        ValueError: for a malformed month, or one before 1970.

    >>> table = simulate_month("2025-01", SimulatorConfig(customers=100, terminals=200))
    >>> table.column_names  # doctest: +NORMALIZE_WHITESPACE
    ['transaction_id', 'event_timestamp', 'customer_id', 'terminal_id', 'amount', 'merchant_segment',
     'is_fraud', 'label_timestamp', 'fraud_scenario']
    >>> table["transaction_id"][0].as_py()
    20250100000000
    """
    if check_month(month) < "1970-01":
        raise ValueError(f"{month} is before 1970-01, the first month that can be simulated")
    world = _world(config.seed, config.customers, config.terminals, config.radius)
    days = range(month_start(month).toordinal(), month_end(month).toordinal())
    attack = _attack(config, month, days)
    batches = []
    next_id = int(month.replace("-", "")) * ORDINALS
    for day in days:
        batches.append(_simulate_day(config, world, attack, month, day, next_id))
        next_id += batches[-1].num_rows
    return pa.Table.from_batches(batches, schema=SCHEMA).combine_chunks()
