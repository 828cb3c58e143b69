"""All columns together: what no column shows alone, and months in which nothing changed."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.drift.domain_classifier import DomainConfig, domain_finding
from fraud_assets_tests.core.quiet_months import World

FEATURES = ("amount", "hour", "noise", "shop")
CONFIG = DomainConfig(rows=3000)


def month(number: int, *, seed: int, together: float = 0.6, rows: int = 5000, **shops: float) -> pa.Table:
    """A month in which amount and hour have a correlation of `together`, and the same distributions whatever it is."""
    rng = np.random.default_rng(seed)
    first = dt.datetime(2018, number, 1, tzinfo=dt.UTC)
    moments = np.sort(rng.integers(0, 28 * 86_400, rows))
    normal = rng.multivariate_normal([0, 0], [[1, together], [together, 1]], rows)
    values = shops or {"a": 0.7, "b": 0.3}
    return pa.table(
        {
            "event_timestamp": pa.array(
                [first + dt.timedelta(seconds=int(s)) for s in moments], pa.timestamp("us", "UTC")
            ),
            "customer_id": rng.integers(0, 400, rows),
            "amount": np.exp(normal[:, 0]),
            "hour": normal[:, 1].astype(np.float32),
            "noise": rng.normal(size=rows),
            "shop": rng.choice(list(values), rows, p=list(values.values())).tolist(),
        }
    )


@pytest.fixture(scope="module")
def past() -> list[pa.Table]:
    return [month(number, seed=number) for number in range(1, 6)]


def found(months: list[pa.Table], current: pa.Table, config: DomainConfig = CONFIG, **options: Any) -> Any:
    given = {"features": FEATURES, "past": months, "customer": "customer_id"} | options
    return domain_finding(pa.concat_tables(months[:3]), current, config=config, **given)


def test_months_in_which_nothing_changed_are_ok(past: list[pa.Table]) -> None:
    findings = [found(past, month(6, seed=seed)) for seed in range(50, 54)]
    assert [finding.status for finding in findings] == ["OK"] * 4
    assert all(abs(finding.value_current - 0.5) < 0.03 for finding in findings)


def test_columns_that_go_together_otherwise_are_found_and_named_although_none_of_them_moved(
    past: list[pa.Table],
) -> None:
    finding = found(past, month(6, seed=6, together=-0.6))
    assert (finding.kind, finding.status, finding.cause) == ("multivariate", "DRIFT", "distribution")
    assert finding.value_current > 0.6
    assert finding.p_value < 0.001
    named = finding.reason.split("What gives the month away most: ")[1]
    assert {part.split()[0] for part in named.split(", ")[:2]} == {"amount", "hour"}


def test_a_column_that_carries_nothing_is_not_named(past: list[pa.Table]) -> None:
    def with_constant(table: pa.Table) -> pa.Table:
        return table.append_column("constant", pa.array(np.ones(len(table))))

    months = [with_constant(table) for table in past]
    current = with_constant(month(6, seed=6, together=-0.6))
    finding = found(months, current, features=("amount", "hour", "constant"))
    assert "What gives the month away most: " in finding.reason
    assert "constant" not in finding.reason


def test_a_slight_change_is_watched(past: list[pa.Table]) -> None:
    assert found(past, month(6, seed=6, together=0.45)).status == "WATCH"


def test_texts_are_looked_at_too(past: list[pa.Table]) -> None:
    finding = found(past, month(6, seed=6, a=0.3, b=0.7))
    assert finding.status == "DRIFT"
    assert "shop (" in finding.reason


def test_months_that_are_told_apart_as_well_as_this_one_make_it_quiet() -> None:
    past = [
        month(number, seed=number, a=share, b=1 - share) for number, share in enumerate([0.5, 0.8, 0.6, 0.9, 0.4], 1)
    ]
    current = month(6, seed=6, a=0.85, b=0.15)
    assert found(past, current).status == "OK"
    steady = [month(number, seed=number) for number in range(1, 6)]
    assert found(steady, current).status != "OK"


def test_a_month_that_lies_in_the_reference_is_not_compared_with_itself(past: list[pa.Table]) -> None:
    # Were it, its rows would be on both sides, and the classifier at less than a coin's half.
    assert found(past, month(6, seed=6)).value_reference == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("months", "current", "options", "words"),
    [
        (2, month(6, seed=6), {}, "2 earlier months cannot tell"),
        (5, month(6, seed=6, rows=400), {}, "fewer than 500 rows"),
        (5, month(6, seed=6), {"features": ["gone"]}, "no column is there throughout"),
    ],
)
def test_what_cannot_be_told_is_said_to_be_unknown(
    past: list[pa.Table], months: int, current: pa.Table, options: dict[str, Any], words: str
) -> None:
    finding = found(past, current, **{"past": past[:months]} | options)
    assert finding.status == "INSUFFICIENT_DATA"
    assert words in finding.reason


def test_the_same_data_give_the_same_figures(past: list[pa.Table]) -> None:
    current = month(6, seed=6, together=0.1)
    assert found(past, current) == found(past, current)


def test_without_customers_rows_are_divided(past: list[pa.Table]) -> None:
    finding = found(past, month(6, seed=6, together=-0.6), replace(CONFIG, rows=1000), customer=None)
    assert finding.status in ("WATCH", "DRIFT")


@pytest.mark.parametrize("empty", ["everywhere", "in the reference", "now"])
def test_a_column_without_a_single_value_in_a_window_breaks_nothing(empty: str) -> None:
    world = World(seed=31)
    tables = [world.window(f"2018-0{month}-01", 28) for month in range(1, 6)]

    def with_column(table: pa.Table, is_empty: bool) -> pa.Table:
        values = np.full(table.num_rows, np.nan) if is_empty else np.arange(table.num_rows) % 7.0
        return table.append_column("extra", pa.array(values)).append_column("flag", pa.array(values > 2))

    past = [with_column(table, empty in ("everywhere", "in the reference")) for table in tables[:4]]
    current = with_column(tables[4], empty in ("everywhere", "now"))
    finding = domain_finding(
        pa.concat_tables(past), current, features=["amount", "extra", "flag"], past=past, customer="customer_id"
    )
    assert finding.status == ("OK" if empty == "everywhere" else "DRIFT")
