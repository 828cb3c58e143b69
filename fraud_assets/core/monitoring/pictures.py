"""What is drawn of a month's report, and is stored with it: a page that is made later shows what was measured.

Which columns are worth a picture, and how what is drawn is written down, belong here. How shares by bin are counted
belongs to `drift/histograms.py`, how they are drawn to `pages/charts.py`, what the page says to `pages/report.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.findings import SCORE, DriftStatus, Finding
from fraud_assets.core.drift.histograms import Histogram, histogram
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.labels.completeness import (
    COMPLETENESS_MONTHS,
    Completeness,
    DelayCurve,
    MonthCompleteness,
    hourly,
    label_completeness,
)
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.monitoring.verdict import GRAVEST_FIRST
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.statistics.bootstrap import Floats
from fraud_assets.core.statistics.clusters import stable

PICTURES = "pictures"  # the column of the verdict's row
MOST_COLUMNS = 12  # that have a picture
CURVE_POINTS = 151  # of a delay curve: more than a picture has pixels for
GRAVEST_STATUS: tuple[DriftStatus, ...] = ("DRIFT", "WATCH", "INSUFFICIENT_DATA", "OK")


@dataclass(frozen=True)
class Pictures:
    """What the page of a month draws besides its findings.

    Attributes:
        histograms: of features that moved, and of the score.
        flagged: the share of transactions at or above the champion's threshold, before and now, 0 to 1; None where
            scores were not compared.
        completeness: of the labels at the month's end; None where there are none.
    """

    histograms: tuple[Histogram, ...] = ()
    flagged: tuple[float, float] | None = None
    completeness: Completeness | None = None

    def to_json(self) -> str:
        """As it is stored: the same values give the same text on every machine.

        Delay curves keep so many points as can be seen.
        """
        known = self.completeness
        written = {
            "histograms": [asdict(one) for one in self.histograms],
            "flagged": self.flagged,
            "completeness": known
            and {
                "as_of": known.as_of.isoformat(),
                "months": [asdict(one) | {"settled_at": one.settled_at.isoformat()} for one in known.months],
                "curve": _thinned(known.curve),
                "newest": _thinned(known.newest),
            },
        }
        return json.dumps(_plain(written), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Pictures:
        """As `to_json` wrote it."""
        stored: _Stored = STORED.validate_json(text)
        known = stored.completeness
        return cls(
            stored.histograms,
            stored.flagged,
            known.as_completeness() if known else None,
        )


def draw(
    findings: Iterable[Finding], reference: pa.Table, current: pa.Table, threshold: float | None, config: DriftConfig
) -> Pictures:
    """The histograms of what moved, and the shares above the threshold.

    Args:
        findings: of the month.
        reference: the rows that were compared, with `score` where scores were; NaN where a row was not looked at.
        current: the month's.
        threshold: the champion's own; None where its scores were not compared.
        config: the limits of the tests, whose rows and bins are drawn.
    """
    findings = list(findings)
    drawn = [histogram(reference, current, name, config) for name in features_to_draw(findings)]
    flagged = None
    compared = any(finding.kind == "prediction" and finding.psi is not None for finding in findings)
    if threshold is not None and compared:
        before, now = (_share_above(side[SCORE].to_numpy(), threshold) for side in (reference, current))
        flagged = (before, now) if before is not None and now is not None else None
    return Pictures(tuple(one for one in drawn if one is not None and (compared or one.feature != SCORE)), flagged)


def completeness_needs(month: str, contract: Contract) -> tuple[Needed, Needed]:
    """The transactions' times, and what was said of them, from which follows how complete labels are."""
    first = _completeness_months(month, contract)[0]
    columns = ("transaction_id", "event_timestamp", "is_fraud", "label_timestamp", "label_source")
    return (
        Needed("raw_transactions", ("event_timestamp",), first, month),
        Needed("fraud_labels", columns, first, month),
    )


def completeness_of(month: str, rows: MonthRows, contract: Contract) -> Completeness:
    """How complete the labels of the months up to one are, as known at its end.

    Args:
        month: the newest month.
        rows: at least those of `completeness_needs`.
        contract: of the source.
    """
    transactions, statements = (rows.of(need) for need in completeness_needs(month, contract))
    return label_completeness(
        hourly(transactions["event_timestamp"]),
        statements,
        contract.month_end(month),
        maturity_days=contract.maturity_days,
        months=[
            (one, contract.month_start(one), contract.month_end(one)) for one in _completeness_months(month, contract)
        ],
        blank=contract.label.blank,
    )


def _completeness_months(month: str, contract: Contract) -> list[str]:
    return months_between(max(shift_month(month, 1 - COMPLETENESS_MONTHS), contract.first_month), month)


def stored_pictures(verdict: Mapping[str, Any]) -> Pictures | None:
    """What was stored to be drawn with a verdict, a row of `drift_report`; None in months from before it was kept."""
    text = verdict.get(PICTURES)
    return Pictures.from_json(text) if text else None


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings as they are read: the gravest status first, then the gravest kind, then the largest move."""
    return sorted(
        findings,
        key=lambda one: (
            GRAVEST_STATUS.index(one.status),
            GRAVEST_FIRST.index(one.kind),
            -(one.psi or 0.0),
            one.feature,
            one.segment or "",
        ),
    )


def features_to_draw(findings: Iterable[Finding]) -> tuple[str, ...]:
    """The columns that are worth a picture: those that moved most, and the score.

    Args:
        findings: of the month.
    """
    drawn = [
        finding.feature
        for finding in in_order(findings)
        if finding.kind in ("covariate", "category")
        and finding.status in ("DRIFT", "WATCH")
        and finding.segment is None
        and finding.psi is not None
    ]
    return (*list(dict.fromkeys(drawn))[:MOST_COLUMNS], SCORE)


@dataclass(frozen=True)
class _Curve:
    days: tuple[float, ...]
    share: tuple[float, ...]

    def as_curve(self) -> DelayCurve:
        return DelayCurve(np.array(self.days, np.float64), np.array(self.share, np.float64))


@dataclass(frozen=True)
class _Completeness:
    as_of: datetime
    months: tuple[MonthCompleteness, ...]
    curve: _Curve
    newest: _Curve

    def as_completeness(self) -> Completeness:
        return Completeness(self.as_of, self.months, self.curve.as_curve(), self.newest.as_curve())


@dataclass(frozen=True)
class _Stored:
    histograms: tuple[Histogram, ...]
    flagged: tuple[float, float] | None
    completeness: _Completeness | None


STORED: TypeAdapter[_Stored] = TypeAdapter(_Stored)


def _share_above(scores: Floats, threshold: float) -> float | None:
    known = scores[~np.isnan(scores)]
    return float((known >= threshold).mean()) if len(known) else None


def _thinned(curve: DelayCurve) -> dict[str, list[float]]:
    """The curve at points that are evenly spread over its steps; and where half of the frauds are known."""
    number = len(curve.days)
    kept = {round(place * (number - 1) / (CURVE_POINTS - 1)) for place in range(CURVE_POINTS)} if number else set()
    kept |= {int(place) for place in np.flatnonzero(curve.share >= 0.5)[:1]}
    return {name: [float(getattr(curve, name)[place]) for place in sorted(kept)] for name in ("days", "share")}


def _plain(value: Any) -> Any:
    """JSON's values, with numbers as stable as those of findings; what is not finite is not known."""
    if isinstance(value, float):
        return stable(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
