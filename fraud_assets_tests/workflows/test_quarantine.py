"""Quarantined rows on a real Postgres: which there are, how people name them, and what was decided about them."""

from __future__ import annotations

import json
import threading
from datetime import date

import psycopg
import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.intake.accept import Decision
from fraud_assets.core.intake.quarantine import remedy_of
from fraud_assets.core.reasons import Reason, Rule, reasons_to_json
from fraud_assets.workflows.quarantine import (
    QuarantinedRow,
    count_reasons,
    decisions_digest,
    decisions_for,
    find_rows,
    quarantined_rows,
    record_decisions,
    remedy,
)

APRIL, MAY = "2025-04", "2025-05"
FIRST, SECOND, THIRD = "aaaa1" + "0" * 59, "aaaa2" + "0" * 59, "bbbb" + "0" * 60
BELOW = Reason(Rule.BELOW_MINIMUM, "amount is below 0", "amount")
# With all that sentences were once parted by.
CATEGORY = Reason(Rule.UNKNOWN_CATEGORY, "channel is none of ['web; app', 'a\\n- b']", "channel")
UNREADABLE = Reason(Rule.UNREADABLE_VALUE, "amount is not a number", "amount")


@pytest.fixture
def filled(database: Database, simulator_contract: Contract) -> Database:
    """Three rows of April and one of May, of which the second has broken two rules."""
    store = MonthStore(database, simulator_contract)
    rows = {
        APRIL: [(FIRST, 1, [BELOW]), (SECOND, 2, [BELOW, CATEGORY]), (THIRD, 30, [UNREADABLE])],
        MAY: [(FIRST, 4, [BELOW])],
    }
    table = pa.Table.from_pylist(
        [
            {
                "month": date.fromisoformat(f"{month}-01"),
                "source": f"cards_{month}.csv",
                "row_number": number,
                "reasons": reasons_to_json(reasons),
                "original": json.dumps({"amount": "-1", "note": "50% 'off'"}),
                "row_digest": digest,
                "status": "dropped" if digest == THIRD else "quarantined",
            }
            for month, found in rows.items()
            for digest, number, reasons in found
        ],
        schema=store.table("quarantined_transactions").schema,
    )
    inputs = {"source": {APRIL: "x", MAY: "x"}}
    store.replace_months("quarantined_transactions", table, [APRIL, MAY], inputs=inputs)
    return database


# Decisions


def test_where_nothing_was_decided_there_are_no_decisions_and_no_digest(database: Database) -> None:
    assert decisions_for(database, APRIL) == []
    assert decisions_digest(database, APRIL) is None


def test_of_several_decisions_on_a_row_the_last_one_counts(database: Database) -> None:
    record_decisions(database, [(APRIL, FIRST), (APRIL, SECOND)], "release", "looked at", actor="anna")
    record_decisions(database, [(APRIL, FIRST)], "drop", "looked again", actor="bert")
    assert decisions_for(database, APRIL) == [Decision(FIRST, "drop"), Decision(SECOND, "release")]


def test_a_decision_is_on_a_row_of_one_month(database: Database) -> None:
    record_decisions(database, [(APRIL, FIRST)], "drop", "no", actor="anna")
    assert decisions_for(database, MAY) == []
    assert decisions_digest(database, MAY) is None


def test_who_decided_why_and_when_is_kept(database: Database) -> None:
    record_decisions(database, [(APRIL, FIRST)], "release", "a refund; it's \U0001f44d", actor="anna")
    (row,) = database.query(
        "SELECT reason, actor, decided_at IS NOT NULL AS dated FROM quarantine_decisions"
    ).to_pylist()
    assert row == {"reason": "a refund; it's \U0001f44d", "actor": "anna", "dated": True}


def test_the_digest_names_what_is_decided_not_how_often_or_by_whom(database: Database) -> None:
    record_decisions(database, [(APRIL, FIRST)], "drop", "no", actor="anna")
    once = decisions_digest(database, APRIL)
    record_decisions(database, [(APRIL, FIRST)], "drop", "still no", actor="bert")
    assert decisions_digest(database, APRIL) == once
    record_decisions(database, [(APRIL, FIRST)], "release", "yes", actor="anna")
    assert decisions_digest(database, APRIL) not in (once, None)


def test_decisions_are_recorded_all_or_none(database: Database) -> None:
    with pytest.raises(psycopg.DataError):
        record_decisions(database, [(APRIL, FIRST), (APRIL, "with a \x00")], "drop", "no", actor="anna")
    assert decisions_for(database, APRIL) == []


def test_many_who_decide_at_once_are_all_heard_also_the_very_first_time(database: Database) -> None:
    failures: list[BaseException] = []

    def decide(number: int) -> None:
        try:
            record_decisions(database, [(APRIL, f"{number:064d}")], "drop", "no", actor="anna")
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=decide, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(decisions_for(database, APRIL)) == 8


# Rows


def test_before_the_first_run_nothing_is_in_quarantine(database: Database) -> None:
    assert quarantined_rows(database) == []
    assert count_reasons(database) == []


def test_a_row_comes_with_its_original_values(filled: Database) -> None:
    (row,) = quarantined_rows(filled, MAY)
    assert row == QuarantinedRow(
        MAY, FIRST, "cards_2025-05.csv", 4, (BELOW,), {"amount": "-1", "note": "50% 'off'"}, "quarantined"
    )
    assert row.short == "aaaa10000000"


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, [1, 2, 30, 4]),
        ({"month": APRIL}, [1, 2, 30]),
        ({"reason": "NONE OF"}, [2]),
        ({"reason": "%"}, []),
        ({"limit": 2}, [1, 2]),
        ({"digests": [FIRST]}, [1, 4]),
        ({"digests": []}, []),
    ],
    ids=["all", "month", "reason in any case", "no pattern", "limit", "digest", "no digests"],
)
def test_rows_are_chosen_by_month_reason_and_digest(filled: Database, given: dict, numbers: list[int]) -> None:
    assert [row.row_number for row in quarantined_rows(filled, **given)] == numbers


def test_a_row_s_reasons_come_back_as_they_were_whatever_is_in_them(filled: Database) -> None:
    (row,) = quarantined_rows(filled, digests=[SECOND])
    assert row.reasons == (BELOW, CATEGORY)
    assert json.loads(json.dumps(row.to_dict()))["reasons"] == [one.to_dict() for one in (BELOW, CATEGORY)]


def test_a_row_that_breaks_two_rules_counts_in_both(filled: Database) -> None:
    assert count_reasons(filled, APRIL) == [
        {"month": APRIL, "status": status, "rule": one.rule, "column": one.column, "reason": one.text, "rows": rows}
        for status, one, rows in (("quarantined", BELOW, 2), ("dropped", UNREADABLE, 1), ("quarantined", CATEGORY, 1))
    ]
    assert [row["rule"] for row in count_reasons(filled, APRIL, "unknown_category")] == ["unknown_category"]
    assert [(row["month"], row["rows"]) for row in count_reasons(filled, reason="below")] == [(APRIL, 2), (MAY, 1)]


# Names


def test_a_row_is_named_by_the_beginning_of_its_digest(filled: Database) -> None:
    assert find_rows(filled, ["BBBB00"]) == [(APRIL, THIRD)]


def test_a_row_that_came_with_two_months_is_both_unless_one_is_named(filled: Database) -> None:
    assert find_rows(filled, ["aaaa1"]) == [(APRIL, FIRST), (MAY, FIRST)]
    assert find_rows(filled, ["aaaa1"], MAY) == [(MAY, FIRST)]


def test_a_row_that_is_named_twice_is_there_once(filled: Database) -> None:
    assert find_rows(filled, ["bbbb0", "bbbb00"]) == [(APRIL, THIRD)]


def test_a_released_row_can_still_be_named(filled: Database) -> None:
    gone = "cccc" + "0" * 60
    record_decisions(filled, [(APRIL, gone)], "release", "fine", actor="anna")
    assert find_rows(filled, ["cccc"]) == [(APRIL, gone)]


@pytest.mark.parametrize(
    ("identifier", "said"),
    [
        ("aaaa", r"beginning of 2 rows \(aaaa10000000, aaaa20000000\): give more digits"),
        ("dddd", "no quarantined row begins with 'dddd'"),
        ("bbb", "at least 4 of the hexadecimal digits"),
        ("row 1", "at least 4 of the hexadecimal digits"),
        ("%%%%", "at least 4 of the hexadecimal digits"),
    ],
)
def test_a_name_that_fits_none_or_several_is_refused(filled: Database, identifier: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_rows(filled, ["bbbb00", identifier])


def test_a_row_of_another_month_is_not_found(filled: Database) -> None:
    with pytest.raises(ValueError, match="no quarantined row in 2025-05 begins with 'bbbb'"):
        find_rows(filled, ["bbbb"], MAY)


@pytest.mark.parametrize(
    ("rule", "advice"),
    [
        (Rule.OUTSIDE_MONTH, "deliver it with the month it belongs to"),
        (Rule.OUTSIDE_CONTRACT, "deliver it with the month it belongs to"),
        (Rule.AMBIGUOUS_TIME, "correct its time"),
        (Rule.REPEATED_ID, "a transaction_id of its own"),
        (Rule.ID_OF_EARLIER_MONTH, "a transaction_id of its own"),
        (Rule.MISSING_VALUE, "fill in what is missing, or say nullable: true"),
        (Rule.UNREADABLE_VALUE, "correct what cannot be read"),
        (Rule.NOT_A_ROW, "correct what cannot be read"),
        (Rule.LABEL_BEFORE_TRANSACTION, "correct the time of the label"),
        (Rule.LABEL_TIME_MISSING, "fill in the time of the label"),
        (Rule.EARLIER_VERSION, "correct what breaks the contract"),
    ],
)
def test_what_to_correct_is_told_by_the_rule_however_the_sentence_is_worded(rule: Rule, advice: str) -> None:
    # The sentence of another rule, to be sure that it decides nothing.
    words = "label_timestamp is missing; transaction_id appears earlier, event_timestamp lies outside 2025-04"
    row = QuarantinedRow(APRIL, FIRST, "c; a\n- rds.csv", 7, (Reason(rule, words, "amount"),), {}, "quarantined")
    assert remedy(row) == f"{words}: {remedy_of(row.reasons)}, in row 7 of c; a\n- rds.csv, and deliver 2025-04 again"
    assert advice in remedy_of(row.reasons)


def test_rules_that_a_person_may_waive_need_no_remedy_beside_one_that_cannot_be_waived() -> None:
    missing = Reason(Rule.MISSING_VALUE, "customer_id is missing", "customer_id")
    assert remedy_of([BELOW, missing, missing]) == remedy_of([missing])
