"""Contracts: what a source delivers and what each column means, one YAML file a source.

The names on the left of a mapping are the platform's own (architecture: Names); `column` says what the
source calls it. Reading and validating the YAML belongs here; reading the data does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fraud_assets.core.months import check_month

ColumnType = Literal["integer", "number", "string", "boolean"]

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
}


class ContractError(ValueError):
    """A contract that cannot be read, or data that lacks what its contract promises."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Section):
    """A column of the source.

    Attributes:
        column: its name in the source.
        type: how it is stored.
        nullable: whether a row may lack it.
        minimum, maximum: the closed range a number may lie in.
        categories: the only values allowed.
        feature: whether a further attribute is given to models as a numeric feature.
    """

    column: str
    type: ColumnType = "string"
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    feature: bool = False


class EventTime(_Section):
    """When a transaction happened: source column, time zone of values without one, and an optional format."""

    column: str
    timezone: str = "UTC"
    format: str | None = None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"there is no time zone {value!r}; name one as in Europe/Paris, or UTC") from error
        return value


class Label(_Section):
    """How the source says which transactions were fraud, and when that became known.

    Attributes:
        column: the label's column.
        fraud_values: the values that mean fraud, as text.
        known_at: column with the time at which the label became known, if the source has one.
        delay_days: otherwise, days from the transaction to the label.
        max_delay_days: with `known_at`, the longest delay that is believed; later ones are quarantined.
        label_source: who reported it.
    """

    column: str
    fraud_values: tuple[str, ...] = ("1",)
    known_at: str | None = None
    delay_days: Annotated[float, Field(ge=0)] | None = None
    max_delay_days: Annotated[float, Field(ge=0)] = 62
    label_source: Literal["chargeback", "analyst", "customer_report"] = "chargeback"

    @property
    def lookback_months(self) -> int:
        """How many months back a transaction can lie whose label becomes known this month."""
        longest = self.max_delay_days if self.delay_days is None else self.delay_days
        return -int(-longest // 28)

    @model_validator(mode="after")
    def _one_clock(self) -> Self:
        if (self.known_at is None) == (self.delay_days is None):
            raise ValueError("give exactly one of known_at (a column) and delay_days (a number)")
        return self


class Contract(_Section):
    """One source's contract.

    Attributes:
        name: names the local database and the folder of artifacts.
        first_month, last_month: the months that can exist; `last_month` is open when absent.
        file_pattern: name of a month's file in a folder source; `{month}` stands for YYYY-MM.
        transaction_id, event_timestamp: what identifies a transaction, and when it happened.
        customer_id, terminal_id, amount: present where the source has them.
        attributes: further columns to keep, by the name the platform shall use.
        label: where labels come from.
        maturity_days: a transaction without a fraud report after so many days counts as genuine.
        quarantine_limit: the largest share of a month's rows that may be quarantined before the month is refused.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    description: str = ""
    first_month: str
    last_month: str | None = None
    file_pattern: Annotated[str, Field(pattern=r"^[^{}]*\{month\}[^{}]*$")] = "*{month}*"
    transaction_id: Column | None = None
    event_timestamp: EventTime
    customer_id: Column | None = None
    terminal_id: Column | None = None
    amount: Column | None = None
    attributes: dict[str, Column] = {}
    label: Label
    maturity_days: Annotated[float, Field(gt=0)]
    quarantine_limit: Annotated[float, Field(ge=0, le=1)] = 0.05

    @field_validator("first_month", "last_month", mode="before")
    @classmethod
    def _months(cls, value: object) -> object:
        return check_month(str(value)) if value is not None else None

    @field_validator("attributes")
    @classmethod
    def _no_reserved_names(cls, value: dict[str, Column]) -> dict[str, Column]:
        reserved = {
            "transaction_id", "event_timestamp", "customer_id", "terminal_id", "amount", "ingested_at",
            "is_fraud", "label_timestamp", "label_source", "month", "hour", "is_weekend", "score",
        }  # fmt: skip
        if clash := reserved & set(value):
            raise ValueError(f"attributes may not be called {sorted(clash)}: those are the platform's own names")
        for name, column in value.items():
            if column.feature and column.type == "string":
                raise ValueError(f"attribute {name!r} is text and cannot be a numeric feature; set feature: false")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last_month is not None and self.last_month < self.first_month:
            raise ValueError(f"last_month {self.last_month} lies before first_month {self.first_month}")
        return self

    @property
    def entities(self) -> tuple[str, ...]:
        """The identifiers that have a history: customer_id and terminal_id, where declared."""
        return tuple(name for name in ("customer_id", "terminal_id") if getattr(self, name) is not None)

    @property
    def columns(self) -> dict[str, Column]:
        """The stored columns besides transaction_id and event_timestamp, in table order."""
        own = {name: getattr(self, name) for name in ("customer_id", "terminal_id", "amount")}
        return {name: column for name, column in own.items() if column is not None} | self.attributes

    @property
    def transaction_id_type(self) -> pa.DataType:
        """Type of transaction_id; a source without one gets text made of its file and row number."""
        return ARROW_TYPES[self.transaction_id.type] if self.transaction_id else pa.string()

    def transactions_schema(self) -> pa.Schema:
        """The schema of canonical transactions, without `ingested_at`."""
        fields = [
            pa.field("transaction_id", self.transaction_id_type, nullable=False),
            pa.field("event_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        ]
        fields += [pa.field(name, ARROW_TYPES[column.type], column.nullable) for name, column in self.columns.items()]
        return pa.schema(fields)

    def labels_schema(self) -> pa.Schema:
        """The schema of label statements: one row is one statement about one transaction."""
        return pa.schema(
            [
                pa.field("transaction_id", self.transaction_id_type, nullable=False),
                pa.field("event_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
                *(pa.field(name, ARROW_TYPES[getattr(self, name).type]) for name in self.entities),
                pa.field("is_fraud", pa.bool_(), nullable=False),
                pa.field("label_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
                pa.field("label_source", pa.string(), nullable=False),
            ]
        )


def parse_contract(text: str, origin: str = "contract") -> Contract:
    """Reads a contract from YAML text.

    Args:
        text: the YAML.
        origin: what to call it in errors, usually the file's path.

    Raises:
        ContractError: naming each field that is wrong.
    """
    try:
        return Contract.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ContractError(f"{origin} is not valid YAML: {error}") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'contract'}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ContractError(f"{origin} is not a valid contract: {problems}") from error


def load_contract(path: Path) -> Contract:
    """Reads a contract file.

    Raises:
        ContractError: when the file is absent or wrong.
    """
    if not path.is_file():
        raise ContractError(f"there is no contract at {path}; set FRAUD_CONTRACT to one of contracts/*.yaml")
    return parse_contract(path.read_text(encoding="utf-8"), str(path))
