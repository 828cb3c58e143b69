"""What is needed is loaded once, and what was not declared, or was not known yet, is not there."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.lineage.needs import MonthRows, Needed, NotKnownError, fewest
from fraud_assets.core.months import months_between, shift_month

CONTRACT = parse_contract("""
name: cards
first_month: 2018-01
timezone: Europe/Paris
transaction_id: {column: id, type: integer}
event_timestamp: {column: at}
amount: {column: amount, type: number}
label: {column: fraud, delay_days: 7}
maturity_days: 7
""")
RAW = "raw_transactions"
MONTHS = months_between("2018-01", "2018-08")
COLUMNS = ("transaction_id", "event_timestamp", "amount")


def rows_of(first: str, last: str) -> pa.Table:
    """Two rows a month, its first instant and its last: those of the zone and not of UTC."""
    moments = []
    for month in months_between(first, last):
        moments += [CONTRACT.month_start(month), CONTRACT.month_end(month) - dt.timedelta(microseconds=1)]
    return pa.table(
        {
            "transaction_id": pa.array(range(len(moments)), pa.int64()),
            "event_timestamp": pa.array(moments, pa.timestamp("us", "UTC")),
            "amount": pa.array([float(n) for n in range(len(moments))]),
        }
    )


NEEDS = st.lists(
    st.builds(
        lambda columns, first, length: Needed(RAW, tuple(columns), first, shift_month(first, length)),
        st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True),
        st.sampled_from(["2017-11", *MONTHS[:-2]]),
        st.integers(-2, 2),
    ),
    max_size=6,
)


@given(needs=NEEDS)
def test_every_month_is_loaded_once_with_just_the_columns_that_are_needed_of_it(needs: list[Needed]) -> None:
    loaded = fewest(needs, CONTRACT)
    wanted: dict[str, set[str]] = {}
    for need in needs:
        for month in months_between(max(need.first, "2018-01"), need.last):
            wanted.setdefault(month, {"event_timestamp"}).update(need.columns)
    got = [(month, set(need.columns)) for need in loaded for month in months_between(need.first, need.last)]
    assert sorted(got) == sorted(wanted.items())
    # As few ranges as there can be: two that follow each other differ in their columns.
    for before, after in pairwise(loaded):
        assert shift_month(before.last, 1) != after.first or set(before.columns) != set(after.columns)


@given(needs=NEEDS, backwards=st.booleans())
def test_what_was_declared_is_there_as_if_it_had_been_read_alone(needs: list[Needed], backwards: bool) -> None:
    given_rows = {need: rows_of(need.first, need.last).select(list(need.columns)) for need in fewest(needs, CONTRACT)}
    if backwards:
        # The store's rows are in order; others are found as well.
        given_rows = {need: rows.take(list(range(len(rows)))[::-1]) for need, rows in given_rows.items()}
    rows = MonthRows(given_rows, CONTRACT)
    for need in needs:
        months = months_between(max(need.first, "2018-01"), need.last)
        found = rows.of(need)
        assert found.column_names == list(need.columns)
        assert found.num_rows == 2 * len(months)
        if months and "event_timestamp" in need.columns:
            alone = rows_of(months[0], months[-1])["event_timestamp"]
            assert sorted(found["event_timestamp"].to_pylist()) == alone.to_pylist()


def test_rows_in_order_are_given_without_a_copy() -> None:
    whole = rows_of("2018-01", "2018-08").combine_chunks()
    rows = MonthRows({Needed(RAW, COLUMNS, "2018-01", "2018-08"): whole}, CONTRACT)
    part = rows.of(Needed(RAW, ("amount",), "2018-03", "2018-04"))
    assert part["amount"].to_pylist() == [4.0, 5.0, 6.0, 7.0]
    assert part["amount"].chunk(0).buffers()[1].address == whole["amount"].chunk(0).buffers()[1].address


def test_months_from_before_the_contract_s_first_are_not_asked_for_and_have_no_rows() -> None:
    assert fewest([Needed(RAW, COLUMNS, "2017-11", "2017-12")], CONTRACT) == ()
    (need,) = fewest([Needed(RAW, COLUMNS, "2017-11", "2018-01")], CONTRACT)
    assert (need.first, need.last) == ("2018-01", "2018-01")
    none = MonthRows({}, CONTRACT).of(Needed(RAW, ("amount",), "2017-11", "2017-12"))
    assert (none.column_names, none.num_rows) == (["amount"], 0)


@pytest.mark.parametrize(
    "asked",
    [
        Needed(RAW, ("amount",), "2018-03", "2018-05"),  # a month more
        Needed(RAW, ("amount", "customer_id"), "2018-03", "2018-04"),  # a column more
        Needed("fraud_labels", ("is_fraud",), "2018-03", "2018-04"),
    ],
)
def test_what_nobody_declared_is_refused_by_name(asked: Needed) -> None:
    rows = MonthRows({Needed(RAW, COLUMNS, "2018-03", "2018-04"): rows_of("2018-03", "2018-04")}, CONTRACT)
    with pytest.raises(LookupError, match=f"{asked.table} of 2018-0[35] with the columns .*among the declared needs"):
        rows.of(asked)


def test_what_was_not_known_at_a_month_s_end_is_refused() -> None:
    rows = MonthRows({Needed(RAW, COLUMNS, "2018-01", "2018-08"): rows_of("2018-01", "2018-08")}, CONTRACT)
    assert rows.until("2018-04").of(Needed(RAW, COLUMNS, "2018-04", "2018-04")).num_rows == 2
    with pytest.raises(NotKnownError, match="raw_transactions of 2018-05 was asked for as of the end of 2018-04"):
        rows.until("2018-04").of(Needed(RAW, COLUMNS, "2018-04", "2018-05"))


def test_which_versions_of_which_months_were_read_follows_from_what_was_loaded() -> None:
    def read(need: Needed, text: bytes) -> MonthRows:
        rows = rows_of(need.first, need.last).replace_schema_metadata({b"fraud.inputs": text})
        return MonthRows({need: rows}, CONTRACT)

    one = read(Needed(RAW, COLUMNS, "2018-01", "2018-01"), b'{"raw_transactions": {"2018-01": "aa"}}')
    other = read(Needed(RAW, COLUMNS, "2018-02", "2018-02"), b'{"raw_transactions": {"2018-02": null}}')
    assert (one | other).inputs == {RAW: {"2018-01": "aa", "2018-02": None}}
    assert pc.sum((one | other).of(Needed(RAW, ("amount",), "2018-01", "2018-02"))["amount"]).as_py() == 2.0
