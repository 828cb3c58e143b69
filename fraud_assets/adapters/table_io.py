"""Months of tables in and out of Postgres: replaced whole in one transaction, read by month and column.

A month is a native range partition. It is built beside the old one in the transaction that swaps it in, so a
reader or a crash sees the old month or the new one. What a table's columns mean belongs to `core/tables.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from fraud_assets.adapters.database import Database, open_database
from fraud_assets.core.contract import Contract
from fraud_assets.core.digests import digest_table, digest_text
from fraud_assets.core.months import month_end, month_start
from fraud_assets.core.tables import TABLES, Table
from fraud_assets.settings import Settings

POSTGRES_TYPES = {
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.float32(): "real",
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamptz",
}

MONTH_VERSIONS = """
CREATE TABLE IF NOT EXISTS month_versions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    month text NOT NULL,
    digest text NOT NULL,
    n_rows bigint NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    run_id text
)
"""


class TableError(ValueError):
    """Rows that do not fit the table or the months they were written for."""


@dataclass(frozen=True)
class MonthWrite:
    """What writing one month did: its digest and rows, and whether anything changed."""

    month: str
    digest: str
    n_rows: int
    changed: bool


class MonthStore:
    """Reads and replaces the months of a database's tables."""

    def __init__(self, database: Database, contract: Contract) -> None:
        """Binds the tables of `contract` to `database`."""
        self.database = database
        self.contract = contract

    def table(self, name: str) -> Table:
        """The declaration of a table.

        Raises:
            KeyError: for a name that is no table.
        """
        return TABLES[name](self.contract)

    # Writing

    def replace_months(
        self, name: str, data: pa.Table, months: Sequence[str], run_id: str | None = None
    ) -> list[MonthWrite]:
        """Replaces each of `months` with its rows of `data`, each month in one transaction.

        A month whose rows are those already there is left as it is.

        Args:
            name: the table.
            data: rows of these months and no others; columns as declared, in any order.
            months: the months to replace; one without rows becomes an empty month.
            run_id: the run to record.

        Raises:
            TableError: when a column is missing, a value does not fit its type, or a row lies outside `months`.
        """
        table = self.table(name)
        data = _conform(data, table)
        slices = _split(data, table, months)
        self._ensure_table(table)
        return [self._replace(table, month, slices[month], run_id) for month in months]

    def _replace(self, table: Table, month: str, rows: pa.Table, run_id: str | None) -> MonthWrite:
        digest = digest_table(rows, ignore=table.volatile)
        partition, staging = _partition(table, month), _partition(table, month) + "_new"
        parent, home = sql.Identifier("public", table.name), sql.Identifier("months", partition)
        build = sql.Identifier("months", staging)
        first, last = _bounds(table, month)
        with self.database.bulk() as connection, connection.cursor() as cursor:

            def run(statement: sql.Composable) -> None:
                cursor.execute(statement.as_string())

            # Writers of a table take turns, also of different months: each has the parent open when it detaches from
            # it, and two would wait for each other. Readers are not held up by this.
            run(sql.SQL("SELECT pg_advisory_xact_lock(hashtext({}))").format(sql.Literal(f"months.{table.name}")))
            if self._current_digest(cursor, table.name, month) == digest:
                return MonthWrite(month, digest, rows.num_rows, changed=False)
            run(sql.SQL("DROP TABLE IF EXISTS {}").format(build))
            run(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS)").format(build, parent))
            if rows.num_rows:
                cursor.adbc_ingest(staging, rows, mode="append", db_schema_name="months")
            # The bounds as a constraint spare the scan when the month is attached.
            run(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT bounds CHECK ({} IS NOT NULL AND {} >= {} AND {} < {})").format(
                    build,
                    *(sql.Identifier(table.month_column),) * 2,
                    sql.Literal(first),
                    sql.Identifier(table.month_column),
                    sql.Literal(last),
                )
            )
            for columns in table.indexes:
                run(sql.SQL("CREATE INDEX ON {} ({})").format(build, sql.SQL(", ").join(map(sql.Identifier, columns))))
            cursor.execute("SELECT to_regclass($1) IS NOT NULL", [f"months.{partition}"])
            if cursor.fetchone()[0]:
                run(sql.SQL("ALTER TABLE {} DETACH PARTITION {}").format(parent, home))
                run(sql.SQL("DROP TABLE {}").format(home))
            run(sql.SQL("ALTER TABLE {} RENAME TO {}").format(build, sql.Identifier(partition)))
            run(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                    parent, home, sql.Literal(first), sql.Literal(last)
                )
            )
            run(sql.SQL("ALTER TABLE {} DROP CONSTRAINT bounds").format(home))
            cursor.execute(
                "INSERT INTO month_versions (table_name, month, digest, n_rows, run_id) VALUES ($1, $2, $3, $4, $5)",
                [table.name, month, digest, rows.num_rows, run_id],
            )
        return MonthWrite(month, digest, rows.num_rows, changed=True)

    def _ensure_table(self, table: Table) -> None:
        with self.database.session() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.tables'))")
            connection.execute(MONTH_VERSIONS)
            there = dict(
                connection.execute(
                    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                    "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                    [f"public.{table.name}"],
                ).fetchall()
            )
            parent = sql.Identifier("public", table.name)
            if not there:
                columns = sql.SQL(", ").join(
                    sql.SQL("{} {}{}").format(
                        sql.Identifier(field.name),
                        sql.SQL(POSTGRES_TYPES[field.type]),
                        sql.SQL("" if field.nullable else " NOT NULL"),
                    )
                    for field in table.schema
                )
                month_column = sql.Identifier(table.month_column)
                connection.execute(
                    sql.SQL("CREATE TABLE {} ({}) PARTITION BY RANGE ({})").format(parent, columns, month_column)
                )
                for index in table.indexes:
                    connection.execute(
                        sql.SQL("CREATE INDEX ON {} ({})").format(
                            parent, sql.SQL(", ").join(map(sql.Identifier, index))
                        )
                    )
                return
            for field in table.schema:
                wanted = POSTGRES_TYPES[field.type]
                found = there.get(field.name)
                if found is None:
                    connection.execute(
                        sql.SQL("ALTER TABLE {} ADD COLUMN {} {}").format(
                            parent, sql.Identifier(field.name), sql.SQL(wanted)
                        )
                    )
                elif found not in (wanted, "timestamp with time zone" if wanted == "timestamptz" else wanted):
                    raise TableError(
                        f"column {field.name!r} of {table.name} is {found} in the database and {wanted} in the "
                        "contract; a stored column keeps its type: give the attribute another name, or use another home"
                    )

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
            The rows; empty, with the declared columns, when there are none or the table does not exist yet.
        """
        table = self.table(name)
        wanted = list(columns) if columns is not None else table.schema.names
        schema = pa.schema([table.schema.field(column) for column in wanted])
        first = _bounds(table, first_month or self.contract.first_month)[0]
        conditions = [sql.SQL("{} >= {}").format(sql.Identifier(table.month_column), sql.Literal(first))]
        if last_month is not None:
            last = _bounds(table, last_month)[1]
            conditions.append(sql.SQL("{} < {}").format(sql.Identifier(table.month_column), sql.Literal(last)))
        statement = sql.SQL("SELECT {} FROM {} WHERE {} ORDER BY {}").format(
            sql.SQL(", ").join(map(sql.Identifier, wanted)),
            sql.Identifier("public", table.name),
            sql.SQL(" AND ").join(conditions),
            sql.SQL(", ").join(_ordered(table)),
        )
        if not self.exists(name):
            return schema.empty_table()
        rows = self.database.query(statement.as_string())
        # Months from before a column was declared do not have it.
        older = [field.with_nullable(field.nullable or rows[field.name].null_count > 0) for field in schema]
        return rows.cast(pa.schema(older))

    def require(self, name: str, month: str) -> None:
        """Passes when a month of a table is there.

        Raises:
            TableError: when it is not; what is built on it would be built on older months without saying so.
        """
        if month not in self.months(name):
            raise TableError(f"{name} has no {month} yet: materialise it first")

    def first_event(self) -> datetime | None:
        """The time of the first transaction there is."""
        if not self.exists("raw_transactions"):
            return None
        first = self.database.query("SELECT min(event_timestamp) AS first FROM raw_transactions")["first"][0].as_py()
        return cast("datetime | None", first)

    def exists(self, name: str) -> bool:
        """Whether the table has been created."""
        with self.database.session() as connection:
            row = connection.execute("SELECT to_regclass(%s)", [f"public.{name}"]).fetchone()
        return row is not None and row[0] is not None

    def months(self, name: str) -> dict[str, str]:
        """The months that are stored, in order, each with its current digest."""
        if not self.exists("month_versions"):
            return {}
        rows = self.database.query(
            "SELECT DISTINCT ON (month) month, digest FROM month_versions "
            "WHERE table_name = $1 ORDER BY month, id DESC",
            [name],
        )
        return dict(zip(rows["month"].to_pylist(), rows["digest"].to_pylist(), strict=True))

    @staticmethod
    def _current_digest(cursor: Any, name: str, month: str) -> str | None:
        cursor.execute(
            "SELECT digest FROM month_versions WHERE table_name = $1 AND month = $2 ORDER BY id DESC LIMIT 1",
            [name, month],
        )
        row = cursor.fetchone()
        return row[0] if row else None


def _ordered(table: Table) -> list[sql.Composable]:
    """The columns to order by; text by its bytes, as Arrow does, whatever the language of the server."""
    return [
        sql.SQL('{} COLLATE "C"' if pa.types.is_string(table.schema.field(column).type) else "{}").format(
            sql.Identifier(column)
        )
        for column in table.order
    ]


def _partition(table: Table, month: str) -> str:
    return f"{table.name}_{month.replace('-', '_')}"


def _bounds(table: Table, month: str) -> tuple[str, str]:
    start, end = month_start(month), month_end(month)
    if pa.types.is_date(table.schema.field(table.month_column).type):
        return start.date().isoformat(), end.date().isoformat()
    return start.isoformat(), end.isoformat()


def _conform(data: pa.Table, table: Table) -> pa.Table:
    """The declared columns in the declared order and types, rows in the table's order."""
    if missing := [name for name in table.schema.names if name not in data.column_names]:
        raise TableError(f"rows for {table.name} lack the columns {missing}")
    try:
        data = data.select(table.schema.names).cast(table.schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise TableError(f"rows for {table.name} do not fit its columns: {error}") from error
    return data.sort_by([(column, "ascending") for column in table.order])


def _split(data: pa.Table, table: Table, months: Sequence[str]) -> dict[str, pa.Table]:
    column = data[table.month_column]
    slices = {}
    for month in months:
        start: Any = month_start(month)
        end: Any = month_end(month)
        if pa.types.is_date(column.type):
            start, end = start.date(), end.date()
        inside = pc.and_(
            pc.greater_equal(column, pa.scalar(start, column.type)),
            pc.less(column, pa.scalar(end, column.type)),
        )
        slices[month] = data.filter(inside)
    outside = data.num_rows - sum(rows.num_rows for rows in slices.values())
    if outside:
        raise TableError(f"{outside} rows for {table.name} lie outside the months {list(months)}")
    return slices


def open_store(settings: Settings) -> MonthStore:
    """The settings' tables."""
    return MonthStore(open_database(settings), settings.loaded_contract)


class PostgresMonthIOManager(dg.ConfigurableIOManager):
    """Materialises Arrow tables into the Postgres table of the asset's name, one native partition a month.

    One month and a range of months (a single-run backfill) go the same way. An input that declares `columns` in its
    metadata is read with these columns only.
    """

    def handle_output(self, context: dg.OutputContext, obj: pa.Table) -> None:
        """Replaces the months of this run, and says what that changed."""
        store = open_store(Settings())
        name, months = context.asset_key.path[-1], list(context.asset_partition_keys)
        writes = store.replace_months(name, obj, months, context.run_id)
        context.add_output_metadata(
            {
                "dagster/row_count": sum(write.n_rows for write in writes),
                "dagster/relation_identifier": f"{store.contract.name}.public.{name}",
                "changed_months": [write.month for write in writes if write.changed],
                "digest": digest_text(*(write.digest for write in writes)) if len(writes) > 1 else writes[0].digest,
                "preview": dg.MetadataValue.md(_preview(obj)),
            }
        )

    def load_input(self, context: dg.InputContext) -> pa.Table:
        """Reads the months that the partition mapping asks for."""
        store = open_store(Settings())
        months = sorted(context.asset_partition_keys)
        columns = (context.definition_metadata or {}).get("columns")
        name = context.asset_key.path[-1]
        if not months:
            schema = store.table(name).schema
            return schema.empty_table().select(columns or schema.names)
        return store.read(name, columns, first_month=months[0], last_month=months[-1])


def _preview(rows: pa.Table, n: int = 5) -> str:
    """The first rows as a Markdown table; text is cut to keep the page readable."""
    if rows.num_rows == 0:
        return "*no rows*"

    def cell(value: object) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        text = text.replace("|", "\\|").replace("\n", " ")
        return text if len(text) <= 40 else text[:39] + "\u2026"

    names = rows.column_names
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    lines += ["| " + " | ".join(cell(row[name]) for name in names) + " |" for row in rows.slice(0, n).to_pylist()]
    return "\n".join(lines)
