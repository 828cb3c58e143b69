"""A first contract for a file nobody has described yet, as YAML that a person can finish.

Guesses are made from names and counts, and each says what has to be confirmed. What is counted belongs to
`core/profiling.py`, the contract's rules to `core/contract.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import yaml

from fraud_assets.core.contract import ContractError
from fraud_assets.core.limits import RESERVED_NAMES
from fraud_assets.core.months import month_of
from fraud_assets.core.profiling import MOST, TIME_WORDS, ColumnProfile, FileProfile, name_words, read_times, texts

# Below so many rows, that nothing repeats says nothing.
ENOUGH = 100

REPORT_WORDS = {"label", "labelled", "report", "reported", "chargeback", "dispute", "disputed", "known", "confirmed"}
FRAUD_NAMES = {"fraud", "fraudulent", "isfraud", "betrug", "fraude"}
LABEL_NAMES = {"label", "chargeback", "class", "target", "outcome", "flag"}
FRAUD_VALUES = {"fraud", "fraudulent", "fraudster", "chargeback", "bad", "1", "true", "yes", "y", "t", "betrug", "ja"}
TRANSACTION_WORDS = {"transaction", "trans", "tx", "txn", "trx", "order", "payment", "event", "record", "claim"}
ID_WORDS = {"id", "uid", "uuid", "guid", "key", "ref", "reference", "no", "nr", "num", "number", "hash", "identifier"}
AMOUNT_WORDS = ("amount", "amt", "betrag", "montant", "importe", "price", "total", "value", "sum")
DERIVED_WORDS = {"balance", "old", "new", "mean", "avg", "average", "max", "min", "std", "count", "ratio", "tax", "fee"}
MINOR_UNITS = {"cent", "cents", "pence", "minor"}

MONTH_IN_NAME = re.compile(r"(?<!\d)\d{4}-(?:0[1-9]|1[0-2])(?!\d)")
_SUFFIX = r"(id|no|nr|num|number|key|hash|code|ref|uid|uuid|token|identifier)?"
_WHOSE = r"(client|remote|source|src|user|customer)?"
ENTITIES = {
    "customer_id": rf"(customer|cust|client|user|member|consumer|payer|nameorig|kunden?){_SUFFIX}",
    "card_id": rf"(card|cc|pan|creditcard|karten?){_SUFFIX}",
    "account_id": rf"(account|acct|iban|konto){_SUFFIX}",
    "terminal_id": rf"(terminal|pos){_SUFFIX}",
    "merchant_id": rf"(merchant|seller|shop|vendor|namedest|haendler){_SUFFIX}",
    "ip_address": rf"{_WHOSE}ip(v4|v6)?(address|addr)?",
    "email_address": rf"{_WHOSE}e?mail(address|addr|hash)?",
    "device_id": rf"device(fingerprint)?{_SUFFIX}|fingerprint",
    "phone_number": rf"{_WHOSE}(phone|mobile|telephone)(number|no|nr|hash)?",
}


@dataclass(frozen=True)
class _Label:
    column: ColumnProfile
    fraud: tuple[str, ...]
    genuine: tuple[str, ...]
    is_certain: bool


@dataclass
class _Roles:
    """Which column plays which part; `left_out` gives the reasons for those that play none."""

    event: ColumnProfile
    label: _Label | None = None
    known_at: ColumnProfile | None = None
    transaction_id: ColumnProfile | None = None
    amount: ColumnProfile | None = None
    entities: dict[str, ColumnProfile] = field(default_factory=dict)
    attributes: dict[str, ColumnProfile] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def draft_contract(
    profile: FileProfile,
    file_name: str,
    *,
    name: str | None = None,
    siblings: Iterable[str] = (),
    encoding: str = "utf-8",
) -> str:
    """Writes a contract that a person can finish: each guess is marked `to confirm`, with what to do about it.

    Args:
        profile: of the file.
        file_name: without its folder.
        name: the contract's name; made of the file's when absent.
        siblings: names of the files beside it, which tell the months of a source with one file a month.
        encoding: of a CSV file.

    Returns:
        YAML for `parse_contract`.

    Raises:
        ContractError: when no column can be read as a time, without which there are no months.
    """
    roles = _assign(profile)
    lines = [
        f"# A first contract for {file_name}, drafted from its {profile.n:,} rows.",
        '# What is marked "to confirm" is a guess: change it or delete the mark. `fraud contract check` says whether',
        "# data keeps the contract.",
        f"name: {_quote(_contract_name(name, file_name))}",
        'description: ""  # to confirm: say what one row is, and who delivers it',
        *_months(roles.event, file_name, siblings),
        *_csv(profile.decimal, encoding),
        *_transaction_id(roles.transaction_id),
        *_event_timestamp(roles.event),
        *_entities(roles.entities),
        *_amount(roles.amount),
        *_attributes(roles.attributes),
        *(f"# left out: {_quote(column)} {reason}" for column, reason in roles.left_out),
        *_label_lines(roles, profile),
        "maturity_days: 30  # to confirm: after how many days without a report a transaction counts as genuine",
        "quarantine_limit: 0.05  # a month of which more rows break the contract is refused",
    ]
    return "\n".join(lines) + "\n"


def to_confirm(draft: str) -> list[str]:
    """What a person has to look at in a draft: the field and the question, one text each."""
    found = []
    for line in draft.splitlines():
        before, mark, question = line.partition("# to confirm: ")
        if mark:
            subject = before.strip().partition(":")[0]
            found.append(f"{subject}: {question}" if subject else question)
    return found


def _assign(profile: FileProfile) -> _Roles:
    once = Counter(column.name for column in profile.columns)
    columns = [column for column in profile.columns if once[column.name] == 1]
    roles = _Roles(_event_time(columns))
    roles.left_out = [(name, f"is the name of {times} columns") for name, times in once.items() if times > 1]
    roles.label = _find_label(columns)
    taken = [roles.event] + ([roles.label.column] if roles.label else [])
    rest = []
    for column in columns:
        if column in taken:
            continue
        if reason := _unusable(column):
            roles.left_out.append((column.name, reason))
        elif column.kind == "time":
            if roles.label and roles.known_at is None and set(column.words) & REPORT_WORDS:
                roles.known_at = column
            else:
                roles.left_out.append((column.name, "is a further time, and an attribute is a number, text or boolean"))
        elif roles.label and _tells(profile.sample, column, roles.label):
            reason = f"tells {_quote(roles.label.column.name)} exactly: known only afterwards, it must not be a feature"
            roles.left_out.append((column.name, reason))
        else:
            rest.append(column)
    roles.transaction_id = _find_transaction_id(rest)
    rest = [column for column in rest if column is not roles.transaction_id]
    for column in rest:
        if (entity := _entity_name(column)) and entity not in roles.entities:
            roles.entities[entity] = column
    rest = [column for column in rest if column not in roles.entities.values()]
    roles.amount = _find_amount(rest)
    names = set(roles.entities)
    for column in rest:
        if column is not roles.amount:
            name = _free_name(column.name, names)
            names.add(name)
            roles.attributes[name] = column
    return roles


def _event_time(columns: list[ColumnProfile]) -> ColumnProfile:
    times = [column for column in columns if column.kind == "time" and column.n_missing <= (1 - MOST) * column.n]
    if not times:
        unix = [column.name for column in columns if _is_unix_time(column)]
        hint = f"{unix[0]!r} looks like seconds since 1970: deliver it" if unix else "deliver one"
        listed = ", ".join(f"{column.name!r} ({column.kind})" for column in columns)
        raise ContractError(
            "no column can be read as the time of an event, and without it there are no months; "
            f"{hint} as text such as 2024-01-31T12:00:00Z, or as a Parquet timestamp. The columns are {listed}"
        )

    def score(column: ColumnProfile) -> int:
        words = set(column.words)
        wrong = words & (REPORT_WORDS | {"birth", "dob", "updated", "modified", "expiry", "end"})
        return len(words & TIME_WORDS) + 2 * len(words & ({"event"} | TRANSACTION_WORDS)) - 5 * len(wrong)

    return max(times, key=score)


def _is_unix_time(column: ColumnProfile) -> bool:
    if column.kind not in ("integer", "number") or column.minimum is None or column.maximum is None:
        return False
    seconds = any(0.9e9 * unit <= column.minimum and column.maximum <= 2.2e9 * unit for unit in (1, 1e3, 1e6))
    return seconds and bool(set(column.words) & (TIME_WORDS | {"unix", "epoch"}))


def _unusable(column: ColumnProfile) -> str:
    if column.name.strip() == "":
        return "has no name; it is often the row number of the program that wrote the file"
    if column.kind == "nested":
        return "is of a type that a contract does not know"
    if column.n_missing == column.n:
        return "has no values"
    if _is_unix_time(column):
        return "looks like seconds since 1970, which grow for ever and so are no feature"
    return ""


def _find_label(columns: list[ColumnProfile]) -> _Label | None:
    ranked = sorted(
        ((-score, len(column.values or ()), len(column.words), position) for position, column in enumerate(columns)
         if (score := _label_score(column))),
    )  # fmt: skip
    if not ranked:
        return None
    column = columns[ranked[0][-1]]
    values = list(column.values or ())
    fraud = [value for value in values if _bare(value) in FRAUD_VALUES]
    is_certain = 0 < len(fraud) < len(values) and -ranked[0][0] >= 3
    if len(values) == 1:
        # All genuine, or all fraud: the one value that was not seen is written down as well.
        other = {"0": "1", "1": "0", "false": "true", "true": "false"}.get(_bare(values[0]), "fraud")
        values, fraud = ([values[0], other], [other]) if not fraud else ([other, values[0]], fraud)
    elif not is_certain:
        fraud = [values[-1]]
    return _Label(column, tuple(fraud), tuple(value for value in values if value not in fraud), is_certain)


def _label_score(column: ColumnProfile) -> int:
    if column.values is None or not 1 <= len(column.values) <= 6 or column.kind == "nested":
        return 0
    if column.kind == "number" and not column.whole:
        return 0
    words, values = set(column.words), {_bare(value) for value in column.values}
    if (words & FRAUD_NAMES or "".join(column.words) in FRAUD_NAMES) and not words & {"score", "probability", "type"}:
        return 4
    if values & {"fraud", "fraudulent", "fraudster", "chargeback"} and len(values) > 1:
        return 3
    if len(values) == 2 and words <= LABEL_NAMES | {"is", "event", "tx", "transaction", "y"} and words & LABEL_NAMES:
        return 2
    return 0


def _bare(value: str) -> str:
    """A label's value as contracts compare it: lower case, and 1.0 is 1."""
    return re.sub(r"^(\d+)\.0+$", r"\1", value.strip().lower())


def _tells(sample: pa.Table, column: ColumnProfile, label: _Label) -> bool:
    """Whether a column's value, or that it has one, tells the label of every row: it was filled in afterwards."""
    few = column.values is not None and len(column.values) > 1
    if not few and not column.n_missing:
        return False
    frauds = {*map(_bare, label.fraud)}
    answers = texts(sample, label.column.name).astype("category")
    is_fraud = answers.map({value: _bare(value) in frauds for value in answers.cat.categories}).astype(bool)
    values = texts(sample, column.name)
    views = [values != ""] + ([values] if few else [])
    return is_fraud.nunique() > 1 and any(
        view.nunique() > 1 and bool((is_fraud.groupby(view).nunique() == 1).all()) for view in views
    )


def _find_transaction_id(columns: list[ColumnProfile]) -> ColumnProfile | None:
    def score(column: ColumnProfile) -> int:
        words, squashed = set(column.words), "".join(column.words)
        if not (column.kind == "string" or column.whole) or _entity_kind(column):
            return 0
        named = bool(words & TRANSACTION_WORDS or squashed.startswith(("transaction", "txn")))
        identifies = bool(words & ID_WORDS or squashed.endswith("id"))
        if named and identifies and column.n_distinct >= MOST * column.n_counted:
            return 4 if column.is_unique else 3
        if identifies and column.is_unique:
            return 2
        return int(column.is_unique and column.n >= ENOUGH and not _amount_rank(column))

    best = max(columns, key=score, default=None)
    return best if best is not None and score(best) else None


def _entity_kind(column: ColumnProfile) -> str | None:
    squashed = "".join(column.words)
    for entity, form in ENTITIES.items():
        if re.fullmatch(form, squashed):
            return entity
    return None


def _entity_name(column: ColumnProfile) -> str | None:
    """The platform's name of an identifier that has a history; None for what is none, or never comes again."""
    if not (column.kind == "string" or column.whole):
        return None
    kind, identifies = _entity_kind(column), bool(set(column.words) & ID_WORDS or column.name.lower().endswith("_id"))
    if column.n_counted >= ENOUGH and column.n_distinct > 0.95 * column.n_counted:
        return None
    # Few values are kinds (of cards, of devices), whatever they are called, unless they say that they identify.
    if kind and (identifies or column.values is None or kind in ("ip_address", "email_address")):
        return kind
    if identifies and column.values is None:
        return _slug(column.name)
    return None


def _find_amount(columns: list[ColumnProfile]) -> ColumnProfile | None:
    candidates = [column for column in columns if _amount_rank(column)]
    return max(candidates, key=_amount_rank) if candidates else None


def _amount_rank(column: ColumnProfile) -> int:
    if column.kind not in ("integer", "number") or set(column.words) & DERIVED_WORDS:
        return 0
    ranks = [len(AMOUNT_WORDS) - AMOUNT_WORDS.index(word) for word in column.words if word in AMOUNT_WORDS]
    return max(ranks, default=0)


# The YAML


def _months(event: ColumnProfile, file_name: str, siblings: Iterable[str]) -> list[str]:
    first, last = (month_of(moment) for moment in (event.first, event.last) if moment)
    pattern = name_as_pattern(file_name)
    written = MONTH_IN_NAME.search(file_name)
    if written and written.group() == first == last:
        before, after = file_name[: written.start()], file_name[written.end() :]
        pattern = f"{name_as_pattern(before)}{{month}}{name_as_pattern(after)}"
        beside = re.compile(re.escape(before) + r"(\d{4}-(?:0[1-9]|1[0-2]))" + re.escape(after))
        months = sorted({match.group(1) for other in siblings if (match := beside.fullmatch(other))} | {first})
        first, last = months[0], months[-1]
        files = "one file a month"
    else:
        files = "these files hold all months; with one file a month, write {month} where its name says YYYY-MM"
    zone = (
        "each time carries its offset; months are cut in this zone"
        if event.has_offset
        else "to confirm: the times carry no offset; name the zone they are in, such as Europe/Paris"
    )
    return [
        f"first_month: {first}",
        f"last_month: {last}  # to confirm: leave it out when more months will come",
        f"timezone: UTC  # {zone}",
        f"file_pattern: {_quote(pattern)}  # {files}",
    ]


def name_as_pattern(text: str) -> str:
    """Text as a file pattern matches it; what has a meaning in patterns stands for itself."""
    return re.sub(r"([*?\[])", r"[\1]", text).replace("{", "?").replace("}", "?")


def _csv(decimal: str, encoding: str) -> list[str]:
    given = []
    if decimal != ".":
        given.append(f'decimal: "{decimal}"')
    if encoding == "cp1252":
        return [f"csv: {{{', '.join([*given, 'encoding: cp1252'])}}}  # to confirm: the text is not UTF-8"]
    if encoding != "utf-8":
        given.append(f"encoding: {encoding}")
    return [f"csv: {{{', '.join(given)}}}"] if given else []


def _transaction_id(column: ColumnProfile | None) -> list[str]:
    if column is None:
        return [
            "# to confirm: transaction_id is absent, because no column has a value of its own in every row",
            "# A transaction is then called by its file and row number, and no separate label file can name it. Once",
            "# there is such a column: transaction_id: {column: its name, type: string}",
        ]
    repeated = column.n_counted - column.n_distinct
    remark = f"{repeated} repeated values and {column.n_missing} missing ones" if not column.is_unique else ""
    if not remark and not set(column.words) & (ID_WORDS | TRANSACTION_WORDS):
        remark = "all its values differ, but its name does not say that it identifies"
    return [f"transaction_id: {_flow(_identifier(column))}" + (f"  # to confirm: {remark}" if remark else "")]


def _event_timestamp(event: ColumnProfile) -> list[str]:
    form = f", format: {_quote(event.time_format)}" if event.time_format else ""
    seen = f"{event.first:%Y-%m-%d %H:%M:%S} to {event.last:%Y-%m-%d %H:%M:%S}"
    if event.other_format:
        seen = f"to confirm: {_quote(event.other_format)} reads every value as well; with this one they are {seen}"
    if event.n_misfits:
        seen = f"to confirm: {event.n_misfits:,} values are no times in this format and will be quarantined; {seen}"
    return [f"event_timestamp: {{column: {_quote(event.name)}{form}}}  # {seen}"]


def _entities(entities: dict[str, ColumnProfile]) -> list[str]:
    if not entities:
        return [
            "# to confirm: entities are absent, because no customer, card, terminal, address or device was recognised",
            "# Features of history need one. If the values of a column come again: {customer_id: {column: its name}}",
            "entities: {}",
        ]
    lines = ["entities:"]
    for name, column in entities.items():
        seen = f"{column.n_distinct:,} different in {column.n_counted:,} values"
        lines.append(f"  {_quote(name)}: {_flow(_identifier(column))}  # {seen}")
    return lines


def _identifier(column: ColumnProfile) -> ColumnProfile:
    """Numbers that identify are whole ones, whatever type the file has them in."""
    return replace(column, kind="integer") if column.whole else column


def _amount(column: ColumnProfile | None) -> list[str]:
    if column is None:
        return ["# no amount was found; add it as amount: {column: its name, type: number}"]
    minor = bool(set(column.words) & MINOR_UNITS)
    extra = {"scale": "0.01"} if minor else {}
    question = "to confirm: delivered in hundredths, stored in units; " if minor else ""
    flow = _flow(replace(column, kind="number"), **extra)
    return [f"amount: {flow}  # {question}{_range(column)}"]


def _attributes(attributes: dict[str, ColumnProfile]) -> list[str]:
    if not attributes:
        return []
    lines = ["attributes:"]
    for name, column in attributes.items():
        extra, remark = {}, ""
        if column.kind == "string":
            if column.values is not None and max(map(len, column.values)) <= 40:
                extra["categories"] = f"[{', '.join(_quote(value) for value in column.values)}]"
                remark = "to confirm: these values were seen; any other will be quarantined"
        else:
            extra["feature"] = "true"
            remark = _range(column)
        lines.append(f"  {_quote(name)}: {_flow(column, **extra)}" + (f"  # {remark}" if remark else ""))
    return lines


def _range(column: ColumnProfile) -> str:
    """What was seen; no limit, because the next month may hold more."""
    remarks = []
    if column.minimum is not None and column.maximum is not None:
        remarks.append(f"{column.minimum:.15g} to {column.maximum:.15g} seen")
    if column.n_missing:
        remarks.append(f"{column.n_missing / column.n:.1%} missing")
    if column.n_misfits:
        remarks.append(f"{column.n_misfits:,} values are none and will be quarantined")
    return ", ".join(remarks) or "no value is missing"


def _label_lines(roles: _Roles, profile: FileProfile) -> list[str]:
    label = roles.label
    if label is None:
        return _no_label(roles)
    fraud, genuine = (f"[{', '.join(map(_quote, values))}]" for values in (label.fraud, label.genuine))
    counts = ", ".join(f"{_quote(value)} {count:,} times" for value, count in (label.column.values or {}).items())
    if label.column.n_missing:
        counts += f", no value {label.column.n_missing:,} times"
    doubt = "" if label.is_certain else "to confirm: the rarer value is taken for fraud; "
    lines = [
        "label:",
        f"  column: {_quote(label.column.name)}  # {counts}",
        f"  fraud_values: {fraud}" + (f"  # {doubt.rstrip('; ')}" if doubt else ""),
        f"  genuine_values: {genuine}",
    ]
    if roles.known_at is None:
        question = "the file does not say when a label became known; how many days after the event is it, usually?"
        return [*lines, f"  delay_days: 14  # to confirm: {question}"]
    longest = _longest_delay(profile.sample, roles.event, roles.known_at)
    days = max(62, int(np.ceil(longest)))
    return [
        *lines,
        f"  known_at: {_quote(roles.known_at.name)}  # to confirm: the time at which the label became known",
        f"  max_delay_days: {days}  # to confirm: the longest seen is {longest:.1f} days; later ones are quarantined",
    ]


def _no_label(roles: _Roles) -> list[str]:
    lines = ["# to confirm: the label is absent, because no column says which rows were fraud"]
    if roles.transaction_id is None:
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


def _longest_delay(sample: pa.Table, event: ColumnProfile, known: ColumnProfile) -> float:
    """Days from an event to its label, the longest in the sample; 0 where there is none."""
    happened, told = (read_times(texts(sample, column.name), column.time_format) for column in (event, known))
    delays = (told - happened).dt.total_seconds().dropna() / 86_400
    return float(delays.max()) if len(delays) else 0.0


def _flow(column: ColumnProfile, **extra: str) -> str:
    """A column's mapping on one line."""
    parts = {"column": _quote(column.name), "type": column.kind}
    if column.n_missing:
        parts["nullable"] = "true"
    return "{" + ", ".join(f"{key}: {value}" for key, value in (parts | extra).items()) + "}"


def _quote(text: str) -> str:
    """Text as YAML reads it back, on one line."""
    plain = re.fullmatch(r"[A-Za-z_][\w./-]*( [\w./-]+)*", text, re.ASCII)
    if plain and yaml.safe_load(text) == text:
        return text
    return str(yaml.dump(text, default_style='"', allow_unicode=True, width=10**9)).strip()


def _contract_name(name: str | None, file_name: str) -> str:
    if name is not None:
        return name
    stem = re.sub(r"\d{4}[-_]?\d{2}([-_]?\d{2})?", "", file_name.partition(".")[0])
    return _slug(stem)[:31].rstrip("_") if re.search("[A-Za-z]", stem) else "source"


def _free_name(name: str, taken: set[str]) -> str:
    slug = base = _slug(name)
    number = 1
    while slug in taken or slug in RESERVED_NAMES:
        number += 1
        slug = f"{base[:36]}_{number}"
    return slug


def _slug(name: str) -> str:
    """A name that the platform's tables can have: letters, digits and underscores, at most 40."""
    slug = re.sub(r"\W+", "_", "_".join(name_words(name)), flags=re.ASCII).strip("_")[:40]
    return slug if re.match(r"[a-z]", slug) else f"column_{slug}".rstrip("_")[:40]
