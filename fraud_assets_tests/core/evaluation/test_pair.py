"""Challenger against champion: what the same reviews would have cost, worked out by hand, and the looks at it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from scipy import special

from fraud_assets.core.evaluation.pair import (
    DIFFERENCES,
    PairComparison,
    Reviews,
    compare_pair,
    compare_parts,
    look_number,
)
from fraud_assets.core.evaluation.segments import Segment
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.spending import ALL_LOOKS, spent_at

COSTS = Costs(review=5)
# Six cards on one day; 0, 1 and 2 are frauds of 100, 40 and 10.
FRAUD = np.array([1, 1, 1, 0, 0, 0], bool)
AMOUNT = np.array([100.0, 40.0, 10.0, 7.0, 7.0, 7.0])
CHAMPION = np.array([0.3, 0.9, 0.1, 0.8, 0.2, 0.0])
CHALLENGER = np.array([0.9, 0.8, 0.3, 0.2, 0.1, 0.0])


def six(**changes: Any) -> PairComparison:
    given: dict[str, Any] = {
        "cards": np.arange(6), "terminals": None, "days": np.zeros(6, int), "amount": AMOUNT,
        "reviews": Reviews(0.5, 0.15, 100, COSTS),
    }  # fmt: skip
    return compare_pair(FRAUD, CHAMPION, CHALLENGER, **(given | changes))


def test_both_have_the_same_reviews_those_of_the_one_that_flags_more() -> None:
    """The champion reviews cards 1 and 3 and finds 40; with two reviews the challenger finds cards 0 and 1, 140."""
    pair = six(reviews=Reviews(0.5, 0.85, 100, COSTS))
    assert pair.reviews_per_day == 2
    assert pair.cost.value == pytest.approx(-100)
    assert pair.card_precision.value == pytest.approx(2 / 2 - 1 / 2)
    assert pair.value is not None
    assert pair.value.value == pytest.approx(100 / 150)
    # At its own threshold the challenger reviews one card, and misses 50.
    assert pair.own_cost.value == pytest.approx((5 + 50) - (2 * 5 + 110))
    assert (pair.champion_cut, pair.challenger_cut, pair.deciding_cards) == (0.8, 0.8, 1)


def test_a_champion_that_flags_hardly_anything_hides_nothing() -> None:
    """It flags nothing; with the challenger's three reviews it finds cards 1 and 0, and the challenger all three."""
    pair = six(reviews=Reviews(0.95, 0.25, 100, COSTS))
    assert pair.reviews_per_day == 3
    assert pair.cost.value == pytest.approx(-10)


def test_no_more_is_reviewed_than_can_be() -> None:
    """One review a day: the champion finds card 1, the challenger card 0."""
    pair = six(reviews=Reviews(0.5, 0.15, 1, COSTS))
    assert pair.reviews_per_day == 1
    assert pair.cost.value == pytest.approx(-(100 - 40))
    assert pair.deciding_cards == 2


def test_reviews_that_fewer_fill_are_not_paid_for() -> None:
    """Five of the six tie at the top of the challenger's scores, and three reviews are none of them."""
    tied = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.0])
    pair = compare_pair(
        FRAUD, CHAMPION, tied, cards=None, terminals=None, days=np.zeros(6, int), amount=AMOUNT,
        reviews=Reviews(0.25, 0.95, 100, COSTS),
    )  # fmt: skip
    assert pair.cost.value == pytest.approx(-3 * 5 + 140)


def test_without_amounts_each_missed_fraud_costs_the_same() -> None:
    pair = six(amount=None, reviews=Reviews(0.5, 0.85, 100, Costs(review=5, fixed_loss=30)))
    assert pair.cost.value == pytest.approx(-30)
    assert pair.value is None
    assert pair.as_row()["value_difference"] is None


def many(seed: int = 3, n: int = 4000) -> dict[str, Any]:
    """Frauds come three to a card; of each transaction the two models see different halves."""
    rng = np.random.default_rng(seed)
    cards = rng.integers(0, n // 8, n)
    fraud = np.zeros(n, bool)
    fraud[:120], cards[:120] = True, np.repeat(rng.choice(n // 8, 40, replace=False), 3)
    shared = rng.normal(size=n) + 2 * fraud
    return {
        "y": fraud, "champion_score": special.expit(shared + rng.normal(size=n)),
        "challenger_score": special.expit(shared + rng.normal(size=n)), "cards": cards,
        "terminals": rng.integers(0, 50, n), "days": rng.integers(0, 28, n), "amount": np.exp(rng.normal(3, 1, n)),
        "reviews": Reviews(0.9, 0.9, 100, COSTS),
    }  # fmt: skip


def test_the_two_the_other_way_round_differ_by_the_sign() -> None:
    given = many()
    pair = compare_pair(**given | {"reviews": Reviews(0.0, 0.0, 10, COSTS)})
    champion, challenger = given["champion_score"], given["challenger_score"]
    swapped = compare_pair(
        **given
        | {
            "champion_score": challenger,
            "challenger_score": champion,
            "reviews": Reviews(0.0, 0.0, 10, COSTS),
        }
    )
    for name in DIFFERENCES:
        one, other = getattr(pair, name), getattr(swapped, name)
        assert one.value == pytest.approx(-other.value)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), nan_ok=True)


def test_the_same_scores_differ_in_nothing_and_have_no_interval() -> None:
    given = many()
    pair = compare_pair(**given | {"challenger_score": given["champion_score"]})
    assert pair.deciding_cards == 0
    assert [getattr(pair, name).value for name in DIFFERENCES] == [0] * len(DIFFERENCES)
    assert not pair.cost.is_known


def test_a_later_look_has_wider_bounds_and_the_same_figures() -> None:
    first, fourth = (compare_pair(**many(), look=look) for look in (1, 4))
    assert (fourth.look, fourth.level) == (4, spent_at(4))
    assert fourth.cost.value == first.cost.value
    assert fourth.cost.low < first.cost.low < first.cost.high < fourth.cost.high
    assert fourth.level == pytest.approx(ALL_LOOKS / 8)


def test_terminals_make_an_interval_no_narrower() -> None:
    given = many()
    by_card, by_both = (compare_pair(**given | {"terminals": terminals}) for terminals in (None, given["terminals"]))
    assert by_both.cost.value == by_card.cost.value
    assert by_both.cost.high - by_both.cost.low >= by_card.cost.high - by_card.cost.low


def test_one_huge_fraud_never_decides() -> None:
    """Of a thousand times the usual amount, found by the challenger alone: the difference is large, and unsure."""
    given = many()
    reviews = Reviews(0.9, 0.9, 100, COSTS)
    cut = compare_pair(**given).challenger_cut
    one = int(np.flatnonzero(given["y"] & (given["champion_score"] < 0.9))[0])
    amount, score = given["amount"].copy(), given["challenger_score"].copy()
    amount[one], score[one] = 1e6, max(cut, 0.99)
    pair = compare_pair(**given | {"amount": amount, "challenger_score": score, "reviews": reviews})
    assert pair.cost.value < -10_000
    assert pair.cost.low < 0 < pair.cost.high


def test_columns_are_those_of_the_table_and_none_is_nan() -> None:
    row = six(reviews=Reviews(0.5, 0.85, 100, COSTS)).as_row()
    assert all(value is None or math.isfinite(value) for value in row.values())
    assert row["cost_difference"] == pytest.approx(-100)
    # One deciding card tells nothing of the spread between cards.
    assert (row["cost_difference_low"], row["cost_difference_high"]) == (None, None)


# Looks


def rows_of(*judged: tuple[int, int, int | None]) -> list[dict[str, Any]]:
    """Rows of months with these champions, challengers and looks."""
    return [
        {"month": month, "role": role, "model_version": version, "look": look if role == "challenger" else None}
        for month, (champion, challenger, look) in enumerate(judged)
        for role, version in (("champion", champion), ("challenger", challenger))
    ]


@pytest.mark.parametrize(
    ("earlier", "look"),
    [
        ([], 1),
        ([(3, 4, 1)], 2),
        ([(3, 4, 1), (3, 4, 2)], 3),
        ([(2, 4, 1), (3, 5, 1)], 1),
        # A month in which the two were not compared was no look.
        ([(3, 4, None)], 1),
    ],
)
def test_looks_at_a_pair_are_counted_in_stored_evaluations(
    earlier: list[tuple[int, int, int | None]], look: int
) -> None:
    assert look_number(rows_of(*earlier), 3, 4) == look


def test_all_looks_together_spend_no_more_than_the_promise() -> None:
    spent = np.cumsum([spent_at(look) for look in range(1, 1001)])
    assert spent_at(1) == spent_at(3) == ALL_LOOKS / 4
    assert spent[-1] < ALL_LOOKS <= spent[-1] * 1.002
    with pytest.raises(ValueError, match="the first one is 1"):
        spent_at(0)


# Parts


def test_a_part_is_harmed_where_the_challenger_finds_none_of_its_losses() -> None:
    """Two parts of thirty cards with a fraud each; the challenger finds none of the second's, the champion all."""
    fraud = np.ones(60, bool)
    half = np.repeat([0, 1], 30)
    segment = Segment("segment", ("a", "b"), half, (None, None))
    found = compare_parts(
        fraud, np.ones(60), 1.0 - half, [segment], cards=np.arange(60), amount=None, costs=COSTS, cuts=(0.5, 0.5)
    )
    assert [(part.value, part.n_fraud, part.caught.value) for part in found] == [("a", 30, 0.0), ("b", 30, -1.0)]
    assert (found[1].caught.low, found[1].caught.high) == (-1.0, -1.0)


def test_a_part_with_few_frauds_is_not_judged_and_costs_the_others_nothing() -> None:
    rng = np.random.default_rng(1)
    fraud = np.ones(200, bool)
    codes = np.where(np.arange(200) < 190, 0, 1)
    segment = Segment("segment", ("a", "b"), codes, (None, None))
    given: dict[str, Any] = {"cards": np.arange(200), "amount": None, "costs": COSTS, "cuts": (0.5, 0.5)}
    scores = rng.random((2, 200))
    both = compare_parts(fraud, *scores, [segment], **given)
    alone = compare_parts(fraud, *scores, [dataclasses.replace(segment, values=("a",))], **given)
    assert not both[1].caught.is_known
    assert both[0].caught == alone[0].caught
