"""The platform's own tables, declared once, and the version of them that a database has.

These are the tables that say what was done and decided: versions of months, ledger, quarantine, labels that people
added, alerts, retraining, the service's scores. They change with the platform, through the revisions in `migrations/`,
and only when a database is opened for writing. The tables of months do not belong here: their columns follow the
contract, which is the user's and changes without a new version of the platform, so `months.py` adds what a contract
adds. A revision rewrites months only where the form of what is stored changes, in tables whose columns are the same for
every contract, and gives them versions with their new digests (0003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP

if TYPE_CHECKING:
    from alembic.config import Config

# Not alembic's own name, which other tools (MLflow, Dagster, the user's) take for theirs.
VERSION_TABLE = "fraud_schema_version"

# Oldest first. Here, and not asked of alembic, because whoever only reads should not wait until that is imported.
# In the order in which they follow each other; a number is a name, given before it was known which comes first. Do not
# sort or renumber them: databases are out there that went this way, and one is known by the last revision that it had.
REVISIONS = (
    "0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0016", "0010", "0012", "0013", "0011",
    "0017",
)  # fmt: skip

State = Literal["empty", "behind", "current", "ahead"]

CONTROL_TABLES = sa.MetaData(schema="public")


def _number(name: str = "number") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.Identity(always=True), primary_key=True)


def _moment(name: str, *, now: bool = False) -> sa.Column[Any]:
    return sa.Column(name, TIMESTAMP(timezone=True), nullable=False, server_default=sa.func.now() if now else None)


def _text(
    name: str, *constraints: sa.CheckConstraint | sa.ForeignKey, nullable: bool = False, unique: bool = False
) -> sa.Column[str]:
    return sa.Column(name, sa.Text, *constraints, nullable=nullable, unique=unique or None)


def _count(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


sa.Table("platform", CONTROL_TABLES, sa.Column("contract", sa.Text, primary_key=True))

sa.Table(
    "month_versions",
    CONTROL_TABLES,
    _number("id"),
    _text("table_name"),
    _text("month"),
    _text("digest"),
    _count("n_rows"),
    _moment("written_at", now=True),
    _text("run_id", nullable=True),
    sa.Column("inputs", JSONB),
    _count("added", nullable=True),
    _count("removed", nullable=True),
    _count("altered", nullable=True),
)

LEDGER = sa.Table(
    "ledger",
    CONTROL_TABLES,
    # Given by the writer, because a row's hash covers it.
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    _moment("recorded_at", now=True),
    _text("kind"),
    _count("model_version"),
    _text("month"),
    sa.Column("reasons", JSONB, nullable=False),
    _text("actor"),
    _text("fact", unique=True),
    sa.Column("evidence", JSONB),
    _text("code_version", nullable=True),
    sa.Column("libraries", JSONB),
    sa.Column("metrics", JSONB),
    sa.Column("digests", JSONB),
    _text("previous_hash", unique=True),
    _text("hash", unique=True),
)
# What keeps rows from being changed, as revision 0004 makes it.
for statement in (
    """
    CREATE FUNCTION public.ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the ledger is append-only: %% is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
    END $$
    """,
    "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.ledger "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.ledger_is_append_only()",
    "REVOKE UPDATE, DELETE, TRUNCATE ON public.ledger FROM PUBLIC, CURRENT_USER",
):
    # SQLAlchemy's class has no types of its own here.
    sa.event.listen(LEDGER, "after_create", sa.DDL(statement))  # type: ignore[no-untyped-call]

sa.Table(
    "month_leases",
    CONTROL_TABLES,
    sa.Column("token", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    _text("month"),
    _text("run_id"),
    _moment("taken_at", now=True),
    sa.UniqueConstraint("month", "run_id", name="month_leases_month_run_id_key"),
)

sa.Table(
    "approval_requests",
    CONTROL_TABLES,
    _number(),
    _moment("requested_at"),
    _moment("expires_at"),
    _count("model_version"),
    _count("champion_version", nullable=True),
    _text("month"),
    _text("evidence"),
    sa.Column("reasons", JSONB, nullable=False),
    _text("answer", sa.CheckConstraint("answer IN ('approved', 'rejected', 'withdrawn')"), nullable=True),
    sa.Column("answered_at", TIMESTAMP(timezone=True)),
    _text("actor", nullable=True),
    _text("reason", nullable=True),
)

ASKED_ANSWERS = sa.Table(
    "asked_answers",
    CONTROL_TABLES,
    _number(),
    _moment("asked_at", now=True),
    _count("model_version"),
    _text("answer", sa.CheckConstraint("answer IN ('approved', 'rejected')")),
    _text("reason"),
    _text("actor"),
    sa.Column("closed_at", TIMESTAMP(timezone=True)),
    _text("outcome", sa.CheckConstraint("outcome IN ('carried_out', 'refused')"), nullable=True),
    _text("said", nullable=True),
)
# One at a time about a version.
sa.Index(
    "asked_answers_open",
    ASKED_ANSWERS.c.model_version,
    unique=True,
    postgresql_where=ASKED_ANSWERS.c.closed_at.is_(None),
)

sa.Table(
    "retraining_decisions",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("month"),
    _text("decision"),
    _text("trigger", nullable=True),
    sa.Column("reasons", JSONB, nullable=False),
    _text("report_digest"),
    _count("attempt_number", nullable=True),
    _text("run_key", nullable=True),
    _text("fact", unique=True),
)

sa.Table(
    "quarantine_decisions",
    CONTROL_TABLES,
    _number(),
    _text("month"),
    _text("row_digest"),
    _text("action", sa.CheckConstraint("action IN ('release', 'drop')")),
    _text("reason"),
    _text("actor"),
    _moment("decided_at", now=True),
)

sa.Table(
    "transaction_id_ranges",
    CONTROL_TABLES,
    sa.Column("month", sa.Text, primary_key=True),
    _text("digest"),
    _text("lowest", nullable=True),
    _text("highest", nullable=True),
)

sa.Table(
    "added_labels",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("transaction_id"),
    sa.Column("is_fraud", sa.Boolean),
    _moment("label_timestamp"),
    _text("label_source"),
    _text("file"),
    _count("row_number"),
    _text("statement", unique=True),
)

sa.Table(
    "quarantined_labels",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("file"),
    _count("row_number"),
    sa.Column("reasons", JSONB, nullable=False),
    _text("original"),
    _text("refusal", unique=True),
)

sa.Table(
    "alerts",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("fact_key", unique=True),
    _text("kind"),
    _text("month", nullable=True),
    _text("sentence"),
    _text("link", nullable=True),
    _moment("happened_at"),
    sa.Column("channels", ARRAY(sa.Text), nullable=False),
)

sa.Table(
    "alert_attempts",
    CONTROL_TABLES,
    _number(),
    _text("fact_key", sa.ForeignKey("public.alerts.fact_key")),
    _text("channel"),
    _moment("attempted_at"),
    _text("error", nullable=True),
    sa.Index("alert_attempts_of_a_fact", "fact_key", "channel"),
)

# Of any contract, so that entities and attributes are values by name. No months of their own: a row is named by its
# transaction and version alone, whenever that says it happened.
sa.Table(
    "scored_transactions",
    CONTROL_TABLES,
    # Only grows, so that who reads along asks for what came after the last number (channel `fraud_scored`).
    _number(),
    _text("transaction_id"),
    _count("model_version"),
    _moment("event_timestamp"),
    _moment("scored_at"),
    # As text, which keeps a double as it is; jsonb writes 1e-300 with 300 digits.
    sa.Column("transaction", JSON, nullable=False),
    sa.Column("raw_score", sa.Double),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("threshold", sa.Double, nullable=False),
    _text("decision"),
    sa.Column("pass_through_probability", sa.Double, nullable=False),
    sa.Column("passed_through", sa.Boolean, nullable=False),
    sa.Column("features", JSON, nullable=False),
    # Of rows from before there were lists and rules, the model's decision was the answer.
    _text("answered", nullable=True),
    _text("decided_by", nullable=True),
    # Of rows from before 0013 it is not said, and it was the champion.
    _text("role", nullable=True),
    sa.Column("more_features", JSON),
    sa.UniqueConstraint("transaction_id", "model_version", name="scored_transactions_once"),
    # By which months are read, and old rows are deleted.
    sa.Index("scored_transactions_by_time", "event_timestamp"),
    # What training weighs; mostly nothing.
    sa.Index("scored_transactions_drawn", "event_timestamp", postgresql_where=sa.text("pass_through_probability > 0")),
)

sa.Table(
    "scored_months",
    CONTROL_TABLES,
    sa.Column("month", sa.Text, primary_key=True),
    _count("n_rows"),
    _moment("last_scored_at"),
)

# Of each person a keyed hash, never the identifier; see `core/people/pseudonyms.py`.
sa.Table(
    "erased_entities",
    CONTROL_TABLES,
    _number(),
    _moment("erased_at", now=True),
    _text("entity"),
    _text("hash", unique=True),
    _text("pseudonym", unique=True),
    _text("actor"),
    _text("reason"),
)

# The names that months had before they were rewritten with pseudonyms, and still have.
sa.Table(
    "erased_digests",
    CONTROL_TABLES,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("is_now", sa.Text, primary_key=True),
    _text("was"),
    _text("why", sa.CheckConstraint("why IN ('person', 'age')")),
    _moment("recorded_at", now=True),
)

# Months of tables whose rows went because of their age; one that is written again is not among them any more.
sa.Table(
    "removed_months",
    CONTROL_TABLES,
    sa.Column("table_name", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    _moment("removed_at", now=True),
    _text("digest"),
    _count("n_rows"),
    # When Dagster was told of it.
    sa.Column("told_at", TIMESTAMP(timezone=True)),
)

# Only added to: what holds of a value is what its last row says.
sa.Table(
    "entity_lists",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("change", sa.CheckConstraint("change IN ('add', 'remove')")),
    _text("list"),
    _text("action", sa.CheckConstraint("action IN ('block', 'allow')")),
    _text("entity"),
    _text("value"),
    _text("reason"),
    _text("actor"),
    _moment("since"),
    sa.Column("until", TIMESTAMP(timezone=True)),
    sa.Index("entity_lists_of_a_list", "list", "entity", "value", "number"),
)

# What versions say of transactions that another one answered.
sa.Table(
    "shadow_scores",
    CONTROL_TABLES,
    _number(),
    _text("transaction_id"),
    _count("model_version"),
    _count("answered_version"),
    _text("role", sa.CheckConstraint("role IN ('champion', 'challenger')")),
    _moment("event_timestamp"),
    _moment("scored_at"),
    _text("outcome", sa.CheckConstraint("outcome IN ('scored', 'failed', 'late')")),
    sa.Column("probability", sa.Double),
    sa.Column("threshold", sa.Double, nullable=False),
    _text("decision", nullable=True),
    sa.UniqueConstraint("transaction_id", "model_version", name="shadow_scores_once"),
    sa.Index("shadow_scores_by_time", "event_timestamp"),
)

sa.Table("shadow_months", CONTROL_TABLES, sa.Column("month", sa.Text, primary_key=True), _count("n_rows"))

sa.Table(
    "shadow_progress",
    CONTROL_TABLES,
    sa.Column("model_version", sa.BigInteger, primary_key=True, autoincrement=False),
    _count("first_number"),
    _count("number"),
    *(
        sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
        for name in ("n_scored", "n_failed", "n_late", "n_behind")
    ),
    sa.Column("attempting", ARRAY(sa.BigInteger)),
    _text("said", nullable=True),
    _moment("updated_at", now=True),
)

sa.Table(
    "breaker_events",
    CONTROL_TABLES,
    _number(),
    _moment("recorded_at", now=True),
    _text("event", sa.CheckConstraint("event IN ('opened', 'closed')")),
    _count("model_version"),
    _text("mode", sa.CheckConstraint("mode IN ('previous', 'review')")),
    _count("n", nullable=True),
    _count("n_held", nullable=True),
    _text("said"),
    _text("actor"),
)


@dataclass(frozen=True)
class SchemaVersion:
    """Where a database stands.

    Attributes:
        revision: the newest revision that it has had; None before the first.
        contract: the contract that it belongs to; None before that is known.
    """

    revision: str | None
    contract: str | None

    @property
    def state(self) -> State:
        """Against this version of the platform; `empty` is a database in which the platform has nothing yet."""
        if self.revision == REVISIONS[-1]:
            return "current"
        if self.revision is None:
            return "empty" if self.contract is None else "behind"
        return "behind" if self.revision in REVISIONS else "ahead"

    @property
    def pending(self) -> tuple[str, ...]:
        """The revisions that it lacks, oldest first; none of one that is ahead."""
        if self.state == "ahead":
            return ()
        return REVISIONS[0 if self.revision is None else REVISIONS.index(self.revision) + 1 :]


def read_version(connection: psycopg.Connection[Any]) -> SchemaVersion:
    """Where the database stands: two queries, and nothing is changed."""
    found = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL, to_regclass('public.platform') IS NOT NULL", [f"public.{VERSION_TABLE}"]
    ).fetchone()
    versioned, claimed = found or (False, False)
    revision = connection.execute(f"SELECT version_num FROM public.{VERSION_TABLE}").fetchone() if versioned else None
    contract = connection.execute("SELECT contract FROM public.platform").fetchone() if claimed else None
    return SchemaVersion(revision and revision[0], contract and contract[0])


def migrations() -> Config:
    """Where alembic finds the revisions."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "fraud_assets.adapters.postgres:migrations")
    # The first ones lie in a folder of `versions`.
    config.set_main_option("recursive_version_locations", "true")
    return config


def upgrade(url: str) -> None:
    """Brings a database to the newest revision, in one transaction; others who do the same wait for their turn.

    Args:
        url: as psycopg takes it.
    """
    # Here, because it takes longer to import than most commands take.
    from alembic import command

    engine = sa.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=sa.pool.NullPool)
    config = migrations()
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.prepare'))"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
