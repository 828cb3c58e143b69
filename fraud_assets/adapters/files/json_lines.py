"""JSON Lines: one object a line, as exports of document stores and logs write it; also one array of objects.

A value keeps the type that JSON has for it; what is nested is text. A line that is no object is rejected, and costs no
other. What the values mean belongs to `core/intake/conversions.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from fraud_assets.adapters.files.text_files import TextError
from fraud_assets.core.intake.rows import Piece, Rejected

ROWS = 20_000
LARGEST_WHOLE = 2**53


class JsonLines:
    """A file of JSON objects."""

    def __init__(self, opened: Callable[[], BinaryIO], encoding: str = "utf-8") -> None:
        """Finds the names, in one pass over the file: a key may be there in the last line only.

        Raises:
            TextError: when no line is an object.
        """
        self._opened, self._encoding = opened, encoding
        found: dict[str, None] = {}
        for _, _, _, row, _ in self._rows():
            if row is not None:
                found.update(dict.fromkeys(row))
        if not found:
            raise TextError("it has no line that is a JSON object")
        self.names = list(found)

    def pieces(self) -> Iterator[Piece]:
        """The rows, from the start."""
        rows, numbers, rejected, n = list[dict[str, Any]](), list[int](), list[Rejected](), 0
        for number, line, text, row, problem in self._rows():
            n += 1
            if row is None:
                rejected.append(Rejected(number, line, text, problem))
            else:
                rows.append(row)
                numbers.append(number)
            if n == ROWS:
                yield self._piece(rows, numbers, rejected, n)
                rows, numbers, rejected, n = [], [], [], 0
        if n:
            yield self._piece(rows, numbers, rejected, n)

    def _piece(self, rows: list[dict[str, Any]], numbers: list[int], rejected: list[Rejected], n: int) -> Piece:
        columns = [typed_array([row.get(name) for row in rows]) for name in self.names]
        batch = pa.RecordBatch.from_arrays(columns, names=self.names)
        return Piece(batch, np.array(numbers, np.int64), tuple(rejected), n)

    def _rows(self) -> Iterator[tuple[int, int, str, dict[str, Any] | None, str]]:
        """Number, line, text, the object, or what is wrong."""
        with self._opened() as stream:
            start = stream.read(4096).lstrip(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"["):
            yield from self._array()
            return
        number = 0
        with self._opened() as stream:
            for line, raw in enumerate(stream, 1):
                if line == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                if not raw.strip():
                    continue
                number += 1
                row, problem = self._object(raw)
                text = "" if row is not None else raw.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
                yield number, line, text, row, problem

    def _object(self, raw: bytes) -> tuple[dict[str, Any] | None, str]:
        try:
            row = json.loads(raw.decode(self._encoding), object_pairs_hook=_once)
        except UnicodeDecodeError as error:
            return None, f"has a byte 0x{raw[error.start]:02x} that is no text in {self._encoding} (csv.encoding)"
        except _TwiceError as error:
            return None, f"has the key {error.args[0]!r} twice"
        except (ValueError, RecursionError) as error:
            return None, f"is no JSON: {error}"
        return (row, "") if isinstance(row, dict) else (None, "is no JSON object")

    def _array(self) -> Iterator[tuple[int, int, str, dict[str, Any] | None, str]]:
        with self._opened() as stream:
            try:
                rows = json.loads(stream.read().decode("utf-8-sig"), object_pairs_hook=_once)
            except (ValueError, _TwiceError, RecursionError) as error:
                raise TextError(f"it begins like an array of JSON objects and is none: {error}") from error
        for number, row in enumerate(rows, 1):
            is_row = isinstance(row, dict)
            yield number, number, "" if is_row else json.dumps(row), row if is_row else None, "is no JSON object"


class _TwiceError(Exception):
    """A key that is there more than once."""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


def typed_array(values: Sequence[Any]) -> pa.Array:
    """Values of one JSON type as that type; of several, and what is nested, as text."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in values if value is not None):
        return pa.array(values, pa.int64())
    if kinds == {float} or (
        kinds == {int, float} and all(abs(value) < LARGEST_WHOLE for value in values if type(value) is int)
    ):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
