"""From a delivery to canonical rows: every row is either accepted or quarantined with its reasons.

Columns are converted and checked as the contract says; nothing is repaired and nothing is dropped. Where a
delivery comes from belongs to `adapters/sources.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contract import Column, Contract, ContractError
from fraud_assets.core.months import month_end, month_start

TIMESTAMP = pa.timestamp("us", tz="UTC")
INTEGER = r"^[+-]?\d+$"
LARGEST_INTEGER = str(2**63 - 1)
LARGEST_NUMBER = float(np.finfo(np.float32).max)  # what a model can be given
OFFSET = r"[Tt ]\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"


class IntakeError(ValueError):
    """A month that is refused whole; what was there before stays."""


@dataclass(frozen=True)
class Delivery:
    """A month as its source gave it: its own column names, and what to call it in messages."""

    rows: pa.Table
    origin: str


@dataclass(frozen=True)
class Intake:
    """A delivery after the contract: rows that keep it, label statements, and rows that break it.

    Attributes:
        transactions: columns of `Contract.transactions_schema`.
        statements: columns of `Contract.labels_schema`, about the accepted rows.
        quarantined: `source`, `row_number` (from 1, in the delivery), `reasons`, `original` (JSON).
        reason_counts: how many rows broke each rule.
    """

    transactions: pa.Table
    statements: pa.Table
    quarantined: pa.Table
    reason_counts: dict[str, int]


def accept(delivery: Delivery, contract: Contract, month: str) -> Intake:
    """Applies the contract to a month's delivery.

    Raises:
        ContractError: when a column of the contract is missing.
        IntakeError: when the delivery is empty, or more than `quarantine_limit` of its rows break the contract.
    """
    rows, origin = delivery.rows, delivery.origin
    _require_columns(rows, contract, origin, labels=True)
    rows = _plain(rows, origin)
    if rows.num_rows == 0:
        raise IntakeError(
            f"{origin} has no rows for {month}; an empty month is more often a broken feed than a quiet one, so it "
            "is refused and the month stays as it was: deliver the rows and run the month again"
        )
    faults = _Faults(rows.num_rows)
    columns = _columns(rows, contract, origin, faults)
    _require_month(columns["event_timestamp"], month, faults)
    is_fraud, known = _labels(rows, contract, columns["event_timestamp"], faults)

    good = pa.array(~faults.any)
    _refuse_beyond_limit(faults, contract, origin, month)
    transactions = _accepted(columns, contract, good)
    return Intake(
        transactions,
        _statements(transactions, is_fraud.filter(good), known.filter(good), contract),
        _quarantined(rows, faults, origin),
        faults.counts(),
    )


@dataclass(frozen=True)
class Converted:
    """Rows to score, after the contract.

    Attributes:
        transactions: the rows that keep it.
        transaction_ids: one value per delivered row; null where the row breaks the contract.
        problems: a sentence for each row that breaks it.
    """

    transactions: pa.Table
    transaction_ids: pa.Array
    problems: list[str]


def convert(rows: pa.Table, contract: Contract, origin: str) -> Converted:
    """Applies the contract to rows of any months, without labels.

    Raises:
        ContractError: when a column of the contract is missing.
    """
    _require_columns(rows, contract, origin, labels=False)
    rows = _plain(rows, origin)
    faults = _Faults(rows.num_rows)
    columns = _columns(rows, contract, origin, faults)
    good = pa.array(~faults.any)
    quarantined = _quarantined(rows, faults, origin)
    problems = [
        f"row {number} of {origin}: {reasons}"
        for number, reasons in zip(
            quarantined["row_number"].to_pylist(), quarantined["reasons"].to_pylist(), strict=True
        )
    ]
    identifiers = pc.if_else(good, columns["transaction_id"], None)
    if isinstance(identifiers, pa.ChunkedArray):
        identifiers = identifiers.combine_chunks()
    return Converted(_accepted(columns, contract, good), identifiers, problems)


def _columns(rows: pa.Table, contract: Contract, origin: str, faults: _Faults) -> dict[str, pa.ChunkedArray]:
    columns = {
        "event_timestamp": _event_times(rows, contract, faults),
        "transaction_id": _transaction_ids(rows, contract, origin, faults),
    }
    for name, column in contract.columns.items():
        columns[name] = _checked(rows[column.column], name, column, origin, faults)
    return columns


def _accepted(columns: dict[str, pa.ChunkedArray], contract: Contract, good: pa.Array) -> pa.Table:
    schema = contract.transactions_schema()
    return pa.table([columns[name] for name in schema.names], names=schema.names).filter(good).cast(schema)


class _Faults:
    """Which rows break which rule."""

    def __init__(self, n: int) -> None:
        self.any = np.zeros(n, bool)
        self.rules: list[tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]] = []

    def add(self, rule: str, broken: pa.Array | pa.ChunkedArray | np.ndarray[Any, Any]) -> None:
        """Records a rule in words, and the rows that break it."""
        if not isinstance(broken, np.ndarray):
            broken = np.asarray(pc.fill_null(broken, False))
        if broken.any():
            self.rules.append((rule, broken))
            self.any |= broken

    def counts(self) -> dict[str, int]:
        """Rows per rule, most frequent first."""
        return dict(Counter({rule: int(broken.sum()) for rule, broken in self.rules}).most_common())


def _require_columns(rows: pa.Table, contract: Contract, origin: str, *, labels: bool) -> None:
    needed = {"event_timestamp": contract.event_timestamp.column}
    if labels:
        needed["label"] = contract.label.column
        if contract.label.known_at:
            needed["label.known_at"] = contract.label.known_at
    if contract.transaction_id:
        needed["transaction_id"] = contract.transaction_id.column
    needed |= {name: column.column for name, column in contract.columns.items()}
    if twice := sorted({name for name in needed.values() if rows.column_names.count(name) > 1}):
        raise ContractError(f"{origin} has more than one column called {twice}: correct the file")
    missing = {name: column for name, column in needed.items() if column not in rows.column_names}
    if missing:
        listed = ", ".join(f"{column!r} (for {name})" for name, column in missing.items())
        raise ContractError(
            f"{origin} lacks {listed}; it has {rows.column_names}: "
            f"correct the file, or the mapping in contract {contract.name!r}"
        )


def _plain(rows: pa.Table, origin: str) -> pa.Table:
    """The rows with one type for text: dictionaries and views are how a file stores it, not what it says."""
    for position, field in enumerate(rows.schema):
        kind, column = field.type, rows.column(position)
        if isinstance(kind, pa.UuidType):
            column = pa.chunked_array([pa.array(map(_text_or_null, column.to_pylist()), pa.string())])
        elif isinstance(kind, pa.BaseExtensionType):
            # numeric of Postgres, for one, is text inside.
            kind = kind.storage_type
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind)
        if pa.types.is_dictionary(kind):
            kind, column = kind.value_type, column.cast(kind.value_type)
        if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_binary(kind):
            try:
                column = column.cast(pa.string())
            except pa.ArrowInvalid as error:
                raise ContractError(
                    f"column {field.name!r} of {origin} is not UTF-8 text: {error}; correct the file"
                ) from error
        if column.type != field.type:
            rows = rows.set_column(position, field.name, column)
    return rows


def _text_or_null(value: object) -> str | None:
    return None if value is None else str(value)


def _event_times(rows: pa.Table, contract: Contract, faults: _Faults) -> pa.ChunkedArray:
    times = _timestamps(
        rows[contract.event_timestamp.column], "event_timestamp", contract.event_timestamp.timezone,
        contract.event_timestamp.format, faults,
    )  # fmt: skip
    faults.add("event_timestamp is missing", _missing(rows[contract.event_timestamp.column]))
    return times


def _require_month(times: pa.ChunkedArray, month: str, faults: _Faults) -> None:
    outside = pc.or_(
        pc.less(times, pa.scalar(month_start(month), TIMESTAMP)),
        pc.greater_equal(times, pa.scalar(month_end(month), TIMESTAMP)),
    )
    faults.add(f"event_timestamp lies outside {month}", outside)


def _transaction_ids(rows: pa.Table, contract: Contract, origin: str, faults: _Faults) -> pa.ChunkedArray:
    if contract.transaction_id is None:
        return pa.chunked_array([pa.array([f"{origin}:{number}" for number in range(1, rows.num_rows + 1)])])
    column = contract.transaction_id
    identifiers = _checked(rows[column.column], "transaction_id", column, origin, faults)
    seen = pd.Series(identifiers.to_pandas(types_mapper=pd.ArrowDtype))
    faults.add("transaction_id appears earlier in the delivery", (seen.duplicated() & seen.notna()).to_numpy(bool))
    return identifiers


def _checked(values: pa.ChunkedArray, name: str, column: Column, origin: str, faults: _Faults) -> pa.ChunkedArray:
    try:
        converted = _CONVERTERS[column.type](values, name, faults)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"column {column.column!r} of {origin} is of type {values.type}, which cannot be read as "
            f"{column.type} (for {name}): {error}"
        ) from error
    if not column.nullable:
        # A value that is there but unreadable has a reason of its own.
        faults.add(f"{name} is missing", _missing(values, blank=column.type != "string"))
    if column.minimum is not None:
        faults.add(f"{name} is below {column.minimum:g}", pc.less(converted, column.minimum))
    if column.maximum is not None:
        faults.add(f"{name} is above {column.maximum:g}", pc.greater(converted, column.maximum))
    if column.categories is not None:
        text = converted.cast(pa.string())
        unknown = pc.and_(pc.is_valid(text), pc.invert(pc.is_in(text, pa.array(column.categories))))
        faults.add(f"{name} is none of {list(column.categories)}", unknown)
    return converted


def _missing(values: pa.ChunkedArray, *, blank: bool = True) -> pa.ChunkedArray:
    """Where there is no value: null, NaN, empty text, and with `blank` also text of nothing but spaces."""
    if _is_text(values.type):
        text = pc.utf8_trim_whitespace(values) if blank else values
        return pc.fill_null(pc.equal(text, ""), True)
    return pc.is_null(values, nan_is_null=True)


def _to_number(values: pa.ChunkedArray, name: str, faults: _Faults) -> pa.ChunkedArray:
    if _is_text(values.type):
        text = pc.utf8_trim_whitespace(values)
        fits = pc.match_substring_regex(text, NUMBER)
        values = _parsed(text, fits, pa.float64(), f"{name} is not a number", faults)
    numbers = values.cast(pa.float64(), safe=False)
    faults.add(f"{name} is not finite", pc.is_inf(numbers))
    size = pc.abs(numbers)
    beyond = pc.and_(pc.is_finite(size), pc.greater(size, LARGEST_NUMBER))
    faults.add(f"{name} is beyond {LARGEST_NUMBER:.1e}", beyond)
    return pc.if_else(pc.less_equal(size, LARGEST_NUMBER), numbers, None)


def _to_integer(values: pa.ChunkedArray, name: str, faults: _Faults) -> pa.ChunkedArray:
    rule = f"{name} is not a whole number"
    if pa.types.is_floating(values.type):
        # Past 2**53 a float has lost digits: two identifiers may have become one.
        whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
        faults.add(rule, pc.and_(pc.invert(whole), pc.invert(pc.is_nan(values))))
        return pc.if_else(whole, values, None).cast(pa.int64())
    if pa.types.is_signed_integer(values.type):
        return values.cast(pa.int64())
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    if pa.types.is_decimal(values.type):
        text = pc.replace_substring_regex(text, r"\.0*$", "")
    digits = pc.utf8_ltrim(text, "+-0")
    length = pc.utf8_length(digits)
    # Of as many digits as the largest, the smaller number is the earlier text.
    within = pc.or_(
        pc.less(length, len(LARGEST_INTEGER)),
        pc.and_(pc.equal(length, len(LARGEST_INTEGER)), pc.less_equal(digits, LARGEST_INTEGER)),
    )
    return _parsed(text, pc.and_(pc.match_substring_regex(text, INTEGER), within), pa.int64(), rule, faults)


def _to_string(values: pa.ChunkedArray, name: str, faults: _Faults) -> pa.ChunkedArray:
    text = values.cast(pa.string())
    faults.add(f"{name} contains a zero byte", pc.match_substring(text, "\x00"))
    return pc.if_else(pc.equal(text, ""), None, text)


def _to_boolean(values: pa.ChunkedArray, name: str, faults: _Faults) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type):
        return values
    text = pc.utf8_lower(values.cast(pa.string()))
    true, false = (
        pc.is_in(text, pa.array(["true", "1", "yes"])),
        pc.is_in(text, pa.array(["false", "0", "no"])),
    )
    known = pc.or_(true, false)
    faults.add(f"{name} is neither true nor false", pc.and_(pc.is_valid(values), pc.invert(known)))
    return pc.if_else(known, true, None)


_CONVERTERS: dict[str, Callable[[pa.ChunkedArray, str, _Faults], pa.ChunkedArray]] = {
    "number": _to_number,
    "integer": _to_integer,
    "string": _to_string,
    "boolean": _to_boolean,
}


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind))


def _parsed(
    text: pa.ChunkedArray, fits: pa.ChunkedArray, kind: pa.DataType, rule: str, faults: _Faults
) -> pa.ChunkedArray:
    faults.add(rule, pc.and_(pc.not_equal(text, ""), pc.invert(fits)))
    return pc.if_else(fits, pc.utf8_ltrim(text, "+"), None).cast(kind)


def _timestamps(
    values: pa.ChunkedArray, name: str, timezone: str, form: str | None, faults: _Faults
) -> pa.ChunkedArray:
    if pa.types.is_null(values.type):
        values = values.cast(TIMESTAMP)
    given = pc.invert(_missing(values))
    if _is_text(values.type):
        series = pd.Series(values.to_pandas(), dtype=object)
        # pandas would ask the clock.
        series = series.mask(series.str.strip().str.lower().isin(["now", "today"]))
        parsed = pd.to_datetime(series, format=form or "ISO8601", utc=True, errors="coerce")
        if timezone != "UTC":
            local = parsed.dt.tz_localize(None).dt.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT")
            if form is None:
                aware = series.str.contains(OFFSET, regex=True, na=False)
                parsed = parsed.where(aware, local.dt.tz_convert("UTC"))
            elif "%z" not in form:
                parsed = local
        times = pa.chunked_array([pa.Array.from_pandas(parsed)]).cast(TIMESTAMP, safe=False)
    elif pa.types.is_timestamp(values.type) and values.type.tz is None:
        naive = values.cast(pa.timestamp("us"), safe=False)
        earliest, latest = (
            pc.assume_timezone(naive, timezone, ambiguous=choice, nonexistent=choice)
            for choice in ("earliest", "latest")
        )
        # They differ in the hour that a night has twice, and in the one that it skips: no guess.
        times = pc.if_else(pc.equal(earliest, latest), earliest, None).cast(TIMESTAMP)
    elif pa.types.is_timestamp(values.type):
        times = values.cast(TIMESTAMP, safe=False)
    else:
        raise ContractError(f"{name} is of type {values.type}; a time must be a timestamp or text")
    faults.add(f"{name} is not a time in {timezone}", pc.and_(given, pc.is_null(times)))
    return times


def _labels(
    rows: pa.Table, contract: Contract, event_times: pa.ChunkedArray, faults: _Faults
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    label = contract.label
    is_fraud = pc.fill_null(_as_label_text(rows[label.column], label.fraud_values), False)
    if label.known_at is None:
        return is_fraud, pc.add(event_times, pa.scalar(timedelta(days=label.delay_days or 0.0)))
    known = _timestamps(rows[label.known_at], "label_timestamp", contract.event_timestamp.timezone, None, faults)
    faults.add("label_timestamp is missing for a fraud", pc.and_(is_fraud, _missing(rows[label.known_at])))
    faults.add("label_timestamp lies before the transaction", pc.less(known, event_times))
    latest = pc.add(event_times, pa.scalar(timedelta(days=label.max_delay_days)))
    faults.add(f"label_timestamp lies over {label.max_delay_days:g} days late", pc.greater(known, latest))
    return is_fraud, known


def _as_label_text(values: pa.ChunkedArray, fraud_values: tuple[str, ...]) -> pa.ChunkedArray:
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8()) if "1" in fraud_values else values
    # A column of numbers that once had gaps says 1.0 for 1.
    text = pc.replace_substring_regex(pc.utf8_lower(values.cast(pa.string())), r"^(\d+)\.0+$", r"\1")
    return pc.is_in(text, pa.array([value.lower() for value in fraud_values]))


def _statements(
    transactions: pa.Table, is_fraud: pa.ChunkedArray, known: pa.ChunkedArray, contract: Contract
) -> pa.Table:
    """Fraud is stated; that a transaction was genuine follows from its maturity (`labels_as_of`)."""
    schema = contract.labels_schema()
    n = transactions.num_rows
    columns = {
        "is_fraud": is_fraud,
        "label_timestamp": known,
        "label_source": pa.array([contract.label.label_source] * n, pa.string()),
    }
    stated = pa.table(
        [columns[name] if name in columns else transactions[name] for name in schema.names],
        names=schema.names,
    )
    return stated.filter(is_fraud).cast(schema)


def _refuse_beyond_limit(faults: _Faults, contract: Contract, origin: str, month: str) -> None:
    share = float(faults.any.mean())
    if share > contract.quarantine_limit:
        listed = "; ".join(f"{rule}: {count} rows" for rule, count in faults.counts().items())
        raise IntakeError(
            f"{origin}: {faults.any.sum()} of {faults.any.size} rows ({share:.1%}) break contract {contract.name!r}, "
            f"more than its quarantine_limit of {contract.quarantine_limit:.1%}, so {month} is refused and stays as "
            f"it was. {listed}"
        )


def _quarantined(rows: pa.Table, faults: _Faults, origin: str) -> pa.Table:
    positions = np.flatnonzero(faults.any)
    originals = _original_rows(rows.take(pa.array(positions)))
    reasons = ["; ".join(rule for rule, broken in faults.rules if broken[position]) for position in positions]
    return pa.table(
        {
            "source": pa.array([origin] * len(positions), pa.string()),
            "row_number": pa.array(positions + 1, pa.int64()),
            "reasons": pa.array(reasons, pa.string()),
            "original": pa.array([json.dumps(row, default=str, ensure_ascii=False) for row in originals], pa.string()),
        }
    )


def _original_rows(rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as JSON can hold them: times beyond year 9999 and numbers that are not finite as text."""
    for position, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(position, field.name, rows.column(position).cast(pa.string()))
    return [
        {
            name: str(value) if isinstance(value, float) and not np.isfinite(value) else value
            for name, value in row.items()
        }
        for row in rows.to_pylist()
    ]
