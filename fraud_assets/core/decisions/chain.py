"""The ledger's chain: each row carries the hash of the row before it, so that what was changed afterwards shows.

A row's hash is SHA-256 over all of its columns, in a form that does not depend on how they are stored. The hash and
number of the last row, its *head*, is also kept outside the database: rows that were cut off at the end show by that
alone. Reading and writing rows belongs to `adapters/postgres/ledger.py`, keeping heads to `workflows/models/heads.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from fraud_assets.core.errors import PlatformError

GENESIS = "0" * 64
"""What the first row has for the hash of the row before it."""
COVERED = (
    "number", "recorded_at", "kind", "model_version", "month", "reasons", "actor", "fact", "evidence", "code_version",
    "libraries", "metrics", "digests", "previous_hash",
)  # fmt: skip
"""The columns that a hash covers: all but the hash."""
FORM = 1
"""Of what is hashed; another one would be another number."""

Row: TypeAlias = Mapping[str, Any]
"""A row as it is stored: its columns by name, jsonb as plain values, times with a zone."""
What = Literal["changed", "inserted", "deleted", "moved", "cut", "rewritten"]


class LedgerError(PlatformError):
    """A ledger that is not believed, or cannot be written; the message says why, and what to do."""


@dataclass(frozen=True)
class Head:
    """The last row of the ledger, as something outside of it knows it.

    Attributes:
        number: the row's.
        hash: the row's, 64 hexadecimal digits.
        where: what knows it, in words, such as "the file ledger-head.json".
    """

    number: int
    hash: str
    where: str = "the ledger"

    @property
    def text(self) -> str:
        """Number and hash in one text, as tags and labels hold them.

        >>> Head(7, "ab12").text
        '7:ab12'
        """
        return f"{self.number}:{self.hash}"

    @classmethod
    def parse(cls, text: str, where: str) -> Head:
        """The head that a text says.

        Raises:
            LedgerError: when it says none.
        """
        number, colon, digits = text.partition(":")
        if not (colon and number.isdecimal() and digits):
            raise LedgerError(f"{where} has {text!r} in place of number and hash; remove that, and it is written again")
        return cls(int(number), digits, where)


@dataclass(frozen=True)
class Fault:
    """The first thing that is wrong with a ledger.

    Attributes:
        number: the first row that is wrong, or missing.
        what: what happened to it.
        sentence: the same for people.
    """

    number: int
    what: What
    sentence: str


def canonical(row: Row) -> str:
    """What is hashed of a row: its columns as JSON with sorted keys, times in UTC to the microsecond.

    A number of jsonb comes back as whole or not as the server likes it, so each is taken as a floating-point number.

    >>> canonical({"number": 1, "metrics": {"b": 2, "a": 1e-07}})
    '{"form": 1, "metrics": {"a": 1e-07, "b": 2.0}, "number": 1}'
    """
    columns = {name: _plain(row[name], floats=name == "metrics") for name in COVERED if name in row}
    return json.dumps({"form": FORM, **columns}, sort_keys=True, ensure_ascii=True, allow_nan=False)


def hash_row(row: Row) -> str:
    """A row's hash: SHA-256, 64 hexadecimal digits. The row names the one before it in `previous_hash`."""
    return hashlib.sha256(canonical(row).encode("ascii")).hexdigest()


def chained(rows: Sequence[Row], previous_hash: str = GENESIS) -> list[dict[str, Any]]:
    """The rows, in their order, each with `previous_hash` and `hash`."""
    linked = []
    for row in rows:
        whole = {**row, "previous_hash": previous_hash}
        previous_hash = hash_row(whole)
        linked.append(whole | {"hash": previous_hash})
    return linked


def find_fault(
    rows: Sequence[Row], heads: Sequence[Head] = (), known: MutableMapping[str, Row] | None = None
) -> Fault | None:
    """The first row that is not as it was written; None where all are.

    A row that somebody appended at the end, with the right hash, is taken for one of the platform's: only whoever keeps
    the code from the database's users keeps them from making such a row.

    Args:
        rows: all there are, by number.
        heads: those that are known outside.
        known: rows by their hash that were found to fit it before; is added to. A row that is the same in every column
            is not hashed again, so that a ledger that is read for every month does not cost more with each.
    """
    previous = GENESIS
    known = {} if known is None else known
    for place, row in enumerate(rows):
        if known.get(row["hash"]) != row:
            if hash_row(row) != row["hash"]:
                return _not_its_own(rows, place, previous, heads)
            known[row["hash"]] = dict(row)
        if row["previous_hash"] != previous:
            return _not_linked(rows, place)
        previous = row["hash"]
    return _against_heads(rows, heads)


def _not_its_own(rows: Sequence[Row], place: int, previous: str, heads: Sequence[Head]) -> Fault:
    """A row whose content and hash do not fit."""
    row, later = rows[place], rows[place + 1 :]
    number = row["number"]
    for other in rows:
        if other is not row and hash_row({**row, "number": other["number"]}) == row["hash"]:
            said = f"row {number} was moved: it was written as row {other['number']}"
            return Fault(number, "moved", said)
    known = {head.hash for head in heads if head.number == number} | {one["previous_hash"] for one in later}
    if row["hash"] in known:
        return Fault(number, "changed", f"row {number} was changed after it was written")
    if previous in {one["previous_hash"] for one in later} or (heads and not later):
        return Fault(number, "inserted", f"row {number} was inserted by something else than the platform")
    return Fault(number, "changed", f"row {number} was changed after it was written, or inserted by something else")


def _not_linked(rows: Sequence[Row], place: int) -> Fault:
    """A row that is as it was written, and not after the row that it was written after."""
    row = rows[place]
    number = row["number"]
    places = {one["hash"]: at for at, one in enumerate(rows)}
    before = places.get(row["previous_hash"], -1 if row["previous_hash"] == GENESIS else None)
    if before is None:
        first = rows[place - 1]["number"] + 1 if place else 1
        missing = f"row {first} was" if number - first <= 1 else f"one or more of the rows {first} to {number - 1} were"
        return Fault(first, "deleted", f"{missing} deleted")
    if before > place:
        said = f"row {number} was moved: it was written after row {rows[before]['number']}"
        return Fault(number, "moved", said)
    inserted = rows[before + 1]["number"]
    return Fault(inserted, "inserted", f"row {inserted} was inserted by something else than the platform")


def _against_heads(rows: Sequence[Row], heads: Sequence[Head]) -> Fault | None:
    hashes = {row["number"]: row["hash"] for row in rows}
    last = max(hashes, default=0)
    for head in sorted(heads, key=lambda one: one.number):
        if head.number > last:
            said = f"rows were cut off at the end: the last one is {last}, and {head.where} knows row {head.number}"
            return Fault(last + 1, "cut", said)
        if hashes.get(head.number) != head.hash:
            said = f"row {head.number} is not the one that {head.where} knows: the ledger was rewritten"
            return Fault(head.number, "rewritten", said)
    return None


def _plain(value: Any, *, floats: bool = False) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, Mapping):
        return {str(key): _plain(one, floats=floats) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, floats=floats) for one in value]
    if floats and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) + 0.0
    return value
