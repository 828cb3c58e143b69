"""Which column of a file says which rows were fraud, what its values mean, and when that became known.

Whether other columns tell it as well belongs to `leaks.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.drafting.event_times import EventTime
from fraud_assets.core.drafting.naming import (
    GENUINE_NAMES,
    LABEL_FILLERS,
    LABEL_NAMES,
    PAST_WORDS,
    REPORT_WORDS,
    SCORE_WORDS,
    folded,
    has_fraud_word,
    word_set,
)
from fraud_assets.core.drafting.profiling import ColumnProfile, FileProfile, read_times, texts
from fraud_assets.core.units import SECONDS_PER_DAY
from fraud_assets.core.words import percent

YES = word_set("1 true yes y t j ja si s sim oui o vrai verdadero verdadeiro wahr vero positive tak da pos igaz ken")
NO = word_set("0 false no n f nein non nao faux falso falsch nee negative nie neg -1")
FRAUDS = word_set(
    "fraud fraudulent fraudster fraude fraudulento fraudulenta fraudulosa fraudulose betrug betrugsfall betrugerisch "
    "frode fraudolento fraudolenta estafa chargeback bad scam illicit malicious oszustwo bedrog 欺诈 "
    "confirmed_fraud confirmedfraud fraud_confirmed isfraud criminal"
)
GENUINES = word_set(
    "legit legitimate genuine good normal ok valid clean licit benign legitimo legitima legitime echt regular honest "
    "notfraud nonfraud nofraud not_fraud non_fraud no_fraud keinbetrug nofraude sinfraude "
    "nonfraude"
)
# What has not been decided is neither.
OPEN = word_set("unknown pending open review underreview under_review tbd undetermined suspected suspicious")
# From this share of rows without a label, blank means that nobody looked.
MANY_BLANKS = 0.05
MOST_VALUES = 6


@dataclass(frozen=True)
class FoundLabel:
    """A label's column.

    Attributes:
        column: where it stands.
        fraud, genuine: its values, as they are written.
        undecided: values that say that nothing is known.
        blank_is_unknown: whether a row without a label was not looked into.
        rivals: other columns that look like a label.
        questions: what a person has to confirm.
        seen: of `fraud` and `genuine`, what is in the file.
    """

    column: ColumnProfile
    fraud: tuple[str, ...]
    genuine: tuple[str, ...]
    undecided: tuple[str, ...] = ()
    blank_is_unknown: bool = False
    rivals: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()

    @property
    def n_fraud(self) -> int:
        """Rows that are stated to be fraud."""
        return sum((self.column.values or {}).get(value, 0) for value in self.fraud)

    @property
    def n_genuine(self) -> int:
        """Rows that are stated to be genuine; those without a value are not among them."""
        return sum((self.column.values or {}).get(value, 0) for value in self.genuine)

    @property
    def blank_is_genuine(self) -> bool:
        """Whether only frauds have a value."""
        return self.n_genuine == 0 and self.n_fraud > 0 and self.column.n_missing > 0

    def is_fraud(self, profile: FileProfile) -> npt.NDArray[np.float64]:
        """For each row of `profile.spread`, 1, 0, or NaN where it is not known."""
        values = texts(profile.spread, self.column.name, profile.style.missing)
        meaning = {_bare(value): 1.0 for value in self.fraud} | {_bare(value): 0.0 for value in self.genuine}
        if self.blank_is_genuine:
            meaning[""] = 0.0
        return np.asarray(values.map(_bare).map(meaning), np.float64)


@dataclass(frozen=True)
class LabelTime:
    """When labels became known.

    Attributes:
        column: the column that says it; None where none does.
        longest, usual: days from the event, of all and of 95 of 100.
        questions: what a person has to confirm.
        refused: columns that look like it and cannot be it, each with why.
    """

    column: ColumnProfile | None = None
    longest: float = 0.0
    usual: float = 0.0
    questions: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = field(default=())


def find_label(
    columns: Sequence[ColumnProfile], chosen: str | None = None, fraud_values: Sequence[str] = ()
) -> FoundLabel | None:
    """The label, or None where no column looks like one.

    Args:
        columns: that may be it.
        chosen: the column that a person has named.
        fraud_values: its values that a person has named as fraud.

    Raises:
        ContractError: when the chosen column is not there, or has too many values for a label.
    """
    if chosen is not None:
        return _chosen(columns, chosen, fraud_values)
    scored = [(column, _score(column)) for column in columns]
    ranked = sorted(
        (pair for pair in scored if pair[1]),
        # The more rows it is given for, the shorter its name, the earlier it stands.
        key=lambda pair: (-pair[1], len(pair[0].values or ()), round(pair[0].share_missing, 1), len(pair[0].words)),
    )
    if not ranked:
        return None
    column, best = ranked[0]
    rivals = tuple(other.name for other, score in ranked[1:] if score >= best - 1)
    return _with_meaning(column, best, rivals)


def _chosen(columns: Sequence[ColumnProfile], name: str, fraud_values: Sequence[str]) -> FoundLabel:
    column = next((one for one in columns if one.name == name), None)
    if column is None or not column.values:
        why = "has too many values for a label" if column else "is not there"
        raise ContractError(f"column {name!r} {why}; a label has a few values, such as 0 and 1")
    if not fraud_values:
        return replace(_with_meaning(column, 4, ()), questions=())
    given = {_bare(value) for value in fraud_values}
    fraud = tuple(value for value in column.values if _bare(value) in given)
    if not fraud:
        raise ContractError(f"{list(fraud_values)} are no values of {name!r}; it has {list(column.values)}")
    genuine = tuple(value for value in column.values if value not in fraud)
    unknown = column.share_missing >= MANY_BLANKS and bool(genuine)
    return FoundLabel(column, fraud, genuine or ("genuine",), blank_is_unknown=unknown)


def _score(column: ColumnProfile) -> int:
    if column.values is None or not 1 <= len(column.values) <= MOST_VALUES or column.kind == "nested":
        return 0
    if column.kind == "number" and not column.whole:
        return 0
    words, values = set(column.words), {_bare(value) for value in column.values}
    if has_fraud_word(words) and not words & (SCORE_WORDS | PAST_WORDS | {"type", "reason", "amount"}):
        return 4 if len(values) <= 3 else 3
    if values & FRAUDS and len(values) > 1:
        return 3
    if "".join(column.words) in GENUINE_NAMES or words & GENUINE_NAMES:
        return 3 if len(values) == 2 else 0
    if len(values) == 2 and words <= LABEL_NAMES | LABEL_FILLERS and words & (LABEL_NAMES | {"y"}):
        return 2
    return 0


def _with_meaning(column: ColumnProfile, score: int, rivals: tuple[str, ...]) -> FoundLabel:
    counts = column.values or {}
    values = list(counts)
    undecided = tuple(value for value in values if _bare(value) in OPEN)
    stated = [value for value in values if value not in undecided]
    questions = []
    fraud = _frauds(column, stated)
    if fraud is None:
        # Most frequent first.
        fraud = stated[-1:] if len(stated) > 1 else []
        questions.append("its values do not say which of them is fraud; the rarer one is taken for it")
    elif score < 3 and "label" not in column.words:
        questions.append(f"{column.name!r} is taken for the label because of its name")
    genuine = [value for value in stated if value not in fraud]
    if len(stated) == 1:
        # All genuine, or all fraud: the one value that was not seen is written down as well.
        other = {"0": "1", "1": "0", "false": "true", "true": "false", "yes": "no", "no": "yes"}
        opposite = other.get(_bare(stated[0]), "genuine" if fraud else "fraud")
        fraud, genuine = (fraud or [opposite]), (genuine or [opposite])
    if len(stated) > 2:
        questions.append("every value is sorted into fraud or genuine; see that each is where it belongs")
    if rivals:
        questions.append(f"{', '.join(map(repr, rivals))} could be the label as well, and is left out")
    n_stated = sum(counts[value] for value in stated)
    blank = column.n - n_stated
    n_genuine = sum(counts.get(value, 0) for value in genuine)
    unknown = blank >= MANY_BLANKS * column.n and n_genuine > 0
    return FoundLabel(column, tuple(fraud), tuple(genuine), undecided, unknown, rivals, tuple(questions))


def _frauds(column: ColumnProfile, values: list[str]) -> list[str] | None:
    """The values that mean fraud, none of them where all mean genuine; None where the words do not say."""
    bare = {value: _bare(value) for value in values}
    squashed = {value: re.sub(r"[\W_]+", "", folded(value)) for value in values}
    named = {
        value
        for value in values
        if bare[value] in FRAUDS or (has_fraud_word([squashed[value]]) and not _denies(value, squashed[value]))
    }
    honest = {
        value
        for value in values
        if bare[value] in GENUINES or squashed[value] in GENUINES or _denies(value, squashed[value])
    }
    if named:
        return [value for value in values if value in named]
    if honest:
        return [value for value in values if value not in honest]
    if set(bare.values()) <= {"f", "g", "l"} and "f" in bare.values() and len(bare) > 1:
        return [value for value in values if bare[value] == "f"]
    yes = [value for value in values if folded(bare[value]) in YES]
    if yes or all(folded(bare[value]) in NO for value in values):
        if not yes and set(bare.values()) == {"f", "n"}:
            return [value for value in values if bare[value] == "f"]
        if len(values) > 1 and len(yes) == len(values):
            return None
        says_genuine = bool(set(column.words) & GENUINE_NAMES) or "".join(column.words) in GENUINE_NAMES
        return [value for value in values if (value in yes) != says_genuine]
    return None


def _denies(value: str, squashed: str) -> bool:
    """Whether a value says that it is no fraud.

    >>> _denies("Not fraud", "notfraud"), _denies("Fraud", "fraud"), _denies("kein Betrug", "keinbetrug")
    (True, False, True)
    """
    words = re.split(r"[\W_]+", folded(value))
    if not has_fraud_word([squashed]):
        return False
    return bool(set(words) & {"no", "not", "non", "kein", "sin", "sans", "sem", "nao", "senza"}) or squashed.startswith(
        ("notfraud", "nonfraud", "nofraud", "unfraud", "keinbetrug")
    )


def _bare(value: str) -> str:
    """A label's value as contracts compare it: lower case, and 1.0 is 1."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", value.strip().lower())


def find_label_time(
    label: FoundLabel, columns: Sequence[ColumnProfile], event: EventTime, profile: FileProfile
) -> LabelTime:
    """When labels became known, by the file.

    A time that lies before the event, that is the same for all rows, or that is always the event's own is none.
    """
    refused: list[tuple[str, str]] = []
    happened = event.read(profile)
    is_fraud = label.is_fraud(profile) == 1
    for column in columns:
        if column.kind != "time" or column in event.columns or not set(column.words) & REPORT_WORDS:
            continue
        told = read_times(texts(profile.spread, column.name, profile.style.missing), column.time_format)
        if column.is_date:
            told = told + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)
        delays = (told - happened).dt.total_seconds() / SECONDS_PER_DAY
        if reason := _not_a_label_time(column, delays, is_fraud):
            refused.append((column.name, reason))
            continue
        known = delays.dropna()
        questions = ["the time at which the label became known"]
        if (late := float((known > 366).mean())) > 0:
            questions.append(f"{percent(late)} of them lie more than a year after the event")
        return LabelTime(column, float(known.max()), float(known.quantile(0.95)), tuple(questions), tuple(refused))
    return LabelTime(refused=tuple(refused))


def _not_a_label_time(column: ColumnProfile, delays: pd.Series[Any], is_fraud: npt.NDArray[np.bool_]) -> str:
    known = delays.dropna()
    if known.empty:
        return "no row has a value that can be compared with the event's time"
    if column.first == column.last and column.n > 1:
        return "is the same moment for all rows: when the file was labelled, not when each label became known"
    if (known.abs() < 1 / SECONDS_PER_DAY).mean() >= 0.5:
        return "is the event's own time on most rows, and no label is known at once"
    if (known < 0).mean() > 0.01:
        return (
            f"lies before the event on {percent((known < 0).mean())} of the rows, so it is not when labels became known"
        )
    if is_fraud.any() and delays[is_fraud].isna().mean() > 0.01:
        return f"is missing for {percent(delays[is_fraud].isna().mean())} of the frauds"
    return ""
