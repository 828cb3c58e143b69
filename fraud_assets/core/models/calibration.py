"""Calibration: scores that are probabilities, by the simplest map that later data shows to be needed.

A map is fitted on scores of rows that the model has not seen, and judged on later ones. Which scores those are belongs
to `training.py`; the map inside the ONNX graph to `adapters/onnx_models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Method = Literal["none", "sigmoid", "beta"]


@dataclass(frozen=True)
class Calibrator:
    """A strictly increasing map from log odds to log odds, `a * log(p) - b * log(1 - p) + c`.

    That is beta calibration (Kull, Silva Filho and Flach, 2017, equation 5); with a = b it is Platt's sigmoid
    (Platt, 1999) on log odds. Isotonic regression is not among the methods: it ties scores that were apart, which
    lowers average precision.

    Attributes:
        method: none leaves scores as they are; sigmoid has a = b.
        a, b: positive slopes for low and for high scores.
        c: the intercept.
    """

    method: Method = "none"
    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, log_odds: Floats) -> Floats:
        """Calibrated log odds, in the shape of those given."""
        if self.a == self.b:
            return self.a * log_odds + self.c
        return self.c + self.b * np.logaddexp(0, log_odds) - self.a * np.logaddexp(0, -log_odds)


@dataclass(frozen=True)
class Calibration:
    """What was chosen, and how good probabilities were on rows that neither the model nor the map had seen.

    Attributes:
        calibrator: fitted on all the rows.
        brier: mean squared difference of probability and label on the later rows, by each method that was tried,
            fitted on the earlier ones; by none alone where there were too few frauds to try others.
        brier_skill: 1 - Brier / Brier of the base rate; of the chosen method on the later rows. 1 is perfect, 0 is
            no better than giving everyone the base rate.
        expected_over_observed: sum of probabilities / number of frauds, of the chosen method on the later rows.
        n, n_fraud: the later rows, and frauds among them.
    """

    calibrator: Calibrator
    brier: Mapping[Method, float]
    brier_skill: float
    expected_over_observed: float
    n: int
    n_fraud: int


def calibrate(log_odds: Floats, y: Bools, times: npt.NDArray[np.int64], *, minimum_frauds: int = 100) -> Calibration:
    """Chooses and fits a map.

    The earlier half of the rows fits each method, the later half judges it by its Brier score: the simplest one wins
    whose distance from the lowest is within one standard error of that distance (Breiman et al., Classification and
    Regression Trees, 1984, section 3.4.3). It is then fitted anew on all rows.

    Args:
        log_odds: float64 [n], of rows the model has not seen.
        y: bool [n], with at least one fraud.
        times: of the rows; int64 [n] in any unit.
        minimum_frauds: with fewer in either half, nothing is fitted, and all rows judge the scores as they are.
    """
    later = times >= np.sort(times)[len(times) // 2]
    tried: dict[Method, Calibrator] = {"none": Calibrator()}
    if min(y[~later].sum(), y[later].sum()) >= minimum_frauds:
        tried |= _fitted(log_odds[~later], y[~later])
    else:
        later = np.ones(len(y), dtype=np.bool_)
    truth = y[later]
    shown = {method: expit(calibrator(log_odds[later])) for method, calibrator in tried.items()}
    squares = {method: (probability - truth) ** 2 for method, probability in shown.items()}
    brier = {method: float(errors.mean()) for method, errors in squares.items()}
    lowest = squares[min(brier, key=lambda method: brier[method])]
    # The methods come in order of their parameters.
    best = next(
        method
        for method, errors in squares.items()
        if (errors - lowest).mean() <= (errors - lowest).std() / np.sqrt(len(truth))
    )
    rate = float(truth.mean())
    return Calibration(
        calibrator=_fitted(log_odds, y).get(best, Calibrator()) if best != "none" else Calibrator(),
        brier=brier,
        brier_skill=1 - brier[best] / (rate * (1 - rate)) if 0 < rate < 1 else 0.0,
        expected_over_observed=float(shown[best].sum() / truth.sum()),
        n=len(truth),
        n_fraud=int(truth.sum()),
    )


def _fitted(log_odds: Floats, y: Bools) -> dict[Method, Calibrator]:
    """The maps that maximise the likelihood; without those that would not be increasing."""
    (slope,), c = _logistic(log_odds.reshape(-1, 1), y)
    (a, b), d = _logistic(np.column_stack([-np.logaddexp(0, -log_odds), np.logaddexp(0, log_odds)]), y)
    found = (Calibrator("sigmoid", slope, slope, c), Calibrator("beta", a, b, d))
    return {calibrator.method: calibrator for calibrator in found if min(calibrator.a, calibrator.b) > 0}


def _logistic(columns: Floats, y: Bools) -> tuple[tuple[float, ...], float]:
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(columns, y)
    return tuple(float(slope) for slope in model.coef_[0]), float(model.intercept_[0])


class CalibratedClassifier:
    """A fitted classifier whose scores are probabilities again: of the world, not of the rows it was fitted on.

    Attributes:
        estimator: a scikit-learn classifier of the classes 0 and 1.
        offset: added to its log odds. Keeping a share of the genuine rows, or weighting frauds, changes the odds by a
            known factor, and this takes it back (King and Zeng, Logistic Regression in Rare Events Data, 2001; for
            trees, Dal Pozzolo et al., Calibrating Probability with Undersampling, 2015).
        calibrator: what comes after.
        n_features_in_: as of the estimator.
    """

    def __init__(self, estimator: Any, offset: float, calibrator: Calibrator) -> None:
        self.estimator = estimator
        self.offset = offset
        self.calibrator = calibrator
        self.n_features_in_ = getattr(estimator, "n_features_in_", None)

    def predict_proba(self, X: npt.NDArray[np.float32]) -> Floats:
        """The probabilities of the classes 0 and 1, float64 [n, 2]."""
        fraud = expit(self.calibrator(log_odds(self.estimator, X) + self.offset))
        return np.column_stack([1 - fraud, fraud])


# Forests give shares of trees' leaves, among them 0 and 1, whose log odds are infinite. The smallest share between
# them is far from this.
SMALLEST = 1e-9


def log_odds(estimator: Any, X: npt.NDArray[np.float32]) -> Floats:
    """The log odds of class 1, float64 [n]: as computed by the estimator, or from its probabilities."""
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(X), dtype=np.float64)
    probability = np.clip(estimator.predict_proba(X)[:, 1], SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(probability) - np.log1p(-probability), dtype=np.float64)
