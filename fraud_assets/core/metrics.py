"""How good a ranking of transactions is, with intervals that know rows of one customer belong together.

Average precision, ROC AUC, card precision@k a day, recall at a fixed false-positive rate, value detection
rate, calibration, and the decision threshold that a review team's capacity implies. What to do about the
numbers belongs in promotion.py; comparing data with data, without labels, in drift.py. Accuracy is nowhere:
at a prevalence of 0.8 % a model that never says fraud has 99.2 %.

Everything here sees matured labels only: a transaction whose `is_fraud` is not yet known must be left out by
the caller, never passed as genuine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int64]

# 4 million doubles a block keep the bootstrap near 200 MB whatever the number of rows, cards or replicates.
_CELLS_AT_ONCE = 4_000_000

_LARGEST_FLAGGED_SHARE = 0.10


class MetricsError(ValueError):
    """Labels or scores from which a metric cannot be computed."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are NaN where no interval can be given."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the estimate and both bounds are finite."""
        return all(math.isfinite(number) for number in (self.value, self.low, self.high))


@dataclass(frozen=True)
class Metrics:
    """One model on one window of matured transactions.

    Attributes:
        n, n_fraud: transactions, and how many of them are fraud.
        prevalence: n_fraud / n, the average precision of a ranking by chance.
        average_precision: the headline, 0 to 1.
        roc_auc: 0 to 1; 0.5 by chance.
        card_precision: CP@k, the mean over days of the share of fraudulent cards among the day's k first.
        k: cards a day that card_precision looks at.
        recall_at_fpr_1pct: the largest share of frauds caught while at most 1 % of genuine rows are flagged.
        threshold: the decision threshold that value_detection_rate was computed at.
        value_detection_rate: share of the fraud amount that scores at or above the threshold; None where the
            source has no amount, or no fraud with a known positive one.
        brier: mean squared difference of score and label; NaN where a score is no probability.
        observed_over_expected: frauds seen / sum of scores, 1 when calibrated in the large, above 1 when the
            scores are too low; infinite when every score is 0, NaN where a score is no probability.
    """

    n: int
    n_fraud: int
    prevalence: float
    average_precision: Interval
    roc_auc: Interval
    card_precision: Interval
    k: int
    recall_at_fpr_1pct: float
    threshold: float
    value_detection_rate: float | None
    brier: float
    observed_over_expected: float

    def as_row(self) -> dict[str, int | float | None]:
        """One flat row for a table; an interval takes three columns, and what is not finite becomes None."""
        row: dict[str, int | float | None] = {}
        for name, value in vars(self).items():
            if isinstance(value, Interval):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                row[name] = value
        return {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}


def evaluate_scores(
    y: ArrayLike,
    score: ArrayLike,
    *,
    cards: ArrayLike | None,
    days: ArrayLike,
    amount: ArrayLike | None,
    threshold: float,
    k: int = 100,
    replicates: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> Metrics:
    """Computes every metric of one model on one window.

    Intervals come from a cluster bootstrap that draws whole cards with replacement: rows of one customer are
    not independent, and an interval that treats them so is too narrow (Field and Welsh, Bootstrapping
    clustered data, JRSS B 69, 2007, 369-390). They are expanded percentiles (Hesterberg, What Teachers Should
    Know about the Bootstrap, The American Statistician 69, 2015, 371-386), whose sample size is the number of
    cards with a fraud (or with a genuine row, if fewer): plain percentiles of few clusters are too narrow.
    Replicates that drew no fraud or no genuine row are left out. Bounds are NaN when fewer than two cards
    carry a fraud, or fewer than two a genuine row: one card tells nothing about the spread between cards.

    On simulated cards with bursts of fraud, nominal 95 % intervals of AP covered the truth in 95, 95 and 94 %
    of 800 windows with about 9, 19 and 96 defrauded cards; drawing single rows instead covered 71 to 78 %.
    Those of ROC AUC covered 78, 81 and 92 %, failing on the high side: below about 100 defrauded cards take
    them as too confident, since a few unusual cards that the window may lack move the far tail.

    Args:
        y: whether each transaction is fraud, matured labels, shape (n,).
        score: fraud scores, higher is more suspicious, shape (n,).
        cards: integer code of each transaction's customer, shape (n,); a negative code means unknown, and
            that transaction is a card of its own. None when the source has no customer: all are.
        days: integer ordinal of each transaction's day, shape (n,).
        amount: amounts in the source's currency, shape (n,), NaN where unknown; None when there is none.
        threshold: transactions that score at or above it are flagged (`score_threshold`).
        k: cards that can be reviewed in a day.
        replicates: bootstrap samples; at 200 a bound of AP moves by about a tenth of the interval's
            half-width from seed to seed.
        seed: of the bootstrap; the same seed gives the same bounds.
        confidence: of the intervals, between 0 and 1.

    Raises:
        MetricsError: when there is no row, no fraud or no genuine row, when a score is NaN or infinite, when
            a label is neither true nor false, or when lengths differ.
    """
    labels, scores = _checked(y, score)
    codes, n_cards = _card_codes(cards, len(labels))
    ladder = _Ladder.of(labels, scores, codes, n_cards)
    day_ladder = _DayLadder.of(labels, scores, codes, n_cards, _integers("days", days, len(labels)))

    once = np.ones((n_cards, 1))
    values = np.vstack([*ladder.ap_and_auc(once), day_ladder.card_precision(once, k)])
    samples = np.hstack(
        [
            np.vstack([*ladder.ap_and_auc(counts), day_ladder.card_precision(counts, k)])
            for counts in _resamples(n_cards, max(ladder.levels, day_ladder.levels), replicates, seed)
        ]
    )
    evidence = _independent_cards(labels, codes)
    average_precision, roc_auc, card_precision = (
        _interval(float(value[0]), sample, evidence, confidence) for value, sample in zip(values, samples, strict=True)
    )
    is_probability = bool(scores.min() >= 0 and scores.max() <= 1)
    n_fraud, expected = int(labels.sum()), float(scores.sum())
    return Metrics(
        n=len(labels),
        n_fraud=n_fraud,
        prevalence=n_fraud / len(labels),
        average_precision=average_precision,
        roc_auc=roc_auc,
        card_precision=card_precision,
        k=k,
        recall_at_fpr_1pct=recall_at_fpr(labels, scores, 0.01),
        threshold=float(threshold),
        value_detection_rate=value_detection_rate(labels, scores, amount, threshold),
        brier=float(np.mean((scores - labels) ** 2)) if is_probability else math.nan,
        observed_over_expected=(math.nan if not is_probability else n_fraud / expected if expected > 0 else math.inf),
    )


def paired_ap_difference(
    y: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    cards: ArrayLike | None,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    *,
    terminals: ArrayLike | None = None,
) -> Interval:
    """Average precision of the challenger minus that of the champion on the same transactions.

    Both are computed on the same bootstrap samples of cards, so that what makes a sample easy or hard for
    both cancels; comparing two separate intervals would miss most real differences.

    Args:
        y: whether each transaction is fraud, shape (n,).
        champion_score: scores of the model that is live, shape (n,).
        challenger_score: scores of the newer one, shape (n,); the two scales need not agree.
        cards: as for `evaluate_scores`.
        replicates: more than for a description, because a decision hangs on one bound.
        seed: of the bootstrap.
        confidence: between 0 and 1.
        terminals: integer codes of the terminals, shape (n,), negative where unknown. When given, terminals
            are drawn too and the wider of the two intervals is returned: a hijacked terminal defrauds many
            cards at once, which drawing cards does not see. For two models trained on different months of
            the Fraud Detection Handbook's data, terminals made the interval 1.4 times as wide as cards.

    Returns:
        The difference, -1 to 1, with NaN bounds where `evaluate_scores` has them, for either clustering.

    Raises:
        MetricsError: as `evaluate_scores`.
    """
    labels, champion_scores = _checked(y, champion_score)
    _, challenger_scores = _checked(y, challenger_score)
    intervals = []
    for clusters in [cards] if terminals is None else [cards, terminals]:
        codes, n_clusters = _card_codes(clusters, len(labels))
        champion = _Ladder.of(labels, champion_scores, codes, n_clusters)
        challenger = _Ladder.of(labels, challenger_scores, codes, n_clusters)
        levels = max(champion.levels, challenger.levels)
        value, *blocks = (
            challenger.ap_and_auc(counts)[0] - champion.ap_and_auc(counts)[0]
            for counts in itertools.chain([np.ones((n_clusters, 1))], _resamples(n_clusters, levels, replicates, seed))
        )
        evidence = _independent_cards(labels, codes)
        intervals.append(_interval(float(value[0]), np.hstack(blocks), evidence, confidence))
    # An unknown interval is the widest of all.
    return max(intervals, key=lambda interval: interval.high - interval.low if interval.is_known else math.inf)


def average_precision(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Sum over thresholds of (recall gained) x (precision there), not interpolated, as in scikit-learn.

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: shape (n,); equal scores are one threshold.
        weight: weights of the rows, 0 or more, shape (n,); all 1 when absent.

    Raises:
        MetricsError: as `evaluate_scores`.

    >>> round(average_precision([True, False, True, False], [0.9, 0.8, 0.7, 0.1]), 4)  # (1/1 + 2/3) / 2
    0.8333
    """
    return _weighted_ap_and_auc(y, score, weight)[0]


def roc_auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None = None) -> float:
    """The chance that a fraud scores above a genuine row, a tie counting half (Hanley and McNeil, 1982).

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: shape (n,).
        weight: weights of the rows, 0 or more, shape (n,); all 1 when absent.

    Raises:
        MetricsError: as `evaluate_scores`.

    >>> roc_auc([True, False, True, False], [0.9, 0.8, 0.7, 0.1])  # 3 of 4 pairs in the right order
    0.75
    """
    return _weighted_ap_and_auc(y, score, weight)[1]


def card_precision_at_k(
    y: ArrayLike, score: ArrayLike, *, cards: ArrayLike | None, days: ArrayLike, k: int = 100
) -> float:
    """CP@k: the mean over days of (fraudulent cards among the k highest-scored cards of the day) / k.

    A card's score of a day is the largest of its transactions', and it is fraudulent when one of them is. The
    sum is divided by k even on a day with fewer cards, as published (Fraud Detection Handbook, chapter 4,
    "Precision top-k metrics"; Dal Pozzolo and others, 2015). Cards tied at the k-th place share what is left
    of the k in equal parts, the mean over all orders of the ties (McSherry and Najork, ECIR 2008), so that
    the order of rows does not matter. A card found on one day is not removed from later days.

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: shape (n,).
        cards: as for `evaluate_scores`; None makes this the precision@k of transactions.
        days: integer ordinal of each transaction's day, shape (n,).
        k: cards that can be reviewed in a day.

    Raises:
        MetricsError: when there is no row or a score is NaN or infinite; one class alone is fine here.
    """
    labels, scores = _checked(y, score, both_classes=False)
    codes, n_cards = _card_codes(cards, len(labels))
    ladder = _DayLadder.of(labels, scores, codes, n_cards, _integers("days", days, len(labels)))
    return float(ladder.card_precision(np.ones((n_cards, 1)), k)[0])


def recall_at_fpr(y: ArrayLike, score: ArrayLike, false_positive_rate: float = 0.01) -> float:
    """The largest recall of any threshold that flags at most this share of the genuine rows.

    No interpolation between thresholds: the value can be reached in practice.

    Raises:
        MetricsError: as `evaluate_scores`.
    """
    labels, scores = _checked(y, score)
    genuine = np.sort(scores[~labels])
    # The allowance absorbs the rounding of 0.07 * 100; one more false positive would be off by a whole 1.
    allowed = math.floor(false_positive_rate * len(genuine) + 1e-9)
    if allowed >= len(genuine):
        return 1.0
    # Everything above the (allowed + 1)-th genuine score from the top flags at most `allowed` genuine rows.
    return float(np.mean(scores[labels] > genuine[len(genuine) - 1 - allowed]))


def value_detection_rate(y: ArrayLike, score: ArrayLike, amount: ArrayLike | None, threshold: float) -> float | None:
    """Share of the fraud amount that lies in transactions scoring at or above the threshold.

    Frauds without a known positive amount are left out of both sums; None when no other is there.
    """
    if amount is None:
        return None
    labels, scores = _checked(y, score, both_classes=False)
    amounts = _same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
    lost = labels & np.isfinite(amounts) & (amounts > 0)
    if not lost.any():
        return None
    return float(amounts[lost & (scores >= threshold)].sum() / amounts[lost].sum())


def score_threshold(score: ArrayLike, cards: ArrayLike | None, days: ArrayLike, capacity_per_day: int = 100) -> float:
    """The decision threshold by review capacity: at most this many cards a day are flagged, on average.

    A card is flagged on a day when one of its transactions scores at or above the threshold. Where a day has
    few cards, so that the capacity would cover them all, at most 10 % of card-days are flagged (and at least
    one of the window): a team that can look at everything still wants the suspicious tenth first, and a
    threshold at the bottom would make every value detected.

    Args:
        score: shape (n,).
        cards: as for `evaluate_scores`.
        days: integer ordinal of each transaction's day, shape (n,).
        capacity_per_day: cards that the team can review in a day, 1 or more.

    Returns:
        The lowest score that is still flagged. Tied scores are flagged together or not at all; when the ties
        at the very top exceed the capacity, the next number above them: nothing of this window is flagged.

    Raises:
        MetricsError: when there is no row, or a score is NaN or infinite.

    >>> score_threshold([0.9, 0.2, 0.8, 0.1, 0.3], None, [0] * 5, capacity_per_day=2)  # 10 % of 5 is below 1
    0.9
    """
    if capacity_per_day < 1:
        raise MetricsError(f"capacity_per_day is {capacity_per_day}; a threshold needs 1 card a day or more")
    scores = _checked_scores(score)
    codes, _ = _card_codes(cards, len(scores))
    dates = _integers("days", days, len(scores))
    _, _, top, _ = _card_days(np.zeros(len(scores), dtype=np.bool_), scores, codes, dates)
    flagged = min(capacity_per_day * len(np.unique(dates)), max(1, int(_LARGEST_FLAGGED_SHARE * len(top))))
    values, counts = np.unique(top, return_counts=True)
    fits = np.cumsum(counts[::-1])[::-1] <= flagged
    return float(values[fits][0]) if fits.any() else float(np.nextafter(values[-1], np.inf))


@dataclass(frozen=True)
class _Ladder:
    """A ranking reduced to what AP and ROC AUC depend on, exactly: the frauds' scores and who lies between.

    The F distinct scores of frauds are rungs. Every row lies on a rung (level 2i + 1) or in a gap (level 2i),
    and only sums over levels matter. A bootstrap sample is then one product of a small sparse matrix with the
    number of times each card was drawn, instead of one pass over all rows: most genuine rows of a card fall
    into the same few gaps.

    Attributes:
        total: rows of each card at each level, shape (2F + 1, cards).
        fraud: frauds of each card on each rung, shape (F, cards).
    """

    total: Any
    fraud: Any

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, n_cards: int, rungs: Floats | None = None) -> _Ladder:
        """Sorts rows into levels; `rungs` (ascending) must hold every fraud's score."""
        steps = np.unique(score[y]) if rungs is None else rungs
        level = np.searchsorted(steps, score, side="left") + np.searchsorted(steps, score, side="right")
        return cls(
            total=_count_matrix(level, cards, (2 * len(steps) + 1, n_cards)),
            fraud=_count_matrix(level[y] // 2, cards[y], (len(steps), n_cards)),
        )

    @property
    def levels(self) -> int:
        return int(self.total.shape[0])

    def ap_and_auc(self, counts: Floats) -> tuple[Floats, Floats]:
        """AP and ROC AUC of each sample (NaN where a class is absent); `counts`: shape (cards, samples)."""
        fraud: Floats = self.fraud @ counts
        total: Floats = self.total @ counts
        at_or_above = _sums_from_top(total)[1::2]
        caught = _sums_from_top(fraud)
        n_fraud = fraud.sum(axis=0)
        n_genuine = total.sum(axis=0) - n_fraud
        tied = total[1::2] - fraud
        below = n_genuine - (at_or_above - caught)
        pairs = n_fraud * n_genuine
        ap = _ratio((fraud * _ratio(caught, at_or_above, 0.0)).sum(axis=0), np.where(pairs > 0, n_fraud, 0.0))
        return ap, _ratio((fraud * (below + 0.5 * tied)).sum(axis=0), pairs)


@dataclass(frozen=True)
class _DayLadder:
    """The same reduction for card-days ranked within their day; each day's highest score is a rung too.

    Attributes:
        ladder: of card-days, lowest score of the first day at the bottom, highest of the last at the top.
        day_top: for each rung, the highest one of its day.
        n_days: days with a transaction.
    """

    ladder: _Ladder
    day_top: Codes
    n_days: int

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, n_cards: int, days: Codes) -> _DayLadder:
        """Reduces transactions to card-days, and those to a ladder."""
        day, card, top, fraud = _card_days(y, score, cards, days)
        order = np.lexsort((top, day))
        changes = np.diff(day[order]).astype(bool) | (np.diff(top[order]) > 0)
        place = np.empty(len(order))
        place[order] = np.concatenate([[0], np.cumsum(changes)])
        last_of_day = np.append(np.flatnonzero(np.diff(day[order])), len(order) - 1)
        closing = place[order][last_of_day]
        rungs = np.union1d(place[fraud], closing)
        return cls(
            ladder=_Ladder.of(fraud, place, card, n_cards, rungs),
            day_top=np.searchsorted(rungs, closing)[np.searchsorted(closing, rungs)],
            n_days=len(closing),
        )

    @property
    def levels(self) -> int:
        return self.ladder.levels

    def card_precision(self, counts: Floats, k: int) -> Floats:
        """CP@k of each sample; a card drawn twice is two cards. `counts` has shape (cards, samples)."""
        if k < 1:
            raise MetricsError(f"k is {k}; card precision needs 1 card a day or more")
        fraud: Floats = self.ladder.fraud @ counts
        total: Floats = self.ladder.total @ counts
        on_rung = total[1::2]
        above = _sums_from_top(total)[1::2] - on_rung
        reviewed = np.clip(k - (above - above[self.day_top]), 0.0, on_rung)
        found: Floats = (fraud * _ratio(reviewed, on_rung, 0.0)).sum(axis=0) / (k * self.n_days)
        return found


def _weighted_ap_and_auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> tuple[float, float]:
    labels, scores = _checked(y, score)
    n = len(labels)
    weights = np.ones(n) if weight is None else _same_length("weight", np.asarray(weight, np.float64), n)
    ap, auc = _Ladder.of(labels, scores, np.arange(n), n).ap_and_auc(weights[:, None])
    return float(ap[0]), float(auc[0])


def _checked(y: ArrayLike, score: ArrayLike, both_classes: bool = True) -> tuple[Bools, Floats]:
    scores = _checked_scores(score)
    given = _same_length("y", y, len(scores))
    labels = given.astype(np.bool_)
    if given.dtype != np.bool_ and (unknown := int(np.sum(given != labels))):
        raise MetricsError(
            f"{unknown:,} of {len(labels):,} labels are neither true nor false; "
            "leave out transactions whose is_fraud is not known yet"
        )
    if both_classes and not labels.any():
        raise MetricsError(
            f"none of the {len(labels):,} transactions is fraud, and metrics of a ranking need both classes; "
            "wait until labels have matured, or evaluate a longer window"
        )
    if both_classes and labels.all():
        raise MetricsError(
            f"all {len(labels):,} transactions are fraud, and metrics of a ranking need both classes; "
            "check that transactions which matured without a report were kept as genuine"
        )
    return labels, scores


def _checked_scores(score: ArrayLike) -> Floats:
    scores = np.asarray(score, dtype=np.float64)
    if scores.ndim != 1:
        raise MetricsError(f"scores have shape {scores.shape}; give one score for each transaction, shape (n,)")
    if not len(scores):
        raise MetricsError("there is no transaction to evaluate; check the window and that its labels have matured")
    if bad := int(np.sum(~np.isfinite(scores))):
        raise MetricsError(
            f"{bad:,} of {len(scores):,} scores are NaN or infinite; score these rows again or leave them out"
        )
    return scores


def _same_length(name: str, values: ArrayLike, n: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n,):
        raise MetricsError(f"{name} has shape {array.shape} beside {n:,} scores; give one value for each row")
    return array


def _integers(name: str, values: ArrayLike, n: int) -> Codes:
    array = _same_length(name, values, n)
    if not np.issubdtype(array.dtype, np.integer):
        raise MetricsError(f"{name} are {array.dtype}; give integers, for example the codes of pandas.factorize")
    return array.astype(np.int64)


def _card_codes(cards: ArrayLike | None, n: int) -> tuple[Codes, int]:
    """Codes 0 to the number of cards - 1; rows without a known customer become cards of their own."""
    if cards is None:
        return np.arange(n), n
    given = _integers("cards", cards, n)
    unknown = given < 0
    distinct, inverse = np.unique(given, return_inverse=True)
    codes = inverse.astype(np.int64)
    codes[unknown] = len(distinct) + np.arange(int(unknown.sum()))
    used, codes = np.unique(codes, return_inverse=True) if unknown.any() else (distinct, codes)
    return codes.astype(np.int64), len(used)


def _card_days(y: Bools, score: Floats, cards: Codes, days: Codes) -> tuple[Codes, Codes, Floats, Bools]:
    """Day, card, largest score, and whether any transaction is fraud, of each card on each day."""
    order = np.lexsort((score, cards, days))
    day, card = days[order], cards[order]
    last = np.append(np.flatnonzero((np.diff(day) != 0) | (np.diff(card) != 0)), len(order) - 1)
    first = np.concatenate([[0], last[:-1] + 1])
    return day[last], card[last], score[order][last], np.logical_or.reduceat(y[order], first)


def _count_matrix(rows: Codes, columns: Codes, shape: tuple[int, int]) -> Any:
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _resamples(n_cards: int, levels: int, replicates: int, seed: int) -> Iterator[Floats]:
    """Blocks of how often each card was drawn, shape (cards, samples); block size does not alter draws."""
    if replicates < 1:
        raise MetricsError(f"replicates is {replicates}; an interval needs 1 or more, and 200 for a stable one")
    rng = np.random.default_rng(seed)
    width = max(1, _CELLS_AT_ONCE // max(n_cards, levels))
    for start in range(0, replicates, width):
        counts = np.empty((n_cards, min(width, replicates - start)))
        for sample in range(counts.shape[1]):
            counts[:, sample] = np.bincount(rng.integers(0, n_cards, n_cards), minlength=n_cards)
        yield counts


def _independent_cards(y: Bools, cards: Codes) -> int:
    """Cards with a fraud, or cards with a genuine row, whichever are fewer."""
    return min(len(np.unique(cards[side])) for side in (y, ~y))


def _interval(value: float, samples: Floats, n_cards: int, confidence: float) -> Interval:
    """The expanded percentile interval: as far out as Student's t of n_cards - 1 degrees of freedom."""
    if not 0 < confidence < 1:
        raise MetricsError(f"confidence is {confidence}; give a share between 0 and 1, for example 0.95")
    known = samples[np.isfinite(samples)]
    if n_cards < 2 or not len(known):
        return Interval(value, math.nan, math.nan)
    t = special.stdtrit(n_cards - 1, (1 + confidence) / 2)
    tail = special.ndtr(-t * math.sqrt(n_cards / (n_cards - 1)))
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _sums_from_top(levels: Floats) -> Floats:
    return np.cumsum(levels[::-1], axis=0)[::-1]


def _ratio(numerator: Floats, denominator: Floats, otherwise: float = math.nan) -> Floats:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
