"""Months: names, order, and half-open intervals of UTC time."""

import itertools
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.months import (
    check_month,
    month_end,
    month_of,
    month_start,
    months_between,
    shift_month,
)

names = st.builds("{:04d}-{:02d}".format, st.integers(1970, 2999), st.integers(1, 12))


@pytest.mark.parametrize(
    "name", ["2018-4", "2018-13", "2018-00", "18-04", "2018-04-01", "2018/04", "", "2018-04\n", " 2018-04"]
)
def test_what_does_not_read_yyyy_mm_is_refused_with_the_form_expected(name):
    with pytest.raises(ValueError, match="write it as YYYY-MM"):
        check_month(name)


def test_a_month_runs_from_its_first_instant_to_that_of_the_next_in_utc():
    assert month_start("2018-12") == datetime(2018, 12, 1, tzinfo=UTC)
    assert month_end("2018-12") == datetime(2019, 1, 1, tzinfo=UTC)
    assert month_end("2020-02") - month_start("2020-02") == date(2020, 3, 1) - date(2020, 2, 1)


@pytest.mark.parametrize(
    ("month", "zone", "start"),
    [
        ("2018-04", "Europe/Paris", datetime(2018, 3, 31, 22, tzinfo=UTC)),
        ("2018-12", "Europe/Paris", datetime(2018, 11, 30, 23, tzinfo=UTC)),
        ("2018-04", "Asia/Tokyo", datetime(2018, 3, 31, 15, tzinfo=UTC)),
        # On 1 October 2000 the clocks of Asuncion went from midnight to one o'clock: the month began at one.
        ("2000-10", "America/Asuncion", datetime(2000, 10, 1, 4, tzinfo=UTC)),
    ],
)
def test_a_month_begins_at_midnight_of_a_time_zone(month, zone, start):
    assert month_start(month, ZoneInfo(zone)) == start
    assert month_end(shift_month(month, -1), ZoneInfo(zone)) == start


@given(names, st.integers(-600, 600))
def test_shifting_forth_and_back_is_the_same_month(name, months):
    assert shift_month(shift_month(name, months), -months) == name


@given(names, st.integers(0, 40))
def test_a_range_holds_each_month_once_and_both_ends(name, months):
    between = months_between(name, shift_month(name, months))
    assert len(between) == months + 1
    assert between[0] == name
    assert all(later == shift_month(earlier, 1) for earlier, later in itertools.pairwise(between))


def test_a_range_that_ends_before_it_begins_is_empty():
    assert months_between("2019-01", "2018-12") == []


@given(st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC)))
def test_each_moment_lies_in_the_month_that_is_its_own(moment):
    month = month_of(moment)
    assert month_start(month) <= moment < month_end(month)
