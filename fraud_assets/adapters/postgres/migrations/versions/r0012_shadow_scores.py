"""The scores of versions that did not answer, and how far each version is."""

from alembic import op

revision = "0012"
down_revision = "0010"


def upgrade() -> None:
    """Adds the tables."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.shadow_scores (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            transaction_id text NOT NULL,
            model_version bigint NOT NULL,
            answered_version bigint NOT NULL,
            role text NOT NULL CHECK (role IN ('champion', 'challenger')),
            event_timestamp timestamptz NOT NULL,
            scored_at timestamptz NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('scored', 'failed', 'late')),
            probability double precision,
            threshold double precision NOT NULL,
            decision text,
            CONSTRAINT shadow_scores_once UNIQUE (transaction_id, model_version)
        )
        """
    )
    op.execute("CREATE INDEX IF NOT EXISTS shadow_scores_by_time ON public.shadow_scores (event_timestamp)")
    op.execute("CREATE TABLE IF NOT EXISTS public.shadow_months (month text PRIMARY KEY, n_rows bigint NOT NULL)")
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.shadow_progress (
            model_version bigint PRIMARY KEY,
            first_number bigint NOT NULL,
            number bigint NOT NULL,
            n_scored bigint NOT NULL DEFAULT 0,
            n_failed bigint NOT NULL DEFAULT 0,
            n_late bigint NOT NULL DEFAULT 0,
            n_behind bigint NOT NULL DEFAULT 0,
            attempting bigint[],
            said text,
            updated_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
