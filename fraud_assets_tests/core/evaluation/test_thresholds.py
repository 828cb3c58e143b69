"""What other thresholds would have meant, against cases worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve as sklearn_curve

from fraud_assets.core.evaluation.thresholds import (
    Flagging,
    calibration_bins,
    capacity_curve,
    precision_recall_curve,
    threshold_choices,
    threshold_rows,
)
from fraud_assets.core.statistics.bootstrap import MetricsError
from fraud_assets.core.statistics.metrics import Costs, average_precision, evaluate_scores

# Two days. Day 0: card 0 (.9 genuine and .2 fraud of 30), card 1 (.8 genuine); day 1: card 0 (.7 fraud of 10), card 2
# (.1 genuine).
Y = np.array([False, True, False, True, False])
SCORE = np.array([0.9, 0.2, 0.8, 0.7, 0.1])
CARDS = np.array([0, 0, 1, 0, 2])
DAYS = np.array([0, 0, 0, 1, 1])
AMOUNT = np.array([5.0, 30.0, 5.0, 10.0, 5.0])


def flagging(**changes: Any) -> Flagging:
    base: dict[str, Any] = {"y": Y, "score": SCORE, "cards": CARDS, "days": DAYS, "amount": AMOUNT, "costs": Costs(2)}
    given = base | changes
    return Flagging.of(given.pop("y"), given.pop("score"), **given)


def many(seed: int = 0, n: int = 4000) -> tuple[Any, Any]:
    """Scores of two decimals that are the probabilities by which the frauds were drawn."""
    rng = np.random.default_rng(seed)
    score = np.round(rng.beta(0.5, 4, n), 2)
    return rng.random(n) < score, score


class TestOutcome:
    def test_an_outcome_is_as_worked_out_by_hand(self) -> None:
        outcome = flagging().at([0.7, 0.15, 2.0])
        assert outcome.alerts_per_day.tolist() == [1.5, 1.5, 0.0]
        # Of the three cards, card 0 is fraudulent on both days.
        assert outcome.card_precision[:2].tolist() == [2 / 3, 2 / 3]
        assert outcome.precision[:2].tolist() == [1 / 3, 2 / 4]
        assert outcome.recall.tolist() == [0.5, 1.0, 0.0]
        assert outcome.value_detected.tolist() == [0.25, 1.0, 0.0]
        # Three reviews at 2 and 30 missed; three reviews; 40 missed; over two days.
        assert outcome.expected_cost.tolist() == [18.0, 3.0, 20.0]
        assert math.isnan(outcome.precision[2])
        assert math.isnan(outcome.card_precision[2])

    def test_it_is_what_the_metrics_say_at_that_threshold(self) -> None:
        y, score = many()
        rng = np.random.default_rng(1)
        window: dict[str, Any] = {
            "cards": rng.integers(0, 300, len(y)),
            "days": rng.integers(0, 7, len(y)),
            "amount": rng.gamma(2, 20, len(y)),
            "costs": Costs(3, 0.7, 50),
        }
        metrics = evaluate_scores(y, score, threshold=0.25, replicates=1, **window)
        outcome = Flagging.of(y, score, **window).at(0.25)
        assert metrics.value_detection_rate is not None
        assert {name: float(value[0]) for name, value in vars(outcome).items() if name != "card_precision"} == (
            pytest.approx(
                {
                    "threshold": 0.25,
                    "alerts_per_day": metrics.alerts_per_day.value,
                    "precision": metrics.precision_at_threshold.value,
                    "recall": metrics.recall_at_threshold.value,
                    "value_detected": metrics.value_detection_rate.value,
                    "expected_cost": metrics.expected_cost.value,
                }
            )
        )

    def test_without_amounts_no_value_is_detected_and_a_miss_costs_the_fixed_loss(self) -> None:
        outcome = flagging(amount=None, costs=Costs(2, 1, 100)).at(0.7)
        assert math.isnan(outcome.value_detected[0])
        assert outcome.expected_cost.tolist() == [(3 * 2 + 100) / 2]

    def test_a_fraud_of_unknown_or_negative_amount_has_no_value_to_detect_and_costs_the_fixed_loss(self) -> None:
        amount = np.array([5.0, np.nan, 5.0, -10.0, 5.0])
        outcome = flagging(amount=amount, costs=Costs(2, 1, 100)).at([0.7, 2.0])
        assert np.isnan(outcome.value_detected).all()
        assert outcome.expected_cost.tolist() == [(3 * 2 + 100) / 2, 200 / 2]

    def test_a_window_without_customers_reviews_transactions(self) -> None:
        assert flagging(cards=None).at(0.15).alerts_per_day.tolist() == [2.0]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"y": np.zeros(5, dtype=bool)}, "none of the 5 transactions is fraud"),
            ({"score": np.array([0.1, np.nan, 0.2, 0.3, 0.4])}, "1 of 5 scores are NaN"),
            ({"amount": np.zeros(4)}, "amount has shape"),
        ],
    )
    def test_a_window_that_tells_nothing_is_refused(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(MetricsError, match=message):
            flagging(**changes)


class TestChoices:
    def test_a_capacity_is_met_on_average_over_days(self) -> None:
        # The cards' best scores are .9 and .8, then .7 and .1: one a day is two, one and a half a day is three.
        assert flagging().for_capacity(1) == 0.8
        assert flagging().for_capacity(1.5) == 0.7
        assert flagging().for_capacity(2) == 0.1

    def test_ties_that_exceed_the_capacity_are_not_flagged(self) -> None:
        tied = flagging(score=np.array([0.9, 0.2, 0.8, 0.8, 0.8]))
        assert tied.for_capacity(1) == 0.9
        assert 0.9 < tied.for_capacity(0) < 0.9000001

    def test_a_constant_score_leaves_all_or_nothing(self) -> None:
        constant = flagging(score=np.full(5, 0.5))
        assert constant.for_capacity(1) > 0.5
        assert constant.for_capacity(2) == 0.5

    @pytest.mark.parametrize(
        ("costs", "threshold"),
        [
            # Reviews cost next to nothing, so all frauds are worth it.
            (Costs(0.01), 0.2),
            # Three reviews for the .7, a fraud of 10, do not pay; nor do they for all 40.
            (Costs(15), 0.9000000000000001),
            # All three cards are reviewed for both frauds or for one: the other comes without another review.
            (Costs(5), 0.2),
        ],
    )
    def test_the_least_cost_depends_on_what_a_review_costs(self, costs: Costs, threshold: float) -> None:
        assert flagging(costs=costs).least_cost() == threshold

    def test_the_least_cost_is_that_of_trying_every_score(self) -> None:
        y, score = many(3)
        window = Flagging.of(
            y, score, cards=None, days=np.zeros(len(y), int), amount=np.full(len(y), 20.0), costs=Costs(4)
        )
        tried = np.append(np.unique(score), 2.0)
        assert window.at(window.least_cost()).expected_cost[0] == window.at(tried).expected_cost.min()
        # Scores are probabilities here: a review pays from 4 / 20 on (Elkan 2001).
        assert window.least_cost() == pytest.approx(0.2, abs=0.05)

    def test_capacities_beyond_all_cards_of_a_day_are_no_choice(self) -> None:
        assert list(threshold_choices(flagging(), 0.5)) == ["no review", "the model's threshold", "least cost"]
        assert list(threshold_choices(flagging(), 0.5, capacities=(1, 2, 3)))[:2] == ["no review", "1 cards a day"]

    def test_rows_to_show_have_no_number_that_is_none(self) -> None:
        nothing, own, least = threshold_rows(flagging(amount=None), 0.7)
        assert (nothing["choice"], nothing["alerts_per_day"], nothing["precision"]) == ("no review", 0.0, "")
        assert (own["threshold"], own["precision"], own["value_detected"]) == (0.7, 0.3333, "")
        assert least["threshold"] == 0.2


class TestCurves:
    def test_precision_and_recall_are_scikit_learn_s_at_the_frauds_scores(self) -> None:
        y, score = many(5)
        recall, precision = precision_recall_curve(y, score)
        expected = {(r, p) for p, r, t in zip(*sklearn_curve(y, score), strict=False) if t in set(score[y])}
        assert set(zip(recall, precision, strict=True)) == expected
        assert np.sum(np.diff(recall, prepend=0) * precision) == pytest.approx(average_precision(y, score))

    def test_the_curve_of_capacities_rises_from_one_card_to_a_third_of_all(self) -> None:
        y, score = many()
        window = Flagging.of(
            y, score + np.arange(len(y)) * 1e-9, cards=None, days=np.arange(len(y)) % 10, amount=None, costs=Costs()
        )
        curve = capacity_curve(window)
        assert (curve.alerts_per_day[0], curve.alerts_per_day[-1]) == pytest.approx((1.0, 400 / 3), abs=0.1)
        assert (np.diff(curve.recall) >= 0).all()

    def test_a_window_of_a_card_a_day_has_a_curve_too(self) -> None:
        one = Flagging.of([True, False], [0.9, 0.1], cards=None, days=[0, 1], amount=None, costs=Costs())
        assert capacity_curve(one).recall[-1] == 1.0


class TestCalibration:
    def test_bins_promise_the_same_number_of_frauds_and_count_what_came(self) -> None:
        # 40 rows of .25 promise 10 frauds and 20 rows of .5 another 10: two bins of ten (four of five would do too).
        score = np.repeat([0.25, 0.5], [40, 20])
        y = np.zeros(60, dtype=bool)
        y[:8], y[40:55] = True, True
        found = calibration_bins(y, score, None, bins=2)
        assert found is not None
        assert found.expected.tolist() == [0.25, 0.5]
        assert found.observed.tolist() == [0.2, 0.75]
        assert (found.n.tolist(), found.n_fraud.tolist()) == ([40, 20], [8, 15])
        # Wilson's interval of 8 of 40 at 95 %.
        assert (found.low[0], found.high[0]) == pytest.approx((0.10497, 0.34756), abs=1e-4)

    def test_equal_scores_stay_in_one_bin(self) -> None:
        found = calibration_bins(np.arange(100) < 30, np.full(100, 0.5), None)
        assert found is not None
        assert found.n.tolist() == [100]

    def test_few_frauds_expected_make_few_bins(self) -> None:
        y, score = many(n=100)
        found = calibration_bins(y, score, None)
        assert found is not None
        assert len(found.n) <= score.sum() / 5

    def test_rows_of_one_card_are_no_independent_evidence(self) -> None:
        # Of ten cards with ten rows each, three are all fraud.
        score, cards = np.full(100, 0.3), np.repeat(np.arange(10), 10)
        by_row, by_card = (calibration_bins(cards < 3, score, codes) for codes in (None, cards))
        assert by_row is not None
        assert by_card is not None
        alone = calibration_bins(np.arange(10) < 3, np.full(10, 0.3), None)
        assert alone is not None
        assert (by_card.low[0], by_card.high[0]) == pytest.approx((alone.low[0], alone.high[0]))
        assert by_card.high[0] - by_card.low[0] > 2 * (by_row.high[0] - by_row.low[0])

    @pytest.mark.parametrize("score", [np.zeros(4), np.array([0.1, 0.2, 3.0, 0.1]), np.array([-0.1, 0.2, 0.3, 0.1])])
    def test_what_promises_nothing_or_is_no_probability_has_no_calibration(self, score: Any) -> None:
        assert calibration_bins([True, False, True, False], score, None) is None
