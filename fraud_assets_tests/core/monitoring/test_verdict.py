"""What a month's findings mean together."""

from __future__ import annotations

from typing import Any

import pytest

from fraud_assets.core.drift.findings import Finding
from fraud_assets.core.monitoring.verdict import NEXT_STEPS, hold, in_sentences, judge_month
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets_tests.sentences import texts


def finding(status: Any, cause: Any = None, kind: Any = "covariate", feature: str = "amount", **more: Any) -> Finding:
    reason = f"{kind} {feature} {status}"
    return Finding(kind=kind, feature=feature, method="test", status=status, reason=reason, cause=cause, **more)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["OK", "OK"], "OK"),
        (["OK", "WATCH"], "WATCH"),
        (["WATCH", "DRIFT", "OK"], "DRIFT"),
        (["OK", "INSUFFICIENT_DATA"], "OK"),
        (["INSUFFICIENT_DATA", "INSUFFICIENT_DATA"], "INSUFFICIENT_DATA"),
        (["DRIFT", "INSUFFICIENT_DATA"], "DRIFT"),
    ],
)
def test_the_worst_status_counts_and_what_could_not_be_compared_is_a_remark(statuses: list[str], expected: str) -> None:
    assert judge_month([finding(status) for status in statuses]).drift_status == expected


def test_labels_that_have_not_come_yet_do_not_make_a_quiet_month_suspicious_but_are_told() -> None:
    verdict = judge_month([finding("OK"), finding("INSUFFICIENT_DATA", kind="concept", feature="average_precision")])
    assert verdict.drift_status == "OK"
    assert "concept average_precision INSUFFICIENT_DATA" in texts(verdict.reasons)


def test_a_month_of_which_nothing_that_came_in_could_be_compared_is_not_ok() -> None:
    verdict = judge_month([finding("INSUFFICIENT_DATA"), finding("OK", kind="label", feature="fraud_rate")])
    assert verdict.drift_status == "INSUFFICIENT_DATA"


def test_without_a_champion_no_other_model_is_promised() -> None:
    verdict = judge_month([finding("DRIFT", cause="scaled")])
    assert verdict.blame == "world"
    said = in_sentences(verdict.blame, verdict.reasons, has_champion=False)
    assert said[0] == "the world changed: what a model learns from earlier months may not hold"


def test_nothing_at_all_is_insufficient() -> None:
    assert judge_month([]).drift_status == "INSUFFICIENT_DATA"


@pytest.mark.parametrize(
    ("causes", "blame", "retrains"),
    [
        (["scaled"], "world", True),
        ([None], "world", True),
        (["scaled", "missing_values"], "data", False),
        (["shifted_clock"], "data", False),
        (["fraud_rate", "label_delay"], "labels", False),
        (["label_delay", "lost_feature"], "data", False),
    ],
)
def test_a_fault_takes_the_blame_for_what_moved_beside_it(causes: list[str | None], blame: str, retrains: bool) -> None:
    verdict = judge_month([finding("DRIFT", cause) for cause in causes])
    assert (verdict.blame, verdict.asks_for_retraining) == (blame, retrains)
    said = in_sentences(verdict.blame, verdict.reasons, has_champion=True)
    assert said[0] == NEXT_STEPS[verdict.blame]  # type: ignore[index]


def test_a_small_fault_does_not_take_the_blame_for_a_drift() -> None:
    assert judge_month([finding("DRIFT", "scaled"), finding("WATCH", "missing_values")]).blame == "world"


@pytest.mark.parametrize("status", ["OK", "WATCH"])
def test_only_drift_asks_for_a_retraining(status: str) -> None:
    assert not judge_month([finding(status, "scaled")]).asks_for_retraining


def test_reasons_come_gravest_first_and_the_fault_before_what_follows_from_it() -> None:
    verdict = judge_month(
        [
            finding("WATCH", kind="prediction", feature="score"),
            finding("DRIFT", feature="amount_ratio", psi=0.9),
            finding("DRIFT", "missing_values", kind="missing", feature="amount"),
        ]
    )
    assert texts(verdict.reasons) == (
        "missing amount DRIFT",
        "covariate amount_ratio DRIFT",
        "prediction score WATCH",
    )


def test_a_reason_names_the_kind_of_its_finding_and_the_feature() -> None:
    (reason,) = judge_month([finding("DRIFT", "missing_values", kind="missing", feature="amount")]).reasons
    assert reason == Reason(Rule.MISSING, "missing amount DRIFT", "amount")


def test_what_an_earlier_version_said_to_do_next_gives_way_to_what_is_said_now() -> None:
    before = Reason(Rule.NEXT_STEP, "the world is another: train a model")
    reasons = [before, Reason(Rule.COVARIATE, "amount rose; or\n- fell", "amount")]
    assert in_sentences("world", reasons, has_champion=True) == [NEXT_STEPS["world"], "amount rose; or\n- fell"]
    assert in_sentences(None, reasons, has_champion=True) == ["amount rose; or\n- fell"]


def test_of_very_many_reasons_the_rest_is_counted() -> None:
    verdict = judge_month([finding("WATCH", feature=f"f{number:02}") for number in range(20)])
    assert verdict.reasons[-1].rule is Rule.MORE_FINDINGS
    assert verdict.reasons[-1].text == "and 8 more, in the rows of the report"


def test_a_quiet_month_says_how_much_was_looked_at_and_what_the_model_costs() -> None:
    verdict = judge_month(
        [finding("OK", p_adjusted=0.25), finding("OK", feature="hour"), finding("OK", kind="concept", feature="cost")]
    )
    assert texts(verdict.reasons) == (
        "none of the 3 checks found a change to act on (smallest adjusted p 0.250)",
        "concept cost OK",
    )


@pytest.mark.parametrize(
    ("before", "now", "held"),
    [("DRIFT", "WATCH", "DRIFT"), ("DRIFT", "OK", "OK"), ("WATCH", "WATCH", "WATCH"), ("WATCH", "DRIFT", "DRIFT")],
)
def test_what_drifted_stays_drifted_until_it_is_back_within_the_limits_of_watch(
    before: str, now: str, held: str
) -> None:
    (result,) = hold([finding(now)], [finding(before)])
    assert result.status == held
    assert ("not back yet" in result.reason) == (held != now)


def test_another_feature_s_drift_holds_nothing() -> None:
    (result,) = hold([finding("WATCH")], [finding("DRIFT", feature="hour")])
    assert result.status == "WATCH"
