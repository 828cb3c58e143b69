"""Commands of the tests that are forked: as `subprocess.run` would run them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fraud_assets_tests.forks import forks

PROBE = """
import os, signal, sys, time
given = sys.argv[1:]
if given == ["modules"]:
    print(*sorted(name for name in sys.modules if name.split(".")[0] == "fraud_assets"))
elif given == ["killed"]:
    os.kill(os.getpid(), signal.SIGKILL)
elif given == ["slow"]:
    open("number", "w").write(str(os.getpid()))
    time.sleep(60)
elif given == ["threads"]:
    import adbc_driver_postgresql.dbapi, numpy as np, onnxruntime, pyarrow as pa, pyarrow.compute as pc
    from sklearn.ensemble import HistGradientBoostingClassifier as Trees
    print(pc.sum(pa.chunked_array([[1], [2]])), Trees(max_iter=2).fit(np.eye(40), np.arange(40) % 2).n_iter_)
else:
    print("out", *given, os.environ["WORD"], os.getcwd(), sys.path[0], "FRAUD_HOME" in os.environ, sys.stdin.read())
    print("err", __name__, sys.argv[0], file=sys.stderr)
    raise SystemExit(3)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "probe.py").write_text(PROBE)
    return tmp_path


def ask(folder: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    return forks().run("probe", arguments, cwd=folder, env=environment | {"WORD": "zoë"}, timeout=timeout)


def test_a_fork_has_what_a_process_from_nothing_has_and_gives_what_that_gives(folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    fresh = subprocess.run(
        [sys.executable, "-m", "probe", "a b"], cwd=folder, env=environment | {"WORD": "zoë"}, capture_output=True,
        text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    forked = ask(folder, "a b")
    assert (forked.args, forked.returncode, forked.stdout, forked.stderr) == (
        fresh.args, 3, fresh.stdout, fresh.stderr,
    )  # fmt: skip
    assert forked.stdout.startswith("out a b zoë ")


def test_a_fork_that_is_killed_says_so(folder: Path) -> None:
    assert ask(folder, "killed").returncode == -9


def test_a_fork_that_takes_too_long_is_killed(folder: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        ask(folder, "slow", timeout=2)
    number = int((folder / "number").read_text())
    until = time.monotonic() + 10
    while psutil.pid_exists(number):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_of_the_platform_only_what_is_pure_is_loaded_beforehand(folder: Path) -> None:
    """Some of the rest reads settings when it is loaded, which would be those of another command."""
    loaded = ask(folder, "modules").stdout.split()
    assert "fraud_assets.core.features.kernel" in loaded
    assert {name for name in loaded if not f"{name}.".startswith("fraud_assets.core.")} == {"fraud_assets"}


def test_libraries_that_start_threads_work_in_a_fork(folder: Path) -> None:
    done = ask(folder, "threads")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 2\n", "")
