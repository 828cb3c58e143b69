"""What a model makes of each feature: how much it moves scores, and how the score follows its values.

Both are of some rows that are stored, and say what the model does, not what is so in the world. Reasons of a single
score belong to `reason_codes.py`, pictures to `pages`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.models.scoring import Scorer

Floats = npt.NDArray[np.float64]

IMPORTANCE_ROWS = 300  # the mean of so many is within a tenth of that of all, and a forest takes up to 15 ms a row
CURVE_ROWS = 250  # each is scored at every point of every curve
CURVES = 6  # features with one: the most important ones
POINTS = 12  # of a curve, at most


@dataclass(frozen=True)
class Point:
    """A feature's value and what the model says on average with it.

    Attributes:
        value: a number, a text, or None for no value.
        score: mean probability, 0 to 1, of the rows if all had that value and their own other ones (Friedman, Greedy
            function approximation: a gradient boosting machine, 2001, section 8.2).
    """

    value: float | str | None
    score: float


@dataclass(frozen=True)
class Behaviour:
    """What a model makes of its features.

    Attributes:
        month: of the rows.
        n: rows that importance was taken over.
        unit: of importance, see `attributions.Attributions`; None of a model without attributions.
        importance: by feature the mean distance that it moved the raw score, the largest first.
        curves: of the most important features the points of their partial dependence.
    """

    month: str
    n: int
    unit: str | None
    importance: Mapping[str, float]
    curves: Mapping[str, tuple[Point, ...]]

    def to_json(self) -> str:
        """As text; `from_json` makes an equal one of it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Behaviour:
        """Reads what `to_json` wrote."""
        return TypeAdapter(cls).validate_json(text)


def behaviour(scorer: Scorer, features: pa.Table, month: str) -> Behaviour:
    """What a model makes of its features on some rows, evenly taken; the same rows give the same.

    Args:
        scorer: the model.
        features: a month's rows with its features.
        month: which.
    """
    manifest = scorer.manifest
    rows = _evenly(features.select(list(manifest.features)), IMPORTANCE_ROWS)
    writer = ReasonWriter(scorer)
    importance = dict.fromkeys(manifest.features, 0.0)
    unit = None
    if writer.is_able and rows.num_rows:
        found = writer.attributions(rows, scorer.score(rows))
        unit, strengths = found.unit, np.abs(found.values).mean(axis=0)
        importance = {name: float(one) for name, one in zip(manifest.features, strengths, strict=True)}
    order = sorted(importance, key=lambda name: -importance[name])
    some = _evenly(rows, CURVE_ROWS)
    # What moves nothing has a curve without a bend.
    drawn = [name for name in order if importance[name] > 0 or unit is None][:CURVES]
    curves = {name: _curve(scorer, some, name, rows[name]) for name in drawn if some.num_rows}
    return Behaviour(month, rows.num_rows, unit, {name: importance[name] for name in order}, curves)


def _evenly(rows: pa.Table, most: int) -> pa.Table:
    if rows.num_rows <= most:
        return rows
    return rows.take(pa.array(np.linspace(0, rows.num_rows - 1, most).astype(np.int64)))


def _curve(scorer: Scorer, rows: pa.Table, name: str, values: pa.ChunkedArray) -> tuple[Point, ...]:
    """The mean score with each of the feature's usual values in all rows; that without one last."""
    points: list[Any] = _usual_texts(values) if pa.types.is_string(values.type) else _usual_numbers(values)
    if _has_missing(values):
        points.append(None)
    place, kind = rows.column_names.index(name), values.type
    # All points at once: a model scores many rows in little more time than a few.
    alike = [rows.set_column(place, name, pa.array([value] * rows.num_rows, kind)) for value in points]
    if not alike:
        return ()
    scores = scorer.score(pa.concat_tables(alike)).reshape(len(points), rows.num_rows).mean(axis=1)
    return tuple(Point(value, float(score)) for value, score in zip(points, scores, strict=True))


def _usual_numbers(values: pa.ChunkedArray) -> list[float]:
    """The values that the middle nine tenths of the rows have, or quantiles of them."""
    numbers = np.asarray(values.drop_null().to_numpy(), dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    if not len(numbers):
        return []
    distinct = np.unique(numbers)
    if len(distinct) > POINTS:
        distinct = np.unique(np.quantile(numbers, np.linspace(0.05, 0.95, POINTS), method="nearest"))
    return [float(one) for one in distinct]


def _usual_texts(values: pa.ChunkedArray) -> list[str]:
    counts = pa.table({"value": pc.drop_null(values)}).group_by("value").aggregate([([], "count_all")])
    ordered = counts.sort_by([("count_all", "descending"), ("value", "ascending")])
    return [str(one) for one in ordered["value"].to_pylist()[:POINTS]]


def _has_missing(values: pa.ChunkedArray) -> bool:
    if values.null_count:
        return True
    return pa.types.is_floating(values.type) and bool(pc.any(pc.is_nan(values), min_count=0).as_py())
