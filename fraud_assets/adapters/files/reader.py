"""Any file of rows, read as a contract says: the one way in for sources, label feeds, added labels, scoring and drafts.

What kind of file it is follows from its first bytes, not from its name. Nothing of it vanishes: what cannot be taken
apart into a row is handed on as `Rejected`, and rows are counted on the file itself. How a kind is read belongs to
`text_files.py`, `workbooks.py` and `json_lines.py`, what the values mean to `core/intake/accept.py`.
"""

from __future__ import annotations

import csv
import gzip
import io
import lzma
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fraud_assets.adapters.files.json_lines import JsonLines
from fraud_assets.adapters.files.text_files import BYTE_ORDER_MARKS, TextError, TextFile
from fraud_assets.adapters.files.workbooks import Workbook
from fraud_assets.core.contracts.contract import Contract, Csv
from fraud_assets.core.drafting.profiling import detect_encoding
from fraud_assets.core.intake.rows import Piece, Rejected
from fraud_assets.core.intake.spool import BATCH_ROWS

FileFormat = Literal["csv", "parquet", "arrow", "json", "xlsx"]

# Beginnings of files that hold rows in no way that is read here, with what to do.
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF", "a PDF document", "export the table as CSV or .xlsx"),
    (b"\x89PNG", "a picture (PNG)", "deliver the table itself"),
    (b"\xff\xd8\xff", "a picture (JPEG)", "deliver the table itself"),
    (b"GIF8", "a picture (GIF)", "deliver the table itself"),
    (b"II*\x00", "a picture (TIFF)", "deliver the table itself"),
    (b"MM\x00*", "a picture (TIFF)", "deliver the table itself"),
    (b"SQLite format 3\x00", "an SQLite database", "export its table as CSV or Parquet"),
    (b"Obj\x01", "an Avro file", "write it as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"FEA1", "a Feather file of the first version", "write it as Parquet"),
    (b"\x89HDF", "an HDF5 file", "write its table as Parquet"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, or pack it as .zip or .gz"),
    (b"Rar!", "a RAR archive", "unpack it, or pack it as .zip or .gz"),
    (b"\x7fELF", "a program", "deliver a table"),
    (b"MZ\x90", "a program", "deliver a table"),
    (b"\x80\x04\x95", "a Python pickle, which could run code", "write it as Parquet"),
    (b"\x80\x05\x95", "a Python pickle, which could run code", "write it as Parquet"),
    (b"{\\rtf", "a rich-text document", "save it as CSV"),
    (b"\x93NUMPY", "a NumPy array", "write it as Parquet"),
    (b"\x1f\x9d", "a file packed with compress (.Z)", "unpack it, or pack it as .gz"),
)
_MARKUP = (b"<!doctype html", b"<html", b"<?xml", b"<table")
# Of text but for tabs and ends of lines; a form feed and the old end-of-file sign are seen in exports.
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\x0c\x1a\x1b"))
HEAD = 4096  # bytes
LETTERS = 2**16  # bytes of lines that are not ASCII, from which an encoding is found
LATIN = ("cp1252", "cp1250", "cp1254")
OTHER_ALPHABETS = (
    "cp1251", "koi8_r", "cp866", "cp1253", "cp1255", "cp1256", "cp932", "euc_jp", "gb18030", "big5", "cp949",
)  # fmt: skip


class SourceError(ValueError):
    """A month that a source does not have, or cannot be read."""


@dataclass
class OpenedFile:
    """A file that was found readable, and what was found out about it.

    Attributes:
        path: the file.
        format: what it is; `csv` is all delimited text, `json` is JSON Lines.
        names: of its columns, in its order.
        csv: how a text file turned out to be written; as given for the others.
        rejected: lines that are no rows; complete when the rows have been read to the end.
        n_counted: rows, rejected ones included, counted on the file itself; complete likewise.
    """

    path: Path
    format: FileFormat
    names: list[str]
    csv: Csv
    _read: Callable[[], Iterator[Piece]]
    rejected: list[Rejected] = field(default_factory=list)
    n_counted: int = 0

    def pieces(self) -> Iterator[Piece]:
        """The rows from the start, with the lines that are none.

        Raises:
            SourceError: when the file turns out to be damaged.
        """
        self.rejected, self.n_counted = [], 0
        with _told(self.path, self.format, self.csv):
            for piece in self._read():
                self.rejected += piece.rejected
                self.n_counted += piece.n_counted
                if piece.n_counted != piece.rows.num_rows + len(piece.rejected):
                    raise TextError(
                        f"it holds {piece.n_counted} rows from its row {self.n_counted - piece.n_counted + 1} on, and "
                        f"{piece.rows.num_rows + len(piece.rejected)} were read"
                    )
                yield piece

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows from the start; `rejected` then has the lines that are none."""
        for piece in self.pieces():
            yield piece.rows

    def table(self) -> pa.Table:
        """All rows; a column that changes its type on the way as text."""
        return together(list(self.batches()), self.names)


def open_rows(path: Path, contract: Contract | None = None, *, wanted: Sequence[str] = ()) -> OpenedFile:
    """Opens a file of rows as the contract says: delimited text, JSON Lines, Parquet, Arrow or an Excel workbook.

    It may be packed as .gz, .zip (with one file inside), .zst, .bz2 or .xz. Without a contract the encoding of text is
    found out, too.

    Args:
        path: the file.
        contract: says how text is written, and which sheet of a workbook is meant.
        wanted: names of columns, to tell the header from lines before it; those of the contract when absent.

    Raises:
        SourceError: naming the file, what it is, and what to do.
    """
    if not path.is_file():
        raise SourceError(f"there is no file {path}")
    style = contract.csv if contract is not None else Csv()
    with _told(path, None, style):
        opened = _unpacked(path)
        kind = _kind(opened, path, style)
        if kind == "csv":
            if contract is None:
                style = Csv(encoding=_found_encoding(opened))
            missing = contract.missing if contract is not None and style.quoted_missing == "text" else ()
            if not wanted and contract is not None:
                wanted = contract.source_columns
            text = TextFile(opened, style, wanted, missing)
            return OpenedFile(path, "csv", text.names, text.style, text.pieces)
    with _told(path, kind, style):
        if kind == "xlsx":
            with _seekable(opened) as stream:
                _require_sound_archive(stream)
                sheet = contract.excel.sheet if contract is not None else None
                book = Workbook(stream, sheet, wanted or (contract.source_columns if contract else ()), contract)
            return OpenedFile(path, kind, book.names, style, book.pieces)
        if kind == "json":
            lines = JsonLines(opened, "utf-8" if contract is None else style.encoding)
            return OpenedFile(path, kind, lines.names, style, lines.pieces)
        schema = _schema(opened, kind)
        return OpenedFile(path, kind, schema.names, style, lambda: _columnar(opened, kind))


def together(batches: Sequence[pa.RecordBatch], names: Sequence[str]) -> pa.Table:
    """Batches as one table; a column that changes its type from one to the next as text."""
    schema = common_schema([batch.schema for batch in batches], names)
    return pa.Table.from_batches([in_schema(batch, schema) for batch in batches], schema)


def common_schema(schemas: Iterable[pa.Schema], names: Sequence[str]) -> pa.Schema:
    """What all pieces of a file can be written as: a column that changes its type as text, all as text without any."""
    kinds: list[dict[pa.DataType, None]] = [{} for _ in names]
    first: pa.Schema | None = None
    for schema in schemas:
        first = first or pa.schema([field.with_nullable(True).remove_metadata() for field in schema])
        for found, kind in zip(kinds, schema.types, strict=True):
            found[kind] = None
    if first is not None and all(len(found) == 1 for found in kinds):
        return first
    chosen = [[kind for kind in found if not pa.types.is_null(kind)] for found in kinds]
    return pa.schema(
        [(name, some[0] if len(some) == 1 else pa.string()) for name, some in zip(names, chosen, strict=True)]
    )


def in_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with the columns of a schema, as it takes them."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _told(path: Path, kind: FileFormat | None, style: Csv) -> Iterator[None]:
    """Errors of readers as sentences with the file's name and the remedy."""
    what = {"parquet": "Parquet", "arrow": "an Arrow file", "json": "JSON Lines", "xlsx": "an Excel workbook"}.get(
        kind or "", f"{style.encoding.upper()} CSV"
    )
    try:
        yield
    except SourceError:
        raise
    except UnicodeError as error:
        raise SourceError(
            f"{path} cannot be read as {what}: {error}; name the file's encoding in the contract (csv.encoding: cp1252 "
            "is that of Windows), or correct the file"
        ) from error
    except TextError as error:
        raise SourceError(f"{path} cannot be read as {what}: {error}; correct the file, or the contract") from error
    except (
        pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
        csv.Error,
    ) as error:  # fmt: skip
        raise SourceError(f"{path} cannot be read as {what}: {error}; deliver the file again") from error


# What kind of file


def _kind(opened: Callable[[], BinaryIO], path: Path, style: Csv) -> FileFormat:
    with opened() as stream:
        start = stream.read(HEAD)
    if not start:
        raise SourceError(f"{path} is empty: deliver the file again")
    if start.startswith(b"PAR1") or _ends_like_parquet(path):
        return "parquet"
    if start.startswith(b"ARROW1"):
        return "arrow"
    if start.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "xlsx"
    bare = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if bare.startswith(b"{") or re.match(rb"\[\s*\{", bare):
        return "json"
    for beginning, what, remedy in _OTHERS:
        if start.startswith(beginning):
            raise SourceError(f"{path} is {what} and no file of rows: {remedy}")
    if start[257:262] == b"ustar":
        raise SourceError(f"{path} is a tar archive: unpack it, or pack its one file as .zip or .gz")
    if start.lstrip()[:40].lower().startswith(_MARKUP):
        raise SourceError(
            f"{path} is a page of HTML or XML and no file of rows (a page to log in, perhaps): export the table as CSV"
        )
    is_marked = any(start.startswith(mark) for mark, _ in BYTE_ORDER_MARKS)
    if not is_marked and style.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "cp1252", "latin-1", "ascii"):
        if start.count(0) > len(start) // 4 and start[0::2].count(0) + start[1::2].count(0) == start.count(0):
            odd, even = start[1::2].count(0), start[0::2].count(0)
            if min(odd, even) == 0:
                name = "utf-16-le" if odd else "utf-16-be"
                raise SourceError(f"{path} looks like UTF-16 without a byte order mark: csv.encoding: {name} reads it")
        if len(start.translate(None, _CONTROL)) < 0.9 * len(start):
            raise SourceError(
                f"{path} is no text but bytes of an unknown kind: deliver CSV, JSON Lines, Parquet or .xlsx"
            )
    return "csv"


def _found_encoding(opened: Callable[[], BinaryIO]) -> str:
    """The encoding of text that nobody has described: UTF-8, else what its letters are most like."""
    with opened() as stream:
        found = detect_encoding(iter(lambda: stream.read(2**20), b""))
    if found != "cp1252":
        return found
    words, size = list[bytes](), 0
    with opened() as stream:
        for line in stream:
            if not line.isascii():
                words += [word for word in re.split(rb"[\s,;\t|\"]+", line) if not word.isascii()]
                size += len(line)
            if size > LETTERS:
                break
    # Where it is used: it takes a while to load, and most files are UTF-8.
    from charset_normalizer import from_bytes

    best = from_bytes(b" ".join(words), cp_isolation=[*LATIN, *OTHER_ALPHABETS]).best()
    # Those of Western and of Eastern Europe it takes for one another.
    return best.encoding if best is not None and best.encoding in OTHER_ALPHABETS else found


def _ends_like_parquet(path: Path) -> bool:
    """Whether it is Parquet whose beginning is damaged."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 4, 0))
        return file.read() == b"PAR1"


# Packed files


def _unpacked(path: Path) -> Callable[[], BinaryIO]:
    """Gives the file's bytes from the start, whatever it is packed with."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return lambda: cast("BinaryIO", gzip.open(path, "rb"))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return lambda: cast(
            "BinaryIO", io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 2**20)
        )
    if start.startswith(b"BZh"):
        import bz2

        return lambda: cast("BinaryIO", bz2.open(path, "rb"))
    if start.startswith(b"\xfd7zXZ\x00"):
        return lambda: cast("BinaryIO", lzma.open(path, "rb"))
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _unzipped(path)
    return lambda: path.open("rb")


def _unzipped(path: Path) -> Callable[[], BinaryIO]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if {"xl/workbook.xml", "xl/workbook.bin", "content.xml"} & set(names):
            return lambda: path.open("rb")
        if "word/document.xml" in names or "ppt/presentation.xml" in names:
            raise SourceError(f"{path} is a document or slides, and no file of rows: export the table as CSV or .xlsx")
        if len(names) != 1:
            raise SourceError(
                f"{path} is a ZIP archive with {len(names)} files ({', '.join(names[:5])}): pack one file in each"
            )
        if archive.getinfo(names[0]).flag_bits & 1:
            raise SourceError(f"{path} is a ZIP archive with a password: deliver it without one")
    return lambda: cast("BinaryIO", zipfile.ZipFile(path).open(names[0]))


def _require_sound_archive(stream: BinaryIO) -> None:
    """A workbook's parts carry checksums, which its reader does not look at."""
    if stream.read(2) == b"PK":
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"its part {damaged} is damaged")
    stream.seek(0)


@contextmanager
def _seekable(opened: Callable[[], BinaryIO]) -> Iterator[BinaryIO]:
    """The bytes where any of them can be reached; what is packed is unpacked to disk."""
    with opened() as stream:
        if isinstance(stream, io.BufferedReader) and hasattr(stream.raw, "fileno") and stream.seekable():
            yield stream
            return
        with tempfile.TemporaryFile() as file:
            while block := stream.read(2**22):
                file.write(block)
            file.seek(0)
            yield cast("BinaryIO", file)


# Typed files


def _schema(opened: Callable[[], BinaryIO], kind: FileFormat) -> pa.Schema:
    with _seekable(opened) as file:
        if kind == "arrow":
            return pa.ipc.open_file(file).schema
        return pyarrow.parquet.read_schema(file)


def _columnar(opened: Callable[[], BinaryIO], kind: FileFormat) -> Iterator[Piece]:
    number = 1
    with _seekable(opened) as stream:
        if kind == "arrow":
            reader = pa.ipc.open_file(stream)
            batches = (reader.get_batch(position) for position in range(reader.num_record_batches))
            n_counted = None
        else:
            file = pyarrow.parquet.ParquetFile(
                stream, coerce_int96_timestamp_unit="us", page_checksum_verification=True
            )
            batches, n_counted = file.iter_batches(BATCH_ROWS), file.metadata.num_rows
        for batch in batches:
            # Damaged lengths and text would surface far from here.
            batch.validate(full=True)
            yield Piece(batch, np.arange(number, number + batch.num_rows), (), batch.num_rows)
            number += batch.num_rows
    if n_counted is not None and number - 1 != n_counted:
        raise OSError(f"its footer says {n_counted} rows, and it holds {number - 1}")
