"""Which months a monthly run takes, and what a scheduler is told of it. Running them belongs to `workflows/runs`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from fraud_assets.core.months import months_between


class Exit(IntEnum):
    """What `fraud monthly` ends with; 1, 2 and 130 mean what they mean for every command."""

    DONE = 0
    FAILED = 1
    WAITS_FOR_APPROVAL = 10
    DATA_REFUSED = 20
    WAITS_FOR_DATA = 30
    BUSY = 40


# The check that says whether a month is late.
NEWEST_MONTH = "newest_month"
# For so long after its end a month may be on its way, as the alert FraudFeedLate has it.
LATE_DAYS = 14
# Classes of errors, by what is to be done about them.
REFUSED = ("SourceError", "ContractError", "IntakeError", "TextError")
TAKEN = ("LeaseError",)


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        months: in order, each of them over, delivered and not done yet.
        waits_for: the first month that is over, or was asked for, and is not delivered; None where there is none.
        newest: the month that all this is about.
    """

    months: tuple[str, ...]
    waits_for: str | None
    newest: str


def plan(
    first: str, over: str, done: Collection[str], delivered: Callable[[str], bool], asked: str | None = None
) -> Plan:
    """The months to run: those from the first one that was ever done up to the newest that are not done.

    A month that is not delivered ends the plan: a later one would be made without it.

    Args:
        first: the contract's first month.
        over: the newest month that is over, in the contract's time zone, and that the contract has.
        done: months that are complete.
        delivered: says whether there is anything to read for a month.
        asked: the month to end with; `over` when absent.

    Examples:
        >>> plan("2025-01", "2025-05", ["2025-02"], lambda month: month < "2025-05")
        Plan(months=('2025-03', '2025-04'), waits_for='2025-05', newest='2025-05')
        >>> plan("2025-01", "2025-05", [], lambda month: month != "2025-02", asked="2025-03")
        Plan(months=('2025-01',), waits_for='2025-02', newest='2025-03')
        >>> plan("2025-01", "2024-12", [], lambda month: True)
        Plan(months=(), waits_for='2025-01', newest='2025-01')
    """
    newest = max(asked or over, first)
    if newest > over:
        return Plan((), newest, newest)
    months, stopped = _missing(first, newest, done, delivered)
    return Plan(tuple(months), stopped, newest)


def _missing(
    first: str, last: str, done: Collection[str], delivered: Callable[[str], bool]
) -> tuple[list[str], str | None]:
    months: list[str] = []
    begin = min([*done, last]) if done else first
    for month in months_between(begin, last) if begin <= last else ():
        if month in done:
            continue
        if not delivered(month):
            return months, month
        months.append(month)
    return months, None


def exit_of(kinds: Collection[str], *, ran: bool, waits_for: str | None, waits_for_person: bool) -> Exit:
    """What the run ends with.

    Args:
        kinds: classes of the errors of steps that failed.
        ran: whether any month was run.
        waits_for: the month that is not delivered, or not over.
        waits_for_person: whether a version waits for an approval.
    """
    if any(kind in REFUSED for kind in kinds):
        return Exit.DATA_REFUSED
    if kinds:
        return Exit.BUSY if all(kind in TAKEN for kind in kinds) else Exit.FAILED
    if waits_for_person:
        return Exit.WAITS_FOR_APPROVAL
    return Exit.WAITS_FOR_DATA if waits_for is not None and not ran else Exit.DONE


def late_month(planned: Plan, end_of: Callable[[str], datetime], now: datetime) -> str | None:
    """Which month is long over and not there, as a sentence; None where none is.

    Args:
        planned: what is to be run, and waited for.
        end_of: the moment at which a month is over.
        now: the moment at which this is asked.
    """
    first = planned.months[0] if planned.months else planned.waits_for
    if first is None or end_of(first) + timedelta(days=LATE_DAYS) >= now:
        return None
    days = (now - end_of(first)).days
    if planned.months:
        return f"{first} was over {days} days ago; it is delivered and has not been run: `fraud monthly` runs it"
    return f"{first} was over {days} days ago and is not delivered: ask whoever delivers transactions"
