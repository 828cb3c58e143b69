"""Expressions as a list of steps, each done once: what the kernel goes through for every block of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fraud_assets.core.features.expressions import Aggregate, Expression, Operation


def _divided(a: Any, b: Any) -> Any:
    return np.where(np.equal(b, 0), np.nan, np.divide(a, b))


OPERATORS: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _divided,
    "at_least": np.maximum,
    "at_most": np.minimum,
    "abs": np.abs,
    "round": lambda a: np.trunc(a + np.copysign(0.5, a)),  # from a half away from zero, as DuckDB does
    "or_else": lambda a, b: np.where(np.isnan(a), b, a),
    "where": lambda a, condition: np.where(np.greater(condition, 0), a, np.nan),
}


@dataclass(frozen=True)
class Step:
    """One value: a constant, a column, an aggregate, or an operator applied to values of earlier steps.

    Attributes:
        of: the value.
        over: the rows that are asked about, or the events that an aggregate takes up.
        operands: the earlier steps whose values it is made of.
        apply: the operator; None of anything else.
    """

    of: Expression
    over: Literal["asked", "transactions", "label changes"]
    operands: tuple[int, ...] = ()
    apply: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Program:
    """Expressions as steps of which each is done once, however often it occurs.

    Attributes:
        steps: each after those that it is made of.
        results: of each expression the step that gives it, by its name.
    """

    steps: tuple[Step, ...]
    results: dict[str, int]

    @classmethod
    def of(cls, expressions: Mapping[str, Expression]) -> Program:
        """The program of some expressions about the rows that are asked for."""
        steps: list[Step] = []
        known: dict[tuple[Expression, str], int] = {}

        def place(one: Expression, over: Literal["asked", "transactions", "label changes"]) -> int:
            if (one, over) not in known:
                operands: tuple[int, ...] = ()
                apply = OPERATORS[one.operator] if isinstance(one, Operation) else None
                if isinstance(one, Operation):
                    operands = tuple(place(operand, over) for operand in one.operands)
                elif isinstance(one, Aggregate) and one.function != "distinct":
                    operands = (place(one.value, one.events),)
                steps.append(Step(one, over, operands, apply))
                known[one, over] = len(steps) - 1
            return known[one, over]

        results = {name: place(one, "asked") for name, one in expressions.items()}
        return cls(tuple(steps), results)
