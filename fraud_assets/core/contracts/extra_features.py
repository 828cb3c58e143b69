"""Features that a contract adds: one line each, of its own columns.

How they are made belongs to `features/declarations.py`; whether a contract has the columns is for `contract.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

NUMERIC = ("mean", "sum", "std", "min", "max")
# Of the contract's own clock: 1 in the hours before six, and on Saturdays and Sundays, else 0.
CLOCK_SOURCES = ("night", "weekend")
WINDOW = re.compile(r"([1-9]\d{0,4})([hd])")


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _window(value: str) -> str:
    if not WINDOW.fullmatch(value):
        raise ValueError(f"{value!r} is no window: write hours or days, as in 6h or 30d")
    return value


class ExtraFeature(BaseModel):
    """A feature of an entity's past, beside those that every contract has.

    Attributes:
        entity: whose past; of several, of the transactions that they have together.
        aggregate: what is taken: `count` of transactions, `days_since_last` of them, how many `distinct` values, or a
            number of the values themselves; `std` is over n.
        of: the column whose values are taken; `night` and `weekend` are 1 or 0 by the contract's clock.
        window: how far back, in hours or days: 6h, 30d. It ends strictly before the transaction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entity: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    aggregate: Literal["count", "days_since_last", "distinct", "mean", "sum", "std", "min", "max"]
    of: str | None = None
    window: Annotated[str, AfterValidator(_window)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.entity:
            raise ValueError("entity is empty; name one entity, or several in brackets")
        if twice := next((one for one in self.entity if self.entity.count(one) > 1), None):
            raise ValueError(f"a pair of {twice!r} with itself is {twice!r}: name it once")
        if (self.of is None) != (self.aggregate in ("count", "days_since_last")):
            wanted = "takes no column: leave `of` out" if self.of else "needs a column: name it in `of`"
            raise ValueError(f"{self.aggregate} {wanted}")
        return self

    @property
    def hours(self) -> int:
        """How far back."""
        return int(self.window[:-1]) * (24 if self.window.endswith("d") else 1)

    @property
    def suffix(self) -> str:
        """What follows the entities' names in its own."""
        return "_".join(part for part in (self.aggregate, self.of, self.window) if part)

    @property
    def name(self) -> str:
        """The name of its column.

        >>> ExtraFeature(entity=("customer_id", "terminal_id"), aggregate="count", window="90d").name
        'customer_terminal_count_90d'
        """
        return "_".join([*(one.removesuffix("_id") for one in self.entity), self.suffix])

    @property
    def window_in_words(self) -> str:
        """As in: the 6 hours before."""
        n, unit = int(self.window[:-1]), {"h": "hour", "d": "day"}[self.window[-1]]
        return f"the {unit} before" if n == 1 else f"the {n} {unit}s before"

    @property
    def in_words(self) -> str:
        """What it means, with `{entity}` for whose it is."""
        span = self.window_in_words
        if self.aggregate == "count":
            return f"Transactions of the {{entity}} in {span}; 0 and up."
        if self.aggregate == "distinct":
            return f"How many different values of {self.of} the {{entity}}'s transactions of {span} have; 0 and up."
        if self.aggregate == "mean" and self.of in CLOCK_SOURCES:
            when = "before six in the morning" if self.of == "night" else "on Saturdays and Sundays"
            return f"Share of the {{entity}}'s transactions of {span} that were {when}; 0 to 1, empty without any."
        said = {
            "mean": "Mean", "sum": "Sum", "std": "Standard deviation", "min": "Smallest", "max": "Largest",
        }[self.aggregate]  # fmt: skip
        return f"{said} of {self.of} in the {{entity}}'s transactions of {span}; empty without any."


def check_extra_features(
    features: Sequence[ExtraFeature], entities: Sequence[str], types: Mapping[str, str], window_days: int
) -> None:
    """Makes sure that a contract has what its extra features are made of.

    Args:
        features: the lines.
        entities: the contract's.
        types: of its amount and attributes, by name.
        window_days: the longest window that history is read for.

    Raises:
        ValueError: naming the feature, what is wrong and what there is.
    """
    for extra in features:
        about = f"feature {extra.name}"
        if unknown := [one for one in extra.entity if one not in entities]:
            raise ValueError(f"{about}: there is no entity {unknown[0]!r}; there are {_listed_words(entities)}")
        if extra.hours > 24 * window_days:
            raise ValueError(
                f"{about}: its window of {extra.window} is longer than the {window_days} days that history is read "
                "for; take a shorter one, or raise window_days"
            )
        if extra.of is None:
            continue
        if extra.aggregate == "distinct":
            there = [*(one for one in entities if one not in extra.entity), *types]
            kinds = [name for name in there if types.get(name) in (None, "integer", "string", "boolean", "date")]
            if extra.of in extra.entity:
                raise ValueError(f"{about}: {extra.of} has one value in its own transactions")
            if extra.of not in kinds:
                raise ValueError(f"{about}: {extra.of!r} cannot be counted; there are {_listed_words(kinds)}")
            continue
        numbers = [name for name, kind in types.items() if kind in ("integer", "number", "boolean")]
        if extra.of not in (*numbers, *CLOCK_SOURCES):
            what = f"is {types[extra.of]}" if extra.of in types else "is no column of the contract"
            raise ValueError(
                f"{about}: {extra.of!r} {what}, and a {extra.aggregate} is of numbers; there are "
                f"{_listed_words([*numbers, *CLOCK_SOURCES])}"
            )


def _listed_words(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
