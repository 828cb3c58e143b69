"""Whether a drift report leads to a retraining: the drift sensor's decision, without the sensor.

The rule that one report asks for exactly one retraining, and for another attempt when that failed, belongs
here. Finding the reports and the runs does not (the sensor gathers them), nor what drift is (`drift.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from fraud_assets.core.drift import DRIFT_STATUSES, DriftStatus
from fraud_assets.core.months import check_month

AttemptState = Literal["in_progress", "succeeded", "failed"]


@dataclass(frozen=True)
class DriftSignal:
    """What a month's drift report says.

    Attributes:
        month: the month the report is about.
        drift_status: its verdict.
        report_digest: identifies the report's content, so that a report that changed is another one.

    Raises:
        ValueError: when one of them is not what it must be; a misspelt status would otherwise never retrain.
    """

    month: str
    drift_status: DriftStatus
    report_digest: str

    def __post_init__(self) -> None:
        check_month(self.month)
        if self.drift_status not in DRIFT_STATUSES:
            raise ValueError(
                f"drift_status of {self.month} is {self.drift_status!r}; it must be one of {DRIFT_STATUSES}"
            )
        if not self.report_digest:
            raise ValueError(f"the drift report of {self.month} has no digest; materialise drift_report again")


@dataclass(frozen=True)
class Attempt:
    """A retraining that was requested: for which report, the how many-th (from 1), and how it went."""

    report_digest: str
    number: int
    state: AttemptState

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"attempts are numbered from 1, got {self.number}")
        if self.state not in get_args(AttemptState):
            raise ValueError(
                f"attempt {self.number} has the state {self.state!r}; it must be one of {get_args(AttemptState)}"
            )


@dataclass(frozen=True)
class RetrainingPolicy:
    """How stubborn the platform is.

    Attributes:
        max_attempts: attempts for one report before someone must look. 3: a passing failure (a database that
            restarts, a node that is lost) is over by the second or third, and what fails three times will
            fail again.
    """

    max_attempts: int = 3

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {self.max_attempts}")


@dataclass(frozen=True)
class RetrainingDecision:
    """What the sensor does now.

    Attributes:
        request: whether to request a run.
        attempt_number: of the run to request, from 1; None without a request.
        run_key: under which Dagster launches the run at most once; None without a request.
        pending: whether to look at this month again on later ticks, because its retraining has neither
            succeeded nor been given up.
        reasons: why, as sentences.
    """

    request: bool
    attempt_number: int | None
    run_key: str | None
    pending: bool
    reasons: tuple[str, ...]


def decide_retraining(signal: DriftSignal, attempts: Sequence[Attempt], policy: RetrainingPolicy) -> RetrainingDecision:
    """Decides whether a month's drift report asks for a retraining now.

    Only DRIFT asks. One report asks once: no second run while one is in progress or after one succeeded, and
    after a failure the next attempt until `policy.max_attempts`. A report with another digest starts anew.

    Args:
        signal: the month's latest report.
        attempts: all attempts for this month, of this report and of earlier ones, in any order.
        policy: the limits.
    """
    month, digest = signal.month, signal.report_digest
    if signal.drift_status != "DRIFT":
        return _no(f"drift_status of {month} is {signal.drift_status}; only DRIFT asks for a retraining")
    own = [attempt for attempt in attempts if attempt.report_digest == digest]
    states = {attempt.state for attempt in own}
    last = max((attempt.number for attempt in own), default=0)
    if "succeeded" in states:
        return _no(f"the model was already retrained for this drift report of {month}")
    if "in_progress" in states:
        return _no(f"attempt {last} for this drift report of {month} is in progress", pending=True)
    if last >= policy.max_attempts:
        return _no(
            f"attempt {last} of {policy.max_attempts} for this drift report of {month} failed; "
            "no further one is made: find the cause, then start the retraining by hand"
        )
    number = last + 1
    reason = (
        f"attempt {last} for this drift report of {month} failed; attempt {number} of {policy.max_attempts}"
        if own
        else f"the data of {month} drifted and no retraining was requested for this report yet"
    )
    return RetrainingDecision(True, number, f"retrain:{month}:{digest}:{number}", True, (reason,))


def _no(reason: str, *, pending: bool = False) -> RetrainingDecision:
    return RetrainingDecision(False, None, None, pending, (reason,))
