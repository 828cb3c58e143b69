"""The sensor that carries out what the service was asked for."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.defs.approval import ANSWER_TAG, approval_sensor

STATES = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def ask(database: Database, version: int) -> int:
    with database.session() as connection:
        row = connection.execute(
            "INSERT INTO asked_answers (model_version, answer, reason, actor) VALUES (%s, 'approved', 'why', 'ada') "
            "RETURNING number",
            [version],
        ).fetchone()
    assert row is not None
    return int(row[0])


def tick(database: Database, instance: dg.DagsterInstance) -> list[dg.RunRequest] | str | None:
    """What the sensor asks for, or why it asks for nothing."""
    platform = SimpleNamespace(store=SimpleNamespace(database=database))
    context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
    said: Any = approval_sensor(context)
    return said.skip_message if isinstance(said, dg.SkipReason) else list(said.run_requests)


def run(instance: dg.DagsterInstance, number: object, status: dg.DagsterRunStatus) -> None:
    create_run_for_test(instance, job_name="asked_approval", tags={ANSWER_TAG: str(number)}, status=status)


def outcomes(database: Database) -> list[tuple[Any, ...]]:
    return database.rows("asked_answers", "SELECT model_version, outcome, said FROM asked_answers ORDER BY number")


def test_each_answer_is_carried_out_by_one_run(database: Database, instance: dg.DagsterInstance) -> None:
    assert tick(database, instance) == "nothing was asked for"
    numbers = [ask(database, 2), ask(database, 3)]
    asked = tick(database, instance)
    assert isinstance(asked, list)
    assert [one.run_key for one in asked] == [f"answer {number}, attempt 1" for number in numbers]
    assert [one.run_config["ops"] for one in asked] == [
        {"carry_out_answer": {"config": {"number": number}}} for number in numbers
    ]
    for number, status in zip(numbers, STATES, strict=True):
        run(instance, number, status)
    assert tick(database, instance) == "what was asked for is under way"


def test_a_run_that_failed_is_repeated_and_after_three_the_answer_is_refused(
    database: Database, instance: dg.DagsterInstance
) -> None:
    number = ask(database, 2)
    run(instance, "of somebody else", dg.DagsterRunStatus.FAILURE)
    for attempt in (1, 2, 3):
        [asked] = tick(database, instance) or []
        assert asked.run_key == f"answer {number}, attempt {attempt}"  # type: ignore[union-attr]
        run(instance, number, dg.DagsterRunStatus.FAILURE)
    tick(database, instance)
    [(version, outcome, said)] = outcomes(database)
    assert (version, outcome) == (2, "refused")
    assert "failed 3 times" in said
    assert tick(database, instance) == "nothing was asked for"


def test_a_run_that_was_killed_holds_nothing_up_for_good(
    database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ask(database, 2)
    run(instance, number, dg.DagsterRunStatus.STARTED)
    assert tick(database, instance) == "what was asked for is under way"
    # As if the hour were over.
    monkeypatch.setattr("fraud_assets.defs.approval.FORGOTTEN", -timedelta(seconds=1))
    [asked] = tick(database, instance) or []
    assert asked.run_key == f"answer {number}, attempt 2"  # type: ignore[union-attr]
