"""A month's drift report: what is measured on the windows of its plan, and the rows that are stored.

The statistics belong to `drift/covariate.py`, `drift/domain_classifier.py`, `performance/concept.py`,
`performance/label_drift.py` and `performance/estimation.py`, the verdict to `verdict.py`, which windows are compared
and which rows that takes to `plan.py`, what is drawn to `pictures.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.causes import listed
from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.domain_classifier import domain_finding
from fraud_assets.core.drift.findings import SCORE, Finding
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
from fraud_assets.core.features.declarations import date_columns, feature_days
from fraud_assets.core.labels.completeness import Completeness
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.deliveries import Gap, History, delivery_finding
from fraud_assets.core.monitoring.outcomes import outcome_findings
from fraud_assets.core.monitoring.pictures import PICTURES, Pictures, draw
from fraud_assets.core.monitoring.plan import (
    PAST_MONTHS,
    EarlierReport,
    Part,
    ReportPlan,
    Subject,
    attributes_compared,
)
from fraud_assets.core.monitoring.verdict import Verdict, hold, judge_month
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import Reason, Rule, reasons_to_json
from fraud_assets.core.statistics.clusters import one_in
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import FILLING_DAYS, Window, matured_window, month_window, rows_within

# Follows the calendar, not the world: a month with five weekends is no drift.
CALENDAR_FEATURES = ("is_weekend",)
# Shops are new while less than a short month is known from before.
LEAST_HISTORY = timedelta(days=28)
VERDICT = "verdict"
# A finding's status is the column drift_status.
FINDING_COLUMNS = tuple(one.name for one in fields(Finding) if one.name not in ("kind", "status"))
THREADS = 3  # one for each of the kinds that are measured side by side


@dataclass(frozen=True)
class MonthReport:
    """A month's report, the champion it is about, the window it was compared with, and what is drawn of it."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    champion_version: int | None
    reference: Window | None
    pictures: Pictures = field(default_factory=Pictures)


def report_month(plan: ReportPlan, rows: MonthRows, *, config: DriftConfig, costs: Costs) -> MonthReport:
    """Compares a month with the champion's training window and with what its validation promised.

    Everything is as known at the month's end.

    Args:
        plan: which windows are compared, see `plan_report`.
        rows: at least those of `first_needs` and of the plan's needs.
        config: limits of the drift tests.
        costs: of reviews and missed frauds.

    Returns:
        The report: INSUFFICIENT_DATA with its reason where there is nothing to compare with. Scores are compared if
        the windows of all the model's features are full: scores move as windows fill.
    """
    subject = plan.subject
    version = subject.champion.version if subject.champion else None
    if plan.reference is None or plan.history is None:
        why = Reason(Rule.NOTHING_COMPARED, plan.remark)
        return MonthReport(Verdict("INSUFFICIENT_DATA", None, (why,)), (), version, None)
    month, contract, history = subject.month, subject.contract, plan.history
    this = month_window(month, contract.zone)
    compared, seen = _compared(plan, rows, config)
    findings, sides = _findings(plan, compared, seen, rows, config, costs)
    if broken := history.disturbing(matured_window(month, contract.maturity_days, contract.zone), FILLING_DAYS):
        findings = tuple(_on_broken_history(finding, broken) for finding in findings)
    if delivery := delivery_finding(history, this):
        findings = (delivery, *findings)
    before = subject.earlier.get(shift_month(month, -1))
    if before is not None and before.champion_version == version:
        findings = hold(findings, before.findings)
    verdict = judge_month(findings)
    later = [name for name in feature_days(contract) if name not in plan.full]
    remarks = [
        *([Reason(Rule.OTHER_REFERENCE, plan.remark)] if plan.remark else []),
        *([_not_yet(later, subject.champion is not None and seen.scorer is None, history, this)] if later else []),
    ]
    return MonthReport(
        replace(verdict, reasons=(*verdict.reasons, *remarks)), findings, version, plan.reference,
        draw(findings, *sides, seen.scorer.manifest.threshold if seen.scorer else None, config),
    )  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """What is compared.

    Attributes:
        features: the columns.
        windows: the reference, the month and earlier months, each with how many of its rows are scored at most.
        scorer: the champion, where its scores can be compared.
    """

    features: list[str]
    windows: list[tuple[Window, int | None]]
    scorer: Scorer | None


def _compared(plan: ReportPlan, rows: MonthRows, config: DriftConfig) -> tuple[pa.Table, _Seen]:
    """The rows that are compared, and what of them."""
    subject, history = plan.subject, plan.history
    assert history is not None  # noqa: S101 - where there is a reference, there is a history
    assert plan.reference is not None  # noqa: S101 - asked by the caller
    contract, first_event = subject.contract, history.first_event
    this = month_window(subject.month, contract.zone)
    parts = [_rows_of(part, subject, rows) for part in plan.parts]
    # While a platform is young, every shop is new, and so it is after a gap.
    shared = [name for name in parts[0].column_names if all(name in part.column_names for part in parts)]
    unbroken = first_event + LEAST_HISTORY <= plan.reference.start and not any(
        history.disturbing(one, SEEN_DAYS) for one in (plan.reference, this)
    )
    made = [name for name in history_columns(contract) if name in shared and unbroken]
    champion = subject.champion
    seen = _Seen(
        features=[
            *(name for name in plan.numbers if name not in CALENDAR_FEATURES),
            *made,
            *attributes_compared(contract),
        ],
        windows=[
            (plan.reference, config.reference_rows),
            (this, None),
            *((month_window(one, contract.zone), config.score_rows) for one in plan.past),
        ],
        scorer=champion.scorer if champion and plan.full.issuperset(champion.scorer.manifest.features) else None,
    )
    return pa.concat_tables([part.select(shared) for part in parts]), seen


def _findings(
    plan: ReportPlan, compared: pa.Table, seen: _Seen, rows: MonthRows, config: DriftConfig, costs: Costs
) -> tuple[tuple[Finding, ...], tuple[pa.Table, pa.Table]]:
    """All kinds of findings, measured side by side; and the rows of the reference and of the month, with scores."""
    subject, contract = plan.subject, plan.subject.contract
    champion, earlier = subject.champion, subject.earlier
    counting, of_labels = counting_features(contract), label_features(contract)
    of_model = champion.scorer.manifest.features if champion else ()
    # numpy, pyarrow, scikit-learn and ONNX Runtime let other threads work meanwhile.
    with ThreadPoolExecutor(THREADS) as pool:
        reference, compared_month, *months = pool.map(
            lambda part: _scored(rows_within(compared, part[0]), seen.scorer, part[1]), seen.windows
        )
        of_time = time_columns(reference, compared_month, months, seen.features, date_columns(contract))
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
            month=subject.month,
            scorer=champion.scorer if champion else None,
            promise=champion.promise if champion else None,
            current=_with_score(subject.current, compared_month),
            rows=rows,
            contract=contract,
            costs=costs,
            drifted=[one for one, report in earlier.items() if report.drift_status == "DRIFT"],
        )
        findings = (*drift.result(), together.result(), *outcomes.result())
    return findings, (reference, compared_month)


def _rows_of(part: Part, subject: Subject, rows: MonthRows) -> pa.Table:
    """The rows of a part, also with those of `history_columns` that can be made of what is there."""
    contract, first = subject.contract, part.months[0]
    given = [subject.current.select(list(part.columns))] if part.months[-1] == subject.month else []
    if part.stored is not None:
        stored = rows.of(part.stored)
        given = [stored, *(table.cast(stored.schema) for table in given)]
    found = pa.concat_tables(given)
    with ThreadPoolExecutor(THREADS) as pool:
        made = None
        if part.before is not None:
            before = rows.of(part.before)
            own = found.select(before.column_names).cast(before.schema)
            made = pool.submit(_made, before, own, contract.month_start(first), contract)
        if part.attributes is not None:
            attributes = attributes_of(found, rows.of(part.attributes))
            for name in attributes.column_names:
                column = attributes[name]
                found = found.append_column(name, column.cast(pa.string()) if _is_named(column.type) else column)
    for name, values in made.result().items() if made else ():
        found = found.append_column(name, values)
    return found


def earlier_needed(month: str) -> Needed:
    """The reports of the months before one that its own report looks at."""
    columns = ("month", "kind", "drift_status", "champion_version", *FINDING_COLUMNS)
    return Needed("drift_report", columns, shift_month(month, -PAST_MONTHS), shift_month(month, -1))


def earlier_reports(rows: pa.Table) -> dict[str, EarlierReport]:
    """The reports of several months, by month, from rows of the drift_report table."""
    names = {"kind", *FINDING_COLUMNS}
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


def drift_rows(
    report: MonthReport, month: str, schema: pa.Schema, completeness: Completeness | None = None
) -> pa.Table:
    """The report as rows of the drift_report table: one a finding, and one, kind `verdict`, for the month.

    Args:
        report: the report.
        month: YYYY-MM.
        schema: of the table.
        completeness: of the labels at the month's end, which the page shows beside the report; None without labels.
    """
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
        "reason": "",
        "reasons": reasons_to_json(verdict.reasons),
        PICTURES: replace(report.pictures, completeness=completeness).to_json(),
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


def _not_yet(features: Sequence[str], scores: bool, history: History, this: Window) -> Reason:
    """What the report of a young platform, or after a gap, does not look at, and why."""
    what = f"{len(features)} feature{'' if len(features) == 1 else 's'}{', and so scores,' if scores else ''}"
    named = listed(features, len(features))
    gaps = history.disturbing(this, PAST_MONTHS * 31)
    if gaps:
        return Reason(
            Rule.FEATURES_NOT_COMPARED,
            f"{what} could not be compared, because their windows reach into days that were not delivered, "
            f"{', '.join(gap.words for gap in gaps)}: {named}",
        )
    return Reason(
        Rule.FEATURES_NOT_COMPARED,
        f"{what} could not be compared yet, because they were still filling when the reference began: "
        f"{named}; a champion that is trained later has a later reference",
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


def _made(before: pa.Table, rows: pa.Table, start: datetime, contract: Contract) -> dict[str, pa.ChunkedArray]:
    """The columns of `history_columns` that can be made of some rows and those before their start."""
    oldest = pc.min(before["event_timestamp"]).as_py()
    long_enough = oldest is not None and start - oldest >= LEAST_HISTORY
    history = with_history_columns(pa.concat_tables([before, rows]), contract).slice(before.num_rows)
    return {name: history[name] for name in history_columns(contract) if long_enough or not name.endswith(NEW)}
