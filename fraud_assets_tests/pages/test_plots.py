"""Plots: what must not break on little data; whether they can be read is looked at, not tested."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from fraud_assets.core.evaluation.thresholds import (
    Flagging,
    calibration_bins,
    capacity_curve,
    precision_recall_curve,
)
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.pages import plots


def curves(y: Any, score: Any, amount: Any = None, models: tuple[str, ...] = ("champion v1",)) -> bytes:
    flagging = Flagging.of(y, score, cards=None, days=np.arange(len(y)) % 3, amount=amount, costs=Costs())
    calibration = calibration_bins(y, score, None)
    return plots.model_curves(
        dict.fromkeys(models, precision_recall_curve(y, score)),
        {} if calibration is None else dict.fromkeys(models, calibration),
        dict.fromkeys(models, capacity_curve(flagging)),
        prevalence=float(np.mean(y)),
        reviewed=1.0,
    )


def colours(png: bytes) -> set[tuple[int, ...]]:
    """The colours of a picture as bytes of red, green and blue."""
    pixels = (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)
    return {tuple(colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0).tolist()}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def test_each_model_has_a_colour_of_its_own() -> None:
    y = np.arange(60) % 4 == 0
    score = np.linspace(0.01, 0.9, 60)
    shown = colours(curves(y, score, models=("champion v1", "challenger v2", "reference v2")))
    assert {rgb(colour) for colour in plots.SERIES} <= shown
    assert rgb(plots.SERIES[1]) not in colours(curves(y, score))


@pytest.mark.parametrize(
    ("y", "score"),
    [
        pytest.param([True, False], [0.9, 0.1], id="two rows"),
        pytest.param([True, False, False], [0.5, 0.5, 0.5], id="one score"),
        pytest.param([False, True, False], [0.0, 0.0, 0.0], id="nothing expected"),
        pytest.param([True, False, True], [5.0, 3.0, -2.0], id="no probabilities"),
    ],
)
def test_little_or_odd_data_has_a_picture_without_a_warning(y: list[bool], score: list[float]) -> None:
    assert curves(np.array(y), np.array(score), amount=np.full(len(y), 10.0)).startswith(b"\x89PNG")


def test_bars_of_nothing_are_an_empty_picture() -> None:
    assert plots.bars({}, "nothing").startswith(b"\x89PNG")


def test_long_names_have_room_beside_the_bars() -> None:
    """The names are left of the bars, so the bars begin further right than those of short names."""

    def first_bar(name: str) -> int:
        pixels = (imread(io.BytesIO(plots.bars({name: 1.0}, "t")))[..., :3] * 255).round().astype(int)
        return int(np.flatnonzero((pixels == rgb(plots.ACCENT)).all(axis=2).any(axis=0))[0])

    assert first_bar("a_feature_with_a_name_as_long_as_this") > first_bar("short") + 100
