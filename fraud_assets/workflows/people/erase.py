"""Erasing a person: what there is of one, a pseudonym in its place, and what is left for people to do.

The order is what makes it safe to repeat. The person is entered first: from then on nothing is written under the name,
whoever writes. Then come files and texts, then the rows that are made of others. Then the ledger is told, and last come
scores, lists and transactions: whoever was not erased to the end is still found there, also by a restore, which knows
no identifier and looks for those whose hash it has. A command that is killed in between is given again. Rows stay,
because what was counted and learned from them stays true with a pseudonym: a month keeps its number of rows and its
name, and nothing becomes stale.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from fraud_assets.adapters.files.reader import SourceError, open_rows
from fraud_assets.adapters.people.book import (
    Entry,
    add_entry,
    keep_entries,
    keep_name,
    kept_entries,
    key_of,
    new_pseudonym,
    renamed_rows,
)
from fraud_assets.adapters.people.files import (
    can_be_changed,
    rename_in,
    rewrite_rows,
    rewrite_spool,
    search,
    search_rows,
)
from fraud_assets.adapters.people.key import KEY_BYTES, read_key
from fraud_assets.adapters.people.texts import LEFT, find_in_ledger, find_texts, rename_texts, rewrite_tables, texts_of
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import COLUMNS, MonthStore, open_store
from fraud_assets.adapters.sources import FolderSource, open_source
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import entity_called, personal_columns
from fraud_assets.core.decisions.ledger import BY_HAND
from fraud_assets.core.digests import digest_table
from fraud_assets.core.lineage.tables.declared import TABLES
from fraud_assets.core.lineage.tables.table import Table
from fraud_assets.core.models.kept_scores import ENCODER, renamed_line
from fraud_assets.core.people.pseudonyms import Erased, ErasureError, hash_of, is_distinct
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.settings import Settings
from fraud_assets.workflows.backups.made import made_backups
from fraud_assets.workflows.models.prune import NO_MODEL
from fraud_assets.workflows.progress import Progress

QUARANTINE = "quarantined_transactions"


@dataclass(frozen=True)
class Person:
    """Who is to be erased.

    Attributes:
        entity: the column that names persons of this kind, such as customer_id.
        identifier: as text.
        is_number: whether the column holds whole numbers.
        erased: this person alone, to be recognised.
        pseudonym: what the rows will say; of a look only, one that is used nowhere.
    """

    entity: str
    identifier: str
    is_number: bool
    erased: Erased
    pseudonym: str

    @property
    def value(self) -> int | str:
        """The identifier as the tables of months hold it."""
        return int(self.identifier) if self.is_number else self.identifier


@dataclass
class Found:
    """What there is of a person.

    Attributes:
        months: of each table of months, how many rows in which month.
        rows: of each other place in the database, how many rows.
        files: files of the home in which the identifier stands, that can be changed.
        left: what nobody but a person can change, in sentences that name it.
    """

    months: dict[str, dict[str, int]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there is something that goes."""
        return bool(self.months or self.rows or self.files)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {"months": self.months, "rows": self.rows, "files": self.files, "left": self.left}


def entity_of(contract: Contract, name: str) -> str:
    """The contract's column for a kind of persons or things, named with or without `_id`.

    Raises:
        ErasureError: when the contract has none of this name.
    """
    if (entity := entity_called(contract, name)) is not None:
        return entity
    there = ", ".join(entity.removesuffix("_id") for entity in contract.entities) or "none"
    raise ErasureError(f"contract {contract.name!r} has no entity {name!r}; it has {there}")


def look(settings: Settings, name: str, identifier: str, backups: Sequence[Path] = ()) -> dict[str, Any]:
    """What erasing a person would change; nothing is changed.

    Args:
        settings: of the home.
        name: the entity, such as customer.
        identifier: of the person.
        backups: folders with backups, besides those that this home remembers.

    Returns:
        `entity`, `erased` (False), and what `Found` has.

    Raises:
        ErasureError: for an entity or an identifier that cannot be.
    """
    store = open_store(settings)
    person = _person(store.contract, entity_of(store.contract, name), identifier)
    found = find(settings, store, person, backups)
    return {"entity": person.entity, "erased": False, **found.to_dict()}


def erase(
    settings: Settings,
    name: str,
    identifier: str,
    *,
    reason: str,
    actor: str,
    backups: Sequence[Path] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Puts a pseudonym in the place of a person, everywhere; may be repeated.

    Args:
        settings: of the home.
        name: the entity, such as customer.
        identifier: of the person.
        reason: why; the ledger keeps it.
        actor: who asks.
        backups: as in `look`.
        progress: hears of it.

    Returns:
        `entity`, `erased`, `pseudonym`, and what `Found` has: `months`, `rows` and `files` are those that were changed,
        `left` is what is there still, and `complete` whether none of that is this command's own to change.

    Raises:
        ErasureError: as `look`, and for a reason that names the person.
        TableError: when a month is not as it was written, or is in use for long. What was done before is done.
    """
    progress = progress or Progress()
    store = open_store(settings, writing=True)
    looked_for = _person(store.contract, entity_of(store.contract, name), identifier)
    if looked_for.identifier.lower() in reason.lower():
        raise ErasureError("the reason names the person, and the ledger would keep that for ever: leave the name out")
    _check_columns(store)
    LedgerStore(store.database, settings.ledger_head_file).events()
    key = key_of(store.database)
    entry = add_entry(
        store.database, key, looked_for.entity, looked_for.identifier,
        is_number=looked_for.is_number, actor=actor, reason=reason,
    )  # fmt: skip
    person = replace(looked_for, erased=_alone(entry, key), pseudonym=entry.pseudonym)
    keep_entries(store.database)
    changed = _rename(settings, store, person, progress, lambda counted: _tell_ledger(
        settings, store, entry, reason, actor, counted
    ))  # fmt: skip
    with progress.working("looking for what is left"):
        after = find(settings, store, person, backups)
    left = [*after.left, *(f"{n} rows of {where}" for where, n in after.rows.items()), *after.files]
    left += [f"{n} rows of {table} {month}" for table, months in after.months.items() for month, n in months.items()]
    return {
        "entity": person.entity, "erased": True, "pseudonym": person.pseudonym,
        **changed.to_dict(), "left": [*changed.left, *left], "complete": not after.anything,
    }  # fmt: skip


def erase_again(settings: Settings, store: MonthStore, *, actor: str) -> int:
    """Erases persons who were erased and are in the tables again, as after a restore.

    Args:
        settings: of the home, which has noted beside its key who was erased.
        store: the tables.
        actor: who restores.

    Returns:
        How many persons were there again.
    """
    # Also those whom the tables know as erased: one who did this before may have been killed.
    known = {(one.entity, one.hash) for one in kept_entries(settings.erasure_key_file)}
    if not known:
        return 0
    key, again = read_key(settings.erasure_key_file), 0
    for entity in {entity for entity, _ in known}:
        for identifier in _named(store, entity):
            if (entity, hash_of(key, entity, identifier)) in known:
                erase(settings, entity, identifier, reason="erased before the restore", actor=actor)
                again += 1
    return again


def _named(store: MonthStore, entity: str) -> list[str]:
    """Everybody who is named where persons are renamed last: in transactions, scores and lists."""
    column = sql.Identifier(entity)
    found: set[str | None] = set()
    for table, statement, given in (
        ("raw_transactions", sql.SQL("SELECT DISTINCT {}::text FROM raw_transactions").format(column), []),
        ("recent_transactions", sql.SQL("SELECT DISTINCT {}::text FROM recent_transactions").format(column), []),
        ("scored_transactions", sql.SQL("SELECT DISTINCT transaction->>%s FROM scored_transactions"), [entity]),
        ("entity_lists", sql.SQL("SELECT DISTINCT value FROM entity_lists WHERE entity = %s"), [entity]),
    ):
        found |= {identifier for (identifier,) in store.database.rows(table, statement, given)}
    return sorted(identifier for identifier in found if identifier is not None)


def _person(contract: Contract, entity: str, identifier: str) -> Person:
    """A person to look for, under a hash and a name that are used nowhere."""
    identifier = identifier.strip()
    is_number = pa.types.is_integer(contract.transactions_schema().field(entity).type)
    if is_number:
        try:
            identifier = str(int(identifier))
        except ValueError as error:
            raise ErasureError(f"{entity} is a whole number, and the identifier that was given is none") from error
    if not identifier:
        raise ErasureError(f"the {entity} that was given is empty: give the person's identifier")
    key, pseudonym = secrets.token_bytes(KEY_BYTES), new_pseudonym(is_number=is_number)
    erased = _alone(Entry(entity, hash_of(key, entity, identifier), pseudonym), key)
    return Person(entity, identifier, is_number, erased, pseudonym)


def _alone(entry: Entry, key: bytes) -> Erased:
    return Erased(key, {entry.entity: {entry.hash: entry.pseudonym}})


# Looking


def find(settings: Settings, store: MonthStore, person: Person, backups: Sequence[Path] = ()) -> Found:
    """What there is of a person, and what is beyond this command's reach; nothing is changed."""
    found = Found()
    for name, make in TABLES.items():
        if counts := _by_month(store, make(store.contract), person):
            found.months[name] = dict(sorted(counts.items()))
    with store.database.session() as connection:
        for where, numbers in (
            ("scored_transactions", _scored(connection, store.contract, person)),
            ("recent_transactions", _recent(connection, person)),
            ("quarantined_labels", _refused_labels(connection, store.contract, person)),
            ("entity_lists", _listed(connection, person)),
        ):
            if numbers:
                found.rows[where] = len(numbers)
    rows = [str(path) for path, _ in search_rows(settings.workspace, person.entity, person.identifier)]
    found.files += rows
    if is_distinct(person.identifier):
        known = {"public." + name for name in found.rows}
        for text in find_texts(store.database, person.identifier):
            if f"{text.schema}.{text.table}" not in known:
                found.rows[text.where] = text.n
        own = [settings.postgres_folder, *(Path(folder) for folder in made_backups(settings))]
        for path in search(settings.workspace, person.identifier, own):
            if can_be_changed(path):
                found.files.append(str(path))
            elif str(path) not in rows:
                found.left.append(f"the file {path} names the person; look at it, and delete it if it can go")
        if n := find_in_ledger(store.database, person.identifier):
            found.left.append(f"{n} rows of the ledger name the person, and are never changed")
    else:
        found.left.append(
            "logs, events and reasons in free text were not searched: such a short identifier cannot be told from "
            "other numbers (FRAUD_PREVIEW keeps identifiers out of events by itself)"
        )
    found.left += _beyond(settings, store, person, backups)
    return found


def _by_month(store: MonthStore, table: Table, person: Person) -> Counter[str]:
    """How many rows of which months are about a person."""
    column = sql.Identifier(table.month_column)
    if table.name == QUARANTINE:
        pairs = store.database.rows(table.name, sql.SQL("SELECT {}, original FROM {}").format(column, _relation(table)))
        moments = [moment for moment, text in pairs if person.erased.original(text, _columns(store.contract))]
    elif person.entity in table.schema.names:
        statement = sql.SQL("SELECT {} FROM {} WHERE {} = %s").format(
            column, _relation(table), sql.Identifier(person.entity)
        )
        moments = [moment for (moment,) in store.database.rows(table.name, statement, [person.value])]
    else:
        moments = []
    return Counter(
        store.contract.month_of(moment) if isinstance(moment, datetime) else f"{moment:%Y-%m}" for moment in moments
    )


def _relation(table: Table) -> sql.Identifier:
    return sql.Identifier("public", table.name)


def _columns(contract: Contract) -> dict[str, str]:
    """Of each entity the source's own column."""
    return {name: column.column for name, column in contract.entities.items()}


def _there(connection: psycopg.Connection[Any], table: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"public.{table}"]).fetchone()
    return bool(found and found[0])


def _scored(
    connection: psycopg.Connection[Any], contract: Contract, person: Person
) -> list[tuple[str, str, str | None, int]]:
    """Transaction, features, further features and number of kept scores as they shall be."""
    if not _there(connection, "scored_transactions"):
        return []
    rows = connection.execute(
        "SELECT number, transaction::text, features::text, more_features::text FROM public.scored_transactions "
        "WHERE transaction->>%s = %s",
        [person.entity, person.identifier],
    )
    changed = []
    personal = personal_columns(contract)
    for number, transaction, features, more in rows:
        new, known = person.erased.score(json.loads(transaction), json.loads(features), personal)
        _, further = person.erased.score(json.loads(transaction), json.loads(more or "{}"), personal)
        encoded = ENCODER.encode(further) if more else None
        changed.append((ENCODER.encode(new), ENCODER.encode(known), encoded, number))
    return changed


def _recent(connection: psycopg.Connection[Any], person: Person) -> list[int]:
    """Numbers of scored transactions that no month holds yet."""
    if not _there(connection, "recent_transactions"):
        return []
    statement = sql.SQL("SELECT number FROM public.recent_transactions WHERE {} = %s").format(
        sql.Identifier(person.entity)
    )
    return [number for (number,) in connection.execute(statement, [person.value])]


def _listed(connection: psycopg.Connection[Any], person: Person) -> list[int]:
    """Numbers of what lists say of the person."""
    rows = connection.execute(
        "SELECT number FROM public.entity_lists WHERE entity = %s AND value = %s", [person.entity, person.identifier]
    )
    return [number for (number,) in rows]


def _refused_labels(connection: psycopg.Connection[Any], contract: Contract, person: Person) -> list[tuple[int, str]]:
    """Number and content of rows of label files that could not be used, as they shall be."""
    rows = connection.execute("SELECT number, original FROM public.quarantined_labels")
    found = ((number, person.erased.original(text, _columns(contract))) for number, text in rows)
    return [(number, text) for number, text in found if text is not None]


# What is beyond


def _beyond(settings: Settings, store: MonthStore, person: Person, backups: Sequence[Path]) -> Iterator[str]:
    """What a person has to do, in sentences: other columns, files of the source, backups, other servers."""
    contract = store.contract
    if is_distinct(person.identifier) and contract.transaction_id:
        statement = "SELECT count(*) FROM raw_transactions WHERE strpos(transaction_id::text, %s) > 0"
        ((n,),) = store.database.rows("raw_transactions", statement, [person.identifier]) or [(0,)]
        if n:
            yield f"{n} transaction ids contain the identifier, and stay: later labels name transactions by them"
    for other in contract.entities:
        counting = sql.SQL("SELECT count(*) FROM raw_transactions WHERE {}::text = %s").format(sql.Identifier(other))
        ((n,),) = store.database.rows("raw_transactions", counting, [person.identifier]) or [(0,)]
        if n and other != person.entity:
            yield f"{n} transactions have the same value as {other}: if that is the person, erase that, too"
    yield from _delivered(settings, person, contract)
    folders = dict.fromkeys([*made_backups(settings), *(str(path) for path in _in_folders(backups))])
    for folder in folders:
        if Path(folder).is_dir():
            yield f"the backup {folder} still has these rows: delete it when you have a newer one"
    if settings.mlflow_uri is not None:
        yield "the MLflow server of FRAUD_MLFLOW_URI was not searched"
    if settings.database_url is not None:
        yield "backups and archives that your PostgreSQL server makes itself were not searched"


def _in_folders(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        place = folder.expanduser().resolve()
        inner = [path.parent for path in sorted(place.glob("*/manifest.json"))]
        yield from inner or [place]


def _delivered(settings: Settings, person: Person, contract: Contract) -> Iterator[str]:
    """Files of the user's own in which the person still is."""
    try:
        source = open_source(settings)
    except (ValueError, OSError):
        return
    if settings.source == "postgres":
        yield "the database of FRAUD_SOURCE_URL is yours, and was not searched"
    if not isinstance(source, FolderSource) or not source.folder.is_dir():
        return
    wanted = {column.casefold() for column in _columns(contract).values()}
    for path in sorted(path for path in source.folder.rglob("*") if path.is_file()):
        if _delivers(path, person, contract, wanted):
            yield f"the delivered file {path} is yours, and still names the person"


def _delivers(path: Path, person: Person, contract: Contract, wanted: set[str]) -> bool:
    try:
        for piece in open_rows(path, contract).pieces():
            for name in piece.rows.schema.names:
                if name.casefold() not in wanted and not is_distinct(person.identifier):
                    continue
                texts = piece.rows.column(piece.rows.schema.get_field_index(name)).cast(pa.string()).unique()
                if any(text is not None and _same(text, person.identifier) for text in texts.to_pylist()):
                    return True
    except (SourceError, OSError, pa.ArrowException, ValueError):
        # What is no table is searched as text, where that tells.
        return is_distinct(person.identifier) and any(search(path.parent, person.identifier, _others(path)))
    return False


def _others(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other != path]


def _same(text: str, identifier: str) -> bool:
    text = text.strip()
    return identifier.casefold() in (text.casefold(), text.partition(".")[0].lstrip("0") or "0")


# Changing


def _check_columns(store: MonthStore) -> None:
    """Raises where a table of months has columns that the contract does not declare: they would be lost."""
    for name, make in TABLES.items():
        table = make(store.contract)
        if not _names_persons(table, store.contract) or not store.exists(name):
            continue
        there = store.database.query(COLUMNS, [f"public.{name}"])["attname"].to_pylist()
        if undeclared := sorted(set(there) - set(table.schema.names)):
            raise ErasureError(
                f"{name} has the columns {', '.join(undeclared)} from an earlier contract, which may have "
                "data of the person: declare them again in the contract, or drop them from the table; then try again"
            )


def _names_persons(table: Table, contract: Contract) -> bool:
    return table.name == QUARANTINE or bool(set(contract.entities) & set(table.schema.names))


LAST_TABLE = "raw_transactions"
"""Renamed after all other tables of months."""


def _rename(
    settings: Settings, store: MonthStore, person: Person, progress: Progress, tell: Callable[[Found], None]
) -> Found:
    """Renames the person everywhere; what was changed, and what could not be.

    Args:
        settings: of the home.
        store: the tables.
        person: who.
        progress: hears of it.
        tell: tells the ledger, when only the places are left by which a restore finds who is not erased yet.
    """
    changed, contract = Found(), store.contract
    with progress.working("files"):
        _rename_files(settings, person, contract, changed)
    touched = set[tuple[str, str]]()
    with progress.working("texts"):
        if is_distinct(person.identifier):
            texts = find_texts(store.database, person.identifier, (*LEFT, *ANCHORS))
            with store.database.session() as connection:
                rename_texts(connection, texts, person.identifier, person.pseudonym)
            changed.rows |= {text.where: text.n for text in texts}
            touched |= {(text.schema, text.table) for text in texts}
        with store.database.session() as connection:
            refused = _refused_labels(connection, contract, person)
            connection.cursor().executemany(
                "UPDATE public.quarantined_labels SET original = %s WHERE number = %s",
                [(text, number) for number, text in refused],
            )
        if refused:
            changed.rows["quarantined_labels"] = len(refused)
            touched.add(("public", "quarantined_labels"))
    for name in [one for one in TABLES if one != LAST_TABLE]:
        _rename_months(store, name, person, progress, changed)
    with progress.working("rewriting tables"):
        changed.left += rewrite_tables(store.database, touched)
    if last := _by_month(store, store.table(LAST_TABLE), person):
        changed.months[LAST_TABLE] = dict(sorted(last.items()))
    tell(changed)
    with progress.working("scores and lists"):
        touched = _rename_anchors(store, person, changed)
    _rename_months(store, LAST_TABLE, person, progress, changed)
    with progress.working("rewriting tables"):
        changed.left += [said for said in rewrite_tables(store.database, touched) if said not in changed.left]
    return changed


def _rename_files(settings: Settings, person: Person, contract: Contract, changed: Found) -> None:
    for path, _ in list(search_rows(settings.workspace, person.entity, person.identifier)):
        rewrite_rows(path, partial(_renamed_file, person.erased, contract))
        changed.files.append(str(path))
    busy = rewrite_spool(settings.scores_path, partial(renamed_line, person.erased, personal_columns(contract)))
    changed.left += [f"scores wait in {file}, and are renamed when the service sends them" for file in busy]
    if is_distinct(person.identifier):
        for path in list(search(settings.workspace, person.identifier, [settings.postgres_folder])):
            if can_be_changed(path):
                rename_in(path, person.identifier, person.pseudonym)
                changed.files.append(str(path))


def _rename_months(store: MonthStore, name: str, person: Person, progress: Progress, changed: Found) -> None:
    table = store.table(name)
    counts = _by_month(store, table, person)
    for month in sorted(counts):
        with progress.working(name, month):
            _rename_month(store, table, month, person)
        changed.months.setdefault(name, {})[month] = counts[month]


# Where a restore looks for persons who are not erased to the end, besides the transactions of months.
ANCHORS = ("recent_transactions", "scored_transactions", "entity_lists")


def _rename_anchors(store: MonthStore, person: Person, changed: Found) -> set[tuple[str, str]]:
    """Renames the person in scores and lists, in one transaction; the tables that were changed."""
    with store.database.session() as connection:
        scored = _scored(connection, store.contract, person)
        connection.cursor().executemany(
            "UPDATE public.scored_transactions SET transaction = %s::json, features = %s::json, "
            "more_features = %s::json WHERE number = %s",
            scored,
        )
        recent = _recent(connection, person)
        if recent:
            _rename_recent(connection, store.contract, person)
        # As whoever adds to lists does: numbers become visible in their order.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.entity_lists'))")
        listed = _listed(connection, person)
        # With new numbers, by which running services notice.
        connection.execute(RELISTED, {"numbers": listed, "value": person.pseudonym})
        if is_distinct(person.identifier):
            texts = texts_of(connection, person.identifier, lambda table: table in ANCHORS)
            rename_texts(connection, texts, person.identifier, person.pseudonym)
            changed.rows |= {text.where: text.n for text in texts}
    counts = dict(zip(ANCHORS, (len(recent), len(scored), len(listed)), strict=True))
    found = {name: n for name, n in counts.items() if n}
    changed.rows |= found
    return {("public", name) for name in found}


RELISTED = """
WITH gone AS (DELETE FROM public.entity_lists WHERE number = ANY(%(numbers)s) RETURNING *)
INSERT INTO public.entity_lists (recorded_at, change, list, action, entity, value, reason, actor, since, until)
SELECT recorded_at, change, list, action, entity, %(value)s, reason, actor, since, until FROM gone ORDER BY number
"""


def _renamed_file(erased: Erased, contract: Contract, rows: pa.Table) -> pa.Table:
    return erased.renamed(rows, tuple(contract.entities), personal_columns(contract))


def _rename_month(store: MonthStore, table: Table, month: str, person: Person) -> None:
    """Rewrites a month with the pseudonym, under the name that it had."""
    written = store.versions(table.name, month).to_pylist()[-1]
    rows = store.read(table.name, first_month=month, last_month=month).replace_schema_metadata(None)
    renamed = renamed_rows(person.erased, rows.cast(table.schema), table, store.contract)
    with store.database.session() as connection:
        # Before the rows: a name for rows that never come does no harm.
        keep_name(
            connection, table.name, month, written["digest"], digest_table(renamed, ignore=table.volatile), "person"
        )
    inputs = json.loads(written["inputs"]) if written["inputs"] else None
    store.replace_months(table.name, renamed, [month], inputs=inputs)


def _rename_recent(connection: psycopg.Connection[Any], contract: Contract, person: Person) -> None:
    personal = [name for name in personal_columns(contract) if name not in contract.entities]
    empty = [sql.SQL("{} = NULL").format(sql.Identifier(name)) for name in personal]
    connection.execute(
        sql.SQL("UPDATE public.recent_transactions SET {} WHERE {} = %s").format(
            sql.SQL(", ").join([sql.SQL("{} = %s").format(sql.Identifier(person.entity)), *empty]),
            sql.Identifier(person.entity),
        ),
        [int(person.pseudonym) if person.is_number else person.pseudonym, person.value],
    )


def _tell_ledger(settings: Settings, store: MonthStore, entry: Entry, reason: str, actor: str, changed: Found) -> None:
    rows = sum(n for months in changed.months.values() for n in months.values())
    said = f"A person was erased ({entry.entity}): {rows} rows of months. {reason}"
    evidence = {BY_HAND: {"erased": entry.hash, "table months": str(sum(map(len, changed.months.values())))}}
    ledger = LedgerStore(store.database, settings.ledger_head_file)
    ledger.record(
        "erased", NO_MODEL, f"{datetime.now(UTC):%Y-%m}", [Reason(Rule.ERASED, said)], actor=actor, evidence=evidence
    )
