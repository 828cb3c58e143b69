"""Digests of tables: the names by which a month's content is known in the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def digest_table(table: pa.Table, ignore: Iterable[str] = ()) -> str:
    """SHA-256 of a table's column names, types and values, in row order, whatever its chunks.

    Args:
        table: any table of numbers, text, booleans, dates and timestamps.
        ignore: columns to leave out.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(set(table.column_names) - set(ignore)):
        column = table.column(name).combine_chunks()
        digest.update(f"{name}:{column.type}:{len(column)}".encode())
        # What lies under a null, and the offset of a slice, is no part of the value.
        digest.update(pc.is_null(column).to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_string(column.type):
            filled = pc.fill_null(column, "")
            digest.update(pc.binary_length(filled).to_numpy(zero_copy_only=False).tobytes())
            fresh = filled.take(pa.array(np.arange(len(filled)), pa.int64()))
            digest.update(fresh.buffers()[2] or b"")
        elif pa.types.is_boolean(column.type):
            digest.update(pc.fill_null(column, False).to_numpy(zero_copy_only=False).tobytes())
        else:
            width = {4: pa.int32(), 8: pa.int64()}[column.type.bit_width // 8]
            if pa.types.is_floating(column.type):
                filled = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False)
            else:
                filled = pc.fill_null(column.cast(width), 0).to_numpy(zero_copy_only=False)
            digest.update(filled.tobytes())
    return digest.hexdigest()


def digest_text(*parts: str) -> str:
    """SHA-256 of texts in order; `("ab", "c")` and `("a", "bc")` differ."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()
