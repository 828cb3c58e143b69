"""How far one column has moved between two windows of transactions, and how surely.

Numbers by bins of the reference, texts by its values, missing values and new ones apart; a few customers beside their
own past, and the number of rows. What such measures mean, once p is adjusted over all of them, is in `covariate.py`;
the covariance that rows of one customer, terminal and day share in `statistics/clusters.py`.

Months differ even when nothing has changed, by shocks that all rows of a month share and that no month shows by
itself. Earlier months tell how much: the covariance between months beyond what their customers, terminals and days
explain becomes part of the variance of the test. With fewer than three months to tell it, only a large move is DRIFT.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import fdtrc

from fraud_assets.core.drift.causes import first_day, listed
from fraud_assets.core.drift.cells import (
    Cells,
    Floats,
    Side,
    column_type,
    new_values,
    number_cells,
    numbers,
    reference_cuts,
    text_cells,
    texts,
)
from fraud_assets.core.drift.entity_shifts import EntityShift
from fraud_assets.core.drift.findings import SCORE, DriftStatus, Finding
from fraud_assets.core.drift.history_columns import NEW, SEEN_DAYS
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.statistics.clusters import (
    ClusterPair,
    FloatArray,
    RowWindow,
    Tables,
    covariance,
    one_in,
    positive,
    rao_scott,
    row_days,
    row_window,
    stable,
    tabulate,
)
from fraud_assets.core.words import number, percent

VOLUME = "rows_a_day"
WEEK, MONDAY = 7, 3  # 1970-01-01 was a Thursday


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


def between_months(shares: FloatArray, reference_months: float) -> FloatArray:
    """How far a month's shares stray from those of a reference, as the spread of months tells it.

    With months p_j = p + s_j, of which the reference is the mean of R and the month in question is not, the difference
    has the covariance S (1 + 1 / R), S that of the s_j. S is estimated from the spread of the months around their own
    mean, so it does not matter which of them lie in the reference.

    Args:
        shares: of months, shape (months, cells), at least two.
        reference_months: R, at least 1.

    Returns:
        Shape (cells, cells). It contains what customers, terminals and days make months differ by.
    """
    centred = shares - shares.mean(axis=0)
    return cast(FloatArray, centred.T @ centred / (len(shares) - 1) * (1 + 1 / reference_months))


def with_months(variance: FloatArray, months: FloatArray, mean: FloatArray, freedom: int) -> tuple[FloatArray, float]:
    """The covariance of a difference, what months differ by of themselves included.

    Added is what `months` has beyond `variance`, where cells weigh as in the test: the positive part of their
    difference. The trace of a matrix T that is estimated with f degrees of freedom has f (tr T)^2 / tr T^2 of them, and
    the trace of a sum of a known part and T has (tr V / tr T)^2 times as many (Satterthwaite, 1946). They are at most
    those that f give to the known part: that a few months differ by hardly more than their rows explain may be chance.

    Args:
        variance: what customers, terminals and days explain, shape (cells, cells).
        months: from `between_months`.
        mean: what to weigh a cell by, shape (cells,).
        freedom: f, one less than there are months.

    Returns:
        The covariance, and the degrees of freedom of its trace, infinity where nothing varies.
    """
    root = np.sqrt(np.where(mean > 0, mean, 1.0))
    scale = np.outer(root, root)
    known, beyond = variance / scale, positive((months - variance) / scale)
    share = float(np.trace(beyond)) / max(float(np.trace(known + beyond)), np.finfo(float).tiny)
    denominators = [freedom * _rank(known)] if np.trace(known) > 0 else []
    denominators += [freedom * _rank(beyond) / share**2] if share > 0 else []
    return variance + beyond * scale, min(denominators, default=math.inf)


def _rank(matrix: FloatArray) -> float:
    """(tr T)^2 / tr T^2: how many eigenvalues of the same size a matrix has as good as."""
    return float(np.trace(matrix)) ** 2 / float(np.sum(matrix**2))


@dataclass(frozen=True)
class ComparedWindows:
    """What is compared, and what every measure needs for it."""

    sides: tuple[Side, Side]
    past: tuple[Side, ...]
    past_scores: tuple[Side, ...]
    pairs: tuple[ClusterPair, ...]
    delivered: frozenset[str]
    config: DriftConfig

    @property
    def pair(self) -> tuple[RowWindow, RowWindow]:
        """The reference and the current window, without their values."""
        return self.sides[0].window, self.sides[1].window

    @property
    def reference_months(self) -> float:
        """How many months the reference is worth; a shock of a month of which it holds a part is a whole one."""
        length = np.mean([len(side.window.day) for side in self.past]) if self.past else 1.0
        return max(1.0, len(self.pair[0].day) / float(length))

    @property
    def volume(self) -> float:
        """Rows a day now, over those before."""
        return self.pair[1].rows_a_day / self.pair[0].rows_a_day

    @property
    def method(self) -> str:
        """The name of the test."""
        return "Rao-Scott chi-squared by " + ", ".join(["day", *(pair.name for pair in self.pairs)])


@dataclass(frozen=True)
class Measure:
    """A finding whose status waits for the others, since p is adjusted over those of its kind.

    Attributes:
        finding: with all that is known by now; what its `reason` says are the facts.
        settled: whether its status is known, too.
        rose: whether there is more of it than before, of what can be more or less.
        large: whether the effect is so large that no history is needed.
        history: how many months told how much months differ.
        cells: of a column of numbers.
        delivered: whether it is about what the source delivers, or the amount beside the card's own recent mean, and
            not about a feature of the models.
        of_labels: whether it is about what is made of labels.
    """

    finding: Finding
    settled: bool = False
    rose: bool = True
    large: bool = False
    history: int = 0
    cells: Cells | None = None
    delivered: bool = False
    of_labels: bool = False

    @property
    def family(self) -> str:
        """The tests over which p is adjusted.

        A column that is never empty must not make it harder to see that its values moved, nor thirty features that
        are made of amounts that amounts did.
        """
        if self.finding.kind in ("missing", "category"):
            return self.finding.kind
        return "delivered" if self.delivered else "made"


def measure_column(windows: ComparedWindows, name: str) -> list[Measure]:
    """What can be said of one column: of its values, its missing values and its new ones."""
    reference, current = windows.sides
    base = Finding(
        kind="prediction" if name == SCORE else "category" if name.endswith(NEW) else "covariate",
        feature=name, method="none", status="INSUFFICIENT_DATA", reason="",
        n_reference=reference.table.num_rows, n_current=current.table.num_rows,
    )  # fmt: skip
    lost = replace(base, kind="missing", status="DRIFT", cause="lost_feature")
    if name not in reference.table.column_names:
        return [_settled(base, f"{name} could not be compared: it is absent from the reference window")]
    if name not in current.table.column_names:
        return [_settled(lost, f"{name} is lost: the current window does not have this column")]
    before, now = (column_type(side.table, name) for side in windows.sides)
    types = {before, now} - {"nothing"}
    if other := sorted(types - {"numbers", "texts", "dates"}):
        return [_settled(base, f"{name} could not be compared: it is {other[0]}, no numbers, texts or dates")]
    if len(types) > 1:
        return [_settled(lost, f"{name} is lost: it has {now}, and it had {before}")]
    if types == {"texts"}:
        return _texts(windows, base)
    return _numbers(windows, base)


def _settled(finding: Finding, reason: str, status: DriftStatus | None = None) -> Measure:
    return Measure(replace(finding, reason=reason, status=status or finding.status), settled=True)


def _numbers(windows: ComparedWindows, base: Finding) -> list[Measure]:
    name, config = base.feature, windows.config
    # NaN sorts last, so the values are what comes before the missing ones.
    columns = [np.sort(numbers(side, name)) for side in windows.sides]
    values = [column[: len(column) - np.count_nonzero(np.isnan(column))] for column in columns]
    medians = [_median(present) for present in values]
    base = replace(base, median_reference=medians[0], median_current=medians[1])
    enough = all(len(present) >= config.min_values for present in values)
    cells = number_cells(name, reference_cuts(values[0], config.bins) if enough else np.empty(0))
    measures = _compare(windows, base, cells, enough)
    single = [len(present) > 0 and present[0] == present[-1] for present in values]
    first = measures[0]
    if first.settled and enough and all(single):
        return [
            _settled(
                first.finding,
                f"{name} is {number(values[0][0])} in every row of both windows: nothing could move",
                "OK",
            ),
            *measures[1:],
        ]
    if not first.settled and single == [False, True]:
        only = f"{name} has one value only, {number(values[1][0])}, and had many"
        measures[0] = replace(first, large=True, finding=replace(first.finding, cause="lost_feature", reason=only))
    elif not first.settled and name.endswith(NEW):
        before, now = (float(present.mean(dtype=np.float64)) for present in values)
        entity = name.removesuffix(NEW)
        facts = (
            f"{percent(now)} of rows are of a {entity} that was not seen in the {SEEN_DAYS} days before the month, "
            f"{percent(before)} before"
        )
        finding = replace(first.finding, reason=facts, value_reference=stable(before), value_current=stable(now))
        measures[0] = replace(first, finding=finding, rose=now > before, large=now - before >= config.missing_limit)
    return measures


def _texts(windows: ComparedWindows, base: Finding) -> list[Measure]:
    name, config = base.feature, windows.config
    columns = [texts(side, name) for side in windows.sides]
    cells = text_cells(windows.sides[0], name, config.categories)
    enough = all(len(column) - column.null_count >= config.min_values for column in columns)
    if enough and not pc.any(pc.is_in(columns[1].drop_null(), value_set=pc.unique(columns[0]))).as_py():
        none = _settled(base, f"{name} has none of the values it had: nothing of it can be compared but that", "OK")
        return [none, _new_values(windows, base, cells, *columns)]
    return [*_compare(windows, base, cells, enough), _new_values(windows, base, cells, *columns)]


def _new_values(
    windows: ComparedWindows, base: Finding, cells: Cells, reference: pa.Array, current: pa.Array
) -> Measure:
    """How many rows have a value that the reference does not have at all."""
    name, config = base.feature, windows.config
    base = replace(base, kind="category")
    found = new_values(reference, current)
    if not found:
        return _settled(base, f"{name} has no new values", "OK")
    tables = _tables(windows, cells)
    tables = [table.joined(range(cells.known), [cells.known]) for table in tables]
    share = float(tables[1].shares[1])
    facts = (
        f"{name} has {len(found):,} new {'value' if len(found) == 1 else 'values'} in {percent(share)} of rows: "
        + listed((value for value, _ in found), len(found))
    )
    base = replace(base, value_reference=0.0, value_current=stable(share))
    # The reference has no new values by definition; how many are usual is told by its own second half.
    day = windows.pair[0].day_code
    late = day >= len(windows.pair[0].day) // 2
    usual = sum(rows for _, rows in new_values(reference.filter(pa.array(~late)), reference.filter(pa.array(late))))
    usual_share = usual / max(int(late.sum()), 1)
    if usual_share >= min(config.min_total_variation, share / 2):
        reason = f"{facts}; as ever: in the second half of the reference {percent(usual_share)} had new ones, too"
        return _settled(base, reason, "OK")
    measure = _tested(windows, base, tables, [])
    return replace(
        measure,
        finding=replace(measure.finding, reason=facts),
        large=share >= config.missing_limit,
        history=config.min_history,
    )


def _tables(windows: ComparedWindows, cells: Cells) -> list[Tables]:
    return [
        tabulate(side.window, windows.pairs, which, cells.place(side), cells.number)
        for which, side in enumerate(windows.sides)
    ]


def _compare(windows: ComparedWindows, base: Finding, cells: Cells, enough: bool) -> list[Measure]:
    """Shares of a column's known values among the rows that have one, and the share of rows that have none."""
    name, config = base.feature, windows.config
    tables = _tables(windows, cells)
    past = [
        tabulate(side.window, (), 0, cells.place(side), cells.number)
        for side in (windows.past_scores if name == SCORE else windows.past)
        if name in side.table.column_names
        and column_type(side.table, name) == column_type(windows.sides[0].table, name)
    ]
    missing = [float(table.shares[-1]) for table in tables]
    base = replace(base, missing_reference=stable(missing[0]), missing_current=stable(missing[1]))
    values = [[cell] for cell in range(cells.known)]
    measures = []
    if enough:
        measure = _tested(
            windows, base, [table.joined(*values) for table in tables], [table.joined(*values) for table in past]
        )
        facts = _facts(measure.finding)
        if measure.settled:
            facts = f"{name} has the same value wherever it has one in both windows: nothing could move"
            measure = replace(measure, finding=replace(measure.finding, status="OK"))
        measures.append(
            replace(
                measure,
                cells=cells,
                large=(measure.finding.psi or 0.0) >= config.psi_limit,
                finding=replace(measure.finding, reason=facts),
            )
        )
    elif min(missing) == 1:
        measures.append(_settled(base, f"{name} is missing in every row of both windows: nothing could move", "OK"))
    else:
        few = (
            f"{name} could not be compared: a window has fewer than {config.min_values} values of it, "
            "so only its share of missing was looked at"
        )
        measures.append(_settled(base, few))
    if 0 < sum(missing) < 2:
        parts = range(cells.number - 1), [cells.number - 1]
        measure = _tested(
            windows,
            replace(base, kind="missing"),
            [table.joined(*parts) for table in tables],
            [table.joined(*parts) for table in past],
        )
        facts = f"{name} has no value in {percent(missing[1])} of rows, {percent(missing[0])} before"
        rise = missing[1] - missing[0]
        measures.append(
            replace(
                measure,
                rose=rise > 0,
                large=abs(rise) >= config.missing_limit,
                finding=replace(measure.finding, reason=facts),
            )
        )
    return measures


def _tested(windows: ComparedWindows, base: Finding, tables: Sequence[Tables], past: Sequence[Tables]) -> Measure:
    """The test of equal shares, and the sizes of the difference."""
    reference, current = (table.shares for table in tables)
    mean, difference = (reference + current) / 2, current - reference
    finding = replace(
        base,
        psi=stable(population_stability_index(reference, current, windows.config.share_floor)),
        jensen_shannon=stable(jensen_shannon_distance(reference, current)),
        total_variation=stable(total_variation(reference, current)),
    )
    some = mean > 0
    if some.sum() < 2:
        return Measure(finding, settled=True)
    variance = covariance(windows.pair, windows.pairs, tables)
    if not np.trace(variance) > 0:
        # Each window holds one value throughout, and not the same: nothing varies within them. What is left
        # is Pearson's test, with the variance that shares like their mean would have.
        variance = (np.diag(mean) - np.outer(mean, mean)) * sum(1 / window.rows for window in windows.pair)
    shares = np.array([table.shares for table in past])
    denominator = math.inf
    if windows.config.is_small:
        # Few rows differ by more than shocks that months share, and no month vouches for a spread that few customers
        # and days show smaller than independent rows would.
        shares = shares[:0]
        rows = sum(1 / window.rows for window in windows.pair)
        variance = variance + positive((np.diag(mean) - np.outer(mean, mean)) * rows - variance)
        denominator = float(max(min(len(window.day) for window in windows.pair) - 1, 1))
    if len(shares) > 1:
        months = between_months(shares, windows.reference_months)
        variance, freedom = with_months(variance, months, mean, len(shares) - 1)
        denominator = min(denominator, freedom)
    test = rao_scott(difference, mean, variance, denominator=denominator)
    first = _since(windows, tables, difference, mean)
    finding = replace(finding, method=windows.method, statistic=test.statistic, p_value=test.p_value, since=first)
    return Measure(finding, history=len(shares))


def _since(windows: ComparedWindows, tables: Sequence[Tables], difference: FloatArray, mean: FloatArray) -> date:
    """The first day on which the difference is seen."""
    reference, current = windows.pair
    expected = np.zeros((WEEK, len(mean)))
    np.add.at(expected, reference.day_weekday, tables[0].days)
    expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1.0)
    weight = np.divide(difference, mean, out=np.zeros_like(mean), where=mean > 0)
    return first_day(current.day, tables[1].days / current.day_weight[:, None], expected[current.day_weekday], weight)


def past_sides(
    past: Sequence[pa.Table], reference: RowWindow, config: DriftConfig, most: int | None
) -> tuple[Side, ...]:
    """Earlier months that have every weekday that is compared, with all or so many of their rows."""
    weekdays = set(reference.day_weekday.tolist())
    sides = []
    for table in past:
        days = row_days(table, "past")
        if len(days) >= config.min_rows and weekdays <= set(((np.unique(days) + MONDAY) % WEEK).tolist()):
            sides.append(Side(table, row_window(days, sorted(weekdays), each=one_in(len(days), most or len(days)))))
    return tuple(sides)


def few_entities(windows: ComparedWindows, shift: EntityShift, card: str, amount: str) -> Measure:
    """How many of those who spend left their own habit, beside the month before."""
    rose = shift.shares[1] > shift.shares[0]
    facts = (
        f"{percent(shift.shares[1])} of {shift.customers[1]:,} ids in {card} changed their {amount} far beyond their "
        f"own habit, {percent(shift.shares[0])} the month before; of those the most by a factor of {shift.factor:.2f}"
    )
    finding = Finding(
        kind="covariate", feature=f"{amount}_by_{card}", method="two proportions, one-sided", status="OK", reason=facts,
        n_reference=windows.sides[0].table.num_rows, n_current=windows.sides[1].table.num_rows,
        value_reference=stable(shift.shares[0]), value_current=stable(shift.shares[1]),
        statistic=shift.statistic, p_value=shift.p_value, cause="few_entities",
    )  # fmt: skip
    # Customers beside their own past are a history of their own, and however few changed, they did.
    return Measure(finding, rose=rose, large=True, delivered=True)


def rows_a_day(windows: ComparedWindows) -> Measure:
    """The number of rows a day, beside how much days and months differ."""
    before, now = (window.rows_a_day for window in windows.pair)
    variance = sum(_variance_of_days(window) / window.rows_a_day**2 for window in windows.pair)
    denominator = float(len(windows.pair[1].day) - 1)
    past = np.array([[side.window.rows_a_day / before] for side in windows.past])
    if len(past) > 1:
        months = between_months(past, windows.reference_months)
        total, freedom = with_months(np.array([[variance]]), months, np.ones(1), len(past) - 1)
        variance, denominator = float(total[0, 0]), min(denominator, freedom)
    change = now / before - 1
    statistic = change**2 / variance if variance > 0 else None
    finding = Finding(
        kind="covariate", feature=VOLUME, method="F by day", status="OK", cause="volume",
        reason=f"there are {now:,.0f} rows a day, {before:,.0f} before ({change * 100:+.1f} %)",
        n_reference=windows.sides[0].table.num_rows, n_current=windows.sides[1].table.num_rows,
        value_reference=stable(before), value_current=stable(now),
        statistic=None if statistic is None else stable(statistic),
        p_value=None if statistic is None else stable(float(fdtrc(1, denominator, statistic))),
    )  # fmt: skip
    return Measure(finding, settled=statistic is None, history=len(past), delivered=True)


def _variance_of_days(window: RowWindow) -> float:
    """Of the mean number of rows a day, from how days differ within weekdays; see `clusters.covariance`."""
    counts = window.each * np.bincount(window.day_code, minlength=len(window.day)).astype(np.float64)
    weekdays, n_days = np.unique(window.day_weekday, return_counts=True)
    if n_days.min() == 1:
        return float(np.var(counts, ddof=1)) / len(counts)
    means = [float(np.var(counts[window.day_weekday == day], ddof=1)) for day in weekdays]
    return float(np.sum(np.array(means) / n_days)) / len(weekdays) ** 2


def _facts(finding: Finding) -> str:
    """How far the values of a column moved."""
    psi = finding.psi or 0.0
    facts = [f"{percent(finding.total_variation or 0.0)} of rows in other bins (PSI {psi:.{2 if psi >= 0.01 else 3}f})"]
    if finding.median_reference is not None and finding.median_current is not None:
        before, now = number(finding.median_reference), number(finding.median_current)
        facts.append(f"its median stayed at {now}" if before == now else f"its median went from {before} to {now}")
    return ", ".join(facts)


def _median(ascending: Floats) -> float | None:
    """The middle value; None without one."""
    if not len(ascending):
        return None
    middle = float(ascending[(len(ascending) - 1) // 2]) / 2 + float(ascending[len(ascending) // 2]) / 2
    return None if math.isnan(middle) else middle
