"""What the columns of a file hold that nobody has described yet, counted from batches of its rows.

Reading the file belongs to `adapters/sources.py`, what is made of the counts to `core/drafting.py`.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contract import ContractError

Kind = Literal["integer", "number", "boolean", "time", "string", "nested"]

# Types are taken from so many rows at the file's beginning; the rest is only counted, so that memory stays bounded.
SAMPLE_ROWS = 200_000
# A column is of a type when 99 of 100 values are; the others will be quarantined, and 5 of 100 refuse a month.
MOST = 0.99
# So many values are listed as categories.
FEW = 20

INTEGER = r"^[+-]?\d{1,18}$"
DIGITS_ONLY = r"^[+-]?\d+$"
LEADING_ZERO = r"^[+-]?0\d"
NUMBERS = {
    ".": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$",
    ",": r"^[+-]?(\d+,?\d*|,\d+)([eE][+-]?\d{1,3})?$",
}
OFFSET = r"[Tt ]\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%b %d %Y", "%d %B %Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p")
# What begins like a date; trying all formats on any text takes a while.
LIKE_A_DATE = r"^(\d{1,4}|[A-Za-z]{3,9})[-/. ](\d{1,2}|[A-Za-z]{3,9})[-/. ]\d{2,4}|^\d{8}T|^\d{4}-\d{2}"
DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}

TIME_WORDS = {"timestamp", "datetime", "time", "date", "ts", "at", "when", "created", "zeit", "datum", "zeitpunkt"}


def _words(name: str) -> set[str]:
    return set(name_words(name))


def name_words(name: str) -> list[str]:
    """The words of a column's name in lower case.

    >>> name_words("customerId"), name_words("CUSTOMER_ID")
    (['customer', 'id'], ['customer', 'id'])
    """
    parts = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return [word for word in re.split(r"[\W_]+", parts.lower()) if word]


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds.

    Attributes:
        name: as the file calls it.
        kind: what 99 of 100 of its values can be read as; for a column whose name says that it is a time, half.
        n: rows.
        n_missing: rows without a value.
        n_misfits: rows whose value is not of that kind.
        n_distinct: different values, in the sample; in the whole file where all of the sample's differ.
        n_counted: the rows with a value among which `n_distinct` was counted.
        values: how often each value occurs, most frequent first; None where there are more than `FEW`.
        minimum, maximum: range of the numbers.
        whole: whether every number is a whole one.
        time_format: as for strptime; None for ISO 8601 and for a type that is a time itself.
        first, last: range of the times, as if in UTC where they carry no offset.
        has_offset: whether the times carry an offset.
        other_format: another format that reads all of them as well.
    """

    name: str
    kind: Kind
    n: int = 0
    n_missing: int = 0
    n_misfits: int = 0
    n_distinct: int = 0
    n_counted: int = 0
    values: dict[str, int] | None = None
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False
    time_format: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    has_offset: bool = False
    other_format: str | None = None

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value and no two have the same."""
        return self.n_missing == 0 and self.n_distinct == self.n_counted > 0

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return name_words(self.name)


@dataclass(frozen=True)
class FileProfile:
    """What a file holds: its columns, its first rows, and how it writes decimals.

    Attributes:
        n: rows.
        columns: in the file's order.
        sample: the first rows, at most `SAMPLE_ROWS`.
        decimal: what stands before the decimals of a number.
    """

    n: int
    columns: tuple[ColumnProfile, ...]
    sample: pa.Table
    decimal: Literal[".", ","] = "."


def detect_encoding(blocks: Iterable[bytes]) -> str:
    """The encoding of a text file: what its byte order mark says, else UTF-8 if all of it is, else cp1252.

    >>> detect_encoding(["é".encode()]), detect_encoding([b"caf", "é".encode("cp1252")])
    ('utf-8', 'cp1252')
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for number, block in enumerate(blocks):
            if number == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return "utf-16"
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def profile_rows(batches: Iterable[pa.RecordBatch]) -> FileProfile:
    """Counts what each column holds, in one pass.

    Memory is that of `SAMPLE_ROWS` rows, and 8 bytes for each further value of a column whose values all differ.

    Args:
        batches: a file's rows, of one schema; text as it stands in the file.

    Raises:
        ContractError: when there are no rows.
    """
    rest = iter(batches)
    sample = _first_rows(rest)
    if sample is None:
        raise ContractError("the file has no rows, so there is nothing to draft a contract from; give one that has")
    decimal = _decimal_mark(sample)
    names = sample.column_names
    columns = [
        _Counting(name, _kind_of(column, decimal, name), decimal)
        for name, column in zip(names, sample.columns, strict=True)
    ]
    n = _count(sample.to_batches(), columns)
    for column in columns:
        column.end_sample()
    n += _count(rest, columns)
    return FileProfile(n, tuple(column.result() for column in columns), sample, decimal)


def _count(batches: Iterable[pa.RecordBatch], columns: list[_Counting]) -> int:
    n = 0
    for batch in batches:
        n += batch.num_rows
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(_plain(values))
    return n


def _first_rows(batches: Iterator[pa.RecordBatch]) -> pa.Table | None:
    taken, n = [], 0
    for batch in batches:
        taken.append(batch)
        n += batch.num_rows
        if n >= SAMPLE_ROWS:
            break
    return pa.Table.from_batches(taken) if n else None


def _plain(values: pa.Array) -> pa.Array:
    """Values as text, whole numbers, numbers, booleans or times; anything else (lists, bytes) as it is."""
    if isinstance(values.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return values.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    texts = (pa.types.is_large_string, pa.types.is_string_view, pa.types.is_date, pa.types.is_time, pa.types.is_null)
    if kind == pa.uint64() or any(is_text(kind) for is_text in texts):
        return values.cast(pa.string())
    return values


def _given(values: pa.Array) -> pa.Array:
    """The values that are there, text without the spaces around it."""
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        return values.filter(pc.fill_null(pc.not_equal(values, ""), False))
    return values.filter(pc.invert(pc.is_null(values, nan_is_null=True)))


def _share(matches: pa.Array) -> float:
    return float(pc.mean(matches).as_py() or 0.0)


def _whole_column(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([_given(_plain(chunk)) for chunk in column.chunks])


def _decimal_mark(sample: pa.Table) -> Literal[".", ","]:
    """A comma where more columns are numbers with it than with a point."""
    votes: Counter[str] = Counter()
    for column in sample:
        values = _whole_column(column)
        if pa.types.is_string(values.type) and len(values):
            shares = {mark: _share(pc.match_substring_regex(values, form)) for mark, form in NUMBERS.items()}
            votes["."] += shares["."] >= MOST > shares[","]
            votes[","] += shares[","] >= MOST > shares["."]
    return "," if votes[","] > votes["."] else "."


@dataclass(frozen=True)
class _Form:
    """How a column's values are read: a kind, and for times in text the format, and another one as good."""

    kind: Kind
    time_format: str | None = None
    other_format: str | None = None


def _kind_of(column: pa.ChunkedArray, decimal: str, name: str) -> _Form:
    values = _whole_column(column)
    if pa.types.is_integer(values.type):
        return _Form("integer")
    if pa.types.is_floating(values.type):
        return _Form("number")
    if pa.types.is_boolean(values.type):
        return _Form("boolean")
    if pa.types.is_timestamp(values.type):
        return _Form("time")
    if not pa.types.is_string(values.type):
        return _Form("nested")
    if len(values) == 0:
        return _Form("string")
    if _share(pc.match_substring_regex(values, DIGITS_ONLY)) >= MOST:
        length = pc.utf8_length(values)
        form = DIGITS.get(length[0].as_py()) if pc.min(length) == pc.max(length) else None
        if form and _words(name) & TIME_WORDS and _share_of_times(values, form) >= MOST:
            return _Form("time", form)
        # Digits that begin with zero, or are more than an integer can hold, are a code and no count.
        coded = pc.any(pc.match_substring_regex(values, LEADING_ZERO)).as_py() or pc.max(length).as_py() > 18
        return _Form("string" if coded else "integer")
    if _share(pc.match_substring_regex(values, NUMBERS[decimal])) >= MOST:
        return _Form("number")
    if _share(pc.is_in(pc.utf8_lower(values), pa.array(["true", "false"]))) >= MOST:
        return _Form("boolean")
    if _share(pc.match_substring_regex(values, LIKE_A_DATE)) < 1 / 2:
        return _Form("string")
    return _time_form(values, 1 / 2 if _words(name) & TIME_WORDS else MOST)


def _time_form(values: pa.Array, least: float) -> _Form:
    few = values.take(pa.array(np.unique(np.linspace(0, len(values) - 1, 200).astype(np.int64))))
    formats = [None, *(date + clock for date in DATES for clock in CLOCKS), "%Y-%m-%d %H:%M:%S UTC"]
    likely = [form for form in formats if _share_of_times(few, form) >= 1 / 2]
    shares = {form: _share_of_times(values, form) for form in likely}
    good = [form for form, share in shares.items() if share >= least]
    if not good:
        return _Form("string")
    best = max(shares.values())

    def span(form: str | None) -> float:
        times = _times(values, form)
        return float((times.max() - times.min()).total_seconds())

    # Where the day and the month can be exchanged, the wrong reading scatters a month over the year.
    ranked = sorted((form for form in good if shares[form] == best), key=span)
    return _Form("time", ranked[0], ranked[1] if len(ranked) > 1 else None)


def _times(values: pa.Array, form: str | None) -> pd.Series[Any]:
    return read_times(pd.Series(values.to_pandas(), dtype=object), form)


def read_times(text: pd.Series[Any], form: str | None) -> pd.Series[Any]:
    """Text as times in UTC, by a format as for strptime or, without one, as ISO 8601; NaT where it is none."""
    # pandas would ask the clock for "now", and take a bare number for a year.
    text = text.where(text.str.match(r"\d{4}-\d|\d{8}T" if form is None else r".*\d"))
    return pd.to_datetime(text, format=form or "ISO8601", utc=True, errors="coerce")


def _share_of_times(values: pa.Array, form: str | None) -> float:
    return float(_times(values, form).notna().mean())


class _Counting:
    """Counts one column, batch by batch."""

    def __init__(self, name: str, form: _Form, decimal: str) -> None:
        self.name, self.form, self.decimal = name, form, decimal
        self.n = self.n_missing = self.n_counted = self.n_distinct = 0
        self.misfits: Counter[Kind] = Counter()
        self.values: Counter[str] | None = Counter()
        self.minimum, self.maximum, self.whole = np.inf, -np.inf, True
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.n_offset = 0
        self.hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self.counts_distinct = form.kind != "nested"

    def add(self, values: pa.Array) -> None:
        """Counts a batch's values."""
        given = _given(values)
        self.n += len(values)
        self.n_missing += len(values) - len(given)
        if len(given) == 0 or self.form.kind == "nested":
            return
        if self.counts_distinct:
            self.n_counted += len(given)
            self.hashes.append(pd.util.hash_array(given.to_numpy(zero_copy_only=False)))
        if self.form.kind == "time":
            self._add_times(given)
            return
        if self.values is not None:
            for entry in pc.value_counts(given.cast(pa.string())).to_pylist():
                self.values[entry["values"]] += entry["counts"]
            self.values = self.values if len(self.values) <= FEW else None
        if self.form.kind in ("integer", "number"):
            self._add_numbers(given)
        elif self.form.kind == "boolean" and pa.types.is_string(given.type):
            fits = pc.is_in(pc.utf8_lower(given), pa.array(["true", "false"]))
            self.misfits["boolean"] += len(given) - pc.sum(fits).as_py()

    def end_sample(self) -> None:
        """Distinct values are counted on only where all of the sample's differ, or all but a few."""
        self.n_distinct = len(np.unique(np.concatenate(self.hashes))) if self.hashes else 0
        self.counts_distinct = self.counts_distinct and self.n_distinct >= MOST * self.n_counted
        if not self.counts_distinct:
            self.hashes = []

    def _add_numbers(self, given: pa.Array) -> None:
        if pa.types.is_string(given.type):
            fits = pc.match_substring_regex(given, NUMBERS[self.decimal])
            coded = pc.match_substring_regex(given, LEADING_ZERO)
            whole = pc.and_(pc.match_substring_regex(given, INTEGER), pc.invert(coded))
            self.misfits["integer"] += len(given) - pc.sum(whole).as_py()
            self.misfits["number"] += len(given) - pc.sum(fits).as_py()
            given = pc.replace_substring(pc.utf8_ltrim(given.filter(fits), "+"), ",", ".").cast(pa.float64())
        elif pa.types.is_floating(given.type):
            self.whole = self.whole and bool(pc.all(pc.equal(given, pc.floor(given))).as_py() in (True, None))
            finite = pc.is_finite(given)
            self.misfits["number"] += len(given) - pc.sum(finite).as_py()
            given = given.filter(finite)
        if len(given):
            self.minimum = min(self.minimum, float(pc.min(given).as_py()))
            self.maximum = max(self.maximum, float(pc.max(given).as_py()))

    def _add_times(self, given: pa.Array) -> None:
        if pa.types.is_string(given.type):
            times = _times(given, self.form.time_format)
            self.misfits["time"] += int(times.isna().sum())
            self.n_offset += pc.sum(pc.match_substring_regex(given, OFFSET)).as_py()
        else:
            self.n_offset += len(given) if given.type.tz else 0
            times = pd.Series(pd.to_datetime(given.to_pandas(), utc=True, errors="coerce"))
        times = times.dropna()
        if len(times):
            first, last = times.min().to_pydatetime(), times.max().to_pydatetime()
            self.first = min(self.first or first, first)
            self.last = max(self.last or last, last)

    def result(self) -> ColumnProfile:
        """What was counted."""
        given = self.n - self.n_missing
        allowed = (1 - MOST) * given
        kind = self.form.kind
        # What the first rows promise, the others may not keep.
        if kind == "integer" and self.misfits["integer"] > allowed:
            kind = "number"
        # A time in several formats is still one; the name says so, and the others will be quarantined.
        if kind != "time" and self.misfits[kind] > allowed:
            kind = "string"
        if self.counts_distinct and self.hashes:
            self.n_distinct = len(np.unique(np.concatenate(self.hashes)))
        numeric, times = kind in ("integer", "number") and self.minimum <= self.maximum, kind == "time"
        return ColumnProfile(
            self.name,
            kind,
            n=self.n,
            n_missing=self.n_missing,
            n_misfits=self.misfits[kind],
            n_distinct=self.n_distinct,
            n_counted=self.n_counted,
            values=None if self.values is None or kind in ("time", "nested") else dict(self.values.most_common()),
            minimum=self.minimum if numeric else None,
            maximum=self.maximum if numeric else None,
            whole=kind == "integer" or (kind == "number" and self.whole and not self.misfits["integer"]),
            time_format=self.form.time_format if times else None,
            first=self.first if times else None,
            last=self.last if times else None,
            has_offset=times and self.n_offset == given > 0,
            other_format=self.form.other_format if times else None,
        )


def texts(rows: pa.Table, name: str) -> pd.Series[Any]:
    """A column's values as text without the spaces around it; empty where there is none."""
    values = pa.chunked_array([_plain(chunk) for chunk in rows[name].chunks])
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    return pd.Series(pc.fill_null(values.cast(pa.string()), "").to_pylist(), dtype=object).str.strip()
