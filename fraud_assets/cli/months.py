"""Running and refreshing months, and the state of the platform."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    from fraud_assets.core.models.decision_rule import DecisionRule


@app.command()
def run(
    first: Annotated[str | None, typer.Option("--from", help="First month, YYYY-MM.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM.")] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh/--no-refresh", help="Rebuild later months that were built on these.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Build all tables month by month, from transactions to a promoted, packaged model.

    Rebuilds later months that were built without these months, or on other rows of them.
    """
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.runs.refresh import run_and_refresh

    with clear_errors():
        settings = open_settings()
        told = Console(stderr=True) if as_json else console
        outcome = run_and_refresh(graph(settings), settings, first, last, ShownProgress(told), refresh=refresh)
        if as_json:
            print_json(outcome)
        else:
            show_platform(settings)
    if outcome["refreshed"]["failed"] or any(month["failed"] for month in outcome["months"]):
        raise typer.Exit(1)


@app.command()
def status(as_json: Json = False) -> None:
    """What is live, since when and why, how good it is, what drift says, and what is stale."""
    with clear_errors():
        settings = open_settings()
        if as_json:
            print_json(read_platform(settings))
        else:
            show_platform(settings)


def read_platform(settings: Settings) -> dict[str, Any]:
    """What `fraud status` shows."""
    from fraud_assets.adapters.live_bento import read_live
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.models.approve import read_waiting
    from fraud_assets.workflows.models.truth import find_disagreements
    from fraud_assets.workflows.rollout.challengers import read_status_of_challengers
    from fraud_assets.workflows.runs.refresh import open_stale
    from fraud_assets.workflows.scores import read_kept
    from fraud_assets.workflows.status import read_status

    store = open_store(settings)
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    found = find_disagreements(ledger, Registry(settings), settings)
    requests = read_waiting(store, ledger, datetime.now(UTC))
    scores = read_kept(store, settings.scores_path)
    live = read_live(settings.bentoml_home)
    told = read_status(store, ledger, open_stale(settings), partial(_rule, settings), found, requests, scores, live)
    return told | {"challengers": read_status_of_challengers(store, ledger.events(), settings)}


def _rule(settings: Settings, version: int) -> DecisionRule | None:
    """The decision rule of a version, from the registry, which takes seconds to load."""
    from fraud_assets.adapters.mlflow import Registry

    registry = Registry(settings)
    return registry.fetch(version)[1].rule if registry.has(version) else None


def show_platform(settings: Settings) -> None:
    """Shows it to people."""
    from fraud_assets.cli.tables.status import show_status

    show_status(console, read_platform(settings))


@app.command()
def refresh(
    first: Annotated[str | None, typer.Option("--from", help="First month, YYYY-MM.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is stale and why; run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Rebuild what is stale, and nothing else: months whose labels or earlier months have changed since."""
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.cli.tables.status import show_refresh
    from fraud_assets.workflows.runs.refresh import refresh_months

    with clear_errors():
        settings = open_settings()
        told = Console(stderr=True) if as_json else console
        outcome = refresh_months(graph(settings), settings, first, last, ShownProgress(told), dry_run=dry_run)
        if as_json:
            print_json(outcome)
        else:
            show_refresh(console, outcome)
    if outcome["failed"]:
        raise typer.Exit(1)


@app.command()
def versions(
    table: Annotated[str, typer.Argument(help="The table, such as raw_transactions.")],
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; all months when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Every version of a table's months: when and by which run it was written, and what changed."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.status import show_versions
    from fraud_assets.workflows.status import read_versions

    with clear_errors():
        rows = read_versions(open_store(open_settings()), table, month)
        if as_json:
            print_json(rows)
        else:
            show_versions(console, table, rows)
