"""The findings of a month's drift report, and its verdict."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.table import AS_JSON, Table, column, first_of_month

DRIFT_NUMBERS = {
    "psi": "Population stability index of the values before and now; 0 and up.",
    "jensen_shannon": "Jensen-Shannon distance (base 2) of the values before and now; 0 to 1.",
    "total_variation": "Share of rows that sit in another bin than before; 0 to 1.",
    "statistic": "The test's statistic.",
    "p_value": "Chance of such a statistic if nothing moved, for this row alone; 0 to 1.",
    "p_adjusted": "The same, adjusted for all findings that were tested together; 0 to 1.",
    "missing_reference": "Share of rows without a value before; 0 to 1.",
    "missing_current": "Share of rows without a value in the month; 0 to 1.",
    "median_reference": "Median before, in the column's unit.",
    "median_current": "Median in the month, in the column's unit.",
    "value_reference": "What was measured before, where it is a figure of its own: a fraud rate, days, an AP.",
    "value_current": "The same in the month.",
    "value_low": "The lower end of value_current's 90 % interval.",
    "value_high": "The upper end of value_current's 90 % interval.",
}


def drift_report(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per finding (`drift/findings.py`), and one row, kind `verdict`, for the month."""
    columns = [
        first_of_month("that is reported on"),
        column(
            "kind",
            pa.string(),
            "What is looked at: covariate, missing, category and multivariate (what comes in), prediction (scores), "
            "label, concept (scores against labels), estimate (before labels); or verdict, the row of the whole month.",
            nullable=False,
        ),
        column(
            "feature",
            pa.string(),
            "The column, or the name of what was measured; empty for the verdict.",
            nullable=False,
        ),
        column("segment", pa.string(), "The part of the month, as in merchant_segment=travel; empty for all of it."),
        column("method", pa.string(), "The test or the estimator, or none; empty for the verdict.", nullable=False),
        column("drift_status", pa.string(), "OK, WATCH, DRIFT or INSUFFICIENT_DATA.", nullable=False),
        column(
            "cause", pa.string(), "What the change looks like, where something moved: scaled, new_category, volume ..."
        ),
        column("blame", pa.string(), "Of the verdict: world, data or labels; empty where nothing is wrong."),
        column("since", pa.date32(), "The first day on which the change is seen."),
        column("reason", pa.string(), "The row's result in words; empty for the verdict.", nullable=False),
        column("reasons", pa.string(), f"Of the verdict: why, {AS_JSON}; a finding's rule is its kind."),
        column("n_reference", pa.int64(), "Rows before that were compared."),
        column("n_current", pa.int64(), "Rows of the month that were compared."),
        *(column(name, pa.float64(), said) for name, said in DRIFT_NUMBERS.items()),
        column(
            "champion_version", pa.int64(), "Registry version of the model that was live; empty when there was none."
        ),
        column("reference_from", pa.string(), "First day of what the month is compared with, YYYY-MM-DD."),
        column("reference_to", pa.string(), "First day after what the month is compared with, YYYY-MM-DD."),
        column(
            "pictures",
            pa.string(),
            "Of the verdict: what the report's page draws, as JSON; empty in months from before it was kept.",
        ),
    ]
    return Table.of("drift_report", "monitoring", columns, "month", order=("month", "kind", "feature", "segment"))
