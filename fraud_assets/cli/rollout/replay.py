"""Replay: traffic that was kept, scored again with another version."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

MOST_SEGMENTS = 12


@app.command()
def replay(
    version: Annotated[int, typer.Option("--version", help="The registered version to score with.")],
    first: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD; a month ago when absent.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, YYYY-MM-DD; today when absent.")] = None,
    as_json: Json = False,
) -> None:
    """Score past requests again with another version, and say what would have changed."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.progress import ShownProgress
    from fraud_assets.workflows.rollout.replay import replay as replayed

    with clear_errors():
        settings = open_settings()
        zone = settings.loaded_contract.zone
        end = _day(last, "--to") or datetime.now(zone).date()
        begin = _day(first, "--from") or end - timedelta(days=30)
        if begin > end:
            raise ValueError(f"--from {begin} is after --to {end}")
        start, stop = (datetime.combine(day, time(), zone) for day in (begin, end + timedelta(days=1)))
        progress = ShownProgress(Console(stderr=True))
        found = replayed(settings, open_store(settings), Registry(settings), version, start, stop, progress)
        print_json(found) if as_json else show_replay(console, found)


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{option} {text} is no day; write it as 2025-06-30") from error


def show_replay(shown: Console, found: dict[str, Any]) -> None:
    """What would have changed, for people."""
    answered = ", ".join(f"version {name}: {n:,}" for name, n in found["answered_by"].items())
    shown.print(
        f"Version {found['version']} on {found['n']:,} transactions that were answered ({answered}): it decides "
        f"{_share(found['agreement'])} of them alike; {_share(found['reviewed_before'])} were reviewed, and "
        f"{_share(found['reviewed_after'])} would have been.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    decisions = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("was", "would be", "transactions"):
        decisions.add_column(name, justify="right" if name == "transactions" else "left")
    for row in found["decisions"]:
        decisions.add_row(row["before"], row["after"], f"{row['n']:,}")
    shown.print(decisions)
    segments = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Share reviewed", title_justify="left", title_style="")
    for name in ("part", "transactions", "was", "would be"):
        segments.add_column(name, justify="left" if name == "part" else "right")
    moved = sorted(found["segments"], key=lambda row: -abs(row["reviewed_after"] - row["reviewed_before"]))
    for row in moved[:MOST_SEGMENTS]:
        name = f"{row['segment']} {row['value']}" + (f" ({row['range']})" if row["range"] else "")
        segments.add_row(
            escape(name), f"{row['n']:,}", _share(row["reviewed_before"]), _share(row["reviewed_after"])
        )  # fmt: skip
    shown.print(segments)
    for line in (*_label_lines(found["labels"]), *_comparison_lines(found["comparison"])):
        shown.print(escape(line), highlight=False, soft_wrap=True)
    shown.print("The largest differences, with what moved the scores that would be:", highlight=False, soft_wrap=True)
    for one in found["largest"]:
        why = f": {'; '.join(one['reasons'])}" if one["reasons"] else ""
        shown.print(escape(f"  {one['before']:.3f} -> {one['after']:.3f}{why}"), highlight=False, soft_wrap=True)


def _label_lines(labels: dict[str, Any]) -> list[str]:
    said = [
        f"Of {labels['n_known']:,} the end is known, {labels['n_fraud']:,} of them frauds: {labels['frauds_before']:,} "
        f"were reviewed, {labels['frauds_after']:,} would have been ({labels['frauds_gained']:,} gained, "
        f"{labels['frauds_lost']:,} lost); {labels['genuine_gained']:,} genuine ones more and "
        f"{labels['genuine_spared']:,} fewer."
    ]
    if "value_gained" in labels:
        said.append(
            f"Value of frauds: {labels['value_gained']:,.0f} gained, {labels['value_lost']:,.0f} lost, of "
            f"{labels['value_of_frauds']:,.0f}."
        )
    if labels["n_learned_from"]:
        said.append(
            f"Labels of {labels['n_learned_from']:,} transactions are left out: the models may have learned from them."
        )
    return said


def _comparison_lines(found: dict[str, Any]) -> list[str]:
    said = f"Beside version {found['beside']}, on {found['n']:,} transactions with {found['n_fraud']:,} frauds"
    if found["reason"]:
        return [f"{said}: {found['reason']}."]
    low, high = found["cost_low"], found["cost_high"]
    interval = "" if low is None else f" [{low:+,.0f}, {high:+,.0f}]"
    return [
        f"{said}: the same {found['reviews_per_day']:,.1f} reviews a day cost {found['cost']:+,.0f}{interval} a day, "
        f"average precision {found['ap']:+.3f}."
    ]


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
