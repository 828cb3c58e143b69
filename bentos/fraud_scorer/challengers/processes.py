"""The processes that score in the shadow: one for each version that is wanted, started again when one ends.

What such a process does belongs to `shadow.py`, which versions are wanted to `following.py`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prometheus_client import Counter, Gauge

# Named here so that a bento has it: what is packaged is what the service imports.
from bentos.fraud_scorer.challengers import shadow

logger = logging.getLogger("bentoml.fraud_scorer")

ROOT = Path(__file__).parents[3]
LOCK_FILE = "shadow.lock"
RETRY_SECONDS = (1.0, 5.0, 30.0, 60.0)
# At module level, as prometheus_client knows each metric of a process once.
RUNNING = Gauge("fraud_scorer_shadow_processes", "Versions that score in the shadow", multiprocess_mode="livesum")
ENDED = Counter("fraud_scorer_shadow_ended", "Shadow processes that ended by themselves, by version", ["model_version"])


@dataclass
class _Process:
    process: subprocess.Popen[bytes]
    command: tuple[str, ...]
    n_ended: int = 0
    ended_at: float = 0.0


class ShadowProcesses:
    """The processes of this service; of several workers one has them all."""

    def __init__(self, folder: Path) -> None:
        """Starts nothing yet.

        Args:
            folder: that services share; who holds the lock in it has the processes.
        """
        self._folder = folder
        self._lock: IO[bytes] | None = None
        self._is_refused = False
        self._processes: dict[int, _Process] = {}

    def keep(self, wanted: Mapping[int, tuple[Path, str]]) -> None:
        """Starts what is wanted, ends what is not, and starts again what ended.

        Args:
            wanted: of each version the folder of its model's files, and its role.
        """
        if wanted and not self._has_turn():
            wanted = {}
        for version in [one for one in self._processes if one not in wanted]:
            self._end(self._processes.pop(version))
        for version, (folder, role) in wanted.items():
            self._keep_one(version, (str(folder), role))
        RUNNING.set(sum(one.process.poll() is None for one in self._processes.values()))

    def close(self) -> None:
        """Ends all of them."""
        for one in self._processes.values():
            self._end(one)
        self._processes = {}
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _keep_one(self, version: int, command: tuple[str, ...]) -> None:
        known = self._processes.get(version)
        if known is not None and known.command != command:
            self._end(known)
            known = None
        if known is None:
            with _told_of(version):
                self._processes[version] = _Process(_started(command), command)
            return
        code = known.process.poll()
        if code is None:
            return
        if not known.ended_at:
            known.ended_at, known.n_ended = time.monotonic(), known.n_ended + 1
            ENDED.labels(str(version)).inc()
            why = "it took too long" if code == -signal.SIGALRM else f"exit code {code}"
            logger.error("version %s scores no more in the shadow (%s); it is started again", version, why)
        waits = RETRY_SECONDS[min(known.n_ended, len(RETRY_SECONDS)) - 1]
        if time.monotonic() - known.ended_at >= waits:
            with _told_of(version):
                known.process, known.ended_at = _started(command), 0.0

    def _end(self, one: _Process) -> None:
        with suppress(OSError):
            if one.process.stdin is not None:
                one.process.stdin.close()
        one.process.kill()
        one.process.wait()

    def _has_turn(self) -> bool:
        """Whether this process has the others' turn; for good, once it has."""
        if self._lock is not None:
            return True
        try:
            lock = (self._folder / LOCK_FILE).open("ab")
        except OSError as error:
            if not self._is_refused:
                logger.error("no version scores in the shadow: %s", error)
            self._is_refused = True
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True


@contextmanager
def _told_of(version: int) -> Iterator[None]:
    """A machine without room for one more process is told, and asked again."""
    try:
        yield
    except OSError as error:
        logger.error("version %s cannot score in the shadow: %s", version, error)


def _started(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # One thread, as for one call of a service.
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(  # noqa: S603 - our own module
        [sys.executable, "-m", shadow.__name__, *command],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
