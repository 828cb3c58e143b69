"""A model as of a month's end, from the months that are stored: the one way, for the graph and for a backtest.

How a model is trained belongs to `training.py`; where rows come from and where the model goes, to the callers.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import forced_texts, model_columns
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.pass_through import learning_weights
from fraud_assets.core.models.scoring import ModelManifest, digest_model, score_shares
from fraud_assets.core.models.training import Candidate, TrainingResult, train
from fraud_assets.core.models.training_config import TrainingConfig


def train_month(
    month: str,
    features: pa.Table,
    statements: pa.Table,
    contract: Contract,
    config: TrainingConfig,
    *,
    workers: int = 1,
    drawn: pa.Table | None = None,
) -> TrainingResult:
    """Trains with what was known at a month's end.

    Args:
        month: which; nothing that became known after its end is used.
        features: rows of `transaction_features`, of the months of `windows.training_months`.
        statements: rows of `fraud_labels` of the same months.
        contract: of the source.
        config: how models are trained.
        workers: processes that may fit at once.
        drawn: what could be let through at random while it was scored, as `pass_through.learning_weights` takes it.

    Raises:
        TrainingError: when too little has matured.
    """
    labels = _known(month, features, statements, contract)
    return train(
        features,
        labels,
        model_columns(contract),
        maturity_days=contract.maturity_days,
        config=config,
        card=contract.card,
        forced=forced_texts(contract),
        workers=workers,
        weights=None if drawn is None else learning_weights(labels, drawn),
    )


def training_frame(
    month: str, features: pa.Table, statements: pa.Table, contract: Contract, *, drawn: pa.Table | None = None
) -> pa.Table:
    """The rows that `train_month` learns from: matured ones, with their labels as they were known at the month's end.

    Args:
        month: as of `train_month`, as all the others.
        features: likewise.
        statements: likewise.
        contract: likewise.
        drawn: likewise.

    Returns:
        The columns of `features`, then `is_fraud`, `label_timestamp` and `label_source`; and `weight`, for how many a
        row counts, where that is not the same for all.
    """
    labels = _known(month, features, statements, contract)
    frame = features
    for name in ("is_fraud", "label_timestamp", "label_source"):
        frame = frame.append_column(name, labels[name])
    weights = None if drawn is None else learning_weights(labels, drawn)
    if weights is None:
        return frame.filter(labels["is_matured"])
    frame = frame.append_column("weight", pa.array(weights))
    return frame.filter(pc.and_(labels["is_matured"], pc.greater(frame["weight"], 0)))


def _known(month: str, features: pa.Table, statements: pa.Table, contract: Contract) -> pa.Table:
    """The labels as they were known at a month's end."""
    return labels_as_of(
        features,
        statements,
        contract.month_end(month),
        maturity_days=contract.maturity_days,
        blank=contract.label.blank,
    )


def manifest_of(
    candidate: Candidate,
    result: TrainingResult,
    onnx: bytes,
    *,
    name: str,
    version: int,
    month: str,
    contract: Contract,
    contract_yaml: str,
) -> ModelManifest:
    """What travels with a trained model.

    Args:
        candidate: one of the result's.
        result: of `train_month`.
        onnx: the candidate's estimator as it is served.
        name: of the model, as the registry calls it.
        version: likewise.
        month: at whose end it was trained.
        contract: of the source.
        contract_yaml: its text.
    """
    return ModelManifest(
        model_name=name,
        model_version=version,
        trained_month=month,
        as_of=contract.month_end(month).isoformat(),
        features=result.encoder.inputs,
        encoder=result.encoder,
        threshold=candidate.threshold,
        family=candidate.family,
        contract_yaml=contract_yaml,
        model_digest=digest_model(onnx),
        metrics=candidate.validation_metrics(),
        training_from=result.training_from,
        training_to=result.training_to,
        rule=candidate.rule,
        # The validation's rows are scored by the chosen one alone.
        score_shares=score_shares(result.validation["score"].to_numpy()) if candidate is result.chosen else None,
    )
