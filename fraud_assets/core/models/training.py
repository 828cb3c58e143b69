"""Training: a challenger chosen by out-of-time validation among families and settings, and the reference beside it.

Rows come with labels as they were known at the as-of time (`labels.labels_as_of`); only matured ones are used. How
models are trained, as values, is in `training_config.py`; one fit in `fitting.py`; logging and registering the result
in `adapters/mlflow.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import expit
from threadpoolctl import threadpool_limits

from fraud_assets.core.intake.usefulness import why_useless
from fraud_assets.core.models.calibration import CalibratedClassifier, Calibration, calibrate
from fraud_assets.core.models.decision_rule import DecisionRule
from fraud_assets.core.models.decision_threshold import choose_threshold
from fraud_assets.core.models.encoding import Encoder, Learned, learn_texts
from fraud_assets.core.models.fitting import Fit, Sample, Staged, beside, first_trees
from fraud_assets.core.models.scoring import Family, feature_matrix
from fraud_assets.core.models.training_config import REFERENCE, Setting
from fraud_assets.core.models.training_config import TrainingConfig as TrainingConfig
from fraud_assets.core.models.validation import (
    Bools,
    Doubles,
    Floats,
    Integers,
    Rows,
    plan,
    precision_interval,
)
from fraud_assets.core.models.validation import TrainingError as TrainingError
from fraud_assets.core.models.workers import work_off
from fraud_assets.core.statistics.bootstrap import Codes, Interval, identifier_codes
from fraud_assets.core.statistics.metrics import average_precision
from fraud_assets.core.units import MICROSECONDS_PER_DAY

# What a fit costs, in trees of boosting times rows times columns, of which a core does 365 million a second: a logistic
# regression as much as 40 trees of boosting, a tree of a forest as much as 20. To score a row with a tree takes as long
# as to learn from 7 columns of it. Measured on 200,000 Handbook rows with 30 columns.
LOGISTIC_TREES, FOREST_TREES, SCORED_COLUMNS = 40, 20, 7
WORTH_A_WORKER = 700e6
"""Of that cost, what makes another process worth its while: two seconds, where its start takes 1.3."""


@dataclass(frozen=True)
class Trial:
    """What a setting showed on the blocks.

    Attributes:
        setting: which.
        trees: how many trees of boosting had the lowest log loss on the blocks; None for other families.
        average_precision: mean over the blocks of models fitted before each, on that block; or of all blocks as one,
            where each has too few frauds.
        of_blocks: the same of each block, oldest first; None where it has only frauds or none.
    """

    setting: Setting
    trees: int | None
    average_precision: float
    of_blocks: tuple[float | None, ...]


@dataclass(frozen=True)
class Candidate:
    """One family in its best setting: fitted on the whole window, with what it showed on the blocks.

    Attributes:
        family: which.
        estimator: gives calibrated probabilities; see `CalibratedClassifier`.
        average_precision: of the models fitted before each block, see `Trial`.
        rule: the decision threshold, from the same scores, calibrated, with what it promises.
        trial: the setting, and how many trees.
        calibration: how probabilities were made, and how good they were.
        interval: of the average precision, where all blocks were judged as one.
    """

    family: Family
    estimator: Any
    average_precision: float
    rule: DecisionRule
    trial: Trial
    calibration: Calibration
    interval: Interval | None = None

    @property
    def threshold(self) -> float:
        """From which score on a transaction is reviewed."""
        return self.rule.threshold

    def validation_metrics(self) -> dict[str, float]:
        """What it showed on the validation part, by name; probabilities were judged on the later rows of it."""
        calibration, interval = self.calibration, self.interval
        known = interval is not None and interval.is_known
        return {
            "validation_average_precision": self.average_precision,
            **({"validation_average_precision_low": interval.low} if interval and known else {}),
            **({"validation_average_precision_high": interval.high} if interval and known else {}),
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


# Half of it is its description, the rest the steps of a training in their order; what they need is theirs alone.
def train(
    features: pa.Table,
    labels: pa.Table,
    names: tuple[str, ...],
    *,
    maturity_days: float,
    config: TrainingConfig,
    card: str | None,
    forced: Collection[str] = (),
    workers: int = 1,
    weights: Doubles | None = None,
) -> TrainingResult:
    """Trains every family and chooses one by prequential validation.

    Settings are judged on blocks of time, see `validation.plan`. The models that compete on a block are fitted on rows
    before it, less a gap as long as labels take to mature (a quarter of the span at most), because that is what could
    have been known when it began. Each family in its best setting is then fitted on all matured rows, and calibrated
    with the scores that its predecessors gave to the blocks.

    Where frauds are few, other settings compete (`TrainingConfig.few_grid`), and average precision is that of all
    blocks together, with an interval: no block alone has enough frauds. The highest is taken there, too. To prefer the
    simplest setting within a standard error of it lost 0.005 to 0.02 of later average precision on the sets named at
    `FEW_GRID`, and within half of one it was level.

    Args:
        features: `event_timestamp`, the features `names`, and `card`; one row a transaction. The same rows in the
            same order give the same models, byte for byte.
        labels: of the same transactions in the same order, as `labels.labels_as_of` gives them.
        names: the features, numbers and texts; what the model takes of them is in the result's `encoder`.
        maturity_days: of the contract.
        config: how.
        card: the entity whose days are reviewed, for the threshold; None where each transaction is. Losses are those
            of `amount`, where the features have it.
        forced: texts among `names` that are used even if nothing can be learned from them.
        workers: processes that may fit at once, this one among them; fewer are used where there is little to do. The
            result is the same, byte for byte.
        weights: for how many each row counts in what is learned, shape (n,); one that counts for none is left out. In
            validation each counts once. None where all count alike.

    Raises:
        TrainingError: when there are too few matured rows or frauds, it says how many there are and when there may be
            enough; or when a feature is infinite, it says which and where.
    """
    matured = labels["is_matured"]
    if weights is not None:
        counts = weights > 0
        matured, weights = pc.and_(matured, pa.array(counts)), weights[counts & matured.to_numpy()]
    features, labels = features.filter(matured), labels.filter(matured)
    if features.num_rows == 0:
        raise TrainingError("no transaction has matured yet, so there is no label to learn from")
    numbers = tuple(name for name in names if not pa.types.is_string(features[name].type))
    X = feature_matrix(features, numbers)
    _require_finite(X, numbers, features)
    times = features["event_timestamp"].cast(pa.int64()).to_numpy()
    rows = Rows(X, labels["is_fraud"].to_numpy().astype(bool), times, weights)
    planned = plan(rows, maturity_days, config)
    validation = np.concatenate([np.flatnonzero(block.validation) for block in planned.blocks])
    judged = _Judged.of(rows, features, validation, card)
    if planned.few:
        config = replace(
            config,
            maximum_trees=config.few_trees,
            minimum_genuine=min(config.few_genuine, config.minimum_genuine),
        )
    texts = _Texts.of(features, labels, names, rows, maturity_days, config, forced)
    parts = [_Part(rows, texts.encoded(block.fit).encoded, block.fit, block.validation) for block in planned.blocks]
    learned = texts.encoded(np.ones(len(rows.y), dtype=np.bool_))
    encoder = Encoder(numbers, learned.texts, learned.unused | _idle(rows.X, numbers))
    whole = _Part(rows, learned.encoded, np.ones(len(rows.y), dtype=np.bool_))
    contests = [_Contest(group, parts, whole, config, planned.pooled) for group in _groups(config, planned.few)]
    fits = _Fits(contests)
    work_off(fits, min(workers, fits.worth_workers))
    # One thread: on a busy machine those of BLAS wait for each other longer than they compute.
    with threadpool_limits(1):
        competed = [_competed(contest, judged) for contest in contests]
    ranked = sorted(competed, key=lambda one: -one.candidate.average_precision)
    chosen = next(one for one in ranked if one.group.can_win)
    moment = features["event_timestamp"]
    bounds = pc.min_max(moment).as_py()
    return TrainingResult(
        chosen=chosen.candidate,
        reference=next(one.candidate for one in ranked if one.group.is_reference),
        candidates=tuple(one.candidate for one in ranked),
        trials=tuple(trial for one in competed for trial in one.trials),
        encoder=encoder,
        training_from=bounds["min"],
        training_to=bounds["max"],
        validation_from=pa.scalar(int(rows.times[validation].min()), moment.type).as_py(),
        n=len(rows.y),
        n_fraud=int(rows.y.sum()),
        validation=_promise(features.take(validation), names, rows.y[validation], chosen.scores),
    )


def in_words(chosen: Candidate) -> str:
    """Why a candidate was chosen, and how sure that is where it is not."""
    said = f"{chosen.family} ({chosen.trial.setting.name}) had the best validation AP, {chosen.average_precision:.3f}"
    if chosen.interval is None:
        return said
    on = f"on {chosen.calibration.n_fraud} frauds among {chosen.calibration.n:,} transactions"
    if not chosen.interval.is_known:
        return f"{said} {on}; how far that can be trusted is not known, as all of them are of one card"
    return f"{said} [{chosen.interval.low:.3f}, {chosen.interval.high:.3f}] {on}"


def _promise(rows: pa.Table, names: tuple[str, ...], y: Bools, scores: Doubles) -> pa.Table:
    kept = [name for name in rows.column_names if name not in names or name == "amount"]
    promise = rows.select(kept).append_column("is_fraud", pa.array(y)).append_column("score", pa.array(scores))
    # Of the features' table and its months, not of these rows.
    return promise.replace_schema_metadata(None)


# What settings show


@dataclass(frozen=True)
class _Group:
    """Settings of a family, of which the one that validates best becomes a candidate."""

    settings: tuple[Setting, ...]
    can_win: bool
    is_reference: bool


def _groups(config: TrainingConfig, few: bool) -> list[_Group]:
    """What competes. The reference is the same logistic regression, however few frauds there are."""

    def of(family: Family, grid: tuple[Setting, ...]) -> tuple[Setting, ...]:
        return tuple(setting for setting in grid if setting.family == family)

    families = dict.fromkeys((*config.families, REFERENCE))
    if not few:
        return [_Group(of(family, config.grid), family in config.families, family == REFERENCE) for family in families]
    forests: tuple[Family, ...] = ("random_forest",) if "hist_gradient_boosting" in config.families else ()
    found = [_Group(of(REFERENCE, config.grid), REFERENCE in config.families, is_reference=True)]
    for family in dict.fromkeys((*config.families, *forests)):
        if settings := of(family, config.few_grid) or (of(family, config.grid) if family != REFERENCE else ()):
            found.append(_Group(settings, can_win=True, is_reference=False))
    return found


@dataclass(frozen=True)
class _Competed:
    """A group's candidate, the scores that its predecessors gave to the validation rows, and all that was tried."""

    group: _Group
    candidate: Candidate
    scores: Doubles
    trials: list[Trial]


@dataclass(frozen=True)
class _Judged:
    """The validation rows, block after block, as far as thresholds and intervals look at them."""

    y: Bools
    times: Integers
    cards: Codes | None
    amounts: Doubles | None

    @classmethod
    def of(cls, rows: Rows, features: pa.Table, validation: Integers, card: str | None) -> _Judged:
        amounts = features["amount"].to_numpy().astype(np.float64) if "amount" in features.column_names else None
        return cls(
            rows.y[validation],
            rows.times[validation],
            identifier_codes(features[card])[validation] if card else None,
            None if amounts is None else amounts[validation],
        )

    def rule(self, scores: Doubles, config: TrainingConfig) -> DecisionRule:
        """The decision threshold on these scores."""
        return choose_threshold(
            self.y, scores, cards=self.cards, days=self.times // MICROSECONDS_PER_DAY, amount=self.amounts,
            capacity_per_day=config.review_capacity, costs=config.costs,
        )  # fmt: skip


Tried = list[tuple[Trial, Doubles]]
"""What settings showed, each with its log odds of all blocks, block after block."""


def _competed(contest: _Contest, judged: _Judged) -> _Competed:
    """A group's candidate, from what its settings showed and the best one fitted on all rows."""
    tried, model, config = contest.tried, contest.model, contest.config
    assert tried is not None  # noqa: S101 - all work is done
    assert model is not None  # noqa: S101
    best, scores = _best(tried)
    model = first_trees(model, best.trees)
    calibration = calibrate(scores, judged.y, judged.times, minimum_frauds=config.calibration_frauds)
    shown = expit(calibration.calibrator(scores))
    candidate = Candidate(
        best.setting.family,
        CalibratedClassifier(model.estimator, model.offset, calibration.calibrator),
        best.average_precision,
        judged.rule(shown, config),
        best,
        calibration,
        precision_interval(judged.y, shown, judged.cards, config.seed) if contest.pooled else None,
    )
    return _Competed(contest.group, candidate, shown, [trial for trial, _ in tried])


def _best(tried: Tried) -> tuple[Trial, Doubles]:
    return max(tried, key=lambda one: one[0].average_precision)


def _tried(setting: Setting, truth: list[Bools], staged: list[Staged], *, pooled: bool) -> tuple[Trial, Doubles]:
    """What a setting shows on the blocks, and its log odds there, block after block."""
    weights = [len(y) if pooled else 1 for y in truth]

    def loss(trees: int | None) -> float:
        of_blocks = [_log_loss(y, scores[trees]) for y, scores in zip(truth, staged, strict=True)]
        return sum(weight * one for weight, one in zip(weights, of_blocks, strict=True))

    # Log loss, because it moves smoothly with every tree; average precision jumps with single frauds.
    trees = min(staged[0], key=loss)
    scores = [stages[trees] for stages in staged]
    reached = [
        average_precision(y, expit(score)) if y.any() and not y.all() else None
        for y, score in zip(truth, scores, strict=True)
    ]
    together = np.concatenate(scores)
    known = [one for one in reached if one is not None]
    shown = average_precision(np.concatenate(truth), expit(together)) if pooled else float(np.mean(known))
    return Trial(setting, trees, shown, tuple(reached)), together


def _log_loss(y: Bools, score: Doubles) -> float:
    return float(np.logaddexp(0, np.where(y, -score, score)).mean())


# Which fits there are


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows to learn from and, of a block, rows to judge; put together when asked for, so that no copy lies around.

    Attributes:
        rows: all there are.
        encoded: the texts' columns of all of them, as those that are learned from taught.
        fit: which are learned from.
        validation: which judge; none outside of a block.
    """

    rows: Rows
    encoded: Floats
    fit: Bools
    validation: Bools | None = None

    @property
    def judged(self) -> Floats | None:
        return None if self.validation is None else beside(self.rows.X, self.encoded, self.validation)

    @cached_property
    def n(self) -> int:
        return int(self.fit.sum())

    @cached_property
    def truth(self) -> Bools:
        return self.rows.y[self.fit if self.validation is None else self.validation]

    @cached_property
    def n_judged(self) -> int:
        return 0 if self.validation is None else int(self.validation.sum())


@dataclass(frozen=True, eq=False)
class _Job:
    """A fit that is not put together yet.

    Attributes:
        contest: whose.
        part: the block; or all rows, for the candidate.
        setting: which.
        trees: of boosting; None for as many as there may be.
    """

    contest: _Contest
    part: _Part
    setting: Setting
    trees: int | None = None

    def prepared(self) -> Fit:
        part, config = self.part, self.contest.config
        sample = Sample.of(part.rows, part.encoded, part.fit, config)
        return Fit(self.setting, config, sample, self.trees, part.judged)

    @cached_property
    def cost(self) -> float:
        """What it takes, about; see `LOGISTIC_TREES`."""
        config, part = self.contest.config, self.part
        n = float(part.n)
        if config.imbalance not in ("none", "class_weight"):
            n = min(n, max(config.genuine_share * n, config.minimum_genuine), config.maximum_genuine)
        cells, parameters = n * (part.rows.X.shape[1] + part.encoded.shape[1]), self.setting.parameters
        cost: float = (self.trees or config.maximum_trees) * (cells + SCORED_COLUMNS * part.n_judged)
        if self.setting.family == "logistic_regression":
            cost = LOGISTIC_TREES * cells
        elif self.setting.family == "random_forest":
            cost = FOREST_TREES * float(parameters.get("n_estimators", 100)) * cells
        return cost


@dataclass(eq=False)
class _Contest:
    """The fits of a group: of every setting before each block, and of the best one on all rows.

    Attributes:
        left: fits before blocks that have not begun.
        staged: the scores of those that are done.
        tried: what the settings showed; None before all are done.
        model: the best setting, fitted on all rows, maybe with more trees than are kept.
    """

    group: _Group
    parts: list[_Part]
    whole: _Part
    config: TrainingConfig
    pooled: bool
    staged: dict[_Job, Staged] = field(default_factory=dict, init=False)
    tried: Tried | None = field(default=None, init=False)
    model: CalibratedClassifier | None = field(default=None, init=False)
    _is_begun: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._jobs = [[_Job(self, part, setting) for part in self.parts] for setting in self.group.settings]
        self.left = [job for jobs in self._jobs for job in jobs]

    def options(self) -> list[tuple[bool, _Job]]:
        """The fits that can begin, each with whether others had better begin before it.

        How many trees of boosting are kept is only known when its blocks are done. It can begin before, with as many as
        there may be, of which the first ones are kept; but not where the blocks are about to be done.
        """
        found = [(False, job) for job in self.left]
        if self._is_begun:
            return found
        if self.tried is not None:
            best = _best(self.tried)[0]
            return [*found, (False, _Job(self, self.whole, best.setting, best.trees))]
        if len(self.group.settings) > 1:
            return found
        (setting,) = self.group.settings
        early = setting.family == "hist_gradient_boosting"
        return [*found, (early and bool(self.left or self.staged), _Job(self, self.whole, setting))]

    def begin(self, job: _Job) -> None:
        if job.part is self.whole:
            self._is_begun = True
        else:
            self.left.remove(job)

    def give(self, job: _Job, result: Any) -> None:
        if job.part is self.whole:
            self.model = result
            return
        self.staged[job] = result
        if len(self.staged) == len(self.parts) * len(self.group.settings):
            truth = [part.truth for part in self.parts]
            self.tried = [
                _tried(setting, truth, [self.staged[one] for one in jobs], pooled=self.pooled)
                for setting, jobs in zip(self.group.settings, self._jobs, strict=True)
            ]


@dataclass(frozen=True)
class _Fits:
    """Every fit that training needs, each once: `workers.Work`."""

    contests: list[_Contest]

    @property
    def is_done(self) -> bool:
        return all(contest.tried is not None and contest.model is not None for contest in self.contests)

    @property
    def worth_workers(self) -> int:
        """How many processes there is enough to do for."""
        jobs = [job for contest in self.contests for job in contest.left]
        jobs += [_Job(contest, contest.whole, contest.group.settings[0]) for contest in self.contests]
        return min(1 + int(sum(job.cost for job in jobs) / WORTH_A_WORKER), len(jobs))

    def take(self) -> _Job | None:
        """The longest of those that can begin: what is begun last, others wait for."""
        options = [option for contest in self.contests for option in contest.options()]
        if not options:
            return None
        _, job = min(options, key=lambda option: (option[0], -option[1].cost))
        job.contest.begin(job)
        return job

    def give(self, job: _Job, result: Any) -> None:
        job.contest.give(job, result)


# What models see of texts


@dataclass(frozen=True)
class _Texts:
    """The columns of text, and what their encoding is learned from."""

    table: pa.Table
    known: Integers
    rows: Rows
    config: TrainingConfig
    forced: Collection[str]

    @classmethod
    def of(
        cls, features: pa.Table, labels: pa.Table, names: tuple[str, ...], rows: Rows, maturity_days: float,
        config: TrainingConfig, forced: Collection[str],
    ) -> _Texts:  # fmt: skip
        """Matured rows: a label counts when the row matured, or later, where it became known later."""
        table = features.select([name for name in names if pa.types.is_string(features[name].type)])
        known = rows.times + round(maturity_days * MICROSECONDS_PER_DAY)
        if "label_timestamp" in labels.column_names:
            known = np.maximum(known, labels["label_timestamp"].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy())
        return cls(table, known, rows, config, forced)

    def encoded(self, fit: Bools) -> Learned:
        """What some of the rows teach, and all of them encoded."""
        return learn_texts(
            self.table, y=self.rows.y, times=self.rows.times, known=self.known, fit=fit,
            config=self.config.encoding, forced=self.forced,
        )  # fmt: skip


def _idle(X: Floats, numbers: tuple[str, ...]) -> dict[str, str]:
    """The numbers that told a model nothing, with why."""
    given = (~np.isnan(X)).sum(axis=0)
    lowest, highest = np.nanmin(X, axis=0, initial=np.inf), np.nanmax(X, axis=0, initial=-np.inf)
    return {
        name: why
        for place, name in enumerate(numbers)
        if (why := why_useless(len(X), int(given[place]), float(lowest[place]), float(highest[place])))
    }


def _require_finite(X: Floats, names: tuple[str, ...], features: pa.Table) -> None:
    if not (infinite := np.isinf(X)).any():
        return
    row, column = np.argwhere(infinite)[0]
    what = f"transaction {features['transaction_id'][row]}" if "transaction_id" in features.column_names else "a row"
    raise TrainingError(
        f"feature {names[column]!r} of {what} of {features['event_timestamp'][row]} is infinite or beyond float32, one "
        f"of {int(infinite.sum()):,} such values; give a finite number, or leave it empty when it is not known"
    )
