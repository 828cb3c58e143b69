"""Digests: the same values have one name, and different values have different ones."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.digests import SLICE_ROWS, TableDigest, digest_table, digest_text

UTC = dt.UTC
BASE = pa.table(
    {
        "number": pa.array([1, None, 3], pa.int64()),
        "real": pa.array([0.5, float("nan"), None], pa.float64()),
        "small": pa.array([0.5, None, 1.5], pa.float32()),
        "text": ["a", "", None],
        "flag": [True, None, False],
        "day": pa.array([dt.date(2018, 4, 1), None, dt.date(1969, 1, 1)]),
        "moment": pa.array([dt.datetime(2018, 4, 1, tzinfo=UTC), None, None], pa.timestamp("us", "UTC")),
    }
)


def test_a_digest_is_64_hexadecimal_digits_and_stays_the_same_between_releases():
    """A stored digest that is not reproduced makes every month look changed."""
    assert digest_table(BASE) == "3e6bf8736de0c2e7fc59317fa82c97c7b867155f7b1fddefc8cb46d8ee312839"


def test_chunks_slices_and_the_order_of_columns_are_no_part_of_the_value():
    padded = pa.concat_tables([BASE.slice(2), BASE, BASE])
    assert digest_table(padded.slice(1, 3)) == digest_table(BASE)
    assert digest_table(pa.concat_tables([BASE.slice(0, 1), BASE.slice(1)])) == digest_table(BASE)
    assert digest_table(BASE.select(BASE.column_names[::-1])) == digest_table(BASE)


LONG = pa.table({"n": pa.array(range(2 * SLICE_ROWS + 7), pa.int64()), "t": ["x"] * (2 * SLICE_ROWS + 7)})


@pytest.mark.parametrize("n_rows", [0, 1, SLICE_ROWS - 1, SLICE_ROWS, SLICE_ROWS + 1, 2 * SLICE_ROWS, LONG.num_rows])
@pytest.mark.parametrize("size", [1_000, SLICE_ROWS, 100_000])
def test_a_stream_has_the_digest_of_the_table_whatever_its_batches(n_rows, size):
    table = LONG.slice(0, n_rows)
    digest = TableDigest(table.schema)
    for batch in table.to_batches(max_chunksize=size):
        digest.update(batch)
    assert digest.hexdigest() == digest_table(table)


def test_a_stream_may_have_its_columns_in_another_order_and_columns_to_ignore():
    digest = TableDigest(LONG.schema, ignore=["t"])
    digest.update(LONG.select(["t", "n"]))
    assert digest.hexdigest() == digest_table(LONG.select(["n"]))


@pytest.mark.parametrize("position", [0, SLICE_ROWS - 1, SLICE_ROWS, 2 * SLICE_ROWS + 6])
def test_a_value_in_any_slice_is_part_of_the_digest(position):
    values = LONG["n"].to_pylist()
    values[position] = -1
    assert digest_table(LONG.set_column(0, "n", pa.array(values, pa.int64()))) != digest_table(LONG)


def test_what_lies_under_a_null_is_no_part_of_the_value():
    values = pa.array([7, 8], pa.int64())
    hidden = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), values.buffers()[1]])
    assert hidden.to_pylist() == [7, None]
    assert digest_table(pa.table({"a": hidden})) == digest_table(pa.table({"a": pa.array([7, None], pa.int64())}))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("number", pa.array([1, 0, 3], pa.int64())),
        ("number", pa.array([1, None, 4], pa.int64())),
        ("real", pa.array([0.5, None, None], pa.float64())),
        ("real", pa.array([0.5, 0.0, None], pa.float64())),
        ("small", pa.array([0.5, None, 1.5], pa.float64())),
        ("text", pa.array(["a", None, None])),
        ("text", pa.array(["", "a", None])),
        ("text", pa.array(["a", "", "a"])),
        ("flag", pa.array([True, False, False])),
        ("flag", pa.array([None, True, False])),
        ("day", pa.array([dt.date(2018, 4, 2), None, dt.date(1969, 1, 1)])),
        ("moment", pa.array([dt.datetime(2018, 4, 1, 0, 0, 0, 1, tzinfo=UTC), None, None], pa.timestamp("us", "UTC"))),
        ("number", pa.array([1, None, 3], pa.int32())),
    ],
)
def test_another_value_or_type_is_another_digest(column, values):
    other = BASE.set_column(BASE.column_names.index(column), column, values)
    assert digest_table(other) != digest_table(BASE)


def test_the_order_of_rows_the_names_and_the_number_of_rows_are_part_of_the_value():
    assert digest_table(BASE.take([1, 0, 2])) != digest_table(BASE)
    assert digest_table(BASE.rename_columns({"number": "numbers"})) != digest_table(BASE)
    assert digest_table(BASE.slice(0, 2)) != digest_table(BASE)
    assert digest_table(BASE.slice(0, 0)) != digest_table(BASE)


def test_ignored_columns_are_no_part_of_the_value():
    later = BASE.append_column("written_at", pa.array([1, 2, 3]))
    assert digest_table(later, ignore=["written_at"]) == digest_table(BASE)
    assert digest_table(later) != digest_table(BASE)


def test_a_column_that_cannot_be_digested_is_refused_and_not_skipped():
    with pytest.raises((KeyError, ValueError)):
        digest_table(pa.table({"a": [[1, 2]]}))


texts = st.lists(st.text(max_size=4), max_size=4)


@given(texts, texts)
def test_texts_have_the_same_digest_only_if_they_are_the_same(one, other):
    assert (digest_text(*one) == digest_text(*other)) is (one == other)


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6),
)
def test_columns_of_text_have_the_same_digest_only_if_they_are_the_same(one, other):
    def digest(values):
        return digest_table(pa.table({"a": pa.array(values, pa.string())}))

    assert (digest(one) == digest(other)) is (one == other)


def test_where_one_text_ends_and_the_next_begins_is_part_of_the_value():
    assert digest_text("ab", "c") != digest_text("a", "bc")
