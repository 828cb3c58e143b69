"""Which part each column of a file plays: event time, label, identifiers with a history, amount, attribute, or none.

Each guess carries what a person has to confirm, and each column that is left out says why. What is counted belongs to
`profiling.py`, how it is written down to `draft.py`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraud_assets.core.drafting.event_times import EventTime, epoch_unit, find_event_time
from fraud_assets.core.drafting.label_columns import FoundLabel, LabelTime, find_label, find_label_time
from fraud_assets.core.drafting.leaks import PERFECT_AUC, Telling, telling
from fraud_assets.core.drafting.naming import (
    AFTER_WORDS,
    AMOUNT_WORDS,
    BIRTH_WORDS,
    CHANGE_WORDS,
    CODE_WORDS,
    DERIVED_WORDS,
    ENTITIES,
    EXPIRY_WORDS,
    MINOR_UNITS,
    PAST_WORDS,
    REPORT_WORDS,
    SCORE_WORDS,
    START_WORDS,
    TRANSACTION_WORDS,
    entity_kind,
    free_name,
    has_fraud_word,
    says_code,
    says_identifier,
    slug,
)
from fraud_assets.core.drafting.profiling import MOST, ColumnProfile, FileProfile, read_times, texts
from fraud_assets.core.intake.conversions import SCIENTIFIC
from fraud_assets.core.units import SECONDS_PER_DAY
from fraud_assets.core.words import percent

# Below so many rows, that nothing repeats says nothing.
ENOUGH = 100
# Of an identifier with a history, so many rows at most have a value of their own.
MOSTLY_NEW = 0.95
# Each entity brings its own set of features.
MOST_ENTITIES = 8
LONGEST_ENTITY = 30
# A table of Postgres has at most 1,600 columns, and a row at most 8,160 bytes in them: 8 for each number.
MOST_ATTRIBUTES = 800
FILE_COLUMNS = {"index", "rownumber", "rownum", "row", "rowid", "rownr"}

EMAIL = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"
IP = r"^(\d{1,3}(\.\d{1,3}){3}|([0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4})(/\d{1,3})?$"
KEY = r"^([0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}|[A-Za-z]{1,4}[-_]?\d{3,})$"


@dataclass(frozen=True)
class Part:
    """A column and what is to be said about it.

    Attributes:
        column: the column.
        remark: what was seen, or why it plays this part.
        question: what a person has to confirm; empty where there is nothing.
        feature: false where models shall not see it.
        as_text: whether its digits are no quantity.
    """

    column: ColumnProfile
    remark: str = ""
    question: str = ""
    feature: bool = True
    as_text: bool = False


@dataclass(frozen=True)
class LeftOut:
    """A column that plays no part: why, and whether a person has to confirm that."""

    name: str
    reason: str
    is_doubtful: bool = False


@dataclass
class Roles:
    """Which column plays which part."""

    event: EventTime
    label: FoundLabel | None = None
    label_time: LabelTime = LabelTime()  # noqa: RUF009 - frozen
    transaction_id: ColumnProfile | None = None
    amount: Part | None = None
    entities: dict[str, Part] = field(default_factory=dict)
    attributes: dict[str, Part] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, column: ColumnProfile, reason: str, *, is_doubtful: bool = False) -> None:
        """Notes a column that plays no part."""
        self.left_out.append(LeftOut(column.name, reason, is_doubtful))


@dataclass(frozen=True)
class Choices:
    """What a person has said about a file; what is not said is found out.

    Attributes:
        event: the column with the event's time.
        label: the column that says which rows were fraud.
        fraud_values: its values that mean fraud.
        delay_days: days from an event to its label.
        blank: what a row without a label is.
        timezone: of times without an offset.
        amount_scale: what an amount is multiplied by.
    """

    event: str | None = None
    label: str | None = None
    fraud_values: tuple[str, ...] = ()
    delay_days: float | None = None
    blank: str | None = None
    timezone: str | None = None
    amount_scale: float | None = None


def assign_roles(profile: FileProfile, choices: Choices = Choices()) -> Roles:
    """Gives each column a part.

    Args:
        profile: of the file.
        choices: what a person has said.

    Raises:
        ContractError: when no column can be the time of an event.
    """
    once = Counter(column.name for column in profile.columns)
    columns = tuple(column for column in profile.columns if once[column.name] == 1)
    profile = replace(profile, columns=columns, spread=profile.spread.select([column.name for column in columns]))
    roles = Roles(find_event_time(profile, choices.event))
    roles.left_out = [LeftOut(name, f"is the name of {n} columns") for name, n in once.items() if n > 1]
    taken = list(roles.event.columns)
    rest = [column for column in columns if column not in taken]
    roles.label = find_label(rest, choices.label, choices.fraud_values)
    if roles.label:
        taken.append(roles.label.column)
        roles.label_time = find_label_time(roles.label, columns, roles.event, profile)
        if roles.label_time.column:
            taken.append(roles.label_time.column)
    sorter = _Sorter(profile, roles)
    rest = [column for column in columns if column not in taken and sorter.keeps(column)]
    roles.transaction_id = _find_transaction_id(rest, sorter)
    rest = sorter.without_copies([column for column in rest if column is not roles.transaction_id])
    rest = _take_entities(roles, rest, sorter)
    roles.amount = _find_amount(rest, sorter)
    rest = [column for column in rest if roles.amount is None or column is not roles.amount.column]
    _take_attributes(roles, rest, sorter)
    return roles


class _Sorter:
    """Looks at the values of columns, each column's once."""

    def __init__(self, profile: FileProfile, roles: Roles) -> None:
        self.profile, self.roles = profile, roles
        self.times = roles.event.read(profile)
        self.is_fraud = roles.label.is_fraud(profile) if roles.label else None
        self.tellings: dict[str, Telling] = {}
        # Identifiers that always come with the same value of another one, which is an entity.
        self.one_to_one: dict[str, str] = {}
        self._text: tuple[str, pd.Series[Any]] = ("", pd.Series(dtype=object))

    def text(self, column: ColumnProfile) -> pd.Series[Any]:
        """A column's values in the rows that were drawn."""
        if self._text[0] != column.name or column.name == "":
            self._text = (column.name, texts(self.profile.spread, column.name, self.profile.style.missing))
        return self._text[1]

    def numbers(self, column: ColumnProfile) -> npt.NDArray[np.float64]:
        """A column's numbers in the rows that were drawn; NaN where there is none."""
        text, style = self.text(column), self.profile.style
        if style.thousands and not column.stored:
            text = text.str.replace(style.thousands, "", regex=False)
        if style.decimal != "." and not column.stored:
            text = text.str.replace(style.decimal, ".", regex=False)
        return pd.to_numeric(text, errors="coerce").to_numpy(float)

    def share_like(self, column: ColumnProfile, pattern: str) -> float:
        """Of a text column's values, those that match."""
        values = self.text(column)
        values = values[values != ""]
        return float(values.str.match(pattern).mean()) if len(values) else 0.0

    def loses_digits(self, column: ColumnProfile) -> bool:
        """Whether an identifier read from this column would be refused, because 4.00012E+15 may stand for many."""
        return not column.stored and self.share_like(column, SCIENTIFIC) > 0.01

    def keeps(self, column: ColumnProfile) -> bool:
        """Whether a column can play a part; what cannot is left out."""
        checks: tuple[Callable[[ColumnProfile], tuple[str, bool]], ...] = (
            self._unusable, self._rival, self._of_a_time, self._by_name, self._by_values,
        )  # fmt: skip
        for check in checks:
            reason, is_doubtful = check(column)
            if reason:
                self.roles.leave_out(column, reason, is_doubtful=is_doubtful)
                return False
        return True

    def _unusable(self, column: ColumnProfile) -> tuple[str, bool]:
        if column.name.strip() == "":
            return "has no name; it is often the row number of the program that wrote the file", False
        if "".join(column.words) in FILE_COLUMNS or column.name.lower().startswith("unnamed:"):
            return "is a row number of the program that wrote the file", False
        if column.kind == "nested":
            return "is of a type that a contract does not know", False
        if column.n_missing == column.n:
            return "has no values", False
        named = says_identifier(column.words) or entity_kind(column.words) is not None
        if column.n_lost_digits > 0.01 * (column.n - column.n_missing) or (named and self.loses_digits(column)):
            return (
                "has numbers that have lost digits, such as 4.00012E+15 or floating-point numbers past 2^53: different "
                "ones have become one; deliver it as text",
                True,
            )
        return "", False

    def _rival(self, column: ColumnProfile) -> tuple[str, bool]:
        label = self.roles.label
        if label and column.name in label.rivals:
            return f"looks like a label as well, and {label.column.name!r} was chosen", True
        return "", False

    def _of_a_time(self, column: ColumnProfile) -> tuple[str, bool]:
        for name, reason in self.roles.label_time.refused:
            if name == column.name:
                return f"looks like the time of the label, but {reason}", True
        if column.kind == "clock":
            return "is a time of day without a date; the hour of the event is a feature already", False
        unit = epoch_unit(column)
        if column.kind != "time" and unit is None:
            return "", False
        if unit is not None:
            times = replace(self.roles.event, columns=(column,), unit=unit, origin=None).read(self.profile)
        else:
            times = read_times(self.text(column), column.time_format)
        days = (times - self.times).dt.total_seconds().dropna() / SECONDS_PER_DAY
        words = set(column.words)
        if len(days) and (days.std() or 0.0) < 1e-4:
            return "moves with the event's time: it says the same once more", False
        if unit is not None:
            return "counts from 1970: it grows for ever, and so is no feature", False
        if words & CHANGE_WORDS:
            return "says when a program wrote or changed the row", False
        if words & (REPORT_WORDS | AFTER_WORDS):
            return "is a time that becomes known after the event", True
        if len(days) and (days > 0).mean() > 0.5 and not words & (EXPIRY_WORDS | START_WORDS | BIRTH_WORDS):
            return f"lies after the event on {percent((days > 0).mean())} of the rows: it was not known then", True
        return "", False

    def _by_name(self, column: ColumnProfile) -> tuple[str, bool]:
        words = set(column.words)
        if words & PAST_WORDS and "days" not in words:
            return "", False
        if has_fraud_word(words) and (words & (SCORE_WORDS | {"type", "reason", "amount"})):
            return (
                "says by its name that it is what somebody's rule, model or investigation found out about fraud",
                True,
            )
        if words & AFTER_WORDS and (self.roles.label is None or entity_kind(column.words) is None):
            return "says by its name that it is known only after the event", True
        return "", False

    def _by_values(self, column: ColumnProfile) -> tuple[str, bool]:
        if self.is_fraud is None or self.roles.label is None:
            return "", False
        numbers = self.numbers(column) if column.kind in ("integer", "number") else None
        found = telling(self.text(column), numbers, self.is_fraud)
        self.tellings[column.name] = found
        if found.because:
            label = self.roles.label.column.name
            return f"tells {label!r}, so it was filled in afterwards or is a copy of it: it {found.because}", True
        return "", False

    def without_copies(self, columns: list[ColumnProfile]) -> list[ColumnProfile]:
        """The columns, of those with the same values in every row only the first."""
        seen: dict[str, str] = {}
        key = self.roles.transaction_id
        if key:
            seen[self._digest(key)] = key.name
        kept = []
        for column in columns:
            digest = self._digest(column)
            if digest in seen and column.n_distinct > 2:
                self.roles.leave_out(column, f"has the same values as {seen[digest]!r} in every row")
                continue
            seen.setdefault(digest, column.name)
            kept.append(column)
        return kept

    def _digest(self, column: ColumnProfile) -> str:
        hashed: npt.NDArray[np.uint64] = pd.util.hash_array(self.text(column).to_numpy(), categorize=True)
        return hashlib.sha256(hashed.tobytes()).hexdigest()

    def grouping(self, column: ColumnProfile) -> bytes:
        """The same for two columns whose values go one to one with each other."""
        codes, _ = pd.factorize(self.text(column))
        return hashlib.sha256(codes.astype(np.int64).tobytes()).digest()


# Identifiers


def _find_transaction_id(columns: list[ColumnProfile], sorter: _Sorter) -> ColumnProfile | None:
    def score(column: ColumnProfile) -> int:
        words, squashed = set(column.words), "".join(column.words)
        if not (column.kind == "string" or column.whole) or column.has_sign:
            return 0
        if sorter.loses_digits(column):
            return 0
        entity = entity_kind(column.words)
        nearly_unique = column.n_distinct >= MOST * column.n_counted
        named = bool(words & TRANSACTION_WORDS or squashed.startswith(("transaction", "txn")))
        if named and says_identifier(column.words) and nearly_unique and entity is None:
            return 5 if column.is_unique else 4
        if not column.is_unique:
            return 0
        if says_identifier(column.words) or words == {"id"}:
            # An account or a policy that comes once in a small file is not its transaction.
            return 2 if entity or "entity" in words else 3
        if entity or _amount_rank(column) or column.n < ENOUGH:
            return 0
        return 1

    best = max(columns, key=score, default=None)
    return best if best is not None and score(best) else None


def _take_entities(roles: Roles, columns: list[ColumnProfile], sorter: _Sorter) -> list[ColumnProfile]:
    """Notes the identifiers that have a history; the other columns come back."""
    found: list[tuple[str, Part]] = []
    for column in columns:
        kind, remark = _identifies(column, sorter)
        if kind:
            found.append((kind, Part(column, remark)))
    order = [*ENTITIES]

    def place(pair: tuple[str, Part]) -> tuple[int, int]:
        # Whose days are reviewed comes first.
        ranks = {name: number for number, name in enumerate(order[:3])} | {
            name: number + 10 for number, name in enumerate(order[3:])
        }
        return ranks.get(pair[0], 5), columns.index(pair[1].column)

    groups: dict[bytes, str] = {}
    for kind, part in sorted(found, key=place):
        group = sorter.grouping(part.column)
        name = kind if kind not in roles.entities else free_name(part.column.name[:LONGEST_ENTITY], roles.entities)
        if group in groups:
            sorter.one_to_one[part.column.name] = groups[group]
        elif len(roles.entities) < MOST_ENTITIES and (kind not in roles.entities or kind not in ENTITIES):
            roles.entities[name] = part
            groups[group] = part.column.name
    used = {part.column.name for part in roles.entities.values()}
    return [column for column in columns if column.name not in used]


def _identifies(column: ColumnProfile, sorter: _Sorter) -> tuple[str | None, str]:
    """The platform's name of an identifier that has a history, and why it is taken for one."""
    if column.kind == "number" and not column.whole and entity_kind(column.words) == "ip_address":
        # The beginning of an address, 66.46, is no number.
        column = replace(column, kind="string")
    if not (column.kind == "string" or column.whole) or column.has_sign or column.kind == "boolean":
        return None, ""
    if sorter.loses_digits(column):
        return None, ""
    if column.n_counted >= ENOUGH and column.n_distinct > MOSTLY_NEW * column.n_counted:
        return None, ""
    if column.values is not None and len(column.values) < 2:
        return None, ""
    seen = f"{column.n_distinct:,} different in {column.n_counted:,} values"
    kind, named = entity_kind(column.words), says_identifier(column.words)
    many = column.values is None
    if column.kind == "string" and (many or column.n < ENOUGH):
        if sorter.share_like(column, EMAIL) >= MOST:
            return "email_address", seen
        if sorter.share_like(column, IP) >= MOST:
            return "ip_address", seen
    if kind and column.kind == "string" and column.n_distinct > 7 and sorter.share_like(column, KEY) >= MOST:
        return kind, seen
    # Few values are kinds (of cards, of devices), whatever they are called, unless they say that they identify.
    if kind and (named or many or kind in ("ip_address", "email_address")):
        return kind, seen
    own = slug(column.name)[:LONGEST_ENTITY].rstrip("_")
    if named and many and column.words[-1] not in CODE_WORDS:
        return own or free_name(column.name, sorter.roles.entities, "entity"), seen
    if column.kind == "string" and many and column.n_distinct >= 50 and sorter.share_like(column, KEY) >= MOST:
        return own or free_name(column.name, sorter.roles.entities, "entity"), f"{seen}, which look like identifiers"
    return None, ""


# Amount and attributes


def _find_amount(columns: list[ColumnProfile], sorter: _Sorter) -> Part | None:
    candidates = [column for column in columns if _amount_rank(column)]
    if not candidates:
        return None
    column = max(candidates, key=_amount_rank)
    question = ""
    if (
        column.kind == "integer"
        and column.whole
        and (column.maximum or 0) >= 10_000
        and not set(column.words) & MINOR_UNITS
    ):
        values = sorter.numbers(column)
        if len(values) >= ENOUGH and float((values % 100 == 0).mean()) < 0.2:
            question = "whole numbers throughout: if they are cents, add scale: 0.01"
    return Part(column, "", question)


def _amount_rank(column: ColumnProfile) -> int:
    if not (column.kind in ("integer", "number") or column.has_sign) or set(column.words) & DERIVED_WORDS:
        return 0
    ranks = [len(AMOUNT_WORDS) - AMOUNT_WORDS.index(word) for word in column.words if word in AMOUNT_WORDS]
    if any(word.endswith(("amt", "amount", "betrag")) for word in column.words):
        ranks.append(len(AMOUNT_WORDS))
    return max(ranks, default=0)


def _take_attributes(roles: Roles, columns: list[ColumnProfile], sorter: _Sorter) -> None:
    if len(columns) > MOST_ATTRIBUTES:
        columns = _best(columns, roles, sorter)
    names = set(roles.entities)
    for column in columns:
        part = _attribute(column, sorter)
        if isinstance(part, str):
            roles.leave_out(column, part)
            continue
        name = free_name(column.name, names)
        names.add(name)
        roles.attributes[name] = part


def _best(columns: list[ColumnProfile], roles: Roles, sorter: _Sorter) -> list[ColumnProfile]:
    """As many as a table can hold: those that say most about fraud on their own, then the fullest."""

    def worth(column: ColumnProfile) -> tuple[float, float]:
        auc = sorter.tellings.get(column.name, Telling()).auc
        # Of text there is no such figure; its few columns are not the first to go.
        usual = 0.5 if column.kind in ("integer", "number") else 1.0
        return (auc or usual) * (1 - column.share_missing), -column.share_missing

    kept = set(map(id, sorted(columns, key=worth, reverse=True)[:MOST_ATTRIBUTES]))
    for column in columns:
        if id(column) not in kept:
            reason = f"says less about fraud than the {MOST_ATTRIBUTES} attributes that a table has room for"
            roles.leave_out(column, reason)
    return [column for column in columns if id(column) in kept]


def _attribute(column: ColumnProfile, sorter: _Sorter) -> Part | str:
    """An attribute, or why a column is none."""
    remark, question = "", ""
    mostly_new = column.n_counted >= ENOUGH and column.n_distinct > MOSTLY_NEW * column.n_counted
    auc = sorter.tellings.get(column.name, Telling()).auc
    if auc is not None and auc >= PERFECT_AUC:
        question = f"alone it separates fraud with an AUC of {auc:.3f}; leave it out if it is known only afterwards"
    elif set(column.words) & SCORE_WORDS and not set(column.words) & PAST_WORDS:
        question = "may be the score of somebody's model or rule; leave it out if it is made after the event"
    elif has_fraud_word(column.words) or set(column.words) & AFTER_WORDS:
        question = "speaks of fraud or what follows it; leave it out if it is not known when the event happens"
    if other := sorter.one_to_one.get(column.name):
        question = question or f"goes one to one with {other!r} here; make it an entity if that is not always so"
    if column.kind in ("integer", "number"):
        grows = column.whole and mostly_new and _is_counter(column, sorter)
        if grows or (column.whole and says_identifier(column.words) and mostly_new):
            return Part(column, "a number of its own in nearly every row: nothing comes again", "", False, True)
        if column.whole and (says_code(column.words) or says_identifier(column.words) or entity_kind(column.words)):
            return Part(column, "its digits are a code and no quantity", question, True, True)
        return Part(column, remark, question)
    if column.kind == "time":
        return Part(column, f"{column.first:%Y-%m-%d} to {column.last:%Y-%m-%d}", question)
    if column.kind == "string" and mostly_new:
        return Part(column, "nearly every value is new: nothing can be learned from it", "", False)
    if column.kind == "string" and column.has_sign:
        return Part(column, "", question)
    return Part(column, remark, question)


def _is_counter(column: ColumnProfile, sorter: _Sorter) -> bool:
    numbers = sorter.numbers(column)
    steps = np.diff(numbers[np.isfinite(numbers)])
    return len(steps) > 1 and bool((steps > 0).all() or (steps < 0).all())
