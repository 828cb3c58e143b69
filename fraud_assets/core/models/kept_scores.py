"""Kept scores: what the service said of a transaction, as one line of JSON, from the answer to the table.

How lines are kept on disk and put into the database belongs to `adapters/scores`; what becomes of them to
`performance/realised.py` and `performance/serving_skew.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.people.pseudonyms import Erased

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# What a line has, each with its type in PostgreSQL; the table's columns without its own number.
FIELDS = {
    "transaction_id": "text",
    "model_version": "bigint",
    "event_timestamp": "timestamptz",
    "scored_at": "timestamptz",
    "transaction": "json",
    "raw_score": "double precision",
    "probability": "double precision",
    "threshold": "double precision",
    "decision": "text",
    "pass_through_probability": "double precision",
    "passed_through": "boolean",
    "features": "json",
    "answered": "text",
    "decided_by": "text",
    "role": "text",
    "more_features": "json",
}
MONTH = "month"
"""Beside them in a line: the contract's month in which the transaction happened."""


@dataclass(frozen=True)
class Scored:
    """Transactions that were scored in one request.

    Attributes:
        contract: of the transactions.
        model_version, threshold: of the model.
        features: names of those that the model takes.
        raw_of: gives the raw scores of probabilities; None where the model does not say.
        transactions: columns as in `Contract.transactions_schema`.
        table: with the features, in the same order, or a row of them by name for each.
        probabilities: shape (n,).
        held: whether the model's decision is review, shape (n,).
        let_through, chance: whether it was let through all the same, and the probability of that; shape (n,).
        scored_at: when.
        answered, decided_by: what the answer says, and who decided it, of each; None where the model alone decides.
        more: names of further features, which other models of the time take; kept where they were computed.
        role: whether the champion answered or a challenger.
    """

    contract: Contract
    model_version: int
    threshold: float
    features: tuple[str, ...]
    raw_of: Callable[[Floats], Floats] | None
    transactions: pa.Table
    table: pa.Table | Sequence[Mapping[str, Any]]
    probabilities: Floats
    held: Bools
    let_through: Bools
    chance: Floats
    scored_at: datetime
    answered: Sequence[str] | None = None
    decided_by: Sequence[str] | None = None
    more: tuple[str, ...] = ()
    role: str = "champion"

    def lines(self) -> Iterator[bytes]:
        """A line of JSON for each, without its end; numbers as the shortest text that gives the same double again."""
        raw = _known(self.raw_of(self.probabilities)) if self.raw_of else [None] * len(self.probabilities)
        names = [name for name in self.transactions.column_names if name not in ("transaction_id", "event_timestamp")]
        given = zip(*(self.transactions[name].to_pylist() for name in names), strict=True) if names else None
        known, features = self._made(self.features)
        further, more = self._made(self.more) if self.more else ([], None)
        base = {
            "role": self.role,
            "model_version": self.model_version,
            "threshold": self.threshold,
            "scored_at": self.scored_at.isoformat(),
        }
        moments: list[datetime] = self.transactions["event_timestamp"].to_pylist()
        nobody: list[str | None] = [None] * len(self.probabilities)
        for key, moment, probability, own, held, through, chance, row, answered, by in zip(
            self.transactions["transaction_id"].to_pylist(), moments, self.probabilities.tolist(), raw,
            self.held.tolist(), self.let_through.tolist(), self.chance.tolist(), features,
            self.answered or nobody, self.decided_by or nobody, strict=True,
        ):  # fmt: skip
            said = base | {
                "transaction_id": str(key),
                "event_timestamp": moment.isoformat(),
                "transaction": dict(zip(names, next(given), strict=True)) if given else {},
                "raw_score": own,
                "probability": probability,
                "decision": "review" if held else "approve",
                "pass_through_probability": chance,
                "passed_through": through,
                "features": dict(zip(known, row, strict=True)),
                "answered": answered,
                "decided_by": by,
                "more_features": dict(zip(further, next(more), strict=True)) if more and further else None,
                MONTH: self.contract.month_of(moment),
            }
            yield ENCODER.encode(said).encode()

    def _made(self, names: Sequence[str]) -> tuple[list[str], Iterator[Iterable[Any]]]:
        """Those features that were computed, and their values of each row."""
        # Models from before there were encoders name columns that are made of others.
        if isinstance(self.table, pa.Table):
            known = [name for name in names if name in self.table.column_names]
            return known, zip(*(_values(self.table[name]) for name in known), strict=True)
        there = set(self.table[0]).intersection(*self.table[1:]) if len(self.table) else set()
        known = [name for name in names if name in there]
        return known, iter([_value(row[name]) for name in known] for row in self.table)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """A column's values; None where one is not known."""
    if pa.types.is_floating(column.type):
        return _known(column.to_numpy().astype(np.float64))
    values: list[Any] = column.to_pylist()
    return values


def _value(value: Any) -> Any:
    """A value as JSON can say it; None for one that is not known."""
    if value.__class__ is float:  # nearly all are
        return value if value - value == 0 else None
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and plain - plain != 0 else plain


def _known(numbers: Floats) -> list[float | None]:
    """What JSON cannot say is not known: a raw score of a probability of 0 or 1 is infinite."""
    found = numbers.tolist()
    if np.isfinite(numbers).all():
        return list(found)
    return [number if number - number == 0 else None for number in found]


def _as_text(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no value of a transaction")


ENCODER = json.JSONEncoder(default=_as_text, allow_nan=False, separators=(",", ":"))


def renamed_line(erased: Erased, personal: Sequence[str], line: bytes) -> bytes:
    """A line without what names a person who was erased; one that is no line of scores stays as it is."""
    try:
        said = json.loads(line)
        transaction, features = erased.score(said["transaction"], said["features"], personal)
        _, more = erased.score(said["transaction"], said.get("more_features") or {}, personal)
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    if transaction == said["transaction"]:
        return line
    return ENCODER.encode(
        {**said, "transaction": transaction, "features": features, "more_features": more or None}
    ).encode()
