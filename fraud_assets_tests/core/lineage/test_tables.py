"""Tables as data: what their order means."""

import pyarrow as pa
import pytest

from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.lineage.tables.table import Table

TABLE = Table("t", pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.bool_())]), "a", order=("a", "b", "c"))


@pytest.mark.parametrize(
    ("rows", "in_order"),
    [
        ([], True),
        ([(2, "x", True)], True),
        ([(1, "z", True), (2, "a", False)], True),
        ([(1, "a", False), (1, "a", True), (1, "b", False)], True),
        ([(1, "a", True), (1, "a", True)], True),
        ([(2, "a", False), (1, "b", True)], False),
        ([(1, "b", False), (1, "a", True)], False),
        ([(1, "a", True), (1, "a", False)], False),
        ([(1, "a", False), (2, "a", False), (1, "a", False)], False),
        ([(1, "B", False), (1, "a", False), (1, "\u00e9", False)], True),
        ([(1, "a", None), (1, "a", True)], False),
        ([(1, "a", True), (1, "a", None), (1, "a", None), (1, "b", False)], True),
        ([(1, None, True), (1, "a", True)], False),
    ],
)
def test_rows_are_in_order_when_no_later_one_comes_before_by_column_after_column_with_missing_values_last(
    rows, in_order
):
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, TABLE.schema, strict=True)], ["a", "b", "c"]
    )
    assert TABLE.in_order(table) is in_order
    assert TABLE.in_order(table.sort_by([(name, "ascending") for name in TABLE.order]))


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_the_columns_that_it_speaks_of(name, handbook_contract):
    table = TABLES[name](handbook_contract)
    named = {
        table.month_column,
        *table.order,
        *table.key,
        *table.volatile,
        *(c for columns in table.indexes for c in columns),
    }
    assert table.name == name
    assert named <= set(table.schema.names)
    # Rows of different months never tie, and rows can be found again.
    assert not table.schema.field(table.month_column).nullable
    assert table.order[0] == table.month_column
    assert not any(table.schema.field(column).nullable for column in table.key)
