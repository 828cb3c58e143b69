"""Months of tables on a real Postgres: replaced whole or not at all, and read back as they were written."""

import datetime as dt
import threading

import dagster as dg
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from fraud_assets.adapters.postgres.months import (
    MonthsOnce,
    MonthStore,
    PostgresMonthIOManager,
    TableError,
    open_store,
)
from fraud_assets.adapters.postgres.verify import ordered
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.digests import digest_table
from fraud_assets.core.lineage.needs import Needed
from fraud_assets.core.lineage.staleness import inputs_of
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.months import month_end, month_start
from fraud_assets.settings import Settings

CARDS = """
name: tests
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: who, type: string, nullable: true}
amount: {column: amount, type: number, nullable: true}
attributes:
  items: {column: items, type: integer, nullable: true}
  foreign_card: {column: foreign, type: boolean, nullable: true}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""
CONTRACT = parse_contract(CARDS)
APRIL, MAY, JUNE = "2018-04", "2018-05", "2018-06"


@pytest.fixture
def store(database):
    return MonthStore(database, CONTRACT)


def rows(month, n=50, seed=0, ingested=1):
    """`n` transactions spread over a month, from its first instant on."""
    generator = np.random.default_rng([seed, int(month.replace("-", ""))])
    start, end = month_start(month), month_end(month)
    moments = [start + (end - start) * i / n for i in range(n)]
    return pa.table(
        {
            "transaction_id": pa.array([int(month.replace("-", "")) * 10_000 + i for i in range(n)], pa.int64()),
            "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "customer_id": [f"c{i % 7}" for i in range(n)],
            "amount": generator.random(n).round(2),
            "items": pa.array([None if i % 5 == 0 else i for i in range(n)], pa.int64()),
            "foreign_card": [i % 3 == 0 for i in range(n)],
            "ingested_at": pa.array([dt.datetime(2018, 9, ingested, tzinfo=dt.UTC)] * n, pa.timestamp("us", "UTC")),
        }
    )


def everything(store, columns=None):
    """All that is stored; the contract begins in January 2018."""
    return store.read("raw_transactions", columns, first_month="2018-01")


def digest(table):
    return digest_table(table, ignore=["ingested_at"])


def partition(database, month=APRIL, table="raw_transactions"):
    """Identity of a month's partition, and how often the month was written."""
    name = f"{table}_{month.replace('-', '_')}"
    oid = database.query(f"SELECT to_regclass('months.{name}')::oid::bigint AS oid")["oid"][0].as_py()
    written = database.query("SELECT count(*) AS n FROM month_versions WHERE month = $1", [month])["n"][0].as_py()
    return oid, written


def tables_in_months(database):
    return set(
        database.query("SELECT tablename::text AS t FROM pg_tables WHERE schemaname = 'months'")["t"].to_pylist()
    )


def test_a_month_is_read_back_as_it_was_written(store):
    written = rows(APRIL)
    (result,) = store.replace_months("raw_transactions", written, [APRIL])
    assert (result.month, result.n_rows, result.changed) == (APRIL, 50, True)
    found = store.read("raw_transactions", first_month=APRIL, last_month=APRIL)
    assert found.schema == store.table("raw_transactions").schema
    assert found.to_pylist() == written.to_pylist()
    assert store.months("raw_transactions") == {APRIL: digest(found)} == {APRIL: result.digest}


def test_ranges_that_move_on_read_a_month_once_and_say_the_same(store, monkeypatch):
    months = ["2018-04", "2018-05", "2018-06"]
    for month in months[:2]:
        store.replace_months("raw_transactions", rows(month), [month])
    read, asked = store.read, []
    monkeypatch.setattr(store, "read", lambda *given, **months: asked.append(months) or read(*given, **months))
    once = MonthsOnce(store, "raw_transactions", ["transaction_id"])
    for first, last in (("2017-11", "2018-05"), ("2018-05", "2018-06")):
        found, inputs = once.read(first, last)
        expected = read("raw_transactions", ["transaction_id"], first_month=first, last_month=last)
        assert found.equals(expected)
        assert inputs == inputs_of(expected)
    assert inputs["raw_transactions"]["2018-06"] is None
    assert [one["first_month"] for one in asked] == ["2018-01", "2018-02", "2018-03", *months]


def test_a_replaced_month_has_the_new_rows_and_none_of_the_old(store):
    store.replace_months("raw_transactions", pa.concat_tables([rows(APRIL), rows(MAY)]), [APRIL, MAY])
    new = rows(APRIL, n=30, seed=1)
    (result,) = store.replace_months("raw_transactions", new, [APRIL])
    assert result.changed
    assert store.read("raw_transactions", last_month=APRIL).to_pylist() == new.to_pylist()
    assert store.read("raw_transactions", first_month=MAY).to_pylist() == rows(MAY).to_pylist()


def test_a_month_written_again_unchanged_is_left_alone_whatever_the_order_and_the_time(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    before = partition(database)
    again = rows(APRIL, ingested=2).take(pa.array(np.arange(50)[::-1]))
    (result,) = store.replace_months("raw_transactions", again.select(again.column_names[::-1]), [APRIL])
    assert not result.changed
    assert partition(database) == before
    # The rows keep the time at which they came.
    assert set(everything(store, ["ingested_at"])["ingested_at"].to_pylist()) == {
        dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
    }


def test_a_month_that_goes_back_to_an_earlier_content_is_written_again(store):
    for seed in (0, 1, 0):
        assert store.replace_months("raw_transactions", rows(APRIL, seed=seed), [APRIL])[0].changed
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_a_month_without_rows_becomes_empty(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    store.replace_months("raw_transactions", rows(APRIL).slice(0, 0), [APRIL])
    assert everything(store).num_rows == 0
    assert list(store.months("raw_transactions")) == [APRIL]


@pytest.mark.parametrize("moment", [month_end(APRIL), month_start(APRIL) - dt.timedelta(microseconds=1)])
def test_rows_outside_the_months_are_refused_and_the_month_stays(store, moment):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    wrong = rows(APRIL, seed=1)
    wrong = wrong.set_column(1, "event_timestamp", pa.array([moment] * 50, pa.timestamp("us", "UTC")))
    with pytest.raises(TableError, match=r"50 rows for raw_transactions lie outside the months \['2018-04'\]"):
        store.replace_months("raw_transactions", wrong, [APRIL])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_the_first_and_the_last_instant_of_a_month_belong_to_it(store):
    edge = [month_start(APRIL), month_end(APRIL) - dt.timedelta(microseconds=1)]
    table = rows(APRIL, n=2).set_column(1, "event_timestamp", pa.array(edge, pa.timestamp("us", "UTC")))
    store.replace_months("raw_transactions", table, [APRIL])
    read = store.read("raw_transactions", ["event_timestamp"], first_month=APRIL, last_month=APRIL)
    assert read["event_timestamp"].to_pylist() == edge


def test_a_missing_column_is_refused_by_name(store):
    with pytest.raises(TableError, match=r"rows for raw_transactions lack the columns \['amount', 'items'\]"):
        store.replace_months("raw_transactions", rows(APRIL).drop_columns(["items", "amount"]), [APRIL])


@pytest.mark.parametrize(
    ("column", "values"),
    [("amount", ["much"] * 50), ("transaction_id", [None] * 50), ("transaction_id", [0.5] * 50), ("items", [[1]] * 50)],
)
def test_values_that_do_not_fit_their_column_are_refused(store, column, values):
    table = rows(APRIL)
    wrong = table.set_column(table.column_names.index(column), column, pa.array(values))
    with pytest.raises(TableError, match="rows for raw_transactions do not fit its columns"):
        store.replace_months("raw_transactions", wrong, [APRIL])


def test_a_table_that_is_none_is_refused(store):
    with pytest.raises(KeyError):
        store.read("no_such_table")


def test_what_was_never_written_is_read_as_no_rows_with_the_declared_columns(store):
    assert everything(store).schema == store.table("raw_transactions").schema
    assert everything(store, ["amount"]).column_names == ["amount"]
    assert store.months("raw_transactions") == {}
    assert store.first_event() is None
    assert not store.exists("raw_transactions")


def test_a_range_of_months_is_read_in_the_tables_order(store):
    store.replace_months("raw_transactions", rows(JUNE), [JUNE])
    store.replace_months("raw_transactions", pa.concat_tables([rows(MAY), rows(APRIL)]), [APRIL, MAY])
    found = store.read("raw_transactions", first_month=APRIL, last_month=MAY)
    assert found.to_pylist() == pa.concat_tables([rows(APRIL), rows(MAY)]).to_pylist()
    assert list(store.months("raw_transactions")) == [APRIL, MAY, JUNE]
    assert store.first_event() == month_start(APRIL)


def test_only_the_columns_asked_for_are_read(store, database):
    """A column that is no longer in the database is not missed by who does not ask for it."""
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    with database.session() as connection:
        connection.execute("ALTER TABLE raw_transactions DROP COLUMN ingested_at")
    found = everything(store, ["items", "transaction_id"])
    assert found.column_names == ["items", "transaction_id"]
    assert found.num_rows == 50
    with pytest.raises(Exception, match="ingested_at"):
        everything(store)


# Values


NASTY = [
    "",
    "O'Brien",
    '"quoted"',
    "back\\slash",
    "tab\tnew\nline",
    "\U0001f9ff\u00e9\u4e2d\u200f",
    "x" * 10_000,
    "\\N",
    "NULL",
    None,
]


def test_text_of_every_kind_comes_back_as_it_was(store):
    table = rows(APRIL, n=len(NASTY)).set_column(2, "customer_id", pa.array(NASTY, pa.string()))
    store.replace_months("raw_transactions", table, [APRIL])
    assert everything(store, ["customer_id"])["customer_id"].to_pylist() == NASTY


def test_text_that_postgres_cannot_hold_is_refused_by_row_and_column(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    names = ["c"] * 30 + ["a\0b"] + ["c"] * 19
    wrong = rows(APRIL, seed=1).set_column(2, "customer_id", pa.array(names))
    with pytest.raises(TableError, match=r"raw_transactions cannot hold a value, .* line 31, column customer_id"):
        store.replace_months("raw_transactions", wrong, [APRIL])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_numbers_of_every_kind_come_back_as_they_were(store):
    amounts = [0.0, -0.0, 0.1, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), None, 1 / 3]
    items = [0, -1, 2**63 - 1, -(2**63), 2**53 + 1, None, 1, 2, 3, 4]
    flags = [True, False, None, True, False, None, True, False, None, True]
    table = rows(APRIL, n=10)
    for position, values in ((3, amounts), (4, items), (5, flags)):
        field = store.table("raw_transactions").schema.field(position)
        table = table.set_column(position, field.name, pa.array(values, field.type))
    store.replace_months("raw_transactions", table, [APRIL])
    found = everything(store)
    assert [str(value) for value in found["amount"].to_pylist()] == [str(value) for value in amounts]
    assert found["items"].to_pylist() == items
    assert found["foreign_card"].to_pylist() == flags


def test_times_are_kept_to_the_microsecond_in_utc(store, database):
    moment = dt.datetime(2018, 4, 30, 23, 59, 59, 999999, tzinfo=dt.UTC)
    table = rows(APRIL, n=1).set_column(1, "event_timestamp", pa.array([moment], pa.timestamp("us", "Asia/Tokyo")))
    store.replace_months("raw_transactions", table, [APRIL])
    found = everything(store, ["event_timestamp"])["event_timestamp"]
    assert found.type == pa.timestamp("us", "UTC")
    assert found.to_pylist() == [moment]
    text = database.query("SELECT to_char(event_timestamp AT TIME ZONE 'UTC', 'DD HH24:MI') AS t FROM raw_transactions")
    assert text.to_pylist() == [{"t": "30 23:59"}]


def test_single_precision_features_come_back_bit_by_bit(store):
    schema = store.table("transaction_features").schema
    columns = {
        "transaction_id": [1, 2, 3],
        "event_timestamp": [month_start(APRIL) + dt.timedelta(days=day) for day in range(3)],
        "customer_id": ["a", None, "c"],
    }
    table = pa.table(
        [pa.array(columns.get(field.name, [0.1, None, -1e38]), field.type) for field in schema], schema=schema
    )
    store.replace_months("transaction_features", table, [APRIL])
    found = store.read("transaction_features", first_month=APRIL)
    assert found.schema == schema
    assert digest_table(found) == digest_table(table)


def test_a_table_with_a_month_as_a_date_is_kept_like_the_others(store):
    schema = store.table("champion").schema

    def row(month, promoted):
        return pa.Table.from_pylist(
            [{"month": month_start(month).date(), "validation_status": "passed", "promoted": promoted, "reasons": "r"}],
            schema=schema,
        )

    store.replace_months("champion", pa.concat_tables([row(MAY, True), row(APRIL, False)]), [APRIL, MAY])
    (result,) = store.replace_months("champion", row(MAY, True), [MAY])
    assert not result.changed
    store.replace_months("champion", row(MAY, False), [MAY])
    found = store.read("champion", first_month=MAY)
    assert found.to_pylist() == [
        {
            "month": dt.date(2018, 5, 1), "validation_status": "passed", "promoted": False, "reasons": "r",
            "challenger_version": None, "champion_version": None,
        }
    ]  # fmt: skip
    assert store.read("champion")["month"].to_pylist() == [dt.date(2018, 4, 1), dt.date(2018, 5, 1)]


# Contracts that change


def test_a_new_column_is_added_and_old_months_stay_readable(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    wider = parse_contract(CARDS.replace("attributes:", "attributes:\n  city: {column: city, type: string}"))
    new = MonthStore(database, wider)
    may = rows(MAY)
    may = may.add_column(4, "city", pa.array(["Oslo"] * 50))
    new.replace_months("raw_transactions", may, [MAY])
    assert new.read("raw_transactions", first_month=MAY)["city"].to_pylist() == ["Oslo"] * 50
    found = everything(new, ["transaction_id", "city"])
    assert found["city"].to_pylist() == [None] * 50 + ["Oslo"] * 50
    # Who has the older contract reads on, and may write.
    assert everything(store).num_rows == 100
    assert store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])[0].changed


def test_a_stored_column_keeps_its_type(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    other = MonthStore(
        database, parse_contract(CARDS.replace("column: items, type: integer", "column: items, type: string"))
    )
    table = rows(APRIL)
    table = table.set_column(4, "items", table["items"].cast(pa.string()))
    with pytest.raises(
        TableError, match="'items' of raw_transactions is bigint in the database and text in the contract"
    ):
        other.replace_months("raw_transactions", table, [APRIL])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_a_column_that_the_contract_no_longer_has_is_kept_and_empty_from_then_on(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    with database.session() as connection:
        connection.execute("ALTER TABLE raw_transactions ALTER COLUMN amount SET NOT NULL")
    narrow = MonthStore(
        database, parse_contract(CARDS.replace("amount: {column: amount, type: number, nullable: true}", ""))
    )
    narrow.replace_months("raw_transactions", rows(MAY), [MAY])
    assert narrow.read("raw_transactions", first_month=MAY).to_pylist() == rows(MAY).drop_columns("amount").to_pylist()
    assert everything(store, ["amount"])["amount"].null_count == 50


def test_a_column_that_may_be_empty_from_now_on_may_be(store, database):
    strict = CARDS.replace("{column: amount, type: number, nullable: true}", "{column: amount, type: number}")
    MonthStore(database, parse_contract(strict)).replace_months("raw_transactions", rows(APRIL), [APRIL])
    empty = rows(MAY).set_column(3, "amount", pa.array([None] * 50, pa.float64()))
    store.replace_months("raw_transactions", empty, [MAY])
    assert everything(store, ["amount"])["amount"].null_count == 50


# Failure and concurrency


def fails_on(monkeypatch, where):
    """From now on the disk is full when rows are copied into the month that is built as `where`."""
    start, write = psycopg.Cursor.copy, psycopg.Copy.write
    target = []

    def copy(cursor, statement, *args, **options):
        target[:] = [statement.as_string()]
        return start(cursor, statement, *args, **options)

    def half(copy, data):
        write(copy, data)
        if where in target[0] and len(data) > 100:
            raise OSError("the disk is full")

    monkeypatch.setattr(psycopg.Cursor, "copy", copy)
    monkeypatch.setattr(psycopg.Copy, "write", half)


def test_an_old_month_stays_when_writing_the_new_one_fails_half_way(store, database, monkeypatch):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    before = partition(database)
    with monkeypatch.context() as patch:
        fails_on(patch, "2018_04")
        with pytest.raises(OSError, match="disk is full"):
            store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])
    assert partition(database) == before
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()
    assert tables_in_months(database) == {"raw_transactions_2018_04"}
    assert store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])[0].changed


def test_months_before_the_one_that_fails_are_written_and_the_others_stay(store, monkeypatch):
    old = pa.concat_tables([rows(APRIL), rows(MAY)])
    store.replace_months("raw_transactions", old, [APRIL, MAY])
    fails_on(monkeypatch, "2018_05")
    new = pa.concat_tables([rows(APRIL, seed=1), rows(MAY, seed=1)])
    with pytest.raises(OSError, match="disk is full"):
        store.replace_months("raw_transactions", new, [APRIL, MAY])
    assert everything(store).to_pylist() == pa.concat_tables([rows(APRIL, seed=1), rows(MAY)]).to_pylist()


@pytest.mark.parametrize("months", [[APRIL] * 4, [APRIL, MAY, JUNE, "2018-07"]])
def test_writers_of_one_month_or_of_several_take_turns(store, months):
    """Each replaces its month three times; none may fail, and each month holds what one of its writers wrote."""
    for month in sorted(set(months)):
        store.replace_months("raw_transactions", rows(month), [month])
    failures, start = [], threading.Barrier(len(months))

    def write(number, month):
        start.wait()
        try:
            for turn in range(1, 4):
                store.replace_months("raw_transactions", rows(month, seed=10 * number + turn), [month])
        except Exception as error:  # noqa: BLE001 - any error of a writer fails the test below
            failures.append(error)

    writers = [threading.Thread(target=write, args=pair) for pair in enumerate(months, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    for month in sorted(set(months)):
        last = [digest(rows(month, seed=10 * number + 3)) for number, own in enumerate(months, 1) if own == month]
        found = store.read("raw_transactions", first_month=month, last_month=month)
        assert digest(found) in last
        assert store.months("raw_transactions")[month] == digest(found)


def test_text_identifiers_are_read_in_the_order_of_their_bytes_whatever_the_servers_language(database):
    """The embedded server knows no language but C, so the order asked for is looked at as well."""
    store = MonthStore(database, parse_contract(CARDS.replace("{column: id, type: integer}", "{column: id}")))
    table = rows(APRIL, n=4).set_column(0, "transaction_id", pa.array(["a", "B", "_", "\u00e9"]))
    table = table.set_column(1, "event_timestamp", pa.array([month_start(APRIL)] * 4, pa.timestamp("us", "UTC")))
    store.replace_months("raw_transactions", table, [APRIL])
    assert everything(store)["transaction_id"].to_pylist() == ["B", "_", "a", "\u00e9"]
    assert everything(store, ["transaction_id"])["transaction_id"].to_pylist() == ["B", "_", "a", "\u00e9"]
    by = sql.SQL(", ").join(ordered(store.table("raw_transactions"))).as_string()
    assert by == '"event_timestamp", "transaction_id" COLLATE "C"'


# Streams


def stream(table, size=7):
    """The rows in batches of `size`."""
    return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=size)))


def test_a_streamed_month_is_the_same_as_one_given_whole(store):
    (streamed,) = store.replace_months("raw_transactions", {APRIL: stream(rows(APRIL))}, [APRIL])
    assert streamed.digest == digest(rows(APRIL))
    assert streamed.n_rows == 50
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_a_streamed_month_that_is_there_already_is_left_alone(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    before = partition(database)
    again = rows(APRIL, ingested=2)
    (result,) = store.replace_months(
        "raw_transactions", {APRIL: stream(again.select(again.column_names[::-1]))}, [APRIL]
    )
    assert not result.changed
    assert partition(database) == before
    assert tables_in_months(database) == {"raw_transactions_2018_04"}


@pytest.mark.parametrize(("first", "second"), [(0, 7), (3, 4)])
def test_a_stream_out_of_order_is_refused_within_a_batch_and_between_two(store, first, second):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    order = list(range(50))
    order[first], order[second] = order[second], order[first]
    wrong = rows(APRIL, seed=1).take(pa.array(order))
    with pytest.raises(
        TableError, match="do not come in the order of event_timestamp, transaction_id; sort the stream"
    ):
        store.replace_months("raw_transactions", {APRIL: stream(wrong)}, [APRIL])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_a_stream_with_a_row_of_another_month_is_refused_and_the_month_stays(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    wrong = pa.concat_tables([rows(APRIL, seed=1), rows(MAY).slice(0, 2)])
    with pytest.raises(TableError, match="2 rows for raw_transactions lie outside the months"):
        store.replace_months("raw_transactions", {APRIL: stream(wrong, size=60)}, [APRIL])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


def test_months_are_asked_for_one_by_one_each_after_the_one_before_is_stored(store):
    class Lazy(dict):
        def __missing__(self, month):
            seen.append((month, list(store.months("raw_transactions"))))
            return rows(month)

    seen = []
    store.replace_months("raw_transactions", Lazy(), [APRIL, MAY, JUNE])
    assert seen == [(APRIL, []), (MAY, [APRIL]), (JUNE, [APRIL, MAY])]


# What changed


def test_a_first_version_has_nothing_to_be_compared_with(store):
    (result,) = store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    assert (result.added, result.removed, result.altered) == (None, None, None)


@pytest.mark.parametrize("form", [lambda table: table, lambda table: {APRIL: stream(table)}])
def test_a_redelivered_month_says_how_many_rows_were_added_removed_and_altered(store, form):
    """Rows 0 to 49 before. Then 0 and 1 are gone, 4 to 6 cost more, and two are new; one only came at another time."""
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    new = rows(APRIL, ingested=2).slice(2).to_pylist()
    for row in new[2:5]:
        row["amount"] += 1
    late = month_end(APRIL) - dt.timedelta(seconds=2)
    new += [new[-1] | {"transaction_id": 9_000_000_000 + i, "event_timestamp": late} for i in range(2)]
    (result,) = store.replace_months(
        "raw_transactions", form(pa.Table.from_pylist(new, schema=rows(APRIL).schema)), [APRIL]
    )
    assert (result.added, result.removed, result.altered) == (2, 2, 3)
    (_, second) = store.versions("raw_transactions", APRIL).to_pylist()
    assert (second["added"], second["removed"], second["altered"]) == (2, 2, 3)


def test_a_value_that_went_missing_or_came_is_an_altered_row(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    new = rows(APRIL).to_pylist()
    new[1]["amount"] = None
    new[0]["items"] = 3  # every fifth is missing, from the first on
    (result,) = store.replace_months("raw_transactions", pa.Table.from_pylist(new, schema=rows(APRIL).schema), [APRIL])
    assert (result.added, result.removed, result.altered) == (0, 0, 2)


def statements(*said):
    """Statements about one transaction, all at the first instant of April and by one source."""
    moment = month_start(APRIL)
    return pa.Table.from_pylist(
        [
            {
                "transaction_id": 1, "event_timestamp": seen, "customer_id": None, "is_fraud": verdict,
                "label_timestamp": moment, "label_source": "analyst", "origin": "a.csv",
            }
            for verdict, seen in said
        ],
        schema=TABLES["fraud_labels"](CONTRACT).schema,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ([(True, None)], [(True, None), (True, None)], (1, 0, 0)),
        ([(True, None), (False, None)], [(True, None)], (0, 1, 0)),
        ([(True, None)], [(False, None)], (1, 1, 0)),
        ([(True, None), (None, None)], [(True, None), (None, None), (None, None)], (1, 0, 0)),
        ([(True, None)], [(True, month_start(APRIL))], (0, 0, 1)),
    ],
)
def test_statements_without_a_name_of_their_own_are_counted_each_once(store, before, after, counts):
    store.replace_months("fraud_labels", statements(*before), [APRIL])
    (result,) = store.replace_months("fraud_labels", statements(*after), [APRIL])
    assert (result.added, result.removed, result.altered) == counts


# What a month was made of


MADE_OF = {"source": {APRIL: "f1"}, "contract": {"": "c1"}}


def test_a_month_keeps_what_it_was_made_of(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL], inputs=MADE_OF)
    assert store.current() == {("raw_transactions", APRIL): (digest(rows(APRIL)), MADE_OF)}


def test_each_month_of_a_range_may_be_made_of_something_else(store):
    given = {APRIL: MADE_OF, MAY: {"source": {MAY: "f2"}}}
    store.replace_months("raw_transactions", {APRIL: rows(APRIL), MAY: rows(MAY)}, [APRIL, MAY], inputs=given)
    assert {month: inputs for (_, month), (_, inputs) in store.current().items()} == given


def test_the_same_rows_made_of_something_else_are_noted_and_not_written(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL], inputs=MADE_OF)
    oid, written = partition(database)
    other = MADE_OF | {"contract": {"": "c2"}}
    for data in (rows(APRIL), {APRIL: stream(rows(APRIL))}):
        (result,) = store.replace_months("raw_transactions", data, [APRIL], inputs=other)
        assert not result.changed
        assert (result.added, result.removed, result.altered) == (0, 0, 0)
    # Noted once: the second time nothing had changed.
    assert partition(database) == (oid, written + 1)
    assert store.current()["raw_transactions", APRIL] == (digest(rows(APRIL)), other)
    assert store.versions("raw_transactions")["digest"].to_pylist() == [digest(rows(APRIL))] * 2


def test_what_was_read_says_which_version_of_each_month_it_is(store):
    store.replace_months("raw_transactions", {APRIL: rows(APRIL), JUNE: rows(JUNE)}, [APRIL, JUNE])
    found = store.read("raw_transactions", ["amount"], first_month="2018-03", last_month=JUNE)
    known = {"2018-03": None, APRIL: digest(rows(APRIL)), MAY: None, JUNE: digest(rows(JUNE))}
    assert inputs_of(found) == {"raw_transactions": known}


def test_months_that_the_contract_does_not_have_are_no_inputs_and_an_open_end_is_the_last_that_is_stored(store):
    assert inputs_of(everything(store)) == {"raw_transactions": {}}
    store.replace_months("raw_transactions", rows("2018-02"), ["2018-02"])
    found = store.read("raw_transactions", first_month="2017-11")
    known = {"2018-01": None, "2018-02": digest(rows("2018-02"))}
    assert inputs_of(found) == {"raw_transactions": known}


def test_tables_with_many_rows_a_month_are_not_read_whole_by_accident(store):
    with pytest.raises(TableError, match=r"reading all of raw_transactions .* name first_month or last_month"):
        store.read("raw_transactions")


# Indexes


def indexes(database, month=APRIL):
    found = database.query(
        "SELECT indexdef::text AS d FROM pg_indexes WHERE schemaname = 'months' AND tablename = $1 ORDER BY 1",
        [f"raw_transactions_{month.replace('-', '_')}"],
    )
    return [text.partition("USING btree ")[2] for text in found["d"].to_pylist()]


LOOKED_UP = ["(customer_id, event_timestamp)"]


def test_months_are_indexed_when_that_is_asked_for_and_only_once(store, database):
    store.replace_months("raw_transactions", {APRIL: rows(APRIL), MAY: rows(MAY)}, [APRIL, MAY])
    assert indexes(database) == []
    for _ in range(2):
        store.index_months("raw_transactions", [MAY, JUNE])
    assert indexes(database) == []
    assert indexes(database, MAY) == LOOKED_UP


def test_the_month_after_an_indexed_one_and_one_that_replaces_it_are_indexed_at_once(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    store.index_months("raw_transactions", [APRIL])
    store.replace_months(
        "raw_transactions", {m: rows(m, seed=1) for m in (APRIL, MAY, "2018-07")}, [APRIL, MAY, "2018-07"]
    )
    assert [indexes(database, month) for month in (APRIL, MAY, "2018-07")] == [LOOKED_UP, LOOKED_UP, []]


# Time zones


def test_months_are_cut_where_the_contracts_time_zone_says(database):
    """Midnight in Paris is 22:00 in UTC in summer."""
    store = MonthStore(database, parse_contract(CARDS + "timezone: Europe/Paris\n"))
    edges = [dt.datetime(2018, 3, 31, 22, tzinfo=dt.UTC), dt.datetime(2018, 4, 30, 21, 59, 59, 999999, tzinfo=dt.UTC)]
    table = rows(APRIL, n=2).set_column(1, "event_timestamp", pa.array(edges, pa.timestamp("us", "UTC")))
    store.replace_months("raw_transactions", table, [APRIL])
    found = store.read("raw_transactions", ["event_timestamp"], first_month=APRIL, last_month=APRIL)
    assert found["event_timestamp"].to_pylist() == edges


def test_months_cut_in_another_time_zone_are_refused_with_a_remedy(store, database):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    other = MonthStore(database, parse_contract(CARDS + "timezone: Europe/Paris\n"))
    with pytest.raises(
        TableError, match="2018-05 of raw_transactions overlaps a month that is stored: the contract's time"
    ):
        other.replace_months("raw_transactions", rows(MAY).slice(0, 0), [MAY])
    assert everything(store).to_pylist() == rows(APRIL).to_pylist()


# The IO manager


# dagster 1.13 asks every resource for it; goes when it does not.
OLD_PYDANTIC = pytest.mark.filterwarnings(
    "ignore:The .__fields__. attribute is deprecated:pydantic.warnings.PydanticDeprecatedSince20"
)


def materialize(server, body, **options):
    """Runs a one-off asset `champion` for its months, on the database of the settings."""
    server("simulator")
    months = dg.MonthlyPartitionsDefinition("2025-01", fmt="%Y-%m")

    @dg.asset(name="champion", partitions_def=months)
    def decisions():
        return body

    return dg.materialize([decisions], resources={"io_manager": PostgresMonthIOManager(Settings())}, **options)


def decided(month, promoted=True):
    row = {"month": month_start(month).date(), "validation_status": "passed", "promoted": promoted, "reasons": "r"}
    return pa.Table.from_pylist([row], schema=TABLES["champion"](CONTRACT).schema)


@OLD_PYDANTIC
def test_an_asset_that_does_not_say_what_its_rows_were_made_of_fails(server):
    with pytest.raises(TableError, match="the asset champion does not say what its rows were made of"):
        materialize(server, decided("2025-01"), partition_key="2025-01")


@OLD_PYDANTIC
def test_an_assets_inputs_are_kept_with_its_month_and_what_changed_is_shown(server):
    made_of = {"evaluation": {"2025-01": "e1"}, "ledger": {"champion before 2025-01": None}}
    output = dg.Output(decided("2025-01"), metadata={"inputs": made_of})
    materialize(server, output, partition_key="2025-01")
    store = open_store(Settings())
    assert store.current()["champion", "2025-01"] == (digest(decided("2025-01")), made_of)
    result = materialize(
        server, dg.Output(decided("2025-01", promoted=False), metadata={"inputs": made_of}), partition_key="2025-01"
    )
    (event,) = result.get_asset_materialization_events()
    shown = event.materialization.metadata
    assert shown["changed_months"].value == ["2025-01"]
    assert [shown[name].value for name in ("added", "removed", "altered", "dagster/row_count")] == [0, 0, 1, 1]
    assert "| 2025-01-01 | passed | False | r |" in shown["preview"].value


@pytest.mark.parametrize(
    ("preview", "columns"),
    [
        ("masked", {"event_timestamp", "amount", "items", "foreign_card", "ingested_at"}),
        ("all", {"transaction_id", "event_timestamp", "customer_id", "amount", "items", "foreign_card", "ingested_at"}),
        ("none", set()),
    ],
)
def test_the_preview_in_the_event_log_shows_what_the_settings_let_it_and_no_identifier_by_default(
    store, database, preview, columns
):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    manager = PostgresMonthIOManager(Settings(preview=preview))
    shown = manager._preview(store, "raw_transactions", APRIL)
    text = shown["preview"].value if shown else ""
    assert set(text.splitlines()[0].strip("| ").split(" | ") if text else ()) == columns
    # A customer of the rows, and a transaction.
    assert ("c3" in text, "2018040001" in text) == ((preview == "all",) * 2)
    assert Settings().preview == "masked"


@OLD_PYDANTIC
def test_a_range_in_one_run_may_give_its_months_as_streams_each_with_its_own_inputs(server):
    months = ["2025-03", "2025-04"]
    made_of = {month: {"evaluation": {month: f"e {month}"}} for month in months}
    body = dg.Output({month: stream(decided(month)) for month in months}, metadata={"inputs": made_of})
    materialize(
        server,
        body,
        tags={
            "dagster/asset_partition_range_start": months[0],
            "dagster/asset_partition_range_end": months[1],
        },
    )
    current = open_store(Settings()).current()
    assert {month: current["champion", month] for month in months} == {
        month: (digest(decided(month)), made_of[month]) for month in months
    }


# What is needed, and databases of a version before


def test_what_is_needed_is_read_once_and_says_which_versions_it_is(store):
    for month in (APRIL, MAY, JUNE):
        store.replace_months("raw_transactions", rows(month), [month], inputs={"source": {month: "s"}})
    wide = Needed("raw_transactions", ("transaction_id", "event_timestamp", "amount"), APRIL, MAY)
    narrow = Needed("raw_transactions", ("event_timestamp",), "2018-03", JUNE)
    found = store.load([narrow, wide])
    assert [(need.first, need.last, len(need.columns)) for need in found.loaded] == [
        ("2018-03", "2018-03", 1), (APRIL, MAY, 3), (JUNE, JUNE, 1)
    ]  # fmt: skip
    digests = store.months("raw_transactions")
    assert found.inputs == {"raw_transactions": {"2018-03": None, **digests}}
    alone = store.read("raw_transactions", narrow.columns, first_month=narrow.first, last_month=narrow.last)
    assert found.of(narrow).equals(alone.replace_schema_metadata(None))


def test_a_column_that_a_database_does_not_have_yet_is_empty_for_who_reads(store):
    """A reader changes nothing, so it has to do with what the version before wrote."""
    schema = TABLES["drift_report"](CONTRACT).schema
    row = {"month": dt.date(2018, 4, 1), "kind": "verdict", "feature": "", "method": "", "drift_status": "OK"}
    report = pa.Table.from_pylist([row | {"reason": "as ever", "pictures": "{}"}], schema=schema)
    store.replace_months("drift_report", report, [APRIL], inputs={"contract": {"": "c"}})
    with store.database.session() as connection:
        connection.execute("ALTER TABLE drift_report DROP COLUMN pictures")
        connection.commit()
    (found,) = store.read("drift_report", first_month=APRIL, last_month=APRIL).to_pylist()
    assert (found["reason"], found["pictures"]) == ("as ever", None)
    # The next month that is written brings the column, and takes nothing from the one before.
    later = pa.Table.from_pylist([row | {"month": dt.date(2018, 5, 1), "reason": "new", "pictures": "{}"}], schema)
    store.replace_months("drift_report", later, [MAY], inputs={"contract": {"": "c"}})
    both = store.read("drift_report", first_month=APRIL, last_month=MAY).to_pylist()
    assert [(one["reason"], one["pictures"]) for one in both] == [("as ever", None), ("new", "{}")]
