"""What slides over sorted events: compiled loops, one pass each, whatever the length of a window.

Events lie in one array, group after group (a customer's, then the next one's), by time within each. Questions lie in
the same order, so that the positions where their windows begin (`low`) and end (`high`) never go back, and every loop
takes each event up once and lets it go once. NaN is a value that is not known, and counts for nothing.

Which events, windows and values these are belongs to `kernel.py`.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from fraud_assets.core.features.compiling import compiled

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Of arguments, which may be Arrow's own memory, and of results.
_GIVEN_FLOATS = numba.types.Array(numba.float64, 1, "C", readonly=True)
_GIVEN_INTEGERS = numba.types.Array(numba.int64, 1, "C", readonly=True)
_FLOATS, _INTEGERS = numba.float64[::1], numba.int64[::1]
_NUMBER, _COUNT = numba.float64, numba.int64
_TWO_INTEGERS = numba.types.UniTuple(_INTEGERS, 2)  # type: ignore[no-untyped-call] # numba types few of its own names
_THREE_FLOATS = numba.types.UniTuple(_FLOATS, 3)  # type: ignore[no-untyped-call]


@compiled(_INTEGERS(_GIVEN_INTEGERS, _GIVEN_INTEGERS, _GIVEN_INTEGERS))
def grouped(codes: Integers, order: Integers, offsets: Integers) -> Integers:
    """The rows of each group, group after group, in a given order within each.

    Args:
        codes: of each row its group, from 0; negative where it is in none.
        order: the rows by time.
        offsets: where each group begins, shape (groups + 1,).
    """
    place = offsets.copy()
    found = np.empty(offsets[-1], np.int64)
    for row in order:
        code = codes[row]
        if code >= 0:
            found[place[code]] = row
            place[code] += 1
    return found


@compiled(_INTEGERS(_GIVEN_INTEGERS, _COUNT))
def group_offsets(codes: Integers, groups: int) -> Integers:
    """Where each group begins when rows lie group after group, shape (groups + 1,)."""
    offsets = np.zeros(groups + 1, np.int64)
    for code in codes:
        if code >= 0:
            offsets[code + 1] += 1
    for group in range(groups):
        offsets[group + 1] += offsets[group]
    return offsets


@compiled(_TWO_INTEGERS(*[_GIVEN_INTEGERS] * 4, _COUNT, _COUNT))
def bounds(
    times: Integers, offsets: Integers, asked_groups: Integers, asked_times: Integers, span: int, lag: int
) -> tuple[Integers, Integers]:
    """The positions of the events of a group with `asked - lag - span <= time < asked - lag`.

    Args:
        times: of the events, group after group, ascending within each.
        offsets: where each group begins.
        asked_groups: of each question, ascending.
        asked_times: likewise, ascending within a group.
        span: length of the window, in the unit of the times.
        lag: how long before the question it ends.

    Returns:
        The first position, and the one after the last, shape (questions,).
    """
    n = len(asked_groups)
    low, high = np.empty(n, np.int64), np.empty(n, np.int64)
    group = first = last = end = np.int64(-1)
    for question in range(n):
        if asked_groups[question] != group:
            group = asked_groups[question]
            first = last = offsets[group]
            end = offsets[group + 1]
        until = asked_times[question] - lag
        since = until - span
        while last < end and times[last] < until:
            last += 1
        while first < last and times[first] < since:
            first += 1
        low[question], high[question] = first, last
    return low, high


@compiled(_FLOATS(_GIVEN_FLOATS, _GIVEN_INTEGERS, _GIVEN_INTEGERS))
def window_count(values: Floats, low: Integers, high: Integers) -> Floats:
    """How many values there are in each window."""
    so_far = np.zeros(len(values) + 1, np.int64)
    for event in range(len(values)):
        so_far[event + 1] = so_far[event] + (not np.isnan(values[event]))
    counts = np.empty(len(low), np.float64)
    for question in range(len(low)):
        counts[question] = so_far[high[question]] - so_far[low[question]]
    return counts


@compiled(_FLOATS(_GIVEN_FLOATS, _GIVEN_INTEGERS, _GIVEN_INTEGERS, _NUMBER))
def window_extreme(values: Floats, low: Integers, high: Integers, sign: float) -> Floats:
    """The largest value of each window where `sign` is 1, the smallest where it is -1; NaN without any.

    By a queue of the values that can still become the largest.
    """
    found = np.empty(len(low), np.float64)
    queue = np.empty(len(values) + 1, np.int64)
    head = tail = np.int64(0)
    seen = np.int64(0)
    for question in range(len(low)):
        first, last = low[question], high[question]
        for event in range(max(seen, first), last):
            value = values[event]
            if not np.isnan(value):
                while tail > head and sign * values[queue[tail - 1]] <= sign * value:
                    tail -= 1
                queue[tail] = event
                tail += 1
        seen = max(seen, last)
        while head < tail and queue[head] < first:
            head += 1
        if head == tail:
            head = tail = np.int64(0)
            found[question] = np.nan
        else:
            found[question] = values[queue[head]]
    return found


@compiled(_THREE_FLOATS(_GIVEN_FLOATS, _GIVEN_INTEGERS, _GIVEN_INTEGERS))
def window_moments(values: Floats, low: Integers, high: Integers) -> tuple[Floats, Floats, Floats]:
    """How many values there are in each window, their mean, and their standard deviation over n; NaN without any.

    Nothing is ever subtracted that was added before, so that a window of equal values has a spread of zero whatever
    lay beside it. A window is two parts, of which the older is summed up from its end and the newer from its
    beginning ("two stacks": Tangwongsan et al., General Incremental Sliding-Window Aggregation, VLDB 2015); parts are
    joined as in Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm, 1979.
    """
    n = len(low)
    counts, means, spreads = np.empty(n, np.float64), np.empty(n, np.float64), np.empty(n, np.float64)
    longest = np.int64(0)
    for question in range(n):
        longest = max(longest, high[question] - low[question])
    older = np.empty((longest + 1, 3), np.float64)  # n, mean, and sum of squares about it, from each event on
    begin = middle = seen = np.int64(0)
    n_newer, mean_newer, squares_newer = 0.0, 0.0, 0.0
    for question in range(n):
        first, last = low[question], high[question]
        if first >= middle:
            n_newer, mean_newer, squares_newer = 0.0, 0.0, 0.0
            begin, middle = first, last
            n_older, mean_older, squares_older = 0.0, 0.0, 0.0
            for event in range(last - 1, first - 1, -1):
                value = values[event]
                if not np.isnan(value):
                    n_older += 1
                    away = value - mean_older
                    mean_older += away / n_older
                    squares_older += away * (value - mean_older)
                older[event - begin, 0] = n_older
                older[event - begin, 1] = mean_older
                older[event - begin, 2] = squares_older
        else:
            for event in range(max(seen, first), last):
                value = values[event]
                if not np.isnan(value):
                    n_newer += 1
                    away = value - mean_newer
                    mean_newer += away / n_newer
                    squares_newer += away * (value - mean_newer)
        seen = max(seen, last)
        if first < middle:
            n_older, mean_older, squares_older = (
                older[first - begin, 0],
                older[first - begin, 1],
                older[first - begin, 2],
            )
        else:
            n_older, mean_older, squares_older = 0.0, 0.0, 0.0
        total = n_older + n_newer
        counts[question] = total
        if total == 0:
            means[question] = spreads[question] = np.nan
            continue
        away = mean_newer - mean_older
        means[question] = mean_older + away * (n_newer / total)
        spreads[question] = np.sqrt((squares_older + squares_newer + away * away * n_older * n_newer / total) / total)
    return counts, means, spreads


@compiled(_FLOATS(_GIVEN_FLOATS, _GIVEN_INTEGERS, _GIVEN_INTEGERS))
def window_sum(values: Floats, low: Integers, high: Integers) -> Floats:
    """The sum of the values of each window, NaN without any; in two parts, as in `window_moments`."""
    n = len(low)
    sums = np.empty(n, np.float64)
    longest = np.int64(0)
    for question in range(n):
        longest = max(longest, high[question] - low[question])
    older = np.empty((longest + 1, 2), np.float64)
    begin = middle = seen = np.int64(0)
    n_newer, newer = 0.0, 0.0
    for question in range(n):
        first, last = low[question], high[question]
        if first >= middle:
            n_newer, newer = 0.0, 0.0
            begin, middle = first, last
            n_older, sum_older = 0.0, 0.0
            for event in range(last - 1, first - 1, -1):
                if not np.isnan(values[event]):
                    n_older += 1
                    sum_older += values[event]
                older[event - begin, 0] = n_older
                older[event - begin, 1] = sum_older
        else:
            for event in range(max(seen, first), last):
                if not np.isnan(values[event]):
                    n_newer += 1
                    newer += values[event]
        seen = max(seen, last)
        n_older, sum_older = 0.0, 0.0
        if first < middle:
            n_older, sum_older = older[first - begin, 0], older[first - begin, 1]
        sums[question] = np.nan if n_older + n_newer == 0 else sum_older + newer
    return sums


@compiled(_FLOATS(_GIVEN_INTEGERS, _COUNT, _GIVEN_INTEGERS, _GIVEN_INTEGERS))
def window_distinct(values: Integers, n_values: int, low: Integers, high: Integers) -> Floats:
    """How many different values each window has.

    Args:
        values: numbers from 0 to `n_values` - 1; negative where not known.
        n_values: how many there may be.
        low: where each window begins.
        high: where it ends.
    """
    times_seen = np.zeros(n_values, np.int64)
    found = np.empty(len(low), np.float64)
    different = np.int64(0)
    begin = end = np.int64(0)
    for question in range(len(low)):
        first, last = low[question], high[question]
        for event in range(begin, min(first, end)):
            value = values[event]
            if value >= 0:
                times_seen[value] -= 1
                if times_seen[value] == 0:
                    different -= 1
        for event in range(max(end, first), last):
            value = values[event]
            if value >= 0:
                if times_seen[value] == 0:
                    different += 1
                times_seen[value] += 1
        begin, end = first, max(end, last)
        found[question] = different
    return found
