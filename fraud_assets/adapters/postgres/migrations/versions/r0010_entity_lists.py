"""Lists of entities, and in kept scores what was answered and who decided it."""

from alembic import op

revision = "0010"
down_revision = "0016"


def upgrade() -> None:
    """Adds the table and the columns."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.entity_lists (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            change text NOT NULL CHECK (change IN ('add', 'remove')),
            list text NOT NULL,
            action text NOT NULL CHECK (action IN ('block', 'allow')),
            entity text NOT NULL,
            value text NOT NULL,
            reason text NOT NULL,
            actor text NOT NULL,
            since timestamptz NOT NULL,
            until timestamptz
        )
        """
    )
    op.execute("CREATE INDEX IF NOT EXISTS entity_lists_of_a_list ON public.entity_lists (list, entity, value, number)")
    for column in ("answered", "decided_by"):
        op.execute(f"ALTER TABLE public.scored_transactions ADD COLUMN IF NOT EXISTS {column} text")
