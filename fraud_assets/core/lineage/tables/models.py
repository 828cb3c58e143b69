"""A month's model, what was decided about it, and the package of the one that was live."""

from __future__ import annotations

import pyarrow as pa

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.lineage.tables.table import AS_JSON, TIMESTAMP, Table, column, first_of_month, with_intervals
from fraud_assets.core.models.decision_rule import PROMISED

PROMISES = {
    "promised_alerts_per_day": "cards a day that the threshold promises to review, on average",
    "promised_recall": "share of the frauds that the threshold promises to flag; 0 to 1",
    "promised_value_detection_rate": "share of the fraud amount that the threshold promises to flag; 0 to 1, empty "
    "without amounts",
    "promised_expected_cost": "cost a day that the threshold promises, in the currency of the amounts",
    "promised_cost_without_review": "cost a day if nobody were reviewed, on the validation rows",
}


def trained_model(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the model trained with what was known at the month's end."""
    columns = [
        first_of_month("at whose end the model was trained"),
        column(
            "as_of", TIMESTAMP, "The month's end, in UTC: nothing that became known later was used.", nullable=False
        ),
        column("status", pa.string(), "trained, or insufficient_data.", nullable=False),
        column("reason", pa.string(), "Why this model was chosen, or why there is none.", nullable=False),
        column("model_name", pa.string(), "Name in the MLflow registry."),
        column("model_version", pa.int64(), "Version in the MLflow registry; empty without a model, as all below."),
        column("mlflow_run_id", pa.string(), "The MLflow run that logged the training."),
        column("family", pa.string(), "Kind of model, such as gradient_boosting or logistic_regression."),
        column("training_from", TIMESTAMP, "Time of the first transaction that was learned from, in UTC."),
        column("training_to", TIMESTAMP, "Time of the last one, in UTC."),
        column("n", pa.int64(), "Matured transactions that were learned from."),
        column("n_fraud", pa.int64(), "Frauds among them."),
        column(
            "validation_average_precision", pa.float64(), "Average precision on the out-of-time validation; 0 to 1."
        ),
        column("threshold", pa.float64(), "Transactions that score at or above it are reviewed; 0 to 1."),
        column("model_digest", pa.string(), "SHA-256 of the ONNX model that is served."),
        column("inputs_digest", pa.string(), "SHA-256 of what it was made of; the same inputs keep the same version."),
        column("rule", pa.string(), "How the threshold was chosen, as a sentence."),
        *with_intervals({name: PROMISES[name] for name in (f"promised_{name}" for name in PROMISED)}),
    ]
    return Table.of("trained_model", "models", columns, "month", order=("month",))


def champion(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the promotion decision at the month's end, and what was live after it."""
    columns = [
        first_of_month("at whose end it was decided"),
        column(
            "validation_status",
            pa.string(),
            "Of the challenger: passed, failed, inconclusive or insufficient_data.",
            nullable=False,
        ),
        column("promoted", pa.bool_(), "Whether the challenger became champion.", nullable=False),
        column("reasons", pa.string(), f"What is against a promotion, or for it, {AS_JSON}.", nullable=False),
        column("challenger_version", pa.int64(), "Registry version of the challenger; empty without one."),
        column("champion_version", pa.int64(), "Registry version that is live after the decision; empty without one."),
    ]
    return Table.of("champion", "serving", columns, "month", order=("month",))


def fraud_bento(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the package of the model that was live at the month's end."""
    columns = [
        first_of_month("at whose end the model was live"),
        column("model_version", pa.int64(), "Registry version of the model in the bento; empty when none was live."),
        column(
            "bento_tag", pa.string(), "Name and version of the bento, for `bentoml serve`; the version is its content."
        ),
        column("model_digest", pa.string(), "SHA-256 of the ONNX model in it."),
    ]
    return Table.of("fraud_bento", "serving", columns, "month", order=("month",))
