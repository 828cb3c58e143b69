"""One compiled pass gives what numpy gives operation by operation, whatever the values and however many rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.features.arithmetic import _ROWS_AT_ONCE, OPERATORS, evaluate, write

Floats = npt.NDArray[np.float64]
BY_NUMPY: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": lambda a, b: np.where(b == 0, np.nan, np.divide(a, b)),
    "at_least": np.maximum,
    "at_most": np.minimum,
    "abs": lambda a, _: np.abs(a),
    "round": lambda a, _: np.trunc(a + np.copysign(0.5, a)),
    "or_else": lambda a, b: np.where(np.isnan(a), b, a),
    "where": lambda a, condition: np.where(condition > 0, a, np.nan),
}
VALUES = st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e308, 1e-308]) | st.floats()


@st.composite
def programs(draw: st.DrawFn) -> tuple[Floats, list[tuple[int, int, int]]]:
    """Given values, and operations of which each may use all before it."""
    n_given = draw(st.integers(1, 4))
    rows = draw(st.sampled_from([0, 1, 2, _ROWS_AT_ONCE - 1, _ROWS_AT_ONCE, _ROWS_AT_ONCE + 1]))
    first = np.array(draw(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=n_given, max_size=n_given)))
    operations = []
    for number in range(draw(st.integers(0, 12))):
        places = st.integers(0, n_given + number - 1)
        operations.append((draw(st.integers(0, len(OPERATORS) - 1)), draw(places), draw(places)))
    return np.ascontiguousarray(np.resize(first, (n_given, rows))), operations


@given(programs())
def test_operations_give_what_numpy_gives(program: tuple[Floats, list[tuple[int, int, int]]]) -> None:
    values, operations = program
    expected = list(values)
    with np.errstate(all="ignore"):
        for operator, a, b in operations:
            expected.append(BY_NUMPY[OPERATORS[operator]](expected[a], expected[b]))
    places = np.arange(len(expected))[::-1].copy()
    found = evaluate(values, np.array(operations, np.int64).reshape(-1, 3), places)
    np.testing.assert_array_equal(found, np.array(expected)[::-1])


def test_each_operator_of_an_expression_has_a_place() -> None:
    assert set(OPERATORS) == set(BY_NUMPY)


def test_what_no_32_bits_hold_is_written_as_unknown() -> None:
    made = np.zeros((3, 4), np.float32)
    values = np.array([[1.5, 1e300], [np.inf, np.nan]])
    write(values, np.array([2, 0]), np.array([3, 1]), made)
    np.testing.assert_array_equal(made, [[0, np.nan, 0, np.nan], [0, 0, 0, 0], [0, np.nan, 0, 1.5]])
