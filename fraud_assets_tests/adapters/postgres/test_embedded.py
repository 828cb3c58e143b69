"""The embedded server after crashes, with pid files of the dead, and with others on the same machine.

Real servers and real signals; each test has the home of this module, which may be killed, to itself.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from fraud_assets.adapters.postgres import database as module
from fraud_assets.adapters.postgres.database import Database, DatabaseError, open_database, stop_embedded
from fraud_assets.adapters.postgres.embedded import AUTHENTICATION, CONFIGURATION, embedded_binary, find_server
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.settings import PROJECT_ROOT, Settings

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@pytest.fixture(scope="module")
def made() -> Iterator[Settings]:
    """A home whose server may be killed."""
    home = Path(tempfile.mkdtemp(prefix="own"))
    settings = Settings(home=home)
    reopen(settings).close()
    # What is killed here is the server and not the machine: what it wrote is there without waiting for the disk.
    with (settings.postgres_folder / "postgresql.conf").open("a") as file:
        file.write("fsync = off\n")
    stop_embedded(settings.postgres_folder)
    yield settings
    stop_embedded(settings.postgres_folder)
    shutil.rmtree(home)


@pytest.fixture
def own(made: Settings) -> Iterator[Settings]:
    """The same with an empty ledger; what a test writes into its configuration is gone afterwards."""
    file = made.postgres_folder / "postgresql.conf"
    text = file.read_text()
    database = reopen(made)
    with database.session() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute("TRUNCATE ledger, retraining_decisions RESTART IDENTITY")
    database.close()
    yield made
    file.write_text(text)


def reopen(settings: Settings) -> Database:
    """As a new process opens it."""
    module._open.cache_clear()
    return open_database(settings, writing=True)


def pid_file(settings: Settings) -> Path:
    return settings.postgres_folder / "postmaster.pid"


def kill_server(settings: Settings) -> None:
    """As a power cut does; its pid file stays."""
    server = psutil.Process(int(pid_file(settings).read_text().splitlines()[0]))
    family = [server, *server.children()]
    server.kill()
    psutil.wait_procs(family, timeout=20)


def record(database: Database, version: int) -> bool:
    return LedgerStore(database).record("registered", version, "2025-01", [], actor="test")


def decide(database: Database, number: int) -> None:
    with database.session() as connection:
        connection.execute(
            "INSERT INTO retraining_decisions (month, decision, reasons, report_digest, fact) "
            "VALUES ('2025-01', 'no', '[]', 'd', %s)",
            [str(number)],
        )


def test_no_number_is_given_out_again_after_a_crash(own: Settings) -> None:
    """Also of a table that was filled in the transaction that made it, which `wal_level = minimal` does not log."""
    database = reopen(own)
    with database.session() as connection:
        connection.execute("CREATE TABLE made (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int)")
        connection.execute("INSERT INTO made (a) VALUES (1)")
    with database.session() as connection:
        connection.execute("INSERT INTO made (a) VALUES (2), (3)")
    assert record(database, 1)
    database.close()
    kill_server(own)
    # Not through `reopen`, which repairs.
    database = Database(database.url)
    open_database.__globals__["start_server"](own.postgres_folder)
    with database.session() as connection:
        assert connection.execute("INSERT INTO made (a) VALUES (4) RETURNING id").fetchone() > (3,)
    assert record(database, 2)
    database.close()


def test_a_home_whose_numbers_went_back_is_repaired_when_it_is_opened_for_writing(own: Settings) -> None:
    database = reopen(own)
    for number in range(3):
        decide(database, number)
    with database.session() as connection:
        connection.execute('CREATE TABLE dagster."Odd""name" ("It\'s" serial PRIMARY KEY, a int)')
        connection.execute('INSERT INTO dagster."Odd""name" (a) VALUES (1), (2)')
        connection.execute("ALTER SEQUENCE retraining_decisions_number_seq RESTART")
        connection.execute('ALTER TABLE dagster."Odd""name" ALTER a SET NOT NULL')
        names = "SELECT pg_get_serial_sequence('dagster.\"Odd\"\"name\"', 'It''s')"
        (sequence,) = connection.execute(names).fetchone() or ("",)
        connection.execute(f"ALTER SEQUENCE {sequence} RESTART")
    with pytest.raises(psycopg.errors.UniqueViolation):
        decide(database, 3)
    database.close()
    database = reopen(own)
    decide(database, 3)
    with database.session() as connection:
        connection.execute('INSERT INTO dagster."Odd""name" (a) VALUES (3)')
    database.close()


def test_a_home_of_an_earlier_version_gets_today_s_settings_at_its_next_start(own: Settings) -> None:
    reopen(own).close()
    stop_embedded(own.postgres_folder)
    file = own.postgres_folder / "postgresql.conf"
    file.write_text(file.read_text().replace("wal_level = replica", "wal_level = minimal") + "work_mem = '5MB'\n")
    (own.postgres_folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    database = reopen(own)
    with database.session() as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("wal_level", "work_mem")]
        rules = connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
    database.close()
    assert shown == [("replica",), ("5MB",)]
    assert rules == [("local", "peer")]
    assert file.read_text().count(CONFIGURATION) == 1
    assert (own.postgres_folder / "pg_hba.conf").read_text() == AUTHENTICATION


def test_a_running_server_that_trusts_everyone_stops_doing_so_when_it_is_opened(own: Settings) -> None:
    reopen(own).close()
    (own.postgres_folder / "pg_hba.conf").write_text("local all all trust\n")
    subprocess.run(["kill", "-HUP", pid_file(own).read_text().splitlines()[0]], check=True)
    database = reopen(own)
    deadline = time.monotonic() + 5
    with database.session() as connection:
        rules = "SELECT auth_method FROM pg_hba_file_rules"
        assert connection.execute(rules).fetchall() == [("peer",)]
        while connection.execute("SELECT now() - pg_conf_load_time() > '3 s'").fetchone() == (True,):
            assert time.monotonic() < deadline
    database.close()


# Whose pid it is


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process of the server's user that is no server."""
    user = "pgserver" if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=user) as process:
        yield process
        process.kill()


def test_a_pid_file_whose_number_another_process_has_now_keeps_nobody_out(
    own: Settings, innocent: subprocess.Popen[bytes]
) -> None:
    database = reopen(own)
    record(database, 1)
    database.close()
    kill_server(own)
    _, *rest = pid_file(own).read_text().splitlines(keepends=True)
    pid_file(own).write_text("".join([f"{innocent.pid}\n", *rest]))
    database = reopen(own)
    assert len(LedgerStore(database).events()) == 1
    database.close()
    assert stop_embedded(own.postgres_folder) is True
    assert innocent.poll() is None


def test_stopping_kills_no_process_that_merely_has_the_number(own: Settings, innocent: subprocess.Popen[bytes]) -> None:
    reopen(own).close()
    kill_server(own)
    _, *rest = pid_file(own).read_text().splitlines(keepends=True)
    pid_file(own).write_text("".join([f"{innocent.pid}\n", *rest]))
    assert stop_embedded(own.postgres_folder) is False
    assert innocent.poll() is None


def test_processes_of_a_killed_server_that_live_on_keep_a_second_one_from_starting(own: Settings) -> None:
    """Two servers that write the same files would destroy them."""
    database = reopen(own)
    with psycopg.connect(database.url) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        backend.suspend()
        server = psutil.Process(int(pid_file(own).read_text().splitlines()[0]))
        server.kill()
        server.wait(20)
        with pytest.raises(DatabaseError, match=r"does not start.*shared memory block"):
            reopen(own)
        backend.kill()
        backend.wait(20)
    database.close()
    reopen(own).close()


def slow_down_recovery(settings: Settings, seconds: float) -> None:
    """Lets it ask, for each of the log's files, an archive that takes its time and has none."""
    with (settings.postgres_folder / "postgresql.conf").open("a") as file:
        file.write(f"restore_command = 'sleep {seconds}; false'\nhot_standby = off\n")
    signal_file = settings.postgres_folder / "recovery.signal"
    signal_file.touch()
    owner = settings.postgres_folder.stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)


def test_recovery_may_take_longer_than_ten_seconds(own: Settings) -> None:
    reopen(own).close()
    kill_server(own)
    slow_down_recovery(own, 2.5)
    started = time.monotonic()
    database = reopen(own)
    assert time.monotonic() - started > 10
    assert record(database, 1)
    database.close()


def test_a_command_that_is_killed_while_it_starts_the_server_leaves_one_that_the_next_command_waits_for(
    own: Settings,
) -> None:
    reopen(own).close()
    kill_server(own)
    slow_down_recovery(own, 1)
    environment = os.environ | {"FRAUD_HOME": str(own.postgres_folder.parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "fraud_assets.cli", "db"], cwd=PROJECT_ROOT, env=environment, start_new_session=True
    ) as command:
        deadline = time.monotonic() + 60
        while (found := find_server(own.postgres_folder)) is None:
            assert time.monotonic() < deadline
        assert not found.ready
        os.killpg(command.pid, signal.SIGKILL)
    database = reopen(own)
    assert record(database, 1)
    database.close()


# Other users of the machine


@pytest.fixture
def far_home(tmp_path: Path) -> Iterator[Path]:
    """A home whose path is too long for a socket, and what its server puts elsewhere."""
    folder = tmp_path / ("far" * 35)
    folder.mkdir()
    yield folder
    stop_embedded(folder / "postgres")
    for socket in places(folder):
        shutil.rmtree(socket)


def places(home: Path) -> list[Path]:
    """The folders that a home whose path is too long for a socket uses instead."""
    from fraud_assets.adapters.postgres.embedded import socket_folder_elsewhere

    return [place for place in [socket_folder_elsewhere(home / "postgres")] if place.exists()]


def psql_as(user: str | None, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [embedded_binary("psql"), url, "--command", "SELECT 1"], user=user, capture_output=True, text=True, cwd="/"
    )


def test_where_the_home_s_path_is_too_long_the_socket_lies_where_only_its_owner_may_enter(far_home: Path) -> None:
    database = reopen(Settings(home=far_home))
    found = database.query("SELECT current_setting('unix_socket_directories') AS a")["a"][0].as_py()
    place = Path(found).stat()
    database.close()
    assert not found.startswith(str(far_home))
    assert stat.S_IMODE(place.st_mode) == stat.S_IRWXU
    assert place.st_uid == (far_home / "postgres").stat().st_uid


@AS_ROOT
def test_another_user_of_the_machine_cannot_connect_even_where_the_socket_s_folder_is_open(far_home: Path) -> None:
    database = reopen(Settings(home=far_home))
    database.close()
    [place] = places(far_home)
    assert psql_as(None, database.url).returncode == 0
    for mode, said in ((0o700, "Permission denied"), (0o755, "Peer authentication failed")):
        place.chmod(mode)
        done = psql_as("nobody", database.url)
        assert done.returncode != 0
        assert said in done.stderr


@pytest.mark.parametrize("planted", ["open", "link", pytest.param("another's", marks=AS_ROOT)])
def test_a_socket_folder_that_someone_else_prepared_is_refused(far_home: Path, tmp_path: Path, planted: str) -> None:
    from fraud_assets.adapters.postgres.embedded import socket_folder_elsewhere

    settings = Settings(home=far_home)
    reopen(settings).close()
    stop_embedded(settings.postgres_folder)
    place = socket_folder_elsewhere(settings.postgres_folder)
    shutil.rmtree(place)
    if planted == "link":
        (tmp_path / "target").mkdir(mode=0o700)
        place.symlink_to(tmp_path / "target")
    else:
        place.mkdir(mode=0o700)
        if planted == "open":
            owner = settings.postgres_folder.stat()
            os.chown(place, owner.st_uid, owner.st_gid)
            place.chmod(0o777)
        else:
            os.chown(place, pwd.getpwnam("nobody").pw_uid, -1)
    try:
        with pytest.raises(DatabaseError, match=r"only its owner may enter; remove that folder"):
            reopen(settings)
    finally:
        place.unlink() if place.is_symlink() else shutil.rmtree(place)
