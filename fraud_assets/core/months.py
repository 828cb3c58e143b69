"""Months as the platform names them ("2018-04") and as half-open intervals of time.

A month begins at midnight of its first day in the time zone that a contract names; which one that is belongs to
`contracts/contract.py`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, tzinfo

MONTH_PATTERN = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")


def check_month(month: str) -> str:
    """Returns `month` unchanged when it reads YYYY-MM.

    Raises:
        ValueError: for anything else, with the form that is expected.
    """
    if not MONTH_PATTERN.fullmatch(month):
        raise ValueError(f"{month!r} is not a month; write it as YYYY-MM, for example 2018-04")
    return month


def month_of(moment: datetime | date) -> str:
    """The month a moment lies in.

    >>> month_of(date(2018, 4, 30))
    '2018-04'
    """
    return f"{moment.year:04d}-{moment.month:02d}"


def shift_month(month: str, months: int) -> str:
    """The month `months` later (or earlier, when negative).

    >>> shift_month("2018-11", 3), shift_month("2018-01", -1)
    ('2019-02', '2017-12')
    """
    year, number = (int(part) for part in check_month(month).split("-"))
    index = year * 12 + number - 1 + months
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def month_start(month: str, zone: tzinfo = UTC) -> datetime:
    """The first instant of the month by the clocks of `zone`, in UTC.

    >>> from zoneinfo import ZoneInfo
    >>> month_start("2018-04", ZoneInfo("Europe/Paris")).isoformat()
    '2018-03-31T22:00:00+00:00'
    """
    year, number = (int(part) for part in check_month(month).split("-"))
    return datetime(year, number, 1, tzinfo=zone).astimezone(UTC)


def month_end(month: str, zone: tzinfo = UTC) -> datetime:
    """The first instant after the month, in UTC: the as-of time of everything in the month's partition."""
    return month_start(shift_month(month, 1), zone)


def months_between(first: str, last: str) -> list[str]:
    """All months from `first` to `last`, both included; empty when `last` is before `first`.

    >>> months_between("2018-11", "2019-01")
    ['2018-11', '2018-12', '2019-01']
    """
    months, month = [], check_month(first)
    while month <= check_month(last):
        months.append(month)
        month = shift_month(month, 1)
    return months
