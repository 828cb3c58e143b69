"""Months whose rows of people go because of their age: which they are, and how many months have to stay.

Removing them belongs to `workflows/people/retain.py`; which models, packages and runs go, to `decisions/retention.py`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.errors import PlatformError
from fraud_assets.core.features.declarations import history_days
from fraud_assets.core.lineage.tables.declared import DECIDED
from fraud_assets.core.months import shift_month
from fraud_assets.core.windows import months_back

VARIABLE = "FRAUD_RETENTION_MONTHS"


class RetentionError(PlatformError):
    """A month that is asked for and is older than rows may be; the message says since when, and what to do."""


def needed_months(contract: Contract) -> int:
    """How many months have to stay, so that the newest one is made as it always was.

    Its features look back over the longest window and, for labels, over the maturity before that.
    """
    return months_back(history_days(contract)) + 1


def check_retention(contract: Contract, months: int) -> None:
    """Passes for a retention with which the newest month can be made.

    Raises:
        ValueError: for a shorter one.
    """
    if months < (needed := needed_months(contract)):
        raise ValueError(
            f"{VARIABLE} is {months}, and contract {contract.name!r} needs at least {needed}: the features of a month "
            f"look back {history_days(contract):g} days, over their longest window and the maturity of labels "
            f"({contract.maturity_days:g} days)"
        )


def first_kept(contract: Contract, months: int | None, now: datetime) -> str | None:
    """The first month whose rows stay; None where all do.

    The months that are over count, and the one that goes on comes on top: a row is kept for at least so many months.
    """
    return None if months is None else shift_month(contract.month_of(now), -months)


def refuse_old(kept_from: str | None, months: Collection[str], tables: Collection[str]) -> None:
    """Passes where each month may have rows, or none of the tables is made of rows of people.

    Args:
        kept_from: as `first_kept` gives it.
        months: that are to be written or made.
        tables: their tables.

    Raises:
        RetentionError: with the oldest of the months that may not.
    """
    if kept_from is None or not months or set(tables) <= DECIDED:
        return
    if (oldest := min(months)) < kept_from:
        raise RetentionError(
            f"{oldest} is older than {VARIABLE} allows: rows of people are kept from {kept_from} on. What was made of "
            f"it stays as it is; to run it again, give {VARIABLE} a larger number first"
        )
