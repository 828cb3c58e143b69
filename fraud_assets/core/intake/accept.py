"""From a delivery to canonical rows: every row is either accepted or quarantined with its reasons.

A delivery streams through in batches: values are converted (`conversions.py`), the contract's rules are checked,
and what is accepted waits in a spool until it is read in order. Nothing is repaired and nothing is dropped. Where a
delivery comes from belongs to `adapters/sources.py`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, Self

import dataframely as dy
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.column_names import find_columns
from fraud_assets.core.contracts.contract import TIMESTAMP, Column, Contract
from fraud_assets.core.intake.conversions import Unreadable, canonical_columns, event_times, label_columns
from fraud_assets.core.intake.quarantine import FIRST_ROWS, QUARANTINED, Quarantined
from fraud_assets.core.intake.rows import Piece, Rejected, not_a_row
from fraud_assets.core.intake.spool import BATCH_ROWS, MEMORY, Spool
from fraud_assets.core.reasons import Reason, Rule, joined, reasons_to_json
from fraud_assets.core.units import MICROSECONDS_PER_DAY
from fraud_assets.core.words import percent

Booleans = npt.NDArray[np.bool_]

ORDER = ("event_timestamp", "transaction_id")


class IntakeError(ValueError):
    """A month that is refused whole; what was there before stays."""


@dataclass(frozen=True)
class Decision:
    """What a person decided about a quarantined row.

    Attributes:
        row_digest: names the row by its delivered values, wherever it comes from.
        action: `release` accepts it although it breaks a rule that can be waived: a range, a category, a pattern, or
            the longest label delay. What has no id or no time in the month cannot be stored and stays where it is.
            `drop` leaves it out for good, without counting it against the month.
    """

    row_digest: str
    action: Literal["release", "drop"]


@dataclass(frozen=True)
class Part:
    """One file or query of a delivery.

    Attributes:
        origin: what to call it in messages; the same whenever it is delivered.
        open: gives its rows from the start, under the source's own column names; files also give the lines that are no
            rows, and what they counted.
    """

    origin: str
    open: Callable[[], Iterator[pa.RecordBatch | Piece]]


@dataclass(frozen=True)
class Delivery:
    """A month as its source gives it.

    Attributes:
        parts: in the order in which rows count as delivered.
        fingerprint: changes when the delivery does; None where the source cannot tell.
        whole: whether the parts hold all months, of which one is wanted.
    """

    parts: Sequence[Part]
    fingerprint: str | None = None
    whole: bool = False


@dataclass
class Intake:
    """A delivery after the contract: rows that keep it, label statements, and rows that break it.

    A context manager: its end gives the memory and the disk of the rows back.

    Attributes:
        n_delivered: rows of the month, accepted or not.
        n_transactions: rows accepted.
        statements: columns of `Contract.labels_schema`, about the accepted rows.
        quarantined: columns of `QUARANTINED`: `row_number` counts a source's data rows from 1, `original` is JSON,
            `row_digest` names the delivered values wherever they come from, `status` is quarantined or dropped,
            `reasons` is JSON (`core/reasons.py`).
        reason_counts: how many rows broke each rule, most frequent first.
        daily_counts: accepted rows by days since 1970-01-01, UTC.
        id_range: the smallest and the largest accepted id; None without rows.
        accepted: the accepted rows, as they came.
        is_in_order: whether they came in order.
        shares: how much is quarantined, of all rows and of those that say fraud.
    """

    n_delivered: int
    n_transactions: int
    statements: pa.Table
    quarantined: pa.Table
    reason_counts: dict[Reason, int]
    daily_counts: dict[int, int]
    id_range: tuple[Any, Any] | None
    accepted: Spool
    is_in_order: bool
    shares: Quarantined

    def transactions(self) -> pa.RecordBatchReader:
        """The accepted rows: columns of `Contract.transactions_schema`, by `event_timestamp` and `transaction_id`.

        May be called again, and gives the same rows.
        """
        return self.accepted.reader() if self.is_in_order else self.accepted.in_order(ORDER)

    def close(self) -> None:
        """Gives the memory and the disk of the rows back."""
        self.accepted.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def accept(
    delivery: Delivery,
    contract: Contract,
    month: str,
    decisions: Sequence[Decision] = (),
    *,
    earlier: pa.Table | None = None,
    memory: int = MEMORY,
) -> Intake:
    """Applies the contract to a month's delivery.

    A delivery that has an id twice is read a second time: only then is it known which rows to hold back.

    Args:
        delivery: the month as it came, or all months.
        contract: what to keep to.
        month: the one wanted.
        decisions: what people decided about quarantined rows of this month.
        earlier: `transaction_id` and `month` of ids that an earlier month has; those rows are quarantined.
        memory: bytes that accepted rows may take up before they wait on disk.

    Raises:
        ContractError: when a column of the contract is missing, or cannot be read.
        IntakeError: when the delivery is empty, or more than `quarantine_limit` of its rows, or of those that say
            fraud, break the contract (`Quarantined.refusal`).
    """
    taking = _Taking(contract, month, delivery.whole, decisions, earlier, memory)
    taking.read(delivery)
    if not taking.ids_increase and len(repeated := taking.accepted.repeated("transaction_id")):
        taking.accepted.close()
        taking = _Taking(contract, month, delivery.whole, decisions, earlier, memory, repeated)
        taking.read(delivery)
    return taking.finished(", ".join(part.origin for part in delivery.parts))


@dataclass(frozen=True)
class BrokenRow:
    """A row that breaks the contract, or a line that is no row.

    Attributes:
        place: the row and the file, as in "row 3 of march.csv".
        reasons: what is wrong with it.
    """

    place: str
    reasons: tuple[Reason, ...]

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        return f"{self.place}: {joined(self.reasons)}"


@dataclass(frozen=True)
class Converted:
    """Rows to score, after the contract.

    Attributes:
        transactions: the rows that keep it.
        transaction_ids: one value per delivered row; null where the row breaks the contract.
        problems: the rows that break it.
        reasons: what is wrong with each of these, by its position; columns under the platform's names.
    """

    transactions: pa.Table
    transaction_ids: pa.Array
    problems: list[BrokenRow]
    reasons: dict[int, list[Reason]]


def convert(rows: pa.Table, contract: Contract, origin: str, numbers: npt.NDArray[np.int64] | None = None) -> Converted:
    """Applies the contract to rows of any months, without labels.

    Args:
        rows: as delivered.
        contract: what to keep to.
        origin: what to call them.
        numbers: which row of `origin` each is, from 1; in their order when absent.

    Raises:
        ContractError: when a column of the contract is missing.
    """
    numbers = np.arange(1, rows.num_rows + 1) if numbers is None else numbers
    return Conversion(contract, origin).take(rows, numbers)


class Conversion:
    """Rows to score on their way through the contract, a piece at a time."""

    def __init__(self, contract: Contract, origin: str, *, repeats_count: bool = True) -> None:
        """Takes nothing yet.

        Args:
            contract: what to keep to.
            origin: what to call the rows.
            repeats_count: whether an id that is twice in a piece is a fault; otherwise whoever asks looks for these,
                in all pieces (`Repeats`).
        """
        self._contract, self._origin, self._repeats_count = contract, origin, repeats_count
        self._rules = _Rules(contract, None, labels=False)

    def take(self, rows: pa.Table, numbers: npt.NDArray[np.int64]) -> Converted:
        """The next piece, whose rows have these numbers.

        Raises:
            ContractError: when a column of the contract is missing.
        """
        rows = rows.rename_columns(_names(rows.schema, self._contract, self._origin, labels=False))
        batch = pa.RecordBatch.from_arrays([_one_array(column) for column in rows.columns], names=rows.column_names)
        checked = self._rules.check(batch, self._origin, numbers)
        reasons = checked.reasons()
        if self._repeats_count:
            repeats = Repeats(pc.unique(checked.columns["transaction_id"]))
            reasons |= repeats.among(checked.ids(), ~checked.broken)
        good = np.ones(rows.num_rows, bool)
        good[list(reasons)] = False
        return Converted(
            pa.Table.from_batches([checked.transactions(self._contract, good)]),
            pc.if_else(pa.array(good), checked.ids(), pa.scalar(None, self._contract.transaction_id_type)),
            [
                BrokenRow(row_of(numbers[position], self._origin), tuple(reasons[position]))
                for position in sorted(reasons)
            ],
            reasons,
        )


def row_of(number: int, origin: str) -> str:
    """A row's place, for people.

    >>> row_of(3, "march.csv")
    'row 3 of march.csv'
    """
    return f"row {number} of {origin}"


@dataclass(frozen=True)
class Surveyed:
    """Some rows of a delivery after the contract, for people to look at; nothing is stored of them.

    Attributes:
        origin: the file or query.
        numbers: of the rows in it, from 1.
        columns: canonical columns, and `is_fraud` and `label_timestamp` where the label is a column.
        broken: the rows that break a rule.
        rules: each rule that is broken, and where.
        rows: as delivered, under the contract's names.
        rejected: lines that are no rows.
    """

    origin: str
    numbers: npt.NDArray[np.int64]
    columns: dict[str, Any]
    broken: Booleans
    rules: list[tuple[Reason, Booleans]]
    rows: pa.RecordBatch
    rejected: Sequence[Rejected]

    def originals(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        """Rows as they were delivered."""
        return _originals(self.rows, positions)


def survey(part: Part, contract: Contract) -> Iterator[Surveyed]:
    """Applies the contract to rows of any months, with their labels; ids that come twice are not looked for.

    Raises:
        ContractError: when a column of the contract is missing, or cannot be read.
    """
    rules, number = _Rules(contract, None, labels=True), 1
    schema, names = None, list[str]()
    for given in part.open():
        piece = given if isinstance(given, Piece) else _all_rows(given, number)
        number += piece.n_counted
        if piece.rows.schema != schema:
            schema = piece.rows.schema
            names = _names(schema, contract, part.origin, labels=True)
        rows = piece.rows.rename_columns(names)
        for start in range(0, max(rows.num_rows, 1), BATCH_ROWS):
            some = rows.slice(start, BATCH_ROWS)
            numbers = piece.numbers[start : start + BATCH_ROWS]
            checked = rules.check(some, part.origin, numbers)
            broken = [(rule.reason, mask) for rule, mask in checked.masks]
            # With the last of them, each once.
            rejected = piece.rejected if start + BATCH_ROWS >= rows.num_rows else ()
            yield Surveyed(part.origin, numbers, checked.columns, checked.broken, broken, some, rejected)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.combine_chunks() if isinstance(combined, pa.ChunkedArray) else combined


def _all_rows(rows: pa.RecordBatch, number: int) -> Piece:
    return Piece(rows, np.arange(number, number + rows.num_rows), (), rows.num_rows)


def _names(schema: pa.Schema, contract: Contract, origin: str, *, labels: bool) -> list[str]:
    """The delivered names, those of the contract's columns as the contract writes them.

    Raises:
        ContractError: when a column is missing, there twice, or may be one of several.
    """
    needed = _by_purpose("event_timestamp", contract.event_timestamp.columns)
    if labels and contract.label.column:
        needed["label"] = contract.label.column
        if contract.label.known:
            needed |= _by_purpose("label.known_at", contract.label.known.columns)
    if contract.transaction_id:
        needed["transaction_id"] = contract.transaction_id.column
    needed |= {name: column.column for name, column in contract.columns.items()}
    remedy = f"correct the file, or the mapping in contract {contract.name!r}"
    found = find_columns(needed, schema.names, origin, remedy)
    names = list(schema.names)
    for name, position in found.items():
        names[position] = name
    return names


def _by_purpose(purpose: str, columns: Sequence[str]) -> dict[str, str]:
    if len(columns) == 1:
        return {purpose: columns[0]}
    return {f"{purpose}, part {number}": column for number, column in enumerate(columns, 1)}


# Rules


@dataclass(frozen=True)
class _Rule:
    """What is said of a row that breaks a rule about a column, and whether a person may waive it."""

    reason: Reason
    can_be_waived: bool = False

    @property
    def column(self) -> str | None:
        return self.reason.column


@dataclass
class _Checked:
    """A batch after conversion and rules.

    Attributes:
        columns: canonical columns, and those of the label.
        broken: the rows that break a rule.
        masks: each rule that is broken, and where; in the order of the columns.
    """

    columns: dict[str, Any]
    broken: Booleans
    masks: list[tuple[_Rule, Booleans]]

    def ids(self) -> pa.Array:
        """The transaction ids."""
        return self.columns["transaction_id"]

    def reasons(self) -> dict[int, list[Reason]]:
        """What is wrong with each row that breaks a rule, by its position."""
        found: dict[int, list[Reason]] = {}
        for rule, mask in self.masks:
            for position in np.flatnonzero(mask).tolist():
                found.setdefault(position, []).append(rule.reason)
        return found

    def may_say_fraud(self) -> Booleans:
        """The rows whose label says fraud, or is a word that the contract does not know."""
        if "is_fraud" not in self.columns:
            return np.zeros(len(self.broken), bool)
        result = np.asarray(pc.fill_null(self.columns["is_fraud"], False)).copy()
        for rule, mask in self.masks:
            if rule.column == "is_fraud":
                result |= mask
        return result

    def can_be_waived(self) -> Booleans:
        """The rows that break no rule but those which a person may waive."""
        result = np.ones(len(self.broken), bool)
        for rule, mask in self.masks:
            if not rule.can_be_waived:
                result &= ~mask
        return result

    def transactions(self, contract: Contract, good: Booleans) -> pa.RecordBatch:
        """The canonical columns of the good rows."""
        schema = contract.transactions_schema()
        batch = pa.record_batch([self.columns[name] for name in schema.names], names=schema.names)
        return (batch if good.all() else batch.filter(pa.array(good))).cast(schema)


class _Rules:
    """The contract's rules for a month: as a dataframely schema, and as reasons."""

    def __init__(self, contract: Contract, month: str | None, *, labels: bool, whole: bool = False) -> None:
        self.contract, self.labels = contract, labels and contract.label.column is not None
        self.rules: dict[str, _Rule] = {}
        self._members: dict[str, Any] = {"#row": dy.UInt32(nullable=False)}
        self._add_moment(month, whole)
        self._add_column("transaction_id", contract.transaction_id or Column(column="made of file and row"))
        for name, column in contract.columns.items():
            self._add_column(name, column)
        if self.labels:
            self._add_label()
        self.schema: type[dy.Schema] = type("ContractSchema", (dy.Schema,), self._members)

    def check(self, rows: pa.RecordBatch, origin: str, numbers: npt.NDArray[np.int64]) -> _Checked:
        """Converts rows and checks each of them.

        Args:
            rows: as delivered.
            origin: where they come from.
            numbers: of the rows in `origin`, from 1.
        """
        unreadable = Unreadable()
        columns = canonical_columns(rows, self.contract, origin, unreadable)
        if self.contract.transaction_id is None:
            columns["transaction_id"] = pa.array([f"{origin}:{number}" for number in numbers.tolist()], pa.string())
        if self.labels:
            columns |= label_columns(rows, self.contract, columns["event_timestamp"], origin, unreadable)
        # Under a sign that no name has: a column may be called like a method of the schema's class, or like a rule.
        frame = pl.DataFrame({f"@{name}": pl.Series(values) for name, values in columns.items()})
        failure = self.schema.filter(frame.with_row_index("#row")).failure
        masks = [(_Rule(reason), mask) for reason, mask in unreadable.reasons]
        if len(failure):
            details = failure.details()
            for name, rule in self.rules.items():
                mask = np.zeros(rows.num_rows, bool)
                mask[details["#row"].to_numpy()] = (details[name] == "invalid").to_numpy()
                if rule.reason.rule in (Rule.MISSING_VALUE, Rule.LABEL_TIME_MISSING):
                    # A value that is there but unreadable has a reason of its own.
                    for reason, unread in unreadable.reasons:
                        mask &= ~unread if reason.column == rule.column else True
                masks.append((rule, mask))
        order = ["event_timestamp", "transaction_id", *self.contract.columns, "is_fraud", "label_timestamp"]
        masks = sorted(
            ((rule, mask) for rule, mask in masks if mask.any()), key=lambda found: order.index(found[0].column or "")
        )
        broken = np.zeros(rows.num_rows, bool)
        for _, mask in masks:
            broken |= mask
        return _Checked(columns, broken, masks)

    def _add_moment(self, month: str | None, whole: bool) -> None:
        first, last = month, month
        reason = outside_month(month or "")
        if whole and month == self.contract.first_month:
            last = self.contract.last_month
            reason = outside_contract(self.contract)
        bounds = {
            "min": self.contract.month_start(first) if first else None,
            "max_exclusive": self.contract.month_end(last) if last else None,
        }
        for rule, bound in bounds.items():
            if bound is not None:
                self.rules[f"@event_timestamp|{rule}"] = _Rule(reason)
        self._add("event_timestamp", _moments(nullable=False, **bounds))

    def _add_column(self, name: str, column: Column) -> None:
        words = {}
        if column.minimum is not None:
            words["min"] = Rule.BELOW_MINIMUM, f"is below {column.minimum:g}"
        if column.maximum is not None:
            words["max"] = Rule.ABOVE_MAXIMUM, f"is above {column.maximum:g}"
        if column.categories is not None:
            words["check__categories"] = Rule.UNKNOWN_CATEGORY, f"is none of {list(column.categories)}"
        if column.pattern is not None:
            words["regex"] = Rule.PATTERN_MISMATCH, f"does not match {column.pattern!r}"
        for check, (rule, text) in words.items():
            self.rules[f"@{name}|{check}"] = _Rule(Reason(rule, f"{name} {text}", name), can_be_waived=True)
        given: dict[str, Any] = {"nullable": column.nullable}
        if column.categories is not None:
            given["check"] = {"categories": _among(column.categories)}
        if column.type == "string":
            self._add(name, dy.String(**given, regex=f"^(?:{column.pattern})$" if column.pattern is not None else None))
        elif column.type == "boolean":
            self._add(name, dy.Bool(**given))
        elif column.type == "date":
            self._add(name, dy.Date(**given))
        elif column.type == "number":
            self._add(name, dy.Float64(**given, min=column.minimum, max=column.maximum))
        else:
            lowest = None if column.minimum is None else math.ceil(max(column.minimum, -(2.0**63)))
            highest = None if column.maximum is None else math.floor(min(column.maximum, 2.0**63 - 1024))
            self._add(name, dy.Int64(**given, min=lowest, max=highest))

    def _add_label(self) -> None:
        self._add("is_fraud", dy.Bool(nullable=True))
        self._add("label_timestamp", _moments(nullable=True))
        if self.contract.label.known is None:
            return
        fraud, known, event = pl.col("@is_fraud"), pl.col("@label_timestamp"), pl.col("@event_timestamp")
        longest = self.contract.label.max_delay_days
        stated, what = (fraud.is_not_null(), "label") if _states_genuine(self.contract) else (fraud, "fraud")
        for name, check, rule, words, can_be_waived in (
            ("#known", ~(stated & known.is_null()), Rule.LABEL_TIME_MISSING, f"is missing for a {what}", False),
            ("#after", known >= event, Rule.LABEL_BEFORE_TRANSACTION, "lies before the transaction", False),
            (
                "#soon", known <= event + timedelta(days=longest),
                Rule.LABEL_TOO_LATE, f"lies over {longest:g} days late", True,
            ),
        ):  # fmt: skip
            self.rules[name] = _Rule(Reason(rule, f"label_timestamp {words}", "label_timestamp"), can_be_waived)
            self._members[name] = dy.rule()(_constant(check))

    def _add(self, name: str, column: dy.Column) -> None:
        if not column.nullable:
            self.rules[f"@{name}|nullability"] = _Rule(Reason(Rule.MISSING_VALUE, f"{name} is missing", name))
        self._members[f"@{name}"] = column


def _moments(**given: Any) -> dy.Datetime:
    return dy.Datetime(time_zone="UTC", time_unit="us", **given)


def _constant(expression: pl.Expr) -> Callable[[object], pl.Expr]:
    return lambda _: expression


def _among(categories: tuple[str, ...]) -> Callable[[pl.Expr], pl.Expr]:
    return lambda values: values.cast(pl.String).is_in(categories)


def outside_month(month: str) -> Reason:
    """What is said of a row whose time lies in another month than the one it was delivered for."""
    return Reason(Rule.OUTSIDE_MONTH, f"event_timestamp lies outside {month}", "event_timestamp")


def outside_contract(contract: Contract) -> Reason:
    """What is said of a row whose time lies in no month that there can be."""
    words = (
        f"event_timestamp lies in no month of the contract ({contract.first_month} to {contract.last_month or 'now'})"
    )
    return Reason(Rule.OUTSIDE_CONTRACT, words, "event_timestamp")


REPEATED_ID = Reason(Rule.REPEATED_ID, "transaction_id appears earlier in the delivery", "transaction_id")


# Rows


class Repeats:
    """Of ids that are there more than once, the first good row counts."""

    def __init__(self, ids: pa.Array) -> None:
        self._ids, self._seen = ids, np.zeros(len(ids), bool)

    def among(self, ids: pa.Array, good: Booleans) -> dict[int, list[Reason]]:
        """The reason for each good row that repeats an earlier one, by its position."""
        which = pc.fill_null(pc.index_in(ids, value_set=self._ids), -1).to_numpy(zero_copy_only=False)
        result = {}
        for position in np.flatnonzero((which >= 0) & good).tolist():
            if self._seen[which[position]]:
                result[position] = [REPEATED_ID]
            self._seen[which[position]] = True
        return result


class _Taking:
    """A delivery on its way through the contract."""

    def __init__(
        self,
        contract: Contract,
        month: str,
        whole: bool,
        decisions: Sequence[Decision],
        earlier: pa.Table | None,
        memory: int,
        repeated: pa.Array | None = None,
    ) -> None:
        self.contract, self.month, self.whole = contract, month, whole
        self.rules = _Rules(contract, month, labels=True, whole=whole)
        self.actions = {decision.row_digest: decision.action for decision in decisions}
        self.earlier = earlier
        self.repeats = None if repeated is None else Repeats(repeated)
        self.accepted = Spool(contract.transactions_schema(), memory)
        self.quarantined = Spool(QUARANTINED, memory)
        self.statements: list[pa.RecordBatch] = []
        self.n_delivered = self.n_dropped = self.n_fraud = self.n_fraud_broken = 0
        self.reasons: Counter[Reason] = Counter()
        self.first: dict[Reason, str] = {}
        self.days: Counter[int] = Counter()
        self.is_in_order = True
        self.ids_increase = True
        self.id_range: tuple[Any, Any] | None = None
        self._last: tuple[Any, Any] | None = None

    def read(self, delivery: Delivery) -> None:
        for part in delivery.parts:
            number, schema, names = 1, None, list[str]()
            for given in part.open():
                piece = given if isinstance(given, Piece) else _all_rows(given, number)
                batch = piece.rows
                number += piece.n_counted
                self.n_delivered += piece.n_counted
                if batch.schema != schema:
                    schema = batch.schema
                    names = _names(schema, self.contract, part.origin, labels=True)
                batch = batch.rename_columns(names)
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    self._take(batch.slice(start, BATCH_ROWS), part.origin, piece.numbers[start : start + BATCH_ROWS])
                self._set_aside(part.origin, piece.rejected)

    def finished(self, origin: str) -> Intake:
        """The outcome.

        Raises:
            IntakeError: when nothing was delivered, or too little of it can be used.
        """
        if self.n_delivered == 0:
            raise IntakeError(
                f"{origin} has no rows for {self.month}; an empty month is more often a broken feed than a quiet one, "
                "so it is refused and the month stays as it was: deliver the rows and run the month again"
            )
        limit, n_broken = self.contract.quarantine_limit, self.quarantined.n_rows - self.n_dropped
        counts = dict(self.reasons.most_common())
        shares = Quarantined(self.n_delivered, n_broken, self.n_fraud, self.n_fraud_broken)
        if n_broken <= limit * self.n_delivered and (refusal := shares.refusal(limit)) is not None:
            listed = self._listed(counts)
            raise IntakeError(
                f"{origin}: {refusal} of contract {self.contract.name!r}, so {self.month} is refused and stays as it "
                f"was: it would be a month with too few frauds. Correct the file, or the contract, and run the month "
                f"again. {listed}"
            )
        if n_broken > limit * self.n_delivered:
            listed = self._listed(counts)
            raise IntakeError(
                f"{origin}: {n_broken} of {self.n_delivered} rows ({percent(n_broken / self.n_delivered)}) break "
                f"contract {self.contract.name!r}, more than its quarantine_limit of {percent(limit)}, so {self.month} "
                f"is refused and stays as it was. Correct the file, or the contract, and run the month again. {listed}"
            )
        quarantined = pa.Table.from_batches(self.quarantined.batches(), QUARANTINED)
        self.quarantined.close()
        return Intake(
            self.n_delivered,
            self.accepted.n_rows,
            pa.Table.from_batches(self.statements, self.contract.labels_schema()),
            quarantined,
            counts,
            dict(self.days),
            self.id_range,
            self.accepted,
            self.is_in_order,
            shares,
        )

    def _listed(self, counts: dict[Reason, int]) -> str:
        """How many rows each reason has, and after that the first of each, with its values."""
        listed = "; ".join(f"{one.text}: {count} rows" for one, count in counts.items())
        return f"{listed}{FIRST_ROWS}{'; '.join(self.first[one] for one in counts)}"

    def _take(self, rows: pa.RecordBatch, origin: str, numbers: npt.NDArray[np.int64]) -> None:
        if self.whole:
            mine = self._of_month(rows)
            self.n_delivered -= int((~mine).sum())
            rows, numbers = rows.filter(pa.array(mine)), numbers[mine]
        if rows.num_rows == 0:
            return
        checked = self.rules.check(rows, origin, numbers)
        reasons = checked.reasons() if checked.broken.any() else {}
        if reasons and self.actions:
            for position in np.flatnonzero(checked.broken & checked.can_be_waived()).tolist():
                if self.actions.get(_row_digest(_originals(rows, [position])[0])) == "release":
                    del reasons[position]
        good = np.ones(rows.num_rows, bool)
        good[list(reasons)] = False
        held_back = self._held_back(checked.ids(), good)
        good[list(held_back)] = False
        says_fraud = checked.may_say_fraud()
        self.n_fraud += int(says_fraud.sum())
        if not good.all():
            self._quarantine(rows, origin, numbers, reasons | held_back, says_fraud)
        self._accept(checked, good)

    def _of_month(self, rows: pa.RecordBatch) -> Booleans:
        """The rows of the month; with the first one also those that are of no month at all."""
        contract = self.contract
        times = event_times(rows, contract)
        start, end = contract.month_start(self.month), contract.month_end(self.month)
        mine = _within(times, start, end)
        if self.month == contract.first_month:
            mine |= ~_within(times, start, contract.month_end(contract.last_month) if contract.last_month else None)
        return mine

    def _held_back(self, ids: pa.Array, good: Booleans) -> dict[int, list[Reason]]:
        """Good rows whose id another row has."""
        result: dict[int, list[Reason]] = {}
        if self.earlier is not None:
            found = pc.index_in(ids, value_set=self.earlier["transaction_id"].combine_chunks())
            months = self.earlier["month"].combine_chunks().take(found)
            for position in np.flatnonzero(np.asarray(pc.is_valid(months)) & good).tolist():
                words = f"transaction_id is already in {months[position]}"
                result[position] = [Reason(Rule.ID_OF_EARLIER_MONTH, words, "transaction_id")]
        if self.repeats is not None:
            good = good.copy()
            good[list(result)] = False
            result |= self.repeats.among(ids, good)
        return result

    def _set_aside(self, origin: str, rejected: Sequence[Rejected]) -> None:
        """Quarantines lines that are no rows; of files with all months, with the first month."""
        if self.whole and self.month != self.contract.first_month:
            self.n_delivered -= len(rejected)
            return
        for line in rejected:
            self._count(not_a_row(line), f"row {line.number} of {origin}, line {line.line} ({line.text[:80]!r})")
        self._keep(
            origin,
            [line.number for line in rejected],
            [(not_a_row(line),) for line in rejected],
            [line.original for line in rejected],
            # A line that moved is the same line.
            [_row_digest({"text": line.text}) for line in rejected],
        )

    def _quarantine(
        self,
        rows: pa.RecordBatch,
        origin: str,
        numbers: npt.NDArray[np.int64],
        reasons: dict[int, list[Reason]],
        says_fraud: Booleans,
    ) -> None:
        positions = sorted(reasons)
        originals = _originals(rows, positions)
        for position, original in zip(positions, originals, strict=True):
            for one in reasons[position]:
                self._count(one, f"row {numbers[position]} of {origin} ({self._delivered(original, one)})")
        digests = [_row_digest(original) for original in originals]
        self.n_fraud_broken += sum(
            bool(says_fraud[position]) and self.actions.get(digest) != "drop"
            for position, digest in zip(positions, digests, strict=True)
        )
        broken = [reasons[position] for position in positions]
        self._keep(origin, numbers[positions].tolist(), broken, originals, digests)

    def _count(self, reason: Reason, where: str) -> None:
        self.reasons[reason] += 1
        self.first.setdefault(reason, where)

    def _keep(
        self,
        origin: str,
        numbers: Sequence[int],
        reasons: Sequence[Sequence[Reason]],
        originals: Sequence[dict[str, Any]],
        digests: Sequence[str],
    ) -> None:
        dropped = [self.actions.get(digest) == "drop" for digest in digests]
        self.n_dropped += sum(dropped)
        columns = [
            [origin] * len(numbers),
            numbers,
            [reasons_to_json(mine) for mine in reasons],
            [json.dumps(original, default=str, ensure_ascii=False) for original in originals],
            digests,
            ["dropped" if drop else "quarantined" for drop in dropped],
        ]
        self.quarantined.write(pa.record_batch(columns, schema=QUARANTINED))

    def _delivered(self, original: dict[str, Any], reason: Reason) -> str:
        """The source's column that a reason is about, with its value."""
        contract, name = self.contract, reason.column or ""
        own: dict[str, tuple[str, ...]] = {
            "event_timestamp": contract.event_timestamp.columns,
            "transaction_id": (contract.transaction_id.column,) if contract.transaction_id else (),
            "is_fraud": (contract.label.column,) if contract.label.column else (),
            "label_timestamp": contract.label.known.columns if contract.label.known else (),
        }
        columns = own[name] if name in own else (contract.columns[name].column,)
        shown = [f"{column} = {str(original[column])[:80]!r}" for column in columns if column in original]
        return ", ".join(shown) or name

    def _accept(self, checked: _Checked, good: Booleans) -> None:
        batch = checked.transactions(self.contract, good)
        if batch.num_rows == 0:
            return
        self._watch_order(batch)
        moments = batch["event_timestamp"].cast(pa.int64()).to_numpy()
        days, counts = np.unique(moments // MICROSECONDS_PER_DAY, return_counts=True)
        self.days.update(dict(zip(days.tolist(), counts.tolist(), strict=True)))
        lowest, highest = pc.min_max(batch["transaction_id"]).as_py().values()
        if self.id_range is not None:
            lowest, highest = min(lowest, self.id_range[0]), max(highest, self.id_range[1])
        self.id_range = lowest, highest
        self.accepted.write(batch)
        if self.rules.labels:
            self._state(checked, good)

    def _watch_order(self, batch: pa.RecordBatch) -> None:
        moments, ids = batch["event_timestamp"], batch["transaction_id"]
        if self._last is not None:
            moments, ids = (
                pa.concat_arrays([pa.array([last], column.type), column])
                for last, column in zip(self._last, (moments, ids), strict=True)
            )
        n = len(ids)
        same, later = pc.equal(moments[1:], moments[: n - 1]), pc.greater(moments[1:], moments[: n - 1])
        greater = pc.greater(ids[1:], ids[: n - 1])
        # Made of file and row, no id is there twice.
        if self.contract.transaction_id is not None and not pc.all(greater, min_count=0).as_py():
            self.ids_increase = False
        if not pc.all(pc.or_(later, pc.and_(same, greater)), min_count=0).as_py():
            self.is_in_order = False
        self._last = moments[-1], ids[-1]

    def _state(self, checked: _Checked, good: Booleans) -> None:
        """Fraud is stated; that a transaction was genuine follows from its maturity (`labels_as_of`).

        Where it does not, because blanks are unknown, it is stated, too.
        """
        schema, is_fraud = self.contract.labels_schema(), checked.columns["is_fraud"]
        stated = pc.is_valid(is_fraud) if _states_genuine(self.contract) else pc.fill_null(is_fraud, False)
        positions = pa.array(np.flatnonzero(good & np.asarray(stated)))
        columns = {name: checked.columns[name].take(positions) for name in schema.names if name != "label_source"}
        columns["label_source"] = pa.array([self.contract.label.label_source] * len(positions), pa.string())
        batch = pa.record_batch([columns[name] for name in schema.names], names=schema.names)
        self.statements.append(batch.cast(schema))


def _states_genuine(contract: Contract) -> bool:
    return contract.label.blank == "unknown"


def _within(times: pa.Array, start: datetime, end: datetime | None) -> Booleans:
    inside = pc.greater_equal(times, pa.scalar(start, TIMESTAMP))
    if end is not None:
        inside = pc.and_(inside, pc.less(times, pa.scalar(end, TIMESTAMP)))
    return np.asarray(pc.fill_null(inside, False))


def _originals(rows: pa.RecordBatch, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Rows as JSON can hold them: times beyond year 9999 and numbers that are not finite as text."""
    taken = pa.Table.from_batches([rows.take(pa.array(positions, pa.int64()))])
    for position, column in enumerate(taken.schema):
        if pa.types.is_timestamp(column.type):
            taken = taken.set_column(position, column.name, taken.column(position).cast(pa.string()))
    return [
        {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in taken.to_pylist()
    ]


def _row_digest(original: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(original, default=str, sort_keys=True).encode()).hexdigest()
