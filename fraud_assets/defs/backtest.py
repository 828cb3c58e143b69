"""`backtest`: what retraining policies would have brought; made when someone asks, of all its months at once."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.backtest.replay import parse_policies
from fraud_assets.defs.partitions import TRAINING_POOL, describe, picture
from fraud_assets.defs.resources import Platform
from fraud_assets.pages.backtest import backtest_picture, summary_in_words
from fraud_assets.workflows.backtest import backtest_stored


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
    pool=TRAINING_POOL,
    deps=["transaction_features", "fraud_labels"],
    **describe("backtest", "monitoring", {"scikitlearn", "postgres"}),
)
@retried
def backtest(
    context: dg.AssetExecutionContext, platform: Platform, config: BacktestConfig
) -> Iterator[dg.Output[pa.Table] | dg.MaterializeResult[pa.Table]]:
    """One row is one month under one retraining policy, or with kind `total` all months under it.

    For a team that asks whether its drift sensor is worth it. Each run replaces the last result. Name `first` and
    `last` in the launchpad (beside Materialize); a run without them leaves the table as it is.
    """
    if not (config.first or config.last):
        context.log.warning(
            "nothing is replayed: no months were named. Name first and last in the launchpad, or use `fraud backtest`"
        )
        # Not nothing: a backfill of all assets takes what was not materialised for failed.
        yield dg.MaterializeResult(metadata=_told(platform.store.read("backtest").to_pylist()))
        return
    policies = parse_policies(config.policies)
    rows = backtest_stored(platform.settings, config.first, config.last, policies, context.log.info)
    told = _told(rows.to_pylist())
    # No table, so that later months make it not stale: it answers what was asked.
    yield dg.Output(rows, metadata={"inputs": {"question": {"": told["asked"]}}, **told})


def _told(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the rows of a backtest answer, as metadata; that nobody asked yet where there are none."""
    if not rows:
        return {"asked": "nothing yet"}
    months = sorted({f"{row['month']:%Y-%m}" for row in rows})
    policies = dict.fromkeys(row["policy"] for row in rows)
    return {
        "asked": f"{months[0]} to {months[-1]}: {', '.join(policies)}",
        "months": len(months),
        "policies": dg.MetadataValue.md(summary_in_words(rows)),
        "plot": picture(backtest_picture(rows)),
    }
