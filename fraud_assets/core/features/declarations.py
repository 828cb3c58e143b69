"""Features of transactions, each from what was known strictly before the transaction happened, as data.

A feature of an entity is a line of `ENTITY_FEATURES`; its name, its windows and its place in every table follow from
that line, for every entity that a contract declares. A contract can add lines (`features:`). What an expression is, is
in `expressions.py`; what works it out, in `kernel.py` and `ibis_expression.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import pyarrow as pa

from fraud_assets.core.contracts.contract import Column as ContractColumn
from fraud_assets.core.contracts.contract import Contract
from fraud_assets.core.contracts.extra_features import ExtraFeature
from fraud_assets.core.contracts.feature_names import CLOCK, feature_name, in_full
from fraud_assets.core.digests import digest_text
from fraud_assets.core.features.expressions import (
    Aggregate,
    Column,
    Expression,
    Function,
    Operation,
    aggregates,
    columns,
)
from fraud_assets.core.features.wording import CLOCK_WORDINGS, Wording, column_wording, extra_wording
from fraud_assets.core.units import MICROSECONDS_PER_DAY

VERSION = 2  # of the features: raise it with every change of what one of them means
RAMP_DAYS = 30  # a stolen card is used for some weeks; see `feature_days`
RECENT_DAYS = 30  # the longest window over how amounts compared with what was usual, which looks back by itself
# A fraud that is reported later than this after its transaction counts, but its amount is taken for usual: to know
# more would mean to read still further back.
JUDGED_DAYS = 30
# A terminal with one transaction and one fraud is no proof: shares are drawn by so many transactions to a usual
# share. That is a constant and not the data's own, which a service that reads a few entities could not know.
SMOOTHING, USUAL_SHARE = 10, 0.01
ODD = 2  # standard deviations above an entity's mean, from where an amount begins to count as odd

# Columns of ours beside those of the contract, whose attributes may have any name. Of a transaction: its moment and the
# contract's own clock in microseconds, the day of that clock since 1970, 1 where it matured without a known fraud.
MOMENT, LOCAL, TODAY, GENUINE = "@moment", "@local", "@today", "@genuine"
WEEKEND, NIGHT = "@weekend", "@night"  # by that clock, 1 or 0
NIGHT_HOURS = 6  # of a day, from its beginning
MONDAY_EPOCH_SHIFT = 3  # 1970-01-01 was a Thursday
# Of what changed an entity's number of known frauds: by how much, and the day of the fraud's transaction.
CHANGE, EVENT_DAY = "@change", "@event day"

# How an amount compares with what is usual for the entity that spends: columns that are made before the features.
# Of genuine transactions only, so that a thief's amounts do not become usual for a stolen card. One unit of currency
# keeps a history of nothing but zeros from dividing by zero, and so do sizes where refunds make amounts negative.
# Oddness is in millionths, so that its sums are the same in any order.
MILLION = 1_000_000
RATIO, ODDNESS, OVER_MAX = "@ratio", "@oddness", "@over max"
_AMOUNT = Column("amount")
_GENUINE_AMOUNT = _AMOUNT.where(Column(GENUINE))
LONGEST: int | None = None  # the hours of the contract's longest window


def _usual(function: Function) -> Aggregate:
    return Aggregate(function, _GENUINE_AMOUNT, LONGEST, matured=True)


MEASURES: dict[str, Expression] = {
    RATIO: _AMOUNT / (abs(_usual("mean")) + 1),
    ODDNESS: round(((_AMOUNT - _usual("mean")) / (_usual("std") + 1)).at_least(-MILLION).at_most(MILLION) * MILLION),
    OVER_MAX: _AMOUNT / (abs(_usual("max")) + 1),
}


class FeatureError(ValueError):
    """A feature that cannot be made; the message names it and the remedy."""


@dataclass(frozen=True)
class Feature:
    """One feature of an entity, or of several entities together.

    Attributes:
        name: follows the entity's; `{longest}` in it stands for the days of the contract's longest window.
        value: how it is made.
        description: what it means, for people, with `{entity}` for whose it is; unit, range, when it is empty.
        wording: what a value of it says of a transaction.
    """

    name: str
    value: Expression
    description: str
    wording: Wording

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """What is taken over windows for it."""
        return tuple(aggregates(self.value))

    @property
    def of_amount(self) -> bool:
        """Whether it compares amounts with the usual ones of the entity that spends."""
        return not MEASURES.keys().isdisjoint(columns(self.value))

    @property
    def of_labels(self) -> bool:
        """Whether it is made of labels: of known frauds, or of what matured without one."""
        return any(one.events == "label changes" or one.matured for one in self.aggregates)

    @property
    def counts(self) -> bool:
        """Whether it is more, or less, when there are more rows: counts, sums and times since the last one.

        Of known frauds it is their number that matters, however many rows there are.
        """
        if any(one.events == "label changes" for one in self.aggregates):
            return False
        times = {MOMENT, TODAY}
        return any(
            one.function in ("count", "sum", "distinct") or not times.isdisjoint(columns(one.value))
            for one in self.aggregates
        )


# Words for what features are made of

_CHANGE, _FRAUD_DAY = Column(CHANGE), Column(EVENT_DAY).where(Column(CHANGE))


def _count(days: int | None) -> Expression:
    return Aggregate("count", Column(MOMENT), _hours(days))


def _frauds(days: int | None) -> Expression:
    """Frauds that became known in the last days, less those withdrawn in them; never negative."""
    return Aggregate("sum", _CHANGE, _hours(days), "label changes").or_else(0).at_least(0)


def _fraud_share(days: int | None) -> Expression:
    """Frauds that became known in the last days, of the transactions in them."""
    return (_frauds(days) + SMOOTHING * USUAL_SHARE) / (_count(days).at_least(_frauds(days)) + SMOOTHING)


def _days_since_fraud(function: Function) -> Expression:
    """Days of the calendar since a fraud; nothing, where all of them were withdrawn."""
    day = Aggregate(function, _FRAUD_DAY, LONGEST, "label changes")
    return (Column(TODAY) - day).where(_frauds(None))


def _days_since_last(hours: int | None) -> Expression:
    return (Column(MOMENT) - Aggregate("max", Column(MOMENT), hours)) / MICROSECONDS_PER_DAY


def _hours(days: int | None) -> int | None:
    return None if days is None else 24 * days


def _span(days: int) -> str:
    return "day" if days == 1 else f"{days} days"


_FIRST_AND_LAST: tuple[tuple[str, Function], ...] = (("first", "min"), ("last", "max"))
USUAL = "the {entity}'s usual amounts (of genuine transactions of {longest} days, which have matured)"
_NO_USUAL = "no usual amount of this {entity} is known yet"

ENTITY_FEATURES: tuple[Feature, ...] = (
    *(
        Feature(
            f"count_{days}d",
            _count(days),
            f"Transactions of the {{entity}} in the {_span(days)} before; 0 and up.",
            Wording("transactions", f"{{value}} of this {{entity}} in the {_span(days)} before"),
        )
        for days in (1, 7, 30)
    ),
    Feature(
        "days_since_last",
        _days_since_last(LONGEST),
        "Days since the {entity}'s transaction before; 0 to {longest}, empty where there is none.",
        Wording(
            "duration",
            "the transaction before of this {entity} was {value} ago",
            "no transaction of this {entity} in the {longest} days before",
        ),
    ),
    Feature(
        "amount_ratio",
        Column(RATIO),
        f"Amount over 1 plus the mean of {USUAL}; empty without them.",
        Wording("number", "{value} times the usual amount of this {entity}", _NO_USUAL),
    ),
    Feature(
        "amount_z",
        Column(ODDNESS) / MILLION,
        f"Standard deviations of the amount above the mean of {USUAL}; negative below, empty without them.",
        Wording("deviations", "the amount is {value} what is usual for this {entity}", _NO_USUAL),
    ),
    Feature(
        "amount_over_max",
        Column(OVER_MAX),
        f"Amount over 1 plus the largest of {USUAL}; empty without them.",
        Wording("number", "{value} times the largest usual amount of this {entity}", _NO_USUAL),
    ),
    *(
        Feature(
            f"amount_excess_{days}d",
            Aggregate("sum", (Column(ODDNESS) - ODD * MILLION).at_least(0), 24 * days) / MILLION,
            f"How unusual the {{entity}}'s amounts of the {_span(days)} before were: the sum of amount_z above {ODD}.",
            Wording(
                "number",
                f"unusually large amounts of this {{entity}} in the {_span(days)} before add up to {{value}} standard "
                f"deviations, each counted from {ODD} on",
                f"no amount of this {{entity}} in the {_span(days)} before can be compared with its usual ones",
                f"no unusually large amount of this {{entity}} in the {_span(days)} before",
            ),
        )
        for days in (7, RECENT_DAYS)
    ),
    *(
        Feature(
            f"amount_over_max_{days}d",
            Aggregate("max", Column(OVER_MAX), 24 * days),
            f"The largest amount_over_max of the {{entity}}'s transactions in the {_span(days)} before.",
            Wording(
                "number",
                f"an amount in the {_span(days)} before was {{value}} times the largest usual one of this {{entity}}",
                f"no amount of this {{entity}} in the {_span(days)} before can be compared with its usual ones",
            ),
        )
        for days in (7, RECENT_DAYS)
    ),
    *(
        Feature(
            f"known_fraud_share_{said}d",
            _fraud_share(days),
            f"Frauds of the {{entity}} that became known in the {said} days before, as a share of its transactions in "
            f"them; 0 to 1, and near {USUAL_SHARE:g} where there are few.",
            Wording(
                "share",
                f"about {{value}} of the transactions of this {{entity}} in the {said} days before are known frauds",
            ),
        )
        for days, said in ((7, "7"), (30, "30"), (None, "{longest}"))
    ),
    *(
        Feature(
            f"days_since_{which}_known_fraud",
            _days_since_fraud(function),
            f"Calendar days since the {which} of the {{entity}}'s frauds that became known in the {{longest}} days "
            "before; empty without one.",
            Wording(
                "days",
                f"the {which} known fraud of this {{entity}} was {{value}}",
                "no fraud of this {entity} became known in the {longest} days before",
            ),
        )
        for which, function in _FIRST_AND_LAST
    ),
    Feature(
        "days_since_known_genuine",
        Column(TODAY) - Aggregate("max", Column(TODAY).where(Column(GENUINE)), LONGEST, matured=True),
        "Calendar days since the {entity}'s last transaction that is known to be genuine; empty without one.",
        Wording(
            "days",
            "the last transaction of this {entity} that is known to be genuine was {value}",
            "no transaction of this {entity} is known to be genuine",
        ),
    ),
)


@dataclass(frozen=True)
class Declared:
    """A feature of a contract: whose it is, what it is called, and how it is made, no hours left open.

    Attributes:
        entities: whose past it is about; of several, of the transactions that they have together.
        name: of the column.
        feature: the line that declares it.
        value: its expression for this contract.
    """

    entities: tuple[str, ...]
    name: str
    feature: Feature
    value: Expression

    @property
    def who(self) -> str:
        """Whose it is, in words.

        >>> Declared(("customer_id", "terminal_id"), "", ENTITY_FEATURES[0], ENTITY_FEATURES[0].value).who
        'customer and terminal'
        """
        return " and ".join(entity.removesuffix("_id").replace("_", " ") for entity in self.entities)


@lru_cache(maxsize=64)
def _declared(contract_json: str, features: tuple[Feature, ...]) -> tuple[Declared, ...]:
    contract = Contract.model_validate_json(contract_json)
    made = []
    for entity in contract.entities:
        for feature in features:
            if feature.of_amount and entity != spending_entity(contract):
                continue
            made.append(_declare(contract, (entity,), feature))
    made += [_declare(contract, extra.entity, _extra(extra)) for extra in contract.features]
    return tuple(made)


def _declare(contract: Contract, entities: tuple[str, ...], feature: Feature) -> Declared:
    name = feature_name("_".join(one.removesuffix("_id") for one in entities), feature.name)
    return Declared(
        entities, in_full(name, contract.window_days), feature, in_hours(feature.value, contract.window_days)
    )


def declared_features(contract: Contract) -> tuple[Declared, ...]:
    """The features of a contract's entities, in the order of their columns.

    Raises:
        FeatureError: for a window that is longer than what is read, and for a column that the contract does not have.
    """
    made = _declared(contract.model_dump_json(), ENTITY_FEATURES)
    own = {MOMENT, TODAY, GENUINE, WEEKEND, NIGHT, CHANGE, EVENT_DAY, *(MEASURES if spending_entity(contract) else ())}
    for one in made:
        if missing := sorted(set(columns(one.value)) - {*own, *contract.columns}):
            raise FeatureError(
                f"feature {one.name} is made of a column that contract {contract.name} does not have: {missing[0]}; "
                "declare the column"
            )
        for aggregate in aggregates(one.value):
            days = RECENT_DAYS if not MEASURES.keys().isdisjoint(columns(aggregate)) else contract.window_days
            if aggregate.hours is not None and aggregate.hours > 24 * days:
                raise FeatureError(
                    f"feature {one.name} looks back {aggregate.hours} hours, and history is read for {days} days: "
                    "take a shorter window, or more of the contract's window_days"
                )
    return made


def in_hours(value: Expression, window_days: int) -> Expression:
    """An expression with the contract's longest window where it asks for that."""
    if isinstance(value, Aggregate):
        return replace(value, hours=24 * window_days if value.hours is None else value.hours)
    if isinstance(value, Operation):
        return replace(value, operands=tuple(in_hours(one, window_days) for one in value.operands))
    return value


def _extra(extra: ExtraFeature) -> Feature:
    """The line that a contract adds, with its words."""
    hours, span = extra.hours, extra.window_in_words
    if extra.aggregate == "days_since_last":
        return Feature(
            extra.suffix,
            _days_since_last(hours),
            f"Days since the {{entity}}'s transaction before; empty where there is none in {span}.",
            extra_wording(extra),
        )
    source = {None: MOMENT, "night": NIGHT, "weekend": WEEKEND}.get(extra.of, extra.of) or MOMENT
    what = extra.in_words
    return Feature(extra.suffix, Aggregate(extra.aggregate, Column(source), hours), what, extra_wording(extra))


def feature_names(contract: Contract) -> tuple[str, ...]:
    """The features that are numbers, of what a contract's columns allow, in the order in which models take them.

    An attribute that is a boolean is 1 or 0; a date, the days from it to the transaction's own day, which are negative
    where it lies ahead.
    """
    names = [*CLOCK]
    if contract.amount:
        names.append("amount")
    names += [one.name for one in declared_features(contract)]
    names += [name for name, column in shown_attributes(contract).items() if column.type != "string"]
    return tuple(names)


def text_features(contract: Contract) -> tuple[str, ...]:
    """The attributes that models see as text: each row's value as it was delivered, null where there is none.

    What a model makes of them it learns from its own training rows (`models/encoding.py`).
    """
    return tuple(name for name, column in shown_attributes(contract).items() if column.type == "string")


def forced_texts(contract: Contract) -> tuple[str, ...]:
    """The texts that models are given even if nothing can be learned from them, because the contract says so."""
    return tuple(name for name in text_features(contract) if contract.attributes[name].feature)


def model_columns(contract: Contract) -> tuple[str, ...]:
    """All that models are given: numbers, then text."""
    return feature_names(contract) + text_features(contract)


def feature_types(contract: Contract) -> dict[str, pa.DataType]:
    """`model_columns`, with their types."""
    return dict.fromkeys(feature_names(contract), pa.float32()) | dict.fromkeys(text_features(contract), pa.string())


def feature_descriptions(contract: Contract) -> dict[str, str]:
    """What each of `model_columns` means, in their order: its unit, its range, and when it is empty."""
    said = {
        "hour": f"Hour of the day in {contract.timezone}, with fractions; 0 to 24.",
        "is_weekend": f"1 on Saturdays and Sundays in {contract.timezone}, else 0.",
    }
    if contract.amount:
        said["amount"] = contract.amount.in_words("Amount of the transaction")
    for one in declared_features(contract):
        said[one.name] = in_full(one.feature.description, contract.window_days).replace("{entity}", one.who)
    kinds = {
        "boolean": "{} As a number: 1 for true, 0 for false.",
        "date": "{} As the days from it to the transaction's day, negative where it lies ahead.",
    }
    for name, column in shown_attributes(contract).items():
        said[name] = kinds.get(column.type, "{}").format(column.in_words("Attribute of the transaction"))
    return {name: said[name] for name in model_columns(contract)}


def feature_wordings(contract: Contract) -> dict[str, Wording]:
    """What a value of each of `model_columns` says of a transaction, in their order."""
    found = dict(CLOCK_WORDINGS)
    if contract.amount:
        found["amount"] = column_wording("amount", contract.amount)
    for one in declared_features(contract):
        found[one.name] = one.feature.wording.of(one.who, contract.window_days)
    found |= {name: column_wording(name, column) for name, column in shown_attributes(contract).items()}
    return {name: found[name] for name in model_columns(contract)}


def features_digest(contract: Contract) -> str:
    """What decides which features come out beside a contract's own words: when it changes, stored ones are stale."""
    return digest_text(str(VERSION), *(f"{name} {kind}" for name, kind in feature_types(contract).items()))


def shown_attributes(contract: Contract) -> dict[str, ContractColumn]:
    """The attributes that models may be given."""
    return {name: column for name, column in contract.attributes.items() if column.feature is not False}


def feature_days(contract: Contract) -> dict[str, float]:
    """Days of history that each feature of `model_columns` needs before it is stable.

    Features that look at labels need `RAMP_DAYS` more than their windows. Cards that were stolen before the platform's
    first transaction are not known as stolen, so its first weeks have fewer known frauds than later ones.
    """
    days = dict.fromkeys(model_columns(contract), 0.0)
    usual = contract.window_days + contract.maturity_days
    for one in declared_features(contract):
        taken = list(aggregates(one.value))
        spans = [
            (each.hours or 0) / 24 + contract.maturity_days * (each.matured or each.events == "label changes")
            for each in taken
        ]
        ramp = RAMP_DAYS * any(each.events == "label changes" for each in taken)
        days[one.name] = max(spans, default=0) + usual * one.feature.of_amount + ramp
    return days


def spending_entity(contract: Contract) -> str | None:
    """The entity whose amounts can be unusual: the first that is declared, where there are amounts.

    The amounts at a terminal are its customers': on the Handbook's folds, features of them brought nothing.
    """
    return next(iter(contract.entities), None) if contract.amount else None


def history_days(contract: Contract, entity: str | None = None) -> float:
    """How many days before a transaction its features look back.

    Args:
        contract: a longer maturity makes for a longer history.
        entity: at the transactions of this entity; without one, at anything: a fraud at a terminal, as long ago as
            the longest window, is judged by what was usual for its customer before it.
    """
    matured = contract.window_days + contract.maturity_days
    spender = spending_entity(contract)
    if spender is None:
        return matured
    if entity is None:
        return contract.window_days + JUDGED_DAYS + matured
    return matured + RECENT_DAYS if entity == spender else matured


def date_columns(contract: Contract) -> tuple[str, ...]:
    """The attributes that are dates; as features, they are the days from it to the transaction."""
    return tuple(name for name, column in contract.attributes.items() if column.type == "date")


def says_genuine(contract: Contract) -> bool:
    """Whether a transaction is genuine only where somebody said so, and not because nobody said otherwise."""
    return contract.label.blank == "unknown"
