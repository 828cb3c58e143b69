"""`approval`: the job by which a person approves or rejects a version that waits, from the Dagster UI.

`asked_approval` carries out what people asked for over HTTP: the service itself can neither package a model nor move
aliases, so it writes the answer down (`adapters/asked/answers.py`), and a sensor finds it.
"""

from collections import Counter
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial

import dagster as dg

from fraud_assets.adapters.postgres.approvals import open_answers
from fraud_assets.core.decisions.approval import ApprovalError
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.defs.resources import Platform
from fraud_assets.defs.up_to_date import IN_PROGRESS
from fraud_assets.workflows.models.approve import Said, answer_waiting, carry_out_asked, due_answers
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG


class Answer(Enum):
    """What becomes of the version."""

    APPROVED = "approved"
    REJECTED = "rejected"


class ApprovalConfig(dg.Config):
    """What goes into the ledger.

    Attributes:
        version: which waits; `fraud status` names it.
        answer: APPROVED or REJECTED.
        reason: why.
        by: who says so.
    """

    version: int
    answer: Answer
    reason: str
    by: str


@dg.op(tags={"kind": "ledger"})
def answer_request(context: dg.OpExecutionContext, platform: Platform, config: ApprovalConfig) -> None:
    """Moves ledger, aliases and serving together where it is approved; a running service follows within seconds."""
    said = Said(config.answer.value, config.version, config.reason, config.by, datetime.now(UTC))
    month = answer_waiting(platform.settings, platform.store, said)
    context.add_output_metadata({"model_version": config.version, "month": month, "answer": config.answer.value})
    live = ", and is champion" if config.answer is Answer.APPROVED else ""
    context.log.info(f"version {config.version} was {config.answer.value}{live}; `fraud refresh` tells the tables")


@dg.job(
    description="Approves or rejects a version that waits for a person (FRAUD_PROMOTION=approval).",
    tags={PURPOSE_TAG: "approval"},
)
def approval() -> None:
    """One step."""
    answer_request()


ANSWER_TAG = "fraud/answer"
FORGOTTEN = timedelta(hours=1)


class AskedConfig(dg.Config):
    """Which answer is carried out.

    Attributes:
        number: as the service named it.
    """

    number: int


@dg.op(tags={"kind": "ledger"})
def carry_out_answer(context: dg.OpExecutionContext, platform: Platform, config: AskedConfig) -> None:
    """As if the one who asked had called `fraud approve` or `fraud reject` at that moment."""
    try:
        said = carry_out_asked(
            platform.store.database, config.number, partial(answer_waiting, platform.settings, platform.store)
        )
    except (ApprovalError, ScoringError) as error:
        # Nothing that another try would mend; `GET /v1/answers/NUMBER` says it, too.
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info(said)


@dg.job(
    description="Carries out an approval or a rejection that was asked for over HTTP.",
    tags={PURPOSE_TAG: "approval"},
)
def asked_approval() -> None:
    """One step."""
    carry_out_answer()


# By its name: dagster copies a sensor that has a job itself, and warns of its own beta parameter when it does.
@dg.sensor(job_name="asked_approval", minimum_interval_seconds=10, default_status=dg.DefaultSensorStatus.RUNNING)
def approval_sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
    """Carries out what the service was asked for, one run an answer, and again where that failed, three times at most.

    What it has begun is found by the runs' tags, so nothing is begun twice after a restart or a crash.
    """
    database = platform.store.database
    if not open_answers(database):
        return dg.SkipReason("nothing was asked for")
    begun = context.instance.get_run_records(dg.RunsFilter(job_name=asked_approval.name))
    # Anyone may tag a run, and one that was killed may count as in progress for hours.
    told = [one for one in begun if one.dagster_run.tags.get(ANSWER_TAG, "").isdigit()]
    since = datetime.now(UTC) - FORGOTTEN
    runs = [(int(one.dagster_run.tags[ANSWER_TAG]), one) for one in told]
    tried = Counter(number for number, _ in runs)
    busy = {number for number, one in runs if one.dagster_run.status in IN_PROGRESS and one.update_timestamp > since}
    due = due_answers(database, {number: n for number, n in tried.items() if number not in busy})
    requests = [
        dg.RunRequest(
            run_key=f"answer {one.number}, attempt {tried[one.number] + 1}",
            run_config=dg.RunConfig(ops={carry_out_answer.name: AskedConfig(number=one.number)}),
            tags={ANSWER_TAG: str(one.number)},
        )
        for one in due
        if one.number not in busy
    ]
    return dg.SensorResult(run_requests=requests) if requests else dg.SkipReason("what was asked for is under way")
