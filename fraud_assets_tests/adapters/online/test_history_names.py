"""History of entities whatever they are called and made of, on a real Postgres and by the platform's own tables."""

import datetime as dt

import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.online.history import History, HistoryError
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import parse_contract

CONTRACT = """
name: names
first_month: 2024-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  Card: {column: card}
  select: {column: s, type: integer, nullable: true}
  MCC: {column: m, type: number, nullable: true}
  born: {column: b, type: date, nullable: true}
  guest: {column: g, type: boolean, nullable: true}
amount: {column: amount, type: number}
attributes:
  User: {column: u, nullable: true, feature: false}
  order: {column: o, type: integer, nullable: true}
label: {column: fraud, delay_days: 3}
maturity_days: 7
"""


def utc(day, hour=0):
    return dt.datetime(2024, 1, day, hour, tzinfo=dt.UTC)


@pytest.fixture
def stored(database):
    """A database with three transactions, two of them of one card, and a report about the first."""
    contract = parse_contract(CONTRACT)
    store = MonthStore(database, contract)
    schema = contract.transactions_schema()
    rows = pa.table(
        {
            "transaction_id": [1, 2, 3],
            "event_timestamp": [utc(2), utc(5), utc(8)],
            "Card": ["a", "b", "a"],
            "select": [7, 7, None],
            "MCC": [1.5, None, 1.5],
            "born": [dt.date(1990, 5, 1), None, None],
            "guest": [True, None, False],
            "amount": [10.0, 20.0, 30.0],
            "User": [None, "x", "y"],
            "order": [1, None, 2],
        },
        schema=schema,
    )
    written = rows.append_column("ingested_at", pa.array([utc(9)] * 3, pa.timestamp("us", "UTC")))
    store.replace_months("raw_transactions", written, ["2024-01"])
    labels = contract.labels_schema()
    said = {name: [rows[name][0].as_py()] for name in labels.names if name in rows.column_names}
    said |= {"is_fraud": [True], "label_timestamp": [utc(6)], "label_source": ["chargeback"]}
    statements = pa.table({name: said[name] for name in labels.names}, schema=labels)
    origin = pa.array(["delivery"], pa.string())
    store.replace_months("fraud_labels", statements.append_column("origin", origin), ["2024-01"])
    return database, contract, rows


@pytest.mark.parametrize("entity", ["Card", "select", "MCC", "born", "guest"])
def test_an_entity_of_any_name_and_type_has_its_history(stored, entity):
    database, contract, rows = stored
    fields = [field.with_nullable(True) for field in contract.transactions_schema()]
    own = dict.fromkeys(contract.transactions_schema().names)
    own |= {"transaction_id": 9, "event_timestamp": utc(10), "amount": 5.0, entity: rows[entity][0].as_py()}
    batch = pa.Table.from_pylist([own], schema=pa.schema(fields))
    history = History(database.url, contract)
    history.check()
    transactions, statements = history.before(batch)
    history.close()
    expected = {row["transaction_id"] for row in rows.to_pylist() if row[entity] == own[entity]}
    # Whoever spent in the reported fraud, up to it.
    assert set(transactions["transaction_id"].to_pylist()) == expected | {1}
    assert statements["transaction_id"].to_pylist() == [1]


@pytest.mark.parametrize("table", ["raw_transactions", "fraud_labels"])
@pytest.mark.parametrize("column", ["Card", "guest"])
def test_history_that_lacks_an_entity_is_not_ready(stored, table, column):
    database, contract, _ = stored
    with psycopg.connect(database.url) as connection:
        connection.execute(f'ALTER TABLE {table} RENAME COLUMN "{column}" TO elsewhere')
    history = History(database.url, contract)
    with pytest.raises(HistoryError, match="holds no history for this model"):
        history.check()
    history.close()
