"""The chain: what is changed, deleted, inserted, moved, cut off or rewritten is named by the first row it is about."""

import datetime as dt
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.adapters.postgres.schema import LEDGER
from fraud_assets.core.decisions.chain import (
    COVERED,
    GENESIS,
    Head,
    LedgerError,
    canonical,
    chained,
    find_fault,
    hash_row,
)

AT = dt.datetime(2026, 11, 30, 8, 0, 0, 5, tzinfo=dt.UTC)


def bare(number, **more):
    """A row without its hashes."""
    return {
        "number": number, "recorded_at": AT + dt.timedelta(minutes=number), "kind": "promoted",
        "model_version": number, "month": "2025-03", "reasons": [{"rule": "better", "text": "ü", "column": None}],
        "actor": "ada", "fact": f"f{number}", "evidence": {"evaluation": {"2025-03": "e"}}, "code_version": "1.0",
        "libraries": {"numpy": "2.0"}, "metrics": {"ap": {"value": 0.5, "low": None, "high": 1}}, "digests": {},
    } | more  # fmt: skip


def ledger(count=6):
    return chained([bare(number) for number in range(1, count + 1)])


def heads(*rows):
    return [Head(row["number"], row["hash"], "the file") for row in rows]


def test_a_ledger_as_it_was_written_has_no_fault():
    rows = ledger()
    assert find_fault(rows) is None
    assert find_fault([]) is None
    assert find_fault(rows, heads(*rows)) is None
    assert [row["previous_hash"] for row in rows] == [GENESIS, *(row["hash"] for row in rows[:-1])]


def test_numbers_that_were_never_given_are_no_fault():
    assert find_fault(chained([bare(2), bare(3), bare(7)])) is None


def test_a_hash_is_sha256_of_the_columns_as_sorted_json():
    row = {"number": 1, "recorded_at": AT.astimezone(dt.timezone(dt.timedelta(hours=2))), "previous_hash": GENESIS}
    said = json.dumps({
        "form": 1, "number": 1, "previous_hash": GENESIS, "recorded_at": "2026-11-30T08:00:00.000005+00:00",
    })  # fmt: skip
    assert canonical(row) == said
    assert hash_row(row) == hashlib.sha256(said.encode()).hexdigest()


def test_every_column_but_the_hash_is_covered():
    assert {column.name for column in LEDGER.columns} == {*COVERED, "hash"}


@pytest.mark.parametrize("column", [name for name in COVERED if name not in ("number", "previous_hash")])
@pytest.mark.parametrize("place", [0, 3])
def test_a_changed_column_is_named(column, place):
    rows = ledger()
    other = {"recorded_at": AT, "model_version": 99, "reasons": [], "metrics": {"ap": {"value": 0.6}}}
    rows[place][column] = other.get(column, {} if isinstance(rows[place][column], dict) else "other")
    if column == "digests":
        rows[place][column] = {"model.onnx": "x"}
    fault = find_fault(rows)
    assert (fault.number, fault.what) == (place + 1, "changed")
    assert f"row {place + 1} was changed" in fault.sentence


def test_the_last_row_was_changed_if_its_hash_is_known_outside_and_inserted_if_it_is_not():
    rows = ledger()
    true = dict(rows[-1])
    rows[-1]["model_version"] = 99
    assert "was changed after it was written, or inserted" in find_fault(rows).sentence
    assert find_fault(rows, heads(true)).what == "changed"
    assert find_fault([*ledger(), bare(7, previous_hash="x", hash="y")], heads(true)).what == "inserted"


@pytest.mark.parametrize("place", [0, 1, 4])
def test_a_deleted_row_is_named(place):
    rows = ledger()
    del rows[place]
    fault = find_fault(rows)
    assert (fault.number, fault.what) == (place + 1, "deleted")
    assert fault.sentence == f"row {place + 1} was deleted"


def test_several_deleted_rows_are_named_by_the_first():
    rows = ledger()
    del rows[1:4]
    assert find_fault(rows).sentence == "one or more of the rows 2 to 4 were deleted"


def test_a_row_that_was_inserted_without_the_right_hash_is_named():
    rows = ledger()
    rows.insert(3, bare(4, previous_hash=rows[2]["hash"], hash="f" * 64))
    for row in rows[4:]:
        row["number"] += 100  # out of the way: they are moved, and come later
    fault = find_fault(rows)
    assert (fault.number, fault.what) == (4, "inserted")


def test_a_row_that_was_inserted_with_the_right_hash_is_named_where_numbers_have_a_gap():
    rows = chained([bare(number) for number in (1, 2, 5, 6)])
    (between,) = chained([bare(3)], rows[1]["hash"])
    rows.insert(2, between)
    assert find_fault(rows).sentence == "row 3 was inserted by something else than the platform"


def test_rows_whose_numbers_were_exchanged_are_named():
    rows = ledger()
    rows[2]["number"], rows[3]["number"] = rows[3]["number"], rows[2]["number"]
    fault = find_fault(sorted(rows, key=lambda row: row["number"]))
    assert (fault.number, fault.what) == (3, "moved")
    assert fault.sentence == "row 3 was moved: it was written as row 4"


def test_a_cut_tail_shows_by_a_head_alone():
    rows = ledger()
    assert find_fault(rows[:4]) is None
    fault = find_fault(rows[:4], heads(rows[1], rows[5]))
    assert (fault.number, fault.what) == (5, "cut")
    assert "the last one is 4, and the file knows row 6" in fault.sentence
    assert find_fault([], heads(rows[0])).number == 1


def test_a_ledger_that_was_written_anew_with_right_hashes_shows_by_a_head_alone():
    rows = ledger()
    forged = chained([bare(number, actor="mallory") for number in range(1, 7)])
    assert find_fault(forged) is None
    fault = find_fault(forged, heads(rows[3]))
    assert (fault.number, fault.what) == (4, "rewritten")


def test_a_head_that_lags_behind_is_no_fault():
    rows = ledger()
    assert find_fault(rows, heads(rows[0], rows[2])) is None


def test_a_head_is_read_back_from_its_text_and_anything_else_is_refused():
    head = Head(7, "ab", "a tag")
    assert Head.parse(head.text, "a tag") == head
    for wrong in ("", "7", "x:ab", "7:", "-1:ab"):
        with pytest.raises(LedgerError, match="remove that, and it is written again"):
            Head.parse(wrong, "a tag")


@given(
    st.integers(1, 8),
    st.data(),
)
def test_any_change_of_any_row_before_the_last_is_noticed(count, data):
    rows = ledger(count + 1)
    place = data.draw(st.integers(0, count - 1))
    column = data.draw(st.sampled_from(["actor", "kind", "month", "fact", "previous_hash", "hash"]))
    text = data.draw(st.text(max_size=5))
    if text == rows[place][column]:
        return
    known = {}
    assert find_fault(rows, known=known) is None
    assert len(known) == len(rows)
    rows[place][column] = text
    assert find_fault(rows) is not None
    assert find_fault(rows, known=known) == find_fault(rows), "of rows that were whole a moment ago"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_same_whether_the_server_gives_it_back_as_whole_or_not(value):
    stored = {"metrics": {"ap": {"value": value}}}
    back = int(value) if value == int(value) else value
    assert canonical(stored) == canonical({"metrics": {"ap": {"value": back}}})
