"""Label drift: do labels come as they did, and is there as much fraud as there was?

How long reports take beside how long they took, how many frauds are known beside how many should be by now, and the
fraud rate of transactions whose truth is final, belong here. The delay curve itself belongs to
`labels/completeness.py`; which frauds they are, and whether the champion sees them, to `concept.py`.

A fraud whose report is late looks like a genuine transaction. So what labels say is looked at first, and a fall in
known frauds is blamed on the labels: a lower fraud rate is never concluded from reports that are not there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr

from fraud_assets.core.contracts.contract import TIMESTAMP
from fraud_assets.core.drift.findings import Cause, DriftStatus, Finding, holm
from fraud_assets.core.labels.completeness import DelayCurve, KnownFrauds, delay_curve, known_frauds
from fraud_assets.core.statistics.bootstrap import Bools, Codes, Floats, identifier_codes
from fraud_assets.core.statistics.clusters import stable
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.windows import Window
from fraud_assets.core.words import percent

# Fewer frauds, or reports, on either side tell nothing.
MINIMUM_FRAUDS = 30
# DRIFT and WATCH need an adjusted p below these, as in `concept.py`.
DRIFT_P, WATCH_P = 0.002, 0.01
# Below these nobody acts: a quarter more or fewer frauds; reports that come a twentieth of all reports later.
LEAST_RATIO, LEAST_DELAY = 1.25, 0.05
YOUNG_RATIO = 3.0  # in the simulator's first month there are half as many frauds as later
# Where the others of so many transactions are all frauds, genuine ones are not there.
ALL_FRAUD = 0.995
# Of frauds whose labels are called final, so many must be known: usual delays of the simulator leave 2 % out.
LEAST_KNOWN = 0.90
# Two windows show a single difference, so that with fewer only what is large can be DRIFT.
MINIMUM_EARLIER, LARGE_RATIO = 3, 1.5
EARLIER_MONTHS = 6  # as many as the other kinds look back
FEATURES = ("delay_days", "known_frauds", "fraud_rate")


def label_findings(
    moments: pa.ChunkedArray,
    statements: pa.Table,
    windows: Sequence[Window],
    *,
    start: datetime,
    as_of: datetime,
    maturity_days: float,
    clusters: Sequence[str],
    young: bool = False,
) -> tuple[Finding, ...]:
    """Compares what became known of a month's labels with what became known in earlier months.

    Args:
        moments: event times of all transactions of the windows and since.
        statements: as for `labels_as_of`, with `event_timestamp` and the entities, about the same transactions.
        windows: matured windows of successive months, oldest first; the last is the month's own.
        start: the month's first instant.
        as_of: its end; nothing from after it counts.
        maturity_days: of the contract.
        clusters: the entities: frauds of one terminal or customer come together.
        young: whether the earlier windows are of the platform's first weeks, in which there are fewer frauds than
            later; only a move by `YOUNG_RATIO` is more than that.

    Returns:
        `delay_days`: how long the reports took that came in the month. `known_frauds`: frauds known among the
        transactions that have not matured, where the delays let so many be expected. `fraud_rate`: of the month's
        matured window.
    """
    first = pc.min(moments).as_py()
    frauds = _Frauds.of(known_frauds(statements, first, as_of, maturity_days), statements, as_of, clusters)
    before = known_frauds(statements, first, start, maturity_days)
    few = f"{len(before.delays)} frauds were known before the month, and {MINIMUM_FRAUDS} are needed"
    if max(len(before.delays), len(frauds.happened)) < MINIMUM_FRAUDS:
        return tuple(without(feature, few) for feature in FEATURES)
    if len(before.delays) < MINIMUM_FRAUDS:
        # Where there was hardly any fraud, how long reports take is told by the month's own.
        usual = delay_curve(frauds.reported - frauds.happened, _day(as_of) - frauds.happened)
    else:
        usual = delay_curve(before.delays, before.ages)
    exposure = _Exposure(np.sort(_since_epoch(moments)), usual, as_of)
    unmatured = Window(windows[-1].end, as_of)
    if len(before.delays) < MINIMUM_FRAUDS:
        found = [without("delay_days", few), without("known_frauds", few)]
    else:
        found = [
            _delays(frauds, usual, first, start, as_of),
            _frauds_known(frauds, exposure, windows, unmatured, "known_frauds"),
        ]
    found.append(_frauds_known(frauds, exposure, windows[:-1], windows[-1], "fraud_rate"))
    tested = [finding for finding in found if finding.p_value is not None]
    adjusted = iter(holm([finding.p_value or 0.0 for finding in tested]))
    judged = [
        finding if finding.p_value is None else replace(finding, p_adjusted=stable(next(adjusted))) for finding in found
    ]
    least = YOUNG_RATIO if young else LEAST_RATIO
    named = _named(judged, len(windows) - 1, _share_known(frauds, exposure, windows[-1]), least)
    own = Window(max(windows[-1].start, start), windows[-1].end)
    own = own if own.days >= 1 else windows[-1]
    return tuple(_all_fraud(finding, int(frauds.within(own).sum()), exposure.of(own)[0]) for finding in named)


def without(feature: str, reason: str) -> Finding:
    """A finding about what could not be looked at."""
    said = f"{feature.replace('_', ' ')} could not be compared: {reason}"
    return Finding(kind="label", feature=feature, method="none", status="INSUFFICIENT_DATA", reason=said)


@dataclass(frozen=True)
class _Frauds:
    """Known frauds: when they happened and were reported, days since 1970, and codes of their entities."""

    happened: Floats
    reported: Floats
    clusters: tuple[Codes, ...]

    @classmethod
    def of(cls, known: KnownFrauds, statements: pa.Table, as_of: datetime, clusters: Sequence[str]) -> _Frauds:
        first = pc.index_in(known.transaction_id, value_set=statements["transaction_id"].combine_chunks())
        happened = _day(as_of) - known.ages
        codes = tuple(identifier_codes(statements[name].take(first)) for name in clusters)
        return cls(happened, happened + known.delays, codes)

    def within(self, window: Window) -> Bools:
        return np.asarray((self.happened >= _day(window.start)) & (self.happened < _day(window.end)))

    def dispersion(self, rows: Bools) -> float:
        """Variance of their number over that of independent frauds: two-way clusters of one size each."""
        number = int(rows.sum())
        excess = 0.0
        for codes in self.clusters:
            of_rows = codes[rows]
            together = np.bincount(of_rows[of_rows >= 0]) if (of_rows >= 0).any() else np.zeros(1)
            excess += float((together * (together - 1)).sum())
        return 1 + excess / max(number, 1)


@dataclass(frozen=True)
class _Exposure:
    """How many transactions there are, as far as their frauds should be known."""

    moments: Floats
    curve: DelayCurve
    as_of: datetime

    def of(self, window: Window) -> tuple[int, float]:
        """Transactions of a window, and how many would have been reported if all were fraud."""
        first, last = np.searchsorted(self.moments, [_day(window.start), _day(window.end)])
        return int(last - first), float(self.curve.at(_day(self.as_of) - self.moments[first:last]).sum())


# How long reports take


def _delays(frauds: _Frauds, usual: DelayCurve, first: datetime, start: datetime, as_of: datetime) -> Finding:
    """Reports that came in the month beside those of earlier months of the same length.

    Where the frauds of a day have all delays from l to u that put their reports into the month, a report's place is
    (F(d) - F(l)) / (F(u) - F(l)) with F the usual curve: uniform whatever the number of frauds of that day was, so a
    rising fraud rate is not taken for shorter delays. The mean place is compared with that of earlier months, because
    reports that come in batches are not uniform in any month; without any, with the middle.
    """
    length = as_of - start
    spans = [(start, as_of)]
    # The first month has no reports that took longer.
    while len(spans) <= EARLIER_MONTHS and spans[-1][0] - length >= first + length:
        spans.append((spans[-1][0] - length, spans[-1][0]))
    found = [_places(frauds, usual, *span) for span in spans]
    current, earlier = found[0], [one for one in found[1:] if len(one.place) >= MINIMUM_FRAUDS]
    if len(current.place) < MINIMUM_FRAUDS:
        return without("delay_days", f"{len(current.place)} reports came in the month, {MINIMUM_FRAUDS} are needed")
    means = np.array([one.place.mean() for one in earlier] or [0.5])
    # The median: one late month among them shall not make lateness usual.
    size = float(current.place.mean() - np.median(means))
    between = float(means.var(ddof=1)) if len(means) >= MINIMUM_EARLIER else 0.0
    error = math.sqrt(current.variance + sum(one.variance for one in earlier) / len(means) ** 2 + between)
    z = size / error if error > 0 else (0.0 if size == 0 else math.copysign(math.inf, size))
    now = float(np.median(current.days))
    then = float(np.median(np.concatenate([one.days for one in earlier]))) if earlier else _median(usual)
    how = "later than" if size > 0 else "sooner than"
    reason = (
        f"reports of fraud that came in the month took {now:.1f} days (median), {then:.1f} in the months before, "
        f"on {len(current.place):,} reports"
    )
    if abs(size) >= LEAST_DELAY:
        reason += f": they come {how} usual, also if as many frauds happened as ever"
    return Finding(
        kind="label",
        feature="delay_days",
        method="truncated delays",
        status="OK",
        reason=reason,
        n_reference=sum(len(one.place) for one in earlier),
        n_current=len(current.place),
        total_variation=stable(abs(size)),
        statistic=stable(z) if math.isfinite(z) else None,
        p_value=stable(_two_sided(z)),
        value_reference=stable(then),
        value_current=stable(now),
    )


def _median(curve: DelayCurve) -> float:
    return float(curve.days[np.searchsorted(curve.share, 0.5)])


@dataclass(frozen=True)
class _Places:
    place: Floats
    days: Floats
    variance: float


def _places(frauds: _Frauds, usual: DelayCurve, start: datetime, end: datetime) -> _Places:
    begin, stop = _day(start), _day(end)
    rows = (frauds.reported > begin) & (frauds.reported <= stop)
    happened, delay = frauds.happened[rows], frauds.reported[rows] - frauds.happened[rows]
    low = np.where(happened < begin, usual.at(np.maximum(begin - happened, 0.0)), 0.0)
    mass = usual.at(stop - happened) - low
    # The middle of a jump: where all reports take as long, each is in its place.
    middle = (usual.at(delay) + usual.at(np.nextafter(delay, -np.inf))) / 2 - low
    never = np.where(usual.at(delay) >= 1, 1.0, 0.0)
    place = np.clip(np.where(mass > 0, middle / np.where(mass > 0, mass, 1.0), never), 0.0, 1.0)
    variance = 0.0
    surplus = place - place.mean() if len(place) else place
    # Reports of one day came together, and those of one customer.
    for codes in (np.floor(frauds.reported[rows]).astype(np.int64), *(codes[rows] for codes in frauds.clusters)):
        known = codes >= 0
        _, code = np.unique(codes[known], return_inverse=True)
        sums = np.bincount(code, surplus[known]) if known.any() else np.zeros(1)
        variance = max(variance, float((sums**2).sum()) / max(len(place), 1) ** 2)
    # Places that are all alike have no spread to tell chance by; a uniform one has.
    least = 1 / 12 / max(len(place), 1) if len(place) and np.ptp(place) == 0 and place[0] != 0.5 else 0.0
    return _Places(place, delay, max(variance, least))


# How many frauds there are


def _frauds_known(
    frauds: _Frauds, exposure: _Exposure, earlier: Sequence[Window], window: Window, feature: str
) -> Finding:
    """Frauds of a window beside what the rate of earlier windows, and the delays, let expect."""
    counts = [
        (int(rows.sum()), frauds.dispersion(rows), *exposure.of(one))
        for one in earlier
        for rows in [frauds.within(one)]
    ]
    counts = [one for one in counts if one[3] > 0]
    known, n, exposed = sum(one[0] for one in counts), sum(one[2] for one in counts), sum(one[3] for one in counts)
    rows = frauds.within(window)
    number, (n_now, exposed_now) = int(rows.sum()), exposure.of(window)
    if exposed_now <= 0:
        return without(feature, "no fraud can be known yet, because reports take longer")
    if exposed <= 0 or max(known, number) < MINIMUM_FRAUDS:
        return without(feature, f"earlier months have {known} known frauds, and {MINIMUM_FRAUDS} are needed")
    # Half a fraud, where there was none (Jeffreys' prior of a count).
    rate = max(known, 0.5) / exposed
    expected = rate * exposed_now
    if max(expected, number) < MINIMUM_FRAUDS:
        return without(feature, f"{expected:.0f} frauds should be known by now, and {MINIMUM_FRAUDS} are needed")
    dispersion = max(
        max(one[1] for one in counts),
        frauds.dispersion(rows),
        sum((one[0] - rate * one[3]) ** 2 / (rate * one[3]) for one in counts) / max(len(counts) - 1, 1)
        if len(counts) >= MINIMUM_EARLIER
        else 1.0,
    )
    # On the root, where the variance of a count does not depend on it (Anscombe, 1948).
    error = math.sqrt(dispersion / 4 * (1 + exposed_now / exposed))
    z = (math.sqrt(number) - math.sqrt(expected)) / error
    half = 1.645 * 2 * error
    now = [max(math.sqrt(number) + step, 0.0) ** 2 / exposed_now for step in (-half / 2, 0.0, half / 2)]
    what = "transactions whose labels are final" if feature == "fraud_rate" else "transactions that have not matured"
    reason = (
        f"{number:,} frauds are known among {n_now:,} {what} ({window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}), where "
        f"{expected:,.0f} were to be expected by the rate before and the usual delays"
    )
    if number >= ALL_FRAUD * n_now and rate >= ALL_FRAUD:
        reason += "; all of them are frauds, as before: there is nothing to tell them from"
    return Finding(
        kind="label",
        feature=feature,
        method="delay-corrected counts",
        status="OK",
        reason=reason,
        n_reference=n,
        n_current=n_now,
        statistic=stable(z),
        p_value=stable(_two_sided(z)),
        value_reference=stable(rate),
        value_current=stable(now[1]),
        value_low=stable(now[0]),
        value_high=stable(now[2]),
    )


def _share_known(frauds: _Frauds, exposure: _Exposure, window: Window) -> float:
    """Which share of a window's frauds is known by the delays since it began; 1 where too few tell."""
    since = frauds.happened >= _day(window.start)
    if since.sum() < MINIMUM_FRAUDS:
        return 1.0
    newest = delay_curve((frauds.reported - frauds.happened)[since], _day(exposure.as_of) - frauds.happened[since])
    n, known = replace(exposure, curve=newest).of(window)
    return known / n if n else 1.0


# What it means


def _named(found: Sequence[Finding], earlier: int, share: float, least: float) -> tuple[Finding, ...]:
    """Statuses and causes: the delays first, because late labels explain what is missing.

    Args:
        found: delays, frauds known, and the fraud rate.
        earlier: earlier windows.
        share: of the frauds whose labels should be final, those that are known.
        least: how many times more or fewer frauds are worth a look.
    """
    delays, *counts = found
    size = delays.total_variation or 0.0
    later = (delays.value_current or 0.0) > (delays.value_reference or 0.0)
    moved = _beyond(delays, WATCH_P) and size >= LEAST_DELAY
    if moved:
        # Reports that come sooner are known, and hide nothing.
        sure = later and _beyond(delays, DRIFT_P) and size >= 2 * LEAST_DELAY
        delays = replace(delays, status="DRIFT" if sure else "WATCH", cause="label_delay")
    if moved and not later:
        counts = counts[1:]
    named = [_counted(finding, moved and later, earlier, least) for finding in counts]
    if share < LEAST_KNOWN and named[-1].status == "OK":
        words = (
            f"only {percent(share)} of the frauds are known by the delays of late: maturity_days is too short for them"
        )
        named[-1] = replace(named[-1], status="WATCH", cause="label_delay", reason=f"{named[-1].reason}: {words}")
    return delays, *found[1 : 3 - len(named)], *named


def _counted(finding: Finding, late: bool, earlier: int, least: float) -> Finding:
    """What a number of frauds means."""
    if finding.value_current is None or not finding.value_reference:
        return finding
    ratio = finding.value_current / finding.value_reference
    beyond = max(ratio, 1 / max(ratio, 1e-9))
    # The first weeks of a platform know of fewer frauds, not of more.
    if not _beyond(finding, WATCH_P) or beyond < (least if ratio > 1 else LEAST_RATIO):
        return finding
    enough = earlier >= MINIMUM_EARLIER or beyond >= LARGE_RATIO
    status: DriftStatus = "DRIFT" if _beyond(finding, DRIFT_P) and enough else "WATCH"
    cause: Cause = "label_delay" if late else "few_labels"
    words = "fewer frauds are reported, or fewer happen: those who give the labels know"
    if late:
        words = "reports do not come as they did, so how many frauds there are cannot be told yet"
    elif ratio > 1:
        cause, words = "fraud_rate", f"frauds are {ratio:.1f} times as frequent"
        if finding.feature == "known_frauds":
            # Of what has not matured, the later reports are guessed.
            status = "WATCH"
    return replace(finding, status=status, cause=cause, reason=f"{finding.reason}: {words}")


def _all_fraud(finding: Finding, number: int, n: int) -> Finding:
    """Of a month in which all are frauds where not all were, the genuine ones are missing."""
    if finding.cause != "fraud_rate" or finding.feature != "fraud_rate" or n < MINIMUM_FRAUDS or number < ALL_FRAUD * n:
        return finding
    words = f"of the {n:,} transactions of the month that have matured, {number:,} are frauds: genuine ones are missing"
    return replace(finding, cause="missing_rows", reason=f"{finding.reason}; {words}")


def _beyond(finding: Finding, limit: float) -> bool:
    return finding.p_adjusted is not None and finding.p_adjusted < limit


def _two_sided(z: float) -> float:
    return float(2 * ndtr(-abs(z)))


def _day(moment: datetime) -> float:
    return float(pa.scalar(moment, TIMESTAMP).value) / MICROSECONDS_PER_DAY


def _since_epoch(moments: pa.ChunkedArray) -> Floats:
    return np.asarray(moments.cast(TIMESTAMP).cast(pa.int64()).to_numpy(), dtype=np.float64) / MICROSECONDS_PER_DAY
