"""Transactions of a request, under the platform's names or the source's own, as rows that keep the contract.

What is allowed is decided where files are read, by `fraud_assets.core.intake.accept`: the same value is the same value,
or breaks the same rule, however it comes in. Only the shape of a request is checked here.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NotRequired

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic refuses typing.TypedDict before Python 3.12

from fraud_assets.core.contracts.column_names import find_columns
from fraud_assets.core.contracts.contract import Column, Contract, ContractError, Csv, TimeColumn

Names = Literal["platform", "source"]

# PostgreSQL's and Arrow's whole numbers.
FLOAT64_WHOLE = 2**53  # up to it, floating-point numbers have every whole one
INT64_MAX = 2**63 - 1
# Far from the ends of every timestamp type on the way (nanoseconds in int64 end in 2262), with room for
# history.
FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2200, 1, 1, tzinfo=UTC)
YEARS = "^(19[7-9]|20[0-9]|21[0-9])[0-9]-"  # of these, as the service's description has it
TIMESTAMP = pa.timestamp("us", tz="UTC")
# What is read as it stands, whatever a contract says of identifiers, missing values and numbers.
PLAIN_TEXT = re.compile(r"[A-Za-z0-9_:/-](?:[A-Za-z0-9 _:/-]{0,98}[A-Za-z0-9_:/-])?").fullmatch
PLAIN_DATE = re.compile(r"(?:19|20|21)\d\d-\d\d-\d\d").fullmatch
MOST_PLAIN = 2.0**52
MOST_PROBLEMS = 100  # ten thousand rows with one mistake each would be a long answer
LONGEST_TEXT = 1000
# PostgreSQL's text cannot hold the character 0.
TEXT: Any = Annotated[str, Strict(), StringConstraints(max_length=LONGEST_TEXT, pattern=r"^[^\x00]*$")]
PLACE = "transactions"

# Values may be personal data and belong in no log: BentoML logs the text of validation errors.
CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RequestError(ValueError):
    """A request that cannot be answered; `detail` leads to each field that is wrong."""

    def __init__(self, error: str, detail: list[dict[str, Any]]) -> None:
        super().__init__(error)
        self.error = error
        self.detail = detail


class TransactionReader:
    """Reads transactions by one contract."""

    def __init__(self, contract: Contract) -> None:
        # Here: it loads what reads files, for a second that whoever does not answer requests shall not wait.
        from fraud_assets.core.intake.accept import convert

        self._convert = convert
        self._contract = contract
        self._stored = _as_stored(contract)
        fields: dict[str, Any] = {
            "transaction_id": _json_type(contract.transaction_id.type if contract.transaction_id else "string"),
            "event_timestamp": Annotated[str, Strict()],
        }
        for name, column in contract.columns.items():
            kind = _json_type(column.type)
            fields[name] = NotRequired[kind | None] if column.nullable else kind
        self._platform_names = frozenset(fields)
        self._schema = contract.transactions_schema()
        declared = {"transaction_id": self._stored.transaction_id or Column(column="transaction_id")}
        declared |= self._stored.columns
        self._plain: dict[str, tuple[Callable[[Any], bool], pa.Field]] = {
            field.name: (
                _is_text if field.name == "event_timestamp" else _plain_check(declared[field.name]), field
            )
            for field in self._schema
        }  # fmt: skip
        # A TypedDict and no model: columns may have names that attributes of a model cannot have.
        row = TypedDict("Transaction", fields)  # type: ignore[misc] # the fields are known only from the contract
        setattr(row, "__pydantic_config__", CONFIG)  # noqa: B010 - the type checker knows no such attribute
        self._shape: TypeAdapter[list[dict[str, Any]]] = TypeAdapter(list[row])  # type: ignore[arg-type]

    def read(self, rows: list[dict[str, Any]], names: Names | None = None) -> pa.Table:
        """The rows, in their order, with the columns of `Contract.transactions_schema`.

        Args:
            rows: values by column. Under the platform's names they are stored values: numbers in the platform's unit,
                times in ISO 8601 with an offset. Under the source's own names they are read as its files are.
            names: whose names these are; when absent, the platform's where all of them are, else the source's where
                its time is among them.

        Raises:
            RequestError: naming each field that is wrong, and the rule that it breaks.
        """
        keys = list(dict.fromkeys(key for row in rows for key in row))
        if (names or self._names_of(keys)) == "platform":
            table, contract, called = self._platform_rows(rows), self._stored, dict[str, str]()
        else:
            table, contract, called = self._source_rows(rows, keys)
        try:
            converted = self._convert(table, contract, "the request")
        except ContractError as error:
            said = str(error)
            if isinstance(error.__cause__, pa.ArrowException):
                # Arrow's own words may repeat a value.
                said = said.replace(str(error.__cause__), "a value does not fit")
            raise RequestError(f"the transactions cannot be read: {said}", []) from error
        if converted.reasons:
            raise _refusal(
                [
                    _problem("contract", position, called.get(reason.column or "", reason.column or ""), reason.text)
                    for position, reasons in sorted(converted.reasons.items())
                    for reason in reasons
                ]
            )
        moments = converted.transactions["event_timestamp"]
        bounds = (pa.scalar(FIRST_INSTANT, TIMESTAMP), pa.scalar(LAST_INSTANT, TIMESTAMP))
        outside = pc.or_(pc.less(moments, bounds[0]), pc.greater_equal(moments, bounds[1])).to_pylist()
        if any(outside):
            said = f"the time must lie between {FIRST_INSTANT:%Y} and {LAST_INSTANT:%Y}"
            field = called.get("event_timestamp", "event_timestamp")
            raise _refusal([_problem("value_error", at, field, said) for at, one in enumerate(outside) if one])
        return converted.transactions

    def read_plain(self, rows: list[dict[str, Any]], names: Names | None = None) -> pa.Table | None:
        """As `read`, of one row of which it is plain to see that it keeps the contract; None where it is not.

        What takes a look at the rules takes longer than all else about a transaction.
        """
        if len(rows) != 1 or names == "source" or not self._platform_names.issuperset(rows[0]):
            return None
        (row,) = rows
        values = []
        for name, (check, field) in self._plain.items():
            value = row.get(name)
            if value is None:
                if not field.nullable or name == "event_timestamp":
                    return None
            elif not check(value):
                return None
            elif name == "event_timestamp":
                try:
                    value = _instant(value)
                except ValueError:
                    return None
            elif field.type == pa.date32():
                value = date.fromisoformat(value)
            values.append(pa.array([value], field.type))
        return pa.table(values, schema=self._schema)

    def _names_of(self, keys: Sequence[str]) -> Names:
        if self._platform_names.issuperset(keys):
            return "platform"
        with contextlib.suppress(ContractError):
            find_columns({name: name for name in self._contract.event_timestamp.columns}, keys, "the request", "")
            return "source"
        return "platform"

    def _platform_rows(self, rows: list[dict[str, Any]]) -> pa.Table:
        try:
            checked = self._shape.validate_python(rows)
        except ValidationError as error:
            raise refused(error, PLACE) from error
        values: dict[str, list[Any]] = {name: [row.get(name) for row in checked] for name in self._platform_names}
        problems = []
        for position, text in enumerate(values["event_timestamp"]):
            try:
                values["event_timestamp"][position] = _instant(text)
            except ValueError as error:
                problems.append(_problem("value_error", position, "event_timestamp", str(error)))
        if problems:
            raise _refusal(problems)
        columns = {}
        for name in self._platform_names:
            kind = TIMESTAMP if name == "event_timestamp" else self._stored.transactions_schema().field(name).type
            columns[name] = pa.array(values[name], pa.string() if kind == pa.date32() else kind)
        return pa.table(columns)

    def _source_rows(
        self, rows: list[dict[str, Any]], keys: Sequence[str]
    ) -> tuple[pa.Table, Contract, dict[str, str]]:
        """The rows as a file of the source would have them, the contract, and its columns by the platform's names."""
        contract = self._contract
        if contract.transaction_id is None and "transaction_id" in keys:
            # A file's rows are named by file and number; a request's may bring names of their own.
            contract = contract.model_copy(update={"transaction_id": Column(column="transaction_id")})
        called = {"event_timestamp": contract.event_timestamp.columns[0]}
        called |= {name: column.column for name, column in contract.columns.items()}
        if contract.transaction_id is not None:
            called["transaction_id"] = contract.transaction_id.column
        given = {}
        for name in contract.source_columns:
            given[name] = name
            with contextlib.suppress(ContractError):
                (place,) = find_columns({name: name}, keys, "the request", "").values()
                given[name] = keys[place]
        self._look_for_missing(rows, contract, given)
        columns, problems = {}, list[dict[str, Any]]()
        for name, key in given.items():
            values = [row.get(key) for row in rows]
            problems += [
                _problem("type_error", position, name, wrong)
                for position, value in enumerate(values)
                if (wrong := _unfit(value))
            ]
            if not problems:
                columns[name] = _as_delivered(values, contract.csv)
        if problems:
            raise _refusal(sorted(problems, key=lambda one: one["loc"][1]))
        return pa.table(columns), contract, called

    def _look_for_missing(self, rows: list[dict[str, Any]], contract: Contract, given: dict[str, str]) -> None:
        """Refuses rows that lack a column, and names that are nearly those of a column that may be missing.

        Further columns, such as the label's, are left out of account, as they are of a file.
        """
        may_be_missing = {column.column for column in contract.columns.values() if column.nullable}
        problems = []
        for position, row in enumerate(rows):
            for name, key in given.items():
                if key in row:
                    continue
                if name not in may_be_missing:
                    problems.append(_problem("missing", position, name, "Field required"))
                elif near := difflib.get_close_matches(name, [one for one in row if one not in given.values()], n=1):
                    problems.append(_problem("missing", position, name, f"did you mean it by {near[0]!r}?"))
            if len(problems) > MOST_PROBLEMS:
                break
        if problems:
            raise _refusal(problems)


def refused(error: ValidationError, place: str) -> RequestError:
    """What pydantic found, as the answer says it."""
    problems = [
        {"type": problem["type"], "loc": [place, *problem["loc"]], "msg": problem["msg"]}
        for problem in error.errors(include_url=False, include_context=False, include_input=False)[:MOST_PROBLEMS]
    ]
    return _refusal(problems, error.error_count())


def _as_stored(contract: Contract) -> Contract:
    """The contract of values that are what the platform stores, under its own names."""

    def stored(name: str, column: Column) -> Column:
        return column.model_copy(update={"column": name, "scale": 1.0, "extract": None, "format": None})

    declared = contract.transaction_id or Column(column="transaction_id")
    return contract.model_copy(
        update={
            "transaction_id": stored("transaction_id", declared),
            "event_timestamp": TimeColumn(column="event_timestamp"),
            "entities": {name: stored(name, column) for name, column in contract.entities.items()},
            "amount": None if contract.amount is None else stored("amount", contract.amount),
            "attributes": {name: stored(name, column) for name, column in contract.attributes.items()},
            "csv": Csv(),
            "missing": (),
        }
    )


def _json_type(kind: str) -> Any:
    text = Annotated[str, Strict(), StringConstraints(max_length=LONGEST_TEXT)]
    return {
        "integer": Annotated[int, Strict(), Field(ge=-INT64_MAX - 1, le=INT64_MAX)],
        "number": Annotated[float, Strict(), Field(allow_inf_nan=False)],
        "string": text,
        "date": text,
        "boolean": Annotated[bool, Strict()],
    }[kind]


def _is_text(value: Any) -> bool:
    return type(value) is str


def _plain_check(column: Column) -> Callable[[Any], bool]:
    """Says of a value whether it surely is one of the column's, and would be read as it stands."""
    lowest = -math.inf if column.minimum is None else column.minimum
    highest = math.inf if column.maximum is None else column.maximum
    categories = None if column.categories is None else frozenset(column.categories)

    def is_plain_number(value: Any) -> bool:
        return type(value) in (int, float) and abs(value) <= MOST_PLAIN and lowest <= value <= highest

    def is_plain_integer(value: Any) -> bool:
        return type(value) is int and abs(value) <= MOST_PLAIN and lowest <= value <= highest

    def is_plain_text(value: Any) -> bool:
        return type(value) is str and bool(PLAIN_TEXT(value)) and (categories is None or value in categories)

    def is_plain_date(value: Any) -> bool:
        return type(value) is str and bool(PLAIN_DATE(value)) and _is_date(value)

    def is_plain_boolean(value: Any) -> bool:
        return type(value) is bool

    if column.pattern is not None or (categories is not None and column.type != "string"):
        return lambda _: False
    return {
        "integer": is_plain_integer, "number": is_plain_number, "string": is_plain_text, "date": is_plain_date,
        "boolean": is_plain_boolean,
    }[column.type]  # fmt: skip


def _is_date(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        # Python's own words repeat the value.
        raise ValueError("this is no time in ISO 8601; write it as 2018-08-14T12:30:00Z") from None
    if moment.tzinfo is None:
        raise ValueError("the time has no time zone; add Z or an offset, for example 2018-08-14T12:30:00Z")
    if not FIRST_INSTANT <= moment < LAST_INSTANT:
        raise ValueError(f"the time must lie between {FIRST_INSTANT:%Y} and {LAST_INSTANT:%Y}")
    return moment.astimezone(UTC)


def _unfit(value: Any) -> str | None:
    """Why a value of JSON is none that a file could have; None where it is one."""
    if isinstance(value, list | dict):
        return "is neither text nor a number nor true or false"
    if isinstance(value, float) and not math.isfinite(value):
        return "is no finite number"
    if isinstance(value, int) and value.bit_length() > 1024:
        return "is a number beyond all that can be stored"
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            return f"is longer than {LONGEST_TEXT} characters"
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is no valid text"
    return None


def _as_delivered(values: list[Any], style: Csv) -> pa.Array:
    """A column as a file would have it: of one type, or as the text that the contract reads."""
    kinds = {type(value) for value in values if value is not None}
    whole = [abs(value) for value in values if type(value) is int]
    largest = max(whole, default=0)
    if kinds <= {bool}:
        return pa.array(values, pa.bool_() if kinds else pa.string())
    if kinds <= {int} and largest <= INT64_MAX:
        return pa.array(values, pa.int64())
    if kinds <= {int, float} and largest <= FLOAT64_WHOLE:
        return pa.array(values, pa.float64())
    return pa.array([None if value is None else _text(value, style) for value in values], pa.string())


def _text(value: Any, style: Csv) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        written = str(pa.scalar(value).cast(pa.string()).as_py())
        return written.replace(".", style.decimal)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _problem(kind: str, row: int, field: str, message: str) -> dict[str, Any]:
    return {"type": kind, "loc": [PLACE, row, field], "msg": message}


def _refusal(problems: list[dict[str, Any]], count: int | None = None) -> RequestError:
    n, first = count or len(problems), problems[0]
    place = ".".join(str(part) for part in first["loc"])
    said = "1 validation error at" if n == 1 else f"{n} validation errors, the first at"
    return RequestError(f"{said} {place}: {first['msg']}", problems[:MOST_PROBLEMS])
