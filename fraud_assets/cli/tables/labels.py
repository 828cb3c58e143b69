"""Labels that were added or refused, and how complete they are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.status import stale_table
from fraud_assets.cli.tables.style import LEFT, optional
from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.core.reasons import joined, read_reasons
from fraud_assets.core.words import percent


def show_added(console: Console, added: dict[str, Any]) -> None:
    """What came of a label file, and what is stale now."""
    show_refused(console, added["refused_for"])
    console.print(
        f"{added['taken']:,} statements taken, {added['repeated']:,} repeated, {added['n_refused']:,} refused; "
        f"{added['unseen']:,} about transactions that have not been seen.",
        highlight=False,
    )
    if added["materialized"]:
        console.print(f"fraud_labels rebuilt: {in_words(added['materialized'])}", highlight=False)
    if added["waiting"]:
        console.print(f"Taken in when they are run: {in_words(added['waiting'])}", highlight=False)
    for month, error in added["failed"].items():
        console.print(f"[red]fraud_labels {month}[/]: {escape(error)}", highlight=False, soft_wrap=True)
    if added["stale"]:
        console.print(stale_table(added["stale"]))


def show_feed(console: Console, feed: dict[str, Any]) -> None:
    """What a contract makes of its label feed."""
    if feed["files"]:
        console.print(
            f"Labels in {', '.join(feed['files'])}: {feed['n_read']:,} rows, {feed['n_taken']:,} taken, "
            f"{feed['n_fraud']:,} of them fraud, {feed['n_refused']:,} refused",
            highlight=False,
            soft_wrap=True,
        )
    show_refused(console, feed["reasons"])
    if feed["refused"]:
        console.print(f"[red]{escape(feed['refused'])}[/]", highlight=False, soft_wrap=True)


def show_refused(console: Console, reasons: list[dict[str, Any]]) -> None:
    """Why rows of label files cannot be used, with the first rows of each reason."""
    for one in reasons:
        said = escape(joined(read_reasons(one["reasons"])))
        console.print(f"[yellow]{one['rows']:,}[/] {said}", highlight=False, soft_wrap=True)
        for row in one["examples"]:
            values = ", ".join(f"{name}={value}" for name, value in row["original"].items())
            line = Text(f"    row {row['row_number']} of {row['file']}: {values}", no_wrap=True, overflow="ellipsis")
            console.print(line)


def show_completeness(console: Console, as_of: datetime, months: list[dict[str, Any]]) -> None:
    """Months of transactions with their known frauds and those still to come."""
    table = Table(title=f"Frauds known at {as_of:%Y-%m-%d %H:%M} UTC", **LEFT)
    table.add_column("month")
    table.add_column("labels")
    for name in ("transactions", "matured", "frauds", "share known", "still to come (95 %)", "expected"):
        table.add_column(name, justify="right")
    for row in months:
        colour = "red" if row["is_short"] else "green" if row["status"] == "matured" else "yellow"
        to_come, low, high = (row[f"still_to_come{end}"] for end in ("", "_low", "_high"))
        table.add_row(
            row["month"],
            f"[{colour}]{'too few' if row['is_short'] else row['status']}[/]",
            f"{row['n']:,}",
            percent(row["n_matured"] / max(row["n"], 1)),
            f"{row['n_fraud']:,}",
            optional(row["known_share"], percent),
            "-" if to_come is None else f"{to_come:,.0f} [{low:,.0f}, {high:,.0f}]",
            "-" if row["expected"] is None else f"{row['expected']:,.0f}, at least {row['expected_low']:,.0f}",
        )
    console.print(table)
