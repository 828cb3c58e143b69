"""`up_to_date`, the check that each month of each table has: whether its inputs are still the same.

What makes a month stale belongs to `core/lineage/staleness.py`; telling Dagster of it to `workflows/runs/refresh.py`.
"""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from fraud_assets.core.lineage.tables.declared import ON_REQUEST, TABLES
from fraud_assets.defs.partitions import MONTHS
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.runs.refresh import UP_TO_DATE, evaluate_up_to_date, open_stale, untold
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

with warnings.catch_warnings():
    # Partitioned checks are a preview in dagster 1.13; goes when they are not.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    SPECS = [
        dg.AssetCheckSpec(
            UP_TO_DATE,
            asset=name,
            partitions_def=MONTHS,
            description="The month's inputs have not changed since it was built. If they have: `fraud refresh`.",
        )
        for name in TABLES
        if name not in ON_REQUEST
    ]


@dg.multi_asset_check(specs=SPECS, can_subset=True)
def up_to_date(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluates the months that a run made, and those of any table that it made stale or up to date."""
    tables = [key.asset_key.path[-1] for key in context.selected_asset_check_keys]
    if context.has_partition_key or context.has_partition_key_range:
        made = {(table, month) for table in tables for month in context.partition_keys}
    else:
        # Dagster takes a requested check without a result for one that did not end.
        made = {(table, max(months)) for table in tables if (months := platform.store.months(table))}
    yield from evaluate_up_to_date(context.instance, platform.store, open_stale(platform.settings), made)


evaluate_again = dg.define_asset_job(
    "up_to_date_again",
    dg.AssetSelection.checks(up_to_date),
    description="Updates `up_to_date` where months became stale outside of a run: new labels, a file delivered again.",
    tags={PURPOSE_TAG: "check what is stale"},
)


@dg.sensor(job=evaluate_again, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def staleness_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """Updates the check `up_to_date` of months that became stale, or are no longer, outside of a run."""
    # A run reports its changes when it ends; before that, months look stale that will not be. A run that was killed
    # may count as running for ever.
    since = datetime.now(UTC) - timedelta(hours=1)
    if context.instance.get_runs_count(dg.RunsFilter(statuses=IN_PROGRESS, updated_after=since)):
        return dg.SkipReason("a run is in progress, and reports its own changes")
    changed = untold(context.instance, platform.store, open_stale(platform.settings))
    if not changed:
        return dg.SkipReason("no month became stale, and none is stale no longer")
    tables = sorted({table for table, _ in changed})
    return dg.RunRequest(asset_check_keys=[dg.AssetCheckKey(dg.AssetKey(table), UP_TO_DATE) for table in tables])
