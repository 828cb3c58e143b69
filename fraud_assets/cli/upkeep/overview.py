"""How the platform stands, as a whole: its health, and the page for people who open nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, print_json
from fraud_assets.settings import read_settings

SIGNS = {"ok": "✓", "look": "!", "broken": "▲", "not looked at": "·"}


@app.command()
def doctor(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare every value with what was written; reads all tables.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at everything that may be wrong, and say what to do; nothing is changed.

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


def _say(sentence: str) -> None:
    console.print(escape(sentence), highlight=False, soft_wrap=True)
