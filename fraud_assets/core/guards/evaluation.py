"""Conditions of rules on rows: the one way for single transactions, requests and stored months.

A value that is missing makes everything unknown that is made of it, as in SQL: of no amount, `amount > 5` is neither
true nor false. `and` with something false is false and `or` with something true is true, whatever the rest; `is
missing` is always known. A division by zero has no value. A rule is about the rows of which its condition is true.

In numpy, because most rows come alone: what takes Arrow half a millisecond takes a tenth of that here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.contracts.conditions import Among, Condition, Constant, Kind, Name, Operation

Bools = npt.NDArray[np.bool_]
Values = tuple[npt.NDArray[Any], Bools]
"""Values, and which of them are known."""

DTYPES: Mapping[Kind, Any] = {"number": np.float64, "date": "datetime64[D]"}
_TWO: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv,
}  # fmt: skip
ALWAYS = np.array(True)


class Columns:
    """Columns of transactions and their features, each read once however many rules name it."""

    def __init__(self, transactions: pa.Table, features: pa.Table | Sequence[Mapping[str, Any]]) -> None:
        """Reads nothing yet.

        Args:
            transactions: columns as in `Contract.transactions_schema`.
            features: of the same, in the same order: a table, or a row of them by name for each.
        """
        self.n = transactions.num_rows
        self._transactions, self._features = transactions, features
        self._own = frozenset(transactions.column_names)
        self._read: dict[str, Values] = {}

    def values(self, name: str, kind: Kind) -> Values:
        """A column or a feature by its name."""
        if (found := self._read.get(name)) is None:
            found = self._read[name] = self._values(name, kind)
        return found

    def since(self, moment: datetime) -> Bools:
        """Which transactions happened at a moment or later."""
        happened = self._transactions["event_timestamp"].to_numpy()
        later: Bools = np.asarray(happened >= np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us"))
        return later

    def _values(self, name: str, kind: Kind) -> Values:
        if name in self._own:
            return _known(self._transactions[name].to_pylist(), kind)
        if isinstance(self._features, pa.Table):
            values = self._features[name].to_pylist()
        else:
            values = [row[name] for row in self._features]
        # As models take them.
        numbers = np.array(values, np.float32).astype(np.float64)
        return numbers, ~np.isnan(numbers)


def _known(values: list[Any], kind: Kind) -> Values:
    if kind in DTYPES:
        # What is missing becomes NaN, or no time. A whole number past 2^53 is compared as the nearest double.
        found = np.array(values, DTYPES[kind])
        return found, ~(np.isnan(found) if kind == "number" else np.isnat(found))
    known = np.array([one is not None for one in values], dtype=bool)
    if kind == "boolean":
        return np.array([bool(one) for one in values], dtype=bool), known
    texts = np.empty(len(values), dtype=object)
    texts[:] = values
    return texts, known


def is_true(condition: Condition, columns: Columns) -> Bools:
    """Of which rows a condition is true, shape (n,)."""
    with np.errstate(all="ignore"):
        values, known = _value(condition, columns)
    return np.broadcast_to(values & known, columns.n).copy()


def _value(condition: Condition, columns: Columns) -> Values:
    if isinstance(condition, Name):
        return columns.values(condition.name, condition.kind)
    if isinstance(condition, Constant):
        return np.array(condition.value, DTYPES.get(condition.kind, object)), ALWAYS
    if isinstance(condition, Among):
        values, known = _value(condition.operand, columns)
        if condition.operand.kind == "text":
            wanted = frozenset(condition.values)
            return np.array([one in wanted for one in values], dtype=bool), known
        constants = (np.array(one, DTYPES[condition.operand.kind]) for one in condition.values)
        return reduce(operator.or_, [values == one for one in constants]), known
    if not isinstance(condition, Operation):
        raise TypeError(f"{type(condition).__name__} is no part of a condition")
    return _applied(condition.operator, [_value(one, columns) for one in condition.operands])


def _applied(name: str, operands: list[Values]) -> Values:
    if name in ("and", "or"):
        true = [_bools(values) & known for values, known in operands]
        false = [~_bools(values) & known for values, known in operands]
        together, against = (operator.and_, operator.or_) if name == "and" else (operator.or_, operator.and_)
        is_true_, is_false = reduce(together, true), reduce(against, false)
        return is_true_, is_true_ | is_false
    values, known = operands[0]
    if name == "not":
        return ~_bools(values), known
    if name == "missing":
        return ~known, ALWAYS
    if name == "negative":
        return -values, known
    others, others_known = operands[1]
    found, both = np.asarray(_TWO[name](values, others)), known & others_known
    if name == "/":
        both = both & (others != 0)
    if name in ("+", "-", "*", "/"):
        return found, both & ~np.isnan(found)
    # Texts are compared one by one, and give objects.
    return _bools(found), both


def _bools(values: npt.NDArray[Any]) -> Bools:
    return values.astype(bool, copy=False)
