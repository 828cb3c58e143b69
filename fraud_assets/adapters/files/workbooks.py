"""Excel workbooks: the rows of one sheet, with the types that its cells have.

A column of one kind of cell keeps that type. A column of several, such as dates beside dates that were typed as text,
becomes text, written as the contract says that text of this column is written. What values mean belongs to
`core/intake/conversions.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetVisibleEnum

from fraud_assets.adapters.files.text_files import TextError
from fraud_assets.core.contracts.column_names import plain_name
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.intake.rows import Piece
from fraud_assets.core.intake.spool import BATCH_ROWS

HEAD_ROWS = 200
# A cell keeps fifteen digits.
EXACT_BELOW = 1e15


class Workbook:
    """One sheet of a workbook."""

    def __init__(self, stream: BinaryIO, sheet: str | None, wanted: Sequence[str], contract: Contract | None) -> None:
        """Reads the sheet.

        Args:
            stream: the workbook.
            sheet: its name; the first one with rows when absent.
            wanted: names of columns that its header has, to tell it from the rows before.
            contract: how dates and decimals are written as text.

        Raises:
            TextError: when there is no such sheet, or it has no rows.
        """
        try:
            book = CalamineWorkbook.from_filelike(stream)
            rows, start = _rows(book, sheet)
        except PasswordError as error:
            raise TextError("it has a password: save it without one") from error
        except CalamineError as error:
            raise TextError(f"its content is damaged ({error})") from error
        header = _header(rows, wanted)
        while rows[header] and rows[header][-1] == "" and all(row[-1] == "" for row in rows[header:]):
            rows = [row[:-1] for row in rows]
        self.names = [_name(cell) for cell in rows[header]]
        filled = [position for position in range(header + 1, len(rows)) if any(cell != "" for cell in rows[position])]
        formats, decimal = _formats(contract), contract.csv.decimal if contract is not None else "."
        columns = [
            cells_as_array([rows[position][at] for position in filled], formats.get(name), decimal)
            for at, name in enumerate(self.names)
        ]
        self._rows = pa.RecordBatch.from_arrays(columns, names=self.names)
        self._n, self.first_line = len(filled), start + header + 2

    def pieces(self) -> Iterator[Piece]:
        """The rows, from the start."""
        for first in range(0, self._n, BATCH_ROWS):
            rows = self._rows.slice(first, BATCH_ROWS)
            yield Piece(rows, np.arange(first + 1, first + 1 + rows.num_rows), (), rows.num_rows)


def _rows(book: CalamineWorkbook, sheet: str | None) -> tuple[list[list[Any]], int]:
    """The cells of the sheet from its first row with any on, and how many rows stand before."""
    if sheet is not None and sheet not in book.sheet_names:
        raise TextError(f"it has no sheet {sheet!r} (excel.sheet), but {book.sheet_names}")
    shown = [one.name for one in book.sheets_metadata if one.visible == SheetVisibleEnum.Visible]
    for name in [sheet] if sheet is not None else shown or book.sheet_names:
        found = book.get_sheet_by_name(name)
        rows = found.to_python(skip_empty_area=True)
        if len(rows) > 1 or (rows and sheet is not None):
            return rows, found.start[0] if found.start else 0
    raise TextError("no sheet of it has rows" if sheet is None else f"its sheet {sheet!r} has no rows")


def _header(rows: list[list[Any]], wanted: Sequence[str]) -> int:
    names = {plain_name(name) for name in wanted}
    head = rows[:HEAD_ROWS]
    for position, row in enumerate(head):
        if names and names <= {plain_name(_name(cell)) for cell in row}:
            return position
    sizes = [sum(cell != "" for cell in row) for row in head]
    usual = Counter(size for size in sizes[1:] if size).most_common(1)
    size = min(usual[0][0], max(sizes)) if usual else sizes[0]
    return next(
        (
            position
            for position, row in enumerate(head)
            if sizes[position] >= size and all(isinstance(cell, str) for cell in row)
        ),
        next(position for position, count in enumerate(sizes) if count),
    )


def _name(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell)


def _formats(contract: Contract | None) -> Mapping[str, str]:
    """How each column of times is written, where it is text."""
    if contract is None:
        return {}
    times = [contract.event_timestamp, contract.label.known, contract.label.feed.known if contract.label.feed else None]
    found: dict[str, str] = {}
    for when in times:
        if when is not None and when.format is not None:
            tokens = when.format.split(" ")
            if len(when.columns) == 1:
                tokens = [when.format]
            found |= dict(zip(when.columns, tokens, strict=False)) if len(tokens) == len(when.columns) else {}
    found |= {column.column: column.format for column in contract.columns.values() if column.format is not None}
    return found


def cells_as_array(cells: Sequence[Any], form: str | None = None, decimal: str = ".") -> pa.Array:
    """Cells of one kind as that type, of several kinds as text.

    Args:
        cells: empty ones as empty text.
        form: how dates among text are written, as for strptime.
        decimal: what stands before the decimals of numbers among text.
    """
    values = [None if cell == "" else _rounded(cell) for cell in cells]
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.nulls(len(values))
    if kinds <= {int, float}:
        sizes = [value for value in values if value is not None]
        if all(float(value).is_integer() for value in sizes):
            if all(abs(value) < EXACT_BELOW for value in sizes):
                return pa.array([None if value is None else int(value) for value in values], pa.int64())
        else:
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    elif kinds == {bool}:
        return pa.array(values, pa.bool_())
    elif kinds <= {date, datetime}:
        moments = [_moment(value) for value in values]
        if all(moment is None or moment.time() == time() for moment in moments):
            return pa.array([None if moment is None else moment.date() for moment in moments], pa.date32())
        return pa.array(moments, pa.timestamp("us"))
    elif kinds == {time}:
        return pa.array(values, pa.time64("us"))
    elif kinds == {timedelta}:
        return pa.array(values, pa.duration("us"))
    return pa.array([None if value is None else _text(value, form, decimal) for value in values], pa.string())


def _moment(value: Any) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    return datetime.combine(value, time())


def _rounded(value: Any) -> Any:
    """A time to the millisecond: days as floating-point numbers are no better than that."""
    if isinstance(value, datetime) and value.microsecond % 1000:
        return value + timedelta(microseconds=round(value.microsecond, -3) - value.microsecond)
    return value


def _text(value: Any, form: str | None, decimal: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        if float(value).is_integer():
            return f"{value:.14E}" if abs(value) >= EXACT_BELOW else str(int(value))
        return repr(value).replace(".", decimal)
    if isinstance(value, (date, datetime)):
        if form is not None:
            text = value.strftime(form)
            if datetime.strptime(text, form) == _moment(value):
                return text
        return value.isoformat()
    return str(value)
