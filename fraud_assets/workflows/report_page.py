"""The monthly report's page: its facts from the tables, the ledger and the registry, and where the page is kept.

The page can be made again at any time and on any machine, because it is made of what is stored; so the file beside
the run is a convenience, and the one in MLflow, which every machine shares, the link. What is on the page is in
`pages/report.py`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import champion_event
from fraud_assets.core.drift.findings import SCORE
from fraud_assets.core.drift.histograms import Histogram, histogram
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.lineage.staleness import inputs_of
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.month import (
    VERDICT,
    Champion,
    EarlierReport,
    choose_reference,
    compared_rows,
    earlier_reports,
    platform_history,
)
from fraud_assets.core.months import check_month, months_between, shift_month
from fraud_assets.core.windows import Window, month_window, rows_within
from fraud_assets.pages.report import SHOWN_MONTHS, ChampionFacts, ReportFacts, features_to_draw, monthly_report
from fraud_assets.settings import Settings
from fraud_assets.workflows.labels import read_completeness
from fraud_assets.workflows.status import reported_month


def write_report(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    month: str | None,
    *,
    rows: pa.Table | None = None,
    output: Path | None = None,
) -> Path:
    """Writes a month's page.

    Args:
        settings: of the home.
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        month: YYYY-MM; the newest with a report when absent.
        rows: the month's `drift_report`, where it is not stored yet.
        output: the file; in the home's folder of reports when absent. One that is there is replaced.

    Returns:
        The file.

    Raises:
        ValueError: when the month has no report, or the file cannot be written.
    """
    month = reported_month(store, month) if rows is None or month is None else check_month(month)
    page = monthly_report(gather_report(store, ledger, registry, month, settings.drift, rows))
    path = (output or settings.reports / f"drift_report_{month}.html").expanduser().resolve()
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
        Its address in MLflow's UI; None without a champion.
    """
    if version is None:
        return None
    return registry.attach(version, f"drift_reports/{month}.html", path.read_text(encoding="utf-8"))


def gather_report(
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    month: str,
    limits: DriftConfig,
    rows: pa.Table | None = None,
) -> ReportFacts:
    """Everything that the page of a month is made of; all of it was known at the month's end.

    Args:
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        month: YYYY-MM.
        limits: of the drift report, for its bins.
        rows: the month's `drift_report`, where it is not stored yet.
    """
    contract = store.contract
    first = max(shift_month(month, 1 - SHOWN_MONTHS), contract.first_month)
    last = month if rows is None else shift_month(month, -1)
    stored = store.read("drift_report", first_month=first, last_month=last) if first <= last else None
    parts = [part.replace_schema_metadata(None) for part in (stored, rows) if part is not None]
    reported = pa.concat_tables(parts, promote_options="permissive")
    reports = earlier_reports(reported)
    report = reports[month]
    champion, scorer = _champion(ledger, registry, month, report.champion_version)
    histograms, flagged, read = _pictures(
        store, month, report, scorer, _reference_from(reported, month), reports, limits
    )
    return ReportFacts(
        contract=contract.name,
        currency=contract.amount.unit if contract.amount else None,
        month=month,
        as_of=contract.month_end(month),
        rows=reported,
        evaluation=store.read("evaluation", first_month=first, last_month=month),
        completeness=read_completeness(store, month) if month in store.months("fraud_labels") else None,
        champion=champion,
        histograms=histograms,
        flagged=flagged,
        inputs=inputs_of(*read),
        platform=importlib.metadata.version("fraud-assets"),
    )


def _champion(
    ledger: LedgerStore, registry: Registry, month: str, version: int | None
) -> tuple[ChampionFacts | None, Scorer | None]:
    if version is None:
        return None, None
    event = champion_event(ledger.events(), before_month=month)
    since = event.month if event is not None and event.model_version == version else None
    if not registry.has(version):
        return ChampionFacts(version, None, since), None
    scorer = Scorer(*registry.fetch(version))
    return ChampionFacts(version, scorer.manifest, since), scorer


def _reference_from(rows: pa.Table, month: str) -> str | None:
    for row in rows.select(["month", "kind", "reference_from"]).to_pylist():
        if row["kind"] == VERDICT and f"{row['month']:%Y-%m}" == month:
            return str(row["reference_from"]) if row["reference_from"] else None
    return None


def _pictures(
    store: MonthStore,
    month: str,
    report: EarlierReport,
    scorer: Scorer | None,
    reference_from: str | None,
    earlier: Mapping[str, EarlierReport],
    limits: DriftConfig,
) -> tuple[list[Histogram], tuple[float, float] | None, list[pa.Table]]:
    """The histograms, the shares above the threshold, and what was read for them.

    None where the rows that were compared are no longer those that would be.
    """
    contract = store.contract
    first_event = store.first_event()
    if first_event is None or reference_from is None:
        return [], None, []
    champion = None if scorer is None else Champion(scorer, None)
    if report.champion_version is not None and champion is None:
        return [], None, []
    window = _reference(store, month, champion, first_event, earlier)
    if window is None or f"{window.start:%Y-%m-%d}" != reference_from:
        return [], None, []
    names = features_to_draw(report.findings)
    scored = any(finding.kind == "prediction" and finding.psi is not None for finding in report.findings)
    features = scorer.manifest.features if scorer is not None and scored else ()
    rows, read = _compared(store, month, window, names, features)
    if scorer is not None and scored:
        scores = scorer.score(rows)
        rows = rows.append_column(SCORE, pa.array(scores))
    sides = [rows_within(rows, part) for part in (window, month_window(month, contract.zone))]
    drawn = [histogram(sides[0], sides[1], name, limits) for name in names]
    flagged = None
    if scorer is not None and scored and all(side.num_rows for side in sides):
        limit = scorer.manifest.threshold
        before, now = (float(pc.mean(pc.greater_equal(side[SCORE], limit)).as_py()) for side in sides)
        flagged = before, now
    return [one for one in drawn if one is not None], flagged, read


def _reference(
    store: MonthStore,
    month: str,
    champion: Champion | None,
    first_event: datetime,
    earlier: Mapping[str, EarlierReport],
) -> Window | None:
    """What the month was compared with, as the report chose it."""
    contract = store.contract

    def read(table: str, columns: Sequence[str] | None, first: str, last: str) -> pa.Table:
        return store.read(table, columns, first_month=max(first, contract.first_month), last_month=last)

    history = platform_history(month, champion.training if champion else None, first_event, read, contract)
    return choose_reference(month, champion, history, earlier, contract)[0]


def _compared(
    store: MonthStore, month: str, window: Window, names: Collection[str], scored: Sequence[str]
) -> tuple[pa.Table, list[pa.Table]]:
    """The rows from the reference's first month to the month, with the named columns that there are."""
    contract = store.contract
    seen: list[pa.Table] = []

    def read(table: str, columns: Sequence[str] | None, first: str, last: str) -> pa.Table:
        seen.append(store.read(table, columns, first_month=max(first, contract.first_month), last_month=last))
        return seen[-1]

    wanted = {*names, *scored, *(["amount"] if contract.amount else [])}
    rows = compared_rows(
        months_between(contract.month_of(window.start), month),
        None,
        [name for name in feature_names(contract) if name in wanted],
        [name for name in contract.attributes if name in wanted and name not in feature_names(contract)],
        read,
        contract,
    )
    return rows, seen
