"""Running the graph from the command line: the same assets, on the same instance, as Dagster's UI and daemon."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.utils import make_new_run_id
from dagster_shared.error import SerializableErrorInfo

from fraud_assets.adapters.dagster_storage import busy_instance
from fraud_assets.adapters.postgres.months import open_store
from fraud_assets.adapters.sources import open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.monthly import NEWEST_MONTH
from fraud_assets.core.decisions.why import Remark
from fraud_assets.core.errors import NO_SPACE, PlatformError, full_disk
from fraud_assets.core.lineage.expiry import refuse_old
from fraud_assets.core.lineage.staleness import UP_TO_DATE
from fraud_assets.core.months import check_month, months_between, shift_month
from fraud_assets.settings import Settings
from fraud_assets.workflows.models.approve import Said, answer_waiting
from fraud_assets.workflows.models.by_hand import promote, roll_back
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.runs.dead_runs import end_dead_runs
from fraud_assets.workflows.runs.interruption import Interrupted, listening
from fraud_assets.workflows.why import read_remarks

CHANGES = ("added", "removed", "altered")
# Why there is a run, for the list of runs in Dagster's UI; the month is in Dagster's own tag `dagster/partition`.
PURPOSE_TAG = "fraud/purpose"
# Events are in the instance for anyone to read; on the screen they would drown what the command says.
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def months_to_run(
    contract: Contract, first: str | None, last: str | None, today: datetime, kept_from: str | None = None
) -> list[str]:
    """The months asked for.

    Args:
        contract: of the source.
        first: the first month; the first one there may be when absent.
        last: the last one; the newest that is over when absent.
        today: tells which is over.
        kept_from: the first month whose rows may be kept; None where all may.

    Raises:
        ValueError: when a month is not one of the contract's, or is not over yet.
        RetentionError: when it is older than rows may be.
    """
    newest = min(contract.last_month or "9999-12", shift_month(contract.month_of(today), -1))
    oldest = max(contract.first_month, kept_from or contract.first_month)
    first, last = check_month(first or min(oldest, newest)), check_month(last or newest)
    if first < contract.first_month or last > newest or first > last:
        raise ValueError(
            f"contract {contract.name!r} has the months {contract.first_month} to {newest}; {first} to {last} is not "
            "within them: choose other months, or change first_month and last_month in the contract"
        )
    refuse_old(kept_from, [first], ["raw_transactions"])
    return months_between(first, last)


def run_months(
    job: dg.JobDefinition,
    settings: Settings,
    months: Sequence[str],
    progress: Progress = Progress(),  # noqa: B008 - holds nothing
    *,
    purpose: str = "fraud run",
) -> list[dict[str, Any]]:
    """Materialises every asset for each month, in order; a month that fails does not stop the next ones.

    Args:
        job: holds every asset.
        settings: of the home.
        months: in order, as `months_to_run` gives them.
        progress: hears of each month.
        purpose: what the list of runs says of them.

    Returns:
        For each month: `month`, `run_id`, `seconds`, `failed` (step, kind and error; empty when all went well), `facts`
        and `why`: what is not there, or not as it should be, and why (`core/decisions/why.py`).

    Raises:
        ValueError: when the settings name no source; nothing has run then.
        Interrupted: when this process is asked to end; the months before are complete.
    """
    open_source(settings)
    store = open_store(settings, writing=True)
    outcomes = []
    with busy_instance(settings) as instance:
        for month in months:
            for dead in end_dead_runs(instance, store.database):
                progress.note(f"{dead.sentence}; it counts as failed now")
            started = time.monotonic()
            with progress.working("transactions, features, drift, training, evaluation", month):
                result = execute_month(job, instance, month, purpose)
            outcome = {
                "month": month,
                "run_id": result.run_id,
                "seconds": round(time.monotonic() - started, 1),
                "failed": failures_of(result),
                "facts": _facts(result),
                "why": [remark.to_dict() for remark in [*_checks(result, month), *read_remarks(store, month)]],
            }
            outcomes.append(outcome)
            progress.month_run(outcome)
    return outcomes


def promote_version(
    job: dg.JobDefinition, settings: Settings, version: int, reason: str, actor: str, champion: int | None = None
) -> str:
    """Makes a version champion by hand on the newest decided month, packages it, and brings the tables up to date.

    Returns:
        The month.

    Raises:
        ValueError: when no month has been decided yet, or the version cannot score. Nothing is changed then.
        ConflictError: when the champion is not the one that was known. Nothing is changed then.
    """
    store = open_store(settings, writing=True)
    month = promote(settings, store, version, reason, actor=actor, champion=champion)
    tell_tables(job, settings, month, f"fraud promote {version}", version)
    return month


def roll_back_version(
    job: dg.JobDefinition, settings: Settings, reason: str, actor: str, version: int | None = None
) -> tuple[int, str]:
    """Makes the champion before this one champion again, or the version that is named.

    Returns:
        The version, and the month on whose evidence.

    Raises:
        ValueError: when there is none to go back to. Nothing is changed then.
        ConflictError: when the champion changed meanwhile. Nothing is changed then.
    """
    store = open_store(settings, writing=True)
    live, month = roll_back(settings, store, reason, actor=actor, version=version)
    tell_tables(job, settings, month, "fraud rollback", live)
    return live, month


def answer_version(
    job: dg.JobDefinition, settings: Settings, version: int, reason: str, actor: str, *, approved: bool
) -> str:
    """Answers about a version that waits for a person, and brings the tables up to date.

    Returns:
        The month on whose evidence it passed.

    Raises:
        ApprovalError: when the version does not wait, or not any more. Nothing is changed then.
    """
    store = open_store(settings, writing=True)
    said = Said("approved" if approved else "rejected", version, reason, actor, datetime.now(UTC))
    month = answer_waiting(settings, store, said)
    if approved:
        tell_tables(job, settings, month, f"fraud approve {version}", version)
    return month


def tell_tables(job: dg.JobDefinition, settings: Settings, month: str, purpose: str, version: int) -> None:
    """Lets the tables of the month say what is live.

    Raises:
        PlatformError: when they do not. The version is live all the same.
    """
    assets = [dg.AssetKey("champion"), dg.AssetKey("fraud_bento")]
    with busy_instance(settings) as instance:
        result = execute_month(job, instance, month, purpose, assets)
    if failed := failures_of(result):
        raise PlatformError(
            f"version {version} is champion, and packaged, but the tables of {month} do not say so yet: "
            f"{'; '.join(one['error'] for one in failed)}; run the month again"
        )


def execute_month(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    month: str,
    purpose: str,
    assets: Collection[dg.AssetKey] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dg.ExecuteInProcessResult:
    """One run of the job for a month: of these assets, or of all that have months. A step that fails does not raise.

    What failed is told by `failures_of`.

    Args:
        job: holds every asset.
        instance: where the run is recorded.
        month: which.
        purpose: what the list of runs says of it, such as the command that was given.
        assets: which; all that have months when absent.
        tags: further tags of the run.

    Raises:
        Interrupted: when this process is asked to end; the run is over then, and counts as failed.
    """
    if assets is None:
        graph = job.asset_layer.asset_graph
        assets = {key for key in job.asset_layer.executable_asset_keys if graph.get(key).partitions_def is not None}
    run_id = make_new_run_id()

    def end(number: signal.Signals) -> None:
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_failed(run, f"{purpose} was asked to end ({number.name}) in the midst of {month}")

    with listening(end) as asked:
        try:
            result = job.execute_in_process(
                partition_key=month,
                instance=instance,
                run_config=QUIET,
                raise_on_error=False,
                asset_selection=sorted(assets),
                tags={PURPOSE_TAG: purpose, **(tags or {})},
                run_id=run_id,
            )
        except KeyboardInterrupt:
            # Outside of the steps, where Dagster puts no handler of its own.
            asked.signal = asked.signal or signal.SIGINT
        if asked.signal is not None:
            # While what Python says of Dagster's generators that were left in their midst is still heard.
            gc.collect()
            end(asked.signal)
            raise Interrupted(
                f"{purpose} was asked to end in the midst of {month}. Months before are complete, no later one has "
                "begun, and what is there of this one is as before or whole, table by table. The same command goes on"
            )
    return result


def materialize_months(
    job: dg.JobDefinition, settings: Settings, months: Sequence[str], assets: Collection[dg.AssetKey], purpose: str
) -> dict[str, str]:
    """Materialises these assets for each month; a month that fails does not stop the next ones.

    Returns:
        For each month that failed, why.
    """
    with busy_instance(settings) as instance:
        failed = {month: failures_of(execute_month(job, instance, month, purpose, assets)) for month in months}
    return {month: "; ".join(one["error"] for one in found) for month, found in failed.items() if found}


def failures_of(result: dg.ExecuteInProcessResult) -> list[dict[str, str]]:
    """The steps that failed, each with its error in a sentence, and the error's class as its kind."""
    failures = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        kind, said = error_in_words(event.step_failure_data.error)
        failures.append({"step": event.step_key or "", "kind": kind, "error": said})
    if not failures and not result.success:
        # Outside of its steps, as when another run has the month.
        ended = [event for event in result.all_events if event.is_job_failure and event.job_failure_data.error]
        kind, said = error_in_words(ended[-1].job_failure_data.error) if ended else ("", "see it in the UI")
        failures.append({"step": "run", "kind": kind, "error": f"run {result.run_id} failed outside its steps: {said}"})
    return failures


def error_in_words(error: SerializableErrorInfo | None) -> tuple[str, str]:
    """The class of the error behind a failed step, and what it says."""
    if error is not None and NO_SPACE in error.to_string():
        return "DiskFull", full_disk()
    # Dagster's own wrapping only: what an error was raised from says less than the error.
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    if error is None:
        return "", "unknown"
    name, colon, rest = error.message.strip().partition(": ")
    said = rest if colon and name.rpartition(".")[2] == error.cls_name else error.message.strip()
    return error.cls_name or "", said


def _checks(result: dg.ExecuteInProcessResult, month: str) -> list[Remark]:
    """The checks of a month that did not pass; `decisions/why.py` tells what is stored with its reasons."""
    return [
        Remark(month, "check", f"{check.asset_key.path[-1]}, {check.check_name}: {check.description}".rstrip("."))
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.description and check.check_name not in (UP_TO_DATE, NEWEST_MONTH)
    ]


def _facts(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    """What a person wants to see of a month while it runs."""
    wanted = {
        "raw_transactions": ("dagster/row_count", "fraud_rate", "n_labelled", "quarantined", *CHANGES),
        "fraud_labels": ("refused_rows", "commonest_reason", "missing_feed_file"),
        "transaction_features": ("fraud_rate",),
        "drift_report": ("drift_status",),
        "trained_model": ("outcome",),
        "evaluation": ("average_precision_champion", "average_precision_challenger"),
        "champion": ("champion_version", "validation_status"),
    }
    facts: dict[str, Any] = {}
    for event in result.get_asset_materialization_events():
        name = event.asset_key.path[-1] if event.asset_key else ""
        metadata = event.step_materialization_data.materialization.metadata
        facts |= {f"{name}.{key}": metadata[key].value for key in wanted.get(name, ()) if key in metadata}
    if facts.get("raw_transactions.fraud_rate") == 0.0:
        # Labels that come in a feed of their own are none of the delivery's.
        facts["raw_transactions.fraud_rate"] = facts.get("transaction_features.fraud_rate") or 0.0
    return facts


def changes_in_words(counts: Mapping[str, int | None]) -> str:
    """Rows added, removed and altered against the version before; empty when there are none.

    >>> changes_in_words({"added": 1200, "removed": 0, "altered": 3})
    '1,200 added, 3 altered'
    """
    return ", ".join(f"{count:,} {name}" for name in CHANGES if (count := counts.get(name)))
