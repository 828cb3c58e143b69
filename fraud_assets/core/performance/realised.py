"""Realised performance: what the service's own scores came to, as labels become known.

Unlike `evaluation`, which scores stored transactions again, this judges what was answered, by the model that answered
it. Which rows there are belongs to `adapters/scores`, what is known of them to `labels/as_of.py`.

A transaction of which nothing is known is left out, and counted. What was held and not let through is labelled by
whoever reviewed it, if at all, so figures on all labelled rows depend on that. The weighted figures do not: they are
made of what went through, either because the model let it or by the pass-through, where a row stands for as many as had
the same chance (Horvitz and Thompson, JASA 47, 1952, 663-685). They say nothing of what had no chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.segments import (
    Segment,
    SegmentMetrics,
    judge_segments,
    segment_attributes,
    segments_of,
)
from fraud_assets.core.statistics.bootstrap import Bools, Codes, Floats, Interval, identifier_codes
from fraud_assets.core.statistics.costs import Costs, is_value
from fraud_assets.core.statistics.metrics import average_precision
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.windows import Window

ALL = "all"
DATE = "date"
NOT_MATURED = "not_matured"


@dataclass(frozen=True)
class _Scored:
    """The scores of one version on transactions of one window; arrays of shape (n,).

    Attributes:
        y: whether it was fraud; false where that is not known.
        known: whether it is.
        score: the probability that was answered.
        held: whether the model would have it reviewed.
        through: whether it was let through all the same, at random or by a list or rule.
        weight: what a row stands for in the weighted figures; 0 where it is no part of them.
        cards: codes; None without entities.
        days: since 1970-01-01, in the contract's zone.
        amount: None where the source has none.
    """

    y: Bools
    known: Bools
    score: Floats
    held: Bools
    through: Bools
    weight: Floats
    cards: Codes | None
    days: Codes
    amount: Floats | None

    @classmethod
    def of(cls, rows: pa.Table, labels: pa.Table, known: Bools, contract: Contract) -> _Scored:
        held = pc.equal(rows["decision"], "review").to_numpy()
        # Of what a list or a rule decided, it is known for sure whether it went through.
        overruled = pc.fill_null(pc.not_equal(rows["answered"], rows["decision"]), False).to_numpy()
        through = rows["passed_through"].to_numpy()
        overruled &= ~through
        let = pc.fill_null(pc.equal(rows["answered"], "approve"), False).to_numpy()
        chance = rows["pass_through_probability"].to_numpy()
        local = pc.local_timestamp(rows["event_timestamp"].cast(pa.timestamp("us", tz=contract.timezone)))
        with np.errstate(divide="ignore"):
            weight = np.where(held, np.where(through, 1 / chance, 0.0), 1.0)
        weight = np.where(overruled, let.astype(np.float64), weight)
        return cls(
            y=pc.fill_null(labels["is_fraud"], False).to_numpy() & known,
            known=known,
            score=rows["probability"].to_numpy(),
            held=held,
            through=through | (overruled & let & held),
            weight=weight,
            cards=identifier_codes(rows[contract.card]) if contract.card else None,
            days=local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY,
            amount=rows["amount"].to_numpy().astype(np.float64) if contract.amount else None,
        )


def realised_rows(
    scores: pa.Table,
    labels: pa.Table,
    contract: Contract,
    *,
    month: str,
    window: Window,
    costs: Costs,
    schema: pa.Schema,
) -> pa.Table:
    """How each version did on what it scored.

    Args:
        scores: as `StoredScores.read` gives them, of the window and of what came after it.
        labels: of the same rows in the same order, as they were known at the month's end (`labels_as_of`).
        contract: of the source.
        month: the partition.
        window: of event times, the transactions that matured in the month.
        costs: of reviews and missed frauds.
        schema: of the table.

    Returns:
        For each version one row for all of the window, one for each day, one for each part (`segments_of`), and one
        for what has not matured; none where nothing was scored.
    """
    base = {"month": date.fromisoformat(f"{month}-01")}
    found: list[dict[str, Any]] = []
    moments = scores["event_timestamp"]
    is_old = pc.less(moments, pa.scalar(window.end, moments.type)).to_numpy()
    versions = scores["model_version"].to_numpy()
    for version in sorted(set(versions.tolist())):
        own = versions == version
        named = base | {"model_version": version}
        for old in (True, False):
            chosen = pa.array(own & (is_old == old))
            rows, stated = scores.filter(chosen), labels.filter(chosen)
            if not rows.num_rows:
                continue
            # What is younger may have a report already; that it has none says nothing yet.
            known = pc.is_valid(stated["is_fraud"]).to_numpy() if not old else stated["is_matured"].to_numpy()
            scored = _Scored.of(rows, stated, known, contract)
            span = {"window_from": window.start, "window_to": window.end}
            if not old:
                span = {"window_from": window.end, "window_to": contract.month_end(month)}
                found.append(named | span | _young(scored, contract))
                continue
            found += [named | span | row for row in _parts(scored, _segments(rows, scored, contract), costs)]
    return pa.Table.from_pylist(found, schema=schema)


def _young(scored: _Scored, contract: Contract) -> dict[str, Any]:
    everything = np.ones(len(scored.y), dtype=bool)
    return {
        "segment": NOT_MATURED,
        "value": ALL,
        **_counts(scored, everything),
        "reason": f"younger than {contract.maturity_days:g} days at the month's end: frauds known so far",
    }


def _segments(rows: pa.Table, scored: _Scored, contract: Contract) -> list[Segment]:
    days, codes = np.unique(scored.days, return_inverse=True)
    names = tuple(str(day) for day in days.astype("datetime64[D]"))
    attributes = segment_attributes(contract)
    return [
        Segment(ALL, (ALL,), np.zeros(len(codes), dtype=np.int64), (None,)),
        Segment(DATE, names, codes.astype(np.int64), (None,) * len(names)),
        *segments_of(rows, timezone=contract.timezone, attributes=rows.select(attributes) if attributes else None),
    ]


def _parts(scored: _Scored, segments: Sequence[Segment], costs: Costs) -> Iterator[dict[str, Any]]:
    """A row for each part of each segment."""
    judged = iter(_judged(scored, segments))
    # Without a row that was let through, there is nothing to weigh.
    is_weighted = bool((scored.weight > 1).any())
    for segment in segments:
        for position, value in enumerate(segment.values):
            mine = segment.codes == position
            row = {"segment": segment.name, "value": value, "value_range": segment.ranges[position]}
            row |= _counts(scored, mine) | _figures(scored, mine & scored.known, costs)
            if is_weighted:
                row |= _weighted(scored, mine & scored.known)
            yield row | _ranking(row, next(judged, None))


def _judged(scored: _Scored, segments: Sequence[Segment]) -> list[SegmentMetrics]:
    """Average precision with its interval, where there are enough frauds."""
    known = scored.known
    if not known.any():
        return []
    some = [Segment(one.name, one.values, one.codes[known], one.ranges) for one in segments]
    cards = None if scored.cards is None else scored.cards[known]
    return judge_segments(scored.y[known], scored.score[known], some, cards=cards, threshold=math.inf)


def _counts(scored: _Scored, mine: Bools) -> dict[str, Any]:
    n, n_known, n_fraud = int(mine.sum()), int((mine & scored.known).sum()), int((mine & scored.y).sum())
    return {
        "n": n,
        "n_flagged": int((mine & scored.held).sum()),
        "n_passed_through": int((mine & (scored.weight > 1)).sum()),
        "n_labelled": n_known,
        "labelled_share": n_known / n,
        "n_fraud": n_fraud,
        "prevalence": n_fraud / n_known if n_known else None,
    }


def _figures(scored: _Scored, known: Bools, costs: Costs) -> dict[str, Any]:
    """What needs no interval, of labelled rows."""
    n = int(known.sum())
    if not n:
        return {}
    y, score, held = scored.y[known], scored.score[known], scored.held[known]
    stopped = held & ~scored.through[known]
    amount = None if scored.amount is None else scored.amount[known]
    losses = costs.losses(y, amount)
    caught: dict[str, float | None] = {"value_caught": None, "fraud_value": None}
    if amount is not None:
        values = np.where(y & is_value(amount), amount, 0.0)
        caught = {"value_caught": float(values[stopped].sum()), "fraud_value": float(values.sum())}
    return {
        "average_precision": average_precision(y, score) if 0 < y.sum() < n else None,
        "brier": float(((score - y) ** 2).mean()),
        "expected_over_observed": _ratio(score.sum(), y.sum()),
        "precision_at_threshold": _ratio((y & held).sum(), held.sum()),
        "recall_at_threshold": _ratio((y & held).sum(), y.sum()),
        "cost": costs.review * _reviews(scored, known, stopped) + float(losses[~stopped].sum()),
        "cost_without_review": float(losses.sum()),
        **caught,
    }


def _reviews(scored: _Scored, known: Bools, stopped: Bools) -> int:
    """Cards on days with a transaction that was reviewed; transactions, where there are no cards."""
    if scored.cards is None:
        return int(stopped.sum())
    cards, days = scored.cards[known][stopped], scored.days[known][stopped]
    single = cards < 0
    return int(single.sum()) + len(set(zip(cards[~single].tolist(), days[~single].tolist(), strict=True)))


def _weighted(scored: _Scored, known: Bools) -> dict[str, Any]:
    """The same of all that had a chance to go through, estimated from what did."""
    part = known & (scored.weight > 0)
    if not part.any():
        return {}
    y, score, weight, held = scored.y[part], scored.score[part], scored.weight[part], scored.held[part]
    frauds = float(weight[y].sum())
    return {
        "weighted_n": float(weight.sum()),
        "effective_n": float(weight.sum() ** 2 / (weight**2).sum()),
        "weighted_prevalence": frauds / float(weight.sum()),
        "weighted_average_precision": average_precision(y, score, weight) if 0 < y.sum() < len(y) else None,
        "weighted_precision_at_threshold": _ratio(weight[y & held].sum(), weight[held].sum()),
        "weighted_expected_over_observed": _ratio((weight * score).sum(), frauds),
    }


def _ranking(row: dict[str, Any], judged: SegmentMetrics | None) -> dict[str, Any]:
    """The ends of the interval, or why there are none."""
    if judged is None:
        return {"reason": "no label is known"}
    found: Interval = judged.average_precision
    ends = {"average_precision_low": found.low, "average_precision_high": found.high}
    reason = judged.reason
    if not row["n_labelled"]:
        reason = "no label is known"
    return {name: end if math.isfinite(end) else None for name, end in ends.items()} | {"reason": reason}


def _ratio(numerator: float, denominator: float) -> float | None:
    return float(numerator) / float(denominator) if denominator else None
