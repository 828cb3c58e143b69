"""Labels that callers send: the same rules and the same table as files of `fraud labels add`.

What is different: each is known from the moment on at which it comes in, by the database's clock; and a request with a
row that cannot be used is refused whole, because its caller still has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from prometheus_client import Counter

from bentos.fraud_scorer.requests import FeedbackAnswer, Label
from bentos.fraud_scorer.transactions import MOST_PROBLEMS, RequestError
from fraud_assets.adapters.asked.labels import add_statements
from fraud_assets.adapters.asked.session import Session
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.labels.feed import layouts, read_statements
from fraud_assets.core.reasons import Rule, reasons_from_json

PLACE = "labels"
LABELS = Counter("fraud_scorer_labels", "Labels that were sent, by whether they said something new", ["outcome"])


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
    _refuse_repeated(labels)
    rows = pa.table(
        {
            "transaction_id": pa.array([str(one.transaction_id) for one in labels], pa.string()),
            "is_fraud": pa.array([str(one.is_fraud).lower() for one in labels], pa.string()),
            "label_source": pa.array([one.label_source for one in labels], pa.string()),
        }
    )
    file = "feedback" if sender is None else f"feedback of {sender}"

    def read(now: datetime) -> pa.Table:
        stated = read_statements(rows, layouts(contract)[0], contract, file=file, now=now)
        if stated.refused.num_rows:
            raise _refusal(stated.refused, contract)
        return stated.taken

    def premature(numbers: list[int]) -> RequestError:
        said = "the transaction lies in the future, and nothing can be known of it yet"
        return _refused([_problem(number - 1, "transaction_id", "premature", said) for number in numbers])

    now, n_stated, n_new = add_statements(session, read, premature)
    LABELS.labels("new").inc(n_new)
    LABELS.labels("repeated").inc(n_stated - n_new)
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
        raise _refused(repeated)


def _refusal(refused: pa.Table, contract: Contract) -> RequestError:
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
    return _refused(problems, refused.num_rows)


def _problem(row: int, field: str, kind: str, said: str) -> dict[str, Any]:
    return {"type": kind, "loc": [PLACE, row, field], "msg": said}


def _refused(problems: list[dict[str, Any]], n_rows: int | None = None) -> RequestError:
    first = problems[0]
    place = ".".join(str(part) for part in first["loc"])
    return RequestError(
        f"{n_rows or len(problems)} labels cannot be used, and none was taken; the first at {place}: {first['msg']}",
        problems[:MOST_PROBLEMS],
    )
