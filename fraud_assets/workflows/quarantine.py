"""Quarantined rows and what people decide about them: to release a row, or to drop it for good.

The table of decisions is append-only, and a row is named by the digest of its original values, so that a decision
outlives the run that quarantined the row. What a decision does to a row belongs to `core/intake/accept.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import dagster as dg

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.digests import digest_text
from fraud_assets.core.intake.accept import Decision
from fraud_assets.core.intake.quarantine import remedy_of
from fraud_assets.core.months import check_month
from fraud_assets.core.reasons import Reason, joined, reasons_from_json
from fraud_assets.settings import Settings
from fraud_assets.workflows.runs.run_months import materialize_months

Action = Literal["release", "drop"]
SHORT = 12


@dataclass(frozen=True)
class QuarantinedRow:
    """A row of `quarantined_transactions`.

    Attributes:
        month: the month whose delivery it came with.
        row_digest: names it; people use the first 12 digits.
        source, row_number: the file, and the row in it, counted from 1 below the header.
        reasons: why it is there.
        original: its values as they were delivered.
        status: `quarantined`, or `dropped` when a person has decided so.
    """

    month: str
    row_digest: str
    source: str
    row_number: int
    reasons: tuple[Reason, ...]
    original: dict[str, Any]
    status: str

    @property
    def short(self) -> str:
        """The beginning of its digest, enough to name it."""
        return self.row_digest[:SHORT]

    def to_dict(self) -> dict[str, Any]:
        """As plain values, with the short name as `row`."""
        return {"row": self.short} | asdict(self)


def decisions_for(database: Database, month: str) -> list[Decision]:
    """The decisions on a month's rows, the last one of each row, ordered by `row_digest`."""
    rows = database.rows(
        "quarantine_decisions",
        "SELECT DISTINCT ON (row_digest) row_digest, action FROM quarantine_decisions WHERE month = %s "
        "ORDER BY row_digest, number DESC",
        [month],
    )
    return [Decision(*row) for row in rows]


def decisions_digest(database: Database, month: str) -> str | None:
    """Names what is decided on a month's rows; None when nothing is.

    What was decided, not who decided it or how often: saying the same again makes nothing stale.
    """
    decisions = decisions_for(database, month)
    if not decisions:
        return None
    return digest_text(*(part for decision in decisions for part in (decision.row_digest, decision.action)))


def record_decisions(
    database: Database,
    row_digests: Sequence[tuple[str, str]],
    action: Action,
    reason: str,
    *,
    actor: str,
) -> None:
    """Appends a decision on each row, all or none.

    Args:
        database: where they are kept.
        row_digests: month and `row_digest` of each row.
        action: what to do with the rows.
        reason: why; it stays beside the decision.
        actor: who decided.
    """
    with database.session() as connection:
        connection.cursor().executemany(
            "INSERT INTO quarantine_decisions (month, row_digest, action, reason, actor) VALUES (%s, %s, %s, %s, %s)",
            [(month, digest, action, reason, actor) for month, digest in row_digests],
        )


# Whether one of a row's reasons is asked for: by a part of its sentence, or by its rule.
SAYS = "(one ->> 'rule' = %(reason)s OR position(lower(%(reason)s) IN lower(one ->> 'text')) > 0)"


def count_reasons(database: Database, month: str | None = None, reason: str | None = None) -> list[dict[str, Any]]:
    """How many rows break which rule.

    Args:
        database: where the rows are.
        month: of one month; of all when absent.
        reason: only reasons whose sentence contains this text, or whose rule it is.

    Returns:
        `month`, `status`, `rule`, `column`, `reason` (the sentence), `rows`, by month and falling number. A row that
        breaks two rules counts in both.
    """
    rows = database.rows(
        "quarantined_transactions",
        "SELECT to_char(month, 'YYYY-MM') AS month, status, one ->> 'rule' AS rule, one ->> 'column' AS about, "
        "one ->> 'text' AS said, count(*) FROM quarantined_transactions, jsonb_array_elements(reasons::jsonb) AS one "
        "WHERE (%(month)s::text IS NULL OR month = to_date(%(month)s, 'YYYY-MM')) "
        f"AND {SAYS} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 6 DESC, 5, 2",
        {"month": month, "reason": reason or ""},
    )
    return [dict(zip(("month", "status", "rule", "column", "reason", "rows"), row, strict=True)) for row in rows]


def quarantined_rows(
    database: Database,
    month: str | None = None,
    reason: str | None = None,
    limit: int | None = None,
    digests: Iterable[str] | None = None,
) -> list[QuarantinedRow]:
    """The rows that are in quarantine, dropped ones included, by month, source and row number.

    Args:
        database: where the rows are.
        month: of one month; of all when absent.
        reason: only rows with a reason whose sentence contains this text, or whose rule it is.
        limit: at most so many.
        digests: only rows with one of these `row_digest`.
    """
    rows = database.rows(
        "quarantined_transactions",
        "SELECT to_char(month, 'YYYY-MM'), row_digest, source, row_number, reasons, original, status "
        "FROM quarantined_transactions "
        "WHERE (%(month)s::text IS NULL OR month = to_date(%(month)s, 'YYYY-MM')) "
        f"AND EXISTS (SELECT FROM jsonb_array_elements(reasons::jsonb) AS one WHERE {SAYS}) "
        "AND (%(digests)s::text[] IS NULL OR row_digest = ANY(%(digests)s)) "
        "ORDER BY 1, source, row_number LIMIT %(limit)s",
        {
            "month": month,
            "reason": reason or "",
            "digests": None if digests is None else list(digests),
            "limit": limit,
        },
    )
    return [
        QuarantinedRow(month, digest, source, number, reasons_from_json(reasons), json.loads(original), status)
        for month, digest, source, number, reasons, original, status in rows
    ]


def list_rows(database: Database, month: str | None, reason: str | None, limit: int) -> dict[str, Any]:
    """What is in quarantine, as plain values: `counts` by month and reason, and the first `limit` of the `rows`.

    Raises:
        ValueError: when `month` is none.
    """
    month = month and check_month(month)
    rows = quarantined_rows(database, month, reason, limit)
    return {"counts": count_reasons(database, month, reason), "rows": [row.to_dict() for row in rows]}


def choose_rows(
    database: Database, identifiers: Sequence[str], month: str | None, reason: str | None, *, everything: bool
) -> list[tuple[str, str]]:
    """The rows that a decision is about.

    Args:
        database: where the rows are.
        identifiers: rows by the beginning of their digest; see `find_rows`.
        month: only rows of this month.
        reason: instead of identifiers, all undecided rows with such a reason (`quarantined_rows`).
        everything: instead of identifiers, all undecided rows.

    Returns:
        Month and `row_digest` of each.

    Raises:
        ValueError: when rows are chosen in both ways, in neither, or none is there.
    """
    month = month and check_month(month)
    if bool(identifiers) == (everything or reason is not None):
        raise ValueError(
            "give the ids of rows that `fraud quarantine list` shows, or choose them with --all or --reason-contains "
            "(and --month); one way, not both"
        )
    if identifiers:
        return find_rows(database, identifiers, month)
    chosen = [row for row in quarantined_rows(database, month, reason) if row.status == "quarantined"]
    if not chosen:
        raise ValueError("no row in quarantine matches; see `fraud quarantine list`")
    return list(dict.fromkeys((row.month, row.row_digest) for row in chosen))


def find_rows(database: Database, identifiers: Iterable[str], month: str | None = None) -> list[tuple[str, str]]:
    """The rows that people name by the beginning of their digest.

    A row that was released is no longer in quarantine, but can still be named, to decide otherwise.

    Returns:
        Month and `row_digest` of each; a row that was delivered with several months is there once for each.

    Raises:
        ValueError: naming the identifiers that fit no row, or several.
    """
    known = set()
    for table, column in (("quarantined_transactions", "to_char(month, 'YYYY-MM')"), ("quarantine_decisions", "month")):
        known |= {*database.rows(table, f"SELECT DISTINCT {column}, row_digest FROM {table}")}
    found: list[tuple[str, str]] = []
    for identifier in identifiers:
        given = identifier.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{4,64}", given):
            raise ValueError(
                f"{identifier!r} names no row: give at least 4 of the hexadecimal digits that `fraud quarantine list` "
                "shows"
            )
        fits = sorted(row for row in known if row[1].startswith(given) and month in (None, row[0]))
        digests = {digest for _, digest in fits}
        if not fits:
            where = f"in {month} " if month else ""
            raise ValueError(f"no quarantined row {where}begins with {given!r}; see `fraud quarantine list`")
        if len(digests) > 1:
            some = ", ".join(digest[: max(SHORT, len(given) + 4)] for digest in sorted(digests)[:5])
            raise ValueError(f"{given!r} is the beginning of {len(digests)} rows ({some}): give more digits")
        found += [row for row in fits if row not in found]
    return found


@dataclass(frozen=True)
class Decided:
    """What came of a decision.

    Attributes:
        months: the months that were run again.
        changed: those of them whose rows are others than before.
        settled: rows that are where the decision puts them: out of quarantine, or dropped.
        remaining: released rows that cannot be stored, with what to correct.
        failed: for a month that could not be run again, why.
    """

    months: list[str]
    changed: list[str]
    settled: list[tuple[str, str]]
    remaining: list[tuple[QuarantinedRow, str]]
    failed: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self) | {
            "settled": [{"row": digest[:SHORT], "month": month} for month, digest in self.settled],
            "remaining": [row.to_dict() | {"remedy": advice} for row, advice in self.remaining],
        }


def decide(
    job: dg.JobDefinition,
    settings: Settings,
    store: MonthStore,
    rows: Sequence[tuple[str, str]],
    action: Action,
    reason: str,
    *,
    actor: str,
) -> Decided:
    """Records a decision and takes the months concerned in again, by the asset that took them in before.

    Args:
        job: holds every asset.
        settings: name the source.
        store: where rows and decisions are.
        rows: month and `row_digest` of each row.
        action: what to do with the rows.
        reason: why.
        actor: who decided.
    """
    database = store.database
    record_decisions(database, rows, action, reason, actor=actor)
    months = sorted({month for month, _ in rows})
    before = store.months("raw_transactions")
    failed = take_in_again(job, settings, months)
    after = store.months("raw_transactions")
    unsettled = {
        (row.month, row.row_digest): row
        for row in quarantined_rows(database, digests={digest for _, digest in rows})
        if action == "release" or row.status == "quarantined"
    }
    done = [row for row in dict.fromkeys(rows) if row[0] not in failed]
    return Decided(
        months,
        [month for month in months if before.get(month) != after.get(month)],
        [row for row in done if row not in unsettled],
        [(unsettled[row], remedy(unsettled[row])) for row in done if row in unsettled],
        failed,
    )


def remedy(row: QuarantinedRow) -> str:
    """What to correct in a row that cannot be stored, whatever is decided about it."""
    steps = remedy_of(row.reasons)
    place = f"row {row.row_number} of {row.source}"
    return f"{joined(row.reasons)}: {steps}, in {place}, and deliver {row.month} again"


def take_in_again(job: dg.JobDefinition, settings: Settings, months: Sequence[str]) -> dict[str, str]:
    """Materialises raw_transactions, and what comes with it, for each month; returns why a month failed."""
    assets = job.asset_layer.asset_graph.get(dg.AssetKey("raw_transactions")).execution_set_asset_keys
    return materialize_months(job, settings, months, assets, "fraud quarantine")
