"""Reading what the platform tells Prometheus: from the tables, the ledger, Dagster's runs and the backups.

Nothing is changed, nothing is rebuilt, and no registry is asked: a reading is to take a fraction of a second. Names and
values belong to `core/monitoring/metrics.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fraud_assets.adapters.backups.folder import backups_in, read_manifest
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.adapters.postgres.run_processes import find_dead_runs
from fraud_assets.adapters.sources import SourceError, open_source
from fraud_assets.core.decisions.chain import LedgerError
from fraud_assets.core.decisions.ledger import champion_event
from fraud_assets.core.lineage.tables.declared import ON_REQUEST, TABLES
from fraud_assets.core.monitoring.metrics import (
    NEWEST_MONTHS,
    Sample,
    drift_samples,
    evaluation_samples,
    month_samples,
    realised_samples,
    skew_samples,
)
from fraud_assets.core.monitoring.pictures import PICTURES
from fraud_assets.core.units import SECONDS_PER_DAY
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.approve import read_waiting
from fraud_assets.workflows.runs.monthly import plan_months
from fraud_assets.workflows.runs.refresh import read_stale
from fraud_assets.workflows.scores import read_kept

WRITTEN = "SELECT table_name, max(written_at) FROM month_versions GROUP BY 1"
MATURED = """
SELECT count(*), count(*) FILTER (WHERE event_timestamp < %(now)s - make_interval(secs => %(seconds)s))
FROM raw_transactions WHERE event_timestamp >= %(start)s AND event_timestamp < %(end)s
"""
# Nobody states anything before it happens: no older partition has a label of the month.
FRAUDS = """
SELECT count(DISTINCT transaction_id) FROM fraud_labels
WHERE is_fraud AND event_timestamp >= %(start)s AND event_timestamp < %(end)s
    AND label_timestamp >= %(start)s AND label_timestamp <= %(now)s
"""
QUARANTINED = "SELECT count(*) FROM quarantined_transactions WHERE month = %s AND status = 'quarantined'"
NEWEST_LABEL = "SELECT max(label_timestamp) FROM fraud_labels WHERE label_timestamp >= %s AND label_timestamp <= %s"
RUNS = """
SELECT status, count(*), max(coalesce(end_time, start_time)) FROM dagster.runs GROUP BY status ORDER BY status
"""


def read_metrics(settings: Settings, now: datetime | None = None) -> list[Sample]:
    """Everything, as it is now.

    Args:
        settings: of the home.
        now: at which labels are known and months are over.

    Raises:
        PlatformError: when the database cannot be read.
    """
    began, now = time.monotonic(), now or datetime.now(UTC)
    store = open_store(settings)
    found = [
        Sample("info", 1, {"contract": store.contract.name, "version": version("fraud-assets")}),
        *_months(store, settings, now),
        *_labels(store, now),
        *_reports(store),
        *_models(store, settings, now),
        *_runs(store),
        *_scores(store, settings),
        *_backups(settings),
    ]
    return [Sample("readable", 1), *found, Sample("read_seconds", time.monotonic() - began)]


def _months(store: MonthStore, settings: Settings, now: datetime) -> Iterator[Sample]:
    contract = store.contract
    stored: dict[str, list[str]] = {name: [] for name in TABLES if name not in ON_REQUEST}
    for name, month in sorted(store.current()):
        if name in stored:
            stored[name].append(month)
    written = dict(store.database.rows("month_versions", WRITTEN))
    yield from month_samples(stored, written, contract.month_end)
    try:
        source = open_source(settings)
        planned = plan_months(store, source, now)
    except (SourceError, ValueError, OSError):
        source = None
    yield Sample("source_readable", source is not None)
    if source is not None:
        yield Sample("months_to_run", len(planned.months))
        if planned.waits_for is not None and (end := contract.month_end(planned.waits_for)) <= now:
            yield Sample("waits_for_month_end_timestamp_seconds", end.timestamp())
    stale = [one.table for one in read_stale(store, source, settings)]
    for name in stored:
        yield Sample("stale_months", stale.count(name), {"table": name})


def _labels(store: MonthStore, now: datetime) -> Iterator[Sample]:
    """Of the newest months: how many transactions are matured, and what is known of them."""
    contract, rows = store.contract, store.database.rows
    for month in list(store.months("raw_transactions"))[-NEWEST_MONTHS:]:
        span = {
            "start": contract.month_start(month), "end": contract.month_end(month), "now": now,
            "seconds": contract.maturity_days * SECONDS_PER_DAY,
        }  # fmt: skip
        labels = {"month": month}
        ((n, matured),) = rows("raw_transactions", MATURED, span)
        yield Sample("transactions", n, labels)
        yield Sample("matured_transactions", matured, labels)
        for name, query, given in (
            ("known_frauds", FRAUDS, span),
            ("quarantined_transactions", QUARANTINED, [contract.month_start(month)]),
        ):
            table = "fraud_labels" if name == "known_frauds" else "quarantined_transactions"
            for (number,) in rows(table, query, given):
                yield Sample(name, number, labels)
    if months := list(store.months("fraud_labels")):
        for (newest,) in rows("fraud_labels", NEWEST_LABEL, [contract.month_start(months[-1]), now]):
            if newest is not None:
                yield Sample("newest_label_timestamp_seconds", newest.timestamp())


def _reports(store: MonthStore) -> Iterator[Sample]:
    """What the newest month with rows says, of each table that judges."""
    month_end = store.contract.month_end
    for name, samples in (
        ("drift_report", drift_samples),
        ("evaluation", lambda rows, _: evaluation_samples(rows)),
        ("model_performance", realised_samples),
        ("serving_skew", lambda rows, _: skew_samples(rows)),
    ):
        # A month in which nothing was scored, or nothing has matured yet, is stored and empty.
        for month in list(store.months(name))[: -NEWEST_MONTHS - 1 : -1]:
            if rows := _rows(store, name, month):
                yield from samples(rows, month_end(month))
                break


def _models(store: MonthStore, settings: Settings, now: datetime) -> Iterator[Sample]:
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    yield Sample("ledger_rows", len(ledger.rows()))
    try:
        events = ledger.events()
        waiting = read_waiting(store, ledger, now)
    except LedgerError:
        yield Sample("ledger_intact", 0)
        return
    yield Sample("ledger_intact", 1)
    yield Sample("waiting_versions", len(waiting))
    if waiting:
        yield Sample("waiting_until_timestamp_seconds", min(one.expires_at for one in waiting).timestamp())
    if (event := champion_event(events)) is None:
        return
    yield Sample("champion_version", event.model_version)
    yield Sample("champion_since_timestamp_seconds", event.recorded_at.timestamp())
    registered = [one for one in events if one.kind == "registered" and one.model_version == event.model_version]
    trained = registered[-1].month if registered else event.month
    yield Sample("champion_month_end_timestamp_seconds", store.contract.month_end(trained).timestamp())


def _runs(store: MonthStore) -> Iterator[Sample]:
    with store.database.session() as connection:
        there = connection.execute("SELECT to_regclass('dagster.runs') IS NOT NULL").fetchone()
        rows = connection.execute(RUNS).fetchall() if there and there[0] else []
    # Also where there was none yet, so that the first failure is a rise.
    counted = {status: (n, at) for status, n, at in rows}
    for status in sorted({"SUCCESS", "FAILURE", "CANCELED", "STARTED", "QUEUED", *counted}):
        n, at = counted.get(status, (0, None))
        yield Sample("runs", n, {"status": status})
        if at is not None:
            yield Sample("last_run_timestamp_seconds", float(at), {"status": status})
    yield Sample("dead_runs", len(find_dead_runs(store.database)))


def _scores(store: MonthStore, settings: Settings) -> Iterator[Sample]:
    kept = read_kept(store, settings.scores_path) or {
        "waiting": 0,
        "spool_bytes": 0,
        "lost": {},
        "last_scored_at": None,
    }
    yield Sample("scores_waiting", kept["waiting"])
    yield Sample("scores_spool_bytes", kept["spool_bytes"])
    yield Sample("scores_lost", sum(kept["lost"].values()))
    if kept["last_scored_at"] is not None:
        yield Sample("last_score_timestamp_seconds", kept["last_scored_at"].timestamp())


def _backups(settings: Settings) -> Iterator[Sample]:
    if settings.backup_path is None:
        return
    found = backups_in(settings.backup_path, settings.loaded_contract.name)
    yield Sample("backups", len(found))
    if found:
        manifest = read_manifest(found[-1])
        yield Sample("backup_timestamp_seconds", datetime.fromisoformat(manifest["made_at"]).timestamp())
        yield Sample("backup_bytes", manifest["bytes"])


def _rows(store: MonthStore, name: str, month: str) -> list[dict[str, Any]]:
    columns = [column for column in store.table(name).schema.names if column != PICTURES]
    rows: list[dict[str, Any]] = store.read(name, columns, first_month=month, last_month=month).to_pylist()
    return rows
