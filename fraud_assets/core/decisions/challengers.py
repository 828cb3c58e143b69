"""Which versions the ledger names as challengers, since when, and with which share.

What a challenger is belongs to `rollout/challengers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fraud_assets.core.decisions.approval import PromotionMode
from fraud_assets.core.decisions.ledger import Event, champion_version, standing
from fraud_assets.core.rollout.challengers import LARGEST_SHARE

SHARE = "challenger"
"""The name of the evidence that has the share."""


@dataclass(frozen=True)
class NamedChallenger:
    """A version that scores beside the champion.

    Attributes:
        version: which.
        share: of the entities, whom it answers.
        since: when it began; None where the mode of promotion says so and no person did.
        actor: who said so; empty likewise.
        key: chooses the entities: the hash of the ledger's row with which it began. So they stay the same when the
            share grows, and are others with the next challenger.
    """

    version: int
    share: float = 0.0
    since: datetime | None = None
    actor: str = ""
    key: str = ""


def named_challengers(events: Sequence[Event], mode: PromotionMode) -> list[NamedChallenger]:
    """The challengers, in the order in which they began.

    A version that goes live, or is retired, is one no more. In the mode `shadow`, the newest version is one without
    anybody's word, as long as there is room.

    Args:
        events: of the ledger.
        mode: what becomes of a model that passed.
    """
    found: dict[int, NamedChallenger] = {}
    for event in sorted(events, key=lambda one: one.number):
        version = event.model_version
        if event.kind == "shadow_started":
            share = float((event.evidence.get(SHARE) or {}).get("share") or 0)
            before = found.get(version)
            since, key = (before.since, before.key) if before else (event.recorded_at, event.hash)
            found[version] = NamedChallenger(version, share, since, event.actor, key)
        elif event.kind in ("shadow_ended", "retired", "promoted", "rolled_back"):
            found.pop(version, None)
    live = champion_version(events)
    named = [one for one in found.values() if one.version != live]
    newest = standing(events).challenger
    if (
        mode.mode == "shadow"
        and newest is not None
        and newest not in (live, *found)
        and len(named) < mode.shadow_models
    ):
        named.append(NamedChallenger(newest))
    return named


def why_not(events: Sequence[Event], mode: PromotionMode, version: int, share: float) -> str | None:
    """Why a version cannot be a challenger with a share; None where it can."""
    if not 0 <= share <= LARGEST_SHARE:
        return f"a share of {share:g} cannot be: it is 0 to {LARGEST_SHARE:g}"
    if (live := champion_version(events)) is None:
        return "no model is live, so there is nothing to compare with; use `fraud run`"
    if version == live:
        return f"version {version} is live already"
    if any(one.kind == "retired" and one.model_version == version for one in events):
        return f"version {version} was retired"
    if not any(one.kind == "registered" and one.model_version == version for one in events):
        return f"the ledger knows no version {version}; `fraud ledger` names those there are"
    others = [one for one in named_challengers(events, mode) if one.version != version and one.since is not None]
    if len(others) >= mode.shadow_models:
        names = ", ".join(str(one.version) for one in others)
        return (
            f"{mode.shadow_models} challengers are the most (FRAUD_SHADOW_MODELS), and versions {names} are; end one "
            "of them first"
        )
    if sum(one.share for one in others) + share > LARGEST_SHARE:
        return f"with those of the others, the shares come to more than {LARGEST_SHARE:g}; make one of them smaller"
    return None
