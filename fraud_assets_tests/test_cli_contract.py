"""`fraud contract` and `fraud quarantine`: what they print in both forms, what they change, and how they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.cli import app
from fraud_assets.cli.base import graph
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.settings import PROJECT_ROOT, Settings
from fraud_assets.workflows.quarantine import take_in_again
from fraud_assets_tests.sentences import said as sentences_of

pytest_plugins = ["fraud_assets_tests.worlds"]

REGISTRATIONS = PROJECT_ROOT.parent / "shared" / "data" / "registrations" / "registrations.csv"
CONTRACT = """
name: quarantine_tests
first_month: 2025-01
last_month: 2025-02
file_pattern: "cards_{month}.csv"
transaction_id: {column: id, type: string}
event_timestamp: {column: at}
entities:
  customer_id: {column: who, type: string}
amount: {column: amount, type: number, minimum: 0}
attributes:
  channel: {column: channel, type: string, categories: [web, shop]}
label: {column: fraud, delay_days: 7}
maturity_days: 14
quarantine_limit: 0.5
"""
JANUARY, FEBRUARY = "2025-01", "2025-02"


def ask(*arguments: object) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "250"})


def refusal(*arguments: object) -> str:
    """The sentence with which the command refuses."""
    result = ask(*arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.startswith("error: ")
    return str(result.stderr).strip()


def asked(*arguments: object, code: int = 0) -> Any:
    """What the command says with --json."""
    result = ask(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


# A folder of card transactions


@dataclass
class Cards:
    """A folder with a contract and one CSV file a month."""

    folder: Path
    rows: dict[str, list[list[Any]]] = field(default_factory=dict)

    @property
    def contract(self) -> Path:
        """The contract's file."""
        return self.folder / "cards.yaml"

    def deliver(self, month: str, *changed: tuple[int, int, Any]) -> Path:
        """Writes a month's file of ten rows, with other values at (row from 0, column)."""
        rows = [
            [f"{month}-{n}", f"{month}-{n + 1:02d} 10:00:00", f"c{n % 3}", f"{n}.50", "web", int(n == 9)]
            for n in range(10)
        ]
        for row, position, value in changed:
            rows[row][position] = value
        path = self.folder / f"cards_{month}.csv"
        lines = [["id", "at", "who", "amount", "channel", "fraud"], *rows]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), encoding="utf-8")
        return path


AT, AMOUNT, CHANNEL = 1, 3, 4


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cards:
    found = Cards(tmp_path)
    found.contract.write_text(CONTRACT, encoding="utf-8")
    monkeypatch.setenv("FRAUD_CONTRACT", str(found.contract))
    monkeypatch.setenv("FRAUD_SOURCE", "csv")
    monkeypatch.setenv("FRAUD_SOURCE_PATH", str(tmp_path))
    return found


# Check


def test_check_says_what_the_contract_says(cards: Cards) -> None:
    cards.deliver(JANUARY)
    said = ask("contract", "check", cards.contract)
    assert said.exit_code == 0
    lines = {" ".join(line.split()) for line in said.stdout.splitlines()}
    assert "identifier id (string)" in lines
    assert "time at, as ISO 8601 or a timestamp; in UTC where it carries no offset" in lines
    assert "entity customer_id: who (string)" in lines
    assert "amount amount (number, from 0)" in lines
    assert "attribute channel: channel (string, one of web, shop)" in lines
    assert "label fraud: fraud is 1, true; genuine is 0, false; known 7 days after the event" in lines
    assert "maturity genuine without a report after 14 days" in lines
    assert "2025-01: 10 rows, 10 accepted, 0 quarantined, 10.0 % fraud, 100.0 % with a label" in lines


def test_check_counts_reasons_with_three_examples_each_and_writes_nothing(cards: Cards) -> None:
    wrong = [(row, AMOUNT, "-1") for row in range(4)] + [(3, CHANNEL, "phone"), (9, 5, "")]
    cards.deliver(JANUARY, *wrong)
    found = asked("contract", "check", cards.contract)["data"]
    assert (found["n_delivered"], found["n_accepted"], found["n_quarantined"]) == (10, 6, 4)
    assert [(row["reason"], row["rows"], len(row["examples"])) for row in found["reasons"]] == [
        ("amount is below 0", 4, 3),
        ("channel is none of ['web', 'shop']", 1, 1),
    ]
    (example,) = found["reasons"][1]["examples"]
    assert (example["source"], example["row_number"], example["original"]["channel"]) == (
        "cards_2025-01.csv", 4, "phone",
    )  # fmt: skip
    assert (found["fraud_rate"], found["label_share"], found["refused"]) == (0.0, 0.9, None)
    assert not (Settings().workspace).exists()


def test_a_month_that_would_be_refused_is_told_with_its_reasons_and_exit_code_1(cards: Cards) -> None:
    cards.deliver(JANUARY, *[(row, AMOUNT, "much") for row in range(6)])
    found = asked("contract", "check", cards.contract, code=1)["data"]
    assert found["reasons"][0]["rows"] == 6
    assert found["refused"].startswith("2025-01 would be refused: 6 of 10 rows (60.0 %) break the contract")
    said = ask("contract", "check", cards.contract)
    assert said.exit_code == 1
    assert "2025-01 would be refused" in said.stdout
    assert "row 1 of cards_2025-01.csv: id=2025-01-0" in said.stdout


def test_all_months_are_read_or_the_one_asked_for(cards: Cards) -> None:
    cards.deliver(FEBRUARY)
    assert asked("contract", "check", cards.contract)["data"]["month"] == FEBRUARY
    cards.deliver(JANUARY)
    found = asked("contract", "check", cards.contract)["data"]
    assert [row["month"] for row in found["months"]] == [JANUARY, FEBRUARY]
    assert asked("contract", "check", cards.contract, "--month", FEBRUARY)["data"]["month"] == FEBRUARY


def test_the_check_says_what_models_can_use_and_of_the_rest_why_not(cards: Cards) -> None:
    cards.deliver(JANUARY, *[(row, AMOUNT, "2.50") for row in range(10)])
    found = asked("contract", "check", cards.contract)["data"]
    used = {row["name"]: (row["used"], row["why_not"]) for row in found["columns"]}
    assert used == {
        "customer_id": (True, ""),
        "amount": (False, "it has the same value in every row, 2.5"),
        "channel": (False, "it has the same value in every row, web"),
    }
    said = ask("contract", "check", cards.contract).stdout
    assert "history of: customer_id" in said
    assert "not used: channel, it has the same value in every row, web" in said


def test_frauds_are_counted_over_what_is_known_and_unknown_rows_are_counted(cards: Cards) -> None:
    cards.deliver(JANUARY, *[(row, 5, "") for row in range(5)])
    (month,) = asked("contract", "check", cards.contract)["data"]["months"]
    assert (month["n_fraud"], month["n_genuine"], month["n_unknown"], month["fraud_rate"]) == (1, 4, 5, 0.2)


def test_a_fault_that_hits_only_frauds_refuses_the_month(cards: Cards) -> None:
    file = cards.deliver(JANUARY)
    fraud = [f"f{n},2025-01-05 10:00:00,c1,{'much' if n < 9 else '2'},web,1" for n in range(10)]
    good = [f"g{n},2025-01-06 10:00:00,c1,3,web,0" for n in range(400)]
    file.write_text("\n".join(["id,at,who,amount,channel,fraud", *fraud, *good]), encoding="utf-8")
    text = CONTRACT.replace("quarantine_limit: 0.5", "quarantine_limit: 0.05")
    cards.contract.write_text(text, encoding="utf-8")
    found = asked("contract", "check", cards.contract, code=1)["data"]
    assert "2025-01 would be refused: 9 of 10 rows that say fraud (90.0 %)" in found["refused"]


def test_a_row_of_another_month_and_an_id_that_comes_twice_are_named(cards: Cards) -> None:
    cards.deliver(JANUARY, (0, AT, "2025-02-03 10:00:00"), (2, 0, "2025-01-1"))
    found = asked("contract", "check", cards.contract)["data"]
    assert {row["reason"]: row["rows"] for row in found["reasons"]} == {
        "event_timestamp lies outside 2025-01": 1,
        "transaction_id appears earlier in the delivery": 1,
    }
    assert (found["n_delivered"], found["n_accepted"]) == (10, 8)


def test_data_is_a_folder_or_a_file_whose_name_says_the_month(
    cards: Cards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUD_CONTRACT")
    cards.deliver(JANUARY, (0, AMOUNT, "-1"))
    file = cards.deliver(FEBRUARY)
    assert asked("contract", "check", cards.contract, "--data", file)["data"]["month"] == FEBRUARY
    found = asked("contract", "check", cards.contract, "--data", tmp_path)["data"]
    assert (found["month"], found["n_quarantined"]) == (JANUARY, 1)


def test_a_file_whose_name_says_no_month_is_cut_by_its_times(cards: Cards, tmp_path: Path) -> None:
    file = cards.deliver(JANUARY, (0, AT, "2025-02-03 10:00:00")).rename(tmp_path / "sample.csv")
    found = asked("contract", "check", cards.contract, "--data", file)["data"]
    assert [(row["month"], row["n_delivered"]) for row in found["months"]] == [(JANUARY, 9), (FEBRUARY, 1)]
    found = asked("contract", "check", cards.contract, "--data", file, "--month", FEBRUARY)["data"]
    assert found["n_delivered"] == 1


def test_without_data_another_contract_than_the_configured_one_is_only_read(cards: Cards) -> None:
    found = asked("contract", "check", PROJECT_ROOT / "contracts" / "handbook.yaml")
    assert found["data"] is None
    assert found["contract"]["transaction_id"]["column"] == "TRANSACTION_ID"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("maturity_days", "maturity_dayz", "maturity_dayz is no field of a contract: did you mean maturity_days?"),
        ("maturity_days: 14", "", "maturity_days is required: add it"),
        ("{column: at}", "{column: at, timezone: UTC}", "event_timestamp.timezone is no field of a contract: timezone"),
        ("{column: who, type: string}", "{colum: who}", "entities.customer_id.colum is no field of a contract: did"),
        ("type: number, minimum: 0", "type: money", "amount.type is 'money': Input should be 'integer'"),
        ("delay_days: 7", "delay_days: soon", "label.delay_days is 'soon': Input should be a valid number"),
        ("name: quarantine_tests", "name: [", "is not valid YAML"),
        (CONTRACT, "- id", "contract must consist of fields: name, "),
    ],
)  # fmt: skip
def test_a_wrong_contract_is_refused_with_the_field_and_the_remedy(cards: Cards, old: str, new: str, said: str) -> None:
    cards.contract.write_text(CONTRACT.replace(old, new), encoding="utf-8")
    assert said in refusal("contract", "check", cards.contract, "--data", cards.folder)


def test_what_the_data_lacks_is_named(cards: Cards) -> None:
    file = cards.deliver(JANUARY)
    cards.contract.write_text(CONTRACT.replace("column: channel", "column: via"), encoding="utf-8")
    assert "cards_2025-01.csv lacks 'via' (for channel)" in refusal("contract", "check", cards.contract, "--data", file)


def test_what_cannot_be_checked_is_refused(cards: Cards, tmp_path: Path) -> None:
    file = cards.deliver(JANUARY)
    assert "there is no contract at" in refusal("contract", "check", tmp_path / "none.yaml")
    assert "there is no file or folder" in refusal("contract", "check", cards.contract, "--data", tmp_path / "none.csv")
    assert "'May' is not a month" in refusal("contract", "check", cards.contract, "--month", "May")
    assert f"{file} is named as the file of 2025-01, not of 2025-02" in refusal(
        "contract", "check", cards.contract, "--data", file, "--month", FEBRUARY
    )
    file.unlink()
    assert "the source has no data for any month of contract" in refusal("contract", "check", cards.contract)


# Draft


def _runs(draft: Path, data: Path, *more: str) -> dict[str, Any]:
    """What a draft makes of the data it was drafted from: every row is accepted."""
    found: dict[str, Any] = asked("contract", "check", draft, "--data", data, *more)["data"]
    assert found["n_accepted"] == found["n_delivered"] > 0
    return found


def test_a_draft_is_written_says_what_to_confirm_and_runs_on_its_file(cards: Cards, tmp_path: Path) -> None:
    file, out = cards.deliver(JANUARY), tmp_path / "drafts" / "cards.yaml"
    said = ask("contract", "draft", file, "--out", out, "--name", "mine")
    assert said.exit_code == 0, said.output
    assert "- delay_days: the file does not say when a label became known" in said.stdout
    assert f"Then: fraud contract check {out} --data {file}" in said.stdout
    assert parse_contract(out.read_text(encoding="utf-8")).name == "mine"
    assert _runs(out, file)["fraud_rate"] == 0.1


def test_a_draft_goes_to_the_screen_where_no_file_is_named(cards: Cards) -> None:
    said = ask("contract", "draft", cards.deliver(JANUARY))
    assert parse_contract(said.stdout).file_pattern == "cards_{month}.csv"
    found = asked("contract", "draft", cards.deliver(JANUARY))
    assert found["contract"] == said.stdout
    assert any(question.startswith("timezone: ") for question in found["to_confirm"])


def test_a_contract_that_is_there_is_not_written_over(cards: Cards) -> None:
    said = refusal("contract", "draft", cards.deliver(JANUARY), "--out", cards.contract)
    assert "exists already and is left unchanged" in said
    assert cards.contract.read_text(encoding="utf-8") == CONTRACT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
def test_semicolons_decimal_commas_and_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    file, out = tmp_path / "umsaetze.csv", tmp_path / "umsaetze.yaml"
    rows = [
        f"{n + 1:02d}.03.2024 08:15;K{n % 5};{n},5{n % 10};{'Ja' if n % 7 == 0 else 'Nein'};Köln" for n in range(28)
    ]
    file.write_text("\n".join(["Datum;Kunden-Nr;Betrag;Betrug;Ort", *rows]), encoding=encoding)
    assert ask("contract", "draft", file, "--out", out).exit_code == 0
    contract = parse_contract(out.read_text(encoding="utf-8"))
    assert (contract.csv.decimal, contract.csv.encoding) == (
        ",",
        {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(encoding, encoding),
    )
    assert contract.event_timestamp.format == "%d.%m.%Y %H:%M"
    assert list(contract.entities) == ["customer_id"]
    assert contract.label.fraud_values == ("Ja",)
    assert contract.attributes["ort"].type == "string"
    assert _runs(out, file)["fraud_rate"] == 4 / 28


def test_a_file_without_label_drafts_a_feed_and_runs(cards: Cards, tmp_path: Path) -> None:
    file, out = cards.deliver(JANUARY), tmp_path / "draft.yaml"
    text = "".join(line.rpartition(",")[0] + "\n" for line in file.read_text(encoding="utf-8").splitlines())
    file.write_text(text, encoding="utf-8")
    assert ask("contract", "draft", file, "--out", out).exit_code == 0
    assert _runs(out, file)["fraud_rate"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,amount\n1,2\n", "no column can be read as the time of an event"),
        ("id,at\n", "the file has no rows"),
    ],
)
def test_a_file_that_cannot_be_drafted_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "cards.csv"
    file.write_text(text, encoding="utf-8")
    message = refusal("contract", "draft", file)
    assert str(file) in message
    assert said in message


def test_what_cannot_be_drafted_is_refused(cards: Cards, tmp_path: Path) -> None:
    assert "there is no file" in refusal("contract", "draft", tmp_path / "none.csv")
    assert "name is 'My Cards'" in refusal("contract", "draft", cards.deliver(JANUARY), "--name", "My Cards")


@pytest.mark.parametrize("name", ["flat_transactions_2024-01.csv", "flat_transactions_2024-03.csv"])
def test_the_examples_are_drafted_as_their_contract_has_them(tmp_path: Path, name: str) -> None:
    file, out = PROJECT_ROOT / "examples" / name, tmp_path / "draft.yaml"
    assert ask("contract", "draft", file, "--out", out).exit_code == 0
    drafted = parse_contract(out.read_text(encoding="utf-8"))
    written = parse_contract((PROJECT_ROOT / "contracts" / "flat_example.yaml").read_text(encoding="utf-8"))
    for part in ("first_month", "last_month", "file_pattern", "transaction_id", "event_timestamp", "entities"):
        assert getattr(drafted, part) == getattr(written, part), part
    assert drafted.label.column == written.label.column
    assert drafted.label.fraud_values == ("1",)
    assert {name: column.type for name, column in drafted.attributes.items()} == dict.fromkeys(
        ["v1", "v2", "v3", "v4", "v5", "v6"], "number"
    )
    _runs(out, file)


def test_the_handbooks_month_is_drafted_without_its_answer_key(handbook: Path, tmp_path: Path) -> None:
    file, out = handbook / "transactions_2018-05.parquet", tmp_path / "draft.yaml"
    assert ask("contract", "draft", file, "--out", out).exit_code == 0
    drafted = parse_contract(out.read_text(encoding="utf-8"))
    assert drafted.transaction_id is not None
    assert (drafted.transaction_id.column, drafted.transaction_id.type) == ("TRANSACTION_ID", "integer")
    assert list(drafted.entities) == ["customer_id", "terminal_id"]
    assert drafted.label.column == "TX_FRAUD"
    assert drafted.attributes == {}
    assert "left out: TX_FRAUD_SCENARIO says by its name" in out.read_text(encoding="utf-8")
    assert _runs(out, file)["month"] == "2018-05"


@pytest.mark.skipif(not REGISTRATIONS.is_file(), reason=f"{REGISTRATIONS} IS ABSENT: the published registrations")
def test_registrations_are_drafted_and_each_of_their_months_runs(tmp_path: Path) -> None:
    out = tmp_path / "draft.yaml"
    assert ask("contract", "draft", REGISTRATIONS, "--out", out).exit_code == 0
    drafted = parse_contract(out.read_text(encoding="utf-8"))
    assert drafted.transaction_id is None
    assert drafted.amount is None
    assert set(drafted.entities) == {"ip_address", "email_address"}
    assert (drafted.label.fraud_values, drafted.label.genuine_values) == (("fraud",), ("legit",))
    assert (drafted.first_month, drafted.last_month) == ("2022-03", "2023-03")
    assert _runs(out, REGISTRATIONS)["n_delivered"] == 20_000
    assert _runs(out, REGISTRATIONS, "--month", "2022-03")["n_delivered"] == 1401
    assert _runs(out, REGISTRATIONS, "--month", "2023-03")["n_delivered"] == 292


# Quarantine


@dataclass
class Taken:
    """The platform with January taken in, and February delivered."""

    cards: Cards
    store: MonthStore

    def take_in(self, *months: str) -> None:
        assert take_in_again(graph(Settings()), Settings(), list(months)) == {}

    def amounts(self, month: str = JANUARY) -> dict[str, float]:
        """What is stored of a month."""
        rows = self.store.read("raw_transactions", first_month=month, last_month=month)
        return dict(zip(rows["transaction_id"].to_pylist(), rows["amount"].to_pylist(), strict=True))

    def quarantined(self, **wanted: object) -> list[dict[str, Any]]:
        """The rows that are listed, those that have these values."""
        rows = asked("quarantine", "list")["rows"]
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture
def taken(cards: Cards, server: Callable[[str], Database]) -> Taken:
    """January with a refund, an unreadable amount, an unknown channel and a time in February; then a refund."""
    database = server("quarantine_tests")
    database.close()
    with database.session() as connection:
        connection.execute("DROP SCHEMA public, months CASCADE")
        connection.execute("CREATE SCHEMA public")
    database.prepare("quarantine_tests")
    cards.deliver(
        JANUARY, (0, AMOUNT, "-1.25"), (1, AMOUNT, "much"), (2, CHANNEL, "phone"), (3, AT, "2025-02-03 10:00:00")
    )
    cards.deliver(FEBRUARY, (0, AMOUNT, "-7"))
    world = Taken(cards, open_store(Settings(), writing=True))
    world.take_in(JANUARY)
    return world


def row_like(taken: Taken, reason: str, month: str = JANUARY) -> str:
    """The id of the one row with a reason like this."""
    (row,) = [row for row in taken.quarantined(month=month) if reason in sentences_of(row["reasons"])]
    return str(row["row"])


def test_list_counts_by_month_and_reason_and_shows_rows(taken: Taken) -> None:
    taken.take_in(FEBRUARY)
    listed = asked("quarantine", "list")
    assert [(row["month"], row["reason"], row["rows"]) for row in listed["counts"]] == [
        (JANUARY, "amount is below 0", 1),
        (JANUARY, "amount is not a number", 1),
        (JANUARY, "channel is none of ['web', 'shop']", 1),
        (JANUARY, "event_timestamp lies outside 2025-01", 1),
        (FEBRUARY, "amount is below 0", 1),
    ]
    (row,) = asked("quarantine", "list", "--reason", "below", "--month", JANUARY)["rows"]
    assert (row["source"], row["row_number"], row["original"]["amount"]) == ("cards_2025-01.csv", 1, "-1.25")
    assert len(asked("quarantine", "list", "--limit", 2)["rows"]) == 2
    said = ask("quarantine", "list").stdout
    assert row["row"] in said
    assert "amount=-1.25" in said


def test_a_released_row_is_accepted_and_february_is_left_alone(taken: Taken) -> None:
    taken.take_in(FEBRUARY)
    before = taken.store.months("raw_transactions")
    said = asked("quarantine", "release", row_like(taken, "below"), "--because", "a refund")
    assert [row["month"] for row in said["settled"]] == [JANUARY]
    assert (said["changed"], said["remaining"], said["failed"]) == ([JANUARY], [], {})
    assert taken.amounts()["2025-01-0"] == -1.25
    assert [
        row for row in taken.quarantined(month=JANUARY) if sentences_of(row["reasons"]) == "amount is below 0"
    ] == []
    after = taken.store.months("raw_transactions")
    assert {month for month in after if after[month] != before[month]} == {JANUARY}


def test_rows_that_cannot_be_stored_stay_with_what_to_correct(taken: Taken) -> None:
    unreadable, outside = row_like(taken, "not a number"), row_like(taken, "lies outside")
    said = asked("quarantine", "release", unreadable, outside, "--because", "it is urgent", code=1)
    assert said["settled"] == []
    remedies = {row["row"]: row["remedy"] for row in said["remaining"]}
    assert "correct what cannot be read, in row 2 of cards_2025-01.csv, and deliver 2025" in remedies[unreadable]
    assert "correct its time, or deliver it with the month it belongs to, in row 4" in remedies[outside]
    assert row_like(taken, "not a number") == unreadable
    told = ask("quarantine", "release", unreadable, "--because", "it is urgent")
    assert told.exit_code == 1
    assert f"not stored {unreadable}" in told.stdout


def test_a_dropped_row_stays_listed_as_dropped_and_can_be_released_later(taken: Taken) -> None:
    row = row_like(taken, "channel")
    asked("quarantine", "drop", row, "--because", "a test of ours")
    assert [found["status"] for found in taken.quarantined(row=row)] == ["dropped"]
    asked("quarantine", "release", row, "--because", "it was real")
    assert taken.quarantined(row=row) == []
    assert "2025-01-2" in taken.amounts()


def test_a_released_row_can_be_dropped_later(taken: Taken) -> None:
    row = row_like(taken, "channel")
    asked("quarantine", "release", row, "--because", "fine")
    asked("quarantine", "drop", row, "--because", "not fine")
    assert "2025-01-2" not in taken.amounts()
    assert [found["status"] for found in taken.quarantined(row=row)] == ["dropped"]


def test_rows_are_chosen_by_reason_in_all_months_or_in_one(taken: Taken) -> None:
    taken.take_in(FEBRUARY)
    said = asked("quarantine", "drop", "--reason-contains", "below", "--month", FEBRUARY, "--because", "no")
    assert said["months"] == [FEBRUARY]
    said = asked("quarantine", "release", "--reason-contains", "below", "--because", "refunds")
    # The one that was dropped is decided already.
    assert said["months"] == [JANUARY]
    said = asked("quarantine", "drop", "--all", "--month", JANUARY, "--because", "done with it")
    assert len(said["settled"]) == 3
    assert {row["status"] for row in taken.quarantined()} == {"dropped"}


def test_what_was_decided_goes_when_a_corrected_file_comes(taken: Taken) -> None:
    asked("quarantine", "drop", row_like(taken, "channel"), "--because", "no")
    taken.cards.deliver(JANUARY, (1, AMOUNT, "2.75"))
    taken.take_in(JANUARY)
    assert taken.quarantined(month=JANUARY) == []
    assert len(taken.amounts()) == 10
    assert taken.amounts()["2025-01-1"] == 2.75


def test_a_decision_that_cannot_be_carried_out_now_waits_for_the_next_run(taken: Taken) -> None:
    row = row_like(taken, "below")
    file = taken.cards.folder / "cards_2025-01.csv"
    text = file.read_bytes()
    file.unlink()
    said = asked("quarantine", "release", row, "--because", "a refund", code=1)
    assert "has no file 'cards_2025-01.csv'" in said["failed"][JANUARY]
    assert said["settled"] == []
    file.write_bytes(text)
    taken.take_in(JANUARY)
    assert taken.amounts()["2025-01-0"] == -1.25


def test_rows_that_are_not_there_are_refused_and_nothing_is_decided(taken: Taken) -> None:
    # One test, because taking a month in takes seconds.
    for arguments, said in [
        ([], "give the ids of rows"),
        (["--month", JANUARY], "give the ids of rows"),
        (["abcd", "--all"], "one way, not both"),
        (["zzzz"], "'zzzz' names no row"),
        (["0123456789abcdef"], "no quarantined row begins with '0123456789abcdef'"),
        (["--reason-contains", "nothing of the kind"], "no row in quarantine matches"),
        (["--all", "--month", "May"], "'May' is not a month"),
    ]:
        assert said in refusal("quarantine", "release", *arguments, "--because", "x")
    assert taken.store.database.rows("quarantine_decisions", "SELECT 1 FROM quarantine_decisions") == []


def test_a_decision_needs_a_reason() -> None:
    result = ask("quarantine", "drop", "--all")
    assert result.exit_code == 2
    assert "--because" in result.stderr
