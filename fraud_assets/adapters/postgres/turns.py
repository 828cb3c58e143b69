"""A table to oneself for a moment, without making those wait who read it.

PostgreSQL serves locks in turn: whoever waits for a table that a reader holds makes every later reader wait behind
him, for as long as the first one reads. So one waits briefly, gives up the place in the queue, and asks again.
"""

from __future__ import annotations

import logging
import random
import time
from typing import Any

import psycopg
from psycopg import sql

from fraud_assets.adapters.postgres.errors import DatabaseError

logger = logging.getLogger(__name__)

# How long others may be held up by somebody who only waits, and how long they then have the table to themselves.
WAIT_SECONDS = 0.1
PAUSE_SECONDS = (0.1, 2.0)
# Longer than any report reads. What is open after that has been forgotten in some console.
GIVE_UP_SECONDS = 600.0
WARN_SECONDS = 10.0

HOLDERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, now() - a.xact_start AS open_for
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = ANY(%s::text[]::regclass[]) AND l.granted AND l.pid <> pg_backend_pid()
ORDER BY open_for DESC NULLS LAST
"""


def take_locks(connection: psycopg.Connection[Any], *tables: sql.Identifier, with_partitions: bool = False) -> None:
    """Takes tables for oneself until the transaction ends.

    Args:
        connection: in a transaction.
        tables: in the order in which everybody takes them: a table, then its partition.
        with_partitions: take all partitions of theirs as well.

    Raises:
        DatabaseError: when others still hold one of them after ten minutes; it names them. The transaction can go on.
    """
    began, warned = time.monotonic(), False
    low, high = PAUSE_SECONDS
    while not _taken(connection, tables, "" if with_partitions else "ONLY "):
        waited = time.monotonic() - began
        if waited > GIVE_UP_SECONDS:
            raise DatabaseError(
                f"{_named(tables)} could not be changed for {waited:.0f} s, because others have it open: "
                f"{_holders(connection, tables)}; end their transactions, then run this again"
            )
        if waited > WARN_SECONDS and not warned:
            warned = True
            logger.warning("waiting for %s, which others have open: %s", _named(tables), _holders(connection, tables))
        # Of random length, so that two who wait do not always meet.
        time.sleep(random.uniform(low / 2, low))  # noqa: S311 - no secret
        low = min(2 * low, high)


def _taken(connection: psycopg.Connection[Any], tables: tuple[sql.Identifier, ...], only: str) -> bool:
    try:
        # A savepoint: without the lock, the transaction goes on, and the locks that were got are given back.
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{WAIT_SECONDS * 1000:.0f}ms'".encode())
            for table in tables:
                connection.execute(sql.SQL("LOCK TABLE {}{} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(only), table))
            connection.execute("SET LOCAL lock_timeout TO DEFAULT")
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        return False
    return True


def _holders(connection: psycopg.Connection[Any], tables: tuple[sql.Identifier, ...]) -> str:
    found = connection.execute(HOLDERS, [[table.as_string() for table in tables]]).fetchall()
    said = [
        f"process {pid} of {user}{f' ({program})' if program else ''}, {state}, for {open_for}"
        for pid, user, program, state, open_for in found
    ]
    return "; ".join(said) or "nobody any more"


def _named(tables: tuple[sql.Identifier, ...]) -> str:
    return tables[0].as_string().replace('"', "").removeprefix("public.")
