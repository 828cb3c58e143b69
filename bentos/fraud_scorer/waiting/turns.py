"""Turns: requests that compute for long are answered one after the other, and refused when that would be too late.

What a request asks for, and how it is answered, is not known here.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Answer = TypeVar("Answer")

# Whoever sends a transaction waits for the answer with a customer at the till: later than this it is of no use.
MAX_WAIT_SECONDS = 2.0
# From the moment when a request is begun. Below BentoML's own limit (`traffic.timeout` of the service).
MAX_SECONDS = 20.0
# What a request costs, besides its rows and in rows: two statements a table, and the kernel's start.
FIXED_ROWS = 200
# Of a row, before anything has been measured.
FIRST_PACE = 0.05 / FIXED_ROWS
# How much the newest request counts for the pace.
NEWEST = 0.2


class BusyError(RuntimeError):
    """So much waits already that this request would be answered too late; it was not begun.

    Attributes:
        retry_after: seconds after which it may be sent again.
    """

    def __init__(self, waiting: int, seconds: float) -> None:
        super().__init__(
            f"{waiting} requests wait already, and this one would be begun after {seconds:.1f} s; send it again later"
        )
        self.retry_after = max(1, math.ceil(seconds - MAX_WAIT_SECONDS))


class LateError(TimeoutError):
    """A request whose time is over; what was left of it was not computed."""


class Turns:
    """Gives requests their turn, one at a time, in the order in which they come.

    All methods but the work itself run in the event loop.
    """

    def __init__(self) -> None:
        # One: what computes features uses all cores by itself. An executor, because a request that BentoML times out
        # is cancelled there: what waits is never begun, and what runs keeps its place until it has ended.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="turn")
        self._lock = threading.Lock()
        self._pace = FIRST_PACE
        self._waiting: dict[Future[Any], int] = {}

    async def take(self, n_rows: int, work: Callable[[float], Answer], *, shared: bool = False) -> Answer:
        """What the work gives when it has had its turn.

        Args:
            n_rows: how many rows it is about, by which its time is estimated.
            work: is given the moment, by `time.monotonic`, until which it may compute; called in a thread.
            shared: whether the first of those that wait does most of the work for all of them: then how many wait says
                nothing of how long it takes, and nobody is refused before.

        Raises:
            BusyError: at once, when its turn would come too late.
            LateError: when its turn came too late after all, or the work says so.
        """
        with self._lock:
            ahead = self._pace * sum(self._waiting.values())
            waiting = len(self._waiting)
        if waiting and ahead > MAX_WAIT_SECONDS and not shared:
            raise BusyError(waiting, ahead)
        came = time.monotonic()
        # Longer than estimated means that the estimate was wrong: then others behind are late as well.
        last_call = came + 2 * MAX_WAIT_SECONDS
        future = self._thread.submit(self._do, n_rows, work, last_call)
        with self._lock:
            self._waiting[future] = FIXED_ROWS + n_rows
        future.add_done_callback(self._left)
        return await asyncio.wrap_future(future)

    def _do(self, n_rows: int, work: Callable[[float], Answer], last_call: float) -> Answer:
        began = time.monotonic()
        if began > last_call:
            raise LateError("the request waited too long for its turn, and was not begun; send it again later")
        try:
            return work(began + MAX_SECONDS)
        finally:
            took = (time.monotonic() - began) / (FIXED_ROWS + n_rows)
            with self._lock:
                self._pace += NEWEST * (took - self._pace)

    def _left(self, future: Future[Any]) -> None:
        with self._lock:
            self._waiting.pop(future, None)

    def close(self) -> None:
        """Begins nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def check_time(until: float) -> None:
    """Passes while there is time.

    Raises:
        LateError: after `until`, by `time.monotonic`.
    """
    if time.monotonic() > until:
        raise LateError(
            f"the request took longer than {MAX_SECONDS:.0f} s, and was given up; send fewer rows at a time"
        )
