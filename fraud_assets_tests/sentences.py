"""Reasons as people read them, of what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from fraud_assets.core.intake.accept import Intake
from fraud_assets.core.reasons import Reason, Rule, joined, read_reasons, reasons_from_json, reasons_to_json


def said(stored: str | Iterable[Mapping[str, Any]]) -> str:
    """The sentences of one row, joined: of a text column, or of plain values."""
    return joined(reasons_from_json(stored) if isinstance(stored, str) else read_reasons(stored))


def all_said(column: pa.ChunkedArray) -> list[str]:
    """The sentences of each row."""
    return [said(stored) for stored in column.to_pylist()]


def counted(intake: Intake) -> dict[str, int]:
    """How many rows each sentence is said of."""
    return {one.text: rows for one, rows in intake.reason_counts.items()}


def texts(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """The sentences alone."""
    return tuple(one.text for one in reasons)


def because(*sentences: str, rule: Rule = Rule.EARLIER_VERSION, column: str | None = None) -> tuple[Reason, ...]:
    """Reasons in a test to which the rule does not matter, unless it is given."""
    return tuple(Reason(rule, sentence, column) for sentence in sentences)


def stored(*sentences: str, rule: Rule = Rule.EARLIER_VERSION, column: str | None = None) -> str:
    """The same as a table of months keeps them."""
    return reasons_to_json(because(*sentences, rule=rule, column=column))
