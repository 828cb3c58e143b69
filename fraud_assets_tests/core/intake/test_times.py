"""Times and dates of every kind that files have, worked out by hand."""

import datetime as dt

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import Column, ContractError, parse_contract
from fraud_assets.core.intake.conversions import Unreadable, event_times, label_times, to_column


def contract(event="{column: at}", timezone="UTC", **label):
    known = label.get("known_at", "known")
    return parse_contract(
        f"name: tests\nfirst_month: 2024-01\ntimezone: {timezone}\nevent_timestamp: {event}\n"
        f"label: {{column: fraud, known_at: {known}}}\nmaturity_days: 7\n"
    )


def rows(**columns):
    arrays = [column if isinstance(column, pa.Array) else pa.array(column) for column in columns.values()]
    return pa.record_batch(arrays, names=list(columns))


def event(said, timezone="UTC", **columns):
    """The one event time, and what is wrong with it."""
    unreadable = Unreadable()
    (found,) = event_times(rows(**columns), contract(said, timezone), "x.csv", unreadable).to_pylist()
    return found, [reason.text for reason, _ in unreadable.reasons]


def known(said, timezone="UTC", event_said="{column: at}", **columns):
    of = contract(event_said, timezone, known_at=said)
    unreadable = Unreadable()
    (found,) = label_times(rows(**columns), of.label.known, "label_timestamp", of, "x.csv", unreadable).to_pylist()
    return found, [reason.text for reason, _ in unreadable.reasons]


def utc(*moment):
    return dt.datetime(*moment, tzinfo=dt.UTC)


MORNING = utc(2024, 1, 5, 1, 44, 50)


@pytest.mark.parametrize(
    ("said", "columns"),
    [
        ("{column: [d, t]}", {"d": ["2024-01-05"], "t": ["01:44:50"]}),
        ("{column: [d, t]}", {"d": pa.array([dt.date(2024, 1, 5)]), "t": pa.array([dt.time(1, 44, 50)])}),
        ("{column: [d, t]}", {"d": pa.array([dt.datetime(2024, 1, 5)]), "t": ["01:44:50"]}),
        ("{column: [d, t]}", {"d": pa.array([dt.date(2024, 1, 5)]), "t": pa.array([dt.timedelta(seconds=6290)])}),
        ("{column: [d, t], format: '%d.%m.%Y %H:%M:%S'}", {"d": ["05.01.2024"], "t": ["1:44:50"]}),
        ("{column: [d, t], format: '%d.%m.%Y %H:%M:%S'}", {"d": pa.array([dt.date(2024, 1, 5)]), "t": ["1:44:50"]}),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": ["20240105"], "t": ["14450"]}),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": [20240105], "t": [14450]}),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": [20240105.0], "t": [14450.0]}),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": ["20240105.0"], "t": ["14450.0"]}),
        ("{column: [y, m, d, t]}", {"y": ["2024"], "m": ["1"], "d": ["5"], "t": ["01:44:50"]}),
        ("{column: [y, m, d, h, n, s]}", {"y": [2024], "m": [1], "d": [5], "h": [1], "n": [44], "s": [50]}),
        (
            "{column: [y, m, d, t, p], format: '%Y %b %d %I:%M:%S %p'}",
            {"y": [2024], "m": ["JAN"], "d": [5], "t": ["1:44:50"], "p": ["AM"]},
        ),
        ("{column: at, format: '%d-%b-%y %I.%M.%S %p'}", {"at": ["05-JAN-24 01.44.50 AM"]}),
        ("{column: at, format: '%d %B %Y %H:%M:%S'}", {"at": ["5 JANUARY 2024 01:44:50"]}),
        ("{column: at, format: '%d%m%Y%H%M%S'}", {"at": ["5012024014450"]}),
        ("{column: at, format: '%d%m%Y%H%M%S'}", {"at": [5012024014450]}),
        ("{column: at, unit: s}", {"at": [1704419090]}),
        ("{column: at, unit: s}", {"at": ["1704419090"]}),
        ("{column: at, unit: s}", {"at": [1704419090.0]}),
        ("{column: at, unit: s}", {"at": ["1.70441909e9"]}),
        ("{column: at, unit: ms}", {"at": [1704419090000]}),
        ("{column: at, unit: us}", {"at": ["1704419090000000"]}),
        ("{column: at, unit: ns}", {"at": [1704419090000000000]}),
        ("{column: at, unit: excel}", {"at": ["45296.0728009259"]}),
        ("{column: at, unit: excel}", {"at": [45296.0728009259]}),
        ("{column: at, unit: hours, origin: 2024-01-01}", {"at": [97.74722222222222]}),
        ("{column: at, unit: days, origin: 2024-01-01T00:00:00}", {"at": ["4.072800925925926"]}),
        ("{column: at}", {"at": pa.array([MORNING.replace(tzinfo=None)], pa.timestamp("ns"))}),
    ],
)  # fmt: skip
def test_a_time_is_read_however_its_columns_hold_it(said, columns):
    found, problems = event(said, **columns)
    assert problems == []
    assert abs(found - MORNING) < dt.timedelta(milliseconds=1)


def test_times_of_real_purchases_without_leading_zeros_are_no_other_time():
    """As in a published file of online purchases: strptime alone reads 14450 as 14:45:00."""
    said = "{column: [transactionDate, transactionTime], format: '%Y%m%d %H%M%S'}"
    for text, moment in (("14450", (1, 44, 50)), ("135015", (13, 50, 15)), ("5", (0, 0, 5)), ("0", (0, 0))):
        found, problems = event(said, transactionDate=["20130402"], transactionTime=[text])
        assert (found, problems) == (utc(2013, 4, 2, *moment), [])


@pytest.mark.parametrize(
    ("said", "columns", "problem"),
    [
        ("{column: [d, t]}", {"d": ["2024-01-05"], "t": [""]}, "lacks a part (d, t)"),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": ["2024010"], "t": ["14450"]}, "is no time in the format"),
        ("{column: [d, t], format: '%Y%m%d %H%M%S'}", {"d": ["20240105"], "t": ["1144500"]}, "is no time in the form"),
        ("{column: at, unit: s}", {"at": [1704419090000000]}, "lies outside the years 1 to 9998"),
        ("{column: at, unit: s}", {"at": ["soon"]}, "is not a number (unit: s)"),
        ("{column: at, unit: excel}", {"at": [3.5]}, "is no day of Excel's"),
        ("{column: at, format: '%d.%m.%Y'}", {"at": ["2024-01-05"]}, "is no time in the format"),
    ],
)  # fmt: skip
def test_a_time_that_cannot_be_read_says_why(said, columns, problem):
    found, problems = event(said, **columns)
    assert found is None
    assert [problem in one for one in problems] == [True]


@pytest.mark.parametrize("values", [pa.array([20240105]), pa.array([4.5]), pa.array([True])])
def test_a_number_is_a_time_only_where_the_contract_says_how(values):
    with pytest.raises(ContractError, match=r"'at' of x.csv: event_timestamp is of type"):
        event("{column: at}", at=values)


def test_hours_are_counted_by_a_watch_and_days_by_the_calendar():
    """On 2024-03-31, clocks in Paris went from 02:00 to 03:00."""
    night = "origin: 2024-03-31"
    assert event(f"{{column: at, unit: hours, {night}}}", "Europe/Paris", at=[3])[0] == utc(2024, 3, 31, 2)
    assert event(f"{{column: at, unit: days, {night}}}", "Europe/Paris", at=[1])[0] == utc(2024, 3, 31, 22)


@pytest.mark.parametrize(
    ("said", "columns"),
    [
        ("known", {"known": ["2024-01-05"]}),
        ("known", {"known": ["20240105"]}),
        ("known", {"known": [" 2024-01-05 "]}),
        ("known", {"known": pa.array([dt.date(2024, 1, 5)])}),
        ("known", {"known": pa.array([dt.date(2024, 1, 5)], pa.date64())}),
        ("{column: known, format: '%d.%m.%Y'}", {"known": ["05.01.2024"]}),
        ("{column: known, format: '%Y%m%d'}", {"known": [20240105]}),
        ("{column: known, unit: excel}", {"known": [45296]}),
        ("{column: known, unit: days, origin: 2024-01-01}", {"known": ["4"]}),
        ("{column: [y, m, d]}", {"y": [2024], "m": [1], "d": [5]}),
    ],
)
def test_a_day_without_a_time_of_day_was_known_by_its_end_on_the_contract_s_clocks(said, columns):
    found, problems = known(said, "Europe/Paris", **columns)
    assert (found, problems) == (utc(2024, 1, 5, 22, 59, 59, 999999), [])


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("known", "2024-01-05T00:00:00"),
        ("known", "2024-01-05 00:00"),
        ("{column: known, format: '%d.%m.%Y %H:%M'}", "05.01.2024 00:00"),
    ],
)
def test_midnight_that_is_said_is_no_day_without_a_time(said, value):
    assert known(said, known=[value])[0] == utc(2024, 1, 5)


def test_a_label_time_without_a_format_is_read_as_iso_8601_or_as_the_transactions_are():
    said = "{column: at, format: '%d.%m.%Y %H:%M'}"
    assert known("known", event_said=said, known=["05.01.2024 10:30"])[0] == utc(2024, 1, 5, 10, 30)
    assert known("known", event_said=said, known=["2024-01-05T10:30"])[0] == utc(2024, 1, 5, 10, 30)
    assert known("known", event_said="{column: at, unit: s}", known=[1704419090])[0] == MORNING
    swapped = "{column: at, format: '%Y-%d-%m'}"
    assert known("known", event_said=swapped, known=["2024-05-01"])[0] == utc(2024, 1, 5, 23, 59, 59, 999999)


def date(value, form=None, timezone="UTC"):
    unreadable = Unreadable()
    values = value if isinstance(value, pa.Array) else pa.array([value])
    column = Column(column="born", type="date", format=form)
    (found,) = to_column(values, "born", column, contract(timezone=timezone), "x.csv", unreadable).to_pylist()
    return found, [reason.text for reason, _ in unreadable.reasons]


@pytest.mark.parametrize(
    ("value", "form", "expected"),
    [
        ("1984-02-29", None, dt.date(1984, 2, 29)),
        ("1984-02-29T23:30:00", None, dt.date(1984, 2, 29)),
        ("29.02.1984", "%d.%m.%Y", dt.date(1984, 2, 29)),
        ("02/28", "%m/%y", dt.date(2028, 2, 29)),
        ("2/2027", "%m/%Y", dt.date(2027, 2, 28)),
        ("12/30", "%m/%y", dt.date(2030, 12, 31)),
        ("DEC 2030", "%b %Y", dt.date(2030, 12, 31)),
        ("1130", "%m%y", dt.date(2030, 11, 30)),
        (930, "%m%y", dt.date(2030, 9, 30)),
        (20240105, "%Y%m%d", dt.date(2024, 1, 5)),
        ("1650-03-01", None, dt.date(1650, 3, 1)),
        ("9999-12-31", None, dt.date(9999, 12, 31)),
        ("31.12.9999", "%d.%m.%Y", dt.date(9999, 12, 31)),
        (pa.array([dt.date(1984, 2, 29)]), None, dt.date(1984, 2, 29)),
        (pa.array([dt.datetime(1984, 2, 29, 12)]), None, dt.date(1984, 2, 29)),
        ("", None, None),
    ],
)
def test_a_date_is_a_day_and_a_month_without_one_its_last(value, form, expected):
    assert date(value, form) == (expected, [])


def test_a_date_with_an_offset_is_the_day_on_the_contract_s_clocks():
    late = pa.array([utc(2024, 1, 5, 23, 30)], pa.timestamp("us", "UTC"))
    assert date(late, timezone="Europe/Paris")[0] == dt.date(2024, 1, 6)
    assert date("2024-01-05T23:30:00Z", timezone="Europe/Paris")[0] == dt.date(2024, 1, 6)


@pytest.mark.parametrize(("value", "form"), [("31.02.1984", "%d.%m.%Y"), ("soon", None), ("13/24", "%m/%y")])
def test_what_is_no_date_says_so(value, form):
    found, (problem,) = date(value, form)
    assert found is None
    assert problem.startswith("born is no ")
