"""Ctrl-C: a use case that runs the graph ends within seconds, and says so.

Dagster puts handlers of its own in place while it runs the graph, takes an interruption for one failed step, and loses
one that comes while it writes an event. So what was asked is read from the system beside it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dagster._core.errors import DagsterExecutionInterruptedError

# Ctrl-C, an orderly stop, and a terminal that was closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# For which a step may tidy up. A step may also be in the midst of a long computation that hears nothing.
GRACE_SECONDS = 5
# After which one comes again that was lost.
AGAIN_SECONDS = 0.05
# No signal has this number.
OVER = b"\0"
# What Python says of a generator that yields while it is closed.
YIELDED_WHILE_CLOSED = "generator ignored GeneratorExit"


class Interrupted(KeyboardInterrupt):
    """Someone asked this process to stop; the message says what is there."""


class Asked:
    """What was asked of this process since the block began."""

    signal: signal.Signals | None = None


@contextmanager
def listening(give_up: Callable[[signal.Signals], None], grace: float = GRACE_SECONDS) -> Iterator[Asked]:
    """Hears signals while the block runs; one that lasts longer than the grace after a signal ends with the process.

    Outside of the main thread, which alone gets signals, nothing is done.

    Args:
        give_up: called before the process ends in the midst of the block, in another thread.
        grace: seconds that the block has from the signal on.
    """
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # What the caller ignores, as under nohup, stays ignored.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, signal.default_int_handler) for number in heard}
    block_is_over = threading.Event()
    hook, sys.unraisablehook = sys.unraisablehook, _again(sys.unraisablehook, block_is_over)
    others = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, asked, heard, give_up, grace), daemon=True)
    watcher.start()
    try:
        yield asked
    finally:
        block_is_over.set()
        sys.unraisablehook = hook
        signal.set_wakeup_fd(others)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        # And not by closing it: a process that was forked in the block may have it open.
        writer.send(OVER)
        watcher.join()
        writer.close()
        reader.close()


def _again(hook: Callable[[sys.UnraisableHookArgs], object], over: threading.Event) -> Callable[..., None]:
    """Lets an interruption come again that was raised where it is lost, as in a callback of the garbage collector.

    An interruption may also be raised between two events of a step. Dagster's generator of the events is closed then,
    takes that for a step that failed, and yields one more event, which Python prints with a traceback. It is nothing
    that a person who pressed Ctrl-C could use.
    """

    def interrupt() -> None:
        if not over.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def again(lost: sys.UnraisableHookArgs) -> None:
        if isinstance(lost.exc_value, (KeyboardInterrupt, DagsterExecutionInterruptedError)):
            timer = threading.Timer(AGAIN_SECONDS, interrupt)
            timer.daemon = True
            timer.start()
        elif not (isinstance(lost.exc_value, RuntimeError) and str(lost.exc_value) == YIELDED_WHILE_CLOSED):
            hook(lost)

    return again


def _watch(
    reader: socket.socket,
    asked: Asked,
    heard: list[signal.Signals],
    give_up: Callable[[signal.Signals], None],
    grace: float,
) -> None:
    """Notes the first signal; ends the process when the block does not end in time after it."""
    while asked.signal is None:
        numbers = reader.recv(64)
        asked.signal = next((number for number in heard if number in numbers), None)
        if OVER in numbers:
            return
    reader.settimeout(grace)
    with suppress(TimeoutError):
        while OVER not in reader.recv(64):
            continue
        return
    try:
        give_up(asked.signal)
    finally:
        # The month is written in transactions, so this is no worse than a power cut.
        os._exit(128 + asked.signal)
