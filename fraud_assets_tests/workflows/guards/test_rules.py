"""`fraud rules backtest` on stored months: counted again in plain Python, with labels as they were at maturity."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.cli.guards.tables import show_rules_backtest
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.workflows.guards.rules import RulesError, backtest_rules
from fraud_assets_tests.workflows.models.small_world import MONTHS, SmallWorld, build

RULES = """
rules:
  - {name: large, when: amount > 80, action: decline, since: 2030-01-01}
  - {name: some, when: "amount > 50 and merchant_segment in ['fuel', 'travel']", action: review}
  - {name: often, when: customer_count_30d >= 22, action: allow}
"""
COSTS = Costs(review=5, loss_share=0.5)
MATURES = timedelta(days=14)


@pytest.fixture(scope="module")
def small(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """What is reported of April until the middle of May is stored; version 2 was live in April."""
    world = build(server, "rules", tmp_path_factory.mktemp("rules"))
    contract = parse_contract(world.settings.contract_path.read_text(encoding="utf-8") + RULES)
    store = MonthStore(world.store.database, contract)
    store.replace_months("fraud_labels", store.table("fraud_labels").schema.empty_table(), ["2025-05"])
    return SmallWorld(world.settings, store, world.ledger, world.registry)


def tried(small: SmallWorld, first: str | None = None, last: str | None = None) -> dict[str, Any]:
    return backtest_rules(small.store, small.ledger, small.registry, COSTS, first, last)  # type: ignore[arg-type]


def rows_of(small: SmallWorld, month: str) -> list[dict[str, Any]]:
    """Each transaction of a month with its features, and whether it was known as fraud when it had matured."""
    store = small.store
    raw = store.read("raw_transactions", first_month=month, last_month=month).to_pylist()
    features = store.read("transaction_features", first_month=month, last_month=month).to_pylist()
    of = {row["transaction_id"]: row for row in features}
    reported = {
        row["transaction_id"]: row["label_timestamp"]
        for row in store.read("fraud_labels", first_month=MONTHS[0], last_month="2025-05").to_pylist()
    }
    return [
        row
        | {"count": of[row["transaction_id"]]["customer_count_30d"], "day": row["event_timestamp"].date()}
        | {
            "fraud": row["transaction_id"] in reported
            and reported[row["transaction_id"]] <= row["event_timestamp"] + MATURES
        }
        for row in raw
    ]


def hits(rule: str, row: dict[str, Any]) -> bool:
    return bool(
        {
            "large": row["amount"] > 80,
            "some": row["amount"] > 50 and row["merchant_segment"] in ("fuel", "travel"),
            "often": row["count"] >= 22,
        }[rule]
    )


def test_each_rule_is_counted_on_months_that_have_matured_with_labels_as_they_were_then(small: SmallWorld) -> None:
    found = tried(small, MONTHS[0], MONTHS[2])
    assert found["months"] == list(MONTHS[:3])
    assert found["beside"] == []
    assert found["not_beside"] == [f"{month}: no model was live yet" for month in MONTHS[:3]]
    rows = [row for month in MONTHS[:3] for row in rows_of(small, month)]
    late = small.store.read("fraud_labels", first_month=MONTHS[0], last_month=MONTHS[3]).to_pylist()
    # Some frauds were reported after they had matured: they count as genuine, as they did then.
    assert any(row["label_timestamp"] > row["event_timestamp"] + MATURES for row in late)
    for one in found["rules"]:
        mine = [row for row in rows if hits(one["rule"], row)]
        frauds = [row for row in mine if row["fraud"]]
        assert (one["n"], one["n_labelled"], one["n_fraud"]) == (len(mine), len(mine), len(frauds))
        assert one["precision"] == pytest.approx(len(frauds) / len(mine))
        assert one["amount_fraud"] == pytest.approx(sum(row["amount"] for row in frauds))
        genuine = sum(row["amount"] for row in mine if not row["fraud"])
        assert one["amount_genuine"] == pytest.approx(genuine)
        reviews = len({(row["customer_id"], row["day"]) for row in mine})
        saved = {"decline": one["loss"], "review": one["loss"] - 5 * reviews, "allow": None}[one["action"]]
        assert one["loss"] == pytest.approx(one["amount_fraud"] / 2)
        assert (one["reviews"], one["saved_alone"]) == (reviews, pytest.approx(saved))
        assert one["saved_beside_the_model"] is None


def test_beside_the_model_that_was_live_only_what_it_lets_through_is_new(small: SmallWorld) -> None:
    found = tried(small, MONTHS[3], MONTHS[3])
    assert (found["months"], found["beside"], found["not_beside"]) == ([MONTHS[3]], [MONTHS[3]], [])
    scorer = Scorer(*small.registry.fetch(2))
    features = small.store.read("transaction_features", first_month=MONTHS[3], last_month=MONTHS[3])
    held = dict(
        zip(
            features["transaction_id"].to_pylist(),
            np.asarray(scorer.score(features) >= scorer.manifest.threshold).tolist(),
            strict=True,
        )
    )
    rows = [row | {"held": held[row["transaction_id"]]} for row in rows_of(small, MONTHS[3])]
    looked_at = {(row["customer_id"], row["day"]) for row in rows if row["held"]}
    for one in found["rules"]:
        mine = [row for row in rows if hits(one["rule"], row)]
        frauds = [row for row in mine if row["fraud"]]
        both = [row for row in frauds if row["held"]]
        assert (one["n_held"], one["n_fraud_held"]) == (sum(row["held"] for row in mine), len(both))
        assert one["duplicated"] == pytest.approx(len(both) / len(frauds))
        new = sum(row["amount"] for row in frauds if not row["held"]) / 2
        still = {(row["customer_id"], row["day"]) for row in rows if row["held"] and not hits(one["rule"], row)}
        less = 5 * (len(looked_at) - len(still))
        more = 5 * len({(row["customer_id"], row["day"]) for row in mine} - looked_at)
        let_go = sum(row["amount"] for row in both) / 2
        expected = {"decline": new + less, "review": new - more, "allow": less - let_go}[one["action"]]
        assert one["saved_beside_the_model"] == pytest.approx(expected)
    assert any(0 < one["n_held"] < one["n"] for one in found["rules"])


def test_a_month_that_has_not_matured_is_left_out_and_what_cannot_be_compared_is_said(small: SmallWorld) -> None:
    found = tried(small, MONTHS[3], "2025-06")
    assert [one["month"] for one in found["left_out"]] == ["2025-05", "2025-06"]
    assert found["left_out"][0]["reason"] == "raw_transactions and transaction_features are not stored"
    with pytest.raises(RulesError, match="no month can be judged: 2025-07: raw_transactions"):
        tried(small, "2025-07", "2025-07")
    unruled = MonthStore(small.store.database, small.settings.loaded_contract)
    with pytest.raises(RulesError, match="has no rules"):
        backtest_rules(unruled, small.ledger, small.registry, COSTS, None, None)  # type: ignore[arg-type]
    shown = io.StringIO()
    show_rules_backtest(Console(file=shown, width=200), found)
    said = shown.getvalue()
    assert "labels as they were known when each transaction had matured" in said
    assert "large@1" in said
    assert "2025-05 is left out: raw_transactions and transaction_features are not stored." in said


def test_a_label_that_came_after_maturity_changes_nothing(small: SmallWorld) -> None:
    before = tried(small, MONTHS[1], MONTHS[1])
    stored = small.store.read("fraud_labels", first_month=MONTHS[3], last_month=MONTHS[3])
    small.store.replace_months("fraud_labels", stored.slice(0, 0), [MONTHS[3]])
    try:
        assert tried(small, MONTHS[1], MONTHS[1]) == before
    finally:
        small.store.replace_months("fraud_labels", stored, [MONTHS[3]])
