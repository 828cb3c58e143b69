"""What the service reads without looking at the rules is what it would have read by them, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.fraud_scorer.transactions import RequestError, TransactionReader
from fraud_assets.core.contracts.contract import parse_contract

CONTRACT = parse_contract("""
name: cards
first_month: 2024-01
missing: ["-", "0", "n/a"]
transaction_id: {column: id}
event_timestamp: {column: at}
entities:
  customer_id: {column: customer, type: integer, minimum: 0}
  card: {column: card, nullable: true}
amount: {column: amount, type: number, minimum: -5, maximum: 1000}
attributes:
  channel: {column: channel, categories: [chip, "on line"], nullable: true}
  code: {column: code, pattern: "[A-Z]{2}", nullable: true}
  expires: {column: expires, type: date, nullable: true}
  abroad: {column: abroad, type: boolean, nullable: true}
  items: {column: items, type: integer, nullable: true}
label: {column: fraud, delay_days: 3}
maturity_days: 7
""")
READER = TransactionReader(CONTRACT)
GOOD = {
    "transaction_id": "t-1", "event_timestamp": "2024-05-01T10:00:00.5+02:00", "customer_id": 7, "card": "5f/2 a",
    "amount": 12.5, "channel": "on line", "expires": "2027-02-28", "abroad": True, "items": -3,
}  # fmt: skip
ODD: list[Any] = [
    None, "", " ", " a", "a ", "-", "0", "n/a", "n.a.", "1.0", "1e5", "+5", "\u00e9", "a\u0000", "a\nb", "x" * 101,
    0, -1, 7, 2**53 + 1, 2**63 - 1, 2**63, -0.0, 0.1, 1e308, 5.0, 1000, 1000.5, True, False, "chip", "Chip", "AB",
    "2024-02-30", "2024-2-3", "20240203", "2024-02-03T00:00", "1850-01-01", "2024-05-01T10:00:00",
    "2024-05-01T10:00:00Z", "2024-05-01", "1969-12-31T23:00:00Z", [], {},
]  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from([*GOOD, "code", "other"]), st.sampled_from(ODD), max_size=3)


def read(row: dict[str, Any]) -> Any:
    try:
        return READER.read([row])
    except RequestError:
        return None


@settings(max_examples=max(settings.default.max_examples, 400), deadline=None)
@given(CHANGES, st.sets(st.sampled_from(list(GOOD)), max_size=1))
def test_a_plain_row_is_read_as_by_the_rules(changes: dict[str, Any], left_out: set[str]) -> None:
    row = {name: value for name, value in (GOOD | changes).items() if name not in left_out}
    plain = READER.read_plain([row])
    if plain is not None:
        assert plain.equals(read(row))


def test_a_usual_row_is_plain_and_several_are_not() -> None:
    assert READER.read_plain([GOOD]) is not None
    assert READER.read_plain([GOOD, GOOD]) is None
    assert READER.read_plain([GOOD], "source") is None
    assert READER.read_plain([{name: value for name, value in GOOD.items() if name != "card"}]) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("code", "AB"), ("code", "A"), ("amount", 1001), ("customer_id", None), ("channel", "web"), ("abroad", 1),
        ("other", 1),
    ],
)  # fmt: skip
def test_what_takes_a_look_at_the_rules_is_not_plain(name: str, value: Any) -> None:
    assert READER.read_plain([GOOD | {name: value}]) is None
