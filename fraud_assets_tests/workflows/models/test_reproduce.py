"""A version made again: to the same bytes from the same months, and with what has changed from others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.cli.tables.models import show_reproduction
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.models.train_month import train_month
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.workflows.models.reproduce import Reproduction, ReproductionError, export_frame, reproduce
from fraud_assets_tests.workflows.models.small_world import READ, SmallWorld, build

FIRST = 1
"""The version that was trained three months before the newest stored month."""


class AlteredLedger(LedgerStore):
    """A ledger whose events say something else."""

    def __init__(self, database: Database, **changes: Any) -> None:
        super().__init__(database)
        self.changes = changes

    def events(self) -> list[Event]:
        return [replace(event, **self.changes) for event in super().events()]


@pytest.fixture(scope="module")
def world(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(server, "reproduced", tmp_path_factory.mktemp("reproduced"))


def made(world: SmallWorld, settings: Any = None, **changes: Any) -> Reproduction:
    ledger = AlteredLedger(world.store.database, **changes)
    return reproduce(settings or world.settings, world.store, ledger, world.registry, FIRST)  # type: ignore[arg-type]


def framed(world: SmallWorld, path: Path, **changes: Any) -> int:
    ledger = AlteredLedger(world.store.database, **changes)
    return export_frame(world.settings, world.store, ledger, world.registry, FIRST, path)  # type: ignore[arg-type]


def evidence_of(world: SmallWorld) -> dict[str, Any]:
    (event,) = [one for one in world.ledger.events() if one.kind == "registered" and one.model_version == FIRST]
    return dict(json.loads(json.dumps(event.evidence)))


def test_a_version_of_three_months_ago_is_made_again_byte_for_byte(world: SmallWorld) -> None:
    found = made(world)
    assert found.changes == found.differences == ()
    assert found.same
    assert found.month == "2025-01"
    assert set(found.digests) == {"model.onnx", "manifest.json", "reference/model.onnx"}
    assert all(was == is_now for was, is_now in found.digests.values())


def test_months_that_are_others_now_are_named_and_nothing_is_trained(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraud_assets.workflows.models.reproduce.train_month", None)
    evidence = evidence_of(world)
    now = evidence["fraud_labels"]["2025-01"][:12]
    evidence["fraud_labels"]["2025-01"] = "0" * 64
    found = made(world, evidence=evidence)
    assert not found.same
    assert found.changes == (f"fraud_labels 2025-01 was 000000000000 and is {now}",)
    assert {is_now for _, is_now in found.digests.values()} == {None}


def test_what_computes_and_is_of_another_version_is_named(world: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = dict(world.ledger.events()[0].libraries) | {"scikit-learn": "0.1"}
    found = made(world, libraries=libraries, code_version="older")
    assert found.same
    assert any(one.startswith("the code was older and is ") for one in found.differences)
    assert any(one.startswith("scikit-learn was 0.1 and is ") for one in found.differences)

    def other(*arguments: Any, **more: Any) -> Any:
        result = train_month(*arguments, **more)
        rule = result.chosen.rule.model_copy(update={"threshold": 0.123})
        return replace(result, chosen=replace(result.chosen, rule=rule))

    monkeypatch.setattr("fraud_assets.workflows.models.reproduce.train_month", other)
    found = made(world, libraries=libraries)
    assert not found.same
    assert found.digests["manifest.json"][0] != found.digests["manifest.json"][1]
    assert found.digests["model.onnx"][0] == found.digests["model.onnx"][1]
    # By the same code and libraries, that is to be reported.
    assert any("please report it" in one for one in made(world).changes)


def test_with_other_settings_now_those_of_then_are_used(world: SmallWorld) -> None:
    settings = world.settings.model_copy(update={"review_capacity": 7})
    assert settings.training.digest != world.settings.training.digest
    found = made(world, settings)
    assert found.same
    was = world.settings.training.review_capacity
    assert found.differences == (f"the review capacity was {was} and is 7; that of then was used",)


def test_settings_that_were_not_kept_are_said_to_have_changed(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(world.registry), "recipe", lambda *_: None)
    found = made(world, evidence=evidence_of(world) | {"training": {"": "f" * 64}})
    assert not found.same
    assert found.changes[0].startswith("the training settings have changed since")


def test_a_version_without_evidence_is_refused(world: SmallWorld) -> None:
    with pytest.raises(ReproductionError, match="it is not recorded what version"):
        made(world, evidence={})


def test_the_frame_has_the_matured_rows_with_their_labels_as_known_then(world: SmallWorld, tmp_path: Path) -> None:
    path, again = tmp_path / "frame.parquet", tmp_path / "again.parquet"
    n = framed(world, path)
    frame = pq.read_table(path)
    assert frame.num_rows == n
    end = world.store.contract.month_end("2025-01")
    rows = world.store.read("transaction_features", first_month="2025-01", last_month="2025-01").to_pylist()
    old_enough = [row for row in rows if (end - row["event_timestamp"]).days >= world.store.contract.maturity_days]
    assert frame["transaction_id"].to_pylist() == [row["transaction_id"] for row in old_enough]
    assert max(frame["label_timestamp"].to_pylist()) <= end
    assert 0 < sum(frame["is_fraud"].to_pylist()) < n
    assert set(world.registry.fetch(FIRST)[1].features) <= set(frame.column_names)
    about = json.loads(frame.schema.metadata[b"fraud_assets.training_frame"])
    evidence = evidence_of(world)
    assert about["model_version"] == FIRST
    assert about["inputs"] == {name: evidence[name] for name in READ}
    framed(world, again)
    assert again.read_bytes() == path.read_bytes()


def test_the_frame_of_months_that_are_others_now_is_refused(world: SmallWorld, tmp_path: Path) -> None:
    evidence = evidence_of(world)
    evidence["transaction_features"]["2025-01"] = "0" * 64
    with pytest.raises(ReproductionError, match="transaction_features 2025-01 was 000000000000"):
        framed(world, tmp_path / "frame.parquet", evidence=evidence)
    assert not (tmp_path / "frame.parquet").exists()


def test_what_came_of_it_is_said(world: SmallWorld) -> None:
    console = Console(width=160)
    with console.capture() as captured:
        show_reproduction(console, made(world).to_dict())
        show_reproduction(
            console, made(world, evidence=evidence_of(world) | {"fraud_labels": {"2025-01": "0"}}).to_dict()
        )
    shown = captured.get()
    assert "Version 1, trained at the end of 2025-01, came out the same, byte for byte." in shown
    assert "cannot be made again: what it was made of has changed" in shown
    assert "fraud_labels 2025-01 was 0 and is" in shown


def test_a_configuration_reads_back_with_the_same_digest() -> None:
    config = TrainingConfig(review_capacity=7, half_life_days=30.5)
    again = TrainingConfig.from_json(config.to_json())
    assert again == config
    assert again is not None
    assert again.digest == config.digest
    assert TrainingConfig.from_json('{"grid": 3}') is None
