"""One writer for a month: who may not write it any more writes nothing."""

from __future__ import annotations

import datetime as dt

import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.leases import TURN, LeaseError, check_lease, take_months
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.postgres.run_processes import holding
from fraud_assets.core.contracts.contract import Contract
from fraud_assets_tests.sentences import because

MONTH = "2025-03"


@pytest.fixture
def dagster(database: Database) -> Database:
    """The tables of Dagster's that are looked at."""
    with database.session() as connection:
        connection.execute(
            "CREATE TABLE dagster.runs (id bigserial, run_id text, status text, start_time double precision)"
        )
        connection.execute("CREATE TABLE dagster.run_tags (run_id text, key text, value text)")
    return database


def report(database: Database, run_id: str, status: str) -> None:
    with database.session() as connection:
        connection.execute("DELETE FROM dagster.runs WHERE run_id = %s", [run_id])
        connection.execute("INSERT INTO dagster.runs (run_id, status, start_time) VALUES (%s, %s, 1)", [run_id, status])


def may_write(database: Database, run_id: str, month: str = MONTH) -> bool:
    with database.session() as connection:
        try:
            check_lease(connection, run_id, month)
        except LeaseError:
            return False
    return True


def test_a_run_that_has_its_month_may_write_it(dagster: Database) -> None:
    report(dagster, "one", "STARTED")
    take_months(dagster, "one", [MONTH, "2025-04"])
    take_months(dagster, "one", [MONTH])
    assert may_write(dagster, "one")


def test_two_runs_with_processes_do_not_have_one_month_at_once(dagster: Database) -> None:
    report(dagster, "one", "STARTED")
    take_months(dagster, "one", [MONTH])
    with holding(dagster, "one"):
        with pytest.raises(LeaseError, match="run one is working on 2025-03, and two runs do not write one month"):
            take_months(dagster, "two", [MONTH, "2025-04"])
        take_months(dagster, "two", ["2025-05"])
    take_months(dagster, "two", [MONTH])
    assert may_write(dagster, "two")


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE", "CANCELED"])
def test_a_run_that_is_over_gives_way_although_its_process_lives(dagster: Database, status: str) -> None:
    report(dagster, "one", "STARTED")
    take_months(dagster, "one", [MONTH])
    with holding(dagster, "one"):
        report(dagster, "one", status)
        take_months(dagster, "two", [MONTH])
    assert not may_write(dagster, "one")
    assert may_write(dagster, "two")


@pytest.mark.parametrize("status", ["FAILURE", "CANCELED"])
def test_a_run_that_was_declared_failed_writes_nothing_although_nobody_took_its_month(
    dagster: Database, status: str
) -> None:
    report(dagster, "one", "STARTED")
    take_months(dagster, "one", [MONTH])
    report(dagster, "one", status)
    assert not may_write(dagster, "one")


def test_a_run_that_lost_its_month_cannot_write_rows_or_events_when_it_wakes_up(
    dagster: Database, simulator_contract: Contract
) -> None:
    store, ledger = MonthStore(dagster, simulator_contract), LedgerStore(dagster)
    report(dagster, "one", "STARTED")
    take_months(dagster, "one", [MONTH])
    store.replace_months("trained_model", rows(store, "first"), [MONTH], run_id="one")
    ledger.record("registered", 1, MONTH, because("trained"), actor="dagster run one")
    # Frozen, and nobody knows: its process is gone for the database. Another one takes the month, and ends.
    take_months(dagster, "two", [MONTH])
    store.replace_months("trained_model", rows(store, "second"), [MONTH], run_id="two")
    report(dagster, "two", "SUCCESS")
    said = "run two has taken 2025-03 from run one"
    with pytest.raises(LeaseError, match=said):
        store.replace_months("trained_model", rows(store, "third"), [MONTH], run_id="one")
    with pytest.raises(LeaseError, match=said):
        ledger.record("promoted", 1, MONTH, because("better"), actor="dagster run one")
    assert store.read("trained_model")["reason"].to_pylist() == ["second"]
    assert [event.kind for event in ledger.events()] == ["registered"]


def test_who_took_no_lease_is_not_held_up(dagster: Database, simulator_contract: Contract) -> None:
    take_months(dagster, "one", [MONTH])
    assert may_write(dagster, "another")
    store = MonthStore(dagster, simulator_contract)
    store.replace_months("trained_model", rows(store, "by hand"), [MONTH])
    assert LedgerStore(dagster).record("promoted", 1, MONTH, because("better"), actor="ada")


def test_a_month_is_not_taken_while_its_rows_are_swapped_in(dagster: Database) -> None:
    take_months(dagster, "one", [MONTH])
    with dagster.session() as connection:
        check_lease(connection, "one", MONTH)
        refused = pytest.raises(psycopg.errors.LockNotAvailable)
        with psycopg.connect(dagster.url, options="-c lock_timeout=200") as other, refused:
            other.execute(TURN.encode(), [MONTH])


def rows(store: MonthStore, reason: str) -> pa.Table:
    schema = store.table("trained_model").schema
    times = {"month": dt.date(2025, 3, 1), "as_of": dt.datetime(2025, 4, 1, tzinfo=dt.UTC)}
    row = {"status": "insufficient_data", "reason": reason, "inputs_digest": "d"}
    return pa.Table.from_pylist([times | row], schema=schema)
