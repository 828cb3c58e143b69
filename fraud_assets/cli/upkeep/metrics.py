"""What the platform tells Prometheus."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fraud_assets.cli.base import app, clear_errors, open_settings
from fraud_assets.core.errors import PlatformError


@app.command()
def metrics(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write them into this file, for node_exporter.")
    ] = None,
    serve: Annotated[
        int | None, typer.Option("--serve", help="Answer at /metrics on this port, until Ctrl-C.", min=1, max=65535)
    ] = None,
    host: Annotated[str, typer.Option("--host", help="With --serve: address to listen on.")] = "127.0.0.1",
) -> None:
    """Print figures on months, labels, drift, models, runs, scores and backups for Prometheus; changes nothing."""
    from fraud_assets.adapters.prometheus.exposition import UNREADABLE, as_text, serve_metrics, write_file
    from fraud_assets.workflows.monitoring import read_metrics

    with clear_errors():
        read = partial(read_metrics, open_settings())
        if serve is not None:
            thread = serve_metrics(read, serve, host)
            print(f"metrics at http://{host}:{serve}/metrics", flush=True)
            thread.join()
            return
        try:
            samples = read()
        except PlatformError:
            if output is not None:
                # The file of before would say that all is well.
                write_file(UNREADABLE, output)
            raise
        if output is not None:
            write_file(samples, output)
        else:
            print(as_text(samples), end="")
