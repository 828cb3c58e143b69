"""Contracts: what a source delivers and what each column means, one YAML file a source.

The names on the left of a mapping are the platform's own (architecture: Names); `column` says what the
source calls it. Reading and validating the YAML belongs here; reading the data does not.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date, datetime
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from fraud_assets.core.contracts.conditions import Kind
from fraud_assets.core.contracts.extra_features import ExtraFeature, check_extra_features
from fraud_assets.core.contracts.feature_names import WINDOW_DAYS
from fraud_assets.core.contracts.limits import (
    LONGEST_WINDOW,
    SYSTEM_DATABASES,
    check_apart,
    check_entity,
    check_name,
    check_tables,
)
from fraud_assets.core.contracts.rules import ContractRule, SetName, SetValues, check_rules, kinds_of_names
from fraud_assets.core.months import check_month, month_end, month_of, month_start

ColumnType = Literal["integer", "number", "string", "boolean", "date"]
TimeUnit = Literal["s", "ms", "us", "ns", "hours", "days", "months", "excel"]

TIMESTAMP = pa.timestamp("us", tz="UTC")
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
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
        format: for a date, as for strptime, such as `%m/%y`, which is the last day of that month; ISO 8601 without one.
        nullable: whether a row may lack it.
        unit: what it is measured in, for people: EUR, seconds.
        description: what it means, for people: it is shown beside the column.
        scale: for numbers, what is stored is the delivered value times this: 0.01 for cents that shall be euros.
        extract: for text, a regular expression with one group: what is stored is what the group takes from the first
            place where the expression matches. Where it takes nothing there is no value. For a number, what the group
            takes is the number: the 134.09 of $134.09.
        minimum, maximum: the closed range in which a number may lie, as stored.
        categories: the only values allowed, as stored.
        pattern: for text, a regular expression that the whole value must match, as stored.
        feature: whether a further attribute is given to models: a number as it is, a boolean as 1 or 0, a date as the
            days from it to the transaction, a text by its values (`models/encoding.py`). By default it is, unless
            nothing can be learned from it; `true` gives it to them all the same, `false` leaves it out.
    """

    column: str
    type: ColumnType = "string"
    format: str | None = None
    nullable: bool = False
    unit: str | None = None
    description: str | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    extract: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    pattern: str | None = None
    feature: bool | None = None

    def in_words(self, what: str) -> str:
        """The column as a description.

        >>> Column(column="TX_AMOUNT", type="number", unit="EUR", minimum=0).in_words("Amount")
        'Amount, in EUR; 0 and up. `TX_AMOUNT` of the source.'
        """
        said = (self.description or what).rstrip(".") + (f", in {self.unit}" if self.unit else "")
        if self.minimum is not None and self.maximum is not None:
            said += f"; {self.minimum:g} to {self.maximum:g}"
        elif self.minimum is not None:
            said += f"; {self.minimum:g} and up"
        elif self.maximum is not None:
            said += f"; up to {self.maximum:g}"
        if self.categories is not None:
            shown = ", ".join(self.categories[:10]) + (" ..." if len(self.categories) > 10 else "")
            said += f"; one of {shown}"
        if self.nullable:
            said += "; may be missing"
        return f"{said}. `{self.column}` of the source."

    @model_validator(mode="after")
    def _rules_fit_the_type(self) -> Self:
        if self.format is not None and self.type != "date":
            raise ValueError(f"format is for type date, and column {self.column!r} is {self.type}")
        numeric = self.type in ("integer", "number")
        if not numeric and (self.minimum is not None or self.maximum is not None):
            raise ValueError(f"minimum and maximum are for numbers, and column {self.column!r} is {self.type}")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"no value of column {self.column!r} can lie in [{self.minimum:g}, {self.maximum:g}]")
        if self.type != "number" and self.scale != 1:
            raise ValueError(f"scale is for type number, and column {self.column!r} is {self.type}")
        if self.pattern is not None:
            if self.type != "string":
                raise ValueError(f"pattern is for text, and column {self.column!r} is {self.type}")
            try:
                pc.match_substring_regex(pa.array([""]), self.pattern)
            except pa.ArrowInvalid as error:
                raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from error
        if self.extract is not None:
            if self.type not in ("string", "number"):
                raise ValueError(f"extract is for text and numbers, and column {self.column!r} is {self.type}")
            if (groups := _groups(self.extract)) != 1:
                raise ValueError(
                    f"extract {self.extract!r} has {groups} groups; put brackets around the one part that shall be "
                    "stored, and write others as (?:...)"
                )
        return self


def _groups(pattern: str) -> int:
    """How many groups a regular expression has.

    Raises:
        ValueError: when it is none, to Arrow, which extracts, or to Python, which tells groups.
    """
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
        return re.compile(pattern).groups
    except (pa.ArrowInvalid, re.error) as error:
        raise ValueError(f"extract {pattern!r} is no regular expression: {error}") from error


class TimeColumn(_Section):
    """A time of the source: when a transaction happened, or when its label became known.

    Attributes:
        column: its name in the source; several, such as a date and a time of day, are joined with blanks between them.
        format: as for strptime, such as `%d.%m.%Y %H:%M`; without one, ISO 8601 is read.
        unit: for numbers: s, ms, us, ns, hours or days since `origin`; months, of which the one of `origin` is 0; excel
            for the serial numbers of workbooks.
        origin: from when numbers count; 1970-01-01 without one.
        ambiguous: how to resolve a local time that occurs twice when clocks go back. By default neither is guessed and
            the row is quarantined.
    """

    column: str | Annotated[tuple[str, ...], Field(min_length=1)]
    format: str | None = None
    unit: TimeUnit | None = None
    origin: date | datetime | None = None
    ambiguous: Literal["quarantine", "earliest", "latest"] = "quarantine"

    @property
    def columns(self) -> tuple[str, ...]:
        """The source's columns, in the order in which they are joined."""
        return (self.column,) if isinstance(self.column, str) else self.column

    @model_validator(mode="after")
    def _one_way_to_read_it(self) -> Self:
        if self.unit is not None and self.format is not None:
            raise ValueError("unit is for numbers and format for text; give one of them")
        if self.origin is not None and self.unit in (None, "excel"):
            raise ValueError("origin is what a unit such as hours or days counts from; add one, or leave origin out")
        return self


_OneCharacter = Annotated[str, Field(min_length=1, max_length=1)]


class Csv(_Section):
    """How the source writes text files.

    Attributes:
        delimiter: what stands between values; found from the header (comma, semicolon, tab or bar) when absent.
        decimal: what stands before the decimals of a number.
        thousands: what groups the digits of a number, such as the comma of 1,234.5.
        encoding: of the file's text, by a name that Python knows.
        quote: what stands around a value that holds delimiters; null where nothing does and a quote is a character.
        skip_rows: lines before the header; found when absent.
        comment: lines that begin with it are no rows.
        quoted_missing: whether a word of `missing` in quotes is a missing value, too, or the text that it is.
    """

    delimiter: _OneCharacter | None = None
    decimal: Literal[".", ","] = "."
    thousands: _OneCharacter | None = None
    encoding: str = "utf-8"
    quote: _OneCharacter | None = '"'
    skip_rows: Annotated[int, Field(ge=0)] | None = None
    comment: Annotated[str, Field(min_length=1)] | None = None
    quoted_missing: Literal["missing", "text"] = "missing"

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError as error:
            raise ValueError(f"there is no text encoding {value!r}; name one as in utf-8, cp1252, utf-16") from error
        return value

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.thousands is not None and self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}; no number could be read")
        return self


class Excel(_Section):
    """Which part of a workbook holds the rows.

    Attributes:
        sheet: its name; the first one with rows when absent.
    """

    sheet: str | None = None


class _LabelValues(_Section):
    """What a label's values mean, as text; upper and lower case are the same, and 1.0 is 1."""

    fraud_values: Annotated[tuple[str, ...], Field(min_length=1)] = ("1", "true")
    genuine_values: tuple[str, ...] = ("0", "false")

    def _meanings(self) -> tuple[tuple[str, ...], ...]:
        return (self.fraud_values, self.genuine_values)

    @model_validator(mode="after")
    def _one_meaning_each(self) -> Self:
        words = [word.lower() for words in self._meanings() for word in set(words)]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise ValueError(f"the label values {twice} have more than one meaning")
        return self


class LabelFeed(_LabelValues):
    """Labels that come in files of their own, named by the month in which they became known.

    Attributes:
        file_pattern: name of a month's file; `{month}` stands for YYYY-MM.
        transaction_id, is_fraud, label_timestamp: the feed's columns; a time without an offset is in the contract's
            time zone, and a date without a time of day was known by its end.
        label_source: the column that says who reported it; without one, it is `Label.label_source`.
        fraud_values, genuine_values: the values of `is_fraud` that mean fraud and genuine, as text.
        withdrawn_values: the values that take an earlier statement back.
    """

    file_pattern: Annotated[str, Field(pattern=r"^[^{}]*\{month\}[^{}]*$")]
    transaction_id: str
    is_fraud: str
    label_timestamp: str | TimeColumn
    label_source: str | None = None
    withdrawn_values: tuple[str, ...] = ("withdrawn",)

    @property
    def known(self) -> TimeColumn:
        """How `label_timestamp` is read."""
        return _as_time(self.label_timestamp)

    def _meanings(self) -> tuple[tuple[str, ...], ...]:
        return (self.fraud_values, self.genuine_values, self.withdrawn_values)


class Label(_LabelValues):
    """How the source says which transactions were fraud, and when that became known.

    Either a column of the transactions (`column`, with `known_at` or `delay_days`) or a `feed` of its own.

    Attributes:
        column: the label's column; a row that has no value there states nothing.
        blank: what it means that nothing is stated of a transaction that has matured: that it is genuine, because
            every fraud is reported in the end; or that it is unknown for good, because nobody looked into it.
        fraud_values, genuine_values: the values that mean fraud and genuine, as text; any other breaks the contract.
        known_at: column with the time at which the label became known, if the source has one; a date without a time of
            day was known by its end.
        delay_days: otherwise, days from the transaction to the label.
        feed: where labels come separately.
        max_delay_days: with `known_at`, the longest delay that is believed; later ones are quarantined.
        label_source: who reported it.
    """

    column: str | None = None
    blank: Literal["genuine_when_mature", "unknown"] = "genuine_when_mature"
    known_at: str | TimeColumn | None = None
    delay_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    feed: LabelFeed | None = None
    max_delay_days: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 62
    label_source: Literal["chargeback", "analyst", "customer_report"] = "chargeback"

    @property
    def known(self) -> TimeColumn | None:
        """How `known_at` is read."""
        return None if self.known_at is None else _as_time(self.known_at)

    @property
    def lookback_months(self) -> int:
        """How many months back a transaction can lie whose label becomes known this month."""
        longest = self.max_delay_days if self.delay_days is None else self.delay_days
        return -int(-longest // 28)

    @model_validator(mode="after")
    def _one_origin_and_one_clock(self) -> Self:
        if (self.column is None) == (self.feed is None):
            raise ValueError("give exactly one of column (of the transactions) and feed (files of its own)")
        if self.feed is not None:
            if self.known_at is not None or self.delay_days is not None:
                raise ValueError("known_at and delay_days belong to column; a feed says when in its label_timestamp")
        elif (self.known_at is None) == (self.delay_days is None):
            raise ValueError("give exactly one of known_at (a column) and delay_days (a number)")
        return self


def _as_time(given: str | TimeColumn) -> TimeColumn:
    return TimeColumn(column=given) if isinstance(given, str) else given


_Name = Annotated[str, AfterValidator(check_name)]
_Entity = Annotated[str, AfterValidator(check_entity)]


class Contract(_Section):
    """One source's contract.

    Attributes:
        name: names the local database and the folder of artifacts.
        first_month, last_month: the months that can exist; `last_month` is open when absent.
        timezone: of times without an offset, and the one in which months begin and end.
        file_pattern: name of a month's file in a folder source; `{month}` stands for YYYY-MM. Without it, the files
            hold all months, and a row belongs to the month of its event time.
        missing: words that stand for a missing value, beside an empty one: NA, None, "-".
        csv: how text files are written.
        excel: which sheet of a workbook is read.
        transaction_id, event_timestamp: what identifies a transaction, and when it happened.
        entities: identifiers that have a history, by the platform's name: customer_id, terminal_id, ip_address.
        amount: present where the source has it.
        attributes: further columns to keep, by the name the platform shall use.
        label: where labels come from.
        maturity_days: a transaction without a fraud report after so many days counts as genuine; where blank labels
            are unknown, a label that was given is believed from then on, and without one nothing is.
        quarantine_limit: the largest share of a month's rows that may be quarantined before the month is refused.
        window_days: the longest window of features. More of them read more history, and features are stable later.
        features: features beside those that every contract has.
        rules: what is decided beside the model; changes no row.
        sets: lists of values that rules name.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    description: str = ""
    first_month: str
    last_month: str | None = None
    timezone: str = "UTC"
    file_pattern: Annotated[str, Field(pattern=r"^[^{}]+$|^[^{}]*\{month\}[^{}]*$")] = "*{month}*"
    missing: tuple[str, ...] = ()
    csv: Csv = Csv()
    excel: Excel = Excel()
    transaction_id: Column | None = None
    event_timestamp: TimeColumn
    entities: dict[_Entity, Column] = {}
    amount: Column | None = None
    attributes: dict[_Name, Column] = {}
    label: Label
    maturity_days: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    quarantine_limit: Annotated[float, Field(ge=0, le=1)] = 0.05
    window_days: Annotated[int, Field(ge=31, le=LONGEST_WINDOW)] = WINDOW_DAYS
    features: tuple[ExtraFeature, ...] = ()
    rules: tuple[ContractRule, ...] = ()
    sets: dict[SetName, SetValues] = {}

    @field_validator("first_month", "last_month", mode="before")
    @classmethod
    def _months(cls, value: object) -> object:
        return check_month(str(value)) if value is not None else None

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"there is no time zone {value!r}; name one as in Europe/Paris, or UTC") from error
        return value

    @field_validator("name")
    @classmethod
    def _no_database_of_the_server(cls, value: str) -> str:
        if value in SYSTEM_DATABASES:
            raise ValueError(f"{value!r} is a database that every Postgres has; give the contract another name")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.last_month is not None and self.last_month < self.first_month:
            raise ValueError(f"last_month {self.last_month} lies before first_month {self.first_month}")
        if both := set(self.entities) & set(self.attributes):
            raise ValueError(f"{sorted(both)} are entities and attributes; name each once")
        if self.amount is not None and self.amount.type not in ("number", "integer"):
            raise ValueError(f"amount is {self.amount.type}, and is summed and compared; say type: number")
        if self.transaction_id is not None and self.transaction_id.type not in ("string", "integer"):
            raise ValueError(f"transaction_id is {self.transaction_id.type}; say type: string, which keeps any")
        if self.label.feed is not None and self.transaction_id is None:
            raise ValueError("a label feed names transactions by their id, and transaction_id is not given")
        if self.label.feed is not None:
            # In one folder, a file of labels would be read as one of transactions.
            file = self.label.feed.file_pattern.replace("{month}", self.first_month)
            if fnmatch(file, self.file_pattern.replace("{month}", self.first_month)):
                raise ValueError(
                    f"file_pattern {self.file_pattern!r} also takes the files of label.feed; make it narrower, for "
                    "example transactions_{month}.csv"
                )
        return self

    @model_validator(mode="after")
    def _later_steps_can(self) -> Self:
        types = {name: column.type for name, column in self.columns.items() if name not in self.entities}
        check_extra_features(self.features, list(self.entities), types, self.window_days)
        check_apart(self.entities, self.attributes, self.window_days, [extra.name for extra in self.features])
        amount = [] if self.amount is None else [self.amount.type]
        seen = [column for column in self.attributes.values() if column.feature is not False]
        check_tables(
            [column.type for column in self.entities.values()],
            [*amount, *(column.type for column in self.attributes.values())],
            ["string" if one.type == "string" else "real" for one in seen],
            spends=self.amount is not None,
            n_extra=len(self.features),
        )
        check_rules(self.rules, self.sets, self.kinds)
        return self

    @property
    def kinds(self) -> dict[str, Kind]:
        """What a rule may name, with the kind of its values: columns as they are stored, and features."""
        types = {name: column.type for name, column in self.columns.items()}
        return kinds_of_names(types, list(self.entities), self.window_days, [extra.name for extra in self.features])

    @property
    def card(self) -> str | None:
        """The entity whose days are reviewed: the customer; the first one where the source has no customers."""
        return "customer_id" if "customer_id" in self.entities else next(iter(self.entities), None)

    @property
    def columns(self) -> dict[str, Column]:
        """The stored columns besides transaction_id and event_timestamp, in table order."""
        amount = {} if self.amount is None else {"amount": self.amount}
        return self.entities | amount | self.attributes

    @property
    def source_columns(self) -> tuple[str, ...]:
        """The source's columns without which its rows mean nothing to this contract; those of the label are not."""
        declared = [self.transaction_id] if self.transaction_id else []
        names = [*self.event_timestamp.columns, *(column.column for column in [*declared, *self.columns.values()])]
        return tuple(dict.fromkeys(names))

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of `timezone`."""
        return ZoneInfo(self.timezone)

    def month_start(self, month: str) -> datetime:
        """The first instant of the month, in UTC."""
        return month_start(month, self.zone)

    def month_end(self, month: str) -> datetime:
        """The first instant after the month, in UTC: the as-of time of everything in the month's partition."""
        return month_end(month, self.zone)

    def month_of(self, moment: datetime) -> str:
        """The month in which a moment lies.

        Raises:
            ValueError: for a moment without a time zone, which would be read in this machine's.
        """
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
        return month_of(moment.astimezone(self.zone))

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides which rows and features come out: when it changes, they may be stale.

        A contract that says no more than the defaults has the digest of one that leaves them out.
        """
        return self._digest({})

    @property
    def digest_without_maturity(self) -> str:
        """The same of what transactions and labels depend on: not the maturity, and nothing about features."""
        return self._digest(dict.fromkeys(("maturity_days", "window_days", "features"), True))

    def _digest(self, left_out: dict[str, Any]) -> str:
        unimportant: dict[str, Any] = dict.fromkeys(
            ("name", "description", "file_pattern", "quarantine_limit", "rules", "sets"), True
        )
        words = {"unit", "description"}
        unimportant |= {"amount": words, "entities": {"__all__": words}, "attributes": {"__all__": words}}
        unimportant["transaction_id"] = {"description"}
        unimportant["label"] = {"feed": {"file_pattern"}}
        if "{month}" in self.file_pattern:
            # One set of files for all months puts rows outside of all of them into the first month's quarantine.
            unimportant |= {"first_month": True, "last_month": True}
        unimportant |= left_out
        said = self.model_dump(mode="json", exclude=unimportant, exclude_defaults=True)
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    @property
    def transaction_id_type(self) -> pa.DataType:
        """Type of transaction_id; a source without one gets text made of its file and row number."""
        return ARROW_TYPES[self.transaction_id.type] if self.transaction_id else pa.string()

    def transactions_schema(self) -> pa.Schema:
        """The schema of canonical transactions, without `ingested_at`."""
        fields = [
            pa.field("transaction_id", self.transaction_id_type, nullable=False),
            pa.field("event_timestamp", TIMESTAMP, nullable=False),
        ]
        fields += [pa.field(name, ARROW_TYPES[column.type], column.nullable) for name, column in self.columns.items()]
        return pa.schema(fields)

    def labels_schema(self) -> pa.Schema:
        """The schema of label statements: one row is one statement about one transaction.

        `event_timestamp` and the entities are null where the transaction has not been seen; `is_fraud` is null where
        an earlier statement is withdrawn.
        """
        return pa.schema(
            [
                pa.field("transaction_id", self.transaction_id_type, nullable=False),
                pa.field("event_timestamp", TIMESTAMP),
                *(pa.field(name, ARROW_TYPES[column.type]) for name, column in self.entities.items()),
                pa.field("is_fraud", pa.bool_()),
                pa.field("label_timestamp", TIMESTAMP, nullable=False),
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
        problems = "; ".join(_in_words(problem) for problem in error.errors())
        raise ContractError(f"{origin} is not a valid contract: {problems}") from error


def _in_words(problem: ErrorDetails) -> str:
    """A field, what is wrong with it, and what to do."""
    *above, name = problem["loc"] or ("contract",)
    field = ".".join(map(str, problem["loc"])) or "contract"
    if problem["type"] == "missing":
        return f"{field} is required: add it"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(above)
        if above and name in Contract.model_fields:
            return f"{field} is no field of a contract: {name} stands at the top"
        alike = difflib.get_close_matches(str(name), known, n=1)
        advice = f"did you mean {alike[0]}?" if alike else f"leave it out, or use one of {', '.join(known)}"
        return f"{field} is no field of a contract: {advice}"
    if problem["type"] == "model_type":
        return f"{field} must consist of fields: {', '.join(_fields_at(problem['loc']))}"
    if problem["type"] == "value_error" and name == "[key]":
        return f"{'.'.join(map(str, above[:-1]))}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] == "value_error":
        return f"{field}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{field} is {problem['input']!r}: {problem['msg']}"


def _fields_at(path: Sequence[int | str]) -> list[str]:
    """The fields of the section that a path of field names leads to."""
    section: type[BaseModel] = Contract
    for part in path:
        field = section.model_fields.get(str(part))
        # The name of an entity or an attribute is no field, and leads to no other section.
        if field is not None:
            inside = [field.annotation, *get_args(field.annotation)]
            section = next((kind for kind in inside if isinstance(kind, type) and issubclass(kind, BaseModel)), section)
    return list(section.model_fields)


# By its text, so that a changed one is read anew. Each asset asks for it, and reading YAML takes a while.
_parsed = lru_cache(maxsize=8)(parse_contract)


def load_contract(path: Path) -> Contract:
    """Reads a contract file.

    Raises:
        ContractError: when the file is absent or wrong.
    """
    if not path.is_file():
        raise ContractError(f"there is no contract at {path}; set FRAUD_CONTRACT to one of contracts/*.yaml")
    return _parsed(path.read_text(encoding="utf-8"), str(path))
