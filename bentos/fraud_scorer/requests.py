"""What the service takes and gives: request and response types, and the check of features.

Transactions are read in `transactions.py`; scoring and history are not known here. Every refusal has the form that
BentoML gives its own: `{"error": ..., "detail": [{"type", "loc", "msg"}]}`, where `loc` leads to the field.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

from bentos.fraud_scorer.transactions import CONFIG, TEXT, Names
from bentos.fraud_scorer.transactions import refused as wrong_rows
from fraud_assets.core.explanations.reason_codes import USUAL_REASONS

# A batch that is scored within the request's time; larger ones are the monthly assets' business.
MAX_ROWS = 10_000

# Those of a forest take up to 15 ms a row, and a request has 20 s.
MAX_EXPLAINED_ROWS = 1000

# The largest finite float32, in which models take features.
FLOAT32_MAX = 3.4028234663852886e38


Rows = Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_ROWS)]

FEATURES = "Ready features by name, all of them, null where a feature is not known."
TRANSACTIONS = (
    "Transactions by the platform's column names: transaction_id, event_timestamp (ISO 8601 with a time zone), the "
    "contract's entities, amount and further attributes. Or by the source's own, as its files have them; columns that "
    "the contract does not name are left out."
)


class _Explained(BaseModel):
    """What all requests for scores have in common."""

    model_config = CONFIG

    explain: Annotated[
        Annotated[bool, Strict()] | Annotated[int, Strict(), Field(ge=0, le=1000)],
        Field(
            description=(
                f"Whether each result says what moved the score, for at most {MAX_EXPLAINED_ROWS:,} rows; a number is "
                f"that of reasons to give, true is {USUAL_REASONS}."
            ),
        ),
    ] = False

    @property
    def reasons(self) -> int:
        """How many reasons of each row are asked for."""
        return USUAL_REASONS if self.explain is True else int(self.explain)

    @property
    def rows(self) -> int:
        """How many rows are to be scored."""
        return len(getattr(self, "features", None) or getattr(self, "transactions", None) or [])

    @model_validator(mode="after")
    def _explains_in_time(self) -> Self:
        if self.reasons and self.rows > MAX_EXPLAINED_ROWS:
            raise ValueError(f"at most {MAX_EXPLAINED_ROWS:,} rows are explained at a time; send fewer, or no explain")
        return self


class Named(_Explained):
    """What all requests with transactions have in common."""

    strict: Annotated[
        Annotated[bool, Strict()],
        Field(
            description=(
                "Whether history is read from the database for this request. Without it, what is remembered counts, "
                "which may be some tenths of a second old."
            ),
        ),
    ] = False
    names: Annotated[
        Names | None,
        Field(
            description=(
                "Whose column names the transactions have. Without it they are the platform's where all of them are, "
                "else the source's where its time is among them."
            ),
        ),
    ] = None


class TransactionsRequest(Named):
    """One or more transactions, at most 10,000; every row is checked against the contract."""

    transactions: Annotated[Rows, Field(description=TRANSACTIONS)]


class FeaturesRequest(_Explained):
    """The features of one or more transactions, at most 10,000."""

    features: Annotated[Rows, Field(description=FEATURES)]


class ScoreRequest(Named):
    """Exactly one of `features` and `transactions`, at most 10,000 rows.

    The manifest of the model names the features, and the contract the columns of a transaction; every row is
    checked against them.
    """

    features: Annotated[Rows | None, Field(description=FEATURES)] = None
    transactions: Annotated[Rows | None, Field(description=TRANSACTIONS)] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.features is None) == (self.transactions is None):
            raise ValueError("give exactly one of features and transactions")
        return self


class Reason(BaseModel):
    """A feature that moved the score."""

    feature: str
    value: Annotated[float | str | None, Field(description="The feature's value, null where it is not known.")]
    attribution: Annotated[float, Field(description="By how much it moved the raw score; above 0 towards fraud.")]
    text: Annotated[str, Field(description="What the value says, in words.")]


class Explanation(BaseModel):
    """What moved the score: base, the reasons' attributions and others add up to the raw score."""

    unit: Annotated[
        Literal["log_odds", "share"],
        Field(description="Of all numbers: log odds before calibration; of a forest, the share of its leaves' frauds."),
    ]
    base: Annotated[float, Field(description="What the raw score is on average over the training rows.")]
    raw_score: Annotated[float, Field(description="The model's own result, before it is calibrated.")]
    reasons: Annotated[list[Reason], Field(description="What moved it most, the strongest first.")]
    others: Annotated[float, Field(description="What all other features moved it by, together.")]


class Result(BaseModel):
    """The answer for one row, in the order of the request."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: Annotated[int | str | None, Field(description="Only for transactions.")] = None
    probability: Annotated[float | None, Field(ge=0, le=1, description="Probability of fraud.")] = None
    decision: Annotated[
        Literal["review", "approve", "decline"],
        Field(description="The model says review or approve; a rule or a list may say decline."),
    ]
    model_version: int
    decided_by: Annotated[
        str | None,
        Field(description="Who decided: model, rule NAME@VERSION, list NAME, pass_through or breaker."),
    ] = None
    passed_through: Annotated[
        bool, Field(description="Whether it is let through at random, although the model would have it reviewed.")
    ] = False
    feature_time: Annotated[
        datetime | None, Field(description="Only for transactions: the moment whose features these are, nothing later.")
    ] = None
    explanation: Annotated[Explanation | None, Field(description="Where `explain` asked for it.")] = None


class ScoreResponse(BaseModel):
    """The model that scored, and one result per row."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: int
    threshold: Annotated[float | None, Field(description="Probability from which the decision is review.")] = None
    results: list[Result]
    history_age_seconds: Annotated[
        float | None,
        Field(
            description=(
                "For how long the database could not be asked what is new, where that is more than a second: features "
                "are made of what was remembered before."
            ),
        ),
    ] = None
    lists_age_seconds: Annotated[
        float | None,
        Field(description="For how long lists could not be read, where that is more than two seconds."),
    ] = None
    breaker: Annotated[
        Literal["previous", "review"] | None,
        Field(
            description=(
                "While the breaker is open: the previous champion answered, or what a rule declines is reviewed."
            )
        ),
    ] = None
    not_explained: Annotated[
        str | None, Field(description="Why there is no explanation, where one was asked for and the model has none.")
    ] = None


class Label(BaseModel):
    """What became known about a transaction; it is known from the moment on at which it comes in."""

    model_config = CONFIG

    transaction_id: Annotated[
        Annotated[int, Strict()] | TEXT,
        Field(description="As the transactions have it, also of one that is not stored."),
    ]
    is_fraud: Annotated[
        Annotated[bool, Strict()] | Literal["withdrawn"],
        Field(description="Whether it was fraud; withdrawn takes back what was said before."),
    ]
    label_source: Annotated[
        Literal["chargeback", "analyst", "customer_report"] | None,
        Field(description="Who says so; the contract's own source when absent."),
    ] = None


class FeedbackRequest(BaseModel):
    """One or more labels, at most 10,000, each about another transaction."""

    model_config = CONFIG

    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_ROWS)]


class FeedbackAnswer(BaseModel):
    """What became of labels."""

    taken: Annotated[int, Field(description="Labels that say something new.")]
    repeated: Annotated[int, Field(description="Labels that say what was said last.")]
    known_at: Annotated[datetime, Field(description="From when on they are known, by the database's clock.")]
    month: Annotated[str, Field(description="The month of `fraud_labels` in which they are.")]


class AnswerRequest(BaseModel):
    """An answer about a version that waits for a person."""

    model_config = CONFIG

    version: Annotated[int, Strict(), Field(ge=1, le=2**31, description="Which; `fraud status` names it.")]
    reason: Annotated[TEXT, Field(min_length=3, description="Why; goes into the ledger.")]


class AskedAnswer(BaseModel):
    """An answer that was asked for, and what has become of it."""

    model_config = ConfigDict(protected_namespaces=())

    number: int
    model_version: int
    answer: Literal["approved", "rejected"]
    reason: str
    actor: str
    asked_at: datetime
    state: Annotated[
        Literal["waiting", "carried_out", "refused"],
        Field(description="waiting, until the daemon has carried it out; it may be refused then."),
    ]
    said: Annotated[str | None, Field(description="What came of it, in words.")] = None
    closed_at: datetime | None = None
    see: Annotated[str, Field(description="Where to ask for it again.")]


class Ledger(BaseModel):
    """What the ledger says of the live model."""

    since: Annotated[datetime | None, Field(description="When the model went live.")]
    entry: Annotated[int | None, Field(description="The ledger's row that let it go live; see `fraud ledger`.")]
    last_row: Annotated[int, Field(description="The ledger's last row when the model was named for serving.")]
    last_hash: Annotated[str, Field(description="Of that row.")]
    bento: Annotated[str, Field(description="The package that was promoted.")]


class AskedRule(BaseModel):
    """A rule that is asked before the model."""

    name: str
    version: int
    action: Literal["decline", "review", "allow"]
    when: Annotated[str, Field(description="Its condition.")]
    since: Annotated[date | None, Field(description="The first day whose transactions it is about.")] = None


class BreakerState(BaseModel):
    """Whether the breaker is open, and what that means."""

    state: Annotated[Literal["off", "closed", "open"], Field(description="off: no limit is set.")]
    limit: Annotated[float | None, Field(description="Share of held transactions at which it opens.")] = None
    mode: Annotated[Literal["previous", "review"] | None, Field(description="While it is open: who answers.")] = None
    since: Annotated[datetime | None, Field(description="When it opened.")] = None
    said: Annotated[str | None, Field(description="Why.")] = None
    opened_for: Annotated[int | None, Field(description="The version that answered when it opened.")] = None
    answers: Annotated[int | None, Field(description="The version that answers while it is open.")] = None
    no_previous: Annotated[str | None, Field(description="Why the previous champion does not answer.")] = None


class LiveAnswer(BaseModel):
    """The model that answers."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: int
    family: str
    trained_month: str
    labels_as_of: Annotated[datetime, Field(description="What was known then trained it.")]
    threshold: Annotated[float | None, Field(description="Probability from which the decision is review.")] = None
    answers_since: Annotated[datetime, Field(description="When this process took the model.")]
    ledger: Annotated[
        Ledger | None, Field(description="null for a package that is served on its own, without a home to follow.")
    ]
    digests: Annotated[dict[str, str], Field(description="SHA-256 of the model's files.")]
    refused: Annotated[str | None, Field(description="Why a model that was named for serving was not taken.")] = None
    rules: Annotated[list[AskedRule], Field(description="The rules that are asked before it.")] = []
    breaker: Annotated[BreakerState | None, Field(description="Whether too much was held.")] = None
    rules_refused: Annotated[str | None, Field(description="Why the rules of the contract's file are not taken.")] = (
        None
    )


class Problem(BaseModel):
    """A field that is wrong."""

    type: str
    loc: Annotated[list[str | int], Field(description="Leads to the field.")]
    msg: Annotated[str, Field(description="What is wrong with it. Values are never repeated.")]


class Refusal(BaseModel):
    """Why there is no answer."""

    error: str
    detail: list[Problem] = []


def refused(
    status: int, error: str, detail: list[dict[str, Any]] | None = None, *, retry_after: int | None = None
) -> Response:
    """A refusal: why, where in the request, and after how many seconds it may be sent again."""
    # In ASCII, because a caller's own text may be in it, and be none that UTF-8 has.
    body = json.dumps({"error": error, "detail": detail or []})
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return Response(body, status, headers, media_type="application/json")


class RowChecker:
    """Checks rows of features against one model's."""

    def __init__(self, features: tuple[str, ...], texts: Collection[str] = ()) -> None:
        number = Annotated[float, Strict(), Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
        # As in a contract's rows, blanks around a text are no part of it, and blanks alone no value.
        text: Any = Annotated[TEXT, AfterValidator(lambda value: value.strip() or None)]
        # A TypedDict and no model: columns may have names that attributes of a model cannot have.
        fields = {name: (text if name in texts else number) | None for name in features}
        row = TypedDict("Features", fields)  # type: ignore[misc] # the fields are known only from the manifest
        setattr(row, "__pydantic_config__", CONFIG)  # noqa: B010 - the type checker knows no such attribute
        self._features: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[row])  # type: ignore[arg-type]

    def features(self, rows: list[dict[str, Any]]) -> list[dict[str, float | str | None]]:
        """Rows that name each feature once and nothing else, with finite numbers, text for texts, or null.

        Raises:
            RequestError: naming each field that is wrong.
        """
        try:
            return self._features.validate_python(rows)
        except ValidationError as error:
            raise wrong_rows(error, "features") from error
