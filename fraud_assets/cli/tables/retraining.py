"""What retraining and alerts were about."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.style import LEFT
from fraud_assets.core.reasons import joined, read_reasons


def show_retrainings(console: Console, listed: list[dict[str, Any]]) -> None:
    """Decisions on retraining, the newest first."""
    if not listed:
        console.print("No decisions yet: the drift sensor decides on each month's drift report (`fraud dev`).")
        return
    shown = Table(title="Decisions on retraining", show_lines=True, **LEFT)
    for name in ("month", "decided (UTC)", "decision", "asked by", "run", "why"):
        shown.add_column(name, overflow="fold")
    for one in listed:
        attempt = f", attempt {one['attempt_number']}" if (one["attempt_number"] or 1) > 1 else ""
        shown.add_row(
            one["month"],
            f"{one['recorded_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            Text(one["decision"] + attempt, style={"retrain": "red", "wait": "yellow"}.get(one["decision"], "dim")),
            one["trigger"] or "-",
            f"{one['run_id'][:8]} {one['run_status'].lower()}" if one["run_id"] else "-",
            escape(joined(read_reasons(one["reasons"]))),
        )
    console.print(shown)


def show_alerts(console: Console, listed: list[dict[str, Any]]) -> None:
    """Alerts, the newest first, with the state of each delivery."""
    if not listed:
        console.print("No alerts yet.")
    for alert in listed:
        console.print(Text.assemble((alert["headline"], "bold"), f"  {alert['at']:%Y-%m-%d %H:%M}"), soft_wrap=True)
        console.print(Text(f"  {alert['sentence']}"), soft_wrap=True)
        for one in alert["deliveries"]:
            said = f"  {one['state'].replace('_', ' ')}: {one['channel']}"
            if one["delivered_at"]:
                said += f" at {one['delivered_at']:%Y-%m-%d %H:%M}"
            elif one["attempts"]:
                said += f", {one['attempts']} attempts, the last: {one['last_error']}"
            style = {"delivered": "green", "waiting": "yellow", "given_up": "red"}.get(one["state"], "dim")
            console.print(Text(said, style=style), soft_wrap=True)
