"""Commands of the tests, each in a process of its own that is forked from one in which the libraries are loaded.

A command that starts from nothing loads Dagster, MLflow and scikit-learn for seconds, and the tests give hundreds of
them. Run as a program, this loads the libraries once, and forks for each command. Of the platform itself it loads only
what is pure (`core`), so that a command reads its settings as ever. That commands start from nothing, too, is seen
where they do: the world of the session is built by such a one (`World.fresh`), and `World.running` starts such.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# What the commands load. Not onnxruntime, which starts a thread, and a fork loses that.
LIBRARIES = (
    "alembic.command", "dagster", "dagster_mlflow", "dagster_postgres", "duckdb",
    "jinja2", "matplotlib.figure", "mlflow.sklearn", "numba", "pandas", "psycopg", "pyarrow.parquet",
    "pydantic_settings", "rich.table", "scipy.stats", "onnx", "skops.io", "sklearn.ensemble",
    "sklearn.linear_model", "sqlalchemy.dialects.postgresql", "typer", "yaml",
    # What others load when they are first used.
    "cryptography.hazmat.primitives.serialization", "dagster.components.core.snapshot",
    "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store",
    "sqlalchemy.dialects.mssql",
    # Of the platform: above all what was compiled. Nothing that loads `core.models.scoring`, which loads onnxruntime.
    "fraud_assets.core.contracts.contract", "fraud_assets.core.decisions.promotion",
    "fraud_assets.core.drift.covariate", "fraud_assets.core.explanations.tree_paths",
    "fraud_assets.core.features.pasts", "fraud_assets.core.intake.accept", "fraud_assets.core.lineage.staleness",
)  # fmt: skip


class Forks:
    """The process that forks. It ends with the one that made it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="forks"))
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "DAGSTER_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fraud_assets_tests.forks", str(self._folder / "line")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=outside | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        atexit.register(self._close)
        assert self._process.stdout
        with self._process.stdout as said:
            assert said.readline() == b"ready\n", "the libraries cannot be loaded; see above"

    def _close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def run(
        self, module: str, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run([python, "-m", module, *arguments], ...)` gives.

        Raises:
            subprocess.TimeoutExpired: when it takes longer; it is killed then.
        """
        command = [sys.executable, "-m", module, *arguments]
        asked = json.dumps({"module": module, "arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
        with socket.socket(socket.AF_UNIX) as line, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            line.connect(str(self._folder / "line"))
            socket.send_fds(line, [len(asked).to_bytes(8, "big")], [out.fileno(), err.fileno()])
            line.sendall(asked)
            with line.makefile("r") as answers:
                number = int(answers.readline())
                line.settimeout(timeout)
                try:
                    code = int(answers.readline())
                except TimeoutError:
                    os.kill(number, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(command, timeout) from None
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


@cache
def forks() -> Forks:
    """The one of this process; begun when the first command is given."""
    return Forks()


def _serve(place: str) -> dict[str, Any] | None:
    """Forks for whoever asks, until standard input is closed.

    Returns:
        In a fork, what it was asked to run; None at the end.
    """
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen()
    # Those who wait for a command are nobody's business here; nothing of them is left.
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([listening, 0], [], [])
        if 0 in readable:
            return None
        line, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGCHLD, before)
            return _forked(line)
        line.close()


def _forked(line: socket.socket) -> dict[str, Any]:
    """What a caller asks for, in the process that is to run it; the one between them tells how that ended, and ends."""
    length, (out, err), _, _ = socket.recv_fds(line, 8, 2)
    with line.makefile("rb") as given:
        asked: dict[str, Any] = json.loads(given.read(int.from_bytes(length, "big")))
    if (number := os.fork()) == 0:
        line.close()
        with Path(os.devnull).open() as nothing:
            for one, place in ((nothing.fileno(), 0), (out, 1), (err, 2)):
                os.dup2(one, place)
        os.close(out)
        os.close(err)
        return asked
    line.sendall(b"%d\n" % number)
    _, status = os.waitpid(number, 0)
    line.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _load() -> None:
    with warnings.catch_warnings():
        # Those of libraries, as of dagster-mlflow, whose functions are beta; the platform's commands silence them.
        warnings.simplefilter("ignore")
        for name in LIBRARIES:
            importlib.import_module(name)
    # Not looked through again in each fork, which would copy it.
    gc.freeze()


if __name__ == "__main__":
    _load()
    if (asked := _serve(sys.argv[1])) is None:
        # Here, because a process of xdist's ends without saying good-bye.
        shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    else:
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        sys.path[0] = asked["cwd"]
        sys.argv[1:] = asked["arguments"]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
