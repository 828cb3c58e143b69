"""Conditions of rules on rows: the one way for single transactions, requests and stored months.

A value that is missing makes everything unknown that is made of it, as in SQL: of no amount, `amount > 5` is neither
true nor false. `and` with something false is false and `or` with something true is true, whatever the rest; `is
missing` is always known. A division by zero has no value. A rule is about the rows of which its condition is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.conditions import Among, Condition, Constant, Name, Operation

Bools = npt.NDArray[np.bool_]
Columns = Callable[[str], pa.Array | pa.ChunkedArray]
"""Gives a column or a feature by its name."""

TYPES: Mapping[str, pa.DataType] = {
    "number": pa.float64(), "text": pa.string(), "boolean": pa.bool_(), "date": pa.date32(),
}  # fmt: skip
_TWO: Mapping[str, Callable[..., Any]] = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
    "+": pc.add, "-": pc.subtract, "*": pc.multiply,
}  # fmt: skip
NOTHING = pa.scalar(None, pa.float64())


def is_true(condition: Condition, columns: Columns, n: int) -> Bools:
    """Of which rows a condition is true, shape (n,).

    Args:
        condition: as `parse_condition` gives it.
        columns: asked for those that it names, each of n values.
        n: how many rows there are.
    """
    found = _value(condition, columns)
    if isinstance(found, pa.Scalar):
        return np.full(n, bool(found.as_py()))
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def _value(condition: Condition, columns: Columns) -> Any:
    """A column of the condition's values, null where one is unknown; a scalar of a constant."""
    if isinstance(condition, Constant):
        return pa.scalar(condition.value, TYPES[condition.kind])
    if isinstance(condition, Name):
        return _stored(columns(condition.name), condition.kind)
    if isinstance(condition, Among):
        found = _value(condition.operand, columns)
        if condition.operand.kind == "text":
            known = pc.is_in(found, pa.array(condition.values, pa.string()))
            return pc.if_else(pc.is_null(found), pa.scalar(None, pa.bool_()), known)
        equal = [pc.equal(found, pa.scalar(one, TYPES[condition.operand.kind])) for one in condition.values]
        return _folded(pc.or_kleene, equal)
    if not isinstance(condition, Operation):
        raise TypeError(f"{type(condition).__name__} is no part of a condition")
    values = [_value(one, columns) for one in condition.operands]
    return _applied(condition.operator, values)


def _applied(operator: str, values: list[Any]) -> Any:
    if operator in ("and", "or"):
        return _folded(pc.and_kleene if operator == "and" else pc.or_kleene, values)
    if operator == "not":
        return pc.invert(values[0])
    if operator == "missing":
        return pc.is_null(values[0])
    if operator == "negative":
        return pc.negate(values[0])
    if operator == "/":
        return _known(pc.divide(values[0], pc.if_else(pc.equal(values[1], 0.0), NOTHING, values[1])))
    found = _TWO[operator](*values)
    return _known(found) if operator in ("+", "-", "*") else found


def _folded(together: Callable[..., Any], values: list[Any]) -> Any:
    first, *others = values
    for one in others:
        first = together(first, one)
    return first


def _stored(column: pa.Array | pa.ChunkedArray, kind: str) -> Any:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if kind == "number":
        # A whole number past 2^53 is compared as the nearest double.
        return _known(pc.cast(column, pa.float64(), safe=False))
    return column if kind == "identifier" else pc.cast(column, TYPES[kind])


def _known(numbers: Any) -> Any:
    """Numbers, of which NaN is none."""
    return pc.if_else(pc.is_nan(numbers), NOTHING, numbers)
