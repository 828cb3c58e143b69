"""The ledger's table: append-only, and the same fact is written once."""

import datetime as dt
import threading

import pytest

from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.core.decisions.ledger import champion_version
from fraud_assets.core.reasons import Rule
from fraud_assets_tests.sentences import because


@pytest.fixture
def ledger(database):
    return LedgerStore(database)


def named(digest):
    """Evidence: an evaluation of this digest, decided while no champion was live."""
    return {"evaluation": {"2018-07": digest}, "ledger": {"champion before 2018-07": None}}


def test_a_ledger_that_was_never_written_is_empty(ledger):
    assert ledger.events() == []


def test_an_event_is_read_back_as_it_was_recorded(ledger):
    before = dt.datetime.now(dt.UTC)
    reasons = because("AP 0.71 exceeds 0.66; it's \U0001f44d\nreally", '- "all"; of it', rule=Rule.BETTER, column="ap")
    assert ledger.record("promoted", 3, "2018-07", reasons, actor="dagster run 1", evidence=named("abc"))
    (event,) = ledger.events()
    assert (event.number, event.kind, event.model_version, event.month) == (1, "promoted", 3, "2018-07")
    assert (event.reasons, event.actor, event.evidence) == (reasons, "dagster run 1", named("abc"))
    assert before - dt.timedelta(seconds=5) <= event.recorded_at <= dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)


def test_the_same_fact_on_the_same_evidence_is_written_once_whoever_says_it_again(ledger):
    assert ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    assert not ledger.record(
        "promoted", 3, "2018-07", because("in other words"), actor="another", evidence=named("abc")
    )
    (event,) = ledger.events()
    assert (event.reasons, event.actor) == (because("because"), "one")


@pytest.mark.parametrize(
    "other",
    [
        ("refused", 3, "2018-07", "abc"),
        ("promoted", 4, "2018-07", "abc"),
        ("promoted", 3, "2018-08", "abc"),
        ("promoted", 3, "2018-07", "abd"),
    ],
    ids=["kind", "version", "month", "evidence"],
)
def test_another_kind_version_month_or_evidence_is_another_fact(ledger, other):
    ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    kind, version, month, evidence = other
    assert ledger.record(kind, version, month, because("because"), actor="one", evidence=named(evidence))
    assert [event.kind for event in ledger.events()] == ["promoted", kind]


def test_events_come_in_the_order_in_which_they_were_written(ledger):
    for version in (5, 2, 9):
        ledger.record("registered", version, "2018-07", because("because"), actor="one")
    events = ledger.events()
    assert [event.model_version for event in events] == [5, 2, 9]
    assert [event.number for event in events] == sorted(event.number for event in events)


def test_the_champion_follows_from_what_was_stored(ledger):
    ledger.record("promoted", 1, "2018-06", because("better"), actor="one", evidence=named("a"))
    ledger.record("promoted", 2, "2018-07", because("better"), actor="one", evidence=named("b"))
    ledger.record("rolled_back", 1, "2018-07", because("it was not"), actor="anna", evidence=named("c"))
    assert champion_version(ledger.events()) == 1
    assert champion_version(ledger.events(), before_month="2018-07") == 1


def test_many_who_record_at_once_write_each_fact_once(ledger):
    written, failures = [], []

    def record(version):
        try:
            written.append(ledger.record("registered", version, "2018-07", because("because"), actor="one"))
        except Exception as error:  # noqa: BLE001 - any error of a writer fails the test below
            failures.append(error)

    threads = [threading.Thread(target=record, args=[version % 3]) for version in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(written) == [False] * 6 + [True] * 3
    assert sorted(event.model_version for event in ledger.events()) == [0, 1, 2]


def test_an_event_from_before_evidence_was_named_is_read_and_the_ledger_goes_on(ledger):
    with ledger.database.session() as connection:
        connection.execute(
            "INSERT INTO ledger (kind, model_version, month, reasons, actor, fact) "
            "VALUES ('promoted', 1, '2018-06', '[]', 'one', 'x')"
        )
    assert [event.evidence for event in ledger.events()] == [{}]
    ledger.record("promoted", 2, "2018-07", because("better still"), actor="one", evidence=named("abc"))
    assert [(event.model_version, event.evidence) for event in ledger.events()] == [(1, {}), (2, named("abc"))]


def test_evidence_that_has_come_back_after_another_decision_is_a_new_fact(ledger):
    for digest in ("abc", "other", "abc", "abc"):
        ledger.record("refused", 3, "2018-07", because("because"), actor="one", evidence=named(digest))
    assert [event.evidence["evaluation"]["2018-07"] for event in ledger.events()] == ["abc", "other", "abc"]


def test_a_person_s_decision_between_two_runs_on_the_same_evidence_adds_nothing(ledger):
    ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    ledger.record(
        "promoted", 2, "2018-07", because("I know better"), actor="ada", evidence={"by hand": {"after event": "1"}}
    )
    assert not ledger.record("promoted", 3, "2018-07", because("because"), actor="one", evidence=named("abc"))
    assert champion_version(ledger.events()) == 2
