"""The month's drift report as rows: which windows are compared, the champion's scores, and the verdict's row.

The statistics belong to `drift.py`, the windows' rules to `windows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contract import Contract
from fraud_assets.core.drift import DriftConfig, DriftReport, insufficient, measure_drift
from fraud_assets.core.features import feature_days, feature_names
from fraud_assets.core.scoring import Scorer, feature_matrix
from fraud_assets.core.windows import Window, reference_window

# Follows the calendar, not the world: a month with five weekends is no drift.
CALENDAR_FEATURES = ("is_weekend",)


@dataclass(frozen=True)
class Comparison:
    """A month's report, the champion it is about, and the window it was compared with."""

    report: DriftReport
    champion_version: int | None
    reference: Window | None


def compare_with_champion(
    *,
    month: str,
    current: pa.Table,
    scorer: Scorer | None,
    training: Window | None,
    first_event: datetime | None,
    read: Callable[[str, str], pa.Table],
    contract: Contract,
    config: DriftConfig,
) -> Comparison:
    """Compares a month with the champion's training window, features and scores.

    Args:
        month: the month under test.
        current: its features.
        scorer: the champion, if there is one.
        training: event times of the champion's training rows.
        first_event: the first transaction the platform has.
        read: gives the features of a range of months.
        contract: of the source.
        config: limits of the drift tests.

    Returns:
        The comparison, of the features whose windows were full when the reference began, and of the scores if those of
        all the model's features were: scores move as windows fill. INSUFFICIENT_DATA with its reason where there is
        nothing to compare with.
    """
    if scorer is None or training is None or first_event is None:
        return Comparison(insufficient("there is no champion yet, so there is no training window"), None, None)
    version = scorer.manifest.model_version
    window = reference_window(training, first_event, contract.maturity_days, month, contract.zone)
    if window is None:
        reason = (
            f"the training window of champion version {version} lies in the first days of the platform's history, when "
            "features that look back are still filling; later months have one that can be compared"
        )
        return Comparison(insufficient(reason), version, None)
    rows = read(contract.month_of(window.start), contract.month_of(window.end))
    moment = rows["event_timestamp"]
    reference = rows.filter(
        pc.and_(
            pc.greater_equal(moment, pa.scalar(window.start, moment.type)),
            pc.less(moment, pa.scalar(window.end, moment.type)),
        )
    )
    full = {name for name, days in feature_days(contract).items() if first_event + timedelta(days=days) <= window.start}
    if full.issuperset(scorer.manifest.features):
        reference, current = _scored(reference, scorer), _scored(current, scorer)
    report = measure_drift(
        reference,
        current,
        features=[name for name in feature_names(contract) if name in full and name not in CALENDAR_FEATURES],
        clusters=tuple(contract.entities),
        config=config,
    )
    return Comparison(report, version, window)


def drift_rows(comparison: Comparison, month: str, schema: pa.Schema) -> pa.Table:
    """The comparison as rows of the drift_report table: one a feature, and one, kind `verdict`, for the month."""
    report, reference = comparison.report, comparison.reference
    shared = {
        "month": date.fromisoformat(f"{month}-01"),
        "champion_version": comparison.champion_version,
        "reference_from": f"{reference.start:%Y-%m-%d}" if reference else None,
        "reference_to": f"{reference.end:%Y-%m-%d}" if reference else None,
    }
    verdict = {
        "kind": "verdict",
        "feature": "",
        "method": "",
        "drift_status": report.drift_status,
        "reason": "\n".join(report.reasons),
    }
    rows = [{**vars(row), "drift_status": row.status} for row in report.rows]
    return pa.Table.from_pylist([{**shared, **row} for row in [verdict, *rows]], schema=schema)


def _scored(features: pa.Table, scorer: Scorer) -> pa.Table:
    scores = scorer.probabilities(feature_matrix(features, scorer.manifest.features))
    return features.append_column("score", pa.array(scores))
