"""Settings as inputs: the same ones come to the same, and each one that changes shows."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.features.declarations import features_digest
from fraud_assets.core.lineage.configuration import DIGEST, setting_inputs, setting_values
from fraud_assets.core.lineage.staleness import contract_inputs, maturity_inputs
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.statistics.costs import Costs

COST = st.floats(0, 1e9)
PARTS = {"costs": Costs(), "drift": DriftConfig(), "training": TrainingConfig()}
# Another value of each field that another type or rule does not give.
OTHERS: dict[str, Any] = {
    "families": ("logistic_regression",), "imbalance": "none", "half_life_days": 90.0, "window_months": None,
    "few_grid": (), "unsure_watch_p": 0.02, "drift_p": 0.004, "watch_p": 0.03,
}  # fmt: skip


def another(config: Any, name: str) -> Any:
    """The configuration with one field changed."""
    value = getattr(config, name)
    if name in OTHERS:
        return replace(config, **{name: OTHERS[name]})
    if name == "grid":
        return replace(config, grid=value[:-1])
    if is_dataclass(value):
        first = fields(value)[0].name
        return replace(config, **{name: replace(value, **{first: getattr(value, first) + 1})})
    return replace(config, **{name: value + 1 if isinstance(value, int) else value * 0.99})


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, field.name)
        for part, config in PARTS.items()
        for field in fields(config)
        if not isinstance(getattr(config, field.name), Costs)
    ],
)
def test_each_value_that_changes_changes_its_own_input_and_no_other(part: str, name: str) -> None:
    before, after = setting_values(PARTS[part]), setting_values(another(PARTS[part], name))
    assert {one for one in before if before[one] != after[one]} == {name}
    assert before.keys() == after.keys()


@given(st.tuples(COST, COST, COST), st.tuples(COST, COST, COST))
def test_two_sets_of_costs_come_to_the_same_just_when_they_are_the_same(one: Any, other: Any) -> None:
    inputs = [setting_inputs("costs", Costs(*values)) for values in (one, one, other)]
    assert inputs[0] == inputs[1]
    assert (inputs[0] == inputs[2]) == (Costs(*one) == Costs(*other))


@given(COST)
def test_a_number_says_the_same_whether_it_was_given_with_decimals_or_without(cost: float) -> None:
    assert float(setting_values(Costs(review=cost))["review"]) == cost
    assert setting_values(Costs(review=5)) == setting_values(Costs(review=5.0))


def test_costs_of_training_are_recorded_as_costs_and_long_values_as_digests() -> None:
    values = setting_values(TrainingConfig())
    assert "costs" not in values
    assert {name for name, value in values.items() if DIGEST.fullmatch(value)} == {"grid", "few_grid", "encoding"}
    assert values["families"] == "logistic_regression, hist_gradient_boosting"
    assert values["half_life_days"] == "none"


def test_maturity_is_an_input_of_its_own_and_the_rest_of_the_contract_another(simulator_contract: Contract) -> None:
    longer = simulator_contract.model_copy(update={"maturity_days": simulator_contract.maturity_days + 1})
    elsewhere = simulator_contract.model_copy(update={"timezone": "Europe/Berlin"})
    assert longer.digest != simulator_contract.digest
    assert contract_inputs(longer) == contract_inputs(simulator_contract) != contract_inputs(elsewhere)
    assert maturity_inputs(elsewhere) == maturity_inputs(simulator_contract) != maturity_inputs(longer)


def test_features_of_a_contract_are_no_input_of_its_transactions(simulator_contract: Contract) -> None:
    further = simulator_contract.model_copy(update={"window_days": 365})
    assert contract_inputs(further) == contract_inputs(simulator_contract)
    assert features_digest(further) != features_digest(simulator_contract)
