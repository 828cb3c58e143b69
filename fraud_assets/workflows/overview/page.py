"""A folder of pages that say how the platform stands: gathered from what is stored, and written.

No row of a person is read. What stands on the pages belongs to `pages/`.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.chain import LedgerError
from fraud_assets.core.decisions.ledger import Event, champion_event
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.lineage.staleness import Stale, in_words
from fraud_assets.pages.backtest import save_picture
from fraud_assets.pages.site import MARK, Asked, Live, Model, Month, SiteFacts, estimate, site_page
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.approve import read_waiting
from fraud_assets.workflows.models.model_card import write_card
from fraud_assets.workflows.models.truth import find_disagreements
from fraud_assets.workflows.new_source.feed_check import feed_findings
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.report_page import write_report
from fraud_assets.workflows.runs.refresh import open_stale
from fraud_assets.workflows.status import read_status

INDEX, REPORTS, CARDS, BACKTEST = "index.html", "reports", "cards", "backtest.html"
OWN = {INDEX, REPORTS, CARDS, BACKTEST}


def write_site(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    folder: Path,
    now: datetime,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes the pages into a folder; the index comes last, so that what it links to is there.

    Args:
        settings: of the home.
        store: the tables.
        ledger: the ledger.
        registry: of the models.
        folder: an empty one, one that this made before, or none yet.
        now: the present moment.
        progress: hears of it.

    Returns:
        `index`, the file to open; `reports` and `cards`, how many pages; `asked`, what is to be done, in sentences.

    Raises:
        ValueError: when the folder has something else in it, or cannot be written.
    """
    progress, folder = progress or Progress(), folder.expanduser().resolve()
    _check(folder)
    events, fault = _events(ledger)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with progress.working("reports"):
            reports = _reports(settings, store, ledger, registry, folder)
        with progress.working("model cards"):
            cards = _cards(settings, store, ledger, registry, events, folder)
        with progress.working("the index"):
            facts = gather(settings, store, ledger, registry, events, fault, reports, cards, folder, now)
            _write(folder / INDEX, site_page(facts))
    except OSError as error:
        raise ValueError(f"the pages cannot be written: {error}; name another folder") from error
    return {
        "index": str(folder / INDEX),
        "reports": len(reports),
        "cards": len(cards),
        "asked": [f"{one.who}: {one.what} {one.how}".rstrip() for one in facts.asked],
    }


# What was opened and what was written so far, from one caller.
def gather(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    events: Sequence[Event],
    fault: str | None,
    reports: Mapping[str, str],
    cards: Mapping[int, str],
    folder: Path,
    now: datetime,
) -> SiteFacts:
    """All that stands on the index; `reports` and `cards` are the pages that there are."""
    stale = open_stale(settings)
    champion = None if fault else champion_event(events)
    totals = [row for row in store.read("backtest").to_pylist() if row["kind"] == "total"]
    if totals:
        save_picture(store.read("backtest").to_pylist(), folder / BACKTEST)
    remarks = [] if fault else read_status(store, ledger)["why"]
    return SiteFacts(
        contract=store.contract.name,
        made_at=now,
        live=_live(store, champion) if champion else None,
        why_none=next((one["sentence"] for one in remarks if one["subject"] != "drift"), "No month has been run yet."),
        asked=[] if fault else list(_asked(settings, store, ledger, registry, stale, now)),
        months=_months(store, reports, {one.month for one in stale}),
        models=_models(events, champion, cards),
        backtests=totals,
        backtest_page=BACKTEST if totals else None,
        events=list(reversed(events)),
        fault=fault,
        platform=importlib.metadata.version("fraud-assets"),
    )


def _check(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder")
    there = {path.name for path in folder.iterdir()}
    index = folder / INDEX
    if there and not (index.is_file() and MARK in index.read_text(encoding="utf-8", errors="replace")[:2000]):
        raise ValueError(f"{folder} has something else in it, and nothing was written; name an empty folder")
    if other := sorted(there - OWN):
        raise ValueError(f"{folder} has {other[0]} in it, which is not of these pages; move it elsewhere")


def _events(ledger: LedgerStore) -> tuple[list[Event], str | None]:
    try:
        return ledger.events(), None
    except LedgerError:
        found = ledger.find_fault()
        return [], found.sentence if found else "it cannot be read"


def _reports(
    settings: Settings, store: MonthStore, ledger: LedgerStore, registry: Registry, folder: Path
) -> dict[str, str]:
    """The pages of reports by month, as the index links to them."""
    pages = {}
    for month in store.months("drift_report"):
        file = folder / REPORTS / f"{month}.html"
        write_report(settings, store, ledger, registry, month, output=file)
        pages[month] = f"{REPORTS}/{file.name}"
    return pages


def _cards(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    events: Iterable[Event],
    folder: Path,
) -> dict[int, str]:
    """The pages of model cards by version; none of those whose files are not in the registry."""
    pages = {}
    for version in sorted({event.model_version for event in events if event.kind == "registered"}):
        file = folder / CARDS / f"v{version}.html"
        try:
            write_card(settings, store, ledger, registry, version, output=file)
        except RegistryError:
            continue
        pages[version] = f"{CARDS}/{file.name}"
    return pages


def _live(store: MonthStore, event: Event) -> Live:
    version = event.model_version
    trained = [row for row in store.read("trained_model").to_pylist() if row["model_version"] == version]
    judged = [
        row
        for row in store.read("evaluation").to_pylist()
        if row["model_version"] == version and row["role"] != "reference" and row["average_precision"] is not None
    ]
    newest = judged[-1] if judged else None
    return Live(
        version,
        event.recorded_at,
        event.month,
        event.by_hand,
        trained[-1]["family"] if trained else None,
        estimate(newest, "average_precision") if newest else None,
        f"{newest['month']:%Y-%m}" if newest else None,
    )


def _asked(
    settings: Settings,
    store: MonthStore,
    ledger: LedgerStore,
    registry: Registry,
    stale: Sequence[Stale],
    now: datetime,
) -> Iterable[Asked]:
    for request in read_waiting(store, ledger, now):
        yield Asked(
            "Who approves models",
            f"version {request.model_version} passed on the evidence of {request.month} and waits until "
            f"{request.expires_at:%Y-%m-%d %H:%M} UTC.",
            f"fraud approve {request.model_version} --reason TEXT",
        )
    try:
        for one in find_disagreements(ledger, registry, settings):
            yield Asked("Who runs the platform", f"{one.sentence}.", "fraud reconcile")
    except PlatformError:
        yield Asked("Who runs the platform", "MLflow does not answer.", "fraud doctor")
    status = read_status(store, ledger)
    for run in status["dead_runs"]:
        yield Asked("Who runs the platform", f"{run['sentence']}.", "fraud run")
    quarantined = store.database.rows(
        "quarantined_transactions",
        "SELECT to_char(month, 'YYYY-MM'), count(*) FROM quarantined_transactions WHERE status = 'quarantined' "
        "GROUP BY 1 ORDER BY 1 DESC LIMIT 3",
    )
    for month, n in quarantined:
        yield Asked(
            "Who owns the source",
            f"{n:,} rows of {month} broke the contract.",
            f"fraud quarantine list --month {month}",
        )
    for found in feed_findings(store)[-3:]:
        yield Asked("Who owns the labels", f"{found['month']}: {found['sentence']}.", "fraud labels completeness")
    if stale:
        months = in_words({one.month for one in stale})
        yield Asked("Who runs the platform", f"{months}: what it was made of has changed.", "fraud refresh")


def _months(store: MonthStore, reports: Mapping[str, str], stale: set[str]) -> list[Month]:
    rows = {row["month"]: row["n_rows"] for row in store.versions("raw_transactions").to_pylist()}
    verdicts = {
        f"{row['month']:%Y-%m}": row
        for row in store.read("drift_report", ["month", "kind", "drift_status", "blame"]).to_pylist()
        if row["kind"] == "verdict"
    }
    decided = {f"{row['month']:%Y-%m}": row for row in store.read("champion").to_pylist()}
    months = sorted({*rows, *verdicts, *decided}, reverse=True)
    found = []
    for month in months:
        verdict, decision = verdicts.get(month, {}), decided.get(month, {})
        found.append(
            Month(
                month,
                rows.get(month),
                verdict.get("drift_status"),
                verdict.get("blame"),
                reports.get(month),
                decision.get("validation_status"),
                decision.get("challenger_version"),
                decision.get("champion_version"),
                month in stale,
            )
        )
    return found


def _models(events: Sequence[Event], champion: Event | None, cards: Mapping[int, str]) -> list[Model]:
    words = {"registered": "trained", "validated": "passed, not live", "refused": "refused", "approved": "approved",
             "promoted": "was live", "rolled_back": "was live", "retired": "removed"}  # fmt: skip
    trained = {event.model_version: event.month for event in events if event.kind == "registered"}
    last = {event.model_version: event.kind for event in events}
    return [
        Model(
            version,
            trained[version],
            "live" if champion and champion.model_version == version else words.get(last[version], last[version]),
            cards.get(version),
        )
        for version in sorted(trained, reverse=True)
    ]


def _write(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as scratch:
        scratch.write(text)
    Path(scratch.name).chmod(0o644)
    Path(scratch.name).replace(file)
