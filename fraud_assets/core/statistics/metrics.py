"""How good a ranking of transactions is, with intervals that know rows of one customer belong together.

Average precision, ROC AUC, precision@k and card precision@k a day, recall at a fixed false-positive rate, value
detection rate, expected cost, calibration. How an interval is made belongs in bootstrap.py, which threshold is taken
in decisions.py, what other thresholds would have meant in thresholds.py, the parts of a window in segments.py, what to
do about the numbers in promotion.py; comparing data with data, without labels, in drift.py. Accuracy is nowhere: at a
prevalence of 0.8 % a model that never says fraud has 99.2 %.

Everything here sees matured labels only: a transaction whose `is_fraud` is not yet known must be left out by
the caller, never passed as genuine.

A card is what is reviewed and what is drawn by the bootstrap: the customer; where the source has none, its first
entity (an IP address); where it has no entity, the single transaction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fraud_assets.core.statistics.bootstrap import (
    Bools,
    CardDays,
    Codes,
    DayLadder,
    Floats,
    Interval,
    Ladder,
    PrecisionLadder,
    by_card,
    card_codes,
    checked,
    independent_cards,
    integers,
    percentile_interval,
    ratio,
    resamples,
    same_length,
    with_rare_errors,
)
from fraud_assets.core.statistics.costs import Costs as Costs
from fraud_assets.core.statistics.costs import is_value

FALSE_POSITIVE_RATE = 0.01


@dataclass(frozen=True)
class Metrics:
    """One model on one window of matured transactions.

    Attributes:
        n, n_fraud: transactions, and how many of them are fraud.
        prevalence: n_fraud / n, the average precision of a ranking by chance.
        average_precision: the headline, 0 to 1.
        roc_auc: 0 to 1; 0.5 by chance.
        precision_at_k: the mean over days of the share of frauds among the day's k first transactions.
        card_precision_at_k: CP@k, the same of fraudulent cards among the day's k first cards.
        k: transactions, or cards, a day that these two look at.
        recall_at_fpr_1pct: the largest share of frauds caught while at most 1 % of genuine rows are flagged.
        threshold: the decision threshold of what follows; transactions that score at or above it are flagged.
        alerts_per_day: cards a day with a flagged transaction, on average.
        cards_per_day: cards a day with a transaction, on average.
        precision_at_threshold: share of the flagged transactions that are fraud; NaN when none is flagged.
        recall_at_threshold: share of the frauds that are flagged.
        value_detection_rate: share of the fraud amount that is flagged; None where the source has no amount, or no
            fraud with a known positive one.
        expected_cost: a day, in the currency of the amounts: reviews of the alerts, and losses of the frauds that are
            not flagged (`Costs`).
        cost_without_review: the same where nobody is reviewed: the losses of all frauds.
        brier: mean squared difference of score and label; NaN where a score is no probability.
        expected_over_observed: sum of scores / frauds seen, 1 when calibrated in the large, above 1 when the scores
            are too high; NaN where a score is no probability.
    """

    n: int
    n_fraud: int
    prevalence: float
    average_precision: Interval
    roc_auc: Interval
    precision_at_k: Interval
    card_precision_at_k: Interval
    k: int
    recall_at_fpr_1pct: Interval
    threshold: float
    alerts_per_day: Interval
    cards_per_day: float
    precision_at_threshold: Interval
    recall_at_threshold: Interval
    value_detection_rate: Interval | None
    expected_cost: Interval
    cost_without_review: Interval
    brier: Interval
    expected_over_observed: Interval

    def as_row(self) -> dict[str, int | float | None]:
        """One flat row for a table; an interval takes three columns, and what is not finite becomes None.

        What depends on k has its value in the name: `precision_at_100`.
        """
        row: dict[str, int | float | None] = {}
        for field, value in vars(self).items():
            name = field.replace("_at_k", f"_at_{self.k}")
            if isinstance(value, Interval):
                row |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            elif field != "k":
                row[name] = value
        return {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}


# One array an argument, here and below, as scikit-learn's metrics take them: a bundle would be made up for each caller.
def evaluate_scores(
    y: ArrayLike,
    score: ArrayLike,
    *,
    cards: ArrayLike | None,
    days: ArrayLike,
    amount: ArrayLike | None,
    threshold: float,
    k: int = 100,
    costs: Costs | None = None,
    replicates: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> Metrics:
    """Computes every metric of one model on one window.

    Intervals come from a cluster bootstrap that draws whole cards with replacement (`bootstrap.py`); their sample size
    is the number of cards with a fraud (or with a genuine row, if fewer). Replicates that drew no fraud or no genuine
    row are left out. Bounds are NaN when fewer than two cards carry a fraud, or fewer than two a genuine row: one card
    tells nothing about the spread between cards. The number of days is taken as given.

    On simulated cards with bursts of fraud, nominal 95 % intervals of AP covered the truth in 95, 95 and 94 %
    of 800 windows with about 9, 19 and 96 defrauded cards; drawing single rows instead covered 71 to 78 %.
    With the widening of `with_rare_errors`, those of AP covered the truth in 97 to 100 % of 300 windows of 20 frauds,
    and of 30, whether frauds came singly or three to a card, at 1 and 15 % fraud, for weak and strong rankings. Without
    it, those of strong rankings among 20 frauds and 113 genuine rows covered 85 to 87 %, always too sure.
    Those of ROC AUC covered 78, 81 and 92 %, failing on the high side: below about 100 defrauded cards take
    them as too confident, since a few unusual cards that the window may lack move the far tail.

    Args:
        y: whether each transaction is fraud, matured labels, shape (n,).
        score: fraud scores, higher is more suspicious, shape (n,).
        cards: integer code of each transaction's card (see above), shape (n,); a negative code means unknown, and
            that transaction is a card of its own. None when the source has no entity: all are.
        days: integer ordinal of each transaction's day, shape (n,).
        amount: amounts in the source's currency, shape (n,), NaN where unknown; None when there is none.
        threshold: transactions that score at or above it are flagged (`decision_threshold.choose_threshold`).
        k: cards that can be reviewed in a day.
        costs: of reviews and missed frauds; the defaults of `Costs` when absent.
        replicates: bootstrap samples; at 200 a bound of AP moves by about a tenth of the interval's
            half-width from seed to seed.
        seed: of the bootstrap; the same seed gives the same bounds.
        confidence: of the intervals, between 0 and 1.

    Raises:
        MetricsError: when there is no row, no fraud or no genuine row, when a score is NaN or infinite, when
            a label is neither true nor false, or when lengths differ.
    """
    labels, scores = checked(y, score)
    codes, n_cards = card_codes(cards, len(labels))
    dates = integers("days", days, len(labels))
    card_days = CardDays.of(labels, scores, codes, dates)
    amounts = None if amount is None else same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))

    ladder = Ladder.of(labels, scores, codes, n_cards)
    card_ladder = DayLadder.of(card_days.fraud, card_days.score, card_days.card, n_cards, card_days.day)
    # Where each card is one transaction, the two are one.
    row_ladder = card_ladder if n_cards == len(labels) else DayLadder.of(labels, scores, codes, n_cards, dates)
    sums = _Sums.of(labels, scores, codes, n_cards, card_days, amounts, threshold, costs or Costs())
    n_days = card_ladder.n_days

    def measure(counts: Floats) -> dict[str, Floats]:
        average_precision, roc_auc, recall = ladder.measure(counts, FALSE_POSITIVE_RATE)
        card_precision = card_ladder.precision(counts, k)
        return {
            "average_precision": average_precision,
            "roc_auc": roc_auc,
            "precision_at_k": card_precision if row_ladder is card_ladder else row_ladder.precision(counts, k),
            "card_precision_at_k": card_precision,
            "recall_at_fpr_1pct": recall,
            **sums.measure(counts, n_days),
        }

    counts = resamples(n_cards, max(ladder.levels, row_ladder.levels), replicates, seed)
    intervals = _intervals(measure, n_cards, counts, independent_cards(labels, codes), confidence)
    intervals["average_precision"] = with_rare_errors(intervals["average_precision"], int(labels.sum()), confidence)
    intervals |= _shares_of_frauds(intervals, labels, codes, confidence)
    value_detected = intervals.pop("value_detection_rate")
    return Metrics(
        n=len(labels),
        n_fraud=int(labels.sum()),
        prevalence=int(labels.sum()) / len(labels),
        k=k,
        threshold=float(threshold),
        cards_per_day=len(card_days.card) / n_days,
        value_detection_rate=value_detected if math.isfinite(value_detected.value) else None,
        **intervals,
    )


def _intervals(
    measure: Callable[[Floats], dict[str, Floats]],
    n_cards: int,
    counts: Iterable[Floats],
    evidence: int,
    confidence: float,
) -> dict[str, Interval]:
    """What is measured on every card once, each figure with its interval over the cards that were drawn."""
    value, *blocks = (measure(count) for count in itertools.chain([np.ones((n_cards, 1))], counts))
    return {
        name: percentile_interval(
            float(found[0]), np.concatenate([block[name] for block in blocks]), evidence, confidence
        )
        for name, found in value.items()
    }


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
    labels, champion_scores = checked(y, champion_score)
    _, challenger_scores = checked(y, challenger_score)
    intervals = []
    for clusters in [cards] if terminals is None else [cards, terminals]:
        codes, n_clusters = card_codes(clusters, len(labels))
        champion = PrecisionLadder.of(labels, champion_scores, codes, n_clusters)
        challenger = PrecisionLadder.of(labels, challenger_scores, codes, n_clusters)
        levels = max(champion.levels, challenger.levels)
        value, *blocks = (
            challenger.average_precision(counts) - champion.average_precision(counts)
            for counts in itertools.chain([np.ones((n_clusters, 1))], resamples(n_clusters, levels, replicates, seed))
        )
        evidence = independent_cards(labels, codes)
        intervals.append(percentile_interval(float(value[0]), np.hstack(blocks), evidence, confidence))
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
    labels, scores = checked(y, score, both_classes=False)
    codes, n_cards = card_codes(cards, len(labels))
    found = CardDays.of(labels, scores, codes, integers("days", days, len(labels)))
    ladder = DayLadder.of(found.fraud, found.score, found.card, n_cards, found.day)
    return float(ladder.precision(np.ones((n_cards, 1)), k)[0])


def recall_at_fpr(y: ArrayLike, score: ArrayLike, false_positive_rate: float = 0.01) -> float:
    """The largest recall of any threshold that flags at most this share of the genuine rows.

    No interpolation between thresholds: the value can be reached in practice.

    Raises:
        MetricsError: as `evaluate_scores`.
    """
    labels, scores = checked(y, score)
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
    labels, scores = checked(y, score, both_classes=False)
    amounts = same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
    lost = labels & is_value(amounts)
    if not lost.any():
        return None
    return float(amounts[lost & (scores >= threshold)].sum() / amounts[lost].sum())


# One array an argument, as in `evaluate_scores`.
def decision_metrics(
    y: ArrayLike,
    score: ArrayLike,
    *,
    cards: ArrayLike | None,
    days: ArrayLike,
    amount: ArrayLike | None,
    threshold: float,
    costs: Costs,
    replicates: int = 200,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """What a threshold brings on a window: the arguments of `evaluate_scores`, and its figures at the threshold.

    One class alone is fine here.

    Returns:
        `alerts_per_day`, `recall`, `value_detection_rate`, `expected_cost` and `cost_without_review`; without a value
        where there is no fraud, or no amount.

    Raises:
        MetricsError: when there is no row, a score is NaN or infinite, or lengths differ.
    """
    labels, scores = checked(y, score, both_classes=False)
    codes, n_cards = card_codes(cards, len(labels))
    card_days = CardDays.of(labels, scores, codes, integers("days", days, len(labels)))
    amounts = None if amount is None else same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
    sums = _Sums.of(labels, scores, codes, n_cards, card_days, amounts, threshold, costs)
    n_days = len(np.unique(card_days.day))
    value, *blocks = (
        sums.measure(counts, n_days)
        for counts in itertools.chain([np.ones((n_cards, 1))], resamples(n_cards, 1, replicates, seed))
    )
    evidence = independent_cards(labels, codes)
    names = ("alerts_per_day", "recall_at_threshold", "value_detection_rate", "expected_cost", "cost_without_review")
    intervals = {
        name: percentile_interval(
            float(value[name][0]), np.concatenate([block[name] for block in blocks]), evidence, confidence
        )
        for name in names
    }
    intervals |= _shares_of_frauds(intervals, labels, codes, confidence)
    intervals["recall"] = intervals.pop("recall_at_threshold")
    return intervals


def _shares_of_frauds(
    intervals: Mapping[str, Interval], y: Bools, cards: Codes, confidence: float
) -> dict[str, Interval]:
    """Shares of the frauds, or of their amount, where all of them or none were flagged.

    Then no draw of cards differs, and the bootstrap would say that nothing else is possible. The bound is that of
    Clopper and Pearson (Biometrika 26, 1934, 404-413), with the cards that carry a fraud as independent.
    """
    n = int(np.count_nonzero(np.bincount(cards[y]))) if y.any() else 0
    least = ((1 - confidence) / 2) ** (1 / n) if n else math.nan
    found = {}
    for name in ("recall_at_threshold", "value_detection_rate"):
        interval = intervals[name]
        if interval.value in (0.0, 1.0) and (interval.low == interval.high or not interval.is_known):
            found[name] = Interval(1.0, least, 1.0) if interval.value else Interval(0.0, 0.0, 1 - least)
    return found


def lowest_threshold(ascending: Floats, most: int) -> float:
    """The lowest score from which on at most so many are flagged; the next number above all when ties forbid any.

    Args:
        ascending: scores, sorted, shape (n,) with n at least 1.
        most: how many may be flagged.
    """
    if most >= len(ascending):
        return float(ascending[0])
    first = int(np.searchsorted(ascending, ascending[len(ascending) - most - 1], side="right"))
    return float(ascending[first]) if first < len(ascending) else float(np.nextafter(ascending[-1], np.inf))


@dataclass(frozen=True)
class _Sums:
    """What the metrics at a threshold and of calibration are made of: sums over the rows of each card.

    Attributes:
        totals: one row a sum, sparse, shape (11, cards).
        is_probability: whether the scores lie between 0 and 1.
        review: cost of an alert.
    """

    totals: Any
    is_probability: bool
    review: float

    @classmethod
    def of(
        cls,
        y: Bools,
        score: Floats,
        cards: Codes,
        n_cards: int,
        card_days: CardDays,
        amount: Floats | None,
        threshold: float,
        costs: Costs,
    ) -> _Sums:
        flagged = score >= threshold
        value = np.where(y & is_value(amount), amount, 0.0) if amount is not None else np.zeros(len(y))
        losses = costs.losses(y, amount)

        def total(of_row: ArrayLike) -> Floats:
            return np.bincount(cards, np.asarray(of_row, np.float64), minlength=n_cards).astype(np.float64)

        rows = (
            np.ones(len(y)), y, flagged, y & flagged, (score - y) ** 2, score, value, np.where(flagged, value, 0.0),
            np.where(flagged, 0.0, losses), losses,
        )  # fmt: skip
        alerts = np.bincount(card_days.card[card_days.score >= threshold], minlength=n_cards)
        return cls(
            totals=by_card(np.vstack([*map(total, rows), alerts])),
            is_probability=bool(score.min() >= 0 and score.max() <= 1),
            review=costs.review,
        )

    def measure(self, counts: Floats, n_days: int) -> dict[str, Floats]:
        """Each metric of each sample; `counts` has shape (cards, samples)."""
        n, n_fraud, flagged, caught, squares, expected, value, detected, missed, lost, alerts = self.totals @ counts
        no_probability = np.full(len(n), math.nan)
        return {
            "precision_at_threshold": ratio(caught, flagged),
            "recall_at_threshold": ratio(caught, n_fraud),
            "value_detection_rate": ratio(detected, value),
            "alerts_per_day": alerts / n_days,
            "expected_cost": (self.review * alerts + missed) / n_days,
            "cost_without_review": lost / n_days,
            "brier": ratio(squares, n) if self.is_probability else no_probability,
            "expected_over_observed": ratio(expected, n_fraud) if self.is_probability else no_probability,
        }


def _weighted_ap_and_auc(y: ArrayLike, score: ArrayLike, weight: ArrayLike | None) -> tuple[float, float]:
    labels, scores = checked(y, score)
    n = len(labels)
    weights = np.ones(n) if weight is None else same_length("weight", np.asarray(weight, np.float64), n)
    ap, auc, _ = Ladder.of(labels, scores, np.arange(n), n).measure(weights[:, None], FALSE_POSITIVE_RATE)
    return float(ap[0]), float(auc[0])
