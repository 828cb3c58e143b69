"""The ledger: what is live follows from the events, in the order of their evidence."""

import datetime as dt
import itertools

import pytest

from fraud_assets.core.decisions.ledger import (
    Event,
    champion_event,
    champion_version,
    live_line,
    metrics_of,
    standing,
    validation_metrics,
)


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


# What follows for the way back


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ([], []),
        ([("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("promoted", 3, "2018-08")], [1, 2, 3]),
        ([("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("rolled_back", 1, "2018-07", "ada")], [1]),
        (
            [("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("promoted", 3, "2018-08"),
             ("rolled_back", 2, "2018-08", "ada")],
            [1, 2],
        ),
        (
            [("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("promoted", 3, "2018-08"),
             ("rolled_back", 2, "2018-08", "ada"), ("rolled_back", 1, "2018-08", "ada")],
            [1],
        ),
        ([("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("promoted", 1, "2018-07", "ada")], [2, 1]),
        ([("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("refused", 2, "2018-07")], [1]),
        ([("promoted", 1, "2018-06"), ("refused", 1, "2018-06")], []),
        ([("promoted", 1, "2018-08"), ("promoted", 2, "2018-07")], [1]),
        ([("promoted", 2, "2018-08"), ("promoted", 1, "2018-07"), ("refused", 2, "2018-08")], [1]),
    ],
    ids=["none", "three", "back", "back from third", "back twice", "again by hand", "refused", "refused first",
         "backfilled", "backfilled comes up"],
)  # fmt: skip
def test_the_line_of_live_versions_ends_with_the_live_one_and_has_none_that_was_taken_back(entries, line):
    events = ledger(*entries)
    assert live_line(events) == line
    found = standing(events)
    assert found.champion == (line[-1] if line else None)
    assert found.previous == (line[-2] if len(line) > 1 else None)


def test_the_challenger_is_the_newest_registered_version_by_its_month_that_was_not_retired():
    events = ledger(("registered", 1, "2018-06"), ("registered", 3, "2018-07"), ("registered", 4, "2018-05"))
    assert standing(events).challenger == 3
    assert standing([*events, *ledger(("retired", 3, "2018-08"))]).challenger == 1
    assert standing([]).challenger is None


def test_a_retired_version_is_no_way_back():
    events = ledger(
        ("promoted", 1, "2018-06"), ("promoted", 2, "2018-07"), ("promoted", 3, "2018-08"), ("retired", 2, "2018-08"),
    )  # fmt: skip
    assert standing(events).previous == 1


def test_figures_of_an_evaluation_are_kept_with_their_intervals_by_role():
    rows = [
        {"role": "champion", "ap": 0.5, "ap_low": 0.4, "ap_high": 0.6, "n": 9},
        {"role": "challenger", "ap": 0.7, "ap_low": float("nan"), "ap_high": None},
        {"role": "none", "ap": None, "ap_low": None, "ap_high": None},
    ]
    assert metrics_of(rows) == {
        "champion.ap": {"value": 0.5, "low": 0.4, "high": 0.6},
        "challenger.ap": {"value": 0.7, "low": None, "high": None},
    }
    assert validation_metrics({"ap": 0.5, "ap_low": 0.4, "ap_high": 0.6, "n": 3.0}) == {
        "ap": {"value": 0.5, "low": 0.4, "high": 0.6},
        "n": {"value": 3.0, "low": None, "high": None},
    }
