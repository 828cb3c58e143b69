"""What was delivered, and when: how long a history is, and where it has gaps.

Features that look back are what they will stay once their windows are full; a month that was not delivered, or of which
hardly anything was, empties them again. What the months are compared with belongs to `windows.py` and `month.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Contract
from fraud_assets.core.drift.findings import Finding
from fraud_assets.core.windows import Window

TRANSACTIONS = "transactions"  # what the finding about them calls its feature
# A week without rows is a gap where a week has many; where rows are rare, four weeks are.
LENGTHS = (7, 28)
# A gap has fewer than this share of the usual rows: a quiet season has more, a delivery that was cut off has fewer.
THIN = 0.25
# And so many standard deviations fewer: where ten rows a week are usual, a week of two is nothing.
CLEAR = 4.0
USUAL_DAYS, LEAST_USUAL_DAYS = 84, 28  # before, that tell what is usual
# Where it lasts longer, the business has become smaller, and what is usual begins anew.
LONGEST = 92
NOTHING = 0.02  # less than this share of the usual rows is no business, however long
# Of a month under report that has fewer days in a gap, the others are the month.
LEAST_DAYS = 7
DAYS_TO_COMPARE = 5  # `DriftConfig.min_days`
FEW_ROWS = 10  # what so few days more or less of a gap would have had tells nothing
EPOCH = date(1970, 1, 1)

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gap(Window):
    """Days of which nothing was delivered, or hardly anything.

    Attributes:
        rows: that they have.
        usual: that so many days had before.
    """

    rows: int
    usual: int

    @property
    def words(self) -> str:
        """Which days, and how much of them is there.

        >>> day = datetime.fromisoformat
        >>> Gap(day("2024-04-01"), day("2024-05-01"), 12, 900).words
        '2024-04-01 to 2024-04-30 (12 rows, where about 900 are usual)'
        """
        rows = f"{self.rows:,} row{'' if self.rows == 1 else 's'}"
        last = self.end - timedelta(hours=12)
        return f"{self.start:%Y-%m-%d} to {last:%Y-%m-%d} ({rows}, where about {self.usual:,} are usual)"


@dataclass(frozen=True)
class History:
    """How far back the platform's transactions go, and where they have gaps.

    Attributes:
        first_event: the first transaction there is.
        gaps: in order.
    """

    first_event: datetime
    gaps: tuple[Gap, ...] = ()

    def breaks(self, window: Window, days: float = 0.0) -> list[Gap]:
        """The gaps in a window and the days before it, by at least half a day."""
        start, least = window.start - timedelta(days=days), timedelta(hours=12)
        return [gap for gap in self.gaps if min(gap.end, window.end) - max(gap.start, start) >= least]

    def disturbing(self, window: Window, days: float) -> list[Gap]:
        """Those after which a window has rows that look back so far: not one with which the window ends."""
        return [gap for gap in self.breaks(window, days) if not (gap.start > window.start and gap.end >= window.end)]

    def is_full(self, window: Window, days: float) -> bool:
        """Whether features that look back so far are, in a window, what they stay: nothing they look at is missing."""
        began = self.first_event + timedelta(days=days) <= window.start
        return days == 0 or (began and not self.disturbing(window, days))


def history_of(moments: pa.ChunkedArray, first_event: datetime, end: datetime, contract: Contract) -> History:
    """Finds the gaps up to a moment.

    Args:
        moments: event times of all transactions of some months in a row, the last ones before `end`.
        first_event: the first transaction the platform has, which may be older.
        end: the first instant that is not looked at; a day without rows before it counts.
        contract: its days are those of its time zone.
    """
    local = pc.local_timestamp(moments.cast(TIMESTAMP).cast(pa.timestamp("us", contract.timezone)))
    days = local.cast(pa.timestamp("us")).cast(pa.date32(), safe=False).cast(pa.int32()).to_numpy().astype(np.int64)
    last = (end.astimezone(contract.zone) - timedelta(microseconds=1)).date()
    stop = (last - EPOCH).days + 1
    days = days[days < stop]
    if not len(days):
        return History(first_event)
    first = int(days.min())
    counts = np.bincount(days - first, minlength=stop - first).astype(np.float64)

    found = []
    for begin, stop, usual in thin_days(counts):
        low, high = _by_month(first + begin, first + stop, usual)
        rows = int(counts[low - first : high - first].sum())
        found.append(Gap(_midnight(low, contract), _midnight(high, contract), rows, round(usual * (high - low))))
    return History(first_event, tuple(found))


def _midnight(day: int, contract: Contract) -> datetime:
    at = EPOCH + timedelta(days=day)
    return datetime(at.year, at.month, at.day, tzinfo=contract.zone)


def _by_month(start: int, end: int, usual: float) -> tuple[int, int]:
    """A gap's first day and the first after it, as those of months where rows are too rare to tell days apart."""
    days = np.arange(start, end + 1)
    edges = days[days.astype("datetime64[D]") == days.astype("datetime64[D]").astype("datetime64[M]")]
    if len(edges) > 1:
        start = int(edges[0]) if (edges[0] - start) * usual < FEW_ROWS else start
        end = int(edges[-1]) if (end - edges[-1]) * usual < FEW_ROWS else end
    return start, end


def thin_days(counts: Counts) -> list[tuple[int, int, float]]:
    """The spans of days with hardly any rows, beside the twelve weeks before them.

    Args:
        counts: rows of each day, days without any included, shape (days,).

    Returns:
        First day and first day after of each span, and the rows a day that were usual before.

    >>> thin_days(np.array([30.0] * 40 + [0.0] * 30 + [30.0] * 20))
    [(40, 70, 30.0)]
    """
    thin = np.zeros(len(counts), np.bool_)
    usual = np.zeros(len(counts))
    day = LEAST_USUAL_DAYS
    while day < len(counts):
        before = np.flatnonzero(~thin[:day])[-USUAL_DAYS:]
        if len(before) >= LEAST_USUAL_DAYS:
            usual[day] = counts[before].mean()
            for length in LENGTHS:
                if day + length <= len(counts) and _is_thin(counts[day : day + length], counts[before]):
                    thin[day : day + length] = True
        if day >= LONGEST and thin[day - LONGEST : day + 1].all():
            start = int(np.flatnonzero(~thin[: day + 1])[-1]) + 1
            # Its edges may hold some days of what is around it, so that the middle one of some weeks tells.
            weeks = counts[day - LENGTHS[1] * 2 + 1 : day + 1].reshape(-1, LENGTHS[0]).sum(axis=1)
            if np.median(weeks) >= NOTHING * usual[start] * LENGTHS[0]:
                # The business has become smaller.
                thin[start:] = False
        day += 1
    edges = np.flatnonzero(np.diff(np.concatenate([[False], thin, [False]]).astype(np.int8)))
    found = []
    for start, end in edges.reshape(-1, 2).tolist():
        level = usual[start]
        # A span of so many days need not begin and end with thin ones.
        low = np.flatnonzero(counts[start:end] < THIN * level)
        if len(low):
            found.append((start + int(low[0]), start + int(low[-1]) + 1, float(level)))
    return found


def _is_thin(now: Counts, before: Counts) -> bool:
    length = len(now)
    expected = float(before.mean()) * length
    blocks, weeks = (before[len(before) % days :].reshape(-1, days).sum(axis=1) for days in (length, LENGTHS[0]))
    # Of few long blocks the spread may be small by chance.
    spread = float(weeks.std(ddof=1)) * np.sqrt(length / LENGTHS[0])
    few = float(now.sum())
    # Where rows come in batches, weeks without any are no news.
    least = float(blocks.min()) if len(blocks) else 0.0
    return few < min(THIN * expected, least / 2) and expected - few > CLEAR * max(np.sqrt(expected), spread)


def delivery_finding(history: History, window: Window) -> Finding | None:
    """Whether a part of a month was not delivered; None where all of it seems to be there.

    Days that are missing at the end are a remark, where enough are there to be compared: the newest file often ends
    within a month, and is no broken feed.
    """
    gaps = history.breaks(window)
    if not gaps:
        return None
    inside = [Window(max(gap.start, window.start), min(gap.end, window.end)) for gap in gaps]
    words = "hardly any transactions were delivered of " + ", ".join(gap.words for gap in gaps)
    finding = Finding(
        kind="missing", feature=TRANSACTIONS, method="rows by day", status="DRIFT", cause="missing_rows", reason=words,
        n_reference=sum(gap.usual for gap in gaps), n_current=sum(gap.rows for gap in gaps),
        since=inside[0].start.date(),
    )  # fmt: skip
    ends_early = len(inside) == 1 and inside[0].end == window.end and window.days - inside[0].days >= DAYS_TO_COMPARE
    if ends_early:
        words += "; the delivery seems to end there, and the days before are what was compared"
    elif sum(one.days for one in inside) < LEAST_DAYS:
        words += "; of the month, all other days are there"
    else:
        return finding
    return replace(finding, status="INSUFFICIENT_DATA", cause=None, since=None, reason=words)
