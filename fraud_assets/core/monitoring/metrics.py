"""What the platform tells Prometheus of itself: names, what they mean, and values from rows that were read.

No name, no identifier and no amount of anybody is among them. Reading the rows belongs to `workflows/monitoring.py`,
the text format and HTTP to `adapters/prometheus`. The service has metrics of its own (`bentos/fraud_scorer`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, get_args

from fraud_assets.core.drift.findings import DriftStatus

# Months of which the labels are told apart: older ones are matured by far.
NEWEST_MONTHS = 3
PREFIX = "fraud_platform_"

# Of a time, the age is what a query makes of it (`time() - ...`): it grows although nobody reads anything.
METRICS = {
    "readable": "1 when everything could be read from the database, 0 when not; then all others are absent.",
    "info": "1; with the contract and the version of the platform.",
    "months": "Months that are stored, by table.",
    "newest_month_end_timestamp_seconds": "End of the newest month that is stored, by table.",
    "written_timestamp_seconds": "When a month was last written, by table.",
    "stale_months": "Months that are stale, by table.",
    "months_to_run": "Months that are over, delivered and not run yet.",
    "waits_for_month_end_timestamp_seconds": "End of the month that is over and not delivered; absent without one.",
    "source_readable": "1 when the source could be asked for its months, 0 when not.",
    "transactions": "Transactions of a month, of the newest months.",
    "matured_transactions": "Of these, those that are old enough for their labels to count.",
    "known_frauds": "Transactions of a month that are known to be fraud by now, of the newest months.",
    "quarantined_transactions": "Rows in quarantine that nobody has decided on, of the newest months.",
    "newest_label_timestamp_seconds": "When the newest label became known.",
    "drift_status": "1 for the status of the newest drift report, 0 for the others.",
    "drift_month_end_timestamp_seconds": "End of the month that the newest drift report is about.",
    "drift_findings": "Findings of the newest drift report, by status.",
    "champion_version": "Version of the live model; absent when nothing is live.",
    "champion_since_timestamp_seconds": "When the ledger recorded that it is live.",
    "champion_month_end_timestamp_seconds": "End of the last month that the live model was trained on.",
    "ledger_rows": "Rows of the ledger.",
    "ledger_intact": "1 when the ledger is as it was written, 0 when not.",
    "waiting_versions": "Versions that wait for a person's approval.",
    "waiting_until_timestamp_seconds": "When the first of these approvals runs out; absent when nothing waits.",
    "average_precision": "Average precision in the newest evaluation, by role.",
    "realised_month_end_timestamp_seconds": "End of the month in which the realised figures matured.",
    "realised_scored": "Transactions that were scored and matured in the newest month, by model version.",
    "realised_labelled": "Of these, those whose truth is known.",
    "realised_frauds": "Frauds among the labelled.",
    "realised_average_precision": "Average precision of what the service answered, by model version.",
    "realised_average_precision_low": "Lower end of its 95 % interval.",
    "realised_average_precision_high": "Upper end of its 95 % interval.",
    "realised_precision": "Share of the flagged that were fraud, by model version.",
    "realised_recall": "Share of the frauds that were flagged, by model version.",
    "realised_expected_over_observed": "Sum of probabilities over frauds seen; 1 when calibrated, by model version.",
    "realised_cost": "Cost of reviews and missed frauds in the newest month, by model version.",
    "realised_cost_without_review": "Cost had nobody been reviewed, by model version.",
    "serving_skew_largest_share": "Largest share of transactions of which the service saw another value than training, "
    "over features, by model version.",
    "runs": "Runs that Dagster has, by status.",
    "last_run_timestamp_seconds": "End of the newest run, by status; its start while it goes on.",
    "dead_runs": "Runs that count as running and lost their process.",
    "scores_waiting": "Scores that running services have not brought to the database yet.",
    "scores_spool_bytes": "Bytes of scores on disk.",
    "scores_lost": "Scores that are nowhere.",
    "last_score_timestamp_seconds": "When the newest score that is kept was made.",
    "backups": "Backups in FRAUD_BACKUP_FOLDER; absent when it is not set, as the two below.",
    "backup_timestamp_seconds": "When the newest of them was made.",
    "backup_bytes": "Its size.",
    "read_seconds": "Seconds that reading all this took.",
}
REALISED = {
    "realised_scored": "n",
    "realised_labelled": "n_labelled",
    "realised_frauds": "n_fraud",
    "realised_average_precision": "average_precision",
    "realised_average_precision_low": "average_precision_low",
    "realised_average_precision_high": "average_precision_high",
    "realised_precision": "precision_at_threshold",
    "realised_recall": "recall_at_threshold",
    "realised_expected_over_observed": "expected_over_observed",
    "realised_cost": "cost",
    "realised_cost_without_review": "cost_without_review",
}


@dataclass(frozen=True)
class Sample:
    """One value of a metric.

    Attributes:
        metric: its name in `METRICS`.
        value: a number.
        labels: by name.
    """

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"{self.metric!r} is no metric; declare it in METRICS")


def month_samples(
    stored: Mapping[str, Sequence[str]], written: Mapping[str, datetime], month_end: Callable[[str], datetime]
) -> Iterator[Sample]:
    """How much there is of each table, and how new.

    Args:
        stored: the months of each table, in order.
        written: when a month of it was last written.
        month_end: of the contract.
    """
    for table, months in stored.items():
        labels = {"table": table}
        yield Sample("months", len(months), labels)
        if months:
            yield Sample("newest_month_end_timestamp_seconds", month_end(months[-1]).timestamp(), labels)
        if table in written:
            yield Sample("written_timestamp_seconds", written[table].timestamp(), labels)


def drift_samples(rows: Sequence[Mapping[str, Any]], end: datetime) -> Iterator[Sample]:
    """The verdict and the findings of a month's drift report; `end` is the month's."""
    (verdict,) = (row["drift_status"] for row in rows if row["kind"] == "verdict")
    found = [row["drift_status"] for row in rows if row["kind"] != "verdict"]
    yield Sample("drift_month_end_timestamp_seconds", end.timestamp())
    for status in get_args(DriftStatus):
        yield Sample("drift_status", status == verdict, {"status": status})
        yield Sample("drift_findings", found.count(status), {"status": status})


def evaluation_samples(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    """How good the models were in a month's evaluation."""
    for row in rows:
        if row["average_precision"] is not None:
            yield Sample("average_precision", row["average_precision"], {"role": row["role"]})


def realised_samples(rows: Iterable[Mapping[str, Any]], end: datetime) -> Iterator[Sample]:
    """What a month's scores came to; of each version all of them together. `end` is the month's."""
    whole = [row for row in rows if row["segment"] == "all"]
    if whole:
        yield Sample("realised_month_end_timestamp_seconds", end.timestamp())
    for row in whole:
        labels = {"model_version": str(row["model_version"])}
        for metric, column in REALISED.items():
            if row[column] is not None:
                yield Sample(metric, row[column], labels)


def skew_samples(rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    """Of each version, the feature that differs most."""
    largest: dict[int, float] = {}
    for row in rows:
        if (share := row["skewed_share"]) is not None:
            largest[row["model_version"]] = max(share, largest.get(row["model_version"], 0.0))
    for version, share in sorted(largest.items()):
        yield Sample("serving_skew_largest_share", share, {"model_version": str(version)})
