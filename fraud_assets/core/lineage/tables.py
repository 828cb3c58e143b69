"""The tables the assets materialise into: columns with what they mean, month column and indexes, as data.

How a table is written or read belongs to `adapters/postgres/months.py`; what its rows mean is said in the asset.
Descriptions are no part of the Arrow schema: they enter no digest and no comparison of schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.features.declarations import feature_descriptions, feature_types
from fraud_assets.core.intake.quarantine import QUARANTINED
from fraud_assets.core.models.decision_rule import PROMISED

TIMESTAMP = pa.timestamp("us", tz="UTC")
Layer = Literal["raw", "labels", "features", "monitoring", "models", "serving"]
# Words of the names of columns that hold personal data.
PERSONAL = {"email", "mail", "ip", "phone", "iban", "pan", "ssn", "passport", "surname", "firstname", "lastname"}
# Its rows, as they were delivered, may name anybody.
QUARANTINED_TABLE = "quarantined_transactions"
# How reasons are stored (`core/reasons.py`).
AS_JSON = "as JSON: a list of objects with rule, text (the sentence) and column"
# A column and what it means.
Described: TypeAlias = tuple[pa.Field, str]


@dataclass(frozen=True)
class Table:
    """A monthly-partitioned table.

    Attributes:
        name: the asset and the table.
        schema: its columns; `month_column` is among them.
        month_column: a timestamp or date column; a row belongs to the month its value lies in.
        order: columns that fix the order of rows, and with it the digest of a month.
        key: columns that name a row of a month, never missing and never shared by two; by them a row is found again
            in another version of the month. Empty where rows have no name.
        indexes: column lists that lookups need; built for the months that are looked up (`MonthStore.index_months`).
        volatile: columns that say when a row was written, and so are no part of the digest.
        by_range_only: whether there are many rows a month, so that reading all months must be asked for by name.
        layer: where it stands on the way from delivery to decision.
        descriptions: what each column means: unit, range, and when it is empty.
        personal: columns that name or describe a person, or may.
    """

    name: str
    schema: pa.Schema
    month_column: str
    order: tuple[str, ...]
    key: tuple[str, ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    volatile: tuple[str, ...] = ()
    by_range_only: bool = False
    layer: Layer | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
    personal: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, layer: Layer, columns: Sequence[Described], month_column: str, **more: Any) -> Self:
        """A table of described columns; `more` are further attributes."""
        schema = pa.schema([column for column, _ in columns])
        said = {column.name: text for column, text in columns}
        return cls(name, schema, month_column, layer=layer, descriptions=said, **more)

    @property
    def identifying(self) -> tuple[str, ...]:
        """The columns that tell whose row it is, or which: the personal ones, and the transaction's own name."""
        return tuple(name for name in self.schema.names if name in (*self.personal, "transaction_id"))

    @property
    def holds_people(self) -> bool:
        """Whether its rows are about persons or their transactions, and so go with age."""
        return self.name == QUARANTINED_TABLE or bool(self.identifying)

    def in_order(self, rows: pa.Table) -> bool:
        """Whether the rows are in the table's order; missing values come last."""
        before, after = rows.slice(0, max(rows.num_rows - 1, 0)), rows.slice(1)
        follows: pa.ChunkedArray = pa.chunked_array([pa.repeat(True, after.num_rows)])
        for column in reversed(self.order):
            one, other = before[column], after[column]
            less, equal = pc.less(one, other), pc.equal(one, other)
            if one.null_count or other.null_count:
                less = pc.fill_null(less, pc.and_(pc.is_valid(one), pc.is_null(other)))
                equal = pc.fill_null(equal, pc.and_(pc.is_null(one), pc.is_null(other)))
            follows = pc.or_(less, pc.and_(equal, follows))
        return bool(pc.all(follows, min_count=0).as_py())


# Columns


def _column(name: str, kind: pa.DataType, description: str, *, nullable: bool = True) -> Described:
    return pa.field(name, kind, nullable), description


def _month(meaning: str) -> Described:
    return _column("month", pa.date32(), f"First day of the month {meaning}.", nullable=False)


def _described(fields: Iterable[pa.Field], descriptions: Mapping[str, str]) -> list[Described]:
    return [(one, descriptions[one.name]) for one in fields]


def _intervals(meanings: Mapping[str, str]) -> list[Described]:
    """Each of these with the ends of its 95 % interval."""
    ends = {"": "", "_low": "lower", "_high": "upper"}
    return [
        _column(
            f"{name}{end}",
            pa.float64(),
            f"{meaning[0].upper()}{meaning[1:]}." if not which else f"The {which} end of {name}'s 95 % interval.",
        )
        for name, meaning in meanings.items()
        for end, which in ends.items()
    ]


# What the contract declares


def _transaction_columns(contract: Contract) -> dict[str, str]:
    """What the columns of transactions mean, from the contract."""
    own = contract.transaction_id
    said = {
        "transaction_id": (
            f"Names the transaction; `{own.column}` of the source."
            if own
            else "Names the transaction: the source has no id, so it is the file and the row in it."
        ),
        "event_timestamp": f"When the transaction happened, in UTC; from "
        f"{' and '.join(f'`{name}`' for name in contract.event_timestamp.columns)} of the source.",
    }
    return said | {name: column.in_words(_part(contract, name)) for name, column in contract.columns.items()}


def _part(contract: Contract, name: str) -> str:
    """What a column of the contract is to the platform."""
    if name in contract.entities:
        what = name.removesuffix("_id").replace("_", " ")
        return f"Names the {what}"
    return "Amount of the transaction" if name == "amount" else "Attribute of the transaction"


def personal_columns(contract: Contract) -> tuple[str, ...]:
    """The columns that name somebody: entities, and what is called an address, a number or an account of a person.

    >>> bool(PERSONAL & set("billing_email".split("_"))), bool(PERSONAL & set("shipping_speed".split("_")))
    (True, False)
    """
    called = {name: f"{name}_{column.column}".lower() for name, column in contract.attributes.items()}
    words = {name: set(re.split(r"[^a-z0-9]+|_", said)) for name, said in called.items()}
    return (*contract.entities, *(name for name in called if words[name] & PERSONAL))


def _label_columns(contract: Contract) -> dict[str, str]:
    """What the columns of label statements mean."""
    of_transaction = _transaction_columns(contract)
    entities = {
        name: f"{of_transaction[name]} Empty where the transaction has not been seen." for name in contract.entities
    }
    return {
        **entities,
        "transaction_id": "The transaction that the statement is about.",
        "event_timestamp": "When that transaction happened, in UTC; empty where it has not been seen.",
        "is_fraud": "Whether it was fraud; empty where an earlier statement is withdrawn.",
        "label_timestamp": "When this became known, in UTC.",
        "label_source": "Who reported it: chargeback, analyst or customer_report.",
    }


def raw_transactions(contract: Contract) -> Table:
    """Transactions as the contract's source delivered them."""
    ingested = _column("ingested_at", TIMESTAMP, "When the platform took the row in, in UTC.", nullable=False)
    return Table.of(
        "raw_transactions",
        "raw",
        [*_described(contract.transactions_schema(), _transaction_columns(contract)), ingested],
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        # Online lookups of an entity's last days.
        indexes=tuple((entity, "event_timestamp") for entity in contract.entities),
        volatile=("ingested_at",),
        by_range_only=True,
        personal=personal_columns(contract),
    )


QUARANTINE_COLUMNS = {
    "source": "The file, or other source, that delivered the row.",
    "row_number": "Its number among the source's rows, from 1.",
    "reasons": f"Why it is here, {AS_JSON}.",
    "original": "The row as it was delivered, as JSON; with whatever personal data it had.",
    "row_digest": "SHA-256 that names the row; people use its first 12 digits.",
    "status": "quarantined, or dropped where a person has decided so.",
}


def quarantined_transactions(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """Rows that broke the contract, with the reasons and their original values."""
    return Table.of(
        "quarantined_transactions",
        "raw",
        [_month("that it was delivered for"), *_described(QUARANTINED, QUARANTINE_COLUMNS)],
        "month",
        order=("month", "source", "row_number"),
        by_range_only=True,
        personal=("original",),
    )


def delivered_labels(contract: Contract) -> Table:
    """Statements that came with a month's transactions, in the month of the transactions they are about."""
    schema = contract.labels_schema()
    position = schema.get_field_index("event_timestamp")
    # They name transactions of the same delivery, so the time is always known.
    schema = schema.set(position, schema.field(position).with_nullable(False))
    said = _label_columns(contract) | {"event_timestamp": "When that transaction happened, in UTC."}
    return Table.of(
        "delivered_labels",
        "labels",
        _described(schema, said),
        "event_timestamp",
        order=("event_timestamp", "transaction_id", "label_timestamp", "label_source", "is_fraud"),
        by_range_only=True,
        personal=tuple(contract.entities),
    )


def fraud_labels(contract: Contract) -> Table:
    """Every statement about a transaction, in the month in which it became known; `origin` says where it came from."""
    origin = _column(
        "origin",
        pa.string(),
        "Where the statement came from: `delivery`, with the transaction; or the file and row of a label feed or of "
        "`fraud labels add`.",
        nullable=False,
    )
    return Table.of(
        "fraud_labels",
        "labels",
        [*_described(contract.labels_schema(), _label_columns(contract)), origin],
        "label_timestamp",
        order=("label_timestamp", "transaction_id", "label_source", "origin", "is_fraud"),
        # Online lookups: an entity's last reports, and the earlier statements about the same transactions.
        indexes=(("transaction_id",), *((entity, "label_timestamp") for entity in contract.entities)),
        by_range_only=True,
        personal=tuple(contract.entities),
    )


def transaction_features(contract: Contract) -> Table:
    """Features of each transaction, from what was known when it happened."""
    said = _transaction_columns(contract) | feature_descriptions(contract)
    fields = [
        pa.field("transaction_id", contract.transaction_id_type, nullable=False),
        pa.field("event_timestamp", TIMESTAMP, nullable=False),
        *(pa.field(entity, contract.transactions_schema().field(entity).type) for entity in contract.entities),
        *(pa.field(name, kind) for name, kind in feature_types(contract).items()),
    ]
    return Table.of(
        "transaction_features",
        "features",
        _described(fields, said),
        "event_timestamp",
        order=("event_timestamp", "transaction_id"),
        key=("transaction_id",),
        by_range_only=True,
        personal=personal_columns(contract),
    )


# What is fixed

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
        _month("that is reported on"),
        _column(
            "kind",
            pa.string(),
            "What is looked at: covariate, missing, category and multivariate (what comes in), prediction (scores), "
            "label, concept (scores against labels), estimate (before labels); or verdict, the row of the whole month.",
            nullable=False,
        ),
        _column(
            "feature",
            pa.string(),
            "The column, or the name of what was measured; empty for the verdict.",
            nullable=False,
        ),
        _column("segment", pa.string(), "The part of the month, as in merchant_segment=travel; empty for all of it."),
        _column("method", pa.string(), "The test or the estimator, or none; empty for the verdict.", nullable=False),
        _column("drift_status", pa.string(), "OK, WATCH, DRIFT or INSUFFICIENT_DATA.", nullable=False),
        _column(
            "cause", pa.string(), "What the change looks like, where something moved: scaled, new_category, volume ..."
        ),
        _column("blame", pa.string(), "Of the verdict: world, data or labels; empty where nothing is wrong."),
        _column("since", pa.date32(), "The first day on which the change is seen."),
        _column("reason", pa.string(), "The row's result in words; empty for the verdict.", nullable=False),
        _column("reasons", pa.string(), f"Of the verdict: why, {AS_JSON}; a finding's rule is its kind."),
        _column("n_reference", pa.int64(), "Rows before that were compared."),
        _column("n_current", pa.int64(), "Rows of the month that were compared."),
        *(_column(name, pa.float64(), said) for name, said in DRIFT_NUMBERS.items()),
        _column(
            "champion_version", pa.int64(), "Registry version of the model that was live; empty when there was none."
        ),
        _column("reference_from", pa.string(), "First day of what the month is compared with, YYYY-MM-DD."),
        _column("reference_to", pa.string(), "First day after what the month is compared with, YYYY-MM-DD."),
        _column(
            "pictures",
            pa.string(),
            "Of the verdict: what the report's page draws, as JSON; empty in months from before it was kept.",
        ),
    ]
    return Table.of("drift_report", "monitoring", columns, "month", order=("month", "kind", "feature", "segment"))


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
        _month("at whose end the model was trained"),
        _column(
            "as_of", TIMESTAMP, "The month's end, in UTC: nothing that became known later was used.", nullable=False
        ),
        _column("status", pa.string(), "trained, or insufficient_data.", nullable=False),
        _column("reason", pa.string(), "Why this model was chosen, or why there is none.", nullable=False),
        _column("model_name", pa.string(), "Name in the MLflow registry."),
        _column("model_version", pa.int64(), "Version in the MLflow registry; empty without a model, as all below."),
        _column("mlflow_run_id", pa.string(), "The MLflow run that logged the training."),
        _column("family", pa.string(), "Kind of model, such as gradient_boosting or logistic_regression."),
        _column("training_from", TIMESTAMP, "Time of the first transaction that was learned from, in UTC."),
        _column("training_to", TIMESTAMP, "Time of the last one, in UTC."),
        _column("n", pa.int64(), "Matured transactions that were learned from."),
        _column("n_fraud", pa.int64(), "Frauds among them."),
        _column(
            "validation_average_precision", pa.float64(), "Average precision on the out-of-time validation; 0 to 1."
        ),
        _column("threshold", pa.float64(), "Transactions that score at or above it are reviewed; 0 to 1."),
        _column("model_digest", pa.string(), "SHA-256 of the ONNX model that is served."),
        _column("inputs_digest", pa.string(), "SHA-256 of what it was made of; the same inputs keep the same version."),
        _column("rule", pa.string(), "How the threshold was chosen, as a sentence."),
        *_intervals({name: PROMISES[name] for name in (f"promised_{name}" for name in PROMISED)}),
    ]
    return Table.of("trained_model", "models", columns, "month", order=("month",))


EVALUATION_INTERVALS = {
    "average_precision": "average precision; 0 to 1, by chance the prevalence",
    "roc_auc": "area under the ROC curve; 0 to 1, by chance 0.5",
    "precision_at_100": "share of frauds among the 100 highest scores of a day, mean over days; 0 to 1",
    "card_precision_at_100": "share of fraudulent cards among the 100 highest cards of a day, mean over days (CP@100); "
    "0 to 1",
    "recall_at_fpr_1pct": "share of frauds caught while at most 1 % of genuine transactions are flagged; 0 to 1",
    "alerts_per_day": "cards a day with a transaction at or above the threshold, on average",
    "precision_at_threshold": "share of the flagged transactions that are fraud; 0 to 1, empty when none is flagged",
    "recall_at_threshold": "share of the frauds that are flagged; 0 to 1",
    "value_detection_rate": "share of the fraud amount that is flagged; 0 to 1, empty without amounts",
    "expected_cost": "cost a day of reviews and of missed frauds, in the currency of the amounts",
    "cost_without_review": "cost a day if nobody were reviewed, in the currency of the amounts",
    "brier": "mean squared difference of score and label; 0 to 1, lower is better",
    "expected_over_observed": "sum of scores over frauds seen; 1 when calibrated, above 1 when scores are too high",
}


PAIR_DIFFERENCES = {
    "cost_difference": "cost a day with the same reviews (of the one that flags more, at most the capacity), less the "
    "champion's, "
    "in the currency of the amounts; below 0 when it is cheaper",
    "card_precision_difference": "share of fraudulent cards among these reviews, less the champion's; -1 to 1",
    "value_difference": "share of the fraud amount that these reviews find, less the champion's; -1 to 1, empty "
    "without amounts",
    "ap_difference": "average precision less the champion's; -1 to 1",
    "own_cost_difference": "cost a day of each at its own threshold, less the champion's, in the currency of the "
    "amounts",
}


def _pair_columns() -> list[Described]:
    """How challenger and waiting compare with the champion on all windows since both were there."""
    ends = {"": "", "_low": "lower", "_high": "upper"}
    differences = [
        _column(
            f"{name}{end}",
            pa.float64(),
            f"Of challenger and waiting: {meaning}."
            if not which
            else f"The {which} end of {name}'s interval at look_level.",
        )
        for name, meaning in PAIR_DIFFERENCES.items()
        for end, which in ends.items()
    ]
    return [
        _column(
            "pair_from",
            TIMESTAMP,
            "Of challenger and waiting: begin of all windows on which it is compared with the champion.",
        ),
        _column("pair_n", pa.int64(), "Transactions of these windows, each once."),
        _column("pair_n_fraud", pa.int64(), "Frauds among them."),
        _column("look", pa.int64(), "Which look at this model beside this champion it is, from 1."),
        _column("look_level", pa.float64(), "Chance that this look finds an equal model better; 0 to 1."),
        _column("reviews_per_day", pa.float64(), "Cards a day that each of the two has for review in the comparison."),
        _column("deciding_cards", pa.int64(), "Cards with a fraud that one of them has reviewed and the other not."),
        _column("parts_judged", pa.int64(), "Parts of the month's window on which the two could be compared."),
        *differences,
    ]


def evaluation(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month and role: champion, challenger and reference on the same window, or `none` and why."""
    columns = [
        _month("at whose end the models were judged"),
        _column(
            "role",
            pa.string(),
            "champion; challenger (the newest model); waiting (one that is looked at again); reference; or none where "
            "no model was judged.",
            nullable=False,
        ),
        _column("model_version", pa.int64(), "Version in the MLflow registry."),
        _column("family", pa.string(), "Kind of model, such as gradient_boosting or logistic_regression."),
        _column("trained_month", pa.string(), "The month at whose end the model was trained, YYYY-MM."),
        _column("as_of", TIMESTAMP, "The month's end, in UTC: labels are those that were known then.", nullable=False),
        _column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC."),
        _column("window_to", TIMESTAMP, "End of the window, in UTC; not part of it."),
        _column("n", pa.int64(), "Matured transactions of the window."),
        _column("n_fraud", pa.int64(), "Frauds among them."),
        _column("prevalence", pa.float64(), "n_fraud over n; 0 to 1."),
        _column("threshold", pa.float64(), "The model's decision threshold; 0 to 1."),
        _column("cards_per_day", pa.float64(), "Cards a day with a transaction, on average."),
        *_intervals(EVALUATION_INTERVALS),
        *_pair_columns(),
        # Why no model could be judged, in the one row of such a month; or why the window is not enough yet.
        _column("reason", pa.string(), "Why no model was judged, or why the window is not enough yet; else empty."),
    ]
    return Table.of("evaluation", "models", columns, "month", order=("month", "role"))


def evaluation_segments(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, role and part of the window: a merchant segment, a band of amounts, new customers."""
    columns = [
        _month("at whose end the models were judged"),
        _column("role", pa.string(), "champion, challenger or waiting.", nullable=False),
        _column("model_version", pa.int64(), "Version in the MLflow registry.", nullable=False),
        _column(
            "segment", pa.string(), "What the window is parted by: an attribute, amounts, weekends.", nullable=False
        ),
        _column("value", pa.string(), "The part, such as travel; rare values together are (other).", nullable=False),
        _column("value_range", pa.string(), "For bands of a number, the numbers in them."),
        _column("n", pa.int64(), "Matured transactions of the part.", nullable=False),
        _column("n_fraud", pa.int64(), "Frauds among them.", nullable=False),
        _column("prevalence", pa.float64(), "n_fraud over n; 0 to 1.", nullable=False),
        *_intervals({"average_precision": "average precision in the part; 0 to 1, empty with too few frauds"}),
        _column("reason", pa.string(), "Why there is no average precision; else empty."),
        _column("n_flagged", pa.int64(), "Transactions at or above the model's threshold.", nullable=False),
        *(
            _column(name, pa.float64(), f"{EVALUATION_INTERVALS[name][0].upper()}{EVALUATION_INTERVALS[name][1:]}.")
            for name in ("precision_at_threshold", "recall_at_threshold", "expected_over_observed")
        ),
        *_intervals(
            {
                "caught_difference": "of challenger and waiting: share of the part's losses that it has reviewed, less "
                "the champion's, with the same reviews of the whole window; -1 to 1, its interval for all parts at once"
            }
        ),
    ]
    order = ("month", "role", "segment", "value")
    return Table.of("evaluation_segments", "models", columns, "month", order=order, key=order)


def champion(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the promotion decision at the month's end, and what was live after it."""
    columns = [
        _month("at whose end it was decided"),
        _column(
            "validation_status",
            pa.string(),
            "Of the challenger: passed, failed, inconclusive or insufficient_data.",
            nullable=False,
        ),
        _column("promoted", pa.bool_(), "Whether the challenger became champion.", nullable=False),
        _column("reasons", pa.string(), f"What is against a promotion, or for it, {AS_JSON}.", nullable=False),
        _column("challenger_version", pa.int64(), "Registry version of the challenger; empty without one."),
        _column("champion_version", pa.int64(), "Registry version that is live after the decision; empty without one."),
    ]
    return Table.of("champion", "serving", columns, "month", order=("month",))


def fraud_bento(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row a month: the package of the model that was live at the month's end."""
    columns = [
        _month("at whose end the model was live"),
        _column("model_version", pa.int64(), "Registry version of the model in the bento; empty when none was live."),
        _column(
            "bento_tag", pa.string(), "Name and version of the bento, for `bentoml serve`; the version is its content."
        ),
        _column("model_digest", pa.string(), "SHA-256 of the ONNX model in it."),
    ]
    return Table.of("fraud_bento", "serving", columns, "month", order=("month",))


def scored_transactions(contract: Contract) -> Table:
    """What the service answered: one row a transaction and model version."""
    said = _transaction_columns(contract)
    personal = ", ".join(name for name in personal_columns(contract)) or "nobody"
    columns = [
        _column("number", pa.int64(), "Only grows: who reads along asks for what came after the last.", nullable=False),
        _column("transaction_id", pa.string(), f"{said['transaction_id']} As text.", nullable=False),
        _column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        _column("event_timestamp", TIMESTAMP, "When the transaction happened, in UTC.", nullable=False),
        _column("scored_at", TIMESTAMP, "When it was answered, in UTC.", nullable=False),
        _column(
            "transaction",
            pa.string(),
            f"The contract's other columns, as JSON by name; personal in it: {personal}.",
            nullable=False,
        ),
        _column("raw_score", pa.float64(), "The model's own result before calibration: log odds, or a forest's share."),
        _column("probability", pa.float64(), "Probability of fraud that was answered; 0 to 1.", nullable=False),
        _column("threshold", pa.float64(), "Probability from which the model would have it reviewed.", nullable=False),
        _column("decision", pa.string(), "The model's: review or approve.", nullable=False),
        _column(
            "pass_through_probability",
            pa.float64(),
            "Chance that it was let through although it would be reviewed; 0 where it could not be.",
            nullable=False,
        ),
        _column("passed_through", pa.bool_(), "Whether it was, and the answer was approve.", nullable=False),
        _column("features", pa.string(), "The model's features as they were then, as JSON by name.", nullable=False),
        _column("answered", pa.string(), "What was answered: approve, review or decline; empty before rules were."),
        _column(
            "decided_by", pa.string(), "Who decided: model, rule NAME@VERSION, list NAME, pass_through or breaker."
        ),
        _column("role", pa.string(), "Who answered: champion or challenger; empty of scores from before challengers."),
        _column("more_features", pa.string(), "Further features, that challengers took; as JSON by name, or empty."),
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
        _month("in which the transactions matured"),
        _column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        _column(
            "segment",
            pa.string(),
            "all; date, for each day; an attribute, amounts, weekends; or not_matured, what came after the window.",
            nullable=False,
        ),
        _column(
            "value", pa.string(), "The part: a day, or a value such as travel; rare ones are (other).", nullable=False
        ),
        _column("value_range", pa.string(), "For bands of a number, the numbers in them."),
        _column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC.", nullable=False),
        _column("window_to", TIMESTAMP, "End of the window, in UTC; not part of it.", nullable=False),
        _column("n", pa.int64(), "Transactions that were scored.", nullable=False),
        _column("n_flagged", pa.int64(), "Of these, what the model would have reviewed.", nullable=False),
        _column("n_passed_through", pa.int64(), "Of these, what was let through all the same.", nullable=False),
        _column("n_labelled", pa.int64(), "Transactions whose truth was known at the month's end.", nullable=False),
        _column("labelled_share", pa.float64(), "n_labelled over n; 0 to 1.", nullable=False),
        _column("n_fraud", pa.int64(), "Frauds among the labelled.", nullable=False),
        _column("prevalence", pa.float64(), "n_fraud over n_labelled; 0 to 1."),
        *_intervals({"average_precision": "average precision of the labelled; 0 to 1, by chance the prevalence"}),
        _column("brier", pa.float64(), "Mean squared difference of probability and label; 0 to 1, lower is better."),
        _column(
            "expected_over_observed",
            pa.float64(),
            "Sum of probabilities over frauds seen; 1 when calibrated, above 1 when they are too high.",
        ),
        _column("precision_at_threshold", pa.float64(), "Share of the flagged that are fraud; 0 to 1."),
        _column("recall_at_threshold", pa.float64(), "Share of the frauds that were flagged; 0 to 1."),
        _column("cost", pa.float64(), "Of reviews and of frauds that went through, in the currency of the amounts."),
        _column("cost_without_review", pa.float64(), "Of all frauds, had nobody been reviewed."),
        _column("value_caught", pa.float64(), "Amount of the frauds that were held; empty without amounts."),
        _column("fraud_value", pa.float64(), "Amount of all frauds; empty without amounts."),
        _column("weighted_n", pa.float64(), f"Transactions {weighted}."),
        _column("effective_n", pa.float64(), "As how many equally weighted rows the weighted figures are certain."),
        _column("weighted_prevalence", pa.float64(), f"Share of frauds {weighted}; 0 to 1."),
        _column("weighted_average_precision", pa.float64(), f"Average precision {weighted}; 0 to 1."),
        _column("weighted_precision_at_threshold", pa.float64(), f"Precision {weighted}; 0 to 1."),
        _column("weighted_expected_over_observed", pa.float64(), f"Expected over observed frauds {weighted}."),
        _column("reason", pa.string(), "Why average precision has no interval, or nothing is known; else empty."),
    ]
    order = ("month", "model_version", "segment", "value")
    return Table.of("model_performance", "monitoring", columns, "month", order=order, key=order)


def serving_skew(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month, model version and feature: as it was scored, against the batch; see `serving_skew.py`."""
    columns = [
        _month("in which the transactions happened"),
        _column("model_version", pa.int64(), "Registry version of the model that answered.", nullable=False),
        _column("feature", pa.string(), "The feature.", nullable=False),
        _column("n_scored", pa.int64(), "Transactions of the month that the version scored.", nullable=False),
        _column("n_matched", pa.int64(), "Of these, those that the batch has.", nullable=False),
        _column("n_missing", pa.int64(), "Matched without a value when scored, and with one in the batch."),
        _column("n_extra", pa.int64(), "Matched with a value when scored, and without one in the batch."),
        _column("n_mismatch", pa.int64(), "Matched with another value; of numbers, by more than a millionth."),
        _column("skewed_share", pa.float64(), "The three together over n_matched; 0 to 1."),
        _column(
            "smape",
            pa.float64(),
            "Sum of absolute differences over the sum of absolute values of both; 0 (equal) to 1. Empty for texts.",
        ),
        _column("largest_difference", pa.float64(), "The largest absolute difference. Empty for texts."),
        _column("reason", pa.string(), "Why nothing could be compared; else empty."),
    ]
    order = ("month", "model_version", "feature")
    return Table.of("serving_skew", "monitoring", columns, "month", order=order, key=order)


def challenger_comparison(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per month and challenger: beside the champion, on the live traffic that both scored; see `pairs.py`."""
    left_out = ("pair_from", "parts_judged")
    paired = [(one, said) for one, said in _pair_columns() if one.name not in left_out]
    columns = [
        _month("at whose end they were compared"),
        _column(
            "champion_version", pa.int64(), "The version that was live before the month's decision.", nullable=False
        ),
        _column("challenger_version", pa.int64(), "The version beside it.", nullable=False),
        _column("window_from", TIMESTAMP, "Begin of the window of event times, in UTC.", nullable=False),
        _column("window_to", TIMESTAMP, "End of the window, in UTC; all of it has matured.", nullable=False),
        _column("n_answered", pa.int64(), "Transactions of the window that one of them answered.", nullable=False),
        _column("n_by_challenger", pa.int64(), "Of these, by the challenger.", nullable=False),
        _column("n_failed", pa.int64(), "Of these, where the other one gave no score.", nullable=False),
        _column("n_late", pa.int64(), "Of these, where the other one took too long.", nullable=False),
        _column("n_both", pa.int64(), "Of these, scored by both.", nullable=False),
        *paired,
        _column("reason", pa.string(), "Why they could not be compared; else empty."),
        _column("sentence", pa.string(), "What came of it, for people.", nullable=False),
    ]
    order = ("month", "champion_version", "challenger_version")
    return Table.of("challenger_comparison", "monitoring", columns, "month", order=order, key=order)


def backtest(contract: Contract) -> Table:  # noqa: ARG001 - all table functions take the contract
    """One row per policy and month, and one, kind `total`, per policy; see `backtest/judge.py`."""
    columns = [
        _month("that was replayed; of a total, the last one"),
        _column("kind", pa.string(), "month, or total for all months of the policy.", nullable=False),
        _column(
            "policy", pa.string(), "When it retrains: never, monthly, every-N, on-drift, on-watch.", nullable=False
        ),
        _column("trained_month", pa.string(), "The month at whose end the live model was trained, YYYY-MM."),
        _column("drift_status", pa.string(), "Of the month's report: OK, WATCH, DRIFT or INSUFFICIENT_DATA."),
        _column("blame", pa.string(), "Of the month's report: world, data or labels; empty where nothing is wrong."),
        _column(
            "retrainings", pa.int64(), "Models trained at the month's end, 0 or 1; of a total, all.", nullable=False
        ),
        _column("drift_alarms", pa.int64(), "Months whose report said DRIFT.", nullable=False),
        _column("watch_alarms", pa.int64(), "Months whose report said WATCH.", nullable=False),
        _column(
            "reasons",
            pa.string(),
            f"Why a model was trained, or a month could not be judged, {AS_JSON}.",
            nullable=False,
        ),
        _column("n", pa.int64(), "Matured transactions that were judged; empty where none could be, as all below."),
        _column("n_fraud", pa.int64(), "Frauds among them."),
        _column("alerts_per_day", pa.float64(), "Cards a day to review, on average."),
        *_intervals(
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


TABLES = {
    build.__name__: build
    for build in (
        raw_transactions, quarantined_transactions, delivered_labels, fraud_labels, transaction_features,
        drift_report, trained_model, evaluation_segments, evaluation, champion, fraud_bento, model_performance,
        serving_skew, challenger_comparison, backtest,
    )
}  # fmt: skip

# Written by the service, row by row, and by no run: it has neither months nor versions of them.
WRITTEN_ELSEWHERE = {"scored_transactions": scored_transactions}

# What was decided, and says nothing of rows: it can be made again when these are gone.
DECIDED = frozenset({"champion", "fraud_bento", "backtest"})

# Answers to a question, of all months at once: nothing is built on them, and a later month makes them no worse.
ON_REQUEST = frozenset({"backtest"})
