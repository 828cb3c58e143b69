"""A kept score's line says exactly what was computed, for contracts of any kind."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.models.kept_scores import FIELDS, Scored

CARDS = """
name: zahlungen
first_month: 2024-01
timezone: Europe/Berlin
transaction_id: {column: id, type: integer}
event_timestamp: {column: time}
entities:
  customer_id: {column: kunde, type: integer, nullable: true}
  geraet_id: {column: gerät, type: string, nullable: true}
amount: {column: betrag, type: number, nullable: true}
attributes:
  kanal: {column: kanal, type: string, nullable: true}
  neu: {column: neu, type: boolean, nullable: true}
  gueltig: {column: bis, type: date, nullable: true}
label: {column: fraud, delay_days: 7}
maturity_days: 14
"""
# No entity, no amount, no id of its own.
FLAT = """
name: flat
first_month: 2024-01
event_timestamp: {column: time}
attributes:
  risk: {column: risk, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 14
"""
AT = datetime(2024, 2, 29, 23, 30, 0, 123456, UTC)


def scored(contract, rows, features, probabilities, **more):
    n = len(rows)
    given = {
        "held": np.array(probabilities) >= 0.5, "let_through": np.zeros(n, dtype=bool), "chance": np.zeros(n),
        "raw_of": None,
    } | more  # fmt: skip
    return Scored(
        contract, 3, 0.5, tuple(features.column_names), given["raw_of"],
        pa.Table.from_pylist(rows, schema=contract.transactions_schema()), features, np.array(probabilities),
        given["held"], given["let_through"], given["chance"], AT,
    )  # fmt: skip


def test_a_line_has_what_the_table_has_under_the_contract_s_own_names():
    contract = parse_contract(CARDS)
    rows = [
        {"transaction_id": 17, "event_timestamp": AT, "customer_id": None, "geraet_id": "Ü-7", "amount": 0.1,
         "kanal": "Wörter", "neu": True, "gueltig": date(2025, 1, 31)},
        {"transaction_id": 2**62, "event_timestamp": AT, "customer_id": 5, "geraet_id": None, "amount": None,
         "kanal": None, "neu": None, "gueltig": None},
    ]  # fmt: skip
    features = pa.table({"x": [1 / 3, np.nan], "y": pa.array([None, 2], pa.int64()), "kanal": ["a", None]})
    made = scored(
        contract, rows, features, [0.7, 0.2], let_through=np.array([True, False]), chance=np.array([0.01, 0.0]),
        raw_of=lambda p: np.log(p / (1 - p)),
    )  # fmt: skip
    first, second = (json.loads(line) for line in made.lines())
    assert set(first) == {*FIELDS, "month"}
    assert first["transaction_id"] == "17"
    assert second["transaction_id"] == str(2**62)
    assert first["transaction"] == {
        "customer_id": None, "geraet_id": "Ü-7", "amount": 0.1, "kanal": "Wörter", "neu": True, "gueltig": "2025-01-31",
    }  # fmt: skip
    assert first["features"] == {"x": 1 / 3, "y": None, "kanal": "a"}
    assert second["features"] == {"x": None, "y": 2, "kanal": None}
    assert (first["decision"], second["decision"]) == ("review", "approve")
    assert (first["passed_through"], first["pass_through_probability"]) == (True, 0.01)
    assert first["raw_score"] == np.log(0.7 / (1 - 0.7))
    # In the contract's zone it is March already.
    assert first["month"] == "2024-03"
    assert datetime.fromisoformat(first["event_timestamp"]) == AT


def test_a_contract_without_entities_and_amount_has_lines_as_well():
    contract = parse_contract(FLAT)
    rows = [{"transaction_id": "a.csv:1", "event_timestamp": AT, "risk": 0.25}]
    (line,) = scored(contract, rows, pa.table({"risk": [0.25]}), [0.4]).lines()
    said = json.loads(line)
    assert (said["transaction"], said["raw_score"], said["month"]) == ({"risk": 0.25}, None, "2024-02")


@pytest.mark.parametrize("number", [1e-300, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, -0.0, 2**53 + 1.0])
def test_a_double_is_the_same_again(number):
    contract = parse_contract(FLAT)
    rows = [{"transaction_id": "1", "event_timestamp": AT, "risk": number}]
    (line,) = scored(contract, rows, pa.table({"risk": [number]}), [0.4]).lines()
    said = json.loads(line)
    assert np.float64(said["features"]["risk"]).tobytes() == np.float64(number).tobytes()
    assert np.float64(said["transaction"]["risk"]).tobytes() == np.float64(number).tobytes()


def test_an_infinite_raw_score_is_not_known():
    contract = parse_contract(FLAT)
    rows = [{"transaction_id": "1", "event_timestamp": AT, "risk": 1.0}]
    (line,) = scored(contract, rows, pa.table({"risk": [1.0]}), [1.0], raw_of=lambda p: np.full(len(p), np.inf)).lines()
    assert json.loads(line)["raw_score"] is None


def test_features_may_be_rows_with_numbers_of_any_kind():
    contract = parse_contract(FLAT)
    rows = [{"transaction_id": "1", "event_timestamp": AT, "risk": 1.0}]
    features = [
        {"a": np.float32(0.1), "b": np.nan, "c": np.int64(3), "d": None, "e": "Wort", "f": np.bool_(True), "g": 2}
    ]
    made = scored(contract, rows, pa.table({"a": [0.1]}), [0.4])
    made = replace(made, features=tuple("abcdefg"), table=features)
    (line,) = made.lines()
    assert json.loads(line)["features"] == {
        "a": float(np.float32(0.1)), "b": None, "c": 3, "d": None, "e": "Wort", "f": True, "g": 2,
    }  # fmt: skip
