"""Gaps in a history: found where rows stop, and nowhere else."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.monitoring.deliveries import Gap, History, delivery_finding, history_of, thin_days
from fraud_assets.core.windows import Window, month_window, reference_window

CONTRACT = parse_contract("""
name: any
first_month: 2023-01
timezone: Europe/Berlin
transaction_id: {column: id}
event_timestamp: {column: at}
label: {column: fraud, delay_days: 1}
maturity_days: 5
""")


def day(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def moments(days: np.ndarray[Any, Any]) -> pa.ChunkedArray:
    """One moment a day and row, at noon, from the first of 2023 on."""
    first = day("2023-01-01") + dt.timedelta(hours=12)
    return pa.chunked_array(
        [pa.array([first + dt.timedelta(days=int(one)) for one in days], pa.timestamp("us", "UTC"))]
    )


def history(counts: list[int], month: str) -> History:
    """Of so many rows a day, up to the end of a month."""
    given = moments(np.repeat(np.arange(len(counts)), counts))
    return history_of(given, day("2023-01-01"), CONTRACT.month_end(month), CONTRACT)


@pytest.mark.parametrize("rows", [1, 2, 5, 30, 1000])
@pytest.mark.parametrize("left", [0, 12])
def test_a_month_that_was_not_delivered_is_a_gap_of_its_days(rows: int, left: int) -> None:
    # January to March, April with nothing or 12 rows, May.
    counts = [rows] * 90 + [0] * 30 + [rows] * 31
    if left and rows >= 5:
        counts[95] = left
    (gap,) = history(counts, "2023-05").gaps
    zone = CONTRACT.zone
    assert gap.start == dt.datetime(2023, 4, 1, tzinfo=zone)
    assert gap.end == dt.datetime(2023, 5, 1, tzinfo=zone)
    assert gap.rows == (left if rows >= 5 else 0)
    assert gap.usual == rows * 30


def test_the_end_of_a_delivery_within_the_month_is_a_gap_to_its_end() -> None:
    (gap,) = history([30] * 110, "2023-04").gaps
    assert (f"{gap.start:%m-%d}", f"{gap.end:%m-%d}") == ("04-21", "05-01")


def test_a_gap_of_half_a_year_is_one_and_a_business_that_becomes_smaller_is_none() -> None:
    assert thin_days(np.array([30.0] * 60 + [0.0] * 180 + [30.0] * 30)) == [(60, 240, 30.0)]
    assert thin_days(np.array([30.0] * 60 + [5.0] * 180)) == []


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(0.2, 200), weekend=st.floats(0, 1), wild=st.floats(0, 0.3), growth=st.floats(-0.004, 0.01),
    seed=st.integers(0, 10**6),
)  # fmt: skip
def test_streams_without_a_gap_have_none(rate: float, weekend: float, wild: float, growth: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    days = np.arange(300)
    level = rate * np.where(days % 7 >= 5, weekend, 1.0) * np.exp(growth * days + wild * rng.normal(size=300))
    assert thin_days(rng.poisson(level).astype(float)) == []


def test_what_looks_back_into_a_gap_is_not_full_and_what_does_not_look_back_is() -> None:
    gap = Gap(day("2024-04-01"), day("2024-05-01"), 12, 900)
    given = History(day("2023-09-01"), (gap,))
    may, june, july = (month_window(month) for month in ("2024-05", "2024-06", "2024-07"))
    assert [given.is_full(one, 30) for one in (may, june, july)] == [False, True, True]
    assert [given.is_full(one, 60) for one in (may, june, july)] == [False, False, True]
    assert given.is_full(may, 0)
    # Of a month that ends early, nothing looks back into what is not there.
    assert History(day("2023-09-01"), (Gap(day("2024-05-20"), day("2024-06-01"), 0, 300),)).is_full(may, 60)
    assert not given.is_full(month_window("2023-09"), 1)


def test_a_month_with_a_gap_is_blamed_and_some_days_of_one_are_a_remark() -> None:
    given = History(day("2023-09-01"), (Gap(day("2024-03-29"), day("2024-05-03"), 12, 900),))
    april = delivery_finding(given, month_window("2024-04"))
    assert april is not None
    assert (april.status, april.cause, april.kind) == ("DRIFT", "missing_rows", "missing")
    for month in ("2024-03", "2024-05"):
        finding = delivery_finding(given, month_window(month))
        assert finding is not None
        assert (finding.status, finding.cause) == ("INSUFFICIENT_DATA", None)
    assert delivery_finding(given, month_window("2024-06")) is None


def test_a_reference_is_taken_from_one_side_of_a_gap_once_history_has_filled() -> None:
    first, training = day("2023-01-01"), Window(day("2023-06-01"), day("2023-12-01"))
    gap = Window(day("2023-10-01"), day("2023-10-10"))
    # 30 days and 5 of maturity after the gap: from 14 November on, 17 days.
    found = reference_window(training, first, 5, "2024-01", gaps=[gap])
    assert found == Window(day("2023-11-14"), day("2023-12-01"))
    # A later gap leaves too little behind it.
    gap = Window(day("2023-10-20"), day("2023-11-01"))
    found = reference_window(training, first, 5, "2024-01", gaps=[gap])
    assert found == Window(day("2023-08-31"), day("2023-10-20"))
    assert reference_window(training, first, 5, "2024-01") == Window(day("2023-08-31"), day("2023-12-01"))
