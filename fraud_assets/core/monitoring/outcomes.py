"""What became known by a month's end of the champion's transactions: labels, promise against truth, and the estimate.

Which rows are looked at, and what the kinds of findings mean for each other, belong here. What is measured on them
belongs to `performance/label_drift.py`, `performance/concept.py` and `performance/estimation.py`; the windows' rules to
`windows.py`; the verdict to `verdict.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Contract
from fraud_assets.core.drift.findings import LABEL_CAUSES, SCORE, Finding
from fraud_assets.core.evaluation.segments import Segment, attributes_of, segment_attributes, segments_of
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.labels.completeness import KnownFrauds, delay_curve, known_frauds
from fraud_assets.core.lineage.needs import MonthRows, Needed
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


@dataclass(frozen=True)
class OutcomeNeeds:
    """The rows that `outcome_findings` looks at.

    Attributes:
        moments: the transactions of the month and of those before that tell what is usual.
        statements: what was said of them.
        judged: those among the statements that are about what the champion is judged on; None without a promise.
        earlier: those from before the month, to be scored; None where there are none.
        attributes: the same transactions' columns that they are parted by; None where there are none.
    """

    moments: Needed
    statements: Needed
    judged: Needed | None = None
    earlier: Needed | None = None
    attributes: Needed | None = None


def outcome_needs(
    month: str, scorer: Scorer | None, promise: pa.Table | None, columns: Collection[str], contract: Contract
) -> OutcomeNeeds:
    """Which rows tell what became known by a month's end.

    Args:
        month: the month under report.
        scorer: the champion; None where there is none.
        promise: what its validation promised; None where that was not kept.
        columns: those that features have.
        contract: of the source.
    """
    since = first_month_of_labels(month, contract)
    # Which transactions were looked into matters only where the others are not known.
    told = ("transaction_id",) if contract.label.blank == "unknown" else ()
    needs = OutcomeNeeds(
        Needed("raw_transactions", ("event_timestamp", *told), since, month),
        Needed("fraud_labels", (*STATEMENT, *contract.entities), since, month),
    )
    if scorer is None or promise is None:
        return needs
    window = _window(month, scorer, contract)
    first = contract.month_of(window.start)
    needs = replace(needs, judged=Needed("fraud_labels", STATEMENT, min(first, month), month))
    if window.days <= 0:
        return needs
    if first < month:
        # A feature that is gone is named where it is missed, in scoring.
        names = [name for name in dict.fromkeys([*_kept(contract), *scorer.manifest.features]) if name in columns]
        needs = replace(needs, earlier=Needed("transaction_features", tuple(names), first, shift_month(month, -1)))
    if attributes := segment_attributes(contract):
        last = min(contract.month_of(window.end), month)
        needs = replace(needs, attributes=Needed("raw_transactions", ("transaction_id", *attributes), first, last))
    return needs


def first_month_of_labels(month: str, contract: Contract) -> str:
    """The first month whose labels a report looks at: its matured windows reach back before the months they are of."""
    first = matured_window(shift_month(month, -EARLIER_MONTHS), contract.maturity_days, contract.zone).start
    return max(contract.month_of(first), contract.first_month)


def outcome_findings(
    *,
    month: str,
    scorer: Scorer | None,
    promise: pa.Table | None,
    current: pa.Table,
    rows: MonthRows,
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
        rows: at least those of `outcome_needs`.
        contract: of the source.
        costs: of reviews and missed frauds.
        drifted: earlier months that drifted, and so do not tell what is usual.

    Returns:
        At least one finding of each kind; INSUFFICIENT_DATA with the reason where it could not be looked at.
    """
    needs = outcome_needs(month, scorer, promise, current.column_names, contract)
    labels = _labels(month, needs, rows, contract, drifted)
    if scorer is None:
        return _together(labels, (), ())
    if promise is None:
        reason = f"what the validation of champion version {scorer.manifest.model_version} promised was not kept"
        return _together(labels, *_without(reason))
    as_of, clusters = contract.month_end(month), list(contract.entities)
    frauds, statements = _frauds_so_far(month, needs, rows, contract)
    try:
        realised = _realised(month, scorer, current, needs, rows, contract)
        unmatured = _unmatured(current, scorer, statements, as_of, contract)
    except ScoringError as error:
        return _together(labels, *_without(str(error)))
    judged = concept_findings(
        promise,
        realised,
        clusters=clusters,
        card=contract.card,
        costs=costs,
        threshold=scorer.manifest.threshold,
        segments=_segments(realised, needs, rows, contract),
        more=_more(labels),
    )
    if contract.label.blank == "unknown":
        return _together(labels, judged, unknown(NOT_INVESTIGATED))
    curve = delay_curve(frauds.delays, frauds.ages)
    return _together(labels, judged, estimate_findings(promise, realised, unmatured, curve, clusters=clusters))


def _without(reason: str) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    return tuple(concept.without("concept", feature, reason) for feature in concept.FEATURES), unknown(reason)


# Which rows


def _window(month: str, scorer: Scorer, contract: Contract) -> Window:
    """The transactions that matured in the month and came after the champion."""
    manifest = scorer.manifest
    trained = TrainedMonth(manifest.trained_month, manifest.model_version, contract.zone)
    return evaluation_window(month, contract.maturity_days, [trained], contract.zone)


def _kept(contract: Contract) -> list[str]:
    return ["transaction_id", "event_timestamp", *contract.entities, *(["amount"] if contract.amount else [])]


def _realised(
    month: str, scorer: Scorer, current: pa.Table, needs: OutcomeNeeds, rows: MonthRows, contract: Contract
) -> pa.Table:
    """The transactions of the window, with the champion's scores and their truth."""
    window, kept = _window(month, scorer, contract), _kept(contract)
    found = _scored(rows_within(current, window), scorer).select([*kept, SCORE])
    if needs.earlier is not None:
        earlier = _scored(rows_within(rows.of(needs.earlier), window), scorer).select([*kept, SCORE])
        found = pa.concat_tables([earlier.cast(found.schema), found])
    assert needs.judged is not None  # noqa: S101 - with a promise there is one
    labels = labels_as_of(
        found,
        _known(rows.of(needs.judged), contract.month_end(month)),
        contract.month_end(month),
        maturity_days=contract.maturity_days,
        blank=contract.label.blank,
    )
    return found.append_column("is_fraud", labels["is_fraud"]).filter(labels["is_matured"])


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


def _labels(
    month: str, needs: OutcomeNeeds, rows: MonthRows, contract: Contract, drifted: Collection[str]
) -> tuple[Finding, ...]:
    first, transactions = needs.moments.first, rows.of(needs.moments)
    moments = transactions["event_timestamp"]
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
        return _labels_of_known(transactions, windows, month, needs, rows, contract, young=young)
    return _compared(moments, windows, month, needs, rows, contract, young=young)


def _compared(
    moments: pa.ChunkedArray,
    windows: Sequence[Window],
    month: str,
    needs: OutcomeNeeds,
    rows: MonthRows,
    contract: Contract,
    *,
    young: bool,
) -> tuple[Finding, ...]:
    return label_findings(
        moments,
        _statements_of_frauds(month, needs, rows, contract),
        windows,
        start=contract.month_start(month),
        as_of=contract.month_end(month),
        maturity_days=contract.maturity_days,
        clusters=list(contract.entities),
        young=young,
    )


def _labels_of_known(
    transactions: pa.Table,
    windows: Sequence[Window],
    month: str,
    needs: OutcomeNeeds,
    rows: MonthRows,
    contract: Contract,
    *,
    young: bool,
) -> tuple[Finding, ...]:
    """The same where not every transaction is looked into: rates are those of what is known.

    How many frauds should be known of transactions that have not matured would follow from all of them, and is not
    asked.
    """
    statements = _known(rows.of(needs.statements), contract.month_end(month))
    about = statements.filter(pc.is_valid(statements["is_fraud"]))["transaction_id"].combine_chunks()
    stated = transactions.filter(pc.is_in(transactions["transaction_id"], value_set=about))["event_timestamp"]
    if not len(stated):
        return tuple(label_drift.without(feature, "no label is known") for feature in label_drift.FEATURES)
    return tuple(
        label_drift.without("known_frauds", NOT_INVESTIGATED) if finding.feature == "known_frauds" else finding
        for finding in _compared(stated, windows, month, needs, rows, contract, young=young)
    )


def _statements_of_frauds(month: str, needs: OutcomeNeeds, rows: MonthRows, contract: Contract) -> pa.Table:
    """All that was said, by the month's end, of transactions that were ever called fraud."""
    statements = _known(rows.of(needs.statements), contract.month_end(month))
    accused = statements.filter(pc.fill_null(statements["is_fraud"], False))["transaction_id"].combine_chunks()
    return statements.filter(pc.is_in(statements["transaction_id"], value_set=accused))


def _frauds_so_far(
    month: str, needs: OutcomeNeeds, rows: MonthRows, contract: Contract
) -> tuple[KnownFrauds, pa.Table]:
    statements = _statements_of_frauds(month, needs, rows, contract)
    since = contract.month_start(needs.statements.first)
    return known_frauds(statements, since, contract.month_end(month), contract.maturity_days), statements


def _segments(realised: pa.Table, needs: OutcomeNeeds, rows: MonthRows, contract: Contract) -> list[Segment]:
    """Parts by what the source declares and by amount."""
    if not realised.num_rows:
        return []
    parts = None if needs.attributes is None else attributes_of(realised, rows.of(needs.attributes))
    return segments_of(realised, timezone=contract.timezone, attributes=parts)


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
