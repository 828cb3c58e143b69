"""How the platform stands, as a whole: its health, and the page for people who open nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json
from fraud_assets.settings import Settings, read_settings

if TYPE_CHECKING:
    from fraud_assets.workflows.progress import Progress

SIGNS = {"ok": "✓", "look": "!", "broken": "▲", "not looked at": "·"}


@app.command()
def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every value with what was written; reads all tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the whole platform, and say what to do about each fault; changes nothing.

    Exit codes: 0 nothing is broken, 1 something is.
    """
    from fraud_assets.workflows.overview.doctor import examine

    with clear_errors():
        # Not `open_settings`, which finishes a restore.
        found = examine(read_settings(), datetime.now(UTC), by_value=verify)
    if as_json:
        print_json(found)
    else:
        width = max(len(one["name"]) for one in found["checks"])
        for one in found["checks"]:
            _say(f"{SIGNS[one['verdict']]} {one['name']:<{width}}  {one['verdict']}: {one['said']}")
            if one["remedy"]:
                _say(f"  {'':<{width}}  → {one['remedy']}")
    if found["verdict"] == "broken":
        raise typer.Exit(1)


@app.command()
def page(
    folder: Annotated[Path, typer.Argument(help="Where to write it: an empty folder, or one that this command made.")],
    as_json: Json = False,
) -> None:
    """Write a folder of web pages for people without the tools: what is live, what to do, and each month."""
    from fraud_assets.cli.progress import ShownProgress

    with clear_errors():
        settings = open_settings()
        found = write_page(settings, folder, ShownProgress(Console(stderr=True) if as_json else console))
    if as_json:
        print_json(found)
    else:
        _say(found["index"])


def write_page(settings: Settings, folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes the folder of a home's pages; see `write_site`."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.overview.page import write_site

    store = open_store(settings)
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    return write_site(settings, store, ledger, Registry(settings), folder, datetime.now(UTC), progress)


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)
