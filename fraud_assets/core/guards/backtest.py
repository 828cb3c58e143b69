"""What rules would have done on months that are over: what they catch, what they cost, and what the model has already.

Each transaction is judged by what was known of it when it matured, and beside the model that was live then. Which
months there are, and which model that was, belongs to `workflows/guards/rules.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.core.contracts.contract import TIMESTAMP, Contract
from fraud_assets.core.contracts.rules import ContractRule
from fraud_assets.core.guards.evaluation import Bools, Columns
from fraud_assets.core.guards.policy import BoundRule, rule_hits
from fraud_assets.core.labels.as_of import labels_as_of
from fraud_assets.core.statistics.bootstrap import identifier_codes
from fraud_assets.core.statistics.costs import Costs, is_value
from fraud_assets.core.units import MICROSECONDS_PER_DAY

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class JudgedMonth:
    """A month's transactions and what became of them; arrays of shape (n,).

    Attributes:
        transactions: columns as in `Contract.transactions_schema`.
        features: of the same, in the same order.
        known: whether it is known if it was fraud.
        fraud: whether it was.
        held: whether the model that was live would have it reviewed; None where there was none, or it cannot be asked.
    """

    transactions: pa.Table
    features: pa.Table
    known: Bools
    fraud: Bools
    held: Bools | None


@dataclass(frozen=True)
class Caught:
    """What a rule would have done, in numbers that add up over months.

    Attributes:
        n: transactions that it is about.
        n_known, n_fraud: of which it is known whether they were fraud; frauds among them.
        amount_fraud, amount_genuine: their amounts.
        loss: what these frauds cost when they are missed.
        reviews: cards on days, which is what a person would look at.
        n_beside, n_fraud_beside: of months in which there was a model, transactions and frauds.
        n_held, n_fraud_held: those of them that the model holds already.
        loss_new: of frauds that the model lets through.
        reviews_new: cards on days that nobody would look at without the rule.
        loss_held: of frauds that the model holds.
        reviews_less: cards on days that nobody had to look at any more, would the rule decide about them.
    """

    n: int = 0
    n_known: int = 0
    n_fraud: int = 0
    amount_fraud: float = 0.0
    amount_genuine: float = 0.0
    loss: float = 0.0
    reviews: int = 0
    n_beside: int = 0
    n_fraud_beside: int = 0
    n_held: int = 0
    n_fraud_held: int = 0
    loss_new: float = 0.0
    reviews_new: int = 0
    loss_held: float = 0.0
    reviews_less: int = 0

    def __add__(self, other: Caught) -> Caught:
        return Caught(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def precision(self) -> float | None:
        """Share of frauds among those of which it is known."""
        return self.n_fraud / self.n_known if self.n_known else None

    @property
    def duplicated(self) -> float | None:
        """Share of the frauds that the model holds already."""
        return self.n_fraud_held / self.n_fraud_beside if self.n_fraud_beside else None

    def saved_alone(self, rule: ContractRule, costs: Costs) -> float | None:
        """What it saves where there is no model: the frauds' loss less the reviews; None of one that allows."""
        if rule.action == "allow":
            return None
        return self.loss - (costs.review * self.reviews if rule.action == "review" else 0.0)

    def saved_beside(self, rule: ContractRule, costs: Costs) -> float:
        """What it adds to the model: below 0 it costs more than it brings."""
        if rule.action == "review":
            return self.loss_new - costs.review * self.reviews_new
        less = costs.review * self.reviews_less
        return less - self.loss_held if rule.action == "allow" else self.loss_new + less


def judged_month(
    transactions: pa.Table, features: pa.Table, statements: pa.Table, contract: Contract, held: Bools | None
) -> JudgedMonth:
    """A month with what was known of each transaction when it had matured, and nothing from after.

    Args:
        transactions: columns as in `Contract.transactions_schema`.
        features: of the same, in the same order.
        statements: about them; those that came later are left out.
        contract: says when they mature.
        held: as in `JudgedMonth`.
    """
    matures = timedelta(days=contract.maturity_days)
    labels = labels_as_of(
        transactions, _in_time(transactions, statements, matures), _last(transactions) + matures,
        maturity_days=contract.maturity_days, blank=contract.label.blank,
    )  # fmt: skip
    known = pc.is_valid(labels["is_fraud"]).to_numpy()
    fraud = pc.fill_null(labels["is_fraud"], False).to_numpy()
    return JudgedMonth(transactions, features, np.asarray(known), np.asarray(fraud), held)


def _last(transactions: pa.Table) -> datetime:
    last: datetime = pc.max(transactions["event_timestamp"]).as_py()
    return last


def _in_time(transactions: pa.Table, statements: pa.Table, matures: timedelta) -> pa.Table:
    """The statements that were known before their own transaction had matured."""
    place = pc.index_in(statements["transaction_id"], transactions["transaction_id"].combine_chunks())
    happened = transactions["event_timestamp"].cast(TIMESTAMP).take(place)
    until = pc.add(happened, pa.scalar(matures, pa.duration("us")))
    return statements.filter(pc.fill_null(pc.less_equal(statements["label_timestamp"], until), False))


def judge_rules(rules: Sequence[BoundRule], month: JudgedMonth, contract: Contract, costs: Costs) -> list[Caught]:
    """What each rule would have done in a month, whatever its `since` says.

    Args:
        rules: each is judged alone.
        month: the transactions.
        contract: of the source.
        costs: of reviews and missed frauds.
    """
    rows = month.transactions
    amounts = rows["amount"].to_numpy().astype(np.float64) if contract.amount else None
    losses = costs.losses(month.fraud & month.known, amounts)
    values = np.zeros(rows.num_rows) if amounts is None else np.where(is_value(amounts), amounts, 0.0)
    card_days, columns = _card_days(rows, contract), Columns(rows, month.features)
    found = []
    for bound in rules:
        hit = rule_hits(bound, columns, always=True)
        fraud, genuine = hit & month.known & month.fraud, hit & month.known & ~month.fraud
        caught = Caught(
            n=int(hit.sum()), n_known=int((hit & month.known).sum()), n_fraud=int(fraud.sum()),
            amount_fraud=float(values[fraud].sum()), amount_genuine=float(values[genuine].sum()),
            loss=float(losses[fraud].sum()), reviews=len(np.unique(card_days[hit])),
        )  # fmt: skip
        found.append(caught if month.held is None else caught + _beside(hit, fraud, month.held, losses, card_days))
    return found


def _beside(hit: Bools, fraud: Bools, held: Bools, losses: npt.NDArray[np.float64], card_days: Codes) -> Caught:
    looked_at = np.unique(card_days[held])
    return Caught(
        n_beside=int(hit.sum()), n_fraud_beside=int(fraud.sum()), n_held=int((hit & held).sum()),
        n_fraud_held=int((fraud & held).sum()), loss_new=float(losses[fraud & ~held].sum()),
        reviews_new=len(np.setdiff1d(card_days[hit], looked_at)), loss_held=float(losses[fraud & held].sum()),
        reviews_less=len(looked_at) - len(np.unique(card_days[held & ~hit])),
    )  # fmt: skip


def _card_days(rows: pa.Table, contract: Contract) -> Codes:
    """A number for each card and day; of its own where a transaction has no card."""
    n = rows.num_rows
    if contract.card is None:
        return np.arange(n)
    cards = identifier_codes(rows[contract.card])
    local = pc.local_timestamp(rows["event_timestamp"].cast(pa.timestamp("us", tz=contract.timezone)))
    days = local.cast(pa.int64()).to_numpy() // MICROSECONDS_PER_DAY
    _, together = np.unique(np.stack([cards, days]), axis=1, return_inverse=True)
    return np.where(cards < 0, -1 - np.arange(n), together.reshape(-1))


def as_row(bound: BoundRule, caught: Caught, costs: Costs, *, has_model: bool) -> dict[str, Any]:
    """A rule's figures as plain values.

    Args:
        bound: the rule.
        caught: over all months.
        costs: of reviews and missed frauds.
        has_model: whether a model was live in one of them.
    """
    rule = bound.rule
    beside: dict[str, Any] = dict.fromkeys(("n_held", "n_fraud_held", "duplicated", "saved_beside_the_model"))
    if has_model:
        beside = {
            "n_held": caught.n_held, "n_fraud_held": caught.n_fraud_held, "duplicated": caught.duplicated,
            "saved_beside_the_model": caught.saved_beside(rule, costs),
        }  # fmt: skip
    return {
        "rule": rule.name, "version": rule.version, "action": rule.action, "when": rule.when,
        "n": caught.n, "n_labelled": caught.n_known, "n_fraud": caught.n_fraud, "precision": caught.precision,
        "amount_fraud": caught.amount_fraud, "n_genuine": caught.n_known - caught.n_fraud,
        "amount_genuine": caught.amount_genuine, "loss": caught.loss, "reviews": caught.reviews,
        "saved_alone": caught.saved_alone(rule, costs), **beside,
    }  # fmt: skip
