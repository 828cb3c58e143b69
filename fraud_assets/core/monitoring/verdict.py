"""The verdict on a month: what all findings of its drift report mean together.

Whether something moved is said by each finding; whether a retraining follows is decided in `decisions/retraining.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fraud_assets.core.drift.findings import DATA_CAUSES, LABEL_CAUSES, DriftKind, DriftStatus, Finding
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.words import adjusted_p

# A changed world asks for another model; a broken feed for its owner, and labels that come otherwise than they did
# for those who give them.
Blame = Literal["world", "data", "labels"]

NEXT_STEPS: dict[Blame, str] = {
    "world": "the world changed: another model may help",
    "data": "the data look broken: this goes to the owner of the feed, and no model is trained on it",
    "labels": "the labels come otherwise than before: this goes to those who give them, and no model is trained for it",
}
NO_CHAMPION = "the world changed: what a model learns from earlier months may not hold"
# What the month brought in. Where nothing of it could be compared, the month is not OK; what else could not be is
# a remark, or a column that is never there would be watched for ever.
INPUTS: frozenset[DriftKind] = frozenset({"covariate", "missing", "category", "prediction"})
GRAVEST_FIRST: tuple[DriftKind, ...] = (
    "concept", "label", "missing", "category", "covariate", "prediction", "multivariate", "estimate",
)  # fmt: skip
MOST_REASONS = 12


@dataclass(frozen=True)
class Verdict:
    """What a month's findings mean.

    Attributes:
        drift_status: OK, WATCH, DRIFT or INSUFFICIENT_DATA.
        blame: what it comes from, where the status is WATCH or DRIFT.
        reasons: why, the gravest first. The rule of one that is a finding's is the finding's kind.
    """

    drift_status: DriftStatus
    blame: Blame | None
    reasons: tuple[Reason, ...]

    @property
    def asks_for_retraining(self) -> bool:
        """Whether the world changed, so that another model may help; it would learn the fault of broken data."""
        return self.drift_status == "DRIFT" and self.blame == "world"


def next_step(blame: Blame | None, *, has_champion: bool) -> str | None:
    """What comes of a verdict, in words; None where nothing is wrong.

    Args:
        blame: what it comes from.
        has_champion: whether there is a model that another one could replace.
    """
    if blame is None:
        return None
    return NO_CHAMPION if blame == "world" and not has_champion else NEXT_STEPS[blame]


def in_sentences(blame: Blame | None, reasons: Iterable[Reason], *, has_champion: bool) -> list[str]:
    """What people read of a verdict: what comes of it, and why."""
    step = next_step(blame, has_champion=has_champion)
    why = [one.text for one in reasons if one.rule is not Rule.NEXT_STEP]
    return [step, *why] if step else why


def in_short(blame: Blame | None, reasons: Iterable[Reason], *, has_champion: bool) -> str:
    """What comes of a verdict, and the first reason for it, as one line."""
    shown = 1 if next_step(blame, has_champion=has_champion) is None else 2
    return "; ".join(in_sentences(blame, reasons, has_champion=has_champion)[:shown])


def hold(findings: Iterable[Finding], before: Iterable[Finding]) -> tuple[Finding, ...]:
    """Hysteresis: what drifted stays drifted until it is back within the limits of WATCH.

    Args:
        findings: of the month.
        before: of the month before, about the same champion.
    """
    drifted = {_name(finding) for finding in before if finding.status == "DRIFT"}
    return tuple(
        replace(finding, status="DRIFT", reason=f"{finding.reason}; it drifted in the month before and is not back yet")
        if finding.status == "WATCH" and _name(finding) in drifted
        else finding
        for finding in findings
    )


def judge_month(findings: Sequence[Finding]) -> Verdict:
    """Joins a month's findings: the worst status, what it comes from, and why.

    Findings of broken data or late labels explain others of the same status, so they take the blame: frauds that are
    not reported look like a model that got better, and a column that is empty moves every feature made of it.

    Args:
        findings: of every kind, in any order; each kind that could not be looked at has one that says so.
    """
    if not findings:
        return Verdict("INSUFFICIENT_DATA", None, (Reason(Rule.NOTHING_COMPARED, "nothing could be compared"),))
    worst = _worst(findings)
    grave = [finding for finding in findings if finding.status == worst]
    blame = _blame(grave) if worst in ("DRIFT", "WATCH") else None
    shown = sorted(
        (finding for finding in findings if finding.status in ("DRIFT", "WATCH")),
        key=lambda finding: (finding.status != "DRIFT", finding not in _explaining(grave, blame), *_gravity(finding)),
    )
    reasons = [_reason(finding) for finding in shown[:MOST_REASONS]]
    if len(shown) > MOST_REASONS:
        more = f"and {len(shown) - MOST_REASONS} more, in the rows of the report"
        reasons.append(Reason(Rule.MORE_FINDINGS, more))
    if worst == "OK":
        reasons.append(Reason(Rule.NOTHING_MOVED, _quiet(findings)))
    reasons += [_reason(finding) for finding in findings if finding.status == "INSUFFICIENT_DATA"][:MOST_REASONS]
    # What it does to money, and to what the model is there for, is said in quiet months, too.
    reasons += [
        _reason(finding)
        for finding in findings
        if finding.status == "OK" and finding.kind == "concept" and finding.feature in ("average_precision", "cost")
    ]
    # Findings about several features may say the same.
    each = {one.text: one for one in reversed(reasons)}
    return Verdict(worst, blame, tuple(one for one in reasons if each[one.text] is one))


def _reason(finding: Finding) -> Reason:
    return Reason(Rule(finding.kind), finding.reason, finding.feature or None)


def _worst(findings: Sequence[Finding]) -> DriftStatus:
    statuses = {finding.status for finding in findings}
    if "DRIFT" in statuses:
        return "DRIFT"
    if "WATCH" in statuses:
        return "WATCH"
    compared = [finding for finding in findings if finding.kind in INPUTS and finding.status == "OK"]
    asked = any(finding.kind in INPUTS for finding in findings)
    return "OK" if compared or ("OK" in statuses and not asked) else "INSUFFICIENT_DATA"


def _blame(grave: Sequence[Finding]) -> Blame | None:
    causes = {finding.cause for finding in grave}
    if causes & DATA_CAUSES:
        return "data"
    if causes & LABEL_CAUSES:
        return "labels"
    return "world" if grave else None


def _explaining(grave: Sequence[Finding], blame: Blame | None) -> list[Finding]:
    causes = {"data": DATA_CAUSES, "labels": LABEL_CAUSES}.get(blame or "")
    return [finding for finding in grave if causes is None or finding.cause in causes]


def _gravity(finding: Finding) -> tuple[int, float, str]:
    return GRAVEST_FIRST.index(finding.kind), -(finding.psi or 0.0), finding.feature


def _quiet(findings: Sequence[Finding]) -> str:
    tested = [finding.p_adjusted for finding in findings if finding.p_adjusted is not None]
    smallest = f" (smallest {adjusted_p(min(tested))})" if tested else ""
    looked = sum(finding.status == "OK" for finding in findings)
    # A small p is no contradiction: of many rows, a move that is too little to act on is beyond chance, too.
    return f"none of the {looked} checks found a change to act on{smallest}"


def _name(finding: Finding) -> tuple[str, str, str | None]:
    return finding.kind, finding.feature, finding.segment
