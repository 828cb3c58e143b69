"""Drift of what comes in: has this month's data moved away from the reference by more than chance?

Which columns are compared, over which of them p is adjusted, which moves are WATCH or DRIFT, and what each looks like,
belong here. How one column is measured is in `columns.py`, the limits in `limits.py`, the search for a cause
in `causes.py`, the columns made for this in `history_columns.py`, all columns together in `domain_classifier.py`. What
findings mean together is in `monitoring/verdict.py`.

Use:

    findings = measure_drift(
        reference, current, past=months, features=[...], clusters=list(contract.entities), card=contract.card,
        counting=counting_features(contract), delivered=delivered_columns(contract, features),
        of_labels=label_features(contract), config=DriftConfig(),
    )
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.drift.causes import Bools, Explanation, Moved, explain
from fraud_assets.core.drift.cells import Cells, Side, column_type, missing_rows, numbers, texts
from fraud_assets.core.drift.columns import (
    VOLUME,
    ComparedWindows,
    Measure,
    few_entities,
    measure_column,
    past_sides,
    rows_a_day,
)
from fraud_assets.core.drift.entity_shifts import EntityShift, shift_of_entities
from fraud_assets.core.drift.findings import SCORE, Cause, DriftStatus, Finding, holm
from fraud_assets.core.drift.history_columns import NEW, RECENT_AMOUNT
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.statistics.clusters import one_in, pair_clusters, pair_windows, row_days, stable
from fraud_assets.core.words import adjusted_p, percent


# Two windows, and which part each column plays in this contract. Each is named where it is handed over; a bundle of
# them would have one maker and one reader.
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
    of_time: Mapping[str, str] | None = None,
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
        of_time: the columns that follow time, and how, see `time_columns`; of them the missing values alone are
            compared.
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
    config = config.for_rows(min(window.rows for window in windows))
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
    compared = ComparedWindows(
        sides=(Side(reference, windows[0]), Side(current, windows[1])),
        past=past_sides(past, windows[0], config, None),
        past_scores=past_sides(past, windows[0], config, config.score_rows) if SCORE in names else (),
        pairs=tuple(pair_clusters(reference, current, clusters)),
        delivered=frozenset(delivered),
        config=config,
    )
    measured = [
        replace(measure, delivered=name in (*delivered, RECENT_AMOUNT), of_labels=name in of_labels)
        for name in names
        for measure in measure_column(compared, name)
    ]
    measured = [_without_time(measure, of_time or {}) for measure in measured]
    shift = shift_of_entities([*past[-2:], current], card, amount) if card and len(past) >= 2 else None
    if shift is not None and card is not None:
        measured.append(few_entities(compared, shift, card, amount))
    measured.append(rows_a_day(compared))
    return _judged(compared, measured, _Suspects(card, shift, frozenset(counting)))


def _without_time(measure: Measure, of_time: Mapping[str, str]) -> Measure:
    """What moves with the calendar is a remark; whether it has a value at all is compared as ever."""
    finding = measure.finding
    if finding.feature not in of_time or finding.kind == "missing":
        return measure
    reason = f"months cannot be compared by {finding.feature}: {of_time[finding.feature]}"
    plain = Finding(
        kind=finding.kind, feature=finding.feature, method="none", status="INSUFFICIENT_DATA", reason=reason,
        n_reference=finding.n_reference, n_current=finding.n_current,
    )  # fmt: skip
    return Measure(plain, settled=True)


def insufficient(reason: str) -> Finding:
    """The finding where nothing could be compared.

    >>> insufficient("there is no champion yet").status
    'INSUFFICIENT_DATA'
    """
    return Finding(kind="covariate", feature="", method="none", status="INSUFFICIENT_DATA", reason=reason)


def _has_score(reference: pa.Table, current: pa.Table) -> bool:
    return SCORE in reference.column_names or SCORE in current.column_names


@dataclass(frozen=True)
class _Suspects:
    """What a move of a column of numbers may come from, besides itself."""

    card: str | None
    shift: EntityShift | None
    counting: frozenset[str]


def _judged(windows: ComparedWindows, measured: Sequence[Measure], suspects: _Suspects) -> tuple[Finding, ...]:
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


def _judge(measure: Measure, p_adjusted: float, config: DriftConfig) -> Measure:
    finding = replace(measure.finding, p_adjusted=stable(p_adjusted))
    effect, least = finding.total_variation, config.min_total_variation
    if finding.feature == VOLUME:
        effect, least = abs((finding.value_current or 0.0) / (finding.value_reference or 1.0) - 1), config.volume_note
    beyond = effect is None or effect >= least
    enough = measure.large or measure.history >= config.min_history
    status: DriftStatus = "OK"
    far = effect is None or effect >= config.drift_total_variation
    drift_p = config.delivered_drift_p if measure.delivered and effect is not None else config.drift_p
    watch_p = config.watch_p
    if (config.is_small or measure.history < config.min_history) and effect is not None:
        drift_p, watch_p = min(drift_p, config.unsure_drift_p), min(watch_p, config.unsure_watch_p)
    if p_adjusted < drift_p and beyond and far and enough and finding.feature != VOLUME:
        status = "DRIFT"
    elif p_adjusted < watch_p and beyond:
        status = "WATCH"
    elif p_adjusted < watch_p and not beyond:
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
        months = "so few rows" if config.is_small else months
        told = f"{months} cannot tell how much months differ, so only a large move would be drift"
        finding = replace(finding, reason=f"{finding.reason} ({told})")
    return replace(measure, finding=replace(finding, status=status))


def _calmer(status: DriftStatus, measure: Measure) -> DriftStatus:
    """Of what is made of labels: a move that is not large is for labels to judge, and scores are watched."""
    if status == "DRIFT" and (measure.large or measure.finding.kind == "prediction"):
        return "WATCH"
    return "OK"


def _explained(windows: ComparedWindows, measure: Measure, moved: Sequence[Finding], suspects: _Suspects) -> Finding:
    """The finding with its cause, and all of it in one sentence."""
    finding = measure.finding
    sure = adjusted_p(finding.p_adjusted or 0.0)
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


def _cause_of_missing(windows: ComparedWindows, measure: Measure) -> Cause:
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
    windows: ComparedWindows, cells: Cells, finding: Finding, moved: Sequence[Finding], suspects: _Suspects
) -> Explanation:
    assert cells.bins is not None  # noqa: S101 - numbers have them
    sides, table = windows.sides, windows.sides[1].table
    newcomers: list[tuple[str, Bools]] = []
    for other in moved:
        if other.kind == "category" and other.feature != finding.feature and table.num_rows:
            if other.feature.endswith(NEW):
                rows = numbers(sides[1], other.feature) == 1
                newcomers.append(
                    (f"{percent(float(rows.mean()))} of rows with a new {other.feature.removesuffix(NEW)}", rows)
                )
            else:
                known = pc.unique(texts(sides[0], other.feature))
                rows = ~pc.is_in(texts(sides[1], other.feature), value_set=known).to_numpy(zero_copy_only=False)
                newcomers.append((f"{percent(float(rows.mean()))} of rows with a new {other.feature}", rows))
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
