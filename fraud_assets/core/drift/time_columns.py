"""Columns that follow time: the name of the month, a running number, the day on which a file was made.

Their values move in every month because the calendar does, and no change of the world is in them, so months cannot be
compared by them. How other columns are compared belongs to `columns.py`.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import chi2, chi2_contingency

from fraud_assets.core.drift.cells import Floats, column_type, floats
from fraud_assets.core.statistics.clusters import one_in, row_days

# The part of the rows that must do so: a claim is made some days after what it is about, in the next month for a few.
LEAST_SHARE = 2 / 3
# A rank correlation with time from which a number only grows with it.
LEAST_RANK = 0.95
# Months that share less than half of their values, each with the next, differ by what they are and not by chance.
LEAST_APART = 0.5
# A move of a date's distance that chance brings so often is none.
BY_CHANCE = 0.05
ROWS = 20_000  # that are looked at of each window, evenly
LEAST_ROWS = 20
BINS = 10
CATEGORIES = 500
MONTH_NAMES = {
    name.casefold(): month
    for month in range(1, 13)
    for name in (calendar.month_name[month], calendar.month_abbr[month])
}
DAY_NAMES = {
    name.casefold(): day + 1
    for day in range(7)
    for name in (calendar.day_name[day], calendar.day_abbr[day])
}  # fmt: skip

Dates = npt.NDArray[np.datetime64]


def time_columns(
    reference: pa.Table,
    current: pa.Table,
    past: Sequence[pa.Table],
    features: Sequence[str],
    ages: Collection[str] = (),
) -> dict[str, str]:
    """The columns that follow time, each with how, as the end of a sentence.

    A column does if in two rows of three it is the year, quarter, month, week, day of the month or weekday of its
    transaction; if it is a number that grows or falls with time within the reference; if it is a date and the dates
    are those of the reference, which only lie further back; or if the earlier months, each beside the next, have as
    good as other values, which then tell nothing when this month has others again.

    Args:
        reference: with `event_timestamp` and the columns.
        current: likewise.
        past: whole earlier months, oldest first.
        features: the columns to look at.
        ages: those of them that hold not a date but the days from it to the transaction.
    """
    thinned = [_thinned(table) for table in (reference, current, *past)]
    if any(table.num_rows < LEAST_ROWS for table in thinned[:2]):
        return {}
    months = [table for table in thinned[2:] if table.num_rows >= LEAST_ROWS]
    found = {}
    for name in dict.fromkeys(features):
        if how := _how(name, thinned[0], thinned[1], months, is_date=name in ages):
            found[name] = how
    return found


def _thinned(table: pa.Table) -> pa.Table:
    each = one_in(table.num_rows, ROWS)
    return table if each == 1 else table.take(pa.array(np.arange(0, table.num_rows, each)))


def _how(name: str, reference: pa.Table, current: pa.Table, months: Sequence[pa.Table], *, is_date: bool) -> str | None:
    if any(name not in table.column_names for table in (reference, current)):
        return None
    kind = column_type(reference, name)
    if kind not in ("numbers", "texts", "dates") or column_type(current, name) != kind:
        return None
    if is_date or kind == "dates":
        still = _gets_older(reference, current, name)
        return "its dates are still those of the reference, while time went on" if still else None
    if unit := _unit_of_calendar(name, reference, current, kind):
        return f"it is the {unit} of the transaction"
    if kind == "numbers" and all(_grows(table, name) for table in (reference, current)):
        return "it only grows or falls with time"
    months = [table for table in months if name in table.column_names and column_type(table, name) == kind]
    if len(months) < 2:
        return None
    apart = [_apart(*pair, name, kind) for pair in pairwise(months)]
    if len(apart) >= 2 and min(apart) >= LEAST_APART:
        return "each of the earlier months has other values of it than the one before"
    return None


def _unit_of_calendar(name: str, reference: pa.Table, current: pa.Table, kind: str) -> str | None:
    """Which part of the calendar a column gives; one that is the same in all rows must have moved to be one."""
    values = [_as_numbers(table, name, kind) for table in (reference, current)]
    every = np.concatenate(values)
    if len(every) == 0 or np.isnan(every).all() or np.nanmin(every) == np.nanmax(every):
        return None
    dates = [row_days(table, "compared").astype("datetime64[D]") for table in (reference, current)]
    for unit, of_calendar in UNITS.items():
        if _follows(values, [of_calendar(date) for date in dates]):
            return unit
    return None


def _follows(values: Sequence[Floats], expected: Sequence[Floats]) -> bool:
    """Whether values are those expected in both windows, and in each part of the calendar that has enough rows.

    A count that is mostly 1 is not the quarter, though it is the same in January.
    """
    known = [~np.isnan(value) for value in values]
    if min(int(which.sum()) for which in known) < LEAST_ROWS:
        return False
    hits = [value[which] == one[which] for value, one, which in zip(values, expected, known, strict=True)]
    if min(float(hit.mean()) for hit in hits) < LEAST_SHARE:
        return False
    parts, where, rows = np.unique(
        np.concatenate([one[which] for one, which in zip(expected, known, strict=True)]),
        return_inverse=True,
        return_counts=True,
    )
    shares = np.bincount(where, np.concatenate(hits), minlength=len(parts)) / rows
    return len(parts) > 1 and bool((shares[rows >= LEAST_ROWS] >= LEAST_SHARE).all())


def _month_of(date: Dates) -> Floats:
    return cast(Floats, (date.astype("datetime64[M]").astype(np.int64) % 12 + 1).astype(np.float64))


def _year_of(date: Dates) -> Floats:
    return cast(Floats, (date.astype("datetime64[Y]").astype(np.int64) + 1970).astype(np.float64))


def _day_of(date: Dates) -> Floats:
    return cast(Floats, ((date - date.astype("datetime64[M]")).astype(np.int64) + 1).astype(np.float64))


def _week_of(date: Dates) -> Floats:
    return cast(Floats, pc.iso_week(pa.array(date)).to_numpy().astype(np.float64))


UNITS: dict[str, Callable[[Dates], Floats]] = {
    "month": _month_of,
    "year": _year_of,
    "year and month": lambda date: _year_of(date) * 100 + _month_of(date),
    "date": lambda date: (_year_of(date) * 100 + _month_of(date)) * 100 + _day_of(date),
    "quarter": lambda date: np.ceil(_month_of(date) / 3),
    "year and quarter": lambda date: _year_of(date) * 10 + np.ceil(_month_of(date) / 3),
    "week": _week_of,
    "week of the month": lambda date: np.ceil(_day_of(date) / 7),
    "day of the month": _day_of,
    "weekday": lambda date: (date.astype(np.int64) + 3) % 7 + 1.0,
    "weekday, from 0": lambda date: (date.astype(np.int64) + 3) % 7 + 0.0,
    "weekday, from Sunday": lambda date: (date.astype(np.int64) + 4) % 7 + 0.0,
}


def _as_numbers(table: pa.Table, name: str, kind: str) -> Floats:
    """Values as a calendar's numbers, NaN where they are none: `March` and `mar` are 3, `2024-Q1` is 20241."""
    if kind == "numbers":
        return floats(table, name).astype(np.float64)
    encoded = table[name].cast(pa.string()).combine_chunks().dictionary_encode()
    words = encoded.dictionary.to_pylist()
    if len(words) > CATEGORIES:
        return np.full(table.num_rows, np.nan)
    numbers = np.array([*(_number_of(word) for word in words), np.nan])
    return cast(Floats, numbers[encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)])


def _number_of(word: str) -> float:
    plain = word.strip().casefold().rstrip(".")
    if plain in MONTH_NAMES:
        return MONTH_NAMES[plain]
    if plain in DAY_NAMES:
        return DAY_NAMES[plain]
    digits = "".join(part for part in plain if part not in "-/. qw")
    return float(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 8 else np.nan


def _grows(table: pa.Table, name: str) -> bool:
    """Whether a number goes with time, in one direction, with hardly an exception."""
    values = floats(table, name).astype(np.float64)
    known = np.isfinite(values)
    if known.sum() < LEAST_ROWS:
        return False
    values = values[known]
    if len(np.unique(values)) < LEAST_ROWS:
        return False
    moments = table["event_timestamp"].cast(pa.timestamp("us", table["event_timestamp"].type.tz)).cast(pa.int64())
    rank, time = (
        np.argsort(np.argsort(column, kind="stable"), kind="stable").astype(np.float64)
        for column in (values, moments.to_numpy()[known])
    )
    return abs(float(cast(Floats, np.corrcoef(np.stack([rank, time])))[0, 1])) >= LEAST_RANK


def _gets_older(reference: pa.Table, current: pa.Table, name: str) -> bool:
    """Whether a date moved away from its transactions, and the dates themselves by chance, or less than half as far.

    How far is told by chi-squared in tenths, whose excess over its degrees of freedom goes with the square of a move.
    """
    sides = [(floats(table, name).astype(np.float64), row_days(table, "compared")) for table in (reference, current)]
    sides = [(ages[~np.isnan(ages)], days[~np.isnan(ages)]) for ages, days in sides]
    if min(len(ages) for ages, _ in sides) < LEAST_ROWS:
        return False
    by_age, freedom = _chi_squared([ages for ages, _ in sides])
    by_date, freedom_of_dates = _chi_squared([days - ages for ages, days in sides])
    if by_age <= chi2.isf(BY_CHANCE, freedom):
        return False
    if by_date <= chi2.isf(BY_CHANCE, freedom_of_dates):
        return True
    return by_date - freedom_of_dates <= LEAST_APART**2 * (by_age - freedom)


def _chi_squared(values: Sequence[Floats]) -> tuple[float, int]:
    """Chi-squared of two samples of numbers in tenths of both together, and its degrees of freedom (1 at least)."""
    codes, size = _tenths(values)
    counts = np.stack([np.bincount(code, minlength=size) for code in codes])
    counts = counts[:, counts.any(axis=0)]
    if counts.shape[1] < 2:
        return 0.0, 1
    found = chi2_contingency(counts, correction=False)
    return float(found.statistic), int(found.dof)


def _apart(before: pa.Table, after: pa.Table, name: str, kind: str) -> float:
    """The share of rows that two months would have to change to have the same values (total variation)."""
    if kind == "texts":
        parts = [table[name].cast(pa.string()).combine_chunks().drop_null() for table in (before, after)]
        if min(len(part) for part in parts) < LEAST_ROWS:
            return 0.0
        every = pc.unique(pa.concat_arrays(parts))
        codes = [pc.index_in(part, value_set=every).to_numpy(zero_copy_only=False) for part in parts]
        size = len(every)
        if size > sum(len(part) for part in parts) / 4:
            # Values that hardly come back, such as names, differ by chance alone.
            return 0.0
    else:
        values = [floats(table, name).astype(np.float64) for table in (before, after)]
        values = [column[~np.isnan(column)] for column in values]
        if min(len(column) for column in values) < LEAST_ROWS:
            return 0.0
        codes, size = _tenths(values)
    shares = [np.bincount(code, minlength=size) / len(code) for code in codes]
    return float(np.abs(shares[1] - shares[0]).sum()) / 2


def _tenths(values: Sequence[Floats]) -> tuple[list[npt.NDArray[np.int64]], int]:
    """Which tenth of both samples together each number lies in, none of them missing; and how many tenths there are."""
    cuts = np.unique(np.quantile(np.concatenate(values), np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    return [np.searchsorted(cuts, column) for column in values], len(cuts) + 1
