"""What the service takes and gives: request and response types, and the check of features.

Transactions are read in `transactions.py`; scoring and history are not known here. Every refusal has the form that
BentoML gives its own: `{"error": ..., "detail": [{"type", "loc", "msg"}]}`, where `loc` leads to the field.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

from bentos.fraud_scorer.transactions import CONFIG, TEXT, Names, refused

# A batch that is scored within the request's time; larger ones are the monthly assets' business.
MAX_ROWS = 10_000

# The largest finite float32, in which models take features.
FLOAT32_MAX = 3.4028234663852886e38


class ScoreRequest(BaseModel):
    """Exactly one of `features` and `transactions`, at most 10,000 rows.

    The manifest of the model names the features, and the contract the columns of a transaction; every row is
    checked against them.
    """

    model_config = CONFIG

    features: Annotated[
        list[dict[str, Any]] | None,
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            description="Ready features by name, all of them, null where a feature is not known.",
        ),
    ] = None
    transactions: Annotated[
        list[dict[str, Any]] | None,
        Field(
            min_length=1,
            max_length=MAX_ROWS,
            description=(
                "Transactions by the platform's column names: transaction_id, event_timestamp (ISO 8601 with "
                "a time zone), customer_id, terminal_id, amount and the contract's further attributes. Or by the "
                "source's own, as its files have them; columns that the contract does not name are left out."
            ),
        ),
    ] = None
    names: Annotated[
        Names | None,
        Field(
            description=(
                "Whose column names the transactions have. Without it they are the platform's where all of them are, "
                "else the source's where its time is among them."
            ),
        ),
    ] = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.features is None) == (self.transactions is None):
            raise ValueError("give exactly one of features and transactions")
        return self


class Result(BaseModel):
    """The answer for one row, in the order of the request."""

    model_config = ConfigDict(protected_namespaces=())

    transaction_id: Annotated[int | str | None, Field(description="Only for transactions.")] = None
    probability: Annotated[float, Field(ge=0, le=1, description="Probability of fraud.")]
    decision: Literal["review", "approve"]
    model_version: int


class ScoreResponse(BaseModel):
    """The model that scored, and one result per row."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    model_version: int
    threshold: Annotated[float, Field(description="Probability from which the decision is review.")]
    results: list[Result]


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
            raise refused(error, "features") from error
