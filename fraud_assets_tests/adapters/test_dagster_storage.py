"""Dagster's storage in the platform's own database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import psycopg2
import pytest
from dagster._core.instance.config import PoolGranularity
from dagster._core.instance.ref import InstanceRef

from fraud_assets.adapters.dagster_storage import DAGSTER_YAML, busy_instance, open_instance
from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.definitions import defs
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


def test_of_runs_that_train_one_goes_on_at_a_time_and_a_killed_one_keeps_nobody_waiting(settings: Settings) -> None:
    """Pools are counted by runs in progress; a slot that a step takes would stay taken when its process is killed."""
    with open_instance(settings) as instance:
        pools = instance.get_concurrency_config().pool_config
    assert (pools.default_pool_limit, pools.pool_granularity) == (1, PoolGranularity.RUN)
    graph = defs.resolve_asset_graph()
    trains = {key.path[-1] for key in graph.get_all_asset_keys() if graph.get(key).pools == {"training"}}
    assert trains == {"trained_model", "backtest"}


def test_a_busy_instance_keeps_its_connections_and_lets_go_of_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    connect = psycopg2.connect

    def counted(*given: Any, **named: Any) -> Any:
        opened.append(connect(*given, **named))
        return opened[-1]

    with busy_instance(settings) as instance:
        monkeypatch.setattr(psycopg2, "connect", counted)
        for _ in range(5):
            instance.create_run_for_job(_job())
            assert instance.get_runs_count() > 0
        # One for the runs and one for the events.
        assert 0 < len(opened) <= 3
    assert all(connection.closed for connection in opened)


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        return None

    @dg.job
    def one() -> None:
        nothing()

    return one
