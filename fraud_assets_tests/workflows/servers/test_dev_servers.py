"""The long-running commands: processes side by side, and the service beside `fraud score`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import psutil
import pyarrow.parquet
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.simulator import simulate_month
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.servers import code_server
from fraud_assets.workflows.servers import dev_servers as processes
from fraud_assets_tests.browser import wait

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture
def signals() -> Iterator[None]:
    """`run_together` takes the process's signals; they are given back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None) -> Path:
    """Stand-ins for the programs of `fraud dev`, as shell scripts in this folder."""
    monkeypatch.setattr(processes, "_script", lambda name: str(tmp_path / name))
    return tmp_path


def program(folder: Path, name: str, body: str) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


def test_when_one_process_ends_the_other_is_stopped_and_its_code_returned(programs: Path) -> None:
    program(programs, "dg", "sleep 1; exit 3")
    program(programs, "mlflow", f"trap 'touch {programs}/stopped; exit 0' TERM INT; while :; do sleep 0.1; done")
    assert processes.run_together(Settings(), print) == 3
    assert (programs / "stopped").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_both(programs: Path, number: signal.Signals) -> None:
    for name in ("dg", "mlflow"):
        trap = f"trap 'touch {programs}/{name}-stopped; exit 0' TERM INT; touch {programs}/{name}-started"
        program(programs, name, f"{trap}; while :; do sleep 0.1; done")

    def interrupt() -> None:
        while len(list(programs.glob("*-started"))) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    Thread(target=interrupt, daemon=True).start()
    assert processes.run_together(Settings(), print) == 0
    assert {path.name for path in programs.glob("*-stopped")} == {"dg-stopped", "mlflow-stopped"}


def test_a_signal_while_the_programs_are_being_started_is_not_lost(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dg", "mlflow"):
        program(programs, name, "while :; do sleep 0.1; done")
    start = processes.subprocess.Popen

    def interrupted(command: Any, **options: Any) -> Any:
        if str(programs) in str(command[0]):  # and not the database's
            os.kill(os.getpid(), signal.SIGTERM)
        return start(command, **options)

    monkeypatch.setattr(processes.subprocess, "Popen", interrupted)
    assert processes.run_together(Settings(), print) == signal.SIGTERM


LEFT = {
    "ends by itself": "sleep 2; touch {folder}/by-itself",
    "hears the signal": "trap 'touch {folder}/heard; exit 0' TERM; while :; do sleep 0.1; done",
    "hears nothing": "trap '' TERM INT; while :; do sleep 0.1; done",
}


@pytest.mark.parametrize("left", LEFT)
def test_what_a_program_leaves_behind_is_gone_when_the_command_ends(
    programs: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setenv("FRAUD_MLFLOW_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(processes, "STOP_SECONDS", 10 if left == "ends by itself" else 1)
    monkeypatch.setattr(processes, "END_SECONDS", 2)
    program(programs, "server", f"echo $$ > {programs}/pid; {LEFT[left].format(folder=programs)}")
    program(programs, "dg", f"{programs}/server & while [ ! -s {programs}/pid ]; do sleep 0.1; done; exit 4")
    assert processes.run_together(Settings(), print) == 4
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(int((programs / "pid").read_text())).status() == psutil.STATUS_ZOMBIE
    assert (programs / "by-itself").exists() == (left == "ends by itself")
    assert (programs / "heard").exists() == (left == "hears the signal")


# As dg's: started again when it ends, and not looking after what has the code.
OUTER = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "api", "grpc"]).pid, flush=True)
time.sleep(60)
"""


def test_a_code_server_that_is_killed_is_started_again_and_one_that_does_not_stay_up_ends_everything(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_MLFLOW_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(code_server, "MOST_RESTARTS", 2)
    monkeypatch.setattr(code_server, "GONE_SECONDS", 0.5)
    (programs / "outer.py").write_text(OUTER)
    command = f"{sys.executable} {programs}/outer.py code-server start >> {programs}/pids"
    program(programs, "dg", f"trap 'kill $!; exit 0' TERM; while :; do {command} & wait $!; sleep 0.2; done")
    killed: set[int] = set()

    def kill_each() -> None:
        while len(killed) < 3:
            time.sleep(0.2)
            pids = (programs / "pids").read_text().split() if (programs / "pids").exists() else []
            for pid in {int(pid) for pid in pids} - killed:
                time.sleep(1.5)  # until it was seen
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)

    killer = threading.Thread(target=kill_each)
    killer.start()
    said: list[str] = []
    assert processes.run_together(Settings(), said.append) == 1
    killer.join()
    assert [line.split(";")[-1] for line in said if "started again" in line] == [" it is started again."] * 2
    assert "3 times in ten minutes" in said[-1]


def test_with_an_mlflow_server_set_no_other_is_started(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_MLFLOW_URI", "http://127.0.0.1:9")
    program(programs, "dg", "exit 0")
    program(programs, "mlflow", f"touch {programs}/started")
    assert processes.run_together(Settings(), print) == 0
    assert not (programs / "started").exists()


def test_no_argument_of_a_program_shows_the_database_s_password(
    programs: Path, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    # The embedded server asks for none, and takes it.
    url = database.url.replace("postgres:@", "postgres:secret@")
    for name in ("dg", "mlflow"):
        program(
            programs, name, f'echo "$@" > {programs}/{name}-arguments; env > {programs}/{name}-environment; sleep 1'
        )
    processes.run_together(Settings(database_url=url, contract=contract_named(programs, "tests")), print)
    for name in ("dg", "mlflow"):
        assert "secret" not in (programs / f"{name}-arguments").read_text()
    assert "postgres:secret@" in (programs / "mlflow-environment").read_text()


def contract_named(folder: Path, name: str) -> Path:
    file = folder / f"{name}.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("name: simulator", f"name: {name}"), encoding="utf-8")
    return file


def test_psql_is_not_given_the_password_as_an_argument(database: Database, tmp_path: Path) -> None:
    url = database.url.replace("postgres:@", "postgres:secret@")
    environment = os.environ | {"FRAUD_DATABASE_URL": url, "FRAUD_CONTRACT": str(contract_named(tmp_path, "tests"))}
    with subprocess.Popen(
        [sys.executable, "-m", "fraud_assets.cli", "db", "--psql"], cwd=PROJECT_ROOT, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdin is not None
        children = wait(lambda: psutil.Process(command.pid).children(), "psql")
        given = " ".join(children[0].cmdline())
        said, _ = command.communicate("SELECT 40 + 2;\n", timeout=20)
    assert "/psql postgresql://postgres@" in given
    assert "secret" not in given
    assert "42" in said


def test_relative_settings_keep_their_meaning_in_the_project_s_folder(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = programs / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text((PROJECT_ROOT / "contracts" / "simulator.yaml").read_text())
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("FRAUD_CONTRACT", "mine.yaml")
    monkeypatch.setenv("FRAUD_SOURCE_PATH", ".")
    program(programs, "dg", f"env > {programs}/environment; pwd > {programs}/folder")
    program(programs, "mlflow", "exec sleep 30")
    processes.run_together(Settings(), print)
    told = dict(line.split("=", 1) for line in (programs / "environment").read_text().splitlines() if "=" in line)
    assert (programs / "folder").read_text().strip() == str(PROJECT_ROOT)
    assert told["FRAUD_CONTRACT"] == str((elsewhere / "mine.yaml").resolve())
    assert told["FRAUD_SOURCE_PATH"] == str(elsewhere.resolve())


def test_the_service_gives_the_scores_of_fraud_score(world: World, tmp_path: Path) -> None:
    from fraud_assets_tests.worlds import free_port

    contract = world.settings.loaded_contract
    rows = simulate_month(world.months[-1], world.simulator).slice(0, 30)
    names = {"transaction_id": "transaction_id", "event_timestamp": "event_timestamp"}
    names |= {name: column.column for name, column in contract.columns.items()}
    sent = [
        {
            name: value.isoformat() if hasattr(value := row[column], "isoformat") else value
            for name, column in names.items()
        }
        for row in rows.to_pylist()
    ]
    file = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(rows, file)
    expected = {
        row["transaction_id"]: row["score"] for row in json.loads(world.fraud("score", str(file), "--json").stdout)
    }
    port = free_port()
    log = tmp_path / "log"
    with world.running(log, "serve", "--port", str(port)) as process:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        wait(ready, "the service", 90)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/score", json.dumps({"transactions": sent}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=60) as answer:
            results = json.load(answer)["results"]
    assert {row["transaction_id"]: row["probability"] for row in results} == pytest.approx(expected, abs=1e-6)
