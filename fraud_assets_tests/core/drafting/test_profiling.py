"""What is counted of a file's columns, and which type they are taken for."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.drafting import profiling
from fraud_assets.core.drafting.profiling import ColumnProfile, detect_encoding, name_words, profile_rows


def column(values: list[Any], name: str = "x", kind: pa.DataType | None = None) -> ColumnProfile:
    """The profile of one column; text, unless `kind` says otherwise."""
    table = pa.table({name: pa.array(values, kind or pa.string())})
    return profile_rows(table.to_batches()).columns[0]


# Types


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "+3"], "integer"),
        (["1", "2.5", ".5", "1e-3"], "number"),
        (["007", "012"], "string"),
        (["True", "false", "TRUE"], "boolean"),
        (["2024-01-01 10:00:00", "2024-01-31T23:59:59Z"], "time"),
        (["2024-01-01", "2024-01-02"], "time"),
        (["46.41.252.160", "10.0.0.1"], "string"),
        (["2024", "2023"], "integer"),
        (["12345678901234567890123", "1"], "string"),
        (["a", "b"], "string"),
        (["", " ", None], "string"),
        (["now", "today"], "string"),
    ],
)
def test_text_is_taken_for_what_all_its_values_can_be_read_as(values: list[str | None], kind: str) -> None:
    assert column(values).kind == kind


@pytest.mark.parametrize(
    ("values", "given", "kind"),
    [
        ([1, 2], pa.int32(), "integer"),
        ([2**64 - 1], pa.uint64(), "string"),
        ([1.5], pa.float32(), "number"),
        ([Decimal("1.50")], pa.decimal128(10, 2), "number"),
        ([True], pa.bool_(), "boolean"),
        ([datetime(2024, 1, 1)], pa.timestamp("ns"), "time"),
        ([date(2024, 1, 1)], pa.date32(), "time"),
        (["a"], pa.dictionary(pa.int8(), pa.string()), "string"),
        (["a"], pa.large_string(), "string"),
        ([[1]], pa.list_(pa.int64()), "nested"),
        ([None], pa.null(), "string"),
    ],
)
def test_a_stored_type_is_taken_as_it_is(values: list[Any], given: pa.DataType, kind: str) -> None:
    assert column(values, kind=given).kind == kind


def test_one_wrong_value_in_a_hundred_does_not_make_text_of_numbers() -> None:
    profile = column(["1.5"] * 99 + ["x"])
    assert (profile.kind, profile.n_misfits) == ("number", 1)


def test_two_wrong_values_in_a_hundred_do() -> None:
    assert column(["1.5"] * 98 + ["x"] * 2).kind == "string"


def test_what_the_first_rows_promise_and_later_ones_do_not_keep_is_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profiling, "SAMPLE_ROWS", 10)
    batches = pa.table({"x": ["1"] * 10 + ["2.5"] * 10, "y": ["1"] * 10 + ["a"] * 10}).to_batches(max_chunksize=5)
    assert [found.kind for found in profile_rows(batches).columns] == ["number", "string"]


# Decimals


def test_numbers_with_a_comma_are_numbers_where_more_columns_write_them_so() -> None:
    table = pa.table({"a": ["1,5", "20,25"], "b": ["-0,5", "3"], "c": ["1.5", "2.5"]})
    profile = profile_rows(table.to_batches())
    assert profile.style.decimal == ","
    assert [found.kind for found in profile.columns] == ["number", "number", "string"]
    assert (profile.columns[0].minimum, profile.columns[0].maximum) == (1.5, 20.25)


def test_whole_numbers_alone_say_nothing_about_the_decimal_mark() -> None:
    assert profile_rows(pa.table({"a": ["1", "2"]}).to_batches()).style.decimal == "."


# Times


@pytest.mark.parametrize(
    ("values", "form", "first"),
    [
        (["2024-01-05 10:00:00"], None, datetime(2024, 1, 5, 10, tzinfo=UTC)),
        (["31/01/2024 10:00", "05/01/2024 11:30"], "%d/%m/%Y %H:%M", datetime(2024, 1, 5, 11, 30, tzinfo=UTC)),
        (["01/31/2024 01:00:00 PM"], "%m/%d/%Y %I:%M:%S %p", datetime(2024, 1, 31, 13, tzinfo=UTC)),
        (["31.01.2024"], "%d.%m.%Y", datetime(2024, 1, 31, tzinfo=UTC)),
        (["05 Jan 2024 10:00:00"], "%d %b %Y %H:%M:%S", datetime(2024, 1, 5, 10, tzinfo=UTC)),
        (["2024-01-05 10:00:00 UTC"], "%Y-%m-%d %H:%M:%S UTC", datetime(2024, 1, 5, 10, tzinfo=UTC)),
    ],
)
def test_the_format_of_times_is_found(values: list[str], form: str | None, first: datetime) -> None:
    profile = column(values)
    assert (profile.kind, profile.time_format, profile.first) == ("time", form, first)


def test_digits_are_a_time_only_where_the_name_says_so() -> None:
    assert column(["20240105101500"], "event_time").time_format == "%Y%m%d%H%M%S"
    assert column(["20240105101500"], "reference").kind == "integer"


def test_of_day_first_and_month_first_the_one_that_keeps_the_rows_together_is_taken() -> None:
    # As days of January, or as the first of twelve months.
    values = [f"{day:02d}/01/2024" for day in range(1, 13)]
    profile = column(values)
    assert (profile.time_format, profile.other_format) == ("%d/%m/%Y", "%m/%d/%Y")


def test_mixed_formats_are_a_time_where_the_name_says_so_and_the_others_are_counted() -> None:
    values = ["2024-01-05 10:00:00"] * 6 + ["05/01/2024"] * 4
    mixed = column(values, "created_at")
    assert (mixed.kind, mixed.n_misfits) == ("time", 4)
    assert column(values, "remark").kind == "string"


def test_times_have_an_offset_only_where_each_of_them_has() -> None:
    assert column(["2024-01-05T10:00:00Z", "2024-01-05T10:00:00+01:00"]).has_offset
    assert not column(["2024-01-05T10:00:00Z", "2024-01-05T10:00:00"]).has_offset
    assert column([datetime(2024, 1, 1)], kind=pa.timestamp("us", tz="UTC")).has_offset
    assert not column([datetime(2024, 1, 1)], kind=pa.timestamp("us")).has_offset


def test_the_range_of_times_and_numbers_is_that_of_all_rows_not_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "SAMPLE_ROWS", 2)
    table = pa.table({"t": ["2024-01-01", "2024-01-02", "2025-06-30"], "x": ["1", "2", "-7"]})
    times, numbers = profile_rows(table.to_batches(max_chunksize=1)).columns
    assert (times.last, numbers.minimum) == (datetime(2025, 6, 30, tzinfo=UTC), -7)


# Counts


def test_missing_values_are_null_blank_and_nan() -> None:
    assert column(["a", None, "", "  "]).n_missing == 3
    assert column([1.0, float("nan"), None], kind=pa.float64()).n_missing == 2


def test_infinity_is_a_misfit_and_no_part_of_the_range() -> None:
    profile = column([1.0] * 199 + [np.inf], kind=pa.float64())
    assert (profile.kind, profile.n_misfits, profile.maximum) == ("number", 1, 1.0)


def test_a_value_that_comes_again_far_beyond_the_sample_makes_a_column_not_unique(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(profiling, "SAMPLE_ROWS", 3)
    values = [f"t{number}" for number in range(20)]
    assert profile_rows(pa.table({"id": values}).to_batches(max_chunksize=3)).columns[0].is_unique
    again = profile_rows(pa.table({"id": [*values, "t0"]}).to_batches(max_chunksize=3)).columns[0]
    assert not again.is_unique
    assert (again.n_distinct, again.n_counted) == (20, 21)


def test_a_column_with_a_gap_is_not_unique() -> None:
    assert not column(["a", None, "b"]).is_unique


def test_few_values_are_listed_with_their_numbers_and_many_are_not() -> None:
    assert column(["a", "b", "a"]).values == {"a": 2, "b": 1}
    assert column([f"v{number}" for number in range(20)]).values is not None
    assert column([f"v{number}" for number in range(21)]).values is None


def test_rare_values_beyond_the_sample_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "SAMPLE_ROWS", 4)
    batches = pa.table({"label": ["0"] * 9 + ["1"]}).to_batches(max_chunksize=2)
    assert profile_rows(batches).columns[0].values == {"0": 9, "1": 1}


def test_a_file_without_rows_is_refused() -> None:
    with pytest.raises(ContractError, match="no rows"):
        profile_rows(pa.table({"a": pa.array([], pa.string())}).to_batches())


# Names and encodings


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CUSTOMER_ID", ["customer", "id"]),
        ("customerId", ["customer", "id"]),
        ("Kunden-Nr.", ["kunden", "nr"]),
        ("isFraud", ["is", "fraud"]),
        ("", []),
    ],
)
def test_a_name_has_the_same_words_however_it_is_written(name: str, words: list[str]) -> None:
    assert name_words(name) == words


@pytest.mark.parametrize(
    ("blocks", "encoding"),
    [
        (["é".encode()], "utf-8"),
        (["\ufeffé".encode()], "utf-8"),
        (["é".encode()[:1], "é".encode()[1:]], "utf-8"),
        ([b"a" * 100, "né".encode("cp1252")], "cp1252"),
        (["a".encode("utf-16")], "utf-16"),
        ([], "utf-8"),
    ],
    ids=["UTF-8", "byte order mark", "a character in two blocks", "cp1252 at the end", "UTF-16", "empty"],
)
def test_the_encoding_is_that_of_the_whole_file(blocks: list[bytes], encoding: str) -> None:
    assert detect_encoding(blocks) == encoding
