"""Pasts of entities, prepared once, and features of single transactions from them: what the service computes with.

What an aggregate takes of an event (its value, whether it matured, how odd it was) does not depend on who asks later,
so it is made when a past is read, by the kernel's own code; a question is then some binary searches and loops. Where
pasts come from, and how long they are kept, is for the service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.arithmetic import evaluate, write
from fraud_assets.core.features.arrays import Floats, Integers
from fraud_assets.core.features.asking import aggregates_at, counted, specify
from fraud_assets.core.features.declarations import GENUINE, MEASURES, history_days
from fraud_assets.core.features.expressions import Aggregate, Column, Constant
from fraud_assets.core.features.kernel import Changes, Entity, EventRows, Plan, Reports, Rows, Work, plan_of, write_own
from fraud_assets.core.features.program import Part, Program
from fraud_assets.core.units import MICROSECONDS_PER_DAY

# Whose past: the place of the entities among the contract's, and the value of each.
Key = tuple[int, tuple[Any, ...]]
ZERO = np.zeros(1, np.int64)
# Rows for which there is room in a past that grows, at least.
ROOM = 4


@dataclass
class Past:
    """What features of an entity's transactions can depend on.

    Attributes:
        since: from this moment on, in microseconds since 1970, everything is there.
        n: how many transactions; the arrays have room for more.
        moments: when each happened, ascending.
        ids: what identifies each (`identity`).
        values: what aggregates take of each, shape (values, room).
        codes: numbers of what is counted, shape (columns, room); -1 for none.
        numbers: of what is counted, by value, a dictionary for each column.
        label_moments: when the number of known frauds changed.
        label_values: what aggregates take of that.
        unseen: transactions of which something was said, and which are not there.
        judged: who spent in its frauds, each with the moment of the last of them.
    """

    since: int
    n: int
    moments: Integers
    ids: Integers
    values: Floats
    codes: Integers
    numbers: tuple[dict[Any, int], ...]
    label_moments: Integers
    label_values: Floats
    unseen: frozenset[int] = frozenset()
    judged: Mapping[Any, int] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, about."""
        arrays = (self.moments, self.ids, self.values, self.codes, self.label_moments, self.label_values)
        objects = 100 * (len(self.judged) + len(self.unseen) + sum(map(len, self.numbers)))
        return 1_500 + objects + sum(array.nbytes for array in arrays)

    def place(self, moment: int, identifier: int) -> int:
        """Where a transaction is that happened before a moment; -1 where it is not among these."""
        found = np.flatnonzero(self.ids[: self.n] == identifier)
        return int(found[0]) if len(found) and self.moments[found[0]] < moment else -1

    def has(self, identifier: int) -> bool:
        """Whether a transaction is there."""
        return bool((self.ids[: self.n] == identifier).any())

    def add(self, moment: int, event: Event) -> int:
        """Takes one more transaction up, behind those that happened at the same time or before.

        Whoever computes with what was there before is not disturbed: only what lies behind it is written.

        Returns:
            By how much `nbytes` grew.
        """
        n, before = self.n, 0
        place = n if not n or self.moments[n - 1] <= moment else int(np.searchsorted(self.moments[:n], moment, "right"))
        if place < n or n == len(self.moments):
            before = self.nbytes
            room = n + 1 if place < n else n + max(n // 4, ROOM)
            self.moments, self.ids = _opened(self.moments, n, place, room), _opened(self.ids, n, place, room)
            self.values, self.codes = _opened(self.values, n, place, room), _opened(self.codes, n, place, room)
        self.moments[place], self.ids[place] = moment, event.identifier
        self.values[:, place] = event.values
        for row, (numbers, value) in enumerate(zip(self.numbers, event.counted, strict=True)):
            self.codes[row, place] = -1 if value is None else numbers.setdefault(value, len(numbers))
        self.n = n + 1
        return self.nbytes - before if before else 0


def _opened(array: npt.NDArray[Any], n: int, place: int, room: int) -> npt.NDArray[Any]:
    """A copy with room, and a gap at a place."""
    copy = np.zeros((*array.shape[:-1], room), array.dtype)
    copy[..., :place] = array[..., :place]
    copy[..., place + 1 : n + 1] = array[..., place:n]
    return copy


@dataclass(frozen=True)
class Event:
    """A transaction as a past takes it up."""

    identifier: int
    values: Floats
    counted: tuple[Any, ...]


@dataclass(frozen=True)
class Single:
    """A transaction whose features are wanted.

    Attributes:
        row: its values by column.
        moment: when it happened, in microseconds since 1970.
        identifier: what `identity` makes of its id.
        values: its columns as numbers.
        table: itself, as a table of one row.
        local: the moment as the contract's clock shows it.
    """

    row: Mapping[str, Any]
    moment: int
    identifier: int
    values: Mapping[str, float]
    table: pa.Table
    local: Integers


@dataclass(frozen=True)
class Made:
    """The features of one transaction.

    Attributes:
        numbers: float32, NaN where there is nothing to say, in the order of `feature_names`.
        events: what the pasts of its entities take up of it, None where it names none.
        keys: likewise, whose pasts these are.
    """

    numbers: npt.NDArray[np.float32]
    events: tuple[Event | None, ...]
    keys: tuple[Key | None, ...]


def identity(value: int | str) -> int:
    """A number of 64 bits for the id of a transaction; of whole numbers, themselves."""
    return value if isinstance(value, int) else hash(value)


class SingleFeatures:
    """Makes features of single transactions of a contract."""

    def __init__(self, contract: Contract) -> None:
        """Works out once what the contract asks."""
        self.contract = contract
        self._plan = plan = plan_of(contract)
        self.groups = tuple(_Group.of(plan, *one) for one in plan.of_entities)
        names = {name for group in self.groups for part in group.of_row for _, name in part.columns}
        self._columns = tuple(sorted(names - {GENUINE, *MEASURES}))
        self._fresh = 0.0 if plan.says_genuine else 1.0

    def single(self, transaction: pa.Table) -> Single:
        """A table of one transaction, read."""
        rows = Rows.whole(transaction, self.contract)
        (row,) = transaction.to_pylist()
        values = {name: float(rows.values(name, ZERO)[0]) for name in self._columns}
        return Single(
            row, int(rows.moment[0]), identity(row["transaction_id"]), values, transaction, rows.local
        )  # fmt: skip

    def keys(self, row: Mapping[str, Any]) -> tuple[Key | None, ...]:
        """Whose pasts a transaction's features are made of; None where it names none."""
        found: list[Key | None] = []
        for place, group in enumerate(self.groups):
            values = tuple(row[name] for name in group.entities)
            found.append(None if None in values else (place, values))
        return tuple(found)

    def features(self, single: Single, keys: Sequence[Key | None], pasts: Sequence[Past | None]) -> Made:
        """The features of a transaction, from the pasts of its keys.

        It must not be among those before it in them (`Past.place`), and they must reach back far enough (`reach`).
        """
        made = np.full((len(self._plan.numbers), 1), np.nan, np.float32)
        write_own(single.table, single.local, self._plan, made)
        values = {**single.values, GENUINE: self._fresh}
        events: list[Event | None] = []
        for group, past in zip(self.groups, pasts, strict=True):
            if past is None:
                events.append(None)
                continue
            if group.spends:
                measured = group.measured(single.moment, values, past)
                values.update(zip(self._plan.measures.names, measured[:, 0].tolist(), strict=True))
            write(group.answers(single.moment, values, past), group.features, ZERO, made)
            events.append(group.event(single, values))
        return Made(made[:, 0], tuple(events), tuple(keys))

    @property
    def spender(self) -> str | None:
        """The entity whose amounts can be unusual."""
        return self._plan.spender

    def reach(self, key: Key) -> int:
        """How far before a transaction the past of a key must reach, in microseconds."""
        return self.groups[key[0]].reach

    def disturbs(self, key: Key, single: Single, past: Past) -> bool:
        """Whether a past must be read anew for a transaction to be taken up.

        It must when the transaction was usual, or not, for what happened a maturity later and is there already, and
        when something was said of it before it came.
        """
        late = past.n > 0 and past.moments[past.n - 1] > single.moment + self._plan.maturity
        return (late and self.groups[key[0]].spends) or single.identifier in past.unseen

    def misjudges(self, single: Single, past: Past) -> bool:
        """Whether the frauds in a past were judged without a transaction that comes late."""
        spender = self._plan.spender
        last = None if spender is None else past.judged.get(single.row[spender])
        return last is not None and last > single.moment + self._plan.maturity

    def pasts(self, transactions: pa.Table, statements: pa.Table, wanted: Mapping[Key, int]) -> dict[Key, Past]:
        """Pasts from everything about their entities, and about those who spent in their frauds.

        Args:
            transactions: columns of `Contract.transactions_schema`, each id once.
            statements: columns of `Contract.labels_schema`.
            wanted: whose, each with the moment from which on everything is given.
        """
        plan, rows = self._plan, Rows.whole(transactions, self.contract)
        reports = Reports.of(statements, rows, plan)
        ids = _identities(transactions["transaction_id"])
        stated = _identities(reports.table["transaction_id"])
        nowhere = np.full(len(rows.moment), -1, np.int64)
        over_max, found = None, dict[Key, Past]()
        for number, group in enumerate(self.groups):
            entity = Entity.of(group.entities, rows, reports)
            if group.spends:
                over_max = np.full(len(rows.moment), np.nan)
            changes = reports.changes_of(entity, None if group.spends else over_max)
            work = Work(plan, rows, entity, changes, reports.genuine, nowhere, over_max if group.spends else None)
            events = work.events((0, entity.n))
            mine = {key: since for key, since in wanted.items() if key[0] == number}
            if mine:
                cut = _Cut.of(self, group, work, changes, events, ids, stated, reports)
                found |= {key: cut.past(key[1], since) for key, since in mine.items()}
        return found


def _identities(column: pa.ChunkedArray) -> Integers:
    if pa.types.is_integer(column.type):
        return np.asarray(column.to_numpy(), np.int64)
    return np.fromiter((identity(value) for value in column.to_pylist()), np.int64, len(column))


@dataclass(frozen=True)
class _RowPart:
    """A part of a program for one row: its constants, and where its columns go."""

    part: Part
    constants: Floats
    columns: tuple[tuple[int, str], ...]

    @classmethod
    def of(cls, part: Part) -> _RowPart:
        constants = np.full((len(part.given), 1), np.nan)
        for place, one in enumerate(part.given):
            if isinstance(one, Constant):
                constants[place] = one.value
        columns = tuple((place, one.name) for place, one in enumerate(part.given) if isinstance(one, Column))
        return cls(part, constants, columns)

    def given(self, values: Mapping[str, float]) -> Floats:
        filled = self.constants.copy()
        for place, name in self.columns:
            filled[place, 0] = values[name]
        return filled

    def worked_out(self, given: Floats) -> Floats:
        return evaluate(given, self.part.operations, self.part.results)


@dataclass(frozen=True)
class _Group:
    """What is asked about the past of some entities, for one row at a time."""

    entities: tuple[str, ...]
    program: Program
    features: Integers
    spends: bool
    reach: int  # microseconds before a transaction
    distinct: tuple[str, ...]
    specs: Integers
    asked: _RowPart
    events: tuple[_RowPart, ...]  # whose values lie one under the other in a past
    measure_specs: Integers
    measures: _RowPart

    @classmethod
    def of(cls, plan: Plan, entities: tuple[str, ...], program: Program, features: Integers) -> _Group:
        spends = entities == (plan.spender,)
        counting = [one for one in program.asked.given if isinstance(one, Aggregate) and one.function == "distinct"]
        distinct = tuple(dict.fromkeys(counted(one) for one in counting))
        programs = (program, plan.measures) if spends else (program,)
        events = tuple(
            _RowPart.of(one.events["transactions"]) for one in programs if "transactions" in one.events
        )  # fmt: skip
        own = program.events.get("transactions")
        after = 0 if own is None else len(own.results)
        days = max(history_days(plan.contract, one) for one in entities) if len(entities) == 1 else (
            plan.contract.window_days + plan.contract.maturity_days
        )  # fmt: skip
        return cls(
            entities, program, features, spends, round(days * MICROSECONDS_PER_DAY), distinct,
            specify(program, plan.maturity, 0, distinct), _RowPart.of(program.asked), events,
            specify(plan.measures, plan.maturity, after, ()), _RowPart.of(plan.measures.asked),
        )  # fmt: skip

    @property
    def of_row(self) -> tuple[_RowPart, ...]:
        """All parts that are worked out for one row."""
        return (self.asked, *self.events, *((self.measures,) if self.spends else ()))

    @property
    def n_values(self) -> int:
        """Rows of values in a past."""
        return sum(len(one.part.results) for one in self.events)

    def answers(self, moment: int, values: Mapping[str, float], past: Past) -> Floats:
        return self._asked(self.asked, self.specs, moment, values, past)

    def measured(self, moment: int, values: Mapping[str, float], past: Past) -> Floats:
        return self._asked(self.measures, self.measure_specs, moment, values, past)

    def _asked(self, part: _RowPart, specs: Integers, moment: int, values: Mapping[str, float], past: Past) -> Floats:
        given = part.given(values)
        n_codes = np.array([len(numbers) for numbers in past.numbers], np.int64)
        aggregates_at(
            specs, past.moments[: past.n], past.values, past.codes, n_codes, past.label_moments, past.label_values,
            moment, given[:, 0],
        )  # fmt: skip
        return part.worked_out(given)

    def event(self, single: Single, values: Mapping[str, float]) -> Event:
        made = [one.worked_out(one.given(values))[:, 0] for one in self.events]
        counted_values = tuple(single.row[name] for name in self.distinct)
        return Event(single.identifier, np.concatenate(made) if made else np.empty(0), counted_values)


@dataclass(frozen=True)
class _Cut:
    """The pasts of one group of entities, lying side by side, to be cut apart."""

    kernel: SingleFeatures
    group: _Group
    codes: Mapping[tuple[Any, ...], int]
    events: EventRows
    offsets: Integers
    values: Floats
    changes: Changes
    label_values: Floats
    ids: Integers
    stated: Integers
    reports: Reports
    report_order: Integers
    report_offsets: Integers

    @classmethod
    def of(
        cls, kernel: SingleFeatures, group: _Group, work: Work, changes: Changes, events: EventRows, ids: Integers,
        stated: Integers, reports: Reports,
    ) -> _Cut:  # fmt: skip
        entity = work.entity
        everywhere = np.concatenate([entity.codes, entity.of_reports])
        codes, first = np.unique(everywhere, return_index=True)
        first, codes = first[codes >= 0], codes[codes >= 0]
        names = []
        for name in group.entities:
            column = pa.chunked_array([*work.rows.table[name].chunks, *reports.table[name].chunks])
            names.append(column.take(pa.array(first)).to_pylist())
        made = [events.taken_up("transactions", one.part) for one in group.events]
        labels = group.program.events.get("label changes")
        n_reports = np.argsort(entity.of_reports, kind="stable")
        return cls(
            kernel, group, dict(zip(zip(*names, strict=True), codes.tolist(), strict=True)), events, entity.offsets,
            np.concatenate(made) if made else np.empty((0, len(events.rows))), changes,
            np.empty((0, len(changes.known))) if labels is None else events.taken_up("label changes", labels),
            ids, stated, reports, n_reports, np.searchsorted(entity.of_reports[n_reports], np.arange(entity.n + 1)),
        )  # fmt: skip

    def past(self, value: tuple[Any, ...], since: int) -> Past:
        code = self.codes.get(value)
        group = self.group
        if code is None:
            return Past(
                since, 0, np.empty(0, np.int64), np.empty(0, np.int64), np.empty((max(group.n_values, 1), 0)),
                np.empty((max(len(group.distinct), 1), 0), np.int64), tuple({} for _ in group.distinct),
                np.empty(0, np.int64), np.empty((max(len(self.label_values), 1), 0)),
            )  # fmt: skip
        mine = slice(*self.offsets[code : code + 2])
        rows = self.events.rows[mine]
        labels = slice(*self.changes.offsets[code : code + 2])
        codes, numbers = self._counted(rows)
        unseen, judged = self._about_reports(self.report_order[slice(*self.report_offsets[code : code + 2])])
        return Past(
            since, len(rows), self.events.times[mine].copy(), self.ids[rows], _at_least_one(self.values[:, mine]),
            codes, numbers, self.changes.known[labels].copy(),
            _at_least_one(self.label_values[:, labels]), unseen, judged,
        )  # fmt: skip

    def _counted(self, rows: Integers) -> tuple[Integers, tuple[dict[Any, int], ...]]:
        codes = np.full((max(len(self.group.distinct), 1), len(rows)), -1, np.int64)
        numbers = []
        for row, name in enumerate(self.group.distinct):
            own: dict[Any, int] = {}
            for place, value in enumerate(self.events.work.rows.table[name].take(pa.array(rows)).to_pylist()):
                if value is not None:
                    codes[row, place] = own.setdefault(value, len(own))
            numbers.append(own)
        return codes, tuple(numbers)

    def _about_reports(self, places: Integers) -> tuple[frozenset[int], dict[Any, int]]:
        row = self.reports.row[places]
        unseen = frozenset(self.stated[places[row < 0]].tolist())
        spender = self.events.work.plan.spender
        if spender is None or self.group.spends:
            return unseen, {}
        frauds = row[(row >= 0) & (self.reports.change[places] != 0)]
        judged: dict[Any, int] = {}
        who = self.events.work.rows.table[spender].take(pa.array(frauds)).to_pylist()
        for value, moment in zip(who, self.events.work.rows.moment[frauds].tolist(), strict=True):
            if value is not None:
                judged[value] = max(judged.get(value, moment), moment)
        return unseen, judged


def _at_least_one(values: Floats) -> Floats:
    """A copy of its own, without what lies beside it, and with a row that compiled code can point at."""
    return values.copy() if len(values) else np.empty((1, values.shape[1]))
