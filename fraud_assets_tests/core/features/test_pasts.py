"""Features of single transactions from prepared pasts are those of the kernel over everything."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.arrays import microseconds
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.features.pasts import Key, Past, SingleFeatures
from fraud_assets_tests.core.features.test_kernel import CONTRACTS, START, contract, statements, tables, transactions

Stated = list[tuple[int, bool | None, dt.datetime]]
KERNELS = [SingleFeatures(of) for of in CONTRACTS]
LONG_AGO = microseconds(START) - 10**15


def of_everything(of: Contract, rows: pa.Table, said: pa.Table, transaction: pa.Table) -> np.ndarray[Any, Any]:
    """What the batch gives for one transaction when all of these are stored."""
    moment = transaction["event_timestamp"][0].as_py()
    everything = pa.concat_tables([rows, transaction])
    made = compute_features(everything, said, of, start=moment, end=moment + dt.timedelta(microseconds=1))
    mine = made.filter(pc.equal(made["transaction_id"], transaction["transaction_id"][0]))
    assert mine.num_rows == 1
    return np.array([mine[name].to_pylist()[0] for name in feature_names(of)], dtype=np.float64)


def pasts_of(kernel: SingleFeatures, rows: pa.Table, said: pa.Table, keys: tuple[Key | None, ...]) -> list[Past | None]:
    found = kernel.pasts(rows, said, {key: LONG_AGO for key in keys if key is not None})
    return [None if key is None else found[key] for key in keys]


def assert_same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], names: tuple[str, ...]) -> None:
    for name, one, other in zip(names, found.tolist(), expected.tolist(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=2e-6, err_msg=name)


@settings(max_examples=max(settings.default.max_examples, 200), deadline=None)
@given(st.sampled_from(KERNELS), transactions.filter(bool), statements, st.data())
def test_one_transaction_has_the_features_that_the_batch_gives_it(
    kernel: SingleFeatures, rows: list[dict[str, Any]], stated: Stated, data: st.DataObject
) -> None:
    of = kernel.contract
    everything, said = tables(of, rows, stated)
    place = data.draw(st.integers(0, len(rows) - 1))
    transaction = everything.slice(place, 1)
    others = pa.concat_tables([everything.slice(0, place), everything.slice(place + 1)])
    single = kernel.single(transaction)
    keys = kernel.keys(single.row)
    made = kernel.features(single, keys, pasts_of(kernel, others, said, keys))
    assert_same(made.numbers, of_everything(of, others, said, transaction), feature_names(of))


@settings(max_examples=max(settings.default.max_examples, 200), deadline=None)
@given(st.sampled_from(KERNELS), transactions.filter(bool), statements, st.data())
def test_a_past_that_took_up_transactions_is_one_that_was_read_with_them(
    kernel: SingleFeatures, rows: list[dict[str, Any]], stated: Stated, data: st.DataObject
) -> None:
    """Whatever order they come in, and whatever was said of them before."""
    of = kernel.contract
    everything, said = tables(of, rows, stated)
    n_stored = data.draw(st.integers(0, len(rows)))
    stored = everything.slice(0, n_stored)
    came = everything.slice(n_stored)
    pasts: dict[Key, Past] = {}
    for place in range(came.num_rows):
        transaction, before = came.slice(place, 1), pa.concat_tables([stored, came.slice(0, place)])
        single = kernel.single(transaction)
        keys = kernel.keys(single.row)
        for key in keys:
            if key is not None and (key not in pasts or kernel.disturbs(key, single, pasts[key])):
                pasts[key] = kernel.pasts(before, said, {key: LONG_AGO})[key]
        made = kernel.features(single, keys, [None if key is None else pasts[key] for key in keys])
        assert_same(made.numbers, of_everything(of, before, said, transaction), feature_names(of))
        pasts = {key: past for key, past in pasts.items() if not kernel.misjudges(single, past)}
        for key, event in zip(made.keys, made.events, strict=True):
            if key is not None and key in pasts and event is not None:
                if kernel.disturbs(key, single, pasts[key]):
                    del pasts[key]
                else:
                    pasts[key].add(single.moment, event)


def test_a_past_of_nobody_has_nothing_and_answers() -> None:
    kernel = SingleFeatures(contract())
    schema = kernel.contract.transactions_schema()
    row = {"transaction_id": "a", "event_timestamp": START, "customer_id": 1, "terminal_id": "x", "amount": 3.0}
    transaction = pa.Table.from_pylist([row], schema=schema)
    single = kernel.single(transaction)
    keys = kernel.keys(single.row)
    pasts = pasts_of(kernel, schema.empty_table(), kernel.contract.labels_schema().empty_table(), keys)
    made = dict(zip(feature_names(kernel.contract), kernel.features(single, keys, pasts).numbers.tolist(), strict=True))
    assert made["customer_count_1d"] == 0
    assert made["amount"] == 3
    assert np.isnan(made["customer_amount_ratio"])


@pytest.mark.parametrize("n", [1, 3, 40])
def test_who_computes_with_a_past_is_not_disturbed_when_it_grows(n: int) -> None:
    kernel = SingleFeatures(contract())
    schema = kernel.contract.transactions_schema()
    said = kernel.contract.labels_schema().empty_table()
    key: Key = (0, (1,))
    past = kernel.pasts(schema.empty_table(), said, {key: LONG_AGO})[key]
    seen = []
    for number in range(n):
        row = {
            "transaction_id": f"t{number}", "event_timestamp": START + dt.timedelta(minutes=number),
            "customer_id": 1, "terminal_id": None, "amount": 1.0,
        }  # fmt: skip
        single = kernel.single(pa.Table.from_pylist([row], schema=schema))
        made = kernel.features(single, kernel.keys(single.row), [past, None])
        seen.append((past.moments[: past.n], past.moments[: past.n].copy()))
        assert made.events[0] is not None
        past.add(single.moment, made.events[0])
    assert past.n == n
    for view, copy in seen:
        np.testing.assert_array_equal(view, copy)
