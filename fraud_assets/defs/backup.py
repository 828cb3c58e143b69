"""`backup`: the job that writes a backup into `FRAUD_BACKUP_FOLDER`, and its schedule."""

import dagster as dg

from fraud_assets.defs.partitions import CONTRACT
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.backups.make import make_backup
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG

NO_FOLDER = "FRAUD_BACKUP_FOLDER is not set: name the folder in which backups lie"


@dg.op(tags={"kind": "backup"})
def write_backup(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Writes a backup as `fraud backup make` does, and removes those that are more than `FRAUD_BACKUP_KEEP`."""
    settings = platform.settings
    if settings.backup_path is None:
        raise dg.Failure(NO_FOLDER, allow_retries=False)
    made = make_backup(settings, settings.backup_path, Progress(), settings.backup_keep)
    context.add_output_metadata({name: made[name] for name in ("backup", "bytes", "files", "seconds", "months")})
    for said in made["left_out"]:
        context.log.info(f"not in it: {said}")
    context.log.info(f"{made['backup']} is whole; {len(made['removed'])} older ones were removed")


@dg.job(
    description="Writes a backup of database, artifacts, bentos and reports; months may be written meanwhile.",
    tags={PURPOSE_TAG: "backup"},
)
def backup() -> None:
    """One step."""
    write_backup()


# Stopped: a backup holds people's rows, so somebody has to say where they may lie.
@dg.schedule(
    name="backup",
    job=backup,
    cron_schedule="0 3 * * *",
    execution_timezone=CONTRACT.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
)
def nightly(context: dg.ScheduleEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """Each night, asks for a backup, where there is a folder for it."""
    if platform.settings.backup_path is None:
        return dg.SkipReason(NO_FOLDER)
    return dg.RunRequest(f"backup {context.scheduled_execution_time:%Y-%m-%d}")
