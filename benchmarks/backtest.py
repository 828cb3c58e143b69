"""Does the drift sensor pay? A simulated year in which fraud changes, replayed under retraining policies.

From one month on some terminals become hot spots of a fraud with amounts like any other. Nothing that comes in looks
different on that day: only what is learned of the frauds tells. How a replay works belongs to
`fraud_assets/core/backtest/judge.py`; this makes the year and prints what each policy brought.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from benchmarks.reporting import Row, argument_parser, at_most, report
from fraud_assets.adapters.onnx_models import to_onnx
from fraud_assets.core.backtest.judge import Backtest, History, run_backtest
from fraud_assets.core.backtest.replay import parse_policies
from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.models.training_config import TrainingConfig
from fraud_assets.core.months import months_between
from fraud_assets.core.simulator import DriftSwitch, SimulatorConfig, simulate_month
from fraud_assets.core.statistics.bootstrap import Interval
from fraud_assets.core.statistics.metrics import Costs
from fraud_assets.settings import PROJECT_ROOT

FIRST, LIVE, CHANGED, LAST = "2025-01", "2025-06", "2025-09", "2025-12"
KNOWN = "2026-01"  # the last frauds of the year are reported in the new one
POLICIES = "never,monthly,every-3,on-drift,on-watch"
# Some 70,000 transactions a month: a year in a few minutes.
CUSTOMERS, TERMINALS_PER_CUSTOMER = 1200, 2
HOT_SPOTS = 0.02  # of the terminals


@dataclass(frozen=True)
class Year:
    """Months of everything that the platform would have stored."""

    contract: Contract
    tables: dict[str, pa.Table]

    @property
    def rows(self) -> MonthRows:
        """All of them."""
        return MonthRows(
            {Needed(name, tuple(rows.column_names), FIRST, KNOWN): rows for name, rows in self.tables.items()},
            self.contract,
        )


def simulated_year(contract: Contract, seed: int, customers: int) -> Year:
    """The year, with what was reported in it and after it."""
    config = SimulatorConfig(
        seed=seed,
        customers=customers,
        terminals=customers * TERMINALS_PER_CUSTOMER,
        drifts=(DriftSwitch("new_fraud_pattern", CHANGED, HOT_SPOTS),),
    )
    rows = pa.concat_tables([simulate_month(month, config) for month in months_between(FIRST, KNOWN)])
    frauds = rows.filter(rows["is_fraud"])
    frauds = frauds.append_column("label_source", pa.array(["chargeback"] * len(frauds), pa.string()))
    schema = contract.labels_schema()
    statements = frauds.select(schema.names).cast(schema).sort_by("label_timestamp")
    raw = rows.select(contract.transactions_schema().names)
    features = compute_features(
        raw, statements, contract, start=contract.month_start(FIRST), end=contract.month_end(KNOWN)
    )
    return Year(contract, {"raw_transactions": raw, "fraud_labels": statements, "transaction_features": features})


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints and writes what each policy brought."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated year")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="of the simulated year")
    options = parser.parse_args(arguments)
    text = (PROJECT_ROOT / "contracts" / "simulator.yaml").read_text(encoding="utf-8")
    year = simulated_year(parse_contract(text), options.seed, options.customers)
    started, trained = time.monotonic(), []

    def tell(said: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {said}", file=sys.stderr)
        if "training" in said:
            trained.append(said)

    history = History(
        rows=year.rows, contract=year.contract, contract_yaml=text, first_month=FIRST, config=TrainingConfig(),
        drift=DriftConfig(), costs=Costs(), to_onnx=to_onnx, tell=tell,
    )  # fmt: skip
    found = run_backtest(history, LIVE, LAST, parse_policies(POLICIES), known=KNOWN)
    minutes = (time.monotonic() - started) / 60
    months = months_between(LIVE, LAST)
    rows = [
        Row("transactions_a_month", round(len(year.tables["raw_transactions"]) / 13), ""),
        Row("changed_in", CHANGED, ""),
        *outcome_rows(found),
        # One for each month's end before a live month, however many policies there are.
        at_most("models_trained", len(trained), "", len(months)),
        Row("minutes", round(minutes, 1), "min"),
    ]
    return report("backtest", rows, options.json)


def outcome_rows(found: Backtest) -> list[Row]:
    """What each policy brought."""
    rows: list[Row] = []
    for outcome in found.outcomes:
        prefix, total = outcome.policy.replace("-", "_"), outcome.total
        rows.append(Row(f"{prefix}_models", outcome.retrainings, ""))
        drifted = [step.month for step in outcome.steps if step.report.verdict.drift_status == "DRIFT"]
        rows.append(Row(f"{prefix}_drift_months", " ".join(drifted) or "none", ""))
        rows.append(Row(f"{prefix}_watch_months", outcome.alarms("WATCH"), ""))
        if total is None:
            continue
        rows += _with_interval(f"{prefix}_average_precision", total.average_precision, "", 4)
        rows += _with_interval(f"{prefix}_ap_against_never", total.ap_difference, "", 4)
        if total.value_detection_rate is not None:
            rows += _with_interval(f"{prefix}_value_caught", total.value_detection_rate, "", 4)
        rows += _with_interval(f"{prefix}_saved_a_day", total.cost_saved, "of currency", 1)
        rows += [
            Row(f"{prefix}_average_precision_{month}", round(figures.average_precision.value, 4), "")
            for month, figures in outcome.months.items()
        ]
    return rows


def _with_interval(name: str, interval: Interval, unit: str, digits: int) -> list[Row]:
    ends = {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return [Row(end, round(value, digits), unit) for end, value in ends.items()]


if __name__ == "__main__":
    sys.exit(main())
