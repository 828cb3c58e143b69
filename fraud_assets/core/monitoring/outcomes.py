"""What became known by a month's end of the champion's transactions: labels, promise against truth, and the estimate.

Which rows are looked at, and what the kinds of findings mean for each other, belong here. What is measured on them
belongs to `performance/label_drift.py`, `performance/concept.py` and `performance/estimation.py`; the windows' rules to
`windows.py`; the verdict to `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Contract
from fraud_assets.core.drift.findings import LABEL_CAUSES, SCORE, Finding
from fraud_assets.core.evaluation.segments import Segment, attributes_of, segment_attributes, segments_of
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.labels.completeness import KnownFrauds, delay_curve, known_frauds
from fraud_assets.core.models.scoring import Scorer, ScoringError
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.performance import concept, label_drift
from fraud_assets.core.performance.concept import concept_findings
from fraud_assets.core.performance.estimation import Unmatured, estimate_findings, unknown
from fraud_assets.core.performance.label_drift import label_findings
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.windows import (
    FILLING_DAYS,
    TrainedMonth,
    Window,
    evaluation_window,
    matured_window,
    rows_within,
)

# The champion is not the very model that was validated, so its calibration is a little off from the first month on.
# Where labels see no more frauds, that is looked at below this p only.
UNCALIBRATED_P = 0.001
# As many as the other kinds look back, see `monitoring.PAST_MONTHS`.
EARLIER_MONTHS = 6
NOT_INVESTIGATED = "which transactions will be looked into is not known where a blank label says that nobody did"
STATEMENT = ("transaction_id", "event_timestamp", "is_fraud", "label_timestamp", "label_source")
Read = Callable[[str, Sequence[str] | None, str, str], pa.Table]


def outcome_findings(
    *,
    month: str,
    scorer: Scorer | None,
    promise: pa.Table | None,
    current: pa.Table,
    read: Read,
    contract: Contract,
    costs: Costs,
    drifted: Collection[str] = (),
) -> tuple[Finding, ...]:
    """What a month's labels say, of the kinds `label`, `concept` and `estimate`, all as known at the month's end.

    Args:
        month: the month under report.
        scorer: the champion; None where there is none, and labels alone tell.
        promise: what its validation promised, see `TrainingResult.validation`; None where that was not kept.
        current: the month's features; its scores, too, as a column `score`, where they are known.
        read: gives `transaction_features`, `fraud_labels` and `raw_transactions`, see `monitoring.Read`.
        contract: of the source.
        costs: of reviews and missed frauds.
        drifted: earlier months that drifted, and so do not tell what is usual.

    Returns:
        At least one finding of each kind; INSUFFICIENT_DATA with the reason where it could not be looked at.
    """
    labels = _labels(month, read, contract, drifted)
    if scorer is None:
        return _together(labels, (), ())
    if promise is None:
        reason = f"what the validation of champion version {scorer.manifest.model_version} promised was not kept"
        return _together(labels, *_without(reason))
    as_of, clusters = contract.month_end(month), list(contract.entities)
    frauds, statements = _frauds_so_far(month, read, contract)
    try:
        rows = _realised(month, scorer, current, read, contract)
        unmatured = _unmatured(current, scorer, statements, as_of, contract)
    except ScoringError as error:
        return _together(labels, *_without(str(error)))
    judged = concept_findings(
        promise,
        rows,
        clusters=clusters,
        card=contract.card,
        costs=costs,
        threshold=scorer.manifest.threshold,
        segments=_segments(rows, month, read, contract),
        more=_more(labels),
    )
    if contract.label.blank == "unknown":
        return _together(labels, judged, unknown(NOT_INVESTIGATED))
    curve = delay_curve(frauds.delays, frauds.ages)
    return _together(labels, judged, estimate_findings(promise, rows, unmatured, curve, clusters=clusters))


def _without(reason: str) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    return tuple(concept.without("concept", feature, reason) for feature in concept.FEATURES), unknown(reason)


# Which rows


def _realised(month: str, scorer: Scorer, current: pa.Table, read: Read, contract: Contract) -> pa.Table:
    """The transactions that matured in the month and came after the champion, with its scores and their truth."""
    manifest = scorer.manifest
    trained = TrainedMonth(manifest.trained_month, manifest.model_version, contract.zone)
    window = evaluation_window(month, contract.maturity_days, [trained], contract.zone)
    kept = ["transaction_id", "event_timestamp", *contract.entities, *(["amount"] if contract.amount else [])]
    rows = _scored(rows_within(current, window), scorer).select([*kept, SCORE])
    first = contract.month_of(window.start)
    if first < month and window.days > 0:
        # A feature that is gone is named where it is missed, in scoring.
        names = [name for name in dict.fromkeys([*kept, *manifest.features]) if name in current.column_names]
        earlier = read("transaction_features", names, first, shift_month(month, -1))
        earlier = _scored(rows_within(earlier, window), scorer).select([*kept, SCORE])
        rows = pa.concat_tables([earlier.cast(rows.schema), rows])
    statements = _known(read("fraud_labels", STATEMENT, min(first, month), month), contract.month_end(month))
    labels = labels_as_of(
        rows,
        statements,
        contract.month_end(month),
        maturity_days=contract.maturity_days,
        blank=contract.label.blank,
    )
    return rows.append_column("is_fraud", labels["is_fraud"]).filter(labels["is_matured"])


def _unmatured(
    current: pa.Table, scorer: Scorer, statements: pa.Table, as_of: datetime, contract: Contract
) -> Unmatured:
    labels = labels_as_of(current, statements, as_of, maturity_days=contract.maturity_days)
    open_ones = pc.invert(labels["is_matured"])
    rows = _scored(current.filter(open_ones), scorer)
    moment = rows["event_timestamp"].cast(TIMESTAMP).cast(pa.int64()).to_numpy()
    return Unmatured(
        rows,
        rows[SCORE].to_numpy(),
        pc.fill_null(labels["is_fraud"].filter(open_ones), False).to_numpy().astype(bool),
        (pa.scalar(as_of, TIMESTAMP).value - moment) / MICROSECONDS_PER_DAY,
    )


def _scored(rows: pa.Table, scorer: Scorer) -> pa.Table:
    """With the champion's scores, where they are not there."""
    if SCORE in rows.column_names:
        return rows
    return rows.append_column(SCORE, pa.array(scorer.score(rows)))


def _labels(month: str, read: Read, contract: Contract, drifted: Collection[str]) -> tuple[Finding, ...]:
    first = _first(month, contract)
    rows = read("raw_transactions", ["transaction_id", "event_timestamp"], first, month)
    moments = rows["event_timestamp"]
    windows = [
        matured_window(one, contract.maturity_days, contract.zone)
        for one in months_between(shift_month(month, -EARLIER_MONTHS), month)
        if one == month or one not in drifted
    ]
    begin, settled = pc.min(moments).as_py(), contract.month_start(first)
    if begin is not None and (first == contract.first_month or begin > settled + timedelta(days=1)):
        # In its first weeks a platform has fewer frauds than later: those who are being used were not seen yet.
        settled = begin + timedelta(days=FILLING_DAYS)
    earlier = [window for window in windows[:-1] if window.start >= settled]
    # Of a platform that has no other months yet, large moves can be told from those.
    young = not earlier and begin is not None
    if young:
        earlier = [window for window in windows[:-1] if window.end > begin]
    windows = earlier + windows[-1:]
    if begin is None:
        reason = "there is no transaction to compare"
        return tuple(label_drift.without(feature, reason) for feature in label_drift.FEATURES)
    if contract.label.blank == "unknown":
        return _labels_of_known(rows, windows, month, read, contract, young=young)
    return _compared(moments, windows, month, read, contract, young=young)


def _compared(
    moments: pa.ChunkedArray, windows: Sequence[Window], month: str, read: Read, contract: Contract, *, young: bool
) -> tuple[Finding, ...]:
    return label_findings(
        moments,
        _statements_of_frauds(month, read, contract),
        windows,
        start=contract.month_start(month),
        as_of=contract.month_end(month),
        maturity_days=contract.maturity_days,
        clusters=list(contract.entities),
        young=young,
    )


def _labels_of_known(
    rows: pa.Table, windows: Sequence[Window], month: str, read: Read, contract: Contract, *, young: bool
) -> tuple[Finding, ...]:
    """The same where not every transaction is looked into: rates are those of what is known.

    How many frauds should be known of transactions that have not matured would follow from all of them, and is not
    asked.
    """
    statements = _known(read("fraud_labels", STATEMENT, _first(month, contract), month), contract.month_end(month))
    about = statements.filter(pc.is_valid(statements["is_fraud"]))["transaction_id"].combine_chunks()
    stated = rows.filter(pc.is_in(rows["transaction_id"], value_set=about))["event_timestamp"]
    if not len(stated):
        return tuple(label_drift.without(feature, "no label is known") for feature in label_drift.FEATURES)
    return tuple(
        label_drift.without("known_frauds", NOT_INVESTIGATED) if finding.feature == "known_frauds" else finding
        for finding in _compared(stated, windows, month, read, contract, young=young)
    )


def _first(month: str, contract: Contract) -> str:
    """The first month that is looked at, whose matured windows reach back before it."""
    first = matured_window(shift_month(month, -EARLIER_MONTHS), contract.maturity_days, contract.zone).start
    return max(contract.month_of(first), contract.first_month)


def _statements_of_frauds(month: str, read: Read, contract: Contract) -> pa.Table:
    """All that was said, by the month's end, of transactions that were ever called fraud."""
    names = [*STATEMENT, *contract.entities]
    statements = _known(read("fraud_labels", names, _first(month, contract), month), contract.month_end(month))
    accused = statements.filter(pc.fill_null(statements["is_fraud"], False))["transaction_id"].combine_chunks()
    return statements.filter(pc.is_in(statements["transaction_id"], value_set=accused))


def _frauds_so_far(month: str, read: Read, contract: Contract) -> tuple[KnownFrauds, pa.Table]:
    statements = _statements_of_frauds(month, read, contract)
    since = contract.month_start(_first(month, contract))
    return known_frauds(statements, since, contract.month_end(month), contract.maturity_days), statements


def _segments(rows: pa.Table, month: str, read: Read, contract: Contract) -> list[Segment]:
    """Parts by what the source declares and by amount."""
    attributes = segment_attributes(contract)
    parts = None
    if attributes and rows.num_rows:
        first = contract.month_of(pc.min(rows["event_timestamp"]).as_py())
        raw = read("raw_transactions", ["transaction_id", *attributes], first, month)
        parts = attributes_of(rows, raw)
    return segments_of(rows, timezone=contract.timezone, attributes=parts) if rows.num_rows else []


def _known(statements: pa.Table, as_of: datetime) -> pa.Table:
    return statements.filter(pc.less_equal(statements["label_timestamp"], pa.scalar(as_of, TIMESTAMP)))


# What the kinds mean for each other


def _together(
    labels: tuple[Finding, ...], judged: tuple[Finding, ...], estimate: tuple[Finding, ...]
) -> tuple[Finding, ...]:
    """Frauds that are not reported look like a champion that errs, and a new pattern like more of the same fraud.

    A champion whose probabilities are off looks like more of the same fraud, too; whether there is more, the labels
    tell.
    """
    rate = next((finding for finding in labels if finding.feature == "fraud_rate"), None)
    if rate is None or rate.status not in ("WATCH", "DRIFT"):
        judged = tuple(_uncalibrated(finding, known=rate is not None and rate.status == "OK") for finding in judged)
    if any(_wanting(finding) for finding in labels):
        reason = "labels come otherwise than they did, so some of the frauds are not known"
        judged = tuple(_unbelieved(finding, reason) for finding in judged)
        estimate = unknown(reason)
    if any(finding.cause == "fraud_pattern" and finding.status == "DRIFT" for finding in judged):
        labels = tuple(
            replace(finding, cause="fraud_pattern") if finding.cause == "fraud_rate" else finding for finding in labels
        )
    return (*labels, *judged, *estimate)


def _more(labels: tuple[Finding, ...]) -> float:
    """How many times as frequent frauds are as before; 1 where labels do not say that they are."""
    for finding in labels:
        if finding.feature == "fraud_rate" and finding.status in ("WATCH", "DRIFT") and finding.value_reference:
            return max(1.0, (finding.value_current or 0.0) / finding.value_reference)
    return 1.0


def _wanting(finding: Finding) -> bool:
    """Whether it says that frauds are not known yet: reports that come sooner hide none."""
    before, now = finding.value_reference or 0.0, finding.value_current or 0.0
    return finding.cause in LABEL_CAUSES and (now > before or finding.feature != "delay_days")


def _uncalibrated(finding: Finding, *, known: bool) -> Finding:
    """More frauds at the same scores, though labels do not say that there are more."""
    if finding.cause != "fraud_rate" or finding.status not in ("WATCH", "DRIFT"):
        return finding
    why = "there are no more frauds than before" if known else "whether there are more frauds than before is not known"
    said = f"{finding.reason}; {why}, so it may be the champion's calibration and not the world"
    if known and (finding.p_adjusted or 0.0) >= UNCALIBRATED_P:
        return replace(finding, status="OK", cause=None, since=None, reason=said)
    return replace(finding, status="WATCH", reason=said)


def _unbelieved(finding: Finding, reason: str) -> Finding:
    if finding.status not in ("WATCH", "DRIFT"):
        return finding
    said = f"{finding.reason}; that tells nothing: {reason}"
    return replace(finding, status="INSUFFICIENT_DATA", cause=None, since=None, reason=said)
