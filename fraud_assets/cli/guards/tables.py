"""How lists and rules are shown to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fraud_assets.core.words import number, percent

STATES = {"in_force": "in force", "over": "over", "removed": "removed"}


def show_list_names(console: Console, lists: Sequence[Mapping[str, Any]]) -> None:
    """The lists, without what is on them."""
    if not lists:
        console.print("There are no lists; `fraud lists add` makes one.", highlight=False)
        return
    table = Table("list", "action", "of", "in force", "over", "removed", "changed", "by", box=box.SIMPLE)
    for one in lists:
        table.add_row(
            one["list"], one["action"], one["entity"], *(number(one[state]) for state in STATES),
            f"{one['changed_at']:%Y-%m-%d %H:%M}", escape(one["changed_by"]),
        )  # fmt: skip
    console.print(table)


def show_entries(console: Console, entries: Sequence[Mapping[str, Any]]) -> None:
    """What is on a list."""
    table = Table("id", "state", "since", "until", "reason", "by", box=box.SIMPLE)
    for one in entries:
        until = "for ever" if one["until"] is None else f"{one['until']:%Y-%m-%d %H:%M}"
        table.add_row(
            escape(one["value"]), STATES[one["state"]], f"{one['since']:%Y-%m-%d %H:%M}", until, escape(one["reason"]),
            escape(one["actor"]),
        )  # fmt: skip
    console.print(table)


def show_rules(console: Console, rules: Sequence[Mapping[str, Any]]) -> None:
    """The rules of a contract."""
    if not rules:
        console.print("The contract has no rules; docs/rules.md says how to write them.", highlight=False)
        return
    table = Table("rule", "version", "action", "when", "since", box=box.SIMPLE)
    for one in rules:
        since = "" if one["since"] is None else f"{one['since']:%Y-%m-%d}"
        table.add_row(one["name"], str(one["version"]), one["action"], escape(one["when"]), since)
    console.print(table)


def show_rules_backtest(console: Console, found: Mapping[str, Any]) -> None:
    """What rules would have done."""
    months = found["months"]
    console.print(
        f"{months[0]} to {months[-1]}, labels as they were known when each transaction had matured; {found['costs']}.",
        highlight=False,
    )
    table = Table(
        "rule", "action", "transactions", "labelled", "frauds", "precision", "fraud amount", "genuine amount",
        "saves alone", "frauds the model has", "saves beside it", box=box.SIMPLE,
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for one in found["rules"]:
        table.add_row(
            f"{one['rule']}@{one['version']}", one["action"], number(one["n"]), number(one["n_labelled"]),
            number(one["n_fraud"]), _share(one["precision"]), f"{one['amount_fraud']:,.0f}",
            f"{one['amount_genuine']:,.0f}", _money(one["saved_alone"]), _share(one["duplicated"]),
            _money(one["saved_beside_the_model"]),
        )  # fmt: skip
    console.print(table)
    if found["not_beside"]:
        compared = ", ".join(found["beside"]) or "no month"
        console.print(f"The model is compared in {compared}. " + "; ".join(found["not_beside"]) + ".", highlight=False)
    for one in found["left_out"]:
        console.print(f"{one['month']} is left out: {one['reason']}.", highlight=False)


def show_breaker_events(console: Console, events: Sequence[Mapping[str, Any]]) -> None:
    """When the breaker opened and was closed."""
    if not events:
        console.print("The breaker has never opened.", highlight=False)
        return
    table = Table("when", "what", "version", "mode", "why", "by", box=box.SIMPLE)
    for one in events:
        table.add_row(
            f"{one['recorded_at']:%Y-%m-%d %H:%M:%S}", one["event"], str(one["model_version"]), one["mode"],
            escape(one["said"]), escape(one["actor"]),
        )  # fmt: skip
    console.print(table)


def _share(value: float | None) -> str:
    return "" if value is None else percent(value)


def _money(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
