"""Whom a challenger answers: always the same ones, about as many as its share says, and never another's for the key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.rollout.challengers import (
    LARGEST_SHARE,
    MOST_CHALLENGERS,
    Challenger,
    Challengers,
    answered_column,
    together,
)
from fraud_assets.settings import PROJECT_ROOT

ONE = Challenger(6, "fraud_scorer:v6", "bentos/fraud_scorer/v6", {"model.onnx": "a" * 64}, 0.1, "first")
OTHER = replace(ONE, model_version=7, share=0.2, key="second")
ENTITIES = st.one_of(st.integers(), st.text(), st.none())
SHARES = st.floats(0, LARGEST_SHARE)


@given(ENTITIES, SHARES)
def test_the_same_entity_always_meets_the_same_model_also_from_another_process(entity: object, share: float) -> None:
    named = Challengers(5, (replace(ONE, share=share),))
    assert named.chosen(entity) == Challengers.from_json(named.to_json()).chosen(entity)


@given(ENTITIES, SHARES, SHARES)
def test_who_meets_it_goes_on_meeting_it_when_the_share_grows_or_another_comes(
    entity: object, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    met = Challengers(5, (replace(ONE, share=small),)).chosen(entity)
    grown = Challengers(5, (replace(ONE, share=large), OTHER)).chosen(entity)
    if met is not None:
        assert grown is not None
        assert grown.model_version == met.model_version


def test_about_as_many_meet_it_as_the_share_says_and_others_by_another_key() -> None:
    n = 20_000
    named = Challengers(5, (ONE, OTHER))
    met = [chosen.model_version if (chosen := named.chosen(f"customer {at}")) else 5 for at in range(n)]
    # Four standard errors; the second has its share of those whom the first does not answer.
    assert abs(met.count(6) / n - 0.1) < 4 * (0.1 * 0.9 / n) ** 0.5
    assert abs(met.count(7) / n - 0.18) < 4 * (0.18 * 0.82 / n) ** 0.5
    again = Challengers(5, (replace(ONE, key="third"),))
    both = sum(one == 6 and again.chosen(f"customer {at}") is not None for at, one in enumerate(met))
    assert abs(both / n - 0.01) < 4 * (0.01 * 0.99 / n) ** 0.5


def test_nobody_meets_one_without_a_share_and_who_is_not_named_meets_the_champion() -> None:
    assert Challengers(5, (replace(ONE, share=0.0),)).chosen("anybody") is None
    assert Challengers(5, (replace(ONE, share=1.0),)).chosen(None) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"champion_version": "x", "models": []}', '{"models": [1]}'])
def test_a_file_that_says_something_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="`fraud reconcile` writes it again"):
        Challengers.from_json(text)


def test_of_a_file_no_more_are_taken_than_there_may_be() -> None:
    many = Challengers(5, tuple(replace(ONE, model_version=at) for at in range(10)))
    assert len(Challengers.from_json(many.to_json()).models) == MOST_CHALLENGERS


def test_the_customer_is_who_meets_a_model_and_without_entities_the_transaction() -> None:
    contracts = PROJECT_ROOT / "contracts"
    assert answered_column(load_contract(contracts / "simulator.yaml")) == "customer_id"
    flat = load_contract(contracts / "registrations.yaml")
    assert answered_column(flat) == (flat.card or next(iter(flat.entities), "transaction_id"))


def test_what_others_take_is_named_once_and_without_the_own() -> None:
    assert together([["a", "b"], ["b", "c"], []], ["a"]) == ("b", "c")
