"""The GitHub workflows: what they may do, and the monthly one as its steps run, in order, in a clean folder.

No Actions run here. What a runner does is imitated: expressions and conditions of the few kinds that the files use, the
files that steps write for it, and `gh`, which keeps artifacts and issues in a folder. Each `run:` step is executed as
it stands in the file, by the same shell.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from fraud_assets.settings import PROJECT_ROOT
from fraud_assets.workflows.backups.check import check_backup

if TYPE_CHECKING:
    from fraud_assets_tests.worlds import World

pytest_plugins = ["fraud_assets_tests.worlds"]

WORKFLOWS = sorted((PROJECT_ROOT / ".github" / "workflows").glob("*.yml"))
PASSPHRASE = "a passphrase of this test"  # pragma: allowlist secret
GH = """#!{python}
import json, os, shutil, sys
from pathlib import Path

store, words = Path({store!r}), sys.argv[1:]
with (store / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
assert os.environ["GH_TOKEN"] == "token", "gh is not logged in"
option = dict(zip(words, words[1:]))
if words[:1] == ["api"]:
    print("7" if (store / "fraud-backup").exists() else "")
elif words[:2] == ["run", "download"]:
    shutil.copytree(store / option["--name"], option["--dir"])
elif words[:2] == ["issue", "list"]:
    print("3" if (store / "issue.md").exists() else "")
elif words[:2] in (["issue", "create"], ["issue", "comment"]):
    shutil.copy(option["--body-file"], store / "issue.md")
elif words[:2] != ["label", "create"]:
    sys.exit(f"no such command: {{words}}")
"""


@dataclass
class Runner:
    """Runs the steps of a job as GitHub's runner does, as far as the workflows need it."""

    workspace: Path
    store: Path
    given: dict[str, dict[str, str]]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workspace.mkdir(parents=True)
        self.store.mkdir(exist_ok=True)
        # What a checkout has, as far as the steps ask for it; the environment is there, so that `make setup` is quick.
        for name in ("Makefile", "pyproject.toml", "requirements.lock", ".venv"):
            (self.workspace / name).symlink_to(PROJECT_ROOT / name)
        programs = self.store / "bin"
        programs.mkdir(exist_ok=True)
        (programs / "gh").write_text(GH.format(python=sys.executable, store=str(self.store)))
        (programs / "gh").chmod(stat.S_IRWXU)

    def evaluate(self, expression: str) -> Any:
        """A GitHub expression."""
        text = expression.strip()

        def value(match: re.Match[str]) -> str:
            kind, *rest = match[0].split(".")
            if kind == "steps":
                found = self.outcomes.get(rest[0], "skipped")
                return repr(found if rest[1] == "outcome" else self.outputs.get(rest[0], {}).get(rest[2], ""))
            return repr(self.given.get(kind, {}).get(rest[0], ""))

        strings = r"'[^']*'"
        parts = re.split(f"({strings})", text)
        for place in range(0, len(parts), 2):
            part = re.sub(r"!(?!=)", " not ", parts[place].replace("&&", " and ").replace("||", " or "))
            parts[place] = re.sub(r"\b(steps|vars|secrets|github|inputs)(\.[\w-]+)+", value, part)
        known = {
            "always": lambda: True, "contains": lambda where, what: what in where, "fromJSON": json.loads,
            "__builtins__": {},
        }  # fmt: skip
        return eval(" ".join("".join(parts).split()), known)

    def fill(self, text: str) -> str:
        """A text with its expressions in place."""
        return re.sub(r"\$\{\{(.+?)\}\}", lambda match: str(self.evaluate(match[1])), text)

    def run(self, job: dict[str, Any]) -> bool:
        """Runs a job; whether it succeeded."""
        failed = False
        for step in job["steps"]:
            name = step.get("id") or step.get("name") or step["uses"]
            condition = str(step.get("if", "success()"))
            if (failed and "always()" not in condition) or not (
                condition == "success()" or self.evaluate(condition.removeprefix("${{").removesuffix("}}"))
            ):
                self.outcomes[name] = "skipped"
                continue
            done = self._run_step(step, name, job) if "run" in step else self._use(step)
            self.outcomes[name] = "success" if done else "failure"
            failed = failed or not done
        return not failed

    def _run_step(self, step: dict[str, Any], name: str, job: dict[str, Any]) -> bool:
        output, summary = self.workspace.parent / f"output-{name}", self.workspace.parent / "step-summary.md"
        output.touch()
        outside = {key: text for key, text in os.environ.items() if not key.startswith(("FRAUD_", "DAGSTER_"))}
        named = {**job.get("env", {}), **step.get("env", {})}
        environment = outside | {key: self.fill(str(text)) for key, text in named.items()} | {
            "GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_REPOSITORY": "us/fraud", "GITHUB_SERVER_URL": "https://github.example", "GITHUB_RUN_ID": "8",
            "PATH": f"{self.store / 'bin'}{os.pathsep}{os.environ['PATH']}", "GNUPGHOME": str(self.store / "gnupg"),
        }  # fmt: skip
        (self.store / "gnupg").mkdir(mode=0o700, exist_ok=True)
        assert "${{" not in step["run"], f"{name}: an expression in a script may bring commands in"
        ran = subprocess.run(
            [*_shell(step, job), "-c", step["run"]],
            cwd=self.workspace, env=environment, capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip
        self.said[name] = ran.stdout + ran.stderr
        self.outputs[name] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return ran.returncode == 0

    def _use(self, step: dict[str, Any]) -> bool:
        if step["uses"].startswith("actions/upload-artifact@"):
            files = [self.workspace / line.strip() for line in step["with"]["path"].splitlines()]
            there = [file for file in files if file.exists()]
            kept = self.store / step["with"]["name"]
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir()
            for file in there:
                shutil.copy(file, kept)
            return bool(there)
        assert step["uses"].startswith("actions/checkout@")
        return True

    def decrypted(self, folder: Path) -> Path:
        """The kept backup, taken apart."""
        folder.mkdir()
        command = f"gpg --batch --quiet --pinentry-mode loopback --passphrase '{PASSPHRASE}' --decrypt backup.tar.gpg"
        subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} | tar --extract --directory {folder}"],
            cwd=self.store / "fraud-backup", env=os.environ | {"GNUPGHOME": str(self.store / "gnupg")}, check=True,
            capture_output=True,
        )  # fmt: skip
        return folder


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    given = {
        "github": {"workspace": str(tmp_path / "work"), "token": "token"},
        "secrets": {"BACKUP_PASSPHRASE": PASSPHRASE},
        "inputs": {"month": "2025-05"},
    }
    yield Runner(tmp_path / "work", tmp_path / "store", given)
    # It would go on for the folder that is removed.
    agent = ["gpgconf", "--kill", "gpg-agent"]
    subprocess.run(agent, env=os.environ | {"GNUPGHOME": str(tmp_path / "store" / "gnupg")}, check=False)


def _shell(step: dict[str, Any], job: dict[str, Any]) -> list[str]:
    """The shell of a step: that which is there without a name does not look at what fails within a pipe."""
    named = step.get("shell") or job.get("defaults", {}).get("run", {}).get("shell")
    assert named in (None, "bash")
    return ["bash", "-e"] if named is None else ["bash", "--noprofile", "--norc", "-eo", "pipefail"]


def job_of(name: str, job: str) -> dict[str, Any]:
    (file,) = (one for one in WORKFLOWS if one.name == name)
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    found: dict[str, Any] = workflow["jobs"][job]
    return {"defaults": workflow.get("defaults", {})} | found


# What they may do


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_keeps_to_the_schema(file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


def test_zizmor_finds_nothing_that_can_be_misused() -> None:
    command = [Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", *WORKFLOWS]
    check = subprocess.run(command, capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_by_commit_and_no_secret_is_handed_to_every_step(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] in ({}, {"contents": "read"})
    for job in workflow["jobs"].values():
        assert "secrets" not in str(job.get("env", {}))
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            else:
                shell = subprocess.run(["bash", "-n"], input=step["run"], text=True, capture_output=True, check=False)
                assert shell.returncode == 0, shell.stderr


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("steps.month.outputs.code == '0' || steps.month.outputs.code == '10'", True),
        ("always() && steps.none.outputs.code != ''", False),
        ('!contains(fromJSON(\'["0", "30"]\'), steps.month.outputs.code)', True),
        ("steps.month.outcome == 'success' && vars.NAME == 'a && b'", True),
    ],
)
def test_expressions_mean_what_they_mean_at_github(runner: Runner, expression: str, expected: bool) -> None:
    runner.outputs["month"], runner.outcomes["month"] = {"code": "10"}, "success"
    runner.given["vars"] = {"NAME": "a && b"}
    assert bool(runner.evaluate(expression)) is expected


# The monthly run


def test_a_month_goes_on_from_the_latest_backup_and_asks_people_when_it_drifts(
    world: World, runner: Runner, tmp_path: Path
) -> None:
    from fraud_assets_tests.worlds import new_home, remove_home

    _keep_backup(world, runner, tmp_path)
    runner.given["vars"] = {"FRAUD_SIMULATOR_DRIFT": f"{world.settings.simulator_drift},amount_inflation@2025-05:4"}
    job = job_of("monthly.yml", "month")
    # Of its own, and not below `tmp_path`, which the server's user may not enter.
    home = new_home()
    small = {name: text for name, text in world.settings_given.items() if name != "FRAUD_SIMULATOR_DRIFT"}
    job["env"] |= small | {"FRAUD_WORKERS": "1", "FRAUD_HOME": str(home)}
    try:
        succeeded = runner.run(job)
        assert runner.outputs["month"] == {"code": "0", "drift": "DRIFT"}, runner.said
        assert succeeded, runner.said
    finally:
        remove_home(home)
    # Nothing was answered, since no model waits.
    others = {name: outcome for name, outcome in runner.outcomes.items() if outcome != "success"}
    assert others == {"Answer for a model that waits": "skipped"}
    # The four months of the backup, and one more.
    manifest = check_backup(runner.decrypted(tmp_path / "opened"))
    months = {name.split()[1] for name in manifest["months"] if name.startswith("evaluation ")}
    assert months == {*world.months, "2025-05"}
    assert manifest["ledger_head"]["number"] > world.query("SELECT max(number) FROM ledger")[0][0]
    kept = runner.store / "fraud-month"
    assert {file.name for file in kept.iterdir()} == {"summary.md", "report.html", "model.tar.gz"}
    summary = (kept / "summary.md").read_text()
    assert "DRIFT in 2025-05" in summary
    assert (tmp_path / "step-summary.md").read_text() == summary
    assert "2025-05" in (kept / "report.html").read_text()
    issue = (runner.store / "issue.md").read_text()
    assert "ended with 0; drift: DRIFT" in issue
    assert summary in issue
    calls = [json.loads(line) for line in (runner.store / "calls").read_text().splitlines()]
    assert [call[:2] for call in calls[-3:]] == [["label", "create"], ["issue", "list"], ["issue", "create"]]
    # People's rows are in what is kept, and nobody without the passphrase can read them.
    assert PASSPHRASE not in json.dumps(calls) + "".join(runner.said.values())


def _keep_backup(world: World, runner: Runner, tmp_path: Path) -> None:
    """Keeps a backup of the world, by the workflow's own step."""
    job = job_of("monthly.yml", "month")
    (step,) = (one for one in job["steps"] if one.get("id") == "backup")
    job["env"] |= world.settings_given | {"FRAUD_HOME": str(world.home)}
    (runner.workspace / "out").mkdir()
    assert runner._run_step(step, "first backup", job), runner.said
    (runner.store / "fraud-backup").mkdir()
    shutil.move(runner.workspace / "out" / "backup.tar.gpg", runner.store / "fraud-backup")
    shutil.rmtree(runner.workspace / "backups")
    assert not (runner.workspace / ".fraud").exists()
    assert tmp_path in runner.workspace.parents


@pytest.mark.parametrize(
    ("code", "drift", "asks", "succeeds"),
    [
        ("0", "OK", False, True),
        ("0", "DRIFT", True, True),
        ("10", "OK", True, True),
        ("20", "unknown", True, False),
        ("30", "WATCH", False, True),
        ("40", "OK", False, True),
        ("1", "unknown", True, False),
    ],
)
def test_what_becomes_of_each_exit_code(runner: Runner, code: str, drift: str, asks: bool, succeeds: bool) -> None:
    job = job_of("monthly.yml", "month")
    runner.outputs["month"] = {"code": code, "drift": drift}
    (runner.workspace / "out").mkdir()
    (runner.workspace / "out" / "summary.md").write_text("# summary\n")
    (runner.store / "issue.md").write_text("of the month before")
    job["steps"] = job["steps"][-2:]
    assert runner.run(job) is succeeds, runner.said
    assert ((runner.store / "issue.md").read_text() != "of the month before") is asks
    if asks:
        calls = [json.loads(line) for line in (runner.store / "calls").read_text().splitlines()]
        # The issue that is open is gone on with.
        assert calls[-1][:3] == ["issue", "comment", "3"]


def test_an_answer_goes_to_the_command_with_the_name_of_who_gave_it(world: World, runner: Runner) -> None:
    job = job_of("monthly.yml", "month")
    (step,) = (one for one in job["steps"] if one.get("name") == "Answer for a model that waits")
    assert not runner.evaluate(step["if"])
    runner.given["inputs"] |= {"answer": "approve", "version": "99", "reason": "seen; $(touch here) it's fine"}
    runner.given["github"]["actor"] = "ada"
    assert runner.evaluate(step["if"])
    job["env"] |= world.settings_given | {"FRAUD_HOME": str(world.home)}
    # Nothing waits in this world, so nothing is promoted; the month is not run then.
    assert not runner._run_step(step, "answer", job)
    assert "version 99 does not wait" in runner.said["answer"]
    assert not (runner.workspace / "here").exists()
    assert runner.fill(step["env"]["LOGNAME"]) == "ada"


def test_without_a_passphrase_nothing_is_kept(runner: Runner) -> None:
    runner.given["secrets"] = {}
    job = job_of("monthly.yml", "month")
    (step,) = (one for one in job["steps"] if one.get("id") == "backup")
    assert not runner._run_step(step, "backup", job)
    assert "Set the secret BACKUP_PASSPHRASE" in runner.said["backup"]
    assert not (runner.workspace / "out").exists()
