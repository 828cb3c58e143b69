"""Metrics against scikit-learn, against cases worked out by hand, and the bootstrap against what is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from fraud_assets.core.evaluation.segments import Segment, judge_segments
from fraud_assets.core.statistics import bootstrap
from fraud_assets.core.statistics.bootstrap import Interval, MetricsError
from fraud_assets.core.statistics.metrics import (
    Costs,
    Metrics,
    average_precision,
    card_precision_at_k,
    evaluate_scores,
    paired_ap_difference,
    recall_at_fpr,
    roc_auc,
    value_detection_rate,
)


def ranking(seed: int, n: int, decimals: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.2
    y[:2] = [True, False]
    score = 1 / (1 + np.exp(-rng.normal(y * 1.5 - 1.0, 1.0)))
    return y, np.round(score, decimals)


def bursts(seed: int, n_cards: int = 300) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Cards of ten rows; on one in ten, half the rows are fraud, and the card decides how they score."""
    rng = np.random.default_rng(seed)
    cards = np.repeat(np.arange(n_cards), 10)
    defrauded = rng.random(n_cards) < 0.1
    y = defrauded[cards] & (rng.random(len(cards)) < 0.5)
    score = rng.normal(size=len(cards)) * 0.3 + rng.normal(size=n_cards)[cards] + 2 * y
    return y, 1 / (1 + np.exp(-score)), cards


def width(interval: Interval) -> float:
    return interval.high - interval.low


def average_precision_interval(y: Any, score: Any, cards: Any, seed: int) -> Interval:
    """Of 100 draws, and without the other metrics."""
    everything = Segment("all", ("all",), np.zeros(len(y), dtype=np.int64), (None,))
    [part] = judge_segments(y, score, [everything], cards=cards, threshold=0.5, minimum_frauds=2, seed=seed)
    return part.average_precision


def evaluate(y: Any, score: Any, **changes: Any) -> Metrics:
    one_day = np.zeros(len(y), dtype=int)
    base: dict[str, Any] = {
        "cards": None,
        "days": one_day,
        "amount": None,
        "threshold": 0.5,
        "replicates": 20,
    }
    return evaluate_scores(y, score, **(base | changes))


# One day, four cards: card 0 has rows 0 and 1, card 1 row 2, card 2 row 3, card 3 row 4.
HAND_Y = np.array([False, True, False, True, False])
HAND_SCORE = np.array([0.9, 0.2, 0.8, 0.7, 0.1])
HAND_CARDS = np.array([0, 0, 1, 2, 3])
ONE_DAY = np.zeros(5, dtype=int)


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("decimals", [12, 1, 0], ids=["no ties", "many ties", "two scores"])
    @pytest.mark.parametrize("n", [2, 7, 500])
    def test_average_precision_and_roc_auc_are_the_same(self, n: int, decimals: int) -> None:
        y, score = ranking(seed=n, n=n, decimals=decimals)
        assert average_precision(y, score) == pytest.approx(average_precision_score(y, score), abs=1e-12)
        assert roc_auc(y, score) == pytest.approx(roc_auc_score(y, score), abs=1e-12)

    @pytest.mark.parametrize("decimals", [12, 1])
    def test_they_are_the_same_with_weights_and_zero_weights(self, decimals: int) -> None:
        y, score = ranking(seed=3, n=400, decimals=decimals)
        weight = np.random.default_rng(4).integers(0, 4, len(y))
        assert average_precision(y, score, weight) == pytest.approx(
            average_precision_score(y, score, sample_weight=weight), abs=1e-12
        )
        assert roc_auc(y, score, weight) == pytest.approx(roc_auc_score(y, score, sample_weight=weight), abs=1e-12)

    def test_a_weight_of_three_is_three_rows(self) -> None:
        y, score = ranking(seed=5, n=200, decimals=1)
        weight = np.random.default_rng(6).integers(0, 4, len(y))
        repeated = average_precision(np.repeat(y, weight), np.repeat(score, weight))
        assert average_precision(y, score, weight) == pytest.approx(repeated, abs=1e-12)

    def test_each_bootstrap_sample_is_what_scikit_learn_says_of_the_resampled_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        y, score, cards = bursts(seed=7, n_cards=60)
        score = np.round(score, 1)
        # Three samples a block: the last block is a shorter one.
        monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", 3 * 60)
        rng = np.random.default_rng(11)
        expected = []
        for _ in range(40):
            drawn = np.bincount(rng.integers(0, 60, 60), minlength=60)[cards]
            expected.append(average_precision_score(y, score, sample_weight=drawn))
        interval = evaluate(y, score, cards=cards, replicates=40, seed=11).average_precision
        # With 7 defrauded cards Student's t has 6 degrees of freedom and is 2.4469 at 95 %; times sqrt(7 / 6)
        # that is 2.6430 standard errors, beyond which the normal distribution has 0.4109 % in a tail.
        assert len(np.unique(cards[y])) == 7
        assert interval.low == pytest.approx(np.quantile(expected, 0.004109), abs=1e-5)
        assert interval.high == pytest.approx(np.quantile(expected, 1 - 0.004109), abs=1e-5)


class TestAgainstALoop:
    def test_every_interval_is_that_of_metrics_computed_anew_on_each_draw(self) -> None:
        """Draws of whole cards written out as rows, in which a card drawn twice is two cards."""
        rng = np.random.default_rng(21)
        y, score, cards = bursts(seed=9, n_cards=40)
        score = np.round(score, 2)
        days, amount = rng.integers(0, 6, len(y)), np.round(rng.gamma(2, 20, len(y)), 2)
        amount[rng.random(len(y)) < 0.1] = np.nan
        costs, k, threshold = Costs(2, 0.5, 30), 4, float(np.median(score[y]))
        drawing, drawn = np.random.default_rng(3), []
        for _ in range(30):
            chosen = drawing.integers(0, 40, 40)
            rows = np.concatenate([np.flatnonzero(cards == card) for card in chosen])
            copy = np.concatenate([np.full((cards == card).sum(), place) for place, card in enumerate(chosen)])
            drawn.append(_by_hand(y[rows], score[rows], copy, days[rows], amount[rows], threshold, k, costs))
        found = evaluate(
            y,
            score,
            cards=cards,
            days=days,
            amount=amount,
            threshold=threshold,
            k=k,
            costs=costs,
            replicates=30,
            seed=3,
        )
        whole = _by_hand(y, score, cards, days, amount, threshold, k, costs)
        n_cards = len(np.unique(cards[y]))
        for name, value in whole.items():
            interval = getattr(found, name)
            expected = bootstrap.percentile_interval(value, np.array([draw[name] for draw in drawn]), n_cards, 0.95)
            if name == "average_precision":
                expected = bootstrap.with_rare_errors(expected, int(y.sum()), 0.95)
            assert (interval.value, interval.low, interval.high) == pytest.approx(
                (expected.value, expected.low, expected.high), abs=1e-12
            ), name


def _by_hand(
    y: Any, score: Any, cards: Any, days: Any, amount: Any, threshold: float, k: int, costs: Costs
) -> dict[str, float]:
    flagged, known = score >= threshold, y & np.isfinite(amount)
    alerts = len({(card, day) for card, day, alert in zip(cards, days, flagged, strict=True) if alert})
    losses = np.where(np.isfinite(amount), costs.loss_share * amount, costs.fixed_loss)
    return {
        "average_precision": average_precision_score(y, score),
        "roc_auc": roc_auc_score(y, score),
        "precision_at_k": card_precision_at_k(y, score, cards=None, days=days, k=k),
        "card_precision_at_k": card_precision_at_k(y, score, cards=cards, days=days, k=k),
        "recall_at_fpr_1pct": recall_at_fpr(y, score, 0.01),
        "precision_at_threshold": y[flagged].mean(),
        "recall_at_threshold": flagged[y].mean(),
        "value_detection_rate": amount[known & flagged].sum() / amount[known].sum(),
        "alerts_per_day": alerts / 6,
        "expected_cost": (costs.review * alerts + losses[y & ~flagged].sum()) / 6,
        "cost_without_review": losses[y].sum() / 6,
        "brier": brier_score_loss(y, score),
        "expected_over_observed": score.sum() / y.sum(),
    }


class TestValuesWorkedOutByHand:
    def test_every_metric_of_five_rows(self) -> None:
        amount = np.array([10.0, 30.0, 10.0, 10.0, 10.0])
        result = evaluate(HAND_Y, HAND_SCORE, cards=HAND_CARDS, days=ONE_DAY, amount=amount, threshold=0.7, k=2)
        assert (result.n, result.n_fraud, result.prevalence) == (5, 2, 0.4)
        # Frauds are third and fourth: (1/3 + 2/4) / 2.
        assert result.average_precision.value == pytest.approx(5 / 12)
        # Each fraud has one of three genuine rows below it: 2 of 6 pairs.
        assert result.roc_auc.value == pytest.approx(1 / 3)
        # Cards by their best row: card 0 (.9, has a fraud), card 1 (.8): one of two.
        assert result.card_precision_at_k.value == 0.5
        # By themselves the two first rows are genuine.
        assert result.precision_at_k.value == 0.0
        # 1 % of three genuine rows allows no false positive, and the first row is one.
        assert result.recall_at_fpr_1pct.value == 0.0
        # Three rows of three cards score .7 or more, and one of two frauds.
        assert (result.alerts_per_day.value, result.cards_per_day) == (3, 4)
        assert result.precision_at_threshold.value == pytest.approx(1 / 3)
        assert result.recall_at_threshold.value == 0.5
        # Of 30 + 10 lost, the 10 scored at the threshold.
        assert result.value_detection_rate is not None
        assert result.value_detection_rate.value == 0.25
        # Three reviews at 5, and 30 missed; without reviews 30 and 10.
        assert result.expected_cost.value == 45
        assert result.cost_without_review.value == 40
        # The mean of .81, .64, .64, .09 and .01.
        assert result.brier.value == pytest.approx(0.438)
        # The scores promise 2.7 frauds where there are two.
        assert result.expected_over_observed.value == pytest.approx(1.35)

    def test_costs_are_a_day_s_and_frauds_of_unknown_amount_lose_the_fixed_loss(self) -> None:
        # Two days; two reviews at 3 on each; missed are 20 at a half, and one of unknown amount at 70.
        y = np.array([True, False, True, True, False, True])
        score = np.array([0.9, 0.8, 0.1, 0.2, 0.7, 0.6])
        amount = np.array([500.0, 1.0, 20.0, np.nan, 1.0, 1.0])
        result = evaluate(
            y, score, days=np.array([0, 0, 0, 1, 1, 1]), amount=amount, threshold=0.6, costs=Costs(3, 0.5, 70)
        )
        assert result.expected_cost.value == (4 * 3 + 10 + 70) / 2

    def test_without_amounts_a_missed_fraud_costs_the_fixed_loss(self) -> None:
        assert evaluate(HAND_Y, HAND_SCORE, threshold=0.85, costs=Costs(1, 1, 10)).expected_cost.value == 1 + 2 * 10

    def test_precision_of_a_threshold_that_flags_nothing_is_unknown_and_its_cost_is_the_whole_loss(self) -> None:
        result = evaluate(HAND_Y, HAND_SCORE, threshold=2.0)
        assert math.isnan(result.precision_at_threshold.value)
        assert (result.recall_at_threshold.value, result.alerts_per_day.value) == (0.0, 0.0)
        assert result.expected_cost.value == 200

    def test_frauds_that_all_were_flagged_or_none_do_not_make_the_recall_certain(self) -> None:
        # Two cards with a fraud: .025 ** (1 / 2) is .158.
        y, score = np.array([True, True, False, False]), np.array([0.9, 0.8, 0.2, 0.1])
        every, none = (evaluate(y, score, cards=np.arange(4), threshold=at).recall_at_threshold for at in (0.5, 0.95))
        assert (every.low, every.high) == (pytest.approx(0.158, abs=0.001), 1.0)
        assert (none.low, none.high) == (0.0, pytest.approx(0.842, abs=0.001))

    def test_an_ap_of_one_on_few_frauds_is_not_certain(self) -> None:
        # As a share 20.5 / 21 of 20: its log odds are 3.714, give or take 1.96 * 1.466.
        y = np.arange(400) < 20
        ap = evaluate(y, y * 0.9, cards=np.arange(400)).average_precision
        assert (ap.value, ap.low, ap.high) == (1.0, pytest.approx(0.698, abs=0.001), 1.0)

    def test_tied_scores_are_flagged_together(self) -> None:
        result = evaluate(HAND_Y, np.full(5, 0.5), threshold=0.5)
        assert result.precision_at_threshold.value == 0.4
        assert result.recall_at_threshold.value == 1.0
        assert result.recall_at_fpr_1pct.value == 0.0

    def test_precision_at_k_shares_the_last_place_among_ties(self) -> None:
        # After .9 one place is left for three tied rows, two of them of the same card, one fraudulent: 1/3 of 2.
        y, score = np.array([False, True, False, False]), np.array([0.9, 0.5, 0.5, 0.5])
        assert evaluate(y, score, cards=np.array([0, 1, 1, 2]), k=2).precision_at_k.value == pytest.approx(1 / 3 / 2)

    def test_recall_counts_only_frauds_above_the_false_positives_allowed(self) -> None:
        # 1 % of 200 genuine rows are two: frauds above the third genuine score are caught, ties with it not.
        genuine = np.arange(200) / 1000
        frauds = np.array([0.5, 0.1985, 0.1975, 0.197, 0.1])
        y = np.concatenate([np.zeros(200, dtype=bool), np.ones(5, dtype=bool)])
        assert recall_at_fpr(y, np.concatenate([genuine, frauds]), 0.01) == pytest.approx(3 / 5)

    def test_recall_is_complete_when_every_genuine_row_may_be_flagged(self) -> None:
        assert recall_at_fpr(HAND_Y, HAND_SCORE, 1.0) == 1.0

    def test_card_precision_averages_days_and_divides_by_k_even_when_cards_are_fewer(self) -> None:
        # Day 0: one card, fraud: 1 / 2. Day 1: cards .9 genuine, .8 fraud, .7 fraud: 1 / 2. Day 2: none: 0.
        y = np.array([True, False, True, True, False])
        score = np.array([0.1, 0.9, 0.8, 0.7, 0.95])
        value = card_precision_at_k(y, score, cards=np.arange(5), days=np.array([4, 5, 5, 5, 9]), k=2)
        assert value == pytest.approx((0.5 + 0.5 + 0.0) / 3)

    def test_cards_tied_at_the_last_place_share_it_whatever_the_order_of_rows(self) -> None:
        # After the first card one place is left for three tied cards, one of them fraudulent: 1/3 of k = 2.
        y, score = np.array([False, True, False, False]), np.array([0.9, 0.5, 0.5, 0.5])
        for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
            value = card_precision_at_k(y[order], score[order], cards=np.arange(4), days=np.zeros(4, int), k=2)
            assert value == pytest.approx(1 / 3 / 2)

    def test_a_card_is_one_card_however_many_of_its_rows_score_high(self) -> None:
        y, score = np.array([False, False, True]), np.array([0.9, 0.8, 0.7])
        days = np.zeros(3, dtype=int)
        assert card_precision_at_k(y, score, cards=np.array([5, 5, 8]), days=days, k=2) == 0.5
        assert card_precision_at_k(y, score, cards=None, days=days, k=2) == 0.0

    @pytest.mark.parametrize("k", [1, 3, 20])
    def test_card_precision_is_that_of_sorting_each_day(self, k: int) -> None:
        y, score = ranking(seed=8, n=600, decimals=12)
        rng = np.random.default_rng(9)
        cards, days = rng.integers(0, 40, 600), rng.integers(100, 110, 600)
        found = []
        for day in range(100, 110):
            best = {
                card: (score[mine].max(), y[mine].any())
                for card in range(40)
                if (mine := (cards == card) & (days == day)).any()
            }
            first = sorted(best.values(), reverse=True)[:k]
            found.append(sum(fraud for _, fraud in first) / k)
        assert card_precision_at_k(y, score, cards=cards, days=days, k=k) == pytest.approx(np.mean(found))

    def test_unknown_and_negative_amounts_are_left_out_of_the_value_detected(self) -> None:
        y = np.array([True, True, True, True, False])
        score = np.array([0.9, 0.1, 0.9, 0.9, 0.9])
        amount = np.array([30.0, 10.0, np.nan, -500.0, 1e6])
        assert value_detection_rate(y, score, amount, 0.5) == 0.75

    @pytest.mark.parametrize("amount", [None, np.full(5, np.nan)], ids=["no amounts", "none known"])
    def test_without_amounts_there_is_no_value_detection_rate(self, amount: Any) -> None:
        assert value_detection_rate(HAND_Y, HAND_SCORE, amount, 0.5) is None

    def test_scores_that_are_no_probabilities_have_a_ranking_but_no_calibration(self) -> None:
        result = evaluate(HAND_Y, HAND_SCORE * 10)
        assert result.average_precision.value == pytest.approx(5 / 12)
        assert math.isnan(result.brier.value)
        assert math.isnan(result.expected_over_observed.value)

    def test_where_nothing_was_expected_it_is_none_of_the_observed(self) -> None:
        assert evaluate(HAND_Y, np.zeros(5)).expected_over_observed.value == 0.0


class TestBootstrap:
    def test_the_same_seed_gives_the_same_metrics_and_another_seed_other_bounds(self) -> None:
        y, score, cards = bursts(seed=0)
        first, again, other = (evaluate(y, score, cards=cards, seed=seed) for seed in (1, 1, 2))
        assert first == again
        assert first.average_precision.value == other.average_precision.value
        assert first.average_precision.low != other.average_precision.low

    def test_drawing_cards_is_wider_than_drawing_rows_where_the_card_decides(self) -> None:
        y, score, cards = bursts(seed=0)
        by_card = evaluate(y, score, cards=cards, replicates=400).average_precision
        by_row = evaluate(y, score, cards=None, replicates=400).average_precision
        assert by_card.value == by_row.value
        assert width(by_card) > 1.3 * width(by_row)

    def test_the_interval_of_cards_covers_the_truth_as_often_as_it_says_and_that_of_rows_does_not(
        self,
    ) -> None:
        truth = average_precision(*bursts(seed=12345, n_cards=60_000)[:2])
        by_card = by_row = 0
        for seed in range(100):
            y, score, cards = bursts(seed)
            card, row = (average_precision_interval(y, score, codes, seed) for codes in (cards, None))
            by_card += card.low <= truth <= card.high
            by_row += row.low <= truth <= row.high
        # Of 100 intervals at 95 %, fewer than 88 cover with probability 0.0015 only.
        assert by_card >= 88
        assert by_row < 88

    def test_one_defrauded_card_gives_a_value_without_bounds(self) -> None:
        y = HAND_Y & (HAND_CARDS == 0)
        result = evaluate(y, HAND_SCORE, cards=HAND_CARDS)
        for interval in (result.average_precision, result.roc_auc, result.card_precision_at_k, result.brier):
            assert math.isfinite(interval.value)
            assert math.isnan(interval.low)
            assert not interval.is_known

    def test_a_negative_code_is_a_card_of_its_own(self) -> None:
        y, score, cards = bursts(seed=2)
        unknown = np.where(cards % 2 == 0, -1, cards)
        apart = np.where(cards % 2 == 0, 10_000 + np.arange(len(cards)), cards)
        assert evaluate(y, score, cards=unknown, k=5) == evaluate(y, score, cards=apart, k=5)

    def test_samples_without_a_genuine_row_are_left_out(self) -> None:
        # Both frauds below both genuine cards: AP of a sample is its share of frauds, at most 3 of 4 draws.
        y, score = np.array([True, True, False, False]), np.array([0.1, 0.1, 0.9, 0.9])
        ladder = bootstrap.PrecisionLadder.of(y, score, np.arange(4), 4)
        drawn = [ladder.average_precision(counts) for counts in bootstrap.resamples(4, ladder.levels, 200, 0)]
        interval = bootstrap.percentile_interval(0.5, np.concatenate(drawn), 2, 0.95)
        assert (interval.low, interval.high) == (0.25, 0.75)

    def test_the_bounds_of_card_precision_count_a_card_drawn_twice_as_two(self) -> None:
        # Of two frauds and two genuine cards with k = 4, a sample's CP@4 is its number of frauds / 4, and all
        # of 0 to 4 occur among 200 samples; one place is never left empty.
        y, score = np.array([True, True, False, False]), np.array([0.9, 0.8, 0.7, 0.6])
        interval = evaluate(y, score, cards=np.arange(4), k=4, replicates=200).card_precision_at_k
        assert interval == Interval(0.5, 0.0, 1.0)


class TestPairedDifference:
    def test_it_is_the_difference_of_the_two_average_precisions(self) -> None:
        y, champion = ranking(seed=1, n=800, decimals=3)
        challenger = np.random.default_rng(2).permutation(champion)
        interval = paired_ap_difference(y, champion, challenger, None, replicates=50)
        expected = average_precision_score(y, challenger) - average_precision_score(y, champion)
        assert interval.value == pytest.approx(expected, abs=1e-12)
        assert interval.high < 0

    def test_a_model_against_itself_on_another_scale_differs_by_exactly_nothing(self) -> None:
        y, score, cards = bursts(seed=3)
        assert paired_ap_difference(y, score, 10 * score, cards, 50) == Interval(0.0, 0.0, 0.0)

    def test_pairing_finds_a_small_improvement_that_separate_intervals_hide(self) -> None:
        y, score, cards = bursts(seed=4)
        better = score + 0.03 * y
        separate = [evaluate(y, each, cards=cards, replicates=200).average_precision for each in (score, better)]
        assert separate[0].high > separate[1].low
        assert paired_ap_difference(y, score, better, cards, 200).low > 0

    def test_terminals_widen_the_interval_where_they_decide(self) -> None:
        # Each row is a card of its own, and a whole terminal is scored better or worse by the challenger.
        y, champion, terminals = bursts(seed=5)
        shift = np.random.default_rng(6).normal(size=300)[terminals] * 0.3
        challenger = champion + shift * y
        by_card = paired_ap_difference(y, champion, challenger, None, 200)
        by_both = paired_ap_difference(y, champion, challenger, None, 200, terminals=terminals)
        assert by_both == paired_ap_difference(y, champion, challenger, terminals, 200)
        assert width(by_both) > 1.2 * width(by_card)

    def test_terminals_never_narrow_the_interval(self) -> None:
        y, champion, cards = bursts(seed=5)
        challenger = champion + np.random.default_rng(6).normal(size=300)[cards] * 0.3 * y
        rows = np.arange(len(y))
        assert paired_ap_difference(y, champion, challenger, cards, 200, terminals=rows) == (
            paired_ap_difference(y, champion, challenger, cards, 200)
        )

    def test_frauds_of_one_terminal_leave_the_difference_without_bounds(self) -> None:
        y, champion, cards = bursts(seed=5)
        interval = paired_ap_difference(y, champion, champion**2, cards, 50, terminals=np.where(y, 1, 2))
        assert not interval.is_known


class TestDefinedErrors:
    @pytest.mark.parametrize("measure", [evaluate, average_precision, roc_auc, recall_at_fpr])
    @pytest.mark.parametrize(
        ("y", "score", "message"),
        [
            pytest.param([], [], "there is no transaction to evaluate", id="no row"),
            pytest.param([False] * 3, [0.1, 0.2, 0.3], "none of the 3 transactions is fraud.*wait", id="genuine"),
            pytest.param([True] * 3, [0.1, 0.2, 0.3], "all 3 transactions are fraud.*check", id="fraud"),
            pytest.param([True, False], [0.1, np.nan], "1 of 2 scores are NaN or infinite", id="NaN"),
            pytest.param([True, False], [np.inf, -np.inf], "2 of 2 scores are NaN or infinite", id="infinite"),
            pytest.param([1.0, np.nan], [0.1, 0.2], "1 of 2 labels are neither true nor false", id="unknown label"),
            pytest.param([True], [0.1, 0.2], r"y has shape \(1,\) beside 2 scores", id="lengths"),
            pytest.param([True, False], [[0.1, 0.2]], r"scores have shape \(1, 2\)", id="two columns"),
        ],
    )
    def test_what_cannot_be_measured_is_said(self, measure: Any, y: Any, score: Any, message: str) -> None:
        with pytest.raises(MetricsError, match=message):
            measure(np.array(y), np.array(score))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"days": np.zeros(4, int)}, "days has shape"),
            ({"amount": np.zeros(4)}, "amount has shape"),
            ({"cards": np.zeros(4, int)}, "cards has shape"),
            ({"cards": np.array(list("aabcd"))}, "cards are <U1; give integers"),
            ({"days": np.zeros(5, "datetime64[D]")}, r"days are datetime64\[D\]; give integers"),
            ({"k": 0}, "k is 0"),
            ({"replicates": 0}, "replicates is 0"),
            ({"confidence": 95}, "confidence is 95"),
        ],
    )
    def test_an_argument_that_makes_no_sense_is_named(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(MetricsError, match=message):
            evaluate(HAND_Y, HAND_SCORE, **changes)

    @pytest.mark.parametrize("costs", [{"review": -1}, {"loss_share": math.nan}, {"fixed_loss": math.inf}])
    def test_costs_below_nothing_or_without_end_are_refused(self, costs: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="costs are finite and 0 or more"):
            Costs(**costs)

    def test_labels_of_zero_and_one_are_labels(self) -> None:
        assert evaluate(HAND_Y.astype(int), HAND_SCORE) == evaluate(HAND_Y, HAND_SCORE)


def test_a_row_has_three_columns_for_an_interval_and_none_for_what_is_unknown() -> None:
    unknown = Interval(math.nan, math.nan, math.nan)
    row = Metrics(
        n=5,
        n_fraud=2,
        prevalence=0.4,
        average_precision=Interval(0.5, 0.4, 0.6),
        roc_auc=unknown,
        precision_at_k=unknown,
        card_precision_at_k=Interval(0.2, math.nan, math.nan),
        k=50,
        recall_at_fpr_1pct=unknown,
        threshold=0.5,
        alerts_per_day=Interval(7.5, math.nan, math.nan),
        cards_per_day=50.0,
        precision_at_threshold=unknown,
        recall_at_threshold=unknown,
        value_detection_rate=None,
        expected_cost=unknown,
        cost_without_review=unknown,
        brier=unknown,
        expected_over_observed=unknown,
    ).as_row()
    assert {name: value for name, value in row.items() if value is not None} == {
        "n": 5,
        "n_fraud": 2,
        "prevalence": 0.4,
        "average_precision": 0.5,
        "average_precision_low": 0.4,
        "average_precision_high": 0.6,
        "card_precision_at_50": 0.2,
        "threshold": 0.5,
        "alerts_per_day": 7.5,
        "cards_per_day": 50.0,
    }
    assert {"card_precision_at_50_low", "precision_at_50", "value_detection_rate", "brier_high"} <= set(row)
