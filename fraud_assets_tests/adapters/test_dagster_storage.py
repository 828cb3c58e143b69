"""Dagster's storage in the platform's own database."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import psycopg
import pytest
from dagster._core.instance.ref import InstanceRef

from fraud_assets.adapters.dagster_storage import DAGSTER_YAML, open_instance
from fraud_assets.adapters.database import open_database
from fraud_assets.settings import Settings


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings()


def test_runs_lie_in_the_dagster_schema_of_the_platform_s_database(settings: Settings) -> None:
    with open_instance(settings) as instance:
        run = instance.create_run_for_job(_job())
    with psycopg.connect(open_database(settings).url) as connection:
        found = connection.execute("SELECT run_id FROM dagster.runs WHERE run_id = %s", [run.run_id]).fetchall()
        elsewhere = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE tablename = 'runs' AND schemaname NOT IN ('dagster', 'mlflow')"
        ).fetchone()
    assert found == [(run.run_id,)]
    assert elsewhere == (0,)


def test_another_process_finds_the_same_instance_through_its_reference(settings: Settings) -> None:
    with open_instance(settings) as instance:
        run = instance.create_run_for_job(_job())
        reference = instance.get_ref()
    assert isinstance(reference, InstanceRef)
    with dg.DagsterInstance.from_ref(reference) as again:
        assert again.get_run_by_id(run.run_id) is not None


def test_the_home_gets_the_project_s_dagster_yaml_and_an_old_one_is_replaced(settings: Settings) -> None:
    file = settings.dagster_home / "dagster.yaml"
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    file.write_text("telemetry:\n  enabled: true\n")
    with open_instance(settings) as instance:
        assert instance.run_monitoring_enabled
        assert not instance.telemetry_enabled
    assert file.read_text() == DAGSTER_YAML.read_text()


def test_one_run_at_a_time(settings: Settings) -> None:
    with open_instance(settings) as instance:
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 1  # type: ignore[union-attr]


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        return None

    @dg.job
    def one() -> None:
        nothing()

    return one
