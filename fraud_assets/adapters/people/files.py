"""Files that may name a person: logs and pages, which are changed, and others, which are named for people to decide."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fraud_assets.adapters.people.texts import forms_of
from fraud_assets.core.people.pseudonyms import pattern_of

TEXTS = (".out", ".err", ".log", ".html", ".htm", ".md", ".txt", ".csv", ".jsonl", ".complete")
BLOCK = 2**22
ROWS = (".parquet", ".pq")
REFUSED = "refused.jsonl"


def search(folder: Path, identifier: str, but: Sequence[Path] = ()) -> Iterator[Path]:
    """The files below a folder in which an identifier stands as a word of its own, or as a value of a column."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) not in but]
        for name in names:
            path = Path(root, name)
            if path not in but and path.is_file() and names_person(path, identifier):
                yield path


def names_person(path: Path, identifier: str) -> bool:
    """Whether a file names a person; one that cannot be read does not."""
    with suppress(OSError, pa.ArrowException):
        if path.suffix in ROWS:
            return _in_columns(path, identifier)
        return _in_text(path, identifier)
    return False


def _in_text(path: Path, identifier: str) -> bool:
    forms = [(form.lower().encode(), re.compile(pattern_of(form).encode(), re.I)) for form in forms_of(identifier)]
    wide, before = len(identifier.encode()) * 6 + 2, b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            content = before + block
            # The plain search is quick, and finds nothing nearly everywhere.
            lower = content.lower()
            if any(form in lower and pattern.search(content) for form, pattern in forms):
                return True
            before = content[-wide:]
    return False


def _in_columns(path: Path, identifier: str) -> bool:
    file = pq.ParquetFile(path)
    fields = [field for field in file.schema_arrow if pa.types.is_string(field.type) or pa.types.is_integer(field.type)]
    for batch in file.iter_batches(columns=[field.name for field in fields]):
        for column in batch.columns:
            if identifier in set(column.cast(pa.string()).unique().to_pylist()):
                return True
    return False


def search_rows(folder: Path, column: str, identifier: str) -> Iterator[tuple[Path, int]]:
    """The files of rows below a folder in which a column has an identifier, each with the number of such rows."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in ROWS and path.is_file()):
        with suppress(OSError, pa.ArrowException):
            file = pq.ParquetFile(path)
            if column in file.schema_arrow.names:
                values = file.read([column])[column].cast(pa.string())
                if n := pc.sum(pc.equal(values, identifier)).as_py():
                    yield path, n


def rewrite_rows(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Changes a file of rows, which keeps its columns.

    Raises:
        OSError: when it cannot be written; it is as it was then.
    """
    scratch = path.with_name(f".erasing-{path.name}")
    try:
        pq.write_table(change(pq.read_table(path, memory_map=False)), scratch, compression="zstd")
        _take_place(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _take_place(scratch: Path, path: Path) -> None:
    """Puts a file in the place of another one, with its owner and mode."""
    state = path.stat()
    scratch.chmod(state.st_mode)
    with suppress(PermissionError):
        os.chown(scratch, state.st_uid, state.st_gid)
    scratch.replace(path)


def can_be_changed(path: Path) -> bool:
    """Whether a file is text that nobody compares with a digest."""
    return path.suffix in TEXTS


def rename_in(path: Path, identifier: str, pseudonym: str) -> None:
    """Puts a pseudonym in the place of an identifier in a file of text, which keeps its owner and its mode.

    Raises:
        OSError: when it cannot be written; it is as it was then.
    """
    content = path.read_bytes()
    for form in forms_of(identifier):
        content = re.sub(pattern_of(form).encode(), pseudonym.encode(), content, flags=re.IGNORECASE)
    handle, name = tempfile.mkstemp(prefix=".erasing-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as scratch:
            scratch.write(content)
        _take_place(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def rewrite_spool(folder: Path, change: Callable[[bytes], bytes]) -> list[str]:
    """Changes lines of the spool that processes left behind; those of running ones are changed as they are sent.

    Returns:
        The files that running processes have, in which something waits.
    """
    busy = []
    for path in sorted(folder.glob("*.spool")):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if path.stat().st_size:
                    busy.append(str(path))
                continue
            lines = [line for line in file.read().splitlines() if line[8:9] == b" "]
            changed = [change(line[9:]) for line in lines if line[:8] == b"%08x" % zlib.crc32(line[9:])]
            file.seek(0)
            file.truncate()
            file.writelines(b"%08x %b\n" % (zlib.crc32(line), line) for line in changed)
    refused = folder / REFUSED
    if refused.is_file():
        refused.write_bytes(b"".join(change(line) + b"\n" for line in refused.read_bytes().splitlines()))
    return busy


def rows_from_before(folder: Path, column: str, moment: datetime) -> Iterator[Path]:
    """The files of rows below a folder in which the oldest time of a column lies before a moment."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in ROWS and path.is_file()):
        with suppress(OSError, pa.ArrowException):
            file = pq.ParquetFile(path)
            if column in file.schema_arrow.names and pa.types.is_timestamp(file.schema_arrow.field(column).type):
                oldest = pc.min(file.read([column])[column].cast(pa.timestamp("us", tz="UTC"))).as_py()
                if oldest is not None and oldest < moment:
                    yield path


def has_refused_before(folder: Path, moment: datetime) -> bool:
    """Whether a score that the database refused is of a transaction from before a moment."""
    refused = folder / REFUSED
    return refused.is_file() and any(_is_before(line, moment) for line in refused.read_bytes().splitlines())


def forget_refused(folder: Path, moment: datetime) -> None:
    """Takes scores of transactions from before a moment out of those that the database refused."""
    refused = folder / REFUSED
    lines = refused.read_bytes().splitlines()
    # Beside and then in its place: a process that is killed in between leaves all lines.
    beside = refused.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_bytes(b"".join(line + b"\n" for line in lines if not _is_before(line, moment)))
    beside.replace(refused)


def _is_before(line: bytes, moment: datetime) -> bool:
    """Whether a line says so of itself; one that cannot be read says nothing."""
    try:
        return datetime.fromisoformat(json.loads(line)["event_timestamp"]) < moment
    except (ValueError, KeyError, TypeError):
        return False
