"""What runs by itself: features and report when new data arrive, the retraining job, and the sensor that asks for it.

What leads to a retraining is decided in `core/decisions/retraining.py`, and kept by `workflows/retraining.py`; the
sensor gathers and wraps.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import dagster as dg
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME

from fraud_assets.core.decisions.retraining import (
    Attempt,
    AttemptState,
    DriftSignal,
    RetrainingDecision,
    decide_retrainings,
)
from fraud_assets.core.drift.findings import DriftStatus
from fraud_assets.core.lineage.tables.declared import ON_REQUEST, TABLES
from fraud_assets.core.monitoring.verdict import Blame
from fraud_assets.core.months import MONTH_PATTERN
from fraud_assets.defs.partitions import CONTRACT, MONTHS
from fraud_assets.defs.resources import Platform
from fraud_assets.defs.up_to_date import IN_PROGRESS
from fraud_assets.workflows.retraining import JOB, RetrainingStore, read_models
from fraud_assets.workflows.runs.monthly import plan_months
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG

REPORT, EVALUATION = "drift_report", "evaluation"
MONTH_TAG, TRIGGER_TAG = "fraud/retrain_month", "fraud/trigger"
# The digest of the report; for another trigger than drift, what it is about.
DIGEST_TAG, ATTEMPT_TAG = "fraud/report_digest", "fraud/attempt"

retraining = dg.define_asset_job(
    JOB,
    dg.AssetSelection.assets("trained_model", "evaluation_segments", "evaluation", "champion", "fraud_bento"),
    partitions_def=MONTHS,
    description="Trains a month's model again, then judges, promotes and packages it.",
    tags={PURPOSE_TAG: "retraining"},
)

# Stopped, because `fraud run` and backfills make these months themselves: on a laptop nothing begins unasked.
automation_sensor = dg.AutomationConditionSensorDefinition(
    "automation_sensor",
    target=dg.AssetSelection.assets("transaction_features", "drift_report"),
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    run_tags={PURPOSE_TAG: "new data"},
    description="When a month's transactions or labels change, rebuilds its features and then its drift report.",
)


# Of the job that holds every asset, as `fraud run`: one of its own would be warned of at each load, because its assets
# are backfilled in two ways.
@dg.schedule(
    name="monthly",
    job_name=IMPLICIT_ASSET_JOB_NAME,
    cron_schedule="0 6 * * *",
    execution_timezone=CONTRACT.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def monthly(context: dg.ScheduleEvaluationContext, platform: Platform) -> list[dg.RunRequest] | dg.SkipReason:
    """Each day, asks for the months that are over, delivered and not done, oldest first, as `fraud monthly` runs them.

    A month is asked for once for each delivery: one that failed is asked for again when its delivery has changed.
    """
    source = platform.source
    planned = plan_months(platform.store, source, context.scheduled_execution_time)
    if not planned.months:
        waits = f"waits for {planned.waits_for}, which is not over, or not delivered yet" if planned.waits_for else ""
        return dg.SkipReason(waits or f"{planned.newest} is done")
    return [
        dg.RunRequest(
            f"monthly {month} {source.fingerprint(month)}",
            partition_key=month,
            asset_selection=[dg.AssetKey(name) for name in TABLES if name not in ON_REQUEST],
            tags={PURPOSE_TAG: "monthly"},
        )
        for month in planned.months
    ]


STATES: dict[dg.DagsterRunStatus, AttemptState] = {
    dg.DagsterRunStatus.SUCCESS: "succeeded",
    dg.DagsterRunStatus.FAILURE: "failed",
    dg.DagsterRunStatus.CANCELED: "failed",
}


@dg.sensor(job=retraining, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def drift_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Asks for a month's new model because of drift, performance, age or calendar: once, and again if the run failed.

    The cursor holds the last events seen and the months still waiting. The run key holds the report's digest and the
    attempt. So nothing is lost or requested twice when several months come between two ticks, or after a restart or a
    crash. `fraud retraining list` shows the decisions.
    """
    instance, now, cursor = context.instance, _now(), _Cursor.read(context.cursor)
    months = set(cursor.waiting)
    for asset in (REPORT, EVALUATION):
        cursor.seen[asset], changed = _changed_months(instance, asset, cursor.seen.get(asset, 0))
        months |= changed
    reports = {month: found for month in sorted(months) if (found := _newest_report(context, month))}
    # A run that continues after its report may train this model itself.
    busy = sorted(month for month, (_, run_id) in reports.items() if _is_under_way(instance, run_id, now))
    signals = [signal for month, (signal, _) in reports.items() if month not in busy]
    decisions = _decide(instance, platform, signals, now) if signals else ()
    cursor.waiting = sorted([*busy, *(one.month for one in decisions if one.pending)])
    requests = [_request(one) for one in decisions if one.request]
    if requests:
        return dg.SensorResult(run_requests=requests, cursor=cursor.written)
    context.update_cursor(cursor.written)
    reasons = [f"the run that wrote the drift report of {month} is still in progress" for month in busy]
    reasons += [reason.text for decision in decisions for reason in decision.reasons]
    return dg.SkipReason("; ".join(reasons) or "no drift report since the last tick")


def _decide(
    instance: dg.DagsterInstance, platform: Platform, signals: list[DriftSignal], now: datetime
) -> tuple[RetrainingDecision, ...]:
    """Decides, and keeps the decisions."""
    models = read_models(platform.store, [signal.month for signal in signals])
    policy = platform.settings.retraining
    decisions = decide_retrainings(signals, _attempts(instance), policy, now=now, models=models)
    # Before the request: a crash in between repeats the decision, which is then known already.
    RetrainingStore(platform.store.database).record(decisions)
    return decisions


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class _Cursor:
    """The last event seen of each asset, and the months that are looked at again."""

    seen: dict[str, int] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, text: str | None) -> "_Cursor":
        # One that another version wrote begins anew; what was asked for already is found by the runs' tags.
        return cls(**json.loads(text)) if text and text.startswith("{") else cls()

    @property
    def written(self) -> str:
        return json.dumps({"seen": self.seen, "waiting": self.waiting})


def _changed_months(instance: dg.DagsterInstance, asset: str, after: int) -> tuple[int, set[str]]:
    """The newest materialisation of an asset, and the months that have one after `after`."""
    months: set[str] = set()
    newest, page = after, None
    while True:
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), after_storage_id=after),
            limit=100,
            cursor=page,
            ascending=True,
        )
        months |= {key for record in found.records if (key := record.partition_key) and MONTHS.has_partition_key(key)}
        newest = max([newest, *(record.storage_id for record in found.records)])
        if not found.has_more:
            return newest, months
        page = found.cursor


def _newest_report(context: dg.SensorEvaluationContext, month: str) -> tuple[DriftSignal, str] | None:
    """What the month's newest report says, and the run that wrote it."""
    found = context.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(REPORT), asset_partitions=[month]), limit=10
    )
    for record in found.records:
        signal = _signal(record)
        if signal is not None:
            return signal, record.run_id
        # As reported by hand in the UI: stopping at it would stop the sensor for good.
        context.log.warning(
            f"a materialisation of drift_report of {month} has no verdict that can be read; it is ignored"
        )
    return None


def _signal(record: dg.EventLogRecord) -> DriftSignal | None:
    materialization = record.asset_materialization
    metadata = materialization.metadata if materialization else {}
    facts = {name: value.value for name, value in metadata.items()}
    try:
        return DriftSignal(
            str(record.partition_key),
            cast("DriftStatus", facts.get("drift_status")),
            str(facts.get("digest") or ""),
            cast("Blame | None", facts.get("blame")),
        )
    except ValueError:
        return None


def _is_under_way(instance: dg.DagsterInstance, run_id: str, now: datetime) -> bool:
    # One that was killed may count as running for hours.
    since = now - timedelta(hours=1)
    return bool(run_id) and bool(
        instance.get_runs_count(dg.RunsFilter(run_ids=[run_id], statuses=IN_PROGRESS, updated_after=since))
    )


def _attempts(instance: dg.DagsterInstance) -> list[Attempt]:
    attempts = []
    for record in instance.get_run_records(dg.RunsFilter(job_name=JOB)):
        run = record.dagster_run
        month, number = run.tags.get(MONTH_TAG, ""), run.tags.get(ATTEMPT_TAG, "")
        # Anyone may tag a run.
        if DIGEST_TAG not in run.tags or not MONTH_PATTERN.fullmatch(month) or not number.isdigit() or int(number) < 1:
            continue
        ended = datetime.fromtimestamp(record.end_time, UTC) if record.end_time else None
        state = STATES.get(run.status, "in_progress")
        attempts.append(Attempt(run.tags[DIGEST_TAG], int(number), state, month, ended))
    return attempts


def _request(decision: RetrainingDecision) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=decision.run_key,
        partition_key=decision.month,
        tags={
            MONTH_TAG: decision.month,
            TRIGGER_TAG: str(decision.trigger),
            PURPOSE_TAG: f"retraining: {decision.trigger}",
            DIGEST_TAG: str(decision.asked_by),
            ATTEMPT_TAG: str(decision.attempt_number),
        },
    )
