"""What the service takes and gives: request and response types, and the checks that a contract implies.

Shapes and values are checked here; scoring and history are not known here. Every refusal has the form that
BentoML gives its own: `{"error": ..., "detail": [{"type", "loc", "msg"}]}`, where `loc` leads to the field.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

from fraud_assets.core.contract import Column, Contract

# A batch that is scored within the request's time; larger ones are the monthly assets' business.
MAX_ROWS = 10_000

# The largest finite float32, in which models take features.
FLOAT32_MAX = 3.4028234663852886e38
# PostgreSQL's and Arrow's whole numbers.
INT64_MAX = 2**63 - 1
# Far from the ends of every timestamp type on the way (nanoseconds in int64 end in 2262), with room for
# history.
FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2200, 1, 1, tzinfo=UTC)

# Values may be personal data and belong in no log: BentoML logs the text of validation errors.
_CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RequestError(ValueError):
    """A request that cannot be answered; `detail` leads to each field that is wrong."""

    def __init__(self, error: str, detail: list[dict[str, Any]]) -> None:
        super().__init__(error)
        self.error = error
        self.detail = detail


class ScoreRequest(BaseModel):
    """Exactly one of `features` and `transactions`, at most 10,000 rows.

    The manifest of the model names the features, and the contract the columns of a transaction; every row is
    checked against them.
    """

    model_config = _CONFIG

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
                "a time zone), customer_id, terminal_id, amount and the contract's further attributes."
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
    """Checks rows against one model's features and one contract's columns."""

    def __init__(self, features: tuple[str, ...], contract: Contract, texts: Collection[str] = ()) -> None:
        number = Annotated[float, Strict(), Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX, allow_inf_nan=False)]
        # As in a contract's rows, blanks are no value.
        text: Any = Annotated[_plain_type("string"), AfterValidator(lambda value: value if value.strip() else None)]
        self._features = _rows_of("Features", {name: (text if name in texts else number) | None for name in features})
        fields: dict[str, Any] = {
            "transaction_id": _plain_type(contract.transaction_id.type if contract.transaction_id else "string"),
            "event_timestamp": Annotated[datetime, BeforeValidator(_instant)],
        }
        for name, column in contract.columns.items():
            kind = _column_type(column)
            fields[name] = NotRequired[kind | None] if column.nullable else kind
        self._transactions = _rows_of("Transaction", fields)

    def features(self, rows: list[dict[str, Any]]) -> list[dict[str, float | str | None]]:
        """Rows that name each feature once and nothing else, with finite numbers, text for texts, or null.

        Raises:
            RequestError: naming each field that is wrong.
        """
        return _check(self._features, rows, "features")

    def transactions(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows that hold what the contract promises, each transaction once.

        Raises:
            RequestError: naming each field that is wrong.
        """
        checked = _check(self._transactions, rows, "transactions")
        first: dict[Any, int] = {}
        for position, row in enumerate(checked):
            if (earlier := first.setdefault(row["transaction_id"], position)) != position:
                raise _one_error("transactions", position, "transaction_id", f"the same as in row {earlier}")
        return checked


def _rows_of(name: str, fields: dict[str, Any]) -> TypeAdapter[list[dict[str, Any]]]:
    # A TypedDict and no model: columns may have names that attributes of a model cannot have.
    row = TypedDict(name, fields)  # type: ignore[misc] # the fields are known only from the manifest
    setattr(row, "__pydantic_config__", _CONFIG)  # noqa: B010 - the type checker knows no such attribute
    return TypeAdapter(list[row])  # type: ignore[arg-type] # the TypedDict is a dict to the caller


def _plain_type(kind: str) -> Any:
    return {
        "integer": Annotated[int, Strict(), Field(ge=-INT64_MAX - 1, le=INT64_MAX)],
        "number": Annotated[float, Strict(), Field(allow_inf_nan=False)],
        # PostgreSQL's text cannot hold the character 0.
        "string": Annotated[str, Strict(), StringConstraints(max_length=1000, pattern=r"^[^\x00]*$")],
        "boolean": Annotated[bool, Strict()],
        "date": Annotated[date, BeforeValidator(_day)],
    }[kind]


def _column_type(column: Column) -> Any:
    if column.categories is not None:
        return Literal[column.categories]
    kind = _plain_type(column.type)
    if column.type in ("integer", "number"):
        if column.minimum is not None:
            kind = Annotated[kind, Field(ge=column.minimum)]
        if column.maximum is not None:
            kind = Annotated[kind, Field(le=column.maximum)]
    return kind


def _day(value: object) -> date:
    if not isinstance(value, str):
        raise ValueError("write the date as text in ISO 8601, for example 2018-08-14")
    return date.fromisoformat(value)


def _instant(value: object) -> datetime:
    if not isinstance(value, str):
        raise ValueError("write the time as text in ISO 8601, for example 2018-08-14T12:30:00Z")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("the time has no time zone; add Z or an offset, for example 2018-08-14T12:30:00Z")
    if not FIRST_INSTANT <= moment < LAST_INSTANT:
        raise ValueError(f"the time must lie between {FIRST_INSTANT:%Y} and {LAST_INSTANT:%Y}")
    return moment.astimezone(UTC)


def _check(adapter: TypeAdapter[list[dict[str, Any]]], rows: list[dict[str, Any]], place: str) -> list[dict[str, Any]]:
    try:
        return adapter.validate_python(rows)
    except ValidationError as error:
        # The first hundred say enough; ten thousand rows with one mistake each would be a long answer.
        detail = [
            {"type": problem["type"], "loc": [place, *problem["loc"]], "msg": problem["msg"]}
            for problem in error.errors(include_url=False, include_context=False, include_input=False)[:100]
        ]
        place_of_first = ".".join(str(part) for part in detail[0]["loc"])
        raise RequestError(
            f"{error.error_count()} validation errors, the first at {place_of_first}: {detail[0]['msg']}",
            detail,
        ) from error


def _one_error(place: str, row: int, field: str, message: str) -> RequestError:
    return RequestError(
        f"1 validation error at {place}.{row}.{field}: {message}",
        [{"type": "value_error", "loc": [place, row, field], "msg": message}],
    )
