"""The ledger's events: appended, never changed, and the same fact is written once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.decisions.ledger import BY_HAND, Event, EventKind
from fraud_assets.core.digests import digest_text
from fraud_assets.core.reasons import Reason, read_reasons

# The newest decision on a month that was made on other evidence, by the platform: what is decided after it is another
# fact than what was decided before, even when the evidence has come back to what it had been.
DECIDED_OTHERWISE = """
SELECT coalesce(max(number), 0) FROM ledger
WHERE month = %s AND kind IN ('validated', 'refused', 'promoted', 'rolled_back')
    AND evidence IS DISTINCT FROM %s AND NOT coalesce(evidence ? %s, false)
"""

# Events from before evidence was recorded have none.
EVENTS = """
SELECT number, recorded_at, kind, model_version, month, reasons, actor, coalesce(evidence, '{}')
FROM ledger ORDER BY number
"""


class LedgerStore:
    """Reads and appends the ledger's events."""

    def __init__(self, database: Database) -> None:
        """Binds the ledger to a database."""
        self.database = database

    @contextmanager
    def deciding(self) -> Iterator[LedgerDecision]:
        """A decision: its events, and what follows from them, are there at the end of the block, or not at all.

        Who decides at the same time waits for the end, and sees what was decided.
        """
        with self.database.session() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.ledger'))")
            yield LedgerDecision(connection)

    def record(
        self,
        kind: EventKind,
        model_version: int,
        month: str,
        reasons: Sequence[Reason],
        *,
        actor: str,
        evidence: Mapping[str, Mapping[str, str | None]] | None = None,
    ) -> bool:
        """Appends one event by itself; see `LedgerDecision.record`."""
        with self.deciding() as decision:
            return decision.record(kind, model_version, month, reasons, actor=actor, evidence=evidence)

    def events(self) -> list[Event]:
        """All events, in order."""
        return _events(self.database.rows("ledger", EVENTS))


class LedgerDecision:
    """The ledger in a transaction of its own."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        """Binds it to a transaction that keeps other decisions out."""
        self._connection = connection

    def record(
        self,
        kind: EventKind,
        model_version: int,
        month: str,
        reasons: Sequence[Reason],
        *,
        actor: str,
        evidence: Mapping[str, Mapping[str, str | None]] | None = None,
    ) -> bool:
        """Appends an event, unless the same was recorded on the same evidence and nothing else was decided since.

        Args:
            kind: what happened.
            model_version: to which version.
            month: the month on whose evidence.
            reasons: why.
            actor: who or what.
            evidence: what it was decided on, by name, so that a run repeated on the same evidence adds nothing.

        Returns:
            Whether it was new.
        """
        named = {table: dict(months) for table, months in (evidence or {}).items()}
        after = self._connection.execute(DECIDED_OTHERWISE, [month, Jsonb(named), BY_HAND]).fetchone()
        since = str(after[0]) if after and kind != "registered" and BY_HAND not in named else ""
        fact = digest_text(kind, str(model_version), month, json.dumps(named, sort_keys=True), since)
        written = self._connection.execute(
            "INSERT INTO ledger (kind, model_version, month, reasons, actor, fact, evidence) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (fact) DO NOTHING",
            [kind, model_version, month, Jsonb([one.to_dict() for one in reasons]), actor, fact, Jsonb(named)],
        )
        return written.rowcount == 1

    def events(self) -> list[Event]:
        """All events, in order, with those of this decision."""
        return _events(self._connection.execute(EVENTS).fetchall())


def _events(rows: list[tuple[Any, ...]]) -> list[Event]:
    return [
        Event(number, recorded_at, kind, version, month, read_reasons(reasons), actor, evidence)
        for number, recorded_at, kind, version, month, reasons, actor, evidence in rows
    ]
