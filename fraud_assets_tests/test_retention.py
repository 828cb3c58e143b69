"""A world whose first months become too old: their rows go, and everything that people look at stays true."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.decisions.ledger import champion_event
from fraud_assets.core.months import shift_month
from fraud_assets.workflows.models.heads import verify_ledger
from fraud_assets.workflows.models.model_card import gather_card
from fraud_assets.workflows.models.reproduce import reproduce
from fraud_assets.workflows.overview.doctor import examine
from fraud_assets.workflows.runs.refresh import open_stale
from fraud_assets.workflows.status import read_status

if TYPE_CHECKING:
    from fraud_assets.settings import Settings
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

PEOPLE = {
    "raw_transactions", "quarantined_transactions", "delivered_labels", "fraud_labels", "transaction_features",
}  # fmt: skip


@dataclass(frozen=True)
class Retained:
    """The world after the removal, and what was seen before it."""

    world: World
    settings: Settings
    gone: tuple[str, ...]
    before: dict[str, Any]
    looked: dict[str, Any]
    done: dict[str, Any]


@pytest.fixture(scope="module")
def retained(own_world: World) -> Retained:
    from fraud_assets_tests.worlds import World

    first = own_world.months[2]
    now, months = f"{datetime.now(UTC):%Y-%m}", 0
    while shift_month(now, -months) > first:
        months += 1
    world = World(own_world.home, own_world.settings_given | {"FRAUD_RETENTION_MONTHS": str(months)}, own_world.months)
    with pytest.MonkeyPatch.context() as patch:
        enter(world, patch)
        before = {"derived": derived(world), "previews": previews(world), "stale": open_stale(own_world.settings)}
    looked = json.loads(world.fraud("retain", "--json").stdout)
    done = json.loads(world.fraud("retain", "--yes", "--json").stdout)
    settings = own_world.settings.model_copy(update={"retention_months": months})
    return Retained(world, settings, world.months[:2], before, looked, done)


@pytest.fixture(autouse=True)
def _in_the_world(retained: Retained, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(retained.world, monkeypatch)


def enter(world: World, patch: pytest.MonkeyPatch) -> None:
    """Dagster's storage finds the world by the environment alone."""
    for name, value in (world.settings_given | {"FRAUD_HOME": str(world.home)}).items():
        patch.setenv(name, value)


def derived(world: World) -> dict[tuple[str, str], str]:
    """The digests of what is no row of a person."""
    store = open_store(world.settings)
    return {one: digest for one, (digest, _) in store.current().items() if one[0] not in PEOPLE}


def previews(world: World) -> dict[tuple[str, str], str]:
    """The first rows of each month that Dagster shows."""
    shown = {}
    with open_instance(world.settings) as instance:
        for table in ("raw_transactions", "drift_report"):
            for record in instance.fetch_materializations(dg.AssetKey(table), limit=50).records:
                assert record.asset_materialization is not None
                found = record.asset_materialization.metadata["preview"].value
                shown[table, str(record.partition_key)] = str(found)
    assert len(shown) == 2 * len(world.months)
    return shown


def test_a_look_names_the_months_and_what_cannot_be_made_again(retained: Retained) -> None:
    assert set(retained.looked["months"]) == PEOPLE
    assert all(tuple(months) == retained.gone for months in retained.looked["months"].values())
    assert any("which is live" in said and retained.gone[0] in said for said in retained.looked["versions"])
    assert retained.looked["months"] == retained.done["months"]


def test_no_row_of_these_months_is_left_and_all_others_are(retained: Retained) -> None:
    world, kept = retained.world, retained.world.months[2:]
    for table in PEOPLE:
        assert tuple(open_store(world.settings).months(table)) == kept
    ((oldest, n),) = world.query("SELECT to_char(min(event_timestamp), 'YYYY-MM'), count(*) FROM raw_transactions")
    assert (oldest, n > 0) == (kept[0], True)
    shown = previews(world)
    for (table, month), text in shown.items():
        if table == "raw_transactions" and month in retained.gone:
            assert text == "*removed because of their age*"
        else:
            assert text == retained.before["previews"][table, month] != "*removed because of their age*"


def test_reports_models_and_decisions_are_as_they_were_and_nothing_is_stale(retained: Retained) -> None:
    assert derived(retained.world) == retained.before["derived"]
    assert open_stale(retained.settings) == retained.before["stale"] == []
    # Of what is made of rows that are gone, nothing becomes stale by another setting either.
    costly = retained.settings.model_copy(update={"review_cost": 12.0})
    stale = {one.month for one in open_stale(costly)}
    assert stale
    assert stale.isdisjoint(retained.gone)


def test_status_doctor_and_ledger_hold_and_say_what_is_gone(retained: Retained) -> None:
    store = open_store(retained.settings)
    ledger = LedgerStore(store.database, retained.settings.ledger_head_file)
    removed = f"rows of people of {retained.gone[0]} to {retained.gone[1]} were removed because of their age"
    assert read_status(store, ledger)["removed"] == removed
    looked = examine(retained.settings, datetime.now(UTC), by_value=True, only=["months", "rows", "old rows"])
    checks = {one["name"]: one for one in looked["checks"]}
    assert {one["verdict"] for one in checks.values()} == {"ok"}, checks
    assert removed in checks["old rows"]["said"]
    assert verify_ledger(ledger, Registry(retained.settings), retained.settings)["fault"] is None
    event = ledger.events()[-1]
    assert event.kind == "expired"
    assert set(event.evidence) == PEOPLE
    assert all(event.evidence["raw_transactions"].values())


def test_a_model_of_these_months_is_described_and_is_not_made_again(retained: Retained) -> None:
    store = open_store(retained.settings, writing=True)
    ledger, registry = LedgerStore(store.database, retained.settings.ledger_head_file), Registry(retained.settings)
    live = champion_event(ledger.events())
    assert live is not None
    found = reproduce(retained.settings, store, ledger, registry, live.model_version)
    assert not found.same
    assert any(
        f"transaction_features {retained.gone[0]} was " in said and "rows were removed on" in said
        for said in found.changes
    )
    assert gather_card(store, ledger, registry, live.model_version)


def test_such_a_month_is_refused_by_command_and_by_dagster(retained: Retained) -> None:
    said = f"{retained.gone[0]} is older than FRAUD_RETENTION_MONTHS allows"
    refused = retained.world.fraud("run", "--from", retained.gone[0], "--to", retained.gone[0], fails=True)
    assert said in refused.stderr
    from fraud_assets.definitions import build_definitions

    job = build_definitions(retained.settings).resolve_implicit_global_asset_job_def()
    with open_instance(retained.settings) as instance:
        from fraud_assets.workflows.runs.run_months import execute_month, failures_of

        result = execute_month(job, instance, retained.gone[0], "test", [dg.AssetKey("drift_report")])
        assert any(said in one["error"] for one in failures_of(result))
        (seen,) = instance.fetch_observations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("raw_transactions"), asset_partitions=[retained.gone[0]]),
            limit=5,
        ).records
        assert "because of their age" in str(seen.event_log_entry.dagster_event)
        # What was decided says nothing of rows, and can be told again.
        assert execute_month(job, instance, retained.gone[1], "test", [dg.AssetKey("champion")]).success


def test_the_schedule_asks_where_something_is_too_old_and_the_job_removes_it(retained: Retained) -> None:
    from fraud_assets.defs.resources import Platform
    from fraud_assets.defs.retention import daily, retention

    def ask(moment: datetime, settings: Settings) -> tuple[int, str]:
        with dg.build_schedule_context(
            resources={"platform": Platform(settings=settings)}, scheduled_execution_time=moment
        ) as context:
            found = daily.evaluate_tick(context)
        return len(found.run_requests or ()), found.skip_message or ""

    now = datetime.now(UTC)
    assert ask(now, retained.settings) == (0, f"no row of a person is from before {retained.world.months[2]}")
    asked, skipped = ask(now, retained.settings.model_copy(update={"retention_months": None}))
    assert (asked, "FRAUD_RETENTION_MONTHS is not set" in skipped) == (0, True)
    assert daily.default_status == dg.DefaultScheduleStatus.STOPPED
    assert retained.settings.retention_months is not None
    sooner = retained.settings.model_copy(update={"retention_months": retained.settings.retention_months - 1})
    assert ask(now, sooner)[0] == 1
    with open_instance(retained.settings) as instance:
        done = retention.execute_in_process(instance=instance, resources={"platform": Platform(settings=sooner)})
    assert done.success
    assert tuple(open_store(sooner).months("raw_transactions")) == retained.world.months[3:]
    assert LedgerStore(open_store(sooner).database).events()[-1].actor == f"dagster run {done.run_id}"
