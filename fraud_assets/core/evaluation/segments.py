"""Parts of an evaluation window, and how a model does on each: is it blind anywhere?

Segments are what a source declares (its text and yes-or-no attributes), and what every window has: bands of amounts,
weekday and weekend, and entities that are new. How a metric is computed belongs to metrics.py and bootstrap.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.statistics.bootstrap import (
    Bools,
    Codes,
    Floats,
    Interval,
    PrecisionLadder,
    card_codes,
    checked,
    independent_cards,
    integers,
    percentile_interval,
    resamples,
    with_rare_errors,
)
from fraud_assets.core.words import percent

AMOUNT_BANDS = 5
# Values of an attribute in a smaller share of rows are merged.
SMALLEST_SHARE = 0.01
MISSING, OTHER = "(missing)", "(other)"


@dataclass(frozen=True)
class Segment:
    """One way to part a window.

    Attributes:
        name: the attribute, or what else the parts differ in.
        values: the parts.
        codes: of each row the position of its part in `values`, shape (n,).
        ranges: for parts of a number, the numbers they hold, else None; as many as `values`.
    """

    name: str
    values: tuple[str, ...]
    codes: Codes
    ranges: tuple[str | None, ...]


@dataclass(frozen=True)
class SegmentMetrics:
    """One model on one part of a window.

    Attributes:
        segment, value, value_range: which part, see `Segment`.
        n, n_fraud, prevalence: as in `Metrics`.
        average_precision: NaN where the part has too few frauds, see `reason`. To be read beside the prevalence, which
            is what a ranking by chance has.
        n_flagged: transactions at or above the model's threshold.
        precision_at_threshold: share of the flagged ones that are fraud; NaN when there is none.
        recall_at_threshold: share of the frauds that are flagged; NaN when there is none.
        expected_over_observed: as in `Metrics`; NaN without a fraud or where a score is no probability.
        reason: why there is no average precision; None where there is.
    """

    segment: str
    value: str
    value_range: str | None
    n: int
    n_fraud: int
    prevalence: float
    average_precision: Interval
    n_flagged: int
    precision_at_threshold: float
    recall_at_threshold: float
    expected_over_observed: float
    reason: str | None

    def as_row(self) -> dict[str, Any]:
        """One flat row for a table; what is not finite becomes None."""
        row = {name: value for name, value in vars(self).items() if name != "average_precision"}
        found = self.average_precision
        row |= {f"average_precision{end}": getattr(found, name) for end, name in ENDS.items()}
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }


ENDS = {"": "value", "_low": "low", "_high": "high"}


def segment_attributes(contract: Contract) -> tuple[str, ...]:
    """The attributes of a contract by whose values a window is parted: text, and yes or no."""
    return tuple(name for name, column in contract.attributes.items() if column.type in ("string", "boolean"))


def attributes_of(rows: pa.Table, raw: pa.Table) -> pa.Table:
    """The attributes of some rows, in their order.

    Args:
        rows: with `transaction_id`.
        raw: `transaction_id` and the attributes, of at least these transactions, in any order.
    """
    positions = pc.index_in(rows["transaction_id"], value_set=raw["transaction_id"].combine_chunks())
    return raw.drop_columns(["transaction_id"]).take(positions)


def segments_of(
    rows: pa.Table,
    *,
    timezone: str,
    attributes: pa.Table | None = None,
    seen: Mapping[str, pa.Array | pa.ChunkedArray] | None = None,
) -> list[Segment]:
    """The ways to part a window's rows; one of a single part is left out.

    Args:
        rows: `event_timestamp`, and `amount` and entities where there are any.
        timezone: in which days are cut.
        attributes: further columns of the same rows in the same order. Values that fewer than 1 % of the rows have are
            one part; so are all of a column without a value as frequent as that, which leaves it out.
        seen: of entities, the identifiers known from before the window. Any other is new, and all its rows are then.
    """
    found = [_categories(name, attributes[name]) for name in attributes.column_names] if attributes is not None else []
    if "amount" in rows.column_names:
        found.append(_bands("amount", rows["amount"].to_numpy().astype(np.float64)))
    for entity, known in (seen or {}).items():
        there = pc.if_else(pc.is_in(rows[entity], value_set=pa.array(known.unique())), "known", "new")
        found.append(_categories(entity, pc.if_else(pc.is_valid(rows[entity]), there, None), smallest=0.0))
    local = rows["event_timestamp"].cast(pa.timestamp("us", tz=timezone))
    weekend = pc.greater_equal(pc.day_of_week(local), 5)
    found.append(_categories("day", pc.if_else(weekend, "weekend", "weekday"), smallest=0.0))
    return [segment for segment in found if len(segment.values) > 1]


def _categories(name: str, column: pa.ChunkedArray, smallest: float = SMALLEST_SHARE) -> Segment:
    encoded = pc.fill_null(column.cast(pa.string()), MISSING).combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    codes = encoded.indices.to_numpy().astype(np.int64)
    often = np.bincount(codes, minlength=len(names)) >= smallest * len(codes)
    # In alphabetical order, so that the order of rows does not matter; the merged values come last.
    shown = sorted(names[often])
    if not often.all() and OTHER not in shown:
        shown.append(OTHER)
    place = {value: position for position, value in enumerate(shown)}
    places = [place[value if keep else OTHER] for value, keep in zip(names, often, strict=True)]
    return Segment(name, tuple(shown), np.array(places, dtype=np.int64)[codes], (None,) * len(shown))


def _bands(name: str, numbers: Floats) -> Segment:
    """Parts of about as many rows each, by the window's quantiles; fewer where equal numbers stay together."""
    known = np.isfinite(numbers)
    inner = np.arange(1, AMOUNT_BANDS) / AMOUNT_BANDS
    edges = np.unique(np.quantile(numbers[known], inner)) if known.any() else inner[:0]
    codes = np.where(known, np.searchsorted(edges, numbers, side="left"), AMOUNT_BANDS)
    used, codes = np.unique(codes, return_inverse=True)
    values: list[str] = []
    ranges: list[str | None] = []
    for part, code in enumerate(used):
        if code == AMOUNT_BANDS:
            values.append(MISSING)
            ranges.append(None)
            continue
        own = numbers[codes == part]
        values.append(f"band {code + 1}")
        ranges.append(f"{own.min():.2f} to {own.max():.2f}")
    return Segment(name, tuple(values), codes.astype(np.int64), tuple(ranges))


# One array an argument, as in `metrics.evaluate_scores`.
def judge_segments(
    y: ArrayLike,
    score: ArrayLike,
    segments: Sequence[Segment],
    *,
    cards: ArrayLike | None,
    threshold: float,
    minimum_frauds: int = 30,
    replicates: int = 100,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[SegmentMetrics]:
    """How one model does on every part of a window.

    Cards are drawn from the whole window, once for all parts: how many rows a part has varies from draw to draw, as it
    would from month to month.

    Args:
        y: whether each transaction is fraud, shape (n,).
        score: shape (n,).
        segments: the ways to part these rows.
        cards: as for `metrics.evaluate_scores`.
        threshold: transactions that score at or above it are flagged.
        minimum_frauds: fewer frauds in a part give no average precision. 30: with about as many, three to a
            card, the interval is 0.6 wide in simulated windows, and with fewer it says nothing of a part.
        replicates: bootstrap samples. 100: half as many as for a whole window, since parts are read beside each other
            and nothing is decided by a bound.
        seed: of the bootstrap.
        confidence: of the intervals.

    Raises:
        MetricsError: when there is no row, when a score is NaN or infinite, a label neither true nor false, or when
            lengths differ.
    """
    labels, scores = checked(y, score, both_classes=False)
    codes, n_cards = card_codes(cards, len(labels))
    parts = [
        (segment, position, integers(segment.name, segment.codes, len(labels)) == position)
        for segment in segments
        for position in range(len(segment.values))
    ]
    intervals, reasons = _intervals(
        labels, scores, codes, n_cards, [rows for *_, rows in parts], minimum_frauds, replicates, seed, confidence
    )
    is_probability = bool(scores.min() >= 0 and scores.max() <= 1)
    found = []
    for (segment, position, rows), interval, reason in zip(parts, intervals, reasons, strict=True):
        flagged = scores[rows] >= threshold
        n, n_fraud, n_flagged = int(rows.sum()), int(labels[rows].sum()), int(flagged.sum())
        caught = int((flagged & labels[rows]).sum())
        expected = float(scores[rows].sum()) if is_probability else math.nan
        found.append(
            SegmentMetrics(
                segment=segment.name,
                value=segment.values[position],
                value_range=segment.ranges[position],
                n=n,
                n_fraud=n_fraud,
                prevalence=n_fraud / n if n else math.nan,
                average_precision=interval,
                n_flagged=n_flagged,
                precision_at_threshold=caught / n_flagged if n_flagged else math.nan,
                recall_at_threshold=caught / n_fraud if n_fraud else math.nan,
                expected_over_observed=expected / n_fraud if n_fraud else math.nan,
                reason=reason,
            )
        )
    return found


# The checked arguments of `judge_segments`, as they are.
def _intervals(
    y: Bools,
    score: Floats,
    cards: Codes,
    n_cards: int,
    parts: Sequence[Bools],
    minimum_frauds: int,
    replicates: int,
    seed: int,
    confidence: float,
) -> tuple[list[Interval], list[str | None]]:
    """Average precision of each part, or why there is none."""
    reasons = [_too_few(y[rows], minimum_frauds) for rows in parts]
    ladders = {
        part: PrecisionLadder.of(y[rows], score[rows], cards[rows], n_cards)
        for part, rows in enumerate(parts)
        if reasons[part] is None
    }
    once = np.ones((n_cards, 1))
    samples: dict[int, list[Floats]] = {part: [] for part in ladders}
    levels = max((ladder.levels for ladder in ladders.values()), default=1)
    for counts in resamples(n_cards, levels, replicates, seed) if ladders else ():
        for part, ladder in ladders.items():
            samples[part].append(ladder.average_precision(counts))
    unknown = Interval(math.nan, math.nan, math.nan)
    intervals = [
        with_rare_errors(
            percentile_interval(
                float(ladders[part].average_precision(once)[0]),
                np.concatenate(samples[part]),
                independent_cards(y[rows], cards[rows]),
                confidence,
            ),
            int(y[rows].sum()),
            confidence,
        )
        if part in ladders
        else unknown
        for part, rows in enumerate(parts)
    ]
    return intervals, reasons


def _too_few(y: Bools, minimum_frauds: int) -> str | None:
    n_fraud = int(y.sum())
    if n_fraud < minimum_frauds:
        return f"{n_fraud} frauds, fewer than {minimum_frauds}"
    return "no genuine transaction" if n_fraud == len(y) else None


def segments_in_words(segments: pa.Table) -> str:
    """The parts of a window as a Markdown table, the lowest average precision first, those without one last."""
    rows = sorted(
        segments.to_pylist(), key=lambda row: (row["average_precision"] is None, row["average_precision"] or 0.0)
    )
    if not rows:
        return "*no model was judged*"
    lines = [
        "| model | segment | value | average precision | prevalence | frauds | transactions | recall | precision "
        "| expected / observed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = row["value"] if row["value_range"] is None else f"{row['value']} ({row['value_range']})"
        shown = [
            f"{row['role']} v{row['model_version']}", row["segment"], name.replace("|", "\\|"), _average_precision(row),
            percent(row['prevalence']), f"{row['n_fraud']:,}", f"{row['n']:,}",
            *(_two(row[metric]) for metric in (
                "recall_at_threshold", "precision_at_threshold", "expected_over_observed",
            )),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines)


def _average_precision(row: Mapping[str, Any]) -> str:
    if row["average_precision"] is None:
        return str(row["reason"])
    if row["average_precision_low"] is None:
        return f"{row['average_precision']:.3f}"
    return f"{row['average_precision']:.3f} [{row['average_precision_low']:.3f}, {row['average_precision_high']:.3f}]"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
