"""Training: a challenger chosen by out-of-time validation among families and settings, and the reference beside it.

Rows come with labels as they were known at the as-of time (`labels.labels_as_of`); only matured ones are used. How
models are trained, as values, is in `training_config.py`; logging and registering the result in `adapters/registry.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fraud_assets.core.bootstrap import identifier_codes
from fraud_assets.core.calibration import CalibratedClassifier, Calibration, Calibrator, calibrate, log_odds
from fraud_assets.core.encoding import Encoder, Learned, learn_texts
from fraud_assets.core.metrics import average_precision, score_threshold
from fraud_assets.core.scoring import Family, feature_matrix
from fraud_assets.core.training_config import REFERENCE, Setting
from fraud_assets.core.training_config import TrainingConfig as TrainingConfig

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

DAY = 86_400_000_000  # microseconds
STAGE = 25  # boosting is judged after every so many trees: fewer make no visible difference


class TrainingError(ValueError):
    """Rows from which no model can be trained: the message says what is missing."""


@dataclass(frozen=True)
class Trial:
    """What a setting showed on the blocks.

    Attributes:
        setting: which.
        trees: how many trees of boosting had the lowest log loss on the blocks; None for other families.
        average_precision: mean over the blocks of models fitted before each, on that block.
        of_blocks: the same of each block, oldest first.
    """

    setting: Setting
    trees: int | None
    average_precision: float
    of_blocks: tuple[float, ...]


@dataclass(frozen=True)
class Candidate:
    """One family in its best setting: fitted on the whole window, with what it showed on the blocks.

    Attributes:
        family: which.
        estimator: gives calibrated probabilities; see `CalibratedClassifier`.
        average_precision: of the models fitted before each block, on that block; the mean.
        threshold: the decision threshold, from the same scores, calibrated, and the review capacity.
        trial: the setting, and how many trees.
        calibration: how probabilities were made, and how good they were.
    """

    family: Family
    estimator: Any
    average_precision: float
    threshold: float
    trial: Trial
    calibration: Calibration

    def validation_metrics(self) -> dict[str, float]:
        """What it showed on the validation part, by name; probabilities were judged on the later rows of it."""
        calibration = self.calibration
        return {
            "validation_average_precision": self.average_precision,
            "validation_brier": calibration.brier[calibration.calibrator.method],
            "validation_brier_skill": calibration.brier_skill,
            "validation_expected_over_observed": calibration.expected_over_observed,
            "validation_n_fraud": float(calibration.n_fraud),
        }


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Attributes:
        chosen: the candidate with the highest validation AP.
        reference: the logistic regression, the yardstick of every report.
        candidates: all, best first.
        trials: every setting that was tried, in the order of the grid.
        encoder: from the columns of a table to those that all candidates take, learned from the rows used.
        training_from, training_to: first and last event time of the rows used.
        validation_from: the first event time of the validation part.
        n, n_fraud: matured rows used, and frauds among them.
        validation: the promise that later months are held against: the rows of the blocks, oldest first, with every
            column that is no feature, `amount` where there is one, `is_fraud`, and `score`, the probability that the
            chosen candidate's predecessors gave them before their block began, calibrated as the candidate is.
    """

    chosen: Candidate
    reference: Candidate
    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    encoder: Encoder
    training_from: datetime
    training_to: datetime
    validation_from: datetime
    n: int
    n_fraud: int
    validation: pa.Table


@dataclass(frozen=True)
class _Rows:
    """Matured rows."""

    X: Floats
    y: Bools
    times: Integers

    def __getitem__(self, rows: Bools) -> _Rows:
        return _Rows(self.X[rows], self.y[rows], self.times[rows])


@dataclass(frozen=True)
class _Block:
    """Rows that validate, and those that could be learned from when they began."""

    fit: Bools
    validation: Bools


def train(
    features: pa.Table,
    labels: pa.Table,
    names: tuple[str, ...],
    *,
    maturity_days: float,
    config: TrainingConfig,
    card: str | None,
    forced: Collection[str] = (),
) -> TrainingResult:
    """Trains every family and chooses one by prequential validation.

    The newest `validation_share` of the time span is held out, in blocks of `block_days` if it is long enough, and
    whole if it is shorter or its blocks have too few frauds. The models that compete on a block are fitted on rows
    before it, less a gap as long as labels take to mature (a quarter of the span at most), because that is what could
    have been known when it began. Each family in its best setting is then fitted on all matured rows, and calibrated
    with the scores that its predecessors gave to the blocks.

    Args:
        features: `event_timestamp`, the features `names`, and `card`; one row a transaction. The same rows in the
            same order give the same models, byte for byte.
        labels: of the same transactions in the same order, as `labels.labels_as_of` gives them.
        names: the features, numbers and texts; what the model takes of them is in the result's `encoder`.
        maturity_days: of the contract.
        config: how.
        card: the entity whose days are reviewed, for the threshold; None where each transaction is.
        forced: texts among `names` that are used even if nothing can be learned from them.

    Raises:
        TrainingError: when there are too few matured rows or frauds in either part, it says how many there are; or
            when a feature is infinite, it says which and where.
    """
    matured = labels["is_matured"]
    features, labels = features.filter(matured), labels.filter(matured)
    if features.num_rows == 0:
        raise TrainingError("no transaction has matured yet, so there is no label to learn from")
    numbers = tuple(name for name in names if not pa.types.is_string(features[name].type))
    X = feature_matrix(features, numbers)
    _require_finite(X, numbers, features)
    rows = _Rows(X, labels["is_fraud"].to_numpy().astype(bool), features["event_timestamp"].cast(pa.int64()).to_numpy())
    cards = identifier_codes(features[card]) if card else None
    blocks = _blocks(rows, maturity_days, config)
    validation = np.concatenate([np.flatnonzero(block.validation) for block in blocks])
    texts = _Texts.of(features, labels, names, rows, maturity_days, config, forced)
    parts = [_Part(rows, block, texts.encoded(block.fit).encoded) for block in blocks]
    encoder, rows = texts.learned(rows, numbers)

    candidates, trials, shown = [], [], {}
    # One thread: sums come out the same on every machine, and on a busy one OpenMP's waiting costs five times
    # what a second core brings.
    with threadpool_limits(1):
        for family in dict.fromkeys((*config.families, REFERENCE)):
            tried = [_tried(setting, parts, config) for setting in config.grid if setting.family == family]
            trials += [trial for trial, _ in tried]
            best, scores = max(tried, key=lambda one: one[0].average_precision)
            calibration = calibrate(
                scores, rows.y[validation], rows.times[validation], minimum_frauds=config.calibration_frauds
            )
            shown[family] = expit(calibration.calibrator(scores))
            threshold = score_threshold(
                shown[family],
                None if cards is None else cards[validation],
                rows.times[validation] // DAY,
                config.review_capacity,
            )
            model = _fitted(best.setting, rows, config, best.trees)
            estimator = CalibratedClassifier(model.estimator, model.offset, calibration.calibrator)
            candidates.append(
                Candidate(family, estimator, best.average_precision, min(threshold, 1.0), best, calibration)
            )
    candidates.sort(key=lambda candidate: -candidate.average_precision)
    moment = features["event_timestamp"]
    bounds = pc.min_max(moment).as_py()
    chosen = next(candidate for candidate in candidates if candidate.family in config.families)
    return TrainingResult(
        chosen=chosen,
        reference=next(candidate for candidate in candidates if candidate.family == REFERENCE),
        candidates=tuple(candidates),
        trials=tuple(trials),
        encoder=encoder,
        training_from=bounds["min"],
        training_to=bounds["max"],
        validation_from=pa.scalar(int(rows.times[validation].min()), moment.type).as_py(),
        n=len(rows.y),
        n_fraud=int(rows.y.sum()),
        validation=_promise(features.take(validation), names, rows.y[validation], shown[chosen.family]),
    )


def _promise(rows: pa.Table, names: tuple[str, ...], y: Bools, scores: Doubles) -> pa.Table:
    kept = [name for name in rows.column_names if name not in names or name == "amount"]
    promise = rows.select(kept).append_column("is_fraud", pa.array(y)).append_column("score", pa.array(scores))
    # Of the features' table and its months, not of these rows.
    return promise.replace_schema_metadata(None)


# What validates


def _blocks(rows: _Rows, maturity_days: float, config: TrainingConfig) -> list[_Block]:
    """The blocks, oldest first.

    Raises:
        TrainingError: when not even the whole validation part has enough frauds.
    """
    first, last = int(rows.times.min()), int(rows.times.max())
    span = last - first
    gap = min(timedelta(days=maturity_days) // timedelta(microseconds=1), span // 4)
    share, length = int(span * config.validation_share), config.block_days * DAY

    def block(start: int, end: int) -> _Block:
        return _Block(rows.times < start - gap, (rows.times >= start) & (rows.times < end))

    n = min(share // length, config.blocks)
    found = [block(last - number * length, last - (number - 1) * length + (number == 1)) for number in range(n, 0, -1)]
    if not found or any(_too_few(rows, one, config) for one in found):
        found = [block(last - share, last + 1)]
        if problem := _too_few(rows, found[0], config):
            raise TrainingError(problem)
    return found


def _too_few(rows: _Rows, block: _Block, config: TrainingConfig) -> str | None:
    parts = (("before the validation part", block.fit), ("in the validation part", block.validation))
    for name, part in parts:
        y = rows.y[part]
        if (n := int(y.sum())) < config.minimum_frauds or n == len(y):
            return (
                f"{len(y):,} matured transactions {name} have {n} frauds and {len(y) - n:,} genuine ones; "
                f"training needs {config.minimum_frauds} frauds and genuine ones beside them: add months, or wait "
                "for their labels"
            )
    return None


def _tried(setting: Setting, parts: list[_Part], config: TrainingConfig) -> tuple[Trial, Doubles]:
    """What a setting shows on the blocks, and its log odds there, block after block."""
    truth = [part.rows.y[part.block.validation] for part in parts]
    # Of each block, log odds by number of trees.
    staged = [_staged(_fitted(setting, part.fit, config), part.validation.X) for part in parts]
    # Log loss, because it moves smoothly with every tree; average precision jumps with single frauds.
    trees = min(staged[0], key=lambda n: sum(_log_loss(y, scores[n]) for y, scores in zip(truth, staged, strict=True)))
    scores = [stages[trees] for stages in staged]
    reached = tuple(average_precision(y, expit(score)) for y, score in zip(truth, scores, strict=True))
    return Trial(setting, trees, float(np.mean(reached)), reached), np.concatenate(scores)


def _staged(model: CalibratedClassifier, X: Floats) -> Mapping[int | None, Doubles]:
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


def _log_loss(y: Bools, score: Doubles) -> float:
    return float(np.logaddexp(0, np.where(y, -score, score)).mean())


# What models see of texts


@dataclass(frozen=True)
class _Texts:
    """The columns of text, and what their encoding is learned from."""

    table: pa.Table
    known: Integers
    rows: _Rows
    config: TrainingConfig
    forced: Collection[str]

    @classmethod
    def of(
        cls, features: pa.Table, labels: pa.Table, names: tuple[str, ...], rows: _Rows, maturity_days: float,
        config: TrainingConfig, forced: Collection[str],
    ) -> _Texts:  # fmt: skip
        """Matured rows: a label counts when the row matured, or later, where it became known later."""
        table = features.select([name for name in names if pa.types.is_string(features[name].type)])
        known = rows.times + round(maturity_days * DAY)
        if "label_timestamp" in labels.column_names:
            known = np.maximum(known, labels["label_timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())
        return cls(table, known, rows, config, forced)

    def encoded(self, fit: Bools) -> Learned:
        """What some of the rows teach, and all of them encoded."""
        return learn_texts(
            self.table, y=self.rows.y, times=self.rows.times, known=self.known, fit=fit,
            config=self.config.encoding, forced=self.forced,
        )  # fmt: skip

    def learned(self, rows: _Rows, numbers: tuple[str, ...]) -> tuple[Encoder, _Rows]:
        """What all rows teach, and the rows encoded."""
        learned = self.encoded(np.ones(len(rows.y), dtype=np.bool_))
        encoder = Encoder(numbers, learned.texts, learned.unused | _idle(rows.X, numbers))
        return encoder, replace(rows, X=_beside(rows.X, learned.encoded))


@dataclass(frozen=True)
class _Part:
    """A block, with all rows as those that could be learned from taught; put together anew when asked for."""

    rows: _Rows
    block: _Block
    encoded: Floats

    @property
    def fit(self) -> _Rows:
        return self._of(self.block.fit)

    @property
    def validation(self) -> _Rows:
        return self._of(self.block.validation)

    def _of(self, which: Bools) -> _Rows:
        rows = self.rows[which]
        return replace(rows, X=_beside(rows.X, self.encoded[which]))


def _beside(X: Floats, encoded: Floats) -> Floats:
    return np.hstack([X, encoded]) if encoded.shape[1] else X


def _idle(X: Floats, numbers: tuple[str, ...]) -> dict[str, str]:
    """The numbers that told a model nothing, with why."""
    known = ~np.isnan(X)
    lowest, highest = np.nanmin(X, axis=0, initial=np.inf), np.nanmax(X, axis=0, initial=-np.inf)
    idle = {}
    for place, name in enumerate(numbers):
        if not known[:, place].any():
            idle[name] = "has no value in any row"
        elif lowest[place] == highest[place] and known[:, place].all():
            idle[name] = f"has the same value in every row, {lowest[place]:g}"
    return idle


# What is fitted


def _fitted(setting: Setting, rows: _Rows, config: TrainingConfig, trees: int | None = None) -> CalibratedClassifier:
    """A setting fitted on rows: its odds are right for all of them, however many were used."""
    kept, weight = _taken(rows, config)
    X, y = rows.X[kept], rows.y[kept]
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
    offset = _log_odds_of_rate(rows.y, _decay(rows.times, config)) - _log_odds_of_rate(y, weight)
    return CalibratedClassifier(
        Pipeline([*steps, ("classify", model)]) if steps else model, float(offset), Calibrator()
    )


def _model(setting: Setting, config: TrainingConfig, trees: int | None) -> Any:
    if setting.family == "logistic_regression":
        return LogisticRegression(**setting.parameters, max_iter=1000)
    if setting.family == "random_forest":
        return RandomForestClassifier(**setting.parameters, random_state=config.seed, n_jobs=1)
    return HistGradientBoostingClassifier(
        **setting.parameters, max_iter=trees or config.maximum_trees, early_stopping=False, random_state=config.seed
    )


def _taken(rows: _Rows, config: TrainingConfig) -> tuple[Bools, Doubles | None]:
    """Which rows are fitted, and their weights; None where all count alike."""
    kept = np.ones(len(rows.y), dtype=np.bool_)
    genuine = int((~rows.y).sum())
    if config.imbalance not in ("none", "class_weight"):
        wanted = min(max(config.genuine_share * genuine, config.minimum_genuine), config.maximum_genuine)
        kept = rows.y | (np.random.default_rng(config.seed).random(len(rows.y)) < wanted / genuine)
    weight = _decay(rows.times, config)
    if weight is not None:
        weight = weight[kept]
    if config.imbalance == "class_weight":
        weight = np.ones(len(rows.y)) if weight is None else weight
        weight = np.where(rows.y, weight * weight[~rows.y].sum() / weight[rows.y].sum(), weight)
    return kept, weight


def _decay(times: Integers, config: TrainingConfig) -> Doubles | None:
    if config.half_life_days is None:
        return None
    return np.asarray(np.exp2((times - times.max()) / (config.half_life_days * DAY)))


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


def _require_finite(X: Floats, names: tuple[str, ...], features: pa.Table) -> None:
    if not (infinite := np.isinf(X)).any():
        return
    row, column = np.argwhere(infinite)[0]
    what = f"transaction {features['transaction_id'][row]}" if "transaction_id" in features.column_names else "a row"
    raise TrainingError(
        f"feature {names[column]!r} of {what} of {features['event_timestamp'][row]} is infinite or beyond float32, one "
        f"of {int(infinite.sum()):,} such values; give a finite number, or leave it empty when it is not known"
    )
