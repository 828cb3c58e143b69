"""A label feed that cannot be read is no month without fraud: it is refused, and said wherever one looks."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource
from fraud_assets.core.contracts.contract import load_contract
from fraud_assets.core.intake.accept import IntakeError, accept
from fraud_assets.workflows.labels import month_statements
from fraud_assets.workflows.new_source.contract_files import check_contract
from fraud_assets.workflows.new_source.feed_check import check_feed, feed_findings

CASE = Path(__file__).parent / "cases" / "label-feed-own-format"
NOW = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
HEADER = "ref;verdict;booked\n"


@pytest.fixture
def contract():
    return load_contract(CASE / "contract.yaml")


@pytest.fixture
def store(database, contract, tmp_path):
    """A store with the transactions of January, and a folder for its feed."""
    store = MonthStore(database, contract)
    source = FolderSource(CASE, contract.file_pattern, contract)
    with accept(source.read("2024-01"), contract, "2024-01") as intake:
        rows = intake.transactions().read_all()
    time = store.table("raw_transactions").schema.field("ingested_at").type
    store.replace_months(
        "raw_transactions", rows.append_column("ingested_at", pa.array([NOW] * len(rows), time)), ["2024-01"]
    )
    return store


def fed(store, folder, *lines):
    (folder / "labels_2024-01.csv").write_text(HEADER + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return month_statements(store, FolderSource(folder, store.contract.file_pattern), "2024-01", now=NOW)


GOOD = [f"T2024010{n:04d};{n % 2};2024-01-20T10:00:00" for n in range(40)]


def test_a_feed_whose_times_have_another_format_is_refused_with_the_reason_and_the_remedy(store):
    source = FolderSource(CASE, store.contract.file_pattern, store.contract)
    with pytest.raises(IntakeError) as refusal:
        month_statements(store, source, "2024-01", now=NOW)
    said = str(refusal.value)
    n = len((CASE / "labels_2024-01.csv").read_text(encoding="utf-8").splitlines()) - 1
    assert said.startswith(f"labels_2024-01.csv: {n} of {n} label rows (100.0 %) cannot be used")
    assert "so the labels of 2024-01 are refused and stay as they were" in said
    assert f"{n} rows: booked is no" in said
    assert "say in the contract how it is written (label_timestamp: {column: booked, format: ...})" in said
    with store.database.session() as connection:
        assert connection.execute("SELECT count(*) FROM quarantined_labels").fetchone() == (n,)
    # Nothing was made of them, and `fraud status` says why.
    (found,) = feed_findings(store)
    assert found["month"] == "2024-01"
    assert found["sentence"].startswith(f"{n} rows of the label feed cannot be used: {n} rows: booked is no")


def test_contract_check_looks_at_the_feed_too(contract):
    _, found = check_contract(CASE / "contract.yaml", CASE, "2024-01", lambda: pytest.fail("no settings are needed"))
    assert found is not None
    assert found.feed is not None
    assert (found.feed.files, found.feed.n_taken) == (["labels_2024-01.csv"], 0)
    assert found.feed.n_refused == found.feed.n_read > 10
    assert "are refused and stay as they were" in (found.feed.refused or "")
    assert found.to_dict()["feed"]["reasons"][0]["rows"] == found.feed.n_read


def test_contract_check_shows_the_feed(monkeypatch):
    from fraud_assets.cli import app

    done = CliRunner().invoke(
        app, ["contract", "check", str(CASE / "contract.yaml"), "--data", str(CASE)], env={"COLUMNS": "200"}
    )
    assert "Labels in labels_2024-01.csv:" in done.stdout
    assert "0 of them fraud" in done.stdout
    assert "the labels of 2024-01 are refused" in done.stdout


@pytest.mark.parametrize(
    ("bad", "refused"),
    [
        (["x;perhaps;2024-01-20"], False),  # one odd row of 41
        (["x;perhaps;2024-01-20"] * 2, False),  # 4.8 %
        (["x;perhaps;2024-01-20"] * 3, True),  # 7 %
    ],
)
def test_more_than_the_quarantine_limit_is_refused_and_less_is_not(store, tmp_path, bad, refused):
    if refused:
        with pytest.raises(IntakeError, match=r"3 of 43 label rows \(7.0 %\) cannot be used"):
            fed(store, tmp_path, *GOOD, *bad)
        return
    found = fed(store, tmp_path, *GOOD, *bad)
    assert (found.rows.num_rows, found.n_refused) == (40, len(bad))
    assert found.commonest_reason is not None
    assert found.commonest_reason.startswith(f"{len(bad)} rows: verdict is none of")


def test_one_odd_row_of_a_short_file_is_no_broken_feed_and_a_file_of_nothing_else_is(store, tmp_path):
    assert fed(store, tmp_path, GOOD[1], "x;1;soon").rows.num_rows == 1
    with pytest.raises(IntakeError, match=r"1 of 1 label rows"):
        fed(store, tmp_path, "x;1;soon")


def test_a_fault_that_hits_only_frauds_is_judged_among_the_frauds(store, tmp_path):
    genuine = [f"T2024010{n:04d};0;2024-01-20" for n in range(100, 300)]
    frauds = ["T20240100001;1;20.01.2024 10:00", "T20240100002;1;21.01.2024 10:00", "T20240100003;1;2024-01-22"]
    with pytest.raises(IntakeError, match=r"2 of 3 label rows that say fraud \(66.7 %\) cannot be used"):
        fed(store, tmp_path, *genuine, *frauds)


def test_what_was_there_before_stays(store, tmp_path):
    before = fed(store, tmp_path, *GOOD)
    store.replace_months("fraud_labels", before.rows, ["2024-01"], inputs=before.inputs)
    with pytest.raises(IntakeError):
        fed(store, tmp_path, *["x;perhaps;2024-01-20"] * 3)
    assert store.read("fraud_labels", first_month="2024-01").num_rows == 40


def test_a_month_without_its_file_is_said_in_the_run_s_line_and_in_the_status(store, tmp_path):
    found = month_statements(store, FolderSource(tmp_path, store.contract.file_pattern), "2024-01", now=NOW)
    assert found.missing_file == "labels_2024-01.csv"
    store.replace_months("fraud_labels", found.rows, ["2024-01"], inputs=found.inputs)
    assert feed_findings(store) == [
        {
            "month": "2024-01",
            "sentence": "the label feed has no file 'labels_2024-01.csv', so its frauds are not known",
        }
    ]


def test_a_feed_with_no_file_at_all_is_said_before_anything_runs(contract, tmp_path):
    found = check_feed(contract, FolderSource(tmp_path, contract.file_pattern), "2024-01", NOW)
    assert found is not None
    assert "there is no file 'labels_2024-01.csv' with labels, nor one of another month" in (found.refused or "")
    (tmp_path / "labels_2024-03.csv").write_text(HEADER + "T1;1;2024-03-05\n", encoding="utf-8")
    later = check_feed(contract, FolderSource(tmp_path, contract.file_pattern), "2024-01", NOW)
    assert later is not None
    assert (later.files, later.n_taken, later.n_fraud, later.refused) == (["labels_2024-03.csv"], 1, 1, None)
