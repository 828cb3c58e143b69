"""What was decided about retraining."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

retraining = typer.Typer(no_args_is_help=True, help="Retraining: what was decided about each month, and why.")

app.add_typer(retraining, name="retraining")


@retraining.command("list")
def list_of_retrainings(
    month: Annotated[str | None, typer.Option("--month", help="Only decisions on this month, YYYY-MM.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """The drift sensor's decisions: month, time, trigger, reason, and the run that followed."""
    from fraud_assets.adapters.dagster_storage import open_instance
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.cli.tables.retraining import show_retrainings
    from fraud_assets.workflows.retraining import RetrainingStore, list_decisions

    with clear_errors():
        settings = open_settings()
        store = RetrainingStore(open_database(settings))
        listed = list_decisions(store, partial(open_instance, settings), limit, month)
        print_json(listed) if as_json else show_retrainings(console, listed)
