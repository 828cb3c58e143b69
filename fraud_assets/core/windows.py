"""Which rows a month may look at: everything in a month's partition is as known at the month's end.

Training sees matured rows, evaluation the rows that matured during the month and, where those have few frauds, in the
months before, drift the month itself beside the champion's window. What is computed on these rows belongs to
`models/training.py`, `evaluation/evaluation.py` and `drift/covariate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
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
# What a window needs to judge a model, and so what it is made longer for. 20: with fewer, the interval of average
# precision is so wide that hardly any model is shown to be better than chance.
MINIMUM_FRAUDS = 20
DAYS_A_MONTH = 365.25 / 12
# A challenger and the champion are compared over all windows since both were there, at most so many months of them:
# what a model did more than a year ago says little of the next month.
PAIR_MONTHS = 12


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


def pair_window(window: Window, month: str, maturity_days: float, since: datetime, zone: tzinfo = UTC) -> Window:
    """What challenger and champion are compared on: all windows since both were there, up to the month's own.

    Each transaction is in it once. It begins at most `PAIR_MONTHS` back, or with the month's own window.

    Args:
        window: the month's own.
        month: the month of the evaluation.
        maturity_days: of the contract.
        since: the as-of time of the newer of the two models, or another moment from which on they are compared.
        zone: in which months are cut.
    """
    oldest = matured_window(shift_month(month, 1 - PAIR_MONTHS), maturity_days, zone).start
    return Window(max(since, min(window.start, oldest)), window.end)


@dataclass(frozen=True)
class Comparison:
    """Which models are judged in a month, and on what.

    Attributes:
        challenger: beside the champion; None when there is none yet.
        window: from after the as-of time of each of them, and matured at the month's end.
        n_fraud: frauds in it, as known then.
    """

    challenger: TrainedMonth | None
    window: Window
    n_fraud: int


# Gives the event times of the frauds of a window, as they are known at the month's end.
Frauds = Callable[[Window], Collection[datetime]]


def choose_comparison(
    trained: Iterable[TrainedMonth],
    month: str,
    maturity_days: float,
    champion: TrainedMonth | None,
    frauds: Frauds,
    zone: tzinfo = UTC,
) -> Comparison:
    """The challenger that can be judged in a month, and the window for it and the champion.

    Where the month's own matured window has enough frauds, it is that, and the newest model. Where it has too few, the
    window is made longer by one month after the other, never to before the as-of time of a model in the comparison;
    the newest model for which there are enough then is the challenger. While there is none, it is the oldest: it
    gathers the most evidence, and a model that gave way to each newer one would never have enough.

    Args:
        trained: the models there are.
        month: the month of the evaluation.
        maturity_days: of the contract.
        champion: what is live; None when nothing is.
        frauds: what is known. It is asked for as few months as it takes.
        zone: in which months are cut.
    """
    trained, live = list(trained), [champion] if champion else []
    newest = choose_challenger(trained, month, maturity_days, champion.version if champion else None, zone)
    if newest is None and champion is None:
        return Comparison(None, matured_window(month, maturity_days, zone), 0)
    own = evaluation_window(month, maturity_days, [*live, *([newest] if newest else [])], zone)
    if (n := len(frauds(own))) >= MINIMUM_FRAUDS:
        return Comparison(newest, own, n)
    found = _pooled(newest, live, month, maturity_days, frauds, zone)
    for older in _older(newest, trained, champion):
        if found.n_fraud >= MINIMUM_FRAUDS:
            break
        found = _pooled(older, live, month, maturity_days, frauds, zone)
    return found


def _older(
    newest: TrainedMonth | None, trained: Iterable[TrainedMonth], champion: TrainedMonth | None
) -> list[TrainedMonth]:
    """The models between the champion and the newest, the newest of them first; of each month the last version."""
    if newest is None:
        return []
    between = {
        model.month: model
        for model in sorted(trained, key=lambda model: model.version)
        if (champion is None or champion.as_of < model.as_of) and model.as_of < newest.as_of
    }
    return [between[month] for month in sorted(between, reverse=True)]


def _pooled(
    challenger: TrainedMonth | None,
    live: list[TrainedMonth],
    month: str,
    maturity_days: float,
    frauds: Frauds,
    zone: tzinfo,
) -> Comparison:
    """The shortest window of whole months back that has enough frauds, or the longest there is."""
    models = [*live, challenger] if challenger else live
    first, end = max(model.as_of for model in models), matured_window(month, maturity_days, zone).end
    start_month = month
    while True:
        start = max(first, matured_window(start_month, maturity_days, zone).start)
        window = Window(start, end)
        n = len(frauds(window))
        if n >= MINIMUM_FRAUDS or start == first:
            return Comparison(challenger, window, n)
        start_month = shift_month(start_month, -1)


def when_enough(
    n: int, needed: int, window: Window, maturity_days: float, zone: tzinfo = UTC, one: str = "fraud"
) -> str:
    """When there will be enough frauds if they go on as in a window: the end of a sentence.

    Args:
        n: frauds in the window.
        needed: how many it takes.
        window: of event times, all of them matured.
        maturity_days: of the contract; a fraud counts only after them.
        zone: in which months are cut.
        one: of what there are too few.

    >>> when_enough(12, 30, Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 4, 1, tzinfo=UTC)), 14)
    'at the present rate of 4 a month, about 2024-08'
    """
    if not n:
        return f"when that will be cannot be told, since no {one} is known yet"
    rate = n / max(window.days / DAYS_A_MONTH, 1.0)
    ahead = timedelta(days=(needed - n) / rate * DAYS_A_MONTH + maturity_days)
    if ahead > timedelta(days=3650):
        return f"at the present rate of {_in_words(rate)}, not within ten years"
    return f"at the present rate of {_in_words(rate)}, about {(window.end + ahead).astimezone(zone):%Y-%m}"


def _in_words(rate: float) -> str:
    return f"{max(round(rate), 1)} a month" if rate >= 2 / 3 else f"one in {round(1 / rate)} months"


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
