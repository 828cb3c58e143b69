"""Features: the platform's against the Handbook's own way of making its own, and against the same in SQL.

On all Handbook transactions: how long a data scientist waits with pandas' `groupby().rolling()`, as the book does it,
and how long DuckDB takes for the platform's own features. On ten times as many: whether time grows with the rows, and
memory stays. On one: what a service waits for.

    python -m benchmarks.features [--data DIR] [--rounds N] [--times 10] [--json FILE]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.handbook import CONTRACT, DAYS, HANDBOOK, Cards, load_cards, published_features
from benchmarks.io import peak_mib
from benchmarks.reporting import Row, argument_parser, at_least, at_most, report
from fraud_assets.core.contracts.contract import Contract, load_contract
from fraud_assets.core.features.declarations import feature_names
from fraud_assets.core.features.ibis_expression import compute_with_duckdb
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.features.pasts import SingleFeatures
from fraud_assets.settings import PROJECT_ROOT

PANDAS_OVER_OURS = 10.0
DUCKDB_OVER_OURS = 8.0
ONE_MILLISECONDS = 0.5
HISTORY_ROWS = 480  # of one transaction: of its customer and its terminal, as the Handbook has them on average
ONES = 1_000
TIMES = 10
TIME_OVER_ONCE = 11.0
MEMORY_MIB = 4 * 1024

Floats = npt.NDArray[np.floating[Any]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argument_parser("The platform's features against pandas, and against SQL.")
    parser.add_argument("--data", type=Path, default=HANDBOOK, help="folder of months in the Handbook's format")
    parser.add_argument("--rounds", type=int, default=3, help="medians of so many are reported")
    parser.add_argument("--times", type=int, default=TIMES, help="how many times the transactions, at last; 1: not")
    parser.add_argument("--measure-memory", action="store_true", help="be the process whose memory is measured")
    options = parser.parse_args(arguments)
    if not any(options.data.glob("*.parquet")):
        parser.error(f"there are no Parquet files in {options.data}; name the folder with --data")
    contract = load_contract(CONTRACT)
    cards = load_cards(options.data, contract)
    if options.measure_memory:
        print(*_many(cards, contract, options.times))
        return 0
    # In turns, so that what else the machine does slows all of them.
    seconds: dict[str, list[float]] = {name: [] for name in ("pandas", "published", "duckdb", "ours")}
    for _ in range(options.rounds):
        seconds["pandas"].append(_timed(lambda: pandas_features(cards)))
        seconds["published"].append(_timed(lambda: published_features(cards)))
        for name, compute in (("duckdb", compute_with_duckdb), ("ours", compute_features)):
            seconds[name].append(_timed(partial(_all, compute, cards.transactions, cards.statements, contract)))
    pandas, published, by_duckdb, ours = (statistics.median(values) for values in seconds.values())
    by_kernel, from_pasts = one_transaction(cards, contract)
    rows = [
        Row("transactions", float(len(cards.fraud)), ""),
        Row("pandas_seconds", pandas, "s"),
        Row("published_by_duckdb_seconds", published, "s"),
        Row("features", float(len(feature_names(contract))), ""),
        Row("features_by_duckdb_seconds", by_duckdb, "s"),
        Row("features_seconds", ours, "s"),
        Row("pandas_over_published_by_duckdb", pandas / published, "times"),
        at_least("pandas_over_ours", pandas / ours, "times", PANDAS_OVER_OURS),
        Row("ours_over_published_by_duckdb", ours / published, "times"),
        at_least("duckdb_over_ours", by_duckdb / ours, "times", DUCKDB_OVER_OURS),
        at_most("one_transaction_ms", by_kernel, "ms", ONE_MILLISECONDS),
        at_most("one_prepared_transaction_ms", from_pasts, "ms", ONE_MILLISECONDS),
    ]
    if options.times > 1:
        once, many = (_in_a_process(options.data, times) for times in (1, options.times))
        rows += [
            Row("many_transactions", float(len(cards.fraud) * options.times), ""),
            Row("many_seconds", many[0], "s"),
            at_most("many_over_once", many[0] / once[0], "times", TIME_OVER_ONCE * options.times / TIMES),
            at_most("many_peak_mib", many[1], "MiB", MEMORY_MIB),
        ]
    return report("features", rows, options.json)


def pandas_features(cards: Cards) -> Floats:
    """The 15 published features [n, 15] by `groupby().rolling()`, in the order of `published_features`.

    A terminal's risk is the share of frauds among its transactions of some days, as many days ago as the labels of
    frauds take: what is in the longer window less what is in the delay.
    """
    frame = pd.DataFrame(
        {
            "t": pd.to_datetime(cards.transactions["event_timestamp"].to_numpy()),
            "customer": cards.card,
            "terminal": cards.transactions["terminal_id"].to_numpy(),
            "amount": cards.transactions["amount"].to_numpy(),
            "fraud": cards.fraud,
        }
    )
    made: dict[str, Any] = {
        "amount": frame["amount"],
        "weekend": (frame["t"].dt.weekday >= 5).astype(int),
        "night": (frame["t"].dt.hour <= 6).astype(int),
    }
    by_customer = frame.sort_values(["customer", "t"], kind="stable")
    for days in (1, 7, 30):
        window = by_customer.set_index("t").groupby("customer")["amount"].rolling(f"{days}D")
        made[f"c_count_{days}"] = pd.Series(window.count().to_numpy(), by_customer.index)
        made[f"c_mean_{days}"] = pd.Series(window.mean().to_numpy(), by_customer.index)
    by_terminal = frame.sort_values(["terminal", "t"], kind="stable")
    frauds = by_terminal.set_index("t").groupby("terminal")["fraud"]
    delay = frauds.rolling(f"{DAYS}D")
    delayed = delay.count().to_numpy(), delay.sum().to_numpy()
    for days in (1, 7, 30):
        window = frauds.rolling(f"{days + DAYS}D")
        count, total = window.count().to_numpy() - delayed[0], window.sum().to_numpy() - delayed[1]
        risk = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        made[f"d_count_{days}"] = pd.Series(count, by_terminal.index)
        made[f"d_risk_{days}"] = pd.Series(risk, by_terminal.index)
    return pd.DataFrame(made, index=frame.index).to_numpy(np.float32)


def one_transaction(cards: Cards, contract: Contract) -> tuple[float, float]:
    """Milliseconds for the features of one transaction, inputs included, medians.

    Returns:
        From its history as tables, by the kernel of months; and as the service does it, from pasts of its entities that
        were prepared from the same history before.
    """
    rows = cards.transactions
    transaction = rows.slice(rows.num_rows - 1)
    last = transaction.to_pylist()[0]

    def own(table: pa.Table) -> pa.ChunkedArray:
        return reduce(pc.or_, [pc.equal(table[entity], pa.scalar(last[entity])) for entity in contract.entities])

    history, statements = (table.filter(own(table)) for table in (rows, cards.statements))
    # Filled up with the newest rows of others, whose codes cost as much.
    others = rows.filter(pc.invert(own(rows)))
    wanted = min(max(HISTORY_ROWS + 1 - history.num_rows, 0), others.num_rows)
    history = pa.concat_tables([others.slice(others.num_rows - wanted), history]).combine_chunks()
    statements = statements.combine_chunks()
    moment = last["event_timestamp"]
    span = {"start": moment, "end": moment + timedelta(microseconds=1)}
    by_kernel = _median_ms(lambda: compute_features(history, statements, contract, **span))

    kernel = SingleFeatures(contract)
    single = kernel.single(transaction)
    keys = [key for key in kernel.keys(single.row) if key is not None]
    before = history.filter(pc.not_equal(history["transaction_id"], transaction["transaction_id"][0]))
    prepared = kernel.pasts(before, statements, {key: single.moment - kernel.reach(key) for key in keys})
    pasts = [prepared[key] for key in keys]
    return by_kernel, _median_ms(lambda: kernel.features(kernel.single(transaction), keys, pasts))


def _median_ms(work: Callable[[], object]) -> float:
    return 1_000 * statistics.median(_timed(work) for _ in range(ONES))


def _all(
    compute: Callable[..., pa.Table], transactions: pa.Table, statements: pa.Table, contract: Contract
) -> pa.Table:
    return compute(transactions, statements, contract, **_span(transactions))


def _span(transactions: pa.Table) -> dict[str, Any]:
    moment = transactions["event_timestamp"]
    return {"start": moment[0].as_py(), "end": moment[-1].as_py() + timedelta(microseconds=1)}


def _many(cards: Cards, contract: Contract, times: int) -> tuple[float, float]:
    """Seconds, and the process's peak memory in MiB, for as many worlds like the data's side by side."""

    def other(table: pa.Table, number: int) -> pa.Table:
        for name in ("transaction_id", "customer_id", "terminal_id"):
            shifted = pa.array(table[name].to_numpy() + number * 10_000_000)
            table = table.set_column(table.column_names.index(name), table.schema.field(name), shifted)
        return table

    transactions, statements = (
        pa.concat_tables([other(table, number) for number in range(times)]).sort_by(by)
        for table, by in ((cards.transactions, "event_timestamp"), (cards.statements, "label_timestamp"))
    )
    return _timed(lambda: _all(compute_features, transactions, statements, contract)), peak_mib()


def _in_a_process(data: Path, times: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.features", "--data", str(data), "--times", str(times)]
    said = subprocess.run(
        [*command, "--measure-memory"], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, peak = said.stdout.split()
    return float(seconds), float(peak)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
