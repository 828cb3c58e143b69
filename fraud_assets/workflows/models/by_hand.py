"""What a person does about the live model: promote a version, go back to the one before, repair what disagrees."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import EventKind, Standing, champion_event, standing
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.promote import ConflictError, Order, carry_out, package_version
from fraud_assets.workflows.models.truth import reconcile


def promote(
    settings: Settings, store: MonthStore, version: int, reason: str, *, actor: str, champion: int | None = None
) -> str:
    """Makes a version champion on the newest decided month, and names its bento for serving.

    Args:
        settings: of the home.
        store: the tables.
        version: which.
        reason: why.
        actor: who.
        champion: the champion that the person knows of; without it, the one that there is now.

    Returns:
        The month.

    Raises:
        ValueError: when no month has been decided yet, or the version cannot score.
        ConflictError: when the champion is another one than the person knew. Nothing is changed then.
    """
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    known = standing(ledger.events())
    if champion is not None and champion != known.champion:
        now = "no version" if known.champion is None else f"version {known.champion}"
        raise ConflictError(f"you named version {champion} as champion, and {now} is: nothing was changed")
    return _decide(settings, store, ledger, "promoted", version, reason, actor, known)


def roll_back(
    settings: Settings, store: MonthStore, reason: str, *, actor: str, version: int | None = None
) -> tuple[int, str]:
    """Makes the champion before this one champion again, or the version that is named, without training anything.

    Returns:
        The version, and the month on whose evidence it is live.

    Raises:
        ValueError: when there is nothing to go back to, or the version was never live, or is live.
        ConflictError: when the champion changed meanwhile. Nothing is changed in these cases.
    """
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    events = ledger.events()
    known = standing(events)
    if known.champion is None:
        raise ValueError("no model is live, so there is nothing to go back from; use `fraud run`")
    target = version if version is not None else known.previous
    if target is None:
        raise ValueError(
            f"version {known.champion} is the first that was ever live, so there is none to go back to; "
            "`fraud promote` makes any registered version champion"
        )
    if target == known.champion:
        raise ValueError(f"version {target} is live already; name another one with --to")
    if not any(event.kind in ("promoted", "rolled_back") and event.model_version == target for event in events):
        raise ValueError(f"version {target} was never live, so it is no way back to it; use `fraud promote {target}`")
    return target, _decide(settings, store, ledger, "rolled_back", target, reason, actor, known)


def repair(settings: Settings, store: MonthStore, *, actor: str) -> dict[str, Any]:
    """Makes aliases and serving follow the ledger; see `truth.reconcile`."""
    ledger, registry = LedgerStore(store.database, settings.ledger_head_file), Registry(settings)
    month = _month(store, ledger) or settings.loaded_contract.first_month
    package = _package(settings, registry, ledger)
    return reconcile(ledger, registry, settings, package, month=month, actor=actor)


def _decide(
    settings: Settings, store: MonthStore, ledger: LedgerStore, kind: EventKind, version: int, reason: str, actor: str,
    known: Standing,
) -> str:  # fmt: skip
    month = _month(store, ledger)
    if month is None:
        raise ValueError("no month has been evaluated yet, so there is nothing to promote on; use `fraud run`")
    registry = Registry(settings)
    order = Order(kind, version, month, reason, actor, known)
    carry_out(order, ledger, registry, _package(settings, registry, ledger), settings)
    return month


def _package(settings: Settings, registry: Registry, ledger: LedgerStore) -> Callable[[int], Any]:
    return partial(package_version, registry=registry, settings=settings, ledger=ledger)


def _month(store: MonthStore, ledger: LedgerStore) -> str | None:
    """The newest month on which something was decided: what a person decides now is decided on its evidence."""
    live = champion_event(ledger.events())
    return max([*store.months("champion"), *([live.month] if live else [])], default=None)
