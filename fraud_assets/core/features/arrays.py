"""Columns of Arrow tables as numpy's arrays, and times as whole microseconds: what the kernel computes with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

TIMESTAMP = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


NEVER = np.iinfo(np.int64).max


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, without a copy where it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def moments(table: pa.Table, name: str) -> Integers:
    """Microseconds since 1970; `NEVER` where there is none."""
    column = one_chunk(table[name])
    if column.type != TIMESTAMP:
        column = column.cast(TIMESTAMP)
    column = column.view(pa.int64())
    return cast(Integers, (column.fill_null(NEVER) if column.null_count else column).to_numpy())


def local_clock(moment: Integers, timezone: str) -> Integers:
    """What a time zone's clocks show at each moment, as microseconds since 1970 by these."""
    if timezone == "UTC":
        return moment
    times = pa.array(moment).cast(pa.timestamp("us", timezone))
    return cast(Integers, pc.local_timestamp(times).cast(pa.int64()).to_numpy())


def number_array(column: pa.ChunkedArray) -> Floats:
    """A column as numbers: booleans as 1 or 0, dates as days since 1970; NaN where there is none."""
    array = one_chunk(column)
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    elif pa.types.is_date32(array.type):
        array = array.cast(pa.int32())
    if array.type != pa.float64():
        array = array.cast(pa.float64(), safe=False)
    return cast(Floats, array.to_numpy(zero_copy_only=False))


def code_array(column: pa.ChunkedArray) -> Integers:
    """A number from 0 for each value, -1 for none."""
    indices = one_chunk(column).dictionary_encode().indices
    if indices.null_count:
        indices = indices.fill_null(-1)
    return cast(Integers, indices.to_numpy().astype(np.int64))


def places_among(wanted: pa.Array, among: pa.ChunkedArray) -> Integers:
    """Where each of some different values lies among others, -1 where it does not."""
    places = np.full(len(wanted), -1, np.int64)
    if len(wanted):
        # Looked up this way round, because there are few of them.
        found = pc.index_in(one_chunk(among), value_set=wanted)
        there = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        places[found.drop_null().to_numpy()] = there
    return places


def by_time_and_id(transactions: pa.Table, asked: Integers) -> Integers:
    """Positions of rows in the order of `event_timestamp` and `transaction_id`."""
    chosen = transactions.select(["event_timestamp", "transaction_id"]).take(pa.array(asked))
    order = pc.sort_indices(chosen, [("event_timestamp", "ascending"), ("transaction_id", "ascending")])
    return cast(Integers, asked[order.to_numpy()])


def ascending(values: Integers) -> bool:
    """Whether none is smaller than the one before."""
    return bool((values[1:] >= values[:-1]).all())


def microseconds(moment: datetime) -> int:
    """Since 1970; of a time with a time zone."""
    return (moment - EPOCH) // timedelta(microseconds=1)
