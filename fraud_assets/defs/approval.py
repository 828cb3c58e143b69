"""`approval`: the job by which a person approves or rejects a version that waits, from the Dagster UI."""

from datetime import UTC, datetime
from enum import Enum

import dagster as dg

from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.models.approve import Said, answer_waiting
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
