"""Challengers: versions that score live traffic beside the champion, and may answer a share of it."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

challengers = typer.Typer(
    invoke_without_command=True, help="Versions that score live traffic beside the champion: list, add, end."
)

app.add_typer(challengers, name="challengers")

Why = Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")]


@challengers.callback()
def list_challengers(context: typer.Context, as_json: Json = False) -> None:
    """The challengers, how much they have scored, and how they compare with the champion."""
    if context.invoked_subcommand:
        return
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.rollout.challengers import read_status_of_challengers

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        events = LedgerStore(store.database, settings.ledger_head_file).events()
        found = read_status_of_challengers(store, events, settings)
        if as_json:
            print_json(found)
            return
        if not found:
            console.print("There are no challengers; `fraud challengers add VERSION` names one.", highlight=False)
        for one in found:
            _show(one)


def _show(one: dict[str, Any]) -> None:
    sentence = one["sentence"][0].upper() + one["sentence"][1:]
    console.print(f"{escape(sentence)}.", highlight=False, soft_wrap=True)
    if one["problem"]:
        console.print(f"  [yellow]{escape(one['problem'])}[/]", highlight=False, soft_wrap=True)
    if one["comparison"]:
        told = f"{one['comparison']['month']:%Y-%m}: {one['comparison']['sentence']}"
        console.print(f"  {escape(told)}", highlight=False, soft_wrap=True)


@challengers.command("add")
def add_challenger(
    version: Annotated[int, typer.Argument(help="The registered version.")],
    reason: Why,
    share: Annotated[
        float, typer.Option("--share", help="Share of the customers whom it answers, 0 to 0.5; with 0 it only scores.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Let a version score beside the champion, and answer a share of the requests; repeat it to change the share."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.rollout.challengers import start_challenger

    with clear_errors():
        settings = open_settings()
        start_challenger(settings, open_store(settings, writing=True), version, share, reason, actor=getpass.getuser())
        if as_json:
            print_json({"version": version, "share": share, "reason": reason})
        else:
            answers = f" and answers {share:.3g} of all" if share else ""
            console.print(f"Version {version} scores beside the champion{answers}.", highlight=False)


@challengers.command("end")
def end_challenger(
    version: Annotated[int, typer.Argument(help="The challenger's version.")], reason: Why, as_json: Json = False
) -> None:
    """Stop a version from scoring beside the champion; the champion answers its share again."""
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.workflows.rollout.challengers import end_challenger as end

    with clear_errors():
        settings = open_settings()
        end(settings, open_store(settings, writing=True), version, reason, actor=getpass.getuser())
        if as_json:
            print_json({"version": version, "reason": reason})
        else:
            console.print(f"Version {version} is no challenger any more.", highlight=False)
