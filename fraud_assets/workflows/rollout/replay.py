"""Kept traffic scored again with another version, a day at a time; see `core/rollout/replay.py`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.stored import StoredScores
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import ModelManifest, Scorer
from fraud_assets.core.rollout.replay import REASONS, Replay, ReplayError
from fraud_assets.settings import Settings
from fraud_assets.workflows.progress import Progress


def replay(
    settings: Settings, store: MonthStore, registry: Registry, version: int, first: datetime, last: datetime,
    progress: Progress, *, now: datetime | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What would have changed had a version answered the traffic that was kept.

    Args:
        settings: of the home.
        store: the tables.
        registry: of the models.
        version: the candidate.
        first: the first event time.
        last: the end of event times, not part of it.
        progress: is told the days.
        now: the moment of knowledge about labels; the present when absent.

    Raises:
        RegistryError: when the registry has no such version.
        ReplayError: when nothing was kept in the span, or not what the version needs.
    """
    contract, stored = store.contract, StoredScores(store.database, store.contract)
    onnx, manifest = registry.fetch(version)
    scorer = Scorer(onnx, manifest)
    thresholds = stored.thresholds(first, last)
    if not thresholds:
        raise ReplayError(
            f"no score was kept of a transaction from {first:%Y-%m-%d} until {last:%Y-%m-%d}: the service keeps those "
            "that it gives (`fraud serve`)"
        )
    fields = _fields(store, stored, manifest, first, last)
    found = Replay(contract, manifest, thresholds, _learned_until(registry, manifest, thresholds))
    statements, moment = store.read("fraud_labels", first_month=contract.month_of(first)), now or datetime.now(UTC)
    for start, end in _days(first, last):
        with progress.working(f"{start:%Y-%m-%d} is scored again"):
            rows = _once(stored.read(start, end))
            if not rows.num_rows:
                continue
            features = _of(rows, stored.features(start, end, fields))
            labels = labels_as_of(
                rows, statements, moment, maturity_days=contract.maturity_days, blank=contract.label.blank
            )
            found.add(rows, features, scorer.score(features), labels)
    writer = ReasonWriter(scorer)
    explain = (lambda chosen, scores: writer.of_rows(chosen, scores, REASONS)) if writer.is_able else None
    return {"from": first, "to": last} | found.report(settings.costs, settings.review_capacity, explain)


def _fields(
    store: MonthStore, stored: StoredScores, manifest: ModelManifest, first: datetime, last: datetime
) -> list[pa.Field]:
    """The features of a version, when all of them were kept.

    Those that were not kept are not computed here: what the service knew at that moment is gone.
    """
    schema = store.table("transaction_features").schema
    kept = stored.lacking(first, last, manifest.features)
    unknown = [name for name in manifest.features if name not in schema.names]
    if not kept and not unknown:
        return [schema.field(name) for name in manifest.features]
    version = manifest.model_version
    if not kept:
        raise ReplayError(
            f"version {version} takes the feature {unknown[0]!r}, which the platform does not compute any more"
        )
    (answered, name), n = next(iter(kept.items()))
    raise ReplayError(
        f"version {version} takes the feature {name!r}, which was not kept with {n:,} scores of version {answered}: "
        f"`fraud challengers add {version}` keeps it from then on; replay what came after that, with --from"
    )


def _learned_until(registry: Registry, candidate: ModelManifest, versions: Iterable[int]) -> datetime:
    """Up to when any of the models learned; of one that is gone from the registry, that is not known."""
    moments = [datetime.fromisoformat(candidate.as_of)]
    for version in versions:
        with suppress(RegistryError):
            moments.append(datetime.fromisoformat(registry.fetch(version)[1].as_of))
    return max(moments)


def _days(first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    start = first
    while start < last:
        end = min(start + timedelta(days=1), last)
        yield start, end
        start = end


def _once(rows: pa.Table) -> pa.Table:
    """Each transaction as it was answered first."""
    first: dict[object, int] = {}
    moments = rows["scored_at"].cast(pa.int64()).to_pylist()
    for place, key in enumerate(rows["transaction_id"].to_pylist()):
        if key not in first or moments[place] < moments[first[key]]:
            first[key] = place
    return rows if len(first) == rows.num_rows else rows.take(sorted(first.values()))


def _of(rows: pa.Table, features: pa.Table) -> pa.Table:
    """The features of rows, in their order; scores that have come in between are none of them."""

    def keys(table: pa.Table) -> list[tuple[object, int]]:
        return list(zip(table["transaction_id"].to_pylist(), table["model_version"].to_pylist(), strict=True))

    places = {key: place for place, key in enumerate(keys(features))}
    return features.take([places[key] for key in keys(rows)])
