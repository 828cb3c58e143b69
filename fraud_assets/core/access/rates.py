"""How often somebody may ask: a bucket that fills steadily, and of which each request takes one."""

from __future__ import annotations

import math

# A bucket holds what comes in within so many seconds: so much may be sent at once after a pause.
BURST_SECONDS = 10.0


class Bucket:
    """Lets a number of requests through in a minute, some of them at once.

    >>> bucket = Bucket(60, now=0.0)
    >>> [bucket.take(0.0) for _ in range(11)][-2:]
    [0, 1]
    >>> bucket.take(1.0)
    0
    """

    def __init__(self, per_minute: int, now: float) -> None:
        """A full one.

        Args:
            per_minute: requests, 1 or more.
            now: by a clock that never goes back, in seconds.
        """
        self.per_minute = per_minute
        self._pace = per_minute / 60
        self._most = max(1.0, self._pace * BURST_SECONDS)
        self._there, self._at = self._most, now

    def take(self, now: float) -> int:
        """Takes one: 0 where there was one, else the seconds after which there will be, rounded up."""
        self._there = min(self._most, self._there + (now - self._at) * self._pace)
        self._at = now
        if self._there >= 1:
            self._there -= 1
            return 0
        return math.ceil((1 - self._there) / self._pace)
