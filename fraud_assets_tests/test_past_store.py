"""What the service remembers gives the features that the batch gives, whatever came in between, in any order."""

from __future__ import annotations

import datetime as dt
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bentos.fraud_scorer.store import SLACK, PastStore
from fraud_assets.adapters.online.history import features_from
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets_tests.core.features.test_kernel import CONTRACTS, START, contract, statements, tables, transactions
from fraud_assets_tests.core.features.test_pasts import assert_same

MICROSECOND = dt.timedelta(microseconds=1)


class Tables:
    """A database in memory, read as `History.since` reads it."""

    def __init__(self, of: Contract, stored: pa.Table, said: pa.Table) -> None:
        self.contract, self.stored, self.said = of, stored, said
        self.lately: Callable[[list[tuple[str, Any]]], pa.Table] = lambda wanted: stored.slice(0, 0)
        self.between: Callable[[], None] = lambda: None
        self.reads = 0

    def since(self, wanted: Mapping[str, Mapping[Any, int]], until: float = math.inf) -> tuple[pa.Table, pa.Table]:
        self.reads += 1
        rows, said = [self.stored.slice(0, 0)], [self.said.slice(0, 0)]
        for entity, values in wanted.items():
            for value, since in values.items():
                begin = pa.scalar(since, pa.int64()).cast(pa.timestamp("us", "UTC"))
                mine = pc.field(entity) == pa.scalar(value, self.stored.schema.field(entity).type)
                rows.append(self.stored.filter(mine & (pc.field("event_timestamp") >= begin)))
                about = self.said.filter(mine & (pc.field("label_timestamp") >= begin))["transaction_id"]
                said.append(self.said.filter(pc.is_in(self.said["transaction_id"], about.combine_chunks())))
                rows.append(self.lately([(entity, value)]))
        known = pa.concat_tables(said)
        spender = next(iter(self.contract.entities))
        who = known.filter(pc.field("is_fraud"))[spender].unique().drop_null()
        rows.append(self.stored.filter(pc.is_in(self.stored[spender], who)))
        said.append(self.said.filter(pc.is_in(self.said[spender], who)))
        rows.append(self.lately([(spender, value) for value in who.to_pylist()]))
        self.between()
        return once(pa.concat_tables(rows)), pa.concat_tables(said).group_by(self.said.column_names).aggregate([])


def once(rows: pa.Table) -> pa.Table:
    """Each transaction once, the first of each id."""
    seen: dict[Any, int] = {}
    for place, key in enumerate(rows["transaction_id"].to_pylist()):
        seen.setdefault(key, place)
    return rows.take(pa.array(list(seen.values()), pa.int64()))


def scored(store: PastStore, database: Tables, transaction: pa.Table) -> np.ndarray[Any, Any]:
    """The features that the service would give, as `Online` asks for them."""
    single = store.kernel.single(transaction)
    keys = store.kernel.keys(single.row)
    made = store.answer(single, keys)
    if made is None and not store.is_apart(single, keys):
        store.read(database, single, keys)
        made = store.answer(single, keys)
    if made is not None:
        return made.numbers
    rows = once(pa.concat_tables([database.stored, store.lately.table(everyone(store))]))
    others = rows.filter(pc.not_equal(rows["transaction_id"], transaction["transaction_id"][0]))
    features = features_from(transaction, others, database.said, database.contract)
    return np.array([features[name].to_pylist()[0] for name in feature_names(database.contract)], np.float64)


def everyone(store: PastStore) -> list[tuple[str, Any]]:
    return list(store.lately._of)


def expected(database: Tables, came: pa.Table, transaction: pa.Table) -> np.ndarray[Any, Any]:
    """What the batch gives when all that is stored and all that came before is there."""
    rows = once(pa.concat_tables([database.stored, came]))
    others = rows.filter(pc.not_equal(rows["transaction_id"], transaction["transaction_id"][0]))
    features = features_from(transaction, others, database.said, database.contract)
    return np.array([features[name].to_pylist()[0] for name in feature_names(database.contract)], np.float64)


def linked(of: Contract, rows: list[dict[str, Any]], stated: Any) -> tuple[PastStore, Tables, pa.Table, pa.Table]:
    everything, said = tables(of, rows, stated)
    store = PastStore(of, 2**30)
    database = Tables(of, everything.slice(0, 0), said.slice(0, 0))
    database.lately = store.lately_of
    return store, database, everything, said


# What may happen between two transactions: one comes, it comes again with another amount, the first of those that came
# are stored, labels are stored, another worker has scored one.
steps = st.lists(st.sampled_from(["score", "again", "store", "label", "other"]), min_size=4, max_size=24)


@settings(max_examples=max(settings.default.max_examples, 150), deadline=None)
@given(st.sampled_from(CONTRACTS), transactions.filter(bool), statements, steps)
def test_whatever_comes_in_whatever_order_features_are_those_of_the_batch(
    of: Contract, rows: list[dict[str, Any]], stated: Any, steps: list[str]
) -> None:
    store, database, everything, said = linked(of, rows, stated)
    came, n = everything.slice(0, 0), 0
    for step in steps:
        if step == "label":
            database.said = said
            store.outdate()
        elif step == "store" and n:
            database.stored = once(pa.concat_tables([database.stored, came.slice(0, (came.num_rows + 1) // 2)]))
            store.outdate()
        elif step == "again" and n:
            transaction = everything.slice(n - 1, 1)
            assert_same(scored(store, database, transaction), expected(database, came, transaction), feature_names(of))
        elif step == "other" and n < len(rows):
            store.take_up(everything.slice(n, 1), written=True)
            came, n = everything.slice(0, n + 1), n + 1
        elif step == "score" and n < len(rows):
            transaction = everything.slice(n, 1)
            assert_same(scored(store, database, transaction), expected(database, came, transaction), feature_names(of))
            came, n = everything.slice(0, n + 1), n + 1


CARDS = contract()


def row(number: int, *, minutes: float = 0, amount: float = 1.0, customer: int = 1, terminal: str = "x") -> pa.Table:
    values = {
        "transaction_id": f"t{number}", "event_timestamp": START + dt.timedelta(minutes=minutes),
        "customer_id": customer, "terminal_id": terminal, "amount": amount,
    }  # fmt: skip
    return pa.Table.from_pylist([values], schema=CARDS.transactions_schema())


def opened(most_bytes: int = 2**30, stored: pa.Table | None = None) -> tuple[PastStore, Tables]:
    store = PastStore(CARDS, most_bytes)
    rows = CARDS.transactions_schema().empty_table() if stored is None else stored
    database = Tables(CARDS, rows, CARDS.labels_schema().empty_table())
    database.lately = store.lately_of
    return store, database


def count(features: np.ndarray[Any, Any], name: str = "customer_count_1d") -> float:
    return float(features[feature_names(CARDS).index(name)])


def test_a_tenth_payment_in_a_minute_sees_the_nine_before_and_the_database_is_asked_once() -> None:
    store, database = opened()
    counts = [count(scored(store, database, row(number, minutes=number / 10))) for number in range(10)]
    assert counts == list(range(10))
    assert database.reads == 1


def test_a_transaction_that_comes_again_counts_once() -> None:
    store, database = opened()
    for _ in range(3):
        scored(store, database, row(1))
    assert count(scored(store, database, row(2, minutes=1))) == 1


def test_a_transaction_that_comes_again_with_a_later_time_does_not_see_itself() -> None:
    store, database = opened()
    scored(store, database, row(1))
    assert count(scored(store, database, row(1, minutes=5))) == 0


def test_events_at_the_same_time_or_later_do_not_count() -> None:
    store, database = opened(stored=pa.concat_tables([row(1, minutes=10), row(2, minutes=11), row(3, minutes=9)]))
    assert count(scored(store, database, row(4, minutes=10))) == 1


def test_one_that_comes_late_counts_for_those_after_it() -> None:
    store, database = opened()
    scored(store, database, row(1, minutes=10))
    assert count(scored(store, database, row(2, minutes=5))) == 0
    assert count(scored(store, database, row(3, minutes=11))) == 2


def test_a_replaced_month_is_read_before_the_next_answer() -> None:
    store, database = opened(stored=row(1))
    assert count(scored(store, database, row(8, minutes=60))) == 1
    database.stored = pa.concat_tables([row(1), row(2, minutes=1), row(3, minutes=2)])
    assert count(scored(store, database, row(9, minutes=61))) == 2
    store.outdate()
    assert count(scored(store, database, row(10, minutes=62))) == 5


def test_what_comes_while_a_past_is_read_is_in_it() -> None:
    """Another thread scores for the same terminal between the reading of the tables and the end of the reading."""
    store, database = opened()
    scored(store, database, row(1, customer=1))
    store.outdate()

    def meanwhile() -> None:
        database.between = lambda: None
        store.take_up(row(2, minutes=1, customer=2), written=True)

    database.between = meanwhile
    assert count(scored(store, database, row(3, minutes=2, customer=3)), "terminal_count_1d") == 2


def test_memory_is_bounded_and_who_was_not_asked_for_longest_goes_first() -> None:
    store, database = opened(most_bytes=40_000)
    for number in range(100):
        scored(store, database, row(number, minutes=number, customer=number, terminal=f"T{number}"))
    assert store.nbytes <= 40_000
    assert 2 <= len(store) < 40
    reads = database.reads
    scored(store, database, row(100, minutes=100, customer=99, terminal="T99"))
    assert database.reads == reads
    assert count(scored(store, database, row(101, minutes=101, customer=0, terminal="T0"))) == 1
    assert database.reads == reads + 1


def test_a_past_that_is_larger_than_the_memory_still_answers() -> None:
    store, database = opened(most_bytes=1)
    assert [count(scored(store, database, row(number, minutes=number))) for number in range(5)] == list(range(5))


def test_waiting_transactions_are_read_together() -> None:
    store, database = opened()
    singles = [store.kernel.single(row(number, customer=number, terminal=f"T{number}")) for number in range(20)]
    for single in singles:
        store.want(single, store.kernel.keys(single.row))
    store.read(database, singles[0], store.kernel.keys(singles[0].row))
    assert database.reads == 1
    assert all(store.answer(single, store.kernel.keys(single.row)) is not None for single in singles)


def test_stale_pasts_are_refreshed_by_themselves_and_answer_meanwhile_only_where_that_is_allowed() -> None:
    store, database = opened(stored=row(1))
    scored(store, database, row(2, minutes=1))
    store.outdate()
    single = store.kernel.single(row(3, minutes=2))
    keys = store.kernel.keys(single.row)
    assert store.answer(single, keys) is None
    assert store.answer(single, keys, stale=True) is not None
    while store.refresh(database):
        pass
    assert store.answer(store.kernel.single(row(4, minutes=3)), keys) is not None


def test_an_earlier_transaction_than_the_past_reaches_is_read_for() -> None:
    long_before = -60 * 24 * 400
    store, database = opened(stored=pa.concat_tables([row(1, minutes=long_before - 5), row(2)]))
    assert SLACK > 0
    assert count(scored(store, database, row(3, minutes=1))) == 1
    assert count(scored(store, database, row(4, minutes=long_before))) == 1


DAY = 24 * 60


def label(number: int, *, days: float, known: float, customer: int = 1, terminal: str = "x") -> pa.Table:
    values = {
        "transaction_id": f"t{number}", "event_timestamp": START + dt.timedelta(days=days), "customer_id": customer,
        "terminal_id": terminal, "is_fraud": True, "label_timestamp": START + dt.timedelta(days=known),
        "label_source": "analyst",
    }  # fmt: skip
    return pa.Table.from_pylist([values], schema=CARDS.labels_schema())


def check_in_order(database: Tables, store: PastStore, came: list[pa.Table]) -> list[np.ndarray[Any, Any]]:
    """Scores each, compares with the batch, and gives the features."""
    before, found = database.stored.slice(0, 0), []
    for transaction in came:
        found.append(scored(store, database, transaction))
        assert_same(found[-1], expected(database, before, transaction), feature_names(CARDS))
        before = pa.concat_tables([before, transaction])
    return found


def test_a_fraud_at_a_terminal_is_judged_anew_when_what_was_usual_for_its_customer_comes_late() -> None:
    store, database = opened(stored=row(1, minutes=60 * DAY, amount=100))
    database.said = label(1, days=60, known=61)
    before, _, after = check_in_order(
        database, store,
        [
            row(2, minutes=65 * DAY, customer=2),
            row(3, minutes=1, amount=3, terminal="y"),
            row(4, minutes=65 * DAY + 1, customer=2),
        ],
    )  # fmt: skip
    name = "terminal_known_fraud_share_30d"
    assert count(after, name) < count(before, name)


def test_what_was_unusual_is_not_when_what_was_usual_comes_late() -> None:
    store, database = opened()
    _, before, _, after = check_in_order(
        database, store,
        [
            row(1, minutes=30 * DAY, amount=100),
            row(2, minutes=31 * DAY),
            row(3, minutes=1, amount=3),
            row(4, minutes=31 * DAY + 1),
        ],
    )  # fmt: skip
    name = "customer_amount_over_max_7d"
    assert np.isnan(count(before, name))
    assert count(after, name) == 25


def test_a_fraud_that_was_reported_before_its_transaction_came_is_no_genuine_one() -> None:
    store, database = opened(stored=row(1, minutes=DAY / 2, terminal="y"))
    database.said = label(2, days=0, known=1)
    *_, after = check_in_order(
        database, store, [row(3, minutes=DAY, terminal="z"), row(2, amount=50), row(4, minutes=20 * DAY, amount=4)]
    )
    assert count(after, "customer_amount_over_max") == 2


def test_threads_that_score_for_one_customer_see_each_other() -> None:
    """However they interleave, every one that was answered counts for who comes after them."""
    n = 40
    store, database = opened()
    scored(store, database, row(0, minutes=-1))
    counts, lock = [], threading.Lock()

    def ask(first: int) -> None:
        for number in range(first, n + 1, 4):
            # One time for all but those before, so that only the order of answers counts.
            single = store.kernel.single(row(number, minutes=-0.5 + number / 1000))
            made = store.answer(single, store.kernel.keys(single.row))
            assert made is not None
            with lock:
                counts.append(count(made.numbers))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == n
    last = store.kernel.single(row(n + 1, minutes=5))
    made = store.answer(last, store.kernel.keys(last.row))
    assert made is not None
    assert count(made.numbers) == n + 1


def test_what_others_can_read_is_forgotten_after_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    store, database = opened()
    scored(store, database, row(1))
    rows = store.unwritten(10)
    assert rows["transaction_id"].to_pylist() == ["t1"]
    store.written(rows)
    assert store.unwritten(10).num_rows == 0
    assert len(store.lately) == 1
    monkeypatch.setattr("bentos.fraud_scorer.store.LATELY_SECONDS", -1.0)
    store.written(rows)
    assert len(store.lately) == 0


def test_what_cannot_be_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bentos.fraud_scorer.store.MOST_UNWRITTEN", 5)
    store, database = opened()
    for number in range(9):
        scored(store, database, row(number, minutes=number))
    assert store.unwritten(100)["transaction_id"].to_pylist() == [f"t{number}" for number in range(4, 9)]


def test_the_memory_that_is_counted_is_that_of_the_pasts_that_are_there() -> None:
    store, database = opened(stored=row(1, minutes=10))
    for number in range(2, 60):
        # Some come late, some come again, and some pasts are read anew in between.
        scored(store, database, row(number, minutes=number if number % 3 else -number, customer=number % 4))
        scored(store, database, row(number // 2, minutes=number, customer=number % 4))
        if number % 20 == 0:
            store.outdate()
    assert store.nbytes == sum(past.nbytes for past, _ in store._pasts.values())
