"""The breaker of the scoring service: seen, and closed."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

breaker = typer.Typer(no_args_is_help=True, help="The service's breaker: it opens when too many transactions are held.")

app.add_typer(breaker, name="breaker")


@breaker.command("show")
def show_breaker(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """When the breaker opened and was closed, why, and by whom."""
    from dataclasses import asdict

    from fraud_assets.adapters.guards.breaker_events import last_events
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.cli.guards.tables import show_breaker_events
    from fraud_assets.workflows.guards.lists import lists_session

    with clear_errors():
        with lists_session(open_database(open_settings(), writing=True).url) as session:
            events = [asdict(one) for one in last_events(session, limit)]
        print_json(events) if as_json else show_breaker_events(console, events)


@breaker.command("close")
def close_breaker(
    reason: Annotated[str, typer.Option("--reason", help="Why the live model may answer again.")],
    as_json: Json = False,
) -> None:
    """Close the breaker: the live model answers again. Running services follow within a second."""
    import getpass
    from dataclasses import asdict

    from fraud_assets.adapters.guards.breaker_events import record_closing
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.workflows.guards.lists import lists_session

    with clear_errors():
        with lists_session(open_database(open_settings(), writing=True).url) as session:
            closed = record_closing(session, reason, getpass.getuser())
        if as_json:
            print_json([asdict(one) for one in closed])
        else:
            versions = ", ".join(f"version {one.model_version}" for one in closed)
            console.print(f"The breaker is closed for {versions}.", highlight=False)
