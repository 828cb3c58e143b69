"""What a feature's value says of a transaction, in words for whoever reviews it: "42 times the usual amount".

A `Wording` is part of a feature's declaration (`declarations.py`). Which features move a score, and how much, belongs
to `explanations/attributions.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from fraud_assets.core.contracts.contract import Column as ContractColumn
from fraud_assets.core.contracts.extra_features import CLOCK_SOURCES, ExtraFeature
from fraud_assets.core.contracts.feature_names import in_full
from fraud_assets.core.words import number, percent

Kind = Literal[
    "number", "transactions", "values", "share", "duration", "days", "deviations", "clock", "flag", "date", "text"
]
LONGEST_TEXT = 60  # characters of a value that are shown: a reason is read at a glance


@dataclass(frozen=True)
class Wording:
    """How a value is told.

    Attributes:
        kind: what the value is, and so how it is written: a number; a number of transactions or of different values;
            a share of 1; days as a duration, or as days ago; standard deviations; an hour of the day; 1 or 0 for yes
            or no; the days from a date to the transaction; text.
        text: the sentence, with `{value}`; in a declaration also with `{entity}` and `{longest}`.
        missing: the sentence where there is no value.
        none: the sentence where the value is 0; as any other when empty.
    """

    kind: Kind
    text: str
    missing: str = ""
    none: str = ""

    def of(self, who: str, window_days: int) -> Wording:
        """For one entity and the contract's longest window."""

        def told(text: str) -> str:
            # The value's place is kept, whatever the entity is called.
            return in_full(text, window_days).replace("{entity}", who)

        return replace(self, text=told(self.text), missing=told(self.missing), none=told(self.none))

    def say(self, value: Any) -> str:
        """The sentence for a value; None and NaN are no value.

        >>> Wording("number", "{value} times the usual amount of this card").say(42.03)
        '42 times the usual amount of this card'
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return self.missing or self.text.replace("{value}", "not known")
        if self.none and value == 0:
            return self.none
        return self.text.replace("{value}", _written(self.kind, value))


CLOCK_WORDINGS = {
    "hour": Wording("clock", "the time of day is {value}"),
    "is_weekend": Wording("flag", "it is a Saturday or a Sunday", none="it is a weekday"),
}


def column_wording(name: str, column: ContractColumn) -> Wording:
    """The wording of the amount or of an attribute, by the name that the contract gives it."""
    called = _safe(name.replace("_", " "))
    missing = f"{called} is missing"
    if column.type == "boolean":
        return Wording("flag", f"{called} is true", missing, f"{called} is false")
    if column.type == "date":
        return Wording("date", f"{called} is {{value}}", missing)
    if column.type == "string":
        return Wording("text", f"{called} is {{value}}", missing)
    unit = f" {_safe(column.unit)}" if column.unit else ""
    return Wording("number", f"{'the amount' if name == 'amount' else called} is {{value}}{unit}", missing)


def extra_wording(extra: ExtraFeature) -> Wording:
    """The wording of a feature that a contract adds, with `{entity}` for whose it is."""
    span, of = extra.window_in_words, _safe((extra.of or "").replace("_", " "))
    none = f"no transaction of this {{entity}} in {span}"
    if extra.aggregate == "count":
        return Wording("transactions", f"{{value}} of this {{entity}} in {span}")
    if extra.aggregate == "days_since_last":
        return Wording("duration", "the transaction before of this {entity} was {value} ago", none)
    if extra.aggregate == "distinct":
        return Wording("values", f"{{value}} of {of} in the transactions of this {{entity}} in {span}", none)
    if extra.aggregate == "mean" and extra.of in CLOCK_SOURCES:
        when = "before six in the morning" if extra.of == "night" else "on Saturdays and Sundays"
        return Wording("share", f"{{value}} of the transactions of this {{entity}} in {span} were {when}", none)
    said = {
        "mean": "mean", "sum": "sum", "std": "standard deviation", "min": "smallest", "max": "largest",
    }[extra.aggregate]  # fmt: skip
    return Wording(
        "number",
        f"the {said} of {of} in the transactions of this {{entity}} in {span} is {{value}}",
        f"no {of} is known of transactions of this {{entity}} in {span}",
    )


def unknown_wording(name: str) -> Wording:
    """Of a column that the contract does not have any more: its name and its value."""
    return Wording("text", f"{_safe(name)} is {{value}}", f"{_safe(name)} is missing")


def _safe(text: str) -> str:
    """A name of somebody else's, which may have the braces of a template in it."""
    return text.replace("{", "(").replace("}", ")")


def _written(kind: Kind, value: Any) -> str:
    if kind in ("transactions", "values"):
        noun = {"transactions": "transaction", "values": "different value"}[kind]
        return f"{'no' if value == 0 else f'{value:,.0f}'} {noun}{'' if value in (0, 1) else 's'}"
    if kind == "share":
        return percent(value)
    if kind == "duration":
        return _duration(value)
    if kind == "days":
        return "today" if value < 1 else f"{_counted(value, 'day')} ago"
    if kind == "deviations":
        return f"{number(abs(value))} standard deviations {'below' if value < 0 else 'above'}"
    if kind == "clock":
        minutes = int(value * 60) % (24 * 60)
        return f"{minutes // 60:02d}:{minutes % 60:02d}"
    if kind == "date":
        if value == 0:
            return "the day of the transaction"
        return f"{_counted(abs(value), 'day')} {'before' if value > 0 else 'after'} the transaction"
    if kind == "text" or isinstance(value, str):
        text = number(value) if isinstance(value, float) else str(value)
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."
    return number(float(value))


def _duration(days: float) -> str:
    """Days in the unit that people would use.

    >>> _duration(0.004), _duration(0.25), _duration(1.0), _duration(12.6)
    ('6 minutes', '6 hours', '24 hours', '13 days')
    """
    if days < 1 / 24:
        return _counted(days * 24 * 60, "minute")
    return _counted(days * 24, "hour") if days < 2 else _counted(days, "day")


def _counted(value: float, unit: str) -> str:
    whole = round(value)
    return f"{whole:,} {unit}{'' if whole == 1 else 's'}"
