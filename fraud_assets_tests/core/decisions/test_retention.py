"""What may go and what stays: from a case in which all may go, with one reason against at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.decisions.retention import KINDS, Kept, Rules, choose

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def aged(days: float, name: str = "x", kind: str = "model") -> Kept:
    return Kept(kind, name, NOW - timedelta(days=days))  # type: ignore[arg-type]


OLD = [aged(400 + number, str(number)) for number in range(5)]


def goes(things: list[Kept], days: float = 365, newest: int = 0, **protected: str) -> list[str]:
    kept = {("model", name.removeprefix("v")): why for name, why in protected.items()}
    return [choice.kept.name for choice in choose(things, Rules(days, newest), NOW, kept) if choice.goes]  # type: ignore[arg-type]


def test_what_is_old_and_many_goes_the_oldest_first() -> None:
    assert goes(OLD) == ["4", "3", "2", "1", "0"]


def test_the_newest_of_a_kind_stay_however_old_they_are() -> None:
    assert goes(OLD, newest=2) == ["4", "3", "2"]
    assert goes(OLD, newest=9) == []


def test_what_is_young_stays_however_many_there_are() -> None:
    assert goes(OLD, days=403) == ["4"]
    assert goes(OLD, days=500) == []


def test_what_is_in_use_stays_with_its_reason_and_takes_no_place_of_another() -> None:
    assert goes(OLD, newest=1, v3="it is live") == ["4", "2", "1"]
    assert goes(OLD, newest=1, v0="it is live") == ["4", "3", "2", "1"]
    (choice,) = [one for one in choose(OLD, Rules(0, 0), NOW, {("model", "3"): "it is live"}) if not one.goes]
    assert (choice.kept.name, choice.why) == ("3", "it is live")


def test_kinds_are_counted_apart_and_a_name_protects_its_own_kind_alone() -> None:
    things = [*OLD, aged(400, "3", "run"), aged(401, "4", "run")]
    choices = choose(things, Rules(365, 1), NOW, {("model", "4"): "it is live"})
    assert [(one.kept.kind, one.kept.name) for one in choices if one.goes] == [
        ("model", "3"), ("model", "2"), ("model", "1"), ("run", "4"),
    ]  # fmt: skip


@pytest.mark.parametrize(("days", "newest"), [(-1, 0), (0, -1)])
def test_rules_that_make_no_sense_are_refused(days: float, newest: int) -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        Rules(days, newest)


THINGS = st.lists(
    st.builds(aged, st.floats(-10, 1000), st.text(max_size=3), st.sampled_from(KINDS)),
    unique_by=lambda one: (one.kind, one.name),
)


@given(THINGS, st.floats(0, 800), st.integers(0, 5), st.data())
def test_each_thing_has_one_choice_and_nothing_protected_young_or_among_the_newest_goes(
    things: list[Kept], days: float, newest: int, data: st.DataObject
) -> None:
    in_use = data.draw(st.lists(st.sampled_from(things))) if things else []
    choices = choose(things, Rules(days, newest), NOW, {(one.kind, one.name): "in use" for one in in_use})
    assert sorted((one.kept for one in choices), key=repr) == sorted(things, key=repr)
    gone = [one.kept for one in choices if one.goes]
    assert not set(gone) & set(in_use)
    assert all(one.since < NOW - timedelta(days=days) for one in gone)
    for kind in KINDS:
        stay = [one for one in things if one.kind == kind and one not in gone]
        left = [one for one in gone if one.kind == kind]
        assert not left or len(stay) >= newest
        # Whatever goes is older than what stays for its number alone.
        assert all(sum(other.since >= one.since for other in things if other.kind == kind) > newest for one in left)
