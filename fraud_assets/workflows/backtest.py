"""A backtest over the stored months.

What is replayed and how it is judged belongs to `core/backtest/judge.py`, what policies decide to
`core/backtest/replay.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv

from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.adapters.postgres.months import MonthStore, open_store
from fraud_assets.core.backtest.judge import (
    Backtest,
    BacktestError,
    History,
    Tell,
    backtest_needs,
    backtest_rows,
    run_backtest,
)
from fraud_assets.core.backtest.replay import Policy
from fraud_assets.core.months import check_month, months_between, shift_month
from fraud_assets.settings import Settings

NEEDED = ("transaction_features", "fraud_labels")


def backtest_stored(
    settings: Settings, first: str, last: str, policies: Sequence[Policy], tell: Tell = lambda _: None
) -> pa.Table:
    """Replays stored months under policies; judges with the labels of all months that are stored.

    Args:
        settings: of the home.
        first: the first month in which models are live.
        last: the last one.
        policies: which.
        tell: is told what is being done.

    Returns:
        Rows of the backtest table.

    Raises:
        BacktestError: when months are not stored, or as `run_backtest`.
        ValueError: when one of them is no month.
    """
    store = open_store(settings)
    stored = _stored_months(store)
    wanted = months_between(check_month(first), check_month(last))
    if missing := [month for month in [shift_month(first, -1), *wanted] if month not in stored]:
        there = f"there are {stored[0]} to {stored[-1]}" if stored else "there are none yet"
        raise BacktestError(
            f"{', '.join(missing)} cannot be replayed: features and labels are not stored, {there}; models that are "
            f"live from {first} on are trained as of the end of the month before it. Load the months with "
            "`fraud run`, or choose others"
        )
    tell("reading the months")
    needs = backtest_needs(
        first, last, stored[-1], first_month=stored[0], config=settings.training, contract=store.contract
    )
    history = History(
        rows=store.load(needs),
        contract=store.contract,
        contract_yaml=settings.contract_path.read_text(encoding="utf-8"),
        first_month=stored[0],
        config=settings.training,
        drift=settings.drift,
        costs=settings.costs,
        to_onnx=to_onnx,
        tell=tell,
        workers=settings.training_workers,
    )
    found: Backtest = run_backtest(history, first, last, policies, known=stored[-1])
    return backtest_rows(found, store.table("backtest").schema)


def _stored_months(store: MonthStore) -> list[str]:
    """The months of which everything needed is there: from the first on, up to the first gap."""
    there = set.intersection(*(set(store.months(name)) for name in NEEDED))
    if not there:
        return []
    months = months_between(min(there), max(there))
    gap = next((place for place, month in enumerate(months) if month not in there), len(months))
    return months[:gap]
