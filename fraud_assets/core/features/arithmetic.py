"""Operators on the values of rows: one compiled pass over all of a program's operations.

For single transactions a call of numpy for each operation would take longer than everything else; for months, what
lies between the first values and the results would take memory for all rows at once.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from fraud_assets.core.features.compiling import compiled

OPERATORS = ("+", "-", "*", "/", "at_least", "at_most", "abs", "round", "or_else", "where")
_ADD, _SUBTRACT, _MULTIPLY, _DIVIDE, _AT_LEAST, _AT_MOST, _ABS, _ROUND, _OR_ELSE, _WHERE = range(len(OPERATORS))

# Rows whose values between the first and the last operation lie in the processor's cache.
_ROWS_AT_ONCE = 512

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_GIVEN = numba.types.Array(numba.float64, 2, "C", readonly=True)
_CODES = numba.types.Array(numba.int64, 2, "C", readonly=True)
_PLACES = numba.types.Array(numba.int64, 1, "C", readonly=True)


@compiled(numba.void(numba.int64, numba.float64[::1], numba.float64[::1], numba.float64[::1]))
def _apply(operator: int, a: Floats, b: Floats, to: Floats) -> None:
    if operator == _ADD:
        for row in range(len(to)):
            to[row] = a[row] + b[row]
    elif operator == _SUBTRACT:
        for row in range(len(to)):
            to[row] = a[row] - b[row]
    elif operator == _MULTIPLY:
        for row in range(len(to)):
            to[row] = a[row] * b[row]
    elif operator == _DIVIDE:
        for row in range(len(to)):
            to[row] = np.nan if b[row] == 0 else a[row] / b[row]
    elif operator == _AT_LEAST:
        for row in range(len(to)):
            to[row] = np.maximum(a[row], b[row])
    elif operator == _AT_MOST:
        for row in range(len(to)):
            to[row] = np.minimum(a[row], b[row])
    elif operator == _ABS:
        for row in range(len(to)):
            to[row] = np.abs(a[row])
    elif operator == _ROUND:
        for row in range(len(to)):
            # From a half away from zero, as DuckDB does.
            to[row] = np.trunc(a[row] + np.copysign(0.5, a[row]))
    elif operator == _OR_ELSE:
        for row in range(len(to)):
            to[row] = b[row] if np.isnan(a[row]) else a[row]
    elif operator == _WHERE:
        for row in range(len(to)):
            to[row] = a[row] if b[row] > 0 else np.nan


@compiled(numba.float64[:, ::1](_GIVEN, _CODES, _PLACES))
def evaluate(given: Floats, operations: Integers, results: Integers) -> Floats:
    """The values of some operations; NaN is a value that is not known, and so is what is made of one.

    Args:
        given: the first values, shape (values, rows).
        operations: of each the operator's place in `OPERATORS` and the places of its two operands (the second of no
            meaning where it has one), among the given values and, after these, the earlier operations; shape
            (operations, 3).
        results: the places whose values are wanted.

    Returns:
        Shape (results, rows).
    """
    n_given, rows = given.shape
    n_operations = len(operations)
    between = np.empty((n_given + n_operations, _ROWS_AT_ONCE), np.float64)
    found = np.empty((len(results), rows), np.float64)
    for begin in range(0, rows, _ROWS_AT_ONCE):
        n = min(_ROWS_AT_ONCE, rows - begin)
        for place in range(n_given):
            for row in range(n):
                between[place, row] = given[place, begin + row]
        for place in range(n_operations):
            _apply(
                operations[place, 0],
                between[operations[place, 1], :n],
                between[operations[place, 2], :n],
                between[n_given + place, :n],
            )
        for place in range(len(results)):
            for row in range(n):
                found[place, begin + row] = between[results[place], row]
    return found


@compiled(numba.void(_GIVEN, _PLACES, _PLACES, numba.float32[:, ::1]))
def write(values: Floats, features: Integers, to: Integers, made: npt.NDArray[np.float32]) -> None:
    """Writes values into the rows of some features; what is no finite number of 32 bits is NaN.

    Args:
        values: shape (features, rows).
        features: which row of `made` each feature is.
        to: which column of `made` each row is.
        made: is written into.
    """
    for feature in range(len(features)):
        for row in range(len(to)):
            value = np.float32(values[feature, row])
            made[features[feature], to[row]] = value if np.isfinite(value) else np.float32(np.nan)
