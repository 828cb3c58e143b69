"""The promotion decision: an all-good base with one override a case."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from fraud_assets.core.decisions.promotion import (
    ModelEvidence,
    PromotionPolicy,
    PromotionSignals,
    decide_promotion,
)
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets_tests.sentences import texts

CHALLENGER = ModelEvidence(
    version=7,
    trained_month="2018-07",
    n=1000,
    n_fraud=50,
    prevalence=0.05,
    average_precision=0.70,
    average_precision_low=0.60,
    average_precision_high=0.80,
    threshold=0.04,
    alerts_per_day=12.0,
    cards_per_day=90.0,
    expected_cost=150.0,
    cost_without_review=400.0,
)
CHAMPION = dataclasses.replace(
    CHALLENGER,
    version=5,
    trained_month="2018-05",
    average_precision=0.66,
    average_precision_low=0.55,
    average_precision_high=0.77,
)
BETTER = PromotionSignals(
    month="2018-08",
    challenger_version=7,
    champion_version=5,
    challenger=CHALLENGER,
    champion=CHAMPION,
    ap_difference=Interval(0.04, 0.01, 0.07),
)
FIRST = dataclasses.replace(BETTER, champion_version=None, champion=None, ap_difference=None)


def with_challenger(signals: PromotionSignals, **changes: Any) -> PromotionSignals:
    return dataclasses.replace(signals, challenger=dataclasses.replace(CHALLENGER, **changes))


def test_a_challenger_shown_to_be_better_is_promoted_and_the_figures_are_told() -> None:
    verdict = decide_promotion(BETTER)
    assert (verdict.validation_status, verdict.promote) == ("passed", True)
    assert texts(verdict.reasons) == (
        "Version 7 (trained in 2018-07) is better than the champion, version 5: "
        "AP +0.040 [+0.010, +0.070] on 50 frauds among 1,000 matured transactions.",
    )


@pytest.mark.parametrize(
    ("signals", "status", "reason"),
    [
        pytest.param(
            dataclasses.replace(BETTER, challenger_version=None, challenger=None),
            "insufficient_data",
            "There is no challenger in 2018-08: nothing to promote.",
            id="no challenger",
        ),
        pytest.param(
            dataclasses.replace(BETTER, challenger_version=None, challenger=None, why_none="19 frauds are known."),
            "insufficient_data",
            "There is no challenger in 2018-08: 19 frauds are known.",
            id="no challenger and why",
        ),
        pytest.param(
            with_challenger(BETTER, alerts_per_day=0.0, expected_cost=400.0),
            "failed",
            "Version 7 (trained in 2018-07) decides nothing worth having: at its threshold, 0.04, it flags nothing.",
            id="flags nothing, although it ranks better",
        ),
        pytest.param(
            with_challenger(FIRST, alerts_per_day=90.0),
            "failed",
            "Version 7 (trained in 2018-07) decides nothing worth having: at its threshold, 0.04, it flags every card, "
            "90.0 a day; where all are worth their review and can be reviewed, no model is needed "
            "(FRAUD_REVIEW_CAPACITY and the costs say so).",
            id="flags everything",
        ),
        pytest.param(
            with_challenger(FIRST, expected_cost=1234.0),
            "failed",
            "Version 7 (trained in 2018-07) decides nothing worth having: at its threshold, 0.04, it flags 12.0 cards "
            "a day, and reviews and missed frauds cost 1,234 a day, where reviewing nobody costs 400.",
            id="costs more than reviewing nobody",
        ),
        pytest.param(
            with_challenger(BETTER, cost_without_review=None),
            "insufficient_data",
            "What the decisions of version 7 are worth is unknown: the evaluation does not hold their cost; rebuild "
            "it.",
            id="unknown decisions",
        ),
        pytest.param(
            dataclasses.replace(BETTER, champion_version=7, champion=CHALLENGER),
            "inconclusive",
            "Version 7 is already the champion in 2018-08: nothing to decide.",
            id="the same version",
        ),
        pytest.param(
            dataclasses.replace(BETTER, challenger=None),
            "insufficient_data",
            "The challenger, version 7, was not evaluated in 2018-08.",
            id="challenger not evaluated",
        ),
        pytest.param(
            dataclasses.replace(BETTER, champion=None),
            "insufficient_data",
            "The champion, version 5, was not evaluated on the same window.",
            id="champion not evaluated",
        ),
        pytest.param(
            with_challenger(BETTER, n=999),
            "insufficient_data",
            "The two models were not measured on the same transactions: the challenger on 50 frauds among "
            "999 matured transactions, the champion on 50 frauds among 1,000 matured transactions.",
            id="different windows",
        ),
        pytest.param(
            dataclasses.replace(BETTER, ap_difference=None),
            "insufficient_data",
            "The difference in AP between version 7 and the champion, version 5, has no interval, so it may be chance.",
            id="no difference",
        ),
        pytest.param(
            dataclasses.replace(BETTER, ap_difference=Interval(0.04, math.nan, math.nan)),
            "insufficient_data",
            "The difference in AP between version 7 and the champion, version 5, has no interval, so it may be chance.",
            id="difference without bounds",
        ),
        pytest.param(
            dataclasses.replace(BETTER, ap_difference=Interval(0.004, -0.010, 0.018)),
            "inconclusive",
            "Version 7 (trained in 2018-07) is not shown to be better than the champion, version 5: "
            "AP +0.004 [-0.010, +0.018] on 50 frauds among 1,000 matured transactions.",
            id="within chance",
        ),
        pytest.param(
            dataclasses.replace(BETTER, ap_difference=Interval(0.04, 0.0, 0.08)),
            "inconclusive",
            "Version 7 (trained in 2018-07) is not shown to be better than the champion, version 5: "
            "AP +0.040 [+0.000, +0.080] on 50 frauds among 1,000 matured transactions.",
            id="bound exactly zero",
        ),
        pytest.param(
            dataclasses.replace(BETTER, ap_difference=Interval(-0.04, -0.08, -0.01)),
            "failed",
            "Version 7 (trained in 2018-07) is worse than the champion, version 5: "
            "AP -0.040 [-0.080, -0.010] on 50 frauds among 1,000 matured transactions.",
            id="worse",
        ),
        pytest.param(
            with_challenger(FIRST, average_precision_low=None, average_precision_high=None),
            "insufficient_data",
            "How far the AP of version 7 can be trusted is unknown: it has no interval, as when all frauds "
            "lie on one card.",
            id="first model without an interval",
        ),
        pytest.param(
            with_challenger(FIRST, prevalence=math.nan),
            "insufficient_data",
            "How far the AP of version 7 can be trusted is unknown: the prevalence of the window is not known.",
            id="first model without a prevalence",
        ),
        pytest.param(
            with_challenger(FIRST, average_precision_low=0.10),
            "inconclusive",
            "There is no champion, and version 7 (trained in 2018-07) is not shown to be better than chance: "
            "AP 0.700 [0.100, 0.800] against 0.1000, which is 2 times the prevalence, on 50 frauds among "
            "1,000 matured transactions.",
            id="first model at the floor",
        ),
        pytest.param(
            with_challenger(FIRST, average_precision=0.06, average_precision_low=0.04, average_precision_high=0.09),
            "failed",
            "There is no champion, and version 7 (trained in 2018-07) is too close to chance: "
            "AP 0.060 [0.040, 0.090] against 0.1000, which is 2 times the prevalence, on 50 frauds among "
            "1,000 matured transactions.",
            id="first model like chance",
        ),
    ],
)
def test_one_thing_amiss_refuses_with_its_reason(signals: PromotionSignals, status: str, reason: str) -> None:
    verdict = decide_promotion(signals)
    assert (verdict.validation_status, verdict.promote, texts(verdict.reasons)) == (status, False, (reason,))


def test_a_first_model_well_above_chance_is_promoted_without_a_champion() -> None:
    verdict = decide_promotion(FIRST)
    assert (verdict.validation_status, verdict.promote) == ("passed", True)
    assert texts(verdict.reasons) == (
        "There is no champion, and version 7 (trained in 2018-07) is clearly better than chance: "
        "AP 0.700 [0.600, 0.800] against 0.1000, which is 2 times the prevalence, on 50 frauds among 1,000 "
        "matured transactions.",
    )


WORSE = Interval(-0.04, -0.08, -0.01)


@pytest.mark.parametrize(
    ("useless", "why"),
    [
        ({"alerts_per_day": 0.0}, "it flags nothing"),
        ({"alerts_per_day": 90.0}, "no model is needed (FRAUD_REVIEW_CAPACITY and the costs say so)"),
        ({"expected_cost": 400.0}, "cost 400 a day, where reviewing nobody costs 400"),
    ],
)
def test_a_champion_that_decides_nothing_counts_as_none_even_where_it_ranks_better(
    useless: dict[str, float], why: str
) -> None:
    champion = dataclasses.replace(CHAMPION, **useless)
    verdict = decide_promotion(dataclasses.replace(BETTER, champion=champion, ap_difference=WORSE))
    assert (verdict.validation_status, verdict.promote) == ("passed", True)
    [reason] = texts(verdict.reasons)
    assert reason.startswith("The champion, version 5, counts as none: at its threshold, 0.04, ")
    assert f"{why}, and version 7 (trained in 2018-07) is clearly better than chance: AP 0.700" in reason


def test_a_useless_challenger_does_not_replace_a_useless_champion() -> None:
    both = dataclasses.replace(BETTER, champion=dataclasses.replace(CHAMPION, alerts_per_day=0.0))
    verdict = decide_promotion(with_challenger(both, alerts_per_day=0.0))
    assert (verdict.validation_status, verdict.promote) == ("failed", False)


def test_a_useless_champion_is_not_replaced_by_what_may_be_chance() -> None:
    signals = dataclasses.replace(BETTER, champion=dataclasses.replace(CHAMPION, alerts_per_day=0.0))
    verdict = decide_promotion(with_challenger(signals, average_precision_low=0.09))
    assert (verdict.validation_status, verdict.promote) == ("inconclusive", False)


def test_a_champion_whose_decisions_are_unknown_is_compared_as_ever() -> None:
    champion = dataclasses.replace(CHAMPION, expected_cost=None, alerts_per_day=0.0)
    verdict = decide_promotion(dataclasses.replace(BETTER, champion=champion, ap_difference=WORSE))
    assert verdict.reasons[0].text.startswith("Version 7 (trained in 2018-07) is worse than the champion")


@pytest.mark.parametrize("base", [BETTER, FIRST], ids=["with a champion", "without"])
@pytest.mark.parametrize(("n_fraud", "enough"), [(19, False), (20, True)])
def test_twenty_frauds_are_enough_and_nineteen_are_not(base: PromotionSignals, n_fraud: int, enough: bool) -> None:
    signals = with_challenger(base, n_fraud=n_fraud)
    assert signals.challenger is not None
    if base.champion:
        signals = dataclasses.replace(signals, champion=dataclasses.replace(CHAMPION, n_fraud=n_fraud))
    verdict = decide_promotion(signals)
    assert verdict.promote is enough
    assert verdict.validation_status == ("passed" if enough else "insufficient_data")
    if not enough:
        assert texts(verdict.reasons) == (
            "The window holds 19 frauds among 1,000 matured transactions; 20 frauds are needed to judge a "
            "model: wait until more labels have matured.",
        )
        told = dataclasses.replace(signals.challenger, reason="at the present rate of 4 a month, about 2018-09")
        assert (
            decide_promotion(dataclasses.replace(signals, challenger=told))
            .reasons[0]
            .text.endswith("20 frauds are needed to judge a model: at the present rate of 4 a month, about 2018-09.")
        )


def test_every_missing_piece_is_named_at_once() -> None:
    signals = with_challenger(
        dataclasses.replace(BETTER, champion=None, ap_difference=None), n_fraud=1, n=10, prevalence=0.1
    )
    reasons = texts(decide_promotion(signals).reasons)
    assert len(reasons) == 3
    assert reasons[0].startswith("The window holds 1 fraud among 10 matured transactions;")
    assert reasons[1].startswith("The champion, version 5, was not evaluated")
    assert reasons[2].startswith("The difference in AP")


@pytest.mark.parametrize(
    ("difference", "status"),
    [
        (Interval(0.04, 0.021, 0.07), "passed"),
        (Interval(0.04, 0.019, 0.07), "inconclusive"),
        (Interval(-0.04, -0.07, -0.019), "inconclusive"),
        (Interval(-0.04, -0.07, -0.021), "failed"),
    ],
)
def test_a_difference_within_the_tolerance_counts_as_none(difference: Interval, status: str) -> None:
    verdict = decide_promotion(dataclasses.replace(BETTER, ap_difference=difference), PromotionPolicy(tolerance=0.02))
    assert verdict.validation_status == status
    assert "the champion, version 5 by more than 0.02:" in verdict.reasons[0].text


def test_a_stricter_multiple_of_the_prevalence_holds_a_first_model_back() -> None:
    # The lower bound is 0.60: above 11 times the prevalence of 0.05, and not above 12 times.
    assert decide_promotion(FIRST, PromotionPolicy(prevalence_multiple=11)).promote
    assert not decide_promotion(FIRST, PromotionPolicy(prevalence_multiple=12.5)).promote


@pytest.mark.parametrize("role", ["challenger", "champion"])
def test_evidence_about_another_version_than_the_registrys_is_an_error(role: str) -> None:
    changes: dict[str, Any] = {f"{role}_version": 9}
    with pytest.raises(ValueError, match=rf"the {role} of 2018-08 is version 9, but its evidence is about"):
        dataclasses.replace(BETTER, **changes)


def test_a_month_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="is not a month"):
        dataclasses.replace(BETTER, month="August")


@pytest.mark.parametrize(
    "thresholds",
    [{"minimum_frauds": 0}, {"prevalence_multiple": 0.5}, {"tolerance": -0.01}, {"tolerance": math.nan}],
)
def test_a_policy_that_would_let_anything_through_is_an_error(thresholds: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        PromotionPolicy(**thresholds)
