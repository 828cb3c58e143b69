"""Replay: what would have been decided had a candidate scored the traffic, and what came of those transactions.

Which rows are kept, and scoring them, belong to `workflows/rollout/replay.py`. No row is named here: differences are
told by the features that made them.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.pair import DIFFERENCES, Reviews
from fraud_assets.core.evaluation.segments import ENDS, segment_attributes, segments_of
from fraud_assets.core.explanations.reason_codes import Explanation
from fraud_assets.core.models.scoring import ModelManifest
from fraud_assets.core.rollout.pairs import Pairs
from fraud_assets.core.statistics.bootstrap import Bools, Floats
from fraud_assets.core.statistics.costs import Costs, is_value

MOST_ROWS = 5_000_000
"""A row takes about 100 bytes here."""
LARGEST = 10  # differences that are shown
REASONS = 3


class ReplayError(ValueError):
    """Traffic that cannot be replayed; the message says why, and what can be."""


@dataclass
class Replay:
    """A candidate beside what was answered.

    Attributes:
        contract: of the transactions.
        candidate: the manifest of the version that scores again.
        thresholds: of the versions that answered.
        learned_until: what the models learned from ends here; labels of what happened before tell nothing of them.
    """

    contract: Contract
    candidate: ModelManifest
    thresholds: Mapping[int, float]
    learned_until: datetime
    _n: int = 0
    _n_before: int = 0
    _versions: Counter[int] = field(default_factory=Counter)
    _decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    _distance: float = 0.0
    _kept: list[dict[str, Any]] = field(default_factory=list)
    _pairs: dict[int, Pairs] = field(default_factory=dict)
    _largest: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _count: Any = field(default_factory=itertools.count)

    def add(self, rows: pa.Table, features: pa.Table, scores: Floats, labels: pa.Table) -> None:
        """Takes a piece of the traffic.

        Args:
            rows: as `StoredScores.read` gives them; a transaction that several versions answered once.
            features: of the same, in the same order, as the candidate took them.
            scores: the candidate's, shape (n,).
            labels: of the same, as they are known now.

        Raises:
            ReplayError: when it becomes too much to compare at once.
        """
        if (n := rows.num_rows) == 0:
            return
        self._n += n
        if self._n > MOST_ROWS:
            raise ReplayError(
                f"these are more than {MOST_ROWS:,} transactions: replay a shorter span, with --from and --to"
            )
        before = rows["probability"].to_numpy()
        held, now_held = pc.equal(rows["decision"], "review").to_numpy(), scores >= self.candidate.threshold
        self._versions.update(rows["model_version"].to_pylist())
        after = np.where(now_held, "review", "approve")
        self._decisions.update(zip(rows["decision"].to_pylist(), after.tolist(), strict=True))
        self._distance += float(np.abs(scores - before).sum())
        self._keep_largest(before, scores, features)
        old = pc.less(rows["event_timestamp"], pa.scalar(self.learned_until, rows["event_timestamp"].type)).to_numpy()
        self._n_before += int(old.sum())
        known = labels["is_matured"].to_numpy() & ~old
        attributes = segment_attributes(self.contract)
        self._kept.append(
            {
                "held": held, "now_held": now_held, "known": known,
                "y": pc.fill_null(labels["is_fraud"], False).to_numpy().astype(bool) & known,
                "amount": rows["amount"].to_numpy().astype(np.float64) if self.contract.amount else None,
                "times": rows["event_timestamp"],
                "attributes": [rows[name].dictionary_encode() for name in attributes],
            }
        )  # fmt: skip
        fresh = pa.array(~old)
        for version in set(rows["model_version"].to_pylist()):
            own = pc.and_(pc.equal(rows["model_version"], version), fresh)
            chosen = own.to_numpy().astype(bool)
            self._pairs.setdefault(version, Pairs(self.contract)).add(
                rows.filter(own), before[chosen], scores[chosen], labels.filter(own)
            )

    def _keep_largest(self, before: Floats, after: Floats, features: pa.Table) -> None:
        """The rows on which the two differ most, of all pieces."""
        apart = np.abs(after - before)
        for place in np.argsort(-apart, kind="stable")[:LARGEST].tolist():
            row = features.slice(place, 1).to_pylist()[0]
            entry = (float(apart[place]), -next(self._count), {"before": float(before[place]),
                     "after": float(after[place]), "features": row})  # fmt: skip
            heapq.heappushpop(self._largest, entry) if len(self._largest) >= LARGEST else heapq.heappush(
                self._largest, entry
            )

    def report(
        self,
        costs: Costs,
        capacity: float,
        explain: Callable[[Sequence[Mapping[str, Any]], Floats], Sequence[Explanation]] | None,
    ) -> dict[str, Any]:
        """What would have changed, as plain values.

        Args:
            costs: of reviews and missed frauds.
            capacity: cards a day that can be reviewed.
            explain: gives the candidate's reasons of rows; None where it has none.
        """
        n = self._n
        found: dict[str, Any] = {
            "version": self.candidate.model_version,
            "n": n,
            "answered_by": {str(version): n_own for version, n_own in sorted(self._versions.items())},
            "decisions": [
                {"before": was, "after": now, "n": n_own} for (was, now), n_own in sorted(self._decisions.items())
            ],
        }
        if not n:
            return found
        held, now_held = self._column("held"), self._column("now_held")
        found |= {
            "agreement": float((held == now_held).mean()),
            "mean_difference": self._distance / n,
            "reviewed_before": float(held.mean()),
            "reviewed_after": float(now_held.mean()),
            "segments": self._segments(held, now_held),
            "labels": self._labels(held, now_held),
            "comparison": self._comparison(costs, capacity),
            "largest": self._explained(explain),
        }
        return found

    def _column(self, name: str) -> Any:
        return np.concatenate([part[name] for part in self._kept])

    def _segments(self, held: Bools, now_held: Bools) -> list[dict[str, Any]]:
        names = segment_attributes(self.contract)
        columns = {"event_timestamp": pa.chunked_array([c for part in self._kept for c in part["times"].chunks])}
        if self.contract.amount:
            columns["amount"] = pa.chunked_array([pa.array(self._column("amount"))])
        attributes = {
            name: pa.chunked_array(
                [c.dictionary_decode() for part in self._kept for c in part["attributes"][at].chunks]
            )
            for at, name in enumerate(names)
        }
        segments = segments_of(
            pa.table(columns), timezone=self.contract.timezone, attributes=pa.table(attributes) if attributes else None
        )
        return [
            {
                "segment": segment.name, "value": value, "range": segment.ranges[at], "n": int(mine.sum()),
                "reviewed_before": float(held[mine].mean()), "reviewed_after": float(now_held[mine].mean()),
            }
            for segment in segments
            for at, value in enumerate(segment.values)
            if (mine := segment.codes == at).any()
        ]  # fmt: skip

    def _labels(self, held: Bools, now_held: Bools) -> dict[str, Any]:
        """What is known of the transactions on which the two decide differently."""
        known, y = self._column("known"), self._column("y")
        gained, lost = y & now_held & ~held, y & held & ~now_held
        found: dict[str, Any] = {
            "n_known": int(known.sum()),
            "n_fraud": int(y.sum()),
            "n_learned_from": self._n_before,
            "frauds_before": int((y & held).sum()),
            "frauds_after": int((y & now_held).sum()),
            "frauds_gained": int(gained.sum()),
            "frauds_lost": int(lost.sum()),
            "genuine_gained": int((known & ~y & now_held & ~held).sum()),
            "genuine_spared": int((known & ~y & held & ~now_held).sum()),
        }
        if self.contract.amount:
            amount = self._column("amount")
            value = np.where(is_value(amount), amount, 0.0)
            found |= {
                "value_of_frauds": float(value[y].sum()),
                "value_gained": float(value[gained].sum()),
                "value_lost": float(value[lost].sum()),
            }
        return found

    def _comparison(self, costs: Costs, capacity: float) -> dict[str, Any]:
        """The paired differences beside the version that answered most: two thresholds have no common one."""
        version = max(self._pairs, key=lambda one: self._pairs[one].n)
        pairs = self._pairs[version]
        reviews = Reviews(self.thresholds[version], self.candidate.threshold, capacity, costs)
        pair, why = pairs.compare(reviews)
        found: dict[str, Any] = {"beside": version, "n": pairs.n, "n_fraud": pairs.n_fraud, "reason": why or None}
        if pair is None:
            return found
        row = pair.as_row()
        return found | {
            "reviews_per_day": row["reviews_per_day"],
            "level": row["look_level"],
            **{f"{name}{end}": row[f"{name}_difference{end}"] for name in DIFFERENCES for end in ENDS},
        }

    def _explained(
        self, explain: Callable[[Sequence[Mapping[str, Any]], Floats], Sequence[Explanation]] | None
    ) -> list[dict[str, Any]]:
        """The largest differences, each with the candidate's strongest reasons."""
        entries = [entry for _, _, entry in sorted(self._largest, key=lambda one: one[:2], reverse=True)]
        rows, scores = [one["features"] for one in entries], np.array([one["after"] for one in entries])
        told = explain(rows, scores) if explain else [None] * len(entries)
        return [
            {
                "before": one["before"], "after": one["after"],
                "reasons": [reason.sentence for reason in (said.reasons[:REASONS] if said else ())],
            }
            for one, said in zip(entries, told, strict=True)
        ]  # fmt: skip
