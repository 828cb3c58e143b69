"""Engines: the same features from the kernel, from DuckDB, from Spark and from Postgres."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.handbook import load_cards
from fraud_assets.adapters.engines import Engine, EngineError, open_engine
from fraud_assets.adapters.postgres.database import Database
from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.settings import Settings

ENGINES: list[Engine] = ["duckdb", "spark", "postgres"]
# Sums over the same rows in another order; features are float32.
RELATIVE = 1e-6
MILLIONTH = 1e-6  # in which oddness is rounded, engines one way or the other


@pytest.fixture(autouse=True)
def _java(request: pytest.FixtureRequest) -> None:
    wanted = "spark" in request.node.callspec.params.values() if hasattr(request.node, "callspec") else False
    if wanted and shutil.which("java") is None and "CI" not in os.environ:
        pytest.skip("SPARK IS NOT TESTED: there is no Java on the PATH")


def agree(
    engine: Engine,
    database: Database,
    transactions: pa.Table,
    statements: pa.Table,
    contract: Contract,
    start: dt.datetime,
) -> int:
    """Compares an engine with the kernel on the days from `start` on.

    Returns:
        How many values of features were compared.
    """
    span = {"start": start, "end": start + dt.timedelta(days=4)}
    expected = compute_features(transactions, statements, contract, **span)
    found = open_engine(engine, database.url)(transactions, statements, contract, **span)
    assert found.schema.names == expected.schema.names
    assert found.schema.types == expected.schema.types
    names = feature_names(contract)
    assert found.drop_columns(list(names)).equals(expected.drop_columns(list(names)))
    for name in names:
        theirs, ours = (table[name].to_numpy(zero_copy_only=False) for table in (found, expected))
        np.testing.assert_allclose(theirs, ours, rtol=RELATIVE, atol=MILLIONTH * ("amount_z" in name), err_msg=name)
    return sum(len(expected) - expected[name].null_count for name in names)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_on_the_handbook(
    engine: Engine, database: Database, handbook: Path, handbook_contract: Contract
) -> None:
    cards = load_cards(handbook, handbook_contract)
    some = pa.array(cards.card % 40 == 0)
    last = cards.transactions["event_timestamp"][-1].as_py()
    transactions = cards.transactions.filter(some)
    compared = agree(engine, database, transactions, cards.statements, handbook_contract, last - dt.timedelta(days=3))
    assert compared > 1_000


ACCOUNTS = parse_contract("""
name: accounts
first_month: 2024-01
timezone: Europe/Berlin
event_timestamp: {column: at}
entities:
  ip_address: {column: ip, type: string, nullable: true}
  email: {column: email, type: string, nullable: true}
attributes:
  channel: {column: channel, categories: [web, app], nullable: true}
  age: {column: age, type: integer, nullable: true}
  note: {column: note, nullable: true}
  present: {column: present, type: boolean, nullable: true}
  born: {column: born, type: date, nullable: true}
label: {column: fraud, known_at: known}
maturity_days: 3.5
window_days: 40
features:
  - {entity: ip_address, aggregate: distinct, of: email, window: 40d}
  - {entity: email, aggregate: distinct, of: age, window: 30d}
  - {entity: [ip_address, email], aggregate: count, window: 40d}
  - {entity: [ip_address, email], aggregate: days_since_last, window: 20d}
  - {entity: ip_address, aggregate: count, window: 6h}
  - {entity: ip_address, aggregate: mean, of: age, window: 40d}
  - {entity: ip_address, aggregate: std, of: age, window: 7d}
  - {entity: email, aggregate: sum, of: age, window: 40d}
  - {entity: email, aggregate: min, of: age, window: 40d}
  - {entity: email, aggregate: max, of: age, window: 40d}
  - {entity: ip_address, aggregate: mean, of: night, window: 40d}
  - {entity: ip_address, aggregate: mean, of: weekend, window: 40d}
  - {entity: ip_address, aggregate: mean, of: present, window: 40d}
""")


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_without_amounts_with_gaps_and_with_withdrawn_reports(engine: Engine, database: Database) -> None:
    random = np.random.default_rng(5)
    n, start = 400, dt.datetime(2024, 3, 29, tzinfo=dt.UTC)  # over the night in which Berlin's clocks go forward
    rows = {
        "transaction_id": [f"t{number}" for number in random.permutation(n)],
        "event_timestamp": [start + dt.timedelta(minutes=int(m)) for m in random.integers(-86_400, 5_760, n)],
        "ip_address": [None if k == 0 else f"10.0.0.{k}'\u00e9" for k in random.integers(0, 9, n)],
        "email": [None if k == 0 else f"{k}@example.com" for k in random.integers(0, 30, n)],
        "channel": [("web", "app", None)[k] for k in random.integers(0, 3, n)],
        "age": [None if k < 9 else int(k) for k in random.integers(0, 90, n)],
        "note": [(None, "", "Zo\u00eb's \U0001f600", "A\\b")[k] for k in random.integers(0, 4, n)],
        "present": [(None, True, False)[k] for k in random.integers(0, 3, n)],
        "born": [(None, dt.date(1924, 2, 29), dt.date(2024, 3, 31), dt.date(2031, 1, 1))[k % 4] for k in range(n)],
    }  # fmt: skip
    transactions = pa.table(rows, schema=ACCOUNTS.transactions_schema())
    statements = []
    for row in transactions.slice(0, 80).to_pylist():
        known = row["event_timestamp"] + dt.timedelta(days=float(random.uniform(0, 20)))
        said = [(True, known), ((True, False, None)[random.integers(3)], known + dt.timedelta(days=2))]
        about = {name: row[name] for name in ("transaction_id", "event_timestamp", *ACCOUNTS.entities)}
        statements += [
            about | {"is_fraud": fraud, "label_timestamp": moment, "label_source": "analyst"} for fraud, moment in said
        ]
    stated = pa.Table.from_pylist(statements, schema=ACCOUNTS.labels_schema())
    assert agree(engine, database, transactions, stated, ACCOUNTS, start) > 100


def test_spark_without_pyspark_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark", None)
    nothing = ACCOUNTS.transactions_schema().empty_table(), ACCOUNTS.labels_schema().empty_table()
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(EngineError, match="fraud-assets\\[spark\\]"):
        open_engine("spark")(*nothing, ACCOUNTS, start=moment, end=moment)


def test_postgres_without_a_database_is_refused() -> None:
    with pytest.raises(EngineError, match="needs the URL of a database"):
        open_engine("postgres")


def test_the_setting_names_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().engine == "kernel"
    monkeypatch.setenv("FRAUD_ENGINE", "spark")
    assert open_engine(Settings().engine) is open_engine("spark") is not open_engine("kernel")
