"""Intake: each bad input is loaded right or quarantined with its reason, and no row is ever lost."""

import datetime as dt
import decimal
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import ContractError, parse_contract
from fraud_assets.core.intake.accept import Decision, Delivery, IntakeError, Part, accept, convert
from fraud_assets_tests.sentences import all_said, counted

CONTRACT = """
name: shop
first_month: 2018-01
transaction_id: {column: id, type: integer}
timezone: ZONE
event_timestamp: {column: at}
entities:
  customer_id: {column: who, type: string}
amount: {column: paid, type: number, minimum: 0, maximum: 10000}
attributes:
  items: {column: items, type: integer, nullable: true}
  channel: {column: channel, type: string, nullable: true, categories: [web, shop]}
  foreign_card: {column: foreign, type: boolean, nullable: true}
label: {column: fraud, fraud_values: ["1", "True"], known_at: known}
maturity_days: 7
quarantine_limit: 1
"""
MONTH = "2018-04"
GOOD = {
    "id": 1,
    "at": "2018-04-10T10:00:00",
    "who": "anna",
    "paid": 12.5,
    "items": 3,
    "channel": "web",
    "foreign": True,
    "fraud": "1",
    "known": "2018-04-12T10:00:00",
}


def contract(zone="UTC", **lines):
    text = CONTRACT.replace("ZONE", zone)
    kept, skipping = [], False
    for line in text.splitlines():
        # With a key go the indented lines below it.
        skipping = skipping if line.startswith(" ") else line.split(":")[0] in lines
        kept += [] if skipping else [line]
    return parse_contract("\n".join([*kept, *(f"{key}: {value}" for key, value in lines.items())]))


def delivery_of(*tables, whole=False):
    """Tables as files of a delivery, april.csv and may.csv."""
    files = zip(["april.csv", "may.csv"], tables, strict=False)
    return Delivery([Part(name, lambda table=table: iter(table.to_batches())) for name, table in files], whole=whole)


def accepted(rows, contract, month=MONTH, **options):
    return accept(delivery_of(rows), contract, month, **options)


def stored(intake):
    """The accepted rows."""
    rows = intake.transactions().read_all()
    assert rows.num_rows == intake.n_transactions
    return rows


def delivered(n=1, **columns):
    """`n` good rows with ids from 1, and the given columns instead of theirs."""
    n = max([n, *(len(values) for values in columns.values())])
    rows = {name: pa.array([value] * n) for name, value in GOOD.items()} | {"id": pa.array(range(1, n + 1))}
    return pa.table(rows | {name: _array(values) for name, values in columns.items()})


def _array(values):
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)


def taken(zone="UTC", month=MONTH, **columns):
    rows = delivered(**columns)
    intake = accepted(rows, contract(zone), month)
    assert intake.n_transactions + intake.quarantined.num_rows == intake.n_delivered == rows.num_rows
    return intake


def test_a_good_row_is_loaded_with_the_platforms_names_and_its_statement():
    intake = taken()
    assert stored(intake).to_pylist() == [
        {
            "transaction_id": 1,
            "event_timestamp": dt.datetime(2018, 4, 10, 10, tzinfo=dt.UTC),
            "customer_id": "anna",
            "amount": 12.5,
            "items": 3,
            "channel": "web",
            "foreign_card": True,
        }
    ]
    assert intake.statements.to_pylist() == [
        {
            "transaction_id": 1,
            "event_timestamp": dt.datetime(2018, 4, 10, 10, tzinfo=dt.UTC),
            "customer_id": "anna",
            "is_fraud": True,
            "label_timestamp": dt.datetime(2018, 4, 12, 10, tzinfo=dt.UTC),
            "label_source": "chargeback",
        }
    ]
    assert counted(intake) == {}


NOT_A_TIME = "event_timestamp is no ISO 8601 time (event_timestamp.format reads others)"
OUTSIDE = "event_timestamp lies outside 2018-04"
PAST_2_53 = (
    "transaction_id was delivered as a floating-point number past 2^53, which has lost digits (deliver it as text)"
)
PAST_2_63 = "transaction_id is beyond 9223372036854775807 (type: string reads any identifier)"
TWICE = (
    "event_timestamp lies in an hour that the clocks of Europe/Paris have twice (event_timestamp.ambiguous says which "
    "is meant)"
)
SKIPPED = "event_timestamp lies in an hour that the clocks of Europe/Paris skip"


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("paid", -0.01, "amount is below 0"),
        ("paid", 10_000.01, "amount is above 10000"),
        ("paid", 2**53 + 1, "amount is above 10000"),
        ("paid", float("nan"), "amount is missing"),
        ("paid", None, "amount is missing"),
        ("paid", "", "amount is missing"),
        ("paid", "  ", "amount is missing"),
        ("paid", float("inf"), "amount is not finite"),
        ("paid", "1e999", "amount is not finite"),
        ("paid", 1e308, "amount is beyond 3.4e+38"),
        ("paid", "twelve", "amount is not a number"),
        ("paid", "12,50", 'amount has a decimal comma (csv.decimal: "," reads those)'),
        ("paid", "0x10", "amount is not a number"),
        ("paid", "nan", "amount is not a number"),
        ("paid", "1_000", "amount is not a number"),
        ("id", "", "transaction_id is missing"),
        ("id", None, "transaction_id is missing"),
        ("id", "1.5", "transaction_id is not a whole number"),
        ("id", 1.5, "transaction_id is not a whole number"),
        ("id", "0x10", "transaction_id is not a whole number"),
        ("id", decimal.Decimal("1.5"), "transaction_id is not a whole number"),
        ("id", 2.0**53, PAST_2_53),
        ("id", "9223372036854775808", PAST_2_63),
        ("who", "", "customer_id is missing"),
        ("who", None, "customer_id is missing"),
        ("who", "a\x00b", "customer_id contains a zero byte"),
        ("items", "many", "items is not a whole number"),
        ("channel", "fax", "channel is none of ['web', 'shop']"),
        ("foreign", "perhaps", "foreign_card is neither true nor false"),
        ("at", "", "event_timestamp is missing"),
        ("at", None, "event_timestamp is missing"),
        ("at", "10/04/2018", NOT_A_TIME),
        ("at", "yesterday", NOT_A_TIME),
        ("at", "now", NOT_A_TIME),
        ("at", "2018-04-31", NOT_A_TIME),
        ("at", "2018-04-10 25:00", NOT_A_TIME),
        ("at", "2018-03-31T23:59:59.999999", OUTSIDE),
        ("at", "2018-05-01T00:00:00", OUTSIDE),
        ("at", "2018-04-30T23:30:00-01:00", OUTSIDE),
        ("known", None, "label_timestamp is missing for a fraud"),
        ("known", "", "label_timestamp is missing for a fraud"),
        ("known", "soon", "label_timestamp is no ISO 8601 time (its format reads others)"),
        ("known", "2018-04-10T09:59:59", "label_timestamp lies before the transaction"),
        ("known", "2018-06-11T10:00:01", "label_timestamp lies over 62 days late"),
    ],
)
def test_a_bad_value_is_quarantined_with_its_reason_row_number_and_original(column, value, reason):
    good = GOOD[column] if not isinstance(value, str) else str(GOOD[column])
    if column in ("id", "paid"):
        good = type(value)(7) if value is not None else 7
    values = pa.array([good, value], pa.float64() if isinstance(value, float) else None)
    intake = taken(**{column: values})
    # A label that comes before its transaction, or years after, is what is left of a time that is far off.
    first, *rest = all_said(intake.quarantined["reasons"])[0].split("; ")
    assert first == reason
    assert all(other.startswith("label_timestamp lies") for other in rest)
    assert intake.quarantined["row_number"].to_pylist() == [2]
    assert intake.quarantined["source"].to_pylist() == ["april.csv"]
    original = json.loads(intake.quarantined["original"][0].as_py(), parse_constant=pytest.fail)
    shown = str(value) if isinstance(value, decimal.Decimal) or value in (float("inf"),) or value != value else value
    assert original[column] == shown
    assert original["who" if column != "who" else "channel"] == GOOD["who" if column != "who" else "channel"]
    assert intake.n_transactions == 1


@pytest.mark.parametrize(
    ("column", "value", "name", "loaded"),
    [
        ("paid", "12.50", "amount", 12.5),
        ("paid", " 12.50 ", "amount", 12.5),
        ("paid", "+1.25e1", "amount", 12.5),
        ("paid", ".5", "amount", 0.5),
        ("paid", decimal.Decimal("12.50"), "amount", 12.5),
        ("id", 2**53 + 1, "transaction_id", 2**53 + 1),
        ("id", str(2**53 + 1), "transaction_id", 2**53 + 1),
        ("id", str(2**63 - 1), "transaction_id", 2**63 - 1),
        ("id", "-9007199254740993", "transaction_id", -(2**53) - 1),
        ("id", "0" * 20 + "7", "transaction_id", 7),
        ("id", 7.0, "transaction_id", 7),
        ("id", decimal.Decimal("7.00"), "transaction_id", 7),
        ("items", None, "items", None),
        ("items", float("nan"), "items", None),
        ("items", "", "items", None),
        ("channel", "", "channel", None),
        ("foreign", "NO", "foreign_card", False),
        ("foreign", 1, "foreign_card", True),
        ("who", "O'Brien", "customer_id", "O'Brien"),
        ("who", "'; DROP TABLE raw_transactions; --", "customer_id", "'; DROP TABLE raw_transactions; --"),
        ("who", "\U0001f9ff \u00e9\u4e2d", "customer_id", "\U0001f9ff \u00e9\u4e2d"),
        ("who", "x" * 10_000, "customer_id", "x" * 10_000),
        ("who", 17, "customer_id", "17"),
    ],
)
def test_an_unusual_but_good_value_is_loaded_right(column, value, name, loaded):
    values = pa.array([value], pa.float64() if isinstance(value, float) else None)
    intake = taken(**{column: values})
    assert stored(intake)[name].to_pylist() == [loaded]


@pytest.mark.parametrize(
    ("text", "hour", "microsecond"),
    [
        ("2018-04-10T10:00:00", 10, 0),
        ("2018-04-10 10:00", 10, 0),
        ("20180410T1000", 10, 0),
        ("2018-04-10T10:00:00Z", 10, 0),
        ("2018-04-10T12:00:00+02:00", 10, 0),
        ("2018-04-10 12:00:00+02", 10, 0),
        ("2018-04-10T05:00:00-0500", 10, 0),
        ("2018-04-10", 0, 0),
        ("2018-04-10T10:00:00.123456", 10, 123456),
        ("2018-04-10T10:00:00.123456789", 10, 123456),
    ],
)
def test_iso_times_of_every_kind_may_stand_in_one_column(text, hour, microsecond):
    intake = taken(at=["2018-04-10T09:00:00.5+00:00", text])
    moments = dict(zip(stored(intake)["transaction_id"].to_pylist(), stored(intake)["event_timestamp"], strict=True))
    assert moments[2].as_py() == dt.datetime(2018, 4, 10, hour, 0, 0, microsecond, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2018-04-10 12:00:00", 10),
        ("2018-04-10T12:00:00+02:00", 10),
        # As Postgres writes it.
        ("2018-04-10 12:00:00+02", 10),
        ("2018-04-10 12:00:00Z", 12),
        ("2018-04-10 12:00:00-05", 17),
    ],
)
def test_an_offset_in_the_text_stands_above_the_contracts_time_zone(text, hour):
    intake = taken(zone="Europe/Paris", at=[text], known=["2018-04-20"])
    assert stored(intake)["event_timestamp"][0].as_py() == dt.datetime(2018, 4, 10, hour, tzinfo=dt.UTC)


def test_a_time_without_an_offset_does_not_take_that_of_the_row_before():
    intake = taken(
        zone="Europe/Paris", at=["2018-04-10T12:00:00-05:00", "2018-04-10T12:00:00"], known=["2018-04-20"] * 2
    )
    assert [moment.hour for moment in stored(intake)["event_timestamp"].cast("timestamp[us]").to_pylist()] == [10, 17]


@pytest.mark.parametrize(
    ("form", "text"),
    [("%d/%m/%Y %H:%M", "10/04/2018 12:00"), ("%d/%m/%Y %H:%M %z", "10/04/2018 06:00 -0400")],
)
def test_a_format_of_the_contract_is_read_in_its_time_zone_unless_it_has_an_offset(form, text):
    times = f"{{column: at, format: '{form}'}}"
    intake = accepted(
        delivered(at=[text, "2018-04-10"], known=["2018-04-20"] * 2),
        contract("Europe/Paris", event_timestamp=times),
        MONTH,
    )
    assert stored(intake)["event_timestamp"].to_pylist() == [dt.datetime(2018, 4, 10, 10, tzinfo=dt.UTC)]
    assert all_said(intake.quarantined["reasons"]) == [f"event_timestamp is no time in the format {form!r}"]


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    ("local", "utc"),
    [
        (dt.datetime(2018, 10, 28, 1, 59), dt.datetime(2018, 10, 27, 23, 59, tzinfo=dt.UTC)),
        # In the hour that the night of 28 October 2018 has twice, nobody can tell which one it was.
        (dt.datetime(2018, 10, 28, 2, 30), None),
        (dt.datetime(2018, 10, 28, 3, 0), dt.datetime(2018, 10, 28, 2, 0, tzinfo=dt.UTC)),
    ],
)
def test_a_local_time_of_the_25_hour_night_is_loaded_right_or_quarantined(local, utc, as_text):
    at = [local.isoformat()] if as_text else pa.array([local], pa.timestamp("us"))
    intake = taken(zone="Europe/Paris", month="2018-10", at=at, known=["2018-11-01"])
    assert stored(intake)["event_timestamp"].to_pylist() == ([utc] if utc else [])
    if utc is None:
        assert all_said(intake.quarantined["reasons"]) == [TWICE]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_local_time_that_the_23_hour_night_skips_is_quarantined(as_text):
    local = dt.datetime(2018, 3, 25, 2, 30)
    at = [local.isoformat()] if as_text else pa.array([local], pa.timestamp("us"))
    intake = taken(zone="Europe/Paris", month="2018-03", at=at)
    assert all_said(intake.quarantined["reasons"]) == [SKIPPED]


@pytest.mark.parametrize("microseconds", [2**60, 2**63 - 1, -(2**63) + 1])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_time_beyond_the_calendar_is_quarantined_and_shown(microseconds, zone):
    """`infinity` of Postgres arrives as the largest number of microseconds."""
    intake = taken(at=pa.array([microseconds], pa.timestamp("us", zone)))
    assert all_said(intake.quarantined["reasons"])[0].startswith(OUTSIDE)
    assert json.loads(intake.quarantined["original"][0].as_py())["at"]


AGAIN = "transaction_id appears earlier in the delivery"


def test_of_a_repeated_transaction_id_the_first_row_is_kept():
    intake = taken(id=[5, 6, 5, 5], paid=[1.0, 2.0, 3.0, 4.0])
    assert sorted(stored(intake)["amount"].to_pylist()) == [1.0, 2.0]
    assert intake.quarantined["row_number"].to_pylist() == [3, 4]
    assert set(all_said(intake.quarantined["reasons"])) == {AGAIN}


def test_a_repeated_id_whose_first_row_is_bad_is_no_repetition():
    intake = taken(id=[5, 5, 5], paid=[-1.0, 2.0, 3.0])
    assert stored(intake)["amount"].to_pylist() == [2.0]
    assert all_said(intake.quarantined["reasons"]) == ["amount is below 0", AGAIN]


@pytest.mark.parametrize("kind", ["integer", "string"])
def test_an_id_is_repeated_across_the_files_and_batches_of_a_delivery(kind, monkeypatch):
    monkeypatch.setattr("fraud_assets.core.intake.accept.BATCH_ROWS", 2)
    columns = contract(transaction_id=f"{{column: id, type: {kind}}}")
    delivery = delivery_of(delivered(id=[9, 8, 7, 9]), delivered(id=[6, 7]))
    intake = accept(delivery, columns, MONTH)
    assert sorted(map(int, stored(intake)["transaction_id"].to_pylist())) == [6, 7, 8, 9]
    assert intake.quarantined.select(["source", "row_number"]).to_pylist() == [
        {"source": "april.csv", "row_number": 4},
        {"source": "may.csv", "row_number": 2},
    ]
    assert intake.n_delivered == 6


def test_an_id_that_an_earlier_month_has_is_quarantined_with_the_month():
    earlier = pa.table({"transaction_id": [2, 3], "month": ["2018-01", "2018-03"]})
    intake = accepted(delivered(id=[1, 2, 3, 1]), contract(), earlier=earlier)
    assert stored(intake)["transaction_id"].to_pylist() == [1]
    assert all_said(intake.quarantined["reasons"]) == [
        "transaction_id is already in 2018-01",
        "transaction_id is already in 2018-03",
        AGAIN,
    ]


def test_a_row_that_breaks_several_rules_names_them_all():
    intake = taken(paid=[-1.0], channel=["fax"])
    assert all_said(intake.quarantined["reasons"]) == ["amount is below 0; channel is none of ['web', 'shop']"]
    assert counted(intake) == {"amount is below 0": 1, "channel is none of ['web', 'shop']": 1}


@pytest.mark.parametrize("column", ["id", "at", "who", "paid", "items", "fraud", "known"])
def test_a_missing_column_names_the_column_and_the_file(column):
    with pytest.raises(ContractError, match=rf"april\.csv lacks '{column}' .*contract 'shop'"):
        accepted(delivered().drop_columns(column), contract())


def test_a_column_that_is_there_twice_is_named():
    rows = delivered()
    twice = rows.append_column("paid", rows["paid"])
    with pytest.raises(ContractError, match=r"april\.csv has more than one column called \['paid'\]"):
        accepted(twice, contract())


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("paid", pa.array([[1.0]])),
        ("at", pa.array([20180410])),
        ("at", pa.array([True])),
    ],
)
def test_a_column_of_a_type_that_cannot_be_read_is_named(column, values):
    with pytest.raises(ContractError, match=f"'{column}' of april.csv"):
        taken(**{column: values})


@pytest.mark.parametrize("kind", ["dictionary", "large", "view", "binary"])
def test_text_is_read_however_the_file_stores_it(kind):
    def as_kept(text):
        array = pa.array([text])
        if kind == "dictionary":
            return array.dictionary_encode()
        return array.cast({"large": pa.large_string(), "view": pa.string_view(), "binary": pa.binary()}[kind])

    plain = {
        "at": "2018-04-10T10:00:00",
        "who": "anna",
        "paid": "12.5",
        "id": "1",
        "known": "2018-04-12T10:00:00",
    }
    intake = taken(**{name: as_kept(text) for name, text in plain.items()})
    assert stored(intake) == stored(taken())
    assert intake.statements == taken().statements


def test_a_month_in_which_no_fraud_is_known_may_have_an_empty_column_of_label_times():
    intake = taken(fraud=["0", "0"], known=pa.nulls(2))
    assert intake.n_transactions == 2
    assert intake.statements.num_rows == 0


@pytest.mark.parametrize("value", ["1", 1, 1.0, "1.0", True, "TRUE", "true", decimal.Decimal("1.0")])
def test_fraud_is_recognised_whatever_the_type_of_the_label(value):
    assert taken(fraud=[value]).statements["is_fraud"].to_pylist() == [True]


@pytest.mark.parametrize("fraud_values", ['["1"]', '["True"]', '["1", "true"]'])
def test_a_column_that_is_true_or_false_needs_no_particular_word_for_fraud(fraud_values):
    plain = contract(label=f"{{column: fraud, fraud_values: {fraud_values}, delay_days: 7}}")
    intake = accepted(delivered(fraud=[True, False, None]), plain, MONTH)
    assert intake.statements["transaction_id"].to_pylist() == [1]


@pytest.mark.parametrize("value", ["0", 0, 0.0, "0.0", "False", " 0 ", False, None, "", " "])
def test_nothing_is_stated_about_what_is_genuine_or_not_known_yet(value):
    intake = taken(fraud=pa.array([value]), known=pa.array([None], pa.string()))
    assert (intake.n_transactions, intake.statements.num_rows) == (1, 0)


@pytest.mark.parametrize("value", ["10", "1.5", "11.0", "genuine", 2, 0.5])
def test_a_label_that_is_no_word_of_the_contract_is_quarantined_with_the_words_there_are(value):
    intake = taken(fraud=pa.array([value]))
    assert all_said(intake.quarantined["reasons"]) == [
        "is_fraud is neither fraud (1, True) nor genuine (0, false) (label.fraud_values and label.genuine_values say "
        "which words mean what)"
    ]


def test_where_a_blank_label_is_unknown_what_is_genuine_is_stated_and_a_blank_states_nothing():
    unknown = contract(label='{column: fraud, fraud_values: ["1"], delay_days: 7, blank: unknown}')
    intake = accepted(delivered(fraud=pa.array(["1", "0", None, ""])), unknown)
    stated = [(row["transaction_id"], row["is_fraud"]) for row in intake.statements.to_pylist()]
    assert stated == [(1, True), (2, False)]
    assert intake.n_transactions == 4


def test_where_a_blank_label_is_unknown_a_genuine_one_needs_its_time_too():
    unknown = contract(label='{column: fraud, fraud_values: ["1"], known_at: known, blank: unknown}')
    rows = delivered(fraud=pa.array(["0", None]), known=pa.array([None, None], pa.timestamp("us")))
    intake = accepted(rows, unknown.model_copy(update={"quarantine_limit": 1.0}))
    assert counted(intake) == {"label_timestamp is missing for a label": 1}
    assert intake.statements.num_rows == 0


def test_without_label_times_a_fraud_is_known_after_the_contracts_delay():
    late = contract(label="{column: fraud, delay_days: 7.5}")
    intake = accepted(delivered(), late, MONTH)
    assert intake.statements["label_timestamp"].to_pylist() == [dt.datetime(2018, 4, 17, 22, tzinfo=dt.UTC)]


def test_a_quarantined_row_states_nothing():
    assert taken(paid=[-1.0]).statements.num_rows == 0


def test_a_source_without_transaction_ids_gets_them_from_file_and_row():
    anonymous = parse_contract(
        "\n".join(
            line for line in CONTRACT.replace("ZONE", "UTC").splitlines() if not line.startswith("transaction_id")
        )
    )
    intake = accepted(delivered(paid=[1.0, -1.0, 3.0]), anonymous, MONTH)
    assert stored(intake)["transaction_id"].to_pylist() == ["april.csv:1", "april.csv:3"]
    assert intake.quarantined["row_number"].to_pylist() == [2]


def test_an_empty_delivery_is_refused():
    with pytest.raises(IntakeError, match=r"april\.csv has no rows for 2018-04"):
        accepted(delivered().slice(0, 0), contract())


def test_a_month_above_the_quarantine_limit_is_refused_with_its_counts():
    strict = contract(quarantine_limit=0.25)
    accepted(delivered(paid=[1.0, 1.0, 1.0, -1.0]), strict, MONTH)
    with pytest.raises(IntakeError, match=r"2 of 7 rows \(28\.6 %\).*limit of 25\.0 %.*amount is below 0: 2 rows"):
        accepted(delivered(paid=[-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0]), strict, MONTH)


def test_a_refused_month_names_the_first_row_of_each_reason_with_the_delivered_value():
    strict = contract(quarantine_limit=0)
    with pytest.raises(IntakeError) as refusal:
        accepted(delivered(paid=["1", "2,50", "3,50"], channel=["web", "web", "fax"]), strict)
    assert "Correct the file, or the contract" in str(refusal.value)
    assert str(refusal.value).endswith(
        'amount has a decimal comma (csv.decimal: "," reads those): 2 rows; '
        "channel is none of ['web', 'shop']: 1 rows. First rows, in this order: row 2 of april.csv (paid = '2,50'); "
        "row 3 of april.csv (channel = 'fax')"
    )


# Order, and rows that do not fit into memory


@pytest.mark.parametrize("memory", [0, 10**9])
@pytest.mark.parametrize("kind", ["integer", "string"])
def test_rows_come_in_order_of_time_and_id_from_memory_and_from_disk(memory, kind, monkeypatch):
    monkeypatch.setattr("fraud_assets.core.intake.accept.BATCH_ROWS", 2)
    noon, later = "2018-04-10T12:00:00", "2018-04-10T13:00:00"
    rows = delivered(id=[5, 40, 3, 40, 1], at=[later, noon, noon, noon, noon])
    with accepted(rows, contract(transaction_id=f"{{column: id, type: {kind}}}"), memory=memory) as intake:
        expected = [1, 3, 40, 5] if kind == "integer" else ["1", "3", "40", "5"]
        assert stored(intake)["transaction_id"].to_pylist() == expected
        assert stored(intake)["transaction_id"].to_pylist() == expected
        assert intake.quarantined["row_number"].to_pylist() == [4]
        assert intake.id_range == (min(expected), max(expected))


def test_rows_that_come_in_order_are_not_sorted():
    at = ["2018-04-10T12:00:00", "2018-04-10T12:00:00", "2018-04-11T12:00:00"]
    assert taken(id=[1, 2, 0], at=at).is_in_order
    assert not taken(id=[2, 1, 3], at=at).is_in_order


def test_accepted_rows_are_counted_by_day():
    intake = taken(at=["2018-04-10T23:59:59", "2018-04-11T00:00:00", "2018-04-11T10:00:00", "nonsense"])
    days = {dt.date(2018, 4, 10): 1, dt.date(2018, 4, 11): 2}
    assert intake.daily_counts == {(day - dt.date(1970, 1, 1)).days: n for day, n in days.items()}


# Decisions


def digests(rows, contract):
    return accepted(rows, contract).quarantined["row_digest"].to_pylist()


def test_a_released_row_is_stored_and_states_its_fraud():
    rows = delivered(paid=[1.0, -1.0, -2.0], channel=["web", "fax", "web"])
    released = Decision(digests(rows, contract())[0], "release")
    intake = accepted(rows, contract(), decisions=[released])
    assert stored(intake)["amount"].to_pylist() == [1.0, -1.0]
    assert intake.statements.num_rows == 2
    assert intake.quarantined["row_number"].to_pylist() == [3]
    assert counted(intake) == {"amount is below 0": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", "2018-05-01"), ("at", None), ("id", None), ("paid", "many"), ("who", None), ("fraud", "perhaps")],
)
def test_a_row_that_cannot_be_stored_stays_in_quarantine_though_released(column, value):
    rows = delivered(**{column: pa.array([value], pa.string())})
    intake = accepted(rows, contract(), decisions=[Decision(digests(rows, contract())[0], "release")])
    assert (intake.n_transactions, intake.quarantined["status"].to_pylist()) == (0, ["quarantined"])


def test_a_label_before_its_transaction_cannot_be_released_and_a_late_one_can():
    rows = delivered(known=["2018-04-01", "2018-09-01"])
    decisions = [Decision(digest, "release") for digest in digests(rows, contract())]
    intake = accepted(rows, contract(), decisions=decisions)
    assert all_said(intake.quarantined["reasons"]) == ["label_timestamp lies before the transaction"]
    assert stored(intake)["transaction_id"].to_pylist() == [2]


def test_a_dropped_row_stays_in_the_table_and_does_not_count_against_the_month():
    strict = contract(quarantine_limit=0)
    rows = delivered(paid=[1.0, -1.0])
    drop = Decision(digests(rows, contract())[0], "drop")
    intake = accepted(rows, strict, decisions=[drop])
    assert intake.quarantined["status"].to_pylist() == ["dropped"]
    assert (intake.n_delivered, intake.n_transactions, counted(intake)) == (2, 1, {"amount is below 0": 1})


def test_a_row_is_named_by_its_values_wherever_it_stands():
    one = accept(delivery_of(delivered(paid=[-1.0, 1.0])), contract(), MONTH)
    names = ["paid", *(name for name in GOOD if name != "paid")]
    other = accept(delivery_of(delivered(), delivered(paid=[-1.0]).select(names)), contract(), MONTH)
    assert other.quarantined["source"].to_pylist() == ["may.csv"]
    assert one.quarantined["row_digest"] == other.quarantined["row_digest"]
    assert one.quarantined["row_digest"] != accepted(delivered(paid=[-2.0]), contract()).quarantined["row_digest"]


# Files that hold all months


def test_of_a_file_with_all_months_each_takes_its_own_rows_and_the_first_those_of_none():
    whole = contract(first_month="2018-03", last_month="2018-05")
    at = ["2018-03-31", "2018-04-01", "2018-02-28", "2018-06-01", "nonsense", "2018-04-30", None]
    rows = delivered(at=at, paid=[1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0])
    intakes = {month: accept(delivery_of(rows, whole=True), whole, month) for month in ("2018-03", "2018-04")}
    assert [intake.n_delivered for intake in intakes.values()] == [5, 2]
    assert stored(intakes["2018-03"])["transaction_id"].to_pylist() == [1]
    assert intakes["2018-03"].quarantined["row_number"].to_pylist() == [3, 4, 5, 7]
    assert all_said(intakes["2018-03"].quarantined["reasons"])[0] == (
        "event_timestamp lies in no month of the contract (2018-03 to 2018-05)"
    )
    assert stored(intakes["2018-04"])["transaction_id"].to_pylist() == [2]
    assert intakes["2018-04"].quarantined["row_number"].to_pylist() == [6]
    with pytest.raises(IntakeError, match="no rows for 2018-05"):
        accept(delivery_of(rows, whole=True), whole, "2018-05")


# What a contract can say of a column


def test_a_number_is_stored_in_the_contracts_unit_and_its_range_is_that_of_what_is_stored():
    cents = contract(amount="{column: paid, type: number, scale: 0.01, maximum: 100}")
    intake = accepted(delivered(paid=[1250, 10_000, 10_001]), cents)
    assert stored(intake)["amount"].to_pylist() == [12.5, 100.0]
    assert counted(intake) == {"amount is above 100": 1}


def test_decimal_commas_are_read_where_the_contract_says_so_and_points_are_not():
    commas = contract(csv="{decimal: ','}")
    intake = accepted(delivered(paid=["12,50", " 1,5e1", "12.50", "1.234,50", "7"]), commas)
    assert stored(intake)["amount"].to_pylist() == [12.5, 15.0, 7.0]
    assert all_said(intake.quarantined["reasons"]) == [
        'amount has a decimal point (csv.decimal: "." reads those)',
        "amount has marks between groups of digits (csv.thousands reads those)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "text", "taken"),
    [
        ("@(.*)$", "anna@example.org", "example.org"),
        ("(?:^|@)([a-z]+)", "Anna@b@c", "b"),  # the first place where it matches
        (r"^(\\d+\\.\\d+)\\.", "10.0.3.4", "10.0"),
        ("([a-z]+)@", "x\nanna@b\nc", "anna"),
        ("@(.*)$", "anna", None),
        ("@(.*)$", "anna@", None),
        ("@(b)?", "anna@c", None),
    ],
)
def test_a_column_is_the_part_that_extract_takes_from_another(pattern, text, taken):
    """The whole text is kept beside it, and a text without the part has no value."""
    derived = f'{{column: who, nullable: true, extract: "{pattern}"}}'
    cards = contract(entities=f"{{customer_id: {{column: who}}, domain: {derived}}}")
    (row,) = stored(accepted(delivered(who=[text]), cards)).to_pylist()
    assert (row["customer_id"], row["domain"]) == (text, taken)


def test_a_text_without_the_part_that_a_row_must_have_is_quarantined_with_the_expression():
    cards = contract(entities="{domain: {column: who, extract: '@(.*)$'}}")
    intake = accepted(delivered(who=["a@b", "anna", None, ""]), cards)
    assert stored(intake)["domain"].to_pylist() == ["b"]
    assert counted(intake) == {"domain has nothing that extract '@(.*)$' takes": 1, "domain is missing": 2}


def test_categories_are_of_what_was_extracted():
    cards = contract(entities="{kind: {column: who, extract: '^(.)', categories: [a, b]}}")
    intake = accepted(delivered(who=["anna", "carl"]), cards)
    assert stored(intake)["kind"].to_pylist() == ["a"]
    assert counted(intake) == {"kind is none of ['a', 'b']": 1}


def test_text_must_match_its_pattern_from_end_to_end():
    cards = contract(entities="{customer_id: {column: who, pattern: 'C[0-9]+|X'}}")
    intake = accepted(delivered(who=["C12", "X", "C12x", "xC12", "C12\nX"]), cards)
    assert stored(intake)["customer_id"].to_pylist() == ["C12", "X"]
    assert set(all_said(intake.quarantined["reasons"])) == {"customer_id does not match 'C[0-9]+|X'"}


@pytest.mark.parametrize(("choice", "hour"), [("earliest", 0), ("latest", 1)])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_time_that_the_25_hour_night_has_twice_is_the_one_that_the_contract_names(choice, hour, as_text):
    named = contract("Europe/Paris", event_timestamp=f"{{column: at, ambiguous: {choice}}}")
    local = dt.datetime(2018, 10, 28, 2, 30)
    at = [local.isoformat()] if as_text else pa.array([local], pa.timestamp("us"))
    intake = accepted(delivered(at=at, known=["2018-11-01"]), named, "2018-10")
    assert stored(intake)["event_timestamp"].to_pylist() == [dt.datetime(2018, 10, 28, hour, 30, tzinfo=dt.UTC)]


def test_a_time_that_no_clock_shows_is_quarantined_whatever_the_contract_says_of_those_shown_twice():
    named = contract("Europe/Paris", event_timestamp="{column: at, ambiguous: earliest}")
    intake = accepted(delivered(at=["2018-03-25T02:30:00"]), named, "2018-03")
    assert all_said(intake.quarantined["reasons"]) == [SKIPPED]


def test_a_month_is_cut_by_the_clocks_of_the_contract():
    at = ["2018-03-31T22:00:00Z", "2018-03-31T21:59:59Z", "2018-04-30T21:59:59Z", "2018-04-30T22:00:00Z"]
    assert stored(taken("Europe/Paris", at=at, known=["2018-05-20"] * 4))["transaction_id"].to_pylist() == [1, 3]


@pytest.mark.parametrize("name", ["filter", "schema", "row", "validate", "known"])
def test_an_attribute_may_be_called_like_anything_in_the_libraries_below(name):
    odd = contract(attributes=f"{{{name}: {{column: items, type: integer}}}}")
    assert stored(accepted(delivered(), odd))[name].to_pylist() == [3]


def test_a_contract_with_a_label_feed_needs_no_label_in_the_transactions():
    feed = "{file_pattern: 'labels_{month}', transaction_id: id, is_fraud: f, label_timestamp: t}"
    fed = contract(label=f"{{feed: {feed}}}", file_pattern="'{month}'")
    intake = accepted(delivered().drop_columns(["fraud", "known"]), fed)
    assert (intake.n_transactions, intake.statements.num_rows) == (1, 0)


# Scoring


def test_rows_to_score_need_no_label_and_may_be_of_any_month():
    rows = delivered(paid=[1.0, -1.0], at=["2018-04-10", "2030-01-01"]).drop_columns(["fraud", "known"])
    converted = convert(rows, contract(), "request")
    assert converted.transactions["amount"].to_pylist() == [1.0]
    assert converted.transaction_ids.to_pylist() == [1, None]
    assert [row.sentence for row in converted.problems] == ["row 2 of request: amount is below 0"]


def test_no_rows_to_score_are_no_problem():
    converted = convert(delivered().slice(0, 0), contract(), "request")
    assert (converted.transactions.num_rows, len(converted.transaction_ids), converted.problems) == (0, 0, [])


anything = st.one_of(
    st.none(),
    st.text(max_size=8),
    st.sampled_from(
        ["1", "-1", "1e999", "2018-04-10", "2018-04-10T10:00:00+02", "2018-13-01", "nan", " ", "True", "now"]
    ),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.datetimes().map(str),
)


def columns_of(values):
    """A column of text, or of numbers, or of times."""
    n = st.shared(st.integers(1, 8), key="rows")
    return st.one_of(
        n.flatmap(lambda rows: st.lists(values, min_size=rows, max_size=rows)).map(lambda v: pa.array(v, pa.string())),
        n.flatmap(lambda rows: st.lists(st.one_of(st.none(), st.floats()), min_size=rows, max_size=rows)).map(
            lambda v: pa.array(v, pa.float64())
        ),
        n.flatmap(
            lambda rows: st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=rows, max_size=rows)
        ).map(lambda v: pa.array(v, pa.int64())),
    )


def times_of():
    n = st.shared(st.integers(1, 8), key="rows")
    integers = st.one_of(
        st.none(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(1522540800, 1525132799).map(lambda s: s * 10**6),
    )
    moments = n.flatmap(lambda rows: st.lists(integers, min_size=rows, max_size=rows))
    return st.one_of(
        moments.map(lambda v: pa.array(v, pa.timestamp("us"))),
        moments.map(lambda v: pa.array(v, pa.timestamp("us", "UTC"))),
        n.flatmap(lambda rows: st.lists(anything, min_size=rows, max_size=rows)).map(
            lambda v: pa.array(v, pa.string())
        ),
    )


@given(
    st.fixed_dictionaries(
        {
            name: times_of() if name in ("at", "known") else columns_of(anything)
            for name in ("id", "at", "who", "paid", "items", "channel", "foreign", "fraud", "known")
        }
    ),
    st.sampled_from(["UTC", "Europe/Paris"]),
)
def test_whatever_is_delivered_each_row_is_accepted_or_quarantined_once(columns, zone):
    rows = pa.table(columns)
    intake = accepted(rows, contract(zone), MONTH)
    assert intake.n_transactions + intake.quarantined.num_rows == rows.num_rows
    assert all(all_said(intake.quarantined["reasons"]))
    assert stored(intake).schema == contract().transactions_schema()
    assert intake.statements.schema == contract().labels_schema()
    assert set(intake.statements["transaction_id"].to_pylist()) <= set(stored(intake)["transaction_id"].to_pylist())
    for number, original in zip(
        intake.quarantined["row_number"].to_pylist(), intake.quarantined["original"].to_pylist(), strict=True
    ):
        assert json.loads(original)["who"] == json.loads(json.dumps(_shown(rows["who"][number - 1].as_py())))


def _shown(value):
    return str(value) if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def test_a_month_of_the_handbook_is_accepted_whole(handbook, handbook_contract, is_published):
    rows = pyarrow.parquet.read_table(handbook / "transactions_2018-04.parquet")
    intake = accepted(rows, handbook_contract, "2018-04")
    assert intake.quarantined.num_rows == 0
    assert intake.n_transactions == rows.num_rows
    assert intake.statements.num_rows == sum(rows["TX_FRAUD"].to_pylist())
    if is_published:
        assert intake.n_transactions == 288_062
