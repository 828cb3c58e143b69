"""Which rows a month may look at: everything in a month's partition is as known at the month's end.

Training sees matured rows, evaluation the rows that matured during the month, drift the month itself beside the
champion's window. What is computed on these rows belongs to `training.py`, `evaluation.py` and `drift.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.months import month_end, month_start, shift_month

REFERENCE_DAYS = 92  # a season; a longer reference tells of a world that is gone
MINIMUM_REFERENCE_DAYS = 14  # every weekday twice
# Most windows are full by then; features with longer ones are compared when theirs are.
FILLING_DAYS = 30
SETTLED_DAYS = 28  # the reference taken instead, see `reference_window`


@dataclass(frozen=True)
class Window:
    """Event times `start <= t < end`."""

    start: datetime
    end: datetime

    @property
    def days(self) -> float:
        """Its length in days; negative when it is empty."""
        return (self.end - self.start) / timedelta(days=1)


def month_window(month: str, zone: tzinfo = UTC) -> Window:
    """From a month's first instant to the next month's."""
    return Window(month_start(month, zone), month_end(month, zone))


def rows_within(rows: pa.Table, window: Window) -> pa.Table:
    """The rows whose `event_timestamp` lies in a window."""
    moment = rows["event_timestamp"]
    start, end = (pa.scalar(edge, moment.type) for edge in (window.start, window.end))
    return rows.filter(pc.and_(pc.greater_equal(moment, start), pc.less(moment, end)))


@dataclass(frozen=True)
class TrainedMonth:
    """A registered model, the month at whose end it was trained, and the zone in which months are cut."""

    month: str
    version: int
    zone: tzinfo = UTC

    @property
    def as_of(self) -> datetime:
        """The moment of knowledge it was trained with."""
        return month_end(self.month, self.zone)


def matured_window(month: str, maturity_days: float, zone: tzinfo = UTC) -> Window:
    """The transactions whose truth became final during the month.

    Each transaction lies in the window of exactly one month, and at that month's end all of its window is matured.
    """
    maturity = timedelta(days=maturity_days)
    return Window(month_start(month, zone) - maturity, month_end(month, zone) - maturity)


def months_back(maturity_days: float) -> int:
    """How many months before M the matured window of M can begin."""
    return -int(-maturity_days // 28)


def choose_challenger(
    trained: Iterable[TrainedMonth], month: str, maturity_days: float, champion: int | None, zone: tzinfo = UTC
) -> TrainedMonth | None:
    """The newest model that can be judged in a month, other than the champion.

    A model is judged on transactions from after its as-of time only; one that was trained after the middle of the
    matured window would have too few of them and waits for the next month.
    """
    window = matured_window(month, maturity_days, zone)
    middle = window.start + (window.end - window.start) / 2
    eligible = [model for model in trained if model.as_of <= middle and model.version != champion]
    return max(eligible, key=lambda model: (model.month, model.version), default=None)


def evaluation_window(month: str, maturity_days: float, models: Iterable[TrainedMonth], zone: tzinfo = UTC) -> Window:
    """The part of the month's matured window that lies after the as-of time of every model in the comparison."""
    window = matured_window(month, maturity_days, zone)
    return Window(max([window.start, *(model.as_of for model in models)]), window.end)


def training_months(month: str, window_months: int | None, first_month: str) -> tuple[str, str]:
    """First and last month whose rows a model of the month may see; None for all months there are."""
    return (first_month if window_months is None else max(shift_month(month, 1 - window_months), first_month)), month


def reference_window(
    training: Window,
    first_event: datetime,
    maturity_days: float,
    month: str,
    zone: tzinfo = UTC,
    gaps: Sequence[Window] = (),
) -> Window | None:
    """The champion's training window, as far as it can be compared with the month.

    In the first days of a platform's history, and after a gap in it, features that look back are still filling: such
    rows differ from any later month without anything having changed, so they are left out. Of what a gap leaves in
    several parts, the last one that is long enough is taken. If there is none of `MINIMUM_REFERENCE_DAYS`, the first
    `SETTLED_DAYS` after the history had filled are taken, if they had passed before the month began.

    Args:
        training: first and last event time of the champion's training rows.
        first_event: the first transaction the platform has.
        maturity_days: of the contract; reports of fraud begin to arrive so long after the first transaction.
        month: the month under test.
        zone: in which months are cut.
        gaps: times of which nothing was delivered, or hardly anything, in order.

    Returns:
        The window, at most `REFERENCE_DAYS` long and entirely before the month; None when there is none.
    """
    latest = month_start(month, zone)
    begun = max(training.start, training.end - timedelta(days=REFERENCE_DAYS))
    filling, settled = timedelta(days=FILLING_DAYS + maturity_days), timedelta(days=SETTLED_DAYS)
    starts = [first_event + filling, *(gap.end + filling for gap in gaps)]
    ends = [*(min(gap.start, latest) for gap in gaps), latest]
    spans = [Window(start, end) for start, end in zip(starts, ends, strict=True)]
    for span in reversed(spans):
        window = Window(max(begun, span.start), min(training.end, span.end))
        if window.days >= MINIMUM_REFERENCE_DAYS:
            return window
    return next((Window(one.start, one.start + settled) for one in spans if one.start + settled <= one.end), None)
