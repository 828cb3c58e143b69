"""`drift_report`: has the world changed since the champion's training window?"""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core import plots
from fraud_assets.core.drift import DriftConfig
from fraud_assets.core.reports import compare_with_champion, drift_rows
from fraud_assets.core.scoring import ModelManifest, Scorer
from fraud_assets.core.staleness import champion_inputs, inputs_of
from fraud_assets.core.windows import Window
from fraud_assets.defs.partitions import CONTRACT, MONTH_BY_MONTH, MONTHS, describe, picture, single_month
from fraud_assets.defs.resources import Platform


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    check_specs=[
        dg.AssetCheckSpec(
            "no_drift",
            asset="drift_report",
            description="The month resembles the champion's training window.",
        )
    ],
    **describe("drift_report", "monitoring", {"postgres"}),
)
def drift_report(
    context: dg.AssetExecutionContext, platform: Platform, transaction_features: pa.Table
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one feature of the month beside the champion's training window; one row is the month's verdict.

    For analysts and the drift sensor, which starts a retraining when the verdict is DRIFT.
    """
    month = single_month(context)
    platform.store.require("transaction_features", month)
    version = platform.champion_before(month)
    inputs = platform.made_of(transaction_features, champion_inputs(month, version))

    def read(columns: list[str] | None, first: str, last: str) -> pa.Table:
        nonlocal inputs
        rows = platform.store.read("transaction_features", columns, first_month=first, last_month=last)
        inputs = inputs_of(inputs, rows)
        return rows

    scorer = training = first_event = None
    if version is not None:
        scorer = Scorer(*platform.registry.fetch(version))
        training = _training_window(scorer.manifest)
        # From the first month of the contract on: one that arrives later makes the platform's history longer.
        oldest = next(iter(platform.store.months("transaction_features")))
        first_event = pc.min(read(["event_timestamp"], CONTRACT.first_month, oldest)["event_timestamp"]).as_py()
    comparison = compare_with_champion(
        month=month,
        current=transaction_features,
        scorer=scorer,
        training=training,
        first_event=first_event,
        read=lambda first, last: read(None, first, last),
        contract=CONTRACT,
        config=DriftConfig(),
    )
    report = comparison.report
    psi = {row.feature: row.psi for row in report.rows if row.psi is not None}
    yield dg.Output(
        drift_rows(comparison, month, platform.store.table("drift_report").schema),
        metadata={
            "inputs": inputs,
            "drift_status": report.drift_status,
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in report.reasons)),
            "champion_version": version,
            "plot": picture(plots.bars(psi, "Population stability index by feature", DriftConfig().psi_limit)),
        },
    )
    yield dg.AssetCheckResult(
        passed=report.drift_status == "OK",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"drift_status": report.drift_status},
    )


def _training_window(manifest: ModelManifest) -> Window | None:
    """From the manifest and not from `trained_model`, whose row may be about a newer model of the same month."""
    if manifest.training_from is None or manifest.training_to is None:
        return None
    return Window(manifest.training_from, manifest.training_to)
