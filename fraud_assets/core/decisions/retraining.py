"""When a new model is trained: drift, performance, age and calendar as one policy, and how stubborn it is.

The rule that one report asks for exactly one retraining, and for another attempt when that failed, belongs here.
Finding the reports, the models and the runs does not (the sensor and `workflows/retraining.py` gather them), nor what
drift is (`monitoring/verdict.py`), nor whether a new model goes live (`promotion.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

from fraud_assets.core.digests import digest_text
from fraud_assets.core.drift.findings import DRIFT_STATUSES, DriftStatus
from fraud_assets.core.monitoring.verdict import Blame
from fraud_assets.core.months import check_month, months_between
from fraud_assets.core.reasons import Reason, Rule

AttemptState = Literal["in_progress", "succeeded", "failed"]
Trigger = Literal["drift", "performance", "age", "calendar"]
TRIGGERS: tuple[Trigger, ...] = get_args(Trigger)
DecisionKind = Literal["retrain", "wait", "no"]


@dataclass(frozen=True)
class DriftSignal:
    """What a month's drift report says.

    Attributes:
        month: the month the report is about.
        drift_status: its verdict.
        report_digest: identifies the report's content, so that a report that changed is another one.
        blame: what the report blames; None where it blames nothing, which in a DRIFT counts as the world.

    Raises:
        ValueError: when one of them is not what it must be; a misspelt status would otherwise never retrain.
    """

    month: str
    drift_status: DriftStatus
    report_digest: str
    blame: Blame | None = None

    def __post_init__(self) -> None:
        check_month(self.month)
        if self.drift_status not in DRIFT_STATUSES:
            raise ValueError(
                f"drift_status of {self.month} is {self.drift_status!r}; it must be one of {DRIFT_STATUSES}"
            )
        if self.blame not in (None, *get_args(Blame)):
            raise ValueError(f"blame of {self.month} is {self.blame!r}; it must be one of {get_args(Blame)}")
        if not self.report_digest:
            raise ValueError(f"the drift report of {self.month} has no digest; materialise drift_report again")

    @property
    def is_unfit(self) -> bool:
        """Whether a model of this month would learn a fault of the data or of the labels."""
        return self.drift_status == "DRIFT" and self.blame in ("data", "labels")


@dataclass(frozen=True)
class Showing:
    """What a model showed on matured labels, as a row of `evaluation` has it.

    Attributes:
        month: at whose end it was judged.
        average_precision_low, average_precision_high: the 95 % interval of its AP; None where unknown.
        recall_at_fpr_1pct: share of frauds found where 1 % of the genuine rows are flagged; None where unknown.
    """

    month: str
    average_precision_low: float | None
    average_precision_high: float | None
    recall_at_fpr_1pct: float | None


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the models when a month is decided on.

    Attributes:
        champion_version: live before the month's promotion decision; None when none was.
        champion_month: at whose end the champion was trained.
        newest_month: at whose end the newest model of all was trained; None when there is none.
        promised: what the champion showed when it was first judged.
        realised: what it shows at the end of the month.
    """

    champion_version: int | None = None
    champion_month: str | None = None
    newest_month: str | None = None
    promised: Showing | None = None
    realised: Showing | None = None


@dataclass(frozen=True)
class Attempt:
    """A retraining that was requested.

    Attributes:
        report_digest: what it answers: the report's digest for drift, else the trigger and what it is about.
        number: attempt number, from 1.
        state: how it went.
        month: of the model.
        ended_at: when it failed or succeeded; None when that is not known, or not yet.
    """

    report_digest: str
    number: int
    state: AttemptState
    month: str
    ended_at: datetime | None = None

    def __post_init__(self) -> None:
        check_month(self.month)
        if self.number < 1:
            raise ValueError(f"attempts are numbered from 1, got {self.number}")
        if self.state not in get_args(AttemptState):
            raise ValueError(
                f"attempt {self.number} has the state {self.state!r}; it must be one of {get_args(AttemptState)}"
            )


@dataclass(frozen=True)
class RetrainingPolicy:
    """What leads to a retraining, and how stubborn the platform is.

    Attributes:
        triggers: what may ask. The calendar is not among them by default: a model that still holds is worth keeping,
            and `fraud backtest` says what a calendar would bring.
        every_months: the calendar's pace: so many months after the newest model the next one is due.
        max_age_months: from this age on the champion is replaced. 12: by then every month that it has learnt from
            has left the default training window.
        cooldown_months: how many months retrainings for drift, performance or age are apart, at least. 1: neighbouring
            months may both ask, because the second model of a changed world knows twice as much of it.
        max_attempts: attempts for one report before someone must look. 3: a passing failure (a database that
            restarts, a node that is lost) is over by the second or third, and what fails three times will
            fail again.
        waits: between a failed attempt and the next one; the last counts for all further ones. Five minutes outlast
            a restart, half an hour the repair of a node.

    Raises:
        ValueError: for a policy that cannot be.
    """

    triggers: tuple[Trigger, ...] = ("drift", "performance", "age")
    every_months: int = 1
    max_age_months: int = 12
    cooldown_months: int = 1
    max_attempts: int = 3
    waits: tuple[timedelta, ...] = (timedelta(minutes=5), timedelta(minutes=30))

    def __post_init__(self) -> None:
        if unknown := [trigger for trigger in self.triggers if trigger not in TRIGGERS]:
            raise ValueError(f"{unknown[0]!r} asks for no retraining; what may ask is {', '.join(TRIGGERS)}")
        for name in ("every_months", "max_age_months", "cooldown_months", "max_attempts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.waits or any(wait < timedelta(0) for wait in self.waits):
            raise ValueError("waits must name at least one time to wait, none of them negative")


@dataclass(frozen=True)
class RetrainingDecision:
    """What is done about a month now.

    Attributes:
        month: the month.
        decision: retrain (a run is requested), wait (looked at again later) or no.
        trigger: what asked; None when nothing did.
        report_digest: of the report it was decided on.
        asked_by: what the attempt answers; see `Attempt.report_digest`.
        attempt_number: of the run to request, from 1; None without a request.
        run_key: under which Dagster launches the run at most once; None without a request.
        reasons: why.
        is_news: whether it is worth a record; that a run is still in progress is none.
    """

    month: str
    decision: DecisionKind
    trigger: Trigger | None
    report_digest: str
    asked_by: str | None
    attempt_number: int | None
    run_key: str | None
    reasons: tuple[Reason, ...]
    is_news: bool = True

    @property
    def request(self) -> bool:
        """Whether to request a run."""
        return self.decision == "retrain"

    @property
    def pending(self) -> bool:
        """Whether to look again, because the retraining has neither succeeded nor been given up or refused."""
        return self.decision != "no"

    @property
    def fact(self) -> str:
        """Names the decision, so that the same one, made again at another tick, is the same."""
        said = [one.text for one in self.reasons]
        return self.run_key or digest_text(self.month, self.report_digest, self.decision, *said)


@dataclass(frozen=True)
class _Ask:
    """A trigger that applies: what it is answered under, and why."""

    trigger: Trigger
    asked_by: str
    reason: Reason


def decide_retrainings(
    signals: Iterable[DriftSignal],
    attempts: Sequence[Attempt],
    policy: RetrainingPolicy,
    *,
    now: datetime,
    models: Mapping[str, ModelFacts] | None = None,
) -> tuple[RetrainingDecision, ...]:
    """Decides about several months, in their order: what one asks for counts for those after it.

    Args:
        signals: the latest report of each month.
        attempts: all attempts so far, of all months, in any order.
        policy: what asks, and the limits.
        now: the time of the decision.
        models: what is known of the models, by month; nothing for a month that is not named.
    """
    known, decisions = list(attempts), list[RetrainingDecision]()
    for signal in sorted(signals, key=lambda signal: signal.month):
        facts = (models or {}).get(signal.month)
        decision = decide_retraining(signal, known, policy, now=now, models=facts)
        decisions.append(decision)
        if decision.request and decision.asked_by and decision.attempt_number:
            known.append(Attempt(decision.asked_by, decision.attempt_number, "in_progress", signal.month))
    return tuple(decisions)


def decide_retraining(
    signal: DriftSignal,
    attempts: Sequence[Attempt],
    policy: RetrainingPolicy,
    *,
    now: datetime,
    models: ModelFacts | None = None,
) -> RetrainingDecision:
    """Decides whether a month's model is trained now, and why.

    Of drift only a DRIFT that is the world's asks. One report asks once: no second run while one is in progress or
    after one succeeded, and after a failure the next attempt, later each time, until `policy.max_attempts`. A report
    with another digest starts anew. Performance, age and calendar ask once for a month, and not where a model of the
    month, or a newer one, is there already. On data or labels that the report calls broken nothing is trained.

    Args:
        signal: the month's latest report.
        attempts: all attempts so far, of this month and of others, in any order.
        policy: what asks, and the limits.
        now: the time of the decision.
        models: what is known of the models at the end of the month.
    """
    month = signal.month
    quiet = _why_drift_does_not_ask(signal, policy)
    asks = [] if signal.is_unfit else _scheduled(signal, attempts, policy, models or ModelFacts())
    if quiet is None:
        asks.insert(0, _Ask("drift", signal.report_digest, Reason(Rule.DRIFTED, f"the data of {month} drifted")))
    if not asks:
        return _answer("no", signal, None, *([quiet] if quiet else []))
    ask = asks[0]
    own = [attempt for attempt in attempts if (attempt.month, attempt.report_digest) == (month, ask.asked_by)]
    held = _held_by_own(signal, ask, own, policy, now) or (
        None if own else _held_by_others(signal, ask, attempts, policy)
    )
    if held:
        return held
    last = max((attempt.number for attempt in own), default=0)
    number = last + 1
    if own:
        said = f"attempt {last} for this {_asker(ask)} of {month} failed; attempt {number} of {policy.max_attempts}"
        reasons = [Reason(Rule.NEXT_ATTEMPT, said)]
    elif ask.trigger == "drift":
        said = f"{ask.reason.text} and no retraining was requested for this report yet"
        reasons = [replace(ask.reason, text=said)]
    else:
        reasons = [ask.reason]
    reasons += [other.reason for other in asks[1:]]
    key = f"retrain:{month}:{ask.asked_by}:{number}"
    return replace(_answer("retrain", signal, ask, *reasons), attempt_number=number, run_key=key)


def _why_drift_does_not_ask(signal: DriftSignal, policy: RetrainingPolicy) -> Reason | None:
    month, status = signal.month, signal.drift_status
    if status != "DRIFT":
        return Reason(Rule.NO_DRIFT, f"drift_status of {month} is {status}; only DRIFT asks for a retraining")
    if signal.blame == "data":
        said = f"the data of {month} look broken: that is for the owner of the feed, and no model is trained on them"
        return Reason(Rule.BROKEN_DATA, said)
    if signal.blame == "labels":
        said = f"the labels of {month} come otherwise than before: that is for those who give them; no model is trained"
        return Reason(Rule.BROKEN_LABELS, said)
    if "drift" not in policy.triggers:
        return Reason(Rule.DRIFT_OFF, f"the data of {month} drifted, but the policy does not retrain for drift")
    return None


def _scheduled(
    signal: DriftSignal, attempts: Sequence[Attempt], policy: RetrainingPolicy, models: ModelFacts
) -> list[_Ask]:
    """What else asks for a model of the month; nothing where there is one, or a newer one, or one is in training."""
    month, version = signal.month, models.champion_version
    names: dict[Trigger, str] = {
        "performance": f"performance-v{version}",
        "age": f"age-v{version}",
        "calendar": "calendar",
    }
    made = [
        attempt.month
        for attempt in attempts
        if attempt.state != "failed" and (attempt.month != month or attempt.report_digest not in names.values())
    ]
    newest = max([*made, *([models.newest_month] if models.newest_month else [])], default=None)
    if newest and newest >= month:
        return []
    reasons = {
        "performance": _worse_than_promised(models),
        "age": _too_old(month, models, policy.max_age_months),
        "calendar": _due(month, newest, policy.every_months),
    }
    return [
        _Ask(trigger, names[trigger], reason)
        for trigger in TRIGGERS
        if trigger in policy.triggers and (reason := reasons.get(trigger))
    ]


def _too_old(month: str, models: ModelFacts, limit: int) -> Reason | None:
    if models.champion_month is None or models.champion_month > month:
        return None
    age = _apart(models.champion_month, month)
    if age < limit:
        return None
    return Reason(
        Rule.TOO_OLD,
        f"the champion, version {models.champion_version}, is {age} months old at the end of {month}; "
        f"{limit} are too many",
    )


def _due(month: str, newest: str | None, every: int) -> Reason | None:
    if newest is not None and _apart(newest, month) < every:
        return None
    pace = "each month" if every == 1 else f"every {every} months"
    said = f"a model is due {pace}, and {f'the newest is of {newest}' if newest else 'there is none yet'}"
    return Reason(Rule.MODEL_DUE, said)


def _worse_than_promised(models: ModelFacts) -> Reason | None:
    """That the champion is shown to be worse than when it was first judged; None where it is not shown.

    The interval of its AP now must lie below the one then. AP falls with the fraud rate as well, so recall at a false
    positive rate, which does not know the rate, must be lower, too.
    """
    promised, realised = models.promised, models.realised
    if promised is None or realised is None or realised.month <= promised.month:
        return None
    low, high = promised.average_precision_low, realised.average_precision_high
    before, now = promised.recall_at_fpr_1pct, realised.recall_at_fpr_1pct
    # Written so that an unknown value, NaN included, shows nothing.
    if low is None or high is None or before is None or now is None or not (high < low and now < before):
        return None
    return Reason(
        Rule.WORSE_THAN_PROMISED,
        f"the champion, version {models.champion_version}, shows an average precision of at most {high:.3f} on the "
        f"labels matured by the end of {realised.month}; in {promised.month} it showed at least {low:.3f}",
        "average_precision",
    )


def _held_by_own(
    signal: DriftSignal, ask: _Ask, own: Sequence[Attempt], policy: RetrainingPolicy, now: datetime
) -> RetrainingDecision | None:
    if not own:
        return None
    what, states = f"{_asker(ask)} of {signal.month}", {attempt.state for attempt in own}
    last = max(own, key=lambda attempt: attempt.number)
    if "succeeded" in states:
        done = Reason(Rule.ALREADY_RETRAINED, f"the model was already retrained for this {what}")
        return replace(_answer("no", signal, ask, done), is_news=False)
    if "in_progress" in states:
        running = Reason(Rule.IN_PROGRESS, f"attempt {last.number} for this {what} is in progress")
        return replace(_answer("wait", signal, ask, running), is_news=False)
    if last.number >= policy.max_attempts:
        said = (
            f"attempt {last.number} of {policy.max_attempts} for this {what} failed; "
            "no further one is made: find the cause, then start the retraining by hand"
        )
        return _answer("no", signal, ask, Reason(Rule.GIVEN_UP, said))
    wait = policy.waits[min(last.number, len(policy.waits)) - 1]
    if last.ended_at is not None and now < last.ended_at + wait:
        at = (last.ended_at + wait).astimezone(UTC)
        said = f"attempt {last.number} for this {what} failed; the next one is made from {at:%Y-%m-%d %H:%M} UTC on"
        return _answer("wait", signal, ask, Reason(Rule.WAITS, said))
    return None


def _held_by_others(
    signal: DriftSignal, ask: _Ask, attempts: Sequence[Attempt], policy: RetrainingPolicy
) -> RetrainingDecision | None:
    """The cool-down; within a month there is none, because a report that changed is another question."""
    near = [
        attempt
        for attempt in attempts
        if attempt.month != signal.month and _apart(attempt.month, signal.month) < policy.cooldown_months
    ]
    # The calendar has a pace of its own.
    if ask.trigger == "calendar":
        return None
    why = f"two of them are at least {policy.cooldown_months} months apart"
    if done := [attempt.month for attempt in near if attempt.state == "succeeded"]:
        said = f"{ask.reason.text}, but a model of {max(done)} was trained instead, and {why}"
        return _answer("no", signal, ask, Reason(Rule.COOL_DOWN, said))
    if running := [attempt.month for attempt in near if attempt.state == "in_progress"]:
        said = f"{ask.reason.text}, but a model of {max(running)} is in training, and {why}"
        return _answer("wait", signal, ask, Reason(Rule.COOL_DOWN, said))
    return None


def _asker(ask: _Ask) -> str:
    return "drift report" if ask.trigger == "drift" else f"{ask.trigger} request"


def _apart(one: str, other: str) -> int:
    """Months between two months.

    >>> _apart("2018-11", "2019-01"), _apart("2019-01", "2018-11"), _apart("2019-01", "2019-01")
    (2, 2, 0)
    """
    return len(months_between(*sorted((one, other)))) - 1


def _answer(decision: DecisionKind, signal: DriftSignal, ask: _Ask | None, *reasons: Reason) -> RetrainingDecision:
    return RetrainingDecision(
        signal.month,
        decision,
        ask.trigger if ask else None,
        signal.report_digest,
        ask.asked_by if ask else None,
        None,
        None,
        reasons,
    )
