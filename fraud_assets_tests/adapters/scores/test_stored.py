"""Kept scores are read back as they were, whatever columns a contract has; each on a real Postgres."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.scores.sink import Sink
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.models.kept_scores import Scored

AT = datetime(2025, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
END = AT + timedelta(days=1)
ANYTHING = parse_contract("""
name: tests
first_month: 2025-01
event_timestamp: {column: zeit}
entities: {customer_id: {column: kunde, type: string, nullable: true}}
attributes:
  ganz: {column: ganz, type: integer, nullable: true}
  zahl: {column: zahl, type: number, nullable: true}
  wort: {column: wort, type: string, nullable: true}
  ja: {column: ja, type: boolean, nullable: true}
  tag: {column: tag, type: date, nullable: true}
label: {column: betrug, delay_days: 7}
maturity_days: 14
""")
BARE = parse_contract("""
name: tests
first_month: 2025-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
attributes: {x: {column: x, type: number}}
label: {column: fraud, delay_days: 7}
maturity_days: 14
""")
ROWS = [
    {"transaction_id": "b", "customer_id": "Ä\u2028\"'", "ganz": 2**62, "zahl": 5e-324, "wort": "a\tb\n", "ja": False,
     "tag": date(1969, 12, 31)},
    {"transaction_id": "a", "customer_id": None, "ganz": None, "zahl": None, "wort": None, "ja": None, "tag": None},
    {"transaction_id": "c", "customer_id": "", "ganz": -1, "zahl": 1.7976931348623157e308, "wort": "null", "ja": True,
     "tag": date(2100, 2, 28)},
]  # fmt: skip


def keep(database: Database, contract: Contract, rows: list[dict[str, object]], features: pa.Table) -> pa.Table:
    batch = pa.Table.from_pylist(
        [{"event_timestamp": AT, **row} for row in rows], schema=contract.transactions_schema()
    )
    nothing = np.zeros(len(rows))
    sink = Sink(database.url)
    made = Scored(
        contract, 3, 0.5, tuple(features.column_names), None, batch, features, nothing + 0.1, nothing.astype(bool),
        nothing.astype(bool), nothing, AT,
    )  # fmt: skip
    assert sink.insert(list(made.lines())).n_new == len(rows)
    sink.close()
    return batch


def test_columns_of_every_type_come_back_with_their_values(database: Database) -> None:
    batch = keep(database, ANYTHING, ROWS, pa.table({"f": [1.0, 2.0, 3.0]}))
    read = StoredScores(database, ANYTHING).read(AT, END)
    expected = batch.sort_by("transaction_id")
    for name in expected.column_names:
        assert read[name].to_pylist() == expected[name].to_pylist(), name
    assert set(read["scored_at"].to_pylist()) == {AT}


def test_features_come_back_to_the_bit_and_are_missing_where_a_version_has_them_not(database: Database) -> None:
    numbers = [0.1 + 0.2, None, -1e-300]
    keep(database, ANYTHING, ROWS, pa.table({"f": numbers, "wort": ["x", None, "Ü"]}))
    fields = [pa.field("f", pa.float64()), pa.field("wort", pa.string()), pa.field("later", pa.float64())]
    read = StoredScores(database, ANYTHING).features(AT, END, fields)
    found = dict(
        zip(
            read["transaction_id"].to_pylist(),
            zip(read["f"].to_pylist(), read["wort"].to_pylist(), strict=True),
            strict=True,
        )
    )
    assert found == {"b": (numbers[0], "x"), "a": (None, None), "c": (numbers[2], "Ü")}
    assert read["later"].null_count == 3
    assert StoredScores(database, ANYTHING).names(AT, END) == {3: ["f", "wort"]}


@pytest.mark.parametrize("contract", [ANYTHING, BARE])
def test_nothing_is_read_as_an_empty_table_of_the_same_columns(database: Database, contract: Contract) -> None:
    stored = StoredScores(database, contract)
    read = stored.read(AT, END)
    assert read.num_rows == 0
    assert {"transaction_id", "probability", *contract.columns} <= set(read.column_names)
    assert read.schema.field("transaction_id").type == contract.transaction_id_type
    assert (stored.counts(), stored.names(AT, END)) == ({}, {})


def test_the_span_begins_with_its_start_and_ends_before_its_end(database: Database) -> None:
    keep(database, BARE, [{"transaction_id": 7, "x": 1.0}], pa.table({"x": [1.0]}))
    stored = StoredScores(database, BARE)
    assert stored.read(AT, END)["transaction_id"].to_pylist() == [7]
    assert stored.read(AT - timedelta(days=1), AT).num_rows == 0
    assert stored.read(AT + timedelta(microseconds=1), END).num_rows == 0


def test_features_that_came_as_rows_are_the_same(database: Database) -> None:
    table = pa.table({"f": [0.1, None, 3.0]})
    batch = pa.Table.from_pylist(
        [{"event_timestamp": AT, **row} for row in ROWS], schema=ANYTHING.transactions_schema()
    )
    nothing = np.zeros(3)
    made = Scored(
        ANYTHING, 3, 0.5, ("f",), None, batch, table, nothing, nothing.astype(bool), nothing.astype(bool), nothing, AT
    )
    assert list(made.lines()) == list(replace(made, table=table.to_pylist()).lines())
