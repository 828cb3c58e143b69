"""What features are made of, as data: aggregates over the past of an entity, columns, and arithmetic on these.

An expression says what a value is and not who works it out. Two read it: `kernel.py` with numpy, for months and for
single transactions, and `ibis_expression.py` as SQL for DuckDB, Spark and Postgres. Whatever has no value is null to
one and NaN to the other, and so is everything made of it, but for what `or_else` and `where` say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Function = Literal["count", "sum", "mean", "std", "min", "max", "distinct"]
Events = Literal["transactions", "label changes"]
Operator = Literal["+", "-", "*", "/", "at_least", "at_most", "abs", "round", "or_else", "where"]


class Expression:
    """A value of a transaction; `a / b` is empty where `b` is zero."""

    def __add__(self, other: Expression | float) -> Expression:
        return Operation("+", (self, _expression(other)))

    def __sub__(self, other: Expression | float) -> Expression:
        return Operation("-", (self, _expression(other)))

    def __mul__(self, other: Expression | float) -> Expression:
        return Operation("*", (self, _expression(other)))

    def __truediv__(self, other: Expression | float) -> Expression:
        return Operation("/", (self, _expression(other)))

    def __abs__(self) -> Expression:
        return Operation("abs", (self,))

    def __round__(self) -> Expression:
        """To whole numbers; engines differ in which way they go from a half."""
        return Operation("round", (self,))

    def at_least(self, other: Expression | float) -> Expression:
        """The larger of the two; both have to have a value."""
        return Operation("at_least", (self, _expression(other)))

    def at_most(self, limit: Expression | float) -> Expression:
        """The smaller of the two; both have to have a value."""
        return Operation("at_most", (self, _expression(limit)))

    def or_else(self, other: Expression | float) -> Expression:
        """Another value where there is none."""
        return Operation("or_else", (self, _expression(other)))

    def where(self, condition: Expression) -> Expression:
        """Nothing, but where the condition is above zero."""
        return Operation("where", (self, condition))


@dataclass(frozen=True)
class Constant(Expression):
    """A number."""

    value: float


@dataclass(frozen=True)
class Column(Expression):
    """A column of the transaction, or of the event that an aggregate takes up."""

    name: str


@dataclass(frozen=True)
class Operation(Expression):
    """An operator and what it is applied to."""

    operator: Operator
    operands: tuple[Expression, ...]


@dataclass(frozen=True)
class Aggregate(Expression):
    """What is taken over the events of an entity in a window that ends strictly before the transaction.

    Attributes:
        function: `std` is over n; of no values, `count` and `distinct` are 0 and the others empty.
        value: of each event, made of its own columns; for `distinct`, a `Column`.
        hours: length of the window; None stands for the contract's longest.
        events: its transactions, each at its own time; or what changed the number of its known frauds, at the time at
            which that became known.
        matured: whether the window ends `maturity_days` ago, where every transaction is either a known fraud or not.
    """

    function: Function
    value: Expression
    hours: int | None
    events: Events = "transactions"
    matured: bool = False


def aggregates(expression: Expression) -> Iterator[Aggregate]:
    """The aggregates in an expression, in their order, those that occur twice twice."""
    if isinstance(expression, Aggregate):
        yield expression
    elif isinstance(expression, Operation):
        for operand in expression.operands:
            yield from aggregates(operand)


def columns(expression: Expression) -> Iterator[str]:
    """The names of the columns in an expression, of the transaction and of what is aggregated."""
    if isinstance(expression, Column):
        yield expression.name
    elif isinstance(expression, Aggregate):
        yield from columns(expression.value)
    elif isinstance(expression, Operation):
        for operand in expression.operands:
            yield from columns(operand)


def _expression(value: Expression | float) -> Expression:
    return value if isinstance(value, Expression) else Constant(value)
