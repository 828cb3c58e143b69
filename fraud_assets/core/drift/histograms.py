"""A column of two windows as shares of the reference's bins: what a person sees of a move.

The bins and the weights of the rows are those of the test, so that what is drawn is what was tested. Which columns
are worth a picture is said in `monitoring/pictures.py`, how it is drawn in `pages/charts.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa

from fraud_assets.core.drift.cells import (
    Cells,
    Floats,
    Side,
    column_type,
    number_cells,
    numbers,
    reference_cuts,
    text_cells,
    texts,
)
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.statistics.clusters import FloatArray, one_in, pair_windows, row_days, tabulate

MOST_DIGITS = 9  # a float32 has no more


@dataclass(frozen=True)
class Histogram:
    """Shares of a column's values by bin, before and now.

    Attributes:
        feature: the column.
        labels: what is in each bin, as a person says it.
        reference, current: the share of the values that are there, by bin; each adds up to 1, or to 0 without any.
        missing_reference, missing_current: shares of rows without a value, 0 to 1.
    """

    feature: str
    labels: tuple[str, ...]
    reference: tuple[float, ...]
    current: tuple[float, ...]
    missing_reference: float
    missing_current: float


def histogram(reference: pa.Table, current: pa.Table, feature: str, config: DriftConfig) -> Histogram | None:
    """A column's shares by bin in two windows.

    Bins that are empty in both windows are left out.

    Args:
        reference: event_timestamp (timestamp, UTC, no nulls) and the column, numbers or texts.
        current: the same.
        feature: the column.
        config: how many bins, how many values of a text, and how many rows of the reference are looked at.

    Returns:
        None where there is nothing to draw: a window has no rows on a weekday that both have, the column is in one
        window only or of two types, or the reference has no value of it.
    """
    if any(feature not in table.column_names or not table.num_rows for table in (reference, current)):
        return None
    windows = pair_windows(
        row_days(reference, "reference"),
        row_days(current, "current"),
        reference_each=one_in(reference.num_rows, config.reference_rows),
    )
    sides = Side(reference, windows[0]), Side(current, windows[1])
    if not all(window.rows for window in windows):
        return None
    kinds = {column_type(side.table, feature) for side in sides}
    if kinds == {"numbers"}:
        values = numbers(sides[0], feature)
        values = np.sort(values[~np.isnan(values)])
        if not len(values):
            return None
        cuts = reference_cuts(values, config.bins)
        cells, labels = number_cells(feature, cuts), bin_labels(cuts)
    elif kinds == {"texts"}:
        cells = text_cells(sides[0], feature, config.categories)
        labels = _text_labels(sides[0], feature, cells)
    else:
        return None
    shares = [
        tabulate(side.window, (), which, cells.place(side), cells.number).shares for which, side in enumerate(sides)
    ]
    known = [_known(share) for share in shares]
    drawn = [which for which in range(cells.number - 1) if known[0][which] or known[1][which]]
    if not drawn or not known[0].any():
        return None
    return Histogram(
        feature,
        tuple(labels[which] for which in drawn),
        tuple(float(known[0][which]) for which in drawn),
        tuple(float(known[1][which]) for which in drawn),
        float(shares[0][-1]),
        float(shares[1][-1]),
    )


def bin_labels(cuts: Floats) -> list[str]:
    """What is in the bins between cut points, in as few digits as tell the cut points apart.

    A bin that holds one value, see `reference_cuts`, is called by it.

    >>> bin_labels(np.array([2.0, 4.0]))
    ['below 2', '2 to 4', '4 and more']
    >>> bin_labels(np.array([0.0, np.nextafter(0.0, 1.0), 5.0]))
    ['below 0', '0', 'above 0 to 5', '5 and more']
    >>> bin_labels(np.array([0.0, np.nextafter(0.0, 1.0)]))
    ['below 0', '0', 'above 0']
    """
    if not len(cuts):
        return ["all values"]
    single = np.append(cuts[1:] == np.nextafter(cuts[:-1], cuts.dtype.type(np.inf)), False)
    after = np.append(False, single[:-1])
    # To a person, the cut behind a bin of one value is that value.
    shown = np.where(after, np.append(cuts[:1], cuts[:-1]), cuts)
    edges = _digits(shown, len(np.unique(shown)))
    labels = [f"below {edges[0]}"]
    for which in range(len(cuts) - 1):
        if single[which]:
            labels.append(edges[which])
        else:
            labels.append(f"{'above ' if after[which] else ''}{edges[which]} to {edges[which + 1]}")
    return [*labels, f"above {edges[-1]}" if after[-1] else f"{edges[-1]} and more"]


def _digits(cuts: Floats, different: int) -> list[str]:
    for digits in range(3, MOST_DIGITS + 1):
        edges = [_say(float(cut), digits) for cut in cuts]
        if len(set(edges)) >= different:
            break
    return edges


def _say(value: float, digits: int) -> str:
    """A number in so many digits, without an exponent where a person would not write one."""
    if value and not 1e-4 <= abs(value) < 1e9:
        return f"{value:.{digits}g}"
    places = max(0, digits - len(f"{abs(value):.0f}")) if abs(value) >= 1 else digits + 2
    text = f"{float(f'{value:.{digits}g}') if abs(value) < 10**digits else value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text_labels(reference: Side, feature: str, cells: Cells) -> list[str]:
    place, values = cells.place(reference), cast(Sequence[str | None], texts(reference, feature))
    other = cells.known - 1
    found, first = np.unique(place, return_index=True)
    labels = {int(cell): str(values[int(row)]) for cell, row in zip(found, first, strict=True)}
    labels |= {other: "all others", cells.known: "new values"}
    return [labels[which] for which in range(cells.known + 1)]


def _known(shares: FloatArray) -> FloatArray:
    """Shares of the values that are there."""
    present = shares[:-1]
    return cast(FloatArray, present / (present.sum() or 1.0))
