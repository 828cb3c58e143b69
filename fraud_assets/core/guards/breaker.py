"""The decline breaker: when too much is held or declined within a while, something is wrong with the model or a rule.

What is counted and when it opens is decided here; what a service does then belongs to `bentos/fraud_scorer/guards`, and
where it is written down to `adapters/guards`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from fraud_assets.core.units import SECONDS_PER_DAY
from fraud_assets.core.words import percent

BreakerMode = Literal["previous", "review"]
BREAKER_VARIABLES = ("FRAUD_BREAKER_SHARE", "FRAUD_BREAKER_SECONDS", "FRAUD_BREAKER_SCORES", "FRAUD_BREAKER_MODE")
# A window is counted in so many parts: what is older than the window by less than one of them still counts.
PARTS = 60


@dataclass(frozen=True)
class BreakerConfig:
    """When the breaker opens, and what happens then.

    Attributes:
        share: of transactions that are held or declined, from which on it opens; None for never. There is no default:
            how many customers may be stopped is nothing that a platform can know, and a limit that opens by itself
            changes answers that nobody asked it to.
        seconds: length of the window. 300: a bad model shows within minutes, and a burst of one shop is over by then.
        least: scores in the window before it can open. 200: with less, a share of some percent is chance.
        mode: `previous`, the previous champion answers; `review`, what a rule would decline is reviewed instead.

    Raises:
        ValueError: for a share, a window or a number that cannot be.
    """

    share: float | None = None
    seconds: float = 300.0
    least: int = 200
    mode: BreakerMode = "previous"

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"the breaker cannot open at a share of {self.share:g}: it is above 0, and at most 1")
        if not 1 <= self.seconds <= SECONDS_PER_DAY:
            raise ValueError(f"the breaker's window cannot be {self.seconds:g} s: it is 1 to {SECONDS_PER_DAY:,}")
        if self.least < 1:
            raise ValueError(f"the breaker cannot open on {self.least} scores: it takes 1 or more")
        if self.mode not in ("previous", "review"):
            raise ValueError(f"the breaker has no mode {self.mode!r}; there are previous and review")


@dataclass(frozen=True)
class Opening:
    """Why the breaker opens.

    Attributes:
        n: scores in the window.
        n_held: of them, those that model or rules held or declined.
    """

    n: int
    n_held: int

    def in_words(self, config: BreakerConfig, version: int) -> str:
        """In a sentence.

        >>> Opening(400, 120).in_words(BreakerConfig(share=0.1), 6)
        '120 of 400 transactions (30.0 %) within 300 s were held or declined with version 6; the limit is 10.0 %'
        """
        return (
            f"{self.n_held:,} of {self.n:,} transactions ({percent(self.n_held / self.n)}) within {config.seconds:g} s "
            f"were held or declined with version {version}; the limit is {percent(config.share or 0)}"
        )


class SlidingWindow:
    """Counts what is held in the last seconds; for one thread at a time."""

    def __init__(self, config: BreakerConfig) -> None:
        """Empty."""
        self._config = config
        self._part = config.seconds / PARTS
        # Of each part: when it began, scores, those held.
        self._parts: deque[list[float]] = deque()
        self._n = self._n_held = 0

    def add(self, now: float, n: int, n_held: int) -> Opening | None:
        """Counts transactions, and says why the breaker opens; None where it does not.

        Args:
            now: by a clock that never goes back, in seconds.
            n: how many were answered.
            n_held: of them, those that the model or a rule held or declined.
        """
        if self._config.share is None:
            return None
        while self._parts and self._parts[0][0] <= now - self._config.seconds - self._part:
            _, gone, gone_held = self._parts.popleft()
            self._n -= int(gone)
            self._n_held -= int(gone_held)
        if self._parts and now < self._parts[-1][0] + self._part:
            self._parts[-1][1] += n
            self._parts[-1][2] += n_held
        else:
            self._parts.append([now, n, n_held])
        self._n += n
        self._n_held += n_held
        if self._n < self._config.least or self._n_held < self._config.share * self._n:
            return None
        return Opening(self._n, self._n_held)

    def clear(self) -> None:
        """Forgets what was counted."""
        self._parts.clear()
        self._n = self._n_held = 0
