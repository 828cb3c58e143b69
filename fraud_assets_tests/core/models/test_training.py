"""Training: only matured rows, the family that is best out of time, the same input the same model."""

import dataclasses
import datetime as dt
import hashlib
import os
import pickle
import subprocess
import sys
import time
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.models import fitting, training, workers
from fraud_assets.core.models.scoring import Family, ModelManifest, Scorer, digest_model, feature_matrix, model_matrix
from fraud_assets.core.models.training import TrainingError, train
from fraud_assets.core.models.training_config import FEW_GRID, GRID, REFERENCE, Setting, TrainingConfig
from fraud_assets.core.models.validation import Rows, plan
from fraud_assets.core.statistics.metrics import average_precision
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.settings import PROJECT_ROOT

START = dt.datetime(2018, 4, 1, tzinfo=dt.UTC)
DAYS, PER_DAY = 40, 100
NAMES = ("a", "b", "c")
CONFIG = TrainingConfig(review_capacity=5, maximum_trees=50)
TIME = pa.timestamp("us", "UTC")
FOREST = Setting("random_forest", "small", {"n_estimators": 10, "max_leaf_nodes": 50, "min_samples_leaf": 3})
SMALL_FOREST = (*(setting for setting in GRID if setting.family != "random_forest"), FOREST)


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


def trained(data, config=CONFIG, maturity_days=7.0, card="customer_id"):
    features, labels = data
    return train(features, labels, NAMES, maturity_days=maturity_days, config=config, card=card)


def served(candidate):
    onnx = to_onnx(candidate.estimator, len(NAMES))
    manifest = ModelManifest(
        model_name="m", model_version=1, trained_month="2018-05", as_of="2018-06-01T00:00:00+00:00", features=NAMES,
        threshold=candidate.threshold, family=candidate.family, contract_yaml="", model_digest=digest_model(onnx),
    )  # fmt: skip
    return Scorer(onnx, manifest)


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


def test_the_promise_has_the_rows_of_the_validation_part_as_they_were_labelled(line, result):
    """The newest quarter of 40 days: days 30 to 40 of 100 transactions, with what is no feature."""
    promise, y = result.validation, line[1]["is_fraud"].to_numpy()
    assert promise.column_names == ["transaction_id", "event_timestamp", "customer_id", "is_fraud", "score"]
    assert promise["transaction_id"].to_pylist() == list(range(3000, 4100))
    assert promise["is_fraud"].to_pylist() == y[3000:].tolist()


def test_the_promise_keeps_the_amount_though_it_is_a_feature(line):
    features, labels = line
    renamed = features.rename_columns([{"a": "amount"}.get(name, name) for name in features.column_names])
    found = train(renamed, labels, ("amount", "b", "c"), maturity_days=7.0, config=CONFIG, card=None).validation
    assert found["amount"].equals(renamed["amount"].slice(3000))


def test_the_promise_is_the_average_precision_by_which_the_candidate_was_chosen(result):
    promise = result.validation
    shown = average_precision(promise["is_fraud"].to_numpy(), promise["score"].to_numpy())
    assert shown == pytest.approx(result.chosen.average_precision)


def test_the_promise_was_made_by_models_that_had_not_seen_its_rows(line):
    """Labels of the validation part are turned around: a model that had learned them would rank otherwise."""
    features, labels = line
    y = labels["is_fraud"].to_numpy().copy()
    y[3000:] = ~y[3000:]
    grid = (Setting("logistic_regression", "one", {"C": 1.0}), *(one for one in GRID if one.family != REFERENCE))
    config = dataclasses.replace(CONFIG, families=(REFERENCE,), grid=grid)
    promises = [
        trained(data, config).validation for data in (line, (features, labelled(y, labels["is_matured"].to_numpy())))
    ]
    ranks = [np.argsort(promise["score"].to_numpy(), kind="stable") for promise in promises]
    np.testing.assert_array_equal(*ranks)


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
        np.testing.assert_allclose(
            served(candidate).probabilities(X), candidate.estimator.predict_proba(X)[:, 1], rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("imbalance", ["undersample", "none", "class_weight", "smote", "borderline_smote"])
def test_scores_are_probabilities_whatever_was_done_about_imbalance(imbalance):
    """On rows not seen before, the sum of scores is the number of frauds to a fifth; nothing was calibrated."""
    config = dataclasses.replace(CONFIG, imbalance=imbalance, minimum_genuine=500, calibration_frauds=10**9)
    fresh, labels = rows(straight, seed=2)
    for candidate in trained(rows(straight), config).candidates:
        assert candidate.calibration.calibrator.method == "none"
        scores = candidate.estimator.predict_proba(feature_matrix(fresh, NAMES))[:, 1]
        assert scores.sum() == pytest.approx(labels["is_fraud"].to_numpy().sum(), rel=0.2)


@pytest.mark.parametrize("imbalance", ["none", "class_weight", "smote", "borderline_smote"])
def test_each_way_with_imbalance_gives_another_model_and_the_same_one_again(line, result, imbalance):
    config = dataclasses.replace(CONFIG, imbalance=imbalance, minimum_genuine=500)
    found = model_bytes(trained(line, config))
    assert found == model_bytes(trained(line, config))
    undersampled = model_bytes(trained(line, dataclasses.replace(CONFIG, minimum_genuine=500)))
    assert all(one not in undersampled for one in found)


def test_undersampling_keeps_every_fraud_and_the_share_of_the_genuine_within_its_bounds():
    """Of 10,000 genuine rows a fifth is 2,000; at least 4,000 or at most 1,000 of them say otherwise."""
    y = np.arange(10_100) < 100
    config = dataclasses.replace(CONFIG, genuine_share=0.2, minimum_genuine=0)
    for changes, expected in (({}, 2000), ({"minimum_genuine": 4000}, 4000), ({"maximum_genuine": 1000}, 1000)):
        kept, weight = fitting._taken(y, None, dataclasses.replace(config, **changes))
        assert kept[:100].all()
        assert kept[100:].sum() == pytest.approx(expected, rel=0.1)
        assert weight is None


def test_class_weights_balance_the_classes():
    y = np.arange(100) < 10
    kept, weight = fitting._taken(y, None, dataclasses.replace(CONFIG, imbalance="class_weight"))
    assert kept.all()
    assert weight[:10].tolist() == pytest.approx([9.0] * 10)
    assert weight[10:].tolist() == [1.0] * 90


def test_rows_count_half_as_much_for_every_half_life_of_age():
    days = np.array([0, 15, 30]) * MICROSECONDS_PER_DAY
    config = dataclasses.replace(CONFIG, half_life_days=15.0)
    assert fitting._counts(days, None, config).tolist() == [0.25, 0.5, 1.0]
    assert fitting._counts(days, np.array([4.0, 1.0, 3.0]), config).tolist() == [1.0, 0.5, 3.0]
    kept, weight = fitting._taken(np.array([True, False, True]), np.array([0.25, 0.5, 1.0]), config)
    assert weight.tolist() == np.array([0.25, 0.5, 1.0])[kept].tolist()


def test_a_model_with_decayed_weights_follows_the_newest_rows():
    """In the newest 10 of 40 days low values of a are the fraudulent ones; a short half-life forgets the others."""
    features, _ = rows(straight)
    a = features["a"].to_numpy()
    late = np.arange(len(a)) >= 30 * PER_DAY
    y = np.random.default_rng(3).random(len(a)) < np.where((a < 0) == late, 0.4, 0.02)
    # Calibration looks at models from before the change.
    config = dataclasses.replace(CONFIG, families=("logistic_regression",), calibration_frauds=10**9)
    labels = labelled(y, np.ones(len(y), bool))
    low, high = np.array([[-2, 0, np.nan], [2, 0, np.nan]], np.float32)
    for half_life, forgets in ((None, False), (3.0, True)):
        model = trained((features, labels), dataclasses.replace(config, half_life_days=half_life)).chosen.estimator
        scores = model.predict_proba(np.array([low, high]))[:, 1]
        assert bool(scores[0] > 5 * scores[1]) is forgets


# --- choices


def test_a_longer_window_validates_on_two_blocks_of_28_days_and_a_model_fitted_before_each():
    """A quarter of 240 days is 60: the blocks begin on days 184 and 212, and fit on rows before days 177 and 205."""
    data = rows(straight, days=240, per_day=20)
    result = trained(data, dataclasses.replace(CONFIG, families=("logistic_regression",)))
    assert result.validation_from == START + dt.timedelta(days=184)
    [trial] = result.trials
    assert len(trial.of_blocks) == 2
    assert trial.average_precision == pytest.approx(np.mean(trial.of_blocks))
    day = np.arange(241 * 20) // 20
    matrix = Rows(feature_matrix(data[0], NAMES), data[1]["is_fraud"].to_numpy(), day * MICROSECONDS_PER_DAY)
    older, newer = plan(matrix, 7.0, CONFIG).blocks
    for block, before, start, end in ((older, 176, 184, 211), (newer, 204, 212, 240)):
        assert day[block.fit].max() == before
        assert (day[block.validation].min(), day[block.validation].max()) == (start, end)


def test_blocks_without_enough_frauds_give_way_to_the_whole_validation_part():
    """50 frauds lie in days 180 to 199, none in the block that begins on day 212."""
    features, _ = rows(straight, days=240, per_day=20)
    row = np.arange(features.num_rows)
    day = row // 20
    y = (row % 20 == 0) & (day < 160) | (row % 8 == 0) & (day >= 180) & (day < 200)
    result = trained((features, labelled(y, np.ones(len(y), bool))), dataclasses.replace(CONFIG, few_frauds=0))
    assert result.validation_from == START + dt.timedelta(days=180)
    assert all(len(trial.of_blocks) == 1 for trial in result.trials)


def test_every_setting_that_was_tried_is_told_and_the_best_of_a_family_is_taken(result):
    names = [(trial.setting.family, trial.setting.name) for trial in result.trials]
    wanted = [(setting.family, setting.name) for setting in GRID if setting.family != "random_forest"]
    assert sorted(names) == sorted(wanted)
    for candidate in result.candidates:
        own = [trial.average_precision for trial in result.trials if trial.setting.family == candidate.family]
        assert candidate.average_precision == candidate.trial.average_precision == max(own)


def test_boosting_stops_where_the_log_loss_of_the_newest_rows_is_lowest():
    """Labels that nothing tells are learned by heart: the fewest trees are best. A clear rule takes more."""
    config = dataclasses.replace(CONFIG, families=("hist_gradient_boosting",))
    by_heart = trained(rows(lambda a, b: np.full(len(a), 0.2)), config).chosen
    assert by_heart.trial.trees == by_heart.estimator.estimator.n_iter_ == 25
    waves = rows(lambda a, b: 1 / (1 + np.exp(3 - 6 * np.sin(2 * a) * np.sin(2 * b))), per_day=400)
    assert trained(waves, config).chosen.trial.trees > 25


def test_a_random_forest_is_there_for_who_asks_for_it_and_is_served_as_trained(line):
    result = trained(line, dataclasses.replace(CONFIG, families=("random_forest",), grid=SMALL_FOREST))
    assert result.chosen.family == "random_forest"
    X = feature_matrix(line[0], NAMES)
    np.testing.assert_allclose(
        served(result.chosen).probabilities(X), result.chosen.estimator.predict_proba(X)[:, 1], rtol=0, atol=1e-6
    )


def test_the_threshold_is_one_of_calibrated_scores():
    """1 of 20 transactions a day of the newest 10 days: its score is what the served model gives, not the raw one."""
    data = rows(straight, per_day=400)
    config = dataclasses.replace(CONFIG, families=("logistic_regression",), review_capacity=20)
    chosen = trained(data, config).chosen
    scores = chosen.estimator.predict_proba(feature_matrix(data[0], NAMES))[-400 * 10 :, 1]
    assert (scores >= chosen.threshold).mean() == pytest.approx(0.05, abs=0.01)


# --- the same model again


def test_another_process_with_other_hashes_and_threads_gives_the_same_bytes_of_every_family():
    printed = []
    for seed, threads in (("1", "1"), ("2", "2")):
        environment = os.environ | {"PYTHONHASHSEED": seed} | {
            f"{name}_NUM_THREADS": threads for name in ("OMP", "OPENBLAS", "MKL")
        }  # fmt: skip
        run = subprocess.run(
            [sys.executable, "-m", "fraud_assets_tests.core.models.test_training"],
            env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        printed.append(run.stdout.split())
    assert printed[0] == printed[1]
    assert len(set(printed[0])) == len(printed[0]) == 3


# --- bad input


def test_an_infinite_value_trains_nothing_and_the_error_says_where(line):
    features, labels = line
    b = features["b"].to_numpy().copy()
    b[[7, 9]] = np.inf, -np.inf
    position = features.column_names.index("b")
    broken = features.set_column(position, "b", pa.array(b))
    with pytest.raises(TrainingError, match=r"feature 'b' of transaction 7 of 2018-04-01.* is infinite.*one of 2 such"):
        trained((broken, labels))


@pytest.mark.parametrize("family", ["logistic_regression", "hist_gradient_boosting", "random_forest"])
def test_constant_and_never_known_features_change_no_score_and_new_values_have_one(line, family):
    """Feature c is never known in training; then it is, and so is a value of a beyond all that were seen."""
    features, labels = line
    position = features.column_names.index("b")
    constant = features.set_column(position, "b", pa.array(np.full(features.num_rows, 3, np.float32)))
    config = dataclasses.replace(CONFIG, families=(family,), grid=SMALL_FOREST)
    model = trained((constant, labels), config).chosen.estimator
    usual, other = np.array([[0.5, 3, np.nan], [0.5, 3, 7]], np.float32), np.array([[99, 3, np.nan]], np.float32)
    scores = model.predict_proba(usual)[:, 1]
    assert scores[0] == scores[1]
    assert 0 <= model.predict_proba(other)[0, 1] <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": ()}, "no family to train"),
        ({"families": ("perceptron",)}, "no setting for perceptron"),
        ({"grid": GRID[1:]}, "no setting for logistic_regression"),
        ({"imbalance": "hope"}, "imbalance is 'hope'; it can be undersample"),
        ({"window_months": 0}, "window_months is 0"),
        ({"half_life_days": 0.0}, "half_life_days is 0.0"),
        ({"half_life_days": 30.0, "imbalance": "smote"}, "synthetic rows of smote have no age"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


def test_another_setting_has_another_digest_and_the_same_ones_the_same():
    assert TrainingConfig().digest == TrainingConfig().digest
    assert TrainingConfig(seed=8).digest != TrainingConfig().digest
    assert TrainingConfig(grid=SMALL_FOREST).digest != TrainingConfig().digest


def test_customers_may_be_text_unknown_or_absent(line):
    features, labels = line
    position = features.column_names.index("customer_id")
    text = features.set_column(position, "customer_id", features["customer_id"].cast(pa.string()))
    unknown = features.set_column(position, "customer_id", pa.nulls(features.num_rows, pa.int64()))
    assert model_bytes(trained((text, labels))) == model_bytes(trained((unknown, labels)))
    assert model_bytes(trained((features.drop_columns("customer_id"), labels), card=None)) == model_bytes(trained(line))


def test_the_threshold_is_set_by_the_days_of_cards(line):
    """All rows are one customer's: some day of it is left out, where the threshold of single rows would lie lower."""
    features, labels = line
    position = features.column_names.index("customer_id")
    one = features.set_column(position, "customer_id", pa.array(np.ones(features.num_rows, np.int64)))
    by_card, by_row = (trained((one, labels), card=card).chosen.threshold for card in ("customer_id", None))
    assert by_card > by_row


def test_without_a_matured_row_the_error_says_so(line):
    features, _ = line
    with pytest.raises(TrainingError, match="no transaction has matured yet"):
        trained((features, labelled([None] * features.num_rows, np.zeros(features.num_rows, bool))))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (lambda row: row < 0, r"not enough yet: 0 of 30 frauds among 4,100 matured .* since no fraud is known yet"),
        (lambda row: row >= 0, r"all 4,100 matured transactions are fraud"),
        # In 40 days, 1.3 months.
        (lambda row: row == 9, r"1 of 30 frauds among .*; at the present rate of 1 a month, about 2021-07"),
        (
            lambda row: row % 400 == 0,
            r"11 of 30 frauds among 4,100 .*; at the present rate of 8 a month, about 2018-07",
        ),
        (
            lambda row: row > 9,
            r"not enough yet: 10 of 30 genuine transactions among 4,100 matured transactions; at the",
        ),
        # Days 0 to 9, which leave nobody to judge with; and one day's.
        (lambda row: row < 1000, r"after the first 250 of 1000 frauds, and the 7 days .* 0 frauds to judge"),
        (
            lambda row: (row >= 2000) & (row < 2090),
            r"after the first 22 of 90 frauds, .* 0 frauds to judge a model with",
        ),
    ],
)
def test_where_too_few_frauds_are_known_the_error_says_how_many_and_when_there_may_be_enough(line, y, message):
    features, _ = line
    truth = y(np.arange(features.num_rows))
    with pytest.raises(TrainingError, match=message):
        trained((features, labelled(truth, np.ones(len(truth), bool))), dataclasses.replace(CONFIG, window_months=None))


def test_where_the_window_is_too_short_to_ever_hold_enough_the_error_names_the_setting(line):
    features, _ = line
    y = np.arange(features.num_rows) % 400 == 0
    with pytest.raises(TrainingError, match=r"the 2 months .* will hold 17 frauds: set FRAUD_WINDOW_MONTHS"):
        trained((features, labelled(y, np.ones(len(y), bool))), dataclasses.replace(CONFIG, window_months=2))


def test_transactions_of_a_single_instant_train_nothing(line):
    features, labels = line
    moment = pa.array([START] * features.num_rows, TIME)
    with pytest.raises(TrainingError, match="0 frauds to judge a model with"):
        trained((features.set_column(1, "event_timestamp", moment), labels))


# --- few frauds

FEW = dataclasses.replace(
    CONFIG,
    few_trees=5,
    few_grid=tuple(
        dataclasses.replace(setting, parameters={**setting.parameters, "n_estimators": 3})
        if setting.family == "random_forest"
        else setting
        for setting in FEW_GRID
    ),
)


def sparse(n_fraud, seed=1):
    """Frauds spread over 40 days of 20 transactions, with `a` high."""
    features, _ = rows(straight, per_day=20, seed=seed)
    y = np.zeros(features.num_rows, bool)
    y[np.linspace(0, len(y) - 1, n_fraud).astype(int)] = True
    a = features["a"].to_numpy() + 2 * y
    return features.set_column(3, "a", pa.array(a.astype(np.float32))), labelled(y, np.ones(len(y), bool))


@pytest.mark.parametrize("n_fraud", [30, 60])
def test_from_thirty_frauds_on_there_is_a_model_that_says_how_sure_it_is(n_fraud):
    result = trained(sparse(n_fraud))
    chosen, promise = result.chosen, result.validation
    assert result.n_fraud == n_fraud
    assert chosen.average_precision == max(candidate.average_precision for candidate in result.candidates)
    # Judged on all folds together, by models that had not seen them.
    assert len(chosen.trial.of_blocks) == FEW.folds
    judged = average_precision(promise["is_fraud"].to_numpy(), promise["score"].to_numpy())
    assert chosen.average_precision == pytest.approx(judged)
    assert 0 < chosen.interval.low < judged < chosen.interval.high <= 1
    told = chosen.validation_metrics()
    assert told["validation_average_precision_low"] == chosen.interval.low
    assert promise["is_fraud"].to_numpy().sum() >= n_fraud // 2
    # The truth is plain: a fraud's `a` is two standard deviations higher. Chance would be under 0.1.
    assert judged > 0.15


def test_where_frauds_are_few_the_reference_is_the_same_regression_and_forests_compete():
    result = trained(sparse(60), FEW)
    assert result.reference.trial.setting == GRID[0]
    tried = {(trial.setting.family, trial.setting.name) for trial in result.trials}
    assert tried == {(setting.family, setting.name) for setting in (GRID[0], *FEW_GRID)}
    asked = dataclasses.replace(FEW, families=("logistic_regression",))
    assert {candidate.family for candidate in trained(sparse(60), asked).candidates} == {"logistic_regression"}


def test_where_frauds_are_few_each_fold_is_judged_by_what_had_matured_when_it_began():
    features, labels = sparse(60)
    times = features["event_timestamp"].cast(pa.int64()).to_numpy()
    y = labels["is_fraud"].to_numpy()
    planned = plan(Rows(feature_matrix(features, NAMES), y, times), 7.0, CONFIG)
    assert (planned.few, planned.pooled, len(planned.blocks)) == (True, True, 4)
    judged = np.sum([block.validation for block in planned.blocks], axis=0)
    assert judged.max() == 1
    assert judged[-1] == 1
    for block in planned.blocks:
        assert times[block.fit].max() < times[block.validation].min() - 7 * MICROSECONDS_PER_DAY
    frauds = [int(y[block.validation].sum()) for block in planned.blocks]
    assert max(frauds) - min(frauds) <= 3  # of a day at most


def test_few_frauds_give_the_same_bytes_again():
    assert model_bytes(trained(sparse(45), FEW)) == model_bytes(trained(sparse(45), FEW))


def test_a_forest_of_few_frauds_is_served_as_it_was_trained():
    result = trained(sparse(60), FEW)
    X = feature_matrix(sparse(60)[0], NAMES)
    for candidate in result.candidates:
        scores = candidate.estimator.predict_proba(X)[:, 1]
        np.testing.assert_allclose(served(candidate).probabilities(X), scores, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 120),
    st.sampled_from([0, 1, 2, 12, 29, 30, 31, 60, 10**6]),
    st.sampled_from(["spread", "early", "late", "one day", "two bursts"]),
    st.sampled_from([0.5, 14.0, 400.0]),
    st.sampled_from(["as they are", "empty", "constant", "the label"]),
)
def test_whatever_the_frauds_there_is_a_model_or_a_sentence(n_genuine, n_fraud, when, maturity_days, values):
    n_fraud = min(n_fraud, 80) if n_fraud < 10**6 else 80 + n_genuine
    y = np.concatenate([np.ones(n_fraud, bool), np.zeros(n_genuine, bool)])
    generator = np.random.default_rng(len(y))
    drawn = generator.random(len(y))
    days = {
        "spread": drawn * 300,
        "early": drawn**3 * 300,
        "late": 300 - drawn**3 * 300,
        "one day": np.where(y, 150 + drawn, drawn * 300),
        "two bursts": np.where(y, np.where(drawn < 0.3, 40, 250) + drawn, drawn * 300),
    }[when]
    moment = (
        np.sort((days * MICROSECONDS_PER_DAY).astype(np.int64))
        if when == "spread"
        else (days * MICROSECONDS_PER_DAY).astype(np.int64)
    )
    a = {
        "as they are": generator.normal(size=len(y)),
        "empty": np.full(len(y), np.nan),
        "constant": np.zeros(len(y)),
        "the label": y.astype(float),
    }[values]
    table = pa.table(
        {
            "event_timestamp": pa.array(moment).cast(TIME),
            "customer_id": pa.array(generator.integers(0, 9, len(y))),
            **{name: pa.array(a, pa.float32()) for name in NAMES},
        }
    )
    try:
        result = trained((table, labelled(y, np.ones(len(y), bool))), FEW, maturity_days=maturity_days)
    except TrainingError as error:
        said = str(error)
        assert any(words in said for words in ("not enough yet", "are fraud", "no transaction has matured")), said
        return
    assert min(n_fraud, n_genuine) >= 30
    assert 0 <= result.chosen.average_precision <= 1
    assert 0 <= result.chosen.threshold <= 1


if __name__ == "__main__":
    # What `test_another_process_with_other_hashes_and_threads_gives_the_same_bytes_of_every_family` runs.
    every = dataclasses.replace(CONFIG, families=get_args(Family), grid=SMALL_FOREST)
    for of_family in model_bytes(trained(rows(straight), every)):
        print(hashlib.sha256(of_family).hexdigest())


# Texts


def with_texts(seed=4):
    """Fraud follows one of few channels, and one in twenty of 400 shops; names are of nobody else."""
    features, _ = rows(straight, seed)
    draws = np.random.default_rng(seed)
    n = features.num_rows
    channel, shop = draws.choice(["web", "shop", "phone"], n), draws.integers(0, 400, n)
    y = draws.random(n) < np.where(channel == "phone", 0.25, 0.02) + np.where(shop % 20 == 0, 0.5, 0)
    for name, values in (
        ("channel", channel), ("shop", [f"shop {k}" for k in shop]), ("name", [f"n {k}" for k in range(n)]),
        ("empty", [None] * n), ("same", ["same"] * n),
    ):  # fmt: skip
        features = features.append_column(name, pa.array(values, pa.string()))
    known = pa.array([moment + dt.timedelta(days=5) for moment in features["event_timestamp"].to_pylist()], TIME)
    return features, labelled(y, np.ones(n, bool)).append_column("label_timestamp", known)


@pytest.fixture(scope="module")
def of_texts():
    features, labels = with_texts()
    names = (*NAMES, "channel", "shop", "name", "empty", "same")
    return train(features, labels, names, maturity_days=5.0, config=CONFIG, card=None)


def test_texts_are_learned_from_without_a_list_of_their_values(of_texts):
    fresh, truth = with_texts(seed=9)
    y = truth["is_fraud"].to_numpy()
    without = trained(with_texts(), card=None)
    shop = np.array([int(name.split()[1]) for name in fresh["shop"].to_pylist()])
    phone = pc.equal(fresh["channel"], "phone").to_numpy()
    best = average_precision(y, np.where(phone, 0.25, 0.02) + np.where(shop % 20 == 0, 0.5, 0))
    for candidate, other in zip(of_texts.candidates, without.candidates, strict=True):
        score = candidate.estimator.predict_proba(model_matrix(fresh, of_texts.encoder))[:, 1]
        # What the channel and the shop say, and nothing else does; of a shop, ten rows with a label are known.
        assert average_precision(y, score) > 0.75 * best
        blind = other.estimator.predict_proba(feature_matrix(fresh, NAMES))[:, 1]
        assert average_precision(y, blind) < 0.4 * best
        assert candidate.average_precision == pytest.approx(average_precision(y, score), abs=0.1)


def test_what_is_not_used_is_named_with_why(of_texts):
    assert [text.name for text in of_texts.encoder.texts] == ["channel", "shop"]
    assert of_texts.encoder.inputs == (*NAMES, "channel", "shop")
    assert of_texts.encoder.unused == {
        "c": "has no value in any row",
        "empty": "has no value in any row",
        "same": "has the same value in every row, same",
        "name": (
            "has a value of its own in 100.0 % of the rows, as ids and names do, and so says nothing about the next row"
        ),
    }  # fmt: skip


def test_a_forced_text_is_used_whatever_it_says():
    features, labels = with_texts()
    result = train(
        features, labels, (*NAMES, "name"), maturity_days=5.0, config=CONFIG, card=None, forced=["name"]
    )  # fmt: skip
    assert result.encoder.inputs == (*NAMES, "name")


def test_with_texts_onnx_gives_the_probabilities_of_scikit_learn_also_for_what_was_never_seen(of_texts):
    fresh = with_texts(seed=11)[0].slice(0, 300)
    strange = pa.array(["never seen", None, "", "PHONE", "phone "] * 60, pa.string())
    for table in (fresh, *(fresh.set_column(fresh.column_names.index(n), n, strange) for n in ("channel", "shop"))):
        for candidate in of_texts.candidates:
            onnx = to_onnx(candidate.estimator, len(of_texts.encoder.columns))
            manifest = ModelManifest(
                model_name="m", model_version=1, trained_month="2018-05", as_of="2018-06-01T00:00:00+00:00",
                features=of_texts.encoder.inputs, encoder=of_texts.encoder, threshold=candidate.threshold,
                family=candidate.family, contract_yaml="", model_digest=digest_model(onnx),
            )  # fmt: skip
            X = model_matrix(table, of_texts.encoder)
            expected = candidate.estimator.predict_proba(X)[:, 1]
            np.testing.assert_allclose(Scorer(onnx, manifest).score(table), expected, rtol=0, atol=1e-6)


def test_validation_rows_teach_nothing_about_texts(monkeypatch):
    """Whatever the labels of a block are, its rows and those before it look the same to the models."""
    features, labels = with_texts()
    names = (*NAMES, "channel", "shop")
    seen = []
    original = training._Job.prepared

    def spied(job):
        fit = original(job)
        if job.part.validation is not None:
            seen.append((fit.sample.X, fit.judged, job.part.validation))
        return fit

    monkeypatch.setattr(training._Job, "prepared", spied)
    train(features, labels, names, maturity_days=5.0, config=CONFIG, card=None)
    block = seen[0][2]
    y = labels["is_fraud"].to_numpy()
    other = labels.set_column(0, "is_fraud", pa.array(np.where(block, ~y, y)))
    train(features, other, names, maturity_days=5.0, config=CONFIG, card=None)
    for first, second in zip(seen[0][:2], seen[len(seen) // 2][:2], strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_wide_table_is_trained_on_in_seconds():
    """300 numbers and texts of 1,000 values."""
    features, labels = with_texts()
    draws = np.random.default_rng(1)
    n = features.num_rows
    wide = {f"n{k}": pa.array(draws.normal(size=n), pa.float32()) for k in range(300)}
    wide |= {f"t{k}": pa.array(draws.integers(0, 1000, n).astype(str)) for k in range(20)}
    for name, values in wide.items():
        features = features.append_column(name, values)
    config = dataclasses.replace(CONFIG, maximum_trees=25)
    started = time.process_time()
    result = train(features, labels, (*NAMES, *wide), maturity_days=5.0, config=config, card=None)
    assert time.process_time() - started < 60
    assert len(result.encoder.columns) <= 3 + 300 + config.encoding.columns + 20 * 3


# On all cores


def in_bytes(result):
    """Everything that a training gives: what is served, the validation table, and all else as pickle takes it apart."""
    onnx = [to_onnx(candidate.estimator, len(result.encoder.columns)) for candidate in result.candidates]
    table = pa.BufferOutputStream()
    with pa.ipc.new_stream(table, result.validation.schema) as writer:
        writer.write_table(result.validation)
    return onnx, table.getvalue().to_pybytes(), plain([result.candidates, result.trials, result.encoder])


def plain(value):
    """A value as pickle takes it apart. Unlike the pickle, it does not tell whether equal parts are one object."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.flags.f_contiguous, value.tobytes()
    if value is None or isinstance(value, str | bytes | int | float | np.dtype | type):
        return repr(value)
    if isinstance(value, dict):
        return [(plain(key), plain(one)) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return value.__qualname__
    return [plain(one) for one in value.__reduce_ex__(4)]


def one_block():
    config = dataclasses.replace(CONFIG, families=get_args(Family), grid=SMALL_FOREST)
    return lambda workers: train(
        *rows(straight), NAMES, maturity_days=7.0, config=config, card="customer_id", workers=workers
    )


def two_blocks_and_two_settings():
    grid = (*GRID, Setting("hist_gradient_boosting", "6 leaves", {"max_leaf_nodes": 6}))
    data = rows(corners, days=230, per_day=40)
    config = dataclasses.replace(CONFIG, grid=grid)
    return lambda workers: train(*data, NAMES, maturity_days=7.0, config=config, card=None, workers=workers)


def few_frauds():
    return lambda workers: train(*sparse(60), NAMES, maturity_days=7.0, config=FEW, card="customer_id", workers=workers)


def texts():
    names = (*NAMES, "channel", "shop")
    config = dataclasses.replace(CONFIG, imbalance="smote", minimum_genuine=500)
    return lambda workers: train(*with_texts(), names, maturity_days=5.0, config=config, card=None, workers=workers)


@pytest.fixture(scope="module")
def crew():
    """Workers that are idle after a test wait for the next one; starting seven takes ten seconds."""
    yield
    workers.end_idle()


@pytest.mark.usefixtures("crew")
@pytest.mark.parametrize("case", [one_block, two_blocks_and_two_settings, few_frauds, texts])
def test_any_number_of_processes_gives_the_same_bytes(case, monkeypatch):
    monkeypatch.setattr(training, "WORTH_A_WORKER", 1.0)
    taken = []
    monkeypatch.setattr(workers._Helper, "do", spy(workers._Helper.do, taken))
    trained_by = case()
    alone = trained_by(1)
    assert not taken
    for n in (2, 8):
        assert in_bytes(trained_by(n)) == in_bytes(alone)
        assert taken
        taken.clear()


def spy(function, seen):
    def spied(*arguments):
        seen.append(arguments)
        return function(*arguments)

    return spied


def test_boosting_that_is_begun_before_its_blocks_are_done_keeps_as_many_trees_as_they_ask_for(line):
    """The fit of 50 trees, cut to 25, is the fit of 25."""
    features, labels = line
    X, y = feature_matrix(features, ("a", "b")), labels["is_fraud"].to_numpy()
    sample = fitting.Sample(X, y, None, 0.0)
    long, short = (fitting.Fit(GRID[1], CONFIG, sample, trees)() for trees in (None, 25))
    assert pickle.dumps(long) != pickle.dumps(short)
    assert pickle.dumps(fitting.first_trees(long, 25)) == pickle.dumps(short)


def fits_of(config=CONFIG, settings=None, n_blocks=1, n=400_000, columns=30, judged=10_000):
    """The fits of a training in the order in which one process takes them; each as family, block and trees."""
    table = Rows(np.zeros((n, columns), np.float32), np.arange(n) % 100 == 0, np.arange(n))
    nothing = np.empty((n, 0), np.float32)
    blocks = [
        training._Part(table, nothing, np.arange(n) < n // 2 + k, np.arange(n) >= n - judged) for k in range(n_blocks)
    ]
    whole = training._Part(table, nothing, np.ones(n, bool))
    groups = [training._Group((setting,), True, False) for setting in settings or GRID[:2]]
    return training._Fits([training._Contest(group, blocks, whole, config, False) for group in groups])


def named(job):
    return job.setting.family[0], job.part.validation is not None


def test_the_longest_fit_begins_first_and_boosting_on_all_rows_beside_its_only_block():
    taken = [named(fits.take()) for fits in [fits_of()] for _ in range(4)]
    assert taken == [("h", True), ("h", False), ("l", False), ("l", True)]


def test_boosting_on_all_rows_begins_last_where_its_blocks_are_about_to_be_done():
    fits = fits_of(n_blocks=2)
    blocks = [fits.take(), fits.take()]
    assert [named(job) for job in blocks] == [("h", True)] * 2
    fits.give(blocks[0], {25: np.zeros(10_000), 50: np.zeros(10_000)})
    assert [named(fits.take()) for _ in range(4)] == [("l", False), ("l", True), ("l", True), ("h", False)]
    assert fits.take() is None


def test_boosting_on_all_rows_is_fitted_with_the_trees_that_its_blocks_ask_for():
    fits = fits_of(settings=GRID[1:2])
    fits.give(fits.take(), {25: np.full(10_000, -5.0), 50: np.zeros(10_000)})
    job = fits.take()
    assert (named(job), job.trees) == (("h", False), 25)


def test_nothing_is_fitted_twice(monkeypatch):
    fitted = []
    monkeypatch.setattr(fitting, "_fitted", spy(fitting._fitted, fitted))
    two_blocks_and_two_settings()(1)
    # Of the logistic regression two blocks and all rows; of two settings of boosting two blocks, and of one all rows.
    assert len(fitted) == 3 + 4 + 1
    asked = {(setting.family, setting.name, len(sample.y), trees) for setting, sample, _, trees in fitted}
    assert len(asked) == len(fitted)


@pytest.mark.parametrize(
    ("n", "most"),
    [(3_000, 1), (400_000, 2), (2_000_000, 4)],
)
def test_processes_are_started_only_where_there_is_enough_to_do(n, most):
    """Of 50,000 rows that are kept, and 150 trees, boosting takes a second for each of two fits."""
    config = TrainingConfig()
    assert fits_of(config, n=n, columns=30, judged=n // 4).worth_workers == most


def test_rows_count_as_often_as_is_said_and_the_odds_are_those_of_all_they_stand_for():
    rows = Rows(
        np.zeros((4, 1), dtype=np.float32), np.array([True, False, False, False]), np.arange(4),
        np.array([10.0, 1.0, 1.0, 2.0]),
    )  # fmt: skip
    everything, none = np.ones(4, dtype=bool), np.zeros((4, 0), dtype=np.float32)
    sample = fitting.Sample.of(rows, none, everything, TrainingConfig(half_life_days=None, imbalance="none"))
    assert sample.weight.tolist() == [10.0, 1.0, 1.0, 2.0]
    assert sample.log_odds == pytest.approx(np.log(10 / 4))
    # Without weights all count alike, as they always did.
    alike = fitting.Sample.of(
        Rows(rows.X, rows.y, rows.times), none, everything, TrainingConfig(half_life_days=None, imbalance="none")
    )
    assert alike.weight is None
    assert alike.log_odds == pytest.approx(np.log(1 / 3))
