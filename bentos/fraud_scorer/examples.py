"""Requests that score as they are, made from a contract: nothing in them is anybody's.

How they are shown belongs to `pages.py`.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bentos.fraud_scorer.loaded import LoadedModel
from bentos.fraud_scorer.transactions import RequestError, TransactionReader
from fraud_assets.core.contracts.contract import Column, Contract
from fraud_assets.core.models.scoring import ScoringError

# Below what sources number their own with: the score of an example shall be no transaction's, nor count for a customer.
EXAMPLE_NUMBER = -1
EXAMPLE_TEXT = "example"
# What a set of characters is tried with.
USUAL = "a0A" + string.ascii_letters + string.digits + string.punctuation + " "
CATEGORIES = {
    "CATEGORY_DIGIT": re.compile(r"\d"),
    "CATEGORY_NOT_DIGIT": re.compile(r"\D"),
    "CATEGORY_SPACE": re.compile(r"\s"),
    "CATEGORY_NOT_SPACE": re.compile(r"\S"),
    "CATEGORY_WORD": re.compile(r"\w"),
    "CATEGORY_NOT_WORD": re.compile(r"\W"),
}


def example_transaction(contract: Contract, moment: datetime) -> dict[str, Any] | None:
    """A transaction under the platform's names that keeps every rule of the contract.

    Args:
        contract: of the model.
        moment: when it happened.

    Returns:
        Values as JSON has them; None where a column's pattern is more than can be made up.
    """
    identifier = contract.transaction_id
    row: dict[str, Any] = {
        "transaction_id": EXAMPLE_TEXT if identifier is None else _value(identifier, EXAMPLE_NUMBER),
        "event_timestamp": moment.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
    row |= {
        name: _value(column, EXAMPLE_NUMBER if name in contract.entities else 1)
        for name, column in contract.columns.items()
    }
    reader = TransactionReader(contract)
    while True:
        try:
            reader.read([row], "platform")
        except RequestError as error:
            wrong = {str(problem["loc"][-1]) for problem in error.detail}
            empty = {
                name for name in wrong & row.keys() if name in contract.columns and contract.columns[name].nullable
            }
            empty = {name for name in empty if row[name] is not None}
            if not empty:
                return None
            row |= dict.fromkeys(empty)
        else:
            return row


def example_features(model: LoadedModel, transaction: dict[str, Any] | None) -> dict[str, Any]:
    """Features that the model scores: those of a transaction that nothing came before.

    Args:
        model: names them.
        transaction: as `example_transaction`; numbers are 0 without one.
    """
    texts = {text.name for text in model.manifest.encoding.texts}
    plain: dict[str, Any] = {name: EXAMPLE_TEXT if name in texts else 0.0 for name in model.manifest.features}
    if transaction is None:
        return plain
    batch = model.transactions.read([transaction], "platform")
    moment = batch["event_timestamp"][0].as_py()
    from fraud_assets.core.features.kernel import compute_features

    features = compute_features(
        batch, model.contract.labels_schema().empty_table(), model.contract,
        start=moment, end=moment + timedelta(microseconds=1),
    )  # fmt: skip
    row = {name: _plain(features[name]) for name in model.manifest.features}
    try:
        model.scorer.score_rows(model.rows.features([row]))
    except ScoringError:
        # A model that takes no missing values.
        return plain | {name: value for name, value in row.items() if value is not None}
    return row


def _plain(column: pa.ChunkedArray) -> Any:
    if pa.types.is_boolean(column.type):
        column = pc.cast(column, pa.float64())
    value = column[0].as_py()
    return None if value is None or value != value else value


def _value(column: Column, number: int) -> Any:
    """A value that the column may have, where one can be made up."""
    if column.type in ("integer", "number"):
        low = -math.inf if column.minimum is None else column.minimum
        high = math.inf if column.maximum is None else column.maximum
        if column.type == "number":
            return min(max(42.5, low), high)
        return number if low <= number <= high else math.ceil(low) if low > number else math.floor(high)
    if column.type == "boolean":
        return False
    if column.type == "date":
        return "2025-01-31"
    if column.categories:
        return column.categories[0]
    return _matching(column.pattern) if column.pattern else EXAMPLE_TEXT


def _matching(pattern: str) -> str:
    """A text that a regular expression of the usual parts matches as a whole; else one that it may not match.

    >>> _matching(r"C\\d{4}(-[a-f]+)?")
    'C0000'
    >>> _matching(r"[^@\\s]+@(shop|bank)\\.example")
    'a@shop.example'
    """
    # Python's own parser of patterns, which has no public name.
    parse = import_module("re._parser").parse
    try:
        return _together(parse(pattern))
    except (re.error, ValueError, OverflowError):
        return EXAMPLE_TEXT


def _together(parts: Iterable[tuple[Any, Any]]) -> str:
    return "".join(_part(str(kind), value) for kind, value in parts)


def _part(kind: str, value: Any) -> str:
    """What a part of a pattern takes.

    Raises:
        ValueError: of a part that nothing can be made up for.
    """
    if kind == "LITERAL":
        return chr(value)
    if kind == "AT":
        return ""
    if kind == "BRANCH":
        return _together(value[1][0])
    if kind == "SUBPATTERN":
        return _together(value[3])
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        fewest, _, inner = value
        return _together(inner) * int(fewest)
    if kind in ("ANY", "IN", "NOT_LITERAL"):
        members = value if kind == "IN" else [("NEGATE", None), ("LITERAL", value)]
        named = {str(name) for name, _ in members}
        wanted = [one for one in USUAL if _is_in(one, members) != ("NEGATE" in named)]
        if wanted:
            return wanted[0]
    raise ValueError(f"nothing can be made up for {kind}")


def _is_in(character: str, members: Iterable[tuple[Any, Any]]) -> bool:
    for kind, value in members:
        if str(kind) == "LITERAL" and value == ord(character):
            return True
        if str(kind) == "RANGE" and value[0] <= ord(character) <= value[1]:
            return True
        if str(kind) == "CATEGORY" and CATEGORIES.get(str(value), re.compile("(?!)")).fullmatch(character):
            return True
    return False
