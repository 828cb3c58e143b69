"""Which of Dagster's runs still have the process that carries them out.

A process that is killed ends its run without a word. So each run holds a lock in the database for as long as its
process lives, on whichever machine or container that is; the server lets go of it when the connection ends. Reporting a
run that lost its process belongs to `workflows/runs/dead_runs.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)
import psycopg

from fraud_assets.adapters.postgres.database import SESSION_PREFIX, Database, session_name

PROCESS_TAG = "fraud/process"
# Between its start and its lock a run loads what it needs.
START_SECONDS = 30
# Two clocks that tell when a process began: what the system says moves when its clock is set.
CLOCK_SECONDS = 10

HOLD = "SELECT pg_advisory_lock_shared(hashtextextended('fraud_assets.run ' || %s, 0))"
UNFINISHED = """
SELECT runs.run_id, process.value, month.value, purpose.value,
    extract(epoch FROM now()) - coalesce(runs.start_time, 0) > %s AS begun,
    pg_try_advisory_xact_lock(hashtextextended('fraud_assets.run ' || runs.run_id, 0)) AS left_alone
FROM dagster.runs
LEFT JOIN dagster.run_tags AS process ON process.run_id = runs.run_id AND process.key = %s
LEFT JOIN dagster.run_tags AS month ON month.run_id = runs.run_id AND month.key = 'dagster/partition'
LEFT JOIN dagster.run_tags AS purpose ON purpose.run_id = runs.run_id AND purpose.key = 'fraud/purpose'
WHERE runs.status IN ('STARTED', 'CANCELING')
ORDER BY runs.id
"""
# Sessions of this platform have the name of their process (`database.session_name`), so all of one can be found.
GIVEN_UP = """
SELECT pg_terminate_backend(session.pid) FROM pg_stat_activity AS session
WHERE session.datname = current_database() AND session.usename = current_user AND session.pid <> pg_backend_pid()
    AND session.application_name IN (
        SELECT holder.application_name FROM pg_locks JOIN pg_stat_activity AS holder USING (pid)
        JOIN dagster.runs ON runs.status IN ('FAILURE', 'CANCELED')
            AND (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint
                = hashtextextended('fraud_assets.run ' || runs.run_id, 0)
        WHERE pg_locks.locktype = 'advisory' AND pg_locks.granted AND holder.application_name LIKE %s
            AND holder.application_name <> %s
    )
"""
ONE_RUN = """
SELECT process.value, extract(epoch FROM now()) - coalesce(runs.start_time, extract(epoch FROM now())) > %s,
    pg_try_advisory_xact_lock(hashtextextended('fraud_assets.run ' || runs.run_id, 0))
FROM dagster.runs LEFT JOIN dagster.run_tags AS process ON process.run_id = runs.run_id AND process.key = %s
WHERE runs.run_id = %s
"""


@dataclass(frozen=True)
class DeadRun:
    """A run that counts as running and has no process any more.

    Attributes:
        run_id: Dagster's.
        month: YYYY-MM; None of a run of several months.
        purpose: why there was a run, such as the command that was given.
        process: which process it was, in words.
    """

    run_id: str
    month: str | None
    purpose: str
    process: str

    @property
    def sentence(self) -> str:
        """What is wrong with it."""
        what = f"{self.purpose} of {self.month}" if self.month else self.purpose
        return f"{what} (run {self.run_id[:8]}) was broken off: {self.process} is gone"


@contextmanager
def holding(database: Database, run_id: str) -> Iterator[None]:
    """Says that the run has a process, this one, until the block or the process ends."""
    connection = database.connect(autocommit=True)
    try:
        connection.execute(HOLD, [run_id])
        yield
    finally:
        connection.close()


def this_process() -> str:
    """This process, as a tag of a run says it."""
    return f"{os.getpid()} {psutil.Process().create_time():.0f} {socket.gethostname()}"


def find_dead_runs(database: Database) -> list[DeadRun]:
    """The runs that count as running and whose process is gone, oldest first; nothing is changed."""
    with database.session() as connection:
        there = connection.execute("SELECT to_regclass('dagster.run_tags') IS NOT NULL").fetchone()
        rows = connection.execute(UNFINISHED, [START_SECONDS, PROCESS_TAG]).fetchall() if there and there[0] else []
    return [
        DeadRun(run_id, month, purpose or "a run", f"process {process.split()[0]}" if process else "its process")
        for run_id, process, month, purpose, begun, left_alone in rows
        if left_alone and (begun if process is None else not _lives(process))
    ]


def cut_off_given_up(connection: psycopg.Connection[Any]) -> int:
    """Ends the sessions of processes whose run was declared failed or canceled, as of one that stands still.

    Such a session may be in the midst of a transaction, whose locks every later writer would wait for, for ever.

    Returns:
        How many sessions were ended.
    """
    there = connection.execute("SELECT to_regclass('dagster.runs') IS NOT NULL").fetchone()
    if not (there and there[0]):
        return 0
    return len(connection.execute(GIVEN_UP, [f"{SESSION_PREFIX}%", session_name()]).fetchall())


def run_lives(connection: psycopg.Connection[Any], run_id: str) -> bool:
    """Whether a run that is not over has a process, or may be about to have one."""
    row = connection.execute(ONE_RUN, [START_SECONDS, PROCESS_TAG, run_id]).fetchone()
    if row is None:
        return False
    process, begun, left_alone = row
    return not (left_alone and (begun if process is None else not _lives(process)))


def _lives(tag: str) -> bool:
    """Whether a process that lost its lock, as when the server crashed, can be seen from here all the same.

    This one carries out one run at a time, so another run of its own is over.
    """
    pid, created, host = tag.split(" ", 2)
    if host != socket.gethostname() or int(pid) == os.getpid():
        return False
    try:
        process = psutil.Process(int(pid))
        same = abs(process.create_time() - float(created)) <= CLOCK_SECONDS
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
