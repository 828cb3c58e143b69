"""Challenger against champion on the same transactions: what would the same number of reviews have cost with each?

What each of them is by itself belongs to `statistics/metrics.py`, which transactions they are compared on to
`windows.py`, how sure a month's look has to be to `statistics/spending.py`, and what follows to
`decisions/promotion.py`.

Differences are the challenger's figure less the champion's. Three things keep a difference in cost from being noise:

- Both have the same reviews: as many cards as the one that flags more does at its threshold, and no more than can be
  reviewed. So a threshold that happens to lie lower saves nothing, a champion that flags hardly anything hides nothing,
  and frauds that both find cancel.
- The standard error is that of whole cards (and, where there are any, of whole terminals), so that a burst of one card
  counts once. With it, one huge fraud never decides: the difference over its standard error is at most about 1 as long
  as a single card makes up most of it, which is below every limit.
- Fewer than two cards on which the two decide differently have no interval, and `decisions/promotion.py` wants more.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special

from fraud_assets.core.evaluation.segments import ENDS, Segment
from fraud_assets.core.statistics.bootstrap import (
    Bools,
    CardDays,
    Codes,
    Floats,
    Interval,
    PrecisionLadder,
    by_card,
    card_codes,
    checked,
    independent_cards,
    integers,
    ratio,
    resamples,
    same_length,
)
from fraud_assets.core.statistics.costs import Costs, is_value
from fraud_assets.core.statistics.spending import spent_at

REPLICATES = 200
# Of average precision, which only guards: a standard error to within 7 %.
_PRECISION_REPLICATES = 100
PART_FRAUDS = 20
"""Fewer frauds in a part of the window tell nothing of it, as they tell nothing of a window."""
_PART_CARDS = 10
_UNKNOWN = Interval(math.nan, math.nan, math.nan)
DIFFERENCES = ("cost", "card_precision", "value", "ap", "own_cost")


@dataclass(frozen=True)
class Reviews:
    """What is reviewed, and what it costs; all that a comparison needs beside the transactions.

    Attributes:
        champion_threshold, challenger_threshold: the models' own.
        capacity: cards a day that can be reviewed, on average.
        costs: of reviews and missed frauds.
    """

    champion_threshold: float
    challenger_threshold: float
    capacity: float
    costs: Costs


@dataclass(frozen=True)
class PairComparison:
    """Challenger less champion on the same transactions; intervals are at the look's level.

    Attributes:
        n, n_fraud: transactions, and frauds among them.
        look: which look at this pair it is, from 1.
        level: chance that this look finds a challenger better that is not.
        reviews_per_day: cards a day that each of them has for review.
        deciding_cards: cards with a fraud that one has reviewed and the other has not.
        cost: of reviews and missed frauds a day, with the same reviews; below 0 where the challenger is cheaper.
        card_precision: share of the reviewed cards that are fraudulent.
        value: share of the fraud amount that is reviewed; None where the source has no amounts.
        ap: average precision.
        own_cost: a day, each at its own threshold.
        champion_cut, challenger_cut: the scores from which on the reviews are filled.
    """

    n: int
    n_fraud: int
    look: int
    level: float
    reviews_per_day: float
    deciding_cards: int
    cost: Interval
    card_precision: Interval
    value: Interval | None
    ap: Interval
    own_cost: Interval
    champion_cut: float
    challenger_cut: float

    def as_row(self) -> dict[str, int | float | None]:
        """The columns of a challenger's row; what is not finite becomes None."""
        row: dict[str, int | float | None] = {
            "pair_n": self.n,
            "pair_n_fraud": self.n_fraud,
            "look": self.look,
            "look_level": self.level,
            "reviews_per_day": self.reviews_per_day,
            "deciding_cards": self.deciding_cards,
        }
        for name in DIFFERENCES:
            interval = getattr(self, name) or _UNKNOWN
            row |= {f"{name}_difference{end}": getattr(interval, which) for end, which in ENDS.items()}
        return {name: value if value is not None and math.isfinite(value) else None for name, value in row.items()}


Rows = Iterable[Mapping[str, Any]]


def look_number(earlier: Rows, champion: int, challenger: int) -> int:
    """Which look at a pair a month's is: one more than there were in earlier months.

    Counted in the evaluations that are stored, each month once: a month that is run again on the same evidence spends
    nothing, and in whatever order months are run, they end with the same numbers.

    Args:
        earlier: rows of `evaluation` of earlier months, with `LOOKED_AT`.
        champion: the live version.
        challenger: the other one.

    >>> rows = [{"month": 1, "role": "champion", "model_version": 3, "look": None},
    ...         {"month": 1, "role": "challenger", "model_version": 4, "look": 1}]
    >>> look_number(rows, 3, 4), look_number(rows, 3, 5), look_number(rows, 2, 4)
    (2, 1, 1)
    """
    return 1 + sum(1 for row in _looks(earlier, champion) if row["model_version"] == challenger)


LOOKED_AT = ("month", "role", "model_version", "look", "look_level", "cost_difference", "cost_difference_high")


def choose_waiting(earlier: Rows, champion: int, among: Collection[int]) -> int | None:
    """The version that was not shown to be better, and is worth another look on more months; None without one.

    Of those whose last look found it cheaper, the one that is furthest from chance. It is looked at beside the newest
    one, which would else take the place of each before it could be told from the champion. Each version's looks keep
    the promise by themselves, so which one is looked at again may be chosen by what they showed.

    Args:
        earlier: as for `look_number`.
        champion: the live version.
        among: versions that can be judged.
    """
    last = {row["model_version"]: row for row in sorted(_looks(earlier, champion), key=lambda row: row["month"])}
    found = {version: z for version in among if version in last and (z := _z(last[version])) is not None and z < 0}
    return min(found, key=lambda version: (found[version], version), default=None)


def _looks(earlier: Rows, champion: int) -> list[Mapping[str, Any]]:
    """The rows of models that were looked at beside this champion."""
    months: dict[Any, list[Mapping[str, Any]]] = {}
    for row in earlier:
        months.setdefault(row["month"], []).append(row)
    return [
        row
        for judged in months.values()
        if any((row["role"], row["model_version"]) == ("champion", champion) for row in judged)
        for row in judged
        if row["look"] is not None
    ]


def _z(row: Mapping[str, Any]) -> float | None:
    """The difference in cost over its standard error; None without an interval."""
    value, high = row["cost_difference"], row["cost_difference_high"]
    if value is None or high is None or not high > value:
        return None
    return float(value / (high - value) * special.ndtri(1 - row["look_level"]))


# One array an argument, as in `metrics.evaluate_scores`.
def compare_pair(
    y: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    *,
    cards: ArrayLike | None,
    terminals: ArrayLike | None,
    days: ArrayLike,
    amount: ArrayLike | None,
    reviews: Reviews,
    look: int = 1,
    seed: int = 0,
) -> PairComparison:
    """Compares two models on the same transactions.

    Standard errors come from a bootstrap of whole cards on which both are measured; on each draw the reviews are
    filled anew. Terminals are drawn too where there are any, and the wider interval counts, as in
    `metrics.paired_ap_difference`. Bounds are Student's t on them, because the level of a later look lies further out
    than the percentiles of any affordable number of draws. A paired difference between equal models is symmetric,
    where that holds well.

    Args:
        y: whether each transaction is fraud, matured labels, shape (n,).
        champion_score: scores of the live model, shape (n,).
        challenger_score: scores of the newer one, shape (n,); the two scales need not agree.
        cards: as for `metrics.evaluate_scores`.
        terminals: integer codes, shape (n,), negative where unknown; None without.
        days: integer ordinal of each transaction's day, shape (n,).
        amount: shape (n,), NaN where unknown; None when there is none.
        reviews: thresholds, capacity and costs.
        look: which look at this pair it is, from 1.
        seed: of the bootstrap.

    Raises:
        MetricsError: as `metrics.evaluate_scores`.
    """
    labels, champion = checked(y, champion_score)
    _, challenger = checked(y, challenger_score)
    amounts = None if amount is None else same_length("amount", np.asarray(amount, dtype=np.float64), len(labels))
    own_codes, n_own = card_codes(cards, len(labels))
    dates = integers("days", days, len(labels))
    given = _Given(labels, (champion, challenger), own_codes, dates, amounts, reviews)
    measured = _Measured.of(given, own_codes, n_own)
    base = measured.measure(np.ones((n_own, 1)))
    cuts = measured.cuts(float(base["allowed"][0]))
    differing = (champion >= cuts[0]) != (challenger >= cuts[1])
    deciding = len(np.unique(own_codes[labels & differing]))
    level = spent_at(look)

    errors = _standard_errors(measured, n_own, seed)
    freedom = {name: independent_cards(labels, own_codes) - 1 for name in DIFFERENCES}
    freedom["cost"] = freedom["value"] = freedom["card_precision"] = min(deciding, freedom["cost"] + 1) - 1
    if terminals is not None:
        codes, n_terminals = card_codes(terminals, len(labels))
        if n_terminals > 1:
            wider = _standard_errors(_Measured.of(given, codes, n_terminals), n_terminals, seed)
            errors = {name: max(errors[name], wider[name]) for name in errors}
    found = {
        name: _interval(float(base[name][0]), errors[name], freedom[name], level)
        for name in DIFFERENCES
        if name in base
    }
    return PairComparison(
        n=len(labels),
        n_fraud=int(labels.sum()),
        look=look,
        level=level,
        reviews_per_day=float(base["allowed"][0]) / measured.n_days,
        deciding_cards=deciding,
        value=found.pop("value", None),
        champion_cut=cuts[0],
        challenger_cut=cuts[1],
        **found,
    )


def _standard_errors(measured: _Measured, n_clusters: int, seed: int) -> dict[str, float]:
    blocks: dict[str, list[Floats]] = {}
    done = 0
    for counts in resamples(n_clusters, measured.levels, REPLICATES, seed):
        for name, values in measured.measure(counts, with_ap=done < _PRECISION_REPLICATES).items():
            blocks.setdefault(name, []).append(values)
        done += counts.shape[1]
    errors = {}
    for name, parts in blocks.items():
        samples = np.concatenate(parts)
        known = samples[np.isfinite(samples)]
        errors[name] = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    return errors


def _interval(value: float, error: float, freedom: int, level: float) -> Interval:
    """Bounds at a one-sided level; none without a standard error, because then nothing differed in any draw."""
    if freedom < 1 or not math.isfinite(error) or not error > 0:
        return Interval(value, math.nan, math.nan)
    half = float(special.stdtrit(freedom, 1 - level)) * error
    return Interval(value, value - half, value + half)


@dataclass(frozen=True)
class _Given:
    """The checked arguments of `compare_pair`; `scores` and all pairs below: champion, then challenger."""

    y: Bools
    scores: tuple[Floats, Floats]
    cards: Codes
    days: Codes
    amount: Floats | None
    reviews: Reviews

    @cached_property
    def card_days(self) -> tuple[CardDays, CardDays]:
        """Cards on their days, by each model's scores."""
        champion, challenger = (CardDays.of(self.y, score, self.cards, self.days) for score in self.scores)
        return champion, challenger

    @property
    def thresholds(self) -> tuple[float, float]:
        return self.reviews.champion_threshold, self.reviews.challenger_threshold


@dataclass(frozen=True)
class _Ranking:
    """The cards that one model ranks highest, and what reviewing them down to each score finds; sums by cluster.

    Attributes:
        steps: distinct scores of cards on their days, descending, as far down as reviews can reach; shape (levels,).
        alerts, fraudulent: cards on their days at each of them, and fraudulent ones; shape (levels, clusters).
        losses, amounts: of the frauds that are reviewed from it on; shape (levels, clusters).
        precision: for average precision.
    """

    steps: Floats
    alerts: Any
    fraudulent: Any
    losses: Any
    amounts: Any
    precision: PrecisionLadder

    @classmethod
    def of(cls, given: _Given, which: int, of_row: Codes, n_clusters: int, most: int) -> _Ranking:
        score, y, found = given.scores[which], given.y, given.card_days[which]
        # A draw of clusters may have fewer cards at the top than there are: twice as far down is far enough.
        floor = np.partition(found.score, -most)[-most] if most < len(found.score) else found.score.min()
        top = found.score >= floor
        steps = np.unique(found.score[top])[::-1]
        # Drawn by terminal, a card on a day belongs to that of its highest transaction.
        owner = _owners(given, score, of_row) if of_row is not given.cards else found.card
        at = np.searchsorted(-steps, -found.score[top], side="left")
        level = np.searchsorted(-steps, -score[y], side="left")
        reached = level < len(steps)
        rows, losses = of_row[y][reached], given.reviews.costs.losses(y, given.amount)[y][reached]
        amount = given.amount
        known = np.where(is_value(amount), amount, 0.0)[y][reached] if amount is not None else np.zeros(len(rows))
        shape = (len(steps), n_clusters)

        def sums(levels: Codes, clusters: Codes, values: Floats) -> Any:
            return sparse.csr_array((values, (levels, clusters)), shape=shape)

        return cls(
            steps=steps,
            alerts=sums(at, owner[top], np.ones(int(top.sum()))),
            fraudulent=sums(at, owner[top], found.fraud[top].astype(np.float64)),
            losses=sums(level[reached], rows, losses),
            amounts=sums(level[reached], rows, known),
            precision=PrecisionLadder.of(y, score, of_row, n_clusters),
        )

    def reviewed(self, counts: Floats, allowed: Floats) -> tuple[Floats, ...]:
        """Alerts, fraudulent cards, losses and amounts that at most so many reviews find, of each sample."""
        alerts = np.cumsum(self.alerts @ counts, axis=0)
        # The allowance absorbs rounding of a product of capacity and days.
        fits = (alerts <= allowed + 1e-9).sum(axis=0)
        columns = np.arange(counts.shape[1])

        def down_to(sums: Floats) -> Floats:
            return np.where(fits > 0, sums[np.maximum(fits - 1, 0), columns], 0.0)

        return down_to(alerts), *(
            down_to(np.cumsum(matrix @ counts, axis=0)) for matrix in (self.fraudulent, self.losses, self.amounts)
        )

    def cut(self, allowed: float) -> float:
        """The lowest score at which the reviews still suffice; above all scores where they suffice for none."""
        fits = int((np.cumsum(self.alerts.sum(axis=1)) <= allowed + 1e-9).sum())
        return float(self.steps[fits - 1]) if fits else float(np.nextafter(self.steps[0], np.inf))


def _owners(given: _Given, score: Floats, of_row: Codes) -> Codes:
    """Of each card on its day, the cluster of its highest transaction."""
    order = np.lexsort((score, given.cards, given.days))
    last = np.flatnonzero(np.append((np.diff(given.days[order]) != 0) | (np.diff(given.cards[order]) != 0), [True]))
    place = order[last]
    # `CardDays` has them by day, then by card, as they are here.
    return of_row[place]


@dataclass(frozen=True)
class _Measured:
    """Both models, reduced to sums by cluster, so that a draw is a few products.

    Attributes:
        rankings: of the two.
        totals: by cluster the alerts of each model at its own threshold and the losses it misses there, and the amounts
            of all frauds; shape (5, clusters).
        n_days: days with a transaction.
        reviews: what is reviewed.
        has_amount: whether there are amounts of frauds.
    """

    rankings: tuple[_Ranking, _Ranking]
    totals: Any
    n_days: int
    reviews: Reviews
    has_amount: bool

    @classmethod
    def of(cls, given: _Given, of_row: Codes, n_clusters: int) -> _Measured:
        y, amount, costs = given.y, given.amount, given.reviews.costs
        losses = costs.losses(y, amount)
        value = np.where(y & is_value(amount), amount, 0.0) if amount is not None else np.zeros(len(y))
        n_days = len(np.unique(given.days))
        rows, flagged = [], []
        for score, threshold, found in zip(given.scores, given.thresholds, given.card_days, strict=True):
            owner = _owners(given, score, of_row) if of_row is not given.cards else found.card
            flagged.append(int((found.score >= threshold).sum()))
            rows += [
                np.bincount(owner[found.score >= threshold], minlength=n_clusters),
                np.bincount(of_row, np.where(score < threshold, losses, 0.0), minlength=n_clusters),
            ]
        rows.append(np.bincount(of_row, value, minlength=n_clusters))
        most = max(1, 2 * min(max(flagged), math.ceil(given.reviews.capacity * n_days)))
        champion, challenger = (_Ranking.of(given, which, of_row, n_clusters, most) for which in (0, 1))
        return cls((champion, challenger), by_card(np.vstack(rows)), n_days, given.reviews, bool(value.any()))

    @property
    def levels(self) -> int:
        """The most sums a draw needs."""
        return max(max(len(one.steps), one.precision.levels) for one in self.rankings)

    def cuts(self, allowed: float) -> tuple[float, float]:
        """The scores from which on each model's reviews are filled."""
        champion, challenger = self.rankings
        return champion.cut(allowed), challenger.cut(allowed)

    def measure(self, counts: Floats, *, with_ap: bool = True) -> dict[str, Floats]:
        """The differences of each sample, and `allowed`, the reviews of all days; `counts`: (clusters, samples)."""
        own_alerts, own_missed, other_alerts, other_missed, value = self.totals @ counts
        review, days = self.reviews.costs.review, self.n_days
        allowed = np.minimum(np.maximum(own_alerts, other_alerts), self.reviews.capacity * days)
        ours, theirs = (one.reviewed(counts, allowed) for one in self.rankings)
        found = {
            "allowed": allowed,
            "cost": (review * (theirs[0] - ours[0]) - (theirs[2] - ours[2])) / days,
            "card_precision": ratio(theirs[1], theirs[0], 0.0) - ratio(ours[1], ours[0], 0.0),
            "own_cost": (review * (other_alerts - own_alerts) + other_missed - own_missed) / days,
        }
        if self.has_amount:
            found["value"] = ratio(theirs[3] - ours[3], value)
        if with_ap:
            champion, challenger = (one.precision.average_precision(counts) for one in self.rankings)
            found["ap"] = challenger - champion
        return found


# Parts


@dataclass(frozen=True)
class PartDifference:
    """Challenger less champion on one part of a window, with the reviews of the whole.

    Attributes:
        segment, value: which part.
        n_fraud: frauds in it.
        caught: share of the part's losses that is reviewed; NaN bounds where it has too few frauds.
    """

    segment: str
    value: str
    n_fraud: int
    caught: Interval


def compare_parts(
    y: ArrayLike,
    champion_score: ArrayLike,
    challenger_score: ArrayLike,
    segments: Sequence[Segment],
    *,
    cards: ArrayLike | None,
    amount: ArrayLike | None,
    costs: Costs,
    cuts: tuple[float, float],
) -> list[PartDifference]:
    """Where the challenger finds less of what is lost than the champion, with the same reviews.

    The interval is 95 % for all parts together (Bonferroni: one of twenty parts always looks bad by chance), from the
    spread between cards of a ratio of sums (Cochran, Sampling Techniques, 1977, section 6.3).

    Args:
        y: whether each of the window's transactions is fraud, shape (n,).
        champion_score: shape (n,).
        challenger_score: shape (n,).
        segments: the ways to part these rows.
        cards: as for `compare_pair`, and so is `amount`.
        amount: shape (n,).
        costs: of missed frauds.
        cuts: `PairComparison.champion_cut` and `challenger_cut`.
    """
    labels, champion = checked(y, champion_score, both_classes=False)
    _, challenger = checked(y, challenger_score, both_classes=False)
    codes, _ = card_codes(cards, len(labels))
    amounts = None if amount is None else np.asarray(amount, dtype=np.float64)
    losses = costs.losses(labels, amounts)[labels]
    more = ((challenger >= cuts[1]).astype(np.float64) - (champion >= cuts[0]))[labels] * losses
    cards_of = codes[labels]
    parts = [
        (segment.name, value, segment.codes[labels] == position)
        for segment in segments
        for position, value in enumerate(segment.values)
    ]
    enough = [_is_enough(cards_of[inside], float(losses[inside].sum())) for *_, inside in parts]
    level = 0.025 / max(1, sum(enough))
    return [
        PartDifference(
            name, value, int(inside.sum()),
            _ratio_interval(more[inside], losses[inside], cards_of[inside], level) if judged else _UNKNOWN,
        )
        for (name, value, inside), judged in zip(parts, enough, strict=True)
    ]  # fmt: skip


def _is_enough(cards: Codes, lost: float) -> bool:
    return len(cards) >= PART_FRAUDS and len(np.unique(cards)) >= _PART_CARDS and lost > 0


def _ratio_interval(numerator: Floats, denominator: Floats, cards: Codes, level: float) -> Interval:
    codes, n = np.unique(cards, return_inverse=True)[1], len(np.unique(cards))
    above, below = np.bincount(codes, numerator, minlength=n), np.bincount(codes, denominator, minlength=n)
    value = float(above.sum() / below.sum())
    error = math.sqrt(n / (n - 1) * float(np.sum((above - value * below) ** 2))) / float(below.sum())
    # Where nothing differs, nothing is harmed: the part is judged, and its interval is the point.
    half = float(special.stdtrit(n - 1, 1 - level)) * error
    return Interval(value, value - half, value + half)
