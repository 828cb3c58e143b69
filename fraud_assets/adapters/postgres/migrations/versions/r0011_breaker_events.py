"""When the breaker opened, and who closed it."""

from alembic import op

revision = "0011"
down_revision = "0013"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.breaker_events (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            event text NOT NULL CHECK (event IN ('opened', 'closed')),
            model_version bigint NOT NULL,
            mode text NOT NULL CHECK (mode IN ('previous', 'review')),
            n bigint,
            n_held bigint,
            said text NOT NULL,
            actor text NOT NULL
        )
        """
    )
