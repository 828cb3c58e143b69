"""What is answered to GET: which model answers, and the OpenAPI document by which the page `/` lets requests be tried.

BentoML's own routes take POST alone, and its description says "object" of a row; these come before them. The document
has the columns of the contract that the model has, and examples that score. What is asked and answered belongs to
`requests.py`, the examples to `examples.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import anyio.to_thread
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bentos.fraud_scorer.asking import Asking
from bentos.fraud_scorer.examples import example_features, example_transaction
from bentos.fraud_scorer.following import Follower
from bentos.fraud_scorer.guards.guarding import Guards
from bentos.fraud_scorer.keys import CALLER
from bentos.fraud_scorer.loaded import LoadedModel
from bentos.fraud_scorer.requests import (
    FLOAT32_MAX,
    AnswerRequest,
    AskedAnswer,
    AskedRule,
    BreakerState,
    FeaturesRequest,
    FeedbackAnswer,
    FeedbackRequest,
    Ledger,
    LiveAnswer,
    Refusal,
    ScoreRequest,
    ScoreResponse,
    TransactionsRequest,
    refused,
)
from bentos.fraud_scorer.transactions import FIRST_INSTANT, INT64_MAX, LAST_INSTANT, LONGEST_TEXT, YEARS
from fraud_assets.core.contracts.contract import Column, Contract
from fraud_assets.core.features.declarations import feature_descriptions

STARTING = refused(503, "the service is starting")
REF = "#/components/schemas/{model}"
ANSWERS = {
    "400": "The request is wrong; `detail` leads to the fields.",
    "401": "There are API keys, and none that is known was sent.",
    "403": "The key has not the role for this.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not plain `application/json`.",
    "429": "Too much is being answered already; `Retry-After` says when to send it again.",
    "503": "History is needed, and cannot be read.",
    "504": "It took too long, and what was left was not computed.",
}
# Blanks alone are no value.
WITH_VALUE = r"^[^\x00]*[^\s\x00-\x1f][^\x00]*$"
CONFLICT = {"409": "The version does not wait, or is answered otherwise already."}
TYPES: dict[str, dict[str, Any]] = {
    "integer": {"type": "integer", "format": "int64", "minimum": -INT64_MAX - 1, "maximum": INT64_MAX},
    "number": {"type": "number", "minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX},
    "string": {"type": "string", "maxLength": LONGEST_TEXT, "pattern": r"^[^\x00]*$"},
    "date": {"type": "string", "format": "date"},
    "boolean": {"type": "boolean"},
}
HEALTH = {
    "/healthz": "Whether the process answers.",
    "/livez": "Whether the process answers.",
    "/readyz": "Whether the model scores and, where a database is set, history can be read.",
    "/metrics": "Metrics for Prometheus.",
}


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
        self._guards: Guards | None = None
        self._described: tuple[LoadedModel, Response] | None = None

    def open(self, model: Callable[[], LoadedModel], follower: Follower, asking: Asking, guards: Guards) -> None:
        """Answers from now on.

        Args:
            model: gives the one that answers.
            follower: knows what was named for serving.
            asking: knows what was asked of the database.
            guards: decide beside the model.
        """
        self._answering, self._follower, self._asking, self._guards = model, follower, asking, guards

    async def _model(self, _: Request) -> Response:
        if self._answering is None or self._follower is None:
            return STARTING
        answer = told_of(self._answering(), self._follower)
        if self._guards is not None:
            answer.breaker = BreakerState(**self._guards.breaker.told())
        if CALLER.get().decisions_only:
            answer.threshold = None
        elif self._guards is not None:
            answer.rules = [AskedRule(**one) for one in self._guards.rules()]
            answer.rules_refused = self._guards.refused or None
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


def describe(model: LoadedModel) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a service that answers with a model."""
    contract, manifest = model.contract, model.manifest
    transaction = example_transaction(contract, datetime.fromisoformat(manifest.as_of))
    asked: dict[str, Any] = {"features": {"features": [example_features(model, transaction)]}}
    if transaction is not None:
        asked["transactions"] = {"transactions": [transaction], "explain": True}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Fraud scores of {contract.name}",
            "version": f"model version {manifest.model_version}",
            "description": contract.description,
        },
        "servers": [{"url": "."}],
        "paths": {
            "/v1/score": {"post": _operation(TransactionsRequest, ScoreResponse, SCORE, asked.get("transactions"))},
            "/v1/score/features": {"post": _operation(FeaturesRequest, ScoreResponse, FEATURES, asked["features"])},
            "/v1/feedback": {
                "post": _operation(FeedbackRequest, FeedbackAnswer, FEEDBACK, _label_example(transaction))
            },
            "/v1/approve": {"post": _operation(AnswerRequest, AskedAnswer, APPROVE, ANSWER_EXAMPLE)},
            "/v1/reject": {"post": _operation(AnswerRequest, AskedAnswer, REJECT, ANSWER_EXAMPLE)},
            "/v1/answers/{number}": {"get": _operation(None, AskedAnswer, ANSWERED) | {"parameters": [NUMBER]}},
            "/v1/model": {"get": _operation(None, LiveAnswer, MODEL)},
            "/score": {"post": _operation(ScoreRequest, ScoreResponse, ALIAS, next(iter(reversed(asked.values()))))},
            **{path: {"get": _health(path, what)} for path, what in HEALTH.items()},
        },
        "components": {
            "schemas": _schemas(model),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": KEY}},
        },
        # Nothing, where there are no keys, or one.
        "security": [{}, {"key": []}],
    }


KEY = "A key of `fraud keys add`; a service that has none answers its own machine without."
SCORE = ("score", "Scores transactions", "The service computes their features, from what is stored before each.")
FEATURES = ("score", "Scores ready features", "For callers that have computed them; no history is read.")
FEEDBACK = (
    "labels",
    "Takes labels",
    "Chargebacks, what analysts found, and what is taken back. They are known from now on, by the database's clock. A "
    "label that is sent again is stored once; of a request with a label that cannot be used, none is.",
)
CARRIED_OUT = "Answered with 202: the daemon carries it out as `fraud approve` does, and `see` says what came of it."
APPROVE = ("approval", "Asks for a version that waits to go live", CARRIED_OUT)
REJECT = ("approval", "Asks for a version that waits not to go live", CARRIED_OUT)
ANSWERED = ("approval", "What came of an answer", "Whether it waits, was carried out or was refused, and why.")
ANSWER_EXAMPLE = {"version": 2, "reason": "Seen with the fraud team."}
NUMBER = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
MODEL = ("model", "The model that answers", "Which one, since when, and what the ledger says of it.")
ALIAS = ("score", "Scores transactions or features", "An alias of both, from before version 1 of this interface.")


def _label_example(transaction: dict[str, Any] | None) -> dict[str, Any]:
    identifier = "example" if transaction is None else transaction["transaction_id"]
    return {"labels": [{"transaction_id": identifier, "is_fraud": "withdrawn", "label_source": "analyst"}]}


def _operation(
    takes: type[BaseModel] | None, gives: type[BaseModel], about: tuple[str, str, str], example: Any = None
) -> dict[str, Any]:
    tag, summary, description = about
    statuses = ANSWERS if takes else {status: ANSWERS[status] for status in ("401", "403", "503")}
    if tag == "approval":
        statuses = statuses | {"404": "There is none of this number."} if takes is None else statuses | CONFLICT
    operation: dict[str, Any] = {
        "tags": [tag],
        "summary": summary,
        "description": description,
        "responses": {
            ("202" if takes is AnswerRequest else "200"): {"description": "The answer.", "content": _content(gives)},
            **{status: {"description": what, "content": _content(Refusal)} for status, what in statuses.items()},
        },
    }
    if takes is not None:
        body = _content(takes)
        if example is not None:
            body["application/json"]["example"] = example
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}


def _health(path: str, what: str) -> dict[str, Any]:
    answers = {"200": {"description": what}}
    if path == "/readyz":
        answers["503"] = {"description": "Not ready."}
    return {"tags": ["health"], "summary": what, "responses": answers}


def _schemas(model: LoadedModel) -> dict[str, Any]:
    kinds = (TransactionsRequest, FeaturesRequest, ScoreRequest, FeedbackRequest, AnswerRequest)
    _, asked = models_json_schema([(kind, "validation") for kind in kinds], ref_template=REF)
    answers = (ScoreResponse, FeedbackAnswer, AskedAnswer, LiveAnswer, Refusal)
    _, given = models_json_schema([(kind, "serialization") for kind in answers], ref_template=REF)
    schemas: dict[str, Any] = {**asked["$defs"], **given["$defs"]}
    schemas["Transaction"] = transaction_schema(model.contract)
    items: dict[str, Any] = {"$ref": REF.format(model="Transaction")}
    own = source_schema(model.contract)
    if set(own["properties"]) != set(schemas["Transaction"]["properties"]):
        schemas["SourceTransaction"] = own
        items = {"anyOf": [items, {"$ref": REF.format(model="SourceTransaction")}]}
    schemas["Features"] = features_schema(model)
    for kind in kinds:
        properties = schemas[kind.__name__]["properties"]
        for name, rows in (("transactions", items), ("features", {"$ref": REF.format(model="Features")})):
            if name in properties:
                # Of `/score` they may be null.
                listed = next((one for one in properties[name].get("anyOf", ()) if "items" in one), properties[name])
                listed["items"] = rows
    return schemas


def transaction_schema(contract: Contract) -> dict[str, Any]:
    """JSON Schema of a transaction under the platform's names."""
    declared = contract.transaction_id or Column(column="transaction_id")
    properties: dict[str, Any] = {
        "transaction_id": _column(declared, "Names the transaction"),
        "event_timestamp": {
            "type": "string",
            "format": "date-time",
            "pattern": YEARS,
            "description": (
                f"When it happened, in ISO 8601 with an offset or Z, {FIRST_INSTANT.year} to {LAST_INSTANT.year - 1}."
            ),
        },
    }
    properties |= {
        name: _column(column, name.replace("_", " ").capitalize()) for name, column in contract.columns.items()
    }
    return {
        "type": "object",
        "title": "Transaction",
        "description": f"A transaction of contract {contract.name}, under the platform's names, with values as stored.",
        "properties": properties,
        "required": ["transaction_id", "event_timestamp"]
        + [name for name, column in contract.columns.items() if not column.nullable],
        "additionalProperties": False,
    }


def source_schema(contract: Contract) -> dict[str, Any]:
    """JSON Schema of a transaction under the source's own names, with values as its files have them."""
    of = {column.column: f"`{name}`: {column.in_words(name)}" for name, column in contract.columns.items()}
    of |= dict.fromkeys(
        contract.event_timestamp.columns, "`event_timestamp`: when it happened, as in the source's files."
    )
    identifier = contract.transaction_id
    of[identifier.column if identifier else "transaction_id"] = "`transaction_id`: names the transaction."
    optional = {column.column for column in contract.columns.values() if column.nullable}
    optional |= set() if identifier else {"transaction_id"}
    return {
        "type": "object",
        "title": "SourceTransaction",
        "description": f"The same under the source's own names, as its files have it. Contract {contract.name}.",
        "properties": {
            name: {"type": ["string", "number", "boolean", "null"], "maxLength": LONGEST_TEXT, "description": what}
            for name, what in of.items()
        },
        "required": [name for name in of if name not in optional],
    }


def features_schema(model: LoadedModel) -> dict[str, Any]:
    """JSON Schema of the features of a transaction that a model takes."""
    texts = {text.name for text in model.manifest.encoding.texts}
    meanings = feature_descriptions(model.contract)
    return {
        "type": "object",
        "title": "Features",
        "description": "All features of the model by name, null where one is not known.",
        "properties": {
            name: {
                **(kind := TYPES["string" if name in texts else "number"]),
                "type": [kind["type"], "null"],
                **({"description": meanings[name]} if name in meanings else {}),
            }
            for name in model.manifest.features
        },
        "required": list(model.manifest.features),
        "additionalProperties": False,
    }


def _column(column: Column, what: str) -> dict[str, Any]:
    said: dict[str, Any] = dict(TYPES[column.type])
    if column.minimum is not None:
        said["minimum"] = column.minimum
    if column.maximum is not None:
        said["maximum"] = column.maximum
    if column.categories is not None and column.type == "string":
        said["enum"] = [*column.categories, *([None] if column.nullable else [])]
    if column.nullable:
        said["type"] = [said["type"], "null"]
    elif "pattern" in said:
        said["pattern"] = WITH_VALUE
    return said | {"description": column.in_words(what)}
