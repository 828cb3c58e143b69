"""Lists of entities: who is blocked or allowed, why, from when and until when.

A list is what was said about it, row after row: each row adds a value or takes it back, and none is changed. The last
row about a value says what holds. Where rows lie belongs to `adapters/guards`, whom a list comes before to `policy.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any, Literal, get_args

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract

ListAction = Literal["block", "allow"]
Change = Literal["add", "remove"]
LIST_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
LONGEST_REASON = 500


class ListError(ValueError):
    """A list or a value that cannot be; the message holds no identifier."""


@dataclass(frozen=True)
class Entry:
    """What holds of a value on a list.

    Attributes:
        list_name: of the list.
        action: block or allow.
        since: from when on.
        until: the first moment at which it does not hold any more; None for good.
    """

    list_name: str
    action: ListAction
    since: datetime
    until: datetime | None

    def holds(self, now: datetime) -> bool:
        """Whether it holds at a moment."""
        return self.since <= now and (self.until is None or now < self.until)


@dataclass
class EntityLists:
    """All lists as they were last read, by entity and value as text, whatever contract the model has.

    One thread takes rows up; whoever looks a value up sees what was there before or after.
    """

    last: int = 0
    _of: dict[str, dict[str, tuple[Entry, ...]]] = field(default_factory=dict)

    def take_up(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Takes up rows in their order: `number`, `change`, `list`, `action`, `entity`, `value`, `since`, `until`."""
        for row in rows:
            of = self._of.setdefault(row["entity"], {})
            left = tuple(one for one in of.get(row["value"], ()) if one.list_name != row["list"])
            if row["change"] == "add":
                left = (*left, Entry(row["list"], row["action"], row["since"], row["until"]))
            if left:
                of[row["value"]] = left
            else:
                of.pop(row["value"], None)
            self.last = max(self.last, row["number"])

    def begin_anew(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Puts all rows, as `take_up` has them, in the place of what was there: some were rewritten."""
        new = EntityLists(self.last)
        new.take_up(rows)
        self._of, self.last = new._of, new.last

    def entities(self) -> list[str]:
        """Those of which a value is listed."""
        return [entity for entity, of in list(self._of.items()) if of]

    def found(self, entity: str, values: Sequence[Any], action: ListAction, now: datetime) -> Iterator[tuple[int, str]]:
        """The places of listed values, and the list of each, by its name the first of several.

        Args:
            entity: whose values these are.
            values: as a table of transactions has them.
            action: of the lists that are asked.
            now: when.
        """
        of = self._of.get(entity)
        if not of:
            return
        for place, value in enumerate(values):
            entries = of.get(str(value)) if value is not None else None
            holding = [one.list_name for one in entries or () if one.action == action and one.holds(now)]
            if holding:
                yield place, min(holding)


def read_identifier(contract: Contract, entity: str, text: str) -> str:
    """A value of an entity as lists have it: the text of the value that a table of transactions has.

    Raises:
        ListError: when the contract has no such entity, or the text is no value of it.
    """
    if entity not in contract.entities:
        there = ", ".join(contract.entities) or "none"
        raise ListError(f"contract {contract.name} has no entity {entity!r}; there are {there}")
    text, kind = text.strip(), contract.transactions_schema().field(entity).type
    try:
        if not text:
            raise ValueError(text)
        value = pa.scalar(text).cast(kind).as_py()
    except (pa.ArrowInvalid, ValueError):
        raise ListError(f"a value is no {entity}: contract {contract.name} has it as {kind}") from None
    return str(value)


def read_list_name(name: str) -> str:
    """The name of a list.

    Raises:
        ListError: when it cannot be one.
    """
    if not LIST_NAME.fullmatch(name):
        raise ListError(
            f"a list cannot be called {name!r}: a name has up to 41 small letters, digits, dashes and underscores, "
            "and begins with a letter"
        )
    return name


def read_action(action: str) -> ListAction:
    """What a list does.

    Raises:
        ListError: for anything but block and allow.
    """
    if action not in get_args(ListAction):
        raise ListError(f"a list cannot {action}: it blocks or allows")
    return "block" if action == "block" else "allow"


def read_until(text: str, contract: Contract, now: datetime) -> datetime:
    """Until when something holds: a day, which counts as a whole, or a moment; by the contract's clock.

    Raises:
        ListError: when it is neither, or over.
    """
    try:
        if len(text) == len("2025-01-31"):
            day = date.fromisoformat(text) + timedelta(days=1)
            until = datetime.combine(day, time(), contract.zone)
        else:
            until = datetime.fromisoformat(text)
            until = until.replace(tzinfo=contract.zone) if until.tzinfo is None else until
    except (ValueError, OverflowError):
        raise ListError(f"{text!r} is neither a day nor a time: write 2025-01-31, or 2025-01-31T18:00") from None
    if until <= now:
        raise ListError(f"{text} is over; name a later day, or leave it out, and the entry holds for ever")
    return until
