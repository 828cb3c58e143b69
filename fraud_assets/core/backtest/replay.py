"""When to train a new model: policies, and what each would have done month by month.

A policy's decision at a month's end, and the replay of a span of months under it, belong here. How a model is
trained, a month reported on, and what came of it, is given by the caller (`judge.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fraud_assets.core.monitoring.month import MonthReport
from fraud_assets.core.monitoring.verdict import Verdict
from fraud_assets.core.months import months_between
from fraud_assets.core.reasons import Reason, Rule

CHOICES = "never, monthly, every-N (as every-3), on-drift, on-watch"


class PolicyError(ValueError):
    """The name of no policy; the message names the choices."""


@dataclass(frozen=True)
class Situation:
    """What a policy knows at a month's end.

    Attributes:
        age: months since the live model was trained, from 1.
        verdict: of the month's drift report about the live model.
    """

    age: int
    verdict: Verdict


@dataclass(frozen=True)
class Policy:
    """When a new model is trained.

    Attributes:
        name: as it is asked for.
        asks: gives why a new model shall be trained now, or None.
    """

    name: str
    asks: Callable[[Situation], str | None]


def parse_policies(text: str) -> tuple[Policy, ...]:
    """Policies by name, separated by commas, each once.

    Raises:
        PolicyError: for a name that is no policy's, and for none at all.

    >>> [policy.name for policy in parse_policies("never, every-3,never")]
    ['never', 'every-3']
    """
    names = dict.fromkeys(name for part in text.split(",") if (name := part.strip()))
    if not names:
        raise PolicyError(f"no policy is named; name some of {CHOICES}, separated by commas")
    return tuple(_policy(name) for name in names)


def _policy(name: str) -> Policy:
    if name == "never":
        return Policy(name, lambda _: None)
    if name == "monthly":
        return Policy(name, lambda _: "a month is over")
    if name == "on-drift":
        return Policy(name, _on_drift)
    if name == "on-watch":
        return Policy(name, _on_watch)
    if every := re.fullmatch(r"every-([1-9][0-9]?)", name):
        months = int(every[1])
        return Policy(
            name,
            lambda now: f"the model is {now.age} months old; {name} asks for {months}" if now.age >= months else None,
        )
    raise PolicyError(f"{name!r} is no policy; name some of {CHOICES}")


def _on_drift(now: Situation) -> str | None:
    """As the drift sensor: broken data or late labels would teach a model the fault."""
    return "the report says DRIFT, and blames the world" if now.verdict.asks_for_retraining else None


def _on_watch(now: Situation) -> str | None:
    status = now.verdict.drift_status
    if status in ("WATCH", "DRIFT") and now.verdict.blame == "world":
        return f"the report says {status}, and blames the world"
    return None


@dataclass(frozen=True)
class Step:
    """A month under a policy.

    Attributes:
        month: which.
        trained: the month at whose end the model that is live in it was trained.
        report: the month's drift report about that model.
        retrained: whether a new model was trained at the month's end; it is live from the next month on.
        reasons: why the policy asked, and why nothing was trained all the same; none when it did not ask.
    """

    month: str
    trained: str
    report: MonthReport
    retrained: bool
    reasons: tuple[Reason, ...]


# The steps before a month, the month and the month of the live model; gives the report as of the month's end.
Monitor = Callable[[Sequence[Step], str, str], MonthReport]
# Trains as of a month's end; gives None, or why no model could be trained.
Train = Callable[[str], str | None]


def replay(policy: Policy, months: Sequence[str], trained: str, *, monitor: Monitor, train: Train) -> tuple[Step, ...]:
    """What a policy would have done, month by month.

    What is decided at a month's end rests on that month's report and on those before it. Nothing is trained at the
    last month's end: that model would be live after the replay.

    Args:
        policy: decides.
        months: in order, without gaps.
        trained: the month at whose end the first model was trained, before the first of `months`.
        monitor: reports on a month.
        train: trains a model.
    """
    steps: list[Step] = []
    for month in months:
        report = monitor(steps, month, trained)
        age = len(months_between(trained, month)) - 1
        asked = policy.asks(Situation(age, report.verdict))
        reasons = [Reason(Rule.POLICY_ASKS, asked)] if asked else []
        retrained = False
        if asked and month == months[-1]:
            reasons.append(Reason(Rule.REPLAY_ENDS, "not trained, the replay ends here"))
        elif asked and (problem := train(month)) is not None:
            reasons.append(Reason(Rule.NOT_TRAINED, f"not trained: {problem}"))
        elif asked:
            retrained = True
        steps.append(Step(month, trained, report, retrained, tuple(reasons)))
        trained = month if retrained else trained
    return tuple(steps)
