"""Any file: the same rows out of every format, dialect and type, nothing lost before the parser, and clear refusals."""

import bz2
import csv
import datetime as dt
import decimal
import gzip
import io
import json
import lzma
import os
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import xlsxwriter
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from benchmarks.corruptions import DATA, damage_files
from fraud_assets.adapters.files import text_files
from fraud_assets.adapters.files.reader import SourceError, open_rows
from fraud_assets.adapters.sources import FolderSource, matching_files
from fraud_assets.core.contracts.contract import ContractError, parse_contract
from fraud_assets.core.intake.accept import Delivery, IntakeError, Part, accept
from fraud_assets.core.intake.rows import Piece
from fraud_assets_tests.sentences import all_said, counted

MONTH = "2024-01"
NAMES = ["id", "at", "note", "paid", "items", "online", "born", "fraud"]
CONTRACT = """
name: tests
first_month: 2024-01
transaction_id: {column: id}
event_timestamp: {column: at}
amount: {column: paid, type: number, nullable: true}
attributes:
  note: {column: note, nullable: true}
  items: {column: items, type: integer, nullable: true}
  online: {column: online, type: boolean, nullable: true}
  born: {column: born, type: date, nullable: true}
label: {column: fraud, delay_days: 1}
maturity_days: 1
quarantine_limit: 1
"""


def contract(**lines):
    changed = {key: yaml.safe_load(value) if isinstance(value, str) else value for key, value in lines.items()}
    return parse_contract(yaml.safe_dump(yaml.safe_load(CONTRACT) | changed))


def taken(folder, of, month=MONTH):
    return accept(FolderSource(folder, of.file_pattern, of).read(month), of, month)


def stored(intake):
    return {row["transaction_id"]: row for row in intake.transactions().read_all().to_pylist()}


# Every format, dialect and type


TEXT = st.text(st.sampled_from("abÄß9 ,;|\"'.-\n\r\t€日🧿"), max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 31)),
            "note": st.none() | TEXT,
            "paid": st.none() | st.floats(-1e9, 1e9, allow_subnormal=False).map(lambda value: round(value, 2)),
            "items": st.none() | st.integers(1 - 10**15, 10**15 - 1),
            "online": st.none() | st.booleans(),
            "born": st.none() | st.dates(dt.date(1900, 3, 1), dt.date(2200, 1, 1)),
            "fraud": st.sampled_from([0, 1]),
        }
    ),
    min_size=1,
    max_size=25,
)


def as_text(value, decimal_mark="."):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.2f}".replace(".", decimal_mark)
    return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else str(value)


def as_csv(rows, encoding="utf-8", delimiter=",", quoting=csv.QUOTE_MINIMAL, end="\n", mark=".", before=""):
    text = io.StringIO(newline="")
    text.write(before)
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerow(NAMES)
    writer.writerows([[as_text(row[name], mark) for name in NAMES] for row in rows])
    return text.getvalue().encode(encoding, "replace")


def as_json_lines(rows):
    return "".join(
        json.dumps({name: row[name] if not isinstance(row[name], dt.date) else str(row[name]) for name in NAMES}) + "\n"
        for row in rows
    ).encode()


def as_table(rows):
    kinds = {
        "id": pa.string(), "at": pa.timestamp("us"), "note": pa.string(), "paid": pa.float64(), "items": pa.int64(),
        "online": pa.bool_(), "born": pa.date32(), "fraud": pa.int8(),
    }  # fmt: skip
    return pa.table({name: pa.array([row[name] for row in rows], kinds[name]) for name in NAMES})


def as_parquet(rows, **changed):
    table, file = as_table(rows), io.BytesIO()
    for name, kind in changed.items():
        at = table.column_names.index(name)
        column = table[name].dictionary_encode() if kind == "dictionary" else table[name].cast(kind)
        table = table.set_column(at, name, column)
    pyarrow.parquet.write_table(table, file)
    return file.getvalue()


def as_arrow(rows):
    file, table = io.BytesIO(), as_table(rows)
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def as_workbook(rows, titles=0):
    file = io.BytesIO()
    book = xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_numbers": False, "strings_to_formulas": False})
    book.add_worksheet("empty")
    sheet = book.add_worksheet("rows")
    formats = {dt.datetime: "yyyy-mm-dd hh:mm:ss.000", dt.date: "yyyy-mm-dd"}
    formats = {kind: book.add_format({"num_format": form}) for kind, form in formats.items()}
    for at in range(titles):
        sheet.write_string(at, 0, f"Report {at}")
    for column, name in enumerate(NAMES):
        sheet.write_string(titles, column, name)
    for number, row in enumerate(rows, titles + 1):
        for column, name in enumerate(NAMES):
            value = row[name]
            if isinstance(value, str):
                sheet.write_string(number, column, value)
            elif isinstance(value, dt.date):
                sheet.write_datetime(number, column, value, formats[type(value)])
            elif value is not None:
                sheet.write(number, column, value)
    book.close()
    return file.getvalue()


def zipped(content, name="rows.csv"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def zstd(content):
    file = pa.BufferOutputStream()
    with pa.CompressedOutputStream(file, "zstd") as stream:
        stream.write(content)
    return file.getvalue().to_pybytes()


FORMATS = {
    "csv": (as_csv, {}),
    "csv with all in quotes and windows' lines": (lambda rows: as_csv(rows, quoting=csv.QUOTE_ALL, end="\r\n"), {}),
    "semicolons and decimal commas": (
        lambda rows: as_csv(rows, delimiter=";", mark=","),
        {"csv": "{decimal: ',', delimiter: ';'}"},
    ),
    "tabs": (lambda rows: as_csv(rows, delimiter="\t"), {}),
    "bars and a byte order mark": (lambda rows: as_csv(rows, delimiter="|", encoding="utf-8-sig"), {}),
    "utf-16": (lambda rows: as_csv(rows, encoding="utf-16"), {}),
    "utf-16 without a mark": (lambda rows: as_csv(rows, encoding="utf-16-be"), {"csv": "{encoding: utf-16-be}"}),
    "cp1252": (lambda rows: as_csv(rows, encoding="cp1252"), {"csv": "{encoding: cp1252}"}),
    "lines before the header": (lambda rows: as_csv(rows, before="Payments of January\n\nsecret;do not copy\n"), {}),
    "sep": (lambda rows: as_csv(rows, delimiter=";", before="sep=;\n"), {}),
    "gzip": (lambda rows: gzip.compress(as_csv(rows)), {}),
    "zip": (lambda rows: zipped(as_csv(rows)), {}),
    "zstd": (lambda rows: zstd(as_csv(rows)), {}),
    "bz2": (lambda rows: bz2.compress(as_csv(rows)), {}),
    "xz": (lambda rows: lzma.compress(as_csv(rows)), {}),
    "json lines": (as_json_lines, {}),
    "json lines in gzip": (lambda rows: gzip.compress(as_json_lines(rows)), {}),
    "json array": (lambda rows: b"[" + as_json_lines(rows).strip().replace(b"}\n", b"},\n") + b"]", {}),
    "parquet": (as_parquet, {}),
    "parquet of hive": (lambda rows: as_parquet(rows, id=pa.binary(), note=pa.binary(), paid=pa.decimal128(18, 2)), {}),
    "parquet of polars": (lambda rows: as_parquet(rows, id=pa.large_string(), note=pa.string_view()), {}),
    "parquet of pandas": (lambda rows: as_parquet(rows, note="dictionary", at=pa.timestamp("ns")), {}),
    "parquet in gzip": (lambda rows: gzip.compress(as_parquet(rows)), {}),
    "arrow": (as_arrow, {}),
    "xlsx": (as_workbook, {}),
    "xlsx with titles": (lambda rows: as_workbook(rows, titles=2), {}),
}


def expected(row, name, how):
    value = row[name]
    if name == "note" and value is not None:
        if how == "cp1252":
            value = value.encode("cp1252", "replace").decode("cp1252")
        return value.strip() or None
    if name == "at":
        # Days of a workbook are floating-point numbers.
        return value.replace(tzinfo=dt.UTC)
    return value


@pytest.mark.parametrize("how", FORMATS)
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(rows=ROWS)
def test_the_same_rows_come_out_of_every_format_or_are_quarantined(how, rows, tmp_path):
    rows = [row | {"id": f"T{number:04d}"} for number, row in enumerate(rows)]
    if how.startswith("xlsx"):
        rows = [row | {"at": row["at"].replace(microsecond=row["at"].microsecond // 1000 * 1000)} for row in rows]
    write, lines = FORMATS[how]
    (tmp_path / f"rows_{MONTH}").write_bytes(write(rows))
    intake = taken(tmp_path, contract(**lines))
    found = stored(intake)
    assert intake.n_delivered == len(found) + intake.quarantined.num_rows
    by_id = {row["id"]: row for row in rows}
    for name, row in found.items():
        own = {"transaction_id": name, "event_timestamp": expected(by_id[name], "at", how)}
        own["amount"] = by_id[name]["paid"]
        own |= {attribute: expected(by_id[name], attribute, how) for attribute in ("note", "items", "online", "born")}
        assert row == own
    # Only where a note is several lines can a line of it be taken for a row of its own.
    lost = [row for row in rows if row["id"] not in found]
    kept = " ".join(intake.quarantined["original"].to_pylist())
    assert all(any(end in (row["note"] or "") for end in "\n\r") and row["id"] in kept for row in lost)
    if not lost:
        assert intake.quarantined.num_rows == 0
        assert intake.n_delivered == len(rows)


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (pa.array(["C7"], pa.large_string()), "string", "C7"),
        (pa.array(["C7"], pa.string_view()), "string", "C7"),
        (pa.array([b"C7"], pa.binary()), "string", "C7"),
        (pa.array([b"C7"], pa.large_binary()), "string", "C7"),
        (pa.array([b"C7"], pa.binary(2)), "string", "C7"),
        (pa.array([b"C7"], pa.binary_view()), "string", "C7"),
        (pa.array(["C7"]).dictionary_encode(), "string", "C7"),
        (pa.array([1003.0]), "string", "1003"),
        (pa.array([10.5]), "string", "10.5"),
        (pa.array([decimal.Decimal("4000123412341234567")], pa.decimal128(38, 0)), "string", "4000123412341234567"),
        (pa.array([decimal.Decimal("4000123412341234567")], pa.decimal256(50, 0)), "string", "4000123412341234567"),
        (pa.array([2**64 - 1], pa.uint64()), "string", str(2**64 - 1)),
        (pa.array([dt.date(2024, 1, 5)]), "string", "2024-01-05"),
        (pa.array([{"a": [1, None]}]), "string", '{"a": [1, null]}'),
        (pa.array([["a", "ä"]]), "string", '["a", "ä"]'),
        (pa.array([7], pa.uint8()), "integer", 7),
        (pa.array([7], pa.uint64()), "integer", 7),
        (pa.array([7.0]), "integer", 7),
        (pa.array([2**63 - 1], pa.uint64()), "integer", 2**63 - 1),
        (pa.array([decimal.Decimal("1234567890123456.00")], pa.decimal128(30, 2)), "integer", 1234567890123456),
        (pa.array(["1234567", "12.0", "x"]), "integer", 1234567),
        (pa.array([7], pa.int16()), "number", 7.0),
        (pa.array(np.array([1.5], np.float16)), "number", 1.5),
        (pa.array([1.5], pa.float32()), "number", 1.5),
        (pa.array([decimal.Decimal("1.50")], pa.decimal256(60, 2)), "number", 1.5),
        (pa.array([decimal.Decimal("7.00")], pa.decimal128(9, 2)), "integer", 7),
        (pa.array([dt.timedelta(minutes=1, milliseconds=500)], pa.duration("ns")), "number", 60.5),
        (pa.array([dt.time(1, 0, 30)], pa.time32("s")), "number", 3630.0),
        (pa.array([None]), "number", None),
        (pa.array([None]), "string", None),
        (pa.array([1, None], pa.int8()).slice(0, 1), "boolean", True),
        (pa.array([0.0]), "boolean", False),
        (pa.array([dt.datetime(2024, 1, 5, 10)]), "date", dt.date(2024, 1, 5)),
    ],
)
def test_parquet_of_every_type_is_read(tmp_path, values, kind, found):
    n = len(values)
    table = pa.table({"id": [f"T{row}" for row in range(1, n + 1)], "at": ["2024-01-05"] * n, "x": values})
    pyarrow.parquet.write_table(table.append_column("fraud", pa.array([0] * n)), tmp_path / f"{MONTH}.parquet")
    of = contract(attributes=f"{{x: {{column: x, type: {kind}, nullable: true}}}}", amount="null")
    intake = taken(tmp_path, of)
    assert intake.quarantined.num_rows == (n == 3)
    assert stored(intake)["T1"]["x"] == found


def test_timestamps_of_spark_reach_beyond_those_of_pandas(tmp_path):
    """INT96, as Spark and Impala write times; in nanoseconds, they would end in 2262 and begin anew."""
    table = pa.table({"id": ["T1"], "at": pa.array([dt.datetime(2024, 1, 5, 10)], pa.timestamp("ns")), "fraud": [0]})
    far = pa.array([dt.datetime(9999, 12, 31)], pa.timestamp("us"))
    table = table.append_column("until", far)
    pyarrow.parquet.write_table(table, tmp_path / f"{MONTH}.parquet", use_deprecated_int96_timestamps=True)
    intake = taken(tmp_path, contract(attributes="{until: {column: until, type: date}}", amount="null"))
    assert stored(intake)["T1"]["until"] == dt.date(9999, 12, 31)
    assert stored(intake)["T1"]["event_timestamp"] == dt.datetime(2024, 1, 5, 10, tzinfo=dt.UTC)


# Text as people write it


PLAIN = "id,at,paid,fraud\nT1,2024-01-05,12.5,0\nT2,2024-01-06,3,1\n"
SHORT = {"attributes": "{}"}


def written(tmp_path, content, name=f"{MONTH}.csv"):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PLAIN, {}),
        ("Export of 2024-02-01\n\n" + PLAIN, {}),
        ("Account;1\nOwner;2\n" + PLAIN.replace(",", ";"), {}),
        ("# made by x\n" + PLAIN.replace("T2", "#T7,x\nT2"), {"csv": "{comment: '#'}"}),
        ("anything,at,all,really\n" + PLAIN, {"csv": "{skip_rows: 1}"}),
        (PLAIN.replace("\n", ",\n").replace("fraud,", "fraud"), {}),
        (PLAIN + "   \n\n\t\n", {}),
        (PLAIN.replace("id,at,paid", " ID , At,PAID "), {}),
        (PLAIN.replace("12.5", '"12.5"').replace("T2", '"T2"'), {}),
        (PLAIN.replace("12.5", "'12.5'").replace("T2", "'T2'"), {"csv": '{quote: "\'"}'}),
        (PLAIN.replace("\n", "\r\n", 2), {}),
        (PLAIN.replace("\n", "\r"), {}),
        ("\ufeff" + PLAIN, {"csv": "{encoding: cp1252}"}),
        (PLAIN.encode("utf-16"), {}),
        (PLAIN.encode("utf-32"), {}),
    ],
)
def test_csv_is_read_through_what_stands_around_the_rows(tmp_path, content, said):
    intake = taken(written(tmp_path, content), contract(**SHORT, **said))
    assert {name: row["amount"] for name, row in stored(intake).items()} == {"T1": 12.5, "T2": 3.0}
    assert intake.n_delivered == 2


@pytest.mark.parametrize(
    ("text", "said", "found"),
    [
        ("1,234.5", "{thousands: ','}", 1234.5),
        ("12,345,678", "{thousands: ','}", 12345678.0),
        ("1.234,5", "{thousands: '.', decimal: ','}", 1234.5),
        ("1 234,5", "{thousands: ' ', decimal: ','}", 1234.5),
        ("1\u202f234,5", "{thousands: ' ', decimal: ','}", 1234.5),
        ("1'234.5", '{thousands: "\'"}', 1234.5),
        ("234.5", "{thousands: ','}", 234.5),
        ("12,34.5", "{thousands: ','}", None),
        ("1,234.5", "{}", None),
    ],
)
def test_numbers_may_have_their_digits_in_groups(tmp_path, text, said, found):
    content = PLAIN.replace("12.5", f'"{text}"')
    intake = taken(written(tmp_path, content), contract(**SHORT, csv=said))
    assert stored(intake).get("T1", {}).get("amount") == found
    assert intake.quarantined.num_rows == (found is None)


@pytest.mark.parametrize(
    ("said", "bare", "quoted"), [({}, None, None), ({"csv": "{quoted_missing: text}"}, None, "NA")]
)
def test_a_word_for_a_missing_value_is_one_and_in_quotes_as_the_contract_says(tmp_path, said, bare, quoted):
    content = 'id,at,note,fraud\nT1,2024-01-05,NA,0\nT2,2024-01-05,"NA",0\nT3,2024-01-05, - ,0\n'
    of = contract(amount="null", attributes="{note: {column: note, nullable: true}}", missing="[NA, '-']", **said)
    found = {name: row["note"] for name, row in stored(taken(written(tmp_path, content), of)).items()}
    assert (found["T1"], found["T2"]) == (bare, quoted)


def test_words_for_missing_values_are_numbers_in_typed_files_too(tmp_path):
    table = pa.table({"id": ["T1"], "at": ["2024-01-05"], "items": [-999], "paid": [-999.0], "fraud": [0]})
    pyarrow.parquet.write_table(table, tmp_path / f"{MONTH}.parquet")
    of = contract(missing="['-999']", attributes="{items: {column: items, type: integer, nullable: true}}")
    row = stored(taken(tmp_path, of))["T1"]
    assert (row["items"], row["amount"]) == (None, None)


def test_a_quote_of_the_contract_may_be_none(tmp_path):
    content = PLAIN.replace("T1", '"T1')
    assert set(stored(taken(written(tmp_path, content), contract(**SHORT, csv="{quote: null}")))) == {'"T1', "T2"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("T9,2024-01-05", "has 2 values for 4 columns"),
        ("T9,2024-01-05,1,0,7", "has 5 values for 4 columns"),
        ('T9,2024-01-05,"1,0', "opens a quote that is not closed"),
        ('T9,2024-01-05,"1"x,0', "has characters after a closing quote"),
        ("T9,2024-01-05,\x00,0", "contains a zero byte"),
        ("Total: 2", "has 1 value for 4 columns"),
    ],
)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_line_that_is_no_row_is_quarantined_wherever_it_stands(tmp_path, line, reason, at):
    lines = PLAIN.splitlines()
    lines.insert(at, line)
    intake = taken(written(tmp_path, "\n".join(lines)), contract(**SHORT))
    assert set(stored(intake)) == {"T1", "T2"}
    assert all_said(intake.quarantined["reasons"]) == [reason]
    assert json.loads(intake.quarantined["original"][0].as_py()) == {"line": at + 1, "text": line}
    assert (intake.n_delivered, intake.quarantined["row_number"].to_pylist()) == (3, [at])


def test_a_byte_that_is_no_text_costs_its_line(tmp_path):
    content = PLAIN.encode() + "T3,2024-01-06,3,é\n".encode("cp1252")
    intake = taken(written(tmp_path, content), contract(**SHORT))
    (reason,) = all_said(intake.quarantined["reasons"])
    assert reason == "has a byte 0xe9 that is no text in utf-8 (csv.encoding: cp1252 is that of Windows)"
    assert json.loads(intake.quarantined["original"][0].as_py())["text"] == "T3,2024-01-06,3,\\xe9"


def test_a_value_of_several_lines_is_one_row_and_lines_that_may_be_rows_are_none(tmp_path):
    head = "id,at,paid,note,fraud\n"
    address = 'T1,2024-01-05,1,"Main Street 1\nParis\n",0\nT2,2024-01-05,2,x,0\n'
    of = contract(attributes="{note: {column: note}}")
    found = stored(taken(written(tmp_path, head + address), of))
    assert {name: row["note"] for name, row in found.items()} == {"T1": "Main Street 1\nParis", "T2": "x"}
    doubtful = 'T1,2024-01-05,1,"x,0\nT2,2024-01-05,2,y,0\nT3,2024-01-05,3,z",0\nT4,2024-01-05,4,x,0\n'
    intake = taken(written(tmp_path, head + doubtful), of)
    assert (set(stored(intake)), intake.n_delivered) == ({"T4"}, 4)
    assert "open in line 2 and close in line 4" in all_said(intake.quarantined["reasons"])[0]


def test_a_file_whose_lines_are_mostly_none_is_refused_with_the_first_of_them(tmp_path):
    with pytest.raises(
        IntakeError, match=r"4 columns: 3 rows. First rows, in this order: row 3 of 2024-01.csv, line 4 \('x'\)"
    ):
        taken(written(tmp_path, PLAIN + "x\n" * 3), contract(**SHORT, quarantine_limit=0.05))


def test_lines_before_the_header_that_may_be_rows_are_not_skipped(tmp_path):
    with pytest.raises(SourceError, match=r"line 1 has as many values as the header in line 2 .* csv.skip_rows"):
        taken(written(tmp_path, "T0,2024-01-05,12.5,0\n" + PLAIN), contract(**SHORT))


def test_a_line_that_is_no_row_of_a_file_with_all_months_lies_with_the_first_and_is_counted_once(tmp_path):
    content = PLAIN.replace("T2,2024-01-06", "T2,2024-02-06") + "Total: 2\n"
    of = contract(**SHORT, file_pattern="'all.csv'")
    months = [taken(written(tmp_path, content, "all.csv"), of, month) for month in (MONTH, "2024-02")]
    assert [intake.n_delivered for intake in months] == [2, 1]
    assert [intake.quarantined.num_rows for intake in months] == [1, 0]


def test_what_a_reader_counted_on_the_file_is_what_was_delivered():
    """So that a reader which loses rows is seen: they are neither stored nor in quarantine."""
    rows = pa.record_batch([["T1"], ["2024-01-05"], ["1"], ["0"]], names=["id", "at", "paid", "fraud"])
    part = Part("x.csv", lambda: iter([Piece(rows, np.array([1]), (), 3)]))
    with accept(Delivery([part]), contract(**SHORT), MONTH) as intake:
        assert (intake.n_delivered, intake.n_transactions, intake.quarantined.num_rows) == (3, 1, 0)


def test_a_line_that_never_ends_is_no_row_and_fills_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 2**22)
    written(tmp_path, PLAIN.encode() + b"x" * (3 * 2**22))
    with pytest.raises(SourceError, match="it has a line of more than 4 MiB"):
        list(open_rows(tmp_path / f"{MONTH}.csv", contract(**SHORT)).batches())


@pytest.mark.parametrize("number", [int(os.environ.get("FRAUD_TEST_CORRUPTIONS", "500"))])
def test_damage_loses_and_changes_nothing_in_silence(number):
    outcomes, silent = damage_files(number, seed=7, data=DATA)
    assert silent == []
    assert outcomes["read"] > 0.1 * number
    assert outcomes["rejected lines"] > 0.3 * number


# Names of columns


def test_a_name_that_differs_in_what_nobody_sees_is_the_column(tmp_path):
    name = unicodedata.normalize("NFD", "Händler")
    content = PLAIN.replace("paid", f" {name.upper()} ")
    of = contract(**SHORT, amount="{column: Händler, type: number}")
    assert stored(taken(written(tmp_path, content), of))["T1"]["amount"] == 12.5


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("id,at,paid,paid", r"more than one column called \['paid'\]"),
        ("id,at,Paid,PAID", r"no column 'paid' \(for amount\), and \['Paid', 'PAID'\] are all written like it"),
        ("id,at,payd,other", r"lacks 'paid' \(for amount\) \(did you mean 'payd'\?\)"),
    ],
)
def test_a_name_that_is_there_twice_or_nearly_is_said(tmp_path, header, problem):
    content = PLAIN.replace("id,at,paid,fraud", header + ",fraud").replace(",0\n", ",0,0\n").replace(",1\n", ",1,1\n")
    with pytest.raises(ContractError, match=problem):
        taken(written(tmp_path, content), contract(**SHORT))


def test_a_column_that_nobody_wants_may_be_there_twice_and_the_exact_name_counts_first(tmp_path):
    content = "id,at,paid,PAID,x,x,fraud\nT1,2024-01-05,1,2,3,4,0\n"
    assert stored(taken(written(tmp_path, content), contract(**SHORT)))["T1"]["amount"] == 1.0


# Folders


def test_folders_of_hive_are_months_and_their_names_are_columns(tmp_path):
    table = pa.table({"id": ["T1", "T2"], "at": ["2024-01-05", "2024-01-06"], "fraud": [0, 1]})
    for number, channel in enumerate(("web", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "month=2024-01" / f"channel={channel}"
        folder.mkdir(parents=True)
        pyarrow.parquet.write_table(table.slice(number, 1), folder / "part-0000.parquet")
        (folder / "_SUCCESS").touch()
        (folder / ".part-0000.parquet.crc").write_bytes(b"crc")
    (tmp_path / "month=2024-02").mkdir()
    of = contract(amount="null", attributes="{channel: {column: channel, nullable: true}, month_: {column: month}}")
    found = stored(taken(tmp_path, of))
    assert {name: (row["channel"], row["month_"]) for name, row in found.items()} == {
        "T1": ("web", "2024-01"),
        "T2": (None, "2024-01"),
    }
    everything = contract(
        amount="null", attributes="{channel: {column: channel, nullable: true}}", file_pattern="'**/*.parquet'"
    )
    assert set(stored(taken(tmp_path, everything))) == {"T1", "T2"}


@pytest.mark.parametrize("month", ["month=1", "month=01"])
def test_a_year_and_a_month_may_be_two_folders(tmp_path, month):
    folder = tmp_path / "year=2024" / month / "day=05"
    folder.mkdir(parents=True)
    written(folder, PLAIN, "part-0.csv")
    assert set(stored(taken(tmp_path, contract(**SHORT)))) == {"T1", "T2"}
    assert matching_files(tmp_path, "*{month}*", "2024-02") == []


# Workbooks


def workbook(path, cells, sheet="rows"):
    book = xlsxwriter.Workbook(path)
    date = book.add_format({"num_format": "dd.mm.yyyy hh:mm"})
    page = book.add_worksheet(sheet)
    for number, row in enumerate(cells):
        for column, value in enumerate(row):
            if isinstance(value, dt.datetime):
                page.write_datetime(number, column, value, date)
            elif isinstance(value, str):
                page.write_string(number, column, value)
            elif value is not None:
                page.write(number, column, value)
    book.close()
    return path.parent


def test_true_dates_and_dates_as_text_stand_in_one_column(tmp_path):
    cells = [
        ["id", "at", "paid", "fraud"],
        ["T1", dt.datetime(2024, 1, 5, 10, 30), 1, 0],
        ["T2", "06.01.2024 11:00", 2, 1],
    ]
    of = contract(**SHORT, event_timestamp="{column: at, format: '%d.%m.%Y %H:%M'}")
    found = stored(taken(workbook(tmp_path / f"{MONTH}.xlsx", cells), of))
    assert [row["event_timestamp"].hour for row in found.values()] == [10, 11]


def test_numbers_of_a_workbook_are_identifiers_and_those_of_sixteen_digits_have_lost_the_last(tmp_path):
    cells = [["id", "at", "paid", "fraud"], [1003, "2024-01-05", 1.5, 0], [4000123412341230, "2024-01-05", "1,5", 0]]
    of = contract(**SHORT, csv="{decimal: ','}")
    intake = taken(workbook(tmp_path / f"{MONTH}.xlsx", cells), of)
    assert {name: row["amount"] for name, row in stored(intake).items()} == {"1003": 1.5}
    (reason,) = counted(intake)
    assert reason.startswith("transaction_id is written in scientific notation, which has lost digits")


def test_the_sheet_is_the_one_that_the_contract_names(tmp_path):
    workbook(tmp_path / f"{MONTH}.xlsx", [["id", "at", "paid", "fraud"], ["T1", "2024-01-05", 1, 0]], "January")
    assert len(stored(taken(tmp_path, contract(**SHORT, excel="{sheet: January}")))) == 1
    with pytest.raises(SourceError, match=r"has no sheet 'Feb' \(excel.sheet\), but \['January'\]"):
        taken(tmp_path, contract(**SHORT, excel="{sheet: Feb}"))


# JSON Lines


def test_a_line_that_is_no_object_is_quarantined_and_a_key_may_be_absent(tmp_path):
    good = '{"id": "T1", "at": "2024-01-05", "fraud": 0, "tags": ["a", {"b": 1}]}\n'
    bad = ['{"id": "T2", ', "[1]", '{"id": "T3", "id": "T4"}', "\\xff"]
    content = good + "\n".join(bad) + '\n{"id": "T5", "at": "2024-01-05", "paid": 1e3, "fraud": true}\n'
    of = contract(attributes="{tags: {column: tags, nullable: true}}")
    intake = taken(written(tmp_path, content, f"{MONTH}.jsonl"), of)
    assert {name: (row["amount"], row["tags"]) for name, row in stored(intake).items()} == {
        "T1": (None, '["a", {"b": 1}]'),
        "T5": (1000.0, None),
    }
    assert [json.loads(text) for text in intake.quarantined["original"].to_pylist()] == [
        {"line": line, "text": text} for line, text in enumerate(bad, 2)
    ]


# What is no file of rows


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF document and no file of rows: export"),
        (b"\x89PNG\r\n\x1a\n", "is a picture"),
        (b"SQLite format 3\x00", "is an SQLite database"),
        (b"ORC\x0a", "is an ORC file"),
        (b"Obj\x01\x04", "is an Avro file"),
        (b"<!DOCTYPE html><html>", "is a page of HTML or XML"),
        (bytes(range(256)) * 4, "is no text but bytes of an unknown kind"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "cannot be read as an Excel workbook"),
        (zipped(b"a", "a.csv")[:30], "cannot be read"),
        (gzip.compress(PLAIN.encode() * 500)[:-20], "cannot be read"),
        (b"PAR1" + bytes(50), "cannot be read as Parquet"),
        (PLAIN.encode("utf-16-le"), "looks like UTF-16 without a byte order mark: csv.encoding: utf-16-le"),
        (b"", "is empty"),
    ],
    # Archives hold the time at which they were made, and two workers must call a test the same.
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_what_is_no_file_of_rows_is_named_in_one_sentence_of_letters(tmp_path, content, what):
    written(tmp_path, content)
    with pytest.raises(SourceError, match=what) as refusal:
        open_rows(tmp_path / f"{MONTH}.csv", contract()).table()
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400


def test_an_archive_of_several_files_is_refused_with_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a.csv", "b.csv", "__MACOSX/._a.csv"):
            archive.writestr(name, PLAIN)
    with pytest.raises(SourceError, match=r"ZIP archive with 2 files \(a.csv, b.csv\)"):
        open_rows(tmp_path / "x.zip")


def test_parquet_of_pandas_with_an_index_and_of_polars_are_read(tmp_path):
    frame = pd.DataFrame({"id": ["T1"], "at": [pd.Timestamp("2024-01-05", tz="Europe/Paris")], "fraud": [False]})
    frame.to_parquet(tmp_path / f"{MONTH}.pq", index=True)
    found = stored(taken(tmp_path, contract(amount="null", attributes="{}")))
    assert found["T1"]["event_timestamp"] == dt.datetime(2024, 1, 4, 23, tzinfo=dt.UTC)


def test_what_a_file_turned_out_to_be_is_said_for_a_draft(tmp_path):
    written(tmp_path, "sep=;\nName;Preis\nMüller;1\n".encode("cp1252"))
    opened = open_rows(Path(tmp_path / f"{MONTH}.csv"))
    assert (opened.format, opened.names) == ("csv", ["Name", "Preis"])
    assert (opened.csv.encoding, opened.csv.delimiter) == ("cp1252", ";")
    assert opened.table().to_pylist() == [{"Name": "Müller", "Preis": "1"}]


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("cp1252", ["Müller", "Bäcker", "Köln", "café"]),
        ("cp1251", ["Магазин", "Москва", "Аптека", "Кафе"]),
        ("cp1253", ["Αθήνα", "καφέ", "φούρνος"]),
        ("cp932", ["東京", "株式会社", "カメラ", "ラーメン"]),
        ("gb18030", ["北京", "商店", "咖啡", "书店"]),
        ("utf-8", ["Müller", "Москва", "東京"]),
        ("utf-16", ["Müller", "Москва", "東京"]),
    ],
)
def test_the_encoding_of_a_file_that_nobody_has_described_is_found(tmp_path, encoding, names):
    rows = [{"id": f"T{number}", "name": names[number % len(names)]} for number in range(60)]
    text = "id,name\n" + "".join(f"{row['id']},{row['name']}\n" for row in rows)
    written(tmp_path, text.encode(encoding))
    assert open_rows(tmp_path / f"{MONTH}.csv").table().to_pylist() == rows
