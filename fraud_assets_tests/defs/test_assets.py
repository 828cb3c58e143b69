"""What a materialisation leaves behind, and that a month is the same however it was run."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from fraud_assets.adapters.database import Database, open_database
from fraud_assets.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

ASSETS = (
    "quarantined_transactions", "raw_transactions", "fraud_labels", "transaction_features", "drift_report",
    "trained_model", "evaluation", "champion", "fraud_bento",
)  # fmt: skip
PLOTTED = ("raw_transactions", "fraud_labels", "transaction_features", "drift_report", "evaluation", "champion")
DATA = ("raw_transactions", "fraud_labels", "transaction_features")
PNG = b"\x89PNG\r\n\x1a\n"


def materializations(instance: dg.DagsterInstance, name: str) -> dict[str, dict[str, Any]]:
    """The metadata of the newest materialisation of each month."""
    found = instance.fetch_materializations(dg.AssetKey(name), limit=1000, ascending=True)
    return {
        str(record.partition_key): dict(record.asset_materialization.metadata)
        for record in found.records
        if record.asset_materialization
    }


# Metadata


@pytest.mark.parametrize("name", ASSETS)
def test_every_month_of_an_asset_is_materialised_with_its_rows_preview_and_digest(
    world: World, world_instance: dg.DagsterInstance, name: str
) -> None:
    found = materializations(world_instance, name)
    assert set(found) == set(world.months)
    stored = {
        month: (digest, n_rows)
        for month, digest, n_rows in world.query(
            f"SELECT DISTINCT ON (month) month, digest, n_rows FROM month_versions WHERE table_name = '{name}' "
            "ORDER BY month, id DESC"
        )
    }
    for month, metadata in found.items():
        assert (metadata["digest"].value, metadata["dagster/row_count"].value) == stored[month]
        assert metadata["dagster/relation_identifier"].value == f"simulator.public.{name}"
        preview = metadata["preview"].md_str
        assert preview == "*no rows*" if stored[month][1] == 0 else preview.startswith("| ")


@pytest.mark.parametrize("name", PLOTTED)
def test_a_plot_is_a_picture_that_the_ui_shows_in_place(world_instance: dg.DagsterInstance, name: str) -> None:
    newest = materializations(world_instance, name)["2025-04"]["plot"]
    assert isinstance(newest, dg.MarkdownMetadataValue)
    text = str(newest.md_str)
    assert text.startswith("![plot](data:image/png;base64,")
    picture = base64.b64decode(text.removeprefix("![plot](data:image/png;base64,").removesuffix(")"))
    assert picture.startswith(PNG)
    # Dagster keeps it in the event log, once for each run.
    assert len(picture) < 200_000


def test_raw_transactions_tell_the_fraud_rate_and_what_was_quarantined(
    world: World, world_instance: dg.DagsterInstance
) -> None:
    for month, metadata in materializations(world_instance, "raw_transactions").items():
        [(frauds, n)] = world.query(
            "SELECT (SELECT count(DISTINCT l.transaction_id) FROM fraud_labels l "
            f"WHERE to_char(l.event_timestamp, 'YYYY-MM') = '{month}'), count(*) FROM raw_transactions "
            f"WHERE to_char(event_timestamp, 'YYYY-MM') = '{month}'"
        )
        # Of the last months some frauds are reported only after the world's end.
        assert metadata["fraud_rate"].value >= frauds / n
        assert metadata["quarantined"].value == 0
    first = materializations(world_instance, "raw_transactions")["2025-01"]["fraud_rate"].value
    [(frauds,)] = world.query("SELECT count(*) FROM fraud_labels WHERE to_char(event_timestamp, 'YYYY-MM') = '2025-01'")
    [(n,)] = world.query("SELECT count(*) FROM raw_transactions WHERE event_timestamp < '2025-02-01'")
    assert first == pytest.approx(frauds / n)


def test_the_drift_check_of_a_month_repeats_its_verdict_as_a_warning_unless_all_is_well(
    world: World, world_instance: dg.DagsterInstance
) -> None:
    history = world_instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("drift_report"), "no_drift"), limit=100
    )
    checked = {}
    for record in reversed(history):
        event = record.event.dagster_event if record.event else None
        assert event is not None
        if event.event_type is not dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            continue  # Dagster keeps what was planned beside what was found
        evaluation = event.asset_check_evaluation_data
        run = world_instance.get_run_by_id(record.run_id)
        assert run is not None
        assert evaluation.severity == dg.AssetCheckSeverity.WARN
        checked[run.tags["dagster/partition"]] = (evaluation.metadata["drift_status"].value, evaluation.passed)
    verdicts = world.query("SELECT to_char(month, 'YYYY-MM'), drift_status FROM drift_report WHERE kind = 'verdict'")
    assert checked == {month: (status, status == "OK") for month, status in verdicts}


def test_a_trained_model_names_its_mlflow_run_and_the_run_names_dagster_s(
    world: World, world_instance: dg.DagsterInstance
) -> None:
    trained = world.query(
        "SELECT month, mlflow_run_id, model_version FROM trained_model WHERE model_version IS NOT NULL"
    )
    assert trained
    for month, run_id, version in trained:
        tags = dict(world.query(f"SELECT key, value FROM mlflow.tags WHERE run_uuid = '{run_id}'"))
        assert tags["month"] == f"{month:%Y-%m}"
        assert world_instance.get_run_by_id(tags["dagster_run_id"]) is not None
        assert world.query(f"SELECT run_id FROM mlflow.model_versions WHERE version = {version}") == [(run_id,)]
        assert world.query(f"SELECT status FROM mlflow.runs WHERE run_uuid = '{run_id}'") == [("FINISHED",)]


# However it was run

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def elsewhere(
    home: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Database:
    """An empty database with the source of `world`."""
    name = "t" + str(abs(hash(request.node.name)) % 10**9)
    contract = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", f"name: {name}"), encoding="utf-8")
    for variable, value in world.settings_given.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    return open_database(Settings())


@pytest.fixture
def run(elsewhere: Database) -> Run:
    """Runs data assets for months, each alone, or as one range."""
    from fraud_assets.definitions import defs

    job = defs.resolve_implicit_global_asset_job_def()

    def run(*months: str, only: tuple[str, ...] = DATA, as_range: bool = False) -> list[dg.ExecuteInProcessResult]:
        selection = [dg.AssetKey(name) for name in only]
        if "raw_transactions" in only:
            selection.append(dg.AssetKey("quarantined_transactions"))
        with dg.DagsterInstance.ephemeral() as instance:
            if as_range:
                tags = {
                    "dagster/asset_partition_range_start": months[0],
                    "dagster/asset_partition_range_end": months[-1],
                }
                return [job.execute_in_process(instance=instance, tags=tags, asset_selection=selection)]
            return [
                job.execute_in_process(instance=instance, partition_key=month, asset_selection=selection)
                for month in months
            ]

    return run  # type: ignore[return-value]


def contents(database: Database, name: str) -> dict[str, str]:
    """A digest of each month's rows, without the moment at which they were taken in."""
    time = "label_timestamp" if name == "fraud_labels" else "event_timestamp"
    with database.session() as connection:
        rows = connection.execute(
            f"SELECT to_char({time}, 'YYYY-MM'), md5(string_agg(row, ',' ORDER BY row)) FROM "  # type: ignore[arg-type]
            f"(SELECT {time}, (to_jsonb(t) - 'ingested_at')::text AS row FROM {name} t) rows GROUP BY 1"
        ).fetchall()
    return dict(rows)


@pytest.fixture
def expected(world: World) -> dict[str, dict[str, str]]:
    """The contents of the world's first three months, run one after the other by the command."""
    found = {name: contents(Database(world.url), name) for name in DATA}
    return {name: {month: digest for month, digest in found[name].items() if month < "2025-04"} for name in DATA}


def test_a_range_in_one_run_gives_the_tables_that_single_months_give(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    [result] = run("2025-01", "2025-02", "2025-03", as_range=True)
    assert {name: contents(elsewhere, name) for name in DATA} == expected
    changed = {
        str(event.asset_key.path[-1]): event.step_materialization_data.materialization.metadata["changed_months"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert changed["raw_transactions"] == ["2025-01", "2025-02", "2025-03"]


def test_transactions_and_labels_are_the_same_in_whatever_order_months_are_run(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-03", "2025-01", "2025-02", only=("raw_transactions", "fraud_labels"))
    for name in ("raw_transactions", "fraud_labels"):
        assert contents(elsewhere, name) == expected[name]


def test_features_are_the_same_in_whatever_order_months_are_run_once_their_history_is_there(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-03", "2025-01", "2025-02", only=("raw_transactions", "fraud_labels"))
    run("2025-02", "2025-03", "2025-01", only=("transaction_features",))
    assert contents(elsewhere, "transaction_features") == expected["transaction_features"]


def test_a_range_that_overlaps_what_is_there_changes_only_what_is_new(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-01", "2025-02")
    [result] = run("2025-01", "2025-02", "2025-03", as_range=True)
    changed = {
        event.asset_key.path[-1]: event.step_materialization_data.materialization.metadata["changed_months"].value
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert changed == {name: ["2025-03"] for name in [*DATA, "quarantined_transactions"]}
    assert {name: contents(elsewhere, name) for name in DATA} == expected


def test_a_single_month_of_a_range_run_again_is_the_same(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-01", "2025-02", "2025-03", as_range=True)
    run("2025-02")
    assert {name: contents(elsewhere, name) for name in DATA} == expected
