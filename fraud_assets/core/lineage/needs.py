"""Which rows of which months something is made of, as plain values, and such rows in memory.

What a report or a backtest needs is said by it; how months are read belongs to `adapters/postgres/months.py`, what is
in a table to `tables`, what a changed month makes stale to `staleness.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.staleness import Inputs, inputs_of
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.months import months_between, shift_month


class NotKnownError(LookupError):
    """Rows that were asked for as of a moment when they were not known yet."""


@dataclass(frozen=True)
class Needed:
    """Columns of a range of months of a table.

    Attributes:
        table: its name.
        columns: their names.
        first, last: both included; there are none where `last` is before `first`.
    """

    table: str
    columns: tuple[str, ...]
    first: str
    last: str


def fewest(needs: Iterable[Needed], contract: Contract) -> tuple[Needed, ...]:
    """The fewest ranges that hold all that is needed: each month once, with the columns that somebody needs of it.

    Months from before the contract's first are left out: there are none. The column that says in which month a row
    lies is always among the columns.
    """
    wanted: dict[str, dict[str, dict[str, None]]] = {}
    for need in needs:
        clock = TABLES[need.table](contract).month_column
        for month in months_between(max(need.first, contract.first_month), need.last):
            columns = wanted.setdefault(need.table, {}).setdefault(month, {})
            columns |= dict.fromkeys([*need.columns, clock])
    found: list[Needed] = []
    for table, months in wanted.items():
        begun = len(found)
        for month in sorted(months):
            before = found[-1] if len(found) > begun else None
            if before and shift_month(before.last, 1) == month and set(before.columns) == months[month].keys():
                found[-1] = replace(before, last=month)
            else:
                found.append(Needed(table, tuple(months[month]), month, month))
    return tuple(found)


@dataclass(frozen=True)
class MonthRows:
    """Rows that were loaded, by what they are.

    Attributes:
        loaded: each table with the rows of the months that its key names, and at least its columns.
        contract: in whose zone months are cut.
        known: the last month that may be asked for; None for all of them.
    """

    loaded: Mapping[Needed, pa.Table]
    contract: Contract
    known: str | None = None

    def __or__(self, other: MonthRows) -> MonthRows:
        """The rows of both."""
        return replace(self, loaded={**self.loaded, **other.loaded})

    def until(self, month: str) -> MonthRows:
        """The same, but whoever asks for a later month asks for what was not known yet."""
        return replace(self, known=month)

    @property
    def inputs(self) -> Inputs:
        """Which version of each month they are, see `staleness.py`.

        Raises:
            ValueError: for a table that does not come from the store.
        """
        return inputs_of(*self.loaded.values())

    def of(self, need: Needed) -> pa.Table:
        """The rows that are needed, without a copy where they lie in order.

        Raises:
            NotKnownError: for a month from after the last one that may be asked for.
            LookupError: when they were not loaded, because nobody declared them.
        """
        if self.known is not None and need.last > self.known:
            raise NotKnownError(
                f"{need.table} of {need.last} was asked for as of the end of {self.known}, when it was not known"
            )
        months = months_between(max(need.first, self.contract.first_month), need.last)
        if not months:
            schema = TABLES[need.table](self.contract).schema
            return pa.schema([schema.field(name) for name in need.columns]).empty_table()
        parts = []
        while months:
            source = self._holding(need, months[0])
            inside = [month for month in months if month <= source.last]
            parts.append(self._cut(source, inside[0], inside[-1]).select(list(need.columns)))
            months = months[len(inside) :]
        # Months from before a column was declared have it nullable.
        return pa.concat_tables(parts, promote_options="default").replace_schema_metadata(None)

    def _holding(self, need: Needed, month: str) -> Needed:
        """The table with the most months from this one on."""
        holding = [
            source
            for source in self.loaded
            if source.table == need.table
            and source.first <= month <= source.last
            and set(need.columns) <= set(source.columns)
        ]
        if not holding:
            raise LookupError(
                f"{need.table} of {month} with the columns {', '.join(need.columns)} was not loaded: what is asked for "
                "has to be among the declared needs"
            )
        return max(holding, key=lambda source: source.last)

    def _cut(self, source: Needed, first: str, last: str) -> pa.Table:
        rows = self.loaded[source]
        if (first, last) == (source.first, source.last) or not rows.num_rows:
            return rows
        moment = rows[TABLES[source.table](self.contract).month_column]
        ends: tuple[date, date] = (self.contract.month_start(first), self.contract.month_end(last))
        if pa.types.is_date(moment.type):
            ends = (date.fromisoformat(f"{first}-01"), date.fromisoformat(f"{shift_month(last, 1)}-01"))
        start, end = (pa.scalar(edge, moment.type) for edge in ends)
        inside = pc.and_(pc.greater_equal(moment, start), pc.less(moment, end))
        place = np.flatnonzero(inside.to_numpy())
        if not len(place):
            return rows.slice(0, 0)
        # The store's rows are in order, so that a month is one piece of them.
        if int(place[-1]) - int(place[0]) + 1 == len(place):
            return rows.slice(int(place[0]), len(place))
        return rows.filter(inside)
