"""Validation: which rows judge a setting, and what could be learned from when they began.

Blocks of time, whether there are frauds enough for any, and how sure what they show is belong here; what is fitted on
them to `training.py`, the limits to `training_config.py`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.statistics.bootstrap import (
    Codes,
    Interval,
    PrecisionLadder,
    card_codes,
    independent_cards,
    percentile_interval,
    resamples,
)
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.windows import DAYS_A_MONTH, Window, when_enough

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

REPLICATES = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TrainingError(ValueError):
    """Rows from which no model can be trained: the message says what is missing, and when it may be there."""


@dataclass(frozen=True)
class Rows:
    """Matured rows; `weight` is for how many each counts, None where all count alike."""

    X: Floats
    y: Bools
    times: Integers
    weight: Doubles | None = None

    def __getitem__(self, rows: Bools) -> Rows:
        weight = None if self.weight is None else self.weight[rows]
        return Rows(self.X[rows], self.y[rows], self.times[rows], weight)


@dataclass(frozen=True)
class Block:
    """Rows that validate, and those that could be learned from when they began."""

    fit: Bools
    validation: Bools


@dataclass(frozen=True)
class Plan:
    """How settings are judged.

    Attributes:
        blocks: oldest first.
        few: whether there are so few frauds that other settings compete.
        pooled: whether all blocks are judged as one, because each has too few frauds.
    """

    blocks: list[Block]
    few: bool
    pooled: bool


def plan(rows: Rows, maturity_days: float, config: TrainingConfig) -> Plan:
    """The blocks that judge settings.

    With enough frauds, the newest blocks of `block_days`, or the whole newest `validation_share` of the time span if
    it is shorter or its blocks have too few frauds. With few of them, or where even the whole has too few, folds over
    as much of the time as it takes (`_folds`).

    Raises:
        TrainingError: when there are too few frauds, or genuine rows, for any of it.
    """
    if problem := _too_few(rows, maturity_days, config):
        raise TrainingError(problem)
    few = int(rows.y.sum()) < config.few_frauds
    blocks = None if few else _rolling(rows, maturity_days, config)
    return Plan(blocks or _folds(rows, maturity_days, config), few, pooled=blocks is None)


def _too_few(rows: Rows, maturity_days: float, config: TrainingConfig) -> str | None:
    """Why the window has not enough frauds and genuine rows, and when it will have."""
    n, n_fraud = len(rows.y), int(rows.y.sum())
    needed = config.minimum_frauds
    if n_fraud == n:
        return (
            f"all {n:,} matured transactions are fraud, so there is nothing to tell frauds from: deliver the genuine "
            "transactions too, or check label.genuine_values and label.blank of the contract"
        )
    for count, what in ((n_fraud, "frauds"), (n - n_fraud, "genuine transactions")):
        if count < needed:
            window = Window(_moment(rows.times.min()), _moment(rows.times.max()))
            when = _beyond(count, what, window, config) or when_enough(
                count, needed, window, maturity_days, one="fraud" if what == "frauds" else "genuine transaction"
            )
            return f"not enough yet: {count} of {needed} {what} among {n:,} matured transactions; {when}"
    return None


def _beyond(count: int, what: str, window: Window, config: TrainingConfig) -> str | None:
    """Where the months that a model may see will never hold enough, what to do."""
    rate = count / max(window.days / DAYS_A_MONTH, 1.0)
    months = config.window_months
    if months is None or not rate or rate * months >= config.minimum_frauds:
        return None
    return (
        f"at the present rate the {months} months that a model may see will hold {round(rate * months)} {what}: set "
        "FRAUD_WINDOW_MONTHS to more months, or to 0 for all there are"
    )


def _moment(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=int(microseconds))


def _gap(rows: Rows, maturity_days: float) -> int:
    """As long as labels take to mature, a quarter of the span at most."""
    span = int(rows.times.max()) - int(rows.times.min())
    return min(timedelta(days=maturity_days) // timedelta(microseconds=1), span // 4)


def _rolling(rows: Rows, maturity_days: float, config: TrainingConfig) -> list[Block] | None:
    """The newest blocks, or the whole validation part; None where not even that has enough frauds."""
    first, last = int(rows.times.min()), int(rows.times.max())
    span = last - first
    gap = _gap(rows, maturity_days)
    share, length = int(span * config.validation_share), config.block_days * MICROSECONDS_PER_DAY

    def block(start: int, end: int) -> Block:
        return Block(rows.times < start - gap, (rows.times >= start) & (rows.times < end))

    n = min(share // length, config.blocks)
    found = [block(last - number * length, last - (number - 1) * length + (number == 1)) for number in range(n, 0, -1)]
    if not found or any(_is_thin(rows, one, config) for one in found):
        found = [block(last - share, last + 1)]
    return None if _is_thin(rows, found[0], config) else found


def _is_thin(rows: Rows, block: Block, config: TrainingConfig) -> bool:
    return any(
        (n := int(rows.y[part].sum())) < config.block_frauds or n == int(part.sum())
        for part in (block.fit, block.validation)
    )


def _folds(rows: Rows, maturity_days: float, config: TrainingConfig) -> list[Block]:
    """An expanding window: the oldest frauds are learned from, the others judge in `folds` parts of equally many.

    Every fold is judged by a model fitted on what had matured when it began, as any block is. No fold alone has frauds
    enough to tell anything; all of them together have.

    Raises:
        TrainingError: when so many happened at one time that too few are left on either side.
    """
    frauds, genuine = np.sort(rows.times[rows.y]), np.sort(rows.times[~rows.y])
    learned = max(round(len(frauds) * config.first_share), 1)
    gap = _gap(rows, maturity_days)
    start = max(int(frauds[learned - 1]), int(genuine[min(learned, len(genuine)) - 1])) + gap + 1
    judged = frauds[frauds >= start]
    least = config.minimum_frauds // 3
    left = (len(judged), int((genuine >= start).sum()))
    if min(left) < max(least, 1):
        name, n = ("frauds", left[0]) if left[0] <= left[1] else ("genuine transactions", left[1])
        raise TrainingError(
            f"not enough yet: after the first {learned} of {len(frauds)} frauds, and the "
            f"{gap / MICROSECONDS_PER_DAY:.0f} days that labels take, there are {n} {name} to judge a model with, of "
            f"{max(least, 1)}; add months, or wait for the labels of the next ones"
        )
    cuts = [int(judged[len(judged) * number // config.folds]) for number in range(1, config.folds)]
    edges = [start, *sorted({cut for cut in cuts if cut > start}), int(rows.times.max()) + 1]
    return [
        Block(rows.times < begin - gap, (rows.times >= begin) & (rows.times < end))
        for begin, end in itertools.pairwise(edges)
    ]


def precision_interval(y: Bools, score: Doubles, cards: Codes | None, seed: int) -> Interval:
    """The average precision of scores with its 95 % interval: whole cards are drawn, see `metrics.evaluate_scores`.

    Args:
        y: whether each row is fraud.
        score: of each.
        cards: codes, negative where unknown; None where each row stands for itself.
        seed: of the draws.
    """
    codes, n_cards = card_codes(cards, len(y))
    ladder = PrecisionLadder.of(y, score, codes, n_cards)
    value, *drawn = (
        ladder.average_precision(counts)
        for counts in itertools.chain([np.ones((n_cards, 1))], resamples(n_cards, ladder.levels, REPLICATES, seed))
    )
    return percentile_interval(float(value[0]), np.hstack(drawn), independent_cards(y, codes), 0.95)
