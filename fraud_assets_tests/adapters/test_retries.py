"""Steps that are tried again: those that met a moment's trouble of the database, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import adbc_driver_manager
import dagster as dg
import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters import retries
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.retries import is_passing, retried
from fraud_assets.core.errors import disk_is_full
from fraud_assets.workflows.runs.run_months import failures_of


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "SECONDS_TO_WAIT", 0)


def attempts_until(error: BaseException, good: int, *, generator: bool = False) -> tuple[bool, int]:
    """Whether an asset succeeds whose attempts before the `good`-th raise the error, and how many it took."""
    attempts = 0

    def body() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < good:
            raise error
        return attempts

    if generator:

        @dg.asset
        @retried
        def tried() -> Iterator[dg.Output[int]]:
            """Found by its annotation, as without the decorator."""
            yield dg.Output(body())

    else:

        @dg.asset
        @retried
        def tried() -> int:
            """Likewise."""
            return body()

    done = dg.materialize([tried], raise_on_error=False)
    return done.success, attempts


@pytest.mark.parametrize("generator", [False, True])
def test_a_moment_s_trouble_is_tried_again_twice_and_no_more(generator: bool) -> None:
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    assert attempts_until(lost, 2, generator=generator) == (True, 2)
    assert attempts_until(lost, 3, generator=generator) == (True, 3)
    assert attempts_until(lost, 4, generator=generator) == (False, 3)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("row 7 has no amount"),
        psycopg.errors.UndefinedColumn("column x does not exist"),
        psycopg.errors.DiskFull("could not extend file"),
        psycopg.errors.QueryCanceled("canceling statement due to statement timeout"),
        OSError(28, "No space left on device"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    assert attempts_until(error, 2) == (False, 1)


def test_a_ctrl_c_is_not_tried_again() -> None:
    asked: list[int] = []

    @dg.asset
    @retried
    def interrupted() -> None:
        """Asked to end."""
        asked.append(1)
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        dg.materialize([interrupted], raise_on_error=False)
    assert asked == [1]


def test_a_connection_that_the_server_ended_is_a_moment_s_trouble(database: Database) -> None:
    """As when a server is restarted, found by what PostgreSQL says."""
    with psycopg.connect(database.url) as one, psycopg.connect(database.url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [one.info.backend_pid])
        with pytest.raises(psycopg.OperationalError) as ended:
            one.execute("SELECT 1")
    assert is_passing(ended.value)
    wrapped = RuntimeError("the table could not be read")
    wrapped.__cause__ = ended.value
    assert is_passing(wrapped)


def ask_over_an_ended_connection(database: Database) -> None:
    with database.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
        with psycopg.connect(database.url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
        cursor.execute("SELECT 1")


def test_a_connection_that_the_server_ended_under_arrow_is_one_too(database: Database) -> None:
    with pytest.raises(adbc_driver_manager.OperationalError) as ended:
        ask_over_an_ended_connection(database)
    assert is_passing(ended.value)


FULL = """
DO $$ BEGIN
    RAISE EXCEPTION 'could not extend file "base/16384/2619": No space left on device' USING ERRCODE = 'disk_full';
END $$
"""


def test_a_full_disk_of_postgres_is_one_sentence_with_what_to_do(database: Database) -> None:
    with pytest.raises(psycopg.Error) as full, database.session() as connection:
        connection.execute(FULL)
    said = disk_is_full(full.value)
    assert said is not None
    assert said.startswith("the disk is full: PostgreSQL could not write its files. Free space")
    with pytest.raises(Exception, match="No space") as under_arrow, database.bulk() as connection:
        connection.cursor().execute(FULL)
    assert disk_is_full(under_arrow.value) == said


def test_a_full_disk_under_a_step_is_the_same_sentence(database: Database) -> None:
    @dg.asset
    def written() -> pa.Table:
        """Does not fit."""
        try:
            with database.session() as connection:
                connection.execute(FULL)
        except psycopg.Error as error:
            raise RuntimeError("the month could not be written") from error
        return pa.table({})

    (failure,) = failures_of(dg.materialize([written], raise_on_error=False))
    assert failure["step"] == "written"
    assert failure["error"].startswith("the disk is full. Free space")
