"""What was behind the score of a stored transaction: the model that was live, its features, its label, and reasons.

The score is computed again from what is stored, by the model that the ledger says was live in the transaction's month.
What moves a score, and in what words, belongs to `core/explanations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.mlflow import Registry
from fraud_assets.adapters.people.removed import removed_in_words
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import Event, champion_event
from fraud_assets.core.explanations.reason_codes import Explanation, ReasonWriter
from fraud_assets.core.features.declarations import feature_descriptions
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.models.scoring import ModelManifest, Scorer
from fraud_assets.core.months import month_of
from fraud_assets.core.reasons import joined

TRANSACTION = "SELECT * FROM raw_transactions WHERE transaction_id = $1"
STATEMENTS = "SELECT * FROM fraud_labels WHERE transaction_id = $1 ORDER BY label_timestamp, label_source"


@dataclass(frozen=True)
class LiveModel:
    """The model behind a decision.

    Attributes:
        version: of the registry.
        digest: SHA-256 of its ONNX bytes.
        family: its kind.
        trained_month: at whose end it was trained.
        labels_as_of: what became known after this moment, it did not learn from.
        training_from, training_to: the first and last transaction that it learned from.
        threshold: from which score on a transaction is reviewed.
        since_month: the month on whose evidence it became live; None where it was asked for and was not live.
        why: what the ledger says of that.
    """

    version: int
    digest: str
    family: str
    trained_month: str
    labels_as_of: str
    training_from: datetime | None
    training_to: datetime | None
    threshold: float
    since_month: str | None
    why: str | None


@dataclass(frozen=True)
class FeatureValue:
    """A feature of the transaction.

    Attributes:
        feature: its name.
        value: what it was; None where it was not known.
        attribution: by how much it moved the raw score; None without an explanation.
        text: the value in words; None likewise.
        meaning: what the feature is.
    """

    feature: str
    value: float | str | None
    attribution: float | None
    text: str | None
    meaning: str | None


@dataclass(frozen=True)
class ExplainedDecision:
    """What was behind a score.

    Attributes:
        transaction: as it is stored, by column.
        month: its month.
        model: which scored it; None where none was live.
        why_no_model: a sentence then.
        score, decision: of the model.
        unit, base, raw_score: of the explanation, see `Explanation`; None without one.
        not_explained: why there is none; None where there is.
        features: what the model saw, what moved the score most first.
        label: what was known of the transaction at its month's end, and what is known by what is stored now, each with
            `as_of`, `is_fraud` (None: not known), `known_since` and `source`.
        statements: every statement about it, oldest first.
    """

    transaction: dict[str, Any]
    month: str
    model: LiveModel | None
    why_no_model: str | None
    score: float | None
    decision: str | None
    unit: str | None
    base: float | None
    raw_score: float | None
    not_explained: str | None
    features: tuple[FeatureValue, ...]
    label: dict[str, dict[str, Any]]
    statements: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def explain_decision(
    store: MonthStore, ledger: LedgerStore, registry: Registry, transaction_id: str, *, version: int | None = None
) -> ExplainedDecision:
    """Explains the decision about a stored transaction.

    Args:
        store: the tables.
        ledger: says what was live.
        registry: of the models.
        transaction_id: as the source writes it.
        version: another model than the one that was live.

    Raises:
        ValueError: when the transaction is not stored, its features are not, or the version is not registered.
    """
    row = _transaction(store, transaction_id)
    month = month_of(row["event_timestamp"].astimezone(store.contract.zone))
    event = champion_event(ledger.events(), before_month=month)
    features = _features(store, month, row)
    label, statements = _label(store, row, month)
    if version is None and event is None:
        why = f"no model was live in {month}: none had been promoted on the evidence of an earlier month"
        seen = tuple(
            FeatureValue(name, value, None, None, meaning)
            for name, meaning in feature_descriptions(store.contract).items()
            if (value := _plain(features[name].to_pylist()[0])) is not None
        )
        return ExplainedDecision(
            row, month, None, why, None, None, None, None, None, None, seen, label, statements
        )  # fmt: skip
    wanted = version if version is not None else event.model_version if event is not None else 0
    scorer = Scorer(*registry.fetch(wanted))
    scored = scorer.score_table(features)
    writer = ReasonWriter(scorer)
    told: Explanation | None = None
    if writer.is_able:
        (told,) = writer.of_table(features, scored["score"].to_numpy(), len(scorer.manifest.features))
    return ExplainedDecision(
        transaction=row,
        month=month,
        model=_model(scorer.manifest, event if event is not None and event.model_version == wanted else None),
        why_no_model=None,
        score=scored["score"][0].as_py(),
        decision=scored["decision"][0].as_py(),
        unit=told.unit if told else None,
        base=told.base if told else None,
        raw_score=told.raw_score if told else None,
        not_explained=writer.why_not,
        features=_seen(scorer.manifest, features, told),
        label=label,
        statements=statements,
    )


def _transaction(store: MonthStore, transaction_id: str) -> dict[str, Any]:
    """The stored row with an id."""
    kind = store.contract.transaction_id_type
    try:
        wanted = int(transaction_id) if pa.types.is_integer(kind) else transaction_id
    except ValueError as error:
        raise ValueError(
            f"{transaction_id!r} is no id of a transaction: contract {store.contract.name} has whole numbers"
        ) from error
    found = []
    if store.exists("raw_transactions"):
        found = store.database.query(TRANSACTION, [wanted]).to_pylist()
    if not found:
        removed = removed_in_words(store.removed())
        raise ValueError(
            f"no transaction {transaction_id!r} is stored; its month may not have been run, or it waits in quarantine "
            f"(`fraud quarantine list`){f'; and {removed}' if removed else ''}"
        )
    return dict(found[0])


def _features(store: MonthStore, month: str, row: dict[str, Any]) -> pa.Table:
    """The features of a transaction as they are stored, one row."""
    if month not in store.months("transaction_features"):
        raise ValueError(f"transaction_features has no {month} yet; `fraud run --from {month} --to {month}` makes it")
    rows = store.read("transaction_features", first_month=month, last_month=month)
    found = rows.filter(pc.equal(rows["transaction_id"], row["transaction_id"]))
    if found.num_rows == 0:
        raise ValueError(
            f"transaction {row['transaction_id']!r} has no features: transaction_features of {month} is older than it; "
            f"`fraud refresh`, or `fraud run --from {month} --to {month}`, makes them"
        )
    return found


def _label(store: MonthStore, row: dict[str, Any], month: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What was, and is, known of a transaction."""
    contract = store.contract
    schema = contract.labels_schema()
    stated = schema.empty_table()
    if store.exists("fraud_labels"):
        stated = store.database.query(STATEMENTS, [row["transaction_id"]]).select(schema.names).cast(schema)
    about = pa.table(
        {
            "transaction_id": pa.array([row["transaction_id"]], contract.transaction_id_type),
            "event_timestamp": pa.array([row["event_timestamp"]], pa.timestamp("us", tz="UTC")),
        }
    )
    newest = max(store.months("fraud_labels"), default=month)
    known = {}
    for name, at in (("at_month_end", month), ("now", newest)):
        as_of = contract.month_end(at)
        (said,) = labels_as_of(
            about, stated, as_of, maturity_days=contract.maturity_days, blank=contract.label.blank
        ).to_pylist()  # fmt: skip
        known[name] = {
            "as_of": as_of,
            "is_fraud": said["is_fraud"],
            "known_since": said["label_timestamp"],
            "source": said["label_source"],
        }
    return known, stated.select(["label_timestamp", "is_fraud", "label_source"]).to_pylist()


def _model(manifest: ModelManifest, event: Event | None) -> LiveModel:
    return LiveModel(
        version=manifest.model_version,
        digest=manifest.model_digest,
        family=manifest.family,
        trained_month=manifest.trained_month,
        labels_as_of=manifest.as_of,
        training_from=manifest.training_from,
        training_to=manifest.training_to,
        threshold=manifest.threshold,
        since_month=event.month if event else None,
        why=joined(event.reasons) if event else None,
    )


def _seen(manifest: ModelManifest, features: pa.Table, told: Explanation | None) -> tuple[FeatureValue, ...]:
    """The features that the model saw, what moved the score most first, then the others as the model has them."""
    (values,) = features.select(list(manifest.features)).to_pylist()
    meanings = feature_descriptions(manifest.contract)
    reasons = {one.feature: one for one in told.reasons} if told else {}
    order: Sequence[str] = [*reasons, *(name for name in manifest.features if name not in reasons)]
    return tuple(
        FeatureValue(
            name,
            _plain(values[name]),
            reasons[name].attribution if name in reasons else 0.0 if told else None,
            reasons[name].text if name in reasons else None,
            meanings.get(name),
        )
        for name in order
    )


def _plain(value: Any) -> float | str | None:
    """NaN is no value, and no JSON."""
    return None if value is None or value != value else value
