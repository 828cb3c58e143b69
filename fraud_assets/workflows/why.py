"""What is stored of a month's labels, model and promotion, for the sentences of `core/decisions/why.py`."""

from __future__ import annotations

import json
from collections import Counter
from fnmatch import fnmatch
from typing import Any

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.why import LabelFacts, MonthFacts, Remark, month_remarks, next_judged
from fraud_assets.core.reasons import Reason, read_reasons, reasons_from_json

KNOWN = """
SELECT count(DISTINCT transaction_id) FILTER (WHERE is_fraud), count(DISTINCT transaction_id) FROM fraud_labels
WHERE event_timestamp >= %(start)s AND event_timestamp < %(end)s AND label_timestamp < %(end)s
"""
QUARANTINED = """
SELECT reasons, count(*) FROM quarantined_transactions WHERE month = %s AND status = 'quarantined' GROUP BY 1
"""
STATED = """
SELECT count(*), count(*) FILTER (WHERE event_timestamp IS NULL) FROM fraud_labels
WHERE label_timestamp >= %(start)s AND label_timestamp < %(end)s
"""


def newest_remarks(store: MonthStore) -> list[Remark]:
    """The remarks of the newest month that is stored; none when there is none."""
    stored = list(store.months("raw_transactions"))
    return read_remarks(store, stored[-1]) if stored else []


def read_remarks(store: MonthStore, month: str) -> list[Remark]:
    """Everything of a month that is not there, or not as it should be, and why."""
    return list(month_remarks(read_facts(store, month)))


def read_facts(store: MonthStore, month: str) -> MonthFacts:
    """What is stored of a month."""
    decision, contract = _row(store, "champion", month), store.contract
    trained = store.read("trained_model", last_month=month).to_pylist()
    live = None if decision is None else decision["champion_version"]
    no_challenger = decision is not None and decision["challenger_version"] is None
    return MonthFacts(
        month=month,
        n_transactions=_count(store, "raw_transactions", month),
        quarantined=_quarantined(store, month),
        labels=_labels(store, month),
        drift=_row(store, "drift_report", month, kind="verdict"),
        trained=next((row for row in trained if f"{row['month']:%Y-%m}" == month), None),
        decision=decision,
        is_waiting=no_challenger
        and next_judged(trained, month, contract.maturity_days, live, contract.zone) is not None,
    )


def _row(store: MonthStore, name: str, month: str, kind: str | None = None) -> dict[str, Any] | None:
    rows: list[dict[str, Any]] = store.read(name, first_month=month, last_month=month).to_pylist()
    return next((row for row in rows if kind is None or row["kind"] == kind), None)


def _count(store: MonthStore, name: str, month: str) -> int | None:
    versions = store.versions(name, month)
    return int(versions["n_rows"][-1].as_py()) if versions.num_rows else None


def _quarantined(store: MonthStore, month: str) -> dict[tuple[Reason, ...], int]:
    if not _count(store, "quarantined_transactions", month):
        return {}
    with store.database.session() as connection:
        counted = connection.execute(QUARANTINED, [f"{month}-01"]).fetchall()
    return {reasons_from_json(reasons): n for reasons, n in counted}


def _labels(store: MonthStore, month: str) -> LabelFacts | None:
    versions = store.versions("fraud_labels", month)
    if not versions.num_rows:
        return None
    label = store.contract.label
    inputs = json.loads(versions["inputs"][-1].as_py() or "{}")
    absent: tuple[str, ...] = ()
    if label.feed is not None and inputs.get("label_feed", {}).get(month, "") is None:
        absent = (label.feed.file_pattern.format(month=month),)
    parameters = {"start": store.contract.month_start(month), "end": store.contract.month_end(month)}
    with store.database.session() as connection:
        known, stated = (connection.execute(query, parameters).fetchone() or (0, 0) for query in (KNOWN, STATED))
    refused = _refused(store.database, label.feed.file_pattern.format(month=month)) if label.feed else {}
    return LabelFacts(
        n_fraud=known[0],
        n_known=known[1],
        n_statements=stated[0],
        n_unseen=stated[1],
        n_delivered=_count(store, "delivered_labels", month) or 0,
        absent_files=absent,
        refused=refused,
        delay_days=None if label.feed or label.known_at else label.delay_days,
    )


def _refused(database: Database, pattern: str) -> dict[tuple[Reason, ...], int]:
    """Rows of a month's feed that cannot be used, by their reasons."""
    counts: Counter[tuple[Reason, ...]] = Counter()
    rows = database.rows("quarantined_labels", "SELECT file, reasons, count(*) FROM quarantined_labels GROUP BY 1, 2")
    name = pattern.rpartition("/")[2]
    for file, reasons, n in rows:
        if fnmatch(file, name):
            counts[read_reasons(reasons)] += n
    return dict(counts)
