"""Evaluation: champion, challenger and reference on the same out-of-time window, as rows and as evidence.

Which window that is belongs to `windows.py`; the metrics to `statistics/metrics.py`, the parts of a window to
`segments.py`, other thresholds to `thresholds.py`; the decision to `decisions/promotion.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.pair import PairComparison, PartDifference, Reviews, compare_pair, compare_parts
from fraud_assets.core.evaluation.segments import ENDS, Segment, attributes_of, judge_segments, segments_of
from fraud_assets.core.evaluation.thresholds import Flagging
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.months import shift_month
from fraud_assets.core.statistics.bootstrap import Bools, Codes, Floats, identifier_codes
from fraud_assets.core.statistics.metrics import Costs, evaluate_scores
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.windows import MINIMUM_FRAUDS, Window, rows_within, when_enough

Role = Literal["champion", "challenger", "waiting", "reference"]
Candidate = Literal["challenger", "waiting"]
CANDIDATES: tuple[Candidate, ...] = ("challenger", "waiting")
"""Who may take the champion's place: the newest model, and one that was not shown to be better before."""
NOBODY = "none"
"""The role of the row that says why no model could be judged."""
REPLICATES = 200


class EvaluationError(ValueError):
    """A window on which no model can be judged."""


# A table, its first and its last month; gives its rows.
Read = Callable[[str, str, str], pa.Table]


class KnownRows:
    """Transactions up to a month's end with their labels as known then: as many months back as were asked for.

    Attributes:
        first: the first month that was read; the month after the last where nothing was.
        parts: the tables as they were read, for what is recorded as inputs.
    """

    def __init__(self, read: Read, contract: Contract, month: str) -> None:
        """Reads nothing yet.

        Args:
            read: gives `transaction_features` and `fraud_labels`.
            contract: of the source.
            month: at whose end things are known.
        """
        self._read, self._contract, self._month = read, contract, month
        self.first = shift_month(month, 1)
        self.parts: list[pa.Table] = []
        self._features: list[pa.Table] = []
        self._statements: list[pa.Table] = []
        self._labels: pa.Table | None = None

    @property
    def features(self) -> pa.Table:
        """The transactions, oldest month first."""
        return _together(self._features)

    @property
    def labels(self) -> pa.Table:
        """Their labels, in the same order."""
        if self._labels is None:
            self._labels = labels_as_of(
                self.features,
                _together(self._statements),
                self._contract.month_end(self._month),
                maturity_days=self._contract.maturity_days,
                blank=self._contract.label.blank,
            )
        return self._labels

    def reach(self, window: Window) -> None:
        """Reads back to the month in which a window begins."""
        first, last = self._contract.month_of(window.start), shift_month(self.first, -1)
        if first > last:
            return
        features, statements = (self._read(table, first, last) for table in ("transaction_features", "fraud_labels"))
        self.parts += [features, statements]
        self._features.insert(0, features)
        self._statements.insert(0, statements)
        self.first, self._labels = first, None

    def frauds(self, window: Window) -> list[datetime]:
        """The event times of the matured frauds of a window."""
        self.reach(window)
        is_fraud = pc.and_(pc.fill_null(self.labels["is_fraud"], False), self.labels["is_matured"])
        found: list[datetime] = rows_within(self.features.filter(is_fraud), window)["event_timestamp"].to_pylist()
        return found


def _together(tables: Sequence[pa.Table]) -> pa.Table:
    if len(tables) == 1:
        return tables[0]
    # Months from before a column was declared have it nullable.
    return pa.concat_tables([one.replace_schema_metadata(None) for one in tables], promote_options="default")


@dataclass(frozen=True)
class ScoredWindow:
    """The matured transactions of a window, and what each model says of them; arrays of shape (n,).

    Attributes:
        rows: their features.
        y: whether they are fraud.
        scores: by role, probabilities.
        cards: codes of `Contract.card`; negative where unknown, None without an entity.
        terminals: the same of the first other entity.
        days: since 1970-01-01, in the contract's time zone.
        amount: None where the source has none.
    """

    rows: pa.Table
    y: Bools
    scores: Mapping[Role, Floats]
    cards: Codes | None
    terminals: Codes | None
    days: Codes
    amount: Floats | None

    def flagging(self, role: Role, costs: Costs) -> Flagging:
        """What any threshold on a model's scores would have meant."""
        return Flagging.of(self.y, self.scores[role], cards=self.cards, days=self.days, amount=self.amount, costs=costs)


def score_window(
    features: pa.Table,
    labels: pa.Table,
    models: Mapping[Role, Scorer],
    window: Window,
    contract: Contract,
) -> ScoredWindow:
    """Scores the matured transactions of a window.

    Args:
        features: `event_timestamp`, entities and features; rows outside the window are left out.
        labels: of the same transactions in the same order, as known at the month's end.
        models: by role.
        window: the event times to judge on.
        contract: says which entities there are, whether there are amounts, and where days are cut.

    Raises:
        EvaluationError: when the window has no matured fraud, or no matured genuine transaction.
    """
    moment = features["event_timestamp"]
    inside = pc.and_(
        pc.and_(
            pc.greater_equal(moment, pa.scalar(window.start, moment.type)),
            pc.less(moment, pa.scalar(window.end, moment.type)),
        ),
        labels["is_matured"],
    )
    rows, y = features.filter(inside), labels["is_fraud"].filter(inside).to_numpy().astype(bool)
    if y.all() or not y.any():
        raise EvaluationError(_without_both(y, window))
    local = pc.local_timestamp(rows["event_timestamp"].cast(pa.timestamp("us", tz=contract.timezone)))
    others = [name for name in contract.entities if name != contract.card]
    return ScoredWindow(
        rows=rows,
        y=y,
        scores={role: scorer.score(rows) for role, scorer in models.items()},
        cards=identifier_codes(rows[contract.card]) if contract.card else None,
        terminals=identifier_codes(rows[others[0]]) if others else None,
        days=local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY,
        amount=rows["amount"].to_numpy().astype(np.float64) if contract.amount else None,
    )


def _without_both(y: Bools, window: Window) -> str:
    said = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} has"
    said = (
        f"{said} {len(y):,} matured transactions, {int(y.sum())} of them fraud; a model is judged on both frauds and "
        "genuine transactions"
    )
    if y.any():
        return f"{said}: check that genuine ones are delivered, and what label.blank of the contract says of them"
    return f"{said}. Not enough yet: 0 of {MINIMUM_FRAUDS} frauds; {when_enough(0, MINIMUM_FRAUDS, window, 0)}"


def evaluation_rows(
    scored: ScoredWindow,
    models: Mapping[Role, Scorer],
    *,
    month: str,
    as_of: datetime,
    window: Window,
    schema: pa.Schema,
    costs: Costs | None = None,
    reason: str | None = None,
) -> pa.Table:
    """Judges models on a window.

    Args:
        scored: the window.
        models: by role, those that scored it.
        month: the partition.
        as_of: the month's end.
        window: the event times that were judged on.
        schema: of the evaluation table.
        costs: of reviews and missed frauds.
        reason: why the window is not enough yet, and until when, as the end of a sentence; the decision says it too.

    Returns:
        One row per role; `with_pair` adds to a candidate's how it compares with the champion.
    """
    rows = []
    for role, scorer in models.items():
        metrics = evaluate_scores(
            scored.y,
            scored.scores[role],
            cards=scored.cards,
            days=scored.days,
            amount=scored.amount,
            threshold=scorer.manifest.threshold,
            costs=costs,
            replicates=REPLICATES,
        )
        rows.append(
            {
                "month": _month_date(month),
                "role": role,
                "model_version": scorer.manifest.model_version,
                "family": scorer.manifest.family,
                "trained_month": scorer.manifest.trained_month,
                "as_of": as_of,
                "window_from": window.start,
                "window_to": window.end,
                "reason": reason,
                **metrics.as_row(),
            }
        )
    return pa.Table.from_pylist(rows, schema=schema)


@dataclass(frozen=True)
class Compared:
    """How a candidate compares with the champion.

    Attributes:
        role: which candidate.
        since: when all windows together begin.
        pair: on these.
        parts: on the parts of the month's own window, with the same reviews.
    """

    role: Candidate
    since: datetime
    pair: PairComparison
    parts: Sequence[PartDifference]


def compare(
    together: ScoredWindow,
    scored: ScoredWindow,
    segments: Sequence[Segment],
    models: Mapping[Role, Scorer],
    role: Candidate,
    *,
    since: datetime,
    reviews: Reviewed,
    look: int = 1,
) -> Compared:
    """Compares a candidate with the champion.

    Args:
        together: all windows since both were there, scored by both.
        scored: the month's own window, scored by both.
        segments: the ways to part the own window.
        models: by role.
        role: the candidate.
        since: when all windows together begin.
        reviews: capacity and costs.
        look: which look at the two it is (`pair.look_number`).
    """
    champion, candidate = (models[one].manifest.threshold for one in ("champion", role))
    pair = compare_pair(
        together.y, together.scores["champion"], together.scores[role], cards=together.cards,
        terminals=together.terminals, days=together.days, amount=together.amount,
        reviews=Reviews(champion, candidate, reviews.capacity, reviews.costs), look=look,
    )  # fmt: skip
    parts = compare_parts(
        scored.y, scored.scores["champion"], scored.scores[role], segments, cards=scored.cards, amount=scored.amount,
        costs=reviews.costs, cuts=(pair.champion_cut, pair.challenger_cut),
    )  # fmt: skip
    return Compared(role, since, pair, parts)


@dataclass(frozen=True)
class Reviewed:
    """What can be reviewed in a day, in cards, and what it costs."""

    capacity: float
    costs: Costs


def with_pairs(rows: pa.Table, compared: Iterable[Compared]) -> pa.Table:
    """The rows of `evaluation_rows`, with the comparisons in those of the candidates."""
    added = {
        one.role: {
            **one.pair.as_row(),
            "pair_from": one.since,
            "parts_judged": sum(part.caught.is_known for part in one.parts),
        }
        for one in compared
    }
    return pa.Table.from_pylist([row | added.get(row["role"], {}) for row in rows.to_pylist()], schema=rows.schema)


def with_parts(rows: pa.Table, compared: Iterable[Compared]) -> pa.Table:
    """The rows of `segment_rows`, with the comparisons in those of the candidates."""
    caught = {(one.role, part.segment, part.value): part.caught for one in compared for part in one.parts}

    def added(row: Mapping[str, Any]) -> dict[str, Any]:
        found = caught.get((row["role"], row["segment"], row["value"]))
        return (
            {f"caught_difference{end}": _finite(getattr(found, which)) for end, which in ENDS.items()} if found else {}
        )

    return pa.Table.from_pylist([row | added(row) for row in rows.to_pylist()], schema=rows.schema)


def window_segments(
    scored: ScoredWindow,
    window: Window,
    contract: Contract,
    *,
    history: Sequence[pa.Table],
    raw: pa.Table | None = None,
) -> list[Segment]:
    """The ways to part a window, see `segments.segments_of`.

    Args:
        scored: the window.
        window: its event times.
        contract: says which entities there are.
        history: tables with `event_timestamp` and the entities. An entity with a transaction in them from before the
            window is known, any other is new; where they hold nothing from before, entities part nothing.
        raw: `transaction_id` and the attributes to part by, of at least the window's transactions, in any order.
    """
    before = [
        rows.filter(pc.less(rows["event_timestamp"], pa.scalar(window.start, rows["event_timestamp"].type)))
        for rows in history
    ]
    known = pa.concat_tables([rows.select(list(contract.entities)) for rows in before]) if before else None
    attributes = None if raw is None else attributes_of(scored.rows, raw)
    return segments_of(
        scored.rows,
        timezone=contract.timezone,
        attributes=attributes,
        seen={name: known[name] for name in contract.entities} if known is not None and known.num_rows else None,
    )


def segment_rows(
    scored: ScoredWindow, models: Mapping[Role, Scorer], segments: Sequence[Segment], *, month: str, schema: pa.Schema
) -> pa.Table:
    """Judges champion and candidates on the parts of a window; the reference is a yardstick for the whole.

    Args:
        scored: the window.
        models: by role.
        segments: the ways to part its rows.
        month: the partition.
        schema: of the table.
    """
    rows = []
    for role, scorer in models.items():
        if role == "reference":
            continue
        manifest = scorer.manifest
        found = judge_segments(
            scored.y, scored.scores[role], segments, cards=scored.cards, threshold=manifest.threshold
        )
        base = {"month": _month_date(month), "role": role, "model_version": manifest.model_version}
        rows += [base | part.as_row() for part in found]
    return pa.Table.from_pylist(rows, schema=schema)


def nothing_judged(month: str, as_of: datetime, reason: str, schema: pa.Schema) -> pa.Table:
    """The row of a month in which no model could be judged: its role is `none`, and it says why."""
    return pa.Table.from_pylist(
        [{"month": _month_date(month), "role": NOBODY, "as_of": as_of, "reason": reason}], schema=schema
    )


def _month_date(month: str) -> date:
    return date.fromisoformat(f"{month}-01")


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
