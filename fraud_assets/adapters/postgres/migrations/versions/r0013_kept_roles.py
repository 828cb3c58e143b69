"""Whether champion or challenger answered, what other models of the time needed, and what could be let through."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Adds the columns; rows from before are the champion's."""
    op.execute(
        "ALTER TABLE public.scored_transactions ADD COLUMN IF NOT EXISTS role text, "
        "ADD COLUMN IF NOT EXISTS more_features json"
    )
    op.execute(
        "CREATE INDEX IF NOT EXISTS scored_transactions_drawn ON public.scored_transactions (event_timestamp) "
        "WHERE pass_through_probability > 0"
    )
