"""The sensor that takes labels into months that are stored already."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.settings import PROJECT_ROOT

pytest_plugins = ["fraud_assets_tests.worlds"]

CONTRACT = load_contract(PROJECT_ROOT / "contracts" / "simulator.yaml")
START = datetime(2025, 3, 5, tzinfo=UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def add(database: Database, *known: datetime, file: str = "feedback of till") -> None:
    with database.session() as connection:
        for one in known:
            connection.execute(
                "INSERT INTO added_labels (transaction_id, is_fraud, label_timestamp, label_source, file, row_number, "
                "statement) VALUES ('1', true, %s, 'analyst', %s, 1, gen_random_uuid()::text)",
                [one, file],
            )


def tick(
    database: Database,
    instance: dg.DagsterInstance,
    cursor: str | None,
    stored: tuple[str, ...] = ("2025-03", "2025-04"),
) -> tuple[list[str], str | None, str | None]:
    """The months that are asked for, why none is, and the cursor."""
    from fraud_assets.defs.fraud_labels import feedback_sensor

    store = SimpleNamespace(database=database, contract=CONTRACT, months=lambda _: dict.fromkeys(stored, "digest"))
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"platform": SimpleNamespace(store=store)}
    )
    said: Any = feedback_sensor(context)
    if isinstance(said, dg.SkipReason):
        return [], said.skip_message, context.cursor
    return [one.partition_key for one in said.run_requests], None, said.cursor


def test_each_stored_month_with_new_labels_is_asked_for_once(database: Database, instance: dg.DagsterInstance) -> None:
    add(database, START)
    # What was there when it was turned on is not its business.
    months, _, cursor = tick(database, instance, None)
    assert months == []
    add(database, START, START + timedelta(days=31), START + timedelta(days=31, hours=1), START + timedelta(days=62))
    add(database, START + timedelta(days=62), file="chargebacks.csv")
    months, _, cursor = tick(database, instance, cursor)
    # The third month is not stored, and takes them in when it is run.
    assert months == ["2025-03", "2025-04"]
    assert tick(database, instance, cursor) == ([], "no label has come for a month that is stored", cursor)
    add(database, START)
    assert tick(database, instance, cursor)[0] == ["2025-03"]


def test_labels_of_files_are_left_to_the_command_that_added_them(
    database: Database, instance: dg.DagsterInstance
) -> None:
    _, _, cursor = tick(database, instance, None)
    add(database, START, file="chargebacks.csv")
    assert tick(database, instance, cursor)[0] == []


def test_while_labels_are_taken_in_no_other_run_is_asked_for_and_nothing_is_forgotten(
    database: Database, instance: dg.DagsterInstance
) -> None:
    _, _, cursor = tick(database, instance, None)
    add(database, START)
    run = create_run_for_test(instance, job_name="feedback_labels", status=dg.DagsterRunStatus.STARTED)
    months, why, _ = tick(database, instance, cursor)
    assert (months, why) == ([], "labels are being taken in")
    instance.report_run_failed(run)
    assert tick(database, instance, cursor)[0] == ["2025-03"]
