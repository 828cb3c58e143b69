"""What each process says of the scores that it keeps, in a file beside the spool, for `fraud status`.

A file has its full length from the beginning and is written over in place, so that a full disk does not keep it from
saying that scores are lost.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO

ENDING = ".state"
LENGTH = 2048
LONGEST = 500  # characters of an error


@dataclass(frozen=True)
class KeptState:
    """What became of scores.

    Attributes:
        stored: rows that are in the database.
        known: that were there already.
        damaged: lines of the spool that were not whole.
        refused: that the database does not take, and that lie in a file of the spool's folder.
        lost: that are nowhere, by reason: `spool_full`, `disk`, `queue_full`, `error`.
        last_lost_at: when the last one was lost.
        waiting: in memory or on disk now.
        error: why the database does not take them; empty where it does.
    """

    stored: int = 0
    known: int = 0
    damaged: int = 0
    refused: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    last_lost_at: datetime | None = None
    waiting: int = 0
    error: str = ""

    @property
    def n_lost(self) -> int:
        """All that are lost."""
        return sum(self.lost.values())

    def __add__(self, other: KeptState) -> KeptState:
        lost = {name: self.lost.get(name, 0) + other.lost.get(name, 0) for name in {**self.lost, **other.lost}}
        moments = [moment for moment in (self.last_lost_at, other.last_lost_at) if moment]
        return KeptState(
            self.stored + other.stored, self.known + other.known, self.damaged + other.damaged,
            self.refused + other.refused, lost, max(moments, default=None), self.waiting + other.waiting,
            self.error or other.error,
        )  # fmt: skip

    def losing(self, reason: str, n: int, now: datetime) -> KeptState:
        """The same with more that are lost."""
        return replace(self, lost={**self.lost, reason: self.lost.get(reason, 0) + n}, last_lost_at=now)

    def to_json(self) -> str:
        """As the file has it."""
        plain = asdict(self) | {"error": self.error[:LONGEST]}
        return json.dumps(plain, default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> KeptState:
        """What a file says.

        Raises:
            ValueError: when it says something else.
        """
        try:
            said = json.loads(text)
            moment = said["last_lost_at"]
            return cls(**said | {"last_lost_at": None if moment is None else datetime.fromisoformat(moment)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"it says nothing of scores: {error}") from error


class StateFile:
    """The file of this process, locked for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        """Makes the file, with room for all that it will say.

        Raises:
            OSError: when it cannot be made.
        """
        self._path = folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{ENDING}"
        self._file: IO[str] = self._path.open("x", encoding="utf-8")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.write(KeptState())

    def write(self, state: KeptState) -> None:
        """Says it, in place of what was said before.

        Raises:
            OSError: when it cannot be written.
        """
        self._file.seek(0)
        self._file.write(state.to_json().ljust(LENGTH))
        self._file.flush()

    def take_over(self) -> KeptState:
        """The sum of what processes said that are gone, whose files go with that."""
        total = KeptState()
        for path in self._path.parent.glob(f"*{ENDING}"):
            if path == self._path:
                continue
            with suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                state = replace(KeptState.from_json(file.read()), waiting=0, error="")
                # Gone already, where another process was first; then it is not counted twice.
                path.unlink()
                total += state
        return total

    def close(self) -> None:
        """Leaves what was said last for the next process."""
        self._file.close()


def read_states(folder: Path) -> tuple[KeptState, int]:
    """What all processes said together, and how many of them live."""
    total, alive = KeptState(), 0
    for path in sorted(folder.glob(f"*{ENDING}")):
        with suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
            state = KeptState.from_json(file.read())
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                # Its lines are on disk, and its error is over.
                state = replace(state, waiting=0, error="")
            except BlockingIOError:
                alive += 1
            total += state
    return total, alive
