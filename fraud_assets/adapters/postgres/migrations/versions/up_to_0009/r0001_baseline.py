"""The tables as they were when migrations began, also in databases that were made before.

Until then each table was created by the code that first wrote to it, so that an older database has some of them, and
perhaps not all of their columns.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    "CREATE SCHEMA IF NOT EXISTS months",
    "CREATE SCHEMA IF NOT EXISTS dagster",
    "CREATE SCHEMA IF NOT EXISTS mlflow",
    "CREATE TABLE IF NOT EXISTS public.platform (contract text PRIMARY KEY)",
    """
    CREATE TABLE IF NOT EXISTS public.month_versions (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        table_name text NOT NULL,
        month text NOT NULL,
        digest text NOT NULL,
        n_rows bigint NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        run_id text
    )
    """,
    """
    ALTER TABLE public.month_versions
        ADD COLUMN IF NOT EXISTS inputs jsonb,
        ADD COLUMN IF NOT EXISTS added bigint,
        ADD COLUMN IF NOT EXISTS removed bigint,
        ADD COLUMN IF NOT EXISTS altered bigint
    """,
    """
    CREATE TABLE IF NOT EXISTS public.ledger (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        kind text NOT NULL,
        model_version bigint NOT NULL,
        month text NOT NULL,
        reasons text NOT NULL,
        actor text NOT NULL,
        fact text NOT NULL UNIQUE
    )
    """,
    "ALTER TABLE public.ledger ADD COLUMN IF NOT EXISTS evidence jsonb",
    """
    CREATE TABLE IF NOT EXISTS public.retraining_decisions (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        month text NOT NULL,
        decision text NOT NULL,
        trigger text,
        reasons text[] NOT NULL,
        report_digest text NOT NULL,
        attempt_number bigint,
        run_key text,
        fact text NOT NULL UNIQUE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS public.quarantine_decisions (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        month text NOT NULL,
        row_digest text NOT NULL,
        action text NOT NULL CHECK (action IN ('release', 'drop')),
        reason text NOT NULL,
        actor text NOT NULL,
        decided_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS public.transaction_id_ranges (
        month text PRIMARY KEY,
        digest text NOT NULL,
        lowest text,
        highest text
    )
    """,
    # Where it is there already, transaction_id is a bigint if it was one in the contract.
    """
    CREATE TABLE IF NOT EXISTS public.added_labels (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        transaction_id text NOT NULL,
        is_fraud boolean,
        label_timestamp timestamptz NOT NULL,
        label_source text NOT NULL,
        file text NOT NULL,
        row_number bigint NOT NULL,
        statement text NOT NULL UNIQUE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS public.quarantined_labels (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        file text NOT NULL,
        row_number bigint NOT NULL,
        reasons text NOT NULL,
        original text NOT NULL,
        refusal text NOT NULL UNIQUE
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS public.alerts (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        fact_key text NOT NULL UNIQUE,
        kind text NOT NULL,
        month text,
        sentence text NOT NULL,
        link text,
        happened_at timestamptz NOT NULL,
        channels text[] NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS public.alert_attempts (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        fact_key text NOT NULL REFERENCES public.alerts (fact_key),
        channel text NOT NULL,
        attempted_at timestamptz NOT NULL,
        error text
    )
    """,
    "CREATE INDEX IF NOT EXISTS alert_attempts_of_a_fact ON public.alert_attempts (fact_key, channel)",
)


def upgrade() -> None:
    """Creates what is missing, and leaves every row as it is."""
    for statement in STATEMENTS:
        op.execute(statement)
