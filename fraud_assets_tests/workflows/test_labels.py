"""Added statements, the feed's files, and a month put together, on a real Postgres."""

import datetime as dt
import os

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.sources import FolderSource, SimulatorSource, SourceError
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.labels.feed import ADDED_FILE, commonest_reason, read_statements
from fraud_assets.core.lineage.staleness import contract_inputs
from fraud_assets.core.reasons import Rule
from fraud_assets.core.simulator import SimulatorConfig
from fraud_assets.workflows import labels as label_feed
from fraud_assets.workflows.labels import (
    added_digest,
    added_statements,
    feed_fingerprint,
    month_statements,
    quarantine,
    read_completeness,
    record_added,
    refused_rows,
    seen_transactions,
)
from fraud_assets_tests.sentences import all_said, stored

COLUMN = """
name: cards
first_month: 2018-04
file_pattern: "transactions_{month}.csv"
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer}
label: {column: fraud, known_at: known, max_delay_days: 60}
maturity_days: 7
"""
FEED = COLUMN.replace(
    "{column: fraud, known_at: known, max_delay_days: 60}",
    '{feed: {file_pattern: "labels_{month}.csv", transaction_id: tx, is_fraud: verdict, label_timestamp: at}}',
)
CONTRACT, WITH_FEED = parse_contract(COLUMN), parse_contract(FEED)
TEXT = parse_contract(COLUMN.replace("column: id, type: integer", "column: id, type: string"))
NOW = dt.datetime(2018, 9, 1, tzinfo=dt.UTC)
TIME = pa.timestamp("us", "UTC")


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


@pytest.fixture
def store(database):
    return MonthStore(database, CONTRACT)


def taken(*rows, contract=CONTRACT, file="labels.csv"):
    """Rows of (transaction id, verdict, time or None) as `fraud labels add` reads them."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    texts = [pa.array([None if value is None else str(value) for value in column], pa.string()) for column in columns]
    table = pa.table(texts, names=["transaction_id", "is_fraud", "label_timestamp"])
    read = read_statements(table, ADDED_FILE, contract, file=file, now=NOW)
    assert read.refused.num_rows == 0
    return read.taken


def add(database, *rows, contract=CONTRACT, file="labels.csv"):
    """How many of these statements were new."""
    return record_added(database, taken(*rows, contract=contract, file=file)).num_rows


def put(store, *rows):
    """Stores transactions (id, time, customer), by month."""
    months = sorted({f"{row[1]:%Y-%m}" for row in rows})
    for month in months:
        mine = [row for row in rows if f"{row[1]:%Y-%m}" == month]
        columns = [list(column) for column in zip(*mine, strict=True)]
        table = pa.table([*columns, [NOW] * len(mine)], names=store.table("raw_transactions").schema.names)
        store.replace_months("raw_transactions", table, [month], inputs={"source": {month: "x"}})


def deliver(store, month, *rows):
    """Stores delivered statements (id, time, customer, is fraud, known) of a month's transactions."""
    schema = store.table("delivered_labels").schema
    columns = [list(column) for column in zip(*[(*row, "chargeback") for row in rows], strict=True)] if rows else []
    table = pa.table(columns, schema=schema) if rows else schema.empty_table()
    store.replace_months("delivered_labels", table, [month], inputs={"source": {month: "x"}})


def statements_of(store, month, source=None):
    return month_statements(store, source, month, now=NOW)


# Added statements


def test_before_anything_was_added_there_are_no_statements_and_no_digest(database):
    rows, digest = added_statements(database, CONTRACT, "2018-05")
    assert (rows.num_rows, digest) == (0, None)
    assert rows.schema.field("transaction_id").type == pa.int64()


def test_statements_are_read_back_by_the_month_in_which_they_became_known(database):
    add(database, (1, "true", "2018-05-02"), (2, "false", "2018-05-31T23:59:59"), (3, "withdrawn", "2018-06-01"))
    may, june = (added_statements(database, CONTRACT, month)[0] for month in ("2018-05", "2018-06"))
    assert sorted(zip(may["transaction_id"].to_pylist(), may["is_fraud"].to_pylist(), strict=True)) == [
        (1, True), (2, False),
    ]  # fmt: skip
    assert june.to_pylist() == [
        {
            "transaction_id": 3, "is_fraud": None, "label_timestamp": utc(2018, 6, 1, 23, 59, 59, 999_999),
            "label_source": "chargeback", "origin": "labels.csv row 3",
        }
    ]  # fmt: skip


def test_the_same_statement_is_stored_once_whichever_file_says_it(database):
    assert add(database, (1, "true", "2018-05-02"), (1, "1", "2018-05-02T23:59:59.999999Z")) == 1
    before = added_digest(database, CONTRACT, "2018-05")
    assert add(database, (1, "fraud", "2018-05-02"), file="other.csv") == 0
    assert added_digest(database, CONTRACT, "2018-05") == before


def test_another_verdict_or_time_is_another_statement(database):
    add(database, (1, "true", "2018-05-02"))
    assert add(database, (1, "false", "2018-05-02"), (1, "withdrawn", "2018-05-02"), (1, "true", "2018-05-03")) == 3


def test_a_file_without_times_added_twice_says_nothing_new_unless_something_else_was_said_between(database):
    assert add(database, (1, "true", None), (2, "true", None)) == 2
    later = NOW + dt.timedelta(days=1)

    def again(verdict):
        rows = pa.table({"transaction_id": ["1"], "is_fraud": [verdict]})
        nonlocal later
        later += dt.timedelta(days=1)
        return record_added(database, read_statements(rows, ADDED_FILE, CONTRACT, file="f", now=later).taken).num_rows

    assert [again("true"), again("withdrawn"), again("withdrawn"), again("true")] == [0, 1, 0, 1]


def test_the_digest_of_a_month_names_its_statements_and_no_others_whatever_their_order(database):
    add(database, (1, "true", "2018-05-02"), (2, "true", "2018-05-02"))
    digest = added_digest(database, CONTRACT, "2018-05")
    add(database, (3, "true", "2018-06-02"))
    assert added_digest(database, CONTRACT, "2018-05") == digest
    add(database, (4, "true", "2018-05-02"))
    assert added_digest(database, CONTRACT, "2018-05") not in (digest, None)
    with database.session() as connection:
        connection.execute("TRUNCATE added_labels")
    add(database, (2, "true", "2018-05-02"))
    add(database, (1, "true", "2018-05-02"))
    assert added_digest(database, CONTRACT, "2018-05") == digest


@pytest.mark.parametrize("identifier", ["'; DROP TABLE raw_transactions; --", 'a"b\\', "\U0001f4b3\tx", "x" * 10_000])
def test_text_ids_come_back_as_they_were(database, identifier):
    add(database, (identifier, "true", "2018-05-02"), contract=TEXT)
    assert added_statements(database, TEXT, "2018-05")[0]["transaction_id"].to_pylist() == [identifier]


def test_refused_rows_are_kept_once_until_their_file_is_read_anew(database):
    bad = pa.table(
        {"file": ["a", "b"], "row_number": [1, 1], "reasons": [stored("x; z"), stored("y")], "original": ["{}", "{}"]}
    )

    def kept():
        with database.session() as connection:
            return connection.execute(
                "SELECT file, row_number, reasons -> 0 ->> 'text' FROM quarantined_labels ORDER BY 1"
            ).fetchall()

    quarantine(MonthStore(database, CONTRACT), bad)
    quarantine(MonthStore(database, CONTRACT), bad)
    assert kept() == [("a", 1, "x; z"), ("b", 1, "y")]
    quarantine(MonthStore(database, CONTRACT), bad.slice(0, 0), instead_of=("a",))
    assert kept() == [("b", 1, "y")]


def test_a_row_that_is_refused_again_in_other_words_is_kept_once(database):
    def refused(words, rule=Rule.UNKNOWN_LABEL):
        reasons = [stored(words, rule=rule, column="verdict")]
        return pa.table({"file": ["a"], "row_number": [1], "reasons": reasons, "original": ["{}"]})

    for rows in (refused("one; way\n- or so"), refused("another way"), refused("another", Rule.MISSING_VALUE)):
        quarantine(MonthStore(database, CONTRACT), rows)
    kept = refused_rows(database)
    assert all_said(kept["reasons"]) == ["one; way\n- or so", "another"]
    assert commonest_reason(kept) == "1 rows: one; way\n- or so (first row 1 of a: )"


# Looking up


def test_transactions_are_found_by_their_ids_up_to_a_month(store):
    assert seen_transactions(store, pa.chunked_array([[1]])).num_rows == 0
    put(store, (1, utc(2018, 4, 5), 70), (2, utc(2018, 5, 5), 71))
    found = seen_transactions(store, pa.chunked_array([[1, 2, 2, 9]]))
    assert sorted(found["transaction_id"].to_pylist()) == [1, 2]
    (row,) = seen_transactions(store, pa.chunked_array([[1, 2]]), "2018-04").to_pylist()
    assert row == {"transaction_id": 1, "event_timestamp": utc(2018, 4, 5), "customer_id": 70}


# A month


def test_delivered_statements_are_those_known_in_the_month_from_this_delivery_and_earlier_ones(store):
    april, may = utc(2018, 4, 5), utc(2018, 5, 5)
    deliver(store, "2018-04", (1, april, 70, True, utc(2018, 5, 2)), (2, april, 70, True, utc(2018, 4, 9)))
    deliver(store, "2018-05", (3, may, 71, True, utc(2018, 5, 31)), (4, may, 71, True, utc(2018, 6, 1)))
    found = statements_of(store, "2018-05")
    assert found.rows["transaction_id"].to_pylist() == [1, 3]
    assert found.inputs == {
        **contract_inputs(CONTRACT),
        "delivered_labels": store.months("delivered_labels"),
        "added_labels": {"2018-05": None},
    }
    assert (found.absent, found.n_unseen, found.n_premature) == ((), 0, 0)


def test_a_delivery_that_is_not_there_yet_is_named(store):
    deliver(store, "2018-06")
    found = statements_of(store, "2018-06")
    # With delays of up to 60 days the statements of June can be about transactions of April.
    assert found.inputs["delivered_labels"]["2018-04"] is None
    assert found.absent == ("raw_transactions has no 2018-04 yet", "raw_transactions has no 2018-05 yet")


def test_an_added_statement_is_joined_to_its_transaction_and_names_what_it_was_looked_up_in(store):
    put(store, (1, utc(2018, 4, 5), 70))
    deliver(store, "2018-04")
    deliver(store, "2018-05")
    add(store.database, (1, "true", "2018-05-02"))
    found = statements_of(store, "2018-05")
    (row,) = found.rows.to_pylist()
    assert (row["event_timestamp"], row["customer_id"], row["origin"]) == (utc(2018, 4, 5), 70, "labels.csv row 1")
    assert found.inputs["added_labels"] == {"2018-05": added_digest(store.database, CONTRACT, "2018-05")}
    assert found.inputs["raw_transactions"] == {**store.months("raw_transactions"), "2018-05": None}


def test_a_statement_about_an_unseen_transaction_is_kept_and_joined_when_that_comes(store):
    add(store.database, (9, "true", "2018-05-02"))
    before = statements_of(store, "2018-05")
    assert before.n_unseen == 1
    assert before.rows["event_timestamp"].to_pylist() == [None]
    store.replace_months("fraud_labels", before.rows, ["2018-05"], inputs=before.inputs)
    put(store, (9, utc(2018, 4, 30), 70))
    after = statements_of(store, "2018-05")
    # What the stored month was made of is no longer what there is.
    assert before.inputs["raw_transactions"] == {"2018-04": None, "2018-05": None}
    assert after.inputs["raw_transactions"] != before.inputs["raw_transactions"]
    assert (after.n_unseen, after.rows["customer_id"].to_pylist()) == (0, [70])
    (write,) = store.replace_months("fraud_labels", after.rows, ["2018-05"], inputs=after.inputs)
    assert write.changed


def test_the_same_statement_delivered_and_added_counts_once(store):
    put(store, (1, utc(2018, 4, 5), 70))
    deliver(store, "2018-04", (1, utc(2018, 4, 5), 70, True, utc(2018, 4, 9)))
    add(store.database, (1, "true", "2018-04-09T00:00:00"), (1, "false", "2018-04-10"))
    assert statements_of(store, "2018-04").rows["is_fraud"].to_pylist() == [True, False]


def test_a_statement_that_turns_out_to_be_premature_is_kept_and_counted(store):
    add(store.database, (1, "true", "2018-04-04"))
    put(store, (1, utc(2018, 4, 5), 70))
    found = statements_of(store, "2018-04")
    assert (found.rows.num_rows, found.n_premature) == (1, 1)


# The feed


@pytest.fixture
def fed(database, tmp_path):
    """A store and a source with a label feed."""
    return MonthStore(database, WITH_FEED), FolderSource(tmp_path, "transactions_{month}.csv")


def write(folder, month, *rows):
    (folder / f"labels_{month}.csv").write_text("\n".join(["tx,verdict,at", *rows]) + "\n", encoding="utf-8")


def test_a_feed_s_file_gives_the_month_s_statements_and_its_bad_rows_stay(fed, tmp_path):
    store, source = fed
    put(store, (1, utc(2018, 4, 5), 70))
    write(tmp_path, "2018-05", "1,1,2018-05-02", "2,perhaps,2018-05-02", "3,withdrawn,2018-05-03")
    found = statements_of(store, "2018-05", source)
    assert [(row["transaction_id"], row["customer_id"], row["is_fraud"]) for row in found.rows.to_pylist()] == [
        (1, 70, True), (3, None, None),
    ]  # fmt: skip
    assert (found.n_refused, found.n_unseen, found.absent) == (1, 1, ())
    assert "delivered_labels" not in found.inputs
    with store.database.session() as connection:
        kept = connection.execute("SELECT file, row_number, reasons, original FROM quarantined_labels").fetchall()
    assert kept == [
        (
            "labels_2018-05.csv", 2,
            [{"rule": "unknown_label", "column": "verdict",
              "text": "verdict is none of 1, true, 0, false, withdrawn: write one of them"}],
            '{"tx": "2", "verdict": "perhaps", "at": "2018-05-02"}',
        )
    ]  # fmt: skip


def test_a_corrected_feed_file_has_another_fingerprint_and_takes_its_rows_out_of_quarantine(fed, tmp_path):
    store, source = fed
    write(tmp_path, "2018-05", "2,perhaps,2018-05-02", "3,true,2018-05-02")
    before = statements_of(store, "2018-05", source)
    write(tmp_path, "2018-05", "2,true,2018-05-02")
    os.utime(tmp_path / "labels_2018-05.csv", (1e9, 1e9))
    after = statements_of(store, "2018-05", source)
    assert before.inputs["label_feed"] != after.inputs["label_feed"]
    assert after.inputs["label_feed"] == {"2018-05": feed_fingerprint(source, WITH_FEED, "2018-05")}
    assert (after.rows.num_rows, after.n_refused) == (1, 0)
    with store.database.session() as connection:
        assert connection.execute("SELECT count(*) FROM quarantined_labels").fetchone() == (0,)


def test_a_month_without_a_feed_file_has_added_statements_and_names_what_is_missing(fed):
    store, source = fed
    add(store.database, (1, "true", "2018-05-02"))
    found = statements_of(store, "2018-05", source)
    assert found.rows.num_rows == 1
    assert found.inputs["label_feed"] == {"2018-05": None}
    assert found.absent == ("the label feed has no file 'labels_2018-05.csv'",)


def test_a_feed_needs_a_folder(fed):
    store, _ = fed
    with pytest.raises(SourceError, match="has a label feed, whose files lie beside those of the transactions"):
        statements_of(store, "2018-05", SimulatorSource(SimulatorConfig()))


# Completeness


def test_completeness_reads_what_is_stored_and_takes_a_month_that_is_not_yet(store, monkeypatch):
    monkeypatch.setattr(label_feed, "COMPLETENESS_MONTHS", 2)
    put(store, *((number, utc(2018, 3 + number, 5, 12), 70) for number in (1, 2, 3)))
    known = {1: utc(2018, 4, 7, 12), 2: utc(2018, 5, 6, 12), 3: utc(2018, 6, 6, 12)}
    add(store.database, *((number, "true", moment.isoformat()) for number, moment in known.items()))
    for month in ("2018-04", "2018-05"):
        found = statements_of(store, month)
        store.replace_months("fraud_labels", found.rows, [month], inputs=found.inputs)
    assert [month.n_fraud for month in read_completeness(store, "2018-05").months] == [1, 1]
    assert [month.n_fraud for month in read_completeness(store, "2018-06").months] == [1, 0]
    newest = read_completeness(store, "2018-06", statements_of(store, "2018-06").rows)
    assert [(month.month, month.n, month.n_fraud) for month in newest.months] == [("2018-05", 1, 1), ("2018-06", 1, 1)]
    assert newest.curve.days.tolist() == [1]
