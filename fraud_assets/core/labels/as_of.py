"""Label time: what was known about a transaction, and when.

A label feed holds statements ("transaction 17 was fraud, known since 3 May"; "what was said of it is withdrawn").
`labels_as_of` is the only way from statements to labels: it uses no statement from after the as-of time, and calls a
transaction genuine only when it has matured without a report. Where statements come from belongs to `feed.py`,
how many are still missing to `completeness.py`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Contract

# What it means that nothing is stated of a transaction that has matured, see `contract.Label.blank`.
Blank = Literal["genuine_when_mature", "unknown"]

WITHDRAWN = 0  # of statements at one instant: below genuine (1) and fraud (2)


def labels_as_of(
    transactions: pa.Table,
    statements: pa.Table,
    as_of: datetime,
    *,
    maturity_days: float,
    blank: Blank = "genuine_when_mature",
) -> pa.Table:
    """The labels of transactions as they were known at `as_of`.

    The last statement known by then counts (`label_timestamp <= as_of`), in whatever order the statements come. Of
    several at the same instant fraud counts before genuine, and either before a withdrawal. Where a withdrawal is
    the last, nothing has been said. Where nothing has been said, a transaction is genuine once
    `event_timestamp + maturity_days <= as_of`, else unknown; it stays unknown where blanks mean that nobody looked.

    Nothing can be known of a transaction before it happened: such statements are left out (`count_premature`).

    Args:
        transactions: at least `transaction_id` and `event_timestamp`.
        statements: at least `transaction_id`, `is_fraud` (null = withdrawn), `label_timestamp`, `label_source`; any
            times, any order, any number a transaction, also about transactions that are not there.
        as_of: the moment of knowledge, with a time zone.
        maturity_days: days without a report after which a transaction counts as genuine; or, where blanks are
            unknown, after which a statement is believed to be the last. It is waited for there, too: frauds are often
            found sooner than anything is cleared, so the first statements alone have too many of them.
        blank: of the contract's label.

    Returns:
        One row per row of `transactions`, in its order: `transaction_id`, `is_fraud` (null = not known),
        `label_timestamp` (when that became known), `label_source`, and `is_matured`: that it is old enough
        (`event_timestamp + maturity_days <= as_of`) and its label known. A matured row always has a label.
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of {as_of} has no time zone; pass an aware datetime")
    rows = transactions.select(["transaction_id", "event_timestamp"])
    happened = rows["event_timestamp"].cast(TIMESTAMP)
    matures = pc.add(happened, pa.scalar(timedelta(days=maturity_days), pa.duration("us")))
    is_old_enough = pc.less_equal(matures, pa.scalar(as_of, TIMESTAMP))
    said = _last_said(rows, statements, as_of)
    is_stated = pc.is_valid(said["is_fraud"])
    if blank == "unknown":
        label = {name: _where(is_stated, said[name]) for name in ("is_fraud", "label_timestamp", "label_source")}
        return pa.table(
            {"transaction_id": rows["transaction_id"], **label, "is_matured": pc.and_(is_old_enough, is_stated)}
        )
    columns = {
        "transaction_id": rows["transaction_id"],
        "is_fraud": pc.if_else(is_stated, said["is_fraud"], _where(is_old_enough, False)),
        "label_timestamp": pc.if_else(is_stated, said["label_timestamp"], _where(is_old_enough, matures)),
        "label_source": pc.if_else(is_stated, said["label_source"], _where(is_old_enough, "auto_matured")),
        "is_matured": is_old_enough,
    }
    return pa.table(columns)


def _where(condition: pa.ChunkedArray, value: Any) -> pa.ChunkedArray:
    return pc.if_else(condition, value, None)


def _last_said(rows: pa.Table, statements: pa.Table, as_of: datetime) -> pa.Table:
    """The last statement about each of `rows`, in their order; nulls where there is none."""
    known = statements.select(["transaction_id", "is_fraud", "label_timestamp", "label_source"])
    known = known.filter(pc.less_equal(known["label_timestamp"], pa.scalar(as_of, TIMESTAMP)))
    positions = pa.array(np.arange(rows.num_rows))
    about = rows.append_column("position", positions).join(known, "transaction_id", join_type="inner")
    about = about.filter(pc.greater_equal(about["label_timestamp"], about["event_timestamp"]))
    verdict = pc.fill_null(pc.add(about["is_fraud"].cast(pa.int8()), pa.scalar(1, pa.int8())), WITHDRAWN)
    about = about.append_column("verdict", verdict).sort_by(
        [(column, "ascending") for column in ("position", "label_timestamp", "verdict", "label_source")]
    )
    position = about["position"].to_numpy()
    last = np.flatnonzero(np.append(position[1:] != position[:-1], [True] * (len(position) > 0)))
    where = np.full(rows.num_rows, -1)
    where[position[last]] = last
    return about.take(pa.array(where, mask=where < 0))


def fraud_rate_of(statements: pa.Table, n: int, contract: Contract) -> float | None:
    """The share of frauds among transactions, as their own rows state it: of all, or of those that have a label.

    Args:
        statements: of the rows, at most one each; see `intake.Intake`.
        n: how many transactions.
        contract: says what a blank label means.

    Returns:
        None where there is nothing that it could be a share of.
    """
    n_fraud = pc.sum(statements["is_fraud"]).as_py() or 0
    known = statements.num_rows if contract.label.blank == "unknown" else n
    return n_fraud / known if known else None


def count_premature(statements: pa.Table) -> int:
    """How many statements say that they were known before their transaction happened.

    Args:
        statements: at least `event_timestamp` (null where the transaction has not been seen) and `label_timestamp`.
    """
    return int(pc.sum(pc.less(statements["label_timestamp"], statements["event_timestamp"])).as_py() or 0)
