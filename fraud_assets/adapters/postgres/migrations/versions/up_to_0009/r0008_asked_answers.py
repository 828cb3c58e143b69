"""Answers about models that wait, as they were asked for over HTTP, and what became of them."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.asked_answers (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            asked_at timestamptz NOT NULL DEFAULT now(),
            model_version bigint NOT NULL,
            answer text NOT NULL CHECK (answer IN ('approved', 'rejected')),
            reason text NOT NULL,
            actor text NOT NULL,
            closed_at timestamptz,
            outcome text CHECK (outcome IN ('carried_out', 'refused')),
            said text
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX IF NOT EXISTS asked_answers_open ON public.asked_answers (model_version) "
        "WHERE closed_at IS NULL"
    )
