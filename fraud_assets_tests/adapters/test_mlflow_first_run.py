"""Two processes that open MLflow's store for the first time, at the same moment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.settings import PROJECT_ROOT

FIRST_RUN = """
from fraud_assets.adapters.mlflow import Registry, _mlflow
from fraud_assets.settings import Settings

registry = Registry(Settings())
registry.tracking_uri, _mlflow().MlflowClient
print("ready", flush=True)
input()
print(sorted(one.name for one in registry.client().search_experiments()), flush=True)
"""


def test_two_processes_open_the_registry_of_a_fresh_database_at_once(
    home: Path, tmp_path: Path, server: Callable[[str], Database]
) -> None:
    """MLflow creates its tables without a lock: one of the two failed with a duplicate key of alembic_version."""
    server("first_runs").close()
    contract = tmp_path / "first_runs.yaml"
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    contract.write_text(text.replace("name: simulator", "name: first_runs"), encoding="utf-8")
    environment = os.environ | {"FRAUD_HOME": str(home), "FRAUD_CONTRACT": str(contract)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", FIRST_RUN], env=environment, cwd=PROJECT_ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    ended = [(*process.communicate(timeout=400), process.returncode) for process in processes]
    assert [(out, code) for out, _, code in ended] == [("['Default', 'first_runs']\n", 0)] * 2, ended
