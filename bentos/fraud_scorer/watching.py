"""What keeps remembered pasts current: a thread that looks for changed months and tells other workers what was scored.

Ten times a second it stores what this process has scored, takes up what other processes have, and looks whether a
month of transactions or labels was replaced, or a person was erased. Which months are swapped, and how, belongs to
`fraud_assets.adapters.postgres.month_writer`.
"""

from __future__ import annotations

import logging
import threading
import time

import pyarrow as pa
from prometheus_client import Gauge

from bentos.fraud_scorer.store import PastStore
from fraud_assets.adapters.online.erased import ErasedPersons
from fraud_assets.adapters.online.history import History, HistoryError
from fraud_assets.adapters.online.recent import RecentTransactions
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.people.pseudonyms import ErasureError

logger = logging.getLogger("bentoml.fraud_scorer")

# At module level, as prometheus_client knows each metric of a process once.
BYTES = Gauge(
    "fraud_scorer_history_bytes", "Memory of what is remembered of customers and terminals", multiprocess_mode="livesum"
)
AGE = Gauge(
    "fraud_scorer_history_age_seconds", "Since it was last sure that this is current", multiprocess_mode="livemax"
)

LOOK_SECONDS = 0.1
# After a failure.
RETRY_SECONDS = 1.0
# Until it is tried again to make the table of recent transactions, where the database refuses.
PREPARE_SECONDS = 60.0
WRITTEN_AT_ONCE = 2000
# A month is replaced by another table: the tables themselves are the version of what is stored.
MONTHS = """
    SELECT inhrelid::bigint AS number, inhrelid::regclass::text AS name, inhparent = to_regclass('raw_transactions') AS raw
    FROM pg_inherits WHERE inhparent IN (to_regclass('raw_transactions'), to_regclass('fraud_labels')) ORDER BY 1
"""  # noqa: E501


class Watcher:
    """Keeps a store current."""

    def __init__(self, store: PastStore, history: History, contract: Contract) -> None:
        """Does nothing yet.

        Args:
            store: of pasts.
            history: a connection of its own.
            contract: of the transactions.
        """
        self._store, self._history = store, history
        self._recent, self._erased = RecentTransactions(history, contract), ErasedPersons(history)
        self._months: dict[int, tuple[str, bool]] | None = None
        self._looked = -float("inf")
        self._prepared, self._refused_at = False, -float("inf")
        self._fails = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    @property
    def age(self) -> float:
        """Seconds since it was last sure that the store is current."""
        return time.monotonic() - self._looked

    @property
    def recent(self) -> RecentTransactions | None:
        """Where workers meet; None where the database has no such place."""
        return self._recent if self._prepared else None

    def start(self) -> None:
        """Begins, once; the first look is over when it returns.

        Raises:
            HistoryError: when the database cannot be looked at.
        """
        if self._months is not None and self._thread.is_alive():
            return
        with self._lock:
            if self._months is None:
                self._look()
            if not self._thread.is_alive() and not self._over.is_set():
                self._thread.start()

    def close(self) -> None:
        """Stores what was scored, and looks no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)
        self._history.close()

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(RETRY_SECONDS if self._fails else LOOK_SECONDS)
            BYTES.set(self._store.nbytes)
            AGE.set(self.age)
            try:
                # Before what cannot be written without the key.
                self._look_at_erased()
                self._write()
                if not over:
                    with self._lock:
                        self._look()
                    self._store.refresh(self._history)
                self._fails = False
            except HistoryError as error:
                if not self._fails:
                    logger.error("what is remembered of customers may be out of date: %s", error)
                self._fails = True
            except pa.ArrowException:
                logger.exception("what is remembered of customers may be out of date")
                self._fails = True

    def _write(self) -> None:
        self._prepare()
        while self._prepared and (rows := self._store.unwritten(WRITTEN_AT_ONCE)).num_rows:
            self._recent.write(rows)
            self._store.written(rows)

    def _look(self) -> None:
        self._prepare()
        began = time.monotonic()
        if self._prepared:
            self._store.take_up(self._recent.newer(), written=True)
        found = self._history.fetch(MONTHS, None, began + 60)
        months = {row["number"]: (row["name"], row["raw"]) for row in found.to_pylist()}
        before, self._months = self._months, months
        if before is not None and months.keys() != before.keys():
            new = [name for number, (name, raw) in months.items() if raw and number not in before]
            try:
                self._store.held(self._recent.held(new, self._store.recent_ids()))
                if self._prepared:
                    self._recent.forget(new)
            finally:
                self._store.outdate()
        self._looked = began

    def _look_at_erased(self) -> None:
        """Lets the store forget persons who were erased."""
        try:
            if (erased := self._erased.newer()) is not None:
                self._store.erase(erased)
        except ErasureError as error:
            logger.error("who was erased cannot be told apart, so nobody is remembered: %s", error)
            self._store.forget_all()

    def _prepare(self) -> None:
        if self._prepared or time.monotonic() - self._refused_at < PREPARE_SECONDS:
            return
        try:
            self._recent.prepare()
            self._prepared = True
        except HistoryError:
            self._refused_at = time.monotonic()
            logger.warning(
                "what other workers score is not seen until a month holds it: recent_transactions cannot be made"
            )
