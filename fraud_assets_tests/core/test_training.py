"""Training: only matured rows, the family that is best out of time, the same input the same model."""

import dataclasses
import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.adapters.packaging import to_onnx
from fraud_assets.core.scoring import ModelManifest, Scorer, digest_model, feature_matrix
from fraud_assets.core.training import TrainingConfig, TrainingError, train

START = dt.datetime(2018, 4, 1, tzinfo=dt.UTC)
DAYS, PER_DAY = 40, 100
NAMES = ("a", "b", "c")
CONFIG = TrainingConfig(review_capacity=5)
TIME = pa.timestamp("us", "UTC")


def rows(fraud, seed=1, days=DAYS, per_day=PER_DAY):
    """`per_day` transactions at the start of each of days 0 to `days`; `fraud(a, b)` is the probability of fraud.

    Feature c is never known.
    """
    generator = np.random.default_rng(seed)
    n = (days + 1) * per_day
    a, b = generator.normal(size=(2, n)).astype(np.float32)
    y = generator.random(n) < fraud(a, b)
    moment = [START + dt.timedelta(days=day) for day in range(days + 1) for _ in range(per_day)]
    features = pa.table(
        {
            "transaction_id": pa.array(range(n)),
            "event_timestamp": pa.array(moment, TIME),
            "customer_id": pa.array(generator.integers(0, 500, n)),
            "a": pa.array(a),
            "b": pa.array(np.where(np.arange(n) % 50 == 0, np.nan, b), from_pandas=True),
            "c": pa.nulls(n, pa.float32()),
        }
    )
    return features, labelled(y, matured=np.ones(n, bool))


def labelled(y, matured):
    return pa.table({"is_fraud": pa.array(y), "is_matured": pa.array(matured)})


def straight(a, b):
    """Log odds that are a straight line: the logistic regression's own world."""
    return 1 / (1 + np.exp(3 - 1.5 * a - 0.8 * b))


def corners(a, b):
    """Fraud where a and b have the same sign: no straight line tells."""
    return np.where(a * b > 0.5, 0.5, 0.01)


def trained(data, config=CONFIG, maturity_days=7.0):
    features, labels = data
    return train(features, labels, NAMES, maturity_days=maturity_days, config=config)


def model_bytes(result):
    return [to_onnx(candidate.estimator, len(NAMES)) for candidate in result.candidates]


@pytest.fixture(scope="module")
def line():
    return rows(straight)


@pytest.fixture(scope="module")
def result(line):
    return trained(line)


def test_the_same_input_gives_the_same_bytes(line, result):
    assert model_bytes(trained(line)) == model_bytes(result)


def test_another_label_gives_other_bytes(line, result):
    features, labels = line
    y = labels["is_fraud"].to_numpy().copy()
    y[:200] = ~y[:200]
    again = trained((features, labelled(y, labels["is_matured"].to_numpy())))
    assert all(one != other for one, other in zip(model_bytes(again), model_bytes(result), strict=True))


@pytest.mark.parametrize(("world", "family"), [(straight, "logistic_regression"), (corners, "hist_gradient_boosting")])
def test_the_family_that_is_best_out_of_time_is_chosen(world, family):
    result = trained(rows(world))
    assert result.chosen.family == family
    assert result.chosen.average_precision == max(candidate.average_precision for candidate in result.candidates)
    assert result.reference.family == "logistic_regression"


def test_only_families_that_were_asked_for_can_be_chosen_and_the_reference_is_there_anyway(line):
    result = trained(line, dataclasses.replace(CONFIG, families=("hist_gradient_boosting",)))
    assert result.chosen.family == "hist_gradient_boosting"
    assert result.reference.family == "logistic_regression"


def test_what_was_used_is_said(line, result):
    """The newest quarter of 40 days begins on day 30."""
    y = line[1]["is_fraud"].to_numpy()
    assert (result.n, result.n_fraud) == (len(y), int(y.sum()))
    assert (result.training_from, result.training_to) == (START, START + dt.timedelta(days=40))
    assert result.validation_from == START + dt.timedelta(days=30)


def test_thresholds_lie_between_nought_and_one(result):
    assert all(0 <= candidate.threshold <= 1 for candidate in result.candidates)


def test_unmatured_rows_are_never_used_whatever_they_hold(line, result):
    features, labels = line
    poison = pa.table(
        {
            "transaction_id": pa.array(range(900)),
            "event_timestamp": pa.array([START + dt.timedelta(days=day) for day in range(-400, 500)], TIME),
            "customer_id": pa.array([1] * 900),
            "a": pa.array(np.full(900, -1e9, np.float32)),
            "b": pa.array(np.full(900, np.inf, np.float32)),
            "c": pa.array(np.full(900, 1.0, np.float32)),
        },
        schema=features.schema,
    )
    half = features.num_rows // 2
    mixed = pa.concat_tables([features.slice(0, half), poison, features.slice(half)])
    # Some are known frauds already, some not known at all.
    unknown = labelled([True, None, False] * 300, [False] * 900)
    again = trained((mixed, pa.concat_tables([labels.slice(0, half), unknown, labels.slice(half)])))
    assert model_bytes(again) == model_bytes(result)
    assert (again.n, again.n_fraud) == (result.n, result.n_fraud)
    assert (again.training_from, again.training_to) == (result.training_from, result.training_to)
    assert [c.threshold for c in again.candidates] == [c.threshold for c in result.candidates]


@pytest.mark.parametrize(
    ("first", "last", "changes"),
    [
        (22, 23, True),
        # Seven days before the validation part, labels were not yet known when it began.
        (23, 30, False),
        (30, 41, True),
    ],
)
def test_the_choice_rests_on_what_was_known_before_the_validation_part_and_on_that_part(
    line, result, first, last, changes
):
    features, labels = line
    y = labels["is_fraud"].to_numpy().copy()
    y[first * PER_DAY : last * PER_DAY] = ~y[first * PER_DAY : last * PER_DAY]
    again = trained((features, labelled(y, np.ones(len(y), bool))))
    shown = {candidate.family: candidate.average_precision for candidate in again.candidates}
    assert (shown != {candidate.family: candidate.average_precision for candidate in result.candidates}) is changes


def test_the_gap_is_a_quarter_of_the_span_when_maturity_is_longer(line):
    """A quarter of 40 days is 10, so with 60 days of maturity the models are fitted on days 0 to 19."""
    features, labels = line
    y = labels["is_fraud"].to_numpy().copy()
    y[20 * PER_DAY : 30 * PER_DAY] = ~y[20 * PER_DAY : 30 * PER_DAY]
    before = trained(line, maturity_days=60)
    after = trained((features, labelled(y, np.ones(len(y), bool))), maturity_days=60)
    assert {c.family: c.average_precision for c in after.candidates} == {
        c.family: c.average_precision for c in before.candidates
    }


def test_scores_are_probabilities_although_genuine_rows_were_left_out():
    """On rows not seen before, the sum of scores is the number of frauds to a tenth."""
    config = dataclasses.replace(CONFIG, genuine_share=0.15, minimum_genuine=0)
    fresh, labels = rows(straight, seed=2, per_day=400)
    for candidate in trained(rows(straight, per_day=400), config).candidates:
        scores = candidate.estimator.predict_proba(feature_matrix(fresh, NAMES))[:, 1]
        assert scores.sum() == pytest.approx(labels["is_fraud"].to_numpy().sum(), rel=0.1)


def test_the_served_model_scores_as_the_trained_one_with_features_that_are_never_known(line, result):
    X = feature_matrix(line[0], NAMES)
    for candidate in result.candidates:
        onnx = to_onnx(candidate.estimator, len(NAMES))
        manifest = ModelManifest(
            model_name="m", model_version=1, trained_month="2018-05", as_of="2018-06-01T00:00:00+00:00", features=NAMES,
            threshold=candidate.threshold, family=candidate.family, contract_yaml="", model_digest=digest_model(onnx),
        )  # fmt: skip
        np.testing.assert_allclose(
            Scorer(onnx, manifest).probabilities(X), candidate.estimator.predict_proba(X)[:, 1], rtol=0, atol=1e-6
        )


def test_smote_changes_the_logistic_regression_and_leaves_the_trees_alone(line, result):
    again = trained(line, dataclasses.replace(CONFIG, smote=True))
    plain = {c.family: to_onnx(c.estimator, 3) for c in result.candidates}
    balanced = {c.family: to_onnx(c.estimator, 3) for c in again.candidates}
    assert balanced["logistic_regression"] != plain["logistic_regression"]
    assert balanced["hist_gradient_boosting"] == plain["hist_gradient_boosting"]


def test_customers_may_be_text_unknown_or_absent(line):
    features, labels = line
    position = features.column_names.index("customer_id")
    text = features.set_column(position, "customer_id", features["customer_id"].cast(pa.string()))
    unknown = features.set_column(position, "customer_id", pa.nulls(features.num_rows, pa.int64()))
    assert model_bytes(trained((text, labels))) == model_bytes(trained((unknown, labels)))
    assert model_bytes(trained((features.drop_columns("customer_id"), labels))) == model_bytes(trained(line))


def test_without_a_matured_row_the_error_says_so(line):
    features, _ = line
    with pytest.raises(TrainingError, match="no transaction has matured yet"):
        trained((features, labelled([None] * features.num_rows, np.zeros(features.num_rows, bool))))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        # Days 0 to 22 lie before the gap of seven days, days 30 to 40 in the validation part.
        (lambda day: day < 0, r"2,300 matured transactions before the validation part have 0 frauds and 2,300 genuine"),
        (lambda day: day >= 0, r"2,300 matured transactions before the validation part have 2300 frauds and 0 genuine"),
        (lambda day: day < 10, r"1,100 matured transactions in the validation part have 0 frauds and 1,100 genuine"),
    ],
)
def test_a_part_of_one_class_trains_nothing_and_the_error_has_the_counts(line, y, message):
    features, _ = line
    day = np.arange(features.num_rows) // PER_DAY
    with pytest.raises(TrainingError, match=message):
        trained((features, labelled(y(day), np.ones(len(day), bool))))


def test_too_few_frauds_train_nothing_and_as_many_as_needed_do(line):
    features, _ = line
    # Two frauds a day: 46 before the gap, 22 in the validation part.
    y = np.arange(features.num_rows) % PER_DAY < 2
    labels = labelled(y, np.ones(len(y), bool))
    assert trained((features, labels), dataclasses.replace(CONFIG, minimum_frauds=22)).n_fraud == 82
    with pytest.raises(TrainingError, match=r"in the validation part have 22 frauds.*training needs 23"):
        trained((features, labels), dataclasses.replace(CONFIG, minimum_frauds=23))


def test_transactions_of_a_single_instant_train_nothing(line):
    features, labels = line
    moment = pa.array([START] * features.num_rows, TIME)
    with pytest.raises(TrainingError, match="0 matured transactions before the validation part"):
        trained((features.set_column(1, "event_timestamp", moment), labels))
