"""`trained_model`: the challenger of a month, registered in MLflow."""

import json
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.decisions.ledger import validation_metrics
from fraud_assets.core.digests import digest_text
from fraud_assets.core.lineage.configuration import setting_inputs
from fraud_assets.core.lineage.staleness import Inputs, evidence_inputs, inputs_of, maturity_inputs
from fraud_assets.core.lineage.tables.models import trained_model as table
from fraud_assets.core.models.decision_rule import promise_in_words
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.models.train_month import train_month
from fraud_assets.core.models.training import TrainingError, TrainingResult, in_words
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.windows import training_months
from fraud_assets.defs.partitions import (
    CONTRACT,
    MONTH_BY_MONTH,
    MONTHS,
    TRAINING_POOL,
    describe,
    picture,
    single_month,
)
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.models.model_card import card_link
from fraud_assets.workflows.models.truth import follow_registration
from fraud_assets.workflows.scores import drawn_in


@dg.asset(
    pool=TRAINING_POOL,
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["transaction_features", "fraud_labels"],
    **describe("trained_model", "models", {"scikitlearn", "mlflow", "postgres"}),
)
@retried
def trained_model(context: dg.AssetExecutionContext, platform: Platform) -> dg.Output[pa.Table]:
    """One row is one month: the model trained on what was known at the month's end, or why there is none.

    For ML engineers. The model itself is in the MLflow registry under `model_version`. The same inputs give the same
    model, so a month whose inputs have not changed keeps its version.
    """
    month = single_month(context)
    settings, contract, store = platform.settings, platform.contract, platform.store
    store.require("transaction_features", month)
    config = settings.training
    first, last = training_months(month, config.window_months, contract.first_month)
    features = store.read("transaction_features", first_month=first, last_month=last)
    statements = store.read("fraud_labels", first_month=first, last_month=last)
    drawn, let_through = drawn_in(store, first, last)
    inputs = platform.made_of(
        features, statements, let_through, setting_inputs("training", config), setting_inputs("costs", config.costs),
        maturity_inputs(contract),
    )  # fmt: skip
    evidence = inputs_of(
        evidence_inputs(contract), features, statements, let_through, {"training": {"": config.digest}}
    )
    made_of = digest_text(json.dumps(evidence, sort_keys=True))
    as_of = contract.month_end(month)
    base = {"month": date.fromisoformat(f"{month}-01"), "as_of": as_of, "inputs_digest": made_of}
    kept = _unchanged(platform, month, made_of)
    if kept is not None:
        outcome = "inputs unchanged; the earlier version was kept"
        return dg.Output(kept, metadata={"outcome": outcome, "inputs": inputs})
    try:
        result = train_month(
            month, features, statements, contract, config, workers=settings.training_workers, drawn=drawn
        )
    except TrainingError as error:
        context.log.warning(f"{month}: {error}")
        row = base | {"status": "insufficient_data", "reason": str(error)}
        return dg.Output(_table([row]), metadata={"outcome": str(error), "inputs": inputs})
    reason = in_words(result.chosen)
    manifest, run_id = _register(context, platform, month, result, reason, evidence)
    row = base | _trained_row(result, manifest) | {"reason": reason, "mlflow_run_id": run_id}
    return dg.Output(
        _table([row]),
        metadata={
            "outcome": f"version {manifest.model_version}: {reason}",
            "mlflow_run_id": run_id,
            "model_card": dg.MetadataValue.url(card_link(platform.registry, manifest.model_version)),
            "inputs": inputs,
            **_shown(result),
        },
    )


def _register(
    context: dg.AssetExecutionContext, platform: Platform, month: str, result: TrainingResult, reason: str,
    evidence: Inputs,
) -> tuple[ModelManifest, str]:  # fmt: skip
    """Registers a model and says so in the ledger: its manifest, and the MLflow run."""
    settings = platform.settings
    with platform.registry.run(context.run, name=f"trained_model {month}", log=context.log) as tracking:
        manifest = platform.registry.register(
            tracking, result, month=month,
            contract_yaml=settings.contract_path.read_text(encoding="utf-8"), config=settings.training,
        )  # fmt: skip
        run_id = tracking.active_run().info.run_id
    platform.ledger.record(
        "registered",
        manifest.model_version,
        month,
        [Reason(Rule.TRAINED, reason)],
        actor=f"dagster run {context.run.run_id}",
        evidence=evidence,
        metrics=validation_metrics(result.chosen.validation_metrics()),
        digests=manifest.digests,
    )
    follow_registration(platform.ledger, platform.registry)
    return manifest, run_id


def _trained_row(result: TrainingResult, manifest: ModelManifest) -> dict[str, Any]:
    """What the table says of a model that was registered."""
    return {
        "status": "trained",
        "model_name": manifest.model_name,
        "model_version": manifest.model_version,
        "family": manifest.family,
        "training_from": result.training_from,
        "training_to": result.training_to,
        "n": result.n,
        "n_fraud": result.n_fraud,
        "validation_average_precision": result.chosen.average_precision,
        "threshold": manifest.threshold,
        "model_digest": manifest.model_digest,
        **result.chosen.rule.as_row(),
    }


def _shown(result: TrainingResult) -> dict[str, Any]:
    """What the asset's page says of a training."""
    validated = {f"{trial.setting.family}, {trial.setting.name}": trial.average_precision for trial in result.trials}
    return {
        "plot": picture(plots.bars(validated, "Average precision on the out-of-time validation part")),
        "fraud_rate": result.n_fraud / result.n,
        "not_used": {name: f"{name} {why}" for name, why in result.encoder.unused.items()},
        "rule": result.chosen.rule.sentence,
        "promised": dg.MetadataValue.md(promise_in_words(result.chosen.rule)),
        "calibration": result.chosen.calibration.calibrator.method,
        **result.chosen.validation_metrics(),
    }


def _unchanged(platform: Platform, month: str, made_of: str) -> pa.Table | None:
    """The month's row, if it holds a registered model that was made from these inputs."""
    there = platform.store.read("trained_model", first_month=month, last_month=month)
    rows = there.to_pylist()
    if not rows or rows[0]["inputs_digest"] != made_of or rows[0]["model_version"] is None:
        return None
    return there if platform.registry.has(rows[0]["model_version"]) else None


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=table(CONTRACT).schema)
