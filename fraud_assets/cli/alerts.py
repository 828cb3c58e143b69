"""Alerts: which were sent, and whether the channels work."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from fraud_assets.cli.base import Json, app, clear_errors, console, open_settings, print_json

alerts = typer.Typer(no_args_is_help=True, help="Alerts: which were sent, and whether the channels work.")

app.add_typer(alerts, name="alerts")


@alerts.command("list")
def list_of_alerts(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most this many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Alerts by channel: sent, still waiting, or given up."""
    from fraud_assets.adapters.postgres.database import open_database
    from fraud_assets.cli.tables.retraining import show_alerts
    from fraud_assets.workflows.alerts import AlertStore, list_alerts, open_channels

    with clear_errors():
        settings = open_settings()
        channels = open_channels(settings.alert_urls.get_secret_value()) if settings.alert_urls else []
        listed = list_alerts(AlertStore(open_database(settings)), channels, limit)
        print_json(listed) if as_json else show_alerts(console, listed)


@alerts.command("test")
def try_channels(as_json: Json = False) -> None:
    """Send a test message to each channel of FRAUD_ALERT_URLS; says which failed, and why."""
    from fraud_assets.workflows.alerts import open_channels

    with clear_errors():
        settings = open_settings(create=False)
        channels = open_channels(settings.alert_urls.get_secret_value()) if settings.alert_urls else []
        if not channels:
            raise ValueError("FRAUD_ALERT_URLS names no channel; .env.example says how to set it")
        body = f"Alerts of contract {settings.loaded_contract.name} come here. Nothing has happened."
        errors = {channel.name: channel.send("[fraud] test", body) for channel in channels}
        if as_json:
            print_json([{"channel": name, "error": error} for name, error in errors.items()])
        else:
            for name, error in errors.items():
                mark = "[green]\u2713[/]" if error is None else "[red]x[/]"
                said = escape(name if error is None else f"{name}: {error}")
                console.print(f"{mark} {said}", highlight=False, soft_wrap=True)
    if any(errors.values()):
        raise typer.Exit(1)
