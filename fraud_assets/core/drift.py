"""Drift of what comes in: has this month's data moved away from the reference by more than chance?

What a window of transactions looks like beside another, column by column, how surely, and what each move looks like,
belong here: numbers by bins of the reference, texts by its values, missing values and new ones apart, the champion's
score as one more column, a few customers beside their own past, and the number of rows. The covariance that rows of
one customer, terminal and day share is in `clusters.py`, the search for a cause in `causes.py`, the columns made for
this in `history_columns.py`, all columns together in `domain_classifier.py`. What findings mean together is in
`verdict.py`.

Use:

    findings = measure_drift(
        reference, current, past=months, features=[...], clusters=list(contract.entities), card=contract.card,
        counting=counting_features(contract), delivered=delivered_columns(contract, features),
        of_labels=label_features(contract), config=DriftConfig(),
    )

Months differ even when nothing has changed, by shocks that all rows of a month share and that no month shows by
itself. `past` tells how much: the covariance between months beyond what their customers, terminals and days explain
becomes part of the variance of the test. With fewer than three months to tell it, only a large move is DRIFT.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import fdtrc

from fraud_assets.core.causes import Bools, Explanation, Moved, explain, first_day, listed
from fraud_assets.core.cells import (
    Cells,
    Floats,
    Side,
    column_type,
    missing_rows,
    new_values,
    number_cells,
    numbers,
    reference_cuts,
    text_cells,
    texts,
)
from fraud_assets.core.clusters import (
    ClusterPair,
    FloatArray,
    RowWindow,
    Tables,
    covariance,
    one_in,
    pair_clusters,
    pair_windows,
    positive,
    rao_scott,
    row_days,
    row_window,
    stable,
    tabulate,
)
from fraud_assets.core.entity_shifts import EntityShift, shift_of_entities
from fraud_assets.core.findings import Cause, DriftStatus, Finding, holm
from fraud_assets.core.history_columns import NEW, RECENT_AMOUNT, SEEN_DAYS

SCORE = "score"
VOLUME = "rows_a_day"
WEEK, MONDAY = 7, 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True)
class DriftConfig:
    """The limits of the verdict, each with the reason for its default.

    Attributes:
        bins: quantile bins of the reference. Ten is what PSI's usual limits (0.10, 0.25) are stated for.
        categories: values of a text that are told apart, the reference's most frequent; the others are one. Twenty,
            so that a text of a million values costs no more than a number.
        drift_p: DRIFT needs an adjusted p below it. 0.005: at 0.01, months of simulated worlds in which only
            shared shocks happened were still called drift.
        delivered_drift_p: the same of what the source delivers. 0.01: of these columns, quiet months do not come near
            `drift_total_variation`, so p need not hold them off alone; and where shocks that all rows share make
            amounts differ by month, half a year of months leaves 0.005 to 0.007 to a rise by a twentieth.
        watch_p: WATCH needs an adjusted p below it. 0.025 for each of the two families of columns is at most one quiet
            month in twenty, and WATCH costs a look, not a retraining.
        min_total_variation: WATCH needs at least this share of rows in another bin. 0.005: with 290,000 rows
            smaller moves are measurable, and no one acts on half a row in a hundred.
        drift_total_variation: DRIFT needs at least this share. 0.018: amounts that rise by a twentieth move 2.1 to
            2.3 % of rows; in worlds with shocks that all rows share, quiet months reach 1.5 %.
        min_history: earlier months that must tell how much months differ before a move that is not large can be
            DRIFT. 3: two give a single difference.
        psi_limit: a move is large from this PSI on. 0.10 is the conventional lower bound of a moderate shift; 16
            features of unchanged months of the Handbook data stay below 0.002.
        missing_limit: likewise a rise of the share of missing or new values (0 to 1). 0.05: to a model, one row in
            twenty without the feature.
        reference_rows: rows of the reference that are looked at; of more, one in so many, evenly. 300,000: as many as
            a month of the Handbook has, so that most of what is uncertain comes from the month and not from this.
        score_rows: likewise of each earlier month, where scores are compared, which costs the most. 100,000: with
            50,000 of all columns, months seemed to differ so much that amounts times 1.05 were only watched.
        min_rows: rows a window must have. 500 is fifty a bin; below that PSI from chance alone comes near
            its limit (about 9 degrees of freedom x 2 / 500 = 0.04 even if rows were independent).
        min_days: days a window must have. With fewer than 5 the variance between days is a guess.
        min_values: values a feature must have on each side for its bins to be compared; below that only the
            share of missing is. 100 is ten a bin.
        share_floor: a share below it counts as this in the PSI, which would be infinite for a bin that is
            empty on one side. 0.0001, as is common.
        volume_note: a change of rows a day (0.05 is 5 %) that is worth a WATCH if it is beyond chance. 0.05, because
            quiet months differ by less (by 1 % in the Handbook data).

    Raises:
        ValueError: when a limit is out of its range.
    """

    bins: int = 10
    categories: int = 20
    drift_p: float = 0.005
    delivered_drift_p: float = 0.01
    watch_p: float = 0.025
    min_total_variation: float = 0.005
    drift_total_variation: float = 0.018
    min_history: int = 3
    psi_limit: float = 0.10
    missing_limit: float = 0.05
    reference_rows: int = 300_000
    score_rows: int = 100_000
    min_rows: int = 500
    min_days: int = 5
    min_values: int = 100
    share_floor: float = 1e-4
    volume_note: float = 0.05

    def __post_init__(self) -> None:
        for name in ("drift_p", "delivered_drift_p"):
            if not 0 < getattr(self, name) <= self.watch_p < 1:
                raise ValueError(f"need 0 < {name} <= watch_p < 1, got {getattr(self, name)} and {self.watch_p}")
        for name, least in (
            ("bins", 2), ("categories", 1), ("min_history", 2), ("reference_rows", 1), ("score_rows", 1),
            ("min_rows", 1), ("min_days", 2), ("min_values", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in (
            "psi_limit",
            "missing_limit",
            "min_total_variation",
            "drift_total_variation",
            "share_floor",
            "volume_note",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


def measure_drift(
    reference: pa.Table,
    current: pa.Table,
    *,
    features: Sequence[str],
    clusters: Sequence[str],
    past: Sequence[pa.Table] = (),
    card: str | None = None,
    amount: str = "amount",
    counting: Collection[str] = (),
    delivered: Collection[str] = ("amount",),
    of_labels: Collection[str] = (),
    config: DriftConfig,
) -> tuple[Finding, ...]:
    """Compares a window of transactions with the reference, column by column.

    A finding is DRIFT when its adjusted p is below `config.drift_p` and its effect is not negligible, WATCH below
    `config.watch_p`; p is adjusted over all findings of a family: what the source delivers, what is made of it and the
    score, missing values, new ones. What could not be
    compared is INSUFFICIENT_DATA; a column that the current window has lost is DRIFT. Features that did no more than
    follow the number of rows are OK.

    Args:
        reference: the window the model knows, one to several months; columns event_timestamp (timestamp, UTC, no
            nulls), those of `clusters`, and the features (numbers or texts; null and NaN mean missing).
        current: the window in question, with the same columns.
        features: columns to compare. A column `score` is compared as well where a table has one, as the champion's
            prediction. Columns of `history_columns` belong among them.
        clusters: columns whose equal values mark rows that are not independent (customer_id, terminal_id),
            with the same ids in both windows; a row without an id stands alone. May be empty.
        past: whole earlier months, oldest first, the same columns; they may lie in the reference, before or after it.
            The last two should be the two months before the current window: a shift of a few customers is told from
            them.
        card: the column of those who spend, for that; None leaves it out.
        amount: the column of what they spend.
        counting: the features that are more or less when there are more rows, see `counting_features`.
        delivered: the columns that the source delivers, see `delivered_columns`; texts always are. Where one of them
            is empty, the data are at fault.
        of_labels: the features that are made of labels, see `label_features`. Frauds come in waves, which their windows
            carry on for months, so the spread of a few months does not tell how far they stray; and what has matured
            tells what other features told when it happened. A large move of them is WATCH, any other OK: whether fraud
            has changed, labels say. Of the score, if the champion takes such features: WATCH where it would be DRIFT.
        config: the limits.

    Returns:
        The findings: of each feature in their order (kind covariate or prediction), of its missing values where it
        has any, of its new values where it is a text; then of a shift of a few customers, and of the number of rows a
        day. A single one where the windows cannot be compared. Nothing in them depends on the order of the rows.

    Raises:
        ValueError: when event_timestamp or a cluster column is absent or of a wrong type, or a time is null.
    """
    names = list(dict.fromkeys([*features, *([SCORE] if _has_score(reference, current) else [])]))
    if not names:
        return (insufficient("no features were given, so nothing could be compared"),)
    windows = pair_windows(
        row_days(reference, "reference"),
        row_days(current, "current"),
        reference_each=one_in(reference.num_rows, config.reference_rows),
    )
    sides = tuple(zip(("reference", "current"), windows, strict=True))
    for side, window in sides:
        if window.rows < config.min_rows:
            reason = f"the {side} window has {window.rows:,} comparable rows and needs {config.min_rows:,}"
            return (insufficient(reason),)
    for side, window in sides:
        if len(window.day) < config.min_days:
            reason = (
                f"the {side} window has {len(window.day)} days on weekdays that both windows have "
                f"and needs {config.min_days}"
            )
            return (insufficient(reason),)
    compared = _Windows(
        sides=(Side(reference, windows[0]), Side(current, windows[1])),
        past=_past(past, windows[0], config, None),
        past_scores=_past(past, windows[0], config, config.score_rows) if SCORE in names else (),
        pairs=tuple(pair_clusters(reference, current, clusters)),
        delivered=frozenset(delivered),
        config=config,
    )
    measured = [
        replace(measure, delivered=name in (*delivered, RECENT_AMOUNT), of_labels=name in of_labels)
        for name in names
        for measure in _column(compared, name)
    ]
    shift = shift_of_entities([*past[-2:], current], card, amount) if card and len(past) >= 2 else None
    if shift is not None and card is not None:
        measured.append(_few_entities(compared, shift, card, amount))
    measured.append(_rows_a_day(compared))
    return _judged(compared, measured, _Suspects(card, shift, frozenset(counting)))


def insufficient(reason: str) -> Finding:
    """The finding where nothing could be compared.

    >>> insufficient("there is no champion yet").status
    'INSUFFICIENT_DATA'
    """
    return Finding(kind="covariate", feature="", method="none", status="INSUFFICIENT_DATA", reason=reason)


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
    difference. The trace of a matrix T that is estimated with f degrees of freedom has f (tr T)^2 / tr T^2 of them
    (Satterthwaite, 1946). T is the sum, also where nothing is added: that a few months differ by no more than their
    rows explain may be chance.

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
    total = variance + positive((months - variance) / scale) * scale
    trace, trace_squared = float(np.trace(total / scale)), float(np.sum((total / scale) ** 2))
    return total, freedom * trace**2 / trace_squared if trace > 0 else math.inf


@dataclass(frozen=True)
class _Windows:
    """What is compared, and what every measure needs for it."""

    sides: tuple[Side, Side]
    past: tuple[Side, ...]
    past_scores: tuple[Side, ...]
    pairs: tuple[ClusterPair, ...]
    delivered: frozenset[str]
    config: DriftConfig

    @property
    def pair(self) -> tuple[RowWindow, RowWindow]:
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
        return "Rao-Scott chi-squared by " + ", ".join(["day", *(pair.name for pair in self.pairs)])


@dataclass(frozen=True)
class _Measure:
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


def _has_score(reference: pa.Table, current: pa.Table) -> bool:
    return SCORE in reference.column_names or SCORE in current.column_names


def _column(windows: _Windows, name: str) -> list[_Measure]:
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
    if other := sorted(types - {"numbers", "texts"}):
        return [_settled(base, f"{name} could not be compared: it is {other[0]}, neither numbers nor texts")]
    if len(types) > 1:
        return [_settled(lost, f"{name} is lost: it has {now}, and it had {before}")]
    if types == {"texts"}:
        return _texts(windows, base)
    return _numbers(windows, base)


def _settled(finding: Finding, reason: str, status: DriftStatus | None = None) -> _Measure:
    return _Measure(replace(finding, reason=reason, status=status or finding.status), settled=True)


def _numbers(windows: _Windows, base: Finding) -> list[_Measure]:
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
                first.finding, f"{name} is {_say(values[0][0])} in every row of both windows: nothing could move", "OK"
            ),
            *measures[1:],
        ]
    if not first.settled and single == [False, True]:
        only = f"{name} has one value only, {_say(values[1][0])}, and had many"
        measures[0] = replace(first, large=True, finding=replace(first.finding, cause="lost_feature", reason=only))
    elif not first.settled and name.endswith(NEW):
        before, now = (float(present.mean(dtype=np.float64)) for present in values)
        entity = name.removesuffix(NEW)
        facts = (
            f"{_percent(now)} of rows are of a {entity} that was not seen in the {SEEN_DAYS} days before the month, "
            f"{_percent(before)} before"
        )
        finding = replace(first.finding, reason=facts, value_reference=stable(before), value_current=stable(now))
        measures[0] = replace(first, finding=finding, rose=now > before, large=now - before >= config.missing_limit)
    return measures


def _texts(windows: _Windows, base: Finding) -> list[_Measure]:
    name, config = base.feature, windows.config
    columns = [texts(side, name) for side in windows.sides]
    cells = text_cells(windows.sides[0], name, config.categories)
    enough = all(len(column) - column.null_count >= config.min_values for column in columns)
    if enough and not pc.any(pc.is_in(columns[1].drop_null(), value_set=pc.unique(columns[0]))).as_py():
        none = _settled(base, f"{name} has none of the values it had: nothing of it can be compared but that", "OK")
        return [none, _new_values(windows, base, cells, *columns)]
    return [*_compare(windows, base, cells, enough), _new_values(windows, base, cells, *columns)]


def _new_values(windows: _Windows, base: Finding, cells: Cells, reference: pa.Array, current: pa.Array) -> _Measure:
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
        f"{name} has {len(found):,} new {'value' if len(found) == 1 else 'values'} in {_percent(share)} of rows: "
        + listed((value for value, _ in found), len(found))
    )
    base = replace(base, value_reference=0.0, value_current=stable(share))
    # The reference has no new values by definition; how many are usual is told by its own second half.
    day = windows.pair[0].day_code
    late = day >= len(windows.pair[0].day) // 2
    usual = sum(number for _, number in new_values(reference.filter(pa.array(~late)), reference.filter(pa.array(late))))
    usual_share = usual / max(int(late.sum()), 1)
    if usual_share >= min(config.min_total_variation, share / 2):
        reason = f"{facts}; as ever: in the second half of the reference {_percent(usual_share)} had new ones, too"
        return _settled(base, reason, "OK")
    measure = _tested(windows, base, tables, [])
    return replace(
        measure,
        finding=replace(measure.finding, reason=facts),
        large=share >= config.missing_limit,
        history=config.min_history,
    )


def _tables(windows: _Windows, cells: Cells) -> list[Tables]:
    return [
        tabulate(side.window, windows.pairs, which, cells.place(side), cells.number)
        for which, side in enumerate(windows.sides)
    ]


def _compare(windows: _Windows, base: Finding, cells: Cells, enough: bool) -> list[_Measure]:
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
        facts = f"{name} has no value in {_percent(missing[1])} of rows, {_percent(missing[0])} before"
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


def _tested(windows: _Windows, base: Finding, tables: Sequence[Tables], past: Sequence[Tables]) -> _Measure:
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
        return _Measure(finding, settled=True)
    variance = covariance(windows.pair, windows.pairs, tables)
    if not np.trace(variance) > 0:
        # Each window holds one value throughout, and not the same: nothing varies within them. What is left
        # is Pearson's test, with the variance that shares like their mean would have.
        variance = (np.diag(mean) - np.outer(mean, mean)) * sum(1 / window.rows for window in windows.pair)
    shares = np.array([table.shares for table in past])
    denominator = math.inf
    if len(shares) > 1:
        months = between_months(shares, windows.reference_months)
        variance, denominator = with_months(variance, months, mean, len(shares) - 1)
    test = rao_scott(difference, mean, variance, denominator=denominator)
    first = _since(windows, tables, difference, mean)
    finding = replace(finding, method=windows.method, statistic=test.statistic, p_value=test.p_value, since=first)
    return _Measure(finding, history=len(shares))


def _since(windows: _Windows, tables: Sequence[Tables], difference: FloatArray, mean: FloatArray) -> date:
    """The first day on which the difference is seen."""
    reference, current = windows.pair
    expected = np.zeros((WEEK, len(mean)))
    np.add.at(expected, reference.day_weekday, tables[0].days)
    expected /= np.maximum(expected.sum(axis=1, keepdims=True), 1.0)
    weight = np.divide(difference, mean, out=np.zeros_like(mean), where=mean > 0)
    return first_day(current.day, tables[1].days / current.day_weight[:, None], expected[current.day_weekday], weight)


def _past(past: Sequence[pa.Table], reference: RowWindow, config: DriftConfig, most: int | None) -> tuple[Side, ...]:
    """Earlier months that have every weekday that is compared, with all or so many of their rows."""
    weekdays = set(reference.day_weekday.tolist())
    sides = []
    for table in past:
        days = row_days(table, "past")
        if len(days) >= config.min_rows and weekdays <= set(((np.unique(days) + MONDAY) % WEEK).tolist()):
            sides.append(Side(table, row_window(days, sorted(weekdays), each=one_in(len(days), most or len(days)))))
    return tuple(sides)


def _few_entities(windows: _Windows, shift: EntityShift, card: str, amount: str) -> _Measure:
    rose = shift.shares[1] > shift.shares[0]
    facts = (
        f"{_percent(shift.shares[1])} of {shift.customers[1]:,} ids in {card} changed their {amount} far beyond their "
        f"own habit, {_percent(shift.shares[0])} the month before; of those the most by a factor of {shift.factor:.2f}"
    )
    finding = Finding(
        kind="covariate", feature=f"{amount}_by_{card}", method="two proportions, one-sided", status="OK", reason=facts,
        n_reference=windows.sides[0].table.num_rows, n_current=windows.sides[1].table.num_rows,
        value_reference=stable(shift.shares[0]), value_current=stable(shift.shares[1]),
        statistic=shift.statistic, p_value=shift.p_value, cause="few_entities",
    )  # fmt: skip
    # Customers beside their own past are a history of their own, and however few changed, they did.
    return _Measure(finding, rose=rose, large=True, delivered=True)


def _rows_a_day(windows: _Windows) -> _Measure:
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
    return _Measure(finding, settled=statistic is None, history=len(past), delivered=True)


def _variance_of_days(window: RowWindow) -> float:
    """Of the mean number of rows a day, from how days differ within weekdays; see `clusters.covariance`."""
    counts = window.each * np.bincount(window.day_code, minlength=len(window.day)).astype(np.float64)
    weekdays, number = np.unique(window.day_weekday, return_counts=True)
    if number.min() == 1:
        return float(np.var(counts, ddof=1)) / len(counts)
    means = [float(np.var(counts[window.day_weekday == day], ddof=1)) for day in weekdays]
    return float(np.sum(np.array(means) / number)) / len(weekdays) ** 2


@dataclass(frozen=True)
class _Suspects:
    """What a move of a column of numbers may come from, besides itself."""

    card: str | None
    shift: EntityShift | None
    counting: frozenset[str]


def _judged(windows: _Windows, measured: Sequence[_Measure], suspects: _Suspects) -> tuple[Finding, ...]:
    """The findings with status, cause and sentence, once p is adjusted."""
    adjusted: dict[int, float] = {}
    for family in sorted({one.family for one in measured}):
        tests = [n for n, one in enumerate(measured) if not one.settled and one.family == family]
        p_values = [p for which in tests if (p := measured[which].finding.p_value) is not None]
        adjusted |= dict(zip(tests, holm(p_values), strict=True))
    judged = [
        measure if which not in adjusted else _judge(measure, adjusted[which], windows.config)
        for which, measure in enumerate(measured)
    ]
    moved = [measure.finding for measure in judged if measure.finding.status in ("WATCH", "DRIFT")]
    return tuple(
        _explained(windows, measure, moved, suspects) if which in adjusted else measure.finding
        for which, measure in enumerate(judged)
    )


def _judge(measure: _Measure, p_adjusted: float, config: DriftConfig) -> _Measure:
    finding = replace(measure.finding, p_adjusted=stable(p_adjusted))
    effect, least = finding.total_variation, config.min_total_variation
    if finding.feature == VOLUME:
        effect, least = abs((finding.value_current or 0.0) / (finding.value_reference or 1.0) - 1), config.volume_note
    beyond = effect is None or effect >= least
    enough = measure.large or measure.history >= config.min_history
    status: DriftStatus = "OK"
    far = effect is None or effect >= config.drift_total_variation
    drift_p = config.delivered_drift_p if measure.delivered else config.drift_p
    if p_adjusted < drift_p and beyond and far and enough and finding.feature != VOLUME:
        status = "DRIFT"
    elif p_adjusted < config.watch_p and beyond:
        status = "WATCH"
    elif p_adjusted < config.watch_p and not beyond:
        finding = replace(finding, reason=f"{finding.reason}: too little to act on")
    if measure.of_labels and finding.cause != "lost_feature" and status != "OK":
        status = _calmer(status, measure)
        if status == "OK":
            finding = replace(
                finding, reason=f"{finding.reason}: it is made of labels, which are looked at by themselves"
            )
    if status == "OK":
        finding = replace(finding, since=None)
    elif p_adjusted < drift_p and not enough and finding.feature != VOLUME:
        months = f"{measure.history} earlier month{'' if measure.history == 1 else 's'}"
        told = f"{months} cannot tell how much months differ, so only a large move would be drift"
        finding = replace(finding, reason=f"{finding.reason} ({told})")
    return replace(measure, finding=replace(finding, status=status))


def _calmer(status: DriftStatus, measure: _Measure) -> DriftStatus:
    """Of what is made of labels: a move that is not large is for labels to judge, and scores are watched."""
    if status == "DRIFT" and (measure.large or measure.finding.kind == "prediction"):
        return "WATCH"
    return "OK"


def _explained(windows: _Windows, measure: _Measure, moved: Sequence[Finding], suspects: _Suspects) -> Finding:
    """The finding with its cause, and all of it in one sentence."""
    finding = measure.finding
    sure = "adjusted p below 0.001" if (finding.p_adjusted or 0) < 0.001 else f"adjusted p {finding.p_adjusted:.3f}"
    if finding.status == "OK":
        return replace(finding, cause=None, reason=f"{finding.reason}; not beyond chance or not worth a look, {sure}")
    begin = "" if finding.since is None else f", since {finding.since}"
    why = ""
    if finding.kind == "missing":
        cause = _cause_of_missing(windows, measure)
        finding = replace(finding, cause=cause)
    elif finding.kind == "category" and finding.cause is None:
        finding = replace(finding, cause="new_category" if measure.rose else "distribution")
    elif finding.cause is None and measure.cells is not None and measure.cells.bins is not None:
        explanation = _explanation(windows, measure.cells, finding, moved, suspects)
        finding, why = replace(finding, cause=explanation.cause), f" {explanation.words}:"
        if explanation.cause == "volume":
            return replace(finding, status="OK", since=None, reason=f"{finding.feature}{why} {finding.reason}, {sure}")
    elif finding.cause is None:
        finding, why = replace(finding, cause="distribution"), " has other shares of its values than before:"
    text = f"{finding.feature}{why} {finding.reason}" if why else finding.reason
    return replace(finding, reason=f"{text}{begin}, {sure}")


def _cause_of_missing(windows: _Windows, measure: _Measure) -> Cause:
    """Whether the data are at fault: features of a history have no value where there is none."""
    name, current = measure.finding.feature, windows.sides[1]
    if not measure.rose:
        return "distribution"
    if name in windows.delivered or column_type(current.table, name) == "texts":
        return "missing_values"
    given = np.ones(current.window.rows, dtype=bool)
    for source in windows.delivered & set(current.table.column_names) - {name}:
        given &= ~current.window.rows_of(missing_rows(current.table, source))
    missing = current.window.rows_of(missing_rows(current.table, name))
    # Where the columns that it may be made of are there, it is as often missing as it was.
    usual, now = measure.finding.missing_reference or 0.0, measure.finding.missing_current or 0.0
    left = float(missing[given].mean()) if given.any() else 0.0
    return "missing_values" if left - usual <= (now - usual) / 2 else "distribution"


def _explanation(
    windows: _Windows, cells: Cells, finding: Finding, moved: Sequence[Finding], suspects: _Suspects
) -> Explanation:
    assert cells.bins is not None  # noqa: S101 - numbers have them
    sides, table = windows.sides, windows.sides[1].table
    newcomers: list[tuple[str, Bools]] = []
    for other in moved:
        if other.kind == "category" and other.feature != finding.feature and table.num_rows:
            if other.feature.endswith(NEW):
                rows = numbers(sides[1], other.feature) == 1
                newcomers.append(
                    (f"{_percent(float(rows.mean()))} of rows with a new {other.feature.removesuffix(NEW)}", rows)
                )
            else:
                known = pc.unique(texts(sides[0], other.feature))
                rows = ~pc.is_in(texts(sides[1], other.feature), value_set=known).to_numpy(zero_copy_only=False)
                newcomers.append((f"{_percent(float(rows.mean()))} of rows with a new {other.feature}", rows))
    changed = None
    if suspects.shift is not None and suspects.card and any(other.cause == "few_entities" for other in moved):
        ids = suspects.shift.changed
        masks = [
            side.window.rows_of(pc.is_in(side.table[suspects.card].cast(ids.type), value_set=ids).to_numpy())
            for side in sides
        ]
        changed = (f"{len(ids):,} ids in {suspects.card}", masks[0], masks[1])
    return explain(
        Moved(
            name=finding.feature,
            values=(numbers(sides[0], finding.feature), numbers(sides[1], finding.feature)),
            weights=(sides[0].window.row_weight, sides[1].window.row_weight),
            bins=cells.bins,
            number=cells.known,
            volume=windows.volume,
            counts_rows=finding.feature in suspects.counting,
            newcomers=newcomers,
            changed=changed,
        )
    )


def _facts(finding: Finding) -> str:
    """How far the values of a column moved."""
    psi = finding.psi or 0.0
    facts = [
        f"{_percent(finding.total_variation or 0.0)} of rows in other bins (PSI {psi:.{2 if psi >= 0.01 else 3}f})"
    ]
    if finding.median_reference is not None and finding.median_current is not None:
        before, now = _say(finding.median_reference), _say(finding.median_current)
        facts.append(f"its median stayed at {now}" if before == now else f"its median went from {before} to {now}")
    return ", ".join(facts)


def _median(ascending: Floats) -> float | None:
    """The middle value; None without one."""
    if not len(ascending):
        return None
    middle = float(ascending[(len(ascending) - 1) // 2]) / 2 + float(ascending[len(ascending) // 2]) / 2
    return None if math.isnan(middle) else middle


def _say(value: float) -> str:
    """A number as a person writes it: three digits, or all before the point.

    >>> [_say(value) for value in (51.2345, 0.012345, 14567.8, 0.0)]
    ['51.2', '0.0123', '14,568', '0']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float) -> str:
    """A share as a person writes it.

    >>> [_percent(share) for share in (0.1234, 0.0004, 0.0)]
    ['12.3 %', '0.04 %', '0.0 %']
    """
    return f"{share * 100:.{2 if 0 < share < 0.001 else 1}f} %"
