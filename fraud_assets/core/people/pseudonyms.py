"""Persons who were erased: recognised by a keyed hash, and called by a pseudonym in the rows that are kept.

A row keeps its amount, time and place in every count; only what names the person goes. One person has one pseudonym
everywhere, so features, which count what belongs together, come out as they were. The identifier itself is kept
nowhere: whoever delivers it again is recognised by its hash. Where hashes and key are kept belongs to
`adapters/people`, what is rewritten to `workflows/people`.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.errors import PlatformError

# Shorter ones, of digits alone, are found only where a column says what they are: 123 is also an amount.
DISTINCT_CHARACTERS = 6
# What stands in the place of text that cannot be empty.
GONE = "erased"
WORD = re.compile(r"[^\s,;|\t\"'(){}\[\]<>=]+")


class ErasureError(PlatformError):
    """A person who cannot be erased, or rows that must not be written; the message says why, and what to do."""


def hash_of(key: bytes, entity: str, value: object) -> str:
    """The keyed hash by which a person is recognised: HMAC with SHA-256, 64 hexadecimal digits.

    Without the key, nobody can find out by trying whose hash it is.

    >>> hash_of(b"key", "customer_id", 7) == hash_of(b"key", "customer_id", "7")
    True
    >>> hash_of(b"key", "customer_id", 7) == hash_of(b"key", "terminal_id", 7)
    False
    """
    return hmac.digest(key, f"{entity}\0{value}".encode(), "sha256").hex()


def is_distinct(identifier: str) -> bool:
    """Whether an identifier can be told from other numbers in any text.

    >>> is_distinct("123"), is_distinct("C-12"), is_distinct("4929123")
    (False, True, True)
    """
    return len(identifier) >= DISTINCT_CHARACTERS or (len(identifier) > 2 and not identifier.isdigit())


@dataclass(frozen=True)
class Erased:
    """Everybody who was erased.

    Attributes:
        key: of the hashes.
        pseudonyms: by entity, such as customer_id, and hash.
    """

    key: bytes = b""
    pseudonyms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.pseudonyms.values())

    def pseudonym(self, entity: str, value: object) -> str | None:
        """What somebody is called by now; None of one who was not erased."""
        known = self.pseudonyms.get(entity)
        return known.get(hash_of(self.key, entity, value)) if known and value is not None else None

    def renamed(self, rows: pa.Table, entities: Iterable[str], personal: Iterable[str]) -> pa.Table:
        """Rows with pseudonyms, and without what else the named columns tell of these persons.

        Args:
            rows: with any columns.
            entities: names of columns that name somebody; those that are not among the rows are left out.
            personal: of columns that tell something of the person. It becomes empty, or the word `erased` in text that
                cannot be.
        """
        hit: pa.ChunkedArray | None = None
        for entity in entities:
            if entity not in rows.column_names or not self.pseudonyms.get(entity):
                continue
            values, is_own = self._column(entity, rows[entity])
            if is_own is None:
                continue
            rows = rows.set_column(rows.schema.get_field_index(entity), rows.schema.field(entity), values)
            hit = is_own if hit is None else pc.or_(hit, is_own)
        if hit is None:
            return rows
        for name in personal:
            if name in rows.column_names and name not in entities:
                place, column = rows.schema.get_field_index(name), rows.schema.field(name)
                rows = rows.set_column(place, column, pc.if_else(hit, _nothing(column), rows[name]))
        return rows

    def _column(self, entity: str, values: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
        distinct = pc.unique(values)
        names = [self.pseudonym(entity, value) for value in distinct.to_pylist()]
        if not any(names):
            return values, None
        new = pa.array(names, pa.string()).cast(values.type)
        places = pc.index_in(values, value_set=distinct)
        taken = new.take(places.combine_chunks() if isinstance(places, pa.ChunkedArray) else places)
        is_own = pc.is_valid(taken)
        return pa.chunked_array([pc.if_else(is_own, taken, values.combine_chunks())]), pa.chunked_array([is_own])

    def values(self, row: Mapping[str, Any], personal: Iterable[str] = ()) -> dict[str, Any] | None:
        """A row of values by name with pseudonyms; None where nobody in it was erased."""
        found = {name: self.pseudonym(name, row[name]) for name in self.pseudonyms if row.get(name) is not None}
        new = {name: type(row[name])(one) for name, one in found.items() if one is not None}
        if not new:
            return None
        empty = {name: None for name in personal if name in row and name not in self.pseudonyms}
        return {**row, **empty, **new}

    def score(
        self, transaction: Mapping[str, Any], features: Mapping[str, Any], personal: Sequence[str]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A score's transaction and features, without what names a person who was erased."""
        new = self.values(transaction, personal)
        if new is None:
            return dict(transaction), dict(features)
        return new, {name: None if name in personal else value for name, value in features.items()}

    def original(self, text: str, columns: Mapping[str, str]) -> str | None:
        """What is kept of a row as it was delivered, or of a line that is no row; None where nobody in it was erased.

        Nothing of such a row stays but whose it was: what else it says of the person, no contract tells.

        Args:
            text: as JSON, or any text.
            columns: of each entity the name of its column in the source.
        """
        for entity, value in _candidates(text, columns):
            if entity in self.pseudonyms and (name := self.pseudonym(entity, value)) is not None:
                return json.dumps({GONE: name})
        return None


def _candidates(text: str, columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Whom a delivered row may be about, each with the entity: its own columns, and every distinct word elsewhere."""
    try:
        row = json.loads(text)
    except ValueError:
        row = text
    own = {column.casefold(): entity for entity, column in columns.items()} | {
        name.casefold(): name for name in columns
    }
    cells = row.items() if isinstance(row, dict) else [("", row)]
    for name, value in cells:
        if value is None:
            continue
        if (entity := own.get(str(name).casefold())) is not None:
            yield from ((entity, form) for form in _forms(str(value)))
        words = WORD.findall(str(value))
        for word in {str(value).strip(), *words, *(word.rstrip(".:!?") for word in words)}:
            if is_distinct(word):
                yield from ((entity, form) for entity in columns for form in _forms(word))


def _forms(value: str) -> set[str]:
    """An identifier as sources write it, and as the platform may have stored it."""
    text = value.strip()
    forms = {text, text.upper(), text.lower()}
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        forms.add(str(int(text.partition(".")[0])))
    return forms


def _nothing(column: pa.Field) -> pa.Scalar:
    if column.nullable:
        return pa.scalar(None, column.type)
    return pa.scalar(GONE if pa.types.is_string(column.type) else 0).cast(column.type)


def pattern_of(identifier: str) -> str:
    r"""A regular expression for an identifier as a word of its own, for Python and PostgreSQL alike.

    >>> bool(re.search(pattern_of("C-12"), "of C-12.")), bool(re.search(pattern_of("C-12"), "of AC-123"))
    (True, False)
    """
    escaped = re.sub(r"([^A-Za-z0-9_])", r"\\\1", identifier)
    return rf"(?<![A-Za-z0-9_]){escaped}(?![A-Za-z0-9_])"
