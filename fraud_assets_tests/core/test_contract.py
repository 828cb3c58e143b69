"""Contracts: what can be said in YAML, and what is refused with the field named."""

import pyarrow as pa
import pytest

from fraud_assets.core.contract import ContractError, load_contract, parse_contract
from fraud_assets.core.features import feature_names
from fraud_assets.settings import PROJECT_ROOT

LEAST = """
name: least
first_month: 2024-01
event_timestamp: {column: at}
label: {column: fraud, delay_days: 7}
maturity_days: 7
"""


def with_line(line, text=LEAST):
    """The contract with its line of the same key replaced, or the line added."""
    key = line.split(":")[0]
    return "\n".join([*(old for old in text.strip().splitlines() if old.split(":")[0] != key), line])


@pytest.mark.parametrize("path", sorted((PROJECT_ROOT / "contracts").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_contract_of_the_project_can_be_read(path):
    assert load_contract(path).name


def test_the_least_contract_has_no_entities_no_amount_and_text_identifiers():
    contract = parse_contract(LEAST)
    assert contract.entities == ()
    assert contract.columns == {}
    assert contract.transaction_id_type == pa.string()
    assert contract.transactions_schema().names == ["transaction_id", "event_timestamp"]
    assert feature_names(contract) == ("hour", "is_weekend")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("name: Has Space", "name"),
        ("name: a;drop_table", "name"),
        ("first_month: 2024-13", "first_month"),
        ("last_month: soon", "last_month"),
        ("last_month: 2023-12", "last_month"),
        ("maturity_days: 0", "maturity_days"),
        ("maturity_days: soon", "maturity_days"),
        ("quarantine_limit: 1.5", "quarantine_limit"),
        ("no_such_key: 1", "no_such_key"),
        ("label: {column: fraud}", "exactly one of known_at"),
        ("label: {column: fraud, delay_days: 7, known_at: seen}", "exactly one of known_at"),
        ("label: {column: fraud, delay_days: -1}", "delay_days"),
        ("label: {column: fraud, delay_days: 7, label_source: rumour}", "label_source"),
        ("amount: {column: a, type: money}", "amount.type"),
        ("attributes: {is_fraud: {column: a}}", "attributes"),
        ("attributes: {city: {column: a, type: string, feature: true}}", "city"),
        ("attributes: {hour: {column: a, type: number, feature: true}}", "hour"),
        ("event_timestamp: {column: at, timezone: Europe/Nowhere}", "Europe/Nowhere"),
        ("file_pattern: transactions.csv", "month"),
    ],
)
def test_a_wrong_field_is_named(line, field):
    with pytest.raises(ContractError, match=r"my\.yaml is not a valid contract") as refusal:
        parse_contract(with_line(line), "my.yaml")
    assert field in str(refusal.value)


@pytest.mark.parametrize("text", ["", "just text", "- a\n- list", "name: {unclosed"])
def test_text_that_is_no_contract_is_refused_as_one(text):
    with pytest.raises(ContractError, match=r"my\.yaml is not"):
        parse_contract(text, "my.yaml")


def test_a_contract_that_is_not_there_is_named_with_the_setting(tmp_path):
    with pytest.raises(ContractError, match=r"absent\.yaml; set FRAUD_CONTRACT"):
        load_contract(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("label", "months"),
    [
        ("delay_days: 7", 1),
        ("delay_days: 28", 1),
        ("delay_days: 28.5", 2),
        ("delay_days: 0", 0),
        ("known_at: k", 3),
    ],
)
def test_labels_are_looked_for_as_many_months_back_as_the_longest_delay_can_reach(label, months):
    """The shortest month has 28 days; the default longest believed delay of 62 days spans three of them."""
    assert parse_contract(with_line(f"label: {{column: fraud, {label}}}")).label.lookback_months == months
