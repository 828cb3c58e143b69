"""Ledger, registry and bentos of a platform that has run: what disagrees is found, refused or repaired, and said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture
def ledger(in_spare_world: World) -> Iterator[LedgerStore]:
    """The ledger of the spare world; what a test does to its rows with SQL is undone."""
    store = LedgerStore(Database(in_spare_world.url), in_spare_world.settings.ledger_head_file)
    with store.database.session() as connection:
        connection.execute("CREATE TABLE ledger_before AS SELECT * FROM ledger")
    yield store
    tamper(store, "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger_before) OR hash = 'h'")
    tamper(store, "INSERT INTO ledger SELECT * FROM ledger_before")
    tamper(store, "DROP TABLE ledger_before")


def tamper(store: LedgerStore, statement: str) -> None:
    """As someone who may do everything with the database."""
    with psycopg.connect(store.database.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statement.encode())


def test_the_ledger_of_a_platform_that_has_run_is_whole_and_its_head_is_known_outside(
    ledger: LedgerStore, spare_world: World
) -> None:
    found = json.loads(spare_world.fraud("ledger", "verify", "--json").stdout)
    assert (found["fault"], found["not_asked"]) == (None, [])
    last = found["head"]["number"]
    assert found["rows"] == len(ledger.events()) == last
    heads = {one["where"]: one["number"] for one in found["heads"]}
    assert heads[f"the file {spare_world.settings.ledger_head_file}"] == last
    assert max(number for where, number in heads.items() if "MLflow" in where) == last
    assert [where for where in heads if where.startswith("the bento fraud_scorer:v")]


def test_the_events_say_by_whom_with_what_and_on_which_figures(ledger: LedgerStore, spare_world: World) -> None:
    rows = json.loads(spare_world.fraud("ledger", "--json").stdout)
    kinds = [row["kind"] for row in rows]
    assert {"registered", "promoted"} <= set(kinds)
    promoted = rows[kinds.index("promoted")]
    assert promoted["actor"].startswith("dagster run ")
    assert set(promoted["digests"]) == {"bento", "manifest.json", "model.onnx"}
    figures = promoted["metrics"]["challenger.average_precision"]
    assert 0 <= figures["low"] <= figures["value"] <= figures["high"] <= 1
    registered = rows[kinds.index("registered")]
    onnx, manifest = Registry(spare_world.settings).fetch(registered["model_version"])
    assert registered["digests"] == manifest.digests
    assert registered["metrics"]["validation_average_precision"]["value"] > 0
    assert "promoted" in spare_world.fraud("ledger").stdout


def test_a_changed_row_is_named_and_promotion_and_serving_are_refused(ledger: LedgerStore, spare_world: World) -> None:
    version = ledger.events()[0].model_version
    tamper(ledger, "UPDATE ledger SET model_version = 77 WHERE number = 2")
    assert "row 2 was changed after it was written" in spare_world.fraud("ledger", "verify", fails=True).stdout
    for command in (["promote", str(version), "--reason", "x"], ["serve"], ["score", "nothing.csv"]):
        refused = spare_world.fraud(*command, fails=True)
        assert "row 2 was changed after it was written" in refused.stderr
        assert "`fraud ledger verify`" in refused.stderr


def test_an_inserted_row_is_not_believed(ledger: LedgerStore, spare_world: World) -> None:
    last = ledger.events()[-1].number
    tamper(
        ledger,
        "INSERT INTO ledger (number, kind, model_version, month, reasons, actor, fact, previous_hash, hash) "
        f"VALUES ({last + 1}, 'promoted', 1, '2025-04', '[]', 'mallory', 'f', 'p', 'h')",
    )
    said = f"row {last + 1} was inserted by something else than the platform"
    assert said in spare_world.fraud("ledger", "verify", fails=True).stdout
    assert said in spare_world.fraud("promote", "1", "--reason", "x", fails=True).stderr
    assert said in spare_world.fraud("serve", fails=True).stderr


def test_a_tail_that_was_cut_off_shows_by_mlflow_and_by_a_file_that_was_kept_elsewhere(
    ledger: LedgerStore, spare_world: World, tmp_path: Path
) -> None:
    last = ledger.events()[-1].number
    file = spare_world.settings.ledger_head_file
    elsewhere = tmp_path / "kept.json"
    elsewhere.write_bytes(file.read_bytes())
    tamper(ledger, f"DELETE FROM ledger WHERE number > {last - 1}")
    kept = file.read_bytes()
    file.unlink()
    try:
        by_mlflow = json.loads(spare_world.fraud("ledger", "verify", "--json", fails=True).stdout)
        assert by_mlflow["fault"]["what"] == "cut"
        assert "in MLflow knows row" in by_mlflow["fault"]["sentence"]
        said = spare_world.fraud("ledger", "verify", "--head", str(elsewhere), fails=True).stdout
        assert f"rows were cut off at the end: the last one is {last - 1}" in said
        assert "is not there" in spare_world.fraud("ledger", "verify", "--head", "missing", fails=True).stderr
    finally:
        file.write_bytes(kept)
