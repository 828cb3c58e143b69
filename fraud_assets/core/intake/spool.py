"""A place for rows on their way: in memory up to a limit, then on disk, and read again as often as needed.

Sorting rows that do not fit into memory, and finding what is there twice among them, belong here too. What the rows
mean does not.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import duckdb
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEMORY = 256 * 2**20
BATCH_ROWS = 131_072


class Spool:
    """Record batches of one schema, first written, then read.

    Rows beyond `memory` bytes go to a file without a name, which the operating system removes with the process.
    """

    def __init__(self, schema: pa.Schema, memory: int = MEMORY) -> None:
        """Takes the schema of all batches, and how many bytes may stay in memory."""
        self.schema, self.n_rows = schema, 0
        self._memory, self._bytes = memory, 0
        self._held: list[pa.RecordBatch] = []
        self._file: IO[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Appends a batch.

        Raises:
            OSError: when the disk is full.
        """
        if batch.num_rows == 0:
            return
        self.n_rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._writer is None and self._bytes > self._memory:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the spool
            self._writer = pa.ipc.new_stream(self._file, self.schema)
            for held in self._held:
                self._writer.write_batch(held)
            self._held = []
        if self._writer is None:
            self._held.append(batch)
        else:
            self._writer.write_batch(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches in the order in which they came; nothing may be written after the first call."""
        if self._writer is None or self._file is None:
            yield from self._held
            return
        self._writer.close()
        self._file.flush()
        yield from pa.ipc.open_stream(io.BufferedReader(_FromStart(self._file.fileno()), 2**20))

    def reader(self) -> pa.RecordBatchReader:
        """The batches as a stream."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def in_order(self, columns: tuple[str, ...]) -> pa.RecordBatchReader:
        """The rows as a stream, sorted by columns without nulls; what does not fit into memory is sorted on disk."""
        if self._writer is None:
            rows = pl.DataFrame(pa.Table.from_batches(self._held, self.schema)).sort(columns).to_arrow()
            return rows.cast(self.schema).to_reader(BATCH_ROWS)
        order = ", ".join(f'"{column}"' for column in columns)
        return pa.RecordBatchReader.from_batches(self.schema, self._query(f"SELECT * FROM spooled ORDER BY {order}"))

    def repeated(self, column: str) -> pa.Array:
        """The values of a column that stand in more than one row, each once."""
        field = self.schema.field(column)
        if self._writer is None:
            values = pl.Series(pa.chunked_array([batch[column] for batch in self._held], field.type))
            return values.filter(values.is_duplicated()).unique().to_arrow().cast(field.type)
        query = f'SELECT "{column}" FROM spooled GROUP BY 1 HAVING count(*) > 1'
        return pa.Table.from_batches(self._query(query, [column]), pa.schema([field]))[column].combine_chunks()

    def common(self, other: Spool, column: str) -> pa.Array:
        """The values of a column that another spool has as well, each once."""
        field = self.schema.field(column)
        query = f'SELECT DISTINCT "{column}" FROM spooled WHERE "{column}" IN (SELECT "{column}" FROM other)'
        batches = self._query(query, [column], other)
        return pa.Table.from_batches(batches, pa.schema([field]))[column].combine_chunks()

    def _query(
        self, query: str, columns: list[str] | None = None, other: Spool | None = None
    ) -> Iterator[pa.RecordBatch]:
        with (
            tempfile.TemporaryDirectory() as overflow,
            duckdb.connect(config={"memory_limit": f"{2 * MEMORY}B", "temp_directory": overflow}) as connection,
        ):
            connection.execute("SET TimeZone = 'UTC'")
            # Else one is drawn to stdout where DuckDB takes the process for an interactive one.
            connection.execute("SET enable_progress_bar = false")
            rows = self._columns(columns)
            connection.register("spooled", rows)
            if other is not None:
                connection.register("other", other._columns(columns))
            for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
                yield batch.cast(rows.schema)

    def _columns(self, columns: list[str] | None) -> pa.RecordBatchReader:
        if columns is None:
            return self.reader()
        schema = pa.schema([self.schema.field(name) for name in columns])
        return pa.RecordBatchReader.from_batches(schema, (batch.select(columns) for batch in self.batches()))

    def close(self) -> None:
        """Gives memory and disk back; there is nothing to read then."""
        self._held = []
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FromStart(io.RawIOBase):
    """A file read from its start, wherever others of its readers are."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        count = os.preadv(self._descriptor, [view], self._position)
        self._position += count
        return count
