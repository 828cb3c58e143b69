"""`quarantined_transactions`, `delivered_labels` and `raw_transactions`: a month's delivery after the contract."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pyarrow as pa

from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.adapters.retries import retried
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.intake.accept import Intake
from fraud_assets.core.labels.as_of import fraud_rate_of
from fraud_assets.core.lineage.tables.table import TIMESTAMP
from fraud_assets.core.reasons import Reason
from fraud_assets.defs.partitions import MONTHS, RANGE_IN_ONE_RUN, describe, month_column, picture
from fraud_assets.defs.resources import Platform
from fraud_assets.pages import plots
from fraud_assets.workflows.arrivals import Arrival, arriving, months_with_ids_of, remember_ids

with warnings.catch_warnings():
    # Partitioned checks are a preview in dagster 1.13; goes when they are not.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    CHECKS = [
        dg.AssetCheckSpec(name, asset="raw_transactions", description=description, partitions_def=MONTHS)
        for name, description in (
            ("keeps_contract", "No delivered row broke the contract."),
            ("nothing_lost", "Every delivered row is stored or in quarantine."),
            ("ids_are_new", "No stored later month has a transaction id of this month."),
        )
    ]


@dg.multi_asset(
    outs={
        # First, so that a bad row is safe before the month without it becomes visible.
        "quarantined_transactions": dg.AssetOut(
            description="One row is one delivered row that broke the contract, with its reasons and original values. "
            "For the owner of the source.",
            **describe("quarantined_transactions", "transactions", {"postgres"}),
        ),
        "delivered_labels": dg.AssetOut(
            description="One row is one label that came with a transaction, with the time at which it became known. "
            "For `fraud_labels`, which puts each label into the month in which it became known.",
            **describe("delivered_labels", "transactions", {"postgres"}),
        ),
        "raw_transactions": dg.AssetOut(
            description="One row is one transaction as delivered, with the platform's column names and times in UTC. "
            "For all later steps. Labels become known later and are in `fraud_labels`.",
            **describe("raw_transactions", "transactions", {"postgres"}),
        ),
    },
    partitions_def=MONTHS,
    backfill_policy=RANGE_IN_ONE_RUN,
    check_specs=CHECKS,
)
@retried
def raw_transactions(
    context: dg.AssetExecutionContext, platform: Platform
) -> Iterator[dg.Output[Mapping[str, Any]] | dg.AssetCheckResult]:
    """Reads months from the source and splits their rows into accepted and quarantined."""
    with arriving(platform.source, platform.store, list(context.partition_keys)) as arrivals:
        intakes = {month: arrival.intake for month, arrival in arrivals.items()}
        inputs = {month: arrival.inputs for month, arrival in arrivals.items()}
        quarantined = {
            month: month_column(intake.quarantined, [month] * intake.quarantined.num_rows)
            for month, intake in intakes.items()
        }
        labels = {month: intake.statements for month, intake in intakes.items()}
        yield dg.Output(quarantined, "quarantined_transactions", metadata={**_reasons(intakes), "inputs": inputs})
        yield dg.Output(labels, "delivered_labels", metadata={"inputs": inputs})
        yield dg.Output(
            _Streams(arrivals), "raw_transactions", metadata={**_figures(intakes, platform.contract), "inputs": inputs}
        )
        remember_ids(platform.store, intakes)
        yield from _checks(platform.store, intakes)


class _Streams(dict[str, pa.RecordBatchReader]):
    """The months' rows as streams, each opened when it is asked for."""

    def __init__(self, arrivals: Mapping[str, Arrival]) -> None:
        super().__init__()
        # The clock enters here, not in core: when a row was taken in is no property of the row.
        self._arrivals, self._now = arrivals, pa.scalar(datetime.now(UTC), TIMESTAMP)

    def __missing__(self, month: str) -> pa.RecordBatchReader:
        rows = self._arrivals[month].intake.transactions()
        schema = rows.schema.append(pa.field("ingested_at", TIMESTAMP, nullable=False))
        return pa.RecordBatchReader.from_batches(
            schema,
            (pa.record_batch([*batch.columns, pa.repeat(self._now, batch.num_rows)], schema=schema) for batch in rows),
        )


def _reasons(intakes: Mapping[str, Intake]) -> dict[str, Any]:
    reasons = sum((Counter(intake.reason_counts) for intake in intakes.values()), Counter())
    counts = {one.text: float(rows) for one, rows in reasons.most_common()}
    return {"plot": picture(plots.bars(counts, "Quarantined rows by reason")), "reasons": _counted(reasons)}


def _counted(reasons: Mapping[Reason, int]) -> list[dict[str, Any]]:
    """Reasons as plain values, each with its number of rows."""
    return [one.to_dict() | {"rows": rows} for one, rows in reasons.items()]


def _labelled(stated: pa.Table, n: int, contract: Contract) -> dict[str, Any]:
    """The fraud rate, and of how many where not all have a label."""
    rate = {"fraud_rate": fraud_rate_of(stated, n, contract) or 0.0}
    return rate | {"n_labelled": stated.num_rows} if contract.label.blank == "unknown" else rate


def _figures(intakes: Mapping[str, Intake], contract: Contract) -> dict[str, Any]:
    days = sum((Counter(intake.daily_counts) for intake in intakes.values()), Counter())
    stated = pa.concat_tables([intake.statements for intake in intakes.values()])
    return {
        "plot": picture(plots.daily_counts(days, "Transactions a day", stated["event_timestamp"])),
        "n_delivered": sum(intake.n_delivered for intake in intakes.values()),
        **_labelled(stated, days.total(), contract),
        "quarantined": sum(intake.quarantined.num_rows for intake in intakes.values()),
    }


def _checks(store: MonthStore, intakes: Mapping[str, Intake]) -> Iterator[dg.AssetCheckResult]:
    bad = {month: _counted(intake.reason_counts) for month, intake in intakes.items() if intake.quarantined.num_rows}
    yield _result("keeps_contract", not bad, dg.AssetCheckSeverity.WARN, {"reasons": bad})
    rows = {
        month: {"delivered": intake.n_delivered}
        | {name: store.count(name, month) for name in ("raw_transactions", "quarantined_transactions")}
        for month, intake in intakes.items()
    }
    lost = {month: counts for month, counts in rows.items() if 2 * counts["delivered"] != sum(counts.values())}
    yield _result("nothing_lost", not lost, dg.AssetCheckSeverity.ERROR, {"rows": rows})
    later = {month: months for month, intake in intakes.items() if (months := months_with_ids_of(store, month, intake))}
    said = "; ".join(f"{', '.join(months)} has ids of {month}: run it again" for month, months in later.items())
    yield _result("ids_are_new", not later, dg.AssetCheckSeverity.WARN, {"months": later}, said or None)


def _result(
    name: str, passed: bool, severity: dg.AssetCheckSeverity, metadata: dict[str, Any], said: str | None = None
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key="raw_transactions",
        check_name=name,
        passed=passed,
        severity=severity,
        metadata=metadata,
        description=said,
    )
