"""What the service answered, how good it turned out to be, and whether its features are those of the batch."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.personal import personal_columns
from fraud_assets.core.lineage.tables.table import TIMESTAMP, Table, column, first_of_month, with_intervals
from fraud_assets.core.lineage.tables.transactions import transaction_columns


def scored_transactions(contract: Contract) -> Table:
    """What the service answered: one row a transaction and model version."""
    said = transaction_columns(contract)
    personal = ", ".join(name for name in personal_columns(contract)) or "nobody"
    columns = [
        column("number", pa.int64(), "Only grows: who reads along asks for what came after the last.", nullable=False),
        column("transaction_id", pa.string(), f"{said['transaction_id']} As text.", nullable=False),
        column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        column("event_timestamp", TIMESTAMP, "When the transaction happened, in UTC.", nullable=False),
        column("scored_at", TIMESTAMP, "When it was answered, in UTC.", nullable=False),
        column(
            "transaction",
            pa.string(),
            f"The contract's other columns, as JSON by name; personal in it: {personal}.",
            nullable=False,
        ),
        column("raw_score", pa.float64(), "The model's own result before calibration: log odds, or a forest's share."),
        column("probability", pa.float64(), "Probability of fraud that was answered; 0 to 1.", nullable=False),
        column("threshold", pa.float64(), "Probability from which the model would have it reviewed.", nullable=False),
        column("decision", pa.string(), "The model's: review or approve.", nullable=False),
        column(
            "pass_through_probability",
            pa.float64(),
            "Chance that it was let through although it would be reviewed; 0 where it could not be.",
            nullable=False,
        ),
        column("passed_through", pa.bool_(), "Whether it was, and the answer was approve.", nullable=False),
        column("features", pa.string(), "The model's features as they were then, as JSON by name.", nullable=False),
        column("answered", pa.string(), "What was answered: approve, review or decline; empty before rules were."),
        column("decided_by", pa.string(), "Who decided: model, rule NAME@VERSION, list NAME, pass_through or breaker."),
        column("role", pa.string(), "Who answered: champion or challenger; empty of scores from before challengers."),
        column("more_features", pa.string(), "Further features, that challengers took; as JSON by name, or empty."),
    ]
    return Table.of(
        "scored_transactions",
        "serving",
        columns,
        "event_timestamp",
        order=("event_timestamp", "transaction_id", "model_version"),
        personal=("transaction",) if personal_columns(contract) else (),
    )


def model_performance(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, model version and part of what it scored: all, a day, a segment; see `realised.py`."""
    weighted = "of all that had a chance to go through, from what did; empty where nothing was let through"
    columns = [
        first_of_month("in which the transactions matured"),
        column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        column(
            "segment",
            pa.string(),
            "all; date, for each day; an attribute, amounts, weekends; or not_matured, what came after the window.",
            nullable=False,
        ),
        column(
            "value", pa.string(), "The part: a day, or a value such as travel; rare ones are (other).", nullable=False
        ),
        column("value_range", pa.string(), "For bands of a number, the numbers in them."),
        column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC.", nullable=False),
        column("window_to", TIMESTAMP, "End of the window, in UTC; not part of it.", nullable=False),
        column("n", pa.int64(), "Transactions that were scored.", nullable=False),
        column("n_flagged", pa.int64(), "Of these, what the model would have reviewed.", nullable=False),
        column("n_passed_through", pa.int64(), "Of these, what was let through all the same.", nullable=False),
        column("n_labelled", pa.int64(), "Transactions whose truth was known at the month's end.", nullable=False),
        column("labelled_share", pa.float64(), "n_labelled over n; 0 to 1.", nullable=False),
        column("n_fraud", pa.int64(), "Frauds among the labelled.", nullable=False),
        column("prevalence", pa.float64(), "n_fraud over n_labelled; 0 to 1."),
        *with_intervals({"average_precision": "average precision of the labelled; 0 to 1, by chance the prevalence"}),
        column("brier", pa.float64(), "Mean squared difference of probability and label; 0 to 1, lower is better."),
        column(
            "expected_over_observed",
            pa.float64(),
            "Sum of probabilities over frauds seen; 1 when calibrated, above 1 when they are too high.",
        ),
        column("precision_at_threshold", pa.float64(), "Share of the flagged that are fraud; 0 to 1."),
        column("recall_at_threshold", pa.float64(), "Share of the frauds that were flagged; 0 to 1."),
        column("cost", pa.float64(), "Of reviews and of frauds that went through, in the currency of the amounts."),
        column("cost_without_review", pa.float64(), "Of all frauds, had nobody been reviewed."),
        column("value_caught", pa.float64(), "Amount of the frauds that were held; empty without amounts."),
        column("fraud_value", pa.float64(), "Amount of all frauds; empty without amounts."),
        column("weighted_n", pa.float64(), f"Transactions {weighted}."),
        column("effective_n", pa.float64(), "As how many equally weighted rows the weighted figures are certain."),
        column("weighted_prevalence", pa.float64(), f"Share of frauds {weighted}; 0 to 1."),
        column("weighted_average_precision", pa.float64(), f"Average precision {weighted}; 0 to 1."),
        column("weighted_precision_at_threshold", pa.float64(), f"Precision {weighted}; 0 to 1."),
        column("weighted_expected_over_observed", pa.float64(), f"Expected over observed frauds {weighted}."),
        column("reason", pa.string(), "Why average precision has no interval, or nothing is known; else empty."),
    ]
    order = ("month", "model_version", "segment", "value")
    return Table.of("model_performance", "monitoring", columns, "month", order=order, key=order)


def serving_skew(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, model version and feature: as it was scored, against the batch; see `serving_skew.py`."""
    columns = [
        first_of_month("in which the transactions happened"),
        column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        column("feature", pa.string(), "The feature.", nullable=False),
        column("n_scored", pa.int64(), "Transactions of the month that the version scored.", nullable=False),
        column("n_matched", pa.int64(), "Of these, those that the batch has.", nullable=False),
        column("n_missing", pa.int64(), "Matched without a value when scored, and with one in the batch."),
        column("n_extra", pa.int64(), "Matched with a value when scored, and without one in the batch."),
        column("n_mismatch", pa.int64(), "Matched with another value; of numbers, by more than a millionth."),
        column("skewed_share", pa.float64(), "The three together over n_matched; 0 to 1."),
        column(
            "smape",
            pa.float64(),
            "Sum of absolute differences over the sum of absolute values of both; 0 (equal) to 1. Empty for texts.",
        ),
        column("largest_difference", pa.float64(), "The largest absolute difference. Empty for texts."),
        column("reason", pa.string(), "Why nothing could be compared; else empty."),
    ]
    order = ("month", "model_version", "feature")
    return Table.of("serving_skew", "monitoring", columns, "month", order=order, key=order)
