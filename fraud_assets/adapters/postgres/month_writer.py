"""One month into Postgres, in one transaction: built beside the old month, compared with it, swapped in.

The rows go through in batches, as binary COPY. A process that dies at any step leaves the old month: until the
commit, nothing that it did can be seen. Which months are replaced with what belongs to `table_io`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pgpq
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from fraud_assets.adapters.postgres.leases import check_lease
from fraud_assets.adapters.postgres.turns import take_locks
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.digests import TableDigest, digest_table
from fraud_assets.core.lineage.staleness import Inputs
from fraud_assets.core.lineage.tables.table import Table
from fraud_assets.core.months import month_end, month_start, shift_month

# Small enough that the server has work while the next block is encoded.
BLOCK_ROWS = 8_192
# Of a row in PostgreSQL while it computes.
JOINED_COLUMNS = 1_664


class TableError(ValueError):
    """Rows that do not fit the table or the months they were written for."""


@dataclass(frozen=True)
class MonthWrite:
    """What writing one month did.

    Attributes:
        month: the month.
        digest: SHA-256 of its rows.
        n_rows: how many there are.
        changed: whether the rows are others than those that were there.
        added, removed, altered: rows by the table's key, against the version before; None when there was none.
    """

    month: str
    digest: str
    n_rows: int
    changed: bool
    added: int | None = None
    removed: int | None = None
    altered: int | None = None


def month_bounds(table: Table, contract: Contract, month: str) -> tuple[Any, Any]:
    """First value of the month column in the month, and the first after it: times, or dates where it holds dates."""
    # A date there stands for the month itself and is its first day wherever one is; only moments have a zone.
    if pa.types.is_date(table.schema.field(table.month_column).type):
        return month_start(month).date(), month_end(month).date()
    return contract.month_start(month), contract.month_end(month)


def partition_name(table: Table, month: str) -> str:
    """The month's table in schema `months`."""
    return f"{table.name}_{month.replace('-', '_')}"


# Its steps stand together: readers and other runs are safe because of the order they are in.
def write_month(
    connection: psycopg.Connection[Any],
    table: Table,
    month: str,
    bounds: tuple[Any, Any],
    rows: pa.Table | Iterator[pa.Table],
    *,
    is_intact: Callable[[str], bool],
    inputs: Inputs | None,
    run_id: str | None,
) -> MonthWrite:
    """Replaces one month, unless its rows are those that are there.

    Args:
        connection: in a transaction, which the caller commits.
        table: the table; its parent exists.
        month: the month.
        bounds: as `month_bounds`.
        rows: the month's rows, as `conform` and `checked` leave them. Of a table the digest is taken beforehand, so
            that an unchanged month is not copied; of batches while they pass.
        is_intact: whether the stored rows have this digest; asked when it is the one that was recorded for them.
        inputs: what the rows were made of. When only these differ, they are recorded and the rows stay.
        run_id: the run to record; it must still have the month's lease.

    Raises:
        TableError: for rows that the table cannot hold.
        LeaseError: when the run was declared failed, or lost the month to another one.
    """
    # Writers of a table take turns, also of different months: each has the parent open when it detaches from it, and
    # two would wait for each other. Readers are not held up by this.
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"months.{table.name}"])
    before = connection.execute(
        "SELECT digest, n_rows, inputs FROM month_versions WHERE table_name = %s AND month = %s "
        "ORDER BY id DESC LIMIT 1",
        [table.name, month],
    ).fetchone()
    known, n_rows, known_inputs = before or (None, 0, None)
    digest = digest_table(rows, ignore=table.volatile) if isinstance(rows, pa.Table) else None
    build = sql.Identifier("months", partition_name(table, month) + "_new")
    # What was recorded need not be what is there: someone may have deleted or altered rows.
    changed = digest is None or digest != known or not is_intact(digest)
    if digest is None or changed:
        _create(connection, table, build, bounds)
        n_rows, passed = _copy(connection, table, build, rows)
        if digest is None and passed == known and is_intact(passed):
            changed = False
            connection.execute(sql.SQL("DROP TABLE {}").format(build))
        digest = digest or passed
    if not changed and (inputs is None or inputs == known_inputs):
        # A run that was given up must not count as done because another one has stored the same.
        check_lease(connection, run_id, month)
        return MonthWrite(month, digest, n_rows, changed, 0, 0, 0)
    counts = _swap(connection, table, month, bounds, build) if changed else (0, 0, 0)
    # Last, so that nobody waits for the lease while rows are copied and readers are waited for.
    check_lease(connection, run_id, month)
    connection.execute(
        "INSERT INTO month_versions (table_name, month, digest, n_rows, run_id, inputs, added, removed, altered) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            *(table.name, month, digest, n_rows, run_id, None if inputs is None else json.dumps(inputs)),
            *(counts or (None, None, None)),
        ],
    )
    return MonthWrite(month, digest, n_rows, changed, *(counts or ()))


def _create(connection: psycopg.Connection[Any], table: Table, build: sql.Identifier, bounds: tuple[Any, Any]) -> None:
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(build))
    column = sql.Identifier(table.month_column)
    # The bounds as a constraint spare the scan when the month is attached.
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS, "
            "CONSTRAINT bounds CHECK ({} IS NOT NULL AND {} >= {} AND {} < {}))"
        ).format(
            build,
            sql.Identifier("public", table.name),
            column,
            *(column, sql.Literal(bounds[0]), column, sql.Literal(bounds[1])),
        )
    )


def _copy(
    connection: psycopg.Connection[Any], table: Table, build: sql.Identifier, rows: pa.Table | Iterator[pa.Table]
) -> tuple[int, str]:
    """Copies the rows.

    Returns:
        How many passed, and of batches their digest.

    Raises:
        TableError: for a value that Postgres cannot hold, such as text with a zero character.
    """
    digest, n_rows = TableDigest(table.schema, ignore=table.volatile), 0
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(build, _listed(table.schema.names))
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(encoder.write_header())
            for part in [rows] if isinstance(rows, pa.Table) else rows:
                if part is not rows:
                    digest.update(part)
                n_rows += part.num_rows
                for batch in part.to_batches(max_chunksize=BLOCK_ROWS):
                    copy.write(encoder.write_batch(batch))
            copy.write(encoder.finish())
    except psycopg.DataError as error:
        said = " ".join(filter(None, (error.diag.message_primary, error.diag.context)))
        raise TableError(f"{table.name} cannot hold a value, correct it in the source: {said}") from error
    return n_rows, digest.hexdigest()


def _swap(
    connection: psycopg.Connection[Any], table: Table, month: str, bounds: tuple[Any, Any], build: sql.Identifier
) -> tuple[int, int, int] | None:
    """Puts the built month into the place of the old one, with its indexes.

    Returns:
        Rows added, removed and altered, or None when there was no old one.
    """
    parent, home = sql.Identifier("public", table.name), sql.Identifier("months", partition_name(table, month))
    # What is looked up in a month is looked up in the next, and in the month that replaces it.
    wanted = _indexes(connection, table, month) | _indexes(connection, table, shift_month(month, -1))
    _build_indexes(connection, table, build, wanted)
    counts = None
    if _is_there(connection, table, month):
        counts = _count_changes(connection, table, home, build)
        # Last, when all that takes long is done: readers wait from here to the commit.
        take_locks(connection, parent, home)
        connection.execute(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, home))
        connection.execute(sql.SQL("DROP TABLE {}").format(home))
    connection.execute(
        sql.SQL("ALTER TABLE {} RENAME TO {}").format(build, sql.Identifier(partition_name(table, month)))
    )
    try:
        connection.execute(
            sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                parent, home, *map(sql.Literal, bounds)
            )
        )
    except psycopg.errors.InvalidObjectDefinition as error:
        raise TableError(
            f"{month} of {table.name} overlaps a month that is stored: the contract's time zone was another when that "
            f"was written; use another FRAUD_HOME or database for the new zone ({str(error).splitlines()[0]})"
        ) from error
    connection.execute(sql.SQL("ALTER TABLE {} DROP CONSTRAINT bounds").format(home))
    return counts


def _count_changes(
    connection: psycopg.Connection[Any], table: Table, old: sql.Identifier, new: sql.Identifier
) -> tuple[int, int, int]:
    """Rows added, removed and altered between two versions of a month.

    A row is found again by the table's key. Where there is none, by the columns of the order taken together, as text
    because a missing value equals no other; rows that share these are numbered.
    """
    key: Sequence[str] = table.key
    rest = [name for name in table.schema.names if name not in (*(key or table.order), *table.volatile)]
    versions: dict[str, sql.Composable] = {"o": old, "n": new}
    if not key:
        key = ("named", "occurrence")
        numbered = sql.SQL(
            "(SELECT *, row_number() OVER (PARTITION BY named) AS occurrence "
            "FROM (SELECT *, ROW({})::text AS named FROM {}) AS version)"
        )
        versions = {side: numbered.format(_listed(table.order), version) for side, version in versions.items()}
    contents: dict[str, sql.Composable] = {side: sql.SQL("ROW({})").format(_listed(rest, side)) for side in versions}
    if 2 * len(table.schema) > JOINED_COLUMNS:
        # Two wide versions side by side have more columns than a row may have; as one value each they have not.
        whole = sql.SQL("(SELECT {}, ROW({}) AS content FROM {} AS version)")
        versions = {side: whole.format(_listed(key), _listed(rest), version) for side, version in versions.items()}
        contents = {side: sql.Identifier(side, "content") for side in versions}
    statement = sql.SQL(
        "SELECT count(*) FILTER (WHERE o.{0} IS NULL), count(*) FILTER (WHERE n.{0} IS NULL), "
        "count(*) FILTER (WHERE o.{0} IS NOT NULL AND n.{0} IS NOT NULL AND {1} IS DISTINCT FROM {2}) "
        "FROM {3} AS o FULL JOIN {4} AS n USING ({5})"
    ).format(sql.Identifier(key[0]), contents["o"], contents["n"], versions["o"], versions["n"], _listed(key))
    ((added, removed, altered),) = connection.execute(statement).fetchall()
    return added, removed, altered


def _listed(columns: Iterable[str], relation: str | None = None) -> sql.Composed:
    """Column names for SQL, with their relation's name where it is given."""
    return sql.SQL(", ").join(sql.Identifier(*([relation] if relation else []), name) for name in columns)


def index_month(connection: psycopg.Connection[Any], table: Table, month: str) -> None:
    """Builds the declared indexes of a stored month that it lacks; a month that is not stored has none to build."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"months.{table.name}"])
    if _is_there(connection, table, month):
        wanted = set(table.indexes) - _indexes(connection, table, month)
        _build_indexes(connection, table, sql.Identifier("months", partition_name(table, month)), wanted)


def _is_there(connection: psycopg.Connection[Any], table: Table, month: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", [f"months.{partition_name(table, month)}"]).fetchone()
    return row is not None and row[0] is not None


def _indexes(connection: psycopg.Connection[Any], table: Table, month: str) -> set[tuple[str, ...]]:
    """The column lists by which a month is indexed."""
    rows = connection.execute(
        "SELECT array_agg(a.attname::text ORDER BY k.position) FROM pg_index i "
        "CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, position) "
        "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
        "WHERE i.indrelid = to_regclass(%s) GROUP BY i.indexrelid",
        [f"months.{partition_name(table, month)}"],
    )
    return {tuple(columns) for (columns,) in rows}


def _build_indexes(
    connection: psycopg.Connection[Any], table: Table, relation: sql.Identifier, wanted: set[tuple[str, ...]]
) -> None:
    for columns in table.indexes:
        if columns in wanted:
            connection.execute(sql.SQL("CREATE INDEX ON {} ({})").format(relation, _listed(columns)))


def conform(rows: pa.Table, table: Table) -> pa.Table:
    """The declared columns in the declared order and types.

    Raises:
        TableError: when one is missing or a value does not fit.
    """
    if missing := [name for name in table.schema.names if name not in rows.column_names]:
        raise TableError(f"rows for {table.name} lack the columns {missing}")
    try:
        return rows.select(table.schema.names).cast(table.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise TableError(f"rows for {table.name} do not fit its columns: {error}") from error


def checked(batches: pa.RecordBatchReader, table: Table, month: str, bounds: tuple[Any, Any]) -> Iterator[pa.Table]:
    """The batches of a month as `conform` leaves them, made sure to lie in the month and to come in order.

    Raises:
        TableError: at the first batch that does not; nothing of the month is written then.
    """
    last: pa.Table | None = None
    for batch in batches:
        rows = conform(pa.Table.from_batches([batch]), table)
        if rows.num_rows == 0:
            continue
        if outside := rows.num_rows - rows.filter(inside(rows, table, bounds)).num_rows:
            raise TableError(f"{outside} rows for {table.name} lie outside the months ['{month}']")
        keys = rows.select(table.order)
        if not table.in_order(keys if last is None else pa.concat_tables([last, keys])):
            raise TableError(
                f"the rows streamed for {table.name} {month} do not come in the order of {', '.join(table.order)}; "
                "sort the stream, or pass the month as a table"
            )
        last = keys.slice(keys.num_rows - 1)
        yield rows


def inside(rows: pa.Table, table: Table, bounds: tuple[Any, Any]) -> pa.ChunkedArray:
    """Of each row, whether it lies within the bounds."""
    column = rows[table.month_column]
    first, end = (pa.scalar(bound, column.type) for bound in bounds)
    return pc.and_(pc.greater_equal(column, first), pc.less(column, end))
