"""What long commands show while they go on: a line for each month, and what is being done now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.console import Console
from rich.markup import escape

from fraud_assets.cli.tables.status import remark_line
from fraud_assets.core.words import percent
from fraud_assets.workflows.progress import Progress
from fraud_assets.workflows.runs.run_months import CHANGES, changes_in_words


class ShownProgress(Progress):
    """Shows progress on a terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def working(self, what: str, month: str = "") -> AbstractContextManager[Any]:
        """A line that is there until it is done."""
        return self.console.status(f"[bold]{month}[/] {what} ..." if month else f"{what} ...")

    def month_run(self, outcome: Mapping[str, Any]) -> None:
        """One line with the month's facts, then what failed and what is not as it should be."""
        self._line(_mark(outcome), outcome["month"], ", ".join(_parts(outcome["facts"])), outcome["seconds"])
        self._failures(outcome["failed"])
        for remark in outcome["why"]:
            self.console.print(remark_line(remark), highlight=False, soft_wrap=True)

    def month_rebuilt(
        self, month: str, rebuilt: Sequence[Mapping[str, Any]], failed: Sequence[Mapping[str, str]], seconds: float
    ) -> None:
        """One line with what changed."""
        told = [
            f"{one['table']} {(changes_in_words(one) or 'changed') if one['changed'] else 'unchanged'}"
            for one in rebuilt
        ]
        self._line("[red]x[/]" if failed else "[green]\u2713[/]", month, "; ".join(told), seconds)
        self._failures(failed)

    def note(self, sentence: str) -> None:
        """As it is."""
        self.console.print(escape(sentence), highlight=False, soft_wrap=True)

    def _line(self, mark: str, month: str, said: str, seconds: float) -> None:
        self.console.print(f"{mark} [bold]{month}[/]  {said}  [dim]{seconds} s[/]", highlight=False, soft_wrap=True)

    def _failures(self, failed: Sequence[Mapping[str, str]]) -> None:
        for failure in failed:
            self.console.print(
                f"  [red]{failure['step']}[/]: {escape(failure['error'])}", highlight=False, soft_wrap=True
            )


def _parts(facts: Mapping[str, Any]) -> list[str]:
    parts = []
    if "raw_transactions.dagster/row_count" in facts:
        parts.append(f"{facts['raw_transactions.dagster/row_count']:>9,} transactions")
        parts.append(_fraud_rate(facts["raw_transactions.fraud_rate"], facts.get("raw_transactions.n_labelled")))
    if facts.get("raw_transactions.quarantined"):
        parts.append(f"[yellow]{facts['raw_transactions.quarantined']:,} quarantined[/]")
    if changes := changes_in_words({name: facts.get(f"raw_transactions.{name}") for name in CHANGES}):
        parts.append(f"[yellow]delivered again: {changes}[/]")
    if "drift_report.drift_status" in facts:
        parts.append(f"drift {facts['drift_report.drift_status']}")
    for role in ("champion", "challenger"):
        if (value := facts.get(f"evaluation.average_precision_{role}")) is not None:
            parts.append(f"{role} AP {value:.3f}")
    if "champion.champion_version" in facts:
        version = facts["champion.champion_version"]
        parts.append(f"live: v{version}" if version is not None else "live: none yet")
    return parts


def _mark(outcome: Mapping[str, Any]) -> str:
    """A tick where all is as it should be, ! where somebody should look at what was done, x where something failed."""
    if outcome["failed"]:
        return "[red]x[/]"
    return "[yellow]![/]" if any(not remark["is_usual"] for remark in outcome["why"]) else "[green]\u2713[/]"


def _fraud_rate(rate: float, n_labelled: int | None) -> str:
    if n_labelled is None:
        return f"{percent(rate)} fraud"
    return f"{percent(rate)} fraud of {n_labelled:,} labelled" if n_labelled else "none labelled"
