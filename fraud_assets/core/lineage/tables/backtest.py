"""Policies of retraining, replayed month by month."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.evaluation import EVALUATION_INTERVALS
from fraud_assets.core.lineage.tables.table import AS_JSON, Table, column, first_of_month, with_intervals


def backtest(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per policy and month, and one, kind `total`, per policy; see `backtest/judge.py`."""
    columns = [
        first_of_month("that was replayed; of a total, the last one"),
        column("kind", pa.string(), "month, or total for all months of the policy.", nullable=False),
        column("policy", pa.string(), "When it retrains: never, monthly, every-N, on-drift, on-watch.", nullable=False),
        column("trained_month", pa.string(), "The month at whose end the live model was trained, YYYY-MM."),
        column("drift_status", pa.string(), "Of the month's report: OK, WATCH, DRIFT or INSUFFICIENT_DATA."),
        column("blame", pa.string(), "Of the month's report: world, data or labels; empty where nothing is wrong."),
        column(
            "retrainings", pa.int64(), "Models trained at the month's end, 0 or 1; of a total, all.", nullable=False
        ),
        column("drift_alarms", pa.int64(), "Months whose report said DRIFT.", nullable=False),
        column("watch_alarms", pa.int64(), "Months whose report said WATCH.", nullable=False),
        column(
            "reasons",
            pa.string(),
            f"Why a model was trained, or a month could not be judged, {AS_JSON}.",
            nullable=False,
        ),
        column("n", pa.int64(), "Matured transactions that were judged; empty where none could be, as all below."),
        column("n_fraud", pa.int64(), "Frauds among them."),
        column("alerts_per_day", pa.float64(), "Cards a day to review, on average."),
        *with_intervals(
            {
                "average_precision": "average precision; 0 to 1; of a total, the mean over months",
                "value_detection_rate": EVALUATION_INTERVALS["value_detection_rate"],
                "expected_cost": EVALUATION_INTERVALS["expected_cost"],
                "ap_difference": "average precision less that of never retraining; -1 to 1, paired",
                "cost_saved": "cost a day less than that of never retraining; above 0 when retraining paid",
            }
        ),
    ]
    order = ("month", "kind", "policy")
    return Table.of("backtest", "monitoring", columns, "month", order=order, key=order)
