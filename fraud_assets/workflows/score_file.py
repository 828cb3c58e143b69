"""Scoring a file with the champion: the service's own steps, on a file of any length.

Features come from the same function, the same history and the same model as in `bentos/fraud_scorer`. The file is read
twice: first its transactions are put in order of time, on disk where they are many, and scored a block at a time; then
its rows are given out as they stand in it, each with its score. How a file is written belongs to `adapters/files`.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.files.dialects import open_by_header
from fraud_assets.adapters.files.reader import OpenedFile, common_schema, in_schema
from fraud_assets.adapters.online.history import History, HistoryAwayError, features_from
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.column_names import find_columns
from fraud_assets.core.contracts.contract import Contract, ContractError
from fraud_assets.core.explanations.reason_codes import ReasonWriter
from fraud_assets.core.features.declarations import history_days
from fraud_assets.core.intake.accept import REPEATED_ID, BrokenRow, Conversion, Repeats, row_of
from fraud_assets.core.intake.rows import Rejected, not_a_row
from fraud_assets.core.intake.spool import BATCH_ROWS, MEMORY, Spool
from fraud_assets.core.models.scoring import SCORES_SCHEMA, Scorer
from fraud_assets.core.reasons import Reason, joined
from fraud_assets.workflows.progress import Progress

REASON = "score_reason_{}"
NUMBER = "#row"  # of the file, from 1; no column of a contract is called so
EXPLAINED_AT_ONCE = 10_000  # rows, so that a long file's features are not all Python's own values
BLOCK_ROWS = 500_000  # are scored together: the history of each block is read again
STATEMENT_SECONDS = 600  # nobody waits for an answer as a card does
# How long a database may be away on the way, and between two looks.
AWAY_SECONDS = 120.0
LOOK_SECONDS = 2.0
EXAMPLES = 3


@dataclass
class Problems:
    """Rows that are not scored: how many for which reasons, and the first of each.

    Attributes:
        examples: how many rows are kept of those with the same reasons.
    """

    examples: int = EXAMPLES
    _found: dict[tuple[Reason, ...], list[BrokenRow]] = field(default_factory=dict)
    _counts: dict[tuple[Reason, ...], int] = field(default_factory=dict)

    def add(self, row: BrokenRow) -> None:
        """One more."""
        first = self._found.setdefault(row.reasons, [])
        if len(first) < self.examples:
            first.append(row)
        self._counts[row.reasons] = self._counts.get(row.reasons, 0) + 1

    def __len__(self) -> int:
        """How many rows there are."""
        return sum(self._counts.values())

    def sentences(self) -> list[str]:
        """In so many lines as can be read: the first with the same reasons, and how many more.

        >>> from fraud_assets.core.reasons import Rule
        >>> problems, missing = Problems(examples=1), (Reason(Rule.MISSING_VALUE, "amount is missing", "amount"),)
        >>> for number in (1, 2):
        ...     problems.add(BrokenRow(f"row {number} of f", missing))
        >>> problems.sentences()
        ['row 1 of f: amount is missing', '... and 1 more: amount is missing']
        """
        lines = []
        for reasons, count in sorted(self._counts.items(), key=lambda one: -one[1]):
            lines += [row.sentence for row in self._found[reasons]]
            if count > self.examples:
                lines.append(f"... and {count - self.examples:,} more: {joined(reasons)}")
        return lines


@dataclass(frozen=True)
class ScoredFile:
    """A file whose rows have been scored.

    Attributes:
        schema: of the rows with their scores.
        n_rows: how many there are, lines that are no rows among them.
        problems: those that have no score.
    """

    schema: pa.Schema
    n_rows: int
    problems: Problems
    _opened: OpenedFile
    _given: pa.Schema
    _scores: Spool
    _contract: Contract

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The file's rows and columns, as they are in it, with their scores; may be called again."""
        scores = _InOrder(self._scores)
        for piece in self._opened.pieces():
            rows = pa.Table.from_batches([in_schema(piece.rows, self._given)])
            numbers = [*piece.numbers[-1:].tolist(), *(line.number for line in piece.rejected[-1:])]
            scored = scores.up_to(max(numbers, default=0))
            place = pc.index_in(pa.array(piece.numbers, pa.int64()), scored[NUMBER].combine_chunks())
            scored = scored.drop_columns(NUMBER).take(place)
            table = _with_rejected(_beside(rows, scored, self._contract), piece.numbers, piece.rejected)
            yield from table.cast(self.schema).to_batches()


def score_file(
    path: Path, scorer: Scorer, database: Database, *, reasons: int = 0, block_rows: int = BLOCK_ROWS
) -> tuple[pa.Table, Problems]:
    """As `scored_file`, all rows at once."""
    with scored_file(path, scorer, database, reasons=reasons, block_rows=block_rows) as scored:
        return pa.Table.from_batches(scored.batches(), scored.schema), scored.problems


@contextmanager
def scored_file(
    path: Path,
    scorer: Scorer,
    database: Database,
    *,
    reasons: int = 0,
    block_rows: int = BLOCK_ROWS,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Iterator[ScoredFile]:
    """Scores a file of raw transactions, or of features.

    What is in memory at once is a block with its history, and the ids of all transactions.

    Args:
        path: the file, of any kind, written as the contract says or plainly; columns under the contract's source names,
            or one for each feature of the model.
        scorer: the champion.
        database: where history is. When it is away for a moment, this waits.
        reasons: so many of each row are told, the strongest first.
        block_rows: how many transactions are scored together.
        memory: bytes that rows on their way may take up before they wait on disk.
        progress: hears how far it is.

    Yields:
        The file's rows, with `score`, `decision`, `model_version` and, where they are asked for and the model has
        them, `score_reason_1` and so on (`fraud_score` and so on where the file has such a column of its own). Of a row
        that breaks the contract, or is none, they are empty.

    Raises:
        ValueError: when the file cannot be read, or has neither the contract's columns nor the features.
        HistoryError: when history cannot be read.
    """
    contract, features = scorer.manifest.contract, set(scorer.manifest.features)
    opened = open_by_header(
        path, contract, lambda names: features <= set(names) or _has_columns(names, contract), contract.source_columns
    )
    told = _explained(_no_features(scorer), scorer, reasons).schema
    with ExitStack() as held:
        scores = held.enter_context(Spool(told.insert(0, pa.field(NUMBER, pa.int64())), memory))
        work = _Work(scorer, opened, scores, reasons, progress or Progress())
        if features <= set(opened.names):
            work.score_features()
        else:
            good = held.enter_context(
                Spool(contract.transactions_schema().append(pa.field(NUMBER, pa.int64())), memory)
            )
            work.read_transactions(good)
            work.score_transactions(good, database, block_rows)
        given = common_schema(work.schemas, opened.names)
        beside = _beside(given.empty_table(), told.empty_table(), contract).schema
        yield ScoredFile(
            pa.schema([one.with_nullable(True) for one in beside]), opened.n_counted, work.problems,
            opened, given, scores, contract,
        )  # fmt: skip


def _has_columns(names: Sequence[str], contract: Contract) -> bool:
    try:
        find_columns({name: name for name in contract.source_columns}, names, "", "")
    except ContractError:
        return False
    return True


class _Work:
    """A file on its way to its scores."""

    def __init__(self, scorer: Scorer, opened: OpenedFile, scores: Spool, reasons: int, progress: Progress) -> None:
        self.scorer, self.opened, self.scores = scorer, opened, scores
        self.reasons, self.progress = reasons, progress
        self.contract, self.name = scorer.manifest.contract, opened.path.name
        self.problems = Problems()
        self.schemas: dict[pa.Schema, None] = {}

    def score_features(self) -> None:
        """Scores rows that are features already."""
        with self.progress.working(f"scores {self.name}"):
            for rows, numbers in self._pieces():
                features = _features(rows, numbers, self.scorer, self.name)
                self._keep(numbers, _explained(features, self.scorer, self.reasons))

    def read_transactions(self, good: Spool) -> None:
        """Keeps the transactions that keep the contract, with their places in the file."""
        conversion = Conversion(self.contract, self.name, repeats_count=False)
        # A file of which no line is a row may lack a column, too.
        conversion.take(common_schema([], self.opened.names).empty_table(), np.array([], np.int64))
        with self.progress.working(f"reads {self.name}"):
            for rows, numbers in self._pieces():
                converted = conversion.take(rows, numbers)
                for problem in converted.problems:
                    self.problems.add(problem)
                kept = numbers[converted.transaction_ids.is_valid().to_numpy(zero_copy_only=False)]
                columns = [*converted.transactions.combine_chunks().columns, pa.array(kept, pa.int64())]
                for batch in pa.Table.from_arrays(columns, schema=good.schema).to_batches():
                    good.write(batch)

    def score_transactions(self, good: Spool, database: Database, block_rows: int) -> None:
        """Scores transactions a block at a time, in order of time: those before a block are history of those in it."""
        again = self._repeats(good)
        n_rows, done, history = good.n_rows - len(again), 0, None
        if self.contract.entities:
            history = History(database.url, self.contract, statement_seconds=STATEMENT_SECONDS)
        ids = pa.chunked_array([batch["transaction_id"] for batch in good.batches()], self.contract.transaction_id_type)
        recent, days = self.contract.transactions_schema().empty_table(), timedelta(days=history_days(self.contract))
        try:
            for numbered in _blocks(good, again, block_rows):
                with self.progress.working(f"scores {self.name}: {done:,} of {n_rows:,} transactions are done"):
                    block = numbered.drop_columns(NUMBER)
                    moments = recent["event_timestamp"]
                    since = pa.scalar(pc.min(block["event_timestamp"]).as_py() - days, moments.type)
                    recent = recent.filter(pc.greater_equal(moments, since))
                    stored, statements = self._history(history, block, ids)
                    features = features_from(block, pa.concat_tables([stored, recent]), statements, self.contract)
                    self._keep(numbered[NUMBER].to_numpy(), _explained(features, self.scorer, self.reasons))
                    recent, done = pa.concat_tables([recent, block]), done + block.num_rows
        finally:
            if history is not None:
                history.close()

    def _pieces(self) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
        for piece in self.opened.pieces():
            self.schemas[piece.rows.schema] = None
            for line in piece.rejected:
                said = replace(not_a_row(line), text=f"line {line.line} {line.reason}: {line.text[:80]!r}")
                self.problems.add(BrokenRow(row_of(line.number, self.name), (said,)))
            for start in range(0, piece.rows.num_rows, BATCH_ROWS):
                some = piece.rows.slice(start, BATCH_ROWS)
                yield pa.Table.from_batches([some]), piece.numbers[start : start + BATCH_ROWS]

    def _repeats(self, good: Spool) -> npt.NDArray[np.int64]:
        """The numbers of rows whose id an earlier row has."""
        found: list[int] = []
        if len(repeated := good.repeated("transaction_id")):
            repeats = Repeats(repeated)
            for batch in good.batches():
                places = repeats.among(batch["transaction_id"], np.ones(batch.num_rows, bool))
                found += batch[NUMBER].take(pa.array(list(places), pa.int64())).to_pylist()
        for number in found:
            self.problems.add(BrokenRow(row_of(number, self.name), (REPEATED_ID,)))
        return np.array(found, np.int64)

    def _history(self, history: History | None, block: pa.Table, ids: pa.ChunkedArray) -> tuple[pa.Table, pa.Table]:
        """What is stored before a block, without the file's own transactions."""
        if history is None:
            return self.contract.transactions_schema().empty_table(), self.contract.labels_schema().empty_table()
        until = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                stored, statements = history.around(block)
            except HistoryAwayError:
                if time.monotonic() >= until:
                    raise
                time.sleep(LOOK_SECONDS)
            else:
                return stored.filter(pc.invert(pc.is_in(stored["transaction_id"], ids))), statements

    def _keep(self, numbers: npt.NDArray[np.int64], scored: pa.Table) -> None:
        columns = [pa.chunked_array([pa.array(numbers, pa.int64())]), *scored.columns]
        for batch in pa.Table.from_arrays(columns, schema=self.scores.schema).combine_chunks().to_batches():
            self.scores.write(batch)


def _blocks(good: Spool, again: npt.NDArray[np.int64], n: int) -> Iterator[pa.Table]:
    """Transactions in order of time, without those that come again, at least so many at once."""
    held: list[pa.RecordBatch] = []
    for batch in good.in_order(("event_timestamp", "transaction_id")):
        once = batch.filter(pa.array(~np.isin(batch[NUMBER].to_numpy(), again))) if len(again) else batch
        for start in range(0, once.num_rows, n):
            held.append(once.slice(start, n))
            if sum(part.num_rows for part in held) >= n:
                yield pa.Table.from_batches(held)
                held = []
    if held:
        yield pa.Table.from_batches(held)


class _InOrder:
    """Scores in the order of the file, taken from a spool as far as they are needed."""

    def __init__(self, scores: Spool) -> None:
        self._batches = iter(scores.in_order((NUMBER,)))
        self._held = scores.schema.empty_table()

    def up_to(self, number: int) -> pa.Table:
        """The next, to the row of this number."""
        while not self._held.num_rows or self._held[NUMBER][-1].as_py() <= number:
            if (batch := next(self._batches, None)) is None:
                break
            self._held = pa.concat_tables([self._held, pa.Table.from_batches([batch], self._held.schema)])
        n = int(np.searchsorted(self._held[NUMBER].to_numpy(), number, side="right"))
        found, self._held = self._held.slice(0, n), self._held.slice(n)
        return found


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


def _features(rows: pa.Table, row_numbers: npt.NDArray[np.int64], scorer: Scorer, origin: str) -> pa.Table:
    """The features: numbers also where a CSV file gave text, and texts also where a file gave numbers."""
    numbers = rows.select(list(scorer.manifest.features))
    for name in scorer.manifest.encoding.numbers:
        position = numbers.column_names.index(name)
        values = numbers[name]
        if pa.types.is_string(values.type):
            values = pa.chunked_array(
                [[_number(text, name, row, origin) for row, text in zip(row_numbers, values, strict=True)]]
            )
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
