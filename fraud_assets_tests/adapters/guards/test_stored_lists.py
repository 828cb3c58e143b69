"""The table of lists: what is said is added, nothing is changed, and the command says what was done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.asked.session import Session
from fraud_assets.adapters.guards.stored_lists import newer_rows
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.guards.lists import EntityLists, ListError
from fraud_assets.workflows.guards.lists import (
    add_to_list,
    lists_session,
    read_values,
    remove_from_list,
    show_list,
    show_lists,
)

NOW = datetime.now(UTC)


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with lists_session(database.url) as opened:
        yield opened


def add(session: Session, contract: Contract, values: list[str], name: str = "stolen", **more: str | None) -> int:
    given = {"entity": "customer_id", "action": "block", "reason": "reported stolen", "until": None} | more
    return int(add_to_list(session, contract, name, values, now=NOW, actor="ada", **given)["added"])  # type: ignore[arg-type]


def test_what_is_said_stays_and_the_last_counts(
    session: Session, simulator_contract: Contract, database: Database
) -> None:
    assert add(session, simulator_contract, ["1", "2", "02"]) == 2
    # Said again in the same words it is nothing new; with another end it is.
    assert add(session, simulator_contract, ["1", "3"]) == 1
    tomorrow = (NOW + timedelta(days=1)).strftime("%Y-%m-%d")
    assert add(session, simulator_contract, ["2"], entity=None, action=None, until=tomorrow) == 1
    done = remove_from_list(session, simulator_contract, "stolen", ["1", "9"], reason="it was found", actor="bob")
    assert (done["removed"], done["not_there"]) == (1, 1)
    entries = {one["value"]: one for one in show_list(session, "stolen", NOW)}
    assert {value: (one["state"], one["actor"]) for value, one in entries.items()} == {
        "1": ("removed", "bob"), "2": ("in_force", "ada"), "3": ("in_force", "ada"),
    }  # fmt: skip
    later = {one["value"]: one["state"] for one in show_list(session, "stolen", NOW + timedelta(days=3))}
    assert later == {"1": "removed", "2": "over", "3": "in_force"}
    (listed,) = show_lists(session, NOW)
    assert {name: listed[name] for name in ("list", "action", "entity", "in_force", "over", "removed")} == {
        "list": "stolen", "action": "block", "entity": "customer_id", "in_force": 2, "over": 0, "removed": 1,
    }  # fmt: skip
    assert database.rows("entity_lists", "SELECT change, value, actor FROM entity_lists ORDER BY number") == [
        ("add", "1", "ada"), ("add", "2", "ada"), ("add", "3", "ada"), ("add", "2", "ada"), ("remove", "1", "bob"),
    ]  # fmt: skip


def test_a_list_does_one_thing_to_one_entity(session: Session, simulator_contract: Contract) -> None:
    add(session, simulator_contract, ["1"])
    for more, said in (
        ({"action": "allow"}, "is one to block; take another to allow"),
        ({"entity": "terminal_id"}, "is about customer_id; take another for terminal_id"),
        ({"reason": " "}, "a reason has 3 to 500 characters"),
        ({"entity": "shop"}, "has no entity 'shop'; there are customer_id, terminal_id"),
        ({"action": "burn"}, "it blocks or allows"),
        ({"name": "Stolen cards"}, "a list cannot be called"),
    ):
        with pytest.raises(ListError, match=said):
            add(session, simulator_contract, ["2"], **more)
    with pytest.raises(ListError, match="there is no list 'other'"):
        remove_from_list(session, simulator_contract, "other", ["1"], reason="was wrong")
    with pytest.raises(ListError, match=r"value 2 of 2: .* none was taken") as refused:
        add(session, simulator_contract, ["7", "no-number-4711"])
    assert "4711" not in str(refused.value)
    assert [one["value"] for one in show_list(session, "stolen", NOW)] == ["1"]


def test_who_reads_along_gets_each_row_once_in_order_while_several_write(
    session: Session, simulator_contract: Contract, database: Database
) -> None:
    def write(first: int) -> None:
        with lists_session(database.url) as own:
            for value in range(first, first + 20):
                add(own, simulator_contract, [str(value)], f"list-{first}")

    lists, seen = EntityLists(), list[int]()
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(write, first) for first in (100, 200, 300)]
        while not all(one.done() for one in writers) or len(seen) < 60:
            rows = newer_rows(session, lists.last).rows
            lists.take_up(rows)
            seen += [row["number"] for row in rows]
            for one in writers:
                if one.done():
                    one.result()
    assert seen == sorted(set(seen))
    soon = datetime.now(UTC) + timedelta(minutes=1)
    found = dict(lists.found("customer_id", [100, 219, 300, 99], "block", soon))
    assert found == {0: "list-100", 1: "list-200", 2: "list-300"}


def test_a_database_without_the_table_has_no_lists(server: object) -> None:
    bare = server("bare_lists")  # type: ignore[operator]
    with bare.session() as connection:
        connection.execute("ALTER TABLE entity_lists RENAME TO elsewhere")
    try:
        with lists_session(bare.url) as opened:
            assert newer_rows(opened, 0).rows == ()
    finally:
        with bare.session() as connection:
            connection.execute("ALTER TABLE elsewhere RENAME TO entity_lists")


def test_values_come_from_anywhere_each_once(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text(" 3\n\n4\n")
    assert read_values(["3", "5"], file, "6\n5\n") == ["3", "5", "4", "6"]
    with pytest.raises(ListError, match="no value is given"):
        read_values([], None)
    with pytest.raises(ListError, match="cannot be read: No such file"):
        read_values([], tmp_path / "none")


@pytest.mark.usefixtures("empty_home")
def test_the_command_changes_and_shows_lists(tmp_path: Path) -> None:
    def fraud(*words: str, code: int = 0, given: str | None = None) -> str:
        done = CliRunner().invoke(app, words, input=given)
        assert done.exit_code == code, done.output
        return done.output

    assert "There are no lists" in fraud("lists", "show")
    words = ("--entity", "customer_id", "--action", "block", "--reason", "reported stolen")
    assert "2 added to the list stolen of customer_id" in fraud(
        "lists", "add", "stolen", "-", *words, given="70017\n70018\n"
    )
    assert "1 added to the list stolen of customer_id; 1 already on it" in fraud(
        "lists", "add", "stolen", "70018", "70019", "--entity", "customer", "--reason", "reported stolen"
    )
    assert "70018" in fraud("lists", "show", "stolen")
    assert "70017" not in fraud("lists", "show")
    assert "1 removed from the list stolen" in fraud("lists", "remove", "stolen", "70017", "--reason", "was found")
    (one,) = json.loads(fraud("lists", "show", "--json"))
    assert (one["in_force"], one["removed"]) == (2, 1)
    other = fraud("lists", "add", "stolen", "1", "--entity", "card", "--reason", "reported stolen", code=1)
    assert "has no entity 'card'; there are customer_id, terminal_id" in other
    refused = fraud("lists", "add", "stolen", "x17y", "--reason", "reported stolen", code=1)
    assert "a value is no customer_id" in refused
    assert "x17y" not in refused
    assert "The contract has no rules" in fraud("rules", "list")
    assert "has no rules; docs/rules.md" in fraud("rules", "backtest", code=1)
