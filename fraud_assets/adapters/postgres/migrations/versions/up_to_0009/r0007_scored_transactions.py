"""The scores that the service gave, and how many of each month there are."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Adds the tables."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.scored_transactions (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            transaction_id text NOT NULL,
            model_version bigint NOT NULL,
            event_timestamp timestamptz NOT NULL,
            scored_at timestamptz NOT NULL,
            transaction json NOT NULL,
            raw_score double precision,
            probability double precision NOT NULL,
            threshold double precision NOT NULL,
            decision text NOT NULL,
            pass_through_probability double precision NOT NULL,
            passed_through boolean NOT NULL,
            features json NOT NULL,
            CONSTRAINT scored_transactions_once UNIQUE (transaction_id, model_version)
        )
        """
    )
    op.execute("CREATE INDEX IF NOT EXISTS scored_transactions_by_time ON public.scored_transactions (event_timestamp)")
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.scored_months (
            month text PRIMARY KEY,
            n_rows bigint NOT NULL,
            last_scored_at timestamptz NOT NULL
        )
        """
    )
