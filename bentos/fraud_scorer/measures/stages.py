"""How long the stages of a request take, and which features are missing: of a sample, counted in a thread.

A request only notes moments, which takes less than a microsecond each, and leaves them here. Of those that come within
`DRAIN_SECONDS` the newest `MOST` stay, so that a busy service spends no more on it than a quiet one.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import Counter, Histogram

logger = logging.getLogger("bentoml.fraud_scorer")

DRAIN_SECONDS = 0.5
MOST = 100
# Of a large request; the rest has the same columns.
MOST_ROWS = 100

# At module level, as prometheus_client knows each metric of a process once.
STAGES = Histogram(
    "fraud_scorer_stage_seconds",
    "Seconds that a stage took, of a sample of requests: wait, read, features, score, explain, keep, write",
    ["stage"],
    buckets=(
        0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0,
    ),
)  # fmt: skip
ROWS = Counter("fraud_scorer_feature_rows", "Rows of the sample of which the features were looked at")
MISSING = Counter("fraud_scorer_feature_missing", "Of these, those without a value, by feature", ["feature"])

Features: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]


class Clock:
    """Notes when the stages of a request end; one for each request."""

    __slots__ = ("_began", "_last", "_stages", "laps")

    def __init__(self, stages: Stages) -> None:
        """Begins; `stages` is told at the end."""
        self.laps: list[tuple[str, float]] = []
        self._stages = stages
        self._began = self._last = perf_counter()

    def again(self) -> None:
        """What was noted came to nothing: its time is part of the first stage of what is tried now."""
        self.laps.clear()
        self._last = self._began

    def lap(self, stage: str) -> None:
        """What was done since the last one was this stage."""
        now = perf_counter()
        self.laps.append((stage, now - self._last))
        self._last = now

    def end(self, stage: str, features: Features, names: Sequence[str]) -> None:
        """The request is answered, with this last stage; see `Stages.note`."""
        self.lap(stage)
        self._stages.note(self, features, names)


class Stages:
    """Takes what requests noted, and counts it."""

    def __init__(self) -> None:
        self._noted: deque[tuple[Clock, Features, Sequence[str]]] = deque(maxlen=MOST)
        # Here and not above: Arrow loads pandas to make it.
        self._some = pa.array(range(MOST_ROWS))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._drain_often, name="stages", daemon=True)

    def start(self) -> None:
        """Begins to count."""
        self._thread.start()

    def close(self) -> None:
        """Counts what is left, and no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def note(self, clock: Clock, features: Features, names: Sequence[str]) -> None:
        """Takes a request that was answered; never waits.

        Args:
            clock: of the request.
            features: that were scored.
            names: those of the model.
        """
        if len(features) > MOST_ROWS:
            # Copied, so that the rest of a large request is let go.
            features = features.take(self._some) if isinstance(features, pa.Table) else features[:MOST_ROWS]
        self._noted.append((clock, features, names))

    def _drain_often(self) -> None:
        over = False
        while not over:
            over = self._over.wait(DRAIN_SECONDS)
            try:
                self._drain()
            except Exception:
                # What cannot be counted must not end the counting of what comes.
                logger.exception("requests cannot be counted")

    def _drain(self) -> None:
        n_rows, missing = 0, dict[str, int]()
        while self._noted:
            clock, features, names = self._noted.popleft()
            for stage, seconds in clock.laps:
                STAGES.labels(stage).observe(seconds)
            n_rows += len(features)
            for name, n in missing_of(features, names).items():
                missing[name] = missing.get(name, 0) + n
        ROWS.inc(n_rows)
        for name, n in missing.items():
            if n:
                MISSING.labels(name).inc(n)


def missing_of(features: Features, names: Sequence[str]) -> dict[str, int]:
    """How many rows have no value, by feature.

    >>> missing_of([{"a": 1.0, "b": None}, {"a": float("nan"), "b": "x"}, {"a": 0.0, "b": "y"}], ["a", "b"])
    {'a': 1, 'b': 1}
    """
    if isinstance(features, pa.Table):
        nulls = {name: pc.is_null(features[name], nan_is_null=True) for name in names}
        return {name: int(pc.sum(found).as_py() or 0) for name, found in nulls.items()}
    # Only NaN differs from itself.
    return {name: sum((value := row[name]) is None or value != value for row in features) for name in names}
