"""What callers ask the database to take, one at a time: labels, and answers about models that wait.

Labels go by the same rules into the same table as files of `fraud labels add`. What is different: each is known from
the moment on at which it comes in, by the database's clock; and a request with a row that cannot be used is refused
whole, because its caller still has it. How things are written belongs to `adapters/asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

import pyarrow as pa
from prometheus_client import Counter
from pydantic import BaseModel
from starlette.responses import Response

from bentos.fraud_scorer.keys import CALLER
from bentos.fraud_scorer.requests import AnswerRequest, AskedAnswer, FeedbackAnswer, FeedbackRequest, Label, refused
from bentos.fraud_scorer.transactions import MOST_PROBLEMS, RequestError
from bentos.fraud_scorer.waiting.turns import BusyError, LateError, Turns
from fraud_assets.adapters.asked.answers import Asked, NotWaitingError, ask_answer, read_answer
from fraud_assets.adapters.asked.labels import FEEDBACK, add_statements
from fraud_assets.adapters.asked.session import AskedError, Session
from fraud_assets.adapters.online.history import DATABASE_VARIABLE
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.reasons import Rule, reasons_from_json

ANSWERS = "/v1/answers/"
PLACE = "labels"
LABELS = Counter("fraud_scorer_labels", "Labels that were sent, by whether they said something new", ["outcome"])
NEW, REPEATED = (LABELS.labels(outcome) for outcome in ("new", "repeated"))


class NoAnswerError(ValueError):
    """An answer was asked after, and there is none of its number."""


class Asking:
    """One connection to the database for what callers ask, and the turns on it."""

    def __init__(self, url: str | None) -> None:
        """Takes the database's URL, if there is one; connects to nothing yet."""
        self._session = Session(url, "fraud feedback") if url else None
        self._turns = Turns()

    def close(self) -> None:
        """Takes nothing more."""
        self._turns.close()
        if self._session is not None:
            self._session.close()

    async def feedback(self, request: FeedbackRequest, contract: Contract) -> Response:
        """Takes labels."""
        sender = CALLER.get().name
        return await self._done(
            len(request.labels), 200, lambda session: take_labels(session, contract, request.labels, sender)
        )

    async def answer(self, answer: Literal["approved", "rejected"], request: AnswerRequest) -> Response:
        """Asks for an answer about a version that waits."""
        actor = f"API key {CALLER.get().name}"
        return await self._done(
            1, 202, lambda session: _shown(ask_answer(session, request.version, answer, request.reason, actor))
        )

    async def asked(self, number: int) -> Response:
        """What has become of an answer."""

        def read(session: Session) -> AskedAnswer:
            if (found := read_answer(session, number)) is None:
                raise NoAnswerError(f"there is no answer {number}")
            return _shown(found)

        return await self._done(1, 200, read)

    async def _done(self, n_rows: int, status: int, work: Callable[[Session], BaseModel]) -> Response:
        session = self._session
        if session is None:
            return refused(503, f"this needs the platform's database; set {DATABASE_VARIABLE}")
        try:
            given = await self._turns.take(n_rows, lambda _: work(session))
        except RequestError as error:
            return refused(400, error.error, error.detail)
        except NoAnswerError as error:
            return refused(404, str(error))
        except NotWaitingError as error:
            return refused(409, str(error))
        except BusyError as error:
            return refused(429, str(error), retry_after=error.retry_after)
        except AskedError as error:
            return refused(503, str(error))
        except LateError as error:
            return refused(504, str(error))
        return Response(given.model_dump_json(), status, media_type="application/json")


def _shown(asked: Asked) -> AskedAnswer:
    return AskedAnswer(
        number=asked.number,
        model_version=asked.model_version,
        answer=asked.answer,
        reason=asked.reason,
        actor=asked.actor,
        asked_at=asked.asked_at,
        state=asked.outcome or "waiting",
        said=asked.said,
        closed_at=asked.closed_at,
        see=f"{ANSWERS}{asked.number}",
    )


def take_labels(session: Session, contract: Contract, labels: Sequence[Label], sender: str | None) -> FeedbackAnswer:
    """Adds labels to those that people added.

    Args:
        session: of the database.
        contract: of the transactions.
        labels: what is said, about a transaction at most once.
        sender: name of the key, if there is one.

    Raises:
        RequestError: naming each row that cannot be used, and why; nothing is added then.
        AskedError: when the database does not take them.
    """
    # Here: it loads pandas, for which what only starts the service's processes shall not wait.
    from fraud_assets.core.labels.feed import layouts, read_statements

    _refuse_repeated(labels)
    rows = pa.table(
        {
            "transaction_id": pa.array([str(one.transaction_id) for one in labels], pa.string()),
            "is_fraud": pa.array([str(one.is_fraud).lower() for one in labels], pa.string()),
            "label_source": pa.array([one.label_source for one in labels], pa.string()),
        }
    )
    file = FEEDBACK if sender is None else f"{FEEDBACK} of {sender}"

    def read(now: datetime) -> pa.Table:
        stated = read_statements(rows, layouts(contract)[0], contract, file=file, now=now)
        if stated.refused.num_rows:
            raise _unusable(stated.refused, contract)
        return stated.taken

    def premature(numbers: list[int]) -> RequestError:
        said = "the transaction lies in the future, and nothing can be known of it yet"
        return _wrong([_problem(number - 1, "transaction_id", "premature", said) for number in numbers])

    now, n_stated, n_new = add_statements(session, read, premature)
    NEW.inc(n_new)
    REPEATED.inc(n_stated - n_new)
    return FeedbackAnswer(taken=n_new, repeated=n_stated - n_new, known_at=now, month=contract.month_of(now))


def _refuse_repeated(labels: Sequence[Label]) -> None:
    seen: set[str] = set()
    repeated = []
    for row, one in enumerate(labels):
        if str(one.transaction_id).strip() in seen:
            repeated.append(
                _problem(row, "transaction_id", "repeated", "the transaction is named twice; say one thing")
            )
        seen.add(str(one.transaction_id).strip())
    if repeated:
        raise _wrong(repeated)


def _unusable(refused: pa.Table, contract: Contract) -> RequestError:
    problems = []
    for row in refused.slice(0, MOST_PROBLEMS).to_pylist():
        for reason in reasons_from_json(row["reasons"]):
            field, said = reason.column or "", reason.text
            if reason.rule == Rule.OUTSIDE_CONTRACT:
                field = "transaction_id"
                said = (
                    f"a label that comes now lies outside the months of contract {contract.name!r}; add it with "
                    "`fraud labels add`, from a file that says when it became known"
                )
            problems.append(_problem(row["row_number"] - 1, field, "contract", said))
    return _wrong(problems, refused.num_rows)


def _problem(row: int, field: str, kind: str, said: str) -> dict[str, Any]:
    return {"type": kind, "loc": [PLACE, row, field], "msg": said}


def _wrong(problems: list[dict[str, Any]], n_rows: int | None = None) -> RequestError:
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    return RequestError(
        f"{n_rows or len(problems)} labels cannot be used, and none was taken; the first at {place}: {first['msg']}",
        problems[:MOST_PROBLEMS],
    )
