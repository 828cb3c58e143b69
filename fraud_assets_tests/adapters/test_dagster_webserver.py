"""Who may ask Dagster's webserver: a real one, started by Dagster's own command, and asked as browsers ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets_tests.browser import wait

JSON = {"Content-Type": "application/json"}
MUTATION = "mutation { setNuxSeen }"
ASKED = json.dumps({"query": "{ version }"})
CHANGED = json.dumps({"query": MUTATION})
UPGRADE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "graphql-ws",
}  # fmt: skip


@pytest.fixture(scope="module")
def port(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of `dagster-webserver`, of which nobody said that it is guarded."""
    from fraud_assets_tests.worlds import free_port

    settings = Settings(home=home)
    with open_instance(settings):
        pass
    port = free_port()
    log = tmp_path_factory.mktemp("webserver") / "log"
    environment = os.environ | {
        "DAGSTER_HOME": str(settings.dagster_home), "FRAUD_HOME": str(home), "FRAUD_UI_URL": "https://fraud.example:8443",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "dagster_webserver",
        "--empty-workspace",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return ask(port, "GET", "/server_info") == 200
            except OSError:
                return False

        wait(answers, "the webserver", 60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def ask(port: int, method: str, path: str, body: str | None = None, **headers: str) -> int:
    """The status of an answer; `_` in a header's name is a hyphen."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, {"Host": f"127.0.0.1:{port}", **given})
    status = connection.getresponse().status
    connection.close()
    return status


def own(port: int) -> list[str]:
    return [f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "fraud.example:8443"]


FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:3000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.9",
    "",
]


def test_its_own_pages_and_programs_are_answered(port: int) -> None:
    for host in own(port):
        assert ask(port, "POST", "/graphql", ASKED, **JSON, Host=host) == 200
        assert ask(port, "POST", "/graphql", CHANGED, **JSON, Host=host, Origin=f"http://{host}") == 200
        assert ask(port, "GET", "/", Host=host, Accept="text/html") == 200
        assert ask(port, "GET", "/graphql", Host=host, **UPGRADE, Origin=f"http://{host}") == 101


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_a_foreign_host_is_refused(port: int, host: str) -> None:
    assert ask(port, "GET", "/server_info", Host=host) == 403
    assert ask(port, "POST", "/graphql", ASKED, **JSON, Host=host) == 403
    assert ask(port, "POST", "/graphql", ASKED, **JSON, Host=host, Origin=f"http://{host}") == 403
    assert ask(port, "GET", "/graphql", Host=host, **UPGRADE) == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1", "file://"]
)
def test_a_foreign_page_is_refused(port: int, origin: str) -> None:
    assert ask(port, "POST", "/graphql", CHANGED, **JSON, Origin=origin) == 403
    assert ask(port, "GET", f"/graphql?query={quote(MUTATION)}", Origin=origin) == 403
    assert ask(port, "GET", "/server_info", Origin=origin) == 403
    assert ask(port, "GET", "/graphql", **UPGRADE, Origin=origin) == 403
    assert ask(port, "POST", "/report_asset_materialization/a?partition=2025-01", "", Origin=origin) == 403


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", [MUTATION, "{ version }", ""])
def test_nothing_that_stands_in_an_address_is_carried_out(port: int, method: str, query: str) -> None:
    """A picture on a foreign page asks without an Origin."""
    assert ask(port, method, f"/graphql?query={quote(query)}") == 405


def test_the_page_for_queries_is_shown_and_carries_nothing_out(port: int) -> None:
    assert ask(port, "GET", f"/graphql?query={quote(MUTATION)}", Accept="text/html,*/*") == 200


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "application/graphql", None],
)
def test_what_a_browser_posts_for_any_page_without_asking_is_refused(port: int, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert ask(port, "POST", "/graphql", CHANGED, **headers) == 415
    assert ask(port, "POST", f"/graphql?query={quote(MUTATION)}", "", **headers) == 415
    assert ask(port, "POST", "/report_asset_materialization/a", "{}", **headers) == 415


def test_no_page_is_told_that_it_may_ask(port: int) -> None:
    """The question before a request with JSON; without a yes, a browser sends none."""
    assert ask(port, "OPTIONS", "/graphql", Origin="https://evil.example", Access_Control_Request_Method="POST") == 403
