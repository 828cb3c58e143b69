"""The tutorial, page and notebook alike: its commands in their order, in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.postgres.database import stop_embedded
from fraud_assets.cli import app
from fraud_assets.settings import PROJECT_ROOT
from fraud_assets_tests.forks import Forks
from fraud_assets_tests.worlds import free_port

COPIED = (
    "fraud_assets", "bentos", "contracts", "examples", "dagster.yaml", "workspace.yaml", "pyproject.toml",
    "requirements.lock", "README.md",
)  # fmt: skip
FRAUD, SERVE = ".venv/bin/fraud", "%%bash --bg --proc service"


def page_commands() -> list[str]:
    """The blocks of the page, without the set-up, which the tests have behind them."""
    text = (PROJECT_ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    first, *rest = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert first == "make setup\n"
    return [block.strip() for block in rest]


def notebook_cells() -> list[str]:
    notebook = json.loads((PROJECT_ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    return ["".join(cell["source"]).strip() for cell in notebook["cells"] if cell["cell_type"] == "code"]


class Notebook:
    """Runs cells as Jupyter does: Python in one namespace, `%%bash` in a shell, in a folder of the copy.

    Attributes:
        folder: the copy.
        forks: run its commands, with the platform of the copy.
        port: of the service.
        namespace: of the Python cells.
    """

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder, self.forks, self.port = folder, forks, free_port()
        self.namespace: dict[str, Any] = {}
        own = {
            name: text for name, text in os.environ.items() if not name.startswith(("FRAUD_", "DAGSTER_", "MLFLOW_"))
        }
        fixed = {"FRAUD_WORKERS": "1", "FRAUD_SERVE_PORT": str(self.port), "COLUMNS": "200"}
        self.environment = own | fixed | {"PYTHONPATH": str(folder)}

    def run(self, cell: str) -> str:
        """What a cell printed."""
        magic, _, command = cell.partition("\n")
        if not cell.startswith("%%"):
            exec(cell, self.namespace)
            return ""
        if magic == SERVE:
            self.namespace["service"] = subprocess.Popen(["bash", "-c", command], cwd=Path.cwd(), env=self.environment)
            return ""
        assert magic == "%%bash"
        done = self._shell(command.replace("localhost:5000", f"localhost:{self.port}"))
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}\n{self._log()}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    def _shell(self, command: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(command)
        if words[0] == FRAUD:
            return self.forks.run("fraud_assets.cli", words[1:], cwd=Path.cwd(), env=self.environment, timeout=300)
        return subprocess.run(
            ["bash", "-c", command], cwd=Path.cwd(), env=self.environment, capture_output=True, text=True, timeout=120
        )

    def _log(self) -> str:
        log = self.folder / ".fraud" / "serve.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """In a copy of the repository with this environment; whatever runs in it is ended afterwards."""
    # Short, because the path of a Unix socket holds about 100 characters.
    folder = Path(tempfile.mkdtemp(prefix="fraud")).resolve()
    for name in COPIED:
        if (PROJECT_ROOT / name).is_dir():
            shutil.copytree(PROJECT_ROOT / name, folder / name)
        else:
            shutil.copy(PROJECT_ROOT / name, folder)
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "fraud").write_text(f"#!{sys.executable}\nfrom fraud_assets.cli import app\napp()\n", encoding="utf-8")
    (programs / "fraud").chmod(0o755)
    # Not those of the other tests: they have loaded the platform from here, and would write here.
    (folder / "fraud_assets_tests").mkdir()
    for name in ("__init__.py", "forks.py"):
        shutil.copy(PROJECT_ROOT / "fraud_assets_tests" / name, folder / "fraud_assets_tests")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    forks = Forks()
    (folder / "docs").mkdir()
    monkeypatch.chdir(folder / "docs")
    opened = Notebook(folder, forks)
    yield opened
    service = opened.namespace.get("service")
    if service is not None:
        service.terminate()
        service.wait(60)
    stop_embedded(folder / ".fraud" / "postgres")
    monkeypatch.undo()
    shutil.rmtree(folder)


def test_the_notebook_has_the_commands_of_the_page() -> None:
    shells = [cell.split("\n", 1) for cell in notebook_cells() if cell.startswith("%%")]
    commands = [
        command if magic != SERVE else command.removeprefix("exec ").removesuffix(" > .fraud/serve.log 2>&1")
        for magic, command in shells
    ]
    assert commands == page_commands()


def test_a_command_leaves_the_plots_of_a_notebook_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Jupyter's kernel sets it; matplotlib refuses to load with one that is not installed.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    assert CliRunner().invoke(app, ["status", "--help"]).exit_code == 0
    assert "MPLBACKEND" not in os.environ


def test_the_tutorial_leads_from_a_csv_to_a_decision_with_reasons(notebook: Notebook) -> None:
    said = {cell: notebook.run(cell) for cell in notebook_cells()}

    def answer(part: str) -> str:
        [found] = [text for cell, text in said.items() if part in cell]
        return found

    assert (notebook.folder / "contracts" / "pagos.yaml").exists()
    assert not (PROJECT_ROOT / "contracts" / "pagos.yaml").exists()
    assert re.search(r"Version \d+ is live", answer("fraud start"))
    assert "Live: version" in answer("fraud status")
    suspicious, usual = json.loads(answer("/v1/score"))["results"]
    assert (suspicious["transaction_id"], suspicious["decision"]) == ("N1", "review")
    assert (usual["transaction_id"], usual["decision"]) == ("N2", "approve")
    assert suspicious["explanation"]["reasons"][0]["text"]
    assert json.loads(answer("/v1/feedback"))["taken"] == 1
    assert notebook.namespace["service"].wait(60) is not None
