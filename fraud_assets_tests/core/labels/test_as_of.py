"""Labels as of a moment: nothing from after it, and genuine only once matured."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.labels.as_of import count_premature, fraud_rate_of, labels_as_of

UTC = dt.UTC
TIME = pa.timestamp("us", "UTC")
MATURITY = 7


def day(number, hour=0, microsecond=0):
    return dt.datetime(2018, 4, 1, hour, 0, 0, microsecond, tzinfo=UTC) + dt.timedelta(days=number - 1)


def transactions(*rows):
    identifiers, times = [row[0] for row in rows], [row[1] for row in rows]
    return pa.table({"transaction_id": pa.array(identifiers, pa.int64()), "event_timestamp": pa.array(times, TIME)})


def statements(*rows):
    columns = list(zip(*rows, strict=True)) or [[], [], [], []]
    return pa.table(
        {
            "transaction_id": pa.array(columns[0], pa.int64()),
            "is_fraud": pa.array(columns[1], pa.bool_()),
            "label_timestamp": pa.array(columns[2], TIME),
            "label_source": pa.array(columns[3], pa.string()),
        }
    )


def labels(as_of, *stated, happened=None):
    """The labels of transaction 1, which happened on day 1, unless others are given."""
    return labels_as_of(
        transactions(*(happened or [(1, day(1))])), statements(*stated), as_of, maturity_days=MATURITY
    ).to_pylist()


def test_a_transaction_without_a_report_is_unknown_until_the_instant_it_matures():
    (before,) = labels(day(8) - dt.timedelta(microseconds=1))
    assert before == {
        "transaction_id": 1, "is_fraud": None, "label_timestamp": None, "label_source": None,
        "is_matured": False,
    }  # fmt: skip
    (at,) = labels(day(8))
    assert at == {
        "transaction_id": 1, "is_fraud": False, "label_timestamp": day(8), "label_source": "auto_matured",
        "is_matured": True,
    }  # fmt: skip


def test_a_report_counts_from_its_own_instant_on_and_before_maturity():
    report = (1, True, day(3), "chargeback")
    assert labels(day(3) - dt.timedelta(microseconds=1), report)[0]["is_fraud"] is None
    (known,) = labels(day(3), report)
    assert (known["is_fraud"], known["label_timestamp"], known["is_matured"]) == (True, day(3), False)


def test_a_late_report_turns_a_genuine_transaction_into_a_fraud_and_not_before_it_is_known():
    report = (1, True, day(40), "chargeback")
    assert labels(day(39), report)[0]["is_fraud"] is False
    assert labels(day(39), report)[0]["label_timestamp"] == day(8)
    assert labels(day(40), report)[0]["is_fraud"] is True


def test_a_repeated_report_takes_its_latest_time_and_source():
    (label,) = labels(day(9), (1, True, day(5), "analyst"), (1, True, day(3), "chargeback"))
    assert (label["is_fraud"], label["label_timestamp"], label["label_source"]) == (True, day(5), "analyst")


def test_a_contradicting_report_makes_a_transaction_genuine_even_before_maturity():
    stated = [(1, True, day(2), "chargeback"), (1, False, day(4), "analyst")]
    assert labels(day(3), *stated)[0]["is_fraud"] is True
    (label,) = labels(day(4), *stated)
    assert (label["is_fraud"], label["label_timestamp"], label["label_source"]) == (False, day(4), "analyst")


def test_after_a_withdrawal_nothing_has_been_said_until_the_next_statement():
    stated = [(1, True, day(2), "chargeback"), (1, None, day(4), "analyst"), (1, True, day(20), "analyst")]
    assert labels(day(3), *stated)[0]["is_fraud"] is True
    (unknown,) = labels(day(4), *stated)
    assert (unknown["is_fraud"], unknown["label_timestamp"], unknown["label_source"]) == (None, None, None)
    (matured,) = labels(day(8), *stated)
    assert (matured["is_fraud"], matured["label_timestamp"], matured["label_source"]) == (False, day(8), "auto_matured")
    assert labels(day(20), *stated)[0]["is_fraud"] is True


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("verdict", "expected"), [(True, True), (False, False)])
def test_of_a_verdict_and_a_withdrawal_at_one_instant_the_verdict_counts(verdict, expected, order):
    stated = [(1, verdict, day(2), "analyst"), (1, None, day(2), "chargeback")][::order]
    (label,) = labels(day(3), *stated)
    assert (label["is_fraud"], label["label_source"]) == (expected, "analyst")


def test_a_statement_from_before_its_transaction_is_left_out_and_one_of_its_instant_counts():
    happened = [(1, day(5)), (2, day(5))]
    premature = (1, True, day(5) - dt.timedelta(microseconds=1), "analyst")
    found = labels(day(6), premature, (2, True, day(5), "analyst"), happened=happened)
    assert [label["is_fraud"] for label in found] == [None, True]


def test_premature_statements_are_counted_where_their_transaction_is_known():
    known = pa.array([day(4), day(5), day(6), day(1)], TIME)
    happened = pa.array([day(5), day(5), day(5), None], TIME)
    assert count_premature(pa.table({"event_timestamp": happened, "label_timestamp": known})) == 1
    nothing = pa.array([], TIME)
    assert count_premature(pa.table({"event_timestamp": nothing, "label_timestamp": nothing})) == 0


def test_an_id_that_occurs_twice_is_labelled_twice_each_from_its_own_time_on():
    happened = [(1, day(1)), (1, day(10))]
    found = labels(day(12), (1, True, day(5), "analyst"), happened=happened)
    assert [label["is_fraud"] for label in found] == [True, None]


@pytest.mark.parametrize("order", [1, -1])
def test_of_contradicting_statements_at_one_instant_fraud_counts(order):
    stated = [(1, True, day(2), "chargeback"), (1, False, day(2), "analyst")][::order]
    (label,) = labels(day(9), *stated)
    assert (label["is_fraud"], label["label_source"]) == (True, "chargeback")


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_statements_at_one_instant_the_source_does_not_depend_on_their_order(order):
    stated = [(1, True, day(2), source) for source in ("analyst", "chargeback")][::order]
    assert labels(day(9), *stated)[0]["label_source"] == "chargeback"


def test_rows_keep_the_order_of_the_transactions():
    happened = [(9, day(5)), (2, day(1)), (7, day(5)), (1, day(3))]
    found = labels(day(30), (7, True, day(6), "analyst"), (2, True, day(2), "analyst"), happened=happened)
    assert [(label["transaction_id"], label["is_fraud"]) for label in found] == [
        (9, False), (2, True), (7, True), (1, False),
    ]  # fmt: skip


def test_a_statement_about_an_unknown_transaction_is_harmless():
    stated = (1, True, day(2), "analyst")
    assert labels(day(9), stated, (404, True, day(2), "analyst")) == labels(day(9), stated)


def test_no_transactions_have_no_labels():
    found = labels_as_of(transactions(), statements((1, True, day(2), "analyst")), day(9), maturity_days=MATURITY)
    assert found.num_rows == 0


def test_text_identifiers_are_labelled_like_numbers():
    rows = transactions((1, day(1)), (2, day(1)))
    stated = statements((2, True, day(2), "analyst"))
    text = [
        table.set_column(0, "transaction_id", table["transaction_id"].cast(pa.string())) for table in (rows, stated)
    ]
    assert labels_as_of(*text, day(9), maturity_days=MATURITY)["is_fraud"].to_pylist() == [False, True]


def test_a_moment_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="has no time zone"):
        labels(dt.datetime(2018, 4, 9))


def test_a_fraction_of_a_day_may_be_the_maturity():
    rows = transactions((1, day(1)))
    for hour, expected in ((11, None), (12, False)):
        found = labels_as_of(rows, statements(), day(1, hour), maturity_days=0.5)
        assert found["is_fraud"].to_pylist() == [expected]


def investigated(as_of, *stated, happened=None):
    """The same where a blank label means that nobody looked."""
    return labels_as_of(
        transactions(*(happened or [(1, day(1))])), statements(*stated), as_of, maturity_days=MATURITY, blank="unknown"
    ).to_pylist()


def test_where_blanks_are_unknown_a_transaction_without_a_statement_stays_unknown_for_good():
    (label,) = investigated(day(1000))
    assert label == {
        "transaction_id": 1, "is_fraud": None, "label_timestamp": None, "label_source": None,
        "is_matured": False,
    }  # fmt: skip


def test_where_blanks_are_unknown_a_withdrawn_statement_leaves_nothing():
    stated = [(1, False, day(2), "analyst"), (1, None, day(3), "analyst")]
    assert [label["is_fraud"] for label in investigated(day(100), *stated)] == [None]
    assert [label["is_fraud"] for label in investigated(day(2), *stated)] == [False]


def test_where_blanks_are_unknown_a_stated_label_matures_as_any_other():
    stated = (1, False, day(2), "analyst")
    assert [investigated(now, stated)[0]["is_matured"] for now in (day(2), day(7), day(8))] == [False, False, True]


@given(
    st.lists(st.integers(1, 40), max_size=8),
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from([True, False, None]), st.integers(1, 60)),
        max_size=20,
    ),
    st.integers(1, 80),
)
def test_where_blanks_are_unknown_nothing_is_known_that_was_not_stated_by_then(days, said, now):
    happened = [(number, day(when)) for number, when in enumerate(days)]
    if not happened:
        return
    stated = [(number, verdict, day(when), "analyst") for number, verdict, when in said]
    for (number, moment), label in zip(happened, investigated(day(now), *stated, happened=happened), strict=True):
        about = {verdict for which, verdict, when, _ in stated if which == number and moment <= when <= day(now)}
        assert label["is_fraud"] is None or label["is_fraud"] in about
        assert not label["is_matured"] or label["is_fraud"] is not None


@pytest.mark.parametrize(("blank", "rate"), [("genuine_when_mature", 0.1), ("unknown", 0.5)])
def test_the_fraud_rate_is_over_what_is_known(blank, rate):
    contract = parse_contract(
        "{name: a, first_month: 2018-04, event_timestamp: {column: t}, maturity_days: 7, "
        f"label: {{column: l, delay_days: 1, blank: {blank}}}}}"
    )
    said = [(1, True, day(2), "analyst")]
    said += [(2, False, day(2), "analyst")] if blank == "unknown" else []
    assert fraud_rate_of(statements(*said), 10, contract) == pytest.approx(rate)
    assert fraud_rate_of(statements(), 0, contract) is None
