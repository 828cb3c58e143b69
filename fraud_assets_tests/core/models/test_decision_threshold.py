"""The decision threshold, against trying every threshold, and over kinds of scores, prevalences, capacities, costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.models.decision_rule import PROMISED, DecisionRule
from fraud_assets.core.models.decision_threshold import BELIEF_FRAUDS, choose_threshold
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.statistics.bootstrap import MetricsError
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.metrics import evaluate_scores

# Ten transactions of ten cards on two days; the frauds are the first, third and fourth by score.
SCORE = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0])
Y = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
DAYS = np.arange(10) % 2


def choose(y: Any = Y, score: Any = SCORE, **changes: Any) -> DecisionRule:
    base: dict[str, Any] = {
        "cards": None, "days": DAYS, "amount": None, "capacity_per_day": 100, "costs": Costs(5, 1, 100),
    }  # fmt: skip
    return choose_threshold(y, score, **(base | changes))


def flagged(rule: DecisionRule, score: Any) -> Any:
    return np.asarray(score) >= rule.threshold


class TestByHand:
    def test_the_capacity_bounds_what_is_flagged_and_more_would_be_worth_it(self) -> None:
        rule = choose(capacity_per_day=1)
        assert flagged(rule, SCORE).sum() == 2
        assert rule.sentence == (
            "A transaction is reviewed when it scores 0.7534 or more: as many as 1 review a day can look at; more "
            "would have been worth their cost; a review costs 5, a missed fraud 100."
        )

    def test_the_threshold_lies_halfway_in_log_odds_to_the_next_score(self) -> None:
        # Log odds of .8 and .7 are 1.386 and 0.847; those of .7534 are their mean.
        threshold = choose(capacity_per_day=1).threshold
        assert math.log(threshold / (1 - threshold)) == pytest.approx((math.log(4) + math.log(7 / 3)) / 2)

    def test_with_capacity_for_all_everything_worth_its_review_is_reviewed(self) -> None:
        # With three frauds the scores say nearly all: what is worth a review of 35 of 100 scores .35 or more.
        assert flagged(choose(costs=Costs(35, 1, 100)), SCORE).sum() == 6

    def test_with_many_frauds_the_labels_say_what_is_worth_it(self) -> None:
        # The same ten rows a thousand times: below the fourth score there is no fraud, whatever the scores promise.
        many = {"days": np.zeros(10_000, int), "capacity_per_day": 10_000, "costs": Costs(35, 1, 100)}
        rule = choose(np.repeat(Y, 1000), np.repeat(SCORE, 1000), **many)
        assert flagged(rule, SCORE).tolist() == [True] * 4 + [False] * 6

    def test_amounts_are_what_is_lost_and_unknown_ones_the_fixed_loss(self) -> None:
        amount = np.array([1.0, 1, 1, 1, 1, 1, 1, 1000, np.nan, 1])
        rule = choose(amount=amount, costs=Costs(20, 1, 300))
        # The 1,000 at .2 is worth more than the reviews above it; the unknown one at .1 is worth 300 x .097 > 20.
        assert flagged(rule, SCORE).sum() == 9
        assert "a missed fraud its amount" in rule.sentence
        assert "0.5 of its amount" in choose(amount=amount, costs=Costs(20, 0.5, 300)).sentence

    def test_rows_of_a_card_on_a_day_are_one_review(self) -> None:
        rule = choose(cards=np.array([1, 1, 1, 1, 2, 3, 4, 5, 6, 7]), days=np.zeros(10, int), capacity_per_day=1)
        assert flagged(rule, SCORE).sum() == 4
        assert rule.alerts_per_day.value == 1
        assert rule.sentence.startswith("A card is reviewed when a transaction of it scores")

    def test_ties_at_the_top_beyond_the_capacity_are_flagged_and_said(self) -> None:
        score = np.array([0.99] * 6 + [0.1] * 4)
        rule = choose(score=score, capacity_per_day=1)
        assert flagged(rule, score).tolist() == [True] * 6 + [False] * 4
        assert (
            "3.0 cards a day share the highest score of the validation rows, more than 1 review a day" in rule.sentence
        )

    def test_ties_that_score_a_little_lower_in_the_final_model_are_still_flagged(self) -> None:
        score = np.array([0.99] * 6 + [0.1] * 4)
        assert choose(score=score, capacity_per_day=1).threshold < 0.9

    def test_where_no_review_pays_the_highest_scores_are_flagged_and_it_is_said(self) -> None:
        rule = choose(costs=Costs(1000, 1, 100))
        assert flagged(rule, SCORE).sum() == 1
        assert "no review was worth its cost" in rule.sentence
        assert rule.expected_cost.value > rule.cost_without_review.value

    def test_where_every_card_is_worth_its_review_the_lowest_score_is_left_out(self) -> None:
        assert flagged(choose(costs=Costs(0, 1, 100)), SCORE).tolist() == [True] * 9 + [False]

    @pytest.mark.parametrize(("review", "all_of_them"), [(1, True), (90, False)])
    def test_one_score_for_all_flags_all_if_it_pays_else_nothing(self, review: float, all_of_them: bool) -> None:
        rule = choose(score=np.full(10, 0.3), costs=Costs(review, 1, 100))
        assert flagged(rule, np.full(10, 0.3)).all() == all_of_them
        assert "all validation rows have the same score" in rule.sentence

    def test_one_score_for_all_flags_nothing_where_not_all_can_be_reviewed(self) -> None:
        rule = choose(score=np.full(10, 0.3), costs=Costs(1, 1, 100), capacity_per_day=4)
        assert not flagged(rule, np.full(10, 0.3)).any()

    def test_with_all_frauds_found_the_recall_is_not_certain(self) -> None:
        # Three cards with a fraud, all found: below .025 ** (1 / 3) = .292 that would be too unlikely.
        recall = choose(cards=np.arange(10)).recall
        assert (recall.value, recall.low, recall.high) == (1.0, pytest.approx(0.292, abs=0.001), 1.0)

    def test_without_amounts_no_value_is_promised(self) -> None:
        assert choose().value_detection_rate is None

    @pytest.mark.parametrize(
        ("changes", "message"),
        [({"capacity_per_day": 0}, "capacity_per_day is 0"), ({"score": SCORE * 2}, "needs probabilities")],
    )
    def test_what_makes_no_sense_is_an_error(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(MetricsError, match=message):
            choose(**changes)


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    """Validation rows of every kind: rare and common fraud, ties, saturated and constant scores, few and many cards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.sampled_from([2, 5, 40, 300]))
    prevalence = draw(st.sampled_from([0.001, 0.01, 0.15, 0.78, 0.99]))
    y = rng.random(n) < prevalence
    y[0], y[-1] = True, False
    logits = rng.normal(0, 1, n) + draw(st.sampled_from([0.0, 2.0, 5.0])) * y + np.log(prevalence / (1 - prevalence))
    score = 1 / (1 + np.exp(-logits * draw(st.sampled_from([0.5, 1.0, 3.0]))))
    kind = draw(st.sampled_from(["smooth", "few", "tied top", "saturated", "tied bottom", "constant"]))
    if kind == "few":
        score = np.round(score, 1)
    elif kind == "tied top":
        score = np.minimum(score, np.quantile(score, draw(st.sampled_from([0.2, 0.7, 0.95]))))
    elif kind == "tied bottom":
        score = np.maximum(score, np.quantile(score, 0.9))
    elif kind == "saturated":
        score = np.where(score > 0.6, 1.0, np.where(score < 0.3, 0.0, score))
    elif kind == "constant":
        score = np.full(n, 0.37)
    cards = draw(st.sampled_from([None, 3, 50, 10**6]))
    amount = draw(st.sampled_from(["none", "some", "unknown"]))
    amounts = None if amount == "none" else rng.lognormal(3, 1.5, n)
    if amounts is not None and amount == "unknown":
        amounts[rng.random(n) < 0.5] = np.nan
    return {
        "y": y,
        "score": score,
        "cards": None if cards is None else rng.integers(-1, cards, n),
        "days": rng.integers(0, draw(st.sampled_from([1, 7, 60])), n),
        "amount": amounts,
        "capacity_per_day": draw(st.sampled_from([1, 3, 30, 100, 10**6])),
        "costs": Costs(
            draw(st.sampled_from([0.0, 1.0, 5.0, 50.0, 5000.0])), draw(st.sampled_from([0.0, 0.7, 1.0])), 90
        ),
    }


def outcomes(window: dict[str, Any]) -> dict[float, tuple[int, float]]:
    """Of every distinct score: cards to review on their days, and the believed cost, one row after the other."""
    y, score, amount, costs = (window[name] for name in ("y", "score", "amount", "costs"))
    cards = np.arange(len(y)) if window["cards"] is None else window["cards"].copy()
    unknown = cards < 0
    cards[unknown] = 10**7 + np.arange(unknown.sum())
    weight = y.sum() / (y.sum() + BELIEF_FRAUDS)
    loss = np.full(len(y), costs.fixed_loss)
    if amount is not None:
        loss = np.where(np.isnan(amount), loss, costs.loss_share * amount)
    found = {}
    for threshold in np.unique(score):
        review = score >= threshold
        alerts = len(set(zip(cards[review], window["days"][review], strict=True)))
        believed = weight * y[review] + (1 - weight) * score[review]
        found[float(threshold)] = (alerts, float(costs.review * alerts - (believed * loss[review]).sum()))
    return found


@settings(max_examples=120, deadline=None)
@given(windows())
def test_the_choice_is_the_cheapest_of_those_that_can_be_reviewed_and_never_nothing_or_all(
    window: dict[str, Any],
) -> None:
    rule = choose_threshold(window["y"], window["score"], **{k: v for k, v in window.items() if k not in "y score"})
    tried = outcomes(window)
    lowest = min(tried)
    most = tried[lowest][0]
    n_days = len(np.unique(window["days"]))
    choices = {t: found for t, found in tried.items() if found[0] < most} or {
        t: found for t, found in tried.items() if t != lowest
    }
    taken = min((t for t in tried if t >= rule.threshold), default=None)
    assert 0 <= rule.threshold <= 1
    if not choices:
        return
    assert taken in choices
    alerts, cost = choices[taken]
    within = {t: found for t, found in choices.items() if found[0] <= window["capacity_per_day"] * n_days}
    if within:
        assert alerts <= window["capacity_per_day"] * n_days
        assert cost == pytest.approx(min(found[1] for found in within.values()), abs=1e-6)
    else:
        assert taken == max(tried)


@settings(max_examples=40, deadline=None)
@given(windows())
def test_the_promise_is_what_the_metrics_say_of_these_rows(window: dict[str, Any]) -> None:
    given_ = {name: window[name] for name in ("cards", "days", "amount", "costs")}
    rule = choose_threshold(window["y"], window["score"], capacity_per_day=window["capacity_per_day"], **given_)
    metrics = evaluate_scores(window["y"], window["score"], threshold=rule.threshold, replicates=2, **given_)
    for name, (column, _) in PROMISED.items():
        promised, measured = getattr(rule, name), getattr(metrics, column)
        assert (promised and promised.value) == (measured and pytest.approx(measured.value))
    assert (rule.n, rule.n_fraud) == (metrics.n, metrics.n_fraud)


@settings(max_examples=40, deadline=None)
@given(windows(), st.integers(0, 2**32))
def test_the_order_of_rows_does_not_matter(window: dict[str, Any], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(window["y"]))
    shuffled = {name: value[order] if isinstance(value, np.ndarray) else value for name, value in window.items()}
    first, second = (
        choose_threshold(w["y"], w["score"], **{k: v for k, v in w.items() if k not in "y score"})
        for w in (window, shuffled)
    )
    # Sums of costs round differently in the last digit, which can break a tie of two thresholds.
    tried = outcomes(window)
    costs = [tried[min(t for t in tried if t >= rule.threshold)][1] for rule in (first, second)
             if rule.threshold <= max(tried)]  # fmt: skip
    assert not costs or max(costs) == pytest.approx(min(costs), abs=1e-6)


def test_a_rule_travels_in_the_manifest_and_old_manifests_still_load() -> None:
    base: dict[str, Any] = {
        "model_name": "fraud", "model_version": 1, "trained_month": "2025-01", "as_of": "2025-02-01T00:00:00+00:00",
        "features": ("amount",), "threshold": 0.5, "family": "logistic_regression", "contract_yaml": "",
        "model_digest": "0" * 64,
    }  # fmt: skip
    assert (
        ModelManifest.from_json(ModelManifest(**base).to_json().replace('"rule": null', '"metrics": {}')).rule is None
    )
    rule = choose()
    assert ModelManifest.from_json(ModelManifest(**base, rule=rule).to_json()).rule == rule


def test_a_row_of_a_rule_has_three_columns_for_a_promise() -> None:
    row = choose().as_row()
    assert row["rule"] == choose().sentence
    assert row["promised_alerts_per_day"] == choose().alerts_per_day.value
    assert row["promised_value_detection_rate_low"] is None
    assert len(row) == 1 + 3 * len(PROMISED)
