"""The drift benchmark's worlds hold the changes they are said to, and its figures count what they say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks import drift as benchmark
from benchmarks.drift import (
    Case,
    Outcome,
    Task,
    champion_of,
    compared_columns,
    figures,
    interval,
    judge_task,
    names_it,
    plans,
)
from benchmarks.drift_peers import psi_columns, rejected_columns
from benchmarks.drift_worlds import (
    CHANGED,
    CHANGES,
    FEATURES,
    FILLED,
    LABELS,
    ROWS,
    TRAINED,
    Change,
    Plan,
    World,
    changed_world,
    delay_labels,
    double_fraud,
    heat_terminals,
    lose_amounts,
    open_segment,
    scale_amounts,
    scale_amounts_of_few,
    shift_clock,
    simulated_world,
    with_shocks,
)
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.drift.findings import Cause, DriftStatus, Finding
from fraud_assets.core.months import shift_month
from fraud_assets.core.simulator import NEW_SEGMENT, SimulatorConfig, simulate_month
from fraud_assets.core.windows import month_window
from fraud_assets.settings import PROJECT_ROOT

BY_NAME = {change.name: change for change in CHANGES}


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """A month of 12,000 transactions."""
    return simulate_month("2025-03", SimulatorConfig(seed=3, customers=200, terminals=400))


@pytest.fixture(scope="module")
def world() -> World:
    return simulated_world(Plan(3, 100, tests=5), load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml"))


def _edited(edit: Callable[..., pa.Table], rows: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """What a change makes of rows of which it touches the second half, and which half that is."""
    touched = np.arange(len(rows)) >= len(rows) // 2
    return edit(rows, touched, np.random.default_rng(5)), touched


# --- changes


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_leaves_what_it_does_not_touch(change: Change, rows: pa.Table) -> None:
    after, touched = _edited(change.edit, rows)
    kept = pa.array(~touched)
    assert after.schema == rows.schema
    assert after.filter(kept).equals(rows.filter(kept))
    assert not after.filter(pa.array(touched)).equals(rows.filter(pa.array(touched)))


def test_scaled_amounts_are_five_percent_more(rows: pa.Table) -> None:
    after, touched = _edited(scale_amounts, rows)
    before = rows["amount"].to_numpy()[touched]
    np.testing.assert_allclose(after["amount"].to_numpy()[touched], before * 1.05, atol=0.0051)


def test_one_customer_in_twenty_pays_three_tenths_more(rows: pa.Table) -> None:
    after, _ = _edited(scale_amounts_of_few, rows)
    before, now = rows["amount"].to_numpy(), after["amount"].to_numpy()
    moved = now != before
    number = len(np.unique(rows["customer_id"].to_numpy()))
    # Customers who buy nothing in the second half cannot be seen.
    assert 0.03 * number < len(np.unique(rows["customer_id"].to_numpy()[moved])) <= round(0.05 * number)
    np.testing.assert_allclose(now[moved], before[moved] * 1.3, atol=0.0051)


def test_one_amount_in_ten_is_lost(rows: pa.Table) -> None:
    after, touched = _edited(lose_amounts, rows)
    assert after["amount"].null_count / touched.sum() == pytest.approx(0.10, abs=0.015)


def test_three_transactions_in_a_hundred_go_to_a_segment_that_was_not_there(rows: pa.Table) -> None:
    after, touched = _edited(open_segment, rows)
    new = pc.equal(after["merchant_segment"], NEW_SEGMENT)
    assert pc.sum(new).as_py() / touched.sum() == pytest.approx(0.03, abs=0.008)
    assert pc.min(after.filter(new)["terminal_id"]).as_py() > pc.max(rows["terminal_id"]).as_py()


def test_a_shifted_clock_is_an_hour_late(rows: pa.Table) -> None:
    after, touched = _edited(shift_clock, rows)
    late = pc.subtract(after["event_timestamp"], rows["event_timestamp"]).to_numpy()
    assert set(late[touched]) == {np.timedelta64(1, "h")}


def test_hot_terminals_have_frauds_at_the_amounts_they_had(rows: pa.Table) -> None:
    after, _ = _edited(heat_terminals, rows)
    new = pc.and_(after["is_fraud"], pc.invert(rows["is_fraud"]))
    assert pc.sum(new).as_py() > 10
    assert pc.count_distinct(after.filter(new)["terminal_id"]).as_py() <= 8  # 2 % of 400
    assert after["amount"].equals(rows["amount"])
    assert pc.all(pc.greater(after.filter(new)["label_timestamp"], after.filter(new)["event_timestamp"])).as_py()


def test_late_labels_come_a_fortnight_later(rows: pa.Table) -> None:
    after, touched = _edited(delay_labels, rows)
    late = pc.subtract(after["label_timestamp"], rows["label_timestamp"]).filter(pa.array(touched)).drop_null()
    assert pc.unique(late).to_pylist() == [timedelta(days=14)]


def test_frauds_of_compromised_terminals_and_cards_double() -> None:
    rows = simulate_month("2025-03", SimulatorConfig(seed=3, customers=2000, terminals=4000))
    after = double_fraud(rows, np.ones(len(rows), np.bool_), np.random.default_rng(5))
    scenario = rows["fraud_scenario"].to_numpy()
    before = np.isin(scenario, (2, 3)).sum()
    added = pc.sum(after["is_fraud"]).as_py() - pc.sum(rows["is_fraud"]).as_py()
    assert added / before == pytest.approx(1, abs=0.25)


# --- worlds


def test_a_changed_world_is_the_same_until_the_change(world: World) -> None:
    changed = changed_world(world, BY_NAME["amounts_scaled"], seed=3)
    before = shift_month(CHANGED, -1)
    for table in (ROWS, LABELS, FEATURES):
        assert changed.tables[table, before] is world.tables[table, before]
    for table in (ROWS, FEATURES):
        assert not changed.tables[table, CHANGED]["amount"].equals(world.tables[table, CHANGED]["amount"])


def test_late_labels_are_missing_in_the_month_in_which_they_begin_to_be(world: World) -> None:
    changed = changed_world(world, BY_NAME["labels_late"], seed=3)
    start = world.contract.month_start(CHANGED)
    known = changed.tables[LABELS, CHANGED]["label_timestamp"]
    assert pc.min(known).as_py() >= start + timedelta(days=14)
    assert pc.min(world.tables[LABELS, CHANGED]["label_timestamp"]).as_py() < start + timedelta(days=14)


def test_statements_are_of_the_month_in_which_they_become_known(world: World) -> None:
    for (table, month), rows in world.tables.items():
        if table == LABELS and rows.num_rows:
            assert world.contract.month_of(pc.min(rows["label_timestamp"]).as_py()) == month
            assert world.contract.month_of(pc.max(rows["label_timestamp"]).as_py()) == month


def test_peers_see_each_column_once(world: World) -> None:
    champion = champion_of(world, FILLED, TRAINED)
    assert "merchant_segment" in champion.scorer.manifest.features
    names = compared_columns(world, champion, month_window(CHANGED, world.contract.zone)).column_names
    assert len(names) == len(set(names))


def test_shocks_are_shared_by_all_rows_of_a_day(rows: pa.Table) -> None:
    shocked = with_shocks(rows, "2025-03", Plan(3, 200, shocks=1.0))
    places = pc.index_in(shocked["transaction_id"], value_set=rows["transaction_id"].combine_chunks())
    factor = shocked["amount"].to_numpy() / rows["amount"].take(places).to_numpy()
    day, large = pc.day(shocked["event_timestamp"]).to_numpy(), shocked["amount"].to_numpy() > 50
    by_day = [factor[large & (day == one)] for one in range(1, 32)]
    assert max(np.ptp(one) for one in by_day) < 0.0003  # amounts have two decimals
    assert 0.01 < np.std([np.mean(one) for one in by_day]) < 0.03
    assert len(shocked) / len(rows) == pytest.approx(0.75, abs=0.1)


def test_half_of_the_worlds_have_shocks() -> None:
    assert [plan.shocks for plan in plans(8, 10)] == [0.0, 1.0, 0.0, 0.5] * 2


def test_a_world_that_is_kept_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def judge(task: Task) -> list[Outcome]:
        judged.append(task.name)
        return [_said("OK" if task.plan.seed else "WATCH")]

    monkeypatch.setattr(benchmark, "judge_world", judge)
    tasks = [Task(Plan(seed), group, peers, tmp_path / "kept")
             for seed in (0, 1) for group in ("plain", "small") for peers in (None, tmp_path)]  # fmt: skip
    first, again = ([judge_task(task) for task in tasks] for _ in range(2))
    assert first == again == [judge(task) for task in tasks]
    assert len(judged) == 2 * len(tasks)
    judge_task(Task(tasks[0].plan, "plain", None))
    assert len(judged) == 2 * len(tasks) + 1


def test_a_world_that_fails_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_task: Task) -> list[Outcome]:
        raise RuntimeError("no memory")

    monkeypatch.setattr(benchmark, "judge_world", fail)
    task = Task(Plan(0), "plain", None, tmp_path)
    with pytest.raises(RuntimeError, match="no memory"):
        judge_task(task)
    monkeypatch.setattr(benchmark, "judge_world", lambda _task: [_said("OK")])
    assert judge_task(task) == [_said("OK")]


# --- figures


def _said(status: DriftStatus, change: str | None = None, cause: Cause | None = None, **more: object) -> Outcome:
    finding = Finding(kind="covariate", feature="amount", method="none", status=status, reason="it moved", cause=cause)
    moved = () if status == "OK" else (finding,)
    blame = None if status == "OK" else "world"
    case = Case("plain 0", "plain", CHANGED, BY_NAME.get(change or ""))
    return Outcome(case, status, blame, moved, 1.0, **{"estimate": None, "truth": 0.5, **more})  # type: ignore[arg-type]


def test_the_interval_of_a_share_is_the_exact_one() -> None:
    # Clopper and Pearson, 1934: of 0 in 20 the upper bound is 1 - 0.025 ^ (1 / 20).
    assert interval(0, 20) == (0.0, pytest.approx(1 - 0.025 ** (1 / 20)))
    assert interval(20, 20) == (pytest.approx(0.025 ** (1 / 20)), 1.0)


def test_false_alarms_are_counted_over_months_in_which_nothing_changed() -> None:
    said = [_said("OK"), _said("OK"), _said("WATCH"), _said("DRIFT"), _said("DRIFT", "amounts_scaled", "scaled")]
    rows = {row.name: row for row in figures(said)}
    assert (rows["false_drift_rate"].value, rows["false_watch_rate"].value) == (0.25, 0.25)
    assert rows["false_drift_rate"].holds is False
    # Clopper and Pearson's interval of 1 in 4, and 3 in 4 is 1 minus it.
    assert rows["false_drift_rate"].unit == "of 4 (0.006 to 0.806)"


@pytest.mark.parametrize(
    ("status", "cause", "named"),
    [("DRIFT", "scaled", True), ("DRIFT", "distribution", False), ("WATCH", "scaled", False)],
)
def test_a_change_is_named_by_a_drift_with_its_cause(status: DriftStatus, cause: Cause, named: bool) -> None:
    assert names_it(_said(status, "amounts_scaled", cause)) is named


def test_broken_data_is_not_named_by_blaming_the_world() -> None:
    assert not names_it(_said("DRIFT", "clock_shifted", "shifted_clock"))


def test_evidently_calls_a_month_drifted_when_half_of_its_columns_are() -> None:
    peers = {"columns": ["a", "b", "c", "d"], "nannyml": [], "tests": [], "psi": ["a"]}
    said = [_said("OK", peers=peers | {"evidently": some}) for some in (["a"], ["a", "b"])]
    rows = {row.name: row.value for row in figures(said)}
    assert rows["evidently_month_false_drift_rate"] == 0.5
    assert rows["evidently_false_drift_rate"] == rows["psi_false_drift_rate"] == 1.0
    assert rows["nannyml_false_drift_rate"] == 0.0


def test_an_estimate_that_is_not_known_covers_nothing_and_misses_nothing() -> None:
    said = [
        _said("OK", estimate=(0.4, 0.3, 0.6), cbpe=0.8),
        _said("OK", estimate=(0.4, 0.3, 0.45)),
        _said("OK"),
    ]
    rows = {row.name: row.value for row in figures(said)}
    assert rows["estimate_known_rate"] == pytest.approx(2 / 3)
    assert rows["estimate_coverage"] == 0.5
    # Only the first has both.
    assert (rows["estimate_distance"], rows["cbpe_distance"]) == (pytest.approx(0.1), pytest.approx(0.3))


# --- peers


def test_psi_finds_what_moved_far_and_what_went_missing() -> None:
    values = np.arange(1000.0)
    before = pd.DataFrame({"same": values, "moved": values, "lost": values})
    now = pd.DataFrame({"same": values, "moved": values + 300, "lost": np.where(values % 10 < 3, np.nan, values)})
    assert psi_columns(before, now) == ["moved", "lost"]


def test_columns_are_tested_by_their_type() -> None:
    values = np.arange(1000.0)
    before = pd.DataFrame({"same": values, "moved": values, "word": ["a", "b"] * 500, "text": ["a", "b"] * 500})
    now = before.assign(moved=values + 100, text=["a", "b", "b", "b"] * 250)
    assert rejected_columns(before, now) == ["moved", "text"]
