"""The base of errors that the outside world causes: an unreachable server, a version that is not there, a full disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator

NO_SPACE = "No space left on device"
"""What operating systems say, and PostgreSQL after them, in every language that servers are set to here."""
DISK_FULL_STATE = "53100"  # PostgreSQL's disk_full


class PlatformError(RuntimeError):
    """Something outside the program is not as it must be; the message says what, where and what to do."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, what that was raised from, and so on."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__]


def disk_is_full(error: BaseException) -> str | None:
    """A sentence, where it was a full disk that an error is about; None where it was not.

    >>> disk_is_full(OSError(28, "No space left on device", "/data/pages.html"))
    'the disk is full: /data/pages.html could not be written. Free space on it (`fraud prune` lists what can go), and give the same command again; what was complete before is as it was'
    """  # noqa: E501 - one sentence
    for one in causes(error):
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return full_disk(f"{one.filename} could not be written" if one.filename else None)
        if getattr(one, "sqlstate", None) == DISK_FULL_STATE or NO_SPACE in str(one):
            return full_disk("PostgreSQL could not write its files")
    return None


def full_disk(what: str | None = None) -> str:
    """The sentence about a full disk, with what could not be done on it."""
    return (
        f"the disk is full{f': {what}' if what else ''}. Free space on it (`fraud prune` lists what can go), and give "
        "the same command again; what was complete before is as it was"
    )
