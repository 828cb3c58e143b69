"""Carrying out a promotion verdict: verified and packaged first, then the ledger and the alias, both or neither.

The ledger is the record, and the alias follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from fraud_assets.adapters.bento import PackagedBento, build_bento
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerDecision, LedgerStore
from fraud_assets.core.decisions.chain import Head
from fraud_assets.core.decisions.ledger import BY_HAND, EventKind, Metrics, champion_event, champion_version
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.models.heads import keep_head

Package = Callable[[int], PackagedBento]


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
    """Records the verdict on a challenger, and points the alias to what is live.

    A verdict on an older month, as in a backfill, is recorded too but does not displace a later promotion. If on new
    evidence there is nothing left to promote, the month's own earlier promotion is refused.

    Args:
        verdict: of the month.
        signals: what it was decided on.
        ledger: the record.
        registry: has the alias.
        package: packages a version, or raises; called before anything is promoted.
        actor: who or what decided.
        evidence: for the ledger.
        metrics: likewise, of what was compared.

    Returns:
        The version that was live after the month.
    """
    version, month = signals.challenger_version, signals.month
    packaged = None
    if version is not None and version != signals.champion_version and verdict.promote:
        packaged = package(version)
    with ledger.deciding() as decision:
        if version is None:
            standing = champion_event([event for event in decision.events() if event.month == month])
            version = standing.model_version if standing and not standing.by_hand else None
        if version is not None and version != signals.champion_version:
            outcome: EventKind = "validated" if verdict.promote else "refused"
            record = partial(decision.record, actor=actor, evidence=evidence, metrics=metrics)
            record(outcome, version, month, verdict.reasons)
            if packaged is not None:
                record("promoted", version, month, verdict.reasons, digests=packaged.digests)
        follow_ledger(decision, registry)
        live = champion_version(decision.events(), before_month=shift_month(month, 1))
    keep_head(ledger, registry)
    return live


def promote_by_hand(
    version: int, month: str, reason: str, ledger: LedgerStore, registry: Registry, package: Package, *, actor: str
) -> None:
    """Packages a version, records a person's promotion on the evidence of `month`, and points the alias to it.

    Raises:
        RegistryError: when the registry has no such version.
        ScoringError: when the version cannot score; nothing is changed then.
    """
    packaged = package(version)
    with ledger.deciding() as decision:
        number = len(decision.events())
        evidence = {BY_HAND: {"after event": str(number)}}
        reasons = [Reason(Rule.BY_HAND, reason)]
        decision.record("promoted", version, month, reasons, actor=actor, evidence=evidence, digests=packaged.digests)
        follow_ledger(decision, registry)
    keep_head(ledger, registry)


def follow_ledger(ledger: LedgerDecision, registry: Registry) -> None:
    """Points the alias `champion` to the ledger's champion; repairs an alias that a crash left behind."""
    live = champion_version(ledger.events())
    if live is not None:
        registry.promote(live)


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
    return build_bento(onnx, manifest, bentoml_home=settings.bentoml_home, project_root=PROJECT_ROOT, labels=labels)
