"""The benchmark of the service compares what it says it compares, and sends what it says it sends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks import serving
from benchmarks.handbook import load_cards
from benchmarks.serving import Sender, World, exactness
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.settings import Settings


@pytest.fixture
def world(
    handbook: Path,
    is_published: bool,
    handbook_contract: Contract,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    if not is_published:
        pytest.skip("the week that is replayed is one of the published data")
    cards = load_cards(handbook, handbook_contract)
    some = np.flatnonzero(cards.card < 30)
    few = type(cards)(
        cards.transactions.take(some), cards.statements, cards.day[some], cards.card[some], cards.fraud[some]
    )
    store = MonthStore(database, handbook_contract)
    monkeypatch.setattr(serving, "open_store", lambda settings, writing: store)
    return serving._world(Settings(), handbook_contract, few, tmp_path)


def test_a_replayed_day_has_the_features_of_the_batch_and_a_history_with_gaps_has_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {row.name: row for row in exactness(world, 1)}
    assert float(rows["replayed_transactions"].value) > 10
    assert rows["online_offline_mismatches"].value == 0
    assert rows["online_offline_largest_score_difference"].holds
    store = serving._store
    monkeypatch.setattr(
        serving, "_store", lambda world, rows: store(world, rows.take(pa.array(range(0, rows.num_rows, 2))))
    )
    rows = {row.name: row for row in exactness(world, 1)}
    assert float(rows["online_offline_mismatches"].value) > 5


def test_each_request_is_a_new_transaction_after_all_others_and_every_entity_is_met(world: World) -> None:
    sender = Sender(world)
    lines = [*sender.drawn(50, "one").read_text().splitlines(), *sender.each_once("two").read_text().splitlines()]
    sent = [json.loads(line)["transactions"][0] for line in lines]
    assert len({row["transaction_id"] for row in sent}) == len(sent)
    assert [row["event_timestamp"] for row in sent] == sorted(row["event_timestamp"] for row in sent)
    transactions = world.cards.transactions
    assert not {row["transaction_id"] for row in sent} & set(transactions["transaction_id"].to_pylist())
    pairs = set(zip(transactions["customer_id"].to_pylist(), transactions["terminal_id"].to_pylist(), strict=True))
    assert {(row["customer_id"], row["terminal_id"]) for row in sent} <= pairs
    for entity in ("customer_id", "terminal_id"):
        assert {row[entity] for row in sent} == set(transactions[entity].to_pylist())
