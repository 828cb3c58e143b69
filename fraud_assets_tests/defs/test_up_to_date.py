"""The check `up_to_date` and its sensor, on a world that was run in order: whatever changes is told, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.settings import Settings
from fraud_assets.workflows.quarantine import record_decisions

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

# Everything is built on April's delivery but the report of what was known before, and nothing on quarantined rows.
CONCERNED = ["raw_transactions", "quarantined_transactions", "delivered_labels"]

Tick = Callable[[], dg.RunRequest | dg.SkipReason]


@pytest.fixture
def instance(in_spare_world: World) -> Iterator[dg.DagsterInstance]:
    from fraud_assets.adapters.dagster_storage import open_instance

    with open_instance(in_spare_world.settings) as instance:
        yield instance


@pytest.fixture
def tick(spare_world: World, instance: dg.DagsterInstance) -> Tick:
    """One evaluation of the sensor."""
    from fraud_assets.defs.resources import Platform
    from fraud_assets.defs.up_to_date import staleness_sensor

    def tick() -> dg.RunRequest | dg.SkipReason:
        resources = {"platform": Platform(settings=spare_world.settings)}
        with dg.build_sensor_context(instance, resources=resources) as context:
            found = staleness_sensor(context)
        assert isinstance(found, dg.RunRequest | dg.SkipReason)
        return found

    return tick


def evaluate(instance: dg.DagsterInstance, request: dg.RunRequest) -> list[dg.AssetCheckEvaluation]:
    """Carries out what the sensor asked for."""
    from fraud_assets.definitions import build_definitions

    assert request.asset_check_keys
    defs = build_definitions(Settings())
    job = defs.resolve_job_def("up_to_date_again").get_subset(asset_check_selection=set(request.asset_check_keys))
    return list(job.execute_in_process(instance=instance).get_asset_check_evaluations())


@pytest.fixture
def decided(spare_world: World) -> Iterator[None]:
    """A decision about April's quarantine, taken back at the end."""
    database = Database(spare_world.url)
    record_decisions(database, [("2025-04", "no such row")], "drop", "to see what becomes stale", actor="test")
    yield
    with database.session() as connection:
        connection.execute("DELETE FROM quarantine_decisions WHERE row_digest = 'no such row'")


def test_while_nothing_changes_the_sensor_asks_for_nothing(tick: Tick) -> None:
    found = tick()
    assert isinstance(found, dg.SkipReason)
    assert found.skip_message == "no month became stale, and none is stale no longer"


def test_a_change_outside_of_a_run_is_told_once_by_the_run_that_the_sensor_asks_for(
    spare_world: World, instance: dg.DagsterInstance, tick: Tick, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("decided")
    asked = tick()
    assert isinstance(asked, dg.RunRequest)
    told = {one.asset_key.path[-1]: one for one in evaluate(instance, asked)}
    assert set(told) >= set(CONCERNED)
    for name in CONCERNED:
        assert (told[name].passed, told[name].partition) == (False, "2025-04")
        assert told[name].description == "what was decided about quarantined rows of 2025-04 has changed."
    assert told["transaction_features"].severity == dg.AssetCheckSeverity.WARN
    assert isinstance(tick(), dg.SkipReason)

    with Database(spare_world.url).session() as connection:
        connection.execute("DELETE FROM quarantine_decisions")
    again = tick()
    assert isinstance(again, dg.RunRequest)
    assert all(one.passed for one in evaluate(instance, again))
    assert isinstance(tick(), dg.SkipReason)
