"""The page for people who open nothing else: what it says, what it must not say, and that it needs nothing."""

import re
from datetime import UTC, datetime

import pytest

from fraud_assets.core.decisions.ledger import BY_HAND, Event
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.pages.site import Asked, Live, Model, Month, SiteFacts, site_page

NOW = datetime(2025, 5, 2, 8, tzinfo=UTC)


def event(number, kind="promoted", by_hand=False, text="It is better."):
    evidence = {BY_HAND: {"after": "1"}} if by_hand else {}
    return Event(number, NOW, kind, 3, "2025-04", (Reason(Rule.BETTER, text),), "ada", evidence, hash="ab" * 32)


def page(**other):
    given = {
        "contract": "shop", "made_at": NOW, "live": Live(3, NOW, "2025-04", False), "why_none": "", "asked": (),
        "months": (), "models": (), "events": (), "platform": "1",
    }  # fmt: skip
    return site_page(SiteFacts(**given | other))


def test_it_needs_nothing_from_elsewhere():
    months = [Month("2025-04", 5, "DRIFT", "world", "reports/2025-04.html", "passed", 3, 3)]
    shown = page(months=months, models=[Model(3, "2025-03", "live", "cards/v3.html")], events=[event(1)])
    assert "<script" not in shown
    assert not re.search(r"(src|href)=\"(https?:)?//", shown)
    assert not re.search(r"\son\w+=", shown)
    assert "default-src 'none'" in shown


@pytest.mark.parametrize("status", ["OK", "WATCH", "DRIFT", "INSUFFICIENT_DATA"])
def test_a_verdict_has_a_sign_and_a_word_beside_its_colour(status):
    month = Month("2025-04", 5, status)
    shown = page(months=[month])
    assert f'<span aria-hidden="true">{month.mark}</span> {month.verdict}' in shown
    assert month.headline in shown


def test_what_people_wrote_and_who_they_are_is_not_shown():
    shown = page(events=[event(1, by_hand=True, text="customer 4711 complained"), event(2)])
    assert "4711" not in shown
    assert "ada" not in shown
    assert "a person" in shown
    assert "It is better." in shown


def test_what_comes_from_data_is_escaped():
    asked = [Asked("Who owns the source", "<b>rows</b> broke it.", "fraud quarantine list")]
    shown = page(contract="<i>shop</i>", asked=asked)
    assert "<b>rows" not in shown
    assert "<i>shop" not in shown
    assert "<code>fraud quarantine list</code>" in shown


def test_a_platform_on_which_nothing_ran_says_so():
    shown = page(live=None, why_none="No month has been run yet.")
    for said in (
        "No model is live.",
        "No month has been run yet.",
        "Nothing is asked of anybody.",
        "No model has been",
    ):
        assert said in shown


def test_a_ledger_that_is_not_believed_is_said_first_of_all_about_it():
    shown = page(fault="row 2 was changed after it was written")
    assert "The ledger is not as it was written: row 2 was changed" in shown


def test_long_ledgers_are_cut_and_that_is_said():
    shown = page(events=[event(number) for number in range(60, 0, -1)])
    assert "And 10 rows before." in shown
