"""What is an alert, what it says, and when it is tried again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fraud_assets.core.decisions.alerts import (
    AlertPolicy,
    Delivery,
    Fact,
    Failure,
    MonthRows,
    SendAttempt,
    data_facts,
    drift_fact,
    due,
    message,
    promotion_fact,
    run_fact,
)
from fraud_assets.core.decisions.ledger import Event
from fraud_assets.core.intake.quarantine import FIRST_ROWS
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets_tests.sentences import because

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POLICY = AlertPolicy()
FACT = Fact("drift", "drift:2025-03:a", "2025-03", "Amounts doubled.", "https://ui/assets/drift_report", NOW)


def rows(**changes: object) -> list[str]:
    """The sentences about a month of 1,000 rows with a limit of 5 %."""
    good = MonthRows(delivered=1000, stored=1000, quarantined=0)
    facts = data_facts("2025-03", replace(good, **changes), 0.05, link=None, at=NOW)  # type: ignore[arg-type]
    assert all(fact.kind == "broken_data" for fact in facts)
    return [fact.sentence for fact in facts]


@pytest.mark.parametrize("status", ["OK", "WATCH", "INSUFFICIENT_DATA"])
def test_only_drift_is_a_fact(status: str) -> None:
    assert drift_fact("2025-03", status, "world", "a", [], link=None, at=NOW) is None


def test_the_same_report_is_the_same_fact_and_another_report_another() -> None:
    keys = {
        fact.key
        for digest in ("a", "a", "b")
        if (fact := drift_fact("2025-03", "DRIFT", "world", digest, ["Amounts doubled"], link=None, at=NOW))
    }
    assert keys == {"drift:2025-03:a", "drift:2025-03:b"}


@pytest.mark.parametrize(
    ("blame", "kind"), [("world", "drift"), ("labels", "drift"), (None, "drift"), ("data", "broken_data")]
)
def test_what_a_report_blames_on_the_data_is_for_their_owner(blame: str | None, kind: str) -> None:
    fact = drift_fact("2025-03", "DRIFT", blame, "a", ["amount is empty in 10 % of rows"], link=None, at=NOW)
    assert fact is not None
    assert (fact.kind, fact.sentence) == (kind, "amount is empty in 10 % of rows")


def test_a_month_without_fault_is_no_fact() -> None:
    assert rows() == []


@pytest.mark.parametrize(("quarantined", "told"), [(25, False), (26, True)])
def test_quarantine_is_a_fact_above_half_of_the_limit(quarantined: int, told: bool) -> None:
    assert bool(rows(quarantined=quarantined, stored=1000 - quarantined)) == told


def test_dropped_rows_do_not_count_against_the_month() -> None:
    assert rows(stored=960, quarantined=40, dropped=15) == []


def test_quarantine_says_how_much_of_what_and_where_the_limit_is() -> None:
    [said] = rows(
        stored=960,
        quarantined=40,
        reasons=tuple(zip(because("amount is missing", "amount is below 0"), (30, 10), strict=True)),
    )
    assert said == (
        "40 of 1,000 rows of 2025-03 (4.0 %) break the contract and are held back; above 5.0 % the month is refused. "
        "amount is missing (30 rows); amount is below 0 (10 rows)."
    )


@pytest.mark.parametrize(("stored", "said"), [(993, "7 are missing"), (1002, "2 are too many")])
def test_rows_that_are_nowhere_or_twice_are_a_fact(stored: int, said: str) -> None:
    [sentence] = rows(stored=stored)
    assert said in sentence


@pytest.mark.parametrize("error_class", ["IntakeError", "ContractError", "SourceError"])
def test_a_run_that_failed_because_the_data_was_refused_is_broken_data_and_the_same_fact_in_each_run(
    error_class: str,
) -> None:
    failures = [Failure("raw_transactions", error_class, "9 of 10 rows break the contract")]
    one, other = (run_fact(run, "retraining", "2025-03", failures, link=None, at=NOW) for run in ("a", "b"))
    assert (one.kind, one.key) == ("broken_data", other.key)
    assert "9 of 10 rows break the contract" in one.sentence


def test_a_refusal_by_an_earlier_version_is_told_without_the_values_of_its_rows() -> None:
    said = (
        "f.csv: 9 of 10 rows break it. mail is odd: 5 rows, first row 3 of f.csv (mail = 'jo (x); @b.com'); "
        "amount is below 0: 4 rows, first row 7 of f.csv (amount = '-619.8')"
    )
    fact = run_fact("a", "j", "2025-03", [Failure("x", "IntakeError", said)], link=None, at=NOW)
    assert fact.sentence == (
        "The data was refused, and is not used: f.csv: 9 of 10 rows break it. mail is odd: 5 rows; "
        "amount is below 0: 4 rows"
    )


def test_a_refused_delivery_is_told_with_every_reason_whole_and_without_the_values_of_its_rows() -> None:
    listed = "f.csv: 9 of 10 rows break it. kind is none of ['a; b: 2 rows, first row 1']: 5 rows; mail is odd: 4 rows"
    values = "row 3 of f.csv (kind = 'x; y'); row 7 of f.csv (mail = 'jo (x); @b.com')"
    fact = run_fact("a", "j", "2025-03", [Failure("x", "IntakeError", listed + FIRST_ROWS + values)], link=None, at=NOW)
    assert fact.sentence == f"The data was refused, and is not used: {listed}"


def test_any_other_failed_run_is_a_fact_of_its_own_that_says_where_and_why() -> None:
    failures = [Failure("trained_model", "MemoryError", "no memory")]
    fact = run_fact("0123456789", "retraining", "2025-03", failures, link=None, at=NOW)
    assert (fact.kind, fact.key) == ("failed_run", "run:0123456789")
    assert fact.sentence == "A run of retraining for 2025-03 failed. trained_model: no memory (run 01234567)"


def test_a_run_that_was_killed_has_no_step_to_name() -> None:
    assert "outside its steps" in run_fact("01", "retraining", None, [], link=None, at=NOW).sentence


def test_a_password_in_an_error_is_hidden() -> None:
    failures = [Failure("x", "OSError", "cannot reach postgresql://fraud:hunter2@db/fraud")]
    assert "hunter2" not in run_fact("01", "retraining", None, failures, link=None, at=NOW).sentence


def test_an_endless_error_is_cut() -> None:
    assert len(run_fact("01", "j", None, [Failure("x", "E", "word " * 1000)], link=None, at=NOW).sentence) <= 700


@pytest.mark.parametrize("kind", ["registered", "validated", "promoted", "rolled_back"])
def test_only_a_refusal_in_the_ledger_is_a_fact(kind: str) -> None:
    event = Event(4, NOW, kind, 7, "2025-03", because("AP 0.60", "against 0.66."), "alice")  # type: ignore[arg-type]
    assert promotion_fact(event, link=None) is None
    refused = promotion_fact(replace(event, kind="refused"), link=None)
    assert refused is not None
    assert refused.sentence == "Model version 7 does not go live. AP 0.60 against 0.66."


def test_a_model_that_waits_for_a_person_is_a_fact() -> None:
    reasons = (*because("It is cheaper."), Reason(Rule.NEEDS_APPROVAL, "It goes live when a person approves it."))
    fact = promotion_fact(Event(4, NOW, "validated", 7, "2025-03", reasons, "dagster run 1"), link=None)
    assert fact is not None
    assert (fact.kind, fact.month, fact.key) == ("waiting_promotion", "2025-03", "waiting_promotion:4")
    assert fact.sentence == (
        "Model version 7 waits for a person. It is cheaper. It goes live when a person approves it."
    )


def test_a_message_about_one_fact_says_what_why_where_and_when() -> None:
    subject, body = message([FACT])
    assert subject == "[fraud] drift in 2025-03"
    assert body.splitlines() == [
        "DRIFT IN 2025-03",
        "Amounts doubled.",
        "See what moved with `fraud drift 2025-03`.",
        "https://ui/assets/drift_report",
        "(2026-01-01 12:00 UTC)",
    ]


def test_a_message_about_many_facts_names_three_in_its_subject_and_all_in_its_body() -> None:
    facts = [replace(FACT, key=str(month), month=f"2025-{month:02d}") for month in range(1, 6)]
    subject, body = message(facts)
    assert subject == "[fraud] 5 alerts: drift in 2025-01, drift in 2025-02, drift in 2025-03 and 2 more"
    assert [month for month in range(1, 6) if f"DRIFT IN 2025-{month:02d}" in body] == [1, 2, 3, 4, 5]


def failed(*after: timedelta) -> Delivery:
    """A delivery with failed attempts at these times after NOW."""
    return Delivery(FACT, "web", tuple(SendAttempt(NOW + at, "refused") for at in after))


@pytest.mark.parametrize(
    ("attempts", "wait"),
    [(1, MINUTE), (2, 2 * MINUTE), (3, 4 * MINUTE), (8, 128 * MINUTE), (9, 4 * HOUR), (60, 4 * HOUR)],
)  # fmt: skip
def test_the_wait_doubles_from_a_minute_up_to_four_hours(attempts: int, wait: timedelta) -> None:
    delivery = failed(*[timedelta()] * attempts)
    assert delivery.next_attempt_at(POLICY) == NOW + wait
    assert due([delivery], NOW + wait - timedelta(seconds=1), POLICY) == {}
    assert due([delivery], NOW + wait, POLICY) == {"web": [delivery]}


def test_a_new_delivery_is_due_at_once_even_when_its_fact_comes_from_a_clock_that_is_ahead() -> None:
    assert due([Delivery(FACT, "web")], NOW - HOUR, POLICY)["web"]


def test_what_was_delivered_is_never_due_again() -> None:
    delivery = Delivery(FACT, "web", (SendAttempt(NOW, "refused"), SendAttempt(NOW + MINUTE, None)))
    assert (delivery.state(POLICY), delivery.delivered_at) == ("delivered", NOW + MINUTE)
    assert due([delivery], NOW + timedelta(days=9), POLICY) == {}


def test_it_is_given_up_when_three_days_of_attempts_failed() -> None:
    assert failed(timedelta(), timedelta(days=3)).state(POLICY) == "given_up"
    assert due([failed(timedelta(), timedelta(days=3))], NOW + timedelta(days=9), POLICY) == {}


def test_a_pause_of_the_sensor_is_no_reason_to_give_up() -> None:
    assert due([failed(timedelta())], NOW + timedelta(days=9), POLICY)["web"]


def test_channels_that_failed_least_come_first_and_a_message_holds_ten_facts() -> None:
    fresh = [Delivery(replace(FACT, key=str(number)), "mail") for number in range(12)]
    found = due([failed(timedelta()), *fresh], NOW + HOUR, POLICY)
    assert list(found) == ["mail", "web"]
    assert found["mail"] == fresh[:10]
