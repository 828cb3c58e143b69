"""Columns as cells: which bin of the reference a number falls into, which value a text has, and what has no value.

Bins come from the reference alone. What shares of cells say of two windows belongs to `statistics/clusters.py` and
`columns.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.statistics.clusters import IntArray, RowWindow
from fraud_assets.core.units import MICROSECONDS_PER_DAY

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Side:
    """A table, and which of its rows are compared with what weight."""

    table: pa.Table
    window: RowWindow


@dataclass(frozen=True)
class Cells:
    """A column's cells: those of known values, one for new values of a text, and one for missing ones, the last.

    Attributes:
        known: number of cells of known values.
        new: whether there is one for values that the reference does not have.
        place: gives the cell of every comparable row of a table that has the column, shape (rows,).
        bins: of numbers, gives the cells of values that are not missing.
    """

    known: int
    new: bool
    place: Callable[[Side], IntArray]
    bins: Callable[[Floats], IntArray] | None = None

    @property
    def number(self) -> int:
        """Of all cells."""
        return self.known + self.new + 1


def column_type(table: pa.Table, name: str) -> str:
    """How a column can be compared: as 'numbers', 'texts' or 'dates', as 'nothing' without a type; else its type."""
    kind, types = table.schema.field(name).type, pa.types
    if types.is_null(kind):
        return "nothing"
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if any(check(kind) for check in (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)):
        return "numbers"
    if any(check(kind) for check in (types.is_duration, types.is_time)):
        return "numbers"
    if types.is_date(kind) or types.is_timestamp(kind):
        return "dates"
    texts_of = (types.is_string, types.is_large_string, types.is_string_view)
    return "texts" if any(check(kind) for check in texts_of) else str(kind)


def floats(table: pa.Table, name: str) -> Floats:
    """A column of numbers or dates, NaN where missing, in the precision in which it is stored.

    Of dates, the days from them to the transaction: the age of an account means the same in every month, and the day
    on which it was opened does not.
    """
    column = table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        event = table.column("event_timestamp")
        then, now = (_microseconds(moments) for moments in (column, event))
        return cast(Floats, (now - then) / MICROSECONDS_PER_DAY)
    if pa.types.is_duration(column.type) or pa.types.is_time(column.type):
        column = column.cast(pa.int32() if pa.types.is_time32(column.type) else pa.int64())
    if not pa.types.is_float32(column.type):
        column = column.cast(pa.float64(), safe=False)
    return cast(Floats, column.to_numpy())


def _microseconds(moments: pa.ChunkedArray) -> Floats:
    if pa.types.is_timestamp(moments.type):
        # Of two clocks, the zone does not matter to what is told in days.
        moments = moments.cast(pa.timestamp(moments.type.unit))
    whole = moments.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    return cast(Floats, whole.cast(pa.float64(), safe=False).to_numpy())


def numbers(side: Side, name: str) -> Floats:
    """The comparable rows' values, NaN where missing, in the precision in which they are stored."""
    return side.window.rows_of(floats(side.table, name))


def texts(side: Side, name: str) -> pa.Array:
    """The comparable rows' values, null where missing."""
    column = side.table.column(name).cast(pa.string()).combine_chunks()
    return column if side.window.kept is None else column.take(pa.array(side.window.kept))


def missing_rows(table: pa.Table, name: str) -> npt.NDArray[np.bool_]:
    """Of all rows of a table, whether they lack a value: null, or not a number."""
    return cast(npt.NDArray[np.bool_], pc.is_null(table.column(name), nan_is_null=True).to_numpy())


def reference_cuts(values: Floats, bins: int) -> Floats:
    """Cut points of the bins, from the reference alone: bin k holds the values at or above k of the cuts.

    The cuts are the unique quantiles (the inverse of the distribution function, hence values that
    occur). A value that fills more than one quantile gets a bin to itself: of a flag that is 0 in 95 % of the
    rows all deciles are 0, and without such a bin its ones would share a bin with its zeros.

    Args:
        values: without missing ones, shape (n,), ascending; n at least 1.
        bins: number of quantile bins.

    >>> reference_cuts(np.arange(1.0, 9.0), 4).tolist()
    [2.0, 4.0, 6.0]
    """
    ranks = np.ceil(np.arange(1, bins) * len(values) / bins).astype(np.int64) - 1
    quantiles = values[ranks]
    atoms = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    return cast(Floats, np.unique(np.concatenate([quantiles, np.nextafter(atoms, atoms.dtype.type(np.inf))])))


def number_cells(name: str, cuts: Floats) -> Cells:
    """Cells of a column of numbers, between cut points."""
    missing = len(cuts) + 1

    def bins(values: Floats) -> IntArray:
        # A pass for each cut is several times faster than a binary search for each row.
        cell = np.zeros(len(values), dtype=np.int16)
        for cut in cuts:
            cell += values >= cut
        return cell.astype(np.int64)

    def place(side: Side) -> IntArray:
        values = numbers(side, name)
        cell = bins(values)
        cell[np.isnan(values)] = missing
        return cell

    return Cells(missing, False, place, bins)


def text_cells(reference: Side, name: str, most: int) -> Cells:
    """Cells of a column of texts: the reference's most frequent values, all others that it has, and new ones."""
    counts = pc.value_counts(texts(reference, name).drop_null())
    values, number = counts.field(0), counts.field(1).to_numpy()
    # By frequency, then by the text itself, as the order of the rows decides nothing.
    ranked = pa.table({"number": -number, "value": values}).sort_by([("number", "ascending"), ("value", "ascending")])
    frequent = ranked["value"].slice(0, most).combine_chunks()
    other, new, missing = len(frequent), len(frequent) + 1, len(frequent) + 2

    def place(side: Side) -> IntArray:
        column = texts(side, name)
        cell = pc.index_in(column, value_set=frequent).fill_null(other)
        cell = pc.if_else(pc.is_in(column, value_set=values), cell, pa.scalar(new, pa.int32()))
        cell = pc.if_else(column.is_null(), pa.scalar(missing, pa.int32()), cell)
        return cast(IntArray, cell.to_numpy(zero_copy_only=False).astype(np.int64))

    return Cells(new, True, place)


def new_values(reference: pa.Array, current: pa.Array) -> list[tuple[str, int]]:
    """The texts that are in `current` alone, with how many rows have them, the most frequent first."""
    unknown = current.drop_null()
    unknown = unknown.filter(pc.invert(pc.is_in(unknown, value_set=pc.unique(reference.drop_null()))))
    counts = pc.value_counts(unknown)
    found = zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)
    return sorted(found, key=lambda one: (-one[1], one[0]))
