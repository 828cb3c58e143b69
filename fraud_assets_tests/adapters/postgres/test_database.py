"""The embedded server and the databases in it; every statement runs on a real Postgres."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from fraud_assets.adapters.postgres import database as module
from fraud_assets.adapters.postgres.database import Database, DatabaseError, open_database, stop_embedded
from fraud_assets.adapters.postgres.embedded import embedded_binary
from fraud_assets.settings import Settings


def contract_file(folder, name):
    file = folder / f"{name}.yaml"
    file.write_text(
        f"name: {name}\nfirst_month: 2024-01\nevent_timestamp: {{column: at}}\n"
        "label: {column: fraud, delay_days: 7}\nmaturity_days: 7\n",
        encoding="utf-8",
    )
    return file


def schemas(database):
    found = database.query("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT LIKE 'pg_%'")
    return set(found["schema_name"].to_pylist()) - {"information_schema"}


def test_an_opened_database_has_the_schemas_and_belongs_to_its_contract(database):
    assert schemas(database) == {"public", "months", "dagster", "mlflow"}
    assert make_url(database.url).database == "tests"
    assert database.query("SELECT contract FROM platform").to_pylist() == [{"contract": "tests"}]


def test_opening_again_starts_no_other_server_and_changes_nothing(home, tmp_path):
    settings = Settings(home=home, contract=contract_file(tmp_path, "twice"))
    first = open_database(settings, writing=True)
    with first.session() as connection:
        connection.execute("CREATE TABLE kept (a int)")
    module._open.cache_clear()
    began = first.query("SELECT pg_postmaster_start_time() AS began")
    again = open_database(settings)
    assert again.query("SELECT pg_postmaster_start_time() AS began") == began
    assert again.url == first.url
    assert again.query("SELECT count(*) AS n FROM kept").to_pylist() == [{"n": 0}]
    first.close()
    again.close()


def test_each_contract_of_a_home_has_a_database_of_its_own(server):
    one, other = server("own_one"), server("own_other")
    with one.session() as connection:
        connection.execute("CREATE TABLE mine (a int)")
    assert other.query("SELECT to_regclass('public.mine') IS NULL AS absent").to_pylist() == [{"absent": True}]


def test_the_database_of_another_contract_is_refused(database, tmp_path):
    settings = Settings(database_url=database.url, contract=contract_file(tmp_path, "intruder"))
    with pytest.raises(DatabaseError, match=r"holds the months of contract 'tests', not of 'intruder'"):
        open_database(settings)


@pytest.mark.parametrize("place", ["postgresql://nobody@127.0.0.1:1/none", "postgresql:///none?host=/nowhere"])
def test_a_server_that_is_not_there_is_reported_with_the_setting(place, tmp_path):
    with pytest.raises(DatabaseError, match=r"(?s)cannot be reached.*FRAUD_DATABASE_URL"):
        open_database(Settings(database_url=place, contract=contract_file(tmp_path, "away")))


def test_many_who_open_a_new_database_at_once_all_get_it(home, tmp_path):
    settings = Settings(home=home, contract=contract_file(tmp_path, "crowd"))
    opened, errors = [], []

    def open_one():
        try:
            opened.append(module._open.__wrapped__(None, settings.postgres_folder, "crowd", True, home / "erasure.key"))
        except (DatabaseError, psycopg.Error) as error:
            errors.append(error)

    threads = [threading.Thread(target=open_one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({database.url for database in opened}) == 1


def break_session(database):
    with database.session() as connection:
        connection.execute("CREATE TABLE half AS SELECT 1 AS a")
        connection.execute("SELECT 1 / (a - 1) FROM half")


def break_bulk(database):
    with database.bulk() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE half AS SELECT 1 AS a")
        cursor.execute("SELECT 1 / (a - 1) FROM half")
        cursor.fetchall()


@pytest.mark.parametrize("break_off", [break_session, break_bulk])
def test_what_fails_half_way_leaves_nothing_behind_and_the_next_use_works(database, break_off):
    for _ in range(2):
        with pytest.raises(Exception, match="division by zero"):
            break_off(database)
    assert database.query("SELECT to_regclass('public.half') IS NULL AS absent").to_pylist() == [{"absent": True}]


def test_a_query_that_is_wrong_is_an_error_each_time_and_not_only_the_first(database):
    for _ in range(2):
        with pytest.raises(Exception, match="no_such_table"):
            database.query("SELECT * FROM no_such_table")
    assert database.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]


def test_a_kept_connection_holds_no_transaction_open(database):
    """One that did would hold back the server's cleaning, and a later now() would be the time of the last use."""
    database.query("SELECT 1 AS a")
    with database.session() as connection:
        states = connection.execute(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
    assert set(states) == {("idle",)}
    age = database.query("SELECT clock_timestamp() - now() < interval '50 ms' AS fresh")
    assert age.to_pylist() == [{"fresh": True}]


def test_a_kept_connection_that_the_server_closed_is_replaced(database):
    database.query("SELECT 1 AS a")
    with database.session() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert database.query("SELECT 2 AS a").to_pylist() == [{"a": 2}]


def test_values_are_bound_and_not_pasted(database):
    text = "'; DROP TABLE platform; --"
    assert database.query("SELECT $1 AS a", [text]).to_pylist() == [{"a": text}]


def test_the_url_of_a_schema_creates_tables_there(database):
    with psycopg.connect(database.schema_url("mlflow")) as connection:
        connection.execute("CREATE TABLE runs (a int)")
    found = database.query("SELECT to_regclass('mlflow.runs') IS NOT NULL AS there")
    assert found.to_pylist() == [{"there": True}]


def test_the_url_of_a_schema_keeps_the_other_parameters():
    base = "postgresql://me:p%2Bw@db:5433/fraud?sslmode=require&connect_timeout=3"
    url = make_url(Database(base).schema_url("dagster"))
    assert (url.username, url.password, url.host, url.port, url.database) == ("me", "p+w", "db", 5433, "fraud")
    assert dict(url.query) == {"sslmode": "require", "connect_timeout": "3", "options": "-csearch_path=dagster"}


def test_the_url_of_a_schema_keeps_the_options_that_were_given(database):
    joined = "&" if "?" in database.url else "?"
    url = Database(f"{database.url}{joined}options=-cstatement_timeout%3D4321%20-cwork_mem%3D5MB").schema_url("dagster")
    with psycopg.connect(url) as connection:
        shown = [
            connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("statement_timeout", "work_mem", "search_path")
        ]
    assert shown == ["4321ms", "5MB", "dagster"]


def test_the_embedded_server_listens_on_no_network_and_its_socket_lies_where_only_its_user_may_enter(database, home):
    assert database.query("SELECT current_setting('listen_addresses') AS a").to_pylist() == [{"a": ""}]
    socket = Path(database.query("SELECT current_setting('unix_socket_directories') AS a")["a"][0].as_py())
    assert socket == home / "postgres"
    assert stat.S_IMODE(socket.stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize("name", ["psql", "pg_dump", "pg_restore"])
def test_the_clients_of_the_servers_version_are_there(name, database):
    version = subprocess.run([embedded_binary(name), "--version"], capture_output=True, text=True, check=True).stdout
    server = database.query("SELECT current_setting('server_version') AS v")["v"][0].as_py()
    assert version.split()[-1].split(".")[0] == server.split(".")[0]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Settings of a home whose server may be stopped and killed."""
    home = Path(tempfile.mkdtemp(prefix="own"))
    yield Settings(home=home, contract=contract_file(tmp_path_factory.mktemp("own"), "own"))
    stop_embedded(home / "postgres")
    shutil.rmtree(home)


def keep(settings, table):
    """Opens the database, and commits a table with the answer in it."""
    database = open_database(settings, writing=True)
    with database.session() as connection:
        connection.execute(f"CREATE TABLE {table} AS SELECT 42 AS a")
    return database


def test_a_server_that_is_stopped_and_started_again_keeps_its_data(own):
    first = keep(own, "stopped")
    first.query("SELECT 1 AS a")
    assert stop_embedded(own.postgres_folder) is True
    assert stop_embedded(own.postgres_folder) is False
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(first.url)
    again = open_database(own)
    assert again.query("SELECT a FROM stopped").to_pylist() == [{"a": 42}]
    # Who kept a connection from before the stop can go on.
    assert first.query("SELECT a FROM stopped").to_pylist() == [{"a": 42}]
    configuration = (own.postgres_folder / "postgresql.conf").read_text(encoding="utf-8")
    assert configuration.count("# fraud-assets") == 1
    first.close()
    again.close()


def test_a_server_that_was_killed_recovers_what_was_committed(own):
    """As after a power cut: the server ends at once, and its pid file stays."""
    keep(own, "killed").close()
    pid_file = own.postgres_folder / "postmaster.pid"
    server = int(pid_file.read_text().splitlines()[0])
    os.kill(server, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while psutil.pid_exists(server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pid_file.exists()
    module._open.cache_clear()
    again = open_database(own)
    assert again.query("SELECT a FROM killed").to_pylist() == [{"a": 42}]
    again.close()


def test_a_home_without_a_server_has_none_to_stop(tmp_path):
    assert stop_embedded(tmp_path / "postgres") is False
