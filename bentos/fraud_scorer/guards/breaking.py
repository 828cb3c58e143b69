"""The breaker of a running service: counts what is held, opens, and lets the previous champion answer or people look.

Each process counts for itself; that it is open is written to the database, where all others see it within a second, and
closed there by a person. Without a database it opens for this process alone, until that is started again.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Gauge

from bentos.fraud_scorer.loaded import LoadedModel
from fraud_assets.adapters.asked.session import AskedError, Session
from fraud_assets.adapters.guards.breaker_events import newest_event, record_opening
from fraud_assets.core.contracts.contract import ContractError
from fraud_assets.core.guards.breaker import BREAKER_VARIABLES, BreakerConfig, BreakerMode, Opening, SlidingWindow
from fraud_assets.core.guards.policy import Decided
from fraud_assets.core.models.scoring import ScoringError

logger = logging.getLogger("bentoml.fraud_scorer")

OPEN = Gauge("fraud_scorer_breaker_open", "1 while the breaker is open", multiprocess_mode="livemax")
# Loads the previous champion; raises where there is none that can answer.
LoadPrevious = Callable[[], LoadedModel]


@dataclass(frozen=True)
class Opened:
    """That the breaker is open.

    Attributes:
        model_version: of the model that answered when it opened.
        since: when.
        mode: what was set.
        said: why.
        fallback: the previous champion, where it answers.
        why_not: why it does not; empty where it does, or is not asked for.
    """

    model_version: int
    since: datetime
    mode: BreakerMode
    said: str
    fallback: LoadedModel | None = None
    why_not: str = ""

    @property
    def acting(self) -> BreakerMode:
        """What happens: without a previous champion, people look."""
        return "previous" if self.fallback is not None else "review"


def read_config(environment: Mapping[str, str] = os.environ) -> BreakerConfig:
    """What is configured.

    Raises:
        ValueError: for a value that cannot be, by its variable.
    """
    share, seconds, scores, mode = (environment.get(name) or "" for name in BREAKER_VARIABLES)
    usual = BreakerConfig()
    given: Any = mode or usual.mode
    try:
        return BreakerConfig(
            float(share) if share else None, float(seconds or usual.seconds), int(scores or usual.least), given
        )
    except ValueError as error:
        raise ValueError(f"{', '.join(BREAKER_VARIABLES)}: {error}") from error


class Breaker:
    """Counts for one process."""

    def __init__(
        self, url: str | None, model: Callable[[], LoadedModel], load_previous: LoadPrevious, config: BreakerConfig
    ) -> None:
        """Counts nothing yet.

        Args:
            url: of the database; None where there is none.
            model: gives the one that answers.
            load_previous: loads the previous champion.
            config: when it opens.
        """
        self.config = config
        self._model, self._load_previous = model, load_previous
        self._session = Session(url, "fraud breaker", is_logged=False) if url and config.share is not None else None
        self._window, self._lock = SlidingWindow(config), threading.Lock()
        self._counted_version: int | None = None
        self._opened: Opened | None = None
        # What the database has not been told yet.
        self._untold: tuple[int, Opening, str] | None = None
        self._fails = False

    def close(self) -> None:
        """Closes the connection."""
        if self._session is not None:
            self._session.close()

    @property
    def opened(self) -> Opened | None:
        """That it is open for the model that is live; None where it is closed."""
        opened = self._opened
        return opened if opened is not None and opened.model_version == self._live else None

    @property
    def _live(self) -> int:
        return self._model().manifest.model_version

    def answering(self, model: LoadedModel) -> LoadedModel:
        """The model that answers: the live one, or the previous champion while the breaker is open."""
        opened = self._opened
        if opened is None or opened.model_version != model.manifest.model_version or opened.fallback is None:
            return model
        return opened.fallback

    def decided(self, model: LoadedModel, said: Decided) -> tuple[Decided, BreakerMode | None]:
        """Counts decisions, or eases them while the breaker is open; and how it acts, None while it is closed."""
        if self.config.share is None:
            return said, None
        opened = self.opened
        if opened is None:
            self._count(model.manifest.model_version, said)
            return said, None
        return (said.with_review() if opened.acting == "review" else said), opened.acting

    def _count(self, version: int, said: Decided) -> None:
        if version != self._live:
            return
        # What a list says is what somebody wanted.
        counted = [
            one != "approve" for one, by in zip(said.decisions, said.by, strict=True) if not by.startswith("list ")
        ]
        with self._lock:
            if version != self._counted_version:
                # A new model starts anew.
                self._window.clear()
                self._counted_version = version
            opening = self._window.add(time.monotonic(), len(counted), sum(counted))
            if opening is None or self.opened is not None:
                return
            words = opening.in_words(self.config, version)
            self._opened = Opened(version, datetime.now(UTC), self.config.mode, words)
            self._untold = (version, opening, words)
            self._window.clear()
        OPEN.set(1)
        logger.error("THE BREAKER IS OPEN (%s): %s", self.config.mode, words)

    def look(self) -> None:
        """Tells the database that it is open, and sees whether others say so, or have closed it."""
        if self.config.share is None:
            return
        if self._session is not None:
            try:
                self._meet(self._session)
                self._fails = False
            except AskedError as error:
                if not self._fails:
                    logger.error("the breaker of other processes cannot be seen: %s", error)
                self._fails = True
        self._find_fallback()
        OPEN.set(0 if self.opened is None else 1)

    def _meet(self, session: Session) -> None:
        if (untold := self._untold) is not None:
            version, opening, words = untold
            actor = f"service on {socket.gethostname()}, process {os.getpid()}"
            record_opening(session, version, self.config.mode, opening.n, opening.n_held, words, actor)
            self._untold = None
        live = self._live
        event = newest_event(session, live)
        with self._lock:
            if self._untold is not None:
                return
            opened = self.opened
            if event is not None and event.event == "opened" and opened is None:
                self._opened = Opened(live, event.recorded_at, event.mode, event.said)
                self._window.clear()
                logger.error("THE BREAKER IS OPEN (%s), as another process found: %s", event.mode, event.said)
            elif opened is not None and event is not None and event.event == "closed":
                self._opened = None
                self._window.clear()
                logger.warning("the breaker is closed by %s: %s", event.actor, event.said)

    def _find_fallback(self) -> None:
        opened = self.opened
        if opened is None or opened.mode != "previous" or opened.fallback is not None or opened.why_not:
            return
        try:
            loaded: LoadedModel | None = self._load_previous()
            why = ""
        except (OSError, ValueError, ScoringError, ContractError) as error:
            loaded, why = None, " ".join(str(error).split())
            logger.error("the previous champion cannot answer, what rules decline is reviewed instead: %s", why)
        with self._lock:
            if self._opened is opened:
                self._opened = Opened(opened.model_version, opened.since, opened.mode, opened.said, loaded, why)

    def told(self) -> dict[str, Any]:
        """What `/v1/model` says of it."""
        opened = self.opened
        if self.config.share is None:
            return {"state": "off"}
        if opened is None:
            return {"state": "closed", "limit": self.config.share}
        answers = opened.fallback.manifest.model_version if opened.fallback is not None else opened.model_version
        return {
            "state": "open", "limit": self.config.share, "mode": opened.acting, "since": opened.since,
            "said": opened.said, "opened_for": opened.model_version, "answers": answers,
            "no_previous": opened.why_not or None,
        }  # fmt: skip
