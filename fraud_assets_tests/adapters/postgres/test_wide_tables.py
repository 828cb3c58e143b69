"""A contract at the limit of what Postgres holds: every column written, replaced and read back."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import parse_contract

NUMBERS, FLAGS, TEXTS = 700, 780, 50


@pytest.fixture(scope="module")
def wide():
    columns = [f"  number_{n}: {{column: n{n}, type: number, nullable: true, feature: true}}" for n in range(NUMBERS)]
    columns += [f"  flag_{n}: {{column: f{n}, type: boolean, nullable: true, feature: true}}" for n in range(FLAGS)]
    columns += [f"  text_{n}: {{column: t{n}, nullable: true, feature: false}}" for n in range(TEXTS)]
    return parse_contract(
        "name: wide\nfirst_month: 2024-01\ntransaction_id: {column: id, type: integer}\nevent_timestamp: {column: at}\n"
        "entities: {card: {column: card}}\namount: {column: amount, type: number}\n"
        "label: {column: fraud, delay_days: 3}\nmaturity_days: 7\nattributes:\n" + "\n".join(columns)
    )


def rows_of(schema, n=20, seed=1):
    """Rows without a gap; texts so long that Postgres keeps them elsewhere."""
    random = np.random.default_rng(seed)
    moment = dt.datetime(2024, 1, 5, tzinfo=dt.UTC)
    values = {
        pa.int64(): lambda: range(n),
        pa.float64(): lambda: random.normal(size=n),
        pa.float32(): lambda: random.normal(size=n).astype(np.float32),
        pa.bool_(): lambda: random.integers(0, 2, n).astype(bool),
        pa.string(): lambda: [random.bytes(1_500).hex() for _ in range(n)],
        pa.timestamp("us", "UTC"): lambda: [moment + dt.timedelta(minutes=k) for k in range(n)],
    }
    return pa.table([pa.array(values[field.type](), field.type) for field in schema], schema=schema)


@pytest.mark.parametrize("name", ["raw_transactions", "transaction_features"])
def test_a_table_of_1500_columns_is_written_replaced_and_read_with_all_values(database, wide, name):
    store = MonthStore(database, wide)
    schema = store.table(name).schema
    assert len(schema) >= 1_500
    first = rows_of(schema)
    store.replace_months(name, first, ["2024-01"])
    assert store.read(name, first_month="2024-01").replace_schema_metadata(None).equals(first)
    last = schema.names[-2] if name == "raw_transactions" else schema.names[-1]
    position = schema.get_field_index(last)
    changed = first.set_column(position, schema.field(position), rows_of(schema, seed=2)[last])
    (write,) = store.replace_months(name, changed, ["2024-01"])
    assert (write.added, write.removed, write.altered) == (0, 0, 20)
