"""How complete a month's labels are: what is known, what is still to come, and whether less is known than should be.

A fraud that is known was reported after a delay; the younger a transaction, the shorter the delays that can have been
seen. From the delays so far follows which share of a month's frauds is known by now, and with it how many are still
to come. What is known about a single transaction belongs to `as_of.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import stdtrit

from fraud_assets.core.contracts.contract import TIMESTAMP
from fraud_assets.core.labels.as_of import Blank, labels_as_of
from fraud_assets.core.units import MICROSECONDS_PER_DAY

Floats = npt.NDArray[np.float64]
HALF_AN_HOUR = 1 / 48  # of a day
COMPLETENESS_MONTHS = 12  # of transactions: a longer memory tells of delays and rates that are gone
# Two earlier months show one difference, and a limit from one difference is never undercut.
MINIMUM_EARLIER_MONTHS = 3


@dataclass(frozen=True)
class DelayCurve:
    """Which share of frauds is known so many days after the transaction.

    Attributes:
        days: the delays at which the share rises, ascending, in days.
        share: the share known from that delay on, 0 to 1; 1 at the last, because of longer delays nothing is known.
    """

    days: Floats
    share: Floats

    def at(self, ages: Floats) -> Floats:
        """The share known at each of these ages, in days."""
        return np.append(0.0, self.share)[np.searchsorted(self.days, ages, side="right")]


def delay_curve(delays: Floats, ages: Floats) -> DelayCurve:
    """The distribution of delays from frauds whose delay could be seen only because it is no longer than their age.

    The nonparametric maximum likelihood estimate for right-truncated data: with the reverse hazard g(u), the frauds
    with delay u among those with a delay of at most u and an age of at least u, the share is
    F(d) = product over u > d of (1 - g(u)) (Lagakos, Barraj and De Gruttola, Biometrika 75, 1988, section 3; in
    discrete time Kalbfleisch and Lawless 1989, and Lawless, Canadian Journal of Statistics 22, 1994). An empirical
    distribution of the same delays would make them too short.

    Args:
        delays: days from each known fraud to its first report.
        ages: days from each of these frauds to the moment of knowledge; none is below its delay.

    Returns:
        The curve, given that a delay is no longer than the longest seen.
    """
    seen, n = np.unique(delays, return_counts=True)
    at_risk = np.cumsum(n) - np.searchsorted(np.sort(ages), seen, side="left")
    factors = np.append(1 - (n / at_risk)[1:], 1.0) if len(seen) else np.empty(0)
    return DelayCurve(seen, np.cumprod(factors[::-1])[::-1])


@dataclass(frozen=True)
class MonthCompleteness:
    """The labels of one month's transactions, as known at a moment.

    Attributes:
        month: of the transactions.
        settled_at: when the last of them matures.
        n, n_matured: transactions, and those among them that have matured (to the hour).
        n_fraud: known frauds.
        known_share: the share of the month's frauds that the curve expects to be known; None without a curve.
        still_to_come, still_to_come_low, still_to_come_high: frauds expected to be reported later, with a 95 %
            prediction interval; None where no share is known yet.
        expected, expected_low: frauds that should be known by now at the fraud rate of the months before, and the
            lower end of the 99 % prediction interval; None where they are too few.
    """

    month: str
    settled_at: datetime
    n: int
    n_matured: int
    n_fraud: int
    known_share: float | None
    still_to_come: float | None
    still_to_come_low: float | None
    still_to_come_high: float | None
    expected: float | None
    expected_low: float | None

    @property
    def is_matured(self) -> bool:
        """Whether all transactions have matured; otherwise the month is provisional."""
        return self.n_matured == self.n

    @property
    def is_short(self) -> bool:
        """Whether far fewer frauds are known than should be."""
        return self.expected_low is not None and self.n_fraud < self.expected_low


@dataclass(frozen=True)
class Completeness:
    """The completeness of several months, the delay curve it rests on, and the newest month's own.

    Attributes:
        as_of: the moment of knowledge.
        months: oldest first.
        curve: from the frauds of all months but the newest.
        newest: from those of the newest, given that a delay is no longer than the longest seen there.
    """

    as_of: datetime
    months: tuple[MonthCompleteness, ...]
    curve: DelayCurve
    newest: DelayCurve

    def short_since(self, moment: datetime) -> list[MonthCompleteness]:
        """The months with far too few known frauds, of those that were not settled yet at a moment."""
        return [month for month in self.months if month.settled_at > moment and month.is_short]


# A third of it says what is assumed; the months are gone through in one loop, each with what the earlier ones showed.
def label_completeness(
    counts: pa.Table,
    statements: pa.Table,
    as_of: datetime,
    *,
    maturity_days: float,
    months: Sequence[tuple[str, datetime, datetime]],
    blank: Blank = "genuine_when_mature",
) -> Completeness:
    """What is known of months of transactions at a moment, and what to expect.

    Within a month the fraud rate is taken as constant, and reports as independent: of a month's frauds the share that
    is known is then the curve's mean over the ages of the month's transactions, and the frauds still to come are
    negative binomial given the known ones (reports of a Poisson number of frauds, the rate unknown, Jeffreys' prior).
    The interval does not contain the uncertainty of the curve itself.

    What should be known follows from the fraud rate of the months before, short ones left out. It varies more than
    chance: the variance is scaled by its observed excess, and the limit is Student's (quasi-Poisson; McCullagh and
    Nelder 1989, chapter 6).

    Args:
        counts: `hour` (its first instant, UTC) and `n`, the transactions in it; of all `months`.
        statements: as for `labels_as_of`, with `event_timestamp` (null where the transaction has not been seen).
        as_of: the moment of knowledge, with a time zone; nothing from after it counts.
        maturity_days: of the contract.
        months: name, first instant and first instant after of each month, oldest first.
        blank: of the contract's label. Where blanks are unknown, so is which transactions will be looked into, and
            nothing is expected.
    """
    frauds = known_frauds(statements, months[0][1], as_of, maturity_days)
    # The middle of the hour stands for all of it.
    hours = _days_before(counts["hour"], as_of) - HALF_AN_HOUR
    n = counts["n"].to_numpy().astype(np.float64)
    spans = [tuple(_days_before(pa.chunked_array([span], TIMESTAMP), as_of)) for _, *span in months]
    earlier = frauds.ages > spans[-1][0]
    curve = delay_curve(frauds.delays[earlier], frauds.ages[earlier])
    shares = curve.at(hours)
    found: list[MonthCompleteness] = []
    seen: list[tuple[int, float]] = []
    for (month, _, end), (oldest, youngest) in zip(months, spans, strict=True):
        inside = (hours <= oldest) & (hours > youngest)
        total, exposure = float(n[inside].sum()), float((n * shares)[inside].sum())
        known = int(((frauds.ages <= oldest) & (frauds.ages > youngest)).sum())
        share = exposure / total if total and len(curve.days) and blank != "unknown" else None
        expected, low = _expected(seen, exposure) if blank != "unknown" else (None, None)
        found.append(
            MonthCompleteness(
                month,
                end + timedelta(days=maturity_days),
                int(total),
                int(n[inside & (hours >= maturity_days + HALF_AN_HOUR)].sum()),
                known,
                share,
                *_still_to_come(known, share),
                expected,
                low,
            )
        )
        if not found[-1].is_short:
            # A month whose reports are missing is no measure for the next.
            seen.append((known, exposure))
    return Completeness(as_of, tuple(found), curve, delay_curve(frauds.delays[~earlier], frauds.ages[~earlier]))


def hourly(moments: pa.ChunkedArray) -> pa.Table:
    """How many transactions there are in each hour, as `label_completeness` takes it.

    Args:
        moments: their event times.
    """
    hours = pc.floor_temporal(moments.cast(TIMESTAMP), unit="hour")
    counted = pa.table({"hour": hours}).group_by("hour", use_threads=False).aggregate([([], "count_all")])
    return counted.rename_columns(["hour", "n"])


@dataclass(frozen=True)
class KnownFrauds:
    """Frauds as known at a moment; each of shape (frauds,).

    Attributes:
        transaction_id: which.
        delays: days from each to its first report.
        ages: days from each to the moment of knowledge.
    """

    transaction_id: pa.ChunkedArray
    delays: Floats
    ages: Floats


def known_frauds(statements: pa.Table, since: datetime, as_of: datetime, maturity_days: float) -> KnownFrauds:
    """The transactions from a moment on that are known to be fraud at another.

    Args:
        statements: as for `label_completeness`.
        since: the first event time.
        as_of: the moment of knowledge.
        maturity_days: of the contract.
    """
    # Of frauds from before, only the late reports may be among the statements.
    statements = statements.filter(pc.greater_equal(statements["event_timestamp"], pa.scalar(since, TIMESTAMP)))
    stated = statements.group_by(["transaction_id", "event_timestamp"]).aggregate([])
    labels = labels_as_of(stated, statements, as_of, maturity_days=maturity_days)
    frauds = stated.filter(labels["is_fraud"])
    reports = statements.filter(
        pc.and_(
            pc.greater_equal(statements["label_timestamp"], statements["event_timestamp"]),
            pc.less_equal(statements["label_timestamp"], pa.scalar(as_of, TIMESTAMP)),
        )
    )
    reports = reports.filter(reports["is_fraud"]).group_by("transaction_id").aggregate([("label_timestamp", "min")])
    frauds = frauds.join(reports, "transaction_id", join_type="inner")
    happened, reported = (_microseconds(frauds[name]) for name in ("event_timestamp", "label_timestamp_min"))
    # Of whole microseconds: equal delays stay equal, and none comes out above its age.
    delays = (reported - happened) / MICROSECONDS_PER_DAY
    return KnownFrauds(frauds["transaction_id"], delays, _days_before(frauds["event_timestamp"], as_of))


def _microseconds(moments: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(moments.cast(TIMESTAMP).cast(pa.int64()).to_numpy(), dtype=np.int64)


def _days_before(moments: pa.ChunkedArray, as_of: datetime) -> Floats:
    now = int(pa.scalar(as_of, TIMESTAMP).value)
    return (now - _microseconds(moments)) / MICROSECONDS_PER_DAY


def _still_to_come(known: int, share: float | None) -> tuple[float | None, float | None, float | None]:
    if not share:
        return None, None, None
    if share >= 1:
        return 0.0, 0.0, 0.0
    # Here, because it takes half a second that commands which estimate nothing should not wait.
    from scipy import stats

    low, high = stats.nbinom.ppf([0.025, 0.975], known + 0.5, share)
    return known * (1 - share) / share, float(low), float(high)


def _expected(earlier: Sequence[tuple[int, float]], exposure: float) -> tuple[float | None, float | None]:
    """What a month of this exposure should have, by the rate of months of known frauds and exposures, and its limit."""
    earlier = [(known, size) for known, size in earlier if size > 0]
    if len(earlier) < MINIMUM_EARLIER_MONTHS or exposure <= 0:
        return None, None
    known, sizes = (np.array(column, dtype=np.float64) for column in zip(*earlier, strict=True))
    rate = float(known.sum() / sizes.sum())
    if rate == 0:
        return 0.0, 0.0
    freedom = len(known) - 1
    excess = max(1.0, float((((known - rate * sizes) ** 2) / (rate * sizes)).sum()) / freedom)
    mean = rate * exposure
    spread = math.sqrt(excess * mean * (1 + exposure / float(sizes.sum())))
    return mean, max(0.0, mean - float(stdtrit(freedom, 0.995)) * spread)
