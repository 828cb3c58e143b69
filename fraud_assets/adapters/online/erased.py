"""Who was erased, for a service that remembers persons: asked again and again, and read when somebody was added."""

from __future__ import annotations

import math
import os
from pathlib import Path

from fraud_assets.adapters.online.history import History
from fraud_assets.adapters.people.key import ERASED, KEY_VARIABLE, erased_by
from fraud_assets.core.people.pseudonyms import Erased

THERE = "SELECT to_regclass('public.erased_entities') IS NOT NULL AS there"
LAST = "SELECT coalesce(max(number), 0) AS last FROM public.erased_entities"


class ErasedPersons:
    """Reads the table `erased_entities`."""

    def __init__(self, history: History) -> None:
        """Asks nothing yet.

        Args:
            history: whose connection is used.
        """
        self._history = history
        key = os.environ.get(KEY_VARIABLE)
        self._key = Path(key) if key else None
        self._is_there, self._seen = False, 0

    def newer(self) -> Erased | None:
        """Everybody who was erased, where somebody was since this was last asked; else None.

        Raises:
            HistoryError: when the database cannot be read.
            ErasureError: when the key to recognise them is not there; the next call does not say so again.
        """
        if not self._is_there:
            self._is_there = bool(self._history.fetch(THERE, None, math.inf)["there"][0].as_py())
        if not self._is_there:
            return None
        last = int(self._history.fetch(LAST, None, math.inf)["last"][0].as_py())
        if last == self._seen:
            return None
        rows = self._history.fetch(ERASED, None, math.inf).to_pylist()
        self._seen = last
        return erased_by(rows, self._key)
