"""Lists of entities that are blocked or allowed, whatever the model says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

lists = typer.Typer(no_args_is_help=True, help="Lists of customers, terminals and the like: block or allow them.")

app.add_typer(lists, name="lists")

Values = Annotated[list[str] | None, typer.Argument(help="Ids, as the transactions have them; - reads standard input.")]
FromFile = Annotated[Path | None, typer.Option("--file", help="A text file with one id a line.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; stored with each id.")]


@lists.command("add")
def add_values(
    name: Annotated[str, typer.Argument(help="The list's name; a new list is made where there is none.")],
    values: Values = None,
    *,
    reason: Reason,
    entity: Annotated[str | None, typer.Option("--entity", help="For a new list: whose ids, such as customer.")] = None,
    action: Annotated[str | None, typer.Option("--action", help="For a new list: block or allow.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="The last day, or a time; for ever when absent.")] = None,
    file: FromFile = None,
    as_json: Json = False,
) -> None:
    """Add ids to a list. Running services follow within a second.

    Ids are personal data, and a shell keeps what is typed: give them in a file, or on standard input.
    """
    from datetime import UTC, datetime

    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.workflows.guards.lists import add_to_list, lists_session, read_values

    with clear_errors():
        settings = open_settings()
        with lists_session(open_database(settings, writing=True).url) as session:
            done = add_to_list(
                session, settings.loaded_contract, name, read_values(*_given(values, file)), entity=entity,
                action=action, reason=reason, until=until, now=datetime.now(UTC),
            )  # fmt: skip
        if as_json:
            print_json(done)
        else:
            again = f"; {done['repeated']:,} already on it" if done["repeated"] else ""
            console.print(f"{done['added']:,} added to the list {name} of {done['entity']}{again}", highlight=False)


@lists.command("remove")
def remove_values(
    name: Annotated[str, typer.Argument(help="The list's name.")],
    values: Values = None,
    *,
    reason: Reason,
    file: FromFile = None,
    as_json: Json = False,
) -> None:
    """Take ids off a list; the table keeps who added them, and why. Running services follow within a second."""
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.workflows.guards.lists import lists_session, read_values, remove_from_list

    with clear_errors():
        settings = open_settings()
        with lists_session(open_database(settings, writing=True).url) as session:
            done = remove_from_list(
                session, settings.loaded_contract, name, read_values(*_given(values, file)), reason=reason
            )
        if as_json:
            print_json(done)
        else:
            missing = f"; {done['not_there']:,} not on it" if done["not_there"] else ""
            console.print(f"{done['removed']:,} removed from the list {name}{missing}", highlight=False)


@lists.command("show")
def show_values(
    name: Annotated[str | None, typer.Argument(help="The list; all when absent.")] = None,
    as_json: Json = False,
) -> None:
    """All lists with the number of their ids and the last change; or one list with each id, its reason and dates."""
    from datetime import UTC, datetime

    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.cli.guards.tables import show_entries, show_list_names
    from fraud_assets.workflows.guards.lists import lists_session, show_list, show_lists

    with clear_errors():
        settings, now = open_settings(), datetime.now(UTC)
        # Its own tables, where nothing has run yet.
        with lists_session(open_database(settings, writing=True).url) as session:
            found = show_lists(session, now) if name is None else show_list(session, name, now)
        if as_json:
            print_json(found)
        elif name is None:
            show_list_names(console, found)
        else:
            show_entries(console, found)


def _given(values: list[str] | None, file: Path | None) -> tuple[list[str], Path | None, str | None]:
    """What stands on the command line, in a file, and on standard input, where - asks for it."""
    values = values or []
    return [one for one in values if one != "-"], file, sys.stdin.read() if "-" in values else None
