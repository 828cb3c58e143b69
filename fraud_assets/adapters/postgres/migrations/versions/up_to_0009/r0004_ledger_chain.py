"""The ledger is a chain: each row has the hash of the one before it, and the database refuses to change or delete rows.

Rows that are there are chained in their order; what was not recorded of them (code, libraries, metrics, digests) stays
empty. Numbers are given by the writer, as the hash covers them: a row that is missing shows by its number, too.
"""

from __future__ import annotations

from typing import Any, cast

import psycopg
from alembic import op
from psycopg.rows import dict_row

from fraud_assets.core.decisions.chain import chained

revision = "0004"
down_revision = "0003"

COLUMNS = (
    "ALTER TABLE public.ledger ALTER COLUMN number DROP IDENTITY IF EXISTS, "
    "ADD COLUMN IF NOT EXISTS code_version text, ADD COLUMN IF NOT EXISTS libraries jsonb, "
    "ADD COLUMN IF NOT EXISTS metrics jsonb, ADD COLUMN IF NOT EXISTS digests jsonb, "
    "ADD COLUMN IF NOT EXISTS previous_hash text, ADD COLUMN IF NOT EXISTS hash text"
)
CONSTRAINTS = (
    "ALTER TABLE public.ledger ALTER COLUMN previous_hash SET NOT NULL, ALTER COLUMN hash SET NOT NULL, "
    "DROP CONSTRAINT IF EXISTS ledger_previous_hash_key, DROP CONSTRAINT IF EXISTS ledger_hash_key, "
    "ADD CONSTRAINT ledger_previous_hash_key UNIQUE (previous_hash), ADD CONSTRAINT ledger_hash_key UNIQUE (hash)"
)
APPEND_ONLY = (
    """
    CREATE OR REPLACE FUNCTION public.ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the ledger is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_is_append_only()",
    "REVOKE UPDATE, DELETE, TRUNCATE ON public.ledger FROM PUBLIC, CURRENT_USER",
)


def upgrade() -> None:
    """Adds the columns, chains the rows, then closes the table."""
    op.execute("DROP TRIGGER IF EXISTS append_only ON public.ledger")
    op.execute("GRANT UPDATE ON public.ledger TO CURRENT_USER")
    op.execute(COLUMNS)
    connection = cast("psycopg.Connection[Any]", op.get_bind().connection.driver_connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("SELECT * FROM public.ledger ORDER BY number").fetchall()
        cursor.executemany(
            "UPDATE public.ledger SET previous_hash = %(previous_hash)s, hash = %(hash)s WHERE number = %(number)s",
            [{name: row[name] for name in ("number", "previous_hash", "hash")} for row in chained(rows)],
        )
    op.execute(CONSTRAINTS)
    for statement in APPEND_ONLY:
        op.execute(statement)
