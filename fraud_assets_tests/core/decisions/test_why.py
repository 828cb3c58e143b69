"""Why something is not there: an all-good month with one thing missing a case."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest

from fraud_assets.core.decisions.why import (
    LabelFacts,
    MonthFacts,
    month_remarks,
    next_judged,
    why_no_challenger,
    why_no_model,
)
from fraud_assets_tests.sentences import because, stored

LABELS = LabelFacts(
    n_fraud=12, n_known=400, n_statements=412, n_unseen=0, n_delivered=0, absent_files=(), refused={}, delay_days=None
)
GOOD = MonthFacts(
    month="2024-02",
    n_transactions=1000,
    quarantined={},
    labels=LABELS,
    drift={
        "drift_status": "OK", "blame": None, "champion_version": 3,
        "reasons": stored("none of 12 features moved beyond chance"),
    },
    trained={"month": date(2024, 2, 1), "model_version": 4, "reason": "the best validation AP"},
    decision={
        "promoted": True, "validation_status": "passed", "reasons": stored("Version 3 is better."),
        "challenger_version": 3, "champion_version": 3,
    },
)  # fmt: skip


def with_labels(**changes: Any) -> MonthFacts:
    return dataclasses.replace(GOOD, labels=dataclasses.replace(LABELS, **changes))


def with_decision(**changes: Any) -> MonthFacts:
    assert GOOD.decision is not None
    return dataclasses.replace(GOOD, decision={**GOOD.decision, "promoted": False, **changes})


def drifted(blame: str | None) -> dict[str, Any]:
    reasons = stored("amount moved; or\nnot", "more")
    return {"drift_status": "DRIFT", "blame": blame, "champion_version": 3, "reasons": reasons}


def said(facts: MonthFacts) -> list[tuple[str, str, bool]]:
    return [(remark.subject, remark.sentence, remark.is_usual) for remark in month_remarks(facts)]


def test_of_a_month_that_is_as_it_should_be_nothing_is_said() -> None:
    assert said(GOOD) == []


def test_of_a_month_of_which_nothing_is_stored_nothing_is_said() -> None:
    assert said(MonthFacts("2024-02")) == []


NONE_KNOWN = {"n_fraud": 0, "n_known": 0, "n_statements": 0}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(
            dataclasses.replace(GOOD, n_transactions=0),
            ("transactions", "no transaction: the source has none of this month", False),
            id="no transaction",
        ),
        pytest.param(
            dataclasses.replace(
                GOOD, quarantined={because("amount: is no number."): 200, because("card: is missing"): 50}
            ),
            ("transactions", "250 rows (20.0 %) in quarantine: amount: is no number, and 1 more reason", False),
            id="quarantine",
        ),
        pytest.param(
            with_labels(**NONE_KNOWN, absent_files=("labels_2024-02.csv",)),
            ("labels", "0.0 % fraud: the label file of 2024-02 is missing (labels_2024-02.csv)", False),
            id="the label file is missing",
        ),
        pytest.param(
            with_labels(
                **NONE_KNOWN, refused={because("known_at is no time"): 200, because("is_fraud is missing"): 12}
            ),
            (
                "labels",
                "0.0 % fraud: all 212 label rows were refused: known_at is no time, and 1 more reason",
                False,
            ),
            id="all label rows refused",
        ),
        pytest.param(
            with_labels(refused={because("known_at is no time", "is_fraud is empty"): 12}),
            ("labels", "12 label rows were refused: known_at is no time; is_fraud is empty", False),
            id="some label rows refused",
        ),
        pytest.param(
            with_labels(n_fraud=0, n_known=0, n_statements=212, n_unseen=212),
            (
                "labels",
                "0.0 % fraud: all 212 statements are about transactions that nobody has seen; compare their ids",
                False,
            ),
            id="labels of other transactions",
        ),
        pytest.param(
            with_labels(**NONE_KNOWN),
            ("labels", "0.0 % fraud: no label was known at its end", False),
            id="no label",
        ),
        pytest.param(
            with_labels(**NONE_KNOWN, delay_days=45),
            (
                "labels",
                "0.0 % fraud: no label was known at its end; labels become known 45 days after the event",
                True,
            ),
            id="labels that come later",
        ),
        pytest.param(
            with_labels(**NONE_KNOWN, n_delivered=50, delay_days=45),
            ("labels", "no label was known at its end; labels become known 45 days after the event", True),
            id="delivered labels that become known later",
        ),
        pytest.param(
            with_labels(n_fraud=0),
            ("labels", "0.0 % fraud: none of the 400 known labels says fraud", False),
            id="only genuine ones",
        ),
        pytest.param(
            dataclasses.replace(GOOD, drift=drifted("world")),
            ("drift", "DRIFT: the world changed: another model may help; amount moved; or\nnot", False),
            id="drift",
        ),
        pytest.param(
            dataclasses.replace(GOOD, drift=drifted(None)),
            ("drift", "DRIFT: amount moved; or\nnot", False),
            id="drift that nothing is said to do about",
        ),
        pytest.param(
            dataclasses.replace(GOOD, trained={"model_version": None, "reason": "19 frauds are known, 30 are needed"}),
            ("training", "no model: 19 frauds are known, 30 are needed", False),
            id="no model",
        ),
        pytest.param(
            with_decision(
                champion_version=2, validation_status="inconclusive", reasons=stored("Not shown to be better.")
            ),
            ("promotion", "version 3 was not promoted: Not shown to be better.", True),
            id="a challenger that is not shown to be better",
        ),
        pytest.param(
            with_decision(champion_version=2, validation_status="failed", reasons=stored("It flags nothing.", "More.")),
            ("promotion", "version 3 was not promoted: It flags nothing. More.", False),
            id="a challenger that is useless",
        ),
        pytest.param(
            with_decision(champion_version=None, validation_status="inconclusive", reasons=stored("It may be chance.")),
            ("promotion", "version 3 was not promoted: It may be chance.", False),
            id="a challenger that may be chance, and nothing is live",
        ),
        pytest.param(
            with_decision(champion_version=None, challenger_version=None, reasons=stored("There is no challenger.")),
            ("promotion", "nothing is live: There is no challenger.", False),
            id="nothing live",
        ),
        pytest.param(
            dataclasses.replace(
                with_decision(
                    champion_version=None, challenger_version=None, reasons=stored("There is no challenger.")
                ),
                is_waiting=True,
            ),
            ("promotion", "nothing is live: There is no challenger.", True),
            id="nothing live, and a model waits",
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_said_with_its_reason(
    facts: MonthFacts, expected: tuple[str, str, bool]
) -> None:
    assert said(facts) == [expected]


def test_without_a_challenger_beside_a_champion_nothing_is_said() -> None:
    assert (
        said(with_decision(champion_version=2, challenger_version=None, reasons=stored("There is no challenger.")))
        == []
    )


def test_why_nothing_can_be_scored_names_model_promotion_and_labels() -> None:
    facts = dataclasses.replace(
        with_decision(champion_version=None, challenger_version=None, reasons=stored("There is no challenger.")),
        trained={"model_version": None, "reason": "no fraud is known"},
        labels=dataclasses.replace(LABELS, **NONE_KNOWN, absent_files=("l.csv",)),
    )
    assert why_no_model(month_remarks(facts)) == (
        "no model: no fraud is known; nothing is live: There is no challenger; 0.0 % fraud: the label file of "
        "2024-02 is missing (l.csv)"
    )


def trained(*versions: int | None) -> list[dict[str, Any]]:
    return [
        {"month": date(2025, 1 + number, 1), "model_version": version, "reason": f"{number} frauds."}
        for number, version in enumerate(versions)
    ]


@pytest.mark.parametrize(
    ("rows", "champion", "why"),
    [
        ([], None, "no model has been trained before 2025-03"),
        (trained(None, None), None, "no model has been trained before 2025-03; in 2025-02: 1 frauds"),
        # What matures in March happened in February; in April it is March, all of it after the model of February.
        (
            trained(None, 7),
            None,
            "version 7, trained in 2025-02, is judged on transactions from after that whose labels have matured, in "
            "the run of 2025-04 at the earliest",
        ),
        (trained(5, None), 5, "no model newer than the champion has been trained before 2025-03; in 2025-02: 1 frauds"),
        (trained(5), None, None),
    ],
)
def test_without_a_challenger_the_reason_is_that_of_the_newest_month(
    rows: list[dict[str, Any]], champion: int | None, why: str | None
) -> None:
    assert why_no_challenger(rows, "2025-03", 30, champion) == why


def test_a_model_waits_until_it_can_be_judged_and_no_longer() -> None:
    waiting = next_judged(trained(5), "2025-01", 30)
    assert waiting is not None
    assert (waiting[0].version, waiting[1]) == (5, "2025-03")
    assert next_judged(trained(5), "2025-03", 30) is None
    assert next_judged(trained(None), "2025-01", 30) is None
