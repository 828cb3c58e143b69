"""The `fraud` command: thin; it calls what Dagster calls, and prints what is stored."""

from __future__ import annotations

import csv
import getpass
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from fraud_assets.core.errors import PlatformError
from fraud_assets.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Months of transactions in, a served fraud model out.",
)
console = Console()
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextmanager
def _clear_errors() -> Iterator[None]:
    """What a user can mend is told in a sentence; anything else keeps its traceback."""
    try:
        yield
    except (ValueError, PlatformError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _settings() -> Settings:
    try:
        settings = Settings()
        settings.workspace.mkdir(parents=True, exist_ok=True)
    except ValidationError as error:
        wrong = "; ".join(
            f"FRAUD_{'_'.join(map(str, problem['loc'])).upper()} is {problem['input']!r}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ValueError(f"a setting cannot be used: {wrong}") from error
    except OSError as error:
        raise ValueError(f"FRAUD_HOME cannot be used: {error}; name a folder that you may write to") from error
    return settings


def _graph() -> Any:
    """The job that holds every asset."""
    from fraud_assets.definitions import defs

    return defs.resolve_implicit_global_asset_job_def()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@app.command()
def run(
    first: Annotated[str | None, typer.Option("--from", help="First month, YYYY-MM.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last month, YYYY-MM.")] = None,
    as_json: Json = False,
) -> None:
    """Materialise the graph month by month: transactions to a promoted, packaged model."""
    from fraud_assets.adapters.monthly import run_months

    with _clear_errors():
        settings = _settings()
        outcomes = run_months(_graph(), settings, first, last, console=Console(stderr=True) if as_json else console)
        if as_json:
            _print_json(outcomes)
        else:
            _show_status(settings)
    if any(outcome["failed"] for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def status(as_json: Json = False) -> None:
    """What is live, since when and why, how good it is, and what drift says."""
    from fraud_assets.adapters.ledger_store import LedgerStore
    from fraud_assets.adapters.status import read_status
    from fraud_assets.adapters.table_io import open_store

    with _clear_errors():
        settings = _settings()
        if as_json:
            store = open_store(settings)
            _print_json(read_status(store, LedgerStore(store.database)))
        else:
            _show_status(settings)


def _show_status(settings: Settings) -> None:
    from fraud_assets.adapters.console import show_status
    from fraud_assets.adapters.ledger_store import LedgerStore
    from fraud_assets.adapters.status import read_status
    from fraud_assets.adapters.table_io import open_store

    store = open_store(settings)
    show_status(console, read_status(store, LedgerStore(store.database)))


@app.command()
def drift(
    month: Annotated[str | None, typer.Argument(help="YYYY-MM; the newest when absent.")] = None,
    as_json: Json = False,
) -> None:
    """A month's drift report: the verdict, its reasons, and every feature."""
    from fraud_assets.adapters.console import show_drift
    from fraud_assets.adapters.status import read_drift
    from fraud_assets.adapters.table_io import open_store

    with _clear_errors():
        rows = read_drift(open_store(_settings()), month)
        if as_json:
            _print_json(rows)
        else:
            show_drift(console, rows)


@app.command()
def promote(
    version: Annotated[int, typer.Argument(help="The registered version to make champion.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the ledger.")],
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand, and package it."""
    from fraud_assets.adapters.monthly import promote_version

    with _clear_errors():
        settings = _settings()
        month = promote_version(_graph(), settings, version, reason, actor=getpass.getuser())
        if as_json:
            _print_json({"version": version, "month": month, "reason": reason})
        else:
            console.print(f"Version {version} is champion since the evidence of {month}; the bento is packaged.")


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: raw transactions, or the model's features.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where to write; CSV to the screen when absent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a file with the champion: the same rows plus score, decision and model_version."""
    import pyarrow.csv

    from fraud_assets.adapters.batch_scoring import score_file, write_table
    from fraud_assets.adapters.ledger_store import LedgerStore
    from fraud_assets.adapters.registry import Registry
    from fraud_assets.adapters.table_io import open_store
    from fraud_assets.core.ledger import champion_version
    from fraud_assets.core.scoring import Scorer

    with _clear_errors():
        settings = _settings()
        database = open_store(settings).database
        version = champion_version(LedgerStore(database).events())
        if version is None:
            raise ValueError("no model has been promoted yet, so there is nothing to score with; use `fraud run`")
        scored, problems = score_file(file, Scorer(*Registry(settings).fetch(version)), database)
        if output is not None:
            write_table(scored, output)
            Console(stderr=True).print(f"{scored.num_rows:,} rows scored by version {version}: {output}")
        elif as_json:
            _print_json(scored.to_pylist())
        else:
            pyarrow.csv.write_csv(scored, sys.stdout.buffer)
    for problem in problems:
        print(f"not scored: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


db = typer.Typer(invoke_without_command=True, help="The database: prints its URL; --psql opens it, --query asks it.")
app.add_typer(db, name="db")


@db.callback()
def database(
    context: typer.Context,
    psql: Annotated[bool, typer.Option("--psql", help="Open psql.")] = False,
    query: Annotated[str | None, typer.Option("--query", help="Print the rows of a SQL query, tab-separated.")] = None,
    as_json: Json = False,
) -> None:
    """The database: prints its URL; --psql opens it, --query asks it."""
    if context.invoked_subcommand:
        return
    import psycopg

    from fraud_assets.adapters.database import embedded_binary, open_database

    with _clear_errors():
        url = open_database(_settings()).url
        if psql:
            raise typer.Exit(subprocess.call([embedded_binary("psql"), url]))  # noqa: S603 - our own binary
        if query is None:
            _print_json({"url": url}) if as_json else print(url)
            return
        try:
            with psycopg.connect(url, options="-c default_transaction_read_only=on") as connection:
                cursor = connection.execute(query.encode())
                rows = cursor.fetchall() if cursor.description else []
                names = [column.name for column in cursor.description or []]
        except psycopg.Error as error:
            raise ValueError(f"the database refused the query: {error}") from error
    if as_json:
        _print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        csv.writer(sys.stdout, delimiter="\t", lineterminator="\n").writerows(rows)


@db.command("stop")
def stop() -> None:
    """Stop the embedded PostgreSQL of this home."""
    from fraud_assets.adapters.database import stop_embedded

    with _clear_errors():
        settings = _settings()
        if settings.database_url:
            raise ValueError("FRAUD_DATABASE_URL names a server that this command did not start; stop it where it runs")
        print("stopped" if stop_embedded(settings.postgres_folder) else "was not running")


@app.command()
def dev() -> None:
    """Dagster UI with its daemon and sensors, and the MLflow UI, until Ctrl-C."""
    from fraud_assets.adapters.processes import run_together

    with _clear_errors():
        settings = _settings()
        raise typer.Exit(run_together(settings))


@app.command()
def serve(
    port: Annotated[int | None, typer.Option("--port", help="Port; FRAUD_SERVE_PORT when absent.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the promoted model's bento over HTTP."""
    from fraud_assets.adapters.processes import serve_champion

    with _clear_errors():
        settings = _settings()
        serve_champion(settings, port or settings.serve_port, host)


if __name__ == "__main__":
    app()
