"""Backups of a real platform: complete, private, refused when damaged, and restored whole or not at all."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from fraud_assets.adapters.backups import dump
from fraud_assets.adapters.backups.folder import BackupError, digest_of, whole_or_not_at_all
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.backups import make
from fraud_assets.workflows.backups.check import check_backup
from fraud_assets.workflows.progress import Progress

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture(scope="module")
def backup(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the world; tests that alter it alter a copy."""
    folder = tmp_path_factory.mktemp("backups")
    made = world.fraud(
        "backup", str(folder), "--json",
        FRAUD_ALERT_URLS="mailtos://me:hush-hush@mail", FRAUD_SOURCE_URL="postgresql://me:hush-hush@db/x",
    )  # fmt: skip
    return Path(json.loads(made.stdout)["backup"])


@pytest.fixture(scope="module")
def restored(world: World, backup: Path) -> Iterator[World]:
    """Another home with the backup in it, and the key of the first."""
    from fraud_assets_tests.worlds import World, new_home, remove_home

    other = World(new_home(), world.settings_given, world.months)
    shutil.copytree(world.home / "keys", other.home / "keys")
    try:
        other.fraud("restore", str(backup))
        yield other
    finally:
        remove_home(other.home)


# Contents


def test_a_backup_is_its_owner_s_alone_and_has_no_secret(backup: Path, world: World) -> None:
    paths = [backup, *backup.rglob("*")]
    assert not [path for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]
    small = [path for path in paths if path.is_file() and path.suffix in (".json", ".yaml", ".pub")]
    assert not [path for path in small if b"hush-hush" in path.read_bytes() or b"PRIVATE KEY" in path.read_bytes()]
    settings = json.loads((backup / "settings.json").read_text())
    assert settings["FRAUD_ALERT_URLS"] == make.NOT_KEPT
    assert settings["FRAUD_SOURCE_URL"] == "postgresql://db/x"
    found = check_backup(backup.parent)
    assert found["backup"] == str(backup)
    assert found["ledger_head"]["number"] == world.query("SELECT max(number) FROM ledger")[0][0]


def test_what_is_written_after_the_moment_is_not_in_the_dump(server: Callable[[str], Database], tmp_path: Path) -> None:
    source, target = server("backup_source"), server("backup_target")
    statement = "INSERT INTO scored_months VALUES (%s, 1, now())"
    with source.session() as connection:
        connection.execute("TRUNCATE scored_months")
        connection.execute(statement, ["2025-01"])
    with dump.snapshot(source) as (moment, facts):
        with source.session() as connection:
            connection.execute(statement, ["2025-02"])
        dump.write_dump(source.url, moment, tmp_path / "dump")
    assert facts.contract == "backup_source"
    source.close()
    dump.restore_dump(target.url, tmp_path / "dump", "mark", {}, end_others=False)
    assert target.rows("scored_months", "SELECT month FROM scored_months") == [("2025-01",)]
    assert dump.last_restored(target) == "mark"
    # The grants of the ledger are not in a dump.
    with pytest.raises(psycopg.errors.InsufficientPrivilege), target.session() as connection:
        connection.execute("DELETE FROM ledger")


@pytest.mark.parametrize("name", ["database.dump", "settings.json", "manifest.json", "files/bentoml/live.json"])
@pytest.mark.parametrize("fault", ["flipped", "missing"])
def test_a_damaged_backup_is_refused_before_anything_is_changed(
    backup: Path, world: World, tmp_path: Path, name: str, fault: str
) -> None:
    from fraud_assets.workflows.backups.restore import restore_backup

    copy = Path(shutil.copytree(backup, tmp_path / backup.name))
    if fault == "missing":
        (copy / name).unlink()
    else:
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(BackupError, match=re.escape(name)):
        restore_backup(settings, copy, Progress(), actor="tests", force=True)
    assert not (tmp_path / "home").exists()


def test_a_backup_of_a_later_version_is_refused(backup: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(backup, tmp_path / backup.name))
    file = copy / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"revision": "9999"}))
    (copy / "manifest.json.sha256").write_text(f"{digest_of(file)}  manifest.json\n")
    with pytest.raises(BackupError, match="later version of fraud-assets"):
        check_backup(copy)


@pytest.mark.parametrize("place", ["copy_tree", "write_dump"])
def test_on_a_full_disk_there_is_no_backup_and_older_ones_stay(
    in_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backup: Path, place: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    older = Path(shutil.copytree(backup, tmp_path / backup.name))
    monkeypatch.setattr(make, place, full)
    with pytest.raises(OSError, match="No space"):
        make.make_backup(in_world.settings, tmp_path, Progress(), keep=1)
    assert list(tmp_path.iterdir()) == [older]


def test_a_killed_backup_leaves_nothing_that_passes_for_one(tmp_path: Path) -> None:
    (tmp_path / ".world-2026-01-01T000000Z.unfinished").mkdir()
    (tmp_path / ".world-2026-01-01T000000Z.unfinished" / "manifest.json").write_text("{}")
    with pytest.raises(BackupError, match="no backup in"):
        check_backup(tmp_path)
    with whole_or_not_at_all(tmp_path / "next"):
        assert [path.name for path in tmp_path.iterdir()] == [".next.unfinished"]


def test_keep_removes_the_oldest_of_the_same_contract(in_world: World, tmp_path: Path, backup: Path) -> None:
    older = Path(shutil.copytree(backup, tmp_path / backup.name))
    (tmp_path / "something else").mkdir()
    found = make.make_backup(in_world.settings, tmp_path, Progress(), keep=1)
    assert found["removed"] == [str(older)]
    assert {path.name for path in tmp_path.iterdir()} == {"something else", Path(found["backup"]).name}


# Restoring


def test_a_restored_home_has_the_same_rows_ledger_and_live_model(world: World, restored: World) -> None:
    assert restored.digests() == world.digests()
    assert json.loads(restored.fraud("ledger", "verify", "--json").stdout)["fault"] is None
    there, here = (json.loads(one.fraud("status", "--json").stdout) for one in (world, restored))
    assert here["champion"] == there["champion"]
    assert here["disagreements"] == []
    # MLflow's paths are those of the new home, so what is kept there is found.
    (found,) = restored.query("SELECT count(*) FROM mlflow.runs WHERE artifact_uri LIKE '%" + str(world.home) + "%'")
    assert found == (0,)
    restored.fraud("reproduce", "1", "--frame", str(restored.home / "frame.parquet"))
    # The live package is verified with the key.
    restored.fraud("export", str(restored.home / "model.tar.gz"))


def test_a_home_that_is_not_empty_or_in_use_is_left_alone(restored: World, backup: Path) -> None:
    before = restored.digests()
    assert "--force" in restored.fraud("restore", str(backup), fails=True).stderr
    with psycopg.connect(restored.url, application_name="a console"):
        assert "in use: a console" in restored.fraud("restore", str(backup), fails=True).stderr
    assert restored.digests() == before


KILLED = """
import os, signal, sys
from fraud_assets.adapters.backups import dump
from fraud_assets.workflows.backups import restore

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

setattr({"dump": dump, "restore": restore}[sys.argv[1]], sys.argv[2], die)
sys.argv = ["fraud", "restore", "--force", sys.argv[3]]
from fraud_assets.cli import app
app()
"""


@pytest.mark.parametrize(("module", "function", "counts"), [("dump", "_after", False), ("restore", "_swap", True)])
def test_a_restore_that_is_killed_is_whole_or_as_if_it_had_not_been(
    restored: World, backup: Path, module: str, function: str, counts: bool
) -> None:
    before = restored.digests()
    with psycopg.connect(restored.url) as connection:
        connection.execute("INSERT INTO scored_months VALUES ('2025-09', 1, now())")
    mine = restored.settings.reports / "mine.html"
    mine.write_text("mine")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, module, function, str(backup)], cwd=PROJECT_ROOT, env=restored.environment,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    # Any command but `fraud doctor`, which changes nothing, finishes it, or tidies up.
    restored.fraud("status")
    assert json.loads(restored.fraud("doctor", "--verify", "--json").stdout)["damages"] == []
    assert not (restored.settings.workspace / ".restore").exists()
    assert mine.exists() != counts
    assert (restored.query("SELECT count(*) FROM scored_months WHERE month = '2025-09'") == [(0,)]) == counts
    assert json.loads(restored.fraud("status", "--json").stdout)["disagreements"] == []
    with psycopg.connect(restored.url) as connection:
        connection.execute("DELETE FROM scored_months WHERE month = '2025-09'")
    mine.unlink(missing_ok=True)
    assert restored.digests() == before


def test_from_the_embedded_server_to_a_plain_user_of_another_one_and_back(
    world: World, restored: World, backup: Path, server: Callable[[str], Database], tmp_path: Path
) -> None:
    from fraud_assets_tests.worlds import World, free_port, new_home, remove_home

    given = server("backup_source").url
    with psycopg.connect(given, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute("CREATE DATABASE elsewhere OWNER plain")
        # As deploy/postgres/roles.sql does: of one there is the schema already, the other was granted.
        connection.execute("CREATE ROLE dagster LOGIN")
        connection.execute("CREATE ROLE mlflow")
        connection.execute("CREATE ROLE stranger LOGIN")
        connection.execute("GRANT dagster, mlflow TO plain")
    with psycopg.connect(given.replace("/backup_source?", "/elsewhere?"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA dagster AUTHORIZATION dagster")
    url = given.replace("postgres:@", "plain:@").replace("/backup_source?", "/elsewhere?")
    other = World(new_home(), world.settings_given | {"FRAUD_DATABASE_URL": url}, world.months)
    shutil.copytree(world.home / "keys", other.home / "keys")
    try:
        # The MLflow server stands on this database, so it is started later.
        servers = {
            "FRAUD_MLFLOW_URI": f"http://127.0.0.1:{free_port()}",
            "FRAUD_DAGSTER_URL": url.replace("plain:@", "stranger:@"),
        }
        said = other.fraud("restore", str(backup), **servers).stdout
        assert "then `fraud reconcile`" in said
        assert "stranger, the user of FRAUD_DAGSTER_URL, has no rights" in said
        assert other.digests() == world.digests()
        owners = (
            "SELECT DISTINCT schemaname, tableowner FROM pg_tables WHERE schemaname IN ('dagster', 'mlflow') ORDER BY 1"
        )
        assert other.query(owners) == [("dagster", "dagster"), ("mlflow", "mlflow")]
        second = json.loads(other.fraud("backup", str(tmp_path), "--json").stdout)["backup"]
    finally:
        remove_home(other.home)
    restored.fraud("restore", "--force", second)
    assert restored.digests() == world.digests()
