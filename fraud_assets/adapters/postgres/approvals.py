"""What waits for a person's approval, and what was said; one row a request, which is answered once.

Also what was asked for over HTTP (`asked_answers`), which the service writes by `adapters/asked/answers.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal

import psycopg
from psycopg.types.json import Jsonb

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.decisions.approval import Answer, Request
from fraud_assets.core.reasons import Reason, read_reasons

REQUESTS = """
SELECT number, requested_at, expires_at, model_version, champion_version, month, evidence, reasons, answer, answered_at,
    actor, reason
FROM approval_requests ORDER BY number
"""


def read_requests(database: Database) -> list[Request]:
    """All requests, in order."""
    return [_request(row) for row in database.rows("approval_requests", REQUESTS)]


def requests_in(connection: psycopg.Connection[Any]) -> list[Request]:
    """All requests, in order, as a transaction sees them."""
    return [_request(row) for row in connection.execute(REQUESTS).fetchall()]


def ask(
    connection: psycopg.Connection[Any],
    version: int,
    champion: int | None,
    month: str,
    reasons: Sequence[Reason],
    *,
    evidence: str,
    now: datetime,
    until: datetime,
) -> bool:
    """Lets a version wait, unless it does so on the same evidence already, or was answered on it.

    Args:
        connection: in the transaction of the decision, which keeps others out.
        version: which.
        champion: what is live.
        month: on whose evidence.
        reasons: why it passed.
        evidence: a digest of it.
        now: the present moment.
        until: when it does not wait any more.

    Returns:
        Whether it waits from now on.
    """
    for one in requests_in(connection):
        same = (one.model_version, one.month, one.evidence) == (version, month, evidence)
        if (
            same
            and one.champion_version == champion
            and (one.answer in ("approved", "rejected") or now < one.expires_at)
        ):
            return False
    connection.execute(
        "INSERT INTO approval_requests "
        "(requested_at, expires_at, model_version, champion_version, month, evidence, reasons) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [now, until, version, champion, month, evidence, Jsonb([one.to_dict() for one in reasons])],
    )
    return True


def answer(
    connection: psycopg.Connection[Any], number: int, said: Answer, *, now: datetime, actor: str, reason: str
) -> None:
    """Answers a request that has no answer yet."""
    connection.execute(
        "UPDATE approval_requests SET answer = %s, answered_at = %s, actor = %s, reason = %s "
        "WHERE number = %s AND answer IS NULL",
        [said, now, actor, reason, number],
    )


def withdraw(connection: psycopg.Connection[Any], month: str, *, keep: int | None, now: datetime, actor: str) -> None:
    """Withdraws what waits on the evidence of a month that was decided again, except for one version."""
    connection.execute(
        "UPDATE approval_requests SET answer = 'withdrawn', answered_at = %s, actor = %s, "
        "reason = 'the month was decided again' WHERE month = %s AND answer IS NULL AND model_version <> %s",
        [now, actor, month, -1 if keep is None else keep],
    )


@dataclass(frozen=True)
class AskedAnswer:
    """An answer that somebody asked for over HTTP, and that is not carried out yet.

    Attributes:
        number: its own.
        asked_at: when.
        model_version: which version it is about.
        answer: approved or rejected.
        reason: why.
        actor: who.
    """

    number: int
    asked_at: datetime
    model_version: int
    answer: Literal["approved", "rejected"]
    reason: str
    actor: str


def open_answers(database: Database) -> list[AskedAnswer]:
    """What was asked for and is not closed, oldest first."""
    columns = ", ".join(field.name for field in fields(AskedAnswer))
    statement = f"SELECT {columns} FROM asked_answers WHERE closed_at IS NULL ORDER BY number"
    return [AskedAnswer(*row) for row in database.rows("asked_answers", statement)]


def close_answers(connection: psycopg.Connection[Any], version: int, said: Answer, *, actor: str) -> None:
    """Closes what was asked for about a version, in the transaction in which it is answered: here, or otherwise."""
    connection.execute(
        "UPDATE asked_answers SET closed_at = clock_timestamp(), "
        "outcome = CASE WHEN answer = %(said)s THEN 'carried_out' ELSE 'refused' END, said = %(words)s "
        "WHERE model_version = %(version)s AND closed_at IS NULL",
        {"said": said, "version": version, "words": f"{actor} {said} version {version}"},
    )


def refuse_answer(database: Database, number: int, why: str) -> None:
    """Closes what was asked for and cannot be carried out."""
    with database.session() as connection:
        connection.execute(
            "UPDATE asked_answers SET closed_at = clock_timestamp(), outcome = 'refused', said = %s "
            "WHERE number = %s AND closed_at IS NULL",
            [why, number],
        )


def _request(row: Sequence[Any]) -> Request:
    number, requested, expires, version, champion, month, evidence, reasons, *answered = row
    return Request(number, requested, expires, version, champion, month, evidence, read_reasons(reasons), *answered)
