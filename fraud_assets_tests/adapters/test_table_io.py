"""Months of tables on a real Postgres: replaced whole or not at all, and read back as they were written."""

import datetime as dt
import signal
import subprocess
import sys
import textwrap
import threading

import adbc_driver_manager.dbapi
import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.adapters.table_io import MonthStore, TableError
from fraud_assets.core.contract import parse_contract
from fraud_assets.core.digests import digest_table
from fraud_assets.core.months import month_end, month_start
from fraud_assets.settings import PROJECT_ROOT

CARDS = """
name: tests
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
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
    assert set(store.read("raw_transactions", ["ingested_at"])["ingested_at"].to_pylist()) == {
        dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
    }


def test_a_month_that_goes_back_to_an_earlier_content_is_written_again(store):
    for seed in (0, 1, 0):
        assert store.replace_months("raw_transactions", rows(APRIL, seed=seed), [APRIL])[0].changed
    assert store.read("raw_transactions").to_pylist() == rows(APRIL).to_pylist()


def test_a_range_in_one_call_is_the_same_as_month_by_month(store, server):
    months = [APRIL, MAY, JUNE]
    whole = pa.concat_tables([rows(JUNE), rows(APRIL), rows(MAY)])
    together = store.replace_months("raw_transactions", whole, months)
    other = MonthStore(server("single_months"), CONTRACT)
    alone = [other.replace_months("raw_transactions", rows(month), [month])[0] for month in months]
    assert together == alone
    assert store.months("raw_transactions") == other.months("raw_transactions")
    assert digest(store.read("raw_transactions")) == digest(other.read("raw_transactions"))


def test_a_month_without_rows_becomes_empty(store):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    store.replace_months("raw_transactions", rows(APRIL).slice(0, 0), [APRIL])
    assert store.read("raw_transactions").num_rows == 0
    assert list(store.months("raw_transactions")) == [APRIL]


@pytest.mark.parametrize("moment", [month_end(APRIL), month_start(APRIL) - dt.timedelta(microseconds=1)])
def test_rows_outside_the_months_are_refused_and_the_month_stays(store, moment):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    wrong = rows(APRIL, seed=1)
    wrong = wrong.set_column(1, "event_timestamp", pa.array([moment] * 50, pa.timestamp("us", "UTC")))
    with pytest.raises(TableError, match=r"50 rows for raw_transactions lie outside the months \['2018-04'\]"):
        store.replace_months("raw_transactions", wrong, [APRIL])
    assert store.read("raw_transactions").to_pylist() == rows(APRIL).to_pylist()


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
    assert store.read("raw_transactions").schema == store.table("raw_transactions").schema
    assert store.read("raw_transactions", ["amount"]).column_names == ["amount"]
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
        connection.execute("ALTER TABLE raw_transactions DROP COLUMN amount")
    found = store.read("raw_transactions", ["items", "transaction_id"])
    assert found.column_names == ["items", "transaction_id"]
    assert found.num_rows == 50
    with pytest.raises(Exception, match="amount"):
        store.read("raw_transactions")


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
    assert store.read("raw_transactions", ["customer_id"])["customer_id"].to_pylist() == NASTY


def test_numbers_of_every_kind_come_back_as_they_were(store):
    amounts = [0.0, -0.0, 0.1, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), None, 1 / 3]
    items = [0, -1, 2**63 - 1, -(2**63), 2**53 + 1, None, 1, 2, 3, 4]
    flags = [True, False, None, True, False, None, True, False, None, True]
    table = rows(APRIL, n=10)
    for position, values in ((3, amounts), (4, items), (5, flags)):
        field = store.table("raw_transactions").schema.field(position)
        table = table.set_column(position, field.name, pa.array(values, field.type))
    store.replace_months("raw_transactions", table, [APRIL])
    found = store.read("raw_transactions")
    assert [str(value) for value in found["amount"].to_pylist()] == [str(value) for value in amounts]
    assert found["items"].to_pylist() == items
    assert found["foreign_card"].to_pylist() == flags


def test_times_are_kept_to_the_microsecond_in_utc(store, database):
    moment = dt.datetime(2018, 4, 30, 23, 59, 59, 999999, tzinfo=dt.UTC)
    table = rows(APRIL, n=1).set_column(1, "event_timestamp", pa.array([moment], pa.timestamp("us", "Asia/Tokyo")))
    store.replace_months("raw_transactions", table, [APRIL])
    found = store.read("raw_transactions", ["event_timestamp"])["event_timestamp"]
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
    found = store.read("transaction_features")
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
    found = new.read("raw_transactions", ["transaction_id", "city"])
    assert found["city"].to_pylist() == [None] * 50 + ["Oslo"] * 50
    # Who has the older contract reads on, and may write.
    assert store.read("raw_transactions").num_rows == 100
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
    assert store.read("raw_transactions").to_pylist() == rows(APRIL).to_pylist()


# Failure and concurrency


def test_an_old_month_stays_when_writing_the_new_one_fails_half_way(store, database, monkeypatch):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    before = partition(database)
    whole = adbc_driver_manager.dbapi.Cursor.adbc_ingest

    def half(cursor, name, data, **options):
        whole(cursor, name, data.slice(0, data.num_rows // 2), **options)
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(adbc_driver_manager.dbapi.Cursor, "adbc_ingest", half)
        with pytest.raises(OSError, match="disk is full"):
            store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])
    assert partition(database) == before
    assert store.read("raw_transactions").to_pylist() == rows(APRIL).to_pylist()
    assert tables_in_months(database) == {"raw_transactions_2018_04"}
    assert store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])[0].changed


def test_months_before_the_one_that_fails_are_written_and_the_others_stay(store, monkeypatch):
    old = pa.concat_tables([rows(APRIL), rows(MAY)])
    store.replace_months("raw_transactions", old, [APRIL, MAY])
    whole = adbc_driver_manager.dbapi.Cursor.adbc_ingest

    def not_may(cursor, name, data, **options):
        if name.startswith("raw_transactions_2018_05"):
            raise OSError("the disk is full")
        return whole(cursor, name, data, **options)

    monkeypatch.setattr(adbc_driver_manager.dbapi.Cursor, "adbc_ingest", not_may)
    new = pa.concat_tables([rows(APRIL, seed=1), rows(MAY, seed=1)])
    with pytest.raises(OSError, match="disk is full"):
        store.replace_months("raw_transactions", new, [APRIL, MAY])
    assert store.read("raw_transactions").to_pylist() == pa.concat_tables([rows(APRIL, seed=1), rows(MAY)]).to_pylist()


def test_a_reader_never_sees_a_mixture_nor_nothing(store):
    contents = [rows(APRIL, n=400, seed=seed) for seed in (0, 1)]
    allowed = {digest(table) for table in contents}
    store.replace_months("raw_transactions", contents[0], [APRIL])
    seen, failures, done = [], [], threading.Event()

    def read():
        while not done.is_set():
            try:
                seen.append(digest(store.read("raw_transactions", first_month=APRIL, last_month=APRIL)))
            except Exception as error:  # noqa: BLE001 - any error of a reader fails the test below
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for turn in range(1, 21):
            assert store.replace_months("raw_transactions", contents[turn % 2], [APRIL])[0].changed
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert len(seen) >= 20
    assert set(seen) == allowed


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


WRITER = """
import sys, time
from contextlib import contextmanager
import adbc_driver_manager.dbapi as dbapi
from fraud_assets.adapters.database import Database
from fraud_assets.adapters.table_io import MonthStore
from fraud_assets_tests.adapters.test_table_io import APRIL, CONTRACT, rows

url, where = sys.argv[1:]

def stop_here(text):
    if where in text:
        print("here", flush=True)
        time.sleep(60)

execute, ingest = dbapi.Cursor.execute, dbapi.Cursor.adbc_ingest

def slow_execute(cursor, operation, *args, **options):
    result = execute(cursor, operation, *args, **options)
    stop_here(str(operation))
    return result

def slow_ingest(cursor, name, data, **options):
    ingest(cursor, name, data.slice(0, data.num_rows // 2), **options)
    stop_here("half the rows")

dbapi.Cursor.execute, dbapi.Cursor.adbc_ingest = slow_execute, slow_ingest
MonthStore(Database(url), CONTRACT).replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])
"""


@pytest.mark.parametrize(
    "where", ["half the rows", 'DROP TABLE "months"', "ATTACH PARTITION", "INSERT INTO month_versions"]
)
def test_a_writer_that_is_killed_leaves_the_old_month_whole_and_the_next_run_succeeds(store, database, where):
    store.replace_months("raw_transactions", rows(APRIL), [APRIL])
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(WRITER), database.url, where]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "here\n"
        writer.send_signal(signal.SIGKILL)
    assert store.read("raw_transactions").to_pylist() == rows(APRIL).to_pylist()
    assert tables_in_months(database) == {"raw_transactions_2018_04"}
    assert list(store.months("raw_transactions").values()) == [digest(rows(APRIL))]
    assert store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])[0].changed
    assert store.read("raw_transactions").to_pylist() == rows(APRIL, seed=1).to_pylist()


def test_text_identifiers_are_read_in_the_order_of_their_bytes_whatever_the_servers_language(database, monkeypatch):
    """The embedded server knows no language but C, so the order asked for is looked at as well."""
    store = MonthStore(database, parse_contract(CARDS.replace("{column: id, type: integer}", "{column: id}")))
    table = rows(APRIL, n=4).set_column(0, "transaction_id", pa.array(["a", "B", "_", "\u00e9"]))
    table = table.set_column(1, "event_timestamp", pa.array([month_start(APRIL)] * 4, pa.timestamp("us", "UTC")))
    store.replace_months("raw_transactions", table, [APRIL])
    asked, query = [], database.query
    monkeypatch.setattr(database, "query", lambda sql: asked.append(sql) or query(sql))
    assert store.read("raw_transactions")["transaction_id"].to_pylist() == ["B", "_", "a", "\u00e9"]
    assert asked[0].endswith('ORDER BY "event_timestamp", "transaction_id" COLLATE "C"')
