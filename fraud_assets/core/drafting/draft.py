"""A first contract for a file nobody has described yet, as YAML that a person only confirms.

Each guess says what has to be confirmed, and each column that is left out says why. Which part a column plays belongs
to `roles.py`, what is counted to `profiling.py`, the contract's rules to `contracts/contract.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import yaml

from fraud_assets.core.contracts.contract import Csv, Excel
from fraud_assets.core.contracts.feature_names import WINDOW_DAYS
from fraud_assets.core.drafting.event_times import EventTime
from fraud_assets.core.drafting.label_columns import LabelTime
from fraud_assets.core.drafting.naming import ID_WORDS, MINOR_UNITS, TRANSACTION_WORDS, has_fraud_word, name_words, slug
from fraud_assets.core.drafting.profiling import ColumnProfile, FileProfile
from fraud_assets.core.drafting.roles import Choices, Part, Roles, assign_roles
from fraud_assets.core.months import check_month
from fraud_assets.core.units import SECONDS_PER_DAY
from fraud_assets.core.words import percent

USUAL_DELAY, USUAL_MATURITY, USUAL_LONGEST = 14, 30, 62  # days
SELDOM, LONGER_WINDOW = 5, 365  # rows of an entity in the usual window, and the days of a longer one
MONTH_IN_NAME = re.compile(r"(?<!\d)\d{4}-(?:0[1-9]|1[0-2])(?!\d)")


@dataclass(frozen=True)
class Draft:
    """A first contract, and what it was made of.

    Attributes:
        text: YAML for `parse_contract`.
        roles: which part each column plays.
        profile: of the file.
        to_confirm: what a person has to look at: the field and the question, one text each.
    """

    text: str
    roles: Roles
    profile: FileProfile
    to_confirm: tuple[str, ...]

    @property
    def only_one_kind(self) -> str | None:
        """`fraud` or `genuine` where all rows with a label are of that kind; None where both are there."""
        label = self.roles.label
        if label is None or label.blank_is_genuine:
            return None
        if label.n_fraud == 0:
            return "genuine"
        return "fraud" if label.n_genuine == 0 else None


@dataclass(frozen=True)
class _Line:
    """A line of the YAML, with its comment.

    Attributes:
        text: before the comment.
        question: what a person has to confirm; empty where there is nothing.
        remark: what else the comment says.
        about: the field; that of a comment alone is named in its question.
    """

    text: str
    question: str = ""
    remark: str = ""
    about: str = ""

    def __str__(self) -> str:
        asked = f"to confirm: {self.question}" if self.question else ""
        said = _on_one_line("; ".join(filter(None, (asked, self.remark))))
        return "  # ".join(filter(None, (self.text, said))) if self.text else f"# {said}"

    @property
    def to_confirm(self) -> str:
        """The field and the question, on one line."""
        return _on_one_line(f"{self.about}: {self.question}" if self.about else self.question)


_Lines: TypeAlias = "list[str | _Line]"


def draft_contract(
    profile: FileProfile,
    file_name: str,
    *,
    name: str | None = None,
    siblings: Sequence[str] = (),
    csv: Csv | None = None,
    excel: Excel | None = None,
    choices: Choices = Choices(),  # noqa: B008 - frozen
) -> Draft:
    """Writes a contract that a person only confirms: each guess is marked `to confirm`, with what to do about it.

    Args:
        profile: of the file.
        file_name: without its folder.
        name: the contract's name; made of the file's when absent.
        siblings: names of the files beside it, which tell the months of a source with one file a month.
        csv: how a text file was read.
        excel: which sheet of a workbook was read.
        choices: what a person has said already.

    Raises:
        ContractError: when no column can be read as a time, without which there are no months.
    """
    roles = assign_roles(profile, choices)
    # A file of one month says little about which values may be missing in others.
    may_be_missing = len(monthly_pattern(file_name, siblings)[1]) > 1
    lines: _Lines = [
        f"# A first contract for {_on_one_line(file_name)}, drafted from its {profile.n:,} rows.",
        '# What is marked "to confirm" is a guess: change it or delete the mark. `fraud contract check` says whether',
        "# data keeps the contract.",
        f"name: {_quote(_contract_name(name, file_name))}",
        _Line('description: ""', "say what one row is, and who delivers it", about="description"),
        *_months(roles.event, file_name, siblings, choices.timezone),
        *_missing(profile, roles.label.undecided if roles.label else ()),
        *_csv(profile, csv or Csv()),
        *([f"excel: {{sheet: {_quote(excel.sheet)}}}"] if excel and excel.sheet else []),
        *_transaction_id(roles.transaction_id),
        *_event_timestamp(roles.event),
        *_entities(roles.entities),
        *_amount(roles.amount, choices.amount_scale),
        *_attributes(roles.attributes, may_be_missing=may_be_missing),
        *_left_out(roles),
        *_label_lines(roles, choices),
        *_maturity(roles.label_time),
        *_window(roles),
        "quarantine_limit: 0.05  # a month of which more rows break the contract is refused",
    ]
    asked = tuple(line.to_confirm for line in lines if isinstance(line, _Line) and line.question)
    return Draft("\n".join(map(str, lines)) + "\n", roles, profile, asked)


# The YAML


def _months(event: EventTime, file_name: str, siblings: Sequence[str], timezone: str | None) -> _Lines:
    first, last = event.first_month, event.last_month
    pattern, months = monthly_pattern(file_name, siblings)
    if set(months) >= {first, last}:
        first, last = months[0], months[-1]
        files = "one file a month"
    else:
        pattern, alike = pattern_of_alike(file_name, siblings)
        files = f"{len(alike)} files hold all months" if len(alike) > 1 else "these files hold all months"
        files += "; with one file a month, write {month} where its name says YYYY-MM"
    question, zone = "", "each time carries its offset; months are cut in this zone"
    if event.origin is not None:
        zone = "the one in which the origin lies and months are cut"
    elif timezone is not None:
        zone = "of times without an offset"
    elif not event.has_offset:
        question, zone = "the times carry no offset; name the zone they are in, such as Europe/Paris", ""
    return [
        f"first_month: {check_month(first)}",
        _Line(f"last_month: {check_month(last)}", "leave it out when more months will come", about="last_month"),
        _Line(f"timezone: {timezone or 'UTC'}", question, zone, about="timezone"),
        f"file_pattern: {_quote(pattern)}  # {files}",
    ]


def file_name_month(file_name: str) -> str | None:
    """The month in a file's name.

    >>> file_name_month("tx_2024-01.csv"), file_name_month("tx.csv")
    ('2024-01', None)
    """
    found = MONTH_IN_NAME.search(file_name)
    return found.group() if found else None


def monthly_pattern(file_name: str, siblings: Iterable[str]) -> tuple[str, list[str]]:
    """The pattern of files with one month each, and the months that there are; no months where the name has none.

    >>> monthly_pattern("tx_2024-02.csv", ["tx_2024-01.csv", "notes_2024-03.csv"])
    ('tx_{month}.csv', ['2024-01', '2024-02'])
    """
    written = MONTH_IN_NAME.search(file_name)
    if written is None:
        return name_as_pattern(file_name), []
    before, after = file_name[: written.start()], file_name[written.end() :]
    beside = re.compile(re.escape(before) + r"(\d{4}-(?:0[1-9]|1[0-2]))" + re.escape(after))
    months = sorted({match.group(1) for other in siblings if (match := beside.fullmatch(other))} | {written.group()})
    return f"{name_as_pattern(before)}{{month}}{name_as_pattern(after)}", months


def pattern_of_alike(file_name: str, siblings: Iterable[str]) -> tuple[str, list[str]]:
    """The pattern of files whose names differ in one number of four or more digits, and those files.

    >>> pattern_of_alike("tx_202401.csv", ["tx_202402.csv", "tx_new.csv"])
    ('tx_[0-9][0-9][0-9][0-9][0-9][0-9].csv', ['tx_202401.csv', 'tx_202402.csv'])
    >>> pattern_of_alike("tx_2024.csv", [])
    ('tx_2024.csv', ['tx_2024.csv'])
    """
    for written in re.finditer(r"\d{4,}", file_name):
        before, after = file_name[: written.start()], file_name[written.end() :]
        beside = re.compile(rf"{re.escape(before)}\d{{{len(written.group())}}}{re.escape(after)}")
        alike = sorted({other for other in siblings if beside.fullmatch(other)} | {file_name})
        if len(alike) > 1:
            digits = "[0-9]" * len(written.group())
            return f"{name_as_pattern(before)}{digits}{name_as_pattern(after)}", alike
    return name_as_pattern(file_name), [file_name]


def name_as_pattern(text: str) -> str:
    """Text as a file pattern matches it; what has a meaning in patterns stands for itself."""
    return re.sub(r"([*?\[])", r"[\1]", text).replace("{", "?").replace("}", "?")


def _missing(profile: FileProfile, undecided: Sequence[str]) -> _Lines:
    words = (*profile.style.missing, *undecided)
    if not words:
        return []
    listed = f"missing: [{', '.join(map(_quote, words))}]"
    return [_Line(listed, "words that stand for a value that is missing", about="missing")]


def _csv(profile: FileProfile, read: Csv) -> _Lines:
    """How text files are written, where it is not the usual and was not found from the file by itself."""
    style, usual = profile.style, Csv()
    given = {}
    if read.delimiter not in (None, ","):
        given["delimiter"] = _quote(read.delimiter)
    if style.decimal != usual.decimal:
        given["decimal"] = f'"{style.decimal}"'
    if style.thousands is not None:
        # What keeps a number on one line is read like a blank.
        given["thousands"] = _quote(" " if style.thousands.isspace() else style.thousands.replace("\u2019", "'"))
    if read.encoding != usual.encoding:
        given["encoding"] = read.encoding
    if read.quote != usual.quote:
        given["quote"] = "null" if read.quote is None else _quote(read.quote)
    if read.skip_rows is not None:
        given["skip_rows"] = str(read.skip_rows)
    if read.comment is not None:
        given["comment"] = _quote(read.comment)
    if not given:
        return []
    questions = []
    if not read.encoding.startswith(("utf-8", "utf-16")):
        questions.append(f"the text is not UTF-8, and {read.encoding} reads all of it")
    if style.thousands is not None:
        questions.append(f"{style.thousands!r} groups the digits of numbers")
    lines = ", ".join(f"{name}: {value}" for name, value in given.items())
    return [_Line(f"csv: {{{lines}}}", "; ".join(questions), about="csv")]


def _transaction_id(column: ColumnProfile | None) -> _Lines:
    if column is None:
        return [
            _Line("", "transaction_id is absent, because no column has a value of its own in every row"),
            "# A transaction is then called by its file and row number, and no separate label file can name it. Once",
            "# there is such a column: transaction_id: {column: its name, type: string}",
        ]
    repeated = column.n_counted - column.n_distinct
    remark = f"{repeated} repeated values and {column.n_missing} missing ones" if not column.is_unique else ""
    if not remark and not set(column.words) & (ID_WORDS | TRANSACTION_WORDS):
        remark = "all its values differ, but its name does not say that it identifies"
    kind = "integer" if column.whole else "string"
    return [_Line(f"transaction_id: {_flow(column, kind)}", remark, about="transaction_id")]


def _event_timestamp(event: EventTime) -> _Lines:
    names = [_quote(column.name) for column in event.columns]
    parts = [f"column: {names[0] if len(names) == 1 else '[' + ', '.join(names) + ']'}"]
    parts += [f"format: {_quote(event.format)}"] if event.format else []
    parts += [f"unit: {event.unit}"] if event.unit else []
    parts += [f"origin: {event.origin}"] if event.origin else []
    seen = [f"{event.first:%Y-%m-%d %H:%M:%S} to {event.last:%Y-%m-%d %H:%M:%S}"]
    remark = "; ".join([*seen, *([event.reason] if event.reason else [])])
    text = f"event_timestamp: {{{', '.join(parts)}}}"
    return [_Line(text, "; ".join(event.questions), remark, about="event_timestamp")]


def _entities(entities: dict[str, Part]) -> _Lines:
    if not entities:
        return [
            _Line("", "entities are absent, because no customer, card, terminal, address or device was recognised"),
            "# Features of history need one. If the values of a column come again: {customer_id: {column: its name}}",
            "entities: {}",
        ]
    lines: _Lines = ["entities:"]
    for name, part in entities.items():
        kind = "integer" if part.column.whole else "string"
        text = f"  {_quote(name)}: {_flow(part.column, kind)}"
        lines.append(_Line(text, part.question, _remark(part), about=name))
    return lines


def _amount(part: Part | None, scale: float | None) -> _Lines:
    if part is None:
        return ["# no amount was found; add it as amount: {column: its name, type: number}"]
    column = part.column
    extra, questions = {}, [part.question] if part.question and scale is None else []
    if scale is not None and scale != 1:
        extra["scale"] = f"{scale:g}"
    elif set(column.words) & MINOR_UNITS:
        extra["scale"] = "0.01"
        questions.append("delivered in hundredths, stored in units")
    if column.has_sign:
        extra["extract"] = _single(_NUMBER_BESIDE_A_SIGN)
        questions.append("the number is taken from between the signs of a currency")
    text = f"amount: {_flow(column, 'number', **extra)}"
    return [_Line(text, "; ".join(questions), _range(column), about="amount")]


# A minus before the sign is not taken for one after it: such a value is quarantined.
_NUMBER_BESIDE_A_SIGN = r"^[^\d-]*([+-]?\d[\d., ']*)"


def _attributes(attributes: dict[str, Part], *, may_be_missing: bool) -> _Lines:
    if not attributes:
        return []
    lines: _Lines = ["attributes:"]
    for name, part in attributes.items():
        column, extra = part.column, {}
        kind: str = column.kind
        if part.as_text or column.kind in ("string", "clock"):
            kind = "string"
        if column.has_sign:
            kind, extra["extract"] = "number", _single(_NUMBER_BESIDE_A_SIGN)
        if column.kind == "time":
            kind = "date"
            if column.time_format:
                extra["format"] = _quote(column.time_format)
        if not part.feature:
            extra["feature"] = "false"
        if may_be_missing:
            extra["nullable"] = "true"
        text = f"  {_quote(name)}: {_flow(column, kind, **extra)}"
        lines.append(_Line(text, part.question, _remark(part, kind), about=name))
    return lines


def _remark(part: Part, kind: str = "") -> str:
    remarks = [part.remark] if part.remark else []
    if kind in ("integer", "number") and not remarks:
        remarks.append(_range(part.column))
    elif kind == "string" and not remarks and part.column.values and len(part.column.values) == 1:
        remarks.append("one value so far, from which nothing can be learned")
    elif part.column.n_missing and not remarks:
        remarks.append(f"{percent(part.column.share_missing)} missing")
    return "; ".join(remarks)


def _left_out(roles: Roles) -> _Lines:
    lines: _Lines = []
    for one in roles.left_out:
        said = f"left out: {_quote(one.name)} {one.reason}"
        lines.append(_Line("", said) if one.is_doubtful else _Line("", remark=said))
    return lines


def _range(column: ColumnProfile) -> str:
    """What was seen; no limit, because the next month may hold more."""
    remarks = []
    if column.minimum is not None and column.maximum is not None:
        remarks.append(f"{column.minimum:.15g} to {column.maximum:.15g} seen")
    if column.n_missing:
        remarks.append(f"{percent(column.share_missing)} missing")
    if column.n_misfits:
        remarks.append(f"{column.n_misfits:,} values are none and will be quarantined")
    return ", ".join(remarks) or "no value is missing"


def _label_lines(roles: Roles, choices: Choices) -> _Lines:
    label, known = roles.label, roles.label_time
    if label is None:
        return _no_label(has_id=roles.transaction_id is not None)
    counts = ", ".join(f"{_quote(value)} {count:,} times" for value, count in (label.column.values or {}).items())
    if label.column.n_missing:
        counts += f", no value {label.column.n_missing:,} times"
    lines: _Lines = [
        "label:",
        f"  column: {_quote(label.column.name)}  # {_on_one_line(counts)}",
        _Line(f"  fraud_values: {_listed(label.fraud)}", "; ".join(label.questions), about="fraud_values"),
        f"  genuine_values: {_listed(label.genuine)}",
    ]
    if choices.blank is not None:
        lines.append(f"  blank: {choices.blank}")
    elif label.blank_is_unknown:
        share = 1 - (label.n_fraud + label.n_genuine) / label.column.n
        question = (
            f"{percent(share)} of the rows have no label, taken for not investigated; "
            "if they are genuine, write genuine_when_mature"
        )
        lines.append(_Line("  blank: unknown", question, about="blank"))
    if choices.delay_days is not None:
        return [*lines, f"  delay_days: {choices.delay_days:g}"]
    if known.column is None:
        question = "the file does not say when a label became known; how many days after the event is it, usually?"
        return [*lines, _Line(f"  delay_days: {USUAL_DELAY}", question, about="delay_days")]
    column = known.column
    form = f", format: {_quote(column.time_format)}" if column.time_format else ""
    given = f"{{column: {_quote(column.name)}{form}}}" if form else _quote(column.name)
    days = max(USUAL_LONGEST, int(np.ceil(known.longest)))
    return [
        *lines,
        _Line(f"  known_at: {given}", "; ".join(known.questions), about="known_at"),
        _Line(
            f"  max_delay_days: {days}", f"the longest seen is {known.longest:.1f} days; later ones are quarantined",
            about="max_delay_days",
        ),
    ]  # fmt: skip


def _maturity(known: LabelTime) -> _Lines:
    days = max(USUAL_MATURITY, int(np.ceil(known.usual)))
    question = "after how many days without a report a transaction counts as genuine"
    return [_Line(f"maturity_days: {days}", question, about="maturity_days")]


def _window(roles: Roles) -> list[str]:
    """A longer window than usual, where the usual one holds next to nothing of an entity's past.

    Chosen on other people's files, out of time: with 1 to 4 rows of an entity in 90 days, a year gave 0.02 to 0.05 more
    of average precision than 90 days.
    """
    days = (roles.event.last - roles.event.first).total_seconds() / SECONDS_PER_DAY
    if not roles.entities or days < WINDOW_DAYS:
        return []
    seen = {
        name: (part.column.n - part.column.n_missing) / max(part.column.n_distinct, 1) * WINDOW_DAYS / days
        for name, part in roles.entities.items()
    }
    name, most = max(seen.items(), key=lambda one: one[1])
    if most >= SELDOM:
        return []
    return [
        f"window_days: {LONGER_WINDOW}  # how far back features look: a usual {name} has {most:.1f} rows in "
        f"{WINDOW_DAYS} days"
    ]


def _listed(values: Iterable[str]) -> str:
    # As contracts compare them: 1.0 is 1.
    values = dict.fromkeys(re.sub(r"^(-?\d+)\.0+$", r"\1", value) for value in values)
    return f"[{', '.join(map(_quote, values))}]"


def _no_label(*, has_id: bool) -> _Lines:
    lines: _Lines = [_Line("", "the label is absent, because no column says which rows were fraud")]
    if not has_id:
        return [
            *lines,
            "# Without a transaction_id the label has to stand in the file itself: add a column, and name it here.",
            "# Until then the contract can be read, but no month can be taken in.",
            "label: {column: is_fraud, delay_days: 14}",
        ]
    return [
        *lines,
        "# Labels are expected in files of their own, named by the month in which they became known, with these",
        "# columns. If a column of the transactions says it, write: label: {column: its name, delay_days: 14}",
        "label:",
        '  feed: {file_pattern: "labels_{month}.csv", transaction_id: transaction_id, is_fraud: is_fraud, '
        "label_timestamp: label_timestamp}",
    ]


def _flow(column: ColumnProfile, kind: str, **extra: str) -> str:
    """A column's mapping on one line."""
    parts = {"column": _quote(column.name), "type": kind}
    if column.n_missing:
        parts["nullable"] = "true"
    return "{" + ", ".join(f"{key}: {value}" for key, value in (parts | extra).items()) + "}"


def _quote(text: str) -> str:
    """Text as YAML reads it back, on one line."""
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./-]+)*", text, re.ASCII)
    if plain and yaml.safe_load(text) == text:
        return text
    return str(yaml.dump(text, default_style='"', allow_unicode=True, width=10**9)).strip()


def _single(text: str) -> str:
    """A regular expression in single quotes, in which a backslash is one."""
    return "'" + text.replace("'", "''") + "'"


def _on_one_line(text: str) -> str:
    """Text for a comment: nothing in it ends the line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _contract_name(name: str | None, file_name: str) -> str:
    if name is not None:
        return name
    stem = re.sub(r"\d{4}[-_]?\d{2}([-_]?\d{2})?", "", file_name.partition(".")[0])
    return slug(stem)[:31].rstrip("_") if re.search("[A-Za-z]", stem) and slug(stem) else "source"


def names_only_fraud(file_name: str) -> bool:
    """Whether a file's name says that its rows are frauds.

    >>> names_only_fraud("Fraud_Transactions.csv"), names_only_fraud("fraud_detection_2024.csv")
    (True, False)
    """
    words = name_words(file_name.partition(".")[0])
    return has_fraud_word(words) and bool(
        set(words) & (TRANSACTION_WORDS | {"transactions", "cases", "frauds", "only"})
    )
