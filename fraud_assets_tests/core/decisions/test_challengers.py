"""Which versions the ledger names as challengers, and which cannot be one."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from fraud_assets.core.decisions.approval import PromotionMode
from fraud_assets.core.decisions.challengers import SHARE, named_challengers, why_not
from fraud_assets.core.decisions.ledger import Event, champion_version, standing

AUTOMATIC, SHADOW = PromotionMode(), PromotionMode("shadow")
WRITTEN = dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
LIVE = (("registered", 1), ("registered", 2), ("registered", 3), ("promoted", 1))


def ledger(*entries: Any) -> list[Event]:
    """Events of (kind, version[, share])."""
    return [
        Event(
            number, WRITTEN + dt.timedelta(minutes=number), kind, version, "2018-06", (), "me",
            evidence={SHARE: {"share": str(share[0])}} if share else {}, hash=f"hash {number}",
        )
        for number, (kind, version, *share) in enumerate(entries, 1)
    ]  # fmt: skip


def shares(*entries: Any, mode: PromotionMode = AUTOMATIC) -> dict[int, float]:
    return {one.version: one.share for one in named_challengers(ledger(*entries), mode)}


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        ((), {}),
        ((("shadow_started", 2),), {2: 0.0}),
        ((("shadow_started", 2, 0.1), ("shadow_started", 3)), {2: 0.1, 3: 0.0}),
        ((("shadow_started", 2), ("shadow_started", 2, 0.2)), {2: 0.2}),
        ((("shadow_started", 2), ("shadow_ended", 2)), {}),
        ((("shadow_started", 2, 0.1), ("retired", 2)), {}),
        ((("shadow_started", 2, 0.1), ("promoted", 2)), {}),
        # What was live and is rolled back from has no share again.
        ((("shadow_started", 2, 0.1), ("promoted", 2), ("rolled_back", 1)), {}),
        ((("shadow_started", 2, 0.1), ("shadow_ended", 3)), {2: 0.1}),
    ],
)
def test_who_is_a_challenger_follows_from_the_events(then: Any, expected: dict[int, float]) -> None:
    assert shares(*LIVE, *then) == expected


def test_in_the_mode_shadow_the_newest_version_is_one_by_itself_while_there_is_room() -> None:
    assert shares(*LIVE, mode=SHADOW) == {3: 0.0}
    assert shares(*LIVE, ("shadow_started", 3, 0.2), mode=SHADOW) == {3: 0.2}
    assert shares(*LIVE, ("promoted", 3), mode=SHADOW) == {}
    many = [("registered", at) for at in range(4, 8)] + [("shadow_started", at) for at in range(4, 7)]
    assert sorted(shares(*LIVE, *many, mode=SHADOW)) == [4, 5, 6]


def test_the_customers_stay_the_same_when_the_share_changes_and_are_others_when_it_begins_anew() -> None:
    began = [("shadow_started", 2, 0.1), ("shadow_started", 2, 0.2)]
    (grown,) = named_challengers(ledger(*LIVE, *began), AUTOMATIC)
    (anew,) = named_challengers(ledger(*LIVE, *began, ("shadow_ended", 2), ("shadow_started", 2, 0.1)), AUTOMATIC)
    assert (grown.key, grown.since) == ("hash 5", WRITTEN + dt.timedelta(minutes=5))
    assert anew.key == "hash 8"


def test_what_is_live_and_the_way_back_are_as_they_were_without_challengers() -> None:
    before, after = ledger(*LIVE), ledger(*LIVE, ("shadow_started", 2, 0.1), ("shadow_ended", 2))
    assert champion_version(after) == champion_version(before)
    assert standing(after) == standing(before)


@pytest.mark.parametrize(
    ("version", "share", "said"),
    [
        (2, 0.1, None), (2, 0.0, None), (4, 0.2, None),
        (2, 0.6, "it is 0 to 0.5"), (2, -0.1, "it is 0 to 0.5"), (2, float("nan"), "it is 0 to 0.5"),
        (1, 0.0, "version 1 is live already"),
        (9, 0.0, "the ledger knows no version 9"),
        (3, 0.0, "version 3 was retired"),
        (2, 0.4, "the shares come to more than 0.5"),
    ],
)  # fmt: skip
def test_a_version_that_cannot_be_one_is_refused_with_the_reason(version: int, share: float, said: str | None) -> None:
    events = ledger(*LIVE, ("registered", 4), ("registered", 5), ("shadow_started", 4, 0.2), ("retired", 3))
    why = why_not(events, AUTOMATIC, version, share)
    assert (why is None) == (said is None), why
    assert said is None or said in (why or "")


@pytest.mark.parametrize("most", [1, 3, 8])
def test_without_a_champion_or_with_as_many_others_as_may_be_there_is_no_room(most: int) -> None:
    mode = PromotionMode(shadow_models=most)
    assert "no model is live" in (why_not(ledger(("registered", 1)), mode, 1, 0.0) or "")
    last = 4 + most
    events: list[Any] = [("registered", at) for at in range(4, last + 1)]
    events += [("shadow_started", at) for at in range(4, last)]
    names = ", ".join(map(str, range(4, last)))
    assert f"{most} challengers are the most (FRAUD_SHADOW_MODELS), and versions {names} are" in (
        why_not(ledger(*LIVE, *events), mode, last, 0.0) or ""
    )
    assert why_not(ledger(*LIVE, *events[:-1]), mode, last, 0.0) is None
