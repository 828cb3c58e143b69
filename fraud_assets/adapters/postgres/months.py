"""Months of tables in and out of Postgres: replaced whole in one transaction, read by month and column.

A month is a native range partition; how one is built and swapped in belongs to `month_writer`. What a table's columns
mean belongs to `core/lineage/tables`, and what makes a stored month stale to `core/lineage/staleness.py`.

Tables of months are created here, when a month is written, and not by the migrations of `schema.py`: their columns
follow the contract, which a user changes without a new version of the platform. What a contract adds is added, and
what it leaves out stays for the months that have it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, cast

import dagster as dg
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from fraud_assets.adapters.people.book import read_erased, renamed_rows
from fraud_assets.adapters.people.removed import IS_THERE, Removed, mark_removed, mark_there, read_removed
from fraud_assets.adapters.postgres.database import Database, open_database
from fraud_assets.adapters.postgres.month_writer import (
    MonthWrite,
    TableError,
    checked,
    conform,
    index_month,
    inside,
    month_bounds,
    partition_name,
    write_month,
)
from fraud_assets.adapters.postgres.recent_months import RECENT_MONTHS, may_keep
from fraud_assets.adapters.postgres.turns import take_locks
from fraud_assets.adapters.postgres.verify import is_as_written, ordered
from fraud_assets.adapters.retries import retrying
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.digests import digest_text
from fraud_assets.core.lineage.expiry import VARIABLE, first_kept, refuse_old
from fraud_assets.core.lineage.needs import MonthRows, Needed, fewest
from fraud_assets.core.lineage.staleness import INPUTS_KEY, Inputs, Partition, inputs_of
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.lineage.tables.table import Table
from fraud_assets.core.months import MONTH_PATTERN, months_between
from fraud_assets.settings import Settings

Rows: TypeAlias = pa.Table | Mapping[str, pa.Table | pa.RecordBatchReader]

POSTGRES_TYPES = {
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.float32(): "real",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}


class MonthStore:
    """Reads and replaces the months of a database's tables."""

    def __init__(self, database: Database, contract: Contract, retention_months: int | None = None) -> None:
        """Binds the tables of `contract` to `database`.

        Args:
            database: holds the tables.
            contract: declares them.
            retention_months: how long rows of people stay; for ever when absent.
        """
        self.database = database
        self.contract = contract
        self.retention_months = retention_months

    @property
    def kept_from(self) -> str | None:
        """The first month whose rows of people may stay, as of now; None where all may."""
        return first_kept(self.contract, self.retention_months, datetime.now(UTC))

    def table(self, name: str) -> Table:
        """The declaration of a table.

        Raises:
            KeyError: for a name that is no table.
        """
        return TABLES[name](self.contract)

    # Writing

    def replace_months(
        self,
        name: str,
        data: Rows,
        months: Sequence[str],
        *,
        inputs: Inputs | Mapping[str, Inputs] | None = None,
        run_id: str | None = None,
    ) -> list[MonthWrite]:
        """Replaces each of `months` with its rows, in this order, each month in one transaction.

        A month whose rows are those already there is left as it is. Persons who were erased are renamed, whoever
        delivers them.

        Args:
            name: the table.
            data: a table with the rows of these months and no others, columns as declared, in any order. Or the rows
                by month: each month is asked for when it is its turn, and may be a stream, whose batches come in the
                table's order; memory is then in proportion to a batch.
            months: the months to replace; one without rows becomes an empty month.
            inputs: what the rows were made of, or that by month (`{"2018-04": {"raw_transactions": {...}}}`).
            run_id: the run to record.

        Raises:
            TableError: when a column is missing, a value does not fit its type, a row lies outside its month, or a
                stream is not in order. Months before the one at fault have been replaced.
            ErasureError: when persons were erased, and the key to recognise them is not there.
            RetentionError: for a month whose rows are older than they may be; nothing is written then.
        """
        table = self.table(name)
        refuse_old(self.kept_from, months, [name])
        erased = read_erased(self.database)
        bounds = {month: month_bounds(table, self.contract, month) for month in months}
        given = _split(data, table, bounds) if isinstance(data, pa.Table) else data
        writes = []
        with self.database.session() as connection:
            _ensure(connection, table)
            for month in months:
                rows = given[month]
                if not isinstance(rows, pa.Table):
                    rows = (
                        renamed_rows(erased, part, table, self.contract)
                        for part in checked(rows, table, month, bounds[month])
                    )
                elif given is data:
                    rows = _split(rows, table, {month: bounds[month]})[month]
                if isinstance(rows, pa.Table):
                    rows = renamed_rows(erased, rows, table, self.contract)
                own = _own_inputs(inputs, month)
                write = write_month(
                    connection, table, month, bounds[month], rows, is_intact=partial(self._is_intact, table, month),
                    inputs=own, run_id=run_id,
                )  # fmt: skip
                writes.append(write)
                mark_there(connection, name, month)
                connection.commit()
                if isinstance(rows, pa.Table) and may_keep(table, rows.column_names):
                    RECENT_MONTHS.keep(table, write.digest, _nullable(rows))
        return writes

    def remove_month(self, name: str, month: str) -> int:
        """Removes the rows of a stored month, in one transaction; what it was called and counted stays known.

        Returns:
            How many rows there were; 0 of a month that is not there.
        """
        if (called := self.months(name).get(month)) is None:
            return 0
        table, nothing = self.table(name), self.table(name).schema.empty_table()
        with self.database.session() as connection:
            _ensure(connection, table)
            write = write_month(
                connection, table, month, month_bounds(table, self.contract, month), nothing,
                is_intact=lambda _: True, inputs=None, run_id=None,
            )  # fmt: skip
            n_rows = write.removed or 0
            mark_removed(connection, name, month, called, n_rows)
        return n_rows

    def removed(self) -> dict[Partition, Removed]:
        """The months of tables whose rows went because of their age."""
        return read_removed(self.database)

    def _is_intact(self, table: Table, month: str, digest: str) -> bool:
        return is_as_written(self.database, table, partition_name(table, month), digest)

    def count(self, name: str, month: str) -> int:
        """How many rows of a stored month are there, whatever was recorded."""
        partition = sql.Identifier("months", partition_name(self.table(name), month))
        with self.database.session() as connection:
            there = connection.execute("SELECT to_regclass(%s) IS NULL", [partition.as_string()]).fetchone()
            if there is None or there[0]:
                return 0
            found = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(partition)).fetchone()
        return int(found[0]) if found else 0

    def damages(self, name: str, *, by_value: bool) -> dict[str, str]:
        """The stored months of a table whose rows are not those that were written, each with what is wrong.

        Args:
            name: the table.
            by_value: compare every value, for which each month is read; otherwise the number of rows alone.
        """
        wrong = {}
        recorded = {row["month"]: row for row in self.versions(name).to_pylist()}
        for month, row in recorded.items():
            if (n_rows := self.count(name, month)) != row["n_rows"]:
                wrong[month] = f"{n_rows:,} rows are there, and {row['n_rows']:,} were written"
            elif by_value and not self._is_intact(self.table(name), month, row["digest"]):
                wrong[month] = f"all {n_rows:,} rows are there, but not with the values that were written"
        return wrong

    def index_months(self, name: str, months: Sequence[str]) -> None:
        """Builds the table's indexes for those of `months` that are stored and lack them, one month at a time.

        From then on the month after an indexed one, and one that replaces it, are indexed when they are written:
        serving looks up what happened lately.
        """
        with self.database.session() as connection:
            for month in months:
                index_month(connection, self.table(name), month)
                connection.commit()

    # Reading

    def read(
        self,
        name: str,
        columns: Sequence[str] | None = None,
        *,
        first_month: str | None = None,
        last_month: str | None = None,
    ) -> pa.Table:
        """Reads the chosen columns of a range of months, in the table's order.

        Args:
            name: the table.
            columns: the columns to read; all declared ones when absent.
            first_month: the first month, or None for the contract's first.
            last_month: the last month, included, or None for no end.

        Returns:
            The rows; empty, with the declared columns, when there are none or the table does not exist yet. The
            schema's metadata names the digest of each month read (`core/lineage/staleness.py`).

        Raises:
            TableError: when a table with many rows a month is asked for without any month, or when not as many rows are
                there as were written: what is made of the rest would look like any other.
        """
        table = self.table(name)
        if table.by_range_only and first_month is None and last_month is None:
            raise TableError(f"reading all of {name} takes every month there is: name first_month or last_month")
        wanted = list(columns) if columns is not None else table.schema.names
        schema = pa.schema([table.schema.field(column) for column in wanted])
        first = first_month or self.contract.first_month
        written, rows = self._read(table, wanted, first, last_month)
        digests = {month: digest for month, (digest, _, _) in written.items()}
        expected = sum(n_rows for month, (_, n_rows, _) in written.items() if first <= month <= (last_month or month))
        if rows.num_rows != expected:
            self._refuse_damages(name, first, last_month)
        # Months from before a column was declared do not have it.
        older = [field.with_nullable(field.nullable or rows[field.name].null_count > 0) for field in schema]
        named = self._months_of_contract(first_month, last_month or max(digests, default=None))
        return _with_inputs(rows.cast(pa.schema(older)), {name: {month: digests.get(month) for month in named}})

    def _refuse_damages(self, name: str, first: str, last: str | None) -> None:
        """Raises where a month of a range that was recorded has more or fewer rows than were written."""
        damages = self.damages(name, by_value=False)
        if said := [f"{month}: {what}" for month, what in damages.items() if first <= month <= (last or month)]:
            raise TableError(
                f"rows of {name} were deleted or added outside of the platform ({'; '.join(said)}); run these months "
                "again, which stores what is missing"
            )

    def load(self, needs: Iterable[Needed]) -> MonthRows:
        """Reads what is needed, each month once: see `fewest`."""
        return MonthRows(
            {
                need: self.read(need.table, need.columns, first_month=need.first, last_month=need.last)
                for need in fewest(needs, self.contract)
            },
            self.contract,
        )

    def head(self, name: str, month: str, n: int = 5) -> pa.Table:
        """The first rows of a stored month."""
        table = self.table(name)
        statement = sql.SQL("SELECT {} FROM {} LIMIT {}").format(
            sql.SQL(", ").join(map(sql.Identifier, table.schema.names)),
            sql.Identifier("months", partition_name(table, month)),
            sql.Literal(n),
        )
        return self.database.query(statement.as_string())

    def _read(
        self, table: Table, columns: list[str], first_month: str, last_month: str | None
    ) -> tuple[dict[str, tuple[str, int, str]], pa.Table]:
        """Name, number of rows and digest of the table's months and the rows of a range, all as of one moment."""
        nothing = _nullable(pa.schema([table.schema.field(column) for column in columns]).empty_table())
        with self.database.bulk() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass($1) IS NULL", [f"public.{table.name}"])
            if cursor.fetchone()[0]:
                return {}, nothing
            connection.commit()
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # Before the first query, which fixes the moment: a month that is swapped between the two would be seen
            # as the new partition without its rows.
            source = sql.Identifier("public", table.name)
            cursor.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(source).as_string())
            cursor.execute(DIGESTS, [table.name])
            written = {
                row["month"]: (row["name"], row["n_rows"], row["digest"])
                for row in cursor.fetch_arrow_table().to_pylist()
            }
            cursor.execute(COLUMNS, [f"public.{table.name}"])
            there = set(cursor.fetch_arrow_table()["attname"].to_pylist())

            def stored(first: str, last: str | None) -> pa.Table:
                cursor.execute(self._selection(table, columns, there, first, last).as_string())
                rows = cursor.fetch_arrow_table().cast(nothing.schema)
                if set(table.order) <= set(columns) and not table.in_order(rows):
                    rows = rows.sort_by([(column, "ascending") for column in table.order])
                return rows

            if not may_keep(table, columns):
                return written, stored(first_month, last_month)
            parts: dict[str, pa.Table] = {}
            missing = []
            for month in [month for month in sorted(written) if first_month <= month <= (last_month or month)]:
                known = RECENT_MONTHS.get(table, written[month][2], columns)
                if known is None:
                    missing.append(month)
                parts[month] = nothing if known is None else known.cast(nothing.schema)
            rows = stored(missing[0], missing[-1]) if missing else nothing
        for month in missing:
            parts[month] = rows.filter(inside(rows, table, month_bounds(table, self.contract, month)))
            _, n_rows, digest = written[month]
            if parts[month].num_rows == n_rows:
                RECENT_MONTHS.keep(table, digest, parts[month])
        return written, pa.concat_tables([nothing, *parts.values()])

    def _selection(
        self, table: Table, columns: list[str], there: Collection[str], first_month: str, last_month: str | None
    ) -> sql.Composed:
        """The statement that reads the chosen columns of a range; `there` are the columns that are stored."""
        column = sql.Identifier(table.month_column)
        first = month_bounds(table, self.contract, first_month)[0]
        conditions = [sql.SQL("{} >= {}").format(column, sql.Literal(first))]
        if last_month is not None:
            end = month_bounds(table, self.contract, last_month)[1]
            conditions.append(sql.SQL("{} < {}").format(column, sql.Literal(end)))
        order: sql.Composable = sql.SQL("")
        if not set(table.order) <= set(columns):
            # Rows are stored in order, so that sorting is left out where it can be seen whether they came in order.
            order = sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(ordered(table)))
        return sql.SQL("SELECT {} FROM {} WHERE {}{}").format(
            sql.SQL(", ").join(_column(table, name, there) for name in columns),
            sql.Identifier("public", table.name),
            sql.SQL(" AND ").join(conditions),
            order,
        )

    def _months_of_contract(self, first: str | None, last: str | None) -> list[str]:
        """The months of a range that the contract can have; none when there is no last."""
        if last is None:
            return []
        return months_between(
            max(first or self.contract.first_month, self.contract.first_month),
            min(last, self.contract.last_month or last),
        )

    def require(self, name: str, month: str) -> None:
        """Passes when a month of a table is there.

        Raises:
            TableError: when it is not; what is built on it would be built on older months without saying so.
        """
        if month in self.months(name):
            return
        if (gone := self.removed().get((name, month))) is not None:
            raise TableError(
                f"the rows of {name} {month} were removed on {gone.removed_at:%Y-%m-%d} because of their age "
                f"({VARIABLE}); what was made of them stays as it is"
            )
        raise TableError(f"{name} has no {month} yet: materialise it first")

    def first_event(self) -> datetime | None:
        """The time of the first transaction there is."""
        stored = {row["month"]: row["n_rows"] for row in self.versions("raw_transactions").to_pylist()}
        month = min((month for month, n_rows in stored.items() if n_rows), default=None)
        if month is None:
            return None
        # Of one month: without an index on the time, the first of all would be looked for in every month.
        first = self.database.query(
            "SELECT min(event_timestamp) FROM raw_transactions WHERE event_timestamp < $1::timestamptz",
            [self.contract.month_end(month).isoformat()],
        )
        return cast("datetime", first[0][0].as_py())

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        with self.database.session() as connection:
            row = connection.execute("SELECT to_regclass(%s)", [f"public.{name}"]).fetchone()
        return row is not None and row[0] is not None

    def months(self, name: str) -> dict[str, str]:
        """The months that are stored, in order, each with the digest that is its name now (`people/book.py`).

        One whose rows went because of their age is not among them.
        """
        if not self.exists("month_versions"):
            return {}
        rows = self.database.query(DIGESTS, [name])
        return dict(zip(rows["month"].to_pylist(), rows["name"].to_pylist(), strict=True))

    def current(self, *, as_stored: bool = False) -> dict[tuple[str, str], tuple[str, Inputs | None]]:
        """Of every stored month, by table and month: its digest and what it was made of (None where not recorded).

        Args:
            as_stored: the digest of the rows as they are, instead of the one that is the month's name; and also months
                whose rows went because of their age.
        """
        rows = self.database.rows(
            "month_versions",
            f"SELECT DISTINCT ON (table_name, month) table_name, month, {'digest' if as_stored else NAME}, inputs "
            f"FROM month_versions {NAMED} WHERE {'true' if as_stored else IS_THERE} "
            "ORDER BY table_name, month, id DESC",
        )
        return {(name, month): (digest, inputs) for name, month, digest, inputs in rows}

    def versions(self, name: str, month: str | None = None) -> pa.Table:
        """All versions of a table's months, oldest first, or those of one month.

        Returns:
            Columns id, month, digest, n_rows, written_at, run_id, inputs (JSON), added, removed, altered. Two versions
            that follow each other with one digest are the same rows, made of other inputs.
        """
        if not self.exists("month_versions"):
            return VERSIONS.empty_table()
        return self.database.query(
            "SELECT id, month, digest, n_rows, written_at, run_id, inputs::text AS inputs, added, removed, altered "
            "FROM month_versions WHERE table_name = $1 AND ($2::text IS NULL OR month = $2::text) ORDER BY id",
            [name, month],
        )


# Of what `MonthStore.versions` returns.
VERSIONS = pa.schema(
    [
        *[("id", pa.int64()), ("month", pa.string()), ("digest", pa.string()), ("n_rows", pa.int64())],
        *[("written_at", pa.timestamp("us", tz="UTC")), ("run_id", pa.string()), ("inputs", pa.string())],
        *[(name, pa.int64()) for name in ("added", "removed", "altered")],
    ]
)
COLUMNS = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
# A month that was rewritten for the sake of people keeps the name that it had.
NAME = "coalesce(was, digest)"
NAMED = (
    "LEFT JOIN (SELECT table_name, month, is_now AS digest, was FROM erased_digests) AS renamed "
    "USING (table_name, month, digest)"
)
DIGESTS = (
    f"SELECT DISTINCT ON (month) month, digest, {NAME} AS name, n_rows FROM month_versions {NAMED} "
    f"WHERE table_name = $1 AND {IS_THERE} ORDER BY month, id DESC"
)


def _ensure(connection: psycopg.Connection[Any], table: Table) -> None:
    """Brings a table of months to what its contract declares, and commits.

    Raises:
        TableError: when a stored column has another type.
    """
    if _amendments(connection, table):
        # Looked at again under the lock: another process may have been first. Not before, because what is there
        # already needs no turn, and because adding a column that is there waits for readers and holds up others.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.tables'))")
        if statements := _amendments(connection, table):
            parent = sql.Identifier("public", table.name)
            if connection.execute("SELECT to_regclass(%s)", [f"public.{table.name}"]).fetchone() != (None,):
                take_locks(connection, parent, with_partitions=True)
            for statement in statements:
                connection.execute(statement)
    connection.commit()


def _amendments(connection: psycopg.Connection[Any], table: Table) -> list[sql.Composed]:
    """The statements that the table lacks to be as declared."""
    columns = "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute "
    columns += "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
    there = {name: (kind, not_null) for name, kind, not_null in connection.execute(columns, [f"public.{table.name}"])}
    parent = sql.Identifier("public", table.name)
    declared = {
        field.name: sql.SQL("{} {}").format(sql.Identifier(field.name), sql.SQL(POSTGRES_TYPES[field.type]))
        for field in table.schema
    }
    if not there:
        listed = [
            column if table.schema.field(name).nullable else column + sql.SQL(" NOT NULL")
            for name, column in declared.items()
        ]
        month_column = sql.Identifier(table.month_column)
        create = sql.SQL("CREATE TABLE {} ({}) PARTITION BY RANGE ({})")
        return [create.format(parent, sql.SQL(", ").join(listed), month_column)]
    statements = []
    for name, column in declared.items():
        if name not in there:
            # Months from before do not have it.
            statements.append(sql.SQL("ALTER TABLE {} ADD COLUMN {}").format(parent, column))
            continue
        wanted = POSTGRES_TYPES[table.schema.field(name).type]
        if there[name][0] not in (wanted, "timestamp with time zone" if wanted == "timestamptz" else wanted):
            raise TableError(
                f"column {name!r} of {table.name} is {there[name][0]} in the database and {wanted} in the contract; "
                "a stored column keeps its type: give the attribute another name, or use another home"
            )
    for name, (_, not_null) in there.items():
        # A column that may be empty from now on, or that is declared no longer and will be.
        if not_null and (name not in declared or table.schema.field(name).nullable):
            drop = sql.SQL("ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL")
            statements.append(drop.format(parent, sql.Identifier(name)))
    return statements


def _column(table: Table, name: str, there: Collection[str]) -> sql.Composable:
    """A column as it is stored; empty where the database is from before it was declared, and was not written since."""
    if name in there or not table.schema.field(name).nullable:
        return sql.Identifier(name)
    kind = sql.SQL(POSTGRES_TYPES[table.schema.field(name).type])
    return sql.SQL("NULL::{} AS {}").format(kind, sql.Identifier(name))


def _nullable(rows: pa.Table) -> pa.Table:
    """The rows under a schema that allows no value in any column, as months from before a column have it."""
    return rows.cast(pa.schema([field.with_nullable(True) for field in rows.schema]))


def _with_inputs(rows: pa.Table, inputs: Inputs) -> pa.Table:
    return rows.replace_schema_metadata({INPUTS_KEY: json.dumps(inputs)})


def _own_inputs(inputs: Inputs | Mapping[str, Inputs] | None, month: str) -> Inputs | None:
    """A month's inputs, whether they were given for all months or by month."""
    if inputs and all(MONTH_PATTERN.fullmatch(name) for name in inputs):
        return cast("Mapping[str, Inputs]", inputs)[month]
    return cast("Inputs | None", inputs)


def _split(rows: pa.Table, table: Table, bounds: Mapping[str, tuple[Any, Any]]) -> dict[str, pa.Table]:
    """The rows of each month, in the table's order."""
    rows = conform(rows, table)
    if not table.in_order(rows):
        rows = rows.sort_by([(column, "ascending") for column in table.order])
    slices = {month: rows.filter(inside(rows, table, limits)) for month, limits in bounds.items()}
    if outside := rows.num_rows - sum(own.num_rows for own in slices.values()):
        raise TableError(f"{outside} rows for {table.name} lie outside the months {list(bounds)}")
    return slices


class MonthsOnce:
    """Ranges of a table's months that move on: a month that two of them share is read once, then forgotten."""

    def __init__(self, store: MonthStore, name: str, columns: Sequence[str] | None = None) -> None:
        self._store, self._name, self._columns = store, name, columns
        self._read: dict[str, pa.Table] = {}

    def read(self, first_month: str, last_month: str) -> tuple[pa.Table, Inputs]:
        """The rows of the months, in their order, and which months they are; see `MonthStore.read`."""
        months = months_between(max(first_month, self._store.contract.first_month), last_month)
        self._read = {
            month: self._read[month]
            if month in self._read
            else self._store.read(self._name, self._columns, first_month=month, last_month=month)
            for month in months
        }
        tables = list(self._read.values())
        # Months from before a column was declared have it nullable.
        return pa.concat_tables(tables, promote_options="default"), inputs_of(*tables)


def open_store(settings: Settings, *, writing: bool = False) -> MonthStore:
    """The settings' tables; see `open_database`."""
    return MonthStore(open_database(settings, writing=writing), settings.loaded_contract, settings.retention_months)


class PostgresMonthIOManager(dg.IOManager):
    """Materialises Arrow tables into the Postgres table of the asset's name, one native partition a month.

    One month and a range of months (a single-run backfill) go the same way. An input that declares `columns` in its
    metadata is read with these columns only.
    """

    def __init__(self, settings: Settings) -> None:
        """Works on the tables of these settings."""
        self._settings = settings

    def handle_output(self, context: dg.OutputContext, obj: Rows) -> None:
        """Replaces the months of this run, and says what that changed.

        The asset says in its output's metadata, under `inputs`, what the rows were made of (`inputs_of`), for all
        months or by month.

        Raises:
            TableError: when it does not, or as `MonthStore.replace_months`.
        """
        with retrying():
            self._write(context, obj)

    def _write(self, context: dg.OutputContext, obj: Rows) -> None:
        store = open_store(self._settings, writing=True)
        name = context.asset_key.path[-1]
        months = list(context.asset_partition_keys) if context.has_asset_partitions else all_months(store, name, obj)
        said = context.output_metadata.get("inputs")
        inputs = cast("Inputs | None", said.value if isinstance(said, dg.JsonMetadataValue) else said)
        if not inputs:
            raise TableError(
                f"the asset {name} does not say what its rows were made of, so nobody could tell when they are stale: "
                'return them with metadata={"inputs": inputs_of(...)}'
            )
        writes = store.replace_months(name, obj, months, inputs=inputs, run_id=context.run_id)
        context.add_output_metadata(
            {
                "dagster/row_count": sum(write.n_rows for write in writes),
                "dagster/relation_identifier": f"{store.contract.name}.public.{name}",
                "changed_months": [write.month for write in writes if write.changed],
                **{
                    count: sum(getattr(write, count) or 0 for write in writes)
                    for count in ("added", "removed", "altered")
                },
                "digest": digest_text(*(write.digest for write in writes)) if len(writes) > 1 else writes[0].digest,
                **self._preview(store, name, months[0]),
            }
        )

    def _preview(self, store: MonthStore, name: str, month: str) -> dict[str, dg.MarkdownMetadataValue]:
        """The first rows, as far as the settings let them into Dagster's event log, which keeps them for good."""
        if self._settings.preview == "none":
            return {}
        hidden = store.table(name).identifying if self._settings.preview == "masked" else ()
        return {"preview": dg.MetadataValue.md(_as_markdown(store.head(name, month), hidden))}

    def load_input(self, context: dg.InputContext) -> pa.Table:
        """Reads the months that the partition mapping asks for."""
        with retrying():
            return self._read(context)

    def _read(self, context: dg.InputContext) -> pa.Table:
        store = open_store(self._settings)
        months = sorted(context.asset_partition_keys)
        columns = (context.definition_metadata or {}).get("columns")
        name = context.asset_key.path[-1]
        if not months:
            schema = store.table(name).schema
            return _with_inputs(schema.empty_table().select(columns or schema.names), {name: {}})
        return store.read(name, columns, first_month=months[0], last_month=months[-1])


def all_months(store: MonthStore, name: str, data: Rows) -> list[str]:
    """The months of the data and those that are stored: of an asset without months, every run replaces the table."""
    if not isinstance(data, pa.Table):
        raise TableError(f"the asset {name} has no months, so its rows have to come as one table, not by month")
    column = data[store.table(name).month_column]
    return sorted({f"{moment:%Y-%m}" for moment in pc.unique(column).to_pylist()} | set(store.months(name)))


def _as_markdown(rows: pa.Table, hidden: Collection[str]) -> str:
    """Rows as a Markdown table, without the hidden columns; text is cut to keep the page readable."""
    left_out = [name for name in rows.column_names if name in hidden]
    rows = rows.drop_columns(left_out)
    said = f"\n\nWithout {', '.join(left_out)} (`FRAUD_PREVIEW=all` shows them)." if left_out else ""
    if rows.num_rows == 0:
        return "*no rows*"

    def cell(value: object) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        text = text.replace("|", "\\|").replace("\n", " ")
        return text if len(text) <= 40 else text[:39] + "\u2026"

    names = rows.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cell(row[name]) for name in names) + " |" for row in rows.to_pylist()]
    return "\n".join(lines) + said
