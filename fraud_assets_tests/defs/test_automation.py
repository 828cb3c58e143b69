"""The drift sensor, ticked by Dagster's own daemon code on an instance in Postgres.

Which report asks for what is tested in `core/decisions/test_retraining.py`; here, that the sensor sees every report
once, whatever happens between ticks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.events import StepMaterializationData
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import InstigatorTick, TickStatus
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context, freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.sensor import execute_sensor_iteration
from typer.testing import CliRunner

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.cli import app
from fraud_assets.core.decisions.retraining import RetrainingPolicy
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.retraining import RetrainingStore

pytest_plugins = ["fraud_assets_tests.worlds"]

REPORT = dg.AssetKey("drift_report")
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Crash(KeyboardInterrupt):
    """The daemon's process dies: nothing after this is written."""


class Daemon:
    """Ticks the sensor as the daemon does, a minute apart."""

    def __init__(self, workspace: WorkspaceProcessContext) -> None:
        self.workspace = workspace
        self.instance = workspace.instance
        self.now = datetime.now(UTC)

    def report(self, month: str, status: str, digest: str = "first", blame: str | None = None) -> None:
        """A drift report was materialised."""
        metadata = {"drift_status": status, "digest": digest} | ({"blame": blame} if blame else {})
        self.instance.report_runless_asset_event(dg.AssetMaterialization(REPORT, partition=month, metadata=metadata))

    def tick(self, crash_at: str | None = None, minutes: int = 1) -> InstigatorTick:
        """One evaluation of the sensor.

        Args:
            crash_at: the place in Dagster's code at which the process dies.
            minutes: since the one before.
        """
        self.now += timedelta(minutes=minutes)

        def crash(_: object, place: str) -> None:
            if place == crash_at:
                raise Crash

        with freeze_time(self.now), pytest.MonkeyPatch.context() as patch:
            patch.setattr("dagster._daemon.sensor.check_for_debug_crash", crash)
            patch.setattr("fraud_assets.defs.automation._now", lambda: self.now)
            list(
                execute_sensor_iteration(
                    self.workspace,
                    logging.getLogger("daemon"),
                    threadpool_executor=None,
                    submit_threadpool_executor=None,
                )
            )
        [state] = [one for one in self.instance.all_instigator_state() if one.name == "drift_sensor"]
        return self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)[0]

    @property
    def runs(self) -> list[dg.DagsterRun]:
        """The requested runs, oldest first."""
        return list(reversed(self.instance.get_runs()))

    def asked(self) -> list[tuple[str, str, str]]:
        """Month, report and attempt of each request, oldest first."""
        return [
            tuple(run.tags[f"fraud/{tag}"] for tag in ("retrain_month", "report_digest", "attempt"))
            for run in self.runs
        ]  # type: ignore[misc]

    def end(self, status: dg.DagsterRunStatus) -> None:
        """The runs that are under way end."""
        for run in self.runs:
            if run.status in ENDED:
                continue
            if status == dg.DagsterRunStatus.SUCCESS:
                self.instance.handle_run_event(run.run_id, _event("PIPELINE_SUCCESS", run), datetime.now(UTC))
            elif status == dg.DagsterRunStatus.CANCELED:
                self.instance.report_run_canceled(run)
            else:
                self.instance.report_run_failed(run)


def _event(kind: str, run: dg.DagsterRun) -> dg.DagsterEvent:
    return dg.DagsterEvent(event_type_value=kind, job_name=run.job_name)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A contract of its own name, and thus a database of its own."""
    contract = tmp_path_factory.mktemp("sensor") / "sensor.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: sensor"), encoding="utf-8")
    return contract


@contextmanager
def code_location(settings: Settings) -> Iterator[WorkspaceProcessContext]:
    """The code location on these settings as the daemon sees it, on the instance in Postgres."""
    from fraud_assets import definitions

    target = LoadableTargetOrigin(
        executable_path=None, python_file=None, module_name="fraud_assets.definitions",
        working_directory=str(PROJECT_ROOT), attribute=None, package_name=None,
    )  # fmt: skip
    origin = InProcessCodeLocationOrigin(loadable_target_origin=target, location_name="fraud_assets")
    with pytest.MonkeyPatch.context() as patch:
        # Imported once in this process, by whichever test came first.
        patch.setattr(definitions, "defs", definitions.build_definitions(settings))
        with (
            open_instance(settings) as instance,
            create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance) as workspace,
        ):
            yield workspace


@pytest.fixture(scope="module")
def workspace(home: Path, quick_server: None, contract: Path) -> Iterator[WorkspaceProcessContext]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUD_HOME", str(home))
        patch.setenv("FRAUD_CONTRACT", str(contract))
        with code_location(Settings()) as workspace:
            yield workspace


@pytest.fixture
def daemon(workspace: WorkspaceProcessContext, contract: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon that has seen nothing yet."""
    # The code location opens the instance for itself, in the settings' database.
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    instance = workspace.instance
    yield Daemon(workspace)
    instance.run_storage.wipe()
    instance.event_log_storage.wipe()
    assert instance.schedule_storage is not None
    instance.schedule_storage.wipe()
    with open_database(Settings(), writing=True).session() as connection:
        connection.execute("TRUNCATE retraining_decisions")


def test_the_instance_s_storage_is_postgres(daemon: Daemon) -> None:
    instance = daemon.instance
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    assert {type(storage).__module__.partition(".")[0] for storage in storages} == {"dagster_postgres"}


def test_drift_asks_once_however_often_the_sensor_ticks(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    ticks = [daemon.tick() for _ in range(4)]
    assert daemon.asked() == [("2025-03", "first", "1")]
    assert [tick.status for tick in ticks] == [TickStatus.SUCCESS] + [TickStatus.SKIPPED] * 3
    assert "in progress" in str(ticks[-1].skip_reason)


def test_the_requested_run_is_the_retraining_of_that_month(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    [run] = daemon.runs
    assert (run.job_name, run.tags["dagster/partition"]) == ("retraining", "2025-03")
    assert run.status == dg.DagsterRunStatus.QUEUED


@pytest.mark.parametrize("status", ["OK", "WATCH", "INSUFFICIENT_DATA"])
def test_nothing_but_drift_asks(daemon: Daemon, status: str) -> None:
    daemon.report("2025-03", status)
    tick = daemon.tick()
    assert daemon.asked() == []
    assert f"drift_status of 2025-03 is {status}" in str(tick.skip_reason)


def test_without_a_report_the_sensor_says_that_there_is_none(daemon: Daemon) -> None:
    assert daemon.tick().skip_reason == "no drift report since the last tick"


def test_all_months_between_two_ticks_are_asked_for(daemon: Daemon) -> None:
    daemon.tick()
    for month in ("2025-02", "2025-05", "2025-03"):
        daemon.report(month, "DRIFT")
    daemon.report("2025-04", "OK")
    daemon.tick()
    assert sorted(daemon.asked()) == [(month, "first", "1") for month in ("2025-02", "2025-03", "2025-05")]


def test_more_reports_between_two_ticks_than_a_page_holds_are_all_seen(daemon: Daemon) -> None:
    for number in range(120):
        daemon.report(f"{2025 + number // 12}-{number % 12 + 1:02d}", "OK")
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1")]


def test_of_several_reports_of_a_month_the_last_counts(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT", "first")
    daemon.report("2025-03", "OK", "second")
    daemon.tick()
    assert daemon.asked() == []


@pytest.mark.parametrize("end", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED])
def test_a_retraining_that_did_not_succeed_is_asked_for_again_up_to_the_limit(
    daemon: Daemon, end: dg.DagsterRunStatus
) -> None:
    daemon.report("2025-03", "DRIFT")
    for _ in range(RetrainingPolicy().max_attempts + 2):
        last = daemon.tick(minutes=31)
        daemon.end(end)
    assert daemon.asked() == [("2025-03", "first", str(attempt)) for attempt in (1, 2, 3)]
    assert last.status == TickStatus.SKIPPED


def test_a_retraining_that_succeeded_is_not_asked_for_again(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    daemon.end(dg.DagsterRunStatus.SUCCESS)
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1")]


def test_a_report_that_changed_asks_anew_with_a_first_attempt(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT", "first")
    daemon.tick()
    daemon.end(dg.DagsterRunStatus.SUCCESS)
    daemon.report("2025-03", "DRIFT", "second")
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1"), ("2025-03", "second", "1")]


def test_a_report_that_changed_for_the_better_ends_the_attempts(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT", "first")
    daemon.tick()
    daemon.end(dg.DagsterRunStatus.FAILURE)
    daemon.report("2025-03", "OK", "second")
    daemon.tick()
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1")]


# Dagster 1.13 logs with `warn` when it finds a tick that was cut off; goes when it does not.
@pytest.mark.filterwarnings("ignore:The 'warn' method is deprecated:DeprecationWarning")
@pytest.mark.parametrize("place", ["TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED"])
def test_a_crash_anywhere_in_a_tick_doubles_and_loses_nothing(daemon: Daemon, place: str) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.report("2025-04", "DRIFT")
    with pytest.raises(Crash):
        daemon.tick(crash_at=place)
    daemon.tick()
    daemon.tick()
    assert sorted(daemon.asked()) == [("2025-03", "first", "1"), ("2025-04", "first", "1")]
    assert {run.status for run in daemon.runs} == {dg.DagsterRunStatus.QUEUED}


def test_the_cursor_outlives_the_daemon(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    daemon.end(dg.DagsterRunStatus.SUCCESS)
    daemon.tick()
    another = Daemon(daemon.workspace)
    another.now = daemon.now
    another.tick()
    assert another.asked() == [("2025-03", "first", "1")]
    another.report("2025-04", "DRIFT")
    another.tick()
    assert another.asked()[1:] == [("2025-04", "first", "1")]


def test_a_failed_attempt_is_not_repeated_before_its_time(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    daemon.end(dg.DagsterRunStatus.FAILURE)
    early, late = daemon.tick(minutes=3), daemon.tick(minutes=3)
    assert "the next one is made from" in str(early.skip_reason)
    assert late.run_keys == ["retrain:2025-03:first:2"]


def test_a_drift_that_is_the_data_s_fault_trains_nothing(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT", blame="data")
    tick = daemon.tick()
    assert daemon.asked() == []
    assert "for the owner of the feed" in str(tick.skip_reason)


def test_the_settings_are_the_policy(daemon: Daemon) -> None:
    settings = Settings(retrain_cooldown_months=2, retrain_on="drift,calendar", retrain_every_months=3)
    with code_location(settings) as workspace:
        daemon = Daemon(workspace)
        for month, status in (("2025-02", "DRIFT"), ("2025-03", "DRIFT"), ("2025-04", "OK"), ("2025-05", "OK")):
            daemon.report(month, status)
        daemon.tick()
        assert sorted((run.tags["fraud/retrain_month"], run.tags["fraud/trigger"]) for run in daemon.runs) == [
            ("2025-02", "drift"), ("2025-05", "calendar"),
        ]  # fmt: skip
        daemon.end(dg.DagsterRunStatus.SUCCESS)
        assert "a model of 2025-02 was trained instead" in str(daemon.tick().skip_reason)


def test_each_decision_is_kept_once_however_often_the_sensor_ticks(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.report("2025-04", "OK")
    for _ in range(3):
        daemon.tick()
    kept = RetrainingStore(open_database(Settings(), writing=True)).newest(99)
    assert sorted((one["month"], one["decision"]) for one in kept) == [("2025-03", "retrain"), ("2025-04", "no")]


def test_the_command_lists_what_was_decided_why_and_which_run_followed(daemon: Daemon) -> None:
    daemon.report("2025-03", "DRIFT")
    daemon.report("2025-04", "OK")
    daemon.tick()
    [run] = daemon.runs
    asked = CliRunner().invoke(app, ["retraining", "list", "--month", "2025-03", "--json"])
    [one] = json.loads(asked.stdout)
    assert (one["decision"], one["trigger"], one["run_id"]) == ("retrain", "drift", run.run_id)
    shown = CliRunner().invoke(app, ["retraining", "list"], env={"COLUMNS": "200"}).stdout
    assert "drift_status of 2025-04 is OK" in shown
    assert run.run_id[:8] in shown


def test_a_tick_without_the_database_fails_and_the_next_one_makes_up_for_it(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.report("2025-03", "DRIFT")
    with monkeypatch.context() as away:

        def refuse(*_: object) -> None:
            raise psycopg.OperationalError("the server closed the connection")

        away.setattr(RetrainingStore, "record", refuse)
        failed = daemon.tick()
    assert failed.status == TickStatus.FAILURE
    assert daemon.asked() == []
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1")]


def test_a_month_whose_run_goes_on_is_decided_when_that_has_ended(daemon: Daemon) -> None:
    making = create_run_for_test(daemon.instance, job_name="everything", status=dg.DagsterRunStatus.STARTED)
    metadata = {"drift_status": "DRIFT", "digest": "first"}
    daemon.instance.report_dagster_event(
        dg.DagsterEvent(
            event_type_value="ASSET_MATERIALIZATION",
            job_name="everything",
            event_specific_data=StepMaterializationData(
                dg.AssetMaterialization(REPORT, partition="2025-03", metadata=metadata)
            ),
        ),
        run_id=making.run_id,
    )
    waiting = daemon.tick()
    assert waiting.skip_reason == "the run that wrote the drift report of 2025-03 is still in progress"
    daemon.instance.handle_run_event(making.run_id, _event("PIPELINE_SUCCESS", making), datetime.now(UTC))
    assert daemon.tick().run_keys == ["retrain:2025-03:first:1"]


def test_turned_off_it_asks_nothing_and_turned_on_again_for_what_came_meanwhile(daemon: Daemon) -> None:
    daemon.tick()
    [entry] = daemon.workspace.create_request_context().get_code_location_entries().values()
    assert entry.code_location
    [repository] = entry.code_location.get_repositories().values()
    sensor = repository.get_sensor("drift_sensor")
    daemon.instance.stop_sensor(sensor.get_remote_origin_id(), sensor.selector_id, sensor)
    daemon.report("2025-03", "DRIFT")
    daemon.tick()
    assert daemon.asked() == []
    daemon.instance.start_sensor(sensor)
    daemon.tick()
    assert daemon.asked() == [("2025-03", "first", "1")]


def test_a_materialisation_reported_by_hand_does_not_stop_the_sensor(daemon: Daemon) -> None:
    daemon.instance.report_runless_asset_event(dg.AssetMaterialization(REPORT, partition="2025-02"))
    daemon.instance.report_runless_asset_event(dg.AssetMaterialization(REPORT))
    daemon.report("2099-01", "DRIFT")
    daemon.report("2025-04", "drifted, I think")
    daemon.report("2025-03", "DRIFT")
    assert daemon.tick().status == TickStatus.SUCCESS
    assert daemon.asked() == [("2025-03", "first", "1")]


def test_a_retraining_that_a_person_started_does_not_disturb_the_sensor(daemon: Daemon) -> None:
    create_run_for_test(
        daemon.instance,
        job_name="retraining",
        tags={"dagster/partition": "2025-03"},
        status=dg.DagsterRunStatus.SUCCESS,
    )
    create_run_for_test(
        daemon.instance,
        job_name="retraining",
        tags={"fraud/retrain_month": "2025-03"},
        status=dg.DagsterRunStatus.SUCCESS,
    )
    daemon.report("2025-03", "DRIFT")
    tick = daemon.tick()
    assert tick.status == TickStatus.SUCCESS, tick.error
    assert tick.run_keys == ["retrain:2025-03:first:1"]
