"""The code server of `fraud dev`, in which sensors look and runs begin: when it dies, another is started.

`dg dev` runs two processes: one that others ask, which it starts again by itself, and below it one that has the code.
Nobody looks after the second: without it, the first answers with errors, sensors and alerts fall silent, and
nothing says so. When the second is gone, the first is ended, and `dg` starts both.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped] # publishes no type information (7.2)

# A server that dies this often does not get better by being started again.
MOST_RESTARTS = 5
WITHIN_SECONDS = 600
# For which the inner process has to be gone: while code is loaded again there are two, and then one.
GONE_SECONDS = 2


class CodeServerError(RuntimeError):
    """The code server does not stay up."""


class CodeServerWatch:
    """Looks after the code server below a process."""

    def __init__(self, pid: int, tell: Callable[[str], None]) -> None:
        """Looks below the process with this pid; tells what it does."""
        self._root = psutil.Process(pid)
        self._tell = tell
        self._known: tuple[int, int] | None = None
        self._gone_since: float | None = None
        self._restarts: list[float] = []

    def look(self) -> None:
        """Looks once.

        Raises:
            CodeServerError: when it has died too often.
        """
        outer, inner = self._servers()
        if outer is None or inner is not None:
            # dg starts the outer one again; only a pair that was there can lose a half.
            self._known = (outer.pid, inner.pid) if outer and inner else None
            self._gone_since = None
            return
        if self._known is None or self._known[0] != outer.pid:
            return
        now = time.monotonic()
        self._gone_since = self._gone_since or now
        if now - self._gone_since < GONE_SECONDS:
            return
        self._restarts = [at for at in self._restarts if now - at < WITHIN_SECONDS] + [now]
        if len(self._restarts) > MOST_RESTARTS:
            raise CodeServerError(
                f"The code server (process {self._known[1]}) ended, {len(self._restarts)} times in ten minutes. "
                "Without it no sensor looks and no run begins, so everything is stopped. What it said is above."
            )
        self._tell(f"The code server (process {self._known[1]}) ended; it is started again.")
        self._known = self._gone_since = None
        with contextlib.suppress(psutil.NoSuchProcess):
            outer.kill()

    def _servers(self) -> tuple[psutil.Process | None, psutil.Process | None]:
        outer = inner = None
        with contextlib.suppress(psutil.Error):
            for process in self._root.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    given = process.cmdline()
                    if "code-server" in given and "start" in given:
                        outer = process
                    elif "api" in given and "grpc" in given:
                        inner = process
        return outer, inner
