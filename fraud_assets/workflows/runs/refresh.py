"""Which months are stale, reporting that to Dagster, and rebuilding them with the same job as `fraud run`.

What makes a month stale, and in what order months are rebuilt, belongs to `core/lineage/staleness.py`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from fraud_assets.adapters.dagster_storage import busy_instance
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.adapters.sources import Source, SourceError, open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import Event, champion_version
from fraud_assets.core.digests import digest_text
from fraud_assets.core.features.declarations import features_digest
from fraud_assets.core.lineage.configuration import maturity_values, setting_values
from fraud_assets.core.lineage.expiry import first_kept
from fraud_assets.core.lineage.staleness import (
    CHAMPION,
    DRAWN,
    SCORES,
    SHADOW,
    WITHOUT_MATURITY,
    Inputs,
    Partition,
    Stale,
    find_stale,
    in_words,
    next_to_rebuild,
    stale_since,
)
from fraud_assets.core.lineage.staleness import UP_TO_DATE as UP_TO_DATE
from fraud_assets.core.lineage.tables.declared import ON_REQUEST, TABLES
from fraud_assets.settings import Settings
from fraud_assets.workflows.arrivals import months_with_ids_among
from fraud_assets.workflows.labels import added_digest, feed_fingerprint
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.quarantine import decisions_digest
from fraud_assets.workflows.runs.run_months import (
    CHANGES,
    execute_month,
    failures_of,
    months_to_run,
    run_months,
)
from fraud_assets.workflows.status import as_row

# In Dagster's own storage, because it says what Dagster has been told.
CURSOR = "fraud.up_to_date"


def read_stale(store: MonthStore, source: Source | None, settings: Settings) -> list[Stale]:
    """The stale months as they are now.

    Args:
        store: the tables, with the ledger beside them.
        source: where transactions come from; without it, what it delivers is taken not to have changed.
        settings: with which months would be made today.
    """
    return _find_stale(store, source, settings, _stand(store))


def open_stale(settings: Settings) -> list[Stale]:
    """The stale months of a home; see `read_stale`."""
    return read_stale(open_store(settings), _source(settings), settings)


def _source(settings: Settings) -> Source | None:
    try:
        return open_source(settings)
    except SourceError:
        # What is stored can be asked about without it; running a month says what is missing.
        return None


@dataclass(frozen=True)
class _Stand:
    """What a run changes, as it was at one moment: stored months, the ledger, and which months have which ids."""

    current: dict[Partition, tuple[str, Inputs | None]]
    events: list[Event]
    earlier_ids: Callable[[str], str | None]


def _stand(store: MonthStore) -> _Stand:
    return _Stand(store.current(), LedgerStore(store.database).events(), months_with_ids_among(store))


def _find_stale(store: MonthStore, source: Source | None, settings: Settings, stand: _Stand) -> list[Stale]:
    """The months that are stale at that moment; what no run changes counts as it is now."""

    def champion(key: str) -> str | None:
        version = champion_version(stand.events, before_month=key.removeprefix(CHAMPION))
        return None if version is None else str(version)

    stored = StoredScores(store.database, store.contract)
    scores, shadow = stored.counts(), stored.shadow_counts()
    lookups: dict[str, Callable[[str], str | None]] = {
        **_configured(store.contract, settings),
        "features": lambda _: features_digest(store.contract),
        "source": lambda month: source.fingerprint(month) if source else None,
        "label_feed": lambda month: feed_fingerprint(source, store.contract, month) if source else None,
        "added_labels": lambda month: added_digest(store.database, store.contract, month),
        "quarantine_decisions": lambda month: decisions_digest(store.database, month),
        SCORES: lambda month: None if month not in scores else str(scores[month]),
        DRAWN: lambda month: str(stored.n_drawn(month) or "") or None,
        SHADOW: lambda month: None if month not in shadow else str(shadow[month]),
        "earlier_ids": stand.earlier_ids,
        "ledger": champion,
    }
    # Asked once: where nobody ever added or decided anything, there is nothing to look up month by month.
    for name in ("added_labels", "quarantine_decisions"):
        if not store.database.rows(name, f"SELECT 1 FROM {name} LIMIT 1"):
            del lookups[name]
    gone = {month for _, month in store.removed()}
    kept_from = store.kept_from or ""
    return find_stale(
        stand.current,
        lambda name, key: lookups[name](key) if name in lookups else None,
        lambda month: month in gone or month < kept_from,
    )


def _configured(contract: Contract, settings: Settings) -> dict[str, Callable[[str], str | None]]:
    """The contract and the settings, as months record them, by name; as a whole for those from before that."""
    training = settings.training
    return {
        "contract": lambda key: contract.digest_without_maturity if key == WITHOUT_MATURITY else contract.digest,
        "maturity": maturity_values(contract.maturity_days).get,
        "costs": setting_values(settings.costs).get,
        "drift": setting_values(settings.drift).get,
        "training": ({"": training.digest} | setting_values(training)).get,
    }


# What the UI shows


def untold(
    instance: dg.DagsterInstance, store: MonthStore, stale: list[Stale], made: Collection[Partition] = ()
) -> dict[Partition, tuple[str, ...]]:
    """The months to report to Dagster, with their reasons: made just now, or changed since the last report."""
    told = json.loads(instance.daemon_cursor_storage.get_cursor_values({CURSOR}).get(CURSOR) or "{}")
    now = _reasons(store, stale)
    return {one: why for one, why in now.items() if one in made or told.get(" ".join(one)) != digest_text(*why)}


def evaluate_up_to_date(
    instance: dg.DagsterInstance, store: MonthStore, stale: list[Stale], made: Collection[Partition] = ()
) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluations of the check `up_to_date`: one for each month that was made just now, or whose reasons changed.

    Each change is reported once, whichever run asks. They belong to a run: Dagster 1.13 stores no more than one
    evaluation of a partition that belongs to none.

    Args:
        instance: where they are recorded.
        store: the tables.
        stale: the stale months of all tables.
        made: partitions that were made just now.
    """
    for partition, why in sorted(untold(instance, store, stale, made).items()):
        yield _evaluation(instance, partition, why)
    told = {" ".join(one): digest_text(*why) for one, why in _reasons(store, stale).items()}
    instance.daemon_cursor_storage.set_cursor_values({CURSOR: json.dumps(told)})


def _reasons(store: MonthStore, stale: list[Stale]) -> dict[Partition, tuple[str, ...]]:
    reasons = {one.partition: one.reasons for one in stale}
    # With months whose rows are gone: of those, nothing is stale any more.
    stored = [*store.current(), *store.removed()]
    return {partition: reasons.get(partition, ()) for partition in stored if partition[0] not in ON_REQUEST}


def _evaluation(instance: dg.DagsterInstance, partition: Partition, why: tuple[str, ...]) -> dg.AssetCheckEvaluation:
    table, month = partition
    key = dg.AssetKey(table)
    newest = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[month]), limit=1
    ).records
    # Without it, the UI takes the evaluation to be about an older materialisation.
    target = (
        AssetCheckEvaluationTargetMaterializationData(
            storage_id=newest[0].storage_id, run_id=newest[0].run_id, timestamp=newest[0].timestamp
        )
        if newest
        else None
    )
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=UP_TO_DATE,
        passed=not why,
        severity=dg.AssetCheckSeverity.WARN,
        partition=month,
        target_materialization_data=target,
        description=" ".join(f"{reason}." for reason in why) or None,
        metadata={"reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in why))} if why else {},
    )


# Rebuilding months


def refresh_months(
    job: dg.JobDefinition,
    settings: Settings,
    first: str | None,
    last: str | None,
    progress: Progress,
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Rebuilds stale months, oldest first and in the order of the graph, until none is left.

    What was only built on something stale is left alone when that turns out unchanged. A month that fails does not
    stop the next ones: they are built from what is stored.

    Args:
        job: holds every asset.
        settings: of the home.
        first: the first month to rebuild, or None for the contract's first.
        last: the last one, or None for the newest.
        progress: hears of each partition.
        dry_run: say what is stale, and run nothing.

    Returns:
        `stale`, what was stale in these months before; `rebuilt`, for each partition `table`, `month`, `run_id`,
        `changed`, `rows`, `added`, `removed` and `altered`; `failed`, for each `month`, `run_id`, `step` and `error`;
        `left`, what is stale in these months after it.

    Raises:
        ValueError: when a month cannot be run, or the settings name no source; nothing has run then.
    """
    now = datetime.now(UTC)
    kept_from = first_kept(settings.loaded_contract, settings.retention_months, now)
    months = months_to_run(settings.loaded_contract, first, last, now, kept_from)
    source, store = open_source(settings), open_store(settings, writing=not dry_run)
    outcome = _found(stale for stale in read_stale(store, source, settings) if stale.month in months)
    if outcome["stale"] and not dry_run:
        _rebuild_all(job, settings, store, lambda: read_stale(store, source, settings), months, outcome, progress)
    return outcome


def run_and_refresh(
    job: dg.JobDefinition,
    settings: Settings,
    first: str | None,
    last: str | None,
    progress: Progress,
    *,
    refresh: bool = True,
) -> dict[str, Any]:
    """Runs months, and rebuilds later ones that were built before these, or on other rows of them.

    What was stale before for another reason is left: it is for `refresh_months`, when someone asks for it.

    Args:
        job: holds every asset.
        settings: of the home.
        first: the first month to run, or None for the contract's first.
        last: the last one, or None for the newest.
        progress: hears of each month.
        refresh: rebuild later months; otherwise say which have become stale, and leave them.

    Returns:
        `months`, as `run_months` gives them, and `refreshed`, as `refresh_months` does, about the later months that
        have become stale by this run.

    Raises:
        ValueError: when a month cannot be run, or the settings name no source; nothing has run then.
    """
    now = datetime.now(UTC)
    kept_from = first_kept(settings.loaded_contract, settings.retention_months, now)
    months = months_to_run(settings.loaded_contract, first, last, now, kept_from)
    source, store = open_source(settings), open_store(settings, writing=True)
    stand = _stand(store)
    # Nothing looks ahead, so what is not later than the months that are run cannot become stale by it.
    later = {month for _, month in stand.current if month > months[-1]}
    outcomes = run_months(job, settings, months, progress)
    outcome = _found(())
    if later:
        before = _find_stale(store, source, settings, stand)

        def find() -> list[Stale]:
            return stale_since(before, read_stale(store, source, settings))

        stale = [one for one in find() if one.month in later]
        outcome = _found(stale)
        if stale:
            progress.note(_why_stale(stale, refresh=refresh))
        if stale and refresh:
            _rebuild_all(job, settings, store, find, later, outcome, progress)
    return {"months": outcomes, "refreshed": outcome}


def _why_stale(stale: list[Stale], *, refresh: bool) -> str:
    why = list(dict.fromkeys(change for one in stale for change in one.changes))
    more = f"; and {len(why) - 3} more" if len(why) > 3 else ""
    what = f"{len(stale)} months of tables ({in_words(one.month for one in stale)})"
    done = "are rebuilt" if refresh else "are left stale (`fraud refresh` rebuilds them)"
    return f"{what} became stale by this run and {done}: {'; '.join(why[:3])}{more}"


def _found(stale: Iterable[Stale]) -> dict[str, Any]:
    """What `refresh_months` returns when nothing has been rebuilt."""
    rows = [as_row(one) for one in stale]
    return {"stale": rows, "rebuilt": [], "failed": [], "left": rows}


def _rebuild_all(
    job: dg.JobDefinition,
    settings: Settings,
    store: MonthStore,
    find: Callable[[], list[Stale]],
    months: Collection[str],
    outcome: dict[str, Any],
    progress: Progress,
) -> None:
    """Rebuilds what `find` finds in these months until nothing more can be rebuilt, and adds to `outcome`."""
    graph = job.asset_layer.asset_graph
    upstream = {
        key.path[-1]: {before.path[-1] for before in dg.AssetSelection.assets(key).upstream().resolve(graph) - {key}}
        for key in graph.materializable_asset_keys
    }
    # A partition is tried again only when something about it has changed since it was tried.
    tried: dict[Partition, tuple[str, ...]] = {}
    with busy_instance(settings) as instance:
        while True:
            everything = find()
            given_up = {
                one.partition
                for one in everything
                if one.month not in months or tried.get(one.partition) == one.reasons
            }
            wanted = next_to_rebuild(everything, given_up, upstream)
            if not wanted:
                break
            tried |= {one.partition: one.reasons for one in wanted}
            _rebuild(job, instance, store, wanted[0].month, {one.table for one in wanted}, outcome, progress)
    outcome["left"] = [as_row(one) for one in everything if one.month in months]


def _rebuild(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    store: MonthStore,
    month: str,
    tables: set[str],
    outcome: dict[str, Any],
    progress: Progress,
) -> None:
    """One run that rebuilds tables of a month, with those that come from the same step."""
    wanted = dg.AssetSelection.assets(*sorted(tables)).required_multi_asset_neighbors()
    selection = wanted.resolve(job.asset_layer.asset_graph)
    names = [name for name in TABLES if dg.AssetKey(name) in selection]
    before = {name: store.months(name).get(month) for name in names}
    started = time.monotonic()
    with progress.working(", ".join(names), month):
        result = execute_month(job, instance, month, "fraud refresh", selection, {"fraud/refresh": month})
    made = {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}
    rebuilt = []
    for name in names:
        if name in made:
            newest = store.versions(name, month).to_pylist()[-1]
            changed = newest["digest"] != before[name]
            rows = {count: newest[count] if changed else 0 for count in CHANGES}
            facts = {"changed": changed, "digest": newest["digest"], "rows": newest["n_rows"]}
            rebuilt.append({"table": name, "month": month, "run_id": result.run_id} | facts | rows)
    failed = failures_of(result)
    outcome["rebuilt"] += rebuilt
    outcome["failed"] += [{"month": month, "run_id": result.run_id} | failure for failure in failed]
    progress.month_rebuilt(month, rebuilt, failed, round(time.monotonic() - started, 1))
