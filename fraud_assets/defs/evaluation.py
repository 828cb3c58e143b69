"""`evaluation`: is the live model still good, and is a newer one better?"""

import dagster as dg
import pyarrow as pa

from fraud_assets.core import plots
from fraud_assets.core.evaluation import EvaluationError, Role, evaluate_models
from fraud_assets.core.labels import labels_as_of
from fraud_assets.core.months import shift_month
from fraud_assets.core.scoring import Scorer
from fraud_assets.core.staleness import champion_inputs, inputs_of
from fraud_assets.core.windows import TrainedMonth, Window, choose_challenger, evaluation_window
from fraud_assets.defs.partitions import (
    CONTRACT,
    MONTH_BY_MONTH,
    MONTHS,
    describe,
    picture,
    single_month,
)
from fraud_assets.defs.resources import Platform


@dg.asset(
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    deps=["transaction_features", "fraud_labels", "trained_model"],
    **describe("evaluation", "models", {"postgres"}),
)
def evaluation(context: dg.AssetExecutionContext, platform: Platform) -> dg.Output[pa.Table]:
    """One row is one model (champion, challenger, reference) on the transactions that matured in the month.

    For data scientists and the promotion decision. All roles are judged on the same transactions, all of them from
    after the as-of time of every model, with labels as known at the month's end.
    """
    month = single_month(context)
    platform.store.require("transaction_features", month)
    schema = platform.store.table("evaluation").schema
    before = platform.champion_before(month)
    trained = platform.store.read("trained_model", ["month", "model_version"], last_month=shift_month(month, -1))
    inputs = platform.made_of(trained, champion_inputs(month, before))
    models, window = _models(platform, month, before, trained)
    if not models:
        outcome = "no model is old enough to be judged yet"
        return dg.Output(schema.empty_table(), metadata={"outcome": outcome, "inputs": inputs})
    first = CONTRACT.month_of(window.start)
    features = platform.store.read("transaction_features", first_month=first, last_month=month)
    statements = platform.store.read("fraud_labels", first_month=first, last_month=month)
    inputs = inputs_of(inputs, features, statements)
    as_of = CONTRACT.month_end(month)
    labels = labels_as_of(features, statements, as_of, maturity_days=CONTRACT.maturity_days)
    try:
        rows = evaluate_models(features, labels, models, month=month, as_of=as_of, window=window, schema=schema)
    except EvaluationError as error:
        context.log.warning(f"{month}: {error}")
        return dg.Output(schema.empty_table(), metadata={"outcome": str(error), "inputs": inputs})
    found = rows.to_pylist()
    shown = [
        (f"{row['role']} v{row['model_version']}", *(row[f"average_precision{end}"] for end in ("", "_low", "_high")))
        for row in found
    ]
    return dg.Output(
        rows,
        metadata={
            "inputs": inputs,
            "outcome": f"{len(found)} models on {found[0]['n']:,} transactions",
            "fraud_rate": found[0]["prevalence"],
            **{f"average_precision_{row['role']}": row["average_precision"] for row in found},
            "plot": picture(
                plots.intervals(shown, "Average precision with 95 % interval (dashed: chance)", found[0]["prevalence"])
            ),
        },
    )


def _models(
    platform: Platform, month: str, champion: int | None, trained: pa.Table
) -> tuple[dict[Role, Scorer], Window]:
    """The scorers by role, and the window on which all of them can be judged."""
    candidates = [
        TrainedMonth(f"{row['month']:%Y-%m}", row["model_version"], CONTRACT.zone)
        for row in trained.to_pylist()
        if row["model_version"] is not None
    ]
    challenger = choose_challenger(candidates, month, CONTRACT.maturity_days, champion, CONTRACT.zone)
    models: dict[Role, Scorer] = {}
    if champion is not None:
        models["champion"] = Scorer(*platform.registry.fetch(champion))
    if challenger is not None:
        models["challenger"] = Scorer(*platform.registry.fetch(challenger.version))
    compared = [
        TrainedMonth(scorer.manifest.trained_month, scorer.manifest.model_version, CONTRACT.zone)
        for scorer in models.values()
    ]
    window = evaluation_window(month, CONTRACT.maturity_days, compared, CONTRACT.zone)
    if compared:
        newest = max(compared, key=lambda model: model.as_of)
        models["reference"] = Scorer(*platform.registry.fetch(newest.version, "reference"))
    return models, window
