"""Which column, or columns, of a file say when an event happened, and how they are read.

Of several times one is the event's; a date and a time of day are joined; numbers count from 1970 or from a start that
nobody names. What a column holds belongs to `profiling.py`, what else it may be to `roles.py`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.drafting.naming import (
    AFTER_WORDS,
    BIRTH_WORDS,
    CHANGE_WORDS,
    EXPIRY_WORDS,
    REPORT_WORDS,
    START_WORDS,
    TIME_WORDS,
    TRANSACTION_WORDS,
)
from fraud_assets.core.drafting.profiling import MOST, ColumnProfile, FileProfile, read_times, says_time, texts
from fraud_assets.core.units import SECONDS_PER_DAY

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "hours": 3600.0, "days": float(SECONDS_PER_DAY)}
YEAR_WORDS = {"year", "yr", "ano", "jahr", "annee", "anno", "jaar"}
MONTH_WORDS = {"month", "mes", "monat", "mois", "mese", "maand", "mth"}
DAY_WORDS = {"day", "dia", "tag", "jour", "giorno", "dag", "dayofmonth", "dom"}
HOUR_WORDS = {"hour", "hora", "stunde", "heure", "ora", "hr", "uur"}
MONTH_NAMES = {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
ELAPSED_WORDS = {
    "step", "steps", "timestep", "elapsed", "seconds", "secs", "sec", "hours", "days", "tick", "t", "offset",
    "transactiondt", "time", "dt", "timedelta", "hour", "day", "week",
}  # fmt: skip
FILLERS = {"of", "the", "from", "start", "in", "number", "nr", "accident", "event"}
# Sixty years of events are none; dates of birth are.
LONGEST_SPAN_YEARS = 40


@dataclass(frozen=True)
class EventTime:
    """When events happened.

    Attributes:
        columns: one, or several that are joined.
        format: as for strptime; None for ISO 8601, for a stored time, and for numbers.
        unit: what numbers count; None for text and stored times.
        origin: from when they count; None for 1970.
        first, last: the range, without times that are far from all others.
        first_month, last_month: the months of that range.
        reason: why it is this one.
        questions: what a person has to confirm.
    """

    columns: tuple[ColumnProfile, ...]
    format: str | None
    unit: str | None
    origin: str | None
    first: datetime
    last: datetime
    first_month: str
    last_month: str
    reason: str
    questions: tuple[str, ...] = field(default=())

    @property
    def has_offset(self) -> bool:
        """Whether the times need no time zone."""
        return self.unit in ("s", "ms", "us", "ns") or self.columns[0].has_offset

    def read(self, profile: FileProfile) -> pd.Series:
        """The times of `profile.spread`, in UTC; NaT where one cannot be read."""
        missing = profile.style.missing
        parts = [texts(profile.spread, column.name, missing) for column in self.columns]
        if self.unit is None:
            padded = [
                part.str.zfill(6 if "%S" in (column.time_format or "") else 4)
                if column.kind == "clock" and column.time_format in ("%H%M%S", "%H%M")
                else part
                for part, column in zip(parts, self.columns, strict=True)
            ]
            return read_times(pd.Series(pd.concat(padded, axis=1).agg(" ".join, axis=1)), self.format)
        numbers = pd.to_numeric(parts[0], errors="coerce")
        origin = pd.Timestamp(self.origin or "1970-01-01", tz="UTC")
        if self.unit == "excel":
            return pd.Timestamp("1899-12-30", tz="UTC") + pd.to_timedelta(numbers, unit="D")
        if self.unit == "months":
            months = origin.year * 12 + origin.month - 1 + numbers.fillna(0).astype(int)
            text = (months // 12).astype(str) + "-" + (months % 12 + 1).astype(str).str.zfill(2)
            return pd.to_datetime(text, format="%Y-%m", utc=True)
        return origin + pd.to_timedelta(numbers * SECONDS[self.unit], unit="s")


def find_event_time(profile: FileProfile, chosen: str | None = None) -> EventTime:
    """The event's time.

    Args:
        profile: of the file.
        chosen: the column that a person has named.

    Raises:
        ContractError: when no column can be one, without which there are no months.
    """
    usable = [column for column in profile.columns if column.share_missing <= 1 - MOST]
    times = [column for column in usable if column.kind == "time" and column.first is not None]
    if chosen is not None:
        usable = [column for column in profile.columns if column.name == chosen or column.kind == "clock"]
        times = [column for column in usable if column.kind == "time" and column.first is not None]
    ranked = sorted(times, key=lambda column: -_score(column, profile))
    if ranked and (chosen is not None or _score(ranked[0], profile) > -3):
        return _of_column(ranked[0], times, usable, profile)
    for find in (_from_parts, _from_numbers):
        if found := find(usable, profile):
            return found
    if ranked:
        return _of_column(ranked[0], times, usable, profile)
    listed = ", ".join(f"{column.name!r} ({column.kind})" for column in profile.columns[:40])
    listed += ", ..." if len(profile.columns) > 40 else ""
    raise ContractError(
        "no column can be read as the time of an event, and without it there are no months; deliver one as text such "
        "as 2024-01-31T12:00:00Z, as a Parquet timestamp, or as numbers in a column whose name says what they count "
        f"(seconds, hours, days). The columns are {listed}"
    )


def _score(column: ColumnProfile, profile: FileProfile) -> float:
    words = set(column.words)
    late = words & (REPORT_WORDS | AFTER_WORDS | CHANGE_WORDS)
    score = min(len(words & TIME_WORDS), 1) + 2 * bool(words & ({"event"} | TRANSACTION_WORDS))
    score -= 5 * bool(late | (words & BIRTH_WORDS)) + 4 * bool(words & EXPIRY_WORDS) + 2 * bool(words & START_WORDS)
    score += 1 if not column.is_date else 0
    score -= (
        2 if column.time_format in ("%Y-%m",) or ((column.time_format or "").startswith("%m") and column.is_date) else 0
    )
    if column.first == column.last and column.n > 1:
        score -= 6
    elif column.first and column.last and (column.last - column.first).days > LONGEST_SPAN_YEARS * 365:
        score -= 3
    return score + (1.5 if _is_ordered(column, profile) else 0)


def _is_ordered(column: ColumnProfile, profile: FileProfile) -> bool:
    """Whether the file is in the order of this time, or of its opposite."""
    values = texts(profile.sample.slice(0, 2000), column.name, profile.style.missing)
    steps = np.diff(read_times(values, column.time_format).dropna().astype("int64").to_numpy())
    moved = steps[steps != 0]
    return len(moved) > 0 and bool(max((moved > 0).mean(), (moved < 0).mean()) >= 0.95)


def _of_column(
    column: ColumnProfile, times: list[ColumnProfile], usable: list[ColumnProfile], profile: FileProfile
) -> EventTime:
    others = [other.name for other in times if other is not column]
    reasons = []
    if others:
        reasons = [f"of {len(others) + 1} times the one that every row has"]
        if set(column.words) & ({"event"} | TRANSACTION_WORDS):
            reasons.append("whose name is that of the event")
        if _is_ordered(column, profile):
            reasons.append("and in whose order the file is")
    questions = []
    if len(others) and _rival(column, times, profile):
        questions.append(f"{_rival(column, times, profile)!r} could be the time of the event as well")
    columns: tuple[ColumnProfile, ...] = (column,)
    form = column.time_format
    if column.is_date and (clock := _clock_of(column, usable, profile)):
        columns = (column, clock)
        written = form or "%Y-%m-%d"
        form = f"{written} {clock.time_format or '%H'}"
        reasons.append(f"{clock.name} is the time of day of {column.name}")
    elif column.other_format:
        questions.append(f"{column.other_format!r} reads every value as well")
    if column.n_misfits:
        questions.append(f"{column.n_misfits:,} values are no times in this format and will be quarantined")
    months, left_out = _believable(column.months)
    if left_out:
        questions.append(f"{left_out:,} rows are years away from all others and will be quarantined")
    first, last = column.first, column.last
    if len(columns) > 1:
        joined = EventTime(columns, form, None, None, _SOME, _SOME, "", "", "").read(profile).dropna()
        if len(joined):
            first, last = joined.min().to_pydatetime(), joined.max().to_pydatetime()
    assert first is not None and last is not None  # noqa: S101, PT018 - the caller chose by it
    return EventTime(
        columns, form, None, None, first, last, months[0], months[-1], ", ".join(reasons), tuple(questions)
    )


def _rival(column: ColumnProfile, times: list[ColumnProfile], profile: FileProfile) -> str | None:
    best = _score(column, profile)
    rivals = [other for other in times if other is not column and _score(other, profile) >= best - 0.5]
    return rivals[0].name if rivals else None


def _believable(months: dict[str, int]) -> tuple[list[str], int]:
    """The months, without a few rows that lie over a year away from all others; and how many rows those are."""
    names, left_out = sorted(months), 0
    allowed = 0.002 * sum(months.values())
    for end in (0, -1):
        while len(names) > 1:
            here, beside = names[end], names[1 if end == 0 else -2]
            if _distance(here, beside) <= 12 or left_out + months[here] > allowed:
                break
            left_out += months[here]
            names.pop(end)
    return names, left_out


def _distance(one: str, other: str) -> int:
    (year, month), (year_2, month_2) = (map(int, name.split("-")) for name in (one, other))
    return abs((year - year_2) * 12 + month - month_2)


def _clock_of(date: ColumnProfile, usable: list[ColumnProfile], profile: FileProfile) -> ColumnProfile | None:
    """The column with the time of day of a date; of several the one whose name is most like the date's."""
    clocks = [column for column in usable if column.kind == "clock"]
    clocks += [column for column in usable if set(column.words) <= HOUR_WORDS and _within(column, 0, 23, profile)]
    if not clocks:
        return None

    def likeness(column: ColumnProfile) -> tuple[int, int]:
        shared = set(column.words) & set(date.words)
        return len(shared) - 3 * len(set(column.words) & (REPORT_WORDS | CHANGE_WORDS)), column.kind == "clock"

    return max(clocks, key=likeness)


def _within(column: ColumnProfile, least: int, most: int, profile: FileProfile) -> bool:
    if column.kind == "string" and 1 < column.n_distinct <= min(most, 200):
        # With leading zeros, as in 01.
        numbers = pd.to_numeric(texts(profile.spread, column.name, profile.style.missing), errors="coerce")
        return bool(numbers.between(least, most).mean() >= MOST)
    numeric = column.kind in ("integer", "number") and column.whole
    return numeric and column.minimum is not None and least <= column.minimum and (column.maximum or 0) <= most


# Parts: a year, a month, a day


def _from_parts(usable: list[ColumnProfile], profile: FileProfile) -> EventTime | None:
    year = _part(usable, YEAR_WORDS, 1900, 2100, profile)
    if year is None:
        return None
    month, form = _part(usable, MONTH_WORDS, 1, 12, profile), "%Y %m"
    if month is None:
        named = [
            column
            for column in usable
            if column.values and {value.lower()[:3] for value in column.values} <= MONTH_NAMES | {"0"}
            and len(column.values) > 1
        ]  # fmt: skip
        month = min(named, key=lambda column: (len(column.words), profile.columns.index(column)), default=None)
        if month is None or month.values is None:
            return None
        form = "%Y %b" if max(map(len, month.values)) <= 3 else "%Y %B"
    columns, questions = [year, month], []
    if day := _part(usable, DAY_WORDS, 1, 31, profile):
        columns.append(day)
        form += " %d"
        if clock := _clock_of(day, usable, profile):
            columns.append(clock)
            form += f" {clock.time_format or '%H'}"
        reason = "the parts of a time are in columns of their own"
    else:
        reason = "a year and a month are all that is said of the time"
        questions.append("the day is in no column, so every event lies at the beginning of its month")
    return _numbered(tuple(columns), form, None, None, reason, tuple(questions), profile)


def _part(
    usable: list[ColumnProfile], words: set[str], least: int, most: int, profile: FileProfile
) -> ColumnProfile | None:
    def fits(column: ColumnProfile) -> bool:
        said = set(column.words)
        if said == {"day", "of", "month"}:
            return words is DAY_WORDS
        return bool(said & words) and said <= words | FILLERS | TRANSACTION_WORDS

    fitting = [column for column in usable if fits(column) and _within(column, least, most, profile)]
    return min(fitting, key=lambda column: len(column.words), default=None)


# Numbers


def _from_numbers(usable: list[ColumnProfile], profile: FileProfile) -> EventTime | None:
    numeric = [column for column in usable if column.kind in ("integer", "number") and column.minimum is not None]
    for column in sorted(numeric, key=lambda column: -len(set(column.words) & (TIME_WORDS | TRANSACTION_WORDS))):
        if unit := epoch_unit(column):
            return _numbered((column,), None, unit, None, "it counts from 1970", (), profile)
    for column in numeric:
        if _is_elapsed(column):
            unit = _elapsed_unit(column)
            question = (
                f"it counts from a start that the file does not name, taken for {unit}; any date will do as the "
                "origin, if the months so lie in the past"
            )
            return _numbered(
                (column,), None, unit, _origin(column, unit), "it grows from a start", (question,), profile
            )
    months = [column for column in numeric if set(column.words) <= MONTH_WORDS | {"of", "the"} and column.whole]
    if months:
        question = (
            "only the number of a month is given, so every event lies at the beginning of its month; the origin is the "
            "month of number 0, and any date in the past will do"
        )
        return _numbered((months[0],), None, "months", _origin(months[0], "months"), "", (question,), profile)
    return None


def epoch_unit(column: ColumnProfile) -> str | None:
    """The unit of numbers that count from 1970 and lie between 1998 and 2039; days of workbooks are `excel`."""
    if column.kind not in ("integer", "number") or column.minimum is None or column.maximum is None:
        return None
    if not says_time(column.words):
        return None
    for unit, ones in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if 0.9e9 * ones <= column.minimum and column.maximum <= 2.2e9 * ones:
            return unit
    return "excel" if column.minimum >= 32_874 and column.maximum <= 54_787 and "date" in column.words else None


def _is_elapsed(column: ColumnProfile) -> bool:
    words = set(column.words)
    named = words & ELAPSED_WORDS and words <= ELAPSED_WORDS | TIME_WORDS | TRANSACTION_WORDS | FILLERS
    if not (named or "".join(column.words) == "transactiondt") or column.minimum is None or column.maximum is None:
        return False
    # The hours of a day do not say on which day.
    of_a_day = words & HOUR_WORDS and column.maximum <= 24
    return column.minimum >= 0 and column.n_distinct > 2 and not of_a_day


def _elapsed_unit(column: ColumnProfile) -> str:
    words, most = set(column.words), column.maximum or 0.0
    if words & {"day", "days", "week"}:
        return "days"
    if words & {"hour", "hours"}:
        return "hours"
    if words & {"step", "steps", "timestep", "tick", "t"}:
        return "days" if most <= 400 else "hours" if most <= 100_000 else "s"
    return "days" if most <= 400 else "s"


def _origin(column: ColumnProfile, unit: str) -> str:
    days = (column.maximum or 0.0) * (30.5 if unit == "months" else SECONDS[unit] / SECONDS_PER_DAY)
    year = next((year for year, most in ((2024, 700), (2020, 2000), (2010, 5500)) if days <= most), 1970)
    return f"{year}-01-01"


def _numbered(
    columns: tuple[ColumnProfile, ...],
    form: str | None,
    unit: str | None,
    origin: str | None,
    reason: str,
    questions: tuple[str, ...],
    profile: FileProfile,
) -> EventTime:
    """An event time whose range has to be read from the rows."""
    unread = EventTime(columns, form, unit, origin, _SOME, _SOME, "", "", reason, questions)
    times = unread.read(profile).dropna()
    if times.empty:
        raise ContractError(
            f"{[column.name for column in columns]} look like the time of the event, and no row of them can be read"
        )
    months, _ = _believable(dict(Counter(times.dt.strftime("%Y-%m"))))
    first, last = times.min().to_pydatetime(), times.max().to_pydatetime()
    if unit is not None and columns[0].minimum is not None and columns[0].maximum is not None:
        # All rows, not those that were drawn.
        first, last = (_moment(number, unit, origin) for number in (columns[0].minimum, columns[0].maximum))
        months = [f"{first:%Y-%m}", f"{last:%Y-%m}"]
    return EventTime(columns, form, unit, origin, first, last, months[0], months[-1], reason, questions)


_SOME = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(number: float, unit: str, origin: str | None) -> datetime:
    start = datetime.fromisoformat(origin).replace(tzinfo=UTC) if origin else _SOME
    if unit == "excel":
        return datetime(1899, 12, 30, tzinfo=UTC) + timedelta(days=number)
    if unit == "months":
        months = start.year * 12 + start.month - 1 + int(number)
        return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
    return start + timedelta(seconds=number * SECONDS[unit])
