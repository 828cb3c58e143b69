"""Free text in the database that may name a person: Dagster's events, MLflow's tags, what people wrote as a reason.

Tables of months have columns of their own for persons and are no part of this, nor is the ledger, which nobody changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.people.pseudonyms import pattern_of

SCHEMAS = ("public", "dagster", "mlflow")
# Rows of these say who was erased, or are never changed.
LEFT = ("erased_entities", "erased_digests", "ledger")
# Where Dagster keeps the first rows of a month that was made.
EVENTS = (("event_logs", "event"), ("asset_keys", "last_materialization"))
PREVIEW = sql.Literal('"preview"')
PREVIEW_GONE = "*removed because of their age*"
TEXT_COLUMNS = """
SELECT n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, NULL)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = ANY(%s) AND c.relkind = 'r' AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
    AND format_type(a.atttypid, NULL) IN ('text', 'character varying', 'json', 'jsonb', 'text[]')
ORDER BY 1, 2, a.attnum
"""


@dataclass(frozen=True)
class Text:
    """A column with text.

    Attributes:
        schema, table, column, kind: as PostgreSQL has them.
        n: how many of its rows name the person.
    """

    schema: str
    table: str
    column: str
    kind: str
    n: int = 0

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.schema}.{self.table}, column {self.column}"


def forms_of(identifier: str) -> tuple[str, ...]:
    """An identifier as it is, and as JSON writes it."""
    return tuple(dict.fromkeys([identifier, json.dumps(identifier)[1:-1]]))


def find_texts(database: Database, identifier: str, left: Iterable[str] = LEFT) -> list[Text]:
    """The columns in which an identifier stands as a word of its own, the ledger's left out."""
    with database.session() as connection:
        return texts_of(connection, identifier, lambda table: table not in left)


def find_in_ledger(database: Database, identifier: str) -> int:
    """In how many rows of the ledger it stands."""
    with database.session() as connection:
        return sum(one.n for one in texts_of(connection, identifier, lambda table: table == "ledger"))


def texts_of(connection: psycopg.Connection[Any], identifier: str, is_wanted: Callable[[str], bool]) -> list[Text]:
    """The columns of some tables in which an identifier stands as a word of its own, as a transaction sees them."""
    found = []
    for schema, table, column, kind in connection.execute(TEXT_COLUMNS, [list(SCHEMAS)]).fetchall():
        if not is_wanted(table):
            continue
        condition, values = _condition(column, identifier)
        statement = sql.SQL("SELECT count(*) FROM {} WHERE {}").format(sql.Identifier(schema, table), condition)
        ((n,),) = connection.execute(statement, values).fetchall()
        if n:
            found.append(Text(schema, table, column, kind, n))
    return found


def _condition(column: str, identifier: str) -> tuple[sql.Composed, list[str]]:
    name, parts, values = sql.Identifier(column), [], list[str]()
    for form in forms_of(identifier):
        # The first is quick, and true of few rows.
        parts.append(sql.SQL("(strpos(lower({0}::text), lower(%s)) > 0 AND {0}::text ~* %s)").format(name))
        values += [form, pattern_of(form)]
    return sql.SQL(" OR ").join(parts), values


def rename_texts(connection: psycopg.Connection[Any], texts: Sequence[Text], identifier: str, pseudonym: str) -> None:
    """Puts a pseudonym in the place of an identifier in these columns."""
    for one in texts:
        condition, values = _condition(one.column, identifier)
        changed: sql.Composable = sql.SQL("{}::text").format(sql.Identifier(one.column))
        given = list[str]()
        for form in forms_of(identifier):
            changed = sql.SQL("regexp_replace({}, %s, %s, 'gi')").format(changed)
            given += [pattern_of(form), pseudonym]
        statement = sql.SQL("UPDATE {} SET {} = {}::{} WHERE {}").format(
            sql.Identifier(one.schema, one.table), sql.Identifier(one.column), changed, sql.SQL(one.kind), condition
        )
        connection.execute(statement, [*given, *values])


def rewrite_tables(database: Database, names: Iterable[tuple[str, str]]) -> list[str]:
    """Writes tables anew without what was deleted or replaced in them, which else stays in their files for a while.

    Returns:
        What could not be done, in sentences.
    """
    failed = []
    with database.connect(autocommit=True) as connection:
        connection.execute("SET lock_timeout = '20s'")
        for schema, table in sorted(set(names)):
            try:
                connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(schema, table)))
            except psycopg.Error as error:
                said = " ".join(str(error).split())
                failed.append(f"{schema}.{table} was not rewritten ({said}): run VACUUM FULL on it")
        try:
            # Samples of values, by which the server plans queries, of months that are no more.
            connection.execute("VACUUM (FULL) pg_catalog.pg_statistic")
            connection.execute("CHECKPOINT")
        except psycopg.Error:
            failed.append(
                "the server keeps samples of values until its next ANALYZE, and its write-ahead log until that is "
                "recycled; its administrator can do both at once"
            )
    return failed


def forget_previews(connection: psycopg.Connection[Any], runs: Collection[str], tables: Collection[str]) -> None:
    """Takes the first rows of tables out of what Dagster keeps of some runs: its events, and each asset's last one."""
    for table, column in EVENTS:
        there = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"dagster.{table}"]).fetchone()
        if not (there and there[0]):
            continue
        name, text = sql.Identifier("dagster", table), sql.Identifier(column)
        choosing = sql.SQL("SELECT id, {0} FROM {1} WHERE strpos({0}, {2}) > 0").format(text, name, PREVIEW)
        if table == "event_logs":
            # By the index, and not each event of all time.
            choosing += sql.SQL(" AND run_id = ANY({})").format(sql.Literal(list(runs)))
        found = [(number, json.loads(event)) for number, event in connection.execute(choosing)]
        changed = [
            (json.dumps(_without_previews(event)), number)
            for number, event in found
            if event.get("run_id") in runs and _table_of(event) in tables
        ]
        changing = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(name, text)
        connection.cursor().executemany(changing, changed)


def _table_of(event: dict[str, Any]) -> str | None:
    """The asset that an event is about: as it says itself, or as its output or step is called."""
    said = event.get("dagster_event") or {}
    data = said.get("event_specific_data") or {}
    path = ((data.get("materialization") or {}).get("asset_key") or {}).get("path")
    output = data.get("output_name") or (data.get("step_output_handle") or {}).get("output_name")
    found = path[-1] if path else output if output not in (None, "result") else said.get("step_key")
    return None if found is None else str(found)


def _without_previews(event: Any) -> Any:
    if isinstance(event, list):
        return [_without_previews(one) for one in event]
    if not isinstance(event, dict):
        return event
    if event.get("label") == "preview" and isinstance(event.get("entry_data"), dict):
        return {**event, "entry_data": {**event["entry_data"], "md_str": PREVIEW_GONE}}
    return {name: _without_previews(one) for name, one in event.items()}
