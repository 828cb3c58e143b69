"""Files made after public bug reports: what the draft makes of each, and that the check takes what was drafted."""

from __future__ import annotations

from pathlib import Path

import pytest

from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.drafting.draft import Draft
from fraud_assets.workflows.new_source.contract_files import DataCheck, check_data, describe_files

CASES = Path(__file__).parent / "cases"


def drafted(file: Path) -> tuple[Draft, Contract]:
    draft = describe_files(file).draft()
    return draft, parse_contract(draft.text)


def checked(file: Path, contract: Contract) -> DataCheck:
    return check_data(contract, FolderSource(file.parent, contract.file_pattern, contract))


def test_a_time_of_day_is_joined_to_its_date() -> None:
    file = CASES / "draft-date-and-time-columns" / "tx_2024-01.csv"
    _, contract = drafted(file)
    assert contract.event_timestamp.columns == ("Date", "Time")
    assert contract.event_timestamp.format == "%Y-%m-%d %H:%M:%S"
    assert "time" not in contract.attributes
    assert checked(file, contract).n_accepted == 200


def test_an_identifier_that_pandas_wrote_as_1003_0_is_an_entity() -> None:
    file = CASES / "pandas-float-ids" / "tx_2024-01.csv"
    _, contract = drafted(file)
    assert contract.entities["card_id"].type == "integer"
    assert contract.entities["card_id"].nullable
    assert checked(file, contract).n_accepted == 200


@pytest.mark.parametrize("name", ["tx_2024-01.csv", "float/tx_2024-01.parquet"])
def test_an_identifier_that_lost_digits_is_left_out_with_the_reason(name: str) -> None:
    draft, contract = drafted(CASES / "ids-that-lost-digits" / name)
    assert contract.entities.keys() == {"merchant_id"}
    assert "card" not in contract.attributes
    assert any("card has numbers that have lost digits" in question for question in draft.to_confirm)


def test_text_that_was_stored_as_bytes_is_text() -> None:
    file = CASES / "parquet-binary-text" / "tx_2024-01.parquet"
    draft, contract = drafted(file)
    assert contract.transaction_id is not None
    assert contract.transaction_id.column == "tx_id"
    assert contract.entities["card_id"].column == "card"
    assert "left out" not in draft.text
    assert checked(file, contract).n_accepted == 200


def test_a_day_is_a_time_to_the_draft_and_to_the_check() -> None:
    file = CASES / "parquet-dates" / "tx_2024-01.parquet"
    _, contract = drafted(file)
    assert contract.event_timestamp.column == "ts"
    assert checked(file, contract).n_accepted == 200


def test_a_day_on_which_a_label_became_known_is_read_as_well() -> None:
    file = CASES / "parquet-dates" / "known" / "tx_2024-01.parquet"
    _, contract = drafted(file)
    assert contract.label.known_at == "reported_at"
    assert checked(file, contract).n_accepted == 200


def test_blanks_around_text_are_counted_as_they_are_stored() -> None:
    file = CASES / "padded-text" / "tx_2024-01.csv"
    draft, contract = drafted(file)
    assert "39 different in 200 values" in draft.text
    assert contract.columns["merchant_id"].nullable
    found = checked(file, contract)
    assert (found.n_accepted, found.n_quarantined) == (200, 0)


def test_more_columns_than_a_table_holds_are_left_out_with_the_reason(tmp_path: Path) -> None:
    names = [f"vendor_{number:04d}" for number in range(1650)]
    rows = [
        ",".join([f"T{n}", f"2024-01-{n % 28 + 1:02d} 10:00:00", f"C{n % 9:04d}", str(n % 10 // 9), *(["1.5"] * 1650)])
        for n in range(40)
    ]
    file = tmp_path / "wide.csv"
    file.write_text("\n".join([",".join(["tx_id", "ts", "card", "is_fraud", *names]), *rows]), encoding="utf-8")
    draft, contract = drafted(file)
    assert len(contract.columns) < 1000
    assert draft.text.count("# left out: vendor_") + len(contract.attributes) == 1650
    assert "says less about fraud than the 800 attributes that a table has room for" in draft.text


def test_german_words_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    for month, day in (("2024-01", "05"), ("2024-02", "07")):
        rows = [
            f"V{month}{n:04d};{day}.{month[5:]}.2024 {n % 24:02d}:15:00;K{n % 40:04d};Bäcker {n % 30};{n},5{n % 10};"
            f"{'ja' if n % 15 == 0 else 'nein'}"
            for n in range(150)
        ]
        text = "\n".join(["Vorgang;Zeit;Karte;Händler;Betrag;Betrug", *rows])
        (tmp_path / f"umsatz_{month}.csv").write_bytes(text.encode("cp1252"))
    described = describe_files(tmp_path)
    assert [path.name for path in described.files] == ["umsatz_2024-01.csv", "umsatz_2024-02.csv"]
    contract = parse_contract(described.draft().text)
    assert contract.file_pattern == "umsatz_{month}.csv"
    assert (contract.csv.encoding, contract.csv.decimal) == ("cp1252", ",")
    assert {name: column.column for name, column in contract.entities.items()} == {
        "card_id": "Karte", "merchant_id": "Händler",
    }  # fmt: skip
    assert (contract.label.fraud_values, contract.label.genuine_values) == (("ja",), ("nein",))
    found = checked(described.file, contract)
    assert [(month.month, month.n_accepted, month.n_fraud) for month in found.months] == [
        ("2024-01", 150, 10), ("2024-02", 150, 10),
    ]  # fmt: skip
