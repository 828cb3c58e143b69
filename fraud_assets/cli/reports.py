"""What people read about months: drift, the report page, the backtest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json


@app.command()
def drift(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; the newest when absent.")] = None,
    as_json: Json = False,
) -> None:
    """A month's drift report: the verdict, its reasons, and every feature."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.drift import show_drift
    from fraud_assets.workflows.status import read_drift

    with clear_errors():
        rows = read_drift(open_store(open_settings()), month)
        if as_json:
            print_json(rows)
        else:
            show_drift(console, rows)


@app.command()
def backtest(
    first: Annotated[str, typer.Option("--from", help="First month in which models are live, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM.")],
    policy: Annotated[
        str, typer.Option("--policy", help="never, monthly, every-N, on-drift, on-watch; several with commas.")
    ] = "never,monthly,on-drift",
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the plot: .png, .svg or .html.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the rows.")] = None,
    as_json: Json = False,
) -> None:
    """Replay stored months under retraining policies: what would each have brought?"""
    from fraud_assets.core.backtest.replay import parse_policies
    from fraud_assets.pages.backtest import save_picture, save_rows, show_backtest
    from fraud_assets.workflows.backtest import backtest_stored

    told = Console(stderr=True)
    with clear_errors():
        if plot is not None and plot.suffix.lower() not in (".png", ".svg", ".html"):
            raise ValueError(f"{plot} is no .png, .svg or .html; name a file of one of these kinds")
        policies = parse_policies(policy)
        rows = backtest_stored(
            open_settings(), first, last, policies, lambda said: told.print(f"[dim]{escape(said)}[/]", highlight=False)
        )
        found = rows.to_pylist()
        if plot is not None:
            save_picture(found, plot)
        if csv_file is not None:
            save_rows(rows, csv_file)
        if as_json:
            print_json([row | {"reasons": json.loads(row["reasons"])} for row in found])
        else:
            show_backtest(console, found)


@app.command()
def card(
    version: Annotated[int, typer.Argument(help="The registered version.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write, .html or .md; in FRAUD_HOME when absent."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write a version's model card: what it is for, how good it is, where it is weak."""
    import webbrowser

    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.models.model_card import write_card

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        file = write_card(settings, store, LedgerStore(store.database), Registry(settings), version, output=output)
        print_json({"file": file}) if as_json else print(file)
        if show and not webbrowser.open(file.as_uri()):
            raise ValueError(f"there is no browser to open it with here; the card is at {file}")


@app.command("explain-decision")
def explain_decision(
    transaction: Annotated[str, typer.Argument(help="The id of a stored transaction.")],
    version: Annotated[
        int | None, typer.Option("--version", help="Ask this version, not the one that was live then.")
    ] = None,
    reasons: Annotated[int, typer.Option("--reasons", help="Features to show; --json has all.", min=1)] = 10,
    as_json: Json = False,
) -> None:
    """What was behind the score of a stored transaction: model, threshold, features, labels, and reasons."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.models import show_decision
    from fraud_assets.workflows.models.explain_decision import explain_decision as explained

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        found = explained(store, LedgerStore(store.database), Registry(settings), transaction, version=version)
        if as_json:
            print_json(found.to_dict())
        else:
            show_decision(console, found.to_dict(), reasons)


@app.command()
def report(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; the newest when absent.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; in FRAUD_HOME when absent.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write a month's drift report as one HTML page to read, print or send."""
    import webbrowser

    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.report_page import write_report

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        file = write_report(settings, store, LedgerStore(store.database), Registry(settings), month, output=output)
        print_json({"file": file}) if as_json else print(file)
        if show and not webbrowser.open(file.as_uri()):
            raise ValueError(f"there is no browser to open it with here; the page is at {file}")
