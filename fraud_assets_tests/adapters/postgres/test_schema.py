"""The declared tables, and how a database comes to have them; every statement runs on a real Postgres."""

import subprocess
import sys
import threading
import tomllib

import psycopg
import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from setuptools import find_packages

from fraud_assets.adapters.postgres import database as module
from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.database import (
    Database,
    DatabaseError,
    locate_database,
    open_database,
)
from fraud_assets.adapters.postgres.embedded import embedded_binary
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.alerts import AlertStore
from fraud_assets.workflows.labels import refused_rows
from fraud_assets.workflows.quarantine import list_rows
from fraud_assets.workflows.retraining import RetrainingStore
from fraud_assets.workflows.runs.refresh import read_stale
from fraud_assets_tests.adapters.postgres.test_database import contract_file

OWN = [table.name for table in schema.CONTROL_TABLES.sorted_tables]


@pytest.fixture
def empty(server):
    """A database of its own, in which there is nothing yet, and of which nothing is known."""
    database = server("schema_tests")
    module._open.cache_clear()
    wipe(database)
    yield database
    wipe(database)


def wipe(database):
    database.close()
    with database.session() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("DROP SCHEMA IF EXISTS months, dagster, mlflow CASCADE")
        connection.execute("CREATE SCHEMA public")


def structure(database):
    """The platform's own tables as pg_dump writes them."""
    tables = [f"--table=public.{name}" for name in OWN]
    dumped = subprocess.run(
        [embedded_binary("pg_dump"), "--schema-only", "--no-owner", *tables, database.url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [line for line in dumped.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def statement(database, text, *values):
    with database.session() as connection:
        connection.execute(text, values)


# What is declared


def test_the_revisions_lead_to_what_is_declared(empty):
    empty.prepare("schema_tests")
    migrated = structure(empty)
    with empty.session() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    engine = sa.create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(empty.url), poolclass=sa.pool.NullPool
    )
    schema.CONTROL_TABLES.create_all(engine)
    assert len(OWN) == 23
    assert migrated == structure(empty)


def test_the_revisions_that_the_code_knows_are_those_of_alembic():
    found = [script.revision for script in ScriptDirectory.from_config(schema.migrations()).walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS


def test_the_revisions_are_part_of_what_is_installed():
    found = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = find_packages(str(PROJECT_ROOT), **found["tool"]["setuptools"]["packages"]["find"])
    assert {f"fraud_assets.adapters.postgres.migrations.versions{part}" for part in ("", ".up_to_0009")} <= set(
        packages
    )
    assert "fraud_assets.adapters.postgres.migrations" in packages


def test_the_names_of_other_tools_version_tables_are_not_used(empty):
    statement(empty, "CREATE TABLE public.alembic_version (version_num text PRIMARY KEY)")
    statement(empty, "INSERT INTO public.alembic_version VALUES ('of another tool')")
    empty.prepare("schema_tests")
    assert empty.query("SELECT version_num FROM public.alembic_version").to_pylist() == [
        {"version_num": "of another tool"}
    ]


# Opening


def test_a_reader_changes_nothing_and_needs_no_alembic(empty, home, tmp_path):
    code = (
        "import sys; from fraud_assets.adapters.postgres.database import open_database; "
        "from fraud_assets.settings import Settings; database = open_database(Settings()); "
        "assert database.version().state == 'empty'; assert 'alembic' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        env={"FRAUD_HOME": str(home), "FRAUD_CONTRACT": str(contract_file(tmp_path, "schema_tests"))},
        check=True,
    )
    assert empty.query("SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'public'").to_pylist() == [{"n": 0}]


def test_what_is_listed_of_a_database_without_tables_is_nothing_and_creates_none(empty, simulator_contract):
    reader = Database(empty.url, writable=False)
    store = MonthStore(reader, simulator_contract)
    assert (store.current(), store.months("raw_transactions")) == ({}, {})
    assert store.versions("raw_transactions").num_rows == 0
    assert LedgerStore(reader).events() == []
    assert RetrainingStore(reader).newest(9) == []
    assert AlertStore(reader).deliveries(9) == []
    assert list_rows(reader, None, None, 9) == {"counts": [], "rows": []}
    assert refused_rows(reader).num_rows == 0
    assert read_stale(store, None, Settings()) == []
    assert empty.query("SELECT count(*) AS n FROM pg_tables WHERE schemaname = 'public'").to_pylist() == [{"n": 0}]


def test_versions_of_months_have_the_same_columns_before_there_are_any(empty, simulator_contract):
    store = MonthStore(empty, simulator_contract)
    before = store.versions("raw_transactions").schema
    empty.prepare("schema_tests")
    after = store.versions("raw_transactions").schema
    assert [(field.name, field.type) for field in before] == [(field.name, field.type) for field in after]


def test_a_database_that_is_opened_for_reading_cannot_be_written(empty, tmp_path):
    empty.prepare("schema_tests")
    reader = open_database(Settings(database_url=empty.url, contract=contract_file(tmp_path, "schema_tests")))
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        statement(reader, "INSERT INTO transaction_id_ranges VALUES ('2025-01', 'd', '1', '2')")


def test_many_first_writers_at_once_all_find_the_newest_tables(empty):
    failures = []

    def prepare():
        try:
            Database(empty.url).prepare("schema_tests")
        except Exception as error:  # noqa: BLE001 - any error fails the test below
            failures.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert empty.version() == schema.SchemaVersion(schema.REVISIONS[-1], "schema_tests")


def test_of_two_contracts_that_claim_a_database_at_once_one_gets_it(empty):
    schema.upgrade(empty.url)
    won, lost = [], []

    def claim(name):
        try:
            Database(empty.url).prepare(name)
            won.append(name)
        except DatabaseError:
            lost.append(name)

    threads = [threading.Thread(target=claim, args=[name]) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 1)
    assert empty.query("SELECT contract FROM platform").to_pylist() == [{"contract": won[0]}]


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty):
    # Not a table of the platform's: what is made of it fails half way.
    statement(empty, "CREATE VIEW public.alerts AS SELECT 1 AS a")
    before = empty.query("SELECT count(*) AS n FROM pg_class").to_pylist()
    with pytest.raises(DatabaseError, match=r"cannot be brought up to date, and nothing in it was changed: .*alerts.*"):
        empty.prepare("schema_tests")
    assert empty.query("SELECT count(*) AS n FROM pg_class").to_pylist() == before


# Databases of other versions


def set_revision(database, revision):
    statement(database, f"UPDATE public.{schema.VERSION_TABLE} SET version_num = %s", revision)


@pytest.mark.parametrize("writing", [False, True])
def test_a_database_of_a_later_version_is_refused_and_left_as_it_is(empty, tmp_path, writing):
    empty.prepare("schema_tests")
    set_revision(empty, "9999")
    settings = Settings(database_url=empty.url, contract=contract_file(tmp_path, "schema_tests"))
    with pytest.raises(DatabaseError, match=r"later version.*revision 9999.*install that version, or name another"):
        open_database(settings, writing=writing)
    assert locate_database(settings).version().revision == "9999"


def test_readers_of_an_earlier_database_are_told_to_upgrade_and_writers_do(empty, tmp_path):
    empty.prepare("schema_tests")
    set_revision(empty, "0001")
    settings = Settings(database_url=empty.url, contract=contract_file(tmp_path, "schema_tests"))
    with pytest.raises(DatabaseError, match=r"earlier version.*\(revision 0001\).*`fraud db upgrade`, which keeps all"):
        open_database(settings)
    assert locate_database(settings).version().pending == schema.REVISIONS[1:]
    assert open_database(settings, writing=True).version().state == "current"
    assert open_database(settings).version().state == "current"


def test_tables_from_before_there_were_versions_get_the_columns_that_they_lack(empty):
    statement(empty, "CREATE TABLE platform (contract text PRIMARY KEY)")
    statement(empty, "INSERT INTO platform VALUES ('schema_tests')")
    statement(
        empty,
        "CREATE TABLE month_versions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name text NOT NULL, "
        "month text NOT NULL, digest text NOT NULL, n_rows bigint NOT NULL, "
        "written_at timestamptz NOT NULL DEFAULT now(), run_id text)",
    )
    statement(empty, "INSERT INTO month_versions (table_name, month, digest, n_rows) VALUES ('champion', 'm', 'd', 1)")
    statement(
        empty,
        "CREATE TABLE ledger (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "recorded_at timestamptz NOT NULL DEFAULT now(), kind text NOT NULL, model_version bigint NOT NULL, "
        "month text NOT NULL, reasons text NOT NULL, actor text NOT NULL, fact text NOT NULL UNIQUE)",
    )
    assert empty.version().state == "behind"
    empty.prepare("schema_tests")
    assert empty.query("SELECT table_name, digest, inputs IS NULL AS bare FROM month_versions").to_pylist() == [
        {"table_name": "champion", "digest": "d", "bare": True}
    ]
    upgraded = structure(empty)
    wipe(empty)
    empty.prepare("schema_tests")
    assert upgraded == structure(empty)


def test_ids_of_added_labels_that_were_numbers_become_their_digits(empty):
    statement(empty, "CREATE TABLE platform (contract text PRIMARY KEY)")
    statement(
        empty,
        "CREATE TABLE added_labels (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        "recorded_at timestamptz NOT NULL DEFAULT now(), transaction_id bigint NOT NULL, is_fraud boolean, "
        "label_timestamp timestamptz NOT NULL, label_source text NOT NULL, file text NOT NULL, "
        "row_number bigint NOT NULL, statement text NOT NULL UNIQUE)",
    )
    statement(
        empty,
        "INSERT INTO added_labels (transaction_id, is_fraud, label_timestamp, label_source, file, row_number, "
        "statement) VALUES (9007199254740993, true, now(), 'analyst', 'f', 1, 's')",
    )
    empty.prepare("schema_tests")
    assert empty.query("SELECT transaction_id FROM added_labels").to_pylist() == [
        {"transaction_id": "9007199254740993"}
    ]
