"""What is refused before it is read, and what the service's page may load.

BentoML has no limit on a body's size, reads it whole, and takes unknown content types for JSON. Its page loads a tag
manager of another company.
"""

from __future__ import annotations

import logging

from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Ten thousand rows of a hundred features, written out.
MAX_BODY_BYTES = 32 * 1024 * 1024
TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes; send fewer rows at a time"


# The page's own files, and nothing from elsewhere; its scripts are all files.
OWN_FILES = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


class WithoutRefusals(logging.Filter):
    """Keeps wrong requests out of the error log, where BentoML puts each with a traceback.

    They are answered with 400 and counted at /metrics; a log of errors is for those of the service.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is of an error of the service."""
        return not (record.exc_info and isinstance(record.exc_info[1], ValidationError))


class RequestLimits:
    """ASGI middleware: POST bodies must be `application/json` of at most MAX_BODY_BYTES, pages load their own files."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 413 or 415."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, _with_own_files(send))
            return
        headers = Headers(scope=scope)
        kind = headers.get("content-type", "application/json").split(";")[0].strip().lower()
        if kind != "application/json":
            await _refuse(415, f"content-type is {kind!r}; send application/json", scope, receive, send)
            return
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > MAX_BODY_BYTES:
            await _refuse(413, TOO_LARGE, scope, receive, send)
            return

        # A chunked body declares no length, so what arrives is gathered under the limit before it is passed
        # on.
        messages: list[Message] = []
        received = 0
        while True:
            message = await receive()
            messages.append(message)
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                await _refuse(413, TOO_LARGE, scope, receive, send)
                return
            if message["type"] != "http.request" or not message.get("more_body", False):
                break
        pending = iter(messages)

        async def replay() -> Message:
            return next(pending, None) or await receive()

        await self.app(scope, replay, send)


def _with_own_files(send: Send) -> Send:
    """Tells the browser that a page loads nothing from elsewhere."""

    async def tell(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Content-Security-Policy"] = OWN_FILES
        await send(message)

    return tell


async def _refuse(status: int, error: str, scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"error": error, "detail": []}, status_code=status)(scope, receive, send)
