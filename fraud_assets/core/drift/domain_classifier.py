"""All columns together: can a classifier tell this month's rows from the reference's, and better than it ever could?

A change in how columns go together (large amounts that used to come by day and now come by night) moves none of them
alone. A classifier that is asked which window a row is from finds it (domain classifier, or classifier two-sample test:
Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545). How much better than a coin it is in months in which
nothing changed, because customers and seasons come and go, is told by the earlier months, each taken for the current
one: that is its null. Single columns belong to `covariate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import t as student
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from fraud_assets.core.drift.cells import column_type, floats
from fraud_assets.core.drift.findings import DriftStatus, Finding
from fraud_assets.core.statistics.clusters import FloatArray, IntArray, pair_windows, row_days, stable

FEATURE = "all_columns"
METHOD = "domain classifier, t of earlier months"
FOLDS = 2
TREES = 25
CARRIERS = 3  # named in the reason
LEAST_CARRIED = 0.0005  # of the AUC, for a second one to be named: what rounds to nothing carries nothing
# Of a few months whose areas agree by chance, the spread says that the next would, too. 0.002 is what the drawing of
# rows alone makes areas differ by.
LEAST_SPREAD = 0.002


@dataclass(frozen=True)
class DomainConfig:
    """The limits of the verdict, each with the reason for its default.

    Attributes:
        rows: of each window that are looked at, drawn with a fixed seed. 15,000: with more, a ROC AUC of months in
            which nothing changed becomes no steadier, since customers make it vary, not rows.
        min_rows: that a window must have.
        min_history: earlier months that must tell how much months differ. 3: two give a single difference.
        drift_p, watch_p: as in `DriftConfig`, but of a single test beside those, so stricter.
        watch_excess, drift_excess: WATCH and DRIFT need a ROC AUC that is so far above that of earlier months. 0.01
            and 0.05: the one is what a shift of 2 % of rows gives, the other what no quiet month came near.
        categories: values of a text that are told apart.
    """

    rows: int = 15_000
    min_rows: int = 500
    min_history: int = 3
    drift_p: float = 0.001
    watch_p: float = 0.005
    watch_excess: float = 0.01
    drift_excess: float = 0.05
    categories: int = 20


def domain_finding(
    reference: pa.Table,
    current: pa.Table,
    *,
    features: Sequence[str],
    past: Sequence[pa.Table],
    customer: str | None,
    config: DomainConfig | None = None,
) -> Finding:
    """Asks a classifier which of two windows rows are from.

    The ROC AUC is that of rows of customers that the classifier did not see, drawn so that every weekday has the same
    say. It is compared with those of earlier months, each against the rest of the reference, by a t-test of one more
    observation with as many degrees of freedom as there are months but one.

    Args:
        reference: as for `drift.measure_drift`, rows in the order of the store.
        current: likewise.
        features: the columns to look at, numbers or texts; those that a table lacks or has of another type are left
            out.
        past: whole earlier months; those that lie in the reference are taken out of it when they are looked at.
        customer: the column of ids that are not divided between learning and judging; None divides rows.
        config: the limits.

    Returns:
        A finding of kind `multivariate`; INSUFFICIENT_DATA where there is too little to learn from or to compare with.
        `value_reference` is the mean ROC AUC of the earlier months, `value_current` that of this one.
    """
    config = config or DomainConfig()
    # On so few rows threads wait for each other longer than they work.
    with threadpool_limits(limits=1):
        return _finding(reference, current, features, past, customer, config)


def _finding(
    reference: pa.Table,
    current: pa.Table,
    features: Sequence[str],
    past: Sequence[pa.Table],
    customer: str | None,
    config: DomainConfig,
) -> Finding:
    base = Finding(
        kind="multivariate", feature=FEATURE, method="none", status="INSUFFICIENT_DATA", reason="",
        n_reference=reference.num_rows, n_current=current.num_rows,
    )  # fmt: skip
    names = [name for name in features if _comparable(name, reference, current, *past)]
    if not names:
        return replace(base, reason="no column is there throughout, so they could not be looked at together")
    if len(past) < config.min_history:
        months = f"{len(past)} earlier month{'' if len(past) == 1 else 's'}"
        reason = f"{months} cannot tell how well quiet months can be told apart; it takes {config.min_history}"
        return replace(base, reason=reason)
    known = _Known(reference, names, customer, config)
    found = _told_apart(known, reference, current, whole=True)
    quiet = [one.area for month in past if (one := _told_apart(known, reference, month)) is not None]
    if found is None or len(quiet) < config.min_history:
        reason = f"a window has fewer than {config.min_rows:,} rows, so its columns could not be looked at together"
        return replace(base, reason=reason)
    usual, spread = float(np.mean(quiet)), float(np.std(quiet, ddof=1))
    excess = found.area - usual
    statistic = excess / (max(spread, LEAST_SPREAD) * np.sqrt(1 + 1 / len(quiet)))
    p_value = float(student.sf(statistic, len(quiet) - 1))
    status: DriftStatus = "OK"
    if p_value < config.drift_p and excess >= config.drift_excess:
        status = "DRIFT"
    elif p_value < config.watch_p and excess >= config.watch_excess:
        status = "WATCH"
    facts = (
        f"a classifier tells this month's rows from the reference's with a ROC AUC of {found.area:.3f}; for earlier "
        f"months it is {min(quiet):.3f} to {max(quiet):.3f}"
    )
    if status != "OK":
        facts = (
            f"columns go together otherwise than before: {facts}. What gives the month away most: {found.carriers()}"
        )
    return Finding(
        kind="multivariate", feature=FEATURE, method=METHOD, status=status, reason=facts,
        cause=None if status == "OK" else "distribution",
        n_reference=reference.num_rows, n_current=current.num_rows, statistic=stable(float(statistic)),
        p_value=stable(p_value), value_reference=stable(usual), value_current=stable(found.area),
    )  # fmt: skip


def _comparable(name: str, *tables: pa.Table) -> bool:
    if any(name not in table.column_names for table in tables):
        return False
    types = {column_type(table, name) for table in tables} - {"nothing"}
    return types in ({"numbers"}, {"texts"}, {"dates"})


class _Known:
    """What the reference says of all windows alike: the codes of texts."""

    def __init__(self, reference: pa.Table, names: Sequence[str], customer: str | None, config: DomainConfig) -> None:
        self.names, self.customer, self.config = names, customer, config
        self.values: dict[str, pa.Array] = {}
        for name in names:
            if column_type(reference, name) == "texts":
                counts = pc.value_counts(reference[name].cast(pa.string()).drop_null().combine_chunks())
                ranked = pa.table({"n": counts.field(1), "value": counts.field(0)})
                ranked = ranked.sort_by([("n", "descending"), ("value", "ascending")])
                self.values[name] = ranked["value"].slice(0, config.categories).combine_chunks()

    def matrix(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """The columns of some rows as numbers, shape (rows, columns); NaN where missing."""
        columns = []
        for name in self.names:
            if pa.types.is_null(table[name].type):
                columns.append(np.full(table.num_rows, np.nan, np.float32))
            elif name in self.values:
                code = pc.index_in(table[name].cast(pa.string()), value_set=self.values[name]).fill_null(-1)
                columns.append(code.to_numpy().astype(np.float32))
            else:
                # What is too large for half the precision is as large as it can be.
                with np.errstate(over="ignore"):
                    columns.append(floats(table, name).astype(np.float32))
        return np.column_stack(columns)


@dataclass(frozen=True)
class _ToldApart:
    """How well two windows are told apart, and by what.

    Attributes:
        area: ROC AUC of rows that were not learned from.
        names: of the columns.
        folds: of each, its classifier, and the rows and labels it was judged on.
    """

    area: float
    names: Sequence[str]
    folds: Sequence[tuple[HistGradientBoostingClassifier, npt.NDArray[np.float32], FloatArray]]

    def carriers(self) -> str:
        """The columns without which the windows are told apart worst, with what each takes away (Breiman, 2001)."""
        losses = np.zeros(len(self.names))
        rng = np.random.default_rng(0)
        for model, rows, label in self.folds:
            whole = _area(model, rows, label)
            for which in range(len(self.names)):
                shuffled = rows.copy()
                shuffled[:, which] = rows[rng.permutation(len(rows)), which]
                losses[which] += (whole - _area(model, shuffled, label)) / len(self.folds)
        ranked = np.argsort(-losses, kind="stable")[:CARRIERS]
        most = [which for place, which in enumerate(ranked) if place == 0 or losses[which] >= LEAST_CARRIED]
        return ", ".join(f"{self.names[which]} ({losses[which]:.3f} of the AUC)" for which in most)


def _told_apart(known: _Known, reference: pa.Table, current: pa.Table, *, whole: bool = False) -> _ToldApart | None:
    """Learns to tell two windows apart; the reference without the days of the other, unless all of it is asked for."""
    config = known.config
    days = [row_days(reference, "reference"), row_days(current, "current")]
    if len(days[1]) and not whole:
        outside = np.flatnonzero((days[0] < days[1].min()) | (days[0] > days[1].max()))
    else:
        outside = np.arange(len(days[0]))
    positions = [outside, np.arange(len(days[1]))]
    windows = pair_windows(days[0][outside], days[1])
    if min(window.rows for window in windows) < config.min_rows:
        return None
    samples = []
    for table, window, where in zip((reference, current), windows, positions, strict=True):
        rng = np.random.default_rng(0)
        # Thinned by their weights, so that each weekday has the same say.
        kept = np.flatnonzero(rng.random(window.rows) < window.row_weight / window.row_weight.max())
        drawn = np.sort(rng.permutation(kept)[: config.rows])
        rows = where[drawn if window.kept is None else window.kept[drawn]]
        needed = list(dict.fromkeys([*known.names, "event_timestamp", *([known.customer] if known.customer else [])]))
        samples.append(table.select(needed).take(pa.array(rows)))
    fold = np.concatenate(_folds(samples, known.customer))
    rows = np.concatenate([known.matrix(sample) for sample in samples])
    label = np.repeat([0.0, 1.0], [sample.num_rows for sample in samples])
    judged = []
    for which in range(FOLDS):
        learn, judge = fold != which, fold == which
        if any(len(np.unique(label[part])) < 2 for part in (learn, judge)):
            return None
        model = HistGradientBoostingClassifier(
            max_iter=TREES, max_leaf_nodes=15, learning_rate=0.2, max_bins=32, early_stopping=False, random_state=0
        )
        # scikit-learn has no bins for a column without a single value, and none is learned from it.
        empty = np.isnan(rows[learn]).all(axis=0)
        given = np.where(empty, np.float32(0), rows) if empty.any() else rows
        model.fit(given[learn], label[learn])
        judged.append((model, given[judge], label[judge]))
    return _ToldApart(float(np.mean([_area(*one) for one in judged])), known.names, judged)


def _area(model: HistGradientBoostingClassifier, rows: npt.NDArray[np.float32], label: FloatArray) -> float:
    return float(roc_auc_score(label, model.predict_proba(rows)[:, 1]))


def _folds(samples: Sequence[pa.Table], customer: str | None) -> list[IntArray]:
    """Of each drawn row the fold in which it is judged; all rows of a customer are in the same."""
    if customer is None:
        return [np.arange(sample.num_rows) % FOLDS for sample in samples]
    columns = [sample[customer].combine_chunks() for sample in samples]
    every = pc.unique(pa.concat_arrays([column.cast(columns[0].type) for column in columns]).drop_null())
    ordered = every.take(pc.sort_indices(every))
    ranks = [pc.index_in(column, value_set=ordered).fill_null(0).to_numpy(zero_copy_only=False) for column in columns]
    return [rank.astype(np.int64) % FOLDS for rank in ranks]
