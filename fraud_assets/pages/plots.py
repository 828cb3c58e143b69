"""The plots that assets and commands show: small pictures, one message each."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from fraud_assets.core.evaluation.thresholds import Calibration, Outcome
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.words import percent

INK, ACCENT, WARM, FAINT = "#1f2a44", "#3d6fd6", "#d1495b", "#9aa5b8"
SERIES = (ACCENT, "#e0912f", FAINT)

Form = Literal["png", "svg"]


def _figure(height: float = 2.8, labels: Sequence[str] = (), *, below: float = 0.45) -> tuple[Figure, Axes]:
    """A figure of so many inches with room for a title, for `labels` on the left and for inches `below`.

    Matplotlib's own layout engines draw everything once more to find the room.
    """
    figure = Figure(figsize=(7.2, height), dpi=110)
    axes = figure.subplots()
    left = min(0.5, max(0.09, 0.02 + 0.0092 * max(map(len, labels), default=0)))
    figure.subplots_adjust(left=left, right=0.92, bottom=below / height, top=1 - 0.35 / height)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def daily_counts(rows: Mapping[int, int], title: str, marked: pa.ChunkedArray | None = None) -> bytes:
    """Rows a day, by days since 1970-01-01, as bars, and a series of timestamps as a line on its own axis."""
    figure, axes = _figure()
    axes.bar(np.array(list(rows)).astype("datetime64[D]"), list(rows.values()), color=ACCENT, alpha=0.75, width=0.8)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_ylabel("rows a day", fontsize=8, color=INK)
    if marked is not None and len(marked):
        twin = axes.twinx()
        twin.plot(*_per_day(marked), color=WARM, marker="o", markersize=3, linewidth=1)
        twin.set_ylim(bottom=0)
        twin.set_ylabel("frauds known", fontsize=8, color=WARM)
        twin.tick_params(labelsize=8, colors=WARM)
        twin.spines[["top"]].set_visible(False)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    return _png(figure)


def _per_day(timestamps: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    ordinals = timestamps.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY
    days, counts = np.unique(ordinals, return_counts=True)
    return days.astype("datetime64[D]"), counts


def shares(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str) -> bytes:
    """Shares that rise in steps with the days, one curve a name; the first is the one to compare with."""
    figure, axes = _figure()
    longest = max((days[-1] for days, _ in curves.values() if len(days)), default=1.0)
    for (name, (days, share)), colour in zip(curves.items(), (FAINT, ACCENT), strict=False):
        if len(days):
            axes.step([0, *days, longest], [0, *share, share[-1]], where="post", color=colour, label=name)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("days", fontsize=8, color=INK)
    axes.set_xlim(0, longest)
    axes.set_ylim(0, 1.02)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    return _png(figure)


def bars(values: Mapping[str, float], title: str, limit: float | None = None) -> bytes:
    """Named values as horizontal bars, largest first, with an optional limit; what is above it is marked."""
    shown = sorted(values.items(), key=lambda item: item[1])[-14:]
    figure, axes = _figure(1.0 + 0.22 * max(len(shown), 4), [name for name, _ in shown], below=0.3)
    colours = [WARM if limit is not None and value >= limit else ACCENT for _, value in shown]
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=colours)
    if limit is not None:
        axes.axvline(limit, color=WARM, linewidth=1, linestyle="--")
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return _png(figure)


def intervals(rows: Sequence[tuple[str, float, float | None, float | None]], title: str, floor: float) -> bytes:
    """Estimates with their intervals, one line each, beside the value of chance."""
    figure, axes = _figure(1.2 + 0.3 * len(rows), [name for name, *_ in rows], below=0.3)
    for position, (_, value, low, high) in enumerate(rows):
        if low is not None and high is not None:
            axes.plot([low, high], [position, position], color=ACCENT, linewidth=3, alpha=0.5)
        axes.plot(value, position, "o", color=INK)
    axes.axvline(floor, color=WARM, linewidth=1, linestyle="--")
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(left=0)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return _png(figure)


class PolicyMonth(NamedTuple):
    """A month under a retraining policy; what is not known is None."""

    month: str
    average_precision: float | None
    low: float | None
    high: float | None
    saved: float | None
    drifted: bool
    retrained: bool


def policies(by_policy: Mapping[str, Sequence[PolicyMonth]], form: Form = "png") -> bytes:
    """Average precision by month under each policy, and the money a day that it saved in that month.

    Args:
        by_policy: the months of each policy, all of them the same months in the same order.
        form: of the picture.
    """
    figure = Figure(figsize=(12.6, 4.2), dpi=100)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.97, bottom=0.14, top=0.9, wspace=0.16)
    colours = (FAINT, ACCENT, "#e0912f", WARM, INK)
    months: list[str] = []
    for number, (name, steps) in enumerate(by_policy.items()):
        colour = colours[number % len(colours)]
        months = [step.month for step in steps]
        known = [(place, step) for place, step in enumerate(steps) if step.average_precision is not None]
        # Side by side, so that intervals do not hide each other.
        at = [place + 0.12 * (number - (len(by_policy) - 1) / 2) for place, _ in known]
        left.plot(at, [step.average_precision for _, step in known], color=colour, linewidth=1.4, label=name)
        for x, (_, step) in zip(at, known, strict=True):
            assert step.average_precision is not None  # noqa: S101 - chosen above
            if step.low is not None and step.high is not None:
                left.vlines(x, step.low, step.high, color=colour, linewidth=3, alpha=0.35)
            marker = "D" if step.drifted else "o"
            face = colour if step.retrained else "white"
            left.plot(x, step.average_precision, marker, color=colour, markerfacecolor=face, markersize=5)
        right.plot([place for place, _ in known], [step.saved for _, step in known], color=colour, marker="o",
                   markersize=4, linewidth=1.4, label=name)  # fmt: skip
    for axes in (left, right):
        axes.set_xticks(range(len(months)), months)
        axes.tick_params(axis="x", rotation=30 if len(months) > 5 else 0)
        axes.legend(fontsize=8, frameon=False)
    right.axhline(0, color=FAINT, linewidth=1, linestyle="--")
    _titled(left, "Average precision, 95 % (diamond: DRIFT; filled: trained again at its end)", "", "")
    _titled(right, "Saved a day against never retraining, in the currency of the amounts", "", "")
    if form == "png":
        return _png(figure)
    buffer = io.BytesIO()
    # The same rows give the same picture.
    with matplotlib.rc_context({"svg.hashsalt": "fraud"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def model_curves(
    precision_recall: Mapping[str, tuple[np.ndarray, np.ndarray]],
    calibration: Mapping[str, Calibration],
    capacity: Mapping[str, Outcome],
    *,
    prevalence: float,
    reviewed: float,
) -> bytes:
    """How models rank, whether their scores mean what they say, and what a day's reviews would find; models by name.

    Args:
        precision_recall: recall and precision from the highest score down.
        calibration: of the first model, with counts; of others, points.
        capacity: outcomes by rising number of cards a day.
        prevalence: precision of a ranking by chance.
        reviewed: cards a day at the first model's own threshold.
    """
    figure = Figure(figsize=(12.6, 3.9), dpi=100)
    left, middle, right = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.14, top=0.9, wspace=0.2)
    _precision_recall(left, precision_recall, prevalence)
    _calibration(middle, calibration)
    _capacity(right, capacity, reviewed)
    return _png(figure)


def _titled(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=8, color=INK)
    axes.set_ylabel(y, fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _precision_recall(axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], prevalence: float) -> None:
    for (name, (recall, precision)), colour in zip(curves.items(), SERIES, strict=False):
        # A window has thousands of frauds, and a picture a few hundred columns.
        shown = np.unique(np.linspace(0, len(recall) - 1, 300).astype(int))
        axes.plot(recall[shown], precision[shown], color=colour, linewidth=1.4, label=name)
    axes.axhline(prevalence, color=WARM, linewidth=1, linestyle="--", label=f"by chance ({percent(prevalence)})")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, frameon=False)
    _titled(axes, "Precision and recall of transactions", "recall: share of frauds found", "precision")


def _calibration(axes: Axes, models: Mapping[str, Calibration]) -> None:
    largest = 0.0
    for position, (name, bins) in enumerate(models.items()):
        colour = SERIES[position % len(SERIES)]
        axes.plot(bins.expected, bins.observed, "o-", color=colour, markersize=4, linewidth=1, label=name)
        largest = max(largest, *bins.expected, *bins.observed)
        if position == 0:
            largest = max(largest, *bins.high)
            axes.vlines(bins.expected, bins.low, bins.high, color=colour, linewidth=3, alpha=0.35)
            last = -1.0
            for x, y, n, n_fraud in zip(bins.expected, bins.low, bins.n, bins.n_fraud, strict=True):
                # Labels that would lie on each other are left out.
                if y - last < 0.04 * largest:
                    continue
                last = y
                axes.annotate(
                    f"{n_fraud:,.0f} / {n:,.0f}", (x, y), xytext=(5, -5), textcoords="offset points", fontsize=6,
                    color=INK,
                )  # fmt: skip
    # Without a single bin with anything in it.
    largest = largest or 1.0
    axes.plot([0, largest], [0, largest], color=FAINT, linewidth=1, linestyle="--", label="perfectly calibrated")
    axes.set(xlim=(-0.02 * largest, 1.18 * largest), ylim=(-0.04 * largest, 1.05 * largest))
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    _titled(axes, "Calibration (frauds / transactions, 95 %)", "mean score", "share of fraud")


def _capacity(axes: Axes, models: Mapping[str, Outcome], reviewed: float) -> None:
    for position, (name, outcome) in enumerate(models.items()):
        colour = SERIES[position % len(SERIES)]
        axes.plot(outcome.alerts_per_day, outcome.recall, color=colour, linewidth=1.4, label=f"{name}: frauds")
        if position == 0 and np.isfinite(outcome.value_detected).all():
            axes.plot(
                outcome.alerts_per_day, outcome.value_detected, color=colour, linewidth=1.4, linestyle=":",
                label=f"{name}: value",
            )  # fmt: skip
    axes.axvline(reviewed, color=WARM, linewidth=1, linestyle="--", label=f"its threshold ({reviewed:.0f} a day)")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    _titled(axes, "Found by reviewing so many cards a day", "cards a day", "share found")
