"""The ledger: what happened to each model, when, and why; and what follows from it.

Events are facts in order and are never changed. Storing them belongs to `adapters/ledger_store.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

EventKind = Literal["registered", "validated", "refused", "approved", "promoted", "rolled_back", "retired"]


@dataclass(frozen=True)
class Event:
    """One entry.

    Attributes:
        number: its place in the ledger, from 1.
        recorded_at: when it was written.
        kind: what happened.
        model_version: to which version.
        month: the month on whose evidence; a model trained at the end of M is decided on in a later month.
        reasons: why, as sentences.
        actor: who or what did it.
    """

    number: int
    recorded_at: datetime
    kind: EventKind
    model_version: int
    month: str
    reasons: str
    actor: str


def champion_version(events: Sequence[Event], before_month: str | None = None) -> int | None:
    """The version that is live after all events, or was before the decision of a month.

    Time here is the time of the evidence: a decision of an earlier month that is written later, as in a backfill,
    does not displace one of a later month.

    Args:
        events: any, in any order.
        before_month: only decisions on months before this one; all when absent.
    """
    return event.model_version if (event := champion_event(events, before_month)) else None


def champion_event(events: Sequence[Event], before_month: str | None = None) -> Event | None:
    """The event that made the champion what it is; see `champion_version`."""
    moves = [event for event in events if event.kind in ("promoted", "rolled_back")]
    if before_month is not None:
        moves = [event for event in moves if event.month < before_month]
    return max(moves, key=lambda event: (event.month, event.number), default=None)
