"""Months into Postgres and out of it, against what Postgres itself needs for the same rows.

The floor is the server's own binary COPY between a table and a file beside it: no client, no checks, no digest, no
index. The platform's write is everything between the delivered Parquet file and the month that readers see: reading,
the contract's checks, quarantine, labels, digests and the swap, into a database that does not have the month yet.

A third question is how long an Excel workbook of 100,000 rows takes the same way.

    python -m benchmarks.io [--data DIR] [--month 2018-05] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import sqlalchemy
import xlsxwriter
from psycopg import sql

from benchmarks.platform import HANDBOOK, require_default_settings, scratch_home
from benchmarks.reporting import Row, argument_parser, at_least, at_most, report
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.month_writer import partition_name
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.adapters.sources import Source, open_source
from fraud_assets.core.intake.accept import Delivery, Part
from fraud_assets.core.lineage.tables.table import TIMESTAMP
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.arrivals import arriving, remember_ids

WRITE_OVER_COPY = 3.0
TO_SQL_OVER_WRITE = 10.0
READ_OVER_COPY = 2.0
MEMORY_MIB = 2048.0
MEMORY_ROWS = 13_000_000
WORKBOOK_SECONDS = 20.0
WORKBOOK_ROWS = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("Months into Postgres and out of it, against server-side COPY of the same rows.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of the Handbook's months")
    parser.add_argument("--month", default="2018-05", help="the month to write and read")
    parser.add_argument("--repeats", type=int, default=7, help="rounds; medians are reported")
    parser.add_argument("--memory-rows", type=int, default=MEMORY_ROWS, help="rows of the month that tests memory")
    parser.add_argument("--as-writer", action="store_true", help="be the process whose memory is measured")
    options = parser.parse_args(arguments)
    if options.as_writer:
        print(_write_large_month(options.data, options.month, options.memory_rows))
        return 0
    require_default_settings()
    if not (options.data / f"transactions_{options.month}.parquet").is_file():
        raise SystemExit(f"the Handbook's {options.month} is not in {options.data}; name the folder with --data")
    source = {
        "FRAUD_SOURCE": "parquet",
        "FRAUD_SOURCE_PATH": str(options.data.resolve()),
        "FRAUD_CONTRACT": "contracts/handbook.yaml",
    }
    with scratch_home(source) as environment:
        rows = _speed(environment, options.month, options.repeats)
    with scratch_home(source) as environment:
        rows += _memory(environment, options)
    with tempfile.TemporaryDirectory() as folder:
        workbooks = _as_workbooks(options.data, options.month, Path(folder))
        with scratch_home({"FRAUD_SOURCE": "files", **workbooks}) as environment:
            rows += _workbook(environment, options.month)
    return report("io", rows, options.json)


# --- Speed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """Seconds of one round: the platform and the floor right after one another, so that both see the same machine."""

    write: float
    copy_from: float
    read: float
    copy_to: float


def _speed(environment: dict[str, str], month: str, repeats: int) -> list[Row]:
    with settings_of(environment) as settings, _folder_for_the_server() as folder:
        store, source = open_store(settings, writing=True), open_source(settings)
        # What is imported and connected once a process, and the file in the system's cache, are no part of a write.
        write_month(source, store, month)
        rounds = [_round(source, store, month, folder / "month.copy") for _ in range(repeats)]
        stored = store.read("raw_transactions", first_month=month, last_month=month)
        to_sql = _to_sql(store.database, stored)
        store.database.close()

    def median(figure: Callable[[Round], float]) -> float:
        return statistics.median(map(figure, rounds))

    return [
        Row("rows", stored.num_rows, "rows"),
        Row("write_seconds", median(lambda one: one.write), "s"),
        Row("copy_from_seconds", median(lambda one: one.copy_from), "s"),
        at_most("write_over_copy_floor", median(lambda one: one.write / one.copy_from), "times", WRITE_OVER_COPY),
        Row("to_sql_seconds", to_sql, "s"),
        at_least("to_sql_over_write", to_sql / median(lambda one: one.write), "times", TO_SQL_OVER_WRITE),
        Row("read_seconds", median(lambda one: one.read), "s"),
        Row("copy_to_seconds", median(lambda one: one.copy_to), "s"),
        at_most("read_over_copy_floor", median(lambda one: one.read / one.copy_to), "times", READ_OVER_COPY),
    ]


def write_month(source: Source, store: MonthStore, month: str) -> None:
    """From the delivery to the stored month, as the asset `raw_transactions` does it, without Dagster."""
    with arriving(source, store, [month]) as arrivals:
        intake, inputs = arrivals[month].intake, arrivals[month].inputs
        bad = intake.quarantined
        first = pa.array([datetime.fromisoformat(f"{month}-01").date()] * bad.num_rows, pa.date32())
        store.replace_months("quarantined_transactions", bad.append_column("month", first), [month], inputs=inputs)
        store.replace_months("delivered_labels", intake.statements, [month], inputs=inputs)
        rows, now = intake.transactions(), pa.scalar(datetime.now(UTC), TIMESTAMP)
        schema = rows.schema.append(pa.field("ingested_at", TIMESTAMP, nullable=False))
        stamped = (pa.record_batch([*part.columns, pa.repeat(now, part.num_rows)], schema=schema) for part in rows)
        stream = pa.RecordBatchReader.from_batches(schema, stamped)
        store.replace_months("raw_transactions", {month: stream}, [month], inputs=inputs)
        remember_ids(store, {month: intake})


def _round(source: Source, store: MonthStore, month: str, file: Path) -> Round:
    home = sql.Identifier("months", partition_name(store.table("raw_transactions"), month))
    _forget(store, month)
    write = _timed(lambda: write_month(source, store, month))
    read = _timed(lambda: store.read("raw_transactions", first_month=month, last_month=month))
    copy_to = _timed(lambda: _run(store.database, sql.SQL("COPY {} TO {} (FORMAT BINARY)").format(home, str(file))))
    # In the transaction that creates the table, as the platform does: Postgres then needs no write-ahead log.
    create = sql.SQL("CREATE TABLE copied (LIKE {})").format(home)
    fill = sql.SQL("COPY copied FROM {} (FORMAT BINARY)").format(str(file))
    copy_from = _timed(lambda: _run(store.database, create, fill))
    _run(store.database, sql.SQL("DROP TABLE {}").format(sql.Identifier("copied")))
    return Round(write, copy_from, read, copy_to)


def _forget(store: MonthStore, month: str) -> None:
    """Takes the month out again; its tables stay, as they do from month to month."""
    names = [
        sql.Identifier("months", partition_name(store.table(name), month))
        for name in ("quarantined_transactions", "delivered_labels", "raw_transactions")
    ]
    delete = sql.SQL("DELETE FROM {} WHERE month = {}")
    known = [delete.format(sql.Identifier(name), month) for name in ("month_versions", "transaction_id_ranges")]
    _run(store.database, sql.SQL("DROP TABLE {}").format(sql.SQL(", ").join(names)), *known)


def _run(database: Database, *statements: sql.Composed) -> None:
    with database.session() as connection:
        for statement in statements:
            connection.execute(statement)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _to_sql(database: Database, rows: pa.Table) -> float:
    """The usual way, as its documentation shows it: no checks, no digest, no swap. Once, because it takes so long."""
    frame = rows.to_pandas()
    engine = sqlalchemy.create_engine(database.url.replace("postgresql://", "postgresql+psycopg://", 1))
    seconds = _timed(lambda: frame.to_sql("by_pandas", engine, index=False))
    engine.dispose()
    return seconds


@contextmanager
def _folder_for_the_server() -> Iterator[Path]:
    """A folder that the server may write to: started by root, it runs as a user of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@contextmanager
def settings_of(environment: dict[str, str]) -> Iterator[Settings]:
    """The settings of a scratch home in this process."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield Settings()
    finally:
        os.environ.clear()
        os.environ.update(before)


# --- Memory -------------------------------------------------------------------------------------------------


class ManyTimes:
    """A source that delivers a month again and again under new ids, file by file, so that no time order is left."""

    def __init__(self, file: Path, n_rows: int) -> None:
        """Takes the month's file and how many rows shall come."""
        self.file, self.n_rows = file, n_rows
        self.n_own = pyarrow.parquet.read_metadata(file).num_rows

    def has(self, month: str) -> bool:  # noqa: ARG002 - it has the one month
        """Always."""
        return True

    def fingerprint(self, month: str) -> str:  # noqa: ARG002 - it has the one month
        """The number of rows."""
        return str(self.n_rows)

    def read(self, month: str) -> Delivery:
        """The month, as often as it takes."""
        copies = range(-(-self.n_rows // self.n_own))
        parts = [Part(f"copy {copy}", lambda copy=copy: self._batches(copy)) for copy in copies]  # type: ignore[misc]
        return Delivery(parts, self.fingerprint(month))

    def _batches(self, copy: int) -> Iterator[pa.RecordBatch]:
        left = min(self.n_own, self.n_rows - copy * self.n_own)
        for batch in pyarrow.parquet.ParquetFile(self.file).iter_batches():
            batch = batch.slice(0, left)
            left -= batch.num_rows
            position = batch.schema.get_field_index("TRANSACTION_ID")
            ids = pc.add(batch.column(position), pa.scalar(copy * 10_000_000, batch.schema.field(position).type))
            yield batch.set_column(position, batch.schema.field(position), ids)
            if left == 0:
                return


def _write_large_month(data: Path, month: str, n_rows: int) -> str:
    """Writes a month of `n_rows`; says the process' peak memory in MiB, and the seconds."""
    store = open_store(Settings(), writing=True)
    source = ManyTimes(data / f"transactions_{month}.parquet", n_rows)
    seconds = _timed(lambda: write_month(source, store, month))
    stored = store.versions("raw_transactions", month)["n_rows"][-1].as_py()
    if stored != n_rows:
        raise SystemExit(f"{stored} of {n_rows} rows were stored")
    return f"{peak_mib()} {seconds}"


def peak_mib() -> float:
    """Of this program alone: what getrusage says counts the memory of whoever started it."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit("this system does not tell a process' peak memory; run this benchmark on Linux")
    return int(found[1]) / 1024


def _memory(environment: dict[str, str], options: object) -> list[Row]:
    data, month, n_rows = (getattr(options, name) for name in ("data", "month", "memory_rows"))
    command = [
        *(sys.executable, "-m", "benchmarks.io", "--as-writer", "--data", str(data.resolve())),
        *("--month", month, "--memory-rows", str(n_rows)),
    ]
    said = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    peak, seconds = map(float, said.stdout.split()[-2:])
    return [
        Row("memory_rows", n_rows, "rows"),
        Row("memory_write_seconds", seconds, "s"),
        at_most("memorypeak_mib", peak, "MiB", MEMORY_MIB),
    ]


# --- Workbooks ------------------------------------------------------------------------------------------------


def _as_workbooks(data: Path, month: str, folder: Path) -> dict[str, str]:
    """Writes a month's first rows as .xlsx, with true dates, and a contract for it; the settings that name both."""
    rows = pyarrow.parquet.read_table(data / f"transactions_{month}.parquet").slice(0, WORKBOOK_ROWS)
    book = xlsxwriter.Workbook(folder / f"transactions_{month}.xlsx", {"constant_memory": True})
    sheet = book.add_worksheet("rows")
    date = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    sheet.write_row(0, 0, rows.column_names)
    for number, row in enumerate(rows.to_pylist(), 1):
        for column, value in enumerate(row.values()):
            if isinstance(value, datetime):
                sheet.write_datetime(number, column, value, date)
            else:
                sheet.write_number(number, column, value)
    book.close()
    contract = (PROJECT_ROOT / "contracts" / "handbook.yaml").read_text(encoding="utf-8").replace(".parquet", ".xlsx")
    (folder / "workbooks.yaml").write_text(contract, encoding="utf-8")
    return {"FRAUD_SOURCE_PATH": str(folder), "FRAUD_CONTRACT": str(folder / "workbooks.yaml")}


def _workbook(environment: dict[str, str], month: str) -> list[Row]:
    with settings_of(environment) as settings:
        store = open_store(settings, writing=True)
        seconds = _timed(lambda: write_month(open_source(settings), store, month))
        stored = store.versions("raw_transactions", month)["n_rows"][-1].as_py()
        store.database.close()
    return [
        Row("workbook_rows", float(stored), "rows"),
        at_most("workbook_seconds", seconds, "s", WORKBOOK_SECONDS),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
