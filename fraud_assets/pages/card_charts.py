"""The pictures of a model's card, as SVG inside the page, in the colours and letters of `templates/look.html`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from fraud_assets.core.evaluation.thresholds import Calibration
from fraud_assets.core.words import percent
from fraud_assets.pages.charts import WIDTH, picture, shorten

BAR_ROW = 20
FIGURE_WIDTH = 56
LETTER, WIDEST_LABEL = 6, 190  # the width of a letter, about, and of the longest name that is shown whole
LOWEST = 1e-5  # of a share that is drawn: a logarithm has no zero


def bars(rows: Sequence[tuple[str, float]], said: str, say: Callable[[float], str]) -> Markup:
    """Named values, 0 and up, one below the other, each with its figure.

    Args:
        rows: name and value.
        said: what the picture shows, for those who do not see it.
        say: writes a value.
    """
    largest = max((value for _, value in rows), default=0.0) or 1.0
    longest = max((len(name) for name, _ in rows), default=0)
    left = min(max(longest * LETTER + 10, 50), WIDEST_LABEL)
    room = WIDTH - left - FIGURE_WIDTH
    drawn = [
        Markup(
            "<g><title>{name}: {value}</title>"
            '<text x="{end}" y="{middle}" class="t end">{short}</text>'
            '<rect class="now" x="{x}" y="{top}" width="{width:.1f}" height="12"/>'
            '<text x="{right}" y="{middle}" class="t end">{value}</text></g>'
        ).format(
            name=name, short=shorten(name, int((left - 10) / LETTER)), value=say(value), end=left - 6, x=left,
            top=4 + place * BAR_ROW, middle=14 + place * BAR_ROW, right=WIDTH, width=room * value / largest,
        )
        for place, (name, value) in enumerate(rows)
    ]  # fmt: skip
    return picture(BAR_ROW * len(rows) + 6, said, drawn)


def calibration_picture(bins: Calibration) -> Markup:
    """Shares of fraud found, with their intervals, by what was promised; both on a logarithmic scale."""
    left, right, base, top = 46, WIDTH - 10, 190, 12
    least = min(float(bins.expected.min()), *(float(one) for one in bins.low if one > LOWEST), 1.0)
    first = 10.0 ** math.floor(math.log10(max(least, LOWEST)))
    decades = max(round(-math.log10(first)), 1)

    def along(share: float) -> float:
        return min(max(1 + math.log10(max(share, first)) / decades, 0.0), 1.0)

    def x(share: float) -> float:
        return left + (right - left) * along(share)

    def y(share: float) -> float:
        return base - (base - top) * along(share)

    parts = []
    for step in range(decades + 1):
        share = 10.0 ** (step - decades)
        parts.append(
            Markup(
                '<line class="grid" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="t end" x="{tx}" y="{ty:.1f}">{v}</text>'
                '<text class="t {anchor}" x="{x:.1f}" y="{by}">{v}</text>'
            ).format(
                l=left, r=right, y=y(share), tx=left - 5, ty=y(share) + 4, v=f"{share * 100:g} %", x=x(share),
                by=base + 16, anchor="end" if step == decades else "mid",
            )
        )  # fmt: skip
    parts.append(
        Markup('<line class="promise" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
            x(first), y(first), x(1.0), y(1.0)
        )
    )
    for expected, observed, low, high in zip(bins.expected, bins.observed, bins.low, bins.high, strict=True):
        parts.append(
            Markup(
                '<line class="range" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
                '<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{said}</title></circle>'
            ).format(
                x=x(expected), low=y(low), high=y(high), y=y(observed),
                said=f"{percent(expected)} promised, {percent(observed)} found, {percent(low)} to {percent(high)}",
            )
        )  # fmt: skip
    said = f"Shares of frauds found in {len(bins.expected)} bins of scores, by what was promised"
    return picture(base + 24, said, parts)
