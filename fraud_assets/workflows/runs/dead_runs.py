"""Runs that lost their process: each is reported as failed, so that nothing waits for it any more and alerts tell."""

from __future__ import annotations

import dagster as dg

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.run_processes import DeadRun, find_dead_runs

LEFT = "What it had stored stays; run the month again."


def end_dead_runs(instance: dg.DagsterInstance, database: Database) -> list[DeadRun]:
    """Reports the runs that lost their process as failed.

    Returns:
        Which.
    """
    ended = []
    for dead in find_dead_runs(database):
        run = instance.get_run_by_id(dead.run_id)
        # It may have ended by itself just now.
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, f"{dead.sentence}. {LEFT}")
            ended.append(dead)
    return ended
