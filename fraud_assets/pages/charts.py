"""The plots of the monthly report, as SVG inside the page.

Drawn by hand and not by matplotlib, whose SVG states a colour in each element and so cannot follow a reader's light
or dark page, and is thirty times as long. Colours and fonts are the page's, by the names of classes (`report.html`).
Nothing is told by colour alone: what was before is hollow, what is now is filled, what is estimated is dashed. The
pictures of the Dagster UI are in `plots.py`; what is drawn is decided in `report.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from fraud_assets.core.drift.histograms import Histogram
from fraud_assets.core.labels.completeness import DelayCurve
from fraud_assets.core.words import number, percent

WIDTH = 340  # a phone's, so that letters are as large there as on a desk
ROW = 26
LABEL_WIDTH, BAR_WIDTH = 128, 104
LONGEST_LABEL = 18


@dataclass(frozen=True)
class Point:
    """What was measured in a month.

    Attributes:
        month: YYYY-MM.
        value, low, high: what was measured, and its interval; None where there is none.
        promise: what was promised.
        estimated: whether it is an estimate from before the labels are known.
    """

    month: str
    value: float | None
    low: float | None
    high: float | None
    promise: float | None
    estimated: bool = False


def shares_by_bin(histogram: Histogram) -> Markup:
    """Shares before and now of each bin, one below the other, with both figures."""
    moves = [abs(now - before) for before, now in zip(histogram.reference, histogram.current, strict=True)]
    widest = moves.index(max(moves))
    said = (
        f"{histogram.feature}: shares of {len(histogram.labels)} bins before and now; the largest change is of "
        f"{histogram.labels[widest]}, {percent(histogram.reference[widest])} before and "
        f"{percent(histogram.current[widest])} now"
    )
    return shares(list(zip(histogram.labels, histogram.reference, histogram.current, strict=True)), said)


def shares(rows: Sequence[tuple[str, float, float]], said: str) -> Markup:
    """Named shares before and now, 0 to 1, as pairs of bars with both figures.

    Args:
        rows: name, share before, share now.
        said: what the picture shows, for those who do not see it.
    """
    largest = max((max(before, now) for _, before, now in rows), default=0.0) or 1.0
    drawn = []
    for place, (name, before, now) in enumerate(rows):
        top = 4 + place * ROW
        drawn.append(
            Markup(
                "<g><title>{name}: {before} before, {now} now</title>"
                '<text x="{end}" y="{middle}" class="t end">{short}</text>'
                '<rect class="before" x="{x}" y="{top}" width="{w0:.1f}" height="8"/>'
                '<rect class="now" x="{x}" y="{lower}" width="{w1:.1f}" height="8"/>'
                '<text x="{right}" y="{middle}" class="t end">{before} \u2192 {now}</text></g>'
            ).format(
                name=name, short=shorten(name), before=percent(before), now=percent(now),
                end=LABEL_WIDTH - 6, x=LABEL_WIDTH, top=top, lower=top + 10, middle=top + 13, right=WIDTH,
                w0=BAR_WIDTH * before / largest, w1=BAR_WIDTH * now / largest,
            )
        )  # fmt: skip
    return picture(ROW * len(rows) + 4, said, drawn)


def by_month(points: Sequence[Point], said: str, say: Callable[[float], str]) -> Markup:
    """What was measured month by month with its intervals, beside what was promised.

    Args:
        points: by month; where a month has two, the realised one and the estimated one stand side by side.
        said: what the picture shows, for those who do not see it.
        say: writes a value.
    """
    months = sorted({point.month for point in points})
    known = [
        value for point in points for value in (point.value, point.low, point.high, point.promise) if value is not None
    ]
    if not known:
        return Markup()
    room = 0.0 if max(known) > min(known) else abs(known[0]) * 0.1 or 1.0
    ticks = MaxNLocator(nbins=4, min_n_ticks=2).tick_values(min(known) - room, max(known) + room)
    bottom, top = float(ticks[0]), float(ticks[-1])
    left, right, height, base = 46, WIDTH - 8, 184, 158
    step = (right - left) / len(months)

    def y(value: float) -> float:
        return base - (base - 10) * (value - bottom) / (top - bottom)

    parts = [
        Markup(
            '<line class="grid" x1="{l}" x2="{r}" y1="{y:.1f}" y2="{y:.1f}"/>'
            '<text class="t end" x="{tx}" y="{ty:.1f}">{v}</text>'
        ).format(l=left, r=right, y=y(value), tx=left - 5, ty=y(value) + 4, v=say(value))
        for value in (float(tick) for tick in ticks)
    ]
    every = -(-len(months) // 6)
    for place, month in enumerate(months):
        middle = left + step * (place + 0.5)
        if (len(months) - 1 - place) % every == 0:
            label = month[2:] if len(months) > 1 else month
            parts.append(Markup('<text class="t mid" x="{:.1f}" y="{}">{}</text>').format(middle, base + 18, label))
        here = [point for point in points if point.month == month]
        for number_here, point in enumerate(here):
            x = middle + (number_here - (len(here) - 1) / 2) * min(14.0, step / 3)
            if point.promise is not None:
                parts.append(
                    Markup('<line class="promise" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                        middle - step * 0.45, middle + step * 0.45, y(point.promise), y(point.promise)
                    )
                )
            if point.low is not None and point.high is not None:
                parts.append(
                    Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                        "guess" if point.estimated else "range", x, x, y(point.low), y(point.high)
                    )
                )
            if point.value is not None:
                parts.append(
                    Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4"><title>{}</title></circle>').format(
                        "hollow" if point.estimated else "dot", x, y(point.value), _told(point, say)
                    )
                )
    return picture(height, said, parts)


def delays(curves: Sequence[tuple[str, DelayCurve]], said: str) -> Markup:
    """Shares of frauds that are known so many days after the transaction; the first curve is the one to compare with.

    Args:
        curves: at most two, with what each is of.
        said: what the picture shows, for those who do not see it.
    """
    longest = max((float(curve.days[-1]) for _, curve in curves if len(curve.days)), default=0.0)
    if not longest:
        return Markup()
    left, right, base, top = 40, WIDTH - 8, 150, 10

    def x(days: float) -> float:
        return left + (right - left) * days / (longest * 1.06)

    def y(share: float) -> float:
        return base - (base - top) * share

    parts = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text class="t end" x="{}" y="{:.1f}">{}</text>'
        ).format(left, right, y(share), y(share), left - 5, y(share) + 4, label)
        for share, label in ((0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %"))
    ]
    parts += [
        Markup('<text class="t {}" x="{:.1f}" y="{}">{}</text>').format(
            "end" if share == 1 else "mid", right if share == 1 else x(longest * share), base + 18,
            f"{number(longest)} days" if share == 1 else number(longest * share),
        )
        for share in (0.0, 0.5, 1.0)
    ]  # fmt: skip
    for (_, curve), style in zip(curves, ("curve-before", "curve-now"), strict=False):
        path = [f"M{x(0):.1f},{y(0):.1f}"]
        # As many steps as there are pixels.
        kept = sorted({round(place * (len(curve.days) - 1) / 150) for place in range(151)}) if len(curve.days) else []
        for place in kept:
            path.append(f"H{x(float(curve.days[place])):.1f}V{y(float(curve.share[place])):.1f}")
        path.append(f"H{right}")
        if kept:
            parts.append(Markup('<path class="{}" d="{}"/>').format(style, "".join(path)))
    return picture(176, said, parts)


def shorten(text: str, longest: int = LONGEST_LABEL) -> str:
    """A text that fits.

    >>> shorten("a long name of a merchant"), shorten("short")
    ('a long name of a …', 'short')
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _told(point: Point, say: Callable[[float], str]) -> str:
    told = f"{point.month}: {say(point.value or 0.0)}{' estimated' if point.estimated else ''}"
    if point.low is not None and point.high is not None:
        told += f", {say(point.low)} to {say(point.high)}"
    return told if point.promise is None else f"{told}, promised {say(point.promise)}"


def picture(height: int, said: str, parts: Sequence[Markup]) -> Markup:
    """An SVG of the plots' width, with what it shows in words."""
    return Markup('<svg role="img" viewBox="0 0 {} {}" aria-label="{}">{}</svg>').format(
        WIDTH, height, said, Markup("").join(parts)
    )
