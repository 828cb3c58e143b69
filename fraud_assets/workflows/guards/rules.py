"""The rules of the contract on stored months: beside which model, with which labels, is decided here.

What a rule would have done is worked out in `core/guards/backtest.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_assets.adapters.mlflow import Registry, RegistryError
from fraud_assets.adapters.postgres.ledger import LedgerStore
from fraud_assets.adapters.postgres.months import MonthStore
from fraud_assets.core.decisions.ledger import Event, champion_version
from fraud_assets.core.guards.backtest import Caught, as_row, judge_rules, judged_month
from fraud_assets.core.guards.evaluation import Bools
from fraud_assets.core.guards.policy import BoundRule, bind_rules
from fraud_assets.core.models.scoring import Scorer, ScoringError
from fraud_assets.core.months import check_month, months_between
from fraud_assets.core.statistics.costs import Costs


class RulesError(ValueError):
    """Rules that cannot be tried; the message says why, and what to do."""


@dataclass(frozen=True)
class _Models:
    """The models that were live, month by month."""

    events: list[Event]
    registry: Registry

    def held(self, month: str, features: pa.Table) -> tuple[Bools | None, str | None]:
        """What the model that was live at the beginning of a month would have reviewed; else why that is not known."""
        version = champion_version(self.events, before_month=month)
        if version is None:
            return None, f"{month}: no model was live yet"
        try:
            scorer = Scorer(*self.registry.fetch(version))
            scores = scorer.score(features)
        except (RegistryError, ScoringError) as error:
            return None, f"{month}: version {version}, which was live, cannot be asked: {error}"
        return np.asarray(scores >= scorer.manifest.threshold), None


def backtest_rules(
    store: MonthStore, ledger: LedgerStore, registry: Registry, costs: Costs, first: str | None, last: str | None
) -> dict[str, Any]:
    """What each rule of the contract would have done on stored months.

    Args:
        store: the months, and the contract.
        ledger: says which model was live.
        registry: has it.
        costs: of reviews and missed frauds.
        first: the first month of transactions; the first that is stored when absent.
        last: the last one; the last that has matured when absent.

    Returns:
        `months`, those that were judged; `left_out`, others that were asked for, each with why; `beside`, the months
        whose model is compared; `not_beside`, sentences about the others; `costs`, in words; `rules`, for each
        `core/guards/backtest.as_row`.

    Raises:
        RulesError: when the contract has no rules, or no month can be judged.
    """
    contract = store.contract
    if not contract.rules:
        raise RulesError(f"contract {contract.name} has no rules; docs/rules.md says how to write them")
    rules = bind_rules(contract.rules, contract.sets, contract)
    months, left_out = _months(store, first, last)
    if not months:
        why = "; ".join(f"{one['month']}: {one['reason']}" for one in left_out) or "no month is stored; use `fraud run`"
        raise RulesError(f"no month can be judged: {why}")
    models = _Models(ledger.events(), registry)
    found, beside, silent = [Caught() for _ in rules], list[str](), list[str]()
    for month in months:
        caught, why_not = _month(store, month, rules, models, costs)
        found = [one + more for one, more in zip(found, caught, strict=True)]
        if why_not is None:
            beside.append(month)
        else:
            silent.append(why_not)
    return {
        "months": months,
        "left_out": left_out,
        "beside": beside,
        "not_beside": silent,
        "costs": costs.in_words(has_amount=contract.amount is not None),
        "rules": [as_row(rule, one, costs, has_model=bool(beside)) for rule, one in zip(rules, found, strict=True)],
    }


def _month(
    store: MonthStore, month: str, rules: tuple[BoundRule, ...], models: _Models, costs: Costs
) -> tuple[list[Caught], str | None]:
    contract = store.contract
    rows = store.read("raw_transactions", contract.transactions_schema().names, first_month=month, last_month=month)
    features = store.read("transaction_features", first_month=month, last_month=month)
    place = pc.index_in(rows["transaction_id"], features["transaction_id"].combine_chunks())
    if place.null_count:
        raise RulesError(
            f"transaction_features of {month} lacks {place.null_count:,} transactions: `fraud refresh` rebuilds it"
        )
    if not rows.num_rows:
        return [Caught() for _ in rules], None
    features = features.take(place)
    # A transaction of the last day matures so much later.
    known = contract.month_of(contract.month_end(month) + timedelta(days=contract.maturity_days))
    statements = store.read("fraud_labels", first_month=month, last_month=known)
    held, why_not = models.held(month, features)
    judged = judged_month(rows, features, statements, contract, held)
    return judge_rules(rules, judged, contract, costs), why_not


def _months(store: MonthStore, first: str | None, last: str | None) -> tuple[list[str], list[dict[str, str]]]:
    """The months that can be judged, and why others that were asked for cannot."""
    contract, stored = store.contract, sorted(store.months("raw_transactions"))
    if not stored:
        return [], []
    first, last = check_month(first or stored[0]), check_month(last or stored[-1])
    if first > last:
        raise RulesError(f"{first} comes after {last}")
    there = {name: set(store.months(name)) for name in ("raw_transactions", "transaction_features", "fraud_labels")}
    found, left_out = list[str](), list[dict[str, str]]()
    for month in months_between(first, last):
        matures = contract.month_of(contract.month_end(month) + timedelta(days=contract.maturity_days))
        lacking = [name for name in ("raw_transactions", "transaction_features") if month not in there[name]]
        reason = f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not stored" if lacking else ""
        if not reason and (gone := [one for one in months_between(month, matures) if one not in there["fraud_labels"]]):
            reason = f"not all of it has matured: fraud_labels of {', '.join(gone)} are not stored"
        if reason:
            left_out.append({"month": month, "reason": reason})
        else:
            found.append(month)
    return found, left_out
