"""A model is tried as it would be served, and only what would be promoted is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.decisions.promotion import PackageEvidence, PromotionSignals
from fraud_assets.core.reasons import Rule
from fraud_assets.workflows.models.packaged import decide, try_package
from fraud_assets_tests.core.decisions.test_promotion import BETTER, PACKAGE, PAIR

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

UNTRIED = dataclasses.replace(BETTER, package=None)
ALIKE = dataclasses.replace(UNTRIED, pair=dataclasses.replace(PAIR, deciding_cards=3))


def packaged(tried: list[int], package: PackageEvidence = PACKAGE) -> Any:
    def packaged(version: int) -> PackageEvidence:
        tried.append(version)
        return package

    return packaged


def other(signals: PromotionSignals, version: int) -> PromotionSignals:
    """The same of another version."""
    assert signals.challenger is not None
    challenger = dataclasses.replace(signals.challenger, version=version)
    return dataclasses.replace(signals, challenger_version=version, challenger=challenger)


@pytest.mark.parametrize(
    ("candidates", "decided", "tried"),
    [
        ([UNTRIED, other(UNTRIED, 6)], [(7, "passed")], [7]),
        ([ALIKE, other(UNTRIED, 6)], [(7, "inconclusive"), (6, "passed")], [6]),
        ([ALIKE, other(ALIKE, 6)], [(7, "inconclusive"), (6, "inconclusive")], []),
        ([ALIKE], [(7, "inconclusive")], []),
    ],
    ids=["the newest", "the waiting one", "neither", "no other"],
)
def test_the_first_candidate_that_passes_is_the_last_that_is_looked_at(
    candidates: list[PromotionSignals], decided: list[tuple[int, str]], tried: list[int]
) -> None:
    asked: list[int] = []
    found = decide(candidates, packaged(asked))
    assert [(signals.challenger_version, verdict.validation_status) for signals, verdict in found] == decided
    assert asked == tried


def test_a_package_that_gives_other_scores_leaves_the_place_to_the_waiting_one() -> None:
    wrong = dataclasses.replace(PACKAGE, disagreement={"onnx": 0.0, "bento": 0.5})
    found = decide([UNTRIED, other(ALIKE, 6)], packaged([], wrong))
    assert [verdict.promote for _, verdict in found] == [False, False]
    assert found[0][1].reasons[0].rule == Rule.OTHER_SCORES


def test_a_model_gives_the_same_scores_as_skops_as_onnx_and_in_the_bento(
    in_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, store = Registry(in_world.settings), open_store(in_world.settings)
    [(version,)] = in_world.query("SELECT max(champion_version) FROM champion")
    newest = in_world.months[-1]
    found = try_package(version, newest, store=store, registry=registry, settings=in_world.settings)
    assert found.disagreement.keys() == {"onnx", "bento"}
    assert max(found.disagreement.values()) < 1e-5
    assert found.size == len(registry.fetch(version)[0])
    assert found.latency > 0
    # Beside an estimator that is another version's, the difference shows.
    [(another,)] = in_world.query(f"SELECT max(model_version) FROM trained_model WHERE model_version <> {version}")
    wrong = registry.trained(another)
    monkeypatch.setattr(Registry, "trained", lambda *_: wrong)
    found = try_package(version, newest, store=store, registry=registry, settings=in_world.settings)
    assert min(found.disagreement.values()) > 1e-4
