"""The ledger's table: append-only, and the same fact is written once."""

from __future__ import annotations

from fraud_assets.adapters.database import Database
from fraud_assets.core.digests import digest_text
from fraud_assets.core.ledger import Event, EventKind

LEDGER = """
CREATE TABLE IF NOT EXISTS ledger (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    kind text NOT NULL,
    model_version bigint NOT NULL,
    month text NOT NULL,
    reasons text NOT NULL,
    actor text NOT NULL,
    fact text NOT NULL UNIQUE
)
"""


class LedgerStore:
    """Reads and appends the ledger's events."""

    def __init__(self, database: Database) -> None:
        """Binds the ledger to a database."""
        self.database = database

    def record(
        self, kind: EventKind, model_version: int, month: str, reasons: str, *, actor: str, evidence: str = ""
    ) -> bool:
        """Appends an event, unless the same was recorded on the same evidence.

        Args:
            kind: what happened.
            model_version: to which version.
            month: the month on whose evidence.
            reasons: why.
            actor: who or what.
            evidence: digest of what it was decided on, so that a run repeated on the same evidence adds nothing.

        Returns:
            Whether it was new.
        """
        fact = digest_text(kind, str(model_version), month, evidence)
        with self.database.session() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.ledger'))")
            connection.execute(LEDGER)
            written = connection.execute(
                "INSERT INTO ledger (kind, model_version, month, reasons, actor, fact) "
                "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (fact) DO NOTHING",
                [kind, model_version, month, reasons, actor, fact],
            )
            return written.rowcount == 1

    def events(self) -> list[Event]:
        """All events, in order."""
        with self.database.session() as connection:
            there = connection.execute("SELECT to_regclass('public.ledger')").fetchone()
            if there is None or there[0] is None:
                return []
            rows = connection.execute(
                "SELECT number, recorded_at, kind, model_version, month, reasons, actor FROM ledger ORDER BY number"
            ).fetchall()
        return [Event(*row) for row in rows]
