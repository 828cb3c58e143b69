"""The ledger: what happened to each model, when, and why; and what follows from it.

Events are facts in order and are never changed: `chain.py` shows whether they are. Storing them belongs to
`adapters/postgres/ledger.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.reasons import Reason, read_reasons

EventKind = Literal[
    "registered", "validated", "refused", "approved", "promoted", "rolled_back", "retired", "erased", "expired",
    "shadow_started", "shadow_ended",
]  # fmt: skip

Metrics: TypeAlias = Mapping[str, Mapping[str, float | None]]
"""Of each metric its `value`, and the bounds of its 95 % interval, `low` and `high`, where they are known."""

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
            month that has been replaced since is still named in `month_versions`, with what that was made of.
        metrics: the figures behind it, by name.
        digests: SHA-256 of what it is about, by name: `model.onnx`, `manifest.json`, and of a promotion the `bento`.
        code_version: the platform's, with its commit and a digest of its sources; None of an event from before.
        libraries: versions of what computes, by name.
        hash: its own, which names the event before it (`chain.py`).
    """

    number: int
    recorded_at: datetime
    kind: EventKind
    model_version: int
    month: str
    reasons: tuple[Reason, ...]
    actor: str
    evidence: Inputs = field(default_factory=dict)
    metrics: Metrics = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    code_version: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    hash: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Event:
        """The event that a row of the ledger says; one from before something was recorded has none of it."""
        return cls(
            number=row["number"],
            recorded_at=row["recorded_at"],
            kind=row["kind"],
            model_version=row["model_version"],
            month=row["month"],
            reasons=read_reasons(row["reasons"]),
            actor=row["actor"],
            evidence=row["evidence"] or {},
            metrics=row["metrics"] or {},
            digests=row["digests"] or {},
            code_version=row["code_version"],
            libraries=row["libraries"] or {},
            hash=row["hash"],
        )

    @property
    def by_hand(self) -> bool:
        """Whether a person decided it."""
        return BY_HAND in self.evidence


def metrics_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The figures that have an interval, of rows of the table `evaluation`, as `role.metric`; unknown ones are None."""
    return {
        f"{row['role']}.{name.removesuffix('_low')}": {
            part: _finite(row.get(name.removesuffix("_low") + ending))
            for part, ending in (("value", ""), ("low", "_low"), ("high", "_high"))
        }
        for row in rows
        for name in row
        if name.endswith("_low") and row.get(name.removesuffix("_low")) is not None
    }


def validation_metrics(figures: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """What a training showed (`Candidate.validation_metrics`), with the interval of a figure beside its value."""
    return {
        name: {
            "value": _finite(value),
            "low": _finite(figures.get(f"{name}_low")),
            "high": _finite(figures.get(f"{name}_high")),
        }
        for name, value in figures.items()
        if not name.endswith(("_low", "_high"))
    }


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


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


DECIDING = ("promoted", "rolled_back", "refused")
"""The kinds of events that may change what is live."""


@dataclass(frozen=True)
class Standing:
    """What follows from the ledger; versions are None where there is none.

    Attributes:
        champion: the version that is live.
        event: the number of the event that made it so; 0 without one. Who decides remembers it, and is told if it is
            another by the time that the decision is carried out.
        previous: the version that a rollback brings back.
        challenger: the newest registered version that has not been retired.
    """

    champion: int | None
    event: int
    previous: int | None
    challenger: int | None


def standing(events: Sequence[Event]) -> Standing:
    """What follows from all events."""
    event = champion_event(events)
    retired = {one.model_version for one in events if one.kind == "retired"}
    registered = [one for one in events if one.kind == "registered" and one.model_version not in retired]
    newest = max(registered, key=lambda one: (one.month, one.number), default=None)
    before = [version for version in live_line(events)[:-1] if version not in retired]
    return Standing(
        champion=event.model_version if event else None,
        event=event.number if event else 0,
        previous=before[-1] if before else None,
        challenger=newest.model_version if newest else None,
    )


def live_line(events: Sequence[Event]) -> list[int]:
    """The versions that were live one after the other, to the one that is, without those that were taken back.

    A version that is promoted comes to the end of the line. Where one is taken back, by a rollback or because its
    month was decided again, the line ends with what is live then: so two rollbacks lead back by two versions, and none
    leads to a version that was rolled back from.
    """
    ordered = sorted(events, key=lambda event: event.number)
    line: list[int] = []
    for place, event in enumerate(ordered, start=1):
        if event.kind not in DECIDING:
            continue
        live = champion_version(ordered[:place])
        if live is None:
            line = []
        elif not line or live != line[-1]:
            if event.kind == "promoted" and event.model_version == live:
                line = [version for version in line if version != live]
            else:
                line = line[: line.index(live) if live in line else -1]
            line.append(live)
    return line
