"""The long-running commands: development and the service."""

from __future__ import annotations

from typing import Annotated

import typer

from fraud_assets.cli.base import app, clear_errors, open_settings


def tell(said: str) -> None:
    """Prints a line at once, also into a pipe."""
    print(said, flush=True)


@app.command()
def dev() -> None:
    """Dagster UI with its daemon and sensors, and the MLflow UI, until Ctrl-C."""
    from fraud_assets.workflows.servers.dev_servers import run_together

    with clear_errors():
        settings = open_settings()
        raise typer.Exit(run_together(settings, tell))


@app.command()
def serve(
    port: Annotated[int | None, typer.Option("--port", help="Port; FRAUD_SERVE_PORT when absent.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the promoted model's bento over HTTP."""
    from fraud_assets.workflows.servers.dev_servers import serve_champion

    with clear_errors():
        settings = open_settings()
        serve_champion(settings, port or settings.serve_port, host, tell)
