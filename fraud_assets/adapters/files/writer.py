"""Writing rows to a file or a stream, a batch at a time; a file is there whole, or as it was before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from fraud_assets.core.intake.physical import plain_array


def write_file(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Writes Parquet or CSV, by the file's ending.

    Args:
        path: the file; what is there before stays until all rows are written.
        schema: of the rows.
        batches: the rows.

    Returns:
        How many there were.

    Raises:
        ValueError: when the file cannot be written.
    """
    target, n_rows = path.resolve(), 0
    # A pipe or a device is no file that another could take the place of.
    direct = target.exists() and not target.is_file()
    place = target if direct else target.with_name(f".{target.name}.{os.getpid()}.partial")
    is_parquet = path.suffix == ".parquet"
    try:
        with _told(path):
            written = schema if is_parquet else _as_text(schema.empty_table()).schema
            writer = (pyarrow.parquet.ParquetWriter if is_parquet else pyarrow.csv.CSVWriter)(str(place), written)
        try:
            for batch in batches:
                rows = pa.Table.from_batches([batch])
                with _told(path):
                    writer.write_table(rows if is_parquet else _as_text(rows))
                n_rows += batch.num_rows
        finally:
            with _told(path):
                writer.close()
        if not direct:
            with _told(path):
                place.replace(target)
    except BaseException:
        if not direct:
            with suppress(OSError):
                place.unlink(missing_ok=True)
        raise
    return n_rows


def write_csv(stream: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Writes CSV to an open stream; lists, structs and the like as JSON."""
    with pyarrow.csv.CSVWriter(stream, _as_text(schema.empty_table()).schema) as writer:
        for batch in batches:
            writer.write_table(_as_text(pa.Table.from_batches([batch])))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def _as_text(rows: pa.Table) -> pa.Table:
    """Rows of types that CSV has; lists, structs and the like as JSON."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType):
            chunks = [plain_array(chunk)[0] for chunk in rows.column(place).chunks]
            rows = rows.set_column(place, field.name, pa.chunked_array(chunks or [pa.array([], pa.string())]))
    return rows
