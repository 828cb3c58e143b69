"""The service: scores of raw transactions or ready features, by the model that lies in the bento, or follows it.

BentoML mounts /healthz and /livez (the process answers), /readyz (`__is_ready__` below) and /metrics.
Who may ask belongs to `keys.py`, what is answered to GET to `pages.py`, what is refused unread to `limits.py`, waiting
to `waiting`, checking requests to `requests.py` and `transactions.py`, reading history to
`adapters/online/history.py`, deciding beside the model to `guards`, keeping what
was answered to `keeping.py`, and all science to `fraud_assets.core`.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import pyarrow as pa
from starlette.responses import Response

from bentos.fraud_scorer.asking import Asking
from bentos.fraud_scorer.challengers.answering import answered
from bentos.fraud_scorer.challengers.following import Beside, ChallengerFollower
from bentos.fraud_scorer.following import Follower, same_sources
from bentos.fraud_scorer.guards.breaking import Breaker, read_config
from bentos.fraud_scorer.guards.guarding import DECIDED, Guards
from bentos.fraud_scorer.keeping import Keeping
from bentos.fraud_scorer.keys import CALLER, Guard
from bentos.fraud_scorer.limits import RequestLimits, WithoutRefusals
from bentos.fraud_scorer.loaded import Guarded, LoadedModel
from bentos.fraud_scorer.measures import model as answering
from bentos.fraud_scorer.measures.stages import Clock, Features, Stages
from bentos.fraud_scorer.online import HistoryNotConfiguredError
from bentos.fraud_scorer.pages import Pages
from bentos.fraud_scorer.requests import (
    AnswerRequest,
    AskedAnswer,
    FeaturesRequest,
    FeedbackAnswer,
    FeedbackRequest,
    Named,
    ScoreRequest,
    ScoreResponse,
    TransactionsRequest,
    refused,
)
from bentos.fraud_scorer.transactions import Names, RequestError
from bentos.fraud_scorer.waiting.rounds import Rounds
from bentos.fraud_scorer.waiting.turns import BusyError, LateError, Turns, check_time
from fraud_assets.adapters.online.history import DATABASE_VARIABLE, HistoryError
from fraud_assets.core.explanations.reason_codes import Explanation
from fraud_assets.core.models.live import LiveModel
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.core.rollout.challengers import Role

logger = logging.getLogger("bentoml.fraud_scorer")

Scores = np.ndarray[Any, np.dtype[np.float64]]
# What becomes of scores: decided beside the model, and kept.
After = Callable[[LoadedModel, pa.Table, Any, Scores, Role], Guarded]
# Fewer rows than this are scored in the event loop: handing them to a thread takes longer than scoring them.
THREAD_FROM_ROWS = 256
EXPLAINED_AT_ONCE = 50  # rows, between two looks at the clock: with a large forest they take most of a second
# Whoever asks whether the service is ready asks again soon.
READY_SECONDS = 3.0
PAGES = Pages()
ROUNDS = Rounds()


@bentoml.service(
    # All of these can be changed at deployment: BENTOML_CONFIG and BENTOML_CONFIG_OPTIONS come after them.
    # It has no limit of requests at once: BentoML's refuses all of them in one round (`waiting/rounds.py`).
    traffic={"timeout": 30},
    # Per request they cost more than the scoring; requests are counted and timed at /metrics.
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ".*"},
)
class FraudScorer:
    """Scores transactions with the promoted model."""

    # The model that lies in the bento; another one comes only when it is named for serving (`following.py`).
    model_folder = Path(__file__).parent / "model"

    def __init__(self) -> None:
        self._url = os.environ.get(DATABASE_VARIABLE)
        # Replaced as a whole: whoever answers takes it once.
        self.model = LoadedModel(self.model_folder, self._url)
        self._transaction_turns, self._feature_turns, self._memory_turns = Turns(), Turns(), Turns()
        self._asking = Asking(self._url)
        self._follower = Follower(lambda: self.model, self._load, self._take)
        self._keeping = Keeping()
        self._stages = Stages()
        self._challengers = ChallengerFollower(lambda: self.model, self._load)
        self._keeping.more = lambda: self._challengers.now.features
        self._guards = Guards(
            self._url,
            lambda: self.model,
            Breaker(self._url, lambda: self.model, self._load_previous, read_config()),
        )
        PAGES.open(lambda: self.model, self._follower, self._asking, self._guards)

    @bentoml.on_startup  # type: ignore[untyped-decorator] # BentoML imports its names lazily
    def settle(self) -> None:
        """What only a server needs, once: a quiet log, warm libraries, and memory at rest."""
        logging.getLogger("bentoml._internal.server.http_app").addFilter(WithoutRefusals())
        # No caller shall wait for what the first call loads.
        self.model.warm()
        # A database that is down now may come up later: that is for /readyz to say.
        with contextlib.suppress(HistoryError):
            self.model.online.start(time.monotonic() + READY_SECONDS)
        # Full collections over the libraries' objects held requests up for more than 100 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        # A thread in the background may keep the interpreter for so long from answering.
        sys.setswitchinterval(0.001)
        self._follower.start()
        self._guards.start()
        self._keeping.start(self.model)
        self._challengers.start()
        self._stages.start()
        answering.answers(self.model.manifest)

    @bentoml.on_shutdown  # type: ignore[untyped-decorator] # likewise
    def close(self) -> None:
        """Begins no more requests, and closes the database connections."""
        self._follower.close()
        self._challengers.close()
        self._guards.close()
        for turns in (self._transaction_turns, self._feature_turns, self._memory_turns):
            turns.close()
        self._asking.close()
        self.model.online.close()
        if self.model.probe is not None:
            self.model.probe.close()
        self._keeping.close()
        self._stages.close()

    @bentoml.api(route="/score", output_spec=ScoreResponse)  # type: ignore[untyped-decorator] # likewise
    async def score(self, request: ScoreRequest, /) -> Response:
        """Scores features or transactions: an alias of the two below."""
        return await self._answer(request, request.transactions, request.features or [], request.names)

    @bentoml.api(route="/v1/score", output_spec=ScoreResponse)  # type: ignore[untyped-decorator] # likewise
    async def score_transactions(self, request: TransactionsRequest, /) -> Response:
        """Scores transactions, whose features are computed."""
        return await self._answer(request, request.transactions, [], request.names)

    @bentoml.api(route="/v1/score/features", output_spec=ScoreResponse)  # type: ignore[untyped-decorator] # likewise
    async def score_features(self, request: FeaturesRequest, /) -> Response:
        """Scores ready features."""
        return await self._answer(request, None, request.features, None)

    @bentoml.api(route="/v1/feedback", output_spec=FeedbackAnswer)  # type: ignore[untyped-decorator] # likewise
    async def feedback(self, request: FeedbackRequest, /) -> Response:
        """Takes labels: what became known about transactions."""
        return await self._asking.feedback(request, self.model.contract)

    @bentoml.api(route="/v1/approve", output_spec=AskedAnswer)  # type: ignore[untyped-decorator] # likewise
    async def approve(self, request: AnswerRequest, /) -> Response:
        """Asks for a version that waits to go live."""
        return await self._asking.answer("approved", request)

    @bentoml.api(route="/v1/reject", output_spec=AskedAnswer)  # type: ignore[untyped-decorator] # likewise
    async def reject(self, request: AnswerRequest, /) -> Response:
        """Asks for a version that waits not to go live."""
        return await self._asking.answer("rejected", request)

    async def _answer(
        self,
        request: TransactionsRequest | FeaturesRequest | ScoreRequest,
        transactions: list[dict[str, Any]] | None,
        features: list[dict[str, Any]],
        names: Names | None,
    ) -> Response:
        """Scores transactions, or features where they are None.

        400: the request is wrong, `detail` leads to the fields. 429: too many requests wait, and this one was not
        begun. 503: history is needed and cannot be read. 504: its time is over, and what was left was not computed.
        """
        # While the breaker is open, the champion before the live one may answer.
        model = self._guards.breaker.answering(self.model)
        reasons, hidden = request.reasons, CALLER.get().decisions_only
        strict, clock = isinstance(request, Named) and request.strict, Clock(self._stages)
        by = _By(model, self._after, self._challengers.now, clock)
        if hidden and reasons:
            return refused(403, "this key gets decisions alone; leave explain out", [])
        try:
            if transactions is not None:
                body = None if reasons or strict else _score_at_once(by, transactions, names, hidden)
                if body is None:
                    work = partial(_score_transactions, by, transactions, names, reasons, hidden, strict)
                    alone = len(transactions) == 1 and not reasons and not strict
                    turns = self._memory_turns if alone else self._transaction_turns
                    body = await turns.take(len(transactions), work, shared=alone)
            elif len(features) < THREAD_FROM_ROWS and not reasons:
                body = _score_features(model, clock, features, 0, hidden)
            else:
                work = partial(_score_features, model, clock, features, reasons, hidden)
                body = await self._feature_turns.take(len(features), work)
        except RequestError as error:
            return refused(400, error.error, error.detail)
        except ScoringError as error:
            return refused(400, str(error))
        except (HistoryError, HistoryNotConfiguredError) as error:
            return refused(503, str(error))
        except BusyError as error:
            return refused(429, str(error), retry_after=error.retry_after)
        except LateError as error:
            return refused(504, str(error))
        return Response(body, media_type="application/json")

    def _after(self, model: LoadedModel, batch: pa.Table, features: Features, scores: Scores, role: Role) -> Guarded:
        """What is answered about scores, which are kept."""
        guarded = self._guards.decide(model, batch, features, scores)
        guarded = replace(guarded, decided=self._keeping.keep(model, batch, features, scores, guarded.decided, role))
        for by in guarded.decided.by:
            DECIDED.labels(by).inc()
        return guarded

    def __is_ready__(self) -> bool:
        """Whether the model scores and, where one is configured, the database answers all that scoring asks."""
        model = self.model
        try:
            model.self_test()
            if model.probe is not None:
                model.probe.check(time.monotonic() + READY_SECONDS)
        except (HistoryError, ScoringError) as error:
            logger.error("not ready: %s", error)
            return False
        if not self._guards.is_ready:
            logger.error("not ready: lists have not been read yet")
            return False
        return True

    def _load(self, bento: Path, live: LiveModel) -> LoadedModel:
        """The model of another bento, tried beside the one that answers.

        Raises:
            ScoringError: when it cannot answer here.
        """
        source = bento / "src"
        if not same_sources(Path(__file__).parents[2], source):
            raise ScoringError(
                f"{live.bento} was packaged by another version of the platform than this service; start it again"
            )
        folder = source / self.model_folder.relative_to(Path(__file__).parents[2])
        loaded = LoadedModel(folder, self._url, expected=live.digests, like=self.model)
        if loaded.contract != self.model.contract:
            loaded.warm()
        return loaded

    def _load_previous(self) -> LoadedModel:
        """The champion before the live one.

        Raises:
            ScoringError: when there is none, or it cannot answer here.
        """
        return self._load(*self._follower.previous_of(self.model))

    def _take(self, loaded: LoadedModel) -> None:
        before, self.model = self.model, loaded
        answering.answers(loaded.manifest, before.manifest)
        if before.online is not loaded.online:
            before.online.close()


@dataclass(frozen=True)
class _By:
    """Who answers a request, taken once: the model, what becomes of its scores, the challengers, and what times it."""

    model: LoadedModel
    after: After
    beside: Beside
    clock: Clock


def _score_features(
    model: LoadedModel, clock: Clock, rows: list[dict[str, Any]], reasons: int, hidden: bool, until: float = math.inf
) -> bytes:
    check_time(until)
    clock.lap("wait")
    checked = model.rows.features(rows)
    clock.lap("read")
    scores = model.scorer.score_rows(checked)
    clock.lap("score")
    told = _told(model, checked, scores, reasons, until)
    clock.lap("explain")
    answer = model.answer(scores, None, reasons, told, decisions_only=hidden)
    clock.end("write", checked, model.manifest.features)
    return answer


def _score_at_once(by: _By, rows: list[dict[str, Any]], names: Names | None, hidden: bool) -> bytes | None:
    """The answer for one transaction of which all that is needed is in memory; None where it takes a turn."""
    batch = by.model.transactions.read_plain(rows, names)
    by.clock.lap("read")
    features = None if batch is None else by.model.online.at_once(batch)
    if batch is None or features is None:
        by.clock.again()
        return None
    by.clock.lap("features")
    body = answered(by.model, by.beside, batch, [features], partial(_answer_of, by, 0, hidden, math.inf))
    by.clock.end("write", [features], by.model.manifest.features)
    return body


def _score_transactions(
    by: _By,
    rows: list[dict[str, Any]],
    names: Names | None,
    reasons: int,
    hidden: bool,
    strict: bool,
    until: float,
) -> bytes:
    by.clock.lap("wait")
    batch = by.model.transactions.read(rows, names)
    check_time(until)
    by.clock.lap("read")
    features = by.model.online.features(batch, until, strict=strict)
    check_time(until)
    by.clock.lap("features")
    body = answered(by.model, by.beside, batch, features, partial(_answer_of, by, reasons, hidden, until))
    by.clock.end("write", features, by.model.manifest.features)
    return body


# What is bound comes first; of the rest, each is what `answering.Answer` gives.
def _answer_of(
    by: _By,
    reasons: int,
    hidden: bool,
    until: float,
    model: LoadedModel,
    batch: pa.Table,
    features: Features,
    role: Role,
) -> bytes:
    """The answer of one model about transactions, which is kept."""
    is_table = isinstance(features, pa.Table)
    scores = model.scorer.score(features) if is_table else model.scorer.score_rows(features)
    by.clock.lap("score")
    told = None
    if reasons:
        rows = features.to_pylist() if isinstance(features, pa.Table) else features
        told = _told(model, rows, scores, reasons, until)
        by.clock.lap("explain")
    guarded = by.after(model, batch, features, scores, role)
    by.clock.lap("keep")
    return model.answer(scores, batch, reasons, told, decisions_only=hidden, guarded=guarded)


def _told(
    model: LoadedModel,
    rows: Sequence[Mapping[str, Any]],
    scores: np.ndarray[Any, np.dtype[np.float64]],
    most: int,
    until: float,
) -> list[Explanation] | None:
    """The reasons of scores; None where none are asked for, or the model has none."""
    if not most or not model.reasons.is_able:
        return None
    told: list[Explanation] = []
    for first in range(0, len(rows), EXPLAINED_AT_ONCE):
        check_time(until)
        some = slice(first, first + EXPLAINED_AT_ONCE)
        told += model.reasons.of_rows(rows[some], scores[some], most)
    return told


# BentoML's decorator makes the class a Service, which type checkers do not see. The first is asked first.
FraudScorer.add_asgi_middleware(Guard, rounds=ROUNDS)  # type: ignore[attr-defined]
FraudScorer.add_asgi_middleware(RequestLimits, rounds=ROUNDS)  # type: ignore[attr-defined]
FraudScorer.mount_asgi_app(PAGES.app)  # type: ignore[attr-defined]
