"""From what a transaction's columns say to the numbers that a model computes with, as learned from training rows.

Numbers stay as they are. A text with few values has a column for each; of a text with many, what was known of each
value's frauds says more. What is learned is a frozen `Encoder`, which travels with the model: training, evaluation,
files and the service go through it. Which columns there are belongs to `features/declarations.py`; on NumPy and PyArrow
alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter

from fraud_assets.core.intake.usefulness import LEAST_REPEATED, why_useless

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

FEW_ROWS = 100  # below, Arrow takes longer to read a list of values than to find the rows' values in it


@dataclass(frozen=True)
class EncodingConfig:
    """How a text becomes numbers.

    Measured out of time on evalml's card transactions and on two samples of a fraud detector: 10, 20, 50 and 200 own
    columns, smoothing by 1, 3 and 10 frauds, no rates and nothing but rates all gave AP of .9236 to .9245 on the first,
    and differences within noise on the others. What costs time is columns.

    Attributes:
        own_column: a text's most frequent values have a column each, at most so many of them.
        own_column_rows: a value of fewer training rows has none. 10: with 3, the logistic regression on 1,199 claims
            lost .065 of AP.
        columns: how many of those all texts have together; the texts with the fewest values are served first.
        smoothing: the rate of a value's frauds is drawn to that of all rows as if so many expected frauds had been seen
            (gamma-Poisson shrinkage).
        values: of one text, whose rates are kept; the most frequent ones.
        repeated: a text is left out where a smaller share of the rows has a value that another row has, too: an id or
            a name says nothing about the next row.
    """

    own_column: int = 10
    own_column_rows: int = 10
    columns: int = 100
    smoothing: float = 1.0
    values: int = 10_000
    repeated: float = LEAST_REPEATED


@dataclass(frozen=True)
class TextEncoding:
    """How one text becomes numbers.

    Attributes:
        name: the column.
        own: the values with a column each, 1 where a row has it and else 0.
        has_other: whether there is one for all other values, such as those that training never saw.
        has_missing: whether there is one for no value.
        has_rate: whether there is one for how a value's frauds compare with those of all rows: the logarithm of the
            smoothed ratio, 0 where nothing is known of the value.
        values: whose ratio is known.
        ratios: their logarithms.
        missing_ratio: that of the rows without a value.
    """

    name: str
    own: tuple[str, ...] = ()
    has_other: bool = False
    has_missing: bool = False
    has_rate: bool = False
    values: tuple[str, ...] = ()
    ratios: tuple[float, ...] = ()
    missing_ratio: float = 0.0

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its columns, in order."""
        return (
            *(f"{self.name} = {value}" for value in self.own),
            *([f"{self.name}: another value"] if self.has_other else []),
            *([f"{self.name}: missing"] if self.has_missing else []),
            *([f"{self.name}: frauds"] if self.has_rate else []),
        )

    @cached_property
    def _own_places(self) -> dict[str, int]:
        return _places(self.own)

    @cached_property
    def _value_places(self) -> dict[str, int]:
        return _places(self.values)

    def encode(self, text: pa.Array | pa.ChunkedArray) -> Floats:
        """A text's columns, float32 [n, len(columns)], without a NaN."""
        encoded = np.zeros((len(text), len(self.columns)), dtype=np.float32)
        missing = np.asarray(pc.is_null(text))
        own = _positions(text, self._own_places)
        found = np.flatnonzero(own >= 0)
        encoded[found, own[found]] = 1
        place = len(self.own)
        if self.has_other:
            encoded[:, place] = (own < 0) & ~missing
        if self.has_missing:
            encoded[:, place + self.has_other] = missing
        if self.has_rate:
            # What is not in the list has place -1, that of the zero.
            ratios = np.array([*self.ratios, 0.0])[_positions(text, self._value_places)]
            encoded[:, -1] = np.where(missing, self.missing_ratio, ratios)
        return encoded


@dataclass(frozen=True)
class Encoder:
    """From the columns of a table to those of a model.

    Attributes:
        numbers: columns that are taken as they are, in order.
        texts: how each text is encoded; their columns follow.
        unused: what was given to training and is of no use to the model, with why.
    """

    numbers: tuple[str, ...]
    texts: tuple[TextEncoding, ...] = ()
    unused: dict[str, str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of the table that are needed: numbers, then texts."""
        return (*self.numbers, *(text.name for text in self.texts))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the model's columns, in order."""
        return (*self.numbers, *(name for text in self.texts for name in text.columns))

    def encode(self, numbers: Floats, texts: Sequence[pa.Array | pa.ChunkedArray]) -> Floats:
        """The model's columns.

        Args:
            numbers: float32 [n, len(self.numbers)], NaN where a value is not known.
            texts: of each of `self.texts` its n values, null where there is none.

        Returns:
            float32 [n, len(self.columns)].
        """
        if not self.texts:
            return numbers
        return np.hstack([numbers, *(one.encode(text) for one, text in zip(self.texts, texts, strict=True))])

    def to_json(self) -> str:
        """The encoder as text; `from_json` makes an equal one of it."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """Reads what `to_json` wrote."""
        return TypeAdapter(cls).validate_json(text)


@dataclass(frozen=True)
class Learned:
    """What training rows taught.

    Attributes:
        texts: of each text that is used.
        unused: of each text that is not, why.
        encoded: float32 [n, k], the texts' columns: of the rows that were learned from as they were known when each
            happened, of all others as they are known now.
    """

    texts: tuple[TextEncoding, ...]
    unused: dict[str, str]
    encoded: Floats


def learn_texts(
    texts: pa.Table,
    *,
    y: Bools,
    times: Integers,
    known: Integers,
    fit: Bools,
    config: EncodingConfig,
    forced: Collection[str] = (),
) -> Learned:
    """Learns from some rows how texts are encoded, and encodes all.

    What a row's own label, or one that became known after the row, says of its value must not be among what the model
    learns from: in a row that is learned from, a value's frauds are those that were known before it. So training sees
    what scoring will see, and a value of one fraud does not give that fraud away.

    Args:
        texts: columns of text, n rows.
        y: whether each row is fraud.
        times: when it happened.
        known: when `y` became known.
        fit: the rows that are learned from.
        config: how.
        forced: texts that are used whatever they say.
    """
    unused, counts = {}, {}
    for name in texts.column_names:
        taught = texts[name].filter(fit)
        counted = _counts(taught)
        if (reason := _useless(taught, counted, config)) and name not in forced:
            unused[name] = reason
        else:
            counts[name] = counted
    used = list(counts)
    left, learned, encoded = config.columns, {}, {}
    for name in sorted(used, key=lambda name: counts[name].num_rows):
        base = _own_columns(name, texts[name].filter(fit), counts[name], min(config.own_column, left), config)
        left -= len(base.own)
        learned[name], encoded[name] = _with_rates(
            base, texts[name], counts[name]["value"], y, times, known, fit, config
        )
    empty = np.empty((texts.num_rows, 0), dtype=np.float32)
    return Learned(tuple(learned[name] for name in used), unused, np.hstack([empty, *(encoded[name] for name in used)]))


def _useless(values: pa.Array | pa.ChunkedArray, counts: pa.Table, config: EncodingConfig) -> str | None:
    """Why nothing can be learned from a text; None where something may be."""
    n_given = len(values) - values.null_count
    lowest, highest = pc.min_max(values).as_py().values() if n_given else (None, None)
    repeated = pc.sum(counts.filter(pc.greater(counts["count"], 1))["count"]).as_py() or 0
    return why_useless(len(values), n_given, lowest, highest, n_repeated=repeated, least_repeated=config.repeated)


def _counts(text: pa.Array | pa.ChunkedArray) -> pa.Table:
    """`value` and `count`, the most frequent first."""
    counts = pa.table({"value": pc.drop_null(text)}).group_by("value").aggregate([([], "count_all")])
    return counts.rename_columns(["value", "count"]).sort_by([("count", "descending"), ("value", "ascending")])


def _own_columns(
    name: str, text: pa.Array | pa.ChunkedArray, counts: pa.Table, most: int, config: EncodingConfig
) -> TextEncoding:
    often = counts.filter(pc.greater_equal(counts["count"], config.own_column_rows))["value"]
    own = tuple(often[:most].to_pylist())
    n_others = len(text) - text.null_count - (pc.sum(counts["count"][: len(own)]).as_py() or 0)
    return TextEncoding(
        name,
        own=own,
        has_other=bool(own) and n_others >= config.own_column_rows,
        has_missing=text.null_count > 0,
        has_rate=counts.num_rows > most or not own,
    )


def _with_rates(
    base: TextEncoding,
    text: pa.Array | pa.ChunkedArray,
    values: pa.ChunkedArray,
    y: Bools,
    times: Integers,
    known: Integers,
    fit: Bools,
    config: EncodingConfig,
) -> tuple[TextEncoding, Floats]:
    """With what is known of each value's frauds; and the text's columns."""
    if not base.has_rate:
        return base, base.encode(text)
    kept = tuple(values[: config.values].to_pylist())
    # Rows without a value are a value, too; the last code is of all values that are not kept.
    code = _positions(text.filter(fit), _places(kept))
    code[np.asarray(pc.is_null(text.filter(fit)))] = len(kept)
    y, times, known = y[fit], times[fit], known[fit]
    n, frauds = (np.bincount(code[code >= 0], what, len(kept) + 1).astype(np.float64) for what in (None, y[code >= 0]))
    ratios = _log_ratio(n, frauds, np.full(len(n), float(len(y))), np.full(len(n), float(y.sum())), config)
    learned = replace(base, values=kept, ratios=tuple(ratios[:-1].tolist()), missing_ratio=float(ratios[-1]))
    encoded = learned.encode(text)
    one = np.zeros(len(code), dtype=np.int64)
    as_known = _log_ratio(*_before(code, y, times, known), *_before(one, y, times, known), config)
    encoded[fit, -1] = np.where(code < 0, 0, as_known)
    return learned, encoded


def _log_ratio(n: Doubles, frauds: Doubles, n_all: Doubles, frauds_all: Doubles, config: EncodingConfig) -> Doubles:
    """The logarithm of a value's frauds over those that the rate of all rows would give it, smoothed."""
    expected = n * frauds_all / np.maximum(n_all, 1)
    return np.asarray(np.log((frauds + config.smoothing) / (expected + config.smoothing)), dtype=np.float64)


def _before(code: Integers, y: Bools, times: Integers, known: Integers) -> tuple[Doubles, Doubles]:
    """Of each row, how many rows of its code were known before it happened, and how many of them as fraud."""
    n = len(code)
    asks = np.repeat([True, False], n)
    moment, codes = np.concatenate([times, known]), np.tile(code, 2)
    # At one instant those who ask come first: what becomes known with a row was not known before it.
    order = np.lexsort((~asks, moment, codes))
    counted, frauds = (np.where(asks, 0, np.tile(what, 2))[order].cumsum() for what in (np.ones(n), y))
    first = np.searchsorted(codes[order], codes[order])
    result = np.empty((2, 2 * n))
    for row, sums in enumerate((counted, frauds)):
        result[row, order] = sums - np.concatenate([[0], sums])[first]
    return result[0, :n], result[1, :n]


def _places(values: Sequence[str]) -> dict[str, int]:
    return {value: place for place, value in enumerate(values)}


def _positions(text: pa.Array | pa.ChunkedArray, places: dict[str, int]) -> Integers:
    """Of each value its place; -1 where it has none, or is null."""
    if len(text) < FEW_ROWS:
        return np.array([places.get(value, -1) for value in text.to_pylist()], dtype=np.int64)
    return np.asarray(
        pc.fill_null(pc.index_in(text, value_set=pa.array(list(places), pa.string())), -1), dtype=np.int64
    )


class EncodedClassifier:
    """A classifier that takes the columns of a table of features, texts among them: what the registry keeps.

    Attributes:
        encoder_json: the `Encoder`, as text, which any version of any serialiser can read.
        estimator: takes what the encoder gives.
        n_features_in_: how many columns of the table there are.
    """

    def __init__(self, encoder_json: str, estimator: Any) -> None:
        self.encoder_json = encoder_json
        self.estimator = estimator
        self.n_features_in_ = len(self.encoder.inputs)

    @property
    def encoder(self) -> Encoder:
        """From the columns of the table to those of the estimator."""
        return Encoder.from_json(self.encoder_json)

    def predict_proba(self, X: Any) -> Doubles:
        """The probabilities of the classes 0 and 1, float64 [n, 2].

        Args:
            X: a table of Arrow or pandas with the columns of `encoder.inputs`; or an array of them, in their order.
        """
        encoder = self.encoder
        if isinstance(X, pa.Table) or hasattr(X, "columns"):
            columns = [X[name] for name in encoder.inputs]
        else:
            columns = list(np.asarray(X).T)
        n = len(encoder.numbers)
        numbers = [pa.array(column, pa.float32(), from_pandas=True) for column in columns[:n]]
        texts = [pa.array(column, pa.string(), from_pandas=True) for column in columns[n:]]
        matrix = np.column_stack([pc.fill_null(column, np.nan).to_numpy() for column in numbers])
        return np.asarray(self.estimator.predict_proba(encoder.encode(matrix.astype(np.float32), texts)))
