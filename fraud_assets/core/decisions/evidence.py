"""What the promotion decision looks at, put together from stored rows.

What follows from it belongs to `promotion.py`; how the rows are made to `evaluation/` and `monitoring/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.approval import PromotionMode
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.decisions.promotion import ModelEvidence, PairEvidence, PartEvidence, PromotionSignals, Shadow
from fraud_assets.core.evaluation.evaluation import NOBODY, Candidate
from fraud_assets.core.evaluation.pair import DIFFERENCES
from fraud_assets.core.evaluation.segments import ENDS
from fraud_assets.core.statistics.bootstrap import Interval

# What the decision reads of a drift report.
VERDICT = ("month", "kind", "drift_status", "blame")


# Each argument is another table or fact of the month, and half of them may be absent: a bundle would only move them.
def promotion_signals(
    evaluation: pa.Table,
    segments: pa.Table,
    month: str,
    champion: int | None,
    *,
    contract: Contract,
    role: Candidate = "challenger",
    drift: pa.Table | None = None,
    trained: Iterable[Mapping[str, Any]] = (),
    why_none: str | None = None,
    shadow: Shadow | None = None,
    live: pa.Table | None = None,
) -> PromotionSignals:
    """What the promotion decision looks at, from a month's rows.

    Args:
        evaluation: the month's rows.
        segments: the month's rows of `evaluation_segments`.
        month: the month of the decision.
        champion: the version that was live before it.
        contract: says when labels mature, and whether there are amounts.
        role: who is to be decided on; what is said of the challenger is said of it.
        drift: the month's drift report, `VERDICT` of it at least; None without one.
        trained: rows of `trained_model`, of any months.
        why_none: why there is no challenger; what the rows say when absent.
        shadow: how long it has been in shadow, where it has to be.
        live: the month's rows of `challenger_comparison`.
    """
    rows = {row["role"]: row for row in evaluation.to_pylist()}
    challenger = rows.get(role)
    verdicts = [] if drift is None else [row for row in drift.to_pylist() if row["kind"] == "verdict"]
    version = challenger["model_version"] if challenger else None
    digests = [row["inputs_digest"] for row in trained if version is not None and row["model_version"] == version]
    return PromotionSignals(
        month=month,
        challenger_version=version,
        champion_version=champion,
        challenger=_evidence(challenger),
        champion=_evidence(rows.get("champion")),
        pair=_pair(challenger, has_amount=bool(contract.amount)),
        parts=_parts(challenger, segments),
        matured=_matured(challenger, contract),
        drift_status=verdicts[0]["drift_status"] if verdicts else None,
        blame=verdicts[0]["blame"] if verdicts else None,
        training_digest=digests[-1] if digests else None,
        shadow=shadow,
        why_none=why_none or rows.get(NOBODY, {}).get("reason"),
        live=_pair(_live_row(live, champion, version), has_amount=bool(contract.amount)),
    )


def live_metrics(live: pa.Table) -> dict[str, dict[str, float | None]]:
    """The differences on live traffic, for the ledger, as `live.v6.cost_difference`; none without challengers."""
    return {
        f"live.v{row['challenger_version']}.{name}_difference": {
            part: row[f"{name}_difference{end}"] for end, part in ENDS.items()
        }
        for row in live.to_pylist()
        for name in DIFFERENCES
        if row[f"{name}_difference"] is not None
    }


def _live_row(live: pa.Table | None, champion: int | None, version: int | None) -> Mapping[str, Any] | None:
    rows = [] if live is None else live.to_pylist()
    pair = (champion, version)
    return next((row for row in rows if (row["champion_version"], row["challenger_version"]) == pair), None)


def shadow_of(
    events: Iterable[Event], version: int | None, until: datetime | None, mode: PromotionMode
) -> Shadow | None:
    """How long a version has been in shadow; None where it need not be.

    Args:
        events: of the ledger.
        version: which.
        until: the end of the window, up to which transactions have matured.
        mode: whether it has to be, and how long.
    """
    if mode.mode != "shadow" or version is None or until is None:
        return None
    registered = [one.recorded_at for one in events if (one.kind, one.model_version) == ("registered", version)]
    since = min(registered, default=None)
    days = (until - since) / timedelta(days=1) if since else 0.0
    return Shadow(since, days, mode.shadow_days)


def _evidence(row: Mapping[str, Any] | None) -> ModelEvidence | None:
    if row is None:
        return None
    return ModelEvidence(
        version=row["model_version"],
        trained_month=row["trained_month"],
        n=row["n"],
        n_fraud=row["n_fraud"],
        prevalence=row["prevalence"],
        average_precision=row["average_precision"],
        average_precision_low=row["average_precision_low"],
        average_precision_high=row["average_precision_high"],
        threshold=row["threshold"],
        alerts_per_day=row["alerts_per_day"],
        cards_per_day=row["cards_per_day"],
        expected_cost=row["expected_cost"],
        cost_without_review=row["cost_without_review"],
        expected_over_observed=_interval(row, "expected_over_observed"),
        reason=row["reason"],
    )


def _pair(row: Mapping[str, Any] | None, *, has_amount: bool) -> PairEvidence | None:
    if row is None or row["look"] is None:
        return None
    found = {name: _interval(row, f"{name}_difference") for name in DIFFERENCES}
    return PairEvidence(
        n=row["pair_n"],
        n_fraud=row["pair_n_fraud"],
        look=row["look"],
        level=row["look_level"],
        reviews_per_day=row["reviews_per_day"],
        deciding_cards=row["deciding_cards"],
        has_amount=has_amount,
        **found,
    )


def _parts(row: Mapping[str, Any] | None, segments: pa.Table) -> tuple[PartEvidence, ...] | None:
    """The parts that were judged; None where their number is not what the evaluation says."""
    if row is None or row["parts_judged"] is None:
        return None
    found = tuple(
        PartEvidence(f"{part['segment']} {part['value']}", interval)
        for part in segments.to_pylist()
        if (part["role"], part["model_version"]) == (row["role"], row["model_version"])
        and (interval := _interval(part, "caught_difference")) is not None
        and interval.is_known
    )
    return found if len(found) == row["parts_judged"] else None


def _matured(row: Mapping[str, Any] | None, contract: Contract) -> bool | None:
    if row is None or row["window_to"] is None:
        return None
    return bool(row["window_to"] + timedelta(days=contract.maturity_days) <= row["as_of"])


def _interval(row: Mapping[str, Any], name: str) -> Interval | None:
    if row[name] is None:
        return None
    values = (row[f"{name}{end}"] for end in ENDS)
    return Interval(*(math.nan if value is None else value for value in values))
