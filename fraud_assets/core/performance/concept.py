"""Concept drift: does the champion still do what its validation promised, on transactions whose truth is known?

What the promise is and what is held against it, average precision, the fraud rate by score, and cost, belong here.
Whether all frauds are known yet belongs to `label_drift.py`, transactions whose truth is not known to `estimation.py`,
how rows come here to `monitoring/outcomes.py`.

Promise and realised are different transactions, so they differ by chance, and more than independent rows would: frauds
come in waves, at one terminal or with one stolen card. Everything is therefore tested with whole terminals and
customers as the unit of chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtr

from fraud_assets.core.drift.causes import first_day
from fraud_assets.core.drift.findings import Cause, DriftKind, DriftStatus, Finding, holm
from fraud_assets.core.evaluation.segments import Segment
from fraud_assets.core.evaluation.thresholds import Flagging
from fraud_assets.core.statistics.bootstrap import (
    Bools,
    Codes,
    Floats,
    PrecisionLadder,
    card_codes,
    identifier_codes,
    independent_cards,
    percentile_interval,
    resamples,
)
from fraud_assets.core.statistics.clusters import (
    covariance,
    pair_clusters,
    pair_windows,
    rao_scott,
    row_days,
    stable,
    tabulate,
)
from fraud_assets.core.statistics.metrics import Costs, average_precision
from fraud_assets.core.words import adjusted_p, percent

# Fewer frauds in either window tell nothing: as for a promotion, the interval of AP would be 0.65 wide.
MINIMUM_FRAUDS = 30
# With fewer days the variance between days is a guess.
MINIMUM_DAYS = 5
BINS = 8
LEAST_EXPECTED = 1.0  # frauds of a bin; of fewer nothing can be a multiple
FRAUDS_A_BIN = 20  # of the promise; with fewer a bin's rate is a guess
# DRIFT and WATCH need an adjusted p below these, over AP and calibration, and over the parts. Less than columns need,
# because a month has all of them, and false alarms add up.
DRIFT_P, WATCH_P = 0.002, 0.005
# Below these nobody acts: a twentieth of AP, a quarter of the frauds elsewhere than promised. The champion is not the
# very model that was validated, which displaces some by itself.
LEAST_AP, LEAST_DISPLACED = 0.05, 0.25
REPLICATES = 100  # a standard error from so many is off by 7 %
CONFIDENCE = 0.90
FEATURES = ("average_precision", "calibration", "cost")
ROWS = 1000  # cost is said of so many transactions
# Frauds are at low scores where up to some score there are a quarter more than promised, and a twentieth of all.
LEAST_RATIO, LEAST_SURPLUS = 1.25, 0.05
# More of the same fraud costs a part of AP at first, while the features do not know the newly stolen cards: a tenth or
# so at twice the rate, in simulated worlds, where hot spots of a new kind cost three tenths.
LEAST_KEPT = 0.8
# Where the frauds are a tenth more than the scores say there are more of the same; else they are elsewhere.
LEAST_MORE = 1.1
# An entity with so many frauds that were not flagged carries them; said where carriers have a tenth more than before.
CARRIED, LEAST_CARRIED = 3, 0.1


@dataclass(frozen=True)
class Labelled:
    """Scored transactions whose truth is known; arrays of shape (n,)."""

    table: pa.Table
    y: Bools
    score: Floats

    @classmethod
    def of(cls, table: pa.Table) -> Labelled:
        """Of a table with `is_fraud` and `score`."""
        return cls(table, table["is_fraud"].to_numpy().astype(np.bool_), table["score"].to_numpy().astype(np.float64))

    @property
    def n_fraud(self) -> int:
        """How many of them are fraud."""
        return int(self.y.sum())

    @property
    def rate(self) -> float:
        """The share of fraud, 0 to 1."""
        return self.n_fraud / len(self.y)


class Spread(NamedTuple):
    """AP, its standard error, and the interval, by whichever entity makes them widest."""

    value: float
    error: float
    low: float
    high: float


def concept_findings(
    promise: pa.Table,
    realised: pa.Table,
    *,
    clusters: Sequence[str],
    card: str | None,
    costs: Costs,
    threshold: float,
    segments: Sequence[Segment] = (),
    more: float = 1.0,
) -> tuple[Finding, ...]:
    """Holds what became of a champion's transactions against what its validation promised.

    Args:
        promise: `event_timestamp`, the entities, `is_fraud`, `score`, and `amount` if the source has one, see
            `TrainingResult.validation`.
        realised: the same of transactions whose truth is known, scored by the champion; none of them older than it.
        clusters: the entities, the units of chance.
        card: the entity whose days are reviewed; None where each transaction is.
        costs: of reviews and missed frauds.
        threshold: the champion's own.
        segments: ways to part the realised rows; how often the champion is right is looked at in each part.
        more: how many times as frequent frauds are as before, by the labels; 1 where they are not, or it is not known.

    Returns:
        `average_precision`, `calibration` and `cost`; and `calibration` of each part with enough frauds that moved,
        WATCH at most, or of the least likely one. All INSUFFICIENT_DATA where there are too few frauds or days.
    """
    before, now = Labelled.of(promise), Labelled.of(realised)
    if reason := _too_few(before, now):
        return tuple(without("concept", feature, reason, before, now) for feature in FEATURES)
    ranking = _ranking(before, now, clusters)
    calibration, at_low_scores = _calibration(before, now, clusters, threshold)
    parts = _parts(before, now, clusters, segments)
    ranking, calibration = _judged_together([ranking, calibration])
    ranking, calibration = _named(ranking, calibration, at_low_scores, more)
    # A part by itself is worth a look and no new model.
    parts = [replace(part, status="WATCH") if part.status == "DRIFT" else part for part in _judged_together(parts)]
    return ranking, calibration, _cost(before, now, card, costs, threshold), *_worth_saying(parts)


def without(
    kind: DriftKind, feature: str, reason: str, before: Labelled | None = None, now: Labelled | None = None
) -> Finding:
    """A finding about what could not be looked at."""
    return Finding(
        kind=kind,
        feature=feature,
        method="none",
        status="INSUFFICIENT_DATA",
        reason=f"{feature.replace('_', ' ')} could not be compared: {reason}",
        n_reference=len(before.y) if before else None,
        n_current=len(now.y) if now else None,
    )


def _too_few(before: Labelled, now: Labelled) -> str | None:
    for name, side in (("the champion's validation", before), ("the transactions that matured since", now)):
        days = len(np.unique(row_days(side.table, name)))
        if side.n_fraud < MINIMUM_FRAUDS or days < MINIMUM_DAYS or side.n_fraud == len(side.y):
            return (
                f"{name} {'has' if side is before else 'have'} {side.n_fraud} frauds in {len(side.y):,} transactions "
                f"of {days} days, and at least {MINIMUM_FRAUDS} frauds in {MINIMUM_DAYS} days are needed"
            )
    return None


# Average precision


def _ranking(before: Labelled, now: Labelled, clusters: Sequence[str]) -> Finding:
    """AP now beside AP promised; only a fall is drift."""
    promised, found = (spread_of_ap(side.table, side.y, side.score, clusters) for side in (before, now))
    difference = found.value - promised.value
    error = math.hypot(promised.error, found.error)
    statistic = difference / error if error > 0 else (0.0 if difference == 0 else math.copysign(math.inf, difference))
    reason = (
        f"average precision is {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] where {promised.value:.3f} was "
        f"promised (difference {difference:+.3f}, give or take {1.645 * error:.3f}), on {now.n_fraud:,} frauds"
    )
    return Finding(
        kind="concept",
        feature="average_precision",
        method="cluster bootstrap",
        status="OK",
        reason=reason,
        n_reference=len(before.y),
        n_current=len(now.y),
        statistic=stable(statistic) if math.isfinite(statistic) else None,
        p_value=stable(float(ndtr(statistic))),
        value_reference=stable(promised.value),
        value_current=stable(found.value),
        value_low=stable(found.low),
        value_high=stable(found.high),
    )


def spread_of_ap(table: pa.Table, y: Bools, score: Floats, clusters: Sequence[str]) -> Spread:
    """AP with its spread over whole entities, the widest of those there are; single rows where there is none."""
    found, value = [], average_precision(y, score)
    for name in clusters or [""]:
        codes, number = card_codes(_ranks(table[name]) if name else None, len(y))
        ladder = PrecisionLadder.of(y, score, codes, number)
        samples = np.concatenate(
            [ladder.average_precision(counts) for counts in resamples(number, ladder.levels, REPLICATES, 0)]
        )
        evidence = independent_cards(y, codes)
        interval = percentile_interval(value, samples, evidence, CONFIDENCE)
        low, high = (interval.low, interval.high) if interval.is_known else (0.0, 1.0)
        known = samples[np.isfinite(samples)]
        # One entity with all the frauds tells nothing about the next one.
        error = float(known.std()) * math.sqrt(evidence / (evidence - 1)) if evidence > 1 else math.inf
        found.append(Spread(value, error, low, high))
    return max(found, key=lambda spread: spread.error)


def _ranks(column: pa.ChunkedArray) -> Codes:
    """Codes of identifiers by their rank, so that draws do not depend on the order of rows; -1 where there is none."""
    encoded = column.combine_chunks().dictionary_encode()
    rank = np.empty(len(encoded.dictionary) + 1, dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(encoded.dictionary))
    rank[-1] = -1
    return cast(Codes, rank[encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)])


# Fraud rate by score


class _Bins(NamedTuple):
    """Frauds by bin of the score, lowest first: promised at the rate of each bin, and found; shape (bins,)."""

    n: Floats
    promised: Floats
    found: Floats

    @property
    def displaced(self) -> float:
        """Share of the frauds that are elsewhere than promised, or more or less than promised, 0 to 1."""
        return float(np.abs(self.found - self.promised).sum() / max(self.found.sum(), self.promised.sum()))

    @property
    def ratio(self) -> float:
        return float(self.found.sum() / self.promised.sum())


def _edges(before: Labelled) -> Floats:
    """Inner edges of bins that hold as many frauds of the promise each."""
    bins = max(2, min(BINS, before.n_fraud // FRAUDS_A_BIN))
    return np.unique(np.quantile(before.score[before.y], np.arange(1, bins) / bins))


def _calibration(before: Labelled, now: Labelled, clusters: Sequence[str], threshold: float) -> tuple[Finding, bool]:
    """The fraud rate by score: the test, where frauds are, and since when; and whether they are at low scores."""
    edges = _edges(before)
    place = [np.searchsorted(edges, side.score, side="right") for side in (before, now)]
    p_value, statistic, bins = _rates_differ(before, now, clusters, place, len(edges) + 1)
    worst = int(np.argmax(np.abs(bins.found - bins.promised)))
    said = (
        f"{bins.found.sum():,.0f} frauds where {bins.promised.sum():,.0f} were promised at these scores, most of the "
        f"difference {_span(edges, worst)}: {bins.found[worst]:,.0f} where {bins.promised[worst]:,.0f} were promised"
    )
    finding = Finding(
        kind="concept",
        feature="calibration",
        method="two-way cluster Rao-Scott",
        status="OK",
        reason=said + _carriers(before, now, clusters, threshold),
        since=_since(now, place[1], bins),
        n_reference=len(before.y),
        n_current=len(now.y),
        statistic=statistic,
        p_value=p_value,
        total_variation=stable(bins.displaced),
        value_reference=1.0,
        value_current=stable(bins.ratio),
    )
    found, promised = np.cumsum(bins.found), np.cumsum(bins.promised)
    at_low_scores = (found >= LEAST_RATIO * promised) & (found - promised >= LEAST_SURPLUS * found[-1])
    return finding, bool(at_low_scores.any())


def _carriers(before: Labelled, now: Labelled, clusters: Sequence[str], threshold: float) -> str:
    """The entity whose few carry more of the frauds that were not flagged than they did."""
    best, said = 0.0, ""
    for name in clusters:
        (_, then), (number, share) = (_carried(side, name, threshold) for side in (before, now))
        if share - then > max(best, LEAST_CARRIED):
            best = share - then
            said = (
                f"; {number:,} ids in {name} have {CARRIED} or more of the frauds that are not flagged, "
                f"{percent(share)} of them, {percent(then)} before"
            )
    return said


def _carried(side: Labelled, name: str, threshold: float) -> tuple[int, float]:
    codes = identifier_codes(side.table[name].filter(pa.array(side.y & (side.score < threshold))))
    if not (codes >= 0).any():
        return 0, 0.0
    together = np.bincount(codes[codes >= 0])
    carriers = together >= CARRIED
    return int(carriers.sum()), float(together[carriers].sum() / len(codes))


def _rates_differ(
    before: Labelled,
    now: Labelled,
    clusters: Sequence[str],
    place: Sequence[npt.NDArray[np.int64]],
    number: int,
) -> tuple[float, float | None, _Bins]:
    """Whether frauds over the sum of the scores differ in some bin by more than chance: p, the statistic, the bins.

    Over the sum of the scores and not over the rows, because the promise is that of models which were fitted before it
    on fewer rows, and within a bin their scores lie otherwise than the champion's.
    """
    windows = pair_windows(row_days(before.table, "promise"), row_days(now.table, "realised"))
    pairs = pair_clusters(before.table, now.table, clusters)
    tables, rates, totals = [], [], []
    for which, (side, window) in enumerate(zip((before, now), windows, strict=True)):
        cell, y, score = window.rows_of(place[which]), window.rows_of(side.y), window.rows_of(side.score)
        weight = window.row_weight
        total = np.maximum(np.bincount(cell, weight * score, minlength=number), LEAST_EXPECTED * weight.mean())
        rate = np.bincount(cell, weight * y, minlength=number) / total
        tables.append(tabulate(window, pairs, which, cell, number, weight=weight * (y - rate[cell] * score)))
        rates.append(rate)
        totals.append(total)
    mean = (rates[0] + rates[1]) / 2
    expected = [
        np.bincount(cell, side.score, minlength=number) for cell, side in zip(place, (before, now), strict=True)
    ]
    # What a bin's difference would vary by if rows were independent and frauds rare: Pearson's weights.
    scale = mean * sum(1 / np.maximum(sums, LEAST_EXPECTED) for sums in expected)
    none = [np.zeros(number)] * 2
    test = rao_scott(rates[1] - rates[0], scale, covariance(windows, pairs, tables, shares=none, totals=totals))
    found = np.bincount(place[1], now.y, minlength=number).astype(np.float64)
    statistic = test.statistic if math.isfinite(test.statistic) else None
    return (
        test.p_value,
        statistic,
        _Bins(np.bincount(place[1], minlength=number).astype(np.float64), rates[0] * expected[1], found),
    )


def _span(edges: Floats, which: int) -> str:
    """A bin of scores in words, with as many digits as tell its ends apart."""
    if which == 0:
        return f"at scores below {edges[0]:.2g}"
    low, high = float(edges[which - 1]), float(edges[which]) if which < len(edges) else 1.0
    digits = next((digits for digits in range(2, 9) if f"{low:.{digits}g}" != f"{high:.{digits}g}"), 9)
    if which == len(edges):
        return f"at scores from {low:.{digits}g}"
    return f"at scores of {low:.{digits}g} to {high:.{digits}g}"


def _since(now: Labelled, place: npt.NDArray[np.int64], bins: _Bins) -> date:
    days, code = np.unique(row_days(now.table, "realised"), return_inverse=True)
    up = bins.found > bins.promised
    if not up.any():
        up = np.ones(len(up), dtype=np.bool_)
    number = len(up)
    found = np.bincount(code * number + place, now.y, minlength=len(days) * number).reshape(-1, number)
    rows = np.bincount(code * number + place, minlength=len(days) * number).reshape(-1, number)
    rate = bins.promised / np.maximum(bins.n, 1)
    total = rows.sum(axis=1)
    counts = np.column_stack([found[:, up].sum(axis=1), total - found[:, up].sum(axis=1)])
    expected = (rows[:, up] @ rate[up]) / total
    return first_day(days, counts, np.column_stack([expected, 1 - expected]), np.array([1.0, 0.0]))


# Parts, cost, verdict


def _parts(before: Labelled, now: Labelled, clusters: Sequence[str], segments: Sequence[Segment]) -> list[Finding]:
    """How many frauds each part has beside what its scores promised, at the rate that a score had in the validation."""
    edges = _edges(before)
    place = [np.searchsorted(edges, side.score, side="right") for side in (before, now)]
    sums, n_fraud = (np.bincount(place[0], weights, minlength=len(edges) + 1) for weights in (before.score, before.y))
    expected = (n_fraud / np.maximum(sums, LEAST_EXPECTED))[place[1]] * now.score
    overall = now.n_fraud / max(float(expected.sum()), 1e-9)
    codes = [card_codes(identifier_codes(now.table[name]), len(now.y)) for name in clusters]
    found = []
    for segment in segments:
        for code, value in enumerate(segment.values):
            rows = segment.codes == code
            number, promised = int(now.y[rows].sum()), float(expected[rows].sum()) * overall
            if promised < MINIMUM_FRAUDS or rows.all():
                continue
            deviation = np.where(rows, now.y - expected * overall, 0.0)
            error = math.sqrt(max(_cluster_variance(codes, deviation), promised))
            statistic = (number - promised) / error
            found.append(
                Finding(
                    kind="concept",
                    feature="calibration",
                    segment=f"{segment.name}={value}",
                    method="two-way cluster z",
                    status="OK",
                    cause="fraud_pattern",
                    reason=(
                        f"{segment.name} {segment.ranges[code] or value} has {number:,} frauds where its scores and "
                        f"the month's level of fraud promised {promised:,.0f}"
                    ),
                    n_current=int(rows.sum()),
                    statistic=stable(statistic),
                    p_value=stable(float(2 * ndtr(-abs(statistic)))),
                    total_variation=stable(abs(number - promised) / max(number, promised)),
                    value_reference=stable(promised / int(rows.sum())),
                    value_current=stable(number / int(rows.sum())),
                )
            )
    return found


def _cluster_variance(clusters: Sequence[tuple[Codes, int]], deviation: Floats) -> float:
    """Of a sum over rows, by entities of each kind: the sum of both kinds, less the rows that count twice."""
    rows = float((deviation**2).sum())
    of_clusters = [float((np.bincount(codes, deviation, minlength=n) ** 2).sum()) for codes, n in clusters]
    return rows + sum(squares - rows for squares in of_clusters)


def _cost(before: Labelled, now: Labelled, card: str | None, costs: Costs, threshold: float) -> Finding:
    """What the champion cost at its threshold; to be known, and never a reason by itself."""
    values = [_cost_of(side, card, costs, threshold) for side in (before, now)]
    return Finding(
        kind="concept",
        feature="cost",
        method="at the champion's threshold",
        status="OK",
        reason=(
            f"reviews and missed frauds cost {values[1]:,.2f} in {ROWS:,} transactions at the champion's threshold, "
            f"where {values[0]:,.2f} were promised"
        ),
        n_reference=len(before.y),
        n_current=len(now.y),
        value_reference=stable(values[0]),
        value_current=stable(values[1]),
    )


def _cost_of(side: Labelled, card: str | None, costs: Costs, threshold: float) -> float:
    amount = side.table["amount"].to_numpy().astype(np.float64) if "amount" in side.table.column_names else None
    flagging = Flagging.of(
        side.y,
        side.score,
        cards=identifier_codes(side.table[card]) if card else None,
        days=row_days(side.table, "realised"),
        amount=amount,
        costs=costs,
    )
    return float(flagging.at(threshold).expected_cost[0]) * flagging.n_days / len(side.y) * ROWS


def _judged_together(findings: Sequence[Finding]) -> list[Finding]:
    adjusted = holm([cast(float, finding.p_value) for finding in findings])
    return [_judged(finding, p) for finding, p in zip(findings, adjusted, strict=True)]


def _judged(finding: Finding, p: float) -> Finding:
    """The finding with its status: WATCH and DRIFT where it is beyond chance and large enough to act on."""
    finding = replace(finding, p_adjusted=stable(p))
    if finding.feature == "average_precision":
        fell = (finding.value_reference or 0.0) - (finding.value_current or 0.0)
        beyond, cause = fell >= LEAST_AP, None
    else:
        beyond, cause = (finding.total_variation or 0.0) >= LEAST_DISPLACED, finding.cause
    status: DriftStatus = "OK"
    if p < WATCH_P and beyond:
        status = "DRIFT" if p < DRIFT_P else "WATCH"
    sure = adjusted_p(p)
    if status == "OK":
        quiet = f"{finding.reason}; not beyond chance or not worth a look, {sure}"
        return replace(finding, cause=None, since=None, reason=quiet)
    begin = "" if finding.since is None else f", since {finding.since}"
    return replace(finding, status=status, cause=cause, reason=f"{finding.reason}{begin}, {sure}")


def _named(ranking: Finding, calibration: Finding, at_low_scores: bool, more: float) -> tuple[Finding, Finding]:
    """What the two look like together.

    The same fraud at twice the rate puts twice as many frauds at low scores, too, and leaves the ranking as good as it
    was, or will be when the features know the new cards; a new pattern does not.
    """
    kept = (ranking.value_current or 0.0) >= LEAST_KEPT * (ranking.value_reference or 0.0)
    cause: Cause = "fraud_pattern"
    words = "frauds are where the champion expects none" if at_low_scores else "scores do not mean what they meant"
    same = ranking.status == "OK" or (more > 1 and kept)
    if same and (calibration.value_current or 0.0) >= LEAST_MORE:
        cause, words = "fraud_rate", "there are more frauds than its scores say"
        words += ", and the champion ranks them as well as it did" if ranking.status == "OK" else ""
    if ranking.status != "OK":
        ranking = replace(ranking, cause=cause if at_low_scores or not kept or cause == "fraud_rate" else None)
    if calibration.status != "OK":
        calibration = replace(calibration, cause=cause, reason=f"{words}: {calibration.reason}")
    return ranking, calibration


def _worth_saying(parts: Sequence[Finding]) -> tuple[Finding, ...]:
    moved = tuple(part for part in parts if part.status != "OK")
    return moved or tuple(sorted(parts, key=lambda part: part.p_value or 0.0)[:1])
