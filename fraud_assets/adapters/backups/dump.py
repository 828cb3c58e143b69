"""A database as a file: what one snapshot of it holds, pg_dump, and putting a dump in within one transaction.

Only the platform's schemas are dumped and replaced: a database that somebody shares keeps its other schemas. Owners are
those of the database it is restored into (`owners.py`); grants are in no dump.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import psycopg
from psycopg import sql

from fraud_assets.adapters.backups.folder import BackupError
from fraud_assets.adapters.backups.owners import GIVE_BACK, KEEP_OWNERS
from fraud_assets.adapters.postgres.database import Database, session_name, without_password
from fraud_assets.adapters.postgres.embedded import embedded_binary
from fraud_assets.adapters.postgres.schema import VERSION_TABLE, read_version

SCHEMAS = ("public", "months", "dagster", "mlflow")
MARK = "restored "
LOCK_SECONDS = 60
# What a dump begins with and a database may refuse: it has this schema, whose owner may be another, and servers before
# 17 do not know this setting.
NOT_RESTORED = re.compile(
    rb"^(CREATE SCHEMA public|COMMENT ON SCHEMA public IS .*|SET transaction_timeout = 0);\n", re.MULTILINE
)
OTHERS = """
SELECT pid, usename, coalesce(nullif(application_name, ''), 'unnamed') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    AND application_name <> %s -- this process, whose earlier sessions may be about to end
ORDER BY pid
"""
ALL_IN_PUBLIC = """
DO $$
DECLARE thing record;
BEGIN
    FOR thing IN
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
            WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END AS kind, oid::regclass::text AS name
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e')
        ORDER BY relkind = 'S', name -- a table takes its sequences along
    LOOP
        IF to_regclass(thing.name) IS NOT NULL THEN
            EXECUTE format('DROP %s %s CASCADE', thing.kind, thing.name);
        END IF;
    END LOOP;
    FOR thing IN
        SELECT oid::regprocedure::text AS name FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
        ORDER BY name
    LOOP
        EXECUTE format('DROP ROUTINE %s CASCADE', thing.name);
    END LOOP;
END $$;
"""


@dataclass(frozen=True)
class Facts:
    """What one moment of a database holds.

    Attributes:
        contract: whose months they are; None before that is known.
        revision: of its tables.
        server: version of the server.
        head: number and hash of the ledger's last row; None of an empty one.
        months: the newest digest by `table month`.
        artifacts: places of the artifacts of MLflow's runs and models that were not deleted.
    """

    contract: str | None
    revision: str | None
    server: str
    head: tuple[int, str] | None
    months: dict[str, str]
    artifacts: tuple[str, ...]


@contextmanager
def snapshot(database: Database) -> Iterator[tuple[str, Facts]]:
    """The name of a moment of the database that pg_dump can go back to until the block ends, and what is in it."""
    with database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        yield str(row and row[0]), read_facts(connection)


def read_facts(connection: psycopg.Connection[Any]) -> Facts:
    """What the transaction of a connection sees."""
    version = read_version(connection)
    head = _rows(connection, "public.ledger", "SELECT number, hash FROM public.ledger ORDER BY number DESC LIMIT 1")
    months = _rows(
        connection,
        "public.month_versions",
        "SELECT DISTINCT ON (table_name, month) table_name || ' ' || month, digest FROM public.month_versions "
        "ORDER BY table_name, month, id DESC",
    )
    # Runs whose artifacts are only made when the first file comes have none, so models are asked for, not runs.
    places = _rows(
        connection,
        "mlflow.model_versions",
        "WITH kept AS (SELECT run_id FROM mlflow.model_versions WHERE current_stage <> 'Deleted_Internal') "
        "SELECT artifact_uri FROM mlflow.runs JOIN kept ON run_uuid = run_id WHERE lifecycle_stage = 'active' UNION "
        "SELECT artifact_location FROM mlflow.logged_models JOIN kept ON source_run_id = run_id "
        "WHERE lifecycle_stage = 'active' ORDER BY 1",
    )
    return Facts(
        version.contract, version.revision, connection.info.parameter_status("server_version") or "",
        (head[0][0], head[0][1]) if head else None, dict(months), tuple(place for (place,) in places),
    )  # fmt: skip


def _rows(connection: psycopg.Connection[Any], table: str, query: str) -> list[tuple[Any, ...]]:
    there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [table]).fetchone()
    return connection.execute(query.encode()).fetchall() if there and there[0] else []


def write_dump(url: str, moment: str, file: Path) -> str:
    """Dumps the platform's schemas as they were at a moment, in pg_dump's custom format.

    Returns:
        The version of pg_dump.

    Raises:
        BackupError: when pg_dump cannot.
    """
    program, version = _client("pg_dump", url)
    hidden, environment = _access(url)
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    command = [
        program, "--format=custom", "--no-owner", "--no-privileges", f"--snapshot={moment}", f"--file={file}",
        *(f"--schema={name}" for name in SCHEMAS), hidden,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)  # noqa: S603
    try:
        _, said = process.communicate()
    finally:
        _end(process)
    if process.returncode:
        raise BackupError(f"pg_dump could not dump the database: {_words(said)}")
    with file.open("rb") as written:
        os.fsync(written.fileno())
    return version


def list_dump(file: Path) -> None:
    """Makes sure that pg_restore can read a dump's table of contents.

    Raises:
        BackupError: when it cannot.
    """
    done = subprocess.run([_newest("pg_restore"), "--list", str(file)], capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        raise BackupError(f"pg_restore cannot read {file}: {_words(done.stderr)}")


def sessions_of_others(database: Database) -> list[str]:
    """Who else has the database open, in words."""
    with database.session() as connection:
        return [
            f"{name} (process {pid} of the server, user {user})"
            for pid, user, name in connection.execute(OTHERS, [session_name()])
        ]


def is_empty(database: Database) -> bool:
    """Whether the platform has stored nothing in the database yet."""
    with database.session() as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        names = [("public", name) for (name,) in found if name not in ("platform", VERSION_TABLE)]
        if connection.execute("SELECT to_regclass('mlflow.model_versions') IS NOT NULL").fetchone() == (True,):
            names.append(("mlflow", "model_versions"))
        return not any(
            connection.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(sql.Identifier(*name))).fetchall()
            for name in names
        )


def last_restored(database: Database) -> str | None:
    """The mark of the restore that the database is from; None where it is from none."""
    with database.session() as connection:
        row = connection.execute(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'months'"
        ).fetchone()
    said = row[0] if row else None
    return str(said).removeprefix(MARK) if said and str(said).startswith(MARK) else None


def restore_dump(url: str, file: Path, mark: str, moved: dict[str, str], *, end_others: bool) -> None:
    """Puts a dump in the place of the platform's schemas, in one transaction: whole, or as if nothing had been.

    Args:
        url: of the database.
        file: the dump, whose digest was compared.
        mark: kept in the database, so that after a kill it is known whether the transaction was committed.
        moved: what texts of MLflow's tables begin with or contain, and what comes in its place: its paths are absolute.
        end_others: end what other sessions have open, of this user and of those whose rights it has.

    Raises:
        BackupError: when it cannot be; the database is as it was then.
    """
    hidden, environment = _access(url)
    psql, restore = _client("psql", url)[0], _newest("pg_restore")
    reader = subprocess.Popen(  # noqa: S603
        [restore, "--no-owner", "--no-privileges", "--file=-", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    writer = subprocess.Popen(  # noqa: S603
        [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-", hidden],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        dumped, psql_reads = cast("IO[bytes]", reader.stdout), cast("IO[bytes]", writer.stdin)
        with _no_broken_pipe():
            psql_reads.write(_before(end_others).encode())
            psql_reads.write(NOT_RESTORED.sub(b"", dumped.read(1 << 16)))
            shutil.copyfileobj(dumped, psql_reads, 1 << 20)
            # Only a dump that was read to its end is committed.
            if reader.wait() == 0:
                psql_reads.write(_after(mark, moved).encode())
        with _no_broken_pipe():
            psql_reads.close()
        said = _read(writer.stderr)
        if writer.wait() != 0:
            raise BackupError(f"the database is as it was: it refused the dump: {_words(said)}")
        if reader.wait() != 0:
            said = _read(reader.stderr)
            raise BackupError(f"the database is as it was: pg_restore could not read the dump: {_words(said)}")
    finally:
        _end(reader)
        _end(writer)


def _before(end_others: bool) -> str:
    end = (
        "DO $$ BEGIN PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pg_has_role(usesysid, 'USAGE') AND pid <> pg_backend_pid() AND backend_type = 'client backend'; END $$;\n"
    )
    dropped = ", ".join(name for name in SCHEMAS if name != "public")
    return (
        f"SET client_min_messages = warning;\nBEGIN;\nSET LOCAL lock_timeout = '{LOCK_SECONDS}s';\n"
        f"{end if end_others else ''}{KEEP_OWNERS}DROP SCHEMA IF EXISTS {dropped} CASCADE;\n{ALL_IN_PUBLIC}"
    )


def _after(mark: str, moved: dict[str, str]) -> str:
    """What follows the dump, and the commit."""
    replaced = "".join(
        sql.SQL(
            """
DO $$
DECLARE here record;
BEGIN
    FOR here IN SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'mlflow' AND data_type IN ('text', 'character varying')
    LOOP
        EXECUTE format('UPDATE mlflow.%I SET %I = replace(%I, $1, $2) WHERE strpos(%I, $1) > 0',
            here.table_name, here.column_name, here.column_name, here.column_name) USING {old}::text, {new}::text;
    END LOOP;
END $$;
"""
        )
        .format(old=sql.Literal(old), new=sql.Literal(new))
        .as_string()
        for old, new in moved.items()
        if old != new
    )
    comment = sql.SQL("COMMENT ON SCHEMA months IS {};\n").format(sql.Literal(MARK + mark)).as_string()
    # The dump has no grants; this one keeps the ledger's rows as they are.
    revoked = "REVOKE UPDATE, DELETE, TRUNCATE ON public.ledger FROM PUBLIC, CURRENT_USER;\n"
    ledger = f"SELECT to_regclass('public.ledger') IS NOT NULL AS known \\gset\n\\if :known\n{revoked}\\endif\n"
    return f"{replaced}{ledger}{comment}{GIVE_BACK}COMMIT;\n"


@contextmanager
def _no_broken_pipe() -> Iterator[None]:
    # psql ended early; why, it says itself.
    try:
        yield
    except BrokenPipeError:
        return


def _client(name: str, url: str) -> tuple[str, str]:
    """A client program that is not older than the server, and its version: the embedded server's, or the PATH's."""
    with psycopg.connect(url) as connection:
        needed = connection.info.server_version // 10_000
    tried = []
    for program in (str(embedded_binary(name)), shutil.which(name)):
        if program is not None and Path(program).exists():
            version = _version(program)
            tried.append(version)
            if int(re.split(r"\D", version)[0]) >= needed:
                return program, version
    raise BackupError(
        f"the server has PostgreSQL {needed}, and {name} is there only of {', '.join(tried) or 'no version'}; install "
        f"PostgreSQL's client programs of version {needed} or later, and put them on the PATH"
    )


def _newest(name: str) -> str:
    """The newest of that program: it reads dumps of its own version and of those before."""
    found = [
        program for program in (str(embedded_binary(name)), shutil.which(name)) if program and Path(program).exists()
    ]
    return max(found, key=lambda program: int(re.split(r"\D", _version(program))[0]))


def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"\d+(\.\d+)*", done.stdout)
    return found.group() if found else "0"


def _access(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, which everyone on the machine would see, and an environment that has it."""
    hidden, password = without_password(url)
    return hidden, os.environ | ({"PGPASSWORD": password} if password else {})


def _read(stream: IO[bytes] | None) -> bytes:
    return stream.read() if stream else b""


def _words(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[-600:] or "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with _no_broken_pipe():
                stream.close()
