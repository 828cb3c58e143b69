"""Label files row by row, and a month's statements put together."""

import datetime as dt
import json
import tracemalloc

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import ContractError, LabelFeed, parse_contract
from fraud_assets.core.labels import feed
from fraud_assets.core.labels.feed import (
    ADDED_FILE,
    by_reason,
    gather_statements,
    has_layout,
    layouts,
    read_statements,
    refuse_premature,
    statement_digest,
)
from fraud_assets.core.reasons import Rule
from fraud_assets_tests.sentences import all_said
from fraud_assets_tests.sentences import said as said_of

CONTRACT = parse_contract("""
name: cards
first_month: 2018-04
timezone: Europe/Paris
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer}
label: {column: fraud, known_at: known, label_source: analyst}
maturity_days: 7
""")
TEXT = CONTRACT.model_copy(update={"transaction_id": CONTRACT.transaction_id.model_copy(update={"type": "string"})})
FEED = LabelFeed(
    file_pattern="labels_{month}.csv", transaction_id="tx", is_fraud="verdict", label_timestamp="at",
    fraud_values=("F",), genuine_values=("G",), withdrawn_values=("W",),
)  # fmt: skip
TIME = pa.timestamp("us", "UTC")
NOW = dt.datetime(2018, 7, 15, 12, tzinfo=dt.UTC)


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


def rows_of(**columns):
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def read(contract=CONTRACT, layout=ADDED_FILE, month=None, **columns):
    rows = columns.pop("rows", None) or rows_of(**columns)
    return read_statements(rows, layout, contract, file="labels.csv", now=NOW, month=month)


def reason(**columns):
    """The one reason for which the only row is refused."""
    found = read(**{"transaction_id": ["5"], "is_fraud": ["true"], "label_timestamp": ["2018-05-01"]} | columns)
    assert found.taken.num_rows == 0
    (row,) = found.refused.to_pylist()
    assert (row["file"], row["row_number"]) == ("labels.csv", 1)
    return said_of(row["reasons"])


def test_a_row_becomes_a_statement():
    found = read(
        transaction_id=["17"], is_fraud=["true"], label_timestamp=["2018-05-01 10:00"], label_source=["chargeback"]
    )
    assert found.refused.num_rows == 0
    assert found.taken.to_pylist() == [
        {
            "transaction_id": 17, "is_fraud": True, "label_timestamp": utc(2018, 5, 1, 8),  # summer in Paris
            "label_source": "chargeback", "file": "labels.csv", "row_number": 1, "is_dated": True,
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("true", True), ("TRUE", True), ("1", True), ("1.0", True), (" fraud ", True),
        ("false", False), ("0", False), ("Genuine", False),
        ("withdrawn", None), ("Withdrawn", None),
    ],
)  # fmt: skip
def test_a_verdict_may_be_written_in_several_ways(word, verdict):
    found = read(transaction_id=["5"], is_fraud=[word])
    assert (found.refused.num_rows, found.taken["is_fraud"].to_pylist()) == (0, [verdict])


def test_booleans_and_numbers_of_a_parquet_file_are_verdicts_too():
    for values, kind in (([True, False], pa.bool_()), ([1, 0], pa.int64()), ([1.0, 0.0], pa.float64())):
        rows = pa.table({"transaction_id": [1, 2], "is_fraud": pa.array(values, kind)})
        assert read(rows=rows).taken["is_fraud"].to_pylist() == [True, False]


def test_without_a_time_a_statement_is_from_now_and_without_a_source_from_the_contract_s():
    for columns in ({}, {"label_timestamp": [""], "label_source": [None]}):
        (row,) = read(transaction_id=["5"], is_fraud=["true"], **columns).taken.to_pylist()
        assert (row["label_timestamp"], row["label_source"], row["is_dated"]) == (NOW, "analyst", False)


def test_good_rows_are_taken_and_bad_ones_are_kept_with_number_reasons_and_values():
    found = read(
        transaction_id=["1", "x", "3"], is_fraud=["true", "perhaps", "false"], note=["a", "b", "c"],
    )  # fmt: skip
    assert found.taken["row_number"].to_pylist() == [1, 3]
    (row,) = found.refused.to_pylist()
    assert row["row_number"] == 2
    assert said_of(row["reasons"]).startswith("transaction_id is not a whole number")
    assert "; is_fraud is none of true, 1, yes, fraud, false" in said_of(row["reasons"])
    assert json.loads(row["original"]) == {"transaction_id": "x", "is_fraud": "perhaps", "note": "b"}


@pytest.mark.parametrize("identifier", ["", " ", None])
def test_a_row_without_an_id_is_refused(identifier):
    assert reason(transaction_id=[identifier]) == "transaction_id is missing: name the transaction"


@pytest.mark.parametrize("identifier", ["1.5", "1e3", "12a", "9223372036854775808", "9" * 5000, "'; DROP TABLE x; --"])
def test_an_id_that_is_no_whole_number_is_refused(identifier):
    found = reason(transaction_id=[identifier])
    assert found.startswith(("transaction_id is not a whole number", "transaction_id is beyond 9223372036854775807"))
    assert found.endswith(": write the id as the transactions have it")


def test_whole_numbers_keep_every_digit():
    found = read(transaction_id=["9223372036854775807", "-9007199254740993", "+4"], is_fraud=["1"] * 3)
    assert found.taken["transaction_id"].to_pylist() == [9223372036854775807, -9007199254740993, 4]


def test_a_float_that_has_lost_digits_names_no_transaction():
    rows = pa.table({"transaction_id": [7.0, 2.0**53, 1.5, None], "is_fraud": ["1"] * 4})
    found = read(rows=rows)
    assert found.taken["transaction_id"].to_pylist() == [7]
    assert [said_of(row["reasons"]).split(":")[0] for row in found.refused.to_pylist()] == [
        "transaction_id was delivered as a floating-point number past 2^53, which has lost digits (deliver it as text)",
        "transaction_id is not a whole number",
        "transaction_id is missing",
    ]


@pytest.mark.parametrize("identifier", ["'; DROP TABLE raw_transactions; --", 'a"b', "\U0001f4b3", "x" * 10_000])
def test_text_ids_are_taken_as_they_are(identifier):
    assert read(TEXT, transaction_id=[identifier], is_fraud=["1"]).taken["transaction_id"].to_pylist() == [identifier]


def test_a_text_id_that_no_database_can_hold_is_refused():
    assert reason(contract=TEXT, transaction_id=["a\x00b"]).startswith("transaction_id contains a zero byte")


@pytest.mark.parametrize("moment", ["yesterday", "now", "today", "31.12.2018", "2018-13-01", "2018-10-28 02:30"])
def test_a_time_that_cannot_be_read_or_occurs_twice_is_refused(moment):
    # In the night of 28 October the clocks of Paris had the hour from 2 to 3 twice.
    found = reason(label_timestamp=[moment])
    assert found.startswith(("label_timestamp is no ISO 8601 time", "label_timestamp lies in an hour that the clocks"))
    assert found.endswith(": write it as 2018-04-30T23:59:59, with an offset where that is not unique")


def test_an_offset_says_which_of_two_equal_hours_is_meant():
    (row,) = read(transaction_id=["5"], is_fraud=["1"], label_timestamp=["2018-05-28T02:30:00+01:00"]).taken.to_pylist()
    assert row["label_timestamp"] == utc(2018, 5, 28, 1, 30)


def test_a_statement_from_the_future_is_refused_and_one_of_this_instant_is_not():
    assert reason(label_timestamp=["2018-07-15T12:00:00.000001Z"]).startswith("label_timestamp lies in the future")
    assert read(transaction_id=["5"], is_fraud=["1"], label_timestamp=["2018-07-15T12:00:00Z"]).taken.num_rows == 1


def test_a_statement_from_outside_the_contract_s_months_is_refused():
    ended = CONTRACT.model_copy(update={"last_month": "2018-05"})
    # April of 2018 began in Paris two hours before it began in UTC.
    before = reason(contract=ended, label_timestamp=["2018-03-31T21:59:59Z"])
    assert before.startswith("label_timestamp lies outside the months of contract 'cards', 2018-04 to 2018-05")
    assert reason(contract=ended, label_timestamp=["2018-05-31T22:00:00Z"]) == before
    assert reason(contract=ended, label_timestamp=[None]) == before
    times = ["2018-03-31T22:00:00Z", "2018-05-31T21:59:59Z"]
    assert read(ended, transaction_id=["1", "2"], is_fraud=["1", "1"], label_timestamp=times).taken.num_rows == 2


def test_an_unknown_source_is_refused():
    assert reason(label_source=["auto_matured"]).startswith("label_source is none of chargeback, analyst, customer_rep")


def test_a_file_without_a_column_it_needs_is_refused_whole():
    with pytest.raises(ContractError, match=r"labels.csv lacks 'transaction_id' .* it has \['id', 'is_fraud'\]"):
        read(id=["1"], is_fraud=["1"])


def test_a_time_of_another_type_is_refused_whole():
    rows = pa.table({"transaction_id": [1], "is_fraud": ["1"], "label_timestamp": [20180501]})
    with pytest.raises(ContractError, match="a number is a time only where the contract says"):
        read(rows=rows)


def test_timestamps_of_a_parquet_file_are_read_in_the_contract_s_zone_unless_they_have_their_own():
    naive = pa.array([dt.datetime(2018, 5, 1, 10)], pa.timestamp("ns"))
    aware = pa.array([dt.datetime(2018, 5, 1, 8)], pa.timestamp("ms", "UTC"))
    for times in (naive, aware):
        rows = pa.table({"transaction_id": [1], "is_fraud": ["1"], "label_timestamp": times})
        assert read(rows=rows).taken["label_timestamp"].to_pylist() == [utc(2018, 5, 1, 8)]


# A feed


def test_a_feed_s_own_columns_and_words_are_read():
    found = read(layout=FEED, month="2018-05", tx=["1", "2", "3"], verdict=["F", "g", "W"], at=["2018-05-02"] * 3)
    assert found.taken["is_fraud"].to_pylist() == [True, False, None]
    assert set(found.taken["label_source"].to_pylist()) == {"analyst"}


def test_a_feed_s_row_must_have_a_time_within_its_month():
    found = read(
        layout=FEED, month="2018-05", tx=["1", "2", "3"], verdict=["F"] * 3,
        at=[None, "2018-04-30T22:00:00Z", "2018-05-31T22:00:00Z"],
    )  # fmt: skip
    assert found.taken["transaction_id"].to_pylist() == [2]
    assert [said_of(row["reasons"]).split(":")[0] for row in found.refused.to_pylist()] == [
        "at is missing",
        "at lies outside 2018-05, the month of the file",
    ]


# Against the transactions


def test_a_statement_from_before_its_transaction_is_refused_and_one_of_its_instant_or_of_an_unseen_one_is_not():
    rows = rows_of(
        transaction_id=["1", "2", "x", "3"], is_fraud=["1"] * 4,
        label_timestamp=["2018-05-01T00:00:00Z", "2018-05-01T00:00:00Z", "2018-05-01", "2018-05-01T00:00:00Z"],
    )  # fmt: skip
    happened = pa.table(
        {
            "transaction_id": [2, 1],
            "event_timestamp": pa.array([utc(2018, 5, 1), utc(2018, 5, 1, 0, 0, 1)], TIME),
        }
    )
    found = refuse_premature(read(rows=rows), happened, rows)
    assert found.taken["transaction_id"].to_pylist() == [2, 3]
    assert found.refused["row_number"].to_pylist() == [1, 3]
    assert all_said(found.refused["reasons"])[0].startswith("label_timestamp lies before its transaction: correct it")
    original = json.loads(found.refused["original"][0].as_py())
    assert (original["transaction_id"], original["transaction was at"]) == ("1", "2018-05-01 00:00:01")
    assert (found.n_read, found.n_fraud, found.n_fraud_refused) == (4, 4, 2)


# Put together


def said(*rows, origin="feed"):
    """Rows of (transaction id, is fraud, known, source)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 4
    return pa.table(
        {
            "transaction_id": pa.array(columns[0], pa.int64()),
            "is_fraud": pa.array(columns[1], pa.bool_()),
            "label_timestamp": pa.array(columns[2], TIME),
            "label_source": pa.array(columns[3], pa.string()),
            "origin": pa.array([origin] * len(columns[0]), pa.string()),
        }
    )


def seen(*rows):
    """Rows of (transaction id, happened, customer)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * 3
    kinds = {"transaction_id": pa.int64(), "event_timestamp": TIME, "customer_id": pa.int64()}
    return pa.table({name: pa.array(column, kinds[name]) for name, column in zip(kinds, columns, strict=True)})


def delivered(*rows):
    """Rows of (transaction id, is fraud, known, source, happened, customer)."""
    part = said(*(row[:4] for row in rows), origin="delivery")
    part = part.append_column("event_timestamp", pa.array([row[4] for row in rows], TIME))
    return part.append_column("customer_id", pa.array([row[5] for row in rows], pa.int64()))


def gather(*parts, happened=()):
    return gather_statements(parts, seen(*happened), CONTRACT).to_pylist()


def test_statements_get_time_and_entities_of_their_transaction_where_it_has_been_seen():
    found = gather(
        said((1, True, utc(2018, 5, 2), "analyst"), (2, None, utc(2018, 5, 3), "analyst")),
        happened=[(1, utc(2018, 5, 1), 70)],
    )
    assert [(row["transaction_id"], row["event_timestamp"], row["customer_id"]) for row in found] == [
        (1, utc(2018, 5, 1), 70),
        (2, None, None),
    ]


def test_of_an_id_that_occurs_twice_the_earlier_transaction_counts():
    happened = [(1, utc(2018, 6, 1), 71), (1, utc(2018, 5, 1), 70)]
    (row,) = gather(said((1, True, utc(2018, 6, 2), "analyst")), happened=happened)
    assert (row["event_timestamp"], row["customer_id"]) == (utc(2018, 5, 1), 70)


@pytest.mark.parametrize("order", [1, -1])
def test_the_same_statement_from_two_sides_counts_once(order):
    parts = [
        delivered((1, True, utc(2018, 5, 2), "chargeback", utc(2018, 5, 1), 70)),
        said((1, True, utc(2018, 5, 2), "analyst")),
    ][::order]
    (row,) = gather(*parts, happened=[(1, utc(2018, 5, 1), 70)])
    # The source that `labels_as_of` names among equal statements.
    assert (row["label_source"], row["origin"]) == ("chargeback", "delivery")


def test_statements_that_differ_in_verdict_or_time_are_all_kept_in_order():
    rows = [
        (1, None, utc(2018, 5, 2), "analyst"), (1, True, utc(2018, 5, 2), "analyst"),
        (1, False, utc(2018, 5, 2), "analyst"), (1, True, utc(2018, 5, 1), "analyst"),
    ]  # fmt: skip
    found = gather(said(*rows))
    assert [(row["label_timestamp"].day, row["is_fraud"]) for row in found] == [
        (1, True), (2, False), (2, True), (2, None),
    ]  # fmt: skip
    assert gather(said(*rows[::-1])) == found


def test_of_nothing_come_no_statements_with_all_columns():
    table = gather_statements([], seen(), CONTRACT)
    assert table.num_rows == 0
    assert table.column_names == [*CONTRACT.labels_schema().names, "origin"]


def test_a_statement_is_named_by_transaction_verdict_and_time():
    names = {
        statement_digest(identifier, verdict, moment)
        for identifier in (1, 2)
        for verdict in (True, False, None)
        for moment in (utc(2018, 5, 1), utc(2018, 5, 1, 0, 0, 1))
    }
    assert len(names) == 12
    zone = dt.timezone(dt.timedelta(hours=2))
    assert statement_digest(1, True, dt.datetime(2018, 5, 1, 2, tzinfo=zone)) in names


def test_today_without_a_time_of_day_is_known_by_its_end_and_may_be_said_today():
    # Noon in UTC is two o'clock in Paris, whose day ends at 22 h.
    (row,) = read(transaction_id=["5"], is_fraud=["true"], label_timestamp=["2018-07-15"]).taken.to_pylist()
    assert row["label_timestamp"] == utc(2018, 7, 15, 21, 59, 59, 999_999)
    assert reason(label_timestamp=["2018-07-15 20:00"]).startswith("label_timestamp lies in the future")
    assert reason(label_timestamp=["2018-07-16"]).startswith("label_timestamp lies in the future")


SOURCE_NAMES = parse_contract("""
name: umsatz
first_month: 2018-04
csv: {delimiter: ";", decimal: ",", encoding: cp1252}
missing: [k.A.]
transaction_id: {column: Vorgang}
event_timestamp: {column: Zeit, format: "%d.%m.%Y %H:%M:%S"}
label: {column: Betrug, fraud_values: [ja], genuine_values: [nein], delay_days: 5}
maturity_days: 14
""")


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("transaction_id", "is_fraud", "label_timestamp"), True),
        ((" Transaction_ID", "IS_FRAUD", "label_timestamp"), True),
        (("Vorgang", "Betrug", "label_timestamp"), True),
        (("id", "verdict", "at"), False),
    ],
)
def test_an_added_file_has_the_documented_names_or_those_of_the_contract(names, taken):
    found = [one for one in layouts(SOURCE_NAMES) if has_layout(names, one)]
    assert bool(found) == taken
    if found:
        rows = pa.table([pa.array([value], pa.string()) for value in ("T1", "ja", "20.05.2018 10:00:00")], names=names)
        (row,) = read_statements(rows, found[0], SOURCE_NAMES, file="f", now=NOW).taken.to_pylist()
        assert (row["transaction_id"], row["is_fraud"], row["label_timestamp"]) == ("T1", True, utc(2018, 5, 20, 10))


def test_words_of_the_contract_that_contradict_the_documented_ones_do_not_count():
    odd = SOURCE_NAMES.model_copy(
        update={"label": SOURCE_NAMES.label.model_copy(update={"fraud_values": ("0", "bad"), "genuine_values": ("1",)})}
    )
    added = layouts(odd)[0]
    assert added.fraud_values == (*ADDED_FILE.fraud_values, "bad")
    assert added.genuine_values == ADDED_FILE.genuine_values


def test_refused_rows_are_counted_by_their_reasons():
    n = 10_000
    found = read(
        transaction_id=[str(k) for k in range(n)],
        is_fraud=["perhaps"] * (n - 10) + ["true"] * 10,
        label_timestamp=["2018-05-01"] * (n - 3) + ["soon"] * 3,
    )
    first, second = by_reason(found.refused)
    assert (first.rows, second.rows) == (9990, 3)
    assert [one.rule for one in first.reasons] == [Rule.UNKNOWN_LABEL]
    assert first.reasons[0].text.startswith("is_fraud is none of")
    assert [one["row_number"] for one in second.examples] == [n - 2, n - 1, n]
    assert first.examples[0] == {
        "file": "labels.csv", "row_number": 1,
        "original": {"transaction_id": "0", "is_fraud": "perhaps", "label_timestamp": "2018-05-01"},
    }  # fmt: skip
    assert (found.n_read, found.n_fraud, found.n_fraud_refused) == (n, 10, 3)


def peak_of(n):
    """The most memory, in bytes, that Python's own objects take while `n` bad rows are read and counted."""
    rows = rows_of(transaction_id=[f"x{i}" for i in range(n)], is_fraud=["maybe"] * n, note=["some text of a row"] * n)
    tracemalloc.start()
    try:
        found = read(rows=rows).refused
        assert [(one.rows, len(one.examples)) for one in by_reason(found)] == [(n, 3)]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bad_rows_take_memory_in_parts_and_not_all_at_once(monkeypatch):
    """A row that is an object of its own takes ten times what it takes in a table, and a file may have a million."""
    monkeypatch.setattr(feed, "PART_ROWS", 4_000)
    assert peak_of(12_000) < 1.5 * peak_of(4_000)
