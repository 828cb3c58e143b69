"""Scoring a file with the champion: the service's own steps, on a whole file.

Features come from the same function, the same history and the same model as in `bentos/fraud_scorer`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from fraud_assets.adapters.files.dialects import open_by_header
from fraud_assets.adapters.files.reader import together
from fraud_assets.adapters.online.history import History, features_with_history
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.column_names import find_columns
from fraud_assets.core.contracts.contract import Contract, ContractError
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.intake.accept import BrokenRow, convert
from fraud_assets.core.intake.physical import plain_array
from fraud_assets.core.intake.rows import Rejected, not_a_row
from fraud_assets.core.models.scoring import SCORES_SCHEMA, Scorer
from fraud_assets.core.reasons import Reason, joined

REASON = "score_reason_{}"
EXPLAINED_AT_ONCE = 10_000  # rows, so that a long file's features are not all Python's own values


def score_file(path: Path, scorer: Scorer, database: Database, *, reasons: int = 0) -> tuple[pa.Table, list[BrokenRow]]:
    """Scores a file of raw transactions, or of features.

    Args:
        path: the file, of any kind, written as the contract says or plainly; columns under the contract's source names,
            or one for each feature of the model.
        scorer: the champion.
        database: where history is.
        reasons: so many of each row are told, the strongest first.

    Returns:
        The file's rows and columns, as they are in it, plus `score`, `decision`, `model_version` and, where they are
        asked for and the model has them, `score_reason_1` and so on (`fraud_score` and so on where the file has such a
        column of its own); and each row that breaks the contract or is none: its score and decision are empty.

    Raises:
        ValueError: when the file cannot be read, or has neither the contract's columns nor the features.
    """
    contract, features = scorer.manifest.contract, set(scorer.manifest.features)
    opened = open_by_header(
        path, contract, lambda names: features <= set(names) or _has_columns(names, contract), contract.source_columns
    )
    pieces = list(opened.pieces())
    rows = together([piece.rows for piece in pieces], opened.names)
    numbers = np.concatenate([np.array([], np.int64), *(piece.numbers for piece in pieces)])
    if features <= set(rows.column_names):
        scored, problems = _explained(_features(rows, scorer, path.name), scorer, reasons), list[BrokenRow]()
    else:
        scored, problems = _score_transactions(rows, scorer, database, path.name, numbers, reasons)
    for line in opened.rejected:
        said = replace(not_a_row(line), text=f"line {line.line} {line.reason}: {line.text[:80]!r}")
        problems.append(BrokenRow(f"row {line.number} of {path.name}", (said,)))
    return _with_rejected(_beside(rows, scored, contract), numbers, opened.rejected), problems


def _has_columns(names: Sequence[str], contract: Contract) -> bool:
    try:
        find_columns({name: name for name in contract.source_columns}, names, "", "")
    except ContractError:
        return False
    return True


def _score_transactions(
    rows: pa.Table, scorer: Scorer, database: Database, file: str, numbers: npt.NDArray[np.int64], reasons: int
) -> tuple[pa.Table, list[BrokenRow]]:
    """Scores of raw transactions, null for those that break the contract, and these."""
    contract = scorer.manifest.contract
    converted = convert(rows, contract, file, numbers)
    good = converted.transactions
    if good.num_rows == 0:
        nothing = _explained(_no_features(scorer), scorer, reasons).take(pa.nulls(rows.num_rows, pa.int64()))
        return nothing, converted.problems
    history = History(database.url, contract) if contract.entities else None
    try:
        scored = _explained(features_with_history(good, contract, history), scorer, reasons)
    finally:
        if history is not None:
            history.close()
    position = pc.index_in(converted.transaction_ids, good["transaction_id"].combine_chunks())
    return scored.take(position), converted.problems


def _explained(features: pa.Table, scorer: Scorer, reasons: int) -> pa.Table:
    """Scores, with a column for each reason that is asked for."""
    scored = scorer.score_table(features)
    if not reasons or not (writer := ReasonWriter(scorer)).is_able:
        return scored
    told: list[list[str | None]] = [[] for _ in range(reasons)]
    for first in range(0, features.num_rows, EXPLAINED_AT_ONCE):
        some = features.slice(first, EXPLAINED_AT_ONCE)
        scores = scored["score"].slice(first, EXPLAINED_AT_ONCE).to_numpy()
        for explanation in writer.of_table(some, scores, reasons):
            sentences = [one.sentence for one in explanation.reasons]
            for place, column in enumerate(told):
                column.append(sentences[place] if place < len(sentences) else None)
    for place, column in enumerate(told, start=1):
        scored = scored.append_column(REASON.format(place), pa.array(column, pa.string()))
    return scored


def by_reason(problems: Sequence[BrokenRow], examples: int = 3) -> list[str]:
    """What is wrong with rows, in so many lines as can be read: the first with the same reasons, and how many more.

    >>> from fraud_assets.core.reasons import Rule
    >>> missing = (Reason(Rule.MISSING_VALUE, "amount is missing", "amount"),)
    >>> by_reason([BrokenRow("row 1 of f", missing), BrokenRow("row 2 of f", missing)], 1)
    ['row 1 of f: amount is missing', '... and 1 more: amount is missing']
    """
    found: dict[tuple[Reason, ...], list[BrokenRow]] = {}
    for problem in problems:
        found.setdefault(problem.reasons, []).append(problem)
    lines = []
    for reasons, mine in sorted(found.items(), key=lambda one: -len(one[1])):
        lines += [problem.sentence for problem in mine[:examples]]
        if len(mine) > examples:
            lines.append(f"... and {len(mine) - examples:,} more: {joined(reasons)}")
    return lines


def write_table(rows: pa.Table, path: Path) -> None:
    """Writes Parquet or CSV, by the file's ending.

    Raises:
        ValueError: when the file cannot be written.
    """
    try:
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(rows, path)
        else:
            pyarrow.csv.write_csv(as_text(rows), path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def as_text(rows: pa.Table) -> pa.Table:
    """Rows of types that CSV has; lists, structs and the like as JSON."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type) or isinstance(field.type, pa.BaseExtensionType):
            chunks = [plain_array(chunk)[0] for chunk in rows.column(place).chunks]
            rows = rows.set_column(place, field.name, pa.chunked_array(chunks or [pa.array([], pa.string())]))
    return rows


def _features(rows: pa.Table, scorer: Scorer, origin: str) -> pa.Table:
    """The features: numbers also where a CSV file gave text, and texts also where a file gave numbers."""
    numbers = rows.select(list(scorer.manifest.features))
    for name in scorer.manifest.encoding.numbers:
        position = numbers.column_names.index(name)
        values = numbers[name]
        if pa.types.is_string(values.type):
            values = pa.chunked_array([[_number(text, name, row, origin) for row, text in enumerate(values, 1)]])
            numbers = numbers.set_column(position, name, values.cast(pa.float64()))
    for text in scorer.manifest.encoding.texts:
        position = numbers.column_names.index(text.name)
        # As in a contract's rows, blanks around a text are no part of it, and blanks alone no value.
        values = pc.utf8_trim_whitespace(numbers[text.name].cast(pa.string()))
        numbers = numbers.set_column(position, text.name, pc.if_else(pc.equal(values, ""), None, values))
    return numbers


def _number(text: pa.StringScalar, name: str, row: int, origin: str) -> float | None:
    value = text.as_py()
    try:
        number = None if value is None else float(value)
    except ValueError:
        number = math.inf
    if number is not None and math.isinf(number):
        raise ValueError(f"row {row} of {origin}: {name} is {value!r}, which is no finite number; correct the file")
    return number


def _beside(rows: pa.Table, scored: pa.Table, contract: Contract) -> pa.Table:
    """The file's own columns as they are, and the scores."""
    names = list(scored.column_names)
    own = {*contract.source_columns, contract.label.column}
    if set(SCORES_SCHEMA.names) <= set(rows.column_names) and not own & set(names):
        # A file that was scored before gets new scores, not two columns of one name.
        old = re.compile("|".join([*SCORES_SCHEMA.names, REASON.format(r"\d+")]))
        rows = rows.select([place for place, name in enumerate(rows.column_names) if not old.fullmatch(name)])
    elif set(names) & set(rows.column_names):
        names = [f"fraud_{name}" for name in names]
    for name, column in zip(names, scored.columns, strict=True):
        rows = rows.append_column(name, column)
    return rows


def _with_rejected(scored: pa.Table, numbers: npt.NDArray[np.int64], rejected: Sequence[Rejected]) -> pa.Table:
    """The rows with the lines between them that are none: their text as it stands, and no score."""
    if not rejected:
        return scored
    columns = []
    for place, column in enumerate(scored.columns):
        texts = [line.text for line in rejected] if place == 0 and pa.types.is_string(column.type) else None
        lines = pa.array(texts, pa.string()) if texts else pa.nulls(len(rejected), column.type)
        columns.append(pa.chunked_array([*column.chunks, lines], column.type))
    schema = pa.schema([field.with_nullable(True) for field in scored.schema])
    order = np.argsort(np.concatenate([numbers, [line.number for line in rejected]]), kind="stable")
    return pa.Table.from_arrays(columns, schema=schema).take(pa.array(order))


def _no_features(scorer: Scorer) -> pa.Table:
    encoder = scorer.manifest.encoding
    kinds = dict.fromkeys(encoder.numbers, pa.float32()) | {text.name: pa.string() for text in encoder.texts}
    return pa.schema(kinds.items()).empty_table()
