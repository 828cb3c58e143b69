"""Who has to say yes before a model that passed goes live: nobody, a person, time, or nobody may.

Whether it passed belongs to `promotion.py`, storing what waits to `adapters/postgres/approvals.py`, carrying out what a
person said to `workflows/models/approve.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from fraud_assets.core.decisions.promotion import PromotionVerdict
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.rollout.challengers import USUAL_CHALLENGERS

Mode = Literal["automatic", "approval", "shadow", "never"]
Answer = Literal["approved", "rejected", "withdrawn"]
State = Literal["waiting", "approved", "rejected", "withdrawn", "expired", "overtaken"]


@dataclass(frozen=True)
class PromotionMode:
    """What becomes of a model that passed.

    Attributes:
        mode: automatic: it goes live. approval: it waits for a person. shadow: it goes live, but is compared with the
            champion only on transactions from after it was registered. never: it stays where it is.
        approval_days: how long it waits for a person.
        shadow_days: of transactions that the comparison needs, in shadow.
        shadow_models: how many versions may be challengers at once.
    """

    mode: Mode = "automatic"
    approval_days: int = 14
    shadow_days: int = 30
    shadow_models: int = USUAL_CHALLENGERS

    def __post_init__(self) -> None:
        if self.approval_days < 1 or self.shadow_days < 1:
            raise ValueError(f"{self} cannot be: approval_days and shadow_days are 1 or more")


@dataclass(frozen=True)
class Request:
    """A version that passed and waits for a person, or waited.

    Attributes:
        number: from 1, in order.
        requested_at, expires_at: from when to when it waits.
        model_version: which.
        champion_version: what was live when it was compared; None when nothing was.
        month: on whose evidence it passed.
        evidence: a digest of that.
        reasons: why it passed.
        answer: what was said; None while nothing was.
        answered_at, actor, reason: when, by whom, and why.
    """

    number: int
    requested_at: datetime
    expires_at: datetime
    model_version: int
    champion_version: int | None
    month: str
    evidence: str
    reasons: tuple[Reason, ...]
    answer: Answer | None = None
    answered_at: datetime | None = None
    actor: str | None = None
    reason: str | None = None

    def state(self, now: datetime, live: int | None) -> State:
        """What it is at a moment.

        Args:
            now: the moment.
            live: the version that is live then. What was compared with another one says nothing any more.
        """
        if self.answer is not None:
            return self.answer
        if live != self.champion_version:
            return "overtaken"
        return "expired" if now >= self.expires_at else "waiting"


class ApprovalError(ValueError):
    """There is nothing to approve or to reject; the message says what there is."""


def waiting(requests: Iterable[Request], now: datetime, live: int | None) -> list[Request]:
    """What waits for a person, oldest first; of a version that was asked for again, the newest request."""
    newest = {one.model_version: one for one in sorted(requests, key=lambda one: one.number)}
    return [one for one in newest.values() if one.state(now, live) == "waiting"]


def to_answer(requests: Sequence[Request], version: int, now: datetime, live: int | None) -> Request:
    """The request that an answer about a version is about.

    Raises:
        ApprovalError: when the version does not wait.
    """
    of_version = [one for one in requests if one.model_version == version]
    if not of_version:
        others = ", ".join(f"version {one.model_version}" for one in waiting(requests, now, live))
        raise ApprovalError(f"version {version} does not wait for an approval; {others or 'nothing'} does")
    newest = max(of_version, key=lambda one: one.number)
    state = newest.state(now, live)
    if state == "waiting":
        return newest
    again = f"run {newest.month} again to ask once more"
    why = {
        "overtaken": f"it was compared with {_named(newest.champion_version)}, and {_named(live)} is live now; the "
        "next month compares it again",
        "expired": f"it waited until {newest.expires_at:%Y-%m-%d %H:%M} UTC; {again}",
        "withdrawn": f"{newest.month} was decided again, and it did not pass",
        "approved": f"{newest.actor} approved it already",
        "rejected": f"{newest.actor} rejected it: {newest.reason}",
    }[state]
    raise ApprovalError(f"version {version} does not wait for an approval any more: {why}")


def hold(verdict: PromotionVerdict, mode: PromotionMode) -> PromotionVerdict:
    """The verdict as the mode allows: what passed is not promoted by itself where a person decides, or nobody may."""
    if not verdict.promote or mode.mode in ("automatic", "shadow"):
        return verdict
    rule, said = {
        "approval": (Rule.NEEDS_APPROVAL, "It goes live when a person approves it (FRAUD_PROMOTION is approval)."),
        "never": (Rule.PROMOTION_OFF, "Nothing goes live by itself (FRAUD_PROMOTION is never)."),
    }[mode.mode]
    return replace(verdict, promote=False, reasons=(*verdict.reasons, Reason(rule, said)))


def _named(version: int | None) -> str:
    return "nothing" if version is None else f"version {version}"
