"""Who decides about a transaction: lists and rules before the model, in an order that is the same everywhere.

From the strongest on: block lists, rules that decline, allow lists, rules that review, rules that allow, the model. So
an allow list corrects the model and what is sent to review, but never opens what somebody declared forbidden; and
between rules the more careful one counts, wherever it stands in the contract. Of several rules at the same stage the
first in the contract is named, and of lists the first by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from fraud_assets.core.contracts.conditions import Condition, ConditionError, parse_condition
from fraud_assets.core.contracts.contract import Contract, ContractError
from fraud_assets.core.contracts.rules import ContractRule, RuleAction
from fraud_assets.core.guards.evaluation import Bools, Columns, is_true
from fraud_assets.core.guards.lists import EntityLists, ListAction

Answered = Literal["approve", "review", "decline"]
MODEL = "model"
PASSED = "pass_through"
BREAKER = "breaker"
DECISION_OF: Mapping[RuleAction | ListAction, Answered] = {
    "allow": "approve", "review": "review", "decline": "decline", "block": "decline",
}  # fmt: skip
STAGES: tuple[RuleAction, ...] = ("decline", "review", "allow")
"""The actions of rules, from the strongest on."""
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class BoundRule:
    """A rule whose condition was read against a contract."""

    rule: ContractRule
    condition: Condition
    since: datetime | None


@dataclass(frozen=True)
class Decided:
    """What is answered about transactions, and who says so.

    Attributes:
        decisions: of each.
        by: of each: `model`, `rule NAME@VERSION`, `list NAME`, `pass_through` or `breaker`.
    """

    decisions: tuple[Answered, ...]
    by: tuple[str, ...]

    @property
    def by_model(self) -> Bools:
        """Which the model decided, shape (n,)."""
        return np.array([one == MODEL for one in self.by], dtype=bool)

    def with_let_through(self, through: Bools | None) -> Decided:
        """The same, where some are let through although the model would hold them."""
        if through is None or not through.any():
            return self
        places = set(np.flatnonzero(through).tolist())
        return Decided(
            tuple("approve" if place in places else one for place, one in enumerate(self.decisions)),
            tuple(PASSED if place in places else one for place, one in enumerate(self.by)),
        )

    def with_review(self) -> Decided:
        """The same, where a person sees what a rule would decline; what a list blocks stays."""
        eased = [one == "decline" and by.startswith("rule ") for one, by in zip(self.decisions, self.by, strict=True)]
        return Decided(
            tuple("review" if ease else one for ease, one in zip(eased, self.decisions, strict=True)),
            tuple(BREAKER if ease else one for ease, one in zip(eased, self.by, strict=True)),
        )


def bind_rules(
    rules: Sequence[ContractRule], sets: Mapping[str, Sequence[str | float]], contract: Contract
) -> tuple[BoundRule, ...]:
    """Rules, read against the contract of the model that answers.

    Raises:
        ContractError: naming the rule that is about something that this contract does not have.
    """
    found = []
    for rule in rules:
        try:
            condition = parse_condition(rule.when, contract.kinds, sets)
        except ConditionError as error:
            raise ContractError(f"rule {rule.name}: {error}") from None
        since = None if rule.since is None else datetime.combine(rule.since, time(), contract.zone)
        found.append(BoundRule(rule, condition, since))
    return tuple(found)


@dataclass(frozen=True)
class Policy:
    """Rules and lists, beside which a model decides.

    Attributes:
        rules: in the contract's order.
        lists: of entities.
    """

    rules: tuple[BoundRule, ...] = ()
    lists: EntityLists = field(default_factory=EntityLists)

    def decide(self, held: Bools, transactions: pa.Table, features: pa.Table | Rows, now: datetime) -> Decided:
        """Decides about transactions.

        Args:
            held: whether the model would have it reviewed, shape (n,).
            transactions: columns as in `Contract.transactions_schema`.
            features: of the same, in the same order: a table, or a row of them by name for each.
            now: the moment at which lists hold.
        """
        decisions: list[Answered] = ["review" if one else "approve" for one in held.tolist()]
        by = [MODEL] * len(decisions)
        listed = [entity for entity in self.lists.entities() if entity in transactions.column_names]
        if not (listed or self.rules):
            return Decided(tuple(decisions), tuple(by))
        columns = Columns(transactions, features)

        def overrule(places: Sequence[int], action: RuleAction | ListAction, name: str) -> None:
            for place in places:
                decisions[place], by[place] = DECISION_OF[action], name

        def by_rules(action: RuleAction) -> None:
            # The first in the contract is the last that is asked.
            for bound in reversed(self.rules):
                if bound.rule.action == action:
                    hit = np.flatnonzero(rule_hits(bound, columns))
                    overrule(hit.tolist(), action, f"rule {bound.rule.tag}")

        def by_lists(action: ListAction) -> None:
            found: dict[int, str] = {}
            for entity in listed:
                for place, name in self.lists.found(entity, transactions[entity].to_pylist(), action, now):
                    found[place] = min(name, found.get(place, name))
            for place, name in found.items():
                overrule([place], action, f"list {name}")

        # From the weakest to the strongest.
        by_rules("allow")
        by_rules("review")
        by_lists("allow")
        by_rules("decline")
        by_lists("block")
        return Decided(tuple(decisions), tuple(by))


def rule_hits(bound: BoundRule, columns: Columns, *, always: bool = False) -> Bools:
    """Which transactions a rule is about, shape (n,).

    Args:
        bound: the rule.
        columns: of the transactions.
        always: whether `since` is left out of account.
    """
    hits = is_true(bound.condition, columns)
    return hits if bound.since is None or always else hits & columns.since(bound.since)
