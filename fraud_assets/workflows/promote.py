"""Carrying out a promotion verdict: the ledger first, which is the record, then the alias, which follows it."""

from __future__ import annotations

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.ledger import BY_HAND, EventKind, champion_event, champion_version
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import Reason, Rule


def apply_verdict(
    verdict: PromotionVerdict,
    signals: PromotionSignals,
    ledger: LedgerStore,
    registry: Registry,
    *,
    actor: str,
    evidence: Inputs,
) -> int | None:
    """Records the verdict on a challenger, and points the alias to what is live.

    A verdict on an older month, as in a backfill, is recorded too but does not displace a later promotion. If on new
    evidence there is nothing left to promote, the month's own earlier promotion is refused.

    Returns:
        The version that was live after the month.
    """
    version, month = signals.challenger_version, signals.month
    if version is None:
        standing = champion_event([event for event in ledger.events() if event.month == month])
        version = standing.model_version if standing and not standing.by_hand else None
    if version is not None and version != signals.champion_version:
        outcome: EventKind = "validated" if verdict.promote else "refused"
        ledger.record(outcome, version, month, verdict.reasons, actor=actor, evidence=evidence)
        if verdict.promote:
            ledger.record("promoted", version, month, verdict.reasons, actor=actor, evidence=evidence)
    follow_ledger(ledger, registry)
    return champion_version(ledger.events(), before_month=shift_month(month, 1))


def promote_by_hand(
    version: int, month: str, reason: str, ledger: LedgerStore, registry: Registry, *, actor: str
) -> None:
    """Records a person's promotion on the evidence of `month`, and points the alias to it.

    Raises:
        RegistryError: when the registry has no such version.
    """
    registry.fetch(version)
    number = len(ledger.events())
    reasons = [Reason(Rule.BY_HAND, reason)]
    ledger.record("promoted", version, month, reasons, actor=actor, evidence={BY_HAND: {"after event": str(number)}})
    follow_ledger(ledger, registry)


def follow_ledger(ledger: LedgerStore, registry: Registry) -> None:
    """Points the alias `champion` to the ledger's champion; repairs an alias that a crash left behind."""
    live = champion_version(ledger.events())
    if live is not None:
        registry.promote(live)
