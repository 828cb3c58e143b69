"""Rows of people that are older than `FRAUD_RETENTION_MONTHS` allows: found, said in the ledger, removed.

The ledger is told first: what it says to be gone and is still there, because the process was killed in between, goes
with the next call. Each month of a table loses its rows in one transaction. What was counted and decided stays, and so
does the name by which ledger and later months call the month; nothing becomes stale. Dagster is told last: until it
has been, the next call does again what comes after the months. Erasing one person belongs to `erase.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
from psycopg import sql

from fraud_assets.adapters.people.files import REFUSED, forget_refused, has_refused_before, rows_from_before
from fraud_assets.adapters.people.removed import Removed, mark_told
from fraud_assets.adapters.people.texts import EVENTS, forget_previews, rewrite_tables
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.adapters.sources import SourceError, open_source
from fraud_assets.core.decisions.ledger import standing
from fraud_assets.core.lineage.expiry import VARIABLE, RetentionError, first_kept
from fraud_assets.core.lineage.staleness import Partition, in_words
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.backups.made import made_backups
from fraud_assets.workflows.models.prune import NO_MODEL
from fraud_assets.workflows.progress import Progress

NOT_SET = f"{VARIABLE} is not set, so rows of people are kept for ever; give it a number of months first"
# Other tables with rows of people, each with the column that tells how old a row is.
PLACES = {
    "scored_transactions": "event_timestamp",
    "shadow_scores": "event_timestamp",
    "recent_transactions": "event_timestamp",
    "added_labels": "label_timestamp",
    "quarantined_labels": "recorded_at",
}
# The smallest and largest transaction id of each month.
RANGES = "transaction_id_ranges"


@dataclass
class Old:
    """What is older than it may be.

    Attributes:
        kept_from: the first month whose rows stay.
        months: of each table of months, how many rows in which month.
        rows: of each other place in the database, how many rows.
        files: files of the home with such rows.
        versions: models that cannot be made again without these rows, in sentences.
        left: what nobody but a person can remove, in sentences that name it.
        untold: months that lost their rows, of which Dagster has not been told.
    """

    kept_from: str
    months: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    untold: list[Partition] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there is something that goes, or that was begun."""
        return bool(self.months or self.rows or self.files or self.untold)

    @property
    def names(self) -> list[str]:
        """The months that go, in order."""
        return sorted({month for months in self.months.values() for month in months})

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "kept_from": self.kept_from, "months": self.months, "rows": self.rows, "files": self.files,
            "versions": self.versions, "left": self.left,
        }  # fmt: skip


def find_old(settings: Settings, store: MonthStore, now: datetime) -> Old:
    """What is older than it may be; nothing is changed.

    Raises:
        RetentionError: when the settings say nothing of age.
    """
    kept_from = first_kept(store.contract, settings.retention_months, now)
    if kept_from is None:
        raise RetentionError(NOT_SET)
    old = Old(kept_from, untold=[one for one, removed in store.removed().items() if not removed.is_told])
    for name, make in TABLES.items():
        if make(store.contract).holds_people:
            months = {month: store.count(name, month) for month in store.months(name) if month < kept_from}
            old.months |= {name: months} if months else {}
    before = store.contract.month_start(kept_from)
    for table, column in PLACES.items():
        counting = sql.SQL("SELECT count(*) FROM {} WHERE {} < %s").format(
            sql.Identifier("public", table), sql.Identifier(column)
        )
        ((n,),) = store.database.rows(table, counting, [before]) or [(0,)]
        old.rows |= {table: n} if n else {}
    old.files += [str(path) for path in rows_from_before(settings.artifacts, "event_timestamp", before)]
    if has_refused_before(settings.scores_path, before):
        old.files.append(str(settings.scores_path / REFUSED))
    old.versions += _not_reproducible(settings, store, old)
    old.left += _left(settings, old)
    return old


def look(settings: Settings, now: datetime) -> dict[str, Any]:
    """What would be removed, and what would stay; nothing is changed.

    Args:
        settings: of the home.
        now: what ages count to.

    Returns:
        `removed` (False), and what `Old` has.

    Raises:
        RetentionError: when the settings say nothing of age.
    """
    return {"removed": False, **find_old(settings, open_store(settings), now).to_dict()}


def retain(
    settings: Settings, instance: dg.DagsterInstance, now: datetime, *, actor: str, progress: Progress | None = None
) -> dict[str, Any]:
    """Removes what is older than it may be; may be repeated, also after it was killed.

    Args:
        settings: of the home.
        instance: is told which months lost their rows.
        now: what ages count to.
        actor: who asks.
        progress: hears of it.

    Returns:
        `removed` (True), and what `Old` has: what was removed, and under `left` what is there still.

    Raises:
        RetentionError: when the settings say nothing of age.
        LedgerError: when the ledger is not as it was written. Nothing is removed then.
        TableError: when a month is in use for long. What was done before is done.
    """
    progress = progress or Progress()
    store = open_store(settings, writing=True)
    old = find_old(settings, store, now)
    if not old.anything:
        return {"removed": True, **old.to_dict()}
    if old.months:
        _tell_ledger(settings, store, old, now, actor)
    for name, months in old.months.items():
        for month in sorted(months):
            with progress.working(name, month):
                store.remove_month(name, month)
    with progress.working("scores, labels and files"):
        _remove_rows(store, old)
        for file in old.files:
            if Path(file).name == REFUSED:
                forget_refused(Path(file).parent, store.contract.month_start(old.kept_from))
            else:
                Path(file).unlink(missing_ok=True)
    with progress.working("Dagster's events"):
        untold = _forget_in_dagster(store)
    with progress.working("rewriting tables"):
        tables = [("public", table) for table in [*old.rows, RANGES]]
        old.left += rewrite_tables(store.database, [*tables, *(("dagster", name) for name, _ in EVENTS)])
    _tell_dagster(instance, store, untold)
    return {"removed": True, **old.to_dict()}


def _not_reproducible(settings: Settings, store: MonthStore, old: Old) -> Iterator[str]:
    """The models that count, and were trained on rows that go."""
    events = LedgerStore(store.database, settings.ledger_head_file).events()
    now = standing(events)
    named = {now.challenger: "the newest", now.previous: "what a rollback brings back", now.champion: "live"}
    for event in events:
        if event.kind != "registered" or (use := named.get(event.model_version)) is None:
            continue
        learned = event.evidence
        months = {month for name, going in old.months.items() for month in going if month in learned.get(name, {})}
        if months:
            yield (
                f"version {event.model_version}, which is {use}, learned from {in_words(months)}: it stays as it is, "
                f"and `fraud reproduce {event.model_version}` cannot make it again without these rows"
            )


def _left(settings: Settings, old: Old) -> Iterator[str]:
    """What a person has to do, in sentences: files of the source, backups, other servers."""
    try:
        source = open_source(settings)
        delivered = [month for month in old.names if settings.source != "simulator" and source.has(month)]
    except (SourceError, ValueError, OSError):
        delivered = []
    if delivered:
        yield f"what was delivered of {in_words(delivered)} is yours, and was not changed"
    if old.anything:
        for folder in made_backups(settings):
            yield f"the backup {folder} still has these rows: delete it when you have a newer one"
        if settings.mlflow_uri is not None:
            yield "the MLflow server of FRAUD_MLFLOW_URI also has rows on which models were validated"
        if settings.database_url is not None:
            yield "backups and archives that your PostgreSQL server makes itself were not searched"


def _tell_ledger(settings: Settings, store: MonthStore, old: Old, now: datetime, actor: str) -> None:
    rows = sum(n for months in old.months.values() for n in months.values())
    said = (
        f"Rows of people of {in_words(old.names)} were removed because of their age ({VARIABLE} is "
        f"{settings.retention_months}): {rows:,} rows of {len(old.months)} tables."
    )
    names = {name: store.months(name) for name in old.months}
    evidence = {name: {month: names[name].get(month) for month in months} for name, months in old.months.items()}
    LedgerStore(store.database, settings.ledger_head_file).record(
        "expired", NO_MODEL, f"{now:%Y-%m}", [Reason(Rule.EXPIRED, said)], actor=actor, evidence=evidence
    )


def _remove_rows(store: MonthStore, old: Old) -> None:
    before = store.contract.month_start(old.kept_from)
    with store.database.session() as connection:
        for table in old.rows:
            statement = sql.SQL("DELETE FROM {} WHERE {} < %s").format(
                sql.Identifier("public", table), sql.Identifier(PLACES[table])
            )
            connection.execute(statement, [before])
        connection.execute("DELETE FROM public.transaction_id_ranges WHERE month < %s", [old.kept_from])


def _forget_in_dagster(store: MonthStore) -> dict[Partition, Removed]:
    """Takes first rows out of Dagster's events; the months of which it has not been told."""
    untold = {one: removed for one, removed in store.removed().items() if not removed.is_told}
    with store.database.session() as connection:
        found = connection.execute("SELECT DISTINCT table_name, month, run_id FROM month_versions").fetchall()
        runs = {run for table, month, run in found if run and (table, month) in untold}
        forget_previews(connection, runs, {table for table, _ in untold})
    return untold


def _tell_dagster(instance: dg.DagsterInstance, store: MonthStore, untold: Mapping[Partition, Removed]) -> None:
    """Tells Dagster of each month that it has no rows any more.

    As an observation: Dagster 1.13 cannot take back that a partition was made (dagster 14749, 10663), and another
    materialisation would set off what is built on it.
    """
    for (table, month), removed in untold.items():
        instance.report_runless_asset_event(
            dg.AssetObservation(
                dg.AssetKey(table),
                partition=month,
                description=f"{removed.n_rows:,} rows were removed on {removed.removed_at:%Y-%m-%d} because of their "
                "age; the month is not made again.",
                metadata={"rows": 0, "rows_before": removed.n_rows, "digest_before": removed.digest},
            )
        )
    mark_told(store.database, list(untold))
