"""Which columns follow time, and which only look as if they did."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.drift.covariate import measure_drift
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.drift.time_columns import _chi_squared as chi_squared
from fraud_assets.core.drift.time_columns import time_columns
from fraud_assets.core.monitoring.verdict import judge_month

Make = Callable[[list[dt.datetime], np.random.Generator], list[object]]


def month_of(month: str, make: Make, rows: int = 600) -> pa.Table:
    """A month of rows at random times, with one column beside them."""
    rng = np.random.default_rng(int(month.replace("-", "")))
    first = dt.datetime.fromisoformat(f"{month}-01").replace(tzinfo=dt.UTC)
    length = calendar.monthrange(first.year, first.month)[1]
    moments = [first + dt.timedelta(days=float(at)) for at in np.sort(rng.uniform(0, length, rows))]
    return pa.table({"event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")), "x": make(moments, rng)})


def months(make: Make, first: str = "2023-11", number: int = 4) -> tuple[pa.Table, pa.Table, list[pa.Table]]:
    """A reference of some months, the month after them, and the months of the reference."""
    year, month = map(int, first.split("-"))
    names = [f"{year + (month - 1 + n) // 12}-{(month - 1 + n) % 12 + 1:02}" for n in range(number)]
    tables = [month_of(name, make) for name in names]
    return pa.concat_tables(tables[:-1]), tables[-1], tables[:-1]


def late_month(moments: list[dt.datetime], rng: np.random.Generator) -> list[object]:
    """A claim's month, a fifth of which come a month after what they are about."""
    return [calendar.month_abbr[(one.month - 1 + (rng.random() < 0.2)) % 12 + 1] for one in moments]


def running_number(moments: list[dt.datetime], _rng: np.random.Generator) -> list[object]:
    return [int(one.timestamp() // 60) + 7 for one in moments]


def as_days(make: Make) -> Make:
    """Dates as the days from them to the transaction, which is what a feature holds."""

    def days(moments: list[dt.datetime], rng: np.random.Generator) -> list[object]:
        return [(one.date() - date).days for one, date in zip(moments, make(moments, rng), strict=True)]

    return days


FOLLOWING: dict[str, tuple[Make, str]] = {
    "a month's name": (lambda moments, _: [f"{one:%B}" for one in moments], "it is the month of the transaction"),
    "a month's name that lags": (late_month, "it is the month of the transaction"),
    "a month's number": (lambda moments, _: [one.month for one in moments], "it is the month of the transaction"),
    "a year": (lambda moments, _: [one.year for one in moments], "it is the year of the transaction"),
    "a year and month": (lambda moments, _: [f"{one:%Y-%m}" for one in moments], "it is the year and month"),
    "a quarter": (lambda moments, _: [f"Q{(one.month + 2) // 3}" for one in moments], "it is the quarter"),
    "a day": (lambda moments, _: [one.day for one in moments], "it is the day of the month"),
    "a weekday": (lambda moments, _: [f"{one:%a}" for one in moments], "it is the weekday"),
    "a running number": (running_number, "it only grows or falls with time"),
    "a number that falls": (lambda moments, _: [-one.timestamp() for one in moments], "it only grows or falls"),
    "batches of a month": (
        lambda moments, rng: [f"{one.month * 3 % 13}-{rng.integers(3)}x" for one in moments],
        "each of the earlier months has other values of it than the one before",
    ),
    "cards that expire in the same months": (
        lambda _, rng: [dt.date(2024, 6, 1) + dt.timedelta(days=int(at)) for at in rng.integers(0, 400, 600)],
        "its dates are still those of the reference, while time went on",
    ),
}


@pytest.mark.parametrize("which", FOLLOWING)
def test_a_column_that_follows_time_is_a_remark_and_no_change_of_the_world(which: str) -> None:
    make, how = FOLLOWING[which]
    reference, current, past = months(make)
    found = time_columns(reference, current, past, ["x"])
    assert how in found["x"]
    findings = measure_drift(
        reference, current, features=["x"], clusters=(), past=past, of_time=found, config=DriftConfig()
    )
    assert {one.status for one in findings if one.feature == "x"} == {"INSUFFICIENT_DATA"}
    assert judge_month(findings).drift_status not in ("DRIFT", "WATCH")
    assert any(f"months cannot be compared by x: {found['x']}" in one.text for one in judge_month(findings).reasons)


ORDINARY: dict[str, Make] = {
    "amounts": lambda moments, rng: list(rng.lognormal(3, 1, len(moments))),
    "channels": lambda moments, rng: list(rng.choice(["web", "shop"], len(moments))),
    "flags": lambda moments, rng: list(rng.random(len(moments)) < 0.3),
    "ids": lambda moments, rng: [f"C{number}" for number in rng.integers(0, 10**9, len(moments))],
    "constant": lambda moments, _: [1] * len(moments),
    "nothing": lambda moments, _: [None] * len(moments),
    "prices that rise slowly": lambda moments, rng: [
        float(rng.lognormal(3, 1)) * (1 + 0.002 * one.timetuple().tm_yday) for one in moments
    ],
    "accounts of the same ages": lambda moments, rng: [
        (one - dt.timedelta(days=float(rng.exponential(300)))).date() for one in moments
    ],
    # Cards of another kind, in the month under report alone.
    "cards that expire much later": lambda moments, rng: [
        dt.date(2024, 6, 1) + dt.timedelta(days=int(rng.integers(400)) + 900 * (one.month == 2)) for one in moments
    ],
    # A channel that was replaced in the month under report is what the report is there for.
    "a replaced channel": lambda moments, _: ["web" if one.month != 2 else "app" for one in moments],
}


@pytest.mark.parametrize("which", ORDINARY)
@pytest.mark.parametrize("number", [2, 4])
def test_what_does_not_follow_time_is_compared(which: str, number: int) -> None:
    reference, current, past = months(ORDINARY[which], "2023-11" if number == 4 else "2024-01", number)
    assert time_columns(reference, current, past, ["x"]) == {}


def test_a_count_that_is_mostly_one_is_not_the_first_quarter() -> None:
    def ones(moments: list[dt.datetime], rng: np.random.Generator) -> list[object]:
        return [1 + int(rng.random() < 0.1) for _ in moments]

    reference, current, past = months(ones, "2024-01", 3)
    assert time_columns(reference, current, past, ["x"]) == {}


@pytest.mark.parametrize("make", [make for which, (make, _) in FOLLOWING.items() if which.startswith("cards")])
def test_a_date_that_a_feature_gives_as_days_follows_time_too(make: Make) -> None:
    reference, current, past = months(as_days(make))
    assert "its dates are still those of the reference" in time_columns(reference, current, past, ["x"], {"x"})["x"]


@pytest.mark.parametrize("which", ["accounts of the same ages", "cards that expire much later"])
def test_days_to_dates_that_moved_are_compared(which: str) -> None:
    reference, current, past = months(as_days(ORDINARY[which]))
    assert time_columns(reference, current, past, ["x"], {"x"}) == {}


def cards(first: dt.datetime, rng: np.random.Generator, rows: int = 1_000) -> pa.Table:
    """A month of cards that expire within ten years, in the days to their transactions."""
    moments = [first + dt.timedelta(days=float(at)) for at in np.sort(rng.uniform(0, 28, rows))]
    expiries = [dt.date(2024, 6, 1) + dt.timedelta(days=int(at)) for at in rng.integers(0, 3650, rows)]
    days = [(one.date() - date).days for one, date in zip(moments, expiries, strict=True)]
    return pa.table({"event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")), "x": days})


def test_dates_whose_move_is_chance_are_still_those_of_the_reference() -> None:
    """Where four months make little of ten years, chance moves the dates by more than a half of it."""
    spared = []
    for seed in range(1000, 1120):
        rng = np.random.default_rng(seed)
        first = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        reference, current = cards(first, rng), cards(first + dt.timedelta(days=120), rng)
        # With nine degrees of freedom, p is 0.001 there.
        if chi_squared([table["x"].to_numpy().astype(float) for table in (reference, current)])[0] > 27.9:
            spared.append("x" in time_columns(reference, current, [], ["x"], {"x"}))
    assert len(spared) >= 20
    assert np.mean(spared) >= 0.75
