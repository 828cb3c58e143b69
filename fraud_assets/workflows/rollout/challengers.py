"""Challengers: named by a person in the ledger or by the mode of promotion, and told to services by a file.

Which there are belongs to `core/decisions/challengers.py`, what services do with them to
`bentos/fraud_scorer/challengers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from fraud_assets.adapters.live_bento import read_challengers
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.challengers import SHARE, NamedChallenger, named_challengers, why_not
from fraud_assets.core.decisions.ledger import BY_HAND, Event, champion_event
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.heads import keep_head
from fraud_assets.workflows.models.promote import package_version
from fraud_assets.workflows.rollout.naming import name_challengers


def start_challenger(
    settings: Settings, store: MonthStore, version: int, share: float, reason: str, *, actor: str
) -> None:
    """Lets a version score beside the champion, and answer a share of the entities; or changes its share.

    Args:
        settings: of the home.
        store: the tables.
        version: which.
        share: of the entities; 0 for shadow alone.
        reason: why; for the ledger.
        actor: who says so.

    Raises:
        ValueError: when it cannot be a challenger; the message says why.
        RegistryError: when the registry has no such version.
        PackagingError: when it cannot be packaged. Nothing is changed in these cases.
    """
    ledger, registry = LedgerStore(store.database, settings.ledger_head_file), Registry(settings)
    package = partial(package_version, registry=registry, settings=settings, ledger=ledger)
    if (why := why_not(ledger.events(), settings.promotion_mode, version, share)) is not None:
        raise ValueError(f"{why}: nothing was changed")
    package(version)
    with ledger.deciding() as decision:
        events = decision.events()
        if (why := why_not(events, settings.promotion_mode, version, share)) is not None:
            raise ValueError(f"{why}: nothing was changed")
        evidence = {BY_HAND: {"after event": str(len(events))}, SHARE: {"share": f"{share:g}"}}
        decision.record(
            "shadow_started", version, _month(events), [Reason(Rule.BY_HAND, reason)], actor=actor, evidence=evidence
        )
        events = decision.events()
    keep_head(ledger, registry)
    name_challengers(events, settings, package)


def end_challenger(settings: Settings, store: MonthStore, version: int, reason: str, *, actor: str) -> None:
    """Lets a version score no more beside the champion.

    Raises:
        ValueError: when it does not.
    """
    ledger, registry = LedgerStore(store.database, settings.ledger_head_file), Registry(settings)
    package = partial(package_version, registry=registry, settings=settings, ledger=ledger)
    with ledger.deciding() as decision:
        events = decision.events()
        named = {one.version: one for one in named_challengers(events, settings.promotion_mode)}
        if version not in named:
            raise ValueError(f"version {version} is no challenger; `fraud challengers` names those there are")
        if named[version].since is None:
            raise ValueError(
                f"version {version} is a challenger because FRAUD_PROMOTION is shadow; set that to another mode, or "
                "wait for the next month's version"
            )
        evidence = {BY_HAND: {"after event": str(len(events))}}
        decision.record(
            "shadow_ended", version, _month(events), [Reason(Rule.BY_HAND, reason)], actor=actor, evidence=evidence
        )
        events = decision.events()
    keep_head(ledger, registry)
    name_challengers(events, settings, package)


def read_status_of_challengers(store: MonthStore, events: Sequence[Event], settings: Settings) -> list[dict[str, Any]]:
    """Each challenger with how far it is: see `_told`."""
    named = named_challengers(events, settings.promotion_mode)
    if not named:
        return []
    progress = {
        row[0]: row[1:]
        for row in store.database.rows(
            "shadow_progress",
            "SELECT model_version, n_scored, n_failed, n_late, n_behind, updated_at, said, "
            "(SELECT coalesce(max(number), 0) FROM scored_transactions) - number FROM shadow_progress",
        )
    }
    told = read_challengers(settings.bentoml_home)
    there = {one.model_version for one in told.models} if told else set()
    compared = _newest_comparisons(store)
    return [_told(one, progress.get(one.version), one.version in there, compared.get(one.version)) for one in named]


def _told(
    one: NamedChallenger, progress: Sequence[Any] | None, is_told: bool, compared: dict[str, Any] | None
) -> dict[str, Any]:
    """A challenger as plain values."""
    n_scored, n_failed, n_late, n_behind, at, said, waiting = progress or (0, 0, 0, 0, None, None, 0)
    dropped = {"failed": n_failed, "late": n_late, "behind": n_behind}
    lost = ", ".join(f"{n:,} {why}" for why, n in dropped.items() if n)
    sentence = f"version {one.version} scores in the shadow: {n_scored:,} transactions"
    sentence += f", {max(waiting, 0):,} wait" if waiting > 0 else ""
    sentence += f"; not scored: {lost}" if lost else ""
    if one.share:
        sentence += f"; it answers {one.share:.3g} of all"
    if not is_told:
        sentence = f"version {one.version} shall score in the shadow, and services are not told; use `fraud reconcile`"
    return {
        "version": one.version, "share": one.share, "since": one.since, "actor": one.actor, "n_scored": n_scored,
        **{f"n_{name}": n for name, n in dropped.items()}, "scored_at": at, "problem": said, "sentence": sentence,
        "comparison": compared,
    }  # fmt: skip


def _newest_comparisons(store: MonthStore) -> dict[int, dict[str, Any]]:
    """The newest month's comparison of each challenger."""
    found: dict[int, dict[str, Any]] = {}
    for row in store.read("challenger_comparison").to_pylist():
        found[row["challenger_version"]] = row
    return found


def _month(events: Sequence[Event]) -> str:
    """The month on whose evidence the champion is live."""
    event = champion_event(events)
    if event is None:
        raise ValueError("no model is live, so there is nothing to compare with; use `fraud run`")
    return event.month
