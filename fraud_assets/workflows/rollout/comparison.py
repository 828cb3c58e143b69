"""Challengers beside the champion on the traffic that both scored, as labels matured: `challenger_comparison`.

How two models compare belongs to `evaluation/pair.py`. Nothing is scored here: these are the scores that were given.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.scores.stored import LiveSpan, StoredScores
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.evaluation.evaluation import Reviewed
from fraud_assets.core.evaluation.pair import PairComparison, Reviews
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.lineage.configuration import setting_inputs
from fraud_assets.core.lineage.staleness import Inputs, champion_inputs, scores_inputs, shadow_inputs
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.rollout.pairs import Pairs
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.core.windows import PAIR_MONTHS, Window, matured_window
from fraud_assets.core.words import percent
from fraud_assets.workflows.scores import FoundMonth


def compared_month(
    store: MonthStore, ledger: LedgerStore, month: str, champion: int | None, costs: Costs, capacity: float
) -> FoundMonth:
    """Each challenger beside the champion, on what both scored and what matured until a month's end.

    Args:
        store: the tables.
        ledger: says when versions were trained.
        month: which.
        champion: the version that was live before the month's decision.
        costs: of reviews and missed frauds.
        capacity: cards a day that can be reviewed.

    Raises:
        TableError: when there are scores, and the month's labels were never gathered.
    """
    contract, table = store.contract, store.table("challenger_comparison")
    start = matured_window(shift_month(month, 1 - PAIR_MONTHS), contract.maturity_days, contract.zone).start
    longest = Window(start, matured_window(month, contract.maturity_days, contract.zone).end)
    stored, events = StoredScores(store.database, contract), ledger.events()
    made = (shadow_inputs(_counts(store, longest, stored.shadow_counts())), champion_inputs(month, champion))
    spans = stored.challengers(longest.start, longest.end) if champion is not None else []
    spans = [one for one in spans if one.version != champion]
    if champion is None or not spans:
        said = "no challenger scored a transaction that has matured; see `fraud challengers`"
        return FoundMonth(table.schema.empty_table(), made, said)
    earlier = store.read("challenger_comparison", last_month=shift_month(month, -1))
    store.require("fraud_labels", month)
    statements = store.read("fraud_labels", first_month=contract.month_of(longest.start), last_month=month)
    rows = []
    for span in spans:
        since = max([span.first, *(_trained(events, one, contract) for one in (champion, span.version))])
        window = Window(max(longest.start, since), longest.end)
        look = 1 + sum(
            (row["champion_version"], row["challenger_version"]) == (champion, span.version) and row["look"] is not None
            for row in earlier.to_pylist()
        )
        rows.append(_compared(stored, statements, month, champion, span, window, Reviewed(capacity, costs), look))
    said = "; ".join(row["sentence"] for row in rows)
    capacity_input: Inputs = {"training": {"review_capacity": str(capacity)}}
    scores = scores_inputs(_counts(store, longest, stored.counts()))
    inputs = (*made, scores, statements, earlier, setting_inputs("costs", costs), capacity_input)
    return FoundMonth(pa.Table.from_pylist(rows, schema=table.schema), inputs, said)


def _compared(
    stored: StoredScores, statements: pa.Table, month: str, champion: int, span: LiveSpan, window: Window,
    reviewed: Reviewed, look: int,
) -> dict[str, Any]:  # fmt: skip
    """The row of one challenger."""
    contract = stored.contract
    pairs, counts = Pairs(contract), dict.fromkeys(("n_answered", "n_by_challenger", "n_failed", "n_late"), 0)
    n_both, day = 0, window.start
    while day < window.end:
        end = min(day + timedelta(days=1), window.end)
        rows = stored.pairs(day, end, champion, span.version)
        day = end
        counts["n_answered"] += rows.num_rows
        counts["n_by_challenger"] += pc.sum(pc.equal(rows["answered_version"], span.version)).as_py() or 0
        for outcome in ("failed", "late"):
            counts[f"n_{outcome}"] += pc.sum(pc.equal(rows["outcome"], outcome)).as_py() or 0
        rows = rows.filter(pc.and_(pc.is_valid(rows["own"]), pc.is_valid(rows["other"])))
        if not rows.num_rows:
            continue
        n_both += rows.num_rows
        # All of it has matured at the month's end.
        labels = labels_as_of(
            rows, statements, contract.month_end(month), maturity_days=contract.maturity_days,
            blank=contract.label.blank,
        )  # fmt: skip
        pairs.add(rows, rows["own"].to_numpy(), rows["other"].to_numpy(), labels)
    own_threshold = stored.thresholds(window.start, window.end).get(champion, 1.0)
    reviews = Reviews(own_threshold, span.threshold, reviewed.capacity, reviewed.costs)
    pair, why = pairs.compare(reviews, look=look)
    return {
        "month": date.fromisoformat(f"{month}-01"),
        "champion_version": champion,
        "challenger_version": span.version,
        "window_from": window.start,
        "window_to": max(window.start, window.end),
        **counts,
        "n_both": n_both,
        **(pair.as_row() if pair else {}),
        "reason": why or None,
        "sentence": _in_words(champion, span.version, n_both, pair, why),
    }


def _in_words(champion: int, version: int, n: int, pair: PairComparison | None, why: str) -> str:
    said = f"version {version} beside version {champion}, on {n:,} live transactions"
    if pair is None:
        return f"{said}: {why}"
    said += f", {pair.n_fraud:,} frauds among {pair.n:,} with a known end"
    cost = pair.cost
    if not cost.is_known:
        return f"{said}: the same reviews cost {cost.value:+,.0f} a day, and how sure that is cannot be told"
    return (
        f"{said}: the same {pair.reviews_per_day:,.1f} reviews a day cost {cost.value:+,.0f} "
        f"[{cost.low:+,.0f}, {cost.high:+,.0f}] a day (look {pair.look}, at {percent(1 - 2 * pair.level)})"
    )


def _trained(events: Sequence[Event], version: int, contract: Contract) -> datetime:
    """The moment of knowledge that a version was trained with; nothing before it tells anything of the version."""
    months = [one.month for one in events if (one.kind, one.model_version) == ("registered", version)]
    return max((contract.month_end(month) for month in months), default=contract.month_start(contract.first_month))


def _counts(store: MonthStore, window: Window, counts: dict[str, int]) -> dict[str, int | None]:
    """How many scores there are of each month of a window."""
    contract = store.contract
    first, last = contract.month_of(window.start), contract.month_of(window.end)
    months = months_between(max(first, contract.first_month), last)
    return {month: counts.get(month) for month in months if contract.month_start(month) < window.end}
