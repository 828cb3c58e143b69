"""Carrying out a decision: verified and packaged first, then the ledger and the aliases, both or neither.

The ledger is the record, and aliases and serving follow it (`truth.py`). Who decided on a champion that is not the
champion any more is told so, and nothing is changed: what was read is compared inside the transaction that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fraud_assets.adapters.bento import PackagedBento, build_bento
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.signing import open_key
from fraud_assets.core.decisions.chain import Head
from fraud_assets.core.decisions.ledger import (
    BY_HAND,
    Event,
    EventKind,
    Metrics,
    Standing,
    champion_event,
    champion_version,
    standing,
)
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.models.heads import keep_head
from fraud_assets.workflows.models.truth import follow_ledger, name_for_serving
from fraud_assets.workflows.rollout.naming import name_challengers

Package = Callable[[int], PackagedBento]


class ConflictError(PlatformError):
    """What was decided on is not so any more; nothing was changed."""

    exit_code = 3


@dataclass(frozen=True)
class Order:
    """What a person wants.

    Attributes:
        kind: promoted or rolled_back.
        version: which shall be live.
        month: on whose evidence.
        reason: why.
        actor: who.
        known: what followed from the ledger when the person decided.
    """

    kind: EventKind
    version: int
    month: str
    reason: str
    actor: str
    known: Standing


def apply_verdict(
    verdict: PromotionVerdict,
    signals: PromotionSignals,
    ledger: LedgerStore,
    registry: Registry,
    package: Package,
    *,
    actor: str,
    evidence: Inputs,
    metrics: Metrics | None = None,
) -> int | None:
    """Records the verdict on a challenger, and lets the aliases follow.

    A verdict on an older month, as in a backfill, is recorded too but does not displace a later promotion. If on new
    evidence there is nothing left to promote, the month's own earlier promotion is refused.

    Args:
        verdict: of the month.
        signals: what it was decided on.
        ledger: the record.
        registry: has the aliases.
        package: packages a version, or raises; called before anything is promoted.
        actor: who or what decided.
        evidence: for the ledger.
        metrics: likewise, of what was compared.

    Returns:
        The version that was live after the month.

    Raises:
        ConflictError: when another version was live before the month than the verdict compared with.
        LeaseError: when the actor is a run that may not write the month any more.
        LedgerError: when the ledger is not as it was written. Nothing is recorded in any of these cases.
    """
    version, month = signals.challenger_version, signals.month
    packaged = None
    if version is not None and version != signals.champion_version and verdict.promote:
        packaged = package(version)
    with ledger.deciding() as decision:
        now = champion_version(decision.events(), before_month=month)
        if now != signals.champion_version:
            raise ConflictError(
                f"{month} was decided against {_named(signals.champion_version)}, and meanwhile {_named(now)} is live "
                "before it: nothing was recorded; run the month again"
            )
        if version is None:
            decided = champion_event([event for event in decision.events() if event.month == month])
            version = decided.model_version if decided and not decided.by_hand else None
        if version is not None and version != signals.champion_version:
            # What passed may still wait for a person.
            outcome: EventKind = "validated" if verdict.validation_status == "passed" else "refused"
            record = partial(decision.record, actor=actor, evidence=evidence, metrics=metrics)
            record(outcome, version, month, verdict.reasons)
            if packaged is not None:
                record("promoted", version, month, verdict.reasons, digests=packaged.digests)
        follow_ledger(decision, registry)
        live = champion_version(decision.events(), before_month=shift_month(month, 1))
    keep_head(ledger, registry)
    return live


def carry_out(order: Order, ledger: LedgerStore, registry: Registry, package: Package, settings: Settings) -> None:
    """Packages a version, records a person's decision, and lets aliases and serving follow.

    Raises:
        ConflictError: when the champion is another one than the person knew, or the version was retired.
        RegistryError: when the registry has no such version, or does not answer.
        ScoringError: when the version cannot score.
        LedgerError: when the ledger is not as it was written. Nothing is changed in any of these cases.
    """
    packaged = package(order.version)
    with ledger.deciding() as decision:
        _compare(decision.events(), order)
        decision.record(
            order.kind,
            order.version,
            order.month,
            [Reason(Rule.BY_HAND, order.reason)],
            actor=order.actor,
            evidence={BY_HAND: {"after event": str(len(decision.events()))}},
            digests=packaged.digests,
        )
        follow_ledger(decision, registry)
        events = decision.events()
    name_for_serving(events, packaged, order.version, settings)
    name_challengers(events, settings, package)
    keep_head(ledger, registry)


def _compare(events: Sequence[Event], order: Order) -> None:
    """Refuses an order that was given on another state of the ledger, or for a version that was retired."""
    now = standing(events)
    if (now.champion, now.event) != (order.known.champion, order.known.event):
        event = next((one for one in events if one.number == now.event), None)
        by = f" ({event.kind} by {event.actor}, {event.recorded_at:%Y-%m-%d %H:%M} UTC)" if event else ""
        raise ConflictError(
            f"you decided while {_named(order.known.champion)} was champion, and now it is {_named(now.champion)}{by}: "
            "nothing was changed; look at `fraud status`, and decide again"
        )
    if any(event.kind == "retired" and event.model_version == order.version for event in events):
        raise ConflictError(f"version {order.version} was retired, and a retired version does not go live again")


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def package_version(version: int, registry: Registry, settings: Settings, ledger: LedgerStore) -> PackagedBento:
    """Packages a version that can score, or finds its bento. A bento that is built now knows the ledger's head.

    Raises:
        RegistryError: when the registry has no such version, or not all of its files.
        ScoringError: when a file of it was changed, or it gives no probability.
        PackagingError: when the bento cannot be built.
    """
    # The reference is what later months compare it with.
    for part in ("reference", "serving"):
        onnx, manifest = registry.fetch(version, part)
        Scorer(onnx, manifest).probabilities(np.zeros((1, len(manifest.encoding.columns)), dtype=np.float32))
    events = ledger.events()
    labels = {"ledger_head": Head(events[-1].number, events[-1].hash).text} if events else {}
    key = open_key(settings.signing_key_file)
    return build_bento(
        onnx, manifest, bentoml_home=settings.bentoml_home, project_root=PROJECT_ROOT, labels=labels, key=key
    )
