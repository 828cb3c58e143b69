"""What a materialisation leaves behind, and that a month is the same however it was run."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from fraud_assets.adapters.postgres.database import Database, open_database
from fraud_assets.core.lineage.staleness import contract_inputs
from fraud_assets.settings import PROJECT_ROOT, Settings

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

ASSETS = (
    "quarantined_transactions", "raw_transactions", "delivered_labels", "fraud_labels", "transaction_features",
    "drift_report", "trained_model", "evaluation_segments", "evaluation", "champion", "fraud_bento",
    "model_performance", "serving_skew", "challenger_comparison",
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


def test_an_evaluation_shows_curves_and_what_each_threshold_would_have_meant(
    world: World, world_instance: dg.DagsterInstance
) -> None:
    shown = materializations(world_instance, "evaluation")["2025-04"]
    assert shown["curves"].md_str.startswith("![plot](data:image/png;base64,")
    rows = [record.data for record in shown["thresholds"].records]
    [(version, threshold, cost)] = world.query(
        "SELECT model_version, threshold, expected_cost FROM evaluation "
        "WHERE month = '2025-04-01' AND role = 'champion'"
    )
    [own] = [row for row in rows if (row["model"], row["choice"]) == (f"champion v{version}", "the model's threshold")]
    assert (own["threshold"], own["expected_cost"]) == pytest.approx((threshold, cost), abs=0.06)
    assert [column.name for column in shown["thresholds"].schema.columns][:3] == ["model", "choice", "threshold"]


def test_the_parts_of_an_evaluation_add_up_and_are_shown_with_the_lowest_average_precision_first(
    world: World, world_instance: dg.DagsterInstance
) -> None:
    months = world.query(
        "SELECT e.month FROM evaluation e JOIN (SELECT month, role, segment, sum(n) n, sum(n_fraud) f "
        "FROM evaluation_segments GROUP BY 1, 2, 3) s USING (month, role) GROUP BY 1 "
        "HAVING bool_and(e.n = s.n AND e.n_fraud = s.f) ORDER BY 1"
    )
    assert months == world.query("SELECT DISTINCT month FROM evaluation WHERE role <> 'none' ORDER BY 1")
    assert {segment for (segment,) in world.query("SELECT DISTINCT segment FROM evaluation_segments")} >= {
        "amount", "day", "merchant_segment",
    }  # fmt: skip
    shown = materializations(world_instance, "evaluation_segments")["2025-04"]["segments"].md_str.splitlines()[2:]
    found = [float(value) for line in shown if (value := line.split(" | ")[3].split(" ")[0]).startswith("0.")]
    assert found == sorted(found)


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


# What it was made of


def recorded(world: World, name: str) -> dict[str, dict[str, dict[str, str | None]]]:
    """The inputs of each month's newest version."""
    return dict(
        world.query(
            f"SELECT DISTINCT ON (month) month, inputs FROM month_versions WHERE table_name = '{name}' "
            "ORDER BY month, id DESC"
        )
    )


@pytest.mark.parametrize("name", ASSETS)
def test_every_month_records_the_contract_and_the_tables_that_its_asset_depends_on(world: World, name: str) -> None:
    from fraud_assets.core.lineage.tables.declared import TABLES
    from fraud_assets.definitions import defs

    declared = {key.path[-1] for key in defs.resolve_asset_graph().get(dg.AssetKey(name)).parent_keys}
    if name == "fraud_labels":
        # Transactions are looked up for statements that come without them, and here each comes with its own.
        declared -= {"raw_transactions"}
    found = recorded(world, name)
    assert set(found) == set(world.months)
    if name in ("model_performance", "serving_skew", "challenger_comparison"):
        # Nothing was scored here, so that nothing else was looked at.
        looked_at = "shadow_scores" if name == "challenger_comparison" else "scored_transactions"
        assert all(set(inputs[looked_at].values()) == {None} for inputs in found.values())
        declared = set()
    if name == "champion":
        # Only where there are challengers.
        declared -= {"challenger_comparison"}
    if name == "drift_report":
        # Its own earlier months: what drifted stays drifted for a while.
        declared |= {"drift_report"}
    if name in ("evaluation", "evaluation_segments"):
        # Which look at a challenger it is, is counted in earlier evaluations.
        declared |= {"evaluation"}
    assert {table for inputs in found.values() for table in inputs if table in TABLES} == declared
    for inputs in found.values():
        assert inputs["contract"] == contract_inputs(world.settings.loaded_contract)["contract"]
    for month, inputs in found.items():
        months = {key for table, keys in inputs.items() if table in TABLES for key in keys}
        assert months <= set(world.months[: world.months.index(month) + 1]), "a month was made of a later one"


def test_what_looks_at_the_champion_records_which_one_it_was(world: World) -> None:
    live: str | None = None
    versions = dict(world.query("SELECT to_char(month, 'YYYY-MM'), champion_version FROM champion"))
    for month in world.months:
        for name in ("drift_report", "evaluation"):
            assert recorded(world, name)[month]["ledger"] == {f"champion before {month}": live}
        live = None if versions[month] is None else str(versions[month])
    assert live is not None


def test_months_run_in_order_leave_nothing_stale_and_the_ui_s_checks_say_so(
    in_world: World, world_instance: dg.DagsterInstance
) -> None:
    from fraud_assets.workflows.runs.refresh import open_stale

    assert open_stale(in_world.settings) == []
    keys = [dg.AssetCheckKey(dg.AssetKey(name), "up_to_date") for name in ASSETS]
    infos = world_instance.event_log_storage.get_asset_check_partition_info(keys)
    assert {(info.check_key.asset_key.path[-1], info.partition_key) for info in infos} == {
        (name, month) for name in ASSETS for month in in_world.months
    }
    assert {info.latest_execution_status.value for info in infos} == {"SUCCEEDED"}


def test_the_ledger_names_what_each_model_and_decision_was_made_from(world: World) -> None:
    events = world.query("SELECT kind, month, evidence FROM ledger")
    assert {kind for kind, *_ in events} >= {"registered", "promoted"}
    for kind, month, evidence in events:
        table = "trained_model" if kind == "registered" else "evaluation"
        if kind == "registered":
            made_of = recorded(world, table)[month]
            tables = ("transaction_features", "fraud_labels")
            assert {name: evidence[name] for name in tables} == {name: made_of[name] for name in tables}
            assert evidence["training"] == {"": world.settings.training.digest}
            assert evidence["contract"] == {"": world.settings.loaded_contract.digest}
        else:
            [(digest,)] = world.query(
                f"SELECT digest FROM month_versions WHERE table_name = '{table}' AND month = '{month}'"
            )
            assert evidence[table] == {month: digest}


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
    return open_database(Settings(), writing=True)


@pytest.fixture
def run(elsewhere: Database) -> Run:
    """Runs data assets for months, each alone, or as one range."""
    from fraud_assets.definitions import build_definitions

    job = build_definitions(Settings()).resolve_implicit_global_asset_job_def()

    def run(*months: str, only: tuple[str, ...] = DATA, as_range: bool = False) -> list[dg.ExecuteInProcessResult]:
        selection = [dg.AssetKey(name) for name in only]
        if "raw_transactions" in only:
            selection += [dg.AssetKey("quarantined_transactions"), dg.AssetKey("delivered_labels")]
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


def test_transactions_are_the_same_in_whatever_order_months_are_run(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-03", "2025-01", "2025-02", only=("raw_transactions",))
    assert contents(elsewhere, "raw_transactions") == expected["raw_transactions"]


def test_labels_and_features_are_the_same_in_whatever_order_months_are_run_once_their_history_is_there(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-03", "2025-01", "2025-02", only=("raw_transactions",))
    run("2025-02", "2025-03", "2025-01", only=("fraud_labels",))
    run("2025-02", "2025-03", "2025-01", only=("transaction_features",))
    assert {name: contents(elsewhere, name) for name in DATA} == expected


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
    assert changed == {name: ["2025-03"] for name in [*DATA, "quarantined_transactions", "delivered_labels"]}
    assert {name: contents(elsewhere, name) for name in DATA} == expected


def test_a_single_month_of_a_range_run_again_is_the_same(
    run: Run, elsewhere: Database, expected: dict[str, dict[str, str]]
) -> None:
    run("2025-01", "2025-02", "2025-03", as_range=True)
    run("2025-02")
    assert {name: contents(elsewhere, name) for name in DATA} == expected


def test_features_with_a_hole_in_their_history_say_which_month_is_missing(run: Run, elsewhere: Database) -> None:
    """The hole lies between months that are there, and behind the first month of the contract there is nothing."""
    first, third = run("2025-01", "2025-03")

    def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
        [found] = [one for one in result.get_asset_check_evaluations() if one.check_name == "has_all_history"]
        return found

    assert check(first).passed
    assert not check(third).passed
    assert check(third).description == "2025-03 was built without raw_transactions 2025-02, fraud_labels 2025-02"
    assert check(third).severity == dg.AssetCheckSeverity.WARN


# In any order


@pytest.fixture(scope="session")
def shuffled(world: World) -> Iterator[tuple[World, dict[str, dict[str, Any]]]]:
    """The months of `world` run in another order, each by a command of its own, and what that made anew."""
    from fraud_assets_tests.worlds import World, quick_home, remove_home

    other = World(quick_home(), world.settings_given, world.months)
    try:
        refreshed = {
            month: json.loads(other.fraud("run", "--from", month, "--to", month, "--json").stdout)["refreshed"]
            for month in ("2025-03", "2025-01", "2025-04", "2025-02")
        }
        yield other, refreshed
    finally:
        remove_home(other.home)


def newest_digests(world: World, name: str) -> dict[str, str]:
    return dict(
        world.query(
            f"SELECT DISTINCT ON (month) month, digest FROM month_versions WHERE table_name = '{name}' "
            "ORDER BY month, id DESC"
        )
    )


@pytest.mark.parametrize("name", ASSETS[:5])
def test_data_and_features_have_the_same_digests_in_whatever_order_months_were_run(
    world: World, shuffled: tuple[World, dict[str, dict[str, Any]]], name: str
) -> None:
    assert newest_digests(shuffled[0], name) == newest_digests(world, name)


# Other ones in another order: versions are numbered as they are registered, and runs have names of their own.
NUMBERED = {"model_version", "challenger_version", "champion_version"}
OF_A_RUN = {"mlflow_run_id", "bento_tag", "model_digest"}


@pytest.mark.parametrize("name", ASSETS[5:])
def test_what_follows_from_features_is_the_same_too_but_for_the_numbers_of_versions_and_the_names_of_runs(
    world: World, shuffled: tuple[World, dict[str, dict[str, Any]]], name: str
) -> None:
    def rows(of: World) -> list[dict[str, Any]]:
        month_of = dict(of.query("SELECT model_version, month FROM ledger WHERE kind = 'registered'"))
        found = [row for (row,) in of.query(f"SELECT to_jsonb(t) FROM {name} t")]
        for row in found:
            for column in row.keys() & NUMBERED:
                row[column] = month_of.get(row[column])
            for column in row.keys() & {"reason", "reasons"}:
                # A part of an evaluation has a reason only where it could not be judged.
                row[column] = row[column] and re.sub(
                    r"[Vv]ersion (\d+)", lambda found: f"version of {month_of[int(found[1])]}", row[column]
                )
            for column in row.keys() & OF_A_RUN:
                row[column] = row[column] is not None
        return sorted(found, key=str)

    assert rows(shuffled[0]) == rows(world)


@pytest.mark.parametrize(
    ("month", "later"),
    [("2025-03", set()), ("2025-01", {"2025-03"}), ("2025-04", set()), ("2025-02", {"2025-03", "2025-04"})],
)
def test_a_run_makes_the_later_months_anew_each_once_and_no_month_of_a_delivery(
    shuffled: tuple[World, dict[str, dict[str, Any]]], month: str, later: set[str]
) -> None:
    outcome = shuffled[1][month]
    assert (outcome["left"], outcome["failed"]) == ([], [])
    rebuilt = [(one["table"], one["month"]) for one in outcome["rebuilt"]]
    assert "raw_transactions" not in {table for table, _ in rebuilt}
    assert len(rebuilt) == len(set(rebuilt))
    months = [month for _, month in rebuilt]
    assert months == sorted(months)
    assert set(months) == later


def test_months_run_in_another_order_leave_nothing_stale(shuffled: tuple[World, dict[str, dict[str, Any]]]) -> None:
    other, _ = shuffled
    assert json.loads(other.fraud("status", "--json").stdout)["stale"] == []
