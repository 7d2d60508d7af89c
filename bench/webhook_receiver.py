"""A receiver of webhooks that hands over what it gets to the benchmark in its process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue

from standardwebhooks import Webhook

#: Headers by names in lower case, and the body.
Message = tuple[dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Receiver:
    url: str
    _messages: SimpleQueue[Message] = field(default_factory=SimpleQueue)

    def wait(self, timeout_s: float) -> Message:
        """The next message."""
        return self._messages.get(timeout=timeout_s)

    def take(self, headers: dict[str, str], body: bytes) -> None:
        self._messages.put((headers, body))


def verify(message: Message, secret: str) -> None:
    """Raise WebhookVerificationError unless the message was signed with the secret."""
    headers, body = message
    Webhook(secret).verify(body, headers)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Receive webhooks on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(f"http://127.0.0.1:{server.server_port}/")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()
