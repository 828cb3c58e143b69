"""Where label statements lie, and what a month of `fraud_labels` is made of.

The table of added statements is append-only, and the same statement is stored once; rows of label files that cannot
be used stay in `quarantined_labels`. How a file's rows are read belongs to `core/labels/feed.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from psycopg.types.json import Jsonb

from fraud_assets.adapters.asked.labels import COLUMNS, FEEDBACK, LOCK, NEW_STATEMENTS, STATED
from fraud_assets.adapters.files.dialects import open_by_header
from fraud_assets.adapters.files.reader import OpenedFile, SourceError, open_rows, together
from fraud_assets.adapters.people.book import read_erased
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource, Source
from fraud_assets.core.contracts.contract import TIMESTAMP, Contract, LabelFeed
from fraud_assets.core.digests import digest_text
from fraud_assets.core.intake.accept import IntakeError
from fraud_assets.core.labels.as_of import count_premature
from fraud_assets.core.labels.completeness import COMPLETENESS_MONTHS, Completeness, label_completeness
from fraud_assets.core.labels.feed import (
    PART_ROWS,
    RefusedFor,
    StatedRows,
    by_reason,
    commonest_reason,
    feed_refusal,
    gather_statements,
    has_layout,
    layouts,
    read_statements,
    refuse_premature,
    statement_digest,
)
from fraud_assets.core.lineage.staleness import Inputs, contract_inputs, inputs_of
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.reasons import read_reasons, reasons_from_json, reasons_to_json
from fraud_assets.settings import Settings
from fraud_assets.workflows.runs.run_months import materialize_months

# Statements that people add


def record_added(database: Database, taken: pa.Table) -> pa.Table:
    """Appends statements, each once.

    Args:
        database: where they are kept.
        taken: as `StatedRows.taken`.

    Returns:
        The rows of `taken` that were new; the others repeat what had been added before, or in an earlier row.
    """
    names = [*STATED, "file", "row_number", "is_dated"]
    with database.session() as connection:
        connection.execute(LOCK)
        connection.execute(f"CREATE TEMP TABLE incoming ({COLUMNS}) ON COMMIT DROP".encode())
        with connection.cursor().copy("COPY incoming FROM STDIN") as copy:
            for row in taken.select(names).to_pylist():
                copy.write_row((*row.values(), statement_digest(*(row[name] for name in STATED[:3]))))
        new = [number for (number,) in connection.execute(NEW_STATEMENTS).fetchall()]
    return taken.filter(pc.is_in(taken["row_number"], pa.array(new, pa.int64())))


def added_statements(database: Database, contract: Contract, month: str) -> tuple[pa.Table, str | None]:
    """The added statements that became known in a month, and the digest that names them (None without any)."""
    rows = _added(database, ", ".join((*STATED, "file", "row_number", "statement")), contract, month)
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 7
    # Ids are kept as text, whatever their type in the contract.
    kinds = (pa.string(), pa.bool_(), TIMESTAMP, pa.string())
    stated = {name: pa.array(column, kind) for name, column, kind in zip(STATED, columns, kinds, strict=False)}
    stated["transaction_id"] = stated["transaction_id"].cast(contract.transaction_id_type)
    origin = [f"{file} row {number}" for file, number in zip(columns[4], columns[5], strict=True)]
    table = pa.table({**stated, "origin": pa.array(origin, pa.string())})
    return table, digest_text(*columns[6]) if rows else None


def added_digest(database: Database, contract: Contract, month: str) -> str | None:
    """The name of the statements added for a month, as it is recorded with what was made of them."""
    names = [name for (name,) in _added(database, "statement", contract, month)]
    return digest_text(*names) if names else None


def _added(database: Database, columns: str, contract: Contract, month: str) -> list[tuple[Any, ...]]:
    return database.rows(
        "added_labels",
        f"SELECT {columns} FROM added_labels WHERE label_timestamp >= %s AND label_timestamp < %s ORDER BY statement",
        [contract.month_start(month), contract.month_end(month)],
    )


def months_with_feedback(store: MonthStore, after: int | None) -> tuple[int, list[str]]:
    """The stored months for which labels have come over HTTP.

    Args:
        store: the tables.
        after: number of the label after which they are looked for; None asks for none, and only where the last one is.

    Returns:
        The number of the last label of all, and the months.
    """
    database = store.database
    found = database.rows("added_labels", "SELECT max(number) FROM added_labels HAVING max(number) IS NOT NULL")
    newest = int(found[0][0]) if found else 0
    rows = database.rows(
        "added_labels",
        "SELECT DISTINCT label_timestamp FROM added_labels WHERE number > %s AND number <= %s AND file LIKE %s",
        [newest if after is None else after, newest, f"{FEEDBACK}%"],
    )
    stored = store.months("fraud_labels")
    return newest, sorted({month for (known,) in rows if (month := store.contract.month_of(known)) in stored})


def quarantine(store: MonthStore, refused: pa.Table, *, instead_of: tuple[str, ...] = ()) -> None:
    """Keeps rows of label files that cannot be used, each once.

    Args:
        store: where they are kept.
        refused: as `StatedRows.refused`; of a person who was erased, no more than the pseudonym is kept.
        instead_of: files whose earlier rows are forgotten, because they have been read again.
    """
    erased = read_erased(store.database)
    columns = {name: column.column for name, column in store.contract.entities.items()}
    with store.database.session() as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('fraud_assets.quarantined_labels'))")
        connection.execute("DELETE FROM quarantined_labels WHERE file = ANY(%s)", [list(instead_of)])
        for part in refused.to_batches(max_chunksize=PART_ROWS):
            connection.cursor().executemany(
                "INSERT INTO quarantined_labels (file, row_number, reasons, original, refusal) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (refusal) DO NOTHING",
                [
                    [
                        *(row["file"], row["row_number"], Jsonb(json.loads(row["reasons"]))),
                        *((erased and erased.original(row["original"], columns)) or row["original"], _refusal(row)),
                    ]
                    for row in part.to_pylist()
                ],
            )


def _refusal(row: Mapping[str, Any]) -> str:
    """Names a refused row: by its file, its values and the rules that it breaks, however these are worded."""
    broken = [part for one in reasons_from_json(row["reasons"]) for part in (one.rule, one.column or "")]
    return digest_text(row["file"], str(row["row_number"]), row["original"], *broken)


def refused_rows(database: Database) -> pa.Table:
    """The rows of label files that could not be used, as `StatedRows.refused`."""
    names = ("file", "row_number", "reasons", "original")
    statement = f"SELECT {', '.join(names)} FROM quarantined_labels ORDER BY file, row_number"
    found = database.rows("quarantined_labels", statement)
    rows = [(file, number, reasons_to_json(read_reasons(why)), original) for file, number, why, original in found]
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    kinds = (pa.string(), pa.int64(), pa.string(), pa.string())
    return pa.table({name: pa.array(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)})


def seen_transactions(store: MonthStore, identifiers: pa.ChunkedArray, last_month: str | None = None) -> pa.Table:
    """The stored transactions with these ids: `transaction_id`, `event_timestamp` and the entities.

    Args:
        store: the tables.
        identifiers: of the type of transaction_id.
        last_month: the last month to look in; all when absent.
    """
    schema = store.contract.transactions_schema()
    names = ["transaction_id", "event_timestamp", *store.contract.entities]
    statement = sql.SQL("SELECT {} FROM raw_transactions WHERE transaction_id = ANY(%s)").format(
        sql.SQL(", ").join(map(sql.Identifier, names))
    )
    parameters: list[Any] = [identifiers.unique().to_pylist()]
    if last_month is not None:
        statement += sql.SQL(" AND event_timestamp < %s")
        parameters.append(store.contract.month_end(last_month))
    rows = store.database.rows("raw_transactions", statement, parameters) if len(identifiers) else []
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
    return pa.table(
        {name: pa.array(column, schema.field(name).type) for name, column in zip(names, columns, strict=True)}
    )


# The feed's files


def feed_files(source: Source, contract: Contract, month: str) -> list[Path]:
    """The files of the contract's label feed for a month; none where the contract has no feed.

    Raises:
        SourceError: when there is a feed, and the source is no folder that could hold it.
    """
    feed = contract.label.feed
    if feed is None:
        return []
    if not isinstance(source, FolderSource):
        raise SourceError(
            f"contract {contract.name!r} has a label feed, whose files lie beside those of the transactions; use a "
            "source of files, or give the labels in a column"
        )
    return sorted(source.folder.glob(feed.file_pattern.format(month=month)))


def feed_fingerprint(source: Source, contract: Contract, month: str) -> str | None:
    """Names a month's feed by the names, sizes and times of its files; None where there are none."""
    files = feed_files(source, contract, month)
    facts = [str(fact) for path in files for fact in (path.name, path.stat().st_size, path.stat().st_mtime_ns)]
    return digest_text(*facts) if files else None


# A month


@dataclass(frozen=True)
class MonthStatements:
    """What became known in a month.

    Attributes:
        rows: columns of `fraud_labels`.
        inputs: what they were made of.
        absent: what was looked for and is not there, as sentences.
        missing_file: the file that the month's feed should have and has not.
        n_refused: rows of the feed that cannot be used; they are in `quarantined_labels`.
        commonest_reason: why most of these cannot.
        n_unseen: statements about transactions that have not been seen.
        n_premature: statements from before their transaction, which count nowhere.
    """

    rows: pa.Table
    inputs: Inputs
    absent: tuple[str, ...]
    n_refused: int
    n_unseen: int
    n_premature: int
    missing_file: str | None = None
    commonest_reason: str | None = None


def month_statements(store: MonthStore, source: Source, month: str, *, now: datetime) -> MonthStatements:
    """Puts together every statement that became known in a month: delivered, from the feed, added.

    Args:
        store: the tables.
        source: where the feed's files lie, if the contract has one.
        month: the month.
        now: the present moment; the feed can tell of nothing after it.

    Raises:
        IntakeError: when too many rows of the feed cannot be used; they are in `quarantined_labels`.
        SourceError: when a file of the feed cannot be read.
    """
    contract = store.contract
    inputs: list[Any] = [contract_inputs(contract)]
    absent: list[str] = []
    delivered: list[pa.Table] = []
    if contract.label.feed is None:
        first = max(shift_month(month, -contract.label.lookback_months), contract.first_month)
        rows = store.read("delivered_labels", first_month=first, last_month=month)
        inputs.append(rows)
        delivered.append(_known_in(rows, contract, month))
        there = inputs_of(rows)["delivered_labels"]
        absent += [f"raw_transactions has no {name} yet" for name, digest in there.items() if digest is None]
    added, digest = added_statements(store.database, contract, month)
    inputs.append({"added_labels": {month: digest}})
    found, n_refused, reason, missing = [added] if added.num_rows else [], 0, None, None
    if contract.label.feed is not None:
        fingerprint = feed_fingerprint(source, contract, month)
        inputs.append({"label_feed": {month: fingerprint}})
        if fingerprint is None:
            missing = contract.label.feed.file_pattern.format(month=month)
            absent.append(f"the label feed has no file {missing!r}")
        else:
            fed, refused = _read_feed(store, contract.label.feed, feed_files(source, contract, month), month, now)
            n_refused, reason = refused.num_rows, commonest_reason(refused)
            found.append(fed)
    identifiers = pa.chunked_array([], contract.transaction_id_type)
    if found:
        identifiers = pa.chunked_array([part["transaction_id"].combine_chunks() for part in found])
        # Before the look-up: what is replaced in between is then stale from the start.
        stored = store.months("raw_transactions")
        inputs.append(
            {"raw_transactions": {name: stored.get(name) for name in months_between(contract.first_month, month)}}
        )
    rows = gather_statements([*delivered, *found], seen_transactions(store, identifiers, month), contract)
    return MonthStatements(
        rows,
        inputs_of(*inputs),
        tuple(absent),
        n_refused,
        rows["event_timestamp"].null_count,
        count_premature(rows),
        missing,
        reason,
    )


def _known_in(rows: pa.Table, contract: Contract, month: str) -> pa.Table:
    known = rows["label_timestamp"]
    start, end = (pa.scalar(edge, TIMESTAMP) for edge in (contract.month_start(month), contract.month_end(month)))
    rows = rows.filter(pc.and_(pc.greater_equal(known, start), pc.less(known, end)))
    return rows.append_column("origin", pa.array(["delivery"] * rows.num_rows, pa.string()))


def _read_feed(
    store: MonthStore, feed: LabelFeed, files: list[Path], month: str, now: datetime
) -> tuple[pa.Table, pa.Table]:
    """The feed's statements of a month, and its rows that cannot be used; those go to `quarantined_labels`.

    Raises:
        IntakeError: when these are too many.
    """
    read = read_feed(store.contract, feed, files, month, now)
    refused = pa.concat_tables([one.refused for one in read])
    quarantine(store, refused, instead_of=tuple(path.name for path in files))
    if refusal := feed_refusal(read, store.contract, month):
        raise IntakeError(refusal)
    taken = pa.concat_tables([one.taken for one in read])
    origin = pc.binary_join_element_wise(taken["file"], pc.cast(taken["row_number"], pa.string()), " row ")
    return taken.select(list(STATED)).append_column("origin", origin), refused


def read_feed(
    contract: Contract, feed: LabelFeed, files: Sequence[Path], month: str, now: datetime
) -> list[StatedRows]:
    """What the files of a month's feed say; nothing is stored."""
    read = []
    for path in files:
        opened = open_rows(path, contract, wanted=(feed.transaction_id, feed.is_fraud, *feed.known.columns))
        rows, numbers = _rows_of(opened)
        read.append(
            read_statements(
                rows, feed, contract, file=path.name, now=now, month=month, numbers=numbers, rejected=opened.rejected
            )
        )
    return read


def _rows_of(opened: OpenedFile) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """A file's rows, and which row of the file each is."""
    pieces = list(opened.pieces())
    numbers = [piece.numbers for piece in pieces]
    return together([piece.rows for piece in pieces], opened.names), np.concatenate([np.array([], np.int64), *numbers])


# Completeness


def read_completeness(store: MonthStore, month: str, rows: pa.Table | None = None) -> Completeness:
    """How complete the labels of the months up to `month` are, as known at its end.

    Args:
        store: the tables.
        month: the newest month.
        rows: its statements, where they are not stored yet.
    """
    contract = store.contract
    months = months_between(max(shift_month(month, 1 - COMPLETENESS_MONTHS), contract.first_month), month)
    columns = ["transaction_id", "event_timestamp", "is_fraud", "label_timestamp", "label_source"]
    last = month if rows is None else shift_month(month, -1)
    statements = (
        [store.read("fraud_labels", columns, first_month=months[0], last_month=last)] if months[0] <= last else []
    )
    if rows is not None:
        statements.append(rows.select(columns))
    together = pa.concat_tables([part.replace_schema_metadata(None) for part in statements], promote_options="default")
    return label_completeness(
        _hours(store, months[0], month),
        together,
        contract.month_end(month),
        maturity_days=contract.maturity_days,
        months=[(name, contract.month_start(name), contract.month_end(name)) for name in months],
        blank=contract.label.blank,
    )


def _hours(store: MonthStore, first: str, last: str) -> pa.Table:
    rows = store.database.rows(
        "raw_transactions",
        "SELECT date_trunc('hour', event_timestamp), count(*) FROM raw_transactions "
        "WHERE event_timestamp >= %s AND event_timestamp < %s GROUP BY 1",
        [store.contract.month_start(first), store.contract.month_end(last)],
    )
    hours, counts = zip(*rows, strict=True) if rows else ((), ())
    return pa.table({"hour": pa.array(hours, TIMESTAMP), "n": pa.array(counts, pa.int64())})


def completeness_rows(completeness: Completeness) -> list[dict[str, Any]]:
    """The months as plain values, with `status`: matured or provisional, and `is_short`."""
    return [
        asdict(month) | {"status": "matured" if month.is_matured else "provisional", "is_short": month.is_short}
        for month in completeness.months
    ]


# Adding a file


@dataclass(frozen=True)
class Added:
    """What came of a label file.

    Attributes:
        file: its name.
        taken: statements that are new.
        repeated: rows that say what had been said.
        unseen: new statements about transactions that have not been seen.
        refused_rows: rows that cannot be used, as `StatedRows.refused`.
        refused_for: the same by their reasons, with the first rows of each.
        months: new statements by the month in which they became known.
        materialized: those of the months that were rebuilt.
        waiting: those that are not there yet, and take the statements in when they are run.
        failed: for a month that could not be rebuilt, why.
    """

    file: str
    taken: int
    repeated: int
    unseen: int
    refused_rows: pa.Table
    refused_for: list[RefusedFor]
    months: dict[str, int]
    materialized: list[str]
    waiting: list[str]
    failed: dict[str, str]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Each refused row: `row_number`, `reasons` (each with `rule`, `text` and `column`), `original`."""
        rows = self.refused_rows.drop_columns("file").to_pylist()
        return [row | {"reasons": json.loads(row["reasons"])} for row in rows]

    def to_dict(self, *, each: bool) -> dict[str, Any]:
        """As plain values.

        Args:
            each: also `refused`, each refused row; there may be a million.
        """
        plain = {name: value for name, value in vars(self).items() if name != "refused_rows"}
        plain["refused_for"] = [asdict(one) for one in self.refused_for]
        return plain | {"n_refused": self.refused_rows.num_rows} | ({"refused": self.refused} if each else {})


def add_file(
    job: Callable[[], dg.JobDefinition], settings: Settings, store: MonthStore, path: Path, *, now: datetime
) -> Added:
    """Takes in a chargeback or analyst file, and rebuilds the months of `fraud_labels` that it concerns.

    Args:
        job: gives the job that holds every asset; loading it takes seconds, and not every file needs it.
        settings: of the home.
        store: the tables.
        path: a file of any kind; columns `transaction_id`, `is_fraud`, and where they are known `label_timestamp` and
            `label_source`, or those of the contract's label feed or source.
        now: the present moment.

    Raises:
        SourceError: when the file cannot be read.
        ContractError: when it lacks a column.
    """
    contract = store.contract
    known = layouts(contract)
    wanted = [name for layout in known for name in (layout.transaction_id, layout.is_fraud)]
    opened = open_by_header(path, contract, lambda names: any(has_layout(names, one) for one in known), wanted)
    # Where none fits, the documented one says what is missing.
    layout = next((one for one in known if has_layout(opened.names, one)), known[0])
    rows, numbers = _rows_of(opened)
    read = read_statements(rows, layout, contract, file=path.name, now=now, numbers=numbers, rejected=opened.rejected)
    seen = seen_transactions(store, read.taken["transaction_id"]).sort_by("event_timestamp")
    earliest = seen.group_by("transaction_id").aggregate([("event_timestamp", "min")])
    read = refuse_premature(read, earliest.rename_columns(["transaction_id", "event_timestamp"]), rows, numbers)
    quarantine(store, read.refused)
    new = record_added(store.database, read.taken)
    unseen = pc.invert(pc.is_in(new["transaction_id"], seen["transaction_id"].combine_chunks()))
    months = Counter(contract.month_of(moment) for moment in new["label_timestamp"].to_pylist())
    stored = store.months("fraud_labels")
    concerned = sorted(month for month in months if month in stored)
    failed = (
        materialize_months(job(), settings, concerned, [dg.AssetKey("fraud_labels")], "fraud labels add")
        if concerned
        else {}
    )
    return Added(
        file=path.name,
        taken=new.num_rows,
        repeated=read.taken.num_rows - new.num_rows,
        unseen=int(pc.sum(unseen).as_py() or 0),
        refused_rows=read.refused,
        refused_for=by_reason(read.refused),
        months=dict(sorted(months.items())),
        materialized=[month for month in concerned if month not in failed],
        waiting=sorted(month for month in months if month not in stored),
        failed=failed,
    )
