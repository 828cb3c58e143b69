"""The spool: lines on disk until the database has them, by several processes beside each other, within a limit.

Each process appends to a file of its own, which it keeps locked. A line has its checksum before it. A file whose
process is gone is taken over by the next one that looks. What the lines say is not known here.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ENDING = ".spool"
# A file that has grown to this is followed by another, so that what is sent makes room piece by piece.
FILE_BYTES = 16 * 2**20
PIECE_BYTES = 2**20
# What a power cut may cost. A process that is killed loses nothing that was appended, synced or not.
SYNC_SECONDS = 1.0
# Between two looks at what other processes have in the folder.
LOOK_SECONDS = 5.0

_sync = getattr(os, "fdatasync", os.fsync)


class SpoolFullError(OSError):
    """The spool has as many bytes as it may have; nothing of what was to be appended is in it."""


@dataclass(frozen=True)
class Piece:
    """Lines from one place of one file.

    Attributes:
        lines: those that are whole.
        n_damaged: those that are not: torn off by a crash, or changed since.
        end: where the next piece begins.
        file: which has them.
    """

    lines: tuple[bytes, ...]
    n_damaged: int
    end: int
    file: _File

    @property
    def is_inherited(self) -> bool:
        """Whether another process wrote them, which is gone."""
        return self.file.is_inherited


class _File:
    """An open file of the spool, locked for as long as it is open."""

    def __init__(self, path: Path, handle: int, size: int) -> None:
        self.path, self.handle, self.size, self.sent = path, handle, size, 0
        self.is_inherited = False

    @classmethod
    def create(cls, folder: Path) -> _File:
        while True:
            path = folder / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{ENDING}"
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            if _is_ours(path, handle):
                return cls(path, handle, 0)
            # Another process took it for one that was left behind.
            os.close(handle)

    @classmethod
    def take_over(cls, path: Path) -> _File | None:
        """The file of a process that is gone; None where it lives, or another one was first."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError:
            return None
        if _is_ours(path, handle):
            found = cls(path, handle, os.fstat(handle).st_size)
            found.is_inherited = True
            return found
        os.close(handle)
        return None

    def append(self, content: bytes) -> None:
        """All of it, or nothing.

        Raises:
            OSError: as the disk says.
        """
        written = 0
        try:
            while written < len(content):
                written += os.write(self.handle, content[written:])
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.size += len(content)

    def read(self) -> Piece | None:
        """The next lines that were not sent; None where there are none."""
        length = PIECE_BYTES
        while True:
            wanted = min(length, self.size - self.sent)
            content = os.pread(self.handle, wanted, self.sent)
            if not content:
                return None
            at_end = self.sent + len(content) >= self.size
            if (cut := content.rfind(b"\n") + 1) or at_end:
                break
            length *= 2  # a line longer than a piece
        whole = [_checked(line) for line in content[:cut].split(b"\n")[:-1]]
        lines = tuple(line for line in whole if line is not None)
        damaged = len(whole) - len(lines)
        if at_end and cut < len(content):
            damaged, cut = damaged + 1, len(content)
        return Piece(lines, damaged, self.sent + cut, self)

    def close(self, *, remove: bool) -> None:
        if remove:
            # Before the lock is given up: nobody takes over what is sent.
            self.path.unlink(missing_ok=True)
        os.close(self.handle)


class Spool:
    """The lines of this process, and of those before it that are gone."""

    def __init__(self, folder: Path, limit: int) -> None:
        """Makes the folder, where it is missing.

        Args:
            folder: for this and other processes.
            limit: bytes that all of them together may have in it.

        Raises:
            OSError: when it cannot be made.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder, self._limit = folder, limit
        self._files: list[_File] = []
        self._active: _File | None = None
        self._lock = threading.Lock()
        self._elsewhere, self._looked = 0, -LOOK_SECONDS
        self._synced = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes of this process that are not sent."""
        return sum(file.size - file.sent for file in list(self._files))

    def append(self, lines: Sequence[bytes]) -> None:
        """All lines, in their order, or none.

        Raises:
            SpoolFullError: when they are too many for the limit.
            OSError: as the disk says.
        """
        content = b"".join(b"%08x %b\n" % (zlib.crc32(line), line) for line in lines)
        self._look()
        with self._lock:
            if sum(file.size for file in self._files) + self._elsewhere + len(content) > self._limit:
                raise SpoolFullError(f"{self.folder} has the {self._limit:,} bytes that it may have")
            if self._active is None or self._active.size >= FILE_BYTES:
                self._active = _File.create(self.folder)
                self._files.append(self._active)
            self._active.append(content)
            handle = self._active.handle
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            _sync(handle)
            self._synced = time.monotonic()

    def next_piece(self) -> Piece | None:
        """The oldest lines that were not sent."""
        for file in list(self._files):
            if (piece := file.read()) is not None:
                return piece
        return None

    def sent(self, piece: Piece) -> None:
        """Forgets a piece, and its file where nothing else is in it."""
        file = piece.file
        with self._lock:
            file.sent = piece.end
            if file.sent < file.size:
                return
            if file is self._active:
                os.ftruncate(file.handle, 0)
                file.size = file.sent = 0
            else:
                self._files.remove(file)
                file.close(remove=True)

    def take_over(self) -> int:
        """Adds what processes left behind that are gone; how many files it was."""
        own = {file.path for file in list(self._files)}
        found = [_File.take_over(path) for path in sorted(self.folder.glob(f"*{ENDING}")) if path not in own]
        taken = [file for file in found if file is not None]
        with self._lock:
            self._files[:0] = taken
        for file in taken:
            if not file.size:
                self.sent(Piece((), 0, 0, file))
        return len(taken)

    def close(self) -> None:
        """Leaves on disk what was not sent, for the next process."""
        with self._lock:
            for file in self._files:
                if file.size:
                    with suppress(OSError):
                        _sync(file.handle)
                file.close(remove=not file.size)
            self._files, self._active = [], None

    def _look(self) -> None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        own = {file.path for file in list(self._files)}
        self._elsewhere = sum(_size(path) for path in _others(self.folder, own))
        self._looked = time.monotonic()


def spooled_bytes(folder: Path) -> int:
    """Bytes that are on disk, of all processes."""
    return sum(_size(path) for path in _others(folder, ()))


def _others(folder: Path, own: Iterable[Path]) -> list[Path]:
    return [path for path in folder.glob(f"*{ENDING}") if path not in own]


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


def _is_ours(path: Path, handle: int) -> bool:
    """Whether the lock of an open file could be had, and the file is still the one at its path."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.stat().st_ino == os.fstat(handle).st_ino
    except OSError:
        return False


def _checked(line: bytes) -> bytes | None:
    """What stands after the checksum, if that is the line's own."""
    said, content = line[:8], line[9:]
    return content if said == b"%08x" % zlib.crc32(content) and line[8:9] == b" " else None
