"""A person whose number occurs nowhere else goes through a whole world and is erased: nobody finds the number again.

It is delivered in accepted and in quarantined rows, labelled, refused, scored by a running service before and after,
previewed in Dagster's events, reported on and backed up. Then every table, every file and every log is searched.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraud_assets.adapters.people.files import names_person
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.core.simulator import simulate_month
from fraud_assets.definitions import build_definitions
from fraud_assets.workflows.runs.refresh import open_stale
from fraud_assets.workflows.runs.run_months import materialize_months
from fraud_assets.workflows.status import find_damages

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

TABLES_WITH_PERSONS = (
    "quarantined_transactions", "delivered_labels", "raw_transactions", "fraud_labels", "transaction_features",
)  # fmt: skip
MONTH, CANARY = "2025-05", 770_077_007_700_770


@dataclass(frozen=True)
class Erased:
    """The world after the erasure, and what was seen before it."""

    world: World
    backup: Path
    delivered: Path
    before: dict[str, Any]
    looked: dict[str, Any]
    done: dict[str, Any]


@pytest.fixture(scope="module")
def erased(own_world: World, tmp_path_factory: pytest.TempPathFactory) -> Erased:
    from fraud_assets_tests.worlds import World, free_port

    folder = tmp_path_factory.mktemp("people")
    delivered, first = deliver(own_world, folder / "source")
    given = {"FRAUD_SOURCE": "files", "FRAUD_SOURCE_PATH": str(folder / "source"), "FRAUD_PREVIEW": "all"}
    world = World(own_world.home, own_world.settings_given | given, own_world.months)
    take_in(world)
    labels = folder / "labels.csv"
    labels.write_text(
        "transaction_id,is_fraud,label_timestamp,label_source,customer_id\n"
        f"{first},true,2025-05-30T12:00:00+00:00,analyst,{CANARY}\n{first},perhaps,2025-05-30T12:00:00+00:00,analyst,{CANARY}\n"
    )
    world.fraud("labels", "add", str(labels), fails=True)
    port = free_port()
    with (
        world.running(folder / "log", "serve", "--port", str(port)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        ready(client)
        score(client, 990_001)
        wait_for(world, 1)
        backup = Path(json.loads(world.fraud("backup", str(folder / "backups"), "--json").stdout)["backup"])
        before = {"stale": stale(world), "found": found_in(world)}
        looked = json.loads(world.fraud("erase", "customer", str(CANARY), "--json").stdout)
        assert not_the_server_s(found_in(world)) == not_the_server_s(before["found"])
        done = json.loads(world.fraud("erase", "customer", str(CANARY), "--yes", "--json").stdout)
        score(client, 990_002)
        wait_for(world, 2)
    return Erased(world, backup, delivered, before, looked, done)


def deliver(world: World, folder: Path) -> tuple[Path, int]:
    """A month as a file, in which one customer has the number; the file, and a transaction of that customer."""
    rows = simulate_month(MONTH, world.simulator)
    ids, amounts = rows["customer_id"].to_pylist(), rows["amount"].to_pylist()
    stolen = [one for one, is_fraud in zip(ids, rows["is_fraud"].to_pylist(), strict=True) if is_fraud]
    person = max(set(stolen), key=stolen.count)
    # With the first of the month, which Dagster's event shows.
    places = [place for place, one in enumerate(ids) if one == person or not place]
    for place in places:
        ids[place] = CANARY
    amounts[places[1]] = -1.0
    for name, values in (("customer_id", ids), ("amount", amounts)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, pa.array(values, rows.schema.field(name).type))
    folder.mkdir()
    file = folder / f"transactions_{MONTH}.parquet"
    pq.write_table(rows, file)
    return file, rows["transaction_id"][places[2]].as_py()


def take_in(world: World) -> None:
    """Takes the month in as far as rows of persons go: what is made of them later names nobody."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (world.settings_given | {"FRAUD_HOME": str(world.home)}).items():
            patch.setenv(name, value)
        job = build_definitions(world.settings).resolve_implicit_global_asset_job_def()
        assets = [dg.AssetKey(name) for name in TABLES_WITH_PERSONS]
        assert materialize_months(job, world.settings, [MONTH], assets, "test") == {}


def ready(client: httpx.Client) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.3)
    pytest.fail("the service is not ready")


def score(client: httpx.Client, transaction: int) -> None:
    asked = {
        "transaction_id": transaction, "event_timestamp": "2025-06-02T10:00:00+00:00", "customer_id": CANARY,
        "terminal_id": 5, "amount": 12.5, "merchant_segment": "fuel",
    }  # fmt: skip
    response = client.post("/v1/score", json={"transactions": [asked]})
    assert response.status_code == 200, response.text


def wait_for(world: World, n: int) -> None:
    """Until the service has stored its scores and what others have to know of them."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found = [
            world.query(f"SELECT count(*) FROM {table} WHERE transaction_id::bigint > 990000")[0][0]
            for table in ("scored_transactions", "recent_transactions")
        ]
        if found == [n, n]:
            return
        time.sleep(0.2)
    pytest.fail(f"{found} of {n} scores are stored")


def found_in(world: World) -> set[str]:
    """The tables and files in which the number stands; the server's own files without its log of writes."""
    tables = world.query(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
        "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('information_schema', 'pg_catalog')"
    )
    found = {
        name
        for name in [*(name for (name,) in tables), "pg_catalog.pg_stats"]
        if world.query(f"SELECT 1 FROM {name} t WHERE strpos(t::text, '{CANARY}') > 0 LIMIT 1")
    }
    files = [path for path in world.home.rglob("*") if path.is_file() and "pg_wal" not in path.parts]
    return found | {str(path.relative_to(world.home)) for path in files if names_person(path, str(CANARY))}


def not_the_server_s(found: set[str]) -> set[str]:
    """Without the statistics and files that PostgreSQL writes whenever it likes."""
    return {one for one in found if not one.startswith(("pg_catalog.", "postgres/"))}


def stale(world: World) -> list[tuple[str, str]]:
    return sorted(one.partition for one in open_stale(world.settings))


def test_the_number_went_everywhere_and_the_look_named_where(erased: Erased) -> None:
    before = erased.before["found"]
    months = TABLES_WITH_PERSONS
    assert {f"months.{name}_2025_05" for name in months} <= before
    assert {"public.scored_transactions", "public.recent_transactions", "public.quarantined_labels"} <= before
    assert "dagster.event_logs" in before
    assert {table for table, counts in erased.looked["months"].items() if counts.get(MONTH)} == set(months)
    assert {"scored_transactions", "recent_transactions", "quarantined_labels"} <= set(erased.looked["rows"])


def test_after_it_nobody_finds_the_number(erased: Erased) -> None:
    assert erased.done["complete"]
    assert found_in(erased.world) == set()


def test_what_is_left_is_named(erased: Erased) -> None:
    said = "\n".join(erased.done["left"])
    assert f"the backup {erased.backup} " in said
    assert f"the delivered file {erased.delivered} " in said
    assert len(erased.done["left"]) == 2, said


def test_nothing_is_stale_and_ledger_and_rows_are_as_they_were_written(erased: Erased) -> None:
    world = erased.world
    assert stale(world) == erased.before["stale"]
    store = open_store(world.settings)
    assert find_damages(store, by_value=True)["damages"] == []
    assert LedgerStore(store.database, world.settings.ledger_head_file).find_fault() is None
    ((kind, reasons, evidence),) = world.query(
        "SELECT kind, reasons::text, evidence::text FROM ledger ORDER BY number DESC LIMIT 1"
    )
    assert kind == "erased"
    assert "asked for by the person" in reasons
    assert re.search(r"[0-9a-f]{64}", evidence)
