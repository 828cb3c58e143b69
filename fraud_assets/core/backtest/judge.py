"""The backtest: what retraining policies would have brought over some months, judged with what became known later.

Models and drift reports as of each month's end, the figures of each policy with their intervals, and the rows that
are stored belong here. What a policy decides is in `replay.py`, training in `models/training.py`, reports in
`monitoring/month.py`, where months come from in `workflows/backtest.py`.

The question is what retraining brings. A new model therefore goes live at once, in the month after its as-of time:
the promotion gate (`decisions/promotion.py`), which waits until a model can be judged, is no part of the replay, and
neither are the limits on attempts of `decisions/retraining.py`. Transactions are those that are stored now; one that
was delivered again is taken as it was delivered last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.backtest.replay import Policy, Step, replay
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.evaluation.evaluation import EvaluationError, score_window
from fraud_assets.core.evaluation.segments import segment_attributes
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.needs import MonthRows, Needed, fewest
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.models.train_month import manifest_of, train_month
from fraud_assets.core.models.training import TrainingError
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.monitoring.month import MonthReport, report_month
from fraud_assets.core.monitoring.outcomes import STATEMENT
from fraud_assets.core.monitoring.plan import (
    Champion,
    EarlierReport,
    Subject,
    attributes_compared,
    first_months,
    plan_report,
)
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.reasons import Reason, Rule, reasons_to_json
from fraud_assets.core.statistics.bootstrap import (
    Bools,
    Codes,
    Floats,
    Interval,
    PrecisionLadder,
    card_codes,
    dense,
    identifier_codes,
    independent_cards,
    percentile_interval,
    ratio,
    resamples,
)
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.core.windows import month_window, training_months

# As many as a decision needs (`metrics.paired_ap_difference`).
REPLICATES = 1000
TOTAL, MONTH = "total", "month"

ToOnnx = Callable[[Any, int], bytes]
Tell = Callable[[str], None]


class BacktestError(ValueError):
    """Months over which nothing can be replayed; the message says which and what to do."""


# As of each month's end


def backtest_needs(
    first: str, last: str, known: str, *, first_month: str, config: TrainingConfig, contract: Contract
) -> tuple[Needed, ...]:
    """The rows that a replay takes, whatever the policies decide in it.

    Args:
        first: the first month in which models are live.
        last: the last one.
        known: the month at whose end labels are taken to judge with.
        first_month: the first month there is.
        config: how models are trained.
        contract: of the source.
    """
    trained_from, _ = training_months(shift_month(first, -1), config.window_months, first_month)
    begin = first_months(first, trained_from, contract)
    # Which transactions were looked into matters where the others are not known; attributes are found by the ids.
    attributes = dict.fromkeys([*attributes_compared(contract), *segment_attributes(contract)])
    ids = ("transaction_id",) if attributes or contract.label.blank == "unknown" else ()
    return fewest(
        [
            Needed("transaction_features", ("event_timestamp",), first_month, first_month),
            Needed("transaction_features", features_columns(contract), begin["transaction_features"], last),
            Needed("fraud_labels", (*STATEMENT, *contract.entities), begin["fraud_labels"], known),
            Needed("raw_transactions", ("event_timestamp",), begin["raw_transactions"], last),
            *([Needed("raw_transactions", (*ids, *attributes), begin["fraud_labels"], last)] if ids else []),
        ],
        contract,
    )


def features_columns(contract: Contract) -> tuple[str, ...]:
    """All columns of the table of features."""
    return tuple(TABLES["transaction_features"](contract).schema.names)


@dataclass
class History:
    """Models and reports as of the months' ends, each made at most once, whichever policies ask for it.

    Attributes:
        rows: at least those of `backtest_needs`.
        contract: of the source.
        contract_yaml: its text.
        first_month: the first month there is.
        config: how models are trained.
        drift: limits of the drift tests.
        to_onnx: makes of an estimator with so many features what is served.
        tell: is told what is being done.
        workers: processes that may fit at once.
    """

    rows: MonthRows
    contract: Contract
    contract_yaml: str
    first_month: str
    config: TrainingConfig
    drift: DriftConfig
    costs: Costs
    to_onnx: ToOnnx
    tell: Tell = lambda _: None
    workers: int = 1
    _models: dict[str, Champion | str] = field(default_factory=dict, init=False)
    _reports: dict[tuple[str, ...], MonthReport] = field(default_factory=dict, init=False)
    _first_event: datetime | None = field(default=None, init=False)

    def train(self, month: str) -> str | None:
        """Trains as of a month's end, on what the `trained_model` asset would use; gives why that is not possible."""
        if month not in self._models:
            self.tell(f"{month}: training as of its end")
            self._models[month] = self._trained(month)
        made = self._models[month]
        return made if isinstance(made, str) else None

    def model(self, month: str) -> Champion:
        """The model that was trained as of a month's end.

        Raises:
            BacktestError: when none can be trained.
        """
        if (problem := self.train(month)) is not None:
            raise BacktestError(
                f"no model can be trained as of the end of {month}: {problem}; begin the backtest in a later month"
            )
        made = self._models[month]
        assert isinstance(made, Champion)  # noqa: S101 - what `train` found
        return made

    def report(self, steps: Sequence[Step], month: str, trained: str) -> MonthReport:
        """A month's drift report about a model, as of the month's end.

        It looks at the reports of the months before, so it is another one where other models were live in them.
        """
        key = (*(step.trained for step in steps), trained, month)
        if key not in self._reports:
            self.tell(f"{month}: drift report about the model of {trained}")
            rows = self.rows.until(month)
            subject = Subject(
                month=month,
                current=rows.of(self._features(month, month)),
                champion=self.model(trained),
                first_event=self._first(rows),
                earlier={
                    step.month: EarlierReport(
                        step.report.champion_version, step.report.verdict.drift_status, step.report.findings
                    )
                    for step in steps
                },
                contract=self.contract,
            )
            self._reports[key] = report_month(plan_report(subject, rows), rows, config=self.drift, costs=self.costs)
        return self._reports[key]

    def _features(self, first: str, last: str) -> Needed:
        return Needed("transaction_features", features_columns(self.contract), first, last)

    def _first(self, rows: MonthRows) -> datetime | None:
        if self._first_event is None:
            first = Needed("transaction_features", ("event_timestamp",), self.first_month, self.first_month)
            self._first_event = pc.min(rows.of(first)["event_timestamp"]).as_py()
        return self._first_event

    def _trained(self, month: str) -> Champion | str:
        rows = self.rows.until(month)
        first, last = training_months(month, self.config.window_months, self.first_month)
        features = rows.of(self._features(first, last))
        statements = rows.of(Needed("fraud_labels", STATEMENT, first, last))
        try:
            result = train_month(month, features, statements, self.contract, self.config, workers=self.workers)
        except TrainingError as error:
            return str(error)
        onnx = self.to_onnx(result.chosen.estimator, len(result.encoder.columns))
        # Versions tell the models of a replay apart: the how many-th month each is of.
        version = len(months_between(self.first_month, month))
        manifest = manifest_of(
            result.chosen, result, onnx,
            name="backtest", version=version, month=month, contract=self.contract,
            contract_yaml=self.contract_yaml,
        )  # fmt: skip
        return Champion(Scorer(onnx, manifest), result.validation)


# What became of it


@dataclass(frozen=True)
class ScoredMonth:
    """The matured transactions of a month, and what models say of them; arrays of shape (n,).

    Attributes:
        y: whether they are fraud.
        days: their days' ordinals.
        amount: None where the source has none.
        cards, terminals: identifiers, a chunked array each; None where the source has none.
        scores: by the month of the model.
        thresholds: of the models, likewise.
        n_open: transactions of the month that have not matured, and are left out.
    """

    y: Bools
    days: Codes
    amount: Floats | None
    cards: pa.ChunkedArray | None
    terminals: pa.ChunkedArray | None
    scores: Mapping[str, Floats]
    thresholds: Mapping[str, float]
    n_open: int = 0


@dataclass(frozen=True)
class Figures:
    """What a policy brought in some months.

    Attributes:
        n, n_fraud: matured transactions, and frauds among them.
        alerts_per_day: cards to review, on average.
        average_precision: 0 to 1; the mean over months, since scores of two models are two scales.
        value_detection_rate: share of the fraud amount that was flagged; None where no amount is known.
        expected_cost: a day, as in `metrics.Metrics`.
        ap_difference: average precision less that of the first model, which is what `never` has.
        cost_saved: a day, against the first model; above 0 when retraining paid.
    """

    n: int
    n_fraud: int
    alerts_per_day: float
    average_precision: Interval
    value_detection_rate: Interval | None
    expected_cost: Interval
    ap_difference: Interval
    cost_saved: Interval


@dataclass(frozen=True)
class _Sums:
    """What a model shows in a month on each draw, shape (1 + replicates,); first on the rows as they are."""

    average_precision: Floats
    cost: Floats
    caught: Floats
    value: Floats


class Judge:
    """Measures sets of (model, month) on the same draws, so that what makes a draw easy or hard for both cancels.

    Whole cards are drawn over all months, and where the source has a second entity whole terminals, too: a hijacked
    terminal defrauds many cards at once. The wider interval of the two counts, as in
    `metrics.paired_ap_difference`.
    """

    def __init__(
        self, months: Mapping[str, ScoredMonth], costs: Costs, *, replicates: int = REPLICATES, seed: int = 0
    ) -> None:
        """Draws.

        Args:
            months: those with matured frauds, in order.
            costs: of reviews and missed frauds.
            replicates: how many draws.
            seed: of the draws.
        """
        self._months = months
        self._alerts = {
            (model, month): int(self._first_flagged(scored, model).sum())
            for month, scored in months.items()
            for model in scored.scores
        }
        self._clusters: list[dict[str, Codes]] = []
        self._sums: list[dict[tuple[str, str], _Sums]] = []
        first = next(iter(months.values()), None)
        names = [] if first is None else ["cards", *(["terminals"] if first.terminals is not None else [])]
        for name in names:
            codes, n_clusters = self._codes(name)
            self._clusters.append(codes)
            self._sums.append(self._drawn(codes, n_clusters, costs, replicates, seed))

    def figures(self, models: Mapping[str, str], first: str) -> Figures:
        """The figures of some months together.

        Args:
            models: by month, the month of the model that was live in it.
            first: the month of the model to compare with.
        """
        found: list[dict[str, Interval]] = []
        n_days = sum(len(np.unique(self._months[month].days)) for month in models)
        y = np.concatenate([self._months[month].y for month in models])
        for codes, sums in zip(self._clusters, self._sums, strict=True):
            live = [sums[model, month] for month, model in models.items()]
            base = [sums[first, month] for month in models]
            cost, before = (np.sum([one.cost for one in some], axis=0) / n_days for some in (live, base))
            precision, earlier = (np.mean([one.average_precision for one in some], axis=0) for some in (live, base))
            caught, value = (np.sum([getattr(one, name) for one in live], axis=0) for name in ("caught", "value"))
            evidence = independent_cards(y, dense(np.concatenate([codes[month] for month in models]))[0])
            samples = {
                "average_precision": precision,
                "value_detection_rate": ratio(caught, value),
                "expected_cost": cost,
                "ap_difference": precision - earlier,
                "cost_saved": before - cost,
            }
            found.append(
                {
                    name: percentile_interval(float(drawn[0]), drawn[1:], evidence, 0.95)
                    for name, drawn in samples.items()
                }
            )
        widest = {name: max((one[name] for one in found), key=_width) for name in found[0]}
        share = widest.pop("value_detection_rate")
        return Figures(
            n=len(y),
            n_fraud=int(y.sum()),
            alerts_per_day=sum(self._alerts[model, month] for month, model in models.items()) / n_days,
            value_detection_rate=share if math.isfinite(share.value) else None,
            **widest,
        )

    def _codes(self, name: str) -> tuple[dict[str, Codes], int]:
        """Codes of clusters that mean the same in every month."""
        columns = [getattr(scored, name) for scored in self._months.values()]
        lengths = [len(scored.y) for scored in self._months.values()]
        known = (
            None
            if columns[0] is None
            else identifier_codes(pa.chunked_array(list(chain(*(c.chunks for c in columns)))))
        )
        codes, n_clusters = card_codes(known, sum(lengths))
        parts = np.split(codes, np.cumsum(lengths)[:-1])
        return dict(zip(self._months, parts, strict=True)), n_clusters

    def _drawn(
        self, codes: Mapping[str, Codes], n_clusters: int, costs: Costs, replicates: int, seed: int
    ) -> dict[tuple[str, str], _Sums]:
        ladders: dict[tuple[str, str], PrecisionLadder] = {}
        weights: dict[tuple[str, str], Floats] = {}
        for month, scored in self._months.items():
            loss = costs.losses(scored.y, scored.amount)
            amount = (
                np.zeros(len(scored.y)) if scored.amount is None else np.nan_to_num(scored.amount, posinf=0, neginf=0)
            )
            value = np.where(scored.y, np.maximum(amount, 0.0), 0.0)
            for model, score in scored.scores.items():
                flagged = score >= scored.thresholds[model]
                cost = np.where(flagged, 0.0, loss) + costs.review * self._first_flagged(scored, model)
                ladders[model, month] = PrecisionLadder.of(scored.y, score, codes[month], n_clusters)
                weights[model, month] = np.stack(
                    [
                        np.bincount(codes[month], weights=rows, minlength=n_clusters)
                        for rows in (cost, np.where(flagged, value, 0.0), value)
                    ]
                )
        levels = max(ladder.levels for ladder in ladders.values())
        blocks: dict[tuple[str, str], list[tuple[Floats, Floats]]] = {key: [] for key in ladders}
        for counts in chain([np.ones((n_clusters, 1))], resamples(n_clusters, levels, replicates, seed)):
            for key, ladder in ladders.items():
                blocks[key].append((ladder.average_precision(counts), weights[key] @ counts))
        return {
            key: _Sums(np.concatenate([one for one, _ in drawn]), *np.concatenate([rest for _, rest in drawn], axis=1))
            for key, drawn in blocks.items()
        }

    def _first_flagged(self, scored: ScoredMonth, model: str) -> Bools:
        """The rows at which a card's review of a day is counted: the first that is flagged."""
        flagged = np.flatnonzero(scored.scores[model] >= scored.thresholds[model])
        codes, n_cards = card_codes(None if scored.cards is None else identifier_codes(scored.cards), len(scored.y))
        _, first = np.unique(scored.days[flagged] * n_cards + codes[flagged], return_index=True)
        found = np.zeros(len(scored.y), dtype=np.bool_)
        found[flagged[first]] = True
        return found


def _width(interval: Interval) -> float:
    # An unknown interval is the widest of all.
    return interval.high - interval.low if interval.is_known else math.inf


# The whole


@dataclass(frozen=True)
class Outcome:
    """What a policy did and brought.

    Attributes:
        policy: its name.
        steps: its months.
        months: figures of each month that could be judged.
        total: of all of them together; None when there is none.
    """

    policy: str
    steps: tuple[Step, ...]
    months: Mapping[str, Figures]
    total: Figures | None

    @property
    def retrainings(self) -> int:
        """New models trained during the replay."""
        return sum(step.retrained for step in self.steps)

    def alarms(self, status: str) -> int:
        """Months whose report had this status."""
        return sum(step.report.verdict.drift_status == status for step in self.steps)


@dataclass(frozen=True)
class Backtest:
    """The outcome of every policy, and by month why it could not be judged, or not as a whole."""

    outcomes: tuple[Outcome, ...]
    notes: Mapping[str, Reason]


def run_backtest(history: History, first: str, last: str, policies: Sequence[Policy], *, known: str) -> Backtest:
    """Replays months under each policy, and judges them with what became known later.

    All policies begin with the model that is trained as of the end of the month before `first`.

    Args:
        history: models and reports.
        first: the first month in which models are live.
        last: the last one.
        policies: which.
        known: the month at whose end labels are taken to judge with; not before `last`.

    Raises:
        BacktestError: when there is no month to replay, or no first model.
    """
    if first <= history.first_month:
        raise BacktestError(
            f"{first} is the first month there is, so no model can be live in it; "
            f"begin in {shift_month(history.first_month, 1)} or later"
        )
    months = months_between(first, last)
    if not months:
        raise BacktestError(f"{last} is before {first}; a backtest goes from an earlier to a later month")
    if known < last:
        raise BacktestError(f"labels are known until {known} only, which is before {last}; end the backtest there")
    initial = shift_month(first, -1)
    history.model(initial)
    replayed = {
        policy.name: replay(policy, months, initial, monitor=history.report, train=history.train) for policy in policies
    }
    scored, notes = {}, {}
    for month in months:
        live = {step.trained for steps in replayed.values() for step in steps if step.month == month}
        history.tell(f"{month}: judging the models of {', '.join(sorted({initial, *live}))}")
        try:
            scored[month] = score_month(history, month, sorted({initial, *live}), known)
        except EvaluationError as error:
            notes[month] = Reason(Rule.NOT_JUDGED, str(error))
            continue
        if scored[month].n_open:
            said = f"judged without {scored[month].n_open:,} transactions that have not matured"
            notes[month] = Reason(Rule.PARTLY_JUDGED, said)
    if not scored:
        raise BacktestError(
            f"no month from {first} to {last} can be judged with what was known at the end of {known}: "
            f"{next(iter(notes.values())).text}"
        )
    history.tell("drawing cards and terminals for intervals")
    judge = Judge(scored, history.costs)
    outcomes = []
    for name, steps in replayed.items():
        models = {step.month: step.trained for step in steps if step.month in scored}
        by_month = {month: judge.figures({month: model}, initial) for month, model in models.items()}
        outcomes.append(Outcome(name, steps, by_month, judge.figures(models, initial)))
    return Backtest(tuple(outcomes), notes)


def score_month(history: History, month: str, models: Iterable[str], known: str) -> ScoredMonth:
    """Scores the transactions of a month that have matured by the end of the month `known`.

    Raises:
        EvaluationError: when there is no matured fraud, or no genuine transaction.
    """
    contract, rows = history.contract, history.rows.until(known)
    features = rows.of(Needed("transaction_features", features_columns(contract), month, month))
    as_of = contract.month_end(known)
    labels = labels_as_of(
        features,
        rows.of(Needed("fraud_labels", STATEMENT, month, known)),
        as_of,
        maturity_days=contract.maturity_days,
        blank=contract.label.blank,
    )
    window = month_window(month, contract.zone)
    found = score_window(features, labels, {}, window, contract)
    scorers = {model: history.model(model).scorer for model in models}
    others = [name for name in contract.entities if name != contract.card]
    return ScoredMonth(
        y=found.y,
        days=found.days,
        amount=found.amount,
        cards=found.rows[contract.card] if contract.card else None,
        terminals=found.rows[others[0]] if others else None,
        scores={model: scorer.score(found.rows) for model, scorer in scorers.items()},
        thresholds={model: scorer.manifest.threshold for model, scorer in scorers.items()},
        n_open=features.num_rows - len(found.y),
    )


def backtest_rows(found: Backtest, schema: pa.Schema) -> pa.Table:
    """Rows of the backtest table: one a policy and month, and one, kind `total`, a policy; it is in the last month."""
    rows: list[dict[str, Any]] = []
    for outcome in found.outcomes:
        for step in outcome.steps:
            reasons = [*step.reasons, *([found.notes[step.month]] if step.month in found.notes else [])]
            verdict = step.report.verdict
            rows.append(
                {
                    "month": date.fromisoformat(f"{step.month}-01"),
                    "kind": MONTH,
                    "policy": outcome.policy,
                    "trained_month": step.trained,
                    "drift_status": verdict.drift_status,
                    "blame": verdict.blame,
                    "retrainings": int(step.retrained),
                    "drift_alarms": int(verdict.drift_status == "DRIFT"),
                    "watch_alarms": int(verdict.drift_status == "WATCH"),
                    "reasons": reasons_to_json(reasons),
                    **_flat(outcome.months.get(step.month)),
                }
            )
        said = f"{len(outcome.months)} of {len(outcome.steps)} months could be judged"
        rows.append(
            {
                "month": date.fromisoformat(f"{outcome.steps[-1].month}-01"),
                "kind": TOTAL,
                "policy": outcome.policy,
                "retrainings": outcome.retrainings,
                "drift_alarms": outcome.alarms("DRIFT"),
                "watch_alarms": outcome.alarms("WATCH"),
                "reasons": reasons_to_json([Reason(Rule.MONTHS_JUDGED, said)]),
                **_flat(outcome.total),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


def _flat(figures: Figures | None) -> dict[str, Any]:
    if figures is None:
        return {}
    row: dict[str, Any] = {}
    for name, value in vars(figures).items():
        if isinstance(value, Interval):
            ends = {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            row |= {end: number if math.isfinite(number) else None for end, number in ends.items()}
        elif value is not None:
            row[name] = value
    return row
