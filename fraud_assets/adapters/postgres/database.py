"""PostgreSQL: the schemas inside a database, and connections to it.

One database serves everything: the platform's tables (schema `public`, their monthly partitions in `months`),
Dagster's storage (`dagster`) and MLflow's (`mlflow`), so that one backup holds all. Which tables there are belongs to
`schema.py`, and to `months.py` where they have months; the server of a home to `embedded.py`.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.embedded import start_server, stop_server
from fraud_assets.adapters.postgres.errors import DatabaseError
from fraud_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
# A server that cannot be reached is given up after this many seconds, and a network that was cut within two minutes:
# otherwise a step would wait for hours. Of a Unix socket, libpq leaves the last three out of account.
LIMITS = {"connect_timeout": 30, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}
# Of the names of this platform's sessions, as `pg_stat_activity` shows them.
SESSION_PREFIX = "fraud-assets "
# The sequences that give a column its numbers, in all schemas that are the user's own.
SEQUENCES = """
SELECT sequence.oid::regclass::text, owner.oid::regclass::text, quote_ident(attname)
FROM pg_class AS sequence
JOIN pg_namespace AS schema ON schema.oid = sequence.relnamespace AND schema.nspname !~ '^pg_'
JOIN pg_sequence ON seqrelid = sequence.oid AND seqincrement > 0 AND NOT seqcycle
JOIN pg_depend AS dependence ON dependence.classid = 'pg_class'::regclass AND dependence.objid = sequence.oid
    AND dependence.refclassid = 'pg_class'::regclass AND dependence.deptype IN ('a', 'i')
JOIN pg_class AS owner ON owner.oid = dependence.refobjid
JOIN pg_attribute ON attrelid = owner.oid AND attnum = dependence.refobjsubid
WHERE sequence.relkind = 'S' AND pg_has_role(owner.relowner, 'USAGE')
ORDER BY 1
"""


class Database:
    """A PostgreSQL database that holds the platform's tables, Dagster's storage and MLflow's."""

    def __init__(self, url: str, *, writable: bool = True, erasure_key: Path | None = None) -> None:
        """Takes a `postgresql://` URL; connects to nothing yet.

        Args:
            url: of the database.
            writable: whether `session` may write.
            erasure_key: the file with the key by which erased persons are recognised; None outside of a home.
        """
        self.url = url
        self.erasure_key = erasure_key
        self.writable = writable
        self._idle: list[Any] = []
        # ADBC complains of connections that are collected open, as when the cache of databases is emptied.
        weakref.finalize(self, _close_all, self._idle)

    def schema_url(self, name: str) -> str:
        """The URL with a schema as the search path, for tools that know no schemas."""
        url = make_url(self.url)
        given = url.query.get("options", "")
        options = [*(given if isinstance(given, str) else " ".join(given)).split(), f"-csearch_path={name}"]
        # Between tabs, because a space would be written as a plus sign, which libpq takes for itself.
        return url.update_query_dict({"options": "\t".join(options)}).render_as_string(hide_password=False)

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection[Any]:
        """A psycopg connection of one's own, which the caller closes."""
        return psycopg.connect(_limited(self.url), application_name=session_name(), autocommit=autocommit)

    @contextmanager
    def session(self) -> Iterator[psycopg.Connection[Any]]:
        """A psycopg connection in one transaction: committed at the end, rolled back on an error."""
        with self.connect() as connection:
            connection.read_only = not self.writable
            yield connection

    def rows(
        self, table: str, query: str | sql.SQL | sql.Composed, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """The rows of a query about a table; none where the table has never been written."""
        with self.session() as connection:
            there = connection.execute("SELECT to_regclass(%s) IS NULL", [f"public.{table}"]).fetchone()
            if there is None or there[0]:
                return []
            return connection.execute(query.encode() if isinstance(query, str) else query, parameters).fetchall()

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

        named = f"{self.url}{'&' if '?' in self.url else '?'}application_name={quote(session_name())}"
        return adbc.connect(_limited(named))

    def close(self) -> None:
        """Closes the connections that were kept."""
        _close_all(self._idle)

    def query(self, statement: str, parameters: list[Any] | None = None) -> pa.Table:
        """Runs a SELECT with bound `$1, $2, ...` parameters.

        Returns:
            The rows as an Arrow table.
        """
        with self.bulk() as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetch_arrow_table()

    def version(self) -> schema.SchemaVersion:
        """Where the database stands; nothing is changed."""
        with self.session() as connection:
            return schema.read_version(connection)

    def check(self, contract_name: str) -> schema.SchemaVersion:
        """Makes sure that the database can be read: that it has this version's tables, or nothing yet.

        Raises:
            DatabaseError: when it holds another contract's months, or tables of another version.
        """
        version = self._own_version(contract_name)
        if version.state == "behind":
            raise DatabaseError(
                f"this database was made by an earlier version of fraud-assets ({_named(version)}); bring it up to "
                "date with `fraud db upgrade`, which keeps all data"
            )
        return version

    def prepare(self, contract_name: str) -> None:
        """Brings the tables to this version, and claims the database for one contract.

        Raises:
            DatabaseError: when it holds another contract's months, or tables of a later version, or when its user may
                not create tables.
        """
        version = self._own_version(contract_name)
        if version.state != "current":
            self._upgrade()
        if version.contract is None:
            with self.session() as connection:
                # Two contracts that claim it at once: the key keeps none of them out, because they differ.
                connection.execute("LOCK TABLE public.platform IN SHARE ROW EXCLUSIVE MODE")
                connection.execute(
                    "INSERT INTO public.platform SELECT %s WHERE NOT EXISTS (SELECT FROM public.platform)",
                    [contract_name],
                )
            self._own_version(contract_name)
        self._repair_sequences()

    def _repair_sequences(self) -> None:
        """Lets no sequence give out a number again: a crash under `wal_level = minimal` may have sent it back."""
        with self.session() as connection:
            found = connection.execute(SEQUENCES).fetchall()
            taken = [
                f"(SELECT {number} FROM {sequence} WHERE last_value + is_called::int <= "
                f"(SELECT max({column}) FROM {table}))"
                for number, (sequence, table, column) in enumerate(found)
            ]
            gone_back = connection.execute(" UNION ALL ".join(taken).encode()).fetchall() if taken else []
            for (number,) in gone_back:
                sequence, table, column = found[number]
                # Nobody takes a number while it is moved.
                connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE".encode())
                connection.execute(
                    f"SELECT setval(%s, greatest(last_value, (SELECT max({column}) FROM {table}))) "
                    f"FROM {sequence}".encode(),
                    [sequence],
                )

    def _upgrade(self) -> None:
        try:
            schema.upgrade(self.url)
        except DBAPIError as error:
            said = " ".join(str(error.orig).split())
            raise DatabaseError(
                f"the tables of this database cannot be brought up to date, and nothing in it was changed: {said}; its "
                "user needs the right to create schemas, and tables in schema public"
            ) from error

    def _own_version(self, contract_name: str) -> schema.SchemaVersion:
        """Where the database stands, if it is one that this contract and this version of the platform can use."""
        version = self.version()
        if version.contract not in (None, contract_name):
            raise DatabaseError(
                f"this database holds the months of contract {version.contract!r}, not of {contract_name!r}; "
                "give each contract a database of its own (FRAUD_DATABASE_URL)"
            )
        if version.state == "ahead":
            raise DatabaseError(
                f"this database was made by a later version of fraud-assets ({_named(version)}; this one knows "
                f"revisions up to {schema.REVISIONS[-1]}), and nothing in it was changed; install that version, or "
                "name another database (FRAUD_DATABASE_URL, FRAUD_HOME)"
            )
        return version


def session_name() -> str:
    """The name of this process's sessions: PostgreSQL cuts names after 63 bytes."""
    return f"{SESSION_PREFIX}{os.getpid()} {socket.gethostname()}"[:60]


def _close_all(connections: list[Any]) -> None:
    while connections:
        connections.pop().close()


def _limited(url: str) -> str:
    """A database's URL with limits on waiting, where it has none of its own.

    >>> _limited("postgresql://db/fraud?connect_timeout=5")
    'postgresql://db/fraud?connect_timeout=5&keepalives_idle=60&keepalives_interval=15&keepalives_count=4'
    """
    missing = [f"{name}={value}" for name, value in LIMITS.items() if f"{name}=" not in url]
    return "&".join([url if "?" in url else f"{url}?", *missing]).replace("?&", "?")


def _named(version: schema.SchemaVersion) -> str:
    return f"revision {version.revision}" if version.revision else "from before its tables had a version"


def without_password(url: str) -> tuple[str, str | None]:
    """A database's URL without its password, for a place where others see it, and the password.

    >>> without_password("postgresql://me:p%2Bw@db:5433/fraud?sslmode=require")
    ('postgresql://me@db:5433/fraud?sslmode=require', 'p+w')
    """
    parts = make_url(url)
    password = parts.password if isinstance(parts.password, str) else None
    return parts._replace(password=None).render_as_string(hide_password=False), password or None


def open_database(settings: Settings, *, writing: bool = False) -> Database:
    """The settings' database, ready for use: started if embedded.

    Args:
        settings: name it.
        writing: bring its tables to this version first. Without it, nothing is changed, and tables that have never
            been written are read as empty.

    Raises:
        DatabaseError: when it cannot be reached, belongs to another contract, or was made by a later version; without
            `writing` also when it was made by an earlier one.
    """
    return _open(
        settings.database_url,
        settings.postgres_folder,
        settings.loaded_contract.name,
        writing,
        settings.erasure_key_file,
    )


@lru_cache(maxsize=16)
def _open(database_url: str | None, folder: Path, contract_name: str, writing: bool, erasure_key: Path) -> Database:
    with _reachable():
        database = Database(_located(database_url, folder, contract_name), writable=writing, erasure_key=erasure_key)
        if writing:
            database.prepare(contract_name)
        else:
            database.check(contract_name)
    return database


def locate_database(settings: Settings) -> Database:
    """The settings' database as it is, whichever version made it: to ask about it, or to upgrade it.

    Raises:
        DatabaseError: when it cannot be reached.
    """
    with _reachable():
        database = Database(
            _located(settings.database_url, settings.postgres_folder, settings.loaded_contract.name),
            writable=False,
            erasure_key=settings.erasure_key_file,
        )
        database.version()
    return database


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        said = " ".join(str(error).split())
        raise DatabaseError(
            f"PostgreSQL cannot be reached: {said}; check FRAUD_DATABASE_URL, or unset it to use the embedded server"
        ) from error


def _located(database_url: str | None, folder: Path, contract_name: str) -> str:
    """The URL of the database, which is there afterwards."""
    if database_url:
        return database_url
    server = start_server(folder)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [contract_name])
        if exists.fetchone() is None:
            _create_database(connection, contract_name)
    return server.url(contract_name)


def _create_database(connection: psycopg.Connection[Any], name: str) -> None:
    try:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        # Another process that started at the same time was first.
        return


def stop_embedded(folder: Path) -> bool:
    """Stops the embedded server of a home.

    Returns:
        Whether one was running.
    """
    stopped = stop_server(folder)
    _open.cache_clear()
    return stopped
