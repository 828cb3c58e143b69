"""Who says which model is live: gathered, compared with the ledger, and made to follow it.

What disagrees, and in which words, belongs to `core/decisions/truth.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any

from fraud_assets.adapters.bento import PackagedBento
from fraud_assets.adapters.live_bento import read_live, read_services, write_live
from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.ledger import LedgerDecision, LedgerStore
from fraud_assets.adapters.postgres.run_processes import run_lives
from fraud_assets.core.decisions.chain import LedgerError
from fraud_assets.core.decisions.ledger import BY_HAND, Event, champion_event, standing
from fraud_assets.core.decisions.truth import Disagreement, Seen, disagreements, wanted_aliases
from fraud_assets.core.models.live import LiveModel
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.heads import keep_head
from fraud_assets.workflows.rollout.naming import name_challengers

Package = Callable[[int], PackagedBento]


def follow_ledger(ledger: LedgerDecision, registry: Registry) -> dict[str, int | None]:
    """Points the aliases to what the ledger says; repairs those that a crash left behind.

    The one that counts is moved last: what breaks off before leaves it where it was.

    Returns:
        The aliases that were moved, and to what.

    Raises:
        RegistryError: when MLflow does not answer, or has not the champion any more.
    """
    found = standing(ledger.events())
    if found.champion is None and found.challenger is None:
        return {}
    wanted = wanted_aliases(found)
    if gone := {version for version in (found.previous, found.challenger) if version and not registry.has(version)}:
        wanted = {
            alias: None if version in gone and alias != "champion" else version for alias, version in wanted.items()
        }
    return registry.follow(wanted)


def follow_registration(ledger: LedgerStore, registry: Registry) -> None:
    """Points `challenger` to the newest registered version, and keeps the ledger's head in MLflow.

    The other aliases are left for a decision: a champion that is gone from MLflow shall not fail a training.
    """
    with ledger.deciding() as decision:
        registry.follow({"challenger": standing(decision.events()).challenger})
    keep_head(ledger, registry)


def name_for_serving(events: Iterable[Event], packaged: PackagedBento, version: int, settings: Settings) -> None:
    """Names a version's bento for serving, if the version is live by the ledger; running services follow it."""
    ordered = list(events)
    made_live = champion_event(ordered)
    if made_live is None or made_live.model_version != version:
        return
    live = LiveModel(
        model_version=version,
        row=ordered[-1].number,
        hash=ordered[-1].hash,
        bento=packaged.tag,
        folder=packaged.path.relative_to(settings.bentoml_home).as_posix(),
        digests={name: digest for name, digest in packaged.digests.items() if name != "bento"},
        entry=made_live.number,
        since=made_live.recorded_at.astimezone(UTC).isoformat(),
        previous=_previous(read_live(settings.bentoml_home), ordered),
    )
    write_live(settings.bentoml_home, live)


def _previous(named: LiveModel | None, events: Sequence[Event]) -> LiveModel | None:
    """The model that a rollback brings back, as it was named for serving before; None where that is not known.

    The file may have been written by hand: only what agrees with the ledger counts.
    """
    wanted = standing(events).previous
    for before in (named, named.previous) if named is not None else ():
        if before is not None and before.model_version == wanted and _was_named(before, events):
            return replace(before, previous=None)
    return None


def _was_named(model: LiveModel, events: Sequence[Event]) -> bool:
    """Whether the ledger has the row that a model was named at, and files of that version are these."""
    at = any((event.number, event.hash) == (model.row, model.hash) for event in events)
    recorded = [event.digests for event in events if event.model_version == model.model_version and event.digests]
    files = dict(model.digests).items()
    return at and (not recorded or any(files <= dict(digests).items() for digests in recorded))


def find_disagreements(ledger: LedgerStore, registry: Registry, settings: Settings) -> list[Disagreement]:
    """What does not say what the ledger says; a ledger that is not believed comes first, and alone."""
    try:
        events = ledger.events()
    except LedgerError as error:
        return [Disagreement("ledger", str(error))]
    try:
        seen = registry.seen()
        aliases, versions, not_asked = seen.aliases, frozenset(seen.versions), ""
    except RegistryError as error:
        aliases, versions, not_asked = None, None, str(error)
    live = read_live(settings.bentoml_home)
    known = {event.model_version for event in events}
    found = Seen(
        aliases=aliases,
        versions=versions,
        unknown=sorted((versions or frozenset()) - known),
        bento_version=live.model_version if live else None,
        bento_is_there=live is None or (settings.bentoml_home / live.folder / "bento.yaml").is_file(),
        services=read_services(settings.bentoml_home),
        not_asked=not_asked,
    )
    return disagreements(standing(events), found)


def reconcile(
    ledger: LedgerStore, registry: Registry, settings: Settings, package: Package, *, month: str, actor: str
) -> dict[str, Any]:
    """Makes everything follow the ledger.

    Args:
        ledger: the record; what it says is not changed.
        registry: its aliases are moved. A version that the ledger knows nothing of is retired there, unless the run
            that trained it is still under way.
        settings: of the home.
        package: packages a version.
        month: the one that a retirement is recorded for.
        actor: who asks.

    Returns:
        `repaired`, in sentences; `left`, what still does not say what the ledger says.

    Raises:
        LedgerError: when the ledger is not as it was written; nothing is changed then.
        RegistryError: when MLflow does not answer.
    """
    repaired = []
    with ledger.deciding() as decision:
        known = {event.model_version for event in decision.events()}
        for version in sorted(registry.seen().versions.keys() - known):
            run = registry.dagster_run_of(version)
            if run is not None and run_lives(decision.connection, run):
                continue
            reason = Reason(Rule.UNKNOWN_VERSION, "It is in the registry, and nothing recorded that it was trained.")
            evidence = {BY_HAND: {"version": str(version)}}
            decision.record("retired", version, month, [reason], actor=actor, evidence=evidence)
            repaired.append(f"version {version} is retired: the ledger had no event about it")
        repaired += [
            f"the alias {alias} points to {'nothing' if version is None else f'version {version}'}"
            for alias, version in follow_ledger(decision, registry).items()
        ]
        events = decision.events()
    keep_head(ledger, registry)
    live = standing(events).champion
    named = read_live(settings.bentoml_home)
    there = named is not None and (settings.bentoml_home / named.folder / "bento.yaml").is_file()
    if live is not None and (named is None or named.model_version != live or not there):
        name_for_serving(events, package(live), live, settings)
        repaired.append(f"version {live} is packaged and named for serving")
    name_challengers(events, settings, package)
    left = [one.sentence for one in find_disagreements(ledger, registry, settings)]
    return {"repaired": repaired, "left": left}
