"""Transactions in a request keep the contract's rules, and no value of JSON is more than a refusal."""

import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bentos.fraud_scorer.transactions import RequestError, TransactionReader
from fraud_assets.core.contracts.contract import load_contract, parse_contract

CASE = Path(__file__).parent / "cases" / "serve-empty-text"
READER = TransactionReader(load_contract(CASE / "contract.yaml"))
PLATFORM = {
    "transaction_id": "Z1", "event_timestamp": "2024-04-28T12:00:00Z", "customer_id": "C0001", "terminal_id": "S003",
    "device_id": None, "amount": 80.0, "channel": "web", "v": 2.5,
}  # fmt: skip
SOURCE = {
    "tx_id": "Z1",
    "ts": "2024-04-28 12:00:00",
    "card": "C0001",
    "shop": "S003",
    "channel": "web",
    "amount": 80.0,
    "v": 2.5,
}
UNITS = TransactionReader(
    parse_contract("""
name: units
first_month: 2024-01
timezone: Europe/Berlin
csv: {decimal: ","}
missing: [k.A.]
transaction_id: {column: Nr, type: integer}
event_timestamp: {column: Zeit, format: "%d.%m.%Y %H:%M"}
entities:
  customer_id: {column: Karte, extract: '^DE-(\\d+)'}
amount: {column: Betrag, type: number, scale: 0.01, minimum: 0}
attributes:
  is_new: {column: neu, type: boolean, nullable: true}
  born: {column: geb, type: date, format: "%d.%m.%Y", nullable: true}
label: {column: Betrug, delay_days: 5}
maturity_days: 14
""")
)
GERMAN = {"Nr": 7, "Zeit": "28.04.2024 12:00", "Karte": "DE-99-x", "Betrag": 1250, "neu": True, "geb": "01.05.1990"}


def read(row, reader=READER, names=None):
    return reader.read([row], names).to_pylist()[0]


def problems(row, reader=READER, names=None):
    with pytest.raises(RequestError) as refusal:
        reader.read([row], names)
    assert refusal.value.error.startswith(("1 validation error", f"{len(refusal.value.detail)} validation errors"))
    return {one["loc"][-1]: one["msg"] for one in refusal.value.detail}


@pytest.mark.parametrize("nothing", [None, "", "  ", "\t"])
def test_empty_text_is_no_value_as_it_is_in_a_file(nothing):
    assert read(PLATFORM | {"device_id": nothing})["device_id"] is None
    assert read(SOURCE | {"channel": "web"})["device_id"] == "web"
    (message,) = problems(PLATFORM | {"customer_id": nothing}).values()
    assert "missing" in message or "valid string" in message


def test_blanks_around_text_are_no_part_of_it():
    assert read(PLATFORM | {"customer_id": " C0001  "})["customer_id"] == "C0001"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("customer_id", "X-77", r"customer_id does not match 'C\\d{4}'"),
        ("amount", 1e39, "amount is beyond 3.4e+38"),
        ("amount", -1, "amount is below 0"),
        ("channel", "fax", "channel is none of ['web', 'shop', 'phone']"),
        ("terminal_id", "a\x00b", "terminal_id contains a zero byte"),
    ],
)
def test_a_rule_of_the_contract_that_is_broken_is_named_with_its_field(field, value, said):
    assert problems(PLATFORM | {field: value}) == {field: said}
    own = {"customer_id": "card", "terminal_id": "shop"}.get(field, field)
    assert problems(SOURCE | {own: value})[own] == said


def test_the_source_s_names_mean_the_source_s_units_and_formats():
    expected = {
        "transaction_id": 7, "event_timestamp": dt.datetime(2024, 4, 28, 10, tzinfo=dt.UTC), "customer_id": "99",
        "amount": 12.5, "is_new": True, "born": dt.date(1990, 5, 1),
    }  # fmt: skip
    assert read(GERMAN, UNITS) == expected
    # As text, as a CSV file has it; and columns that the contract does not name are left out.
    as_text = GERMAN | {"Nr": "7", "Betrag": "1250,0", "neu": "true", "Betrug": "0", "Bemerkung": ["x"]}
    assert read(as_text, UNITS) == expected
    assert read(GERMAN | {"geb": "k.A."}, UNITS)["born"] is None
    stored = expected | {"event_timestamp": "2024-04-28T12:00:00+02:00", "born": "1990-05-01"}
    assert read(stored, UNITS) == expected


def test_rows_of_several_types_are_read_as_each_alone():
    rows = [GERMAN, GERMAN | {"Nr": "8", "Betrag": "99,5"}, GERMAN | {"Nr": 9.0, "Betrag": 99.5}]
    assert UNITS.read(rows)["amount"].to_pylist() == [12.5, 0.995, 0.995]
    assert UNITS.read(rows)["transaction_id"].to_pylist() == [7, 8, 9]


def test_whole_numbers_beyond_those_of_floating_point_are_read_beside_others():
    """A column of both was made one of floating-point numbers, which pyarrow refuses beyond 2**53."""
    rows = [
        SOURCE | {"amount": 80.5},
        SOURCE | {"amount": 2**53 + 2, "tx_id": "Z2"},
        SOURCE | {"amount": 1, "tx_id": "Z3"},
    ]
    assert READER.read(rows)["amount"].to_pylist() == [80.5, float(2**53 + 2), 1.0]


def test_whose_names_they_are_can_be_said():
    contract = parse_contract("""
name: same
first_month: 2024-01
transaction_id: {column: transaction_id}
event_timestamp: {column: event_timestamp}
amount: {column: amount, type: number, scale: 0.01}
label: {column: fraud, delay_days: 5}
maturity_days: 14
""")
    row = {"transaction_id": "1", "event_timestamp": "2024-04-28T12:00:00Z", "amount": 5}
    amounts = [read(row, TransactionReader(contract), names)["amount"] for names in (None, "platform", "source")]
    assert amounts == [5.0, 5.0, 0.05]


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({key: value for key, value in SOURCE.items() if key != "card"}, "card", "Field required"),
        (GERMAN | {"Betrag": [1]}, "Betrag", "is neither text nor a number nor true or false"),
        (GERMAN | {"Betrag": float("nan")}, "Betrag", "is no finite number"),
        (GERMAN | {"Betrag": 10**400}, "Betrag", "is a number beyond all that can be stored"),
        (GERMAN | {"Karte": "\ud800"}, "Karte", "is no valid text"),
        (GERMAN | {"Zeit": "28.04.2250 12:00"}, "Zeit", "the time must lie between 1970 and 2200"),
        ({key: value for key, value in GERMAN.items() if key != "neu"} | {"neuu": True}, "neu", "did you mean"),
        (PLATFORM | {"event_timestamp": "2024-04-28T12:00:00"}, "event_timestamp", "the time has no time zone"),
        (PLATFORM | {"Amount": 3}, "Amount", "Extra inputs are not permitted"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_the_field(row, field, said):
    reader = UNITS if "Zeit" in row else READER
    assert said in problems(row, reader)[field]


TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "\x00",
        "\ud800",
        "now",
        "nan",
        "inf",
        "1e400",
        "0x10",
        "9" * 400,
        "9999-12-31T23:59:59Z",
        "0001-01-01",
        "30.02.2024 25:61",
    ]
)
NUMBERS = (
    st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.sampled_from([2**53 + 1, -(2**62), 2**63, -(2**63) - 1, 1e308])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
BASES = [(READER, PLATFORM), (READER, SOURCE), (UNITS, GERMAN)]


@given(st.sampled_from(BASES), st.data(), st.sampled_from([None, "platform", "source"]))
def test_every_value_of_json_is_read_or_refused_with_its_field(base, data, names):
    reader, row = base
    changes = data.draw(st.dictionaries(st.sampled_from([*row, "other"]) | TEXTS, JSON, min_size=1, max_size=3))
    rows = [row | changes, row]
    try:
        read = reader.read(rows, names)
    except RequestError as error:
        # What the service answers.
        answer = json.dumps({"error": error.error, "detail": error.detail})
        read = None if error.detail or "cannot be read" in answer else pytest.fail(answer)
    assert read is None or read.num_rows == 2


@given(
    st.lists(st.dictionaries(st.sampled_from([*PLATFORM, *SOURCE]) | TEXTS, JSON, max_size=9), min_size=1, max_size=3)
)
@example([{}])
def test_every_row_of_json_is_read_or_refused(rows):
    for reader in (READER, UNITS):
        try:
            assert reader.read(rows).num_rows == len(rows)
        except RequestError as error:
            json.dumps(error.detail).encode()
