"""Contract files: trying one on data without writing anything, and drafting one for a new file.

What a draft says belongs to `core/drafting.py`, what breaks a contract to `core/intake.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.files import open_rows
from fraud_assets.adapters.sources import (
    FolderSource,
    Source,
    SourceError,
    open_source,
)
from fraud_assets.core.contract import Contract, ContractError, load_contract, parse_contract
from fraud_assets.core.drafting import MONTH_IN_NAME, draft_contract, name_as_pattern
from fraud_assets.core.intake import Part, accept
from fraud_assets.core.months import check_month, months_between
from fraud_assets.core.profiling import profile_rows
from fraud_assets.core.rows import Piece
from fraud_assets.settings import Settings

EXAMPLES = 3


@dataclass(frozen=True)
class Reason:
    """A rule that rows break: how many, and the first of them with `source`, `row_number` and `original` values."""

    reason: str
    rows: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class DataCheck:
    """What a contract makes of a month.

    Attributes:
        month: the month that was read.
        n_delivered, n_accepted, n_quarantined: rows.
        reasons: why rows would be quarantined, most frequent first.
        fraud_rate: share of the accepted rows that are stated to be fraud; None where labels come separately.
        label_share: share of the rows read that have a value in the label's column; None likewise.
        refused: why the month would be refused whole, if it would.
    """

    month: str
    n_delivered: int
    n_accepted: int
    n_quarantined: int
    reasons: list[Reason]
    fraud_rate: float | None
    label_share: float | None
    refused: str | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def check_contract(
    file: Path, data: Path | None, month: str | None, configured: Callable[[], Settings]
) -> tuple[Contract, DataCheck | None]:
    """Reads a contract and, where there is data for it, applies it to a month; nothing is written.

    Args:
        file: the contract.
        data: a file, or a folder as a source has it.
        month: the month to read; when absent, the one in the data's name, else the first there is.
        configured: gives the settings; without data, their source is read when `file` is their contract.

    Raises:
        ContractError: when the contract is wrong, or a column that it names is not in the data.
        SourceError: when the data cannot be read.
        IntakeError: when there are no rows for the month.
    """
    contract = load_contract(file)
    if data is not None:
        source, named = _open_data(contract, data)
        if month and named and month != named:
            raise SourceError(f"{data} is named as the file of {named}, not of {month}; leave --month out")
        return contract, check_data(contract, source, _month(contract, source, month or named))
    settings = configured()
    if settings.contract_path != file.resolve():
        if month is not None:
            raise ContractError(
                f"{file} is not the contract of FRAUD_CONTRACT: give --data, the file or folder to read"
            )
        return contract, None
    source = open_source(settings)
    return contract, check_data(contract, source, _month(contract, source, month))


def _month(contract: Contract, source: Source, month: str | None) -> str:
    if month is not None:
        return check_month(month)
    last = contract.last_month or contract.month_of(datetime.now(UTC))
    found = next((one for one in months_between(contract.first_month, last) if source.has(one)), None)
    if found is None:
        raise SourceError(
            f"there is nothing for any month of contract {contract.name!r}, {contract.first_month} to {last}; check "
            f"its file_pattern {contract.file_pattern!r} and its months"
        )
    return found


def check_data(contract: Contract, source: Source, month: str) -> DataCheck:
    """Applies a contract to a month.

    Args:
        contract: what to keep to.
        source: gives the month.
        month: which.
    """
    # Without a limit, because what is wrong is to be seen of a month that is refused as well.
    lenient = contract.model_copy(update={"quarantine_limit": 1.0})
    delivery = source.read(month)
    labels = _LabelCounter(contract.label.column)
    delivery = replace(delivery, parts=[Part(part.origin, labels.watching(part)) for part in delivery.parts])
    with accept(delivery, lenient, month) as intake:
        n_quarantined = intake.quarantined.num_rows
        fraud_rate = None
        if contract.label.column and intake.n_transactions:
            fraud_rate = intake.statements.num_rows / intake.n_transactions
        reasons = [
            Reason(reason, rows, _examples(intake.quarantined, reason)) for reason, rows in intake.reason_counts.items()
        ]
        refused = None
        if n_quarantined > contract.quarantine_limit * intake.n_delivered:
            refused = (
                f"{month} would be refused: {n_quarantined:,} of {intake.n_delivered:,} rows "
                f"({n_quarantined / intake.n_delivered:.1%}) break the contract, more than its quarantine_limit of "
                f"{contract.quarantine_limit:.1%}; correct the mapping in the contract, or the file"
            )
        return DataCheck(
            month,
            intake.n_delivered,
            intake.n_transactions,
            n_quarantined,
            reasons,
            fraud_rate,
            labels.share if contract.label.column else None,
            refused,
        )


class _LabelCounter:
    """Counts the values in the label's column while rows pass by."""

    def __init__(self, column: str | None) -> None:
        self.column, self.n, self.n_given = column, 0, 0

    def watching(self, part: Part) -> Callable[[], Iterator[pa.RecordBatch | Piece]]:
        """The part's rows, counted."""

        def batches() -> Iterator[pa.RecordBatch | Piece]:
            for piece in part.open():
                batch = piece.rows if isinstance(piece, Piece) else piece
                self.n += batch.num_rows
                if self.column in batch.schema.names:
                    values = batch.column(self.column)
                    self.n_given += len(values) - values.null_count
                yield piece

        return batches

    @property
    def share(self) -> float | None:
        """Of all rows, those with a value."""
        return self.n_given / self.n if self.n else None


def _examples(quarantined: pa.Table, reason: str) -> list[dict[str, Any]]:
    rows = quarantined.filter(pc.match_substring(quarantined["reasons"], reason)).slice(0, EXAMPLES)
    return [
        {"source": row["source"], "row_number": row["row_number"], "original": json.loads(row["original"])}
        for row in rows.to_pylist()
    ]


def _open_data(contract: Contract, data: Path) -> tuple[Source, str | None]:
    """The source that a path names, and the month that is in the name of a file."""
    if data.is_dir():
        return FolderSource(data, contract.file_pattern, contract), None
    if not data.is_file():
        raise SourceError(f"there is no file or folder {data}")
    before, found, after = data.name, None, ""
    if "{month}" in contract.file_pattern:
        for match in MONTH_IN_NAME.finditer(data.name):
            if fnmatchcase(data.name, contract.file_pattern.format(month=match.group())):
                before, found, after = data.name[: match.start()], match.group(), data.name[match.end() :]
                break
    pattern = f"{name_as_pattern(before)}{{month}}{name_as_pattern(after)}" if found else name_as_pattern(before)
    return FolderSource(data.parent, pattern, contract), found


def draft_file(file: Path, name: str | None = None) -> str:
    """Drafts a contract for a CSV or Parquet file.

    Args:
        file: the file.
        name: the contract's name; made of the file's when absent.

    Raises:
        SourceError: when there is no such file, or it cannot be read.
        ContractError: when it has no rows, or no column that is a time.
    """
    if not file.is_file():
        raise SourceError(f"there is no file {file}")
    opened = open_rows(file)
    encoding = opened.csv.encoding
    siblings = [path.name for path in file.parent.iterdir()]
    try:
        draft = draft_contract(
            profile_rows(opened.batches()), file.name, name=name, siblings=siblings, encoding=encoding
        )
        parse_contract(draft, "the draft")
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from error
    return draft


def write_draft(draft: str, out: Path) -> None:
    """Writes a draft to a file of its own.

    Raises:
        SourceError: when the file is there already, because a person may have finished it, or cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            file.write(draft)
    except FileExistsError as error:
        raise SourceError(f"{out} is there already and is left as it is; name another file with --out") from error
    except OSError as error:
        raise SourceError(f"{out} cannot be written: {error}; name another file with --out") from error
