"""Settings: one that cannot be is refused by name before anything is written; they are read at entrances alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fraud_assets.cli import app
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.statistics.costs import Costs
from fraud_assets.settings import PROJECT_ROOT, Settings, read_settings

LIMITS = [name for name in Settings.model_fields if name.startswith("drift_")]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(
            ({name: "-1"}, f"FRAUD_{name} is '-1': Input should be greater than or equal to 0")
            for name in ("REVIEW_COST", "LOSS_SHARE", "FIXED_LOSS")
        ),
        ({"REVIEW_COST": "inf"}, "FRAUD_REVIEW_COST is 'inf': Input should be a finite number"),
        ({"REVIEW_COST": "nan"}, "FRAUD_REVIEW_COST is 'nan': Input should be"),
        ({"REVIEW_COST": "5 euro"}, "FRAUD_REVIEW_COST is '5 euro': Input should be a valid number"),
        *(({name.upper(): "1.5"}, f"FRAUD_{name.upper()} is '1.5': Input should be less than") for name in LIMITS),
        *(({name.upper(): "0"}, f"FRAUD_{name.upper()} is '0': Input should be greater than 0") for name in LIMITS),
        (
            {"DRIFT_P": "0.03"},
            "FRAUD_DRIFT_P (0.03) and FRAUD_DRIFT_DELIVERED_P (0.025) are at most FRAUD_DRIFT_WATCH_P",
        ),
        (
            {"DRIFT_WATCH_P": "0.02"},
            "FRAUD_DRIFT_P (0.005) and FRAUD_DRIFT_DELIVERED_P (0.025) are at most FRAUD_DRIFT_WATCH_P (0.02)",
        ),
        (
            {"DRIFT_MIN_TOTAL_VARIATION": "0.1"},
            "FRAUD_DRIFT_MIN_TOTAL_VARIATION (0.1) is at most FRAUD_DRIFT_TOTAL_VARIATION (0.018)",
        ),
        ({"REVIEW_CAPACITY": "0"}, "FRAUD_REVIEW_CAPACITY is '0': Input should be greater than or equal to 1"),
        ({"WORKERS": "0"}, "FRAUD_WORKERS is '0': Input should be greater than or equal to 1"),
        ({"SHADOW_MODELS": "9"}, "FRAUD_SHADOW_MODELS is '9': Input should be less than or equal to 8"),
        ({"SHADOW_SECONDS": "0"}, "FRAUD_SHADOW_SECONDS is '0': Input should be greater than or equal to 1"),
        ({"SHADOW_BEHIND": "999"}, "FRAUD_SHADOW_BEHIND is '999': Input should be greater than or equal to 1000"),
        ({"SERVE_PORT": "65536"}, "FRAUD_SERVE_PORT is '65536': Input should be less than or equal to 65535"),
        ({"SIMULATOR_CUSTOMERS": "0"}, "FRAUD_SIMULATOR_CUSTOMERS is '0': Input should be greater than or equal to 1"),
        ({"FAMILIES": "perceptron"}, "FRAUD_FAMILIES is 'perceptron': no setting for perceptron; the families are"),
        (
            {"IMBALANCE": "smote", "HALF_LIFE_DAYS": "30"},
            "FRAUD_IMBALANCE is 'smote', FRAUD_HALF_LIFE_DAYS is 30.0: synthetic rows of smote have no age",
        ),
        ({"RETRAIN_ON": "moon"}, "FRAUD_RETRAIN_ON is 'moon': 'moon' asks for no retraining"),
        ({"REVIEW_COST": "-1", "DRIFT_P": "2"}, "FRAUD_REVIEW_COST is '-1': "),
        ({"REVIEW_COST": "-1", "DRIFT_P": "2"}, "FRAUD_DRIFT_P is '2': "),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name_and_nothing_is_written(
    given: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file, out = tmp_path / "home", tmp_path / "rows.csv", tmp_path / "contract.yaml"
    file.write_text("id,time,fraud\n1,2025-01-01,0\n")
    monkeypatch.setenv("FRAUD_HOME", str(home))
    for name, value in given.items():
        monkeypatch.setenv(f"FRAUD_{name}", value)
    with pytest.raises(ValueError, match="a setting cannot be used: ") as error:
        read_settings()
    assert said in str(error.value)
    for command in (["run"], ["status"], ["start", str(file), "--yes", "--out", str(out)]):
        ended = CliRunner().invoke(app, command)
        assert (ended.exit_code, said in ended.stderr) == (1, True), ended.output
    assert not home.exists()
    assert not out.exists()


def test_training_keeps_as_many_processes_busy_as_are_set() -> None:
    assert Settings(workers=3).training_workers == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind a process to cores")
def test_by_default_training_keeps_no_more_processes_busy_than_there_are_cores_for_it() -> None:
    code = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1]); "
        "from fraud_assets.settings import Settings; print(Settings().training_workers)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert said.stdout == "1\n"


def test_by_default_costs_and_limits_are_those_that_are_measured() -> None:
    assert Settings().costs == Costs()
    assert Settings().drift == DriftConfig()


def test_each_drift_limit_reaches_the_report() -> None:
    """With each one halved (p of WATCH: raised), that limit is another one and all others are what they were."""
    reached = {
        "drift_p": {"drift_p"}, "drift_delivered_p": {"delivered_drift_p"}, "drift_watch_p": {"watch_p"},
        "drift_total_variation": {"drift_total_variation"}, "drift_min_total_variation": {"min_total_variation"},
        "drift_psi_limit": {"psi_limit"}, "drift_missing_limit": {"missing_limit"},
        "drift_volume_note": {"volume_note"},
    }  # fmt: skip
    assert set(reached) == set(LIMITS)
    for name, fields in reached.items():
        changed = getattr(Settings(), name) * (2 if name == "drift_watch_p" else 0.5)
        found = Settings(**{name: changed}).drift
        assert {one for one, value in vars(DriftConfig()).items() if vars(found)[one] != value} == fields
        assert getattr(found, next(iter(fields))) == changed


def test_where_little_is_known_of_months_a_limit_is_never_laxer_than_where_much_is() -> None:
    strict = Settings(drift_p=0.0001, drift_delivered_p=0.0001, drift_watch_p=0.0002).drift
    assert (strict.unsure_drift_p, strict.unsure_watch_p) == (0.0001, 0.0002)


@pytest.mark.parametrize(
    ("database", "other", "same"),
    [
        ("postgresql://fraud@db:5432/fraud", "postgresql://dagster:x@db/fraud?sslmode=require", True),
        ("postgresql://fraud@db/fraud", "postgresql://dagster@db/dagster", False),
        ("postgresql://fraud@db/fraud", "postgresql://dagster@db:5433/fraud", False),
        ("postgresql://fraud@/fraud?host=/a", "postgresql://dagster@/fraud?host=/b", False),
        (None, "postgresql://dagster@db/fraud", False),
    ],
)
def test_dagsters_user_is_one_of_the_platform_s_own_database(database: str | None, other: str, same: bool) -> None:
    if same:
        assert Settings(database_url=database, dagster_url=other).dagster_url == other
    else:
        with pytest.raises(ValueError, match="have to name the same database"):
            Settings(database_url=database, dagster_url=other)


ENTRANCES = {
    "fraud_assets/settings.py": "reads them",
    "fraud_assets/cli/base.py": "a command",
    "fraud_assets/cli/start.py": "a command, before it writes",
    "fraud_assets/cli/upkeep/overview.py": "a command that looks at a restore and does not finish it",
    "fraud_assets/defs/partitions.py": "Dagster imports the code location by its name",
    "fraud_assets/adapters/dagster_storage.py": "Dagster makes its storage by its name",
    "fraud_assets/adapters/dagster_launcher.py": "Dagster makes its run launcher by its name",
}


def test_settings_are_made_at_the_entrances_and_handed_on_from_there() -> None:
    found = {
        str(file.relative_to(PROJECT_ROOT))
        for folder in ("fraud_assets", "bentos")
        for file in (PROJECT_ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in ("Settings", "read_settings")
    }
    assert found == set(ENTRANCES)


@pytest.mark.parametrize("name", ["DriftConfig", "Costs"])
def test_limits_and_costs_are_put_together_in_one_place(name: str) -> None:
    """A function of `core` may have the defaults for its own; nothing that runs the platform has."""
    found = {
        str(file.relative_to(PROJECT_ROOT))
        for folder in ("fraud_assets", "bentos")
        for file in (PROJECT_ROOT / folder).rglob("*.py")
        if "core" not in file.relative_to(PROJECT_ROOT).parts
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name
    }
    assert found == {"fraud_assets/settings.py"}
