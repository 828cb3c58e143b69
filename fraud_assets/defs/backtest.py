"""`backtest`: what retraining policies would have brought; made when someone asks, of all its months at once."""

from collections.abc import Iterator

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.backtest import backtest_picture, backtest_stored, summary_in_words
from fraud_assets.core.months import months_between
from fraud_assets.core.replay import parse_policies
from fraud_assets.defs.partitions import describe, picture
from fraud_assets.defs.resources import Platform


class BacktestConfig(dg.Config):
    """What is replayed; nothing where no months are named, as in a backfill of all assets.

    Attributes:
        first: the first month in which models are live, YYYY-MM.
        last: the last one.
        policies: names with commas between them, as for `fraud backtest`.
    """

    first: str = ""
    last: str = ""
    policies: str = "never,monthly,on-drift"


@dg.asset(
    deps=["transaction_features", "fraud_labels"],
    output_required=False,
    **describe("backtest", "monitoring", {"scikitlearn", "postgres"}),
)
def backtest(
    context: dg.AssetExecutionContext, platform: Platform, config: BacktestConfig
) -> Iterator[dg.Output[pa.Table]]:
    """One row is one month under one retraining policy, or with kind `total` all months under it.

    For a team that asks whether its drift sensor is worth anything. Each run replaces the one before. To ask, name
    `first` and `last` in the launchpad (beside Materialize); without months a run leaves it as it is.
    """
    if not (config.first or config.last):
        context.log.warning(
            "nothing is replayed: no months were named. Name first and last in the launchpad, or use `fraud backtest`"
        )
        return
    policies = parse_policies(config.policies)
    rows = backtest_stored(platform.settings, config.first, config.last, policies, context.log.info)
    found = rows.to_pylist()
    asked = f"{config.first} to {config.last}: {', '.join(policy.name for policy in policies)}"
    yield dg.Output(
        rows,
        metadata={
            # No table, so that later months make it not stale: it answers what was asked.
            "inputs": {"question": {"": asked}},
            "asked": asked,
            "months": len(months_between(config.first, config.last)),
            "policies": dg.MetadataValue.md(summary_in_words(found)),
            "plot": picture(backtest_picture(found)),
        },
    )
