"""Training: a challenger chosen by out-of-time validation among model families, and the reference beside it.

Rows come with labels as they were known at the as-of time (`labels.labels_as_of`); only matured ones are used.
Logging and registering the result belongs to `adapters/registry.py`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from imblearn.over_sampling import SMOTE
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fraud_assets.core.metrics import average_precision, score_threshold
from fraud_assets.core.scoring import Family, feature_matrix

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

REFERENCE: Family = "logistic_regression"


class TrainingError(ValueError):
    """Rows from which no model can be trained: the message says what is missing."""


@dataclass(frozen=True)
class TrainingConfig:
    """How models are trained.

    Attributes:
        families: the candidates.
        window_months: how many months of rows, the newest first, a model may see. 12: a year holds each season once.
        validation_share: the newest part of the window, by time, that chooses among the families and sets the
            threshold. A quarter: in a single month that is a week, the shortest span with every weekday.
        genuine_share: the share of genuine rows that is kept; every fraud is kept, and the odds are set right again.
            0.15: on the Handbook months this changes AP by less than the noise and saves most of the time.
        minimum_genuine: genuine rows to keep at least, if there are so many. 50,000: below that, dropping rows saves
            nothing worth having.
        minimum_frauds: fewer matured frauds in either part train nothing. 20: with fewer, the choice among
            families is a coin.
        smote: balances the rows of the logistic regression with synthetic frauds (Chawla et al., 2002). Off: it
            lowers average precision (Fraud Detection Handbook, 0.573 against 0.600) and its scores are far too
            high for probabilities.
        review_capacity: cards a day that can be reviewed; sets the decision threshold.
        seed: of the sampling and of the models.
    """

    families: tuple[Family, ...] = get_args(Family)
    window_months: int = 12
    validation_share: float = 0.25
    genuine_share: float = 0.15
    minimum_genuine: int = 50_000
    minimum_frauds: int = 20
    smote: bool = False
    review_capacity: int = 100
    seed: int = 7

    def as_parameters(self) -> dict[str, Any]:
        """The configuration as flat parameters for the registry."""
        return {**asdict(self), "families": ",".join(self.families)}


@dataclass(frozen=True)
class Candidate:
    """One family: fitted on the whole window, with what it showed on the validation part.

    Attributes:
        family: which.
        estimator: a scikit-learn classifier.
        average_precision: of the model fitted before the validation part, on that part.
        threshold: the decision threshold, from the same scores and the review capacity.
    """

    family: Family
    estimator: Any
    average_precision: float
    threshold: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        chosen: the candidate with the highest validation AP.
        reference: the logistic regression, the yardstick of every report.
        candidates: all, best first.
        training_from, training_to: first and last event time of the rows used.
        validation_from: the first event time of the validation part.
        n, n_fraud: matured rows used, and frauds among them.
    """

    chosen: Candidate
    reference: Candidate
    candidates: tuple[Candidate, ...]
    training_from: datetime
    training_to: datetime
    validation_from: datetime
    n: int
    n_fraud: int


Split = Literal["fit", "validation"]


def train(
    features: pa.Table,
    labels: pa.Table,
    names: tuple[str, ...],
    *,
    maturity_days: float,
    config: TrainingConfig,
) -> TrainingResult:
    """Trains every family and chooses one by out-of-time validation.

    The newest `validation_share` of the time span is held out; the models that compete on it are fitted on rows
    before it, less a gap as long as labels take to mature (a quarter of the span at most), because that is what
    could have been known when it began. The chosen family is then fitted on all matured rows.

    Args:
        features: `event_timestamp`, the features `names`, and `customer_id` if there is one; one row a transaction.
        labels: of the same transactions in the same order, as `labels.labels_as_of` gives them.
        names: the features, in the order in which the model shall take them.
        maturity_days: of the contract.
        config: how.

    Raises:
        TrainingError: when there are too few matured rows or frauds in either part; it says how many there are.
    """
    matured = labels["is_matured"]
    features, labels = features.filter(matured), labels.filter(matured)
    if features.num_rows == 0:
        raise TrainingError("no transaction has matured yet, so there is no label to learn from")
    y = labels["is_fraud"].to_numpy().astype(bool)
    times = features["event_timestamp"].cast(pa.int64()).to_numpy()
    X = feature_matrix(features, names)
    cards = _codes(features["customer_id"]) if "customer_id" in features.column_names else None
    days = times // 86_400_000_000

    span = times.max() - times.min()
    cut = times.max() - int(span * config.validation_share)
    gap = min(timedelta(days=maturity_days) // timedelta(microseconds=1), span // 4)
    fit, validation = times < cut - gap, times >= cut
    _require_frauds(y, fit, validation, config)

    def validate(family: Family) -> tuple[float, float]:
        scores = _probabilities(_fitted(family, X[fit], y[fit], config), X[validation])
        shown = None if cards is None else cards[validation]
        threshold = score_threshold(scores, shown, days[validation], config.review_capacity)
        return average_precision(y[validation], scores), min(threshold, 1.0)

    candidates = []
    # One thread: sums come out the same on every machine, and on a busy one OpenMP's waiting costs five times
    # what a second core brings.
    with threadpool_limits(1):
        for family in dict.fromkeys((*config.families, REFERENCE)):
            validated, threshold = validate(family)
            candidates.append(Candidate(family, _fitted(family, X, y, config), validated, threshold))
    candidates.sort(key=lambda candidate: -candidate.average_precision)
    moment = features["event_timestamp"]
    bounds = pc.min_max(moment).as_py()
    return TrainingResult(
        chosen=next(candidate for candidate in candidates if candidate.family in config.families),
        reference=next(candidate for candidate in candidates if candidate.family == REFERENCE),
        candidates=tuple(candidates),
        training_from=bounds["min"],
        training_to=bounds["max"],
        validation_from=pa.scalar(int(times[validation].min()), moment.type).as_py(),
        n=len(y),
        n_fraud=int(y.sum()),
    )


def _require_frauds(y: Bools, fit: Bools, validation: Bools, config: TrainingConfig) -> None:
    for part, rows in (("before the validation part", y[fit]), ("in the validation part", y[validation])):
        if (n := int(rows.sum())) < config.minimum_frauds or n == len(rows):
            raise TrainingError(
                f"{len(rows):,} matured transactions {part} have {n} frauds and {len(rows) - n:,} genuine ones; "
                f"training needs {config.minimum_frauds} frauds and genuine ones beside them: add months, or wait "
                "for their labels"
            )


def _fitted(family: Family, X: Floats, y: Bools, config: TrainingConfig) -> Any:
    X, y, kept_share = _sampled(X, y, config)
    # Fewer genuine rows raise the odds of fraud by 1 / kept_share; the intercept takes that back (King and Zeng,
    # Logistic Regression in Rare Events Data, 2001; for trees, Dal Pozzolo et al., Calibrating Probability with
    # Undersampling, 2015). Weights would say the same, but scikit-learn 1.9 bins weighted rows seven times slower.
    shift = np.log(kept_share)
    if family == "hist_gradient_boosting":
        # scikit-learn 1.9 fails on a column without a single value; on a constant one no tree ever splits.
        X = np.where(np.isnan(X).all(axis=0), np.float32(0), X)
        trees = HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.07, max_leaf_nodes=15, min_samples_leaf=40, l2_regularization=1.0,
            early_stopping=False, random_state=config.seed,
        ).fit(X, y)  # fmt: skip
        trees._baseline_prediction = trees._baseline_prediction + shift
        return trees
    prepare = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    ).fit(X)
    Z = prepare.transform(X)
    if config.smote:
        # SMOTE makes frauds between neighbouring ones: inside the training rows only, never across the split.
        Z, y = SMOTE(random_state=config.seed).fit_resample(Z, y)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(Z, y)
    model.intercept_ = model.intercept_ + shift
    return Pipeline([*prepare.steps, ("classify", model)])


def _sampled(X: Floats, y: Bools, config: TrainingConfig) -> tuple[Floats, Bools, float]:
    """Every fraud and a seeded share of the genuine rows, and that share."""
    share = max(config.genuine_share, min(1.0, config.minimum_genuine / (~y).sum()))
    keep = y | (np.random.default_rng(config.seed).random(len(y)) < share)
    return X[keep], y[keep], float((~y & keep).sum() / (~y).sum())


def _probabilities(estimator: Any, X: Floats) -> npt.NDArray[np.float64]:
    return np.asarray(estimator.predict_proba(X)[:, 1], dtype=np.float64)


def _codes(column: Any) -> npt.NDArray[np.int64]:
    """Integer codes of identifiers; -1 where there is none."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)
