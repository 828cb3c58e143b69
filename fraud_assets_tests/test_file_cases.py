"""Files made after public bug reports, each read as it was meant, or refused in a sentence; see `cases/`."""

import csv
import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest

from fraud_assets.adapters.files.reader import open_rows
from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.intake.accept import IntakeError, accept
from fraud_assets.core.labels.feed import ADDED_FILE, read_statements
from fraud_assets.workflows.new_source.contract_files import check_contract
from fraud_assets_tests.sentences import all_said, counted

CASES = Path(__file__).parent / "cases"
MONTH = "2024-01"


def taken(case, folder=".", contract="contract.yaml", month=MONTH):
    """A case's month after its contract."""
    of = load_contract(CASES / case / contract)
    return accept(FolderSource(CASES / case / folder, of.file_pattern, of).read(month), of, month)


def lines(case, file):
    return (CASES / case / file).read_text(encoding="utf-8").splitlines()


def stored(intake):
    return intake.transactions().read_all().sort_by("transaction_id").to_pylist()


def checked(case, data, contract="contract.yaml"):
    def no_settings():
        raise AssertionError("the data are given")

    return check_contract(CASES / case / contract, CASES / case / data, None, no_settings)[1]


@pytest.mark.parametrize(("folder", "broken"), [("two", [51, 91]), ("one", [51])])
def test_an_open_quote_costs_the_line_that_opens_it_and_no_other(folder, broken):
    file = lines("csv-stray-quote", f"{folder}/tx_2024-01.csv")
    intake = taken("csv-stray-quote", folder)
    assert (intake.n_delivered, intake.n_transactions) == (200, 200 - len(broken))
    assert [json.loads(text) for text in intake.quarantined["original"].to_pylist()] == [
        {"line": number, "text": file[number - 1]} for number in broken
    ]
    assert intake.quarantined["row_number"].to_pylist() == [number - 1 for number in broken]
    assert set(all_said(intake.quarantined["reasons"])) == {"opens a quote that is not closed"}
    expected = [row.split(",") for number, row in enumerate(file, 1) if number > 1 and number not in broken]
    assert [(row["transaction_id"], row["goods"]) for row in stored(intake)] == [(row[0], row[8]) for row in expected]


@pytest.mark.parametrize(
    ("folder", "n", "line", "reason"),
    [("footer", 201, 202, "has 1 value for 8 columns"), ("comma", 200, 2, "has 9 values for 8 columns")],
)
def test_a_line_of_another_length_is_quarantined_with_its_text(folder, n, line, reason):
    intake = taken("ragged-row", folder)
    assert (intake.n_delivered, intake.n_transactions) == (n, n - 1)
    assert counted(intake) == {reason: 1}
    (original,) = map(json.loads, intake.quarantined["original"].to_pylist())
    assert original == {"line": line, "text": lines("ragged-row", f"{folder}/tx_2024-01.csv")[line - 1]}


def test_a_first_line_that_names_the_delimiter_is_seen_through():
    intake = taken("sep-line")
    assert (intake.n_delivered, intake.n_transactions, intake.quarantined.num_rows) == (200, 200, 0)


def test_the_default_pattern_finds_the_months_files():
    assert checked("default-file-pattern", ".").n_accepted == 200
    assert taken("default-file-pattern").n_transactions == 200


@pytest.mark.parametrize("name", ["tx_2024-01.csv", "tx.pq"])
def test_a_packed_csv_and_parquet_of_another_ending_are_read_as_what_they_are(name):
    opened = open_rows(CASES / "binary-file-as-csv" / name)
    rows = opened.table()
    assert (opened.format, rows.num_rows, opened.n_counted) == ("csv" if name.endswith("csv") else "parquet", 60, 60)
    assert rows.column_names[:3] == ["tx_id", "ts", "card"]


@pytest.mark.parametrize(
    ("data", "contract", "reason"),
    [
        ("tx_2024-01.csv", "contract.yaml", "customer_id is written in scientific notation, which has lost digits"),
        ("float", "contract_parquet.yaml", "customer_id was delivered as a floating-point number past 2^53"),
    ],
)
def test_an_identifier_that_has_lost_digits_is_quarantined_whatever_its_type(data, contract, reason):
    found = checked("ids-that-lost-digits", data, contract)
    assert (found.n_delivered, found.n_accepted) == (200, 0)
    assert [one.reason.startswith(reason) for one in found.reasons] == [True]
    assert "2024-01 would be refused" in found.refused


def test_a_label_time_is_read_in_the_transactions_format_where_it_has_none_of_its_own():
    rows = list(csv.DictReader(lines("known-at-own-format", "tx_2024-01.csv")))
    form = "%d.%m.%Y %H:%M:%S"
    known = {row["tx_id"]: dt.datetime.strptime(row["reported_at"], form) for row in rows if row["is_fraud"] == "1"}
    intake = taken("known-at-own-format")
    assert intake.quarantined.num_rows == 0
    statements = intake.statements
    found = zip(statements["transaction_id"].to_pylist(), statements["label_timestamp"].to_pylist(), strict=True)
    assert {name: when.replace(tzinfo=None) for name, when in found} == known
    assert len(known) > 5


def test_a_month_whose_frauds_are_all_quarantined_is_refused_however_few_they_are():
    contract = load_contract(CASES / "known-at-own-format" / "contract.yaml")
    known_at = {"column": "reported_at", "unit": "s"}
    said = contract.model_dump(exclude_defaults=True)
    broken = contract.model_validate(said | {"label": said["label"] | {"known_at": known_at}})
    source = FolderSource(CASES / "known-at-own-format", broken.file_pattern, broken)
    with pytest.raises(IntakeError, match=r"rows that say fraud \(100\.0 %\) cannot be used, .*2024-01 is refused"):
        accept(source.read(MONTH), broken, MONTH)


def test_blanks_around_text_are_no_part_of_it_and_text_of_blanks_is_no_value():
    rows = list(csv.DictReader(lines("padded-text", "tx_2024-01.csv")))
    found = stored(taken("padded-text"))
    assert [row["customer_id"] for row in found] == [row["card"].strip() for row in rows]
    assert [row["terminal_id"] for row in found] == [row["shop"].strip() or None for row in rows]
    assert None in {row["terminal_id"] for row in found}


def test_a_padded_label_is_about_the_transaction_that_its_text_names():
    contract = load_contract(CASES / "padded-text" / "contract.yaml")
    rows = open_rows(CASES / "padded-text" / "labels.csv", contract, wanted=["transaction_id"]).table()
    read = read_statements(rows, ADDED_FILE, contract, file="labels.csv", now=dt.datetime(2024, 3, 1, tzinfo=dt.UTC))
    known = {row["transaction_id"] for row in stored(taken("padded-text"))}
    assert set(read.taken["transaction_id"].to_pylist()) <= known
    assert read.taken.num_rows == 4


def test_whole_numbers_that_were_floats_once_are_whole_numbers():
    rows = list(csv.DictReader(lines("pandas-float-ids", "tx_2024-01.csv")))
    found = stored(taken("pandas-float-ids"))
    expected = [int(float(row["card"])) if row["card"] else None for row in rows]
    assert [row["customer_id"] for row in found] == expected
    assert len(found) == 200


def test_text_that_hive_stored_as_bytes_is_text():
    intake = taken("parquet-binary-text")
    assert (intake.n_transactions, intake.quarantined.num_rows) == (200, 0)
    assert all(isinstance(row["customer_id"], str) for row in stored(intake))


def test_a_date_is_the_start_of_its_day_for_a_transaction():
    raw = open_rows(CASES / "parquet-dates" / "tx_2024-01.parquet").table()
    found = stored(taken("parquet-dates"))
    days = dict(zip(raw["tx_id"].to_pylist(), raw["ts"].to_pylist(), strict=True))
    assert {type(day) for day in days.values()} == {dt.date}
    assert {row["transaction_id"]: row["event_timestamp"] for row in found} == {
        name: dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC) for name, day in days.items()
    }


def test_a_date_without_a_time_of_day_was_known_by_its_end():
    raw = open_rows(CASES / "parquet-dates" / "known" / "tx_2024-01.parquet").table()
    contract = load_contract(CASES / "parquet-dates" / "known" / "contract.yaml")
    column = contract.label.known.columns[0]
    days = dict(zip(raw["tx_id"].to_pylist(), raw[column].to_pylist(), strict=True))
    statements = taken("parquet-dates", "known", "known/contract.yaml").statements
    assert statements.num_rows > 5
    for name, known in zip(
        statements["transaction_id"].to_pylist(), statements["label_timestamp"].to_pylist(), strict=True
    ):
        last = dt.datetime.combine(days[name], dt.time(23, 59, 59, 999999), dt.UTC)
        assert known == last


@pytest.mark.parametrize(
    ("field", "n_taken"), [("booked", 0), ({"column": "booked", "format": "%d.%m.%Y %H:%M:%S"}, 1)]
)
def test_the_time_of_a_label_feed_has_a_format_of_its_own(field, n_taken):
    contract = load_contract(CASES / "label-feed-own-format" / "contract.yaml")
    layout = contract.label.feed.model_validate(contract.label.feed.model_dump() | {"label_timestamp": field})
    rows = pa.table({"ref": ["T1"], "verdict": ["1"], "booked": ["17.01.2024 10:30:00"]})
    now = dt.datetime(2024, 3, 1, tzinfo=dt.UTC)
    read = read_statements(rows, layout, contract, file="labels_2024-01.csv", now=now, month=MONTH)
    assert read.taken.num_rows == n_taken
    if n_taken:
        assert read.taken["label_timestamp"].to_pylist() == [dt.datetime(2024, 1, 17, 10, 30, tzinfo=dt.UTC)]
    else:
        assert "booked is no ISO 8601 time" in all_said(read.refused["reasons"])[0]
