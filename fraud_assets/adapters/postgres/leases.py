"""One writer for a month: a run takes a lease of its months, and loses it to the next one that may have it.

A lease has a number that only grows (a fencing token). It is compared inside the transaction that swaps a month in, or
that writes into the ledger: so a run that was declared failed, or whose month another run has taken since, writes
nothing when it wakes up. Whether a run has a process is known from `run_processes.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.run_processes import cut_off_given_up, run_lives
from fraud_assets.core.errors import PlatformError

OVER = ("SUCCESS", "FAILURE", "CANCELED")
DECLARED = ("FAILURE", "CANCELED")
TURN = "SELECT pg_advisory_xact_lock(hashtext('fraud_assets.lease ' || %s))"
HOLDER = "SELECT run_id FROM public.month_leases WHERE month = %s ORDER BY token DESC LIMIT 1"
HAS_RUNS = "SELECT to_regclass('dagster.runs') IS NOT NULL"
STATUS = "SELECT status FROM dagster.runs WHERE run_id = %s"


class LeaseError(PlatformError):
    """A month that another run is writing, or a run that may not write any more."""


def take_months(database: Database, run_id: str, months: Sequence[str]) -> None:
    """Takes the lease of each month, from a run that is over or has no process any more.

    The process of a run that was declared failed or canceled loses its sessions in the database.

    Raises:
        LeaseError: when a run with a process has one of them; none is taken then.
    """
    with database.session() as connection:
        # First of all: what they hold may be the turn that is waited for here.
        cut_off_given_up(connection)
        for month in sorted(months):
            connection.execute(TURN, [month])
            holder = connection.execute(HOLDER, [month]).fetchone()
            if holder is not None and holder[0] == run_id:
                continue
            if holder is not None and _is_under_way(connection, holder[0]):
                raise LeaseError(
                    f"run {holder[0][:8]} is working on {month}, and two runs do not write one month at once: wait "
                    "until it has ended, or end it, then run this again"
                )
            connection.execute(
                "INSERT INTO public.month_leases (month, run_id) VALUES (%s, %s) "
                "ON CONFLICT (month, run_id) DO UPDATE SET token = nextval('public.month_leases_token_seq'), "
                "taken_at = now()",
                [month, run_id],
            )


def check_lease(connection: psycopg.Connection[Any], run_id: str | None, month: str) -> None:
    """Makes sure that a run may still write a month; until the transaction ends, no other run can take it.

    A writer that is no run of Dagster's, or that took no lease, is not held up.

    Raises:
        LeaseError: when the run was declared failed or canceled, or another run has taken the month since.
    """
    if run_id is None:
        return
    connection.execute(TURN, [month])
    status = _status(connection, run_id)
    if status in DECLARED:
        raise LeaseError(
            f"run {run_id[:8]} was declared {status.lower()} while it was working on {month}, so it writes nothing "
            "more; run the month again"
        )
    own = "SELECT FROM public.month_leases WHERE month = %s AND run_id = %s"
    holder = connection.execute(HOLDER, [month]).fetchone()
    if holder is not None and holder[0] != run_id and connection.execute(own, [month, run_id]).fetchone() is not None:
        raise LeaseError(
            f"run {holder[0][:8]} has taken {month} from run {run_id[:8]}, which had no process or was over; the later "
            "run counts, and this one writes nothing more"
        )


def _is_under_way(connection: psycopg.Connection[Any], run_id: str) -> bool:
    status = _status(connection, run_id)
    return status is not None and status not in OVER and run_lives(connection, run_id)


def _status(connection: psycopg.Connection[Any], run_id: str) -> str | None:
    """What Dagster says of a run; None of one that it does not know."""
    there = connection.execute(HAS_RUNS).fetchone()
    found = connection.execute(STATUS, [run_id]).fetchone() if there and there[0] else None
    return found and str(found[0])
