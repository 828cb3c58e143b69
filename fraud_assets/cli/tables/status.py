"""What the platform stands at, on one screen, and what is stale."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.drift import drift_head
from fraud_assets.cli.tables.style import LEFT
from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.core.models.decision_rule import figure
from fraud_assets.core.monitoring.verdict import in_short
from fraud_assets.core.reasons import joined, read_reasons
from fraud_assets.core.words import percent

METRICS = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "card_precision_at_100": "card precision@100",
}


def show_status(console: Console, status: dict[str, Any]) -> None:
    """The state of the platform on one screen."""
    parts: list[Any] = [_live(status["champion"])]
    if status["champion"] and status["champion"]["decisions"]["rule"]:
        parts += ["", _promise(status["champion"])]
    if status["champion"] and status["champion"]["evaluation"]:
        parts += ["", _metrics(status["champion"])]
    parts += ["", _drift_line(status["drift"])]
    # What drift says has a line of its own.
    remarks = [remark for remark in status["why"] if remark["subject"] != "drift"]
    if remarks:
        parts += ["", Text.from_markup(f"[bold]In {remarks[0]['month']}:[/]"), *map(remark_line, remarks)]
    said = {remark["month"] for remark in remarks if remark["subject"] == "labels"}
    if labels := [one for one in status["labels"] if one["month"] not in said]:
        parts += ["", *_label_lines(labels)]
    if status["stale"]:
        parts += ["", stale_table(status["stale"])]
    if status["removed"]:
        parts += ["", Text(status["removed"][0].upper() + status["removed"][1:] + ".", style="dim")]
    if status["waiting"]:
        parts += ["", *(Text(waiting_line(one), style="yellow") for one in status["waiting"])]
    if status["breaker"]:
        parts += ["", Text(breaker_line(status["breaker"]), style="red")]
    if status["scores"]:
        parts += ["", _scores_line(status["scores"])]
    for one in status.get("challengers", []):
        parts += ["", *_challenger_lines(one)]
    if status["disagreements"]:
        parts += ["", *(Text(one["sentence"], style="red") for one in status["disagreements"])]
    if status["dead_runs"]:
        parts += ["", *(Text(f"{one['sentence']}; run it again", style="red") for one in status["dead_runs"])]
    console.print(Panel(Group(*parts), title=f"fraud platform: {status['contract']}", expand=False, padding=(1, 2)))
    commands = Table.grid(padding=(0, 2))
    commands.add_row("[bold]make dev[/]", "the graph, runs and sensor (port 3000), the models (5001)")
    commands.add_row("[bold]make serve[/]", "the live model over HTTP (port 5000)")
    commands.add_row("[bold]fraud status[/]", "this summary again (.venv/bin/fraud); --json for machines")
    console.print(commands)


def waiting_line(one: Mapping[str, Any]) -> str:
    """What waits for a person, until when, and how to answer."""
    beside = "nothing is live" if one["champion"] is None else f"version {one['champion']} is live"
    return (
        f"Version {one['version']} passed on the evidence of {one['month']} and waits for a person until "
        f"{one['until']:%Y-%m-%d %H:%M} UTC, while {beside}: fraud approve {one['version']} --reason TEXT, or reject"
    )


def breaker_line(breaker: Mapping[str, Any]) -> str:
    """That the live model does not answer as it would, why, and how to end that."""
    instead = (
        "the previous version answers" if breaker["mode"] == "previous" else "what a rule would decline is reviewed"
    )
    return (
        f"The breaker is open since {breaker['since']:%Y-%m-%d %H:%M} UTC, and {instead}: {breaker['said']}. "
        "See `fraud breaker show`; fraud breaker close --reason TEXT ends it"
    )


def _scores_line(scores: Mapping[str, Any]) -> Text:
    """How many scores are kept; in red where some are lost."""
    style = "red" if scores["lost"] or scores["refused"] else "yellow" if scores["error"] else ""
    return Text(scores["sentence"], style=style)


def _challenger_lines(one: Mapping[str, Any]) -> list[Text]:
    """What a version beside the champion has done, and how it compares."""
    style = "yellow" if one["problem"] else ""
    lines = [Text(f"Challenger: {one['sentence']}", style=style)]
    if one["comparison"]:
        lines.append(Text(f"In {one['comparison']['month']:%Y-%m}: {one['comparison']['sentence']}"))
    return lines


def _label_lines(found: list[dict[str, Any]], limit: int = 3) -> list[Text]:
    """What is wrong with the label feed, of the newest months."""
    lines = [Text(f"Labels of {one['month']}: {one['sentence']}", style="yellow") for one in found[-limit:]]
    return lines + ([Text(f"and of {len(found) - limit} months before", style="yellow")] if len(found) > limit else [])


def stale_table(stale: list[dict[str, Any]], limit: int = 3) -> Table:
    """The stale months by table, with the first `limit` of the changes behind it."""
    table = Table(title=f"Stale: {len(stale)} months of tables; `fraud refresh` rebuilds them", **LEFT)
    for name in ("table", "months", "why"):
        table.add_column(name, no_wrap=name == "table")
    for name in dict.fromkeys(row["table"] for row in stale):
        rows = [row for row in stale if row["table"] == name]
        known: list[str] = list(dict.fromkeys(reason for row in rows for reason in row["changes"]))
        more = [f"and {len(known) - limit} more changes"] if len(known) > limit else []
        why = known[:limit] + more or ["built on stale months; may turn out unchanged"]
        table.add_row(name, in_words(row["month"] for row in rows), "\n".join(why))
    return table


def show_refresh(console: Console, outcome: dict[str, Any]) -> None:
    """What a refresh did, or with `--dry-run` would do."""
    rebuilt, left = outcome["rebuilt"], outcome["left"]
    changed = [one for one in rebuilt if one["changed"]]
    if rebuilt or outcome["failed"]:
        console.print(
            f"{len(rebuilt)} rebuilt, {len(changed)} of them changed; {len(left)} still stale.", highlight=False
        )
    elif not left:
        console.print("Nothing is stale.")
    if left:
        console.print(stale_table(left))


def show_versions(console: Console, table: str, versions: list[dict[str, Any]]) -> None:
    """The versions of a table's months."""
    shown = Table(title=f"Versions of {table}", **LEFT)
    for name in ("month", "digest", "rows", "written (UTC)", "run", "added", "removed", "altered"):
        shown.add_column(name, justify="right" if name in ("rows", "added", "removed", "altered") else "left")
    for row in versions:
        counts = ("-" if row[name] is None else f"{row[name]:,}" for name in ("added", "removed", "altered"))
        shown.add_row(
            row["month"],
            row["digest"][:12],
            f"{row['n_rows']:,}",
            f"{row['written_at'].astimezone(UTC):%Y-%m-%d %H:%M}",
            (row["run_id"] or "-")[:8],
            *counts,
        )
    console.print(shown)


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
    text.append(f"Why:  {joined(read_reasons(champion['reasons']))}\n")
    text.append(f"Bento: {champion['bento_tag'] or 'not packaged yet'}")
    return text


def remark_line(remark: Mapping[str, Any]) -> Text:
    """A remark of a month (`decisions/why.py`): ! where somebody should look, a dot where it is the usual course."""
    mark = ("\u00b7 ", "dim") if remark["is_usual"] else ("! ", "yellow")
    return Text.assemble("  ", mark, (remark["sentence"], "dim" if remark["is_usual"] else ""))


def _promise(champion: dict[str, Any]) -> Group:
    """The decision rule, what it promised, what came of it, and the share of the promise that this is."""
    decisions, row = champion["decisions"], champion["evaluation"]
    table = Table(**LEFT)
    table.add_column("at the threshold")
    table.add_column("promised on validation", justify="right")
    table.add_column(f"in {row['month']:%Y-%m}" if row else "not judged yet", justify="right")
    table.add_column("share", justify="right")
    for name, one in decisions["figures"].items():
        if one["promised"] or one["came"]:
            share = "-" if one["share"] is None else percent(one["share"])
            shown = ("-" if one[side] is None else figure(name, **one[side]) for side in ("promised", "came"))
            table.add_row(one["label"], *shown, share)
    return Group(Text.assemble(("Rule: ", "bold"), decisions["rule"]), table)


def _metrics(champion: dict[str, Any]) -> Table:
    row, reference = champion["evaluation"], champion["reference"]
    table = Table(
        title=f"{row['n']:,} transactions, {row['n_fraud']:,} frauds (prevalence {percent(row['prevalence'])}), "
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
    has_champion = verdict["champion_version"] is not None
    return drift_head(verdict).append(
        in_short(verdict["blame"], read_reasons(verdict["reasons"]), has_champion=has_champion)
    )
