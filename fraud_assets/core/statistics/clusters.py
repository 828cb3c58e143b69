"""Two windows of rows that are not independent: shares of cells, their covariance, and the test that they are equal.

Rows of one customer, of one terminal and of one day resemble each other, so a test that takes them for independent
calls every month drift. Here the variance of a difference between two windows is measured over customers and terminals
that are paired between the windows (two-way clusters: Cameron, Gelbach and Miller, 2011,
https://doi.org/10.1198/jbes.2010.07136) and over days, and a chi-squared statistic is corrected for it (Rao and Scott,
1981, https://doi.org/10.1080/01621459.1981.10477633, with Satterthwaite's degrees of freedom).

What the cells are (bins of a feature, scores, labels) and what a difference means belongs to `drift/columns.py`,
`performance/concept.py` and `performance/label_drift.py`. The way of use, for two tables of rows:

    windows = pair_windows(row_days(reference, "reference"), row_days(current, "current"))
    pairs = pair_clusters(reference, current, ["customer_id", "terminal_id"])
    tables = [tabulate(window, pairs, side, place) for side, (window, place) in enumerate(zip(windows, places))]
    difference = tables[1].shares - tables[0].shares
    p = rao_scott(difference, (tables[0].shares + tables[1].shares) / 2, covariance(windows, pairs, tables)).p_value

Sums over rows are of whole numbers, and sums over clusters run in the order of their ids, so the order of the rows
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import chdtrc, fdtrc

from fraud_assets.core.units import MICROSECONDS_PER_DAY

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class RowWindow:
    """One window's days: of each row its day and weight, of each day its date, weekday and weight.

    Days on a weekday that the other window lacks have nothing to be compared with; they and their rows are left out.

    Attributes:
        kept: positions of the rows that stay, None for all. What follows is about these rows.
        day_code: of each row the position of its day, shape (rows,).
        row_weight: of each row, shape (rows,); whole numbers.
        each: how many rows each of them stands for: more than one where rows were left out evenly.
        day_weight, day_weekday, day: of each day its weight, its weekday (Monday 0) and the days from 1970-01-01 to
            it, shape (days,), ascending.
    """

    kept: IntArray | None
    day_code: IntArray
    row_weight: FloatArray
    each: int
    day_weight: FloatArray
    day_weekday: IntArray
    day: IntArray

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.day_code)

    @property
    def total(self) -> float:
        """Sum of the rows' weights: N in the formulas."""
        return float(self.row_weight.sum())

    @property
    def rows_a_day(self) -> float:
        """Rows a day, each weekday with the same say."""
        return self.total / float(self.day_weight.sum())

    def rows_of(self, values: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Of values of all rows of the table, those of the rows that stay."""
        return values if self.kept is None else values[self.kept]


@dataclass(frozen=True)
class ClusterPair:
    """A cluster column: of each row of both tables the rank of its id among all ids, or -1 without one.

    Attributes:
        name: of the column.
        codes: of the reference's rows and of the current ones; of all rows, those that a window leaves out included.
        ids: how many ids there are.
        number: how many clusters: a row without an id is one of its own.
    """

    name: str
    codes: tuple[IntArray, IntArray]
    ids: int
    number: int


@dataclass(frozen=True)
class Tables:
    """The weights of a window's rows by cell.

    Attributes:
        days: by day and cell, shape (days, cells).
        squares: sum of the squared weights by cell, shape (cells,).
        clusters: for each cluster column, by id and cell, shape (ids, cells).
        alone: for each cluster column, sum of the squared weights of the rows without an id by cell, shape (cells,).
    """

    days: FloatArray
    squares: FloatArray
    clusters: tuple[FloatArray, ...]
    alone: tuple[FloatArray, ...]

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.days.sum())

    @property
    def shares(self) -> FloatArray:
        """Of each cell, its share of the weight, shape (cells,); zeros of an empty window."""
        return cast(FloatArray, self.days.sum(axis=0) / (self.total or 1.0))

    def joined(self, *cells: Sequence[int]) -> Tables:
        """Other cells made of these: each of several cells together, those that are not named left out."""
        matrix = np.zeros((self.days.shape[1], len(cells)))
        for number, parts in enumerate(cells):
            matrix[list(parts), number] = 1
        return Tables(
            self.days @ matrix,
            self.squares @ matrix,
            tuple(table @ matrix for table in self.clusters),
            tuple(squares @ matrix for squares in self.alone),
        )


class Significance(NamedTuple):
    """A statistic and the chance of such a one, or a larger one, if nothing differed."""

    statistic: float
    p_value: float


def row_days(table: pa.Table, side: str) -> IntArray:
    """Days since 1970-01-01 of the rows.

    Raises:
        ValueError: when event_timestamp is absent, no timestamp, or null in a row.
    """
    column = _column(table, "event_timestamp", side)
    if not pa.types.is_timestamp(column.type):
        raise ValueError(f"event_timestamp of the {side} table is {column.type}; it must be a timestamp in UTC")
    if column.null_count:
        raise ValueError(f"event_timestamp of the {side} table is null in {column.null_count:,} rows; quarantine them")
    moments = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64()).to_numpy()
    return cast(IntArray, moments // MICROSECONDS_PER_DAY)


def weekday_weights(days: IntArray, weekdays: Sequence[int]) -> FloatArray:
    """Weights of days that give each of `weekdays` the same say, whatever the calendar gave the window.

    A weight is proportional to 1 over the number of such weekdays in the window; only ratios matter, so
    weights are the smallest whole numbers: sums of them are exact.

    Args:
        days: distinct days since 1970-01-01, shape (days,).
        weekdays: those to weigh, Monday 0 to Sunday 6, each of them present among `days`.

    Returns:
        Shape (days,), 0 on other weekdays.

    Two Mondays and a Tuesday:

    >>> weekday_weights(np.array([4, 5, 11]), [0, 1]).tolist()
    [1.0, 2.0, 1.0]
    """
    weekday = _weekday(days)
    counts = np.bincount(weekday, minlength=7)
    whole = math.lcm(*(int(counts[day]) for day in weekdays)) if weekdays else 0
    by_weekday = np.zeros(7)
    for day in weekdays:
        by_weekday[day] = whole // int(counts[day])
    return by_weekday[weekday]


def pair_windows(
    reference_days: IntArray, current_days: IntArray, *, reference_each: int = 1
) -> tuple[RowWindow, RowWindow]:
    """The two windows, weighted to the same mix of the weekdays that both have.

    Args:
        reference_days: of each row, from `row_days`.
        current_days: the same of the current window.
        reference_each: of the reference, one row in so many is taken.
    """
    common = set(_weekday(np.unique(reference_days)).tolist()) & set(_weekday(np.unique(current_days)).tolist())
    return row_window(reference_days, sorted(common), each=reference_each), row_window(current_days, sorted(common))


def row_window(days: IntArray, weekdays: Sequence[int], *, each: int = 1) -> RowWindow:
    """A window, weighted so that each of the weekdays has the same say.

    Args:
        days: of each row, from `row_days`.
        weekdays: those to keep, each of them present.
        each: one row in so many is taken, the first one first.
    """
    unique, code = np.unique(days[::each], return_inverse=True)
    weight = weekday_weights(unique, weekdays)
    use = weight > 0
    kept = None if use.all() and each == 1 else np.flatnonzero(use[code])
    if kept is not None:
        code = (np.cumsum(use) - 1)[code[kept]]
        kept = kept * each
    day_weight = weight[use]
    return RowWindow(kept, code, each * day_weight[code], each, day_weight, _weekday(unique[use]), unique[use])


def one_in(rows: int, most: int) -> int:
    """One row in how many is taken, so that at most `most` are.

    >>> [one_in(rows, 100) for rows in (0, 100, 101, 250)]
    [1, 1, 2, 3]
    """
    return max(1, -(-rows // most))


def pair_clusters(reference: pa.Table, current: pa.Table, columns: Sequence[str]) -> list[ClusterPair]:
    """Codes that mean the same cluster in both tables, ordered by id so that row order does not matter.

    Args:
        reference: has all the columns.
        current: the same, of types that can be compared.
        columns: customer_id, terminal_id. One that has the same id throughout tells nothing and is left out.

    Raises:
        ValueError: when a column is absent or of types that cannot be compared.
    """
    return [pair for name in columns if (pair := _pair(reference, current, name)).number > 1]


def tabulate(
    window: RowWindow,
    pairs: Sequence[ClusterPair],
    side: int,
    place: IntArray,
    number: int,
    weight: FloatArray | None = None,
) -> Tables:
    """Sums the weights of a window's rows by cell: of each day, and of each cluster.

    Args:
        window: the window.
        pairs: its cluster columns.
        side: 0 for the reference, 1 for the current window.
        place: of each row of the window (after `rows_of`), the cell that it is in, shape (rows,).
        number: of cells.
        weight: of each row, shape (rows,); the weekdays' when None. For a ratio, such as the fraud rate of each cell:
            the weekdays' weights times what the row's label is above the cell's rate, see `covariance`.
    """
    days = len(window.day_weight)
    if weight is None:
        counts = np.bincount(window.day_code * number + place, minlength=days * number).reshape(days, number)
        day_weight = window.each * window.day_weight
        by_day, squares = day_weight[:, None] * counts, day_weight**2 @ counts
    else:
        by_day = _sums(window.day_code * number + place, weight, days * number).reshape(days, number)
        squares = _sums(place, weight**2, number)
    weights = window.row_weight if weight is None else weight
    clusters, alone = [], []
    for pair in pairs:
        code, cell, some = window.rows_of(pair.codes[side]), place, weights
        unknown = np.zeros(number)
        if (code < 0).any():
            nameless, known = np.flatnonzero(code < 0), np.flatnonzero(code >= 0)
            unknown = _sums(place[nameless], weights[nameless] ** 2, number)
            code, cell, some = code[known], place[known], weights[known]
        clusters.append(_sums(code * number + cell, some, pair.ids * number).reshape(pair.ids, number))
        alone.append(unknown)
    return Tables(by_day, squares, tuple(clusters), tuple(alone))


def covariance(
    windows: Sequence[RowWindow],
    pairs: Sequence[ClusterPair],
    tables: Sequence[Tables],
    *,
    shares: Sequence[FloatArray] | None = None,
    totals: Sequence[float | FloatArray] | None = None,
) -> FloatArray:
    """Covariance of the differences between two windows: of rows, of clusters paired between them, and of days.

    The surplus of a cluster in cell k is u_k = (n_k - p_k n) / N, in the current window less that in the reference:
    what a cluster keeps from window to window cancels, so an expensive customer who stays is no drift. A cluster that
    is absent from a window has no surplus there.

    Args:
        windows: the reference and the current one.
        pairs: the cluster columns.
        tables: of the two windows.
        shares: p; of the tables themselves when None. Zeros where the weights are differences already.
        totals: N; of the tables themselves when None. For a ratio, the weight of the rows in each cell.

    Returns:
        Shape (cells, cells), positive semidefinite.
    """
    shares = shares if shares is not None else [table.shares for table in tables]
    totals = totals if totals is not None else [table.total for table in tables]
    sides = list(zip(windows, tables, shares, totals, strict=True))
    rows, between_days = np.zeros((2, len(shares[0]), len(shares[0])))
    for window, table, share, total in sides:
        rows += _of_rows(table.squares, share, total)
        between_days += _of_days(window, _surplus(table.days, share, total))
    between_clusters = rows
    if pairs:
        # Rows are in the variance of each cluster column and must count once. (Exactly, it is the rows that
        # share both ids: a customer who returns to a terminal counts twice, which errs to the quiet side.)
        between_clusters = (1 - len(pairs)) * rows
        for which, pair in enumerate(pairs):
            reference, current = (_surplus(table.clusters[which], share, total) for _, table, share, total in sides)
            difference = current - reference
            scatter = difference.T @ difference
            for _, table, share, total in sides:
                scatter = scatter + _of_rows(table.alone[which], share, total)
            # The usual correction for a finite number of clusters (Cameron, Gelbach and Miller, 2011, section 2.3).
            between_clusters = between_clusters + pair.number / (pair.number - 1) * scatter
    return positive(between_clusters) + positive(between_days - rows)


def rao_scott(
    difference: FloatArray, mean: FloatArray, variance: FloatArray, *, denominator: float = math.inf
) -> Significance:
    """Whether differences are more than chance, where `variance` is their covariance matrix.

    With d the differences divided by the root of `mean` and V their covariance, Q = d'd is distributed as a weighted
    sum of chi-squared variables with the eigenvalues of V as weights; Q / alpha is referred to chi-squared with nu
    degrees of freedom, alpha = tr V^2 / tr V, nu = (tr V)^2 / tr V^2, which agrees with it in mean and variance (Rao
    and Scott, 1981, section 3; Satterthwaite, 1946). Where V itself is a guess, Q / tr V is referred to F with nu and
    `denominator` degrees of freedom instead.

    Args:
        difference: of each cell, shape (cells,).
        mean: what to weigh a cell by: of shares, their mean. A cell without any differs in nothing.
        variance: shape (cells, cells).
        denominator: degrees of freedom of tr V, above 0.

    Returns:
        Q / alpha and its p. Where nothing varies: infinity and 0 if something differed all the same, else 0 and 1.
    """
    some = mean > 0
    root = np.sqrt(mean[some])
    scaled = variance[np.ix_(some, some)] / np.outer(root, root)
    quadratic = float(np.sum((difference[some] / root) ** 2))
    trace, trace_squared = float(np.trace(scaled)), float(np.sum(scaled**2))
    if not trace > 0:
        return Significance(0.0, 1.0) if quadratic == 0 else Significance(math.inf, 0.0)
    freedom = trace**2 / trace_squared
    statistic = quadratic * trace / trace_squared
    if math.isinf(denominator):
        return Significance(stable(statistic), stable(float(chdtrc(freedom, statistic))))
    return Significance(stable(statistic), stable(float(fdtrc(freedom, denominator, quadratic / trace))))


def positive(matrix: FloatArray) -> FloatArray:
    """The nearest positive semidefinite matrix: a difference of estimates may fall below zero."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return cast(FloatArray, (vectors * np.maximum(values, 0)) @ vectors.T)


def stable(value: float) -> float:
    """Eight significant digits: the last bits of matrix products differ between machines and thread counts.

    The digest of a report decides whether a month is trained again, so they must not reach it.

    >>> stable(0.123456789012)
    0.12345679
    """
    return float(f"{value:.8g}")


def _sums(place: IntArray, weight: FloatArray, number: int) -> FloatArray:
    return np.bincount(place, weight, minlength=number).astype(np.float64, copy=False)


def _weekday(days: IntArray) -> IntArray:
    return (days + 3) % 7  # 1970-01-01 was a Thursday


def _column(table: pa.Table, name: str, side: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ValueError(f"the {side} table has no column {name!r}; it has {table.column_names}")
    return table.column(name)


def _pair(reference: pa.Table, current: pa.Table, name: str) -> ClusterPair:
    columns = [_column(table, name, side) for table, side in ((reference, "reference"), (current, "current"))]
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in columns]
    # A column without a single id has the type null, which says nothing about the ids of the other window.
    kind = next((c.type for c in columns if not pa.types.is_null(c.type)), pa.int64())
    try:
        chunks = [chunk for column in columns for chunk in column.cast(kind).chunks]
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{name} is {columns[0].type} in the reference, {columns[1].type} in the current table: {error}"
        ) from error
    encoded = pa.chunked_array(chunks, type=kind).combine_chunks().dictionary_encode()
    ids = len(encoded.dictionary)
    rank = np.full(ids + 1, -1, dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(ids)
    codes = rank[encoded.indices.fill_null(ids).to_numpy(zero_copy_only=False)]
    number = ids + int(np.count_nonzero(codes < 0))
    return ClusterPair(name, (codes[: reference.num_rows], codes[reference.num_rows :]), ids, number)


def _surplus(table: FloatArray, share: FloatArray, total: float | FloatArray) -> FloatArray:
    return cast(FloatArray, (table - table.sum(axis=1, keepdims=True) * share) / total)


def _of_rows(squares: FloatArray, share: FloatArray, total: float | FloatArray) -> FloatArray:
    """Sum over rows of w^2 (e - p)(e - p)' / N^2, e the row's cell as a unit vector."""
    cross = np.outer(squares, share)
    variance = np.diag(squares) - cross - cross.T + squares.sum() * np.outer(share, share)
    return cast(FloatArray, variance / np.outer(total, total))


def _of_days(window: RowWindow, surplus: FloatArray) -> FloatArray:
    """Sum over days of u u', u the day's surplus in each cell, centred within weekdays.

    With a weekday that occurs once there is nothing to centre on; then all days are one stratum (collapsed
    strata: Cochran, Sampling Techniques, 5A.12), which counts the differences of weekdays as chance.
    """
    stratum = window.day_weekday
    if np.unique(stratum, return_counts=True)[1].min() == 1:
        stratum = np.zeros_like(stratum)
    variance = np.zeros((surplus.shape[1], surplus.shape[1]))
    for which in np.unique(stratum):
        days = surplus[stratum == which]
        days = days - days.mean(axis=0)
        variance += len(days) / (len(days) - 1) * (days.T @ days)
    return variance
