"""What a move looks like: each cause is tried by undoing it, and named if that takes most of the distance away.

How far something moved, and whether that is more than chance, belongs to `columns.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import cast

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from fraud_assets.core.drift.findings import Cause
from fraud_assets.core.statistics.clusters import FloatArray, IntArray

HOUR = "hour"
HOURS = 24
MOST_COUNT = 400  # larger counts are taken together when they are thinned, which costs their square
# A cause is named if at most this part of the distance is left without it. One half: what chance moves is left anyway.
MOST_LEFT = 0.5
LEAST_FACTOR = 0.004  # below a common factor of 0.4 % nothing is said to be scaled
EPOCH = date(1970, 1, 1)

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Explanation:
    """A cause, and the words for it, which follow the name of what moved."""

    cause: Cause
    words: str


@dataclass(frozen=True)
class Moved:
    """A column of numbers that moved.

    Attributes:
        name: of the column.
        values: of the rows of the reference and of the current window; NaN where missing.
        weights: of the same rows.
        bins: gives the bin of each of some values that are not missing.
        number: of bins.
        volume: rows a day now, over those before.
        counts_rows: whether it is more, or less, when there are more rows.
        newcomers: for a value or an entity that is new and known to have risen, its words and which current rows have
            it.
        changed: rows of the customers who are known to have changed, in both windows, and the words for it.
    """

    name: str
    values: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]
    weights: tuple[FloatArray, FloatArray]
    bins: Callable[[npt.NDArray[np.floating]], IntArray]
    number: int
    volume: float = 1.0
    counts_rows: bool = False
    newcomers: Sequence[tuple[str, Bools]] = field(default_factory=tuple)
    changed: tuple[str, Bools, Bools] | None = None


def explain(moved: Moved) -> Explanation:
    """The first cause, of those that can be undone, without which at most half of the distance is left."""
    (reference, current), (reference_weights, current_weights) = moved.values, moved.weights
    before = _shares(moved, reference, reference_weights)
    limit = MOST_LEFT * _distance(before, _shares(moved, current, current_weights))
    if moved.name == HOUR and (hours := _clock(moved)) is not None:
        words = f"fits a clock that is {abs(hours)} h {'ahead' if hours > 0 else 'behind'}, as by a wrong time zone"
        return Explanation("shifted_clock", words)
    for words, rows in moved.newcomers:
        if _distance(before, _shares(moved, current[~rows], current_weights[~rows])) <= limit:
            return Explanation("new_category", f"comes from {words}")
    if moved.changed is not None:
        words, *rows_of = moved.changed
        others = [
            _shares(moved, values[~rows], weights[~rows])
            for values, weights, rows in zip(moved.values, moved.weights, rows_of, strict=True)
        ]
        if _distance(*others) <= limit:
            return Explanation("few_entities", f"comes from {words}")
    factor = _mean_ratio(moved)
    if (
        moved.counts_rows
        and factor is not None
        and _follows(factor, moved.volume)
        and _distance(*_without_volume(moved, factor)) <= limit
    ):
        change = f"{(moved.volume - 1) * 100:+.0f} %"
        return Explanation("volume", f"follows the number of rows a day, which changed by {change}")
    factor = common_factor(reference, current)
    if (
        factor is not None
        and abs(math.log(factor)) >= LEAST_FACTOR
        and _distance(before, _shares(moved, current / factor, current_weights)) <= limit
    ):
        change = f"{abs(factor - 1) * 100:.{0 if abs(factor - 1) >= 0.1 else 1}f} %"
        direction = "higher" if factor > 1 else "lower"
        return Explanation("scaled", f"is {direction} by {change} throughout (times {factor:.3g})")
    return Explanation("distribution", "is distributed otherwise than before")


def common_factor(reference: npt.NDArray[np.floating], current: npt.NDArray[np.floating]) -> float | None:
    """The median ratio of the quantiles of two columns, in steps of a twentieth from 10 to 90 %.

    None where fewer than half of them have a ratio: quantiles of zero, or of different signs.

    >>> round(common_factor(np.arange(1.0, 101.0), np.arange(1.0, 101.0) * 1.05), 6)
    1.05
    """
    levels = np.linspace(0.1, 0.9, 17)
    before, now = (
        np.quantile(values[np.isfinite(values)], levels) if np.isfinite(values).any() else np.zeros(len(levels))
        for values in (reference, current)
    )
    some = before * now > 0
    return float(np.median(now[some] / before[some])) if 2 * some.sum() >= len(levels) else None


def clock_shift(before: FloatArray, now: FloatArray) -> int | None:
    """The number of hours by which a daily profile is shifted, None where no shift takes most of the distance away.

    Args:
        before: shares of the hours of a day, shape (24,).
        now: the same, later.

    Returns:
        From -11 to 12, not 0; positive where clocks are ahead.

    >>> clock_shift(np.bincount([8, 9], minlength=24) / 2, np.bincount([9, 10], minlength=24) / 2)
    1
    """
    left = {hours: _distance(np.roll(before, hours), now) for hours in range(-11, 13)}
    best = min(left, key=lambda hours: (left[hours], abs(hours)))
    return best if best and left[best] <= MOST_LEFT * left[0] else None


def first_day(days: IntArray, counts: FloatArray, expected: FloatArray, weight: FloatArray) -> date:
    """The first day on which a move is seen.

    Each day's surplus over what its weekday had before, projected on the direction of the move, is a series that is
    nothing before the day in question and constant after it: the day of least squares. A later day than the first is
    taken only where it fits clearly better.

    Args:
        days: since 1970-01-01, ascending, shape (days,).
        counts: rows of each day in each cell, shape (days, cells).
        expected: shares of the cells on such a day before, shape (days, cells).
        weight: what a row in a cell adds to the projection, shape (cells,).
    """
    rows = counts.sum(axis=1)
    some = rows > 0
    surplus = (counts[some] / rows[some, None] - expected[some]) @ weight
    rows, days = rows[some], days[some]
    if len(days) < 3:
        return EPOCH + timedelta(days=int(days[0]))
    unexplained = []
    for start in range(len(days)):
        later = surplus[start:]
        level = np.average(later, weights=rows[start:])
        unexplained.append(rows[:start] @ surplus[:start] ** 2 + rows[start:] @ (later - level) ** 2)
    # The last two days are too few to tell a change from an odd day.
    best = int(np.argmin(unexplained[:-2]))
    noise = unexplained[best] / (len(days) - 2)
    # Twice the logarithm of the number of days, and one more: what the best of so many starts gains by chance.
    clear = unexplained[0] - unexplained[best] > (2 * np.log(len(days)) + 1) * noise
    return EPOCH + timedelta(days=int(days[best if clear else 0]))


def _shares(moved: Moved, values: npt.NDArray[np.floating], weights: FloatArray) -> FloatArray:
    present = ~np.isnan(values)
    sums = np.bincount(moved.bins(values[present]), weights[present], minlength=moved.number)
    return cast(FloatArray, sums / max(sums.sum(), 1.0))


def _distance(before: FloatArray, now: FloatArray) -> float:
    return float(np.abs(now - before).sum()) / 2


def _clock(moved: Moved) -> int | None:
    profiles = []
    for values, weights in zip(moved.values, moved.weights, strict=True):
        present = np.isfinite(values)
        hours = np.floor(values[present]).astype(np.int64) % HOURS
        sums = np.bincount(hours, weights[present], minlength=HOURS)
        profiles.append(sums / max(sums.sum(), 1.0))
    return clock_shift(*profiles)


def _mean_ratio(moved: Moved) -> float | None:
    means = []
    for values, weights in zip(moved.values, moved.weights, strict=True):
        present = np.isfinite(values)
        means.append(float(np.average(values[present], weights=weights[present])) if present.any() else 0.0)
    return means[1] / means[0] if min(means) > 0 else None


def _follows(factor: float, volume: float) -> bool:
    """Whether a mean moved by no more than the volume did, give or take a half; times between rows shrink."""
    return 0 < abs(math.log(factor)) <= 1.5 * abs(math.log(volume))


def _without_volume(moved: Moved, factor: float) -> tuple[FloatArray, FloatArray]:
    """Shares of both windows as if the mean had not changed: counts by leaving out rows at random, others by scale."""
    larger, smaller = (1, 0) if factor > 1 else (0, 1)
    keep = min(factor, 1 / factor)
    whole = all(bool(np.all(values[np.isfinite(values)] % 1 == 0)) for values in moved.values)
    result = [np.zeros(moved.number)] * 2
    result[smaller] = _shares(moved, moved.values[smaller], moved.weights[smaller])
    values, weights = moved.values[larger], moved.weights[larger]
    if not whole or not np.nanmin(values) >= 0:
        result[larger] = _shares(moved, values * keep, weights)
        return result[0], result[1]
    present = np.isfinite(values)
    counts = np.minimum(values[present], MOST_COUNT).astype(np.int64)
    rows = np.bincount(counts, weights[present], minlength=MOST_COUNT + 1)
    reached = np.flatnonzero(rows)
    levels = np.arange(reached.max() + 1)
    # Of n rows each stays with this probability (binomial thinning), so that shares come out without any draw.
    thinned = rows[reached] @ binom.pmf(levels[None, :], reached[:, None], keep)
    sums = np.bincount(moved.bins(levels.astype(values.dtype)), thinned, minlength=moved.number)
    result[larger] = sums / sums.sum()
    return result[0], result[1]


def listed(names: Iterable[str], number: int, most: int = 3) -> str:
    """Some names and how many there are besides.

    >>> listed(["a", "b", "c", "d"], 4), listed(["a"], 1)
    ('a, b, c and 1 more', 'a')
    """
    shown = list(names)[:most]
    rest = f" and {number - len(shown):,} more" if number > len(shown) else ""
    return ", ".join(shown) + rest
