"""One question about one entity's past: the aggregates of `sliding.py`, all of them in one compiled call.

For months, each aggregate is a call of its own over many questions. For one transaction, a call of that kind takes
longer than what it computes.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from fraud_assets.core.features.compiling import compiled
from fraud_assets.core.features.expressions import Aggregate, columns
from fraud_assets.core.features.program import Program
from fraud_assets.core.features.sliding import (
    window_count,
    window_distinct,
    window_extreme,
    window_moments,
    window_sum,
)
from fraud_assets.core.units import MICROSECONDS_PER_HOUR

FUNCTIONS = ("count", "sum", "mean", "std", "min", "max", "distinct")
_COUNT, _SUM, _MEAN, _STD, _MIN, _MAX, _DISTINCT = range(len(FUNCTIONS))

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_TIMES = numba.types.Array(numba.int64, 1, "C", readonly=True)
_TABLE = numba.types.Array(numba.int64, 2, "C", readonly=True)
_VALUES = numba.types.Array(numba.float64, 2, "C", readonly=True)


def specify(program: Program, maturity: int, first_value: int, distinct: tuple[str, ...]) -> Integers:
    """What `aggregates_at` is to take for a program.

    Args:
        program: its aggregates.
        maturity: microseconds.
        first_value: the row in which the program's values of transactions begin.
        distinct: the columns whose values are counted, in the order of their codes.

    Returns:
        Of each aggregate: its place among what the program's last part is given, its function, its row of values or
        codes, the length of its window and what lies between that and the question in microseconds, and whether it is
        of label changes; shape (aggregates, 6).
    """
    specs = []
    for place, one in enumerate(program.asked.given):
        if not isinstance(one, Aggregate):
            continue
        of_labels = one.events == "label changes"
        if one.function == "distinct":
            row = distinct.index(counted(one))
        else:
            row = program.values[place] + (0 if of_labels else first_value)
        span, lag = (one.hours or 0) * MICROSECONDS_PER_HOUR, maturity if one.matured else 0
        specs.append((place, FUNCTIONS.index(one.function), row, span, lag, int(of_labels)))
    # Mean and spread of one window lie side by side, and are worked out once.
    specs.sort(key=lambda spec: (spec[5], spec[2], spec[3], spec[4], spec[1]))
    return np.array(specs, np.int64).reshape(-1, 6)


def counted(one: Aggregate) -> str:
    """The column whose different values an aggregate counts."""
    (name,) = columns(one.value)
    return name


# One array an argument: compiled code takes no objects.
@compiled(
    numba.void(
        _TABLE, _TIMES, _VALUES, _TABLE, _TIMES, _TIMES, _VALUES, numba.int64, numba.float64[::1]
    )
)  # fmt: skip
def aggregates_at(
    specs: Integers,
    times: Integers,
    values: Floats,
    codes: Integers,
    n_codes: Integers,
    label_times: Integers,
    label_values: Floats,
    asked: int,
    found: Floats,
) -> None:
    """Writes what is taken over the windows before one moment.

    Args:
        specs: as `specify` gives them.
        times: of the events, ascending.
        values: of the events, shape (values, at least as many as there are times).
        codes: likewise, of what is counted.
        n_codes: how many different ones each of these may have.
        label_times: as times, of what changed the number of known frauds.
        label_values: as values, likewise.
        asked: the moment.
        found: is written into, at the places that the specifications name.
    """
    low, high = np.zeros(1, np.int64), np.zeros(1, np.int64)
    row_before = span_before = lag_before = labels_before = np.int64(-1)
    mean, spread = np.nan, np.nan
    for number in range(len(specs)):
        place, function, row = specs[number, 0], specs[number, 1], specs[number, 2]
        span, lag, of_labels = specs[number, 3], specs[number, 4], specs[number, 5]
        until = asked - lag
        if of_labels:
            first, last = np.searchsorted(label_times, until - span), np.searchsorted(label_times, until)
            taken = label_values[row, first:last] if function != _DISTINCT else label_values[0, :0]
        else:
            first, last = np.searchsorted(times, until - span), np.searchsorted(times, until)
            taken = values[row, first:last] if function != _DISTINCT else values[0, :0]
        high[0] = last - first
        if function == _COUNT:
            found[place] = window_count(taken, low, high)[0]
        elif function == _SUM:
            found[place] = window_sum(taken, low, high)[0]
        elif function == _MIN:
            found[place] = window_extreme(taken, low, high, -1.0)[0]
        elif function == _MAX:
            found[place] = window_extreme(taken, low, high, 1.0)[0]
        elif function == _DISTINCT:
            found[place] = window_distinct(codes[row, first:last], n_codes[row], low, high)[0]
        else:
            if row != row_before or span != span_before or lag != lag_before or of_labels != labels_before:
                _, means, spreads = window_moments(taken, low, high)
                mean, spread = means[0], spreads[0]
                row_before, span_before, lag_before, labels_before = row, span, lag, of_labels
            found[place] = mean if function == _MEAN else spread
