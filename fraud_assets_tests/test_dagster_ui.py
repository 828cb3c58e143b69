"""`fraud dev` as a person meets it: the UIs in a browser, the daemon's sensor, a backfill from the UI's own API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from benchmarks.browser import open_browser, wait_for_text
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.browser import require_browser, wait

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

# And assets of each, as the page shortens their names.
GROUPS = {
    "transactions": ("raw_transactions", "fraud_labels", "quar\u2026_transactions"),
    "features": ("transact\u2026_features",),
    "monitoring": ("drift_report", "serving_skew"),
    "models": ("trained_model", "evaluation"),
    "serving": ("champion", "fraud_bento"),
}
RUNS = """
query Runs($filter: RunsFilter) {
  runsOrError(filter: $filter) {
    ... on Runs { results { runId jobName status assetSelection { path } tags { key value } } }
  }
}
"""
BACKFILL = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status numPartitions runs { runId status } } }
}
"""

START_SENSOR = """
mutation Start($sensor: SensorSelector!) {
  startSensor(sensorSelector: $sensor) {
    __typename ... on Sensor { sensorState { id } } ... on PythonError { message }
  }
}
"""
STOP_SENSOR = """
mutation Stop($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""
TICKS = """
query Ticks($sensor: SensorSelector!) {
  sensorOrError(sensorSelector: $sensor) { ... on Sensor { sensorState { ticks { status timestamp } } } }
}
"""


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    """The tags of a run of `RUNS`."""
    return {tag["key"]: tag["value"] for tag in run["tags"]}


@dataclass(frozen=True)
class Platform:
    """A running `fraud dev`."""

    world: World
    dagster: str
    mlflow: str
    pid: int

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        request = urllib.request.Request(
            f"{self.dagster}/graphql", json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=30) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return dict(found["data"])

    def backfill(self, assets: Sequence[str], months: Sequence[str]) -> dict[str, Any]:
        """Starts a backfill as its dialog does; gives what became of it."""
        launched = self.ask(
            BACKFILL, params={"assetSelection": [{"path": [name]} for name in assets], "partitionNames": months}
        )["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched

        def ended() -> dict[str, Any] | None:
            status = self.ask(BACKFILL_STATUS, id=launched["backfillId"])["partitionBackfillOrError"]
            return status if status["status"] not in ("REQUESTED", "COMPLETING") else None

        return dict(wait(ended, "the backfill", 180))


@pytest.fixture(scope="module")
def platform(spare_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """`fraud dev` on the spare world, on free ports; interrupted at the end, and then no process is left."""
    from fraud_assets_tests.worlds import free_port

    ports = {"FRAUD_DAGSTER_PORT": str(free_port()), "FRAUD_MLFLOW_PORT": str(free_port())}
    dagster, mlflow = (f"http://127.0.0.1:{port}" for port in ports.values())
    log = tmp_path_factory.mktemp("dev") / "log"
    with spare_world.running(log, "dev", **ports) as process:

        def answers(url: str) -> bool:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return answer.status == 200
            except OSError:
                return False

        for url in (f"{dagster}/server_info", f"{mlflow}/health"):
            wait(lambda url=url: answers(url), f"{url}\n{log.read_text()}", 120)  # type: ignore[misc]
        yield Platform(spare_world, dagster, mlflow, process.pid)


@pytest.fixture(scope="module")
def browser(platform: Platform) -> Iterator[WebDriver]:
    require_browser()
    with open_browser() as driver:
        # The welcome that Dagster shows to a first visitor covers the page.
        platform.ask("mutation { setNuxSeen }")
        yield driver


def test_the_daemon_s_sensor_retrains_the_month_that_drifted(platform: Platform) -> None:
    month = platform.world.months[-1]

    def ended() -> dict[str, Any] | None:
        runs = platform.ask(RUNS, filter={"tags": [{"key": "fraud/retrain_month", "value": month}]})
        found = runs["runsOrError"]["results"]
        return found[0] if found and found[0]["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

    run = wait(ended, f"the retraining of {month}", 180)
    assert (run["jobName"], run["status"]) == ("retraining", "SUCCESS")
    tags = tags_of(run)
    assert (tags["dagster/sensor_name"], tags["dagster/partition"]) == ("drift_sensor", month)
    assert tags["fraud/purpose"] == f"retraining: {tags['fraud/trigger']}"


def test_no_month_but_the_one_that_drifted_is_retrained(platform: Platform) -> None:
    found = platform.ask(RUNS, filter={"tags": [{"key": "dagster/sensor_name", "value": "drift_sensor"}]})
    asked = [tags_of(run)["fraud/retrain_month"] for run in found["runsOrError"]["results"]]
    assert asked == [platform.world.months[-1]]


def test_every_daemon_is_well(platform: Platform) -> None:
    found = platform.ask("{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }")
    daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert {daemon["daemonType"]: daemon["healthy"] for daemon in daemons if daemon["required"]}
    assert not [daemon for daemon in daemons if daemon["required"] and not daemon["healthy"]]


def test_a_backfill_of_a_range_is_one_run_and_features_and_reports_follow_once_where_that_is_on(
    platform: Platform,
) -> None:
    world, months = platform.world, list(platform.world.months[:3])
    before = world.digests()
    sensor = {
        "repositoryLocationName": "fraud_assets", "repositoryName": "__repository__",
        "sensorName": "automation_sensor",
    }  # fmt: skip

    def looks() -> int:
        ticks = platform.ask(TICKS, sensor=sensor)["sensorOrError"]["sensorState"]["ticks"]
        return sum(tick["status"] in ("SUCCESS", "SKIPPED") for tick in ticks)

    def followed() -> list[dict[str, Any]]:
        tags = [{"key": "dagster/sensor_name", "value": "automation_sensor"}]
        return list(platform.ask(RUNS, filter={"tags": tags})["runsOrError"]["results"])

    started = platform.ask(START_SENSOR, sensor=sensor)["startSensor"]
    assert started["__typename"] == "Sensor", started
    try:
        wait(looks, "the first look, which leaves the past alone", 90)
        status = platform.backfill(
            ["quarantined_transactions", "delivered_labels", "raw_transactions", "fraud_labels"], months
        )
        assert (status["status"], status["numPartitions"]) == ("COMPLETED_SUCCESS", 3)
        assert [run["status"] for run in status["runs"]] == ["SUCCESS"]
        wait(
            lambda: len(runs := followed()) >= 4 and {run["status"] for run in runs} <= {"SUCCESS", "FAILURE"},
            "features and reports", 240,
        )  # fmt: skip
        then = looks()
        wait(lambda: looks() > then, "another look", 90)
    finally:
        platform.ask(STOP_SENSOR, id=started["sensorState"]["id"])
    first, last = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    made = [(run["assetSelection"], tags_of(run)[first], tags_of(run)[last], run["status"]) for run in followed()]
    reports = [([{"path": ["drift_report"]}], month, month, "SUCCESS") for month in months]
    features = ([{"path": ["transaction_features"]}], months[0], months[-1], "SUCCESS")
    assert sorted(made, key=str) == [*reports, features]
    assert world.digests() == before


def test_a_code_server_that_is_killed_is_started_again_and_sensors_go_on(platform: Platform) -> None:
    sensor = {
        "repositoryLocationName": "fraud_assets",
        "repositoryName": "__repository__",
        "sensorName": "drift_sensor",
    }

    def servers() -> list[psutil.Process]:
        found = []
        for one in psutil.Process(platform.pid).children(recursive=True):
            with suppress(psutil.Error):
                found += [one] if {"api", "grpc"} <= {*one.cmdline()} else []
        return found

    [server] = servers()
    server.kill()
    wait(lambda: [one for one in servers() if one.pid != server.pid], "another code server", 60)
    again = time.time()

    def looked() -> bool:
        # Where the code is not loaded yet, there is no such sensor.
        found = platform.ask(TICKS, sensor=sensor)["sensorOrError"].get("sensorState", {"ticks": []})
        return any(tick["timestamp"] > again and tick["status"] in ("SUCCESS", "SKIPPED") for tick in found["ticks"])

    wait(looked, "a look of the sensor", 90)


def test_a_run_whose_process_was_killed_is_ended_by_the_daemon(platform: Platform) -> None:
    month = platform.world.months[0]

    def begun() -> str | None:
        found = platform.world.query(
            "SELECT run_id FROM dagster.runs JOIN dagster.run_tags USING (run_id) "
            "WHERE status = 'STARTED' AND key = 'fraud/process'"
        )
        return found[0][0] if found else None

    command = [sys.executable, "-m", "fraud_assets.cli", "run", "--from", month, "--to", month]
    with subprocess.Popen(command, cwd=PROJECT_ROOT, env=platform.world.environment) as process:
        run = wait(begun, "the run")
        process.kill()
    status = "SELECT status FROM dagster.runs WHERE run_id = '{}'"
    wait(lambda: platform.world.query(status.format(run)) == [("FAILURE",)], "its end", 240)


def status_of(request: urllib.request.Request) -> int:
    """The status of an answer, whatever it is."""
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_foreign_page_commands_neither_dagster_nor_mlflow(platform: Platform) -> None:
    launch = json.dumps({"query": BACKFILL, "variables": {"params": {"assetSelection": [{"path": ["champion"]}]}}})
    rename = json.dumps({"name": "fraud", "new_name": "gone"})
    for url, body in (
        (f"{platform.dagster}/graphql", launch), (f"{platform.mlflow}/api/2.0/mlflow/registered-models/rename", rename)
    ):  # fmt: skip
        for header in ({"Origin": "https://evil.example"}, {"Host": "10.evil.example"}):
            request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **header})
            assert status_of(request) == 403
    address = f"{platform.dagster}/graphql?{urllib.parse.urlencode({'query': 'mutation { setNuxSeen }'})}"
    assert status_of(urllib.request.Request(address)) == 405


def test_nobody_writes_over_a_model_s_file_through_mlflow_s_server(platform: Platform) -> None:
    [model, *_] = sorted(platform.world.settings.artifacts.rglob("serving/model.onnx"))
    before = model.read_bytes()
    path = model.relative_to(platform.world.settings.artifacts).as_posix()
    for prefix in ("api", "ajax-api"):
        url = f"{platform.mlflow}/{prefix}/2.0/mlflow-artifacts/artifacts/{path}"
        assert status_of(urllib.request.Request(url, b"broken", method="PUT")) >= 400
    assert model.read_bytes() == before


def test_the_lineage_page_shows_every_asset(platform: Platform, browser: WebDriver) -> None:
    # A group at a time: the page draws what is in sight alone.
    for group, names in GROUPS.items():
        browser.get(f"{platform.dagster}/asset-groups?expanded=global%40global%3A{group}")
        wait_for_text(browser, *GROUPS, *names)


def test_an_asset_s_page_shows_what_it_is_and_what_it_holds(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/assets/raw_transactions?view=overview")
    wait_for_text(
        browser, "One row is one transaction as delivered", "event_timestamp", "merchant_segment",
        "non-nullable", "transactions", "fraud", "fraud_rate", "quarantined", "Postgres",
        "Amount of the transaction; 0 and up; may be missing.", "When the transaction happened, in UTC", "layer: raw",
        "pii: true",
    )  # fmt: skip


def test_the_list_of_runs_says_which_month_and_why(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/runs")
    wait_for_text(
        browser, *(f"partition: {month}" for month in platform.world.months), "fraud/purpose: fraud run",
        "fraud/purpose: retraining",
    )  # fmt: skip


def test_the_plot_is_the_first_thing_that_is_said_of_a_month(platform: Platform, browser: WebDriver) -> None:
    month = platform.world.months[0]
    browser.get(f"{platform.dagster}/assets/transaction_features?view=partitions&partition={month}")
    shown = wait_for_text(browser, "plot", "inputs", "fraud_rate")
    assert shown.index("plot") < shown.index("inputs")


def test_an_asset_s_plot_opens_as_a_picture(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/assets/drift_report?view=partitions&partition={platform.world.months[-1]}")
    wait_for_text(browser, "drift_status", "DRIFT", "plot", "preview")
    row = browser.find_element(By.XPATH, "//tr[td[normalize-space()='plot']]")
    row.find_element(By.XPATH, ".//*[contains(text(), 'Show Markdown')]").click()
    picture = wait(
        lambda: browser.find_elements(By.CSS_SELECTOR, "img[src^='data:image/png']"), "the plot of drift_report"
    )[0]
    width, height = (
        wait(lambda name=name: browser.execute_script(f"return arguments[0].natural{name}", picture), "its pixels")  # type: ignore[misc]
        for name in ("Width", "Height")
    )
    assert width > 300
    assert height > 150


def test_an_asset_s_preview_is_a_table_in_place(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/assets/raw_transactions?view=partitions&partition={platform.world.months[0]}")
    wait(
        lambda: [cell for cell in browser.find_elements(By.CSS_SELECTOR, "td th") if cell.text == "merchant_segment"],
        "the preview's header",
    )


def test_a_check_s_page_tells_the_verdict(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/assets/drift_report?view=checks")
    wait_for_text(
        browser,
        "no_drift",
        "The month does not differ from its reference beyond chance, and the champion, if any, keeps its promise.",
    )


def test_the_sensor_s_page_says_that_it_runs(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/locations/fraud_assets/sensors/drift_sensor")
    wait_for_text(browser, "drift_sensor", "retraining", "Running", "~30 sec")


def test_mlflow_s_page_shows_the_registered_versions_and_their_aliases(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.mlflow}/#/models/fraud")
    text = wait_for_text(browser, "Version 1", "Version 2", "champion", "challenger")
    assert f": {platform.world.months[-1]}" in text


def test_mlflow_s_page_shows_the_runs_with_their_metrics(platform: Platform, browser: WebDriver) -> None:
    [(experiment,)] = platform.world.query("SELECT experiment_id FROM mlflow.experiments WHERE name = 'simulator'")
    [(run,)] = platform.world.query(
        f"SELECT mlflow_run_id FROM trained_model WHERE month = '{platform.world.months[-1]}-01'"
    )
    browser.get(f"{platform.mlflow}/#/experiments/{experiment}/runs/{run}")
    wait_for_text(browser, "validation_average_precision", platform.world.months[-1])


def test_the_ui_has_met_no_error(platform: Platform, browser: WebDriver) -> None:
    browser.get(f"{platform.dagster}/overview/activity")
    time.sleep(2)
    problems = [
        entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "graphql" in entry["message"]
    ]
    assert problems == []


def test_the_home_alone_holds_what_the_platform_wrote(platform: Platform) -> None:
    """`fraud dev` runs in the project's folder and must leave nothing there."""
    from fraud_assets.settings import PROJECT_ROOT

    assert not [path for path in Path(PROJECT_ROOT).glob("*") if path.name in ("mlruns", "mlartifacts", "mlflow.db")]
