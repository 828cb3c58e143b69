"""What became of the breaker: a row when it opens, which services write, and one when somebody closes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from fraud_assets.adapters.asked.session import Ask, Session
from fraud_assets.core.guards.breaker import BreakerMode

# One row for all workers and services that see the same.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('fraud_assets.breaker_events'))::text"
THERE = "SELECT to_regclass('public.breaker_events') IS NOT NULL AS there"
COLUMNS = "number, recorded_at, event, model_version, mode, n, n_held, said, actor"
NEWEST = (
    f"SELECT {COLUMNS} FROM breaker_events WHERE model_version = ($1::jsonb ->> 'version')::bigint "
    "ORDER BY number DESC LIMIT 1"
)
LAST = f"SELECT {COLUMNS} FROM breaker_events ORDER BY number DESC LIMIT ($1::jsonb ->> 'most')::bigint"
INSERT = f"""
INSERT INTO breaker_events (event, model_version, mode, n, n_held, said, actor)
SELECT event, version, mode, n, n_held, said, actor
FROM jsonb_to_record($1::jsonb)
    AS given(event text, version bigint, mode text, n bigint, n_held bigint, said text, actor text)
RETURNING {COLUMNS}
"""


class BreakerError(ValueError):
    """The breaker cannot be closed; the message says why."""


@dataclass(frozen=True)
class BreakerEvent:
    """That the breaker opened, or was closed.

    Attributes:
        number: its own.
        recorded_at: when.
        event: opened or closed.
        model_version: which answered then.
        mode: what a service does since then.
        n, n_held: scores in the window, and those that were held; None where it was closed.
        said: why.
        actor: who: a service, or a person.
    """

    number: int
    recorded_at: datetime
    event: Literal["opened", "closed"]
    model_version: int
    mode: BreakerMode
    n: int | None
    n_held: int | None
    said: str
    actor: str


def newest_event(session: Session, version: int) -> BreakerEvent | None:
    """The last event about a version; None where there is none, or no table yet.

    Raises:
        AskedError: when the database cannot be read.
    """

    def read(ask: Ask) -> BreakerEvent | None:
        if not ask(THERE)["there"][0].as_py():
            return None
        rows = ask(NEWEST, {"version": version}).to_pylist()
        return BreakerEvent(**rows[0]) if rows else None

    return session.transact(read)


def last_events(session: Session, most: int) -> list[BreakerEvent]:
    """The newest events, newest first.

    Raises:
        AskedError: when the database cannot be read.
    """
    return session.transact(lambda ask: [BreakerEvent(**row) for row in ask(LAST, {"most": most}).to_pylist()])


def record_opening(
    session: Session, version: int, mode: BreakerMode, n: int, n_held: int, said: str, actor: str
) -> BreakerEvent:
    """Records that the breaker opened, once: where it is open already, that event is given.

    Raises:
        AskedError: when the database does not take it.
    """

    def write(ask: Ask) -> BreakerEvent:
        ask(LOCK)
        for row in ask(NEWEST, {"version": version}).to_pylist():
            if row["event"] == "opened":
                return BreakerEvent(**row)
        (row,) = ask(
            INSERT,
            {"event": "opened", "version": version, "mode": mode, "n": n, "n_held": n_held, "said": said,
             "actor": actor},
        ).to_pylist()  # fmt: skip
        return BreakerEvent(**row)

    return session.transact(write)


def record_closing(session: Session, reason: str, actor: str) -> list[BreakerEvent]:
    """Closes the breaker of each version for which it is open.

    Raises:
        BreakerError: when it is not open.
        AskedError: when the database does not take it.
    """

    def write(ask: Ask) -> list[BreakerEvent]:
        ask(LOCK)
        standing: dict[int, dict[str, Any]] = {}
        for row in reversed(ask(LAST, {"most": 10_000}).to_pylist()):
            standing[row["model_version"]] = row
        closed = []
        for version, row in standing.items():
            if row["event"] == "opened":
                given = {"event": "closed", "version": version, "mode": row["mode"], "said": reason, "actor": actor}
                closed += [BreakerEvent(**one) for one in ask(INSERT, given).to_pylist()]
        if not closed:
            raise BreakerError("the breaker is not open")
        return closed

    return session.transact(write)
