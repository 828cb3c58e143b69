"""What a month's drift report looks at: with which windows the month is compared, and which rows that takes.

Nothing is measured here, and nothing read: `month.py` measures, and whoever wants a report loads the rows that a plan
names. The windows' rules belong to `windows.py`, where a history has gaps to `deliveries.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.drift.findings import DATA_CAUSES, DriftStatus, Finding
from fraud_assets.core.drift.history_columns import SEEN_DAYS, history_columns
from fraud_assets.core.features.declarations import feature_days, feature_names
from fraud_assets.core.lineage.needs import MonthRows, Needed, fewest
from fraud_assets.core.models.scoring import Scorer
from fraud_assets.core.monitoring.deliveries import USUAL_DAYS, History, history_of
from fraud_assets.core.monitoring.outcomes import OutcomeNeeds, first_month_of_labels, outcome_needs
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.windows import MINIMUM_REFERENCE_DAYS, Window, month_window, reference_window

OWN_MONTHS = 3  # as long as the reference of a champion at most is
LATE_BEGIN = timedelta(days=3)  # a first month that begins later is a part of one
PAST_MONTHS = 6  # how much months differ without anything having changed is told by so many
HISTORY = timedelta(days=31)  # what the columns that are made for the report look back


@dataclass(frozen=True)
class Champion:
    """The model that the report is about.

    Attributes:
        scorer: the model.
        promise: what it said of transactions it had not seen when it was validated, and what became of them, see
            `TrainingResult.validation`; None of a model from before that was kept.
    """

    scorer: Scorer
    promise: pa.Table | None

    @property
    def version(self) -> int:
        """Its version in the registry."""
        return self.scorer.manifest.model_version

    @property
    def training(self) -> Window | None:
        """Event times of its training rows.

        From the manifest and not from `trained_model`, whose row may be about a newer model of the same month.
        """
        manifest = self.scorer.manifest
        if manifest.training_from is None or manifest.training_to is None:
            return None
        return Window(manifest.training_from, manifest.training_to)


@dataclass(frozen=True)
class EarlierReport:
    """What the report of an earlier month said."""

    champion_version: int | None
    drift_status: DriftStatus
    findings: tuple[Finding, ...]

    @property
    def is_broken(self) -> bool:
        """Whether it called the data broken."""
        return any(finding.status == "DRIFT" and finding.cause in DATA_CAUSES for finding in self.findings)


@dataclass(frozen=True)
class Subject:
    """What a month's report is about.

    Attributes:
        month: the month under report.
        current: its features.
        champion: the live model, if there is one.
        first_event: the first transaction the platform has; None where there is none.
        earlier: the reports of the `PAST_MONTHS` months before, where there are any.
        contract: of the source.
    """

    month: str
    current: pa.Table
    champion: Champion | None
    first_event: datetime | None
    earlier: Mapping[str, EarlierReport]
    contract: Contract

    @property
    def training(self) -> Window | None:
        """On what the champion was trained, as far as that is known."""
        return self.champion.training if self.champion else None


@dataclass(frozen=True)
class Part:
    """Months in a row that are compared, and the rows that they are made of.

    Attributes:
        months: in order.
        columns: of their features.
        stored: those features, of all months but the one under report; None where that is the only one.
        before: the rows that the columns made for the report look back on; None where there are no such columns.
        attributes: further columns of the transactions; None without any.
    """

    months: tuple[str, ...]
    columns: tuple[str, ...]
    stored: Needed | None
    before: Needed | None
    attributes: Needed | None

    @property
    def needs(self) -> tuple[Needed, ...]:
        """What there is of them."""
        return tuple(need for need in (self.stored, self.before, self.attributes) if need is not None)


@dataclass(frozen=True)
class ReportPlan:
    """How a month's report is made.

    Attributes:
        subject: what it is about.
        history: where the platform's transactions have gaps; None where there is no transaction.
        reference: what the month is compared with; None where there is nothing.
        remark: what is to be said of that.
        full: the features whose windows are full in the reference and in the month.
        past: the months that tell how much months differ.
        parts: the months that are compared.
        outcomes: what labels and the champion's results need.
    """

    subject: Subject
    history: History | None
    reference: Window | None
    remark: str
    full: frozenset[str] = frozenset()
    past: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    outcomes: OutcomeNeeds | None = None

    @property
    def numbers(self) -> list[str]:
        """The features that are compared as they are stored, in their order.

        What is a number to models is compared as one; their texts come from the transactions, as all categories do.
        """
        return [name for name in feature_names(self.subject.contract) if name in self.full]

    @property
    def needs(self) -> tuple[Needed, ...]:
        """The rows that the report takes besides those of `first_needs`."""
        further = (self.outcomes.earlier, self.outcomes.attributes) if self.outcomes else ()
        wanted = [*(need for part in self.parts for need in part.needs), *(need for need in further if need)]
        return fewest(wanted, self.subject.contract)


def first_needs(subject: Subject) -> tuple[Needed, ...]:
    """The rows that every report takes: from the transactions' times follows the plan, and with it all others."""
    history = _history_needed(subject)
    if history is None:
        return ()
    outcomes = outcome_needs(subject.month, None, None, (), subject.contract)
    return fewest([history, outcomes.moments, outcomes.statements], subject.contract)


def plan_report(subject: Subject, rows: MonthRows) -> ReportPlan:
    """Chooses what a month is compared with.

    Without a champion, or where its training window cannot be compared, the platform's own earlier months are the
    reference, see `own_months`. Features are compared whose windows are full in the reference and in the month, after
    the platform's first days and after a gap in its history.

    Args:
        subject: what the report is about.
        rows: at least those of `first_needs`.
    """
    contract, month, earlier = subject.contract, subject.month, subject.earlier
    needed = _history_needed(subject)
    if needed is None or subject.first_event is None:
        return ReportPlan(subject, None, None, "there is no transaction to compare")
    moments = rows.of(needed)["event_timestamp"]
    history = history_of(moments, subject.first_event, contract.month_end(month), contract)
    window, remark = choose_reference(month, subject.champion, history, earlier, contract)
    if window is None:
        return ReportPlan(subject, history, None, remark)
    this, days = month_window(month, contract.zone), feature_days(contract)
    full = frozenset(
        name for name, back in days.items() if history.is_full(window, back) and history.is_full(this, back)
    )
    back = max((days[name] for name in full), default=0.0)
    past = tuple(
        one
        for one in past_months(month, window, earlier, contract)
        if not history.breaks(month_window(one, contract.zone), max(back, SEEN_DAYS))
    )
    compared = sorted({*months_between(contract.month_of(window.start), _last_month(window, contract)), *past, month})
    champion = subject.champion
    return ReportPlan(
        subject, history, window, remark, full, past,
        tuple(_part(months, month, full, contract) for months in _runs(compared)),
        outcome_needs(
            month,
            champion.scorer if champion else None,
            champion.promise if champion else None,
            subject.current.column_names,
            contract,
        ),
    )  # fmt: skip


def attributes_compared(contract: Contract) -> list[str]:
    """The columns of the transactions that are compared and are no features."""
    return [name for name in contract.attributes if name not in feature_names(contract)]


def first_months(month: str, trained_from: str, contract: Contract) -> dict[str, str]:
    """From which month on a month's report may need rows of each table, whatever it is compared with.

    Args:
        month: the month under report, or the first of several.
        trained_from: the first month that its champion, or that of one of them, was trained on.
        contract: of the source.
    """
    compared = min(trained_from, shift_month(month, -PAST_MONTHS))
    labels = min(first_month_of_labels(month, contract), trained_from)
    return {
        "transaction_features": contract.month_of(contract.month_start(compared) - HISTORY),
        "raw_transactions": min(contract.month_of(contract.month_start(compared) - _back(contract)), labels),
        "fraud_labels": labels,
    }


def _back(contract: Contract) -> timedelta:
    """How far before the reference a gap can matter."""
    return timedelta(days=max(feature_days(contract).values(), default=0.0) + USUAL_DAYS)


def _history_needed(subject: Subject) -> Needed | None:
    """The times that tell where the history has gaps: from the reference's time on, and before it."""
    if subject.first_event is None:
        return None
    contract = subject.contract
    begin = contract.month_start(shift_month(subject.month, -PAST_MONTHS))
    if subject.training is not None:
        begin = min(begin, subject.training.start)
    first = max(contract.month_of(max(begin - _back(contract), subject.first_event)), contract.first_month)
    return Needed("raw_transactions", ("event_timestamp",), first, subject.month)


def _part(months: Sequence[str], month: str, full: frozenset[str], contract: Contract) -> Part:
    first, last = months[0], months[-1]
    known = ("transaction_id", "event_timestamp", *contract.entities)
    columns = (*known, *(name for name in feature_names(contract) if name in full))
    stored = months if last != month else months[:-1]
    before = None
    if history_columns(contract):
        looked_at = (*known, *(("amount",) if contract.amount else ()))
        start = contract.month_of(contract.month_start(first) - HISTORY)
        before = Needed("transaction_features", looked_at, start, shift_month(first, -1))
    attributes = attributes_compared(contract)
    return Part(
        tuple(months),
        columns,
        Needed("transaction_features", columns, stored[0], stored[-1]) if stored else None,
        before,
        Needed("raw_transactions", ("transaction_id", *attributes), first, last) if attributes else None,
    )


def choose_reference(
    month: str,
    champion: Champion | None,
    history: History,
    earlier: Mapping[str, EarlierReport],
    contract: Contract,
) -> tuple[Window | None, str]:
    """What a month is compared with, and what is to be said of that.

    Args:
        month: the month under report.
        champion: the live model, if there is one.
        history: how far back transactions go, and where they have gaps.
        earlier: the reports of the months before.
        contract: of the source.

    Returns:
        The champion's training window as far as it can be compared; else, with the reason, the platform's own earlier
        months; None where there are none.
    """
    if champion is None:
        why = "there is no champion yet"
    elif champion.training is None:
        why = f"champion version {champion.version} does not say on what it was trained"
    else:
        window = reference_window(
            champion.training, history.first_event, contract.maturity_days, month, contract.zone, history.gaps
        )
        if window is not None:
            return window, ""
        why = (
            f"the training window of champion version {champion.version} lies where features that look back are still "
            "filling"
        )
    own = own_months(month, history, earlier, contract)
    if own is None:
        return None, f"{why}, and no earlier month is there that could be compared"
    first, last = own.start, own.end - timedelta(hours=12)
    return own, f"{why}, so the month was compared with the months before: {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def own_months(month: str, history: History, earlier: Mapping[str, EarlierReport], contract: Contract) -> Window | None:
    """Up to three months in a row before a month, of the `PAST_MONTHS` before it, that were delivered as usual.

    The newest three in a row, else the newest of those in a row. A month that drifted is among them: without a model
    that was made for the world before, a change is news once. Not one whose data were called broken, unless all were.
    """
    first = max(contract.month_of(history.first_event), shift_month(month, -PAST_MONTHS))
    if first >= month:
        return None
    windows = {one: month_window(one, contract.zone) for one in months_between(first, shift_month(month, -1))}
    if history.first_event - windows[first].start > LATE_BEGIN:
        windows[first] = Window(history.first_event, windows[first].end)
    whole = [
        one
        for one, window in windows.items()
        if window.days >= MINIMUM_REFERENCE_DAYS and window.end > history.first_event and not history.breaks(window)
    ]
    sound = [one for one in whole if one not in earlier or not earlier[one].is_broken] or whole
    if not sound:
        return None
    runs = _runs(sound)[::-1]
    run = next((run for run in runs if len(run) >= OWN_MONTHS), max(runs, key=len))[-OWN_MONTHS:]
    return Window(windows[run[0]].start, windows[run[-1]].end)


def past_months(
    month: str, reference: Window, earlier: Mapping[str, EarlierReport], contract: Contract
) -> tuple[str, ...]:
    """The months before one that show how much months differ when nothing has changed, oldest first.

    Whole months from the reference's beginning on, when windows were full, at most `PAST_MONTHS`; not those that
    drifted.
    """
    first = contract.month_of(reference.start)
    if contract.month_start(first) < reference.start:
        first = shift_month(first, 1)
    months = [
        one
        for one in months_between(max(first, shift_month(month, -PAST_MONTHS)), shift_month(month, -1))
        if one not in earlier or earlier[one].drift_status != "DRIFT"
    ]
    return tuple(months)


def _last_month(window: Window, contract: Contract) -> str:
    return contract.month_of(window.end - timedelta(microseconds=1))


def _runs(months: Sequence[str]) -> list[list[str]]:
    """Months in order, parted where one is missing between two."""
    runs: list[list[str]] = []
    for month in months:
        if runs and shift_month(runs[-1][-1], 1) == month:
            runs[-1].append(month)
        else:
            runs.append([month])
    return runs
