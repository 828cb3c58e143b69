"""Worlds for the end-to-end tests: built once a session, through the `fraud` command in a process of its own.

A pytest plugin: a test module that needs a world says `pytest_plugins = ["fraud_assets_tests.worlds"]`. What is
checked of a world belongs to the tests.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import psycopg
import pytest
from psycopg import sql

from fraud_assets.adapters.postgres.database import stop_embedded
from fraud_assets.adapters.postgres.embedded import start_server
from fraud_assets.core.simulator import SimulatorConfig, parse_drifts
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets_tests.forks import forks

MONTHS = ("2025-01", "2025-02", "2025-03", "2025-04")
# Amounts double in the last month: far beyond what a calm month of a world this small shows.
DRIFT = f"amount_inflation@{MONTHS[-1]}:2"
# For worlds that are not about models: with few frauds boosting and forests are half of a month's time. All families
# compete in the worlds of `test_end_to_end.py` and of the tutorial, and boosted models answer in those of the service.
PLAIN = {"FRAUD_FAMILIES": "logistic_regression"}
GIVEN = {
    **PLAIN,
    "FRAUD_SIMULATOR_CUSTOMERS": "300",
    "FRAUD_SIMULATOR_TERMINALS": "600",
    "FRAUD_SIMULATOR_DRIFT": DRIFT,
}
COMMAND_SECONDS = 400
# Where services keep what they compile: the first of them compiles it for all, which takes six seconds.
COMPILED = PROJECT_ROOT / ".pytest_cache" / "compiled"


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of dagster's that come with loading the definitions."""
    # Pydantic 2.14 deprecates what dagster 1.13's resources read; goes when dagster does not.
    # Dagster 1.13 itself reads its deprecated property of each schedule; goes when it does not.
    config.addinivalue_line(
        "filterwarnings", "ignore:Property .ScheduleDefinition.environment_vars. is deprecated:DeprecationWarning"
    )
    config.addinivalue_line(
        "filterwarnings", "ignore:The .__fields__. attribute is deprecated:pydantic.warnings.PydanticDeprecatedSince20"
    )


@pytest.fixture(scope="session", autouse=True)
def _code_location() -> None:
    """The code location is that of the contract with which it is first imported: here always the simulator's.

    Some tests import it under a contract of their own; which of them came first must make no difference.
    """
    importlib.import_module("fraud_assets.definitions")


@dataclass(frozen=True)
class World:
    """A home, the settings it was built with, and its months."""

    home: Path
    settings_given: dict[str, str]
    months: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process in this world; nothing of the developer's own."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "DAGSTER_"))}
        # Tests run side by side already, and a process more takes longer to start than it saves in worlds this small.
        fixed = {"COLUMNS": "200", "FRAUD_HOME": str(self.home), "FRAUD_WORKERS": "1"}
        return outside | fixed | self.settings_given

    def fraud(self, *arguments: str, fails: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs the command in a process of its own; `more` are further variables.

        Fails the test on another outcome than the expected one.
        """
        done = forks().run(
            "fraud_assets.cli", arguments, cwd=PROJECT_ROOT, env=self.environment | more, timeout=COMMAND_SECONDS
        )
        return self._judged(done, arguments, fails=fails)

    def fresh(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """The same from nothing, as a person starts it; seconds slower (`fraud_assets_tests/forks.py`)."""
        done = subprocess.run(
            [sys.executable, "-m", "fraud_assets.cli", *arguments],
            cwd=PROJECT_ROOT, env=self.environment | more, capture_output=True, text=True, timeout=COMMAND_SECONDS,
        )  # fmt: skip
        return self._judged(done, arguments, fails=False)

    @staticmethod
    def _judged(
        done: subprocess.CompletedProcess[str], arguments: tuple[str, ...], *, fails: bool
    ) -> subprocess.CompletedProcess[str]:
        said = f"fraud {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert (done.returncode != 0) == fails, said
        assert "Traceback" not in done.stderr + done.stdout, said
        return done

    @contextmanager
    def running(self, log: Path, *arguments: str, **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs until it is interrupted, as by Ctrl-C at the end of this block.

        Args:
            log: file for what it prints.
            arguments: of `fraud`.
            more: further variables.

        Raises:
            AssertionError: when a process that it started outlives it; that one is killed.
        """
        kept = {"NUMBA_CACHE_DIR": str(COMPILED)} if arguments[0] == "serve" else {}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "fraud_assets.cli", *arguments], cwd=PROJECT_ROOT,
                env=self.environment | kept | more, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        parent = psutil.Process(process.pid)
        family: list[psutil.Process] = []
        try:
            yield process
            family = parent.children(recursive=True) if process.poll() is None else []
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)
            _, left = psutil.wait_procs(family, timeout=30)
            # The database stays, for the next command.
            names = [" ".join(one.cmdline()) for one in left if one.is_running() and "postgres" not in one.name()]
            assert not names, f"fraud {' '.join(arguments)} left behind: {names}"
        finally:
            with suppress(psutil.NoSuchProcess):
                family += parent.children(recursive=True)
            for one in [*family, parent]:
                with suppress(psutil.NoSuchProcess):
                    if "postgres" not in one.name():
                        one.kill()
            process.wait(timeout=10)

    @cached_property
    def settings(self) -> Settings:
        """The settings as an object."""
        given = {name.removeprefix("FRAUD_").lower(): value for name, value in self.settings_given.items()}
        return Settings(home=self.home, **given)  # type: ignore[arg-type]

    @cached_property
    def simulator(self) -> SimulatorConfig:
        """The simulated world behind the source."""
        return SimulatorConfig(
            customers=self.settings.simulator_customers,
            terminals=self.settings.simulator_terminals,
            seed=self.settings.simulator_seed,
            drifts=parse_drifts(self.settings.simulator_drift),
        )

    @cached_property
    def url(self) -> str:
        """The database's URL, from the command."""
        return self.fraud("db").stdout.strip()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(sql.encode()).fetchall()

    def digests(self) -> dict[str, str]:
        """One digest for each table of the platform, over all its rows and columns.

        Without which run works on a month, which each run changes.
        """
        return digests_of(self.query)


def digests_of(query: Callable[[str], list[tuple[Any, ...]]]) -> dict[str, str]:
    """The same of a database that `query` asks."""
    found = query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    names = [name for (name,) in found if name != "month_leases"]
    return {
        name: query(f"SELECT md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM \"{name}\" t")[0][0]
        for name in sorted(names)
    }


def free_port() -> int:
    """A port that nothing listens on, and that no outgoing connection is given before a server has bound it.

    Linux gives connections ports from 32,768 on, macOS from 49,152 on. A port from there can be taken
    by any client in the seconds that a server needs until it binds.
    """
    while True:
        port = 12_000 + secrets.randbelow(20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def new_home() -> Path:
    """A new folder with a short path."""
    return Path(tempfile.mkdtemp(prefix="fraud"))


def quick_home() -> Path:
    """A new folder with a server that does not wait for the disk: seconds a month, and nothing outlives the machine."""
    home = new_home()
    try:
        without_waiting(start_server(home / "postgres").url())
    except BaseException:
        remove_home(home)
        raise
    return home


def without_waiting(url: str) -> None:
    """Lets a server go on before what it wrote is on the disk; its own end it survives all the same."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")


def remove_home(home: Path) -> None:
    """Stops the server of a home and removes it."""
    stop_embedded(home / "postgres")
    shutil.rmtree(home)


@contextmanager
def shared(folder: Path, build: Callable[[Path], None]) -> Iterator[Path]:
    """A home that the processes of a test session build once, and that the last of them removes.

    Args:
        folder: one that these processes share.
        build: fills the home, and leaves nothing running in it.

    Yields:
        The home; to be copied, and left as it is.
    """
    note, users = folder / "home", folder / "users"
    folder.mkdir(exist_ok=True)
    with _turn(folder):
        if not note.exists():
            home = new_home()
            try:
                build(home)
            except BaseException:
                remove_home(home)
                raise
            note.write_text(str(home))
        home = Path(note.read_text())
        users.write_text(str(int(users.read_text() if users.exists() else 0) + 1))
    try:
        yield home
    finally:
        with _turn(folder):
            users.write_text(str(left := int(users.read_text()) - 1))
            if left == 0:
                note.unlink()
                remove_home(home)


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _move_artifacts(world: World, from_home: Path) -> None:
    """MLflow keeps whole paths: those of a copied home become the copy's own."""
    columns = world.query(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'mlflow' AND data_type IN ('text', 'character varying')"
    )
    with psycopg.connect(world.url) as connection:
        for table, column in columns:
            name = sql.Identifier(column)
            connection.execute(
                sql.SQL("UPDATE {} SET {} = replace({}, %s, %s) WHERE {} LIKE %s").format(
                    sql.Identifier("mlflow", table), name, name, name
                ),
                [str(from_home), str(world.home), f"%{from_home}%"],
            )


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """The home of one `fraud run` over the months; to be copied."""

    def build(home: Path) -> None:
        world = World(home, GIVEN, MONTHS)
        without_waiting(world.url)  # the copies, too
        world.fresh("run", "--from", MONTHS[0], "--to", MONTHS[-1])
        world.fraud("db", "stop")

    base = tmp_path_factory.getbasetemp()
    with shared((base if worker_id == "master" else base.parent) / "world", build) as home:
        yield home


@contextmanager
def copied(home: Path) -> Iterator[World]:
    """A copy of the world, removed at the end."""
    world = World(new_home(), GIVEN, MONTHS)
    try:
        # With its owners: the server of a home that root made belongs to another user.
        subprocess.run(["cp", "-a", f"{home}/.", str(world.home)], check=True)
        _move_artifacts(world, home)
        yield world
    finally:
        remove_home(world.home)


@pytest.fixture(scope="module")
def own_world(built_home: Path) -> Iterator[World]:
    """A copy of `world` for one module, whose tests run further months in it."""
    with copied(built_home) as world:
        yield world


@pytest.fixture(scope="session")
def world(built_home: Path) -> Iterator[World]:
    """Four simulated months, the last of which drifts. Tests read it and leave it as it is."""
    with copied(built_home) as world:
        yield world


@pytest.fixture(scope="session")
def spare_world(built_home: Path) -> Iterator[World]:
    """A copy of `world` for tests that change it; they leave it in working order."""
    with copied(built_home) as world:
        yield world


@pytest.fixture
def in_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """`world`, with its variables set in this process."""
    for name, value in (world.settings_given | {"FRAUD_HOME": str(world.home)}).items():
        monkeypatch.setenv(name, value)
    return world


@pytest.fixture
def in_spare_world(spare_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """`spare_world`, with its variables set in this process."""
    for name, value in (spare_world.settings_given | {"FRAUD_HOME": str(spare_world.home)}).items():
        monkeypatch.setenv(name, value)
    return spare_world


@pytest.fixture
def world_instance(in_world: World) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of `world`."""
    from fraud_assets.adapters.dagster_storage import open_instance

    with open_instance(in_world.settings) as instance:
        yield instance
