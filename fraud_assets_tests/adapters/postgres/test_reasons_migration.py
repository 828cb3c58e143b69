"""Reasons that earlier versions joined, taken apart by revision 0003; nothing of a text is lost."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres import database as module
from fraud_assets.adapters.postgres import schema
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.migrations.versions.up_to_0009.r0003_reasons import (
    Said,
    reason_of_event,
    reasons_of_label_row,
    reasons_of_replay,
    reasons_of_row,
    reasons_of_verdict,
)
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.digests import digest_table
from fraud_assets.core.reasons import Rule, reasons_from_json
from fraud_assets_tests.sentences import stored, texts

NAMES = ("event_timestamp", "transaction_id", "amount", "channel", "amount_eur", "is_fraud", "label_timestamp")
MARCH = "2025-03"


def brief(said: list[Said]) -> list[tuple[str | None, str | None]]:
    return [(one["rule"], one["column"]) for one in said]


def test_every_rule_of_the_revision_is_one_that_is_read() -> None:
    from fraud_assets.adapters.postgres.migrations.versions.up_to_0009 import r0003_reasons as revision

    told = {
        rule for group in ("ROWS", "REPORTS", "PROMOTIONS", "REPLAYS") for _, rule in getattr(revision, f"OF_{group}")
    }
    assert told | {revision.EARLIER} <= {str(rule) for rule in Rule}


@pytest.mark.parametrize(
    ("joined", "expected"),
    [
        (
            "amount is below 0; channel is none of ['web']",
            [("below_minimum", "amount"), ("unknown_category", "channel")],
        ),
        ("amount_eur is above 9", [("above_maximum", "amount_eur")]),
        ("channel is none of ['a; amount', '- b']", [("unknown_category", "channel")]),
        (
            "channel does not match 'x; y'; amount is missing",
            [("pattern_mismatch", "channel"), ("missing_value", "amount")],
        ),
        ("event_timestamp lies outside 2025-04", [("outside_month", "event_timestamp")]),
        (
            "event_timestamp lies in no month of the contract (2025-01 to now)",
            [("outside_contract", "event_timestamp")],
        ),
        ("event_timestamp lies in an hour that the clocks of Europe/Paris skip", [("no_such_time", "event_timestamp")]),
        (
            "event_timestamp lies in an hour that the clocks of Europe/Paris have twice "
            "(event_timestamp.ambiguous says which is meant)",
            [("ambiguous_time", "event_timestamp")],
        ),
        ("event_timestamp is no ISO 8601 time (format reads others)", [("unreadable_value", "event_timestamp")]),
        (
            "transaction_id was delivered as a floating-point number past 2^53, which has lost digits "
            "(deliver it as text)",
            [("unreadable_value", "transaction_id")],
        ),
        ("amount is not finite; amount is beyond 3.4e+38", [("unreadable_value", "amount")] * 2),
        ("transaction_id appears earlier in the delivery", [("repeated_id", "transaction_id")]),
        ("transaction_id is already in 2025-03", [("id_of_earlier_month", "transaction_id")]),
        ("is_fraud is neither fraud (1) nor genuine (0) (label ...)", [("unknown_label", "is_fraud")]),
        ("label_timestamp is missing for a fraud", [("label_time_missing", "label_timestamp")]),
        ("label_timestamp lies before the transaction", [("label_before_transaction", "label_timestamp")]),
        ("label_timestamp lies over 30 days late", [("label_too_late", "label_timestamp")]),
        ("the moon is full; amount is new", [("earlier_version", None), ("earlier_version", "amount")]),
    ],
)
def test_a_row_s_reasons_are_told_apart_by_the_columns_they_begin_with(
    joined: str, expected: list[tuple[str, str | None]]
) -> None:
    said = reasons_of_row(joined, NAMES, is_line=False)
    assert brief(said) == expected
    assert "; ".join(one["text"] or "" for one in said) == joined


def test_a_line_that_is_no_row_has_one_reason_whatever_is_in_it() -> None:
    joined = "has 2 values for 6 columns; and more"
    assert reasons_of_row(joined, NAMES, is_line=True) == [{"rule": "not_a_row", "text": joined, "column": None}]


@pytest.mark.parametrize(
    ("joined", "original", "expected"),
    [
        ("tx is missing: name the transaction", {"tx": None, "at": "x"}, [("missing_value", "tx")]),
        ("at is missing: say when it became known", {"tx": "1", "at": None}, [("label_time_missing", "at")]),
        (
            "verdict is none of 1, 0: write one of them; day clock is no ISO 8601 time (format reads others): write it",
            {"tx": 1, "verdict": "?", "day": "a", "clock": "b"},
            [("unknown_label", "verdict"), ("unreadable_value", "day clock")],
        ),
        ("who is none of a, b: write one of them, or leave it empty", {"who": "x"}, [("unknown_category", "who")]),
        ("at lies in the future: correct it", {"at": "x"}, [("in_the_future", "at")]),
        ("at lies outside 2025-03, the month of the file: move the row", {"at": "x"}, [("outside_month", "at")]),
        (
            "label_timestamp lies before its transaction: correct it, or the transaction_id, and add the row again",
            {"tx": 1, "transaction was at": "x"},
            [("label_before_transaction", "label_timestamp")],
        ),
        ("the line has 2 values for 3 columns: correct it", {"line": 2, "text": "x"}, [("not_a_row", None)]),
    ],
)
def test_a_refused_label_row_s_reasons_are_told_by_the_file_s_columns(
    joined: str, original: dict[str, Any], expected: list[tuple[str, str | None]]
) -> None:
    said = reasons_of_label_row(joined, original)
    assert brief(said) == expected
    assert "; ".join(one["text"] or "" for one in said) == joined


def test_a_verdict_s_reasons_are_those_of_its_findings_also_where_they_have_several_lines() -> None:
    findings = [("category", "channel", "channel has a new value 'a\nb; c'"), ("missing", "amount", "amount is empty")]
    joined = (
        "the world changed: another model may help\namount is empty\nchannel has a new value 'a\nb; c'\n"
        "and 3 more, in the rows of the report"
    )
    said = reasons_of_verdict(joined, findings)
    assert brief(said) == [
        ("next_step", None), ("missing", "amount"), ("category", "channel"), ("more_findings", None)
    ]  # fmt: skip
    assert "\n".join(one["text"] or "" for one in said) == joined


@pytest.mark.parametrize(
    ("joined", "rules"),
    [
        ("the report says DRIFT, and blames the world", ["policy_asks"]),
        ("the model is 2 months old; every-2 asks for 2; not trained: too few", ["policy_asks", "not_trained"]),
        ("a month is over; not trained, the replay ends here", ["policy_asks", "replay_ends"]),
        ("judged without 1,200 transactions that have not matured", ["partly_judged"]),
        ("1 of 2 months could be judged", ["months_judged"]),
        ("", []),
    ],
)
def test_a_backtest_s_reasons_are_told_apart(joined: str, rules: list[str]) -> None:
    said = reasons_of_replay(joined)
    assert [one["rule"] for one in said] == rules
    assert "; ".join(one["text"] or "" for one in said) == joined


@pytest.mark.parametrize(
    ("kind", "by_hand", "text", "rule"),
    [
        ("registered", False, "logistic_regression: AP 0.7", "trained"),
        ("promoted", True, "it was better", "by_hand"),
        ("promoted", False, "Version 3 (trained in 2025-01) is better than the champion, version 2: AP.", "better"),
        ("refused", False, "Version 3 is not shown to be better than the champion, version 2: AP.", "not_shown_better"),
        (
            "refused",
            False,
            "The window holds 3 frauds among 9; 20 frauds are needed to judge a model: wait.",
            "too_few_frauds",
        ),
        ("refused", False, "Because.", "earlier_version"),
    ],
)
def test_an_event_of_the_ledger_has_one_reason_with_all_of_its_text(
    kind: str, by_hand: bool, text: str, rule: str
) -> None:
    assert reason_of_event(kind, text, by_hand=by_hand) == {"rule": rule, "text": text, "column": None}


@pytest.fixture
def store(server: Callable[[str], Database], simulator_contract: Contract) -> Iterator[MonthStore]:
    """A database as revision 0002 left it: with a report, a decision and a backtest of March."""
    database = server("reasons_migration")
    module._open.cache_clear()
    database.prepare("reasons_migration")
    store = MonthStore(database, simulator_contract)
    month = dt.date(2025, 3, 1)
    finding = {"month": month, "kind": "covariate", "feature": "amount", "method": "t", "drift_status": "DRIFT"}
    verdict = finding | {"kind": "verdict", "feature": "", "method": "", "blame": "world", "reason": ""}
    write(store, "drift_report", finding | {"reason": "amount rose\nor not"}, verdict | {"reasons": stored("x")})
    one = {"month": month, "kind": "month", "policy": "monthly", "retrainings": 0, "drift_alarms": 0, "watch_alarms": 0}
    write(store, "backtest", one | {"reasons": stored("x"), "n": 7}, one | {"policy": "never", "reasons": stored("y")})
    with database.session() as connection:
        for text in (
            "ALTER TABLE drift_report DROP COLUMN reasons",
            "UPDATE drift_report SET reason = E'the world changed: another model may help\\namount rose\\nor not' "
            "WHERE kind = 'verdict'",
            "ALTER TABLE backtest RENAME COLUMN reasons TO reason",
            "UPDATE backtest SET reason = 'a month is over; not trained: too few; frauds' WHERE policy = 'monthly'",
            "UPDATE backtest SET reason = '' WHERE policy = 'never'",
            "DROP FUNCTION ledger_is_append_only CASCADE",
            "ALTER TABLE ledger ALTER COLUMN reasons TYPE text, DROP COLUMN code_version, DROP COLUMN libraries, "
            "DROP COLUMN metrics, DROP COLUMN digests, DROP COLUMN previous_hash, DROP COLUMN hash, "
            "ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY",
            "ALTER TABLE quarantined_labels ALTER COLUMN reasons TYPE text",
            f"UPDATE public.{schema.VERSION_TABLE} SET version_num = '0002'",
        ):
            connection.execute(text)
    module._open.cache_clear()
    yield store
    database.close()
    with database.session() as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("DROP SCHEMA IF EXISTS months, dagster, mlflow CASCADE")
        connection.execute("CREATE SCHEMA public")


def write(store: MonthStore, name: str, *rows: dict[str, Any]) -> None:
    table = pa.Table.from_pylist(list(rows), schema=store.table(name).schema)
    store.replace_months(name, table, [MARCH], inputs={"contract": {"": "c"}})


def test_months_of_reports_and_backtests_are_migrated_with_their_digests(store: MonthStore) -> None:
    before = store.months("drift_report") | store.months("backtest")
    schema.upgrade(store.database.url)
    for name in ("drift_report", "backtest"):
        rows = store.read(name, first_month=MARCH, last_month=MARCH)
        assert store.months(name) == {MARCH: digest_table(rows)}
        assert store.months(name)[MARCH] not in before.values()
        # The next run writes the same rows, and so changes nothing.
        (again,) = store.replace_months(name, rows, [MARCH], inputs={"contract": {"": "c"}})
        assert not again.changed
    (verdict,) = [row for row in store.read("drift_report").to_pylist() if row["kind"] == "verdict"]
    assert verdict["reason"] == ""
    assert json.loads(verdict["reasons"]) == [
        {"rule": "next_step", "text": "the world changed: another model may help", "column": None},
        {"rule": "covariate", "text": "amount rose\nor not", "column": "amount"},
    ]
    told = {row["policy"]: texts(reasons_from_json(row["reasons"])) for row in store.read("backtest").to_pylist()}
    assert told == {"monthly": ("a month is over", "not trained: too few; frauds"), "never": ()}
