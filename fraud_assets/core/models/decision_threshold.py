"""From which score on a transaction is reviewed: chosen on validation rows, by cost and within what can be reviewed.

What the choice promises, as values that travel with the model, is in `decision_rule.py`; what other thresholds would
have meant on a window, as a table and curves, in `evaluation/thresholds.py`; whether the decisions of a model are good
enough for it to go live, in `decisions/promotion.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from fraud_assets.core.models.decision_rule import DecisionRule, Estimate
from fraud_assets.core.statistics.bootstrap import (
    Bools,
    CardDays,
    Codes,
    Floats,
    Interval,
    MetricsError,
    card_codes,
    checked,
    integers,
    same_length,
)
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.metrics import decision_metrics

# At so many frauds, the labels and the scores have the same say in where the cost is lowest. As many as calibration
# needs: below it the scores say more than the labels.
BELIEF_FRAUDS = 100
# Scores of 0 and 1 have no log odds.
_SMALLEST = 1e-12


@dataclass(frozen=True)
class _Levels:
    """The distinct scores, highest first: what flagging from each one down would mean; arrays of shape (levels,).

    Attributes:
        score: of the level.
        alerts: cards on their days with a transaction at or above it.
        cost: believed cost of reviewing these, less that of reviewing nobody.
        n_card_days, n_days: cards on their days, and days.
    """

    score: Floats
    alerts: Codes
    cost: Floats
    n_card_days: int
    n_days: int

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, days: Codes, amount: Floats | None, costs: Costs) -> _Levels:
        best = np.sort(CardDays.of(y, score, cards, days).score)
        descending = np.argsort(-score, kind="stable")
        ordered = score[descending]
        last = np.flatnonzero(np.append(np.diff(ordered) != 0, [True]))
        n_fraud = int(y.sum())
        weight = n_fraud / (n_fraud + BELIEF_FRAUDS)
        believed = weight * y + (1 - weight) * score
        saved = np.cumsum((believed * costs.losses(np.ones(len(y), dtype=np.bool_), amount))[descending])[last]
        alerts = len(best) - np.searchsorted(best, ordered[last], side="left")
        return cls(ordered[last], alerts, costs.review * alerts - saved, len(best), len(np.unique(days)))


# Most of it is the rule in words, with what was measured for it.
def choose_threshold(
    y: ArrayLike,
    score: ArrayLike,
    *,
    cards: ArrayLike | None,
    days: ArrayLike,
    amount: ArrayLike | None,
    capacity_per_day: int,
    costs: Costs,
) -> DecisionRule:
    """The threshold with the lowest expected cost among those that flag at most so many cards a day, on average.

    With capacity for more cards than there are, all that are worth their review are reviewed.

    Which threshold costs least is told by two witnesses. The labels (the minimum on the validation rows; Sheng and
    Ling, Thresholding for Making Classifiers Cost-Sensitive, AAAI 2006) are right whatever the scores, but jump with
    single frauds. Calibrated probabilities (review where probability x loss exceeds the review's cost; Elkan, The
    Foundations of Cost-Sensitive Learning, IJCAI 2001) are steady, but wrong where the scores are. So what a
    transaction is believed to cost when it is missed lies between the two: loss x (w label + (1 - w) probability), with
    w = n / (n + 100) of n frauds.

    Measured as the mean share of the cost without reviews that remains in the next month, a review at 5. Of each
    validation only cards with about 30 frauds were kept: registrations 0.133 (labels alone 0.140, probabilities alone
    0.134), evalml's card transactions 0.041 (0.048, 0.041), simulated months 0.101 (0.111, 0.102), Handbook months of
    1,200 customers 0.146 (0.157, 0.146). With log odds stretched by half, so that probabilities are too sure, 0.139 and
    0.051 on the first two (probabilities alone 0.145 and 0.062). With all frauds the three hardly differ, save that
    labels alone were worse on the registrations (0.140, else 0.135). The rule was chosen on these.

    Neither nothing nor everything is flagged where there is a choice:
    - Equal scores are flagged together. Where those tied at the very top are more than can be reviewed, they are
      flagged all the same, and the rule says so.
    - Where no review pays, the highest scores are flagged, and the rule says so; whether such a model goes live is for
      promotion to say.
    - Where every card is worth its review, the lowest score is left out.
    - Where all scores are the same, there is no choice: all is flagged if that pays and can be reviewed, else nothing.

    The threshold is put halfway, in log odds, from the lowest score that is flagged to the highest that is not. A later
    model, fitted on more rows, gives its ties other scores; a threshold at the tie itself would miss them all.

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: probabilities, of models that had not seen the rows, shape (n,).
        cards: as for `metrics.evaluate_scores`.
        days: integer ordinal of each transaction's day, shape (n,).
        amount: shape (n,), NaN where unknown; None when there is none.
        capacity_per_day: cards that can be reviewed in a day, 1 or more.
        costs: of reviews and missed frauds.

    Returns:
        The rule and what it brought on these rows. It was chosen on them, so that the promise is a little too good:
        by less than its interval is wide.

    Raises:
        MetricsError: when there is no row, a score is no probability, or lengths differ.
    """
    if capacity_per_day < 1:
        raise MetricsError(f"capacity_per_day is {capacity_per_day}; a threshold needs 1 card a day or more")
    labels, scores = checked(y, score, both_classes=False)
    if scores.min() < 0 or scores.max() > 1:
        raise MetricsError("a threshold by cost needs probabilities, from 0 to 1; calibrate the scores first")
    codes, _ = card_codes(cards, len(labels))
    dates = integers("days", days, len(labels))
    amounts = None if amount is None else same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
    levels = _Levels.of(labels, scores, codes, dates, amounts, costs)
    threshold, why = _chosen(levels, capacity_per_day)
    found = decision_metrics(labels, scores, cards=cards, days=dates, amount=amounts, threshold=threshold, costs=costs)
    reviewed = "A transaction is reviewed" if cards is None else "A card is reviewed when a transaction of it"
    scoring = "when it scores" if cards is None else "scores"
    weighed = costs.in_words(has_amount=amounts is not None)
    return DecisionRule(
        threshold=threshold,
        sentence=f"{reviewed} {scoring} {threshold:.4g} or more: {why}; {weighed}.",
        review_capacity=capacity_per_day,
        review_cost=costs.review,
        loss_share=costs.loss_share,
        fixed_loss=costs.fixed_loss,
        n=len(labels),
        n_fraud=int(labels.sum()),
        n_days=levels.n_days,
        **{name: _estimate(interval) for name, interval in found.items()},
    )


def _chosen(levels: _Levels, capacity: int) -> tuple[float, str]:
    """The threshold, and why there."""
    if len(levels.score) == 1:
        return _without_choice(levels, capacity)
    some = levels.alerts < levels.n_card_days
    # Where every card has a transaction at the top, cards are no choice, but transactions still are.
    choices = int(some.sum()) or len(levels.score) - 1
    cost, alerts = levels.cost[:choices], levels.alerts[:choices]
    within = int(np.searchsorted(alerts, capacity * levels.n_days, side="right"))
    if not within:
        tied = alerts[0] / levels.n_days
        return _halfway(levels.score, 0), (
            f"{tied:,.1f} cards a day share the highest score of the validation rows, more than {_reviews(capacity)} a "
            "day can look at"
        )
    best = int(np.argmin(cost[:within]))
    if cost[best] >= 0:
        why = "the highest scores only, because on the validation rows no review was worth its cost"
    elif cost.min() < cost[best]:
        why = f"as many as {_reviews(capacity)} a day can look at; more would have been worth their cost"
    else:
        why = f"the lowest expected cost on the validation rows, within {_reviews(capacity)} a day"
    return _halfway(levels.score, best), why


def _without_choice(levels: _Levels, capacity: int) -> tuple[float, str]:
    score = float(levels.score[0])
    if levels.cost[0] < 0 and levels.alerts[0] <= capacity * levels.n_days:
        return score, "all validation rows have the same score, and reviewing all is worth its cost"
    nothing = min(float(np.nextafter(score, math.inf)), 1.0)
    return (
        nothing,
        "all validation rows have the same score, so that none stands out, and reviewing all is not worth it",
    )


def _halfway(scores: Floats, level: int) -> float:
    lowest, next_one = (min(max(float(score), _SMALLEST), 1 - _SMALLEST) for score in scores[level : level + 2])
    halfway = float(expit((logit(lowest) + logit(next_one)) / 2))
    # Of neighbours nothing lies between.
    return halfway if scores[level + 1] < halfway <= scores[level] else float(scores[level])


def _reviews(n: int) -> str:
    return "1 review" if n == 1 else f"{n:,} reviews"


def _estimate(interval: Interval | None) -> Estimate | None:
    if interval is None or not math.isfinite(interval.value):
        return None
    low, high = (bound if math.isfinite(bound) else None for bound in (interval.low, interval.high))
    return Estimate(value=interval.value, low=low, high=high)
