"""Attributions against SHAP, against the definition, and against the score that they explain."""

import itertools
import math
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.explanations.attributions import METADATA, AttributionError, Explained, Explainer, Trees
from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator

with warnings.catch_warnings():
    # It calls matplotlib's set_bad, which is to go; goes when shap does not.
    warnings.simplefilter("ignore", PendingDeprecationWarning)
    import shap

N, P = 4000, 8
OFFSET = -1.7
CALIBRATORS = [Calibrator(), Calibrator("sigmoid", 0.8, 0.8, -0.3), Calibrator("beta", 0.7, 1.4, -0.5)]


def made(estimator, offset=OFFSET, calibrator=CALIBRATORS[2]):
    """What is explained, and how the model scores."""
    session = onnxruntime.InferenceSession(to_onnx(CalibratedClassifier(estimator, offset, calibrator), P))
    explained = Explained.from_json(session.get_modelmeta().custom_metadata_map[METADATA])
    return Explainer(explained), lambda X: session.run(["probability"], {"features": X})[0]


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(20240601)
    X = generator.lognormal(3, 1.5, size=(N, P)).round(2).astype(np.float32)
    X[:, 0] = generator.integers(0, 50, N)
    X[generator.random((N, P)) < 0.1] = np.nan
    logit = np.nan_to_num(X[:, 1]) / 50 + np.nan_to_num(X[:, 0]) / 20 - 3
    return X, generator.random(N) < 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="module")
def boosting(data):
    return HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=15, random_state=0).fit(*data)


@pytest.fixture(scope="module")
def forest(data):
    return RandomForestClassifier(n_estimators=20, max_leaf_nodes=200, random_state=0).fit(*data)


def test_attributions_of_boosting_are_those_of_shap_and_add_up_to_its_log_odds(data, boosting):
    X = data[0]
    explainer, score = made(boosting)
    found, reference = explainer.checked(X, score(X)), shap.TreeExplainer(boosting)
    np.testing.assert_allclose(found.values, reference.shap_values(X), rtol=0, atol=1e-9)
    assert found.base == pytest.approx(float(reference.expected_value[0]) + OFFSET, abs=1e-9)
    np.testing.assert_allclose(found.raw, boosting.decision_function(X) + OFFSET, rtol=0, atol=1e-9)
    assert found.unit == "log_odds"


def test_attributions_of_a_forest_are_those_of_shap_and_add_up_to_its_share(data, forest):
    X = data[0][:300]
    explainer, score = made(forest)
    found, reference = explainer.checked(X, score(X)), shap.TreeExplainer(forest)
    np.testing.assert_allclose(found.values, reference.shap_values(X)[..., 1], rtol=0, atol=1e-9)
    assert found.base == pytest.approx(float(reference.expected_value[1]), abs=1e-9)
    np.testing.assert_allclose(found.raw, forest.predict_proba(X)[:, 1], rtol=0, atol=1e-9)
    assert found.unit == "share"


def test_attributions_of_a_regression_are_those_of_shap_and_add_up_to_its_log_odds(data):
    X = data[0].astype(np.float64)
    pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression())
    pipeline.fit(X, data[1])
    explainer, score = made(pipeline)
    found = explainer.checked(data[0], score(data[0]))
    scaled = pipeline[:-1].transform(X)
    reference = shap.LinearExplainer(pipeline[-1], shap.maskers.Independent(scaled, max_samples=N))
    np.testing.assert_allclose(found.values, reference.shap_values(scaled), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.raw, pipeline.decision_function(X) + OFFSET, rtol=0, atol=1e-9)


def test_trees_behind_an_imputer_are_explained_by_what_stands_for_a_missing_value(data):
    X = data[0].astype(np.float64)
    trees = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    pipeline = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), trees).fit(X, data[1])
    explainer, score = made(pipeline)
    found = explainer.checked(data[0], score(data[0]))
    reference = shap.TreeExplainer(pipeline[-1]).shap_values(pipeline[0].transform(X))
    np.testing.assert_allclose(found.values, reference, rtol=0, atol=1e-9)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda calibrator: calibrator.method)
def test_every_calibration_leads_from_the_raw_score_to_the_score(data, boosting, forest, calibrator):
    X = data[0][:200]
    for estimator in (boosting, forest, make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())):
        explainer, score = made(estimator.fit(*data), calibrator=calibrator)
        raw = explainer.attributions(X).raw
        np.testing.assert_allclose(explainer.explained.probability(raw), score(X), rtol=0, atol=1e-6)


def test_trees_without_a_split_move_nothing():
    X, y = np.zeros((1000, P), dtype=np.float32), np.arange(1000) < 250
    for estimator in (
        HistGradientBoostingClassifier(max_iter=3).fit(X, y),
        RandomForestClassifier(n_estimators=3, bootstrap=False).fit(X, y),
    ):
        explainer, score = made(estimator, 0.0, Calibrator())
        found = explainer.checked(X, score(X))
        assert not found.values.any()
        assert explainer.explained.probability(found.raw) == pytest.approx(np.full(1000, 0.25), abs=1e-9)


def test_what_is_kept_is_the_same_for_the_same_model_and_reads_back_equal(boosting):
    explained = made(boosting)[0].explained
    again = Explained.from_json(explained.to_json())
    assert again.to_json() == explained.to_json()
    assert again.trees is not None
    assert all(np.array_equal(getattr(again.trees, name), values) for name, values in vars(explained.trees).items())


def test_attributions_of_another_model_are_refused(data, boosting, forest):
    X = data[0][:5]
    with pytest.raises(AttributionError, match=r"row . do not add up to its score"):
        made(boosting)[0].checked(X, made(forest)[1](X))


def test_a_model_with_columns_that_are_not_the_row_s_own_has_none(data):
    pipeline = make_pipeline(SimpleImputer(add_indicator=True), LogisticRegression(max_iter=500))
    proto = onnx.load_from_string(to_onnx(pipeline.fit(*data), P))
    assert METADATA not in {entry.key for entry in proto.metadata_props}


# --- The definition -----------------------------------------------------------------------------------------


def grown(draw):
    """A tree of at most three columns, with a cover for each node; as nested tuples."""

    def node(depth):
        if depth == 0 or draw(st.booleans()):
            return ("leaf", draw(st.integers(-5, 5)), draw(st.integers(1, 9)))
        left, right = node(depth - 1), node(depth - 1)
        return ("split", draw(st.integers(0, 2)), draw(st.integers(0, 3)), draw(st.booleans()), left, right)

    return node(4)


def cover(node):
    return node[2] if node[0] == "leaf" else cover(node[4]) + cover(node[5])


def expected(node, row, known):
    """The tree's value where only some columns are known: both branches count by their cover otherwise."""
    if node[0] == "leaf":
        return float(node[1])
    _, column, split, missing_true, true, false = node
    if column in known:
        goes_true = missing_true if math.isnan(row[column]) else row[column] <= split
        return expected(true if goes_true else false, row, known)
    return (cover(true) * expected(true, row, known) + cover(false) * expected(false, row, known)) / cover(node)


def shapley(node, row):
    """By the definition: the mean over all orders of what a column's becoming known changes."""
    values = np.zeros(len(row))
    for order in itertools.permutations(range(len(row))):
        for place, column in enumerate(order):
            before, after = order[:place], order[: place + 1]
            values[column] += expected(node, row, after) - expected(node, row, before)
    return values / math.factorial(len(row))


def as_arrays(root):
    inner, leaves = [], []

    def put(node):
        if node[0] == "leaf":
            leaves.append(node)
            return len(leaves) - 1, True
        at = len(inner)
        inner.append(None)
        inner[at] = (node, put(node[4]), put(node[5]))
        return at, False

    put(root)
    nodes, (true, true_leaf), (false, false_leaf) = (
        [one[0] for one in inner],
        zip(*(one[1] for one in inner), strict=True),
        zip(*(one[2] for one in inner), strict=True),
    )
    return Trees(
        roots=np.array([0]),
        feature=np.array([node[1] for node in nodes]),
        split=np.array([float(node[2]) for node in nodes]),
        missing_true=np.array([node[3] for node in nodes]),
        true=np.array(true), false=np.array(false), true_leaf=np.array(true_leaf), false_leaf=np.array(false_leaf),
        value=np.array([float(leaf[1]) for leaf in leaves]),
        cover=np.array([float(cover(node)) for node in nodes]),
        leaf_cover=np.array([float(cover(leaf)) for leaf in leaves]),
    )  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_attributions_are_shapley_values_by_their_definition(data):
    root = grown(data.draw)
    if root[0] == "leaf":
        root = ("split", 0, 1, True, root, ("leaf", 3, 2))
    values = st.one_of(st.integers(0, 4).map(float), st.just(math.nan))
    row = data.draw(st.tuples(values, values, values))
    explainer = Explainer(Explained("log_odds", 0.0, trees=as_arrays(root)))
    found = explainer.attributions(np.array([row], np.float32))
    np.testing.assert_allclose(found.values[0], shapley(root, row), rtol=0, atol=1e-12)
    assert found.base == pytest.approx(expected(root, row, ()), abs=1e-12)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_the_raw_score_is_found_again_from_the_score(data, boosting, calibrator):
    explainer, score = made(boosting, calibrator=calibrator)
    X = data[0][:500]
    found = explainer.explained.raw(score(X))
    np.testing.assert_allclose(found, explainer.attributions(X).raw, rtol=0, atol=1e-9)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_forest_s_raw_score_is_the_share_of_fraud_in_its_leaves(data, forest, calibrator):
    explainer, score = made(forest, calibrator=calibrator)
    X = data[0][:500]
    found, smallest = explainer.explained.raw(score(X)), explainer.explained.smallest
    np.testing.assert_allclose(found, np.clip(explainer.attributions(X).raw, smallest, 1 - smallest), rtol=0, atol=1e-9)


def test_the_raw_score_of_a_certain_one_is_infinite_and_of_none_is_none():
    explained = Explained("log_odds", 0.0, calibration=(0.7, 1.4, -0.5))
    assert explained.raw(np.array([0.0, 1.0])).tolist() == [-math.inf, math.inf]
    assert explained.raw(np.array([])).tolist() == []
