"""The compiled loops: each window as a plain loop over its events has it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.features import sliding

Integers = npt.NDArray[np.int64]

# Equal ones, missing ones, ones of other sizes, and sums in which small ones would drown.
values = st.one_of(st.just(math.nan), st.integers(-3, 3).map(float), st.floats(-1e9, 1e9), st.just(0.1))
# Of a few groups, each with its events; times collide.
worlds = st.lists(st.lists(st.tuples(st.integers(0, 12), values), max_size=12), min_size=1, max_size=4)


def _laid_out(world: list[list[tuple[int, float]]]) -> tuple[Integers, Integers, Integers, Any]:
    """Groups, times and values of events side by side, and where each group begins."""
    events = [
        (group, time, value)
        for group, of_group in enumerate(world)
        for time, value in sorted(of_group, key=lambda event: event[0])
    ]
    groups, times, found = (
        np.array([event[place] for event in events], kind)
        for place, kind in enumerate((np.int64, np.int64, np.float64))
    )
    offsets = np.cumsum([0, *(len(of_group) for of_group in world)]).astype(np.int64)
    return groups, times, offsets, found


@given(worlds, st.integers(0, 8), st.integers(0, 5), st.data())
def test_windows_are_those_of_a_plain_loop(
    world: list[list[tuple[int, float]]], span: int, lag: int, data: st.DataObject
) -> None:
    groups, times, offsets, found = _laid_out(world)
    asked = np.array(sorted(data.draw(st.sets(st.integers(0, max(len(times) - 1, 0))))), np.int64)
    asked = asked[asked < len(times)]
    low, high = sliding.bounds(times, offsets, groups[asked], times[asked], span, lag)
    counts, means, spreads = sliding.window_moments(found, low, high)
    numbers = np.where(np.isnan(found), -1, np.unique(found, return_inverse=True)[1]).astype(np.int64)
    taken = {
        "count": sliding.window_count(found, low, high),
        "sum": sliding.window_sum(found, low, high),
        "largest": sliding.window_extreme(found, low, high, 1.0),
        "smallest": sliding.window_extreme(found, low, high, -1.0),
        "distinct": sliding.window_distinct(numbers, len(found) + 1, low, high),
    }
    for place, question in enumerate(asked):
        within = [
            event
            for event in range(len(times))
            if groups[event] == groups[question]
            and times[question] - lag - span <= times[event] < times[question] - lag
        ]
        assert list(range(low[place], high[place])) == within
        known = found[within][~np.isnan(found[within])]
        assert counts[place] == taken["count"][place] == len(known)
        assert taken["distinct"][place] == len(set(known))
        if len(known) == 0:
            for name in ("sum", "largest", "smallest"):
                assert math.isnan(taken[name][place])
            assert math.isnan(means[place])
            assert math.isnan(spreads[place])
            continue
        scale = np.abs(known).max()
        assert taken["largest"][place] == known.max()
        assert taken["smallest"][place] == known.min()
        assert taken["sum"][place] == pytest.approx(known.sum(), rel=1e-9, abs=1e-9 * scale)
        assert means[place] == pytest.approx(known.mean(), rel=1e-9, abs=1e-9 * scale)
        assert spreads[place] == pytest.approx(known.std(), rel=1e-6, abs=1e-9 * scale)
        if len(set(known)) == 1:
            assert spreads[place] == 0


def test_a_group_of_many_events_takes_each_up_once() -> None:
    """100,000 events, windows of up to 10,000 of them: a loop over each window would be 10^9 steps, ten seconds."""
    n, span = 100_000, 10_000
    times = np.arange(n, dtype=np.int64)
    found = np.random.default_rng(3).exponential(40.0, n)
    low, high = sliding.bounds(times, np.array([0, n], np.int64), np.zeros(n, np.int64), times, span, 0)
    _, means, spreads = sliding.window_moments(found, low, high)
    for place in (1, 500, span, span + 1, 54_321, n - 1):
        window = found[max(place - span, 0) : place]
        assert means[place] == pytest.approx(window.mean(), rel=1e-12)
        assert spreads[place] == pytest.approx(window.std(), rel=1e-9)
