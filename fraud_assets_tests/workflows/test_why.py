"""What is stored of a month, read back as the reasons why something is not there, on a real Postgres."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.workflows.labels import quarantine
from fraud_assets.workflows.why import newest_remarks, read_remarks
from fraud_assets_tests.sentences import stored

CONTRACT = """
name: fed
first_month: 2024-01
timezone: UTC
file_pattern: "{month}.csv"
transaction_id: {column: id, type: string}
event_timestamp: {column: at}
label:
  feed:
    file_pattern: "labels_{month}*.csv"
    transaction_id: id
    is_fraud: fraud
    label_timestamp: known
    fraud_values: ["1"]
    genuine_values: ["0"]
maturity_days: 14
"""
MONTH = "2024-02"


@pytest.fixture
def store(database: Database) -> MonthStore:
    """A month of three transactions; its label file is still to come."""
    store = MonthStore(database, parse_contract(CONTRACT, "a test"))
    at = [datetime(2024, 2, day, tzinfo=UTC) for day in (1, 2, 3)]
    write(store, "raw_transactions", {"transaction_id": ["a", "b", "c"], "event_timestamp": at, "ingested_at": at})
    return store


def write(store: MonthStore, name: str, columns: dict[str, Any], inputs: Any = None) -> None:
    schema = store.table(name).schema
    n = len(next(iter(columns.values()), []))
    rows = pa.table({field.name: pa.array(columns.get(field.name, [None] * n), field.type) for field in schema})
    store.replace_months(name, rows, [MONTH], inputs=inputs or {"source": {MONTH: "x"}})


def labels(store: MonthStore, ids: list[str], fraud: bool, *, seen: bool = True, file: str | None = "digest") -> None:
    when = datetime(2024, 2, 20, tzinfo=UTC)
    columns = {
        "transaction_id": ids,
        "event_timestamp": [datetime(2024, 2, 1, tzinfo=UTC) if seen else None for _ in ids],
        "is_fraud": [fraud] * len(ids), "label_timestamp": [when] * len(ids), "label_source": ["analyst"] * len(ids),
        "origin": ["labels"] * len(ids),
    }  # fmt: skip
    write(store, "fraud_labels", columns, {"label_feed": {MONTH: file}})


def said(store: MonthStore) -> list[str]:
    return [remark.sentence for remark in read_remarks(store, MONTH)]


def test_an_empty_platform_has_no_remarks(database: Database) -> None:
    assert newest_remarks(MonthStore(database, parse_contract(CONTRACT, "a test"))) == []


def test_a_missing_label_file_is_named(store: MonthStore) -> None:
    labels(store, [], True, file=None)
    assert said(store) == ["0.0 % fraud: the label file of 2024-02 is missing (labels_2024-02*.csv)"]


def test_label_rows_that_all_were_refused_are_counted_with_their_reason(store: MonthStore) -> None:
    labels(store, [], True)
    refused = [
        {"file": "labels_2024-02_a.csv", "row_number": row, "reasons": stored("known: no time"), "original": "{}"}
        for row in range(1, 4)
    ] + [{"file": "labels_2024-03.csv", "row_number": 1, "reasons": stored("of another month"), "original": "{}"}]
    quarantine(store, pa.Table.from_pylist(refused))
    assert said(store) == ["0.0 % fraud: all 3 label rows were refused: known: no time"]


def test_labels_of_transactions_that_nobody_has_seen_are_no_labels(store: MonthStore) -> None:
    labels(store, ["x", "y"], True, seen=False)
    assert said(store) == [
        "0.0 % fraud: all 2 statements are about transactions that nobody has seen; compare their ids"
    ]


def test_known_frauds_need_no_remark(store: MonthStore) -> None:
    labels(store, ["a"], True)
    assert said(store) == []
    assert newest_remarks(store) == []


def test_rows_in_quarantine_are_counted_without_those_that_a_person_dropped(store: MonthStore) -> None:
    labels(store, ["a"], True)
    columns = {
        "month": [date(2024, 2, 1)] * 3, "source": ["f"] * 3, "row_number": [1, 2, 3],
        "reasons": [stored("at is no time")] * 3,
        "original": ["{}"] * 3, "row_digest": ["1", "2", "3"], "status": ["quarantined", "dropped", "quarantined"],
    }  # fmt: skip
    write(store, "quarantined_transactions", columns)
    assert said(store) == ["2 rows (40.0 %) in quarantine: at is no time"]


def test_the_reasons_of_training_and_promotion_are_those_that_are_stored(store: MonthStore) -> None:
    labels(store, ["a"], True)
    as_of = [datetime(2024, 3, 1, tzinfo=UTC)]
    write(store, "trained_model", {
        "month": [date(2024, 2, 1)], "as_of": as_of, "status": ["insufficient_data"], "reason": ["1 fraud is known"],
    })  # fmt: skip
    write(store, "champion", {
        "month": [date(2024, 2, 1)], "validation_status": ["insufficient_data"], "promoted": [False],
        "reasons": [stored("There is no challenger in 2024-02: no model has been trained.")],
    })  # fmt: skip
    assert said(store) == [
        "no model: 1 fraud is known",
        "nothing is live: There is no challenger in 2024-02: no model has been trained.",
    ]
