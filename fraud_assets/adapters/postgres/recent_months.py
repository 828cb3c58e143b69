"""Months that this process has written or read lately, so that training, drift and evaluation read each once.

A month is known by the digest of its rows, which says what is in it whatever database it lies in. Which digest a month
has now is asked of the database at each reading.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import pyarrow as pa

from fraud_assets.core.lineage.tables.table import Table

# A year of a hundred thousand transactions a month, with thirty features, takes 230 MiB.
MOST_BYTES = 512 * 2**20


class RecentMonths:
    """Rows by table and digest; where they take too much memory, those that were not asked for longest are forgotten.

    Threads may share it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._months: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, table: Table, digest: str, columns: Sequence[str]) -> pa.Table | None:
        """The rows of a month with these columns, in the table's order; None where they are not known."""
        with self._lock:
            rows = self._months.get((table.name, digest))
            if rows is None or not set(columns) <= set(rows.column_names):
                return None
            self._months.move_to_end((table.name, digest))
        return rows.select(columns)

    def keep(self, table: Table, digest: str, rows: pa.Table) -> None:
        """Keeps a month's rows, which are in the table's order and nothing but these; see `may_keep`.

        Of a month that is known with other columns, the larger number of columns stays.
        """
        with self._lock:
            known = self._months.pop((table.name, digest), None)
            if known is not None and known.num_columns > rows.num_columns:
                rows = known
            if rows.nbytes <= self._most_bytes:
                self._months[table.name, digest] = rows
            while sum(month.nbytes for month in self._months.values()) > self._most_bytes:
                self._months.popitem(last=False)

    def forget(self) -> None:
        """Forgets all."""
        with self._lock:
            self._months.clear()


def may_keep(table: Table, columns: Sequence[str]) -> bool:
    """Whether the digest of a month says all about its rows, they are read more than once, and their order is known."""
    return table.by_range_only and not table.volatile and set(table.order) <= set(columns)


# One for the process: each step opens the tables anew.
RECENT_MONTHS = RecentMonths()
