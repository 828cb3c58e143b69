"""From the values of a file to the types of a contract, column by column and many rows at a time.

A value that cannot be read becomes null and is noted with the reason; nothing is guessed and nothing is repaired.
Whether a value that can be read is allowed is a rule, and belongs to `core/intake.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contract import TIMESTAMP, Column, Contract, ContractError

INTEGER = r"^[+-]?\d+$"
LARGEST_INTEGER = str(2**63 - 1)
LARGEST_NUMBER = float(np.finfo(np.float32).max)  # what a model can be given
OFFSET = r"[Tt ]\d.*(?:[Zz]|[+-]\d\d(?::?\d\d)?)$"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
DECIMAL_COMMA = NUMBER.replace(r"\.", ",")


class Unreadable:
    """Which rows have a value that cannot be read: reason by reason, each with its column."""

    def __init__(self) -> None:
        self.reasons: list[tuple[str, str, npt.NDArray[np.bool_]]] = []

    def note(self, column: str, reason: str, rows: pa.Array) -> None:
        """Notes the rows where `rows` is true.

        Args:
            column: the platform's name of the column.
            reason: what is wrong, after the column's name; where the contract could help, how, in brackets.
            rows: a boolean for each row.
        """
        if pc.any(rows).as_py():
            self.reasons.append((column, f"{column} {reason}", np.asarray(pc.fill_null(rows, False))))


def canonical_columns(rows: pa.RecordBatch, contract: Contract, origin: str, unreadable: Unreadable) -> dict[str, Any]:
    """The columns of `Contract.transactions_schema`, without `transaction_id` where the source has none.

    Raises:
        ContractError: when a column is of a type that cannot be read as what the contract says.
    """
    columns = {"event_timestamp": event_times(rows, contract, origin, unreadable)}
    declared = {"transaction_id": contract.transaction_id} if contract.transaction_id else {}
    for name, column in (declared | contract.columns).items():
        columns[name] = to_column(rows.column(column.column), name, column, contract, origin, unreadable)
    return columns


def to_column(
    values: pa.Array, name: str, column: Column, contract: Contract, origin: str, unreadable: Unreadable
) -> pa.Array:
    """The values as the type that a contract's column says, under the name that they have in messages.

    Raises:
        ContractError: when they are of a type that cannot be read as that one.
    """
    values = _plain(values, column.column, origin)
    try:
        return _CONVERTERS[column.type](values, name, column, contract, unreadable)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"column {column.column!r} of {origin} is of type {values.type}, which cannot be read as "
            f"{column.type} (for {name}): {error}"
        ) from error


def event_times(
    rows: pa.RecordBatch, contract: Contract, origin: str = "delivery", unreadable: Unreadable | None = None
) -> pa.Array:
    """`event_timestamp` of rows as delivered, null where it cannot be read."""
    given = _plain(rows.column(contract.event_timestamp.columns[0]), contract.event_timestamp.columns[0], origin)
    return to_times(given, "event_timestamp", contract, unreadable or Unreadable())


def label_columns(
    rows: pa.RecordBatch, contract: Contract, times: pa.Array, origin: str, unreadable: Unreadable
) -> dict[str, Any]:
    """`is_fraud`, null where nothing is stated, and `label_timestamp`, when that became known.

    Args:
        rows: as delivered.
        contract: with a label column.
        times: `event_timestamp` of the rows.
        origin: what to call the rows in messages.
        unreadable: takes the labels that are no word of the contract, and the times that are none.
    """
    label = contract.label
    if label.column is None:
        raise ContractError(f"contract {contract.name!r} has a label feed, and no label in its transactions")
    values = _plain(rows.column(label.column), label.column, origin)
    is_fraud = to_label(values, "is_fraud", label.fraud_values, label.genuine_values, unreadable)
    known_at = label.known
    if known_at is None:
        return {
            "is_fraud": is_fraud,
            "label_timestamp": pc.add(times, pa.scalar(timedelta(days=label.delay_days or 0.0))),
        }
    known = _plain(rows.column(known_at.columns[0]), known_at.columns[0], origin)
    return {"is_fraud": is_fraud, "label_timestamp": to_times(known, "label_timestamp", contract, unreadable)}


def to_label(
    values: pa.Array,
    name: str,
    fraud_values: tuple[str, ...],
    genuine_values: tuple[str, ...],
    unreadable: Unreadable,
) -> pa.Array:
    """True for a fraud, false for a genuine transaction, null where there is no value.

    A column of booleans, or of numbers that once had gaps and say 1.0 for 1, is read as the words of the contract.
    """
    words = [[word.lower() for word in meaning] for meaning in (fraud_values, genuine_values)]
    if pa.types.is_boolean(values.type):
        words = [[*meaning, *({"1": "true", "0": "false"}.get(word, word) for word in meaning)] for meaning in words]
    # There are few different ones, and text is slow.
    encoded = values.dictionary_encode()
    text = pc.utf8_lower(pc.utf8_trim_whitespace(_text(encoded.dictionary)))
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    fraud, genuine = (pc.is_in(text, pa.array(meaning, pa.string())) for meaning in words)
    stated = pc.or_(fraud, genuine)
    unknown = pc.and_not(pc.invert(_missing(encoded.dictionary)), stated)
    if pc.any(unknown).as_py():
        unreadable.note(
            name,
            f"is neither fraud ({', '.join(fraud_values)}) nor genuine ({', '.join(genuine_values)}) "
            "(label.fraud_values and label.genuine_values say which words mean what)",
            unknown.take(encoded.indices),
        )
    return pc.if_else(stated, fraud, pa.scalar(None, pa.bool_())).take(encoded.indices)


def to_times(values: pa.Array, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    """Times in UTC, to the microsecond.

    Text is read as ISO 8601, `event_timestamp` in the contract's format where it has one. A time without an offset
    is one of the contract's time zone.

    Raises:
        ContractError: when the values are neither text nor timestamps.
    """
    form = contract.event_timestamp.format if name == "event_timestamp" else None
    if pa.types.is_null(values.type):
        return values.cast(TIMESTAMP)
    if pa.types.is_timestamp(values.type):
        if values.type.tz is not None:
            return values.cast(TIMESTAMP, safe=False)
        return _in_zone(values.cast(pa.timestamp("us"), safe=False), name, contract, unreadable)
    if not pa.types.is_string(values.type):
        raise ContractError(f"{name} is of type {values.type}; a time must be a timestamp or text")
    if form is None:
        for kind in (pa.timestamp("us"), TIMESTAMP):
            try:
                times = values.cast(kind)
            except pa.ArrowInvalid:
                continue
            return _in_zone(times, name, contract, unreadable) if kind.tz is None else times
    text = pc.utf8_trim_whitespace(values)
    aware, naive = _parsed_times(text, form)
    missing = _missing(text)
    hint = " (event_timestamp.format reads others)" if name == "event_timestamp" else ""
    unreadable.note(
        name,
        f"is no time in the format {form!r}" if form else "is no ISO 8601 time" + hint,
        pc.and_(pc.invert(missing), pc.and_(pc.is_null(aware), pc.is_null(naive))),
    )
    return pc.coalesce(aware, _in_zone(naive, name, contract, unreadable))


def _parsed_times(text: pa.Array, form: str | None) -> tuple[pa.Array, pa.Array]:
    """Times with an offset of their own, and those without; null where the text is the other, or neither."""
    series = pd.Series(text.to_pandas(), dtype=object)
    # pandas would ask the clock.
    series = series.mask(series.str.lower().isin(["now", "today"]))
    if form is None:
        has_offset = series.str.contains(OFFSET, regex=True, na=False)
    else:
        has_offset = pd.Series("%z" in form, index=series.index)
    # Each by itself: pandas gives a time without an offset that of the time before it.
    aware, naive = (
        pa.Array.from_pandas(
            pd.to_datetime(series.where(these), format=form or "ISO8601", utc=True, errors="coerce")
        ).cast(TIMESTAMP, safe=False)
        for these in (has_offset, ~has_offset)
    )
    return aware, naive.cast(pa.timestamp("us"))


def _in_zone(naive: pa.Array, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    """Times on the clocks of the contract's zone; where a clock shows a time twice or never, as the contract says."""
    if contract.timezone == "UTC":
        return naive.cast(TIMESTAMP)
    earliest, latest = (
        pc.assume_timezone(naive, contract.timezone, ambiguous=choice, nonexistent=choice)
        for choice in ("earliest", "latest")
    )
    if earliest.equals(latest):
        return earliest.cast(TIMESTAMP)
    differ = pc.not_equal(earliest, latest)
    # What no clock shows comes back as another time.
    skipped = pc.and_(differ, pc.not_equal(pc.local_timestamp(earliest), naive))
    unreadable.note(name, f"lies in an hour that the clocks of {contract.timezone} skip", skipped)
    chosen = latest if contract.event_timestamp.ambiguous == "latest" else earliest
    unsure = skipped
    if contract.event_timestamp.ambiguous == "quarantine":
        unsure = differ
        unreadable.note(
            name,
            f"lies in an hour that the clocks of {contract.timezone} have twice (event_timestamp.ambiguous says "
            "which is meant)",
            pc.and_not(differ, skipped),
        )
    return pc.if_else(unsure, pa.scalar(None, chosen.type), chosen).cast(TIMESTAMP)


def _to_number(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:
    if pa.types.is_string(values.type):
        plain = _plain_numbers(values, contract)
        values = _numbers_in(values, name, contract, unreadable) if plain is None else plain
    numbers = values.cast(pa.float64(), safe=False)
    if column.scale != 1:
        numbers = pc.multiply(numbers, column.scale)
    size = pc.abs(numbers)
    within = pc.less_equal(size, LARGEST_NUMBER)
    if pc.all(within, min_count=0).as_py():
        return numbers
    unreadable.note(name, "is not finite", pc.is_inf(numbers))
    unreadable.note(name, f"is beyond {LARGEST_NUMBER:.1e}", pc.and_(pc.is_finite(size), pc.invert(within)))
    return pc.if_else(within, numbers, pa.scalar(None, pa.float64()))


def _plain_numbers(text: pa.Array, contract: Contract) -> pa.Array | None:
    """The numbers, where all texts are such; None where any needs a closer look."""
    if contract.csv.decimal == ",":
        if pc.any(pc.match_substring(text, ".")).as_py():
            return None
        text = pc.replace_substring(text, ",", ".")
    try:
        numbers = text.cast(pa.float64())
    except pa.ArrowInvalid:
        return None
    # Arrow also reads nan and inf.
    return numbers if pc.all(pc.is_finite(numbers), min_count=0).as_py() else None


def _numbers_in(values: pa.Array, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    text = pc.utf8_trim_whitespace(values)
    comma = pc.match_substring_regex(text, DECIMAL_COMMA)
    point = pc.match_substring_regex(text, NUMBER)
    neither = pc.and_not(pc.not_equal(text, ""), pc.or_(comma, point))
    unreadable.note(name, "is not a number", neither)
    if contract.csv.decimal == ",":
        fits = comma
        unreadable.note(name, 'has a decimal point (csv.decimal: "." reads those)', pc.and_not(point, fits))
    else:
        fits = point
        unreadable.note(name, 'has a decimal comma (csv.decimal: "," reads those)', pc.and_not(comma, fits))
    text = pc.if_else(fits, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
    return pc.replace_substring(text, ",", ".").cast(pa.float64())


def _to_integer(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:  # noqa: ARG001 - all converters take the same
    nothing = pa.scalar(None, pa.int64())
    if pa.types.is_signed_integer(values.type):
        return values.cast(pa.int64())
    if pa.types.is_floating(values.type):
        # Past 2**53 a float has lost digits: two identifiers may have become one.
        whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), 2.0**53))
        given = pc.invert(pc.is_nan(values))
        exact = pc.less(pc.abs(values), 2.0**53)
        unreadable.note(name, "is not a whole number", pc.and_(given, pc.and_(exact, pc.invert(whole))))
        unreadable.note(
            name,
            "was delivered as a floating-point number past 2^53, which has lost digits (deliver it as text)",
            pc.and_not(given, exact),
        )
        return pc.if_else(whole, values, pa.scalar(None, values.type)).cast(pa.int64())
    text = _text(values)
    try:
        # Arrow also reads 0x10 as sixteen.
        if not any(pc.any(pc.match_substring(text, letter)).as_py() for letter in "xX"):
            return text.cast(pa.int64())
    except pa.ArrowInvalid:
        pass  # some text needs a closer look
    text = pc.utf8_trim_whitespace(text)
    if pa.types.is_decimal(values.type):
        text = pc.replace_substring_regex(text, r"\.0*$", "")
    is_integer = pc.match_substring_regex(text, INTEGER)
    digits = pc.utf8_ltrim(text, "+-0")
    length = pc.utf8_length(digits)
    # Of as many digits as the largest, the smaller number is the earlier text.
    fits = pc.or_(
        pc.less(length, len(LARGEST_INTEGER)),
        pc.and_(pc.equal(length, len(LARGEST_INTEGER)), pc.less_equal(digits, LARGEST_INTEGER)),
    )
    unreadable.note(name, "is not a whole number", pc.and_(pc.not_equal(text, ""), pc.invert(is_integer)))
    unreadable.note(
        name, f"is beyond {LARGEST_INTEGER} (type: string reads any identifier)", pc.and_not(is_integer, fits)
    )
    readable = pc.if_else(pc.and_(is_integer, fits), pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
    return pc.coalesce(readable.cast(pa.int64()), nothing)


def _to_string(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:  # noqa: ARG001 - all converters take the same
    text = _text(values)
    unreadable.note(name, "contains a zero byte", pc.match_substring(text, "\x00"))
    if column.extract is not None:
        taken = _extracted(text, column.extract)
        if not column.nullable:
            nothing = pc.and_not(pc.equal(taken, ""), pc.equal(text, ""))
            unreadable.note(name, f"has nothing that extract {column.extract!r} takes", nothing)
        text = taken
    empty = pc.equal(text, "")
    return pc.if_else(empty, pa.scalar(None, pa.string()), text) if pc.any(empty).as_py() else text


def _extracted(text: pa.Array, pattern: str) -> pa.Array:
    """What the one group of a regular expression takes from each text; empty where it takes nothing."""
    # Arrow's extract_regex wants groups with names, and gives a struct.
    whole = rf"^(?s:.*?)(?:{pattern})(?s:.*)$"
    found = pc.match_substring_regex(text, whole)
    return pc.if_else(found, pc.replace_substring_regex(text, whole, r"\1"), pa.scalar("", pa.string()))


def _to_boolean(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:  # noqa: ARG001 - all converters take the same
    if pa.types.is_boolean(values.type):
        return values
    text = pc.utf8_lower(pc.utf8_trim_whitespace(_text(values)))
    true, false = (
        pc.is_in(text, pa.array(["true", "1", "yes"])),
        pc.is_in(text, pa.array(["false", "0", "no"])),
    )
    known = pc.or_(true, false)
    unreadable.note(name, "is neither true nor false", pc.and_(pc.invert(_missing(values)), pc.invert(known)))
    return pc.if_else(known, true, pa.scalar(None, pa.bool_()))


def _to_date(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:  # noqa: ARG001 - all converters take the same
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return values.cast(pa.timestamp("us"), safe=False).cast(pa.date32(), safe=False)
    text = pd.Series(pc.utf8_trim_whitespace(_text(values)).to_pandas(), dtype="object")
    days = pd.to_datetime(text, format=column.format or "ISO8601", errors="coerce")
    if column.format is not None and "%d" not in column.format and "%j" not in column.format:
        # A month alone, such as that on a card, is valid until its end.
        days = days + pd.offsets.MonthEnd(0)
    found = pa.array(days.dt.date, pa.date32(), from_pandas=True)
    wrong = pc.and_(pc.invert(_missing(values)), pc.is_null(found))
    unreadable.note(name, f"is no date as in {column.format}" if column.format else "is no ISO 8601 date", wrong)
    return found


_CONVERTERS: dict[str, Callable[[pa.Array, str, Column, Contract, Unreadable], pa.Array]] = {
    "number": _to_number,
    "integer": _to_integer,
    "string": _to_string,
    "boolean": _to_boolean,
    "date": _to_date,
}


def _missing(values: pa.Array) -> pa.Array:
    """Where there is no value: null, NaN, and text of nothing but spaces."""
    if pa.types.is_string(values.type):
        return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(values), ""), True)
    return pc.is_null(values, nan_is_null=True)


def _text(values: pa.Array) -> pa.Array:
    return values if pa.types.is_string(values.type) else values.cast(pa.string())


def _plain(values: pa.Array, column: str, origin: str) -> pa.Array:
    """The values with one type for text: dictionaries and views are how a file stores it, not what it says."""
    if isinstance(values.type, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if isinstance(values.type, pa.BaseExtensionType):
        # numeric of Postgres, for one, is text inside.
        values = values.storage
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type) or _is_binary(values.type):
        try:
            return values.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise ContractError(
                f"column {column!r} of {origin} is not UTF-8 text: {error}; correct the file"
            ) from error
    return values


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
