"""Statements about transactions, one after the other into the table of added labels: from files and over HTTP alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.asked.session import Ask, Session

STATED = ("transaction_id", "is_fraud", "label_timestamp", "label_source")
FEEDBACK = "feedback"
"""What stands for the file's name of a label that came over HTTP, before the name of its key."""
# Whoever adds statements waits for those before, and sees them.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('fraud_assets.added_labels'))::text"
# From a relation `incoming`. A row without a time of its own says something only if the last added statement says
# otherwise.
NEW_STATEMENTS = """
INSERT INTO added_labels
    (transaction_id, is_fraud, label_timestamp, label_source, file, row_number, statement)
SELECT transaction_id, is_fraud, label_timestamp, label_source, file, row_number, statement FROM incoming
WHERE is_dated OR NOT EXISTS (
    SELECT FROM (
        SELECT DISTINCT ON (transaction_id) transaction_id, is_fraud FROM added_labels
        WHERE transaction_id IN (SELECT transaction_id FROM incoming)
        ORDER BY transaction_id, label_timestamp DESC, number DESC
    ) last WHERE last.transaction_id = incoming.transaction_id AND last.is_fraud IS NOT DISTINCT FROM incoming.is_fraud
)
ORDER BY row_number
ON CONFLICT (statement) DO NOTHING
RETURNING row_number
"""
COLUMNS = (
    "transaction_id text, is_fraud boolean, label_timestamp timestamptz, label_source text, file text, "
    "row_number bigint, is_dated boolean, statement text"
)
GIVEN = f"WITH incoming AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS given({COLUMNS})) {NEW_STATEMENTS}"
# The database's clock: one for all services, the one that the ledger goes by.
CLOCK = "SELECT clock_timestamp() AS now"
# By the time first, which leaves out all months that are over.
AHEAD = """
SELECT transaction_id::text AS transaction_id FROM raw_transactions
WHERE event_timestamp > ($1::jsonb ->> 'now')::timestamptz
AND transaction_id::text IN (SELECT jsonb_array_elements_text($1::jsonb -> 'ids'))
"""


def add_statements(
    session: Session, read: Callable[[datetime], pa.Table], premature: Callable[[list[int]], Exception]
) -> tuple[datetime, int, int]:
    """Adds statements that became known now, each once.

    Args:
        session: of the database.
        read: gives the statements that become known at a moment, columns as `StatedRows.taken`, or raises.
        premature: the error for the statements, by their `row_number`, whose transactions lie ahead of that moment.

    Returns:
        The moment; how many statements there were, and how many of them were new. The others repeat what was said.

    Raises:
        AskedError: when the database does not take them.
    """

    def add(ask: Ask) -> tuple[datetime, int, int]:
        ask(LOCK)
        now: datetime = ask(CLOCK)["now"][0].as_py()
        stated = read(now)
        ids = pc.cast(stated["transaction_id"], pa.string()).to_pylist()
        ahead = set(ask(AHEAD, {"now": now.isoformat(), "ids": ids})["transaction_id"].to_pylist())
        if ahead:
            numbers = zip(ids, stated["row_number"].to_pylist(), strict=True)
            raise premature([number for identifier, number in numbers if identifier in ahead])
        new = ask(GIVEN, [incoming_row(row) for row in stated.to_pylist()])
        return now, stated.num_rows, new.num_rows

    return session.transact(add)


def incoming_row(row: dict[str, Any]) -> dict[str, Any]:
    """A statement as `incoming` has it, in JSON."""
    # Here: it loads pandas, for which what only starts the service's processes shall not wait.
    from fraud_assets.core.labels.feed import statement_digest

    known: datetime = row["label_timestamp"]
    named = statement_digest(row["transaction_id"], row["is_fraud"], known)
    plain = {name: row[name] for name in ("is_fraud", "label_source", "file", "row_number", "is_dated")}
    return {
        **plain,
        "transaction_id": str(row["transaction_id"]),
        "label_timestamp": known.isoformat(),
        "statement": named,
    }
