"""The long-running commands: Dagster and MLflow side by side for development, and the service."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fraud_assets.adapters.bento import serve_command
from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.key_file import read_keys
from fraud_assets.adapters.live_bento import read_live
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.signing import SIGNATURE_FILE
from fraud_assets.core.access.addresses import is_loopback
from fraud_assets.core.access.api_keys import KEYS_VARIABLE
from fraud_assets.core.decisions.why import why_no_model
from fraud_assets.core.models.live import LIVE_FILE, LIVE_VARIABLE
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.guards.serving import guards_environment
from fraud_assets.workflows.models.promote import package_version
from fraud_assets.workflows.models.served import check_served, recorded_digests
from fraud_assets.workflows.scores import scores_environment
from fraud_assets.workflows.servers.code_server import CodeServerError, CodeServerWatch
from fraud_assets.workflows.status import read_status
from fraud_assets.workflows.why import newest_remarks

Tell = Callable[[str], None]

STOP_SECONDS = 5  # for which a run that is under way is let go on; broken off, its month is as before
END_SECONDS = 10  # for which a run that is interrupted is let record that


def run_together(settings: Settings, tell: Tell) -> int:
    """Runs `dg dev` and, unless a server is set, the MLflow UI, until one ends or Ctrl-C.

    Args:
        settings: of the home.
        tell: is told the addresses.

    Returns:
        The exit code of the one that ended.
    """
    # Before the processes that use it.
    open_database(settings, writing=True)
    with open_instance(settings):
        pass
    environment = _environment(settings)
    commands = [
        [_script("dg"), "dev", "--use-active-venv", "--host", "127.0.0.1", "--port", str(settings.dagster_port)]
    ]
    if settings.mlflow_uri is None:
        registry = Registry(settings)
        registry.client()
        # Not as an argument: everyone on the machine sees those, and it may hold a password.
        environment["MLFLOW_BACKEND_STORE_URI"] = registry.tracking_uri
        commands.append(_mlflow_server(settings))
    tell(f"Dagster: http://127.0.0.1:{settings.dagster_port}")
    tell(f"MLflow:  {settings.mlflow_uri or f'http://127.0.0.1:{settings.mlflow_port}'}")
    processes: list[subprocess.Popen[bytes]] = []
    signals: list[object] = []

    def stop(*heard: object) -> None:
        signals.extend(heard)
        # Each takes its own children down; told at the same time as they, dg waits for them for good.
        for process in processes:
            if process.poll() is None:
                process.terminate()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # After the handlers: a signal that the caller ignores would be ignored by these for good.
    for command in commands:
        processes.append(subprocess.Popen(command, cwd=PROJECT_ROOT, env=environment, start_new_session=True))  # noqa: S603
    if signals:
        # It came while these were being started, when there was nothing to stop yet.
        stop()
        return max(0, *(_ended(process) for process in processes))
    code_server, died = CodeServerWatch(processes[0].pid, tell), 0
    while all(process.poll() is None for process in processes):
        try:
            code_server.look()
            processes[0].wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue
        except CodeServerError as error:
            tell(str(error))
            died = 1
            break
    stop()
    return max(died, *(_ended(process) for process in processes))


def _environment(settings: Settings) -> dict[str, str]:
    """The processes run in the project's folder: what the user gave relative to another one must not move."""
    environment = os.environ | {
        "DAGSTER_HOME": str(settings.dagster_home),
        "FRAUD_HOME": str(settings.workspace.parent),
        "FRAUD_CONTRACT": str(settings.contract_path),
        # Nothing here uses MLflow's background jobs; they are six more processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # When the code server stops, those who asked it are gone already: their calls need no minute to end.
        "DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD": "5",
    }
    if settings.source_folder is not None:
        environment["FRAUD_SOURCE_PATH"] = str(settings.source_folder)
    return environment


def _mlflow_server(settings: Settings) -> list[str]:
    """MLflow's server, for this machine alone: it has no login."""
    port = settings.mlflow_port
    return [
        _script("mlflow"), "server",
        "--host", "127.0.0.1",
        "--port", str(port),
        # Without it, names that begin like a private address are answered too.
        "--allowed-hosts", f"127.0.0.1:{port},localhost:{port}",
        # Runs name their files' place in the home themselves. A server that hands files on also takes them, from anyone
        # and over those of a model.
        "--no-serve-artifacts",
        "--default-artifact-root", settings.artifacts.as_uri(),
        "--workers", "1",
    ]  # fmt: skip


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a process that was told to stop, when nothing is left of what it started.

    dg ends before its code server, which lives on while a run goes on in it, or a call that nobody waits for.
    """
    for number, seconds in ((None, STOP_SECONDS), (signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        until = time.monotonic() + seconds
        try:
            if number is not None:
                os.killpg(process.pid, number)
            while time.monotonic() < until:
                process.poll()  # or it would count as one of its group for good
                os.killpg(process.pid, 0)
                time.sleep(0.1)
        except (ProcessLookupError, PermissionError):  # macOS gives the second where only zombies are left
            break
    return abs(process.wait())


def serve_champion(settings: Settings, port: int, host: str, tell: Tell) -> None:
    """Becomes `bentoml serve` of the promoted bento, with the platform's database for history.

    Args:
        settings: of the home.
        port: to listen on.
        host: the address to listen on.
        tell: is told the bento and its address.

    Raises:
        ValueError: when nothing has been promoted and packaged yet; when others can reach the address, and there is no
            API key; or when settings of the service do not go together.
        KeysError: when the file of keys cannot be read.
        ServingError: when the package is not what was promoted and signed.
    """
    keys = read_keys(settings.api_keys_file)
    if not keys and not is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines, and there is no API key, so everybody there could ask for "
            "scores; make a key with `fraud keys add NAME --role score`, or leave --host out"
        )
    tag, path = live_package(settings)
    compiled = settings.bentoml_home / "compiled"
    compiled.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = os.environ | {
        # It follows what is named for serving.
        LIVE_VARIABLE: str(settings.bentoml_home / LIVE_FILE),
        KEYS_VARIABLE: str(settings.api_keys_file),
        "FRAUD_DATABASE_URL": open_database(settings).url,
        "FRAUD_SERVE_HISTORY_MB": str(settings.serve_history_mb),
        "BENTOML_HOME": str(settings.bentoml_home),
        "BENTOML_DO_NOT_TRACK": "True",
        # What is compiled is kept apart: nothing is written beside what is signed.
        "PYTHONDONTWRITEBYTECODE": "1",
        "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR") or str(compiled),
        **scores_environment(settings),
        **guards_environment(settings),
    }
    command = serve_command(path, port, host=host)
    tell(f"{tag} at http://{host}:{port}")
    told = ", ".join(one.name for one in keys)
    tell(f"API keys: {told}" if keys else "No API keys: it answers this machine alone")
    os.execve(command[0], command, environment)  # noqa: S606 - replaced, so that signals reach it


def live_package(settings: Settings) -> tuple[str, Path]:
    """Tag and folder of the live package, which is what was promoted and signed.

    Raises:
        ValueError: when nothing has been promoted and packaged yet.
        ServingError: when the package is not what was promoted and signed.
    """
    store = open_store(settings)
    from fraud_assets.adapters.postgres.ledger import LedgerStore

    ledger = LedgerStore(store.database, settings.ledger_head_file)
    champion = read_status(store, ledger)["champion"]
    served = _served(champion, settings) if champion is not None else None
    if champion is None or served is None:
        why = f": {why_no_model(newest_remarks(store))}" if champion is None and store.months("champion") else ""
        raise ValueError(f"no model has been promoted and packaged yet; use `make demo` or `fraud run`{why}")
    tag, path = served
    if not (path / SIGNATURE_FILE).exists():
        # Of an earlier version, or not there any more: nothing of it is used, the registry's files are.
        packaged = package_version(champion["version"], Registry(settings), settings, ledger)
        tag, path = packaged.tag, packaged.path
    check_served(path, tag, champion["version"], recorded_digests(ledger.events()), settings.signing_key_file)
    return tag, path


def _served(champion: Mapping[str, Any], settings: Settings) -> tuple[str, Path] | None:
    """The bento that is named for serving, if it has the live version; else the one of the tables, if there is one."""
    live = read_live(settings.bentoml_home)
    if live is not None and live.model_version == champion["version"]:
        path = settings.bentoml_home / live.folder
        if (path / "bento.yaml").is_file():
            return live.bento, path
    if champion["bento_tag"] is None:
        return None
    name, version = champion["bento_tag"].split(":")
    return champion["bento_tag"], settings.bentoml_home / "bentos" / name / version


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)
