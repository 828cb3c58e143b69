"""The monthly report's page: its facts from the tables, the ledger and the registry, and where the page is kept.

The page is made of what is stored, and of nothing else: no row is read again and none is scored, so it can be made at
any time and on any machine. The file beside the run is a convenience, and the one in MLflow, which every machine
shares, the link. What is on the page is in `pages/report.py`, what is stored to be drawn in
`core/monitoring/pictures.py`.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import champion_event
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.monitoring.month import earlier_reports
from fraud_assets.core.months import shift_month
from fraud_assets.pages.report import SHOWN_MONTHS, ChampionFacts, ReportFacts, monthly_report
from fraud_assets.settings import Settings
from fraud_assets.workflows.status import reported_month


def page_file(settings: Settings, month: str) -> Path:
    """Where a month's page is kept in the home."""
    return (settings.reports / f"drift_report_{month}.html").expanduser().resolve()


def page_link(registry: Registry, version: int | None, month: str) -> str | None:
    """The page's address in MLflow's UI, whether it is there yet or not; None without a champion.

    Args:
        registry: of the models.
        version: the champion's; without one there is nothing to keep it beside.
        month: of the report.
    """
    return None if version is None else registry.address(version, _kept_as(month))


def write_report(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    month: str | None,
    *,
    output: Path | None = None,
) -> Path:
    """Writes a month's page.

    Args:
        settings: of the home.
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        month: YYYY-MM; the newest with a report when absent.
        output: the file; `page_file` when absent. One that is there is replaced.

    Returns:
        The file.

    Raises:
        ValueError: when the month has no report, or the file cannot be written.
    """
    month = reported_month(store, month)
    page = monthly_report(gather_report(store, ledger, registry, month))
    path = output.expanduser().resolve() if output else page_file(settings, month)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"the page cannot be written: {error}; name another file") from error
    return path


def publish_report(registry: Registry, version: int | None, month: str, path: Path) -> str | None:
    """Keeps a page in MLflow, beside the run that trained the champion it is about.

    Args:
        registry: of the models.
        version: the champion's; without one there is nothing to keep it beside.
        month: of the report.
        path: the page.

    Returns:
        `page_link`.
    """
    if version is None:
        return None
    return registry.attach(version, _kept_as(month), path.read_text(encoding="utf-8"))


def gather_report(store: MonthStore, ledger: LedgerStore, registry: Registry, month: str) -> ReportFacts:
    """Everything that the page of a month is made of; all of it was known at the month's end.

    Args:
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        month: YYYY-MM, of which there is a report.
    """
    contract = store.contract
    first = max(shift_month(month, 1 - SHOWN_MONTHS), contract.first_month)
    reported = store.read("drift_report", first_month=first, last_month=month)
    version = earlier_reports(reported)[month].champion_version
    return ReportFacts(
        contract=contract.name,
        currency=contract.amount.unit if contract.amount else None,
        month=month,
        as_of=contract.month_end(month),
        rows=reported,
        evaluation=store.read("evaluation", first_month=first, last_month=month),
        champion=_champion(ledger, registry, month, version),
        inputs=_tables_read(store, month),
        platform=importlib.metadata.version("fraud-assets"),
    )


def _kept_as(month: str) -> str:
    return f"drift_reports/{month}.html"


def _champion(ledger: LedgerStore, registry: Registry, month: str, version: int | None) -> ChampionFacts | None:
    if version is None:
        return None
    event = champion_event(ledger.events(), before_month=month)
    since = event.month if event is not None and event.model_version == version else None
    manifest = registry.fetch(version)[1] if registry.has(version) else None
    return ChampionFacts(version, manifest, since)


def _tables_read(store: MonthStore, month: str) -> Inputs:
    """The months of tables that a report was made of, as they were recorded with it."""
    recorded = store.versions("drift_report", month)["inputs"].to_pylist()[-1]
    inputs: Inputs = json.loads(recorded or "{}")
    return {table: months for table, months in inputs.items() if table in TABLES}
