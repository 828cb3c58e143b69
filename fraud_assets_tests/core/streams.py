"""Months of any source in memory, reported on as the platform does: features are computed, labels become known."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract, parse_contract
from fraud_assets.core.drift.limits import DriftConfig
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.lineage.needs import MonthRows, Needed
from fraud_assets.core.monitoring.month import MonthReport, report_month
from fraud_assets.core.monitoring.plan import EarlierReport, Subject, plan_report
from fraud_assets.core.months import months_between, shift_month
from fraud_assets.core.statistics.metrics import Costs

Rng = np.random.Generator
# The values of one attribute, of so many rows in a month.
Values = Callable[[str, int, Rng], Sequence[Any]]
FIRST = "2023-01"
DELAY, MATURITY = 2, 10


def contract_of(
    attributes: Mapping[str, str], *, entities: Sequence[str] = ("customer_id",), amount: bool = True
) -> Contract:
    """A contract with attributes, each with the rest of its line as YAML."""
    lines = [
        "name: any", f"first_month: {FIRST}", "transaction_id: {column: id}", "event_timestamp: {column: at}",
        *(["entities:"] if entities else []), *(f"  {name}: {{column: {name}}}" for name in entities),
        *(["amount: {column: amount, type: number}"] if amount else []),
        *(["attributes:"] if attributes else []),
        *(f"  {name}: {{column: {name}, nullable: true, {rest}}}" for name, rest in attributes.items()),
        f"label: {{column: fraud, delay_days: {DELAY}}}", f"maturity_days: {MATURITY}",
    ]  # fmt: skip
    return parse_contract("\n".join(lines))


class Stream:
    """A source from `FIRST` on, with so many rows in each month and a share of frauds."""

    def __init__(
        self,
        contract: Contract,
        rows: Sequence[int],
        values: Mapping[str, Values],
        *,
        fraud: Sequence[float] | float = 0.05,
        ids: int = 40,
        seed: int = 1,
    ) -> None:
        self.contract = contract
        self.months = months_between(FIRST, shift_month(FIRST, len(rows) - 1))
        shares = [fraud] * len(rows) if isinstance(fraud, float) else list(fraud)
        schema = contract.transactions_schema()
        parts, stated = [], []
        for month, number, share in zip(self.months, rows, shares, strict=True):
            rng = np.random.default_rng([seed, int(month.replace("-", ""))])
            start = contract.month_start(month)
            length = calendar.monthrange(start.year, start.month)[1]
            moments = [start + dt.timedelta(days=float(at)) for at in np.sort(rng.uniform(0, length, number))]
            columns: dict[str, Any] = {
                "transaction_id": [f"{month}-{n:06}" for n in range(number)],
                "event_timestamp": moments,
                **{name: [f"{name}{one}" for one in rng.integers(0, ids, number)] for name in contract.entities},
                "amount": np.round(rng.lognormal(3, 0.8, number), 2),
                **{name: make(month, number, rng) for name, make in values.items()},
            }
            parts.append(pa.table({name: columns[name] for name in schema.names}, schema=schema))
            stated.append(rng.random(number) < share)
        self.rows = pa.concat_tables(parts)
        frauds = self.rows.filter(pa.array(np.concatenate(stated)))
        known = pc.add(frauds["event_timestamp"], pa.scalar(dt.timedelta(days=DELAY), pa.duration("us")))
        frauds = frauds.append_column("label_timestamp", known)
        frauds = frauds.append_column("is_fraud", pa.array([True] * frauds.num_rows, pa.bool_()))
        frauds = frauds.append_column("label_source", pa.array(["chargeback"] * frauds.num_rows, pa.string()))
        labels = contract.labels_schema()
        self.labels = frauds.select(labels.names).cast(labels)
        self.features = compute_features(
            self.rows, self.labels, contract,
            start=contract.month_start(self.months[0]), end=contract.month_end(self.months[-1]),
        )  # fmt: skip

    @property
    def stored(self) -> MonthRows:
        """All months, as the platform has them."""
        tables = {"raw_transactions": self.rows, "transaction_features": self.features, "fraud_labels": self.labels}
        last = self.months[-1]
        return MonthRows(
            {
                Needed(name, tuple(rows.column_names), self.contract.first_month, last): rows
                for name, rows in tables.items()
            },
            self.contract,
        )

    def report(self, month: str | None = None, earlier: Mapping[str, EarlierReport] | None = None) -> MonthReport:
        """The report of a month, the last one when none is named, without a champion."""
        month = month or self.months[-1]
        stored = self.stored.until(month)
        first, columns = self.contract.first_month, tuple(self.features.column_names)
        moments = stored.of(Needed("raw_transactions", ("event_timestamp",), first, month))["event_timestamp"]
        subject = Subject(
            month=month, current=stored.of(Needed("transaction_features", columns, month, month)), champion=None,
            first_event=pc.min(moments).as_py(), earlier=earlier or {}, contract=self.contract,
        )  # fmt: skip
        return report_month(plan_report(subject, stored), stored, config=DriftConfig(), costs=Costs())
