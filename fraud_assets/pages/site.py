"""The page for people who open nothing else: what is live, what is asked of whom, and how each month was.

One folder of files that need no server, no network and no script. Its words belong here, its looks to
`templates/site.html`, where its facts come from to `workflows/overview/page.py`. It shows counts, verdicts and models,
and no row of a person; nor what people wrote as a reason, which may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.drift.findings import DriftStatus
from fraud_assets.core.words import percent
from fraud_assets.pages.report import HEADLINES, MARKS, STATUS_WORDS
from fraud_assets.pages.templating import template

# By this a folder is known as one that may be written again.
MARK = "fraud-assets page"
DECISIONS = {
    "passed": "passed",
    "failed": "refused",
    "inconclusive": "not shown better",
    "insufficient_data": "not enough data",
}
KINDS = {
    "registered": "trained",
    "validated": "passed the checks",
    "refused": "refused",
    "approved": "approved",
    "promoted": "went live",
    "rolled_back": "went live again (rollback)",
    "retired": "removed",
    "erased": "a person was erased",
    "expired": "old rows of people were removed",
}
SHOWN_EVENTS = 50


@dataclass(frozen=True)
class Live:
    """The model that is live.

    Attributes:
        version, since, month: which, since when, and on the evidence of which month.
        by_hand: whether a person decided it.
        family: of the model; None where it is not stored.
        average_precision: the newest one with its interval, in words; None where it was not judged yet.
        judged: the month of that.
    """

    version: int
    since: datetime
    month: str
    by_hand: bool
    family: str | None = None
    average_precision: str | None = None
    judged: str | None = None


@dataclass(frozen=True)
class Asked:
    """Something that somebody should do.

    Attributes:
        who: whose it is, such as "who approves models".
        what: in a sentence.
        how: the command, or the place; empty where there is none.
    """

    who: str
    what: str
    how: str = ""


@dataclass(frozen=True)
class Month:
    """A month.

    Attributes:
        month: YYYY-MM.
        n: transactions; None where they are not stored.
        status: of its drift report; None without one.
        blame: world, data or labels; None where nothing is wrong.
        report: the page of the report; None without one.
        decision: of the model that was judged, as stored; None without one.
        challenger, champion: the versions that were judged, and live afterwards.
        is_stale: whether something of it has to be built anew.
    """

    month: str
    n: int | None = None
    status: DriftStatus | None = None
    blame: str | None = None
    report: str | None = None
    decision: str | None = None
    challenger: int | None = None
    champion: int | None = None
    is_stale: bool = False

    @property
    def mark(self) -> str:
        """A sign beside the colour."""
        return MARKS[self.status] if self.status else ""

    @property
    def verdict(self) -> str:
        """Its verdict in a word."""
        return STATUS_WORDS[self.status] if self.status else "no report yet"

    @property
    def style(self) -> str:
        """By which it is coloured."""
        return self.status.lower().replace("_", "-") if self.status else "insufficient-data"

    @property
    def headline(self) -> str:
        """Its verdict in a sentence."""
        return HEADLINES[self.status] if self.status else ""

    @property
    def decided(self) -> str:
        """What was decided, in words."""
        if self.decision is None:
            return ""
        which = f"v{self.challenger} " if self.challenger else ""
        return which + DECISIONS.get(self.decision, self.decision)


@dataclass(frozen=True)
class Model:
    """A registered version.

    Attributes:
        version, month: which, and at whose end it was trained.
        state: in a word: live, removed, or what happened to it last.
        card: the page of its card; None where its files are not there any more.
    """

    version: int
    month: str
    state: str
    card: str | None = None


@dataclass(frozen=True)
class SiteFacts:
    """All that the page is made of.

    Attributes:
        contract: the source's name.
        made_at: when.
        live: None where no model is live.
        why_none: why not, in a sentence.
        asked: what is to be done, the most urgent first.
        months: the newest first.
        models: the newest first.
        backtests: rows of totals of the table `backtest`.
        backtest_page: the page with its plot; None without one.
        events: the ledger, the newest first.
        fault: what is wrong with the ledger; None where nothing is.
        platform: version of this software.
    """

    contract: str
    made_at: datetime
    live: Live | None
    why_none: str
    asked: Sequence[Asked]
    months: Sequence[Month]
    models: Sequence[Model]
    events: Sequence[Event]
    platform: str
    backtests: Sequence[Mapping[str, Any]] = ()
    backtest_page: str | None = None
    fault: str | None = None
    shown: int = field(default=SHOWN_EVENTS)


def site_page(facts: SiteFacts) -> str:
    """The index of the folder, as HTML."""
    newest = next((month for month in facts.months if month.status), None)
    return template("site.html").render(
        facts=facts,
        mark=MARK,
        newest=newest,
        events=[_event(one) for one in facts.events[: facts.shown]],
        left=max(0, len(facts.events) - facts.shown),
        backtests=[_backtest(row) for row in facts.backtests],
    )


def estimate(row: Mapping[str, Any], name: str) -> str | None:
    """A figure with its interval, in words; None where it is not known."""
    if row.get(name) is None:
        return None
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{row[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else "")


def _event(event: Event) -> dict[str, Any]:
    return {
        "number": event.number,
        "at": event.recorded_at,
        "what": KINDS.get(event.kind, event.kind),
        "version": event.model_version or None,
        "month": event.month,
        "who": "a person" if event.by_hand else "the platform",
        "why": [] if event.by_hand else [one.text for one in event.reasons],
        "hash": event.hash[:12],
    }


def _backtest(row: Mapping[str, Any]) -> dict[str, Any]:
    saved = row.get("cost_saved")
    return {
        "policy": row["policy"],
        "retrainings": row["retrainings"],
        "average_precision": estimate(row, "average_precision") or "not judged",
        "caught": percent(row["value_detection_rate"]) if row.get("value_detection_rate") is not None else "",
        "saved": "" if saved is None else f"{saved:,.0f}",
    }
