"""Scores of models that did not answer: kept traffic read by number, and what another version says of it written.

The service's own processes import this; what a challenger is belongs to `core/rollout/challengers.py`, the tables to
`adapters/postgres/schema.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import adbc_driver_manager
import pyarrow as pa

from fraud_assets.adapters.online.connecting import connect
from fraud_assets.adapters.scores.sink import CONNECT_SECONDS, STATEMENT_SECONDS, failed

NAME = "fraud shadow"
# Rows are numbered before they are there for others to see: of two services, the later number may be seen first.
TRAILING = 2_000
# What a version is behind at most, if nobody says more: some minutes of a busy service. What is older is left out, and
# counted.
MOST_BEHIND = 50_000

BEGIN = """
INSERT INTO public.shadow_progress AS p (model_version, first_number, number)
SELECT v, n, n FROM (SELECT $1::bigint AS v, coalesce(max(number), 0) AS n FROM public.scored_transactions) newest
ON CONFLICT (model_version) DO UPDATE SET updated_at = now()
RETURNING attempting IS NOT NULL AS is_broken_off
"""
# Moves the position over what is too far behind; numbers that no row has are no rows.
SKIP = """
UPDATE public.shadow_progress p SET updated_at = now(), number = edge.number, first_number = edge.number,
    n_behind = n_behind + (SELECT count(*) FROM public.scored_transactions s
        WHERE s.number > p.number AND s.number <= edge.number AND s.model_version <> $1)
FROM (SELECT coalesce(max(number), 0) - $2::bigint AS number FROM public.scored_transactions) edge
WHERE p.model_version = $1 AND edge.number > p.number
RETURNING p.number
"""
NEXT = f"""
SELECT s.number, s.event_timestamp, s.features::text AS features, s.more_features::text AS more
FROM public.shadow_progress p JOIN public.scored_transactions s
    ON s.number > greatest(p.number - {TRAILING}, p.first_number)
WHERE p.model_version = $1 AND s.model_version <> $1 AND NOT EXISTS (
    SELECT FROM public.shadow_scores x WHERE x.transaction_id = s.transaction_id AND x.model_version = $1)
AND ($2 = '' OR s.role = $2)
ORDER BY s.number LIMIT $3
"""
ATTEMPT = """
UPDATE public.shadow_progress SET updated_at = now(), attempting = ARRAY(
    SELECT value::bigint FROM json_array_elements_text($2::json))
WHERE model_version = $1 RETURNING model_version
"""
GIVEN_UP = """
SELECT s.number, s.event_timestamp FROM public.shadow_progress p
JOIN public.scored_transactions s ON s.number = ANY(p.attempting)
WHERE p.model_version = $1
"""
# Row locks are taken in the order of the ids, so that two processes with the same transactions wait in turn.
KEEP = """
WITH asked AS (SELECT $1::json AS j), given AS (
    SELECT s.transaction_id, s.model_version AS answered_version, s.event_timestamp, r.*
    FROM asked, json_to_recordset(j -> 'rows') AS r(number bigint, outcome text, probability float8, month text)
    JOIN public.scored_transactions s USING (number)
    ORDER BY s.transaction_id
), kept AS (
    INSERT INTO public.shadow_scores (transaction_id, model_version, answered_version, role, event_timestamp, scored_at,
        outcome, probability, threshold, decision)
    SELECT DISTINCT ON (transaction_id) transaction_id, (j ->> 'version')::bigint, answered_version, j ->> 'role',
        event_timestamp, now(), outcome, probability, (j ->> 'threshold')::float8,
        CASE WHEN probability IS NOT NULL
             THEN CASE WHEN probability >= (j ->> 'threshold')::float8 THEN 'review' ELSE 'approve' END END
    FROM given, asked ORDER BY transaction_id
    ON CONFLICT (transaction_id, model_version) DO NOTHING
    RETURNING transaction_id, outcome
), counted AS (
    INSERT INTO public.shadow_months (month, n_rows)
    SELECT month, count(*) FROM (SELECT DISTINCT ON (transaction_id) * FROM given ORDER BY transaction_id) once
    JOIN kept USING (transaction_id) WHERE kept.outcome IS NOT NULL GROUP BY month ORDER BY month
    ON CONFLICT (month) DO UPDATE SET n_rows = shadow_months.n_rows + excluded.n_rows
), moved AS (
    UPDATE public.shadow_progress p SET updated_at = now(), attempting = NULL, said = j ->> 'said',
        number = greatest(p.number, (SELECT max(number) FROM given)),
        n_scored = p.n_scored + (SELECT count(*) FROM kept WHERE outcome = 'scored'),
        n_failed = p.n_failed + (SELECT count(*) FROM kept WHERE outcome = 'failed'),
        n_late = p.n_late + (SELECT count(*) FROM kept WHERE outcome = 'late')
    FROM asked WHERE p.model_version = (j ->> 'version')::bigint
)
SELECT count(*) AS n FROM kept
"""


@dataclass(frozen=True)
class Outcome:
    """What a version said of a kept transaction.

    Attributes:
        number: of the kept row.
        month: the contract's month in which it happened.
        probability: of fraud; None where the version gave none.
        outcome: `scored`; `failed`, where it gave none; `late`, where it took too long.
    """

    number: int
    month: str
    probability: float | None
    outcome: str = "scored"


class ShadowStore:
    """A connection for the shadow scores of one version; for one thread."""

    def __init__(self, url: str, version: int, role: str, threshold: float, most_behind: int = MOST_BEHIND) -> None:
        """Connects to nothing yet.

        Args:
            url: `postgresql://` of the database.
            version: that scores.
            role: `champion` or `challenger`; a champion scores what a challenger answered.
            threshold: of the version.
            most_behind: how many rows it may be behind.
        """
        self._most_behind = most_behind
        self._url, self._version, self._role, self._threshold = url, version, role, threshold
        self._connection: Any = None

    def begin(self) -> list[Mapping[str, Any]]:
        """Takes up where the last process of this version ended, with the rows that it was broken off at.

        Raises:
            SinkError: when the database cannot be reached, or lacks the tables.
        """
        if self._ask(BEGIN, self._version)["is_broken_off"][0].as_py():
            return list(self._ask(GIVEN_UP, self._version).to_pylist())
        return []

    def next_rows(self, most: int) -> list[Mapping[str, Any]]:
        """The oldest rows that the version has not scored: `number`, `event_timestamp`, `features`, `more`.

        Raises:
            SinkError: as above.
        """
        self._ask(SKIP, self._version, self._most_behind)
        answered = "challenger" if self._role == "champion" else ""
        return list(self._ask(NEXT, self._version, answered, most).to_pylist())

    def attempt(self, numbers: Sequence[int]) -> None:
        """Notes which rows are tried, so that whoever comes after a process that did not end knows.

        Raises:
            SinkError: as above.
        """
        self._ask(ATTEMPT, self._version, json.dumps(list(numbers)))

    def keep(self, outcomes: Sequence[Outcome], said: str = "") -> int:
        """Writes what came of rows; how many were new.

        Args:
            outcomes: of the rows.
            said: what is wrong, for people; empty where nothing is.

        Raises:
            SinkError: as above.
        """
        given = {
            "version": self._version, "role": self._role, "threshold": self._threshold, "said": said or None,
            "rows": [vars(one) for one in outcomes],
        }  # fmt: skip
        return int(self._ask(KEEP, json.dumps(given))["n"][0].as_py())

    def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
            self._connection = None

    def _ask(self, statement: str, *given: Any) -> pa.Table:
        parameters = pa.record_batch([pa.array([one]) for one in given], names=[f"p{at}" for at in range(len(given))])
        try:
            if self._connection is None:
                self._connection = connect(self._url, NAME, CONNECT_SECONDS, STATEMENT_SECONDS)
            with self._connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetch_arrow_table()
        except adbc_driver_manager.Error as error:
            self.close()
            raise failed(error, self._url) from None
