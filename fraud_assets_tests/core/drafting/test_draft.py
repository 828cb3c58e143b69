"""The first contract that is drafted for a file: which column plays which part, and what is left to confirm."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import Contract, ContractError, Csv, parse_contract
from fraud_assets.core.drafting.draft import Draft, draft_contract
from fraud_assets.core.drafting.profiling import profile_rows

N = 200


def rows(**columns: list[Any]) -> dict[str, list[Any]]:
    """A delivery of 200 card transactions in January 2024, of which every tenth is fraud."""
    return {
        "tx_id": [f"T{number}" for number in range(N)],
        "event_time": [f"2024-01-{number % 31 + 1:02d} {number % 24:02d}:00:00" for number in range(N)],
        "customer_id": [f"C{number % 50}" for number in range(N)],
        "amount": [f"{number / 4:.2f}" for number in range(N)],
        "is_fraud": [str(int(number % 10 == 0)) for number in range(N)],
    } | columns


def draft(columns: dict[str, list[Any]], file_name: str = "cards.csv", **more: Any) -> Draft:
    """The draft for a table of these columns; a column of None is left away."""
    table = pa.table({name: values for name, values in columns.items() if values})
    return draft_contract(profile_rows(table.to_batches()), file_name, **more)


def drafted(columns: dict[str, list[Any]], file_name: str = "cards.csv", **more: Any) -> str:
    return draft(columns, file_name, **more).text


def contract_for(columns: dict[str, list[Any]], file_name: str = "cards.csv", **more: Any) -> Contract:
    return parse_contract(drafted(columns, file_name, **more))


def test_each_column_plays_its_part() -> None:
    contract = contract_for(rows())
    assert contract.transaction_id is not None
    assert contract.transaction_id.column == "tx_id"
    assert contract.event_timestamp.column == "event_time"
    assert list(contract.entities) == ["customer_id"]
    assert contract.amount is not None
    assert contract.amount.column == "amount"
    assert contract.label.column == "is_fraud"
    assert contract.label.fraud_values == ("1",)
    assert contract.label.genuine_values == ("0",)
    assert contract.attributes == {}


def test_nothing_is_left_unsaid_of_what_was_guessed() -> None:
    questions = draft(rows()).to_confirm
    assert [question.partition(":")[0] for question in questions] == [
        "description", "last_month", "timezone", "delay_days", "maturity_days",
    ]  # fmt: skip


# Months


def test_a_file_with_a_month_in_its_name_is_one_of_many_and_the_others_tell_the_months() -> None:
    siblings = ["cards_2023-11.csv", "cards_2024-01.csv", "cards_2024-03.csv", "notes_2020-01.csv", "cards_2024.csv"]
    contract = contract_for(rows(), "cards_2024-01.csv", siblings=siblings)
    assert contract.file_pattern == "cards_{month}.csv"
    assert (contract.first_month, contract.last_month) == ("2023-11", "2024-03")


def test_a_file_without_a_month_in_its_name_holds_the_months_of_its_times() -> None:
    times = ["2023-12-31 23:59:59"] * 100 + ["2024-02-01 00:00:00"] * 100
    contract = contract_for(rows(event_time=times))
    assert contract.file_pattern == "cards.csv"
    assert (contract.first_month, contract.last_month) == ("2023-12", "2024-02")


def test_a_month_in_the_name_that_is_not_the_rows_is_no_month() -> None:
    contract = contract_for(rows(), "export_2024-02.csv")
    assert contract.file_pattern == "export_2024-02.csv"
    assert (contract.first_month, contract.last_month) == ("2024-01", "2024-01")


def test_signs_that_patterns_give_a_meaning_stand_for_themselves() -> None:
    assert contract_for(rows(), "cards [new] {a}*.csv").file_pattern == "cards [[]new] ?a?[*].csv"


def test_times_with_an_offset_need_no_time_zone() -> None:
    times = [f"2024-01-{number % 28 + 1:02d}T10:00:00Z" for number in range(N)]
    assert not any(question.startswith("timezone") for question in draft(rows(event_time=times)).to_confirm)


def test_without_a_time_there_is_no_contract_and_the_columns_are_named() -> None:
    with pytest.raises(ContractError, match=r"no column can be read as the time.*'amount' \(number\)"):
        drafted(rows(event_time=[]))


@pytest.mark.parametrize(("unit", "ones"), [("s", 1), ("ms", 1_000), ("us", 1_000_000)])
def test_numbers_that_count_from_1970_are_a_time(unit: str, ones: int) -> None:
    numbers = [str((1_704_067_200 + 3600 * number) * ones) for number in range(N)]
    contract = contract_for(rows(event_time=numbers))
    assert (contract.event_timestamp.unit, contract.event_timestamp.origin) == (unit, None)
    assert (contract.first_month, contract.last_month) == ("2024-01", "2024-01")


def test_the_time_of_the_event_is_not_the_time_of_a_birth_or_of_a_report() -> None:
    known = [f"2024-02-{number % 27 + 1:02d}" for number in range(N)]
    columns = {"date_of_birth": ["1980-01-01"] * N, "chargeback_date": known} | rows()
    contract = contract_for(columns)
    assert contract.event_timestamp.column == "event_time"
    assert contract.label.known_at == "chargeback_date"
    assert contract.attributes["date_of_birth"].type == "date"


def test_of_several_times_the_one_that_is_called_the_events_is_taken() -> None:
    assert contract_for({"shipped": ["2024-03-01"] * N} | rows()).event_timestamp.column == "event_time"


def test_two_formats_that_both_read_the_times_are_both_named() -> None:
    times = [f"{number % 12 + 1:02d}/01/2024" for number in range(N)]
    found = draft(rows(event_time=times))
    text = found.text
    assert parse_contract(text).event_timestamp.format == "%d/%m/%Y"
    assert any("%m/%d/%Y" in question for question in found.to_confirm)


# Labels


@pytest.mark.parametrize(
    ("name", "values", "fraud", "genuine"),
    [
        ("EVENT_LABEL", ["legit", "fraud"], ("fraud",), ("legit",)),
        ("isFraud", ["0", "1"], ("1",), ("0",)),
        ("fraudulent", ["false", "true"], ("true",), ("false",)),
        ("Betrug", ["nein", "ja"], ("ja",), ("nein",)),
        ("class", ["good", "odd"], ("odd",), ("good",)),
        ("verdict", ["ok", "Fraudster"], ("Fraudster",), ("ok",)),
    ],
)
def test_a_label_is_known_by_its_name_or_its_values(
    name: str, values: list[str], fraud: tuple[str, ...], genuine: tuple[str, ...]
) -> None:
    labels = [values[int(number % 10 == 0)] for number in range(N)]
    contract = contract_for(rows(is_fraud=[]) | {name: labels})
    assert contract.label.column == name
    assert (contract.label.fraud_values, contract.label.genuine_values) == (fraud, genuine)


def test_a_fraud_flag_that_is_mostly_one_still_means_what_it_says() -> None:
    contract = contract_for(rows(is_fraud=["1"] * 150 + ["0"] * 50))
    assert contract.label.fraud_values == ("1",)


def test_where_the_values_say_nothing_the_rarer_one_is_taken_and_has_to_be_confirmed() -> None:
    found = draft(rows(is_fraud=[]) | {"target": ["a"] * 150 + ["b"] * 50})
    text = found.text
    assert parse_contract(text).label.fraud_values == ("b",)
    assert any("the rarer one is taken for it" in question for question in found.to_confirm)


def test_a_label_of_which_only_one_value_was_seen_has_both() -> None:
    contract = contract_for(rows(is_fraud=["0"] * N))
    assert (contract.label.fraud_values, contract.label.genuine_values) == (("1",), ("0",))


def test_without_a_label_a_feed_is_expected_and_the_draft_says_how_to_name_a_column_instead() -> None:
    found = draft(rows(is_fraud=[]))
    text = found.text
    contract = parse_contract(text)
    assert contract.label.feed is not None
    assert "the label is absent, because no column says which rows were fraud" in found.to_confirm
    assert "label: {column: its name, delay_days: 14}" in text


def test_without_label_and_identifier_the_draft_says_that_no_month_can_be_taken_in() -> None:
    # With the same times again and again, no column identifies.
    found = draft({"event_time": rows()["event_time"], "customer_id": rows()["customer_id"]})
    text = found.text
    parse_contract(text)
    questions = found.to_confirm
    assert "transaction_id is absent, because no column has a value of its own in every row" in questions
    assert "the label is absent, because no column says which rows were fraud" in questions
    assert "no month can be taken in" in text


def test_the_longest_delay_that_was_seen_is_allowed() -> None:
    known = ["2024-05-10 00:00:00", "2024-05-09 00:00:00"] * 100
    label = contract_for(rows(event_time=["2024-01-01 00:00:00"] * N, reported_at=known)).label
    assert label.known_at == "reported_at"
    assert label.max_delay_days == 130  # the days from 1 January to 10 May of a leap year


def test_what_tells_the_label_exactly_is_left_out() -> None:
    scenario = [str(number % 3 + 1) if number % 10 == 0 else "0" for number in range(N)]
    refund = [f"{number}.5" if number % 10 == 0 else "" for number in range(N)]
    found = draft(rows(scenario=scenario, refund=refund, channel=["web", "shop"] * 100))
    text = found.text
    assert set(parse_contract(text).attributes) == {"channel"}
    questions = found.to_confirm
    assert any("left out: refund says by its name that it is known only after the event" in one for one in questions)
    assert any("left out: scenario tells 'is_fraud'" in one for one in questions)


# Identifiers


@pytest.mark.parametrize(
    ("name", "entity"),
    [
        ("CUSTOMER_ID", "customer_id"),
        ("userId", "customer_id"),
        ("nameOrig", "customer_id"),
        ("cc_num", "card_id"),
        ("Terminal", "terminal_id"),
        ("merchant_id", "merchant_id"),
        ("IBAN", "account_id"),
        ("ip_address", "ip_address"),
        ("email", "email_address"),
        ("device_id", "device_id"),
        ("branch_id", "branch_id"),
    ],
)
def test_an_identifier_that_comes_again_is_an_entity(name: str, entity: str) -> None:
    columns = rows(customer_id=[]) | {name: [f"K{number % 60}" for number in range(N)]}
    assert list(contract_for(columns).entities) == [entity]


def test_an_identifier_that_never_comes_again_has_no_history_and_is_no_entity() -> None:
    contract = contract_for(rows(email=[f"{number}@example.org" for number in range(N)]))
    assert list(contract.entities) == ["customer_id"]


def test_a_kind_of_card_or_device_is_no_identifier() -> None:
    contract = contract_for(rows(card_type=["visa", "amex"] * 100, device=["phone", "desktop"] * 100))
    assert list(contract.entities) == ["customer_id"]
    assert contract.attributes["device"].type == "string"


def test_two_identifiers_of_one_kind_are_one_entity_and_one_attribute() -> None:
    contract = contract_for(rows(user_id=[f"U{number % 30}" for number in range(N)]))
    assert contract.entities["customer_id"].column == "customer_id"
    assert contract.attributes["user_id"].column == "user_id"


def test_an_identifier_of_digits_that_begin_with_zero_stays_text() -> None:
    contract = contract_for(rows(customer_id=[f"{number % 50:05d}" for number in range(N)]))
    assert contract.entities["customer_id"].type == "string"


def test_an_identifier_with_gaps_may_be_missing() -> None:
    contract = contract_for(rows(customer_id=["" if number % 7 == 0 else f"C{number % 50}" for number in range(N)]))
    assert contract.entities["customer_id"].nullable


def test_a_named_identifier_with_a_few_repetitions_is_taken_and_they_are_counted() -> None:
    found = draft(rows(tx_id=["T0", *(f"T{number}" for number in range(N - 1))]))
    text = found.text
    assert parse_contract(text).transaction_id is not None
    assert "transaction_id: 1 repeated values and 0 missing ones" in found.to_confirm


# Amount and attributes


def test_an_amount_in_cents_is_scaled() -> None:
    contract = contract_for(rows(amount=[]) | {"amount_cents": [str(number) for number in range(N)]})
    assert contract.amount is not None
    assert (contract.amount.type, contract.amount.scale) == ("number", 0.01)


def test_of_several_amounts_the_one_called_so_is_taken() -> None:
    contract = contract_for({"old_balance": ["1.5"] * N, "price": ["2.5"] * N} | rows())
    assert contract.amount is not None
    assert contract.amount.column == "amount"
    assert set(contract.attributes) == {"old_balance", "price"}


def test_numbers_are_features_with_their_range_as_a_remark_and_no_limit() -> None:
    text = drafted(rows(speed=[f"{number}.5" for number in range(N)]))
    speed = parse_contract(text).attributes["speed"]
    assert speed.feature is None
    assert (speed.minimum, speed.maximum) == (None, None)
    assert "# 0.5 to 199.5 seen" in text


def test_no_list_of_categories_is_written_that_would_quarantine_a_new_one() -> None:
    contract = contract_for(rows(channel=["web", "shop: 'no'"] * 100, note=[f"note {n % 90}" for n in range(N)]))
    assert [contract.attributes[name].categories for name in ("channel", "note")] == [None, None]
    assert contract.attributes["channel"].feature is None


def test_no_name_is_given_twice_or_is_the_platforms_own() -> None:
    columns = rows() | {"Month": ["1.5"] * N, "a b": ["2.5"] * N, "a-b": ["3.5"] * N, "9": ["4.5"] * N}
    attributes = contract_for(columns).attributes
    assert {name: column.column for name, column in attributes.items()} == {
        "month_2": "Month", "a_b": "a b", "a_b_2": "a-b", "column_9": "9",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["yes", "null", "1.5", "a: b", 'quote " and \\', "#hash", "größe", "\U0001f4b3", "x\ny"]
)
def test_a_columns_name_is_read_back_as_it_is(name: str) -> None:
    attributes = contract_for(rows() | {name: ["1.5", "2.5"] * 100}).attributes
    assert [column.column for column in attributes.values()] == [name]


def test_columns_that_cannot_be_used_are_left_out_with_the_reason() -> None:
    columns = rows() | {"": list(map(str, range(N))), "empty": [""] * N, "unix_time": ["1704067200"] * N}
    table = pa.table(columns).append_column("items", pa.array([[1]] * N)).append_column("empty", pa.array(["x"] * N))
    text = draft_contract(profile_rows(table.to_batches()), "cards.csv").text
    assert parse_contract(text).attributes == {}
    for reason in (
        '"" has no name',
        "empty is the name of 2 columns",
        "unix_time counts from 1970",
        "items is of a type",
    ):
        assert f"# left out: {reason}" in text


# How the file is written


def test_how_a_text_file_is_written_is_said_where_it_is_not_the_usual() -> None:
    columns = rows(amount=[f"{number},5" for number in range(N)])
    contract = contract_for(columns, csv=Csv(encoding="cp1252"))
    assert (contract.csv.decimal, contract.csv.encoding) == (",", "cp1252")
    assert "csv:" not in drafted(rows())


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("cards.csv", "cards"),
        ("Cards-2024_01 (new).csv.gz", "cards_new"),
        ("2024-01.parquet", "source"),
        ("a" * 50 + ".csv", "a" * 31),
    ],
)
def test_the_contract_is_called_like_the_file(file_name: str, name: str) -> None:
    assert contract_for(rows(), file_name).name == name


def test_a_name_that_is_given_is_kept() -> None:
    assert contract_for(rows(), name="mine").name == "mine"


# Features


@pytest.mark.parametrize(
    ("customers", "days", "window"),
    [(50, 360, 365), (10, 360, 90), (50, 60, 90)],
    ids=["one row in 90 days", "five rows in 90 days", "too few days to tell"],
)
def test_where_identifiers_come_back_seldom_features_look_back_a_year(customers: int, days: int, window: int) -> None:
    first = datetime(2024, 1, 1)
    times = [str(first + timedelta(days=number * days / (N - 1))) for number in range(N)]
    contract = contract_for(rows(event_time=times, customer_id=[f"C{number % customers}" for number in range(N)]))
    assert contract.window_days == window
