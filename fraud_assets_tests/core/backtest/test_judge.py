"""What is known when in a backtest, what each model is made of, and what the figures say."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.backtest import judge as module
from fraud_assets.core.backtest.judge import (
    BacktestError,
    History,
    Judge,
    ScoredMonth,
    backtest_needs,
    backtest_rows,
    run_backtest,
    score_month,
)
from fraud_assets.core.backtest.replay import parse_policies, replay
from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.evaluation.evaluation import EvaluationError
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.needs import MonthRows, Needed, NotKnownError
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.monitoring.outcomes import STATEMENT
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.simulator import SimulatorConfig, simulate_month
from fraud_assets.core.statistics.metrics import Costs, evaluate_scores, paired_ap_difference
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.sentences import said

CONTRACT = load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml")
SCHEMA = TABLES["backtest"](CONTRACT).schema
MONTHS = months_between("2025-01", "2025-06")
QUICK = TrainingConfig(families=("logistic_regression",), minimum_frauds=5, calibration_frauds=10_000)


@dataclass(frozen=True)
class Stored:
    """What the platform has."""

    tables: dict[str, pa.Table]
    contract: Contract = CONTRACT

    @property
    def rows(self) -> MonthRows:
        return MonthRows(
            {Needed(name, tuple(rows.column_names), MONTHS[0], MONTHS[-1]): rows for name, rows in self.tables.items()},
            CONTRACT,
        )

    def history(self, **given: object) -> History:
        told: list[str] = given.pop("told", [])  # type: ignore[assignment]
        config = given.pop("config", QUICK)
        return History(self.rows, CONTRACT, "", MONTHS[0], config, DriftConfig(), Costs(), to_onnx, told.append)  # type: ignore[arg-type]


TIME = pa.timestamp("us", tz="UTC")
MOMENT = {
    "raw_transactions": "event_timestamp",
    "transaction_features": "event_timestamp",
    "fraud_labels": "label_timestamp",
}


def simulated(seed: int) -> Stored:
    config = SimulatorConfig(seed=seed, customers=60, terminals=60, compromised_terminals_per_day=0.2)
    rows = pa.concat_tables([simulate_month(month, config) for month in MONTHS])
    frauds = rows.filter(rows["is_fraud"])
    frauds = frauds.append_column("label_source", pa.array(["chargeback"] * len(frauds), pa.string()))
    schema = CONTRACT.labels_schema()
    statements = frauds.select(schema.names).cast(schema).sort_by("label_timestamp")
    raw = rows.select(CONTRACT.transactions_schema().names)
    span = {"start": CONTRACT.month_start(MONTHS[0]), "end": CONTRACT.month_end(MONTHS[-1])}
    features = compute_features(raw, statements, CONTRACT, **span)
    return Stored({"raw_transactions": raw, "transaction_features": features, "fraud_labels": statements})


@pytest.fixture(scope="module")
def world() -> Stored:
    return simulated(5)


# Time


def with_another_future(world: Stored, as_of: dt.datetime, draws: np.random.Generator) -> Stored:
    """Everything from after a moment is another: transactions, and what was said later of earlier ones."""
    later = {name: pc.greater_equal(rows[MOMENT[name]], pa.scalar(as_of, TIME)) for name, rows in world.tables.items()}
    # Labels become known at the instant of their timestamp, so one at the as-of time itself is known.
    later["fraud_labels"] = pc.greater(world.tables["fraud_labels"]["label_timestamp"], pa.scalar(as_of, TIME))
    tables = {name: rows.filter(pc.invert(later[name])) for name, rows in world.tables.items()}
    future = {name: rows.filter(later[name]) for name, rows in world.tables.items()}
    for name, rows in future.items():
        kept = rows.filter(pa.array(draws.random(len(rows)) < 0.5))
        for column in ("amount", *(c for c in kept.column_names if c.endswith("_30d"))):
            if column in kept.column_names:
                at, field = kept.column_names.index(column), kept.schema.field(column)
                kept = kept.set_column(
                    at, field, pa.array(draws.random(len(kept)) * 500, pa.float64()).cast(field.type)
                )
        future[name] = kept
    # Genuine transactions of the past turn out to be fraud, after the moment.
    past = tables["raw_transactions"].take(draws.integers(len(tables["raw_transactions"]), size=200))
    schema = world.tables["fraud_labels"].schema
    fresh = {
        "transaction_id": past["transaction_id"],
        "event_timestamp": past["event_timestamp"],
        "is_fraud": pa.array([True] * 200),
        "label_timestamp": pa.array([as_of + dt.timedelta(hours=1)] * 200, TIME),
        "label_source": pa.array(["chargeback"] * 200),
        **{name: past[name] for name in CONTRACT.entities},
    }
    said = pa.table({name: fresh[name] for name in schema.names}).cast(schema)
    future["fraud_labels"] = pa.concat_tables([future["fraud_labels"], said])
    return Stored({name: pa.concat_tables([tables[name], future[name]]) for name in tables})


def decided(stored: Stored, month: str) -> tuple[object, list[str]]:
    """What was decided up to a month's end, and the models there were then."""
    history, [policy] = stored.history(), parse_policies("on-watch")
    # One more month, so that the decision at the month's end is carried out.
    months = months_between("2025-03", shift_month(month, 1))
    steps = replay(policy, months, "2025-02", monitor=history.report, train=history.train)[:-1]
    models = [history.model(one).scorer.manifest.model_digest for one in ("2025-02", month)]
    return [(step.trained, step.retrained, step.reasons, step.report) for step in steps], models


@pytest.fixture(scope="module")
def as_it_was(world: Stored) -> dict[str, tuple[object, list[str]]]:
    return {month: decided(world, month) for month in ("2025-03", "2025-04")}


@pytest.mark.parametrize(("seed", "month"), [(1, "2025-03"), (2, "2025-04"), (3, "2025-04")])
def test_another_future_changes_no_model_no_report_and_no_decision_of_a_month(
    world: Stored, as_it_was: dict[str, tuple[object, list[str]]], seed: int, month: str
) -> None:
    other = with_another_future(world, CONTRACT.month_end(month), np.random.default_rng(seed))
    assert other.tables["fraud_labels"] != world.tables["fraud_labels"]
    assert decided(other, month) == as_it_was[month]


def test_what_is_known_by_a_month_s_end_does_change_its_model(world: Stored) -> None:
    """Otherwise the test above would see nothing."""
    earlier = world.tables["fraud_labels"].filter(
        pc.greater(world.tables["fraud_labels"]["label_timestamp"], pa.scalar(CONTRACT.month_start("2025-02"), TIME))
    )
    other = Stored(world.tables | {"fraud_labels": earlier})
    digests = {one.history().model("2025-03").scorer.manifest.model_digest for one in (world, other)}
    assert len(digests) == 2


def test_a_replayed_report_holds_the_champion_against_what_its_validation_promised(world: Stored) -> None:
    history = world.history()
    promise = history.model("2025-05").promise
    assert promise is not None
    assert promise.num_rows > 0
    findings = history.report((), "2025-06", "2025-05").findings
    assert {"concept", "estimate"} <= {finding.kind for finding in findings}
    assert not any("was not kept" in finding.reason for finding in findings)


def test_a_month_that_was_not_known_yet_cannot_be_looked_at(world: Stored) -> None:
    rows = world.rows.until("2025-02")
    assert rows.of(Needed("fraud_labels", STATEMENT, "2025-01", "2025-02")).num_rows > 0
    with pytest.raises(NotKnownError, match=r"fraud_labels of 2025-03 was asked for as of the end of 2025-02"):
        rows.of(Needed("fraud_labels", STATEMENT, "2025-01", "2025-03"))


def test_a_replay_takes_the_rows_that_it_declares_and_no_others(world: Stored) -> None:
    """A year of training, reports that look back half a year, and judging: of rows that were not declared, it fails."""
    policies = parse_policies("monthly,on-drift")
    needs = backtest_needs(
        "2025-03", "2025-05", "2025-06", first_month=MONTHS[0], config=QUICK, contract=CONTRACT
    )  # fmt: skip
    declared = MonthRows({need: world.rows.of(need) for need in needs}, CONTRACT)
    whole, part = (
        run_backtest(replace(world.history(), rows=rows), "2025-03", "2025-05", policies, known="2025-06")
        for rows in (world.rows, declared)
    )
    assert backtest_rows(part, SCHEMA).equals(backtest_rows(whole, SCHEMA))
    assert max(need.last for need in needs if need.table != "fraud_labels") == "2025-05"


def test_a_month_is_judged_on_what_has_matured_when_everything_known_is_used(world: Stored) -> None:
    history = world.history()
    rows = world.tables["transaction_features"]["event_timestamp"].to_pylist()
    start, end = CONTRACT.month_start("2025-04"), CONTRACT.month_end("2025-04")
    # At the end of April only what happened 14 days before has matured; at the end of June all of it.
    for known, until in (("2025-04", end - dt.timedelta(days=14)), ("2025-06", end)):
        found = score_month(history, "2025-04", ["2025-03"], known)
        expected = sum(start <= moment < end and moment <= until for moment in rows)
        assert len(found.y) == expected, known
        assert len(found.y) + found.n_open == sum(start <= moment < end for moment in rows)


# The whole


def test_each_model_is_trained_once_and_each_report_made_once_whatever_the_policies(world: Stored) -> None:
    told: list[str] = []
    found = run_backtest(
        world.history(told=told), "2025-03", "2025-05", parse_policies("never,monthly,every-1,every-2,on-drift"),
        known="2025-06",
    )  # fmt: skip
    trained = [said for said in told if said.endswith("training as of its end")]
    assert len(trained) == len(set(trained)) == 3
    # Reports look at those before them: 3 where the first model stays, 2 more of monthly ones, 1 more of every-2.
    assert sum("drift report" in said for said in told) == 6
    by_name = {outcome.policy: outcome for outcome in found.outcomes}
    assert by_name["monthly"].total == by_name["every-1"].total
    assert by_name["monthly"].retrainings == 2
    rows = backtest_rows(found, SCHEMA).to_pylist()
    assert [(row["kind"], row["policy"]) for row in rows[:4]] == [("month", "never")] * 3 + [("total", "never")]
    for row in rows:
        if row["policy"] == "never":
            assert (row["ap_difference"], row["cost_saved"], row["retrainings"]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("first", "last", "known", "said"),
    [
        ("2025-01", "2025-03", "2025-06", r"2025-01 is the first month there is.*begin in 2025-02 or later"),
        ("2025-04", "2025-03", "2025-06", r"2025-03 is before 2025-04"),
        ("2025-03", "2025-06", "2025-05", r"known until 2025-05 only.*end the backtest there"),
    ],
)
def test_months_that_cannot_be_replayed_are_named_with_what_to_do(
    world: Stored, first: str, last: str, known: str, said: str
) -> None:
    with pytest.raises(BacktestError, match=said):
        run_backtest(world.history(), first, last, parse_policies("never"), known=known)


def test_a_span_that_begins_before_a_first_model_can_be_trained_is_refused_with_the_reason(world: Stored) -> None:
    history = world.history(config=replace(QUICK, minimum_frauds=5000))
    with pytest.raises(
        BacktestError, match=r"as of the end of 2025-02: .*235 of 5000 frauds.*begin .* in a later month"
    ):
        run_backtest(history, "2025-03", "2025-05", parse_policies("never"), known="2025-06")


def test_a_span_of_which_nothing_has_matured_is_refused(world: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object) -> ScoredMonth:
        raise EvaluationError("0 matured transactions")

    monkeypatch.setattr(module, "score_month", nothing)
    with pytest.raises(BacktestError, match=r"no month from 2025-03 to 2025-03 can be judged .* 0 matured"):
        run_backtest(world.history(), "2025-03", "2025-03", parse_policies("never"), known="2025-06")


def test_a_month_that_cannot_be_judged_has_no_figures_and_says_why(
    world: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = module.score_month

    def scored(history: History, month: str, models: Sequence[str], known: str) -> ScoredMonth:
        if month == "2025-04":
            raise EvaluationError("0 matured transactions")
        return judged(history, month, models, known)

    monkeypatch.setattr(module, "score_month", scored)
    found = run_backtest(world.history(), "2025-03", "2025-04", parse_policies("never"), known="2025-06")
    march, april, total = backtest_rows(found, SCHEMA).to_pylist()
    assert (april["average_precision"], said(april["reasons"])) == (None, "0 matured transactions")
    assert total["average_precision"] == march["average_precision"]
    assert said(total["reasons"]) == "1 of 2 months could be judged"


# Figures


def scored_month(scores: dict[str, list[float]], days: list[int], cards: list[int] | None = None) -> ScoredMonth:
    """Card 1 loses 100, card 3 loses 50; card 2 is genuine, twice on a day."""
    return ScoredMonth(
        y=np.array([True, False, False, True]),
        days=np.array(days),
        amount=np.array([100.0, 10.0, 10.0, 50.0]),
        cards=pa.chunked_array([pa.array(cards or [1, 2, 2, 3])]),
        terminals=None,
        scores={model: np.array(score) for model, score in scores.items()},
        thresholds=dict.fromkeys(scores, 0.5),
    )


OLD, NEW = [0.9, 0.7, 0.6, 0.1], [0.9, 0.2, 0.1, 0.8]


def test_figures_are_those_worked_out_by_hand() -> None:
    judge = Judge({"2025-03": scored_month({"old": OLD, "new": NEW}, [0, 0, 0, 0])}, Costs(review=5))
    old = judge.figures({"2025-03": "old"}, "old")
    # Frauds rank first and last: (1/1 + 2/4) / 2. Two cards to review, and 50 of 150 is missed.
    assert old.average_precision.value == pytest.approx(0.75)
    assert old.alerts_per_day == 2
    assert old.expected_cost.value == pytest.approx(5 * 2 + 50)
    assert old.value_detection_rate is not None
    assert old.value_detection_rate.value == pytest.approx(100 / 150)
    new = judge.figures({"2025-03": "new"}, "old")
    assert new.average_precision.value == pytest.approx(1.0)
    assert new.ap_difference.value == pytest.approx(0.25)
    assert new.cost_saved.value == pytest.approx(60 - 10)


def test_average_precision_is_a_mean_of_months_and_money_a_mean_of_days() -> None:
    # The second month has two days, and card 2 is reviewed on each of them.
    months = {
        "2025-03": scored_month({"old": OLD, "new": NEW}, [0, 0, 0, 0]),
        "2025-04": scored_month({"old": OLD, "new": NEW}, [31, 31, 32, 32]),
    }
    both = Judge(months, Costs(review=5)).figures({"2025-03": "old", "2025-04": "new"}, "old")
    assert both.average_precision.value == pytest.approx((0.75 + 1) / 2)
    assert both.expected_cost.value == pytest.approx((60 + 10) / 3)
    # In April the old model would have cost three reviews and 50.
    assert both.cost_saved.value == pytest.approx((65 - 10) / 3)
    assert both.alerts_per_day == pytest.approx(4 / 3)


def test_a_card_is_one_card_in_all_months() -> None:
    """Only card 7 is defrauded: two months of it are no two cards, and one tells nothing about a spread."""
    months = {
        month: scored_month({"old": OLD}, [day] * 4, [7, 2, 2, 7]) for month, day in (("2025-03", 0), ("2025-04", 31))
    }
    total = Judge(months, Costs()).figures(dict.fromkeys(months, "old"), "old")
    assert math.isnan(total.average_precision.low)


def test_a_single_month_has_the_figures_of_an_evaluation_and_the_paired_interval_of_the_promotion_gate() -> None:
    draws = np.random.default_rng(0)
    n = 3000
    y = draws.random(n) < 0.05
    scores = {name: np.clip(0.3 * y + draws.random(n) * width, 0, 1) for name, width in (("old", 0.7), ("new", 0.5))}
    cards, terminals = draws.integers(150, size=n), draws.integers(60, size=n)
    days, amount = draws.integers(30, size=n), draws.gamma(2, 30, n)
    month = ScoredMonth(
        y, days, amount, pa.chunked_array([pa.array(cards)]), pa.chunked_array([pa.array(terminals)]), scores,
        dict.fromkeys(scores, 0.6),
    )  # fmt: skip
    found = Judge({"2025-03": month}, Costs()).figures({"2025-03": "new"}, "old")
    codes = [pa.array(one).dictionary_encode().indices.to_numpy().astype(np.int64) for one in (cards, terminals)]
    metrics = evaluate_scores(
        y, scores["new"], cards=codes[0], days=days, amount=amount, threshold=0.6, costs=Costs(), replicates=2
    )
    assert found.average_precision.value == pytest.approx(metrics.average_precision.value)
    assert found.expected_cost.value == pytest.approx(metrics.expected_cost.value)
    assert found.alerts_per_day == pytest.approx(metrics.alerts_per_day.value)
    assert metrics.value_detection_rate is not None
    assert found.value_detection_rate is not None
    assert found.value_detection_rate.value == pytest.approx(metrics.value_detection_rate.value)
    paired = paired_ap_difference(y, scores["old"], scores["new"], codes[0], terminals=codes[1])
    assert vars(found.ap_difference) == pytest.approx(vars(paired))


def test_a_source_without_amounts_or_entities_has_figures_too() -> None:
    month = replace(scored_month({"old": OLD}, [0, 0, 0, 0]), cards=None, amount=None)
    found = Judge({"2025-03": month}, Costs(review=5, fixed_loss=70)).figures({"2025-03": "old"}, "old")
    assert found.value_detection_rate is None
    # Each transaction is a card: three reviews, and one fraud is missed.
    assert found.expected_cost.value == pytest.approx(5 * 3 + 70)
