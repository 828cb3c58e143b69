"""The plots that assets show: small PNG pictures, one message each."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, ACCENT, WARM, FAINT = "#1f2a44", "#3d6fd6", "#d1495b", "#9aa5b8"
DAY = 86_400_000_000


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.2, 2.8), dpi=110, layout="constrained")
    axes = figure.subplots()
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
    figure.autofmt_xdate(rotation=0, ha="center")
    return _png(figure)


def _per_day(timestamps: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    ordinals = timestamps.cast(pa.int64()).to_numpy() // DAY
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
    figure, axes = _figure()
    shown = sorted(values.items(), key=lambda item: item[1])[-14:]
    figure.set_size_inches(7.2, 1.0 + 0.22 * max(len(shown), 4))
    colours = [WARM if limit is not None and value >= limit else ACCENT for _, value in shown]
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=colours)
    if limit is not None:
        axes.axvline(limit, color=WARM, linewidth=1, linestyle="--")
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return _png(figure)


def intervals(rows: Sequence[tuple[str, float, float | None, float | None]], title: str, floor: float) -> bytes:
    """Estimates with their intervals, one line each, beside the value of chance."""
    figure, axes = _figure()
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
