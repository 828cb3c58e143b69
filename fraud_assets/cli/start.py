"""From a file to a live model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json
from fraud_assets.cli.months import show_platform
from fraud_assets.settings import read_settings


@app.command()
def start(
    file: Annotated[Path, typer.Argument(help="A file of transactions, or a folder with one file a month.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: use what is found.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="The contract's name; the file's when absent.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where to write the contract; contracts/NAME.yaml when absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """From a file to a live model in one command: draft a contract, write the settings, run all months.

    It asks what only a person can know, and ends with the live model or with what is missing.
    """
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.cli.tables.contracts import show_data_check, show_prepared, show_started
    from fraud_assets.workflows.new_source import start as starting

    told = Console(stderr=True) if as_json else console
    with clear_errors():
        # One that cannot be is refused before anything is written.
        read_settings()
        ask = None if yes or as_json else lambda question, default: str(typer.prompt(question, default=default))
        started, contract = starting.prepare(file, name, out, ask, ShownProgress(told))
        show_prepared(told, started.to_dict())
        starting.use_settings(started)
        check = starting.look(started, contract)
        if check is not None:
            show_data_check(told, check.to_dict())
        if check is not None and started.missing is None:
            # Read again: they now name the contract.
            settings = open_settings()
            starting.run(graph(settings), settings, started, contract, check, ShownProgress(told))
            if not as_json:
                show_platform(settings)
        said = started.missing or (None if started.version else starting.no_model_yet(started))
        if as_json:
            print_json(started.to_dict() | {"ended": said or f"version {started.version} is live"})
        else:
            show_started(console, started.to_dict(), said)
    if started.version is None and any(month["failed"] for month in started.months):
        raise typer.Exit(1)
