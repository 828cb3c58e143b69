"""`fraud_labels` as Dagster runs it, and files of labels that are added to it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.lineage.staleness import contract_inputs, inputs_of
from fraud_assets.core.months import month_start, months_between
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.labels import Added, add_file

pytest_plugins = ["fraud_assets_tests.worlds"]

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MONTHS = months_between("2025-01", "2025-06")
CHECKS = ("has_all_deliveries", "labels_after_transactions", "labels_complete")


@pytest.fixture
def store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> MonthStore:
    """An empty database of the simulator's columns."""
    name = "l" + str(abs(hash(request.node.name)) % 10**9)
    contract = tmp_path / "contract.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", f"name: {name}"), encoding="utf-8")
    monkeypatch.setenv("FRAUD_CONTRACT", str(contract))
    return open_store(Settings(), writing=True)


def job() -> dg.JobDefinition:
    from fraud_assets.definitions import build_definitions

    return build_definitions(Settings()).resolve_implicit_global_asset_job_def()


def run(*months: str) -> dg.ExecuteInProcessResult:
    """Runs `fraud_labels` for a month, or for a range in one run."""
    partitions: dict[str, Any] = {"partition_key": months[0]}
    if len(months) > 1:
        bounds = {"start": months[0], "end": months[-1]}
        partitions = {"tags": {f"dagster/asset_partition_range_{end}": month for end, month in bounds.items()}}
    with dg.DagsterInstance.ephemeral() as instance:
        selection = [dg.AssetKey("fraud_labels")]
        return job().execute_in_process(instance=instance, asset_selection=selection, **partitions)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {one.check_name: one for one in result.get_asset_check_evaluations() if one.check_name in CHECKS}


def put(store: MonthStore, month: str, frauds: int, *, n: int = 1000, reported: bool = True) -> None:
    """Stores transactions of a month's first day; the first `frauds` are reported a day later, if at all."""
    start, first = month_start(month), 1000 * MONTHS.index(month)
    happened = [start + dt.timedelta(minutes=number) for number in range(n)]
    identifiers = list(range(first, first + n))
    values = {
        "transaction_id": identifiers, "event_timestamp": happened, "customer_id": [7] * n, "terminal_id": [8] * n,
        "amount": [1.0] * n, "merchant_segment": ["grocery"] * n, "ingested_at": [NOW] * n,
    }  # fmt: skip
    schema = store.table("raw_transactions").schema
    inputs = {"source": {month: "as delivered"}}
    store.replace_months("raw_transactions", pa.table(values, schema=schema), [month], inputs=inputs)
    said = frauds if reported else 0
    labels = store.table("delivered_labels").schema
    stated = {
        "transaction_id": identifiers[:said], "event_timestamp": happened[:said], "customer_id": [7] * said,
        "terminal_id": [8] * said, "is_fraud": [True] * said,
        "label_timestamp": [moment + dt.timedelta(days=1) for moment in happened[:said]],
        "label_source": ["chargeback"] * said,
    }  # fmt: skip
    store.replace_months("delivered_labels", pa.table(stated, schema=labels), [month], inputs=inputs)


def add(store: MonthStore, folder: Path, text: str) -> Added:
    file = folder / "chargebacks.csv"
    file.write_text(text, encoding="utf-8")
    return add_file(job, Settings(), store, file, now=NOW)


@pytest.fixture
def two_months(store: MonthStore) -> MonthStore:
    """January and February of 2025 with 100 reported frauds each."""
    for month in MONTHS[:2]:
        put(store, month, 100)
    run(*MONTHS[:2])
    return store


def test_a_month_holds_what_became_known_in_it_and_says_what_it_was_made_of(two_months: MonthStore) -> None:
    store = two_months
    for month in MONTHS[:2]:
        rows = store.read("fraud_labels", first_month=month, last_month=month)
        assert rows.num_rows == 100
        first, last = min(rows["label_timestamp"].to_pylist()), max(rows["label_timestamp"].to_pylist())
        assert (f"{first:%Y-%m-%d}", f"{last:%Y-%m}") == (f"{month}-02", month)
    delivered = store.months("delivered_labels")
    _, inputs = store.current()["fraud_labels", "2025-01"]
    assert inputs == {
        **contract_inputs(store.contract),
        "delivered_labels": {"2025-01": delivered["2025-01"]},
        "added_labels": {"2025-01": None},
    }
    _, inputs = store.current()["fraud_labels", "2025-02"]
    assert inputs is not None
    assert inputs["delivered_labels"] == {month: delivered[month] for month in MONTHS[:2]}


def test_a_range_and_single_months_give_the_same_versions(two_months: MonthStore) -> None:
    before = two_months.current()
    for month in reversed(MONTHS[:2]):
        run(month)
    assert two_months.current() == before
    assert two_months.versions("fraud_labels").num_rows == 2


def test_a_good_month_passes_its_checks_and_shows_its_curve(store: MonthStore) -> None:
    for month in MONTHS[:2]:
        put(store, month, 100)
    run("2025-01")
    result = run("2025-02")
    found = checks(result)
    assert {name: check.passed for name, check in found.items()} == dict.fromkeys(CHECKS, True)
    assert {check.partition for check in found.values()} == {"2025-02"}
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    assert metadata["median_delay_days"].value == 1
    assert metadata["still_to_come"].value == 0
    assert str(metadata["plot"].value).startswith("![plot](data:image/png;base64,")


def test_a_month_without_an_earlier_delivery_says_so(store: MonthStore) -> None:
    put(store, "2025-04", 10)
    (check,) = [found for name, found in checks(run("2025-04")).items() if name == "has_all_deliveries"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    # Labels come up to 62 days late.
    months = [f"raw_transactions has no {month} yet" for month in ("2025-01", "2025-02", "2025-03")]
    assert check.metadata["absent"].value == {"2025-04": months}


def test_a_month_whose_reports_are_missing_is_told_of(store: MonthStore) -> None:
    for month, frauds in zip(MONTHS, (100, 104, 96, 100, 100, 100), strict=True):
        put(store, month, frauds, reported=month != "2025-06")
    assert checks(run(*MONTHS[:5]))["labels_complete"].passed
    check = checks(run("2025-06"))["labels_complete"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description is not None
    assert check.description.startswith("2025-06 has 0 known frauds; about 100 should be known by now, and at least")
    table = check.metadata["completeness"].value
    assert [(row.data["month"], row.data["n_fraud"], row.data["is_short"]) for row in table.records][-2:] == [
        ("2025-05", 100, False), ("2025-06", 0, True),
    ]  # fmt: skip


# Adding files

FILE = """transaction_id,is_fraud,label_timestamp,label_source
500,true,2025-02-20,analyst
0,withdrawn,2025-02-21,
999999,true,2025-02-22,
501,true,2025-05-03,
x,perhaps,2025-02-20,
502,true,2024-12-31T00:00:00Z,
"""


def test_an_added_file_is_in_the_months_it_concerns_and_bad_rows_are_named_and_kept(
    two_months: MonthStore, tmp_path: Path
) -> None:
    added = add(two_months, tmp_path, FILE)
    assert (added.taken, added.repeated, added.unseen) == (4, 0, 1)
    assert (added.months, added.materialized, added.waiting) == ({"2025-02": 3, "2025-05": 1}, ["2025-02"], ["2025-05"])
    assert [row["row_number"] for row in added.refused] == [5, 6]
    rows = two_months.read("fraud_labels", first_month="2025-02", last_month="2025-02").to_pylist()
    mine = {row["transaction_id"]: row for row in rows if row["origin"].startswith("chargebacks.csv")}
    assert set(mine) == {500, 0, 999999}
    assert (mine[500]["customer_id"], mine[500]["label_source"], mine[0]["is_fraud"]) == (7, "analyst", None)
    assert mine[999999]["event_timestamp"] is None
    with two_months.database.session() as connection:
        kept = connection.execute("SELECT row_number, original FROM quarantined_labels ORDER BY row_number").fetchall()
    assert [number for number, _ in kept] == [5, 6]
    assert json.loads(kept[0][1])["is_fraud"] == "perhaps"


def test_the_same_file_again_changes_nothing(two_months: MonthStore, tmp_path: Path) -> None:
    add(two_months, tmp_path, FILE)
    before = two_months.versions("fraud_labels").num_rows
    again = add(two_months, tmp_path, FILE)
    assert (again.taken, again.repeated, again.months, again.materialized) == (0, 4, {}, [])
    assert two_months.versions("fraud_labels").num_rows == before
    with two_months.database.session() as connection:
        assert connection.execute("SELECT count(*) FROM quarantined_labels").fetchone() == (2,)


def test_a_statement_from_before_its_transaction_is_refused(two_months: MonthStore, tmp_path: Path) -> None:
    added = add(two_months, tmp_path, "transaction_id,is_fraud,label_timestamp\n1001,true,2025-01-31\n")
    assert added.taken == 0
    (reason,) = added.refused[0]["reasons"]
    assert (reason["rule"], reason["column"]) == ("label_before_transaction", "label_timestamp")
    assert reason["text"].startswith("label_timestamp lies before its transaction")


def test_the_command_tells_what_it_took_and_what_is_stale_now(
    two_months: MonthStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_assets.cli import app

    # As if features had been built on the labels that were there.
    read = two_months.read("fraud_labels", first_month="2025-01", last_month="2025-02")
    features = two_months.table("transaction_features").schema.empty_table()
    two_months.replace_months("transaction_features", features, ["2025-02"], inputs=inputs_of(read))
    file = tmp_path / "chargebacks.csv"
    file.write_text(FILE, encoding="utf-8")
    done = CliRunner().invoke(app, ["labels", "add", str(file), "--json"])
    assert done.exit_code == 1, done.output  # two rows were refused
    told = json.loads(done.stdout)
    assert (told["taken"], told["materialized"], told["failed"]) == (4, ["2025-02"], {})
    assert ("transaction_features", "2025-02") in {(row["table"], row["month"]) for row in told["stale"]}
    shown = CliRunner().invoke(app, ["labels", "add", str(file)], env={"COLUMNS": "200"})
    assert "1 transaction_id is not a whole number" in shown.stdout
    assert "row 5 of chargebacks.csv: transaction_id=x, is_fraud=perhaps" in shown.stdout
    assert "0 statements taken, 4 repeated, 2 refused; 0 about transactions that have not been seen." in shown.stdout


def test_the_command_shows_how_complete_the_labels_of_each_month_are(two_months: MonthStore) -> None:
    from fraud_assets.cli import app

    done = CliRunner().invoke(app, ["labels", "completeness", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["as_of"] == "2025-03-01T00:00:00+00:00"
    assert [(row["month"], row["n"], row["n_fraud"], row["status"]) for row in told["months"]] == [
        ("2025-01", 1000, 100, "matured"), ("2025-02", 1000, 100, "matured"),
    ]  # fmt: skip
    shown = CliRunner().invoke(app, ["labels", "completeness", "--month", "2025-01"], env={"COLUMNS": "200"})
    assert "2025-01" in shown.stdout
    assert "2025-02-01 00:00 UTC" in shown.stdout
    wrong = CliRunner().invoke(app, ["labels", "completeness", "--month", "2025-09"])
    assert wrong.exit_code == 1
    assert "there are no labels of 2025-09; there are some of 2025-01 to 2025-02" in wrong.stderr
