"""What is refused before it is read or parsed, and what the service's page may load.

BentoML has no limit on a body's size, reads it whole, parses it in the event loop, and takes unknown content types for
JSON. Its page loads a tag manager of another company. Which requests wait, and for what, belongs to `waiting`.
"""

from __future__ import annotations

import logging

import anyio
import anyio.to_thread
import numpy as np
from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bentos.fraud_scorer.waiting.rounds import FullError, Rounds

# Ten thousand rows of a hundred features, written out.
MAX_BODY_BYTES = 32 * 1024 * 1024
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; send fewer rows at a time"
# Of all requests together, since each is held until it is answered. One of the largest always has room.
MAX_BYTES_AT_ONCE = 2 * MAX_BODY_BYTES
# Ten thousand rows of a hundred and fifty features. Parsed, a value takes up to a hundred times its two bytes.
MAX_ITEMS = 1_500_000
# Ten thousand rows are as many objects. They cost far more than numbers and texts, of which alone there may be more.
MAX_CONTAINERS = 20_000
# A value in a row in the list in the request is at depth 3. A little more, for an answer that names the field.
MAX_DEPTH = 8
# Smaller bodies are parsed as they are: whatever is in them is done within some milliseconds.
LOOKED_INTO_FROM = 64 * 1024
# A caller who sends slowly holds what he has sent in memory.
BODY_SECONDS = 20.0
CHUNK_BYTES = 1024 * 1024

WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")
METHODS = (*WITHOUT_BODY, "POST")
# Asked by what decides whether this service gets requests at all: before whatever waits.
HEALTH = ("/healthz", "/livez", "/readyz", "/metrics")


# The page's own files, and nothing from elsewhere; its scripts are all files.
OWN_FILES = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


class WithoutRefusals(logging.Filter):
    """Keeps wrong requests out of the error log, where BentoML puts each with a traceback.

    They are answered with 400 and counted at /metrics; a log of errors is for those of the service.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of an error of the service."""
        return not (record.exc_info and isinstance(record.exc_info[1], ValidationError))


class _RefusedError(Exception):
    """A request that is answered here."""

    def __init__(self, status: int, error: str, *, was_read: bool = False, has_place: bool = False) -> None:
        super().__init__(error)
        self.status = status
        self.was_read = was_read
        self.has_place = has_place


class RequestLimits:
    """ASGI middleware: bodies must be plain `application/json` of limited size and shape, pages load their own files.

    A body is passed on when it is whole. All requests but those after its health wait for a place in a round.
    """

    def __init__(self, app: ASGIApp, rounds: Rounds) -> None:
        self.app = app
        self._rounds = rounds
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 400, 405, 408, 413, 415 or 429."""
        if scope["type"] != "http" or (scope["method"] in WITHOUT_BODY and scope["path"] in HEALTH):
            await self.app(scope, receive, send)
            return
        held = [0]
        try:
            if scope["method"] in WITHOUT_BODY:
                await self._answer(scope, receive, _with_own_files(send))
            elif scope["method"] in METHODS:
                await self._pass_on(scope, receive, send, held)
            else:
                raise _RefusedError(405, f"this method has no use here; use one of {', '.join(METHODS)}")
        except _RefusedError as refused:
            if not refused.has_place:
                await self._rounds.place()
            headers = {429: {"Retry-After": "1"}, 405: {"Allow": ", ".join(METHODS)}}.get(refused.status, {})
            if not refused.was_read:
                # The rest of the body stays unread, so this connection is of no further use.
                headers["Connection"] = "close"
            body = {"error": str(refused), "detail": []}
            await JSONResponse(body, refused.status, headers)(scope, receive, send)
        finally:
            self._bytes -= held[0]

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, held: list[int]) -> None:
        declared = _declared_bytes(Headers(scope=scope))
        self._hold(declared, held)
        body = await self._body(receive, held)
        if len(body) >= LOOKED_INTO_FROM:
            # In a thread, where it leaves the interpreter to others.
            wrong = await anyio.to_thread.run_sync(find_excess, body)
            if wrong:
                raise _RefusedError(400, wrong)
        messages = iter([{"type": "http.request", "body": body}])

        async def replay() -> Message:
            return next(messages, None) or await receive()

        await self._answer(scope, replay, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request be answered, when it is its turn.

        Raises:
            _RefusedError: when too many are being answered.
        """
        try:
            await self._rounds.begin()
        except FullError as full:
            raise _RefusedError(429, str(full), was_read=True, has_place=True) from None
        try:
            await self.app(scope, receive, send)
        finally:
            self._rounds.end()

    async def _body(self, receive: Receive, held: list[int]) -> bytes:
        """The body.

        Raises:
            _RefusedError: when it is too large, or does not come.
        """
        parts, received = list[bytes](), 0
        try:
            with anyio.fail_after(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        # Nobody hears it, but BentoML waits for an answer, and counts it.
                        raise _RefusedError(400, "the caller went before the body was whole")
                    parts.append(message.get("body", b""))
                    received += len(parts[-1])
                    # A chunked body declares no length.
                    self._hold(received, held)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise _RefusedError(408, f"the body did not arrive within {BODY_SECONDS:.0f} s") from None

    def _hold(self, wanted: int, held: list[int]) -> None:
        """Counts so many bytes as this request's.

        Raises:
            _RefusedError: when it, or all requests together, would be too large.
        """
        if wanted > MAX_BODY_BYTES:
            raise _RefusedError(413, TOO_LARGE)
        if (more := wanted - held[0]) <= 0:
            return
        if self._bytes + more > MAX_BYTES_AT_ONCE:
            raise _RefusedError(429, "other large requests are being answered; send this one again")
        self._bytes += more
        held[0] += more


def find_excess(body: bytes) -> str | None:
    """Why JSON is more than a request can be, found without parsing it; None where it is not.

    Whatever is no JSON may pass: that is for the parser to say.

    >>> find_excess(b'{"transactions": [{"id": "[[[[[[[[[[", "text": "a\\\\"[[[[[[[[["}]}')
    >>> find_excess(b"[" * 9 + b"]" * 9)
    'the body is nested deeper than 8 levels; a request is an object with a list of rows'
    """
    if b"\\" in body:
        # An escaped quotation mark ends no text.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    items, containers, depth, within = 0, 0, 0, np.uint8(0)
    for start in range(0, len(body), CHUNK_BYTES):
        part = np.frombuffer(body, np.uint8, min(CHUNK_BYTES, len(body) - start), start)
        quotes = (part == ord('"')).view(np.uint8)
        quotes[0] ^= within
        inside = np.bitwise_xor.accumulate(quotes)
        within = inside[-1]
        outside = inside == 0
        opening = ((part == ord("[")) | (part == ord("{"))) & outside
        closing = ((part == ord("]")) | (part == ord("}"))) & outside
        levels = depth + np.cumsum(opening.view(np.int8) - closing.view(np.int8), dtype=np.int64)
        if int(levels.max()) > MAX_DEPTH:
            return f"the body is nested deeper than {MAX_DEPTH} levels; a request is an object with a list of rows"
        containers += int(np.count_nonzero(opening))
        if containers > MAX_CONTAINERS:
            return f"the body holds more than {MAX_CONTAINERS:,} lists and objects; send fewer rows at a time"
        items += int(np.count_nonzero((part == ord(",")) & outside))
        if items > MAX_ITEMS:
            return f"the body holds more than {MAX_ITEMS:,} values; send fewer rows at a time"
        depth = int(levels[-1])
    return None


def _declared_bytes(headers: Headers) -> int:
    """The length that the headers declare, 0 where they declare none.

    Raises:
        _RefusedError: when they announce something else than plain JSON.
    """
    kind = headers.get("content-type", "missing").split(";")[0].strip().lower()
    if kind != "application/json":
        raise _RefusedError(415, f"content-type is {kind!r}; send application/json")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        # A few kilobytes can become gigabytes.
        raise _RefusedError(415, f"content-encoding is {encoding!r}; send the body as it is")
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()):
        raise _RefusedError(413, TOO_LARGE)
    return int(declared[:20])


def _with_own_files(send: Send) -> Send:
    """Tells the browser that a page loads nothing from elsewhere."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Content-Security-Policy"] = OWN_FILES
        await send(message)

    return tell
