"""Drift: has this month's data moved away from the reference by more than chance?

What a window of transactions looks like beside another, feature by feature, how surely, and the verdict
that follows, belong here. Whether the verdict leads to a retraining does not (`retraining.py`), nor where
the tables come from or where the report goes.

The rows of one customer, of one terminal and of one day resemble each other, so a test that takes them for
independent calls every month drift. Here the variance of the difference is measured over customers and
terminals that are paired between the windows (two-way clusters: Cameron, Gelbach and Miller, 2011,
https://doi.org/10.1198/jbes.2010.07136) and over days, and the chi-squared statistic is corrected for it
(Rao and Scott, 1981, https://doi.org/10.1080/01621459.1981.10477633, with Satterthwaite's degrees of
freedom).

That variance knows nothing of shocks which a whole month shares, so being significant is not enough for
DRIFT: the effect must also be large. Sums over rows are of whole numbers, and sums over clusters run in the
order of their ids, so the order of the rows changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import chdtrc

DriftStatus = Literal["OK", "WATCH", "DRIFT", "INSUFFICIENT_DATA"]
DriftKind = Literal["covariate", "prediction"]
DRIFT_STATUSES: tuple[DriftStatus, ...] = get_args(DriftStatus)

SCORE = "score"
MICROSECONDS_PER_DAY = 86_400_000_000

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DriftConfig:
    """The limits of the verdict, each with the reason for its default.

    Attributes:
        bins: quantile bins of the reference. Ten is what PSI's usual limits (0.10, 0.25) are stated for.
        drift_p: DRIFT needs an adjusted p below it. 0.005: at 0.01, months of simulated worlds in which only
            shared shocks happened were still called drift.
        watch_p: WATCH needs an adjusted p below it. 0.05 over all features together is at most one quiet
            month in twenty, and WATCH costs a look, not a retraining.
        psi_limit: DRIFT needs a PSI of at least this, or `missing_limit`. 0.10 is the conventional lower
            bound of a moderate shift; 16 features of unchanged months of the Handbook data stay below 0.002.
        missing_limit: a rise of the share of missing values (0 to 1) that is large whatever the PSI. 0.05,
            because PSI sees a rise from nothing (0 to 5 %: 0.31) but not one from something (10 to 15 %:
            0.02), and to a model one row in twenty without the feature is the same harm.
        min_total_variation: WATCH needs at least this share of rows in another bin. 0.005: with 290,000 rows
            smaller moves are measurable, and no one acts on half a row in a hundred.
        min_rows: rows a window must have. 500 is fifty a bin; below that PSI from chance alone comes near
            its limit (about 9 degrees of freedom x 2 / 500 = 0.04 even if rows were independent).
        min_days: days a window must have. With fewer than 5 the variance between days is a guess.
        min_values: values a feature must have on each side for its bins to be compared; below that only the
            share of missing is. 100 is ten a bin.
        share_floor: a share below it counts as this in the PSI, which would be infinite for a bin that is
            empty on one side. 0.0001, as is common.
        volume_note: a change of rows a day (0.05 is 5 %) from which the report mentions it, because features
            that count over a time window move with the volume. 0.05, because quiet months differ by less
            (by 1 % in the Handbook data).

    Raises:
        ValueError: when a limit is out of its range.
    """

    bins: int = 10
    drift_p: float = 0.005
    watch_p: float = 0.05
    psi_limit: float = 0.10
    missing_limit: float = 0.05
    min_total_variation: float = 0.005
    min_rows: int = 500
    min_days: int = 5
    min_values: int = 100
    share_floor: float = 1e-4
    volume_note: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.drift_p <= self.watch_p < 1:
            raise ValueError(f"need 0 < drift_p <= watch_p < 1, got {self.drift_p} and {self.watch_p}")
        for name, least in (("bins", 2), ("min_rows", 1), ("min_days", 2), ("min_values", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("psi_limit", "missing_limit", "min_total_variation", "share_floor", "volume_note"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of the current window beside the reference.

    Shares are weighted so that both windows have the same mix of weekdays; medians and counts are of the
    plain rows. What could not be computed is None, and `reason` says why.

    Attributes:
        kind: 'prediction' for the champion's score, else 'covariate'.
        feature: name of the column.
        method: the test behind `p_value`, or 'none'.
        n_reference, n_current: rows of the windows.
        psi: population stability index, 0 and up.
        jensen_shannon: Jensen-Shannon distance with base 2, 0 to 1.
        total_variation: share of rows that sit in another bin, 0 to 1.
        statistic: the corrected chi-squared statistic.
        p_value: chance of such a statistic if nothing moved, for this feature alone.
        p_adjusted: the same over all features of the report (Holm).
        missing_reference, missing_current: shares of rows without a value, 0 to 1.
        median_reference, median_current: of the values that are there.
        status: the verdict on this feature.
        reason: the verdict as a sentence.
    """

    kind: DriftKind
    feature: str
    method: str
    n_reference: int
    n_current: int
    psi: float | None
    jensen_shannon: float | None
    total_variation: float | None
    statistic: float | None
    p_value: float | None
    p_adjusted: float | None
    missing_reference: float | None
    missing_current: float | None
    median_reference: float | None
    median_current: float | None
    status: DriftStatus
    reason: str


@dataclass(frozen=True)
class DriftReport:
    """The verdict on a window: its status, the reasons as sentences, and one row a feature."""

    drift_status: DriftStatus
    reasons: tuple[str, ...]
    rows: tuple[FeatureDrift, ...]


def insufficient(reason: str) -> DriftReport:
    """The report when nothing could be compared.

    >>> insufficient("there is no champion yet").drift_status
    'INSUFFICIENT_DATA'
    """
    return DriftReport("INSUFFICIENT_DATA", (reason,), ())


def measure_drift(
    reference: pa.Table,
    current: pa.Table,
    *,
    features: Sequence[str],
    clusters: Sequence[str],
    config: DriftConfig,
) -> DriftReport:
    """Compares a window of transactions with the reference, feature by feature.

    A feature is DRIFT when its adjusted p is below `config.drift_p` and its effect is large (PSI or rise of
    missing values), WATCH when its adjusted p is below `config.watch_p` and its effect is not negligible.
    The report takes the worst of its features; a feature that could not be compared is unknown, and unknown
    is not OK: it makes the report WATCH at least, and INSUFFICIENT_DATA when it holds for all.

    Args:
        reference: the window the model knows, one to several months; columns event_timestamp (timestamp, UTC,
            no nulls), those of `clusters`, and the features (numbers; null and NaN mean missing).
        current: the window in question, with the same columns.
        features: columns to compare. A column `score` is compared as well where a table has one, as
            the champion's prediction.
        clusters: columns whose equal values mark rows that are not independent (customer_id, terminal_id),
            with the same ids in both windows; a row without an id stands alone. May be empty.
        config: the limits.

    Returns:
        The report, rows in the order of `features`. Its numbers do not depend on the order of the rows.

    Raises:
        ValueError: when event_timestamp or a cluster column is absent or of a wrong type, or a time is null.
    """
    names = list(dict.fromkeys([*features, *([SCORE] if _has_score(reference, current) else [])]))
    if not names:
        return insufficient("no features were given, so nothing could be compared")
    days = _days(reference, "reference"), _days(current, "current")
    windows = _windows(*days)
    for side, window in zip(("reference", "current"), windows, strict=True):
        if window.rows < config.min_rows:
            return insufficient(f"the {side} window has {window.rows:,} comparable rows and needs {config.min_rows:,}")
        if len(window.day_weight) < config.min_days:
            return insufficient(
                f"the {side} window has {len(window.day_weight)} days on weekdays that both windows have "
                f"and needs {config.min_days}"
            )
    pairs = [pair for name in clusters if (pair := _pair_clusters(reference, current, name)).number > 1]
    method = "Rao-Scott chi-squared by " + ", ".join(["day", *(pair.name for pair in pairs)])
    measured = [_measure(reference, current, name, windows, pairs, config) for name in names]
    adjusted = iter(holm([measure.p_value for measure in measured if measure.p_value is not None]))
    rows = tuple(
        _judge(
            measure,
            next(adjusted) if measure.p_value is not None else None,
            method,
            (reference.num_rows, current.num_rows),
            config,
        )
        for measure in measured
    )
    return _verdict(rows, windows, config)


def population_stability_index(reference: FloatArray, current: FloatArray, floor: float) -> float:
    """PSI = sum (c - r) ln(c / r), 0 and up (Siddiqi, Credit Risk Scorecards, 2006; Jeffreys' divergence).

    Args:
        reference: shares of the bins, adding up to 1.
        current: the same of the current window.
        floor: what a smaller share counts as. A bin that is empty on both sides adds nothing.
    """
    r, c = np.maximum(reference, floor), np.maximum(current, floor)
    return float(np.sum((c - r) * np.log(c / r)))


def jensen_shannon_distance(reference: FloatArray, current: FloatArray) -> float:
    """Root of the Jensen-Shannon divergence to base 2, 0 to 1 (Lin, 1991; Endres and Schindelin, 2003).

    Args:
        reference: shares of the bins, adding up to 1.
        current: the same of the current window.
    """
    middle = (reference + current) / 2
    divergence = 0.0
    for shares in (reference, current):
        some = shares > 0
        divergence += float(np.sum(shares[some] * np.log2(shares[some] / middle[some]))) / 2
    return math.sqrt(max(divergence, 0.0))


def total_variation(reference: FloatArray, current: FloatArray) -> float:
    """Half the sum of absolute differences of shares: the share of rows that sit in another bin, 0 to 1."""
    return float(np.sum(np.abs(current - reference))) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for there being several (Holm, 1979: step-down Bonferroni), in the given order.

    >>> holm([0.25, 0.0625, 0.125])
    [0.25, 0.1875, 0.25]
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


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


def reference_cuts(values: FloatArray, bins: int) -> FloatArray:
    """Cut points of the bins, from the reference alone: bin k holds the values at or above k of the cuts.

    The cuts are the unique quantiles (the inverse of the distribution function, hence values that
    occur). A value that fills more than one quantile gets a bin to itself: of a flag that is 0 in 95 % of the
    rows all deciles are 0, and without such a bin its ones would share a bin with its zeros.

    Args:
        values: without missing ones, shape (n,), ascending; n at least 1.
        bins: number of quantile bins.

    >>> reference_cuts(np.arange(1.0, 9.0), 4).tolist()
    [2.0, 4.0, 6.0]
    """
    ranks = np.ceil(np.arange(1, bins) * len(values) / bins).astype(np.int64) - 1
    quantiles = values[ranks]
    atoms = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    return np.unique(np.concatenate([quantiles, np.nextafter(atoms, np.inf)]))


@dataclass(frozen=True)
class _Window:
    """One window's days: of each row its day and weight, of each day its weekday and weight.

    Days on a weekday that the other window lacks have nothing to be compared with; they and their rows are
    left out (`kept` are the rows that stay, None for all).
    """

    kept: IntArray | None
    day_code: IntArray
    row_weight: FloatArray
    day_weight: FloatArray
    day_weekday: IntArray

    @property
    def rows(self) -> int:
        return len(self.day_code)

    @property
    def total(self) -> float:
        """Sum of the rows' weights: N in the formulas."""
        return float(self.row_weight.sum())

    @property
    def rows_a_day(self) -> float:
        return self.total / float(self.day_weight.sum())

    def counts(self, bins: IntArray, number: int, some: IntArray | None = None) -> FloatArray:
        """Rows of each day in each bin, shape (days, number)."""
        day, bins = (self.day_code, bins) if some is None else (self.day_code[some], bins[some])
        size = len(self.day_weight) * number
        counts = np.bincount(day * number + bins, minlength=size).reshape(-1, number)
        return counts.astype(np.float64)


@dataclass(frozen=True)
class _ClusterPair:
    """A cluster column: of each row of both tables the rank of its id among all ids, or -1 without one.

    `ids` counts the ids, `number` the clusters: a row without an id is one of its own.
    """

    name: str
    codes: tuple[IntArray, IntArray]
    ids: int
    number: int


def _weekday(days: IntArray) -> IntArray:
    return (days + 3) % 7  # 1970-01-01 was a Thursday


def _has_score(reference: pa.Table, current: pa.Table) -> bool:
    return SCORE in reference.column_names or SCORE in current.column_names


def _column(table: pa.Table, name: str, side: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise ValueError(f"the {side} table has no column {name!r}; it has {table.column_names}")
    return table.column(name)


def _days(table: pa.Table, side: str) -> IntArray:
    """Days since 1970-01-01 of the rows."""
    column = _column(table, "event_timestamp", side)
    if not pa.types.is_timestamp(column.type):
        raise ValueError(f"event_timestamp of the {side} table is {column.type}; it must be a timestamp in UTC")
    if column.null_count:
        raise ValueError(f"event_timestamp of the {side} table is null in {column.null_count:,} rows; quarantine them")
    moments = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64()).to_numpy()
    return cast(IntArray, moments // MICROSECONDS_PER_DAY)


def _windows(reference_days: IntArray, current_days: IntArray) -> tuple[_Window, _Window]:
    """The two windows, weighted to the same mix of the weekdays that both have."""
    split = [np.unique(days, return_inverse=True) for days in (reference_days, current_days)]
    common = sorted(set.intersection(*(set(_weekday(days).tolist()) for days, _ in split)))
    windows = []
    for days, code in split:
        weight = weekday_weights(days, common)
        use = weight > 0
        kept = None if use.all() else np.flatnonzero(use[code])
        if kept is not None:
            code = (np.cumsum(use) - 1)[code[kept]]
        day_weight = weight[use]
        windows.append(_Window(kept, code, day_weight[code], day_weight, _weekday(days[use])))
    return windows[0], windows[1]


def _pair_clusters(reference: pa.Table, current: pa.Table, name: str) -> _ClusterPair:
    """Codes that mean the same cluster in both tables, ordered by id so that row order does not matter."""
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
    return _ClusterPair(name, (codes[: reference.num_rows], codes[reference.num_rows :]), ids, number)


@dataclass(frozen=True)
class _Measure:
    """What was measured of one feature, before the other features are known.

    `unusable` says why nothing could be compared; `constant` what all rows of both windows are; without
    `values_compared` only the share of missing was.
    """

    feature: str
    unusable: str | None = None
    constant: str | None = None
    values_compared: bool = True
    psi: float | None = None
    jensen_shannon: float | None = None
    total_variation: float | None = None
    statistic: float | None = None
    p_value: float | None = None
    missing: tuple[float, float] | None = None
    medians: tuple[float | None, float | None] = (None, None)


def _numbers(table: pa.Table, name: str, window: _Window) -> FloatArray | str:
    """The comparable values, NaN where missing; or what is wrong with the column."""
    if name not in table.column_names:
        return "is absent from"
    column, types = table.column(name), pa.types
    if types.is_null(column.type):
        return np.full(window.rows, np.nan)
    numeric = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
    if not any(check(column.type) for check in numeric):
        return f"is {column.type}, not a number, in"
    values = cast(FloatArray, column.cast(pa.float64(), safe=False).to_numpy())
    return values if window.kept is None else values[window.kept]


def _median(ascending: FloatArray) -> float | None:
    """The middle value; None without one."""
    if not len(ascending):
        return None
    middle = float(ascending[(len(ascending) - 1) // 2]) / 2 + float(ascending[len(ascending) // 2]) / 2
    return None if math.isnan(middle) else middle


def _measure(
    reference: pa.Table,
    current: pa.Table,
    name: str,
    windows: tuple[_Window, _Window],
    pairs: Sequence[_ClusterPair],
    config: DriftConfig,
) -> _Measure:
    """Shares, distances and the test of one feature."""
    sides: list[FloatArray] = []
    for table, window, side in zip((reference, current), windows, ("reference", "current"), strict=True):
        column = _numbers(table, name, window)
        if isinstance(column, str):
            return _Measure(name, unusable=f"{column} the {side} window")
        sides.append(column)
    # NaN sorts last, so the values are what comes before the missing ones.
    values = [np.sort(numbers)[: np.count_nonzero(~np.isnan(numbers))] for numbers in sides]
    enough = all(len(present) >= config.min_values for present in values)
    cuts = reference_cuts(values[0], config.bins) if enough else np.empty(0)
    missing_bin = len(cuts) + 1
    bins: list[IntArray] = []
    for numbers in sides:
        place: IntArray = np.asarray(np.searchsorted(cuts, numbers, side="right"))
        place[np.isnan(numbers)] = missing_bin
        bins.append(place)
    counts = [window.counts(place, missing_bin + 1) for window, place in zip(windows, bins, strict=True)]
    shares = [window.day_weight @ count / window.total for window, count in zip(windows, counts, strict=True)]
    measure = _Measure(
        name,
        values_compared=enough,
        psi=population_stability_index(shares[0], shares[1], config.share_floor),
        jensen_shannon=jensen_shannon_distance(shares[0], shares[1]),
        total_variation=total_variation(shares[0], shares[1]),
        missing=(float(shares[0][missing_bin]), float(shares[1][missing_bin])),
        medians=(_median(values[0]), _median(values[1])),
    )
    if np.count_nonzero(shares[0] + shares[1]) > 1:
        statistic, p_value = _rao_scott(windows, bins, counts, shares, pairs)
        return replace(measure, statistic=statistic, p_value=p_value)
    if not len(values[0]):
        return replace(measure, constant="missing")
    return replace(measure, constant=_say(float(values[0][0]))) if enough else measure


def _rao_scott(
    windows: tuple[_Window, _Window],
    bins: Sequence[IntArray],
    counts: Sequence[FloatArray],
    shares: Sequence[FloatArray],
    pairs: Sequence[_ClusterPair],
) -> tuple[float, float]:
    """The test of equal shares under clustered rows.

    With d the difference of shares divided by the root of their mean and V its covariance matrix, Q = d'd is
    distributed as a weighted sum of chi-squared variables with the eigenvalues of V as weights; Q / alpha is
    referred to chi-squared with nu degrees of freedom, alpha = tr V^2 / tr V, nu = (tr V)^2 / tr V^2, which
    agrees with it in mean and variance (Rao and Scott, 1981, section 3; Satterthwaite, 1946).

    Returns:
        Q / alpha and its p.
    """
    rows, between_days = np.zeros((2, len(shares[0]), len(shares[0])))
    for window, count, share in zip(windows, counts, shares, strict=True):
        rows += _row_variance(window, count, share)
        between_days += _day_variance(window, count, share)
    between_clusters = rows
    if pairs:
        # Rows are in the variance of each cluster column and must count once. (Exactly, it is the rows that
        # share both ids: a customer who returns to a terminal counts twice, which errs to the quiet side.)
        between_clusters = (1 - len(pairs)) * rows
        for pair in pairs:
            between_clusters = between_clusters + _cluster_variance(pair, windows, bins, shares)
    covariance = _positive(between_clusters) + _positive(between_days - rows)

    mean = (shares[0] + shares[1]) / 2
    some = mean > 0  # a bin that is empty on both sides differs in nothing
    root = np.sqrt(mean[some])
    statistic = float(np.sum(((shares[1] - shares[0])[some] / root) ** 2))
    covariance = covariance[np.ix_(some, some)] / np.outer(root, root)
    if not np.trace(covariance) > 0:
        # Each window holds one value throughout, and not the same: nothing varies within them. What is left
        # is Pearson's test, with the variance that shares like their mean would have.
        covariance = (np.eye(len(root)) - np.outer(root, root)) * sum(1 / window.rows for window in windows)
    trace, trace_squared = float(np.trace(covariance)), float(np.sum(covariance**2))
    statistic *= trace / trace_squared
    p_value = float(chdtrc(trace**2 / trace_squared, statistic))
    return _stable(statistic), _stable(p_value)


def _row_variance(window: _Window, counts: FloatArray, share: FloatArray) -> FloatArray:
    """Sum over rows of w^2 (e - p)(e - p)' / N^2, e the row's bin as a unit vector; counts by day and bin."""
    squares = window.day_weight**2 @ counts
    cross = np.outer(squares, share)
    variance = np.diag(squares) - cross - cross.T + squares.sum() * np.outer(share, share)
    return cast(FloatArray, variance / window.total**2)


def _day_variance(window: _Window, counts: FloatArray, share: FloatArray) -> FloatArray:
    """Sum over days of u u', u the day's surplus in each bin, centred within weekdays.

    With a weekday that occurs once there is nothing to centre on; then all days are one stratum (collapsed
    strata: Cochran, Sampling Techniques, 5A.12), which counts the differences of weekdays as chance.
    """
    surplus = window.day_weight[:, None] * (counts - counts.sum(axis=1, keepdims=True) * share) / window.total
    stratum = window.day_weekday
    if np.unique(stratum, return_counts=True)[1].min() == 1:
        stratum = np.zeros_like(stratum)
    variance = np.zeros((len(share), len(share)))
    for which in np.unique(stratum):
        days = surplus[stratum == which]
        days = days - days.mean(axis=0)
        variance += len(days) / (len(days) - 1) * (days.T @ days)
    return variance


def _cluster_variance(
    pair: _ClusterPair,
    windows: tuple[_Window, _Window],
    bins: Sequence[IntArray],
    shares: Sequence[FloatArray],
) -> FloatArray:
    """Sum over clusters of u u', u the cluster's surplus in the current window less that in the reference.

    What a cluster keeps from window to window cancels: an expensive customer who stays is no drift. A cluster
    that is absent from a window has no surplus there.
    """
    number = len(shares[0])
    difference = np.zeros((pair.ids, number))
    alone = np.zeros((number, number))
    for sign, codes, window, place, share in zip((-1, 1), pair.codes, windows, bins, shares, strict=True):
        code = codes if window.kept is None else codes[window.kept]
        weight = window.row_weight
        if (code < 0).any():
            alone += _row_variance(window, window.counts(place, number, np.flatnonzero(code < 0)), share)
            known = np.flatnonzero(code >= 0)
            code, place, weight = code[known], place[known], weight[known]
        inside = np.bincount(code * number + place, weights=weight, minlength=pair.ids * number)
        inside = inside.reshape(-1, number)
        difference += sign * (inside - inside.sum(axis=1, keepdims=True) * share) / window.total
    # The usual correction for a finite number of clusters (Cameron, Gelbach and Miller, 2011, section 2.3).
    return pair.number / (pair.number - 1) * (difference.T @ difference + alone)


def _positive(matrix: FloatArray) -> FloatArray:
    """The nearest positive semidefinite matrix: a difference of estimates may fall below zero."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return cast(FloatArray, (vectors * np.maximum(values, 0)) @ vectors.T)


def _stable(value: float) -> float:
    """Eight significant digits: the last bits of matrix products differ between machines and thread counts.

    The digest of a report decides whether a month is trained again, so they must not reach it.
    """
    return float(f"{value:.8g}")


def _judge(
    measure: _Measure, p_adjusted: float | None, method: str, rows: tuple[int, int], config: DriftConfig
) -> FeatureDrift:
    """The row of a feature: its numbers, its status and the reason for it."""
    status, reason = _status(measure, p_adjusted, config)
    missing_reference, missing_current = measure.missing or (None, None)
    return FeatureDrift(
        kind="prediction" if measure.feature == SCORE else "covariate",
        feature=measure.feature,
        method=method if p_adjusted is not None else "none",
        n_reference=rows[0],
        n_current=rows[1],
        psi=measure.psi,
        jensen_shannon=measure.jensen_shannon,
        total_variation=measure.total_variation,
        statistic=measure.statistic,
        p_value=measure.p_value,
        p_adjusted=p_adjusted,
        missing_reference=missing_reference,
        missing_current=missing_current,
        median_reference=measure.medians[0],
        median_current=measure.medians[1],
        status=status,
        reason=reason,
    )


def _status(measure: _Measure, p_adjusted: float | None, config: DriftConfig) -> tuple[DriftStatus, str]:
    name = measure.feature
    if measure.unusable is not None:
        return "INSUFFICIENT_DATA", f"{name} could not be compared: it {measure.unusable}"
    if measure.constant is not None:
        return "OK", f"{name} is {measure.constant} in every row of both windows: nothing could move"
    few = (
        f"{name} could not be compared: a window has fewer than {config.min_values} values of it, "
        "so only its share of missing was looked at"
    )
    if p_adjusted is None or measure.psi is None or measure.total_variation is None or measure.missing is None:
        return "INSUFFICIENT_DATA", few
    facts = _facts(measure, measure.psi, measure.missing, p_adjusted, config)
    large = measure.psi >= config.psi_limit or measure.missing[1] - measure.missing[0] >= config.missing_limit
    if large and p_adjusted < config.drift_p:
        return "DRIFT", f"{name} moved: {facts}"
    if p_adjusted < config.watch_p and measure.total_variation >= config.min_total_variation:
        return "WATCH", f"{name} {'may have moved' if large else 'moved a little'}: {facts}"
    if not measure.values_compared:
        return "INSUFFICIENT_DATA", few
    if p_adjusted < config.watch_p:
        return "OK", f"{name} moved by a trace only: {facts}"
    if large:
        return "OK", f"{name} moved no more than chance moves so few customers and days: {facts}"
    return "OK", f"{name} did not move beyond chance: {facts}"


def _facts(measure: _Measure, psi: float, missing: tuple[float, float], p_adjusted: float, config: DriftConfig) -> str:
    """The numbers behind a verdict, in the words of an analyst."""
    facts = [f"PSI {psi:.{2 if psi >= 0.01 else 3}f} (limit {config.psi_limit:.2f})"]
    before, now = (f"{share * 100:.1f} %" for share in missing)
    if abs(missing[1] - missing[0]) >= 0.01:
        limit = f" (limit {config.missing_limit * 100:.3g} points more)"
        facts.append(f"missing in {now} of rows, {before} before{limit}")
    if measure.medians[0] is not None and measure.medians[1] is not None:
        before, now = (_say(median) for median in measure.medians if median is not None)
        facts.append(f"its median stayed at {now}" if before == now else f"its median went from {before} to {now}")
    facts.append("adjusted p below 0.001" if p_adjusted < 0.001 else f"adjusted p {p_adjusted:.3f}")
    return ", ".join(facts)


def _say(value: float) -> str:
    """A number as a person writes it: three digits, or all before the point.

    >>> [_say(value) for value in (51.2345, 0.012345, 14567.8, 0.0)]
    ['51.2', '0.0123', '14,568', '0']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _verdict(rows: tuple[FeatureDrift, ...], windows: tuple[_Window, _Window], config: DriftConfig) -> DriftReport:
    """The report over its rows: the worst status, and in words what made it, the gravest first."""
    statuses = {row.status for row in rows}
    status: DriftStatus
    if "DRIFT" in statuses:
        status = "DRIFT"
    elif statuses == {"INSUFFICIENT_DATA"}:
        status = "INSUFFICIENT_DATA"
    else:
        status = "OK" if statuses == {"OK"} else "WATCH"
    reasons = [
        row.reason
        for wanted in ("DRIFT", "WATCH", "INSUFFICIENT_DATA")
        for row in sorted(rows, key=lambda row: (-(row.psi or 0.0), row.feature))
        if row.status == wanted
    ]
    if status == "OK":
        tested = [row.p_adjusted for row in rows if row.p_adjusted is not None]
        smallest = f" (smallest adjusted p {min(tested):.3f})" if tested else ""
        reasons.append(f"none of {len(rows)} features moved beyond chance{smallest}")
    reasons += [row.reason for row in rows if row.status == "OK" and row.p_adjusted is None]
    before, now = (window.rows_a_day for window in windows)
    if abs(now / before - 1) >= config.volume_note:
        reasons.append(
            f"volume went from {before:,.0f} to {now:,.0f} rows a day ({(now / before - 1) * 100:+.0f} %): "
            "features that count or sum over a time window move with it"
        )
    return DriftReport(status, tuple(reasons), rows)
