"""`fraud start`: what it asks and writes, what it leaves alone, and where it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fraud_assets.cli import app
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.workflows.new_source import start


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder of the test's own, in which contracts and .env are written."""
    folder = tmp_path / "project"
    (folder / "contracts").mkdir(parents=True)
    monkeypatch.setattr(start, "PROJECT_ROOT", folder)
    # What `start` sets for its own process goes with the test.
    for name in start.SETTINGS:
        monkeypatch.setenv(name, "unset")
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def rows(month: str, n: int = 120, label: str = "is_fraud") -> str:
    lines = [f"tx_id,at,card,amount,{label}"]
    lines += [
        f"{month}-{number},{month}-{number % 28 + 1:02d} {number % 24:02d}:00:00,C{number % 40:04d},{number}.50,"
        f"{int(number % 12 == 0)}"
        for number in range(n)
    ]
    return "\n".join(lines) + "\n"


def ask(*arguments: object, answers: str = "") -> Result:
    return CliRunner().invoke(app, ["start", *map(str, arguments)], input=answers, env={"COLUMNS": "250"})


def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Notes the months that would be run; a model comes of them."""
    taken: list[list[str]] = []

    def run(job: Any, settings: Any, started: start.Started, contract: Any, check: Any, told: Any) -> None:
        taken.append(start.months_to_take(check, contract, start.datetime.now(start.UTC)))
        started.version, started.costs, started.review_capacity = 3, "a review costs 7.5", 40

    monkeypatch.setattr(start, "run", run)
    monkeypatch.setattr("fraud_assets.cli.start.graph", lambda _: None)
    monkeypatch.setattr("fraud_assets.cli.start.show_platform", lambda _: None)
    monkeypatch.setattr("fraud_assets.cli.start.open_settings", lambda: None)
    return taken


def test_a_folder_of_months_becomes_contract_settings_and_a_run_of_all(
    project: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for month in ("2024-01", "2024-02", "2024-04"):
        (data / f"cards_{month}.csv").write_text(rows(month), encoding="utf-8")
    taken = ran(monkeypatch)
    said = ask(data / "cards_2024-02.csv", "--yes")
    assert said.exit_code == 0, said.output
    assert "3 files are delivered alike and are taken together" in said.stdout
    assert "no row in 2024-03" in said.stdout
    assert "Version 3 is live." in said.stdout
    assert "a review costs 7.5, and 40 reviews a day are possible" in said.stdout
    assert taken == [["2024-01", "2024-02", "2024-04"]]
    contract = load_contract(project / "contracts" / "cards.yaml")
    assert contract.file_pattern == "cards_{month}.csv"
    assert (project / ".env").read_text(encoding="utf-8").splitlines()[1:] == [
        "FRAUD_CONTRACT=contracts/cards.yaml", "FRAUD_SOURCE=csv", f"FRAUD_SOURCE_PATH={data}",
    ]  # fmt: skip


def test_a_second_time_the_contract_is_used_as_a_person_left_it(
    project: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = data / "cards.csv"
    file.write_text(rows("2024-01"), encoding="utf-8")
    ran(monkeypatch)
    assert ask(file, "--yes").exit_code == 0
    contract, env = project / "contracts" / "cards.yaml", project / ".env"
    contract.write_text(contract.read_text(encoding="utf-8").replace("delay_days: 14", "delay_days: 3"), "utf-8")
    before = contract.read_bytes(), env.read_bytes()
    said = ask(file, "--yes")
    assert "exists already and is used as it is" in said.stdout
    assert (contract.read_bytes(), env.read_bytes()) == before
    assert [path.name for path in contract.parent.iterdir()] == ["cards.yaml"]


def test_what_is_there_of_another_contract_is_left_alone(
    project: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("FRAUD_CONTRACT=contracts/cards.yaml\nFRAUD_SERVE_PORT=5007\n", encoding="utf-8")
    (project / "contracts" / "cards.yaml").write_text("name: of somebody else\n", encoding="utf-8")
    before = (project / ".env").read_bytes()
    (data / "cards.csv").write_text(rows("2024-01"), encoding="utf-8")
    ran(monkeypatch)
    said = ask(data / "cards.csv", "--yes")
    assert said.exit_code == 0, said.output
    assert (project / ".env").read_bytes() == before
    assert load_contract(project / "contracts" / "cards_2.yaml").name == "cards_2"
    own = (project / ".env.cards_2").read_text(encoding="utf-8").splitlines()
    assert {"FRAUD_SERVE_PORT=5007", "FRAUD_CONTRACT=contracts/cards_2.yaml"} <= set(own)
    assert f"cp {project / '.env.cards_2'} {project / '.env'}" in said.stdout


def test_settings_are_added_to_an_env_that_names_no_contract(
    project: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".env").write_text("FRAUD_SERVE_PORT=5007", encoding="utf-8")
    (data / "cards.csv").write_text(rows("2024-01"), encoding="utf-8")
    ran(monkeypatch)
    assert ask(data / "cards.csv", "--yes").exit_code == 0
    lines = (project / ".env").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "FRAUD_SERVE_PORT=5007"
    assert "FRAUD_SOURCE=csv" in lines


def test_a_person_is_asked_what_only_a_person_knows(project: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "cards.csv").write_text(rows("2024-01", label="outcome"), encoding="utf-8")
    ran(monkeypatch)
    said = ask(data / "cards.csv", answers="\n0\n21\nEurope/Paris\n")
    assert said.exit_code == 0, said.output
    for question in ("Which column says what was fraud?", "Which of its values mean fraud?", "How many days", "zone"):
        assert question in said.stdout
    contract = load_contract(project / "contracts" / "cards.yaml")
    assert (contract.label.column, contract.label.fraud_values) == ("outcome", ("0",))
    assert (contract.label.delay_days, contract.timezone) == (21, "Europe/Paris")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rows("2024-01").replace(",is_fraud", ",v"), "no column says which rows were fraud"),
        (rows("2024-01").replace(",0\n", ",1\n"), "all rows with a label in 'is_fraud' are fraud"),
        (rows("2024-01").replace(",1\n", ",0\n"), "no row is stated to be fraud in 'is_fraud'"),
        (rows("2099-01"), "all rows lie in 2099-01 or later"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_run(
    data: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (data / "cards.csv").write_text(text, encoding="utf-8")
    taken = ran(monkeypatch)
    found = ask(data / "cards.csv", "--yes")
    assert found.exit_code == 0, found.output
    assert f"Not yet: {said}" in found.stdout
    assert taken == []


def test_a_file_of_frauds_alone_is_known_by_its_name(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "Fraud_Transactions.csv").write_text(rows("2024-01").replace(",is_fraud", ",v"), encoding="utf-8")
    ran(monkeypatch)
    assert "the file's name says that its rows are frauds" in ask(data / "Fraud_Transactions.csv", "--yes").stdout


def test_json_says_where_it_ended(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "cards.csv").write_text(rows("2024-01"), encoding="utf-8")
    ran(monkeypatch)
    found = json.loads(ask(data / "cards.csv", "--json").stdout)
    assert (found["ended"], found["check"]["n_accepted"], found["asked"]) == ("version 3 is live", 120, {})


def test_a_file_that_cannot_be_used_is_an_error_with_the_remedy(data: Path, project: Path) -> None:
    (data / "a.csv").write_text("id,amount\n1,2\n", encoding="utf-8")
    said = ask(data / "a.csv", "--yes")
    assert said.exit_code == 1
    assert "no column can be read as the time of an event" in said.stderr
    assert "there is no file or folder" in ask(data / "none.csv", "--yes").stderr
    assert not (project / ".env").exists()
