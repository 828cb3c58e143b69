"""Running months from the command line: which months, what is reported of each, and how failures are told."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from rich.console import Console

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.cli.progress import ShownProgress, _fraud_rate
from fraud_assets.core.months import months_between
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.runs.run_months import run_months

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2025-01", fmt="%Y-%m")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A contract, and thus a database, of this module's own on the session's server."""
    contract = tmp_path / "monthly.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: monthly_runs"), encoding="utf-8")
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    return Settings()


def job(body: Callable[[str], dg.MaterializeResult[Any]]) -> dg.JobDefinition:
    """A job of one asset, `raw_transactions`, that does `body` for its month."""

    @dg.asset(partitions_def=MONTHS)
    def raw_transactions(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        return body(context.partition_key)

    return dg.Definitions(assets=[raw_transactions]).resolve_implicit_global_asset_job_def()


def run(
    settings: Settings, body: Callable[[str], dg.MaterializeResult[Any]], first: str = "2025-01", last: str = "2025-03"
) -> tuple[list[dict[str, Any]], str]:
    """Outcomes, and what was shown."""
    shown = io.StringIO()
    outcomes = run_months(
        job(body), settings, months_between(first, last), ShownProgress(Console(file=shown, width=200))
    )
    return outcomes, shown.getvalue()


def fine(month: str) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(metadata={"dagster/row_count": 1234, "fraud_rate": 0.0125, "quarantined": 0})


def test_months_run_in_order_and_are_reported_with_their_facts(settings: Settings) -> None:
    outcomes, shown = run(settings, fine)
    assert [outcome["month"] for outcome in outcomes] == ["2025-01", "2025-02", "2025-03"]
    assert outcomes[0]["failed"] == []
    assert outcomes[0]["facts"]["raw_transactions.dagster/row_count"] == 1234
    assert "1,234 transactions" in shown
    assert "1.25 % fraud" in shown


def test_an_asset_without_months_is_left_out(settings: Settings) -> None:
    @dg.asset(partitions_def=MONTHS)
    def raw_transactions() -> None: ...

    @dg.asset
    def on_request() -> None:
        raise AssertionError("nobody asked for it")

    both = dg.Definitions(assets=[raw_transactions, on_request]).resolve_implicit_global_asset_job_def()
    [outcome] = run_months(both, settings, ["2025-01"], purpose="fraud start")
    assert outcome["failed"] == []
    with open_instance(settings) as instance:
        run = instance.get_run_by_id(outcome["run_id"])
    assert run is not None
    assert (run.tags["dagster/partition"], run.tags["fraud/purpose"]) == ("2025-01", "fraud start")


def test_a_month_that_was_delivered_again_says_what_that_changed(settings: Settings) -> None:
    def body(month: str) -> dg.MaterializeResult[Any]:
        counts = {"added": 1200, "removed": 0, "altered": 7} if month == "2025-02" else {}
        return dg.MaterializeResult(metadata=dict(fine(month).metadata or {}) | counts)

    outcomes, shown = run(settings, body)
    assert "delivered again: 1,200 added, 7 altered" in shown
    assert shown.count("delivered again") == 1
    assert outcomes[1]["facts"]["raw_transactions.added"] == 1200


def test_a_month_that_fails_does_not_stop_the_next(settings: Settings) -> None:
    ran = []

    def body(month: str) -> dg.MaterializeResult[Any]:
        ran.append(month)
        if month == "2025-02":
            raise ValueError("the file is torn")
        return fine(month)

    outcomes, shown = run(settings, body)
    assert ran == ["2025-01", "2025-02", "2025-03"]
    assert [outcome["failed"] for outcome in outcomes] == [
        [], [{"step": "raw_transactions", "kind": "ValueError", "error": "the file is torn"}], [],
    ]  # fmt: skip
    assert "raw_transactions: the file is torn" in shown


def test_a_failure_is_told_with_the_error_that_was_raised_and_not_with_what_caused_it(settings: Settings) -> None:
    def body(month: str) -> dg.MaterializeResult[Any]:
        try:
            raise KeyError("deep inside")
        except KeyError as error:
            raise ValueError(f"{month}.csv cannot be read; deliver it again") from error

    outcomes, _ = run(settings, body, last="2025-01")
    assert outcomes[0]["failed"][0]["error"] == "2025-01.csv cannot be read; deliver it again"


def test_brackets_in_an_error_are_shown_as_they_are(settings: Settings) -> None:
    def body(month: str) -> dg.MaterializeResult[Any]:
        raise ValueError("[/data/in] lacks [amount]: it has ['a', 'b']")

    _, shown = run(settings, body, last="2025-01")
    assert "[/data/in] lacks [amount]: it has ['a', 'b']" in shown


def test_a_source_that_the_settings_do_not_name_is_told_before_anything_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_SOURCE", "parquet")
    ran: list[str] = []
    with pytest.raises(ValueError, match="needs FRAUD_SOURCE_PATH"):
        run(Settings(), lambda month: ran.append(month) or fine(month))  # type: ignore[func-returns-value]
    assert ran == []


def test_every_run_of_the_command_is_a_run_that_the_ui_shows(
    world: "World", world_instance: dg.DagsterInstance
) -> None:
    runs = world_instance.get_runs()
    assert {run.tags["dagster/partition"] for run in runs} == set(world.months)
    assert {run.tags["fraud/purpose"] for run in runs} == {"fraud run"}
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}


@pytest.mark.parametrize(
    ("rate", "n_labelled", "said"),
    [(0.0123, None, "1.23 % fraud"), (0.117, 1810, "11.7 % fraud of 1,810 labelled"), (0.0, 0, "none labelled")],
)
def test_a_rate_over_what_is_known_says_of_how_many(rate: float, n_labelled: int | None, said: str) -> None:
    assert _fraud_rate(rate, n_labelled) == said
