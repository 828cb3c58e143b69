"""The ledger's head in a file, so that a database whose newest rows were cut off does not pass for whole."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraud_assets.core.decisions.chain import Head, LedgerError


def read_head(file: Path) -> Head | None:
    """The head that a file has; None where there is no file.

    Raises:
        LedgerError: when it cannot be read, or holds something else.
    """
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Head(int(kept["number"]), str(kept["hash"]), f"the file {file}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{file} (FRAUD_LEDGER_HEAD) is no head of a ledger: {error}; put back the one that was there, or take the "
            "file away, and the next decision writes it again"
        ) from error


def write_head(file: Path, head: Head) -> None:
    """Keeps a head in a file, unless a later one is there already; who reads it sees the old one or the new one.

    Raises:
        LedgerError: when it cannot be written. What it is the head of is in the ledger then.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _alone(file.parent):
            kept = read_head(file)
            if kept is not None and kept.number >= head.number:
                return
            handle, name = tempfile.mkstemp(prefix=".ledger-head-", dir=file.parent)
            with os.fdopen(handle, "w", encoding="utf-8") as scratch:
                json.dump({"number": head.number, "hash": head.hash}, scratch, indent=2)
                scratch.write("\n")
                scratch.flush()
                os.fsync(scratch.fileno())
            Path(name).replace(file)
    except OSError as error:
        raise LedgerError(
            f"row {head.number} is in the ledger, but its hash could not be kept in {file} (FRAUD_LEDGER_HEAD): "
            f"{error}; make room or give the right to write, then use `fraud reconcile`"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing a head into the folder at the same time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
