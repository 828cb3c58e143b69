"""Who may ask for what: each request's key is looked up before anything of its body is read.

What a key is belongs to `core/access`. Without keys a service answers this machine alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from bentos.fraud_scorer.waiting.rounds import Rounds
from fraud_assets.core.access.addresses import is_loopback
from fraud_assets.core.access.api_keys import KEYS_VARIABLE, ApiKey, KeysError, Role, hash_key, keys_from_json
from fraud_assets.core.access.rates import Bucket

logger = logging.getLogger("bentoml.fraud_scorer")

LOOK_SECONDS = 0.5  # between two looks at the file
SCORING: tuple[Role, ...] = ("score", "decide")
ROLES_OF: Mapping[str, tuple[Role, ...]] = {
    "/score": SCORING,
    "/v1/score": SCORING,
    "/v1/score/features": SCORING,
    "/v1/feedback": ("feedback",),
    "/v1/approve": ("admin",),
    "/v1/reject": ("admin",),
}
# Whoever asks whether the service lives has no key, and the page by which a request is tried must come before one.
OPEN = ("/healthz", "/livez", "/readyz", "/", "/docs.json")
OPEN_FOLDER = "/static_content/"
ADMIN_FOLDER = "/v1/answers/"


@dataclass(frozen=True)
class Caller:
    """Who asks; without keys it is whoever is on this machine.

    Attributes:
        name: of the key; None without keys.
        decisions_only: whether probabilities are kept from it.
    """

    name: str | None = None
    decisions_only: bool = False


ANYBODY = Caller()
CALLER: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


class KeyRing:
    """The keys of a file, as they are now.

    A service that has had keys never answers without: a file that is gone or cannot be read leaves the keys that were
    there, and one without keys lets nobody in.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._keys: dict[str, ApiKey] = {}
        self._buckets: dict[str, Bucket] = {}
        self._is_guarded = False
        self._seen: tuple[int, int, int] | None = None
        self._looked = -LOOK_SECONDS

    @property
    def is_guarded(self) -> bool:
        """Whether a request needs a key."""
        self._look()
        return self._is_guarded

    def find(self, text: str) -> ApiKey | None:
        """The key of this text; None where there is none."""
        self._look()
        # By its hash: how long a look-up takes says nothing of the keys.
        return self._keys.get(hash_key(text))

    def wait_of(self, key: ApiKey) -> int:
        """Takes a request off what a key may send: 0, or the seconds until it may send again."""
        if key.requests_per_minute is None:
            return 0
        now = time.monotonic()
        bucket = self._buckets.get(key.sha256)
        if bucket is None or bucket.per_minute != key.requests_per_minute:
            bucket = self._buckets[key.sha256] = Bucket(key.requests_per_minute, now)
        return bucket.take(now)

    def _look(self) -> None:
        if self._file is None or (now := time.monotonic()) < self._looked + LOOK_SECONDS:
            return
        self._looked = now
        try:
            there = self._file.stat()
            seen = (there.st_mtime_ns, there.st_ino, there.st_size)
            if seen == self._seen:
                return
            keys = keys_from_json(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if self._is_guarded and self._seen is not None:
                logger.error("the file of API keys is gone: the keys that were there are still valid")
            self._seen = None
            return
        except (OSError, ValueError, KeysError) as error:
            # Nobody is let in because keys cannot be read.
            self._is_guarded = True
            logger.error("%s; the keys from before are still valid", error)
            return
        self._seen = seen
        self._keys = {one.sha256: one for one in keys}
        self._buckets = {one: bucket for one, bucket in self._buckets.items() if one in self._keys}
        self._is_guarded = self._is_guarded or bool(keys)
        logger.info("API keys: %s", ", ".join(one.name for one in keys) or "none")


class _RefusedError(Exception):
    """A request that is answered here."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error)
        self.status = status
        self.headers = headers or {}


class Guard:
    """ASGI middleware: lets a request pass whose key has the role for its path."""

    def __init__(self, app: ASGIApp, rounds: Rounds) -> None:
        self.app = app
        self._rounds = rounds
        named = os.environ.get(KEYS_VARIABLE)
        self._ring = KeyRing(Path(named) if named else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 401, 403 or 429."""
        if scope["type"] != "http" or scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            await self.app(scope, receive, send)
            return
        try:
            caller = self._caller(scope)
        except _RefusedError as refused:
            await self._rounds.place()
            body = {"error": str(refused), "detail": []}
            # The body stays unread, so this connection is of no further use.
            await JSONResponse(body, refused.status, {**refused.headers, "Connection": "close"})(scope, receive, send)
            return
        CALLER.set(caller)
        await self.app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        """Who asks.

        Raises:
            _RefusedError: when he may not.
        """
        path = scope["path"]
        needed: tuple[Role, ...] | None = ("admin",) if path.startswith(ADMIN_FOLDER) else ROLES_OF.get(path)
        if not self._ring.is_guarded:
            if not _is_here(scope):
                raise _RefusedError(
                    403, "this service has no API keys, and answers its own machine alone; `fraud keys add` makes one"
                )
            if needed == ("admin",):
                # Of these the name has to be known, for the ledger.
                raise _RefusedError(403, "this needs an API key with role admin; `fraud keys add` makes one")
            return ANYBODY
        given = Headers(scope=scope).get("authorization", "")
        kind, _, text = given.partition(" ")
        asked = {"WWW-Authenticate": "Bearer"}
        if kind.lower() != "bearer" or not text.strip():
            raise _RefusedError(401, "this needs an API key: send the header `Authorization: Bearer KEY`", asked)
        key = self._ring.find(text.strip())
        if key is None:
            raise _RefusedError(401, "this API key is not known, or not any more", asked)
        if needed is not None and not key.may(needed):
            raise _RefusedError(403, f"this needs a key with role {' or '.join(needed)}; {key.name!r} has none of it")
        if seconds := self._ring.wait_of(key):
            raise _RefusedError(
                429,
                f"{key.name!r} may send {key.requests_per_minute} requests a minute; send this one again later",
                {"Retry-After": str(seconds)},
            )
        return Caller(key.name, key.decisions_only)


def _is_here(scope: Scope) -> bool:
    """Whether a request comes from this machine, and was sent to it; one over a Unix socket was.

    What was sent to another name came through a proxy that others reach, or from a page that gave this machine a name
    of its own.
    """
    name = Headers(scope=scope).get("host", "localhost")
    host = name if name.endswith("]") else name.rpartition(":")[0] or name
    client = scope.get("client")
    return is_loopback(host) and (not client or is_loopback(client[0]))
