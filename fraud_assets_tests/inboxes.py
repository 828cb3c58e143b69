"""Real servers that alerts are sent to: HTTP from the standard library, SMTP from aiosmtpd.

A pytest plugin: a test module that needs them says `pytest_plugins = ["fraud_assets_tests.inboxes"]`.
"""

from __future__ import annotations

import email
import email.policy
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller


@dataclass
class Inbox:
    """What a server took, as subject and body, and whether it takes anything."""

    port: int
    alive: bool = True
    messages: list[tuple[str, str]] = field(default_factory=list)
    on_message: Callable[[], None] = lambda: None

    @property
    def bodies(self) -> str:
        """All bodies."""
        return "\n".join(body for _, body in self.messages)


@pytest.fixture
def web() -> Iterator[Inbox]:
    """A web server that takes apprise's JSON; one that is not alive answers 503."""
    inbox = Inbox(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if inbox.alive:
                inbox.messages.append((sent["title"], sent["message"]))
            self.send_response(200 if inbox.alive else 503)
            self.end_headers()
            inbox.on_message()

        def log_message(self, *arguments: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        inbox.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield inbox
        server.shutdown()
        thread.join()


@pytest.fixture
def mail() -> Iterator[Inbox]:
    """A mail server; one that is not alive refuses with 451."""
    # aiosmtpd cannot choose one itself.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        inbox = Inbox(probe.getsockname()[1])

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            if not inbox.alive:
                return "451 try again"
            letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
            body = letter.get_body(("plain", "html"))
            assert body is not None
            inbox.messages.append((letter["Subject"], body.get_content()))
            return "250 OK"

    controller = Controller(Handler(), hostname="127.0.0.1", port=inbox.port)
    controller.start()
    yield inbox
    controller.stop()
