"""From the values of a file to moments in UTC and to days, as a contract's `TimeColumn` or a column of type date says.

One column or several, text in a format, numbers of a unit, or types that are times themselves. A value that cannot be
read becomes null and is noted with the reason; where a time is ambiguous, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Column, Contract, ContractError, TimeColumn
from fraud_assets.core.intake.unreadable import Unreadable, missing_in
from fraud_assets.core.reasons import Rule
from fraud_assets.core.units import MICROSECONDS_PER_DAY

NAIVE = pa.timestamp("us")
OFFSET = r"[Tt ]\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
ISO_DAY = r"^\d{4}-?\d\d-?\d\d$"
# Directives that are digits of a fixed number; glued together they need their leading zeros.
WIDTHS = {"Y": 4, "m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "y": 2, "j": 3}
GLUED = re.compile(rf"(?:%[{''.join(WIDTHS)}])+")
CLOCK = re.compile(r"%[-#]?[HIMScXTfpRrs]")
DAY_OF_MONTH = re.compile(r"%[-#]?[djcxDFaAuwUWV]")
PER_SECOND = {"s": 1_000_000, "ms": 1_000}
FIRST, LAST = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for year in (1, 9999))
EXCEL_START = datetime(1899, 12, 30)
# Before this day the serial numbers of Excel count a 29 February 1900.
EXCEL_FIRST = 61


def read_times(
    parts: Sequence[pa.Array],
    when: TimeColumn,
    name: str,
    contract: Contract,
    unreadable: Unreadable,
    *,
    by_end_of_day: bool = False,
    or_formats: Sequence[str | None] = (),
) -> pa.Array:
    """Times in UTC, to the microsecond.

    Args:
        parts: the columns of `when`, as `conversions.given_values` gives them.
        when: how they are read.
        name: the platform's name of the time.
        contract: says the time zone of times without an offset.
        unreadable: takes what cannot be read.
        by_end_of_day: whether a day without a time of day means its end, as for labels, and not its start.
        or_formats: formats (None: ISO 8601) that are tried on text which is not of the first.

    Raises:
        ContractError: when the values are of a type that is no time, and no format or unit says how to read them.
    """
    values = _joined(parts, when, name, unreadable)
    reading = _Reading(when, name, contract, unreadable, by_end_of_day)
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(TIMESTAMP)
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            return values.cast(TIMESTAMP, safe=False)
        return reading.in_zone(values.cast(NAIVE, safe=False))
    if pa.types.is_date(kind):
        return reading.days(values.cast(NAIVE))
    if when.unit is not None:
        return reading.numbers(values)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if when.format is None:
            raise ContractError(
                f"{name} is of type {kind}, and a number is a time only where the contract says of which unit it is "
                '(unit: s, ms, us, ns, hours, days or excel) or in which format (format: "%Y%m%d")'
            )
        values = _digits(values)
    elif not pa.types.is_string(kind):
        raise ContractError(f"{name} is of type {kind}; a time must be a timestamp, a date, text or a number")
    return reading.texts(values, [when.format, *or_formats])


def to_dates(values: pa.Array, column: Column, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    """Days: of a date, of a time in the contract's zone, or of text as ISO 8601 or in the column's format.

    A format without a day, such as `%m/%y`, means the last day of its month.
    """
    kind, day = values.type, pa.date32()
    if pa.types.is_null(kind) or pa.types.is_date(kind):
        return values.cast(day)
    if pa.types.is_timestamp(kind):
        if kind.tz is not None:
            values = pc.local_timestamp(values.cast(pa.timestamp("us", contract.timezone), safe=False))
        return values.cast(NAIVE, safe=False).cast(day, safe=False)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if column.format is None:
            raise pa.ArrowInvalid('a number is a date only in a format, such as format: "%Y%m%d"')
        values = _digits(values)
    if not pa.types.is_string(values.type):
        raise pa.ArrowInvalid("a date must be a date, a time or text")
    form = column.format
    aware, naive = parsed(_prepared(values, form, 1), form)
    local = pc.local_timestamp(aware.cast(pa.timestamp("us", contract.timezone)))
    found = pc.coalesce(naive, local, _far(values, form or "%Y-%m-%d"))
    unreadable.note(
        name,
        f"is no date in the format {form!r}" if form else "is no ISO 8601 date (format reads others)",
        pc.and_(pc.invert(missing_in(values)), pc.is_null(found)),
    )
    if form is not None and not DAY_OF_MONTH.search(form):
        unit = "month" if re.search(r"%[-#]?[mbBh]", form) else "year"
        found = pc.subtract(pc.ceil_temporal(found, unit=unit, ceil_is_strictly_greater=True), timedelta(days=1))
    return found.cast(day, safe=False)


class _Reading:
    """One time of a contract, its zone, and where to note what cannot be read."""

    def __init__(
        self, when: TimeColumn, name: str, contract: Contract, unreadable: Unreadable, by_end_of_day: bool
    ) -> None:
        self.when, self.name, self.contract, self.unreadable = when, name, contract, unreadable
        self.by_end_of_day = by_end_of_day

    def days(self, naive: pa.Array) -> pa.Array:
        """Days without a time of day, given as their midnights."""
        if not self.by_end_of_day:
            return self.in_zone(naive)
        return pc.subtract(self.in_zone(pc.add(naive, timedelta(days=1))), timedelta(microseconds=1))

    def _chosen(self, is_day: pa.Array, naive: pa.Array) -> pa.Array:
        if not self.by_end_of_day or not pc.any(is_day).as_py():
            return self.in_zone(naive)
        nothing = pa.scalar(None, NAIVE)
        exact = self.in_zone(pc.if_else(is_day, nothing, naive))
        return pc.coalesce(exact, self.days(pc.if_else(is_day, naive, nothing)))

    def texts(self, values: pa.Array, forms: Sequence[str | None]) -> pa.Array:
        """Text in the first of some formats that reads it."""
        result, rest, nothing = None, values, pa.scalar(None, pa.string())
        for form in forms:
            moments, elsewhere = self._of_form(rest, form)
            result = moments if result is None else pc.coalesce(result, moments)
            rest = pc.if_else(pc.or_(pc.is_valid(moments), elsewhere), nothing, rest)
            if rest.null_count == len(rest):
                break
        form = forms[0]
        which = "event_timestamp.format" if self.name == "event_timestamp" else "its format"
        self.unreadable.note(
            self.name,
            f"is no time in the format {form!r}" if form else f"is no ISO 8601 time ({which} reads others)",
            pc.invert(missing_in(rest)),
        )
        return result

    def _of_form(self, values: pa.Array, form: str | None) -> tuple[pa.Array, pa.Array]:
        """Times, and where text was one that is on no clock, or on two, which has a reason of its own."""
        if form is None:
            for kind in (NAIVE, TIMESTAMP):
                try:
                    times = values.cast(kind)
                except pa.ArrowInvalid:
                    continue
                if kind.tz is not None:
                    return times, pa.array(np.zeros(len(times), bool))
                is_day = pc.fill_null(pc.less_equal(pc.utf8_length(values), len("2024-01-31")), False)
                local = self._chosen(is_day, times)
                return local, pc.and_(pc.is_valid(times), pc.is_null(local))
        text = _prepared(values, form, len(self.when.columns))
        aware, naive = parsed(text, form)
        if form is None:
            is_day = pc.fill_null(pc.match_substring_regex(text, ISO_DAY), False)
            if self.by_end_of_day:
                # A month or a year would be known before it was over.
                naive = pc.if_else(pc.less(pc.utf8_length(text), 8), pa.scalar(None, NAIVE), naive)
        else:
            is_day = pa.array(np.full(len(text), CLOCK.search(form) is None))
        local = self._chosen(is_day, naive)
        return pc.coalesce(aware, local), pc.and_(pc.is_valid(naive), pc.is_null(local))

    def numbers(self, values: pa.Array) -> pa.Array:
        """Numbers of the unit."""
        unit = self.when.unit
        given = self._as_numbers(values)
        origin = self.when.origin or datetime(1970, 1, 1)
        if not isinstance(origin, datetime):
            origin = datetime.combine(origin, time())
        is_clock = unit in PER_SECOND or unit in ("us", "ns")
        if is_clock or unit == "hours":
            start = origin if origin.tzinfo is not None else origin.replace(tzinfo=self.contract.zone)
            if is_clock and self.when.origin is None:
                start = datetime(1970, 1, 1, tzinfo=UTC)
            sizes = {"us": 1.0, "ns": 1e-3, "hours": 3_600_000_000.0}
            moments = _scaled(given, sizes.get(unit or "", PER_SECOND.get(unit or "", 1)))
            return self._within(pc.add(moments, int(start.timestamp() * 1_000_000))).cast(TIMESTAMP)
        if unit == "months":
            return self._months(given, origin)
        if unit == "excel":
            origin = EXCEL_START
            early = pc.fill_null(pc.less(given, EXCEL_FIRST), False)
            self.unreadable.note(
                self.name, "is no day of Excel's, which count from 1900-03-01 on as 61", early, Rule.NO_SUCH_TIME
            )
            given = pc.if_else(early, pa.scalar(None, given.type), given)
        if origin.tzinfo is not None:
            origin = origin.astimezone(self.contract.zone).replace(tzinfo=None)
        whole = pc.fill_null(pc.equal(given.cast(pa.float64(), safe=False), pc.floor(given.cast(pa.float64()))), False)
        micro = _scaled(given, float(MICROSECONDS_PER_DAY))
        if unit == "excel":
            # Its days are floating-point numbers, good for the millisecond.
            micro = pc.multiply(pc.round(pc.divide(micro.cast(pa.float64(), safe=False), 1000.0)), 1000.0).cast(
                pa.int64()
            )
        begins = int(origin.replace(tzinfo=UTC).timestamp() * 1_000_000)
        naive = self._within(pc.add(micro, begins)).cast(NAIVE)
        return self._chosen(whole, naive)

    def _months(self, given: pa.Array, origin: datetime) -> pa.Array:
        """The beginnings of months; the one of the origin is number 0."""
        numbers = given.cast(pa.float64(), safe=False)
        fits = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), 12_000.0))
        self.unreadable.note(self.name, "is no number of a month", pc.invert(fits))
        first = (origin.year - 1970) * 12 + origin.month - 1
        counted = np.asarray(pc.fill_null(pc.if_else(fits, numbers, 0.0), 0.0)).astype(np.int64) + first
        naive = pa.array(counted.astype("datetime64[M]").astype("datetime64[us]"), NAIVE)
        naive = pc.if_else(pc.fill_null(fits, False), naive, pa.scalar(None, NAIVE))
        return self._chosen(pa.array(np.full(len(given), True)), naive)

    def _as_numbers(self, values: pa.Array) -> pa.Array:
        kind = values.type
        if pa.types.is_string(kind):
            try:
                return values.cast(pa.int64())
            except pa.ArrowInvalid:
                pass  # fractions, or text that is none
            text = values
            if self.contract.csv.decimal == ",":
                text = pc.replace_substring(text, ",", ".")
            fits = pc.fill_null(pc.match_substring_regex(text, NUMBER), False)
            self.unreadable.note(
                self.name,
                f"is not a number (unit: {self.when.unit})",
                pc.and_not(pc.invert(missing_in(values)), fits),
            )
            return pc.if_else(fits, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string())).cast(pa.float64())
        if pa.types.is_uint64(kind):
            return values.cast(pa.float64(), safe=False)
        if pa.types.is_integer(kind):
            return values.cast(pa.int64())
        if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            floats = values.cast(pa.float64(), safe=False)
            return pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64()))
        raise ContractError(f"{self.name} is of type {kind}, which is no number (unit: {self.when.unit})")

    def _within(self, micro: pa.Array) -> pa.Array:
        outside = pc.or_(pc.less(micro, FIRST), pc.greater(micro, LAST))
        words = f"lies outside the years 1 to 9998 (is unit: {self.when.unit} right?)"
        self.unreadable.note(self.name, words, outside, Rule.NO_SUCH_TIME)
        return pc.if_else(outside, pa.scalar(None, pa.int64()), micro)

    def in_zone(self, naive: pa.Array) -> pa.Array:
        """Times on the clocks of the contract's zone; where a clock shows one twice or never, as the contract says."""
        contract, name = self.contract, self.name
        if contract.timezone == "UTC":
            return naive.cast(TIMESTAMP)
        earliest, latest = (
            pc.assume_timezone(naive, contract.timezone, ambiguous=choice, nonexistent=choice)
            for choice in ("earliest", "latest")
        )
        if earliest.equals(latest):
            return earliest.cast(TIMESTAMP)
        differ = pc.not_equal(earliest, latest)
        # What no clock shows comes back as another time.
        skipped = pc.and_(differ, pc.not_equal(pc.local_timestamp(earliest), naive))
        words = f"lies in an hour that the clocks of {contract.timezone} skip"
        self.unreadable.note(name, words, skipped, Rule.NO_SUCH_TIME)
        ambiguous = self.when.ambiguous
        if ambiguous == "quarantine":
            # Until it says otherwise, a label's clock is the transactions'.
            ambiguous = contract.event_timestamp.ambiguous
        chosen = latest if ambiguous == "latest" else earliest
        unsure = skipped
        if ambiguous == "quarantine":
            unsure = differ
            self.unreadable.note(
                name,
                f"lies in an hour that the clocks of {contract.timezone} have twice (event_timestamp.ambiguous says "
                "which is meant)",
                pc.and_not(differ, skipped),
                Rule.AMBIGUOUS_TIME,
            )
        return pc.if_else(unsure, pa.scalar(None, chosen.type), chosen).cast(TIMESTAMP)


def _scaled(numbers: pa.Array, factor: float) -> pa.Array:
    """Numbers times a factor, as whole microseconds; what is beyond them as the largest."""
    if pa.types.is_integer(numbers.type):
        if factor < 1:
            return pc.divide(numbers, round(1 / factor))
        bound = (2**62) // int(factor)
        clipped = pc.max_element_wise(pc.min_element_wise(numbers, bound, skip_nulls=False), -bound, skip_nulls=False)
        return pc.multiply(clipped, int(factor))
    scaled = pc.round(pc.multiply(numbers, factor))
    clipped = pc.max_element_wise(pc.min_element_wise(scaled, 2.0**62, skip_nulls=False), -(2.0**62), skip_nulls=False)
    return clipped.cast(pa.int64())


# Text


def parsed(text: pa.Array, form: str | None) -> tuple[pa.Array, pa.Array]:
    """Times with an offset of their own, and those without; null where the text is the other, or neither."""
    series = pd.Series(text.to_pandas(), dtype=object)
    # pandas would ask the clock.
    series = series.mask(series.str.lower().isin(["now", "today"]))
    if form is None:
        has_offset = series.str.contains(OFFSET, regex=True, na=False)
    else:
        has_offset = pd.Series("%z" in form, index=series.index)
    # Each by itself: pandas gives a time without an offset that of the time before it.
    aware, naive = (
        pa.Array.from_pandas(
            pd.to_datetime(series.where(these), format=form or "ISO8601", utc=True, errors="coerce")
        ).cast(TIMESTAMP, safe=False)
        for these in (has_offset, ~has_offset)
    )
    return aware, naive.cast(NAIVE)


def _far(text: pa.Array, form: str) -> pa.Array:
    """Days that pandas does not reach, such as the 9999-12-31 of what is valid for ever."""
    if "%Y" not in form:
        return pa.nulls(len(text), NAIVE)
    found = pc.strptime(text, format=form, unit="us", error_is_null=True)
    same = pc.fill_null(pc.equal(pc.strftime(found.cast(pa.timestamp("s"), safe=False), format=form), text), False)
    return pc.if_else(same, found, pa.scalar(None, NAIVE))


def _prepared(text: pa.Array, form: str | None, n_parts: int) -> pa.Array:
    """Text as strptime wants it: leading zeros that were lost, and .0 of numbers that were floats."""
    if form is None:
        return text
    if re.search(r"%[bB]", form):
        text = pc.replace_substring_regex(text, r"(?i)\bsept\b", "Sep")
    if "." not in form:
        text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    tokens = form.split(" ")
    if not any(map(GLUED.fullmatch, tokens)) or len(tokens) != max(n_parts, 1):
        return text
    pieces = pc.split_pattern(text, " ")
    fits = pc.fill_null(pc.equal(pc.list_value_length(pieces), len(tokens)), False)
    whole = pc.if_else(fits, text, pa.scalar(None, pa.string()))
    pieces = pc.split_pattern(pc.fill_null(whole, " " * (len(tokens) - 1)), " ")
    columns = [
        _zeros(pc.list_element(pieces, position), token)
        if GLUED.fullmatch(token)
        else pc.list_element(pieces, position)
        for position, token in enumerate(tokens)
    ]
    padded = pc.binary_join_element_wise(*columns, " ") if len(columns) > 1 else columns[0]
    return pc.if_else(fits, padded, text)


def _zeros(text: pa.Array, token: str) -> pa.Array:
    """Digits of a glued format with the leading zeros that a number lost; of another length they are unreadable."""
    width = sum(WIDTHS[letter] for letter in token[1::2])
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    digits = pc.match_substring_regex(text, r"^\d+$")
    # No year of ours begins with a zero.
    padded = text if token.startswith("%Y") else pc.utf8_lpad(text, width, "0")
    padded = pc.if_else(pc.equal(pc.utf8_length(padded), width), padded, "?")
    return pc.if_else(digits, padded, text)


def _digits(values: pa.Array) -> pa.Array:
    """Numbers as the digits that a format reads."""
    if pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        floats = values.cast(pa.float64(), safe=False)
        whole = pc.and_(pc.equal(floats, pc.floor(floats)), pc.less(pc.abs(floats), 2.0**53))
        integers = pc.if_else(whole, floats, pa.scalar(None, pa.float64())).cast(pa.int64())
        given = pc.invert(pc.is_null(floats, nan_is_null=True))
        return pc.coalesce(integers.cast(pa.string()), pc.if_else(given, floats, None).cast(pa.string()))
    return values.cast(pa.string())


# Several columns


def _joined(parts: Sequence[pa.Array], when: TimeColumn, name: str, unreadable: Unreadable) -> pa.Array:
    """The one column, or several joined with blanks; null where all are, and unreadable where only some are."""
    if len(parts) == 1:
        return parts[0]
    if when.unit is not None:
        raise ContractError(f"{name} has several columns and a unit; a unit is for one column of numbers")
    absent = [missing_in(part) for part in parts]
    every, some = absent[0], absent[0]
    for one in absent[1:]:
        every, some = pc.and_(every, one), pc.or_(some, one)
    unreadable.note(name, f"lacks a part ({', '.join(when.columns)})", pc.and_not(some, every))
    tokens: list[str | None] = [None] * len(parts)
    if when.format is not None and len(when.format.split(" ")) == len(parts):
        tokens = list(when.format.split(" "))
    texts = [_as_text(part, token) for part, token in zip(parts, tokens, strict=True)]
    if when.format is None:
        texts = _iso_parts(texts)
    joined = pc.binary_join_element_wise(*texts, " ")
    return pc.if_else(some, pa.scalar(None, pa.string()), joined)


def _as_text(part: pa.Array, token: str | None) -> pa.Array:
    kind = part.type
    if pa.types.is_string(kind):
        return part
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        days = part.cast(pa.date32(), safe=False) if pa.types.is_date(kind) else part.cast(NAIVE, safe=False)
        if pa.types.is_timestamp(kind) and token is not None and CLOCK.search(token) and not DAY_OF_MONTH.search(token):
            return _formatted(days.to_pylist(), token)
        return _formatted(days.to_pylist(), token or "%Y-%m-%d")
    if pa.types.is_time(kind):
        return _formatted(part.to_pylist(), token or "%H:%M:%S.%f")
    if pa.types.is_duration(kind):
        start = datetime(1970, 1, 1)
        found = [None if value is None else (start + value).time() for value in part.to_pylist()]
        return _formatted(found, token or "%H:%M:%S.%f")
    return _digits(part)


def _formatted(values: Sequence[date | time | None], form: str) -> pa.Array:
    if "%f" not in form and "%S" in form and any(getattr(value, "microsecond", 0) for value in values if value):
        form = form.replace("%S", "%S.%f")
    return pa.array([None if value is None else value.strftime(form) for value in values], pa.string())


def _iso_parts(texts: list[pa.Array]) -> list[pa.Array]:
    """Parts without a format: year, month and day in three columns, and a time of day in one or three more."""
    if len(texts) < 3:
        return texts
    if not pc.all(pc.match_substring_regex(texts[0], r"^(\d{4}(\.0+)?)?$"), min_count=0).as_py():
        return texts
    day = pc.binary_join_element_wise(
        *(_zeros(text, f"%{key}") for text, key in zip(texts[:3], "Ymd", strict=True)), "-"
    )
    rest = texts[3:]
    if len(rest) > 1:
        rest = [pc.binary_join_element_wise(*(_zeros(text, "%H") for text in rest), ":")]
    return [day, *rest]
