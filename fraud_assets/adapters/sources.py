"""Where transactions come from: the simulator, folders of files, a Postgres table or query.

A source gives a month as it is delivered. How a file is read belongs to `adapters/files/reader.py`; what the columns
mean is the contract's, and is applied by `core/intake/accept.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import pyarrow as pa
from psycopg import sql

from fraud_assets.adapters.files.reader import SourceError as SourceError
from fraud_assets.adapters.files.reader import open_rows
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.digests import digest_text
from fraud_assets.core.intake.accept import Delivery, Part
from fraud_assets.core.intake.rows import Piece
from fraud_assets.core.intake.spool import BATCH_ROWS
from fraud_assets.core.simulator import SimulatorConfig, parse_drifts, simulate_month
from fraud_assets.settings import Settings


class Source(Protocol):
    """Delivers months."""

    def has(self, month: str) -> bool:
        """Whether there is anything to read for the month."""

    def fingerprint(self, month: str) -> str | None:
        """What changes when the month's delivery does, found without reading it; None where there is no telling."""

    def read(self, month: str) -> Delivery:
        """The month's rows, under the source's own column names.

        Raises:
            SourceError: naming the file or query, and what to do; also while the parts are read.
        """


class SimulatorSource:
    """The simulated world."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Takes the world's size, seed and drifts."""
        self.config = config

    def has(self, month: str) -> bool:  # noqa: ARG002 - a simulated world has every month
        """Always."""
        return True

    def fingerprint(self, month: str) -> str:
        """The world, and the month."""
        return digest_text(repr(self.config), month)

    def read(self, month: str) -> Delivery:
        """Simulates the month."""
        part = Part(f"simulator {month}", lambda: iter(_simulated(month, self.config).to_batches(BATCH_ROWS)))
        return Delivery([part], self.fingerprint(month))


# A delivery that has an id twice is read twice.
@lru_cache(maxsize=1)
def _simulated(month: str, config: SimulatorConfig) -> pa.Table:
    return simulate_month(month, config)


class FolderSource:
    """A folder with one or more files a month, or with files that hold all months."""

    def __init__(self, folder: Path, pattern: str, contract: Contract | None = None) -> None:
        """Takes what says where the files are and how they are written.

        Args:
            folder: where they are.
            pattern: their names, such as `transactions_{month}.parquet`; without `{month}`, a file has all months.
            contract: says how the files are written; what a file is follows from its content.
        """
        self.folder, self.pattern, self.contract = folder, pattern, contract

    def has(self, month: str) -> bool:
        """Whether a file matches."""
        return bool(self._files(month))

    def fingerprint(self, month: str) -> str | None:
        """Names, sizes and times of the files; None when there are none."""
        files = self._files(month)
        return digest_text(*(f"{self._name(path)} {_state(path)}" for path in files)) if files else None

    def read(self, month: str) -> Delivery:
        """The month's files, in the order of their names; CSV values stay text, for the contract to convert."""
        if not self.folder.is_dir():
            raise SourceError(f"FRAUD_SOURCE_PATH {self.folder} is not a folder")
        files = self._files(month)
        if not files:
            names = sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))[:12]
            raise SourceError(
                f"{self.folder} has no file {self.pattern.format(month=month)!r} for {month}; it has {names}: deliver "
                "the file, or correct file_pattern in the contract"
            )
        fingerprint = self.fingerprint(month)
        parts = [Part(self._name(path), partial(self._pieces, path, _state(path))) for path in files]
        return Delivery(parts, fingerprint, whole="{month}" not in self.pattern)

    def _pieces(self, path: Path, state: str) -> Iterator[Piece]:
        """A file's rows, if it is from beginning to end the file that it was when it was found."""
        try:
            partitions = _partitions(path, self.folder)
            wanted = [name for name in self.contract.source_columns if name not in partitions] if self.contract else ()
            for piece in open_rows(path, self.contract, wanted=wanted).pieces():
                yield _with_partitions(piece, partitions) if partitions else piece
        except SourceError:
            # Half a file is mostly one that is still being written.
            if _state(path) == state:
                raise
        if _state(path) != state:
            raise SourceError(
                f"{path} changed while it was read; deliver it under another name, rename it when it is complete, and "
                "run the month again"
            )

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _files(self, month: str) -> list[Path]:
        return matching_files(self.folder, self.pattern, month)


def matching_files(folder: Path, pattern: str, month: str | None = None) -> list[Path]:
    """The files of a pattern, in the order of their names.

    A folder that it matches stands for the files in it, as Spark and Hive write them (`month=2024-01/part-0.parquet`);
    so do the folders `year=2024/month=1` where nothing has the month itself in its name.

    Args:
        folder: where they are.
        pattern: with or without `{month}`.
        month: which; all months when absent.
    """
    if not folder.is_dir():
        return []
    named = pattern.replace("{month}", "*" if month is None else month)
    # Between slashes, ** would be folders; beside anything else pathlib refuses it.
    named = "/".join(part if part == "**" else re.sub(r"\*{2,}", "*", part) for part in named.split("/"))
    # Named as they are, files may begin with a sign; found anywhere, those that do are the writers' own.
    found = [path for path in folder.glob(named) if not ("**" in named and _is_hidden(path, folder))]
    found = [path for path in found if not path.name.startswith((".", "~$")) or named.startswith(path.name[0])]
    if not found and month is not None and "{month}" in pattern:
        year, number = month.split("-")
        found = [
            path
            for path in folder.glob("*=*/*=*")
            if path.is_dir() and _partitions(path, folder) in _month_folders(year, int(number))
        ]
    files = {path for path in found if path.is_file()}
    for inner in (path for path in found if path.is_dir()):
        files |= {path for path in inner.rglob("*") if path.is_file() and not _is_hidden(path, folder)}
    return sorted(files)


def _month_folders(year: str, month: int) -> list[dict[str, str]]:
    return [{"year": year, "month": text} for text in {str(month), f"{month:02}"}]


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file is one that writers keep for themselves: _SUCCESS, _delta_log/..., .part-0000.parquet.crc."""
    return any(part.startswith(("_", ".")) and "=" not in part for part in path.relative_to(folder).parts)


def _partitions(path: Path, folder: Path) -> dict[str, str | None]:
    """The columns that the names of folders hold, by their names in lower case as Hive has them."""
    found: dict[str, str | None] = {}
    inner = path.relative_to(folder)
    for part in (inner if path.is_dir() else inner.parent).parts:
        key, equals, value = part.partition("=")
        if key and equals:
            found[unquote(key)] = None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)
    return found


def _with_partitions(piece: Piece, partitions: dict[str, str | None]) -> Piece:
    """Rows with the columns that the names of their folders hold; a column of the file itself counts first."""
    rows = piece.rows
    for name, value in partitions.items():
        if name not in rows.schema.names:
            rows = rows.append_column(name, pa.array([value] * rows.num_rows, pa.string()))
    return replace(piece, rows=rows)


def _state(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:
        return "absent"
    return f"{found.st_size} {found.st_mtime_ns}"


def read_table(path: Path, contract: Contract | None = None, *, wanted: Sequence[str] = ()) -> pa.Table:
    """All rows of a file of any kind, read as the contract says.

    Raises:
        SourceError: when there is no such file, it cannot be read, or a line of it is no row.
    """
    opened = open_rows(path, contract, wanted=wanted)
    rows = opened.table()
    if opened.rejected:
        first = opened.rejected[0]
        raise SourceError(
            f"{path}: {len(opened.rejected)} of {opened.n_counted} lines are no rows; line {first.line} "
            f"{first.reason}: {first.text[:80]!r}; correct the file"
        )
    return rows


class PostgresSource:
    """A table or SELECT statement of a Postgres database, cut into months by the event time's column."""

    def __init__(self, database: Database, query: str, contract: Contract) -> None:
        """Takes the database, a table's name or a SELECT, and the contract that names the time column.

        Raises:
            SourceError: when the contract names no transaction_id: the rows of a query have no order that would
                give them the same one each time.
        """
        if contract.transaction_id is None:
            raise SourceError(f"a postgres source needs a transaction_id, and contract {contract.name!r} names none")
        self.database, self.contract, self.name = database, contract, query if len(query) < 60 else "query"
        is_select = re.match(r"(select|with)\b", query.strip(), re.IGNORECASE)
        table = sql.Identifier(*query.strip().split(".")).as_string()
        # On a line of its own, the bracket is no part of a comment at the query's end.
        self.relation = f"({query.strip().rstrip(';')}\n) AS source" if is_select else table
        when = contract.event_timestamp
        # A time that has to be put together or converted first is no column that the server could compare.
        self.is_cut_here = len(when.columns) > 1 or when.unit is not None or when.format is not None

    def has(self, month: str) -> bool:
        """Whether any row lies in the month."""
        return any(batch.num_rows for batch in self._select("1", month, "LIMIT 1"))

    def fingerprint(self, month: str) -> None:
        """Nothing tells that rows changed but reading them all."""

    def read(self, month: str) -> Delivery:
        """The month's rows, all columns."""
        return Delivery([Part(f"{self.name} {month}", partial(self._select, "*", month, ""))], whole=self.is_cut_here)

    def _select(self, columns: str, month: str, tail: str) -> Iterator[pa.RecordBatch]:
        # Here, because it brings pandas: a second for commands that need no source.
        from adbc_driver_manager import Error

        column = sql.Identifier(self.contract.event_timestamp.columns[0]).as_string()
        bounds = (self.contract.month_start(month), self.contract.month_end(month))
        first, last = (sql.Literal(moment.isoformat()).as_string() for moment in bounds)
        try:
            with self.database.bulk() as connection, connection.cursor() as cursor:
                # A column without a time zone is compared in the session's, which is thus the contract's.
                cursor.execute("SELECT set_config('TimeZone', $1, true)", [self.contract.timezone])
                cursor.fetchall()
                within = f"WHERE {column} >= timestamptz {first} AND {column} < timestamptz {last}"
                cursor.execute(f"SELECT {columns} FROM {self.relation} {'' if self.is_cut_here else within} {tail}")
                yield from cursor.fetch_record_batch()
        except (Error, pa.ArrowException, OSError) as error:
            raise SourceError(
                f"{self.name} cannot be read for {month}: {error}; check FRAUD_SOURCE_URL, FRAUD_SOURCE_QUERY and the "
                f"event_timestamp of contract {self.contract.name!r}"
            ) from error


def open_source(settings: Settings) -> Source:
    """The source that the settings name.

    Raises:
        SourceError: when a setting that the source needs is missing.
    """
    contract = settings.loaded_contract
    if settings.source == "simulator":
        return SimulatorSource(
            SimulatorConfig(
                customers=settings.simulator_customers,
                terminals=settings.simulator_terminals,
                seed=settings.simulator_seed,
                drifts=parse_drifts(settings.simulator_drift),
            )
        )
    if settings.source == "postgres":
        if not settings.source_url or not settings.source_query:
            raise SourceError("a postgres source needs FRAUD_SOURCE_URL and FRAUD_SOURCE_QUERY (a table or a SELECT)")
        return PostgresSource(Database(settings.source_url), settings.source_query, contract)
    if settings.source_folder is None:
        raise SourceError(f"a {settings.source} source needs FRAUD_SOURCE_PATH, the folder with the files")
    return FolderSource(settings.source_folder, contract.file_pattern, contract)
