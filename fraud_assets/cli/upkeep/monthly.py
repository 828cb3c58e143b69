"""The monthly run, for a scheduler."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json
from fraud_assets.core.decisions.monthly import REFUSED, Exit


@app.command()
def monthly(
    month: Annotated[
        str | None, typer.Option("--month", help="The last month to run, YYYY-MM; the newest complete one when absent.")
    ] = None,
    summary: Annotated[Path | None, typer.Option("--summary", help="Write a summary in Markdown to this file.")] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write the pages of `fraud page` into this folder afterwards.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run everything for the newest complete month, and for earlier ones that are missing; safe to repeat.

    Exit codes: 0 done, 1 failed, 10 a model waits for an approval, 20 the data were refused, 30 no complete month yet,
    40 another run is working on the month.
    """
    from fraud_assets.cli.months import read_platform
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.cli.upkeep.overview import write_page
    from fraud_assets.workflows.runs.monthly import exit_of_run, run_monthly
    from fraud_assets.workflows.runs.monthly_summary import OUTCOMES, summarize

    with clear_errors():
        settings = open_settings()
        progress = ShownProgress(Console(stderr=True) if as_json else console)
        try:
            outcome = run_monthly(graph(settings), settings, month, datetime.now(UTC), progress)
        except ValueError as error:
            if type(error).__name__ in REFUSED:
                error.exit_code = Exit.DATA_REFUSED  # type: ignore[attr-defined] # as `clear_errors` reads it
            raise
        status = read_platform(settings)
        found = exit_of_run(outcome, status["waiting"])
        text = summarize(outcome, status, found)
        if summary is not None:
            summary.parent.mkdir(parents=True, exist_ok=True)
            summary.write_text(text, encoding="utf-8")
        if page is not None:
            write_page(settings, page, progress)
        if as_json:
            print_json({**outcome, "exit_code": int(found), "outcome": OUTCOMES[found], "status": status})
        else:
            console.print(escape(text), highlight=False, soft_wrap=True)
    raise typer.Exit(int(found))
