"""Expressions as what is done once each, in order: what the kernel goes through for every block of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from fraud_assets.core.features.arithmetic import OPERATORS
from fraud_assets.core.features.expressions import Aggregate, Column, Constant, Events, Expression, Operation

Over = Literal["asked"] | Events


@dataclass(frozen=True)
class Part:
    """Values of one kind of rows: those that are asked about, or the events that aggregates take up.

    Attributes:
        given: what `arithmetic.evaluate` starts with: columns, constants and aggregates.
        operations: what it does with these, shape (operations, 3).
        results: the places of the values that are wanted.
    """

    given: tuple[Column | Constant | Aggregate, ...]
    operations: npt.NDArray[np.int64]
    results: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Program:
    """Expressions as parts in which each value is made once, however often it occurs.

    Attributes:
        events: what is made of the events, before anything is aggregated.
        values: of what the last part is given, the place among the results of its events' part if it is an aggregate
            of a value, else -1.
        asked: what is then made for the rows that are asked about.
        names: of the results of the last part.
    """

    events: dict[Events, Part]
    values: tuple[int, ...]
    asked: Part
    names: tuple[str, ...]

    @classmethod
    def of(cls, expressions: Mapping[str, Expression]) -> Program:
        """The program of some expressions about the rows that are asked for."""
        asked = _Growing()
        results = [asked.place(one) for one in expressions.values()]
        growing: dict[Events, _Growing] = {"transactions": _Growing(), "label changes": _Growing()}
        wanted: dict[Events, list[int]] = {"transactions": [], "label changes": []}
        values = []
        for one in asked.given:
            if not isinstance(one, Aggregate) or one.function == "distinct":
                values.append(-1)
                continue
            place, places = growing[one.events].place(one.value), wanted[one.events]
            if place not in places:
                places.append(place)
            values.append(places.index(place))
        events = {of: growing[of].part(wanted[of]) for of in growing if growing[of].given}
        return cls(events, tuple(values), asked.part(results), tuple(expressions))


@dataclass
class _Growing:
    """A part while it is put together. Places of operations are negative until it is known how much is given."""

    given: list[Column | Constant | Aggregate] = field(default_factory=list)
    operations: list[tuple[int, int, int]] = field(default_factory=list)
    known: dict[Expression, int] = field(default_factory=dict)

    def place(self, one: Expression) -> int:
        if one not in self.known:
            if isinstance(one, Operation):
                operands = [self.place(operand) for operand in one.operands]
                self.operations.append((OPERATORS.index(one.operator), operands[0], operands[-1]))
                self.known[one] = -len(self.operations)
            elif isinstance(one, Column | Constant | Aggregate):
                self.given.append(one)
                self.known[one] = len(self.given) - 1
        return self.known[one]

    def part(self, results: list[int]) -> Part:
        def final(place: int) -> int:
            return place if place >= 0 else len(self.given) - place - 1

        operations = [(operator, final(a), final(b)) for operator, a, b in self.operations]
        return Part(
            tuple(self.given),
            np.array(operations, np.int64).reshape(-1, 3),
            np.array([final(place) for place in results], np.int64),
        )
