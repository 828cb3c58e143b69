"""Answers where some entities meet a challenger: each transaction by its own model, put together in their order.

Who meets whom belongs to `core/rollout/challengers.py`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
from prometheus_client import Counter

from bentos.fraud_scorer.challengers.following import Beside
from bentos.fraud_scorer.loaded import LoadedModel
from fraud_assets.core.models.scoring import ScoringError
from fraud_assets.core.rollout.challengers import Role, answered_column

logger = logging.getLogger("bentoml.fraud_scorer")

Features: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]
Answer: TypeAlias = Callable[[LoadedModel, pa.Table, Features, Role], bytes]
"""Gives the answer of one model about transactions and their features."""

# Between two lines of the log about the same version.
REPEAT_SECONDS = 30.0
_said: dict[int, float] = {}

ANSWERED = Counter("fraud_scorer_challenger_answers", "Transactions that a challenger answered", ["model_version"])
FAILED = Counter("fraud_scorer_challenger_failures", "Requests that the champion answered instead", ["model_version"])


def answered(model: LoadedModel, beside: Beside, batch: pa.Table, features: Features, answer: Answer) -> bytes:
    """The answer about transactions, each by the model that its entity meets.

    Where a challenger fails, the champion answers.

    Args:
        model: the champion.
        beside: the challengers.
        batch: the transactions.
        features: of the same, in the same order.
        answer: of one model.
    """
    if not beside.answering:
        return answer(model, batch, features, "champion")
    places: dict[int, list[int]] = {}
    for place, entity in enumerate(batch[answered_column(model.contract)].to_pylist()):
        places.setdefault(_version(model, beside, entity), []).append(place)
    if len(places) == 1:
        return _of_one(model, beside, next(iter(places)), batch, features, answer)
    results: list[Any] = [None] * batch.num_rows
    whole: dict[str, Any] = {}
    for version, those in sorted(places.items(), key=lambda one: one[0] != model.manifest.model_version):
        own = features.take(those) if isinstance(features, pa.Table) else [features[place] for place in those]
        said = json.loads(_of_one(model, beside, version, batch.take(those), own, answer))
        for place, result in zip(those, said.pop("results"), strict=True):
            results[place] = result
        # What is said of all is said by the champion, where it answered any.
        whole = said | whole
    whole["results"] = results
    return json.dumps(whole).encode()


def _version(model: LoadedModel, beside: Beside, entity: object) -> int:
    """Who answers an entity: the champion where the challengers were named beside another one, or have its history."""
    own = model.manifest.model_version
    if beside.named.champion_version != own or (one := beside.named.chosen(entity)) is None:
        return own
    loaded = beside.answering.get(one.model_version)
    return one.model_version if loaded is not None and loaded.online is model.online else own


def _of_one(
    model: LoadedModel, beside: Beside, version: int, batch: pa.Table, features: Features, answer: Answer
) -> bytes:
    if version == model.manifest.model_version:
        return answer(model, batch, features, "champion")
    try:
        said = answer(beside.answering[version], batch, features, "challenger")
    except ScoringError as error:
        FAILED.labels(str(version)).inc()
        now = time.monotonic()
        if now - _said.get(version, -REPEAT_SECONDS) >= REPEAT_SECONDS:
            _said[version] = now
            logger.error("version %s cannot score, and the champion answers: %s", version, error)
        return answer(model, batch, features, "champion")
    ANSWERED.labels(str(version)).inc(batch.num_rows)
    return said
