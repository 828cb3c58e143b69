"""A model as it would be served, tried before it may go live: size, latency, and the same scores everywhere.

What of it refuses a promotion belongs to `core/decisions/promotion.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from fraud_assets.adapters.bento import score_in_bento
from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.approval import PromotionMode, hold
from fraud_assets.core.decisions.promotion import (
    PackageEvidence,
    PromotionSignals,
    PromotionVerdict,
    decide_promotion,
    judge_evidence,
)
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.months import months_between
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.promote import package_version

SMOKE_ROWS = 200


def decide(
    candidates: Iterable[PromotionSignals],
    packaged: Callable[[int], PackageEvidence],
    mode: PromotionMode | None = None,
) -> list[tuple[PromotionSignals, PromotionVerdict]]:
    """The decisions of a month: on each candidate in order, until one passes.

    Args:
        candidates: signals without a package; the newest model first.
        packaged: packages a version and tries it, or raises; asked only for what would be promoted.
        mode: what becomes of the one that passes; automatic when absent.

    Returns:
        The signals that each decision was made on, and the decision.
    """
    decided = []
    for signals in candidates:
        verdict = judge_evidence(signals)
        if verdict.promote and signals.challenger_version is not None:
            signals = replace(signals, package=packaged(signals.challenger_version))
            verdict = decide_promotion(signals)
        decided.append((signals, hold(verdict, mode or PromotionMode())))
        if verdict.promote:
            break
    return decided


def try_package(
    version: int, month: str, *, store: MonthStore, registry: Registry, settings: Settings
) -> PackageEvidence:
    """Packages a version, and scores the same real transactions with it in each of its forms.

    Args:
        version: of the registered model.
        month: of the decision; the newest transactions up to its end are scored.
        store: has their features.
        registry: has the estimator as it was trained, and the ONNX model.
        settings: where the bento lies.

    Raises:
        RegistryError: when the registry has not all files of the version.
        ScoringError: when the model cannot score.
        PackagingError: when the bento cannot be built, or does not score.
    """
    bento = package_version(version, registry, settings, LedgerStore(store.database, settings.ledger_head_file))
    onnx, manifest = registry.fetch(version)
    scorer = Scorer(onnx, manifest)
    rows = _newest_rows(store, month, list(manifest.features))
    if not rows.num_rows:
        return PackageEvidence(len(onnx), float("nan"), {})
    trained = np.asarray(registry.trained(version).predict_proba(rows))[:, 1]
    disagreement = {
        "onnx": float(np.abs(scorer.score(rows) - trained).max()),
        "bento": float(np.abs(score_in_bento(bento, rows) - trained).max()),
    }
    return PackageEvidence(len(onnx), _latency(scorer, rows), disagreement)


def _newest_rows(store: MonthStore, month: str, features: list[str]) -> pa.Table:
    """Rows spread evenly over the newest month that has any."""
    stored = [one for one in store.months("transaction_features") if one <= month]
    for newest in reversed(months_between(stored[0], month) if stored else []):
        rows = store.read("transaction_features", features, first_month=newest, last_month=newest)
        if rows.num_rows:
            place = np.unique(np.linspace(0, rows.num_rows - 1, SMOKE_ROWS).astype(np.int64))
            return rows.take(pa.array(place)).select(features).replace_schema_metadata(None)
    return pa.table({})


def _latency(scorer: Scorer, rows: pa.Table) -> float:
    """The median time of scoring one row, in milliseconds."""
    times = []
    for row in rows.to_pylist():
        started = time.perf_counter()
        scorer.score_rows([row])
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1000
