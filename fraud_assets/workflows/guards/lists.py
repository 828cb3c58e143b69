"""Lists of entities, as people change and read them; running services follow within a second.

What a list means belongs to `core/guards/lists.py`, how it is kept to `adapters/guards/stored_lists.py`.
"""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from fraud_assets.adapters.asked.session import Session
from fraud_assets.adapters.guards.stored_lists import Said, entity_of, say, standing_entries
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import entity_called
from fraud_assets.core.guards.lists import (
    LONGEST_REASON,
    Entry,
    ListError,
    read_action,
    read_identifier,
    read_list_name,
    read_until,
)

MOST_VALUES = 1_000_000


@contextmanager
def lists_session(url: str) -> Iterator[Session]:
    """A connection for lists, closed at the end."""
    session = Session(url, "fraud lists")
    try:
        yield session
    finally:
        session.close()


def read_values(given: Iterable[str], file: Path | None, text: str | None = None) -> list[str]:
    """Values from the command line, a file with one a line, or standard input; each once, in their order.

    Raises:
        ListError: when there are none, or a file cannot be read.
    """
    values = list(given)
    try:
        if file is not None:
            values += file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    values += (text or "").splitlines()
    values = list(dict.fromkeys(one.strip() for one in values if one.strip()))
    if not values:
        raise ListError("no value is given: name some, or a file with one a line (--file)")
    if len(values) > MOST_VALUES:
        raise ListError(
            f"{len(values):,} values are more than {MOST_VALUES:,} at a time; a service keeps all in memory"
        )
    return values


# What a person says of an entry, each by its name: the command hands on its options as they are.
def add_to_list(
    session: Session,
    contract: Contract,
    list_name: str,
    values: list[str],
    *,
    entity: str | None,
    action: str | None,
    reason: str,
    until: str | None,
    now: datetime,
    actor: str | None = None,
) -> dict[str, Any]:
    """Adds values of an entity to a list, which is made where there is none.

    Args:
        session: of the database.
        contract: has the entity.
        list_name: of the list.
        values: as text.
        entity: whose, with or without `_id`; that of the list when absent.
        action: block or allow; that of the list when absent.
        reason: why.
        until: a day, or a moment; for good when absent.
        now: the present moment.
        actor: who; the user of this process when absent.

    Returns:
        `list`, `entity`, `added`, and `repeated`, those that stood there alike.

    Raises:
        ListError: when something is missing or cannot be.
        AskedError: when the database does not take it.
    """
    if entity is None:
        whose = entity_of(session, read_list_name(list_name))
    else:
        whose = entity_called(contract, entity) or entity
    said = Said(
        "add", read_list_name(list_name), whose, _identifiers(contract, whose, values), _reason(reason),
        actor or getpass.getuser(), None if action is None else read_action(action), None,
        None if until is None else read_until(until, contract, now),
    )  # fmt: skip
    n = say(session, said)
    return {"list": list_name, "entity": whose, "added": n, "repeated": len(said.values) - n}


def remove_from_list(
    session: Session, contract: Contract, list_name: str, values: list[str], *, reason: str, actor: str | None = None
) -> dict[str, Any]:
    """Takes values back; what was said of them stays in the table.

    Returns:
        `list`, `entity`, `removed`, and `not_there`.

    Raises:
        ListError: when there is no such list, or a value cannot be.
        AskedError: when the database does not take it.
    """
    whose = entity_of(session, read_list_name(list_name))
    said = Said(
        "remove", list_name, whose, _identifiers(contract, whose, values), _reason(reason), actor or getpass.getuser()
    )
    n = say(session, said)
    return {"list": list_name, "entity": whose, "removed": n, "not_there": len(said.values) - n}


def show_lists(session: Session, now: datetime) -> list[dict[str, Any]]:
    """All lists: `list`, `action`, `entity`, `in_force`, `over`, `removed`, `changed_at`, `changed_by`; no values."""
    rows = standing_entries(session)
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        one = found.setdefault(row["list"], row)
        if row["number"] > one["number"]:
            found[row["list"]] = row
        counts.setdefault(row["list"], Counter())[_state(row, now)] += 1
    return [
        {
            "list": name, "action": row["action"], "entity": row["entity"],
            **{state: counts[name][state] for state in ("in_force", "over", "removed")},
            "changed_at": row["recorded_at"], "changed_by": row["actor"],
        }
        for name, row in sorted(found.items())
    ]  # fmt: skip


def show_list(session: Session, list_name: str, now: datetime) -> list[dict[str, Any]]:
    """What was said last of each value of a list: `value`, `state` (in_force, over, removed), `since`, `until`,
    `reason`, `actor`, `recorded_at`.

    Raises:
        ListError: when there is no such list.
    """  # noqa: D205 - the columns are one sentence
    entity_of(session, list_name)
    return [
        {
            "value": row["value"], "state": _state(row, now), "since": row["since"], "until": row["until"],
            "reason": row["reason"], "actor": row["actor"], "recorded_at": row["recorded_at"],
        }
        for row in standing_entries(session, list_name)
    ]  # fmt: skip


def _state(row: dict[str, Any], now: datetime) -> str:
    if row["change"] == "remove":
        return "removed"
    entry = Entry(row["list"], row["action"], row["since"], row["until"])
    # The database's clock may be ahead of this machine's.
    return "in_force" if entry.holds(max(now, row["since"])) else "over"


def _identifiers(contract: Contract, entity: str, values: list[str]) -> tuple[str, ...]:
    found = list[str]()
    for place, value in enumerate(values, start=1):
        try:
            found.append(read_identifier(contract, entity, value))
        except ListError as error:
            raise ListError(f"value {place} of {len(values)}: {error}; none was taken") from None
    return tuple(dict.fromkeys(found))


def _reason(reason: str) -> str:
    reason = " ".join(reason.split())
    if not 3 <= len(reason) <= LONGEST_REASON:
        raise ListError(f"a reason has 3 to {LONGEST_REASON} characters, and this one has {len(reason)}")
    return reason
