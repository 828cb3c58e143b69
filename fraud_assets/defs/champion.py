"""`champion`: the promotion decision of a month, and what was live after it."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.decisions.evidence import VERDICT, live_metrics, promotion_signals, shadow_of
from fraud_assets.core.decisions.ledger import metrics_of
from fraud_assets.core.decisions.promotion import PromotionSignals, PromotionVerdict, Shadow
from fraud_assets.core.decisions.why import why_no_challenger
from fraud_assets.core.evaluation.evaluation import CANDIDATES
from fraud_assets.core.lineage.staleness import champion_inputs, evidence_inputs, inputs_of, maturity_inputs
from fraud_assets.core.months import shift_month
from fraud_assets.core.reasons import reasons_to_json
from fraud_assets.defs.partitions import CONTRACT, MONTH_BY_MONTH, MONTHS, bullets, describe, picture, single_month
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.models.approve import let_wait
from fraud_assets.workflows.models.model_card import card_link, publish_card
from fraud_assets.workflows.models.packaged import decide, try_package
from fraud_assets.workflows.models.promote import apply_verdict, package_version


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["trained_model", "drift_report", "challenger_comparison"],
    **describe("champion", "serving", {"mlflow", "postgres"}),
)
@retried
def champion(
    context: dg.AssetExecutionContext, platform: Platform, evaluation: pa.Table, evaluation_segments: pa.Table
) -> Iterator[dg.Output[pa.Table]]:
    """One row is one month: whether its challenger was promoted, why, and which version was live afterwards.

    For ML engineers and auditors. The ledger holds the same decisions as events. The MLflow alias `champion` follows
    the ledger.
    """
    month = single_month(context)
    before, store = platform.champion_before(month), platform.store
    trained = store.read("trained_model", last_month=month)
    drift = store.read("drift_report", VERDICT, first_month=month, last_month=month)
    live_pairs = store.read("challenger_comparison", first_month=month, last_month=month)
    registry, ledger, settings = platform.registry, platform.ledger, platform.settings
    mode, events = settings.promotion_mode, ledger.events()
    candidates = _candidates(
        month, before, evaluation, evaluation_segments, trained, drift, live_pairs,
        shadow=lambda row: shadow_of(events, row["model_version"], row["window_to"], mode),
    )  # fmt: skip
    packaged = partial(try_package, month=month, store=store, registry=registry, settings=settings)
    decided = decide(candidates, packaged, mode)
    # Only where there were challengers: what was decided without them is decided on what it always was.
    beside = [live_pairs] if live_pairs.num_rows else []
    decided_on = inputs_of(evaluation, evaluation_segments, drift, *beside, champion_inputs(month, before))
    evidence = inputs_of(evidence_inputs(CONTRACT), decided_on)
    actor, metrics = f"dagster run {context.run.run_id}", metrics_of(evaluation.to_pylist()) | live_metrics(live_pairs)
    for signals, verdict in decided:
        live = apply_verdict(
            verdict, signals, ledger, registry,
            partial(package_version, registry=registry, settings=settings, ledger=ledger),
            actor=actor, evidence=evidence, metrics=metrics,
        )  # fmt: skip
    let_wait(decided, ledger, mode, evidence, now=datetime.now(UTC), actor=actor)
    # The last one passed, or none did: then the month is that of its newest model.
    passed = decided[-1][1].validation_status == "passed"
    signals, verdict = decided[-1] if passed else decided[0]
    reasons = [reason for _, one in decided for reason in one.reasons]
    # Why there is no challenger is told from the models there are, and from when their months mature.
    told = [trained, maturity_inputs(CONTRACT)] if signals.challenger_version is None else []
    row = _row(month, verdict, signals.challenger_version, live) | {"reasons": reasons_to_json(reasons)}
    compared = {
        row["role"]: row["average_precision"] for row in evaluation.to_pylist() if row["average_precision"] is not None
    }
    yield dg.Output(
        pa.Table.from_pylist([row], schema=platform.store.table("champion").schema),
        metadata={
            "plot": picture(plots.bars(compared, "Average precision behind the decision")),
            # A promotion by hand, or one of an earlier month that is written later, makes the row another.
            "inputs": platform.made_of(decided_on, champion_inputs(shift_month(month, 1), live), *told),
            "champion_version": live,
            "validation_status": verdict.validation_status,
            "fraud_rate": signals.challenger.prevalence if signals.challenger else None,
            "reasons": bullets(one.text for one in reasons),
            "model_card": None if live is None else dg.MetadataValue.url(card_link(platform.registry, live)),
        },
    )
    # What cards say has been stored by now.
    _publish_cards(platform, live, trained, evaluation)


def _candidates(
    month: str, before: int | None, evaluation: pa.Table, segments: pa.Table, trained: pa.Table, drift: pa.Table,
    live: pa.Table, *, shadow: Callable[[Mapping[str, Any]], Shadow | None],
) -> Iterator[PromotionSignals]:  # fmt: skip
    """The challenger, also where there is none, and then those that wait."""
    by_role, rows = {row["role"]: row for row in evaluation.to_pylist()}, trained.to_pylist()
    why_none = why_no_challenger(rows, month, CONTRACT.maturity_days, before, CONTRACT.zone)
    for role in CANDIDATES:
        row = by_role.get(role)
        if row or role == "challenger":
            yield promotion_signals(
                evaluation, segments, month, before,
                contract=CONTRACT, role=role, drift=drift, trained=rows, why_none=why_none,
                shadow=shadow(row) if row else None, live=live,
            )  # fmt: skip


def _row(month: str, verdict: PromotionVerdict, challenger: int | None, live: int | None) -> dict[str, Any]:
    """What the table says of a month, but for the reasons."""
    return {
        "month": date.fromisoformat(f"{month}-01"),
        "validation_status": verdict.validation_status,
        # What a person has decided about the month stands.
        "promoted": verdict.validation_status == "passed" and live == challenger,
        "challenger_version": challenger,
        "champion_version": live,
    }


def _publish_cards(platform: Platform, live: int | None, trained: pa.Table, evaluation: pa.Table) -> None:
    """The cards of the versions that the month says something new of: live, newly trained, or judged."""
    newest = trained.to_pylist()[-1]["model_version"] if trained.num_rows else None
    judged = [row["model_version"] for row in evaluation.to_pylist() if row["role"] != "reference"]
    for version in sorted({version for version in (live, newest, *judged) if version is not None}):
        publish_card(platform.store, platform.ledger, platform.registry, version)
