"""Numbers that are times by what they count, and numbers that stand inside of text."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import Contract, ContractError, parse_contract
from fraud_assets.core.intake.accept import convert


def contract(time: str, amount: str = "{column: amount, type: number}") -> Contract:
    return parse_contract(
        f"name: units\nfirst_month: 2024-01\nevent_timestamp: {time}\namount: {amount}\n"
        "label: {column: fraud, delay_days: 1}\nmaturity_days: 30\n"
    )


def moments(time: str, numbers: list[str]) -> list[datetime]:
    rows = pa.table({"at": numbers, "amount": ["1.5"] * len(numbers)})
    found = convert(rows, contract(time), "file")
    assert found.problems == []
    return list(found.transactions["event_timestamp"].to_pylist())


@pytest.mark.parametrize(
    ("time", "numbers", "expected"),
    [
        ("{column: at, unit: s}", ["60"], datetime(1970, 1, 1, 0, 1, tzinfo=UTC)),
        ("{column: at, unit: s, origin: 2024-01-01}", ["86400.0"], datetime(2024, 1, 2, tzinfo=UTC)),
        ("{column: at, unit: ms, origin: 2024-01-01}", ["1500"], datetime(2024, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        ("{column: at, unit: hours, origin: 2024-01-01}", ["25"], datetime(2024, 1, 2, 1, tzinfo=UTC)),
        ("{column: at, unit: months, origin: 2024-01-01}", ["0"], datetime(2024, 1, 1, tzinfo=UTC)),
        ("{column: at, unit: months, origin: 2024-01-01}", ["13"], datetime(2025, 2, 1, tzinfo=UTC)),
        ("{column: at, unit: months, origin: 2024-03-01}", ["-3"], datetime(2023, 12, 1, tzinfo=UTC)),
    ],
)
def test_numbers_count_from_their_origin(time: str, numbers: list[str], expected: datetime) -> None:
    assert moments(time, numbers) == [expected]


def test_half_a_month_is_no_month() -> None:
    rows = pa.table({"at": ["1.5"], "amount": ["1.5"]})
    (problem,) = convert(rows, contract("{column: at, unit: months, origin: 2024-01-01}"), "file").problems
    assert "event_timestamp is no number of a month" in problem.sentence


def test_serial_numbers_of_workbooks_have_their_own_origin() -> None:
    with pytest.raises(ContractError, match="origin is what a unit such as hours or days counts from"):
        contract("{column: at, unit: excel, origin: 2024-01-01}")


def test_a_number_is_taken_from_between_the_signs_of_a_currency() -> None:
    amount = r"{column: amount, type: number, extract: '^[^\d-]*([+-]?\d[\d.,]*)'}"
    values = ["$134.09", "$-99.00", "12", "7.5 EUR", "-$5.00", "none"]
    rows = pa.table({"at": ["2024-01-01"] * len(values), "amount": values})
    found = convert(rows, contract("{column: at}", amount), "file")
    assert found.transactions["amount"].to_pylist() == [134.09, -99.0, 12.0, 7.5]
    # A minus before the sign would be lost, and so the row is held back.
    assert [problem.place for problem in found.problems] == ["row 5 of file", "row 6 of file"]
    assert "has nothing that extract" in found.problems[0].sentence
