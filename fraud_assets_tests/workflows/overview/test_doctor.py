"""`fraud doctor`: each check is seen failing, by breaking what it looks at, and the others go on."""

import fcntl
import json
import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.people.book import add_entry, key_of
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.scores.state import KeptState, StateFile
from fraud_assets.core.models.live import SERVICES_FOLDER
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.overview import doctor
from fraud_assets.workflows.overview.doctor import CHECKS, examine

pytest_plugins = ["fraud_assets_tests.worlds"]


def now():
    return datetime.now(UTC)


@pytest.fixture
def settings(database, tmp_path):
    contract = tmp_path / "tests.yaml"
    text = Settings().contract_path.read_text(encoding="utf-8").replace("name: simulator", "name: tests")
    contract.write_text(text, encoding="utf-8")
    given = Settings(home=tmp_path / "home", contract=contract, database_url=database.url)
    given.workspace.mkdir(parents=True)
    return given


@pytest.fixture
def store(settings):
    """One month of one transaction, which has no features and no report."""
    store = open_store(settings, writing=True)
    row = {"transaction_id": 1, "event_timestamp": datetime(2025, 1, 5, tzinfo=UTC), "customer_id": 1,
           "terminal_id": 1, "amount": 2.0, "merchant_segment": "fuel", "ingested_at": now()}  # fmt: skip
    rows = pa.Table.from_pylist([row], schema=store.table("raw_transactions").schema)
    store.replace_months("raw_transactions", rows, ["2025-01"], inputs={"source": {"2025-01": "x"}})
    return store


def check(settings, name, moment=None, **more):
    (found,) = examine(settings, moment or now(), only=[name], **more)["checks"]
    return found["verdict"], found["said"], found["remedy"]


def run(store, statement, *values):
    with store.database.session() as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(statement, values)


# What is not there


def test_in_an_empty_home_nothing_is_broken_and_nothing_is_made(tmp_path):
    home = tmp_path / "nothing"
    found = examine(Settings(home=home), now())
    assert {one["name"] for one in found["checks"]} == set(CHECKS)
    assert [one for one in found["checks"] if one["verdict"] == "broken"] == []
    assert not home.exists()


def test_while_the_database_is_down_the_rest_is_looked_at(tmp_path):
    settings = Settings(home=tmp_path, database_url="postgresql://nobody@127.0.0.1:1/fraud")
    found = {one["name"]: one for one in examine(settings, now())["checks"]}
    assert found["database"]["verdict"] == "broken"
    assert "PostgreSQL cannot be reached" in found["database"]["said"]
    assert found["disk"]["verdict"] in ("ok", "look")
    assert {one["verdict"] for name, one in found.items() if name in ("months", "ledger", "rows", "locks")} == {
        "not looked at"
    }


def test_of_a_sound_platform_no_check_is_broken_and_all_are_made(settings, store):
    found = examine(settings, now(), only=set(CHECKS) - {"registry"})
    assert [one for one in found["checks"] if one["verdict"] in ("broken", "not looked at")] == []


# Each check, broken


def test_home(settings):
    file = settings.signing_key_file
    file.parent.mkdir(parents=True)
    file.write_text("a key")
    file.chmod(0o644)
    verdict, said, remedy = check(settings, "home")
    assert (verdict, "can be read by others" in said) == ("broken", True)
    assert f"chmod 600 {file}" in remedy
    file.chmod(stat.S_IRUSR)
    assert check(settings, "home")[0] == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(2**28, "broken"), (2 * 2**30, "look"), (50 * 2**30, "ok")])
def test_disk(settings, monkeypatch, free, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40 - free, free))
    assert check(settings, "disk")[0] == verdict


def test_versions(settings, monkeypatch):
    assert check(settings, "versions")[0] in ("ok", "look")
    monkeypatch.setattr(
        doctor, "_lock_file", lambda: "pyarrow==0.0.1 \\\nnumpy==0 ; python_version < '3' \\\nno-such-package==1\n"
    )
    verdict, said, _ = check(settings, "versions")
    assert verdict == "look"
    assert "(locked: 0.0.1)" in said
    assert "numpy" not in said


def test_tables(settings, store):
    assert check(settings, "tables")[0] == "ok"
    for revision, remedy in (("0001", "fraud db upgrade"), ("9999", "install the version")):
        run(store, "UPDATE fraud_schema_version SET version_num = %s", revision)
        try:
            found = check(settings, "tables")
            assert check(settings, "months")[0] == "not looked at"
        finally:
            run(
                store,
                "UPDATE fraud_schema_version SET version_num = %s",
                doctor.describe(store.database.version())["newest"],
            )
        assert found[0] == "broken"
        assert remedy in found[2]


def test_clocks(settings, store):
    assert check(settings, "clocks")[0] == "ok"
    assert check(settings, "clocks", now() - timedelta(hours=2))[0] == "broken"
    assert check(settings, "clocks", now() + timedelta(seconds=60))[0] == "look"
    run(store, "UPDATE month_versions SET written_at = now() + interval '1 day'")
    assert "in the future" in check(settings, "clocks")[1]


def test_locks(settings, store, monkeypatch):
    assert check(settings, "locks")[0] == "ok"
    monkeypatch.setattr(doctor, "IDLE_SECONDS", -1)
    with store.database.connect() as idle:
        idle.execute("LOCK TABLE public.alerts IN ACCESS EXCLUSIVE MODE")
        verdict, said, remedy = check(settings, "locks")
        assert (verdict, f"session {idle.info.backend_pid}" in said) == ("look", True)
        with store.database.connect() as other:
            waiting = threading.Thread(target=lambda: other.execute("SELECT count(*) FROM public.alerts"))
            waiting.start()
            seen = doctor.Patient(settings, now(), False)
            while not _waits(store):
                pass
            verdict, said, remedy = doctor._locks(seen)
            idle.rollback()
            waiting.join()
    assert verdict == "broken"
    assert (
        f"pg_terminate_backend({idle.info.backend_pid if not idle.closed else ''}" in remedy or "pg_terminate" in remedy
    )


def _waits(store):
    return store.database.rows("alerts", "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")


def test_left_over_tables(settings, store):
    assert check(settings, "left-over tables")[0] == "ok"
    run(store, "CREATE TABLE months.raw_transactions_2025_02_new (x int)")
    verdict, said, remedy = check(settings, "left-over tables")
    assert (verdict, "months.raw_transactions_2025_02_new" in said) == ("look", True)
    assert remedy.endswith("DROP TABLE months.raw_transactions_2025_02_new")


def test_months_that_were_not_finished(settings, store):
    verdict, said, remedy = check(settings, "months")
    assert (verdict, said) == ("look", "2025-01 were begun and not finished")
    assert remedy == "fraud run --from 2025-01 --to 2025-01"


def test_rows_that_were_lost_or_altered(settings, store):
    assert check(settings, "rows", by_value=True)[0] == "ok"
    run(store, "UPDATE raw_transactions SET amount = 3")
    assert check(settings, "rows")[0] == "ok"
    assert check(settings, "rows", by_value=True)[0] == "broken"
    run(store, "DELETE FROM raw_transactions")
    verdict, said, remedy = check(settings, "rows")
    assert (verdict, "0 rows are there, and 1 were written" in said) == ("broken", True)
    assert remedy == "run 2025-01 again"


def test_erased_persons(settings, store):
    assert check(settings, "erased persons")[1] == "nobody was erased here"
    add_entry(store.database, key_of(store.database), "customer_id", "1", is_number=True, actor="ada", reason="asked")
    assert check(settings, "erased persons")[0] == "ok"
    settings.erasure_key_file.unlink()
    verdict, said, _ = check(settings, "erased persons")
    assert (verdict, str(settings.erasure_key_file) in said) == ("broken", True)


def test_ledger(settings, store):
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    ledger.record("retired", 0, "2025-01", [Reason(Rule.PRUNED, "Removed.")], actor="ada")
    run(store, "UPDATE ledger SET actor = 'eve'")
    verdict, said, remedy = check(settings, "ledger")
    assert (verdict, "row 1 was changed" in said) == ("broken", True)
    assert "fraud ledger verify" in remedy


def test_scores_that_wait_because_of_an_error(settings, store):
    settings.scores_path.mkdir(parents=True)
    file = StateFile(settings.scores_path)
    file.write(KeptState(stored=3, waiting=2, error="the database does not take scores"))
    try:
        assert check(settings, "scores")[0] == "broken"
        file.write(KeptState(stored=3, lost={"spool_full": 1}, last_lost_at=now()))
        assert check(settings, "scores")[0] == "look"
    finally:
        file.close()


def test_a_service_that_goes_on_with_an_older_model(settings, store):
    folder = settings.bentoml_home / SERVICES_FOLDER
    folder.mkdir(parents=True)
    with (folder / "1.json").open("w") as file:
        json.dump({"process": 1, "model_version": 3, "refused": "its model is damaged"}, file)
        file.flush()
        assert check(settings, "service")[0] == "ok"
        fcntl.flock(file, fcntl.LOCK_EX)
        verdict, said, _ = check(settings, "service")
    assert (verdict, "goes on with version 3, because its model is damaged" in said) == ("broken", True)


def test_backups(settings, store, tmp_path):
    assert check(settings, "backups")[:2] == ("look", "no backup of this home is known")
    made = tmp_path / "a-backup"
    made.mkdir()
    (settings.workspace / "backups-made.txt").write_text(f"{made}\n")
    assert check(settings, "backups")[0] == "ok"
    assert check(settings, "backups", now() + timedelta(days=60))[0] == "look"


def test_an_unknown_check_is_refused(settings):
    with pytest.raises(ValueError, match="there is no check 'heart'"):
        examine(settings, now(), only=["heart"])


# In a world with models


def test_a_package_a_registry_and_a_run_that_are_broken(in_spare_world):
    world = in_spare_world
    settings = world.settings
    assert [check(settings, name)[0] for name in ("package", "registry", "runs", "service")] == ["ok"] * 4
    live = json.loads((settings.bentoml_home / "live.json").read_text())
    model = next((settings.bentoml_home / live["folder"]).rglob("model.onnx"))
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        verdict, said, _ = check(settings, "package")
        assert (verdict, "is not the one that was promoted" in said) == ("broken", True)
    finally:
        model.write_bytes(content)
    moved = settings.bentoml_home / "live.json"
    aside = moved.rename(moved.with_suffix(".aside"))
    try:
        assert check(settings, "package")[2] == "run `fraud reconcile`"
    finally:
        aside.rename(moved)
    registry, version = Registry(settings), live["model_version"]
    registry.follow({"champion": None})
    try:
        verdict, said, remedy = check(settings, "registry")
        assert (verdict, remedy) == ("broken", "run `fraud reconcile`")
    finally:
        registry.follow({"champion": version})
    store = open_store(settings, writing=True)
    ((number,),) = store.database.rows("ledger", "SELECT max(id) FROM dagster.runs")
    run(store, "UPDATE dagster.runs SET status = 'STARTED' WHERE id = %s", number)
    try:
        verdict, said, _ = check(settings, "runs")
        assert (verdict, "was broken off" in said) == ("broken", True)
    finally:
        run(store, "UPDATE dagster.runs SET status = 'SUCCESS' WHERE id = %s", number)


def test_the_command_says_what_to_do_and_ends_with_1(in_spare_world):
    world = in_spare_world
    key = world.settings.signing_key_file
    mode = stat.S_IMODE(key.stat().st_mode)
    key.chmod(0o644)
    try:
        said = world.fraud("doctor", "--verify", fails=True).stdout
    finally:
        key.chmod(mode)
    assert f"chmod 600 {key}" in said
    assert "0 not as they were written (every value was compared)" in said
