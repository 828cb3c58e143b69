"""How the `fraud` command shows things to people; what is shown comes from `adapters/status.py`."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

COLOURS = {"OK": "green", "WATCH": "yellow", "DRIFT": "red", "INSUFFICIENT_DATA": "dim"}
METRICS = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "card_precision_at_100": "card precision@100",
}


def show_status(console: Console, status: dict[str, Any]) -> None:
    """The state of the platform on one screen."""
    parts: list[Any] = [_live(status["champion"])]
    if status["champion"] and status["champion"]["evaluation"]:
        parts += ["", _metrics(status["champion"])]
    parts += ["", _drift_line(status["drift"])]
    console.print(Panel(Group(*parts), title=f"fraud platform: {status['contract']}", expand=False, padding=(1, 2)))
    commands = Table.grid(padding=(0, 2))
    commands.add_row("[bold]make dev[/]", "the graph, runs and sensor (port 3000), the models (5001)")
    commands.add_row("[bold]make serve[/]", "the live model over HTTP (port 5000)")
    commands.add_row("[bold]fraud status[/]", "this summary again (.venv/bin/fraud); --json for machines")
    console.print(commands)


def _live(champion: dict[str, Any] | None) -> Text:
    if champion is None:
        return Text.from_markup("[bold]Live:[/] no model has been promoted yet.")
    model = champion["model"] or {}
    # The month may have been trained again since: its row is then about the newer version.
    family = (champion["model"] or champion["evaluation"] or {}).get("family", "not evaluated yet")
    text = Text.from_markup(
        f"[bold]Live:[/] version [bold]{champion['version']}[/], {family}, "
        f"promoted on the evidence of {champion['month']} (at {champion['since']:%Y-%m-%d %H:%M} UTC)\n"
    )
    if model.get("training_from"):
        text.append(
            f"Trained on {model['n']:,} transactions, {model['n_fraud']:,} frauds, "
            f"{model['training_from']:%Y-%m-%d} to {model['training_to']:%Y-%m-%d}\n"
        )
    text.append(f"Why:  {champion['reasons']}\n")
    text.append(f"Bento: {champion['bento_tag'] or 'not packaged yet'}")
    return text


def _metrics(champion: dict[str, Any]) -> Table:
    row, reference = champion["evaluation"], champion["reference"]
    table = Table(
        title=f"{row['n']:,} transactions, {row['n_fraud']:,} frauds (prevalence {row['prevalence']:.2%}), "
        f"{row['window_from']:%Y-%m-%d} to {row['window_to']:%Y-%m-%d}, as known at the end of {row['month']:%Y-%m}",
        title_justify="left",
        title_style="",
    )
    table.add_column("out of time")
    table.add_column(f"champion v{row['model_version']}", justify="right")
    table.add_column("reference (logistic regression)", justify="right")
    for name, label in METRICS.items():
        table.add_row(label, _interval(row, name), _interval(reference, name))
    return table


def _interval(row: dict[str, Any] | None, name: str) -> str:
    if row is None or row[name] is None:
        return "-"
    if row[f"{name}_low"] is None:
        return f"{row[name]:.3f}"
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"


def _drift_line(verdict: dict[str, Any] | None) -> Text:
    if verdict is None:
        return Text.from_markup("[bold]Drift:[/] no report yet.")
    colour = COLOURS[verdict["drift_status"]]
    return Text.from_markup(
        f"[bold]Drift[/] in {verdict['month']:%Y-%m}: [{colour}]{verdict['drift_status']}[/]. "
    ).append(verdict["reason"].split("\n")[0])


def show_drift(console: Console, rows: list[dict[str, Any]]) -> None:
    """A month's drift report."""
    verdict, *features = rows
    console.print(_drift_line(verdict))
    for reason in verdict["reason"].split("\n")[1:]:
        console.print(f"  {reason}", highlight=False)
    if not features:
        return
    table = Table(title=f"against {verdict['reference_from']} to {verdict['reference_to']}", title_justify="left")
    for name in ("feature", "kind", "status", "PSI", "adjusted p", "missing", "median"):
        # A name that is cut short names nothing; the figures may wrap.
        table.add_column(
            name, justify="left" if name in ("feature", "kind", "status") else "right", no_wrap=name == "feature"
        )
    for row in features:
        colour = COLOURS[row["drift_status"]]
        table.add_row(
            row["feature"],
            row["kind"],
            f"[{colour}]{row['drift_status']}[/]",
            _number(row["psi"], ".4f"),
            _number(row["p_adjusted"], ".3g"),
            f"{_number(row['missing_reference'], '.1%')} \u2192 {_number(row['missing_current'], '.1%')}",
            f"{_number(row['median_reference'], '.3g')} \u2192 {_number(row['median_current'], '.3g')}",
        )
    console.print(table)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
