"""What a contract will make of a delivery: months, frauds, what breaks a rule, and which columns models can use.

Nothing is stored, and nothing but the contract's own rules (`accept.py`) is applied. Finding and reading the files
belongs to `workflows/new_source/contract_files.py`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.intake.accept import REPEATED_ID, Part, Surveyed, outside_contract, outside_month, survey
from fraud_assets.core.intake.quarantine import Quarantined
from fraud_assets.core.intake.rows import not_a_row
from fraud_assets.core.intake.usefulness import why_useless
from fraud_assets.core.months import months_between
from fraud_assets.core.reasons import Reason, Rule
from fraud_assets.core.words import percent

EXAMPLES = 3
ENOUGH = 100  # of fewer rows, it says nothing that no value comes again
MOST_COUNTED = 200_000  # different values of a column are counted up to here


@dataclass(frozen=True)
class BrokenRule:
    """A rule that rows break, about a column and in words: how many, and the first of them.

    Examples have `source`, `row_number` and `original` values.
    """

    rule: Rule
    column: str | None
    reason: str
    rows: int
    examples: list[dict[str, Any]]


@dataclass(frozen=True)
class MonthPreview:
    """What will be read of a month.

    Attributes:
        month: which.
        n_delivered, n_accepted, n_quarantined: rows.
        n_fraud, n_genuine, n_unknown: accepted rows by what their label says; without a label column all are unknown.
        refused: why the month would be refused whole, if it would.
    """

    month: str
    n_delivered: int
    n_accepted: int
    n_quarantined: int
    n_fraud: int
    n_genuine: int
    n_unknown: int
    refused: str | None

    @property
    def fraud_rate(self) -> float | None:
        """Share of frauds among rows of which it is stated; None where nothing is."""
        known = self.n_fraud + self.n_genuine
        return self.n_fraud / known if known else None


@dataclass(frozen=True)
class ColumnUse:
    """A column of the contract, and whether models can learn from it.

    Attributes:
        name: the platform's.
        part: entity, amount or attribute.
        kind: its type.
        used: whether models see it.
        why_not: the reason where they do not.
    """

    name: str
    part: Literal["entity", "amount", "attribute"]
    kind: str
    used: bool
    why_not: str = ""


@dataclass(frozen=True)
class Preview:
    """What a contract will make of a delivery.

    Attributes:
        months: those that hold rows, in order.
        reasons: why rows would be quarantined, most frequent first.
        n_outside: rows whose time lies in no month that was asked for; they are quarantined.
        label_share: share of the rows with a value in the label's column; None without one.
        columns: what models can use.
        missing_months: months between the first and the last without a row.
    """

    months: list[MonthPreview]
    reasons: list[BrokenRule]
    n_outside: int
    label_share: float | None
    columns: list[ColumnUse]
    missing_months: list[str] = field(default_factory=list)


def preview(parts: Iterable[tuple[Part, str | None]], contract: Contract, wanted: Callable[[str], bool]) -> Preview:
    """Applies a contract to a delivery.

    Args:
        parts: each with the month that it is the delivery of; None where its rows are of all months.
        contract: what to keep to.
        wanted: says of a month whether it is to be read.

    Raises:
        ContractError: when a column of the contract is missing, or cannot be read.
    """
    looking = _Looking(contract, wanted)
    for part, month in parts:
        for some in survey(part, contract):
            looking.add(some, month)
    return looking.result()


class _Looking:
    """Counts rows while they pass by."""

    def __init__(self, contract: Contract, wanted: Callable[[str], bool]) -> None:
        self.contract, self.wanted = contract, wanted
        self.counts: dict[str, Counter[str]] = {}
        self.reasons: Counter[Reason] = Counter()
        self.examples: dict[Reason, list[dict[str, Any]]] = {}
        self.n_outside = self.n_rows = self.n_labelled = 0
        self.ids: set[Any] = set()
        self.uses = {name: _Use() for name in contract.columns}

    def add(self, some: Surveyed, of_month: str | None) -> None:
        """Counts some rows.

        Args:
            some: after the contract.
            of_month: the month that they are the delivery of; None for files with all months.
        """
        months = self._months(some)
        known = np.where(months == "", self.contract.first_month, months)
        if of_month is not None:
            known = np.full(len(months), of_month)
        broken = some.broken.copy()
        if of_month is not None:
            self._outside(some, broken, (months != of_month) & (months != ""), outside_month(of_month))
        else:
            first, last = self.contract.first_month, self.contract.last_month
            outside = (months != "") & ((months < first) | (months > (last or "9999-12")))
            self._outside(some, broken, outside, outside_contract(self.contract))
            known = np.where(outside, first, known)
        mine = np.array([self.wanted(month) for month in known.tolist()], bool)
        for reason, mask in some.rules:
            self._note(reason, some, mask & mine)
        repeats = self._repeats(some, mine & ~broken)
        self._note(REPEATED_ID, some, repeats)
        broken |= repeats
        for line in some.rejected:
            self.reasons[not_a_row(line)] += 1
            row = {"source": some.origin, "row_number": line.number, "original": line.original}
            self._example(not_a_row(line), row)
        labels = self._labels(some)
        self._count(known, mine, broken, labels, of_month, len(some.rejected))
        good = pa.array(mine & ~broken)
        for name, use in self.uses.items():
            use.add(some.columns[name].filter(good))

    def _months(self, some: Surveyed) -> npt.NDArray[np.str_]:
        """The month of each row; empty where its time cannot be read."""
        local = pc.local_timestamp(pc.cast(some.columns["event_timestamp"], pa.timestamp("us", self.contract.timezone)))
        return np.asarray(pc.fill_null(pc.strftime(local, "%Y-%m"), "").to_pylist(), np.str_)

    def _outside(
        self, some: Surveyed, broken: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_], reason: Reason
    ) -> None:
        self.n_outside += int(rows.sum())
        self._note(reason, some, rows)
        broken |= rows

    def _note(self, reason: Reason, some: Surveyed, rows: npt.NDArray[np.bool_]) -> None:
        if not rows.any():
            return
        self.reasons[reason] += int(rows.sum())
        positions = np.flatnonzero(rows)[:EXAMPLES].tolist()
        for position, original in zip(positions, some.originals(positions), strict=True):
            shown = json.loads(json.dumps(original, default=str))
            self._example(reason, {"source": some.origin, "row_number": int(some.numbers[position]), "original": shown})

    def _example(self, reason: Reason, row: dict[str, Any]) -> None:
        kept = self.examples.setdefault(reason, [])
        if len(kept) < EXAMPLES:
            kept.append(row)

    def _repeats(self, some: Surveyed, good: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        result = np.zeros(len(good), bool)
        if self.contract.transaction_id is None:
            return result
        for position, value in enumerate(some.columns["transaction_id"].to_pylist()):
            if good[position]:
                result[position] = value in self.ids
                self.ids.add(value)
        return result

    def _labels(self, some: Surveyed) -> npt.NDArray[np.float64]:
        """1 for a fraud, 0 for a genuine row, NaN where nothing is stated."""
        if "is_fraud" not in some.columns:
            return np.full(len(some.numbers), np.nan)
        return np.asarray(some.columns["is_fraud"].cast(pa.float64()).to_numpy(zero_copy_only=False), float)

    def _count(
        self,
        months: npt.NDArray[Any],
        mine: npt.NDArray[np.bool_],
        broken: npt.NDArray[np.bool_],
        labels: npt.NDArray[np.float64],
        of_month: str | None,
        n_rejected: int,
    ) -> None:
        self.n_rows += int(mine.sum())
        self.n_labelled += int((mine & np.isfinite(labels)).sum())
        for month in np.unique(months[mine]):
            these = mine & (months == month)
            good = these & ~broken
            self.counts.setdefault(str(month), Counter()).update(
                delivered=int(these.sum()),
                accepted=int(good.sum()),
                fraud=int((labels[good] == 1).sum()),
                genuine=int((labels[good] == 0).sum()),
                fraud_read=int((labels[these] == 1).sum()),
                fraud_broken=int((labels[these & broken] == 1).sum()),
            )
        if n_rejected:
            month = of_month or self.contract.first_month
            self.counts.setdefault(month, Counter()).update(delivered=n_rejected)

    def result(self) -> Preview:
        """What was counted."""
        months = [self._month(month, counts) for month, counts in sorted(self.counts.items())]
        filled = {one.month for one in months}
        between = months_between(months[0].month, months[-1].month) if months else []
        return Preview(
            months,
            [
                BrokenRule(one.rule, one.column, one.text, n, self.examples[one])
                for one, n in self.reasons.most_common()
            ],
            self.n_outside,
            (self.n_labelled / self.n_rows if self.n_rows else 0.0) if self.contract.label.column else None,
            self._columns(),
            [month for month in between if month not in filled],
        )

    def _month(self, month: str, counts: Counter[str]) -> MonthPreview:
        delivered, accepted = counts["delivered"], counts["accepted"]
        broken, refused = delivered - accepted, None
        if accepted == 0 or broken > self.contract.quarantine_limit * delivered:
            refused = (
                f"{month} would be refused: {broken:,} of {delivered:,} rows ({percent(broken / delivered)}) break the "
                f"contract, more than its quarantine_limit of {percent(self.contract.quarantine_limit)}; correct the "
                "mapping in the contract, or the file"
            )
        shares = Quarantined(delivered, broken, counts["fraud_read"], counts["fraud_broken"])
        if refused is None and (refusal := shares.refusal(self.contract.quarantine_limit)):
            refused = f"{month} would be refused: {refusal}; correct the mapping in the contract, or the file"
        fraud, genuine = counts["fraud"], counts["genuine"]
        return MonthPreview(month, delivered, accepted, broken, fraud, genuine, accepted - fraud - genuine, refused)

    def _columns(self) -> list[ColumnUse]:
        found = []
        for name, column in self.contract.columns.items():
            part: Literal["entity", "amount", "attribute"] = "attribute"
            if name in self.contract.entities:
                part = "entity"
            elif name == "amount":
                part = "amount"
            why = self.uses[name].why_not(column.type, is_entity=part == "entity")
            if part == "attribute" and column.feature is False:
                why = why or "the contract says feature: false"
            elif part == "attribute" and column.feature and column.type == "string":
                why = ""  # as in training, where the contract insists
            found.append(ColumnUse(name, part, column.type, not why, why))
        return found


class _Use:
    """What a column holds, as far as it decides whether anything can be learned from it."""

    def __init__(self) -> None:
        self.n = self.n_given = 0
        self.values: Counter[Any] | None = Counter()

    def add(self, values: pa.Array) -> None:
        """Counts values."""
        self.n += len(values)
        self.n_given += len(values) - values.null_count
        if self.values is not None:
            counts = values.drop_null().value_counts()
            self.values.update(dict(zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True)))
            self.values = self.values if len(self.values) <= MOST_COUNTED else None

    def why_not(self, kind: str, *, is_entity: bool) -> str:
        """Why nothing can be learned; empty where something can."""
        if self.values is None or not self.n:
            return ""
        # Of an entity with one value there is a history.
        lowest, highest = (0, 1) if is_entity or len(self.values) != 1 else list(self.values) * 2
        repeated = None
        if kind == "string" and self.n_given >= ENOUGH:
            repeated = sum(count for count in self.values.values() if count > 1)
        why = why_useless(self.n, self.n_given, lowest, highest, n_repeated=repeated)
        return f"it {why}" if why else ""
