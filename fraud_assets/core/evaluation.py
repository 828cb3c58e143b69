"""Evaluation: champion, challenger and reference on the same out-of-time window, as rows and as evidence.

Which window that is belongs to `windows.py`; the metrics to `metrics.py`; the decision to `promotion.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.metrics import Interval, Metrics, evaluate_scores, paired_ap_difference
from fraud_assets.core.promotion import ModelEvidence, PromotionSignals
from fraud_assets.core.scoring import Scorer, feature_matrix
from fraud_assets.core.windows import Window

Role = Literal["champion", "challenger", "reference"]
REPLICATES = 200


class EvaluationError(ValueError):
    """A window on which no model can be judged."""


def evaluate_models(
    features: pa.Table,
    labels: pa.Table,
    models: Mapping[Role, Scorer],
    *,
    month: str,
    as_of: datetime,
    window: Window,
    schema: pa.Schema,
) -> pa.Table:
    """Judges models on the matured transactions of a window.

    Args:
        features: `event_timestamp`, entities and features; rows outside the window are left out.
        labels: of the same transactions in the same order, as known at the month's end.
        models: by role.
        month: the partition.
        as_of: the month's end.
        window: the event times to judge on.
        schema: of the evaluation table.

    Returns:
        One row per role. The challenger's row also has the paired difference of its AP to the champion's.

    Raises:
        EvaluationError: when the window has no matured fraud, or no matured genuine transaction.
    """
    moment = features["event_timestamp"]
    inside = pc.and_(
        pc.and_(
            pc.greater_equal(moment, pa.scalar(window.start, moment.type)),
            pc.less(moment, pa.scalar(window.end, moment.type)),
        ),
        labels["is_matured"],
    )
    features, y = features.filter(inside), labels["is_fraud"].filter(inside).to_numpy().astype(bool)
    if y.all() or not y.any():
        raise EvaluationError(
            f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} has {len(y):,} matured transactions, {int(y.sum())} of "
            "them fraud; a model is judged on both frauds and genuine transactions"
        )
    days = features["event_timestamp"].cast(pa.int64()).to_numpy() // 86_400_000_000
    amount = features["amount"].to_numpy() if "amount" in features.column_names else None
    cards, terminals = _codes(features, "customer_id"), _codes(features, "terminal_id")
    scores = {
        role: scorer.probabilities(feature_matrix(features, scorer.manifest.features))
        for role, scorer in models.items()
    }
    rows = []
    for role, scorer in models.items():
        manifest = scorer.manifest
        metrics = evaluate_scores(
            y,
            scores[role],
            cards=cards,
            days=days,
            amount=amount,
            threshold=manifest.threshold,
            replicates=REPLICATES,
        )
        row: dict[str, Any] = {
            "month": date.fromisoformat(f"{month}-01"),
            "role": role,
            "model_version": manifest.model_version,
            "family": manifest.family,
            "trained_month": manifest.trained_month,
            "as_of": as_of,
            "window_from": window.start,
            "window_to": window.end,
            **_columns(metrics),
        }
        if role == "challenger" and "champion" in models:
            difference = paired_ap_difference(y, scores["champion"], scores[role], cards, terminals=terminals)
            row |= {
                "ap_difference": difference.value,
                "ap_difference_low": _finite(difference.low),
                "ap_difference_high": _finite(difference.high),
            }
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=schema)


def promotion_signals(evaluation: pa.Table, month: str, champion: int | None) -> PromotionSignals:
    """What the promotion decision looks at, from a month's evaluation rows.

    Args:
        evaluation: the month's rows.
        month: the month of the decision.
        champion: the version that was live before it.
    """
    rows = {row["role"]: row for row in evaluation.to_pylist()}
    challenger = rows.get("challenger")
    difference = None
    if challenger and challenger["ap_difference_low"] is not None:
        difference = Interval(*(challenger[f"ap_difference{end}"] for end in ("", "_low", "_high")))
    return PromotionSignals(
        month=month,
        challenger_version=challenger["model_version"] if challenger else None,
        champion_version=champion,
        challenger=_evidence(challenger),
        champion=_evidence(rows.get("champion")),
        ap_difference=difference,
    )


def _evidence(row: dict[str, Any] | None) -> ModelEvidence | None:
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
    )


def _columns(metrics: Metrics) -> dict[str, Any]:
    row = metrics.as_row()
    return {
        name.replace("card_precision", f"card_precision_at_{metrics.k}"): value
        for name, value in row.items()
        if name not in ("k", "threshold")
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _codes(features: pa.Table, name: str) -> Any:
    if name not in features.column_names:
        return None
    indices = features[name].combine_chunks().dictionary_encode().indices
    return pc.fill_null(indices, -1).to_numpy(zero_copy_only=False)
