"""A database that an earlier version made, upgraded by `fraud db upgrade`, and what is done with it afterwards."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud_assets.adapters.postgres.database import embedded_binary, locate_database
from fraud_assets.adapters.postgres.schema import CONTROL_TABLES, REVISIONS, VERSION_TABLE
from fraud_assets_tests.worlds import World, new_home, remove_home

DUMP = Path(__file__).parent / "old_databases" / "before_migrations.sql.gz"
COUNTS = {
    "platform": 1,
    "month_versions": 23,
    "ledger": 2,
    "retraining_decisions": 2,
    "quarantine_decisions": 1,
    "transaction_id_ranges": 2,
    "added_labels": 2,
    "quarantined_labels": 2,
    "alerts": 1,
    "alert_attempts": 2,
}


@pytest.fixture(scope="module")
def old() -> Iterator[World]:
    """A home with the database of the version before migrations; tests run in their order, and go on with it."""
    world = World(
        new_home(), {"FRAUD_SIMULATOR_CUSTOMERS": "8", "FRAUD_SIMULATOR_TERMINALS": "16"}, ("2025-01", "2025-02")
    )
    try:
        url = locate_database(world.settings).url
        subprocess.run(
            [embedded_binary("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", url],
            input=gzip.decompress(DUMP.read_bytes()), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        yield world
    finally:
        remove_home(world.home)


@pytest.fixture(scope="module")
def upgraded(old: World) -> tuple[World, dict[str, str]]:
    """The same after `fraud db upgrade`, and the digests of all its tables before."""
    before = old.digests()
    assert {name: old.query(f"SELECT count(*) FROM {name}")[0][0] for name in COUNTS} == COUNTS
    refused = old.fraud("status", fails=True)
    assert "made by an earlier version of fraud-assets (from before its tables had a version)" in refused.stderr
    assert "`fraud db upgrade`" in refused.stderr
    told = json.loads(old.fraud("db", "version", "--json").stdout)
    assert (told["state"], told["revision"], told["pending"]) == ("behind", None, list(REVISIONS))
    assert old.digests() == before
    done = json.loads(old.fraud("db", "upgrade", "--json").stdout)
    assert (done["before"], done["revision"], done["applied"]) == (None, REVISIONS[-1], list(REVISIONS))
    return old, before


def test_every_row_is_there_after_the_upgrade(upgraded: tuple[World, dict[str, str]]) -> None:
    world, before = upgraded
    assert set(COUNTS) == {table.name for table in CONTROL_TABLES.sorted_tables}
    assert {name: digest for name, digest in world.digests().items() if name != VERSION_TABLE} == before


def test_the_platform_goes_on_with_what_an_earlier_version_stored(
    upgraded: tuple[World, dict[str, str]], tmp_path: Path
) -> None:
    world, _ = upgraded
    versions = world.query("SELECT t::text FROM month_versions t ORDER BY id")
    status = json.loads(world.fraud("status", "--json").stdout)
    assert status["months"]["raw_transactions"] == ["2025-01", "2025-02"]
    # As the earlier version said, too: the month was not run again after the decision about one of its rows.
    undecided = {one["table"] for one in status["stale"] if any("quarantine" in why for why in one["changes"])}
    assert undecided == {"raw_transactions", "quarantined_transactions", "delivered_labels"}
    alerts = json.loads(world.fraud("alerts", "list", "--json").stdout)
    assert [(one["sentence"], len(one["deliveries"])) for one in alerts] == [("Amounts doubled.", 2)]
    # The statements that people added are known, although their ids were numbers then.
    added = world.query("SELECT transaction_id, is_fraud, to_json(label_timestamp) #>> '{}' FROM added_labels")
    (file := tmp_path / "again.csv").write_text(
        "transaction_id,is_fraud,label_timestamp\n" + "".join(f"{i},{str(f).lower()},{at}\n" for i, f, at in added)
    )
    again = json.loads(world.fraud("labels", "add", str(file), "--json").stdout)
    assert (again["taken"], again["repeated"], again["unseen"]) == (0, 2, 0)
    outcome = json.loads(world.fraud("run", "--from", "2025-03", "--to", "2025-03", "--json").stdout)
    assert [month["failed"] for month in outcome["months"]] == [[]]
    after = world.query("SELECT t::text FROM month_versions t ORDER BY id")
    assert after[: len(versions)] == versions
    assert len(after) > len(versions)


def test_a_database_of_a_later_version_is_refused_by_every_command_that_uses_it(
    upgraded: tuple[World, dict[str, str]],
) -> None:
    world, _ = upgraded
    with_revision = f"UPDATE {VERSION_TABLE} SET version_num = '9999'"
    subprocess.run([embedded_binary("psql"), "--quiet", "--command", with_revision, world.url], check=True)
    try:
        before = world.digests()
        for arguments in (["status"], ["run", "--to", "2025-01"], ["db", "upgrade"]):
            said = world.fraud(*arguments, fails=True).stderr
            assert "made by a later version of fraud-assets (revision 9999" in said
            assert "install that version, or name another database" in said
        assert json.loads(world.fraud("db", "version", "--json").stdout)["state"] == "ahead"
        assert world.digests() == before
    finally:
        back = with_revision.replace("9999", REVISIONS[-1])
        subprocess.run([embedded_binary("psql"), "--quiet", "--command", back, world.url], check=True)
