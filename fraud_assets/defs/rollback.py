"""`rollback`: the job that makes the champion before this one champion again, from the Dagster UI."""

import dagster as dg

from fraud_assets.defs.resources import Platform
from fraud_assets.workflows.models.by_hand import roll_back
from fraud_assets.workflows.runs.run_months import PURPOSE_TAG


class RollbackConfig(dg.Config):
    """What goes into the ledger.

    Attributes:
        reason: why.
        by: who asks.
        to: the version, which must have been live; 0 for the one before.
    """

    reason: str
    by: str
    to: int = 0


@dg.op(tags={"kind": "ledger"})
def go_back(context: dg.OpExecutionContext, platform: Platform, config: RollbackConfig) -> None:
    """Moves ledger, aliases and serving together; a running service follows within seconds."""
    version, month = roll_back(
        platform.settings, platform.store, config.reason, actor=config.by, version=config.to or None
    )
    context.add_output_metadata({"champion_version": version, "month": month})
    context.log.info(
        f"version {version} is champion again, since the evidence of {month}; the tables say so after `fraud refresh`"
    )


@dg.job(
    description="Makes the champion before this one champion again, in seconds and without training.",
    tags={PURPOSE_TAG: "rollback"},
)
def rollback() -> None:
    """One step."""
    go_back()
