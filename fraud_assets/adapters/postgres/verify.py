"""Whether the rows of a stored month are those that were written: by their number, and by their digest.

Rows that someone deletes or alters with SQL leave the digest that was recorded when they were written as it is, and
with it everything that follows from digests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pyarrow as pa
from psycopg import sql

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.digests import TableDigest
from fraud_assets.core.lineage.tables.table import Table

# Oldest first: a column that was added later comes later.
COLUMNS = (
    "SELECT attname::text AS name FROM pg_attribute "
    "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
)
# A month is written and digested in one order, and lies in it as long as nobody touches it.
IN_STORED_ORDER = ("SET LOCAL synchronize_seqscans = off", "SET LOCAL max_parallel_workers_per_gather = 0")


def is_as_written(database: Database, table: Table, partition: str, digest: str) -> bool:
    """Whether the rows of a month have the digest that was recorded for them.

    Reads the month once, in batches; again, without columns that are empty, where the contract has others by now than
    when it was written.

    Args:
        database: has it.
        table: the table.
        partition: the month's own table in schema `months`.
        digest: what was recorded.
    """
    with database.bulk() as connection, connection.cursor() as cursor:
        cursor.execute(COLUMNS, [f"months.{partition}"])
        stored = [name for name in cursor.fetch_arrow_table()["name"].to_pylist() if name not in table.volatile]
        if not stored:
            return False
        for setting in IN_STORED_ORDER:
            cursor.execute(setting)
        declared = [name for name in stored if name in table.schema.names]
        found, empty = _digest(cursor, table, partition, declared, stored)
        # A migration may have left rows elsewhere than in their order.
        if digest == found or digest == _digest(cursor, table, partition, declared, declared, in_order=True)[0]:
            return True
        return any(
            _digest(cursor, table, partition, names, names)[0] == digest for names in _earlier(declared, stored, empty)
        )


def _digest(
    cursor: Any, table: Table, partition: str, digested: Sequence[str], read: Sequence[str], *, in_order: bool = False
) -> tuple[str, set[str]]:
    """The digest over columns of a month, as they lie or in the table's order, and those read that are empty."""
    statement = sql.SQL("SELECT {} FROM {}{}").format(
        sql.SQL(", ").join(map(sql.Identifier, read)),
        sql.Identifier("months", partition),
        sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(ordered(table))) if in_order else sql.SQL(""),
    )
    cursor.execute(statement.as_string())
    batches = cursor.fetch_record_batch()
    types = {field.name: field.type for field in table.schema}
    schema = pa.schema([(name, types.get(name) or batches.schema.field(name).type) for name in digested])
    total, missing, n_rows = TableDigest(schema), Counter[str](), 0
    for batch in batches:
        total.update(batch.select(digested))
        n_rows += batch.num_rows
        missing.update({name: batch.column(name).null_count for name in read})
    return total.hexdigest(), {name for name in read if missing[name] == n_rows}


def _earlier(declared: list[str], stored: list[str], empty: Collection[str]) -> Iterator[list[str]]:
    """The columns that the month may have had when it was written: those added since are empty in it."""
    seen = [declared]
    for names in (declared, stored):
        for end in range(len(names), 0, -1):
            if names[:end] not in seen:
                seen.append(names[:end])
                yield names[:end]
            if names[end - 1] not in empty:
                break


def ordered(table: Table) -> list[sql.Composable]:
    """The columns to order by; text by its bytes, as Arrow does, whatever the language of the server."""
    return [
        sql.SQL('{} COLLATE "C"' if pa.types.is_string(table.schema.field(column).type) else "{}").format(
            sql.Identifier(column)
        )
        for column in table.order
    ]
