"""Label statements from files, and a month's statements from everywhere they come from.

A file's rows are taken or refused with their reasons; none is repaired. Statements from deliveries, from a feed and
from added files are put together, each once, and get the time and the entities of their transaction where that has
been seen. Files and tables themselves belong to `workflows/labels.py`, what a statement means to `as_of.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.column_names import find_columns, plain_name
from fraud_assets.core.contracts.contract import TIMESTAMP, Column, Contract, ContractError, Label, LabelFeed
from fraud_assets.core.digests import digest_text
from fraud_assets.core.intake.conversions import Unreadable, given_values, label_times, to_column
from fraud_assets.core.intake.quarantine import FIRST_ROWS
from fraud_assets.core.intake.rows import Rejected
from fraud_assets.core.reasons import Reason, Rule, joined, reasons_from_json, reasons_to_json
from fraud_assets.core.words import percent

Numbers = Sequence[int] | npt.NDArray[np.int64]

SOURCES = ("chargeback", "analyst", "customer_report")
# Refused rows that are objects at the same time: a million of them would take gigabytes.
PART_ROWS = 20_000
# What `fraud labels add` reads; label_timestamp and label_source may be absent.
ADDED_FILE = LabelFeed(
    file_pattern="{month}",
    transaction_id="transaction_id",
    is_fraud="is_fraud",
    label_timestamp="label_timestamp",
    label_source="label_source",
    fraud_values=("true", "1", "yes", "fraud"),
    genuine_values=("false", "0", "no", "genuine", "legit"),
    withdrawn_values=("withdrawn", "withdraw", "retracted"),
)


def layouts(contract: Contract) -> list[LabelFeed]:
    """How the columns of an added file may be called: as documented, as the contract's feed has them, as its source.

    The words for a verdict are the documented ones and those of the contract.
    """
    added = ADDED_FILE
    own: list[Label | LabelFeed] = [contract.label, *([contract.label.feed] if contract.label.feed else [])]
    taken = {*added.fraud_values, *added.genuine_values, *added.withdrawn_values}
    for words in own:
        fraud = [word for word in map(str.lower, words.fraud_values) if word not in taken]
        genuine = [word for word in map(str.lower, words.genuine_values) if word not in taken]
        taken |= {*fraud, *genuine}
        further = {"fraud_values": (*added.fraud_values, *fraud), "genuine_values": (*added.genuine_values, *genuine)}
        added = added.model_copy(update=further)
    found = [added]
    if contract.label.feed is not None:
        found.append(contract.label.feed)
    if contract.label.column is not None and contract.transaction_id is not None:
        label = contract.label
        found.append(
            added.model_copy(
                update={
                    "transaction_id": contract.transaction_id.column,
                    "is_fraud": label.column,
                    "label_timestamp": label.known_at or "label_timestamp",
                    "fraud_values": label.fraud_values,
                    "genuine_values": label.genuine_values,
                }
            )
        )
    return found


def has_layout(names: Sequence[str], layout: LabelFeed) -> bool:
    """Whether columns of these names are a label file of this layout."""
    try:
        find_columns({"id": layout.transaction_id, "verdict": layout.is_fraud}, names, "", "")
    except ContractError:
        return False
    return True


@dataclass(frozen=True)
class StatedRows:
    """A label file's rows after reading.

    Attributes:
        taken: `transaction_id`, `is_fraud` (null = withdrawn), `label_timestamp`, `label_source`, `file`,
            `row_number` (from 1), `is_dated` (whether the row itself says when it became known).
        refused: `file`, `row_number`, `reasons` (JSON, `core/reasons.py`), `original` (JSON of the values as they
            came).
        n_fraud: rows that say fraud, whether or not they can be used.
        n_fraud_refused: those among them that cannot.
    """

    taken: pa.Table
    refused: pa.Table
    n_fraud: int = 0
    n_fraud_refused: int = 0

    @property
    def n_read(self) -> int:
        """All rows of the file."""
        return int(self.taken.num_rows + self.refused.num_rows)


@dataclass(frozen=True)
class RefusedFor:
    """Reasons for which rows of label files cannot be used: of how many, and the first of them."""

    reasons: tuple[Reason, ...]
    rows: int
    examples: list[dict[str, Any]]


def by_reason(refused: pa.Table, examples: int = 3) -> list[RefusedFor]:
    """Refused rows by their reasons, the most frequent first.

    Args:
        refused: as `StatedRows.refused`.
        examples: how many rows to show of each.
    """
    coded = pc.dictionary_encode(refused["reasons"]).combine_chunks()
    codes = np.asarray(coded.indices)
    # The rows of each code behind one another, in their order.
    order = np.argsort(codes, kind="stable")
    found = [
        (stored, order[start:end])
        for stored, start, end in zip(
            coded.dictionary.to_pylist(),
            *(np.searchsorted(codes[order], np.arange(len(coded.dictionary)), side) for side in ("left", "right")),
            strict=True,
        )
    ]
    shown = refused.select(["file", "row_number", "original"])
    return [
        RefusedFor(
            reasons_from_json(stored),
            len(positions),
            [
                row | {"original": json.loads(row["original"])}
                for row in shown.take(pa.array(positions[:examples], pa.int64())).to_pylist()
            ],
        )
        for stored, positions in sorted(found, key=lambda one: -len(one[1]))
    ]


def feed_refusal(read: Sequence[StatedRows], contract: Contract, month: str) -> str | None:
    """Why a month's label feed is refused whole: of its rows, or of those that say fraud, too many cannot be used.

    One odd row of a short file is no broken feed, as long as another is good.

    Args:
        read: its files.
        contract: whose `quarantine_limit` counts.
        month: the month.
    """
    refused = pa.concat_tables([one.refused for one in read])
    n_read, n_fraud = sum(one.n_read for one in read), sum(one.n_fraud for one in read)
    limit = contract.quarantine_limit
    for what, n, bad in (
        ("label rows", n_read, refused.num_rows),
        ("label rows that say fraud", n_fraud, sum(one.n_fraud_refused for one in read)),
    ):
        if bad > limit * n and (bad > 1 or bad == n):
            files = ", ".join(dict.fromkeys(refused["file"].to_pylist()))
            most = by_reason(refused, 1)[0]
            return (
                f"{files}: {bad:,} of {n:,} {what} ({percent(bad / n)}) cannot be used, more than the quarantine_limit "
                f"of {percent(limit)}, so the labels of {month} are refused and stay as they were. "
                f"{most.rows:,} rows: {joined(most.reasons)}. Correct the file, or label.feed in contract "
                f"{contract.name!r}{FIRST_ROWS}{_first(most)}"
            )
    return None


def commonest_reason(refused: pa.Table) -> str | None:
    """The reason of most refused rows, with the first of these; None without any."""
    if refused.num_rows == 0:
        return None
    most = by_reason(refused, 1)[0]
    return f"{most.rows:,} rows: {joined(most.reasons)} (first {_first(most)})"


def _first(refused: RefusedFor) -> str:
    first = refused.examples[0]
    values = ", ".join(f"{name} = {str(value)[:40]!r}" for name, value in first["original"].items())
    return f"row {first['row_number']} of {first['file']}: {values}"


def read_statements(
    rows: pa.Table,
    layout: LabelFeed,
    contract: Contract,
    *,
    file: str,
    now: datetime,
    month: str | None = None,
    numbers: Numbers | None = None,
    rejected: Sequence[Rejected] = (),
) -> StatedRows:
    """Reads the rows of a label file.

    Args:
        rows: as they came; of a CSV file all values are text.
        layout: the file's columns and what its values mean.
        contract: says the type of transaction_id, the time zone of times without one, and the months there are.
        file: what to call the file.
        now: the present moment; nothing can have become known after it. It also dates rows without a time of their
            own where `month` is absent.
        month: of a feed's file, in which all its statements became known. Then each row must have a time.
        numbers: which row of the file each is, from 1; in their order when absent.
        rejected: lines of the file that are no rows.

    Raises:
        ContractError: when a column is missing, or of a type that cannot be read.
    """
    wanted = [layout.transaction_id, layout.is_fraud, *(layout.known.columns if month else ())]
    rows = rows.rename_columns(_names(rows.column_names, wanted, layout, file))
    faults = _Faults(rows.num_rows)
    columns = {name: rows[name].combine_chunks() for name in rows.column_names}
    counted = np.arange(1, rows.num_rows + 1) if numbers is None else np.asarray(numbers, np.int64)
    identifiers = _identifiers(columns[layout.transaction_id], layout.transaction_id, contract, file, faults)
    is_fraud = _verdicts(columns[layout.is_fraud], layout, contract, faults)
    known = _known(columns, layout, contract, file, month, now, faults)
    sources = _sources(columns.get(layout.label_source or ""), layout, contract, faults)
    taken = pa.table(
        {
            "transaction_id": identifiers,
            "is_fraud": is_fraud,
            "label_timestamp": pc.fill_null(known, pa.scalar(now, TIMESTAMP)),
            "label_source": sources,
            "file": pa.array([file] * rows.num_rows, pa.string()),
            "row_number": pa.array(counted),
            "is_dated": pc.is_valid(known),
        }
    )
    refused = _refused(rows, faults, counted, file)
    fraud = np.asarray(pc.fill_null(is_fraud, False))
    return StatedRows(
        taken.filter(pa.array(~faults.any)),
        pa.concat_tables([refused, _rejected(rejected, file)]).sort_by("row_number"),
        int(fraud.sum()),
        int((fraud & faults.any).sum()),
    )


def _names(given: list[str], wanted: list[str], layout: LabelFeed, file: str) -> list[str]:
    """The delivered names, those of the layout as it writes them; which of its others are there is left open."""
    also = [name for name in (*layout.known.columns, layout.label_source) if name and name not in wanted]
    plain = {plain_name(name) for name in given}
    also = [name for name in also if plain_name(name) in plain]
    named = {name: name for name in (*wanted, *also)}
    names = list(given)
    for name, position in find_columns(named, given, file, "rename its columns, or add them").items():
        names[position] = name
    return names


def refuse_premature(
    read: StatedRows, happened: pa.Table, rows: pa.Table, row_numbers: Numbers | None = None
) -> StatedRows:
    """Refuses the statements that say they were known before their transaction happened.

    Args:
        read: what was read of `rows`.
        happened: `transaction_id` and `event_timestamp` of the transactions that have been seen; one row each.
        rows: as for `read_statements`.
        row_numbers: as `numbers` there.
    """
    at = pc.index_in(read.taken["transaction_id"], value_set=happened["transaction_id"].combine_chunks())
    event = happened["event_timestamp"].combine_chunks().take(at.combine_chunks())
    premature = pc.fill_null(pc.less(read.taken["label_timestamp"], event), False)
    bad = read.taken.filter(premature)
    if bad.num_rows == 0:
        return read
    words = "label_timestamp lies before its transaction: correct it, or the transaction_id, and add the row again"
    reason = Reason(Rule.LABEL_BEFORE_TRANSACTION, words, "label_timestamp")
    happened_at = [f"{then:%Y-%m-%d %H:%M:%S}" for then in event.filter(premature).to_pylist()]
    numbers = bad["row_number"].to_numpy()
    counted = np.arange(1, rows.num_rows + 1) if row_numbers is None else np.asarray(row_numbers, np.int64)
    originals = rows.take(pa.array(np.searchsorted(counted, numbers), pa.int64())).to_pylist()
    originals = [row | {"transaction was at": at} for row, at in zip(originals, happened_at, strict=True)]
    refused = _refused_table(bad["file"][0].as_py(), numbers, [[reason]] * bad.num_rows, originals)
    together = pa.concat_tables([read.refused, refused]).sort_by("row_number")
    n_fraud = read.n_fraud_refused + int(pc.sum(bad["is_fraud"]).as_py() or 0)
    return StatedRows(read.taken.filter(pc.invert(premature)), together, read.n_fraud, n_fraud)


def gather_statements(parts: Sequence[pa.Table], happened: pa.Table, contract: Contract) -> pa.Table:
    """A month's statements from everywhere, each once, with what is known of their transactions.

    Statements with the same transaction, verdict and time are one, whoever made them: the source that `labels_as_of`
    would name is kept. A statement about a transaction that has not been seen stays, without its time and entities.

    Args:
        parts: tables with `transaction_id`, `is_fraud`, `label_timestamp`, `label_source`, `origin`, and where they
            are known `event_timestamp` and the entities.
        happened: `transaction_id`, `event_timestamp` and the entities of the transactions that the others may be
            about; of an id that occurs twice the earlier counts.
        contract: says which entities there are.

    Returns:
        Columns of `Contract.labels_schema` and `origin`, ordered by time, transaction and verdict.
    """
    schema = contract.labels_schema().append(pa.field("origin", pa.string(), nullable=False))
    looked_up = ["event_timestamp", *contract.entities]
    first = _first_of_each(happened.sort_by([("event_timestamp", "ascending")]), ["transaction_id"])
    filled = []
    for part in parts:
        if "event_timestamp" not in part.column_names:
            at = pc.index_in(part["transaction_id"], value_set=first["transaction_id"].combine_chunks())
            for name in looked_up:
                part = part.append_column(name, first[name].combine_chunks().take(at.combine_chunks()))
        filled.append(part.select(schema.names).cast(_nullable(schema)))
    stated = pa.concat_tables([_nullable(schema).empty_table(), *filled])
    key = ["label_timestamp", "transaction_id", "is_fraud"]
    stated = stated.sort_by(
        [(name, "ascending") for name in key] + [("label_source", "descending"), ("event_timestamp", "ascending")]
        + [("origin", "ascending")]
    )  # fmt: skip
    return _first_of_each(stated, key).select(schema.names).cast(schema)


def statement_digest(transaction_id: object, is_fraud: bool | None, label_timestamp: datetime) -> str:
    """The name of a statement: the same for the same transaction, verdict and time."""
    return digest_text(str(transaction_id), str(is_fraud), str(pa.scalar(label_timestamp, TIMESTAMP).value))


def _first_of_each(rows: pa.Table, key: list[str]) -> pa.Table:
    numbered = rows.append_column("@row", pa.array(np.arange(rows.num_rows)))
    return rows.take(numbered.group_by(key).aggregate([("@row", "min")])["@row_min"].sort())


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


class _Faults:
    """Which rows break which rules; the sentence also says what to do."""

    def __init__(self, n: int) -> None:
        self.rules: list[tuple[Reason, np.ndarray[Any, np.dtype[np.bool_]]]] = []
        self.any = np.zeros(n, dtype=bool)
        self.unreadable = Unreadable()

    def add(self, rule: Rule, column: str, words: str, broken: pa.Array) -> None:
        rows = np.asarray(pc.fill_null(broken, False).to_numpy(zero_copy_only=False), dtype=bool)
        if rows.any():
            self.rules.append((Reason(rule, f"{column} {words}", column), rows))
            self.any |= rows

    def take_unreadable(self, remedy: str) -> None:
        """Makes rules of what the conversions have noted so far."""
        for reason, rows in self.unreadable.reasons:
            self.rules.append((replace(reason, text=f"{reason.text}: {remedy}"), rows))
            self.any |= rows
        self.unreadable = Unreadable()


def _as_text(values: pa.Array, contract: Contract) -> pa.Array:
    """Trimmed text; null where there is nothing."""
    values = given_values(values, "", contract, Unreadable())
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return values.cast(pa.string())


def _identifiers(values: pa.Array, name: str, contract: Contract, file: str, faults: _Faults) -> pa.Array:
    faults.add(Rule.MISSING_VALUE, name, "is missing: name the transaction", pc.is_null(_as_text(values, contract)))
    declared = contract.transaction_id
    column = Column(column=name, type=declared.type if declared else "string")
    identifiers = to_column(values, name, column, contract, file, faults.unreadable, is_id=True)
    faults.take_unreadable("write the id as the transactions have it")
    return identifiers


def _verdicts(values: pa.Array, layout: LabelFeed, contract: Contract, faults: _Faults) -> pa.Array:
    # A column of numbers that once had gaps says 1.0 for 1.
    text = pc.replace_substring_regex(pc.utf8_lower(_as_text(values, contract)), r"^(\d+)\.0+$", r"\1")
    meanings = (layout.fraud_values, layout.genuine_values, layout.withdrawn_values)
    fraud, genuine, withdrawn = (pc.is_in(text, pa.array([word.lower() for word in words])) for words in meanings)
    allowed = ", ".join(word for words in meanings for word in words)
    column = layout.is_fraud
    faults.add(Rule.MISSING_VALUE, column, f"is missing: write one of {allowed}", pc.is_null(text))
    unknown = pc.invert(pc.or_(pc.or_(fraud, genuine), withdrawn))
    words = f"is none of {allowed}: write one of them"
    faults.add(Rule.UNKNOWN_LABEL, column, words, pc.and_(pc.is_valid(text), unknown))
    return pc.if_else(withdrawn, pa.scalar(None, pa.bool_()), fraud)


def _known(
    columns: dict[str, pa.Array],
    layout: LabelFeed,
    contract: Contract,
    file: str,
    month: str | None,
    now: datetime,
    faults: _Faults,
) -> pa.Array:
    """When each statement became known; null where the row does not say."""
    when, last = layout.known, contract.last_month
    name = " ".join(when.columns)
    if any(column not in columns for column in when.columns):
        known = pa.nulls(len(faults.any), TIMESTAMP)
        absent = pc.is_null(known)
    else:
        rows = pa.record_batch([columns[column] for column in when.columns], names=list(when.columns))
        # A feed says how its times are written; an added file is written as documented, or like the transactions.
        like_events = month is None
        known = label_times(rows, when, name, contract, file, faults.unreadable, like_events=like_events)
        parts = [given_values(column, name, contract, Unreadable()) for column in rows.columns]
        absent = pc.is_null(parts[0], nan_is_null=True)
        for part in parts[1:]:
            absent = pc.and_(absent, pc.is_null(part, nan_is_null=True))
    remedy = "write it as 2018-04-30T23:59:59, with an offset where that is not unique"
    if month is not None:
        remedy += f", or say in the contract how it is written (label_timestamp: {{column: {name}, format: ...}})"
    faults.take_unreadable(remedy)
    if month is not None:
        faults.add(Rule.LABEL_TIME_MISSING, name, "is missing: say when it became known", absent)
        faults.add(
            Rule.OUTSIDE_MONTH,
            name,
            f"lies outside {month}, the month of the file: move the row to the file of its month",
            _outside(known, contract.month_start(month), contract.month_end(month)),
        )
    # Today, without a time of day, is known by its end, and may be said today.
    today = datetime.combine(now.astimezone(contract.zone).date(), time.min, contract.zone)
    end_of_today = (today + timedelta(days=1)).astimezone(UTC) - timedelta(microseconds=1)
    faults.add(
        Rule.IN_THE_FUTURE,
        name,
        "lies in the future: correct it, or deliver the row when the time has come",
        pc.and_(pc.greater(known, pa.scalar(now, TIMESTAMP)), pc.not_equal(known, pa.scalar(end_of_today, TIMESTAMP))),
    )
    faults.add(
        Rule.OUTSIDE_CONTRACT,
        name,
        f"lies outside the months of contract {contract.name!r}, {contract.first_month} to {last or 'now'}: say when "
        "it became known, or change first_month and last_month in the contract",
        _outside(
            pc.if_else(absent, pa.scalar(now, TIMESTAMP), known),
            contract.month_start(contract.first_month),
            contract.month_end(last) if last else datetime.max.replace(tzinfo=UTC),
        ),
    )
    return known


def _outside(times: pa.Array, start: datetime, end: datetime) -> pa.Array:
    return pc.or_(pc.less(times, pa.scalar(start, TIMESTAMP)), pc.greater_equal(times, pa.scalar(end, TIMESTAMP)))


def _sources(given: pa.Array | None, layout: LabelFeed, contract: Contract, faults: _Faults) -> pa.Array:
    name, default = layout.label_source, contract.label.label_source
    if given is None:
        return pa.array([default] * len(faults.any), pa.string())
    text = pc.utf8_lower(_as_text(given, contract))
    unknown = pc.and_(pc.is_valid(text), pc.invert(pc.is_in(text, pa.array(SOURCES))))
    words = f"is none of {', '.join(SOURCES)}: write one of them, or leave it empty"
    faults.add(Rule.UNKNOWN_CATEGORY, name or "", words, unknown)
    return pc.fill_null(text, default)


def _refused(rows: pa.Table, faults: _Faults, numbers: npt.NDArray[Any], file: str) -> pa.Table:
    """The rows with faults, taken in parts."""
    positions = np.flatnonzero(faults.any)
    parts = []
    for start in range(0, max(len(positions), 1), PART_ROWS):
        part = positions[start : start + PART_ROWS]
        reasons = [[reason for reason, broken in faults.rules if broken[position]] for position in part]
        parts.append(_refused_table(file, numbers[part], reasons, rows.take(pa.array(part, pa.int64())).to_pylist()))
    return pa.concat_tables(parts)


def _rejected(lines: Sequence[Rejected], file: str) -> pa.Table:
    reasons = [[Reason(Rule.NOT_A_ROW, f"the line {line.reason}: correct it")] for line in lines]
    return _refused_table(file, [line.number for line in lines], reasons, [line.original for line in lines])


def _refused_table(
    file: str, numbers: Any, reasons: Sequence[Sequence[Reason]], originals: Sequence[dict[str, Any]]
) -> pa.Table:
    return pa.table(
        {
            "file": pa.array([file] * len(originals), pa.string()),
            "row_number": pa.array(numbers, pa.int64()),
            "reasons": pa.array([reasons_to_json(mine) for mine in reasons], pa.string()),
            "original": pa.array([json.dumps(row, default=str, ensure_ascii=False) for row in originals], pa.string()),
        }
    )
