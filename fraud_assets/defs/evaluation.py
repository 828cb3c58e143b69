"""`evaluation` and `evaluation_segments`: is the live model still good, everywhere, and is a newer one better?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.retries import retried
from fraud_assets.core.decisions.evidence import shadow_of
from fraud_assets.core.decisions.why import why_no_challenger
from fraud_assets.core.evaluation.evaluation import (
    CANDIDATES,
    Compared,
    EvaluationError,
    KnownRows,
    Reviewed,
    Role,
    ScoredWindow,
    compare,
    evaluation_rows,
    nothing_judged,
    score_window,
    segment_rows,
    window_segments,
    with_pairs,
    with_parts,
)
from fraud_assets.core.evaluation.pair import LOOKED_AT, choose_waiting, look_number
from fraud_assets.core.evaluation.segments import Segment, segment_attributes, segments_in_words
from fraud_assets.core.evaluation.thresholds import (
    calibration_bins,
    capacity_curve,
    precision_recall_curve,
    threshold_rows,
)
from fraud_assets.core.lineage.configuration import setting_inputs
from fraud_assets.core.lineage.staleness import Inputs, champion_inputs, inputs_of, maturity_inputs
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.months import shift_month
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.windows import (
    MINIMUM_FRAUDS,
    Comparison,
    TrainedMonth,
    choose_comparison,
    pair_window,
    when_enough,
)
from fraud_assets.defs.partitions import (
    CONTRACT,
    MONTH_BY_MONTH,
    MONTHS,
    describe,
    picture,
    single_month,
)
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots

ATTRIBUTES = segment_attributes(CONTRACT)
DEPENDENCIES = ["transaction_features", "fraud_labels", "trained_model"]


@dg.multi_asset(
    outs={
        "evaluation_segments": dg.AssetOut(
            description="One row is one model on one segment of the evaluation's window (a merchant segment, a band of "
            "amounts, new customers, weekends). For data scientists who look for a model's weak points.",
            **describe("evaluation_segments", "models", {"postgres"}),
        ),
        "evaluation": dg.AssetOut(
            description="One row is one model (champion, challenger, waiting, reference) on the transactions that "
            "matured in the month; where these have few frauds, also on those of the months before. For data "
            "scientists and the promotion decision. All roles are judged on the same transactions, all from after the "
            "as-of time of every model, with labels as known at the month's end. If no model can be judged, one row "
            "with role `none` says why.",
            **describe("evaluation", "models", {"postgres"}),
        ),
    },
    partitions_def=MONTHS,
    backfill_policy=MONTH_BY_MONTH,
    # Attributes are no features, and so not among them.
    deps=[*DEPENDENCIES, "raw_transactions"] if ATTRIBUTES else DEPENDENCIES,
)
@retried
def evaluation(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.Output[pa.Table]]:
    """Judges the models of earlier months on matured transactions, as a whole and by segment."""
    month = single_month(context)
    platform.store.require("transaction_features", month)
    live = platform.champion_before(month)
    trained = platform.store.read(
        "trained_model", ["month", "model_version", "reason"], last_month=shift_month(month, -1)
    )
    inputs = platform.made_of(trained, champion_inputs(month, live), maturity_inputs(CONTRACT))
    known = KnownRows(
        lambda table, first, last: platform.store.read(table, first_month=first, last_month=last), CONTRACT, month
    )
    models = _models(platform, month, live, trained, known)
    if not models.scorers:
        reason = why_no_challenger(trained.to_pylist(), month, CONTRACT.maturity_days, live, CONTRACT.zone)
        yield from _nothing(platform, month, reason or "no model is old enough to be judged yet", inputs)
        return
    first, window, features = known.first, models.compared.window, known.features
    entities, last = ["event_timestamp", *CONTRACT.entities], shift_month(first, -1)
    before = platform.store.read("transaction_features", entities, first_month=last, last_month=last)
    raw = None
    if ATTRIBUTES:
        columns = ["transaction_id", *ATTRIBUTES]
        raw = platform.store.read("raw_transactions", columns, first_month=first, last_month=month)
    inputs = inputs_of(inputs, *known.parts, before, *models.earlier, *([raw] if raw else []))
    try:
        scored = score_window(features, known.labels, models.scorers, window, CONTRACT)
    except EvaluationError as error:
        context.log.warning(f"{month}: {error}")
        yield from _nothing(platform, month, str(error), inputs)
        return
    segments = window_segments(scored, window, CONTRACT, history=[before, features.select(entities)], raw=raw)
    pairs = _pairs(platform, month, known, models, scored, segments)
    parts = segment_rows(
        scored, models.scorers, segments, month=month, schema=platform.store.table("evaluation_segments").schema
    )
    costs = platform.settings.costs
    rows = evaluation_rows(
        scored, models.scorers, month=month, as_of=CONTRACT.month_end(month), window=window, costs=costs,
        schema=platform.store.table("evaluation").schema,
    )  # fmt: skip
    judged_by = setting_inputs("costs", costs)
    if pairs:
        capacity: Inputs = {"training": {"review_capacity": str(platform.settings.review_capacity)}}
        inputs = inputs_of(inputs, *known.parts, capacity, judged_by)
        parts, rows = with_parts(parts, pairs), with_pairs(rows, pairs)
    yield dg.Output(
        parts, "evaluation_segments",
        metadata={"inputs": inputs, "segments": dg.MetadataValue.md(segments_in_words(parts))},
    )  # fmt: skip
    inputs = inputs_of(inputs, judged_by)
    yield dg.Output(rows, "evaluation", metadata={"inputs": inputs, **_shown(rows, scored, models, costs)})


@dataclass(frozen=True)
class _Models:
    """The models that are judged.

    Attributes:
        scorers: by role.
        compared: the window on which all of them can be judged, whose rows are read.
        earlier: the earlier evaluations of the champion, where there is one and a challenger.
    """

    scorers: dict[Role, Scorer]
    compared: Comparison
    earlier: tuple[pa.Table, ...]


def _pairs(
    platform: Platform,
    month: str,
    known: KnownRows,
    models: _Models,
    scored: ScoredWindow,
    segments: Sequence[Segment],
) -> list[Compared]:
    """How the candidates compare with the champion, each on all windows since both were there."""
    candidates = [role for role in CANDIDATES if role in models.scorers]
    if "champion" not in models.scorers:
        return []
    live, window = models.scorers["champion"].manifest, models.compared.window
    looked_at = [row for table in models.earlier for row in table.to_pylist()]
    events = platform.ledger.events()
    found = []
    for role in candidates:
        manifest = models.scorers[role].manifest
        since = CONTRACT.month_end(max(manifest.trained_month, live.trained_month))
        shadow = shadow_of(events, manifest.model_version, window.end, platform.settings.promotion_mode)
        if shadow and (shadow.since is None or shadow.days < shadow.needed):
            # What is not looked at spends nothing.
            continue
        since = max(since, shadow.since) if shadow and shadow.since else since
        together = pair_window(window, month, CONTRACT.maturity_days, since, CONTRACT.zone)
        paired = scored
        if together != window:
            known.reach(together)
            both: dict[Role, Scorer] = {one: models.scorers[one] for one in ("champion", role)}
            paired = score_window(known.features, known.labels, both, together, CONTRACT)
        found.append(
            compare(
                paired, scored, segments, models.scorers, role, since=together.start,
                reviews=Reviewed(platform.settings.review_capacity, platform.settings.costs),
                look=look_number(looked_at, live.model_version, manifest.model_version),
            )
        )  # fmt: skip
    return found


def _nothing(platform: Platform, month: str, outcome: str, inputs: Any) -> Iterator[dg.Output[pa.Table]]:
    schemas = {name: platform.store.table(name).schema for name in ("evaluation_segments", "evaluation")}
    metadata = {"outcome": outcome, "inputs": inputs}
    yield dg.Output(schemas["evaluation_segments"].empty_table(), "evaluation_segments", metadata=metadata)
    row = nothing_judged(month, CONTRACT.month_end(month), outcome, schemas["evaluation"])
    yield dg.Output(row, "evaluation", metadata=metadata)


def _outcome(n_models: int, n: int, compared: Comparison) -> str:
    window, n_fraud = compared.window, compared.n_fraud
    said = f"{n_models} models on {n:,} transactions since {window.start.astimezone(CONTRACT.zone):%Y-%m-%d}"
    if n_fraud >= MINIMUM_FRAUDS:
        return said
    when = when_enough(n_fraud, MINIMUM_FRAUDS, window, CONTRACT.maturity_days, CONTRACT.zone)
    return f"{said}; not enough to promote on yet: {n_fraud} of {MINIMUM_FRAUDS} frauds; {when}"


def _shown(rows: pa.Table, scored: ScoredWindow, judging: _Models, costs: Costs) -> dict[str, Any]:
    """What the UI shows of an evaluation: figures, choices of a threshold, curves."""
    models = judging.scorers
    found = {row["role"]: row for row in rows.to_pylist()}
    names: dict[Role, str] = {role: f"{role} v{scorer.manifest.model_version}" for role, scorer in models.items()}
    flagging = {role: scored.flagging(role, costs) for role in models}
    judged = [role for role in models if role != "reference"]
    bins = {names[role]: calibration_bins(scored.y, scored.scores[role], scored.cards) for role in judged}
    choices = [
        {"model": names[role], **choice}
        for role in judged
        for choice in threshold_rows(flagging[role], models[role].manifest.threshold)
    ]
    intervals = [
        (names[role], *(found[role][f"average_precision{end}"] for end in ("", "_low", "_high"))) for role in models
    ]
    first = found[judged[0]]
    return {
        "outcome": _outcome(len(found), first["n"], judging.compared),
        "fraud_rate": first["prevalence"],
        **{f"average_precision_{role}": row["average_precision"] for role, row in found.items()},
        "thresholds": dg.MetadataValue.table(
            [dg.TableRecord(choice) for choice in choices],
            # Without it the columns are in alphabetical order.
            dg.TableSchema([dg.TableColumn(name) for name in choices[0]]),
        ),
        "plot": picture(
            plots.intervals(intervals, "Average precision with 95 % interval (dashed: chance)", first["prevalence"])
        ),
        "curves": picture(
            plots.model_curves(
                {names[role]: precision_recall_curve(scored.y, scored.scores[role]) for role in models},
                {name: calibration for name, calibration in bins.items() if calibration is not None},
                {names[role]: capacity_curve(flagging[role]) for role in models},
                prevalence=first["prevalence"],
                reviewed=first["alerts_per_day"],
            )
        ),
    }


def _models(platform: Platform, month: str, champion: int | None, trained: pa.Table, known: KnownRows) -> _Models:
    """Who is judged: the champion, the newest model that can be, and one that is looked at again."""
    candidates = [
        TrainedMonth(f"{row['month']:%Y-%m}", row["model_version"], CONTRACT.zone)
        for row in trained.to_pylist()
        if row["model_version"] is not None
    ]
    models: dict[Role, Scorer] = {}
    live = None
    if champion is not None:
        models["champion"] = Scorer(*platform.registry.fetch(champion))
        live = TrainedMonth(models["champion"].manifest.trained_month, champion, CONTRACT.zone)
    compared = choose_comparison(candidates, month, CONTRACT.maturity_days, live, known.frauds, CONTRACT.zone)
    newest, earlier = compared.challenger, list[pa.Table]()
    if newest is not None:
        models["challenger"] = Scorer(*platform.registry.fetch(newest.version))
    if newest is not None and live is not None:
        first, last = shift_month(live.month, 1), shift_month(month, -1)
        earlier.append(platform.store.read("evaluation", LOOKED_AT, first_month=first, last_month=last))
        between = {model.version for model in candidates if live.month < model.month < newest.month}
        if (waiting := choose_waiting(earlier[0].to_pylist(), live.version, between)) is not None:
            models["waiting"] = Scorer(*platform.registry.fetch(waiting))
    if models:
        last_trained = max((scorer.manifest for scorer in models.values()), key=lambda one: one.trained_month)
        models["reference"] = Scorer(*platform.registry.fetch(last_trained.model_version, "reference"))
    return _Models(models, compared, tuple(earlier))
