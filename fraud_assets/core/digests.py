"""Digests of tables: the names by which a month's content is known in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SLICE_ROWS = 65_536


class TableDigest:
    """SHA-256 of a table's column names, types and values, in row order, taken while its batches pass by.

    How the rows are cut into batches makes no difference: they are digested in slices of 65,536 rows.
    """

    def __init__(self, schema: pa.Schema, ignore: Iterable[str] = ()) -> None:
        """Takes the columns.

        Args:
            schema: any columns of numbers, text, booleans, dates and timestamps.
            ignore: columns to leave out.
        """
        self._names = sorted(set(schema.names) - set(ignore))
        self._digest = hashlib.sha256()
        self._waiting = pa.schema([schema.field(name) for name in self._names]).empty_table()
        self._n_rows = 0

    def update(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Adds the next rows; columns may be in any order."""
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        self._n_rows += rows.num_rows
        waiting = pa.concat_tables([self._waiting, rows.select(self._names).cast(self._waiting.schema)])
        while waiting.num_rows >= SLICE_ROWS:
            self._add(waiting.slice(0, SLICE_ROWS))
            waiting = waiting.slice(SLICE_ROWS)
        self._waiting = waiting

    def hexdigest(self) -> str:
        """64 hexadecimal digits: of the rows so far, which must be all; call it once."""
        if self._waiting.num_rows or not self._n_rows:
            self._add(self._waiting)
        return self._digest.hexdigest()

    def _add(self, rows: pa.Table) -> None:
        for name in self._names:
            column = rows.column(name).combine_chunks()
            self._digest.update(f"{name}:{column.type}:{len(column)}".encode())
            for part in _values(column):
                self._digest.update(part)


def digest_table(table: pa.Table, ignore: Iterable[str] = ()) -> str:
    """SHA-256 of a table's column names, types and values, in row order, whatever its chunks.

    Args:
        table: any table of numbers, text, booleans, dates and timestamps.
        ignore: columns to leave out.

    Returns:
        64 hexadecimal digits.
    """
    digest = TableDigest(table.schema, ignore)
    digest.update(table)
    return digest.hexdigest()


def _values(column: pa.Array) -> Iterator[bytes]:
    """The bytes of a column. What lies under a null, and the offset of a slice, is no part of the value."""
    yield pc.is_null(column).to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_string(column.type):
        filled = pc.fill_null(column, "")
        yield pc.binary_length(filled).to_numpy(zero_copy_only=False).tobytes()
        fresh = filled.take(pa.array(np.arange(len(filled)), pa.int64()))
        yield fresh.buffers()[2] or b""
    elif pa.types.is_boolean(column.type):
        yield pc.fill_null(column, False).to_numpy(zero_copy_only=False).tobytes()
    elif pa.types.is_floating(column.type):
        yield pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).tobytes()
    else:
        whole = {4: pa.int32(), 8: pa.int64()}[column.type.bit_width // 8]
        yield pc.fill_null(column.cast(whole), 0).to_numpy(zero_copy_only=False).tobytes()


def digest_text(*parts: str) -> str:
    """SHA-256 of texts in order; `("ab", "c")` and `("a", "bc")` differ."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
