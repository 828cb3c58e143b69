"""Erasing a person from stored months: nobody else's rows change, nothing becomes stale, and nobody comes back."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_assets.adapters.backups.dump import MARK
from fraud_assets.adapters.guards.stored_lists import newer_rows
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.digests import digest_table
from fraud_assets.core.guards.lists import EntityLists
from fraud_assets.core.lineage.staleness import find_stale
from fraud_assets.core.people.pseudonyms import ErasureError
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.backups.restore import settle_restore
from fraud_assets.workflows.guards.lists import lists_session
from fraud_assets.workflows.labels import quarantine
from fraud_assets.workflows.people import erase as erasing
from fraud_assets.workflows.people.erase import erase, erase_again, look
from fraud_assets.workflows.status import find_damages
from fraud_assets_tests.workflows.people.small_home import MONTHS, PERSON, everything, write_features

REASON = "asked for in writing"


def test_a_look_changes_nothing_and_says_what_would_go(settings, store, delivered):
    before = everything(store.database)
    found = look(settings, "customer", str(PERSON))
    assert everything(store.database) == before
    assert not settings.erasure_key_file.exists()
    counts = {month: rows["customer_id"].to_pylist().count(PERSON) for month, rows in delivered.items()}
    assert found["months"]["raw_transactions"] == counts
    assert found["months"]["transaction_features"] == counts
    assert found["months"]["quarantined_transactions"] == {"2025-02": 1}
    assert found["rows"] == {
        "scored_transactions": 1, "recent_transactions": 1, "quarantined_labels": 1, "entity_lists": 1,
    }  # fmt: skip


def test_after_an_erasure_nobody_finds_the_person_and_nothing_is_stale(settings, store, delivered):
    names, current = (
        {name: store.months(name) for name in ("raw_transactions", "transaction_features")},
        store.current(),
    )
    before = {month: store.read("raw_transactions", first_month=month, last_month=month) for month in MONTHS}
    found = erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    assert found["complete"]
    assert [name for name, text in everything(store.database).items() if str(PERSON) in text] == []
    assert {name: store.months(name) for name in names} == names
    assert store.current() == current
    assert find_stale(store.current(), lambda name, key: None) == []
    assert find_damages(store, by_value=True)["damages"] == []
    for month, rows in before.items():
        after = store.read("raw_transactions", first_month=month, last_month=month)
        others = [name for name in rows.column_names if name != "customer_id"]
        assert after.select(others).equals(rows.select(others))
        pairs = set(zip(rows["customer_id"].to_pylist(), after["customer_id"].to_pylist(), strict=True))
        assert {(was, is_now) for was, is_now in pairs if was != is_now} == {(PERSON, int(found["pseudonym"]))}
    event = LedgerStore(store.database, settings.ledger_head_file).events()[-1]
    assert (event.kind, event.actor, event.model_version) == ("erased", "ada", 0)
    assert REASON in event.reasons[0].text
    again = look(settings, "customer_id", str(PERSON))
    assert (again["months"], again["rows"], again["files"]) == ({}, {}, [])


def test_what_is_made_anew_after_an_erasure_is_what_was_rewritten(settings, store, delivered):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    versions = len(store.versions("transaction_features"))
    nothing = pa.table({field.name: pa.array([], field.type) for field in store.contract.labels_schema()})
    for month, rows in delivered.items():
        # The same delivery, with the person in it.
        (write,) = store.replace_months("raw_transactions", rows, [month], inputs={"source": {month: "as delivered"}})
        assert (write.changed, write.altered) == (False, 0)
        assert not write_features(store, month, nothing).changed
    assert len(store.versions("transaction_features")) == versions
    assert str(PERSON) not in "".join(everything(store.database).values())


def test_a_delivery_with_other_rows_does_not_bring_the_person_back(settings, store, delivered):
    found = erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    rows = delivered["2025-02"]
    (write,) = store.replace_months("raw_transactions", {"2025-02": rows.slice(1).to_reader()}, ["2025-02"])
    assert (write.removed, write.altered) == (1, 0)
    refused = {"file": ["g.csv"], "row_number": [4], "reasons": ["[]"], "original": [json.dumps({"id": PERSON})]}
    quarantine(store, pa.table(refused))
    assert str(PERSON) not in "".join(everything(store.database).values())
    assert int(found["pseudonym"]) in store.read("raw_transactions", first_month="2025-02")["customer_id"].to_pylist()


def test_an_erasure_that_was_killed_in_between_is_given_again(settings, store, monkeypatch):
    from fraud_assets.workflows.people import erase as module

    real, seen = module._rename_month, []

    def killed(*given):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(real(*given))

    monkeypatch.setattr(module, "_rename_month", killed)
    with pytest.raises(KeyboardInterrupt):
        erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    monkeypatch.undo()
    assert find_stale(store.current(), lambda name, key: None) == []
    assert erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")["complete"]
    assert str(PERSON) not in "".join(everything(store.database).values())
    assert find_stale(store.current(), lambda name, key: None) == []


def test_without_the_key_nothing_is_written_any_more(settings, store, delivered):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    settings.erasure_key_file.unlink()
    with pytest.raises(ErasureError, match=r"erasure\.key is not there"):
        store.replace_months("raw_transactions", delivered["2025-01"], ["2025-01"])
    settings.erasure_key_file.write_text("00" * 32)
    settings.erasure_key_file.chmod(0o644)
    with pytest.raises(ErasureError, match="chmod 600"):
        erase(settings, "customer", "5", reason=REASON, actor="ada")


def test_who_comes_back_with_a_restored_database_is_erased_again(settings, store, delivered):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    with store.database.session() as connection:
        connection.execute("DELETE FROM erased_entities")
    store.replace_months("raw_transactions", delivered["2025-01"], ["2025-01"])
    assert erase_again(settings, store, actor="ada") == 1
    assert erase_again(settings, store, actor="ada") == 0
    assert str(PERSON) not in "".join(everything(store.database).values())


def test_a_restore_that_was_killed_is_not_finished_before_they_are_erased_again(
    settings, store, delivered, monkeypatch
):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    stage = settings.workspace / ".restore"
    stage.mkdir()
    (stage / "note.json").write_text(json.dumps({"mark": "mine", "head": None}))
    with store.database.session() as connection:
        connection.execute(f"COMMENT ON SCHEMA months IS '{MARK}mine'")
        connection.execute("DELETE FROM erased_entities")
    store.replace_months("raw_transactions", delivered["2025-01"], ["2025-01"])
    try:
        # Killed once more, when the person was entered and not yet renamed.
        with monkeypatch.context() as patched:
            patched.setattr(erasing, "_rename", interrupt)
            with pytest.raises(KeyboardInterrupt):
                settle_restore(settings, actor="ada")
        assert stage.is_dir()
        assert settle_restore(settings, actor="ada")
        assert not stage.exists()
    finally:
        with store.database.session() as connection:
            connection.execute("COMMENT ON SCHEMA months IS NULL")
    assert not settle_restore(settings, actor="ada")
    assert str(PERSON) not in "".join(everything(store.database).values())


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("entity", "identifier", "reason", "said"),
    [
        ("person", "7", REASON, "has no entity 'person'; it has customer, terminal"),
        ("customer", "seven", REASON, "customer_id is a whole number"),
        ("customer", str(PERSON), f"letter of {PERSON}", "names the person"),
    ],
)
def test_what_cannot_be_is_refused_without_a_trace(settings, store, entity, identifier, reason, said):
    with pytest.raises(ErasureError, match=said):
        erase(settings, entity, identifier, reason=reason, actor="ada")
    assert store.database.rows("erased_entities", "SELECT 1 FROM erased_entities") == []


def test_columns_of_an_earlier_contract_are_not_lost(settings, store):
    with store.database.session() as connection:
        connection.execute("ALTER TABLE raw_transactions ADD COLUMN phone text")
    with pytest.raises(ErasureError, match="has the columns phone from an earlier contract"):
        erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")


def test_texts_and_files_of_the_home_are_changed_and_others_named(settings, store, tmp_path):
    log = settings.dagster_home / "storage" / "run" / "step.err"
    log.parent.mkdir(parents=True)
    log.write_text(f"customer {PERSON}: no; {PERSON}9 stays")
    rows = settings.artifacts / "run" / "predictions.parquet"
    rows.parent.mkdir(parents=True)
    pq.write_table(pa.table({"customer_id": [PERSON, 5], "score": [0.25, 0.5]}), rows)
    (settings.workspace / "model.bin").write_bytes(f"x {PERSON} y".encode())
    backups = tmp_path / "backups"
    (backups / "tests-1").mkdir(parents=True)
    (backups / "tests-1" / "manifest.json").write_text("{}")
    with store.database.session() as connection:
        connection.execute(
            "INSERT INTO alerts (fact_key, kind, sentence, happened_at, channels) VALUES ('k', 'k', %s, now(), '{}')",
            [f"about {PERSON}"],
        )
    found = erase(settings, "customer", str(PERSON), reason=REASON, actor="ada", backups=[backups])
    assert pq.read_table(rows).to_pydict() == {"customer_id": [int(found["pseudonym"]), 5], "score": [0.25, 0.5]}
    assert log.read_text() == f"customer {found['pseudonym']}: no; {PERSON}9 stays"
    assert found["rows"]["public.alerts, column sentence"] == 1
    assert store.database.rows("alerts", "SELECT sentence FROM alerts") == [(f"about {found['pseudonym']}",)]
    said = "\n".join(found["left"])
    assert str(settings.workspace / "model.bin") in said
    assert str(backups / "tests-1") in said


def test_a_short_number_is_not_looked_for_in_texts_and_that_is_said(settings, store):
    common = store.read("raw_transactions", first_month="2025-01")["terminal_id"][0].as_py()
    found = erase(settings, "terminal", str(common), reason=REASON, actor="ada")
    assert found["complete"]
    assert any("free text were not searched" in one for one in found["left"])
    assert common not in store.read("raw_transactions", first_month="2025-01")["terminal_id"].to_pylist()


def test_a_month_s_digest_is_that_of_its_rows(settings, store):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    table = store.table("raw_transactions")
    rows = store.read("raw_transactions", first_month="2025-01", last_month="2025-01").cast(table.schema)
    written = store.versions("raw_transactions", "2025-01").to_pylist()[-1]
    assert written["digest"] == digest_table(rows, ignore=table.volatile)
    assert written["written_at"] > datetime.now(UTC) - timedelta(minutes=5)


KILLED = """
import os, signal, sys
from pathlib import Path
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.settings import Settings
from fraud_assets.workflows.people import erase as erasing

home, contract, url, step = sys.argv[1:]
real = getattr(erasing, step)

def killed(*given):
    real(*given)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(erasing, step, killed)
settings = Settings(home=Path(home), contract=Path(contract), database_url=url)
erasing.erase_again(settings, open_store(settings, writing=True), actor="ada")
"""


def come_back(settings, store, delivered):
    """As after a restore: no erasure is known, and the person is in transactions, a score, a list and a file."""
    with store.database.session() as connection:
        connection.execute("DELETE FROM erased_entities")
        connection.execute("UPDATE scored_transactions SET transaction = %s", [json.dumps({"customer_id": PERSON})])
        connection.execute("UPDATE entity_lists SET value = %s WHERE value <> '5'", [str(PERSON)])
    store.replace_months("raw_transactions", delivered["2025-01"], ["2025-01"])
    file = settings.artifacts / "run" / "predictions.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"customer_id": [PERSON, 5], "score": [0.25, 0.5]}), file)
    return file


@pytest.mark.parametrize("step", ["_rename_files", "_rename_anchors"])
def test_a_kill_after_a_restore_leaves_nobody_behind(settings, store, delivered, step):
    """When they were erased again in transactions first, what was killed then was not found again."""
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    file = come_back(settings, store, delivered)
    given = [str(settings.home), str(settings.contract_path), store.database.url, step]
    done = subprocess.run([sys.executable, "-c", KILLED, *given], cwd=PROJECT_ROOT, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert str(PERSON) in "".join(everything(store.database).values())
    assert erase_again(settings, store, actor="ada") == 1
    assert str(PERSON) not in "".join(everything(store.database).values())
    assert PERSON not in pq.read_table(file)["customer_id"].to_pylist()
    assert erase_again(settings, store, actor="ada") == 0


def test_who_came_back_in_scores_or_on_a_list_alone_is_erased_again(settings, store, delivered):
    erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
    with store.database.session() as connection:
        connection.execute("UPDATE entity_lists SET value = %s WHERE value <> '5'", [str(PERSON)])
    assert erase_again(settings, store, actor="ada") == 1
    assert str(PERSON) not in "".join(everything(store.database).values())


def test_whoever_reads_lists_along_notices_an_erasure(settings, store):
    lists = EntityLists()
    with lists_session(store.database.url) as session:
        lists.take_up(newer_rows(session, 0).rows)
        soon = datetime.now(UTC) + timedelta(minutes=1)
        assert dict(lists.found("customer_id", [PERSON, 5], "block", soon)) == {0: "bad", 1: "bad"}
        erase(settings, "customer", str(PERSON), reason=REASON, actor="ada")
        newer = newer_rows(session, lists.last)
        assert newer.are_all
        lists.begin_anew(newer.rows)
        assert dict(lists.found("customer_id", [PERSON, 5], "block", soon)) == {1: "bad"}
        assert newer_rows(session, lists.last).rows == ()
