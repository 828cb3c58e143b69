"""What use cases tell while they go on; nothing is shown here, and by default nobody listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Progress:
    """Hears what a use case does. Whoever shows it to people overrides what he shows."""

    def working(self, what: str, month: str = "") -> AbstractContextManager[Any]:  # noqa: ARG002 - for those who listen
        """Something that takes a while has begun; it is over when the context ends.

        Args:
            what: what is done, such as the tables that are rebuilt.
            month: of which month, YYYY-MM; empty where it is of none.
        """
        return nullcontext()

    def month_run(self, outcome: Mapping[str, Any]) -> None:
        """A month has been run.

        Args:
            outcome: as `run_months` returns it.
        """

    def month_rebuilt(
        self, month: str, rebuilt: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, str]], seconds: float
    ) -> None:
        """Tables of a month have been rebuilt.

        Args:
            month: YYYY-MM.
            rebuilt: as `refresh_months` returns it.
            failed: step and error of what failed.
            seconds: how long it took.
        """

    def note(self, sentence: str) -> None:
        """Something that a person wants to know before it goes on."""
