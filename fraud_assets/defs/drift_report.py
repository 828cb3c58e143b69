"""`drift_report`: has the world changed, since the champion was trained or since the months before?"""

from collections.abc import Iterator, Sequence

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.lineage.staleness import Inputs, champion_inputs, inputs_of
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.month import (
    PAST_MONTHS,
    Champion,
    MonthReport,
    drift_rows,
    earlier_reports,
    report_month,
)
from fraud_assets.core.months import shift_month
from fraud_assets.defs.partitions import (
    AFTER_ITS_INPUTS,
    CONTRACT,
    MONTH_BY_MONTH,
    MONTHS,
    describe,
    picture,
    single_month,
)
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.report_page import publish_report, write_report


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["fraud_labels", "raw_transactions"],
    automation_condition=AFTER_ITS_INPUTS,
    check_specs=[
        dg.AssetCheckSpec(
            "no_drift",
            asset="drift_report",
            description="The month does not differ from its reference beyond chance, and the champion, if any, keeps "
            "its promise.",
        )
    ],
    **describe("drift_report", "monitoring", {"postgres"}),
)
def drift_report(
    context: dg.AssetExecutionContext, platform: Platform, transaction_features: pa.Table
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one check: a feature, the scores, the labels, the champion's promise. One row is the verdict.

    For analysts and the drift sensor, which starts a retraining when the verdict is DRIFT and blames the world.
    """
    month = single_month(context)
    platform.store.require("transaction_features", month)
    version = platform.champion_before(month)
    report, inputs = _report(platform, month, transaction_features, version)
    verdict = report.verdict
    effect = {
        finding.feature: finding.total_variation for finding in report.findings if finding.total_variation is not None
    }
    rows = drift_rows(report, month, platform.store.table("drift_report").schema)
    page = write_report(platform.settings, platform.store, platform.ledger, platform.registry, month, rows=rows)
    link = publish_report(platform.registry, version, month, page)
    yield dg.Output(
        rows,
        metadata={
            "inputs": inputs,
            "drift_status": verdict.drift_status,
            **({"blame": verdict.blame} if verdict.blame else {}),
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in verdict.reasons)),
            "champion_version": version,
            "report": dg.MetadataValue.url(link) if link else dg.MetadataValue.path(page),
            "plot": picture(
                plots.bars(effect, "Share of rows that moved, by feature", DriftConfig().min_total_variation)
            ),
        },
    )
    yield dg.AssetCheckResult(
        passed=verdict.drift_status == "OK",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"drift_status": verdict.drift_status},
    )


def _report(platform: Platform, month: str, features: pa.Table, version: int | None) -> tuple[MonthReport, Inputs]:
    """The month's report, and everything it was made of."""
    store, settings = platform.store, platform.settings
    inputs = platform.made_of(features, champion_inputs(month, version))

    def read(table: str, columns: Sequence[str] | None, first: str, last: str) -> pa.Table:
        nonlocal inputs
        rows = store.read(table, columns, first_month=max(first, CONTRACT.first_month), last_month=last)
        inputs = inputs_of(inputs, rows)
        return rows

    champion = None
    if version is not None:
        champion = Champion(Scorer(*platform.registry.fetch(version)), platform.registry.validation(version))
    # From the first month of the contract on: one that arrives later makes the platform's history longer.
    oldest = next(iter(store.months("transaction_features")))
    first_event = pc.min(
        read("transaction_features", ["event_timestamp"], CONTRACT.first_month, oldest)["event_timestamp"]
    ).as_py()
    before = read("drift_report", None, shift_month(month, -PAST_MONTHS), shift_month(month, -1))
    report = report_month(
        month=month,
        current=features,
        champion=champion,
        first_event=first_event,
        read=read,
        earlier=earlier_reports(before),
        contract=CONTRACT,
        config=DriftConfig(),
        costs=settings.costs,
    )
    return report, inputs
