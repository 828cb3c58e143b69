"""A month's drift report, column by column."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.style import optional
from fraud_assets.core.monitoring.verdict import in_sentences
from fraud_assets.core.reasons import read_reasons
from fraud_assets.core.words import number, percent

COLOURS = {"OK": "green", "WATCH": "yellow", "DRIFT": "red", "INSUFFICIENT_DATA": "dim"}


def drift_head(verdict: dict[str, Any]) -> Text:
    """The month and its verdict, as a line begins."""
    status = verdict["drift_status"]
    return Text.from_markup(f"[bold]Drift[/] in {verdict['month']:%Y-%m}: [{COLOURS[status]}]{status}[/]. ")


def show_drift(console: Console, rows: list[dict[str, Any]]) -> None:
    """A month's drift report."""
    verdict, *findings = rows
    has_champion = verdict["champion_version"] is not None
    first, *more = in_sentences(verdict["blame"], read_reasons(verdict["reasons"]), has_champion=has_champion) or [""]
    console.print(drift_head(verdict).append(first))
    for sentence in more:
        console.print(Padding(Text(sentence), (0, 0, 0, 2)), highlight=False)
    if not findings:
        return
    title = f"against {verdict['reference_from']} to {verdict['reference_to']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # What is cut short says nothing. PSI, p and causes are in the reasons, or all would not fit a narrow screen.
    for name in ("status", "kind", "what", "before", "now"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("before", "now") else "left")
    for row in findings:
        status = row["drift_status"]
        table.add_row(
            f"[{COLOURS[status]}]{'unknown' if status == 'INSUFFICIENT_DATA' else status}[/]",
            row["kind"],
            Text(row["feature"] + (f", {row['segment']}" if row["segment"] else "")),
            *_before_and_now(row),
        )
    console.print(table)


def _before_and_now(row: dict[str, Any]) -> tuple[str, str]:
    """The figure that says it best: what was measured, else the share of missing, else the median."""
    for name, say in (("value", number), ("missing", percent), ("median", number)):
        before, now = row[f"{name}_reference"], row[f"{name}_current"]
        if name == "missing" and row["kind"] != "missing":
            continue
        if before is not None or now is not None:
            return optional(before, say), optional(now, say)
    return "-", "-"
