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

from bentos.fraud_scorer.description import describe
from bentos.fraud_scorer.following import Follower
from bentos.fraud_scorer.keys import CALLER
from bentos.fraud_scorer.loaded import LoadedModel
from bentos.fraud_scorer.requests import Ledger, LiveAnswer


class Pages:
    """The pages of one service; it opens them when it is there."""

    def __init__(self) -> None:
        self.app = Starlette(routes=[Route("/v1/model", self._model), Route("/docs.json", self._description)])
        self._answering: Callable[[], LoadedModel] | None = None
        self._follower: Follower | None = None
        self._described: tuple[LoadedModel, Response] | None = None

    def open(self, model: Callable[[], LoadedModel], follower: Follower) -> None:
        """Answers from now on.

        Args:
            model: gives the one that answers.
            follower: knows what was named for serving.
        """
        self._answering, self._follower = model, follower

    async def _model(self, _: Request) -> Response:
        if self._answering is None or self._follower is None:
            return JSONResponse({"error": "the service is starting", "detail": []}, 503)
        answer = told_of(self._answering(), self._follower)
        if CALLER.get().decisions_only:
            answer.threshold = None
        return Response(answer.model_dump_json(exclude_none=False), media_type="application/json")

    async def _description(self, _: Request) -> Response:
        if self._answering is None:
            return JSONResponse({"error": "the service is starting", "detail": []}, 503)
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
