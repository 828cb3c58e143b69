"""Kept scores into Postgres: many lines in one statement, each transaction and version once.

What a line has is declared in `core/models/kept_scores.py`, the table in `adapters/postgres/schema.py`, of which the
service knows nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_manager
import pyarrow as pa

from fraud_assets.adapters.online.connecting import connect
from fraud_assets.adapters.people.key import ERASED, erased_by
from fraud_assets.core.models.kept_scores import FIELDS, MONTH, renamed_line
from fraud_assets.core.people.pseudonyms import ErasureError

logger = logging.getLogger("bentoml.fraud_scorer")

CHANNEL = "fraud_scored"
"""Where PostgreSQL tells listeners of new rows: the first and the last number, with a space between."""
CONNECT_SECONDS = 3
STATEMENT_SECONDS = 30
# PostgreSQL's classes of errors that a row itself causes, and that come again however often it is sent.
ROW_ERRORS = ("22", "23")
NO_TABLE, NO_COLUMN = "42P01", "42703"

# Row locks are taken in the order of the ids, so that two processes with the same transactions wait for each other in
# turn.
INSERT = f"""
WITH given AS (
    SELECT r.* FROM unnest($1::text[]) AS line,
    json_to_record(line::json) AS r({", ".join(f"{name} {kind}" for name, kind in FIELDS.items())}, {MONTH} text)
    ORDER BY transaction_id, model_version
), kept AS (
    INSERT INTO public.scored_transactions ({", ".join(FIELDS)})
    SELECT {", ".join(FIELDS)} FROM given
    ON CONFLICT (transaction_id, model_version) DO NOTHING
    RETURNING number, transaction_id, model_version
), counted AS (
    INSERT INTO public.scored_months (month, n_rows, last_scored_at)
    SELECT {MONTH}, count(*), max(scored_at)
    FROM (SELECT DISTINCT ON (transaction_id, model_version) * FROM given ORDER BY transaction_id, model_version) once
    JOIN kept USING (transaction_id, model_version)
    GROUP BY {MONTH} ORDER BY {MONTH}
    ON CONFLICT (month) DO UPDATE SET n_rows = scored_months.n_rows + excluded.n_rows,
        last_scored_at = greatest(scored_months.last_scored_at, excluded.last_scored_at)
)
SELECT count(*) AS n,
    CASE WHEN count(*) > 0 THEN pg_notify('{CHANNEL}', min(number) || ' ' || max(number))::text END AS told
FROM kept
"""


class SinkError(ConnectionError):
    """The database cannot take scores now; the message holds no part of its URL."""


@dataclass(frozen=True)
class Inserted:
    """What became of lines.

    Attributes:
        n_new: rows that were not there.
        n_known: transactions that had a row of this version already.
        refused: lines that the database does not take, ever, each with the error's SQLSTATE.
    """

    n_new: int = 0
    n_known: int = 0
    refused: tuple[tuple[bytes, str], ...] = ()

    def __add__(self, other: Inserted) -> Inserted:
        return Inserted(self.n_new + other.n_new, self.n_known + other.n_known, self.refused + other.refused)


class Sink:
    """A connection that inserts lines; for one thread."""

    def __init__(self, url: str, erasure_key: Path | None = None, personal: Sequence[str] = ()) -> None:
        """Connects to nothing yet.

        Args:
            url: `postgresql://` and so on.
            erasure_key: the file with the key by which erased persons are recognised, who are stored under a pseudonym.
            personal: columns that tell something of a person, and are left empty then.
        """
        self._url, self._erasure_key, self._personal = url, erasure_key, personal
        self._connection: Any = None

    def insert(self, lines: Sequence[bytes]) -> Inserted:
        """Inserts all of them, or all but those that the database refuses, in one transaction or several.

        Raises:
            SinkError: when the database cannot be reached, or lacks the table. Some lines may be in it then.
        """
        if not lines:
            return Inserted()
        try:
            lines = self._renamed(lines)
            n_new = self._execute(lines)
        except adbc_driver_manager.Error as error:
            if not (error.sqlstate or "").startswith(ROW_ERRORS):
                self.close()
                raise failed(error, self._url) from None
            if len(lines) == 1:
                # Not its words, which have the value in them.
                return Inserted(refused=((lines[0], error.sqlstate or ""),))
            # Halves, until the row at fault is alone.
            middle = len(lines) // 2
            return self.insert(lines[:middle]) + self.insert(lines[middle:])
        return Inserted(n_new, len(lines) - n_new)

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
            self._connection = None

    def _renamed(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Lines with pseudonyms for persons who were erased."""
        if self._connection is None:
            self._connection = connect(self._url, "fraud scores", CONNECT_SECONDS, STATEMENT_SECONDS)
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(ERASED)
                known = cursor.fetch_arrow_table().to_pylist()
            except adbc_driver_manager.Error as error:
                if error.sqlstate != NO_TABLE:
                    raise
                # A database from before anybody could be erased.
                return lines
        try:
            erased = erased_by(known, self._erasure_key)
        except ErasureError as error:
            raise SinkError(str(error)) from error
        return [renamed_line(erased, self._personal, line) for line in lines] if erased else lines

    def _execute(self, lines: Sequence[bytes]) -> int:
        texts = pa.array([line.decode() for line in lines], pa.string())
        parameters = pa.record_batch([pa.ListArray.from_arrays([0, len(texts)], texts)], names=["lines"])
        with self._connection.cursor() as cursor:
            cursor.execute(INSERT, parameters)
            return int(cursor.fetch_arrow_table()["n"][0].as_py())


def failed(error: adbc_driver_manager.Error, url: str) -> SinkError:
    """What is to be said of an error; no part of the URL."""
    if error.sqlstate in (NO_TABLE, NO_COLUMN):
        return SinkError("the database lacks what this version keeps of scores: `fraud db upgrade` adds it")
    # libpq repeats a URL that it cannot read, password included; ADBC the statement.
    said = " ".join(str(error).partition("Query was")[0].replace(url, "FRAUD_DATABASE_URL").split())
    return SinkError(f"the database does not take scores: {said}")
