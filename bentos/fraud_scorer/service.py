"""The service: POST /score with features or with raw transactions, by the model that lies in the bento.

BentoML mounts /healthz and /livez (the process answers), /readyz (`__is_ready__` below) and /metrics.
What is refused unread belongs to `limits.py`, waiting to `turns.py`, checking requests to `requests.py` and
`transactions.py`, reading history to `adapters/postgres/history.py`, and all science to `fraud_assets.core`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pyarrow as pa
from prometheus_client import Counter, Histogram
from starlette.responses import Response

from bentos.fraud_scorer.limits import RequestLimits, WithoutRefusals
from bentos.fraud_scorer.requests import RowChecker, ScoreRequest, ScoreResponse
from bentos.fraud_scorer.transactions import Names, RequestError, TransactionReader
from bentos.fraud_scorer.turns import BusyError, LateError, Turns, check_time
from fraud_assets.adapters.postgres.history import DATABASE_VARIABLE, History, HistoryError, features_with_history
from fraud_assets.core.explanations.reason_codes import Explanation, ReasonWriter
from fraud_assets.core.features.declarations import model_columns
from fraud_assets.core.features.kernel import compute_features
from fraud_assets.core.models.scoring import ModelManifest, Scorer, ScoringError

logger = logging.getLogger("bentoml.fraud_scorer")

# At module level, as prometheus_client knows each metric of a process once.
SCORES = Histogram(
    "fraud_scorer_score",
    "Probability of fraud, by model version",
    ["model_version"],
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
DECISIONS = Counter(
    "fraud_scorer_decisions",
    "Scored transactions, by decision and model version",
    ["decision", "model_version"],
)

# Fewer rows than this are scored in the event loop: handing them to a thread takes longer than scoring them.
THREAD_FROM_ROWS = 256
EXPLAINED_AT_ONCE = 50  # rows, between two looks at the clock: with a large forest they take most of a second
# Whoever asks whether the service is ready asks again soon.
READY_SECONDS = 3.0


class HistoryNotConfiguredError(RuntimeError):
    """Raw transactions were sent, and no database is configured to read their history from."""


@bentoml.service(
    # All of these can be changed at deployment: BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS come after them.
    traffic={"timeout": 30, "max_concurrency": 256},
    # Per request they cost more than the scoring; requests are counted and timed at /metrics.
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class FraudScorer:
    """Scores transactions with the promoted model."""

    # The pin: the bento carries its one model, and no other version can come in its place.
    model_folder = Path(__file__).parent / "model"

    def __init__(self) -> None:
        self.manifest = ModelManifest.from_json((self.model_folder / "manifest.json").read_bytes())
        self.scorer = Scorer((self.model_folder / "model.onnx").read_bytes(), self.manifest)
        self.reasons = ReasonWriter(self.scorer)
        self.contract = self.manifest.contract
        self.rows = RowChecker(self.manifest.features, [text.name for text in self.manifest.encoding.texts])
        self.transactions = TransactionReader(self.contract)
        if unknown := sorted(set(self.manifest.features) - set(model_columns(self.contract))):
            raise ScoringError(f"this bento's sources do not make the model's features {unknown}; package it anew")
        url = os.environ.get(DATABASE_VARIABLE)
        self.history = History(url, self.contract, name="fraud scorer") if url and self.contract.entities else None
        # A connection of its own, as the other one is in use for as long as a request is computed.
        self._probe = History(url, self.contract, name="fraud readiness") if url and self.contract.entities else None
        self._transaction_turns, self._feature_turns = Turns(), Turns()
        self._version = str(self.manifest.model_version)
        self._scores = SCORES.labels(self._version)
        self._decisions = {name: DECISIONS.labels(name, self._version) for name in ("review", "approve")}
        self._self_test()

    @bentoml.on_startup  # type: ignore[untyped-decorator] # BentoML imports its names lazily
    def settle(self) -> None:
        """What only a server needs, once: a quiet log, warm libraries, and memory at rest."""
        logging.getLogger("bentoml._internal.server.http_app").addFilter(WithoutRefusals())
        # The first call loads what it needs, compiled for this machine: no caller shall wait for that.
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        compute_features(
            self.contract.transactions_schema().empty_table(),
            self.contract.labels_schema().empty_table(),
            self.contract,
            start=epoch,
            end=epoch + timedelta(days=1),
        )
        if self.history is not None:
            # A database that is down now may come up later: that is for /readyz to say.
            with contextlib.suppress(HistoryError):
                self.history.check(time.monotonic() + READY_SECONDS)
        # Full collections over the libraries' objects held requests up for more than 100 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # likewise
    def close(self) -> None:
        """Begins no more requests, and closes the database connections."""
        for turns in (self._transaction_turns, self._feature_turns):
            turns.close()
        for history in (self.history, self._probe):
            if history is not None:
                history.close()

    @bentoml.api(route="/score", output_spec=ScoreResponse)  # type: ignore[untyped-decorator] # likewise
    async def score(self, request: ScoreRequest, /) -> Response:
        """Scores up to 10,000 rows of `features`, or `transactions` whose features are then computed.

        With `explain`, each result says which features moved its score most.

        400: the request is wrong, `detail` leads to the fields. 503: history is needed and cannot be read, or too many
        requests wait, and this one was not begun. 504: its time is over, and what was left was not computed.
        """
        try:
            reasons = request.reasons
            if (transactions := request.transactions) is not None:
                work = partial(self._score_transactions, transactions, request.names, reasons)
                body = await self._transaction_turns.take(len(transactions), work)
            elif len(rows := request.features or []) < THREAD_FROM_ROWS and not reasons:
                body = self._score_features(rows)
            else:
                body = await self._feature_turns.take(len(rows), partial(self._score_features, rows, reasons))
        except RequestError as error:
            return _refused(400, error.error, error.detail)
        except ScoringError as error:
            return _refused(400, str(error))
        except (HistoryError, HistoryNotConfiguredError) as error:
            return _refused(503, str(error))
        except BusyError as error:
            return _refused(503, str(error), retry_after=error.retry_after)
        except LateError as error:
            return _refused(504, str(error))
        return Response(body, media_type="application/json")

    def __is_ready__(self) -> bool:
        """Whether the model scores and, where one is configured, the database answers all that scoring asks."""
        try:
            self._self_test()
            if self._probe is not None:
                self._probe.check(time.monotonic() + READY_SECONDS)
        except (HistoryError, ScoringError) as error:
            logger.error("not ready: %s", error)
            return False
        return True

    def _self_test(self) -> None:
        row = np.zeros((1, len(self.manifest.encoding.columns)), dtype=np.float32)
        probability = float(self.scorer.probabilities(row)[0])
        if not 0 <= probability <= 1:
            raise ScoringError(f"the model gives {probability} for a row of zeros; train or convert it again")

    def _score_features(self, rows: list[dict[str, Any]], reasons: int = 0, until: float = math.inf) -> bytes:
        check_time(until)
        checked = self.rows.features(rows)
        scores = self.scorer.score_rows(checked)
        return self._answer(scores, None, reasons, self._told(checked, scores, reasons, until))

    def _score_transactions(self, rows: list[dict[str, Any]], names: Names | None, reasons: int, until: float) -> bytes:
        batch = self.transactions.read(rows, names)
        check_time(until)
        features = self._features(batch, until)
        check_time(until)
        scores = self.scorer.score(features)
        told = self._told(features.to_pylist(), scores, reasons, until) if reasons else None
        return self._answer(scores, batch["transaction_id"].to_pylist(), reasons, told)

    def _told(
        self, rows: Sequence[Mapping[str, Any]], scores: np.ndarray[Any, np.dtype[np.float64]], most: int, until: float
    ) -> list[Explanation] | None:
        """The reasons of scores; None where none are asked for, or the model has none."""
        if not most or not self.reasons.is_able:
            return None
        told: list[Explanation] = []
        for first in range(0, len(rows), EXPLAINED_AT_ONCE):
            check_time(until)
            some = slice(first, first + EXPLAINED_AT_ONCE)
            told += self.reasons.of_rows(rows[some], scores[some], most)
        return told

    def _features(self, batch: pa.Table, until: float) -> pa.Table:
        """The batch's features in the batch's order, from its own rows and the stored history."""
        if self.contract.entities and self.history is None:
            raise HistoryNotConfiguredError(
                f"features of transactions need history, and {DATABASE_VARIABLE} is not set for this "
                "service; set it, or send features"
            )
        return features_with_history(batch, self.contract, self.history, until)

    def _answer(
        self,
        probabilities: np.ndarray[Any, np.dtype[np.float64]],
        ids: list[Any] | None,
        reasons: int = 0,
        told: list[Explanation] | None = None,
    ) -> bytes:
        decisions = self.scorer.decide(probabilities)
        for probability, decision in zip(probabilities.tolist(), decisions, strict=True):
            self._scores.observe(probability)
            self._decisions[decision].inc()
        version = self.manifest.model_version
        results = [
            {"probability": probability, "decision": decision, "model_version": version}
            for probability, decision in zip(probabilities.tolist(), decisions, strict=True)
        ]
        if ids is not None:
            results = [{"transaction_id": key, **result} for key, result in zip(ids, results, strict=True)]
        if told is not None:
            results = [result | {"explanation": one.to_dict()} for result, one in zip(results, told, strict=True)]
        answer = {
            "model_name": self.manifest.model_name,
            "model_version": version,
            "threshold": self.manifest.threshold,
            "results": results,
        }
        if reasons and told is None:
            answer["not_explained"] = self.reasons.why_not
        return json.dumps(answer).encode()


def _refused(
    status: int, error: str, detail: list[dict[str, Any]] | None = None, *, retry_after: int | None = None
) -> Response:
    # In ASCII, because a caller's own text may be in it, and be none that UTF-8 has.
    body = json.dumps({"error": error, "detail": detail or []})
    headers = None if retry_after is None else {"Retry-After": str(retry_after)}
    return Response(body, status, headers, media_type="application/json")


# BentoML's decorator makes the class a Service, which type checkers do not see.
FraudScorer.add_asgi_middleware(RequestLimits)  # type: ignore[attr-defined]
