"""Daemons that are killed: processes of their own that tick one sensor once and may die by SIGKILL in its midst.

Run as a program, it loads the code location once, and forks a daemon for each line that it reads: starting each from
nothing would take seconds. A pytest plugin it is not; a test module makes a `DaemonHouse`.
"""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import signal
import subprocess
import sys
import traceback
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from unittest.mock import patch

import psutil

from fraud_assets.settings import PROJECT_ROOT

DAGSTER_PLACES = ("TICK_CREATED", "TICK_HELD", "RUN_IDS_RESERVED", "RUN_CREATED", "RUN_LAUNCHED")
# Places in between that Dagster's own flags do not know: the function at which, or after which, the process dies.
BEFORE = {
    "EVALUATED": "dagster._daemon.sensor._handle_run_requests_and_automation_condition_evaluations",
    "CURSOR": "dagster._daemon.sensor.SensorLaunchContext.update_state",
    "FOUND": "fraud_assets.workflows.alerts.AlertStore.record",
    "SENT": "fraud_assets.workflows.alerts.AlertStore.record_attempt",
}
AFTER = {
    "RECORDED": "fraud_assets.workflows.retraining.RetrainingStore.record",
    "KEPT": "fraud_assets.workflows.alerts.AlertStore.record",
    "TOLD": "fraud_assets.workflows.alerts.AlertStore.record_attempt",
}


class DaemonHouse:
    """Starts daemons, one after the other, each a minute later by its clock than the one before."""

    def __init__(self, **environment: str) -> None:
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "DAGSTER_"))}
        self.now = datetime.now(UTC)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fraud_assets_tests.daemons"], cwd=PROJECT_ROOT, env=outside | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def tick(self, sensor: str, killed_at: str | None = None, *, server: int | None = None, **environment: str) -> None:
        """One daemon's tick of one sensor; fails the test unless it dies exactly when it is meant to.

        Args:
            sensor: its name.
            killed_at: the place at which the daemon dies.
            server: process id of the PostgreSQL server that dies there instead; the daemon is to fail of it.
            environment: further variables.
        """
        self.now += timedelta(minutes=1)
        asked = {
            "sensor": sensor, "killed_at": killed_at, "server": server, "now": self.now.timestamp(),
            "environment": environment,
        }  # fmt: skip
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        ended = int(self.process.stdout.readline() or "99")
        expected = 0 if killed_at is None else -signal.SIGKILL if server is None else 1
        assert ended == expected, f"{asked} ended with {ended}"


def _kill(server: int | None) -> None:
    """Ends this process, or a server as a crash does, and waits until that is gone."""
    if server is None:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    process = psutil.Process(server)
    process.send_signal(signal.SIGQUIT)
    process.wait(timeout=30)


def _tick(sensor: str, killed_at: str | None, server: int | None, now: float, environment: dict[str, str]) -> None:
    """What a daemon does with a sensor, until it is killed."""
    os.environ.update(environment)
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
    from dagster._daemon.sensor import execute_sensor_iteration

    import fraud_assets.defs.automation
    from fraud_assets import definitions
    from fraud_assets.adapters.dagster_storage import open_instance
    from fraud_assets.settings import Settings

    # Imported before this process was forked, without what it was given since.
    definitions.defs = definitions.build_definitions(Settings())
    target = LoadableTargetOrigin(
        executable_path=None, python_file=None, module_name="fraud_assets.definitions",
        working_directory=str(PROJECT_ROOT), attribute=None, package_name=None,
    )  # fmt: skip
    origin = InProcessCodeLocationOrigin(loadable_target_origin=target, location_name="fraud_assets")
    at = datetime.fromtimestamp(now, UTC)
    flags: Any = {sensor: {killed_at: signal.SIGKILL}} if killed_at in DAGSTER_PLACES else None
    with ExitStack() as stack:
        instance = stack.enter_context(open_instance(Settings()))
        workspace = stack.enter_context(
            create_test_daemon_workspace_context(InProcessWorkspaceLoadTarget(origin), instance)
        )
        [entry] = workspace.create_request_context().get_code_location_entries().values()
        assert entry.code_location, entry.load_error
        [repository] = entry.code_location.get_repositories().values()
        for other in repository.get_sensors():
            if other.name != sensor:
                instance.stop_sensor(other.get_remote_origin_id(), other.selector_id, other)
        stack.enter_context(freeze_time(at))
        stack.enter_context(patch.object(fraud_assets.defs.automation, "_now", lambda: at))
        if server:
            # Dagster tries again for twelve seconds each time; it gives up as well after a tenth of one.
            stack.enter_context(patch("dagster_postgres.utils.calculate_delay", lambda **_: 0.02))
        if place := (BEFORE | AFTER).get(killed_at or ""):
            where, _, name = place.rpartition(".")
            owner = pkgutil.resolve_name(where)
            whole = getattr(owner, name)

            def dies(*arguments: Any, **named: Any) -> Any:
                if killed_at in BEFORE:
                    _kill(server)
                done = whole(*arguments, **named)
                if killed_at in AFTER:
                    _kill(server)
                return done

            stack.enter_context(patch.object(owner, name, dies))
        list(execute_sensor_iteration(workspace, logging.getLogger("daemon"), None, None, debug_crash_flags=flags))
        errors = [
            tick.error
            for state in instance.all_instigator_state()
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            if tick.error
        ]
        assert not errors, errors


def _serve() -> None:
    from fraud_assets.definitions import defs

    defs.get_repository_def()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            # Only the parent speaks on standard output.
            os.dup2(sys.stderr.fileno(), 1)
            try:
                _tick(**json.loads(line))
            except BaseException:  # noqa: BLE001 - a fork that went on would be a second parent
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    _serve()
