"""Rules of the contract: shown, and tried on stored months."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

rules = typer.Typer(no_args_is_help=True, help="Rules of the contract beside the model: show them, try them.")

app.add_typer(rules, name="rules")


@rules.command("list")
def list_rules(as_json: Json = False) -> None:
    """The rules of the contract, in the order in which they are applied."""
    from fraud_assets.cli.guards.tables import show_rules
    from fraud_assets.core.guards.policy import STAGES

    with clear_errors():
        declared = open_settings(create=False).loaded_contract.rules
        ordered = sorted(declared, key=lambda rule: STAGES.index(rule.action))
        found = [one.model_dump() for one in ordered]
        print_json(found) if as_json else show_rules(console, found)


@rules.command("backtest")
def backtest_of_rules(
    first: Annotated[
        str | None, typer.Option("--from", help="First month, YYYY-MM; the first stored when absent.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM; the last matured when absent.")] = None,
    as_json: Json = False,
) -> None:
    """What each rule would have caught on stored months, what it costs, and how much of that the model catches too."""
    from fraud_assets.adapters.mlflow import Registry
    from fraud_assets.adapters.postgres.ledger import LedgerStore
    from fraud_assets.adapters.postgres.months import open_store
    from fraud_assets.cli.guards.tables import show_rules_backtest
    from fraud_assets.workflows.guards.rules import backtest_rules

    with clear_errors():
        settings = open_settings()
        store = open_store(settings)
        ledger = LedgerStore(store.database, settings.ledger_head_file)
        found = backtest_rules(store, ledger, Registry(settings), settings.costs, first, last)
        print_json(found) if as_json else show_rules_backtest(console, found)
