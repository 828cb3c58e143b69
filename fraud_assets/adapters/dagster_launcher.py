"""Dagster's run launcher, which also tells its daemon whether a run that counts as running still has its process.

`dagster.yaml` names it. Without an answer, the daemon takes a run whose process was killed for a running one, for as
long as a run may last at all, and starts no other.
"""

from __future__ import annotations

import time

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

from fraud_assets.adapters.postgres.database import open_database
from fraud_assets.adapters.postgres.run_processes import find_dead_runs
from fraud_assets.settings import read_settings

# A run lets go of its lock, and then writes that it has ended.
LAST_WORDS_SECONDS = 2


class FraudRunLauncher(DefaultRunLauncher):
    """The default launcher, with an answer to the question of the daemon's run monitoring."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the run's process is there; where that cannot be known, it is taken to be."""
        database = open_database(read_settings())
        if run.run_id not in {one.run_id for one in find_dead_runs(database)}:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        time.sleep(LAST_WORDS_SECONDS)
        said = [one.sentence for one in find_dead_runs(database) if one.run_id == run.run_id]
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND if said else WorkerStatus.RUNNING, "".join(said))
