"""What the service's page shows: the contract's own columns, and an example that scores as it is."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bentos.fraud_scorer.examples import example_transaction
from bentos.fraud_scorer.pages import source_schema, transaction_schema
from bentos.fraud_scorer.transactions import TransactionReader
from fraud_assets.core.contracts.contract import load_contract, parse_contract

ROOT = Path(__file__).parents[1]
MOMENT = datetime(2025, 7, 1, tzinfo=UTC)
ODD = """
name: odd
first_month: 2024-01
timezone: Europe/Berlin
transaction_id: {column: Nr, type: string, pattern: 'T-\\d{6}[A-F]?'}
event_timestamp: {column: [Tag, Uhrzeit], format: "%d.%m.%Y %H:%M"}
entities:
  haendler: {column: Händler, type: string, pattern: '(?:DE|AT)[^\\W_]{3,5}'}
amount: {column: Betrag, type: integer, minimum: 100, maximum: 900, unit: EUR}
attributes:
  weg: {column: Weg, categories: [Web, Laden], nullable: true}
  alter: {column: Alter, type: integer, maximum: -5}
  neu: {column: neu, type: boolean}
  ablauf: {column: Ablauf, type: date, format: "%m/%y"}
  pruefziffer: {column: Prüf, type: string, pattern: '(?i)x\\b', nullable: true}
label: {column: Betrug, delay_days: 5}
maturity_days: 14
"""
CONTRACTS = {path.stem: load_contract(path) for path in sorted((ROOT / "contracts").glob("*.yaml"))} | {
    path.parent.name: load_contract(path)
    for path in sorted((ROOT / "fraud_assets_tests/cases").glob("*/contract.yaml"))
}


@pytest.mark.parametrize("name", [*CONTRACTS, "odd"])
def test_the_example_keeps_every_rule_of_its_contract(name):
    contract = CONTRACTS.get(name) or parse_contract(ODD)
    row = example_transaction(contract, MOMENT)
    assert row is not None
    read = TransactionReader(contract).read([row]).to_pylist()
    assert [one["event_timestamp"] for one in read] == [MOMENT]
    schema = transaction_schema(contract)
    assert set(row) == set(schema["properties"])
    assert set(schema["required"]) <= set(row)
    assert set(schema["required"]).isdisjoint(one for one, value in row.items() if value is None)


def test_the_example_of_an_odd_contract_is_what_its_rules_leave():
    row = example_transaction(parse_contract(ODD), MOMENT)
    assert row == {
        "transaction_id": "T-000000", "event_timestamp": "2025-07-01T00:00:00Z", "haendler": "DEaaa", "amount": 100,
        "weg": "Web", "alter": -5, "neu": False, "ablauf": "2025-01-31", "pruefziffer": "x",
    }  # fmt: skip


def test_a_pattern_that_nothing_can_be_made_up_for_leaves_no_example():
    text = ODD.replace("pattern: '(?:DE|AT)[^\\W_]{3,5}'", "pattern: '\\p{Greek}+'")
    assert example_transaction(parse_contract(text), MOMENT) is None


def test_the_schema_has_the_contract_s_columns_types_and_limits():
    schema = transaction_schema(parse_contract(ODD))
    properties = schema["properties"]
    assert schema["required"] == ["transaction_id", "event_timestamp", "haendler", "amount", "alter", "neu", "ablauf"]
    assert (properties["amount"]["type"], properties["amount"]["minimum"], properties["amount"]["maximum"]) == (
        "integer", 100, 900,
    )  # fmt: skip
    assert properties["amount"]["description"] == "Amount, in EUR; 100 to 900. `Betrag` of the source."
    assert properties["weg"]["enum"] == ["Web", "Laden", None]
    assert properties["weg"]["type"] == ["string", "null"]
    assert properties["ablauf"]["format"] == "date"
    own = source_schema(parse_contract(ODD))
    assert {"Nr", "Tag", "Uhrzeit", "Händler", "Betrag", "Weg", "Alter", "neu", "Ablauf", "Prüf"} == set(
        own["properties"]
    )
    assert set(own["properties"]) - set(own["required"]) == {"Weg", "Prüf"}
