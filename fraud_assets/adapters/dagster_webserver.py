"""Who may ask Dagster's webserver: its own pages and programs of this machine, and no page of someone else's.

Dagster's webserver has no login, and no setting for who may ask. It answers any page that a browser on this machine has
open, under any name that leads to it, and carries out a mutation that stands in the address of a GET. So its
application gets a guard in front, wherever it is started: `fraud dev`, `dg dev`, `dagster dev`, the containers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ForeignPageGuard:
    """Refuses what a page of someone else's could send, before Dagster sees it.

    Refused are:

    - a Host that is not this machine's or one of `hosts`: to a browser, a page under a foreign name that was made to
      lead here is one of this server's own (DNS rebinding),
    - an Origin that is neither the Host nor one of `hosts`,
    - GraphQL in the address of a request, and posted bodies that are no JSON: a browser sends both for any page.
    """

    def __init__(self, app: App, hosts: Collection[str] = ()) -> None:
        """Wraps an ASGI application.

        Args:
            app: the application.
            hosts: further names, as in a Host header, under which it may be asked.
        """
        self.app = app
        self.hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or hands on."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before it was accepted, this is an answer 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            status, said = refusal
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": said.encode()})

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and sentence; None for what may pass."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        host = (headers.get("host") or [""])[-1].lower()
        if len(headers.get("host", [])) != 1 or not (is_this_machine(host) or host in self.hosts):
            return 403, (
                f"refused: this server is not known as {host!r}. Use 127.0.0.1 or localhost, or set FRAUD_UI_URL to "
                "the address that people use."
            )
        for origin in headers.get("origin", []):
            # A proxy may have given the request another Host.
            if urlsplit(origin).netloc.lower() not in {host, *self.hosts}:
                return 403, f"refused: a page from {origin!r} may not ask this server."
        if scope["type"] == "websocket":
            return None
        if scope["method"] in ("GET", "HEAD") and scope["path"].endswith("/graphql"):
            asks = "query" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            page = any("text/html" in value for value in headers.get("accept", []))
            if asks and not page:
                return 405, "refused: send GraphQL by POST, as JSON."
        elif scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            kinds = [value.partition(";")[0].strip().lower() for value in headers.get("content-type", [])]
            if kinds != ["application/json"]:
                return 415, "refused: send JSON (Content-Type: application/json)."
        return None


def is_this_machine(host: str) -> bool:
    """Whether a Host header names the loopback interface.

    >>> [is_this_machine(host) for host in ("localhost:3000", "127.0.0.1", "[::1]:3000", "LOCALHOST")]
    [True, True, True, True]
    >>> [is_this_machine(host) for host in ("", "evil.example:3000", "127.0.0.1.evil.example", "localhost.evil", "a@b")]
    [False, False, False, False, False]
    """
    try:
        name = urlsplit(f"//{host}").hostname if "@" not in host else None
        return name == "localhost" or (name is not None and ipaddress.ip_address(name).is_loopback)
    except ValueError:
        return False


def guard_webserver(ui_url: str | None) -> None:
    """Puts the guard before every application that Dagster's webserver makes in this process from now on.

    Args:
        ui_url: the address of the UI as people reach it, when that is another one than this machine's.
    """
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    hosts = [netloc] if ui_url and (netloc := urlsplit(ui_url).netloc) else []
    whole = getattr(DagsterWebserver.build_middleware, "unguarded", DagsterWebserver.build_middleware)

    def build_middleware(self: Any) -> list[Any]:
        return [Middleware(ForeignPageGuard, hosts=hosts), *whole(self)]

    build_middleware.unguarded = whole  # type: ignore[attr-defined]
    DagsterWebserver.build_middleware = build_middleware  # type: ignore[method-assign]
