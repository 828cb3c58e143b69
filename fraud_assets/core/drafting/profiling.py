"""What the columns of a file hold that nobody has described yet, counted from batches of its rows.

Reading the file belongs to `adapters/sources.py`, what is made of the counts to `draft.py`.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.drafting.naming import EXPIRY_WORDS, TIME_WORDS, name_words
from fraud_assets.core.intake.physical import plain_array

Kind = Literal["integer", "number", "boolean", "time", "clock", "string", "nested"]

# Types are taken from so many rows at the file's beginning; the rest is only counted, so that memory stays bounded.
SAMPLE_ROWS = 200_000
SAMPLE_CELLS = 20_000_000
# How columns go together is looked at in so many rows from all of the file.
SPREAD_ROWS = 50_000
SPREAD_CELLS = 8_000_000
# A column is of a type when 99 of 100 values are; the others will be quarantined, and 5 of 100 refuse a month.
MOST = 0.99
# So many values are listed as categories.
FEW = 20

INTEGER = r"^[+-]?\d{1,18}$"
DIGITS_ONLY = r"^[+-]?\d+$"
LEADING_ZERO = r"^[+-]?0\d"
OFFSET = r"[Tt ]\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d%b%Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %H:%M:%S.%f", " %I:%M:%S %p", " %I:%M %p", ":%H:%M:%S")
# What begins like a date; trying all formats on any text takes a while.
LIKE_A_DATE = (
    r"^(\d{1,4}|[A-Za-z]{3,9})[-/. ](\d{1,2}|[A-Za-z]{3,9}),?[-/. ]\d{2,4}|^\d{8}T|^\d{4}-\d{2}"
    r"|^\d{2}[A-Za-z]{3}\d{4}"
)
DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}

# What is written where there is no value. The words of the second line may be values in a text.
MISSING_ANYWHERE = ("NA", "N/A", "#N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>", "\\N", "(null)")
MISSING_AMONG_NUMBERS = ("-", "--", "?", ".", "None", "none", "na", "missing", "Missing", "unknown", "Unknown")
SIGNS = r"[$€£¥₹₽₩]|R\$|kr|zł|CHF|EUR|USD|GBP"
BLANKS = "\u00a0\u202f"  # that keep a number on one line
APOSTROPHE = "\u2019"
GROUPED = rf"\d[.,' {BLANKS}{APOSTROPHE}]\d"
BESIDE_SIGN = rf"^([+-]?) ?({SIGNS}) ?|[ {BLANKS}]?({SIGNS})$"
# A card or account number in twelve or more digits that a spreadsheet wrote as 4.00012E+15.
SCIENTIFIC = r"^\d(\.\d+)?[eE]\+?(1[1-9]|2\d)$"
WHOLE_WITH_POINT = r"^[+-]?\d+\.0+$"
CLOCK = r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?$"
MONTH_AND_YEAR = r"^(0?[1-9]|1[0-2])[/-](\d{2}|\d{4})$"
YEAR_AND_MONTH = r"^(19|20)\d{2}-(0[1-9]|1[0-2])$"


def says_time(words: Iterable[str]) -> bool:
    """Whether a column's name says that it is a time.

    >>> says_time(["transdate"]), says_time(["fecha"]), says_time(["amount"])
    (True, True, False)
    """
    return any(
        word in TIME_WORDS or word.endswith(("date", "datum", "fecha", "time", "zeit", "timestamp")) for word in words
    )


@dataclass(frozen=True)
class Style:
    """How a file writes its values.

    Attributes:
        decimal: what stands before the decimals of a number.
        thousands: what groups the digits of a number; None where nothing does.
        missing: words that stand for a missing value.
    """

    decimal: Literal[".", ","] = "."
    thousands: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """The pattern of a number."""
        point = re.escape(self.decimal)
        grouped = rf"\d{{1,3}}({re.escape(self.thousands)}\d{{3}})+({point}\d*)?|" if self.thousands else ""
        return rf"^[+-]?({grouped}\d+{point}?\d*|{point}\d+)([eE][+-]?\d{{1,3}})?$"

    def numbers(self, text: pa.Array) -> pa.Array:
        """Text that matches `number`, as numbers."""
        if self.thousands:
            text = pc.replace_substring(text, self.thousands, "")
        text = pc.replace_substring(text, self.decimal, ".") if self.decimal != "." else text
        return pc.utf8_ltrim(text, "+").cast(pa.float64())


@dataclass(frozen=True)
class ColumnProfile:
    """What a column holds.

    Attributes:
        name: as the file calls it.
        kind: what 99 of 100 of its values can be read as; for a column whose name says that it is a time, half. A clock
            is a time of day without a date.
        n: rows.
        n_missing: rows without a value.
        n_misfits: rows whose value is not of that kind.
        n_distinct: different values, in the sample; in the whole file where all of the sample's differ.
        n_counted: the rows with a value among which `n_distinct` was counted.
        values: how often each value occurs, most frequent first; None where there are more than `FEW`.
        minimum, maximum: range of the numbers.
        whole: whether every number is a whole one, also where it is written as 1003.0.
        time_format: as for strptime; None for ISO 8601 and for a type that is a time itself.
        first, last: range of the times, as if in UTC where they carry no offset.
        months: how many of the times lie in each month.
        is_date: whether the times have no time of day.
        has_offset: whether the times carry an offset.
        other_format: another format that reads all of them as well.
        n_lost_digits: values that were written as 4.00012E+15 or as a floating-point number past 2^53.
        has_sign: whether the text is amounts with a sign of a currency, such as $134.09.
        stored: whether the file itself has the type, and it is not text.
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
    months: dict[str, int] = field(default_factory=dict)
    is_date: bool = False
    has_offset: bool = False
    other_format: str | None = None
    n_lost_digits: int = 0
    has_sign: bool = False
    stored: bool = False

    @property
    def is_unique(self) -> bool:
        """Whether every row has a value and no two have the same."""
        return self.n_missing == 0 and self.n_distinct == self.n_counted > 0

    @property
    def share_missing(self) -> float:
        """Of all rows, those without a value."""
        return self.n_missing / self.n if self.n else 0.0

    @property
    def words(self) -> list[str]:
        """The words of its name."""
        return name_words(self.name)


@dataclass(frozen=True)
class FileProfile:
    """What a file holds: its columns, some of its rows, and how it writes values.

    Attributes:
        n: rows.
        columns: in the file's order.
        sample: the first rows, at most `SAMPLE_ROWS`.
        spread: rows from all of the file in its order, at most about `SPREAD_ROWS`.
        style: how values are written.
    """

    n: int
    columns: tuple[ColumnProfile, ...]
    sample: pa.Table
    spread: pa.Table
    style: Style = Style()


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
    style = _find_style(sample)
    names = sample.column_names
    columns = [
        _Counting(name, _kind_of(column, style, name), style)
        for name, column in zip(names, sample.columns, strict=True)
    ]
    spread = _Spread(len(columns))
    n = _count(sample.to_batches(), columns, spread)
    for column in columns:
        column.end_sample()
    n += _count(rest, columns, spread)
    return FileProfile(n, tuple(column.result() for column in columns), sample, spread.rows(sample.schema), style)


def _count(batches: Iterable[pa.RecordBatch], columns: list[_Counting], spread: _Spread) -> int:
    n = 0
    for batch in batches:
        n += batch.num_rows
        spread.add(batch)
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(plain(values))
    return n


class _Spread:
    """Rows drawn evenly from batches whose number is not known beforehand."""

    def __init__(self, n_columns: int) -> None:
        self.most = max(1000, min(SPREAD_ROWS, SPREAD_CELLS // max(n_columns, 1)))
        self.draw, self.rate = np.random.default_rng(0), 1.0
        self.parts: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Draws from a batch; where too many have been drawn, every second one goes back."""
        self.parts.append(self._drawn(batch, self.rate))
        while sum(part.num_rows for part in self.parts) > self.most:
            self.rate /= 2
            self.parts = [self._drawn(part, 1 / 2) for part in self.parts]

    def _drawn(self, batch: pa.RecordBatch, rate: float) -> pa.RecordBatch:
        if rate >= 1 or batch.num_rows == 0:
            return batch
        return batch.take(pa.array(np.flatnonzero(self.draw.random(batch.num_rows) < rate)))

    def rows(self, schema: pa.Schema) -> pa.Table:
        """What was drawn."""
        return pa.Table.from_batches(self.parts, schema=schema)


def _first_rows(batches: Iterator[pa.RecordBatch]) -> pa.Table | None:
    taken, n = [], 0
    for batch in batches:
        taken.append(batch)
        n += batch.num_rows
        if n >= min(SAMPLE_ROWS, SAMPLE_CELLS // max(batch.num_columns, 1)):
            break
    return pa.Table.from_batches(taken) if n else None


def plain(values: pa.Array) -> pa.Array:
    """Values as text, whole numbers, numbers, booleans or times; lists and structures as they are."""
    if pa.types.is_nested(values.type):
        return values
    values, unreadable = plain_array(values)
    kind = values.type
    if unreadable is not None and pc.all(pc.or_(unreadable, pc.is_null(values))).as_py():
        # Bytes that are no text.
        return pa.nulls(len(values), pa.list_(pa.int8()))
    if kind == pa.uint64() or pa.types.is_null(kind):
        return values.cast(pa.string())
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        return values.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    if pa.types.is_duration(kind):
        return pc.divide(values.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    if pa.types.is_date(kind) or pa.types.is_time(kind):
        return values.cast(pa.string())
    return values


def _given(values: pa.Array, missing: tuple[str, ...] = ()) -> pa.Array:
    """The values that are there, text without the spaces around it."""
    if pa.types.is_string(values.type):
        values = pc.utf8_trim_whitespace(values)
        values = values.filter(pc.fill_null(pc.not_equal(values, ""), False))
        if missing and len(values):
            values = values.filter(pc.invert(pc.is_in(values, pa.array(missing))))
        return values
    return values.filter(pc.invert(pc.is_null(values, nan_is_null=True)))


def _share(matches: pa.Array) -> float:
    return float(pc.mean(matches).as_py() or 0.0)


def _whole_column(column: pa.ChunkedArray, missing: tuple[str, ...] = ()) -> pa.Array:
    parts = [_given(plain(chunk), missing) for chunk in column.chunks]
    if len({part.type for part in parts}) > 1:
        # Bytes that are text in one part of a file and nothing readable in another.
        return pa.nulls(0, pa.binary())
    return pa.concat_arrays(parts)


STYLES = (
    Style("."), Style(","), Style(".", ","), Style(",", "."), Style(".", " "), Style(",", " "), Style(".", "'"),
    Style(",", "\u00a0"), Style(",", "\u202f"), Style(".", APOSTROPHE),
)  # fmt: skip


def _find_style(sample: pa.Table) -> Style:
    """The marks with which most columns are numbers, and the words that stand for missing values beside them."""
    votes, words = Counter[Style](), Counter[str]()
    for column in sample:
        values = _whole_column(column)
        if not pa.types.is_string(values.type) or not len(values):
            continue
        given = pc.value_counts(values.take(pa.array(np.unique(np.linspace(0, len(values) - 1, 20_000).astype(int)))))
        texts, counts = given.field("values"), given.field("counts").to_numpy()
        known = _missing_words(texts, counts)
        words.update(known)
        rest = texts.filter(pc.invert(pc.is_in(texts, pa.array(sorted(known), pa.string()))))
        if not len(rest) or not pc.any(pc.match_substring_regex(rest, GROUPED)).as_py():
            continue
        is_plain = _share(pc.match_substring_regex(rest, STYLES[0].number)) >= MOST
        if is_plain and _share(pc.match_substring_regex(rest, r"\.\d{3}$")) < 1 / 2:
            # Nothing but a point can stand before these decimals.
            votes.update(style for style in STYLES if style.decimal == ".")
            continue
        bare = pc.replace_substring_regex(rest, BESIDE_SIGN, r"\1")
        for style in STYLES:
            votes[style] += _share(pc.match_substring_regex(bare, style.number)) >= MOST
    best = max(STYLES, key=lambda style: (votes[style], -STYLES.index(style)))
    order = {word: place for place, word in enumerate((*MISSING_ANYWHERE, *MISSING_AMONG_NUMBERS))}
    return replace(best, missing=tuple(sorted(words, key=order.__getitem__)))


def _missing_words(texts: pa.Array, counts: np.ndarray[Any, Any]) -> set[str]:
    """The words among a column's values that say that there is none."""
    found = {word for word in texts.to_pylist() if word in MISSING_ANYWHERE}
    loose = {word for word in texts.to_pylist() if word in MISSING_AMONG_NUMBERS}
    if not loose:
        return found
    left = pc.invert(pc.is_in(texts, pa.array(sorted(found | loose))))
    others, weights = texts.filter(left), counts[np.asarray(left)]
    numeric = rf"^[+-]? ?({SIGNS})?[\d.,' ]*\d[\d.,' ]*$|{LIKE_A_DATE}"
    if not len(others) or np.average(pc.match_substring_regex(others, numeric).to_numpy(False), weights=weights) < MOST:
        return found
    return found | loose


@dataclass(frozen=True)
class _Form:
    """How a column's values are read: a kind, and for times in text the format, and another one as good."""

    kind: Kind
    time_format: str | None = None
    other_format: str | None = None
    is_date: bool = False
    has_sign: bool = False
    stored: bool = False


def _kind_of(column: pa.ChunkedArray, style: Style, name: str) -> _Form:
    values = _whole_column(column, style.missing)
    if pa.types.is_date(column.type):
        return _Form("time", is_date=True, stored=True)
    if pa.types.is_time(column.type):
        return _Form("clock", "%H:%M:%S", stored=True)
    if pa.types.is_integer(values.type):
        form = _digits_form(values.cast(pa.string()), name)
        return replace(form or _Form("integer"), stored=True)
    if pa.types.is_floating(values.type):
        return _Form("number", stored=True)
    if pa.types.is_boolean(values.type):
        return _Form("boolean", stored=True)
    if pa.types.is_timestamp(values.type):
        return _Form("time", stored=True)
    if not pa.types.is_string(values.type):
        return _Form("nested", stored=True)
    return _text_form(values, style, name) if len(values) else _Form("string")


def _text_form(values: pa.Array, style: Style, name: str) -> _Form:
    if _share(pc.match_substring_regex(values, DIGITS_ONLY)) >= MOST:
        if form := _digits_form(values, name):
            return form
        # Digits that begin with zero, or are more than an integer can hold, are a code and no count.
        coded = pc.any(pc.match_substring_regex(values, LEADING_ZERO)).as_py()
        return _Form("string" if coded or pc.max(pc.utf8_length(values)).as_py() > 18 else "integer")
    if _share(pc.match_substring_regex(values, style.number)) >= MOST:
        return _Form("number")
    bare = pc.replace_substring_regex(values, BESIDE_SIGN, r"\1")
    if _share(pc.match_substring_regex(bare, style.number)) >= MOST:
        return _Form("string", has_sign=True)
    if _share(pc.is_in(pc.utf8_lower(values), pa.array(["true", "false"]))) >= MOST:
        return _Form("boolean")
    if _share(pc.match_substring_regex(values, CLOCK)) >= MOST:
        return _Form("clock", _clock_format(values))
    words = set(name_words(name))
    if _share(pc.match_substring_regex(values, YEAR_AND_MONTH)) >= MOST:
        return _Form("time", "%Y-%m", is_date=True)
    if (says_time(words) or words & EXPIRY_WORDS) and _share(pc.match_substring_regex(values, MONTH_AND_YEAR)) >= MOST:
        mark = "-" if "-" in values[0].as_py() else "/"
        long = _share(pc.match_substring_regex(values, r"\d{4}$")) > 1 / 2
        return _Form("time", f"%m{mark}%{'Y' if long else 'y'}", is_date=True)
    if _share(pc.match_substring_regex(values, LIKE_A_DATE)) < 1 / 2:
        return _Form("string")
    return _time_form(values, 1 / 2 if says_time(words) else MOST)


def _digits_form(values: pa.Array, name: str) -> _Form | None:
    """Digits that are a date, or a time of day, where the column's name says so."""
    if not len(values) or not says_time(name_words(name)):
        return None
    length = pc.utf8_length(values)
    shortest, longest = pc.min(length).as_py(), pc.max(length).as_py()
    forms = [form for form in (DIGITS.get(longest),) if form and shortest == longest]
    forms += ["%d%m%Y", "%m%d%Y"] if shortest == longest == 8 else []
    for form in forms:
        if _share_of_times(values, form) >= MOST:
            return _Form("time", form, is_date="%H" not in form)
    for form, most in (("%H%M%S", 6), ("%H%M", 4)):
        if most - 2 < longest <= most and len(values.unique()) > FEW:
            padded = pc.utf8_lpad(values, most, "0")
            if _share(pc.match_substring_regex(padded, r"^([01]\d|2[0-3])([0-5]\d){1,2}$")) >= MOST:
                return _Form("clock", form)
    return None


def _clock_format(values: pa.Array) -> str:
    half = _share(pc.match_substring_regex(values, r"[AaPp][Mm]$")) >= 1 / 2
    seconds = _share(pc.match_substring_regex(values, r"^\d{1,2}:\d{2}:\d{2}")) >= 1 / 2
    fraction = _share(pc.match_substring_regex(values, r"\d\.\d")) >= 1 / 2
    end = (" %p" if " " in values[0].as_py() else "%p") if half else ""
    return f"%{'I' if half else 'H'}:%M{':%S' if seconds else ''}{'.%f' if fraction else ''}{end}"


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
    form = ranked[0]
    if form is None:
        is_date = _share(pc.match_substring_regex(values, r"^\d{4}-\d{2}-\d{2}$")) >= MOST
    else:
        is_date = "%H" not in form and "%I" not in form
    return _Form("time", form, ranked[1] if len(ranked) > 1 else None, is_date)


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

    def __init__(self, name: str, form: _Form, style: Style) -> None:
        self.name, self.form, self.style = name, form, style
        self.n = self.n_missing = self.n_counted = self.n_distinct = 0
        self.misfits: Counter[Kind] = Counter()
        self.values: Counter[str] | None = Counter()
        self.minimum, self.maximum, self.whole = np.inf, -np.inf, True
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.months: Counter[str] = Counter()
        self.n_offset = self.n_lost_digits = 0
        self.hashes: list[np.ndarray[Any, np.dtype[np.uint64]]] = []
        self.counts_distinct = form.kind != "nested"

    def add(self, values: pa.Array) -> None:
        """Counts a batch's values."""
        given = _given(values, self.style.missing)
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
            fits = pc.match_substring_regex(given, self.style.number)
            coded = pc.match_substring_regex(given, LEADING_ZERO)
            whole = pc.and_(pc.match_substring_regex(given, INTEGER), pc.invert(coded))
            self.misfits["integer"] += len(given) - pc.sum(whole).as_py()
            self.misfits["number"] += len(given) - pc.sum(fits).as_py()
            self.n_lost_digits += pc.sum(pc.match_substring_regex(given, SCIENTIFIC)).as_py()
            plainly = pc.or_(whole, pc.match_substring_regex(given, WHOLE_WITH_POINT))
            self.whole = self.whole and pc.sum(plainly).as_py() >= MOST * len(given)
            given = self.style.numbers(given.filter(fits))
        elif pa.types.is_floating(given.type):
            self.whole = self.whole and bool(pc.all(pc.equal(given, pc.floor(given))).as_py() in (True, None))
            finite = pc.is_finite(given)
            self.misfits["number"] += len(given) - pc.sum(finite).as_py()
            given = given.filter(finite)
            past = pc.and_(pc.greater_equal(pc.abs(given), 2.0**53), pc.less(pc.abs(given), 1e20))
            self.n_lost_digits += pc.sum(past).as_py() or 0
        if len(given):
            self.minimum = min(self.minimum, float(pc.min(given).as_py()))
            self.maximum = max(self.maximum, float(pc.max(given).as_py()))

    def _add_times(self, given: pa.Array) -> None:
        if pa.types.is_timestamp(given.type):
            self.n_offset += len(given) if given.type.tz else 0
            times = pd.Series(pd.to_datetime(given.to_pandas(), utc=True, errors="coerce"))
        else:
            given = given.cast(pa.string())
            times = _times(given, self.form.time_format)
            self.misfits["time"] += int(times.isna().sum())
            self.n_offset += pc.sum(pc.match_substring_regex(given, OFFSET)).as_py()
        times = times.dropna()
        if len(times):
            first, last = times.min().to_pydatetime(), times.max().to_pydatetime()
            self.first = min(self.first or first, first)
            self.last = max(self.last or last, last)
            months = times.dt.tz_localize(None).to_numpy().astype("datetime64[M]")
            found, counts = np.unique(months, return_counts=True)
            self.months.update(dict(zip(found.astype(str).tolist(), counts.tolist(), strict=True)))

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
            whole=numeric and (kind == "integer" or self.whole),
            time_format=self.form.time_format if kind in ("time", "clock") else None,
            first=self.first if times else None,
            last=self.last if times else None,
            months=dict(sorted(self.months.items())) if times else {},
            is_date=times and self.form.is_date,
            has_offset=times and self.n_offset == given > 0,
            other_format=self.form.other_format if times else None,
            n_lost_digits=self.n_lost_digits if numeric else 0,
            has_sign=self.form.has_sign,
            stored=self.form.stored,
        )


def texts(rows: pa.Table, name: str, missing: tuple[str, ...] = ()) -> pd.Series[Any]:
    """A column's values as text without the spaces around it; empty where there is none."""
    values = pa.chunked_array([plain(chunk) for chunk in rows[name].chunks] or [pa.array([], pa.string())])
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    text = pd.Series(pc.fill_null(values.cast(pa.string()), "").to_pylist(), dtype=object).str.strip()
    return text.mask(text.isin(missing), "") if missing else text
