"""Calibration: maps that never reorder scores, chosen by later rows, simplest first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator, calibrate

N = 20_000
TIMES = np.arange(N)


def world(distortion, seed=1):
    """True log odds z, labels drawn from them, and scores that are `distortion(z)`."""
    generator = np.random.default_rng(seed)
    z = generator.normal(-2, 1.5, N)
    return distortion(z), generator.random(N) < expit(z)


def test_no_map_leaves_log_odds_as_they_are():
    z = np.array([-40.0, -1.5, 0.0, 3.25])
    assert Calibrator()(z).tolist() == z.tolist()


def test_beta_calibration_is_that_of_its_paper():
    """Kull et al., 2017: 1 / (1 + 1 / (e^c p^a / (1 - p)^b)); p = 0.2, a = 2, b = 0.5, c = 1."""
    odds = np.e * 0.2**2 / 0.8**0.5
    assert expit(Calibrator("beta", 2.0, 0.5, 1.0)(logit(np.array([0.2]))))[0] == pytest.approx(odds / (1 + odds))


def test_with_equal_slopes_beta_calibration_is_the_sigmoid():
    z = np.array([-3.0, 0.5])
    nearly = Calibrator("beta", 0.7, 0.7 + 1e-12, 0.2)
    assert nearly(z) == pytest.approx(Calibrator("sigmoid", 0.7, 0.7, 0.2)(z), abs=1e-9)


@given(
    st.floats(0.05, 20), st.floats(0.05, 20), st.floats(-5, 5),
    st.lists(st.integers(-3000, 3000), min_size=2, max_size=20, unique=True),
)  # fmt: skip
def test_a_higher_score_stays_higher(a, b, c, hundredths):
    z = np.sort(hundredths) / 100.0
    assert (np.diff(Calibrator("beta", a, b, c)(z)) > 0).all()


def test_scores_that_are_probabilities_are_left_alone():
    found = calibrate(*world(lambda z: z), TIMES)
    assert found.calibrator == Calibrator()
    assert set(found.brier) == {"none", "sigmoid", "beta"}
    assert found.expected_over_observed == pytest.approx(1, abs=0.05)


def test_overconfident_scores_are_drawn_back_by_a_sigmoid():
    """Scores 2 z + 1 come from log odds z: the map back is 0.5 s - 0.5."""
    score, y = world(lambda z: 2 * z + 1)
    found = calibrate(score, y, TIMES)
    assert found.calibrator.method == "sigmoid"
    assert found.calibrator.a == found.calibrator.b == pytest.approx(0.5, abs=0.03)
    assert found.calibrator.c == pytest.approx(-0.5, abs=0.1)
    assert found.brier["sigmoid"] < found.brier["none"]
    assert expit(found.calibrator(score)).mean() == pytest.approx(y.mean(), rel=1e-6)


def test_scores_that_are_wrong_at_one_end_only_take_a_beta_map():
    """Log odds above nought were tripled: the map back has a slope of one below and of a third above."""
    found = calibrate(*world(lambda z: np.where(z > 0, 3 * z, z)), TIMES)
    assert found.calibrator.method == "beta"
    assert found.calibrator.b < 0.6 < 0.8 < found.calibrator.a


def test_the_earlier_half_fits_and_the_later_half_judges_whatever_the_order_of_rows():
    """The later half is all genuine but for 150 frauds: figures are of these rows alone."""
    score, y = world(lambda z: z)
    y[N // 2 :] = np.arange(N // 2) < 150
    shuffled = np.random.default_rng(0).permutation(N)
    found = calibrate(score[shuffled], y[shuffled], TIMES[shuffled])
    assert (found.n, found.n_fraud) == (N // 2, 150)


def test_figures_are_those_of_the_definition():
    """Four rows, too few to fit: (0.1^2 + 0.2^2 + 0.7^2 + 0.1^2) / 4 = 0.1375; base rate 0.5, whose Brier is 0.25."""
    score = logit(np.array([0.1, 0.2, 0.3, 0.9]))
    found = calibrate(score, np.array([False, False, True, True]), np.arange(4))
    assert found.brier == {"none": pytest.approx(0.1375)}
    assert found.brier_skill == pytest.approx(0.45)
    assert found.expected_over_observed == pytest.approx(0.75)
    assert (found.n, found.n_fraud) == (4, 2)


@pytest.mark.parametrize(("frauds", "methods"), [(99, {"none"}), (100, {"none", "sigmoid", "beta"})])
def test_too_few_frauds_in_a_half_fit_nothing(frauds, methods):
    score, y = world(lambda z: z)
    later = np.arange(N) >= N // 2
    y[later & (np.cumsum(y & later) > frauds)] = False
    assert y[later].sum() == frauds < y[~later].sum()
    assert set(calibrate(score, y, TIMES).brier) == methods


def test_scores_that_point_the_wrong_way_are_not_turned_round():
    score, y = world(lambda z: -z)
    found = calibrate(score, y, TIMES)
    assert found.calibrator == Calibrator()
    assert set(found.brier) == {"none"}


def test_rows_of_one_instant_judge_the_scores_as_they_are():
    score, y = world(lambda z: 2 * z)
    assert calibrate(score, y, np.zeros(N)).n == N


def test_shares_of_nought_and_one_have_finite_log_odds():
    class Shares:
        def predict_proba(self, X):
            return np.column_stack([1 - X[:, 0], X[:, 0]])

    model = CalibratedClassifier(Shares(), -1.0, Calibrator("sigmoid", 0.5, 0.5, 0.0))
    low, middle, high = model.predict_proba(np.array([[0.0], [0.5], [1.0]]))[:, 1]
    assert 0 < low < middle < high < 1
    assert middle == pytest.approx(1 / (1 + np.exp(0.5)))
