"""Retraining in the outside world: the record of its decisions, and what is known of the models they are about.

A decision is kept once, under the fact it is, and never changed. What is decided belongs to
`core/decisions/retraining.py`, when to the sensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RUN_KEY_TAG
from psycopg.types.json import Jsonb

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.decisions.retraining import ModelFacts, RetrainingDecision, Showing
from fraud_assets.core.months import check_month

JOB = "retraining"

COLUMNS = (
    "number", "recorded_at", "month", "decision", "trigger", "reasons", "report_digest", "attempt_number", "run_key"
)  # fmt: skip
SHOWN = ("average_precision_low", "average_precision_high", "recall_at_fpr_1pct")


class RetrainingStore:
    """Keeps decisions."""

    def __init__(self, database: Database) -> None:
        """Binds the table to a database."""
        self.database = database

    def record(self, decisions: Iterable[RetrainingDecision]) -> int:
        """Appends the decisions that are news and not known yet.

        Returns:
            How many were new.
        """
        rows = [
            [one.month, one.decision, one.trigger, Jsonb([reason.to_dict() for reason in one.reasons]),
             one.report_digest, one.attempt_number, one.run_key, one.fact]
            for one in decisions
            if one.is_news
        ]  # fmt: skip
        if not rows:
            return 0
        with self.database.session() as connection:
            return sum(
                connection.execute(
                    "INSERT INTO retraining_decisions (month, decision, trigger, reasons, report_digest, "
                    "attempt_number, run_key, fact) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
                    "ON CONFLICT (fact) DO NOTHING",
                    row,
                ).rowcount
                for row in rows
            )

    def newest(self, limit: int, month: str | None = None) -> list[dict[str, Any]]:
        """The newest decisions, of one month or of all, the newest first."""
        rows = self.database.rows(
            "retraining_decisions",
            f"SELECT {', '.join(COLUMNS)} FROM retraining_decisions "
            "WHERE %(month)s::text IS NULL OR month = %(month)s ORDER BY number DESC LIMIT %(limit)s",
            {"month": check_month(month) if month else None, "limit": limit},
        )
        return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def list_decisions(
    store: RetrainingStore,
    instance: Callable[[], AbstractContextManager[dg.DagsterInstance]],
    limit: int,
    month: str | None = None,
) -> list[dict[str, Any]]:
    """The newest decisions, the newest first, each with the run it led to.

    Args:
        store: has the decisions.
        instance: opens the instance that has the runs; only where a decision has led to one, because opening it
            creates Dagster's tables.
        limit: at most so many.
        month: of one month; of all when absent.

    Returns:
        For each `number`, `recorded_at`, `month`, `decision` (retrain, wait, no), `trigger`, `reasons` (rule, text and
        column of each), `report_digest`, `attempt_number`, `run_key`, `run_id` and `run_status`; the last two are None
        where no run was requested, or not yet.
    """
    decisions = store.newest(limit, month)
    keys = [one["run_key"] for one in decisions if one["run_key"]]
    runs: Sequence[dg.DagsterRun] = []
    # Without keys the filter would find every run.
    if keys:
        with instance() as opened:
            runs = opened.get_runs(dg.RunsFilter(job_name=JOB, tags={RUN_KEY_TAG: keys}))
    by_key = {run.tags[RUN_KEY_TAG]: run for run in runs}
    found = [by_key.get(one["run_key"]) for one in decisions]
    return [
        one | {"run_id": run.run_id if run else None, "run_status": run.status.value if run else None}
        for one, run in zip(decisions, found, strict=True)
    ]


def read_models(store: MonthStore, months: Iterable[str]) -> dict[str, ModelFacts]:
    """What is known of the models when each of the months is decided on."""
    events = LedgerStore(store.database).events()
    trained = {event.model_version: event.month for event in events if event.kind == "registered"}
    rows = [
        (row["role"], row["model_version"], Showing(f"{row['month']:%Y-%m}", *(row[name] for name in SHOWN)))
        for row in store.read("evaluation", ["month", "role", "model_version", *SHOWN]).to_pylist()
        if row["model_version"] is not None
    ]

    def facts(month: str) -> ModelFacts:
        version = champion_version(events, before_month=month)
        # As the challenger that was promoted, too: that is what it promised.
        shown = [showing for role, judged, showing in rows if judged == version and role != "reference"]
        return ModelFacts(
            champion_version=version,
            champion_month=None if version is None else trained.get(version),
            newest_month=max(trained.values(), default=None),
            promised=min(shown, key=lambda showing: showing.month, default=None),
            realised=next((showing for showing in shown if showing.month == month), None),
        )

    return {month: facts(month) for month in months}
