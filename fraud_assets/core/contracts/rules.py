"""Rules of a contract: a condition with a name, and what happens to the transactions of which it is true.

The language of conditions belongs to `conditions.py`, what a rule says of rows to `guards/evaluation.py`, and who is
asked first, rules, lists or the model, to `guards/policy.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from fraud_assets.core.contracts.conditions import LONGEST_LIST, ConditionError, Kind, parse_condition
from fraud_assets.core.contracts.feature_names import OF_ENTITIES, feature_name, in_full

RuleAction = Literal["decline", "review", "allow"]
SetValues = Annotated[tuple[str | float, ...], Field(min_length=1, max_length=LONGEST_LIST)]
SetName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,40}$")]
MOST_RULES = 200
RULES_VARIABLE = "FRAUD_RULES_FILE"
"""The environment variable that tells a service whose rules it follows: a contract's file."""

KINDS: dict[str, Kind] = {
    "integer": "number",
    "number": "number",
    "string": "text",
    "boolean": "boolean",
    "date": "date",
}


class ContractRule(BaseModel):
    """A rule.

    Attributes:
        name: of the rule; answers and kept scores have it, with the version.
        when: the condition. The rule is about the transactions of which it is true, not of those of which it cannot be
            told because a value is missing.
        action: what becomes of them.
        version: raised by whoever changes the condition, so that rows say which one decided.
        since: the first day, in the contract's time zone, whose transactions it is about; always when absent.
        description: why it is there, for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
    when: Annotated[str, Field(min_length=1)]
    action: RuleAction
    version: Annotated[int, Field(ge=1, le=2**31)] = 1
    since: date | None = None
    description: str = ""

    @property
    def tag(self) -> str:
        """Name and version, as an answer has it.

        >>> ContractRule(name="large_abroad", when="amount > 5000", action="review", version=2).tag
        'large_abroad@2'
        """
        return f"{self.name}@{self.version}"


def kinds_of_names(
    types: Mapping[str, str], entities: Sequence[str], window_days: int, extra: Sequence[str]
) -> dict[str, Kind]:
    """What a rule may name, with the kind of its values: the columns as they are stored, and computed features.

    Args:
        types: of the entities, the amount and the attributes, by name.
        entities: their names.
        window_days: the longest window of features.
        extra: names of the features that the contract adds.
    """
    # As in `features/declarations.py`: the first entity is the one that spends.
    spender = entities[0] if entities and "amount" in types else None
    of_entities = [
        in_full(feature_name(entity, suffix), window_days)
        for entity in entities
        for suffix in OF_ENTITIES
        if entity == spender or not suffix.startswith("amount_")
    ]
    found: dict[str, Kind] = dict.fromkeys(["hour", "is_weekend", *of_entities, *extra], "number")
    for name, kind in types.items():
        found[name] = "identifier" if name in entities else KINDS[kind]
    return found


def check_rules(
    rules: Sequence[ContractRule], sets: Mapping[str, Sequence[str | float]], kinds: Mapping[str, Kind]
) -> None:
    """Makes sure that rules are about what a contract has.

    Raises:
        ValueError: naming the rule, what is wrong and what there is.
    """
    if len(rules) > MOST_RULES:
        raise ValueError(f"there are {len(rules)} rules, and at most {MOST_RULES} are asked of each transaction")
    if both := sorted(set(sets) & set(kinds)):
        raise ValueError(f"the set {both[0]!r} has the name of a column or a feature; give it another")
    for name, values in sets.items():
        if len({isinstance(one, str) for one in values}) > 1:
            raise ValueError(f"the set {name!r} has texts and numbers; put a number that is a text in quotes")
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise ValueError(f"there are two rules {rule.name!r}; give each a name of its own")
        seen.add(rule.name)
        try:
            parse_condition(rule.when, kinds, sets)
        except ConditionError as error:
            raise ValueError(f"rule {rule.name}: {error}") from None
