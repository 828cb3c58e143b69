"""Labels: added from a file, and how complete they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, graph, open_settings, print_json

labels = typer.Typer(no_args_is_help=True, help="Labels: add a file of them, and see how complete they are.")

app.add_typer(labels, name="labels")


@labels.command("add")
def add_labels(
    file: Annotated[Path, typer.Argument(help="A file of any kind with transaction_id and is_fraud.")],
    as_json: Json = False,
) -> None:
    """Add a file of fraud labels: at any time, about any transaction, even one that has not arrived yet.

    Needs the columns transaction_id and is_fraud (true, false or withdrawn). May have label_timestamp (now when absent)
    and label_source (chargeback, analyst, customer_report). The columns of the contract's label feed, or of its source,
    are accepted as well. Rows that cannot be used are kept and counted by reason, with what to do; --json shows each.
    """
    from datetime import UTC, datetime

    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.labels import show_added
    from fraud_assets.workflows.labels import add_file
    from fraud_assets.workflows.runs.refresh import open_stale
    from fraud_assets.workflows.status import as_row

    with clear_errors():
        settings = open_settings()
        store = open_store(settings, writing=True)
        added = add_file(lambda: graph(settings), settings, store, file, now=datetime.now(UTC))
        outcome = added.to_dict(each=as_json) | {"stale": [as_row(one) for one in open_stale(settings)]}
        if as_json:
            print_json(outcome)
        else:
            show_added(console, outcome)
    if added.refused_rows.num_rows or added.failed:
        raise typer.Exit(1)


@labels.command("completeness")
def label_completeness(
    month: Annotated[str | None, typer.Option("--month", help="YYYY-MM; the newest when absent.")] = None,
    as_json: Json = False,
) -> None:
    """How many frauds of each month are known at a month's end, and how many are still expected."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.tables.labels import show_completeness
    from fraud_assets.workflows.labels import completeness_rows, read_completeness

    with clear_errors():
        store = open_store(open_settings())
        found = read_completeness(store, _stored_month(store.months("fraud_labels"), month))
        if as_json:
            print_json({"as_of": found.as_of, "months": completeness_rows(found)})
        else:
            show_completeness(console, found.as_of, completeness_rows(found))


def _stored_month(stored: Iterable[str], month: str | None) -> str:
    months = sorted(stored)
    if not months:
        raise ValueError("there are no labels yet; use `fraud run`")
    if month not in (None, *months):
        raise ValueError(f"there are no labels of {month}; there are some of {months[0]} to {months[-1]}")
    return month or months[-1]
