"""`drift_report`: has the world changed, since the champion was trained or since the months before?"""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.retries import retried
from fraud_assets.core.labels.completeness import Completeness
from fraud_assets.core.lineage.configuration import setting_inputs
from fraud_assets.core.lineage.needs import Needed
from fraud_assets.core.lineage.staleness import Inputs, absent, champion_inputs, inputs_of, maturity_inputs
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.month import (
    MonthReport,
    drift_rows,
    earlier_needed,
    earlier_reports,
    report_month,
)
from fraud_assets.core.monitoring.pictures import completeness_needs, completeness_of
from fraud_assets.core.monitoring.plan import Champion, Subject, first_needs, plan_report
from fraud_assets.core.monitoring.verdict import in_sentences
from fraud_assets.defs.partitions import (
    AFTER_ITS_INPUTS,
    CONTRACT,
    MONTH_BY_MONTH,
    MONTHS,
    bullets,
    describe,
    picture,
    single_month,
)
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.alerts import REASONS
from fraud_assets.workflows.report_page import page_file, page_link, publish_report, write_report


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
@retried
def drift_report(
    context: dg.AssetExecutionContext, platform: Platform, transaction_features: pa.Table
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """One row is one check: a feature, the scores, the labels, the champion's promise. One row is the verdict.

    For analysts and the drift sensor, which starts a retraining when the verdict is DRIFT and blames the world.
    """
    month = single_month(context)
    platform.store.require("transaction_features", month)
    version = platform.champion_before(month)
    report, completeness, inputs = _report(platform, month, transaction_features, version)
    verdict, limits = report.verdict, platform.settings.drift
    effect = {
        finding.feature: finding.total_variation for finding in report.findings if finding.total_variation is not None
    }
    link = page_link(platform.registry, version, month)
    yield dg.Output(
        drift_rows(report, month, platform.store.table("drift_report").schema, completeness),
        metadata={
            "inputs": inputs,
            "drift_status": verdict.drift_status,
            **({"blame": verdict.blame} if verdict.blame else {}),
            "reasons": bullets(in_sentences(verdict.blame, verdict.reasons, has_champion=version is not None)),
            # What a program reads back: the alerts.
            REASONS: dg.MetadataValue.json([one.to_dict() for one in verdict.reasons]),
            "champion_version": version,
            "report": dg.MetadataValue.url(link)
            if link
            else dg.MetadataValue.path(page_file(platform.settings, month)),
            "plot": picture(plots.bars(effect, "Share of rows that moved, by feature", limits.min_total_variation)),
        },
    )
    # The rows are stored by now, and the page is made of them.
    page = write_report(platform.settings, platform.store, platform.ledger, platform.registry, month)
    publish_report(platform.registry, version, month, page)
    yield dg.AssetCheckResult(
        passed=verdict.drift_status == "OK",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"drift_status": verdict.drift_status},
    )


def _report(
    platform: Platform, month: str, features: pa.Table, version: int | None
) -> tuple[MonthReport, Completeness | None, Inputs]:
    """The month's report, how complete the labels are, and everything that both were made of."""
    store, settings = platform.store, platform.settings
    made_of = platform.made_of(
        features, champion_inputs(month, version), maturity_inputs(CONTRACT), setting_inputs("drift", settings.drift),
        # What the champion's promise is held against.
        *([setting_inputs("costs", settings.costs)] if version is not None else []),
    )  # fmt: skip
    champion = None
    if version is not None:
        champion = Champion(Scorer(*platform.registry.fetch(version)), platform.registry.validation(version))
    # From the first month of the contract on: one that arrives later makes the platform's history longer.
    oldest = next(iter(store.months("transaction_features")))
    beginning = Needed("transaction_features", ("event_timestamp",), CONTRACT.first_month, oldest)
    before = store.load([beginning, earlier_needed(month)])
    subject = Subject(
        month=month,
        current=features,
        champion=champion,
        first_event=pc.min(before.of(beginning)["event_timestamp"]).as_py(),
        earlier=earlier_reports(before.of(earlier_needed(month))),
        contract=CONTRACT,
    )
    rows = store.load([*first_needs(subject), *completeness_needs(month, CONTRACT)])
    plan = plan_report(subject, rows)
    rows |= store.load(plan.needs)
    report = report_month(plan, rows, config=settings.drift, costs=settings.costs)
    has_labels = month not in absent(rows.inputs, "fraud_labels")
    return (
        report,
        completeness_of(month, rows, CONTRACT) if has_labels else None,
        inputs_of(made_of, before.inputs, rows.inputs),
    )
