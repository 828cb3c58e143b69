"""The months whose rows of people were removed because of their age."""

from alembic import op

revision = "0017"
down_revision = "0011"


def upgrade() -> None:
    """Adds the table."""
    op.execute(
        """
        CREATE TABLE IF NOT EXISTS public.removed_months (
            table_name text NOT NULL,
            month text NOT NULL,
            removed_at timestamptz NOT NULL DEFAULT now(),
            digest text NOT NULL,
            n_rows bigint NOT NULL,
            told_at timestamptz,
            PRIMARY KEY (table_name, month)
        )
        """
    )
