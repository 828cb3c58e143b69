"""Which columns say when an event happened, and how they are read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.drafting.event_times import EventTime, find_event_time
from fraud_assets.core.drafting.profiling import profile_rows

N = 300
START = dt.datetime(2024, 1, 1)
# Five hours apart, over three months.
MOMENTS = [START + dt.timedelta(hours=5 * number, minutes=number % 60, seconds=number % 60) for number in range(N)]


def found(**columns: list[Any]) -> EventTime:
    return find_event_time(profile_rows(pa.table(columns).to_batches()))


def written(form: str) -> list[str]:
    return [f"{moment:{form}}" for moment in MOMENTS]


def test_of_several_times_the_events_own_is_taken_and_the_reason_is_said() -> None:
    event = found(
        birth_date=["1980-02-03", "1990-04-05", "2000-06-07"] * 100,
        expiry=["2027-02-03", "2026-04-05", "2028-06-07"] * 100,
        signup_date=["2020-02-03", "2021-04-05", "2022-06-07"] * 100,
        label_timestamp=["2024-06-06 15:05:50"] * N,
        occurred=written("%Y-%m-%d %H:%M:%S"),
    )
    assert [column.name for column in event.columns] == ["occurred"]
    assert "of 5 times the one that every row has" in event.reason
    assert "in whose order the file is" in event.reason


@pytest.mark.parametrize(
    ("columns", "form"),
    [
        ({"Date": "%Y-%m-%d", "Time": "%H:%M:%S"}, "%Y-%m-%d %H:%M:%S"),
        ({"Fecha": "%d/%m/%Y", "Hora": "%H:%M"}, "%d/%m/%Y %H:%M"),
        ({"transactionDate": "%Y%m%d", "transactionTime": "%H%M%S"}, "%Y%m%d %H%M%S"),
        ({"Datum": "%d.%m.%Y", "Uhrzeit": "%I:%M:%S %p"}, "%d.%m.%Y %I:%M:%S %p"),
        ({"Year": "%Y", "Month": "%m", "Day": "%d", "Time": "%H:%M"}, "%Y %m %d %H:%M"),
        ({"year": "%Y", "month": "%m", "day": "%d"}, "%Y %m %d"),
        ({"Month": "%b", "WeekOfMonth": "%d", "Year": "%Y"}, "%Y %b"),
    ],
)
def test_parts_in_several_columns_are_joined(columns: dict[str, str], form: str) -> None:
    event = found(**{name: written(one) for name, one in columns.items()})
    assert event.format == form
    assert (event.first_month, event.last_month) == ("2024-01", "2024-03")


def test_a_time_of_day_without_its_leading_zeros_is_read() -> None:
    times = [str(int(text)) for text in written("%H%M%S")]
    event = found(day_date=written("%Y%m%d"), day_time=times)
    assert event.format == "%Y%m%d %H%M%S"
    assert event.first == START.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("name", "ones", "unit", "last_month"),
    [
        ("step", 1, "hours", "2024-01"),
        ("Time", 3600.0, "s", "2024-01"),
        ("TransactionDT", 20_000, "s", "2024-03"),
        ("elapsed_days", 1, "days", "2024-10"),
        ("hours", 5, "hours", "2024-03"),
    ],
)
def test_numbers_from_a_start_that_nobody_names_count_from_a_date_of_the_past(
    name: str, ones: float, unit: str, last_month: str
) -> None:
    numbers = [1 + number * (ones if name != "step" else 2) for number in range(N)]
    event = found(**{name: numbers})
    assert (event.unit, event.origin) == (unit, "2024-01-01")
    assert event.last_month == last_month
    assert "any date will do as the origin" in event.questions[0]


def test_the_number_of_a_month_alone_puts_events_at_its_beginning() -> None:
    event = found(month=[number % 8 for number in range(N)], days_since_request=[n / N for n in range(N)])
    assert (event.unit, event.first_month, event.last_month) == ("months", "2024-01", "2024-08")


def test_a_few_rows_that_are_years_away_do_not_stretch_the_months() -> None:
    times = written("%Y-%m-%d %H:%M:%S") * 4
    event = found(at=["1900-01-01 00:00:00", *times, "2099-01-01 00:00:00"])
    assert (event.first_month, event.last_month) == ("2024-01", "2024-03")
    assert any("2 rows are years away" in question for question in event.questions)


def test_without_any_time_the_sentence_says_what_to_deliver() -> None:
    with pytest.raises(ContractError, match=r"no column can be read as the time of an event.*'amount' \(number\)"):
        found(tx=[f"T{n}" for n in range(N)], amount=[n / 7 for n in range(N)])
