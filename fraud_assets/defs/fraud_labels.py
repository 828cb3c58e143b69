"""`fraud_labels`: what became known about transactions during a month.

Also the sensor that takes labels that came over HTTP into months that are stored already. One that is not stored takes
them in when it is run; `fraud labels add` rebuilds months itself, which the service cannot.
"""

import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.retries import retried
from fraud_assets.core.labels.completeness import Completeness
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.defs.partitions import CONTRACT, MONTHS, RANGE_IN_ONE_RUN, describe, picture
from fraud_assets.defs.resources import Platform
from fraud_assets.defs.up_to_date import IN_PROGRESS
from fraud_assets.pages import plots
from fraud_assets.workflows.labels import (
    MonthStatements,
    completeness_rows,
    month_statements,
    months_with_feedback,
    read_completeness,
)
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG

with warnings.catch_warnings():
    # Partitioned checks are a preview in dagster 1.13; goes when they are not.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    CHECKS = [
        dg.AssetCheckSpec(name, asset="fraud_labels", description=description, partitions_def=MONTHS)
        for name, description in (
            (
                "has_all_deliveries",
                "All deliveries behind the month's statements are stored, and every row of the feed could be used.",
            ),
            (
                "labels_after_transactions",
                "No statement was known before its transaction happened. Such statements are not used.",
            ),
            ("labels_complete", "As many frauds are known as expected from earlier months and their delays."),
        )
    ]


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    deps=["raw_transactions", "delivered_labels"],
    check_specs=CHECKS,
    **describe("fraud_labels", "transactions", {"postgres"}),
)
@retried
def fraud_labels(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[Mapping[str, pa.Table]] | dg.AssetCheckResult]:
    """One row is one statement ("transaction 17 was fraud"), in the month in which it became known.

    It comes from deliveries, the label feed and `fraud labels add`. A statement without a verdict withdraws the earlier
    one. For training, features and evaluation, which ask what was known at a moment (`labels_as_of`). A transaction
    without a statement counts as genuine once it has matured; that is derived, not stored.
    """
    now = datetime.now(UTC)
    months = {name: month_statements(platform.store, platform.source, name, now=now) for name in context.partition_keys}
    rows = pa.concat_tables([month.rows for month in months.values()])
    complete = read_completeness(platform.store, max(months), rows)
    yield dg.Output(
        {name: month.rows for name, month in months.items()},
        metadata={
            **_figures(rows, complete),
            **_delivered(months),
            "inputs": {name: month.inputs for name, month in months.items()},
        },
    )
    yield from _checks(months, complete)


def _figures(rows: pa.Table, complete: Completeness) -> dict[str, Any]:
    newest = complete.months[-1]
    delays = pc.subtract(rows["label_timestamp"].cast(pa.int64()), rows["event_timestamp"].cast(pa.int64())).drop_null()
    return {
        "plot": picture(
            plots.shares(
                {
                    "months before": (complete.curve.days, complete.curve.share),
                    # What is known of delays so short only is put where the other curve is at its end.
                    newest.month: (
                        complete.newest.days,
                        complete.newest.share * complete.curve.at(complete.newest.days[-1:]),
                    ),
                },
                f"Frauds known by days after the transaction, at the end of {newest.month}",
            )
        ),
        "fraud_rate": float(pc.mean(rows["is_fraud"]).as_py() or 0.0),
        "median_delay_days": float(np.median(delays.to_numpy())) / MICROSECONDS_PER_DAY if len(delays) else None,
        "withdrawn": rows["is_fraud"].null_count,
        "about_unseen_transactions": rows["event_timestamp"].null_count,
        "still_to_come": newest.still_to_come,
    }


def _delivered(months: Mapping[str, MonthStatements]) -> dict[str, Any]:
    """What the feed lacks, and what of it could not be used: without it, a rate of no fraud is none."""
    missing = [month.missing_file for month in months.values() if month.missing_file]
    reasons = [month.commonest_reason for month in months.values() if month.commonest_reason]
    return {
        "refused_rows": sum(month.n_refused for month in months.values()),
        "commonest_reason": reasons[0] if reasons else None,
        "missing_feed_file": ", ".join(missing) or None,
    }


def _checks(months: Mapping[str, MonthStatements], complete: Completeness) -> Iterator[dg.AssetCheckResult]:
    absent = {name: list(month.absent) for name, month in months.items() if month.absent}
    refused = {name: month.n_refused for name, month in months.items() if month.n_refused}
    said = [sentence for sentences in absent.values() for sentence in sentences]
    said += [month.commonest_reason for month in months.values() if month.commonest_reason]
    yield _warning(
        "has_all_deliveries",
        not absent and not refused,
        {"absent": absent, "refused_rows": refused},
        ". ".join(said) or None,
    )
    premature = {name: month.n_premature for name, month in months.items() if month.n_premature}
    yield _warning("labels_after_transactions", not premature, {"statements": premature})
    short = complete.short_since(CONTRACT.month_start(min(months)))
    said = [
        f"{month.month} has {month.n_fraud:,} known frauds; about {month.expected:,.0f} should be known by now, and at "
        f"least {month.expected_low:,.0f}"
        for month in short
    ]
    rows = [
        dg.TableRecord(row | {"settled_at": f"{row['settled_at']:%Y-%m-%d}"}) for row in completeness_rows(complete)
    ]
    yield _warning(
        "labels_complete", not short, {"completeness": dg.MetadataValue.table(rows)}, ". ".join(said) or None
    )


def _warning(name: str, passed: bool, metadata: dict[str, Any], said: str | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=name, passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata=metadata, description=said
    )


feedback_labels = dg.define_asset_job(
    "feedback_labels",
    dg.AssetSelection.assets("fraud_labels"),
    description="Takes labels that came over HTTP into a month that is stored already.",
    tags={PURPOSE_TAG: "feedback"},
)


# Stopped, as `automation_sensor` is: on a laptop nothing begins unasked. Every five minutes, because each run reads the
# whole month.
@dg.sensor(job=feedback_labels, minimum_interval_seconds=300, default_status=dg.DefaultSensorStatus.STOPPED)
def feedback_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Rebuilds stored months of `fraud_labels` for which labels have come over HTTP since it last looked.

    What came before it was turned on is left to `fraud refresh`. The cursor is the number of the last label seen.
    """
    if context.instance.get_runs_count(dg.RunsFilter(job_name=feedback_labels.name, statuses=IN_PROGRESS)):
        return dg.SkipReason("labels are being taken in")
    seen = int(context.cursor) if context.cursor and context.cursor.isdigit() else None
    newest, months = months_with_feedback(platform.store, seen)
    requests = [dg.RunRequest(run_key=f"{month}, label {newest}", partition_key=month) for month in months]
    if not requests:
        context.update_cursor(str(newest))
        return dg.SkipReason("no label has come for a month that is stored")
    return dg.SensorResult(run_requests=requests, cursor=str(newest))
