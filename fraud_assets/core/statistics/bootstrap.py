"""The cluster bootstrap behind every interval: whole cards are drawn, and a ranking is measured on each draw.

Here are the inputs' checks, the draws, the two reductions that make measuring a draw cheap, and the interval. What a
metric means, and which ones there are, belongs to metrics.py.

Rows of one customer are not independent, and an interval that treats them so is too narrow (Field and Welsh,
Bootstrapping clustered data, JRSS B 69, 2007, 369-390).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, special

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int64]

# 2 MB a block: what fits a core's cache is done in little more than half the time of blocks of 32 MB.
_CELLS_AT_ONCE = 250_000
# Where cards are as many as rows nothing fits, and a few draws at once save walks through the matrix.
_AT_LEAST, _CELLS_AT_MOST = 16, 4_000_000


class MetricsError(ValueError):
    """Labels or scores from which a metric cannot be computed."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are NaN where no interval can be given."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether the estimate and both bounds are finite."""
        return all(math.isfinite(number) for number in (self.value, self.low, self.high))


# What is given


def checked(y: ArrayLike, score: ArrayLike, both_classes: bool = True) -> tuple[Bools, Floats]:
    """Labels and scores as arrays of one length.

    Raises:
        MetricsError: when there is no row, a score is NaN or infinite, a label neither true nor false, or lengths
            differ; with `both_classes`, also when there is no fraud or no genuine row.
    """
    scores = checked_scores(score)
    given = same_length("y", y, len(scores))
    labels = given.astype(np.bool_)
    if given.dtype != np.bool_ and (unknown := int(np.sum(given != labels))):
        raise MetricsError(
            f"{unknown:,} of {len(labels):,} labels are neither true nor false; "
            "leave out transactions whose is_fraud is not known yet"
        )
    if both_classes and not labels.any():
        raise MetricsError(
            f"none of the {len(labels):,} transactions is fraud, and metrics of a ranking need both classes; "
            "wait until more labels have matured"
        )
    if both_classes and labels.all():
        raise MetricsError(
            f"all {len(labels):,} transactions are fraud, and metrics of a ranking need both classes; "
            "check that transactions which matured without a report were kept as genuine"
        )
    return labels, scores


def checked_scores(score: ArrayLike) -> Floats:
    """Finite scores, at least one, shape (n,).

    Raises:
        MetricsError: for anything else.
    """
    scores = np.asarray(score, dtype=np.float64)
    if scores.ndim != 1:
        raise MetricsError(f"scores have shape {scores.shape}; give one score for each transaction, shape (n,)")
    if not len(scores):
        raise MetricsError("there is no transaction to evaluate; check the window and that its labels have matured")
    if bad := int(np.sum(~np.isfinite(scores))):
        raise MetricsError(
            f"{bad:,} of {len(scores):,} scores are NaN or infinite; score these rows again or leave them out"
        )
    return scores


def same_length(name: str, values: ArrayLike, n: int) -> NDArray[Any]:
    """The values as an array of shape (n,); MetricsError for any other shape."""
    array = np.asarray(values)
    if array.shape != (n,):
        raise MetricsError(f"{name} has shape {array.shape} beside {n:,} scores; give one value for each row")
    return array


def integers(name: str, values: ArrayLike, n: int) -> Codes:
    """The values as integers, shape (n,); MetricsError for any other type or shape."""
    array = same_length(name, values, n)
    if not np.issubdtype(array.dtype, np.integer):
        raise MetricsError(f"{name} are {array.dtype}; give integers, for example the codes of pandas.factorize")
    return array.astype(np.int64)


def identifier_codes(column: pa.ChunkedArray) -> Codes:
    """Integer codes of identifiers, shape (n,); -1 where there is none."""
    indices = column.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def card_codes(cards: ArrayLike | None, n: int) -> tuple[Codes, int]:
    """Codes 0 to the number of cards - 1, and that number; rows without a known card become cards of their own."""
    if cards is None:
        return np.arange(n), n
    given = integers("cards", cards, n)
    unknown = given < 0
    known, n_known = dense(given[~unknown])
    codes = np.empty(n, dtype=np.int64)
    codes[~unknown] = known
    codes[unknown] = n_known + np.arange(int(unknown.sum()))
    return codes, n_known + int(unknown.sum())


def dense(values: Codes) -> tuple[Codes, int]:
    """The place of each integer among the distinct ones, and how many of these there are."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if high - low >= 4 * len(values):
        distinct, places = np.unique(values, return_inverse=True)
        return places.astype(np.int64), len(distinct)
    # Counting takes a tenth of the time of sorting.
    used = np.bincount(values - low) > 0
    return (np.cumsum(used) - 1)[values - low], int(used.sum())


@dataclass(frozen=True)
class CardDays:
    """Cards on the days on which they had a transaction, all of shape (card-days,).

    Attributes:
        day, card: which.
        score: the largest of the transactions'.
        fraud: whether any transaction is fraud.
    """

    day: Codes
    card: Codes
    score: Floats
    fraud: Bools

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, days: Codes) -> CardDays:
        """Gathers transactions."""
        group = dense(days)[0] * (int(cards.max()) + 1) + cards
        order = np.argsort(group)
        first = np.flatnonzero(np.diff(group[order], prepend=-1))
        return cls(
            day=days[order][first],
            card=cards[order][first],
            score=np.maximum.reduceat(score[order], first),
            fraud=np.logical_or.reduceat(y[order], first),
        )


# Draws and intervals


def resamples(n_cards: int, levels: int, replicates: int, seed: int) -> Iterator[Floats]:
    """Blocks of how often each card was drawn, shape (cards, samples); block size does not alter draws."""
    if replicates < 1:
        raise MetricsError(f"replicates is {replicates}; an interval needs 1 or more, and 200 for a stable one")
    rng = np.random.default_rng(seed)
    cells = max(n_cards, levels)
    width = max(1, _CELLS_AT_ONCE // cells, min(_AT_LEAST, _CELLS_AT_MOST // cells))
    for start in range(0, replicates, width):
        counts = np.empty((n_cards, min(width, replicates - start)))
        for sample in range(counts.shape[1]):
            counts[:, sample] = np.bincount(rng.integers(0, n_cards, n_cards), minlength=n_cards)
        yield counts


def independent_cards(y: Bools, cards: Codes) -> int:
    """Cards with a fraud, or cards with a genuine row, whichever are fewer."""
    return min(int(np.count_nonzero(np.bincount(cards[side]))) for side in (y, ~y))


def percentile_interval(value: float, samples: Floats, n_cards: int, confidence: float) -> Interval:
    """The expanded percentile interval: as far out as Student's t of n_cards - 1 degrees of freedom.

    Plain percentiles of few clusters are too narrow (Hesterberg, What Teachers Should Know about the Bootstrap, The
    American Statistician 69, 2015, 371-386). Samples that are not finite, because they drew no fraud or no genuine
    row, are left out.

    Args:
        value: the estimate.
        samples: the same on each draw, shape (replicates,).
        n_cards: the sample size, `independent_cards`; bounds are NaN below two.
        confidence: between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise MetricsError(f"confidence is {confidence}; give a share between 0 and 1, for example 0.95")
    known = samples[np.isfinite(samples)]
    if n_cards < 2 or not len(known) or not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    t = special.stdtrit(n_cards - 1, (1 + confidence) / 2)
    tail = special.ndtr(-t * math.sqrt(n_cards / (n_cards - 1)))
    low, high = np.quantile(known, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def with_rare_errors(interval: Interval, n_fraud: int, confidence: float) -> Interval:
    """An interval of average precision that also knows of errors which so few frauds did not show.

    A draw of cards repeats what was there: where the frauds of a window happen to rank nearly perfectly, all draws do.
    So the interval is at least that of a share among so many frauds, on the scale of log odds (Boyd, Eng and Page, Area
    under the Precision-Recall Curve: Point Estimates and Confidence Intervals, ECML PKDD 2013); an AP of 0 or 1 is
    taken half a fraud further in. From some hundred frauds on it hardly differs.

    Args:
        interval: of a bootstrap; one without bounds is returned as it is.
        n_fraud: frauds behind it.
        confidence: between 0 and 1.
    """
    if not interval.is_known:
        return interval
    share = min(max(interval.value, 0.5 / (n_fraud + 1)), (n_fraud + 0.5) / (n_fraud + 1))
    half = float(special.ndtri((1 + confidence) / 2)) / math.sqrt(n_fraud * share * (1 - share))
    low, high = (float(special.expit(special.logit(share) + side)) for side in (-half, half))
    return Interval(interval.value, min(interval.low, low), max(interval.high, high))


# Rankings, reduced


@dataclass(frozen=True)
class Ladder:
    """A ranking reduced to what AP and ROC AUC depend on, exactly: the frauds' scores and who lies between.

    The F distinct scores of frauds are rungs. Every row lies on a rung (level 2i + 1) or in a gap (level 2i),
    and only sums over levels matter. A bootstrap sample is then one product of a small sparse matrix with the
    number of times each card was drawn, instead of one pass over all rows: most genuine rows of a card fall
    into the same few gaps.

    Attributes:
        total: rows of each card at each level, shape (2F + 1, cards).
        fraud: frauds of each card on each rung, shape (F, cards).
    """

    total: Any
    fraud: Any

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, n_cards: int, rungs: Floats | None = None) -> Ladder:
        """Sorts rows into levels; `rungs` (ascending) must hold every fraud's score."""
        steps = np.unique(score[y]) if rungs is None else rungs
        level = np.searchsorted(steps, score, side="left") + np.searchsorted(steps, score, side="right")
        return cls(
            total=_count_matrix(level, cards, (2 * len(steps) + 1, n_cards)),
            fraud=_count_matrix(level[y] // 2, cards[y], (len(steps), n_cards)),
        )

    @property
    def levels(self) -> int:
        """Rungs and gaps."""
        return int(self.total.shape[0])

    def measure(self, counts: Floats, false_positive_rate: float) -> tuple[Floats, Floats, Floats]:
        """AP, ROC AUC and recall at a false-positive rate of each sample, NaN where a class is absent.

        Args:
            counts: how often each card was drawn, shape (cards, samples).
            false_positive_rate: as for `metrics.recall_at_fpr`.
        """
        fraud: Floats = self.fraud @ counts
        total: Floats = self.total @ counts
        at_or_above = sums_from_top(total)[1::2]
        caught = sums_from_top(fraud)
        n_fraud = fraud.sum(axis=0)
        n_genuine = total.sum(axis=0) - n_fraud
        false_positives = at_or_above - caught
        tied = total[1::2] - fraud
        pairs = n_fraud * n_genuine
        known_fraud = np.where(pairs > 0, n_fraud, 0.0)
        # The allowance absorbs the rounding of 0.07 * 100; one more false positive would be off by a whole 1.
        allowed = np.floor(false_positive_rate * n_genuine + 1e-9)
        return (
            ratio((fraud * ratio(caught, at_or_above, 0.0)).sum(axis=0), known_fraud),
            ratio((fraud * (n_genuine - false_positives + 0.5 * tied)).sum(axis=0), pairs),
            ratio((fraud * (false_positives <= allowed)).sum(axis=0), known_fraud),
        )


@dataclass(frozen=True)
class PrecisionLadder:
    """A ranking reduced to what AP alone depends on: half the levels, and nothing from below the lowest fraud.

    Attributes:
        total: rows of each card from one fraud's score (included) up to the next one's, shape (F, cards).
        fraud: frauds of each card on each rung, shape (F, cards).
        genuine: genuine rows of each card, shape (1, cards).
    """

    total: Any
    fraud: Any
    genuine: Any

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, n_cards: int) -> PrecisionLadder:
        """Sorts rows into levels."""
        steps = np.unique(score[y])
        level = np.searchsorted(steps, score, side="right") - 1
        matters = level >= 0
        return cls(
            total=_count_matrix(level[matters], cards[matters], (len(steps), n_cards)),
            fraud=_count_matrix(level[y], cards[y], (len(steps), n_cards)),
            genuine=by_card(np.bincount(cards[~y], minlength=n_cards)[None, :]),
        )

    @property
    def levels(self) -> int:
        """Rungs."""
        return int(self.total.shape[0])

    def average_precision(self, counts: Floats) -> Floats:
        """AP of each sample, NaN where a class is absent; `counts`: shape (cards, samples)."""
        fraud: Floats = self.fraud @ counts
        total: Floats = self.total @ counts
        precision = ratio(sums_from_top(fraud), sums_from_top(total), 0.0)
        n_fraud = np.where((self.genuine @ counts)[0] > 0, fraud.sum(axis=0), 0.0)
        return ratio((fraud * precision).sum(axis=0), n_fraud)


@dataclass(frozen=True)
class DayLadder:
    """The reduction for rankings within days: precision@k of transactions, or of card-days.

    Each day's highest score is a rung too.

    Attributes:
        ladder: of all, lowest score of the first day at the bottom, highest of the last at the top.
        day_top: for each rung, the highest one of its day.
        n_days: days with a transaction.
    """

    ladder: Ladder
    day_top: Codes
    n_days: int

    @classmethod
    def of(cls, y: Bools, score: Floats, cards: Codes, n_cards: int, days: Codes) -> DayLadder:
        """Ranks what is given within its day: transactions, or `CardDays`."""
        distinct, rank = np.unique(score, return_inverse=True)
        day, n_days = dense(days)
        # One number that orders by day, then by score; exact, as a product of two counts of rows.
        place = (day * len(distinct) + rank).astype(np.float64)
        closing = np.full(n_days, -1.0)
        np.maximum.at(closing, day, place)
        rungs = np.union1d(place[y], closing)
        return cls(
            ladder=Ladder.of(y, place, cards, n_cards, rungs),
            day_top=np.searchsorted(rungs, closing)[np.searchsorted(closing, rungs)],
            n_days=n_days,
        )

    @property
    def levels(self) -> int:
        """Rungs and gaps."""
        return self.ladder.levels

    def precision(self, counts: Floats, k: int) -> Floats:
        """Precision@k of each sample; a card drawn twice is two cards. `counts` has shape (cards, samples)."""
        if k < 1:
            raise MetricsError(f"k is {k}; precision@k needs 1 a day or more")
        fraud: Floats = self.ladder.fraud @ counts
        total: Floats = self.ladder.total @ counts
        on_rung = total[1::2]
        above = sums_from_top(total)[1::2] - on_rung
        reviewed = np.clip(k - (above - above[self.day_top]), 0.0, on_rung)
        found: Floats = (fraud * ratio(reviewed, on_rung, 0.0)).sum(axis=0) / (k * self.n_days)
        return found


def sums_from_top(levels: Floats) -> Floats:
    """Of each level, the sum of it and all above, along the first axis."""
    return np.cumsum(levels[::-1], axis=0)[::-1]


def ratio(numerator: Floats, denominator: Floats, otherwise: float = math.nan) -> Floats:
    """The quotient, and `otherwise` where the denominator is not above 0."""
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def by_card(sums: NDArray[Any]) -> Any:
    """Sums of each card, shape (sums, cards), as a sparse matrix.

    Sparse products run in one thread: on a busy machine those of BLAS wait for each other longer than they compute.
    """
    return sparse.csr_array(sums.astype(np.float64))


def _count_matrix(rows: Codes, columns: Codes, shape: tuple[int, int]) -> Any:
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
