"""Contracts: what can be said in YAML, and what is refused with the field named."""

import datetime as dt

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import (
    Column,
    Contract,
    ContractError,
    Csv,
    Label,
    LabelFeed,
    TimeColumn,
    load_contract,
    parse_contract,
)
from fraud_assets.core.features.declarations import feature_names, text_features
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
    assert contract.entities == {}
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
        ("entities: {card: {column: c}}\nattributes: {card_count_7d: {column: a}}", "of entity 'card'"),
        ("entities: {card_id: {column: c}}\nattributes: {Card_Days_Since_Last: {column: a}}", "the feature"),
        ("attributes: {hour: {column: a, type: number, feature: true}}", "hour"),
        ("timezone: Europe/Nowhere", "Europe/Nowhere"),
        ("customer_id: {column: who}", "customer_id"),
        ("event_timestamp: {column: at, timezone: UTC}", "event_timestamp.timezone"),
        ("event_timestamp: {column: at, ambiguous: guess}", "event_timestamp.ambiguous"),
        ("entities: {amount: {column: a}}", "amount"),
        ("entities: {'card id': {column: a}}", "card id"),
        ("amount: {column: a, type: number, minimum: 2, maximum: 1}", "no value of column 'a' can lie in [2, 1]"),
        ("amount: {column: a, type: string, minimum: 2}", "minimum and maximum are for numbers"),
        ("amount: {column: a, type: integer, scale: 0.01}", "scale is for type number"),
        ("amount: {column: a, type: number, scale: 0}", "amount.scale"),
        ("entities: {card: {column: a, pattern: '['}}", "no regular expression"),
        ("entities: {card: {column: a, type: integer, pattern: x}}", "pattern is for text"),
        ("entities: {card: {column: a, extract: '('}}", "extract '(' is no regular expression"),
        ("entities: {card: {column: a, extract: '@.*'}}", "has 0 groups"),
        ("attributes: {card: {column: a, extract: '(a)(?:b)(c)'}}", "has 2 groups"),
        ("entities: {card: {column: a, type: integer, extract: '(x)'}}", "extract is for text"),
        ("csv: {delimiter: ';;'}", "csv.delimiter"),
        ("csv: {decimal: ':'}", "csv.decimal"),
        ("csv: {encoding: klingon}", "no text encoding 'klingon'"),
        ("label: {column: fraud, delay_days: 7, fraud_values: [x], genuine_values: [X]}", "more than one meaning"),
        ("label: {delay_days: 7}", "exactly one of column"),
        ("label: {column: fraud, feed: {file_pattern: '{month}', transaction_id: a, is_fraud: b, label_timestamp: c}}",
         "exactly one of column"),
        ("label: {feed: {file_pattern: '{month}', transaction_id: a, is_fraud: b, label_timestamp: c}, delay_days: 1}",
         "known_at and delay_days belong to column"),
        ("label: {feed: {file_pattern: '{month}', transaction_id: a, is_fraud: b, label_timestamp: c}}",
         "transaction_id is not given"),
        ("label: {feed: {file_pattern: labels.csv, transaction_id: a, is_fraud: b, label_timestamp: c}}",
         "label.feed.file_pattern"),
        ("file_pattern: transactions_{year}.csv", "file_pattern"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(line, field):
    with pytest.raises(ContractError, match=r"my\.yaml is not a valid contract") as refusal:
        parse_contract(with_line(line), "my.yaml")
    assert field in str(refusal.value)


@pytest.mark.parametrize("rest", ["", ", feature: true", ", feature: false", ", categories: [a b, a_b]"])
def test_a_text_needs_no_list_of_its_values(rest):
    contract = parse_contract(with_line(f"attributes: {{city: {{column: a{rest}}}}}"))
    assert text_features(contract) == (() if "false" in rest else ("city",))


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


# Columns


def test_columns_are_entities_amount_and_attributes_in_the_contracts_order():
    contract = parse_contract(
        with_line("attributes: {note: {column: n, nullable: true}}")
        + "\namount: {column: a, type: number}\nentities: {email: {column: e}, card: {column: c, type: integer}}"
    )
    assert list(contract.entities) == ["email", "card"]
    assert list(contract.columns) == ["email", "card", "amount", "note"]
    assert contract.labels_schema().names == [
        "transaction_id", "event_timestamp", "email", "card", "is_fraud", "label_timestamp", "label_source",
    ]  # fmt: skip
    nullable = {field.name for field in contract.labels_schema() if field.nullable}
    assert nullable == {"event_timestamp", "email", "card", "is_fraud"}


# Months


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("UTC", dt.datetime(2018, 4, 1), dt.datetime(2018, 5, 1)),
        ("Europe/Paris", dt.datetime(2018, 3, 31, 22), dt.datetime(2018, 4, 30, 22)),
        ("America/New_York", dt.datetime(2018, 4, 1, 4), dt.datetime(2018, 5, 1, 4)),
    ],
)
def test_a_month_begins_and_ends_at_midnight_of_the_contracts_time_zone(zone, start, end):
    contract = parse_contract(with_line(f"timezone: {zone}"))
    assert contract.month_start("2018-04") == start.replace(tzinfo=dt.UTC)
    assert contract.month_end("2018-04") == end.replace(tzinfo=dt.UTC)
    assert contract.month_of(contract.month_start("2018-04")) == "2018-04"
    assert contract.month_of(contract.month_start("2018-04") - dt.timedelta(microseconds=1)) == "2018-03"


def test_the_month_of_a_moment_without_a_time_zone_is_not_guessed():
    with pytest.raises(ValueError, match="no time zone"):
        parse_contract(LEAST).month_of(dt.datetime(2018, 4, 1))


# Digest


@pytest.mark.parametrize(
    "line",
    ["name: other", "description: words", "file_pattern: 'x_{month}'", "quarantine_limit: 0.5", "last_month: 2024-06",
     "timezone: UTC", "csv: {decimal: '.'}", "label: {column: fraud, delay_days: 7, fraud_values: ['1', 'true']}"],
)  # fmt: skip
def test_what_changes_no_row_does_not_change_the_digest(line):
    assert parse_contract(with_line(line)).digest == parse_contract(LEAST).digest


@pytest.mark.parametrize(
    "line",
    [
        "timezone: Europe/Paris",
        "maturity_days: 8",
        "event_timestamp: {column: when}",
        "amount: {column: a, type: number}",
        "csv: {decimal: ','}",
        "label: {column: fraud, delay_days: 8}",
        "entities: {card: {column: c}}",
    ],
)
def test_what_may_change_rows_or_features_changes_the_digest(line):
    assert parse_contract(with_line(line)).digest != parse_contract(LEAST).digest


def test_the_unit_of_a_column_is_for_people():
    one, other = (
        parse_contract(
            with_line(f"entities: {{card: {{column: c{unit}}}}}")
            + f"\namount: {{column: a, type: number{unit}}}\nattributes: {{age: {{column: g, type: number{unit}}}}}"
        )
        for unit in ("", ", unit: EUR")
    )
    assert one.digest == other.digest


def test_the_order_of_columns_is_part_of_the_digest():
    one = parse_contract(with_line("entities: {a: {column: a}, b: {column: b}}"))
    other = parse_contract(with_line("entities: {b: {column: b}, a: {column: a}}"))
    assert one.digest != other.digest


def test_the_months_of_one_set_of_files_are_part_of_the_digest():
    whole = with_line("file_pattern: all.csv")
    assert parse_contract(whole).digest != parse_contract(with_line("last_month: 2024-06", whole)).digest


def test_a_pattern_that_would_take_the_files_of_the_label_feed_is_refused():
    """The default pattern takes every file with a month in its name."""
    feed = "label: {feed: {file_pattern: 'labels_{month}.csv', transaction_id: a, is_fraud: b, label_timestamp: c}}"
    text = with_line(feed, with_line("transaction_id: {column: id}"))
    with pytest.raises(ContractError, match="also takes the files"):
        parse_contract(text)
    assert parse_contract(text + "\nfile_pattern: 'transactions_{month}.csv'").label.feed


CONTRACTS = PROJECT_ROOT / "contracts" / "README.md"


@pytest.mark.parametrize("section", [Contract, Column, TimeColumn, Csv, Label, LabelFeed])
def test_the_reference_names_every_field(section):
    text = CONTRACTS.read_text(encoding="utf-8")
    assert [name for name in section.model_fields if f"`{name}`" not in text] == []


def test_the_example_of_the_reference_is_a_contract():
    example = CONTRACTS.read_text(encoding="utf-8").split("```yaml")[1].split("```")[0]
    assert parse_contract(example).amount.scale == 0.01
