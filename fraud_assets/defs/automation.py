"""What runs by itself: the retraining job, and the drift sensor that asks for it.

Whether a report leads to a retraining is decided in `core/retraining.py`; the sensor gathers and wraps.
"""

from typing import cast

import dagster as dg

from fraud_assets.core.drift import DriftStatus
from fraud_assets.core.retraining import (
    Attempt,
    AttemptState,
    DriftSignal,
    RetrainingDecision,
    RetrainingPolicy,
    decide_retraining,
)
from fraud_assets.defs.partitions import MONTHS

REPORT = dg.AssetKey("drift_report")
MONTH_TAG, DIGEST_TAG, ATTEMPT_TAG = "fraud/retrain_month", "fraud/report_digest", "fraud/attempt"

retraining = dg.define_asset_job(
    "retraining",
    dg.AssetSelection.assets("trained_model", "evaluation_segments", "evaluation", "champion", "fraud_bento"),
    partitions_def=MONTHS,
    description="A month's model again, and what follows from it.",
)

STATES: dict[dg.DagsterRunStatus, AttemptState] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "failed",
}


@dg.sensor(job=retraining, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def drift_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Asks for the retraining of a month whose drift report says DRIFT: once for each report, again if that failed.

    The cursor holds the last materialisation seen and the months that are still waited for, so several months
    between two ticks, a restart, or a crash between request and cursor lose and double nothing: the run key carries
    the report's digest and the attempt.
    """
    last_seen, waiting = _read_cursor(context.cursor)
    signals = {signal.month: signal for signal in waiting}
    for storage_id, signal in _new_reports(context, last_seen):
        last_seen = storage_id
        if signal is not None:
            signals[signal.month] = signal
    decisions = {
        month: decide_retraining(signal, _attempts(context.instance, month), RetrainingPolicy())
        for month, signal in sorted(signals.items())
    }
    cursor = _write_cursor(last_seen, [signals[month] for month, decision in decisions.items() if decision.pending])
    requests = [_request(signals[month], decision) for month, decision in decisions.items() if decision.request]
    reasons = "; ".join(reason for decision in decisions.values() for reason in decision.reasons)
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor)
    context.update_cursor(cursor)
    return dg.SkipReason(reasons or "no drift report since the last tick")


def _new_reports(context: dg.SensorEvaluationContext, after: int) -> list[tuple[int, DriftSignal | None]]:
    """The materialisations after `after`; None for one that says nothing of drift."""
    reports: list[tuple[int, DriftSignal | None]] = []
    page: str | None = None
    while True:
        found = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=REPORT, after_storage_id=after),
            limit=100,
            cursor=page,
            ascending=True,
        )
        for record in found.records:
            reports.append((record.storage_id, _signal(context, record)))
        if not found.has_more:
            return reports
        page = found.cursor


def _signal(context: dg.SensorEvaluationContext, record: dg.EventLogRecord) -> DriftSignal | None:
    materialization = record.asset_materialization
    facts = {name: str(value.value) for name, value in (materialization.metadata if materialization else {}).items()}
    if record.partition_key is None or "drift_status" not in facts or "digest" not in facts:
        # As reported by hand in the UI: stopping at it would stop the sensor for good.
        context.log.warning(f"a materialisation of drift_report ({record.partition_key}) has no verdict; passed over")
        return None
    return DriftSignal(record.partition_key, cast("DriftStatus", facts["drift_status"]), facts["digest"])


def _attempts(instance: dg.DagsterInstance, month: str) -> list[Attempt]:
    runs = instance.get_runs(dg.RunsFilter(tags={MONTH_TAG: month}))
    return [
        Attempt(run.tags[DIGEST_TAG], int(run.tags[ATTEMPT_TAG]), STATES.get(run.status, "in_progress"))
        for run in runs
        # Anyone may tag a run.
        if DIGEST_TAG in run.tags and run.tags.get(ATTEMPT_TAG, "").isdigit()
    ]


def _request(signal: DriftSignal, decision: RetrainingDecision) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=decision.run_key,
        partition_key=signal.month,
        tags={
            MONTH_TAG: signal.month,
            DIGEST_TAG: signal.report_digest,
            ATTEMPT_TAG: str(decision.attempt_number),
        },
    )


def _read_cursor(text: str | None) -> tuple[int, list[DriftSignal]]:
    if not text:
        return 0, []
    last_seen, *waiting = text.split("\n")
    signals = []
    for line in waiting:
        month, status, digest = line.split(" ")
        signals.append(DriftSignal(month, cast("DriftStatus", status), digest))
    return int(last_seen), signals


def _write_cursor(last_seen: int, waiting: list[DriftSignal]) -> str:
    return "\n".join(
        [
            str(last_seen),
            *(f"{signal.month} {signal.drift_status} {signal.report_digest}" for signal in waiting),
        ]
    )
