"""The ledger's rows: appended to one chain, never changed, and the same fact is written once.

What a chain is belongs to `core/decisions/chain.py`. The head of the chain is also kept in a file: `head_file.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from fraud_assets.adapters.head_file import read_head, write_head
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.leases import check_lease
from fraud_assets.adapters.provenance import code_version, library_versions
from fraud_assets.core.decisions.alerts import run_of
from fraud_assets.core.decisions.chain import GENESIS, Fault, Head, LedgerError, Row, chained, find_fault
from fraud_assets.core.decisions.ledger import BY_HAND, Event, EventKind, Metrics
from fraud_assets.core.digests import digest_text
from fraud_assets.core.reasons import Reason
from fraud_assets.settings import PROJECT_ROOT

COLUMNS = (
    "number", "recorded_at", "kind", "model_version", "month", "reasons", "actor", "fact", "evidence", "code_version",
    "libraries", "metrics", "digests", "previous_hash", "hash",
)  # fmt: skip
JSON_COLUMNS = ("reasons", "evidence", "libraries", "metrics", "digests")
ROWS = f"SELECT {', '.join(COLUMNS)} FROM public.ledger ORDER BY number"
APPEND = f"INSERT INTO public.ledger ({', '.join(COLUMNS)}) VALUES ({', '.join('%s' for _ in COLUMNS)})"
DECISIONS = ("validated", "refused", "promoted", "rolled_back")

# Rows by their hash that this process has seen to fit it: the months of a long run ask for all of them many times each.
_FOUND_WHOLE: dict[str, Row] = {}

REMEDY = (
    "Nothing is concluded from this ledger, and nothing is written into it. See `fraud ledger verify`; compare it with "
    "a backup, and put back what was there (docs/reliability.md)"
)


class LedgerStore:
    """Reads and appends the ledger's events."""

    def __init__(self, database: Database, head_file: Path | None = None) -> None:
        """Binds the ledger to a database.

        Args:
            database: has the rows.
            head_file: where the head is kept; without it, rows that were cut off at the end do not show here.
        """
        self.database = database
        self.head_file = head_file

    @contextmanager
    def deciding(self) -> Iterator[LedgerDecision]:
        """A decision: its events, and what follows from them, are there at the end of the block, or not at all.

        Who decides at the same time waits for the end, and sees what was decided.

        Raises:
            LedgerError: when the ledger is not as it was written; nothing is recorded then.
        """
        with self.database.session() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.ledger'))")
            decision = LedgerDecision(connection, self.heads())
            yield decision
        if self.head_file is not None and decision.head is not None:
            write_head(self.head_file, decision.head)

    def record(
        self,
        kind: EventKind,
        model_version: int,
        month: str,
        reasons: Sequence[Reason],
        *,
        actor: str,
        evidence: Mapping[str, Mapping[str, str | None]] | None = None,
        metrics: Metrics | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> bool:
        """Appends one event by itself; see `LedgerDecision.record`."""
        with self.deciding() as decision:
            return decision.record(
                kind, model_version, month, reasons, actor=actor, evidence=evidence, metrics=metrics, digests=digests
            )

    def events(self) -> list[Event]:
        """All events, in order.

        Raises:
            LedgerError: when the ledger is not as it was written.
        """
        return _believed(self.rows(), self.heads())

    def rows(self) -> list[dict[str, Any]]:
        """All rows, by number, as they are, whether they are believed or not."""
        return [dict(zip(COLUMNS, row, strict=True)) for row in self.database.rows("ledger", ROWS)]

    def heads(self) -> list[Head]:
        """The head that the file has; none without a file.

        Raises:
            LedgerError: when the file has something else in it.
        """
        kept = read_head(self.head_file) if self.head_file else None
        return [kept] if kept else []

    def find_fault(self, heads: Sequence[Head] = ()) -> Fault | None:
        """The first thing that is wrong, also against heads that are known elsewhere; None when nothing is."""
        return find_fault(self.rows(), [*self.heads(), *heads])


class LedgerDecision:
    """The ledger in a transaction of its own."""

    def __init__(self, connection: psycopg.Connection[Any], heads: Sequence[Head] = ()) -> None:
        """Binds it to a transaction that keeps other decisions out.

        Raises:
            LedgerError: when the ledger is not as it was written.
        """
        self.connection = connection
        self._rows = [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(ROWS).fetchall()]
        self._events = _believed(self._rows, heads)

    @property
    def head(self) -> Head | None:
        """The last row's number and hash, with the events of this decision; None of an empty ledger."""
        return Head(self._events[-1].number, self._events[-1].hash) if self._events else None

    def record(
        self,
        kind: EventKind,
        model_version: int,
        month: str,
        reasons: Sequence[Reason],
        *,
        actor: str,
        evidence: Mapping[str, Mapping[str, str | None]] | None = None,
        metrics: Metrics | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> bool:
        """Appends an event, unless the same was recorded on the same evidence and nothing else was decided since.

        Args:
            kind: what happened.
            model_version: to which version.
            month: the month on whose evidence.
            reasons: why.
            actor: who or what.
            evidence: what it was decided on, by name, so that a run repeated on the same evidence adds nothing.
            metrics: the figures behind it, finite or None.
            digests: SHA-256 of what it is about, by name.

        Returns:
            Whether it was new.

        Raises:
            LeaseError: when the actor is a run that may not write the month any more.
        """
        named = {table: dict(months) for table, months in (evidence or {}).items()}
        since = str(self._decided_otherwise(month, named)) if kind != "registered" and BY_HAND not in named else ""
        fact = digest_text(kind, str(model_version), month, json.dumps(named, sort_keys=True), since)
        if any(row["fact"] == fact for row in self._rows):
            return False
        check_lease(self.connection, run_of(actor), month)
        last = self._rows[-1] if self._rows else None
        (now,) = self.connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
        row = {
            "number": last["number"] + 1 if last else 1,
            "recorded_at": now,
            "kind": kind,
            "model_version": model_version,
            "month": month,
            "reasons": [one.to_dict() for one in reasons],
            "actor": actor,
            "fact": fact,
            "evidence": named,
            "code_version": code_version(PROJECT_ROOT),
            "libraries": library_versions(),
            "metrics": {name: dict(figures) for name, figures in (metrics or {}).items()},
            "digests": dict(digests or {}),
        }
        (whole,) = chained([row], last["hash"] if last else GENESIS)
        values = [Jsonb(whole[name]) if name in JSON_COLUMNS else whole[name] for name in COLUMNS]
        self.connection.execute(APPEND, values)
        self._rows.append(whole)
        self._events.append(Event.from_row(whole))
        return True

    def events(self) -> list[Event]:
        """All events, in order, with those of this decision."""
        return list(self._events)

    def _decided_otherwise(self, month: str, evidence: dict[str, dict[str, str | None]]) -> int:
        """The number of the newest decision on a month that the platform made on other evidence; 0 without one.

        What is decided after it is another fact than what was decided before, even when the evidence has come back to
        what it had been.
        """
        numbers = [
            event.number
            for event in self._events
            if event.month == month and event.kind in DECISIONS and event.evidence != evidence and not event.by_hand
        ]
        return max(numbers, default=0)


def _believed(rows: Sequence[Mapping[str, Any]], heads: Sequence[Head]) -> list[Event]:
    if fault := find_fault(rows, heads, _FOUND_WHOLE):
        raise LedgerError(f"the ledger is not as it was written: {fault.sentence}. {REMEDY}")
    return [Event.from_row(row) for row in rows]
