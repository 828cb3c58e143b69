"""The job and the schedule of backups."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from fraud_assets.settings import Settings
from fraud_assets.workflows.backups.check import check_backup

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


def ask(settings: Settings) -> dg.RunRequest | dg.SkipReason:
    """What the schedule says one night."""
    from fraud_assets.defs.backup import nightly
    from fraud_assets.defs.resources import Platform

    night = datetime(2025, 6, 2, 3, tzinfo=UTC)
    with dg.build_schedule_context(
        resources={"platform": Platform(settings=settings)}, scheduled_execution_time=night
    ) as context:
        found = nightly.evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else dg.SkipReason(found.skip_message)


def test_the_job_writes_whole_backups_and_keeps_as_many_as_are_wanted(in_world: World, tmp_path: Path) -> None:
    from fraud_assets.defs.backup import backup
    from fraud_assets.defs.resources import Platform

    settings = in_world.settings.model_copy(update={"backup_folder": tmp_path / "backups", "backup_keep": 1})
    made = []
    for _ in range(2):
        with dg.DagsterInstance.ephemeral() as instance:
            done = backup.execute_in_process(instance=instance, resources={"platform": Platform(settings=settings)})
        assert done.success
        made += [one.name for one in (tmp_path / "backups").iterdir() if not one.name.startswith(".")]
    assert len(set(made)) == len(made) == 2
    assert Path(check_backup(tmp_path / "backups")["backup"]).name == made[1]


def test_a_night_asks_once_and_not_where_there_is_no_folder(tmp_path: Path) -> None:
    from fraud_assets.definitions import build_definitions
    from fraud_assets.defs.backup import backup, nightly
    from fraud_assets.defs.resources import Platform

    settings = Settings(backup_folder=tmp_path)
    first, again = ask(settings), ask(settings)
    assert isinstance(first, dg.RunRequest)
    assert isinstance(again, dg.RunRequest)
    assert first.run_key == again.run_key == "backup 2025-06-02"
    without = settings.model_copy(update={"backup_folder": None})
    skipped = ask(without)
    assert isinstance(skipped, dg.SkipReason)
    assert "FRAUD_BACKUP_FOLDER is not set" in str(skipped.skip_message)
    assert nightly.default_status == dg.DefaultScheduleStatus.STOPPED
    assert build_definitions(settings).resolve_schedule_def("backup").job_name == "backup"
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match="FRAUD_BACKUP_FOLDER is not set"):
        backup.execute_in_process(instance=instance, resources={"platform": Platform(settings=without)})
