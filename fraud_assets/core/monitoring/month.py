"""A month's drift report: which windows are compared, what is measured on them, and the rows that are stored.

The statistics belong to `drift/covariate.py`, `drift/domain_classifier.py`, `performance/concept.py`,
`performance/label_drift.py` and `performance/estimation.py`, the verdict to `verdict.py`, the windows' rules to
`windows.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.causes import listed
from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.domain_classifier import domain_finding
from fraud_assets.core.drift.findings import DATA_CAUSES, SCORE, DriftStatus, Finding
from fraud_assets.core.drift.history_columns import (
    NEW,
    SEEN_DAYS,
    counting_features,
    delivered_columns,
    history_columns,
    label_features,
    with_history_columns,
)
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.drift.time_columns import time_columns
from fraud_assets.core.evaluation.segments import attributes_of
from fraud_assets.core.features.declarations import feature_days, feature_names
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.deliveries import USUAL_DAYS, Gap, History, delivery_finding, history_of
from fraud_assets.core.monitoring.outcomes import outcome_findings
from fraud_assets.core.monitoring.verdict import Verdict, hold, judge_month
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.statistics.clusters import one_in
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import (
    FILLING_DAYS,
    MINIMUM_REFERENCE_DAYS,
    Window,
    matured_window,
    month_window,
    reference_window,
    rows_within,
)

# Follows the calendar, not the world: a month with five weekends is no drift.
CALENDAR_FEATURES = ("is_weekend",)
OWN_MONTHS = 3  # as long as the reference of a champion at most is
LATE_BEGIN = timedelta(days=3)  # a first month that begins later is a part of one
PAST_MONTHS = 6  # how much months differ without anything having changed is told by so many
HISTORY = timedelta(days=31)  # what the columns that are made for the report look back
# Shops are new while less than a short month is known from before.
LEAST_HISTORY = timedelta(days=28)
VERDICT = "verdict"
THREADS = 3  # one for each of the kinds that are measured side by side


class Read(Protocol):
    """Gives the rows of a range of months of a table, or some of its columns; empty where there are none."""

    def __call__(self, table: str, columns: Sequence[str] | None, first: str, last: str, /) -> pa.Table:
        """From the first to the last month, both included."""


@dataclass(frozen=True)
class Champion:
    """The model that the report is about.

    Attributes:
        scorer: the model.
        promise: what it said of transactions it had not seen when it was validated, and what became of them, see
            `TrainingResult.validation`; None of a model from before that was kept.
    """

    scorer: Scorer
    promise: pa.Table | None

    @property
    def version(self) -> int:
        """Its version in the registry."""
        return self.scorer.manifest.model_version

    @property
    def training(self) -> Window | None:
        """Event times of its training rows.

        From the manifest and not from `trained_model`, whose row may be about a newer model of the same month.
        """
        manifest = self.scorer.manifest
        if manifest.training_from is None or manifest.training_to is None:
            return None
        return Window(manifest.training_from, manifest.training_to)


@dataclass(frozen=True)
class EarlierReport:
    """What the report of an earlier month said."""

    champion_version: int | None
    drift_status: DriftStatus
    findings: tuple[Finding, ...]

    @property
    def is_broken(self) -> bool:
        """Whether it called the data broken."""
        return any(finding.status == "DRIFT" and finding.cause in DATA_CAUSES for finding in self.findings)


@dataclass(frozen=True)
class MonthReport:
    """A month's report, the champion it is about, and the window it was compared with."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    champion_version: int | None
    reference: Window | None


def report_month(
    *,
    month: str,
    current: pa.Table,
    champion: Champion | None,
    first_event: datetime | None,
    read: Read,
    earlier: Mapping[str, EarlierReport],
    contract: Contract,
    config: DriftConfig,
    costs: Costs,
) -> MonthReport:
    """Compares a month with the champion's training window and with what its validation promised.

    Without a champion, or where its training window cannot be compared, the platform's own earlier months are the
    reference, see `own_months`. Everything is as known at the month's end.

    Args:
        month: the month under report.
        current: its features.
        champion: the live model, if there is one.
        first_event: the first transaction the platform has.
        read: gives `transaction_features`, `fraud_labels` and `raw_transactions`.
        earlier: the reports of the `PAST_MONTHS` months before, where there are any.
        contract: of the source.
        config: limits of the drift tests.
        costs: of reviews and missed frauds.

    Returns:
        The report: INSUFFICIENT_DATA with its reason where there is nothing to compare with. Features are compared
        whose windows are full in the reference and in the month, after the platform's first days and after a gap in
        its history; and scores if those of all the model's features are: scores move as windows fill.
    """
    version = champion.version if champion else None
    if first_event is None:
        return _nothing("there is no transaction to compare", version)
    this = month_window(month, contract.zone)
    history = platform_history(month, champion.training if champion else None, first_event, read, contract)
    window, remark = choose_reference(month, champion, history, earlier, contract)
    if window is None:
        return _nothing(remark, version)
    days = feature_days(contract)
    full = {name for name, back in days.items() if history.is_full(window, back) and history.is_full(this, back)}
    # What is a number to models is compared as one; their texts come from the transactions, as all categories do.
    numbers = [name for name in feature_names(contract) if name in full]
    back = max((days[name] for name in full), default=0.0)
    past = [
        one
        for one in past_months(month, window, earlier, contract)
        if not history.breaks(month_window(one, contract.zone), max(back, SEEN_DAYS))
    ]
    needed = sorted({*months_between(contract.month_of(window.start), _last_month(window, contract)), *past, month})
    attributes = [name for name in contract.attributes if name not in feature_names(contract)]
    parts = [
        compared_rows(months, current if months[-1] == month else None, numbers, attributes, read, contract)
        for months in _runs(needed)
    ]
    # While a platform is young, every shop is new, and so it is after a gap.
    shared = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    unbroken = first_event + LEAST_HISTORY <= window.start and not any(
        history.disturbing(one, SEEN_DAYS) for one in (window, this)
    )
    made = [name for name in history_columns(contract) if name in shared and unbroken]
    rows = pa.concat_tables([part.select(shared) for part in parts])
    seen = _Compared(
        features=[
            *(name for name in numbers if name not in CALENDAR_FEATURES),
            *made,
            *attributes,
        ],
        windows=[
            (window, config.reference_rows),
            (this, None),
            *((month_window(one, contract.zone), config.score_rows) for one in past),
        ],
        scorer=champion.scorer if champion and full.issuperset(champion.scorer.manifest.features) else None,
    )
    findings = _findings(month, current, rows, seen, champion, read, earlier, contract, config, costs)
    if broken := history.disturbing(matured_window(month, contract.maturity_days, contract.zone), FILLING_DAYS):
        findings = tuple(_on_broken_history(finding, broken) for finding in findings)
    if delivery := delivery_finding(history, this):
        findings = (delivery, *findings)
    before = earlier.get(shift_month(month, -1))
    if before is not None and before.champion_version == version:
        findings = hold(findings, before.findings)
    verdict = judge_month(findings, has_champion=champion is not None)
    later = [name for name in days if name not in full]
    remarks = [
        *([remark] if remark else []),
        *([_not_yet(later, champion is not None and seen.scorer is None, history, this)] if later else []),
    ]
    return MonthReport(replace(verdict, reasons=(*verdict.reasons, *remarks)), findings, version, window)


@dataclass(frozen=True)
class _Compared:
    """What is compared.

    Attributes:
        features: the columns.
        windows: the reference, the month and earlier months, each with how many of its rows are scored at most.
        scorer: the champion, where its scores can be compared.
    """

    features: list[str]
    windows: list[tuple[Window, int | None]]
    scorer: Scorer | None


def _findings(
    month: str,
    current: pa.Table,
    rows: pa.Table,
    seen: _Compared,
    champion: Champion | None,
    read: Read,
    earlier: Mapping[str, EarlierReport],
    contract: Contract,
    config: DriftConfig,
    costs: Costs,
) -> tuple[Finding, ...]:
    """All kinds of findings, measured side by side."""
    counting, of_labels = counting_features(contract), label_features(contract)
    of_model = champion.scorer.manifest.features if champion else ()
    # numpy, pyarrow, scikit-learn and ONNX Runtime let other threads work meanwhile.
    with ThreadPoolExecutor(THREADS) as pool:
        reference, compared_month, *months = pool.map(
            lambda part: _scored(rows_within(rows, part[0]), seen.scorer, part[1]), seen.windows
        )
        of_time = time_columns(reference, compared_month, months, seen.features)
        drift = pool.submit(
            measure_drift,
            reference,
            compared_month,
            features=seen.features,
            clusters=tuple(contract.entities),
            past=months,
            card=contract.card if contract.amount else None,
            counting=counting,
            delivered=delivered_columns(contract, seen.features),
            of_labels=of_labels | ({SCORE} if of_labels.intersection(of_model) else set()),
            of_time=of_time,
            config=config,
        )
        together = pool.submit(
            domain_finding,
            reference,
            compared_month,
            # Those that count rows follow their number, and those made of labels the waves of fraud; both are looked at
            # by themselves.
            features=[name for name in seen.features if name not in counting | of_labels | of_time.keys()],
            past=months,
            customer=contract.card,
        )
        outcomes = pool.submit(
            outcome_findings,
            month=month,
            scorer=champion.scorer if champion else None,
            promise=champion.promise if champion else None,
            current=_with_score(current, compared_month),
            read=read,
            contract=contract,
            costs=costs,
            drifted=[one for one, report in earlier.items() if report.drift_status == "DRIFT"],
        )
        return (*drift.result(), together.result(), *outcomes.result())


def platform_history(
    month: str, training: Window | None, first_event: datetime, read: Read, contract: Contract
) -> History:
    """Where the history has gaps that a month's report must know of: from the reference's time on, and before it."""
    begin = contract.month_start(shift_month(month, -PAST_MONTHS))
    if training is not None:
        begin = min(begin, training.start)
    back = timedelta(days=max(feature_days(contract).values(), default=0.0) + USUAL_DAYS)
    first = max(contract.month_of(max(begin - back, first_event)), contract.first_month)
    rows = read("raw_transactions", ["event_timestamp"], first, month)
    return history_of(rows["event_timestamp"], first_event, contract.month_end(month), contract)


def choose_reference(
    month: str,
    champion: Champion | None,
    history: History,
    earlier: Mapping[str, EarlierReport],
    contract: Contract,
) -> tuple[Window | None, str]:
    """What a month is compared with, and what is to be said of that.

    Args:
        month: the month under report.
        champion: the live model, if there is one.
        history: how far back transactions go, and where they have gaps.
        earlier: the reports of the months before.
        contract: of the source.

    Returns:
        The champion's training window as far as it can be compared; else, with the reason, the platform's own earlier
        months; None where there are none.
    """
    if champion is None:
        why = "there is no champion yet"
    elif champion.training is None:
        why = f"champion version {champion.version} does not say on what it was trained"
    else:
        window = reference_window(
            champion.training, history.first_event, contract.maturity_days, month, contract.zone, history.gaps
        )
        if window is not None:
            return window, ""
        why = (
            f"the training window of champion version {champion.version} lies where features that look back are still "
            "filling"
        )
    own = own_months(month, history, earlier, contract)
    if own is None:
        return None, f"{why}, and no earlier month is there that could be compared"
    first, last = own.start, own.end - timedelta(hours=12)
    return own, f"{why}, so the month was compared with the months before: {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def own_months(month: str, history: History, earlier: Mapping[str, EarlierReport], contract: Contract) -> Window | None:
    """Up to three months in a row before a month, of the `PAST_MONTHS` before it, that were delivered as usual.

    The newest three in a row, else the newest of those in a row. A month that drifted is among them: without a model
    that was made for the world before, a change is news once. Not one whose data were called broken, unless all were.
    """
    first = max(contract.month_of(history.first_event), shift_month(month, -PAST_MONTHS))
    if first >= month:
        return None
    windows = {one: month_window(one, contract.zone) for one in months_between(first, shift_month(month, -1))}
    if history.first_event - windows[first].start > LATE_BEGIN:
        windows[first] = Window(history.first_event, windows[first].end)
    whole = [
        one
        for one, window in windows.items()
        if window.days >= MINIMUM_REFERENCE_DAYS and window.end > history.first_event and not history.breaks(window)
    ]
    sound = [one for one in whole if one not in earlier or not earlier[one].is_broken] or whole
    if not sound:
        return None
    runs = _runs(sound)[::-1]
    run = next((run for run in runs if len(run) >= OWN_MONTHS), max(runs, key=len))[-OWN_MONTHS:]
    return Window(windows[run[0]].start, windows[run[-1]].end)


def compared_rows(
    months: Sequence[str],
    current: pa.Table | None,
    features: Sequence[str],
    attributes: Sequence[str],
    read: Read,
    contract: Contract,
) -> pa.Table:
    """The rows of consecutive months with the columns that are compared.

    Args:
        months: in order.
        current: the features of the last of them, if that is the month under report.
        features: columns of the table of features.
        attributes: columns of the transactions.
        read: as for `report_month`.
        contract: of the source.

    Returns:
        Also with those of `history_columns` that can be made of what is there.
    """
    first, last = months[0], months[-1]
    known = ["transaction_id", "event_timestamp", *contract.entities]
    columns = [*known, *features]
    given = [] if current is None else [current.select(columns)]
    if stored := months[: len(months) - len(given)]:
        rows = read("transaction_features", columns, stored[0], stored[-1]).select(columns)
        given = [rows, *(table.cast(rows.schema) for table in given)]
    rows = pa.concat_tables(given)
    with ThreadPoolExecutor(THREADS) as pool:
        made = None
        if history_columns(contract):
            needed = [*known, *(["amount"] if contract.amount else [])]
            start = contract.month_of(contract.month_start(first) - HISTORY)
            before = read("transaction_features", needed, start, shift_month(first, -1)).select(needed)
            made = pool.submit(
                _made, before, rows.select(needed).cast(before.schema), contract.month_start(first), contract
            )
        if attributes:
            found = attributes_of(rows, read("raw_transactions", ["transaction_id", *attributes], first, last))
            for name in attributes:
                column = found[name]
                rows = rows.append_column(name, column.cast(pa.string()) if _is_named(column.type) else column)
    for name, values in made.result().items() if made else ():
        rows = rows.append_column(name, values)
    return rows


def past_months(
    month: str, reference: Window, earlier: Mapping[str, EarlierReport], contract: Contract
) -> tuple[str, ...]:
    """The months before one that show how much months differ when nothing has changed, oldest first.

    Whole months from the reference's beginning on, when windows were full, at most `PAST_MONTHS`; not those that
    drifted.
    """
    first = contract.month_of(reference.start)
    if contract.month_start(first) < reference.start:
        first = shift_month(first, 1)
    months = [
        one
        for one in months_between(max(first, shift_month(month, -PAST_MONTHS)), shift_month(month, -1))
        if one not in earlier or earlier[one].drift_status != "DRIFT"
    ]
    return tuple(months)


def earlier_reports(rows: pa.Table) -> dict[str, EarlierReport]:
    """The reports of several months, by month, from rows of the drift_report table."""
    names = {field.name for field in fields(Finding)}
    verdicts: dict[str, dict[str, Any]] = {}
    findings: dict[str, list[Finding]] = {}
    for row in rows.to_pylist():
        month = f"{row['month']:%Y-%m}"
        if row["kind"] == VERDICT:
            verdicts[month] = row
        else:
            values = {name: row[name] for name in names & row.keys()}
            findings.setdefault(month, []).append(Finding(**values, status=row["drift_status"]))
    return {
        month: EarlierReport(row["champion_version"], row["drift_status"], tuple(findings.get(month, ())))
        for month, row in verdicts.items()
    }


def drift_rows(report: MonthReport, month: str, schema: pa.Schema) -> pa.Table:
    """The report as rows of the drift_report table: one a finding, and one, kind `verdict`, for the month."""
    reference, verdict = report.reference, report.verdict
    shared = {
        "month": date.fromisoformat(f"{month}-01"),
        "champion_version": report.champion_version,
        "reference_from": f"{reference.start:%Y-%m-%d}" if reference else None,
        "reference_to": f"{reference.end:%Y-%m-%d}" if reference else None,
    }
    first: dict[str, Any] = {
        "kind": VERDICT,
        "feature": "",
        "method": "",
        "drift_status": verdict.drift_status,
        "blame": verdict.blame,
        "reason": "\n".join(verdict.reasons),
    }
    rows = [{**vars(finding), "drift_status": finding.status} for finding in report.findings]
    return pa.Table.from_pylist([{**shared, **row} for row in [first, *rows]], schema=schema)


def _scored(rows: pa.Table, scorer: Scorer | None, most: int | None) -> pa.Table:
    """With the champion's scores of the rows that `measure_drift` looks at, which are at most so many."""
    if scorer is None:
        return rows
    scores = np.full(rows.num_rows, np.nan)
    taken = slice(None, None, 1 if most is None else one_in(rows.num_rows, most))
    scores[taken] = scorer.score(rows.take(pa.array(np.arange(rows.num_rows)[taken])))
    return rows.append_column(SCORE, pa.array(scores))


def _not_yet(features: Sequence[str], scores: bool, history: History, this: Window) -> str:
    """What the report of a young platform, or after a gap, does not look at, and why."""
    what = f"{len(features)} feature{'' if len(features) == 1 else 's'}{', and so scores,' if scores else ''}"
    named = listed(features, len(features))
    gaps = history.disturbing(this, PAST_MONTHS * 31)
    if gaps:
        return (
            f"{what} could not be compared, because their windows reach into days that were not delivered, "
            f"{', '.join(gap.words for gap in gaps)}: {named}"
        )
    return (
        f"{what} could not be compared yet, because they were still filling when the reference began: "
        f"{named}; a champion that is trained later has a later reference"
    )


def _on_broken_history(finding: Finding, gaps: Sequence[Gap]) -> Finding:
    """What the champion said of rows whose history is missing tells nothing of the champion, nor of the world."""
    if finding.kind not in ("concept", "estimate") or finding.status not in ("WATCH", "DRIFT"):
        return finding
    said = f"{finding.reason}; that tells nothing: history is missing, {', '.join(gap.words for gap in gaps)}"
    return replace(finding, status="INSUFFICIENT_DATA", cause=None, since=None, reason=said)


def _with_score(current: pa.Table, scored: pa.Table) -> pa.Table:
    """The month's features with the scores of the same rows, where there are any."""
    return current.append_column(SCORE, scored[SCORE]) if SCORE in scored.column_names else current


def _is_named(kind: pa.DataType) -> bool:
    """Whether values of a type are told apart by their names."""
    return bool(pa.types.is_string(kind) or pa.types.is_boolean(kind))


def _last_month(window: Window, contract: Contract) -> str:
    return contract.month_of(window.end - timedelta(microseconds=1))


def _runs(months: Sequence[str]) -> list[list[str]]:
    """Months in order, parted where one is missing between two."""
    runs: list[list[str]] = []
    for month in months:
        if runs and shift_month(runs[-1][-1], 1) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return runs


def _made(before: pa.Table, rows: pa.Table, start: datetime, contract: Contract) -> dict[str, pa.ChunkedArray]:
    """The columns of `history_columns` that can be made of some rows and those before their start."""
    oldest = pc.min(before["event_timestamp"]).as_py()
    long_enough = oldest is not None and start - oldest >= LEAST_HISTORY
    history = with_history_columns(pa.concat_tables([before, rows]), contract).slice(before.num_rows)
    return {name: history[name] for name in history_columns(contract) if long_enough or not name.endswith(NEW)}


def _nothing(reason: str, version: int | None) -> MonthReport:
    return MonthReport(Verdict("INSUFFICIENT_DATA", None, (reason,)), (), version, None)
