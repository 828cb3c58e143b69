"""What another decision threshold would have meant on a window: by review capacity, by cost, and as curves.

The threshold that a model is given is chosen in decisions.py, the metrics at it with their intervals are in metrics.py;
nothing here has an interval, because a table of choices is read by its differences, and all rows share one window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fraud_assets.core.statistics.bootstrap import (
    CardDays,
    Floats,
    MetricsError,
    card_codes,
    checked,
    integers,
    ratio,
    same_length,
)
from fraud_assets.core.statistics.metrics import Costs, lowest_threshold

CAPACITIES = (10, 25, 50, 100, 200, 500)


@dataclass(frozen=True)
class Outcome:
    """What flagging all that score at or above thresholds would have meant; arrays of shape (thresholds,).

    Attributes:
        threshold: scores.
        alerts_per_day: cards a day with a flagged transaction, on average.
        card_precision: share of these cards on their day that are fraudulent; NaN when there is none.
        precision: share of the flagged transactions that are fraud; NaN when there is none.
        recall: share of the frauds that are flagged.
        value_detected: share of the fraud amount that is flagged; NaN where no amount is known.
        expected_cost: a day, as in `Metrics`.
    """

    threshold: Floats
    alerts_per_day: Floats
    card_precision: Floats
    precision: Floats
    recall: Floats
    value_detected: Floats
    expected_cost: Floats


@dataclass(frozen=True)
class Flagging:
    """A window of scored transactions, sorted so that the outcome of any threshold is looked up.

    Attributes:
        n_days: days with a transaction.
        card_days, fraud_card_days: scores of cards on their days, and of the fraudulent ones, ascending.
        scores, fraud_scores: of transactions and of frauds, ascending.
        value, loss: sums over the frauds from the highest score down to each of `fraud_scores`, and 0 at the end;
            shape (frauds + 1,).
        review: cost of an alert.
    """

    n_days: int
    card_days: Floats
    fraud_card_days: Floats
    scores: Floats
    fraud_scores: Floats
    value: Floats
    loss: Floats
    review: float

    @classmethod
    def of(
        cls,
        y: ArrayLike,
        score: ArrayLike,
        *,
        cards: ArrayLike | None,
        days: ArrayLike,
        amount: ArrayLike | None,
        costs: Costs,
    ) -> Flagging:
        """Sorts a window; arguments as for `metrics.evaluate_scores`.

        Raises:
            MetricsError: as `metrics.evaluate_scores`, but a window without a genuine row will do.
        """
        labels, scores = checked(y, score, both_classes=False)
        if not labels.any():
            raise MetricsError(
                f"none of the {len(labels):,} transactions is fraud, so no threshold is better than another"
            )
        codes, _ = card_codes(cards, len(labels))
        dates = integers("days", days, len(labels))
        amounts = None if amount is None else same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
        found = CardDays.of(labels, scores, codes, dates)
        order = np.argsort(scores[labels], kind="stable")
        losses = costs.losses(labels, amounts)[labels][order]
        known = np.zeros(len(order)) if amounts is None else np.nan_to_num(amounts[labels][order], posinf=0, neginf=0)
        return cls(
            n_days=len(np.unique(dates)),
            card_days=np.sort(found.score),
            fraud_card_days=np.sort(found.score[found.fraud]),
            scores=np.sort(scores),
            fraud_scores=scores[labels][order],
            value=_sums_down_to(np.maximum(known, 0.0)),
            loss=_sums_down_to(losses),
            review=costs.review,
        )

    def at(self, threshold: ArrayLike) -> Outcome:
        """The outcome of each threshold, shape (thresholds,)."""
        given = np.atleast_1d(np.asarray(threshold, dtype=np.float64))
        first = np.searchsorted(self.fraud_scores, given, side="left")
        caught = (len(self.fraud_scores) - first).astype(np.float64)
        alerts = _at_or_above(self.card_days, given)
        missed = self.loss[0] - self.loss[first]
        return Outcome(
            threshold=given,
            alerts_per_day=alerts / self.n_days,
            card_precision=ratio(_at_or_above(self.fraud_card_days, given), alerts),
            precision=ratio(caught, _at_or_above(self.scores, given)),
            recall=caught / len(self.fraud_scores),
            value_detected=ratio(self.value[first], np.full(len(given), self.value[0])),
            expected_cost=(self.review * alerts + missed) / self.n_days,
        )

    def for_capacity(self, cards_per_day: float) -> float:
        """The lowest threshold that flags at most so many cards a day, on average; all cards if that is enough.

        Unlike `decisions.choose_threshold` it may flag what is not worth its review, or nothing at all: a table of
        choices shows what each would bring.
        """
        return lowest_threshold(self.card_days, math.floor(cards_per_day * self.n_days))

    def least_cost(self) -> float:
        """The threshold with the lowest expected cost, the highest of several; above all scores to flag nothing.

        Between two frauds' scores a lower threshold adds reviews and catches nothing, so that the best is a fraud's
        score, or above all of them. For given costs this is the empirical form of the minimum-risk decision (Elkan,
        The Foundations of Cost-Sensitive Learning, IJCAI 2001) with one threshold for all amounts.
        """
        candidates = np.append(np.unique(self.fraud_scores), np.nextafter(self.scores[-1], np.inf))[::-1]
        return float(candidates[np.argmin(self.at(candidates).expected_cost)])

    @property
    def cards_per_day(self) -> float:
        """Cards a day that have a transaction, on average."""
        return len(self.card_days) / self.n_days


def threshold_choices(flagging: Flagging, threshold: float, capacities: Sequence[int] = CAPACITIES) -> dict[str, float]:
    """The thresholds a team can choose from, by name: none, each capacity, the model's own, the least cost.

    Args:
        flagging: the window.
        threshold: the model's own.
        capacities: cards a day; those that all cards of a day would not fill are left out.
    """
    by_capacity = {
        f"{cards} cards a day": flagging.for_capacity(cards) for cards in capacities if cards < flagging.cards_per_day
    }
    nothing = float(np.nextafter(flagging.scores[-1], np.inf))
    return {
        "no review": nothing,
        **by_capacity,
        "the model's threshold": threshold,
        "least cost": flagging.least_cost(),
    }


def threshold_rows(flagging: Flagging, threshold: float) -> list[dict[str, str | float]]:
    """`threshold_choices` and their outcomes as rows to show, rounded; what is not known is an empty text."""
    choices = threshold_choices(flagging, threshold)
    outcome = flagging.at(list(choices.values()))
    rows: list[dict[str, str | float]] = []
    for position, name in enumerate(choices):
        row: dict[str, str | float] = {"choice": name}
        for metric, values in vars(outcome).items():
            value = float(values[position])
            digits = 1 if metric in ("alerts_per_day", "expected_cost") else 4
            row[metric] = round(value, digits) if math.isfinite(value) else ""
        rows.append(row)
    return rows


def capacity_curve(flagging: Flagging, points: int = 60) -> Outcome:
    """Outcomes of capacities from 1 card a day to a third of all cards, evenly spaced by ratio."""
    most = max(flagging.cards_per_day / 3, 1.0)
    lowest = min(1.0, most / 2)
    return flagging.at([flagging.for_capacity(cards) for cards in np.geomspace(lowest, most, points)])


def precision_recall_curve(y: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Recall and precision at each distinct score of a fraud, from the highest down, shape (frauds' scores,).

    The area of its steps is average precision.

    Raises:
        MetricsError: as `metrics.average_precision`.
    """
    labels, scores = checked(y, score)
    steps = np.unique(scores[labels])[::-1]
    caught = _at_or_above(np.sort(scores[labels]), steps)
    return caught / labels.sum(), caught / _at_or_above(np.sort(scores), steps)


@dataclass(frozen=True)
class Calibration:
    """Bins of scores beside what came true; arrays of shape (bins,), lowest scores first.

    Attributes:
        expected: mean score.
        observed: share of fraud.
        low, high: 95 % interval of `observed` (Wilson's, for as many independent rows as the spread between cards
            leaves).
        n, n_fraud: transactions and frauds.
    """

    expected: Floats
    observed: Floats
    low: Floats
    high: Floats
    n: Floats
    n_fraud: Floats


def calibration_bins(y: ArrayLike, score: ArrayLike, cards: ArrayLike | None, bins: int = 10) -> Calibration | None:
    """Whether a score means what it says: bins that promise the same number of frauds each.

    With bins of equally many rows nearly all would lie where nobody decides anything. The edges come from the scores
    alone. Fewer bins are made when they would promise less than five frauds each.

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: shape (n,).
        cards: as for `metrics.evaluate_scores`.
        bins: how many at most.

    Returns:
        None when a score is no probability, or all are 0.

    Raises:
        MetricsError: as `metrics.card_precision_at_k`.
    """
    labels, scores = checked(y, score, both_classes=False)
    promised = float(scores.sum())
    if scores.min() < 0 or scores.max() > 1 or promised == 0:
        return None
    bins = max(1, min(bins, int(promised // 5)))
    order = np.argsort(scores, kind="stable")
    before = np.cumsum(scores[order]) - scores[order]
    # Equal scores stay together: a bin begins where a new score does.
    starts = np.flatnonzero(np.diff(scores[order], prepend=-1.0))
    begin = np.repeat(before[starts], np.diff(np.append(starts, len(order))))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.minimum(begin * bins / promised, bins - 1).astype(np.int64)
    _, place = np.unique(place, return_inverse=True)

    n = np.bincount(place).astype(np.float64)
    n_fraud = np.bincount(place, labels).astype(np.float64)
    share = n_fraud / n
    codes, n_cards = card_codes(cards, len(labels))
    deviations = np.bincount(place * n_cards + codes, labels - share[place], minlength=len(n) * n_cards)
    variance = (deviations.reshape(len(n), n_cards) ** 2).sum(axis=1) / n**2
    effective = np.minimum(n, ratio(share * (1 - share), variance, math.inf))
    low, high = _wilson(share, effective)
    return Calibration(np.bincount(place, scores) / n, share, low, high, n, n_fraud)


def _wilson(share: Floats, n: Floats, z: float = 1.959964) -> tuple[Floats, Floats]:
    """Wilson's score interval (JASA 22, 1927, 209-212), at 95 % by default."""
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def _at_or_above(ascending: Floats, threshold: Floats) -> Floats:
    return (len(ascending) - np.searchsorted(ascending, threshold, side="left")).astype(np.float64)


def _sums_down_to(values: Floats) -> Floats:
    """From the last value back to each one; 0 behind the last."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
