"""Rows that broke the contract: listed, released, dropped."""

from __future__ import annotations

import getpass
from typing import Annotated, Literal

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json

quarantine = typer.Typer(no_args_is_help=True, help="Rows that broke the contract: list them, release them, drop them.")

app.add_typer(quarantine, name="quarantine")

Rows = Annotated[list[str] | None, typer.Argument(help="Rows, by the ids that `list` shows.")]

Month = Annotated[str | None, typer.Option("--month", help="Only rows of this month, YYYY-MM.")]

All = Annotated[bool, typer.Option("--all", help="All rows, or all that the other options choose.")]

Containing = Annotated[
    str | None, typer.Option("--reason-contains", help="All rows whose reason contains this, or is of this rule.")
]

Because = Annotated[str, typer.Option("--because", help="Why; stored with the decision.")]


@quarantine.command("list")
def list_quarantine(
    month: Month = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only rows whose reason contains this, or is of this rule.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Show at most this many rows.")] = 20,
    as_json: Json = False,
) -> None:
    """Rows in quarantine: counts by month and reason, and the first rows."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.quarantine import show_quarantine
    from fraud_assets.workflows.quarantine import list_rows

    with clear_errors():
        listed = list_rows(open_store(open_settings()).database, month, reason, limit)
        print_json(listed) if as_json else show_quarantine(console, listed)


@quarantine.command("release")
def release(
    because: Because,
    rows: Rows = None,
    month: Month = None,
    everything: All = False,
    reason: Containing = None,
    as_json: Json = False,
) -> None:
    """Accept rows although they break a range, a category, a pattern or the longest label delay."""
    _decide("release", because, rows or [], month, everything, reason, as_json)


@quarantine.command("drop")
def drop(
    because: Because,
    rows: Rows = None,
    month: Month = None,
    everything: All = False,
    reason: Containing = None,
    as_json: Json = False,
) -> None:
    """Leave rows out for good; they no longer count against their month."""
    _decide("drop", because, rows or [], month, everything, reason, as_json)


def _decide(
    action: Literal["release", "drop"],
    because: str,
    rows: list[str],
    month: str | None,
    everything: bool,
    reason: str | None,
    as_json: bool,
) -> None:
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.quarantine import show_decided
    from fraud_assets.workflows.quarantine import choose_rows, decide
    from fraud_assets.workflows.runs.refresh import open_stale
    from fraud_assets.workflows.status import as_row

    with clear_errors():
        settings = open_settings()
        store = open_store(settings, writing=True)
        chosen = choose_rows(store.database, rows, month, reason, everything=everything)
        decided = decide(graph(settings), settings, store, chosen, action, because, actor=getpass.getuser())
        outcome = decided.to_dict() | {"action": action, "stale": [as_row(one) for one in open_stale(settings)]}
        print_json(outcome) if as_json else show_decided(console, outcome)
    if decided.remaining or decided.failed:
        raise typer.Exit(1)
