"""Scoring a table of raw rows or of features; the command around it is tested in `test_cli.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from fraud_assets.adapters.files.writer import write_file
from fraud_assets.adapters.online.history import History, HistoryAwayError, HistoryError
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.intake.accept import BrokenRow
from fraud_assets.core.models.encoding import Encoder, TextEncoding
from fraud_assets.core.models.scoring import SCORES_SCHEMA, ModelManifest, Scorer, digest_model
from fraud_assets.core.reasons import Rule
from fraud_assets.workflows import score_file as score_file_module
from fraud_assets.workflows.score_file import Problems, score_file, scored_file
from fraud_assets_tests.sentences import because

TIMESTAMP = pa.timestamp("us", tz="UTC")
START = datetime(2025, 3, 10, tzinfo=UTC)


class CountingScorer(Scorer):
    """Scores a row with its own `customer_count_30d` divided by a hundred, so that history shows in the score."""

    def __init__(self, manifest: ModelManifest, feature: str) -> None:
        self.manifest, self.feature = manifest, feature

    def score_table(self, features: pa.Table) -> pa.Table:
        counts = np.nan_to_num(features[self.feature].to_numpy(zero_copy_only=False).astype(float)) / 100
        decisions = ["review" if count >= self.manifest.threshold else "approve" for count in counts]
        versions = np.full(len(counts), self.manifest.model_version, np.int64)
        return pa.table([counts, decisions, versions], schema=SCORES_SCHEMA)


@pytest.fixture
def scorer(simulator_contract: Contract) -> CountingScorer:
    text = (Path(__file__).parents[2] / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    names = feature_names(simulator_contract)
    manifest = ModelManifest(
        model_name="fraud", model_version=4, trained_month="2025-02", as_of="2025-03-01T00:00:00+00:00", features=names,
        threshold=0.03, family="logistic_regression", contract_yaml=text, model_digest="0" * 64, metrics={},
    )  # fmt: skip
    return CountingScorer(manifest, "customer_count_30d")


@pytest.fixture
def store(database: Database, simulator_contract: Contract) -> MonthStore:
    """Five stored transactions of customer 1, on the days before START, and no report."""
    store = MonthStore(database, simulator_contract)
    stored = transactions([(n, START - timedelta(days=n), 1, 10.0) for n in range(1, 6)])
    stored = stored.append_column("ingested_at", pa.array([START] * 5, TIMESTAMP))
    store.replace_months("raw_transactions", stored, ["2025-03"])
    store.replace_months("fraud_labels", store.table("fraud_labels").schema.empty_table(), ["2025-03"])
    return store


def transactions(rows: list[tuple[int, datetime, int, float | None]]) -> pa.Table:
    identifiers, moments, customers, amounts = zip(*rows, strict=True)
    return pa.table(
        {
            "transaction_id": pa.array(identifiers, pa.int64()),
            "event_timestamp": pa.array(moments, TIMESTAMP),
            "customer_id": pa.array(customers, pa.int64()),
            "terminal_id": pa.array([7] * len(rows), pa.int64()),
            "amount": pa.array(amounts, pa.float64()),
            "merchant_segment": ["fuel"] * len(rows),
        }
    )


def score(rows: pa.Table, folder: Path, scorer: Scorer, database: Database) -> tuple[list[float | None], Problems]:
    path = folder / "rows.parquet"
    pyarrow.parquet.write_table(rows, path)
    scored, problems = score_file(path, scorer, database)
    assert scored.num_rows == rows.num_rows
    return scored["score"].to_pylist(), problems


def test_a_row_is_scored_with_the_history_that_is_stored(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    scores, _ = score(transactions([(100, START, 1, 5.0)]), tmp_path, scorer, store.database)
    assert scores == [pytest.approx(0.05)]


def test_a_customer_without_history_has_none_of_another_s(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    scores, _ = score(transactions([(100, START, 2, 5.0)]), tmp_path, scorer, store.database)
    assert scores == [pytest.approx(0.0)]


def test_rows_of_a_file_are_history_of_the_later_ones_in_it(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    rows = [(100 + n, START + timedelta(hours=n), 1, 5.0) for n in (2, 0, 1)]
    scores, _ = score(transactions(rows), tmp_path, scorer, store.database)
    assert scores == pytest.approx([0.07, 0.05, 0.06])


def test_a_stored_transaction_in_a_file_is_not_its_own_history(
    store: MonthStore, scorer: Scorer, tmp_path: Path
) -> None:
    scores, _ = score(transactions([(1, START - timedelta(days=1), 1, 10.0)]), tmp_path, scorer, store.database)
    assert scores == [pytest.approx(0.04)]


def test_history_of_thirty_days_ago_is_forgotten(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    late = transactions([(100, START + timedelta(days=27, seconds=1), 1, 5.0)])
    scores, _ = score(late, tmp_path, scorer, store.database)
    # Of the days 1 to 5 before START those of days 1 and 2 lie within 30 days; day 3 is 30 days and a second away.
    assert scores == [pytest.approx(0.02)]


def test_a_row_that_breaks_the_contract_has_no_score_and_a_sentence(
    store: MonthStore, scorer: Scorer, tmp_path: Path
) -> None:
    rows = transactions([(100, START, 1, 5.0), (101, START, 1, -1.0), (102, START, 1, 5.0)])
    scores, problems = score(rows, tmp_path, scorer, store.database)
    assert problems.sentences() == ["row 2 of rows.parquet: amount is below 0"]
    assert scores[1] is None
    assert None not in (scores[0], scores[2])


def test_rows_are_taken_together_by_their_reasons_whatever_the_file_is_called() -> None:
    below, missing = because("amount is below 0", rule=Rule.BELOW_MINIMUM), because("a: b; c", rule=Rule.MISSING_VALUE)
    rows = [BrokenRow(f"row {n} of a: b; c.csv", below if n < 4 else missing) for n in range(1, 6)]
    problems = Problems(examples=2)
    for row in rows:
        problems.add(row)
    assert problems.sentences() == [
        "row 1 of a: b; c.csv: amount is below 0",
        "row 2 of a: b; c.csv: amount is below 0",
        "... and 1 more: amount is below 0",
        "row 4 of a: b; c.csv: a: b; c",
        "row 5 of a: b; c.csv: a: b; c",
    ]


def test_a_row_that_comes_twice_is_scored_once_and_named(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    rows = transactions([(100, START, 1, 5.0), (100, START, 1, 5.0)])
    scores, problems = score(rows, tmp_path, scorer, store.database)
    assert problems.sentences() == ["row 2 of rows.parquet: transaction_id appears earlier in the delivery"]
    assert scores[1] is None


def test_columns_of_the_file_that_the_contract_does_not_know_are_kept(
    store: MonthStore, scorer: Scorer, tmp_path: Path
) -> None:
    rows = transactions([(100, START, 1, 5.0)]).append_column("note", pa.array(["mine"]))
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(rows, path)
    scored, _ = score_file(path, scorer, store.database)
    assert scored.column_names == [*rows.column_names, "score", "decision", "model_version"]
    assert scored["note"].to_pylist() == ["mine"]


@pytest.mark.parametrize("value", ["a lot", "inf", "-Infinity", "1e999"])
def test_text_that_is_no_finite_number_is_named_by_row_and_feature(
    store: MonthStore, scorer: Scorer, tmp_path: Path, value: str
) -> None:
    names = scorer.manifest.features
    lines = [",".join(names), ",".join("1" for _ in names), ",".join([*("1" for _ in names[1:]), value])]
    path = tmp_path / "features.csv"
    path.write_text("\n".join(lines))
    with pytest.raises(
        ValueError, match=rf"row 2 of features.csv: {names[-1]} is '{value}', which is no finite number"
    ):
        score_file(path, scorer, store.database)


def test_an_empty_cell_of_a_feature_is_a_missing_value(store: MonthStore, scorer: Scorer, tmp_path: Path) -> None:
    names = scorer.manifest.features
    path = tmp_path / "features.csv"
    path.write_text("\n".join([",".join(names), ",".join("" if name == "amount" else "3" for name in names)]))
    scored, problems = score_file(path, scorer, store.database)
    assert scored["score"].to_pylist() == [pytest.approx(0.03)]
    assert len(problems) == 0


@pytest.mark.parametrize("name", ["scored.parquet", "scored.csv"])
def test_a_table_is_written_by_the_ending_of_its_file(tmp_path: Path, name: str) -> None:
    table = pa.table({"a": [1, 2]})
    assert write_file(tmp_path / name, table.schema, table.to_batches()) == 2
    start = (tmp_path / name).read_bytes()[:4]
    assert start == (b"PAR1" if name.endswith("parquet") else b'"a"\n')


def test_a_file_that_could_not_be_written_whole_is_as_it_was_before(tmp_path: Path) -> None:
    table, path = pa.table({"a": [1, 2]}), tmp_path / "scored.csv"
    write_file(path, table.schema, table.to_batches())

    def breaks() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches()
        raise HistoryError("the file was cut")

    for name in ("scored.csv", "new.parquet"):
        with pytest.raises(HistoryError, match="the file was cut"):
            write_file(tmp_path / name, table.schema, breaks())
    assert path.read_text() == '"a"\n1\n2\n'
    assert [one.name for one in tmp_path.iterdir()] == ["scored.csv"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    table, pipe = pa.table({"a": [1, 2]}), tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write_file(pipe, table.schema, table.to_batches())
        assert read.result(10) == '"a"\n1\n2\n'
    assert pipe.is_fifo()


AMOUNTS = st.sampled_from([5.0, 7.5, -1.0, None])
MOMENTS = st.integers(0, 60 * 24).map(lambda hours: START + timedelta(hours=hours))
FILES = st.lists(st.tuples(st.integers(1, 12), MOMENTS, st.integers(1, 3), AMOUNTS), min_size=1, max_size=14)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=FILES, block_rows=st.integers(1, 5))
def test_how_many_are_scored_together_changes_nothing(
    store: MonthStore, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory, rows: Any, block_rows: int
) -> None:
    """Whatever comes twice, out of order, at one moment, is stored already at another time, or breaks the contract."""
    path = tmp_path_factory.mktemp("file") / "rows.csv"
    pyarrow.csv.write_csv(transactions(rows), path)
    expected, problems = score_file(path, scorer, store.database)
    with scored_file(path, scorer, store.database, block_rows=block_rows, memory=1) as scored:
        found = pa.Table.from_batches(scored.batches(), scored.schema)
    assert found.equals(expected)
    assert scored.n_rows == len(rows)
    assert scored.problems.sentences() == problems.sentences()
    assert found["score"].null_count == len(problems)


def test_a_database_that_is_away_for_a_moment_is_waited_for(
    store: MonthStore, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around, calls = History.around, list[int]()

    def away_at_first(history: History, batch: pa.Table) -> tuple[pa.Table, pa.Table]:
        calls.append(batch.num_rows)
        if len(calls) in (2, 3):
            raise HistoryAwayError("the database cannot be reached")
        return around(history, batch)

    monkeypatch.setattr(History, "around", away_at_first)
    monkeypatch.setattr(score_file_module, "LOOK_SECONDS", 0.01)
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(transactions([(100 + n, START + timedelta(hours=n), 1, 5.0) for n in range(3)]), path)
    scored, _ = score_file(path, scorer, store.database, block_rows=1)
    assert scored["score"].to_pylist() == pytest.approx([0.05, 0.06, 0.07])
    assert len(calls) == 5
    monkeypatch.setattr(score_file_module, "AWAY_SECONDS", 0.0)
    calls.clear()
    with pytest.raises(HistoryAwayError):
        score_file(path, scorer, store.database, block_rows=1)


TEXT_CONTRACT = """
name: texts
first_month: 2025-01
event_timestamp: {column: at}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""


class TextScorer(Scorer):
    """Keeps the features that it is given."""

    def __init__(self) -> None:
        self.manifest = ModelManifest(
            model_name="fraud", model_version=4, trained_month="2025-02", as_of="2025-03-01T00:00:00+00:00",
            features=("a", "city"), encoder=Encoder(("a",), (TextEncoding("city", own=("Ulm",)),)), threshold=0.03,
            family="logistic_regression", contract_yaml=TEXT_CONTRACT, model_digest="0" * 64,
        )  # fmt: skip
        self.seen = pa.table({})

    def score_table(self, features: pa.Table) -> pa.Table:
        self.seen = features
        n = features.num_rows
        return pa.table([[0.5] * n, ["review"] * n, [4] * n], schema=SCORES_SCHEMA)


def test_texts_of_a_file_of_features_stay_texts_and_blanks_are_no_value(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,city\n1.5, Ulm \n2,\n,  \n3,007\n", encoding="utf-8")
    scorer = TextScorer()
    score_file(tmp_path / "rows.csv", scorer, database)
    assert scorer.seen.to_pydict() == {"a": [1.5, 2.0, None, 3.0], "city": ["Ulm", None, None, "007"]}


@pytest.fixture(scope="module")
def explained(simulator_contract: Contract) -> Scorer:
    """A model that has explanations: frauds are large amounts."""
    generator = np.random.default_rng(5)
    names = feature_names(simulator_contract)
    X = generator.lognormal(2, 1, (2000, len(names))).astype(np.float32)
    trees = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(X, X[:, names.index("amount")] > 20)
    onnx = to_onnx(trees, len(names))
    text = (Path(__file__).parents[2] / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    return Scorer(onnx, ModelManifest(
        model_name="fraud", model_version=4, trained_month="2025-02", as_of="2025-03-01T00:00:00+00:00", features=names,
        threshold=0.5, family="hist_gradient_boosting", contract_yaml=text, model_digest=digest_model(onnx), metrics={},
    ))  # fmt: skip


def test_reasons_are_columns_beside_the_score_and_a_broken_row_has_none(
    store: MonthStore, explained: Scorer, tmp_path: Path
) -> None:
    rows = transactions([(100, START, 1, 90.0), (101, START, 1, -1.0), (102, START, 1, 2.0)])
    pyarrow.parquet.write_table(rows, tmp_path / "rows.parquet")
    scored, problems = score_file(tmp_path / "rows.parquet", explained, store.database, reasons=2)
    added = ["score", "decision", "model_version", "score_reason_1", "score_reason_2"]
    assert scored.column_names == [*rows.column_names, *added]
    assert len(problems) == 1
    large, broken, small = scored["score_reason_1"].to_pylist()
    assert large.startswith("the amount is 90 (+")
    assert small.startswith("the amount is 2 (-")
    assert broken is None


def test_a_scored_file_gets_new_reasons_in_place_of_the_old_ones(
    store: MonthStore, explained: Scorer, tmp_path: Path
) -> None:
    path, rows = tmp_path / "rows.parquet", transactions([(100, START, 1, 90.0)])
    pyarrow.parquet.write_table(rows, path)
    for reasons in (3, 1, 0, 2):
        scored, _ = score_file(path, explained, store.database, reasons=reasons)
        wanted = [f"score_reason_{number}" for number in range(1, reasons + 1)]
        assert scored.column_names == [*rows.column_names, "score", "decision", "model_version", *wanted]
        pyarrow.parquet.write_table(scored, path)
