"""Ledger, registry and bentos of a platform that has run: what disagrees is found, refused or repaired, and said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from fraud_assets.adapters.dagster_storage import open_instance
from fraud_assets.adapters.live_bento import read_live
from fraud_assets.adapters.mlflow import HEAD_TAG, MODEL_NAME, Registry, RegistryError
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.leases import take_months
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.postgres.run_processes import holding
from fraud_assets.core.decisions.ledger import Standing, standing
from fraud_assets.core.models.live import LIVE_FILE
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.models.by_hand import repair, roll_back
from fraud_assets.workflows.models.heads import known_heads
from fraud_assets.workflows.models.promote import ConflictError, Order, carry_out, package_version
from fraud_assets.workflows.models.truth import find_disagreements, follow_ledger

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]


@pytest.fixture(scope="module", autouse=True)
def _tables_follow(spare_world: World) -> Iterator[None]:
    """At the end, the tables say what is live again."""
    yield
    spare_world.fraud("refresh")


@pytest.fixture
def registry(in_spare_world: World) -> Registry:
    return Registry(in_spare_world.settings)


@pytest.fixture
def ledger(in_spare_world: World, registry: Registry) -> Iterator[LedgerStore]:
    """The ledger of the spare world; what a test does to it, and to what follows it, is undone."""
    settings = in_spare_world.settings
    store = LedgerStore(Database(in_spare_world.url), settings.ledger_head_file)
    files = {file: file.read_bytes() for file in (settings.ledger_head_file, settings.bentoml_home / LIVE_FILE)}
    heads = registry.kept_heads()
    tamper(store, "CREATE TABLE ledger_before AS SELECT * FROM ledger")
    yield store
    tamper(store, "DELETE FROM ledger; INSERT INTO ledger SELECT * FROM ledger_before; DROP TABLE ledger_before")
    for file, content in files.items():
        file.write_bytes(content)
    for version in registry.seen().versions:
        if version in heads:
            registry.keep_head(version, heads[version])
        else:
            registry.client().delete_model_version_tag(MODEL_NAME, str(version), HEAD_TAG)
    with store.deciding() as decision:
        follow_ledger(decision, registry)
    assert find_disagreements(store, registry, settings) == []


def tamper(store: LedgerStore, statements: str) -> None:
    """As someone who may do everything with the database."""
    with psycopg.connect(store.database.url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(statements.encode())


@pytest.fixture
def two(ledger: LedgerStore, registry: Registry) -> tuple[int, int]:
    """The champion, and another version that was live before it."""
    live = standing(ledger.events()).champion
    assert live is not None
    other = next(version for version in sorted(registry.seen().versions) if version != live)
    for version in (other, live):
        by_hand(ledger, registry, version)
    return live, other


def by_hand(ledger: LedgerStore, registry: Registry, version: int, known: Standing | None = None) -> None:
    """A person's promotion on the newest month."""
    settings = registry.settings
    order = Order("promoted", version, "2025-04", "try", "ada", known or standing(ledger.events()))
    package = partial(package_version, registry=registry, settings=settings, ledger=ledger)
    carry_out(order, ledger, registry, package, settings)


def sentences(ledger: LedgerStore, registry: Registry) -> list[str]:
    return [one.sentence for one in find_disagreements(ledger, registry, registry.settings)]


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
    _, manifest = Registry(spare_world.settings).fetch(registered["model_version"])
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


# One truth


def test_an_alias_that_was_moved_by_hand_is_said_and_put_back(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    live, other = two
    registry.client().set_registered_model_alias(MODEL_NAME, "champion", str(other))
    said = f"the alias champion in MLflow points to version {other}, and by the ledger it is version {live}"
    (found,) = sentences(ledger, registry)
    assert said in found
    assert said in json.loads(spare_world.fraud("status", "--json").stdout)["disagreements"][0]["sentence"]
    done = json.loads(spare_world.fraud("reconcile", "--json").stdout)
    assert done == {"repaired": [f"the alias champion points to version {live}"], "left": []}
    assert registry.alias("champion") == live
    assert "nothing was to be repaired" in spare_world.fraud("reconcile").stdout


def test_another_model_that_is_named_for_serving_is_said_and_replaced(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    live, other = two
    home = spare_world.settings.bentoml_home
    named = read_live(home)
    assert named is not None
    (home / LIVE_FILE).write_text(replace(named, model_version=other, row=1).to_json())
    (found,) = sentences(ledger, registry)
    assert f"version {other} is named for serving, and by the ledger it is version {live}" in found
    repair(spare_world.settings, open_store(spare_world.settings, writing=True), actor="ada")
    assert read_live(home) == named


def test_a_version_that_the_ledger_knows_nothing_of_is_said_and_retired(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    client = registry.client()
    source = client.get_model_version(MODEL_NAME, str(two[0]))
    orphan = int(client.create_model_version(MODEL_NAME, source.source, source.run_id).version)
    try:
        (found,) = sentences(ledger, registry)
        assert f"version {orphan} is in MLflow, and the ledger has no event about it" in found
        done = repair(spare_world.settings, open_store(spare_world.settings, writing=True), actor="ada")
        assert done == {"repaired": [f"version {orphan} is retired: the ledger had no event about it"], "left": []}
        event = ledger.events()[-1]
        assert (event.kind, event.model_version, event.actor) == ("retired", orphan, "ada")
        with pytest.raises(ConflictError, match=f"version {orphan} was retired"):
            by_hand(ledger, registry, orphan)
    finally:
        client.delete_model_version(MODEL_NAME, str(orphan))


def test_a_champion_that_was_deleted_in_mlflow_is_said_and_the_one_before_can_be_live_again(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    live, _ = two
    client = registry.client()
    source = client.get_model_version(MODEL_NAME, str(live))
    gone = int(client.create_model_version(MODEL_NAME, source.source, source.run_id).version)
    by_hand(ledger, registry, gone)
    client.delete_model_version(MODEL_NAME, str(gone))
    found = sentences(ledger, registry)
    assert any(
        f"version {gone} is champion by the ledger, and MLflow has no such version any more" in one for one in found
    )
    store = open_store(spare_world.settings, writing=True)
    with pytest.raises(RegistryError, match=f"no version {gone} of 'fraud' any more"):
        repair(spare_world.settings, store, actor="ada")
    assert roll_back(spare_world.settings, store, "it is gone", actor="ada") == (live, "2025-04")
    assert sentences(ledger, registry) == []
    assert registry.alias("champion") == live


@pytest.mark.parametrize(
    "killed_after",
    [
        "fraud_assets.adapters.mlflow.Registry.follow",
        "fraud_assets.workflows.models.promote.follow_ledger",
        "fraud_assets.adapters.postgres.ledger.write_head",
        "fraud_assets.workflows.models.promote.name_for_serving",
    ],
)
def test_what_a_killed_promoter_left_is_repaired_by_the_next_command(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World, killed_after: str
) -> None:
    _, other = two
    module, _, name = killed_after.rpartition(".")
    owner = (
        f"importlib.import_module({module!r})"
        if module.islower()
        else (f"importlib.import_module({module.rpartition('.')[0]!r}).{module.rpartition('.')[2]}")
    )
    code = f"""
import importlib, os
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.settings import read_settings
from fraud_assets.workflows.models.by_hand import promote
owner = {owner}
before = getattr(owner, {name!r})
def killed(*given, **more):
    before(*given, **more)
    os._exit(9)
setattr(owner, {name!r}, killed)
promote(read_settings(), open_store(read_settings(), writing=True), {other}, "try", actor="ada")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, env=spare_world.environment, check=False)
    assert done.returncode == 9
    done = json.loads(spare_world.fraud("reconcile", "--json").stdout)
    assert done["left"] == []
    live = standing(ledger.events()).champion
    named = read_live(spare_world.settings.bentoml_home)
    assert named is not None
    assert (registry.alias("champion"), named.model_version) == (live, live)
    assert json.loads(spare_world.fraud("ledger", "verify", "--json").stdout)["fault"] is None


def test_of_twenty_real_promotions_at_once_each_has_won_in_order_or_is_told(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry
) -> None:
    before = len(ledger.events())
    for version in two:
        package_version(version, registry, registry.settings, ledger)

    def one(number: int) -> bool:
        try:
            by_hand(ledger, registry, two[number % 2])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        won = list(pool.map(one, range(20)))
    assert sum(won) >= 1
    assert len(ledger.events()) == before + sum(won)
    assert sentences(ledger, registry) == []
    assert ledger.find_fault([*known_heads(registry, registry.settings)]) is None


def test_while_mlflow_is_down_nothing_is_promoted_and_status_says_so(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ledger.rows()
    packaged = package_version(two[1], registry, registry.settings, ledger)
    from fraud_assets_tests.worlds import free_port

    # Otherwise MLflow tries again for minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import mlflow

    kept = mlflow.get_tracking_uri()
    away = Registry(registry.settings.model_copy(update={"mlflow_uri": f"http://127.0.0.1:{free_port()}"}))
    order = Order("promoted", two[1], "2025-04", "try", "ada", standing(ledger.events()))
    try:
        with pytest.raises(RegistryError, match="MLflow did not answer"):
            carry_out(order, ledger, away, lambda _: packaged, registry.settings)
        (said,) = sentences(ledger, away)
        assert "MLflow was not asked: MLflow did not answer" in said
    finally:
        mlflow.set_tracking_uri(kept)
    assert ledger.rows() == before


# The way back


def test_a_rollback_makes_the_version_before_champion_everywhere_and_again_does_not_go_forward(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    live, other = two
    told = json.loads(spare_world.fraud("rollback", "--reason", "too many alerts", "--json").stdout)
    assert told == {"version": other, "month": "2025-04", "reason": "too many alerts"}
    event = ledger.events()[-1]
    assert (event.kind, event.model_version, event.reasons[0].text) == ("rolled_back", other, "too many alerts")
    assert registry.alias("champion") == other
    named = read_live(spare_world.settings.bentoml_home)
    assert named is not None
    assert named.model_version == other
    assert spare_world.query("SELECT champion_version FROM champion ORDER BY month DESC LIMIT 1") == [(other,)]
    assert standing(ledger.events()).previous != live
    store = open_store(spare_world.settings, writing=True)
    with pytest.raises(ValueError, match=f"version {other} is live already"):
        roll_back(spare_world.settings, store, "again", actor="ada", version=other)
    with pytest.raises(ValueError, match="version 77 was never live"):
        roll_back(spare_world.settings, store, "elsewhere", actor="ada", version=77)
    assert roll_back(spare_world.settings, store, "it was right", actor="ada", version=live)[0] == live


def test_a_month_that_another_run_is_writing_is_left_to_it_and_said(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    from fraud_assets.definitions import build_definitions

    job = build_definitions(spare_world.settings).resolve_implicit_global_asset_job_def()
    database = ledger.database
    with open_instance(spare_world.settings) as instance:
        run_id = instance.create_run_for_job(job, tags={"dagster/partition": "2025-04"}).run_id
    take_months(database, run_id, ["2025-04"])
    tamper(ledger, f"UPDATE dagster.runs SET status = 'STARTED' WHERE run_id = '{run_id}'")
    with holding(database, run_id):
        refused = spare_world.fraud("rollback", "--reason", "x", fails=True)
    tamper(ledger, f"UPDATE dagster.runs SET status = 'FAILURE' WHERE run_id = '{run_id}'")
    assert f"version {two[1]} is champion, and packaged, but the tables of 2025-04 do not say so yet" in refused.stderr
    assert f"run {run_id[:8]} is working on 2025-04, and two runs do not write one month at once" in refused.stderr
    assert registry.alias("champion") == two[1]


def test_a_person_who_names_another_champion_than_there_is_is_told_with_exit_code_3(
    two: tuple[int, int], spare_world: World
) -> None:
    live, other = two
    refused = spare_world.fraud("promote", str(other), "--champion", "77", "--reason", "x", fails=True)
    assert refused.returncode == 3
    assert f"you named version 77 as champion, and version {live} is: nothing was changed" in refused.stderr


def test_the_job_of_the_dagster_ui_rolls_back(
    two: tuple[int, int], ledger: LedgerStore, registry: Registry, spare_world: World
) -> None:
    from fraud_assets.definitions import build_definitions

    job = build_definitions(spare_world.settings).resolve_job_def("rollback")
    config = {"ops": {"go_back": {"config": {"reason": "too many alerts", "by": "grace"}}}}
    with open_instance(spare_world.settings) as instance:
        result = job.execute_in_process(instance=instance, run_config=config)
    assert result.success
    event = ledger.events()[-1]
    assert (event.kind, event.model_version, event.actor) == ("rolled_back", two[1], "grace")
    assert registry.alias("champion") == two[1]
