"""What is answered to GET: which model answers, and the description by which the page `/` lets requests be tried.

BentoML's own routes take POST alone, and its description knows no contract; these come before them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bentos.fraud_scorer.asking import Asking
from bentos.fraud_scorer.description import describe
from bentos.fraud_scorer.following import Follower
from bentos.fraud_scorer.keys import CALLER
from bentos.fraud_scorer.loaded import LoadedModel
from bentos.fraud_scorer.requests import Ledger, LiveAnswer, refused
from bentos.fraud_scorer.transactions import INT64_MAX

STARTING = refused(503, "the service is starting")


class Pages:
    """The pages of one service; it opens them when it is there."""

    def __init__(self) -> None:
        self.app = Starlette(
            routes=[
                Route("/v1/model", self._model),
                Route("/v1/answers/{number:int}", self._answer),
                Route("/docs.json", self._description),
            ]
        )
        self._answering: Callable[[], LoadedModel] | None = None
        self._follower: Follower | None = None
        self._asking: Asking | None = None
        self._described: tuple[LoadedModel, Response] | None = None

    def open(self, model: Callable[[], LoadedModel], follower: Follower, asking: Asking) -> None:
        """Answers from now on.

        Args:
            model: gives the one that answers.
            follower: knows what was named for serving.
            asking: knows what was asked of the database.
        """
        self._answering, self._follower, self._asking = model, follower, asking

    async def _model(self, _: Request) -> Response:
        if self._answering is None or self._follower is None:
            return STARTING
        answer = told_of(self._answering(), self._follower)
        if CALLER.get().decisions_only:
            answer.threshold = None
        return Response(answer.model_dump_json(exclude_none=False), media_type="application/json")

    async def _answer(self, request: Request) -> Response:
        if self._asking is None:
            return STARTING
        number = int(request.path_params["number"])
        return await self._asking.asked(number) if number <= INT64_MAX else refused(404, f"there is no answer {number}")

    async def _description(self, _: Request) -> Response:
        if self._answering is None:
            return STARTING
        model = self._answering()
        if self._described is None or self._described[0] is not model:
            # In a thread: the example's features are computed.
            self._described = model, JSONResponse(await anyio.to_thread.run_sync(describe, model))
        return self._described[1]


def told_of(model: LoadedModel, follower: Follower) -> LiveAnswer:
    """What is known of the model that answers."""
    live, manifest = follower.live_of(model), model.manifest
    ledger = None
    if live is not None:
        ledger = Ledger(
            since=datetime.fromisoformat(live.since) if live.since else None,
            entry=live.entry or None,
            last_row=live.row,
            last_hash=live.hash,
            bento=live.bento,
        )
    return LiveAnswer(
        model_name=manifest.model_name,
        model_version=manifest.model_version,
        family=manifest.family,
        trained_month=manifest.trained_month,
        labels_as_of=datetime.fromisoformat(manifest.as_of),
        threshold=manifest.threshold,
        answers_since=model.since,
        ledger=ledger,
        digests=model.digests,
        refused=follower.refused or None,
    )
