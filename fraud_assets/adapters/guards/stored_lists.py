"""The table of lists: a row for each value that was added or taken back, with who and why; none is ever changed.

But for persons who were erased: their rows are written anew, under a pseudonym and with new numbers, so that whoever
reads along sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fraud_assets.adapters.asked.session import Ask, Session
from fraud_assets.core.guards.lists import Change, ListAction, ListError

# Whoever writes waits for those before, so that numbers become visible in their order.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('fraud_assets.entity_lists'))::text"
THERE = "SELECT to_regclass('public.entity_lists') IS NOT NULL AS there"
CLOCK = "SELECT clock_timestamp() AS now"
NEWEST = "SELECT coalesce(max(number), 0) AS last FROM entity_lists"
NEWER = """
SELECT number, change, list, action, entity, value, since, until,
    EXISTS (SELECT FROM erased_entities e WHERE e.entity = l.entity AND e.pseudonym = l.value) AS is_erased
FROM entity_lists l WHERE number > ($1::jsonb ->> 'last')::bigint ORDER BY number
"""
# The last row about each value says what holds.
STANDING = """
SELECT DISTINCT ON (list, entity, value) number, recorded_at, change, list, action, entity, value, reason, actor, since,
    until
FROM entity_lists WHERE coalesce(list = ($1::jsonb ->> 'list'), true) ORDER BY list, entity, value, number DESC
"""
HISTORY = (
    "SELECT list, action, entity FROM entity_lists WHERE list = ($1::jsonb ->> 'list') ORDER BY number DESC LIMIT 1"
)
INSERT = """
INSERT INTO entity_lists (change, list, action, entity, value, reason, actor, since, until)
SELECT $1::jsonb ->> 'change', $1::jsonb ->> 'list', $1::jsonb ->> 'action', $1::jsonb ->> 'entity', given.value,
    $1::jsonb ->> 'reason', $1::jsonb ->> 'actor', ($1::jsonb ->> 'since')::timestamptz,
    ($1::jsonb ->> 'until')::timestamptz
FROM jsonb_array_elements_text($1::jsonb -> 'values') WITH ORDINALITY AS given(value, place) ORDER BY place
RETURNING number
"""


@dataclass(frozen=True)
class Said:
    """What somebody says of values.

    Attributes:
        change: add or remove.
        list_name: of the list.
        entity: whose values these are.
        values: as text.
        reason: why.
        actor: who says so.
        action: what the list does; None where it is taken from the list that there is.
        since: from when on it holds; None for from now on.
        until: the first moment at which it does not hold any more; None for good.
    """

    change: Change
    list_name: str
    entity: str
    values: tuple[str, ...]
    reason: str
    actor: str
    action: ListAction | None = None
    since: datetime | None = None
    until: datetime | None = None


def say(session: Session, said: Said) -> int:
    """Writes what is said of values, all of them or none.

    Returns:
        How many rows were written: a value that is taken back and not there, or there as it is said already, is none.

    Raises:
        ListError: when the list does something else, is about another entity, or is not there to take back from.
        AskedError: when the database does not take it.
    """

    def write(ask: Ask) -> int:
        ask(LOCK)
        now: datetime = ask(CLOCK)["now"][0].as_py()
        action = _action_of(ask, said)
        standing = {
            row["value"]: row
            for row in ask(STANDING, {"list": said.list_name}).to_pylist()
            if row["entity"] == said.entity and row["change"] == "add"
        }
        if said.change == "remove":
            changed = [value for value in said.values if value in standing]
        else:
            changed = [value for value in said.values if not _is_said(standing.get(value), said, now)]
        if not changed:
            return 0
        row = {
            "change": said.change, "list": said.list_name, "action": action, "entity": said.entity, "values": changed,
            "reason": said.reason, "actor": said.actor, "since": (said.since or now).isoformat(),
            "until": None if said.until is None else said.until.isoformat(),
        }  # fmt: skip
        return int(ask(INSERT, row).num_rows)

    return session.transact(write)


def _action_of(ask: Ask, said: Said) -> ListAction:
    found = ask(HISTORY, {"list": said.list_name}).to_pylist()
    if not found:
        if said.action is None:
            raise ListError(f"there is no list {said.list_name!r}; `fraud lists show` names them")
        return said.action
    (one,) = found
    if one["entity"] != said.entity:
        raise ListError(f"the list {said.list_name!r} is about {one['entity']}; take another for {said.entity}")
    if said.action not in (None, one["action"]):
        raise ListError(f"the list {said.list_name!r} is one to {one['action']}; take another to {said.action}")
    action: ListAction = one["action"]
    return action


def _is_said(row: dict[str, Any] | None, said: Said, now: datetime) -> bool:
    """Whether a value stands as it is said already."""
    return (
        row is not None
        and (row["until"], row["reason"]) == (said.until, said.reason)
        and row["since"] <= (said.since or now)
        and (row["until"] is None or now < row["until"])
    )


def entity_of(session: Session, list_name: str) -> str:
    """The entity that a list is about.

    Raises:
        ListError: when there is no such list.
        AskedError: when the database cannot be read.
    """
    found = session.transact(lambda ask: ask(HISTORY, {"list": list_name}).to_pylist())
    if not found:
        raise ListError(f"there is no list {list_name!r}; `fraud lists show` names them")
    return str(found[0]["entity"])


def standing_entries(session: Session, list_name: str | None = None) -> list[dict[str, Any]]:
    """What was said last of each value, of one list or all: `STANDING`'s columns.

    Raises:
        AskedError: when the database cannot be read.
    """
    rows: list[dict[str, Any]] = session.transact(lambda ask: ask(STANDING, {"list": list_name}).to_pylist())
    return rows


@dataclass(frozen=True)
class Newer:
    """What was said since a number.

    Attributes:
        rows: in their order.
        are_all: whether these are all rows that there are, because one from before was rewritten.
    """

    rows: Sequence[dict[str, Any]] = ()
    are_all: bool = False


def newer_rows(session: Session, last: int) -> Newer:
    """The rows after a number; none where the database has no such table yet.

    Raises:
        AskedError: when the database cannot be read.
    """

    def read(ask: Ask) -> Newer:
        if not last and not ask(THERE)["there"][0].as_py():
            return Newer()
        if int(ask(NEWEST)["last"][0].as_py()) <= last:
            return Newer()
        rows = ask(NEWER, {"last": last}).to_pylist()
        if last and any(row["is_erased"] for row in rows):
            return Newer(ask(NEWER, {"last": 0}).to_pylist(), are_all=True)
        return Newer(rows)

    return session.transact(read)
