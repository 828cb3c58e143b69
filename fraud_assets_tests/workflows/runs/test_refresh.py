"""Making stale months anew, on a real store and a real Dagster instance, with a graph of three small tables."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pyarrow as pa
import pytest
from rich.console import Console

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.postgres.embedded import start_server
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.cli.progress import ShownProgress
from fraud_assets.core.lineage.staleness import Inputs, inputs_of
from fraud_assets.core.months import shift_month
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.quarantine import decisions_digest, record_decisions
from fraud_assets.workflows.runs.refresh import evaluate_up_to_date, open_stale, refresh_months, untold
from fraud_assets.workflows.runs.run_months import QUIET
from fraud_assets_tests.sentences import stored

MONTHS = ("2025-01", "2025-02", "2025-03")
TABLES = ("trained_model", "champion", "fraud_bento")
PARTITIONS = dg.MonthlyPartitionsDefinition(start_date=MONTHS[0], fmt="%Y-%m")


@dataclass
class Graph:
    """`trained_model` is made of a month's decisions, `champion` of this and the last `trained_model`, then the bento.

    Attributes:
        settings: of a home with a database of its own.
        store: its tables.
        says: the text in a month's rows, by table; the same text is the same rows.
        broken: partitions that fail.
        ran: what ran, in order.
    """

    settings: Settings
    store: MonthStore
    says: Callable[[str, str], str] = lambda table, month: table
    broken: set[tuple[str, str]] = field(default_factory=set)
    ran: list[tuple[str, str]] = field(default_factory=list)

    @property
    def job(self) -> dg.JobDefinition:
        def write(
            context: dg.AssetExecutionContext, name: str, inputs: Inputs, **columns: Any
        ) -> dg.MaterializeResult[Any]:
            month = context.partition_key
            self.ran.append((name, month))
            if (name, month) in self.broken:
                raise ValueError(f"{name} of {month} cannot be made")
            row = {"month": date.fromisoformat(f"{month}-01")} | columns
            rows = pa.Table.from_pylist([row], schema=self.store.table(name).schema)
            self.store.replace_months(name, rows, [month], inputs=inputs, run_id=context.run.run_id)
            return dg.MaterializeResult()

        def read(name: str, month: str, months_back: int = 0) -> pa.Table:
            return self.store.read(name, first_month=shift_month(month, -months_back), last_month=month)

        @dg.asset(partitions_def=PARTITIONS)
        def trained_model(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            month = context.partition_key
            inputs: Inputs = {"quarantine_decisions": {month: decisions_digest(self.store.database, month)}}
            said = self.says("trained_model", month)
            as_of = self.store.contract.month_end(month)
            return write(context, "trained_model", inputs, as_of=as_of, status="trained", reason=said)

        @dg.asset(partitions_def=PARTITIONS, deps=[trained_model])
        def champion(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            inputs = inputs_of(read("trained_model", context.partition_key, 1))
            said = self.says("champion", context.partition_key)
            return write(context, "champion", inputs, validation_status="passed", promoted=True, reasons=stored(said))

        @dg.asset(partitions_def=PARTITIONS, deps=[champion])
        def fraud_bento(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
            inputs = inputs_of(read("champion", context.partition_key))
            return write(context, "fraud_bento", inputs, bento_tag=self.says("fraud_bento", context.partition_key))

        @dg.multi_asset_check(specs=[dg.AssetCheckSpec("up_to_date", asset=name) for name in TABLES], can_subset=True)
        def up_to_date(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckEvaluation]:
            made = [(key.asset_key.path[-1], context.partition_key) for key in context.selected_asset_check_keys]
            yield from evaluate_up_to_date(context.instance, self.store, open_stale(self.settings), made)

        return dg.Definitions(
            assets=[trained_model, champion, fraud_bento], asset_checks=[up_to_date]
        ).resolve_implicit_global_asset_job_def()

    def run(self, *months: str) -> None:
        """Every table of these months."""
        with open_instance(self.settings) as instance:
            for month in months:
                self.job.execute_in_process(partition_key=month, instance=instance, run_config=QUIET)
        self.ran.clear()

    def decide(self, month: str) -> None:
        """Something that `trained_model` of the month was made of changes."""
        n = len(self.store.versions("trained_model"))
        record_decisions(self.store.database, [(month, f"row {n} {len(self.ran)}")], "drop", "because", actor="test")

    def refresh(self, first: str | None = MONTHS[0], last: str = MONTHS[-1], **options: Any) -> dict[str, Any]:
        """What came of it; what was shown is under `shown`."""
        shown = io.StringIO()
        outcome = refresh_months(
            self.job, self.settings, first, last, ShownProgress(Console(file=shown, width=200)), **options
        )
        return outcome | {"shown": shown.getvalue()}

    def stale(self) -> list[tuple[str, str]]:
        return [one.partition for one in open_stale(self.settings)]


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a database of this module's own, for Dagster's storage takes seconds to create."""
    path = tmp_path_factory.mktemp("refresh") / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("name: simulator", "name: refresh"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def built(quick_server: None, home: Path, contract: Path) -> Settings:
    """The database `refresh_built` of all months up to date."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FRAUD_HOME", str(home))
        patch.setenv("FRAUD_CONTRACT", str(contract))
        settings = Settings()
        graph = Graph(settings, open_store(settings, writing=True))
        graph.run(*MONTHS)
    with psycopg.connect(start_server(settings.postgres_folder).url(), autocommit=True) as connection:
        # Connections that readers keep for the next use.
        connection.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'refresh'")
        connection.execute("ALTER DATABASE refresh RENAME TO refresh_built")
    return settings


@pytest.fixture
def graph(built: Settings, contract: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The graph with all its months up to date, and nothing that Dagster would remember of another test."""
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    with psycopg.connect(start_server(built.postgres_folder).url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS refresh WITH (FORCE)")
        connection.execute("CREATE DATABASE refresh TEMPLATE refresh_built STRATEGY FILE_COPY")
    return Graph(built, open_store(built, writing=True))


def done(outcome: dict[str, Any]) -> list[tuple[str, str, bool]]:
    return [(one["table"], one["month"], one["changed"]) for one in outcome["rebuilt"]]


def test_what_is_up_to_date_is_left_alone(graph: Graph) -> None:
    outcome = graph.refresh()
    assert (outcome["stale"], outcome["rebuilt"], outcome["left"], graph.ran) == ([], [], [], [])


def test_where_the_rows_come_out_the_same_nothing_after_them_runs_and_nothing_stays_stale(graph: Graph) -> None:
    graph.decide("2025-02")
    assert graph.stale()[0] == ("trained_model", "2025-02")
    outcome = graph.refresh()
    assert done(outcome) == [("trained_model", "2025-02", False)]
    assert graph.ran == [("trained_model", "2025-02")]
    assert (outcome["left"], graph.stale()) == ([], [])


def test_a_change_goes_through_the_graph_month_by_month_and_no_further_than_it_changes_rows(graph: Graph) -> None:
    graph.decide("2025-01")
    graph.says = lambda table, _: "other" if table != "fraud_bento" else table
    outcome = graph.refresh()
    assert done(outcome) == [
        ("trained_model", "2025-01", True),
        ("champion", "2025-01", True),
        ("fraud_bento", "2025-01", False),
        # Reads the trained model of January too; that of its own month is as it was.
        ("champion", "2025-02", True),
        ("fraud_bento", "2025-02", False),
    ]
    assert graph.stale() == []


def test_a_dry_run_says_what_is_stale_and_why_and_runs_nothing(graph: Graph) -> None:
    graph.decide("2025-03")
    outcome = graph.refresh(dry_run=True)
    change = "what was decided about quarantined rows of 2025-03 has changed"
    assert outcome["left"] == outcome["stale"] == [
        {"table": "trained_model", "month": "2025-03", "changes": [change], "reasons": [change]},
        {"table": "champion", "month": "2025-03", "changes": [],
         "reasons": ["it was built on trained_model 2025-03, which is stale"]},
        {"table": "fraud_bento", "month": "2025-03", "changes": [],
         "reasons": ["it was built on champion 2025-03, which is stale"]},
    ]  # fmt: skip
    assert graph.ran == []


def test_only_the_months_asked_for_are_made_anew(graph: Graph) -> None:
    graph.decide("2025-01")
    graph.decide("2025-03")
    outcome = graph.refresh("2025-02")
    assert done(outcome) == [("trained_model", "2025-03", False)]
    assert ("trained_model", "2025-01") in graph.stale()


def test_a_month_that_fails_is_told_and_later_months_go_on(graph: Graph) -> None:
    graph.decide("2025-01")
    graph.decide("2025-03")
    graph.broken.add(("trained_model", "2025-01"))
    outcome = graph.refresh()
    assert [(one["month"], one["step"], one["error"]) for one in outcome["failed"]] == [
        ("2025-01", "trained_model", "trained_model of 2025-01 cannot be made")
    ]
    assert "trained_model of 2025-01 cannot be made" in outcome["shown"]
    assert done(outcome) == [("trained_model", "2025-03", False)]
    # Once: a refresh that tries the same thing again and again would never end.
    assert graph.ran.count(("trained_model", "2025-01")) == 1
    assert {one["month"] for one in outcome["left"]} == {"2025-01", "2025-02"}


def test_what_failed_is_made_by_the_next_refresh(graph: Graph) -> None:
    graph.decide("2025-01")
    graph.broken.add(("trained_model", "2025-01"))
    graph.refresh()
    graph.broken.clear()
    assert done(graph.refresh()) == [("trained_model", "2025-01", False)]
    assert graph.stale() == []


def test_a_refresh_s_runs_are_runs_that_the_ui_shows_with_what_they_are(graph: Graph) -> None:
    graph.decide("2025-02")
    outcome = graph.refresh()
    with open_instance(graph.settings) as instance:
        run = instance.get_run_by_id(outcome["rebuilt"][0]["run_id"])
        assert run is not None
        assert run.tags["fraud/refresh"] == run.tags["dagster/partition"] == "2025-02"
        assert run.tags["fraud/purpose"] == "fraud refresh"


def test_a_rebuilt_month_tells_its_rows_and_what_changed_about_them(graph: Graph) -> None:
    graph.decide("2025-02")
    graph.says = lambda table, _: "other"
    (first, *_) = graph.refresh()["rebuilt"]
    assert {name: first[name] for name in ("rows", "added", "removed", "altered")} == {
        "rows": 1, "added": 0, "removed": 0, "altered": 1,
    }  # fmt: skip


# What Dagster is told


def evaluations(instance: dg.DagsterInstance, table: str) -> list[tuple[str | None, bool, str | None]]:
    """Partition, outcome and description, oldest first."""
    key = dg.AssetCheckKey(dg.AssetKey(table), "up_to_date")
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    found = []
    for record in reversed(records):
        event = record.event.dagster_event if record.event else None
        if event is not None and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            found.append((evaluation.partition, evaluation.passed, evaluation.description))
    return found


def test_each_change_is_told_once(graph: Graph) -> None:
    with open_instance(graph.settings) as instance:
        assert evaluations(instance, "champion") == [(month, True, None) for month in MONTHS]
        graph.decide("2025-03")
        # Any run tells of it, also one that makes another month.
        graph.run("2025-01")
        graph.run("2025-01")
        assert evaluations(instance, "fraud_bento")[3:] == [
            ("2025-01", True, None),
            ("2025-03", False, "it was built on champion 2025-03, which is stale."),
            ("2025-01", True, None),
        ]
        graph.refresh()
        assert evaluations(instance, "trained_model")[-2:] == [("2025-01", True, None), ("2025-03", True, None)]
        assert evaluations(instance, "fraud_bento")[-1] == ("2025-03", True, None)
        assert untold(instance, graph.store, open_stale(graph.settings)) == {}


def test_what_changed_outside_of_a_run_is_still_to_be_told(graph: Graph) -> None:
    graph.decide("2025-03")
    with open_instance(graph.settings) as instance:
        found = untold(instance, graph.store, open_stale(graph.settings))
    assert set(found) == {(name, "2025-03") for name in TABLES}


def test_an_evaluation_is_about_the_newest_materialisation_of_its_month(graph: Graph) -> None:
    with open_instance(graph.settings) as instance:
        key = dg.AssetCheckKey(dg.AssetKey("champion"), "up_to_date")
        infos = instance.event_log_storage.get_asset_check_partition_info([key])
        assert {info.partition_key for info in infos} == set(MONTHS)
        for info in infos:
            assert info.latest_target_materialization_storage_id == info.latest_materialization_storage_id is not None
