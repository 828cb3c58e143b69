"""`newest_month`, the check that months come: whether one is long over and not there, whichever months were run lately.

Dagster's own freshness policies look at when an asset was last made: a month of a year ago that is backfilled makes
them pass. This one looks at which months there are. When a month is late is decided in `core/decisions/monthly.py`.
"""

from datetime import UTC, datetime

import dagster as dg

from fraud_assets.adapters.sources import SourceError
from fraud_assets.core.decisions.monthly import NEWEST_MONTH, late_month
from fraud_assets.defs.partitions import CONTRACT
from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.runs.monthly import LAST_TABLES, plan_months
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG


# Of the asset that is made last: before that, the month of a run would itself be missing.
@dg.asset_check(
    asset=dg.AssetKey(LAST_TABLES[-1]),
    name=NEWEST_MONTH,
    description="No month has been over for more than two weeks without being delivered and run.",
)
def newest_month(platform: Platform) -> dg.AssetCheckResult:
    """Says which month is late, and who is to be asked. The simulator delivers a month when it is run: none is late."""
    if platform.settings.source == "simulator":
        return dg.AssetCheckResult(passed=True, description="the simulator delivers a month when it is run")
    now = datetime.now(UTC)
    try:
        planned = plan_months(platform.store, platform.source, now)
    except (SourceError, OSError) as error:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error))
    late = late_month(planned, platform.contract.month_end, now)
    metadata = {"newest month that is over": planned.newest, "waits for": planned.waits_for or "nothing"}
    return dg.AssetCheckResult(
        passed=late is None, severity=dg.AssetCheckSeverity.WARN, description=late or "no month is late",
        metadata=metadata,
    )  # fmt: skip


newest_month_again = dg.define_asset_job(
    "newest_month_again",
    dg.AssetSelection.checks(newest_month),
    description="Updates `newest_month` on a day on which nothing is run.",
    tags={PURPOSE_TAG: "check whether months come"},
)

# Stopped, like the schedule that runs the months: whoever runs them by hand knows which are missing.
newest_month_schedule = dg.ScheduleDefinition(
    name="newest_month",
    job=newest_month_again,
    cron_schedule="0 7 * * *",
    execution_timezone=CONTRACT.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Each day, looks whether a month is late.",
)
