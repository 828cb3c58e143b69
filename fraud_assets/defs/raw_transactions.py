"""`raw_transactions` and `quarantined_transactions`: a month's delivery after the contract."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

from fraud_assets.core import plots
from fraud_assets.core.intake import accept
from fraud_assets.core.tables import TIMESTAMP
from fraud_assets.defs.partitions import MONTHS, RANGE_IN_ONE_RUN, describe, month_column, picture
from fraud_assets.defs.resources import Platform


@dg.multi_asset(
    outs={
        # First, so that a bad row is safe before the month without it becomes visible.
        "quarantined_transactions": dg.AssetOut(
            description="One row is one delivered row that broke the contract, with its reasons and original values; "
            "for whoever owns the source.",
            **describe("quarantined_transactions", "transactions", {"postgres"}),
        ),
        "raw_transactions": dg.AssetOut(
            description="One row is one transaction as the source delivered it, under the platform's names and in UTC; "
            "for everyone downstream. Labels are not here: they become known later (`fraud_labels`).",
            **describe("raw_transactions", "transactions", {"postgres"}),
        ),
    },
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    check_specs=[
        dg.AssetCheckSpec(
            "keeps_contract", asset="raw_transactions", description="No delivered row broke the contract."
        )
    ],
)
def raw_transactions(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[pa.Table] | dg.AssetCheckResult]:
    """Reads the months from the source and splits their rows into accepted and quarantined ones."""
    months = list(context.partition_keys)
    taken = {month: accept(platform.source.read(month), platform.contract, month) for month in months}
    bad = pa.concat_tables(
        [month_column(intake.quarantined, [month] * intake.quarantined.num_rows) for month, intake in taken.items()]
    )
    good = pa.concat_tables([intake.transactions for intake in taken.values()])
    # The clock enters here, not in core: when a row was taken in is no property of the row.
    good = good.append_column("ingested_at", pa.array([datetime.now(UTC)] * good.num_rows, TIMESTAMP))
    reasons = sum((Counter(intake.reason_counts) for intake in taken.values()), Counter())
    stated = pa.concat_tables([intake.statements for intake in taken.values()])
    yield dg.Output(
        bad,
        "quarantined_transactions",
        metadata={
            "reasons": dict(reasons),
            "plot": picture(
                plots.bars({rule: float(rows) for rule, rows in reasons.items()}, "Quarantined rows by reason")
            ),
        },
    )
    yield dg.Output(
        good,
        "raw_transactions",
        metadata={
            "fraud_rate": stated.num_rows / max(good.num_rows, 1),
            "quarantined": bad.num_rows,
            "plot": picture(
                plots.daily_counts(good["event_timestamp"], "Transactions a day", stated["event_timestamp"])
            ),
        },
    )
    yield dg.AssetCheckResult(
        asset_key="raw_transactions",
        check_name="keeps_contract",
        passed=bad.num_rows == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"quarantined": bad.num_rows, "reasons": dict(reasons)},
    )
