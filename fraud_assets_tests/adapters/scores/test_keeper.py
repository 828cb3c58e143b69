"""Scores on a real Postgres: each once, through outages, kills, full spools and full disks, and nobody waits."""

import json
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.scores import keeper as module
from fraud_assets.adapters.scores.keeper import Keeper
from fraud_assets.adapters.scores.sink import CHANNEL, Sink, SinkError
from fraud_assets.adapters.scores.spool import Spool, SpoolFullError
from fraud_assets.adapters.scores.state import KeptState, StateFile, read_states
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.models.kept_scores import Scored

CONTRACT = parse_contract("""
name: tests
first_month: 2025-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
entities: {customer_id: {column: customer, type: integer}}
amount: {column: amount, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 14
""")
AT = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


def scored(*ids, version=3, probability=0.25, at=AT):
    n = len(ids)
    rows = [{"transaction_id": key, "event_timestamp": at, "customer_id": 1, "amount": 2.5} for key in ids]
    held = np.zeros(n, dtype=bool)
    return Scored(
        CONTRACT, version, 0.5, ("x",), None, pa.Table.from_pylist(rows, schema=CONTRACT.transactions_schema()),
        pa.table({"x": np.arange(n) / 3}), np.full(n, probability), held, held, np.zeros(n), AT,
    )  # fmt: skip


@pytest.fixture
def url(database):
    return database.url


def stored(url, what="transaction_id"):
    with psycopg.connect(url) as connection:
        rows = connection.execute(f"SELECT {what} FROM scored_transactions ORDER BY number").fetchall()
        return [row[0] for row in rows]


def months(url):
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT month, n_rows FROM scored_months ORDER BY month").fetchall())


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it has not come to pass"
        time.sleep(0.02)


@pytest.fixture
def keeping(url, tmp_path, monkeypatch):
    """Makes keepers that are closed at the end."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.1)
    made = []

    def make(address=url, limit=2**20, folder=tmp_path / "scores"):
        made.append(Keeper(Spool(folder, limit), Sink(address)))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


# Into the database


def test_a_row_says_what_was_answered(url):
    sink = Sink(url)
    lines = list(scored(7, 8).lines())
    found = sink.insert(lines)
    assert (found.n_new, found.n_known, found.refused) == (2, 0, ())
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        rows = connection.execute("SELECT * FROM scored_transactions ORDER BY number").fetchall()
    assert rows[1] == {
        "number": rows[0]["number"] + 1, "transaction_id": "8", "model_version": 3, "event_timestamp": AT,
        "scored_at": AT, "transaction": {"customer_id": 1, "amount": 2.5}, "raw_score": None, "probability": 0.25,
        "threshold": 0.5, "decision": "approve", "pass_through_probability": 0.0, "passed_through": False,
        "features": {"x": 1 / 3}, "answered": None, "decided_by": None, "role": "champion", "more_features": None,
    }  # fmt: skip
    sink.close()


def test_a_transaction_has_one_row_of_each_version_and_the_first_stays(url):
    sink = Sink(url)
    sink.insert(list(scored(1, 2, probability=0.1).lines()))
    again = sink.insert(list(scored(2, 3, 3, probability=0.4).lines()))
    assert (again.n_new, again.n_known) == (1, 2)
    other = sink.insert(list(scored(2, version=4).lines()))
    assert (other.n_new, other.n_known) == (1, 0)
    assert stored(url, "probability") == [0.1, 0.1, 0.4, 0.25]
    assert months(url) == {"2025-03": 4}
    sink.close()


def test_each_month_s_rows_are_counted_in_the_contract_s_zone(url):
    sink = Sink(url)
    sink.insert(list(scored(1, 2).lines()))
    sink.insert(list(scored(2, 3).lines()) + list(scored(9, at=datetime(2025, 4, 1, tzinfo=UTC)).lines()))
    assert months(url) == {"2025-03": 3, "2025-04": 1}
    sink.close()


def test_listeners_are_told_which_rows_are_new(url):
    sink = Sink(url)
    with psycopg.connect(url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        sink.insert(list(scored(1, 2, 3).lines()))
        sink.insert(list(scored(1, 2, 3).lines()))
        (told,) = listener.notifies(timeout=1)
        first, last = map(int, told.payload.split())
        rows = listener.execute(
            "SELECT transaction_id FROM scored_transactions WHERE number BETWEEN %s AND %s ORDER BY number",
            [first, last],
        ).fetchall()
    assert rows == [("1",), ("2",), ("3",)]
    sink.close()


def test_a_row_that_the_database_refuses_keeps_no_other_from_it(url):
    good = list(scored(*range(1, 11)).lines())
    bad = good[3].replace(b'"probability":0.25', b'"probability":"high"')
    sink = Sink(url)
    found = sink.insert([*good[:3], bad, *good[4:], b"no json"])
    sink.close()
    assert found.n_new == 9
    assert [line for line, _ in found.refused] == [bad, b"no json"]
    # Not what PostgreSQL says in words, which tells the value.
    assert [state for _, state in found.refused] == ["22P02", "22P02"]


def test_a_database_without_the_table_is_told_how_to_get_it(url):
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE scored_transactions RENAME TO elsewhere")
    try:
        with pytest.raises(SinkError, match="fraud db upgrade"):
            Sink(url).insert(list(scored(1).lines()))
    finally:
        with psycopg.connect(url) as connection:
            connection.execute("ALTER TABLE elsewhere RENAME TO scored_transactions")


def test_no_error_tells_the_password():
    with pytest.raises(SinkError) as error:
        Sink("postgresql://scorer:hunter2@127.0.0.1:1/x").insert(list(scored(1).lines()))
    assert "hunter2" not in str(error.value)


# Without making anybody wait


@pytest.fixture
def inserting(monkeypatch):
    """The threads that wrote into the database."""
    threads, insert = set(), Sink.insert

    def noted(sink, lines):
        threads.add(threading.current_thread())
        return insert(sink, lines)

    monkeypatch.setattr(Sink, "insert", noted)
    return threads


def test_what_is_kept_reaches_the_database_from_another_thread(keeping, url, inserting):
    keeper = keeping()
    for number in range(300):
        keeper.keep(scored(number))
    wait_for(lambda: len(stored(url)) == 300)
    assert inserting
    assert threading.current_thread() not in inserting
    wait_for(lambda: keeper.state == KeptState(stored=300))
    assert [path.stat().st_size for path in keeper._spool.folder.glob("*.spool")] == [0]


def test_through_an_outage_nothing_is_lost_and_nobody_waits(keeping, url, database, caplog, inserting):
    keeper = keeping()
    keeper.keep(scored(0))
    wait_for(lambda: stored(url))
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            with caplog.at_level(logging.ERROR):
                inserting.clear()
                for number in range(1, 101):
                    keeper.keep(scored(number))
                    time.sleep(0.005)
                wait_for(lambda: keeper.state.error)
            assert inserting
            assert threading.current_thread() not in inserting
            assert keeper.state.waiting == 100
            assert keeper._spool.size > 0
            assert read_states(keeper._spool.folder)[0].error
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert "scores wait in" in caplog.text
    wait_for(lambda: keeper.state == KeptState(stored=101))
    assert sorted(map(int, stored(url))) == list(range(101))
    database.close()


def test_a_database_that_stands_still_keeps_nobody_from_being_written(keeping, url):
    keeper = keeping()
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE scored_transactions")
        for number in range(50):
            keeper.keep(scored(number))
        wait_for(lambda: keeper._spool.size > 10_000)
        assert keeper.state.waiting == 50
    wait_for(lambda: keeper.state == KeptState(stored=50))


def test_a_full_spool_loses_the_newest_says_so_and_takes_more_when_there_is_room(keeping, url, caplog):
    keeper = keeping(limit=2000)
    line = len(next(iter(scored(10).lines()))) + 10
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE scored_transactions")
        for number in range(10, 20):
            keeper.keep(scored(number))
            wait_for(lambda: not keeper._n_waiting)
        room = 2000 // line
        state = keeper.state
        assert (state.waiting, state.lost) == (room, {"spool_full": 10 - room})
        assert state.last_lost_at is not None
    assert "scores are lost" in caplog.text
    wait_for(lambda: keeper.state.stored == room)
    keeper.keep(scored(99))
    wait_for(lambda: keeper.state.stored == room + 1)
    assert stored(url) == [*(str(number) for number in range(10, 10 + room)), "99"]
    told, alive = read_states(keeper._spool.folder)
    assert (told.n_lost, alive) == (10 - room, 1)


def test_a_full_disk_loses_nothing_while_the_database_is_there(keeping, url, monkeypatch, caplog):
    keeper = keeping()

    def no_room(lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper._spool, "append", no_room)
    for number in range(20):
        keeper.keep(scored(number))
    wait_for(lambda: keeper.state == KeptState(stored=20))
    assert "the spool cannot be written: No space left on device" in caplog.text


def test_a_full_disk_and_no_database_lose_what_memory_has_no_room_for(keeping, url, monkeypatch):
    monkeypatch.setattr(module, "MOST_UNWRITTEN", 7)
    keeper = keeping()

    def no_room(lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper._spool, "append", no_room)
    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE scored_transactions")
        keeper.keep(scored(*range(10)))
        wait_for(lambda: (keeper.state.lost, keeper.state.waiting) == ({"disk": 3}, 7))
    wait_for(lambda: keeper.state.stored == 7)


def test_what_only_memory_has_is_on_disk_when_the_service_ends_and_the_disk_has_room_again(url, tmp_path, monkeypatch):
    keeper = Keeper(Spool(tmp_path, 2**20), Sink("postgresql://127.0.0.1:1/nothing"))
    append = keeper._spool.append

    def no_room(lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper._spool, "append", no_room)
    keeper.start()
    keeper.keep(scored(1, 2, 3))
    wait_for(lambda: len(keeper._unwritten) == 3)
    monkeypatch.setattr(keeper._spool, "append", append)
    keeper.close()
    other = Keeper(Spool(tmp_path, 2**20), Sink(url))
    other.start()
    wait_for(lambda: len(stored(url)) == 3)
    other.close()


def test_an_error_that_nobody_thought_of_does_not_end_the_sending(keeping, url, monkeypatch):
    keeper = keeping()
    insert, n = keeper._sink.insert, 0

    def broken_once(lines):
        nonlocal n
        n += 1
        if n == 1:
            raise RuntimeError("unexpected")
        return insert(lines)

    monkeypatch.setattr(keeper._sink, "insert", broken_once)
    keeper.keep(scored(1))
    wait_for(lambda: stored(url) == ["1"])


def test_who_watches_is_told_of_this_process_alone(url, tmp_path):
    """A counter that begins with what was counted before it would look like a burst."""
    dead = StateFile(tmp_path)
    dead.write(KeptState(stored=100).losing("disk", 7, AT))
    dead.close()
    seen = []
    keeper = Keeper(Spool(tmp_path, 2**20), Sink(url), lambda state, size: seen.append(state))
    keeper.start()
    keeper.keep(scored(1))
    wait_for(lambda: keeper.state.stored == 101)
    keeper.close()
    assert (seen[-1].stored, seen[-1].n_lost) == (1, 0)
    assert read_states(tmp_path)[0].n_lost == 7


def test_more_than_can_be_written_is_lost_and_told(keeping, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 5)
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.5)
    keeper = keeping()
    keeper.keep(scored(*range(5)))
    keeper.keep(scored(9))
    assert keeper.state.lost == {"queue_full": 1}
    wait_for(lambda: keeper.state.stored == 5)


def test_an_answer_that_cannot_be_written_keeps_no_other_from_it(keeping, url):
    keeper = keeping()
    broken = scored(1)
    object.__setattr__(broken, "held", None)
    keeper.keep(broken)
    keeper.keep(scored(2))
    wait_for(lambda: stored(url) == ["2"])
    assert keeper.state.lost == {"error": 1}


def test_what_the_database_refuses_is_kept_in_a_file(keeping, url):
    keeper = keeping()
    keeper._spool.append([b'{"transaction_id": null}'])
    keeper.keep(scored(1))
    wait_for(lambda: keeper.state.refused == 1 and stored(url) == ["1"])
    assert (keeper._spool.folder / "refused.jsonl").read_text() == '{"transaction_id": null}\n'


# Ends of a process


def test_a_closed_keeper_has_sent_everything(url, tmp_path):
    keeper = Keeper(Spool(tmp_path, 2**20), Sink(url))
    keeper.start()
    keeper.keep(scored(*range(100)))
    keeper.close()
    assert len(stored(url)) == 100
    assert list(tmp_path.glob("*.spool")) == []


KILLED = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from fraud_assets.adapters.scores.keeper import Keeper
    from fraud_assets.adapters.scores.sink import Sink
    from fraud_assets.adapters.scores.spool import Spool
    from fraud_assets_tests.adapters.scores.test_keeper import scored
    keeper = Keeper(Spool(Path(sys.argv[1]), 20_000), Sink(sys.argv[2]))
    keeper.start()
    for number in range(200):
        keeper.keep(scored(number))
        time.sleep(0.001)
    while keeper._n_waiting:
        time.sleep(0.01)
    time.sleep(0.3)
    print(keeper.state.lost["spool_full"], flush=True)
    time.sleep(60)
""")


def test_a_process_that_is_killed_with_a_full_spool_loses_nothing_of_it(keeping, url, tmp_path):
    """Its database cannot be reached; the next process has it, and sends what it finds."""
    folder = tmp_path / "scores"
    nowhere = "postgresql://127.0.0.1:1/nothing"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), nowhere], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lost = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 0 < lost < 200
    # As if it had died in the middle of a line.
    (path,) = folder.glob("*.spool")
    with path.open("ab") as file:
        file.write(b'0badc0de {"transaction_id":"half')
    keeper = keeping(folder=folder)
    wait_for(lambda: keeper.state.stored == 200 - lost)
    found = set(map(int, stored(url)))
    # What came together was lost together; the first ones fit for certain.
    assert (len(found), found >= set(range(20))) == (200 - lost, True)
    assert (keeper.state.damaged, keeper.state.lost) == (1, {"spool_full": lost})
    assert list(folder.glob("*.state")) == [keeper._file._path]


def test_two_processes_with_the_same_transactions_keep_each_once(keeping, url, tmp_path):
    keepers = [keeping(), keeping()]
    threads = [
        threading.Thread(
            target=lambda one=one, order=order: [
                one.keep(scored(*range(n, n + 20)[::order])) for n in range(0, 400, 20)
            ]
        )
        for one, order in zip(keepers, (1, -1), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_for(lambda: sum(one.state.stored + one.state.known for one in keepers) == 800)
    assert sorted(map(int, stored(url))) == list(range(400))
    assert months(url) == {"2025-03": 400}


# What is said of it


def test_the_states_of_processes_add_up_and_those_of_dead_ones_are_no_longer_waiting(tmp_path):
    one, other = StateFile(tmp_path), StateFile(tmp_path)
    one.write(KeptState(stored=5, waiting=3, error="down").losing("disk", 2, AT))
    other.write(KeptState(stored=1, waiting=1))
    assert read_states(tmp_path) == (KeptState(6, 0, 0, 0, {"disk": 2}, AT, 4, "down"), 2)
    one.close()
    assert read_states(tmp_path) == (KeptState(6, 0, 0, 0, {"disk": 2}, AT, 1, ""), 1)
    assert other.take_over() == KeptState(stored=5).losing("disk", 2, AT)
    assert read_states(tmp_path) == (KeptState(stored=1, waiting=1), 1)
    other.close()


def test_a_state_of_any_length_fits_and_one_that_is_none_is_left_out(tmp_path):
    file = StateFile(tmp_path)
    file.write(KeptState(error="x" * 10_000))
    (tmp_path / "bad.state").write_text(json.dumps([1]))
    state, alive = read_states(tmp_path)
    assert (len(state.error), alive) == (500, 1)
    assert file._path.stat().st_size == 2048
    file.close()


def test_a_spool_that_is_full_is_an_error_of_its_own(tmp_path):
    with pytest.raises(SpoolFullError):
        Spool(tmp_path, 0).append([b"x"])
