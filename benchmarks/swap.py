"""How long a running service takes to follow a promotion and a rollback, and what requests get meanwhile.

In a home with at least two registered versions (`FRAUD_HOME`, after `make demo`) `fraud serve` runs, and threads ask it
without a pause while another version is promoted and rolled back. Measured are the commands from start to end, and the
time from the moment when the model is named for serving to its first answer.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.adapters.live_bento import read_live
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.settings import Settings, read_settings

THREADS = 4


def main() -> None:
    """Measures, prints and writes the figures."""
    options = argument_parser(str(__doc__)).parse_args()
    settings = read_settings()
    live = read_live(settings.bentoml_home)
    if live is None:
        raise SystemExit("nothing is live in this home; use `make demo` first")
    other = next(version for version in Registry(settings).seen().versions if version != live.model_version)
    rows = []
    with _serving() as url:
        asking = Asking(url, _body(settings, live.model_version))
        for command, version in (
            (["promote", str(other), "--reason", "measured"], other),
            (["rollback", "--reason", "measured"], live.model_version),
        ):
            took, followed = _follow(settings, command, version, asking)
            rows.append(Row(f"{command[0]}_seconds", round(took, 2), "s"))
            rows.append(at_most(f"{command[0]}_followed_seconds", round(followed, 2), "s", 2.0))
        asking.end()
    rows += [
        Row("requests", float(asking.answered), "requests"),
        Row("longest_request_ms", round(asking.longest * 1000, 1), "ms"),
        at_most("lost_requests", float(len(asking.lost)), "requests", 0.0),
    ]
    sys.exit(report("swap", rows, options.json))


class Asking:
    """Threads that ask without a pause."""

    def __init__(self, url: str, body: bytes) -> None:
        self.answered, self.longest, self.lost = 0, 0.0, list[str]()
        self.versions: dict[int, float] = {}
        self._url, self._body, self._over, self._lock = url, body, threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._ask) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                said = ask(self._url, self._body)
            except OSError as error:
                self.lost.append(repr(error))
                continue
            with self._lock:
                self.answered += 1
                self.longest = max(self.longest, time.monotonic() - began)
                self.versions[int(said["model_version"])] = time.time()

    def end(self) -> None:
        """Asks no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def ask(url: str, body: bytes) -> dict[str, Any]:
    """One answer."""
    request = urllib.request.Request(f"{url}/score", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return dict(json.load(answer))


def _follow(settings: Settings, command: list[str], version: int, asking: Asking) -> tuple[float, float]:
    """Seconds that the command took, and from the naming of the model to its first answer."""
    asking.versions.clear()
    first = threading.Event()
    moments: list[float] = []

    def watch() -> None:
        while not first.is_set():
            if version in asking.versions:
                moments.append(time.time())
                first.set()
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "fraud_assets.cli", *command], check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    first.wait(60)
    watcher.join()
    return took, moments[0] - (settings.bentoml_home / "live.json").stat().st_mtime


def _body(settings: Settings, version: int) -> bytes:
    _, manifest = Registry(settings).fetch(version)
    return json.dumps({"features": [dict.fromkeys(manifest.features)]}).encode()


@contextmanager
def _serving() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fraud_assets.cli", "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the service did not start") from None
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
