"""`champion`: the promotion decision of a month, and what was live after it."""

from datetime import date

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.promotion import apply_verdict
from fraud_assets.core import plots
from fraud_assets.core.evaluation import promotion_signals
from fraud_assets.core.months import shift_month
from fraud_assets.core.promotion import decide_promotion
from fraud_assets.core.staleness import champion_inputs
from fraud_assets.defs.partitions import MONTH_BY_MONTH, MONTHS, describe, picture, single_month
from fraud_assets.defs.resources import Platform


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    **describe("champion", "serving", {"mlflow", "postgres"}),
)
def champion(context: dg.AssetExecutionContext, platform: Platform, evaluation: pa.Table) -> dg.Output[pa.Table]:
    """One row is one month: whether its challenger was promoted and why, and the version that was live after it.

    For the ML engineer and the auditor. The ledger holds the same decisions as events; the MLflow alias `champion`
    follows the ledger.
    """
    month = single_month(context)
    before = platform.champion_before(month)
    signals = promotion_signals(evaluation, month, before)
    verdict = decide_promotion(signals)
    evidence = platform.made_of(evaluation, champion_inputs(month, before))
    actor = f"dagster run {context.run.run_id}"
    live = apply_verdict(verdict, signals, platform.ledger, platform.registry, actor=actor, evidence=evidence)
    row = {
        "month": date.fromisoformat(f"{month}-01"),
        "validation_status": verdict.validation_status,
        # What a person has decided about the month stands.
        "promoted": verdict.promote and live == signals.challenger_version,
        "reasons": "\n".join(verdict.reasons),
        "challenger_version": signals.challenger_version,
        "champion_version": live,
    }
    compared = {row["role"]: row["average_precision"] for row in evaluation.to_pylist()}
    return dg.Output(
        pa.Table.from_pylist([row], schema=platform.store.table("champion").schema),
        metadata={
            # A promotion by hand, or one of an earlier month that is written later, makes the row another.
            "inputs": platform.made_of(evidence, champion_inputs(shift_month(month, 1), live)),
            "champion_version": live,
            "validation_status": verdict.validation_status,
            "fraud_rate": signals.challenger.prevalence if signals.challenger else None,
            "reasons": dg.MetadataValue.md("\n".join(f"- {reason}" for reason in verdict.reasons)),
            "plot": picture(plots.bars(compared, "Average precision behind the decision")),
        },
    )
