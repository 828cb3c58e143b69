"""Decisions about models: why one was made, what the ledger says of them, what was made again or can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fraud_assets.cli.tables.style import LEFT
from fraud_assets.core.decisions.alerts import run_of
from fraud_assets.core.decisions.retention import Choice
from fraud_assets.core.decisions.retention import in_words as kinds_in_words
from fraud_assets.core.reasons import joined, read_reasons
from fraud_assets.core.words import number


def show_decision(console: Console, found: dict[str, Any], most: int) -> None:
    """What was behind the score of a transaction."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("[bold]transaction[/]", _named(found["transaction"]))
    model = found["model"]
    if model is None:
        facts.add_row("[bold]model[/]", escape(found["why_no_model"]))
    else:
        since = f"live since the evidence of {model['since_month']}" if model["since_month"] else "it was not live then"
        facts.add_row("[bold]model[/]", f"version {model['version']}, {model['family'].replace('_', ' ')}; {since}")
        facts.add_row("", f"trained on what was known at {model['labels_as_of']}, digest {model['digest'][:12]}")
        facts.add_row(
            "[bold]score[/]", f"{found['score']:.4f}, threshold {model['threshold']:.4f}: {found['decision']}"
        )
    for name, said in (("at_month_end", "at the month's end"), ("now", "with all labels stored")):
        facts.add_row(
            "[bold]label[/]" if name == "at_month_end" else "", f"{said}: {_label_words(found['label'][name])}"
        )
    console.print(facts, highlight=False)
    if found["not_explained"]:
        console.print(f"[yellow]{escape(found['not_explained'])}[/]", highlight=False)
    if found["raw_score"] is not None:
        unit = {"log_odds": "log odds before calibration", "share": "mean share of fraud in the leaves"}[found["unit"]]
        console.print(f"\nbase {found['base']:+.3f}, raw score {found['raw_score']:+.3f} ({unit})", highlight=False)
    shown = Table(title="What the model saw" if model else "Its features", **LEFT)
    for name in ("feature", "value", "moved it by", "in words"):
        shown.add_column(name, justify="right" if name in ("value", "moved it by") else "left")
    for one in found["features"][:most]:
        moved = "" if one["attribution"] is None else f"{one['attribution']:+.3f}"
        shown.add_row(escape(one["feature"]), escape(_cell(one["value"])), moved, escape(one["text"] or ""))
    console.print(shown)
    if len(found["features"]) > most:
        console.print(f"and {len(found['features']) - most} more features; --json has all", highlight=False)


def show_reproduction(console: Console, found: dict[str, Any]) -> None:
    """What came of making a version again."""
    name = f"Version {found['version']}, trained at the end of {found['month']},"
    made = any(is_now for _, is_now in found["digests"].values())
    if found["same"]:
        console.print(f"[green]{name} came out the same, byte for byte.[/]", highlight=False)
    elif made:
        console.print(f"[red]{name} came out another.[/]", highlight=False)
    else:
        console.print(f"[red]{name} cannot be made again: what it was made of has changed.[/]", highlight=False)
    for file, (was, is_now) in found["digests"].items():
        now = "not made" if is_now is None else "the same" if was == is_now else f"now {is_now[:12]}"
        console.print(f"  {file} {was[:12]}: {now}", highlight=False)
    for one in found["changes"]:
        console.print(f"  [red]·[/] {escape(one)}", highlight=False)
    for one in found["differences"]:
        console.print(f"  [yellow]·[/] {escape(one)}", highlight=False)


def _named(row: Mapping[str, Any]) -> str:
    moment = row["event_timestamp"].astimezone(UTC)
    rest = {
        name: value for name, value in row.items()
        if name not in ("transaction_id", "event_timestamp", "ingested_at") and value is not None
    }  # fmt: skip
    told = ", ".join(f"{name} {_cell(value)}" for name, value in rest.items())
    return escape(f"{row['transaction_id']} of {moment:%Y-%m-%d %H:%M:%S} UTC; {told}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, float) else str(value)


def _label_words(label: Mapping[str, Any]) -> str:
    if label["is_fraud"] is None:
        return "not known"
    since = f"{label['known_since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    return escape(f"{'fraud' if label['is_fraud'] else 'genuine'}, known since {since} ({label['source']})")


def show_ledger(console: Console, rows: list[dict[str, Any]]) -> None:
    """The events of the ledger, each with its reasons below."""
    if not rows:
        console.print("The ledger has no rows.")
    for row in rows:
        run = run_of(row["actor"])
        console.print(
            f"{row['number']:>4}  {row['recorded_at'].astimezone(UTC):%Y-%m-%d %H:%M}  [bold]{row['kind']}[/] version "
            f"{row['model_version']}, month {row['month']}, by {f'run {run[:8]}' if run else escape(row['actor'])}",
            highlight=False,
        )
        console.print(Padding(Text(joined(read_reasons(row["reasons"])), style="dim"), (0, 0, 0, 6)), highlight=False)


def show_prunable(console: Console, choices: Sequence[Choice], *, removed: bool) -> None:
    """What goes, or is gone, and how much room that makes; what stays only in numbers."""
    going = [choice for choice in choices if choice.goes]
    if going:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("kind", "name", "since", "why"):
            table.add_column(name, overflow="fold")
        for choice in going:
            table.add_row(choice.kept.kind, choice.kept.name, f"{choice.kept.since:%Y-%m-%d}", choice.why)
        console.print(table)
    room = sum(choice.kept.size for choice in going) / 1e6
    stay = len(choices) - len(going)
    said = f"{kinds_in_words(choices) or 'Nothing'} {'removed' if removed else 'may go'}: {room:,.1f} MB on this disk"
    console.print(f"{said}; {stay} others stay." + ("" if removed or not going else " `--yes` removes them."))


def show_verification(console: Console, found: dict[str, Any]) -> None:
    """Whether the ledger is as it was written."""
    if found["fault"]:
        console.print(f"[red]wrong:[/] {escape(found['fault']['sentence'])}", highlight=False, soft_wrap=True)
    elif found["head"]:
        head = found["head"]
        console.print(
            f"{found['rows']} rows are as they were written, to row {head['number']} ({head['hash'][:12]}).",
            highlight=False,
        )
    else:
        console.print("The ledger has no rows.")
    for one in found["heads"]:
        console.print(f"compared with {escape(one['where'])}: row {one['number']}", highlight=False, soft_wrap=True)
    for said in found["not_asked"]:
        console.print(f"[yellow]not compared:[/] {escape(said)}", highlight=False, soft_wrap=True)
