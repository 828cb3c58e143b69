"""Importance and partial dependence of a model whose rule is known."""

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.explanations.behaviour import CURVES, POINTS, Behaviour, behaviour
from fraud_assets.core.models.encoding import Encoder, TextEncoding
from fraud_assets.core.models.scoring import Scorer, digest_model, model_matrix
from fraud_assets_tests.core.models.test_scoring import MODEL
from fraud_assets_tests.core.models.test_scoring import manifest as manifest_of

CONTRACT = """
name: kauf
first_month: 2024-01
event_timestamp: {column: zeit}
amount: {column: betrag, type: number}
attributes:
  kanal: {column: Kanal, type: string, nullable: true}
label: {column: betrug, delay_days: 7}
maturity_days: 7
"""
NUMBERS = ("hour", "is_weekend", "amount")
N = 3000


@pytest.fixture(scope="module")
def rows():
    generator = np.random.default_rng(3)
    amount = generator.uniform(0, 100, N)
    return pa.table(
        {
            "hour": pa.array(generator.uniform(0, 24, N), pa.float32()),
            "is_weekend": pa.array(generator.integers(0, 2, N), pa.float32()),
            "amount": pa.array([None if one < 5 else float(one) for one in amount], pa.float32()),
            "kanal": pa.array([("netz", "laden", None)[one] for one in generator.integers(0, 3, N)], pa.string()),
        }
    )


@pytest.fixture(scope="module")
def scorer(rows):
    """Frauds are amounts above 50, more often in the net."""
    encoder = Encoder(NUMBERS, (TextEncoding("kanal", own=("laden", "netz"), has_missing=True),))
    X = model_matrix(rows, encoder)
    large = np.nan_to_num(X[:, 2]) > 50
    y = large & ((X[:, 4] == 1) | (np.arange(N) % 3 == 0))
    onnx = to_onnx(HistGradientBoostingClassifier(max_iter=40, random_state=0).fit(X, y), X.shape[1])
    return Scorer(onnx, manifest_of(
        features=encoder.inputs, encoder=encoder, contract_yaml=CONTRACT, model_digest=digest_model(onnx),
        family="hist_gradient_boosting",
    ))  # fmt: skip


def test_what_the_rule_is_made_of_moves_scores_most(rows, scorer):
    found = behaviour(scorer, rows, "2024-06")
    assert list(found.importance)[:2] == ["amount", "kanal"]
    assert found.importance["amount"] > found.importance["kanal"] > 5 * found.importance["is_weekend"]
    assert set(found.importance) == set(scorer.manifest.features)
    assert (found.month, found.n, found.unit) == ("2024-06", 300, "log_odds")


def test_a_curve_follows_the_rule_over_usual_values_and_the_missing_one(rows, scorer):
    curves = behaviour(scorer, rows, "2024-06").curves
    amounts = curves["amount"]
    values = [point.value for point in amounts]
    assert values[-1] is None
    assert values[:-1] == sorted(values[:-1])
    assert len(values) <= POINTS + 1
    low = [point.score for point in amounts if point.value is not None and point.value < 40]
    high = [point.score for point in amounts if point.value is not None and point.value > 60]
    assert max(low) < 0.05 < 0.3 < min(high)
    by_channel = {point.value: point.score for point in curves["kanal"]}
    assert set(by_channel) == {"netz", "laden", None}
    assert by_channel["netz"] > by_channel["laden"]


def test_a_curve_is_the_mean_score_with_the_value_in_every_row(rows, scorer):
    """Checked by hand on rows so few that none is left out."""
    some = rows.slice(0, 40)
    found = behaviour(scorer, some, "2024-06")
    for point in found.curves["kanal"]:
        alike = some.set_column(3, "kanal", pa.array([point.value] * 40, pa.string()))
        assert point.score == pytest.approx(scorer.score(alike).mean(), abs=1e-12)


def test_it_is_the_same_again_and_reads_back_equal(rows, scorer):
    found = behaviour(scorer, rows, "2024-06")
    assert behaviour(scorer, rows, "2024-06") == found
    assert Behaviour.from_json(found.to_json()) == found


def test_columns_without_a_value_and_months_without_a_row_are_no_error(rows, scorer):
    empty = pa.table({"amount": pa.nulls(20, pa.float32()), "kanal": pa.nulls(20, pa.string())})
    some = rows.slice(0, 20).select(["hour", "is_weekend"])
    bare = pa.table(
        {name: some[name] for name in some.column_names} | {name: empty[name] for name in empty.column_names}
    )
    found = behaviour(scorer, bare, "2024-06")
    assert all(not math.isnan(value) for value in found.importance.values())
    assert behaviour(scorer, rows.slice(0, 0), "2024-06").curves == {}


def test_a_model_without_attributions_has_curves_alone():
    old = manifest_of(contract_yaml=CONTRACT)
    found = behaviour(Scorer(MODEL, old), pa.table({"a": [0.0, 1.0, 2.0], "b": [1.0, 1.0, 0.0]}), "2024-06")
    assert found.unit is None
    assert not any(found.importance.values())
    assert len(found.curves) <= CURVES
    assert [point.value for point in found.curves["a"]] == [0.0, 1.0, 2.0]
