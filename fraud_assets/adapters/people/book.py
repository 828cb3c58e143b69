"""Who was erased, in the database: a keyed hash and a pseudonym for each, and the names of rewritten months.

A month that was rewritten for this keeps the digest that it had as its name, in the ledger and wherever something was
made of it: what was made of it would come out the same, so that nothing is stale. `MonthStore` reads names through
this; what its rows are is compared with the digest of what is stored.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import pyarrow as pa

from fraud_assets.adapters.people.key import erased_by, make_key, read_key, write_whole
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.table import Table
from fraud_assets.core.people.pseudonyms import Erased, ErasureError, hash_of

# Below what a double holds exactly, for whoever reads ids as JSON.
LARGEST = 2**52
# The column of quarantined rows that has them as they were delivered.
ORIGINAL = "original"


@dataclass(frozen=True)
class Entry:
    """Somebody who was erased.

    Attributes:
        entity: the column, such as customer_id.
        hash: of the identifier (`hash_of`).
        pseudonym: what the rows say instead.
    """

    entity: str
    hash: str
    pseudonym: str


def entries(database: Database) -> list[Entry]:
    """Everybody who was erased, in order."""
    found = database.rows("erased_entities", "SELECT entity, hash, pseudonym FROM erased_entities ORDER BY number")
    return [Entry(*row) for row in found]


def read_erased(database: Database) -> Erased:
    """Everybody who was erased, to be recognised.

    Raises:
        ErasureError: when there is somebody, and the key to recognise them is not there: then nothing may be written.
    """
    return erased_by((asdict(one) for one in entries(database)), database.erasure_key)


def key_of(database: Database) -> bytes:
    """The key of this database's hashes, made at the first erasure.

    Raises:
        ErasureError: when there are hashes already, and not the key.
    """
    if database.erasure_key is None:
        raise ErasureError("this database was opened without a home, which has the key")
    return read_key(database.erasure_key) if entries(database) else make_key(database.erasure_key)


def keep_entries(database: Database) -> None:
    """Notes beside the key who was erased, for a database that is set back to a moment before."""
    if database.erasure_key is not None:
        # With those that a database of before does not know yet.
        known = {(one.entity, one.hash): one for one in [*kept_entries(database.erasure_key), *entries(database)]}
        write_whole(_list_of(database.erasure_key), json.dumps([asdict(one) for one in known.values()], indent=1))


def kept_entries(key_file: Path) -> list[Entry]:
    """Who was erased, as it was noted beside the key.

    Raises:
        ErasureError: when something else is there.
    """
    file = _list_of(key_file)
    if not file.is_file():
        return []
    try:
        return [Entry(**one) for one in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ErasureError(f"{file} does not say who was erased; put it back from where you keep the keys") from error


def _list_of(key_file: Path) -> Path:
    return key_file.with_name("erased.json")


def new_pseudonym(*, is_number: bool) -> str:
    """A name that says nothing: by chance, so that not even the key leads from it to the person."""
    return str(-1 - secrets.randbelow(LARGEST)) if is_number else f"erased-{secrets.token_hex(8)}"


def add_entry(
    database: Database, key: bytes, entity: str, identifier: str, *, is_number: bool, actor: str, reason: str
) -> Entry:
    """Enters somebody, from whose name on nothing is written any more; who is there already keeps the pseudonym."""
    hashed = hash_of(key, entity, identifier)
    with database.session() as connection:
        connection.execute("LOCK TABLE public.erased_entities IN SHARE ROW EXCLUSIVE MODE")
        connection.execute(
            "INSERT INTO public.erased_entities (entity, hash, pseudonym, actor, reason) VALUES (%s, %s, %s, %s, %s) "
            "ON CONFLICT (hash) DO NOTHING",
            [entity, hashed, new_pseudonym(is_number=is_number), actor, reason],
        )
        found = connection.execute(
            "SELECT entity, hash, pseudonym FROM public.erased_entities WHERE hash = %s", [hashed]
        ).fetchone()
    if found is None:
        raise ErasureError("the person could not be entered; try again")
    return Entry(*found)


def renamed_rows(erased: Erased, rows: pa.Table, table: Table, contract: Contract) -> pa.Table:
    """Rows of a table of months with pseudonyms, and without what else names these persons."""
    if not erased or not rows.num_rows:
        return rows
    if ORIGINAL in rows.column_names:
        columns = {name: column.column for name, column in contract.entities.items()}
        texts = [erased.original(text, columns) or text for text in rows[ORIGINAL].to_pylist()]
        place = rows.schema.get_field_index(ORIGINAL)
        return rows.set_column(place, rows.schema.field(place), pa.chunked_array([pa.array(texts, pa.string())]))
    return erased.renamed(rows, tuple(contract.entities), table.personal)


def keep_name(
    connection: psycopg.Connection[Any], table: str, month: str, was: str, is_now: str, why: Literal["person", "age"]
) -> None:
    """Lets a month keep its name when it is rewritten; in the transaction that rewrites it, or before."""
    connection.execute(
        "INSERT INTO public.erased_digests (table_name, month, is_now, was, why) "
        "SELECT %(table)s, %(month)s, %(now)s, coalesce((SELECT was FROM public.erased_digests "
        "WHERE table_name = %(table)s AND month = %(month)s AND is_now = %(was)s), %(was)s), %(why)s "
        "WHERE %(now)s <> %(was)s ON CONFLICT DO NOTHING",
        {"table": table, "month": month, "was": was, "now": is_now, "why": why},
    )
