"""Scores in the shadow, the comparison that is made of them, and replay, on months with real features and labels."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from bentos.fraud_scorer.challengers.shadow import Shadow
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.scores.shadow import ShadowStore
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.cli.rollout.replay import show_replay
from fraud_assets.cli.tables.status import show_status
from fraud_assets.core.evaluation.pair import Reviews, compare_pair
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import Scorer, ScoringError
from fraud_assets.core.rollout.replay import ReplayError
from fraud_assets.core.statistics.bootstrap import identifier_codes
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.rollout.challengers import read_status_of_challengers
from fraud_assets.workflows.rollout.comparison import compared_month
from fraud_assets.workflows.rollout.replay import replay
from fraud_assets.workflows.scores import drawn_in
from fraud_assets.workflows.status import read_status
from fraud_assets_tests.workflows.models.small_world import SmallWorld, build
from fraud_assets_tests.workflows.test_scores import keep

MONTHS = ("2025-03", "2025-04")
CAPACITY = 3.0
OPENED: list[ShadowStore] = []
TABLES = "scored_transactions, scored_months, shadow_scores, shadow_months, shadow_progress"


@pytest.fixture(scope="module")
def built(server: Callable[[str], Database], tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    return build(server, "rollout", tmp_path_factory.mktemp("rollout"))


@pytest.fixture
def small(built: SmallWorld) -> Iterator[SmallWorld]:
    with built.store.database.session() as connection:
        connection.execute(f"TRUNCATE {TABLES}".encode())
    yield built
    while OPENED:
        OPENED.pop().close()


def rows_of(world: SmallWorld, statement: str) -> list[tuple[Any, ...]]:
    with world.store.database.session() as connection:
        return connection.execute(statement.encode()).fetchall()


class Failing(Scorer):
    """Gives no probability above an amount."""

    def score_rows(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        if any(row["amount"] > 40 for row in rows):
            raise ScoringError("the model gives no probability for row 0")
        return super().score_rows(rows)


def shadow(world: SmallWorld, version: int = 3, role: str = "challenger", kind: type[Scorer] = Scorer) -> Shadow:
    scorer = kind(*world.registry.fetch(version))
    return Shadow(scorer, store_of(world, version, role))


def store_of(world: SmallWorld, version: int = 3, role: str = "challenger") -> ShadowStore:
    store = ShadowStore(world.store.database.url, version, role, world.registry.fetch(version)[1].threshold)
    OPENED.append(store)
    return store


def shadowed(world: SmallWorld, version: int = 3, kind: type[Scorer] = Scorer) -> int:
    """Keeps what version 2 answered in a month, while another version scores in its shadow."""
    one = shadow(world, version, kind=kind)
    assert one.step() == 0
    n = keep(world, MONTHS[-1:])
    while one.step():
        pass
    return n


# In the shadow


def test_a_version_says_in_the_shadow_what_it_would_have_answered_each_once(small: SmallWorld) -> None:
    keep(small, ["2025-02"])
    n = shadowed(small)
    scorer = Scorer(*small.registry.fetch(3))
    features = small.store.read("transaction_features", first_month=MONTHS[1], last_month=MONTHS[1])
    expected = dict(zip(map(str, features["transaction_id"].to_pylist()), scorer.score(features).tolist(), strict=True))
    found = rows_of(
        small, "SELECT transaction_id, probability, decision, role, outcome, answered_version FROM shadow_scores"
    )
    # What was answered before it began is not its business, but for the newest of it.
    of_months = [row for row in found if row[0] in expected]
    assert len(of_months) == n == len(expected)
    for key, probability, decision, role, outcome, answered in of_months:
        assert probability == pytest.approx(expected[key], abs=1e-12)
        assert decision == ("review" if probability >= scorer.manifest.threshold else "approve")
        assert (role, outcome, answered) == ("challenger", "scored", 2)
    counted = dict(rows_of(small, "SELECT month, n_rows FROM shadow_months"))
    assert sum(counted.values()) == len(found)
    # Another process of the same version, and one that has lost its place, add nothing.
    assert shadow(small).step() == 0
    rows_of(small, "UPDATE shadow_progress SET number = 0, first_number = 0 RETURNING 1")
    again = shadow(small)
    while again.step():
        pass
    assert len(rows_of(small, "SELECT 1 FROM shadow_scores WHERE model_version = 3")) >= len(found)
    assert rows_of(small, "SELECT count(*) FROM shadow_scores x GROUP BY transaction_id HAVING count(*) > 1") == []


@pytest.mark.parametrize("behind", [1, 40])
def test_a_version_leaves_out_what_lies_further_behind_than_it_may_be(small: SmallWorld, behind: int) -> None:
    of_version = small.registry.fetch(3)
    threshold = of_version[1].threshold
    store = ShadowStore(small.store.database.url, 3, "challenger", threshold, behind)
    OPENED.append(store)
    store.begin()
    keep(small, MONTHS[-1:])
    rows_of(small, "UPDATE shadow_progress SET number = 0, first_number = 0, n_behind = 0 RETURNING 1")
    rows_of(small, "DELETE FROM shadow_scores RETURNING 1")
    (total, newest) = rows_of(small, "SELECT count(*), max(number) FROM scored_transactions")[0]
    left = [row["number"] for row in store.next_rows(total)]
    assert left
    assert min(left) > newest - behind
    assert rows_of(small, "SELECT n_behind FROM shadow_progress WHERE model_version = 3") == [(total - len(left),)]


def test_rows_that_come_to_be_seen_late_are_scored_all_the_same(small: SmallWorld) -> None:
    """Of two services, the one with the smaller numbers may commit last."""
    shadowed(small)
    rows_of(small, "DELETE FROM shadow_scores WHERE transaction_id IN (SELECT transaction_id FROM scored_transactions "
            "ORDER BY number DESC OFFSET 500 LIMIT 7) RETURNING 1")  # fmt: skip
    one = shadow(small)
    assert [one.step(), one.step()] == [7, 0]


def test_what_a_version_gives_no_score_for_is_counted_and_the_rest_is_scored(small: SmallWorld) -> None:
    n = shadowed(small, kind=Failing)
    counts = dict(rows_of(small, "SELECT outcome, count(*) FROM shadow_scores GROUP BY 1"))
    large = rows_of(small, "SELECT count(*) FROM scored_transactions WHERE (features ->> 'amount')::float8 > 40")[0][0]
    assert counts == {"failed": large, "scored": n - large}
    ((n_scored, n_failed, said),) = rows_of(small, "SELECT n_scored, n_failed, said FROM shadow_progress")
    assert (n_scored, n_failed) == (n - large, large)
    assert said is None or said == "the model gives no probability for row 0"


def test_rows_at_which_a_process_was_ended_are_late_and_not_tried_again(small: SmallWorld) -> None:
    one = shadow(small)
    one.step()
    keep(small, ["2025-04"], most=50)
    store = store_of(small)
    store.attempt([row["number"] for row in store.next_rows(20)])
    after = shadow(small)
    assert [after.step(), after.step()] == [30, 0]
    assert dict(rows_of(small, "SELECT outcome, count(*) FROM shadow_scores GROUP BY 1")) == {"late": 20, "scored": 30}
    assert rows_of(small, "SELECT n_late, attempting FROM shadow_progress") == [(20, None)]


def test_a_version_that_is_far_behind_leaves_out_the_oldest_and_counts_them(small: SmallWorld) -> None:
    one = shadow(small)
    one.step()
    keep(small, ["2025-03"], most=30)
    rows_of(
        small, "SELECT setval('scored_transactions_number_seq', nextval('scored_transactions_number_seq') + 100000)"
    )
    keep(small, ["2025-04"], most=40)
    assert [one.step(), one.step()] == [40, 0]
    assert rows_of(small, "SELECT n_scored, n_behind FROM shadow_progress") == [(40, 30)]


def test_a_champion_scores_what_a_challenger_answered_and_nothing_else(small: SmallWorld) -> None:
    one = shadow(small, 2, "champion")
    one.step()
    keep(small, ["2025-03"], version=3, most=20)
    assert one.step() == 0
    rows_of(small, "UPDATE scored_transactions SET role = 'challenger' WHERE model_version = 3 RETURNING 1")
    keep(small, ["2025-04"], version=3, most=20)
    assert one.step() == 20
    assert rows_of(small, "SELECT DISTINCT role, answered_version, model_version FROM shadow_scores") == [
        ("champion", 3, 2)
    ]  # fmt: skip


# The comparison


def test_the_comparison_is_that_of_both_versions_on_the_stored_months(small: SmallWorld) -> None:
    shadowed(small)
    store, costs = small.store, Costs()
    found = compared_month(store, small.ledger, "2025-04", 2, costs, CAPACITY)
    (row,) = found.rows.to_pylist()
    # From the first transaction on that it scored.
    ((start,),) = rows_of(small, "SELECT min(event_timestamp) FROM shadow_scores")
    end = store.contract.month_end("2025-04") - timedelta(days=store.contract.maturity_days)
    assert (row["window_from"], row["window_to"]) == (start, end)
    features = store.read("transaction_features", first_month="2025-04", last_month="2025-04")
    features = features.filter(pc.less(features["event_timestamp"], pa.scalar(end, features["event_timestamp"].type)))
    statements = store.read("fraud_labels", first_month="2025-04", last_month="2025-04")
    labels = labels_as_of(
        features, statements, store.contract.month_end("2025-04"), maturity_days=store.contract.maturity_days
    )
    own, other = (Scorer(*small.registry.fetch(version)) for version in (2, 3))
    expected = compare_pair(
        labels["is_fraud"].to_numpy(zero_copy_only=False).astype(bool), own.score(features), other.score(features),
        cards=identifier_codes(features["customer_id"]), terminals=identifier_codes(features["terminal_id"]),
        days=features["event_timestamp"].cast(pa.int64()).to_numpy() // 86_400_000_000,
        amount=features["amount"].to_numpy(),
        reviews=Reviews(own.manifest.threshold, other.manifest.threshold, CAPACITY, costs),
    )  # fmt: skip
    assert (row["n_answered"], row["n_both"], row["n_by_challenger"]) == (features.num_rows, features.num_rows, 0)
    assert row["pair_n_fraud"] == expected.n_fraud > 10
    for name, value in expected.as_row().items():
        assert row[name] == pytest.approx(value), name
    assert row["sentence"].startswith(f"version 3 beside version 2, on {features.num_rows:,} live transactions, ")


def test_each_later_month_looks_once_more(small: SmallWorld) -> None:
    shadowed(small)
    first = compared_month(small.store, small.ledger, "2025-04", 2, Costs(), CAPACITY)
    earlier = first.rows.to_pylist()[0] | {"month": datetime(2025, 3, 1, tzinfo=UTC).date()}
    small.store.replace_months(
        "challenger_comparison", pa.Table.from_pylist([earlier], schema=first.rows.schema), ["2025-03"]
    )
    (row,) = compared_month(small.store, small.ledger, "2025-04", 2, Costs(), CAPACITY).rows.to_pylist()
    assert (earlier["look"], row["look"]) == (1, 2)
    empty = first.rows.schema.empty_table()
    small.store.replace_months("challenger_comparison", empty, ["2025-03"])


def test_transactions_that_a_challenger_answered_count_with_the_champions_shadow(small: SmallWorld) -> None:
    one, champion = shadow(small), shadow(small, 2, "champion")
    assert [one.step(), champion.step()] == [0, 0]
    keep(small, ["2025-03"], most=20)
    keep(small, ["2025-04"], version=3)
    rows_of(small, "UPDATE scored_transactions SET role = 'challenger' WHERE model_version = 3 RETURNING 1")
    for each in (one, champion):
        while each.step():
            pass
    (row,) = compared_month(small.store, small.ledger, "2025-04", 2, Costs(), CAPACITY).rows.to_pylist()
    assert row["n_by_challenger"] == row["n_answered"] == row["n_both"] > 100
    # The same pairs as if the champion had answered.
    with small.store.database.session() as connection:
        connection.execute(f"TRUNCATE {TABLES}".encode())
    shadowed(small)
    (other,) = compared_month(small.store, small.ledger, "2025-04", 2, Costs(), CAPACITY).rows.to_pylist()
    assert {name: row[name] for name in ("pair_n", "cost_difference", "ap_difference_low")} == {
        name: pytest.approx(other[name]) for name in ("pair_n", "cost_difference", "ap_difference_low")
    }


def test_without_a_challenger_the_month_is_empty_and_says_so(small: SmallWorld) -> None:
    keep(small, ["2025-04"])
    found = compared_month(small.store, small.ledger, "2025-04", 2, Costs(), CAPACITY)
    assert found.rows.num_rows == 0
    assert found.outcome.startswith("no challenger scored a transaction that has matured")


def test_what_challengers_did_is_told_with_the_status(small: SmallWorld) -> None:
    shadowed(small)
    events = small.ledger.events()
    last = events[-1]
    started = replace(last, number=last.number + 1, kind="shadow_started", model_version=3, evidence={})
    (told,) = read_status_of_challengers(small.store, [*events, started], small.settings)
    assert (told["version"], told["n_scored"], told["n_late"], told["n_behind"]) == (3, told["n_scored"], 0, 0)
    assert "services are not told; use `fraud reconcile`" in told["sentence"]
    shown = io.StringIO()
    show_status(Console(file=shown, width=300), read_status(small.store, small.ledger) | {"challengers": [told]})
    assert f"Challenger: {told['sentence']}" in shown.getvalue()


# What training takes of rows that were let through


def test_what_could_be_let_through_is_taken_once_as_it_was_answered_first(small: SmallWorld) -> None:
    keep(small, MONTHS)
    keep(small, ["2025-04"], version=3)
    assert drawn_in(small.store, "2025-01", "2025-04") == (None, {})
    rows_of(small, "UPDATE scored_transactions SET pass_through_probability = 0.1, scored_at = event_timestamp + "
            "interval '1 second' * model_version WHERE decision = 'review' RETURNING 1")  # fmt: skip
    drawn, inputs = drawn_in(small.store, "2025-01", "2025-04")
    assert drawn is not None
    held = rows_of(small, "SELECT count(DISTINCT transaction_id), count(*) FROM scored_transactions "
                   "WHERE pass_through_probability > 0")  # fmt: skip
    assert drawn.num_rows == held[0][0] < held[0][1]
    assert sum(int(n or 0) for n in inputs["passed_through"].values()) == drawn.num_rows
    assert drawn["transaction_id"].type == small.store.contract.transaction_id_type
    # What a service decides later, about transactions of then, no model of then can know.
    late = rows_of(small, "UPDATE scored_transactions SET scored_at = '2025-04-01 00:00:00+00' "
                   "WHERE event_timestamp < '2025-04-01' RETURNING 1")  # fmt: skip
    drawn, inputs = drawn_in(small.store, "2025-01", "2025-04")
    assert late
    assert drawn is not None
    assert set(inputs["passed_through"]) == {"2025-04"}
    assert min(drawn["event_timestamp"].to_pylist()) >= small.store.contract.month_start("2025-04")
    assert StoredScores(small.store.database, small.store.contract).n_drawn("2025-03") == 0


# Replay


def asked(world: SmallWorld, version: int = 3, months: Sequence[str] = MONTHS) -> dict[str, Any]:
    contract = world.store.contract
    return replay(
        world.settings, world.store, world.registry, version,  # type: ignore[arg-type] # a registry in memory
        contract.month_start(months[0]), contract.month_end(months[-1]), Progress(),
    )  # fmt: skip


def test_replay_says_what_a_version_would_have_decided_and_what_came_of_it(small: SmallWorld) -> None:
    n = keep(small, MONTHS)
    # Answered again by another version, later: the first answer counts.
    rows_of(small, "UPDATE scored_transactions SET scored_at = scored_at - interval '1 day' RETURNING 1")
    keep(small, ["2025-04"], version=1, most=100)
    found = asked(small)
    store = small.store
    features = store.read("transaction_features", first_month=MONTHS[0], last_month=MONTHS[1])
    own, other = (Scorer(*small.registry.fetch(version)) for version in (2, 3))
    held = own.score(features) >= own.manifest.threshold
    now_held = other.score(features) >= other.manifest.threshold
    assert (found["n"], found["answered_by"]) == (n, {"2": n})
    names = np.array(["approve", "review"])
    counts = {(row["before"], row["after"]): row["n"] for row in found["decisions"]}
    for before in (0, 1):
        for after in (0, 1):
            expected = int(((held == before) & (now_held == after)).sum())
            assert counts.get((names[before], names[after]), 0) == expected
    assert found["agreement"] == pytest.approx((held == now_held).mean())
    # Labels of what the models may have learned from are left out: version 3 was trained at the end of March.
    fresh = pc.greater_equal(
        features["event_timestamp"],
        pa.scalar(store.contract.month_start("2025-04"), features["event_timestamp"].type),
    ).to_numpy()
    statements = store.read("fraud_labels", first_month="2025-03")
    labels = labels_as_of(features, statements, datetime.now(UTC), maturity_days=store.contract.maturity_days)
    y = labels["is_fraud"].to_numpy(zero_copy_only=False).astype(bool) & fresh
    said, amount = found["labels"], features["amount"].to_numpy()
    assert (said["n_known"], said["n_fraud"], said["n_learned_from"]) == (fresh.sum(), y.sum(), (~fresh).sum())
    assert said["frauds_gained"] == (y & now_held & ~held).sum()
    assert said["frauds_lost"] == (y & held & ~now_held).sum()
    assert said["value_lost"] == pytest.approx(amount[y & held & ~now_held].sum())
    assert sum(row["n"] for row in found["segments"] if row["segment"] == "merchant_segment") == n
    assert found["comparison"]["beside"] == 2
    assert found["comparison"]["n"] == fresh.sum()
    differences = [abs(one["before"] - one["after"]) for one in found["largest"]]
    assert differences == sorted(differences, reverse=True)
    assert differences[0] == pytest.approx(np.abs(own.score(features) - other.score(features)).max())


def test_replay_of_what_answered_changes_nothing(small: SmallWorld) -> None:
    keep(small, ["2025-04"])
    found = asked(small, 2)
    assert found["agreement"] == 1
    assert found["mean_difference"] == pytest.approx(0, abs=1e-12)
    assert (found["labels"]["frauds_gained"], found["labels"]["frauds_lost"]) == (0, 0)


def test_what_people_see_of_a_replay_names_no_transaction(small: SmallWorld) -> None:
    keep(small, ["2025-04"])
    shown = io.StringIO()
    show_replay(Console(file=shown, width=150), asked(small))
    text = shown.getvalue()
    assert "Version 3 on " in text
    assert "of them frauds" in text
    identifiers = rows_of(small, "SELECT transaction_id FROM scored_transactions WHERE length(transaction_id) > 3")
    assert not any(f" {key} " in text for (key,) in identifiers)


def test_a_version_that_takes_what_was_not_kept_is_refused_by_the_features_name(small: SmallWorld) -> None:
    keep(small, ["2025-03"], most=10)
    keep(small, ["2025-04"], most=10)
    gone = small.registry.fetch(3)[1].features[0]
    rows_of(small, f"UPDATE scored_transactions SET features = (features::jsonb - '{gone}')::json "
            "WHERE number % 2 = 0 RETURNING 1")  # fmt: skip
    rows_of(small, f"UPDATE scored_transactions SET features = (features::jsonb - '{gone}')::json RETURNING 1")
    with pytest.raises(
        ReplayError, match=f"takes the feature '{gone}', which was not kept with 20 scores of version 2"
    ):
        asked(small)
    # With what was kept beside it for another model, it can be.
    rows_of(small, f"UPDATE scored_transactions SET more_features = '{{\"{gone}\": 1.5}}' RETURNING 1")
    assert asked(small)["n"] == 20


def test_a_span_without_scores_and_one_that_is_too_large_are_refused(
    small: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ReplayError, match=r"no score was kept of a transaction from 2025-03-01 until 2025-05-01"):
        asked(small)
    keep(small, ["2025-04"])
    monkeypatch.setattr("fraud_assets.core.rollout.replay.MOST_ROWS", 100)
    with pytest.raises(ReplayError, match="replay a shorter span, with --from and --to"):
        asked(small)
