"""From the values of a file to the types of a contract, column by column and many rows at a time.

A value that cannot be read becomes null and is noted with the reason; nothing is guessed and nothing is repaired.
Whether a value that can be read is allowed is a rule, and belongs to `accept.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Column, Contract, ContractError, TimeColumn
from fraud_assets.core.intake.physical import exact_below, has_any, is_bare, plain_array
from fraud_assets.core.intake.times import read_times, to_dates
from fraud_assets.core.intake.unreadable import Unreadable as Unreadable
from fraud_assets.core.intake.unreadable import missing_in
from fraud_assets.core.reasons import Rule

INTEGER = r"^[+-]?\d+$"
LARGEST_INTEGER = str(2**63 - 1)
LARGEST_NUMBER = float(np.finfo(np.float32).max)  # what a model can be given
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
DECIMAL_COMMA = NUMBER.replace(r"\.", ",")
GROUPED = r"^[+-]?\d{1,3}(?:[ ,.'\x{2019}\x{a0}\x{202f}]\d{3})+(?:[.,]\d*)?$"
# As spreadsheets write long numbers; without a fraction or a plus it may be an identifier in base 16.
SCIENTIFIC = r"^[+-]?\d(?:[.,]\d+[eE]\+?|[eE]\+)\d{1,3}$"
LOST_IN_TEXT = (
    "is written in scientific notation, which has lost digits (format the column as text, and deliver it again)"
)


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
    values: pa.Array,
    name: str,
    column: Column,
    contract: Contract,
    origin: str,
    unreadable: Unreadable,
    *,
    is_id: bool | None = None,
) -> pa.Array:
    """The values as the type that a contract's column says, under the name that they have in messages.

    Args:
        values: as delivered.
        name: the platform's name of the column.
        column: what the contract says of it.
        contract: says how text and missing values are written.
        origin: what to call the rows in messages.
        unreadable: takes what cannot be read.
        is_id: whether the values identify something; by default the transaction's id and the entities do.

    Raises:
        ContractError: when they are of a type that cannot be read as that one.
    """
    if is_id is None:
        is_id = name == "transaction_id" or name in contract.entities
    kind = values.type
    if pa.types.is_nested(kind) and column.type != "string":
        raise ContractError(
            f"column {column.column!r} of {origin} is of type {kind}, which cannot be read as {column.type} (for "
            f"{name})"
        )
    values = given_values(values, name, contract, unreadable)
    try:
        # For whole numbers, those are seen anyway.
        if is_id and not (column.type == "integer" and pa.types.is_string(values.type)):
            values = _identifiers(values, kind, name, unreadable)
        return _CONVERTERS[column.type](values, name, column, contract, unreadable)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(
            f"column {column.column!r} of {origin} is of type {values.type}, which cannot be read as "
            f"{column.type} (for {name}): {error}"
        ) from error


def given_values(values: pa.Array, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    """Values in one of the plain types; text without the blanks around it; null where the contract says missing."""
    values, bad = plain_array(values)
    if bad is not None:
        unreadable.note(name, "is bytes that are no UTF-8 text", bad)
    if pa.types.is_string(values.type):
        words = ["", *(contract.missing if contract.csv.quoted_missing == "missing" else ())]
        if len(words) == 1 and is_bare(values):
            return values
        values = pc.utf8_trim_whitespace(values)
        gone = pc.is_in(values, pa.array(words, pa.string()))
        return pc.if_else(gone, pa.scalar(None, pa.string()), values) if pc.any(gone).as_py() else values
    if pa.types.is_floating(values.type) and pc.any(pc.is_nan(values)).as_py():
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    numbers = [float(word) for word in contract.missing if re.fullmatch(r"[+-]?\d+(\.\d*)?", word)]
    if numbers and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        gone = pc.is_in(values.cast(pa.float64(), safe=False), pa.array(numbers, pa.float64()))
        return pc.if_else(gone, pa.scalar(None, values.type), values)
    return values


def _identifiers(values: pa.Array, delivered: pa.DataType, name: str, unreadable: Unreadable) -> pa.Array:
    """Identifiers without the .0 of floats; what has lost digits is none, because two may have become one."""
    if pa.types.is_string(values.type):
        if not has_any(values, b".,+"):
            return values
        lost = pc.match_substring_regex(values, SCIENTIFIC)
        unreadable.note(name, LOST_IN_TEXT, lost)
        if pc.any(lost).as_py():
            values = pc.if_else(lost, pa.scalar(None, pa.string()), values)
        return pc.replace_substring_regex(values, r"^(\d+)\.0+$", r"\1")
    if pa.types.is_floating(values.type):
        lost = pc.and_(pc.is_finite(values), pc.greater_equal(pc.abs(values), exact_below(delivered)))
        unreadable.note(name, _lost_in(delivered), lost)
        values = pc.if_else(lost, pa.scalar(None, values.type), values)
        whole = pc.and_(pc.is_finite(values), pc.equal(values, pc.floor(values)))
        if pc.all(whole, min_count=0).as_py():
            return values.cast(pa.int64())
    return values


def _lost_in(kind: pa.DataType) -> str:
    power = round(math.log2(exact_below(kind)))
    return f"was delivered as a floating-point number past 2^{power}, which has lost digits (deliver it as text)"


def event_times(
    rows: pa.RecordBatch, contract: Contract, origin: str = "delivery", unreadable: Unreadable | None = None
) -> pa.Array:
    """`event_timestamp` of rows as delivered, null where it cannot be read."""
    return _times_of(rows, contract.event_timestamp, "event_timestamp", contract, origin, unreadable or Unreadable())


def _times_of(
    rows: pa.RecordBatch,
    when: TimeColumn,
    name: str,
    contract: Contract,
    origin: str,
    unreadable: Unreadable,
    *,
    by_end_of_day: bool = False,
    or_formats: Sequence[str | None] = (),
) -> pa.Array:
    parts = [given_values(rows.column(column), name, contract, unreadable) for column in when.columns]
    try:
        return read_times(parts, when, name, contract, unreadable, by_end_of_day=by_end_of_day, or_formats=or_formats)
    except (ContractError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ContractError(f"{', '.join(map(repr, when.columns))} of {origin}: {error}") from error


def label_times(
    rows: pa.RecordBatch,
    when: TimeColumn,
    name: str,
    contract: Contract,
    origin: str,
    unreadable: Unreadable,
    *,
    like_events: bool = True,
) -> pa.Array:
    """When labels became known; a day without a time of day means its end.

    With `like_events`, a time without a format or unit of its own is read as ISO 8601, or else as the transactions'
    times are: labels that come with them are written by the same system.
    """
    event, formats = contract.event_timestamp, list[str | None]()
    if like_events and when.format is None and when.unit is None:
        first = rows.column(when.columns[0]).type
        if event.unit is not None and (pa.types.is_integer(first) or pa.types.is_floating(first)):
            when = when.model_copy(update={"unit": event.unit, "origin": event.origin})
        elif event.format is not None and event.format.startswith("%Y-%d"):
            # Text of this kind would be taken for ISO 8601.
            when = when.model_copy(update={"format": event.format})
        else:
            formats = [event.format]
    return _times_of(
        rows, when, name, contract, origin, unreadable, by_end_of_day=True, or_formats=[f for f in formats if f]
    )


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
    values = given_values(rows.column(label.column), "is_fraud", contract, unreadable)
    is_fraud = to_label(values, "is_fraud", label.fraud_values, label.genuine_values, unreadable)
    known_at = label.known
    if known_at is None:
        return {
            "is_fraud": is_fraud,
            "label_timestamp": pc.add(times, pa.scalar(timedelta(days=label.delay_days or 0.0))),
        }
    known = label_times(rows, known_at, "label_timestamp", contract, origin, unreadable)
    return {"is_fraud": is_fraud, "label_timestamp": known}


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
    text = pc.utf8_lower(_text(encoded.dictionary))
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    fraud, genuine = (pc.is_in(text, pa.array(meaning, pa.string())) for meaning in words)
    stated = pc.or_(fraud, genuine)
    unknown = pc.and_not(pc.invert(missing_in(encoded.dictionary)), stated)
    if pc.any(unknown).as_py():
        unreadable.note(
            name,
            f"is neither fraud ({', '.join(fraud_values)}) nor genuine ({', '.join(genuine_values)}) "
            "(label.fraud_values and label.genuine_values say which words mean what)",
            unknown.take(encoded.indices),
            Rule.UNKNOWN_LABEL,
        )
    return pc.if_else(stated, fraud, pa.scalar(None, pa.bool_())).take(encoded.indices)


def _to_number(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:
    if pa.types.is_string(values.type):
        if column.extract is not None:
            taken = _extracted(values, column.extract)
            nothing = pc.and_not(pc.equal(taken, ""), missing_in(values))
            unreadable.note(name, f"has nothing that extract {column.extract!r} takes", nothing)
            values = pc.if_else(pc.equal(taken, ""), pa.scalar(None, pa.string()), taken)
        plain = _plain_numbers(values, contract)
        values = _numbers_in(values, name, contract, unreadable) if plain is None else plain
    elif pa.types.is_duration(values.type):
        values = pc.divide(values.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    elif pa.types.is_time(values.type):
        values = pc.divide(values.cast(pa.int64()).cast(pa.float64()), 1e6)
    elif pa.types.is_decimal(values.type):
        # Directly, some come out as the float beside the nearest one.
        values = values.cast(pa.string())
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


def _ungrouped(text: pa.Array, contract: Contract) -> pa.Array:
    """Numbers without the marks between groups of three digits."""
    mark, decimal = contract.csv.thousands, re.escape(contract.csv.decimal)
    if mark is None:
        return text
    # A blank is printed as one that breaks no line.
    marks = " \u00a0\u202f\u2009" if mark.isspace() else "'\u2019" if mark in "'\u2019" else mark
    group = f"[{re.escape(marks)}]"
    grouped = pc.match_substring_regex(text, rf"^[+-]?\d{{1,3}}(?:{group}\d{{3}})+(?:{decimal}\d*)?$")
    return pc.if_else(grouped, pc.replace_substring_regex(text, group, ""), text)


def _numbers_in(text: pa.Array, name: str, contract: Contract, unreadable: Unreadable) -> pa.Array:
    text = _ungrouped(text, contract)
    comma = pc.match_substring_regex(text, DECIMAL_COMMA)
    point = pc.match_substring_regex(text, NUMBER)
    neither = pc.invert(pc.or_(comma, point))
    grouped = pc.match_substring_regex(text, GROUPED)
    unreadable.note(name, "is not a number", pc.and_not(neither, grouped))
    unreadable.note(name, "has marks between groups of digits (csv.thousands reads those)", pc.and_(neither, grouped))
    if contract.csv.decimal == ",":
        fits = comma
        unreadable.note(name, 'has a decimal point (csv.decimal: "." reads those)', pc.and_not(point, fits))
    else:
        fits = point
        unreadable.note(name, 'has a decimal comma (csv.decimal: "," reads those)', pc.and_not(comma, fits))
    text = pc.if_else(fits, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
    return pc.replace_substring(text, ",", ".").cast(pa.float64())


def _to_integer(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:
    if pa.types.is_signed_integer(values.type) or pa.types.is_boolean(values.type):
        return values.cast(pa.int64())
    if pa.types.is_duration(values.type) or pa.types.is_time(values.type):
        values = _to_number(values, name, Column(column=column.column, type="number"), contract, unreadable)
    if pa.types.is_floating(values.type):
        # Past 2**53 a float has lost digits: two identifiers may have become one.
        limit = exact_below(values.type)
        whole = pc.and_(pc.equal(values, pc.floor(values)), pc.less(pc.abs(values), limit))
        given = pc.invert(pc.is_nan(values))
        exact = pc.less(pc.abs(values), limit)
        unreadable.note(name, "is not a whole number", pc.and_(given, pc.and_(exact, pc.invert(whole))))
        unreadable.note(name, _lost_in(values.type), pc.and_not(given, exact))
        return pc.if_else(whole, values, pa.scalar(None, values.type)).cast(pa.int64())
    text = _text(values)
    try:
        # Arrow also reads 0x10 as sixteen.
        if not any(pc.any(pc.match_substring(text, letter)).as_py() for letter in "xX"):
            return text.cast(pa.int64())
    except pa.ArrowInvalid:
        pass  # some text needs a closer look
    text = _ungrouped(text, contract)
    decimal = re.escape(contract.csv.decimal) if pa.types.is_string(values.type) else r"\."
    text = pc.replace_substring_regex(text, rf"^([+-]?\d+)(?:{decimal}0*|\.0+)$", r"\1")
    is_integer = pc.match_substring_regex(text, INTEGER)
    lost = pc.match_substring_regex(text, SCIENTIFIC)
    digits = pc.utf8_ltrim(text, "+-0")
    length = pc.utf8_length(digits)
    # Of as many digits as the largest, the smaller number is the earlier text.
    fits = pc.or_(
        pc.less(length, len(LARGEST_INTEGER)),
        pc.and_(pc.equal(length, len(LARGEST_INTEGER)), pc.less_equal(digits, LARGEST_INTEGER)),
    )
    unreadable.note(name, "is not a whole number", pc.invert(pc.or_(is_integer, lost)))
    unreadable.note(name, LOST_IN_TEXT, lost)
    unreadable.note(
        name, f"is beyond {LARGEST_INTEGER} (type: string reads any identifier)", pc.and_not(is_integer, fits)
    )
    readable = pc.if_else(pc.and_(is_integer, fits), pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
    return readable.cast(pa.int64())


def _to_string(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:  # noqa: ARG001 - all converters take the same
    text = _text(values)
    unreadable.note(name, "contains a zero byte", pc.match_substring(text, "\x00"))
    if column.extract is not None:
        taken = _extracted(text, column.extract)
        if not column.nullable:
            nothing = pc.and_not(pc.equal(taken, ""), pc.equal(text, ""))
            unreadable.note(name, f"has nothing that extract {column.extract!r} takes", nothing)
        text = pc.utf8_trim_whitespace(taken)
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
    text = pc.replace_substring_regex(pc.utf8_lower(_text(values)), r"^([01])\.0+$", r"\1")
    true, false = (
        pc.is_in(text, pa.array(["true", "t", "1", "yes", "y"])),
        pc.is_in(text, pa.array(["false", "f", "0", "no", "n"])),
    )
    known = pc.or_(true, false)
    unreadable.note(name, "is neither true nor false", pc.and_(pc.invert(missing_in(values)), pc.invert(known)))
    return pc.if_else(known, true, pa.scalar(None, pa.bool_()))


def _to_date(values: pa.Array, name: str, column: Column, contract: Contract, unreadable: Unreadable) -> pa.Array:
    return to_dates(values, column, name, contract, unreadable)


_CONVERTERS: dict[str, Callable[[pa.Array, str, Column, Contract, Unreadable], pa.Array]] = {
    "number": _to_number,
    "integer": _to_integer,
    "string": _to_string,
    "boolean": _to_boolean,
    "date": _to_date,
}


def _text(values: pa.Array) -> pa.Array:
    """Values as text; a duration as its seconds."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_duration(values.type):
        values = pc.divide(values.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64()), 1e6)
    return values.cast(pa.string())
