"""API keys of the scoring service: who may ask it for what."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

keys = typer.Typer(no_args_is_help=True, help="API keys of the scoring service: add, list, remove.")

app.add_typer(keys, name="keys")


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="Who uses the key; shown in logs and the ledger.")],
    role: Annotated[
        list[str], typer.Option("--role", help="What it may do: score, decide, feedback or admin; may be repeated.")
    ],
    rate: Annotated[
        int | None, typer.Option("--rate", help="Requests allowed in a minute; no limit when absent.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it once; only its hash is kept. Running services accept it within a second."""
    from datetime import UTC, datetime

    from fraud_assets.adapters.key_file import change_keys
    from fraud_assets.core.access.api_keys import ApiKey, make_key

    with clear_errors():
        settings, made = open_settings(), ""

        def add(there: list[ApiKey]) -> list[ApiKey]:
            nonlocal made
            made, changed = make_key(there, name, role, datetime.now(UTC), rate)
            return changed

        change_keys(settings.api_keys_file, add)
        if as_json:
            print_json({"name": name, "roles": role, "requests_per_minute": rate, "key": made})
        else:
            print(made)
            console.print(f"The key of {name}; it is not shown again.", highlight=False, style="dim")


@keys.command("list")
def list_keys(as_json: Json = False) -> None:
    """Names, roles and rates of the keys; never a key."""
    from fraud_assets.adapters.key_file import read_keys
    from fraud_assets.cli.tables.keys import show_keys

    with clear_errors():
        there = read_keys(open_settings(create=False).api_keys_file)
        if as_json:
            plain = [
                {"name": one.name, "roles": one.roles, "requests_per_minute": one.requests_per_minute,
                 "created_at": one.created_at}
                for one in there
            ]  # fmt: skip
            print_json(plain)
        else:
            show_keys(console, there)


@keys.command("remove")
def remove_key(
    name: Annotated[str, typer.Argument(help="The key's name, as `fraud keys list` shows it.")], as_json: Json = False
) -> None:
    """Remove a key; running services refuse it within a second."""
    from functools import partial

    from fraud_assets.adapters.key_file import change_keys
    from fraud_assets.core.access.api_keys import without_key

    with clear_errors():
        left = change_keys(open_settings().api_keys_file, partial(without_key, name=name))
        if as_json:
            print_json({"removed": name, "left": [one.name for one in left]})
        else:
            console.print(f"The key of {name} is taken back; {len(left)} left.", highlight=False)
