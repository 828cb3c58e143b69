"""`up_to_date`, the check that each month of each table has: whether what it was made of is still what there is.

What makes a month stale belongs to `core/lineage/staleness.py`; telling Dagster of it to `workflows/refresh.py`.
"""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg

from fraud_assets.core.lineage.tables import ON_REQUEST, TABLES
from fraud_assets.defs.partitions import MONTHS
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.refresh import UP_TO_DATE, evaluate_up_to_date, open_stale, untold
from fraud_assets.workflows.run_months import PURPOSE_TAG

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
            description="What the month was made of has not changed since; if it has, `fraud refresh` makes it anew.",
        )
        for name in TABLES
        if name not in ON_REQUEST
    ]


@dg.multi_asset_check(specs=SPECS, can_subset=True)
def up_to_date(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckEvaluation]:
    """Evaluates the months that a run made, and those of any table that it made stale or made good."""
    tables = [key.asset_key.path[-1] for key in context.selected_asset_check_keys]
    if context.has_partition_key or context.has_partition_key_range:
        made = {(table, month) for table in tables for month in context.partition_keys}
    else:
        # A check that was asked for and says nothing counts as one that did not end.
        made = {(table, max(months)) for table in tables if (months := platform.store.months(table))}
    yield from evaluate_up_to_date(context.instance, platform.store, open_stale(platform.settings), made)


evaluate_again = dg.define_asset_job(
    "up_to_date_again",
    dg.AssetSelection.checks(up_to_date),
    description="What became stale outside of a run of its own: labels were added, a file was delivered again.",
    tags={PURPOSE_TAG: "check what is stale"},
)


@dg.sensor(job=evaluate_again, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def staleness_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.RunRequest | dg.SkipReason:
    """Has months evaluated that became stale, or are so no longer, without a run that said so."""
    # A run tells of what it changed when it ends, and in its midst months are stale that will not be. One that was
    # killed may count as running for good.
    since = datetime.now(UTC) - timedelta(hours=1)
    if context.instance.get_runs_count(dg.RunsFilter(statuses=IN_PROGRESS, updated_after=since)):
        return dg.SkipReason("a run is in progress, and tells of what it changes")
    changed = untold(context.instance, platform.store, open_stale(platform.settings))
    if not changed:
        return dg.SkipReason("nothing became stale, and nothing is so no longer")
    tables = sorted({table for table, _ in changed})
    return dg.RunRequest(asset_check_keys=[dg.AssetCheckKey(dg.AssetKey(table), UP_TO_DATE) for table in tables])
