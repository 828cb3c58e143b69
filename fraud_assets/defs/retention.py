"""`retention`: the job that removes rows of people older than `FRAUD_RETENTION_MONTHS`, and its schedule."""

from datetime import UTC, datetime

import dagster as dg

from fraud_assets.core.lineage.staleness import in_words
from fraud_assets.defs.partitions import CONTRACT
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.people.retain import NOT_SET, find_old, retain
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG


@dg.op(tags={"kind": "retention"})
def remove_old_rows(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Removes as `fraud retain --yes` does, and logs what is left for people to remove."""
    settings = platform.settings
    if settings.retention_months is None:
        raise dg.Failure(NOT_SET, allow_retries=False)
    done = retain(settings, context.instance, datetime.now(UTC), actor=f"dagster run {context.run_id}")
    context.add_output_metadata(
        {
            "kept_from": done["kept_from"],
            "rows": sum(n for months in done["months"].values() for n in months.values()),
            "months": in_words({month for months in done["months"].values() for month in months}) or "none",
        }
    )
    for said in [*done["versions"], *done["left"]]:
        context.log.info(said)


@dg.job(
    description="Removes rows of people that are older than FRAUD_RETENTION_MONTHS; counts, reports and models stay.",
    tags={PURPOSE_TAG: "retention"},
)
def retention() -> None:
    """One step."""
    remove_old_rows()


# Stopped: what it removes does not come back, so somebody has to want it.
@dg.schedule(
    name="retention",
    job=retention,
    cron_schedule="0 5 * * *",
    execution_timezone=CONTRACT.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def daily(context: dg.ScheduleEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """Each day, asks for the removal of what has become too old, where something has."""
    if platform.settings.retention_months is None:
        return dg.SkipReason(NOT_SET)
    old = find_old(platform.settings, platform.store, context.scheduled_execution_time)
    if not old.anything:
        return dg.SkipReason(f"no row of a person is from before {old.kept_from}")
    return dg.RunRequest(f"retention {context.scheduled_execution_time:%Y-%m-%d}")
