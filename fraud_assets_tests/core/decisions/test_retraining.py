"""The decision to retrain: from a base in which everything asks for it, one thing changed per case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fraud_assets.adapters.postgres.migrations.versions.up_to_0009.r0009_retraining_reasons import reasons_of_decision
from fraud_assets.core.decisions.retraining import (
    Attempt,
    DriftSignal,
    ModelFacts,
    RetrainingPolicy,
    Showing,
    decide_retraining,
    decide_retrainings,
)
from fraud_assets.core.digests import digest_text

NOW = datetime(2018, 8, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
SIGNAL = DriftSignal(month="2018-07", drift_status="DRIFT", report_digest="abc", blame="world")
QUIET = replace(SIGNAL, drift_status="OK", blame=None)
POLICY = RetrainingPolicy()
CALENDAR = RetrainingPolicy(triggers=("calendar",), every_months=3)


def attempts(*states, digest="abc", month="2018-07", ended_at=LONG_AGO):
    return [Attempt(digest, number, state, month, ended_at) for number, state in enumerate(states, start=1)]


def decide(signal=SIGNAL, past=(), policy=POLICY, models=None, now=NOW):
    return decide_retraining(signal, past, policy, now=now, models=models)


def said(decision):
    return tuple(reason.text for reason in decision.reasons)


# Drift


def test_drift_without_attempts_requests_the_first():
    decision = decide()
    assert (decision.request, decision.attempt_number, decision.pending) == (True, 1, True)
    assert (decision.trigger, decision.run_key) == ("drift", "retrain:2018-07:abc:1")
    assert said(decision) == ("the data of 2018-07 drifted and no retraining was requested for this report yet",)


@pytest.mark.parametrize("status", ["OK", "WATCH", "INSUFFICIENT_DATA"])
def test_nothing_but_drift_asks(status):
    decision = decide(replace(SIGNAL, drift_status=status))
    assert (decision.request, decision.attempt_number, decision.run_key) == (False, None, None)
    assert not decision.pending
    assert said(decision) == (f"drift_status of 2018-07 is {status}; only DRIFT asks for a retraining",)


def test_a_drift_that_blames_nothing_counts_as_the_world_s():
    assert decide(replace(SIGNAL, blame=None)).request


@pytest.mark.parametrize(
    ("blame", "words"), [("data", "for the owner of the feed"), ("labels", "for those who give them")]
)
def test_on_what_the_report_calls_broken_no_model_is_trained_whatever_asks(blame, words):
    policy = RetrainingPolicy(triggers=("drift", "performance", "age", "calendar"))
    decision = decide(replace(SIGNAL, blame=blame), policy=policy, models=OLD)
    assert (decision.decision, decision.trigger) == ("no", None)
    assert words in said(decision)[0]


def test_a_policy_without_drift_lets_drift_pass():
    decision = decide(policy=RetrainingPolicy(triggers=("age",)))
    assert said(decision) == ("the data of 2018-07 drifted, but the policy does not retrain for drift",)


@pytest.mark.parametrize(
    ("past", "number", "pending", "words"),
    [
        (attempts("in_progress"), None, True, "attempt 1 for this drift report of 2018-07 is in progress"),
        (attempts("succeeded"), None, False, "already retrained"),
        (attempts("failed"), 2, True, "attempt 1 for this drift report of 2018-07 failed; attempt 2 of 3"),
        (attempts("failed", "failed"), 3, True, "attempt 3 of 3"),
        (attempts("failed", "failed", "failed"), None, False, "by hand"),
        (attempts("failed", "in_progress"), None, True, "attempt 2"),
        (attempts("failed", "succeeded"), None, False, "already retrained"),
        (attempts("in_progress", digest="old"), 1, True, "no retraining was requested for this report"),
        (attempts("succeeded", digest="old"), 1, True, "no retraining was requested for this report"),
        (attempts("failed", "failed", "failed", digest="old"), 1, True, "for this report yet"),
        ([*attempts("succeeded", digest="old"), *attempts("failed")], 2, True, "attempt 2 of 3"),
        (attempts("succeeded", month="2018-06"), 1, True, "for this report yet"),
    ],
)
def test_one_report_is_retrained_for_once(past, number, pending, words):
    decision = decide(past=past)
    assert decision.request == (number is not None)
    assert decision.attempt_number == number
    assert decision.run_key == (f"retrain:2018-07:abc:{number}" if number else None)
    assert decision.pending == pending
    assert len(decision.reasons) == 1
    assert words in said(decision)[0]


def test_the_order_of_the_attempts_does_not_matter():
    past = attempts("failed", "failed")
    assert decide(past=past[::-1]) == decide(past=past)


def test_the_next_attempt_follows_the_highest_number_even_when_earlier_ones_are_forgotten():
    assert decide(past=[Attempt("abc", 2, "failed", "2018-07")]).run_key == "retrain:2018-07:abc:3"


def test_the_policy_sets_how_many_attempts_there_are():
    past = attempts("failed")
    assert not decide(past=past, policy=RetrainingPolicy(max_attempts=1)).request
    assert decide(past=past, policy=RetrainingPolicy(max_attempts=2)).request


def test_a_drift_that_fails_until_it_works_requests_each_attempt_once():
    past, keys = [], []
    for outcome in ("failed", "failed", "succeeded"):
        decision = decide(past=past)
        keys.append(decision.run_key)
        running = Attempt("abc", decision.attempt_number, "in_progress", "2018-07")
        assert decide(past=[*past, running]).request is False
        past.append(replace(running, state=outcome))
    assert keys == ["retrain:2018-07:abc:1", "retrain:2018-07:abc:2", "retrain:2018-07:abc:3"]
    assert decide(past=past).pending is False


# Back-off


@pytest.mark.parametrize(
    ("failed", "minutes", "asks"),
    [(1, 4, False), (1, 5, True), (2, 29, False), (2, 30, True), (3, 29, False), (3, 30, True)],
)
def test_each_failed_attempt_is_waited_for_longer_than_the_one_before(failed, minutes, asks):
    past = attempts(*["failed"] * failed, ended_at=NOW - timedelta(minutes=minutes))
    decision = decide(past=past, policy=RetrainingPolicy(max_attempts=9))
    assert (decision.request, decision.pending) == (asks, True)


def test_a_wait_says_until_when_in_the_same_words_at_every_tick():
    past = attempts("failed", ended_at=NOW)
    first, second = (decide(past=past, now=NOW + timedelta(minutes=passed)) for passed in (1, 2))
    assert said(first) == (
        "attempt 1 for this drift report of 2018-07 failed; the next one is made from 2018-08-01 12:05 UTC on",
    )
    assert first.fact == second.fact


# Cool-down


@pytest.mark.parametrize(
    ("month", "state", "decision"),
    [
        ("2018-06", "succeeded", "no"),
        ("2018-05", "succeeded", "no"),
        ("2018-04", "succeeded", "retrain"),
        ("2018-08", "succeeded", "no"),
        ("2018-06", "in_progress", "wait"),
        ("2018-06", "failed", "retrain"),
        ("2018-07", "succeeded", "retrain"),
    ],
)
def test_within_the_cool_down_of_another_month_s_model_none_is_trained(month, state, decision):
    policy = RetrainingPolicy(cooldown_months=3)
    decided = decide(past=attempts(state, digest="other", month=month), policy=policy)
    assert decided.decision == decision


def test_the_cool_down_says_which_model_stands_in_the_way():
    decided = decide(past=attempts("succeeded", month="2018-06"), policy=RetrainingPolicy(cooldown_months=2))
    assert said(decided) == (
        "the data of 2018-07 drifted, but a model of 2018-06 was trained instead, and two of them are at least "
        "2 months apart",
    )


def test_a_retraining_that_was_begun_is_repeated_in_spite_of_the_cool_down():
    past = [*attempts("failed"), *attempts("succeeded", digest="other", month="2018-06")]
    assert decide(past=past, policy=RetrainingPolicy(cooldown_months=3)).attempt_number == 2


def test_several_months_are_decided_in_their_order_and_each_counts_for_the_next():
    months = ["2018-07", "2018-04", "2018-05"]
    signals = [replace(SIGNAL, month=month) for month in months]
    decided = decide_retrainings(signals, [], RetrainingPolicy(cooldown_months=2), now=NOW)
    assert [(one.month, one.decision) for one in decided] == [
        ("2018-04", "retrain"), ("2018-05", "wait"), ("2018-07", "retrain"),
    ]  # fmt: skip


def test_without_a_cool_down_several_months_all_ask():
    signals = [replace(SIGNAL, month=month) for month in ("2018-05", "2018-06", "2018-07")]
    assert [one.request for one in decide_retrainings(signals, [], POLICY, now=NOW)] == [True, True, True]


# Performance, age, calendar

OLD = ModelFacts(
    champion_version=3,
    champion_month="2017-07",
    newest_month="2017-09",
    promised=Showing("2017-09", 0.60, 0.70, 0.80),
    realised=Showing("2018-07", 0.50, 0.58, 0.70),
)
YOUNG = replace(OLD, champion_month="2018-03", newest_month="2018-05")


def test_a_champion_that_is_shown_to_be_worse_than_promised_asks():
    decision = decide(QUIET, models=YOUNG)
    assert (decision.trigger, decision.run_key) == ("performance", "retrain:2018-07:performance-v3:1")
    assert said(decision) == (
        "the champion, version 3, shows an average precision of at most 0.580 on the labels matured by the end of "
        "2018-07; in 2017-09 it showed at least 0.600",
    )


@pytest.mark.parametrize(
    "realised",
    [
        None,
        Showing("2018-07", 0.50, 0.61, 0.70),
        Showing("2018-07", 0.50, float("nan"), 0.70),
        Showing("2018-07", None, None, None),
        Showing("2018-07", 0.50, 0.58, 0.80),
        Showing("2018-07", 0.50, 0.58, None),
        Showing("2017-09", 0.50, 0.58, 0.70),
    ],
    ids=["not judged", "intervals meet", "nan", "unknown", "fraud is only rarer", "no recall", "the promise itself"],
)
def test_what_is_not_shown_to_be_worse_does_not_ask(realised):
    assert decide(QUIET, models=replace(YOUNG, realised=realised)).decision == "no"


def test_a_champion_of_twelve_months_asks_and_one_of_eleven_does_not():
    facts = ModelFacts(champion_version=3, champion_month="2017-07", newest_month="2017-07")
    decision = decide(QUIET, models=facts)
    assert (decision.trigger, decision.run_key) == ("age", "retrain:2018-07:age-v3:1")
    assert said(decision) == ("the champion, version 3, is 12 months old at the end of 2018-07; 12 are too many",)
    assert decide(QUIET, models=replace(facts, champion_month="2017-08")).decision == "no"


@pytest.mark.parametrize(
    ("newest", "asks"), [("2018-04", True), ("2018-05", False), (None, True), ("2018-07", False), ("2019-07", False)]
)
def test_the_calendar_counts_from_the_newest_model(newest, asks):
    assert decide(QUIET, policy=CALENDAR, models=ModelFacts(newest_month=newest)).request == asks


def test_the_calendar_is_off_by_default():
    assert not decide(QUIET, models=ModelFacts()).request


def test_a_calendar_that_was_turned_on_late_does_not_ask_for_each_month_of_the_past():
    signals = [replace(QUIET, month=f"2018-0{number}") for number in range(1, 9)]
    decided = decide_retrainings(signals, [], CALENDAR, now=NOW)
    assert [one.month for one in decided if one.request] == ["2018-01", "2018-04", "2018-07"]


@pytest.mark.parametrize("state", ["succeeded", "in_progress"])
def test_a_month_that_is_retrained_for_drift_needs_no_other_model(state):
    past = attempts(state)
    assert decide(QUIET, past=past, models=OLD).decision == "no"


@pytest.mark.parametrize(
    ("past", "decision", "number"),
    [
        (attempts("in_progress", digest="calendar"), "wait", None),
        (attempts("succeeded", digest="calendar"), "no", None),
        (attempts("failed", digest="calendar"), "retrain", 2),
        (attempts("failed", "failed", "failed", digest="calendar"), "no", None),
        (attempts("succeeded", digest="calendar", month="2018-05"), "no", None),
        (attempts("succeeded", digest="calendar", month="2018-04"), "retrain", 1),
    ],
)
def test_what_the_calendar_asked_for_is_asked_for_once_and_again_if_it_failed(past, decision, number):
    decided = decide(QUIET, past=past, policy=CALENDAR, models=ModelFacts(newest_month="2018-01"))
    assert (decided.decision, decided.attempt_number) == (decision, number)


def test_a_calendar_request_outlives_a_report_that_changed():
    past = attempts("in_progress", digest="calendar")
    changed = replace(QUIET, report_digest="another")
    assert decide(changed, past=past, policy=CALENDAR, models=ModelFacts()).decision == "wait"


def test_all_that_asks_is_named_and_drift_is_what_is_answered():
    decision = decide(models=OLD)
    assert decision.trigger == "drift"
    assert len(decision.reasons) == 3
    assert "average precision" in said(decision)[1]
    assert "12 months old" in said(decision)[2]


# The record


def test_what_is_only_still_so_is_no_news():
    assert [decide(past=attempts(state)).is_news for state in ("in_progress", "succeeded", "failed")] == [
        False, False, True,
    ]  # fmt: skip


def test_one_request_is_one_fact_whatever_else_has_come_to_ask_for_it():
    assert decide().fact == decide(models=OLD).fact == "retrain:2018-07:abc:1"


@pytest.mark.parametrize(
    ("signal", "past", "policy", "models", "rules"),
    [
        (QUIET, (), POLICY, None, ["no_drift"]),
        (replace(SIGNAL, blame="data"), (), POLICY, None, ["broken_data"]),
        (replace(SIGNAL, blame="labels"), (), POLICY, None, ["broken_labels"]),
        (SIGNAL, (), CALENDAR, ModelFacts(newest_month="2018-07"), ["drift_off"]),
        (SIGNAL, (), POLICY, OLD, ["drifted", "worse_than_promised", "too_old"]),
        (QUIET, (), CALENDAR, ModelFacts(), ["model_due"]),
        (SIGNAL, attempts("failed"), POLICY, None, ["next_attempt"]),
        (SIGNAL, attempts("failed", ended_at=NOW), POLICY, None, ["waits"]),
        (SIGNAL, attempts("failed", "failed", "failed"), POLICY, None, ["given_up"]),
        (SIGNAL, attempts("in_progress"), POLICY, None, ["in_progress"]),
        (SIGNAL, attempts("succeeded"), POLICY, None, ["already_retrained"]),
        (SIGNAL, attempts("succeeded", month="2018-06"), RetrainingPolicy(cooldown_months=2), None, ["cool_down"]),
        (SIGNAL, attempts("in_progress", month="2018-06"), RetrainingPolicy(cooldown_months=2), None, ["cool_down"]),
    ],
)
def test_each_reason_has_a_rule_which_revision_0009_tells_from_its_sentence(signal, past, policy, models, rules):
    reasons = decide(signal, past, policy, models).reasons
    assert [reason.rule for reason in reasons] == rules
    assert reasons_of_decision([reason.text for reason in reasons]) == [reason.to_dict() for reason in reasons]


def test_a_sentence_that_is_not_recognised_is_kept():
    assert reasons_of_decision(["nothing asks", "attempt 1"]) == [
        {"rule": "earlier_version", "text": text, "column": None} for text in ("nothing asks", "attempt 1")
    ]


def test_a_decision_is_known_by_the_fact_that_it_had_when_reasons_were_sentences():
    sentence = "drift_status of 2018-07 is OK; only DRIFT asks for a retraining"
    assert decide(QUIET).fact == digest_text("2018-07", "abc", "no", sentence)


def test_the_same_answer_to_another_report_is_another_fact():
    assert decide(QUIET).fact != decide(replace(QUIET, report_digest="another")).fact


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(SIGNAL, month="July"), "YYYY-MM"),
        (lambda: replace(SIGNAL, drift_status="drift"), "drift_status of 2018-07 is 'drift'"),
        (lambda: replace(SIGNAL, report_digest=""), "has no digest"),
        (lambda: replace(SIGNAL, blame="weather"), "blame of 2018-07 is 'weather'"),
        (lambda: Attempt("abc", 0, "failed", "2018-07"), "numbered from 1"),
        (lambda: Attempt("abc", 1, "FAILURE", "2018-07"), "attempt 1 has the state 'FAILURE'"),
        (lambda: RetrainingPolicy(max_attempts=0), "max_attempts must be at least 1"),
        (lambda: RetrainingPolicy(triggers=("drift", "moon")), "'moon' asks for no retraining"),
        (lambda: RetrainingPolicy(waits=()), "waits must name"),
    ],
)
def test_what_cannot_be_right_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
