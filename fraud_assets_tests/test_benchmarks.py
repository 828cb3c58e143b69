"""The benchmarks' own honesty: what they publish, and that the race compares like with like."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from benchmarks import reporting
from benchmarks.bare import bare_run
from benchmarks.bento_alone import source_rows
from benchmarks.io import ManyTimes, write_month
from benchmarks.platform import ComparisonError, Cost, Decisions, bare_decisions, measure, race, require_same
from benchmarks.reporting import REQUIRED_KEYS, Row, at_most, paths_in, report
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.settings import PROJECT_ROOT, Settings

TINY = {"FRAUD_SOURCE": "simulator", "FRAUD_SIMULATOR_CUSTOMERS": "400", "FRAUD_SIMULATOR_TERMINALS": "800"}
MONTHS = ("2025-01", "2025-03")


# --- reporting


def test_each_figure_is_written_with_machine_date_and_versions(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert report("figures", [Row("rows", 3.0, "rows"), at_most("seconds", 1.5, "s", 2.0)], file) == 0

    first, second = json.loads(file.read_text())

    assert set(REQUIRED_KEYS) <= set(first)
    assert (first["name"], first["value"], first["unit"], first["target"], first["holds"]) == (
        "rows", 3.0, "rows", None, None,
    )  # fmt: skip
    assert (second["target"], second["holds"]) == (2.0, True)
    assert set(first["machine"]) == {"cpu", "cores", "memory_gib", "system"}
    assert first["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert date.fromisoformat(first["date"])


def test_a_missed_target_is_an_exit_code(tmp_path: Path) -> None:
    assert report("figures", [at_most("seconds", 2.1, "s", 2.0), Row("rows", 3.0, "rows")], tmp_path / "f.json") == 1


def test_a_figure_that_is_no_number_holds_no_target() -> None:
    assert at_most("difference", math.nan, "probability", 1e-6).holds is False


def test_a_target_without_a_verdict_is_refused() -> None:
    with pytest.raises(ValueError, match="needs both target and holds"):
        Row("seconds", 1.0, "s", target=2.0)


@pytest.mark.parametrize("text", ["/tmp/x", "in /opt/data", "file:/srv", "C:\\data", 'at "/home/someone"'])
def test_a_path_of_this_machine_is_not_published(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="paths of this machine"):
        report("figures", [Row("folder", text, "")], tmp_path / "f.json")
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize("text", ["MiB/s", "rows / s", "AMD EPYC 7B13", "2025-01/2025-06", "fraud_scorer:v1"])
def test_units_and_names_are_no_paths(text: str) -> None:
    assert paths_in([{"value": text}]) == []


def test_committed_results_have_what_a_reader_needs() -> None:
    for file in sorted(reporting.RESULTS.glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))
        assert isinstance(rows, list), file.name
        assert rows, file.name
        assert not paths_in(rows), file.name
        for row in rows:
            assert set(REQUIRED_KEYS) <= set(row), (file.name, row.get("name"))
            assert (row["target"] is None) == (row["holds"] is None), (file.name, row["name"])
            assert date.fromisoformat(row["date"]), (file.name, row["name"])


# --- the race


DECISIONS = Decisions({"2025-01": "OK"}, {"2025-01": "passed"}, {"2025-01": 1}, {("2025-01", "champion"): 0.5})


def test_the_same_decisions_may_be_compared() -> None:
    nearly = replace(DECISIONS, average_precision={("2025-01", "champion"): 0.5 + 9e-7})
    require_same(DECISIONS, nearly)


@pytest.mark.parametrize(
    "other",
    [
        {"drift_status": {"2025-01": "DRIFT"}},
        {"validation_status": {"2025-01": "failed"}},
        {"champion_version": {"2025-01": None}},
        {"champion_version": {}},
        {"average_precision": {("2025-01", "champion"): 0.5 + 2e-6}},
        {"average_precision": {("2025-01", "champion"): math.nan}},
        {"average_precision": {}},
    ],
)
def test_another_decision_voids_the_comparison(other: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ComparisonError):
        require_same(DECISIONS, replace(DECISIONS, **other))


def test_the_bare_script_gives_the_same_months_twice(tmp_path: Path) -> None:
    # That other families give the same twice is tested where they are trained; here they would take a minute.
    settings = Settings(simulator_customers=400, simulator_terminals=800, families="logistic_regression")
    months = ["2025-01", "2025-02", "2025-03"]
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.append(bare_run(settings, tmp_path / name).run(months))

    assert runs[0] == runs[1]
    # In March the model of January, live since February, meets that of February.
    assert set(runs[0][-1].average_precision) == {"champion", "challenger", "reference"}
    assert [month.month for month in runs[0]] == months


def test_the_bare_script_carries_nothing_of_the_platform() -> None:
    probe = (
        "import sys, benchmarks.bare; "
        "print(*[name for name in ('dagster', 'mlflow', 'bentoml', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", probe], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_the_platform_decides_as_the_bare_script_does() -> None:
    """`race` raises when drift, champion versions, or any AP differ."""
    platform, bare, _ = race(TINY, "simulator", MONTHS, repeats=1, again=False)
    assert platform.peak_mib > bare.peak_mib / 10 > 0
    assert platform.cpu_seconds > bare.cpu_seconds > 0


def test_what_the_bare_script_writes_is_read_as_decisions() -> None:
    outcome = {
        "month": "2025-02", "drift_status": "OK", "validation_status": "passed", "champion_version": 2,
        "average_precision": {"champion": 0.25, "challenger": 0.5},
    }  # fmt: skip
    assert bare_decisions([outcome]) == Decisions(
        {"2025-02": "OK"}, {"2025-02": "passed"}, {"2025-02": 2},
        {("2025-02", "champion"): 0.25, ("2025-02", "challenger"): 0.5},
    )  # fmt: skip


def test_a_command_is_measured_with_its_children() -> None:
    hog = "x = bytearray(200 * 2**20); import time; time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hog!r}])"
    cost: Cost = measure([sys.executable, "-c", parent], {}, home=None)
    assert cost.seconds >= 1.5
    assert 200 < cost.peak_mib < 400


def test_a_command_that_fails_voids_the_measurement() -> None:
    with pytest.raises(ComparisonError, match="ended with 3"):
        measure([sys.executable, "-c", "raise SystemExit(3)"], {}, home=None)


# --- the bento alone


def test_stored_transactions_go_to_fraud_score_under_the_sources_names(handbook_contract: Contract) -> None:
    moment = datetime(2018, 8, 14, 12, 30, tzinfo=UTC)
    row = {"transaction_id": 7, "event_timestamp": moment, "customer_id": 1, "terminal_id": 2, "amount": 3.5}
    stored = pa.Table.from_pylist([row], schema=handbook_contract.transactions_schema())
    assert source_rows(stored, handbook_contract).to_pylist() == [
        {"TX_DATETIME": "2018-08-14T12:30:00+00:00", "TRANSACTION_ID": 7, "CUSTOMER_ID": 1, "TERMINAL_ID": 2}
        | {"TX_AMOUNT": 3.5}
    ]


def test_a_sources_own_time_format_and_zone_are_kept() -> None:
    contract = parse_contract(
        "name: local\nfirst_month: 2018-04\nmaturity_days: 7\n"
        "timezone: Europe/Paris\nevent_timestamp: {column: at, format: '%d.%m.%Y %H:%M'}\n"
        "label: {column: fraud, delay_days: 7}\n"
    )
    moment = datetime(2018, 8, 14, 12, 30, tzinfo=UTC)  # summer time: two hours later in Paris
    stored = pa.Table.from_pylist(
        [{"transaction_id": "a", "event_timestamp": moment}], schema=contract.transactions_schema()
    )
    assert source_rows(stored, contract).to_pylist() == [{"at": "14.08.2018 14:30"}]


# --- reading and writing


def test_what_is_timed_stores_every_delivered_row_of_the_month_and_its_labels(
    database: Database, handbook: Path, handbook_contract: Contract
) -> None:
    store = MonthStore(database, handbook_contract)
    write_month(FolderSource(handbook, handbook_contract.file_pattern), store, "2018-04")
    delivered = pyarrow.parquet.read_table(handbook / "transactions_2018-04.parquet")
    counts = {name: store.versions(name)["n_rows"].to_pylist() for name in ("raw_transactions", "delivered_labels")}
    assert counts == {
        "raw_transactions": [delivered.num_rows],
        "delivered_labels": [pc.sum(delivered["TX_FRAUD"]).as_py()],
    }
    assert list(store.months("quarantined_transactions")) == ["2018-04"]


def test_a_month_given_many_times_has_as_many_rows_as_asked_for_and_no_id_twice(handbook: Path) -> None:
    file = handbook / "transactions_2018-04.parquet"
    n_rows = pyarrow.parquet.read_metadata(file).num_rows * 2 + 5
    delivery = ManyTimes(file, n_rows).read("2018-04")
    ids = [value for part in delivery.parts for rows in part.open() for value in rows["TRANSACTION_ID"].to_pylist()]
    assert len(delivery.parts) == 3
    assert len(ids) == len(set(ids)) == n_rows
