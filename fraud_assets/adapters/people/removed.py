"""Months of tables whose rows were removed because of their age: what was there is noted, and the rows are gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.lineage.staleness import Partition, in_words

# For whoever asks for the months that are there.
IS_THERE = (
    "NOT EXISTS (SELECT FROM removed_months WHERE removed_months.table_name = month_versions.table_name "
    "AND removed_months.month = month_versions.month)"
)


@dataclass(frozen=True)
class Removed:
    """A month of a table without its rows.

    Attributes:
        removed_at: when they were removed.
        digest: the month's name, as ledger and other months have it.
        n_rows: how many rows there were.
        is_told: whether Dagster has been told.
    """

    removed_at: datetime
    digest: str
    n_rows: int
    is_told: bool


def read_removed(database: Database) -> dict[Partition, Removed]:
    """Every month of a table that lost its rows, and did not get others since."""
    rows = database.rows(
        "removed_months",
        "SELECT table_name, month, removed_at, digest, n_rows, told_at IS NOT NULL FROM removed_months "
        "ORDER BY month, table_name",
    )
    return {(table, month): Removed(*rest) for table, month, *rest in rows}


def removed_in_words(removed: Mapping[Partition, Removed]) -> str:
    """The months without rows, as a part of a sentence; empty where there are none."""
    months = {month for _, month in removed}
    return f"rows of people of {in_words(months)} were removed because of their age" if months else ""


def mark_removed(connection: psycopg.Connection[Any], table: str, month: str, digest: str, n_rows: int) -> None:
    """Notes that a month's rows are gone; in the transaction that removes them."""
    connection.execute(
        "INSERT INTO public.removed_months (table_name, month, digest, n_rows) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (table_name, month) DO NOTHING",
        [table, month, digest, n_rows],
    )


def mark_there(connection: psycopg.Connection[Any], table: str, month: str) -> None:
    """Forgets that a month's rows were gone; in the transaction that brings rows."""
    connection.execute("DELETE FROM public.removed_months WHERE table_name = %s AND month = %s", [table, month])


def mark_told(database: Database, partitions: list[Partition]) -> None:
    """Notes that Dagster has been told of these."""
    with database.session() as connection:
        connection.cursor().executemany(
            "UPDATE public.removed_months SET told_at = now() WHERE table_name = %s AND month = %s", partitions
        )
