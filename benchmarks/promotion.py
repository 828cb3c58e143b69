"""How often the promotion decision is wrong: equal pairs over twelve looks, and pairs with a real gain over three.

Comparison, metrics and decision are the platform's own code; only the scores are simulated. A pair is judged each month
on all its windows together, as `evaluation` does it.

Of a simulated month, cards and their frauds resemble those that the demo has: frauds come three to a card within three
days and are as easy or as hard to find as each other; a model has an opinion of each card that stays from month to
month; amounts are lognormal, and those of frauds twice as large. The two models' log odds correlate by about 0.65 among
genuine transactions and 0.95 among frauds, as those of neighbouring versions of the demo do.

    python -m benchmarks.promotion [--pairs 200] [--first-seed 0] [--json FILE]
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import special
from sklearn.linear_model import LogisticRegression

from benchmarks.reporting import Row, argument_parser, at_least, at_most, report
from fraud_assets.core.decisions.promotion import (
    ModelEvidence,
    PairEvidence,
    PromotionSignals,
    PromotionVerdict,
    judge_evidence,
)
from fraud_assets.core.evaluation.pair import DIFFERENCES, Reviews, compare_pair
from fraud_assets.core.models.decision_threshold import choose_threshold
from fraud_assets.core.statistics.bootstrap import Bools, Codes, Floats
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.statistics.metrics import average_precision, evaluate_scores

EQUAL_LOOKS, GAIN_LOOKS = 12, 3
GAIN = 0.03
DAYS, BURST = 30, 3
WORKERS = int(os.environ.get("BENCH_WORKERS", os.cpu_count() or 1))
COSTS = Costs()
# Of a month's own metrics; the decision takes the calibration's interval from them, which is far from its limit.
REPLICATES = 25
# Shares of the variance of genuine log odds: what both models see, and how much of the rest is about the card.
COMMON, OF_CARD = 0.65, 0.5
# Of frauds: how far above genuine ones, and how much bursts differ.
SEPARATION, SPREAD = 3.5, 2.0


@dataclass(frozen=True)
class Portfolio:
    """Cards of an issuer.

    Attributes:
        name: what its rows of results are called.
        cards, transactions, frauds: of a month.
        capacity: cards a day that can be reviewed.
    """

    name: str
    cards: int
    transactions: int
    frauds: int
    capacity: int


SMALL = Portfolio("small", 1_500, 20_000, 200, 30)
DEMO = Portfolio("demo", 5_000, 115_000, 1_100, 100)
HANDBOOK = Portfolio("handbook", 5_000, 290_000, 2_400, 200)


@dataclass(frozen=True)
class Scored:
    """Transactions with what both models say of them, champion first; arrays of shape (n,), log odds (2, n)."""

    y: Bools
    card: Codes
    day: Codes
    amount: Floats
    log_odds: Floats

    @classmethod
    def together(cls, parts: Sequence[Scored]) -> Scored:
        joined = {name: np.concatenate([vars(part)[name] for part in parts], axis=-1) for name in vars(parts[0])}
        return cls(**joined)


def months_of(portfolio: Portfolio, gain: float, rng: np.random.Generator) -> Iterator[Scored]:
    """Months without end of one pair; `gain` is how much further the challenger sees frauds from genuine ones."""
    n, n_bursts = portfolio.transactions, portfolio.frauds // BURST
    shared_of_card = rng.normal(size=portfolio.cards)
    own_of_card = rng.normal(size=(2, portfolio.cards))
    month = 0
    while True:
        card, day = rng.integers(0, portfolio.cards, n), rng.integers(0, DAYS, n)
        burst = np.repeat(np.arange(n_bursts), BURST)
        y = np.arange(n) < len(burst)
        card[y] = rng.choice(portfolio.cards, n_bursts, replace=False)[burst]
        day[y] = np.minimum(rng.integers(0, DAYS, n_bursts)[burst] + rng.integers(0, 3, len(burst)), DAYS - 1)
        amount = np.exp(rng.normal(3.5, 1.0, n)) * np.where(y, 2.0, 1.0)
        shared = np.sqrt(COMMON) * (np.sqrt(OF_CARD) * shared_of_card[card] + np.sqrt(1 - OF_CARD) * rng.normal(size=n))
        own = np.sqrt(1 - COMMON) * (
            np.sqrt(OF_CARD) * own_of_card[:, card] + np.sqrt(1 - OF_CARD) * rng.normal(size=(2, n))
        )
        log_odds = shared + own
        log_odds[:, y] += (SEPARATION + SPREAD * rng.normal(size=n_bursts))[burst]
        log_odds[1, y] += gain
        yield Scored(y, card, day + DAYS * month, amount, log_odds)
        month += 1


def _gain_of(portfolio: Portfolio) -> float:
    """The shift of frauds that gives the challenger `GAIN` more average precision, on half a million transactions."""
    months = months_of(portfolio, 0.0, np.random.default_rng(99))
    sample = Scored.together([next(months) for _ in range(500_000 // portfolio.transactions + 1)])
    challenger = sample.log_odds[1]
    wanted = average_precision(sample.y, challenger) + GAIN
    low, high = 0.0, 2.0
    for _ in range(12):
        middle = (low + high) / 2
        reached = average_precision(sample.y, challenger + middle * sample.y)
        low, high = (middle, high) if reached < wanted else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Judged:
    """What became of a pair: the look that promoted it, or None, and the mean difference in AP over its looks."""

    promoted_at: int | None
    ap_difference: float


def judge_pair(seed: int, *, portfolio: Portfolio, gain: float, looks: int) -> Judged:
    """Looks at a pair month after month, until it is promoted or there are no looks left."""
    months = months_of(portfolio, gain, np.random.default_rng([seed, looks]))
    validation = next(months)
    maps = [LogisticRegression().fit(odds[:, None], validation.y) for odds in validation.log_odds]

    def scores(scored: Scored) -> list[Floats]:
        return [
            special.expit(float(one.coef_[0, 0]) * odds + float(one.intercept_[0]))
            for one, odds in zip(maps, scored.log_odds, strict=True)
        ]

    champion, challenger = (
        choose_threshold(
            validation.y, score, cards=validation.card, days=validation.day, amount=validation.amount,
            capacity_per_day=portfolio.capacity, costs=COSTS,
        ).threshold
        for score in scores(validation)
    )  # fmt: skip
    reviews = Reviews(champion, challenger, portfolio.capacity, COSTS)
    seen: list[Scored] = []
    differences = []
    for look in range(1, looks + 1):
        seen.append(next(months))
        verdict, difference = _look(look, seen, scores, reviews)
        differences.append(difference)
        if verdict.promote:
            return Judged(look, float(np.mean(differences)))
    return Judged(None, float(np.mean(differences)))


def _look(look: int, seen: Sequence[Scored], scores: Any, reviews: Reviews) -> tuple[PromotionVerdict, float]:
    together = Scored.together(seen)
    pair = compare_pair(
        together.y, *scores(together), cards=together.card, terminals=None, days=together.day, amount=together.amount,
        reviews=reviews, look=look,
    )  # fmt: skip
    newest = seen[-1]
    evidence = []
    for version, (score, threshold) in enumerate(
        zip(scores(newest), (reviews.champion_threshold, reviews.challenger_threshold), strict=True), start=1
    ):
        found = evaluate_scores(
            newest.y, score, cards=newest.card, days=newest.day, amount=newest.amount, threshold=threshold,
            costs=COSTS, replicates=REPLICATES,
        )  # fmt: skip
        evidence.append(
            ModelEvidence(
                version=version, trained_month="2025-01", n=found.n, n_fraud=found.n_fraud,
                prevalence=found.prevalence, average_precision=found.average_precision.value,
                average_precision_low=found.average_precision.low, average_precision_high=found.average_precision.high,
                threshold=found.threshold, alerts_per_day=found.alerts_per_day.value,
                cards_per_day=found.cards_per_day, expected_cost=found.expected_cost.value,
                cost_without_review=found.cost_without_review.value,
                expected_over_observed=found.expected_over_observed,
            )
        )  # fmt: skip
    signals = PromotionSignals(
        month="2025-06", challenger_version=2, champion_version=1, challenger=evidence[1], champion=evidence[0],
        pair=PairEvidence(
            pair.n, pair.n_fraud, pair.look, pair.level, pair.reviews_per_day, pair.deciding_cards,
            **{name: getattr(pair, name) for name in DIFFERENCES},
        ),
        # The simulated cards are of one kind, and their labels, drift and training are not what is measured here.
        parts=(), matured=True, drift_status="OK", training_digest="simulated",
    )  # fmt: skip
    return judge_evidence(signals), pair.ap.value


def _figures(portfolio: Portfolio, gain: float, looks: int, seeds: range) -> tuple[list[Judged], float]:
    """The pairs, and the mean difference in AP over them."""
    work = partial(judge_pair, portfolio=portfolio, gain=gain, looks=looks)
    with ProcessPoolExecutor(WORKERS) as pool:
        judged = list(pool.map(work, seeds))
    return judged, float(np.mean([one.ap_difference for one in judged]))


def equal_rows(seeds: range) -> Iterator[Row]:
    """Pairs of equal models: how many are promoted over all looks together."""
    judged, difference = _figures(SMALL, 0.0, EQUAL_LOOKS, seeds)
    pairs = len(seeds)
    share = sum(one.promoted_at is not None for one in judged) / pairs
    yield at_most(f"equal_{SMALL.name}", share, f"promoted of {pairs} pairs in {EQUAL_LOOKS} looks", 0.05)
    yield Row(f"equal_{SMALL.name}_ap_difference", difference, "mean")


def gain_rows(portfolio: Portfolio, seeds: range) -> Iterator[Row]:
    """Pairs of which the challenger is better: how many are promoted, by look."""
    judged, difference = _figures(portfolio, _gain_of(portfolio), GAIN_LOOKS, seeds)
    pairs = len(seeds)
    reached, unit = 0.0, f"promoted of {pairs} pairs by then"
    for look in range(1, GAIN_LOOKS + 1):
        reached += sum(one.promoted_at == look for one in judged) / pairs
        name = f"gain_{portfolio.name}_look_{look}"
        yield at_least(name, reached, unit, 0.9) if look == GAIN_LOOKS else Row(name, reached, unit)
    yield Row(f"gain_{portfolio.name}_ap_difference", difference, "mean")


PARTS: dict[str, Callable[[range], Iterator[Row]]] = {
    "equal": equal_rows,
    **{one.name: partial(gain_rows, one) for one in (HANDBOOK, DEMO)},
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("How often the promotion decision is wrong, over repeated looks.")
    parser.add_argument("--pairs", type=int, default=200, help="simulated pairs of each kind")
    parser.add_argument("--first-seed", type=int, default=0, help="of the pairs; others make other pairs")
    parser.add_argument("--only", choices=PARTS, action="append", help="these parts; may be repeated")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for name in options.only or PARTS:
        started = time.perf_counter()
        rows += PARTS[name](range(options.first_seed, options.first_seed + options.pairs))
        rows.append(Row(f"{name}_seconds", time.perf_counter() - started, "s"))
    return report("promotion", rows, options.json)


if __name__ == "__main__":
    raise SystemExit(main())
