"""The monthly run: which months, in which order, and what a scheduler is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.decisions.monthly import Exit, Plan, exit_of, late_month, plan
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.runs.monthly import plan_months
from fraud_assets.workflows.runs.run_months import failures_of

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

SMALL = {"FRAUD_SIMULATOR_CUSTOMERS": "60", "FRAUD_SIMULATOR_TERMINALS": "120"}


@pytest.fixture(scope="module")
def small() -> Iterator[World]:
    """A world in which nothing has run."""
    from fraud_assets_tests.worlds import PLAIN, World, quick_home, remove_home

    world = World(quick_home(), SMALL | PLAIN)
    try:
        yield world
    finally:
        remove_home(world.home)


@pytest.mark.parametrize(
    ("done", "late", "asked", "months", "waits_for"),
    [
        (["2025-01"], [], None, ["2025-02", "2025-03", "2025-04"], None),
        (["2025-01"], ["2025-03"], None, ["2025-02"], "2025-03"),
        (["2025-01", "2025-03"], [], None, ["2025-02", "2025-04"], None),
        (["2025-01", "2025-02", "2025-03", "2025-04"], [], None, [], None),
        (["2025-01", "2025-02", "2025-03"], ["2025-04"], None, [], "2025-04"),
        (["2025-02"], [], "2025-03", ["2025-03"], None),
        (["2025-02"], [], "2025-01", ["2025-01"], None),
        (["2025-01"], [], "2025-05", [], "2025-05"),
        ([], [], "2025-02", ["2025-01", "2025-02"], None),
    ],
)
def test_each_missing_month_is_planned_once_in_order_up_to_the_first_that_is_not_delivered(
    done: list[str], late: list[str], asked: str | None, months: list[str], waits_for: str | None
) -> None:
    found = plan("2025-01", "2025-04", done, lambda month: month not in late, asked)
    assert (list(found.months), found.waits_for) == (months, waits_for)


@pytest.mark.parametrize(
    ("kinds", "ran", "waits_for", "person", "expected"),
    [
        ([], True, None, False, Exit.DONE),
        ([], False, None, False, Exit.DONE),
        ([], True, "2025-04", False, Exit.DONE),
        ([], False, "2025-04", False, Exit.WAITS_FOR_DATA),
        ([], False, "2025-04", True, Exit.WAITS_FOR_APPROVAL),
        (["IntakeError"], True, None, True, Exit.DATA_REFUSED),
        (["LeaseError"], True, None, False, Exit.BUSY),
        (["LeaseError", "DatabaseError"], True, None, False, Exit.FAILED),
        ([""], True, None, True, Exit.FAILED),
    ],
)
def test_a_scheduler_is_told_the_worst(
    kinds: list[str], ran: bool, waits_for: str | None, person: bool, expected: Exit
) -> None:
    assert exit_of(kinds, ran=ran, waits_for=waits_for, waits_for_person=person) == expected


@pytest.mark.parametrize(
    ("planned", "now", "late"),
    [
        (Plan((), None, "2025-04"), "2026-05-20", None),
        # Delivered or not, a month is on its way for two weeks after its end.
        (Plan((), "2025-05", "2025-05"), "2025-06-15", None),
        (Plan((), "2025-05", "2025-05"), "2025-06-15T00:00:01", "2025-05 was over 14 days ago and is not delivered"),
        (Plan((), "2025-06", "2025-06"), "2025-06-20", None),
        (Plan(("2025-05",), None, "2025-05"), "2025-06-10", None),
        (Plan(("2025-04", "2025-05"), None, "2025-05"), "2025-06-10", "2025-04 was over 40 days ago; it is delivered"),
        (Plan(("2025-05",), "2025-06", "2025-06"), "2025-07-02", "2025-05 was over 31 days ago; it is delivered"),
    ],
)
def test_a_month_is_late_when_it_is_long_over_and_not_there(planned: Plan, now: str, late: str | None) -> None:
    def end_of(month: str) -> datetime:
        year, number = map(int, month.split("-"))
        return datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)

    said = late_month(planned, end_of, datetime.fromisoformat(now).replace(tzinfo=UTC))
    assert (said is None) == (late is None)
    assert late is None or str(said).startswith(late)


@pytest.mark.parametrize(
    ("timezone", "newest"), [("UTC", "2025-04"), ("Asia/Tokyo", "2025-05"), ("America/New_York", "2025-04")]
)
def test_a_month_is_over_when_it_is_in_the_contract_s_time_zone(
    database: Database, tmp_path: Path, timezone: str, newest: str
) -> None:
    file = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("timezone: UTC", "") + f"\ntimezone: {timezone}\n", encoding="utf-8")
    store = MonthStore(database, load_contract(file))
    for month in ("2025-01", "2025-02"):
        (tmp_path / f"delivery_{month}.csv").write_text("a\n1\n")
    source = FolderSource(tmp_path, "delivery_{month}.csv", store.contract)
    # 05:00 of the first of June in Tokyo, and the last of May elsewhere.
    found = plan_months(store, source, datetime(2025, 5, 31, 20, tzinfo=UTC))
    assert (found.newest, found.months, found.waits_for) == (newest, ("2025-01", "2025-02"), "2025-03")


def test_an_error_s_class_is_told_beside_its_sentence() -> None:
    @dg.asset
    def refused() -> None:
        raise KeyError("month")

    (failure,) = failures_of(dg.materialize([refused], raise_on_error=False))
    assert failure["kind"] == "KeyError"


def test_a_refused_file_and_a_late_one_have_codes_of_their_own(tmp_path: Path) -> None:
    from fraud_assets_tests.worlds import World, quick_home, remove_home

    (tmp_path / "in").mkdir()
    contract = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(f"{text}\nfile_pattern: 'delivery_{{month}}.csv'\n", encoding="utf-8")
    given = {"FRAUD_SOURCE": "files", "FRAUD_SOURCE_PATH": str(tmp_path / "in"), "FRAUD_CONTRACT": str(contract)}
    world = World(quick_home(), given)
    try:
        assert world.fraud("monthly", fails=True).returncode == Exit.WAITS_FOR_DATA
        (tmp_path / "in" / "delivery_2025-01.csv").write_text("nothing,of,the,contract\n1,2,3,4\n")
        done = world.fraud("monthly", "--summary", str(tmp_path / "summary.md"), fails=True)
        assert done.returncode == Exit.DATA_REFUSED
        said = (tmp_path / "summary.md").read_text()
        assert "2025-01: the data were refused" in said
        assert "**Operator**: 2025-01" in said
    finally:
        remove_home(world.home)


def test_months_are_run_in_order_once_and_the_schedule_asks_for_the_next_ones(small: World, tmp_path: Path) -> None:
    from fraud_assets.definitions import build_definitions
    from fraud_assets.defs.automation import monthly
    from fraud_assets.defs.resources import Platform

    first = json.loads(small.fraud("monthly", "--month", "2025-02", "--json").stdout)
    assert [one["month"] for one in first["months"]] == ["2025-01", "2025-02"]
    before = small.digests()
    again = small.fraud("monthly", "--month", "2025-02", "--json", "--summary", str(tmp_path / "a" / "summary.md"))
    assert json.loads(again.stdout)["months"] == []
    assert small.digests() == before
    assert "# simulator, 2025-02: done" in (tmp_path / "a" / "summary.md").read_text()

    definitions = build_definitions(small.settings)

    def ask(now: datetime) -> ScheduleExecutionData:
        with (
            dg.DagsterInstance.ephemeral() as instance,
            dg.build_schedule_context(
                instance,
                resources={"platform": Platform(settings=small.settings)},
                scheduled_execution_time=now,
                repository_def=definitions.get_repository_def(),
            ) as context,
        ):
            return monthly.evaluate_tick(context)

    requests = ask(datetime(2025, 6, 1, 6, tzinfo=UTC)).run_requests or []
    assert [one.tags["dagster/partition"] for one in requests] == ["2025-03", "2025-04", "2025-05"]
    assert len({one.run_key for one in requests}) == 3
    assert ask(datetime(2025, 3, 1, 6, tzinfo=UTC)).skip_message == "2025-02 is done"
    assert monthly.default_status == dg.DefaultScheduleStatus.STOPPED
    # What it runs is what `fraud run` runs.
    layer = definitions.resolve_implicit_global_asset_job_def().asset_layer
    graph = layer.asset_graph
    months = {key for key in layer.executable_asset_keys if graph.get(key).partitions_def is not None}
    assert set(requests[0].asset_selection or ()) == months


def outcome_of(world: World) -> dict[str, object]:
    """What came of a month, without times, hashes that are made of them, and names of runs."""
    said = json.loads(world.fraud("status", "--json").stdout)
    return {
        "digests": world.query(
            "SELECT DISTINCT ON (table_name, month) table_name, month, digest, n_rows FROM month_versions "
            "WHERE table_name <> 'trained_model' ORDER BY table_name, month, id DESC"
        ),
        # The one table that names a run.
        "trained": world.query("SELECT to_jsonb(t) - 'mlflow_run_id' FROM trained_model AS t ORDER BY month"),
        "ledger": world.query(
            "SELECT number, kind, model_version, month, reasons, evidence FROM ledger ORDER BY number"
        ),
        "versions": world.query("SELECT version FROM mlflow.model_versions ORDER BY version"),
        "aliases": world.query("SELECT alias, version FROM mlflow.registered_model_aliases ORDER BY alias"),
        "decision": said["decision"],
        "waiting": [
            {name: one[name] for name in ("version", "champion", "month", "reasons")} for one in said["waiting"]
        ],
        "stale": said["stale"],
    }


def test_a_month_after_a_restore_is_the_same_by_the_command_and_by_the_schedule_and_waits_for_an_approval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_assets.adapters.dagster_storage import open_instance
    from fraud_assets.definitions import build_definitions
    from fraud_assets.defs.automation import monthly
    from fraud_assets.defs.resources import Platform
    from fraud_assets.settings import Settings
    from fraud_assets_tests.worlds import GIVEN, PLAIN, World, quick_home, remove_home

    # A first model passes in the third month, and nobody has approved it.
    world = World(quick_home(), GIVEN | PLAIN | {"FRAUD_PROMOTION": "approval", "FRAUD_WORKERS": "1"})
    try:
        assert world.fraud("monthly", "--month", "2025-02").returncode == Exit.DONE
        backup = json.loads(world.fraud("backup", str(tmp_path), "--json").stdout)["backup"]
        before = outcome_of(world)
        done = world.fraud("monthly", "--month", "2025-03", "--json", fails=True)
        assert done.returncode == Exit.WAITS_FOR_APPROVAL, done.stdout
        by_command = outcome_of(world)
        assert by_command["waiting"]
        # Called again, it says so again, and does nothing.
        assert world.fraud("monthly", "--month", "2025-03", fails=True).returncode == Exit.WAITS_FOR_APPROVAL
        world.fraud("restore", "--force", backup)
        assert outcome_of(world) == before

        for name, value in (world.settings_given | {"FRAUD_HOME": str(world.home)}).items():
            monkeypatch.setenv(name, value)
        settings = Settings()
        definitions = build_definitions(settings)
        with open_instance(settings) as instance:
            with dg.build_schedule_context(
                instance,
                resources={"platform": Platform(settings=settings)},
                scheduled_execution_time=datetime(2025, 4, 1, 6, tzinfo=UTC),
                repository_def=definitions.get_repository_def(),
            ) as context:
                (request,) = monthly.evaluate_tick(context).run_requests or []
            ran = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=instance,
                partition_key=request.partition_key,
                asset_selection=list(request.asset_selection or []),
                tags=dict(request.tags),
            )
        assert ran.success
        assert outcome_of(world) == by_command
    finally:
        remove_home(world.home)
