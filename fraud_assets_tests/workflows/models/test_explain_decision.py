"""What was behind the score of a stored transaction."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow.compute as pc
import pytest
from rich.console import Console

from fraud_assets.adapters.mlflow import RegistryError
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.cli.tables.models import show_decision
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.workflows.models.explain_decision import ExplainedDecision, explain_decision
from fraud_assets_tests.workflows.models.small_world import MONTHS, SmallWorld, build


@pytest.fixture(scope="module")
def world(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(server, "explained", tmp_path_factory.mktemp("explained"))


def explained(world: SmallWorld, identifier: Any, **more: Any) -> ExplainedDecision:
    return explain_decision(world.store, world.ledger, world.registry, str(identifier), **more)  # type: ignore[arg-type]


def one_of(world: SmallWorld, month: str) -> dict[str, Any]:
    row = world.store.read("transaction_features", first_month=month, last_month=month).slice(700, 1).to_pylist()
    return dict(row[0])


def test_the_score_is_that_of_the_model_that_was_live_on_the_features_that_are_stored(world: SmallWorld) -> None:
    row = one_of(world, MONTHS[-1])
    found = explained(world, row["transaction_id"])
    assert found.model is not None
    assert (found.month, found.model.version, found.model.since_month) == ("2025-04", 2, "2025-03")
    assert found.model.why == "Version 2 is better."
    # Trained before the transaction, on what was known before it.
    assert datetime.fromisoformat(found.model.labels_as_of) <= row["event_timestamp"]
    scorer = Scorer(*world.registry.fetch(2))
    assert found.score == pytest.approx(scorer.score_rows([row])[0], abs=1e-12)
    assert found.decision == ("review" if found.score >= scorer.manifest.threshold else "approve")
    assert {one.feature: one.value for one in found.features} == {
        name: None if row[name] != row[name] else row[name] for name in scorer.manifest.features
    }


def test_base_and_features_add_up_to_the_raw_score_the_strongest_first(world: SmallWorld) -> None:
    found = explained(world, one_of(world, MONTHS[-1])["transaction_id"])
    moved = [one.attribution or 0.0 for one in found.features]
    assert found.base is not None
    assert found.base + sum(moved) == pytest.approx(found.raw_score, abs=1e-6)
    assert [abs(one) for one in moved] == sorted((abs(one) for one in moved), reverse=True)
    assert all(one.text for one in found.features if one.attribution)
    assert all(one.meaning for one in found.features)


@pytest.mark.parametrize("month", MONTHS[:3])
def test_before_the_first_promotion_it_says_that_no_model_was_live(world: SmallWorld, month: str) -> None:
    found = explained(world, one_of(world, month)["transaction_id"])
    assert (found.model, found.score, found.decision) == (None, None, None)
    assert found.why_no_model is not None
    assert found.why_no_model.startswith(f"no model was live in {month}: none had been promoted on the evidence of")
    assert "amount" in {one.feature for one in found.features}


def test_another_version_can_be_asked_and_it_is_said_that_it_was_not_live(world: SmallWorld) -> None:
    row = one_of(world, MONTHS[0])
    found = explained(world, row["transaction_id"], version=1)
    assert found.model is not None
    assert (found.model.version, found.model.since_month, found.model.why) == (1, None, None)
    with pytest.raises(RegistryError, match="no version 99"):
        explained(world, row["transaction_id"], version=99)


def test_what_became_known_of_a_fraud_later_was_not_known_at_its_month_s_end(world: SmallWorld) -> None:
    end = world.store.contract.month_end(MONTHS[0])
    said = world.store.read("fraud_labels", first_month=MONTHS[1])
    late = said.filter(pc.less(said["event_timestamp"], end)).to_pylist()[0]
    found = explained(world, late["transaction_id"])
    # Of what has matured without a report by then, it is taken for genuine.
    assert found.label["at_month_end"]["is_fraud"] is not True
    assert found.label["now"]["is_fraud"] is True
    assert found.label["now"]["known_since"] == late["label_timestamp"]
    assert late["label_timestamp"] in [one["label_timestamp"] for one in found.statements]


@pytest.mark.parametrize(("identifier", "said"), [("999999999", "no transaction '999999999' is"), ("x", "whole")])
def test_an_id_that_is_not_stored_is_refused_with_what_to_do(world: SmallWorld, identifier: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        explained(world, identifier)


def test_it_is_shown_with_and_without_a_model(world: SmallWorld) -> None:
    shown = {}
    for month in (MONTHS[0], MONTHS[-1]):
        console = Console(width=160, record=True, file=None, quiet=False)
        with console.capture() as captured:
            show_decision(console, explained(world, one_of(world, month)["transaction_id"]).to_dict(), 5)
        shown[month] = captured.get()
    assert "no model was live in 2025-01" in shown[MONTHS[0]]
    assert "live since the evidence of 2025-03" in shown[MONTHS[-1]]
    assert "log odds before calibration" in shown[MONTHS[-1]]
