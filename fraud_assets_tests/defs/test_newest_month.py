"""The check `newest_month` on a world whose months are there: what is backfilled does not make it pass."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

import fraud_assets.defs.newest_month as checked
from fraud_assets.adapters.sources import FolderSource

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


def look(world: World, folder: Path, now: str, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance) -> str:
    """What the check says on a day, as its job runs it, where months are files of a folder; empty where it passes."""
    from fraud_assets.definitions import build_definitions

    class Clock:
        @staticmethod
        def now(zone: object) -> datetime:
            assert zone is UTC
            return datetime.fromisoformat(now).replace(tzinfo=UTC)

    source = FolderSource(folder, "delivery_{month}.csv", world.settings.loaded_contract)
    monkeypatch.setattr(checked, "datetime", Clock)
    monkeypatch.setattr("fraud_assets.defs.resources.open_source", lambda settings: source)
    settings = world.settings.model_copy(update={"source": "files", "source_path": folder})
    job = build_definitions(settings).resolve_job_def("newest_month_again")
    (found,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert found.severity == dg.AssetCheckSeverity.WARN
    return "" if found.passed else str(found.description)


def test_a_month_that_does_not_come_is_told_and_a_backfilled_one_changes_nothing(
    in_spare_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in in_spare_world.months:
        (tmp_path / f"delivery_{month}.csv").write_text("a\n1\n")
    with dg.DagsterInstance.ephemeral() as instance:
        assert look(in_spare_world, tmp_path, "2025-05-20", monkeypatch, instance) == ""
        # May is over.
        assert look(in_spare_world, tmp_path, "2025-06-10", monkeypatch, instance) == ""
        late = look(in_spare_world, tmp_path, "2025-06-20", monkeypatch, instance)
        assert late == "2025-05 was over 19 days ago and is not delivered: ask whoever delivers transactions"
        # Made today, which is all that a freshness policy of Dagster's looks at.
        event = dg.AssetMaterialization("fraud_bento", partition="2025-01")
        instance.report_runless_asset_event(event)
        assert look(in_spare_world, tmp_path, "2025-06-20", monkeypatch, instance) == late
        (tmp_path / "delivery_2025-05.csv").write_text("a\n1\n")
        said = look(in_spare_world, tmp_path, "2025-06-20", monkeypatch, instance)
        assert said == "2025-05 was over 19 days ago; it is delivered and has not been run: `fraud monthly` runs it"


def test_where_nothing_delivers_by_itself_no_month_is_late(in_world: World) -> None:
    from fraud_assets.definitions import build_definitions

    with dg.DagsterInstance.ephemeral() as instance:
        job = build_definitions(in_world.settings).resolve_job_def("newest_month_again")
        (found,) = job.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert found.passed


def test_it_is_looked_at_daily_by_choice_and_makes_nothing() -> None:
    from fraud_assets.definitions import defs

    repository = defs.get_repository_def()
    schedule = repository.get_schedule_def("newest_month")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    job = repository.get_job("newest_month_again")
    assert job.asset_layer.executable_asset_keys == set()
