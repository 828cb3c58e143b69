"""Which model answers, and how its scores lay when it was validated, so that they can be compared with those of now."""

from __future__ import annotations

from prometheus_client import Gauge

from fraud_assets.core.models.scoring import ModelManifest

# At module level, as prometheus_client knows each metric of a process once.
PROCESSES = Gauge(
    "fraud_scorer_model_processes",
    "Processes in which a model version answers",
    ["model_version"],
    multiprocess_mode="livesum",
)
REFERENCE = Gauge(
    "fraud_scorer_score_reference",
    "Share of the scores of the model's validation at or below `le`, as buckets of fraud_scorer_score",
    ["model_version", "le"],
    multiprocess_mode="livemax",
)


def answers(manifest: ModelManifest, before: ModelManifest | None = None) -> None:
    """A model answers from now on, in place of another.

    Args:
        manifest: of the model.
        before: of the one that answered until now.
    """
    if before is not None:
        PROCESSES.labels(str(before.model_version)).set(0)
    version = str(manifest.model_version)
    PROCESSES.labels(version).set(1)
    for edge, share in (manifest.score_shares or {}).items():
        REFERENCE.labels(version, edge).set(share)
