"""Runs that end in their midst: by Ctrl-C, by SIGKILL, with their database.

Real processes and real signals on a small world whose first month is complete.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from fraud_assets.adapters.dagster_launcher import FraudRunLauncher
from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.core.decisions.monthly import Exit
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.runs.interruption import listening
from fraud_assets_tests.browser import wait

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]
pytestmark = pytest.mark.usefixtures("signals_are_heard")

FIRST, SECOND, THIRD = "2025-01", "2025-02", "2025-03"
RUNS = """
SELECT status, month.value, process.value FROM dagster.runs
JOIN dagster.run_tags AS month ON month.run_id = runs.run_id AND month.key = 'dagster/partition'
LEFT JOIN dagster.run_tags AS process ON process.run_id = runs.run_id AND process.key = 'fraud/process'
ORDER BY runs.id
"""


@pytest.fixture(scope="module")
def small() -> Iterator[World]:
    """A world with its first month."""
    from fraud_assets_tests.worlds import PLAIN, World, quick_home, remove_home

    world = World(quick_home(), PLAIN | {"FRAUD_SIMULATOR_CUSTOMERS": "60", "FRAUD_SIMULATOR_TERMINALS": "120"})
    try:
        world.fraud("run", "--from", FIRST, "--to", FIRST)
        yield world
    finally:
        remove_home(world.home)


def months(world: World) -> list[tuple[str, str]]:
    """Status and month of each run, in order."""
    return [(status, month) for status, month, _ in world.query(RUNS)]


@contextmanager
def in_the_midst(world: World, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`fraud run` of the second and third month, while it is at the second."""
    before = len(months(world))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "fraud_assets.cli", "run", "--from", SECOND, "--to", THIRD], cwd=PROJECT_ROOT,
            env=world.environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait(
            lambda: [status for status, _, tag in world.query(RUNS)[before:] if status == "STARTED" and tag],
            f"the run\n{log.read_text()}",
        )
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_fraud_run_stops_and_begins_no_other_month(small: World, tmp_path: Path, number: signal.Signals) -> None:
    before = months(small)
    first = small.query(f"SELECT * FROM month_versions WHERE month = '{FIRST}' ORDER BY id")
    with in_the_midst(small, log := tmp_path / "log") as process:
        process.send_signal(number)
        assert process.wait(60) == 130, log.read_text()
    said = " ".join(log.read_text().split())
    assert f"stopped: fraud run was asked to end in the midst of {SECOND}" in said
    assert "Traceback" not in said
    assert months(small)[len(before) :] == [("FAILURE", SECOND)]
    assert small.query(f"SELECT * FROM month_versions WHERE month = '{FIRST}' ORDER BY id") == first
    assert json.loads(small.fraud("status", "--json").stdout)["dead_runs"] == []


# What a run holds while it writes; its own lock, by which others know that it lives, is a shared one.
HOLDS = """
SELECT FROM pg_locks JOIN pg_stat_activity AS session USING (pid)
WHERE pg_locks.locktype = 'advisory' AND pg_locks.mode = 'ExclusiveLock'
    AND session.application_name LIKE 'fraud-assets {pid} %'
"""


def test_a_scheduler_that_calls_while_a_run_is_at_the_month_is_told_to_come_again(small: World, tmp_path: Path) -> None:
    with in_the_midst(small, tmp_path / "log") as process:

        def stands_still() -> bool:
            # Not in the midst of writing, which others wait for.
            process.send_signal(signal.SIGSTOP)
            if not small.query(HOLDS.format(pid=process.pid)):
                return True
            process.send_signal(signal.SIGCONT)
            return False

        wait(stands_still, "a moment at which it writes nothing")
        before = small.digests()
        done = small.fraud("monthly", "--month", SECOND, "--json", fails=True)
        assert done.returncode == Exit.BUSY, done.stdout
        said = json.loads(done.stdout)
        assert said["exit_code"] == Exit.BUSY
        [month] = said["months"]
        assert {one["kind"] for one in month["failed"]} == {"LeaseError"}
        [run] = {run for run, status in small.query("SELECT run_id, status FROM dagster.runs") if status == "STARTED"}
        assert f"run {run[:8]} is working on {SECOND}" in str(month["failed"])
        # It wrote nothing, and took nothing from the run that stands still.
        assert small.digests() == before
    # That run is gone now.
    assert small.fraud("monthly", "--month", SECOND).returncode == Exit.DONE


BUSY = """
import hashlib, sys
from fraud_assets.workflows.runs.interruption import listening
with listening(lambda number: print(number.name, flush=True), grace=1):
    print("busy", flush=True)
    # Hears no signal before it is done, which takes minutes.
    hashlib.pbkdf2_hmac("sha256", b"a", b"b", 2_000_000_000)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_computation_that_hears_nothing_is_ended_all_the_same(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "busy\n"
        time.sleep(0.5)  # until it is
        process.send_signal(number)
        assert process.wait(10) == 128 + number
        assert process.stdout.read() == f"{number.name}\n"


class Gone:
    """Raises where nobody can catch it."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


class Broken:
    """Raises what nobody asked for."""

    def __del__(self) -> None:
        raise ValueError("broken")


def test_an_interruption_that_python_loses_comes_again(capfd: pytest.CaptureFixture[str]) -> None:
    """As in a callback of the garbage collector: Python prints what is raised there, and goes on."""

    def wait_for_it() -> None:
        with listening(lambda number: None):
            Gone()
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        wait_for_it()
    assert "Traceback" not in capfd.readouterr().err


def test_nothing_is_printed_of_a_step_that_is_left_between_two_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster yields the failure of a step whenever its generator ends, also when it is closed."""
    printed: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: printed.append(str(lost.exc_value)))

    def events() -> Iterator[str]:
        try:
            yield "began"
        finally:
            yield "failed"

    def leave() -> None:
        for _ in events():
            raise KeyboardInterrupt

    with listening(lambda number: None), suppress(KeyboardInterrupt):
        leave()
    assert printed == []
    # Other things that Python can raise nowhere are still printed.
    with listening(lambda number: None):
        Broken()
    assert printed == ["broken"]


def test_a_killed_run_is_told_of_by_status_and_ended_by_the_next_one(small: World, tmp_path: Path) -> None:
    with in_the_midst(small, tmp_path / "log") as process:
        # One that merely stands still is not dead.
        process.send_signal(signal.SIGSTOP)
        assert json.loads(small.fraud("status", "--json").stdout)["dead_runs"] == []
        process.kill()
        process.wait(20)
    [dead] = json.loads(small.fraud("status", "--json").stdout)["dead_runs"]
    assert (dead["month"], dead["purpose"]) == (SECOND, "fraud run")
    assert f"was broken off: process {process.pid} is gone" in dead["sentence"]
    assert dead["sentence"] in small.fraud("status").stdout
    # Reading changes nothing.
    assert months(small)[-1] == ("STARTED", SECOND)
    done = small.fraud("run", "--from", SECOND, "--to", SECOND)
    assert f"{dead['sentence']}; it counts as failed now" in done.stdout
    assert months(small)[-2:] == [("FAILURE", SECOND), ("SUCCESS", SECOND)]


# A turn of a table's writers, which lasts until the transaction ends that swaps a month in.
WRITING = """
SELECT FROM pg_locks JOIN pg_stat_activity AS session USING (pid)
WHERE pg_locks.locktype = 'advisory' AND pg_locks.granted AND session.application_name LIKE 'fraud-assets {pid} %'
    AND (pg_locks.classid::bigint << 32) | pg_locks.objid::bigint IN (
        SELECT hashtext('months.' || table_name) FROM month_versions
    )
"""


def stop_while_writing(world: World, process: subprocess.Popen[bytes]) -> None:
    """Stops a process where it hurts others most: in a transaction that every writer of a table waits for."""
    query = WRITING.format(pid=process.pid)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if world.query(query):
            process.send_signal(signal.SIGSTOP)
            if world.query(query):
                return
            process.send_signal(signal.SIGCONT)
    raise TimeoutError("never in the midst of writing")


def test_a_run_that_was_declared_failed_writes_nothing_when_it_wakes_up(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (small.settings_given | {"FRAUD_HOME": str(small.home)}).items():
        monkeypatch.setenv(name, value)
    stored = f"SELECT id, table_name, digest, run_id FROM month_versions WHERE month = '{SECOND}' ORDER BY id"
    before = len(months(small))
    with in_the_midst(small, log := tmp_path / "log") as process:
        stop_while_writing(small, process)
        with open_instance(small.settings) as instance:
            [run] = instance.get_runs(limit=1)
            instance.report_run_failed(run, "given up by a person")
        small.fraud("run", "--from", SECOND, "--to", SECOND)
        written = small.query(stored)
        events = small.query("SELECT number, hash FROM ledger ORDER BY number")
        process.send_signal(signal.SIGCONT)
        wait(lambda: (SECOND in log.read_text() and THIRD in log.read_text()) or process.poll() is not None, "it")
    said = " ".join(log.read_text().split())
    assert f"run {run.run_id[:8]} was declared failure while it was working on {SECOND}" in said
    assert small.query(stored) == written
    assert small.query("SELECT number, hash FROM ledger ORDER BY number")[: len(events)] == events
    assert months(small)[before : before + 2] == [("FAILURE", SECOND), ("SUCCESS", SECOND)]
    assert "0 not as they were written" in small.fraud("doctor", "--verify").stdout


def test_the_daemon_is_told_that_a_run_has_no_process_any_more(
    small: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (small.settings_given | {"FRAUD_HOME": str(small.home)}).items():
        monkeypatch.setenv(name, value)
    with open_instance(small.settings) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, FraudRunLauncher)
        with in_the_midst(small, tmp_path / "log") as process:
            [run] = instance.get_runs(limit=1)
            process.send_signal(signal.SIGSTOP)
            assert launcher.check_run_worker_health(run).status.value == "RUNNING"
            process.kill()
            process.wait(20)
        health = launcher.check_run_worker_health(run)
        assert health.status.value == "NOT_FOUND"
        assert f"process {process.pid} is gone" in str(health.msg)
    open_database(small.settings).close()


def test_a_run_whose_database_crashed_does_not_stay_behind(small: World, tmp_path: Path) -> None:
    with in_the_midst(small, log := tmp_path / "log") as process:
        server = psutil.Process(int((small.home / "postgres" / "postmaster.pid").read_text().split()[0]))
        family = [server, *server.children()]
        server.kill()
        psutil.wait_procs(family, timeout=20)
        process.wait(120)
    assert process.returncode != 0, log.read_text()
    small.fraud("run", "--from", SECOND, "--to", SECOND)
    assert "STARTED" not in {status for status, _ in months(small)}
    assert months(small)[-1] == ("SUCCESS", SECOND)
