"""Fixtures that several test modules share: a home with its own Postgres, and months of card transactions.

One embedded server serves the whole session; every test that asks for `database` gets an empty one in it.
Nothing of the developer's shell or `.env` reaches a test.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import psycopg
import pyarrow.parquet
import pytest
from psycopg import sql

from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.database import Database, open_database, stop_embedded
from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.simulator import SimulatorConfig, simulate_month
from fraud_assets.settings import PROJECT_ROOT, Settings

HANDBOOK = PROJECT_ROOT.parent / "shared" / "data" / "handbook"
EXTRACT_MONTHS = ("2018-04", "2018-05")
HANDBOOK_NAMES = {
    "transaction_id": "TRANSACTION_ID",
    "event_timestamp": "TX_DATETIME",
    "customer_id": "CUSTOMER_ID",
    "terminal_id": "TERMINAL_ID",
    "amount": "TX_AMOUNT",
    "is_fraud": "TX_FRAUD",
    "fraud_scenario": "TX_FRAUD_SCENARIO",
}

# Over a minute each, in this order: the first of them builds the shared world, meanwhile the next two need none.
LONG = tuple(
    f"fraud_assets_tests/{name}.py"
    for name in (
        "defs/test_assets",
        "test_why_not",
        "test_benchmarks",
        "test_dagster_ui",
        "test_process_set",
        "test_end_to_end",
        "defs/test_sensor_failures",
        "test_service",
        "test_service_transactions",
        "test_scores_circle",
        "test_backups",
        "test_tutorial",
        "test_service_api",
        "test_redelivery",
        "adapters/test_mlflow",
        "test_cli",
        "workflows/models/test_one_truth",
        "test_broken_off_runs",
        "test_upgrade",
        "workflows/runs/test_refresh",
        "adapters/test_bento",
        "test_five_entrances",
    )
)

COMPILED = "import fraud_assets.core.explanations.tree_paths, fraud_assets.core.features.pasts"

hypothesis.settings.register_profile("local", max_examples=25, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """Shuts the developer's settings out before test modules are imported: some read them at import."""
    for name in [name for name in os.environ if name.startswith("FRAUD_")]:
        del os.environ[name]
    # A terminal's size: the console of `fraud` keeps what it finds when it is imported.
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)
    Settings.model_config["env_file"] = None
    if not hasattr(config, "workerinput") and getattr(config.option, "numprocesses", None):
        # Before there are workers: in a fresh clone each of them would compile the same for eight seconds.
        subprocess.run([sys.executable, "-c", COMPILED], cwd=PROJECT_ROOT, check=True)


@pytest.fixture
def signals_are_heard() -> Iterator[None]:
    """As from a terminal: who starts the tests in the background may ignore signals, and children inherit that."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process more than there are cores: for a quarter of their time tests wait for servers and browsers."""
    return min(4, (os.cpu_count() or 1) + 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long modules first: one that begins last is alone at the end."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(LONG)))


def pytest_report_header(config: pytest.Config) -> str:
    """Says which card transactions the tests see."""
    if HANDBOOK.is_dir():
        return f"handbook data: {HANDBOOK}"
    return (
        f"handbook data: {HANDBOOK} IS ABSENT; a simulated extract in the same format stands in for "
        f"{' and '.join(EXTRACT_MONTHS)}, and what is only true of the published data is skipped"
    )


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Each test starts with no FRAUD_ variable but a home of the session's own."""
    for name in [name for name in os.environ if name.startswith("FRAUD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FRAUD_HOME", str(home))


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """The session's FRAUD_HOME; its server, if a test started it, is stopped at the end.

    Short, because the path of a Unix socket holds about 100 characters.
    """
    folder = Path(tempfile.mkdtemp(prefix="fraud"))
    assert len(str(folder)) < 60, f"{folder} leaves too little for the path of a socket; set TMPDIR to a shorter one"
    yield folder
    stop_embedded(folder / "postgres")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Database]]:
    """Opens the database of a contract's name on the session's embedded server."""
    contracts = tmp_path_factory.mktemp("contracts")
    opened: list[Database] = []

    def open_named(name: str) -> Database:
        file = contracts / f"{name}.yaml"
        text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
        file.write_text(text.replace("name: simulator", f"name: {name}"), encoding="utf-8")
        opened.append(open_database(Settings(home=home, contract=file), writing=True))
        if len(opened) == 1:
            # Nothing here outlives the session; writing many small databases through to the disk takes minutes.
            with psycopg.connect(opened[0].url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
        return opened[-1]

    yield open_named
    for database in opened:
        database.close()


@pytest.fixture
def database(server: Callable[[str], Database]) -> Database:
    """An empty database, that of a contract called `tests`: emptied, because creating one takes half a second.

    The platform's own tables stay, without rows, because migrating takes a tenth of a second. A test that changes them
    takes a database of its own (`server`).
    """
    database = server("tests")
    database.close()
    own = [table.name for table in schema.CONTROL_TABLES.sorted_tables]
    with database.session() as connection:
        connection.execute("DROP SCHEMA months, dagster, mlflow CASCADE")
        for name in ("months", "dagster", "mlflow"):
            connection.execute(f"CREATE SCHEMA {name}")
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for name in {name for (name,) in tables} - {*own, "platform", schema.VERSION_TABLE}:
            connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier("public", name)))
        # Past the trigger that keeps the ledger's rows.
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(f"TRUNCATE {', '.join(name for name in own if name != 'platform')} RESTART IDENTITY")
    return database


@pytest.fixture(scope="session")
def quick_server(server: Callable[[str], Database]) -> None:
    """The session's server, not waiting for the disk, for those who open databases in it by themselves."""
    server("tests").close()


@pytest.fixture
def empty_home(tmp_path: Path, database: object, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform on which nothing has run: the session's server, a contract of its own."""
    contract = tmp_path / "nothing.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: nothing_ran"), encoding="utf-8")
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))


@pytest.fixture(scope="session")
def simulator_contract() -> Contract:
    """contracts/simulator.yaml."""
    return load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml")


@pytest.fixture(scope="session")
def handbook_contract() -> Contract:
    """contracts/handbook.yaml."""
    return load_contract(PROJECT_ROOT / "contracts" / "handbook.yaml")


@pytest.fixture(scope="session")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `transactions_YYYY-MM.parquet`: the published data, or a simulated extract in their format.

    `pytest_report_header` says which.
    """
    if HANDBOOK.is_dir():
        return HANDBOOK
    folder = tmp_path_factory.mktemp("handbook")
    for month in EXTRACT_MONTHS:
        rows = simulate_month(month, SimulatorConfig(customers=200, terminals=400, seed=1))
        rows = rows.select(list(HANDBOOK_NAMES)).rename_columns(HANDBOOK_NAMES)
        times = rows["TX_DATETIME"].cast("timestamp[us]")
        fraud = rows["TX_FRAUD"].cast("int8").cast("int64")
        rows = rows.set_column(1, "TX_DATETIME", times).set_column(5, "TX_FRAUD", fraud)
        pyarrow.parquet.write_table(rows, folder / f"transactions_{month}.parquet")
    return folder


@pytest.fixture(scope="session")
def is_published(handbook: Path) -> bool:
    """Whether `handbook` is the published data."""
    return handbook == HANDBOOK
