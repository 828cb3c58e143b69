"""The decision to retrain: from a base in which everything asks for it, one thing changed per case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fraud_assets.core.retraining import Attempt, DriftSignal, RetrainingPolicy, decide_retraining

SIGNAL = DriftSignal(month="2018-07", drift_status="DRIFT", report_digest="abc")
POLICY = RetrainingPolicy()


def attempts(*states, digest="abc"):
    return [Attempt(digest, number, state) for number, state in enumerate(states, start=1)]


def test_drift_without_attempts_requests_the_first():
    decision = decide_retraining(SIGNAL, [], POLICY)
    assert (decision.request, decision.attempt_number, decision.pending) == (True, 1, True)
    assert decision.run_key == "retrain:2018-07:abc:1"
    assert decision.reasons == ("the data of 2018-07 drifted and no retraining was requested for this report yet",)


@pytest.mark.parametrize("status", ["OK", "WATCH", "INSUFFICIENT_DATA"])
def test_nothing_but_drift_asks(status):
    decision = decide_retraining(replace(SIGNAL, drift_status=status), [], POLICY)
    assert (decision.request, decision.attempt_number, decision.run_key) == (False, None, None)
    assert not decision.pending
    assert decision.reasons == (f"drift_status of 2018-07 is {status}; only DRIFT asks for a retraining",)


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
    ],
)
def test_one_report_is_retrained_for_once(past, number, pending, words):
    decision = decide_retraining(SIGNAL, past, POLICY)
    assert decision.request == (number is not None)
    assert decision.attempt_number == number
    assert decision.run_key == (f"retrain:2018-07:abc:{number}" if number else None)
    assert decision.pending == pending
    assert len(decision.reasons) == 1
    assert words in decision.reasons[0]


def test_the_order_of_the_attempts_does_not_matter():
    past = attempts("failed", "failed")
    assert decide_retraining(SIGNAL, past[::-1], POLICY) == decide_retraining(SIGNAL, past, POLICY)


def test_the_next_attempt_follows_the_highest_number_even_when_earlier_ones_are_forgotten():
    decision = decide_retraining(SIGNAL, [Attempt("abc", 2, "failed")], POLICY)
    assert decision.run_key == "retrain:2018-07:abc:3"


def test_the_policy_sets_how_many_attempts_there_are():
    past = attempts("failed")
    assert not decide_retraining(SIGNAL, past, RetrainingPolicy(max_attempts=1)).request
    assert decide_retraining(SIGNAL, past, RetrainingPolicy(max_attempts=2)).request


def test_a_drift_that_fails_until_it_works_requests_each_attempt_once():
    past, keys = [], []
    for outcome in ("failed", "failed", "succeeded"):
        decision = decide_retraining(SIGNAL, past, POLICY)
        keys.append(decision.run_key)
        running = Attempt("abc", decision.attempt_number, "in_progress")
        assert decide_retraining(SIGNAL, [*past, running], POLICY).request is False
        past.append(replace(running, state=outcome))
    assert keys == ["retrain:2018-07:abc:1", "retrain:2018-07:abc:2", "retrain:2018-07:abc:3"]
    assert decide_retraining(SIGNAL, past, POLICY).pending is False


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replace(SIGNAL, month="July"), "YYYY-MM"),
        (lambda: replace(SIGNAL, drift_status="drift"), "drift_status of 2018-07 is 'drift'"),
        (lambda: replace(SIGNAL, report_digest=""), "has no digest"),
        (lambda: Attempt("abc", 0, "failed"), "numbered from 1"),
        (lambda: Attempt("abc", 1, "FAILURE"), "attempt 1 has the state 'FAILURE'"),
        (lambda: RetrainingPolicy(max_attempts=0), "at least 1"),
    ],
)
def test_a_signal_that_cannot_be_right_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
