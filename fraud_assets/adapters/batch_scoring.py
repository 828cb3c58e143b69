"""Scoring a file with the champion: the service's own steps, on a whole file.

Features come from the same function, the same history and the same model as in `bentos/fraud_scorer`.
"""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from bentos.fraud_scorer.history import History
from fraud_assets.adapters.database import Database
from fraud_assets.adapters.sources import read_table
from fraud_assets.core.features import compute_features
from fraud_assets.core.intake import convert
from fraud_assets.core.scoring import Scorer


def score_file(path: Path, scorer: Scorer, database: Database) -> tuple[pa.Table, list[str]]:
    """Scores a CSV or Parquet file of raw transactions, or of features.

    Args:
        path: the file; columns under the contract's source names, or one for each feature of the model.
        scorer: the champion.
        database: where history is.

    Returns:
        The file's rows and columns plus `score`, `decision`, `model_version`, and one sentence for each row that
        breaks the contract: its score and decision are empty.

    Raises:
        ValueError: when the file cannot be read, or has neither the contract's columns nor the features.
    """
    rows = read_table(path)
    if set(scorer.manifest.features) <= set(rows.column_names):
        return _beside(rows, scorer.score_table(_features(rows, scorer, path.name))), []
    contract = scorer.manifest.contract
    converted = convert(rows, contract, path.name)
    good = converted.transactions
    if good.num_rows == 0:
        return _beside(rows, scorer.score_table(_no_features(scorer)).take(pa.nulls(rows.num_rows, pa.int64()))), (
            converted.problems
        )
    statements = contract.labels_schema().empty_table()
    transactions = good
    if contract.entities:
        history = History(database.url, contract)
        try:
            stored, statements = history.before(good)
        finally:
            history.close()
        transactions = pa.concat_tables([stored, good])
    moments = pc.min_max(good["event_timestamp"]).as_py()
    features = compute_features(
        transactions,
        statements,
        contract,
        start=moments["min"],
        end=moments["max"] + timedelta(microseconds=1),
    )
    scored = scorer.score_table(features)
    position = pc.index_in(converted.transaction_ids, features["transaction_id"].combine_chunks())
    return _beside(rows, scored.take(position)), converted.problems


def write_table(rows: pa.Table, path: Path) -> None:
    """Writes Parquet or CSV, by the file's ending.

    Raises:
        ValueError: when the file cannot be written.
    """
    try:
        if path.suffix == ".parquet":
            pyarrow.parquet.write_table(rows, path)
        else:
            pyarrow.csv.write_csv(rows, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from error


def _features(rows: pa.Table, scorer: Scorer, origin: str) -> pa.Table:
    """The features: numbers also where a CSV file gave text, and texts also where a file gave numbers."""
    numbers = rows.select(list(scorer.manifest.features))
    for position, name in enumerate(scorer.manifest.encoding.numbers):
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


def _beside(rows: pa.Table, scored: pa.Table) -> pa.Table:
    # A file that was scored before gets new scores, not two columns of one name.
    rows = rows.select([name for name in rows.column_names if name not in scored.column_names])
    for name in scored.column_names:
        rows = rows.append_column(name, scored[name])
    return rows


def _no_features(scorer: Scorer) -> pa.Table:
    encoder = scorer.manifest.encoding
    kinds = dict.fromkeys(encoder.numbers, pa.float32()) | {text.name: pa.string() for text in encoder.texts}
    return pa.schema(kinds.items()).empty_table()
