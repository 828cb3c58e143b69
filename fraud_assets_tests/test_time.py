"""The law of the platform: nothing uses what became known after its moment, over generated histories.

Labels against a second reading of the rules in plain Python; the rows and labels that training and evaluation take;
features against histories that differ only from the transaction's own instant on. Each law is also held against a
copy of the code that is one second off, and must find it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.evaluation import evaluation
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models import fitting, training
from fraud_assets.core.models.calibration import CalibratedClassifier, Calibrator
from fraud_assets.core.months import month_end, month_of, month_start, shift_month
from fraud_assets.core.windows import TrainedMonth, evaluation_window, training_months

UTC, TIME = dt.UTC, pa.timestamp("us", "UTC")
MICROSECOND, SECOND, HOUR, DAY = (dt.timedelta(**{unit: 1}) for unit in ("microseconds", "seconds", "hours", "days"))
EXAMPLES = max(1000, settings.default.max_examples)
START = dt.datetime(2018, 4, 1, tzinfo=UTC)

Labels = Callable[..., pa.Table]


@dataclass(frozen=True)
class Transaction:
    """One transaction."""

    identifier: int
    happened: dt.datetime


@dataclass(frozen=True)
class Statement:
    """One statement: fraud, genuine, or (None) withdrawn."""

    identifier: int
    verdict: bool | None
    known: dt.datetime
    source: str


@dataclass(frozen=True)
class History:
    """Transactions, what was said of them, a moment to look at it, and what could be said after that moment."""

    transactions: list[Transaction]
    statements: list[Statement]
    as_of: dt.datetime
    maturity_days: float
    otherwise: list[Statement]


def table_of(rows: list[Transaction]) -> pa.Table:
    return pa.table(
        {
            "transaction_id": pa.array([row.identifier for row in rows], pa.int64()),
            "event_timestamp": pa.array([row.happened for row in rows], TIME),
        }
    )


def feed_of(rows: list[Statement]) -> pa.Table:
    return pa.table(
        {
            "transaction_id": pa.array([row.identifier for row in rows], pa.int64()),
            "is_fraud": pa.array([row.verdict for row in rows], pa.bool_()),
            "label_timestamp": pa.array([row.known for row in rows], TIME),
            "label_source": pa.array([row.source for row in rows], pa.string()),
        }
    )


moments = st.integers(0, 40 * 4).map(lambda quarters: START + quarters * DAY / 4)
# Late, repeated and contradicting statements come of few transactions, few moments and three verdicts.
statements = st.builds(
    Statement,
    st.integers(1, 5),
    st.sampled_from([True, False, None]),
    moments,
    st.sampled_from(["chargeback", "analyst", "customer_report"]),
)
# A moment that counts is the one of a statement or of maturity, and what lies a little beside it.
beside = st.sampled_from([dt.timedelta(0), -MICROSECOND, MICROSECOND, -SECOND, SECOND, -HOUR, HOUR])


@st.composite
def histories(draw: st.DrawFn) -> History:
    happened = draw(st.lists(moments, min_size=1, max_size=4))
    transactions = [Transaction(number, moment) for number, moment in enumerate(happened, 1)]
    said = draw(st.lists(statements, max_size=8))
    maturity = draw(st.sampled_from([0.25, 7, 14.5]))
    edges = [statement.known for statement in said] + [moment + maturity * DAY for moment in happened]
    as_of = draw(st.sampled_from(edges)) + draw(beside)
    later = draw(st.lists(st.tuples(statements, st.integers(1, 10**12)), max_size=3))
    otherwise = [replace(statement, known=as_of + number * MICROSECOND) for statement, number in later]
    return History(transactions, said, as_of, maturity, otherwise)


# Labels


@dataclass(frozen=True)
class Known:
    """What is known of a transaction."""

    is_fraud: bool | None
    since: dt.datetime | None
    source: str | None
    is_matured: bool


def known_of(transaction: Transaction, history: History) -> Known:
    """The rules of `labels_as_of`, read a second time and statement by statement."""
    matures = transaction.happened + dt.timedelta(days=history.maturity_days)
    is_matured = not matures > history.as_of
    last: Statement | None = None
    rank = {None: 0, False: 1, True: 2}
    for statement in history.statements:
        if statement.identifier != transaction.identifier:
            continue
        if statement.known > history.as_of or statement.known < transaction.happened:
            continue
        if last is None or (statement.known, rank[statement.verdict], statement.source) > (
            last.known, rank[last.verdict], last.source,
        ):  # fmt: skip
            last = statement
    if last is not None and last.verdict is not None:
        return Known(last.verdict, last.known, last.source, is_matured)
    return Known(False, matures, "auto_matured", True) if is_matured else Known(None, None, None, False)


def found_by(function: Labels, history: History, said: list[Statement] | None = None) -> list[Known]:
    said = history.statements if said is None else said
    labels = function(table_of(history.transactions), feed_of(said), history.as_of, maturity_days=history.maturity_days)
    assert labels["transaction_id"].to_pylist() == [transaction.identifier for transaction in history.transactions]
    columns = (labels[name].to_pylist() for name in ("is_fraud", "label_timestamp", "label_source", "is_matured"))
    return [Known(*row) for row in zip(*columns, strict=True)]


def check_labels(function: Labels, history: History) -> None:
    """What `labels_as_of` promises, of one history."""
    found = found_by(function, history)
    assert found == [known_of(transaction, history) for transaction in history.transactions]
    past = [statement for statement in history.statements if statement.known <= history.as_of]
    # Taken away, added, changed, in another order: what is said later changes nothing.
    assert found_by(function, history, [*history.otherwise, *reversed(past)]) == found
    assert all(known.since is None or known.since <= history.as_of for known in found)


@settings(max_examples=EXAMPLES)
@given(histories())
def test_labels_use_every_statement_known_at_their_moment_and_none_from_after_it(history: History) -> None:
    check_labels(labels_as_of, history)


def one_second_late(transactions: pa.Table, said: pa.Table, as_of: dt.datetime, *, maturity_days: float) -> pa.Table:
    return labels_as_of(transactions, said, as_of + SECOND, maturity_days=maturity_days)


def one_second_early(transactions: pa.Table, said: pa.Table, as_of: dt.datetime, *, maturity_days: float) -> pa.Table:
    return labels_as_of(transactions, said, as_of - SECOND, maturity_days=maturity_days)


def peeking(transactions: pa.Table, said: pa.Table, as_of: dt.datetime, *, maturity_days: float) -> pa.Table:
    """Sees each statement a second before it is known, and tells the right time of it."""
    at = said.schema.get_field_index("label_timestamp")
    early = said.set_column(at, "label_timestamp", pc.subtract(said["label_timestamp"], pa.scalar(SECOND)))
    found = labels_as_of(transactions, early, as_of, maturity_days=maturity_days)
    stated = pc.fill_null(pc.not_equal(found["label_source"], "auto_matured"), False)
    told = pc.if_else(stated, pc.add(found["label_timestamp"], pa.scalar(SECOND)), found["label_timestamp"])
    return found.set_column(found.schema.get_field_index("label_timestamp"), "label_timestamp", told)


@pytest.mark.parametrize("broken", [one_second_late, one_second_early, peeking])
def test_a_labels_as_of_that_is_one_second_off_is_found(broken: Labels) -> None:
    # Generated anew without shrinking, so that the same histories are tried each time.
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate])
    @given(histories())
    def law(history: History) -> None:
        check_labels(broken, history)

    with pytest.raises(AssertionError):
        law()


def test_a_statement_counts_at_its_instant_and_not_one_second_before() -> None:
    history = History([Transaction(1, START)], [Statement(1, True, START + DAY, "analyst")], START + DAY, 7, [])
    assert found_by(labels_as_of, history) == [Known(True, START + DAY, "analyst", False)]
    assert found_by(labels_as_of, replace(history, as_of=START + DAY - SECOND)) == [Known(None, None, None, False)]


# What training and evaluation take

MONTH = "2018-06"
SPAN = 120  # days, from the middle of February to the middle of June


def world(seed: int, maturity_days: float) -> History:
    """Many transactions before the end of a month, and what was said of them before and after it."""
    random = np.random.default_rng(seed)
    hours = np.sort(random.integers(0, SPAN * 24, 150))
    transactions = [
        Transaction(number, month_start("2018-03") + int(hour) * HOUR) for number, hour in enumerate(hours, 1)
    ]
    as_of = month_end(MONTH)

    def say() -> Statement:
        about = transactions[random.integers(150)]
        delayed = about.happened + int(random.integers(-24, 40 * 24)) * HOUR
        known = delayed if random.random() < 0.8 else as_of + beside_it(random)
        return Statement(about.identifier, (True, True, False, None)[random.integers(4)], known, "chargeback")

    # Two or three a transaction: every part of the window then has frauds, without which nothing is trained.
    said, more = ([say() for _ in range(400)] for _ in range(2))
    otherwise = [statement for statement in more if statement.known > as_of]
    return History(transactions, said, as_of, maturity_days, otherwise)


def beside_it(random: np.random.Generator) -> dt.timedelta:
    return (dt.timedelta(0), MICROSECOND, SECOND, -SECOND)[random.integers(4)]


worlds = {
    "seed": st.integers(0, 2**32 - 1),
    "maturity_days": st.sampled_from([1.0, 7.0, 30.0]),
    "trained": st.sampled_from([None, "2018-04", "2018-05"]),
}

NOTHING_BUT_TIME = parse_contract("""
name: times
first_month: 2018-03
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
label: {column: fraud, known_at: known}
maturity_days: 7
""")

Taken = dict[int, bool]
"""Transactions that were taken, with the label they were given."""


def features_of(history: History) -> pa.Table:
    rows = table_of(history.transactions)
    return rows.append_column("row", rows["transaction_id"].cast(pa.float32()))


def as_taken(X: Any, y: Any) -> Taken:
    return {int(row): bool(label) for row, label in zip(X[:, 0], y, strict=True)}


def taken_by_training(history: History, function: Labels, monkeypatch: pytest.MonkeyPatch) -> list[Taken]:
    """The rows and labels of every fit of a training at the month's end."""
    taken: list[Taken] = []

    def fitted(setting: Any, sample: Any, *_: Any) -> CalibratedClassifier:
        taken.append(as_taken(sample.X, sample.y))
        half = SimpleNamespace(predict_proba=lambda rows: np.full((len(rows), 2), 0.5))
        return CalibratedClassifier(half, 0.0, Calibrator())

    monkeypatch.setattr(fitting, "_fitted", fitted)
    features = features_of(history)
    labels = function(features, feed_of(history.statements), history.as_of, maturity_days=history.maturity_days)
    config = training.TrainingConfig(families=("logistic_regression",), minimum_frauds=1, block_frauds=1, few_frauds=0)
    first, last = training_months(MONTH, config.window_months, "2018-03")
    inside = [first <= month_of(transaction.happened) <= last for transaction in history.transactions]
    training.train(
        features.filter(pa.array(inside)), labels.filter(pa.array(inside)), ("row",),
        maturity_days=history.maturity_days, config=config, card=None,
    )  # fmt: skip
    return taken


def taken_by_evaluation(
    history: History, trained: str | None, function: Labels, monkeypatch: pytest.MonkeyPatch
) -> list[Taken]:
    """The rows and labels on which a model is judged at the month's end."""
    taken: list[Taken] = []

    def evaluate_scores(y: Any, scores: Any, **_: Any) -> Any:
        taken.append(as_taken(scores.reshape(-1, 1), y))
        raise evaluation.EvaluationError("seen enough")

    monkeypatch.setattr(evaluation, "evaluate_scores", evaluate_scores)
    scorer: Any = SimpleNamespace(
        manifest=SimpleNamespace(features=("row",), threshold=0.5),
        score=lambda rows: rows["row"].to_numpy().astype(np.float64),
    )
    models = [TrainedMonth(trained, 1)] if trained else []
    window = evaluation_window(MONTH, history.maturity_days, models)
    features = features_of(history)
    labels = function(features, feed_of(history.statements), history.as_of, maturity_days=history.maturity_days)

    def judge() -> None:
        scored = evaluation.score_window(features, labels, {"champion": scorer}, window, NOTHING_BUT_TIME)
        evaluation.evaluation_rows(
            scored, {"champion": scorer}, month=MONTH, as_of=history.as_of, window=window, schema=pa.schema([])
        )

    with pytest.raises(evaluation.EvaluationError):
        judge()
    for rows in taken:
        assert not models or all(history.transactions[row - 1].happened >= models[0].as_of for row in rows)
    return taken


def check_taken(
    history: History, trained: str | None, function: Labels, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int]:
    """What is taken has matured, and is labelled as it was known then; what is said later changes nothing of it."""
    past = [statement for statement in history.statements if statement.known <= history.as_of]
    other = replace(history, statements=[*history.otherwise, *past])
    known = {transaction.identifier: known_of(transaction, history) for transaction in history.transactions}
    counts = []
    for take in (
        lambda world: taken_by_training(world, function, monkeypatch),
        lambda world: taken_by_evaluation(world, trained, function, monkeypatch),
    ):
        taken = take(history)
        for rows in taken:
            for row, label in rows.items():
                assert known[row].is_matured
                assert label is known[row].is_fraud
        assert take(other) == taken
        counts.append(sum(map(len, taken)))
    return counts[0], counts[1]


def test_training_and_evaluation_take_matured_rows_with_the_labels_of_their_moment() -> None:
    seen = []

    @settings(max_examples=60)
    @given(**worlds)
    def law(seed: int, maturity_days: float, trained: str | None) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            seen.append(check_taken(world(seed, maturity_days), trained, labels_as_of, monkeypatch))

    law()
    # A law of no rows would hold as well.
    assert all(trained > 100 for trained, _ in seen)
    assert sum(judged > 10 for _, judged in seen) >= 10


@pytest.mark.parametrize("broken", [one_second_late, peeking])
def test_training_and_evaluation_with_labels_of_one_second_later_are_found(broken: Labels) -> None:
    @settings(max_examples=60, derandomize=True, database=None, phases=[Phase.generate])
    @given(**worlds)
    def law(seed: int, maturity_days: float, trained: str | None) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            check_taken(world(seed, maturity_days), trained, broken, monkeypatch)

    with pytest.raises(AssertionError):
        law()


@given(
    st.builds("{:04d}-{:02d}".format, st.integers(2000, 2100), st.integers(1, 12)),
    st.floats(0.01, 120),
    st.lists(st.integers(0, 12), max_size=3),
)
def test_a_window_to_judge_on_ends_matured_and_begins_after_every_model(
    month: str, maturity_days: float, ages: list[int]
) -> None:
    models = [TrainedMonth(shift_month(month, -age), number) for number, age in enumerate(ages)]
    window = evaluation_window(month, maturity_days, models)
    assert window.end + dt.timedelta(days=maturity_days) <= month_end(month)
    assert all(window.start >= model.as_of for model in models)


# Features

CARDS = parse_contract("""
name: cards
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer, nullable: true}
  terminal_id: {column: terminal, type: integer}
amount: {column: amount, type: number, nullable: true}
label: {column: fraud, known_at: known}
maturity_days: 7
""")
HISTORIES = 60  # in one call, which costs a quarter of a second however many they are
ROWS = 12


@dataclass(frozen=True)
class Card:
    """One card transaction."""

    identifier: int
    happened: dt.datetime
    customer: int | None
    terminal: int
    amount: float | None


@dataclass(frozen=True)
class Report:
    """One statement about a card transaction."""

    about: Card
    verdict: bool | None
    known: dt.datetime


@dataclass(frozen=True)
class Story:
    """A history of a few cards and terminals of its own; a transaction, and a history that differs from then on."""

    cards: list[Card]
    reports: list[Report]
    mine: Card
    other_cards: list[Card]
    other_reports: list[Report]


def stories(seed: int) -> list[Story]:
    """Histories with disjoint transactions, customers and terminals."""
    random = np.random.default_rng(seed)
    return [_story(random, number) for number in range(HISTORIES)]


def _story(random: np.random.Generator, number: int) -> Story:
    def moment(first: int = 0) -> dt.datetime:
        # Few moments, so that many things happen at the same one.
        return START + int(random.integers(first, 45 * 4)) * DAY / 4

    def card(identifier: int, happened: dt.datetime) -> Card:
        return Card(
            number * 1000 + identifier,
            happened,
            None if random.random() < 0.1 else number * 10 + int(random.integers(2)),
            number * 10 + int(random.integers(2)),
            None if random.random() < 0.1 else float(random.integers(1, 500)),
        )

    def report(about: Card, known: dt.datetime) -> Report:
        return Report(about, (True, True, False, None)[random.integers(4)], known)

    cards = [card(identifier, moment()) for identifier in range(ROWS)]
    mine = cards[random.integers(ROWS)]
    now = mine.happened
    reports = [report(cards[random.integers(ROWS)], moment()) for _ in range(10)]
    # Known at the very instant, or just before it.
    reports += [report(cards[random.integers(ROWS)], now + beside_it(random)) for _ in range(3)]
    first = int((now - START) / (DAY / 4))
    other_cards = [one for one in cards if one.happened < now or one is mine]
    other_cards += [card(100 + extra, moment(first)) for extra in range(int(random.integers(6)))]
    other_reports = [one for one in reports if one.known < now]
    other_reports += [report(cards[random.integers(ROWS)], moment(first)) for _ in range(int(random.integers(6)))]
    return Story(cards, reports, mine, other_cards, other_reports)


Features = Callable[[list[Card], list[Report]], dict[int, dict[str, Any]]]


def features_by_id(cards: list[Card], reports: list[Report], shift: dt.timedelta = dt.timedelta(0)) -> Any:
    """Features of every card transaction; `shift` is added to the times of the reports."""
    transactions = pa.Table.from_pylist(
        [
            {
                "transaction_id": one.identifier, "event_timestamp": one.happened, "customer_id": one.customer,
                "terminal_id": one.terminal, "amount": one.amount,
            }
            for one in cards
        ],
        schema=CARDS.transactions_schema(),
    )  # fmt: skip
    said = pa.Table.from_pylist(
        [
            {
                "transaction_id": one.about.identifier, "event_timestamp": one.about.happened,
                "customer_id": one.about.customer, "terminal_id": one.about.terminal, "is_fraud": one.verdict,
                "label_timestamp": one.known + shift, "label_source": "chargeback",
            }
            for one in reports
        ],
        schema=CARDS.labels_schema(),
    )  # fmt: skip
    found = compute_features(transactions, said, CARDS, start=START, end=START + 60 * DAY)
    return {row["transaction_id"]: row for row in found.to_pylist()}


def check_features(function: Features, told: list[Story]) -> int:
    """What happens or becomes known from a transaction's instant on changes none of its features, nor earlier ones.

    Returns:
        In how many histories a known fraud was counted.
    """
    before = function(
        [card for story in told for card in story.cards], [said for story in told for said in story.reports]
    )
    after = function(
        [card for story in told for card in story.other_cards], [said for story in told for said in story.other_reports]
    )
    for story in told:
        for card in story.cards:
            if card.happened < story.mine.happened or card is story.mine:
                assert after[card.identifier] == before[card.identifier]
    return sum(before[story.mine.identifier]["terminal_days_since_last_known_fraud"] is not None for story in told)


def test_features_use_nothing_from_their_transaction_s_instant_on() -> None:
    counted = []

    @settings(max_examples=8)
    @given(st.integers(0, 2**32 - 1))
    def law(seed: int) -> None:
        counted.append(check_features(features_by_id, stories(seed)))

    law()
    assert sum(counted) > len(counted)


def test_features_that_see_reports_one_second_early_are_found() -> None:
    def early(cards: list[Card], reports: list[Report]) -> Any:
        return features_by_id(cards, reports, -SECOND)

    with pytest.raises(AssertionError):
        check_features(early, stories(1))


@pytest.mark.parametrize(
    ("reports", "known"),
    [
        ([(True, 2)], 1),
        ([(True, 2), (None, 3)], 0),
        ([(True, 2), (None, 3), (True, 4)], 1),
        ([(True, 2), (True, 3)], 1),
        ([(True, 2), (False, 2), (None, 2)], 1),
        ([(None, 2)], 0),
        ([(True, 0)], 0),
    ],
    ids=["fraud", "withdrawn", "stated again", "repeated", "at one instant", "nothing to withdraw", "premature"],
)
def test_features_read_statements_as_labels_do(reports: list[tuple[bool | None, int]], known: int) -> None:
    one, other = Card(1, START + DAY, 7, 8, 5.0), Card(2, START + 10 * DAY, 7, 8, 5.0)
    said = [Report(one, verdict, START + day * DAY) for verdict, day in reports]
    # One transaction before, and shares are drawn by ten to one in a hundred.
    share = features_by_id([one, other], said)[2]["terminal_known_fraud_share_30d"]
    assert share == pytest.approx((known + 0.1) / 11)
    history = History([Transaction(1, START + DAY)], [], START + 10 * DAY - MICROSECOND, 100, [])
    spoken = [Statement(1, report.verdict, report.known, "analyst") for report in said]
    assert (found_by(labels_as_of, history, spoken)[0].is_fraud is True) == bool(known)
