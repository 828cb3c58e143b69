"""Scoring on a model small enough to work out by hand: probability = 1 / (1 + exp(-(ln 3 * a - b)))."""

import math

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from fraud_assets.core.models.encoding import Encoder, TextEncoding
from fraud_assets.core.models.scoring import ModelManifest, Scorer, ScoringError, digest_model

CONTRACT = """
name: example
first_month: 2024-01
event_timestamp: {column: time}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""


WEIGHTS = (math.log(3), -1.0)


def logistic_model(weights=WEIGHTS, input_name="features"):
    width = len(weights)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [input_name], ["x"], to=TensorProto.DOUBLE),
            helper.make_node("MatMul", ["x", "w"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["p"]),
            helper.make_node("Reshape", ["p", "shape"], ["probability"]),
        ],
        "example",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("probability", TensorProto.DOUBLE, ["n"])],
        [
            numpy_helper.from_array(np.array(weights).reshape(-1, 1), "w"),
            numpy_helper.from_array(np.array([-1], dtype=np.int64), "shape"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


MODEL = logistic_model()


def manifest(**changes):
    base = {
        "model_name": "example",
        "model_version": 7,
        "trained_month": "2024-06",
        "as_of": "2024-07-01T00:00:00+00:00",
        "features": ("a", "b"),
        "threshold": 0.75,
        "family": "logistic_regression",
        "contract_yaml": CONTRACT,
        "model_digest": digest_model(MODEL),
        "metrics": {"average_precision": 0.5},
    }
    return ModelManifest(**(base | changes))


@pytest.fixture(scope="module")
def scorer():
    return Scorer(MODEL, manifest())


def table(a=(0.0,), b=(0.0,)):
    return pa.table({"b": pa.array(b, pa.float32()), "other": ["x"] * len(a), "a": pa.array(a, pa.float32())})


def test_probabilities_are_those_worked_out_by_hand(scorer):
    # ln 3 in float32 is the model's; logit ln 3 is 3:1, logit 0 is 1:1, logit -ln 3 is 1:3.
    X = np.array([[1, 0], [0, 0], [-1, 0]], dtype=np.float32)
    np.testing.assert_allclose(scorer.probabilities(X), [0.75, 0.5, 0.25], rtol=0, atol=1e-15)


def test_columns_are_taken_by_name_and_not_by_position(scorer):
    # b alone: logit -2, 1 / (1 + e^2) = 0.119203.
    scores = scorer.score_table(table(a=[0.0], b=[2.0]))
    assert scores["score"].to_pylist() == pytest.approx([0.1192029220221175], abs=1e-15)


def test_a_score_at_the_threshold_goes_to_review_and_one_below_it_does_not(scorer):
    scores = Scorer(MODEL, manifest(threshold=0.5)).score_table(table(a=[0.0, -0.001], b=[0.0, 0.0]))
    assert scores["decision"].to_pylist() == ["review", "approve"]
    assert scores["score"][0].as_py() == 0.5


def test_every_row_carries_the_version_of_the_model(scorer):
    scores = scorer.score_table(table(a=[0.0, 1.0], b=[0.0, 0.0]))
    assert scores.schema.names == ["score", "decision", "model_version"]
    assert scores["model_version"].to_pylist() == [7, 7]


def test_an_empty_table_gives_an_empty_table(scorer):
    assert scorer.score_table(table(a=[], b=[])).num_rows == 0


def test_whole_numbers_and_booleans_are_numbers_too(scorer):
    scores = scorer.score_table(pa.table({"a": pa.array([2**40 + 1], pa.int64()), "b": [True]}))
    assert scores["score"].to_pylist() == [1.0]


def test_bytes_that_are_not_those_of_the_manifest_are_refused():
    with pytest.raises(ScoringError, match="changed or swapped"):
        Scorer(logistic_model(weights=(1.0, 1.0)), manifest())


def test_bytes_that_are_no_model_are_refused():
    with pytest.raises(ScoringError, match="cannot read example version 7"):
        Scorer(b"no model", manifest(model_digest=digest_model(b"no model")))


def test_a_model_with_another_input_is_refused():
    other = logistic_model(input_name="X")
    with pytest.raises(ScoringError, match="does not take 'features'"):
        Scorer(other, manifest(model_digest=digest_model(other)))


def test_a_manifest_that_names_more_features_than_the_model_takes_is_refused():
    with pytest.raises(ScoringError, match="takes 2 features, its manifest names 3"):
        Scorer(MODEL, manifest(features=("a", "b", "c")))


def test_an_array_of_another_width_is_refused(scorer):
    with pytest.raises(ScoringError, match=r"rows of 2 features, got an array of shape \(1, 3\)"):
        scorer.probabilities(np.zeros((1, 3), dtype=np.float32))


def test_a_missing_column_is_named(scorer):
    with pytest.raises(ScoringError, match="lacks the features b;"):
        scorer.score_table(pa.table({"a": [1.0]}))


def test_a_column_of_text_is_named(scorer):
    with pytest.raises(ScoringError, match="feature 'b' has type string"):
        scorer.score_table(pa.table({"a": [1.0], "b": ["1"]}))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
def test_an_infinite_value_is_named_by_row_and_feature(scorer, value):
    features = pa.table({"a": [0.0, 0.0], "b": pa.array([0.0, value], pa.float64())})
    with pytest.raises(ScoringError, match="feature 'b' of row 1 is infinite or beyond float32"):
        scorer.score_table(features)


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_row_without_a_probability_is_refused_instead_of_approved(scorer, missing):
    with pytest.raises(ScoringError, match="no probability for row 1, in which b is missing"):
        scorer.score_table(table(a=[0.0, 0.0], b=[0.0, missing]))


# With texts

CHANNEL = TextEncoding("channel", own=("web",), has_other=True, has_missing=True)
CITY = TextEncoding("city", has_rate=True, values=("Köln", "Bonn"), ratios=(0.5, -1.0), missing_ratio=0.25)
ENCODER = Encoder(("a",), (CHANNEL, CITY))
LIGHTS = logistic_model((0.0, 1.0, 2.0, 4.0, 1.0))


@pytest.fixture(scope="module")
def texts():
    return Scorer(
        LIGHTS, manifest(features=("a", "channel", "city"), encoder=ENCODER, model_digest=digest_model(LIGHTS))
    )


def test_texts_are_scored_by_what_was_learned_of_their_values(texts):
    rows = [
        {"a": 1.0, "channel": "web", "city": "Köln"},  # 1 + 0.5
        {"a": 1.0, "channel": "WEB", "city": "nowhere"},  # another value: 2; never seen: 0
        {"a": 1.0, "channel": None, "city": None},  # 4 + 0.25
        {"a": 1.0, "channel": "", "city": "Bonn"},  # 2 - 1
    ]
    expected = [1 / (1 + math.exp(-log_odds)) for log_odds in (1.5, 2.0, 4.25, 1.0)]
    table_of_rows = pa.Table.from_pylist(rows).append_column("further", pa.array(["x"] * 4))
    np.testing.assert_allclose(texts.score(table_of_rows), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(texts.score_rows(rows), texts.score(table_of_rows))
    assert texts.score_table(table_of_rows)["score"].to_pylist() == texts.score(table_of_rows).tolist()


def test_a_text_that_is_missing_or_of_another_type_is_named(texts):
    with pytest.raises(ScoringError, match="lacks the features city;"):
        texts.score(pa.table({"a": [1.0], "channel": ["web"]}))
    with pytest.raises(ScoringError, match="feature 'city' has type int64; the model takes it as text"):
        texts.score(pa.table({"a": [1.0], "channel": ["web"], "city": [1]}))


def test_a_column_without_a_single_value_is_a_text_without_values(texts):
    nothing = pa.table({"a": [1.0], "channel": pa.nulls(1), "city": pa.nulls(1)})
    np.testing.assert_allclose(texts.score(nothing), [1 / (1 + math.exp(-4.25))], rtol=0, atol=1e-12)


def test_the_encoder_survives_json_with_its_manifest():
    original = manifest(features=("a", "channel", "city"), encoder=ENCODER)
    assert ModelManifest.from_json(original.to_json()) == original
    assert original.encoding.columns == (
        "a", "channel = web", "channel: another value", "channel: missing", "city: frauds",
    )  # fmt: skip


def test_an_encoder_of_other_features_is_refused():
    text = manifest().model_copy(update={"encoder": ENCODER}).model_dump_json()
    with pytest.raises(ScoringError, match="the encoder takes"):
        ModelManifest.from_json(text)


def test_a_model_from_before_texts_scores_a_table_of_today():
    """Each category of a text was a feature of its own; today's table has the text."""
    old = manifest(
        features=("a", "channel_is_web"),
        contract_yaml=CONTRACT + "attributes: {channel: {column: c, categories: [web, shop], feature: true}}",
    )
    today = pa.table({"a": [1.0, 1.0], "channel": ["web", "shop"]})
    then = pa.table({"a": [1.0, 1.0], "channel_is_web": [1.0, 0.0]})
    np.testing.assert_array_equal(Scorer(MODEL, old).score(today), Scorer(MODEL, old).score(then))


def test_a_manifest_survives_json():
    original = manifest()
    assert ModelManifest.from_json(original.to_json()) == original
    assert original.contract.name == "example"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("threshold", 1.5),
        ("model_version", 0),
        ("trained_month", "2024-13"),
        ("as_of", "2024-07-01T00:00:00"),
        ("features", ("a", "a")),
        ("features", ()),
        ("family", "naive_bayes"),
        ("model_digest", "abc"),
    ],
)
def test_a_wrong_manifest_is_refused_by_field(field, value):
    text = manifest().model_copy(update={field: value}).model_dump_json(warnings=False)
    with pytest.raises(ScoringError, match=field):
        ModelManifest.from_json(text)
