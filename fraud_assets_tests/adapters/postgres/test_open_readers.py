"""Somebody has a table open while a month of it is swapped, and everybody else goes on reading; a real PostgreSQL."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial

import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.online import history as history_module
from fraud_assets.adapters.online.history import History, HistoryError
from fraud_assets.adapters.postgres import turns
from fraud_assets.adapters.postgres.errors import DatabaseError
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets_tests.adapters.postgres.test_months import APRIL, CARDS, CONTRACT, MAY, digest, rows


@pytest.fixture
def store(database):
    store = MonthStore(database, CONTRACT)
    store.replace_months("raw_transactions", rows(APRIL, seed=0), [APRIL])
    # What the service looks statements up in.
    labels = store.table("fraud_labels").schema.empty_table()
    store.replace_months("fraud_labels", labels, [APRIL])
    return store


@contextmanager
def open_transaction(database):
    """A transaction that has read raw_transactions and does not end before the block, as a forgotten console has."""
    with psycopg.connect(database.url, application_name="forgotten console") as connection:
        connection.execute("SELECT count(*) FROM raw_transactions").fetchone()
        yield connection
        connection.rollback()


@contextmanager
def in_a_thread(work):
    """Work in a thread of its own; what came of it is in the list that is given."""
    came = []

    def do():
        try:
            came.append(work())
        except DatabaseError as error:
            came.append(error)

    writer = threading.Thread(target=do)
    writer.start()
    try:
        yield came
    finally:
        writer.join(30)
        assert not writer.is_alive()


def swapping(store, table):
    return in_a_thread(partial(store.replace_months, "raw_transactions", table, [APRIL]))


def waits_for_the_lock(database):
    asked = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted"
    with psycopg.connect(database.url) as connection:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if connection.execute(asked).fetchone() != (0,):
                return True
            connection.rollback()
    return False


def test_an_open_reader_holds_up_the_swap_and_nobody_else(store, database, monkeypatch):
    # Far below the time that the console stays open: a service that waits behind the swap fails here.
    monkeypatch.setattr(history_module, "STATEMENT_SECONDS", 1)
    batch = CONTRACT.transactions_schema().names
    one = store.read("raw_transactions", batch, first_month=APRIL, last_month=APRIL).slice(20, 1)
    service = History(database.url, CONTRACT)
    before, answers = store.read("raw_transactions", first_month=APRIL, last_month=APRIL), 0
    new = rows(APRIL, seed=1)
    with open_transaction(database) as console, swapping(store, new) as came:
        assert waits_for_the_lock(database)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            service.check()
            service.before(one)
            assert digest(store.read("raw_transactions", first_month=APRIL, last_month=APRIL)) == digest(before)
            answers += 1
        assert came == []
        console.rollback()
    assert answers > 5
    assert [write.changed for write in came[0]] == [True]
    assert digest(store.read("raw_transactions", first_month=APRIL, last_month=APRIL)) == digest(new)
    service.close()


def test_a_swap_that_never_gets_its_turn_names_who_is_in_the_way_and_leaves_the_month(store, database, monkeypatch):
    monkeypatch.setattr(turns, "GIVE_UP_SECONDS", 0.5)
    with open_transaction(database) as console, swapping(store, rows(APRIL, seed=1)) as came:
        pid = console.info.backend_pid
    with pytest.raises(DatabaseError, match=rf"raw_transactions could not .* process {pid} of .*forgotten console"):
        raise came[0]
    found = store.read("raw_transactions", first_month=APRIL, last_month=APRIL)
    assert digest(found) == digest(rows(APRIL, seed=0))
    store.replace_months("raw_transactions", rows(APRIL, seed=1), [APRIL])


def test_a_new_column_waits_for_an_open_reader_without_holding_up_others(store, database):
    wider = parse_contract(CARDS.replace("attributes:", "attributes:\n  city: {column: city}"))
    may = rows(MAY).add_column(4, "city", pa.array(["Oslo"] * 50))
    with open_transaction(database) as console:
        work = partial(MonthStore(database, wider).replace_months, "raw_transactions", may, [MAY])
        with in_a_thread(work) as came:
            assert waits_for_the_lock(database)
            for _ in range(20):
                with psycopg.connect(database.url, options="-c statement_timeout=1000") as reader:
                    assert reader.execute("SELECT count(*) FROM raw_transactions").fetchone() == (50,)
            assert came == []
            console.rollback()
    assert [write.changed for write in came[0]] == [True]


def test_a_database_that_hangs_is_given_up_in_time_and_asked_again_over_a_new_connection(store, database, monkeypatch):
    monkeypatch.setattr(history_module, "STATEMENT_SECONDS", 1)
    monkeypatch.setattr(history_module, "ANSWER_SECONDS", 0.2)
    service = History(database.url, CONTRACT, name="hung service")
    service.check()
    asked = "SELECT pid FROM pg_stat_activity WHERE application_name = 'hung service'"
    (pid,) = database.query(asked)["pid"].to_pylist()
    # The process that serves this connection stands still: no time limit of the server's own ends it.
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(HistoryError, match="did not answer in time"):
            service.check()
        service.check()
    finally:
        os.kill(pid, signal.SIGCONT)
    service.close()
