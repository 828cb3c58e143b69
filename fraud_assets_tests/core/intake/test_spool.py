"""A spool gives back what was put into it, from memory or from disk, and holds no more in memory than it may."""

import pyarrow as pa
import pytest

from fraud_assets.core.intake.spool import Spool

SCHEMA = pa.schema(
    [
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("note", pa.string()),
    ]
)


def batch(*rows):
    at, ids, notes = zip(*rows, strict=True)
    return pa.record_batch([pa.array(at, pa.timestamp("us", "UTC")), list(ids), list(notes)], schema=SCHEMA)


BATCHES = [batch((3, "b", None), (1, "z", "x")), batch((3, "a", "\u00e9"), (2, "b", ""))]


@pytest.fixture(params=[0, BATCHES[0].nbytes, 10**9], ids=["on disk", "first batch fits", "in memory"])
def spool(request):
    with Spool(SCHEMA, request.param) as filled:
        for rows in BATCHES:
            filled.write(rows)
        yield filled


def test_batches_come_back_as_they_went_in_as_often_as_asked(spool):
    assert spool.n_rows == 4
    for _ in range(2):
        assert spool.reader().read_all() == pa.Table.from_batches(BATCHES)


def test_two_readers_do_not_disturb_each_other(spool):
    one, other = spool.batches(), spool.batches()
    assert [next(one), next(other), next(one), next(other)] == [BATCHES[0], BATCHES[0], BATCHES[1], BATCHES[1]]


def test_rows_are_sorted_by_the_bytes_of_their_text(spool):
    rows = spool.in_order(("at", "id")).read_all()
    assert rows.schema == SCHEMA
    assert rows["id"].to_pylist() == ["z", "b", "a", "b"]
    assert rows["note"].to_pylist() == ["x", "", "\u00e9", None]
    assert spool.in_order(("id", "at")).read_all()["id"].to_pylist() == ["a", "b", "b", "z"]


def test_what_is_there_twice_is_found_once(spool):
    assert spool.repeated("id").to_pylist() == ["b"]
    assert spool.repeated("note").to_pylist() == []


def test_what_two_spools_have_in_common_is_found_once(spool):
    with Spool(SCHEMA, 0) as other:
        other.write(batch((9, "b", None), (9, "c", None), (9, "b", None)))
        assert spool.common(other, "id").to_pylist() == ["b"]
        assert other.common(spool, "id").to_pylist() == ["b"]


def test_beyond_its_memory_a_spool_holds_nothing_but_a_file():
    with Spool(SCHEMA, BATCHES[0].nbytes) as spool:
        spool.write(BATCHES[0])
        assert spool._file is None
        spool.write(BATCHES[1])
        assert spool._held == []
        spool.reader().read_all()
        file = spool._file
    assert file.closed


def test_an_empty_spool_has_no_rows():
    with Spool(SCHEMA) as spool:
        assert spool.reader().read_all().num_rows == 0
        assert spool.in_order(("at", "id")).read_all().schema == SCHEMA
        assert len(spool.repeated("id")) == 0
