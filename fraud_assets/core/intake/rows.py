"""What a reader of files hands on: rows under the file's own column names, and lines that are no rows of it.

How a file is read belongs to `adapters/files/reader.py`, what its values mean to `accept.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_assets.core.reasons import Reason, Rule


@dataclass(frozen=True)
class Rejected:
    """A line of a file that cannot be taken apart into the values of a row.

    Attributes:
        number: which row of the file it would be, from 1.
        line: which line of the file it is, or where it begins, from 1; of a table without lines the number of the row.
        text: as it stands in the file; bytes that are no text as `\\xe9`.
        reason: what is wrong with it, as the rest of a sentence about the row.
    """

    number: int
    line: int
    text: str
    reason: str

    @property
    def original(self) -> dict[str, object]:
        """What is kept of it in quarantine."""
        return {"line": self.line, "text": self.text}


def not_a_row(line: Rejected) -> Reason:
    """What is said of a line that is no row."""
    return Reason(Rule.NOT_A_ROW, line.reason)


@dataclass(frozen=True)
class Piece:
    """The next rows of a file.

    Attributes:
        rows: those that could be taken apart; text for text files, the types of the file for others.
        numbers: which row of the file each is, from 1; rejected lines count.
        rejected: the lines among them that could not.
        n_counted: rows and rejected lines, counted on the file itself and not on what a parser made of it.
    """

    rows: pa.RecordBatch
    numbers: npt.NDArray[np.int64]
    rejected: tuple[Rejected, ...]
    n_counted: int
