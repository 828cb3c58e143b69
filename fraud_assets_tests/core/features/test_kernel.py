"""The kernel and the SQL are two readers of one declaration: on any history, both give the same."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import Contract, ContractError, parse_contract
from fraud_assets.core.digests import digest_table
from fraud_assets.core.features import kernel
from fraud_assets.core.features.declarations import (
    feature_days,
    feature_descriptions,
    feature_names,
    features_digest,
    history_days,
)
from fraud_assets.core.features.ibis_expression import compute_with_duckdb
from fraud_assets.core.features.kernel import compute_features

START, END = dt.datetime(2018, 6, 1, tzinfo=dt.UTC), dt.datetime(2019, 9, 1, tzinfo=dt.UTC)
EXTRA = """
window_days: 120
features:
  - {entity: customer_id, aggregate: distinct, of: terminal_id, window: 30d}
  - {entity: terminal_id, aggregate: distinct, of: city, window: 120d}
  - {entity: [customer_id, terminal_id], aggregate: count, window: 90d}
  - {entity: [customer_id, terminal_id], aggregate: days_since_last, window: 120d}
  - {entity: customer_id, aggregate: count, window: 6h}
  - {entity: customer_id, aggregate: mean, of: night, window: 120d}
  - {entity: terminal_id, aggregate: std, of: amount, window: 60d}
  - {entity: terminal_id, aggregate: sum, of: items, window: 120d}
  - {entity: terminal_id, aggregate: max, of: abroad, window: 120d}
"""


def contract(blank: str = "genuine_when_mature", further: str = "", timezone: str = "UTC") -> Contract:
    return parse_contract(f"""
name: cards
first_month: 2018-01
timezone: {timezone}
transaction_id: {{column: id}}
event_timestamp: {{column: at}}
entities:
  customer_id: {{column: customer, type: integer, nullable: true}}
  terminal_id: {{column: terminal, type: string, nullable: true}}
amount: {{column: amount, type: number, nullable: true}}
attributes:
  city: {{column: city, nullable: true}}
  items: {{column: items, type: integer, nullable: true}}
  abroad: {{column: abroad, type: boolean, nullable: true}}
  born: {{column: born, type: date, nullable: true}}
label: {{column: fraud, known_at: known, blank: {blank}}}
maturity_days: 7
{further}""")


CONTRACTS = [
    contract(), contract(further=EXTRA), contract("unknown", EXTRA), contract("unknown", EXTRA, "America/New_York"),
]  # fmt: skip

# Few moments, so that many are equal; entities that are missing; amounts of which many are equal.
moments = st.integers(0, 130 * 4).map(lambda quarters: START + dt.timedelta(hours=6 * quarters))
amounts = st.sampled_from([None, 0.0, 0.1, 0.1, -20.0, 3.3, 50.0, 1e7, 1e30])
transactions = st.lists(
    st.fixed_dictionaries(
        {
            "event_timestamp": moments,
            "customer_id": st.sampled_from([7, 2**53 + 1, 2**53 + 2, None]),
            "terminal_id": st.sampled_from(["x", "\u03b2 '", None]),
            "amount": amounts,
            "city": st.sampled_from(["Oslo", "", None]),
            "items": st.sampled_from([0, 3, -4, None]),
            "abroad": st.sampled_from([True, False, None]),
            "born": st.sampled_from([dt.date(1960, 2, 29), dt.date(2031, 1, 1), None]),
        }
    ),
    max_size=16,
)
statements = st.lists(st.tuples(st.integers(0, 15), st.sampled_from([True, False, None]), moments), max_size=10)


def tables(
    of: Contract, rows: list[dict[str, Any]], stated: list[tuple[int, bool | None, dt.datetime]]
) -> tuple[pa.Table, pa.Table]:
    """Transactions with ids in another order than their times, and statements about those that there are."""
    rows = [row | {"transaction_id": f"t{(number * 7) % 16:02}"} for number, row in enumerate(rows)]
    about = [
        {name: rows[number][name] for name in ("transaction_id", "event_timestamp", *of.entities)}
        | {"is_fraud": fraud, "label_timestamp": known, "label_source": "analyst"}
        for number, fraud, known in stated
        if number < len(rows)
    ]
    return (
        pa.Table.from_pylist(rows, schema=of.transactions_schema()),
        pa.Table.from_pylist(about, schema=of.labels_schema()),
    )


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    assert found.schema == expected.schema
    for name in found.column_names:
        if pa.types.is_floating(found.schema.field(name).type):
            # Oddness is rounded to millionths, and what a sum of 1e30 is depends on the order at such sizes.
            np.testing.assert_allclose(
                found[name].to_numpy(), expected[name].to_numpy(), rtol=1e-6, atol=2e-6, err_msg=name
            )
            assert found[name].null_count == int(np.isnan(found[name].to_numpy()).sum()), name
        else:
            assert found[name].equals(expected[name]), name


# SQL takes a tenth of a second, whatever the number of rows.
@settings(max_examples=max(settings.default.max_examples // 2, 20))
@given(st.sampled_from(CONTRACTS), transactions, statements, st.integers(0, 100))
def test_the_kernel_gives_what_sql_gives(
    of: Contract, rows: list[dict[str, Any]], stated: list[tuple[int, bool | None, dt.datetime]], since: int
) -> None:
    given_rows, given_statements = tables(of, rows, stated)
    span = {"start": START + dt.timedelta(days=since), "end": END}
    ours = compute_features(given_rows, given_statements, of, **span)
    assert_same(ours, compute_with_duckdb(given_rows, given_statements, of, **span))


def test_ten_thousand_rows_of_one_customer() -> None:
    of = contract(further=EXTRA)
    random = np.random.default_rng(8)
    n = 10_000
    rows = pa.table(
        {
            "transaction_id": [f"{number:05}" for number in range(n)],
            "event_timestamp": [START + dt.timedelta(minutes=int(m)) for m in np.sort(random.integers(0, 200_000, n))],
            "customer_id": np.full(n, 7),
            "terminal_id": random.choice(["x", "y", "z"], n),
            "amount": random.exponential(30, n).round(2),
            "city": random.choice(["Oslo", "Bergen"], n),
            "items": random.integers(0, 5, n),
            "abroad": random.random(n) < 0.1,
            "born": pa.array([dt.date(1990, 1, 1)] * n),
        },
        schema=of.transactions_schema(),
    )
    nothing = of.labels_schema().empty_table()
    span = {"start": START + dt.timedelta(days=130), "end": END}
    ours = compute_features(rows, nothing, of, **span)
    assert ours.num_rows > 500
    assert_same(ours, compute_with_duckdb(rows, nothing, of, **span))


def test_blocks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    of = contract("unknown", EXTRA)
    random = np.random.default_rng(2)
    n = 2_000
    rows: list[dict[str, Any]] = [
        {
            "event_timestamp": START + dt.timedelta(hours=int(hour)),
            "customer_id": int(customer) or None,
            "terminal_id": f"shop {customer % 13}",
            "amount": float(amount),
            "city": None,
            "items": 1,
            "abroad": False,
            "born": None,
        }
        for hour, customer, amount in zip(
            random.integers(0, 3_000, n), random.integers(0, 60, n), random.exponential(9, n), strict=True
        )
    ]
    given_rows, _ = tables(of, rows[:16], [])
    given_rows = pa.Table.from_pylist(
        [row | {"transaction_id": str(number)} for number, row in enumerate(rows)], schema=given_rows.schema
    )
    nothing = of.labels_schema().empty_table()
    whole = compute_features(given_rows, nothing, of, start=START, end=END)
    monkeypatch.setattr(kernel, "BLOCK_ROWS", 37)
    assert digest_table(compute_features(given_rows, nothing, of, start=START, end=END)) == digest_table(whole)


def test_a_contract_adds_features_by_name() -> None:
    of = contract(further=EXTRA)
    names = feature_names(of)
    assert names[names.index("terminal_days_since_known_genuine") + 1 : names.index("items")] == (
        "customer_distinct_terminal_id_30d", "terminal_distinct_city_120d", "customer_terminal_count_90d",
        "customer_terminal_days_since_last_120d", "customer_count_6h", "customer_mean_night_120d",
        "terminal_std_amount_60d", "terminal_sum_items_120d", "terminal_max_abroad_120d",
    )  # fmt: skip
    said = feature_descriptions(of)
    assert said["customer_terminal_count_90d"] == (
        "Transactions of the customer and terminal in the 90 days before; 0 and up."
    )
    assert said["customer_mean_night_120d"].startswith("Share of the customer's transactions of the 120 days before")


def test_a_longer_window_reads_more_history_and_is_stable_later() -> None:
    usual, longer = contract(), contract(further="window_days: 365")
    assert (history_days(usual, "terminal_id"), history_days(longer, "terminal_id")) == (97, 372)
    assert feature_days(longer)["customer_amount_z"] == 365 + 7
    assert "customer_known_fraud_share_365d" in feature_names(longer)
    assert features_digest(usual) != features_digest(longer)
    rows = [
        {
            "event_timestamp": START + dt.timedelta(days=day),
            "customer_id": 7,
            "amount": 10.0,
            "transaction_id": str(day),
        }
        for day in (0, 300)
    ]
    for of, days in ((usual, None), (longer, 300)):
        given_rows = pa.Table.from_pylist(rows, schema=of.transactions_schema())
        table = compute_features(given_rows, of.labels_schema().empty_table(), of, start=START, end=END)
        assert table["customer_days_since_last"].to_pylist() == [None, days]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{entity: card, aggregate: count, window: 7d}", "feature card_count_7d: there is no entity 'card'; there are"),
        ("{entity: customer_id, aggregate: count, window: 91d}", "window of 91d is longer than the 90 days"),
        ("{entity: customer_id, aggregate: mean, of: city, window: 7d}", "customer_mean_city_7d: 'city' is string"),
        ("{entity: customer_id, aggregate: mean, of: height, window: 7d}", "'height' is no column of the contract"),
        ("{entity: customer_id, aggregate: mean, window: 7d}", "mean needs a column: name it in `of`"),
        ("{entity: customer_id, aggregate: count, of: amount, window: 7d}", "count takes no column"),
        ("{entity: [customer_id, customer_id], aggregate: count, window: 7d}", "a pair of 'customer_id' with itself"),
        ("{entity: [], aggregate: count, window: 7d}", "entity is empty"),
        ("{entity: customer_id, aggregate: count, window: a week}", "'a week' is no window: write hours or days"),
        ("{entity: customer_id, aggregate: distinct, of: customer_id, window: 7d}", "one value in its own"),
        ("{entity: customer_id, aggregate: distinct, of: amount, window: 7d}", "'amount' cannot be counted"),
        ("{entity: customer_id, aggregate: count, window: 7d}", "customer_count_7d"),
        ("{entity: customer_id, aggregate: median, of: amount, window: 7d}", "aggregate"),
    ],
)
def test_a_feature_that_cannot_be_made_is_refused_when_the_contract_is_read(line: str, said: str) -> None:
    with pytest.raises(ContractError, match=said.replace("[", r"\[")):
        contract(further=f"features:\n  - {line}\n")


def test_times_before_1970_and_after_2100_are_times() -> None:
    of, usual = contract(), {"customer_id": 7, "amount": 10.0}
    for year in (1902, 2190):
        first = dt.datetime(year, 3, 1, 12, tzinfo=dt.UTC)
        rows = [
            usual | {"transaction_id": str(day), "event_timestamp": first + dt.timedelta(days=day)} for day in (0, 8, 9)
        ]
        given_rows = pa.Table.from_pylist(rows, schema=of.transactions_schema())
        nothing = of.labels_schema().empty_table()
        span = {"start": first, "end": first + dt.timedelta(days=10)}
        ours = compute_features(given_rows, nothing, of, **span)
        assert ours["customer_amount_z"].to_pylist() == [None, 0, 0]
        assert ours["customer_days_since_last"].to_pylist() == [None, 8, 1]
        assert_same(ours, compute_with_duckdb(given_rows, nothing, of, **span))
