"""`champion`: the promotion decision of a month, and what was live after it."""

from datetime import date
from functools import partial

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.decisions.promotion import decide_promotion, promotion_signals
from fraud_assets.core.decisions.why import why_no_challenger
from fraud_assets.core.lineage.staleness import champion_inputs, evidence_inputs, inputs_of, maturity_inputs
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import reasons_to_json
from fraud_assets.defs.partitions import CONTRACT, MONTH_BY_MONTH, MONTHS, bullets, describe, picture, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.models.promote import apply_verdict, package_version


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["trained_model"],
    **describe("champion", "serving", {"mlflow", "postgres"}),
)
@retried
def champion(context: dg.AssetExecutionContext, platform: Platform, evaluation: pa.Table) -> dg.Output[pa.Table]:
    """One row is one month: whether its challenger was promoted, why, and which version was live afterwards.

    For ML engineers and auditors. The ledger holds the same decisions as events. The MLflow alias `champion` follows
    the ledger.
    """
    month = single_month(context)
    before = platform.champion_before(month)
    trained = platform.store.read("trained_model", last_month=month)
    why_none = why_no_challenger(trained.to_pylist(), month, CONTRACT.maturity_days, before, CONTRACT.zone)
    signals = promotion_signals(evaluation, month, before, why_none)
    verdict = decide_promotion(signals)
    decided_on = inputs_of(evaluation, champion_inputs(month, before))
    evidence = inputs_of(evidence_inputs(CONTRACT), decided_on)
    actor = f"dagster run {context.run.run_id}"
    package = partial(package_version, registry=platform.registry, settings=platform.settings)
    live = apply_verdict(verdict, signals, platform.ledger, platform.registry, package, actor=actor, evidence=evidence)
    # Why there is no challenger is told from the models there are, and from when their months mature.
    told = [trained, maturity_inputs(CONTRACT)] if signals.challenger_version is None else []
    row = {
        "month": date.fromisoformat(f"{month}-01"),
        "validation_status": verdict.validation_status,
        # What a person has decided about the month stands.
        "promoted": verdict.promote and live == signals.challenger_version,
        "reasons": reasons_to_json(verdict.reasons),
        "challenger_version": signals.challenger_version,
        "champion_version": live,
    }
    compared = {
        row["role"]: row["average_precision"] for row in evaluation.to_pylist() if row["average_precision"] is not None
    }
    return dg.Output(
        pa.Table.from_pylist([row], schema=platform.store.table("champion").schema),
        metadata={
            "plot": picture(plots.bars(compared, "Average precision behind the decision")),
            # A promotion by hand, or one of an earlier month that is written later, makes the row another.
            "inputs": platform.made_of(decided_on, champion_inputs(shift_month(month, 1), live), *told),
            "champion_version": live,
            "validation_status": verdict.validation_status,
            "fraud_rate": signals.challenger.prevalence if signals.challenger else None,
            "reasons": bullets(one.text for one in verdict.reasons),
        },
    )
