"""Rows that someone deletes or alters with SQL: noticed, and put back when the month is written again."""

from __future__ import annotations

import pytest

from fraud_assets.adapters.postgres.months import MonthStore, TableError
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.digests import digest_table
from fraud_assets_tests.adapters.postgres.test_months import APRIL, CARDS, CONTRACT, JUNE, MAY, rows

DELETED = "DELETE FROM raw_transactions WHERE transaction_id = {first} + 7"
ALTERED = "UPDATE raw_transactions SET amount = amount + 1 WHERE transaction_id = {first} + 7"
EMPTIED = "UPDATE raw_transactions SET customer_id = NULL WHERE transaction_id = {first} + 7"
TWICE = "INSERT INTO raw_transactions SELECT * FROM raw_transactions WHERE transaction_id = {first} + 7"
SWAPPED = f"{DELETED}; INSERT INTO raw_transactions SELECT * FROM raw_transactions WHERE transaction_id = {{first}} + 8"
GONE = "TRUNCATE months.raw_transactions_2018_05"
DROPPED = "DROP TABLE months.raw_transactions_2018_05"


@pytest.fixture
def store(database):
    store = MonthStore(database, CONTRACT)
    for month in (APRIL, MAY, JUNE):
        store.replace_months("raw_transactions", rows(month), [month])
    return store


def damage(store, statement):
    with store.database.session() as connection:
        connection.execute(statement.format(first=201805 * 10_000))


def test_months_that_nobody_touched_are_as_written(store):
    assert store.damages("raw_transactions", by_value=True) == {}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (DELETED, "49 rows are there, and 50 were written"),
        (TWICE, "51 rows are there, and 50 were written"),
        (GONE, "0 rows are there, and 50 were written"),
        (DROPPED, "0 rows are there, and 50 were written"),
    ],
)
def test_a_month_with_more_or_fewer_rows_than_were_written_is_named_and_not_read(store, statement, said):
    damage(store, statement)
    assert store.damages("raw_transactions", by_value=False) == {MAY: said}
    for first, last in ((MAY, MAY), (APRIL, JUNE), (APRIL, None)):
        with pytest.raises(TableError, match=rf"deleted or added outside of the platform \({MAY}: {said}\)"):
            store.read("raw_transactions", ["amount"], first_month=first, last_month=last)
    assert store.read("raw_transactions", first_month=APRIL, last_month=APRIL).num_rows == 50


@pytest.mark.parametrize("statement", [ALTERED, EMPTIED, SWAPPED])
def test_a_month_with_other_values_than_were_written_is_named(store, statement):
    damage(store, statement)
    assert store.damages("raw_transactions", by_value=False) == {}
    wrong = "all 50 rows are there, but not with the values that were written"
    assert store.damages("raw_transactions", by_value=True) == {MAY: wrong}


@pytest.mark.parametrize("form", ["whole", "stream"])
@pytest.mark.parametrize("statement", [DELETED, ALTERED, EMPTIED, TWICE, SWAPPED, GONE, DROPPED])
def test_writing_a_damaged_month_again_puts_back_what_was_written(store, statement, form):
    whole = rows(MAY)
    damage(store, statement)
    given = whole if form == "whole" else {MAY: whole.to_reader(max_chunksize=7)}
    [write] = store.replace_months("raw_transactions", given, [MAY])
    assert write.changed
    assert store.damages("raw_transactions", by_value=True) == {}
    names = [name for name in whole.column_names if name != "ingested_at"]
    back = store.read("raw_transactions", names, first_month=MAY, last_month=MAY)
    assert digest_table(back) == digest_table(whole.select(names))


def test_writing_a_damaged_month_again_says_what_came_back(store):
    damage(store, DELETED)
    [write] = store.replace_months("raw_transactions", rows(MAY), [MAY])
    assert (write.added, write.removed, write.altered) == (1, 0, 0)
    damage(store, ALTERED)
    [write] = store.replace_months("raw_transactions", rows(MAY), [MAY])
    assert (write.added, write.removed, write.altered) == (0, 0, 1)


def test_a_month_from_before_its_contract_had_another_column_is_as_written(store):
    """The column is added, empty, to the months that are there; their digest is over what they had."""
    more = parse_contract(CARDS.replace("label:", "  channel: {column: channel, type: string, nullable: true}\nlabel:"))
    longer = MonthStore(store.database, more)
    whole = rows(JUNE)
    longer.replace_months("raw_transactions", whole.append_column("channel", [["web"] * whole.num_rows]), [JUNE])
    assert longer.damages("raw_transactions", by_value=True) == {}
    assert store.damages("raw_transactions", by_value=True) == {}


def test_a_month_written_without_a_column_that_its_contract_had_before_is_as_written(store):
    fewer = parse_contract(CARDS.replace("  items: {column: items, type: integer, nullable: true}\n", ""))
    shorter = MonthStore(store.database, fewer)
    shorter.replace_months("raw_transactions", rows(JUNE).drop_columns("items"), [JUNE])
    assert shorter.damages("raw_transactions", by_value=True) == {}
