"""Intake: each bad input is loaded right or quarantined with its reason, and no row is ever lost."""

import datetime as dt
import decimal
import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contract import ContractError, parse_contract
from fraud_assets.core.intake import Delivery, IntakeError, accept, convert

CONTRACT = """
name: shop
first_month: 2018-01
transaction_id: {column: id, type: integer}
event_timestamp: {column: at, timezone: ZONE}
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
    kept = [line for line in text.splitlines() if line.split(":")[0] not in lines]
    return parse_contract("\n".join([*kept, *(f"{key}: {value}" for key, value in lines.items())]))


def delivered(n=1, **columns):
    """`n` good rows with ids from 1, and the given columns instead of theirs."""
    n = max([n, *(len(values) for values in columns.values())])
    rows = {name: pa.array([value] * n) for name, value in GOOD.items()} | {"id": pa.array(range(1, n + 1))}
    return Delivery(pa.table(rows | {name: _array(values) for name, values in columns.items()}), "april.csv")


def _array(values):
    return values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)


def taken(zone="UTC", month=MONTH, **columns):
    delivery = delivered(**columns)
    intake = accept(delivery, contract(zone), month)
    assert intake.transactions.num_rows + intake.quarantined.num_rows == delivery.rows.num_rows
    return intake


def test_a_good_row_is_loaded_with_the_platforms_names_and_its_statement():
    intake = taken()
    assert intake.transactions.to_pylist() == [
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
    assert intake.reason_counts == {}


NOT_A_TIME = "event_timestamp is not a time in UTC"
OUTSIDE = "event_timestamp lies outside 2018-04"


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
        ("paid", "12,50", "amount is not a number"),
        ("paid", "0x10", "amount is not a number"),
        ("paid", "nan", "amount is not a number"),
        ("paid", "1_000", "amount is not a number"),
        ("id", "", "transaction_id is missing"),
        ("id", None, "transaction_id is missing"),
        ("id", "1.5", "transaction_id is not a whole number"),
        ("id", 1.5, "transaction_id is not a whole number"),
        ("id", decimal.Decimal("1.5"), "transaction_id is not a whole number"),
        ("id", 2.0**53, "transaction_id is not a whole number"),
        ("id", "9223372036854775808", "transaction_id is not a whole number"),
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
        ("known", "soon", "label_timestamp is not a time in UTC"),
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
    first, *rest = intake.quarantined["reasons"][0].as_py().split("; ")
    assert first == reason
    assert all(other.startswith("label_timestamp lies") for other in rest)
    assert intake.quarantined["row_number"].to_pylist() == [2]
    assert intake.quarantined["source"].to_pylist() == ["april.csv"]
    original = json.loads(intake.quarantined["original"][0].as_py(), parse_constant=pytest.fail)
    shown = str(value) if isinstance(value, decimal.Decimal) or value in (float("inf"),) or value != value else value
    assert original[column] == shown
    assert original["who" if column != "who" else "channel"] == GOOD["who" if column != "who" else "channel"]
    assert intake.transactions.num_rows == 1


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
    assert intake.transactions[name].to_pylist() == [loaded]


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
    assert intake.transactions["event_timestamp"][1].as_py() == dt.datetime(
        2018, 4, 10, hour, 0, 0, microsecond, tzinfo=dt.UTC
    )


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
    assert intake.transactions["event_timestamp"][0].as_py() == dt.datetime(2018, 4, 10, hour, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("form", "text"),
    [("%d/%m/%Y %H:%M", "10/04/2018 12:00"), ("%d/%m/%Y %H:%M %z", "10/04/2018 06:00 -0400")],
)
def test_a_format_of_the_contract_is_read_in_its_time_zone_unless_it_has_an_offset(form, text):
    times = f"{{column: at, timezone: Europe/Paris, format: '{form}'}}"
    intake = accept(
        delivered(at=[text, "2018-04-10"], known=["2018-04-20"] * 2), contract(event_timestamp=times), MONTH
    )
    assert intake.transactions["event_timestamp"].to_pylist() == [dt.datetime(2018, 4, 10, 10, tzinfo=dt.UTC)]
    assert intake.quarantined["reasons"].to_pylist() == ["event_timestamp is not a time in Europe/Paris"]


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
    assert intake.transactions["event_timestamp"].to_pylist() == ([utc] if utc else [])
    if utc is None:
        assert intake.quarantined["reasons"].to_pylist() == ["event_timestamp is not a time in Europe/Paris"]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_local_time_that_the_23_hour_night_skips_is_quarantined(as_text):
    local = dt.datetime(2018, 3, 25, 2, 30)
    at = [local.isoformat()] if as_text else pa.array([local], pa.timestamp("us"))
    intake = taken(zone="Europe/Paris", month="2018-03", at=at)
    assert intake.quarantined["reasons"].to_pylist() == ["event_timestamp is not a time in Europe/Paris"]


@pytest.mark.parametrize("microseconds", [2**60, 2**63 - 1, -(2**63) + 1])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_a_time_beyond_the_calendar_is_quarantined_and_shown(microseconds, zone):
    """`infinity` of Postgres arrives as the largest number of microseconds."""
    intake = taken(at=pa.array([microseconds], pa.timestamp("us", zone)))
    assert intake.quarantined["reasons"][0].as_py().startswith(OUTSIDE)
    assert json.loads(intake.quarantined["original"][0].as_py())["at"]


def test_of_a_repeated_transaction_id_the_first_row_is_kept():
    intake = taken(id=[5, 6, 5, 5], paid=[1.0, 2.0, 3.0, 4.0])
    assert intake.transactions["amount"].to_pylist() == [1.0, 2.0]
    assert intake.quarantined["row_number"].to_pylist() == [3, 4]
    assert set(intake.quarantined["reasons"].to_pylist()) == {"transaction_id appears earlier in the delivery"}


def test_a_row_that_breaks_several_rules_names_them_all():
    intake = taken(paid=[-1.0], channel=["fax"])
    assert intake.quarantined["reasons"].to_pylist() == ["amount is below 0; channel is none of ['web', 'shop']"]
    assert intake.reason_counts == {"amount is below 0": 1, "channel is none of ['web', 'shop']": 1}


@pytest.mark.parametrize("column", ["id", "at", "who", "paid", "items", "fraud", "known"])
def test_a_missing_column_names_the_column_and_the_file(column):
    delivery = delivered()
    with pytest.raises(ContractError, match=rf"april\.csv lacks '{column}' .*contract 'shop'"):
        accept(Delivery(delivery.rows.drop_columns(column), delivery.origin), contract(), MONTH)


def test_a_column_that_is_there_twice_is_named():
    rows = delivered().rows
    twice = rows.append_column("paid", rows["paid"])
    with pytest.raises(ContractError, match=r"april\.csv has more than one column called \['paid'\]"):
        accept(Delivery(twice, "april.csv"), contract(), MONTH)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("paid", pa.array([[1.0]])),
        ("at", pa.array([20180410])),
        ("at", pa.array([dt.date(2018, 4, 10)])),
        ("who", pa.array([b"\xff\xfe"])),
    ],
)
def test_a_column_of_a_type_that_cannot_be_read_is_named(column, values):
    name = {"at": "event_timestamp", "paid": "'paid' of april.csv", "who": "'who' of april.csv"}[column]
    with pytest.raises(ContractError, match=name):
        taken(**{column: values})


@pytest.mark.parametrize("kind", ["dictionary", "large", "view", "binary"])
def test_text_is_read_however_the_file_stores_it(kind):
    def stored(text):
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
    intake = taken(**{name: stored(text) for name, text in plain.items()})
    assert intake.transactions == taken().transactions
    assert intake.statements == taken().statements


def test_a_month_in_which_no_fraud_is_known_may_have_an_empty_column_of_label_times():
    intake = taken(fraud=["0", "0"], known=pa.nulls(2))
    assert intake.transactions.num_rows == 2
    assert intake.statements.num_rows == 0


@pytest.mark.parametrize("value", ["1", 1, 1.0, "1.0", True, "TRUE", "true", decimal.Decimal("1.0")])
def test_fraud_is_recognised_whatever_the_type_of_the_label(value):
    assert taken(fraud=[value]).statements["is_fraud"].to_pylist() == [True]


@pytest.mark.parametrize("fraud_values", ['["1"]', '["True"]'])
def test_a_column_that_is_true_or_false_needs_no_particular_word_for_fraud(fraud_values):
    plain = contract(label=f"{{column: fraud, fraud_values: {fraud_values}, delay_days: 7}}")
    intake = accept(delivered(fraud=[True, False, None]), plain, MONTH)
    assert intake.statements["transaction_id"].to_pylist() == [1]


@pytest.mark.parametrize("value", ["0", 0, 0.0, "10", "1.5", "11.0", False, None, "", "genuine"])
def test_nothing_is_stated_about_what_is_not_called_fraud(value):
    intake = taken(fraud=pa.array([value]), known=pa.array([None], pa.string()))
    assert (intake.transactions.num_rows, intake.statements.num_rows) == (1, 0)


def test_without_label_times_a_fraud_is_known_after_the_contracts_delay():
    late = contract(label="{column: fraud, delay_days: 7.5}")
    intake = accept(delivered(), late, MONTH)
    assert intake.statements["label_timestamp"].to_pylist() == [dt.datetime(2018, 4, 17, 22, tzinfo=dt.UTC)]


def test_a_quarantined_row_states_nothing():
    assert taken(paid=[-1.0]).statements.num_rows == 0


def test_a_source_without_transaction_ids_gets_them_from_file_and_row():
    anonymous = parse_contract(
        "\n".join(
            line for line in CONTRACT.replace("ZONE", "UTC").splitlines() if not line.startswith("transaction_id")
        )
    )
    intake = accept(delivered(paid=[1.0, -1.0, 3.0]), anonymous, MONTH)
    assert intake.transactions["transaction_id"].to_pylist() == ["april.csv:1", "april.csv:3"]
    assert intake.quarantined["row_number"].to_pylist() == [2]


def test_an_empty_delivery_is_refused():
    with pytest.raises(IntakeError, match=r"april\.csv has no rows for 2018-04"):
        accept(Delivery(delivered().rows.slice(0, 0), "april.csv"), contract(), MONTH)


def test_a_month_above_the_quarantine_limit_is_refused_with_its_counts():
    strict = contract(quarantine_limit=0.25)
    accept(delivered(paid=[1.0, 1.0, 1.0, -1.0]), strict, MONTH)
    with pytest.raises(IntakeError, match=r"2 of 7 rows \(28\.6%\).*limit of 25\.0%.*amount is below 0: 2 rows"):
        accept(delivered(paid=[-1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0]), strict, MONTH)


def test_rows_to_score_need_no_label_and_may_be_of_any_month():
    rows = delivered(paid=[1.0, -1.0], at=["2018-04-10", "2030-01-01"]).rows.drop_columns(["fraud", "known"])
    converted = convert(rows, contract(), "request")
    assert converted.transactions["amount"].to_pylist() == [1.0]
    assert converted.transaction_ids.to_pylist() == [1, None]
    assert converted.problems == ["row 2 of request: amount is below 0"]


def test_no_rows_to_score_are_no_problem():
    converted = convert(delivered().rows.slice(0, 0), contract(), "request")
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
    intake = accept(Delivery(rows, "any"), contract(zone), MONTH)
    assert intake.transactions.num_rows + intake.quarantined.num_rows == rows.num_rows
    assert all(intake.quarantined["reasons"].to_pylist())
    assert intake.transactions.schema == contract().transactions_schema()
    assert intake.statements.schema == contract().labels_schema()
    assert set(intake.statements["transaction_id"].to_pylist()) <= set(
        intake.transactions["transaction_id"].to_pylist()
    )
    for number, original in zip(
        intake.quarantined["row_number"].to_pylist(), intake.quarantined["original"].to_pylist(), strict=True
    ):
        assert json.loads(original)["who"] == json.loads(json.dumps(_shown(rows["who"][number - 1].as_py())))


def _shown(value):
    return str(value) if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def test_a_month_of_the_handbook_is_accepted_whole(handbook, handbook_contract, is_published):
    rows = pyarrow.parquet.read_table(handbook / "transactions_2018-04.parquet")
    intake = accept(Delivery(rows, "handbook"), handbook_contract, "2018-04")
    assert intake.quarantined.num_rows == 0
    assert intake.transactions.num_rows == rows.num_rows
    assert intake.statements.num_rows == sum(rows["TX_FRAUD"].to_pylist())
    if is_published:
        assert intake.transactions.num_rows == 288_062
