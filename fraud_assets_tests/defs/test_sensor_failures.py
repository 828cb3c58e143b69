"""The daemon is killed by SIGKILL at its worst moments, and another one starts: nothing is doubled, nothing is lost.

Each daemon is a process of its own on an instance in Postgres. Runs are requested and queued, and never executed: what
a retraining does is tested elsewhere.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.postgres import database as database_module
from fraud_assets.adapters.postgres.database import Database, open_database, stop_embedded
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.retraining import RetrainingStore, list_decisions
from fraud_assets_tests.daemons import DaemonHouse

if TYPE_CHECKING:
    from fraud_assets_tests.inboxes import Inbox

pytest_plugins = ["fraud_assets_tests.worlds", "fraud_assets_tests.inboxes"]


class World:
    """An instance in Postgres, and daemons that come and go."""

    def __init__(self, instance: dg.DagsterInstance, database: Database, house: DaemonHouse) -> None:
        self.instance, self.database, self.tick = instance, database, house.tick

    def report(self, month: str, digest: str = "first") -> None:
        metadata = {"drift_status": "DRIFT", "digest": digest, "reasons": dg.MetadataValue.md("- Amounts doubled.")}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization("drift_report", partition=month, metadata=metadata)
        )

    @property
    def runs(self) -> list[tuple[str, str, str]]:
        """Month, report and attempt of each run, by month."""
        names = ("retrain_month", "report_digest", "attempt")
        return sorted(tuple(run.tags[f"fraud/{name}"] for name in names) for run in self.instance.get_runs())  # type: ignore[misc]

    @property
    def decided(self) -> list[tuple[str, str]]:
        """Month and decision of each record, by month."""
        return sorted((one["month"], one["decision"]) for one in RetrainingStore(self.database).newest(99))


@pytest.fixture(scope="module")
def settings(home: Path, quick_server: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    contract = tmp_path_factory.mktemp("killed") / "killed.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: killed"), encoding="utf-8")
    return {
        "FRAUD_HOME": str(home),
        "FRAUD_CONTRACT": str(contract),
        # The sensor runs by default only where there are channels when the code location loads.
        "FRAUD_ALERT_URLS": "json://127.0.0.1",
    }


@pytest.fixture(scope="module")
def house(settings: dict[str, str]) -> Iterator[DaemonHouse]:
    with DaemonHouse(**settings) as house:
        yield house


class OwnServer:
    """A server that may crash, to daemons one like any other, and to the test one that starts again when asked."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.environment = settings | {"FRAUD_HOME": str(home)}
        self.settings = Settings(home=home, contract=Path(settings["FRAUD_CONTRACT"]))
        self.url = open_database(self.settings, writing=True).url

    @property
    def pid(self) -> int:
        return int((self.settings.postgres_folder / "postmaster.pid").read_text().split()[0])

    @contextmanager
    def world(self, house: DaemonHouse) -> Iterator[World]:
        """After a crash, started again."""
        database_module._open.cache_clear()
        database = open_database(self.settings, writing=True)
        with open_instance(self.settings) as instance:
            yield World(instance, database, house)


@pytest.fixture(scope="module")
def own(settings: dict[str, str]) -> Iterator[OwnServer]:
    folder = Path(mkdtemp(prefix="fraud"))
    yield OwnServer(folder, settings)
    stop_embedded(folder / "postgres")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def guests(own: OwnServer) -> Iterator[DaemonHouse]:
    """Daemons that cannot start the server."""
    with DaemonHouse(**own.environment, FRAUD_DATABASE_URL=own.url) as house:
        yield house


@pytest.fixture
def world(settings: dict[str, str], house: DaemonHouse, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    database = open_database(Settings(), writing=True)
    with open_instance(Settings()) as instance:
        yield World(instance, database, house)
        instance.run_storage.wipe()
        instance.event_log_storage.wipe()
        assert instance.schedule_storage is not None
        instance.schedule_storage.wipe()
    with database.session() as connection:
        connection.execute("TRUNCATE alerts, alert_attempts, retraining_decisions")


# The drift sensor

ONE_EACH = [("2025-03", "first", "1"), ("2025-04", "first", "1")]


@pytest.mark.parametrize(
    "place",
    ["TICK_CREATED", "TICK_HELD", "RECORDED", "EVALUATED", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED", "CURSOR"],
)
def test_a_daemon_killed_in_a_tick_neither_doubles_nor_loses_a_retraining(world: World, place: str) -> None:
    world.report("2025-03")
    world.report("2025-04")
    world.tick("drift_sensor", killed_at=place)
    world.tick("drift_sensor")
    assert world.runs == ONE_EACH
    assert {run.status for run in world.instance.get_runs()} == {dg.DagsterRunStatus.QUEUED}
    assert world.decided == [("2025-03", "retrain"), ("2025-04", "retrain")]


def test_a_daemon_that_is_killed_again_and_again_gets_there(world: World) -> None:
    world.report("2025-03")
    world.report("2025-04")
    for place in ("RECORDED", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED", "CURSOR"):
        world.tick("drift_sensor", killed_at=place)
    world.tick("drift_sensor")
    world.tick("drift_sensor")
    assert world.runs == ONE_EACH
    assert world.decided == [("2025-03", "retrain"), ("2025-04", "retrain")]


def test_a_report_that_changes_while_the_daemon_is_dead_asks_for_a_run_of_its_own(world: World) -> None:
    world.report("2025-03")
    world.tick("drift_sensor", killed_at="RUN_CREATED")
    world.report("2025-03", "second")
    world.tick("drift_sensor")
    world.tick("drift_sensor")
    assert world.runs == [("2025-03", "first", "1"), ("2025-03", "second", "1")]
    listed = list_decisions(RetrainingStore(world.database), lambda: nullcontext(world.instance), 99)
    assert [(one["report_digest"], one["run_status"]) for one in listed] == [("second", "QUEUED"), ("first", "QUEUED")]


def test_a_server_that_crashes_in_a_tick_neither_doubles_nor_loses_a_retraining(
    own: OwnServer, guests: DaemonHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in own.environment.items():
        monkeypatch.setenv(name, value)
    for number, place in enumerate(("RECORDED", "EVALUATED", "CURSOR"), 1):
        month = f"2025-0{number}"
        with own.world(guests) as world:
            world.report(month)
        guests.tick("drift_sensor", killed_at=place, server=own.pid)
        with own.world(guests) as world:
            world.tick("drift_sensor")
            world.tick("drift_sensor")
            assert [run for run in world.runs if run[0] == month] == [(month, "first", "1")], place
            assert [one for one in world.decided if one[0] == month] == [(month, "retrain")], place


# The alert sensor


@pytest.mark.parametrize(
    ("place", "messages"),
    [
        ("TICK_CREATED", 1), ("TICK_HELD", 1), ("FOUND", 1), ("KEPT", 1), ("TOLD", 1), ("CURSOR", 1),
        # The channel took the message, and nobody could keep that it did: at least once is what is promised here.
        ("SENT", 2),
    ],
)  # fmt: skip
def test_a_daemon_killed_in_a_tick_tells_of_each_fact_once_and_twice_only_in_the_instant_after_sending(
    world: World, web: Inbox, place: str, messages: int
) -> None:
    channel = {"FRAUD_ALERT_URLS": f"json://127.0.0.1:{web.port}"}
    world.tick("alert_sensor", **channel)
    world.report("2025-04")
    world.tick("alert_sensor", killed_at=place, **channel)
    world.tick("alert_sensor", **channel)
    world.tick("alert_sensor", **channel)
    assert [subject for subject, _ in web.messages] == ["[fraud] drift in 2025-04"] * messages
