"""One fit as a value: a setting, the rows it learns from and those it scores; made anywhere, it comes out the same.

Which rows are learned from and how a setting becomes an estimator belong here; which fits there are, and what they
show, to `training.py`; where they are made to `workers.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator, log_odds
from fraud_assets.core.models.training_config import Setting, TrainingConfig
from fraud_assets.core.models.validation import Bools, Doubles, Floats, Integers, Rows, TrainingError
from fraud_assets.core.units import MICROSECONDS_PER_DAY

STAGE = 25  # boosting is judged after every so many trees: fewer make no visible difference

Staged = Mapping[int | None, Doubles]
"""Log odds by number of trees; by None of a family that has no stages."""


@dataclass(frozen=True)
class Sample:
    """Rows as they are fitted.

    Attributes:
        X, y: of the rows that were kept.
        weight: of each; None where all count alike.
        log_odds: of fraud in all rows that could be learned from, however many were kept.
    """

    X: Floats
    y: Bools
    weight: Doubles | None
    log_odds: float

    @classmethod
    def of(cls, rows: Rows, encoded: Floats, fit: Bools, config: TrainingConfig) -> Sample:
        """The rows of `fit` that are kept, with the columns of their texts beside the numbers."""
        y = rows.y[fit]
        counts = _counts(rows.times[fit], None if rows.weight is None else rows.weight[fit], config)
        kept, weight = _taken(y, counts, config)
        rate = _log_odds_of_rate(y, counts)
        return cls(beside(rows.X, encoded, np.flatnonzero(fit)[kept]), y[kept], weight, rate)


def beside(X: Floats, encoded: Floats, which: Bools | Integers) -> Floats:
    """Some rows of the numbers and, next to them, of the texts' columns."""
    return np.hstack([X[which], encoded[which]]) if encoded.shape[1] else X[which]


@dataclass(frozen=True)
class Fit:
    """A setting to be fitted.

    Attributes:
        setting: which.
        config: how.
        sample: the rows.
        trees: of boosting; None for as many as the configuration allows.
        judged: rows to score; None where the model itself is wanted.
    """

    setting: Setting
    config: TrainingConfig
    sample: Sample
    trees: int | None = None
    judged: Floats | None = None

    def __call__(self) -> CalibratedClassifier | Staged:
        """The model, or the scores that it gives to the rows that are judged.

        On one thread, wherever it runs. Boosting gives the same trees with several, but takes longer: 200,000 Handbook
        rows took 4.2 s with one thread, and on two cores beside other work 7 to 70 s with two, which wait for each
        other at every split.
        """
        with threadpool_limits(1):
            model = _fitted(self.setting, self.sample, self.config, self.trees)
            return model if self.judged is None else _staged(model, self.judged)


def first_trees(model: CalibratedClassifier, trees: int | None) -> CalibratedClassifier:
    """A model of boosting as it would be with fewer trees, byte for byte: each tree depends on those before it only."""
    if trees is not None:
        estimator = model.estimator
        boosting = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        del boosting._predictors[trees:]
        boosting.max_iter = trees
    return model


def _fitted(setting: Setting, sample: Sample, config: TrainingConfig, trees: int | None) -> CalibratedClassifier:
    """A setting fitted on rows: its odds are right for all of them, however many were used."""
    X, y, weight = sample.X, sample.y, sample.weight
    synthetic = "smote" in config.imbalance
    steps: list[tuple[str, Any]] = []
    if setting.family == "logistic_regression" or synthetic:
        steps.append(("impute", SimpleImputer(strategy="median", keep_empty_features=True)))
    else:
        # scikit-learn 1.9 fails on a column without a single value; on a constant one no tree ever splits.
        X = np.where(np.isnan(X).all(axis=0), np.float32(0), X)
    if setting.family == "logistic_regression":
        steps.append(("scale", StandardScaler()))
    for _, step in steps:
        X = step.fit_transform(X)
    if synthetic:
        X, y = _with_synthetic_frauds(X, y, config)
    model = _model(setting, config, trees).fit(X, y, sample_weight=weight)
    offset = sample.log_odds - _log_odds_of_rate(y, weight)
    return CalibratedClassifier(Pipeline([*steps, ("classify", model)]) if steps else model, offset, Calibrator())


def _model(setting: Setting, config: TrainingConfig, trees: int | None) -> Any:
    if setting.family == "logistic_regression":
        return LogisticRegression(**setting.parameters, max_iter=1000)
    if setting.family == "random_forest":
        return RandomForestClassifier(**setting.parameters, random_state=config.seed, n_jobs=1)
    return HistGradientBoostingClassifier(
        **setting.parameters, max_iter=trees or config.maximum_trees, early_stopping=False, random_state=config.seed
    )


def _staged(model: CalibratedClassifier, X: Floats) -> Staged:
    estimator = model.estimator
    if isinstance(estimator, Pipeline) and isinstance(estimator[-1], HistGradientBoostingClassifier):
        X, estimator = estimator[:-1].transform(X), estimator[-1]
    if not isinstance(estimator, HistGradientBoostingClassifier):
        return {None: log_odds(estimator, X) + model.offset}
    last = estimator.n_iter_
    return {
        n: scores.ravel() + model.offset
        for n, scores in enumerate(estimator.staged_decision_function(X), start=1)
        if n % STAGE == 0 or n == last
    }


def _taken(y: Bools, weight: Doubles | None, config: TrainingConfig) -> tuple[Bools, Doubles | None]:
    """Which rows are fitted, and their weights; None where all count alike."""
    kept = np.ones(len(y), dtype=np.bool_)
    genuine = int((~y).sum())
    if config.imbalance not in ("none", "class_weight"):
        wanted = min(max(config.genuine_share * genuine, config.minimum_genuine), config.maximum_genuine)
        kept = y | (np.random.default_rng(config.seed).random(len(y)) < wanted / genuine)
    if weight is not None:
        weight = weight[kept]
    if config.imbalance == "class_weight":
        weight = np.ones(len(y)) if weight is None else weight
        weight = np.where(y, weight * weight[~y].sum() / weight[y].sum(), weight)
    return kept, weight


def _counts(times: Integers, own: Doubles | None, config: TrainingConfig) -> Doubles | None:
    """For how many each row counts: by its own weight, and less the older it is; None where all count alike."""
    if config.half_life_days is None:
        return own
    decay = np.asarray(np.exp2((times - times.max()) / (config.half_life_days * MICROSECONDS_PER_DAY)))
    return decay if own is None else decay * own


def _with_synthetic_frauds(X: Floats, y: Bools, config: TrainingConfig) -> tuple[Floats, Bools]:
    from imblearn.over_sampling import SMOTE, BorderlineSMOTE

    method = SMOTE if config.imbalance == "smote" else BorderlineSMOTE
    n = int(min(y.sum(), (~y).sum()))
    if n < 2:
        raise TrainingError(f"{config.imbalance} makes frauds between two of them, and there is {n}; add months")
    return method(random_state=config.seed, k_neighbors=min(5, n - 1)).fit_resample(X, y)  # type: ignore[no-any-return]


def _log_odds_of_rate(y: Bools, weight: Doubles | None) -> float:
    weight = np.ones(len(y)) if weight is None else weight
    return float(np.log(weight[y].sum()) - np.log(weight[~y].sum()))
