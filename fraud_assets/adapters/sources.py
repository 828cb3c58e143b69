"""Where transactions come from: the simulator, folders of Parquet or CSV files, a Postgres table or query.

A source gives a month as it is delivered; what its columns mean is the contract's, and is applied by `core/intake.py`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from psycopg import sql

from fraud_assets.adapters.database import Database
from fraud_assets.core.contract import Contract, ContractError
from fraud_assets.core.intake import Delivery, IntakeError, accept
from fraud_assets.core.months import month_end, month_start, months_between, shift_month
from fraud_assets.core.simulator import SimulatorConfig, parse_drifts, simulate_month
from fraud_assets.settings import Settings


class SourceError(ValueError):
    """A month that a source does not have, or cannot be read."""


class Source(Protocol):
    """Delivers months."""

    def has(self, month: str) -> bool:
        """Whether there is anything to read for the month."""

    def read(self, month: str) -> Delivery:
        """The month's rows, under the source's own column names.

        Raises:
            SourceError: naming the file or query, and what to do.
        """


class SimulatorSource:
    """The simulated world."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Takes the world's size, seed and drifts."""
        self.config = config

    def has(self, month: str) -> bool:  # noqa: ARG002 - a simulated world has every month
        """Always."""
        return True

    def read(self, month: str) -> Delivery:
        """Simulates the month."""
        return Delivery(_simulated(month, self.config), f"simulator {month}")


# A month's labels are told over the months after it, so each month is read again by the next ones.
@lru_cache(maxsize=5)
def _simulated(month: str, config: SimulatorConfig) -> pa.Table:
    return simulate_month(month, config)


class FolderSource:
    """A folder with one or more files a month, named by the contract's `file_pattern`."""

    def __init__(self, folder: Path, pattern: str, file_format: str) -> None:
        """Takes the folder, a pattern such as `transactions_{month}.parquet`, and `parquet` or `csv`."""
        self.folder, self.pattern, self.format = folder, pattern, file_format

    def has(self, month: str) -> bool:
        """Whether a file matches."""
        return bool(self._files(month))

    def read(self, month: str) -> Delivery:
        """Reads the month's files; CSV values stay text, for the contract to convert."""
        if not self.folder.is_dir():
            raise SourceError(f"FRAUD_SOURCE_PATH {self.folder} is not a folder")
        files = self._files(month)
        if not files:
            names = sorted(path.name for path in self.folder.iterdir())[:12]
            raise SourceError(
                f"{self.folder} has no file {self.pattern.format(month=month)!r} for {month}; it has {names}"
            )
        read = read_parquet if self.format == "parquet" else read_csv
        tables = [read(path) for path in files]
        if any(set(table.column_names) != set(tables[0].column_names) for table in tables):
            raise SourceError(f"the files of {month} in {self.folder} have different columns")
        try:
            rows = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise SourceError(
                f"the files of {month} in {self.folder} have columns of different types: {error}"
            ) from error
        return Delivery(rows, ", ".join(path.name for path in files))

    def _files(self, month: str) -> list[Path]:
        return sorted(self.folder.glob(self.pattern.format(month=month)))


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file's rows.

    Raises:
        SourceError: when it is no Parquet file, or a part of one.
    """
    try:
        return pyarrow.parquet.read_table(path).replace_schema_metadata(None)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} cannot be read as Parquet: {error}; deliver the file again") from error


def read_table(path: Path) -> pa.Table:
    """A file's rows, Parquet or CSV by its ending.

    Raises:
        SourceError: when there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    return read_parquet(path) if path.suffix == ".parquet" else read_csv(path)


def read_csv(path: Path) -> pa.Table:
    """A CSV file's rows, every value as text; a byte order mark and gzip are seen through.

    Raises:
        SourceError: when it is no CSV in UTF-8.
    """
    try:
        with pa.input_stream(path, compression="detect") as stream:
            text = stream.read()
        header = text.split(b"\n", 1)[0].decode("utf-8-sig").strip("\r\n")
        names = next(csv.reader([header]), [])
        return pyarrow.csv.read_csv(
            pa.BufferReader(text.removeprefix(b"\xef\xbb\xbf")),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=["", "NULL"],
            ),
        )
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            f"{path} cannot be read as UTF-8 CSV: {error}; correct the file, or deliver it again"
        ) from error


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

    def has(self, month: str) -> bool:
        """Whether any row lies in the month."""
        return bool(self._select("1", month, "LIMIT 1").num_rows)

    def read(self, month: str) -> Delivery:
        """Reads the month's rows, all columns."""
        return Delivery(self._select("*", month, ""), f"{self.name} {month}")

    def _select(self, columns: str, month: str, tail: str) -> pa.Table:
        # Here, because it brings pandas: a second for commands that need no source.
        from adbc_driver_manager import Error

        column = sql.Identifier(self.contract.event_timestamp.column).as_string()
        first, last = (sql.Literal(moment.isoformat()).as_string() for moment in (month_start(month), month_end(month)))
        try:
            with self.database.bulk() as connection, connection.cursor() as cursor:
                # A column without a time zone is compared in the session's, which is thus the contract's.
                cursor.execute("SELECT set_config('TimeZone', $1, true)", [self.contract.event_timestamp.timezone])
                cursor.fetchall()
                cursor.execute(
                    f"SELECT {columns} FROM {self.relation} "
                    f"WHERE {column} >= timestamptz {first} AND {column} < timestamptz {last} {tail}"
                )
                return cursor.fetch_arrow_table()
        except Error as error:
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
    return FolderSource(settings.source_folder, contract.file_pattern, settings.source)


@dataclass(frozen=True)
class KnownStatements:
    """Label statements, and the deliveries whose statements could not be read, with the reason."""

    statements: pa.Table
    refused: dict[str, str]


def statements_known_in(source: Source, contract: Contract, months: Sequence[str]) -> KnownStatements:
    """The statements that became known during `months`, about transactions of these and of earlier months.

    An earlier delivery that breaks the contract is reported, not fatal: its labels come when it has been corrected.

    Args:
        source: delivers transactions with their labels.
        contract: says how far back a label can reach.
        months: consecutive months, in order.
    """
    start, end = month_start(months[0]), month_end(months[-1])
    first = max(shift_month(months[0], -contract.label.lookback_months), contract.first_month)
    found, refused = [contract.labels_schema().empty_table()], {}
    for month in months_between(first, months[-1]):
        if not source.has(month):
            continue
        try:
            statements = accept(source.read(month), contract, month).statements
        except (SourceError, ContractError, IntakeError) as error:
            refused[month] = str(error)
            continue
        known = statements["label_timestamp"]
        found.append(
            statements.filter(
                pc.and_(
                    pc.greater_equal(known, pa.scalar(start, known.type)),
                    pc.less(known, pa.scalar(end, known.type)),
                )
            )
        )
    return KnownStatements(pa.concat_tables(found), refused)
