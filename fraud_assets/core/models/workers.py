"""Work side by side: by the process that asks, and by others that it starts and that end with it.

A job is done wherever hands are free, so what it gives must not depend on where. Which jobs there are belongs to the
caller. No pool of a library is used: where a caller is killed while they are busy, the workers of joblib (loky) and of
`concurrent.futures` stay for good, at work on a pipe that nobody reads. And their caller is idle, when it could begin
while they start.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import select
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Generic, NoReturn, Protocol, TypeVar

IDLE_SECONDS = 60.0
"""How long a worker waits for more: months of a run come a few tens of seconds apart, and a start takes one or two."""

LOOK_SECONDS = 1.0  # how often a busy worker looks whether its caller is still there

# Threads of libraries are counted when they are loaded.
_BEGIN = """
import os, pickle, sys
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
sys.path[:] = pickle.load(sys.stdin.buffer)
from fraud_assets.core.models.workers import serve
serve(int(sys.argv[1]), float(sys.argv[2]))
"""


class Job(Protocol):
    """Something to do."""

    def prepared(self) -> Callable[[], Any]:
        """What is called, here or elsewhere; it is pickled on the way."""


J = TypeVar("J", bound=Job)


class Work(Protocol[J]):
    """All that is to be done; it is asked and told by one thread at a time."""

    @property
    def is_done(self) -> bool:
        """Whether every job is."""

    def take(self) -> J | None:
        """The job to begin next; None where none can begin before another one is done."""

    def give(self, job: J, result: Any) -> None:
        """What came of a job."""


def work_off(work: Work[J], workers: int) -> None:
    """Does all of it.

    Args:
        work: the jobs.
        workers: how many processes are busy at once, this one among them. A process that may have no children does
            everything itself.

    Raises:
        Exception: what the first job that failed raised, wherever it ran.
    """
    others = 0 if multiprocessing.current_process().daemon else workers - 1
    shift = _Shift(work)
    helpers = [_idle_or_new() for _ in range(others)]
    threads = [threading.Thread(target=shift.help, args=(helper,), daemon=True) for helper in helpers]
    try:
        # The first job is this process': others are still being started.
        job = shift.next()
        for thread in threads:
            thread.start()
        shift.run(lambda job: job.prepared()(), job)
        for thread in threads:
            thread.join()
    except BaseException:
        shift.stop()
        for helper in helpers:
            helper.end()
        for thread in threads:
            if thread.is_alive():
                thread.join()
        raise
    _IDLE.extend(helpers)
    for lost in shift.lost:
        warnings.warn(str(lost), RuntimeWarning, stacklevel=2)


class _Shift(Generic[J]):
    """Who takes which job, and what went wrong.

    Attributes:
        lost: workers that were ended by others.
    """

    def __init__(self, work: Work[J]) -> None:
        self.lost: list[_LostError] = []
        self._work = work
        self._changed = threading.Condition()
        self._given_back: list[J] = []
        self._failed: BaseException | None = None

    def run(self, do: Callable[[J], Any], job: J | None) -> None:
        """Does jobs until there are none, beginning with this one."""
        while job is not None:
            result = do(job)
            with self._changed:
                self._work.give(job, result)
                self._changed.notify_all()
            job = self.next()

    def help(self, helper: _Helper) -> None:
        """Has jobs done by another process; what it is busy with when it is lost, is done by someone else."""
        job: J | None = None

        def do(taken: J) -> Any:
            nonlocal job
            job = taken
            return helper.do(taken)

        try:
            self.run(do, self.next())
        except _LostError as error:
            with self._changed:
                assert job is not None  # noqa: S101 - it was lost with one
                self._given_back.append(job)
                if error.code:
                    self.lost.append(error)
                self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            self.stop(error)

    def stop(self, error: BaseException | None = None) -> None:
        """Lets nobody begin anything more."""
        with self._changed:
            self._failed = self._failed or error or _StoppedError()
            self._changed.notify_all()

    def next(self) -> J | None:
        """The next job, which may take a while to wait for; None where there are no more."""
        with self._changed:
            while True:
                if self._failed is not None:
                    raise self._failed
                if self._given_back:
                    return self._given_back.pop()
                if self._work.is_done:
                    return None
                if (job := self._work.take()) is not None:
                    return job
                self._changed.wait()


class _StoppedError(Exception):
    """Another thread has failed."""


class _LostError(Exception):
    """A worker ended before its time."""

    def __init__(self, code: int) -> None:
        self.code = code
        by = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        super().__init__(
            f"a process that helped training {by}; what it was doing is done again. Where memory is short, set "
            "FRAUD_WORKERS to fewer"
        )


class _Helper:
    """Another process that does one thing after the other."""

    def __init__(self) -> None:
        self.of = os.getpid()
        self._start()

    def _start(self) -> None:
        # A process group of its own: Ctrl-C is for the caller, who then ends it.
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and text from above
            [sys.executable, "-P", "-c", _BEGIN, str(self.of), str(IDLE_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self._path: list[str] | None = list(sys.path)

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def do(self, job: Job) -> Any:
        """What a job gives there; warnings are given here, and errors raised."""
        try:
            return self._asked(job)
        except _LostError as error:
            if error.code:
                raise
        # It had waited long enough, at this very moment.
        self._start()
        return self._asked(job)

    def _asked(self, job: Job) -> Any:
        asks, answers = self._pipes
        try:
            if self._path is not None:
                pickle.dump(self._path, asks)
                self._path = None
            # Protocol 5 writes arrays without copying them first, and nothing here holds them afterwards.
            pickle.dump(job.prepared(), asks, protocol=5)
            asks.flush()
            warned, result, error = pickle.load(answers)  # noqa: S301 - from our own process
        except (EOFError, OSError, pickle.UnpicklingError) as lost:
            raise _LostError(self._code()) from lost
        for warning in warned:
            warnings.warn_explicit(*warning)
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Ends it, whatever it does."""
        self._process.kill()
        self._code()

    @property
    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        asks, answers = self._process.stdin, self._process.stdout
        assert asks is not None  # noqa: S101 - both are pipes
        assert answers is not None  # noqa: S101
        return asks, answers

    def _code(self) -> int:
        """The code that it ended with, or is just ending with."""
        try:
            code = self._process.wait(LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for pipe in self._pipes:
            with suppress(OSError):  # there may be something left to be written
                pipe.close()
        return code


_IDLE: list[_Helper] = []


def _idle_or_new() -> _Helper:
    while _IDLE:
        helper = _IDLE.pop()
        # A fork knows its parent's, which are not its own.
        if helper.of == os.getpid():
            if helper.is_there:
                return helper
            helper.end()
    return _Helper()


@atexit.register
def end_idle() -> None:
    """Ends the workers that wait for more; they would do so by themselves, a little later."""
    while _IDLE:
        helper = _IDLE.pop()
        if helper.of == os.getpid():
            helper.end()


# In the other process


def serve(caller: int, patience: float) -> None:
    """Does what is asked on standard input, until nothing is asked for so many seconds, or the caller is gone."""
    threading.Thread(target=_watch, args=(caller,), daemon=True).start()
    asks = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    while True:
        try:
            call = pickle.load(asks)  # noqa: S301 - from the process that started this one
        except EOFError:
            return
        pickle.dump(_answer(call), answers, protocol=5)
        answers.flush()
        del call
        if not select.select([asks], [], [], patience)[0]:
            return


def _answer(call: Callable[[], Any]) -> tuple[list[tuple[Any, ...]], Any, Exception | None]:
    result, raised = None, None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - it is raised in the caller
            error.add_note("in another process:\n" + "".join(traceback.format_exception(error)))
            raised = _that_can_be_sent(error)
    return [(one.message, one.category, one.filename, one.lineno) for one in warned], result, raised


def _that_can_be_sent(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - made in this line
    except Exception:  # noqa: BLE001 - whatever keeps it from being sent
        other = RuntimeError(f"{type(error).__name__}: {error}")
        other.__notes__ = error.__notes__
        return other
    return error


def _watch(caller: int) -> NoReturn:
    while os.getppid() == caller:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
