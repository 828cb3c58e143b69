"""Contract files: trying one on data without writing anything, and drafting one for a new file.

What a draft says belongs to `core/drafting/draft.py`, what breaks a contract to `core/intake/accept.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa

from fraud_assets.adapters.files.reader import OpenedFile, open_rows
from fraud_assets.adapters.sources import (
    FolderSource,
    Source,
    SourceError,
    open_source,
)
from fraud_assets.core.contracts.contract import Contract, ContractError, Csv, load_contract, parse_contract
from fraud_assets.core.drafting.draft import (
    MONTH_IN_NAME,
    Draft,
    draft_contract,
    file_name_month,
    monthly_pattern,
    name_as_pattern,
    pattern_of_alike,
)
from fraud_assets.core.drafting.profiling import FileProfile, profile_rows
from fraud_assets.core.drafting.roles import Choices
from fraud_assets.core.intake.accept import Part
from fraud_assets.core.intake.preview import BrokenRule, ColumnUse, MonthPreview, preview
from fraud_assets.core.months import check_month, months_between
from fraud_assets.settings import Settings
from fraud_assets.workflows.new_source.feed_check import FeedCheck, check_feed

MOST_READ = 6  # files of a source with one file a month


@dataclass(frozen=True)
class DataCheck:
    """What a contract makes of the months that there are.

    Attributes:
        month: the first month that was read.
        months: each month that was read; see `MonthPreview`.
        missing_months: months between the first and the last without a row.
        n_delivered, n_accepted, n_quarantined: rows.
        reasons: why rows would be quarantined, most frequent first.
        fraud_rate: share of frauds among the accepted rows of which it is stated; None where labels come separately.
        label_share: share of the rows read that have a value in the label's column; None likewise.
        columns: what models can use, and why not the rest.
        refused: why months would be refused whole, if any would.
        feed: what it makes of the label feed, if it has one.
    """

    month: str
    months: list[MonthPreview]
    missing_months: list[str]
    n_delivered: int
    n_accepted: int
    n_quarantined: int
    reasons: list[BrokenRule]
    fraud_rate: float | None
    label_share: float | None
    columns: list[ColumnUse]
    refused: str | None
    feed: FeedCheck | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        found = asdict(self)
        for row, month in zip(found["months"], self.months, strict=True):
            row["fraud_rate"] = month.fraud_rate
        return found


def check_contract(
    file: Path, data: Path | None, month: str | None, configured: Callable[[], Settings]
) -> tuple[Contract, DataCheck | None]:
    """Reads a contract and, where there is data for it, applies it to the months there are; nothing is written.

    Args:
        file: the contract.
        data: a file, or a folder as a source has it.
        month: the only month to read; all there are when absent.
        configured: gives the settings; without data, their source is read when `file` is their contract.

    Raises:
        ContractError: when the contract is wrong, or a column that it names is not in the data.
        SourceError: when the data cannot be read.
    """
    contract = load_contract(file)
    if data is not None:
        source, named = _open_data(contract, data)
        if month and named and month != named:
            raise SourceError(f"{data} is named as the file of {named}, not of {month}; leave --month out")
        return contract, check_data(contract, source, month or named)
    settings = configured()
    if settings.contract_path != file.resolve():
        if month is not None:
            raise ContractError(
                f"{file} is not the contract of FRAUD_CONTRACT: give --data, the file or folder to read"
            )
        return contract, None
    return contract, check_data(contract, open_source(settings), month)


def _months(contract: Contract, source: Source, month: str | None) -> list[str]:
    if month is not None:
        return [check_month(month)]
    last = contract.last_month or contract.month_of(datetime.now(UTC))
    found = [one for one in months_between(contract.first_month, last) if source.has(one)]
    if not found:
        raise SourceError(
            f"the source has no data for any month of contract {contract.name!r}, {contract.first_month} to {last}; "
            f"check its file_pattern {contract.file_pattern!r} and its months"
        )
    return found


def check_data(contract: Contract, source: Source, month: str | None = None) -> DataCheck:
    """Applies a contract to the months that a source has.

    Args:
        contract: what to keep to.
        source: gives the months.
        month: the only one to look at.

    Raises:
        ContractError: when a column of the contract is missing, or cannot be read.
        SourceError: when there is nothing to read.
    """
    months = _months(contract, source, month)
    found = preview(_parts(source, months), contract, lambda one: month is None or one == month)
    known = sum(one.n_fraud + one.n_genuine for one in found.months)
    refused = [one.refused for one in found.months if one.refused]
    return DataCheck(
        found.months[0].month if found.months else months[0],
        found.months,
        found.missing_months,
        sum(one.n_delivered for one in found.months),
        sum(one.n_accepted for one in found.months),
        sum(one.n_quarantined for one in found.months),
        found.reasons,
        sum(one.n_fraud for one in found.months) / known if known else None,
        found.label_share,
        found.columns,
        "; ".join(refused) or None,
        check_feed(contract, source, months[0]),
    )


def _parts(source: Source, months: list[str]) -> Iterator[tuple[Part, str | None]]:
    """Each part once, with its month; files with all months are the same ones for every month."""
    for month in months:
        delivery = source.read(month)
        for part in delivery.parts:
            yield part, None if delivery.whole else month
        if delivery.whole:
            return


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


@dataclass(frozen=True)
class Described:
    """A file, or several of one source, before anybody has said what is in them.

    Attributes:
        file: the one that was named, or the first of a folder.
        files: all that belong to the source.
        csv: how they are written, where they are text.
        file_format: what they are.
        profile: what their columns hold.
        n_rejected: lines that are no rows.
    """

    file: Path
    files: list[Path]
    csv: Csv
    file_format: str
    profile: FileProfile
    n_rejected: int

    def draft(self, name: str | None = None, choices: Choices = Choices()) -> Draft:  # noqa: B008 - frozen
        """A first contract.

        Args:
            name: the contract's name; made of the file's when absent.
            choices: what a person has said already.

        Raises:
            ContractError: when no column is a time.
        """
        siblings = [path.name for path in self.file.parent.iterdir() if path.is_file()]
        csv = self.csv if self.file_format == "csv" else None
        try:
            draft = draft_contract(self.profile, self.file.name, name=name, siblings=siblings, csv=csv, choices=choices)
            parse_contract(draft.text, "the draft")
        except ContractError as error:
            raise ContractError(f"{self.file}: {error}") from error
        return draft


def describe_files(path: Path) -> Described:
    """Reads what a file holds, and those beside it that are delivered in the same way.

    Args:
        path: a file, or a folder with files of one kind.

    Raises:
        SourceError: when there is no such file, or it cannot be read.
        ContractError: when it has no rows.
    """
    file = _first_file(path) if path.is_dir() else path
    opened = open_rows(file)
    siblings = sorted(other.name for other in file.parent.iterdir() if other.is_file())
    _, months = monthly_pattern(file.name, siblings)
    names = [file.name]
    if months:
        month = file_name_month(file.name) or ""
        names = [file.name.replace(month, other, 1) for other in months]
    else:
        names = pattern_of_alike(file.name, siblings)[1]
    files = [file.parent / name for name in names]
    read = files
    if months and len(files) > MOST_READ:
        # The first, the last and some between tell what there is; how many rows is what the check counts.
        read = [files[round(place * (len(files) - 1) / (MOST_READ - 1))] for place in range(MOST_READ)]
    rejected: list[int] = []
    try:
        profile = profile_rows(
            _rows_of(file, [opened, *(open_rows(other) for other in read if other != file)], rejected)
        )
    except ContractError as error:
        raise ContractError(f"{file}: {error}") from error
    return Described(file, files, opened.csv, opened.format, profile, sum(rejected))


def _first_file(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    if not files:
        raise SourceError(f"{folder} holds no file; name one with transactions")
    shapes = Counter(re.sub(r"\d+", "0", path.name) for path in files)
    usual = max(shapes, key=lambda shape: (shapes[shape], -[re.sub(r"\d+", "0", f.name) for f in files].index(shape)))
    if len(shapes) > 1 and shapes[usual] == 1:
        raise SourceError(
            f"{folder} holds {len(files)} files of different kinds ({', '.join(path.name for path in files[:6])}); "
            "name the one with the transactions"
        )
    return next(path for path in files if re.sub(r"\d+", "0", path.name) == usual)


def _rows_of(file: Path, opened: list[OpenedFile], rejected: list[int]) -> Iterator[pa.RecordBatch]:
    """The rows of files of one source under the first one's columns; a file with others is left to the check."""
    schema: pa.Schema | None = None
    for one in opened:
        if one.path != file and set(one.names) != set(opened[0].names):
            continue
        for batch in one.batches():
            if schema is None:
                schema = batch.schema.remove_metadata()
            fitted = _fitted(batch, schema)
            if fitted is None:
                break
            yield fitted
        rejected.append(len(one.rejected))


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch | None:
    if batch.schema.names == schema.names and batch.schema.types == schema.types:
        return batch.replace_schema_metadata(None)
    if len(set(schema.names)) < len(schema.names) or set(batch.schema.names) != set(schema.names):
        return None
    try:
        columns = [batch.column(field.name).cast(field.type) for field in schema]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return pa.record_batch(columns, schema=schema)


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
        raise SourceError(f"{out} exists already and is left unchanged; name another file with --out") from error
    except OSError as error:
        raise SourceError(f"{out} cannot be written: {error}; name another file with --out") from error
