"""The language of conditions: what a rule of a contract may say, read with Python's own parser and an allow-list.

Nothing of a condition is ever run as Python: its text becomes a tree of the classes here, or is refused. What a tree
says of rows belongs to `guards/evaluation.py`, which rules there are to `rules.py`.

A condition has names of columns and features, numbers, texts in quotes, `true` and `false`; `and`, `or`, `not`;
`==`, `!=`, `<`, `<=`, `>`, `>=`, also in a row (`10 < amount <= 50`); `in` and `not in` with a list or a declared set;
`is missing` and `is not missing`; `+`, `-`, `*`, `/` and brackets.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

Kind = Literal["number", "text", "boolean", "date", "identifier"]
Operator = Literal[
    "and", "or", "not", "==", "!=", "<", "<=", ">", ">=", "in", "missing", "+", "-", "*", "/", "negative"
]  # fmt: skip
Value = float | str | bool | date

LONGEST = 500  # characters of a condition: a rule that is longer is two
LONGEST_LIST = 1000  # values of a list or a set
MISSING = "missing"
WORDS = {"true": True, "false": False}

_COMPARISONS: dict[type[ast.cmpop], Operator] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], Operator] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
_ORDERED = ("<", "<=", ">", ">=")
_NAMED: dict[Kind, str] = {
    "number": "a number", "text": "a text", "boolean": "true or false", "date": "a date", "identifier": "an identifier",
}  # fmt: skip


class ConditionError(ValueError):
    """A condition that cannot be read; the message says what is wrong with it, and what may stand there."""


class Condition:
    """A part of a condition, and the kind of value that it has."""

    kind: Kind


@dataclass(frozen=True)
class Name(Condition):
    """A column of the transaction, or one of its features."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class Constant(Condition):
    """A value."""

    value: Value
    kind: Kind


@dataclass(frozen=True)
class Operation(Condition):
    """An operator and what it is applied to."""

    operator: Operator
    operands: tuple[Condition, ...]
    kind: Kind


@dataclass(frozen=True)
class Among(Condition):
    """Whether a value is one of several."""

    operand: Condition
    values: tuple[Value, ...]
    kind: Kind = "boolean"


def names(condition: Condition) -> Iterator[str]:
    """The names in a condition, those that occur twice twice."""
    if isinstance(condition, Name):
        yield condition.name
    elif isinstance(condition, Among):
        yield from names(condition.operand)
    elif isinstance(condition, Operation):
        for operand in condition.operands:
            yield from names(operand)


def parse_condition(
    text: str, kinds: Mapping[str, Kind], sets: Mapping[str, Sequence[str | float]] | None = None
) -> Condition:
    """Reads a condition.

    Args:
        text: as written.
        kinds: of the columns and features that it may name.
        sets: declared lists of values, by name.

    Raises:
        ConditionError: when it says something else than a condition may, or of other kinds of values.
    """
    if len(text) > LONGEST:
        raise ConditionError(f"it has {len(text):,} characters, and a condition has at most {LONGEST}: make two of it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        place = f" at character {error.offset}" if error.offset else ""
        raise ConditionError(f"{_short(text)} cannot be read{place}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ConditionError(f"{_short(text)} cannot be read: it is nested too deeply, or is no text") from None
    found = _Reader(text, kinds, sets or {}).read(tree.body)
    if found.kind != "boolean":
        raise ConditionError(f"{_short(text)} is {_NAMED[found.kind]}, and a condition is true or false: compare it")
    if not list(names(found)):
        raise ConditionError(f"{_short(text)} names no column and no feature, so it says the same of all transactions")
    return found


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class _Reader:
    """Makes a tree of conditions of a tree of Python's."""

    def __init__(self, text: str, kinds: Mapping[str, Kind], sets: Mapping[str, Sequence[str | float]]) -> None:
        self._text, self._kinds, self._sets = text, kinds, sets

    def read(self, node: ast.expr) -> Condition:
        if isinstance(node, ast.BoolOp):
            parts = tuple(self._of_kind(one, "boolean") for one in node.values)
            return Operation("and" if isinstance(node.op, ast.And) else "or", parts, "boolean")
        if isinstance(node, ast.UnaryOp):
            return self._unary(node)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.BinOp):
            operator = _ARITHMETIC.get(type(node.op))
            if operator is None:
                raise self._refused(node, "of arithmetic there are +, -, * and /")
            return Operation(
                operator, (self._of_kind(node.left, "number"), self._of_kind(node.right, "number")), "number"
            )
        if isinstance(node, ast.Name):
            return self._named(node)
        if isinstance(node, ast.Constant):
            return self._constant(node)
        raise self._refused(node, "a condition has columns, features, values, comparisons, and, or, not, in, + - * /")

    def _unary(self, node: ast.UnaryOp) -> Condition:
        if isinstance(node.op, ast.Not):
            return Operation("not", (self._of_kind(node.operand, "boolean"),), "boolean")
        if isinstance(node.op, ast.USub):
            return Operation("negative", (self._of_kind(node.operand, "number"),), "number")
        raise self._refused(node, "write `not`, or a number with - before it")

    def _named(self, node: ast.Name) -> Condition:
        if node.id in self._kinds:
            return Name(node.id, self._kinds[node.id])
        if node.id in WORDS:
            return Constant(WORDS[node.id], "boolean")
        if node.id in self._sets:
            raise self._refused(node, "a set stands after `in` or `not in`")
        near = difflib.get_close_matches(node.id, [*self._kinds, *self._sets], n=1)
        advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(self._kinds))}"
        raise self._refused(node, f"there is no column, feature or set of this name; {advice}")

    def _constant(self, node: ast.Constant) -> Constant:
        value = node.value
        if isinstance(value, bool):
            return Constant(value, "boolean")
        if isinstance(value, int | float) and abs(value) <= 1e300:
            return Constant(float(value), "number")
        if isinstance(value, str):
            return Constant(value, "text")
        raise self._refused(node, "values are numbers, texts in quotes, true and false")

    def _compared(self, node: ast.Compare) -> Condition:
        parts, left = list[Condition](), node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._comparison(node, left, operator, right))
            left = right
        return parts[0] if len(parts) == 1 else Operation("and", tuple(parts), "boolean")

    def _comparison(self, node: ast.Compare, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Condition:
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Name) and right.id == MISSING and isinstance(left, ast.Name)):
                raise self._refused(node, "after `is` stands `missing` or `not missing`, before it a column or feature")
            found: Condition = Operation("missing", (self._named(left),), "boolean")
            return found if isinstance(operator, ast.Is) else Operation("not", (found,), "boolean")
        if isinstance(operator, ast.In | ast.NotIn):
            among = self._among(node, self.read(left), right)
            return among if isinstance(operator, ast.In) else Operation("not", (among,), "boolean")
        sides = self._alike(node, self.read(left), self.read(right))
        sign = _COMPARISONS[type(operator)]
        if sign in _ORDERED and sides[0].kind not in ("number", "date"):
            raise self._refused(node, f"{_NAMED[sides[0].kind]} has no order; compare it with == or !=")
        return Operation(sign, sides, "boolean")

    def _among(self, node: ast.Compare, operand: Condition, right: ast.expr) -> Condition:
        if isinstance(right, ast.Name) and right.id in self._kinds:
            # `country not in home`, where home is a column as well.
            return Operation("==", self._alike(node, operand, self._named(right)), "boolean")
        if isinstance(right, ast.Name) and right.id in self._sets:
            given = self._sets[right.id]
            values = [
                Constant(one, "text") if isinstance(one, str) else Constant(float(one), "number") for one in given
            ]
        elif isinstance(right, ast.List | ast.Tuple) and right.elts:
            values = []
            for one in right.elts:
                value = self.read(one)
                if isinstance(value, Operation) and isinstance(value.operands[0], Constant) and value.kind == "number":
                    value = Constant(-float(value.operands[0].value), "number")  # type: ignore[arg-type] # a number
                if not isinstance(value, Constant):
                    raise self._refused(one, "a list has values alone")
                values.append(value)
        else:
            raise self._refused(right, "after `in` stands a list such as ['FR', 'DE'], a set of `sets`, or a column")
        if len(values) > LONGEST_LIST:
            raise self._refused(right, f"a list has at most {LONGEST_LIST:,} values")
        alike = [self._alike(node, operand, one)[1] for one in values]
        return Among(operand, tuple(one.value for one in alike if isinstance(one, Constant)))

    def _alike(self, node: ast.expr, left: Condition, right: Condition) -> tuple[Condition, Condition]:
        """Both sides, which are of one kind; a text beside a date is the date that it says."""
        if left.kind == "date" and isinstance(right, Constant) and right.kind == "text":
            right = self._date(node, right)
        if right.kind == "date" and isinstance(left, Constant) and left.kind == "text":
            left = self._date(node, left)
        if "identifier" in (left.kind, right.kind) and (isinstance(left, Constant) or isinstance(right, Constant)):
            raise self._refused(
                node,
                "identifiers are personal data, and stand in no contract: put them on a list with `fraud lists add`",
            )
        if left.kind != right.kind:
            raise self._refused(node, f"{_NAMED[left.kind]} is compared with {_NAMED[right.kind]}")
        return left, right

    def _date(self, node: ast.expr, said: Constant) -> Constant:
        try:
            return Constant(date.fromisoformat(str(said.value)), "date")
        except ValueError:
            raise self._refused(node, "a date is written as '2025-01-31'") from None

    def _of_kind(self, node: ast.expr, kind: Kind) -> Condition:
        found = self.read(node)
        if found.kind != kind:
            raise self._refused(node, f"this is {_NAMED[found.kind]}, and {_NAMED[kind]} belongs here")
        return found

    def _refused(self, node: ast.expr, why: str) -> ConditionError:
        part = ast.get_source_segment(self._text.strip(), node) or self._text
        return ConditionError(f"{_short(part)}: {why}")
