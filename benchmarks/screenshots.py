"""Makes the pictures in docs/ from the running platform: `python -m benchmarks.screenshots`.

Builds a simulated world whose last month drifts, starts `fraud dev` and `fraud serve`, and photographs what a person
sees. What must be on a page is waited for, so a picture of an error is not made.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from benchmarks.browser import open_browser, try_a_request, wait_for_text
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.settings import PROJECT_ROOT

DOCS = PROJECT_ROOT / "docs"
FIRST, LAST = "2025-01", "2025-06"
ASSETS = [*TABLES]
DRIFT = f"amount_inflation@{LAST}:1.8"
GRAPHQL_BACKFILL = """
mutation ($assets: [AssetKeyInput!]!, $names: [String!]!) {
  launchPartitionBackfill(
    backfillParams: {assetSelection: $assets, partitionNames: $names, title: "A corrected month"}
  ) { __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } }
}
"""
GRAPHQL_BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
GRAPHQL_RUNS = 'query { runsOrError(filter: {pipelineName: "retraining"}) { ... on Runs { results { status } } } }'


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, query: str, **variables: Any) -> Any:
    """A GraphQL answer of the Dagster webserver."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["data"]


def wait_until(done: Any, what: str, seconds: float = 420) -> Any:
    """Calls `done` until it gives something true.

    Raises:
        TimeoutError: naming what did not happen.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if (value := done()) is not None:
                return value
        except OSError:
            pass
        time.sleep(1)
    raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")


def backfill(port: int, assets: list[str], months: list[str]) -> str:
    """Launches a backfill and waits until it has ended.

    Returns:
        Its id.
    """
    launched = ask(port, GRAPHQL_BACKFILL, assets=[{"path": [name]} for name in assets], names=months)[
        "launchPartitionBackfill"
    ]
    if "backfillId" not in launched:
        raise RuntimeError(f"the backfill was not launched: {launched}")
    identifier = str(launched["backfillId"])

    def ended() -> str | None:
        status = ask(port, GRAPHQL_BACKFILL_STATUS, id=identifier)["partitionBackfillOrError"]["status"]
        return str(status) if status not in ("REQUESTED", "CANCELING", "FAILING") else None

    status = wait_until(ended, f"backfill {identifier}")
    if status != "COMPLETED_SUCCESS":
        raise RuntimeError(f"backfill {identifier} ended with {status}")
    return identifier


def retraining_succeeded(port: int) -> bool | None:
    """True once a run that the sensor asked for has succeeded; None until then."""
    results = ask(port, GRAPHQL_RUNS)["runsOrError"]["results"]
    return True if any(run["status"] == "SUCCESS" for run in results) else None


def main() -> None:
    """Builds, starts, photographs, and takes everything down again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home that already holds this world")
    home = parser.parse_args().home
    scratch = None if home else Path(tempfile.mkdtemp(prefix="fraud"))
    home = home or scratch
    ports = {name: free_port() for name in ("dagster", "mlflow", "serve")}
    environment = os.environ | {
        "FRAUD_HOME": str(home),
        "FRAUD_SIMULATOR_DRIFT": DRIFT,
        **{f"FRAUD_{name.upper()}_PORT": str(port) for name, port in ports.items()},
    }
    fraud = [sys.executable, "-m", "fraud_assets.cli"]
    processes = []
    try:
        if scratch:
            subprocess.run(
                [*fraud, "run", "--from", FIRST, "--to", LAST], env=environment, cwd=PROJECT_ROOT, check=True
            )
        for command in ("dev", "serve"):
            log = (Path(tempfile.gettempdir()) / f"screenshots-{command}.log").open("w")
            processes.append(
                subprocess.Popen(
                    [*fraud, command], env=environment, cwd=PROJECT_ROOT, stdout=log, stderr=log, start_new_session=True
                )
            )
        DOCS.mkdir(exist_ok=True)
        photograph(ports)
        photograph_report(fraud, environment)
        photograph_card(fraud, environment)
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in processes:
            process.wait(timeout=60)
        subprocess.run([*fraud, "db", "stop"], env=environment, cwd=PROJECT_ROOT, check=True)
        if scratch:
            shutil.rmtree(scratch)


def photograph(ports: dict[str, int]) -> None:
    """Every picture, once what it shows has happened."""
    dagster = f"http://127.0.0.1:{ports['dagster']}"
    wait_until(lambda: ask(ports["dagster"], "query { version }"), "the webserver's start")
    wait_until(lambda: retraining_succeeded(ports["dagster"]), "the retraining that the sensor asks for")
    identifier = backfill(ports["dagster"], ASSETS, ["2025-05", LAST])
    with open_browser() as driver:

        def shoot(name: str, url: str, *texts: str, then: Callable[[], None] | None = None) -> None:
            driver.get(url)
            wait_for_text(driver, *texts, seconds=90)
            time.sleep(4)  # graphs are drawn after the text is there
            if then is not None:
                then()
                time.sleep(5)
            driver.save_screenshot(str(DOCS / f"{name}.png"))
            print(f"docs/{name}.png", flush=True)

        def expand_groups() -> None:
            ActionChains(driver).key_down(Keys.ALT).send_keys("e").key_up(Keys.ALT).perform()

        def show_plot() -> None:
            driver.find_element(By.XPATH, "//*[text()='[Show Markdown]']").click()

        asset = f"{dagster}/assets/evaluation?view=partitions&partition={LAST}"
        shoot("lineage", f"{dagster}/asset-groups", "serving", then=expand_groups)
        shoot("asset", asset, "average_precision_champion", "plot", then=show_plot)
        shoot("backfill", f"{dagster}/runs/b/{identifier}", "raw_transactions")
        shoot("sensor", f"{dagster}/locations/fraud_assets/sensors/drift_sensor", "retraining", "requested")
        shoot("mlflow", f"http://127.0.0.1:{ports['mlflow']}/#/models/fraud", "Version 6", "champion")
    photograph_service(f"http://127.0.0.1:{ports['serve']}/")


def photograph_service(address: str) -> None:
    """The page of the service, where an example was sent as it is: the request, and its score."""
    with open_browser(1100, 1250) as driver:
        if '"probability"' not in (shown := try_a_request(driver, address, "/v1/score")):
            raise RuntimeError(f"the example was not scored: {shown}")
        body = driver.find_element(By.CLASS_NAME, "responses-wrapper")
        driver.execute_script("arguments[0].scrollIntoView(true)", body)
        driver.save_screenshot(str(DOCS / "service.png"))
        print("docs/service.png", flush=True)


def photograph_report(fraud: list[str], environment: dict[str, str]) -> None:
    """The monthly report of the month that drifts, from the verdict to the plots of what moved."""
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        subprocess.run([*fraud, "report", LAST, "-o", str(page)], env=environment, cwd=PROJECT_ROOT, check=True)
        with open_browser(1100, 1900) as driver:
            driver.get(page.as_uri())
            wait_for_text(driver, "DRIFT", "What moved", "How this was made")
            driver.save_screenshot(str(DOCS / "report.png"))
            print("docs/report.png", flush=True)


def photograph_card(fraud: list[str], environment: dict[str, str]) -> None:
    """The card of the live version, from what it is for to its calibration."""
    told = subprocess.run(
        [*fraud, "status", "--json"], env=environment, cwd=PROJECT_ROOT, check=True, stdout=subprocess.PIPE
    )
    version = str(json.loads(told.stdout)["champion"]["version"])
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "card.html"
        subprocess.run([*fraud, "card", version, "-o", str(page)], env=environment, cwd=PROJECT_ROOT, check=True)
        with open_browser(1100, 1900) as driver:
            driver.get(page.as_uri())
            wait_for_text(driver, "LIVE", "Where it is weak", "How it was made")
            driver.save_screenshot(str(DOCS / "card.png"))
            print("docs/card.png", flush=True)


if __name__ == "__main__":
    main()
