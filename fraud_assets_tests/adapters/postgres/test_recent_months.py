"""Months in memory: by what is in them, in bounded memory, and never in the place of what is stored now."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_assets.adapters.postgres import months
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.postgres.recent_months import RecentMonths
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.transactions import transaction_features
from fraud_assets.core.months import month_end, month_start

NAME = "transaction_features"
APRIL, MAY, JUNE = "2025-04", "2025-05", "2025-06"


def features(contract: Contract, month: str, n: int = 20, seed: int = 0) -> pa.Table:
    """Rows of a month, some of their values missing."""
    generator = np.random.default_rng(seed)
    start, step = month_start(month), (month_end(month) - month_start(month)) / n
    columns: dict[str, Any] = {}
    for field in transaction_features(contract).schema:
        if field.name == "event_timestamp":
            columns[field.name] = pa.array([start + number * step for number in range(n)], field.type)
        elif field.name == "transaction_id":
            columns[field.name] = pa.array([f"{month.replace('-', '')}{number:05d}" for number in range(n)]).cast(
                field.type
            )
        else:
            values = generator.integers(0, 9, n)
            columns[field.name] = pa.array(values, mask=values == 0).cast(field.type)
    return pa.table(columns)


@pytest.fixture
def recent(monkeypatch: pytest.MonkeyPatch) -> RecentMonths:
    """An empty memory in the place of the process's own."""
    recent = RecentMonths()
    monkeypatch.setattr(months, "RECENT_MONTHS", recent)
    return recent


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """The ranges for which rows were asked of Postgres."""
    asked: list[tuple[str, str | None]] = []
    selection = MonthStore._selection

    def noted(store: MonthStore, table: Any, columns: Any, there: Any, first: str, last: str | None) -> Any:
        asked.append((first, last))
        return selection(store, table, columns, there, first, last)

    monkeypatch.setattr(MonthStore, "_selection", noted)
    return asked


def test_a_month_is_asked_for_once_and_reads_the_same_from_memory(
    database: Database, simulator_contract: Contract, recent: RecentMonths, asked: list[tuple[str, str | None]]
) -> None:
    store = MonthStore(database, simulator_contract)
    for month in (APRIL, MAY, JUNE):
        store.replace_months(NAME, features(simulator_contract, month), [month])
    remembered = store.read(NAME, first_month=APRIL)
    assert asked == []
    recent.forget()
    from_postgres = store.read(NAME, first_month=APRIL)
    assert asked == [(APRIL, JUNE)]
    assert remembered.equals(from_postgres, check_metadata=True)
    assert store.read(NAME, ["event_timestamp", "transaction_id"], first_month=MAY, last_month=MAY).num_rows == 20
    assert store.read(NAME, first_month=APRIL).equals(from_postgres, check_metadata=True)
    assert asked == [(APRIL, JUNE)]


def test_a_month_that_was_replaced_is_read_as_it_is_now(
    database: Database, simulator_contract: Contract, recent: RecentMonths, asked: list[tuple[str, str | None]]
) -> None:
    store, elsewhere = (MonthStore(database, simulator_contract) for _ in range(2))
    for month in (APRIL, MAY, JUNE):
        store.replace_months(NAME, features(simulator_contract, month), [month])
    before = store.read(NAME, first_month=APRIL)
    # By another process, whose memory is another.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(months, "RECENT_MONTHS", RecentMonths())
        elsewhere.replace_months(NAME, features(simulator_contract, MAY, n=7, seed=1), [MAY])
    after = store.read(NAME, first_month=APRIL)
    assert asked == [(MAY, MAY)]
    assert (before.num_rows, after.num_rows) == (60, 47)
    recent.forget()
    assert after.equals(store.read(NAME, first_month=APRIL), check_metadata=True)


def test_columns_that_do_not_fix_the_order_are_asked_of_postgres(
    database: Database, simulator_contract: Contract, recent: RecentMonths, asked: list[tuple[str, str | None]]
) -> None:
    store = MonthStore(database, simulator_contract)
    store.replace_months(NAME, features(simulator_contract, APRIL), [APRIL])
    amounts = store.read(NAME, ["amount"], first_month=APRIL)
    assert asked == [(APRIL, None)]
    assert amounts["amount"].equals(store.read(NAME, first_month=APRIL)["amount"])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 60), st.booleans()), max_size=30))
def test_memory_is_bounded_and_what_is_given_is_what_was_kept(
    simulator_contract: Contract, steps: list[tuple[int, int, bool]]
) -> None:
    table = transaction_features(simulator_contract)
    names = table.schema.names
    kept: dict[str, pa.Table] = {}
    recent = RecentMonths(most_bytes=20_000)
    for number, n, whole in steps:
        digest = f"{number}-{n}"
        rows = features(simulator_contract, APRIL, n, number).select(names if whole else names[:4])
        kept[digest] = rows
        recent.keep(table, digest, rows)
        assert sum(month.nbytes for month in recent._months.values()) <= 20_000
        found = recent.get(table, digest, names[:3])
        assert found is not None or rows.nbytes > 20_000
        for digest, rows in kept.items():
            if (known := recent.get(table, digest, names[:2])) is not None:
                assert known.equals(rows.select(names[:2]))
