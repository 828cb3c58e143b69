"""The ledger: what is live follows from the events, in the order of their evidence."""

import datetime as dt
import itertools

import pytest

from fraud_assets.core.ledger import Event, champion_event, champion_version


def ledger(*entries):
    """Events of (kind, version, month), numbered in the order in which they were written."""
    written = dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
    return [
        Event(number, written + dt.timedelta(minutes=number), kind, version, month, "because", "test")
        for number, (kind, version, month) in enumerate(entries, 1)
    ]


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


@pytest.mark.parametrize("before", [None, "2018-07", "2018-08"])
def test_the_order_in_which_events_are_given_does_not_matter(before):
    events = ledger(("promoted", 1, "2018-06"), ("promoted", 3, "2018-07"), ("rolled_back", 1, "2018-07"))
    versions = {champion_version(order, before) for order in itertools.permutations(events)}
    assert len(versions) == 1
