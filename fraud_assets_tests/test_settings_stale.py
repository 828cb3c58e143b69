"""Every setting, and the tables that a change of it makes stale, on months that were really run.

A new setting fails here until it is listed: with what it makes stale, or with the reason why nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import open_source
from fraud_assets.core.lineage.staleness import Inputs, Stale
from fraud_assets.core.lineage.tables.declared import ON_REQUEST, TABLES
from fraud_assets.settings import Settings
from fraud_assets.workflows.runs.refresh import read_stale

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

DELIVERED = ("raw_transactions", "quarantined_transactions", "delivered_labels")
TRAINED = ("trained_model",)


class Changed(NamedTuple):
    """A setting with another value.

    Attributes:
        value: another one than in the world.
        tables: those that are stale by it themselves, and not by what they are built on.
        reason: what each of them says; or why there is none.
    """

    value: Any
    tables: tuple[str, ...]
    reason: str


def none(value: Any, why: str) -> Changed:
    return Changed(value, (), why)


SERVER = "where something is kept or shown: rows are the same wherever they lie"
DELIVERY = "the delivery of 2025-01 has changed since"
LATER = "it decides when a model is trained, and the ledger names the model"
REVIEWED = ("trained_model", "evaluation", "evaluation_segments")
MODE = "who says yes holds from the next decision on; what was decided stays"
COSTED = ("trained_model", "drift_report", "evaluation", "evaluation_segments")

SETTINGS = {
    "home": none(Path("elsewhere"), SERVER),
    "contract": none(Path("contracts/handbook.yaml"), "another contract has a database of its own"),
    "source": none("files", "a source that cannot be opened says nothing of its months"),
    "source_path": none(Path("elsewhere"), "the simulator reads no file; a folder's files have fingerprints"),
    "source_url": none("postgresql://example.invalid/", "the simulator reads no database"),
    "source_query": none("transactions", "the simulator reads no database"),
    "database_url": none("postgresql://example.invalid/", SERVER),
    "dagster_url": none("postgresql://dagster@example.invalid/", SERVER),
    "mlflow_uri": none("http://example.invalid", SERVER),
    "signing_key": none(Path("elsewhere.pem"), "it signs what is packaged, and changes no row"),
    "api_keys": none(Path("elsewhere.json"), "it says who may ask, and changes no row"),
    "preview": none("none", "it is about what Dagster's event log shows of the rows"),
    "ledger_head": none(Path("elsewhere"), SERVER),
    "simulator_customers": Changed(301, DELIVERED, DELIVERY),
    "simulator_terminals": Changed(601, DELIVERED, DELIVERY),
    "simulator_seed": Changed(8, DELIVERED, DELIVERY),
    "simulator_drift": Changed("amount_inflation@2025-01:2", DELIVERED, DELIVERY),
    "engine": none("spark", "all engines give the same features, to the last digit"),
    "families": Changed(
        "logistic_regression,hist_gradient_boosting",
        TRAINED,
        "the list of model families was logistic_regression and is logistic_regression, hist_gradient_boosting",
    ),
    "imbalance": Changed("none", TRAINED, "the treatment of imbalance was undersample and is none"),
    "window_months": Changed(0, TRAINED, "the training window in months was 12 and is none"),
    "half_life_days": Changed(90.0, TRAINED, "the half-life of training rows in days was none and is 90"),
    "workers": none(3, "any number of processes fits the same models"),
    "review_capacity": Changed(77, REVIEWED, "the review capacity was 100 and is 77"),
    "review_cost": Changed(12.0, COSTED, "the review cost was 5 and is 12"),
    "loss_share": Changed(0.5, COSTED, "the share of a missed fraud's amount that is lost was 1 and is 0.5"),
    "fixed_loss": Changed(50.0, COSTED, "the loss of a missed fraud without an amount was 100 and is 50"),
    "drift_p": Changed(0.002, ("drift_report",), "the drift limit drift_p was 0.005 and is 0.002"),
    "drift_delivered_p": Changed(0.02, ("drift_report",), "the drift limit delivered_drift_p was 0.025 and is 0.02"),
    "drift_watch_p": Changed(0.05, ("drift_report",), "the drift limit watch_p was 0.025 and is 0.05"),
    "drift_total_variation": Changed(
        0.03, ("drift_report",), "the drift limit drift_total_variation was 0.018 and is 0.03"
    ),
    "drift_min_total_variation": Changed(
        0.01, ("drift_report",), "the drift limit min_total_variation was 0.005 and is 0.01"
    ),
    "drift_psi_limit": Changed(0.2, ("drift_report",), "the drift limit psi_limit was 0.1 and is 0.2"),
    "drift_missing_limit": Changed(0.1, ("drift_report",), "the drift limit missing_limit was 0.05 and is 0.1"),
    "drift_volume_note": Changed(0.1, ("drift_report",), "the drift limit volume_note was 0.05 and is 0.1"),
    "retrain_on": none("drift", LATER),
    "retrain_every_months": none(2, LATER),
    "retrain_max_age_months": none(6, LATER),
    "retrain_cooldown_months": none(2, LATER),
    "promotion": none("never", MODE),
    "approval_days": none(3, MODE),
    "shadow_days": none(60, MODE),
    "shadow_models": none(5, "it is about which versions score beside the live one"),
    "shadow_seconds": none(20, "it is about what a running service does"),
    "shadow_behind": none(1_000, "it is about scores in the shadow, which are kept as they are"),
    "serve_history_mb": none(64, "it is about what a running service remembers"),
    "scores_folder": none(Path("elsewhere"), SERVER),
    "scores_spool_mb": none(1, "it is about scores that wait; those that are lost are in no table"),
    "pass_through": none(0.05, "it decides what becomes of transactions to come; each score keeps its own chance"),
    "pass_through_amount": none(10.0, "it decides what becomes of transactions to come"),
    "pass_through_seed": none("another secret seed", "it decides what becomes of transactions to come"),
    "backup_folder": none(Path("elsewhere"), "it is about copies of what is stored"),
    "backup_keep": none(3, "it is about copies of what is stored"),
    "retention_months": none(1200, "months whose rows go stay as they are, and are not made again"),
    "breaker_share": none(0.2, "it is about what a service answers"),
    "breaker_seconds": none(60.0, "it is about what a service answers"),
    "breaker_scores": none(50, "it is about what a service answers"),
    "breaker_mode": none("review", "it is about what a service answers"),
    "alert_urls": none("json://127.0.0.1", "alerts are told of rows, and change none"),
    "ui_url": none("https://dagster.example.com", "a link in alerts"),
    "mlflow_ui_url": none("https://mlflow.example.com", "a link beside what is stored"),
    "dagster_port": none(3001, SERVER),
    "mlflow_port": none(5002, SERVER),
    "serve_port": none(5003, SERVER),
}


@pytest.fixture
def store(world: World) -> MonthStore:
    return MonthStore(Database(world.url), world.settings.loaded_contract)


def with_other(world: World, **changed: Any) -> Settings:
    """The world's settings with some of them changed, and checked as those of a user are."""
    given = {name: getattr(world.settings, name) for name in world.settings.model_fields_set}
    if "dagster_url" in changed:
        given["database_url"] = "postgresql://example.invalid/"
    return Settings(**(given | changed))


def directly(stale: list[Stale]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What is stale by what it was made of itself."""
    return {one.partition: one.changes for one in stale if one.changes}


def recorded(store: MonthStore, part: str) -> set[tuple[str, str]]:
    return {one for one, (_, inputs) in store.current().items() if part in (inputs or {})}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_each_setting_makes_the_tables_stale_whose_rows_depend_on_it_and_no_other(
    name: str, world: World, store: MonthStore
) -> None:
    assert name in SETTINGS, f"list {name}: which tables does it make stale, or why none?"
    value, tables, reason = SETTINGS[name]
    settings = with_other(world, **{name: value})
    assert getattr(settings, name) != getattr(world.settings, name)
    of_source = tables == DELIVERED
    found = directly(read_stale(store, open_source(settings) if of_source else None, settings))
    assert reason
    assert {table for table, _ in found} == set(tables)
    if not of_source:
        assert {change for changes in found.values() for change in changes} <= {reason}
        # In every month in which the table recorded it: a report without a champion, say, has no cost.
        part = {"drift_report": "drift"} if name.startswith("drift_") else dict.fromkeys(COSTED, "costs")
        part = dict.fromkeys(tables, "training") if tables in (TRAINED, REVIEWED) else part
        assert found.keys() == {one for table in tables for one in recorded(store, part[table]) if one[0] == table}
    else:
        assert any(change.startswith(reason) for change in found["raw_transactions", world.months[0]])


def test_nothing_is_listed_that_is_no_setting() -> None:
    assert set(SETTINGS) == set(Settings.model_fields)


def test_costs_are_recorded_where_a_model_was_judged_and_limits_by_every_report(
    world: World, store: MonthStore
) -> None:
    judged = "SELECT DISTINCT to_char(month, 'YYYY-MM') FROM evaluation WHERE role <> 'none'"
    live = {month for month, *_ in world.query(judged)}
    compared = {month for month, *_ in world.query(f"{judged} AND look IS NOT NULL")}
    with_champion = dict(
        world.query("SELECT to_char(month, 'YYYY-MM'), max(champion_version) FROM drift_report GROUP BY 1")
    )
    assert recorded(store, "costs") == {
        *(("trained_model", month) for month in world.months),
        *(("evaluation", month) for month in live),
        *(("evaluation_segments", month) for month in compared),
        *(("drift_report", month) for month, version in with_champion.items() if version is not None),
    }
    assert live > compared > set()
    assert any(with_champion.values())
    assert recorded(store, "drift") == {("drift_report", month) for month in world.months}


def test_a_longer_maturity_makes_stale_what_asks_for_mature_labels_and_not_what_was_delivered(
    world: World, store: MonthStore
) -> None:
    contract = store.contract
    longer = contract.model_copy(update={"maturity_days": contract.maturity_days + 7})
    found = directly(read_stale(MonthStore(store.database, longer), None, world.settings))
    said = f"the maturity in days was {contract.maturity_days:g} and is {longer.maturity_days:g}"
    assert {change for changes in found.values() for change in changes} == {said}
    tables = {table for table, _ in found}
    assert tables == {
        "transaction_features", "drift_report", "trained_model", "evaluation_segments", "evaluation", "champion",
        "model_performance", "challenger_comparison",
    }  # fmt: skip
    assert {one for one in found if one[0] == "champion"} == recorded(store, "maturity") & {
        ("champion", month) for month in world.months
    }
    # By another way it reaches all that is built on these; what was delivered is what it was.
    assert set(TABLES) - tables - ON_REQUEST == {*DELIVERED, "fraud_labels", "fraud_bento", "serving_skew"}


# Months from before settings were recorded


def as_before(store: MonthStore, inputs: Inputs, settings: Settings) -> Inputs:
    """What the version before recorded of the same month."""
    kept = {name: keys for name, keys in inputs.items() if name not in ("costs", "drift", "maturity", "training")}
    # An evaluation looked at no setting of training then.
    was_trained = "imbalance" in inputs.get("training", {})
    training: Inputs = {"training": {"": settings.training.digest}} if was_trained else {}
    return kept | {"contract": {"": store.contract.digest}} | training


class OldStore(MonthStore):
    """The months as the version before recorded them."""

    settings: Settings

    def current(self) -> dict[tuple[str, str], tuple[str, Inputs | None]]:
        now = super().current()
        return {one: (digest, as_before(self, inputs or {}, self.settings)) for one, (digest, inputs) in now.items()}


@pytest.fixture
def old(world: World, store: MonthStore) -> OldStore:
    old = OldStore(store.database, store.contract)
    old.settings = world.settings
    return old


def test_months_that_did_not_record_settings_are_not_stale_by_that(world: World, old: OldStore) -> None:
    assert read_stale(old, None, world.settings) == []
    changed = with_other(world, drift_psi_limit=0.2)
    assert read_stale(old, None, changed) == []


def test_of_months_that_recorded_training_as_a_whole_a_changed_cost_makes_the_models_stale(
    world: World, old: OldStore
) -> None:
    found = directly(read_stale(old, None, with_other(world, review_cost=12.0)))
    assert found == {("trained_model", month): ("the settings of training have changed",) for month in world.months}


# What comes of it


def test_status_names_a_changed_limit_and_refresh_rebuilds_the_reports_alone(spare_world: World) -> None:
    limit = {"FRAUD_DRIFT_PSI_LIMIT": "0.2"}
    asked = ("refresh", "--to", "2025-02", "--json")
    reports = [("drift_report", month) for month in spare_world.months[:2]]
    said = "the drift limit psi_limit was 0.1 and is 0.2"
    stale = json.loads(spare_world.fraud("status", "--json", **limit).stdout)["stale"]
    assert {(one["table"], one["month"]) for one in stale if said in one["changes"]} == {
        ("drift_report", month) for month in spare_world.months
    }
    try:
        outcome = json.loads(spare_world.fraud(*asked, **limit).stdout)
        assert [(one["table"], one["month"]) for one in outcome["rebuilt"]] == reports
        assert (outcome["failed"], outcome["left"]) == ([], [])
    finally:
        # With the limit as it was the rows are, too, so that nothing later is stale.
        back = json.loads(spare_world.fraud(*asked).stdout)
    assert [(one["table"], one["month"]) for one in back["rebuilt"]] == reports
    assert json.loads(spare_world.fraud("status", "--json").stdout)["stale"] == []
