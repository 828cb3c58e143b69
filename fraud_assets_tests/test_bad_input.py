"""Bad input on real files, through the source, the contract and the tables: loaded right, or named with a remedy."""

import datetime as dt
import gzip
import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource, SourceError
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.intake.accept import IntakeError
from fraud_assets.defs.partitions import month_column
from fraud_assets.defs.raw_transactions import _Streams
from fraud_assets.workflows.arrivals import arriving
from fraud_assets_tests.sentences import said

SHOP = """
name: tests
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: who}
amount: {column: paid, type: number, minimum: 0}
label: {column: fraud, known_at: known}
maturity_days: 7
quarantine_limit: 0.5
"""
HEADER = "id,at,who,paid,fraud,known"
GOOD = ["1,2018-04-10T10:00:00,anna,12.5,0,", "2,2018-04-11T10:00:00,bert,3,1,2018-04-20"]
APRIL = "2018-04"
UTC = dt.UTC


@dataclass
class Loaded:
    """What is in the tables after a month."""

    rows: list[dict]
    quarantined: list[dict]
    labels: list[dict]

    @property
    def ids(self):
        return [row["transaction_id"] for row in self.rows]

    @property
    def reasons(self):
        """By row number."""
        return {row["row_number"]: said(row["reasons"]) for row in self.quarantined}


class Shop:
    """A folder with the shop's files, and the shop's tables."""

    def __init__(self, folder, database):
        self.folder, self.database = folder, database

    def write(self, content, name="2018-04.csv"):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def rows(self, *rows, header=HEADER, name="2018-04.csv"):
        """The file with its good rows, and some more."""
        return self.write("\n".join([header, *GOOD, *rows]) + "\n", name)

    def load(self, *months, pattern="{month}*.csv", **lines):
        """Stores the months, and says what of the last is in the tables."""
        text = [line for line in SHOP.strip().splitlines() if line.split(":")[0] not in lines]
        contract = parse_contract("\n".join([*text, *(f"{key}: {value}" for key, value in lines.items())]))
        store, months = MonthStore(self.database, contract), months or (APRIL,)
        source = FolderSource(self.folder, pattern, contract)
        with arriving(source, store, months) as arrivals:
            intakes = {month: arrival.intake for month, arrival in arrivals.items()}
            quarantined = {
                month: month_column(intake.quarantined, [month] * intake.quarantined.num_rows)
                for month, intake in intakes.items()
            }
            store.replace_months("quarantined_transactions", quarantined, months)
            labels = {month: intake.statements for month, intake in intakes.items()}
            store.replace_months("delivered_labels", labels, months)
            store.replace_months("raw_transactions", _Streams(arrivals), months)
            n_delivered = intakes[months[-1]].n_delivered
        found = Loaded(
            *(
                store.read(name, first_month=months[-1], last_month=months[-1]).to_pylist()
                for name in ("raw_transactions", "quarantined_transactions", "delivered_labels")
            )
        )
        assert len(found.rows) + len(found.quarantined) == n_delivered
        return found


@pytest.fixture
def shop(tmp_path, database):
    return Shop(tmp_path, database)


# Files


@pytest.mark.parametrize(
    "content",
    [
        "\n".join([HEADER, *GOOD]).encode("utf-8-sig"),
        "\r\n".join([HEADER, *GOOD]).encode(),
        "\n".join([HEADER, *GOOD]).replace(",", ";").encode(),
        gzip.compress("\n".join([HEADER, *GOOD]).encode()),
    ],
    ids=["byte order mark", "windows", "semicolons", "gzip"],
)
def test_a_file_of_another_style_is_loaded_like_any(shop, content):
    shop.write(content, "2018-04.csv.gz" if content[:2] == b"\x1f\x8b" else "2018-04.csv")
    loaded = shop.load(pattern="{month}.csv*")
    assert [(row["transaction_id"], row["customer_id"], row["amount"]) for row in loaded.rows] == [
        (1, "anna", 12.5), (2, "bert", 3.0),
    ]  # fmt: skip
    assert [row["transaction_id"] for row in loaded.labels] == [2]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_in_another_encoding_is_loaded_with_it(shop, encoding):
    text = "\n".join([HEADER, *GOOD, "3,2018-04-12,Ren\u00e9e,1,0,"])
    shop.write(text.encode(encoding))
    loaded = shop.load(csv=f"{{encoding: {encoding}}}")
    assert [row["customer_id"] for row in loaded.rows] == ["anna", "bert", "Ren\u00e9e"]


def test_a_line_in_another_encoding_is_quarantined_with_the_remedy(shop):
    shop.write("\n".join([HEADER, *GOOD, "3,2018-04-12,Ren\u00e9e,1,0,"]).encode("cp1252"))
    loaded = shop.load()
    assert loaded.ids == [1, 2]
    assert "csv.encoding: cp1252 is that of Windows" in loaded.reasons[3]


def test_a_day_is_stored_as_one_and_lines_that_are_no_rows_with_their_text(shop):
    lines = [HEADER + ",born,valid", *(f"{row},1984-02-29,02/28" for row in GOOD)]
    lines += ['3,2018-04-12,"carl,1,0,,1984-02-29,02/28', "Total: 2"]
    shop.write("\n".join(lines))
    dates = "{born: {column: born, type: date}, valid: {column: valid, type: date, format: '%m/%y'}}"
    loaded = shop.load(attributes=dates)
    assert [(row["born"], row["valid"]) for row in loaded.rows] == [(dt.date(1984, 2, 29), dt.date(2028, 2, 29))] * 2
    assert [json.loads(row["original"]) for row in loaded.quarantined] == [
        {"line": 4, "text": lines[3]},
        {"line": 5, "text": "Total: 2"},
    ]


def test_a_row_of_too_few_values_is_quarantined_with_its_number(shop):
    shop.rows("3,2018-04-12")
    loaded = shop.load()
    assert loaded.ids == [1, 2]
    assert loaded.reasons == {3: "has 2 values for 6 columns"}


def test_a_gzip_file_that_was_cut_off_is_refused_and_the_month_stays(shop):
    whole = gzip.compress("\n".join([HEADER, *GOOD]).encode())
    shop.write(whole, "2018-04.csv.gz")
    shop.load(pattern="{month}.csv.gz")
    shop.write(whole[:-20], "2018-04.csv.gz")
    with pytest.raises(SourceError, match=r"2018-04\.csv\.gz cannot be read.*again"):
        shop.load(pattern="{month}.csv.gz")
    assert shop.database.query("SELECT count(*) AS n FROM raw_transactions").to_pylist() == [{"n": 2}]


def parquet(shop, **columns):
    rows = {
        "id": [1, 2], "at": [dt.datetime(2018, 4, 10), dt.datetime(2018, 4, 11)], "who": ["anna", "bert"],
        "paid": [12.5, 3.0], "fraud": [0, 1], "known": [None, dt.datetime(2018, 4, 20)],
    }  # fmt: skip
    path = shop.folder / "2018-04.parquet"
    pyarrow.parquet.write_table(pa.table(rows | columns), path)
    return path


def test_a_parquet_file_that_was_cut_off_is_refused_with_its_name(shop):
    path = parquet(shop)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"2018-04\.parquet cannot be read as Parquet.*deliver the file again"):
        shop.load(pattern="{month}.parquet")


def test_a_file_that_changes_while_it_is_read_is_refused_and_nothing_is_stored(shop, monkeypatch):
    path = shop.rows()
    monkeypatch.setattr("fraud_assets.core.intake.accept._Taking._accept", lambda *_: path.touch())
    with pytest.raises(SourceError, match=r"2018-04\.csv changed while it was read"):
        shop.load()
    assert not MonthStore(shop.database, parse_contract(SHOP)).exists("raw_transactions")


def test_a_folder_without_files_says_what_was_looked_for(shop):
    with pytest.raises(SourceError, match=r"no file '2018-04\*\.csv' for 2018-04; it has \[\]: deliver the file"):
        shop.load()


def test_a_file_with_a_header_alone_is_refused(shop):
    shop.write(HEADER + "\n")
    with pytest.raises(IntakeError, match=r"2018-04\.csv has no rows for 2018-04"):
        shop.load()


# Values


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("3,2018-04-12,carl,-0.01,0,", "amount is below 0"),
        ('3,2018-04-12,carl,"12,50",0,', 'amount has a decimal comma (csv.decimal: "," reads those)'),
        ("3,2018-04-12,carl,nan,0,", "amount is not a number"),
        ("3,2018-04-12,carl,1e308,0,", "amount is beyond 3.4e+38"),
        ("3,2018-04-12,carl,1e999,0,", "amount is not finite"),
        ("3,2018-04-12,carl,,0,", "amount is missing"),
        ("3,2018-04-12,,1,0,", "customer_id is missing"),
        (",2018-04-12,carl,1,0,", "transaction_id is missing"),
        ("9223372036854775808,2018-04-12,carl,1,0,", "transaction_id is beyond 9223372036854775807 (type: string reads "
         "any identifier)"),
        ("3,12.04.2018,carl,1,0,", "event_timestamp is no ISO 8601 time (event_timestamp.format reads others)"),
        ("3,04/12/2018,carl,1,0,", "event_timestamp is no ISO 8601 time (event_timestamp.format reads others)"),
        ("3,2018-05-01,carl,1,0,", "event_timestamp lies outside 2018-04"),
        ("3,2018-04-12,carl,1,1,2018-04-11", "label_timestamp lies before the transaction"),
        ("3,2018-04-12,carl,1,1,", "label_timestamp is missing for a fraud"),
        ("3,2018-04-12,carl,1,maybe,", "is_fraud is neither fraud (1, true) nor genuine (0, false) "
         "(label.fraud_values and label.genuine_values say which words mean what)"),
        ("2,2018-04-12,carl,1,0,", "transaction_id appears earlier in the delivery"),
    ],
)  # fmt: skip
def test_a_bad_row_is_in_quarantine_with_reason_file_row_and_values_and_the_good_ones_are_there(shop, row, reason):
    shop.rows(row)
    loaded = shop.load()
    assert loaded.ids == [1, 2]
    (bad,) = loaded.quarantined
    assert (bad["source"], bad["row_number"], said(bad["reasons"]), bad["status"]) == (
        "2018-04.csv", 3, reason, "quarantined",
    )  # fmt: skip
    values = [value or None for value in row.replace('"12,50"', "12;50").split(",")]
    assert [str(value).replace("12,50", "12;50") for value in json.loads(bad["original"]).values()] == list(
        map(str, values)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308])
def test_a_number_of_a_parquet_file_that_is_none_is_in_quarantine(shop, value):
    parquet(shop, paid=[12.5, value])
    loaded = shop.load(pattern="{month}.parquet")
    assert loaded.ids == [1]
    assert loaded.reasons[2].startswith("amount is ")


@pytest.mark.parametrize(
    "who",
    [
        "O'Brien",
        'say "hi"',
        "'; DROP TABLE raw_transactions; --",
        "\U0001f9ff\u4e2d\u00e9",
        "x" * 10_000,
        "a\\b",
        "%s",
    ],
)
def test_an_odd_identifier_is_stored_as_it_is(shop, who):
    quoted = '"' + who.replace('"', '""') + '"'
    shop.rows(f"3,2018-04-12,{quoted},1,1,2018-04-20")
    loaded = shop.load()
    assert loaded.rows[2]["customer_id"] == who
    assert loaded.labels[0]["customer_id"] in (who, "bert")


@pytest.mark.parametrize("identifier", [2**53 + 1, 2**63 - 1, -(2**53) - 1])
def test_an_integer_id_past_2_to_the_53_is_stored_exactly(shop, identifier):
    shop.rows(f"{identifier},2018-04-12,carl,1,0,")
    assert identifier in shop.load().ids
    parquet(shop, id=[1, identifier])
    assert identifier in shop.load(pattern="{month}.parquet").ids


def test_an_integer_id_past_2_to_the_53_that_came_as_a_float_is_in_quarantine(shop):
    parquet(shop, id=[1.0, 2.0**53 + 2])
    loaded = shop.load(pattern="{month}.parquet")
    assert loaded.ids == [1]
    assert "has lost digits (deliver it as text)" in loaded.reasons[2]


@pytest.mark.parametrize("identifier", [2**63, 2**64 - 1])
def test_an_unsigned_id_past_2_to_the_63_is_in_quarantine_and_text_takes_it(shop, identifier):
    parquet(shop, id=pa.array([1, identifier], pa.uint64()))
    assert list(shop.load(pattern="{month}.parquet").reasons) == [2]
    with shop.database.session() as connection:
        connection.execute("DROP TABLE raw_transactions, delivered_labels CASCADE")
        connection.execute("DELETE FROM month_versions")
    loaded = shop.load(pattern="{month}.parquet", transaction_id="{column: id, type: string}")
    assert loaded.ids == ["1", str(identifier)]


# Whole columns that are off


def test_a_month_with_decimal_commas_is_refused_with_the_remedy_and_loaded_with_it(shop):
    shop.write("id;at;who;paid;fraud;known\n1;2018-04-10;anna;12,5;0;\n2;2018-04-11;bert;3,0;0;\n")
    with pytest.raises(IntakeError, match=r'2 of 2 rows.*csv\.decimal: "," .*: row 1 of 2018-04\.csv \(paid = '):
        shop.load()
    assert [row["amount"] for row in shop.load(csv="{decimal: ','}").rows] == [12.5, 3.0]


def test_a_month_with_other_words_for_its_labels_is_refused_with_the_remedy_and_loaded_with_it(shop):
    shop.write(HEADER + "\n1,2018-04-10,anna,1,bad,2018-04-20\n2,2018-04-11,bert,3,fine,\n")
    with pytest.raises(IntakeError, match=r"label\.fraud_values and label\.genuine_values say.*fraud = 'bad'"):
        shop.load()
    label = "{column: fraud, fraud_values: [bad], genuine_values: [fine], known_at: known}"
    assert [row["transaction_id"] for row in shop.load(label=label).labels] == [1]


def test_a_month_with_a_date_format_of_its_own_is_refused_with_the_remedy_and_loaded_with_it(shop):
    shop.write(HEADER + "\n1,10.04.2018 09:30,anna,1,0,\n2,11.04.2018 09:30,bert,3,0,\n")
    with pytest.raises(IntakeError, match=r"event_timestamp\.format reads others"):
        shop.load()
    loaded = shop.load(event_timestamp="{column: at, format: '%d.%m.%Y %H:%M'}")
    assert loaded.rows[0]["event_timestamp"] == dt.datetime(2018, 4, 10, 9, 30, tzinfo=UTC)


def test_a_refused_month_leaves_the_old_one_as_it_was(shop):
    shop.rows()
    shop.load()
    shop.write(HEADER + "\n7,2018-05-10,anna,1,0,\n")
    with pytest.raises(IntakeError, match=r"1 of 1 rows \(100\.0 %\).*2018-04 is refused and stays as it was"):
        shop.load()
    assert shop.database.query("SELECT transaction_id FROM raw_transactions").to_pylist() == [
        {"transaction_id": 1}, {"transaction_id": 2},
    ]  # fmt: skip


# Nights of 25 and of 23 hours, in Paris


def night(shop, month, *times):
    rows = [f"{number},{time},anna,1,0," for number, time in enumerate(times, 1)]
    shop.write("\n".join([HEADER, *rows]) + "\n", f"{month}.csv")


def test_in_the_night_of_25_hours_what_is_certain_is_loaded_and_the_rest_is_in_quarantine(shop):
    night(
        shop, "2018-10", "2018-10-28T01:59:59", "2018-10-28T02:30:00", "2018-10-28T02:30:00+02:00",
        "2018-10-28T02:30:00+01:00", "2018-10-28T03:00:00",
    )  # fmt: skip
    loaded = shop.load("2018-10", timezone="Europe/Paris")
    assert [(row["transaction_id"], row["event_timestamp"].strftime("%d %H:%M")) for row in loaded.rows] == [
        (1, "27 23:59"), (3, "28 00:30"), (4, "28 01:30"), (5, "28 02:00"),
    ]  # fmt: skip
    assert "Europe/Paris have twice (event_timestamp.ambiguous says which is meant)" in loaded.reasons[2]
    named = shop.load("2018-10", timezone="Europe/Paris", event_timestamp="{column: at, ambiguous: latest}")
    assert sorted(named.ids) == [1, 2, 3, 4, 5]


def test_in_the_night_of_23_hours_the_hour_that_was_not_is_in_quarantine(shop):
    night(shop, "2018-03", "2018-03-25T01:59:59", "2018-03-25T02:30:00", "2018-03-25T03:00:00")
    loaded = shop.load("2018-03", timezone="Europe/Paris")
    assert [row["event_timestamp"].strftime("%H:%M") for row in loaded.rows] == ["00:59", "01:00"]
    assert loaded.reasons == {2: "event_timestamp lies in an hour that the clocks of Europe/Paris skip"}


def test_the_rows_of_a_local_month_are_in_that_month_in_the_tables(shop):
    """In Paris, April 2018 began at 22:00 in UTC of the day before."""
    night(shop, APRIL, "2018-04-01T00:00:00", "2018-04-30T23:59:59", "2018-05-01T00:00:00")
    loaded = shop.load(timezone="Europe/Paris")
    assert [row["event_timestamp"] for row in loaded.rows] == [
        dt.datetime(2018, 3, 31, 22, tzinfo=UTC), dt.datetime(2018, 4, 30, 21, 59, 59, tzinfo=UTC),
    ]  # fmt: skip
    assert loaded.reasons == {3: "event_timestamp lies outside 2018-04"}


# Repeated ids


def test_a_file_that_is_delivered_twice_under_two_names_counts_once(shop):
    shop.rows(name="2018-04.csv")
    shop.rows(name="2018-04-copy.csv")
    loaded = shop.load()
    assert loaded.ids == [1, 2]
    assert [(row["source"], row["row_number"]) for row in loaded.quarantined] == [
        ("2018-04.csv", 1), ("2018-04.csv", 2),
    ]  # fmt: skip


@pytest.mark.parametrize("together", [True, False])
def test_an_id_of_an_earlier_month_is_in_quarantine_with_that_month(shop, together):
    shop.rows()
    shop.write(HEADER + "\n2,2018-05-10,carl,1,0,\n3,2018-05-10,carl,1,0,\n", "2018-05.csv")
    if together:
        loaded = shop.load(APRIL, "2018-05")
    else:
        shop.load(APRIL)
        loaded = shop.load("2018-05")
    assert loaded.ids == [3]
    assert loaded.reasons == {1: "transaction_id is already in 2018-04"}


def test_any_number_of_rows_is_stored_or_in_quarantine(shop):
    generator = np.random.default_rng(4)
    day = [f"2018-{month:02d}-{day:02d}" for month, day in generator.integers([4, 1], [6, 31], (500, 2))]
    paid = generator.choice(["1", "-1", "x", ""], 500, p=[0.9, 0.04, 0.03, 0.03])
    rows = [f"{number},{day[i]},anna,{paid[i]},0," for i, number in enumerate(generator.integers(0, 2000, 500))]
    shop.write("\n".join([HEADER, *rows]) + "\n")
    loaded = shop.load(quarantine_limit=1)
    assert len(loaded.rows) + len(loaded.quarantined) == 500
    assert min(len(loaded.rows), len(loaded.quarantined)) > 50
