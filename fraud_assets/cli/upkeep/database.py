"""The database: its URL, psql, queries."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from typing import Annotated

import typer

from fraud_assets.cli.base import Json, app, clear_errors, open_settings, print_json

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

    from fraud_assets.adapters.postgres.database import locate_database, without_password
    from fraud_assets.adapters.postgres.embedded import embedded_binary

    with clear_errors():
        url = locate_database(open_settings()).url
        if psql:
            # Not as an argument: everyone on the machine sees those, and it may hold a password.
            hidden, password = without_password(url)
            environment = os.environ | ({"PGPASSWORD": password} if password else {})
            raise typer.Exit(subprocess.call([embedded_binary("psql"), hidden], env=environment))  # noqa: S603
        if query is None:
            print_json({"url": url}) if as_json else print(url)
            return
        try:
            with psycopg.connect(url, options="-c default_transaction_read_only=on") as connection:
                cursor = connection.execute(query.encode())
                rows = cursor.fetchall() if cursor.description else []
                names = [column.name for column in cursor.description or []]
        except psycopg.Error as error:
            raise ValueError(f"the database refused the query: {error}") from error
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        csv.writer(sys.stdout, delimiter="\t", lineterminator="\n").writerows(rows)


@db.command("version")
def version(as_json: Json = False) -> None:
    """Say which version of the tables the database has, and which one this version of the platform needs."""
    from fraud_assets.adapters.postgres.database import locate_database
    from fraud_assets.adapters.postgres.upgrade import describe

    with clear_errors():
        found = describe(locate_database(open_settings()).version())
        print_json(found) if as_json else print(found["sentence"])


@db.command("upgrade")
def upgrade(as_json: Json = False) -> None:
    """Bring the tables of a database that an earlier version made up to date; all data is kept."""
    from fraud_assets.adapters.postgres.upgrade import upgrade_database

    with clear_errors():
        found = upgrade_database(open_settings())
        print_json(found) if as_json else print(found["sentence"])


@db.command("stop")
def stop() -> None:
    """Stop the embedded PostgreSQL of this home."""
    from fraud_assets.adapters.postgres.database import stop_embedded

    with clear_errors():
        settings = open_settings()
        if settings.database_url:
            raise ValueError("FRAUD_DATABASE_URL names a server that this command did not start; stop it where it runs")
        print("stopped" if stop_embedded(settings.postgres_folder) else "was not running")
