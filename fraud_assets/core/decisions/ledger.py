"""The ledger: what happened to each model, when, and why; and what follows from it.

Events are facts in order and are never changed. Storing them belongs to `adapters/postgres/ledger.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.reasons import Reason

EventKind = Literal["registered", "validated", "refused", "approved", "promoted", "rolled_back", "retired"]

BY_HAND = "by hand"
"""The name of the evidence of a person's decision."""


@dataclass(frozen=True)
class Event:
    """One entry.

    Attributes:
        number: its place in the ledger, from 1.
        recorded_at: when it was written.
        kind: what happened.
        model_version: to which version.
        month: the month on whose evidence; a model trained at the end of M is decided on in a later month.
        reasons: why.
        actor: who or what did it.
        evidence: what it was decided on, by name: table to month to digest (`lineage/staleness.py`). A version of a
        month
            that has been replaced since is still named in `month_versions`, with what that was made of.
    """

    number: int
    recorded_at: datetime
    kind: EventKind
    model_version: int
    month: str
    reasons: tuple[Reason, ...]
    actor: str
    evidence: Inputs = field(default_factory=dict)

    @property
    def by_hand(self) -> bool:
        """Whether a person decided it."""
        return BY_HAND in self.evidence


def champion_version(events: Sequence[Event], before_month: str | None = None) -> int | None:
    """The version that is live after all events, or was before the decision of a month.

    Time here is the time of the evidence: a decision of an earlier month that is written later, as in a backfill,
    does not displace one of a later month. Of two decisions of one month, as when it was decided again on labels that
    arrived late, the later one counts, and with a refusal what was live before the month stays live; but what a person
    decided about a month stands against the platform.

    Args:
        events: any, in any order.
        before_month: only decisions on months before this one; all when absent.
    """
    return event.model_version if (event := champion_event(events, before_month)) else None


def champion_event(events: Sequence[Event], before_month: str | None = None) -> Event | None:
    """The event that made the champion what it is; see `champion_version`."""
    standing: dict[str, Event | None] = {}
    for event in sorted(events, key=lambda event: event.number):
        decided = standing.get(event.month)
        if event.kind not in ("promoted", "rolled_back", "refused") or (before_month and event.month >= before_month):
            continue
        if decided is None or event.by_hand or not decided.by_hand:
            standing[event.month] = None if event.kind == "refused" else event
    moves = [event for event in standing.values() if event is not None]
    return max(moves, key=lambda event: event.month, default=None)
