"""Scoring a file with the champion: the service's own steps, on a whole file.

Features come from the same function, the same history and the same model as in `bentos/fraud_scorer`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from bentos.fraud_scorer.history import History
from fraud_assets.adapters.database import Database
from fraud_assets.adapters.sources import read_table
from fraud_assets.core.features import HISTORY_DAYS, compute_features
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
        numbers = rows.select(list(scorer.manifest.features)).cast(
            pa.schema([(name, pa.float32()) for name in scorer.manifest.features])
        )
        return _beside(rows, scorer.score_table(numbers)), []
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
        history = History(database.url, contract, HISTORY_DAYS)
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


def _beside(rows: pa.Table, scored: pa.Table) -> pa.Table:
    for name in scored.column_names:
        rows = rows.append_column(name, scored[name])
    return rows


def _no_features(scorer: Scorer) -> pa.Table:
    return pa.schema([(name, pa.float32()) for name in scorer.manifest.features]).empty_table()
