"""Reason codes: the features that moved a score most, each in a sentence for whoever reviews the transaction.

How much each moved it belongs to `attributions.py`; what a value says to the feature's declaration
(`features/wording.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.explanations.attributions import METADATA, Attributions, Explained, Explainer, Unit
from fraud_assets.core.features.declarations import feature_wordings
from fraud_assets.core.features.wording import unknown_wording
from fraud_assets.core.models.scoring import ModelManifest, Scorer, model_matrix, rows_matrix

Floats = npt.NDArray[np.float64]

USUAL_REASONS = 5  # as many as a reviewer reads
NOTHING = 1e-9  # what moves a score by less is no reason for it
NO_EXPLANATIONS = (
    "{model} has no explanations: it was trained before they were kept; scores are as they were, and a model that is "
    "trained now has them"
)


@dataclass(frozen=True)
class ReasonCode:
    """A feature that moved a score.

    Attributes:
        feature: its name.
        value: what it was: a number, text, or None where it was not known.
        attribution: by how much it moved the raw score, in the explanation's unit; above 0 towards fraud.
        text: what the value says, in words.
    """

    feature: str
    value: float | str | None
    attribution: float
    text: str

    @property
    def sentence(self) -> str:
        """The text with the attribution, as a file of scores shows it.

        >>> ReasonCode("amount_ratio", 42.0, 2.314, "42 times the usual amount of this card").sentence
        '42 times the usual amount of this card (+2.31)'
        """
        return f"{self.text} ({self.attribution:+.2f})"


@dataclass(frozen=True)
class Explanation:
    """What moved the score of one transaction: base, reasons and others add up to the raw score.

    Attributes:
        unit: of all numbers: log_odds before calibration, or of a forest the mean share of fraud in its leaves.
        base: the raw score that attributions start from, the mean of the training rows.
        raw_score: what the model computed before calibration.
        reasons: what moved it most, the strongest first.
        others: what all other features moved it by, together.
    """

    unit: Unit
    base: float
    raw_score: float
    reasons: tuple[ReasonCode, ...]
    others: float

    def to_dict(self) -> dict[str, Any]:
        """As plain values, always in this order."""
        return asdict(self) | {"reasons": [asdict(one) for one in self.reasons]}


class ReasonWriter:
    """Reason codes of one model's scores."""

    def __init__(self, scorer: Scorer) -> None:
        """Binds to a model; whether it can be explained is in `is_able`."""
        manifest = scorer.manifest
        self._scorer = scorer
        text = scorer.kept(METADATA)
        self._explainer = None if text is None else Explainer(Explained.from_json(text))
        known = feature_wordings(manifest.contract)
        self._wordings = {name: known.get(name) or unknown_wording(name) for name in manifest.features}
        # A text has several of the model's columns, which are told as one.
        texts = [len(text.columns) for text in manifest.encoding.texts]
        ends = np.cumsum([*np.ones(len(manifest.encoding.numbers), np.int64), *texts])
        self._begins = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._sizes = np.diff(np.concatenate([[0], ends]))

    @property
    def is_able(self) -> bool:
        """Whether the model has explanations; models from before they were kept have none."""
        return self._explainer is not None

    @property
    def explained(self) -> Explained | None:
        """What attributions are made of; None where the model has none."""
        return None if self._explainer is None else self._explainer.explained

    @property
    def why_not(self) -> str | None:
        """Why there are none, as a sentence; None where there are."""
        return None if self.is_able else without_explanations(self._scorer.manifest)

    def of_rows(
        self, rows: Sequence[Mapping[str, Any]], scores: Floats, most: int = USUAL_REASONS
    ) -> list[Explanation]:
        """As `explain`, of rows of features by name."""
        return self.explain(rows_matrix(rows, self._scorer.manifest.encoding), rows, scores, most)

    def explain(
        self, X: npt.NDArray[np.float32], rows: Sequence[Mapping[str, Any]], scores: Floats, most: int = USUAL_REASONS
    ) -> list[Explanation]:
        """What moved the scores of some rows.

        Args:
            X: as `Scorer.probabilities` takes it.
            rows: of each row its features by name, before they were encoded; None where one is not known.
            scores: what the model said of them.
            most: reasons of a row.

        Raises:
            ValueError: where the model has no explanations.
            AttributionError: where they do not add up to the scores.
        """
        found = self._of_features(X, scores)
        values = found.values
        names = list(self._wordings)
        explanations = []
        for place, row in enumerate(rows):
            mine = values[place]
            order = [at for at in np.argsort(-np.abs(mine), kind="stable")[:most] if abs(mine[at]) > NOTHING]
            reasons = tuple(self._reason(names[at], row[names[at]], float(mine[at])) for at in order)
            told = sum(one.attribution for one in reasons)
            others = float(mine.sum()) - told
            explanations.append(Explanation(found.unit, found.base, found.base + float(mine.sum()), reasons, others))
        return explanations

    def of_table(self, features: pa.Table, scores: Floats, most: int = USUAL_REASONS) -> list[Explanation]:
        """As `explain`, of a table of features."""
        manifest = self._scorer.manifest
        rows = features.select(list(manifest.features)).to_pylist()
        return self.explain(model_matrix(features, manifest.encoding), rows, scores, most)

    def attributions(self, features: pa.Table, scores: Floats) -> Attributions:
        """The attributions of the manifest's features, in their order, of a table of features.

        Raises:
            ValueError: where the model has no explanations.
            AttributionError: where they do not add up to the scores.
        """
        return self._of_features(model_matrix(features, self._scorer.manifest.encoding), scores)

    def _of_features(self, X: npt.NDArray[np.float32], scores: Floats) -> Attributions:
        if self._explainer is None:
            raise ValueError(self.why_not)
        found = self._explainer.checked(X, scores)
        summed = np.zeros((len(X), len(self._begins)))
        some = self._sizes > 0
        if some.any():
            summed[:, some] = np.add.reduceat(found.values, self._begins[some], axis=1)
        return Attributions(found.unit, found.base, summed)

    def _reason(self, name: str, value: Any, attribution: float) -> ReasonCode:
        if isinstance(value, bool):
            value = float(value)
        if isinstance(value, float) and np.isnan(value):
            value = None
        return ReasonCode(name, value, attribution, self._wordings[name].say(value))


def without_explanations(manifest: ModelManifest) -> str:
    """That a model has none, and what helps."""
    return NO_EXPLANATIONS.format(model=f"{manifest.model_name} version {manifest.model_version}")
