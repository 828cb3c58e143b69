"""The ledger: what is live follows from the events, in the order of their evidence."""

import datetime as dt
import itertools

import pytest

from fraud_assets.core.decisions.ledger import Event, champion_event, champion_version


def ledger(*entries):
    """Events of (kind, version, month[, who]), numbered in the order in which they were written."""
    written = dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
    return [
        Event(
            number, written + dt.timedelta(minutes=number), kind, version, month, "because", *(who or ["test"]),
            evidence={"by hand": {"after event": str(number - 1)}} if who else {},
        )
        for number, (kind, version, month, *who) in enumerate(entries, 1)
    ]  # fmt: skip


def test_before_any_promotion_there_is_no_champion():
    events = ledger(("registered", 1, "2018-05"), ("validated", 1, "2018-06"), ("refused", 1, "2018-06"))
    assert champion_version([]) is None
    assert champion_version(events) is None
    assert champion_event(events) is None


def test_the_last_promotion_is_live_and_other_events_change_nothing():
    events = ledger(
        ("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("registered", 3, "2018-07"), ("refused", 3, "2018-08"),
        ("retired", 1, "2018-08"), ("approved", 3, "2018-08"),
    )  # fmt: skip
    assert champion_version(events) == 2
    assert champion_event(events).number == 2


def test_a_rollback_brings_the_earlier_version_back():
    events = ledger(("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("rolled_back", 1, "2018-07"))
    assert champion_version(events) == 1


def test_a_backfilled_decision_of_an_earlier_month_does_not_displace_a_later_one():
    events = ledger(("promoted", 1, "2018-06"), ("promoted", 2, "2018-08"), ("promoted", 3, "2018-07"))
    assert champion_version(events) == 2
    assert champion_version(events, before_month="2018-08") == 3
    assert champion_version(events, before_month="2018-07") == 1
    assert champion_version(events, before_month="2018-06") is None


def test_of_two_decisions_of_a_month_the_later_written_counts():
    assert champion_version(ledger(("promoted", 5, "2018-07"), ("promoted", 4, "2018-07"))) == 4


def test_a_month_that_is_decided_again_and_refuses_brings_back_what_was_live_before_it():
    again = ledger(("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("refused", 2, "2018-07"))
    assert champion_version(again) == 1
    assert champion_version(again[1:]) is None


def test_a_refusal_on_another_month_takes_nothing_back():
    assert champion_version(ledger(("promoted", 2, "2018-07"), ("refused", 3, "2018-08"))) == 2


@pytest.mark.parametrize("later", ["promoted", "refused"])
def test_what_a_person_decided_about_a_month_stands_when_the_platform_decides_it_again(later):
    events = ledger(("promoted", 1, "2018-07"), ("promoted", 2, "2018-07", "ada"), (later, 3, "2018-07"))
    assert champion_version(events) == 2


def test_a_person_s_decision_gives_way_to_one_on_a_later_month_and_to_a_person_s_later_one():
    events = ledger(("promoted", 2, "2018-07", "ada"), ("promoted", 3, "2018-08"))
    assert champion_version(events) == 3
    assert champion_version(ledger(("promoted", 2, "2018-07", "ada"), ("rolled_back", 1, "2018-07", "ada"))) == 1


@pytest.mark.parametrize("before", [None, "2018-07", "2018-08"])
def test_the_order_in_which_events_are_given_does_not_matter(before):
    events = ledger(("promoted", 1, "2018-06"), ("promoted", 3, "2018-07"), ("rolled_back", 1, "2018-07"))
    versions = {champion_version(order, before) for order in itertools.permutations(events)}
    assert len(versions) == 1
