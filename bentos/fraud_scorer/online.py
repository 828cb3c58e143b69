"""Features of raw transactions: from memory where it has what they need, else from the database.

One transaction is answered from remembered pasts (`store.py`). Several at once, and those that are asked for strictly,
are computed from what the database says now.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prometheus_client import Counter

from bentos.fraud_scorer.store import PastStore
from bentos.fraud_scorer.watching import Watcher
from fraud_assets.adapters.online.history import DATABASE_VARIABLE, History, HistoryError, features_from
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import feature_names, text_features

if TYPE_CHECKING:
    from fraud_assets.core.features.pasts import Made, Single

HISTORY = Counter(
    "fraud_scorer_history", "Transactions by where their history was: memory, read into memory, database", ["source"]
)
FROM_MEMORY, READ, FROM_DATABASE = (HISTORY.labels(source) for source in ("memory", "read", "database"))

MEMORY_VARIABLE = "FRAUD_SERVE_HISTORY_MB"
MEMORY_MB = 512
# From when on an answer says how old the history in it may be; what is written by others is looked for more often.
TOLD_FROM_SECONDS = 1.0


class HistoryNotConfiguredError(RuntimeError):
    """Raw transactions were sent, and no database is configured to read their history from."""


class Online:
    """Makes features of raw transactions."""

    def __init__(self, contract: Contract, url: str | None) -> None:
        """Connects to nothing yet.

        Args:
            contract: of the transactions.
            url: of the database; None where there is none.

        Raises:
            ValueError: for a URL of another kind of database, or memory that is no number.
        """
        self._contract = contract
        self._numbers, self._texts = feature_names(contract), text_features(contract)
        self.store = PastStore(contract, int(os.environ.get(MEMORY_VARIABLE) or MEMORY_MB) * 2**20)
        self._history: History | None = None
        self._for_one: History | None = None
        self._watcher: Watcher | None = None
        if url and contract.entities:
            self._watcher = Watcher(
                self.store, History(url, contract, name="fraud watcher", more=self._recent), contract
            )
            # Two, so that what is read for one customer does not wait for a request of ten thousand.
            self._history = History(url, contract, name="fraud scorer", more=self._recent)
            self._for_one = History(url, contract, name="fraud memory", more=self._recent)

    @property
    def age(self) -> float | None:
        """Seconds for which the history may be out of date, where that is worth telling."""
        if self._watcher is None or self._watcher.age < TOLD_FROM_SECONDS:
            return None
        return round(self._watcher.age, 1)

    def at_once(self, transaction: pa.Table) -> Mapping[str, Any] | None:
        """The features of one transaction by name; None where something must be read first."""
        single = self.store.kernel.single(transaction)
        keys = self.store.kernel.keys(single.row)
        if (made := self.store.answer(single, keys)) is None:
            # Whoever reads first reads this as well.
            self.store.want(single, keys)
            return None
        FROM_MEMORY.inc()
        return self._named(single, made)

    def features(self, batch: pa.Table, until: float, *, strict: bool = False) -> pa.Table | list[Mapping[str, Any]]:
        """The features of transactions, in their order, as a table or as rows.

        Args:
            batch: columns of `Contract.transactions_schema`.
            until: as in `History.before`.
            strict: whether the database is asked, whatever is remembered.

        Raises:
            HistoryError: when history cannot be read.
            HistoryNotConfiguredError: when there is none, and the contract has entities.
        """
        if self._contract.entities and self._history is None:
            raise HistoryNotConfiguredError(
                f"features of transactions need history, and {DATABASE_VARIABLE} is not set for this "
                "service; set it, or send features"
            )
        if batch.num_rows == 1 and not strict and (made := self._single(batch, until)) is not None:
            READ.inc()
            return [made]
        FROM_DATABASE.inc(batch.num_rows)
        return self._read(batch, until)

    def start(self, until: float) -> None:
        """Begins to keep what is remembered current; if it cannot, the first transaction does.

        Raises:
            HistoryError: when the database does not answer.
        """
        if self._watcher is not None and self._history is not None:
            self._history.check(until)
            self._watcher.start()

    def close(self) -> None:
        """Stores what is not stored yet, and closes the connections."""
        if self._watcher is not None:
            self._watcher.close()
        for history in (self._history, self._for_one):
            if history is not None:
                history.close()

    def _single(self, batch: pa.Table, until: float) -> Mapping[str, Any] | None:
        store, single = self.store, self.store.kernel.single(batch)
        keys = store.kernel.keys(single.row)
        if (made := store.answer(single, keys)) is not None:
            return self._named(single, made)
        if store.is_apart(single, keys):
            return None
        try:
            if self._watcher is not None and self._for_one is not None:
                self._watcher.start()
                store.read(self._for_one, single, keys, until)
        except HistoryError:
            # Better an answer from what was so a moment ago, which says so, than none.
            if (made := store.answer(single, keys, stale=True)) is None:
                raise
        else:
            made = store.answer(single, keys)
        return None if made is None else self._named(single, made)

    def _read(self, batch: pa.Table, until: float) -> pa.Table:
        stored = self._contract.transactions_schema().empty_table()
        statements = self._contract.labels_schema().empty_table()
        if self._watcher is not None and self._history is not None:
            self._watcher.start()
            stored, statements = self._history.around(batch, until)
        own = pc.is_in(batch["transaction_id"], stored["transaction_id"].combine_chunks())
        others = pc.invert(pc.is_in(stored["transaction_id"], batch["transaction_id"].combine_chunks()))
        features = features_from(batch, stored.filter(others), statements, self._contract)
        if self._watcher is not None:
            self.store.take_up(batch.filter(pc.invert(own)), written=False)
        return features

    def _recent(self, wanted: Mapping[str, pa.Table], until: float) -> pa.Table:
        """What was scored and is not in any month, of some values of entities."""
        recent = self._watcher.recent if self._watcher is not None else None
        stored = recent.of(wanted, until) if recent is not None else None
        lately = self.store.lately_of(
            (entity, value) for entity, spans in wanted.items() for value in spans["id"].to_pylist()
        )
        return lately if stored is None else pa.concat_tables([stored, lately])

    def _named(self, single: Single, made: Made) -> Mapping[str, Any]:
        values = made.numbers.astype(object)
        values[np.isnan(made.numbers)] = None
        named: dict[str, Any] = dict(zip(self._numbers, values.tolist(), strict=True))
        return named | {name: single.row[name] for name in self._texts}
