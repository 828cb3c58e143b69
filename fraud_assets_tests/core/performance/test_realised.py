"""Realised performance, by hand: what is not known is left out, and what was let through stands for what was not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.performance.realised import realised_rows
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.metrics import average_precision
from fraud_assets.core.windows import matured_window

CARDS = parse_contract("""
name: karten
first_month: 2025-01
timezone: Europe/Berlin
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
entities: {customer_id: {column: kunde, type: string, nullable: true}}
amount: {column: betrag, type: number, nullable: true}
attributes: {kanal: {column: kanal, type: string, nullable: true}}
label: {column: fraud, delay_days: 7}
maturity_days: 10
""")
# Nobody, no amount, and a blank label means that nobody looked.
FLAT = parse_contract("""
name: flat
first_month: 2025-01
event_timestamp: {column: time}
attributes: {risk: {column: risk, type: number}}
label: {column: fraud, delay_days: 7, blank: unknown}
maturity_days: 10
""")
MONTH = "2025-03"
COSTS = Costs(review=5, loss_share=1, fixed_loss=100)


def judged(contract, rows, statements, month=MONTH, answered=None):
    """The table's rows of some scores, by version, segment and value.

    Each row is (id, time, probability, chance, passed_through, version) and the contract's columns; `answered` says by
    id what a list or a rule made of it.
    """
    schema = contract.transactions_schema()
    columns = ("transaction_id", "event_timestamp", "probability", "pass_through_probability", "passed_through",
               "model_version")  # fmt: skip
    own = [schema.field(name) for name in contract.columns]
    values = [
        dict(zip(columns, row[:6], strict=True)) | dict(zip(contract.columns, row[6:], strict=True)) for row in rows
    ]
    scores = pa.Table.from_pylist(
        [
            row
            | {"decision": "review" if row["probability"] >= 0.5 else "approve"}
            | {"answered": (answered or {}).get(row["transaction_id"])}
            for row in values
        ],
        schema=pa.schema([
            schema.field("transaction_id"), schema.field("event_timestamp"), ("probability", pa.float64()),
            ("pass_through_probability", pa.float64()), ("passed_through", pa.bool_()), ("model_version", pa.int64()),
            ("decision", pa.string()), ("answered", pa.string()), *own,
        ]),
    )  # fmt: skip
    stated = pa.Table.from_pylist(
        [
            {"transaction_id": key, "is_fraud": fraud, "label_timestamp": known, "label_source": "analyst"}
            for key, fraud, known in statements
        ],
        schema=contract.labels_schema(),
    )
    labels = labels_as_of(
        scores, stated, contract.month_end(month), maturity_days=contract.maturity_days, blank=contract.label.blank
    )
    found = realised_rows(
        scores, labels, contract, month=month, window=matured_window(month, contract.maturity_days, contract.zone),
        costs=COSTS, schema=TABLES["model_performance"](contract).schema,
    )  # fmt: skip
    return {(row["model_version"], row["segment"], row["value"]): row for row in found.to_pylist()}


def at(day, hour=12):
    return datetime(2025, 3, day, hour, tzinfo=UTC)


def test_figures_are_those_worked_out_by_hand():
    rows = [
        # id, time, probability, chance, passed, version, customer, amount, channel
        (1, at(3), 0.9, 0.0, False, 7, "a", 50.0, "netz"),  # fraud, held
        (2, at(3, 13), 0.8, 0.0, False, 7, "a", 30.0, "netz"),  # genuine, held, the same card and day
        (3, at(4), 0.3, 0.0, False, 7, "b", 20.0, "laden"),  # fraud, missed
        (4, at(4), 0.1, 0.0, False, 7, None, None, "laden"),  # genuine
        (5, at(25), 0.9, 0.0, False, 7, "b", 99.0, "laden"),  # younger than ten days at the end
    ]
    statements = [(1, True, at(9)), (3, True, at(20)), (5, True, at(26))]
    found = judged(CARDS, rows, statements)
    whole = found[7, "all", "all"]
    assert (whole["n"], whole["n_flagged"], whole["n_labelled"], whole["labelled_share"]) == (4, 2, 4, 1.0)
    assert (whole["n_fraud"], whole["prevalence"]) == (2, 0.5)
    # Frauds at places 1 and 3: (1/1 + 2/3) / 2.
    assert whole["average_precision"] == pytest.approx(5 / 6)
    assert whole["average_precision_low"] is None
    assert whole["reason"] == "2 frauds, fewer than 30"
    assert whole["expected_over_observed"] == pytest.approx(2.1 / 2)
    assert whole["brier"] == pytest.approx((0.1**2 + 0.8**2 + 0.7**2 + 0.1**2) / 4)
    assert (whole["precision_at_threshold"], whole["recall_at_threshold"]) == (0.5, 0.5)
    # One card on one day is reviewed once; the missed fraud costs its 20.
    assert (whole["cost"], whole["cost_without_review"]) == (5 + 20, 70)
    assert (whole["value_caught"], whole["fraud_value"]) == (50, 70)
    assert whole["weighted_n"] is None
    days = {value: row for (_, segment, value), row in found.items() if segment == "date"}
    assert {value: (row["n"], row["n_fraud"]) for value, row in days.items()} == {
        "2025-03-03": (2, 1), "2025-03-04": (2, 1),
    }  # fmt: skip
    assert found[7, "kanal", "netz"]["average_precision"] == 1.0
    young = found[7, "not_matured", "all"]
    assert (young["n"], young["n_labelled"], young["n_fraud"], young["average_precision"]) == (1, 1, 1, None)
    assert young["reason"].startswith("younger than 10 days at the month's end")


def test_a_label_from_after_the_month_s_end_is_not_known_yet():
    rows = [(1, at(3), 0.9, 0.0, False, 7, "a", 50.0, None), (2, at(3), 0.1, 0.0, False, 7, "b", 5.0, None)]
    later = judged(CARDS, rows, [(1, True, datetime(2025, 4, 2, tzinfo=UTC))])
    assert later[7, "all", "all"]["n_fraud"] == 0
    assert later[7, "all", "all"]["average_precision"] is None
    # In the contract's zone the month ended two hours before it does in UTC; it was known one second before.
    known = judged(CARDS, rows, [(1, True, datetime(2025, 3, 31, 21, 59, 59, tzinfo=UTC))])
    assert known[7, "all", "all"]["n_fraud"] == 1


def test_what_nobody_looked_at_is_no_negative():
    rows = [(f"r{n}", at(3), p, 0.0, False, 1, 0.5) for n, p in enumerate((0.9, 0.8, 0.2, 0.1))]
    found = judged(FLAT, rows, [("r0", True, at(5)), ("r3", False, at(5))])
    whole = found[1, "all", "all"]
    assert (whole["n"], whole["n_labelled"], whole["labelled_share"], whole["n_fraud"]) == (4, 2, 0.5, 1)
    assert (whole["average_precision"], whole["precision_at_threshold"]) == (1.0, 1.0)
    # No amounts: a missed fraud has a fixed loss, and no card: each row is reviewed by itself.
    assert (whole["cost"], whole["cost_without_review"], whole["value_caught"]) == (5, 100, None)


def test_a_window_of_which_nothing_is_known_has_counts_and_says_why():
    found = judged(FLAT, [("r1", at(3), 0.9, 0.0, False, 1, 0.5)], [])
    whole = found[1, "all", "all"]
    assert (whole["n"], whole["n_labelled"], whole["prevalence"], whole["brier"]) == (1, 0, None, None)
    assert whole["reason"] == "no label is known"


def test_each_version_is_judged_on_what_it_scored_itself():
    rows = [
        (1, at(3), 0.9, 0.0, False, 1, "a", 1.0, None),
        (1, at(3), 0.2, 0.0, False, 2, "a", 1.0, None),
        (2, at(3), 0.3, 0.0, False, 2, "b", 1.0, None),
    ]
    found = judged(CARDS, rows, [(1, True, at(5))])
    assert found[1, "all", "all"]["n"] == 1
    assert found[1, "all", "all"]["average_precision"] is None
    assert found[2, "all", "all"]["average_precision"] == 0.5


def test_rows_that_were_let_through_stand_for_those_that_were_held():
    rows = [
        (1, at(3), 0.9, 0.1, True, 1, "a", 10.0, None),  # fraud, let through
        (2, at(3), 0.7, 0.1, True, 1, "b", 10.0, None),  # genuine, let through
        (3, at(3), 0.8, 0.1, False, 1, "c", 10.0, None),  # held
        (4, at(3), 0.95, 0.0, False, 1, "d", 999.0, None),  # held, and above the largest amount
        (5, at(3), 0.2, 0.0, False, 1, "e", 10.0, None),  # fraud that the model let go
        (6, at(3), 0.1, 0.0, False, 1, "f", 10.0, None),  # genuine
    ]
    whole = judged(CARDS, rows, [(1, True, at(5)), (5, True, at(5))])[1, "all", "all"]
    assert (whole["n_flagged"], whole["n_passed_through"]) == (4, 2)
    assert (whole["weighted_n"], whole["effective_n"]) == (22.0, pytest.approx(22**2 / 202))
    assert whole["weighted_prevalence"] == pytest.approx(11 / 22)
    assert whole["weighted_precision_at_threshold"] == 0.5
    assert whole["weighted_average_precision"] == pytest.approx(
        average_precision([True, False, True, False], [0.9, 0.7, 0.2, 0.1], [10, 10, 1, 1])
    )
    assert whole["weighted_expected_over_observed"] == pytest.approx((9 + 7 + 0.2 + 0.1) / 11)
    # What was let through was not stopped: it costs its amount, and no review.
    assert (whole["cost"], whole["value_caught"], whole["fraud_value"]) == (2 * 5 + 20, 0, 20)


def test_weighted_figures_are_those_of_all_rows_where_unweighted_ones_are_far_off():
    """Of what is held no label ever comes back, so that to the platform it looks genuine."""
    generator = np.random.default_rng(11)
    n = 40_000
    p = generator.beta(0.3, 1.2, n)
    y = generator.random(n) < p
    held = p >= 0.5
    through = held & (generator.random(n) < 0.1)
    rows = [
        (k, at(3), float(p[k]), 0.1 if held[k] else 0.0, bool(through[k]), 1, f"c{k}", 10.0, None) for k in range(n)
    ]
    seen = y & (~held | through)
    whole = judged(CARDS, rows, [(int(k), True, at(5)) for k in np.flatnonzero(seen)])[1, "all", "all"]
    truth = {
        "prevalence": y.mean(),
        "average_precision": average_precision(y, p),
        "precision_at_threshold": y[held].mean(),
        "expected_over_observed": p.sum() / y.sum(),
    }
    for name, value in truth.items():
        assert abs(whole[f"weighted_{name}"] - value) < 0.06 * value, name
        assert abs(whole[name] - value) > 0.15 * value, name


def test_without_scores_there_is_no_row():
    assert judged(CARDS, [], []) == {}


def test_a_window_of_one_row_is_judged():
    found = judged(CARDS, [(1, at(3), 0.9, 0.0, False, 1, None, None, None)], [(1, True, at(5))])
    assert found[1, "all", "all"]["cost"] == 5
    assert {segment for _, segment, _ in found} == {"all", "date"}


def test_a_younger_transaction_belongs_to_the_next_month():
    row = (1, at(25), 0.9, 0.0, False, 1, "a", 10.0, None)
    assert set(judged(CARDS, [row], [])) == {(1, "not_matured", "all")}
    assert judged(CARDS, [row], [], "2025-04")[1, "all", "all"]["n"] == 1
    assert at(25) + timedelta(days=10) > CARDS.month_end(MONTH)


def test_what_rules_and_lists_decided_counts_as_it_went_and_not_as_the_model_had_it():
    rows = [
        # id, time, probability, chance, passed, version, customer, amount, channel
        (1, at(3), 0.9, 0.1, True, 7, "a", 40.0, "netz"),  # fraud, let through at random: one of ten
        (2, at(3), 0.9, 0.0, False, 7, "b", 30.0, "netz"),  # fraud, held by the model, let through by an allow list
        (3, at(4), 0.1, 0.0, False, 7, "c", 20.0, "netz"),  # genuine, which a rule declined
        (4, at(4), 0.1, 0.0, False, 7, "d", 10.0, "netz"),  # genuine
    ]
    statements = [(1, True, at(9)), (2, True, at(9))]
    found = judged(CARDS, rows, statements, answered={1: "approve", 2: "approve", 3: "decline"})[7, "all", "all"]
    # Ten for the one that was drawn, one for the allowed, none for the declined, one for the last.
    assert (found["weighted_n"], found["n_passed_through"]) == (12.0, 1)
    # Both frauds went through.
    assert (found["value_caught"], found["cost"]) == (0.0, 70.0)
    before = judged(CARDS, rows, statements)[7, "all", "all"]
    assert (before["weighted_n"], before["value_caught"], before["cost"]) == (12.0, 30.0, 45.0)
