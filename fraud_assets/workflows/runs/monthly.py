"""The monthly run: the months that are complete and not done, in order, by the code of `fraud run`.

Which months those are, and what a scheduler is told, is decided in `core/decisions/monthly.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.core.decisions.monthly import Exit, Plan, exit_of, plan
from fraud_assets.core.lineage.expiry import first_kept, refuse_old
from fraud_assets.core.months import check_month, shift_month
from fraud_assets.settings import Settings
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.runs.refresh import run_and_refresh

# The last tables of a month; with them, every step before has succeeded.
LAST_TABLES = ("champion", "fraud_bento")


def plan_months(store: MonthStore, source: Source, now: datetime, asked: str | None = None) -> Plan:
    """The months to run.

    Args:
        store: has the months that are done.
        source: has the deliveries.
        now: tells which month is over in the contract's time zone.
        asked: the month to end with; the newest that is over when absent.

    Raises:
        ValueError: for a month that is not one of the contract's.
        RetentionError: for a month that is older than rows may be.
        SourceError: when the source cannot be asked.
    """
    contract, kept_from = store.contract, first_kept(store.contract, store.retention_months, now)
    over = min(contract.last_month or "9999-12", shift_month(contract.month_of(now), -1))
    if asked is not None:
        check_month(asked)
        if asked < contract.first_month or (contract.last_month and asked > contract.last_month):
            raise ValueError(
                f"contract {contract.name!r} has the months {contract.first_month} to {contract.last_month or 'now'}, "
                f"not {asked}"
            )
        refuse_old(kept_from, [asked], ["raw_transactions"])
    first = max(contract.first_month, kept_from or contract.first_month)
    if contract.last_month is not None and first > contract.last_month:
        return Plan((), None, over)  # all months of the contract are older than rows may be
    done = {month for month in set.intersection(*(set(store.months(name)) for name in LAST_TABLES)) if month >= first}
    return plan(first, over, done, source.has, asked)


def run_monthly(
    job: dg.JobDefinition, settings: Settings, asked: str | None, now: datetime, progress: Progress
) -> dict[str, Any]:
    """Runs the months that are complete and not done; run again, it does nothing more.

    A month that fails ends it: the next call begins with that month.

    Args:
        job: holds every asset.
        settings: of the home.
        asked: the month to end with; None for the newest that is over.
        now: what is over.
        progress: hears of each month.

    Returns:
        `months`, as `run_months` gives them; `rebuilt` and `failed`, as `refresh_months` does; `waits_for`, the month
        that is not delivered or not over, None where there is none; `newest`, the month that all this is about.

    Raises:
        ValueError: for a month that is not one of the contract's, or a source that cannot be asked. Nothing has run.
        Interrupted: when this process is asked to end.
    """
    store = open_store(settings, writing=True)
    planned = plan_months(store, open_source(settings), now, asked)
    outcome: dict[str, Any] = {
        "months": [], "rebuilt": [], "failed": [], "waits_for": planned.waits_for, "newest": planned.newest,
    }  # fmt: skip
    for month in planned.months:
        found = run_and_refresh(job, settings, month, month, progress)
        outcome["months"] += found["months"]
        outcome["rebuilt"] += found["refreshed"]["rebuilt"]
        outcome["failed"] += found["refreshed"]["failed"]
        if outcome["failed"] or any(one["failed"] for one in found["months"]):
            break
    return outcome


def exit_of_run(outcome: Mapping[str, Any], waiting: Sequence[Any]) -> Exit:
    """What a scheduler is told of what `run_monthly` returns, and of the versions that wait for a person."""
    failed = [one for month in outcome["months"] for one in month["failed"]] + list(outcome["failed"])
    return exit_of(
        [one.get("kind", "") for one in failed],
        ran=bool(outcome["months"]),
        waits_for=outcome["waits_for"],
        waits_for_person=bool(waiting),
    )
