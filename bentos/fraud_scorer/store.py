"""What the service remembers of customers and terminals, so that most transactions are scored without the database.

A past is read when its entity is first met, and takes up every transaction that is scored, here or by another worker.
A month that is replaced makes all pasts stale; `watching.py` looks for that. What a past is, and what features are made
of it, belongs to `fraud_assets.core.features.pasts`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import personal_columns
from fraud_assets.core.people.pseudonyms import Erased
from fraud_assets.core.units import MICROSECONDS_PER_DAY

if TYPE_CHECKING:
    from fraud_assets.core.features.pasts import Key, Made, Past, Single

# How much earlier than the first transaction that is asked about, another may lie without a past being read anew.
SLACK = MICROSECONDS_PER_DAY
# Entities that are read at once: what waits behind a request is read with it.
READ_AT_ONCE = 256
# Of a transaction that others can read by now: one that began to read before then may not have found it.
LATELY_SECONDS = 60.0
# While nothing can be written, no more than this is kept of what was scored.
MOST_UNWRITTEN = 100_000


class Reader(Protocol):
    """What reads pasts: `History`."""

    def since(self, wanted: Mapping[str, Mapping[Any, int]], until: float = ...) -> tuple[pa.Table, pa.Table]:
        """All that is stored of some entities from a moment on, what is in `Lately`, and what was said of it."""


class Lately:
    """Transactions of the last minute, which may be too new for whoever reads the database; by id."""

    def __init__(self, contract: Contract) -> None:
        self._schema = contract.transactions_schema()
        self._entities = tuple(contract.entities)
        self._rows: dict[Any, Mapping[str, Any]] = {}
        self._of: dict[tuple[str, Any], dict[Any, None]] = {}
        self._unwritten: dict[Any, None] = {}
        self._written: deque[tuple[float, Any]] = deque()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Mapping[str, Any], *, written: bool) -> bool:
        """Takes a transaction up; False where it is there already.

        Args:
            row: its values by column.
            written: whether others can read it.
        """
        key = row["transaction_id"]
        if key in self._rows:
            return False
        self._enter(key, row)
        if written:
            self._written.append((time.monotonic(), key))
        else:
            self._unwritten[key] = None
            if len(self._unwritten) > MOST_UNWRITTEN:
                self._remove(next(iter(self._unwritten)))
        return True

    def rename(self, renamed: Callable[[Mapping[str, Any]], Mapping[str, Any] | None]) -> None:
        """Puts other values in the place of transactions.

        Args:
            renamed: gives them; None where a transaction stays.
        """
        for key, row in list(self._rows.items()):
            if (new := renamed(row)) is not None:
                self._leave(key, row)
                self._enter(key, new)

    def _enter(self, key: Any, row: Mapping[str, Any]) -> None:
        self._rows[key] = row
        for entity in self._entities:
            if row[entity] is not None:
                self._of.setdefault((entity, row[entity]), {})[key] = None

    def _leave(self, key: Any, row: Mapping[str, Any]) -> None:
        for entity in self._entities:
            of = self._of.get((entity, row[entity]))
            if of is not None:
                of.pop(key, None)
                if not of:
                    del self._of[entity, row[entity]]

    def table(self, wanted: Iterable[tuple[str, Any]]) -> pa.Table:
        """The transactions of some entities, each once; columns of `Contract.transactions_schema`."""
        keys = dict.fromkeys(key for one in wanted for key in self._of.get(one, ()))
        return pa.Table.from_pylist([dict(self._rows[key]) for key in keys], schema=self._schema)

    def unwritten(self, most: int) -> pa.Table:
        """The oldest of those that others cannot read yet."""
        keys = [key for key, _ in zip(self._unwritten, range(most), strict=False)]
        return pa.Table.from_pylist([dict(self._rows[key]) for key in keys], schema=self._schema)

    def written(self, rows: pa.Table) -> None:
        """Notes that others can read these; they are forgotten a minute later."""
        now = time.monotonic()
        for key in rows["transaction_id"].to_pylist():
            if self._unwritten.pop(key, self) is not self:
                self._written.append((now, key))

    def forget_old(self) -> None:
        """Forgets what was readable a minute ago."""
        before = time.monotonic() - LATELY_SECONDS
        while self._written and self._written[0][0] < before:
            self._remove(self._written.popleft()[1])

    def ids(self) -> list[Any]:
        """Which there are."""
        return list(self._rows)

    def forget(self, keys: Iterable[Any]) -> None:
        """Forgets these, where they are there."""
        for key in keys:
            self._remove(key)

    def _remove(self, key: Any) -> None:
        row = self._rows.pop(key, None)
        if row is None:
            return
        self._unwritten.pop(key, None)
        self._leave(key, row)


class PastStore:
    """Pasts of entities in bounded memory; those that were not asked for longest are forgotten.

    Threads may share it. Whoever asks for features is answered from what everybody before has added.
    """

    def __init__(self, contract: Contract, most_bytes: int) -> None:
        """Remembers nothing yet.

        Args:
            contract: of the transactions.
            most_bytes: that pasts may take; the newest one always stays.
        """
        # Here: what only builds a package, or starts the processes that answer, shall not wait for compiled code.
        from fraud_assets.core.features.pasts import SingleFeatures

        self.kernel = SingleFeatures(contract)
        self.lately = Lately(contract)
        self._contract = contract
        self._most_bytes = most_bytes
        self._lock = threading.RLock()
        self._pasts: OrderedDict[Key, tuple[Past, int]] = OrderedDict()
        self._judged_by: dict[Any, set[Key]] = {}
        self._bytes = 0
        self._version = 0
        self._erased = Erased()
        self._wanted: dict[Key, int] = {}
        # Of each reading that is under way, what was taken up since it began.
        self._meanwhile: list[list[Single]] = []

    def __len__(self) -> int:
        return len(self._pasts)

    @property
    def nbytes(self) -> int:
        """Memory that the pasts take, about."""
        return self._bytes

    @property
    def version(self) -> int:
        """Rises whenever what is stored has changed."""
        return self._version

    def outdate(self) -> None:
        """Notes that what is stored has changed: every past is read anew before it is used."""
        with self._lock:
            self._version += 1

    # Forgetting persons

    def erase(self, erased: Erased) -> None:
        """Forgets persons who were erased; from now on they are looked up each time, and remembered by no name.

        Args:
            erased: everybody.
        """
        with self._lock:
            self._erased = erased
            for key in [key for key in self._pasts if self._is_erased(key)]:
                self._forget(key)
            self.lately.rename(self._renamed)
            # Pasts of others may name them as those who spent.
            self._version += 1

    def forget_all(self) -> None:
        """Forgets every past."""
        with self._lock:
            for key in list(self._pasts):
                self._forget(key)

    def _is_erased(self, key: Key) -> bool:
        if not self._erased:
            return False
        group, values = key
        names = self.kernel.groups[group].entities
        return any(self._erased.pseudonym(name, value) is not None for name, value in zip(names, values, strict=True))

    def _renamed(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """A transaction of somebody who was erased, without what names the person; None for anybody else's."""
        if not self._erased or self._erased.values(row) is None:
            return None
        rows = pa.Table.from_pylist([dict(row)], schema=self._contract.transactions_schema())
        personal = personal_columns(self._contract)
        (new,) = self._erased.renamed(rows, tuple(self._contract.entities), personal).to_pylist()
        return dict(new)

    # Asking

    def answer(self, single: Single, keys: Sequence[Key | None], *, stale: bool = False) -> Made | None:
        """The features of a transaction, which counts for later ones from now on; None where a past must be read.

        Args:
            single: the transaction.
            keys: whose pasts it needs.
            stale: whether pasts from before the last change will do.
        """
        with self._lock:
            pasts: list[Past | None] = []
            for key in keys:
                past = None if key is None else self._usable(key, single, stale)
                if key is not None and past is None:
                    return None
                pasts.append(past)
            made = self.kernel.features(single, keys, pasts)
            self._take_up(single, made, pasts, written=False)
            return made

    def is_apart(self, single: Single, keys: Sequence[Key | None]) -> bool:
        """Whether it is among its own past, with an earlier time: then its past is another than everybody else's."""
        with self._lock:
            known = (self._pasts[key][0] for key in keys if key is not None and key in self._pasts)
            return any(past.place(single.moment, single.identifier) >= 0 for past in known)

    def _usable(self, key: Key, single: Single, stale: bool) -> Past | None:
        found = self._pasts.get(key)
        if found is None:
            return None
        past, version = found
        if (version != self._version and not stale) or past.since > single.moment - self.kernel.reach(key):
            return None
        if past.place(single.moment, single.identifier) >= 0:
            return None
        self._pasts.move_to_end(key)
        return past

    # Taking up what was scored

    def take_up(self, rows: pa.Table, *, written: bool) -> None:
        """Lets transactions count that were scored in another way, or by another worker.

        Args:
            rows: columns of `Contract.transactions_schema`.
            written: whether others can read them already.
        """
        for place in range(rows.num_rows):
            single = self.kernel.single(rows.slice(place, 1))
            keys = self.kernel.keys(single.row)
            with self._lock:
                pasts = [None if key is None or key not in self._pasts else self._pasts[key][0] for key in keys]
                made = self.kernel.features(single, keys, pasts)
                self._take_up(single, made, pasts, written=written)

    def _take_up(self, single: Single, made: Made, pasts: Sequence[Past | None], *, written: bool) -> None:
        lacking = [past is not None and not past.has(single.identifier) for past in pasts]
        # What a month holds already counts as it is stored there, whatever a request says of it.
        if not written and any(past is not None and not lacks for past, lacks in zip(pasts, lacking, strict=True)):
            return
        if not self.lately.add(self._renamed(single.row) or single.row, written=written):
            return
        for reading in self._meanwhile:
            reading.append(single)
        self._add(single, made, pasts, lacking)

    def _add(self, single: Single, made: Made, pasts: Sequence[Past | None], lacking: Sequence[bool]) -> None:
        self._drop_misjudged(single)
        for key, past, event, lacks in zip(made.keys, pasts, made.events, lacking, strict=True):
            if not lacks or key is None or key not in self._pasts or past is None or event is None:
                continue
            if self.kernel.disturbs(key, single, past):
                self._forget(key)
                continue
            self._bytes += past.add(single.moment, event)
        self._shrink()

    def _drop_misjudged(self, single: Single) -> None:
        spender = self.kernel.spender
        if spender is None:
            return
        for key in tuple(self._judged_by.get(single.row[spender], ())):
            if self.kernel.misjudges(single, self._pasts[key][0]):
                self._forget(key)

    # What others cannot read yet

    def unwritten(self, most: int) -> pa.Table:
        """As `Lately.unwritten`."""
        with self._lock:
            return self.lately.unwritten(most)

    def recent_ids(self) -> list[Any]:
        """The transactions that may be too new for whoever reads the database."""
        with self._lock:
            return self.lately.ids()

    def held(self, identifiers: Iterable[Any]) -> None:
        """Notes that a month holds these transactions now, and says what they were."""
        with self._lock:
            self.lately.forget(identifiers)

    def written(self, rows: pa.Table) -> None:
        """Notes that others can read these."""
        with self._lock:
            self.lately.written(rows)
            self.lately.forget_old()

    def lately_of(self, wanted: Iterable[tuple[str, Any]]) -> pa.Table:
        """What may be too new for whoever reads the database, of some values of entities."""
        with self._lock:
            return self.lately.table(wanted)

    # Reading

    def want(self, single: Single, keys: Iterable[Key | None]) -> None:
        """Notes pasts that are to be read with the next ones that are."""
        with self._lock:
            for key in keys:
                if key is not None and self._usable(key, single, False) is None:
                    since = single.moment - self.kernel.reach(key) - SLACK
                    self._wanted[key] = min(since, self._wanted.get(key, since))

    def read(self, reader: Reader, single: Single, keys: Sequence[Key | None], until: float = math.inf) -> None:
        """Reads the pasts of a transaction that are not there, and of others that wait for theirs.

        Raises:
            HistoryError: when they cannot be read.
        """
        self.want(single, keys)
        with self._lock:
            mine = [key for key in keys if key in self._wanted]
            others = [key for key in self._wanted if key not in mine]
            taken = {key: self._wanted.pop(key) for key in [*mine, *others[: READ_AT_ONCE - len(mine)]]}
        if taken:
            self._read(reader, taken, until)

    def refresh(self, reader: Reader) -> bool:
        """Reads stale pasts anew, those that were asked for last first; False when there are none left."""
        with self._lock:
            stale = (key for key in reversed(self._pasts) if self._pasts[key][1] != self._version)
            keys = [key for key, _ in zip(stale, range(READ_AT_ONCE), strict=False)]
            taken = {key: self._pasts[key][0].since for key in keys}
        if taken:
            self._read(reader, taken, math.inf, asked=False)
        return bool(taken)

    def _read(self, reader: Reader, taken: Mapping[Key, int], until: float, *, asked: bool = True) -> None:
        version = self._version
        spans: dict[str, dict[Any, int]] = {}
        for (group, values), since in taken.items():
            # Of several entities together, each one's rows hold theirs.
            names = self.kernel.groups[group].entities
            for name, value in zip(names, values, strict=True):
                of = spans.setdefault(name, {})
                of[value] = min(since, of.get(value, since))
        meanwhile: list[Single] = []
        with self._lock:
            self._meanwhile.append(meanwhile)
        try:
            transactions, statements = reader.since(spans, until)
            # Without the lock: nobody who is answered from memory waits for this.
            found = self.kernel.pasts(transactions, statements, taken)
        finally:
            with self._lock:
                self._meanwhile.remove(meanwhile)
        with self._lock:
            for key, past in found.items():
                self._keep(key, past, version, asked=asked)
            for single in meanwhile:
                keys = self.kernel.keys(single.row)
                pasts = [None if key is None or key not in self._pasts else found.get(key) for key in keys]
                lacking = [past is not None and not past.has(single.identifier) for past in pasts]
                self._add(single, self.kernel.features(single, keys, pasts), pasts, lacking)
            self._shrink()

    def _keep(self, key: Key, past: Past, version: int, *, asked: bool) -> None:
        if key in self._pasts:
            self._release(key, self._pasts[key][0])
        if self._is_erased(key):
            self._pasts.pop(key, None)
            return
        self._pasts[key] = (past, version)
        if asked:
            self._pasts.move_to_end(key)
        self._bytes += past.nbytes
        for value in past.judged:
            self._judged_by.setdefault(value, set()).add(key)

    def _release(self, key: Key, past: Past) -> None:
        self._bytes -= past.nbytes
        for value in past.judged:
            of = self._judged_by.get(value)
            if of is not None:
                of.discard(key)
                if not of:
                    del self._judged_by[value]

    def _forget(self, key: Key) -> None:
        self._release(key, self._pasts.pop(key)[0])

    def _shrink(self) -> None:
        while self._bytes > self._most_bytes and len(self._pasts) > len(self.kernel.groups):
            self._forget(next(iter(self._pasts)))
