"""Alerts on their way: kept once, sent to real servers, tried again, and never with a password in sight."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.decisions.alerts import Fact
from fraud_assets.workflows.alerts import AlertStore, Sent, deliver, list_alerts, open_channels

if TYPE_CHECKING:
    from fraud_assets_tests.inboxes import Inbox

pytest_plugins = ["fraud_assets_tests.inboxes"]

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = "hunter2"  # pragma: allowlist secret


def fact(key: str, kind: Any = "drift") -> Fact:
    return Fact(kind, key, "2025-03", f"This is {key}.", None, NOW)


class Sending:
    """Each round with channels of its own, as each tick of the sensor has."""

    def __init__(self, database: Database, *urls: str) -> None:
        self.store, self.urls, self.now = AlertStore(database), " \n".join(urls), NOW

    def record(self, *facts: Fact) -> int:
        return self.store.record(facts, [channel.name for channel in open_channels(self.urls)])

    def round(self, after: timedelta = timedelta(minutes=1)) -> list[Sent]:
        self.now += after
        return deliver(self.store, open_channels(self.urls), now=lambda: self.now)

    def listed(self) -> list[dict[str, Any]]:
        return list_alerts(self.store, open_channels(self.urls), 20)


def web_url(web: Inbox) -> str:
    return f"json://fraud:{SECRET}@127.0.0.1:{web.port}/hooks/{SECRET}"


def mail_url(mail: Inbox) -> str:
    return f"mailto://127.0.0.1:{mail.port}?from=fraud@example.com&to=analyst@example.com"


def test_a_fact_reaches_a_web_hook_and_a_mailbox_once_however_often_it_is_found(
    database: Database, web: Inbox, mail: Inbox
) -> None:
    sending = Sending(database, web_url(web), mail_url(mail))
    assert sending.record(fact("one")) == 1
    for _ in range(3):
        sending.round()
        assert sending.record(fact("one")) == 0
    assert [subject for subject, _ in web.messages + mail.messages] == ["[fraud] drift in 2025-03"] * 2
    assert all("This is one." in inbox.bodies for inbox in (web, mail))


def test_facts_of_one_round_are_one_message(database: Database, web: Inbox) -> None:
    sending = Sending(database, web_url(web))
    sending.record(fact("one"), fact("two"))
    sending.round()
    [(subject, body)] = web.messages
    assert subject.startswith("[fraud] 2 alerts")
    assert body.index("This is one.") < body.index("This is two.")


def test_a_dead_channel_keeps_nothing_from_the_others_and_gets_its_alert_when_it_lives_again(
    database: Database, web: Inbox, mail: Inbox
) -> None:
    sending = Sending(database, mail_url(mail), web_url(web))
    mail.alive = False
    sending.record(fact("one"))
    first = {one.channel.partition(":")[0]: one.error for one in sending.round()}
    assert (first["json"], bool(first["mailto"]), len(web.messages)) == (None, True, 1)
    assert sending.round(timedelta(seconds=30)) == [], "before the wait is over"
    mail.alive = True
    sending.round()
    assert (len(mail.messages), len(web.messages)) == (1, 1)
    [listed] = sending.listed()
    assert [(one["state"], one["attempts"]) for one in listed["deliveries"]] == [("delivered", 2), ("delivered", 1)]


def test_a_channel_that_stays_dead_is_given_up_and_the_message_and_the_listing_say_so(
    database: Database, web: Inbox
) -> None:
    web.alive = False
    sending = Sending(database, web_url(web))
    sending.record(fact("one"))
    sending.round()
    [last] = sending.round(timedelta(days=3))
    assert (last.given_up, "1 given up: see `fraud alerts list`" in last.sentence) == (1, True)
    [[one]] = [alert["deliveries"] for alert in sending.listed()]
    assert (one["state"], one["attempts"], one["next_attempt_at"]) == ("given_up", 2, None)
    web.alive = True
    assert sending.round(timedelta(days=1)) == []


@pytest.mark.parametrize("dead", ["nobody", "refuses"])
def test_no_password_is_in_a_table_a_log_a_name_or_an_error(
    database: Database, web: Inbox, dead: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.alive = False
    port = web.port if dead == "refuses" else 9
    sending = Sending(database, f"json://fraud:{SECRET}@127.0.0.1:{port}/hooks/{SECRET}?-token={SECRET}")
    sending.record(fact("one"))
    [sent] = sending.round()
    assert sent.channel == f"json://127.0.0.1:{port}"
    assert sent.error
    assert ("503" if dead == "refuses" else "refused") in sent.error
    with database.session() as connection:
        stored = connection.execute("SELECT (SELECT array_agg(a::text) FROM alerts a)::text").fetchall()
        stored += connection.execute("SELECT (SELECT array_agg(a::text) FROM alert_attempts a)::text").fetchall()
    for text in (sent.sentence, sent.error, str(stored), str(sending.listed()), caplog.text):
        assert SECRET not in text


def test_a_channel_whose_address_has_no_host_is_named_by_its_scheme_alone() -> None:
    token = "T1JJ3T3L2"
    urls = " ".join(f"slack://{token}/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7F{last}/#fraud" for last in "QR")
    assert [channel.name for channel in open_channels(urls)] == ["slack://", "slack:// (2)"]


def test_an_address_that_apprise_cannot_read_is_a_channel_that_says_so() -> None:
    good, bad = open_channels(f"json://127.0.0.1 nosuch://{SECRET}@{SECRET}")
    error = bad.send("subject", "body")
    assert (good.name, bad.name) == ("json://127.0.0.1", "nosuch://")
    assert error is not None
    assert "apprise cannot read the address" in error
    assert SECRET not in error


def test_a_channel_that_comes_later_is_not_owed_what_was_known_before(
    database: Database, web: Inbox, mail: Inbox
) -> None:
    sending = Sending(database, web_url(web))
    sending.record(fact("old"))
    sending.urls += " " + mail_url(mail)
    sending.record(fact("new"))
    sending.round()
    assert "This is new." in mail.bodies
    assert "This is old." not in mail.bodies


def test_a_channel_that_is_no_longer_set_is_left_alone_and_listed_so(database: Database, web: Inbox) -> None:
    sending = Sending(database, web_url(web))
    sending.record(fact("one"))
    sending.urls = "json://127.0.0.1:9"
    assert sending.round() == []
    assert [one["state"] for alert in sending.listed() for one in alert["deliveries"]] == ["unset"]


def test_killed_between_the_answer_and_the_record_one_message_is_sent_twice_and_no_more(
    database: Database, web: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending = Sending(database, web_url(web))
    sending.record(fact("one"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sending.store, "record_attempt", killed)
        with pytest.raises(KeyboardInterrupt):
            sending.round()
    for _ in range(3):
        sending.round()
    assert len(web.messages) == 2


def test_two_senders_at_once_send_one_message(database: Database, web: Inbox) -> None:
    sending = Sending(database, web_url(web))
    sending.record(fact("one"))
    beside: list[list[Sent]] = []
    other = Sending(database, web_url(web))
    # While the first one waits for the channel's answer.
    web.on_message = lambda: beside.append(other.round()) if not beside else None
    assert len(sending.round()) == 1
    assert beside == [[]]
    assert len(web.messages) == 1
