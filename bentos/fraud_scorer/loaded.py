"""A model and everything that answers with it, loaded once and never changed: so no answer is a mixture of two models.

Which model is loaded, and when, belongs to `following.py`; answering requests to `service.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from prometheus_client import Counter, Histogram

from bentos.fraud_scorer.online import Online
from bentos.fraud_scorer.requests import RowChecker
from bentos.fraud_scorer.transactions import TransactionReader
from fraud_assets.adapters.online.history import History
from fraud_assets.core.explanations.reason_codes import Explanation, ReasonWriter
from fraud_assets.core.features.declarations import model_columns
from fraud_assets.core.guards.breaker import BreakerMode
from fraud_assets.core.guards.policy import MODEL, PASSED, Decided
from fraud_assets.core.models.scoring import SCORE_EDGES, ModelManifest, Scorer, ScoringError

FILES = ("model.onnx", "manifest.json")

# At module level, as prometheus_client knows each metric of a process once.
SCORES = Histogram(
    "fraud_scorer_score",
    "Probability of fraud, by model version",
    ["model_version"],
    buckets=SCORE_EDGES,
)
DECISIONS = Counter(
    "fraud_scorer_decisions",
    "Scored transactions, by decision and model version",
    ["decision", "model_version"],
)


@dataclass(frozen=True)
class Guarded:
    """What was decided beside the model.

    Attributes:
        decided: what is answered about transactions, and who says so.
        lists_age: seconds for which lists could not be read, where that is worth telling.
        breaker: how it acts; None while it is closed.
    """

    decided: Decided
    lists_age: float | None = None
    breaker: BreakerMode | None = None


class LoadedModel:
    """A packaged model that has answered once.

    Attributes:
        manifest: what it says about itself.
        digests: SHA-256 of its files, by name.
        since: when it was loaded.
        folder: where its files are.
        contract: of the transactions that it scores.
        online: makes features of transactions.
        probe: answers whether the service is ready; None without a database, or where the contract needs none.
    """

    def __init__(
        self,
        folder: Path,
        url: str | None,
        *,
        expected: Mapping[str, str] | None = None,
        like: LoadedModel | None = None,
    ) -> None:
        """Loads the files and scores a row.

        Args:
            folder: has the files.
            url: of the database.
            expected: the digests that the files must have.
            like: a model whose connections are used, where its contract is the same.

        Raises:
            OSError: when a file cannot be read.
            ScoringError: when the files are not those that were expected, or the model cannot score.
        """
        self.since, self.folder = datetime.now(UTC), folder
        contents = {name: (folder / name).read_bytes() for name in FILES}
        self.digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        for name, digest in (expected or {}).items():
            if self.digests.get(name) != digest:
                raise ScoringError(
                    f"{folder / name} is not the file that was promoted: its SHA-256 is "
                    f"{self.digests.get(name, 'unknown')[:12]}, the ledger says {digest[:12]}; package it anew"
                )
        self.manifest = ModelManifest.from_json(contents["manifest.json"])
        self._scorer = Scorer(contents["model.onnx"], self.manifest)
        self.reasons = ReasonWriter(self._scorer)
        self.contract = self.manifest.contract
        self.rows = RowChecker(self.manifest.features, [text.name for text in self.manifest.encoding.texts])
        self.transactions = TransactionReader(self.contract)
        if unknown := sorted(set(self.manifest.features) - set(model_columns(self.contract))):
            raise ScoringError(f"this service's sources do not make the model's features {unknown}; package it anew")
        version = str(self.manifest.model_version)
        self._scores = SCORES.labels(version)
        self._decisions = {name: DECISIONS.labels(name, version) for name in ("review", "approve", "decline")}
        self.online: Online
        self.probe: History | None = None
        if like is not None and like.contract == self.contract:
            self.online, self.probe = like.online, like.probe
        else:
            self.online = Online(self.contract, url)
            if url and self.contract.entities:
                self.probe = History(url, self.contract, name="fraud readiness")
        self.self_test()

    @property
    def scorer(self) -> Scorer:
        """The model itself."""
        return self._scorer

    def self_test(self) -> None:
        """Scores a row.

        Raises:
            ScoringError: when it gives no probability.
        """
        row = np.zeros((1, len(self.manifest.encoding.columns)), dtype=np.float32)
        probability = float(self._scorer.probabilities(row)[0])
        if not 0 <= probability <= 1:
            raise ScoringError(f"the model gives {probability} for a row of zeros; train or convert it again")

    def warm(self) -> None:
        """Computes features once: the first call loads what it needs, compiled for this machine."""
        from fraud_assets.core.features.kernel import compute_features

        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        compute_features(
            self.contract.transactions_schema().empty_table(),
            self.contract.labels_schema().empty_table(),
            self.contract,
            start=epoch,
            end=epoch + timedelta(days=1),
        )

    def answer(
        self,
        probabilities: np.ndarray[Any, np.dtype[np.float64]],
        batch: pa.Table | None,
        reasons: int = 0,
        told: list[Explanation] | None = None,
        *,
        decisions_only: bool = False,
        guarded: Guarded | None = None,
    ) -> bytes:
        """The answer to a request: model, version, threshold and decisions, all of this model.

        Args:
            probabilities: of each row.
            batch: the transactions that were scored; None where features were.
            reasons: how many were asked for.
            told: these.
            decisions_only: leave out what is no decision: probabilities, and the threshold.
            guarded: what was decided about transactions; without it the model decides.
        """
        decided = None if guarded is None else guarded.decided
        decisions: Sequence[str] = self._scorer.decide(probabilities) if decided is None else decided.decisions
        for probability, decision in zip(probabilities.tolist(), decisions, strict=True):
            self._scores.observe(probability)
            self._decisions[decision].inc()
        version = self.manifest.model_version
        results: list[dict[str, Any]] = [{"decision": decision, "model_version": version} for decision in decisions]
        if decided is not None:
            for result, by in zip(results, decided.by, strict=True):
                if by == PASSED:
                    result["passed_through"] = True
        if not decisions_only:
            # Who decided says something of what the decision was made of.
            for result, by in zip(results, decided.by if decided else [MODEL] * len(results), strict=True):
                result["decided_by"] = by
            scores = zip(probabilities.tolist(), results, strict=True)
            results = [{"probability": probability, **result} for probability, result in scores]
        if batch is not None:
            ids, moments = batch["transaction_id"].to_pylist(), batch["event_timestamp"].to_pylist()
            results = [
                {"transaction_id": key, **result, "feature_time": moment.isoformat().replace("+00:00", "Z")}
                for key, moment, result in zip(ids, moments, results, strict=True)
            ]
        if told is not None:
            results = [result | {"explanation": one.to_dict()} for result, one in zip(results, told, strict=True)]
        answer: dict[str, Any] = {"model_name": self.manifest.model_name, "model_version": version}
        if not decisions_only:
            answer["threshold"] = self.manifest.threshold
        if batch is not None and (age := self.online.age) is not None:
            answer["history_age_seconds"] = age
        if guarded is not None and guarded.lists_age is not None:
            answer["lists_age_seconds"] = guarded.lists_age
        if guarded is not None and guarded.breaker is not None:
            answer["breaker"] = guarded.breaker
        answer["results"] = results
        if reasons and told is None:
            answer["not_explained"] = self.reasons.why_not
        return json.dumps(answer).encode()
