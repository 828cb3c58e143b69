"""Columns made for the drift report: by hand, and never from the day itself or a later one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.drift.history_columns import (
    counting_features,
    delivered_columns,
    history_columns,
    label_features,
    with_history_columns,
)
from fraud_assets.core.features.declarations import feature_names

TEXT = """
name: cards
first_month: 2016-01
timezone: {zone}
transaction_id: {{column: id, type: integer}}
event_timestamp: {{column: at}}
entities:
  customer_id: {{column: customer, type: integer}}
  terminal_id: {{column: terminal, type: integer}}
amount: {{column: amount, type: number}}
attributes:
  shop: {{column: shop, type: string}}
label: {{column: fraud, delay_days: 7}}
maturity_days: 7
"""
CONTRACT = parse_contract(TEXT.format(zone="UTC"))


def table(rows: list[tuple[dt.datetime, int | None, int | None, float | None]]) -> pa.Table:
    return pa.table(
        {
            "event_timestamp": pa.array([row[0] for row in rows], pa.timestamp("us", "UTC")),
            "customer_id": pa.array([row[1] for row in rows], pa.int64()),
            "terminal_id": pa.array([row[2] for row in rows], pa.int64()),
            "amount": pa.array([row[3] for row in rows], pa.float64()),
        }
    )


def at(month: int, day: int, hour: int = 12) -> dt.datetime:
    return dt.datetime(2018, month, day, hour, tzinfo=dt.UTC)


def made(rows: list[Any], contract: Any = CONTRACT) -> dict[str, list[float | None]]:
    columns = with_history_columns(table(rows), contract)
    return {name: columns[name].to_pylist() for name in history_columns(contract)}


def test_an_amount_is_divided_by_the_mean_of_the_customer_s_last_30_days() -> None:
    # Five rows of 10 to 30, mean 20, from 5 to 9 May; another customer's do not count.
    rows = [(at(5, 5 + n), 1, 1, 10.0 + 5 * n) for n in range(5)] + [(at(5, 9), 2, 1, 1000.0)]
    found = made([*rows, (at(5, 10), 1, 1, 50.0)])["amount_over_recent_mean"]
    assert found == [None] * 6 + [2.5]


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (at(5, 9, 23), None),  # the fifth is of the same day
        (at(6, 4), 2.5),  # 5 May is 30 days before
        (at(6, 5), None),  # and now 31: four are too few
    ],
)
def test_the_day_itself_and_days_that_are_too_old_are_no_history(day: dt.datetime, expected: float | None) -> None:
    rows = [(at(5, 5 + n), 1, 1, 10.0 + 5 * n) for n in range(5)]
    assert made([*rows, (day, 1, 1, 50.0)])["amount_over_recent_mean"][-1] == expected


def test_a_terminal_is_new_all_month_if_it_was_not_seen_in_the_31_days_before() -> None:
    rows = [
        (at(4, 29), 1, 1, 1.0), (at(5, 1), 1, 1, 1.0),  # the 31 days before June begin on 1 May
        (at(4, 30), 1, 2, 1.0), (at(6, 3), 1, 1, 1.0),
        (at(6, 4), 1, 2, 1.0), (at(6, 20), 1, 3, 1.0), (at(6, 21), 1, 3, 1.0), (at(6, 22), 1, None, 1.0),
    ]  # fmt: skip
    assert made(rows)["terminal_id_new"][3:] == [0.0, 1.0, 1.0, 1.0, None]


def test_days_and_months_are_those_of_the_contract_s_zone() -> None:
    # 23:00 in UTC is the first of June in Berlin, so the terminal is new there in June, and known in UTC.
    rows = [(at(5, 31, 23), 1, 1, 1.0), (at(6, 2), 1, 1, 1.0)]
    assert made(rows)["terminal_id_new"][-1] == 0.0
    assert made(rows, parse_contract(TEXT.format(zone="Europe/Berlin")))["terminal_id_new"][-1] == 1.0


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 90), st.integers(0, 3), st.integers(0, 5), st.floats(0.01, 1000).map(lambda x: round(x, 2))
        ),
        min_size=5,
        max_size=60,
    ),
    cut=st.integers(1, 90),
)
def test_rows_of_a_day_and_later_change_no_value_of_an_earlier_day(rows: list[Any], cut: int) -> None:
    history = [(at(4, 1) + dt.timedelta(days=day), *row) for day, *row in rows]
    before = [row for row in history if row[0] < at(4, 1) + dt.timedelta(days=cut)]
    where = [number for number, row in enumerate(history) if row in before]
    whole, part = made(history), made(before)
    for name in history_columns(CONTRACT):
        assert [whole[name][number] for number in where] == part[name]


def test_rows_keep_their_order_and_nothing_else_is_added() -> None:
    rows = table([(at(5, 9), 2, 1, 3.0), (at(5, 5), 1, 1, 1.0)])
    columns = with_history_columns(rows, CONTRACT)
    assert columns.select(rows.column_names) == rows
    assert columns.column_names == [*rows.column_names, *history_columns(CONTRACT)]


def test_which_features_count_rows_or_frauds_and_which_columns_are_delivered() -> None:
    counting = counting_features(CONTRACT)
    assert "customer_count_7d" in counting
    assert {"terminal_count_30d", "terminal_days_since_known_genuine"} <= counting
    assert not any("fraud" in name for name in counting)
    assert "amount" not in counting
    assert label_features(CONTRACT) == {name for name in feature_names(CONTRACT) if "_known_" in name}
    assert delivered_columns(CONTRACT, ["amount", "shop", "customer_count_7d"]) == {"amount", "shop"}
