"""The record of decisions on retraining, and what is read of the models; on a real Postgres."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime

import dagster as dg
import psycopg
import pyarrow as pa
import pytest
from rich.console import Console

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.cli.tables.retraining import show_retrainings
from fraud_assets.core.decisions.retraining import DriftSignal, ModelFacts, RetrainingPolicy, Showing, decide_retraining
from fraud_assets.workflows.retraining import RetrainingStore, list_decisions, read_models
from fraud_assets_tests.sentences import because

NOW = datetime(2025, 8, 1, tzinfo=UTC)
DRIFT = DriftSignal("2025-07", "DRIFT", "abc", "world")


def decide(signal):
    return decide_retraining(signal, [], RetrainingPolicy(), now=NOW)


@pytest.fixture
def store(database):
    return RetrainingStore(database)


def test_nothing_was_decided_at_first(store):
    assert store.newest(20) == []


def test_a_decision_is_read_back_as_it_was_made(store):
    store.record([decide(DRIFT)])
    [one] = store.newest(20)
    assert abs((one.pop("recorded_at") - datetime.now(UTC)).total_seconds()) < 60
    assert one == {
        "number": 1, "month": "2025-07", "decision": "retrain", "trigger": "drift",
        "reasons": [
            {
                "rule": "drifted", "column": None,
                "text": "the data of 2025-07 drifted and no retraining was requested for this report yet",
            }
        ],
        "report_digest": "abc", "attempt_number": 1, "run_key": "retrain:2025-07:abc:1",
    }  # fmt: skip


def test_a_decision_made_again_is_written_once(store):
    assert store.record([decide(DRIFT)]) == 1
    assert store.record([decide(DRIFT)]) == 0
    assert store.record([decide(DRIFT), decide(replace(DRIFT, report_digest="another"))]) == 1


def test_what_is_no_news_is_not_written(store):
    assert store.record([replace(decide(DRIFT), is_news=False)]) == 0


def test_ticks_at_the_same_time_write_a_decision_once(store):
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(store.record([decide(DRIFT)]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counts) == [0, 0, 0, 0, 0, 1]


def test_the_newest_come_first_of_one_month_or_of_all(store):
    for month in ("2025-05", "2025-07", "2025-06"):
        store.record([decide(replace(DRIFT, month=month))])
    assert [one["month"] for one in store.newest(2)] == ["2025-06", "2025-07"]
    assert [one["month"] for one in store.newest(20, "2025-05")] == ["2025-05"]
    with pytest.raises(ValueError, match="YYYY-MM"):
        store.newest(20, "May")


def test_a_database_that_is_away_is_an_error_and_no_silence():
    away = RetrainingStore(Database("postgresql://nobody@127.0.0.1:1/nothing"))
    with pytest.raises(psycopg.OperationalError):
        away.record([decide(DRIFT)])


def test_a_decision_is_listed_with_the_run_that_it_led_to(store):
    from dagster._core.test_utils import create_run_for_test

    store.record([decide(DRIFT), decide(replace(DRIFT, month="2025-06", drift_status="OK"))])
    with dg.instance_for_test() as instance:
        create_run_for_test(instance, job_name="retraining", tags={"dagster/run_key": "another"})
        run = create_run_for_test(
            instance,
            job_name="retraining",
            tags={"dagster/run_key": "retrain:2025-07:abc:1"},
            status=dg.DagsterRunStatus.SUCCESS,
        )
        listed = list_decisions(store, lambda: nullcontext(instance), 20)
    assert [(one["month"], one["run_id"], one["run_status"]) for one in listed] == [
        ("2025-06", None, None), ("2025-07", run.run_id, "SUCCESS"),
    ]  # fmt: skip


def test_people_see_month_decision_trigger_run_and_reasons():
    console = Console(record=True, width=140)
    show_retrainings(
        console,
        [
            {
                "recorded_at": NOW, "month": "2025-07", "decision": "retrain", "trigger": "drift",
                "reasons": [{"rule": "drifted", "text": "[why] not", "column": None}], "attempt_number": 2,
                "run_id": "0123456789", "run_status": "SUCCESS",
            }
        ],
    )  # fmt: skip
    shown = console.export_text()
    for words in ("2025-07", "2025-08-01 00:00", "retrain, attempt 2", "drift", "01234567 success", "[why] not"):
        assert words in shown


def test_without_decisions_people_are_told_who_makes_them():
    console = Console(record=True)
    show_retrainings(console, [])
    assert "the drift sensor decides" in console.export_text()


# The models


@pytest.fixture
def tables(database, simulator_contract):
    return MonthStore(database, simulator_contract.model_copy(update={"name": "tests"}))


def judge(tables, month, *rows):
    """Stores a month's evaluation: role, version, low and high AP, recall."""
    at = datetime(2025, 1, 1, tzinfo=UTC)
    schema = tables.table("evaluation").schema
    whole = [
        {
            "month": date.fromisoformat(f"{month}-01"), "role": role, "model_version": version, "family": "any",
            "trained_month": "2025-01", "as_of": at, "window_from": at, "window_to": at, "n": 1, "n_fraud": 1,
            "prevalence": 1.0, "average_precision_low": low, "average_precision_high": high,
            "recall_at_fpr_1pct": recall,
        }
        for role, version, low, high, recall in rows
    ]  # fmt: skip
    tables.replace_months("evaluation", pa.Table.from_pylist(whole, schema=schema), [month])


def test_where_nothing_was_trained_nothing_is_known(tables):
    assert read_models(tables, ["2025-07"]) == {"2025-07": ModelFacts()}


def test_the_promise_is_what_the_champion_showed_first_and_the_present_what_it_shows_in_the_month(tables):
    ledger = LedgerStore(tables.database)
    for version, month in ((1, "2025-01"), (2, "2025-04")):
        ledger.record("registered", version, month, because("because"), actor="test")
    ledger.record("promoted", 1, "2025-03", because("because"), actor="test")
    judge(tables, "2025-03", ("challenger", 1, 0.6, 0.7, 0.8), ("reference", 1, 0.1, 0.2, 0.3))
    judge(tables, "2025-04", ("champion", 1, 0.5, 0.6, 0.7), ("challenger", 2, 0.8, 0.9, 0.9))
    found = read_models(tables, ["2025-03", "2025-04", "2025-05"])
    assert found["2025-03"] == ModelFacts(newest_month="2025-04")
    assert found["2025-04"] == ModelFacts(
        1, "2025-01", "2025-04", Showing("2025-03", 0.6, 0.7, 0.8), Showing("2025-04", 0.5, 0.6, 0.7)
    )
    assert found["2025-05"].realised is None
