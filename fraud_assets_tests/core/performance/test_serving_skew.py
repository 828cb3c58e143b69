"""Serving skew: each way in which a feature can differ is counted by itself, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.performance.serving_skew import Skew, skew_in_words

FLAT = parse_contract("""
name: flat
first_month: 2025-01
event_timestamp: {column: time}
attributes: {risk: {column: risk, type: number}}
label: {column: fraud, delay_days: 7}
maturity_days: 10
""")
SCHEMA = TABLES["serving_skew"](FLAT).schema
BATCH = pa.table({
    "transaction_id": ["a", "b", "c", "d"],
    "x": [1.0, 2.0, None, 4.0],
    "kanal": ["netz", None, "laden", "netz"],
    "neu": [True, False, None, True],
    "klein": pa.array([0.1, 0.2, 0.3, 0.4], pa.float32()),
})  # fmt: skip


def rows_of(served, names=("x", "kanal", "neu", "klein"), batch=BATCH):
    skew = Skew(batch, {3: list(names)})
    for part in served:
        skew.add(part)
    return {row["feature"]: row for row in skew.rows("2025-03", SCHEMA).to_pylist()}


def served(ids, x, kanal=None, neu=None, klein=None, version=3):
    n = len(ids)
    return pa.table({
        "transaction_id": ids, "model_version": pa.array([version] * n, pa.int64()), "x": pa.array(x, pa.float64()),
        "kanal": pa.array(kanal or [None] * n, pa.string()), "neu": pa.array(neu or [None] * n, pa.bool_()),
        "klein": pa.array(klein or [None] * n, pa.float32()),
    })  # fmt: skip


def test_what_is_missing_too_much_or_another_value_is_counted_apart():
    part = served(["d", "a", "z", "c", "b"], [4.0, None, 9.0, 5.0, 3.0], ["netz", "Netz", None, None, "x"])
    found = rows_of([part])
    x = found["x"]
    assert (x["n_scored"], x["n_matched"]) == (5, 4)
    assert (x["n_missing"], x["n_extra"], x["n_mismatch"], x["skewed_share"]) == (1, 1, 1, 0.75)
    # Of the two that both sides have: |4 - 4| + |3 - 2| over 8 + 5.
    assert x["smape"] == pytest.approx(1 / 13)
    assert x["largest_difference"] == 1.0
    kanal = found["kanal"]
    assert (kanal["n_missing"], kanal["n_extra"], kanal["n_mismatch"]) == (1, 1, 1)
    assert kanal["smape"] is None


def test_the_same_features_have_no_skew_in_whatever_order_and_parts_they_come():
    parts = [
        served(["d", "a"], [4.0, 1.0], ["netz", "netz"], [True, True], [0.4, 0.1]),
        served(["c", "b"], [None, 2.0 + 1e-9], ["laden", None], [None, False], [0.3, 0.2]),
    ]
    found = rows_of(parts)
    for row in found.values():
        assert (row["n_matched"], row["n_missing"], row["n_extra"], row["n_mismatch"]) == (4, 0, 0, 0), row
    assert skew_in_words(list(found.values())) is None


def test_a_large_number_may_differ_by_a_millionth_of_itself():
    batch = pa.table({"transaction_id": ["a", "b"], "x": [1e9, 1e9]})
    found = rows_of([served(["a", "b"], [1e9 + 100, 1e9 + 10_000])], ["x"], batch)
    assert found["x"]["n_mismatch"] == 1


def test_zeros_on_both_sides_are_no_difference():
    batch = pa.table({"transaction_id": ["a"], "x": [0.0]})
    assert rows_of([served(["a"], [-0.0])], ["x"], batch)["x"]["smape"] == 0.0


def test_a_nan_is_a_missing_value():
    batch = pa.table({"transaction_id": ["a", "b"], "x": [np.nan, 1.0]})
    found = rows_of([served(["a", "b"], [None, np.nan])], ["x"], batch)["x"]
    assert (found["n_missing"], found["n_extra"], found["n_mismatch"]) == (1, 0, 0)


def test_transactions_that_the_batch_does_not_have_are_told():
    found = rows_of([served(["y", "z"], [1.0, 2.0])])
    assert (found["x"]["n_scored"], found["x"]["n_matched"], found["x"]["smape"]) == (2, 0, None)
    assert found["x"]["reason"] == "none of the scored transactions is in the batch"
    assert "no transaction that version 3 scored is in the batch" in str(skew_in_words(list(found.values())))


def test_a_feature_that_is_made_no_longer_is_told():
    found = rows_of([served(["a"], [1.0])], ["x", "old"])
    assert found["old"]["reason"] == "the batch has no such feature any more"
    assert skew_in_words(list(found.values())) == "the batch has no old any more"


def test_what_differs_in_more_than_one_in_a_hundred_is_told_the_furthest_first():
    ids = [f"t{n}" for n in range(200)]
    batch = pa.table({"transaction_id": ids, "x": np.ones(200), "klein": np.ones(200)})
    x, klein = np.ones(200), np.ones(200)
    x[:2], klein[:3] = 2, 2
    part = served(ids, x, klein=klein.tolist())
    found = list(rows_of([part], ["x", "klein"], batch).values())
    assert skew_in_words(found) == "1 features differ in more than 1.00 % of transactions: klein (1.50 % of version 3)"
    assert skew_in_words([]) is None
