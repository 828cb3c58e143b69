"""What becomes of an answer's scores: which are let through, and that each is kept.

What is configured comes from the environment, as `fraud serve` sets it. Without a folder, nothing is kept and nothing
let through: what is let through has to be known afterwards.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from prometheus_client import Counter, Gauge

from bentos.fraud_scorer.loaded import LoadedModel
from fraud_assets.adapters.online.history import DATABASE_VARIABLE
from fraud_assets.adapters.people.key import KEY_VARIABLE
from fraud_assets.adapters.scores.keeper import Keeper
from fraud_assets.adapters.scores.sink import Sink
from fraud_assets.adapters.scores.spool import Spool
from fraud_assets.adapters.scores.state import KeptState
from fraud_assets.core.contracts.personal import personal_columns
from fraud_assets.core.guards.policy import Decided
from fraud_assets.core.models.kept_scores import Scored
from fraud_assets.core.models.pass_through import PassThrough
from fraud_assets.core.rollout.challengers import Role

logger = logging.getLogger("bentoml.fraud_scorer")

FOLDER_VARIABLE = "FRAUD_SCORES_FOLDER"
LIMIT_VARIABLE = "FRAUD_SCORES_SPOOL_MB"
SHARE_VARIABLE = "FRAUD_PASS_THROUGH"
AMOUNT_VARIABLE = "FRAUD_PASS_THROUGH_AMOUNT"
SEED_VARIABLE = "FRAUD_PASS_THROUGH_SEED"
USUAL_LIMIT = "1024"

# At module level, as prometheus_client knows each metric of a process once.
KEPT = Counter("fraud_scorer_kept", "Scores by what became of them: stored, known, refused, damaged, lost", ["outcome"])
OUTCOMES = ("stored", "known", "refused", "damaged", "lost")
for outcome in OUTCOMES:
    # From the start, so that the first that is lost is a rise.
    KEPT.labels(outcome)
PASSED = Counter("fraud_scorer_passed_through", "Transactions that were let through although they would be held")
WAITING = Gauge("fraud_scorer_kept_waiting", "Scores that the database does not have yet", multiprocess_mode="livesum")
SPOOL = Gauge("fraud_scorer_spool_bytes", "Bytes of them on disk", multiprocess_mode="livesum")


class Keeping:
    """Keeps the scores of one process."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Reads what is configured; opens nothing yet.

        Raises:
            ValueError: for a value that cannot be, by its variable.
        """
        self._folder, self._url = environment.get(FOLDER_VARIABLE), environment.get(DATABASE_VARIABLE)
        key = environment.get(KEY_VARIABLE)
        self._erasure_key = Path(key) if key else None
        self._limit = _number(environment, LIMIT_VARIABLE, USUAL_LIMIT)
        self._most = _number(environment, AMOUNT_VARIABLE, "0") if environment.get(AMOUNT_VARIABLE) else None
        seed = environment.get(SEED_VARIABLE, "").encode()
        self._rule = PassThrough(_number(environment, SHARE_VARIABLE, "0"), self._most, seed)
        self._keeper: Keeper | None = None
        # Of features that are kept beside the model's own, because a challenger takes them.
        self.more: Callable[[], tuple[str, ...]] = tuple
        self._seen = KeptState()

    def start(self, model: LoadedModel) -> None:
        """Begins to keep, where it is configured.

        Raises:
            ValueError: when transactions with amounts are to be let through, and nobody said up to which.
        """
        if self._rule.share and model.contract.amount and self._most is None:
            raise ValueError(f"{SHARE_VARIABLE} needs {AMOUNT_VARIABLE}: say up to which amount is let through")
        if not (self._folder and self._url):
            logger.warning("scores are not kept: set %s and %s", FOLDER_VARIABLE, DATABASE_VARIABLE)
            return
        try:
            spool = Spool(Path(self._folder), int(self._limit * 2**20))
            sink = Sink(self._url, self._erasure_key, personal_columns(model.contract))
            self._keeper = Keeper(spool, sink, self._watch)
        except OSError as error:
            logger.error("scores are not kept, and none is let through: %s", error)
            return
        self._keeper.start()

    def close(self) -> None:
        """Brings what it has to the database, or leaves it on disk."""
        if self._keeper is not None:
            self._keeper.close()

    def keep(
        self,
        model: LoadedModel,
        transactions: pa.Table,
        features: pa.Table | Sequence[Mapping[str, Any]],
        scores: npt.NDArray[np.float64],
        decided: Decided,
        role: Role = "champion",
    ) -> Decided:
        """Takes an answer's scores, without waiting for anything.

        Args:
            model: that scored.
            transactions: columns as in `Contract.transactions_schema`.
            features: of the same, in the same order.
            scores: shape (n,).
            decided: what model, rules and lists say.
            role: of the model.

        Returns:
            What is answered: the same, but for what is let through at random although the model would hold it.
        """
        if self._keeper is None:
            return decided
        try:
            return self._kept(self._keeper, model, transactions, features, scores, decided, role)
        except Exception:
            # An answer is worth more than its record.
            logger.exception("scores cannot be kept")
            return decided

    def _kept(
        self,
        keeper: Keeper,
        model: LoadedModel,
        transactions: pa.Table,
        features: pa.Table | Sequence[Mapping[str, Any]],
        scores: npt.NDArray[np.float64],
        decided: Decided,
        role: Role,
    ) -> Decided:
        manifest, reasons = model.manifest, model.reasons.explained
        held = scores >= manifest.threshold
        amounts = None
        if model.contract.amount:
            amounts = transactions["amount"].to_numpy().astype(np.float64)
        # What a list or a rule holds is never let through.
        chance = self._rule.probabilities(held & decided.by_model, amounts)
        through = self._rule.lets_through(transactions["transaction_id"].to_pylist() if chance.any() else [], chance)
        answered = decided.with_let_through(through)
        scored = Scored(
            model.contract, manifest.model_version, manifest.threshold, manifest.features,
            None if reasons is None else reasons.raw, transactions, features, scores, held, through, chance,
            datetime.now(UTC), answered.decisions, answered.by, self.more(), role,
        )  # fmt: skip
        if not keeper.keep(scored):
            return decided
        PASSED.inc(int(through.sum()))
        return answered

    def _watch(self, state: KeptState, size: int) -> None:
        WAITING.set(state.waiting)
        SPOOL.set(size)
        for outcome in OUTCOMES:
            name = "n_lost" if outcome == "lost" else outcome
            KEPT.labels(outcome).inc(getattr(state, name) - getattr(self._seen, name))
        self._seen = state


def _number(environment: Mapping[str, str], variable: str, usual: str) -> float:
    text = environment.get(variable) or usual
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{variable} is {text!r}, which is no number") from error
