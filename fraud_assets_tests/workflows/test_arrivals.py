"""Months on their way into the tables: what was decided about their rows, and ids that other months have."""

import datetime as dt

import pyarrow as pa
import pytest

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.contracts.contract import parse_contract
from fraud_assets.core.intake.accept import Delivery, Part
from fraud_assets.core.lineage.staleness import contract_inputs
from fraud_assets.workflows import arrivals
from fraud_assets.workflows.arrivals import arriving, months_with_ids_among, months_with_ids_of, remember_ids
from fraud_assets.workflows.quarantine import decisions_digest, record_decisions
from fraud_assets_tests.sentences import all_said

APRIL, MAY, JUNE = "2018-04", "2018-05", "2018-06"


def contract(kind="integer", *, named=True):
    return parse_contract(f"""
name: tests
first_month: 2018-01
{f"transaction_id: {{column: id, type: {kind}}}" if named else ""}
event_timestamp: {{column: at}}
amount: {{column: paid, type: number, minimum: 0}}
label: {{column: fraud, delay_days: 7}}
maturity_days: 7
quarantine_limit: 0.9
""")


class Months:
    """Deliveries from memory: ids by month."""

    def __init__(self, **ids):
        self.ids = {name.replace("m", "2018-"): values for name, values in ids.items()}

    def read(self, month):
        ids = self.ids[month]
        first = dt.datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        rows = pa.table(
            {
                "id": ids,
                "at": [first + dt.timedelta(hours=number) for number in range(len(ids))],
                "paid": [-1.0 if number == 666 else 1.0 for number in ids],
                "fraud": [0] * len(ids),
            }
        )
        return Delivery([Part(f"{month}.csv", lambda: iter(rows.to_batches()))], f"as of {month}")


@pytest.fixture(params=["integer", "string"])
def store(request, database):
    return MonthStore(database, contract(request.param))


def take(store, source, *months, remembered=True):
    """Stores the months, and says of each which ids were taken, what is wrong with the others, and its inputs."""
    found = {}
    with arriving(source, store, months) as taken:
        for month, arrival in taken.items():
            rows = arrival.intake.transactions().read_all()
            ids = sorted(map(int, rows["transaction_id"].to_pylist()))
            found[month] = (ids, all_said(arrival.intake.quarantined["reasons"]), arrival.inputs)
            now = pa.array([dt.datetime(2019, 1, 1, tzinfo=dt.UTC)] * rows.num_rows, pa.timestamp("us", "UTC"))
            store.replace_months("raw_transactions", rows.append_column("ingested_at", now), [month])
        if remembered:
            remember_ids(store, {month: arrival.intake for month, arrival in taken.items()})
    return found


def test_a_month_is_made_of_the_contract_the_source_and_the_decisions(store):
    _, _, inputs = take(store, Months(m04=[1, 2]), APRIL)[APRIL]
    assert inputs == {
        **contract_inputs(store.contract),
        "source": {APRIL: "as of 2018-04"},
        "quarantine_decisions": {APRIL: None},
        "earlier_ids": {APRIL: None},
    }


def test_a_decision_is_applied_and_is_part_of_what_the_month_is_made_of(store):
    source = Months(m04=[1, 666])
    with arriving(source, store, [APRIL]) as taken:
        digest = taken[APRIL].intake.quarantined["row_digest"][0].as_py()
    record_decisions(store.database, [(APRIL, digest)], "release", "a refund", actor="anna")
    ids, reasons, inputs = take(store, source, APRIL)[APRIL]
    assert (ids, reasons) == ([1, 666], [])
    assert inputs["quarantine_decisions"] == {APRIL: decisions_digest(store.database, APRIL)}
    assert inputs["quarantine_decisions"][APRIL] is not None


@pytest.mark.parametrize("together", [True, False])
def test_an_id_is_kept_in_the_earliest_month_that_has_it(store, together):
    source = Months(m04=[1, 5], m05=[4, 5, 6], m06=[5, 6, 7])
    months = (APRIL, MAY, JUNE)
    found = take(store, source, *months) if together else {month: take(store, source, month)[month] for month in months}
    assert [found[month][0] for month in months] == [[1, 5], [4, 6], [7]]
    assert found[MAY][1] == ["transaction_id is already in 2018-04"]
    assert found[JUNE][1] == ["transaction_id is already in 2018-04", "transaction_id is already in 2018-05"]
    stored = store.months("raw_transactions")
    assert found[MAY][2]["raw_transactions"] == {APRIL: stored[APRIL]}
    assert found[JUNE][2]["raw_transactions"] == {APRIL: stored[APRIL], MAY: stored[MAY]}


def test_a_month_whose_ids_lie_beyond_those_of_all_earlier_months_is_compared_with_none(store, monkeypatch):
    take(store, Months(m04=[1, 2]), APRIL)
    monkeypatch.setattr(arrivals.MonthStore, "read", pytest.fail)
    assert "raw_transactions" not in take(store, Months(m05=[3, 4]), MAY)[MAY][2]


def test_a_month_that_was_stored_before_its_ids_were_remembered_is_looked_at_once(store):
    take(store, Months(m04=[1, 2]), APRIL)
    with store.database.session() as connection:
        connection.execute("TRUNCATE transaction_id_ranges")
    assert take(store, Months(m05=[2, 3]), MAY)[MAY][0] == [3]
    known = store.database.query("SELECT month, lowest, highest FROM transaction_id_ranges ORDER BY month").to_pylist()
    assert known == [
        {"month": APRIL, "lowest": "1", "highest": "2"},
        {"month": MAY, "lowest": "3", "highest": "3"},
    ]


@pytest.mark.parametrize("remembered", [True, False], ids=["as always", "killed before its ids were remembered"])
def test_a_month_that_was_replaced_since_is_known_by_its_new_ids(store, remembered):
    take(store, Months(m04=[1, 2]), APRIL)
    take(store, Months(m04=[7, 8]), APRIL, remembered=remembered)
    assert take(store, Months(m05=[3, 8]), MAY)[MAY][0] == [3]


def test_a_month_that_is_taken_in_again_is_not_compared_with_itself_or_with_later_ones(store):
    source = Months(m04=[1, 2], m05=[3, 4])
    take(store, source, APRIL, MAY)
    assert [ids for ids, *_ in take(store, source, APRIL, MAY).values()] == [[1, 2], [3, 4]]
    assert take(store, Months(m04=[1, 3]), APRIL)[APRIL][0] == [1, 3]


def test_later_months_that_were_stored_with_an_id_of_this_one_are_named(store):
    take(store, Months(m05=[3, 4], m06=[5, 6]), MAY, JUNE)
    with arriving(Months(m04=[1, 6]), store, [APRIL]) as taken:
        assert months_with_ids_of(store, APRIL, taken[APRIL].intake) == [JUNE]
    with arriving(Months(m04=[1, 2]), store, [APRIL]) as taken:
        assert months_with_ids_of(store, APRIL, taken[APRIL].intake) == []


def test_an_earlier_month_that_comes_later_is_among_those_whose_ids_have_to_be_looked_at(store):
    ids = {"m04": [1, 5], "m05": [2, 3], "m06": [5, 6]}
    june = take(store, Months(**ids), JUNE)[JUNE][2]
    assert june["earlier_ids"] == {JUNE: None} == {JUNE: months_with_ids_among(store)(JUNE)}
    take(store, Months(**ids), APRIL, MAY)
    earlier = months_with_ids_among(store)
    assert [earlier(month) for month in (APRIL, MAY, JUNE)] == [None, APRIL, APRIL]
    assert take(store, Months(**ids), JUNE)[JUNE][2]["earlier_ids"] == {JUNE: APRIL}
    # With its row of April's in quarantine, its ids no longer reach down to April's.
    assert months_with_ids_among(store)(JUNE) is None


def test_of_two_months_that_have_an_id_the_earlier_is_named(store):
    take(store, Months(m05=[1, 2]), MAY)
    take(store, Months(m04=[1, 2]), APRIL)
    assert set(take(store, Months(m06=[1, 2, 3]), JUNE)[JUNE][1]) == {"transaction_id is already in 2018-04"}


def test_ids_made_of_file_and_row_are_compared_with_none(database):
    store = MonthStore(database, contract(named=False))
    source = Months(m04=[1, 2], m05=[1, 2])
    source.read = lambda month, read=source.read: Delivery([Part("all.csv", read(month).parts[0].open)])
    for month in (APRIL, MAY):
        with arriving(source, store, [month]) as taken:
            assert "raw_transactions" not in taken[month].inputs
            assert taken[month].intake.n_transactions == 2
            rows = taken[month].intake.transactions().read_all()
        now = pa.array([dt.datetime(2019, 1, 1, tzinfo=dt.UTC)] * 2, pa.timestamp("us", "UTC"))
        store.replace_months("raw_transactions", rows.append_column("ingested_at", now), [month])
