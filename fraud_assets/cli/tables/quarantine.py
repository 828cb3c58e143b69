"""Rows that are held back, and what people decided about them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.status import stale_table
from fraud_assets.cli.tables.style import LEFT
from fraud_assets.core.reasons import joined, read_reasons


def show_quarantine(console: Console, listed: dict[str, Any]) -> None:
    """Counts of quarantined rows by month and reason, then rows."""
    if not listed["counts"]:
        console.print("No row is in quarantine.")
        return
    counts = Table(title="Rows by month and reason", **LEFT)
    for name in ("month", "status", "rows", "reason"):
        counts.add_column(name, justify="right" if name == "rows" else "left")
    for row in listed["counts"]:
        counts.add_row(row["month"], row["status"], f"{row['rows']:,}", Text(row["reason"]))
    console.print(counts)
    console.print("[bold]Rows[/]: name one by its id in `fraud quarantine release` or `drop`", soft_wrap=True)
    for row in listed["rows"]:
        values = ", ".join(f"{name}={value}" for name, value in row["original"].items())
        mark = " (dropped)" if row["status"] == "dropped" else ""
        place = f"{row['month']}  row {row['row_number']:,} of {row['source']}"
        # In lines and not in columns: on a narrow screen, columns would cut what the row is about.
        console.print(Text.assemble((row["row"], "bold"), f"  {place}{mark}"), soft_wrap=True)
        console.print(Text(f"  {joined(read_reasons(row['reasons']))}"), soft_wrap=True)
        # The values may be cut, because the table has them whole.
        console.print(Text(f"  {values}", style="dim"), no_wrap=True, overflow="ellipsis")


def show_decided(console: Console, outcome: dict[str, Any]) -> None:
    """What came of releasing or dropping rows."""
    done = "accepted" if outcome["action"] == "release" else "dropped"
    if outcome["settled"]:
        console.print(f"{len(outcome['settled']):,} rows are now {done}.", highlight=False)
    for row in outcome["remaining"]:
        console.print(f"[yellow]not stored[/] {row['row']}: {escape(row['remedy'])}", highlight=False, soft_wrap=True)
    for month, error in outcome["failed"].items():
        console.print(
            f"[red]{month}[/] could not be run again; the decision takes effect in its next run: {escape(error)}",
            highlight=False,
            soft_wrap=True,
        )
    if outcome["stale"]:
        console.print(stale_table(outcome["stale"]))
