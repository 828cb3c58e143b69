"""Retention: which models, packages, reports and runs may go, by age and count, and which stay, whatever their age.

Finding them and removing them belongs to `workflows/models/prune.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Kind = Literal["model", "bento", "report", "run"]
KINDS: tuple[Kind, ...] = ("model", "bento", "report", "run")


@dataclass(frozen=True)
class Kept:
    """Something that takes room.

    Attributes:
        kind: what it is.
        name: by which it is found: a model's version, a bento's tag, a report's file, a run's id.
        since: when it was made, or last said something, with a time zone.
        size: bytes on the disk of this machine; 0 where that is not known.
        version: of the model that it is or holds; None of reports and runs.
    """

    kind: Kind
    name: str
    since: datetime
    size: int = 0
    version: int | None = None


@dataclass(frozen=True)
class Rules:
    """What may go: what is older than the age, and not among the newest of its kind.

    Attributes:
        days: the age, in days; also how long the ledger protects what it names.
        newest: how many of each kind stay, whatever their age.
    """

    days: float
    newest: int

    def __post_init__(self) -> None:
        if self.days < 0 or self.newest < 0:
            raise ValueError(f"nothing is kept for {self.days:g} days, nor {self.newest} of a kind; give 0 or more")


@dataclass(frozen=True)
class Choice:
    """What becomes of one thing.

    Attributes:
        kept: the thing.
        goes: whether it may go.
        why: the reason, in words.
    """

    kept: Kept
    goes: bool
    why: str


def choose(
    things: Sequence[Kept], rules: Rules, now: datetime, protected: Mapping[tuple[Kind, str], str]
) -> list[Choice]:
    """What goes and what stays, each with its reason; the oldest of a kind first.

    Args:
        things: all there are.
        rules: age and count.
        now: the moment that ages count to.
        protected: what stays in any case, by kind and name, and why.

    Returns:
        One choice for each thing. A thing that is in use stays, and counts as one of the newest where it is.
    """
    edge = now - timedelta(days=rules.days)
    choices = []
    for kind in KINDS:
        own = sorted((one for one in things if one.kind == kind), key=lambda one: (one.since, one.name))
        newest = {one.name for one in own[max(0, len(own) - rules.newest) :]}
        for one in own:
            if (why := protected.get((kind, one.name))) is not None:
                choices.append(Choice(one, goes=False, why=why))
            elif one.since >= edge:
                choices.append(Choice(one, goes=False, why=f"it is not older than {rules.days:g} days"))
            elif one.name in newest:
                choices.append(Choice(one, goes=False, why=f"it is among the newest {rules.newest}"))
            else:
                age = (now - one.since).days
                choices.append(Choice(one, goes=True, why=f"it is {age} days old, and {rules.newest} newer ones stay"))
    return choices


def in_words(choices: Sequence[Choice]) -> str:
    """What goes, counted by kind.

    >>> day = datetime.fromisoformat("2025-01-01T00:00:00+00:00")
    >>> gone = [Choice(Kept("run", "a", day), True, ""), Choice(Kept("model", "3", day), True, "")]
    >>> in_words([*gone, Choice(Kept("run", "b", day), False, "")])
    '1 model, 1 run'
    """
    counts = {kind: sum(one.goes for one in choices if one.kept.kind == kind) for kind in KINDS}
    return ", ".join(f"{n} {kind}{'' if n == 1 else 's'}" for kind, n in counts.items() if n)
