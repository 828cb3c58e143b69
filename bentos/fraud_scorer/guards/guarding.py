"""Lists and rules of a running service: looked for twice a second, and asked about each transaction.

Lists are in the database, for all services alike; the rules are those of a contract's file, or of the model's own
contract. What cannot be read leaves what was there, and is said.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prometheus_client import Counter

from bentos.fraud_scorer.guards.breaking import Breaker
from bentos.fraud_scorer.loaded import Guarded, LoadedModel
from fraud_assets.adapters.asked.session import AskedError, Session
from fraud_assets.adapters.guards.stored_lists import newer_rows
from fraud_assets.core.contracts.contract import Contract, ContractError, parse_contract
from fraud_assets.core.contracts.rules import RULES_VARIABLE
from fraud_assets.core.guards.lists import EntityLists
from fraud_assets.core.guards.policy import BoundRule, Policy, bind_rules

logger = logging.getLogger("bentoml.fraud_scorer")

LOOK_SECONDS = 0.5
# How long a start waits for the lists; after that it answers without, and is not ready.
FIRST_SECONDS = 3.0
# From when on an answer says how old the lists in it may be.
TOLD_FROM_SECONDS = 2.0

DECIDED = Counter("fraud_scorer_decided", "Transactions by who decided: model, a rule, a list", ["by"])


@dataclass(frozen=True)
class RulesInForce:
    """The rules that are asked, read against the contract of a model."""

    contract: Contract
    rules: tuple[BoundRule, ...]


class Guards:
    """Decides beside the model, for one process."""

    def __init__(
        self,
        url: str | None,
        model: Callable[[], LoadedModel],
        breaker: Breaker,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Reads nothing yet.

        Args:
            url: of the database with the lists; None where there is none.
            model: gives the one that is live.
            breaker: is looked at in the same thread.
            environment: may name the file of rules.
        """
        named = environment.get(RULES_VARIABLE)
        self._file = Path(named) if named else None
        self._model, self.breaker = model, breaker
        self._session = Session(url, "fraud lists", is_logged=False) if url else None
        self.lists = EntityLists()
        self._declared: Contract | None = None
        self._seen: tuple[int, int] | None = None
        self._refused = ""
        self._bound: RulesInForce | None = None
        self._lock = threading.Lock()
        self._looked = -float("inf")
        self._fails = False
        self._first, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="guards", daemon=True)

    def start(self) -> None:
        """Begins to look; returns when the first look is over, or takes too long."""
        self._look_at_rules()
        self._thread.start()
        self._first.wait(FIRST_SECONDS)

    def close(self) -> None:
        """Looks no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)
        if self._session is not None and not self._thread.is_alive():
            self._session.close()
            self.breaker.close()

    @property
    def is_ready(self) -> bool:
        """Whether the lists have been read once, where there is a database that may have some."""
        return self._session is None or self._looked > 0

    @property
    def age(self) -> float | None:
        """Seconds for which the lists could not be read, where that is worth telling."""
        if self._session is None or self._looked < 0 or (age := time.monotonic() - self._looked) < TOLD_FROM_SECONDS:
            return None
        return round(age, 1)

    @property
    def refused(self) -> str:
        """Why the rules of the file are not followed; empty where they are."""
        return self._refused

    def rules(self) -> list[dict[str, Any]]:
        """The rules that are asked."""
        return [
            {"name": one.rule.name, "version": one.rule.version, "action": one.rule.action, "when": one.rule.when,
             "since": one.rule.since}
            for one in self._rules_for(self._model().contract)
        ]  # fmt: skip

    def decide(
        self,
        model: LoadedModel,
        transactions: pa.Table,
        features: pa.Table | Sequence[Mapping[str, Any]],
        scores: npt.NDArray[np.float64],
    ) -> Guarded:
        """What is answered about transactions.

        Args:
            model: that scored them.
            transactions: columns as in `Contract.transactions_schema`.
            features: of the same, in the same order.
            scores: shape (n,).
        """
        policy = Policy(self._rules_for(model.contract), self.lists)
        said = policy.decide(scores >= model.manifest.threshold, transactions, features, datetime.now(UTC))
        decided, acting = self.breaker.decided(model, said)
        return Guarded(decided, self.age, acting)

    def _rules_for(self, contract: Contract) -> tuple[BoundRule, ...]:
        bound = self._bound
        if bound is None or bound.contract is not contract:
            bound = self._bind(contract)
        return bound.rules

    def _bind(self, contract: Contract) -> RulesInForce:
        """Reads the rules against a model's contract: those of the file, else those from before, else its own."""
        with self._lock:
            before, declared = self._bound, self._declared
            if declared is not None:
                try:
                    self._bound = RulesInForce(contract, bind_rules(declared.rules, declared.sets, contract))
                except ContractError as error:
                    self._refuse(f"{error}; the model was trained under a contract that does not have it")
                else:
                    self._refused = ""
                    return self._bound
            if before is not None and before.contract is contract:
                return before
            self._bound = RulesInForce(contract, bind_rules(contract.rules, contract.sets, contract))
            return self._bound

    def _refuse(self, why: str) -> None:
        self._refused = " ".join(why.split())
        logger.error("the rules of %s are not followed, those from before are: %s", self._file, self._refused)

    def _watch(self) -> None:
        while True:
            try:
                self._look_at_lists()
                self._look_at_rules()
                self.breaker.look()
            except Exception:
                logger.exception("lists and rules cannot be looked at")
            self._first.set()
            if self._over.wait(LOOK_SECONDS):
                return

    def _look_at_lists(self) -> None:
        if self._session is None:
            return
        began = time.monotonic()
        try:
            newer = newer_rows(self._session, self.lists.last)
        except AskedError as error:
            if not self._fails:
                logger.error("lists may be out of date: %s", error)
            self._fails = True
            return
        if self._fails:
            logger.warning("lists are current again")
        self._fails = False
        if newer.are_all:
            self.lists.begin_anew(newer.rows)
            logger.info("lists were read anew: somebody on them was erased")
        elif newer.rows:
            self.lists.take_up(newer.rows)
            # How many, and never whose.
            logger.info("changes of lists are in force: %d", len(newer.rows))
        self._looked = began

    def _look_at_rules(self) -> None:
        if self._file is None:
            return
        try:
            there = self._file.stat()
            seen = (there.st_mtime_ns, there.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            declared = parse_contract(self._file.read_text(encoding="utf-8"), str(self._file))
        except (OSError, ValueError) as error:
            said = f"it cannot be read: {error}"
            if self._refused != " ".join(said.split()):
                self._refuse(said)
            return
        self._declared = declared
        contract = self._model().contract
        self._bind(contract)
        if not self._refused:
            names = ", ".join(f"{one.tag} ({one.action})" for one in declared.rules)
            logger.warning("rules in force: %s", names or "none")
