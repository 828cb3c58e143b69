"""The transaction ids of added labels are text, whatever their type in the contract.

So that the declared tables are the same for every contract, and so that another type of id in the contract does not
make labels unreadable that people have added.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Numbers become their digits; a column that is text already stays untouched."""
    op.execute("ALTER TABLE public.added_labels ALTER COLUMN transaction_id TYPE text")
