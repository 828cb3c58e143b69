"""The promotion decision: an all-good base with one override a case."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from fraud_assets.core.decisions.approval import PromotionMode, hold
from fraud_assets.core.decisions.promotion import (
    ModelEvidence,
    PackageEvidence,
    PairEvidence,
    PartEvidence,
    PromotionPolicy,
    PromotionSignals,
    Shadow,
    decide_promotion,
    judge_evidence,
)
from fraud_assets.core.reasons import Rule
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets_tests.sentences import texts

UNKNOWN = Interval(0.04, math.nan, math.nan)
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
    expected_over_observed=Interval(1.1, 0.9, 1.4),
)
CHAMPION = dataclasses.replace(
    CHALLENGER,
    version=5,
    trained_month="2018-05",
    average_precision=0.66,
    average_precision_low=0.55,
    average_precision_high=0.77,
)
PAIR = PairEvidence(
    n=3000,
    n_fraud=150,
    look=2,
    level=0.025 / 6,
    reviews_per_day=12.0,
    deciding_cards=14,
    cost=Interval(-40.0, -60.0, -20.0),
    card_precision=Interval(0.02, -0.01, 0.05),
    value=Interval(0.03, -0.01, 0.07),
    ap=Interval(0.04, -0.01, 0.09),
    own_cost=Interval(-30.0, -70.0, 10.0),
)
PACKAGE = PackageEvidence(size=300_000, latency=0.4, disagreement={"onnx": 2e-7, "bento": 2e-7})
BETTER = PromotionSignals(
    month="2018-08",
    challenger_version=7,
    champion_version=5,
    challenger=CHALLENGER,
    champion=CHAMPION,
    pair=PAIR,
    parts=(PartEvidence("merchant_segment travel", Interval(0.01, -0.1, 0.12)),),
    matured=True,
    drift_status="OK",
    training_digest="9f2c",
    package=PACKAGE,
)
FIRST = dataclasses.replace(BETTER, champion_version=None, champion=None, pair=None, parts=None)


def with_challenger(signals: PromotionSignals, **changes: Any) -> PromotionSignals:
    return dataclasses.replace(signals, challenger=dataclasses.replace(CHALLENGER, **changes))


def with_champion(**changes: Any) -> PromotionSignals:
    return dataclasses.replace(BETTER, champion=dataclasses.replace(CHAMPION, **changes))


def with_pair(**changes: Any) -> PromotionSignals:
    return dataclasses.replace(BETTER, pair=dataclasses.replace(PAIR, **changes))


def with_package(**changes: Any) -> PromotionSignals:
    return dataclasses.replace(BETTER, package=dataclasses.replace(PACKAGE, **changes))


FIGURES = "AP +0.040 [-0.010, +0.090], on 150 frauds among 3,000 matured transactions (look 2, at 99.2 %)"


def test_a_challenger_with_which_the_same_reviews_cost_less_is_promoted_and_the_figures_are_told() -> None:
    verdict = decide_promotion(BETTER)
    assert (verdict.validation_status, verdict.promote) == ("passed", True)
    assert texts(verdict.reasons) == (
        "Version 7 (trained in 2018-07) is cheaper than the champion, version 5: the same 12.0 reviews a day cost "
        f"-40 [-60, -20] a day, {FIGURES}.",
    )


def unknown_difference(name: str) -> str:
    return (
        f"The difference in {name} between version 7 and the champion, version 5 has no interval, so it may be chance."
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
            dataclasses.replace(BETTER, shadow=Shadow(datetime(2018, 8, 3, tzinfo=UTC), 12.9, 30)),
            "inconclusive",
            "Version 7 is in shadow, since 2018-08-03: of the 30 days beside the champion that it needs, 12 have "
            "matured.",
            id="in shadow",
        ),
        pytest.param(
            dataclasses.replace(BETTER, pair=None, shadow=Shadow(None, 0.0, 30)),
            "inconclusive",
            "Version 7 is in shadow, when it was registered is unknown: of the 30 days beside the champion that it "
            "needs, 0 have matured.",
            id="in shadow since nobody knows when",
        ),
        pytest.param(
            dataclasses.replace(BETTER, pair=None),
            "insufficient_data",
            "The cost of the same reviews with version 7 and the champion, version 5 was not compared: rebuild the "
            "evaluation.",
            id="an evaluation from before costs were compared",
        ),
        pytest.param(
            with_pair(look=0),
            "insufficient_data",
            "Which look at version 7 and the champion, version 5 it is, is unknown: rebuild the evaluation.",
            id="unknown look",
        ),
        pytest.param(
            with_pair(level=math.nan),
            "insufficient_data",
            "Which look at version 7 and the champion, version 5 it is, is unknown: rebuild the evaluation.",
            id="unknown level",
        ),
        *(
            pytest.param(with_pair(**{name: value}), "insufficient_data", unknown_difference(told), id=f"{name} {how}")
            for name, told in (
                ("cost", "cost with the same reviews"),
                ("card_precision", "card precision"),
                ("ap", "AP"),
                ("own_cost", "cost at their own thresholds"),
                ("value", "value found"),
            )
            for how, value in (("not written", None), ("without bounds", UNKNOWN))
        ),
        pytest.param(
            dataclasses.replace(BETTER, parts=None),
            "insufficient_data",
            "How version 7 and the champion, version 5, compare on the parts of the window is unknown: rebuild the "
            "evaluation.",
            id="parts not compared",
        ),
        pytest.param(
            with_challenger(BETTER, expected_over_observed=None),
            "insufficient_data",
            "Whether the scores of version 7 promise as many frauds as there were is unknown: they are no "
            "probabilities, or all frauds lie on one card.",
            id="calibration not written",
        ),
        pytest.param(
            dataclasses.replace(BETTER, matured=None),
            "insufficient_data",
            "That all labels of the window had matured is unknown: rebuild the evaluation.",
            id="maturity unknown",
        ),
        pytest.param(
            dataclasses.replace(FIRST, matured=False),
            "insufficient_data",
            "That all labels of the window had matured is not the case: rebuild the evaluation.",
            id="labels not matured",
        ),
        pytest.param(
            dataclasses.replace(BETTER, drift_status=None),
            "insufficient_data",
            "There is no drift report of 2018-08, so whether the month is sound is unknown: build it.",
            id="no drift report",
        ),
        pytest.param(
            dataclasses.replace(FIRST, training_digest=None),
            "insufficient_data",
            "What version 7 was trained on is not recorded: train its month again.",
            id="training unknown",
        ),
        pytest.param(
            dataclasses.replace(BETTER, challenger_version=9),
            "insufficient_data",
            "The challenger of 2018-08 is version 9, but the evidence is about version 7: rebuild the evaluation.",
            id="another challenger",
        ),
        pytest.param(
            dataclasses.replace(BETTER, champion_version=9),
            "insufficient_data",
            "The champion of 2018-08 is version 9, but the evidence is about version 5: rebuild the evaluation.",
            id="another champion",
        ),
        pytest.param(
            dataclasses.replace(BETTER, champion_version=None),
            "insufficient_data",
            "The champion of 2018-08 is none, but the evidence is about version 5: rebuild the evaluation.",
            id="a champion that is none",
        ),
        pytest.param(
            with_pair(deciding_cards=9),
            "inconclusive",
            "Version 7 (trained in 2018-07) decides like the champion, version 5: with the same 12.0 reviews a day "
            "they find different frauds on 9 cards, and 10 are needed to tell them apart, on 150 frauds among 3,000 "
            "matured transactions.",
            id="too alike",
        ),
        pytest.param(
            with_pair(deciding_cards=0, cost=Interval(0.0, math.nan, math.nan), value=None, card_precision=None),
            "inconclusive",
            "Version 7 (trained in 2018-07) decides like the champion, version 5: with the same 12.0 reviews a day "
            "they find different frauds on 0 cards, and 10 are needed to tell them apart, on 150 frauds among 3,000 "
            "matured transactions.",
            id="the same decisions have no interval, and it is known why",
        ),
        pytest.param(
            with_pair(cost=Interval(-4.0, -30.0, 22.0)),
            "inconclusive",
            "Version 7 (trained in 2018-07) is not shown to be cheaper than the champion, version 5: the same 12.0 "
            f"reviews a day cost -4 [-30, +22] a day, {FIGURES}.",
            id="within chance",
        ),
        pytest.param(
            with_pair(cost=Interval(-40.0, -80.0, 0.0)),
            "inconclusive",
            "Version 7 (trained in 2018-07) is not shown to be cheaper than the champion, version 5: the same 12.0 "
            f"reviews a day cost -40 [-80, +0] a day, {FIGURES}.",
            id="bound exactly zero",
        ),
        pytest.param(
            with_pair(cost=Interval(40.0, 10.0, 70.0)),
            "failed",
            "Version 7 (trained in 2018-07) is dearer than the champion, version 5: the same 12.0 reviews a day cost "
            f"+40 [+10, +70] a day, {FIGURES}.",
            id="dearer",
        ),
        pytest.param(
            with_pair(ap=Interval(-0.04, -0.07, -0.01)),
            "failed",
            "With version 7 the average precision is lower than with the champion, version 5: -0.040 [-0.070, -0.010].",
            id="ranks worse",
        ),
        pytest.param(
            with_pair(card_precision=Interval(-0.04, -0.07, -0.01)),
            "failed",
            "With version 7 the card precision of the reviews is lower than with the champion, version 5: -0.040 "
            "[-0.070, -0.010].",
            id="finds fewer cards",
        ),
        pytest.param(
            with_pair(value=Interval(-0.04, -0.07, -0.01)),
            "failed",
            "With version 7 the share of the fraud amount that is found is lower than with the champion, version 5: "
            "-0.040 [-0.070, -0.010].",
            id="finds less of the amount",
        ),
        pytest.param(
            with_pair(own_cost=Interval(30.0, 10.0, 50.0)),
            "failed",
            "At its own threshold version 7 costs more than the champion, version 5: +30 [+10, +50] a day.",
            id="its own threshold costs more",
        ),
        pytest.param(
            dataclasses.replace(BETTER, parts=(PartEvidence("day weekend", Interval(-0.2, -0.3, -0.06)),)),
            "failed",
            "Version 7 harms day weekend: of the losses there it finds -0.200 [-0.300, -0.060] as a share, and -0.05 "
            "is the limit.",
            id="a part is harmed",
        ),
        pytest.param(
            with_challenger(BETTER, expected_over_observed=Interval(4.0, 3.1, 5.0)),
            "failed",
            "The scores of version 7 promise 4.00 [3.10, 5.00] times the frauds that there were; more than 3 times too "
            "many or too few is the limit.",
            id="promises too many frauds",
        ),
        pytest.param(
            with_challenger(BETTER, expected_over_observed=Interval(0.2, 0.1, 0.3)),
            "failed",
            "The scores of version 7 promise 0.20 [0.10, 0.30] times the frauds that there were; more than 3 times too "
            "many or too few is the limit.",
            id="promises too few frauds",
        ),
        *(
            pytest.param(
                dataclasses.replace(BETTER, drift_status="DRIFT", blame=blame),
                "inconclusive",
                f"The drift report of 2018-08 blames the {blame}, so what was measured may be wrong: `fraud drift "
                "2018-08` says what; the next month decides.",
                id=f"the {blame} are suspect",
            )
            for blame in ("data", "labels")
        ),
        pytest.param(
            dataclasses.replace(BETTER, package=None),
            "insufficient_data",
            "Version 7 was not packaged and tried.",
            id="not packaged",
        ),
        *(
            pytest.param(
                with_package(disagreement={"onnx": 0.0, "bento": 0.0} | change),
                "insufficient_data",
                f"The score of version 7 as {place} was not compared.",
                id=f"{place} {change[place]}",
            )
            for place, change in (("onnx", {"onnx": math.nan}), ("bento", {"bento": math.nan}))
        ),
        pytest.param(
            with_package(disagreement={"onnx": 0.0}),
            "insufficient_data",
            "The score of version 7 as bento was not compared.",
            id="bento not tried",
        ),
        pytest.param(
            with_package(latency=math.nan),
            "insufficient_data",
            "How long a score of version 7 takes is unknown.",
            id="latency unknown",
        ),
        pytest.param(
            with_package(disagreement={"onnx": 0.0, "bento": 0.2}),
            "failed",
            "Version 7 as bento gives other scores than the model that was trained: they differ by up to 0.2, and "
            "0.0001 is the limit.",
            id="other scores",
        ),
        pytest.param(
            with_package(latency=51.0),
            "failed",
            "One score of version 7 takes 51.0 ms; 50 is the limit.",
            id="too slow",
        ),
        pytest.param(
            with_package(size=201_000_000),
            "failed",
            "Version 7 has 201 MB; 200 is the limit.",
            id="too large",
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


WORSE = dataclasses.replace(PAIR, cost=Interval(40.0, 10.0, 70.0))


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
    verdict = decide_promotion(dataclasses.replace(BETTER, champion=champion, pair=WORSE))
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
    verdict = decide_promotion(dataclasses.replace(BETTER, champion=champion, pair=WORSE))
    assert verdict.reasons[0].text.startswith("Version 7 (trained in 2018-07) is dearer than the champion")


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
        dataclasses.replace(BETTER, champion=None, pair=None, training_digest=None), n_fraud=1, n=10, prevalence=0.1
    )
    assert [one.rule for one in decide_promotion(signals).reasons] == [
        Rule.TOO_FEW_FRAUDS, Rule.NOT_EVALUATED, Rule.TRAINING_UNKNOWN,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cost", "status"),
    [
        (Interval(-40.0, -70.0, -21.0), "passed"),
        (Interval(-40.0, -70.0, -19.0), "inconclusive"),
        (Interval(40.0, 19.0, 70.0), "inconclusive"),
        (Interval(40.0, 21.0, 70.0), "failed"),
    ],
)
def test_a_difference_within_the_tolerance_counts_as_none(cost: Interval, status: str) -> None:
    # 0.05 of the 400 that all frauds cost a day.
    verdict = decide_promotion(with_pair(cost=cost), PromotionPolicy(tolerance=0.05))
    assert verdict.validation_status == status
    assert "the champion, version 5 by more than 20 a day:" in verdict.reasons[0].text


@pytest.mark.parametrize("figure", ["ap", "card_precision", "value"])
def test_a_better_ranking_alone_never_promotes(figure: str) -> None:
    signals = with_pair(**{figure: Interval(0.3, 0.2, 0.4), "cost": Interval(-4.0, -30.0, 22.0)})
    assert decide_promotion(signals).validation_status == "inconclusive"


def test_a_source_without_amounts_is_judged_without_the_value_found() -> None:
    assert decide_promotion(with_pair(value=None, has_amount=False)).promote


def test_scores_that_promise_too_little_are_taken_in_place_of_those_that_promise_less() -> None:
    off = Interval(0.2, 0.1, 0.3)
    signals = with_challenger(
        with_champion(expected_over_observed=Interval(0.1, 0.05, 0.2)), expected_over_observed=off
    )
    assert decide_promotion(signals).promote
    assert decide_promotion(with_challenger(FIRST, expected_over_observed=off)).promote


def test_a_challenger_that_was_in_shadow_long_enough_is_judged_and_the_first_one_need_not_be() -> None:
    assert decide_promotion(
        dataclasses.replace(BETTER, shadow=Shadow(datetime(2018, 7, 1, tzinfo=UTC), 30.0, 30))
    ).promote
    assert decide_promotion(dataclasses.replace(FIRST, shadow=Shadow(None, 0.0, 30))).promote


def test_a_world_that_changed_is_no_reason_to_wait() -> None:
    assert decide_promotion(dataclasses.replace(BETTER, drift_status="DRIFT", blame="world")).promote
    assert decide_promotion(dataclasses.replace(FIRST, drift_status="INSUFFICIENT_DATA")).promote


def test_a_part_that_may_be_chance_or_loses_little_is_not_harmed() -> None:
    parts = [Interval(-0.2, -0.4, -0.04), Interval(-0.04, -0.045, -0.03)]
    signals = dataclasses.replace(BETTER, parts=tuple(PartEvidence("day weekend", part) for part in parts))
    assert decide_promotion(signals).promote


def test_only_what_would_be_promoted_needs_a_package() -> None:
    signals = dataclasses.replace(BETTER, package=None)
    assert judge_evidence(signals).promote
    assert decide_promotion(dataclasses.replace(signals, drift_status=None)).reasons[0].rule == Rule.DRIFT_UNKNOWN


def test_every_reason_of_a_promotion_is_seen() -> None:
    """The rules that a decision can give are those that the cases of this file give."""
    [marks] = [
        mark.args[1] for mark in test_one_thing_amiss_refuses_with_its_reason.pytestmark if mark.name == "parametrize"
    ]
    seen = {reason.rule for case in marks for reason in decide_promotion(case.values[0]).reasons}
    held = {hold(decide_promotion(BETTER), PromotionMode(mode)).reasons[-1].rule for mode in ("approval", "never")}
    seen |= held | {reason.rule for signals in (BETTER, FIRST) for reason in decide_promotion(signals).reasons}
    named = list(Rule)
    first, last = named.index(Rule.NO_CHALLENGER), named.index(Rule.TRAINED)
    few = with_challenger(BETTER, n_fraud=1)
    few = dataclasses.replace(few, champion=dataclasses.replace(CHAMPION, n_fraud=1))
    assert seen | {decide_promotion(few).reasons[0].rule} == set(named[first:last])


def test_a_stricter_multiple_of_the_prevalence_holds_a_first_model_back() -> None:
    # The lower bound is 0.60: above 11 times the prevalence of 0.05, and not above 12 times.
    assert decide_promotion(FIRST, PromotionPolicy(prevalence_multiple=11)).promote
    assert not decide_promotion(FIRST, PromotionPolicy(prevalence_multiple=12.5)).promote


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


@pytest.mark.parametrize(
    ("cost", "heeds", "promoted"),
    [
        (Interval(30.0, 10.0, 50.0), False, True),
        (Interval(30.0, 10.0, 50.0), True, False),
        (Interval(30.0, -10.0, 50.0), True, True),
        (UNKNOWN, True, True),
        (None, True, True),
    ],
)
def test_live_traffic_decides_only_where_the_policy_heeds_it(
    cost: Interval | None, heeds: bool, promoted: bool
) -> None:
    signals = dataclasses.replace(BETTER, live=dataclasses.replace(PAIR, cost=cost))
    verdict = decide_promotion(signals, PromotionPolicy(heeds_live=heeds))
    assert verdict.promote == promoted
    said = (
        "On live traffic version 7 costs more than the champion, version 5: the same reviews cost +30 [+10, +50] a day"
    )
    assert any(said in text for text in texts(verdict.reasons)) != promoted
    # Without challengers nothing is another than it was.
    assert decide_promotion(dataclasses.replace(BETTER, live=None), PromotionPolicy(heeds_live=heeds)).promote
