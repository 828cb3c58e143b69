"""Months are replaced whole or not at all: killed writers, readers meanwhile, and any order of writing."""

import itertools
import random
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.lineage.staleness import inputs_of
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.adapters.postgres.test_months import (
    APRIL,
    CONTRACT,
    JUNE,
    MAY,
    digest,
    indexes,
    rows,
    stream,
    tables_in_months,
)

# Reads lines "url seed n"; for each, a fork of it replaces April and dies by SIGKILL after its n-th step: an SQL
# statement, a block of COPY, or the commit. Forks, because importing everything anew takes seconds.
WRITER = """
import os, signal, sys
import psycopg
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets_tests.adapters.postgres.test_months import APRIL, CONTRACT, rows, stream

def die_after(last):
    done = 0
    def counted(method):
        def step(*args, **options):
            nonlocal done
            result = method(*args, **options)
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return step
    psycopg.Cursor.execute = counted(psycopg.Cursor.execute)
    psycopg.Copy.write = counted(psycopg.Copy.write)
    psycopg.Connection.commit = counted(psycopg.Connection.commit)
    return lambda: done

print("ready", flush=True)
for line in sys.stdin:
    url, seed, last = line.split()
    child = os.fork()
    if child == 0:
        steps = die_after(int(last))
        months = {APRIL: stream(rows(APRIL, n=300, seed=int(seed)), size=100)}
        MonthStore(Database(url), CONTRACT).replace_months("raw_transactions", months, [APRIL])
        print("wrote in", steps(), flush=True)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print("ended with", status, flush=True)
"""
# How many steps a writer has that replaces an indexed month. A test below fails when there are more. The first
# read who was erased and which months lost their rows.
STEPS = 32


@pytest.fixture
def store(database):
    return MonthStore(database, CONTRACT)


@pytest.fixture(scope="module")
def writer():
    """Writes April with rows of a seed, and dies after a step; returns its exit code and its number of steps."""
    command = [sys.executable, "-W", "ignore", "-c", WRITER]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"

        def write(database, seed, last=0):
            process.stdin.write(f"{database.url} {seed} {last}\n")
            process.stdin.flush()
            said = process.stdout.readline()
            steps = None
            if said.startswith("wrote in"):
                steps, said = int(said.split()[-1]), process.stdout.readline()
            return int(said.split()[-1]), steps

        yield write
        process.stdin.close()


def april(store):
    """The digest of April as a reader finds it, which must be that of the version on record."""
    found = store.read("raw_transactions", first_month=APRIL, last_month=APRIL)
    assert inputs_of(found) == {"raw_transactions": {APRIL: digest(found)}}
    return digest(found)


def april_rows(seed):
    return rows(APRIL, n=300, seed=seed)


OLD, NEW = digest(april_rows(0)), digest(april_rows(1))


@pytest.mark.parametrize("last", range(1, STEPS + 1))
def test_a_writer_killed_after_any_step_leaves_the_old_month_or_the_new_one_and_the_next_run_succeeds(
    store, database, writer, last
):
    store.replace_months("raw_transactions", april_rows(0), [APRIL])
    store.index_months("raw_transactions", [APRIL])
    assert writer(database, seed=1, last=last) == (-signal.SIGKILL, None)
    # The last but one is the commit; the last closes the connection.
    assert april(store) == (NEW if last >= STEPS - 1 else OLD)
    (result,) = store.replace_months("raw_transactions", april_rows(1), [APRIL])
    assert result.changed is (last < STEPS - 1)
    assert april(store) == NEW
    assert tables_in_months(database) == {"raw_transactions_2018_04"}
    assert len(indexes(database)) == 1


def test_the_steps_after_which_writers_are_killed_are_all_there_are(store, database, writer):
    store.replace_months("raw_transactions", april_rows(0), [APRIL])
    store.index_months("raw_transactions", [APRIL])
    assert writer(database, seed=1) == (0, STEPS)
    assert april(store) == NEW


def test_a_first_month_whose_writer_is_killed_after_any_step_is_there_whole_or_not_at_all(store, database, writer):
    for last in itertools.count(1):
        assert writer(database, seed=1, last=last) == (-signal.SIGKILL, None)
        if store.months("raw_transactions"):
            break
        found = store.read("raw_transactions", first_month=APRIL, last_month=APRIL)
        assert found.num_rows == 0
        assert inputs_of(found) == {"raw_transactions": {APRIL: None}}
        assert tables_in_months(database) == set()
    assert april(store) == NEW
    assert last >= 8


LOOP = """
import sys
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets_tests.adapters.postgres.test_atomic_months import april_rows
from fraud_assets_tests.adapters.postgres.test_months import APRIL, CONTRACT

store = MonthStore(Database(sys.argv[1]), CONTRACT)
for turn in range(10_000):
    store.replace_months("raw_transactions", april_rows(turn % 2), [APRIL])
    print(turn, flush=True)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_a_writer_killed_at_any_moment_in_the_middle_of_a_statement_too_leaves_one_of_its_versions(
    store, database, attempt
):
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", LOOP, database.url], cwd=PROJECT_ROOT, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        time.sleep(random.Random(attempt).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
    assert april(store) in (OLD, NEW)
    store.replace_months("raw_transactions", april_rows(2), [APRIL])
    assert april(store) == digest(april_rows(2))
    assert tables_in_months(database) == {"raw_transactions_2018_04"}


def test_a_reader_meanwhile_never_sees_a_mixture_nor_nothing(store):
    """Each read is wholly one version, and names that version and no other."""
    versions = [{month: rows(month, n=400, seed=seed) for month in (APRIL, MAY)} for seed in (0, 1)]
    allowed = {month: {digest(version[month]) for version in versions} for month in (APRIL, MAY)}
    store.replace_months("raw_transactions", versions[0], [APRIL, MAY])
    seen, failures, done = [], [], threading.Event()

    def read():
        while not done.is_set():
            try:
                found = store.read("raw_transactions", first_month=APRIL, last_month=MAY)
                april_digest, may_digest = digest(found.slice(0, 400)), digest(found.slice(400))
                assert inputs_of(found) == {"raw_transactions": {APRIL: april_digest, MAY: may_digest}}
                seen.append((april_digest, may_digest))
            except BaseException as error:  # noqa: BLE001 - any error of a reader fails the test below
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    turn = 0
    try:
        while (len(seen) < 200 or turn < 20) and not failures:
            turn += 1
            month = (APRIL, MAY)[turn // 2 % 2]
            store.replace_months("raw_transactions", {month: versions[turn % 2][month]}, [month])
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert {one for one, _ in seen} == allowed[APRIL]
    assert {other for _, other in seen} == allowed[MAY]


def identity(database):
    """What would be another if a row or a table had been written: the files, and the writers of the rows."""
    files = database.query(
        "SELECT relname::text AS r, relfilenode::bigint AS f FROM pg_class WHERE relnamespace = "
        "'months'::regnamespace ORDER BY 1"
    )
    writers = database.query("SELECT xmin::text AS x, count(*) AS n FROM raw_transactions GROUP BY 1 ORDER BY 1")
    return files.to_pylist(), writers.to_pylist()


@pytest.mark.parametrize("form", [lambda table: table, stream])
def test_writing_twice_changes_no_row(store, database, form):
    months = {month: rows(month) for month in (APRIL, MAY)}
    store.replace_months("raw_transactions", {month: form(own) for month, own in months.items()}, list(months))
    before = identity(database), store.versions("raw_transactions").to_pylist()
    again = store.replace_months("raw_transactions", {month: form(own) for month, own in months.items()}, list(months))
    assert [write.changed for write in again] == [False, False]
    assert (identity(database), store.versions("raw_transactions").to_pylist()) == before


@pytest.mark.parametrize("order", list(itertools.permutations([APRIL, MAY, JUNE])))
def test_months_in_any_order_singly_or_as_a_range_give_the_same_tables(store, order):
    expected = {month: digest(rows(month)) for month in (APRIL, MAY, JUNE)}
    for month in order:
        store.replace_months("raw_transactions", rows(month), [month])
    assert store.months("raw_transactions") == expected
    singly = store.read("raw_transactions", first_month=APRIL, last_month=JUNE)
    with store.database.session() as connection:
        connection.execute("DROP TABLE raw_transactions; TRUNCATE month_versions")
    together = pa.concat_tables([rows(month) for month in order])
    writes = store.replace_months("raw_transactions", together, list(order))
    assert [write.digest for write in writes] == [expected[month] for month in order]
    assert store.months("raw_transactions") == expected
    assert digest(store.read("raw_transactions", first_month=APRIL, last_month=JUNE)) == digest(singly)
