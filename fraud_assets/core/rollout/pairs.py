"""Two models' scores of the same live transactions, gathered piece by piece, and what tells them apart.

Which rows these are belongs to `adapters/scores`, how two models compare to `evaluation/pair.py`. Of a row only what a
comparison needs is kept, so that months of traffic fit into memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.evaluation.pair import PairComparison, Reviews, compare_pair
from fraud_assets.core.statistics.bootstrap import Floats, MetricsError, identifier_codes
from fraud_assets.core.units import MICROSECONDS_PER_DAY


@dataclass
class Pairs:
    """Rows of two models, `own` and `other`, of which the truth is known.

    Attributes:
        contract: of the transactions.
        n: how many rows there are.
    """

    contract: Contract
    n: int = 0
    _parts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, rows: pa.Table, own: Floats, other: Floats, labels: pa.Table) -> None:
        """Takes rows of which the truth is known, and leaves out the others.

        Args:
            rows: with `event_timestamp`, and the contract's entities and amount.
            own: scores of the one model, shape (n,).
            other: of the other one, likewise.
            labels: of the same rows in the same order, as `labels_as_of` gives them.
        """
        known = labels["is_matured"].to_numpy()
        if not known.any():
            return
        rows = rows.filter(pa.array(known))
        local = pc.local_timestamp(rows["event_timestamp"].cast(pa.timestamp("us", tz=self.contract.timezone)))
        self._parts.append(
            {
                "y": pc.fill_null(labels["is_fraud"], False).to_numpy().astype(bool)[known],
                "own": own[known],
                "other": other[known],
                "days": local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY,
                "amount": rows["amount"].to_numpy().astype(np.float64) if self.contract.amount else None,
                **{name: rows[name] for name in self.contract.entities},
            }
        )
        self.n += rows.num_rows

    @property
    def n_fraud(self) -> int:
        """Frauds among them."""
        return sum(int(part["y"].sum()) for part in self._parts)

    def column(self, name: str) -> Any:
        """One value of all rows: `y`, `own`, `other`, `days` or `amount`, shape (n,)."""
        return np.concatenate([part[name] for part in self._parts])

    def compare(self, reviews: Reviews, *, look: int = 1, seed: int = 0) -> tuple[PairComparison | None, str]:
        """The other less the own on the same reviews; None, and why, where they cannot be compared.

        Args:
            reviews: thresholds (the champion's is the own one's), capacity and costs.
            look: which look at the two it is.
            seed: of the bootstrap.
        """
        if not self.n:
            return None, "of no transaction that both of them scored is the truth known yet"
        entities = [name for name in self.contract.entities if name != self.contract.card]
        try:
            return compare_pair(
                self.column("y"), self.column("own"), self.column("other"),
                cards=self._codes(self.contract.card), terminals=self._codes(next(iter(entities), None)),
                days=self.column("days"), amount=self.column("amount") if self.contract.amount else None,
                reviews=reviews, look=look, seed=seed,
            ), ""  # fmt: skip
        except MetricsError as error:
            return None, str(error)

    def _codes(self, name: str | None) -> Any:
        if name is None:
            return None
        chunks = [chunk for part in self._parts for chunk in part[name].chunks]
        return identifier_codes(pa.chunked_array(chunks))
