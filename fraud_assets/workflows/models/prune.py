"""Pruning: old models, packages, reports and runs are found, chosen by age and count, said in the ledger, and removed.

What may go is decided in `core/decisions/retention.py`. The ledger is told first: what is said to be gone and is still
there, because the process was killed in between, goes with the next pruning.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterInstance, RunsFilter

from fraud_assets.adapters.bento import BENTO_NAME
from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.approvals import read_requests
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.approval import waiting
from fraud_assets.core.decisions.challengers import named_challengers
from fraud_assets.core.decisions.ledger import BY_HAND, Event, standing
from fraud_assets.core.decisions.retention import Choice, Kept, Kind, Rules, choose, in_words
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.heads import keep_head

OVER = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
NO_MODEL = 0
"""The version of an event that is about reports, packages and runs, and of no model."""

# Dagster looks up when a month was made last; a run that made what is there stays, or the month would count as missing.
NEWEST_RUNS = """
SELECT DISTINCT run_id FROM (
    SELECT DISTINCT ON (asset_key, partition) run_id FROM dagster.event_logs
    WHERE dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY asset_key, partition, id DESC
) AS newest
"""

JUDGED = """
SELECT DISTINCT model_version FROM evaluation
WHERE role IN ('challenger', 'waiting') AND model_version IS NOT NULL AND month = (SELECT max(month) FROM evaluation)
"""


def find_and_prune(settings: Settings, database: Database, rules: Rules, *, actor: str | None) -> list[Choice]:
    """What there is and what becomes of it; with an actor, what may go is removed.

    Args:
        settings: of the home.
        database: of the settings.
        rules: age and count.
        actor: who asks for it to be removed; None to look only.

    Returns:
        All choices; of those that go, with an actor, the ones that are gone.
    """
    ledger, registry = LedgerStore(database, settings.ledger_head_file), Registry(settings)
    with open_instance(settings) as instance:
        choices = find_prunable(settings, ledger, registry, instance, rules, datetime.now(UTC))
        if actor is None:
            return choices
        gone = prune(choices, settings, ledger, registry, instance, actor=actor)
    keep_head(ledger, registry)
    return [choice for choice in choices if not choice.goes or choice in gone]


def find_prunable(
    settings: Settings, ledger: LedgerStore, registry: Registry, instance: DagsterInstance, rules: Rules, now: datetime
) -> list[Choice]:
    """Every model, package, report and run there is, and whether it may go; nothing is changed.

    Args:
        settings: of the home.
        ledger: says what is live, and since when each version is known.
        registry: has the models.
        instance: has the runs.
        rules: age and count.
        now: what ages count to.

    Raises:
        LedgerError: when the ledger is not as it was written: then nothing may go.
        RegistryError: when MLflow does not answer.
    """
    events = ledger.events()
    things = [
        *_models(events, registry),
        *_bentos(settings.bentoml_home),
        *_reports(settings.reports),
        *_runs(instance, settings.dagster_home),
    ]
    newest = {run for (run,) in ledger.database.rows("ledger", NEWEST_RUNS)}
    compared = _compared(settings, ledger, events, now)
    protected = _protected(events, things, now - timedelta(days=rules.days), compared)
    protected |= {("run", run): "it made what is stored of some month" for run in newest}
    return choose(things, rules, now, protected)


def prune(
    choices: Sequence[Choice],
    settings: Settings,
    ledger: LedgerStore,
    registry: Registry,
    instance: DagsterInstance,
    *,
    actor: str,
) -> list[Choice]:
    """Says in the ledger what goes, and removes it.

    Args:
        choices: as `find_prunable` gives them.
        settings: of the home.
        ledger: is told, as events of kind `retired`.
        registry: loses the models.
        instance: loses the runs.
        actor: who asks.

    Returns:
        What is gone.

    Raises:
        LedgerError: when the ledger is not as it was written; nothing is removed then.
    """
    gone = [choice for choice in choices if choice.goes]
    if not gone:
        return []
    with ledger.deciding() as decision:
        events = decision.events()
        # Somebody may have promoted one of them since it was looked at.
        compared = _compared(settings, ledger, events, datetime.now(UTC))
        used = _protected(events, [one.kept for one in gone], datetime.max.replace(tzinfo=UTC), compared)
        gone = [choice for choice in gone if (choice.kept.kind, choice.kept.name) not in used]
        months = {event.model_version: event.month for event in events}
        last = max(months.values(), default=f"{datetime.now(UTC):%Y-%m}")
        number = {BY_HAND: {"after event": str(len(events))}}
        for choice in gone:
            if choice.kept.kind == "model" and choice.kept.version is not None:
                version = choice.kept.version
                why = [Reason(Rule.PRUNED, f"Removed from the registry: {choice.why}.")]
                decision.record("retired", version, months.get(version, last), why, actor=actor, evidence=number)
        if other := [choice for choice in gone if choice.kept.kind != "model"]:
            named = ", ".join(choice.kept.name for choice in other if choice.kept.kind != "run")
            why = [Reason(Rule.PRUNED, f"Removed: {in_words(other)}{f' ({named})' if named else ''}.")]
            decision.record("retired", NO_MODEL, last, why, actor=actor, evidence=number)
    for choice in gone:
        _remove(choice.kept, settings, registry, instance)
    return gone


def as_row(choice: Choice) -> dict[str, Any]:
    """A choice as plain values: `kind`, `name`, `since`, `size` in bytes, `goes`, `why`."""
    kept = choice.kept
    return {
        "kind": kept.kind, "name": kept.name, "since": kept.since, "size": kept.size, "goes": choice.goes,
        "why": choice.why,
    }  # fmt: skip


def _compared(settings: Settings, ledger: LedgerStore, events: Sequence[Event], now: datetime) -> dict[int, str]:
    """The versions that may still become champion, and what they are: judged in the newest month, or waiting."""
    live = standing(events).champion
    versions = {version: "compared with the champion" for (version,) in ledger.database.rows("evaluation", JUDGED)}
    if settings.promotion_mode.mode == "shadow":
        known = {event.model_version for event in events}
        versions |= {version: "in shadow" for version in known if version > (live or NO_MODEL)}
    versions |= {one.version: "a challenger" for one in named_challengers(events, settings.promotion_mode)}
    asked = waiting(read_requests(ledger.database), now, live)
    return versions | {request.model_version: "waiting for a person" for request in asked}


def _protected(
    events: Sequence[Event], things: Iterable[Kept], edge: datetime, compared: Mapping[int, str]
) -> dict[tuple[Kind, str], str]:
    """What stays whatever its age, and why: models that are in use, compared, or named by an event since the edge."""
    found = standing(events)
    why = {
        version: f"version {version} is named by the ledger's event {event.number} of {event.recorded_at:%Y-%m-%d}"
        for event in events
        if event.recorded_at >= edge and event.kind != "retired"
        for version in [event.model_version]
    }
    why |= {version: f"version {version} is {use}" for version, use in compared.items()}
    used = {"the challenger": found.challenger, "what a rollback brings back": found.previous, "live": found.champion}
    why |= {version: f"version {version} is {use}" for use, version in used.items() if version is not None}
    return {(one.kind, one.name): why[one.version] for one in things if one.version in why}


def _models(events: Sequence[Event], registry: Registry) -> list[Kept]:
    """The versions in the registry, each since the last that the ledger says of it."""
    said = {event.model_version: event.recorded_at for event in events if event.kind != "retired"}
    # A version that the ledger knows nothing of may be one that is being trained: `fraud reconcile` looks after those.
    return [
        Kept("model", str(version), said[version], registry.size_of(version), version)
        for version in sorted(registry.seen().versions)
        if version in said
    ]


def _bentos(bentoml_home: Path) -> list[Kept]:
    found = []
    for folder in sorted((bentoml_home / "bentos" / BENTO_NAME).glob("v*-*")):
        number = folder.name[1:].partition("-")[0]
        version = int(number) if number.isdigit() else None
        found.append(Kept("bento", f"{BENTO_NAME}:{folder.name}", _changed(folder), _size(folder), version))
    return found


def _reports(folder: Path) -> list[Kept]:
    return [Kept("report", file.name, _changed(file), file.stat().st_size) for file in sorted(folder.glob("*.html"))]


def _runs(instance: DagsterInstance, home: Path) -> list[Kept]:
    """The runs that are over; one that goes on, or waits, is not even looked at."""
    return [
        Kept(
            "run",
            record.dagster_run.run_id,
            record.update_timestamp,
            _size(home / "storage" / record.dagster_run.run_id),
        )
        for record in instance.get_run_records(RunsFilter(statuses=OVER))
    ]


def _remove(kept: Kept, settings: Settings, registry: Registry, instance: DagsterInstance) -> None:
    """Removes one thing; one that is gone already is no error."""
    if kept.kind == "model" and kept.version is not None:
        registry.remove(kept.version)
    elif kept.kind == "bento":
        shutil.rmtree(settings.bentoml_home / "bentos" / kept.name.replace(":", "/"), ignore_errors=True)
    elif kept.kind == "report":
        (settings.reports / kept.name).unlink(missing_ok=True)
    elif kept.kind == "run":
        instance.delete_run(kept.name)
        shutil.rmtree(settings.dagster_home / "storage" / kept.name, ignore_errors=True)


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; 0 where there is none."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total
