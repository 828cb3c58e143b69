"""The types in which files store values, reduced to the few that say something.

Dictionaries, views, large and binary text, decimals of any width or 16-bit floats are how a writer stores a value, not
what it means. One list of them, for the intake and for drafts; what a value means to a contract belongs to
`conversions.py` and `times.py`.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def plain_array(values: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Values as one of: text, integers, floats, decimals, booleans, timestamps, date32, time64[us], duration, null.

    Lists and structs become their JSON.

    Returns:
        The values, and where bytes were no UTF-8 text and became null (None when all were).
    """
    kind = values.type
    if isinstance(kind, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string()), None
    if isinstance(kind, pa.BaseExtensionType):
        # numeric of Postgres, for one, is text inside.
        return plain_array(values.storage)
    if pa.types.is_dictionary(kind):
        return plain_array(values.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain_array(pc.run_end_decode(values))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return values.cast(pa.string()), None
    if is_binary(kind):
        return _decoded(values)
    if pa.types.is_float16(kind):
        return pa.array(values.to_numpy(zero_copy_only=False).astype(np.float32), mask=_nulls(values)), None
    if pa.types.is_date64(kind):
        return values.cast(pa.date32()), None
    if pa.types.is_time(kind):
        return values.cast(pa.time64("us"), safe=False), None
    if pa.types.is_nested(kind) or pa.types.is_union(kind):
        return pa.array(list(map(_json, values.to_pylist())), pa.string()), None
    if pa.types.is_interval(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string()), None
    return values, None


def is_binary(kind: pa.DataType) -> bool:
    """Whether a type holds bytes, as which Impala, Hive and Spark store text."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def exact_below(kind: pa.DataType) -> float:
    """Up to which size a floating-point type holds every whole number."""
    return {pa.float16(): 2.0**11, pa.float32(): 2.0**24}.get(kind, 2.0**53)


def is_bare(values: pa.Array) -> bool:
    """Whether no text is empty, or begins or ends with a blank; False where that needs a closer look.

    At the level of bytes, because trimming the text of a month takes as long as reading it.
    """
    offsets, letters = _text_buffers(values)
    lengths = np.diff(offsets)
    given = lengths > 0
    if int((~given).sum()) != values.null_count:
        return False
    ends = np.concatenate([letters[offsets[:-1][given]], letters[offsets[1:][given] - 1]])
    # Beyond ASCII there are blanks, too.
    return bool(((ends > 32) & (ends < 127)).all())


def has_any(values: pa.Array, characters: bytes) -> bool:
    """Whether any text has one of some ASCII characters."""
    offsets, letters = _text_buffers(values)
    text = letters[offsets[0] : offsets[-1]].tobytes() if len(offsets) else b""
    return any(bytes([character]) in text for character in characters)


def _text_buffers(values: pa.Array) -> tuple[Any, Any]:
    _, offsets, letters = values.buffers()
    if offsets is None or letters is None:
        return np.zeros(len(values) + 1, np.int32), np.zeros(0, np.uint8)
    return np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1], np.frombuffer(
        letters, np.uint8
    )


def _decoded(values: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    try:
        return values.cast(pa.string()), None
    except pa.ArrowInvalid:
        texts, bad = list[str | None](), list[bool]()
        for value in values.to_pylist():
            try:
                texts.append(None if value is None else value.decode())
                bad.append(False)
            except UnicodeDecodeError:
                texts.append(None)
                bad.append(True)
        return pa.array(texts, pa.string()), pa.array(bad)


def _nulls(values: pa.Array) -> Any:
    return np.asarray(values.is_null())


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False)
