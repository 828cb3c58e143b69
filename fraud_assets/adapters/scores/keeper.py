"""The keeper: takes scores from whoever answers, and brings them to the database without making anybody wait.

One thread writes what was answered into the spool within `GATHER_SECONDS`, another sends what is in the spool, so that
a database that stands still keeps nothing from being written. What cannot be kept is counted and logged, never waited
for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from fraud_assets.adapters.scores.sink import Inserted, Sink, SinkError
from fraud_assets.adapters.scores.spool import Spool, SpoolFullError
from fraud_assets.adapters.scores.state import KeptState, StateFile
from fraud_assets.core.models.kept_scores import Scored

logger = logging.getLogger("bentoml.fraud_scorer")

# What a killed process may not have written yet. Together a few requests cost less than each alone.
GATHER_SECONDS = 0.02
# Answered, and not written yet: some seconds of a busy service, about 50 MB.
MOST_WAITING = 50_000
# Lines that a full disk does not take, and that may still reach the database.
MOST_UNWRITTEN = 5_000
# Between two statements: what other processes see of a score is this old.
SEND_SECONDS = 0.2
RETRY_SECONDS = 2.0
# Between two looks for what processes left behind that are gone.
TAKE_OVER_SECONDS = 10.0
# Between two lines of the log about the same trouble.
REPEAT_SECONDS = 30.0
CLOSE_SECONDS = 3.0
REFUSED_FILE = "refused.jsonl"
# Told what is kept now, as often as it changes.
Watch = Callable[[KeptState, int], None]


class Keeper:
    """Keeps scores; one for a process."""

    def __init__(self, spool: Spool, sink: Sink, watch: Watch | None = None) -> None:
        """Does nothing yet.

        Args:
            spool: where scores are until the database has them.
            sink: puts them into the database.
            watch: is given the state of this process alone, and the spool's size in bytes; called in a thread.

        Raises:
            OSError: when the spool's folder cannot be written.
        """
        self._spool, self._sink, self._watch = spool, sink, watch
        self._file = StateFile(spool.folder)
        self._state, self._before = KeptState(), self._file.take_over()
        self._waiting: deque[Scored] = deque()
        self._unwritten: deque[bytes] = deque()
        self._n_waiting = self._n_spooled = 0
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._has_come, self._is_written, self._over = threading.Event(), threading.Event(), threading.Event()
        self._all_written = threading.Event()
        self._said: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=target, name=f"scores {name}", daemon=True)
            for name, target in (("write", self._write), ("send", self._send))
        ]

    @property
    def state(self) -> KeptState:
        """What became of scores so far, those of processes that are gone among them."""
        return self._before + self._own()

    def _own(self) -> KeptState:
        with self._lock:
            return replace(self._state, waiting=self._n_waiting + self._n_spooled + len(self._unwritten))

    def start(self) -> None:
        """Begins to write and to send, first what was left behind."""
        for thread in self._threads:
            thread.start()

    def keep(self, scored: Scored) -> bool:
        """Takes scores; returns at once, and raises nothing. Whether there was room for them."""
        n = len(scored.probabilities)
        with self._lock:
            if is_room := self._n_waiting + n <= MOST_WAITING:
                self._n_waiting += n
                self._waiting.append(scored)
        if is_room:
            self._has_come.set()
        else:
            self._lose("queue_full", n, f"more than {MOST_WAITING:,} wait to be written")
        return is_room

    def close(self) -> None:
        """Writes what is left, and sends what can be sent in `CLOSE_SECONDS`; the rest stays in the spool."""
        self._over.set()
        self._has_come.set()
        until = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.1, until - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            # The database stands still: the lines are on disk, and the process ends all the same.
            logger.warning("scores wait in %s for the next start", self._spool.folder)
            return
        self._rescue()
        self._tell()
        self._spool.close()
        self._sink.close()
        self._file.close()

    # Writing

    def _write(self) -> None:
        while not self._over.is_set():
            self._has_come.wait()
            self._over.wait(GATHER_SECONDS)
            self._has_come.clear()
            self._write_waiting()
        self._write_waiting()
        self._all_written.set()

    def _write_waiting(self) -> None:
        lines: list[bytes] = []
        n_taken = 0
        while self._waiting:
            scored = self._waiting.popleft()
            n = len(scored.probabilities)
            n_taken += n
            try:
                lines += scored.lines()
            except Exception as error:  # noqa: BLE001 - an answer that was given must not end the keeping of others
                # Not its words, which may have values in them.
                self._lose("error", n, type(error).__name__)
        written, n_lost = False, self._state.n_lost
        if lines:
            try:
                self._spool.append(lines)
                written = True
            except SpoolFullError as error:
                self._lose("spool_full", len(lines), str(error))
            except OSError as error:
                self._hold(lines, error)
        with self._lock:
            self._n_waiting -= n_taken
            self._n_spooled += len(lines) if written else 0
        self._is_written.set()
        if self._state.n_lost > n_lost:
            # At once, because a killed process tells nothing any more.
            self._tell()

    def _hold(self, lines: list[bytes], error: OSError) -> None:
        """Keeps in memory what the disk does not take, as far as there is room."""
        room = max(0, MOST_UNWRITTEN - len(self._unwritten))
        self._unwritten.extend(lines[:room])
        why = f"the spool cannot be written: {error.strerror}"
        if (lost := len(lines) - room) > 0:
            self._lose("disk", lost, why)
        else:
            self._say("held", f"{why}; up to {MOST_UNWRITTEN:,} scores are held in memory")

    def _rescue(self) -> None:
        """Puts on disk what was only in memory, now that nothing else is done."""
        lines = list(self._unwritten)
        self._unwritten.clear()
        try:
            if lines:
                self._spool.append(lines)
        except OSError as error:
            self._lose("disk", len(lines), f"the spool cannot be written: {error.strerror or error}")

    # Sending

    def _send(self) -> None:
        looked = -TAKE_OVER_SECONDS
        while True:
            if ending := self._over.is_set():
                self._all_written.wait(CLOSE_SECONDS)
            if time.monotonic() - looked >= TAKE_OVER_SECONDS:
                self._take_over()
                looked = time.monotonic()
            self._is_written.clear()
            reached = self._send_waiting()
            self._tell()
            if ending:
                break
            if not reached:
                self._over.wait(RETRY_SECONDS)
            elif not self._over.is_set():
                # Set once more after `_over`, so that an end is not slept through.
                self._is_written.wait(TAKE_OVER_SECONDS)
                self._over.wait(SEND_SECONDS)

    def _take_over(self) -> None:
        try:
            if n := self._spool.take_over():
                logger.warning("scores that %d processes before this one left behind are sent", n)
            with self._lock:
                self._before += self._file.take_over()
        except OSError as error:
            self._say("take_over", f"what is left behind in {self._spool.folder} cannot be read: {error}")

    def _send_waiting(self) -> bool:
        """Sends all there is; whether the database took it."""
        try:
            while self._unwritten:
                lines = [self._unwritten[place] for place in range(min(500, len(self._unwritten)))]
                self._count(self._sink.insert(lines), 0)
                for _ in lines:
                    self._unwritten.popleft()
            while (piece := self._spool.next_piece()) is not None:
                found = self._sink.insert(piece.lines)
                self._spool.sent(piece)
                self._count(found, piece.n_damaged)
                with self._lock:
                    self._n_spooled -= 0 if piece.is_inherited else len(piece.lines)
        except SinkError as error:
            with self._lock:
                self._state = replace(self._state, error=str(error))
            self._say("sink", f"{error}; scores wait in {self._spool.folder}")
            return False
        except OSError as error:
            self._say("read", f"the spool cannot be read: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, what comes later must be sent
            self._say("unexpected", f"scores cannot be sent: {type(error).__name__}; they wait in {self._spool.folder}")
            return False
        if self._state.error:
            logger.warning("the database takes scores again")
            with self._lock:
                self._state = replace(self._state, error="")
        return True

    def _count(self, found: Inserted, n_damaged: int) -> None:
        if found.refused:
            self._say(
                "refused",
                f"the database refuses {len(found.refused)} scores (SQLSTATE {found.refused[0][1]}), which are in "
                f"{self._spool.folder / REFUSED_FILE} now",
            )
            with suppress(OSError), (self._spool.folder / REFUSED_FILE).open("ab") as file:
                file.writelines(line + b"\n" for line, _ in found.refused)
        if n_damaged:
            self._say("damaged", f"{n_damaged} lines of the spool are not whole, and are left out")
        with self._lock:
            self._state += KeptState(found.n_new, found.n_known, n_damaged, len(found.refused))

    # Telling

    def _tell(self) -> None:
        with self._telling:
            own = self._own()
            with suppress(OSError):
                self._file.write(self._before + own)
            if self._watch is not None:
                self._watch(own, self._spool.size)

    def _lose(self, reason: str, n: int, why: str) -> None:
        with self._lock:
            self._state = self._state.losing(reason, n, datetime.now(UTC))
        self._say(reason, f"scores are lost: {why}")

    def _say(self, about: str, text: str) -> None:
        now = time.monotonic()
        if now - self._said.get(about, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            self._said[about] = now
            logger.error("%s", text)
