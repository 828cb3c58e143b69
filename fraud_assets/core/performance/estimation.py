"""The estimate: how the champion does on transactions whose truth is not known yet, as an early warning.

Average precision and fraud rate of unmatured transactions, with an interval, from calibrated scores and from the labels
that are already in, belong here. What is realised on matured ones belongs to `concept.py`, and it alone decides.

Scores alone do not see new fraud in old clothes: an estimate made of them (NannyML's CBPE) stays where it was while
the champion fails. The frauds that are already known do see it. Each score bin's rate is therefore drawn from the
scores towards what the labels say, the further the more surely the two disagree, and the interval widens with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from fraud_assets.core.drift.findings import DriftStatus, Finding
from fraud_assets.core.labels.completeness import DelayCurve
from fraud_assets.core.performance.concept import Labelled, spread_of_ap
from fraud_assets.core.statistics.bootstrap import Bools, Codes, Floats, identifier_codes
from fraud_assets.core.statistics.clusters import stable
from fraud_assets.core.statistics.metrics import average_precision

CONFIDENCE = 0.90
MINIMUM_FRAUDS = 30  # of a window that the scores are recalibrated on, and expected in what is estimated
# Frauds that must be known already: with fewer the labels cannot contradict the scores, and a new kind of fraud would
# go unseen behind a narrow interval.
MINIMUM_KNOWN = 20
BINS = 8
LEVELS = 400  # of the score, in which AP is computed: finer ones change it by less than a thousandth
DRAWS = 400
# How much the rate of a score differs from month to month though nothing has changed, as a share of it.
USUAL_SPREAD = 0.10
# A fall that is worth a look, as in `concept.py`.
LEAST_AP, LEAST_RATIO = 0.05, 1.25
FEATURES = ("average_precision", "fraud_rate")
NAMES = {"average_precision": "average precision", "fraud_rate": "the fraud rate"}
HIGHEST = 0.999  # no score is that sure
LOWEST = 0.02  # no bin is that empty


@dataclass(frozen=True)
class Unmatured:
    """Transactions whose truth is not known yet.

    Attributes:
        table: with the entities.
        score: of the champion, shape (n,).
        known: whether each is known to be fraud by now, shape (n,).
        ages: days since each, shape (n,).
    """

    table: pa.Table
    score: Floats
    known: Bools
    ages: Floats


# A third of it is the estimate's equation in words.
def estimate_findings(
    promise: pa.Table,
    realised: pa.Table | None,
    unmatured: Unmatured,
    curve: DelayCurve,
    *,
    clusters: Sequence[str],
) -> tuple[Finding, ...]:
    """Estimates AP and fraud rate of transactions that have not matured.

    With p the rate of a row's score in the windows whose truth is known, F its delay curve at the row's age, O and E
    the known and the expected known frauds (sum of p F) of a bin of scores, and D the variance of O over E, a bin's
    rate is that of its score times c + k (O / E - c), with c the median of O / E over the bins, drawn towards 1 in the
    same way. The weight k = t / (t + D / E) is that of a normal mean with prior variance t, the usual spread or, where
    the disagreement is larger than chance gives, what is left of it (empirical Bayes: Efron and Morris, JASA 70, 1975;
    method of moments).

    Args:
        promise: as for `concept_findings`.
        realised: the same; None where nothing of the champion's has matured.
        unmatured: what to estimate.
        curve: which share of frauds is known at an age.
        clusters: the entities.

    Returns:
        `average_precision` and `fraud_rate`, WATCH at most, without a value where too little is known.
    """
    settled = [Labelled.of(table) for table in (promise, realised) if table is not None]
    settled = [one for one in settled if one.n_fraud >= MINIMUM_FRAUDS]
    if not settled:
        return unknown(f"fewer than {MINIMUM_FRAUDS} frauds are known of the champion", len(unmatured.score))
    if not len(unmatured.score):
        return unknown("every transaction of the month has matured", 0)
    rates = _Rates.of(settled[-1])
    rate, shares = rates.of_scores(unmatured.score), curve.at(unmatured.ages)
    known, should = int(unmatured.known.sum()), float((rate * shares).sum())
    if min(known, should) < MINIMUM_KNOWN:
        return unknown(
            f"{known} of their frauds are known yet where the scores let {should:.0f} expect, and {MINIMUM_KNOWN} are "
            "needed to tell whether the scores still hold",
            len(unmatured.score),
        )
    posterior = _Posterior.of(unmatured, rates, rate, shares, clusters)
    draws = _Draws.of(unmatured, rates, rate, shares, posterior)
    spread = spread_of_ap(settled[-1].table, settled[-1].y, settled[-1].score, clusters)
    promised = average_precision(settled[0].y, settled[0].score)
    # What frauds of the same rates differ by from window to window.
    chance = spread.error * math.sqrt(settled[-1].n_fraud / max(draws.frauds, 1.0))
    ap_error = math.hypot(float(draws.of_ap.std()), chance)
    to_come = max(draws.frauds - known, 0.0)
    rate_error = math.sqrt(float(draws.of_rate.var()) + posterior.dispersion * to_come / len(unmatured.score) ** 2)
    before = math.sqrt(posterior.dispersion * settled[0].n_fraud) / len(settled[0].y)
    least = known / len(unmatured.score)
    return (
        _finding(
            "average_precision", draws.ap, ap_error, (0.0, 1.0), (promised, spread.error), settled[0], unmatured, known
        ),
        _finding(
            "fraud_rate", draws.rate, rate_error, (least, 1.0), (settled[0].rate, before), settled[0], unmatured, known
        ),
    )


def unknown(reason: str, n: int | None = None) -> tuple[Finding, ...]:
    """Findings about what cannot be estimated."""
    return tuple(
        Finding(
            kind="estimate",
            feature=feature,
            method="none",
            status="INSUFFICIENT_DATA",
            reason=f"{NAMES[feature]} of the transactions that have not matured is not known: {reason}",
            n_current=n,
        )
        for feature in FEATURES
    )


@dataclass(frozen=True)
class _Rates:
    """Fraud rates of scores, as a settled window had them; arrays of shape (bins,).

    Attributes:
        edges: inner edges of bins that hold as many of its frauds each.
        factor: frauds over the sum of the scores.
        n_fraud: frauds.
    """

    edges: Floats
    factor: Floats
    n_fraud: Floats

    @classmethod
    def of(cls, settled: Labelled) -> _Rates:
        bins = max(2, min(BINS, settled.n_fraud // MINIMUM_FRAUDS))
        edges = np.unique(np.quantile(settled.score[settled.y], np.arange(1, bins) / bins))
        place = np.searchsorted(edges, settled.score, side="right")
        n_fraud = np.bincount(place, settled.y, minlength=len(edges) + 1).astype(np.float64)
        promised = np.bincount(place, settled.score, minlength=len(edges) + 1)
        return cls(edges, n_fraud / np.maximum(promised, 1e-12), n_fraud)

    def place(self, score: Floats) -> Codes:
        return np.searchsorted(self.edges, score, side="right").astype(np.int64)

    def of_scores(self, score: Floats) -> Floats:
        return np.asarray(np.minimum(score * self.factor[self.place(score)], HIGHEST))


@dataclass(frozen=True)
class _Posterior:
    """By how much the rates of the bins are off, as known from the labels that are in; arrays of shape (bins,)."""

    mean: Floats
    variance: Floats
    dispersion: float

    @classmethod
    def of(
        cls, unmatured: Unmatured, rates: _Rates, rate: Floats, shares: Floats, clusters: Sequence[str]
    ) -> _Posterior:
        place, number = rates.place(unmatured.score), len(rates.n_fraud)
        found = np.bincount(place, unmatured.known, minlength=number)
        expected = np.maximum(np.bincount(place, rate * shares, minlength=number), 1e-9)
        codes = [identifier_codes(unmatured.table[name]) for name in clusters]
        spread = np.array(
            [dispersion(codes, unmatured.known & (place == which), float(expected[which])) for which in range(number)]
        )
        # Of the count, and of the rate that it is held against.
        chance = spread / expected + spread / np.maximum(rates.n_fraud, 1)
        overall = dispersion(codes, unmatured.known, float(expected.sum()))
        # More of the same fraud puts each bin off by about as much, a new pattern some of them: so the median.
        common = float(np.median(found / expected)) - 1
        common_chance = overall / float(expected.sum()) + overall / float(rates.n_fraud.sum())
        centre = 1 + float(_weight(np.array([common]), np.array([common_chance]))[0]) * common
        off = found / expected - centre
        weight = _weight(off, chance)
        return cls(np.maximum(centre + weight * off, LOWEST), weight * chance, overall)


def _weight(off: Floats, chance: Floats) -> Floats:
    """How much of a deviation to believe, whose variance by chance is known."""
    usual = np.maximum(USUAL_SPREAD**2, off**2 - chance)
    return np.asarray(usual / (usual + chance))


def dispersion(codes: Sequence[Codes], frauds: Bools, expected: float) -> float:
    """Variance of the number of some frauds over that of independent ones: those of one entity come together."""
    excess = 0.0
    for code in codes:
        of_frauds = code[frauds & (code >= 0)]
        if len(of_frauds):
            together = np.bincount(of_frauds)
            excess += float((together * (together - 1)).sum())
    return 1 + excess / max(float(frauds.sum()), expected)


@dataclass(frozen=True)
class _Draws:
    """AP and fraud rate at the posterior's mean, and at draws from it, shape (draws,)."""

    ap: float
    rate: float
    frauds: float
    of_ap: Floats
    of_rate: Floats

    @classmethod
    def of(cls, unmatured: Unmatured, rates: _Rates, rate: Floats, shares: Floats, posterior: _Posterior) -> _Draws:
        # Rows by levels that expect as many frauds each, within bins, the highest score first.
        order = np.lexsort((unmatured.ages, -unmatured.score))
        before = np.cumsum(rate[order])
        level = np.empty(len(order), dtype=np.int64)
        level[order] = np.minimum(before * LEVELS / before[-1], LEVELS - 1).astype(np.int64)
        bins = len(rates.n_fraud)
        _, level = np.unique(level * bins + (bins - 1 - rates.place(unmatured.score)), return_inverse=True)
        n = np.bincount(level).astype(np.float64)
        known = np.bincount(level, unmatured.known)
        mean_rate, share = np.bincount(level, rate) / n, np.bincount(level, shares) / n
        place = np.zeros(len(n), dtype=np.int64)
        place[level] = rates.place(unmatured.score)

        def measure(factor: Floats) -> tuple[Floats, Floats]:
            """Of factors of each bin, shape (bins, draws)."""
            chance = np.minimum(mean_rate[:, None] * factor[place], HIGHEST)
            share_unknown = share[:, None]
            frauds = known[:, None] + (n - known)[:, None] * chance * (1 - share_unknown) / (1 - chance * share_unknown)
            total = frauds.sum(axis=0)
            precision = np.cumsum(frauds, axis=0) / np.cumsum(n)[:, None]
            return (frauds * precision).sum(axis=0) / total, total

        generator = np.random.default_rng(0)
        shape = posterior.mean**2 / posterior.variance
        drawn = generator.gamma(shape[:, None], (posterior.mean / shape)[:, None], (bins, DRAWS))
        ap, total = measure(posterior.mean[:, None])
        of_ap, totals = measure(drawn)
        return cls(float(ap[0]), float(total[0]) / len(order), float(total[0]), of_ap, totals / len(order))


def _finding(
    feature: str,
    value: float,
    error: float,
    bounds: tuple[float, float],
    promise: tuple[float, float],
    promised: Labelled,
    unmatured: Unmatured,
    known: int,
) -> Finding:
    """The estimate beside the promise, each with its standard error."""
    before, before_error = promise
    wide = float(ndtri((1 + CONFIDENCE) / 2))
    low, high = max(value - wide * error, bounds[0]), min(value + wide * error, bounds[1])
    beyond = wide * math.hypot(error, before_error)
    fell = feature == "average_precision" and value + beyond < before - LEAST_AP
    rose = feature == "fraud_rate" and value - beyond > before * LEAST_RATIO
    status: DriftStatus = "WATCH" if fell or rose else "OK"
    digits = 3 if feature == "average_precision" else 5
    reason = (
        f"{NAMES[feature]} of {len(unmatured.score):,} transactions that have not matured is estimated at "
        f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}], where {before:.{digits}f} was promised; {known:,} "
        "of their frauds are known so far"
    )
    return Finding(
        kind="estimate",
        feature=feature,
        method="scores and labels so far",
        status=status,
        cause=None if status == "OK" else "fraud_rate" if rose else "fraud_pattern",
        reason=reason,
        n_reference=len(promised.y),
        n_current=len(unmatured.score),
        value_reference=stable(before),
        value_current=stable(value),
        value_low=stable(low),
        value_high=stable(high),
    )
