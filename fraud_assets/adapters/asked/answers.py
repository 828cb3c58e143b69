"""Answers about models that wait, as people ask for them over HTTP: written down here, carried out elsewhere.

Carrying one out packages the model and moves aliases in MLflow, neither of which a bento can: the daemon does it
(`defs/approval.py`), by the same way as `fraud approve`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fraud_assets.adapters.asked.session import Ask, Session

Answer = Literal["approved", "rejected"]

LOCK = "SELECT pg_advisory_xact_lock(hashtext('fraud_assets.asked_answers'))::text"
WAITING = """
SELECT model_version FROM approval_requests newest WHERE answer IS NULL AND expires_at > clock_timestamp()
AND NOT EXISTS (SELECT FROM approval_requests WHERE model_version = newest.model_version AND number > newest.number)
ORDER BY number
"""
COLUMNS = "number, asked_at, model_version, answer, reason, actor, outcome, said, closed_at"
OPEN = (
    f"SELECT {COLUMNS} FROM asked_answers WHERE closed_at IS NULL AND model_version = ($1::jsonb ->> 'version')::bigint"
)
NEW = f"""
INSERT INTO asked_answers (model_version, answer, reason, actor)
SELECT version, answer, reason, actor
FROM jsonb_to_record($1::jsonb) AS given(version bigint, answer text, reason text, actor text)
RETURNING {COLUMNS}
"""
ONE = f"SELECT {COLUMNS} FROM asked_answers WHERE number = ($1::jsonb ->> 'number')::bigint"


class NotWaitingError(ValueError):
    """There is nothing to answer, or it is being answered otherwise; the message says which."""


@dataclass(frozen=True)
class Asked:
    """An answer that was asked for.

    Attributes:
        number: its own.
        asked_at: when.
        model_version, answer, reason, actor: what, why and by whom.
        outcome: None while it waits to be carried out.
        said: what came of it, in words.
        closed_at: when.
    """

    number: int
    asked_at: datetime
    model_version: int
    answer: Answer
    reason: str
    actor: str
    outcome: Literal["carried_out", "refused"] | None
    said: str | None
    closed_at: datetime | None


def ask_answer(session: Session, version: int, answer: Answer, reason: str, actor: str) -> Asked:
    """Asks for an answer, or finds the same one that waits to be carried out.

    Raises:
        NotWaitingError: when the version does not wait, or another answer about it is under way.
        AskedError: when the database does not take it.
    """

    def write(ask: Ask) -> Asked:
        ask(LOCK)
        for row in ask(OPEN, {"version": version}).to_pylist():
            if row["answer"] == answer:
                return Asked(**row)
            raise NotWaitingError(
                f"version {version} is being {row['answer']} already: answer {row['number']}, of {row['actor']}"
            )
        waiting = ask(WAITING)["model_version"].to_pylist()
        if version not in waiting:
            others = ", ".join(f"version {one}" for one in waiting) or "nothing"
            raise NotWaitingError(f"version {version} does not wait for an approval; {others} does")
        (row,) = ask(NEW, {"version": version, "answer": answer, "reason": reason, "actor": actor}).to_pylist()
        return Asked(**row)

    return session.transact(write)


def read_answer(session: Session, number: int) -> Asked | None:
    """An answer that was asked for; None where there is none of this number.

    Raises:
        AskedError: when the database cannot be read.
    """
    rows = session.transact(lambda ask: ask(ONE, {"number": number}).to_pylist())
    return Asked(**rows[0]) if rows else None
