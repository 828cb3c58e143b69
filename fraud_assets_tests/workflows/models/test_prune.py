"""Pruning a platform that has run: what is old goes and is said in the ledger, what is in use stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.mlflow import MODEL_NAME, Registry
from fraud_assets.adapters.postgres.approvals import ask, withdraw
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.ledger import standing
from fraud_assets.core.decisions.retention import Choice, Rules
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.workflows.models.prune import JUDGED, NO_MODEL, find_prunable, prune

if TYPE_CHECKING:
    from fraud_assets.settings import Settings
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

NOTHING_STAYS = Rules(days=0, newest=0)
LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
def registry(in_spare_world: World) -> Registry:
    return Registry(in_spare_world.settings)


@pytest.fixture
def ledger(in_spare_world: World) -> LedgerStore:
    return LedgerStore(Database(in_spare_world.url), in_spare_world.settings.ledger_head_file)


@pytest.fixture
def instance(in_spare_world: World) -> Iterator[dg.DagsterInstance]:
    with open_instance(in_spare_world.settings) as instance:
        yield instance


@pytest.fixture
def old(spare_world: World, registry: Registry, ledger: LedgerStore, instance: dg.DagsterInstance) -> dict[str, str]:
    """One old thing of each kind, by kind: a version of its own MLflow run, a bento, a report, a run."""
    settings, client = spare_world.settings, registry.client()
    live = standing(ledger.events()).champion
    experiment = client.get_run(client.get_model_version(MODEL_NAME, str(live)).run_id).info.experiment_id
    run = client.create_run(experiment)
    client.log_text(run.info.run_id, "onnx", "serving/model.onnx")
    client.set_terminated(run.info.run_id)
    made = client.create_model_version(MODEL_NAME, f"{run.info.artifact_uri}/serving", run.info.run_id)
    version = int(made.version)
    ledger.record("registered", version, "2024-12", [Reason(Rule.UNKNOWN_VERSION, "For a test.")], actor="test")
    bento = settings.bentoml_home / "bentos" / "fraud_scorer" / f"v{version}-0123abcd"
    bento.mkdir()
    (bento / "bento.yaml").write_text("name: fraud_scorer\n")
    (settings.reports / "drift_report_2020-01.html").write_text("<html>")

    @dg.op
    def nothing() -> None:
        """Makes no month."""

    @dg.job
    def idle() -> None:
        nothing()

    over = idle.execute_in_process(instance=instance)
    return {
        "model": str(version),
        "bento": f"fraud_scorer:{bento.name}",
        "report": "drift_report_2020-01.html",
        "run": over.run_id,
    }


def going(choices: list[Choice]) -> dict[tuple[str, str], str]:
    return {(one.kept.kind, one.kept.name): one.why for one in choices if one.goes}


def test_by_default_nothing_of_a_young_platform_may_go(spare_world: World) -> None:
    found = json.loads(spare_world.fraud("prune", "--json").stdout)
    assert not found["removed"]
    assert [one for one in found["choices"] if one["goes"]] == []
    assert {one["kind"] for one in found["choices"]} == {"model", "bento", "report", "run"}
    assert all(one["size"] > 0 for one in found["choices"] if one["kind"] in ("model", "bento", "report"))
    assert "Nothing may go" in spare_world.fraud("prune").stdout


def test_a_dry_run_lists_what_may_go_and_changes_nothing(spare_world: World, old: dict[str, str]) -> None:
    before = spare_world.digests(), sorted(spare_world.settings.bentoml_home.rglob("*"))
    said = spare_world.fraud("prune", "--older-than", "0", "--keep", "0").stdout
    assert "`--yes` removes them" in said
    for name in old.values():
        assert name in said
    assert (spare_world.digests(), sorted(spare_world.settings.bentoml_home.rglob("*"))) == before


def test_what_is_in_use_stays_whatever_its_age_and_says_why(
    ledger: LedgerStore, registry: Registry, instance: dg.DagsterInstance, spare_world: World, old: dict[str, str]
) -> None:
    choices = find_prunable(spare_world.settings, ledger, registry, instance, NOTHING_STAYS, LATER)
    gone = going(choices)
    assert set(old.items()) <= gone.keys()
    found = standing(ledger.events())
    stay = {(one.kept.kind, one.kept.name): one.why for one in choices if not one.goes}
    assert stay["model", str(found.champion)] == f"version {found.champion} is live"
    bentos = {name for kind, name in stay if kind == "bento"}
    assert [name for name in bentos if name.startswith(f"fraud_scorer:v{found.champion}-")]
    assert not [name for kind, name in gone if kind == "model" and int(name) in (found.previous, found.challenger)]
    # The runs that made the months that are stored.
    made = {run for (run,) in spare_world.query("SELECT DISTINCT run_id FROM month_versions WHERE run_id IS NOT NULL")}
    assert made
    assert {run for kind, run in stay if kind == "run"} & made
    # Named by the ledger within the time.
    protected = find_prunable(spare_world.settings, ledger, registry, instance, Rules(365, 0), LATER)
    assert ("model", old["model"]) not in going(protected)


def test_what_may_still_become_champion_stays(
    ledger: LedgerStore, registry: Registry, instance: dg.DagsterInstance, spare_world: World, old: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In shadow, waiting for a person, or judged in the newest month: each for as long as that lasts."""

    def why(version: str, settings: Settings = spare_world.settings) -> str | None:
        choices = find_prunable(settings, ledger, registry, instance, NOTHING_STAYS, LATER)
        return {one.kept.name: one.why for one in choices if one.kept.kind == "model" and not one.goes}.get(version)

    version = old["model"]
    shadow = spare_world.settings.model_copy(update={"promotion": "shadow"})
    assert (why(version), why(version, shadow)) == (None, f"version {version} is in shadow")
    asked = LATER - timedelta(hours=1), LATER + timedelta(hours=1)
    live = standing(ledger.events()).champion
    because = [Reason(Rule.NEEDS_APPROVAL, "For a test.")]
    with ledger.deciding() as decision:
        ask(decision.connection, int(version), live, "2024-12", because, evidence="", now=asked[0], until=asked[1])
    assert why(version) == f"version {version} is waiting for a person"
    with ledger.deciding() as decision:
        withdraw(decision.connection, "2024-12", keep=None, now=LATER, actor="ada")
    assert why(version) is None
    rows = spare_world.query("SELECT model_version, role, month FROM evaluation")
    newest = {
        one
        for one, role, month in rows
        if role in ("challenger", "waiting") and month == max(month for *_, month in rows)
    }
    assert {one for (one,) in ledger.database.rows("evaluation", JUDGED)} == newest
    monkeypatch.setattr("fraud_assets.workflows.models.prune.JUDGED", f"SELECT {version}")
    assert why(version) == f"version {version} is compared with the champion"


def test_what_is_removed_is_gone_and_the_ledger_says_so(
    ledger: LedgerStore, registry: Registry, instance: dg.DagsterInstance, spare_world: World, old: dict[str, str]
) -> None:
    settings = spare_world.settings
    choices = find_prunable(settings, ledger, registry, instance, NOTHING_STAYS, LATER)
    # The other tests of this world need the rest.
    mine = [one for one in choices if old.get(one.kept.kind) == one.kept.name]
    artifacts = set(settings.artifacts.iterdir())
    gone = prune(mine, settings, ledger, registry, instance, actor="ada")
    assert {one.kept.kind: one.kept.name for one in gone} == old
    version = int(old["model"])
    assert not registry.has(version)
    assert len(artifacts - set(settings.artifacts.iterdir())) == 1
    assert not (settings.bentoml_home / "bentos" / old["bento"].replace(":", "/")).exists()
    assert not (settings.reports / old["report"]).exists()
    assert instance.get_run_by_id(old["run"]) is None
    model, other = ledger.events()[-2:]
    assert [(one.kind, one.model_version, one.actor) for one in (model, other)] == [
        ("retired", version, "ada"),
        ("retired", NO_MODEL, "ada"),
    ]
    assert "Removed from the registry: it is " in model.reasons[0].text
    assert f"Removed: 1 bento, 1 report, 1 run ({old['bento']}, {old['report']})." == other.reasons[0].text
    # A second time, there is nothing more of it.
    again = find_prunable(settings, ledger, registry, instance, NOTHING_STAYS, LATER)
    assert not set(old.items()) & {(one.kept.kind, one.kept.name) for one in again}
    assert spare_world.fraud("ledger", "verify", "--json").returncode == 0
    assert json.loads(spare_world.fraud("status", "--json").stdout)["disagreements"] == []


def test_what_became_live_since_it_was_looked_at_stays(
    ledger: LedgerStore, registry: Registry, instance: dg.DagsterInstance, spare_world: World
) -> None:
    choices = find_prunable(spare_world.settings, ledger, registry, instance, NOTHING_STAYS, LATER)
    live = str(standing(ledger.events()).champion)
    stale = [
        Choice(one.kept, goes=True, why="") for one in choices if one.kept.kind == "model" and one.kept.name == live
    ]
    before = len(ledger.events())
    assert prune(stale, spare_world.settings, ledger, registry, instance, actor="ada") == []
    assert registry.has(int(live))
    assert len(ledger.events()) == before
