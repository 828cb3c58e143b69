"""Who was erased, by a keyed hash, and the digests that rewritten months had before."""

from alembic import op

revision = "0016"
down_revision = "0009"


def upgrade() -> None:
    """Adds the tables."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.erased_entities (
            number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            erased_at timestamptz NOT NULL DEFAULT now(),
            entity text NOT NULL,
            hash text NOT NULL UNIQUE,
            pseudonym text NOT NULL UNIQUE,
            actor text NOT NULL,
            reason text NOT NULL
        )
        """
    )
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.erased_digests (
            table_name text NOT NULL,
            month text NOT NULL,
            is_now text NOT NULL,
            was text NOT NULL,
            why text NOT NULL CHECK (why IN ('person', 'age')),
            recorded_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (table_name, month, is_now)
        )
        """
    )
