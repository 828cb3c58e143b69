"""What waits for a person before it goes live, until when, and what was said."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.approval_requests (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            requested_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            model_version bigint NOT NULL,
            champion_version bigint,
            month text NOT NULL,
            evidence text NOT NULL,
            reasons jsonb NOT NULL,
            answer text CHECK (answer IN ('approved', 'rejected', 'withdrawn')),
            answered_at timestamptz,
            actor text,
            reason text
        )
        """
    )
