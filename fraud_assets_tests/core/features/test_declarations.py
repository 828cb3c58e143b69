"""Features: worked out by hand, and never from anything at or after the transaction's own instant."""

import datetime as dt
import math
import subprocess
import sys
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.contracts.feature_names import OF_ENTITIES
from fraud_assets.core.digests import digest_table
from fraud_assets.core.features.declarations import (
    ENTITY_FEATURES,
    MOMENT,
    OVER_MAX,
    Feature,
    FeatureError,
    feature_days,
    feature_names,
    feature_types,
    features_digest,
    history_days,
    model_columns,
    text_features,
)
from fraud_assets.core.features.expressions import Aggregate, Column
from fraud_assets.core.features.ibis_expression import compute_with_duckdb
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.features.wording import Wording
from fraud_assets.core.intake.accept import Delivery, Part, accept
from fraud_assets.core.months import month_end, month_start, months_between
from fraud_assets.core.simulator import SimulatorConfig, simulate_month

CONTRACT = parse_contract("""
name: cards
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer, nullable: true}
  terminal_id: {column: terminal, type: string}
amount: {column: amount, type: number, nullable: true}
label: {column: fraud, known_at: known}
maturity_days: 7
""")
FLAT = parse_contract("""
name: flat
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
attributes:
  clicks: {column: clicks, type: integer, feature: true}
  weight: {column: weight, type: number, nullable: true, feature: true}
  city: {column: city, type: string, feature: false}
  t: {column: t, type: number, feature: true}
  row: {column: row, type: number, feature: true}
label: {column: fraud, delay_days: 7}
maturity_days: 7
""")
START, END = dt.datetime(2018, 6, 1, tzinfo=dt.UTC), dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


def at(day, hour=0.0):
    """So many days and hours into the window."""
    return START + dt.timedelta(days=day, hours=hour)


def transactions(*rows):
    """Rows of (id, moment, customer, terminal, amount)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 5
    return pa.table(columns, schema=CONTRACT.transactions_schema())


def statements(*rows):
    """Rows of (transaction id, customer, terminal, is fraud, known at, and when it happened unless at the start)."""
    stated = [(row[0], *(row[5:] or (START,)), row[1], row[2], row[3], row[4], "chargeback") for row in rows]
    columns = [list(column) for column in zip(*stated, strict=True)] if rows else [[]] * 7
    return pa.table(columns, schema=CONTRACT.labels_schema())


def features(rows, stated=(), start=START, end=END):
    table = compute_features(transactions(*rows), statements(*stated), CONTRACT, start=start, end=end)
    return {row["transaction_id"]: row for row in table.to_pylist()}


HISTORY = [
    (1, at(0, 0), 7, "x", 10.0),
    (2, at(4, 12), 7, "y", 30.0),
    (3, at(9, 0), 7, "x", 20.0),
    (4, at(9, 12), 7, "x", 60.0),
]


def share(frauds, count):
    """Drawn by ten transactions to one in a hundred."""
    return pytest.approx((frauds + 0.1) / (count + 10), rel=1e-6)


def test_features_are_those_worked_out_by_hand():
    """Of transaction 4's customer, only transaction 1 had matured: 10, with no spread.

    Transaction 3 was known, then, to be 10 deviations (of one unit, as there is no spread) above it, 8 more than what
    counts as odd. Before it, the customer had 20 in the last day, 30 and 20 in the last seven, all three in thirty.
    """
    row = features(HISTORY)[4]
    expected = {
        "hour": 12.0,
        "is_weekend": 1.0,  # 10 June 2018 was a Sunday
        "amount": 60.0,
        "customer_count_1d": 1.0,
        "customer_count_7d": 2.0,
        "customer_count_30d": 3.0,
        "customer_days_since_last": 0.5,
        "customer_amount_ratio": 60 / 11,
        "customer_amount_z": 50 / 1,
        "customer_amount_over_max": 60 / 11,
        "customer_amount_excess_7d": 8.0,
        "customer_amount_excess_30d": 8.0,
        "customer_amount_over_max_7d": 20 / 11,
        "customer_amount_over_max_30d": 20 / 11,
        "customer_known_fraud_share_7d": 0.1 / 12,
        "customer_known_fraud_share_30d": 0.1 / 13,
        "customer_known_fraud_share_90d": 0.1 / 13,
        "customer_days_since_first_known_fraud": None,
        "customer_days_since_last_known_fraud": None,
        "customer_days_since_known_genuine": 9.0,
        # At terminal x: transactions 1 and 3.
        "terminal_count_1d": 1.0,
        "terminal_count_7d": 1.0,
        "terminal_count_30d": 2.0,
        "terminal_days_since_last": 0.5,
        "terminal_known_fraud_share_7d": 0.1 / 11,
        "terminal_known_fraud_share_30d": 0.1 / 12,
        "terminal_known_fraud_share_90d": 0.1 / 12,
        "terminal_days_since_first_known_fraud": None,
        "terminal_days_since_last_known_fraud": None,
        "terminal_days_since_known_genuine": 9.0,
    }
    assert tuple(expected) == feature_names(CONTRACT)
    empty = {name for name, value in expected.items() if value is None}
    assert {name for name in expected if row[name] is None} == empty
    for name in expected.keys() - empty:
        assert row[name] == pytest.approx(expected[name], rel=1e-6), name


def test_what_is_usual_is_what_matured_without_a_known_fraud():
    """Of 10, 30 and 90, all matured on day 20, 90 is known as fraud since day 9, in time; 30 only since day 15."""
    rows = [(1, at(0), 7, "x", 10.0), (2, at(1), 7, "x", 30.0), (3, at(2), 7, "x", 90.0), (4, at(20), 7, "x", 40.0)]
    row = features(rows, [(3, 7, "x", True, at(6)), (2, 7, "x", True, at(15))])[4]
    assert row["customer_amount_ratio"] == pytest.approx(40 / 21)
    assert row["customer_amount_z"] == pytest.approx(20 / 11)
    assert row["customer_amount_over_max"] == pytest.approx(40 / 31)


INVESTIGATED = CONTRACT.model_copy(update={"label": CONTRACT.label.model_copy(update={"blank": "unknown"})})


@pytest.mark.parametrize(
    ("stated", "ratio", "genuine"),
    [
        ([], None, None),
        ([(1, 7, "x", False, at(2))], 60 / 11, 9.0),
        ([(1, 7, "x", True, at(2))], None, None),
        ([(1, 7, "x", False, at(2)), (1, 7, "x", None, at(3))], None, None),
        ([(1, 7, "x", False, at(8))], None, None),
    ],
    ids=["nothing said", "genuine", "fraud", "withdrawn", "said after it matured"],
)
def test_where_blanks_are_unknown_only_what_was_stated_genuine_by_maturity_is_usual(stated, ratio, genuine):
    table = compute_features(transactions(*HISTORY), statements(*stated), INVESTIGATED, start=START, end=END)
    row = {row["transaction_id"]: row for row in table.to_pylist()}[4]
    assert row["customer_amount_ratio"] == (ratio if ratio is None else pytest.approx(ratio, rel=1e-6))
    assert row["customer_days_since_known_genuine"] == genuine


def test_what_is_usual_reaches_back_ninety_days_from_maturity():
    rows = [(1, at(0), 7, "x", 10.0), (2, at(97), 7, "x", 5.0), (3, at(97) + MICROSECOND, 7, "x", 5.0)]
    found = features(rows, end=at(200))
    assert found[2]["customer_amount_ratio"] == pytest.approx(5 / 11)
    assert found[3]["customer_amount_ratio"] is None


def test_the_first_transaction_of_an_entity_has_counts_of_zero_and_no_history():
    row = features(HISTORY)[1]
    assert row["customer_count_30d"] == 0
    assert row["customer_known_fraud_share_30d"] == share(0, 0)
    for name in ("amount_ratio", "amount_z", "amount_over_max", "amount_excess_30d", "days_since_last"):
        assert row[f"customer_{name}"] is None


def test_frauds_count_for_customer_and_terminal_from_when_they_are_known_until_they_are_withdrawn():
    """Transaction 1 is known as fraud on day 7. Transaction 2, on day 8, is withdrawn on day 9 at 6 o'clock."""
    stated = [
        (1, 7, "x", True, at(7)), (2, 7, "y", True, at(8)), (2, 7, "y", False, at(9, 6)),
    ]  # fmt: skip
    found = features(HISTORY, stated)
    # Before transaction 3 the customer had two known frauds, of one transaction in the last seven days.
    assert [found[number]["customer_known_fraud_share_7d"] for number in (1, 2, 3, 4)] == [
        share(0, 0), share(0, 1), share(2, 2), share(1, 2),
    ]  # fmt: skip
    assert [found[number]["terminal_known_fraud_share_30d"] for number in (1, 2, 3, 4)] == [
        share(0, 0), share(0, 0), share(1, 1), share(1, 2),
    ]  # fmt: skip
    assert found[3]["customer_days_since_first_known_fraud"] == 9
    assert found[4]["terminal_days_since_last_known_fraud"] == 9
    assert found[4]["terminal_days_since_known_genuine"] is None


def test_a_withdrawal_leaves_no_fraud():
    stated = [(1, 7, "x", True, at(7)), (1, 7, "x", False, at(9, 6))]
    row = features(HISTORY, stated)[4]
    assert row["customer_known_fraud_share_30d"] == share(0, 3)
    assert row["customer_days_since_first_known_fraud"] is None
    assert row["customer_days_since_last_known_fraud"] is None


def test_a_fraud_that_is_withdrawn_after_it_left_the_window_leaves_no_negative_count():
    rows = [(1, at(0), 7, "x", 1.0), (2, at(40), 7, "x", 1.0)]
    row = features(rows, [(1, 7, "x", True, at(1)), (1, 7, "x", False, at(38))])[2]
    for days in (7, 30):
        assert row[f"customer_known_fraud_share_{days}d"] == share(0, 0)
    assert row["customer_known_fraud_share_90d"] == share(0, 1)


def test_a_fraud_reported_twice_is_one_fraud():
    stated = [(1, 7, "x", True, at(5)), (1, 7, "x", True, at(6))]
    assert features(HISTORY, stated)[4]["customer_known_fraud_share_7d"] == share(1, 2)


@pytest.mark.parametrize(("amount", "at_terminal"), [(20.0, 1), (22.0, 0)])
def test_a_fraud_above_all_that_was_usual_for_the_customer_says_nothing_about_the_terminal(amount, at_terminal):
    """The customer's largest genuine amount is 20: 21 is not above it by more than one unit of currency, 22 is."""
    rows = [(1, at(0), 7, "y", 20.0), (2, at(10), 7, "x", amount), (3, at(20), 8, "x", 1.0), (4, at(20), 7, "z", 1.0)]
    found = features(rows, [(2, 7, "x", True, at(12), at(10))])
    assert found[3]["terminal_known_fraud_share_30d"] == share(at_terminal, 1)
    assert found[4]["customer_known_fraud_share_30d"] == share(1, 2)


@pytest.mark.parametrize(("late", "at_terminal"), [(dt.timedelta(0), 0), (MICROSECOND, 1)])
def test_a_fraud_reported_after_more_than_thirty_days_is_not_judged_by_its_amount(late, at_terminal):
    rows = [(1, at(0), 7, "y", 20.0), (2, at(10), 7, "x", 500.0), (3, at(50), 8, "x", 1.0)]
    found = features(rows, [(2, 7, "x", True, at(40) + late, at(10))])
    assert found[3]["terminal_known_fraud_share_90d"] == share(at_terminal, 1)


def test_a_fraud_that_names_no_customer_counts_at_the_terminal_whatever_its_amount():
    rows = [(1, at(0), None, "y", 20.0), (2, at(10), None, "x", 500.0), (3, at(20), 8, "x", 1.0)]
    found = features(rows, [(2, None, "x", True, at(12), at(10))])
    assert found[3]["terminal_known_fraud_share_30d"] == share(1, 1)


def test_days_are_those_of_the_contract_s_own_calendar():
    """At 23:30 UTC on 9 June it is the 10th, a Sunday, in Berlin, nine days after 1 June, 00:30 there."""
    local = parse_contract(CONTRACT.model_copy(update={"timezone": "Europe/Berlin"}).model_dump_json())
    rows = [(1, at(-1, 22.5), 7, "x", 1.0), (2, at(8, 23.5), 7, "x", 1.0)]
    table = compute_features(transactions(*rows), statements(), local, start=at(1), end=END)
    row = table.to_pylist()[0]
    assert (row["hour"], row["is_weekend"], row["customer_days_since_known_genuine"]) == (1.5, 1, 9)


def counted(days):
    return Aggregate("count", Column(MOMENT), 24 * days)


def test_a_new_feature_is_one_line(monkeypatch):
    line = Feature("busiest", counted(3) / counted(30), "A share.", Wording("share", "{value} of the days"))
    monkeypatch.setattr("fraud_assets.core.features.declarations.ENTITY_FEATURES", (*ENTITY_FEATURES, line))
    contract = CONTRACT.model_copy(update={"name": "one_line_more"})
    assert {"customer_busiest", "terminal_busiest"} <= set(feature_names(contract))
    table = compute_features(transactions(*HISTORY), statements(), contract, start=START, end=END)
    # Of the customer's three transactions in thirty days, one was in the last three.
    assert table["customer_busiest"].to_pylist()[3] == pytest.approx(1 / 3)
    assert feature_days(contract)["customer_busiest"] == 30


@pytest.mark.parametrize(("late", "days"), [(dt.timedelta(0), 97), (MICROSECOND, None)])
def test_a_month_s_first_transaction_knows_what_matured_ninety_days_before(late, days):
    rows = [(1, at(0), 7, "x", 20.0), (2, at(97) + late, 7, "x", 5.0)]
    assert features(rows, start=at(97), end=at(98))[2]["customer_days_since_known_genuine"] == days


def test_a_month_s_first_transaction_knows_the_oldest_fraud_by_what_was_usual_before_it():
    """Known 90 days before, of 30 days before that, judged by one of 97 days before that: the last of each."""
    rows = [(1, at(0), 7, "y", 20.0), (2, at(97), 7, "x", 500.0), (3, at(97 + 30 + 90), 8, "x", 1.0)]
    found = features(rows, [(2, 7, "x", True, at(97 + 30), at(97))], start=at(217), end=at(218))
    assert found[3]["terminal_known_fraud_share_90d"] == share(0, 0)


@pytest.mark.parametrize("compute", [compute_features, compute_with_duckdb])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            Column("no_such_column") + 1,
            "customer_wrong is made of a column that contract wrong_line does not have",
        ),
        (counted(91), "customer_wrong looks back 2184 hours, and history is read for 90 days"),
        (
            Aggregate("max", Column(OVER_MAX), 24 * 31),
            "customer_wrong looks back 744 hours, and history is read for 30 days",
        ),
    ],
)
def test_a_feature_that_cannot_be_made_is_refused_by_name(monkeypatch, value, said, compute):
    line = Feature("wrong", value, "Wrong.", Wording("number", "{value} is wrong"))
    monkeypatch.setattr("fraud_assets.core.features.declarations.ENTITY_FEATURES", (line,))
    contract = CONTRACT.model_copy(update={"name": "wrong_line"})
    with pytest.raises(FeatureError, match=said):
        compute(transactions(*HISTORY), statements(), contract, start=START, end=END)


def test_history_is_as_long_as_what_features_look_back_at():
    """Ninety days before maturity; what was usual, for the last thirty days' amounts, and for frauds.

    A fraud became known in the last ninety, at most thirty after it happened.
    """
    assert history_days(CONTRACT, "terminal_id") == 90 + 7
    assert history_days(CONTRACT, "customer_id") == 30 + 90 + 7
    assert history_days(CONTRACT) == 90 + 30 + 90 + 7
    assert history_days(FLAT) == 90 + 7
    days = feature_days(CONTRACT)
    assert (days["hour"], days["customer_count_7d"], days["terminal_days_since_known_genuine"]) == (0, 7, 97)
    assert (days["customer_known_fraud_share_30d"], days["terminal_days_since_last_known_fraud"]) == (67, 127)
    assert (days["customer_amount_z"], days["customer_amount_excess_30d"]) == (97, 30 + 97)


@pytest.mark.parametrize(("gap", "counted"), [(dt.timedelta(days=1), 1), (dt.timedelta(days=1) + MICROSECOND, 0)])
def test_a_window_reaches_back_to_its_days_to_the_microsecond(gap, counted):
    row = features([(1, at(5), 7, "x", 1.0), (2, at(5) + gap, 7, "x", 1.0)])[2]
    assert row["customer_count_1d"] == counted
    assert row["customer_count_7d"] == 1


def test_history_ends_after_ninety_days():
    found = features(
        [(1, at(0), 7, "x", 1.0), (2, at(90), 7, "x", 1.0), (3, at(180) + MICROSECOND, 7, "x", 1.0)], end=at(200)
    )
    assert found[2]["customer_days_since_last"] == 90
    assert found[3]["customer_days_since_last"] is None


def test_transactions_at_the_same_instant_do_not_see_each_other():
    found = features([(1, at(1), 7, "x", 5.0), (2, at(2), 7, "x", 10.0), (3, at(2), 7, "x", 90.0)])
    for number in (2, 3):
        assert found[number]["customer_count_30d"] == 1
        assert found[number]["customer_days_since_last"] == 1


def test_a_statement_at_the_same_instant_is_not_yet_known():
    found = features(HISTORY, [(1, 7, "x", True, at(9, 12))])
    assert found[4]["customer_known_fraud_share_7d"] == share(0, 2)
    found = features(HISTORY, [(1, 7, "x", True, at(9, 12) - MICROSECOND)])
    assert found[4]["customer_known_fraud_share_7d"] == share(1, 2)


def test_a_transaction_without_a_customer_has_no_customer_features_and_is_in_nobodys_history():
    found = features([(1, at(1), None, "x", 5.0), (2, at(2), None, "x", 10.0), (3, at(3), 7, "x", 1.0)])
    assert found[2]["customer_count_30d"] is None
    assert found[2]["terminal_count_30d"] == 1
    assert found[3]["customer_count_30d"] == 0
    assert found[3]["terminal_count_30d"] == 2


def test_an_unknown_amount_counts_as_a_transaction_and_not_as_an_amount():
    found = features([(1, at(1), 7, "x", 6.0), (2, at(2), 7, "x", None), (3, at(13), 7, "x", 14.0)])
    assert found[2]["amount"] is None
    assert found[2]["customer_amount_ratio"] is None
    assert found[3]["customer_count_30d"] == 2
    assert found[3]["customer_amount_ratio"] == 2


@pytest.mark.parametrize("amounts", [[-1.0, 5.0], [0.0, 0.0], [-1.5, -0.5, 5.0], [3.4e38, 3.4e38, 1.0], [1.0, 3.4e38]])
def test_no_history_makes_a_feature_infinite(amounts):
    rows = [(number, at(10 * number), 7, "x", amount) for number, amount in enumerate(amounts)]
    for row in features(rows).values():
        assert all(value is None or math.isfinite(value) for name in feature_names(CONTRACT) for value in [row[name]])


def test_only_the_window_asked_for_is_given_in_order_of_time_and_identifier():
    rows = [
        (9, at(2), 7, "x", 1.0),
        (4, at(2), 8, "x", 1.0),
        (5, at(1), 7, "x", 1.0),
        (6, at(3), 7, "x", 1.0),
    ]
    table = compute_features(transactions(*rows), statements(), CONTRACT, start=at(2), end=at(3))
    assert table["transaction_id"].to_pylist() == [4, 9]
    assert table.column_names == [
        "transaction_id", "event_timestamp", "customer_id", "terminal_id", *feature_names(CONTRACT),
    ]  # fmt: skip
    assert {table.schema.field(name).type for name in feature_names(CONTRACT)} == {pa.float32()}


def test_no_transactions_have_no_features():
    table = compute_features(transactions(), statements(), CONTRACT, start=START, end=END)
    assert table.num_rows == 0
    assert set(feature_names(CONTRACT)) < set(table.column_names)


def test_a_contract_without_entities_and_amount_has_the_clock_and_its_attributes():
    assert feature_names(FLAT) == ("hour", "is_weekend", "clicks", "weight", "t", "row")
    rows = pa.table(
        [[2, 1], [at(0, 6), at(5, 18.5)], [3, 4], [None, 0.5], ["a", "b"], [0.25, 0.5], [8.0, 9.0]],
        schema=FLAT.transactions_schema(),
    )
    table = compute_features(rows, FLAT.labels_schema().empty_table(), FLAT, start=START, end=END)
    # 1 June 2018 was a Friday, so day 5 is a Wednesday.
    assert table.drop_columns("event_timestamp").to_pylist() == [
        {
            "transaction_id": 2,
            "hour": 6.0,
            "is_weekend": 0.0,
            "clicks": 3.0,
            "weight": None,
            "t": 0.25,
            "row": 8.0,
        },
        {
            "transaction_id": 1,
            "hour": 18.5,
            "is_weekend": 0.0,
            "clicks": 4.0,
            "weight": 0.5,
            "t": 0.5,
            "row": 9.0,
        },
    ]


SHOP = parse_contract("""
name: shop
first_month: 2018-01
timezone: Europe/Berlin
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
attributes:
  note: {column: note, nullable: true}
  channel: {column: channel, categories: [web, Point of Sale], nullable: true}
  present: {column: present, type: boolean, nullable: true}
  born: {column: born, type: date, nullable: true}
  items: {column: items, type: integer, nullable: true}
  left_out: {column: left_out, type: date, nullable: true, feature: false}
label: {column: fraud, delay_days: 7}
maturity_days: 7
""")


def shop_rows(*rows):
    return pa.Table.from_pylist(
        [dict(zip(SHOP.transactions_schema().names, row, strict=True)) for row in rows],
        schema=SHOP.transactions_schema(),
    )


def test_attributes_are_numbers_or_texts_to_models():
    assert feature_names(SHOP) == ("hour", "is_weekend", "present", "born", "items")
    assert text_features(SHOP) == ("note", "channel")
    rows = shop_rows(
        # 23:00 in London is the next day in Berlin: 2 June there, of which the card expires the day before.
        (1, at(0, 23.0), "Zo\u00eb  ", "web", True, dt.date(2018, 6, 1), 3, dt.date(2018, 6, 1)),
        (2, at(1), None, "Point of Sale", False, dt.date(2018, 7, 1), None, None),
        (3, at(2), "", None, None, None, 0, None),
    )
    table = compute_features(rows, SHOP.labels_schema().empty_table(), SHOP, start=START, end=END)
    assert table.schema.names == ["transaction_id", "event_timestamp", *model_columns(SHOP)]
    assert {name: table.schema.field(name).type for name in model_columns(SHOP)} == feature_types(SHOP)
    assert table.select(["present", "born", "items", "note", "channel"]).to_pylist() == [
        {"present": 1, "born": 1, "items": 3, "note": "Zo\u00eb  ", "channel": "web"},
        {"present": 0, "born": -29, "items": None, "note": None, "channel": "Point of Sale"},
        {"present": None, "born": None, "items": 0, "note": "", "channel": None},
    ]


def test_another_definition_of_features_has_another_digest(monkeypatch):
    before = features_digest(SHOP)
    assert features_digest(SHOP) == before != features_digest(FLAT)
    monkeypatch.setattr("fraud_assets.core.features.declarations.VERSION", 1)
    assert features_digest(SHOP) != before


def test_the_names_that_no_attribute_may_have_are_those_that_are_computed():
    assert tuple(feature.name for feature in ENTITY_FEATURES) == OF_ENTITIES


# Nothing from the future

moments = st.integers(0, 45 * 4).map(lambda quarter_days: at(0, 6 * quarter_days))
customers, terminals = st.sampled_from([7, 8, None]), st.sampled_from(["x", "y"])
amounts = st.one_of(st.none(), st.integers(1, 500).map(float))
histories = st.lists(st.tuples(moments, customers, terminals, amounts), min_size=2, max_size=14).map(
    lambda rows: [(number, *row) for number, row in enumerate(rows, 1)]
)
reports = st.lists(st.tuples(st.integers(1, 14), customers, terminals, st.booleans(), moments), max_size=8)


# A call takes some hundredths of a second, whatever the number of rows.
@settings(max_examples=settings.default.max_examples // 2)
@given(histories, reports, st.data())
def test_nothing_at_or_after_a_transaction_changes_its_features_or_earlier_ones(rows, stated, data):
    mine = data.draw(st.sampled_from(rows), label="transaction")
    now = mine[1]
    changed = []
    for row in rows:
        if row[1] < now or row is mine:
            changed.append(row)
        elif data.draw(st.booleans(), label=f"keep {row[0]}"):
            changed.append(
                (
                    row[0],
                    data.draw(moments.filter(lambda t: t >= now)),
                    *data.draw(st.tuples(customers, terminals, amounts)),
                )
            )
    kept = [report for report in stated if report[4] < now]
    later = data.draw(
        st.lists(
            st.tuples(st.integers(1, 14), customers, terminals, st.booleans(), moments.filter(lambda t: t >= now)),
            max_size=4,
        )
    )
    before, after = features(rows, stated), features(changed, kept + later)
    for row in rows:
        if row[1] < now or row is mine:
            assert after[row[0]] == before[row[0]]


@pytest.mark.parametrize(
    "change",
    [
        lambda row: (row[0], row[1], row[2], row[3], row[4] + 1),
        lambda row: (row[0], row[1], 8, row[3], row[4]),
        lambda row: (row[0], row[1], row[2], "z", row[4]),
        lambda row: None,
    ],
    ids=["amount", "customer", "terminal", "removed"],
)
@pytest.mark.parametrize(("moment", "seen"), [(at(9, 12) - MICROSECOND, True), (at(9, 12), False)])
def test_a_change_is_seen_from_one_microsecond_later_on(change, moment, seen):
    other = (5, moment, 7, "x", 20.0)
    changed = change(other)
    before = features([*HISTORY, other])[4]
    after = features([*HISTORY, *([changed] if changed else [])])[4]
    assert (before != after) is seen


# The same month, however it is asked for


@pytest.fixture(scope="module")
def simulated(simulator_contract):
    months = months_between("2025-01", "2025-04")
    world = SimulatorConfig(customers=150, terminals=200, seed=3)
    rows = {month: simulate_month(month, world) for month in months}
    deliveries = {
        month: Delivery([Part(month, lambda month=month: iter(rows[month].to_batches()))]) for month in months
    }
    taken = [accept(delivery, simulator_contract, month) for month, delivery in deliveries.items()]
    return (
        pa.concat_tables([intake.transactions().read_all() for intake in taken]),
        pa.concat_tables([intake.statements for intake in taken]),
    )


def month_features(rows, stated, contract, month="2025-03"):
    return compute_features(rows, stated, contract, start=month_start(month), end=month_end(month))


def test_a_month_is_the_same_with_more_history_and_with_the_future(simulated, simulator_contract):
    rows, stated = simulated
    whole = month_features(rows, stated, simulator_contract)
    start, end = month_start("2025-03"), month_end("2025-03")
    needed = pc.and_(
        pc.greater_equal(
            rows["event_timestamp"],
            pa.scalar(start - dt.timedelta(days=history_days(simulator_contract)), rows["event_timestamp"].type),
        ),
        pc.less(rows["event_timestamp"], pa.scalar(end, rows["event_timestamp"].type)),
    )
    known = stated.filter(pc.less(stated["label_timestamp"], pa.scalar(end, stated["label_timestamp"].type)))
    alone = month_features(rows.filter(needed), known, simulator_contract)
    assert 5_000 < whole.num_rows < rows.num_rows / 3
    assert digest_table(alone) == digest_table(whole)


def test_a_month_is_the_same_whatever_the_order_of_its_rows(simulated, simulator_contract):
    rows, stated = simulated
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    turned = stated.take(pa.array(np.arange(stated.num_rows)[::-1]))
    again = month_features(shuffled, turned, simulator_contract)
    assert digest_table(again) == digest_table(month_features(rows, stated, simulator_contract))


def test_a_simulated_terminal_with_known_frauds_is_seen_as_such(simulated, simulator_contract):
    """A plain loop over the terminal's transactions and those of their customers says the same."""
    rows, stated = simulated
    table = month_features(rows, stated, simulator_contract)
    position = int(np.argmax(table["terminal_known_fraud_share_90d"].to_numpy()))
    mine = table.slice(position, 1).to_pylist()[0]
    now, since = mine["event_timestamp"], mine["event_timestamp"] - dt.timedelta(days=90)
    everything = {row["transaction_id"]: row for row in rows.to_pylist()}
    known_at = {s["transaction_id"]: s["label_timestamp"] for s in stated.to_pylist()}
    maturity = dt.timedelta(days=simulator_contract.maturity_days)

    def usual(fraud):
        before = fraud["event_timestamp"] - maturity
        amounts = [
            row["amount"]
            for row in everything.values()
            if row["customer_id"] == fraud["customer_id"]
            and before - dt.timedelta(days=90) <= row["event_timestamp"] < before
            and not known_at.get(row["transaction_id"], now) <= row["event_timestamp"] + maturity
        ]
        return not amounts or fraud["amount"] <= max(amounts) + 1

    frauds = [
        everything[number]
        for number, known in known_at.items()
        if everything[number]["terminal_id"] == mine["terminal_id"]
        and since <= known < now
        and (usual(everything[number]) or known - everything[number]["event_timestamp"] > dt.timedelta(days=30))
    ]
    seen = [
        row
        for row in everything.values()
        if row["terminal_id"] == mine["terminal_id"] and since <= row["event_timestamp"] < now
    ]
    assert len(frauds) > 1
    assert mine["terminal_known_fraud_share_90d"] == share(len(frauds), max(len(seen), len(frauds)))
    first = min(fraud["event_timestamp"] for fraud in frauds)
    assert mine["terminal_days_since_first_known_fraud"] == (now.date() - first.date()).days


def test_the_expression_is_compiled_once_for_a_contract_whatever_is_asked(monkeypatch):
    compiled = []
    to_sql = ibis.to_sql
    monkeypatch.setattr(ibis, "to_sql", lambda *given, **options: compiled.append(1) or to_sql(*given, **options))
    renamed = CONTRACT.model_copy(update={"name": "compiled_once"})
    for end in (at(5), at(10)):
        compute_with_duckdb(transactions(*HISTORY), statements(), renamed, start=START, end=end)
    compute_with_duckdb(transactions(), statements(), renamed, start=START, end=END)
    assert len(compiled) == 1


QUIETLY = """
import datetime as dt, duckdb, pyarrow as pa
from fraud_assets.core.features.ibis_expression import compute_with_duckdb
from fraud_assets_tests.core.features.test_declarations import CONTRACT, END, START

def at_once(connect=duckdb.connect, **given):
    connection = connect(**given)
    connection.execute("SET progress_bar_time = 5")
    return connection

duckdb.connect = at_once
columns = {"transaction_id": int, "customer_id": lambda n: n % 50, "terminal_id": str, "amount": float}
rows = [
    {"event_timestamp": START + dt.timedelta(minutes=n)} | {name: make(n) for name, make in columns.items()}
    for n in range(20_000)
]
compute_with_duckdb(
    pa.Table.from_pylist(rows, schema=CONTRACT.transactions_schema()), CONTRACT.labels_schema().empty_table(), CONTRACT,
    start=START, end=END,
)
"""


def test_nothing_is_drawn_into_what_a_command_prints():
    # DuckDB draws a progress bar to stdout where it takes the process for an interactive one, as `python -c` is.
    done = subprocess.run(
        [sys.executable, "-c", QUIETLY], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout == ""
