"""What each retraining policy does, month by month."""

from __future__ import annotations

import pytest

from fraud_assets.core.backtest.replay import PolicyError, Step, parse_policies, replay
from fraud_assets.core.monitoring.month import MonthReport
from fraud_assets.core.monitoring.verdict import Verdict
from fraud_assets.core.months import months_between
from fraud_assets_tests.sentences import because, texts

YEAR = months_between("2025-03", "2025-08")
QUIET = Verdict("OK", None, because("nothing moved"))
CHANGED = Verdict("DRIFT", "world", because("amounts rose"))
BROKEN = Verdict("DRIFT", "data", because("amounts are missing"))
LATE = Verdict("DRIFT", "labels", because("labels come late"))
UNEASY = Verdict("WATCH", "world", because("amounts may have risen"))


def replayed(policy: str, verdicts: dict[str, Verdict], failing: tuple[str, ...] = ()) -> tuple[Step, ...]:
    [one] = parse_policies(policy)
    return replay(
        one,
        YEAR,
        "2025-02",
        monitor=lambda _steps, month, _trained: MonthReport(verdicts.get(month, QUIET), (), 1, None),
        train=lambda month: "too few frauds" if month in failing else None,
    )


def trained_at_the_end_of(steps: tuple[Step, ...]) -> list[str]:
    return [step.month for step in steps if step.retrained]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("never", []),
        ("monthly", ["2025-03", "2025-04", "2025-05", "2025-06", "2025-07"]),
        ("every-1", ["2025-03", "2025-04", "2025-05", "2025-06", "2025-07"]),
        # The first model is of February, three months old at the end of May.
        ("every-3", ["2025-05"]),
        ("every-2", ["2025-04", "2025-06"]),
        ("on-drift", ["2025-06"]),
        ("on-watch", ["2025-03", "2025-06"]),
    ],
)
def test_a_policy_trains_when_its_name_says(policy: str, expected: list[str]) -> None:
    verdicts = {"2025-03": UNEASY, "2025-04": BROKEN, "2025-05": LATE, "2025-06": CHANGED}
    assert trained_at_the_end_of(replayed(policy, verdicts)) == expected


def test_a_new_model_is_live_from_the_month_after_its_training_on() -> None:
    steps = replayed("on-drift", {"2025-05": CHANGED})
    assert [step.trained for step in steps] == ["2025-02"] * 3 + ["2025-05"] * 3


def test_nothing_is_trained_at_the_last_month_s_end_and_the_reason_says_so() -> None:
    last = replayed("on-drift", {YEAR[-1]: CHANGED})[-1]
    assert not last.retrained
    assert texts(last.reasons) == (
        "the report says DRIFT, and blames the world",
        "not trained, the replay ends here",
    )


def test_a_training_that_is_not_possible_leaves_the_old_model_live_and_is_asked_for_again() -> None:
    steps = replayed("every-2", {}, failing=("2025-04",))
    assert texts(steps[1].reasons) == ("the model is 2 months old; every-2 asks for 2", "not trained: too few frauds")
    assert [step.trained for step in steps] == ["2025-02"] * 3 + ["2025-05"] * 2 + ["2025-07"]


def test_a_month_s_report_is_about_the_live_model_and_knows_the_steps_before_it() -> None:
    asked: list[tuple[list[str], str, str]] = []

    def monitor(steps: object, month: str, trained: str) -> MonthReport:
        asked.append(([step.month for step in steps], month, trained))  # type: ignore[attr-defined]
        return MonthReport(QUIET, (), 1, None)

    [monthly] = parse_policies("monthly")
    replay(monthly, YEAR[:3], "2025-02", monitor=monitor, train=lambda _: None)
    assert asked == [
        ([], "2025-03", "2025-02"),
        (["2025-03"], "2025-04", "2025-03"),
        (["2025-03", "2025-04"], "2025-05", "2025-04"),
    ]


@pytest.mark.parametrize(
    "text", ["weekly", "every-0", "every-", "every-100", "never,on drift", "On-drift", "every-2.5"]
)
def test_a_name_that_is_no_policy_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(PolicyError, match=r"is no policy; name some of never, monthly, every-N"):
        parse_policies(text)


@pytest.mark.parametrize("text", ["", " , "])
def test_no_policy_at_all_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(PolicyError, match=r"no policy is named; name some of never, monthly"):
        parse_policies(text)
