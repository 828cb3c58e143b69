"""Attributions: how much each column of a row moves a model's raw score, exactly, for every family that is trained.

The raw score is what the model computes before calibration: log odds for boosting and for the logistic regression, the
mean share of fraud in the trees' leaves for a forest. What is needed for it travels in the ONNX file's own metadata
(`Explained`), so that it has the model's digest. Putting it there belongs to `adapters/onnx_models.py`, the trees' part
to `tree_paths.py`, words to `reason_codes.py`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Unit = Literal["log_odds", "share"]

METADATA = "fraud_assets.explained"
"""The key of an ONNX file's metadata under which `Explained` lies."""
TOLERANCE = 1e-6
"""How far, as a probability, what attributions add up to may be from the score."""


class AttributionError(ValueError):
    """Attributions that do not add up to the score that they explain."""


@dataclass(frozen=True)
class Trees:
    """Trees as arrays: inner nodes and leaves, each numbered from 0.

    Attributes:
        roots: of each tree its first node; its column, split and so on are those of that place in the arrays.
        feature: of each inner node the column that it looks at.
        split: values up to it go to `true`, others to `false`.
        missing_true: where a missing value goes.
        true, false: the child; its place among the nodes, or among the leaves.
        true_leaf, false_leaf: whether the child is a leaf. Where both children are one leaf, the tree has no split.
        value: of each leaf.
        cover, leaf_cover: training rows in each node and leaf, above 0.
    """

    roots: Integers
    feature: Integers
    split: Floats
    missing_true: Bools
    true: Integers
    false: Integers
    true_leaf: Bools
    false_leaf: Bools
    value: Floats
    cover: Floats
    leaf_cover: Floats


@dataclass(frozen=True)
class Explained:
    """What attributions of a model are made of.

    Attributes:
        unit: of the raw score.
        base: the part of the raw score that no column moves, without the trees' own mean; what undersampling did to
            the odds is taken back in it.
        scale: what the trees' sum is multiplied by.
        offset: what is added to a forest's log odds after its share; 0 of other families, whose base has it.
        calibration: slopes and intercept of `calibration.Calibrator`, whose result is the score's log odds.
        smallest: a forest's share is clipped to this and to 1 less this before its log odds are taken.
        fill: of each column what stands for a missing value; empty where missing values are the model's own business.
        weights, centres: of a linear model: what a column's distance from its centre, the mean of the training rows,
            is multiplied by.
        trees: of the other families.
    """

    unit: Unit
    base: float
    scale: float = 1.0
    offset: float = 0.0
    calibration: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smallest: float = 0.0
    fill: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    centres: tuple[float, ...] = ()
    trees: Trees | None = None

    def to_json(self) -> str:
        """As text, the same for the same model; `from_json` makes an equal one of it."""
        plain = asdict(self)
        if self.trees is not None:
            plain["trees"] = {name: _packed(values) for name, values in plain["trees"].items()}
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        plain = json.loads(text)
        trees = plain.pop("trees")
        lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        found = None if trees is None else Trees(**{name: _unpacked(*values) for name, values in trees.items()})
        return cls(**(plain | lists), trees=found)

    def probability(self, raw: Floats) -> Floats:
        """The score that a raw score comes to, 0 to 1."""
        a, b, c = self.calibration
        odds = raw
        if self.unit == "share":
            share = np.clip(raw, self.smallest, 1 - self.smallest)
            odds = np.log(share) - np.log1p(-share) + self.offset
        calibrated = c + b * np.logaddexp(0, odds) - a * np.logaddexp(0, -odds)
        return np.asarray(np.exp(-np.logaddexp(0, -calibrated)))

    def raw(self, probability: Floats) -> Floats:
        """The raw score that came to a score: what `probability` does, undone.

        Args:
            probability: float64 [n], 0 to 1. 0 and 1 come of raw scores that are infinite, or of a share of 0 or 1.
        """
        with np.errstate(divide="ignore"):
            odds = _uncalibrated(np.log(probability) - np.log1p(-probability), *self.calibration)
        if self.unit == "log_odds":
            return odds
        return np.asarray(np.exp(-np.logaddexp(0, self.offset - odds)))


def _uncalibrated(log_odds: Floats, a: float, b: float, c: float) -> Floats:
    """The log odds that a calibrator's result came of.

    By Newton's method: the map's slope lies between a and b and only rises or only falls, so each step but the first
    comes nearer from the same side.
    """
    if a == b:
        return np.asarray((log_odds - c) / a)
    known = np.isfinite(log_odds)
    wanted = log_odds[known]
    found = (wanted - c) / max(a, b)
    for _ in range(100):
        rising = np.exp(-np.logaddexp(0, -found))
        reached = c + b * np.logaddexp(0, found) - a * np.logaddexp(0, -found)
        step = (wanted - reached) / (b * rising + a * (1 - rising))
        found = found + step
        if not len(step) or np.abs(step).max() < 1e-12:
            break
    result = log_odds.copy()
    result[known] = found
    return result


@dataclass(frozen=True)
class Attributions:
    """What moves the raw scores of some rows.

    Attributes:
        unit: of `base` and `values`.
        base: the raw score of which attributions tell the distance: the mean over the training rows' leaves, or that
            of a row of training means.
        values: float64 [n, p]; a row's values and `base` add up to its raw score.
    """

    unit: Unit
    base: float
    values: Floats

    @property
    def raw(self) -> Floats:
        """The raw scores, float64 [n]."""
        return np.asarray(self.base + self.values.sum(axis=1))


class Explainer:
    """Attributions of one model."""

    def __init__(self, explained: Explained) -> None:
        """Takes the trees apart into the paths to their leaves."""
        # Where it is used: it loads compiled code, for a second that whoever only converts a model shall not wait.
        from fraud_assets.core.explanations.tree_paths import Paths

        self.explained = explained
        self._paths = None if explained.trees is None else Paths.of(explained.trees)
        own = 0.0 if self._paths is None else self._paths.mean * explained.scale
        self.base = explained.base + own

    def attributions(self, X: npt.NDArray[np.float32]) -> Attributions:
        """The attributions of the model's own columns.

        Args:
            X: float32 [n, p], as `Scorer.probabilities` takes it.
        """
        explained = self.explained
        rows = np.ascontiguousarray(X, dtype=np.float64)
        if explained.fill:
            rows = np.where(np.isnan(rows), np.array(explained.fill), rows)
        if self._paths is None:
            values = (rows - np.array(explained.centres)) * np.array(explained.weights)
        else:
            values = self._paths.attributions(rows) * explained.scale
        return Attributions(explained.unit, self.base, values)

    def checked(self, X: npt.NDArray[np.float32], scores: Floats) -> Attributions:
        """As `attributions`, and they are those of these scores.

        Raises:
            AttributionError: where they do not add up to a row's score.
        """
        found = self.attributions(X)
        apart = np.abs(self.explained.probability(found.raw) - scores)
        if len(apart) and not apart.max() <= TOLERANCE:
            raise AttributionError(
                f"attributions of row {int(apart.argmax())} do not add up to its score, they are {apart.max():.2g} "
                "apart: the model's file is not as it was converted; train or convert it again"
            )
        return found


def _packed(values: npt.NDArray[Any]) -> list[str]:
    kind = values.dtype.newbyteorder("<")
    if values.dtype == np.int64:
        kind = np.dtype("<i4")  # no model has so many nodes
    return [kind.str, base64.b64encode(values.astype(kind).tobytes()).decode("ascii")]


def _unpacked(kind: str, text: str) -> npt.NDArray[Any]:
    values = np.frombuffer(base64.b64decode(text), dtype=np.dtype(kind))
    return values.astype(np.int64) if values.dtype.kind == "i" else values.copy()
