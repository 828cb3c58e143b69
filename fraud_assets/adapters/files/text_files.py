"""Delimited text (CSV and its relatives): where each row begins and ends, and which lines are none.

A file is read in blocks of whole lines. A block in which every line is a row on its own goes to Arrow as it is; any
other is walked line by line, so that a stray quote, a line of another length or a byte that is no text costs that line
and no other. Finding out what kind of file it is belongs to `reader.py`, what values mean to
`core/intake/conversions.py`.
"""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from fraud_assets.core.contracts.column_names import plain_name
from fraud_assets.core.contracts.contract import Csv
from fraud_assets.core.intake.rows import Piece, Rejected

BLOCK = 4 * 2**20  # bytes
# A value in quotes that runs on for longer is an open quote.
LONGEST_VALUE_LINES = 1_000
LONGEST_VALUE = 2**20  # bytes
LONGEST_LINE = 64 * 2**20  # bytes
DELIMITERS = ",;\t|"
HEAD_LINES = 200
LINE_END = re.compile(rb"\r\n|\r|\n")
SEP_LINE = re.compile(rb"^\s*\"?sep=(.)\"?\s*$", re.IGNORECASE)
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class TextError(ValueError):
    """Text that cannot be read as rows; the sentence begins with what is wrong."""


@dataclass(frozen=True)
class _Block:
    """Whole lines in UTF-8, the number of the first, and the ones that are no text: position and what is wrong."""

    data: bytes
    first_line: int
    bad: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Head:
    """What stands before the rows: the names, what is between values, and how many lines it takes."""

    names: tuple[str, ...]
    delimiter: str
    n_lines: int


class TextFile:
    """A file of delimited text."""

    def __init__(
        self, opened: Callable[[], BinaryIO], style: Csv, wanted: Sequence[str] = (), missing: Sequence[str] = ()
    ) -> None:
        """Reads the header.

        Args:
            opened: gives the file's bytes from the start.
            style: how it is written.
            wanted: names of columns that its header has, to tell it from the lines before.
            missing: words that are no value where they stand without quotes.

        Raises:
            TextError: when there is no header, or it is not in the encoding.
        """
        self._opened, self._missing = opened, tuple(missing)
        with opened() as stream:
            start = stream.read(4)
        self._mark, self.encoding = next(
            ((len(mark), name) for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), (0, style.encoding)
        )
        self._quote = style.quote.encode() if style.quote is not None else None
        self._comment = style.comment.encode() if style.comment is not None else None
        head = self._find_head(style, wanted)
        self.names = list(head.names)
        self.style = style.model_copy(update={"encoding": self.encoding, "delimiter": head.delimiter})
        self._delimiter, self._n_head = head.delimiter.encode(), head.n_lines
        self._fields = _field_pattern(self._delimiter, self._quote)
        self._quoted = re.compile(_quoted(self._quote) if self._quote is not None else rb"(?!)")
        self._blank = bytes(set(b" \t\x0b\x0c\r\n") - set(self._delimiter))
        self._blanks = np.zeros(256, bool)
        self._blanks[list(self._blank)] = True
        self._borders = np.zeros(256, bool)
        self._borders[list(self._delimiter + (self._quote or b"") + b"\n\r")] = True

    def pieces(self) -> Iterator[Piece]:
        """The rows, from the start.

        Raises:
            TextError: when what comes is not in the encoding at all.
        """
        number, carried = 1, b""
        with self._opened() as stream:
            blocks = _without_head(_blocks(stream, self.encoding, self._mark), self._n_head)
            block = next(blocks, None)
            while block is not None:
                following = next(blocks, None)
                if carried:
                    n = len(carried.splitlines())
                    bad = {position + n: why for position, why in block.bad.items()}
                    block = _Block(carried + block.data, block.first_line - n, bad)
                piece, carried = self._piece(block, number, is_last=following is None)
                number += piece.n_counted
                yield piece
                block = following

    def _piece(self, block: _Block, number: int, *, is_last: bool) -> tuple[Piece, bytes]:
        """The rows of a block, and the lines of a value that goes on in the next one."""
        if self._is_plain(block):
            n = self._count(block.data)
            try:
                rows = self._parsed(block.data, False)
            except pa.ArrowInvalid:
                rows = None
            if rows is not None and rows.num_rows == n:
                return Piece(rows, np.arange(number, number + n), (), n), b""
        walk = _Walk(self, block, number, is_last)
        rows = self._parsed(b"".join(walk.records), True)
        if rows.num_rows != len(walk.records):
            raise TextError(
                f"its lines from {block.first_line} on hold {len(walk.records)} rows and {rows.num_rows} were read"
            )
        numbers = np.array(walk.numbers, np.int64)
        n = len(walk.records) + len(walk.rejected)
        return Piece(rows, numbers, tuple(walk.rejected), n), walk.carried

    def _is_plain(self, block: _Block) -> bool:
        """Whether each line is by itself, quotes and all, as it is."""
        data = block.data
        if block.bad or b"\x00" in data or len(self.names) == 1:
            return False
        if _has_bare_returns(data):
            return False
        if self._comment is not None and self._comment in data:
            return False
        if self._quote is None or self._quote not in data:
            return True
        every = np.frombuffer(b"\n" + data + b"\n", np.uint8)
        quotes = np.flatnonzero(every == self._quote[0])
        # The first, third, ... opens a value or doubles the one before; the others close it. One that is open at the
        # end of a line makes fewer rows than lines.
        before, after = every[quotes[0::2] - 1], every[quotes[1::2] + 1]
        return len(quotes) % 2 == 0 and bool(self._borders[before].all() and self._borders[after].all())

    def _count(self, data: bytes) -> int:
        """The lines that are not blank."""
        every = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(every == 10)
        begins = np.append(0, ends + 1)
        begins = begins[begins < len(every)]
        if self._blanks[every[begins]].any():
            return sum(1 for line in data.split(b"\n") if line.strip(self._blank))
        return len(begins)

    def _parsed(self, data: bytes, several_lines: bool) -> pa.RecordBatch:
        """Rows of text that is known to hold nothing else."""
        keys = [str(position) for position in range(len(self.names))]
        schema = pa.schema([(name, pa.string()) for name in self.names])
        if not data:
            return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(keys), schema=schema)
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=keys),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._delimiter.decode(),
                quote_char=self._quote.decode() if self._quote is not None else False,
                newlines_in_values=several_lines,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()),
                strings_can_be_null=True,
                quoted_strings_can_be_null=not self._missing,
                null_values=["", "NULL", *self._missing],
            ),
        )
        columns = [column.combine_chunks() for column in table.columns]
        columns = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    # The header

    def _find_head(self, style: Csv, wanted: Sequence[str]) -> _Head:
        lines = self._first_lines()
        candidates = [
            position
            for position, line in enumerate(lines)
            if line.strip() and not (self._comment is not None and line.startswith(self._comment))
        ]
        if not candidates:
            raise TextError("it has no line, not even a header")
        separator = SEP_LINE.match(lines[candidates[0]])
        if separator is not None:
            candidates = candidates[1:]
            style = style.model_copy(update={"delimiter": style.delimiter or separator[1].decode()})
        if style.skip_rows is not None:
            candidates = [position for position in candidates if position >= style.skip_rows]
        if not candidates:
            raise TextError("it has no header")
        where, delimiter = self._header_line(lines, candidates, style, wanted)
        reader = csv.reader(
            (line.decode("utf-8", "replace") for line in lines[where:]),
            delimiter=delimiter,
            **({"quotechar": style.quote} if style.quote is not None else {"quoting": csv.QUOTE_NONE}),
        )
        try:
            names = next(reader)
        except csv.Error as error:
            raise TextError(f"its header cannot be read: {error}") from error
        if any("\ufffd" in name for name in names):
            raise UnicodeError(f"its header has bytes that mean nothing in {self.encoding}")
        if reader.line_num > 1 and any(b"\n" in line.rstrip(b"\n") for line in lines[where : where + 1]):
            raise TextError("its header cannot be read")
        fields = _Counting(delimiter.encode(), self._quote)
        rows = [fields(lines[position]) for position in candidates if position >= where + reader.line_num]
        closing = delimiter.encode()
        if rows and set(rows) == {len(names) + 1}:
            after = (lines[position] for position in candidates if position >= where + reader.line_num)
            if all(line.rstrip(b"\r\n").endswith(closing) for line in after):
                names = [*names, ""]
        if style.skip_rows is None:
            self._refuse_rows_before(lines, candidates, where, len(names), fields)
        return _Head(tuple(names), delimiter, where + reader.line_num)

    @staticmethod
    def _refuse_rows_before(
        lines: list[bytes], candidates: list[int], where: int, n: int, fields: Callable[[bytes], int]
    ) -> None:
        for position in candidates:
            if position < where and n > 1 and fields(lines[position]) == n:
                raise TextError(
                    f"its line {position + 1} has as many values as the header in line {where + 1} and may be a row: "
                    "say with csv.skip_rows in the contract how many lines stand before the header"
                )

    def _first_lines(self) -> list[bytes]:
        with self._opened() as stream:
            for block in _blocks(stream, self.encoding, self._mark, 2**18):
                lines = block.data.splitlines(keepends=True)
                if block.bad:
                    # The header's own are found out later.
                    lines = [line if n not in block.bad else line + b"\xff" for n, line in enumerate(lines)]
                return lines[:HEAD_LINES]
        return []

    def _header_line(
        self, lines: list[bytes], candidates: list[int], style: Csv, wanted: Sequence[str]
    ) -> tuple[int, str]:
        """Which line is the header, and the delimiter."""
        delimiters = style.delimiter or DELIMITERS
        first = lines[candidates[0]]
        counts = {mark: _Counting(mark.encode(), self._quote) for mark in delimiters}
        # Of equally frequent ones the first; a header without any is a file of one column.
        best = max(delimiters, key=lambda mark: counts[mark](first))
        if style.skip_rows is not None:
            return candidates[0], best
        names = {plain_name(name) for name in wanted}
        for position in candidates if names else []:
            for mark in delimiters:
                found = {plain_name(name) for name in _split(lines[position], mark, style.quote)}
                if names <= found:
                    return position, mark
        shares: dict[tuple[str, int], int] = {}
        for mark in delimiters:
            sizes = Counter(counts[mark](lines[position]) for position in candidates[1:])
            shares |= {(mark, size): n for size, n in sizes.items() if size > 1}
        usual = max(shares, key=lambda found: (shares[found], found[1]), default=None)
        own = shares.get((best, counts[best](first)), 0)
        # Rows may all end with one delimiter more than the header.
        more = shares.get((best, counts[best](first) + 1), 0)
        if usual is None or (counts[best](first) > 1 and max(own, more) >= shares[usual]):
            return candidates[0], best
        mark, size = usual
        if counts[best](first) > 1 and own * 2 >= shares[usual]:
            return candidates[0], best
        return next(position for position in candidates if counts[mark](lines[position]) == size), mark


def _split(line: bytes, delimiter: str, quote: str | None) -> list[str]:
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    if quote is None:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, quotechar=quote), [])
    except csv.Error:
        return []


class _Counting:
    """Counts the values of a line taken by itself; a quote that it does not close is a character."""

    def __init__(self, delimiter: bytes, quote: bytes | None) -> None:
        self._delimiter, self._inside = delimiter, None
        if quote is not None:
            self._inside = re.compile(rb"(?:^|(?<=" + re.escape(delimiter) + rb"))" + _quoted(quote))

    def __call__(self, line: bytes) -> int:
        if self._inside is not None:
            line = self._inside.sub(b"", line)
        return line.count(self._delimiter) + 1


def _field_pattern(delimiter: bytes, quote: bytes | None) -> re.Pattern[bytes]:
    """One value and what follows it: a delimiter, the end of the line, or nothing (an open quote)."""
    d = re.escape(delimiter)
    if quote is None:
        return re.compile(rb"[^" + d + rb"\r\n]*+(?P<end>" + d + rb"|\r\n|\r|\n|\Z)")
    bare = rb"(?!" + re.escape(quote) + rb")[^" + d + rb"\r\n]*+"
    return re.compile(rb"(?:" + _quoted(quote) + rb"|" + bare + rb")(?P<end>" + d + rb"|\r\n|\r|\n|\Z)")


def _quoted(quote: bytes) -> bytes:
    """A value in quotes, in which a quote stands twice."""
    q = re.escape(quote)
    return q + rb"(?:[^" + q + rb"]|" + q * 2 + rb")*+" + q


class _Walk:
    """A block line by line: rows, lines that are none, and what has to wait for the next block."""

    def __init__(self, file: TextFile, block: _Block, number: int, is_last: bool) -> None:
        self.records: list[bytes] = []
        self.numbers: list[int] = []
        self.rejected: list[Rejected] = []
        self.carried = b""
        self._file, self._block, self._number, self._is_last = file, block, number, is_last
        self._n = len(file.names)
        self._lines = block.data.splitlines(keepends=True)
        self._alone = _Counting(file._delimiter, file._quote)
        position = 0
        while position < len(self._lines):
            taken = self._take(position)
            if taken == 0:
                self.carried = b"".join(self._lines[position:])
                break
            position += taken

    def _take(self, position: int) -> int:
        """Takes the record that begins in a line; says how many lines that were, 0 where it may go on."""
        file, line = self._file, self._lines[position]
        if not line.strip(file._blank) or (file._comment is not None and line.startswith(file._comment)):
            return 1
        problem = self._block.bad.get(position)
        if problem is None and b"\x00" in line:
            problem = "contains a zero byte"
        if problem is not None:
            return self._reject(position, problem)
        if file._quote is None or file._quote not in line:
            n = line.count(file._delimiter) + 1
            return self._accept(position, 1) if n == self._n else self._reject(position, self._other_size(n))
        n_lines, n, problem = self._record(position)
        if problem is not None:
            return self._reject(position, problem)
        if n_lines == 0:
            return 0
        if n_lines == 1:
            return self._accept(position, 1) if n == self._n else self._reject(position, self._other_size(n))
        if n != self._n:
            return self._reject(position, "opens a quote that is not closed")
        if any(self._block.bad.get(other) or b"\x00" in self._lines[other] for other in self._span(position, n_lines)):
            return self._reject(position, "opens a quote, and is no text before that is closed")
        sizes = [self._alone(self._lines[other]) for other in self._span(position, n_lines)]
        if self._n in sizes[1:-1] or (self._n > 1 and sizes[0] == sizes[-1] == self._n):
            first, last = self._block.first_line + position, self._block.first_line + position + n_lines - 1
            why = f"lies in the quotes that open in line {first} and close in line {last}, and may be a row of its own"
            for other in self._span(position, n_lines):
                if self._lines[other].strip(file._blank):
                    self._reject(other, why)
            return n_lines
        return self._accept(position, n_lines)

    @staticmethod
    def _span(position: int, n_lines: int) -> range:
        return range(position, position + n_lines)

    def _record(self, position: int) -> tuple[int, int, str | None]:
        """Lines and values of the record that begins in a line, or what is wrong; no lines where it may go on."""
        data, n_lines, n, at = self._lines[position], 1, 0, 0
        while True:
            found = self._file._fields.match(data, at)
            if found is not None:
                n, at = n + 1, found.end()
                if found["end"] != self._file._delimiter:
                    return n_lines, n, None
                continue
            if self._file._quoted.match(data, at):
                return (
                    1,
                    n,
                    "opens a quote that is not closed" if n_lines > 1 else "has characters after a closing quote",
                )
            following = position + n_lines
            if following >= len(self._lines):
                if not self._is_last and n_lines <= LONGEST_VALUE_LINES and len(data) <= LONGEST_VALUE:
                    return 0, n, None
                return 1, n, "opens a quote that is not closed"
            if n_lines > LONGEST_VALUE_LINES or len(data) > LONGEST_VALUE:
                return 1, n, "opens a quote that is not closed"
            # All lines up to the next quote at once.
            quote = self._file._quote or b""
            added = []
            while following < len(self._lines) and n_lines <= LONGEST_VALUE_LINES:
                added.append(self._lines[following])
                n_lines, following = n_lines + 1, following + 1
                if quote in added[-1]:
                    break
            data += b"".join(added)

    def _other_size(self, n: int) -> str:
        return f"has {n} value{'s' * (n != 1)} for {self._n} columns"

    def _accept(self, position: int, n_lines: int) -> int:
        record = b"".join(self._lines[position : position + n_lines])
        if not record.endswith((b"\n", b"\r")):
            record += b"\n"
        self.records.append(record)
        self.numbers.append(self._next())
        return n_lines

    def _reject(self, position: int, reason: str) -> int:
        text = self._lines[position].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        self.rejected.append(Rejected(self._next(), self._block.first_line + position, text, reason))
        return 1

    def _next(self) -> int:
        return self._number + len(self.numbers) + len(self.rejected)


# Bytes to lines


def _without_head(blocks: Iterator[_Block], n_lines: int) -> Iterator[_Block]:
    for block in blocks:
        if n_lines <= 0:
            yield block
            continue
        total = n_lines
        end = 0
        for found in itertools.islice(LINE_END.finditer(block.data), n_lines):
            end, n_lines = found.end(), n_lines - 1
        if n_lines > 0:
            # The last line has no end, or the header goes on.
            n_lines -= end < len(block.data)
            continue
        if end < len(block.data):
            n = total - n_lines
            bad = {position - n: why for position, why in block.bad.items() if position >= n}
            yield _Block(block.data[end:], block.first_line + n, bad)


def _blocks(stream: BinaryIO, encoding: str, skip: int, size: int = BLOCK) -> Iterator[_Block]:
    """Blocks of whole lines in UTF-8."""
    stream.read(skip)
    line = 1
    if not _is_like_ascii(encoding):
        for text in _decoded(stream, encoding, size):
            data = text.encode("utf-8", "surrogatepass")
            yield _Block(data, line)
            line += len(data.splitlines())
        return
    for raw in _whole_lines(stream, size):
        block = _in_utf8(raw, encoding, line)
        yield block
        line += len(raw.splitlines()) if _has_bare_returns(raw) else raw.count(b"\n")


def _has_bare_returns(data: bytes) -> bool:
    """Whether a carriage return ends a line by itself."""
    if b"\r" not in data:
        return False
    every = np.frombuffer(data + b" ", np.uint8)
    return bool((every[np.flatnonzero(every == 13) + 1] != 10).any())


def _is_like_ascii(encoding: str) -> bool:
    """Whether delimiters and ends of lines are the bytes that they are in ASCII, and part of no other character."""
    try:
        plain = '\r\n",;\t|'.encode(encoding) == b'\r\n",;\t|'
    except UnicodeError:
        return False
    return plain and codecs.lookup(encoding).name not in ("utf-7", "iso2022_jp", "iso2022_kr", "hz")


def _whole_lines(stream: BinaryIO, size: int) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(size):
        if len(rest) > LONGEST_LINE:
            raise TextError(f"it has a line of more than {LONGEST_LINE // 2**20} MiB, which no row is")
        block = rest + block
        end = block.rfind(b"\n") + 1
        if end == 0:
            # Not the last byte: a line feed may follow it.
            end = block.rfind(b"\r", 0, len(block) - 1) + 1
        rest = block[end:]
        if end:
            yield block[:end]
    if rest:
        yield rest


def _in_utf8(raw: bytes, encoding: str, first_line: int) -> _Block:
    if raw.isascii():
        return _Block(raw, first_line)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        lines, bad = raw.splitlines(keepends=True), dict[int, str]()
        for position, line in enumerate(lines):
            try:
                lines[position] = line.decode(encoding).encode()
            except UnicodeDecodeError as error:
                bad[position] = (
                    f"has a byte 0x{line[error.start]:02x} that is no text in {encoding} "
                    "(csv.encoding: cp1252 is that of Windows)"
                )
                lines[position] = line.decode("ascii", "backslashreplace").encode()
        return _Block(b"".join(lines), first_line, bad)
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    return _Block(raw if is_utf8 else text.encode(), first_line)


def _decoded(stream: BinaryIO, encoding: str, size: int) -> Iterator[str]:
    decoder, rest, line = codecs.getincrementaldecoder(encoding)(), "", 1
    while True:
        block = stream.read(size)
        try:
            text = rest + decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UnicodeError(f"behind its line {line} it has bytes that mean nothing in {encoding}") from error
        if not block:
            break
        end = text.rfind("\n") + 1 or text.rfind("\r", 0, max(len(text) - 1, 0)) + 1
        rest, text = text[end:], text[:end]
        line += text.count("\n")
        if text:
            yield _not_shifted(text, line, encoding)
    if text:
        yield _not_shifted(text, line, encoding)


def _not_shifted(text: str, line: int, encoding: str) -> str:
    # The end of a line whose bytes have moved by one; no letter has this number.
    if "\u0a00" in text:
        where = max(line - text.count("\n"), 1) + text[: text.index("\u0a00")].count("\n")
        raise TextError(f"in its line {where} a byte of {encoding} is missing or too much, and what follows is shifted")
    return text
