"""The backtest over a stored world: the command, the asset, and its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from fraud_assets.settings import Settings
from fraud_assets_tests.sentences import said

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

SPAN = ("--from", "2025-03", "--to", "2025-04")


def asked(last: str, policies: str) -> dict[str, object]:
    return {"ops": {"backtest": {"config": {"first": "2025-03", "last": last, "policies": policies}}}}


def run(instance: dg.DagsterInstance, last: str, policies: str) -> dict[str, dg.MetadataValue]:  # type: ignore[type-arg]
    from fraud_assets.definitions import build_definitions

    job = build_definitions(Settings()).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        instance=instance, run_config=asked(last, policies), asset_selection=[dg.AssetKey("backtest")]
    )
    [event] = result.get_asset_materialization_events()
    return dict(event.step_materialization_data.materialization.metadata)


def test_the_command_prints_what_the_evaluation_of_the_same_models_found_and_stores_nothing(
    in_spare_world: World, tmp_path: Path
) -> None:
    stored = "SELECT count(*) FROM month_versions"
    before = in_spare_world.query(stored)
    plot = tmp_path / "plot.svg"
    done = in_spare_world.fraud("backtest", *SPAN, "--policy", "never,monthly", "--plot", str(plot), "--json")
    assert in_spare_world.query(stored) == before
    assert plot.read_bytes().startswith(b"<?xml")
    found = {(row["policy"], row["month"]): row for row in json.loads(done.stdout) if row["kind"] == "month"}
    # The challenger of March is judged in April on what matured then of April, after its as-of time: the same rows.
    [(n, precision, cost)] = in_spare_world.query(
        "SELECT n, average_precision, expected_cost FROM evaluation WHERE month = '2025-04-01' AND role = 'challenger'"
    )
    row = found["monthly", "2025-04-01"]
    assert (row["n"], row["trained_month"]) == (n, "2025-03")
    assert (row["average_precision"], row["expected_cost"]) == pytest.approx((precision, cost))
    assert "transactions that have not matured" in said(row["reasons"])


def test_the_asset_replaces_its_table_with_each_run_and_is_never_stale(in_spare_world: World) -> None:
    from fraud_assets.adapters.dagster_storage import open_instance
    from fraud_assets.workflows.runs.refresh import open_stale

    with open_instance(in_spare_world.settings) as instance:
        metadata = run(instance, "2025-04", "never,monthly")
        assert metadata["plot"].value.startswith("![plot](data:image/png;base64,")
        assert "| monthly | 1 |" in metadata["policies"].value
        rows = "SELECT to_char(month, 'YYYY-MM'), kind, policy FROM backtest ORDER BY 1, 2, 3"
        assert in_spare_world.query(rows) == [
            ("2025-03", "month", "monthly"), ("2025-03", "month", "never"),
            ("2025-04", "month", "monthly"), ("2025-04", "month", "never"),
            ("2025-04", "total", "monthly"), ("2025-04", "total", "never"),
        ]  # fmt: skip
        run(instance, "2025-03", "never")
        assert in_spare_world.query(rows) == [("2025-03", "month", "never"), ("2025-03", "total", "never")]
    assert [stale for stale in open_stale(in_spare_world.settings) if stale.table == "backtest"] == []


def test_a_run_that_names_no_months_leaves_the_table_as_it_is_so_that_all_assets_can_be_backfilled_at_once(
    in_spare_world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    from fraud_assets.definitions import build_definitions

    job = build_definitions(Settings()).resolve_implicit_global_asset_job_def()
    assert dg.validate_run_config(job, {})
    rows = "SELECT month, kind, policy, average_precision, xmin::text FROM backtest ORDER BY 1, 2, 3"
    with dg.DagsterInstance.ephemeral() as instance:
        asked = run(instance, "2025-04", "never")
        before = in_spare_world.query(rows)
        result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("backtest")])
    assert "no months were named" in capfd.readouterr().err
    # What is told is what the table says, and a backfill counts it as done.
    [event] = result.get_asset_materialization_events()
    told = event.step_materialization_data.materialization.metadata
    assert told["asked"].value == asked["asked"].value == "2025-03 to 2025-04: never"
    assert told["policies"].value == asked["policies"].value
    assert in_spare_world.query(rows) == before


def test_what_nobody_asked_is_told_as_that() -> None:
    from fraud_assets.defs.backtest import _told

    assert _told([]) == {"asked": "nothing yet"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "2025-04", "--to", "2025-05"), "2025-05 cannot be replayed"),
        (("--from", "2025-03", "--to", "2025-04", "--policy", "weekly"), "'weekly' is no policy; name some of never"),
        (("--from", "April", "--to", "2025-04"), "'April' is not a month"),
        ((*SPAN, "--plot", "plot.pdf"), "plot.pdf is no .png, .svg or .html"),
    ],
)
def test_what_cannot_be_replayed_is_told_in_a_sentence(world: World, arguments: tuple[str, ...], said: str) -> None:
    assert said in world.fraud("backtest", *arguments, fails=True).stderr.replace("\n", " ")
